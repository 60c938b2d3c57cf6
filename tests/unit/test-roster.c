/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <stdio.h>

#include "core/roster.h"
#include "world-builder.h"

/* All that waits, looked at together. */
typedef struct Pass {
        Inventory *inventory;
        Roster roster;
} Pass;

static bool lower_may_be_stopped(const Vm *vm, const Vm *other) {
        (void) vm;
        return g_str_has_prefix(other->name, "spare");
}

static Pass pass_of(WorldBuilder *w, const RosterRules *rules) {
        Pass pass = {};
        g_assert_cmpint(inventory_new(world_now(w), &pass.inventory), ==, 0);
        g_autofree size_t *tenants = g_new0(size_t, pass.inventory->tenants.n + 1);
        size_t n = 0;
        for (size_t i = 0; i < pass.inventory->tenants.n; i++)
                if (pass.inventory->tenants.items[i].node == NOWHERE)
                        tenants[n++] = i;
        g_assert_cmpint(roster_make(pass.inventory, tenants, n, rules, &pass.roster), ==, 0);
        g_assert_cmpuint(pass.roster.items.n, ==, n);
        return pass;
}

static void pass_clear(Pass *pass) {
        roster_clear(&pass->roster);
        inventory_free(pass->inventory);
}

static int compare_words(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* "x=b y=a z=-": by name. */
static char *tell(const Pass *pass) {
        GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
        ARRAY_EACH(item, &pass->roster.items) {
                const Tenant *tenant = pass->inventory->tenants.items + item->tenant;
                g_assert_true((item->verdict == PLACEMENT_FOUND) == (tenant->node != NOWHERE));
                g_ptr_array_add(words, g_strdup_printf("%s=%s", tenant->vm->name, tenant->node == NOWHERE ? "-" :
                                                       pass->inventory->nodes.items[tenant->node].record->name));
        }
        g_ptr_array_sort(words, compare_words);
        g_ptr_array_add(words, NULL);
        char *text = g_strjoinv(" ", (char **) words->pdata);
        g_ptr_array_unref(words);
        return text;
}

#define ASSERT_PASS_UNDER(w, rules, expected)                   \
        do {                                                    \
                Pass _pass = pass_of((w), (rules));             \
                char *_told = tell(&_pass);                     \
                g_assert_cmpstr(_told, ==, (expected));         \
                g_free(_told);                                  \
                pass_clear(&_pass);                             \
        } while (0)

#define ASSERT_PASS(w, expected) ASSERT_PASS_UNDER((w), NULL, (expected))

static Vm *vm_with(WorldBuilder *w, const char *name, uint32_t count, int32_t priority) {
        Vm *vm = vm_of(w, name, "training", count);
        vm->priority = priority;
        vm->preempt = true;             /* where the rules let anybody */
        return vm;
}

/* "4 5": a has 4 GPUs, b has 5; all are in the pool training. */
static WorldBuilder *world_with(const char *gpus_of_nodes) {
        g_auto(GStrv) words = g_strsplit(gpus_of_nodes, " ", -1);
        WorldBuilder *w = world_of(g_strv_length(words));
        GString *names = g_string_new(NULL);
        for (size_t i = 0; words[i]; i++) {
                const char *name = w->registry->nodes.items[i].name;
                with_gpus(w, name, (size_t) g_ascii_strtoull(words[i], NULL, 10));
                g_string_append_printf(names, "%s ", name);
        }
        pool_of(w, "training", names->str);
        g_string_free(names, TRUE);
        return w;
}

static void test_a_small_vm_does_not_take_the_place_that_a_large_one_needs(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 5");
        vm_with(w, "high", 1, 90);
        vm_with(w, "low1", 4, 50);
        vm_with(w, "low2", 4, 50);
        ASSERT_PASS(w, "high=b low1=b low2=a");
}

static void test_a_preference_does_not_cost_another_its_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("8 1");
        vm_with(w, "x", 1, 90);
        prefers(w, "x", "a");
        vm_with(w, "y", 8, 50);
        ASSERT_PASS(w, "x=b y=a");
}

static void test_spread_leaves_a_place_for_a_large_one(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("8 8 8 8 8 8 8 8");
        pool_named(w, "training")->placement = POOL_SPREAD;
        for (const char *name = "12345678"; *name; name++)
                vm_with(w, (char[]) { *name, 0 }, 1, 90);
        vm_with(w, "large", 8, 50);
        Pass pass = pass_of(w, NULL);
        ARRAY_EACH(item, &pass.roster.items)
                g_assert_cmpint(item->verdict, ==, PLACEMENT_FOUND);
        pass_clear(&pass);
}

static void test_those_who_must_be_together_get_a_place_together(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 8");
        vm_with(w, "x", 4, 50);
        vm_with(w, "y", 4, 50);
        must_be(w, "x", "with", "y");
        ASSERT_PASS(w, "x=b y=b");
        vm_named(w, "x")->priority = 90;
        ASSERT_PASS(w, "x=b y=b");
        vm_with(w, "z", 4, 70);
        ASSERT_PASS(w, "x=b y=b z=a");
        vm_named(w, "z")->count = 8;            /* before y, and then x need not wait for y */
        ASSERT_PASS(w, "x=a y=- z=b");
}

static void test_a_linked_set_goes_to_who_needs_it_whole(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        linked(w, "b", 0, 4);
        vm_with(w, "x", 4, 90);
        for (const char *name = "1234"; *name; name++)
                vm_with(w, (char[]) { *name, 0 }, 1, 50);
        ASSERT_PASS(w, "1=a 2=a 3=a 4=a x=b");
        vm_named(w, "x")->priority = 50;
        ASSERT_PASS(w, "1=a 2=a 3=a 4=a x=b");
        vm_named(w, "x")->priority = 10;
        ASSERT_PASS(w, "1=a 2=a 3=a 4=a x=b");
}

static void test_as_many_as_can_run(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("8");
        vm_with(w, "0large", 8, 50);
        for (const char *name = "12345678"; *name; name++)
                vm_with(w, (char[]) { *name, 0 }, 1, 50);
        ASSERT_PASS(w, "0large=- 1=a 2=a 3=a 4=a 5=a 6=a 7=a 8=a");
        vm_named(w, "0large")->priority = 51;
        ASSERT_PASS(w, "0large=a 1=- 2=- 3=- 4=- 5=- 6=- 7=- 8=-");
}

static void test_one_gpu_more_never_runs_fewer(void) {
        for (unsigned n = 7; n <= 8; n++) {
                g_autofree char *gpus = g_strdup_printf("%u", n);
                _cleanup_(world_builder_freep) WorldBuilder *w = world_with(gpus);
                vm_with(w, "0large", 8, 50);
                for (const char *name = "1234567"; *name; name++)
                        vm_with(w, (char[]) { *name, 0 }, 1, 50);
                ASSERT_PASS(w, "0large=- 1=a 2=a 3=a 4=a 5=a 6=a 7=a");
        }
}

static void test_a_place_is_left_where_a_large_one_could_go(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4 4");
        pool_named(w, "training")->placement = POOL_SPREAD;
        vm_with(w, "x", 4, 50);
        runs(w, "x", "a", "0 1 2 3");
        vm_with(w, "1", 1, 50);
        vm_with(w, "2", 1, 50);
        ASSERT_PASS(w, "1=b 2=b");
}

static void test_the_largest_keeps_room_elsewhere(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 8");
        vm_with(w, "x", 4, 50);
        runs(w, "x", "b", "0 1 2 3");
        vm_with(w, "1", 1, 50);
        ASSERT_PASS(w, "1=b");
}

static void test_uneven_needs_are_moved_about(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("8 13");
        vm_with(w, "3", 3, 50);
        vm_with(w, "5", 5, 50);
        vm_with(w, "6", 6, 50);
        vm_with(w, "7", 7, 50);
        ASSERT_PASS(w, "3=a 5=a 6=b 7=b");
}

static void test_what_is_kept_in_reserve_is_for_failover(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        pool_named(w, "training")->reserve = 4;
        vm_with(w, "x", 4, 50);
        vm_with(w, "y", 4, 50);
        ASSERT_PASS(w, "x=a y=-");
        ASSERT_PASS_UNDER(w, &((RosterRules) { .failover = true }), "x=a y=b");
        pool_named(w, "training")->max_in_use = 7;
        ASSERT_PASS_UNDER(w, &((RosterRules) { .failover = true }), "x=a y=-");
}

/* "x" alone would leave too little, as what is left of the IOMMU group is of no use to others. */
static void test_one_that_may_not_have_the_reserve_turns_nobody_away_who_may(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("2");
        pool_named(w, "training")->reserve = 1;
        gpu_of(w, "a", 1)->iommu_group = gpu_of(w, "a", 0)->iommu_group;
        vm_with(w, "x", 1, 50);
        ASSERT_PASS(w, "x=-");
        g_assert_cmpint(text_set(&vm_with(w, "y", 1, 50)->reason_code, "node-lost"), ==, 0);
        ASSERT_PASS(w, "x=- y=a");
}

static void test_only_who_may_be_stopped_makes_way(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        vm_with(w, "high", 4, 90);
        vm_with(w, "spare1", 2, 50);
        vm_with(w, "spare2", 1, 40);
        vm_with(w, "other", 1, 10);
        vm_with(w, "spare3", 1, 30);
        runs(w, "spare1", "a", "0 1");
        runs(w, "spare2", "a", "2");
        runs(w, "other", "b", "0");
        runs(w, "spare3", "b", "1");
        ASSERT_PASS(w, "high=-");
        Pass pass = pass_of(w, &rules);
        g_assert_cmpuint(pass.roster.preempted.n, ==, 2);
        g_assert_cmpuint(pass.roster.items.items[0].n_preempted, ==, 2);
        g_assert_cmpuint(pass.inventory->nodes.items[pass.inventory->tenants.items[0].node].by_name, ==, 0);
        roster_undo(pass.inventory, &pass.roster);
        g_assert_cmpuint(pass.inventory->pools.items[0].free, ==, 3);
        g_assert_cmpuint(pass.inventory->tenants.items[1].n_held, ==, 2);
        pass_clear(&pass);
        vm_named(w, "high")->priority = 50;     /* spare1 is as important now */
        Pass same = pass_of(w, &rules);
        g_assert_cmpuint(same.roster.preempted.n, ==, 0);
        pass_clear(&same);
}

static void test_who_asks_for_the_same_is_not_sought_victims_for_again(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("2 2 2");
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        for (unsigned i = 0; i < 6; i++) {
                char name[16], gpu[2] = { (char) ('0' + i % 2), 0 }, node[2] = { (char) ('a' + i / 2), 0 };
                (void) snprintf(name, sizeof(name), i == 5 ? "spare" : "other%u", i);
                vm_with(w, name, 1, 10);
                runs(w, name, node, gpu);
        }
        for (unsigned i = 0; i < 10; i++) {
                char name[16];
                (void) snprintf(name, sizeof(name), "large%u", i);
                vm_with(w, name, 2, 90);
        }
        vm_with(w, "small", 1, 80);
        vm_with(w, "meek", 1, 80)->preempt = false;
        Pass pass = pass_of(w, &rules);
        g_autofree char *told = tell(&pass);
        g_assert_nonnull(strstr(told, "small=c"));
        g_assert_nonnull(strstr(told, "meek=-"));
        g_assert_cmpuint(pass.roster.sought, ==, 3 + 3);
        pass_clear(&pass);
}

/* Many wait and many may be stopped: that is too much for the loop that renews leases, so the most urgent are first. */
static void test_victims_are_sought_for_the_most_urgent_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(400);
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        GString *names = g_string_new(NULL);
        for (size_t i = 0; i < 400; i++) {
                const char *name = w->registry->nodes.items[i].name;
                with_gpus(w, name, 1);
                g_string_append_printf(names, "%s%s", i > 0 ? " " : "", name);
        }
        pool_of(w, "training", names->str);
        for (size_t i = 0; i < 400; i++) {
                char spare[16], high[16];
                (void) snprintf(spare, sizeof(spare), "spare%03zu", i);
                (void) snprintf(high, sizeof(high), "high%03zu", i);
                vm_with(w, spare, 1, 10);
                runs(w, spare, w->registry->nodes.items[i].name, "0");
                vm_with(w, high, 1, 90);
        }
        Pass pass = pass_of(w, &rules);
        size_t n = pass.roster.preempted.n;
        g_assert_cmpuint(pass.roster.sought, ==, n * 400);
        g_assert_cmpuint(n, >, 100);
        g_assert_cmpuint(n, <, 400);
        for (size_t i = 0; i < pass.roster.items.n; i++)
                g_assert_cmpuint(pass.roster.items.items[i].n_preempted, ==, i < n);
        pass_clear(&pass);
        g_string_free(names, TRUE);
}

static void test_a_wish_is_kept_where_it_costs_nobody_a_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        vm_with(w, "x", 2, 90);
        vm_with(w, "y", 2, 50);
        must_be(w, "x", "rather-apart", "y");
        ASSERT_PASS(w, "x=a y=b");
        vm_with(w, "z", 4, 10);
        ASSERT_PASS(w, "x=a y=a z=b");
}

static void test_apart_is_kept(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        vm_with(w, "x", 1, 50);
        vm_with(w, "y", 1, 50);
        vm_with(w, "z", 1, 50);
        must_be(w, "x", "apart", "y");
        must_be(w, "y", "apart", "z");
        must_be(w, "z", "apart", "x");
        ASSERT_PASS(w, "x=a y=b z=-");
}

static void test_of_two_alike_the_one_runs_that_costs_a_lower_one_nothing(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        vm_with(w, "x", 3, 50);
        vm_with(w, "y", 3, 50);
        vm_with(w, "z", 1, 10);
        ASSERT_PASS(w, "x=a y=- z=a");
        must_be(w, "z", "apart", "x");
        ASSERT_PASS(w, "x=- y=a z=a");
        vm_named(w, "y")->priority = 40;
        ASSERT_PASS(w, "x=a y=- z=-");
}

static void test_one_goes_so_that_two_of_its_priority_run(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        vm_with(w, "x", 1, 50);
        vm_with(w, "y", 2, 50);
        vm_with(w, "z", 2, 50);
        must_be(w, "x", "apart", "y");
        must_be(w, "x", "apart", "z");
        ASSERT_PASS(w, "x=- y=a z=a");
        vm_with(w, "low1", 1, 10);              /* three of them count less than one of the others */
        vm_with(w, "low2", 1, 10);
        vm_with(w, "low3", 1, 10);
        ASSERT_PASS(w, "low1=- low2=- low3=- x=- y=a z=a");
        vm_named(w, "x")->priority = 60;
        ASSERT_PASS(w, "low1=a low2=a low3=a x=a y=- z=-");
}

static void test_nobody_more_is_stopped_for_an_exchange(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        vm_with(w, "spare", 1, 5);
        vm_with(w, "x", 3, 50);
        vm_with(w, "y", 3, 50);
        vm_with(w, "z", 1, 10);
        must_be(w, "z", "apart", "x");
        runs(w, "spare", "a", "0");
        ASSERT_PASS_UNDER(w, &rules, "x=a y=- z=-");
}

static void test_what_is_exchanged_in_vain_is_as_before(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 2");
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        vm_with(w, "spare", 2, 5);
        vm_with(w, "x", 4, 50);
        vm_with(w, "y", 4, 50);
        vm_with(w, "z", 4, 10);
        must_be(w, "z", "apart", "x");
        runs(w, "spare", "a", "1 2");
        Pass pass = pass_of(w, &rules);
        g_autofree char *told = tell(&pass);
        g_assert_cmpstr(told, ==, "x=a y=- z=-");
        g_assert_cmpuint(pass.roster.exchanged, >, 0);
        g_assert_cmpuint(pass.roster.preempted.n, ==, 1);
        g_assert_cmpuint(pass.inventory->pools.items[0].free, ==, 2);
        roster_undo(pass.inventory, &pass.roster);
        g_assert_cmpuint(pass.inventory->pools.items[0].free, ==, 4);
        g_assert_cmpuint(pass.inventory->tenants.items[0].n_held, ==, 2);
        pass_clear(&pass);
}

static void test_where_nobody_is_bound_nothing_is_exchanged(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        vm_with(w, "x", 3, 50);
        vm_with(w, "y", 3, 50);
        must_be(w, "x", "rather-apart", "y");
        Pass pass = pass_of(w, NULL);
        g_assert_cmpuint(pass.roster.exchanged, ==, 0);
        pass_clear(&pass);
}

static void test_what_was_planned_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        vm_with(w, "x", 1, 50);
        prefers(w, "x", "a");
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        Placement placement = {};
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(placement_find_planned(inventory, vm_named(w, "x"), &node_named(w, "b")->id, &placement), ==,
                        PLACEMENT_FOUND);
        g_assert_true(ID_EQUAL(&placement.node, &node_named(w, "b")->id));
        g_assert_cmpstr(placement.answers[0].reasons[0].sentence, ==,
                        "fits too; b is taken first: so that others that wait find a place too");
        placement_clear(&placement);

        /* Where it would have gone by itself: why is its own affair. */
        g_assert_cmpint(placement_find_planned(inventory, vm_named(w, "x"), &node_named(w, "a")->id, &placement), ==,
                        PLACEMENT_FOUND);
        g_assert_cmpstr(placement.answers[1].reasons[0].sentence, ==, "fits too; a is taken first: preferred");
        placement_clear(&placement);
}

static void test_no_pool_no_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        vm_of(w, "x", "nothing", 1);
        ASSERT_PASS(w, "x=-");
}

/* ---- what VMs need beside GPUs */

static void test_memory_is_never_promised_twice(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4");
        with_memory(w, "a", 100);
        with_memory(w, "b", 60);
        for (const char *name = "xyz"; *name; name++) {
                vm_with(w, (char[]) { *name, 0 }, 1, 50);
                needs_memory(w, (char[]) { *name, 0 }, 50);
        }
        vm_with(w, "zz", 1, 50);        /* there are GPUs enough, and memory for three */
        needs_memory(w, "zz", 50);
        ASSERT_PASS(w, "x=a y=a z=b zz=-");
}

static void test_one_that_lacks_memory_turns_nobody_away(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        with_memory(w, "a", 64);
        vm_with(w, "greedy", 1, 50);
        needs_memory(w, "greedy", 100);
        vm_with(w, "modest", 2, 50);
        vm_with(w, "small", 1, 50);
        needs_memory(w, "small", 64);
        ASSERT_PASS(w, "greedy=- modest=a small=a");
}

static void test_one_that_lacks_a_model_turns_nobody_away(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        vm_with(w, "picky", 1, 50);
        needs_model(w, "picky", "10de:20b0");
        vm_with(w, "other", 2, 50);
        ASSERT_PASS(w, "other=a picky=-");
}

static void test_one_that_lacks_a_cpu_turns_nobody_away(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        g_assert_cmpint(text_set(&facts_of(w, "a")->cpu_vendor, "AMD"), ==, 0);
        vm_with(w, "intel", 1, 50);
        g_assert_cmpint(text_set(&vm_named(w, "intel")->needs.cpu_vendor, "Intel"), ==, 0);
        vm_with(w, "other", 2, 50);
        ASSERT_PASS(w, "intel=- other=a");
}

static void test_one_that_lacks_a_file_turns_nobody_away(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        lacks_file(w, "a", "/gone.qcow2");
        vm_with(w, "lost", 1, 50);
        needs_file(w, "lost", "/gone.qcow2");
        vm_with(w, "other", 2, 50);
        ASSERT_PASS(w, "lost=- other=a");
}

static void test_of_those_who_need_as_many_gpus_those_who_need_less_memory_run(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        with_memory(w, "a", 100);
        vm_with(w, "a", 1, 50);
        needs_memory(w, "a", 100);
        vm_with(w, "b", 1, 50);
        needs_memory(w, "b", 50);
        vm_with(w, "c", 1, 50);
        needs_memory(w, "c", 50);
        ASSERT_PASS(w, "a=- b=a c=a");
}

static void test_a_node_without_memory_does_not_hide_others_of_its_kind(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 4 4");
        with_memory(w, "a", 10);
        with_memory(w, "b", 10);
        with_memory(w, "c", 100);
        vm_with(w, "x", 4, 50);
        needs_memory(w, "x", 50);
        ASSERT_PASS(w, "x=c");
}

static void test_who_takes_any_model_leaves_the_one_that_another_needs(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("2 2");
        of_model(w, "b", 0, 2, 0x20b0);
        vm_with(w, "any", 2, 50);
        vm_with(w, "picky", 2, 50);
        needs_model(w, "picky", "10de:2331");
        ASSERT_PASS(w, "any=b picky=a");
        vm_named(w, "any")->priority = 90;      /* it may not choose, and still another runs less badly */
        ASSERT_PASS(w, "any=b picky=a");
}

static void test_who_needs_little_memory_leaves_the_node_that_another_needs(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("2 2");
        with_memory(w, "a", 100);
        with_memory(w, "b", 10);
        vm_with(w, "little", 2, 90);
        needs_memory(w, "little", 10);
        vm_with(w, "much", 2, 50);
        needs_memory(w, "much", 100);
        ASSERT_PASS(w, "little=b much=a");
}

static void test_gpus_of_one_node_are_told_apart_by_their_model(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        of_model(w, "a", 2, 2, 0x20b0);
        vm_with(w, "any", 2, 50);
        vm_with(w, "first", 1, 50);
        needs_model(w, "first", "10de:2331");
        vm_with(w, "second", 1, 50);
        needs_model(w, "second", "10de:20b0");
        ASSERT_PASS(w, "any=a first=a second=a");
}

static void test_those_who_must_be_together_may_take_different_models(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4 2");
        of_model(w, "b", 1, 1, 0x20b0);
        vm_with(w, "x", 1, 50);
        needs_model(w, "x", "10de:2331");
        vm_with(w, "y", 1, 50);
        needs_model(w, "y", "10de:20b0");
        must_be(w, "x", "with", "y");
        ASSERT_PASS(w, "x=b y=b");
}

static void test_one_is_stopped_whose_memory_is_needed(void) {
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        with_memory(w, "a", 100);
        vm_with(w, "spare", 1, 10);
        needs_memory(w, "spare", 80);
        vm_with(w, "spare2", 1, 10);
        needs_memory(w, "spare2", 10);
        runs(w, "spare", "a", "0");
        runs(w, "spare2", "a", "1");
        vm_with(w, "high", 2, 90);
        needs_memory(w, "high", 90);
        Pass pass = pass_of(w, &rules);
        g_autofree char *told = tell(&pass);
        g_assert_cmpstr(told, ==, "high=a");
        g_assert_cmpuint(pass.roster.preempted.n, ==, 1);
        g_assert_cmpstr(pass.inventory->tenants.items[pass.roster.preempted.items[0]->tenant].vm->name, ==, "spare");
        pass_clear(&pass);
}

static void test_those_are_stopped_that_have_the_model(void) {
        const RosterRules rules = { .preempts = lower_may_be_stopped };
        _cleanup_(world_builder_freep) WorldBuilder *w = world_with("4");
        of_model(w, "a", 2, 2, 0x20b0);
        vm_with(w, "spare", 2, 10);
        runs(w, "spare", "a", "0 1");
        vm_with(w, "spare2", 2, 20);
        runs(w, "spare2", "a", "2 3");
        vm_with(w, "high", 2, 90);
        needs_model(w, "high", "10de:20b0");
        Pass pass = pass_of(w, &rules);
        g_autofree char *told = tell(&pass);
        g_assert_cmpstr(told, ==, "high=a");
        g_assert_cmpuint(pass.roster.preempted.n, ==, 1);
        g_assert_cmpstr(pass.inventory->tenants.items[pass.roster.preempted.items[0]->tenant].vm->name, ==, "spare2");
        pass_clear(&pass);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/roster/" #name, test_##name)
        TEST(a_small_vm_does_not_take_the_place_that_a_large_one_needs);
        TEST(a_preference_does_not_cost_another_its_place);
        TEST(spread_leaves_a_place_for_a_large_one);
        TEST(those_who_must_be_together_get_a_place_together);
        TEST(a_linked_set_goes_to_who_needs_it_whole);
        TEST(as_many_as_can_run);
        TEST(one_gpu_more_never_runs_fewer);
        TEST(a_place_is_left_where_a_large_one_could_go);
        TEST(the_largest_keeps_room_elsewhere);
        TEST(uneven_needs_are_moved_about);
        TEST(what_is_kept_in_reserve_is_for_failover);
        TEST(one_that_may_not_have_the_reserve_turns_nobody_away_who_may);
        TEST(only_who_may_be_stopped_makes_way);
        TEST(who_asks_for_the_same_is_not_sought_victims_for_again);
        TEST(victims_are_sought_for_the_most_urgent_first);
        TEST(a_wish_is_kept_where_it_costs_nobody_a_place);
        TEST(apart_is_kept);
        TEST(what_was_planned_is_told);
        TEST(no_pool_no_place);
        TEST(memory_is_never_promised_twice);
        TEST(one_that_lacks_memory_turns_nobody_away);
        TEST(one_that_lacks_a_model_turns_nobody_away);
        TEST(one_that_lacks_a_cpu_turns_nobody_away);
        TEST(one_that_lacks_a_file_turns_nobody_away);
        TEST(of_those_who_need_as_many_gpus_those_who_need_less_memory_run);
        TEST(a_node_without_memory_does_not_hide_others_of_its_kind);
        TEST(who_takes_any_model_leaves_the_one_that_another_needs);
        TEST(who_needs_little_memory_leaves_the_node_that_another_needs);
        TEST(gpus_of_one_node_are_told_apart_by_their_model);
        TEST(those_who_must_be_together_may_take_different_models);
        TEST(one_is_stopped_whose_memory_is_needed);
        TEST(those_are_stopped_that_have_the_model);
        TEST(of_two_alike_the_one_runs_that_costs_a_lower_one_nothing);
        TEST(one_goes_so_that_two_of_its_priority_run);
        TEST(nobody_more_is_stopped_for_an_exchange);
        TEST(what_is_exchanged_in_vain_is_as_before);
        TEST(where_nobody_is_bound_nothing_is_exchanged);
        return g_test_run();
}
