/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "runner-stage.h"

void follow(Stage *s) {
        for (size_t i = 0; i < ELEMENTS(s->gpus) && !s->facts_are_old; i++)
                s->gpus[i].read_us = s->now_us;
        s->world.registry = s->c.registry;
        g_assert_cmpint(runner_follow(&s->runner, &s->world, true), ==, 0);
}

void passes(Stage *s, uint64_t us) {
        s->now_us += us;
}

void assign(Stage *s, unsigned gpu) {
        Claim claim = claim_of(&s->c, 1, 1, gpu, 1);
        ASSERT_DONE(tell_assign(&s->c, &claim));
}

void is_to(Stage *s, VmDesire desire, uint64_t timeout_ms) {
        ASSERT_DONE(tell_desired(&s->c, 1, desire, timeout_ms));
}

void service_begins(Stage *s) {
        runner_clear(&s->runner);
        s->runner.shutdown_timeout_us = 120 * SECOND;
        follow(s);
}

void libvirt_lists_nothing(Stage *s) {
        s->runner.hypervisor_usable = true;
        runner_listed_domains(&s->runner, s->now_us);
}

void guard_lists_nothing(Stage *s) {
        s->runner.guard_usable = true;
        runner_guard_listed(&s->runner);
}

void sees_domain(Stage *s, uint64_t epoch, bool paused) {
        VmId vm = VM(1);
        s->runner.hypervisor_usable = true;
        g_assert_cmpint(runner_saw_domain(&s->runner, &vm, epoch, paused, true), ==, 0);
        runner_listed_domains(&s->runner, s->now_us);
}

void guard_holds(Stage *s, uint64_t epoch, bool alive) {
        VmId vm = VM(1);
        s->runner.guard_usable = true;
        g_assert_cmpint(runner_guard_holds(&s->runner, &vm, epoch, alive, s->now_us), ==, 0);
        runner_guard_listed(&s->runner);
}

void libvirt_says_stopped(Stage *s, EndCause cause) {
        VmId vm = VM(1);
        g_assert_cmpint(runner_domain_stopped(&s->runner, &vm, cause, s->now_us), ==, 0);
}

void process_dies(Stage *s) {
        VmId vm = VM(1);
        g_assert_cmpint(runner_process_died(&s->runner, &vm, vm_told(&s->c, 1)->epoch, s->now_us), ==, 0);
}

void answers_with(Stage *s, RunAnswer answer, const char *sentence) {
        g_assert_cmpint(runner_answer(&s->runner, &s->task.vm, s->task.epoch, s->task.step, answer, sentence,
                                      s->now_us), ==, 0);
}

void answers(Stage *s, RunAnswer answer) {
        answers_with(s, answer, answer == RUN_ANSWER_DONE ? NULL : "that went wrong");
}

/* ---- what the runner does */

const Run *run_of(const Stage *s) {
        VmId vm = VM(1);
        return runner_find(&s->runner, &vm);
}

RunStep next_step(Stage *s) {
        s->wake_us = UINT64_MAX;
        follow(s);
        bool any = runner_next(&s->runner, &s->world, s->now_us, &s->task, &s->wake_us);
        if (any && s->task.step == RUN_BIND && !s->shows_binding) {
                answers(s, RUN_ANSWER_DONE);
                s->wake_us = UINT64_MAX;
                any = runner_next(&s->runner, &s->world, s->now_us, &s->task, &s->wake_us);
        }
        return any ? s->task.step : RUN_STEP_COUNT;
}

const char *step_text(RunStep step) {
        static const char *const texts[RUN_STEP_COUNT + 1] = { "bind", "start", "hold", "permit", "resume",
                                                               "report running",
                                                               "shutdown", "destroy", "kill", "release",
                                                               "report ended", "nothing" };
        return texts[step];
}

void claims_until(Stage *s, RunStep until) {
        static const RunStep path[] = { RUN_START, RUN_HOLD, RUN_PERMIT, RUN_RESUME, RUN_REPORT_RUNNING };
        for (size_t i = 0; i < ELEMENTS(path) && path[i] != until; i++) {
                ASSERT_DOES(s, path[i]);
                if (path[i] == RUN_REPORT_RUNNING)
                        ASSERT_DONE(tell_running(&s->c, 1));
        }
}

/* ---- stages */

Stage *stage_of_an_assigned_vm(void) {
        Stage *s = g_new0(Stage, 1);
        s->c = chronicle_of_a_vm(1);
        s->facts.node = NODE(1);
        for (unsigned i = 0; i < ELEMENTS(s->gpus); i++) {
                s->gpus[i].identity = GPU(1, i);
                s->gpus[i].address = s->gpus[i].identity.address;
                s->gpus[i].iommu_group = (int32_t) (10 + i);
        }
        s->facts.gpus = s->gpus;
        s->facts.n_gpus = ELEMENTS(s->gpus);
        s->nodes[0] = &s->facts;
        s->world = (World) { .nodes = s->nodes, .n_nodes = 1, .local = NODE(1) };
        s->now_us = 100 * SECOND;
        assign(s, 0);
        service_begins(s);
        libvirt_lists_nothing(s);
        guard_lists_nothing(s);
        return s;
}

Stage *stage_of_a_running_vm(void) {
        Stage *s = stage_of_an_assigned_vm();
        claims_until(s, RUN_STEP_COUNT);
        ASSERT_RESTS(s);
        return s;
}

Stage *stage_free(Stage *s) {
        runner_clear(&s->runner);
        chronicle_clear(&s->c);
        g_free(s);
        return NULL;
}
