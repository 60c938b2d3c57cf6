/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Defragmentation: moves that make room, and no fewer do; as the conductor would carry them out. */

#include <glib.h>
#include <stdlib.h>

#include "core/conductor.h"
#include "core/defragment.h"
#include "world-builder.h"

#define WORLD _cleanup_(world_builder_freep) WorldBuilder *
#define WORK 2000000U

static int find(WorldBuilder *w, const char *vm, uint64_t work, Moves *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        size_t tenant = inventory_find_tenant(inventory, &vm_named(w, vm)->id);
        uint32_t free = 0, free_after = 0;
        ARRAY_EACH(room, &inventory->rooms)
                free += room->free;
        int r = defragment_find(inventory, tenant, work, ret);
        ARRAY_EACH(room, &inventory->rooms)
                free_after += room->free;
        g_assert_cmpuint(free, ==, free_after);
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *there = inventory->tenants.items[i].vm;
                g_assert_true(there == w->registry->vms.items + i);
                g_assert_cmpint(inventory->tenants.items[i].node == NOWHERE, ==,
                                there->assignment.phase == ASSIGNMENT_NONE);
        }
        return r;
}

static char *write_moves(WorldBuilder *w, const Moves *moves) {
        GString *text = g_string_new(NULL);
        ARRAY_EACH(move, moves)
                g_string_append_printf(text, "%s%s %s %s", move == moves->items ? "" : ", ",
                                       registry_find_vm(w->registry, &move->vm)->name,
                                       registry_find_node(w->registry, &move->from)->name,
                                       registry_find_node(w->registry, &move->to)->name);
        return g_string_free(text, FALSE);
}

static void expect(WorldBuilder *w, const char *vm, const char *expected) {
        _cleanup_(moves_clear) Moves moves = {};
        g_assert_cmpint(find(w, vm, WORK, &moves), ==, DEFRAGMENT_FOUND);
        g_autofree char *text = write_moves(w, &moves);
        g_assert_cmpstr(text, ==, expected);
}

static void expect_none(WorldBuilder *w, const char *vm, DefragmentVerdict verdict, uint64_t work) {
        _cleanup_(moves_clear) Moves moves = {};
        g_assert_cmpint(find(w, vm, work, &moves), ==, verdict);
        g_assert_cmpuint(moves.n, ==, 0);
}

/* Nodes a, b, c with 4 GPUs each; "a:1 a:2 b:3": a VM of so many GPUs on each, named v0, v1, ... */
static WorldBuilder *cluster_with(const char *running) {
        WorldBuilder *w = world_of(3);
        unsigned used[3] = {}, n = 0;
        for (const char *name = "abc"; *name; name++)
                with_gpus(w, (char[]) { *name, 0 }, 4);
        pool_of(w, "training", "a b c");
        g_auto(GStrv) words = g_strsplit(running, " ", -1);
        for (char **word = words; *word && **word; word++) {
                g_autofree char *name = g_strdup_printf("v%u", n++);
                unsigned count = (unsigned) ((*word)[2] - '0'), *next = used + ((*word)[0] - 'a');
                GString *gpus = g_string_new(NULL);
                for (unsigned i = 0; i < count; i++)
                        g_string_append_printf(gpus, "%s%u", i > 0 ? " " : "", (*next)++);
                vm_of(w, name, "training", count);
                runs(w, name, (char[]) { (*word)[0], 0 }, gpus->str);
                g_string_free(gpus, TRUE);
        }
        return w;
}

static void test_who_fits_needs_no_move(void) {
        WORLD w = cluster_with("a:1 b:1");
        vm_of(w, "big", "training", 4);
        expect(w, "big", "");
}

static void test_one_move_makes_room(void) {
        WORLD w = cluster_with("a:1 b:2 c:2");
        vm_of(w, "big", "training", 4);
        expect(w, "big", "v0 a b");
        vm_named(w, "big")->run = false;        /* somebody only thinks about it */
        expect(w, "big", "v0 a b");
}

static void test_the_room_with_the_fewest_vms_is_emptied(void) {
        WORLD w = cluster_with("a:1 a:1 a:1 b:1 b:1 b:1 c:1 c:1");
        vm_of(w, "big", "training", 4);
        expect(w, "big", "v7 c a, v6 c b");
}

static void test_of_those_that_are_alike_the_least_urgent_moves(void) {
        WORLD w = cluster_with("a:1 a:1 a:1 b:2 b:1 c:2 c:1");
        vm_of(w, "big", "training", 2);
        vm_named(w, "big")->priority = 20;
        vm_named(w, "v1")->priority = -10;
        vm_named(w, "v4")->priority = vm_named(w, "v6")->priority = 10;
        expect(w, "big", "v1 a b");
}

static void test_room_is_made_for_who_makes_room(void) {
        WORLD w = cluster_with("a:2 b:2 b:1 c:3");      /* v0 fits nowhere before v2 has gone */
        vm_named(w, "v1")->assignment.phase = ASSIGNMENT_STARTING;
        vm_of(w, "big", "training", 4);
        expect(w, "big", "v2 b c, v0 a b");
}

static void test_a_node_that_takes_no_vms_is_not_like_one_that_does(void) {
        WORLD w = cluster_with("a:2 b:2 c:2");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        vm_of(w, "big", "training", 4);
        expect(w, "big", "v1 b c");
}

static void test_where_there_are_too_few_gpus_there_is_none(void) {
        WORLD w = cluster_with("a:3 b:3 c:3");
        vm_of(w, "big", "training", 4);
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
        vm_of(w, "lost", "no-such-pool", 1);
        expect_none(w, "lost", DEFRAGMENT_NONE, WORK);
}

static void test_what_is_under_way_is_not_moved(void) {
        WORLD w = cluster_with("a:1 b:2 c:2");
        vm_of(w, "big", "training", 4);
        vm_named(w, "v0")->assignment.phase = ASSIGNMENT_STARTING;
        expect(w, "big", "v1 b c");
        vm_named(w, "v1")->assignment.phase = vm_named(w, "v2")->assignment.phase = ASSIGNMENT_STARTING;
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
}

static void test_nobody_moves_for_who_is_less_important(void) {
        WORLD w = cluster_with("a:1 b:2 c:2");
        vm_of(w, "big", "training", 4)->priority = -1;
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
        vm_named(w, "v1")->priority = -1;
        expect(w, "big", "v1 b c");
}

static void test_licences_and_the_reserve_are_not_moved_about(void) {
        WORLD w = cluster_with("a:1 b:2 c:2");
        vm_of(w, "big", "training", 4);
        pool_named(w, "training")->reserve = 4;
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
        pool_named(w, "training")->reserve = 3;
        expect(w, "big", "v0 a b");
        pool_named(w, "training")->max_in_use = 8;
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
}

static void test_who_waits_too_does_not_get_the_hole(void) {
        WORLD w = cluster_with("a:1 a:1 b:2 c:2 c:1");
        vm_of(w, "big", "training", 4);
        expect(w, "big", "v2 b a");
        vm_of(w, "hungry", "training", 3)->priority = 10;       /* takes three of b as soon as they are free */
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
}

static void test_a_vm_that_must_be_apart_is_moved_out_of_the_way(void) {
        WORLD w = cluster_with("a:4 b:4 c:1");
        vm_of(w, "big", "training", 2);
        must_be(w, "big", "apart", "v2");
        expect_none(w, "big", DEFRAGMENT_NONE, WORK);
        WORLD other = world_of(2);
        with_gpus(other, "a", 2);
        with_gpus(other, "b", 1);
        pool_of(other, "render", "a:0 b:0");
        pool_of(other, "training", "a:1");
        vm_of(other, "paint", "render", 1);
        vm_of(other, "bert", "training", 1);
        runs(other, "paint", "a", "0");
        must_be(other, "bert", "apart", "paint");
        expect(other, "bert", "paint a b");
}

static void test_linked_gpus_are_freed_together(void) {
        WORLD w = world_of(2);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "v0", "training", 1);
        vm_of(w, "big", "training", 4);
        runs(w, "v0", "a", "0");
        linked(w, "a", 0, 4);                   /* found out later: v0 keeps all four from the others */
        expect(w, "big", "v0 a b");
}

static void test_it_gives_up_in_time(void) {
        WORLD w = cluster_with("a:1 a:1 a:1 b:3 c:1 c:1");
        vm_of(w, "big", "training", 4);
        expect_none(w, "big", DEFRAGMENT_GAVE_UP, 10);
}

/* ---- against all ways there are, with the conductor itself */

static bool chance(GRand *random, int one_in) {
        return g_rand_int_range(random, 0, one_in) == 0;
}

/* Who waits gets a place; nobody is drained here. */
static void conduct(WorldBuilder *w) {
        _cleanup_(conductor_clear) Conductor conductor = {};
        for (;;) {
                _cleanup_(proposal_clear) Proposal proposal = {};
                uint64_t wake_us;
                int r = conductor_next(&conductor, world_now(w), NULL, 0, &proposal, &wake_us);
                if (r == CONDUCTOR_IDLE)
                        return;
                g_assert_cmpint(r, ==, CONDUCTOR_PROPOSES);
                g_assert_cmpint(proposal.kind, ==, PROPOSAL_ASSIGN);
                Vm *vm = w->registry->vms.items + (proposal.vm - w->registry->vms.items);
                vm->assignment = (Assignment) { .phase = ASSIGNMENT_RUNNING, .node = proposal.placement.node,
                                                .gpus = STEAL(proposal.placement.gpus),
                                                .n_gpus = proposal.placement.n_gpus };
                vm->target = (NodeId) {};
        }
}

/* The assignments of all VMs, to come back to. */
static Assignment *remember(WorldBuilder *w) {
        Assignment *all = g_new0(Assignment, w->registry->vms.n + 1);
        for (size_t i = 0; i < w->registry->vms.n; i++) {
                all[i] = w->registry->vms.items[i].assignment;
                all[i].gpus = all[i].n_gpus > 0 ? calloc(all[i].n_gpus, sizeof(AssignedGpu)) : NULL;
                for (size_t j = 0; j < all[i].n_gpus; j++)
                        all[i].gpus[j] = w->registry->vms.items[i].assignment.gpus[j];
        }
        return all;
}

static void come_back(WorldBuilder *w, Assignment *all) {
        for (size_t i = 0; i < w->registry->vms.n; i++) {
                assignment_clear(&w->registry->vms.items[i].assignment);
                w->registry->vms.items[i].assignment = all[i];
                w->registry->vms.items[i].target = (NodeId) {};
        }
        g_free(all);
}

/* A cold move as it would be carried out. Whether the VM lands there. */
static bool move(WorldBuilder *w, Vm *vm, const NodeId *to) {
        if (vm->assignment.phase != ASSIGNMENT_RUNNING || ID_EQUAL(&vm->assignment.node, to))
                return false;
        assignment_clear(&vm->assignment);
        vm->target = *to;
        conduct(w);
        return vm->assignment.phase == ASSIGNMENT_RUNNING && ID_EQUAL(&vm->assignment.node, to);
}

static bool is_placed(WorldBuilder *w, const char *vm) {
        return vm_named(w, vm)->assignment.phase != ASSIGNMENT_NONE;
}

/* Do some @n moves make room? */
static bool can_be_done(WorldBuilder *w, const char *vm, unsigned n) {
        bool done = false;
        for (size_t i = 0; n > 0 && i < w->registry->vms.n && !done; i++)
                for (size_t j = 0; j < w->registry->nodes.n && !done &&
                                   w->registry->vms.items[i].priority <= vm_named(w, vm)->priority; j++) {
                        Assignment *before = remember(w);
                        done = move(w, w->registry->vms.items + i, &w->registry->nodes.items[j].id) &&
                               (is_placed(w, vm) || can_be_done(w, vm, n - 1));
                        come_back(w, before);
                }
        return done;
}

static WorldBuilder *random_cluster(GRand *random) {
        size_t n_nodes = (size_t) g_rand_int_range(random, 2, 5), n_vms = (size_t) g_rand_int_range(random, 3, 7);
        bool related = chance(random, 4), others_wait = chance(random, 3);
        WorldBuilder *w = world_of(n_nodes);
        GString *names = g_string_new(NULL);
        for (size_t i = 0; i < n_nodes; i++) {
                const char *name = w->registry->nodes.items[i].name;
                size_t n_gpus = (size_t) g_rand_int_range(random, 2, 5);
                with_gpus(w, name, n_gpus);
                if (n_gpus > 2 && chance(random, 8))
                        linked(w, name, 0, 2);
                g_string_append_printf(names, "%s ", name);
        }
        pool_of(w, "training", names->str)->placement = chance(random, 2) ? POOL_PACK : POOL_SPREAD;
        pool_named(w, "training")->reserve = chance(random, 6) ? 1 : 0;
        pool_named(w, "training")->max_in_use = chance(random, 8) ? 8 : 0;
        g_string_free(names, TRUE);
        for (size_t i = 0; i < n_vms; i++) {
                g_autofree char *name = g_strdup_printf("v%zu", i);
                Vm *vm = vm_of(w, name, "training", chance(random, 3) ? 2 : chance(random, 6) ? 3 : 1);
                vm->priority = g_rand_int_range(random, 0, 2);
                size_t first = (size_t) g_rand_int_range(random, 0, (gint32) n_nodes);
                for (size_t j = 0; j < n_nodes && vm->assignment.phase == ASSIGNMENT_NONE; j++) {
                        Placement found = {};   /* anywhere, so that holes are everywhere */
                        vm->target = w->registry->nodes.items[(first + j) % n_nodes].id;
                        if (placement_find(world_now(w), vm, &found) == PLACEMENT_FOUND)
                                vm->assignment = (Assignment) { .phase = ASSIGNMENT_RUNNING, .node = found.node,
                                                                .gpus = STEAL(found.gpus), .n_gpus = found.n_gpus };
                        placement_clear(&found);
                }
                vm->target = (NodeId) {};
                vm->run = vm->assignment.phase != ASSIGNMENT_NONE || others_wait;
        }
        uint32_t n_free = 0, n_big = (uint32_t) g_rand_int_range(random, 2, 5);
        for (size_t i = 0; i < n_nodes; i++)
                n_free += (uint32_t) w->facts[i]->n_gpus;
        ARRAY_EACH(vm, &w->registry->vms)
                n_free -= (uint32_t) vm->assignment.n_gpus;
        n_big = n_free >= 2 && n_free < n_big ? n_free : n_big;         /* mostly there is enough, scattered */
        vm_of(w, "big", "training", n_big)->priority = g_rand_int_range(random, 0, 2);
        if (related) {
                g_autofree char *one = g_strdup_printf("v%d", g_rand_int_range(random, 0, (gint32) n_vms));
                must_be(w, chance(random, 2) ? "v0" : "big", chance(random, 3) ? "with" : "apart",
                        text_equal(one, "v0") ? "v1" : one);
        }
        conduct(w);
        return w;
}

/* How many moves the search says, or a verdict. */
static void check_one(uint32_t seed, unsigned found_by_size[static DEFRAGMENT_MOVES_MAX + 3]) {
        enum { BRUTE_MAX = 3 };
        GRand *random = g_rand_new_with_seed(seed);
        WORLD w = random_cluster(random);
        _cleanup_(moves_clear) Moves moves = {};
        g_rand_free(random);
        if (is_placed(w, "big"))
                return;
        int verdict = find(w, "big", WORK, &moves);
        g_autofree char *text = write_moves(w, &moves);
        g_test_message("seed %u (replay: GPUPOOL_SEED=%u test-defragment -p /defragment/no_fewer_moves_do): %d %s",
                       seed, seed, verdict, text);
        g_assert_false(verdict == DEFRAGMENT_FOUND && moves.n == 0);
        size_t n_brute = w->registry->vms.n > 5 ? 2 : BRUTE_MAX;
        if (verdict == DEFRAGMENT_FOUND && moves.n <= n_brute)
                n_brute = moves.n - 1;
        g_assert_false(can_be_done(w, "big", (unsigned) n_brute));
        found_by_size[verdict == DEFRAGMENT_FOUND ? moves.n : DEFRAGMENT_MOVES_MAX + (unsigned) verdict]++;
        for (size_t i = 0; i < moves.n; i++) {
                g_assert_false(is_placed(w, "big"));
                g_assert_true(move(w, w->registry->vms.items + (registry_find_vm(w->registry, &moves.items[i].vm) -
                                                                w->registry->vms.items), &moves.items[i].to));
        }
        g_assert_cmpint(is_placed(w, "big"), ==, verdict == DEFRAGMENT_FOUND);
}

static void test_no_fewer_moves_do(void) {
        const char *given = getenv("GPUPOOL_SEED");
        unsigned found_by_size[DEFRAGMENT_MOVES_MAX + 3] = {};
        if (given) {
                check_one((uint32_t) strtoul(given, NULL, 10), found_by_size);
                return;
        }
        for (uint32_t seed = 0; seed < 1500; seed++)
                check_one(seed, found_by_size);
        for (unsigned i = 0; i < ELEMENTS(found_by_size); i++)
                g_test_message("%u moves: %u times", i, found_by_size[i]);
        g_assert_cmpuint(found_by_size[1], >, 10);      /* else these clusters are too easy, or too hard */
        g_assert_cmpuint(found_by_size[2], >, 10);
        g_assert_cmpuint(found_by_size[3], >, 0);
        g_assert_cmpuint(found_by_size[DEFRAGMENT_MOVES_MAX + DEFRAGMENT_NONE], >, 10);
        g_assert_cmpuint(found_by_size[DEFRAGMENT_MOVES_MAX + DEFRAGMENT_GAVE_UP], <, 50);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/defragment/" #name, test_##name)
        TEST(who_fits_needs_no_move);
        TEST(one_move_makes_room);
        TEST(the_room_with_the_fewest_vms_is_emptied);
        TEST(of_those_that_are_alike_the_least_urgent_moves);
        TEST(room_is_made_for_who_makes_room);
        TEST(a_node_that_takes_no_vms_is_not_like_one_that_does);
        TEST(where_there_are_too_few_gpus_there_is_none);
        TEST(what_is_under_way_is_not_moved);
        TEST(nobody_moves_for_who_is_less_important);
        TEST(licences_and_the_reserve_are_not_moved_about);
        TEST(who_waits_too_does_not_get_the_hole);
        TEST(a_vm_that_must_be_apart_is_moved_out_of_the_way);
        TEST(linked_gpus_are_freed_together);
        TEST(it_gives_up_in_time);
        TEST(no_fewer_moves_do);
#undef TEST
        return g_test_run();
}
