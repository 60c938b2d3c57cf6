/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/names.h"
#include "core/placement-notes.h"
#include "world-builder.h"

static PlacementNotes notes_of(WorldBuilder *w, const char *vm, size_t most) {
        _cleanup_(placement_clear) Placement placement = {};
        PlacementNotes notes = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, vm), &placement), >=, 0);
        g_assert_cmpint(placement_notes_make(world_now(w), vm_named(w, vm), &placement, most, &notes), ==, 0);
        return notes;
}

static size_t size_of(const PlacementNotes *notes) {
        size_t size = 0;
        ARRAY_EACH(note, notes)
                size += placement_note_size(note->node, note->why);
        return size;
}

/* What an assignment leaves of the decision. */
static void remember(WorldBuilder *w, const char *name, PlacementNotes *notes) {
        Vm *vm = vm_named(w, name);
        vm_notes_clear(vm);
        vm->notes = notes->items;
        vm->n_notes = notes->n;
}

/* One GPU on each of the last two of so many nodes. */
static WorldBuilder *large_world(size_t n) {
        WorldBuilder *w = world_of(n);
        g_autofree char *first = g_strdup_printf("n%zu", n - 2), *last = g_strdup_printf("n%zu", n - 1);
        g_autofree char *both = g_strdup_printf("%s %s", first, last);
        with_gpus(w, first, 1);
        with_gpus(w, last, 1);
        pool_of(w, "training", both);
        vm_of(w, "bert", "training", 1);
        return w;
}

static void test_the_chosen_node_is_noted_however_many_there_are(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = large_world(200);
        _cleanup_(placement_notes_clear) PlacementNotes notes = notes_of(w, "bert", NOTES_SIZE_MAX);
        g_assert_cmpuint(notes.n, ==, NOTES_MAX);
        g_assert_cmpstr(notes.items[0].node, ==, "n198");
        g_assert_true(notes.items[0].chosen);
        g_assert_cmpstr(notes.items[0].why, ==, "1 GPU of training; before n199: first by name");
        g_assert_cmpstr(notes.items[1].node, ==, "n199");
        g_assert_false(notes.items[1].chosen);
}

static void test_where_it_ran_last_is_found_again_among_many(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = large_world(200);
        prefers(w, "bert", "n199");
        PlacementNotes notes = notes_of(w, "bert", NOTES_SIZE_MAX);
        remember(w, "bert", &notes);
        text_list_clear(&vm_named(w, "bert")->preferred_nodes);

        _cleanup_(placement_notes_clear) PlacementNotes again = notes_of(w, "bert", NOTES_SIZE_MAX);
        g_assert_cmpstr(again.items[0].node, ==, "n199");
        g_assert_cmpstr(again.items[0].why, ==, "1 GPU of training; before n198: it ran there last");
}

static void test_every_reason_is_kept_with_what_would_change_it(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 1);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2);
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        facts_of(w, "a")->guard_connected = false;
        _cleanup_(placement_notes_clear) PlacementNotes notes = notes_of(w, "bert", NOTES_SIZE_MAX);
        g_assert_cmpuint(notes.n, ==, 2);
        g_assert_cmpstr(notes.items[0].node, ==, "b");
        g_assert_cmpstr(notes.items[1].node, ==, "a");
        g_assert_cmpstr(notes.items[1].why, ==,
                        "it is drained: resume it (gpupoolctl node resume a); the guard does not answer, and without "
                        "it no VM is started: see on a: systemctl status gpupool-guard; 1 usable GPU of training in "
                        "all: add GPUs of a (gpupoolctl pool add training GPU)");
}

static void test_who_is_named_or_nearest_comes_before_the_others(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(6);
        for (const char *node = "bcde"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 1);
        pool_of(w, "training", "b c d e");
        vm_of(w, "bert", "training", 1);
        prefers(w, "bert", "f");                /* which has none of the pool */
        facts_of(w, "b")->guard_connected = false;
        facts_of(w, "b")->hypervisor = HYPERVISOR_HUNG;
        facts_of(w, "c")->guard_connected = false;
        ran_on(w, "bert", "e");
        _cleanup_(placement_notes_clear) PlacementNotes notes = notes_of(w, "bert", NOTES_SIZE_MAX);
        g_autoptr(GString) order = g_string_new(NULL);
        ARRAY_EACH(note, &notes)
                g_string_append(order, note->node);
        g_assert_cmpstr(order->str, ==, "efdcba");
}

static void test_the_notes_of_a_decision_are_bounded(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(100);
        GString *all = g_string_new(NULL);
        ARRAY_EACH(node, &w->registry->nodes) {
                with_gpus(w, node->name, 1);
                node->drain = DRAIN_BY_HAND;
                facts_of(w, node->name)->guard_connected = false;
                g_string_append_printf(all, "%s%s", all->len > 0 ? " " : "", node->name);
        }
        pool_of(w, "training", all->str);
        g_string_free(all, TRUE);
        vm_of(w, "bert", "training", 2);
        _cleanup_(placement_notes_clear) PlacementNotes notes = notes_of(w, "bert", NOTES_SIZE_MAX);
        g_assert_cmpuint(size_of(&notes), <=, NOTES_SIZE_MAX);
        g_assert_cmpuint(size_of(&notes), >, NOTES_SIZE_MAX / 2);
        g_assert_cmpuint(notes.n, <, NOTES_MAX);
}

static void test_without_room_the_chosen_node_is_kept(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = large_world(80);
        size_t bare = placement_note_size("n78", "");
        _cleanup_(placement_notes_clear) PlacementNotes little = notes_of(w, "bert", bare + 5);
        g_assert_cmpuint(little.n, ==, 1);
        g_assert_cmpstr(little.items[0].node, ==, "n78");
        g_assert_cmpstr(little.items[0].why, ==, "1 GPU");
        _cleanup_(placement_notes_clear) PlacementNotes none = notes_of(w, "bert", 0);
        g_assert_cmpuint(none.n, ==, 1);
        g_assert_true(none.items[0].chosen);
        g_assert_cmpstr(none.items[0].why, ==, "");
}

static void test_a_sentence_that_nobody_may_be_shown_keeps_no_vm_from_its_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = large_world(80);
        _cleanup_(placement_clear) Placement placement = {};
        _cleanup_(placement_notes_clear) PlacementNotes notes = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, "bert"), &placement), ==, PLACEMENT_FOUND);
        g_assert_cmpint(text_set(&placement.answers[0].reasons[0].sentence, "held by \x1b[2J"), ==, 0);
        g_assert_cmpint(placement_notes_make(world_now(w), vm_named(w, "bert"), &placement, NOTES_SIZE_MAX, &notes),
                        ==, 0);
        ARRAY_EACH(note, &notes)
                g_assert_true(text_is_printable(note->why));
        g_assert_cmpstr(notes.items[2].node, ==, "a");
}

static void test_each_vm_has_room_for_its_notes(void) {
        Registry registry = {};
        g_assert_cmpuint(placement_notes_room(&registry), ==, NOTES_SIZE_MAX);
        registry.vms.n = NOTES_TOTAL_MAX / NOTES_SIZE_MAX;
        g_assert_cmpuint(placement_notes_room(&registry), ==, NOTES_SIZE_MAX);
        registry.vms.n = VMS_MAX;
        g_assert_cmpuint(placement_notes_room(&registry), ==, NOTES_SIZE_LEAST);
        g_assert_cmpuint(placement_notes_room(&registry) * VMS_MAX, <=, NOTES_TOTAL_MAX);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/placement/notes/" #name, test_##name)
        TEST(the_chosen_node_is_noted_however_many_there_are);
        TEST(where_it_ran_last_is_found_again_among_many);
        TEST(every_reason_is_kept_with_what_would_change_it);
        TEST(who_is_named_or_nearest_comes_before_the_others);
        TEST(the_notes_of_a_decision_are_bounded);
        TEST(without_room_the_chosen_node_is_kept);
        TEST(a_sentence_that_nobody_may_be_shown_keeps_no_vm_from_its_place);
        TEST(each_vm_has_room_for_its_notes);
#undef TEST
        return g_test_run();
}
