/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/placement.h"
#include "core/plan.h"
#include "core/pool-count.h"
#include "world-builder.h"

static void at_level(WorldBuilder *w, uint32_t level) {
        w->registry->level = level;
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = level;
                node->lease_ms = 3000;
        }
}

/* Failover is there from this level on, and leases with it. */
static WorldBuilder *cluster_of(size_t n_nodes) {
        WorldBuilder *w = world_of(n_nodes);
        at_level(w, LEVEL_FAILOVER);
        return w;
}

static PoolCounts count(WorldBuilder *w) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        PoolCounts counts = {};
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(pool_count_in(inventory, pool_named(w, "training"), &counts), ==, 0);
        return counts;
}

/* "bert render" */
static char *at_risk(WorldBuilder *w) {
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        GString *text = g_string_new(NULL);
        for (size_t i = 0; i < counts.n_at_risk; i++)
                g_string_append_printf(text, "%s%s", i > 0 ? " " : "",
                                       registry_find_vm(w->registry, counts.at_risk + i)->name);
        return g_string_free(text, FALSE);
}

#define ASSERT_SURVIVES(w, nodes, expected_at_risk)                             \
        do {                                                                    \
                _cleanup_(pool_counts_clear) PoolCounts _counts = count(w);     \
                char *_at_risk = at_risk(w);                                    \
                g_assert_cmpuint(_counts.survives, ==, (nodes));                \
                g_assert_cmpstr(_at_risk, ==, (expected_at_risk));              \
                g_free(_at_risk);                                               \
        } while (0)

/* @n_nodes of @n_gpus, all in pool training. */
static WorldBuilder *pool_across(size_t n_nodes, size_t n_gpus) {
        WorldBuilder *w = cluster_of(n_nodes);
        GString *names = g_string_new(NULL);
        for (size_t i = 0; i < n_nodes; i++) {
                with_gpus(w, w->registry->nodes.items[i].name, n_gpus);
                g_string_append_printf(names, "%s ", w->registry->nodes.items[i].name);
        }
        pool_of(w, "training", names->str);
        g_string_free(names, TRUE);
        return w;
}

static void test_what_there_is_is_counted(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 4);
        vm_of(w, "bert", "training", 2);
        runs(w, "bert", "a", "0 1");
        gpu_of(w, "b", 0)->boot_vga = true;
        quarantined(w, "b", 1);
        unplugged(w, "b", 3);
        facts_of(w, "c")->guard_connected = false;
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        g_assert_cmpuint(counts.total, ==, 12);
        g_assert_cmpuint(counts.usable, ==, 5);         /* four of a, one of b, none of c while its guard is away */
        g_assert_cmpuint(counts.free, ==, 3);
        g_assert_cmpuint(counts.largest_free, ==, 2);
        g_assert_cmpuint(counts.in_use, ==, 2);
}

static void test_an_empty_pool_has_nothing(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        pool_of(w, "training", "");
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        g_assert_cmpuint(counts.total + counts.usable + counts.free + counts.largest_free + counts.in_use, ==, 0);
        g_assert_cmpuint(counts.mixed.n, ==, 0);
}

static void test_one_node_alone_survives_nothing(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(1, 4);
        vm_of(w, "bert", "training", 1);
        vm_of(w, "waits", "training", 8);
        runs(w, "bert", "a", "0");
        ASSERT_SURVIVES(w, 0, "bert");
}

static void test_a_pair_has_no_majority_left(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(2, 4);
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        ASSERT_SURVIVES(w, 0, "bert");
}

static void test_three_nodes_survive_one_when_there_is_room(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        ASSERT_SURVIVES(w, 1, "");
        vm_of(w, "bert", "training", 2);
        runs(w, "bert", "a", "0 1");
        ASSERT_SURVIVES(w, 1, "bert");
}

static void test_what_is_lost_already_cannot_be_lost_again(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        vm_of(w, "bert", "training", 2);
        runs(w, "bert", "a", "0 1");
        node_named(w, "c")->lost = true;
        ASSERT_SURVIVES(w, 0, "bert");
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        g_assert_cmpuint(counts.usable, ==, 4);
        g_assert_cmpuint(counts.free, ==, 2);

        /* Of five one is lost, and two more of the four may not; of four, where three vote, and of seven another votes
         * in its place. */
        _cleanup_(world_builder_freep) WorldBuilder *five = pool_across(5, 2), *seven = pool_across(7, 2);
        _cleanup_(world_builder_freep) WorldBuilder *four = pool_across(4, 2);
        node_named(four, "c")->lost = true;
        ASSERT_SURVIVES(four, 1, "");
        node_named(five, "e")->lost = true;
        node_named(seven, "e")->lost = true;
        ASSERT_SURVIVES(five, 1, "");
        ASSERT_SURVIVES(seven, 2, "");
}

static void test_a_drained_node_is_no_room_for_failover(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        vm_of(w, "bert", "training", 2);
        vm_of(w, "infer", "training", 2);
        runs(w, "bert", "a", "0 1");
        runs(w, "infer", "b", "0 1");
        ASSERT_SURVIVES(w, 1, "bert infer");
        node_named(w, "c")->drain = DRAIN_BY_HAND;
        ASSERT_SURVIVES(w, 0, "bert infer");
}

static void test_who_would_find_no_room_is_at_risk(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        vm_of(w, "bert", "training", 2)->priority = 50;
        vm_of(w, "infer", "training", 1);
        vm_of(w, "render", "training", 1);
        runs(w, "bert", "a", "0 1");
        runs(w, "infer", "b", "0");
        runs(w, "render", "c", "0");
        ASSERT_SURVIVES(w, 0, "bert");                  /* two are free, one on b and one on c */
        vm_named(w, "bert")->count = 1;
        runs(w, "bert", "a", "0");
        ASSERT_SURVIVES(w, 1, "bert infer render");     /* beyond it there is no majority */
}

static void test_the_more_important_get_the_room_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        for (const char *name = "uvwxy"; *name; name++)
                vm_of(w, (char[]) { *name, 0 }, "training", 1);
        vm_named(w, "v")->priority = 10;
        runs(w, "u", "a", "0");
        runs(w, "v", "a", "1");
        runs(w, "w", "b", "0");
        runs(w, "x", "b", "1");
        runs(w, "y", "c", "0");
        ASSERT_SURVIVES(w, 0, "u x y"); /* one GPU is free, on c: of a v takes it, of b w, before x by name */
}

static void test_the_reserve_is_what_failover_takes(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        pool_named(w, "training")->reserve = 2;
        vm_of(w, "bert", "training", 2);
        vm_of(w, "render", "training", 2);
        runs(w, "bert", "a", "0 1");
        runs(w, "render", "b", "0 1");
        ASSERT_SURVIVES(w, 1, "bert render");
}

static void test_a_vm_that_is_never_started_again_is_at_risk(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        vm_of(w, "bert", "training", 1)->restart = RESTART_NEVER;
        runs(w, "bert", "a", "0");
        ASSERT_SURVIVES(w, 0, "bert");
}

static void test_affinity_counts_after_a_loss_too(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 4);
        vm_of(w, "one", "training", 1);
        vm_of(w, "two", "training", 1);
        vm_of(w, "three", "training", 1);
        must_be(w, "one", "apart", "two");
        must_be(w, "one", "apart", "three");
        must_be(w, "two", "apart", "three");
        runs(w, "one", "a", "0");
        runs(w, "two", "b", "0");
        runs(w, "three", "c", "0");
        ASSERT_SURVIVES(w, 0, "one two three");
}

/* x must be with y, which has another pool's GPUs and goes where x cannot. */
static void test_who_follows_a_vm_of_another_pool_is_at_risk(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = cluster_of(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        with_gpus(w, "c", 1);
        pool_of(w, "training", "a:0 b:0");
        pool_of(w, "render", "a:1 c:0");
        vm_of(w, "x", "training", 1);
        vm_of(w, "y", "render", 1)->priority = 10;
        runs(w, "x", "a", "0");
        runs(w, "y", "a", "1");
        ASSERT_SURVIVES(w, 1, "x");
        must_be(w, "x", "with", "y");
        ASSERT_SURVIVES(w, 0, "x");
        pool_named(w, "render")->gpus.n--;      /* y goes nowhere, and binds nobody then */
        vm_named(w, "y")->restart = RESTART_NEVER;
        ASSERT_SURVIVES(w, 1, "x");
}

/* a and b are lost together: y and z come first, and x must not be where they are then. */
static void test_who_must_be_apart_from_vms_of_another_pool_is_at_risk(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = cluster_of(5);
        for (const char *name = "abcd"; *name; name++)
                with_gpus(w, (char[]) { *name, 0 }, 3);
        pool_of(w, "training", "a:0 c:0 d:0");
        pool_of(w, "render", "b:1 b:2 c:1 d:1");
        vm_of(w, "x", "training", 1);
        vm_of(w, "y", "render", 1)->priority = 10;
        vm_of(w, "z", "render", 1)->priority = 10;
        runs(w, "x", "a", "0");
        runs(w, "y", "b", "1");
        runs(w, "z", "b", "2");
        ASSERT_SURVIVES(w, 2, "x");
        must_be(w, "x", "apart", "y");
        must_be(w, "x", "apart", "z");
        ASSERT_SURVIVES(w, 1, "x");
}

static void test_who_waits_for_a_licence_comes_first_when_one_is_given_up(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 1);
        pool_named(w, "training")->max_in_use = 2;
        vm_of(w, "u", "training", 1);
        vm_of(w, "v", "training", 1);
        runs(w, "u", "a", "0");
        runs(w, "v", "b", "0");
        ASSERT_SURVIVES(w, 1, "u v");
        vm_of(w, "waits", "training", 1)->priority = 10;
        ASSERT_SURVIVES(w, 0, "u v");
        vm_named(w, "waits")->priority = -10;
        ASSERT_SURVIVES(w, 1, "u v");
}

/* The number is a promise, and the list names whoever is not safe. */
static void test_what_is_too_much_to_work_out_counts_as_no(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        unsigned n_complete = 0;
        vm_of(w, "bert", "training", 2);
        runs(w, "bert", "a", "0 1");
        vm_of(w, "idle", "training", 1)->run = false;
        must_be(w, "bert", "with", "idle");     /* so that it must be tried */
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        for (uint64_t work = 0; work <= 512; work++) {
                _cleanup_(pool_counts_clear) PoolCounts counts = {};
                uint64_t left = work;
                bool complete;
                g_assert_cmpint(pool_count_within(inventory, pool_named(w, "training"), &left, &counts, &complete), ==,
                                0);
                n_complete += complete;
                g_assert_cmpuint(counts.survives, ==, complete);
                g_assert_cmpuint(counts.n_at_risk, ==, 1);      /* beyond one loss there is no majority */
                g_assert_cmpuint(left, <=, work);
                g_assert_cmpuint(counts.free, ==, 4);
                g_assert_cmpuint(inventory->pools.items[0].free, ==, 4);        /* all is as before */
                g_assert_true(inventory->tenants.items[0].vm == vm_named(w, "bert") ||
                              inventory->tenants.items[1].vm == vm_named(w, "bert"));
        }
        g_assert_cmpuint(n_complete, >, 0);
        g_assert_cmpuint(n_complete, <, 512);
}

static void test_where_nothing_starts_elsewhere_no_loss_is_survived(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 2);
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        ASSERT_SURVIVES(w, 1, "bert");
        w->registry->level = LEVEL_FAILOVER - 1;
        ASSERT_SURVIVES(w, 0, "bert");
        vm_named(w, "bert")->assignment.phase = ASSIGNMENT_NONE;
        ASSERT_SURVIVES(w, 1, "");
}

/* v could have w's place, which then has none. */
static void test_who_would_be_preempted_after_a_loss_is_at_risk(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 1);
        at_level(w, LEVEL_PLACEMENT);
        for (const char *name = "vwx"; *name; name++)
                vm_of(w, (char[]) { *name, 0 }, "training", 1);
        runs(w, "v", "a", "0");
        runs(w, "w", "b", "0");
        quarantined(w, "c", 0);
        vm_named(w, "x")->run = false;
        vm_named(w, "v")->priority = 10;
        ASSERT_SURVIVES(w, 0, "v w");
        vm_named(w, "v")->preempt = true;
        vm_named(w, "w")->preemptible = true;
        ASSERT_SURVIVES(w, 0, "w");
}

static void test_what_is_stopping_needs_no_new_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 1);
        for (const char *name = "uvw"; *name; name++)
                vm_of(w, (char[]) { *name, 0 }, "training", 1);
        runs(w, "u", "a", "0");
        runs(w, "v", "b", "0");
        vm_named(w, "u")->run = false;
        vm_named(w, "u")->assignment.phase = ASSIGNMENT_STOPPING;
        ASSERT_SURVIVES(w, 1, "v");
}

static void test_five_nodes_survive_any_two(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(5, 2);
        for (const char *name = "uvw"; *name; name++)
                vm_of(w, (char[]) { *name, 0 }, "training", 2);
        runs(w, "u", "a", "0 1");
        runs(w, "v", "b", "0 1");
        ASSERT_SURVIVES(w, 2, "u v");
        runs(w, "w", "c", "0 1");
        ASSERT_SURVIVES(w, 2, "u v w");
        vm_of(w, "x", "training", 1);
        runs(w, "x", "d", "0");
        ASSERT_SURVIVES(w, 1, "u v w x");               /* any of them, in one or the other case */
}

static void test_gpus_that_are_alike_are_not_mixed(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(3, 4);
        on_numa_node(w, "b", 0, 4, 1);
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        g_assert_cmpuint(counts.mixed.n, ==, 0);
}

static void test_how_gpus_differ_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 3);
        with_gpus(w, "b", 1);
        GpuFacts *odd = gpu_of(w, "b", 0);
        odd->identity.device = 0x20b5;
        g_assert_cmpint(text_set(&odd->device_name, "GA100 [A100 PCIe 80GB]"), ==, 0);
        odd->bars[2].size = UINT64_C(64) << 30;
        g_assert_cmpint(text_set(&odd->link_speed_max, "16.0 GT/s PCIe"), ==, 0);
        gpu_of(w, "a", 1)->link_width = 8;
        for (size_t i = 0; i < 3; i++) {
                gpu_of(w, "a", i)->vram_bytes = UINT64_C(80) << 30;
                g_assert_cmpint(text_printf(&gpu_of(w, "a", i)->vbios, "96.00.%zu", i / 2), ==, 0);
        }
        pool_of(w, "training", "a b");
        _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
        g_assert_cmpuint(counts.mixed.n, ==, 5);        /* that b's memory is not known is no difference */
        g_assert_cmpstr(counts.mixed.items[0], ==,
                        "models differ: GH100 [H100 PCIe] 10de:2331 (3), GA100 [A100 PCIe 80GB] "
                        "10de:20b5 (1: b:0000:41:00.0)");
        g_assert_cmpstr(counts.mixed.items[1], ==,
                        "memory regions (BARs, in all) differ: 131088 MiB (3), 65552 MiB (1: "
                        "b:0000:41:00.0)");
        g_assert_cmpstr(counts.mixed.items[2], ==, "VBIOS versions differ: 96.00.0 (2), 96.00.1 (1: a:0000:43:00.0)");
        g_assert_cmpstr(counts.mixed.items[3], ==, "PCIe link widths differ: x16 (3), x8 (1: a:0000:42:00.0)");
        g_assert_cmpstr(counts.mixed.items[4], ==, "PCIe link speeds differ: 32.0 GT/s PCIe (3), 16.0 GT/s PCIe (1: "
                                                   "b:0000:41:00.0)");
}

static bool chance(GRand *random, int one_in) {
        return g_rand_int_range(random, 0, one_in) == 0;
}

/* Two pools, relations across them, licences, a reserve, and who waits. */
static WorldBuilder *random_cluster(GRand *random) {
        size_t n_nodes = (size_t) g_rand_int_range(random, 3, 6);
        WorldBuilder *w = world_of(n_nodes);
        GString *training = g_string_new(NULL), *render = g_string_new(NULL);
        bool related = chance(random, 2), preempting = chance(random, 3), scarce = chance(random, 3);
        at_level(w, preempting ? LEVEL_PLACEMENT : LEVEL_FAILOVER);
        for (size_t i = 0; i < n_nodes; i++) {
                NodeRecord *node = w->registry->nodes.items + i;
                size_t n_gpus = (size_t) g_rand_int_range(random, 1, 5);
                with_gpus(w, node->name, n_gpus);
                if (scarce)
                        facts_of(w, node->name)->memory_total = (uint64_t) g_rand_int_range(random, 2, 6) << 30;
                for (size_t j = 0; j < n_gpus; j++)
                        g_string_append_printf(chance(random, 3) ? render : training, "%s:%zu ", node->name, j);
                if (n_gpus > 1 && chance(random, 4))
                        gpu_of(w, node->name, 1)->iommu_group = gpu_of(w, node->name, 0)->iommu_group;
        }
        pool_of(w, "training", training->str)->reserve = chance(random, 3) ? 1 : 0;
        pool_of(w, "render", render->str);
        pool_named(w, "training")->max_in_use = chance(random, 3) ? 4 : 0;
        g_string_free(training, TRUE);
        g_string_free(render, TRUE);
        for (unsigned i = 0; i < 8; i++) {
                g_autofree char *name = g_strdup_printf("vm%u", i);
                g_autofree char *other = g_strdup_printf("vm%d", g_rand_int_range(random, 0, 8));
                Vm *vm = vm_of(w, name, chance(random, 3) ? "render" : "training", chance(random, 3) ? 2 : 1);
                vm->priority = g_rand_int_range(random, 0, 3);
                vm->restart = chance(random, 12) ? RESTART_NEVER : RESTART_ALWAYS;
                vm->preempt = preempting && chance(random, 2);
                vm->preemptible = preempting && chance(random, 2);
                vm->needs.memory_bytes = scarce ? (uint64_t) g_rand_int_range(random, 1, 3) << 30 : 0;
                if (related && chance(random, 3) && !text_equal(name, other))
                        must_be(w, name, chance(random, 2) ? "with" : "apart", other);
        }
        ARRAY_EACH(vm, &w->registry->vms) {
                Placement found = {};
                if (!chance(random, 4) && placement_find(world_now(w), vm, &found) == PLACEMENT_FOUND)
                        vm->assignment = (Assignment) { .phase = ASSIGNMENT_RUNNING, .node = found.node,
                                                        .gpus = STEAL(found.gpus), .n_gpus = found.n_gpus };
                else
                        vm->run = chance(random, 2);
                placement_clear(&found);
        }
        return w;
}

/* As a plan sees the loss of these nodes: does anybody of the pool stop? Marks whom, one per VM. */
static bool somebody_stops(WorldBuilder *w, const NodeId *lost, size_t n_lost, bool *stopped) {
        _cleanup_(plan_clear) Plan plan = {};
        _cleanup_(result_clear) Result result = {};
        bool any = false;
        g_assert_cmpint(plan_make(world_now(w), &(Supposal) { .lose = lost, .n_lose = n_lost }, NULL, &plan, &result),
                        ==, 0);
        g_assert_true(plan.quorate);
        ARRAY_EACH(item, &plan.items) {
                const Vm *vm = registry_find_vm(w->registry, &item->vm);
                if (item->fate != PLAN_STOPS || !text_equal(vm->pool, "training"))
                        continue;
                stopped[vm - w->registry->vms.items] = any = true;
        }
        return any;
}

/* The short proof must never say more than trying it out: with much room, and VMs that must be apart. */
static void test_the_proof_and_plans_agree(void) {
        for (uint32_t seed = 0; seed < 200; seed++) {
                GRand *random = g_rand_new_with_seed(seed);
                _cleanup_(world_builder_freep) WorldBuilder *w = pool_across(6, 4);
                bool one = false, two = false, anybody = false;
                for (size_t i = 0; i < 16; i++) {
                        g_autofree char *name = g_strdup_printf("vm%zu", i);
                        Placement found = {};
                        Vm *vm = vm_of(w, name, "training", 1 + (uint32_t) g_rand_int_range(random, 0, 2));
                        if (i > 0 && seed % 2 == 0 && chance(random, 2))
                                must_be(w, name, "apart", w->registry->vms.items[i / 2].name);
                        vm = vm_named(w, name);
                        vm->run = chance(random, 3) && placement_find(world_now(w), vm, &found) == PLACEMENT_FOUND;
                        if (vm->run)
                                vm->assignment = (Assignment) { .phase = ASSIGNMENT_RUNNING, .node = found.node,
                                                                .gpus = STEAL(found.gpus), .n_gpus = found.n_gpus };
                        anybody = anybody || vm->run;
                        placement_clear(&found);
                }
                _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
                const NodeRecord *nodes = w->registry->nodes.items;
                bool stopped[16] = {};
                g_test_message("seed %u", seed);
                for (size_t i = 0; i < 6; i++) {
                        one = somebody_stops(w, &nodes[i].id, 1, stopped) || one;
                        for (size_t j = 0; j < i; j++)
                                two = somebody_stops(w, (NodeId[]) { nodes[i].id, nodes[j].id }, 2, stopped) || two;
                }
                g_assert_cmpuint(counts.survives, ==, anybody && one ? 0 : anybody && two ? 1 : 2);
                g_rand_free(random);
        }
}

/* The number is a promise: whichever so many nodes are lost, a plan of that says that everybody runs. */
static void test_a_plan_of_each_loss_agrees(void) {
        for (uint32_t seed = 0; seed < 2000; seed++) {
                GRand *random = g_rand_new_with_seed(seed);
                _cleanup_(world_builder_freep) WorldBuilder *w = random_cluster(random);
                _cleanup_(pool_counts_clear) PoolCounts counts = count(w);
                const NodeRecord *nodes = w->registry->nodes.items;
                size_t n = w->registry->nodes.n;
                bool stopped[8] = {}, by_two[8] = {}, one = false, two = false;
                g_test_message("seed %u", seed);
                for (size_t i = 0; i < n; i++) {
                        one = somebody_stops(w, &nodes[i].id, 1, stopped) || one;
                        for (size_t j = 0; j < i && n >= 5; j++)
                                two = somebody_stops(w, (NodeId[]) { nodes[i].id, nodes[j].id }, 2, by_two) || two;
                }
                bool anybody = false;
                ARRAY_EACH(vm, &w->registry->vms)
                        anybody = anybody || (vm->assignment.phase != ASSIGNMENT_NONE &&
                                              text_equal(vm->pool, "training"));
                if (anybody) {
                        g_assert_cmpint(counts.survives >= 1, ==, !one);
                        g_assert_cmpint(counts.survives >= 2, ==, n >= 5 && !one && !two);
                }
                for (size_t i = 0, at = 0; one && i < 8; i++) {
                        bool told = at < counts.n_at_risk &&
                                    ID_EQUAL(counts.at_risk + at, &w->registry->vms.items[i].id);
                        g_assert_cmpint(told, ==, stopped[i]);
                        at += told;
                }
                g_rand_free(random);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/pool-count/" #name, test_##name)
        TEST(what_there_is_is_counted);
        TEST(an_empty_pool_has_nothing);
        TEST(one_node_alone_survives_nothing);
        TEST(a_pair_has_no_majority_left);
        TEST(three_nodes_survive_one_when_there_is_room);
        TEST(what_is_lost_already_cannot_be_lost_again);
        TEST(a_drained_node_is_no_room_for_failover);
        TEST(who_would_find_no_room_is_at_risk);
        TEST(the_more_important_get_the_room_first);
        TEST(the_reserve_is_what_failover_takes);
        TEST(a_vm_that_is_never_started_again_is_at_risk);
        TEST(affinity_counts_after_a_loss_too);
        TEST(who_follows_a_vm_of_another_pool_is_at_risk);
        TEST(who_must_be_apart_from_vms_of_another_pool_is_at_risk);
        TEST(who_waits_for_a_licence_comes_first_when_one_is_given_up);
        TEST(what_is_too_much_to_work_out_counts_as_no);
        TEST(where_nothing_starts_elsewhere_no_loss_is_survived);
        TEST(who_would_be_preempted_after_a_loss_is_at_risk);
        TEST(what_is_stopping_needs_no_new_place);
        TEST(five_nodes_survive_any_two);
        TEST(the_proof_and_plans_agree);
        TEST(a_plan_of_each_loss_agrees);
        TEST(gpus_that_are_alike_are_not_mixed);
        TEST(how_gpus_differ_is_told);
#undef TEST
        return g_test_run();
}
