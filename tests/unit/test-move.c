/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/move.h"
#include "world-builder.h"

/* bert (2 GPUs) and ernie (1) on a; b has room for one of them each, c for ernie. */
static WorldBuilder *small_cluster(void) {
        WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 2);
        with_gpus(w, "c", 1);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 1);
        runs(w, "bert", "a", "0 1");
        runs(w, "ernie", "a", "2");
        return w;
}

/* "bert to b: 2 GPUs of training\nernie stays: ..." */
static char *plan_of(WorldBuilder *w, const char *node) {
        _cleanup_(moves_clear) Moves moves = {};
        const World *world = world_now(w);
        GString *text = g_string_new(NULL);
        g_assert_cmpint(moves_of_drain(world, &node_named(w, node)->id, &moves), ==, 0);
        ARRAY_EACH(move, &moves) {
                bool stays = id_is_null(move->to.bytes);
                g_assert_true(ID_EQUAL(&move->from, &node_named(w, node)->id));
                g_string_append_printf(text, "%s %s%s: %s\n", registry_find_vm(world->registry, &move->vm)->name,
                                       stays ? "stays" : "to ", stays ? "" : world_node_name(world, &move->to),
                                       move->why);
        }
        return g_string_free(text, FALSE);
}

static char *said_of(WorldBuilder *w, const char *node) {
        _cleanup_(moves_clear) Moves moves = {};
        char *sentence = NULL;
        g_assert_cmpint(moves_of_drain(world_now(w), &node_named(w, node)->id, &moves), ==, 0);
        g_assert_cmpint(moves_say(world_now(w), &node_named(w, node)->id, &moves, &sentence), ==, 0);
        return sentence;
}

/* What moves_say() and drain_obstacle() return was made by malloc, as GLib's own is. */
static char *obstacle_of(WorldBuilder *w, const char *node) {
        char *sentence = NULL;
        g_assert_cmpint(drain_obstacle(world_now(w), &node_named(w, node)->id, &sentence), ==, 0);
        return sentence;
}

/* ---- a plan */

static void test_who_leaves_takes_the_place_of_nobody_who_left_before(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        g_autofree char *plan = plan_of(w, "a");
        g_assert_cmpstr(plan, ==, "bert to b: 2 GPUs of training\nernie to c: 1 GPU of training\n");
        g_autofree char *said = said_of(w, "a");
        g_assert_cmpstr(said, ==, "2 VMs would leave node a: bert to b, ernie to c");
}

static void test_the_most_urgent_leaves_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        facts_of(w, "c")->guard_connected = false;
        vm_named(w, "ernie")->priority = 60;
        vm_named(w, "bert")->priority = 50;
        g_autofree char *plan = plan_of(w, "a");
        g_assert_true(g_str_has_prefix(plan, "ernie to b: 1 GPU of training\nbert stays: b: "));
}

static void test_who_has_no_place_stays_and_the_others_say_why(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        facts_of(w, "b")->guard_connected = false;
        g_autofree char *plan = plan_of(w, "a"), *said = said_of(w, "a");
        g_assert_cmpstr(plan, ==, "bert stays: b: the guard does not answer, and without it no VM is started; c: 1 "
                        "usable GPU of training in all\nernie to c: 1 GPU of training\n");
        g_assert_cmpstr(said, ==, "1 VM would leave node a: ernie to c. vm bert cannot leave node a (b: the guard does "
                        "not answer, and without it no VM is started; c: 1 usable GPU of training in all). Make room "
                        "for it there, or stop it (gpupoolctl vm shutdown bert)");
}

static void test_the_drained_node_itself_is_no_reason(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        g_autofree char *plan = plan_of(w, "a");
        g_assert_cmpstr(plan, ==, "bert stays: there is no other node\n");
        g_assert_cmpint(node_named(w, "a")->drain, ==, DRAIN_NONE);
}

static void test_who_is_stopped_anyhow_is_left_out(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        vm_named(w, "bert")->run = vm_named(w, "ernie")->run = false;
        vm_named(w, "bert")->assignment.phase = vm_named(w, "ernie")->assignment.phase = ASSIGNMENT_STOPPING;
        g_autofree char *plan = plan_of(w, "a"), *said = said_of(w, "a");
        g_assert_cmpstr(plan, ==, "");
        g_assert_cmpstr(said, ==, "no VM would have to leave node a");
}

static void test_many_are_not_all_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 5);
        pool_of(w, "training", "a");
        for (unsigned i = 0; i < 5; i++) {
                g_autofree char *name = g_strdup_printf("vm%u", i), *gpu = g_strdup_printf("%u", i);
                vm_of(w, name, "training", 1);
                runs(w, name, "a", gpu);
        }
        g_autofree char *said = said_of(w, "a");
        g_assert_cmpstr(said, ==, "5 VMs cannot leave node a: vm0 (b: no GPU of training), vm1 (b: no GPU of "
                        "training), vm2 (b: no GPU of training) and 2 more. Make room for them there, or stop them "
                        "(gpupoolctl vm shutdown VM)");
}

static void test_those_that_must_be_together_leave_together(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        with_gpus(w, "b", 1);
        g_assert_cmpint(pool_add(pool_named(w, "training"), &gpu_of(w, "b", 2)->identity), ==, 0);
        must_be(w, "ernie", "with", "bert");
        g_autofree char *plan = plan_of(w, "a");
        g_assert_cmpstr(plan, ==, "bert to b: 2 GPUs of training, together with ernie\nernie to b: 1 GPU of training, "
                        "together with bert\n");
}

static void test_those_that_must_be_together_stay_together(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        must_be(w, "ernie", "with", "bert");
        g_autofree char *plan = plan_of(w, "a"), *said = said_of(w, "a");
        g_assert_cmpstr(plan, ==, "bert stays: no other node has room for it together with ernie\nernie stays: no "
                        "other node has room for it together with bert\n");
        g_assert_cmpstr(said, ==, "2 VMs cannot leave node a: bert (no other node has room for it together with "
                        "ernie), ernie (no other node has room for it together with bert). Make room for them there, "
                        "or stop them (gpupoolctl vm shutdown VM)");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        g_autofree char *obstacle = obstacle_of(w, "a");
        g_assert_cmpstr(obstacle, ==, said);
}

/* ---- one VM */

static void expect_move(WorldBuilder *w, const char *vm, const char *target, const char *node) {
        g_autofree char *sentence = NULL;
        NodeId found;
        g_assert_cmpint(move_find(world_now(w), vm_named(w, vm), target ? &node_named(w, target)->id : NULL, &found,
                                  &sentence), ==, MOVE_POSSIBLE);
        g_assert_cmpstr(world_node_name(world_now(w), &found), ==, node);
        g_assert_null(sentence);
}

static void expect_no_place(WorldBuilder *w, const char *vm, const char *target, const char *sentence) {
        g_autofree char *said = NULL;
        NodeId found;
        g_assert_cmpint(move_find(world_now(w), vm_named(w, vm), target ? &node_named(w, target)->id : NULL, &found,
                                  &said), ==, MOVE_NO_PLACE);
        g_assert_cmpstr(said, ==, sentence);
}

static void test_a_vm_moves_to_the_best_of_the_others(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        prefers(w, "ernie", "a");
        expect_move(w, "bert", NULL, "b");
        expect_move(w, "ernie", NULL, "c");
        expect_move(w, "ernie", "b", "b");
        expect_move(w, "ernie", "a", "a");      /* the registry says that it is there */
}

static void test_a_vm_without_another_place_is_told_why(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        expect_no_place(w, "bert", "c", "node c cannot take vm bert now: 1 usable GPU of training in all. To change "
                        "that: add GPUs of c (gpupoolctl pool add training GPU)");
        facts_of(w, "b")->guard_connected = false;
        expect_no_place(w, "bert", NULL, "no other node can take vm bert now (b: the guard does not answer, and "
                        "without it no VM is started; c: 1 usable GPU of training in all). See what would change that: "
                        "gpupoolctl vm explain bert");
}

static void test_one_that_must_be_with_another_is_not_moved_without(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        must_be(w, "bert", "with", "ernie");
        expect_no_place(w, "ernie", NULL, "vm ernie must be with bert on node a, and would leave without. Drain the "
                        "node, and they leave together (gpupoolctl node drain a), or change the affinity (gpupoolctl "
                        "vm policy ernie --with)");
}

/* ---- where a drain gets no further */

static void test_a_drain_goes_on_while_somebody_can_leave(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        g_autofree char *both = obstacle_of(w, "a");
        g_assert_null(both);
        facts_of(w, "b")->guard_connected = false;      /* ernie can, still */
        g_autofree char *one = obstacle_of(w, "a");
        g_assert_null(one);
        facts_of(w, "c")->guard_connected = false;
        g_autofree char *none = obstacle_of(w, "a");
        g_assert_nonnull(strstr(none, "2 VMs cannot leave node a: bert ("));
        vm_named(w, "ernie")->assignment.phase = ASSIGNMENT_STOPPING;   /* under way */
        g_autofree char *soon = obstacle_of(w, "a");
        g_assert_null(soon);
}

static void test_a_drain_waits_for_who_left_and_found_no_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        Vm *ernie = vm_named(w, "ernie");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        assignment_clear(&ernie->assignment);
        ernie->home = node_named(w, "a")->id;
        g_autofree char *soon = obstacle_of(w, "a");    /* c has room for it */
        g_assert_null(soon);
        vm_of(w, "late", "training", 1);
        vm_of(w, "later", "training", 2);
        runs(w, "late", "c", "0");
        runs(w, "later", "b", "0 1");
        g_autofree char *waits = obstacle_of(w, "a");
        g_assert_true(g_str_has_prefix(waits, "vm ernie waits: "));
}

static void test_nothing_is_in_the_way_of_a_drain_that_is_done(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = small_cluster();
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        runs(w, "bert", "b", "0 1");
        runs(w, "ernie", "c", "0");
        g_autofree char *obstacle = obstacle_of(w, "a");
        g_assert_null(obstacle);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/move/" #name, test_##name)
        TEST(who_leaves_takes_the_place_of_nobody_who_left_before);
        TEST(the_most_urgent_leaves_first);
        TEST(who_has_no_place_stays_and_the_others_say_why);
        TEST(the_drained_node_itself_is_no_reason);
        TEST(who_is_stopped_anyhow_is_left_out);
        TEST(many_are_not_all_named);
        TEST(those_that_must_be_together_leave_together);
        TEST(those_that_must_be_together_stay_together);
        TEST(a_vm_moves_to_the_best_of_the_others);
        TEST(a_vm_without_another_place_is_told_why);
        TEST(one_that_must_be_with_another_is_not_moved_without);
        TEST(a_drain_goes_on_while_somebody_can_leave);
        TEST(a_drain_waits_for_who_left_and_found_no_place);
        TEST(nothing_is_in_the_way_of_a_drain_that_is_done);
#undef TEST
        return g_test_run();
}
