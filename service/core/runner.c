/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/runner.h"

#include <errno.h>

#include "core/mutant.h"
#include "util/wake.h"

static void run_clear(Run *run) {
        free(run->sentence);
        *run = (Run) {};
}

void runner_clear(Runner *runner) {
        ARRAY_EACH(run, &runner->runs)
                run_clear(run);
        array_clear(&runner->runs);
        *runner = (Runner) { .shutdown_timeout_us = runner->shutdown_timeout_us };
}

static int compare_run(const void *key, const void *item) {
        return ID_COMPARE((const VmId *) key, &((const Run *) item)->vm);
}

static Run *find_run(const Runner *runner, const VmId *vm) {
        size_t i;
        return array_find(&runner->runs, vm, compare_run, &i) ? runner->runs.items + i : NULL;
}

const Run *runner_find(const Runner *runner, const VmId *vm) {
        return find_run(runner, vm);
}

static Run new_run(const Runner *runner, const VmId *vm, uint64_t epoch) {
        return (Run) { .vm = *vm, .epoch = epoch,
                       .domain = runner->domains_known ? RUN_DOMAIN_ABSENT : RUN_DOMAIN_UNKNOWN };
}

static int add_run(Runner *runner, const VmId *vm, uint64_t epoch, Run **ret) {
        Run run = new_run(runner, vm, epoch);
        size_t i;
        (void) array_find(&runner->runs, vm, compare_run, &i);
        int r = array_insert(&runner->runs, i, &run);
        if (r < 0)
                return r;
        *ret = runner->runs.items + i;
        return 0;
}

/* From here on the run only goes towards its end; the first cause stays. */
static int begin_end(Run *run, EndCause cause, const char *sentence) {
        if (run->ending)
                return 0;
        run->ending = true;
        run->cause = cause;
        return text_set(&run->sentence, sentence);
}

/* The assignment of this epoch on this node, as the registry has it; NULL if there is none. */
static const Vm *find_assigned(const World *world, const VmId *vm_id, uint64_t epoch) {
        const Vm *vm = registry_find_vm(world->registry, vm_id);
        const NodeRecord *self = registry_find_node(world->registry, &world->local);
        if (!vm || !self || vm->assignment.phase == ASSIGNMENT_NONE || vm->epoch != epoch ||
            !ID_EQUAL(&vm->assignment.node, &world->local) || vm->assignment.incarnation != self->incarnation)
                return NULL;
        return vm;
}

static bool gpus_are_there(const World *world, const Vm *vm) {
        for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                if (!world_find_gpu(world, &vm->assignment.gpus[i].gpu))
                        return false;
        return true;
}

static bool is_over(const Run *run) {
        return run->end_reported && !run->busy && !run->holding && run->process == RUN_PROCESS_DEAD && !run->held;
}

/* What the registry says of a run that is here. 0 or -ENOMEM. */
static int follow_run(Run *run, const World *world, bool gpus_known) {
        const Vm *vm = find_assigned(world, &run->vm, run->epoch);
        if (!vm) {
                /* Nobody waits for a report of what the registry does not know. */
                run->end_reported = true;
                return begin_end(run, END_REQUESTED, "it is not assigned to this node");
        }
        if (vm->assignment.ran) {
                run->started = run->resumed = run->reported = true;
                if (run->domain == RUN_DOMAIN_PAUSED)
                        run->domain = RUN_DOMAIN_RUNNING;       /* paused by somebody on purpose: not ours to resume */
        }
        if (gpus_known && !gpus_are_there(world, vm))
                return begin_end(run, END_GPU_LOST, "a GPU of it is gone from the host");
        return 0;
}

int runner_follow(Runner *runner, const World *world, bool gpus_known) {
        int r = 0;
        /* An older epoch first comes to its end. */
        for (size_t i = runner->runs.n; i > 0; i--) {
                Run *run = runner->runs.items + i - 1;
                r = follow_run(run, world, gpus_known);
                if (r < 0)
                        return r;
                if (is_over(run)) {
                        run_clear(run);
                        array_remove(&runner->runs, i - 1);
                }
        }

        ARRAY_EACH(vm, &world->registry->vms) {
                Run *run = find_run(runner, &vm->id);
                if (run || !find_assigned(world, &vm->id, vm->epoch))
                        continue;
                r = add_run(runner, &vm->id, vm->epoch, &run);
                if (r < 0)
                        return r;
                run->inherited = runner->takes_over && !runner->followed && !runner->nothing_before;
                r = follow_run(run, world, gpus_known);
                if (r < 0)
                        return r;
        }
        runner->followed = true;
        return 0;
}

/* ---- which step is next */

static bool wait_until(uint64_t until_us, uint64_t now_us, uint64_t *wake_us) {
        if (now_us >= until_us)
                return false;
        wake_by(wake_us, until_us);
        return true;
}

static bool may_run(const Runner *runner) {
        return !runner->lease_needed || runner->lease_runs;
}

/* What lives is held, whatever libvirt knows of it, and until it is, the node asks for no lease. */
static bool is_to_be_held(const Runner *runner, const Run *run) {
        return run->process == RUN_PROCESS_ALIVE && !run->held && run->has_pidfd && !MUTANT(RESUME_UNGUARDED) &&
               runner->guard_usable && runner->guard_listed;
}

static bool decide_claim(Runner *runner, Run *run, RunStep *ret) {
        if (is_to_be_held(runner, run)) {
                *ret = RUN_HOLD;
                return true;
        }
        switch (run->domain) {
        case RUN_DOMAIN_UNKNOWN:
                return false;
        case RUN_DOMAIN_ABSENT:
                /* A guard that has not listed yet may hold a process of an older epoch. */
                if (run->started || !runner->hypervisor_usable || !runner->guard_usable || !runner->guard_listed ||
                    !may_run(runner))
                        return false;
                *ret = run->bound ? RUN_START : RUN_BIND;
                return true;
        case RUN_DOMAIN_PAUSED:
                if ((!run->held && !MUTANT(RESUME_UNGUARDED)) || run->resumed)
                        return false;   /* not yet; or somebody paused it on purpose */
                if (!run->permitted && !MUTANT(NO_PERMIT)) {
                        *ret = RUN_PERMIT;
                        return true;
                }
                *ret = RUN_RESUME;
                /* A guard that does not answer may be gone, and with it what it held. */
                return runner->hypervisor_usable && runner->guard_usable && may_run(runner);
        case RUN_DOMAIN_RUNNING:
                *ret = RUN_REPORT_RUNNING;
                return !run->reported;
        }
        return false;
}

static uint64_t add_time(uint64_t at_us, uint64_t ms) {
        return ms < (UINT64_MAX - at_us) / 1000 ? at_us + ms * 1000 : UINT64_MAX;
}

/* Is a guest still on its way down by itself, or about to be asked? A stop that became harder meanwhile is not
 * waited for. One that libvirt has not told of yet may be running. */
static bool decide_shutdown(const Runner *runner, Run *run, const Vm *vm, uint64_t now_us, uint64_t *wake_us,
                            bool *ret_ask) {
        *ret_ask = false;
        if (vm->stop_kind != VM_SHUTDOWN || run->process == RUN_PROCESS_DEAD || run->domain == RUN_DOMAIN_ABSENT ||
            run->domain == RUN_DOMAIN_PAUSED)
                return false;
        if (run->shutdown_until_us == 0)
                run->shutdown_until_us = vm->stop_timeout_ms ? add_time(now_us, vm->stop_timeout_ms)
                                                             : now_us + runner->shutdown_timeout_us;
        *ret_ask = !run->shutdown_asked && run->domain == RUN_DOMAIN_RUNNING && runner->hypervisor_usable;
        return *ret_ask || wait_until(run->shutdown_until_us, now_us, wake_us);
}

/* Steps to a proven death. Returns true with a step, or false: dead, or wait. */
static bool decide_death(const Runner *runner, Run *run, uint64_t now_us, uint64_t *wake_us, RunStep *ret) {
        bool domain_there = run->domain == RUN_DOMAIN_PAUSED || run->domain == RUN_DOMAIN_RUNNING;
        bool dead = run->process == RUN_PROCESS_DEAD;
        bool can_kill = !dead && runner->guard_usable && (run->held || run->has_pidfd);
        /* What libvirt could not destroy the guard kills; where it cannot either, libvirt is asked again. */
        bool again = run->destroy_failed && !dead && !can_kill;
        if (domain_there && runner->hypervisor_usable && run->destroyed_us == 0 && (!run->destroy_failed || again)) {
                *ret = RUN_DESTROY;
                return true;
        }
        if (!can_kill)
                return false;
        if (!run->held) {
                *ret = RUN_HOLD;
                return run->process == RUN_PROCESS_ALIVE;
        }
        /* libvirt destroyed it or cannot; the process has a little time to be gone by itself. */
        if (run->destroyed_us && wait_until(run->destroyed_us + RUNNER_KILL_GRACE_US, now_us, wake_us))
                return false;
        *ret = RUN_KILL;
        return true;
}

/* Libvirt has no domain, the guard holds nothing, and nobody ever saw a process: there is none. */
static bool is_without_process(const Runner *runner, const Run *run) {
        return run->domain == RUN_DOMAIN_ABSENT && runner->guard_listed && !run->held &&
               run->process == RUN_PROCESS_UNKNOWN;
}

/* Has everything that could still be of this run come to an end? */
static bool is_dead(const Runner *runner, Run *run, uint64_t now_us, uint64_t *wake_us) {
        if (is_without_process(runner, run))
                run->process = RUN_PROCESS_DEAD;
        if (run->process != RUN_PROCESS_DEAD)
                return false;
        if (run->dead_us == 0)
                run->dead_us = now_us;
        /* libvirt gives the GPUs back before it forgets a domain; a libvirt that hangs is not waited for for ever. */
        return run->domain == RUN_DOMAIN_ABSENT || !wait_until(run->dead_us + RUNNER_DOMAIN_GRACE_US, now_us, wake_us);
}

static bool decide_end(const Runner *runner, Run *run, uint64_t now_us, uint64_t *wake_us, RunStep *ret) {
        bool report_now = !run->end_reported && (MUTANT(FREE_BEFORE_DEATH) ||
                                                 (MUTANT(NO_ROLLBACK) && run->cause == END_START_FAILED));
        if (report_now) {
                *ret = RUN_REPORT_ENDED;
                return true;
        }
        if (!is_dead(runner, run, now_us, wake_us))
                return decide_death(runner, run, now_us, wake_us, ret);
        run->vacated = true;
        /* A guard that is gone is not waited for: others wait for the GPUs. If it is back, it lets go of the dead. */
        if (run->held && runner->guard_usable) {
                *ret = RUN_RELEASE;
                return true;
        }
        *ret = RUN_REPORT_ENDED;
        return !run->end_reported;
}

/* Ends that come by themselves: the domain is gone, what libvirt's event did not say its absence says; or libvirt has
 * forgotten it before it ever ran, so that nobody can resume it. */
static void notice_end(const Runner *runner, Run *run) {
        if (run->inherited && !run->ending && !run->started && is_without_process(runner, run) && !MUTANT(START_AGAIN))
                (void) begin_end(run, runner->lease_needed ? END_LEASE_ENDED : END_START_FAILED,
                                 "gpupoold began anew before it ran");
        if (run->ending || !run->started || run->domain != RUN_DOMAIN_ABSENT)
                return;
        if (is_without_process(runner, run))
                (void) begin_end(run, run->stop_seen ? run->stop_cause : END_CRASHED, NULL);
        else if (run->process == RUN_PROCESS_ALIVE && !run->reported)
                (void) begin_end(run, END_START_FAILED, "libvirt does not know its domain");
}

/* A stop that no death followed was one of the last epoch, or libvirt is wrong about its process. */
static void forget_stop(Runner *runner, Run *run, uint64_t now_us, uint64_t *wake_us) {
        if (!run->stop_seen || run->process != RUN_PROCESS_ALIVE ||
            wait_until(run->stop_seen_us + RUNNER_DOMAIN_GRACE_US, now_us, wake_us))
                return;
        run->stop_seen = false;
        runner->relist = true;
}

/* A domain whose process libvirt's listing did not bring is neither held nor killed, and one of which nobody knows
 * whether it is there is not reported: a listing is asked for until one tells. */
static void look_for_process(Runner *runner, Run *run, uint64_t now_us, uint64_t *wake_us) {
        if (run->has_pidfd || run->held || run->process != RUN_PROCESS_UNKNOWN || !run->started ||
            run->domain == RUN_DOMAIN_ABSENT || wait_until(run->look_again_us, now_us, wake_us))
                return;
        runner->relist = runner->relist || run->look_again_us > 0;
        run->look_again_us = now_us + RUNNER_RETRY_US;
        (void) wait_until(run->look_again_us, now_us, wake_us);
}

/* What must end does not wait for a word of the registry, which may be long in coming, nor for GPUs: the answer is
 * passed over. */
static bool is_busy(const Run *run, const Vm *vm) {
        bool waits_for_word = run->step == RUN_PERMIT || run->step == RUN_REPORT_RUNNING;
        bool stops = run->ending || (vm && vm->assignment.phase == ASSIGNMENT_STOPPING);
        return run->busy && !(run->ending && waits_for_word) && !(stops && run->step == RUN_BIND);
}

/* A device that is pulled while a VM has it stays until the VM lets go of it: the kernel has taken its driver's link
 * away, and waits; nobody is told. It goes function by function, the last one first, so that the GPU itself looks well
 * while its sound is waited for. What was not seen on vfio-pci may have had no driver all the time; but a GPU has
 * none, and a VM has it open, only then. One that fell off the bus reads all ones. NULL: all is well. */
static const char *find_oddity(Run *run, const World *world, const Vm *vm) {
        const char *odd = NULL;
        size_t on_vfio = 0, without = 0;
        for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                const GpuFacts *gpu = world_find_gpu(world, &vm->assignment.gpus[i].gpu);
                if (!gpu)
                        return NULL;
                GivenDrivers drivers = gpu_facts_count_drivers(gpu);
                on_vfio += drivers.on_vfio;
                without += drivers.without;
                if (gpu->config == CONFIG_ALL_ONES)
                        odd = "a GPU of it has fallen off the bus: its configuration space reads all ones";
                else if (!gpu->driver && gpu_facts_held_through_vfio(gpu))
                        odd = "a GPU of it is being removed from the host";
        }
        if (!odd && without > 0 && on_vfio < run->on_vfio)
                odd = "a GPU of it is being removed from the host";
        run->on_vfio = on_vfio > run->on_vfio ? on_vfio : run->on_vfio;
        return odd;
}

/* When the oldest reading of its GPUs began. One of which a reading does not come back is not waited for. */
static uint64_t find_oldest_reading(const World *world, const Vm *vm) {
        uint64_t oldest_us = UINT64_MAX;
        for (size_t i = 0; i < vm->assignment.n_gpus; i++) {
                const GpuFacts *gpu = world_find_gpu(world, &vm->assignment.gpus[i].gpu);
                if (gpu && !gpu->unreadable && gpu->read_us < oldest_us)
                        oldest_us = gpu->read_us;
        }
        return oldest_us;
}

static void notice_oddity(Run *run, const World *world, const Vm *vm, uint64_t now_us, uint64_t *wake_us) {
        const char *odd = run->started && !run->ending && vm ? find_oddity(run, world, vm) : NULL;
        if (!odd || run->odd_since_us == 0)
                run->odd_since_us = odd ? now_us : 0;
        uint64_t until_us = run->odd_since_us + RUNNER_GPU_ODD_US;
        if (odd && !wait_until(until_us, now_us, wake_us) && find_oldest_reading(world, vm) >= until_us)
                (void) begin_end(run, END_GPU_LOST, odd);
}

/* May its vCPUs run, now or any moment? */
static bool may_compute(const Run *run) {
        return run->resumed || run->domain == RUN_DOMAIN_RUNNING || (run->busy && run->step == RUN_RESUME);
}

/* What libvirt was asked for may be long in coming, too. A guard that was started anew is not kept waiting for it. */
static bool decide_hold_beside(const Runner *runner, const Run *run, RunStep *ret) {
        *ret = RUN_HOLD;
        return may_compute(run) && is_to_be_held(runner, run);
}

static bool decide(Runner *runner, const World *world, Run *run, uint64_t now_us, uint64_t *wake_us, RunStep *ret) {
        const Vm *vm = find_assigned(world, &run->vm, run->epoch);
        bool ask;

        if (run->holding || wait_until(run->not_before_us, now_us, wake_us))
                return false;
        if (is_busy(run, vm))
                return decide_hold_beside(runner, run, ret);
        notice_oddity(run, world, vm, now_us, wake_us);
        forget_stop(runner, run, now_us, wake_us);
        look_for_process(runner, run, now_us, wake_us);
        notice_end(runner, run);
        if (run->ending)
                return decide_end(runner, run, now_us, wake_us, ret);
        if (vm && vm->assignment.phase == ASSIGNMENT_STOPPING) {
                if (run->domain == RUN_DOMAIN_UNKNOWN && run->process == RUN_PROCESS_UNKNOWN)
                        return false;
                /* Also by a guard that was started anew while the guest shuts down, which may take long. */
                if (run->resumed && !run->hold_refused && is_to_be_held(runner, run)) {
                        *ret = RUN_HOLD;
                        return true;
                }
                if (decide_shutdown(runner, run, vm, now_us, wake_us, &ask)) {
                        *ret = RUN_SHUTDOWN;
                        return ask;
                }
                (void) begin_end(run, END_REQUESTED, NULL);
                return decide_end(runner, run, now_us, wake_us, ret);
        }
        if (run->process == RUN_PROCESS_DEAD && run->started) {
                /* Why, libvirt is about to say. */
                if (!run->stop_seen && wait_until(run->dead_us + RUNNER_RETRY_US, now_us, wake_us))
                        return false;
                (void) begin_end(run, run->stop_seen ? run->stop_cause : END_CRASHED, NULL);
                return decide_end(runner, run, now_us, wake_us, ret);
        }
        return decide_claim(runner, run, ret);
}

/* Until its death; how long the report waits is not its doing. */
static uint64_t ran_us(const Run *run, uint64_t now_us) {
        uint64_t until_us = run->dead_us ? run->dead_us : now_us;
        return run->running_since_us && until_us > run->running_since_us ? until_us - run->running_since_us : 0;
}

bool runner_next(Runner *runner, const World *world, uint64_t now_us, RunTask *ret_task, uint64_t *ret_wake_us) {
        uint64_t wake_us = UINT64_MAX;
        ARRAY_EACH(run, &runner->runs) {
                RunStep step;
                if (!decide(runner, world, run, now_us, &wake_us, &step))
                        continue;
                if (step == RUN_HOLD)
                        run->holding = true;
                else {
                        run->busy = true;
                        run->step = step;
                }
                if (step == RUN_START)
                        run->started = true;
                *ret_task = (RunTask) { .step = step, .vm = run->vm, .epoch = run->epoch, .cause = run->cause,
                                        .sentence = run->sentence, .ran_ms = ran_us(run, now_us) / 1000 };
                return true;
        }
        *ret_wake_us = wake_us;
        return false;
}

/* ---- answers */

static void note_death(Run *run, uint64_t now_us) {
        run->process = RUN_PROCESS_DEAD;
        if (run->dead_us == 0)
                run->dead_us = now_us;
}

/* Of a VM that never ran the start has failed. What the guard listed meanwhile stands, whatever came of this. */
static int answer_hold(Run *run, RunAnswer answer, const char *sentence, uint64_t now_us) {
        run->held = run->held || answer == RUN_ANSWER_DONE || answer == RUN_ANSWER_LATE;
        run->hold_refused = !run->held && answer != RUN_ANSWER_STALE;
        switch (answer) {
        case RUN_ANSWER_STALE:
                note_death(run, now_us);
                return 0;
        case RUN_ANSWER_LATE:
                return begin_end(run, END_LEASE_ENDED, NULL);
        case RUN_ANSWER_FAILED:
                /* This guard kills nothing more of it: libvirt is asked again. */
                run->destroy_failed = run->destroy_failed && run->held;
                return run->resumed ? 0 : begin_end(run, END_START_FAILED, sentence);
        case RUN_ANSWER_NOT_TRIED:
        case RUN_ANSWER_UNKNOWN:
                run->destroy_failed = run->destroy_failed && run->held;
                return 0;
        case RUN_ANSWER_DONE:
                return 0;
        }
        return 0;
}

static int answer_bind(Run *run, RunAnswer answer, const char *sentence) {
        switch (answer) {
        case RUN_ANSWER_DONE:
                run->bound = true;
                return 0;
        case RUN_ANSWER_NOT_TRIED:
                return 0;
        case RUN_ANSWER_FAILED:
        case RUN_ANSWER_UNKNOWN:
        case RUN_ANSWER_STALE:
        case RUN_ANSWER_LATE:
                return begin_end(run, END_GPU_UNUSABLE, sentence);
        }
        return 0;
}

static int answer_start(Runner *runner, Run *run, RunAnswer answer, const char *sentence) {
        switch (answer) {
        case RUN_ANSWER_DONE:
                run->domain = RUN_DOMAIN_PAUSED;
                run->process = RUN_PROCESS_ALIVE;
                run->has_pidfd = true;
                return 0;
        case RUN_ANSWER_NOT_TRIED:
                run->started = false;
                return 0;
        case RUN_ANSWER_UNKNOWN:        /* it may be there, or come: the next listing tells */
        case RUN_ANSWER_FAILED:         /* so may one that the service asked for before it was restarted */
        case RUN_ANSWER_STALE:
        case RUN_ANSWER_LATE:
                run->domain = RUN_DOMAIN_UNKNOWN;
                runner->relist = true;
                return begin_end(run, END_START_FAILED, sentence);
        }
        return 0;
}

static int answer_resume(Run *run, RunAnswer answer, const char *sentence, uint64_t now_us) {
        switch (answer) {
        case RUN_ANSWER_DONE:
                run->domain = RUN_DOMAIN_RUNNING;
                run->resumed = true;
                run->running_since_us = now_us;
                return 0;
        case RUN_ANSWER_NOT_TRIED:
                return 0;
        case RUN_ANSWER_UNKNOWN:        /* it may run any moment: only the guard makes sure */
                run->destroy_failed = true;
                return begin_end(run, END_START_FAILED, sentence);
        case RUN_ANSWER_FAILED:
        case RUN_ANSWER_STALE:
        case RUN_ANSWER_LATE:
                return begin_end(run, END_START_FAILED, sentence);
        }
        return 0;
}

/* That libvirt knows no domain which it has listed says nothing of the process: libvirtd may be on its way back to it,
 * or have lost it. One that is known is the guard's; where none was ever found, the next listing tells. */
static void answer_destroy(Runner *runner, Run *run, RunAnswer answer, uint64_t now_us) {
        if (answer == RUN_ANSWER_STALE && run->process == RUN_PROCESS_UNKNOWN) {
                run->domain = RUN_DOMAIN_UNKNOWN;
                runner->relist = true;
        } else if (answer == RUN_ANSWER_DONE || answer == RUN_ANSWER_STALE) {
                run->domain = RUN_DOMAIN_ABSENT;
                run->destroyed_us = now_us;
                run->not_before_us = now_us;
        } else if (answer != RUN_ANSWER_NOT_TRIED)
                run->destroy_failed = true;
}

static int answer_step(Runner *runner, Run *run, RunStep step, RunAnswer answer, const char *sentence,
                       uint64_t now_us) {
        switch (step) {
        case RUN_BIND:
                return answer_bind(run, answer, sentence);
        case RUN_START:
                return answer_start(runner, run, answer, sentence);
        case RUN_HOLD:
                return answer_hold(run, answer, sentence, now_us);
        case RUN_PERMIT:
                run->permitted = answer == RUN_ANSWER_DONE;
                return answer == RUN_ANSWER_STALE ? begin_end(run, END_REQUESTED, sentence) : 0;
        case RUN_RESUME:
                return answer_resume(run, answer, sentence, now_us);
        case RUN_REPORT_RUNNING:
                run->reported = answer == RUN_ANSWER_DONE || answer == RUN_ANSWER_STALE;
                return 0;
        case RUN_SHUTDOWN:
                run->shutdown_asked = answer != RUN_ANSWER_NOT_TRIED;
                if (answer == RUN_ANSWER_FAILED || answer == RUN_ANSWER_STALE)
                        run->shutdown_until_us = now_us;
                return 0;
        case RUN_DESTROY:
                answer_destroy(runner, run, answer, now_us);
                return 0;
        case RUN_KILL:
                if (answer == RUN_ANSWER_DONE || answer == RUN_ANSWER_STALE)
                        note_death(run, now_us);
                if (answer == RUN_ANSWER_FAILED)
                        run->held = !run->has_pidfd;    /* it does not hold it, or cannot: given to it again */
                return 0;
        case RUN_RELEASE:
                run->held = answer != RUN_ANSWER_DONE && answer != RUN_ANSWER_STALE;
                if (answer == RUN_ANSWER_FAILED) {      /* the guard says that it lives */
                        run->process = RUN_PROCESS_ALIVE;
                        run->dead_us = 0;
                        run->vacated = false;
                }
                return 0;
        case RUN_REPORT_ENDED:
                run->end_reported = answer == RUN_ANSWER_DONE || answer == RUN_ANSWER_STALE;
                return 0;
        case RUN_STEP_COUNT:
                break;
        }
        return 0;
}

int runner_answer(Runner *runner, const VmId *vm, uint64_t epoch, RunStep step, RunAnswer answer, const char *sentence,
                  uint64_t now_us) {
        Run *run = find_run(runner, vm);
        bool awaited = run && run->epoch == epoch &&
                       (step == RUN_HOLD ? run->holding : run->busy && run->step == step);
        if (!awaited)
                return 0;
        *(step == RUN_HOLD ? &run->holding : &run->busy) = false;
        if (answer != RUN_ANSWER_DONE)
                run->not_before_us = now_us + RUNNER_RETRY_US;
        return answer_step(runner, run, step, answer, sentence, now_us);
}

/* ---- observations */

/* The run to which something of @epoch belongs; NULL: there is one of another epoch that is under way. One that has
 * not begun makes room: what is left of an older epoch comes to its end first. 0 or -ENOMEM. */
static int find_or_add_run(Runner *runner, const VmId *vm, uint64_t epoch, Run **ret) {
        Run *run = find_run(runner, vm);
        *ret = NULL;
        if (!run)
                return add_run(runner, vm, epoch, ret);
        if (run->epoch != epoch) {
                if (run->started || run->busy || run->ending)
                        return 0;
                run_clear(run);
                *run = new_run(runner, vm, epoch);
        }
        *ret = run;
        return 0;
}

int runner_saw_domain(Runner *runner, const VmId *vm, uint64_t epoch, bool paused, bool has_pidfd) {
        Run *run;
        int r = find_or_add_run(runner, vm, epoch, &run);
        if (r < 0)
                return r;
        if (!run) {
                runner->relist = true;  /* a stray, for which there is room when this run is over */
                return 0;
        }
        run->listed = true;
        run->domain = paused && !run->resumed ? RUN_DOMAIN_PAUSED : RUN_DOMAIN_RUNNING;
        run->resumed = run->resumed || !paused;
        run->started = true;
        run->has_pidfd = run->has_pidfd || has_pidfd;
        if (run->process == RUN_PROCESS_UNKNOWN && has_pidfd)
                run->process = RUN_PROCESS_ALIVE;
        return 0;
}

void runner_listed_domains(Runner *runner, uint64_t now_us) {
        runner->domains_known = true;
        ARRAY_EACH(run, &runner->runs) {
                bool starting = run->busy && run->step == RUN_START;
                /* Where a process lives, the listing may be older than its domain; but one that never was listed is
                 * not known to libvirt. */
                if (!run->listed && !starting &&
                    (run->process != RUN_PROCESS_ALIVE || run->domain == RUN_DOMAIN_UNKNOWN))
                        run->domain = RUN_DOMAIN_ABSENT;
                run->listed = false;
                if (run->domain == RUN_DOMAIN_RUNNING && run->running_since_us == 0)
                        run->running_since_us = now_us;
        }
}

void runner_domain_started(Runner *runner, const VmId *vm) {
        const Run *run = find_run(runner, vm);
        if (!run || !run->busy || run->step != RUN_START)
                runner->relist = true;
}

/* An event bears no epoch, and one of the last epoch may come late: where nothing was started yet it says nothing, and
 * where a process is known, it is what counts. */
int runner_domain_stopped(Runner *runner, const VmId *vm, EndCause cause, uint64_t now_us) {
        Run *run = find_run(runner, vm);
        if (!run || !run->started || (run->busy && run->step == RUN_START))
                return 0;
        run->stop_seen = true;
        run->stop_seen_us = now_us;
        run->stop_cause = cause;
        if (run->process == RUN_PROCESS_ALIVE)
                return 0;
        run->domain = RUN_DOMAIN_ABSENT;
        if (run->destroyed_us == 0)
                run->destroyed_us = now_us;
        return begin_end(run, cause, NULL);
}

void runner_domain_resumed(Runner *runner, const VmId *vm, uint64_t now_us) {
        Run *run = find_run(runner, vm);
        if (!run || run->domain != RUN_DOMAIN_PAUSED || !run->permitted)
                return;
        run->domain = RUN_DOMAIN_RUNNING;
        run->resumed = true;
        if (run->running_since_us == 0)
                run->running_since_us = now_us;
}

int runner_guard_holds(Runner *runner, const VmId *vm, uint64_t epoch, bool alive, uint64_t now_us) {
        Run *run;
        int r = find_or_add_run(runner, vm, epoch, &run);
        if (r < 0 || !run)
                return r;
        run->held = true;
        run->started = true;
        if (!alive) {
                note_death(run, now_us);
                return 0;
        }
        run->process = RUN_PROCESS_ALIVE;
        run->has_pidfd = true;
        run->vacated = false;
        return 0;
}

void runner_guard_listed(Runner *runner) {
        runner->guard_listed = true;
}

int runner_process_died(Runner *runner, const VmId *vm, uint64_t epoch, uint64_t now_us) {
        Run *run = find_run(runner, vm);
        if (!run || run->epoch != epoch)
                return 0;
        note_death(run, now_us);
        if (run->stop_seen)
                run->domain = RUN_DOMAIN_ABSENT;
        return 0;
}

void runner_guard_lost(Runner *runner) {
        runner->guard_usable = false;
        runner->guard_listed = false;
        ARRAY_EACH(run, &runner->runs)
                run->hold_refused = false;
}

void runner_guard_anew(Runner *runner) {
        ARRAY_EACH(run, &runner->runs)
                run->held = run->hold_refused = false;
}

void runner_hypervisor_lost(Runner *runner) {
        runner->hypervisor_usable = false;
        runner->domains_known = false;
        ARRAY_EACH(run, &runner->runs)
                run->destroyed_us = 0;
}

/* ---- leases */

int runner_end_all(Runner *runner, EndCause cause, const char *sentence) {
        ARRAY_EACH(run, &runner->runs) {
                int r = run->started ? begin_end(run, cause, sentence) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Has anybody who would know said what there is? */
static bool is_known(const Runner *runner) {
        return runner->domains_known || runner->nothing_before || (runner->guard_listed && runner->guard_trusted);
}

static bool may_live(const Run *run) {
        return run->process == RUN_PROCESS_ALIVE ||
               (run->process == RUN_PROCESS_UNKNOWN && run->started && run->domain != RUN_DOMAIN_ABSENT);
}

bool runner_is_guarded(const Runner *runner) {
        if (!runner->guard_usable || !runner->guard_listed || !is_known(runner))
                return false;
        ARRAY_EACH(run, &runner->runs)
                if (may_live(run) && may_compute(run) && !run->held)
                        return false;
        return true;
}

bool runner_holds_living(const Runner *runner) {
        ARRAY_EACH(run, &runner->runs)
                if (run->held && run->process == RUN_PROCESS_ALIVE)
                        return true;
        return false;
}

bool runner_anything_lives(const Runner *runner) {
        if (!is_known(runner))
                return true;
        ARRAY_EACH(run, &runner->runs)
                if (may_live(run))
                        return true;
        return false;
}

bool runner_is_clean(const Runner *runner) {
        if (MUTANT(RETURN_UNPROVEN))
                return true;
        if (!runner->nothing_before && !(runner->guard_listed && runner->domains_known))
                return false;
        ARRAY_EACH(run, &runner->runs)
                if (may_live(run) || run->busy || run->holding)
                        return false;
        return true;
}

const char *runner_stage(const Runner *runner, const VmId *vm) {
        const Run *run = find_run(runner, vm);
        if (!run)
                return NULL;
        if (run->ending || run->shutdown_asked)
                return "stopping";
        switch (run->domain) {
        case RUN_DOMAIN_PAUSED:
                return "guarding";
        case RUN_DOMAIN_RUNNING:
                return "running";
        case RUN_DOMAIN_UNKNOWN:
        case RUN_DOMAIN_ABSENT:
                break;
        }
        return "binding";
}
