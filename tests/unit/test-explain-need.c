/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is said of a node that lacks what a VM needs beside free GPUs. */

#include <glib.h>

#include "core/placement-internal.h"
#include "world-builder.h"

#define GIB (UINT64_C(1) << 30)

/* "sentence: remedy" about the first node. */
static char *said(WorldBuilder *w, const char *vm, Hindrance hindrance) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        Request request = {
                .inventory = inventory,
                .vm = vm_named(w, vm),
                .pool = inventory->pools.items + inventory_find_pool(inventory, "training"),
                .models = inventory_models_of(inventory, vm_named(w, vm)),
        };
        PlacementReason reason = {};
        g_assert_cmpint(explain_need(&request, hindrance, 0, &reason), ==, 0);
        char *text = g_strdup_printf("%s: %s", reason.sentence, reason.remedy);
        free(reason.sentence);
        free(reason.remedy);
        return text;
}

#define ASSERT_SAID(w, vm, hindrance, text)                                     \
        do {                                                                    \
                g_autofree char *_said = said((w), (vm), (hindrance));          \
                g_assert_cmpstr(_said, ==, (text));                             \
        } while (0)

/* Node a with 4 GPUs and 64 GiB; bert runs there with 1 of them and 48 GiB; huge needs 2 and 32 GiB. */
static WorldBuilder *world_of_a_host(void) {
        WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1)->needs.memory_bytes = 48 * GIB;
        vm_of(w, "huge", "training", 2)->needs.memory_bytes = 32 * GIB;
        runs(w, "bert", "a", "0");
        facts_of(w, "a")->memory_total = 64 * GIB;
        return w;
}

static void test_memory_that_others_need_is_told_from_memory_that_is_not_there(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of_a_host();
        ASSERT_SAID(w, "huge", HINDRANCE_MEMORY,
                    "it has 64 GiB of memory, the VMs there need 48 GiB of it and huge needs 32 GiB: stop a VM there, "
                    "or give huge less memory (gpupoolctl vm update huge FILE)");
        vm_named(w, "huge")->needs.memory_bytes = 64 * GIB + (UINT64_C(1) << 20);
        ASSERT_SAID(w, "huge", HINDRANCE_MEMORY,
                    "it has 64 GiB of memory and huge needs 65537 MiB: give huge less memory (gpupoolctl vm update "
                    "huge FILE), or a more of it");
}

static void test_hugepages_are_counted_by_their_size(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of_a_host();
        NodeFacts *facts = facts_of(w, "a");
        Hugepages pages[] = { { .size_bytes = 2 << 20, .total = 1024 }, { .size_bytes = GIB, .total = 40 } };
        Hugepages *kept = facts->hugepages;
        size_t n_kept = facts->n_hugepages;
        facts->hugepages = pages;
        facts->n_hugepages = ELEMENTS(pages);
        VmNeeds *huge = &vm_named(w, "huge")->needs, *bert = &vm_named(w, "bert")->needs;
        huge->hugepages = true;
        huge->hugepage_size_bytes = GIB;
        bert->memory_bytes = 16 * GIB;
        ASSERT_SAID(w, "huge", HINDRANCE_HUGEPAGES,     /* bert has ordinary memory */
                    "it has 40 GiB of hugepages of 1 GiB and huge needs 32 GiB: stop a VM there, or give huge less "
                    "memory (gpupoolctl vm update huge FILE)");
        bert->hugepages = true;
        bert->hugepage_size_bytes = GIB;
        ASSERT_SAID(w, "huge", HINDRANCE_HUGEPAGES,
                    "it has 40 GiB of hugepages of 1 GiB, the VMs there need 16 GiB of it and huge needs 32 GiB: stop "
                    "a VM there, or give huge less memory (gpupoolctl vm update huge FILE)");
        huge->hugepage_size_bytes = 2 << 20;
        ASSERT_SAID(w, "huge", HINDRANCE_HUGEPAGES,
                    "it has 2 GiB of hugepages of 2 MiB and huge needs 32 GiB: give huge less memory (gpupoolctl vm "
                    "update huge FILE), or a more of it");
        facts->hugepages = kept;
        facts->n_hugepages = n_kept;
}

static void test_the_cpu_that_is_there_is_named_beside_the_one_that_is_asked_for(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of_a_host();
        g_assert_cmpint(text_set(&facts_of(w, "a")->cpu_model, "Intel Xeon 6448Y"), ==, 0);
        g_assert_cmpint(text_set(&vm_named(w, "huge")->needs.cpu_model, "EPYC-Genoa"), ==, 0);
        ASSERT_SAID(w, "huge", HINDRANCE_CPU,
                    "its CPU is Intel Xeon 6448Y and the XML of huge asks for EPYC-Genoa: choose a node that has it, "
                    "or change the <cpu> of huge (gpupoolctl vm update huge FILE)");
        g_assert_cmpint(text_set(&vm_named(w, "huge")->needs.cpu_vendor, "AMD"), ==, 0);
        g_autofree char *both = said(w, "huge", HINDRANCE_CPU);
        g_assert_nonnull(strstr(both, "asks for AMD EPYC-Genoa:"));
}

static void test_gpus_of_the_model_are_counted_among_the_usable_ones(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of_a_host();
        const GpuIdentity *gpu = &gpu_of(w, "a", 0)->identity;
        g_autofree char *model = g_strdup_printf("%04x:%04x", gpu->vendor, gpu->device);
        g_assert_cmpint(text_set(&vm_named(w, "huge")->model, "1002:73bf"), ==, 0);
        ASSERT_SAID(w, "huge", HINDRANCE_MODEL,
                    "0 of the 4 usable GPUs of training are 1002:73bf and huge needs 2: add GPUs of this model "
                    "(gpupoolctl pool add training GPU), or ask for another one (gpupoolctl vm requirement huge "
                    "--model)");
        g_assert_cmpint(text_set(&vm_named(w, "huge")->model, model), ==, 0);
        quarantined(w, "a", 1);
        g_autofree char *text = said(w, "huge", HINDRANCE_MODEL);
        g_assert_true(g_str_has_prefix(text, "3 of the 3 usable GPUs of training are "));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/explain-need/" #name, test_##name)
        TEST(memory_that_others_need_is_told_from_memory_that_is_not_there);
        TEST(hugepages_are_counted_by_their_size);
        TEST(the_cpu_that_is_there_is_named_beside_the_one_that_is_asked_for);
        TEST(gpus_of_the_model_are_counted_among_the_usable_ones);
        return g_test_run();
}
