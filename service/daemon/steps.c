/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/steps.h"

#include <errno.h>
#include <sys/epoll.h>

#include "adapters/udev/host-reader.h"
#include "core/domain-xml.h"
#include "core/names.h"
#include "util/log.h"

typedef struct Process {
        Steps *steps;
        VmId vm;
        uint64_t epoch;
        int pidfd;
        sd_event_source *watch;
} Process;

/* A step under way; freed when its answer comes, or with the Steps when none will come any more. */
typedef struct Step {
        Steps *steps;
        struct Step *next;
        RunStep step;
        VmId vm;
        uint64_t epoch;
} Step;

struct Steps {
        StepsConfig config;
        ARRAY(Process *) processes;
        Step *under_way;
};

static uint64_t now_us(const Steps *steps) {
        uint64_t now = 0;
        (void) sd_event_now(steps->config.event, CLOCK_BOOTTIME, &now);
        return now;
}

static Process *process_free(Process *process) {
        sd_event_source_disable_unref(process->watch);
        if (process->pidfd >= 0)
                (void) close(process->pidfd);
        free(process);
        return NULL;
}
DEFINE_CLEANUP(Process *, process_free);

int steps_new(Steps **ret, const StepsConfig *config) {
        Steps *steps = calloc(1, sizeof(*steps));
        if (!steps)
                return -ENOMEM;
        steps->config = *config;
        *ret = steps;
        return 0;
}

static void step_free(Step *step) {
        for (Step **p = &step->steps->under_way; *p; p = &(*p)->next)
                if (*p == step) {
                        *p = step->next;
                        break;
                }
        free(step);
}

Steps *steps_free(Steps *steps) {
        if (!steps)
                return NULL;
        while (steps->under_way)
                step_free(steps->under_way);
        ARRAY_EACH(process, &steps->processes)
                process_free(*process);
        array_clear(&steps->processes);
        free(steps);
        return NULL;
}

static Process *find_process(const Steps *steps, const VmId *vm, uint64_t epoch) {
        ARRAY_EACH(process, &steps->processes)
                if (ID_EQUAL(&(*process)->vm, vm) && (*process)->epoch == epoch)
                        return *process;
        return NULL;
}

static int on_process_died(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Process *process = userdata;
        Steps *steps = process->steps;
        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        int r = runner_process_died(steps->config.runner, &process->vm, process->epoch, now_us(steps));
        steps->config.answered(steps->config.userdata);
        return r;
}

int steps_adopt(Steps *steps, const VmId *vm, uint64_t epoch, int pidfd) {
        if (find_process(steps, vm, epoch)) {
                (void) close(pidfd);
                return 0;
        }
        _cleanup_(process_freep) Process *process = calloc(1, sizeof(*process));
        if (!process) {
                (void) close(pidfd);
                return -ENOMEM;
        }
        *process = (Process) { .steps = steps, .vm = *vm, .epoch = epoch, .pidfd = pidfd };
        int r = sd_event_add_io(steps->config.event, &process->watch, pidfd, EPOLLIN, on_process_died, process);
        if (r >= 0)
                r = array_append(&steps->processes, &process);
        if (r < 0)
                return r;
        process = NULL;
        return 0;
}

void steps_tidy(Steps *steps) {
        for (size_t i = steps->processes.n; i > 0; i--) {
                Process *process = steps->processes.items[i - 1];
                const Run *run = runner_find(steps->config.runner, &process->vm);
                if (run && run->epoch == process->epoch)
                        continue;
                process_free(process);
                array_remove(&steps->processes, i - 1);
        }
}

/* The one place where a step's answer goes to the runner. */
static void step_end(Step *step, RunAnswer answer, const char *sentence) {
        Steps *steps = step->steps;
        _cleanup_free_ char *line = sentence ? strdup(sentence) : NULL;
        if (line)
                text_make_printable(line, TEXT_LENGTH_MAX);
        int r = runner_answer(steps->config.runner, &step->vm, step->epoch, step->step, answer, line, now_us(steps));
        if (r < 0)
                log_error("memory is out; a VM's state could not be noted: %s", strerror(-r));
        step_free(step);
        steps->config.answered(steps->config.userdata);
}

/* ---- gpupool-bind */

static void on_bound(bool done, const char *sentence, void *userdata) {
        step_end(userdata, done ? RUN_ANSWER_DONE : RUN_ANSWER_FAILED, sentence);
}

static int begin_bind(Step *step, const World *world) {
        const Vm *vm = registry_find_vm(world->registry, &step->vm);
        if (vm && vm->epoch == step->epoch)
                return binder_claim(step->steps->config.binder, vm, on_bound, step);
        step_end(step, RUN_ANSWER_NOT_TRIED, NULL);
        return 0;
}

/* ---- libvirt */

static RunAnswer answer_of_hypervisor(RunStep step, HypervisorResult result) {
        switch (result) {
        case HYPERVISOR_CALL_OK:
                return RUN_ANSWER_DONE;
        case HYPERVISOR_CALL_NO_DOMAIN:
                return step == RUN_DESTROY ? RUN_ANSWER_STALE : RUN_ANSWER_FAILED;
        case HYPERVISOR_CALL_FAILED:
                return RUN_ANSWER_FAILED;
        case HYPERVISOR_CALL_TIMED_OUT:
        case HYPERVISOR_CALL_LOST:
                return RUN_ANSWER_UNKNOWN;
        case HYPERVISOR_CALL_HUNG:
        case HYPERVISOR_CALL_UNAVAILABLE:
                return RUN_ANSWER_NOT_TRIED;
        }
        return RUN_ANSWER_FAILED;
}

static void on_hypervisor(HypervisorResult result, HypervisorReply *reply, void *userdata) {
        Step *step = userdata;
        RunAnswer answer = answer_of_hypervisor(step->step, result);
        const char *sentence = reply ? reply->sentence : NULL;
        if (!sentence && answer == RUN_ANSWER_UNKNOWN)
                sentence = "libvirt did not answer in time";

        if (step->step == RUN_START && answer == RUN_ANSWER_DONE) {
                int r = steps_adopt(step->steps, &step->vm, step->epoch, steal_fd(&reply->pidfd));
                if (r < 0)
                        log_error("a VM's process cannot be watched: %s", strerror(-r));
        }
        step_end(step, answer, sentence);
}

/* The functions of the card that go to the guest, by address; those of now. Returns how many. */
static size_t list_functions(const GpuFacts *gpu, PciAddress ret[static GPU_FUNCTIONS_MAX]) {
        size_t n = gpu_facts_list_given(gpu, ret), at = 0;
        for (; at + 1 < n && pci_address_compare(ret[at + 1], gpu->address) < 0; at++)
                ret[at] = ret[at + 1];
        ret[at] = gpu->address;
        return n;
}

typedef struct Claim {
        DomainGpu gpus[GPUS_PER_VM_MAX];
        PciAddress functions[GPUS_PER_VM_MAX][GPU_FUNCTIONS_MAX];
        const GpuFacts *facts[GPUS_PER_VM_MAX];
} Claim;

/* By what names them for good, so that the guest's first GPU is the same one at every start with the same GPUs. */
static int compare_gpus(const void *a, const void *b) {
        return gpu_identity_compare(&(*(const GpuFacts *const *) a)->identity,
                                    &(*(const GpuFacts *const *) b)->identity);
}

/* The NUMA node that all of them are on, or -1; also where that node is known to have no memory (a socket without
 * modules), as libvirt refuses to place any there. */
static int find_numa_node(const NodeFacts *host, const GpuFacts *const *gpus, size_t n_gpus) {
        for (size_t i = 1; i < n_gpus; i++)
                if (gpus[i]->numa_node != gpus[0]->numa_node)
                        return -1;
        int32_t node = n_gpus > 0 ? gpus[0]->numa_node : -1;
        return host && node >= 0 && node < 64 && (host->memory_nodes >> node & 1) ? node : -1;
}

/* A DomainBuildVerdict; -ENODEV: a GPU of the assignment is not here (yet); -EINVAL: the XML is not what it was; or
 * -ENOMEM. */
static int build_xml(const Steps *steps, const World *world, const Vm *vm, char **ret, char **reterr_sentence) {
        _cleanup_free_ Claim *claim = calloc(1, sizeof(*claim));
        if (!claim)
                return -ENOMEM;
        DomainBuild build = {.name = vm->name,
                             .vm = vm->id,
                             .cluster = world->registry->cluster,
                             .node = steps->config.node,
                             .epoch = vm->epoch,
                             .gpus = claim->gpus,
                             .n_gpus = vm->assignment.n_gpus};
        for (size_t i = 0; i < build.n_gpus; i++) {
                claim->facts[i] = world_find_certain_gpu(world, &vm->assignment.gpus[i].gpu);
                if (!claim->facts[i])
                        return -ENODEV;
        }
        if (build.n_gpus > 1)
                qsort(claim->facts, build.n_gpus, sizeof(*claim->facts), compare_gpus);
        for (size_t i = 0; i < build.n_gpus; i++) {
                claim->gpus[i].n_functions = list_functions(claim->facts[i], claim->functions[i]);
                claim->gpus[i].functions = claim->functions[i];
                claim->gpus[i].bars = claim->facts[i]->bars;
                claim->gpus[i].host_switch = claim->facts[i]->switch_address;
        }
        const NodeFacts *host = world_find_facts(world, &steps->config.node);
        build.address_bits = host ? host->address_bits : 0;
        build.numa_node = find_numa_node(host, claim->facts, build.n_gpus);
        if (build.numa_node >= 0 && (size_t) build.numa_node < host->node_cpus.n)
                build.numa_cpus = host->node_cpus.items[build.numa_node];
        return domain_xml_build(vm->xml, strlen(vm->xml), &build, ret, reterr_sentence);
}

/* Whether the VM's memory can be pinned here: at all, and of what is free now, which the facts tell too late. True,
 * false with a sentence, or -ENOMEM. */
static int memory_would_do(const Steps *steps, const World *world, const Vm *vm, char **reterr_sentence) {
        _cleanup_(domain_xml_clear) DomainXml domain = {};
        const NodeFacts *host = world_find_facts(world, &steps->config.node);
        int r = domain_xml_check(vm->xml, strlen(vm->xml), NULL, 0, &domain, reterr_sentence);
        if (r != DOMAIN_XML_OK || !host || vm->assignment.n_gpus == 0)
                return r < 0 ? r : r == DOMAIN_XML_OK;
        r = domain_memory_check(&domain, host, DOMAIN_MEMORY_EVER, UINT64_MAX, reterr_sentence);
        if (r == DOMAIN_MEMORY_OK) {
                _cleanup_(node_facts_clear) NodeFacts now = {};
                r = host_memory_now(&now);
                if (r >= 0)
                        r = domain_memory_check(&domain, &now, DOMAIN_MEMORY_NOW, UINT64_MAX, reterr_sentence);
        }
        return r < 0 ? r : r == DOMAIN_MEMORY_OK;
}

static int begin_start(Step *step, const World *world) {
        Steps *steps = step->steps;
        const Vm *vm = registry_find_vm(world->registry, &step->vm);
        _cleanup_free_ char *xml = NULL, *sentence = NULL;
        int r = vm ? build_xml(steps, world, vm, &xml, &sentence) : -ENODEV;
        if (r == -ENODEV) {
                step_end(step, RUN_ANSWER_NOT_TRIED, NULL);
                return 0;
        }
        if (r == -EINVAL) {
                step_end(step, RUN_ANSWER_FAILED,
                         "its domain XML cannot be completed: give it new XML (gpupoolctl vm update)");
                return 0;
        }
        if (r < 0)
                return r;
        if (r == DOMAIN_BUILD_OK) {
                r = memory_would_do(steps, world, vm, &sentence);
                if (r < 0)
                        return r;
        }
        if (sentence) {
                step_end(step, RUN_ANSWER_FAILED, sentence);
                return 0;
        }
        log_info("vm %s: starting, epoch %llu", vm->name, (unsigned long long) vm->epoch);
        return hypervisor_start_paused(steps->config.hypervisor, xml, on_hypervisor, step);
}

/* ---- the guard */

static RunAnswer answer_of_guard(RunStep step, GuardResult result) {
        switch (result) {
        case GUARD_CALL_OK:
                return RUN_ANSWER_DONE;
        case GUARD_CALL_NOT_HELD:
                return step == RUN_RELEASE ? RUN_ANSWER_DONE : RUN_ANSWER_FAILED;
        case GUARD_CALL_DEAD:
                return RUN_ANSWER_STALE;
        case GUARD_CALL_CONFLICT:
        case GUARD_CALL_STALE:
        case GUARD_CALL_ALIVE:
        case GUARD_CALL_FULL:
        case GUARD_CALL_REFUSED:
        case GUARD_CALL_NOT_OURS:
                return RUN_ANSWER_FAILED;
        case GUARD_CALL_TIMED_OUT:
        case GUARD_CALL_LOST:
                return RUN_ANSWER_UNKNOWN;
        case GUARD_CALL_LEASE_ENDED:
                return RUN_ANSWER_LATE;
        case GUARD_CALL_NOT_CONNECTED:
                return RUN_ANSWER_NOT_TRIED;
        }
        return RUN_ANSWER_FAILED;
}

static void on_guard(GuardResult result, void *userdata) {
        Step *step = userdata;
        RunAnswer answer = answer_of_guard(step->step, result);
        step_end(step, answer, answer == RUN_ANSWER_DONE ? NULL : guard_result_to_text(result));
}

static int begin_hold(Step *step) {
        const Process *process = find_process(step->steps, &step->vm, step->epoch);
        if (process)
                return guard_hold(step->steps->config.guard, &step->vm, step->epoch, process->pidfd, on_guard, step);
        step_end(step, RUN_ANSWER_NOT_TRIED, NULL);
        return 0;
}

/* ---- the registry */

static void on_reported(SubmitOutcome outcome, const Result *result, void *userdata) {
        if (outcome == SUBMIT_COMMITTED)
                step_end(userdata, result->verdict == VERDICT_DONE ? RUN_ANSWER_DONE : RUN_ANSWER_STALE,
                         result->sentence);
        else
                step_end(userdata, RUN_ANSWER_NOT_TRIED, NULL);
}

static uint64_t own_incarnation(const Steps *steps, const World *world) {
        const NodeRecord *self = registry_find_node(world->registry, &steps->config.node);
        return self ? self->incarnation : 0;
}

static int begin_report_running(Step *step, const World *world) {
        Gpupool1__ReportRunning report = GPUPOOL1__REPORT_RUNNING__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        report.vm = id_message_borrow(step->vm.bytes);
        report.node = id_message_borrow(step->steps->config.node.bytes);
        report.incarnation = own_incarnation(step->steps, world);
        report.epoch = step->epoch;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING;
        entry.report_running = &report;
        return history_submit(step->steps->config.history, &entry, on_reported, step);
}

/* One that members of this cluster's level do not know is told as the next best. */
static EndCause end_cause_at(const Registry *registry, EndCause cause) {
        return cause == END_GPU_UNUSABLE && registry->level < LEVEL_DEVICES ? END_START_FAILED : cause;
}

static int begin_report_ended(Step *step, const World *world, const RunTask *task) {
        Gpupool1__ReportEnded report = GPUPOOL1__REPORT_ENDED__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        report.vm = id_message_borrow(step->vm.bytes);
        report.node = id_message_borrow(step->steps->config.node.bytes);
        report.incarnation = own_incarnation(step->steps, world);
        report.epoch = step->epoch;
        report.cause = (Gpupool1__EndCause) end_cause_at(world->registry, task->cause);
        report.sentence = (char *) (task->sentence ? task->sentence : "");
        report.ran_ms = task->ran_ms;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED;
        entry.report_ended = &report;
        return history_submit(step->steps->config.history, &entry, on_reported, step);
}

/* The leader's word that exactly this assignment still stands (design, 5.4): the confirmation came after the question,
 * so what is applied now is no older than the question. */
static void on_confirmed(bool confirmed, void *userdata) {
        Step *step = userdata;
        const Registry *registry = history_registry(step->steps->config.history);
        const Vm *vm = registry_find_vm(registry, &step->vm);
        const NodeRecord *self = registry_find_node(registry, &step->steps->config.node);
        bool stands = vm && self && vm->epoch == step->epoch && vm->assignment.phase == ASSIGNMENT_STARTING &&
                      ID_EQUAL(&vm->assignment.node, &self->id) && vm->assignment.incarnation == self->incarnation;
        if (!confirmed)
                step_end(step, RUN_ANSWER_NOT_TRIED, NULL);
        else if (stands || (vm && vm->epoch == step->epoch && vm->assignment.ran))
                step_end(step, RUN_ANSWER_DONE, NULL);
        else
                step_end(step, RUN_ANSWER_STALE, "the cluster decided otherwise meanwhile");
}

static int begin(Step *step, const World *world, const RunTask *task) {
        const StepsConfig *c = &step->steps->config;
        switch (step->step) {
        case RUN_BIND:
                return begin_bind(step, world);
        case RUN_START:
                return begin_start(step, world);
        case RUN_HOLD:
                return begin_hold(step);
        case RUN_PERMIT:
                return history_confirm(c->history, on_confirmed, step);
        case RUN_RESUME:
                return hypervisor_resume(c->hypervisor, &step->vm, on_hypervisor, step);
        case RUN_REPORT_RUNNING:
                return begin_report_running(step, world);
        case RUN_SHUTDOWN:
                return hypervisor_shutdown(c->hypervisor, &step->vm, on_hypervisor, step);
        case RUN_DESTROY:
                return hypervisor_destroy(c->hypervisor, &step->vm, on_hypervisor, step);
        case RUN_KILL:
                return guard_kill(c->guard, &step->vm, step->epoch, c->kill_timeout_us, on_guard, step);
        case RUN_RELEASE:
                return guard_release(c->guard, &step->vm, step->epoch, on_guard, step);
        case RUN_REPORT_ENDED:
                return begin_report_ended(step, world, task);
        case RUN_STEP_COUNT:
                break;
        }
        return -EINVAL;
}

int steps_begin(Steps *steps, const World *world, const RunTask *task) {
        Step *step = malloc(sizeof(*step));
        if (!step)
                return -ENOMEM;
        *step = (Step){
                .steps = steps, .next = steps->under_way, .step = task->step, .vm = task->vm, .epoch = task->epoch};
        steps->under_way = step;
        int r = begin(step, world, task);
        if (r < 0) {
                /* It could not even be begun: no leader, no memory. The runner tries again. */
                (void) runner_answer(steps->config.runner, &task->vm, task->epoch, task->step, RUN_ANSWER_NOT_TRIED,
                                     NULL, now_us(steps));
                step_free(step);
        }
        return r == -ENOMEM ? r : 0;
}
