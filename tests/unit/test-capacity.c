/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM needs beside GPUs, against what a host tells of itself. */

#include <glib.h>

#include "core/capacity.h"
#include "util/array.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static VmNeeds memory_of(uint64_t bytes) {
        return (VmNeeds) { .memory_bytes = bytes };
}

static VmNeeds hugepages_of(uint64_t bytes, uint64_t size_bytes) {
        return (VmNeeds) { .memory_bytes = bytes, .hugepages = true, .hugepage_size_bytes = size_bytes };
}

/* 64 GiB, of them 16 GiB in pages of 2 MiB and 32 GiB in pages of 1 GiB. */
static NodeFacts host_with(Hugepages pages[static 2]) {
        pages[0] = (Hugepages) { .size_bytes = 2 * MIB, .total = 8192 };
        pages[1] = (Hugepages) { .size_bytes = GIB, .total = 32 };
        return (NodeFacts) { .memory_total = 64 * GIB, .hugepages = pages, .n_hugepages = 2,
                             .hugepage_default_bytes = 2 * MIB };
}

static Capacity taken_by(const VmNeeds *needs, unsigned n) {
        Capacity taken = {};
        for (unsigned i = 0; i < n; i++)
                capacity_add(&taken, needs);
        return taken;
}

static void add_path(VmNeeds *needs, const char *path) {
        g_assert_cmpint(text_list_add(&needs->paths, path), ==, 0);
}

static PathSet set_of(const char *path) {
        PathSet set = {};
        uint32_t more;
        SeenPath seen = { path, PATH_MISSING };
        g_assert_cmpint(path_set_gather(&seen, 1, PATH_MISSING, 1, &set, &more), ==, 0);
        return set;
}

static void test_memory_goes_by_what_the_others_leave_of_the_whole(void) {
        NodeFacts host = { .memory_total = 64 * GIB, .memory_free = 1 * GIB };
        VmNeeds vm = memory_of(16 * GIB), larger = memory_of(16 * GIB + 1);
        Capacity taken = taken_by(&vm, 3);
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, 0);
        g_assert_cmpuint(capacity_judge(&larger, &host, &taken), ==, CAPACITY_MEMORY);
        capacity_add(&taken, &vm);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, CAPACITY_MEMORY);
        capacity_take_off(&taken, &vm);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, 0);
}

static void test_what_is_kept_as_hugepages_is_no_memory_for_others(void) {
        Hugepages pages[2];
        NodeFacts host = host_with(pages);
        VmNeeds fits = memory_of(16 * GIB), larger = memory_of(16 * GIB + 1);
        g_assert_cmpuint(capacity_judge(&fits, &host, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&larger, &host, NULL), ==, CAPACITY_MEMORY);
        /* And who has hugepages takes nothing else. */
        VmNeeds huge = hugepages_of(32 * GIB, GIB);
        Capacity taken = taken_by(&huge, 1);
        g_assert_cmpuint(capacity_judge(&fits, &host, &taken), ==, 0);
        host.memory_total = 8 * GIB;
        g_assert_cmpuint(capacity_judge(&fits, &host, NULL), ==, CAPACITY_MEMORY);
}

static void test_hugepages_are_counted_by_size(void) {
        Hugepages pages[2];
        NodeFacts host = host_with(pages);
        VmNeeds large = hugepages_of(32 * GIB, GIB), small = hugepages_of(16 * GIB, 2 * MIB);
        VmNeeds odd = hugepages_of(GIB, 64 * 1024);
        Capacity taken = taken_by(&large, 1);
        g_assert_cmpuint(capacity_judge(&large, &host, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&large, &host, &taken), ==, CAPACITY_HUGEPAGES);
        g_assert_cmpuint(capacity_judge(&small, &host, &taken), ==, 0);
        g_assert_cmpuint(capacity_judge(&odd, &host, NULL), ==, CAPACITY_HUGEPAGES);
        capacity_add(&taken, &small);
        g_assert_cmpuint(capacity_judge(&small, &host, &taken), ==, CAPACITY_HUGEPAGES);
}

static void test_a_size_that_nobody_names_is_the_default_one(void) {
        Hugepages pages[2];
        NodeFacts host = host_with(pages);
        VmNeeds any = hugepages_of(16 * GIB, 0), small = hugepages_of(MIB, 2 * MIB);
        VmNeeds large = hugepages_of(32 * GIB, GIB), more = hugepages_of(16 * GIB + 1, 0);
        Capacity taken = taken_by(&any, 1);
        g_assert_cmpuint(capacity_judge(&any, &host, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&more, &host, NULL), ==, CAPACITY_HUGEPAGES);
        g_assert_cmpuint(capacity_judge(&small, &host, &taken), ==, CAPACITY_HUGEPAGES);
        g_assert_cmpuint(capacity_judge(&large, &host, &taken), ==, 0);
        /* Not told: any that would do. */
        host.hugepage_default_bytes = 0;
        g_assert_cmpuint(capacity_judge(&more, &host, NULL), ==, 0);
}

static void test_what_a_host_does_not_tell_is_taken_to_be_there(void) {
        NodeFacts blank = {};
        VmNeeds vm = memory_of(UINT64_MAX), huge = hugepages_of(UINT64_MAX, 4), nothing = {};
        char model[] = "EPYC-Genoa", vendor[] = "AMD";
        add_path(&vm, "/images/a");
        vm.cpu_model = model;
        vm.cpu_vendor = vendor;
        g_assert_cmpuint(capacity_judge(&vm, &blank, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&huge, &blank, NULL), ==, 0);
        g_assert_cmpuint(capacity_judge(&vm, NULL, NULL), ==, 0);
        NodeFacts small = { .memory_total = 1 };
        g_assert_cmpuint(capacity_judge(&nothing, &small, NULL), ==, 0);
        text_list_clear(&vm.paths);
}

static void test_a_named_cpu_must_be_one_that_the_host_gives(void) {
        char genoa[] = "EPYC-Genoa", rome[] = "EPYC-Rome", amd[] = "AMD", intel[] = "Intel";
        NodeFacts host = { .cpu_vendor = amd };
        VmNeeds by_model = { .cpu_model = genoa }, by_vendor = { .cpu_vendor = intel }, any = { .host_cpu = true };
        g_assert_cmpuint(capacity_judge(&by_model, &host, NULL), ==, 0);
        g_assert_cmpint(text_list_add(&host.cpu_models, rome), ==, 0);
        g_assert_cmpuint(capacity_judge(&by_model, &host, NULL), ==, CAPACITY_CPU);
        g_assert_cmpuint(capacity_judge(&by_vendor, &host, NULL), ==, CAPACITY_CPU);
        g_assert_cmpuint(capacity_judge(&any, &host, NULL), ==, 0);
        g_assert_cmpint(text_list_add(&host.cpu_models, genoa), ==, 0);
        g_assert_cmpuint(capacity_judge(&by_model, &host, NULL), ==, 0);
        text_list_clear(&host.cpu_models);
}

static void test_a_path_that_is_missing_or_hangs_is_named(void) {
        _cleanup_(path_set_clear) PathSet missing = set_of("/images/b"), hanging = set_of("/shared");
        NodeFacts host = { .missing_paths = missing };
        VmNeeds vm = {}, none = {};
        bool hangs = true;
        add_path(&vm, "/images/a");
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, 0);
        add_path(&vm, "/images/b");
        add_path(&vm, "/shared/c");
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, CAPACITY_STORAGE);
        const char *path = capacity_next_lost_path(&vm, &host, NULL, &hangs);
        g_assert_cmpstr(path, ==, "/images/b");
        g_assert_false(hangs);
        g_assert_null(capacity_next_lost_path(&vm, &host, path, &hangs));
        host.hanging_paths = hanging;
        path = capacity_next_lost_path(&vm, &host, path, &hangs);
        g_assert_cmpstr(path, ==, "/shared/c");
        g_assert_true(hangs);
        g_assert_null(capacity_next_lost_path(&vm, &host, path, &hangs));
        host.missing_paths = (PathSet) {};
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, CAPACITY_STORAGE);
        g_assert_cmpuint(capacity_judge(&none, &host, NULL), ==, 0);
        text_list_clear(&vm.paths);
}

static void test_all_that_is_lacking_is_told_at_once(void) {
        _cleanup_(path_set_clear) PathSet missing = set_of("/a");
        char model[] = "486", other[] = "Nehalem";
        NodeFacts host = { .memory_total = GIB, .missing_paths = missing };
        VmNeeds vm = memory_of(2 * GIB);
        vm.cpu_model = model;
        add_path(&vm, "/a");
        g_assert_cmpint(text_list_add(&host.cpu_models, other), ==, 0);
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, CAPACITY_MEMORY | CAPACITY_CPU | CAPACITY_STORAGE);
        text_list_clear(&host.cpu_models);
        text_list_clear(&vm.paths);
}

static void test_the_room_is_told_in_the_kind_that_is_needed(void) {
        Hugepages pages[2];
        NodeFacts host = host_with(pages);
        VmNeeds vm = memory_of(3 * GIB), huge = hugepages_of(5 * GIB, GIB), odd = hugepages_of(1, 4096);
        Capacity taken = taken_by(&vm, 2);
        capacity_add(&taken, &huge);
        CapacityRoom room = capacity_room(&vm, &host, &taken);
        g_assert_cmpuint(room.page_size_bytes, ==, 0);
        g_assert_cmpuint(room.has_bytes, ==, 16 * GIB);
        g_assert_cmpuint(room.taken_bytes, ==, 6 * GIB);
        room = capacity_room(&huge, &host, &taken);
        g_assert_cmpuint(room.page_size_bytes, ==, GIB);
        g_assert_cmpuint(room.has_bytes, ==, 32 * GIB);
        g_assert_cmpuint(room.taken_bytes, ==, 5 * GIB);
        g_assert_cmpuint(capacity_room(&odd, &host, &taken).has_bytes, ==, 0);
}

/* Two nodes of 64 GiB each, of the first one 32 in pages of 1 GiB. */
static void test_a_vm_that_is_bound_to_numa_nodes_has_their_memory_only(void) {
        Hugepages pages = { .size_bytes = GIB, .total = 32 };
        NumaMemory rows[] = { { 0, 0, 64 * GIB }, { 0, GIB, 32 * GIB }, { 1, 0, 64 * GIB }, { 1, GIB, 0 } };
        NodeFacts host = { .memory_total = 128 * GIB, .hugepages = &pages, .n_hugepages = 1,
                           .numa_memory = rows, .n_numa_memory = ELEMENTS(rows) };
        VmNeeds vm = memory_of(48 * GIB), huge = hugepages_of(8 * GIB, GIB);
        Capacity taken = {};
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, 0);
        vm.numa_nodes = 1;
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, CAPACITY_MEMORY);
        CapacityRoom room = capacity_room(&vm, &host, NULL);
        g_assert_cmpuint(room.numa_nodes, ==, 1);
        g_assert_cmpuint(room.has_bytes, ==, 32 * GIB);
        vm.numa_nodes = 2;
        g_assert_cmpuint(capacity_judge(&vm, &host, NULL), ==, 0);
        /* Who is bound there takes it from that node; who is free may go elsewhere. */
        capacity_add(&taken, &vm);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, CAPACITY_MEMORY);
        capacity_take_off(&taken, &vm);
        VmNeeds beside = memory_of(20 * GIB), free_one = memory_of(40 * GIB);
        beside.numa_nodes = 1;
        capacity_add(&taken, &beside);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, 0);
        capacity_take_off(&taken, &beside);
        capacity_add(&taken, &free_one);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, 0);
        capacity_add(&taken, &free_one);
        g_assert_cmpuint(capacity_judge(&vm, &host, &taken), ==, CAPACITY_MEMORY);
        g_assert_cmpuint(capacity_room(&vm, &host, &taken).numa_nodes, ==, 0);

        huge.numa_nodes = 2;
        g_assert_cmpuint(capacity_judge(&huge, &host, NULL), ==, CAPACITY_HUGEPAGES);
        huge.numa_nodes = 3;
        g_assert_cmpuint(capacity_judge(&huge, &host, NULL), ==, 0);
        /* Nodes that are not told of, and a host that tells of none. */
        huge.numa_nodes = 4;
        g_assert_cmpuint(capacity_judge(&huge, &host, NULL), ==, 0);
        host.n_numa_memory = 0;
        huge.numa_nodes = 2;
        g_assert_cmpuint(capacity_judge(&huge, &host, NULL), ==, 0);
}

/* Whatever comes and goes, and however mad its size: in the end nothing is taken. */
static void test_what_came_goes_without_a_trace(void) {
        GRand *random = g_rand_new_with_seed(11);
        for (unsigned round = 0; round < 300; round++) {
                VmNeeds vms[40];
                Capacity taken = {};
                for (size_t i = 0; i < ELEMENTS(vms); i++) {
                        uint64_t bytes = (uint64_t) g_rand_int(random) << g_rand_int_range(random, 0, 33);
                        uint64_t size = g_rand_boolean(random) ? 0 : UINT64_C(1) << g_rand_int_range(random, 12, 20);
                        vms[i] = g_rand_boolean(random) ? memory_of(bytes) : hugepages_of(bytes, size);
                        vms[i].numa_nodes = (uint64_t) g_rand_int_range(random, 0, 3);
                        capacity_add(&taken, &vms[i]);
                        g_assert_cmpuint(taken.n_kinds, <=, CAPACITY_KINDS_MAX);
                }
                for (size_t i = ELEMENTS(vms); i-- > 0;)
                        capacity_take_off(&taken, &vms[i]);
                g_assert_cmpuint(taken.n_kinds, ==, 0);
        }
        g_rand_free(random);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/capacity/" #name, test_##name)
        TEST(memory_goes_by_what_the_others_leave_of_the_whole);
        TEST(what_is_kept_as_hugepages_is_no_memory_for_others);
        TEST(hugepages_are_counted_by_size);
        TEST(a_size_that_nobody_names_is_the_default_one);
        TEST(what_a_host_does_not_tell_is_taken_to_be_there);
        TEST(a_named_cpu_must_be_one_that_the_host_gives);
        TEST(a_path_that_is_missing_or_hangs_is_named);
        TEST(all_that_is_lacking_is_told_at_once);
        TEST(the_room_is_told_in_the_kind_that_is_needed);
        TEST(a_vm_that_is_bound_to_numa_nodes_has_their_memory_only);
        TEST(what_came_goes_without_a_trace);
        return g_test_run();
}
