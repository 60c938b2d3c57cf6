/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job-wait.h"

#include <errno.h>
#include <signal.h>

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/errors.h"
#include "ctl/find.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/progress.h"

#define TICK_US 1000000U
#define LOOK_AGAIN_US (5 * 1000000ULL)          /* how often a job is asked that sent no signal */
#define COMEBACK_US (30 * 1000000ULL)           /* a service that restarts reads its registry first */
#define BRIEF_CALL_US (2 * 1000000ULL)
#define PROPERTIES "org.freedesktop.DBus.Properties"

typedef struct Waited {
        JobObject job;          /* as far as is known */
        char *name;             /* what it works on */
        bool ended;
        uint64_t asked_us;      /* when it was asked last */
        uint64_t ended_us;
} Waited;

struct JobWait {
        Ctl *ctl;
        ARRAY(Waited) jobs;
        sd_bus_slot *removed, *changed, *owner;
        char *sender;           /* the service's unique name: nobody else speaks for it */
        Progress *progress;     /* one job, and a terminal */
        uint64_t began_us;
        Status status;
};

JobWait *job_wait_free(JobWait *wait) {
        if (!wait)
                return NULL;
        sd_bus_slot_unref(wait->removed);
        sd_bus_slot_unref(wait->changed);
        sd_bus_slot_unref(wait->owner);
        ARRAY_EACH(waited, &wait->jobs) {
                job_object_clear(&waited->job);
                free(waited->name);
        }
        array_clear(&wait->jobs);
        progress_freep(&wait->progress);
        free(wait->sender);
        free(wait);
        return NULL;
}

static Waited *find_waited(JobWait *wait, sd_bus_message *m, const char *path) {
        if (!text_equal(sd_bus_message_get_sender(m), wait->sender))
                return NULL;
        ARRAY_EACH(waited, &wait->jobs)
                if (text_equal(waited->job.path, path))
                        return waited;
        return NULL;
}

static void end_job(Waited *waited, const char *result, const char *error, const char *message) {
        if (waited->ended)
                return;
        MUST(text_set(&waited->job.state, "done"));
        MUST(text_set(&waited->job.result, result));
        MUST(text_set(&waited->job.error, error));
        MUST(text_set(&waited->job.message, message));
        waited->ended = true;
        waited->ended_us = now_boottime_us();
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        JobWait *wait = userdata;
        uint64_t id;
        const char *path, *result, *error, *message;
        if (sd_bus_message_read(m, "tosss", &id, &path, &result, &error, &message) < 0)
                return 0;
        Waited *waited = find_waited(wait, m, path);
        if (waited)
                end_job(waited, result, error, message);
        return 0;
}

/* A call in the middle of the wait must not keep a person from Ctrl-C for long. */
static int call_briefly(Ctl *ctl, const char *path, const char *interface, const char *method, const char *argument,
                        sd_bus_error *reterr_error, sd_bus_message **ret_answer) {
        _cleanup_message_ sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(ctl->bus, &m, BUS_NAME, path, interface, method);
        if (r < 0)
                return r;
        if (argument) {
                r = sd_bus_message_append(m, "s", argument);
                if (r < 0)
                        return r;
        }
        return sd_bus_call(ctl->bus, m, BRIEF_CALL_US, reterr_error, ret_answer);
}

/* All objects as far as they can be read; nobody is told if they cannot. */
static Objects *read_quietly(Ctl *ctl) {
        _cleanup_message_ sd_bus_message *answer = NULL;
        _cleanup_(objects_freep) Objects *objects = objects_new();
        if (call_briefly(ctl, OBJECT_ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, NULL,
                         &answer) >= 0)
                (void) objects_read(objects, answer);
        return STEAL(objects);
}

/* What the line says of a stage that is over: of placing, the node that was chosen and why. */
static char *find_detail(JobWait *wait, const Waited *waited) {
        const char *stage = progress_current(wait->progress);
        if (!text_equal(stage, "placing"))
                return NULL;
        _cleanup_(objects_freep) Objects *objects = read_quietly(wait->ctl);
        const VmObject *vm = objects_vm(objects, waited->job.object);
        if (!vm || text_equal(vm->node, OBJECT_NONE))
                return NULL;
        const char *node = objects_name(objects, vm->node);
        ARRAY_EACH(note, &vm->last_placement)
                if (note->chosen && text_equal(note->node, node) && *note->why)
                        return must_printf("%s (%s)", node, note->why);
        return must_copy(node);
}

static void show_stage(JobWait *wait, const Waited *waited) {
        if (!wait->progress || text_is_empty(waited->job.stage) ||
            text_equal(waited->job.stage, progress_current(wait->progress)))
                return;
        _cleanup_free_ char *detail = find_detail(wait, waited);
        progress_stage(wait->progress, waited->job.stage, detail, now_boottime_us());
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        JobWait *wait = userdata;
        const char *interface;
        Waited *waited = find_waited(wait, m, sd_bus_message_get_path(m));
        if (!waited || waited->ended)
                return 0;
        if (sd_bus_message_read_basic(m, 's', &interface) < 0 || !text_equal(interface, INTERFACE_JOB))
                return 0;
        if (job_object_read(&waited->job, m) >= 0)
                show_stage(wait, waited);
        return 0;
}

/* A service that went away or came back is asked soon. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        JobWait *wait = userdata;
        ARRAY_EACH(waited, &wait->jobs)
                waited->asked_us = 0;
        return 0;
}

Status job_wait_new(Ctl *ctl, JobWait **ret) {
        _cleanup_(job_wait_freep) JobWait *wait = must_zero(sizeof(JobWait));
        wait->ctl = ctl;
        Status status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        if (!ctl->no_wait) {
                int r = sd_bus_match_signal(ctl->bus, &wait->removed, BUS_NAME, OBJECT_ROOT, INTERFACE_MANAGER,
                                            "JobRemoved", on_removed, wait);
                if (r >= 0)
                        r = sd_bus_add_match(ctl->bus, &wait->changed, "type='signal',sender='" BUS_NAME "',interface='"
                                             PROPERTIES "',member='PropertiesChanged',path_namespace='" OBJECT_JOB "'",
                                             on_changed, wait);
                if (r >= 0)
                        r = bus_match_owner(ctl->bus, &wait->owner, on_owner, wait);
                if (r < 0)
                        return ctl_fail(ctl, STATUS_UNREACHABLE, NULL, "The bus does not let gpupoolctl listen: %s.",
                                        strerror(-r));
        }
        *ret = STEAL(wait);
        return STATUS_DONE;
}

void job_wait_add(JobWait *wait, const char *path, const char *operation, const char *object, const char *name) {
        Waited waited = {
                .job = {
                        .path = must_copy(path),
                        .operation = must_copy(operation),
                        .object = must_copy(object),
                        .state = must_copy("running"),
                },
                .name = must_copy(name),
        };
        const char *slash = strrchr(path, '/');
        (void) text_to_u64(slash ? slash + 1 : path, 10, &waited.job.id);
        MUST(array_append(&wait->jobs, &waited));
}

Status job_wait_send(JobWait *wait, Request *request, const char *operation, const char *name) {
        _cleanup_message_ sd_bus_message *answer = NULL;
        if (wait->began_us == 0)
                wait->began_us = now_boottime_us();
        Status status = request_send(wait->ctl, request, &answer);
        if (status != STATUS_DONE) {
                if (wait->status == STATUS_DONE)
                        wait->status = status;
                return status;
        }
        const char *path;
        int r = sd_bus_message_read_basic(answer, 'o', &path);
        if (r < 0)
                return request_refuse_answer(wait->ctl, request, r);
        MUST(text_set(&wait->sender, sd_bus_message_get_sender(answer)));
        job_wait_add(wait, path, operation, sd_bus_message_get_path(request->message), name);
        return STATUS_DONE;
}

/* A service that restarted may not know the job any more; nobody can say then how it ended. */
static void lose_job(JobWait *wait, Waited *waited, const char *error_name) {
        if (error_is_absence(error_name) || text_equal(error_name, "org.freedesktop.DBus.Error.NoReply")) {
                if (bus_await_service(wait->ctl->bus, now_boottime_us() + COMEBACK_US))
                        return;
                if (bus_was_interrupted())
                        return;
                end_job(waited, "failed", "org.freedesktop.DBus.Error.NoReply", "");
                return;
        }
        /* It is slow now; another time, then. */
        if (text_is_empty(error_name) || text_equal(error_name, "org.freedesktop.DBus.Error.Timeout"))
                return;
        _cleanup_free_ char *message = must_printf("gpupoold restarted and no longer knows job %llu (%s %s). See what "
                                                   "became of it: gpupoolctl status",
                                                   (unsigned long long) waited->job.id, waited->job.operation,
                                                   waited->name);
        end_job(waited, "failed", ERROR_OUTCOME_UNKNOWN, message);
}

/* Asks the job itself. */
static void look(JobWait *wait, Waited *waited) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *answer = NULL;
        waited->asked_us = now_boottime_us();
        int r = call_briefly(wait->ctl, waited->job.path, PROPERTIES, "GetAll", INTERFACE_JOB, &error, &answer);
        if (r < 0) {
                lose_job(wait, waited, error.name ? error.name : "");
                return;
        }
        MUST(text_set(&wait->sender, sd_bus_message_get_sender(answer)));
        if (job_object_read(&waited->job, answer) < 0)
                return;
        if (text_equal(waited->job.state, "done")) {
                waited->ended = true;
                waited->ended_us = now_boottime_us();
        }
        show_stage(wait, waited);
}

static bool all_ended(const JobWait *wait) {
        ARRAY_EACH(waited, &wait->jobs)
                if (!waited->ended)
                        return false;
        return true;
}

/* Says that the jobs go on without us, and ends as Ctrl-C would have. */
static void leave(JobWait *wait) {
        if (wait->progress)
                progress_end(wait->progress, PROGRESS_LEFT, NULL, NULL, now_boottime_us());
        ARRAY_EACH(waited, &wait->jobs) {
                unsigned long long id = waited->job.id;
                if (!waited->ended)
                        screen_say(&wait->ctl->err, "Job %llu (%s %s) goes on. Wait for it: gpupoolctl job wait %llu; "
                                   "give it up: gpupoolctl job cancel %llu", id, waited->job.operation,
                                   waited->name, id, id);
        }
        bus_release_interrupt();
        agent_close(&wait->ctl->agent);
        (void) fflush(NULL);
        (void) raise(SIGINT);
}

static Status wait_for_all(JobWait *wait) {
        bus_catch_interrupt();
        while (!all_ended(wait)) {
                uint64_t now_us = now_boottime_us();
                int r = bus_turn(wait->ctl->bus, now_us + TICK_US);
                if (r < 0) {
                        bus_release_interrupt();
                        return ctl_fail(wait->ctl, STATUS_UNKNOWN, NULL,
                                        "The connection to the bus was lost; the job goes "
                                        "on. Look: gpupoolctl job list");
                }
                if (r == BUS_TURN_INTERRUPTED) {
                        leave(wait);
                        return STATUS_FAILED;
                }
                if (r != BUS_TURN_DEADLINE)
                        continue;
                now_us = now_boottime_us();
                if (wait->progress)
                        progress_tick(wait->progress, now_us);
                ARRAY_EACH(waited, &wait->jobs)
                        if (!waited->ended && now_us >= waited->asked_us + LOOK_AGAIN_US)
                                look(wait, waited);
        }
        bus_release_interrupt();
        return STATUS_DONE;
}

/* First what came in during the call, in its order; then the jobs of which nothing did. */
static Status take_first_look(JobWait *wait) {
        int r;
        while ((r = bus_turn(wait->ctl->bus, 0)) == BUS_TURN_WORKED)
                ;
        if (r < 0)
                return ctl_fail(wait->ctl, STATUS_UNKNOWN, NULL,
                                "The connection to the bus was lost; the job goes on.");
        ARRAY_EACH(waited, &wait->jobs)
                if (!waited->ended)
                        look(wait, waited);
        return STATUS_DONE;
}

/* The word for the state in which the operation leaves its object. */
static const char *final_word(const char *operation) {
        if (text_equal(operation, "start") || text_equal(operation, "restart") || text_equal(operation, "move"))
                return "running";
        if (text_equal(operation, "stop") || text_equal(operation, "shutdown"))
                return "stopped";
        if (text_equal(operation, "drain"))
                return "drained";
        if (text_equal(operation, "defragment"))
                return "has its place";
        if (text_equal(operation, "join"))
                return "joined";
        return "done";
}

static Status judge(const Waited *waited, char **ret_sentence) {
        const JobObject *job = &waited->job;
        if (text_equal(job->result, "done"))
                return STATUS_DONE;
        if (text_equal(job->result, "waiting")) {
                *ret_sentence = text_is_empty(job->message) ?
                        must_printf("%s waits, and starts by itself. See why: gpupoolctl vm explain %s", waited->name,
                                    waited->name) :
                        must_copy(job->message);
                return STATUS_WAITS;
        }
        if (text_equal(job->result, "failed")) {
                Asked asked = { .changes = true };
                Status status;
                *ret_sentence = error_to_sentence(text_is_empty(job->error) ? "failed" : job->error, job->message,
                                                  &asked, &status);
                return status;
        }
        if (text_is_empty(job->message))
                *ret_sentence = must_printf("The job to %s %s was %s.", job->operation, waited->name, job->result);
        else
                *ret_sentence = must_copy(job->message);
        return STATUS_FAILED;
}

static void tell_done(JobWait *wait, const Objects *objects, const Waited *waited) {
        double seconds = (double) (waited->ended_us - wait->began_us) / 1e6;
        const VmObject *vm = objects ? objects_vm(objects, waited->job.object) : NULL;
        if (!vm || !text_equal(final_word(waited->job.operation), "running") || text_equal(vm->node, OBJECT_NONE)) {
                if (text_is_empty(waited->job.message))
                        ctl_tell(wait->ctl, "%s: %s (%.1f s)", waited->name, final_word(waited->job.operation),
                                 seconds);
                else
                        ctl_tell(wait->ctl, "%s", waited->job.message);
                return;
        }
        _cleanup_free_ char *with = must_copy("");
        for (size_t i = 0; i < vm->gpus.n; i++)
                must_append(&with, "%s%s", i > 0 ? ", " : " with ", objects_name(objects, vm->gpus.items[i]));
        ctl_tell(wait->ctl, "%s: running on %s%s (%.1f s)", waited->name, objects_name(objects, vm->node), with,
                 seconds);
}

/* What there is now is the other cluster. */
static void tell_joined(JobWait *wait, const Objects *objects) {
        if (!objects)
                return;
        ctl_tell(wait->ctl, "joined %s as %s (%zu node%s).%s", objects->cluster.name,
                 objects_name(objects, objects->cluster.local_node), objects->nodes.n, objects->nodes.n == 1 ? "" : "s",
                 objects->nodes.n == 2 ? " A pair needs a third vote: gpupoolctl check explains a witness." : "");
}

static void tell(JobWait *wait, const Objects *objects, const Waited *waited) {
        _cleanup_free_ char *sentence = NULL;
        bool joins = text_equal(waited->job.operation, "join");
        Status status = judge(waited, &sentence);
        if (wait->status == STATUS_DONE)
                wait->status = status;
        if (wait->progress) {
                _cleanup_free_ char *detail = status == STATUS_DONE ? find_detail(wait, waited) : NULL;
                progress_end(wait->progress, status == STATUS_DONE ? PROGRESS_DONE : PROGRESS_NOT_DONE,
                             final_word(waited->job.operation), detail, waited->ended_us);
        } else if (status == STATUS_DONE && !joins) {
                tell_done(wait, objects, waited);
        }
        if (status == STATUS_DONE && joins)
                tell_joined(wait, objects);
        else if (status == STATUS_WAITS && !wait->ctl->json)
                screen_say(&wait->ctl->out, "%s", sentence);
        else if (status != STATUS_DONE)
                screen_say(&wait->ctl->err, "%s", sentence);
}

static void answer(JobWait *wait, const Objects *objects) {
        Json *document = json_map(), *jobs = json_list();
        ARRAY_EACH(waited, &wait->jobs) {
                if (waited->job.started_at_us == 0)
                        look(wait, waited);
                json_push(jobs, json_of_job(objects, &waited->job));
        }
        json_put(document, "jobs", jobs);
        ctl_answer(wait->ctl, document);
}

Status job_wait_run(JobWait *wait) {
        Ctl *ctl = wait->ctl;
        if (wait->jobs.n == 0)
                return wait->status;
        if (wait->began_us == 0)
                wait->began_us = now_boottime_us();
        if (!ctl->no_wait) {
                if (wait->jobs.n == 1 && ctl->out.terminal && !ctl->quiet && !ctl->json)
                        wait->progress = progress_new(&ctl->out, wait->began_us);
                Status status = take_first_look(wait);
                if (status == STATUS_DONE)
                        status = wait_for_all(wait);
                if (status != STATUS_DONE)
                        return status;
        }

        _cleanup_(objects_freep) Objects *objects = NULL;
        if (ctl->json || (!ctl->quiet && !ctl->no_wait)) {
                Status status = ctl_load(ctl, &objects);
                if (status != STATUS_DONE)
                        return status;
        }
        ARRAY_EACH(waited, &wait->jobs) {
                if (!ctl->no_wait)
                        tell(wait, objects, waited);
                else
                        ctl_tell(ctl, "Job %llu: %s %s. Wait for it: gpupoolctl job wait %llu",
                                 (unsigned long long) waited->job.id, waited->job.operation, waited->name,
                                 (unsigned long long) waited->job.id);
        }
        if (ctl->json)
                answer(wait, objects);
        return wait->status;
}
