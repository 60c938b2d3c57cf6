/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/stages.h"

#include <errno.h>
#include <stdio.h>

static bool is_on_its_way(const Run *run) {
        return run->ending || run->shutdown_asked || !run->reported;
}

static const Run *find_run(const Runner *runner, const VmId *vm) {
        ARRAY_EACH(run, &runner->runs)
                if (ID_EQUAL(&run->vm, vm))
                        return run;
        return NULL;
}

/* What was said of a VM that has arrived, or gone. */
static int take_back(ClusterFacts *facts, const Runner *runner) {
        VmId vm;
        bool more = cluster_facts_next_vm(facts, NULL, &vm), news = false;
        int r = 0;
        while (r >= 0 && more) {
                const Run *run = find_run(runner, &vm);
                if (!run || !is_on_its_way(run))
                        r = cluster_facts_publish_vm(facts, &vm, NULL);
                news = news || r > 0;
                more = cluster_facts_next_vm(facts, &vm, &vm);
        }
        return r < 0 ? r : news;
}

int stages_tell(ClusterFacts *facts, const Runner *runner) {
        int r = take_back(facts, runner);
        bool news = r > 0;
        ARRAY_EACH(run, &runner->runs) {
                VmFacts said = { .epoch = run->epoch, .stage = (char *) runner_stage(runner, &run->vm) };
                if (r >= 0 && is_on_its_way(run))
                        r = cluster_facts_publish_vm(facts, &run->vm, &said);
                news = news || r > 0;
        }
        return r < 0 ? r : news;
}

const char *stages_find(const ClusterFacts *facts, const Runner *runner, const NodeId *self, const Vm *vm,
                        char room[static STAGE_SIZE]) {
        _cleanup_(vm_facts_clear) VmFacts said = {};
        if (vm->assignment.phase == ASSIGNMENT_NONE || ID_EQUAL(&vm->assignment.node, self))
                return runner_stage(runner, &vm->id);
        if (cluster_facts_collect_vm(facts, &vm->assignment.node, &vm->id, &said) <= 0 || said.epoch != vm->epoch ||
            !said.stage)
                return NULL;
        (void) snprintf(room, STAGE_SIZE, "%s", said.stage);
        return room;
}
