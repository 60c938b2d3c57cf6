/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The service as gpupoold wires it: the runner's steps are carried out, answers and events are brought to it, the
 * conductor's proposals go to the registry. All that it knows dies with it. */

#include "sim.h"

#include <stdio.h>

/* ---- steps */

static void answer_arrives(Sim *sim, const SimEvent *event) {
        VmId vm = VM(event->vm);
        if (!sim->service_up || event->life != sim->service_life)
                return;
        g_assert_cmpint(runner_answer(&sim->runner, &vm, event->epoch, event->step, event->answer,
                                      event->answer == RUN_ANSWER_DONE ? NULL : "that went wrong", sim->now_us), ==, 0);
}

void service_answer(Sim *sim, uint64_t delay_us, RunStep step, unsigned vm, uint64_t epoch, RunAnswer answer) {
        later(sim, delay_us, (SimEvent) { .happen = answer_arrives, .step = step, .vm = vm, .epoch = epoch,
                                          .answer = answer, .life = sim->service_life });
}

static void death_is_seen(Sim *sim, const SimEvent *event) {
        VmId vm = VM(event->vm);
        if (sim->service_up && event->life == sim->service_life)
                g_assert_cmpint(runner_process_died(&sim->runner, &vm, event->epoch, sim->now_us), ==, 0);
}

/* By the service's own pidfd, or from the guard; each may be the only one, or both. */
void service_hears_of_death(Sim *sim, size_t index) {
        const SimProcess *process = sim->processes.items + index;
        SimEvent seen = { .happen = death_is_seen, .vm = process->vm, .epoch = process->epoch,
                          .life = sim->service_life };
        if (!sim->service_up)
                return;
        ARRAY_EACH(pidfd, &sim->pidfds)
                if (pidfd->process == index)
                        later(sim, between(sim, 0, 20 * MS), seen);
        ARRAY_EACH(held, &sim->held)
                if (held->process == index && sim->guard_linked)
                        later(sim, between(sim, 0, 100 * MS), seen);
}

void service_adopt(Sim *sim, unsigned vm, uint64_t epoch, size_t process) {
        SimHeld pidfd = { .vm = vm, .epoch = epoch, .process = process };
        ARRAY_EACH(item, &sim->pidfds)
                if (item->vm == vm && item->epoch == epoch)
                        return;
        g_assert_cmpint(array_append(&sim->pidfds, &pidfd), ==, 0);
        if (!sim->processes.items[process].alive)
                service_hears_of_death(sim, process);
}

static bool assignment_stands(const Sim *sim, unsigned vm, uint64_t epoch) {
        const Vm *record = vm_told(&sim->c, vm);
        return record->assignment.phase != ASSIGNMENT_NONE && record->epoch == epoch;
}

static void permit_is_asked(Sim *sim, const SimEvent *event) {
        const Vm *vm = vm_told(&sim->c, event->vm);
        RunAnswer how = RUN_ANSWER_STALE;
        if (sim->storage_full || trouble(sim, 5))
                how = RUN_ANSWER_NOT_TRIED;
        else if (vm->epoch == event->epoch &&
                 (vm->assignment.phase == ASSIGNMENT_STARTING || (vm->assignment.phase && vm->assignment.ran)))
                how = RUN_ANSWER_DONE;
        SimEpoch permit = { .vm = event->vm, .epoch = event->epoch };
        if (how == RUN_ANSWER_DONE)
                g_assert_cmpint(array_append(&sim->permits, &permit), ==, 0);
        if (event->life == sim->service_life)
                service_answer(sim, between(sim, 0, 5 * MS), RUN_PERMIT, event->vm, event->epoch, how);
}

/* A report is committed whether or not the service lives to hear of it. */
static void report_is_committed(Sim *sim, const SimEvent *event) {
        const Vm *vm = vm_told(&sim->c, event->vm);
        RunAnswer how = RUN_ANSWER_DONE;
        if (sim->storage_full || trouble(sim, 5) || (event->life != sim->service_life && chance(sim, 50)))
                how = RUN_ANSWER_NOT_TRIED;
        else if (vm->epoch != event->epoch || vm->assignment.phase == ASSIGNMENT_NONE)
                how = RUN_ANSWER_STALE;
        else if (event->step == RUN_REPORT_RUNNING)
                ASSERT_DONE(tell_running(&sim->c, event->vm));
        else {
                size_t process = process_of_vm(sim, event->vm, event->epoch);
                if (process != SIZE_MAX && (!sim->processes.items[process].late || sim->processes.items[process].ran))
                        broken(sim, "the end of VM %u is reported and its process lives", event->vm);
                say(sim, "VM %u epoch %" G_GUINT64_FORMAT " ended: %s", event->vm, event->epoch,
                    end_cause_to_text(event->cause));
                ASSERT_DONE(tell_ended(&sim->c, event->vm, event->cause, 0));
                sim->n_ended++;
        }
        if (event->life == sim->service_life)
                service_answer(sim, between(sim, 0, 5 * MS), event->step, event->vm, event->epoch, how);
}

static void check_start(Sim *sim, unsigned vm, uint64_t epoch) {
        if (!assignment_stands(sim, vm, epoch))
                broken(sim, "VM %u is started in epoch %" G_GUINT64_FORMAT ", which is not assigned", vm, epoch);
        ARRAY_EACH(process, &sim->processes)
                if (process->vm == vm && process->alive && process->ran)
                        broken(sim, "VM %u is started while a process of it lives that ran", vm);
}

static void check_resume(Sim *sim, unsigned vm, uint64_t epoch) {
        bool permitted = false;
        ARRAY_EACH(permit, &sim->permits)
                permitted = permitted || (permit->vm == vm && permit->epoch == epoch);
        if (!permitted)
                broken(sim, "VM %u is resumed without a permit", vm);
        if (!guard_has(sim, vm, epoch))
                broken(sim, "VM %u is resumed and the guard does not hold it", vm);
}

static void take_step(Sim *sim, const RunTask *task) {
        static const char *const names[RUN_STEP_COUNT] = { "bind", "start", "hold", "permit", "resume",
                                                           "report running", "shutdown", "destroy", "kill", "release",
                                                           "report ended" };
        unsigned vm = vm_number(&task->vm);
        SimEvent event = { .vm = vm, .epoch = task->epoch, .step = task->step, .cause = task->cause,
                           .life = sim->service_life };
        say(sim, "VM %u epoch %" G_GUINT64_FORMAT ": %s", vm, task->epoch, names[task->step]);
        switch (task->step) {
        case RUN_BIND:
                service_answer(sim, between(sim, MS, 100 * MS), task->step, vm, task->epoch,
                               trouble(sim, 5) ? RUN_ANSWER_NOT_TRIED : RUN_ANSWER_DONE);
                break;
        case RUN_START:
        case RUN_RESUME:
        case RUN_SHUTDOWN:
        case RUN_DESTROY:
                if (task->step == RUN_START)
                        check_start(sim, vm, task->epoch);
                if (task->step == RUN_RESUME)
                        check_resume(sim, vm, task->epoch);
                if (sim->connection)
                        host_call(sim, task->step, vm, task->epoch);
                else
                        service_answer(sim, MS, task->step, vm, task->epoch, RUN_ANSWER_NOT_TRIED);
                break;
        case RUN_HOLD:
        case RUN_KILL:
        case RUN_RELEASE:
                guard_call(sim, task->step, vm, task->epoch);
                break;
        case RUN_PERMIT:
                event.happen = permit_is_asked;
                later(sim, between(sim, MS, 30 * MS), event);
                break;
        case RUN_REPORT_RUNNING:
        case RUN_REPORT_ENDED:
                event.happen = report_is_committed;
                later(sim, between(sim, MS, 30 * MS), event);
                break;
        case RUN_STEP_COUNT:
                g_assert_not_reached();
        }
}

/* ---- the conductor */

static void proposal_is_decided(Sim *sim, const SimEvent *event) {
        if (!sim->service_up || event->life != sim->service_life)
                return;
        sim->proposing = false;
        Claim claim = { .vm = VM(event->vm), .node = NODE(1), .epoch = event->epoch,
                        .incarnation = sim->c.registry->nodes.items[0].incarnation };
        for (unsigned i = 0; i < SIM_GPUS; i++)
                if (event->index & 1U << i)
                        claim.gpus[claim.n_gpus++] = ASSIGNED(1, i);
        if (sim->storage_full || trouble(sim, 5) || tell_assign(&sim->c, &claim) != VERDICT_DONE) {
                conductor_refused(&sim->conductor, NULL, REFUSAL_BY_REGISTRY, sim->now_us);
                return;
        }
        say(sim, "VM %u is assigned, epoch %" G_GUINT64_FORMAT, event->vm, event->epoch);
}

static uint64_t conduct(Sim *sim) {
        _cleanup_(proposal_clear) Proposal proposal = {};
        uint64_t wake_us = UINT64_MAX;
        if (sim->proposing ||
            conductor_next(&sim->conductor, &sim->world, NULL, sim->now_us, &proposal, &wake_us) == CONDUCTOR_IDLE)
                return wake_us;
        g_assert_cmpint(proposal.kind, ==, PROPOSAL_ASSIGN);
        SimEvent event = { .happen = proposal_is_decided, .vm = vm_number(&proposal.vm->id),
                           .epoch = proposal.vm->epoch + 1, .life = sim->service_life };
        for (size_t i = 0; i < proposal.placement.n_gpus; i++)
                event.index |= 1U << proposal.placement.gpus[i].gpu.address.bus;
        later(sim, between(sim, MS, 30 * MS), event);
        sim->proposing = true;
        return UINT64_MAX;
}

/* ---- the turn */

static void announce(Sim *sim) {
        char boot_id[16];
        snprintf(boot_id, sizeof(boot_id), "boot-%u", sim->boot);
        if (!sim->storage_full)
                ASSERT_DONE(tell_node(&sim->c, 1, "a", sim->boot, boot_id));
}

static void wake(Sim *sim, const SimEvent *event) {
        if (event->at_us == sim->wake_us)
                sim->wake_us = UINT64_MAX;
}

static void wake_at(Sim *sim, uint64_t at_us) {
        if (at_us >= sim->wake_us)
                return;
        sim->wake_us = at_us;
        later(sim, at_us > sim->now_us ? at_us - sim->now_us : 0, (SimEvent) { .happen = wake });
}

static void follow(Sim *sim) {
        g_assert_cmpint(runner_follow(&sim->runner, &sim->world, true), ==, 0);
}

/* As steps_tidy() does. */
static void tidy(Sim *sim) {
        for (size_t i = sim->pidfds.n; i > 0; i--) {
                VmId vm = VM(sim->pidfds.items[i - 1].vm);
                const Run *run = runner_find(&sim->runner, &vm);
                if (!run || run->epoch != sim->pidfds.items[i - 1].epoch)
                        array_remove(&sim->pidfds, i - 1);
        }
}

void service_turn(Sim *sim) {
        RunTask task;
        uint64_t due_us = UINT64_MAX;
        if (!sim->service_up)
                return;
        if (sim->c.registry->nodes.items[0].incarnation != sim->boot) {
                announce(sim);
                wake_at(sim, sim->now_us + SECOND);
                if (sim->c.registry->nodes.items[0].incarnation != sim->boot)
                        return;
        }
        wake_at(sim, conduct(sim));
        follow(sim);
        while (runner_next(&sim->runner, &sim->world, sim->now_us, &task, &due_us))
                take_step(sim, &task);
        follow(sim);
        tidy(sim);
        wake_at(sim, due_us);
        if (sim->runner.relist && !sim->listing && sim->runner.hypervisor_usable && sim->connection) {
                sim->runner.relist = false;
                sim->listing = true;
                host_call(sim, RUN_STEP_COUNT, 0, 0);
        }
}

/* ---- libvirt and guard come and go */

void service_listed(Sim *sim, bool good) {
        sim->listing = false;
        if (good)
                runner_listed_domains(&sim->runner, sim->now_us);
        else if (!sim->runner.domains_known)
                sim->runner.relist = true;
}

static void libvirt_connects(Sim *sim, const SimEvent *event) {
        static unsigned connections;
        if (!sim->service_up || event->life != sim->service_life || sim->connection || !sim->libvirt_up)
                return;
        if (sim->libvirt_hung) {
                later(sim, SECOND, *event);
                return;
        }
        say(sim, "libvirt is connected");
        sim->connection = ++connections;
        sim->runner.hypervisor_usable = true;
        sim->listing = true;
        host_call(sim, RUN_STEP_COUNT, 0, 0);
}

void service_connect_libvirt(Sim *sim) {
        if (sim->service_up)
                later(sim, between(sim, 10 * MS, 500 * MS),
                      (SimEvent) { .happen = libvirt_connects, .life = sim->service_life });
}

void service_lose_libvirt(Sim *sim) {
        if (!sim->service_up || !sim->connection)
                return;
        say(sim, "libvirt is lost");
        sim->connection = 0;
        runner_hypervisor_lost(&sim->runner);
        if (sim->libvirt_up)
                service_connect_libvirt(sim);
}

static void guard_lists(Sim *sim, const SimEvent *event) {
        if (!sim->service_up || !sim->guard_linked || event->life != sim->service_life ||
            event->connection != sim->guard_link)
                return;
        ARRAY_EACH(held, &sim->held) {
                VmId vm = VM(held->vm);
                bool alive = sim->processes.items[held->process].alive;
                if (alive)
                        service_adopt(sim, held->vm, held->epoch, held->process);
                say(sim, "the guard holds VM %u epoch %" G_GUINT64_FORMAT, held->vm, held->epoch);
                g_assert_cmpint(runner_guard_holds(&sim->runner, &vm, held->epoch, alive, sim->now_us), ==, 0);
        }
        runner_guard_listed(&sim->runner);
}

static void guard_connects(Sim *sim, const SimEvent *event) {
        if (!sim->service_up || event->life != sim->service_life || sim->guard_linked || !sim->guard_up)
                return;
        bool anew = sim->guard_known != sim->guard_life;
        say(sim, "the guard is connected%s", anew ? ", anew" : "");
        sim->guard_linked = true;
        sim->guard_known = sim->guard_life;
        sim->guard_link++;
        if (anew)
                runner_guard_anew(&sim->runner);
        sim->runner.guard_usable = true;
        later(sim, between(sim, MS, 50 * MS),
              (SimEvent) { .happen = guard_lists, .life = sim->service_life, .connection = sim->guard_link });
}

void service_connect_guard(Sim *sim) {
        if (sim->service_up)
                later(sim, between(sim, 10 * MS, 300 * MS),
                      (SimEvent) { .happen = guard_connects, .life = sim->service_life });
}

void service_lose_guard(Sim *sim) {
        if (!sim->service_up || !sim->guard_linked)
                return;
        say(sim, "the guard is lost");
        sim->guard_linked = false;
        runner_guard_lost(&sim->runner);
}

/* ---- birth and death */

void service_begin(Sim *sim) {
        say(sim, "the service begins");
        sim->service_up = true;
        runner_clear(&sim->runner);
        conductor_clear(&sim->conductor);
        sim->runner.shutdown_timeout_us = 5 * SECOND;
        sim->wake_us = UINT64_MAX;
        sim->proposing = sim->listing = sim->guard_linked = false;
        sim->connection = 0;
        array_clear(&sim->pidfds);
        sim->guard_known = 0;
        service_connect_guard(sim);
        service_connect_libvirt(sim);
}

static void service_is_back(Sim *sim, const SimEvent *event) {
        if (!sim->service_up && event->life == sim->service_life)
                service_begin(sim);
}

void service_crash(Sim *sim) {
        if (!sim->service_up)
                return;
        say(sim, "the service crashes");
        sim->service_up = false;
        sim->service_life++;
        sim->connection = 0;
        sim->guard_linked = false;
        later(sim, between(sim, 10 * MS, 3 * SECOND),
              (SimEvent) { .happen = service_is_back, .life = sim->service_life });
}

void admin_wants(Sim *sim, unsigned vm, VmDesire desire, uint64_t timeout_ms) {
        static const char *const words[] = { "run", "shut down", "stop", "restart" };
        say(sim, "VM %u is to %s", vm, words[desire]);
        ASSERT_DONE(tell_desired(&sim->c, vm, desire, timeout_ms));
}
