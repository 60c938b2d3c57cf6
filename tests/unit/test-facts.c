/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <stdio.h>

#include "core/facts.h"
#include "util/array.h"
#include "util/cleanup.h"

static GpuIdentity identity_of(const char *slot, const char *serial) {
        GpuIdentity identity = { .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de };
        (void) snprintf(identity.slot, sizeof(identity.slot), "%s", slot);
        (void) snprintf(identity.serial, sizeof(identity.serial), "%s", serial);
        return identity;
}

static void add_holder(GpuFacts *gpu, uint32_t pid, const char *name) {
        GpuHolder holder = { .pid = pid };
        g_assert_cmpint(text_set(&holder.name, name), ==, 0);
        g_assert_cmpint(gpu_facts_add_holder(gpu, holder), ==, 0);
}

static void add_function(GpuFacts *gpu, const char *address, uint32_t class, const char *driver) {
        PciFunction function = { .class = class, .same_slot = true };
        g_assert_cmpint(pci_address_from_text(address, &function.address), ==, 0);
        g_assert_cmpint(text_set(&function.driver, driver), ==, 0);
        g_assert_cmpint(gpu_facts_add_function(gpu, function), ==, 0);
}

/* Every field has a value of its own. */
static GpuFacts full_gpu(void) {
        GpuFacts gpu = {
                .identity = identity_of("pci0000:40/01.0/00.0", "00112233"),
                .address = { .bus = 0x41 },
                .class = 0x030200,
                .iommu_group = 42,
                .numa_node = 1,
                .bars = { { .start = 0x1000, .size = 0x1000 }, { .size = 1ULL << 37, .prefetchable_64 = true } },
                .link_width = 8,
                .link_width_max = 16,
                .reset_methods_known = true,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
                .acs_missing = true,
                .kind = PCI_KIND_ENDPOINT,
                .interrupts = INTERRUPTS_MESSAGES,
                .iommu_address_bits = 48,
                .vram_bytes = 85899345920,
                .sriov_vfs = 2,
        };
        char **const texts[] = {
                &gpu.sysfs_path, &gpu.unreadable, &gpu.vendor_name, &gpu.device_name, &gpu.driver,
                &gpu.iommu_group_type, &gpu.link_speed, &gpu.link_speed_max, &gpu.parent, &gpu.switch_address,
                &gpu.acs_missing_at, &gpu.power_state, &gpu.conventional_at, &gpu.vbios,
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                g_assert_cmpint(text_printf(texts[i], "text %zu", i), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.reserved_regions, "0x1 0x2 direct"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.reset_methods, "flr"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.siblings, "0000:42:00.0"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.usb_devices, "1-2 (0951:1666)"), ==, 0);
        add_function(&gpu, "0000:41:00.1", 0x040300, "snd_hda_intel");
        add_holder(&gpu, 812, "nvidia-persiste");
        return gpu;
}

static void test_a_copy_is_equal_and_owns_its_texts(void) {
        GpuFacts gpu = full_gpu(), copy;
        g_assert_cmpint(gpu_facts_copy(&gpu, &copy), ==, 0);
        g_assert_true(gpu_facts_equal(&gpu, &copy));
        g_assert_true(gpu.driver != copy.driver);
        g_assert_true(gpu.holders[0].name != copy.holders[0].name);
        gpu_facts_clear(&gpu);
        g_assert_cmpstr(copy.holders[0].name, ==, "nvidia-persiste");
        gpu_facts_clear(&copy);
}

static void test_a_change_of_any_fact_is_seen(void) {
        /* Each takes a copy and changes one fact. */
        for (int which = 0;; which++) {
                GpuFacts gpu = full_gpu(), copy;
                g_assert_cmpint(gpu_facts_copy(&gpu, &copy), ==, 0);
                bool changed = true;
                switch (which) {
                case 0: copy.identity.vendor++; break;
                case 1: copy.identity.serial[0] = 'x'; break;
                case 2: copy.address.bus++; break;
                case 3: copy.class++; break;
                case 4: copy.driver[0] = 'x'; break;
                case 5: copy.iommu_group++; break;
                case 6: copy.functions[0].driver[0] = 'x'; break;
                case 7: copy.functions[0].class++; break;
                case 8: copy.holders[0].pid++; break;
                case 9: copy.holders[0].through_vfio = true; break;
                case 10: copy.holders_known = false; break;
                case 11: copy.bars[5].size++; break;
                case 12: copy.bars[1].prefetchable_64 = false; break;
                case 13: copy.reset_methods.items[0][0] = 'x'; break;
                case 14: copy.reserved_regions.items[0][0] = 'x'; break;
                case 15: copy.siblings.items[0][0] = 'x'; break;
                case 16: copy.config = CONFIG_ALL_ONES; break;
                case 17: copy.power_state[0] = 'x'; break;
                case 18: copy.runtime_error = true; break;
                case 19: copy.mig_enabled = true; break;
                case 20: copy.unreadable[0] = 'x'; break;
                case 21: copy.numa_node = -1; break;
                case 22: copy.link_width = 1; break;
                case 23: copy.boot_vga = true; break;
                case 24: copy.mdev_in_use = true; break;
                case 25: copy.is_virtual_function = true; break;
                case 26: copy.sriov_vfs = 0; break;
                case 27: copy.acs_missing = false; break;
                case 28: copy.has_reset = false; break;
                case 29: copy.switch_address[0] = 'x'; break;
                case 30: copy.kind = PCI_KIND_LEGACY_ENDPOINT; break;
                case 31: copy.interrupts = INTERRUPTS_LINE; break;
                case 32: copy.conventional_at[0] = 'x'; break;
                case 33: copy.iommu_address_bits = 39; break;
                case 34: copy.bars[1].unassigned = true; break;
                case 35: copy.vram_bytes++; break;
                case 37: copy.usb_devices.items[0][0] = 'x'; break;
                case 36: copy.vbios[0] = 'x'; break;
                default: changed = false;
                }
                g_assert_cmpint(gpu_facts_equal(&gpu, &copy), ==, !changed);
                gpu_facts_clear(&gpu);
                gpu_facts_clear(&copy);
                if (!changed)
                        return;
        }
}

static void test_functions_and_holders_are_sorted_and_there_once(void) {
        GpuFacts gpu = {};
        add_function(&gpu, "0000:41:00.3", 0x0c8000, NULL);
        add_function(&gpu, "0000:41:00.1", 0x040300, "snd_hda_intel");
        add_function(&gpu, "0000:41:00.3", 0x0c8000, "twice");
        add_holder(&gpu, 30, "b");
        add_holder(&gpu, 4, "a");
        add_holder(&gpu, 30, "twice");
        g_assert_cmpuint(gpu.n_functions, ==, 2);
        g_assert_cmpuint(gpu.functions[0].address.function, ==, 1);
        g_assert_null(gpu.functions[1].driver);
        g_assert_cmpuint(gpu.n_holders, ==, 2);
        g_assert_cmpuint(gpu.holders[0].pid, ==, 4);
        g_assert_cmpstr(gpu.holders[1].name, ==, "b");
        gpu_facts_clear(&gpu);
}

static void test_cleared_facts_can_be_cleared_again(void) {
        GpuFacts gpu = full_gpu();
        NodeFacts node = {};
        gpu_facts_clear(&gpu);
        gpu_facts_clear(&gpu);
        node_facts_clear(&node);
        node_facts_clear(&node);
}

static void test_the_sum_of_the_regions_does_not_wrap(void) {
        GpuFacts gpu = { .bars = { { .size = 1 << 20 }, { .size = 1 << 20 } } };
        g_assert_cmpuint(gpu_facts_bars_total(&gpu), ==, 2 << 20);
        gpu.bars[3].size = UINT64_MAX;
        g_assert_cmpuint(gpu_facts_bars_total(&gpu), ==, UINT64_MAX);
}

static void test_the_address_is_no_part_of_the_identity(void) {
        GpuIdentity a = identity_of("pci0000:40/01.0/00.0", "1"), b = a;
        b.address.bus = 0x99;
        g_assert_true(gpu_identity_equal(&a, &b));
        g_assert_true(gpu_identity_matches(&a, &b));
}

static void test_identities_are_ordered_by_slot_then_ids_then_serial(void) {
        GpuIdentity slot = identity_of("pci0000:40/01.0/00.0", "9"), ids = identity_of("pci0000:40/02.0/00.0", "1");
        GpuIdentity serial = ids, last = ids;
        serial.serial[0] = '2';
        last.device++;
        g_assert_cmpint(gpu_identity_compare(&slot, &ids), <, 0);
        g_assert_cmpint(gpu_identity_compare(&ids, &serial), <, 0);
        g_assert_cmpint(gpu_identity_compare(&serial, &last), <, 0);
        g_assert_cmpint(gpu_identity_compare(&last, &slot), >, 0);
}

static void test_another_serial_is_another_card_but_a_serial_not_read_is_not(void) {
        GpuIdentity meant = identity_of("pci0000:40/01.0/00.0", "1"), seen = meant;
        g_assert_true(gpu_identity_matches(&meant, &seen));
        seen.serial[0] = '\0';
        g_assert_true(gpu_identity_matches(&meant, &seen));
        g_assert_true(gpu_identity_matches(&seen, &meant));
        g_assert_false(gpu_identity_equal(&meant, &seen));
        seen.serial[0] = '2';
        g_assert_false(gpu_identity_matches(&meant, &seen));
}

static void test_a_card_in_another_slot_or_of_another_kind_does_not_match(void) {
        GpuIdentity meant = identity_of("pci0000:40/01.0/00.0", ""), seen = identity_of("pci0000:40/02.0/00.0", "");
        g_assert_false(gpu_identity_matches(&meant, &seen));
        seen = meant;
        seen.device++;
        g_assert_false(gpu_identity_matches(&meant, &seen));
        seen = meant;
        seen.node.bytes[0] = 1;
        g_assert_false(gpu_identity_matches(&meant, &seen));
}

static void test_a_gpu_is_found_by_address_and_by_identity_wherever_the_bus_is(void) {
        GpuFacts gpus[3] = {};
        for (uint8_t i = 0; i < 3; i++) {
                gpus[i].address.bus = (uint8_t) (0x41 + i);
                gpus[i].identity = identity_of("", "");
                (void) snprintf(gpus[i].identity.slot, GPU_SLOT_SIZE, "pci0000:40/%02x.0/00.0", i);
        }
        NodeFacts facts = { .gpus = gpus, .n_gpus = 3 };
        GpuIdentity meant = identity_of("pci0000:40/01.0/00.0", "");
        meant.address.bus = 0x99;
        g_assert_true(node_facts_find_gpu(&facts, &meant) == &gpus[1]);
        g_assert_true(node_facts_find_address(&facts, (PciAddress) { .bus = 0x43 }) == &gpus[2]);
        g_assert_null(node_facts_find_address(&facts, (PciAddress) { .bus = 0x44 }));
        facts.n_gpus = 0;
        g_assert_null(node_facts_find_gpu(&facts, &meant));
}

static void test_free_memory_alone_makes_no_other_host(void) {
        NodeFacts a = { .memory_total = 100, .memory_free = 50 }, b = { .memory_total = 100, .memory_free = 40 };
        g_assert_true(node_facts_host_equal(&a, &b));
        b.vfio_present = true;
        g_assert_false(node_facts_host_equal(&a, &b));
        b = a;
        b.watchdog_us = 2500000;
        g_assert_false(node_facts_host_equal(&a, &b));
        b = a;
        b.registry_stuck = true;
        g_assert_false(node_facts_host_equal(&a, &b));
        b = a;
        g_assert_cmpint(text_list_add(&b.missing_agents, "fence_ipmilan"), ==, 0);
        g_assert_false(node_facts_host_equal(&a, &b));
        text_list_clear(&b.missing_agents);
        b = a;
        g_assert_cmpint(text_list_add(&b.boot_parameters, "intel_iommu=off"), ==, 0);
        g_assert_false(node_facts_host_equal(&a, &b));
        text_list_clear(&b.boot_parameters);
        b = a;
        b.firmware_iommu = FIRMWARE_IOMMU_PRESENT;
        g_assert_false(node_facts_host_equal(&a, &b));
}

static void test_what_shares_the_group_goes_along_and_what_the_host_needs_stays(void) {
        /* A GeForce: all of it is in one group. */
        g_assert_true(pci_function_goes_along(&(PciFunction) { .class = 0x040300, .same_slot = true }));
        g_assert_true(pci_function_goes_along(&(PciFunction) { .class = 0x0c0330, .same_slot = true }));
        /* A Ryzen's graphics: sound, security processor and USB beside it, each in its own group. */
        g_assert_true(pci_function_goes_along(&(PciFunction) { .class = 0x040300, .same_slot = true,
                                                               .other_group = true }));
        g_assert_false(pci_function_goes_along(&(PciFunction) { .class = 0x108000, .same_slot = true,
                                                                .other_group = true }));
        g_assert_false(pci_function_goes_along(&(PciFunction) { .class = 0x0c0330, .same_slot = true,
                                                                .other_group = true }));
        g_assert_false(pci_function_goes_along(&(PciFunction) { .class = 0x060400, .same_slot = true }));
        g_assert_false(pci_function_goes_along(&(PciFunction) { .class = 0x040300 }));
        /* What a host may live on, be it in the group: a disk, network, memory, a management controller, Wi-Fi. */
        static const uint32_t vital[] = { 0x010802, 0x020000, 0x050000, 0x088000, 0x0b4000, 0x0d1100 };
        for (size_t i = 0; i < ELEMENTS(vital); i++)
                g_assert_false(pci_function_goes_along(&(PciFunction) { .class = vital[i], .same_slot = true }));
}

static void test_every_state_of_the_hypervisor_has_its_word(void) {
        g_assert_cmpstr(hypervisor_state_to_text(HYPERVISOR_ABSENT), ==, "absent");
        g_assert_cmpstr(hypervisor_state_to_text(HYPERVISOR_CONNECTING), ==, "connecting");
        g_assert_cmpstr(hypervisor_state_to_text(HYPERVISOR_CONNECTED), ==, "connected");
        g_assert_cmpstr(hypervisor_state_to_text(HYPERVISOR_HUNG), ==, "hung");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/facts/" #name, test_##name)
        TEST(a_copy_is_equal_and_owns_its_texts);
        TEST(a_change_of_any_fact_is_seen);
        TEST(what_shares_the_group_goes_along_and_what_the_host_needs_stays);
        TEST(functions_and_holders_are_sorted_and_there_once);
        TEST(cleared_facts_can_be_cleared_again);
        TEST(the_sum_of_the_regions_does_not_wrap);
        TEST(the_address_is_no_part_of_the_identity);
        TEST(identities_are_ordered_by_slot_then_ids_then_serial);
        TEST(another_serial_is_another_card_but_a_serial_not_read_is_not);
        TEST(a_card_in_another_slot_or_of_another_kind_does_not_match);
        TEST(a_gpu_is_found_by_address_and_by_identity_wherever_the_bus_is);
        TEST(free_memory_alone_makes_no_other_host);
        TEST(every_state_of_the_hypervisor_has_its_word);
#undef TEST
        return g_test_run();
}
