/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is laid into gossip comes out of it, and what no node in its senses says does not.
 *
 *      SEED=17 test-facts-codec         one set of random facts
 *      SEEDS=100000 test-facts-codec    so many */

#include <glib.h>
#include <stdio.h>

#include "core/entry.h"
#include "core/facts-codec.h"
#include "core/names.h"
#include "facts.pb-c.h"
#include "gossip-exchange.h"
#include "util/array.h"

#define SEEDS 300U
#define ADDRESS "0000:41:00.0"

static const NodeId self = { { 0xaa, 1 } }, other = { { 0xbb, 2 } };

static void facts_free(NodeFacts *facts) {
        node_facts_clear(facts);
}

static Gossip *gossip_of(const NodeId *node, const NodeId *peer) {
        Gossip *gossip = NULL;
        g_assert_cmpint(gossip_new(&gossip, node, 1), ==, 0);
        g_assert_cmpint(gossip_set_members(gossip, peer, 1), ==, 0);
        return gossip;
}

/* ---- random facts within the limits */

static bool coin(GRand *random) {
        return g_rand_boolean(random);
}

static uint32_t below(GRand *random, uint32_t n) {
        return (uint32_t) g_rand_int_range(random, 0, (gint32) n);
}

static uint64_t draw_u64(GRand *random) {
        return (uint64_t) g_rand_int(random) << 32 | g_rand_int(random);
}

static void draw_text(GRand *random, size_t most, char **ret) {
        static const char *const pieces[] = { "a", "0000:41:00.0", " ", "\xc3\xa4", "/devices", "\xf0\x9f\x96\xa5" };
        g_autoptr(GString) text = g_string_new(NULL);
        for (unsigned n = below(random, 12); n > 0; n--) {
                const char *piece = pieces[below(random, ELEMENTS(pieces))];
                if (text->len + strlen(piece) <= most)
                        g_string_append(text, piece);
        }
        if (text->len > 0)
                g_assert_cmpint(text_set(ret, text->str), ==, 0);
}

static void draw_list(GRand *random, unsigned most, TextList *ret) {
        for (unsigned n = below(random, most + 1); n > 0; n--) {
                g_autofree char *text = g_strdup_printf("item %u", g_rand_int(random));
                g_assert_cmpint(text_list_add(ret, text), ==, 0);
        }
}

static PciAddress draw_address(GRand *random) {
        return (PciAddress) { .domain = below(random, 4) == 0 ? g_rand_int(random) : 0,
                              .bus = (uint8_t) below(random, 256),
                              .device = (uint8_t) below(random, 32),
                              .function = (uint8_t) below(random, 8) };
}

static void draw_rows(GRand *random, GpuFacts *gpu) {
        for (unsigned n = below(random, 6); n > 0; n--) {
                PciFunction function = { .address = draw_address(random), .class = below(random, 0x1000000),
                                         .vendor = (uint16_t) below(random, 65536),
                                         .device = (uint16_t) below(random, 65536), .same_slot = coin(random),
                                         .other_group = coin(random) };
                draw_text(random, FACTS_WORD_MAX, &function.driver);
                draw_text(random, FACTS_TEXT_MAX, &function.description);
                g_assert_cmpint(gpu_facts_add_function(gpu, function), ==, 0);
        }
        for (unsigned n = below(random, 6); n > 0; n--) {
                GpuHolder holder = { .pid = g_rand_int(random), .through_vfio = coin(random) };
                draw_text(random, FACTS_WORD_MAX, &holder.name);
                g_assert_cmpint(gpu_facts_add_holder(gpu, holder), ==, 0);
        }
        for (unsigned i = 0; i < PCI_BARS; i++)
                if (coin(random))
                        gpu->bars[i] = (GpuBar) { draw_u64(random) >> 1, draw_u64(random) >> 1, coin(random),
                                                   coin(random) };
}

static void draw_texts(GRand *random, GpuFacts *gpu) {
        draw_text(random, FACTS_TEXT_MAX, &gpu->sysfs_path);
        draw_text(random, FACTS_TEXT_MAX, &gpu->unreadable);
        draw_text(random, FACTS_TEXT_MAX, &gpu->vendor_name);
        draw_text(random, FACTS_TEXT_MAX, &gpu->device_name);
        draw_text(random, FACTS_WORD_MAX, &gpu->driver);
        draw_text(random, FACTS_WORD_MAX, &gpu->iommu_group_type);
        draw_text(random, FACTS_WORD_MAX, &gpu->link_speed);
        draw_text(random, FACTS_WORD_MAX, &gpu->link_speed_max);
        draw_text(random, FACTS_WORD_MAX, &gpu->parent);
        draw_text(random, FACTS_WORD_MAX, &gpu->switch_address);
        draw_text(random, FACTS_WORD_MAX, &gpu->acs_missing_at);
        draw_text(random, FACTS_WORD_MAX, &gpu->power_state);
        draw_text(random, FACTS_WORD_MAX, &gpu->conventional_at);
        draw_text(random, FACTS_WORD_MAX, &gpu->vbios);
        draw_list(random, 4, &gpu->reserved_regions);
        draw_list(random, 6, &gpu->reset_methods);
        draw_list(random, 4, &gpu->siblings);
        draw_list(random, 4, &gpu->usb_devices);
}

static GpuFacts draw_gpu(GRand *random, PciAddress address) {
        GpuFacts gpu = {
                .identity = { .node = self, .vendor = (uint16_t) below(random, 65536), .device = 0x2331,
                              .subsystem_vendor = (uint16_t) below(random, 65536),
                              .subsystem_device = (uint16_t) below(random, 65536), .address = address },
                .address = address,
                .class = below(random, 0x1000000),
                .iommu_group = (int32_t) below(random, 100) - 1,
                .numa_node = (int32_t) below(random, 4) - 1,
                .link_width = below(random, 33),
                .link_width_max = below(random, 33),
                .reset_methods_known = coin(random),
                .has_reset = coin(random),
                .boot_vga = coin(random),
                .holders_known = coin(random),
                .config = (ConfigSpace) below(random, 3),
                .acs_missing = coin(random),
                .kind = (PciKind) below(random, PCI_KIND_INTEGRATED + 1),
                .interrupts = (Interrupts) below(random, INTERRUPTS_MESSAGES + 1),
                .iommu_address_bits = below(random, 65),
                .vram_bytes = (uint64_t) g_rand_int(random) << below(random, 32),
                .sriov_vfs = below(random, 65536),
                .is_virtual_function = coin(random),
                .mdev_in_use = coin(random),
                .mig_enabled = coin(random),
                .runtime_error = coin(random),
        };
        /* One in four could not be placed. */
        if (below(random, 4) != 0)
                (void) snprintf(gpu.identity.slot, sizeof(gpu.identity.slot), "pci0000:40/%02x.0", below(random, 32));
        if (coin(random))
                (void) snprintf(gpu.identity.serial, sizeof(gpu.identity.serial), "%08x", g_rand_int(random));
        draw_texts(random, &gpu);
        draw_rows(random, &gpu);
        return gpu;
}

static int compare_gpus(const void *a, const void *b) {
        return pci_address_compare(((const GpuFacts *) a)->address, ((const GpuFacts *) b)->address);
}

static void draw_gpus(GRand *random, NodeFacts *facts) {
        unsigned n = below(random, 10);
        facts->gpus = g_malloc0_n(n + 1, sizeof(GpuFacts));
        while (facts->n_gpus < n) {
                PciAddress address = draw_address(random);
                if (node_facts_find_address(facts, address))
                        continue;
                facts->gpus[facts->n_gpus++] = draw_gpu(random, address);
                qsort(facts->gpus, facts->n_gpus, sizeof(GpuFacts), compare_gpus);
        }
}

static PathSet draw_paths(GRand *random) {
        PathSet set = { NULL, below(random, 4) == 0 ? FACTS_PATHS_MAX : below(random, 4) };
        uint64_t hash = 0;
        set.hashes = set.n > 0 ? g_malloc0_n(set.n, sizeof(uint64_t)) : NULL;
        for (size_t i = 0; i < set.n; i++)
                set.hashes[i] = hash += 1 + draw_u64(random) / (2 * FACTS_PATHS_MAX);
        return set;
}

static void draw_capacity(GRand *random, NodeFacts *facts) {
        facts->hugepage_default_bytes = coin(random) ? draw_u64(random) : 0;
        facts->n_numa_memory = coin(random) ? below(random, FACTS_NUMA_MAX + 1) : 0;
        facts->numa_memory = g_malloc0_n(facts->n_numa_memory + 1, sizeof(NumaMemory));
        for (size_t i = 0; i < facts->n_numa_memory; i++)
                facts->numa_memory[i] = (NumaMemory) { (uint32_t) i / 4, i % 4 * 4096, draw_u64(random) };
        draw_text(random, FACTS_WORD_MAX, &facts->cpu_vendor);
        draw_list(random, coin(random) ? FACTS_CPU_MODELS_MAX : 0, &facts->cpu_models);
        facts->missing_paths = draw_paths(random);
        facts->hanging_paths = draw_paths(random);
        facts->untold_paths = coin(random) ? g_rand_int(random) : 0;
}

static NodeFacts draw_facts(GRand *random) {
        NodeFacts facts = {
                .node = self,
                .incarnation = draw_u64(random),
                .address_bits = below(random, 65),
                .iommu_present = coin(random),
                .vfio_present = coin(random),
                .interrupt_remapping = coin(random),
                .interrupt_remapping_known = coin(random),
                .firmware_iommu = (FirmwareIommu) below(random, FIRMWARE_IOMMU_PRESENT + 1),
                .hypervisor = (HypervisorState) below(random, 4),
                .guard_connected = coin(random),
                .watchdog_us = draw_u64(random),
                .registry_stuck = coin(random),
        };
        facts.memory_free = FACTS_MEMORY_STEP * below(random, 10000);
        facts.memory_total = facts.memory_free + below(random, 1 << 30);
        draw_text(random, FACTS_TEXT_MAX, &facts.boot_id);
        draw_text(random, FACTS_TEXT_MAX, &facts.kernel);
        draw_text(random, FACTS_TEXT_MAX, &facts.cpu_model);
        draw_text(random, FACTS_TEXT_MAX, &facts.virtualization);
        draw_list(random, ADDRESSES_MAX, &facts.addresses);
        draw_list(random, FACTS_VERSIONS_MAX, &facts.versions);
        draw_list(random, FACTS_AGENTS_MAX, &facts.missing_agents);
        draw_list(random, FACTS_PARAMETERS_MAX, &facts.boot_parameters);
        facts.n_hugepages = below(random, 4);
        facts.hugepages = g_malloc0_n(facts.n_hugepages + 1, sizeof(Hugepages));
        for (size_t i = 0; i < facts.n_hugepages; i++) {
                uint64_t free_pages = below(random, 1000);
                facts.hugepages[i] = (Hugepages) { UINT64_C(2097152) << (9 * i), free_pages + below(random, 100),
                                                   free_pages };
        }
        draw_capacity(random, &facts);
        draw_gpus(random, &facts);
        return facts;
}

static void assert_comes_back(const Gossip *gossip, const NodeFacts *facts) {
        _cleanup_(facts_free) NodeFacts back = {};
        unsigned skipped = 1;
        g_assert_cmpint(facts_collect(gossip, &facts->node, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 0);
        g_assert_true(node_facts_host_equal(&back, facts));
        g_assert_cmpuint(back.memory_free, ==, facts->memory_free);
        g_assert_cmpuint(back.n_gpus, ==, facts->n_gpus);
        for (size_t i = 0; i < facts->n_gpus; i++)
                g_assert_true(gpu_facts_equal(back.gpus + i, facts->gpus + i));
        g_assert_true(facts_equal(&back, facts));
}

/* One node's facts change again and again; another one follows. */
static void run_facts(uint64_t seed) {
        GRand *random = g_rand_new_with_seed((guint32) seed);
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other), *there = gossip_of(&other, &self);
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_(facts_free) NodeFacts facts = draw_facts(random);
                g_assert_cmpint(facts_publish(here, &facts), ==, 0);
                assert_comes_back(here, &facts);
                while (exchange(there, here).messages > 1)
                        continue;
                assert_comes_back(there, &facts);
                /* The same facts are no change. */
                uint64_t version = gossip_version(here, &self);
                g_assert_cmpint(facts_publish(here, &facts), ==, 0);
                g_assert_cmpuint(gossip_version(here, &self), ==, version);
        }
        g_rand_free(random);
}

static void test_what_is_published_is_collected_whatever_it_is(void) {
        const char *one = g_getenv("SEED"), *many = g_getenv("SEEDS");
        uint64_t first = one ? g_ascii_strtoull(one, NULL, 10) : 1;
        uint64_t last = one ? first : many ? g_ascii_strtoull(many, NULL, 10) : SEEDS;
        for (uint64_t seed = first; seed <= last; seed++) {
                g_test_message("SEED=%" G_GUINT64_FORMAT, seed);
                run_facts(seed);
        }
}

/* ---- what changes what */

static PciAddress address_of(const char *text) {
        PciAddress address = {};
        g_assert_cmpint(pci_address_from_text(text, &address), ==, 0);
        return address;
}

static GpuFacts plain_gpu(const char *address) {
        GpuFacts gpu = { .identity = { .node = self, .vendor = 0x10de, .slot = "pci0000:40/01.0/00.0" },
                         .iommu_group = 4, .class = 0x030200 };
        gpu.address = gpu.identity.address = address_of(address);
        return gpu;
}

static NodeFacts plain_facts(unsigned n_gpus) {
        NodeFacts facts = { .node = self, .memory_total = UINT64_C(1) << 38, .memory_free = UINT64_C(1) << 37 };
        facts.gpus = g_malloc0_n(n_gpus + 1, sizeof(GpuFacts));
        for (; facts.n_gpus < n_gpus; facts.n_gpus++) {
                char text[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text((PciAddress) { .bus = (uint8_t) (0x41 + facts.n_gpus) }, text);
                facts.gpus[facts.n_gpus] = plain_gpu(text);
        }
        return facts;
}

static void test_free_memory_is_told_in_steps(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        uint64_t version = gossip_version(here, &self);
        facts.memory_free += FACTS_MEMORY_STEP - 1;
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpuint(gossip_version(here, &self), ==, version);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_true(facts_equal(&facts, &back));
        facts.memory_free++;
        g_assert_false(facts_equal(&facts, &back));
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpuint(gossip_version(here, &self), ==, version + 1);
}

static void test_a_gpu_that_went_is_taken_back(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(3), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_nonnull(gossip_get(here, &self, "gpu/0000:43:00.0", NULL));
        gpu_facts_clear(&facts.gpus[--facts.n_gpus]);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_null(gossip_get(here, &self, "gpu/0000:43:00.0", NULL));
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.n_gpus, ==, 2);
}

static void test_facts_of_another_node_are_not_published(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&other, &self);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1);
        g_assert_cmpint(facts_publish(here, &facts), ==, -EINVAL);
        facts.node = other;
        g_assert_cmpint(facts_publish(here, &facts), ==, -EINVAL);
        g_assert_null(gossip_get(here, &other, "host", NULL));
}

static void test_a_node_that_is_not_heard_of_has_no_facts(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&other, &self);
        _cleanup_(facts_free) NodeFacts back = {};
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_NONE);
}

static void test_facts_are_whole_only_with_all_gpus(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(2), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        /* As on the way: the GPU is taken back before the host has one less. */
        g_assert_cmpint(gossip_remove(here, "gpu/" ADDRESS), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_PARTIAL);
        g_assert_cmpuint(back.n_gpus, ==, 1);
        node_facts_clear(&back);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
}

/* ---- limits */

static void fill_gpu(GpuFacts *gpu) {
        g_autofree char *word = g_strnfill(FACTS_WORD_MAX + 1, 'w'), *text = g_strnfill(FACTS_TEXT_MAX + 1, 't');
        char **const words[] = { &gpu->driver, &gpu->iommu_group_type, &gpu->link_speed, &gpu->link_speed_max,
                                 &gpu->parent, &gpu->switch_address, &gpu->acs_missing_at, &gpu->power_state,
                                 &gpu->conventional_at, &gpu->vbios };
        char **const texts[] = { &gpu->sysfs_path, &gpu->unreadable, &gpu->vendor_name, &gpu->device_name };
        for (size_t i = 0; i < ELEMENTS(words); i++)
                g_assert_cmpint(text_set(words[i], word), ==, 0);
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                g_assert_cmpint(text_set(texts[i], text), ==, 0);
        for (unsigned i = 0; i < 300; i++) {
                g_assert_cmpint(text_list_add(&gpu->reserved_regions, word), ==, 0);
                g_assert_cmpint(text_list_add(&gpu->reset_methods, word), ==, 0);
                g_assert_cmpint(text_list_add(&gpu->siblings, word), ==, 0);
                g_assert_cmpint(text_list_add(&gpu->usb_devices, word), ==, 0);
                PciFunction function = { .address = { .domain = UINT32_MAX - i, .bus = 255 }, .class = 0xffffff,
                                         .vendor = 0xffff, .device = 0xffff, .same_slot = true };
                GpuHolder holder = { .pid = UINT32_MAX - i, .through_vfio = true };
                g_assert_cmpint(text_set(&function.driver, word), ==, 0);
                g_assert_cmpint(text_set(&function.description, text), ==, 0);
                g_assert_cmpint(text_set(&holder.name, word), ==, 0);
                g_assert_cmpint(gpu_facts_add_function(gpu, function), ==, 0);
                g_assert_cmpint(gpu_facts_add_holder(gpu, holder), ==, 0);
        }
        for (unsigned i = 0; i < PCI_BARS; i++)
                gpu->bars[i] = (GpuBar) { UINT64_MAX / 2, UINT64_MAX / 2, true, true };
}

static void test_the_largest_gpu_is_cut_and_told(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        memset(facts.gpus[0].identity.slot, 's', GPU_SLOT_SIZE - 1);
        memset(facts.gpus[0].identity.serial, 's', GPU_SERIAL_SIZE - 1);
        fill_gpu(&facts.gpus[0]);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        size_t size = 0;
        g_assert_nonnull(gossip_get(here, &self, "gpu/" ADDRESS, &size));
        g_test_message("%zu bytes", size);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 0);
        const GpuFacts *gpu = back.gpus;
        g_assert_cmpuint(strlen(gpu->driver), ==, FACTS_WORD_MAX);
        g_assert_cmpuint(strlen(gpu->sysfs_path), ==, FACTS_TEXT_MAX);
        g_assert_cmpuint(gpu->reserved_regions.n, ==, FACTS_REGIONS_MAX);
        g_assert_cmpuint(gpu->reset_methods.n, ==, FACTS_RESETS_MAX);
        g_assert_cmpuint(gpu->siblings.n, ==, FACTS_SIBLINGS_MAX);
        g_assert_cmpuint(gpu->usb_devices.n, ==, FACTS_BRIEF_USB_MAX);
        g_assert_cmpuint(gpu->n_functions, ==, FACTS_FUNCTIONS_MAX);
        g_assert_null(gpu->functions[0].description);
        g_assert_cmpuint(gpu->n_holders, ==, FACTS_BRIEF_HOLDERS_MAX);
}

static void test_a_list_of_cpus_that_would_be_cut_is_unknown(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(0), back = {};
        g_autofree char *word = g_strnfill(FACTS_WORD_MAX, 'w');
        g_assert_cmpint(text_set(&facts.cpu_vendor, "AMD"), ==, 0);
        for (unsigned i = 0; i < FACTS_CPU_MODELS_MAX; i++)
                g_assert_cmpint(text_list_add(&facts.cpu_models, word), ==, 0);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.cpu_models.n, ==, FACTS_CPU_MODELS_MAX);
        node_facts_clear(&back);
        g_assert_cmpint(text_list_add(&facts.cpu_models, word), ==, 0);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.cpu_models.n, ==, 0);
        g_assert_cmpstr(back.cpu_vendor, ==, "AMD");
}

static void test_paths_over_the_limit_are_counted_and_what_was_found_again_is_taken_back(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(0), back = {};
        facts.missing_paths = (PathSet) { g_malloc0_n(FACTS_PATHS_MAX + 2, sizeof(uint64_t)), FACTS_PATHS_MAX + 2 };
        for (size_t i = 0; i < facts.missing_paths.n; i++)
                facts.missing_paths.hashes[i] = i;
        facts.untold_paths = 3;
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.missing_paths.n, ==, FACTS_PATHS_MAX);
        g_assert_cmpuint(back.untold_paths, ==, 5);
        node_facts_clear(&back);
        path_set_clear(&facts.missing_paths);
        facts.untold_paths = 0;
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_null(gossip_get(here, &self, "storage", NULL));
        g_assert_null(gossip_get(here, &self, "cpu", NULL));
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.missing_paths.n, ==, 0);
}

static void test_a_text_is_made_printable_and_not_cut_inside_a_character(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_autofree char *word = g_strnfill(FACTS_WORD_MAX - 1, 'w');
        g_autofree char *umlaut = g_strconcat(word, "\xc3\xa4", NULL);
        g_assert_cmpint(text_set(&facts.gpus[0].driver, umlaut), ==, 0);
        g_assert_cmpint(text_set(&facts.kernel, "a\nb"), ==, 0);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpstr(back.gpus[0].driver, ==, word);
        g_assert_cmpstr(back.kernel, ==, "a b");
}

static void test_a_full_node_fits(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(0), back = {};
        g_free(facts.gpus);
        facts.gpus = g_malloc0_n(GPUS_PER_NODE_MAX + 1, sizeof(GpuFacts));
        for (unsigned i = 0; i <= GPUS_PER_NODE_MAX; i++) {
                facts.gpus[i] = plain_gpu(ADDRESS);
                facts.gpus[i].address.domain = facts.gpus[i].identity.address.domain = i;
        }
        facts.n_gpus = GPUS_PER_NODE_MAX + 1;
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.n_gpus, ==, GPUS_PER_NODE_MAX);
        g_assert_cmpuint(skipped, ==, 0);
        g_test_message("%zu bytes", gossip_size(here));
}

/* ---- what no node says */

typedef struct Sample {
        Gpupool1__FactsGpu gpu;
        Gpupool1__Gpu identity;
        Gpupool1__FactsFunction functions[2], *function_row[2];
        Gpupool1__FactsHolder holders[2], *holder_row[2];
        Gpupool1__FactsBar bars[2], *bar_row[2];
        uint8_t node[ID_SIZE];
        char *methods[FACTS_RESETS_MAX + 1], *many[FACTS_REGIONS_MAX + 1];
        char word[FACTS_WORD_MAX + 2], text[FACTS_TEXT_MAX + 2];
} Sample;

static char flr[] = "flr", address_a[] = "0000:41:00.1", address_b[] = "0000:41:00.2", address_gpu[] = ADDRESS;
static char slot[] = "pci0000:40/01.0/00.0", nothing[] = "", newline[] = "a\nb", no_address[] = "41:0";

static Sample *make_sample(void) {
        Sample *s = g_new0(Sample, 1);
        gpupool1__facts_gpu__init(&s->gpu);
        gpupool1__gpu__init(&s->identity);
        memcpy(s->node, self.bytes, ID_SIZE);
        s->identity.node = (ProtobufCBinaryData) { ID_SIZE, s->node };
        s->identity.slot = slot;
        s->identity.address = address_gpu;
        s->gpu.gpu = &s->identity;
        for (size_t i = 0; i < 2; i++) {
                gpupool1__facts_function__init(&s->functions[i]);
                gpupool1__facts_holder__init(&s->holders[i]);
                gpupool1__facts_bar__init(&s->bars[i]);
                s->functions[i].address = i ? address_b : address_a;
                s->holders[i].pid = (uint32_t) i;
                s->bars[i].index = (uint32_t) i;
                s->function_row[i] = &s->functions[i];
                s->holder_row[i] = &s->holders[i];
                s->bar_row[i] = &s->bars[i];
        }
        s->gpu.functions = s->function_row;
        s->gpu.holders = s->holder_row;
        s->gpu.bars = s->bar_row;
        s->gpu.n_functions = s->gpu.n_holders = s->gpu.n_bars = 2;
        for (size_t i = 0; i <= FACTS_RESETS_MAX; i++)
                s->methods[i] = flr;
        for (size_t i = 0; i <= FACTS_REGIONS_MAX; i++)
                s->many[i] = flr;
        memset(s->word, 'w', FACTS_WORD_MAX);
        memset(s->text, 't', FACTS_TEXT_MAX);
        s->gpu.reset_methods = s->methods;
        s->gpu.n_reset_methods = FACTS_RESETS_MAX;
        s->gpu.reserved_regions = s->many;
        s->gpu.n_reserved_regions = FACTS_REGIONS_MAX;
        s->gpu.driver = s->word;
        s->gpu.sysfs_path = s->text;
        return s;
}

static bool spoil(Sample *s, unsigned which) {
        switch (which) {
        case 0: s->node[0]++; return true;
        case 1: s->identity.node.len--; return true;
        case 2: s->gpu.gpu = NULL; return true;
        case 3: s->identity.address = address_a; return true;                   /* not that of the key */
        case 4: s->identity.address = no_address; return true;
        case 5: s->identity.vendor = 0x10000; return true;
        case 6: s->identity.slot = newline; return true;
        case 7: s->gpu.class_ = 0x1000000; return true;
        case 8: s->gpu.iommu_group = -2; return true;
        case 9: s->gpu.numa_node = INT32_MIN; return true;
        case 10: s->gpu.sriov_vfs = 0x10000; return true;
        case 11: s->word[FACTS_WORD_MAX] = 'w'; return true;
        case 12: s->text[FACTS_TEXT_MAX] = 't'; return true;
        case 13: s->word[0] = '\x1b'; return true;
        case 14: s->gpu.n_reset_methods++; return true;
        case 15: s->gpu.n_reserved_regions++; return true;
        case 16: s->methods[1] = nothing; return true;
        case 17: s->methods[1] = newline; return true;
        case 18: s->functions[1].address = address_a; return true;              /* twice */
        case 19: s->functions[1].address = no_address; return true;
        case 20: s->functions[0].vendor = 0x10000; return true;
        case 21: s->functions[0].device = 0x10000; return true;
        case 22: s->functions[0].class_ = 0x1000000; return true;
        case 23: s->functions[0].driver = newline; return true;
        case 24: s->functions[1].description = newline; s->functions[1].driver = flr; return true;
        case 25: s->holders[1].pid = 0; return true;                            /* twice */
        case 26: s->holders[0].name = newline; return true;
        case 27: s->bars[1].index = PCI_BARS; return true;
        case 28: s->bars[1].index = 0; return true;                             /* twice */
        case 29: s->bars[0].start = s->bars[0].size = UINT64_MAX / 2 + 1; return true;
        default: return false;
        }
}

static void publish(Gossip *gossip, const char *key, const ProtobufCMessage *message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        protobuf_c_message_pack(message, bytes);
        g_assert_cmpint(gossip_set(gossip, key, bytes, size), <=, GOSSIP_SET_CHANGED);
}

static void test_a_gpu_with_one_fault_is_passed_over_and_the_rest_used(void) {
        unsigned n = 0;
        for (bool more = true; more; n++) {
                _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
                _cleanup_(facts_free) NodeFacts facts = plain_facts(2), back = {};
                g_assert_cmpint(facts_publish(here, &facts), ==, 0);
                g_autofree Sample *sample = make_sample();
                more = spoil(sample, n);
                g_test_message("fault %u", n);
                publish(here, "gpu/" ADDRESS, &sample->gpu.base);
                unsigned skipped;
                g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
                g_assert_cmpuint(skipped, ==, more);
                g_assert_cmpuint(back.n_gpus, ==, more ? 1 : 2);
        }
        g_assert_cmpuint(n, ==, 31);
}

static void test_a_key_that_is_no_address_is_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_autofree Sample *sample = make_sample();
        publish(here, "gpu/00000:41:00.0", &sample->gpu.base);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_PARTIAL);
        g_assert_cmpuint(skipped, ==, 1);
        g_assert_cmpuint(back.n_gpus, ==, 1);
        /* And taken back by the next publication. */
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_null(gossip_get(here, &self, "gpu/00000:41:00.0", NULL));
}

static void test_a_host_that_cannot_be_read_is_blank_and_its_gpus_are_used(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(2), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        Gpupool1__FactsHugepages pages = GPUPOOL1__FACTS_HUGEPAGES__INIT, *rows[] = { &pages, &pages };
        Gpupool1__FactsHost host = GPUPOOL1__FACTS_HOST__INIT;
        pages.size_bytes = 4096;
        host.hugepages = rows;
        host.n_hugepages = 2;
        host.incarnation = 5;
        publish(here, "host", &host.base);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 1);
        g_assert_cmpuint(back.incarnation, ==, 0);
        g_assert_cmpuint(back.n_gpus, ==, 2);
        g_assert_true(ID_EQUAL(&back.node, &self));
}

static void test_paths_and_cpus_that_make_no_sense_are_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        uint64_t good[] = { 1, 2 }, twice[] = { 2, 2 };
        char *models[] = { newline };
        Gpupool1__FactsStorage storage = GPUPOOL1__FACTS_STORAGE__INIT;
        Gpupool1__FactsCpu cpu = GPUPOOL1__FACTS_CPU__INIT;
        storage.missing = good;
        storage.hanging = twice;
        storage.n_missing = storage.n_hanging = 2;
        cpu.vendor = flr;
        cpu.models = models;
        cpu.n_models = 1;
        publish(here, "storage", &storage.base);
        publish(here, "cpu", &cpu.base);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 2);
        g_assert_cmpuint(back.missing_paths.n, ==, 0);
        g_assert_null(back.cpu_vendor);
        node_facts_clear(&back);

        Gpupool1__FactsNumaMemory rows[2] = { GPUPOOL1__FACTS_NUMA_MEMORY__INIT, GPUPOOL1__FACTS_NUMA_MEMORY__INIT };
        Gpupool1__FactsNumaMemory *row_pointers[] = { rows, rows + 1 };
        Gpupool1__FactsNuma numa = GPUPOOL1__FACTS_NUMA__INIT;
        numa.memory = row_pointers;
        numa.n_memory = 2;
        for (unsigned i = 0; i < 3; i++) {
                rows[1].node = i == 1 ? NUMA_NODES_MAX : i;     /* twice the same; too many; good */
                publish(here, "numa", &numa.base);
                g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
                g_assert_cmpuint(skipped, ==, i < 2 ? 3 : 2);
                g_assert_cmpuint(back.n_numa_memory, ==, i < 2 ? 0 : 2);
                node_facts_clear(&back);
        }

        g_autofree uint64_t *many = g_malloc0_n(FACTS_PATHS_MAX + 1, sizeof(uint64_t));
        for (size_t i = 0; i <= FACTS_PATHS_MAX; i++)
                many[i] = i;
        storage.missing = many;
        storage.n_missing = FACTS_PATHS_MAX + 1;
        storage.n_hanging = 0;
        publish(here, "storage", &storage.base);
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 2);
        g_assert_cmpuint(back.missing_paths.n, ==, 0);
}

static void test_bytes_that_are_no_message_are_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(gossip_set(here, "load", "\xff\xff", 2), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_set(here, "gpu/" ADDRESS, "\xff\xff", 2), ==, GOSSIP_SET_CHANGED);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 2);
        g_assert_cmpuint(back.n_gpus, ==, 0);
        g_assert_cmpuint(back.memory_total, ==, facts.memory_total);
}

static void test_no_more_is_free_than_there_is(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(0), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        Gpupool1__FactsLoad load = GPUPOOL1__FACTS_LOAD__INIT;
        load.memory_free = UINT64_MAX;
        publish(here, "load", &load.base);
        g_assert_cmpint(facts_collect(here, &self, &back, NULL), ==, FACTS_WHOLE);
        g_assert_cmpuint(back.memory_free, ==, facts.memory_total);
}

static void test_what_a_later_version_adds_is_ignored(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1), back = {};
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        size_t size;
        const void *host = gossip_get(here, &self, "host", &size);
        /* Field 900, a text; and a state of the hypervisor that we do not know. */
        static const uint8_t more[] = { 0xa2, 0x38, 3, 'n', 'e', 'w', 0x78, 77 };
        g_autofree uint8_t *bytes = g_malloc(size + sizeof(more));
        memcpy(bytes, host, size);
        memcpy(bytes + size, more, sizeof(more));
        g_assert_cmpint(gossip_set(here, "host", bytes, size + sizeof(more)), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_set(here, "service", "what comes later", 16), ==, GOSSIP_SET_CHANGED);
        unsigned skipped;
        g_assert_cmpint(facts_collect(here, &self, &back, &skipped), ==, FACTS_WHOLE);
        g_assert_cmpuint(skipped, ==, 0);
        g_assert_cmpint(back.hypervisor, ==, HYPERVISOR_ABSENT);
        g_assert_cmpuint(back.memory_total, ==, facts.memory_total);
}

/* ---- VMs and silent nodes */

static void test_what_is_said_of_a_vm_comes_back_until_it_is_taken_back(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        static char stage[] = "binding", code[] = "start-failed", sentence[] = "GPU 0000:41:00.0 is held by a process";
        VmId one = { { 1 } }, two = { { 2 } }, found;
        VmFacts facts = { .epoch = 7, .stage = stage, .code = code, .sentence = sentence }, back = {};
        g_assert_cmpint(vm_facts_publish(here, &two, &(VmFacts) { .epoch = 1 }), ==, 0);
        g_assert_cmpint(vm_facts_publish(here, &one, &facts), ==, 0);
        g_assert_cmpint(vm_facts_collect(here, &self, &one, &back), ==, true);
        g_assert_cmpuint(back.epoch, ==, 7);
        g_assert_cmpstr(back.stage, ==, stage);
        g_assert_cmpstr(back.code, ==, code);
        g_assert_cmpstr(back.sentence, ==, sentence);
        vm_facts_clear(&back);
        g_assert_cmpint(vm_facts_collect(here, &self, &two, &back), ==, true);
        g_assert_null(back.stage);

        g_assert_true(vm_facts_next(here, &self, NULL, &found) && ID_EQUAL(&found, &one));
        g_assert_true(vm_facts_next(here, &self, &found, &found) && ID_EQUAL(&found, &two));
        g_assert_false(vm_facts_next(here, &self, &found, &found));
        g_assert_cmpint(vm_facts_publish(here, &one, NULL), ==, 0);
        g_assert_cmpint(vm_facts_collect(here, &self, &one, &back), ==, false);
}

static void test_keys_of_no_vm_and_words_of_no_sense_are_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        VmId vm = { { 1 } };
        VmFacts back = {};
        Gpupool1__FactsVm message = GPUPOOL1__FACTS_VM__INIT;
        publish(here, "vm/", &message.base);
        publish(here, "vm/01000000-0000-0000-0000-000000000000", &message.base);
        publish(here, "vm/AB000000000000000000000000000000", &message.base);
        g_assert_false(vm_facts_next(here, &self, NULL, &vm));
        message.stage = newline;
        publish(here, "vm/01000000000000000000000000000000", &message.base);
        g_assert_true(vm_facts_next(here, &self, NULL, &vm));
        g_assert_cmpint(vm_facts_collect(here, &self, &vm, &back), ==, false);
}

static void test_the_facts_of_a_node_leave_what_it_says_of_vms(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        _cleanup_(facts_free) NodeFacts facts = plain_facts(1);
        VmId vm = { { 1 } }, found;
        g_assert_cmpint(vm_facts_publish(here, &vm, &(VmFacts) { .epoch = 1 }), ==, 0);
        g_assert_cmpint(silent_facts_publish(here, &(SilentFacts) { .term = 1 }), ==, 0);
        g_assert_cmpint(facts_publish(here, &facts), ==, 0);
        g_assert_true(vm_facts_next(here, &self, NULL, &found));
        g_assert_nonnull(gossip_get(here, &self, "silent", NULL));
}

static SilentNode *make_silent(size_t n) {
        SilentNode *nodes = g_new0(SilentNode, n);
        for (size_t i = 0; i < n; i++) {
                nodes[i].node.bytes[0] = (uint8_t) (i >> 8);
                nodes[i].node.bytes[1] = (uint8_t) i;
                nodes[i].since_ms = UINT64_MAX - i;
        }
        return nodes;
}

static void test_silent_nodes_come_back_up_to_the_limit_and_the_rest_is_counted(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        g_autofree SilentNode *nodes = make_silent(FACTS_SILENT_MAX + 3);
        SilentFacts facts = { .term = 9, .nodes = nodes, .n_nodes = FACTS_SILENT_MAX }, back = {};
        g_assert_cmpint(silent_facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, true);
        g_assert_cmpuint(back.term, ==, 9);
        g_assert_cmpuint(back.more, ==, 0);
        g_assert_cmpmem(back.nodes, back.n_nodes * sizeof(SilentNode), nodes, FACTS_SILENT_MAX * sizeof(SilentNode));
        silent_facts_clear(&back);
        facts.n_nodes += 3;
        g_assert_cmpint(silent_facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, true);
        g_assert_cmpuint(back.n_nodes, ==, FACTS_SILENT_MAX);
        g_assert_cmpuint(back.more, ==, 3);
        silent_facts_clear(&back);
        g_assert_cmpint(silent_facts_publish(here, NULL), ==, 0);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, false);
}

static void test_silent_nodes_in_no_order_are_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        Gpupool1__FactsSilentNode node = GPUPOOL1__FACTS_SILENT_NODE__INIT, *rows[] = { &node, &node };
        Gpupool1__FactsSilent message = GPUPOOL1__FACTS_SILENT__INIT;
        SilentFacts back = {};
        message.nodes = rows;
        message.n_nodes = 1;
        publish(here, "silent", &message.base);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, false);
        node.node = id_message_borrow(other.bytes);
        publish(here, "silent", &message.base);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, true);
        silent_facts_clear(&back);
        message.n_nodes = 2;
        publish(here, "silent", &message.base);
        g_assert_cmpint(silent_facts_collect(here, &self, &back), ==, false);
}

static void assert_fencing_comes_back(Gossip *gossip, const FencingFacts *facts) {
        FencingFacts back = {};
        g_assert_cmpint(fencing_facts_publish(gossip, facts), ==, 0);
        g_assert_cmpint(fencing_facts_collect(gossip, &self, &back), ==, true);
        g_assert_true(fencing_facts_equal(facts, &back));
        fencing_facts_clear(&back);
}

static void test_fenced_nodes_come_back_up_to_the_limit(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        g_autofree char *longest = g_strnfill(FACTS_FENCED_SAID_MAX, 'x');
        FencingFacts facts = {}, copy = {}, back = {};
        for (size_t i = 0; i < FACTS_FENCED_MAX + 1; i++) {
                FencedNode row = { .node = { { (uint8_t) i, 1 } }, .phase = (FencedPhase) (i % FENCED_PHASE_COUNT),
                                   .tries = UINT32_MAX, .at_ms = UINT64_MAX, .said = i % 5 ? g_strdup(longest) : NULL };
                g_assert_cmpint(array_append(&facts, &row), ==, 0);
        }
        g_assert_cmpint(fencing_facts_publish(here, &facts), ==, 0);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, true);
        g_assert_cmpuint(back.n, ==, FACTS_FENCED_MAX);
        fencing_facts_clear(&back);
        fenced_node_clear(facts.items + --facts.n);
        assert_fencing_comes_back(here, &facts);
        g_assert_cmpint(fencing_facts_copy(&facts, &copy), ==, 0);
        g_assert_true(fencing_facts_equal(&facts, &copy));
        free(copy.items[7].said);
        copy.items[7].said = g_strdup("else");
        g_assert_false(fencing_facts_equal(&facts, &copy));
        fencing_facts_clear(&copy);
        fencing_facts_clear(&facts);
        g_assert_cmpint(fencing_facts_publish(here, NULL), ==, 0);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, false);
}

static void test_fenced_nodes_that_make_no_sense_are_passed_over(void) {
        _cleanup_(gossip_freep) Gossip *here = gossip_of(&self, &other);
        static char bell[] = "\a";
        Gpupool1__FactsFencedNode node = GPUPOOL1__FACTS_FENCED_NODE__INIT, *rows[] = { &node, &node };
        Gpupool1__FactsFencing message = GPUPOOL1__FACTS_FENCING__INIT;
        FencingFacts back = {};
        message.nodes = rows;
        message.n_nodes = 1;
        publish(here, "fencing", &message.base);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, false);
        node.node = id_message_borrow(other.bytes);
        node.phase = (Gpupool1__FactsFencedPhase) 77;
        publish(here, "fencing", &message.base);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, true);
        g_assert_cmpint(back.items[0].phase, ==, FENCED_NOT);
        fencing_facts_clear(&back);
        message.n_nodes = 2;
        publish(here, "fencing", &message.base);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, false);
        message.n_nodes = 1;
        node.said = bell;
        publish(here, "fencing", &message.base);
        g_assert_cmpint(fencing_facts_collect(here, &self, &back), ==, false);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/facts-codec/" #name, test_##name)
        TEST(what_is_published_is_collected_whatever_it_is);
        TEST(free_memory_is_told_in_steps);
        TEST(a_gpu_that_went_is_taken_back);
        TEST(facts_of_another_node_are_not_published);
        TEST(a_node_that_is_not_heard_of_has_no_facts);
        TEST(facts_are_whole_only_with_all_gpus);
        TEST(the_largest_gpu_is_cut_and_told);
        TEST(a_list_of_cpus_that_would_be_cut_is_unknown);
        TEST(paths_over_the_limit_are_counted_and_what_was_found_again_is_taken_back);
        TEST(a_text_is_made_printable_and_not_cut_inside_a_character);
        TEST(a_full_node_fits);
        TEST(a_gpu_with_one_fault_is_passed_over_and_the_rest_used);
        TEST(a_key_that_is_no_address_is_passed_over);
        TEST(a_host_that_cannot_be_read_is_blank_and_its_gpus_are_used);
        TEST(paths_and_cpus_that_make_no_sense_are_passed_over);
        TEST(bytes_that_are_no_message_are_passed_over);
        TEST(no_more_is_free_than_there_is);
        TEST(what_a_later_version_adds_is_ignored);
        TEST(what_is_said_of_a_vm_comes_back_until_it_is_taken_back);
        TEST(keys_of_no_vm_and_words_of_no_sense_are_passed_over);
        TEST(the_facts_of_a_node_leave_what_it_says_of_vms);
        TEST(silent_nodes_come_back_up_to_the_limit_and_the_rest_is_counted);
        TEST(silent_nodes_in_no_order_are_passed_over);
        TEST(fenced_nodes_come_back_up_to_the_limit);
        TEST(fenced_nodes_that_make_no_sense_are_passed_over);
        return g_test_run();
}
