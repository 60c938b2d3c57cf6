/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The conductor: who is proposed first, who rests, and which GPUs come into which pool. */

#include <glib.h>
#include <stdio.h>

#include "core/conductor.h"
#include "core/names.h"
#include "world-builder.h"

#define WORLD _cleanup_(world_builder_freep) WorldBuilder *
#define CONDUCTOR _cleanup_(conductor_clear) Conductor

static uint64_t wake_us;        /* of the last look */

static void write_proposal(const WorldBuilder *w, const Proposal *proposal, char *ret, size_t size) {
        const NodeRecord *target = registry_find_node(w->registry, &proposal->target);
        switch (proposal->kind) {
        case PROPOSAL_LOSE_NODE:
                snprintf(ret, size, "lost %s by %s", registry_find_node(w->registry, &proposal->loss.node)->name,
                         loss_evidence_to_text(proposal->loss.evidence));
                return;
        case PROPOSAL_THAW:
                snprintf(ret, size, "thaw");
                return;
        case PROPOSAL_ASSIGN:
                snprintf(ret, size, "%s", proposal->vm->name);
                return;
        case PROPOSAL_PREEMPT:
                snprintf(ret, size, "%s stops for %s", proposal->vm->name, proposal->preemptor->name);
                return;
        case PROPOSAL_MOVE:
                snprintf(ret, size, "%s to %s%s", proposal->vm->name, target ? target->name : "anywhere",
                         proposal->home ? ", for now" : "");
                return;
        case PROPOSAL_POOL_GPUS:
                snprintf(ret, size, "%s", proposal->pool->name);
                return;
        case PROPOSAL_FABRIC:
                snprintf(ret, size, "%zu sets of %s", proposal->fabric.n,
                         registry_find_node(w->registry, &proposal->node)->name);
                return;
        }
}

/* What is proposed now: a VM's or a pool's name, or what becomes of a node; "" for nothing. */
static const char *proposed_with(Conductor *conductor, WorldBuilder *w, LeaseBook *book, uint64_t now_us) {
        static char text[3 * NAME_LENGTH_MAX];
        _cleanup_(proposal_clear) Proposal proposal = {};
        wake_us = UINT64_MAX;
        if (book)
                g_assert_cmpint(lease_book_follow(book, w->registry, now_us), ==, 0);
        int r = conductor_next(conductor, world_now(w), book, now_us, &proposal, &wake_us);
        g_assert_cmpint(r, >=, 0);
        text[0] = '\0';
        if (r == CONDUCTOR_PROPOSES)
                write_proposal(w, &proposal, text, sizeof(text));
        return text;
}

static const char *proposed(Conductor *conductor, WorldBuilder *w, uint64_t now_us) {
        return proposed_with(conductor, w, NULL, now_us);
}

#define ASSERT_PROPOSES(conductor, w, now_us, name) g_assert_cmpstr(proposed((conductor), (w), (now_us)), ==, name)
#define ASSERT_RESTS_UNTIL(conductor, w, now_us, until_us)      \
        do {                                                    \
                ASSERT_PROPOSES(conductor, w, now_us, "");      \
                g_assert_cmpuint(wake_us, ==, until_us);        \
        } while (0)
#define ASSERT_RESTS(conductor, w, now_us) ASSERT_RESTS_UNTIL(conductor, w, now_us, UINT64_MAX)

/* One node with so many GPUs, all in pool training. */
static WorldBuilder *world_with(size_t n_gpus) {
        WorldBuilder *w = world_of(1);
        with_gpus(w, "a", n_gpus);
        pool_of(w, "training", "a");
        return w;
}

/* ---- order */

static void test_nothing_is_proposed_where_nobody_waits(void) {
        WORLD w = world_with(2);
        CONDUCTOR c = {};
        ASSERT_RESTS(&c, w, 0);
        vm_of(w, "bert", "training", 1)->run = false;
        ASSERT_RESTS(&c, w, 0);
        vm_named(w, "bert")->run = vm_named(w, "bert")->failed = true;
        ASSERT_RESTS(&c, w, 0);
}

static void test_a_proposal_says_where_and_with_what(void) {
        WORLD w = world_with(2);
        CONDUCTOR c = {};
        _cleanup_(proposal_clear) Proposal proposal = {};
        vm_of(w, "bert", "training", 2);
        node_named(w, "a")->incarnation = 7;
        g_assert_cmpint(conductor_next(&c, world_now(w), NULL, 0, &proposal, &wake_us), ==, CONDUCTOR_PROPOSES);
        g_assert_cmpint(proposal.kind, ==, PROPOSAL_ASSIGN);
        g_assert_true(proposal.vm == vm_named(w, "bert"));
        g_assert_true(ID_EQUAL(&proposal.placement.node, &node_named(w, "a")->id));
        g_assert_cmpuint(proposal.placement.n_gpus, ==, 2);
        g_assert_cmpuint(proposal.incarnation, ==, 7);
}

static void test_the_most_important_comes_first(void) {
        WORLD w = world_with(4);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1)->priority = 10;
        vm_of(w, "ernie", "training", 1)->priority = 20;
        vm_of(w, "kermit", "training", 1)->priority = -5;
        ASSERT_PROPOSES(&c, w, 0, "ernie");
        runs(w, "ernie", "a", "0");
        ASSERT_PROPOSES(&c, w, 0, "bert");
        runs(w, "bert", "a", "1");
        ASSERT_PROPOSES(&c, w, 0, "kermit");
        runs(w, "kermit", "a", "2");
        ASSERT_RESTS(&c, w, 0);
}

/* Of one priority as many as can be; of those the hardest to place is first. */
static void test_among_equals_the_hardest_to_place_of_those_that_fit_comes_first(void) {
        WORLD w = world_with(4);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1);
        vm_of(w, "ernie", "training", 3);
        vm_of(w, "kermit", "training", 2);
        ASSERT_PROPOSES(&c, w, 0, "kermit");
        runs(w, "kermit", "a", "0 1");
        ASSERT_PROPOSES(&c, w, 0, "bert");
        runs(w, "bert", "a", "2");
        ASSERT_RESTS(&c, w, 0);                 /* ernie does not fit any more */
}

static void test_who_finds_no_place_is_in_nobodys_way(void) {
        WORLD w = world_with(2);
        CONDUCTOR c = {};
        vm_of(w, "large", "training", 3)->priority = 900;
        vm_of(w, "lost", "nowhere", 1)->priority = 800;
        vm_of(w, "bert", "training", 1);
        ASSERT_PROPOSES(&c, w, 0, "bert");
        runs(w, "bert", "a", "0");
        ASSERT_RESTS(&c, w, 0);
}

static void test_who_waits_is_proposed_once_there_is_room(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 2);
        ASSERT_RESTS(&c, w, 0);
        with_gpus(w, "a", 1);
        GpuIdentity identity = gpu_of(w, "a", 1)->identity;
        g_assert_cmpint(pool_add(pool_named(w, "training"), &identity), ==, 0);
        ASSERT_PROPOSES(&c, w, 0, "bert");
}

static void test_nothing_is_proposed_twice(void) {
        WORLD w = world_with(4);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1);
        ASSERT_PROPOSES(&c, w, 0, "bert");
        runs(w, "bert", "a", "0");
        for (uint64_t now_us = 0; now_us < 100000000; now_us += 1000000)
                ASSERT_RESTS(&c, w, now_us);
}

/* ---- after failures */

static void test_who_failed_rests_longer_each_time(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        uint64_t now_us = 5000000, pause_us = CONDUCTOR_BACKOFF_FIRST_US;
        Vm *bert = vm_of(w, "bert", "training", 1);
        for (bert->attempts = 1; bert->attempts < 5; bert->attempts++) {
                ASSERT_RESTS_UNTIL(&c, w, now_us, now_us + pause_us);
                ASSERT_RESTS_UNTIL(&c, w, now_us + pause_us - 1, now_us + pause_us);
                now_us += pause_us;
                ASSERT_PROPOSES(&c, w, now_us, "bert");
                pause_us *= 2;
        }
}

static void test_no_rest_is_longer_than_a_minute(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        Vm *bert = vm_of(w, "bert", "training", 1);
        bert->attempts = 40;
        ASSERT_RESTS_UNTIL(&c, w, 0, CONDUCTOR_BACKOFF_MOST_US);
        bert->attempts = UINT32_MAX;
        ASSERT_RESTS_UNTIL(&c, w, 0, CONDUCTOR_BACKOFF_MOST_US);
}

static void test_who_rests_is_in_nobodys_way(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1)->priority = 900;
        vm_of(w, "ernie", "training", 1);
        vm_named(w, "bert")->attempts = 1;
        ASSERT_PROPOSES(&c, w, 0, "ernie");
}

static void test_a_start_by_hand_ends_the_rest(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        Vm *bert = vm_of(w, "bert", "training", 1);
        bert->attempts = 4;
        ASSERT_RESTS_UNTIL(&c, w, 0, 8 * CONDUCTOR_BACKOFF_FIRST_US);
        bert->attempts = 0;
        ASSERT_PROPOSES(&c, w, 1, "bert");
}

/* ---- after refusals */

static void test_after_a_refusal_all_rest_a_little(void) {
        WORLD w = world_with(2);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1);
        ASSERT_PROPOSES(&c, w, 0, "bert");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, 0);
        ASSERT_RESTS_UNTIL(&c, w, 0, CONDUCTOR_REFUSED_US);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_REFUSED_US, "bert");
}

static void test_who_is_refused_again_and_again_is_in_nobodys_way(void) {
        WORLD w = world_with(2);
        CONDUCTOR c = {};
        uint64_t now_us = 0;
        vm_of(w, "bert", "training", 1)->priority = 900;
        vm_of(w, "ernie", "training", 1);
        ASSERT_PROPOSES(&c, w, now_us, "bert");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, now_us);
        now_us += CONDUCTOR_REFUSED_US;
        ASSERT_PROPOSES(&c, w, now_us, "bert");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, now_us);
        now_us += CONDUCTOR_REFUSED_US;
        ASSERT_PROPOSES(&c, w, now_us, "ernie");
        runs(w, "ernie", "a", "0");
        now_us += CONDUCTOR_REFUSED_US;
        ASSERT_PROPOSES(&c, w, now_us, "bert");
}

static void test_who_got_a_place_has_no_refusals_behind_it(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        uint64_t now_us = 0;
        Vm *bert = vm_of(w, "bert", "training", 1);
        for (int i = 0; i < 5; i++) {
                ASSERT_PROPOSES(&c, w, now_us, "bert");
                conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, now_us);
                now_us += CONDUCTOR_BACKOFF_MOST_US;
        }
        ASSERT_PROPOSES(&c, w, now_us, "bert");
        runs(w, "bert", "a", "0");
        ASSERT_RESTS(&c, w, now_us);
        assignment_clear(&bert->assignment);
        ASSERT_PROPOSES(&c, w, now_us, "bert");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, now_us);
        ASSERT_RESTS_UNTIL(&c, w, now_us, now_us + CONDUCTOR_REFUSED_US);
        ASSERT_PROPOSES(&c, w, now_us + CONDUCTOR_REFUSED_US, "bert");
}

static void test_gpus_that_a_pool_cannot_take_keep_nobody_from_running(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        uint64_t now_us = 0;
        with_gpus(w, "a", 1);
        g_assert_cmpint(pool_rules_add(&pool_named(w, "training")->rules, "10de", "", "", ""), ==, 0);
        vm_of(w, "bert", "training", 1);
        for (int i = 0; i < 2; i++) {
                ASSERT_PROPOSES(&c, w, now_us, "training");
                conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, now_us);
                now_us += CONDUCTOR_REFUSED_US;
        }
        ASSERT_PROPOSES(&c, w, now_us, "bert");
        runs(w, "bert", "a", "0");
        ASSERT_RESTS_UNTIL(&c, w, now_us, now_us + CONDUCTOR_REFUSED_US);
        ASSERT_PROPOSES(&c, w, now_us + CONDUCTOR_REFUSED_US, "training");
}

static void test_a_vm_that_is_gone_is_forgotten(void) {
        WORLD w = world_with(1);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 1)->attempts = 3;
        ASSERT_RESTS_UNTIL(&c, w, 0, 4 * CONDUCTOR_BACKOFF_FIRST_US);
        g_assert_cmpuint(c.pauses.n, ==, 1);
        vm_clear(vm_named(w, "bert"));
        w->registry->vms.n = 0;
        ASSERT_RESTS(&c, w, 0);
        g_assert_cmpuint(c.pauses.n, ==, 0);
}

/* ---- rules */

static void add_rule(WorldBuilder *w, const char *pool, const char *vendor, const char *device, const char *node) {
        g_assert_cmpint(pool_rules_add(&pool_named(w, pool)->rules, vendor, device, node, NULL), ==, 0);
}

static void test_a_rule_brings_in_gpus_that_are_in_no_pool(void) {
        WORLD w = world_of(2);
        CONDUCTOR c = {};
        with_gpus(w, "a", 3);
        with_gpus(w, "b", 1);
        pool_of(w, "other", "a:0");
        pool_of(w, "training", "");
        add_rule(w, "training", "10DE", "23*", "a");
        _cleanup_(proposal_clear) Proposal proposal = {};
        g_assert_cmpint(conductor_next(&c, world_now(w), NULL, 0, &proposal, &wake_us), ==, CONDUCTOR_PROPOSES);
        g_assert_cmpint(proposal.kind, ==, PROPOSAL_POOL_GPUS);
        g_assert_cmpstr(proposal.pool->name, ==, "training");
        g_assert_cmpuint(proposal.gpus.n, ==, 2);
        g_assert_true(gpu_identity_equal(proposal.gpus.items, &gpu_of(w, "a", 1)->identity));
        g_assert_true(gpu_identity_equal(proposal.gpus.items + 1, &gpu_of(w, "a", 2)->identity));
        for (size_t i = 0; i < 2; i++)
                g_assert_cmpint(pool_add(pool_named(w, "training"), proposal.gpus.items + i), ==, 0);
        ASSERT_RESTS(&c, w, 0);
}

static void test_of_two_pools_the_first_by_name_has_the_gpu(void) {
        WORLD w = world_of(1);
        CONDUCTOR c = {};
        with_gpus(w, "a", 1);
        pool_of(w, "zoo", "");
        pool_of(w, "ant", "");
        add_rule(w, "zoo", "10de", "", "");
        ASSERT_PROPOSES(&c, w, 0, "zoo");
        add_rule(w, "ant", "", "", "a");
        ASSERT_PROPOSES(&c, w, 0, "ant");
}

static void test_what_is_not_there_is_not_brought_in(void) {
        WORLD w = world_of(1);
        CONDUCTOR c = {};
        with_gpus(w, "a", 1);
        pool_of(w, "training", "");
        add_rule(w, "training", "10de", "", "");
        quarantined(w, "a", 0);
        unplugged(w, "a", 0);
        ASSERT_RESTS(&c, w, 0);         /* known to the registry by its quarantine only */
}

static void test_a_card_of_which_the_serial_may_come_later_is_not_brought_in_without_it(void) {
        WORLD w = world_of(1);
        CONDUCTOR c = {};
        with_gpus(w, "a", 1);
        pool_of(w, "training", "");
        add_rule(w, "training", "10de", "", "");
        gpu_of(w, "a", 0)->holders_known = false;       /* the probe has not answered */
        ASSERT_RESTS(&c, w, 0);
        gpu_of(w, "a", 0)->holders_known = true;        /* and this card has no serial */
        ASSERT_PROPOSES(&c, w, 0, "training");
}

static void test_no_rule_brings_in_nothing(void) {
        WORLD w = world_of(1);
        CONDUCTOR c = {};
        with_gpus(w, "a", 1);
        pool_of(w, "training", "");
        ASSERT_RESTS(&c, w, 0);
        add_rule(w, "training", "1002", "", "");
        ASSERT_RESTS(&c, w, 0);
}

static void test_so_many_gpus_come_in_at_once(void) {
        WORLD w = world_of(2);
        CONDUCTOR c = {};
        with_gpus(w, "a", GPUS_PER_CALL_MAX - 72);
        with_gpus(w, "b", 100);
        pool_of(w, "training", "");
        add_rule(w, "training", "10de", "", "");
        _cleanup_(proposal_clear) Proposal proposal = {};
        g_assert_cmpint(conductor_next(&c, world_now(w), NULL, 0, &proposal, &wake_us), ==, CONDUCTOR_PROPOSES);
        g_assert_cmpuint(proposal.gpus.n, ==, GPUS_PER_CALL_MAX);
}

/* ---- losses and freezes */

#define LEASE_MS 3000U
#define DEATH_MS 510U
#define LOST_AFTER_US ((LEASE_MS + DEATH_MS) * UINT64_C(1000))

static WorldBuilder *world_with_leases(size_t n_nodes) {
        WorldBuilder *w = world_of(n_nodes);
        w->registry->level = LEVEL_FAILOVER;
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = LEVEL_FAILOVER;
                node->lease_ms = LEASE_MS;
                node->death_ms = DEATH_MS;
        }
        return w;
}

static void test_who_asks_for_no_lease_is_lost_in_time_and_before_anything_else(void) {
        WORLD w = world_with_leases(3);
        CONDUCTOR c = {};
        _cleanup_(lease_book_clear) LeaseBook book = {};
        uint64_t lease_us;
        with_gpus(w, "c", 1);
        pool_of(w, "training", "c");
        lease_book_lead(&book, true, 7, 0);
        g_assert_cmpstr(proposed_with(&c, w, &book, 0), ==, "");
        g_assert_cmpuint(wake_us, ==, LOST_AFTER_US);
        for (const char *name = "ac"; *name; name++)
                g_assert_cmpint(lease_book_asked(&book, w->registry, &node_named(w, (char[]) { *name, '\0' })->id, 1,
                                                 2000000, 2000000, &lease_us), ==, LEASE_GRANTED);
        vm_of(w, "bert", "training", 1);
        g_assert_cmpstr(proposed_with(&c, w, &book, LOST_AFTER_US), ==, "lost b by lease");
        node_named(w, "b")->lost = true;
        g_assert_cmpstr(proposed_with(&c, w, &book, LOST_AFTER_US), ==, "bert");
}

static void test_a_loss_that_surely_was_not_written_is_no_reason_to_refuse_a_lease(void) {
        WORLD w = world_with_leases(2);
        CONDUCTOR c = {};
        _cleanup_(lease_book_clear) LeaseBook book = {};
        const NodeId *a = &node_named(w, "a")->id;
        uint64_t lease_us;
        for (int surely = 0; surely <= 1; surely++) {
                uint64_t now_us = LOST_AFTER_US + (uint64_t) surely * CONDUCTOR_REFUSED_US;
                lease_book_lead(&book, true, 7 + (uint64_t) surely, 0);
                g_assert_cmpint(lease_book_follow(&book, w->registry, 0), ==, 0);
                g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
                g_assert_cmpint(lease_book_asked(&book, w->registry, a, 1, now_us, now_us, &lease_us), ==,
                                LEASE_REFUSED);
                conductor_refused(&c, &book, surely ? REFUSAL_NOT_WRITTEN : REFUSAL_UNKNOWN, now_us);
                g_assert_cmpint(lease_book_asked(&book, w->registry, a, 1, now_us, now_us, &lease_us), ==,
                                surely ? LEASE_GRANTED : LEASE_REFUSED);
        }
}

/* The disk is full, perhaps: not at once again, and not as often as the loop turns. */
static void test_a_loss_that_was_not_written_rests_a_little(void) {
        WORLD w = world_with_leases(2);
        CONDUCTOR c = {};
        _cleanup_(lease_book_clear) LeaseBook book = {};
        uint64_t now_us = LOST_AFTER_US;
        lease_book_lead(&book, true, 7, 0);
        g_assert_cmpint(lease_book_follow(&book, w->registry, 0), ==, 0);
        for (int surely = 0; surely <= 1; surely++, now_us += CONDUCTOR_REFUSED_US) {
                g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
                conductor_refused(&c, &book, surely ? REFUSAL_NOT_WRITTEN : REFUSAL_UNKNOWN, now_us);
                g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "");
                g_assert_cmpuint(wake_us, ==, now_us + CONDUCTOR_REFUSED_US);
        }
        g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
}

/* Or a node whose loss was refused later on, as after a freeze, would be neither lost nor get a lease. */
static void test_a_loss_of_which_nothing_is_known_is_proposed_again_whatever_the_time(void) {
        WORLD w = world_with_leases(3);
        CONDUCTOR c = {};
        _cleanup_(lease_book_clear) LeaseBook book = {};
        const NodeId *a = &node_named(w, "a")->id;
        uint64_t now_us = LOST_AFTER_US, lease_us;
        lease_book_lead(&book, true, 7, 0);
        g_assert_cmpint(lease_book_follow(&book, w->registry, 0), ==, 0);
        g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
        conductor_refused(&c, &book, REFUSAL_UNKNOWN, now_us);
        w->registry->freezes = 1;
        w->registry->frozen_ms = 3600000;
        now_us += CONDUCTOR_REFUSED_US;
        g_assert_cmpint(lease_book_asked(&book, w->registry, a, 1, now_us, now_us, &lease_us), ==, LEASE_REFUSED);
        g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
        /* That the second one was not written says nothing of the first. */
        conductor_refused(&c, &book, REFUSAL_NOT_WRITTEN, now_us);
        now_us += CONDUCTOR_REFUSED_US;
        g_assert_cmpint(lease_book_asked(&book, w->registry, a, 1, now_us, now_us, &lease_us), ==, LEASE_REFUSED);
        g_assert_cmpstr(proposed_with(&c, w, &book, now_us), ==, "lost a by lease");
        conductor_refused(&c, &book, REFUSAL_BY_REGISTRY, now_us);
        g_assert_cmpint(lease_book_asked(&book, w->registry, a, 1, now_us, now_us, &lease_us), ==, LEASE_GRANTED);
        g_assert_cmpstr(proposed_with(&c, w, &book, now_us + CONDUCTOR_REFUSED_US), ==, "");
}

static void test_a_freeze_that_is_over_ends(void) {
        WORLD w = world_with_leases(2);
        CONDUCTOR c = {};
        _cleanup_(lease_book_clear) LeaseBook book = {};
        w->registry->freezes = 1;
        w->registry->frozen_ms = 60000;
        lease_book_lead(&book, true, 7, 0);
        g_assert_cmpstr(proposed_with(&c, w, &book, 0), ==, "");
        g_assert_cmpuint(wake_us, ==, 60000000);
        g_assert_cmpstr(proposed_with(&c, w, &book, 59999999), ==, "");
        g_assert_cmpstr(proposed_with(&c, w, &book, 60000000), ==, "thaw");
}

/* ---- all who wait, together */

/* Does as the registry would with what is proposed now; what that was, or "". */
static const char *takes_place(Conductor *conductor, WorldBuilder *w, uint64_t now_us) {
        static char text[8 * NAME_LENGTH_MAX];
        _cleanup_(proposal_clear) Proposal proposal = {};
        int r = conductor_next(conductor, world_now(w), NULL, now_us, &proposal, &wake_us);
        g_assert_cmpint(r, >=, 0);
        text[0] = '\0';
        if (r == CONDUCTOR_IDLE)
                return text;
        write_proposal(w, &proposal, text, sizeof(text));
        Vm *vm = vm_named(w, proposal.vm->name);
        if (proposal.kind == PROPOSAL_PREEMPT) {
                g_assert_true(vm_may_preempt(proposal.preemptor, vm));
                vm->assignment.phase = ASSIGNMENT_STOPPING;
                g_assert_cmpint(text_set(&vm->reason_code, REASON_PREEMPTED), ==, 0);
                return text;
        }
        g_assert_cmpint(proposal.kind, ==, PROPOSAL_ASSIGN);
        size_t n = strlen(text);
        n += (size_t) snprintf(text + n, sizeof(text) - n, " on %s:",
                               registry_find_node(w->registry, &proposal.placement.node)->name);
        for (size_t i = 0; i < proposal.placement.n_gpus; i++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, " %s", proposal.placement.gpus[i].gpu.slot);
        vm->assignment = (Assignment) { .phase = ASSIGNMENT_STARTING, .node = proposal.placement.node, .incarnation = 1,
                                        .gpus = proposal.placement.gpus, .n_gpus = proposal.placement.n_gpus };
        proposal.placement.gpus = NULL;
        proposal.placement.n_gpus = 0;
        vm->epoch++;
        vm->target = (NodeId) {};
        return text;
}

static void has_stopped(WorldBuilder *w, const char *vm) {
        assignment_clear(&vm_named(w, vm)->assignment);
        g_assert_cmpint(text_set(&vm_named(w, vm)->reason_code, NULL), ==, 0);
}

static bool has_place(WorldBuilder *w, const char *vm) {
        return vm_named(w, vm)->assignment.phase != ASSIGNMENT_NONE;
}

static void test_nobody_takes_the_only_place_that_another_could_have(void) {
        WORLD w = world_of(2);
        CONDUCTOR c = {};
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 5);
        pool_of(w, "training", "a b");
        vm_of(w, "high", "training", 1)->priority = 90;
        vm_of(w, "low", "training", 4);
        vm_of(w, "lower", "training", 4);
        while (*takes_place(&c, w, 0))
                ;
        g_assert_true(has_place(w, "high"));
        g_assert_true(has_place(w, "low"));
        g_assert_true(has_place(w, "lower"));
        g_assert_cmpuint(c.lineup.passes, ==, 1);
}

static void test_a_thousand_that_wait_cost_one_pass(void) {
        WORLD w = world_of(20);
        CONDUCTOR c = {};
        GString *nodes = g_string_new("");
        for (size_t i = 0; i < w->registry->nodes.n; i++) {
                with_gpus(w, w->registry->nodes.items[i].name, 50);
                g_string_append_printf(nodes, "%s%s", i > 0 ? " " : "", w->registry->nodes.items[i].name);
        }
        pool_of(w, "training", nodes->str);
        g_string_free(nodes, true);
        for (unsigned i = 0; i < 1010; i++) {
                char name[8];
                snprintf(name, sizeof(name), "vm%u", i);
                vm_of(w, name, "training", i < 10 ? 60 : 1)->priority = (int32_t) (i % 7);      /* ten fit nowhere */
        }
        size_t n = 0;
        while (*takes_place(&c, w, 0)) {
                n++;
                if (n % 3 == 0)         /* that they run in the meantime is no change */
                        ARRAY_EACH(vm, &w->registry->vms)
                                if (vm->assignment.phase == ASSIGNMENT_STARTING)
                                        vm->assignment.phase = ASSIGNMENT_RUNNING;
        }
        g_assert_cmpuint(n, ==, 1000);
        g_assert_cmpuint(c.lineup.passes, ==, 1);
        g_assert_cmpuint(c.inventories, ==, 1);
}

static void test_whatever_else_changes_is_looked_at_anew(void) {
        WORLD w = world_of(2);
        CONDUCTOR c = {};
        size_t passes = 0;
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 4);
        pool_of(w, "training", "a b");
        vm_of(w, "large", "training", 8);
        vm_of(w, "there", "training", 3);
        runs(w, "there", "a", "0 1 2");
#define ASSERT_LOOKS_ANEW()                                             \
        do {                                                            \
                ASSERT_RESTS(&c, w, 0);                                 \
                g_assert_cmpuint(c.lineup.passes, ==, ++passes);        \
                ASSERT_RESTS(&c, w, 0);                                 \
                g_assert_cmpuint(c.lineup.passes, ==, passes);          \
        } while (0)
        ASSERT_LOOKS_ANEW();
        vm_named(w, "large")->priority++;
        ASSERT_LOOKS_ANEW();
        vm_named(w, "large")->count = 7;
        ASSERT_LOOKS_ANEW();
        quarantined(w, "b", 0);
        ASSERT_LOOKS_ANEW();
        unplugged(w, "b", 1);
        ASSERT_LOOKS_ANEW();
        node_named(w, "b")->drain = DRAIN_BY_HAND;
        ASSERT_LOOKS_ANEW();
        pool_named(w, "training")->reserve = 1;
        ASSERT_LOOKS_ANEW();
        pool_named(w, "training")->placement = POOL_SPREAD;
        ASSERT_LOOKS_ANEW();
        runs(w, "there", "a", "1 2 3");
        ASSERT_LOOKS_ANEW();
        must_be(w, "large", "apart", "there");
        ASSERT_LOOKS_ANEW();
        prefers(w, "large", "b");
        ASSERT_LOOKS_ANEW();
        facts_of(w, "a")->memory_total /= 2;
        ASSERT_LOOKS_ANEW();
        vm_of(w, "large2", "training", 7)->run = false;
        ASSERT_LOOKS_ANEW();
        vm_named(w, "large2")->run = true;
        ASSERT_LOOKS_ANEW();
        w->registry->level++;
        ASSERT_LOOKS_ANEW();
}

/* The same cluster, as another node has it: other ids, so everything in another order. */
static WorldBuilder *shuffled_world(uint32_t seed, bool turned, size_t more_gpus) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        WorldBuilder *w = world_of(3);
        with_gpus(w, "a", (size_t) g_rand_int_range(random, 1, 9));
        with_gpus(w, "b", (size_t) g_rand_int_range(random, 1, 9));
        with_gpus(w, "c", (size_t) g_rand_int_range(random, 1, 9) + more_gpus);
        pool_of(w, "training", "a b c");
        uint32_t counts[8];
        int32_t priorities[8];
        for (size_t i = 0; i < ELEMENTS(counts); i++) {
                counts[i] = (uint32_t) g_rand_int_range(random, 1, 7);
                priorities[i] = g_rand_int_range(random, 0, 3);
        }
        for (size_t i = 0; i < ELEMENTS(counts); i++) {
                size_t j = turned ? ELEMENTS(counts) - 1 - i : i;
                char name[8];
                snprintf(name, sizeof(name), "vm%zu", j);
                vm_of(w, name, "training", counts[j])->priority = priorities[j];
        }
        return w;
}

static size_t count_most_important(const WorldBuilder *w) {
        size_t n = 0;
        int32_t most = VM_PRIORITY_MIN;
        ARRAY_EACH(vm, &w->registry->vms)
                most = vm->priority > most ? vm->priority : most;
        ARRAY_EACH(vm, &w->registry->vms)
                n += vm->priority == most && vm->assignment.phase != ASSIGNMENT_NONE;
        return n;
}

static void test_every_node_would_decide_the_same(void) {
        for (uint32_t seed = 0; seed < 200; seed++) {
                WORLD here = shuffled_world(seed, false, 0);
                WORLD there = shuffled_world(seed, true, 0);
                CONDUCTOR c = {};
                CONDUCTOR d = {};
                for (;;) {
                        g_autofree char *mine = g_strdup(takes_place(&c, here, 0));
                        g_assert_cmpstr(takes_place(&d, there, 0), ==, mine);
                        if (!*mine)
                                break;
                }
        }
}

static void test_a_new_leader_in_the_middle_lets_as_many_run(void) {
        for (uint32_t seed = 0; seed < 200; seed++) {
                WORLD here = shuffled_world(seed, false, 0);
                WORLD there = shuffled_world(seed, false, 0);
                CONDUCTOR c = {};
                while (*takes_place(&c, here, 0))
                        ;
                for (bool more = true; more;) {
                        CONDUCTOR d = {};
                        more = *takes_place(&d, there, 0);
                }
                g_assert_cmpuint(count_most_important(there), ==, count_most_important(here));
        }
}

static void test_with_more_gpus_never_fewer_of_the_most_important_run(void) {
        for (uint32_t seed = 0; seed < 200; seed++) {
                size_t before = 0;
                for (size_t more = 0; more < 4; more++) {
                        WORLD w = shuffled_world(seed, false, more);
                        CONDUCTOR c = {};
                        while (*takes_place(&c, w, 0))
                                ;
                        g_assert_cmpuint(count_most_important(w), >=, before);
                        before = count_most_important(w);
                }
        }
}

/* ---- who makes way */

/* a and b with so many GPUs; w, which waits and may preempt, and those that may be stopped for it. */
static WorldBuilder *world_to_preempt(size_t on_a, size_t on_b, uint32_t count) {
        WorldBuilder *w = world_of(2);
        w->registry->level = LEVEL_PLACEMENT;
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = LEVEL_PLACEMENT;
                node->lease_ms = LEASE_MS;
        }
        with_gpus(w, "a", on_a);
        with_gpus(w, "b", on_b);
        pool_of(w, "training", "a b");
        vm_of(w, "w", "training", count)->priority = 90;
        vm_named(w, "w")->preempt = true;
        return w;
}

static void runs_preemptible(WorldBuilder *w, const char *vm, uint32_t count, int32_t priority, const char *node,
                             const char *gpus) {
        vm_of(w, vm, "training", count);
        runs(w, vm, node, gpus);
        vm_named(w, vm)->priority = priority;
        vm_named(w, vm)->preemptible = true;
}

#define ASSERT_TAKES_PLACE(conductor, w, text) g_assert_cmpstr(takes_place((conductor), (w), 0), ==, text)
#define ASSERT_PLACED(conductor, w, vm) g_assert_true(g_str_has_prefix(takes_place((conductor), (w), 0), vm " on "))

static void test_less_important_ones_make_way_one_after_the_other(void) {
        WORLD w = world_to_preempt(3, 2, 3);
        runs_preemptible(w, "v1", 1, 10, "a", "0");
        runs_preemptible(w, "v2", 1, 20, "a", "1");
        runs_preemptible(w, "v3", 1, 30, "a", "2");
        runs_preemptible(w, "v4", 2, 5, "b", "0 1");
        for (int anew = 0; anew < 2; anew++) {
                CONDUCTOR c = {};
                static const char *const steps[] = { "v1 stops for w", "v2 stops for w", "v3 stops for w" };
                static const char *const victims[] = { "v1", "v2", "v3" };
                if (anew) {             /* as before, but with a new leader after each step */
                        has_stopped(w, "w");
                        for (size_t i = 0; i < ELEMENTS(victims); i++)
                                runs(w, victims[i], "a", (char[]) { (char) ('0' + (char) i), '\0' });
                }
                for (size_t i = 0; i < ELEMENTS(steps); i++) {
                        if (anew)
                                conductor_clear(&c);
                        ASSERT_TAKES_PLACE(&c, w, steps[i]);
                        if (anew)
                                conductor_clear(&c);
                        ASSERT_RESTS(&c, w, 0);         /* until it has stopped */
                        has_stopped(w, victims[i]);     /* and does not get what it had */
                }
                ASSERT_TAKES_PLACE(&c, w, "w on a: pci0000:00/01.0/00.0 pci0000:00/02.0/00.0 pci0000:00/03.0/00.0");
                for (int i = 0; i < 3; i++)
                        ASSERT_RESTS(&c, w, 0);         /* and nobody comes back to push */
        }
}

static void test_nobody_makes_way_without_need_or_leave(void) {
        WORLD w = world_to_preempt(2, 2, 2);
        CONDUCTOR c = {};
        Vm *v = (runs_preemptible(w, "v", 2, 10, "a", "0 1"), vm_named(w, "v"));
        ASSERT_PROPOSES(&c, w, 0, "w");                 /* b is free */
        vm_of(w, "firm", "training", 1)->priority = 10;
        runs(w, "firm", "b", "0");
        v = vm_named(w, "v");
        ASSERT_PROPOSES(&c, w, 0, "v stops for w");
        w->registry->level = LEVEL_PLACEMENT - 1;
        ASSERT_RESTS(&c, w, 0);
        w->registry->level = LEVEL_PLACEMENT;
        v->preemptible = false;
        ASSERT_RESTS(&c, w, 0);
        v->preemptible = true;
        vm_named(w, "w")->preempt = false;
        ASSERT_RESTS(&c, w, 0);
        vm_named(w, "w")->preempt = true;
        v->priority = 90;
        ASSERT_RESTS(&c, w, 0);
        v->priority = 89;
        v->assignment.phase = ASSIGNMENT_STARTING;
        ASSERT_RESTS(&c, w, 0);
        v->assignment.phase = ASSIGNMENT_RUNNING;
        ASSERT_PROPOSES(&c, w, 0, "v stops for w");
}

static void test_nobody_makes_way_where_it_would_be_no_use(void) {
        WORLD w = world_to_preempt(4, 2, 4);
        CONDUCTOR c = {};
        runs_preemptible(w, "v1", 3, 10, "a", "0 1 2");
        runs_preemptible(w, "v2", 2, 10, "b", "0 1");
        vm_of(w, "firm", "training", 1)->priority = 10;
        runs(w, "firm", "a", "3");
        ASSERT_RESTS(&c, w, 0);
        vm_named(w, "firm")->preemptible = true;
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        vm_named(w, "v1")->run = vm_named(w, "firm")->run = false;      /* they stay there, to keep it simple */
        ASSERT_RESTS(&c, w, 0);
        node_named(w, "a")->drain = DRAIN_NONE;
        vm_named(w, "v1")->run = vm_named(w, "firm")->run = true;
        pool_named(w, "training")->max_in_use = 5;
        ASSERT_RESTS(&c, w, 0);         /* v2 would still be there, and is of no use on b */
        pool_named(w, "training")->max_in_use = 6;
        ASSERT_PROPOSES(&c, w, 0, "firm stops for w");
}

/* What became free for w goes to nobody who is less important: neither to those who stopped, nor to one that fits, nor
 * to one that lost its place and may have what is in reserve. */
static void test_what_became_free_is_for_whom_it_was_done(void) {
        WORLD w = world_to_preempt(3, 0, 3);
        CONDUCTOR c = {};
        runs_preemptible(w, "v1", 1, 10, "a", "0");
        runs_preemptible(w, "v2", 2, 20, "a", "1 2");
        ASSERT_TAKES_PLACE(&c, w, "v1 stops for w");
        has_stopped(w, "v1");
        vm_of(w, "small", "training", 1)->priority = 80;
        vm_of(w, "lost", "training", 1)->priority = 80;
        g_assert_cmpint(text_set(&vm_named(w, "lost")->reason_code, end_cause_to_text(END_NODE_LOST)), ==, 0);
        ASSERT_TAKES_PLACE(&c, w, "v2 stops for w");
        ASSERT_RESTS(&c, w, 0);
        has_stopped(w, "v2");
        ASSERT_PLACED(&c, w, "w");
        ASSERT_RESTS(&c, w, 0);
}

/* Two that cannot be in two VMs are of no use to w any more, once another has one of them. */
static void test_what_is_free_already_is_kept_for_whom_it_is_planned(void) {
        WORLD w = world_to_preempt(6, 0, 5);
        CONDUCTOR c = {};
        gpu_of(w, "a", 1)->iommu_group = gpu_of(w, "a", 0)->iommu_group;
        runs_preemptible(w, "v", 2, 10, "a", "3 4");
        vm_of(w, "other", "training", 1);
        runs(w, "other", "a", "5");
        ASSERT_TAKES_PLACE(&c, w, "v stops for w");
        vm_named(w, "other")->run = false;
        has_stopped(w, "other");
        vm_of(w, "small", "training", 1);
        ASSERT_TAKES_PLACE(&c, w, "small on a: pci0000:00/06.0/00.0");
        ASSERT_RESTS(&c, w, 0);
        has_stopped(w, "v");
        ASSERT_PLACED(&c, w, "w");
}

/* One that is more important than w may have it, and w goes on from there. */
static void test_one_that_is_more_important_may_come_between(void) {
        WORLD w = world_to_preempt(3, 3, 3);
        CONDUCTOR c = {};
        runs_preemptible(w, "v1", 1, 10, "a", "0");
        runs_preemptible(w, "v2", 2, 20, "a", "1 2");
        runs_preemptible(w, "u", 3, 30, "b", "0 1 2");
        ASSERT_TAKES_PLACE(&c, w, "v1 stops for w");
        has_stopped(w, "v1");
        vm_of(w, "boss", "training", 1)->priority = 100;
        ASSERT_PLACED(&c, w, "boss");
        ASSERT_TAKES_PLACE(&c, w, "u stops for w");
        has_stopped(w, "u");
        ASSERT_PLACED(&c, w, "w");
        ASSERT_RESTS(&c, w, 0);
}

/* Else those who stopped for it would come back in its rest, and be stopped again. */
static void test_who_made_others_stop_keeps_its_place_while_it_rests(void) {
        WORLD w = world_to_preempt(2, 0, 2);
        CONDUCTOR c = {};
        runs_preemptible(w, "v", 2, 10, "a", "0 1");
        ASSERT_TAKES_PLACE(&c, w, "v stops for w");
        has_stopped(w, "v");
        ASSERT_PLACED(&c, w, "w");
        has_stopped(w, "w");
        vm_named(w, "w")->attempts = 1;
        ASSERT_RESTS_UNTIL(&c, w, 0, CONDUCTOR_BACKOFF_FIRST_US);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_BACKOFF_FIRST_US, "w");
        vm_named(w, "w")->failed = true;
        ASSERT_PROPOSES(&c, w, CONDUCTOR_BACKOFF_FIRST_US, "v");
}

static void test_who_rests_makes_nobody_stop(void) {
        WORLD w = world_to_preempt(2, 0, 2);
        CONDUCTOR c = {};
        runs_preemptible(w, "v", 2, 10, "a", "0 1");
        vm_named(w, "w")->attempts = 1;
        ASSERT_RESTS_UNTIL(&c, w, 0, CONDUCTOR_BACKOFF_FIRST_US);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_BACKOFF_FIRST_US, "v stops for w");
}

static void test_two_get_their_places_side_by_side(void) {
        WORLD w = world_to_preempt(2, 2, 2);
        CONDUCTOR c = {};
        runs_preemptible(w, "v1", 2, 10, "a", "0 1");
        runs_preemptible(w, "v2", 2, 20, "b", "0 1");
        vm_of(w, "x", "training", 2)->priority = 80;
        vm_named(w, "x")->preempt = true;
        ASSERT_TAKES_PLACE(&c, w, "v1 stops for w");
        ASSERT_TAKES_PLACE(&c, w, "v2 stops for x");
        ASSERT_RESTS(&c, w, 0);
        has_stopped(w, "v2");
        ASSERT_PLACED(&c, w, "x");
        ASSERT_RESTS(&c, w, 0);
        has_stopped(w, "v1");
        ASSERT_PLACED(&c, w, "w");
        ASSERT_RESTS(&c, w, 0);
}

static void test_a_refused_preemption_is_in_nobodys_way(void) {
        WORLD w = world_to_preempt(2, 1, 2);
        CONDUCTOR c = {};
        runs_preemptible(w, "v", 2, 10, "a", "0 1");
        vm_of(w, "small", "training", 1);
        for (uint64_t i = 0; i < 2; i++) {
                ASSERT_PROPOSES(&c, w, i * CONDUCTOR_REFUSED_US, "v stops for w");
                conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, i * CONDUCTOR_REFUSED_US);
        }
        ASSERT_PROPOSES(&c, w, 2 * CONDUCTOR_REFUSED_US, "small");
}

/* ---- draining */

/* a, b and c with two GPUs each; x and y run on a. */
static WorldBuilder *world_to_drain(void) {
        WorldBuilder *w = world_of(3);
        for (const char *name = "abc"; *name; name++)
                with_gpus(w, (char[]) { *name, '\0' }, 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "x", "training", 1);
        vm_of(w, "y", "training", 1)->priority = 90;
        runs(w, "x", "a", "0");
        runs(w, "y", "a", "1");
        return w;
}

static void test_those_on_a_node_that_is_drained_leave_it_one_after_the_other(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        ASSERT_RESTS(&c, w, 0);
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        ASSERT_PROPOSES(&c, w, 0, "y to anywhere, for now");
        Vm *y = vm_named(w, "y");
        y->home = node_named(w, "a")->id;
        y->assignment.phase = ASSIGNMENT_STOPPING;
        ASSERT_RESTS(&c, w, 0);
        assignment_clear(&y->assignment);
        ASSERT_PROPOSES(&c, w, 0, "y");
        runs(w, "y", "b", "0");
        y->assignment.phase = ASSIGNMENT_STARTING;
        ASSERT_RESTS(&c, w, 0);
        y->assignment.phase = ASSIGNMENT_RUNNING;
        ASSERT_PROPOSES(&c, w, 0, "x to anywhere, for now");
}

static void test_who_fits_nowhere_else_stays_on_a_node_that_is_drained(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        vm_of(w, "big", "training", 2);
        vm_of(w, "huge", "training", 2);
        runs(w, "big", "b", "0 1");
        runs(w, "huge", "c", "0 1");
        ASSERT_RESTS(&c, w, 0);
        assignment_clear(&vm_named(w, "big")->assignment);
        vm_named(w, "big")->run = false;
        ASSERT_PROPOSES(&c, w, 0, "y to anywhere, for now");
}

static void test_those_that_left_come_home_when_asked_one_after_the_other(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        NodeRecord *a = node_named(w, "a");
        runs(w, "x", "b", "0");
        runs(w, "y", "c", "0");
        vm_named(w, "x")->home = vm_named(w, "y")->home = a->id;
        ASSERT_RESTS(&c, w, 0);
        a->bring_home = true;
        ASSERT_PROPOSES(&c, w, 0, "y to a");
        vm_named(w, "y")->assignment.phase = ASSIGNMENT_STOPPING;
        ASSERT_RESTS(&c, w, 0);
        runs(w, "y", "a", "0");
        vm_named(w, "y")->home = (NodeId) {};
        ASSERT_PROPOSES(&c, w, 0, "x to a");
        a->lost = true;
        ASSERT_RESTS(&c, w, 0);
}

/* As MoveVm does. */
static void leaves(WorldBuilder *w, const char *vm, const char *target) {
        vm_named(w, vm)->home = vm_named(w, vm)->assignment.node;
        vm_named(w, vm)->target = node_named(w, target)->id;
        vm_named(w, vm)->assignment.phase = ASSIGNMENT_STOPPING;
}

static void test_two_that_must_be_together_leave_a_node_that_is_drained(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        must_be(w, "x", "with", "y");
        vm_of(w, "small", "training", 1);
        runs(w, "small", "b", "0");             /* b has room for one of them only, and would be taken by name */
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        ASSERT_PROPOSES(&c, w, 0, "y to c, for now");
        leaves(w, "y", "c");
        ASSERT_PROPOSES(&c, w, 0, "x to c, for now");   /* it does not wait until y runs: apart as short as can be */
        leaves(w, "x", "c");
        ASSERT_RESTS(&c, w, 0);
        assignment_clear(&vm_named(w, "y")->assignment);        /* x still shuts down: y need not wait for it */
        ASSERT_PROPOSES(&c, w, 0, "y");
        Placement placement = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, "y"), &placement), ==, PLACEMENT_FOUND);
        g_assert_cmpstr(world_node_name(world_now(w), &placement.node), ==, "c");
        placement_clear(&placement);

        runs(w, "y", "c", "0");
        vm_named(w, "y")->target = (NodeId) {};
        assignment_clear(&vm_named(w, "x")->assignment);
        vm_named(w, "x")->target = (NodeId) {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, "x"), &placement), ==, PLACEMENT_FOUND);
        g_assert_cmpstr(world_node_name(world_now(w), &placement.node), ==, "c");       /* bound to y, once more */
        placement_clear(&placement);
}

static void test_two_that_must_be_together_stay_where_no_node_has_room_for_both(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        must_be(w, "y", "with", "x");
        vm_of(w, "one", "training", 1);
        vm_of(w, "other", "training", 1);
        runs(w, "one", "b", "0");
        runs(w, "other", "c", "0");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        ASSERT_RESTS(&c, w, 0);
        assignment_clear(&vm_named(w, "other")->assignment);
        vm_named(w, "other")->run = false;
        ASSERT_PROPOSES(&c, w, 0, "y to c, for now");
}

static void test_two_that_must_be_together_come_home_together(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        NodeRecord *a = node_named(w, "a");
        must_be(w, "x", "with", "y");
        runs(w, "x", "b", "0");
        runs(w, "y", "b", "1");
        vm_named(w, "x")->home = vm_named(w, "y")->home = a->id;
        a->bring_home = true;
        ASSERT_PROPOSES(&c, w, 0, "y to a");
        vm_named(w, "y")->assignment.phase = ASSIGNMENT_STOPPING;
        vm_named(w, "y")->target = a->id;
        ASSERT_PROPOSES(&c, w, 0, "x to a");

        /* Whoever must be with one that is at home elsewhere stays with it. */
        CONDUCTOR d = {};
        runs(w, "y", "b", "1");
        vm_named(w, "x")->home = (NodeId) {};
        ASSERT_RESTS(&d, w, 0);
}

/* x left before it was told to be with y, and waits. */
static void test_nobody_follows_one_that_has_no_room_for_both(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        NodeRecord *a = node_named(w, "a");
        must_be(w, "x", "with", "y");
        assignment_clear(&vm_named(w, "x")->assignment);
        vm_named(w, "x")->home = a->id;
        vm_named(w, "x")->count = 2;
        vm_named(w, "y")->count = 1;
        vm_of(w, "one", "training", 1);
        vm_of(w, "other", "training", 1);
        runs(w, "one", "b", "0");
        runs(w, "other", "c", "0");
        a->drain = DRAIN_BY_HAND;
        ASSERT_RESTS(&c, w, 0);
        with_gpus(w, "c", 2);
        for (size_t i = 2; i < 4; i++)
                g_assert_cmpint(pool_add(pool_named(w, "training"), &gpu_of(w, "c", i)->identity), ==, 0);
        vm_named(w, "x")->attempts = 1;         /* it rests: it is not placed at once */
        ASSERT_PROPOSES(&c, w, 0, "y to anywhere, for now");
}

/* One that is new has no part in the leaving: until y has gone, there is no place where it would be with it. */
static void test_a_new_one_waits_until_the_other_has_left(void) {
        WORLD w = world_to_drain();
        CONDUCTOR c = {};
        vm_of(w, "new", "training", 1)->priority = 100;
        must_be(w, "new", "with", "y");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        ASSERT_PROPOSES(&c, w, 0, "y to anywhere, for now");
        runs(w, "y", "c", "0");
        ASSERT_PROPOSES(&c, w, 0, "new");
}

/* ---- linked GPUs */

static void test_what_is_told_of_linked_gpus_is_written_down_first(void) {
        WORLD w = world_with(4);
        CONDUCTOR c = {};
        vm_of(w, "bert", "training", 2);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        w->registry->level = node_named(w, "a")->level = LEVEL_FAILOVER;
        node_named(w, "a")->lease_ms = 1;
        ASSERT_PROPOSES(&c, w, 0, "bert");              /* no other member could read it */
        w->registry->level = node_named(w, "a")->level = LEVEL_DEVICES;
        ASSERT_PROPOSES(&c, w, 0, "2 sets of a");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, 0);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_REFUSED_US, "2 sets of a");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, CONDUCTOR_REFUSED_US);
        ASSERT_PROPOSES(&c, w, 2 * CONDUCTOR_REFUSED_US, "bert");       /* it is in nobody's way */

        CONDUCTOR d = {};
        g_assert_cmpint(fabric_of_facts(facts_of(w, "a"), &node_named(w, "a")->fabric), ==, 0);
        ASSERT_PROPOSES(&d, w, 0, "bert");
}

static void test_a_node_whose_links_are_refused_is_in_no_others_way(void) {
        CONDUCTOR c = {};
        WORLD w = world_to_drain();
        w->registry->level = LEVEL_DEVICES;
        linked(w, "a", 0, 2);
        linked(w, "b", 0, 2);
        ASSERT_PROPOSES(&c, w, 0, "1 sets of a");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, 0);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_REFUSED_US, "1 sets of b");
        conductor_refused(&c, NULL, REFUSAL_BY_REGISTRY, CONDUCTOR_REFUSED_US);
        ASSERT_PROPOSES(&c, w, CONDUCTOR_BACKOFF_MOST_US, "1 sets of a");       /* and round it goes */
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/conductor/" #name, test_##name)
        TEST(nothing_is_proposed_where_nobody_waits);
        TEST(a_proposal_says_where_and_with_what);
        TEST(the_most_important_comes_first);
        TEST(among_equals_the_hardest_to_place_of_those_that_fit_comes_first);
        TEST(who_finds_no_place_is_in_nobodys_way);
        TEST(who_waits_is_proposed_once_there_is_room);
        TEST(nothing_is_proposed_twice);
        TEST(who_failed_rests_longer_each_time);
        TEST(no_rest_is_longer_than_a_minute);
        TEST(who_rests_is_in_nobodys_way);
        TEST(a_start_by_hand_ends_the_rest);
        TEST(after_a_refusal_all_rest_a_little);
        TEST(who_is_refused_again_and_again_is_in_nobodys_way);
        TEST(who_got_a_place_has_no_refusals_behind_it);
        TEST(gpus_that_a_pool_cannot_take_keep_nobody_from_running);
        TEST(a_vm_that_is_gone_is_forgotten);
        TEST(who_asks_for_no_lease_is_lost_in_time_and_before_anything_else);
        TEST(a_loss_that_surely_was_not_written_is_no_reason_to_refuse_a_lease);
        TEST(a_loss_that_was_not_written_rests_a_little);
        TEST(a_loss_of_which_nothing_is_known_is_proposed_again_whatever_the_time);
        TEST(a_freeze_that_is_over_ends);
        TEST(nobody_takes_the_only_place_that_another_could_have);
        TEST(a_thousand_that_wait_cost_one_pass);
        TEST(whatever_else_changes_is_looked_at_anew);
        TEST(every_node_would_decide_the_same);
        TEST(a_new_leader_in_the_middle_lets_as_many_run);
        TEST(with_more_gpus_never_fewer_of_the_most_important_run);
        TEST(less_important_ones_make_way_one_after_the_other);
        TEST(nobody_makes_way_without_need_or_leave);
        TEST(nobody_makes_way_where_it_would_be_no_use);
        TEST(what_became_free_is_for_whom_it_was_done);
        TEST(what_is_free_already_is_kept_for_whom_it_is_planned);
        TEST(one_that_is_more_important_may_come_between);
        TEST(who_made_others_stop_keeps_its_place_while_it_rests);
        TEST(who_rests_makes_nobody_stop);
        TEST(two_get_their_places_side_by_side);
        TEST(a_refused_preemption_is_in_nobodys_way);
        TEST(those_on_a_node_that_is_drained_leave_it_one_after_the_other);
        TEST(who_fits_nowhere_else_stays_on_a_node_that_is_drained);
        TEST(those_that_left_come_home_when_asked_one_after_the_other);
        TEST(two_that_must_be_together_leave_a_node_that_is_drained);
        TEST(two_that_must_be_together_stay_where_no_node_has_room_for_both);
        TEST(two_that_must_be_together_come_home_together);
        TEST(nobody_follows_one_that_has_no_room_for_both);
        TEST(a_new_one_waits_until_the_other_has_left);
        TEST(a_rule_brings_in_gpus_that_are_in_no_pool);
        TEST(of_two_pools_the_first_by_name_has_the_gpu);
        TEST(what_is_not_there_is_not_brought_in);
        TEST(a_card_of_which_the_serial_may_come_later_is_not_brought_in_without_it);
        TEST(no_rule_brings_in_nothing);
        TEST(so_many_gpus_come_in_at_once);
        TEST(what_is_told_of_linked_gpus_is_written_down_first);
        TEST(a_node_whose_links_are_refused_is_in_no_others_way);
        return g_test_run();
}
