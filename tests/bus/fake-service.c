/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupoold without anything behind it: the real bus library on the real registry in memory. Each line on standard input
 * is a command, answered by a line "ok" (with what was asked for before it) once it is done; see commands[] below.
 *
 *     fake-service [--gpus N] [--user NAME] [--questions N] [--jobs N] */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <systemd/sd-event.h>

#include "adapters/bus/bus.h"
#include "become.h"
#include "core/names.h"
#include "fake-world.h"
#include "util/log.h"

typedef struct Fake Fake;

/* A request that was submitted. */
typedef struct Submitted {
        Fake *fake;
        uint8_t *bytes;
        size_t size;
        SubmitCallback submitted;
        OperateCallback operated;
        InviteCallback invited;
        bool no_entry;                  /* it is nothing that the registry knows: leaving, a backup */
        uint64_t lifetime_ms;
        void *userdata;
        JobOperation operation;
        Caller caller;
        bool over;                      /* the user has too many jobs already */
} Submitted;

typedef struct XmlCheck {
        Fake *fake;
        CheckXmlCallback callback;
        void *userdata;
} XmlCheck;

struct Fake {
        sd_event *event;
        Bus *bus;
        FakeWorld *world;
        Jobs jobs;
        NodeId voter;
        bool quorate;
        bool held;                      /* requests and XML checks wait for "let-go" */
        SubmitOutcome outcome;
        const char *xml_error;
        char *ending;                   /* a VM that ends, as its node says */
        bool cancel_is_late;
        bool busy;                      /* VMs run here: it may not go */
        unsigned n_resets;
        size_t n_imported;
        GPtrArray *submitted;
        GPtrArray *xml_checks;
        unsigned n_submitted, n_xml_checks;
        GString *input;
};

/* ---- the service that the bus sees */

static const World *get_world(void *userdata) {
        return &((Fake *) userdata)->world->world;
}

static void get_status(void *userdata, ClusterStatus *ret) {
        Fake *fake = userdata;
        *ret = (ClusterStatus) { .leader = fake->quorate ? fake->voter : (NodeId) {}, .quorate = fake->quorate,
                                 .voters = &fake->voter,
                                 .n_voters = 1 };
}

static Jobs *get_jobs(void *userdata) {
        return &((Fake *) userdata)->jobs;
}

static void emit_events_from(Fake *fake, uint64_t first) {
        ARRAY_EACH(event, &fake->world->registry->events)
                if (event->sequence >= first)
                        bus_emit_event(fake->bus, event);
}

static Job *make_job(Fake *fake, JobOperation operation, const JobSubject *about, const Caller *caller) {
        Job *job = NULL;
        g_assert_cmpint(jobs_add(&fake->jobs, operation, about, caller->uid, caller->sender,
                                 (uint64_t) g_get_real_time(), &job), ==, JOB_MADE);
        return job;
}

/* Of the kinds of entries that become jobs. */
static JobSubject subject_of(const Fake *fake, const Entry *entry) {
        JobSubject about = {};
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE) {
                memcpy(about.node.bytes, entry->drain_node->node.data, ID_SIZE);
                return about;
        }
        bool moves = entry->command_case == GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        g_assert_true(moves || entry->command_case == GPUPOOL1__ENTRY__COMMAND_SET_DESIRED);
        memcpy(about.vm.bytes, moves ? entry->move_vm->vm.data : entry->set_desired->vm.data, ID_SIZE);
        if (moves && entry->move_vm->node.len == ID_SIZE)
                memcpy(about.target.bytes, entry->move_vm->node.data, ID_SIZE);
        const Vm *vm = registry_find_vm(fake->world->registry, &about.vm);
        about.from_epoch = vm ? vm->epoch : 0;
        return about;
}

/* Tells the caller, whoever it is. */
static void answer(const Submitted *s, SubmitOutcome outcome, const Result *result, const Job *job) {
        g_autofree char *token = g_strdup_printf("gp1-good-for-%" G_GUINT64_FORMAT, s->lifetime_ms);
        if (s->operated)
                s->operated(outcome, result, job, s->userdata);
        else if (s->invited)
                s->invited(outcome, result, token, s->userdata);
        else
                s->submitted(outcome, result, s->userdata);
}

static void complete(Submitted *s) {
        Fake *fake = s->fake;
        Result result = {};
        Job *job = NULL;
        if (s->over) {
                result.verdict = VERDICT_LIMITS_EXCEEDED;
                g_assert_cmpint(text_set(&result.sentence, "you have too many unfinished jobs"), ==, 0);
        } else if (fake->busy) {
                result.verdict = VERDICT_IN_USE;
                g_assert_cmpint(text_set(&result.sentence, "vm bert is assigned to node a: stop it first"), ==, 0);
        } else if (fake->outcome == SUBMIT_COMMITTED && !s->no_entry) {
                uint64_t first = fake->world->registry->next_event;
                _cleanup_(entry_freep) Entry *entry = gpupool1__entry__unpack(NULL, s->size, s->bytes);
                fake_world_apply(fake->world, entry, &result);
                bus_invalidate(fake->bus);
                emit_events_from(fake, first);
                if (result.verdict == VERDICT_DONE && s->operated) {
                        const JobSubject about = subject_of(fake, entry);
                        job = make_job(fake, s->operation, &about, &s->caller);
                        bus_job_added(fake->bus, job);
                }
        }
        answer(s, fake->outcome, &result, job);
        result_clear(&result);
        g_free(s->caller.user);
        g_free(s->caller.sender);
        free(s->bytes);
        g_free(s);
}

static void answer_xml(XmlCheck *check) {
        const char *error = check->fake->xml_error;
        check->callback(error, error ? "libvirt says: unsupported machine type" : NULL, check->userdata);
        g_free(check);
}

/* Answers come from the loop, never from within a call. */
static int on_idle(sd_event_source *source, void *userdata) {
        Fake *fake = userdata;
        if (!fake->held) {
                while (fake->submitted->len > 0)
                        complete(g_ptr_array_steal_index(fake->submitted, 0));
                while (fake->xml_checks->len > 0)
                        answer_xml(g_ptr_array_steal_index(fake->xml_checks, 0));
        }
        sd_event_source_disable_unref(source);
        return 0;
}

static void work_later(Fake *fake) {
        sd_event_source *source = NULL;
        g_assert_cmpint(sd_event_add_defer(fake->event, &source, on_idle, fake), >=, 0);
}

static Submitted *keep(Fake *fake, const Entry *entry, void *userdata) {
        Submitted *s = g_new0(Submitted, 1);
        *s = (Submitted) { .fake = fake, .userdata = userdata };
        EntryAuthor author = *entry->author;    /* the daemon fills in where it came in */
        author.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = fake->world->nodes[0]->node.bytes };
        Entry whole = *entry;
        whole.author = &author;
        g_assert_cmpint(entry_encode(&whole, &s->bytes, &s->size), ==, 0);
        g_ptr_array_add(fake->submitted, s);
        fake->n_submitted++;
        work_later(fake);
        return s;
}

static int submit(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata) {
        keep(userdata, entry, callback_userdata)->submitted = callback;
        return 0;
}

static unsigned running_jobs(const Fake *fake, uint32_t uid) {
        unsigned n = 0;
        ARRAY_EACH(job, &fake->jobs.all)
                n += (*job)->uid == uid && (*job)->result == JOB_PENDING;
        return n;
}

static int operate(void *userdata, Entry *entry, JobOperation operation, const Caller *caller, OperateCallback callback,
                   void *callback_userdata) {
        Fake *fake = userdata;
        Submitted *s = keep(fake, entry, callback_userdata);
        s->operated = callback;
        s->operation = operation;
        s->over = running_jobs(fake, caller->uid) >= fake->jobs.per_user_max;
        s->caller = (Caller) { .uid = caller->uid, .user = g_strdup(caller->user), .sender = g_strdup(caller->sender) };
        return 0;
}

static int try_drain(void *userdata, const NodeId *node, const Caller *caller, const Job **ret_job) {
        Fake *fake = userdata;
        Moves plan = {};
        if (running_jobs(fake, caller->uid) >= fake->jobs.per_user_max)
                return -EUSERS;
        g_assert_cmpint(moves_of_drain(&fake->world->world, node, &plan), ==, 0);
        Job *job = make_job(fake, JOB_DRAIN, &(JobSubject) { .node = *node }, caller);
        g_assert_cmpint(job_end_with_plan(job, &fake->world->world, &plan, 1), ==, 0);
        bus_job_added(fake->bus, job);
        bus_job_ended(fake->bus, job);
        *ret_job = job;
        return 0;
}

static int defragment(void *userdata, const Defragmentation *wish, const Caller *caller, const Job **ret_job) {
        Fake *fake = userdata;
        if (running_jobs(fake, caller->uid) >= fake->jobs.per_user_max)
                return -EUSERS;
        Job *job = make_job(fake, JOB_DEFRAGMENT, &(JobSubject) { .vm = wish->vm }, caller);
        if (!wish->dry_run)
                g_assert_cmpint(clearance_new(&job->clearance, caller->user, &wish->request, wish->pools,
                                              wish->timeout_ms, wish->plan), ==, 0);
        else
                g_assert_cmpint(job_end_with_clearance(job, &fake->world->world, wish->plan, 1), ==, 0);
        bus_job_added(fake->bus, job);
        if (wish->dry_run)
                bus_job_ended(fake->bus, job);
        *ret_job = job;
        return 0;
}

static int stop_defragment(void *userdata, const Job *job) {
        Fake *fake = userdata;
        Job *own = jobs_find(&fake->jobs, job->id);
        if (own->result != JOB_PENDING)
                return -EBUSY;
        job_cancel_clearance(own, &fake->world->world, 1);
        bus_job_ended(fake->bus, own);
        return 0;
}

static const char *get_stage(void *userdata, const Vm *vm) {
        Fake *fake = userdata;
        return fake->ending && g_str_equal(vm->name, fake->ending) ? "stopping" : NULL;
}

static int cancel_job(void *userdata, Entry *entry, const Job *job, SubmitCallback callback, void *callback_userdata) {
        Fake *fake = userdata;
        if (fake->cancel_is_late)
                return -EBUSY;
        Job *given_up = fake->outcome == SUBMIT_COMMITTED ? jobs_find(&fake->jobs, job->id) : NULL;
        if (given_up) {
                job_finish(given_up, JOB_CANCELED, NULL, "given up", 1);
                bus_job_ended(fake->bus, given_up);
        }
        return submit(fake, entry, callback, callback_userdata);
}

static int invite(void *userdata, Entry *entry, uint64_t lifetime_ms, InviteCallback callback,
                  void *callback_userdata) {
        Fake *fake = userdata;
        uint8_t id[ID_SIZE] = { 0x1f, (uint8_t) fake->n_submitted }, hash[HASH_SIZE] = { 0x5e };
        g_assert_false(entry->request_id.len > 0);      /* a retry is another invitation */
        Gpupool1__CreateInvite command = GPUPOOL1__CREATE_INVITE__INIT;
        command.invite = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id };
        command.secret_hash = (ProtobufCBinaryData) { .len = HASH_SIZE, .data = hash };
        command.expires_ms = (uint64_t) g_get_real_time() / 1000 + lifetime_ms;
        entry->command_case = GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE;
        entry->create_invite = &command;
        Submitted *s = keep(fake, entry, callback_userdata);
        s->invited = callback;
        s->lifetime_ms = lifetime_ms;
        return 0;
}

static int join(void *userdata, const char *token, const Caller *caller, const Job **ret_job, const char **ret_error,
                char **ret_sentence) {
        Fake *fake = userdata;
        if (!g_str_equal(token, "gp1-good")) {
                *ret_error = ERROR_INVALID_ARGUMENT;
                return text_set(ret_sentence, "the token was changed on its way; nothing was changed");
        }
        Job *job = make_job(fake, JOB_JOIN, &(JobSubject) {}, caller);
        bus_job_added(fake->bus, job);
        *ret_job = job;
        return 0;
}

/* Any entry will do where none of the registry's is meant. */
static Submitted *keep_without_entry(Fake *fake, Entry *entry, SubmitCallback callback, void *callback_userdata) {
        Gpupool1__DeletePool command = GPUPOOL1__DELETE_POOL__INIT;
        command.name = (char *) "none";
        g_assert_cmpint(entry->command_case, ==, GPUPOOL1__ENTRY__COMMAND__NOT_SET);
        g_assert_cmpstr(entry->author->action, ==, ACTION_MANAGE_CLUSTER);
        entry->command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_POOL;
        entry->delete_pool = &command;
        Submitted *s = keep(fake, entry, callback_userdata);
        s->submitted = callback;
        s->no_entry = true;
        return s;
}

static int leave(void *userdata, Entry *entry, SubmitCallback callback, void *callback_userdata) {
        (void) keep_without_entry(userdata, entry, callback, callback_userdata);
        return 0;
}

static int reset(void *userdata, const Caller *caller, const char **ret_error, char **ret_sentence) {
        Fake *fake = userdata;
        if (fake->busy) {
                *ret_error = ERROR_IN_USE;
                return text_set(ret_sentence, "vm bert runs here: stop it first");
        }
        fake->n_resets++;
        return 0;
}

static int import(void *userdata, Entry *entry, const void *bytes, size_t size, SubmitCallback callback,
                  void *callback_userdata) {
        Fake *fake = userdata;
        _cleanup_(registry_freep) Registry *registry = NULL;
        g_assert_cmpint(registry_decode(bytes, size, &registry), ==, SNAPSHOT_GOOD);
        fake->n_imported = registry->pools.n;
        (void) keep_without_entry(fake, entry, callback, callback_userdata);
        return 0;
}

static int check_xml(void *userdata, const char *xml, CheckXmlCallback callback, void *callback_userdata) {
        Fake *fake = userdata;
        XmlCheck *check = g_new0(XmlCheck, 1);
        *check = (XmlCheck) { .fake = fake, .callback = callback, .userdata = callback_userdata };
        g_ptr_array_add(fake->xml_checks, check);
        fake->n_xml_checks++;
        work_later(fake);
        return 0;
}

static const Service service = {
        .world = get_world,
        .status = get_status,
        .jobs = get_jobs,
        .stage = get_stage,
        .submit = submit,
        .operate = operate,
        .try_drain = try_drain,
        .defragment = defragment,
        .stop_defragment = stop_defragment,
        .cancel_job = cancel_job,
        .invite = invite,
        .join = join,
        .leave = leave,
        .reset = reset,
        .import = import,
        .check_xml = check_xml,
};

/* ---- commands */

static void command_plug(Fake *fake, const char *argument) {
        fake_world_plug(fake->world, argument);
        bus_invalidate(fake->bus);
}

static void command_unplug(Fake *fake, const char *argument) {
        fake_world_unplug(fake->world, argument);
        bus_invalidate(fake->bus);
}

/* Another card of another kind in the same slot. */
static void command_replace(Fake *fake, const char *argument) {
        fake_world_unplug(fake->world, argument);
        fake_world_plug(fake->world, argument);
        fake_world_find(fake->world, argument)->identity.device = 0x20b0;
        bus_invalidate(fake->bus);
}

/* ADDRESS DRIVER */
static void command_driver(Fake *fake, const char *argument) {
        g_auto(GStrv) words = g_strsplit(argument, " ", 2);
        g_assert_cmpint(text_set(&fake_world_find(fake->world, words[0])->driver, words[1]), ==, 0);
        bus_invalidate(fake->bus);
}

static void command_memory_free(Fake *fake, const char *argument) {
        fake->world->nodes[0]->memory_free = g_ascii_strtoull(argument, NULL, 10);
        bus_invalidate(fake->bus);
}

static void command_hypervisor(Fake *fake, const char *argument) {
        fake->world->nodes[0]->hypervisor = g_str_equal(argument, "hung") ? HYPERVISOR_HUNG : HYPERVISOR_CONNECTED;
        bus_invalidate(fake->bus);
}

static void command_quorate(Fake *fake, const char *argument) {
        fake->quorate = g_str_equal(argument, "yes");
        bus_invalidate(fake->bus);
}

/* LEVEL [GPUS]: one more node, that supports the level. */
static void command_admit(Fake *fake, const char *argument) {
        char *rest;
        uint32_t level = (uint32_t) g_ascii_strtoull(argument, &rest, 10);
        fake_world_admit(fake->world, level, (size_t) g_ascii_strtoull(rest, NULL, 10));
        bus_invalidate(fake->bus);
}

/* VM NODE: it runs there. */
static void command_run(Fake *fake, const char *argument) {
        g_auto(GStrv) words = g_strsplit(argument, " ", 2);
        fake_world_run(fake->world, words[0], words[1]);
        bus_invalidate(fake->bus);
}

/* VM: it has stopped. */
static void command_ended(Fake *fake, const char *argument) {
        fake_world_end(fake->world, argument);
        bus_invalidate(fake->bus);
}

/* NODE FENCE-AGENT-PARAMETER: what the registry knows of it, and nobody on the bus is told. */
static void command_parameter(Fake *fake, const char *argument) {
        g_auto(GStrv) words = g_strsplit(argument, " ", 2);
        const Fence *fence = &registry_find_node_name(fake->world->registry, words[0])->fence;
        for (size_t i = 0; i < fence->n_parameters; i++)
                if (g_str_equal(fence->parameters[i].name, words[1]))
                        (void) printf("%s\n", fence->parameters[i].value);
}

/* NODE MICROSECONDS */
static void command_watchdog(Fake *fake, const char *argument) {
        fake->world->nodes[argument[0] - 'a']->watchdog_us = g_ascii_strtoull(argument + 2, NULL, 10);
        bus_invalidate(fake->bus);
}

/* What entries have made of the registry: "frozen 0 ms, a: drained 60000 ms, bert: shutdown 60000 ms to b" */
static void command_failover(Fake *fake, const char *argument) {
        const Registry *registry = fake->world->registry;
        (void) printf("frozen %" G_GUINT64_FORMAT " ms", registry->frozen_ms);
        ARRAY_EACH(node, &registry->nodes)
                if (node->drain != DRAIN_NONE || node->bring_home)
                        (void) printf(", %s: %s %" G_GUINT64_FORMAT " ms", node->name,
                                      node->bring_home ? "brings home" : "drained", node->drain_timeout_ms);
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase == ASSIGNMENT_STOPPING)
                        (void) printf(", %s: %s %" G_GUINT64_FORMAT " ms to %s", vm->name,
                                      vm->stop_kind == VM_SHUTDOWN ? "shutdown" : "stop", vm->stop_timeout_ms,
                                      id_is_null(vm->target.bytes) ? "anywhere" :
                                      world_node_name(&fake->world->world, &vm->target));
        (void) puts("");
}

/* NODE voter|standby|reader|silent|heard */
static void command_life(Fake *fake, const char *argument) {
        g_auto(GStrv) words = g_strsplit(argument, " ", 2);
        NodeLife *life = fake_world_live(fake->world, words[0]);
        if (g_str_equal(words[1], "silent") || g_str_equal(words[1], "heard")) {
                life->silent = g_str_equal(words[1], "silent");
                life->silent_since_ms = 1700000000000;
        } else
                life->role = g_str_equal(words[1], "voter") ? NODE_VOTER :
                             g_str_equal(words[1], "standby") ? NODE_STANDBY : NODE_READER;
        bus_invalidate(fake->bus);
}

/* VM: it ends, says its node. */
static void command_ending(Fake *fake, const char *argument) {
        g_free(fake->ending);
        fake->ending = g_strdup(argument);
        bus_invalidate(fake->bus);
}

/* NODE not|under-way|failed|done TRIES [SAID] */
static void command_fenced(Fake *fake, const char *argument) {
        static const char *const phases[FENCED_PHASE_COUNT] = { "not", "under-way", "failed", "done" };
        g_auto(GStrv) words = g_strsplit(argument, " ", 4);
        for (FencedPhase phase = FENCED_NOT; phase < FENCED_PHASE_COUNT; phase++)
                if (g_str_equal(words[1], phases[phase]))
                        fake_world_fence(fake->world, words[0], phase,
                                         (uint32_t) g_ascii_strtoull(words[2], NULL, 10), words[3]);
        bus_invalidate(fake->bus);
}

/* This node was told that it is no member any more. */
static void command_removed(Fake *fake, const char *argument) {
        fake->world->world.removed = true;
        bus_invalidate(fake->bus);
}

static void command_busy(Fake *fake, const char *argument) {
        fake->busy = g_str_equal(argument, "yes");
}

static void command_join_at(Fake *fake, const char *argument) {
        static const char *const words[JOIN_STAGE_COUNT] = { "connecting", "admitted", "receiving" };
        for (JoinStage stage = JOIN_CONNECTING; stage < JOIN_STAGE_COUNT; stage++)
                if (g_str_equal(argument, words[stage]))
                        (void) job_join_at(fake->jobs.all.items[0], stage);
        bus_invalidate(fake->bus);
}

static void command_cluster(Fake *fake, const char *argument) {
        (void) printf("%u resets, %zu pools imported\n", fake->n_resets, fake->n_imported);
}

static void command_outcome(Fake *fake, const char *argument) {
        static const char *const words[] = {
                [SUBMIT_COMMITTED] = "committed",
                [SUBMIT_NO_QUORUM] = "no-quorum",
                [SUBMIT_STORAGE_FULL] = "storage-full",
                [SUBMIT_STORAGE_WAITED_FOR] = "storage-waited-for",
                [SUBMIT_OUTCOME_UNKNOWN] = "unknown",
                [SUBMIT_STOPPING] = "stopping",
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
                if (g_str_equal(argument, words[i])) {
                        fake->outcome = (SubmitOutcome) i;
                        return;
                }
        g_assert_not_reached();
}

static void command_hold(Fake *fake, const char *argument) {
        fake->held = true;
}

static void command_let_go(Fake *fake, const char *argument) {
        fake->held = false;
        work_later(fake);
}

static void command_refuse_xml(Fake *fake, const char *argument) {
        fake->xml_error = g_str_equal(argument, "no") ? NULL : ERROR_INVALID_XML;
}

static void command_cancel_is_late(Fake *fake, const char *argument) {
        fake->cancel_is_late = true;
}

/* Somebody else does it meanwhile. */
static void command_delete_pool(Fake *fake, const char *argument) {
        Gpupool1__DeletePool command = GPUPOOL1__DELETE_POOL__INIT;
        command.name = (char *) argument;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_POOL;
        entry.delete_pool = &command;
        Result result;
        fake_world_apply(fake->world, &entry, &result);
        g_assert_cmpint(result.verdict, ==, VERDICT_DONE);
        bus_invalidate(fake->bus);
}

/* VM POOL: somebody gives the VM another pool meanwhile. */
static void command_require(Fake *fake, const char *argument) {
        g_auto(GStrv) words = g_strsplit(argument, " ", 2);
        const Vm *vm = registry_find_vm_name(fake->world->registry, words[0]);
        g_assert_nonnull(vm);
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        requirement.pool = words[1];
        requirement.count = 1;
        Gpupool1__SetRequirement command = GPUPOOL1__SET_REQUIREMENT__INIT;
        command.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) vm->id.bytes };
        command.requirement = &requirement;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_REQUIREMENT;
        entry.set_requirement = &command;
        Result result;
        fake_world_apply(fake->world, &entry, &result);
        g_assert_cmpint(result.verdict, ==, VERDICT_DONE);
        bus_invalidate(fake->bus);
}

static Job *find_job(Fake *fake, const char *id) {
        Job *job = jobs_find(&fake->jobs, g_ascii_strtoull(id, NULL, 10));
        g_assert_nonnull(job);
        return job;
}

static void command_progress(Fake *fake, const char *argument) {
        Job *job = find_job(fake, argument);
        job->progress = 0.5;
        job->stage = "binding";
        bus_invalidate(fake->bus);
}

static void command_end_job(Fake *fake, const char *argument) {
        Job *job = find_job(fake, argument);
        job_finish(job, JOB_DONE, NULL, NULL, 1);
        bus_job_ended(fake->bus, job);
}

/* Somebody else made it. */
static void command_disown(Fake *fake, const char *argument) {
        find_job(fake, argument)->uid = 4242;
        bus_invalidate(fake->bus);
}

/* JOB: how many VMs may move for it, of which pools, and how long each has to shut down. */
static void command_clearance(Fake *fake, const char *argument) {
        const Clearance *clearance = find_job(fake, argument)->clearance;
        (void) printf("%u moves, %" G_GUINT64_FORMAT " ms, by %s:", clearance->n_promised, clearance->timeout_ms,
                      clearance->user);
        for (size_t i = 0; i < clearance->pools.n; i++)
                (void) printf(" %s", clearance->pools.items[i]);
        (void) puts("");
}

static void command_forget_job(Fake *fake, const char *argument) {
        Job *job = find_job(fake, argument);
        bus_job_forgotten(fake->bus, job);
        jobs_remove(&fake->jobs, job);
}

static void command_device_event(Fake *fake, const char *argument) {
        static const char *const properties[] = { "ACTION=bind", "DRIVER=vfio-pci", "BAD=\x01", "NOTHING", NULL };
        BusDeviceEvent event = { .action = "bind", .node = fake->world->nodes[0]->node, .subsystem = "pci",
                                 .properties = properties };
        g_assert_cmpint(pci_address_from_text(argument, &event.address), ==, 0);
        bus_emit_device_event(fake->bus, &event);
}

static void command_count(Fake *fake, const char *argument) {
        (void) printf("%u submitted, %u checked\n", fake->n_submitted, fake->n_xml_checks);
}

static void command_flush(Fake *fake, const char *argument) {
        bus_flush(fake->bus);
}

/* N times a change, as fast as it goes, with a turn of the loop between. */
static void command_storm(Fake *fake, const char *argument) {
        uint64_t n = g_ascii_strtoull(argument, NULL, 10);
        for (uint64_t i = 0; i < n; i++) {
                g_autofree char *driver = g_strdup_printf("driver%" G_GUINT64_FORMAT, i);
                g_assert_cmpint(text_set(&fake->world->nodes[0]->gpus[0].driver, driver), ==, 0);
                bus_invalidate(fake->bus);
                (void) sd_event_run(fake->event, 2000);
        }
}

static void command_go_down(Fake *fake, const char *argument) {
        fake->bus = bus_free(fake->bus);
        fake->outcome = SUBMIT_STOPPING;
        fake->held = false;
        for (; fake->submitted->len > 0;) {
                Submitted *s = g_ptr_array_steal_index(fake->submitted, 0);
                Result none = {};
                answer(s, SUBMIT_STOPPING, &none, NULL);
                g_free(s->caller.user);
                g_free(s->caller.sender);
                free(s->bytes);
                g_free(s);
        }
        while (fake->xml_checks->len > 0)
                answer_xml(g_ptr_array_steal_index(fake->xml_checks, 0));
        (void) sd_event_exit(fake->event, 0);
}

static const struct {
        const char *name;
        void (*run)(Fake *fake, const char *argument);
} commands[] = {
        { "plug", command_plug },
        { "unplug", command_unplug },
        { "replace", command_replace },
        { "driver", command_driver },
        { "memory-free", command_memory_free },
        { "hypervisor", command_hypervisor },
        { "quorate", command_quorate },
        { "admit", command_admit },
        { "run", command_run },
        { "ended", command_ended },
        { "parameter", command_parameter },
        { "watchdog", command_watchdog },
        { "failover", command_failover },
        { "life", command_life },
        { "fenced", command_fenced },
        { "ending", command_ending },
        { "removed", command_removed },
        { "busy", command_busy },
        { "join-at", command_join_at },
        { "cluster", command_cluster },
        { "outcome", command_outcome },
        { "hold", command_hold },
        { "let-go", command_let_go },
        { "refuse-xml", command_refuse_xml },
        { "cancel-is-late", command_cancel_is_late },
        { "delete-pool", command_delete_pool },
        { "require", command_require },
        { "progress", command_progress },
        { "end-job", command_end_job },
        { "clearance", command_clearance },
        { "forget-job", command_forget_job },
        { "disown", command_disown },
        { "device-event", command_device_event },
        { "count", command_count },
        { "flush", command_flush },
        { "storm", command_storm },
        { "go-down", command_go_down },
};

static void run_command(Fake *fake, char *line) {
        char *argument = strchr(line, ' ');
        if (argument)
                *argument++ = '\0';
        for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
                if (g_str_equal(line, commands[i].name)) {
                        commands[i].run(fake, argument ? argument : "");
                        (void) puts("ok");
                        (void) fflush(stdout);
                        return;
                }
        g_error("no such command: %s", line);
}

static int on_input(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Fake *fake = userdata;
        char buffer[1024];
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n <= 0)
                return sd_event_exit(fake->event, 0);
        g_string_append_len(fake->input, buffer, n);
        char *end;
        while ((end = strchr(fake->input->str, '\n'))) {
                g_autofree char *line = g_strndup(fake->input->str, (size_t) (end - fake->input->str));
                g_string_erase(fake->input, 0, end - fake->input->str + 1);
                run_command(fake, line);
        }
        return 0;
}

int main(int argc, char **argv) {
        int n_gpus = 2, n_questions = 4, n_jobs = 4;
        g_autofree char *user = NULL;
        const GOptionEntry options[] = {
                { "gpus", 0, 0, G_OPTION_ARG_INT, &n_gpus, NULL, NULL },
                { "questions", 0, 0, G_OPTION_ARG_INT, &n_questions, NULL, NULL },
                { "jobs", 0, 0, G_OPTION_ARG_INT, &n_jobs, NULL, NULL },
                { "user", 0, 0, G_OPTION_ARG_STRING, &user, NULL, NULL },
                {},
        };
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        g_option_context_add_main_entries(context, options, NULL);
        g_autoptr(GError) error = NULL;
        if (!g_option_context_parse(context, &argc, &argv, &error))
                g_error("%s", error->message);
        if (user)
                become(user);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);        /* forgotten by the kernel with the old user */

        Fake fake = {
                .world = fake_world_new((size_t) n_gpus),
                .quorate = true,
                .submitted = g_ptr_array_new(),
                .xml_checks = g_ptr_array_new(),
                .input = g_string_new(NULL),
        };
        fake.voter = fake.world->world.local;
        fake.jobs.next_id = 1;
        fake.jobs.per_user_max = (uint32_t) n_jobs;
        BusConfig config = { .questions_per_user = (uint32_t) n_questions };
        log_set_level(LOG_DEBUG);

        int r = sd_event_default(&fake.event);
        if (r >= 0)
                r = bus_new(&fake.bus, fake.event, &config, &service, &fake);
        if (r >= 0)
                r = bus_acquire_name(fake.bus);
        if (r >= 0)
                r = sd_event_add_io(fake.event, NULL, STDIN_FILENO, EPOLLIN, on_input, &fake);
        if (r < 0) {
                (void) printf("failed: %s\n", g_strerror(-r));
                return 1;
        }
        (void) puts("ready");
        (void) fflush(stdout);
        r = sd_event_loop(fake.event);

        bus_free(fake.bus);
        jobs_clear(&fake.jobs);
        fake_world_free(fake.world);
        g_ptr_array_unref(fake.submitted);
        g_ptr_array_unref(fake.xml_checks);
        g_string_free(fake.input, TRUE);
        g_free(fake.ending);
        sd_event_unref(fake.event);
        return r < 0;
}
