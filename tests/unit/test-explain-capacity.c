/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is said of a node that has not what a VM needs beside GPUs: what counts of its memory, and which files. */

#include <glib.h>

#include "core/placement-internal.h"
#include "world-builder.h"

#define GIB (UINT64_C(1) << 30)

/* Node a with 128 GiB, of them 64 in hugepages of 1 GiB; bert waits, render and another run there. */
static WorldBuilder *crowded_node(void) {
        WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "render", "training", 1)->needs.memory_bytes = 40 * GIB;
        Vm *pages = vm_of(w, "pages", "training", 1);
        pages->needs.memory_bytes = 48 * GIB;
        pages->needs.hugepages = true;
        runs(w, "render", "a", "0");
        runs(w, "pages", "a", "1");
        NodeFacts *facts = facts_of(w, "a");
        facts->memory_total = 128 * GIB;
        free(facts->hugepages);
        facts->hugepages = g_new0(Hugepages, 1);
        facts->hugepages[0] = (Hugepages) { .size_bytes = GIB, .total = 64 };
        facts->n_hugepages = 1;
        return w;
}

static void expect(WorldBuilder *w, Hindrance hindrance, const char *sentence, const char *remedy) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        Request request = { .inventory = inventory, .vm = vm_named(w, "bert") };
        size_t node = NOWHERE;
        for (size_t i = 0; i < inventory->nodes.n; i++)
                if (text_equal(inventory->nodes.items[i].record->name, "a"))
                        node = i;
        PlacementReason reason = {};
        g_assert_cmpint(explain_need(&request, hindrance, node, &reason), ==, 0);
        g_assert_cmpstr(reason.sentence, ==, sentence);
        g_assert_cmpstr(reason.remedy, ==, remedy);
        free(reason.sentence);
        free(reason.remedy);
}

static void test_memory_is_told_without_what_is_kept_as_hugepages(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = crowded_node();
        vm_named(w, "bert")->needs.memory_bytes = 32 * GIB;
        expect(w, HINDRANCE_MEMORY, "it has 64 GiB of memory, the VMs there need 40 GiB of it and bert needs 32 GiB",
               "stop a VM there, or give bert less memory (gpupoolctl vm update bert FILE)");
        vm_named(w, "bert")->needs.memory_bytes = 96 * GIB;
        expect(w, HINDRANCE_MEMORY, "it has 64 GiB of memory and bert needs 96 GiB",
               "give bert less memory (gpupoolctl vm update bert FILE), or a more of it");
}

static void test_hugepages_are_told_by_their_size(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = crowded_node();
        VmNeeds *needs = &vm_named(w, "bert")->needs;
        needs->hugepages = true;
        needs->memory_bytes = 32 * GIB;
        expect(w, HINDRANCE_HUGEPAGES, "it has 64 GiB of hugepages of 1 GiB, the VMs there need 48 GiB of it and bert "
               "needs 32 GiB", "stop a VM there, or give bert less memory (gpupoolctl vm update bert FILE)");
        needs->hugepage_size_bytes = 2 << 20;
        expect(w, HINDRANCE_HUGEPAGES, "it has 0 GiB of hugepages of 2 MiB and bert needs 32 GiB",
               "give bert less memory (gpupoolctl vm update bert FILE), or a more of it");
}

static void test_numa_nodes_are_told_where_they_are_what_is_short(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = crowded_node();
        NodeFacts *facts = facts_of(w, "a");
        VmNeeds *needs = &vm_named(w, "bert")->needs;
        needs->memory_bytes = 20 * GIB;
        needs->numa_nodes = 2;
        facts->numa_memory = g_new0(NumaMemory, 2);
        facts->numa_memory[0] = (NumaMemory) { 0, 0, 112 * GIB };
        facts->numa_memory[1] = (NumaMemory) { 1, 0, 16 * GIB };
        facts->n_numa_memory = 2;
        expect(w, HINDRANCE_MEMORY, "it has 16 GiB of memory on the NUMA nodes of its XML and bert needs 20 GiB",
               "give bert less memory (gpupoolctl vm update bert FILE), or a more of it");
}

static void test_only_the_files_that_are_not_there_are_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = crowded_node();
        static const char *const paths[] = { "/images/a", "/nfs/a", "/nfs/b", "/nfs/c", "/nfs/d", "/srv/a" };
        SeenPath missing = { "/srv/a", PATH_MISSING }, hanging = { "/nfs", PATH_HANGING };
        uint32_t more;
        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
                g_assert_cmpint(text_list_add(&vm_named(w, "bert")->needs.paths, paths[i]), ==, 0);
        NodeFacts *facts = facts_of(w, "a");
        g_assert_cmpint(path_set_gather(&missing, 1, PATH_MISSING, 1, &facts->missing_paths, &more), ==, 0);
        expect(w, HINDRANCE_STORAGE, "it has not /srv/a",
               "give a the storage that the other nodes see");
        g_assert_cmpint(path_set_gather(&hanging, 1, PATH_HANGING, 1, &facts->hanging_paths, &more), ==, 0);
        expect(w, HINDRANCE_STORAGE, "it has not /srv/a, and the storage of /nfs/a, /nfs/b, /nfs/c and 1 more does not "
               "answer there", "see on a what serves it (findmnt)");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/explain-capacity/" #name, test_##name)
        TEST(memory_is_told_without_what_is_kept_as_hugepages);
        TEST(hugepages_are_told_by_their_size);
        TEST(numa_nodes_are_told_where_they_are_what_is_short);
        TEST(only_the_files_that_are_not_there_are_named);
        return g_test_run();
}
