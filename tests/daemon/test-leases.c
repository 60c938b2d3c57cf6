/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leases between a guard, peers and a leader. Real leases, lease, book and runner, under a clock of its own; the
 * history, the guard and the network are played here: their functions are defined in this file, so that the real ones
 * are not linked. */

#include <errno.h>
#include <glib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../unit/world-builder.h"
#include "core/names.h"
#include "daemon/leases.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define LEASE_MS 3000U
#define LEASE (LEASE_MS * MS)
#define DEATH_MS 510U

typedef struct Scene {
        WorldBuilder *w;
        Runner runner;
        Leases leases;
        uint64_t now_us;
        Lead lead;
        RaftStatus status;
        GuardState guard;               /* as it said last */
        bool guard_is_connected;
        GuardDone told;                 /* it is being told */
        uint64_t told_until_us;
        void *told_userdata;
        ConfirmCallback confirmed;
        void *confirmed_userdata;
        unsigned n_asked, n_thaws, n_granted, n_lost;
        uint64_t sequence;              /* of the last request */
        NodeId granted_to;
} Scene;

static Scene *scene;

/* ---- what is played */

int clock_gettime(clockid_t clock, struct timespec *ret) {
        if (clock != CLOCK_BOOTTIME || !scene)
                return (int) syscall(SYS_clock_gettime, clock, ret);
        *ret = (struct timespec) { .tv_sec = (time_t) (scene->now_us / SECOND),
                                   .tv_nsec = (long) (scene->now_us % SECOND * 1000) };
        return 0;
}

void history_lead(const History *history, Lead *ret) {
        *ret = scene->lead;
}

void history_status(const History *history, RaftStatus *ret) {
        *ret = scene->status;
}

bool history_leads(const History *history) {
        return scene->status.is_ready;
}

const Registry *history_registry(const History *history) {
        return scene->w->registry;
}

int history_confirm(History *history, ConfirmCallback callback, void *userdata) {
        g_assert_null(scene->confirmed);
        scene->confirmed = callback;
        scene->confirmed_userdata = userdata;
        return 0;
}

int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata) {
        g_assert_cmpint(entry->command_case, ==, GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED);
        scene->n_thaws++;
        return 0;
}

bool guard_link_is_connected(const GuardLink *link) {
        return scene->guard_is_connected;
}

void guard_get_state(const GuardLink *link, GuardState *ret) {
        *ret = scene->guard;
}

int guard_lease(GuardLink *link, uint64_t until_us, uint64_t hold_us, GuardDone done, void *userdata) {
        g_assert_null(scene->told);
        scene->told = done;
        scene->told_until_us = until_us;
        scene->told_userdata = userdata;
        return 0;
}

int peer_net_send(PeerNet *net, const NodeId *node, PeerStream stream, const Gpupool1__Frame *frame) {
        if (frame->body_case == GPUPOOL1__FRAME__BODY_LEASE_REQUEST) {
                scene->n_asked++;
                scene->sequence = frame->lease_request->sequence;
                return PEER_SEND_QUEUED;
        }
        g_assert_cmpint(frame->body_case, ==, GPUPOOL1__FRAME__BODY_LEASE_ANSWER);
        scene->n_granted += frame->lease_answer->kind == GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_GRANTED;
        memcpy(scene->granted_to.bytes, frame->lease_answer->node.data, ID_SIZE);
        return PEER_SEND_QUEUED;
}

static void on_changed(void *userdata) {
}

/* ---- the scene */

static NodeRecord *node(const char *name) {
        return node_named(scene->w, name);
}

/* Node a of four; b leads. Its VM runs, held by the guard, by a lease that has begun now. */
static Scene *scene_new(void) {
        Scene *s = scene = g_new0(Scene, 1);
        s->now_us = 1000 * SECOND;
        s->w = world_of(4);
        s->w->registry->level = LEVEL_FAILOVER;
        for (const char *name = "abcd"; *name; name++) {
                NodeRecord *record = node((char[]) { *name, '\0' });
                record->lease_ms = LEASE_MS;
                record->death_ms = DEATH_MS;
                g_assert_cmpint(text_set(&record->boot_id, facts_of(s->w, record->name)->boot_id), ==, 0);
        }
        s->lead = (Lead) { .leader = node("b")->id, .way = node("b")->id, .quorate = true };
        s->guard_is_connected = true;
        s->runner = (Runner) { .guard_usable = true, .guard_listed = true, .domains_known = true,
                               .hypervisor_usable = true };
        VmId vm = { .bytes = { 1 } };
        g_assert_cmpint(runner_guard_holds(&s->runner, &vm, 1, true, s->now_us), ==, 0);
        g_assert_cmpint(runner_saw_domain(&s->runner, &vm, 1, false, true), ==, 0);
        LeasesConfig config = { .runner = &s->runner, .node = node("a")->id, .times = lease_times_default,
                                .changed = on_changed };
        leases_init(&s->leases, &config);
        s->leases.caught_up = true;
        s->leases.net = (PeerNet *) s;  /* never looked into */
        return s;
}

static void scene_free(Scene *s) {
        leases_clear(&s->leases);
        runner_clear(&s->runner);
        world_builder_free(s->w);
        scene = NULL;
        g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static void turn(Scene *s) {
        uint64_t wake_us;
        g_assert_cmpint(leases_turn(&s->leases, world_now(s->w), &wake_us), ==, 0);
}

/* The guard takes what it is being told, if anything. */
static void guard_takes(Scene *s) {
        GuardDone told = s->told;
        if (!told)
                return;
        s->told = NULL;
        s->guard.until_us = s->told_until_us;
        s->guard.ended = s->told_until_us > 0 && s->told_until_us <= s->now_us;
        told(GUARD_CALL_OK, s->told_userdata);
}

typedef struct Said {
        const char *by, *as;            /* who says it, and who leads by that */
        bool lost;
        uint64_t lease_us, leader_us;
} Said;

static void hears(Scene *s, Said said) {
        Gpupool1__LeaseAnswer answer = GPUPOOL1__LEASE_ANSWER__INIT;
        answer.node = id_message_borrow(node("a")->id.bytes);
        answer.sequence = s->sequence;
        answer.kind = said.lost ? GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_LOST
                                : GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_GRANTED;
        answer.incarnation = node("a")->incarnation;
        answer.lease_us = said.lease_us ? said.lease_us : LEASE;
        answer.leader = id_message_borrow(node(said.as)->id.bytes);
        answer.leader_us = said.leader_us ? said.leader_us : s->now_us;
        leases_answered(&s->leases, &node(said.by)->id, &answer);
}

/* Asks, is granted a lease by the leader itself, and the guard takes it. */
static void renews(Scene *s) {
        unsigned before = s->n_asked;
        turn(s);
        g_assert_cmpuint(s->n_asked, >, before);
        guard_takes(s);                 /* it may have been asked for a sign of life */
        hears(s, (Said) { .by = "b", .as = "b" });
        guard_takes(s);
        g_assert_cmpuint(s->guard.until_us, ==, s->leases.lease.until_us);
        g_assert_false(s->guard.ended);
}

static void passes(Scene *s, uint64_t us) {
        s->now_us += us;
}

static bool ends(const Scene *s) {
        return s->runner.runs.items[0].ending;
}

/* ---- who may say what */

static void test_a_lease_is_asked_for_granted_and_told(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        turn(s);
        g_assert_true(s->runner.lease_runs);
        passes(s, 500 * MS);
        renews(s);
        g_assert_cmpuint(s->guard.until_us, ==, s->now_us + LEASE);
}

static void test_the_leaders_word_that_it_is_lost_ends_everything(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        hears(s, (Said) { .by = "b", .as = "b", .lost = true });
        g_assert_true(ends(s));
        guard_takes(s);
        g_assert_true(s->guard.ended);
}

/* A member's word can end no process on another host. */
static void test_nobody_elses_word_does(void) {
        static const Said all[] = {
                { .by = "c", .as = "c", .lost = true },
                { .by = "c", .as = "b", .lost = true },
                { .by = "c", .as = "b", .leader_us = 9000 * SECOND },
                { .by = "c", .as = "c", .leader_us = 9000 * SECOND },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
                g_autoptr(Scene) s = scene_new();
                renews(s);
                passes(s, 500 * MS);
                turn(s);
                hears(s, all[i]);
                guard_takes(s);
                g_assert_false(s->guard.ended);
                g_assert_false(ends(s));
                passes(s, 500 * MS);
                renews(s);
        }
}

static void test_a_grant_that_is_handed_on_counts(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        passes(s, 500 * MS);
        turn(s);
        hears(s, (Said) { .by = "c", .as = "b" });
        guard_takes(s);
        g_assert_cmpuint(s->guard.until_us, ==, s->now_us + LEASE);
}

/* ---- the guard */

/* A process that does not die, as one that waits for a device: the node is to be lost, so that all runs elsewhere. */
static void test_while_the_guard_kills_no_lease_is_asked_for(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        passes(s, LEASE + 100 * MS);
        s->guard.ended = true;
        unsigned before = s->n_asked;
        turn(s);
        g_assert_true(ends(s));
        passes(s, 500 * MS);
        turn(s);
        g_assert_cmpuint(s->n_asked, ==, before);
        g_assert_null(s->told);
        VmId vm = { .bytes = { 1 } };
        g_assert_cmpint(runner_process_died(&s->runner, &vm, 1, s->now_us), ==, 0);
        turn(s);
        g_assert_cmpuint(s->n_asked, >, before);
}

/* Started anew, it has one VM again and not the other, and was told no deadline therefore. */
static void test_what_a_new_guard_has_ends_with_the_lease_though_it_does_not_have_all(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        VmId other = { .bytes = { 2 } };
        s->guard = (GuardState) {};
        g_assert_cmpint(runner_saw_domain(&s->runner, &other, 1, false, true), ==, 0);
        g_assert_false(runner_is_guarded(&s->runner));
        passes(s, LEASE - 1);
        turn(s);
        g_assert_null(s->told);
        passes(s, 1);
        turn(s);
        g_assert_nonnull(s->told);
        g_assert_cmpuint(s->told_until_us, ==, s->now_us);
        guard_takes(s);
        turn(s);
        g_assert_null(s->told);
}

static void test_a_guard_that_goes_by_the_same_end_is_not_told_of_it(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        passes(s, LEASE);
        turn(s);
        g_assert_null(s->told);
        g_assert_true(ends(s));
}

static void test_a_guard_that_is_stopped_is_noticed_without_any_grant(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        uint64_t until_us = s->leases.lease.until_us;
        passes(s, lease_times_default.request_us / 4 * 5);
        turn(s);
        g_assert_nonnull(s->told);
        g_assert_cmpuint(s->told_until_us, ==, until_us);
        guard_takes(s);
        g_assert_cmpuint(s->guard.until_us, ==, until_us);

        /* Asked again, it does not answer. */
        for (turn(s); !ends(s); turn(s)) {
                passes(s, 100 * MS);
                g_assert_cmpuint(s->now_us, <, until_us);
        }
}

/* The node has left a cluster with leases for one without, and its guard has ended what was there. */
static void test_a_deadline_of_another_cluster_is_taken_away_where_there_are_no_leases(void) {
        g_autoptr(Scene) s = scene_new();
        s->w->registry->level = LEVEL_FAILOVER - 1;
        s->guard.until_us = s->now_us - SECOND;
        s->guard.ended = true;
        s->leases.caught_up = false;    /* the old registry of a cluster that has leases by now? */
        turn(s);
        g_assert_null(s->told);
        s->leases.caught_up = true;
        turn(s);
        g_assert_nonnull(s->told);
        g_assert_cmpuint(s->told_until_us, ==, 0);
        g_assert_true(s->runner.lease_needed && !s->runner.lease_runs);         /* nothing starts by it */
        guard_takes(s);
        turn(s);
        g_assert_null(s->told);
        g_assert_false(s->runner.lease_needed);
}

/* ---- longer leases */

/* The cluster is frozen, and a long lease is on its way to the guard when the freeze is over. */
static void test_no_thaw_is_reported_while_the_guard_is_being_told(void) {
        g_autoptr(Scene) s = scene_new();
        renews(s);
        s->w->registry->freezes = 1;
        s->w->registry->frozen_ms = 3600000;
        node("a")->long_lease_ms = 3600000 + LEASE_MS;
        passes(s, 500 * MS);
        turn(s);
        hears(s, (Said) { .by = "b", .as = "b", .lease_us = 3600 * SECOND });
        g_assert_cmpuint(s->told_until_us, ==, s->now_us + 3600 * SECOND);
        s->w->registry->frozen_ms = 0;
        turn(s);
        g_assert_cmpuint(s->n_thaws, ==, 0);
        guard_takes(s);
        turn(s);
        g_assert_cmpuint(s->n_thaws, ==, 0);
        guard_takes(s);                 /* the short one */
        turn(s);
        g_assert_cmpuint(s->n_thaws, ==, 1);
}

/* ---- the leader's side */

static void leads(Scene *s) {
        s->lead = (Lead) { .leader = node("a")->id, .way = node("a")->id, .is_local = true, .quorate = true };
        s->status = (RaftStatus) { .is_leader = true, .is_ready = true, .term = 7 };
        turn(s);
}

static void asks(Scene *s, const char *from, const NodeId *about, uint64_t sequence, bool relayed) {
        Gpupool1__LeaseRequest request = GPUPOOL1__LEASE_REQUEST__INIT;
        request.node = id_message_borrow((uint8_t *) about->bytes);
        request.sequence = sequence;
        request.incarnation = 1;
        request.relayed = relayed;
        leases_asked(&s->leases, &node(from)->id, &request);
}

static void is_confirmed(Scene *s) {
        ConfirmCallback confirmed = s->confirmed;
        g_assert_nonnull(confirmed);
        s->confirmed = NULL;
        confirmed(true, s->confirmed_userdata);
}

static void test_who_asks_without_end_leaves_room_for_others(void) {
        g_autoptr(Scene) s = scene_new();
        leads(s);
        for (uint64_t i = 1; i <= 4 * NODES_MAX; i++) {
                NodeId stranger = { .bytes = { 0xff, (uint8_t) (i >> 8), (uint8_t) i } };
                asks(s, "c", &node("c")->id, i, false);
                asks(s, "c", &node("b")->id, i, true);
                asks(s, "c", &stranger, i, true);
        }
        g_assert_cmpuint(s->leases.waits.n, <, 10);
        asks(s, "d", &node("d")->id, 1, false);
        is_confirmed(s);
        s->n_granted = 0;
        is_confirmed(s);                /* those that came after the first round had begun */
        g_assert_cmpuint(s->n_granted, ==, 3);
        g_assert_true(ID_EQUAL(&s->granted_to, &node("d")->id));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/leases/" #name, test_##name)
        TEST(a_lease_is_asked_for_granted_and_told);
        TEST(the_leaders_word_that_it_is_lost_ends_everything);
        TEST(nobody_elses_word_does);
        TEST(a_grant_that_is_handed_on_counts);
        TEST(while_the_guard_kills_no_lease_is_asked_for);
        TEST(what_a_new_guard_has_ends_with_the_lease_though_it_does_not_have_all);
        TEST(a_guard_that_goes_by_the_same_end_is_not_told_of_it);
        TEST(a_guard_that_is_stopped_is_noticed_without_any_grant);
        TEST(a_deadline_of_another_cluster_is_taken_away_where_there_are_no_leases);
        TEST(no_thaw_is_reported_while_the_guard_is_being_told);
        TEST(who_asks_without_end_leaves_room_for_others);
        return g_test_run();
}
