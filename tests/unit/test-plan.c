/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Plans: what would become of whom, and that the conductor would come to the same, step by step. */

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/conductor.h"
#include "core/plan.h"
#include "world-builder.h"

#define WORLD _cleanup_(world_builder_freep) WorldBuilder *

/* Leases and drains are there from here on. */
static WorldBuilder *cluster_of(size_t n_nodes) {
        WorldBuilder *w = world_of(n_nodes);
        w->registry->level = LEVEL_FAILOVER;
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = LEVEL_FAILOVER;
                node->lease_ms = 3000;
        }
        return w;
}

/* bert (2 GPUs) and ernie (1) run on a; b has two GPUs, c one; kermit (1) is stopped. */
static WorldBuilder *small_cluster(void) {
        WorldBuilder *w = cluster_of(3);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 2);
        with_gpus(w, "c", 1);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 1);
        vm_of(w, "kermit", "training", 1)->run = false;
        runs(w, "bert", "a", "0 1");
        runs(w, "ernie", "a", "2");
        return w;
}

static Plan make(WorldBuilder *w, const Supposal *supposal) {
        Plan plan = {};
        Result result = {};
        g_assert_cmpint(plan_make(world_now(w), supposal, NULL, &plan, &result), ==, 0);
        g_assert_cmpint(result.verdict, ==, VERDICT_DONE);
        return plan;
}

/* "bert moves a b\n", with the code where there is one. */
static char *write_plan(WorldBuilder *w, const Plan *plan) {
        GString *text = g_string_new(NULL);
        ARRAY_EACH(item, &plan->items) {
                const NodeRecord *from = registry_find_node(w->registry, &item->from);
                g_string_append_printf(text, "%s %s %s%s%s%s%s\n", registry_find_vm(w->registry, &item->vm)->name,
                                       plan_fate_to_text(item->fate), from ? from->name : "",
                                       from && item->to_name ? " " : "", item->to_name ? item->to_name : "",
                                       *item->code ? " " : "", item->code);
                g_assert_nonnull(item->why);
                g_assert_cmpint(item->to_name != NULL, ==, !id_is_null(item->to.bytes));
        }
        return g_string_free(text, FALSE);
}

/* Everybody runs whom the supposal touches, as gpupoolctl's exit status has it: who waits already does not count. */
static bool is_good(const Plan *plan) {
        ARRAY_EACH(item, &plan->items)
                if (item->fate != PLAN_MOVES && item->fate != PLAN_STARTS && item->fate != PLAN_STILL_WAITS)
                        return false;
        return true;
}

static void expect(WorldBuilder *w, const Supposal *supposal, const char *expected, bool good) {
        _cleanup_(plan_clear) Plan plan = make(w, supposal);
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, expected);
        g_assert_cmpint(is_good(&plan), ==, good);
}

#define LOSE(w, node) &(Supposal) { .lose = &node_named(w, node)->id, .n_lose = 1 }
#define DRAIN(w, node) &(Supposal) { .drain = &node_named(w, node)->id, .n_drain = 1 }
#define START(w, vm) &(Supposal) { .start = &vm_named(w, vm)->id, .n_start = 1 }

static void test_nothing_changes_nothing(void) {
        WORLD w = small_cluster();
        expect(w, &(Supposal) {}, "", true);
}

static void test_vms_of_a_lost_node_run_elsewhere(void) {
        WORLD w = small_cluster();
        expect(w, LOSE(w, "a"), "bert moves a b\nernie moves a c\n", true);
        expect(w, LOSE(w, "b"), "", true);
}

static void test_who_finds_no_place_stops_and_it_is_said_why(void) {
        WORLD w = small_cluster();
        vm_named(w, "ernie")->priority = 60;
        vm_named(w, "bert")->priority = 50;
        quarantined(w, "c", 0);
        _cleanup_(plan_clear) Plan plan = make(w, LOSE(w, "a"));
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, "ernie moves a b\nbert stops a node-lost\n");
        g_assert_cmpstr(plan.items.items[1].why, ==, "b: 2 usable, 1 of them runs ernie (priority 60, above bert); c: "
                                                     "0 usable GPUs of training in all; not usable: 0000:41:00.0 (in "
                                                     "quarantine)");
        g_assert_cmpstr(plan.items.items[0].why, ==, "1 GPU of training");
        g_assert_false(is_good(&plan));
}

static void test_who_is_never_restarted_stops(void) {
        WORLD w = small_cluster();
        vm_named(w, "bert")->restart = RESTART_NEVER;
        expect(w, LOSE(w, "a"), "bert stops a never-restarted\nernie moves a c\n", false);
}

static void test_without_a_majority_nothing_runs(void) {
        WORLD w = small_cluster();
        NodeId both[] = { node_named(w, "a")->id, node_named(w, "b")->id };
        vm_named(w, "kermit")->run = true;
        runs(w, "kermit", "c", "0");
        expect(w, &(Supposal) { .lose = both, .n_lose = 2 },
               "bert stops a no-majority\nernie stops a no-majority\nkermit stops c no-majority\n", false);

        /* But where it is known who votes, it may be others that are lost. */
        WORLD five = cluster_of(5);
        NodeLife lives[5] = {};
        for (size_t i = 0; i < 5; i++)
                lives[i] = (NodeLife) { .node = five->registry->nodes.items[i].id,
                                        .role = i < 3 ? NODE_VOTER : NODE_READER };
        five->world.lives = lives;
        five->world.n_lives = 5;
        with_gpus(five, "a", 1);
        with_gpus(five, "d", 1);
        pool_of(five, "training", "a d");
        vm_of(five, "bert", "training", 1);
        runs(five, "bert", "d", "0");
        NodeId readers[] = { node_named(five, "c")->id, node_named(five, "d")->id, node_named(five, "e")->id };
        expect(five, &(Supposal) { .lose = readers, .n_lose = 3 }, "bert moves d a\n", true);
        lives[0].silent = true;
        expect(five, &(Supposal) { .lose = readers, .n_lose = 3 }, "bert stops d no-majority\n", false);
}

static void test_of_a_pair_the_other_ones_vms_run_on(void) {
        WORLD w = cluster_of(2);
        with_gpus(w, "a", 1);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "ernie", "training", 1);
        runs(w, "bert", "a", "0");
        runs(w, "ernie", "b", "0");
        expect(w, LOSE(w, "a"), "bert stops a no-majority\n", false);
}

static void test_who_cannot_leave_a_drained_node_stays(void) {
        WORLD w = small_cluster();
        expect(w, DRAIN(w, "a"), "bert moves a b\nernie moves a c\n", true);
        quarantined(w, "b", 0);
        _cleanup_(plan_clear) Plan plan = make(w, DRAIN(w, "a"));
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, "bert stays a a draining\nernie moves a b\n");
        g_assert_cmpstr(plan.items.items[0].why, ==, "b: 1 usable GPU of training in all; not usable: 0000:41:00.0 (in "
                                                     "quarantine); c: 1 usable GPU of training in all");
}

static void test_who_is_started_gets_a_place_or_waits(void) {
        WORLD w = small_cluster();
        expect(w, START(w, "kermit"), "kermit starts a\n", true);
        vm_named(w, "kermit")->count = 3;
        expect(w, START(w, "kermit"), "kermit waits  gpus-taken\n", false);
        vm_named(w, "kermit")->run = true;      /* and nobody asks */
        expect(w, &(Supposal) {}, "kermit still-waits  gpus-taken\n", true);
        expect(w, LOSE(w, "a"), "bert moves a b\nernie moves a c\nkermit still-waits  node-lost\n", true);
}

static void test_a_purchase_gives_places(void) {
        WORLD w = small_cluster();
        const char *const z = "z";
        vm_named(w, "kermit")->count = 8;
        vm_named(w, "kermit")->run = true;
        expect(w, &(Supposal) { .new_nodes = &z, .n_new_nodes = 1, .add = &(SupposedGpus) { "training", 8, "z" },
                                .n_add = 1 }, "kermit starts z\n", true);
        expect(w, &(Supposal) { .add = &(SupposedGpus) { "training", 8, "" }, .n_add = 1 }, "kermit starts new1\n",
               true);
}

static void test_a_reserve_is_for_those_who_lost_their_place(void) {
        WORLD w = small_cluster();
        Supposal supposal = { .reserves = &(SupposedReserve) { "training", 4 }, .n_reserves = 1,
                              .start = &vm_named(w, "kermit")->id, .n_start = 1 };
        expect(w, &supposal, "kermit waits  reserve\n", false);
        supposal.lose = &node_named(w, "a")->id;
        supposal.n_lose = 1;
        expect(w, &supposal, "bert moves a b\nernie moves a c\nkermit waits  node-lost\n", false);
}

static void test_others_move_for_a_vm_if_they_may(void) {
        WORLD w = small_cluster();
        vm_named(w, "kermit")->count = 4;
        _cleanup_(plan_clear) Plan plan = {}, none = {};
        _cleanup_(result_clear) Result result = {}, second = {};
        const VmId *kermit = &vm_named(w, "kermit")->id;
        g_assert_cmpint(plan_make(world_now(w), &(Supposal) {}, kermit, &plan, &result), ==, 0);
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, "kermit starts a\nbert moves a b\nernie moves a c\n");
        g_assert_true(is_good(&plan));

        quarantined(w, "c", 0);
        g_assert_cmpint(plan_make(world_now(w), &(Supposal) {}, kermit, &none, &second), ==, 0);
        g_autofree char *why_not = write_plan(w, &none);
        g_assert_cmpstr(why_not, ==, "kermit waits  gpus-taken\n");
        g_assert_true(g_str_has_suffix(none.items.items[0].why, ". No 8 moves of other VMs make room for it"));
}

static void at_level(WorldBuilder *w, uint32_t level) {
        w->registry->level = level;
        ARRAY_EACH(node, &w->registry->nodes)
                node->level = level;
}

static void test_who_makes_room_for_another_stops_or_moves_and_is_told_for_whom(void) {
        WORLD w = small_cluster();
        at_level(w, LEVEL_PLACEMENT);
        vm_named(w, "kermit")->count = 3;
        vm_named(w, "kermit")->priority = 10;
        vm_named(w, "kermit")->preempt = true;
        expect(w, START(w, "kermit"), "kermit waits  gpus-taken\n", false);
        vm_named(w, "bert")->preemptible = true;
        _cleanup_(plan_clear) Plan plan = make(w, START(w, "kermit"));
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, "kermit starts a\nbert moves a b\n");
        g_assert_cmpstr(plan.items.items[1].why, ==, "2 GPUs of training. It makes room for kermit");
        g_assert_true(is_good(&plan));

        quarantined(w, "b", 0);
        _cleanup_(plan_clear) Plan worse = make(w, START(w, "kermit"));
        g_autofree char *worse_text = write_plan(w, &worse);
        g_assert_cmpstr(worse_text, ==, "kermit starts a\nbert stops a preempted\n");
        g_assert_cmpstr(worse.items.items[1].why, ==, "it makes room for kermit (priority 10, its own is 0), and no "
                                                      "other place is left for it");
        g_assert_false(is_good(&worse));

        at_level(w, LEVEL_PLACEMENT - 1);       /* others would not know why it is stopped */
        expect(w, START(w, "kermit"), "kermit waits  gpus-taken\n", false);
}

static void test_vms_that_must_be_together_leave_a_drained_node_together(void) {
        WORLD w = small_cluster();
        with_gpus(w, "c", 2);
        pool_named(w, "training")->gpus.n = 0;
        pool_of(w, "render", "a b c");
        for (size_t i = 0; i < w->registry->vms.n; i++)
                g_assert_cmpint(text_set(&w->registry->vms.items[i].pool, "render"), ==, 0);
        must_be(w, "bert", "with", "ernie");
        expect(w, DRAIN(w, "a"), "bert moves a c\nernie moves a c\n", true);
        quarantined(w, "c", 0);
        _cleanup_(plan_clear) Plan plan = make(w, DRAIN(w, "a"));
        g_autofree char *text = write_plan(w, &plan);
        g_assert_cmpstr(text, ==, "bert stays a a affinity-with\nernie stays a a affinity-with\n");
        g_assert_cmpstr(plan.items.items[0].why, ==, "no other node has room for it together with ernie");
}

/* The first of three that wait could be had nowhere; the others have their places. */
static void test_who_cannot_be_placed_is_in_nobodys_way(void) {
        WORLD w = small_cluster();
        vm_of(w, "gonzo", "training", 8)->priority = 100;
        vm_of(w, "scooter", "training", 2)->priority = 50;
        vm_of(w, "fozzie", "training", 1);
        expect(w, &(Supposal) {}, "scooter starts b\nfozzie starts a\ngonzo still-waits  pool-too-small\n", true);
}

static void test_the_numbers_of_the_pools_are_told(void) {
        WORLD w = small_cluster();
        _cleanup_(plan_clear) Plan plan = make(w, LOSE(w, "a"));
        g_assert_cmpuint(plan.pools.n, ==, 1);
        const PlanPool *pool = plan.pools.items;
        g_assert_cmpstr(pool->name, ==, "training");
        g_assert_cmpuint(pool->before.usable, ==, 7);
        g_assert_cmpuint(pool->before.free, ==, 4);
        g_assert_cmpuint(pool->before.survives, ==, 1);
        g_assert_cmpuint(pool->after.usable, ==, 3);
        g_assert_cmpuint(pool->after.free, ==, 0);
        g_assert_cmpuint(pool->after.survives, ==, 0);
        g_assert_cmpuint(pool->running_before, ==, 2);
        g_assert_cmpuint(pool->running_after, ==, 2);
        g_assert_cmpuint(pool->waiting_after, ==, 0);
}

static void test_below_the_level_of_failover_it_is_refused(void) {
        WORLD w = small_cluster();
        Plan plan = {};
        _cleanup_(result_clear) Result result = {};
        w->registry->level = 2;
        g_assert_cmpint(plan_make(world_now(w), LOSE(w, "a"), NULL, &plan, &result), ==, 0);
        g_assert_cmpint(result.verdict, ==, VERDICT_LEVEL_TOO_LOW);
        g_assert_cmpstr(result.sentence, ==, "at functional level 2 no VM leaves its node by itself; from level 3 on "
                                             "it does. Raise it: gpupoolctl cluster level 3");
}

/* ---- the conductor, step by step */

static Vm *mutable_vm(WorldBuilder *w, const Vm *vm) {
        return w->registry->vms.items + (vm - w->registry->vms.items);
}

static void end(Vm *vm, EndCause cause) {
        g_assert_cmpint(vm_ended(vm, cause, NULL, 0), ==, 0);
        assignment_clear(&vm->assignment);
}

/* What the registry does with it, and the nodes then, at once. */
static void carry_out(WorldBuilder *w, Proposal *proposal) {
        if (proposal->kind == PROPOSAL_FABRIC) {
                ARRAY_EACH(node, &w->registry->nodes)
                        if (ID_EQUAL(&node->id, &proposal->node)) {
                                fabric_sets_clear(&node->fabric);
                                node->fabric = proposal->fabric;
                        }
                proposal->fabric = (FabricSets) {};
                return;
        }
        Vm *vm = mutable_vm(w, proposal->vm);
        if (proposal->kind == PROPOSAL_ASSIGN) {
                vm->assignment = (Assignment) { .phase = ASSIGNMENT_RUNNING, .node = proposal->placement.node,
                                                .incarnation = 1, .gpus = STEAL(proposal->placement.gpus),
                                                .n_gpus = proposal->placement.n_gpus, .ran = true };
                vm->epoch++;
                vm->target = (NodeId) {};
                if (ID_EQUAL(&vm->home, &vm->assignment.node))
                        vm->home = (NodeId) {};
                return;
        }
        if (proposal->kind == PROPOSAL_PREEMPT) {
                g_assert_true(vm_may_preempt(proposal->preemptor, vm));
                vm->target = (NodeId) {};
                end(vm, END_REQUESTED);
                return;
        }
        g_assert_cmpint(proposal->kind, ==, PROPOSAL_MOVE);
        vm->target = proposal->target;
        if (proposal->home && id_is_null(vm->home.bytes))
                vm->home = vm->assignment.node;
        else if (!proposal->home && !id_is_null(proposal->target.bytes) && !ID_EQUAL(&proposal->target, &vm->home))
                vm->home = (NodeId) {};
        end(vm, END_REQUESTED);
}

static void conduct(WorldBuilder *w) {
        _cleanup_(conductor_clear) Conductor conductor = {};
        uint64_t wake_us;
        for (unsigned steps = 0;; steps++) {
                _cleanup_(proposal_clear) Proposal proposal = {};
                int r = conductor_next(&conductor, world_now(w), NULL, UINT64_C(1000000) * steps, &proposal, &wake_us);
                if (r == CONDUCTOR_IDLE)
                        return;
                g_assert_cmpint(r, ==, CONDUCTOR_PROPOSES);
                g_assert_cmpuint(steps, <, 200);
                carry_out(w, &proposal);
        }
}

/* The same really happens: a loss, a drain, a start, another reserve; and what is under way is over. */
static void let_it_happen(WorldBuilder *w, const Supposal *supposal) {
        for (size_t i = 0; i < supposal->n_start; i++) {
                Vm *vm = mutable_vm(w, registry_find_vm(w->registry, supposal->start + i));
                vm->run = true;
                vm->failed = false;
                vm->attempts = 0;
        }
        for (size_t i = 0; i < supposal->n_reserves; i++)
                pool_named(w, supposal->reserves[i].pool)->reserve = supposal->reserves[i].reserve;
        ARRAY_EACH(node, &w->registry->nodes) {
                for (size_t i = 0; i < supposal->n_lose; i++)
                        node->lost = node->lost || ID_EQUAL(&node->id, supposal->lose + i);
                for (size_t i = 0; i < supposal->n_drain; i++)
                        if (ID_EQUAL(&node->id, supposal->drain + i) && node->drain == DRAIN_NONE)
                                node->drain = DRAIN_BY_HAND;
        }
        ARRAY_EACH(vm, &w->registry->vms) {
                if (vm->assignment.phase == ASSIGNMENT_NONE)
                        continue;
                bool lost = registry_find_node(w->registry, &vm->assignment.node)->lost;
                bool stopping = vm->assignment.phase == ASSIGNMENT_STOPPING;
                if (lost && (!stopping || (vm->run && vm->restart != RESTART_NEVER)))
                        end(vm, END_NODE_LOST);
                else if (stopping)
                        end(vm, END_REQUESTED);
                else
                        vm->assignment.phase = ASSIGNMENT_RUNNING;
        }
}

static bool chance(GRand *random, int one_in) {
        return g_rand_int_range(random, 0, one_in) == 0;
}

/* Whatever the API allows: two pools, relations, limits, drains under way, VMs in every state. */
static WorldBuilder *random_cluster(GRand *random) {
        static const AssignmentPhase phases[] = { ASSIGNMENT_RUNNING, ASSIGNMENT_RUNNING, ASSIGNMENT_RUNNING,
                                                  ASSIGNMENT_STARTING, ASSIGNMENT_STOPPING };
        size_t n_nodes = (size_t) g_rand_int_range(random, 3, 6), n_vms = (size_t) g_rand_int_range(random, 3, 13);
        WorldBuilder *w = cluster_of(n_nodes);
        GString *training = g_string_new(NULL), *render = g_string_new(NULL);
        bool related = chance(random, 2), preempting = chance(random, 3);
        at_level(w, preempting ? LEVEL_PLACEMENT : LEVEL_FAILOVER);
        for (size_t i = 0; i < n_nodes; i++) {
                const char *name = w->registry->nodes.items[i].name;
                size_t n_gpus = (size_t) g_rand_int_range(random, 0, 6);
                with_gpus(w, name, n_gpus);
                if (n_gpus >= 2 && chance(random, 4))
                        linked(w, name, 0, 2);
                for (size_t j = 0; j < n_gpus; j++)
                        g_string_append_printf(chance(random, 4) ? render : training, "%s:%zu ", name, j);
                if (chance(random, 8))
                        w->registry->nodes.items[i].drain = DRAIN_BY_HAND;
                w->registry->nodes.items[i].bring_home = chance(random, 6);
        }
        pool_of(w, "training", training->str)->reserve = chance(random, 3) ? 1 : 0;
        pool_of(w, "render", render->str);
        pool_named(w, "training")->max_in_use = chance(random, 2) ? (uint32_t) g_rand_int_range(random, 3, 8) : 0;
        pool_named(w, "training")->placement = chance(random, 2) ? POOL_PACK : POOL_SPREAD;
        g_string_free(training, TRUE);
        g_string_free(render, TRUE);

        for (size_t i = 0; i < n_vms; i++) {
                g_autofree char *name = g_strdup_printf("vm%zu", i), *other = g_strdup_printf("vm%d",
                                                        g_rand_int_range(random, 0, (gint32) n_vms));
                Vm *vm = vm_of(w, name, chance(random, 4) ? "render" : "training",
                               1 + (uint32_t) g_rand_int_range(random, 0, 3));
                vm->priority = g_rand_int_range(random, 0, 3);
                vm->restart = chance(random, 6) ? RESTART_NEVER : RESTART_ON_FAILURE;
                vm->preempt = preempting && chance(random, 2);
                vm->preemptible = preempting && chance(random, 2);
                if (related && chance(random, 4) && !text_equal(name, other))
                        must_be(w, name, chance(random, 3) ? "with" : "apart", other);
                if (chance(random, 5))
                        prefers(w, name, w->registry->nodes.items[g_rand_int_range(random, 0, (gint32) n_nodes)].name);
        }
        ARRAY_EACH(vm, &w->registry->vms) {
                Placement found = {};
                if (!chance(random, 3) && placement_find(world_now(w), vm, &found) == PLACEMENT_FOUND) {
                        vm->assignment = (Assignment) { .phase = phases[g_rand_int_range(random, 0, 5)],
                                                        .node = found.node, .incarnation = 1,
                                                        .gpus = STEAL(found.gpus), .n_gpus = found.n_gpus };
                        vm->run = vm->assignment.phase != ASSIGNMENT_STOPPING || chance(random, 2);
                } else if (chance(random, 3))
                        vm->run = false;
                else if (chance(random, 8))
                        vm->failed = true;
                if (vm->run && chance(random, 4))
                        vm->home = w->registry->nodes.items[g_rand_int_range(random, 0, (gint32) n_nodes)].id;
                placement_clear(&found);
        }
        return w;
}

static void check_one(uint32_t seed) {
        GRand *random = g_rand_new_with_seed(seed);
        WORLD w = random_cluster(random);
        NodeId lose = w->registry->nodes.items[g_rand_int_range(random, 0, (gint32) w->registry->nodes.n)].id;
        NodeId drain[2];
        VmId start[2];
        for (size_t i = 0; i < 2; i++) {
                drain[i] = w->registry->nodes.items[g_rand_int_range(random, 0, (gint32) w->registry->nodes.n)].id;
                start[i] = w->registry->vms.items[g_rand_int_range(random, 0, (gint32) w->registry->vms.n)].id;
        }
        Supposal supposal = {
                .lose = &lose, .n_lose = chance(random, 2),
                .drain = drain, .n_drain = (size_t) g_rand_int_range(random, 0, 3),
                .start = start, .n_start = (size_t) g_rand_int_range(random, 0, 3),
                .reserves = &(SupposedReserve) { "training", 2 }, .n_reserves = chance(random, 4),
        };
        _cleanup_(plan_clear) Plan plan = make(w, &supposal);
        g_autofree char *text = write_plan(w, &plan);
        g_test_message("seed %u (replay: GPUPOOL_SEED=%u test-plan -p /plan/the_conductor_comes_to_the_same)\n%s", seed,
                       seed, text);
        g_assert_true(plan.quorate);

        NodeId before[16] = {};
        for (size_t i = 0; i < w->registry->vms.n; i++)
                if (w->registry->vms.items[i].assignment.phase != ASSIGNMENT_NONE)
                        before[i] = w->registry->vms.items[i].assignment.node;
        let_it_happen(w, &supposal);
        conduct(w);
        for (size_t i = 0; i < w->registry->vms.n; i++) {
                const Vm *vm = w->registry->vms.items + i;
                NodeId after = vm->assignment.phase != ASSIGNMENT_NONE ? vm->assignment.node : (NodeId) {};
                const PlanItem *planned = NULL;
                ARRAY_EACH(item, &plan.items)
                        if (ID_EQUAL(&item->vm, &vm->id))
                                planned = item;
                g_test_message("%s ends on %s", vm->name, world_node_name(world_now(w), &after));
                if (planned) {
                        g_assert_true(ID_EQUAL(&planned->from, before + i));
                        g_assert_true(ID_EQUAL(&planned->to, &after));
                } else if (vm->run && !vm->failed)      /* who is not told of is where it was */
                        g_assert_true(ID_EQUAL(before + i, &after));
        }
        g_rand_free(random);
}

static void test_the_conductor_comes_to_the_same(void) {
        const char *given = getenv("GPUPOOL_SEED");
        if (given) {
                check_one((uint32_t) strtoul(given, NULL, 10));
                return;
        }
        for (uint32_t seed = 0; seed < 10000; seed++)
                check_one(seed);
}

/* Each who is stopped costs a pass over all who wait: what anybody may ask must not keep leases from being renewed. */
static void test_more_preemptions_than_can_be_worked_out_at_once_are_refused(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = cluster_of(64);
        _cleanup_(result_clear) Result result = {};
        GString *names = g_string_new(NULL);
        Plan plan = {};
        at_level(w, LEVEL_PLACEMENT);
        for (size_t i = 0; i < 64; i++) {
                const char *name = w->registry->nodes.items[i].name;
                with_gpus(w, name, 8);
                g_string_append_printf(names, "%s%s", i > 0 ? " " : "", name);
        }
        pool_of(w, "training", names->str);
        for (unsigned i = 0; i < 512; i++) {
                char low[16], high[16], gpu[2] = { (char) ('0' + i % 8), 0 };
                (void) snprintf(low, sizeof(low), "low%u", i);
                (void) snprintf(high, sizeof(high), "high%u", i);
                vm_of(w, low, "training", 1)->preemptible = true;
                runs(w, low, w->registry->nodes.items[i / 8].name, gpu);
                vm_of(w, high, "training", 1)->preempt = true;
                vm_named(w, high)->priority = 90;
        }
        g_assert_cmpint(plan_make(world_now(w), &(Supposal) {}, NULL, &plan, &result), ==, 0);
        g_assert_cmpint(result.verdict, ==, VERDICT_LIMITS_EXCEEDED);
        g_string_free(names, TRUE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/plan/" #name, test_##name)
        TEST(nothing_changes_nothing);
        TEST(vms_of_a_lost_node_run_elsewhere);
        TEST(who_finds_no_place_stops_and_it_is_said_why);
        TEST(who_is_never_restarted_stops);
        TEST(without_a_majority_nothing_runs);
        TEST(of_a_pair_the_other_ones_vms_run_on);
        TEST(who_cannot_leave_a_drained_node_stays);
        TEST(who_is_started_gets_a_place_or_waits);
        TEST(a_purchase_gives_places);
        TEST(a_reserve_is_for_those_who_lost_their_place);
        TEST(others_move_for_a_vm_if_they_may);
        TEST(who_makes_room_for_another_stops_or_moves_and_is_told_for_whom);
        TEST(vms_that_must_be_together_leave_a_drained_node_together);
        TEST(who_cannot_be_placed_is_in_nobodys_way);
        TEST(the_numbers_of_the_pools_are_told);
        TEST(below_the_level_of_failover_it_is_refused);
        TEST(more_preemptions_than_can_be_worked_out_at_once_are_refused);
        TEST(the_conductor_comes_to_the_same);
#undef TEST
        return g_test_run();
}
