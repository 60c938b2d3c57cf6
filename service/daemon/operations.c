/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/operations.h"

#include <errno.h>
#include <time.h>

#include "core/names.h"
#include "core/vm-reason.h"

/* A request whose entry is on its way; it becomes a job when it is committed. */
typedef struct Operation {
        Operations *operations;
        JobOperation kind;
        JobSubject about;
        uint32_t uid;
        char *sender;
        bool refused;                   /* over the limit: answered from the loop, never submitted */
        sd_event_source *answer;
        OperateCallback callback;
        void *userdata;
} Operation;

struct Operations {
        OperationsConfig config;
        Bus *bus;
        Jobs jobs;
        ARRAY(Operation *) under_way;
        sd_event_source *expiry;
        sd_event_source *patience;      /* a job is to be looked at again */
};

static uint64_t now_us(const Operations *operations, clockid_t clock) {
        uint64_t now = 0;
        (void) sd_event_now(operations->config.event, clock, &now);
        return now;
}

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata);
static int on_patience(sd_event_source *source, uint64_t usec, void *userdata);

int operations_new(Operations **ret, const OperationsConfig *config) {
        _cleanup_(operations_freep) Operations *operations = calloc(1, sizeof(*operations));
        if (!operations)
                return -ENOMEM;
        operations->config = *config;
        operations->jobs.per_user_max = config->jobs_per_user;
        operations->jobs.linger_us = config->linger_us;
        operations->jobs.next_id = 1;
        int r = sd_event_add_time(config->event, &operations->expiry, CLOCK_BOOTTIME, UINT64_MAX, 0, on_expiry,
                                  operations);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(operations->expiry, SD_EVENT_ON);
        if (r >= 0)
                r = sd_event_add_time(config->event, &operations->patience, CLOCK_BOOTTIME, UINT64_MAX, 0, on_patience,
                                      operations);
        if (r < 0)
                return r;
        *ret = STEAL(operations);
        return 0;
}

static void operation_free(Operation *operation) {
        Operations *operations = operation->operations;
        for (size_t i = 0; i < operations->under_way.n; i++)
                if (operations->under_way.items[i] == operation) {
                        array_remove(&operations->under_way, i);
                        break;
                }
        sd_event_source_disable_unref(operation->answer);
        free(operation->sender);
        free(operation);
}

Operations *operations_free(Operations *operations) {
        if (!operations)
                return NULL;
        while (operations->under_way.n > 0)
                operation_free(operations->under_way.items[0]);
        array_clear(&operations->under_way);
        jobs_clear(&operations->jobs);
        sd_event_source_disable_unref(operations->expiry);
        sd_event_source_disable_unref(operations->patience);
        free(operations);
        return NULL;
}

void operations_set_bus(Operations *operations, Bus *bus) {
        operations->bus = bus;
}

Jobs *operations_jobs(Operations *operations) {
        return &operations->jobs;
}

void operations_set_first_id(Operations *operations, uint64_t id) {
        operations->jobs.next_id = id;
}

/* ---- beginning */

static uint32_t count_of_user(const Operations *operations, uint32_t uid) {
        uint32_t n = 0;
        ARRAY_EACH(job, &operations->jobs.all)
                n += (*job)->uid == uid && (*job)->result == JOB_PENDING;
        ARRAY_EACH(operation, &operations->under_way)
                n += (*operation)->uid == uid;
        return n;
}

static int on_refused(sd_event_source *source, void *userdata) {
        Operation *operation = userdata;
        Result result = { .verdict = VERDICT_LIMITS_EXCEEDED };
        (void) text_printf(&result.sentence,
                           "you have %u unfinished jobs on this node, the most there may be: wait for one",
                           operation->operations->config.jobs_per_user);
        operation->callback(SUBMIT_COMMITTED, &result, NULL, operation->userdata);
        result_clear(&result);
        operation_free(operation);
        return 0;
}

static void begin_job(Operation *operation) {
        Operations *operations = operation->operations;
        Job *job = NULL;
        int r = jobs_add(&operations->jobs, operation->kind, &operation->about, operation->uid, operation->sender,
                         now_us(operations, CLOCK_REALTIME), &job);
        if (r != JOB_MADE) {
                /* It happens all the same, only nobody can watch it. */
                operation->callback(SUBMIT_OUTCOME_UNKNOWN, NULL, NULL, operation->userdata);
                return;
        }
        if (operations->bus)
                bus_job_added(operations->bus, job);
        Result done = { .verdict = VERDICT_DONE };
        operation->callback(SUBMIT_COMMITTED, &done, job, operation->userdata);
        operations->config.changed(operations->config.userdata);
}

static void on_committed(SubmitOutcome outcome, const Result *result, void *userdata) {
        Operation *operation = userdata;
        if (outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE)
                begin_job(operation);
        else
                operation->callback(outcome, result, NULL, operation->userdata);
        operation_free(operation);
}

static int read_id(const ProtobufCBinaryData *message, uint8_t ret[static ID_SIZE]) {
        if (message->len != ID_SIZE)
                return -EINVAL;
        memcpy(ret, message->data, ID_SIZE);
        return 0;
}

static int read_move(const Gpupool1__MoveVm *command, JobSubject *ret) {
        int r = read_id(&command->vm, ret->vm.bytes);
        if (r < 0 || command->node.len == 0)
                return r;
        return read_id(&command->node, ret->target.bytes);
}

/* What the job of this entry is about. */
static int read_subject(const Registry *registry, const Entry *entry, JobSubject *ret) {
        int r = -EINVAL;
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_SET_DESIRED)
                r = read_id(&entry->set_desired->vm, ret->vm.bytes);
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_MOVE_VM)
                r = read_move(entry->move_vm, ret);
        else if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE)
                r = read_id(&entry->drain_node->node, ret->node.bytes);
        const Vm *vm = r < 0 ? NULL : registry_find_vm(registry, &ret->vm);
        if (!vm)
                return r;
        ret->from_epoch = vm->epoch;
        if (vm->assignment.phase != ASSIGNMENT_NONE)
                ret->node = vm->assignment.node;
        return 0;
}

int operations_begin(Operations *operations, Entry *entry, JobOperation kind, const Caller *caller,
                     OperateCallback callback, void *userdata) {
        JobSubject about = {};
        int r = read_subject(history_registry(operations->config.history), entry, &about);
        if (r < 0)
                return r;

        bool over = count_of_user(operations, caller->uid) >= operations->config.jobs_per_user;
        Operation *operation = calloc(1, sizeof(*operation));
        if (!operation)
                return -ENOMEM;
        *operation = (Operation) { .operations = operations, .kind = kind, .about = about, .uid = caller->uid,
                                   .refused = over, .callback = callback, .userdata = userdata };

        r = text_set(&operation->sender, caller->sender);
        if (r >= 0)
                r = array_append(&operations->under_way, &operation);
        if (r >= 0 && over)
                r = sd_event_add_defer(operations->config.event, &operation->answer, on_refused, operation);
        else if (r >= 0)
                r = history_submit(operations->config.history, entry, on_committed, operation);
        if (r < 0)
                operation_free(operation);
        return r;
}

/* ---- the way to the end */

static int set_expiry(Operations *operations) {
        return sd_event_source_set_time(operations->expiry, jobs_next_expiry_us(&operations->jobs));
}

static void announce_end(Operations *operations, const Job *job) {
        if (operations->bus)
                bus_job_ended(operations->bus, job);
        (void) set_expiry(operations);
        operations->config.changed(operations->config.userdata);
}

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata) {
        Operations *operations = userdata;
        uint64_t now = now_us(operations, CLOCK_BOOTTIME);
        for (Job *job; (job = jobs_next_expired(&operations->jobs, now));) {
                if (operations->bus)
                        bus_job_forgotten(operations->bus, job);
                jobs_remove(&operations->jobs, job);
        }
        operations->config.changed(operations->config.userdata);
        return set_expiry(operations);
}

static int follow_drain(Job *job, const World *world, bool settled, uint64_t now, bool *ret_changed) {
        _cleanup_free_ char *obstacle = NULL;
        int r = settled ? drain_obstacle(world, &job->about.node, &obstacle) : 0;
        if (r >= 0)
                *ret_changed = job_follow_drain(job, world, obstacle, now);
        return r;
}

static int follow_vm(Operations *operations, Job *job, const World *world, bool settled, uint64_t now,
                     bool *ret_changed) {
        _cleanup_free_ char *code = NULL, *sentence = NULL;
        const Vm *vm = registry_find_vm(world->registry, &job->about.vm);
        if (settled && vm && vm_state(vm) == VM_STATE_WAITING) {
                int r = vm_reason(world, vm, &code, &sentence);
                if (r < 0)
                        return r;
        }
        const char *stage = vm ? operations->config.stage(vm, operations->config.userdata) : NULL;
        *ret_changed = job_follow(job, world, vm, stage, code, sentence, now);
        return 0;
}

/* ---- making room */

/* A move that was proposed for a job, which may have ended meanwhile. */
typedef struct Proposed {
        Operations *operations;
        uint64_t job;
} Proposed;

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        Operations *operations = userdata;
        operations->config.changed(operations->config.userdata);
        return 0;
}

/* Why it was not done, or may not have been. */
static void say_refusal(SubmitOutcome outcome, const Result *result, const char **ret_error,
                        const char **ret_sentence) {
        switch (outcome) {
        case SUBMIT_COMMITTED:
                *ret_error = verdict_to_error(result->verdict);
                *ret_sentence = result->sentence ?: "the registry refuses it";
                return;
        case SUBMIT_NO_QUORUM:
                *ret_error = ERROR_NO_QUORUM;
                *ret_sentence = "a majority of the voters cannot be reached";
                return;
        case SUBMIT_STORAGE_FULL:
                *ret_error = ERROR_STORAGE_FULL;
                *ret_sentence = "the registry's file system is full";
                return;
        case SUBMIT_STORAGE_WAITED_FOR:
        case SUBMIT_OUTCOME_UNKNOWN:
                *ret_error = ERROR_OUTCOME_UNKNOWN;
                *ret_sentence = "it was not confirmed in time, and may happen still";
                return;
        case SUBMIT_STOPPING:
                break;
        }
        *ret_error = ERROR_UNREACHABLE;
        *ret_sentence = "gpupoold is going down";
}

static void refuse_move(Operations *operations, Job *job, const char *error, const char *sentence) {
        const World world = { .registry = history_registry(operations->config.history) };
        job_clearance_refused(job, &world, error, sentence, now_us(operations, CLOCK_BOOTTIME));
}

static void on_proposed(SubmitOutcome outcome, const Result *result, void *userdata) {
        _cleanup_free_ Proposed *proposed = userdata;
        Operations *operations = proposed->operations;
        Job *job = jobs_find(&operations->jobs, proposed->job);
        const char *error, *sentence;
        if (outcome == SUBMIT_STOPPING || !job || job->result != JOB_PENDING)
                return;
        if (outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE)
                job_clearance_decided(job);
        else {
                say_refusal(outcome, result, &error, &sentence);
                refuse_move(operations, job, error, sentence);
        }
        if (job->result != JOB_PENDING)
                announce_end(operations, job);
        operations->config.changed(operations->config.userdata);
}

/* In the name of who asked for it: by the right that was asked for at the beginning. */
static int propose_move(Operations *operations, Job *job, const World *world) {
        const Clearance *clearance = job->clearance;
        const Vm *vm = registry_find_vm(world->registry, &clearance->now.vm);
        Gpupool1__MoveVm move = GPUPOOL1__MOVE_VM__INIT;
        EntryAuthor author = GPUPOOL1__AUTHOR__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        Proposed *proposed = malloc(sizeof(*proposed));
        if (!proposed)
                return -ENOMEM;
        *proposed = (Proposed) { .operations = operations, .job = job->id };
        move.vm = id_message_borrow((uint8_t *) clearance->now.vm.bytes);
        move.node = id_message_borrow((uint8_t *) clearance->now.to.bytes);
        move.epoch = vm ? vm->epoch : 0;
        move.shutdown = true;
        move.timeout_ms = clearance->timeout_ms;
        author.uid = job->uid;
        author.user = clearance->user;
        author.action = (char *) ACTION_MANAGE_POOL;
        entry.author = &author;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        entry.move_vm = &move;
        int r = history_submit(operations->config.history, &entry, on_proposed, proposed);
        if (r >= 0)
                return 0;
        free(proposed);
        if (r == -ENOMEM)
                return r;
        refuse_move(operations, job, ERROR_LIMITS_EXCEEDED, "too many changes wait to be committed");
        return 0;
}

static int follow_defragment(Operations *operations, Job *job, const World *world, bool settled, uint64_t now,
                             bool *ret_changed) {
        int r = job_follow_clearance(job, world, settled, now, ret_changed);
        if (r == CLEARANCE_MOVES) {
                r = propose_move(operations, job, world);
                *ret_changed = *ret_changed || job->result != JOB_PENDING;
                return r;
        }
        if (r != CLEARANCE_WAITS || now >= job->clearance->look_again_us)
                return r < 0 ? r : 0;
        r = sd_event_source_set_time(operations->patience, job->clearance->look_again_us);
        return r < 0 ? r : sd_event_source_set_enabled(operations->patience, SD_EVENT_ONESHOT);
}

static int follow_one(Operations *operations, Job *job, const World *world, bool settled, uint64_t now,
                      bool *ret_changed) {
        switch (job->operation) {
        case JOB_DRAIN:
                return follow_drain(job, world, settled, now, ret_changed);
        case JOB_DEFRAGMENT:
                return follow_defragment(operations, job, world, settled, now, ret_changed);
        case JOB_START:
        case JOB_SHUTDOWN:
        case JOB_STOP:
        case JOB_RESTART:
        case JOB_MOVE:
                return follow_vm(operations, job, world, settled, now, ret_changed);
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        return 0;
}

int operations_follow(Operations *operations, const World *world, bool settled) {
        uint64_t now = now_us(operations, CLOCK_BOOTTIME);
        for (size_t i = 0; i < operations->jobs.all.n; i++) {
                Job *job = operations->jobs.all.items[i];
                bool changed = false;
                if (job->result != JOB_PENDING)
                        continue;
                int r = follow_one(operations, job, world, settled, now, &changed);
                if (r < 0)
                        return r;
                if (!changed)
                        continue;
                if (job->result != JOB_PENDING)
                        announce_end(operations, job);
                else
                        operations->config.changed(operations->config.userdata);
        }
        return 0;
}

/* ---- jobs that no entry begins */

static int begin_silently(Operations *operations, JobOperation kind, const JobSubject *about, const Caller *caller,
                          Job **ret) {
        return jobs_add(&operations->jobs, kind, about, caller->uid, caller->sender,
                        now_us(operations, CLOCK_REALTIME), ret);
}

static void announce_beginning(Operations *operations, const Job *job) {
        if (operations->bus)
                bus_job_added(operations->bus, job);
        operations->config.changed(operations->config.userdata);
}

int operations_try_drain(Operations *operations, const World *world, const NodeId *node, const Caller *caller,
                         const Job **ret) {
        _cleanup_(moves_clear) Moves plan = {};
        Job *job = NULL;
        int r = moves_of_drain(world, node, &plan);
        if (r >= 0)
                r = begin_silently(operations, JOB_DRAIN, &((JobSubject) { .node = *node }), caller, &job);
        if (r != JOB_MADE)
                return r;
        r = job_end_with_plan(job, world, &plan, now_us(operations, CLOCK_BOOTTIME));
        if (r < 0) {
                jobs_remove(&operations->jobs, job);
                return r;
        }
        announce_beginning(operations, job);
        announce_end(operations, job);
        *ret = job;
        return JOB_MADE;
}

int operations_defragment(Operations *operations, const World *world, const Defragmentation *wish,
                          const Caller *caller, const Job **ret) {
        _cleanup_(clearance_freep) Clearance *clearance = NULL;
        Job *job = NULL;
        int r = clearance_new(&clearance, caller->user, &wish->request, wish->pools, wish->timeout_ms, wish->plan);
        if (r >= 0)
                r = begin_silently(operations, JOB_DEFRAGMENT, &((JobSubject) { .vm = wish->vm }), caller, &job);
        if (r != JOB_MADE)
                return r;
        if (!wish->dry_run)
                job->clearance = STEAL(clearance);
        else
                r = job_end_with_clearance(job, world, wish->plan, now_us(operations, CLOCK_BOOTTIME));
        if (r < 0) {
                jobs_remove(&operations->jobs, job);
                return r;
        }
        announce_beginning(operations, job);
        if (wish->dry_run)
                announce_end(operations, job);
        *ret = job;
        return JOB_MADE;
}

int operations_stop_defragment(Operations *operations, const World *world, const Job *job) {
        Job *own = jobs_find(&operations->jobs, job->id);
        if (!own || own->result != JOB_PENDING)
                return -EBUSY;
        job_cancel_clearance(own, world, now_us(operations, CLOCK_BOOTTIME));
        announce_end(operations, own);
        return 0;
}

int operations_begin_join(Operations *operations, const Caller *caller, const Job **ret) {
        Job *job = NULL;
        int r = begin_silently(operations, JOB_JOIN, &((JobSubject) {}), caller, &job);
        if (r != JOB_MADE)
                return r;
        announce_beginning(operations, job);
        *ret = job;
        return JOB_MADE;
}

void operations_join_at(Operations *operations, uint64_t id, JoinStage stage) {
        Job *job = jobs_find(&operations->jobs, id);
        if (job && job_join_at(job, stage))
                operations->config.changed(operations->config.userdata);
}

void operations_end_join(Operations *operations, uint64_t id, JobResult result, const char *error,
                         const char *message) {
        Job *job = jobs_find(&operations->jobs, id);
        if (!job || job->result != JOB_PENDING)
                return;
        job_finish(job, result, error, message, now_us(operations, CLOCK_BOOTTIME));
        announce_end(operations, job);
}

/* ---- canceling: a start becomes a stop, a drained node takes VMs again; what ends a VM cannot be taken back */

typedef struct Cancel {
        Operations *operations;
        uint64_t job;
        SubmitCallback callback;
        void *userdata;
} Cancel;

static void on_canceled(SubmitOutcome outcome, const Result *result, void *userdata) {
        _cleanup_free_ Cancel *cancel = userdata;
        Operations *operations = cancel->operations;
        Job *job = jobs_find(&operations->jobs, cancel->job);
        if (job && job->result == JOB_PENDING && outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE) {
                const char *message = job->operation == JOB_DRAIN ?
                                "it was canceled; VMs are placed on the node again, and those that left stay away" :
                                "it was canceled; the VM is stopped again";
                job_finish(job, JOB_CANCELED, NULL, message, now_us(operations, CLOCK_BOOTTIME));
                announce_end(operations, job);
        }
        cancel->callback(outcome, result, cancel->userdata);
}

int operations_cancel(Operations *operations, Entry *entry, const Job *job, SubmitCallback callback, void *userdata) {
        bool can_be = job->operation == JOB_START || job->operation == JOB_RESTART || job->operation == JOB_DRAIN;
        if (job->result != JOB_PENDING || !can_be)
                return -EBUSY;

        Cancel *cancel = malloc(sizeof(*cancel));
        if (!cancel)
                return -ENOMEM;
        *cancel = (Cancel) { .operations = operations, .job = job->id, .callback = callback, .userdata = userdata };
        int r = history_submit(operations->config.history, entry, on_canceled, cancel);
        if (r < 0)
                free(cancel);
        return r;
}
