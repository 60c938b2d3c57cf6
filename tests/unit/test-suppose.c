/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Suppositions: what they change, and that the world that there is stays as it is. */

#include <glib.h>

#include "core/inventory.h"
#include "core/suppose.h"
#include "world-builder.h"

#define WORLD _cleanup_(world_builder_freep) WorldBuilder *
#define SUPPOSITION _cleanup_(suppose_freep) Supposition *

/* bert (2 GPUs) runs on a, ernie (1) is stopped; two GPUs each on a and b. */
static WorldBuilder *small_cluster(void) {
        WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 1)->run = false;
        runs(w, "bert", "a", "0 1");
        return w;
}

static Supposition *suppose(WorldBuilder *w, const Supposal *supposal) {
        Supposition *supposition = NULL;
        Result result = {};
        g_assert_cmpint(suppose_new(world_now(w), supposal, &supposition, &result), ==, 0);
        g_assert_cmpint(result.verdict, ==, VERDICT_DONE);
        g_assert_nonnull(supposition);
        return supposition;
}

static void expect_refusal(WorldBuilder *w, const Supposal *supposal, Verdict verdict, const char *sentence) {
        Supposition *supposition = NULL;
        _cleanup_(result_clear) Result result = {};
        g_assert_cmpint(suppose_new(world_now(w), supposal, &supposition, &result), ==, 0);
        g_assert_null(supposition);
        g_assert_cmpint(result.verdict, ==, verdict);
        g_assert_cmpstr(result.sentence, ==, sentence);
}

static InventoryPool pool_in(const World *world, const char *pool) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world, &inventory), ==, 0);
        return inventory->pools.items[inventory_find_pool(inventory, pool)];
}

static void test_nothing_supposed_is_the_same_world(void) {
        WORLD w = small_cluster();
        SUPPOSITION s = suppose(w, &(Supposal) {});
        const World *world = suppose_world(s);
        g_assert_true(world->registry != w->registry);
        g_assert_cmpuint(world->registry->nodes.n, ==, 3);
        g_assert_cmpuint(pool_in(world, "training").free, ==, 2);
        g_assert_cmpuint(pool_in(world, "training").in_use, ==, 2);
}

static void test_what_ran_on_a_lost_node_has_lost_its_place(void) {
        WORLD w = small_cluster();
        SUPPOSITION s = suppose(w, &(Supposal) { .lose = &node_named(w, "a")->id, .n_lose = 1 });
        const Vm *bert = registry_find_vm_name(suppose_world(s)->registry, "bert");
        g_assert_true(registry_find_node_name(suppose_world(s)->registry, "a")->lost);
        g_assert_cmpint(bert->assignment.phase, ==, ASSIGNMENT_NONE);
        g_assert_true(vm_lost_its_place(bert));
        g_assert_cmpuint(pool_in(suppose_world(s), "training").usable, ==, 2);
        /* ... and here it has not. */
        g_assert_false(node_named(w, "a")->lost);
        g_assert_cmpint(vm_named(w, "bert")->assignment.phase, ==, ASSIGNMENT_RUNNING);
        g_assert_null(vm_named(w, "bert")->reason_code);
}

static void test_who_is_never_restarted_is_not_to_run_after_a_loss(void) {
        WORLD w = small_cluster();
        vm_named(w, "bert")->restart = RESTART_NEVER;
        SUPPOSITION s = suppose(w, &(Supposal) { .lose = &node_named(w, "a")->id, .n_lose = 1 });
        g_assert_false(registry_find_vm_name(suppose_world(s)->registry, "bert")->run);
        g_assert_true(vm_named(w, "bert")->run);
}

static void test_a_drained_node_keeps_its_vms_and_takes_none(void) {
        WORLD w = small_cluster();
        SUPPOSITION s = suppose(w, &(Supposal) { .drain = &node_named(w, "a")->id, .n_drain = 1 });
        g_assert_cmpint(registry_find_node_name(suppose_world(s)->registry, "a")->drain, ==, DRAIN_BY_HAND);
        g_assert_cmpint(registry_find_vm_name(suppose_world(s)->registry, "bert")->assignment.phase, ==,
                        ASSIGNMENT_RUNNING);
        g_assert_cmpint(node_named(w, "a")->drain, ==, DRAIN_NONE);
}

static void test_what_is_under_way_is_over_where_it_is_settled(void) {
        WORLD w = small_cluster();
        vm_named(w, "ernie")->run = true;
        runs(w, "ernie", "b", "0");
        vm_named(w, "bert")->assignment.phase = ASSIGNMENT_STARTING;
        vm_named(w, "ernie")->assignment.phase = ASSIGNMENT_STOPPING;
        SUPPOSITION as_it_is = suppose(w, &(Supposal) {});
        SUPPOSITION settled = suppose(w, &(Supposal) { .settled = true });
        const Registry *before = suppose_world(as_it_is)->registry, *after = suppose_world(settled)->registry;
        g_assert_cmpint(registry_find_vm_name(before, "bert")->assignment.phase, ==, ASSIGNMENT_STARTING);
        g_assert_cmpint(registry_find_vm_name(before, "ernie")->assignment.phase, ==, ASSIGNMENT_STOPPING);
        g_assert_cmpint(registry_find_vm_name(after, "bert")->assignment.phase, ==, ASSIGNMENT_RUNNING);
        g_assert_cmpint(registry_find_vm_name(after, "ernie")->assignment.phase, ==, ASSIGNMENT_NONE);
        g_assert_cmpuint(pool_in(suppose_world(settled), "training").in_use, ==, 2);
}

static void test_who_is_started_wants_to_run_and_has_no_failures(void) {
        WORLD w = small_cluster();
        Vm *ernie = vm_named(w, "ernie");
        ernie->attempts = 3;
        ernie->failed = true;
        SUPPOSITION s = suppose(w, &(Supposal) { .start = &ernie->id, .n_start = 1 });
        const Vm *started = registry_find_vm_name(suppose_world(s)->registry, "ernie");
        g_assert_true(started->run && !started->failed && started->attempts == 0);
        g_assert_true(!ernie->run && ernie->failed && ernie->attempts == 3);
}

static void test_a_reserve_is_supposed(void) {
        WORLD w = small_cluster();
        SUPPOSITION s = suppose(w, &(Supposal) { .reserves = &(SupposedReserve) { "training", 3 }, .n_reserves = 1 });
        g_assert_cmpuint(registry_find_pool(suppose_world(s)->registry, "training")->reserve, ==, 3);
        g_assert_cmpuint(pool_named(w, "training")->reserve, ==, 0);
}

static void test_gpus_are_bought_for_a_node(void) {
        WORLD w = small_cluster();
        SupposedGpus add[] = { { "training", 3, "b" }, { "training", 1, "b" }, { "training", 2, "c" } };
        SUPPOSITION s = suppose(w, &(Supposal) { .add = add, .n_add = 3 });
        InventoryPool pool = pool_in(suppose_world(s), "training");
        g_assert_cmpuint(pool.usable, ==, 10);
        g_assert_cmpuint(pool.free, ==, 8);
        g_assert_cmpuint(pool.n_rooms, ==, 3);
        g_assert_cmpuint(pool_named(w, "training")->gpus.n, ==, 4);
        g_assert_cmpuint(facts_of(w, "b")->n_gpus, ==, 2);
}

static void test_nodes_are_bought_and_take_vms(void) {
        WORLD w = small_cluster();
        w->registry->level = 3;                 /* where a node must have announced its leases */
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = 3;
                node->lease_ms = 3000;
        }
        const char *const names[] = { "y", "z" };
        SupposedGpus add[] = { { "training", 4, "z" }, { "training", 8, "y" } };
        SUPPOSITION s = suppose(w, &(Supposal) { .new_nodes = names, .n_new_nodes = 2, .add = add, .n_add = 2 });
        const World *world = suppose_world(s);
        g_assert_cmpuint(world->registry->nodes.n, ==, 5);
        g_assert_cmpuint(world->n_nodes, ==, 5);
        g_assert_cmpuint(pool_in(world, "training").free, ==, 14);
        const NodeRecord *y = registry_find_node_name(world->registry, "y");
        g_assert_cmpuint(world_find_facts(world, &y->id)->n_gpus, ==, 8);
        g_assert_cmpuint(world_find_facts(world, &y->id)->memory_total, ==, facts_of(w, "a")->memory_total);
}

static void test_what_is_bought_is_like_what_is_there(void) {
        WORLD w = small_cluster();
        SUPPOSITION s = suppose(w, &(Supposal) { .add = &(SupposedGpus) { "training", 1, "c" }, .n_add = 1 });
        const NodeFacts *c = world_find_facts(suppose_world(s), &node_named(w, "c")->id);
        g_assert_cmpuint(c->gpus[0].identity.device, ==, gpu_of(w, "a", 0)->identity.device);
        g_assert_cmpuint(gpu_facts_bars_total(c->gpus), ==, gpu_facts_bars_total(gpu_of(w, "a", 0)));
        WORLD empty = world_of(1);
        pool_of(empty, "training", "");
        SUPPOSITION first = suppose(empty, &(Supposal) { .add = &(SupposedGpus) { "training", 2, "a" }, .n_add = 1 });
        g_assert_cmpuint(pool_in(suppose_world(first), "training").free, ==, 2);
}

static void test_gpus_of_a_host_that_can_assign_none_are_no_use(void) {
        WORLD w = small_cluster();
        facts_of(w, "c")->iommu_present = false;
        SUPPOSITION s = suppose(w, &(Supposal) { .add = &(SupposedGpus) { "training", 1, "c" }, .n_add = 1 });
        g_assert_cmpuint(pool_in(suppose_world(s), "training").usable_anywhere, ==, 4);
        forget_facts(w, "c");
        SUPPOSITION silent = suppose(w, &(Supposal) { .add = &(SupposedGpus) { "training", 1, "c" }, .n_add = 1 });
        g_assert_cmpuint(pool_in(suppose_world(silent), "training").usable_anywhere, ==, 4);
}

static void test_what_is_not_there_cannot_be_supposed(void) {
        WORLD w = small_cluster();
        NodeId nobody = { { 9 } };
        VmId no_vm = { { 9 } };
        expect_refusal(w, &(Supposal) { .lose = &nobody, .n_lose = 1 }, VERDICT_NOT_FOUND,
                       "there is no such node (any more). See which there are: gpupoolctl node list");
        expect_refusal(w, &(Supposal) { .drain = &nobody, .n_drain = 1 }, VERDICT_NOT_FOUND,
                       "there is no such node (any more). See which there are: gpupoolctl node list");
        expect_refusal(w, &(Supposal) { .start = &no_vm, .n_start = 1 }, VERDICT_NOT_FOUND,
                       "there is no such VM (any more). See which there are: gpupoolctl vm list");
        expect_refusal(w, &(Supposal) { .add = &(SupposedGpus) { "render", 1, "a" }, .n_add = 1 }, VERDICT_NOT_FOUND,
                       "there is no pool render. See which there are: gpupoolctl pool list");
        expect_refusal(w, &(Supposal) { .reserves = &(SupposedReserve) { "render", 1 }, .n_reserves = 1 },
                       VERDICT_NOT_FOUND, "there is no pool render. See which there are: gpupoolctl pool list");
        expect_refusal(w, &(Supposal) { .add = &(SupposedGpus) { "training", 1, "z" }, .n_add = 1 }, VERDICT_NOT_FOUND,
                       "there is no node z to put GPUs into: name a member, or suppose a new node");
}

static void test_there_is_an_end_to_what_can_be_supposed(void) {
        WORLD w = small_cluster();
        const char *const a = "a", *const none = "";
        const char *names[SUPPOSED_NODES_MAX + 1];
        for (size_t i = 0; i < ELEMENTS(names); i++)
                names[i] = g_strdup_printf("new%zu", i);
        SUPPOSITION most = suppose(w, &(Supposal) { .new_nodes = names, .n_new_nodes = SUPPOSED_NODES_MAX });
        g_assert_cmpuint(suppose_world(most)->registry->nodes.n, ==, 3 + SUPPOSED_NODES_MAX);
        expect_refusal(w, &(Supposal) { .new_nodes = names, .n_new_nodes = SUPPOSED_NODES_MAX + 1 },
                       VERDICT_LIMITS_EXCEEDED,
                       "65 more nodes are too many to suppose: at most 64, and at most 4096 in all");
        for (size_t i = 0; i < ELEMENTS(names); i++)
                g_free((char *) names[i]);
        expect_refusal(w, &(Supposal) { .new_nodes = &a, .n_new_nodes = 1 }, VERDICT_EXISTS,
                       "there is a node a already: give the new one another name");
        expect_refusal(w, &(Supposal) { .new_nodes = &none, .n_new_nodes = 1 }, VERDICT_INVALID_ARGUMENT,
                       "a new node needs a name of 1 to 63 characters");

        SupposedGpus full[] = { { "training", GPUS_PER_NODE_MAX - 2, "a" }, { "training", 1, "a" } };
        SUPPOSITION filled = suppose(w, &(Supposal) { .add = full, .n_add = 1 });
        g_assert_cmpuint(pool_in(suppose_world(filled), "training").usable, ==, GPUS_PER_NODE_MAX + 2);
        expect_refusal(w, &(Supposal) { .add = full, .n_add = 2 }, VERDICT_LIMITS_EXCEEDED,
                       "node a has 256 GPUs, and 1 more are more than the 256 that one can have");
        full[0].n = 0;
        expect_refusal(w, &(Supposal) { .add = full, .n_add = 1 }, VERDICT_INVALID_ARGUMENT,
                       "0 GPUs cannot be added to a node: 1 to 256 can");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/suppose/" #name, test_##name)
        TEST(nothing_supposed_is_the_same_world);
        TEST(what_ran_on_a_lost_node_has_lost_its_place);
        TEST(who_is_never_restarted_is_not_to_run_after_a_loss);
        TEST(a_drained_node_keeps_its_vms_and_takes_none);
        TEST(what_is_under_way_is_over_where_it_is_settled);
        TEST(who_is_started_wants_to_run_and_has_no_failures);
        TEST(a_reserve_is_supposed);
        TEST(gpus_are_bought_for_a_node);
        TEST(nodes_are_bought_and_take_vms);
        TEST(what_is_bought_is_like_what_is_there);
        TEST(gpus_of_a_host_that_can_assign_none_are_no_use);
        TEST(what_is_not_there_cannot_be_supposed);
        TEST(there_is_an_end_to_what_can_be_supposed);
#undef TEST
        return g_test_run();
}
