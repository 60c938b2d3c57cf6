/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "world-builder.h"

static GpuViews list(WorldBuilder *w) {
        GpuViews views = {};
        g_assert_cmpint(world_list_gpus(world_now(w), &views), ==, 0);
        return views;
}

/* The view of the list and the view of one GPU must be the same. */
static GpuView view_of(WorldBuilder *w, const GpuIdentity *identity) {
        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        GpuView alone;
        world_view_gpu(world_now(w), identity, &alone);
        for (size_t i = 0; i < views.n; i++) {
                const GpuView *view = views.items + i;
                if (!gpu_identity_equal(&view->identity, identity))
                        continue;
                g_assert_true(view->facts == alone.facts && view->host == alone.host && view->pool == alone.pool);
                g_assert_true(view->vm == alone.vm && view->group_vm == alone.group_vm);
                g_assert_true(view->quarantine == alone.quarantine);
                g_assert_cmpint(view->state, ==, alone.state);
                g_assert_cmpint(view->assignable, ==, alone.assignable);
                return *view;
        }
        g_assert_not_reached();
}

static void test_a_gpu_that_only_facts_know_is_present(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        GpuView view = view_of(w, &gpu_of(w, "a", 0)->identity);
        g_assert_cmpint(view.state, ==, GPU_PRESENT);
        g_assert_true(view.assignable);
        g_assert_true(view.host == facts_of(w, "a"));
        g_assert_null(view.pool);
        g_assert_true(gpu_view_is_free(&view));
}

static void test_pool_vm_and_quarantine_are_joined(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b:1");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "1");
        quarantined(w, "b", 1);

        GpuView assigned = view_of(w, &gpu_of(w, "a", 1)->identity);
        GpuView quarantine = view_of(w, &gpu_of(w, "b", 1)->identity);
        g_assert_cmpint(assigned.state, ==, GPU_ASSIGNED);
        g_assert_true(assigned.vm == vm_named(w, "bert"));
        g_assert_true(assigned.pool == pool_named(w, "training"));
        g_assert_true(gpu_view_is_usable(&assigned));
        g_assert_false(gpu_view_is_free(&assigned));
        g_assert_cmpint(quarantine.state, ==, GPU_QUARANTINED);
        g_assert_false(gpu_view_is_usable(&quarantine));
}

static void test_what_the_registry_knows_and_nobody_sees_is_absent(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        GpuIdentity gone = gpu_of(w, "a", 1)->identity, silent = gpu_of(w, "b", 0)->identity;
        unplugged(w, "a", 1);
        forget_facts(w, "b");

        GpuView view = view_of(w, &gone);
        g_assert_cmpint(view.state, ==, GPU_ABSENT);
        g_assert_true(view.host == facts_of(w, "a"));
        g_assert_cmpuint(view.identity.address.bus, ==, 0x42);
        view = view_of(w, &silent);
        g_assert_cmpint(view.state, ==, GPU_ABSENT);
        g_assert_null(view.host);
        g_assert_false(gpu_view_is_usable(&view));
}

static void test_another_card_in_the_slot_is_another_gpu(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        GpuIdentity old = gpu_of(w, "a", 0)->identity;
        gpu_of(w, "a", 0)->identity.device = 0x20b5;

        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 2);
        g_assert_cmpint(views.items[0].state, ==, GPU_PRESENT);         /* the one that is there comes first */
        g_assert_null(views.items[0].pool);
        g_assert_cmpint(views.items[1].state, ==, GPU_ABSENT);
        g_assert_true(gpu_identity_equal(&views.items[1].identity, &old));
}

static void test_a_serial_that_one_side_lacks_is_no_other_card(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "1320422", GPU_SERIAL_SIZE);
        pool_of(w, "training", "a");
        gpu_of(w, "a", 0)->identity.serial[0] = 0;
        gpu_of(w, "a", 0)->address.bus = 0x55;

        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 1);
        g_assert_cmpstr(views.items[0].identity.serial, ==, "1320422");         /* as the registry means it */
        g_assert_cmpuint(views.items[0].identity.address.bus, ==, 0x55);        /* where it is now */
        g_assert_true(views.items[0].pool == pool_named(w, "training"));
        g_assert_true(world_find_gpu(world_now(w), &views.items[0].identity) == gpu_of(w, "a", 0));
        g_assert_null(world_find_certain_gpu(world_now(w), &views.items[0].identity));
        g_assert_false(gpu_view_is_usable(views.items));        /* but it may be, so nobody gets it until it is read */
        _cleanup_(blockers_clear) Blockers blockers = {};
        g_assert_cmpint(gpu_view_survey(views.items, &blockers), ==, 0);
        g_assert_cmpuint(blockers.n, ==, 1);
        g_assert_cmpint(blockers.items[0].code, ==, BLOCKER_UNREADABLE);
        g_assert_nonnull(strstr(blockers.items[0].sentence, "still the card with serial 1320422"));

        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "1320422", GPU_SERIAL_SIZE);
        gpu_views_clear(&views);
        views = list(w);
        g_assert_true(gpu_view_is_usable(views.items));
        g_assert_true(world_find_certain_gpu(world_now(w), &views.items[0].identity) == gpu_of(w, "a", 0));

        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "999", GPU_SERIAL_SIZE);
        gpu_views_clear(&views);
        views = list(w);
        g_assert_cmpuint(views.n, ==, 2);
}

static void test_cards_that_changed_places_are_two_others_and_the_old_ones_absent(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "111", GPU_SERIAL_SIZE);
        g_strlcpy(gpu_of(w, "a", 1)->identity.serial, "222", GPU_SERIAL_SIZE);
        pool_of(w, "training", "a");
        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "222", GPU_SERIAL_SIZE);
        g_strlcpy(gpu_of(w, "a", 1)->identity.serial, "111", GPU_SERIAL_SIZE);
        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 4);
        ARRAY_EACH(view, &views) {
                g_assert_cmpint(view->facts == NULL, ==, view->pool != NULL);
                g_assert_cmpint(view->state, ==, view->pool ? GPU_ABSENT : GPU_PRESENT);
        }
}

static void test_a_bus_that_was_renumbered_changes_no_card(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        GpuIdentity first = gpu_of(w, "a", 0)->identity, second = gpu_of(w, "a", 1)->identity;
        /* Each has the other's address now. */
        PciAddress address = gpu_of(w, "a", 0)->address;
        gpu_of(w, "a", 0)->address = gpu_of(w, "a", 0)->identity.address = gpu_of(w, "a", 1)->address;
        gpu_of(w, "a", 1)->address = gpu_of(w, "a", 1)->identity.address = address;
        g_assert_true(world_find_gpu(world_now(w), &first) == gpu_of(w, "a", 0));
        g_assert_true(world_find_gpu(world_now(w), &second) == gpu_of(w, "a", 1));
        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 2);
        g_assert_cmpstr(views.items[0].identity.slot, ==, second.slot);         /* by address */
        g_assert_true(views.items[0].pool && views.items[1].pool);
}

static void test_a_group_in_use_is_not_free(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        gpu_of(w, "a", 1)->iommu_group = 10;            /* as a's first; b's first has group 10 too, on another node */
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        GpuView neighbour = view_of(w, &gpu_of(w, "a", 1)->identity), other = view_of(w, &gpu_of(w, "b", 0)->identity);
        g_assert_cmpint(neighbour.state, ==, GPU_PRESENT);
        g_assert_true(neighbour.group_vm == vm_named(w, "bert"));
        g_assert_false(gpu_view_is_free(&neighbour));
        g_assert_true(gpu_view_is_free(&other));
}

static void test_our_own_vm_is_no_blocker(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        for (size_t i = 0; i < 2; i++) {
                GpuHolder holder = { .pid = 4711, .name = strdup("something") };
                g_assert_cmpint(gpu_facts_add_holder(gpu_of(w, "a", i), holder), ==, 0);
        }
        runs(w, "bert", "a", "0");
        GpuView ours = view_of(w, &gpu_of(w, "a", 0)->identity), blocked = view_of(w, &gpu_of(w, "a", 1)->identity);
        g_assert_true(ours.assignable);
        g_assert_false(blocked.assignable);

        Blockers blockers = {};
        g_assert_cmpint(gpu_view_survey(&blocked, &blockers), ==, 0);
        g_assert_cmpuint(blockers.n, ==, 1);
        g_assert_cmpint(gpu_view_survey(&ours, &blockers), ==, 0);
        g_assert_cmpuint(blockers.n, ==, 1);            /* appended nothing, took nothing away */
        blockers_clear(&blockers);
}

static void test_gpus_are_in_the_order_of_node_and_address(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        with_gpus(w, "c", 3);
        with_gpus(w, "a", 3);
        pool_of(w, "training", "c a");
        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 6);
        for (size_t i = 1; i < views.n; i++) {
                const GpuIdentity *before = &views.items[i - 1].identity, *here = &views.items[i].identity;
                int c = ID_COMPARE(&before->node, &here->node);
                g_assert_true(c < 0 || (c == 0 && pci_address_compare(before->address, here->address) < 0));
        }
}

static void test_nodes_have_names(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        NodeId stranger = { .bytes = { 0xab } };
        g_assert_cmpstr(world_node_name(world_now(w), &node_named(w, "b")->id), ==, "b");
        g_assert_cmpstr(world_node_name(world_now(w), &stranger), ==, "ab000000000000000000000000000000");
        g_assert_null(world_find_facts(world_now(w), &stranger));
        g_assert_true(world_find_facts(world_now(w), &node_named(w, "b")->id) == facts_of(w, "b"));
}

#define ASSERT_STATE(w, node, text) \
        g_assert_cmpstr(node_state_to_text(world_node_state(world_now(w), &node_named((w), (node))->id)), ==, (text))

static void test_the_state_of_a_node_is_the_worst_that_is_known(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        NodeLife lives[2] = { { .node = node_named(w, "a")->id }, { .node = node_named(w, "b")->id } };
        w->world.lives = lives;
        w->world.n_lives = ELEMENTS(lives);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "b");
        vm_of(w, "bert", "training", 1);
        ASSERT_STATE(w, "b", "online");
        node_named(w, "b")->drain = DRAIN_FLAPPING;
        ASSERT_STATE(w, "b", "drained");
        runs(w, "bert", "b", "0");
        ASSERT_STATE(w, "b", "draining");
        vm_named(w, "bert")->assignment.node = node_named(w, "a")->id;
        ASSERT_STATE(w, "b", "drained");
        forget_facts(w, "b");
        ASSERT_STATE(w, "b", "joining");
        lives[1].silent = true;
        ASSERT_STATE(w, "b", "silent");
        node_named(w, "b")->lost = true;
        ASSERT_STATE(w, "b", "lost");
        w->world.local = node_named(w, "b")->id;
        w->world.removed = true;
        ASSERT_STATE(w, "b", "removed");
        ASSERT_STATE(w, "a", "online");
}

static void test_an_empty_world_has_no_gpus(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(0);
        _cleanup_(gpu_views_clear) GpuViews views = list(w);
        g_assert_cmpuint(views.n, ==, 0);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/world/" #name, test_##name)
        TEST(a_gpu_that_only_facts_know_is_present);
        TEST(pool_vm_and_quarantine_are_joined);
        TEST(what_the_registry_knows_and_nobody_sees_is_absent);
        TEST(another_card_in_the_slot_is_another_gpu);
        TEST(a_serial_that_one_side_lacks_is_no_other_card);
        TEST(cards_that_changed_places_are_two_others_and_the_old_ones_absent);
        TEST(a_bus_that_was_renumbered_changes_no_card);
        TEST(a_group_in_use_is_not_free);
        TEST(our_own_vm_is_no_blocker);
        TEST(gpus_are_in_the_order_of_node_and_address);
        TEST(nodes_have_names);
        TEST(the_state_of_a_node_is_the_worst_that_is_known);
        TEST(an_empty_world_has_no_gpus);
#undef TEST
        return g_test_run();
}
