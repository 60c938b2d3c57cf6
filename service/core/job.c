/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job.h"

#include <errno.h>

#include "core/clearance.h"
#include "core/names.h"

static Job *job_free(Job *job) {
        if (!job)
                return NULL;
        moves_clear(&job->plan);
        clearance_free(job->clearance);
        free(job->sender);
        free(job->message);
        free(job);
        return NULL;
}

DEFINE_CLEANUP(Job *, job_free);

void jobs_clear(Jobs *jobs) {
        ARRAY_EACH(job, &jobs->all)
                job_free(*job);
        array_clear(&jobs->all);
}

static bool job_is_finished(const Job *job) {
        return job->result != JOB_PENDING;
}

/* Finished jobs are kept for their makers, but no user may fill the service's memory with them. */
static void forget_oldest(Jobs *jobs, uint32_t uid, uint32_t n_kept) {
        size_t n = 0;
        for (size_t i = jobs->all.n; i > 0; i--) {
                Job *job = jobs->all.items[i - 1];
                if (job->uid == uid && job_is_finished(job) && ++n > n_kept)
                        job->forgotten = true;
        }
}

static uint32_t count_running(const Jobs *jobs, uint32_t uid) {
        uint32_t n = 0;
        ARRAY_EACH(job, &jobs->all)
                if ((*job)->uid == uid && !job_is_finished(*job))
                        n++;
        return n;
}

static const struct {
        const char *stage;
        double progress;
} join_stages[JOIN_STAGE_COUNT] = {
        [JOIN_CONNECTING] = { "connecting", 0.1 },
        [JOIN_ADMITTED] = { "admitted", 0.5 },
        [JOIN_RECEIVING] = { "receiving", 0.7 },
};

static const char *first_stage(JobOperation operation) {
        switch (operation) {
        case JOB_START:
                return "placing";
        case JOB_SHUTDOWN:
        case JOB_STOP:
        case JOB_RESTART:
        case JOB_MOVE:
                return "stopping";
        case JOB_DRAIN:
        case JOB_DEFRAGMENT:
                return "moving";
        case JOB_JOIN:
                return join_stages[JOIN_CONNECTING].stage;
        case JOB_OPERATION_COUNT:
                break;
        }
        return "";
}

int jobs_add(Jobs *jobs, JobOperation operation, const JobSubject *about, uint32_t uid, const char *sender,
             uint64_t now_realtime_us, Job **ret) {
        if (jobs->per_user_max > 0 && count_running(jobs, uid) >= jobs->per_user_max)
                return JOB_LIMIT;

        _cleanup_(job_freep) Job *job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        *job = (Job) {
                .id = jobs->next_id,
                .operation = operation,
                .about = *about,
                .uid = uid,
                .started_realtime_us = now_realtime_us,
                .stage = first_stage(operation),
        };
        int r = text_set(&job->sender, sender);
        if (r >= 0)
                r = array_append(&jobs->all, &job);
        if (r < 0)
                return r;

        jobs->next_id++;
        if (jobs->per_user_max > 0)
                forget_oldest(jobs, uid, jobs->per_user_max);
        *ret = STEAL(job);
        return JOB_MADE;
}

static int compare_id(const void *key, const void *item) {
        uint64_t wanted = *(const uint64_t *) key, id = (*(Job *const *) item)->id;
        return wanted < id ? -1 : wanted > id;
}

Job *jobs_find(const Jobs *jobs, uint64_t id) {
        size_t index;
        return array_find(&jobs->all, &id, compare_id, &index) ? jobs->all.items[index] : NULL;
}

void job_finish(Job *job, JobResult result, const char *error, const char *message, uint64_t now_boottime_us) {
        job->result = result;
        job->error = error;
        /* Without memory the job ends without its sentence: better than not at all. */
        (void) text_set(&job->message, message);
        job->ended_boottime_us = now_boottime_us > 0 ? now_boottime_us : 1;
        if (result == JOB_DONE)
                job->progress = 1.0;
}

static uint64_t expiry_us(const Jobs *jobs, const Job *job) {
        uint64_t expiry;
        if (!job_is_finished(job))
                return UINT64_MAX;
        if (job->forgotten)
                return 0;
        return __builtin_add_overflow(job->ended_boottime_us, jobs->linger_us, &expiry) ? UINT64_MAX : expiry;
}

Job *jobs_next_expired(const Jobs *jobs, uint64_t now_boottime_us) {
        ARRAY_EACH(job, &jobs->all)
                if (expiry_us(jobs, *job) <= now_boottime_us)
                        return *job;
        return NULL;
}

uint64_t jobs_next_expiry_us(const Jobs *jobs) {
        uint64_t next = UINT64_MAX;
        ARRAY_EACH(job, &jobs->all) {
                uint64_t expiry = expiry_us(jobs, *job);
                if (expiry < next)
                        next = expiry;
        }
        return next;
}

void jobs_remove(Jobs *jobs, Job *job) {
        size_t index;
        if (!array_find(&jobs->all, &job->id, compare_id, &index))
                return;
        array_remove(&jobs->all, index);
        job_free(job);
}

/* Where on the way from nothing to a running VM a node is. */
static double starting_progress(const char **stage) {
        static const struct {
                const char *stage;
                double progress;
        } stages[] = { { "placing", 0.1 }, { "binding", 0.4 }, { "guarding", 0.7 }, { "running", 0.9 } };

        for (size_t i = 0; i < ELEMENTS(stages); i++)
                if (text_equal(stages[i].stage, *stage)) {
                        *stage = stages[i].stage;
                        return stages[i].progress;
                }
        *stage = "placing";
        return 0.1;
}

static bool move_to(Job *job, const char *stage, double progress) {
        if (text_equal(job->stage, stage) && job->progress >= progress)
                return false;
        job->stage = stage;
        if (progress > job->progress)
                job->progress = progress;
        return true;
}

static bool finish_failed(Job *job, const Vm *vm, const char *outlook, uint64_t now_boottime_us) {
        _cleanup_free_ char *message = NULL;
        (void) text_printf(&message, "vm %s: %s. %s", vm->name, vm->reason ? vm->reason : "it could not be started",
                           outlook);
        job_finish(job, JOB_FAILED, ERROR_FAILED, message, now_boottime_us);
        return true;
}

/* Nobody wants it to run any more: because somebody said so, or because its end and its policy did. */
static bool finish_unwanted(Job *job, const Vm *vm, uint64_t now_boottime_us) {
        if (!vm->reason_code) {
                job_finish(job, JOB_SUPERSEDED, NULL, "somebody asked for the VM to be stopped", now_boottime_us);
                return true;
        }
        if (text_equal(vm->reason_code, end_cause_to_text(END_GUEST_SHUTDOWN))) {
                job_finish(job, JOB_DONE, NULL, vm->reason, now_boottime_us);
                return true;
        }
        return finish_failed(job, vm, "Its policy is not to start it again", now_boottime_us);
}

/* Follows the way up, which begins at @base of the whole. */
static bool follow_start(Job *job, const Vm *vm, double base, const char *stage, const char *wait_code,
                         const char *wait_sentence, uint64_t now_boottime_us) {
        bool tried = vm->epoch > job->about.from_epoch;
        switch (vm_state(vm)) {
        case VM_STATE_RUNNING:
                job->stage = "running";
                job_finish(job, JOB_DONE, NULL, NULL, now_boottime_us);
                return true;
        case VM_STATE_FAILED:
                return finish_failed(job, vm, "Mend that, then start it again", now_boottime_us);
        case VM_STATE_BACKOFF:
                if (tried)
                        return finish_failed(job, vm, "It tries again by itself", now_boottime_us);
                __attribute__((fallthrough));
        case VM_STATE_WAITING:
                if (!text_is_empty(wait_code)) {
                        job_finish(job, JOB_WAITING, NULL, wait_sentence, now_boottime_us);
                        return true;
                }
                return move_to(job, "placing", base + 0.1 * (1 - base));
        case VM_STATE_STARTING: {
                double progress = starting_progress(&stage);
                return move_to(job, stage, base + progress * (1 - base));
        }
        case VM_STATE_STOPPING:
                return move_to(job, "stopping", base * 0.5);
        case VM_STATE_STOPPED:
        case VM_STATE_COUNT:
                break;
        }
        return finish_unwanted(job, vm, now_boottime_us);
}

/* Is it still the run that is to end? One that runs again in the same epoch was asked for twice, and is done. */
static bool is_ending(const Job *job, const Vm *vm) {
        return vm->epoch == job->about.from_epoch && vm->assignment.phase == ASSIGNMENT_STOPPING;
}

static bool follow_restart(Job *job, const Vm *vm, const char *stage, const char *wait_code, const char *wait_sentence,
                           uint64_t now_boottime_us) {
        if (!vm->run)
                return finish_unwanted(job, vm, now_boottime_us);
        if (is_ending(job, vm))
                return move_to(job, "stopping", 0.25);
        return follow_start(job, vm, 0.5, stage, wait_code, wait_sentence, now_boottime_us);
}

/* It runs, but not where it was asked to: there was room, and somebody was faster. */
static bool finish_elsewhere(Job *job, const World *world, const Vm *vm, uint64_t now_boottime_us) {
        const NodeId *target = &job->about.target;
        _cleanup_free_ char *message = NULL;
        job->stage = "running";
        if (id_is_null(target->bytes))
                (void) text_printf(&message, "vm %s runs on %s again: no other node had room when it had stopped. See "
                                             "why: gpupoolctl vm explain %s", vm->name,
                                   world_node_name(world, &vm->assignment.node), vm->name);
        else
                (void) text_printf(&message, "vm %s runs on %s: %s had no room for it when it had stopped. See why: "
                                             "gpupoolctl vm explain %s", vm->name,
                                   world_node_name(world, &vm->assignment.node), world_node_name(world, target),
                                   vm->name);
        job_finish(job, JOB_FAILED, ERROR_NO_CAPACITY, message, now_boottime_us);
        return true;
}

static bool follow_move(Job *job, const World *world, const Vm *vm, const char *stage, const char *wait_code,
                        const char *wait_sentence, uint64_t now_boottime_us) {
        const NodeId *target = &job->about.target, *node = &vm->assignment.node;
        bool arrived = id_is_null(target->bytes) ? !ID_EQUAL(node, &job->about.node) : ID_EQUAL(node, target);
        if (vm->run && vm->assignment.phase == ASSIGNMENT_RUNNING && !arrived)
                return finish_elsewhere(job, world, vm, now_boottime_us);
        return follow_restart(job, vm, stage, wait_code, wait_sentence, now_boottime_us);
}

static bool follow_stop(Job *job, const Vm *vm, uint64_t now_boottime_us) {
        if (vm->run) {
                job_finish(job, JOB_SUPERSEDED, NULL, "somebody asked for the VM to run", now_boottime_us);
                return true;
        }
        if (vm->assignment.phase != ASSIGNMENT_NONE)
                return move_to(job, "stopping", 0.5);
        job_finish(job, JOB_DONE, NULL, NULL, now_boottime_us);
        return true;
}

bool job_follow(Job *job, const World *world, const Vm *vm, const char *stage, const char *wait_code,
                const char *wait_sentence, uint64_t now_boottime_us) {
        if (job_is_finished(job) || id_is_null(job->about.vm.bytes))
                return false;
        if (!vm) {
                job_finish(job, JOB_CANCELED, NULL, "the VM was deleted", now_boottime_us);
                return true;
        }

        switch (job->operation) {
        case JOB_START:
                if (!vm->run)
                        return finish_unwanted(job, vm, now_boottime_us);
                return follow_start(job, vm, 0, stage, wait_code, wait_sentence, now_boottime_us);
        case JOB_RESTART:
                return follow_restart(job, vm, stage, wait_code, wait_sentence, now_boottime_us);
        case JOB_SHUTDOWN:
        case JOB_STOP:
                return follow_stop(job, vm, now_boottime_us);
        case JOB_MOVE:
                return follow_move(job, world, vm, stage, wait_code, wait_sentence, now_boottime_us);
        case JOB_DRAIN:
        case JOB_DEFRAGMENT:
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        return false;
}

static uint32_t count_vms_on(const World *world, const NodeId *node) {
        uint32_t n = 0;
        ARRAY_EACH(vm, &world->registry->vms)
                n += vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node);
        return n;
}

bool job_follow_drain(Job *job, const World *world, const char *obstacle, uint64_t now_boottime_us) {
        const NodeId *id = &job->about.node;
        const NodeRecord *node = registry_find_node(world->registry, id);
        if (job_is_finished(job))
                return false;
        if (!node) {
                job_finish(job, JOB_CANCELED, NULL, "the node was removed from the cluster", now_boottime_us);
                return true;
        }
        if (node->drain == DRAIN_NONE) {
                job_finish(job, JOB_SUPERSEDED, NULL, "somebody lets VMs be placed on the node again", now_boottime_us);
                return true;
        }

        uint32_t n = count_vms_on(world, id);
        if (n == 0) {
                job_finish(job, JOB_DONE, NULL, NULL, now_boottime_us);
                return true;
        }
        if (!text_is_empty(obstacle)) {
                job_finish(job, JOB_WAITING, NULL, obstacle, now_boottime_us);
                return true;
        }
        job->n_vms = n > job->n_vms ? n : job->n_vms;
        bool silent = world_node_state(world, id) == NODE_STATE_SILENT;
        return move_to(job, silent ? "silent" : "moving", 1.0 - (double) n / job->n_vms);
}

int job_end_with_plan(Job *job, const World *world, Moves *plan, uint64_t now_boottime_us) {
        _cleanup_free_ char *message = NULL;
        int r = moves_say(world, &job->about.node, plan, &message);
        if (r < 0)
                return r;
        job->plan = *plan;
        *plan = (Moves) {};
        job_finish(job, moves_are_complete(&job->plan) ? JOB_DONE : JOB_WAITING, NULL, message, now_boottime_us);
        return 0;
}

bool job_join_at(Job *job, JoinStage stage) {
        if (job_is_finished(job) || job->operation != JOB_JOIN || join_stages[stage].progress < job->progress)
                return false;
        return move_to(job, join_stages[stage].stage, join_stages[stage].progress);
}

const char *job_operation_to_text(JobOperation operation) {
        static const char *const texts[JOB_OPERATION_COUNT] = {
                [JOB_START] = "start",
                [JOB_SHUTDOWN] = "shutdown",
                [JOB_STOP] = "stop",
                [JOB_RESTART] = "restart",
                [JOB_MOVE] = "move",
                [JOB_DRAIN] = "drain",
                [JOB_DEFRAGMENT] = "defragment",
                [JOB_JOIN] = "join",
        };
        return texts[operation];
}

const char *job_result_to_text(JobResult result) {
        static const char *const texts[JOB_RESULT_COUNT] = {
                [JOB_PENDING] = "",
                [JOB_DONE] = "done",
                [JOB_FAILED] = "failed",
                [JOB_CANCELED] = "canceled",
                [JOB_WAITING] = "waiting",
                [JOB_SUPERSEDED] = "superseded",
        };
        return texts[result];
}
