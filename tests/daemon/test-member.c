/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a node tells the registry of itself. Real member and runner; the history and the leases are played here: their
 * functions are defined in this file, so that the real ones are not linked. */

#include <glib.h>

#include "../unit/world-builder.h"
#include "core/names.h"
#include "daemon/member.h"

#define LEASE_MS 20000U
#define DEATH_MS 600U
#define NAME "a"

typedef struct Scene {
        WorldBuilder *w;
        Runner runner;
        TextList addresses;
        uint8_t key[HASH_SIZE];
        Member member;
        Lead lead;
        uint32_t lease_ms, death_ms;    /* as this program has them */
        bool may_announce;              /* the guard goes by no longer ones */
        unsigned n_told;
        uint32_t told_lease_ms, told_death_ms;
        uint64_t told_incarnation;
        SubmitCallback callback;
        void *userdata;
} Scene;

static Scene *scene;

/* ---- what is played */

int sd_event_now(sd_event *event, clockid_t clock, uint64_t *ret) {
        *ret = 0;
        return 0;
}

void history_lead(const History *history, Lead *ret) {
        *ret = scene->lead;
}

int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata) {
        g_assert_cmpint(entry->command_case, ==, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE);
        scene->n_told++;
        scene->told_lease_ms = entry->announce_node->lease_ms;
        scene->told_death_ms = entry->announce_node->death_ms;
        scene->told_incarnation = entry->announce_node->incarnation;
        scene->callback = callback;
        scene->userdata = userdata;
        return 0;
}

bool leases_may_announce(const Leases *leases, const NodeRecord *self, uint32_t *ret_lease_ms, uint32_t *ret_death_ms) {
        *ret_lease_ms = scene->lease_ms;
        *ret_death_ms = scene->death_ms;
        return scene->may_announce;
}

static void on_decided(void *userdata) {
}

/* ---- the scene */

static NodeRecord *self(void) {
        return node_named(scene->w, NAME);
}

/* Node a of three, of whom the registry knows all that there is to tell. */
static Scene *scene_new(void) {
        Scene *s = scene = g_new0(Scene, 1);
        s->w = world_of(3);
        s->w->registry->level = LEVEL_FAILOVER;
        s->w->registry->cluster.bytes[0] = 1;
        s->lead = (Lead) { .quorate = true };
        s->lease_ms = LEASE_MS;
        s->death_ms = DEATH_MS;
        s->may_announce = true;
        s->member = (Member) { .addresses = &s->addresses, .key = s->key, .runner = &s->runner, .caught_up = true,
                               .decided = on_decided };
        NodeRecord *record = self();
        record->level = LEVEL_SUPPORTED;
        record->has_key = true;
        record->lease_ms = LEASE_MS;
        record->death_ms = DEATH_MS;
        g_assert_cmpint(text_set(&record->boot_id, facts_of(s->w, NAME)->boot_id), ==, 0);
        return s;
}

static void scene_free(Scene *s) {
        member_clear(&s->member);
        runner_clear(&s->runner);
        text_list_clear(&s->addresses);
        world_builder_free(s->w);
        g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* True: it told something. */
static bool turn(Scene *s) {
        unsigned before = s->n_told;
        uint64_t wake_us;
        g_assert_cmpint(member_turn(&s->member, world_now(s->w), NAME, 0, &wake_us), ==, 0);
        return s->n_told > before;
}

static void is_taken(Scene *s) {
        s->callback(SUBMIT_COMMITTED, &(Result) { .verdict = VERDICT_DONE }, s->userdata);
}

static void moves_to(Scene *s, const char *address) {
        g_assert_cmpint(text_list_add(&s->addresses, address), ==, 0);
}

static void boots(Scene *s) {
        g_assert_cmpint(text_set(&self()->boot_id, "an older boot"), ==, 0);
}

/* ---- times */

static void test_what_is_known_is_not_told(void) {
        g_autoptr(Scene) s = scene_new();
        g_assert_false(turn(s));
}

static void test_shorter_leases_are_told_once_the_guard_goes_by_them(void) {
        g_autoptr(Scene) s = scene_new();
        s->lease_ms = 3000;
        s->death_ms = 510;
        s->may_announce = false;
        g_assert_false(turn(s));
        s->may_announce = true;
        g_assert_true(turn(s));
        g_assert_cmpuint(s->told_lease_ms, ==, 3000);
        g_assert_cmpuint(s->told_death_ms, ==, 510);
}

/* Or the leader would hold the VMs for dead while the guard lets them live. */
static void test_and_not_before_that_with_something_else(void) {
        g_autoptr(Scene) s = scene_new();
        s->lease_ms = 3000;
        s->death_ms = 510;
        s->may_announce = false;
        moves_to(s, "10.0.0.9:7411");
        g_assert_true(turn(s));
        g_assert_cmpuint(s->told_lease_ms, ==, LEASE_MS);
        g_assert_cmpuint(s->told_death_ms, ==, DEATH_MS);
}

static void test_below_the_level_of_failover_there_is_no_lease(void) {
        g_autoptr(Scene) s = scene_new();
        s->w->registry->level = LEVEL_FAILOVER - 1;
        self()->lease_ms = self()->death_ms = 0;
        g_assert_false(turn(s));
        moves_to(s, "10.0.0.9:7411");
        g_assert_true(turn(s));
        g_assert_cmpuint(s->told_lease_ms, ==, 0);
        g_assert_cmpuint(s->told_death_ms, ==, 0);
}

/* ---- boots and lives */

static void test_who_told_of_a_boot_knows_that_nothing_ran_before(void) {
        g_autoptr(Scene) s = scene_new();
        boots(s);
        g_assert_true(turn(s));
        g_assert_cmpuint(s->told_incarnation, ==, self()->incarnation + 1);
        g_assert_false(s->member.began_boot);
        is_taken(s);
        g_assert_true(s->member.began_boot);
}

/* A registry of before does not know that the program before this one told of it, what that started, and which leases
 * it announced. */
static void test_nothing_is_told_by_a_registry_that_is_behind(void) {
        g_autoptr(Scene) s = scene_new();
        boots(s);
        s->member.caught_up = false;
        g_assert_false(turn(s));
        s->member.caught_up = true;
        g_assert_true(turn(s));
}

static void test_a_lost_node_begins_anew_once_it_is_clean(void) {
        g_autoptr(Scene) s = scene_new();
        self()->lost = true;
        g_assert_false(turn(s));
        s->runner.guard_listed = s->runner.domains_known = true;
        g_assert_true(turn(s));
        g_assert_cmpuint(s->told_incarnation, ==, self()->incarnation + 1);
        is_taken(s);
        g_assert_false(s->member.began_boot);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/member/what-is-known-is-not-told", test_what_is_known_is_not_told);
        g_test_add_func("/member/shorter-leases-are-told-once-the-guard-goes-by-them",
                        test_shorter_leases_are_told_once_the_guard_goes_by_them);
        g_test_add_func("/member/and-not-before-that-with-something-else",
                        test_and_not_before_that_with_something_else);
        g_test_add_func("/member/below-the-level-of-failover-there-is-no-lease",
                        test_below_the_level_of_failover_there_is_no_lease);
        g_test_add_func("/member/who-told-of-a-boot-knows-that-nothing-ran-before",
                        test_who_told_of_a_boot_knows_that_nothing_ran_before);
        g_test_add_func("/member/nothing-is-told-by-a-registry-that-is-behind",
                        test_nothing_is_told_by_a_registry_that_is_behind);
        g_test_add_func("/member/a-lost-node-begins-anew-once-it-is-clean",
                        test_a_lost_node_begins_anew_once_it_is_clean);
        return g_test_run();
}
