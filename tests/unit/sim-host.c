/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is true on the host: processes, libvirt with its domains and calls, the guard with its pidfds. */

#include "sim.h"

#define LAUNCH_TIMEOUT_US (8 * SECOND)

static SimProcess *process_at(Sim *sim, size_t index) {
        return sim->processes.items + index;
}

/* ---- processes */

bool process_counts(const SimProcess *process) {
        return process->alive && (process->ran || !process->killed);
}

size_t process_of_vm(const Sim *sim, unsigned vm, uint64_t epoch) {
        for (size_t i = 0; i < sim->processes.n; i++) {
                const SimProcess *process = sim->processes.items + i;
                if (process->vm == vm && process->epoch == epoch && process_counts(process))
                        return i;
        }
        return SIZE_MAX;
}

static void emit(Sim *sim, unsigned vm, void (*happen)(Sim *, const SimEvent *), EndCause cause) {
        uint64_t delay_us = trouble(sim, 5) ? between(sim, SECOND, 5 * SECOND) : between(sim, 0, 200 * MS);
        if (sim->connection)
                later(sim, delay_us, (SimEvent) { .happen = happen, .vm = vm, .connection = sim->connection,
                                                  .cause = cause });
}

static void stopped_arrives(Sim *sim, const SimEvent *event) {
        VmId vm = VM(event->vm);
        if (event->connection != sim->connection)
                return;
        say(sim, "libvirt says: VM %u stopped", event->vm);
        g_assert_cmpint(runner_domain_stopped(&sim->runner, &vm, event->cause, sim->now_us), ==, 0);
}

static void started_arrives(Sim *sim, const SimEvent *event) {
        VmId vm = VM(event->vm);
        if (event->connection == sim->connection)
                runner_domain_started(&sim->runner, &vm);
}

static void resumed_arrives(Sim *sim, const SimEvent *event) {
        VmId vm = VM(event->vm);
        if (event->connection == sim->connection)
                runner_domain_resumed(&sim->runner, &vm, sim->now_us);
}

static void remove_domain(Sim *sim, unsigned vm, EndCause cause) {
        sim->domains[vm].there = false;
        emit(sim, vm, stopped_arrives, cause);
}

static void libvirt_notices_death(Sim *sim, const SimEvent *event) {
        SimProcess *process = process_at(sim, event->index);
        SimDomain *domain = sim->domains + process->vm;
        if (!sim->libvirt_up)
                return;
        if (sim->libvirt_hung) {
                g_assert_cmpint(array_append(&sim->hung, event), ==, 0);
                return;
        }
        if (domain->there && domain->process == event->index)
                remove_domain(sim, process->vm, process->why);
}

static void process_dies(Sim *sim, const SimEvent *event) {
        SimProcess *process = process_at(sim, event->index);
        if (!process->alive)
                return;
        say(sim, "process of VM %u epoch %" G_GUINT64_FORMAT " is dead", process->vm, process->epoch);
        process->alive = process->runs = false;
        later(sim, between(sim, MS, 200 * MS), (SimEvent) { .happen = libvirt_notices_death, .index = event->index });
        service_hears_of_death(sim, event->index);
}

void process_end(Sim *sim, size_t index) {
        say(sim, "nobody knows of a process of VM %u any more", process_at(sim, index)->vm);
        process_at(sim, index)->alive = process_at(sim, index)->runs = false;
}

/* SIGKILL, or its own end: vCPUs stop at once; the process may linger in the kernel. */
void process_kill(Sim *sim, size_t index, EndCause why) {
        SimProcess *process = process_at(sim, index);
        if (!process->alive || process->killed)
                return;
        process->killed = true;
        process->why = why;
        uint64_t linger_us = trouble(sim, 10) ? between(sim, SECOND, 20 * SECOND) : between(sim, 0, 50 * MS);
        later(sim, linger_us, (SimEvent) { .happen = process_dies, .index = index });
}

/* ---- libvirt */

static void answer(Sim *sim, size_t index, RunAnswer how) {
        SimCall *call = sim->calls.items + index;
        if (call->answered)
                return;
        call->answered = true;
        if (call->life != sim->service_life || !sim->service_up)
                return;
        if (call->step == RUN_STEP_COUNT) {
                service_listed(sim, how == RUN_ANSWER_DONE);
                return;
        }
        if (call->step == RUN_START && how == RUN_ANSWER_DONE)
                service_adopt(sim, call->vm, call->epoch, call->process);
        service_answer(sim, between(sim, 0, 5 * MS), call->step, call->vm, call->epoch, how);
}

static void call_deadline(Sim *sim, const SimEvent *event) {
        answer(sim, event->index, RUN_ANSWER_UNKNOWN);
}

/* The start is through. Nobody may wait for it any more: then the thread that asked for it undoes it, unless it died
 * with the service. */
static void start_launched(Sim *sim, const SimEvent *event) {
        SimCall *call = sim->calls.items + event->index;
        if (!sim->libvirt_up || call->libvirt_life != sim->libvirt_life)
                return;
        if (sim->libvirt_hung) {
                g_assert_cmpint(array_append(&sim->hung, event), ==, 0);
                return;
        }
        SimDomain *domain = sim->domains + call->vm;
        SimProcess *process = process_at(sim, call->process);
        bool ours = domain->there && domain->process == call->process;
        if (!ours || !process->alive || process->killed || trouble(sim, 8)) {
                process_kill(sim, call->process, END_CRASHED);
                if (ours)
                        remove_domain(sim, call->vm, END_CRASHED);
                answer(sim, event->index, RUN_ANSWER_FAILED);
                return;
        }
        domain->launching = false;
        emit(sim, call->vm, started_arrives, END_REQUESTED);
        if (call->answered && call->life == sim->service_life) {
                say(sim, "the start of VM %u came true too late and is undone", call->vm);
                process_kill(sim, call->process, END_DESTROYED);
                remove_domain(sim, call->vm, END_DESTROYED);
                return;
        }
        answer(sim, event->index, RUN_ANSWER_DONE);
}

static bool gpus_are_free(const Sim *sim, unsigned gpus) {
        ARRAY_EACH(process, &sim->processes)
                if (process->alive && (process->gpus & gpus))
                        return false;
        return true;
}

static void do_start(Sim *sim, size_t index) {
        SimCall *call = sim->calls.items + index;
        SimDomain *domain = sim->domains + call->vm;
        if (domain->there || !gpus_are_free(sim, call->gpus) || (call->gpus & ~sim->gpus) || trouble(sim, 5)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        SimProcess process = { .vm = call->vm, .epoch = call->epoch, .gpus = call->gpus, .alive = true,
                               .late = call->answered || call->life != sim->service_life };
        g_assert_cmpint(array_append(&sim->processes, &process), ==, 0);
        call->launched = true;
        call->process = sim->processes.n - 1;
        *domain = (SimDomain) { .there = true, .epoch = call->epoch, .process = call->process, .launching = true,
                                .paused = true };
        say(sim, "process of VM %u epoch %" G_GUINT64_FORMAT " begins", call->vm, call->epoch);
        uint64_t launch_us = trouble(sim, 6) ? between(sim, LAUNCH_TIMEOUT_US, 20 * SECOND)
                                             : between(sim, 50 * MS, 2 * SECOND);
        later(sim, launch_us, (SimEvent) { .happen = start_launched, .index = index });
}

static void do_resume(Sim *sim, size_t index) {
        SimCall *call = sim->calls.items + index;
        SimDomain *domain = sim->domains + call->vm;
        if (!domain->there || domain->launching || trouble(sim, 4)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        SimProcess *process = process_at(sim, domain->process);
        domain->paused = false;
        if (process->alive && !process->killed) {
                say(sim, "VM %u runs", call->vm);
                process->ran = process->runs = true;
                process->guard_at_resume = call->guard_life;
                sim->n_resumed++;
        }
        emit(sim, call->vm, resumed_arrives, END_REQUESTED);
        answer(sim, index, RUN_ANSWER_DONE);
}

static void guest_shuts_down(Sim *sim, const SimEvent *event) {
        process_kill(sim, event->index, END_GUEST_SHUTDOWN);
}

static void do_shutdown(Sim *sim, size_t index) {
        SimCall *call = sim->calls.items + index;
        SimDomain *domain = sim->domains + call->vm;
        if (!domain->there || trouble(sim, 8)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        if (chance(sim, 70))
                later(sim, between(sim, 100 * MS, 8 * SECOND),
                      (SimEvent) { .happen = guest_shuts_down, .index = domain->process });
        answer(sim, index, RUN_ANSWER_DONE);
}

static void do_destroy(Sim *sim, size_t index) {
        SimCall *call = sim->calls.items + index;
        SimDomain *domain = sim->domains + call->vm;
        if (!domain->there) {
                answer(sim, index, RUN_ANSWER_STALE);
                return;
        }
        if (trouble(sim, 8)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        process_kill(sim, domain->process, END_DESTROYED);
        /* One that lingers: libvirt gives up on it, or forgets it all the same. */
        if (trouble(sim, 10)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        remove_domain(sim, call->vm, END_DESTROYED);
        answer(sim, index, RUN_ANSWER_DONE);
}

static void do_list(Sim *sim, size_t index) {
        SimCall *call = sim->calls.items + index;
        if (trouble(sim, 3)) {
                answer(sim, index, RUN_ANSWER_FAILED);
                return;
        }
        bool heard = call->life == sim->service_life && sim->service_up && !call->answered;
        for (unsigned vm = 1; vm <= SIM_VMS && heard; vm++) {
                SimDomain *domain = sim->domains + vm;
                if (!domain->there)
                        continue;
                VmId id = VM(vm);
                bool found = process_at(sim, domain->process)->alive && !(domain->launching && trouble(sim, 50)) &&
                             !trouble(sim, 5);
                if (found)
                        service_adopt(sim, vm, domain->epoch, domain->process);
                say(sim, "libvirt lists VM %u epoch %" G_GUINT64_FORMAT, vm, domain->epoch);
                g_assert_cmpint(runner_saw_domain(&sim->runner, &id, domain->epoch, domain->paused, found), ==, 0);
        }
        answer(sim, index, RUN_ANSWER_DONE);
}

static void call_arrives(Sim *sim, const SimEvent *event) {
        SimCall *call = sim->calls.items + event->index;
        if (!sim->libvirt_up || call->libvirt_life != sim->libvirt_life)
                return;
        if (sim->libvirt_hung) {
                g_assert_cmpint(array_append(&sim->hung, event), ==, 0);
                return;
        }
        switch (call->step) {
        case RUN_START:
                do_start(sim, event->index);
                break;
        case RUN_RESUME:
                do_resume(sim, event->index);
                break;
        case RUN_SHUTDOWN:
                do_shutdown(sim, event->index);
                break;
        case RUN_DESTROY:
                do_destroy(sim, event->index);
                break;
        case RUN_STEP_COUNT:
                do_list(sim, event->index);
                break;
        case RUN_BIND:
        case RUN_HOLD:
        case RUN_PERMIT:
        case RUN_REPORT_RUNNING:
        case RUN_KILL:
        case RUN_RELEASE:
        case RUN_REPORT_ENDED:
                g_assert_not_reached();
        }
}

static unsigned gpus_of(const Sim *sim, unsigned vm) {
        const Vm *record = vm_told(&sim->c, vm);
        unsigned mask = 0;
        for (size_t i = 0; i < record->assignment.n_gpus; i++)
                mask |= 1U << record->assignment.gpus[i].gpu.address.bus;
        return mask;
}

void host_call(Sim *sim, RunStep step, unsigned vm, uint64_t epoch) {
        SimCall call = { .step = step, .vm = vm, .epoch = epoch, .life = sim->service_life,
                         .libvirt_life = sim->libvirt_life, .guard_life = sim->guard_life };
        if (step == RUN_START)
                call.gpus = gpus_of(sim, vm);
        g_assert_cmpint(array_append(&sim->calls, &call), ==, 0);
        size_t index = sim->calls.n - 1;
        later(sim, between(sim, MS, 50 * MS), (SimEvent) { .happen = call_arrives, .index = index });
        later(sim, step == RUN_START ? LAUNCH_TIMEOUT_US : CALL_TIMEOUT_US,
              (SimEvent) { .happen = call_deadline, .index = index });
}

static void libvirt_begins(Sim *sim, const SimEvent *event) {
        if (sim->libvirt_up || event->life != sim->libvirt_life)
                return;
        say(sim, "libvirt begins");
        sim->libvirt_up = true;
        /* What died meanwhile is forgotten without a word, what was not through is ended. */
        for (unsigned vm = 1; vm <= SIM_VMS; vm++) {
                SimDomain *domain = sim->domains + vm;
                if (!domain->there)
                        continue;
                if (domain->launching)
                        process_kill(sim, domain->process, END_CRASHED);
                bool lost = trouble(sim, 10) && guard_has(sim, vm, domain->epoch);
                if (domain->launching || lost || !process_at(sim, domain->process)->alive)
                        domain->there = false;
        }
        service_connect_libvirt(sim);
}

void libvirt_crash(Sim *sim) {
        if (!sim->libvirt_up)
                return;
        say(sim, "libvirt crashes");
        sim->libvirt_up = sim->libvirt_hung = false;
        sim->libvirt_life++;
        array_clear(&sim->hung);
        service_lose_libvirt(sim);
        for (size_t i = 0; i < sim->calls.n; i++)
                if (!sim->calls.items[i].answered)
                        answer(sim, i, RUN_ANSWER_UNKNOWN);
        later(sim, between(sim, 100 * MS, 3 * SECOND),
              (SimEvent) { .happen = libvirt_begins, .life = sim->libvirt_life });
}

static void libvirt_is_seen_to_hang(Sim *sim, const SimEvent *event) {
        if (sim->libvirt_hung && event->life == sim->libvirt_life)
                service_lose_libvirt(sim);
}

void libvirt_hang(Sim *sim) {
        if (!sim->libvirt_up || sim->libvirt_hung)
                return;
        say(sim, "libvirt hangs");
        sim->libvirt_hung = true;
        later(sim, between(sim, 3 * SECOND, 6 * SECOND),
              (SimEvent) { .happen = libvirt_is_seen_to_hang, .life = sim->libvirt_life });
}

void libvirt_thaw(Sim *sim) {
        if (!sim->libvirt_hung)
                return;
        say(sim, "libvirt goes on");
        sim->libvirt_hung = false;
        for (size_t i = 0; i < sim->hung.n; i++)
                later(sim, between(sim, 0, 100 * MS), sim->hung.items[i]);
        array_clear(&sim->hung);
        if (!sim->connection)
                service_connect_libvirt(sim);
}

/* ---- the guard */

static SimHeld *find_held(const Sim *sim, unsigned vm, uint64_t epoch) {
        ARRAY_EACH(held, &sim->held)
                if (held->vm == vm && held->epoch == epoch)
                        return held;
        return NULL;
}

bool guard_has(const Sim *sim, unsigned vm, uint64_t epoch) {
        return find_held(sim, vm, epoch);
}

static RunAnswer do_hold(Sim *sim, unsigned vm, uint64_t epoch) {
        const SimHeld *pidfd = NULL;
        ARRAY_EACH(item, &sim->pidfds)
                if (item->vm == vm && item->epoch == epoch)
                        pidfd = item;
        if (!pidfd)
                return RUN_ANSWER_NOT_TRIED;
        if (!process_at(sim, pidfd->process)->alive)
                return RUN_ANSWER_STALE;
        for (size_t i = sim->held.n; i > 0; i--) {
                SimHeld *held = sim->held.items + i - 1;
                if (held->vm != vm || held->epoch == epoch)
                        continue;
                if (process_at(sim, held->process)->alive)
                        return RUN_ANSWER_FAILED;
                array_remove(&sim->held, i - 1);
        }
        if (trouble(sim, 3))
                return RUN_ANSWER_FAILED;
        if (!find_held(sim, vm, epoch)) {
                SimHeld held = *pidfd;
                g_assert_cmpint(array_append(&sim->held, &held), ==, 0);
        }
        return RUN_ANSWER_DONE;
}

static void kill_is_waited_for(Sim *sim, const SimEvent *event);

static RunAnswer do_kill(Sim *sim, unsigned vm, uint64_t epoch) {
        const SimHeld *held = find_held(sim, vm, epoch);
        if (!held)
                return RUN_ANSWER_FAILED;
        if (!process_at(sim, held->process)->alive)
                return RUN_ANSWER_DONE;
        process_kill(sim, held->process, END_CRASHED);
        return RUN_ANSWER_UNKNOWN;
}

static RunAnswer do_release(Sim *sim, unsigned vm, uint64_t epoch) {
        SimHeld *held = find_held(sim, vm, epoch);
        if (!held)
                return RUN_ANSWER_DONE;
        if (process_at(sim, held->process)->alive)
                return RUN_ANSWER_FAILED;
        array_remove(&sim->held, (size_t) (held - sim->held.items));
        return RUN_ANSWER_DONE;
}

static bool link_is_that_of(const Sim *sim, const SimEvent *event) {
        return sim->guard_linked && event->connection == sim->guard_link && event->life == sim->service_life;
}

static void guard_call_arrives(Sim *sim, const SimEvent *event) {
        if (event->life != sim->service_life)
                return;
        RunAnswer how = RUN_ANSWER_UNKNOWN;
        if (link_is_that_of(sim, event)) {
                if (event->step == RUN_HOLD)
                        how = do_hold(sim, event->vm, event->epoch);
                else if (event->step == RUN_KILL)
                        how = do_kill(sim, event->vm, event->epoch);
                else
                        how = do_release(sim, event->vm, event->epoch);
                if (event->step == RUN_KILL && how == RUN_ANSWER_UNKNOWN) {
                        later(sim, 100 * MS, (SimEvent) { .happen = kill_is_waited_for, .vm = event->vm,
                                                          .epoch = event->epoch, .life = event->life,
                                                          .connection = event->connection, .index = 1 });
                        return;
                }
        }
        service_answer(sim, between(sim, 0, 5 * MS), event->step, event->vm, event->epoch, how);
}

/* Dead within 5 s, or the answer is that it is not known. */
static void kill_is_waited_for(Sim *sim, const SimEvent *event) {
        if (event->life != sim->service_life)
                return;
        const SimHeld *held = find_held(sim, event->vm, event->epoch);
        bool linked = link_is_that_of(sim, event);
        bool dead = linked && held && !process_at(sim, held->process)->alive;
        if (dead || !linked || !held || event->index >= 50) {
                service_answer(sim, 0, RUN_KILL, event->vm, event->epoch, dead ? RUN_ANSWER_DONE : RUN_ANSWER_UNKNOWN);
                return;
        }
        SimEvent again = *event;
        again.index++;
        later(sim, 100 * MS, again);
}

void guard_call(Sim *sim, RunStep step, unsigned vm, uint64_t epoch) {
        if (!sim->guard_linked) {
                service_answer(sim, MS, step, vm, epoch, RUN_ANSWER_NOT_TRIED);
                return;
        }
        later(sim, between(sim, MS, 10 * MS),
              (SimEvent) { .happen = guard_call_arrives, .step = step, .vm = vm, .epoch = epoch,
                           .life = sim->service_life, .connection = sim->guard_link });
}

static void guard_begins(Sim *sim, const SimEvent *event) {
        if (sim->guard_up || event->life != sim->guard_life)
                return;
        say(sim, "the guard begins");
        sim->guard_up = true;
        service_connect_guard(sim);
}

void guard_crash(Sim *sim) {
        if (!sim->guard_up)
                return;
        say(sim, "the guard crashes");
        sim->guard_up = false;
        sim->guard_life++;
        array_clear(&sim->held);
        service_lose_guard(sim);
        later(sim, between(sim, 100 * MS, 2 * SECOND), (SimEvent) { .happen = guard_begins, .life = sim->guard_life });
}

void guard_lose_link(Sim *sim) {
        if (!sim->guard_linked)
                return;
        service_lose_guard(sim);
        service_connect_guard(sim);
}

/* ---- all of it */

void host_reboot(Sim *sim) {
        say(sim, "the host reboots");
        ARRAY_EACH(process, &sim->processes)
                process->alive = process->runs = false;
        for (unsigned vm = 1; vm <= SIM_VMS; vm++)
                sim->domains[vm].there = false;
        libvirt_crash(sim);
        guard_crash(sim);
        sim->boot++;
        service_crash(sim);
}

void host_plug(Sim *sim, unsigned mask) {
        NodeFacts *facts = facts_of(sim->w, "a");
        sim->gpus = mask;
        facts->n_gpus = 0;
        for (unsigned i = 0; i < SIM_GPUS; i++)
                if (mask & 1U << i)
                        facts->gpus[facts->n_gpus++] = sim->gpu_facts[i];
}
