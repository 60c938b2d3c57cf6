/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/vm-reason.h"
#include "world-builder.h"

/* What one node would have to change, remedy after remedy. */
static char *remedies_of(WorldBuilder *w, const char *vm, const char *node) {
        _cleanup_(placement_clear) Placement placement = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, vm), &placement), >=, 0);
        GString *text = g_string_new(NULL);
        for (size_t i = 0; i < placement.n_answers; i++) {
                const PlacementAnswer *answer = placement.answers + i;
                if (!text_equal(world_node_name(world_now(w), &answer->node), node))
                        continue;
                for (size_t j = 0; j < answer->n_reasons; j++) {
                        const char *remedy = answer->reasons[j].remedy;
                        g_assert_true(remedy || answer->fits);
                        g_string_append_printf(text, "%s%s", j > 0 ? " | " : "", remedy ? remedy : "fits");
                }
        }
        return g_string_free(text, FALSE);
}

static void expect_remedies(WorldBuilder *w, const char *vm, const char *node, const char *expected) {
        g_autofree char *remedies = remedies_of(w, vm, node);
        g_assert_cmpstr(remedies, ==, expected);
}

static void expect_reason(WorldBuilder *w, const char *vm, const char *expected) {
        _cleanup_free_ char *code = NULL, *sentence = NULL;
        g_assert_cmpint(vm_reason(world_now(w), vm_named(w, vm), &code, &sentence), ==, 0);
        g_assert_cmpstr(sentence, ==, expected);
}

/* Singles on the four GPUs of a, one priority each. */
static WorldBuilder *four_singles(const int32_t priorities[static 4]) {
        WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 4);
        pool_of(w, "training", "a");
        for (size_t i = 0; i < 4; i++) {
                const char name[] = { 'p', (char) ('0' + i), 0 }, gpu[] = { (char) ('0' + i), 0 };
                vm_of(w, name, "training", 1)->priority = priorities[i];
                runs(w, name, "a", gpu);
        }
        vm_of(w, "bert", "training", 1)->priority = 50;
        return w;
}

/* ---- whom to stop */

static void test_no_more_are_stopped_than_it_takes(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 5);
        pool_of(w, "training", "a");
        vm_of(w, "small", "training", 1)->priority = 1;
        vm_of(w, "large", "training", 4)->priority = 2;
        vm_of(w, "bert", "training", 4)->priority = 50;
        runs(w, "small", "a", "0");
        runs(w, "large", "a", "1 2 3 4");
        expect_remedies(w, "bert", "a", "stop large (gpupoolctl vm stop large)");
        vm_named(w, "bert")->count = 5;
        expect_remedies(w, "bert", "a", "stop small and large (gpupoolctl vm stop VM)");
}

static void test_who_is_as_important_or_more_is_not_named_without_saying_so(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 90, 50, 10, 50 });
        expect_remedies(w, "bert", "a", "stop p2 (gpupoolctl vm stop p2)");
        vm_named(w, "bert")->count = 2;
        expect_remedies(w, "bert", "a", "stop p2 and p1, of the same priority (gpupoolctl vm stop VM)");
        vm_named(w, "bert")->count = 3;
        expect_remedies(w, "bert", "a", "stop p2 and p1, of the same priority, and p3, of the same priority "
                        "(gpupoolctl vm stop VM)");
        vm_named(w, "bert")->count = 4;
        expect_remedies(w, "bert", "a", "stop p2 and p1, of the same priority, and p3, of the same priority and 1 "
                        "more, not all of lower priority (gpupoolctl vm stop VM)");
        vm_named(w, "bert")->priority = 100;
        expect_remedies(w, "bert", "a", "stop p2 and p1 and p3 and 1 more (gpupoolctl vm stop VM)");
        vm_named(w, "bert")->priority = 0;
        vm_named(w, "bert")->count = 1;
        expect_remedies(w, "bert", "a", "stop p2, of higher priority (gpupoolctl vm stop p2)");
}

static void test_who_stops_anyhow_is_waited_for(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 90, 50, 10, 20 });
        Vm *p0 = vm_named(w, "p0");
        p0->run = false;
        p0->assignment.phase = ASSIGNMENT_STOPPING;
        expect_remedies(w, "bert", "a", "wait until p0 has stopped");
        vm_named(w, "bert")->count = 2;
        expect_remedies(w, "bert", "a", "wait until p0 has stopped and stop p2 (gpupoolctl vm stop p2)");
        vm_named(w, "bert")->count = 3;
        expect_remedies(w, "bert", "a", "wait until p0 has stopped and stop p2 and p3 (gpupoolctl vm stop VM)");
}

static void test_to_stop_somebody_helps_only_where_his_set_does(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 6);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 4);
        pool_of(w, "training", "a");
        vm_of(w, "two", "training", 2)->priority = 1;           /* less important, and of no use */
        vm_of(w, "four", "training", 4)->priority = 2;
        vm_of(w, "bert", "training", 4)->priority = 50;
        runs(w, "two", "a", "0 1");
        runs(w, "four", "a", "2 3 4 5");
        expect_remedies(w, "bert", "a", "stop four (gpupoolctl vm stop four)");
}

static void test_enough_is_free_but_in_the_wrong_set(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 5);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        pool_of(w, "training", "a");
        vm_of(w, "one", "training", 1)->priority = 50;
        vm_of(w, "two", "training", 2);
        vm_of(w, "bert", "training", 1)->priority = 50;
        runs(w, "one", "a", "4");
        runs(w, "two", "a", "0 1");
        expect_remedies(w, "bert", "a", "stop one, of the same priority (gpupoolctl vm stop one); or ask for 2 "
                        "(gpupoolctl vm requirement bert --gpus 2)");
}

static void test_stopping_keeps_what_the_pool_keeps_free(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 1, 2, 3, 4 });
        Pool *pool = pool_named(w, "training");
        pool->reserve = 2;
        expect_remedies(w, "bert", "a", "stop p0 and p1 and p2 (gpupoolctl vm stop VM)");
        pool->reserve = 4;                      /* nobody's end is enough for that */
        expect_remedies(w, "bert", "a", "stop p0 (gpupoolctl vm stop p0), and lower the reserve of training "
                        "(gpupoolctl pool policy training --reserve 0)");
}

/* The same, where it is not enough to count. */
static void test_stopping_keeps_the_rules_of_the_pool_beside_sets(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 6);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        linked(w, "a", 4, 2);
        Pool *pool = pool_of(w, "training", "a");
        for (unsigned i = 0; i < 3; i++) {
                const char name[] = { 'p', (char) ('0' + i), 0 };
                const char gpus[] = { (char) ('0' + 2 * i), ' ', (char) ('1' + 2 * i), 0 };
                vm_of(w, name, "training", 2)->priority = (int32_t) i;
                runs(w, name, "a", gpus);
        }
        vm_of(w, "bert", "training", 2)->priority = 50;
        expect_remedies(w, "bert", "a", "stop p0 (gpupoolctl vm stop p0)");
        pool->reserve = 1;
        expect_remedies(w, "bert", "a", "stop p0 and p1 (gpupoolctl vm stop VM)");
        pool->reserve = 5;
        expect_remedies(w, "bert", "a", "stop p0 (gpupoolctl vm stop p0), and lower the reserve of training "
                        "(gpupoolctl pool policy training --reserve 0)");
        pool->reserve = 0;
        pool->max_in_use = 1;
        expect_remedies(w, "bert", "a", "stop p0 (gpupoolctl vm stop p0), and raise the limit of training (gpupoolctl "
                        "pool policy training --max-in-use 6) | stop a VM of training, or raise its limit (gpupoolctl "
                        "pool policy training --max-in-use 8)");
}

static void test_stopping_keeps_what_the_pool_may_have_in_use(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 1, 2, 3, 4 });
        pool_named(w, "training")->max_in_use = 2;
        expect_remedies(w, "bert", "a", "stop p0 and p1 and p2 (gpupoolctl vm stop VM) | stop a VM of training, or "
                        "raise its limit (gpupoolctl pool policy training --max-in-use 5)");
}

static void test_what_the_reserve_lacks_is_told_in_numbers(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        pool_of(w, "training", "a")->reserve = 3;
        vm_of(w, "bert", "training", 2);
        expect_remedies(w, "bert", "a", "free 1 more of it (stop a VM of training, or add GPUs), or lower its reserve "
                        "(gpupoolctl pool policy training --reserve 2)");
}

static void test_who_asks_leaves_everything_as_it_was(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 1, 2, 3, 4 });
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        pool_named(w, "training")->reserve = 4;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        uint32_t in_use = inventory->pools.items[0].in_use;
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_(placement_clear) Placement placement = {};
                g_assert_cmpint(placement_find_in(inventory, vm_named(w, "bert"), &placement), ==, PLACEMENT_NO_ROOM);
                g_assert_cmpuint(inventory->pools.items[0].in_use, ==, in_use);
                g_assert_cmpuint(inventory->pools.items[0].free, ==, 0);
                ARRAY_EACH(tenant, &inventory->tenants)
                        g_assert_cmpuint(tenant->n_held, ==, text_equal(tenant->vm->name, "bert") ? 0 : 1);
        }
}

static void test_a_vm_that_must_be_with_a_more_important_one_is_told_so(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 1);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        vm_of(w, "main", "training", 1)->priority = 90;
        vm_of(w, "side", "training", 1)->priority = 10;
        vm_of(w, "other", "training", 1)->priority = 5;
        runs(w, "main", "a", "0");
        must_be(w, "side", "with", "main");
        must_be(w, "side", "apart", "other");
        expect_remedies(w, "side", "b", "stop main, of higher priority, or change the affinity (gpupoolctl vm policy "
                        "side --with)");
        runs(w, "other", "b", "0");
        g_autofree char *remedies = remedies_of(w, "side", "b");
        g_assert_nonnull(strstr(remedies, "| stop other, or change the affinity"));
}

/* ---- why it waits */

static void test_the_node_is_named_where_nobody_as_important_has_to_stop(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "high", "training", 1)->priority = 90;
        vm_of(w, "low", "training", 2)->priority = 10;
        vm_of(w, "bert", "training", 2)->priority = 50;
        runs(w, "high", "a", "0");              /* one more is free there */
        runs(w, "low", "b", "0 1");
        expect_reason(w, "bert", "vm bert waits: it needs 2 of training; b has 2 usable, 2 of them run low (priority "
                      "10, below bert). Stop low (gpupoolctl vm stop low)");
}

static void test_a_vm_that_waits_tells_what_each_node_said(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = four_singles((int32_t[]){ 1, 2, 3, 4 });
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(placement_notes_clear) PlacementNotes waits = {}, runs_notes = {};
        _cleanup_free_ char *code = NULL, *sentence = NULL, *code_2 = NULL, *sentence_2 = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(vm_account_in(inventory, vm_named(w, "bert"), &code, &sentence, &waits), ==, 0);
        g_assert_cmpstr(code, ==, "gpus-taken");
        g_assert_cmpuint(waits.n, ==, 2);
        g_assert_cmpstr(waits.items[0].node, ==, "a");
        g_assert_false(waits.items[0].chosen);
        g_assert_true(g_str_has_suffix(waits.items[0].why, "the rest 1 other VM: stop p0 (gpupoolctl vm stop p0)"));
        g_assert_cmpint(vm_account_in(inventory, vm_named(w, "p0"), &code_2, &sentence_2, &runs_notes), ==, 0);
        g_assert_cmpuint(runs_notes.n, ==, 0);
}

/* All who wait are told anew with each change: words for each of a thousand nodes would keep leases from being
 * renewed. */
static void test_who_waits_among_many_nodes_is_told_of_the_nearest_ones(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(200);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(placement_notes_clear) PlacementNotes notes = {}, all_notes = {};
        _cleanup_(placement_clear) Placement briefly = {}, all = {};
        GString *names = g_string_new(NULL);
        for (size_t i = 0; i < 200; i++) {
                const char *name = w->registry->nodes.items[i].name;
                with_gpus(w, name, 1);
                if (i % 3 != 0)
                        g_string_append_printf(names, "%s%s", names->len > 0 ? " " : "", name);
                if (i < 150)
                        w->registry->nodes.items[i].drain = DRAIN_BY_HAND;
        }
        pool_of(w, "training", names->str);
        const Vm *vm = vm_of(w, "bert", "training", 2);
        const char *preferred = w->registry->nodes.items[99].name;
        prefers(w, "bert", preferred);
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_cmpint(placement_find_briefly(inventory, vm, &briefly), ==, PLACEMENT_NO_ROOM);
        g_assert_cmpint(placement_find_in(inventory, vm, &all), ==, PLACEMENT_NO_ROOM);
        g_assert_cmpstr(briefly.summary, ==, all.summary);
        g_assert_cmpstr(briefly.code, ==, all.code);
        size_t told = 0;
        for (size_t i = 0; i < briefly.n_answers; i++)
                told += briefly.answers[i].n_reasons > 0;
        g_assert_cmpuint(told, >, 10);
        g_assert_cmpuint(told, <, 30);
        g_assert_cmpint(placement_notes_make(world_now(w), vm, &briefly, NOTES_SIZE_WAITING, &notes), ==, 0);
        g_assert_cmpint(placement_notes_make(world_now(w), vm, &all, NOTES_SIZE_WAITING, &all_notes), ==, 0);
        g_assert_cmpstr(notes.items[0].node, ==, preferred);
        g_assert_cmpuint(notes.n, >, 5);
        for (size_t i = 0; i < notes.n; i++)
                g_assert_cmpstr(notes.items[i].node, ==, all_notes.items[i].node);
        g_string_free(names, TRUE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/explain/" #name, test_##name)
        TEST(no_more_are_stopped_than_it_takes);
        TEST(who_is_as_important_or_more_is_not_named_without_saying_so);
        TEST(who_stops_anyhow_is_waited_for);
        TEST(to_stop_somebody_helps_only_where_his_set_does);
        TEST(enough_is_free_but_in_the_wrong_set);
        TEST(stopping_keeps_what_the_pool_keeps_free);
        TEST(stopping_keeps_the_rules_of_the_pool_beside_sets);
        TEST(stopping_keeps_what_the_pool_may_have_in_use);
        TEST(what_the_reserve_lacks_is_told_in_numbers);
        TEST(who_asks_leaves_everything_as_it_was);
        TEST(a_vm_that_must_be_with_a_more_important_one_is_told_so);
        TEST(the_node_is_named_where_nobody_as_important_has_to_stop);
        TEST(a_vm_that_waits_tells_what_each_node_said);
        TEST(who_waits_among_many_nodes_is_told_of_the_nearest_ones);
#undef TEST
        return g_test_run();
}
