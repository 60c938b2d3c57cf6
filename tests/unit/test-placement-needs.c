/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM needs beside GPUs, and which of them it takes: where it goes then, and what is said of the other nodes. */

#include <glib.h>

#include "core/placement.h"
#include "placement-words.h"
#include "world-builder.h"

/* "…" of what the VM waits for, without its name. */
static char *summary_of(WorldBuilder *w, const char *vm) {
        Placement placement = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, vm), &placement), ==, PLACEMENT_NO_ROOM);
        char *text = g_strdup(placement.summary);
        placement_clear(&placement);
        return text;
}

/* a and b with 4 GPUs and 64 GiB each; bert needs 2 and 32 GiB, render runs on a with 1 and 40 GiB. */
static WorldBuilder *two_hosts(void) {
        WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 4);
        with_memory(w, "a", 64);
        with_memory(w, "b", 64);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2);
        needs_memory(w, "bert", 32);
        vm_of(w, "render", "training", 1);
        needs_memory(w, "render", 40);
        runs(w, "render", "a", "0");
        return w;
}

static void test_a_node_takes_no_more_memory_than_it_has(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        ASSERT_PLACE(w, "bert", "b: 41 42");
        ASSERT_REASONS(w, "bert", "a", "memory: it has 64 GiB of memory, the VMs there need 40 GiB of it and bert "
                       "needs 32 GiB");
        needs_memory(w, "bert", 24);
        ASSERT_PLACE(w, "bert", "a: 42 43");    /* pack: the fullest that has it */
        needs_memory(w, "bert", 65);
        ASSERT_REASONS(w, "bert", "b", "memory: it has 64 GiB of memory and bert needs 65 GiB");
        ASSERT_PLACE(w, "bert", "memory");
        facts_of(w, "b")->memory_total = 0;     /* it does not tell */
        ASSERT_PLACE(w, "bert", "b: 41 42");
}

static void test_a_vm_is_not_in_its_own_way(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        needs_memory(w, "render", 64);
        ASSERT_PLACE(w, "render", "a: 41");
}

static void test_memory_is_given_to_vms_of_all_pools(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        with_memory(w, "a", 64);
        pool_of(w, "training", "a:0");
        pool_of(w, "other", "a:1");
        vm_of(w, "bert", "training", 1);
        needs_memory(w, "bert", 32);
        vm_of(w, "render", "other", 1);
        needs_memory(w, "render", 40);
        ASSERT_PLACE(w, "bert", "a: 41");
        runs(w, "render", "a", "1");
        ASSERT_PLACE(w, "bert", "memory");
}

static void test_hugepages_are_not_memory(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        VmNeeds *needs = &vm_named(w, "bert")->needs;
        needs->hugepages = true;
        needs->hugepage_size_bytes = UINT64_C(1) << 30;
        for (const char *node = "ab"; *node; node++) {
                NodeFacts *facts = facts_of(w, (char[]) { *node, 0 });
                free(facts->hugepages);
                facts->hugepages = g_new0(Hugepages, 1);
                facts->hugepages[0] = (Hugepages) { .size_bytes = UINT64_C(1) << 30, .total = *node == 'a' ? 32 : 31 };
                facts->n_hugepages = 1;
        }
        ASSERT_PLACE(w, "bert", "a: 42 43");    /* render there has none of them */
        ASSERT_REASONS(w, "bert", "b", "hugepages: it has 31 GiB of hugepages of 1 GiB and bert needs 32 GiB");
}

static void test_a_node_without_the_cpu_takes_no_vm(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        g_assert_cmpint(text_set(&vm_named(w, "bert")->needs.cpu_model, "EPYC"), ==, 0);
        ASSERT_PLACE(w, "bert", "b: 41 42");    /* none of them tells */
        g_assert_cmpint(text_list_add(&facts_of(w, "b")->cpu_models, "Nehalem"), ==, 0);
        g_assert_cmpint(text_set(&facts_of(w, "b")->cpu_model, "Intel Xeon"), ==, 0);
        ASSERT_REASONS(w, "bert", "b", "cpu-model: its CPU is Intel Xeon and the XML of bert asks for EPYC");
        g_assert_cmpint(text_list_add(&facts_of(w, "b")->cpu_models, "EPYC"), ==, 0);
        ASSERT_PLACE(w, "bert", "b: 41 42");
}

static void test_a_node_without_a_file_takes_no_vm(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        needs_memory(w, "bert", 1);
        needs_file(w, "bert", "/srv/bert.qcow2");
        lacks_file(w, "a", "/srv");
        ASSERT_PLACE(w, "bert", "b: 41 42");
        ASSERT_REASONS(w, "bert", "a", "storage: it has not /srv/bert.qcow2");
        lacks_file(w, "b", "/srv/bert.qcow2");
        ASSERT_PLACE(w, "bert", "storage");
}

static void test_only_gpus_of_the_model_are_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        of_model(w, "a", 0, 4, 0x20b0);
        of_model(w, "b", 0, 2, 0x20b0);
        needs_memory(w, "bert", 1);
        needs_model(w, "bert", "10de:2331");
        ASSERT_PLACE(w, "bert", "b: 43 44");
        ASSERT_REASONS(w, "bert", "a", "gpu-model: 0 of the 4 usable GPUs of training are 10de:2331 and bert needs 2");
        needs_model(w, "bert", "10de:20b0");
        ASSERT_PLACE(w, "bert", "a: 42 43");
        needs_model(w, "bert", "10de:*");
        ASSERT_PLACE(w, "bert", "a: 42 43");
        vm_named(w, "bert")->count = 5;         /* whatever the model */
        needs_model(w, "bert", "10de:2331");
        ASSERT_REASONS(w, "bert", "b", "not-enough-gpus: 4 usable GPUs of training in all");
}

static void test_who_has_gpus_of_another_model_is_not_in_the_way(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        of_model(w, "a", 2, 2, 0x20b0);
        pool_of(w, "training", "a");
        vm_of(w, "render", "training", 1);
        runs(w, "render", "a", "0");
        vm_of(w, "other", "training", 1);
        runs(w, "other", "a", "2");
        vm_of(w, "bert", "training", 2);
        needs_model(w, "bert", "10de:20b0");
        ASSERT_REASONS(w, "bert", "a", "gpus-taken: 2 usable of 10de:20b0, 1 of them runs other (priority 0, same as "
                       "bert)");
        g_autofree char *summary = summary_of(w, "bert");
        g_assert_nonnull(strstr(summary, "top other, of the same priority (gpupoolctl vm stop other)"));
        g_assert_null(strstr(summary, "render"));
}

static void test_a_set_with_a_gpu_of_another_model_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        of_model(w, "a", 1, 1, 0x20b0);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        needs_model(w, "bert", "10de:2331");
        ASSERT_PLACE(w, "bert", "a: 43 44");
        vm_of(w, "render", "training", 2);
        runs(w, "render", "a", "2 3");
        g_autofree char *reasons = reasons_of(w, "bert", "a");
        g_assert_true(g_str_has_prefix(reasons, "gpus-taken: 3 usable of 10de:2331, 2 of them run render"));
        vm_named(w, "bert")->count = 3;
        g_autofree char *sets = reasons_of(w, "bert", "a");
        g_assert_true(g_str_has_prefix(sets, "linked-sets: "));
}

static void test_a_set_of_two_models_is_told_from_one_that_is_too_large(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        of_model(w, "a", 1, 1, 0x20b0);
        linked(w, "a", 0, 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        needs_model(w, "bert", "10de:2331");
        g_autofree char *summary = summary_of(w, "bert");
        g_assert_nonnull(strstr(summary, "Ask for any model (gpupoolctl vm requirement bert --model); or, if they may "
                                         "part, say so in the pool's rules (gpupoolctl pool rules training"));
}

static void test_a_node_with_the_model_is_nearer_than_one_that_is_empty(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        of_model(w, "a", 0, 4, 0x20b0);
        vm_of(w, "full", "training", 3);
        runs(w, "full", "a", "1 2 3");
        needs_memory(w, "bert", 1);
        needs_model(w, "bert", "10de:20b0");
        ASSERT_PLACE(w, "bert", "gpus-taken");
}

static void test_what_is_remembered_of_a_room_is_of_the_models_asked_for(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        uint32_t distance, leftover;
        with_gpus(w, "a", 4);
        of_model(w, "a", 2, 2, 0x20b0);
        behind_switch(w, "a", 0, 2, "0000:40:00.0");
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "other", "training", 2);
        needs_model(w, "bert", "10de:2331");
        needs_model(w, "other", "10de:20b0");
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        Models first = inventory_models_of(inventory, vm_named(w, "bert"));
        Models other = inventory_models_of(inventory, vm_named(w, "other"));
        g_assert_true(choice_measure(inventory, 0, first, 2, &distance, &leftover));
        g_assert_cmpuint(distance, ==, 0);
        g_assert_true(choice_measure(inventory, 0, other, 2, &distance, &leftover));
        g_assert_cmpuint(distance, >, 0);
        g_assert_false(choice_measure(inventory, 0, other & first, 2, &distance, &leftover));
}

static void test_all_that_a_node_lacks_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = two_hosts();
        Vm *vm = vm_named(w, "bert");
        g_assert_cmpint(text_set(&vm->needs.cpu_vendor, "AMD"), ==, 0);
        g_assert_cmpint(text_set(&facts_of(w, "a")->cpu_vendor, "Intel"), ==, 0);
        needs_file(w, "bert", "/srv/bert.qcow2");
        lacks_file(w, "a", "/srv");
        needs_model(w, "bert", "10de:20b0");
        ASSERT_REASONS(w, "bert", "a", "cpu-model: its CPU is not known and the XML of bert asks for AMD | storage: it "
                       "has not /srv/bert.qcow2 | memory: it has 64 GiB of memory, the VMs there need 40 GiB of it and "
                       "bert needs 32 GiB | gpu-model: 0 of the 4 usable GPUs of training are 10de:20b0 and bert needs "
                       "2");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/placement-needs/" #name, test_##name)
        TEST(a_node_takes_no_more_memory_than_it_has);
        TEST(a_vm_is_not_in_its_own_way);
        TEST(memory_is_given_to_vms_of_all_pools);
        TEST(hugepages_are_not_memory);
        TEST(a_node_without_the_cpu_takes_no_vm);
        TEST(a_node_without_a_file_takes_no_vm);
        TEST(only_gpus_of_the_model_are_given);
        TEST(who_has_gpus_of_another_model_is_not_in_the_way);
        TEST(a_set_with_a_gpu_of_another_model_is_not_given);
        TEST(a_set_of_two_models_is_told_from_one_that_is_too_large);
        TEST(a_node_with_the_model_is_nearer_than_one_that_is_empty);
        TEST(what_is_remembered_of_a_room_is_of_the_models_asked_for);
        TEST(all_that_a_node_lacks_is_told);
        return g_test_run();
}
