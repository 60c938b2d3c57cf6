/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "adapters/udev/gpu-reader.h"
#include "adapters/udev/host-reader.h"
#include "adapters/udev/probe-client.h"
#include "core/pci-config.h"
#include "core/pci-path.h"
#include "core/survey.h"
#include "mock-sysfs.h"
#include "util/array.h"
#include "util/cleanup.h"

#define GIB (1ULL << 30)
#define MIB (1ULL << 20)

DEFINE_CLEANUP(MockSysfs *, mock_sysfs_free);

static PciAddress address_of(const char *text) {
        PciAddress address;
        g_assert_cmpint(pci_address_from_text(text, &address), ==, 0);
        return address;
}

static DeviceReading read_device(const MockSysfs *mock, const char *address) {
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        DeviceReading reading;
        g_assert_cmpint(sysfs_open(mock_sysfs_root(mock), &sysfs), ==, 0);
        g_assert_cmpint(gpu_read(&sysfs, NULL, address_of(address), &reading), ==, 0);
        return reading;
}

/* A card in a slot, with the bridge above it. */
static MockSysfs *mock_with_h100(void) {
        static const MockDevice port = {
                .address = "0000:40:01.0", .below = "pci0000:40", .vendor = 0x8086, .device = 0x352a, .class = 0x060400,
                .driver = "pcieport", .group = 42,
        };
        MockSysfs *mock = mock_sysfs_new();
        mock_device_add(mock, &port);
        mock_device_add(mock, &MOCK_H100);
        return mock;
}

static void test_an_h100_is_read_whole(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_attribute_set(mock, "0000:41:00.0", "numa_node", "1");
        mock_attribute_set(mock, "0000:41:00.0", "current_link_speed", "32.0 GT/s PCIe");
        mock_attribute_set(mock, "0000:41:00.0", "max_link_speed", "32.0 GT/s PCIe");
        mock_attribute_set(mock, "0000:41:00.0", "current_link_width", "8");
        mock_attribute_set(mock, "0000:41:00.0", "max_link_width", "16");
        mock_attribute_set(mock, "0000:41:00.0", "power_state", "D0");

        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        const GpuFacts *gpu = &reading.facts;
        g_assert_true(reading.present && reading.is_gpu);
        g_assert_cmpstr(gpu->identity.slot, ==, "pci0000:40/01.0/00.0");
        g_assert_cmpuint(gpu->identity.vendor, ==, 0x10de);
        g_assert_cmpuint(gpu->identity.device, ==, 0x2331);
        g_assert_cmpuint(gpu->identity.subsystem_device, ==, 0x1626);
        g_assert_cmpstr(gpu->sysfs_path, ==, "/devices/pci0000:40/0000:40:01.0/0000:41:00.0");
        g_assert_cmpuint(gpu->class, ==, 0x030200);
        g_assert_cmpstr(gpu->driver, ==, "nvidia");
        g_assert_cmpint(gpu->iommu_group, ==, 42);
        g_assert_cmpstr(gpu->iommu_group_type, ==, "DMA");
        g_assert_cmpint(gpu->numa_node, ==, 1);
        g_assert_cmpuint(gpu->bars[0].size, ==, 16 * MIB);
        g_assert_cmpuint(gpu->bars[2].size, ==, 128 * GIB);
        g_assert_true(gpu->bars[2].prefetchable_64);
        g_assert_cmpuint(gpu->bars[1].size, ==, 0);
        g_assert_cmpstr(gpu->link_speed, ==, "32.0 GT/s PCIe");
        g_assert_cmpuint(gpu->link_width, ==, 8);
        g_assert_cmpuint(gpu->link_width_max, ==, 16);
        g_assert_true(gpu->has_reset && gpu->reset_methods_known);
        g_assert_cmpuint(gpu->reset_methods.n, ==, 2);
        g_assert_cmpstr(gpu->reset_methods.items[0], ==, "flr");
        g_assert_cmpstr(gpu->parent, ==, "0000:40:01.0");
        g_assert_null(gpu->switch_address);
        g_assert_cmpint(gpu->config, ==, CONFIG_READABLE);
        g_assert_cmpstr(gpu->power_state, ==, "D0");
        g_assert_false(gpu->boot_vga);
        g_assert_null(gpu->unreadable);
        g_assert_false(gpu->holders_known);
        g_assert_cmpuint(gpu->n_functions, ==, 1);
        g_assert_false(gpu->functions[0].same_slot);
}

static void test_the_functions_of_a_card_are_known_with_their_drivers(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        for (size_t i = 0; i < 4; i++)
                mock_device_add(mock, &MOCK_GEFORCE[i]);
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:01:00.0");
        const GpuFacts *gpu = &reading.facts;
        g_assert_cmpuint(gpu->n_functions, ==, 3);
        g_assert_cmpuint(gpu->functions[0].class, ==, 0x040300);
        g_assert_cmpstr(gpu->functions[0].driver, ==, "snd_hda_intel");
        g_assert_cmpuint(gpu->functions[0].device, ==, 0x1aef);
        g_assert_true(gpu->functions[1].same_slot);
        g_assert_null(gpu->functions[2].driver);
        g_assert_true(gpu->boot_vga);
        /* The region of I/O ports takes no memory of a guest. */
        g_assert_cmpuint(gpu->bars[5].size, ==, 0);
        g_assert_false(gpu->bars[0].prefetchable_64);
}

static void test_functions_of_the_card_in_other_groups_are_its_functions_too(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_device_add(mock, &MOCK_GEFORCE[0]);
        mock_device_add(mock, &MOCK_GEFORCE[1]);
        mock_device_add(mock, &MOCK_GEFORCE[2]);
        mock_group_set(mock, "0000:01:00.1", 14);
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:01:00.0");
        g_assert_cmpuint(reading.facts.n_functions, ==, 2);
        g_assert_true(reading.facts.functions[0].same_slot);
        g_assert_true(reading.facts.functions[0].other_group);
        g_assert_true(reading.facts.functions[1].same_slot);
        g_assert_false(reading.facts.functions[1].other_group);
}

static void test_two_gpus_behind_one_switch_have_the_same_upstream_port(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        MockDevice a = MOCK_H100, b = MOCK_H100;
        a.below = "pci0000:80/0000:80:01.0/0000:81:00.0/0000:82:00.0";
        a.address = "0000:83:00.0";
        b.below = "pci0000:80/0000:80:01.0/0000:81:00.0/0000:82:04.0";
        b.address = "0000:84:00.0";
        mock_device_add(mock, &a);
        mock_device_add(mock, &b);
        _cleanup_(device_reading_clear) DeviceReading first = read_device(mock, a.address);
        _cleanup_(device_reading_clear) DeviceReading second = read_device(mock, b.address);
        g_assert_cmpstr(first.facts.switch_address, ==, "0000:81:00.0");
        g_assert_cmpstr(second.facts.switch_address, ==, "0000:81:00.0");
        g_assert_cmpstr(first.facts.parent, ==, "0000:82:00.0");
        g_assert_cmpstr(second.facts.identity.slot, ==, "pci0000:80/01.0/00.0/04.0/00.0");
}

static void test_a_renumbered_bus_leaves_the_slot_path_as_it_was(void) {
        char a[GPU_SLOT_SIZE], b[GPU_SLOT_SIZE];
        g_assert_cmpint(slot_from_path("/devices/pci0000:40/0000:40:01.0/0000:41:00.0", a), ==, 0);
        g_assert_cmpint(slot_from_path("/devices/pci0000:40/0000:40:01.0/0000:51:00.0", b), ==, 0);
        g_assert_cmpstr(a, ==, b);
}

static void test_slot_paths_of_odd_places(void) {
        char slot[GPU_SLOT_SIZE];
        g_assert_cmpint(slot_from_path("/devices/platform/4.pcie/pci0004:00/0004:00:00.0/0004:01:00.0", slot), ==, 0);
        g_assert_cmpstr(slot, ==, "pci0004:00/00.0/00.0");
        g_assert_cmpint(slot_from_path("/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0", slot), ==, 0);
        g_assert_cmpstr(slot, ==, "pci0000:00/0e.0/pci10000:e0/01.0");
        g_assert_cmpint(slot_from_path("/devices/virtual/foo", slot), ==, -EINVAL);
        g_assert_cmpint(slot_from_path("/devices/0000:41:00.0", slot), ==, -EINVAL);
        g_assert_cmpint(slot_from_path("", slot), ==, -EINVAL);

        GString *deep = g_string_new("/devices/pci0000:00");
        for (int i = 0; i < 64; i++)
                g_string_append(deep, "/0000:01:00.0");
        g_assert_cmpint(slot_from_path(deep->str, slot), ==, -ENAMETOOLONG);
        (void) g_string_free(deep, TRUE);
}

static void test_a_device_that_is_not_there_is_not_present(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_false(reading.present || reading.is_gpu);
}

static void test_a_device_of_another_class_is_no_gpu_but_its_group_is_told(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        MockDevice card = { .address = "0000:42:00.0", .class = 0x020000, .vendor = 0x15b3, .group = 42 };
        mock_device_add(mock, &card);
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:42:00.0");
        g_assert_true(reading.present && !reading.is_gpu);
        g_assert_cmpint(reading.iommu_group, ==, 42);
}

static void test_groups_without_an_iommu_behind_them_are_none(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_file(mock, "sys/kernel/iommu_groups/42/name", "vfio-noiommu\n");
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_cmpint(reading.facts.iommu_group, ==, -1);
}

static void test_only_direct_reserved_regions_count(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_file(mock, "sys/kernel/iommu_groups/42/reserved_regions",
                  "0x000000007b800000 0x000000007d7fffff direct\n"
                  "0x000000007e000000 0x000000007effffff direct-relaxable\n"
                  "0x00000000fee00000 0x00000000feefffff msi\n");
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_cmpuint(reading.facts.reserved_regions.n, ==, 1);
        g_assert_cmpstr(reading.facts.reserved_regions.items[0], ==, "0x000000007b800000 0x000000007d7fffff direct");
}

static void test_virtual_functions_are_counted_and_are_no_companions(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        MockDevice function = MOCK_H100;
        function.address = "0000:41:00.4";
        mock_device_add(mock, &function);
        mock_attribute_set(mock, "0000:41:00.4", "physfn/vendor", "0x10de");
        mock_link(mock, "sys/bus/pci/devices/0000:41:00.0/virtfn0", "../0000:41:00.4");
        mock_link(mock, "sys/bus/pci/devices/0000:41:00.0/virtfn1", "../0000:41:00.5");
        _cleanup_(device_reading_clear) DeviceReading whole = read_device(mock, "0000:41:00.0");
        _cleanup_(device_reading_clear) DeviceReading part = read_device(mock, "0000:41:00.4");
        g_assert_cmpuint(whole.facts.sriov_vfs, ==, 2);
        g_assert_cmpuint(whole.facts.n_functions, ==, 1);
        g_assert_true(part.facts.is_virtual_function);
}

static void test_mediated_devices_are_seen_on_their_parent_only(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_link(mock, "sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
                  "../../../devices/pci0000:40/0000:40:01.0/0000:41:00.01/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
        _cleanup_(device_reading_clear) DeviceReading none = read_device(mock, "0000:41:00.0");
        g_assert_false(none.facts.mdev_in_use);
        mock_link(mock, "sys/bus/mdev/devices/a3b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
                  "../../../devices/pci0000:40/0000:40:01.0/0000:41:00.0/a3b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
        _cleanup_(device_reading_clear) DeviceReading one = read_device(mock, "0000:41:00.0");
        g_assert_true(one.facts.mdev_in_use);
}

static void test_usb_devices_are_seen_on_controllers_that_go_along_only(void) {
        static const MockDevice far = {
                .address = "0000:00:14.0", .vendor = 0x8086, .device = 0x7ae0, .class = 0x0c0330, .driver = "xhci_hcd",
                .group = 9,
        };
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        for (size_t i = 0; i < ELEMENTS(MOCK_GEFORCE); i++)
                mock_device_add(mock, &MOCK_GEFORCE[i]);
        mock_device_add(mock, &far);
        mock_usb_device(mock, &MOCK_GEFORCE[2], NULL, NULL, NULL);
        mock_usb_device(mock, &far, "2-1", "046d", "c31c");
        _cleanup_(device_reading_clear) DeviceReading none = read_device(mock, "0000:01:00.0");
        g_assert_cmpuint(none.facts.usb_devices.n, ==, 0);

        mock_usb_device(mock, &MOCK_GEFORCE[2], "1-2", "05e3", "0610");
        mock_usb_device(mock, &MOCK_GEFORCE[2], "1-2.4", "0951", "166\x1b");
        _cleanup_(device_reading_clear) DeviceReading some = read_device(mock, "0000:01:00.0");
        g_assert_cmpuint(some.facts.usb_devices.n, ==, 2);
        g_assert_cmpstr(some.facts.usb_devices.items[0], ==, "1-2 (05e3:0610)");
        g_assert_cmpstr(some.facts.usb_devices.items[1], ==, "1-2.4 (0951:166)");
        g_assert_null(some.facts.unreadable);

        /* It stays with the host, and what is on it too. */
        mock_group_set(mock, "0000:01:00.2", 14);
        _cleanup_(device_reading_clear) DeviceReading apart = read_device(mock, "0000:01:00.0");
        g_assert_cmpuint(apart.facts.usb_devices.n, ==, 0);
}

static void test_mig_is_seen_by_its_instances(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_file(mock, "proc/driver/nvidia/gpus/0000:41:00.0/information",
                  "Model: \t\t NVIDIA H100 PCIe\nDevice Minor: \t 3\nGPU Excluded:\t No\n");
        mock_file(mock, "proc/driver/nvidia/capabilities/gpu3/mig/config", "");
        _cleanup_(device_reading_clear) DeviceReading whole = read_device(mock, "0000:41:00.0");
        g_assert_false(whole.facts.mig_enabled);
        mock_file(mock, "proc/driver/nvidia/capabilities/gpu3/mig/gi1/access", "");
        _cleanup_(device_reading_clear) DeviceReading divided = read_device(mock, "0000:41:00.0");
        g_assert_true(divided.facts.mig_enabled);
}

static void test_memory_and_vbios_are_what_the_driver_tells(void) {
        static const char information[] = "proc/driver/nvidia/gpus/0000:41:00.0/information";
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_file(mock, information, "Model: \t NVIDIA H100 PCIe\nVideo BIOS: \t ??.??.??.??.??\nDevice Minor: \t 3\n");
        _cleanup_(device_reading_clear) DeviceReading unused = read_device(mock, "0000:41:00.0");
        g_assert_null(unused.facts.vbios);
        g_assert_cmpuint(unused.facts.vram_bytes, ==, 0);
        mock_file(mock, information, "Model: \t NVIDIA H100 PCIe\nVideo BIOS: \t 96.00.74.00.01\nDevice Minor: \t 3\n");
        _cleanup_(device_reading_clear) DeviceReading nvidia = read_device(mock, "0000:41:00.0");
        g_assert_cmpstr(nvidia.facts.vbios, ==, "96.00.74.00.01");
        mock_attribute_set(mock, "0000:41:00.0", "vbios_version", "113-M3000100-102");
        mock_attribute_set(mock, "0000:41:00.0", "mem_info_vram_total", "206141652992");
        _cleanup_(device_reading_clear) DeviceReading amd = read_device(mock, "0000:41:00.0");
        g_assert_cmpstr(amd.facts.vbios, ==, "113-M3000100-102");
        g_assert_cmpuint(amd.facts.vram_bytes, ==, 206141652992);
        mock_attribute_set(mock, "0000:41:00.0", "mem_info_vram_total", "many");
        _cleanup_(device_reading_clear) DeviceReading nonsense = read_device(mock, "0000:41:00.0");
        g_assert_cmpuint(nonsense.facts.vram_bytes, ==, 0);
        g_assert_null(nonsense.facts.unreadable);
}

static void test_config_space_of_all_ones_is_told(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        uint8_t ones[64];
        memset(ones, 0xff, sizeof(ones));
        mock_attribute_set_bytes(mock, "0000:41:00.0", "config", ones, sizeof(ones));
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_cmpint(reading.facts.config, ==, CONFIG_ALL_ONES);
}

static void test_a_sleeping_device_is_not_woken(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_attribute_set(mock, "0000:41:00.0", "power/runtime_status", "suspended");
        mock_attribute_hang(mock, "0000:41:00.0", "config");    /* would block for ever */
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_cmpint(reading.facts.config, ==, CONFIG_UNKNOWN);
        g_assert_false(reading.facts.runtime_error);
}

static void test_a_device_that_failed_to_wake_says_so(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_attribute_set(mock, "0000:41:00.0", "power/runtime_status", "error");
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_true(reading.facts.runtime_error);
}

static void test_what_hangs_behind_the_lock_of_a_device_is_never_read(void) {
        static const char *const never[] = { "uevent", "driver_override", "sriov_numvfs", "vpd", "rom", "enable" };
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        for (size_t i = 0; i < ELEMENTS(never); i++)
                mock_attribute_hang(mock, "0000:41:00.0", never[i]);
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_true(reading.is_gpu);
}

static const char *const attributes[] = {
        "vendor", "device", "subsystem_vendor", "subsystem_device", "numa_node", "boot_vga", "resource", "reset_method",
        "current_link_speed", "max_link_speed", "current_link_width", "max_link_width", "power_state", "config",
        "modalias", "power/runtime_status", "xgmi_hive_info/xgmi_hive_id", "iommu/intel-iommu/cap",
};

static void assert_harmless(const MockSysfs *mock) {
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        const GpuFacts *gpu = &reading.facts;
        g_assert_true(reading.is_gpu);
        const char *texts[] = {
                gpu->driver, gpu->link_speed, gpu->link_speed_max, gpu->power_state, gpu->iommu_group_type,
                gpu->sysfs_path,
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                g_assert_true(!texts[i] || text_is_printable(texts[i]));
        for (size_t i = 0; i < gpu->reset_methods.n; i++)
                g_assert_true(text_is_printable(gpu->reset_methods.items[i]));
        for (size_t i = 0; i < gpu->reserved_regions.n; i++)
                g_assert_true(text_is_printable(gpu->reserved_regions.items[i]));
}

static void test_attributes_of_any_bytes_are_harmless(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        for (unsigned round = 0; round < 200; round++) {
                uint8_t bytes[300];
                for (size_t i = 0; i < ELEMENTS(attributes); i++) {
                        size_t n = (size_t) g_test_rand_int_range(0, sizeof(bytes));
                        for (size_t j = 0; j < n; j++)
                                bytes[j] = (uint8_t) g_test_rand_int_range(0, 256);
                        mock_attribute_set_bytes(mock, "0000:41:00.0", attributes[i], bytes, n);
                }
                assert_harmless(mock);
        }
}

static void test_attributes_of_a_megabyte_are_harmless(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        g_autofree char *megabyte = g_strnfill(MIB, '7');
        for (size_t i = 0; i < ELEMENTS(attributes); i++)
                mock_attribute_set_bytes(mock, "0000:41:00.0", attributes[i], megabyte, MIB);
        mock_file(mock, "sys/kernel/iommu_groups/42/reserved_regions", megabyte);
        mock_file(mock, "sys/kernel/iommu_groups/42/type", megabyte);
        assert_harmless(mock);
}

static void test_attributes_that_are_missing_leave_the_facts_unknown(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        for (size_t i = 0; i < ELEMENTS(attributes); i++)
                mock_attribute_remove(mock, "0000:41:00.0", attributes[i]);
        mock_driver_set(mock, "0000:41:00.0", NULL);
        mock_group_set(mock, "0000:41:00.0", 0);
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        const GpuFacts *gpu = &reading.facts;
        g_assert_true(reading.is_gpu);
        g_assert_cmpuint(gpu->identity.vendor, ==, 0);
        g_assert_cmpint(gpu->iommu_group, ==, -1);
        g_assert_cmpint(gpu->numa_node, ==, -1);
        g_assert_cmpint(gpu->config, ==, CONFIG_UNKNOWN);
        g_assert_false(gpu->reset_methods_known);
        g_assert_null(gpu->driver);
}

static void test_attributes_that_are_folders_or_loops_are_missing(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_attribute_remove(mock, "0000:41:00.0", "numa_node");
        mock_attribute_set(mock, "0000:41:00.0", "numa_node/inside", "1");
        mock_attribute_remove(mock, "0000:41:00.0", "vendor");
        mock_link(mock, "sys/bus/pci/devices/0000:41:00.0/vendor", "vendor");
        mock_group_set(mock, "0000:41:00.0", 0);
        mock_link(mock, "sys/bus/pci/devices/0000:41:00.0/iommu_group", "iommu_group");
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        g_assert_true(reading.is_gpu);
        g_assert_cmpint(reading.facts.numa_node, ==, -1);
        g_assert_cmpuint(reading.facts.identity.vendor, ==, 0);
        g_assert_cmpint(reading.facts.iommu_group, ==, -1);
}

static void test_links_never_lead_out_of_the_root(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        char text[64];
        g_assert_cmpint(sysfs_open(mock_sysfs_root(mock), &sysfs), ==, 0);
        mock_link(mock, "sys/absolute", "/etc/hostname");
        mock_link(mock, "sys/upwards", "../../../../../../../../../../etc/hostname");
        g_assert_cmpint(sysfs_read_text(&sysfs, text, sizeof(text), "sys/absolute"), ==, -ENOENT);
        g_assert_cmpint(sysfs_read_text(&sysfs, text, sizeof(text), "sys/upwards"), ==, -ENOENT);
        mock_file(mock, "etc/hostname", "inside\n");
        g_assert_cmpint(sysfs_read_text(&sysfs, text, sizeof(text), "sys/absolute"), ==, 6);
        g_assert_cmpstr(text, ==, "inside");
        g_assert_cmpint(sysfs_read_text(&sysfs, text, sizeof(text), "../../../../etc/hostname"), ==, 6);
        g_assert_cmpstr(text, ==, "inside");
}

static void test_text_is_made_printable_line_by_line(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        char text[64];
        g_assert_cmpint(sysfs_open(mock_sysfs_root(mock), &sysfs), ==, 0);
        mock_file(mock, "sys/file", "a\x01z\n\xff" "b\tc\n\xe2\x80\xaex \n\n");
        g_assert_cmpint(sysfs_read_text(&sysfs, text, sizeof(text), "sys/file"), >, 0);
        char **lines = g_strsplit(text, "\n", -1);
        g_assert_cmpuint(g_strv_length(lines), ==, 3);
        for (size_t i = 0; i < 3; i++)
                g_assert_true(text_is_printable(lines[i]));
        g_assert_cmpstr(lines[0], ==, "a z");
        g_strfreev(lines);
}

static void test_numbers_are_read_in_both_bases_and_nothing_else(void) {
        static const struct {
                const char *text;
                int r;
                uint64_t value;
        } cases[] = {
                { "0x10de\n", 0, 0x10de }, { "42\n", 0, 42 }, { "0xFFFFFFFFFFFFFFFF", 0, UINT64_MAX },
                { "", -EINVAL, 0 }, { "0x", -EINVAL, 0 }, { "-1\n", -EINVAL, 0 }, { "12 13\n", -EINVAL, 0 },
                { "1\n2\n", -EINVAL, 0 },
                { "99999999999999999999\n", -ERANGE, 0 },
        };
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        g_assert_cmpint(sysfs_open(mock_sysfs_root(mock), &sysfs), ==, 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint64_t value = 7;
                mock_file(mock, "sys/file", cases[i].text);
                g_assert_cmpint(sysfs_read_number(&sysfs, &value, "sys/file"), ==, cases[i].r);
                g_assert_cmpuint(value, ==, cases[i].r < 0 ? 7 : cases[i].value);
        }
}

static NodeFacts read_host(const MockSysfs *mock) {
        _cleanup_(sysfs_close) Sysfs sysfs = SYSFS_NONE;
        NodeFacts host;
        g_assert_cmpint(sysfs_open(mock_sysfs_root(mock), &sysfs), ==, 0);
        g_assert_cmpint(host_read(&sysfs, &host), ==, 0);
        return host;
}

static void test_a_host_is_read_whole(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/sys/kernel/osrelease", "6.1.0-26-amd64\n");
        mock_file(mock, "proc/sys/kernel/random/boot_id", "c7a5fdbd-edaf-9455-926a-d65c16db1809\n");
        mock_file(mock, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\n"
                                        "flags\t\t: fpu vme de\naddress sizes\t: 46 bits physical, 57 bits virtual\n");
        mock_file(mock, "proc/meminfo", "MemTotal:       527990412 kB\nMemFree:         1 kB\n"
                                        "MemAvailable:   400000000 kB\nHugepagesize:       2048 kB\n");
        mock_file(mock, "proc/spl/kstat/zfs/arcstats", "9 1 0x01 147 39984 1 2\nname   type data\nhits   4    1\n"
                                                       "c_min    4    1073741824\nsize    4    5368709120\n");
        mock_file(mock, "sys/devices/system/node/has_memory", "0-1,4,90-4294967295\n");
        mock_file(mock, "sys/devices/system/node/node0/cpulist", "0-15,32-47\n");
        mock_file(mock, "sys/devices/system/node/node4/cpulist", "16-31\n");
        mock_file(mock, "sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       65836284 kB\n"
                                                                 "Node 0 MemFree:          284 kB\n");
        mock_file(mock, "sys/devices/system/node/node4/meminfo", "Node 4 MemTotal:       1024 kB\n");
        mock_file(mock, "sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages", "4\n");
        mock_file(mock, "sys/devices/system/node/node4/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
        mock_file(mock, "sys/devices/system/cpu/isolated", "\n");
        mock_file(mock, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
        mock_file(mock, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n");
        mock_file(mock, "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "4\n");
        mock_file(mock, "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "3\n");
        mock_file(mock, "sys/class/iommu/dmar0/address", "\n");
        mock_file(mock, "sys/bus/pci/drivers/vfio-pci/bind", "");
        mock_file(mock, "proc/interrupts", "  24:  0  IR-PCI-MSI-0000:00:01.0    0-edge      PCIe PME\n");

        _cleanup_(node_facts_clear) NodeFacts host = read_host(mock);
        g_assert_cmpstr(host.kernel, ==, "6.1.0-26-amd64");
        g_assert_cmpstr(host.boot_id, ==, "c7a5fdbdedaf9455926ad65c16db1809");
        g_assert_cmpstr(host.cpu_model, ==, "Intel(R) Xeon(R) Platinum 8480+");
        g_assert_cmpuint(host.address_bits, ==, 46);
        g_assert_cmpstr(host.virtualization, ==, "none");
        g_assert_cmpuint(host.memory_total, ==, 527990412ULL * 1024);
        g_assert_cmpuint(host.memory_free, ==, 400000000ULL * 1024 + (4ULL << 30));
        g_assert_cmpuint(host.node_cpus.n, ==, 5);
        g_assert_cmpstr(host.node_cpus.items[0], ==, "0-15,32-47");
        g_assert_cmpstr(host.node_cpus.items[1], ==, "");
        g_assert_cmpstr(host.node_cpus.items[4], ==, "16-31");
        g_assert_cmphex(host.memory_nodes, ==, 0x13);
        g_assert_cmpuint(host.n_hugepages, ==, 2);
        g_assert_cmpuint(host.hugepages[0].size_bytes, ==, 2 * MIB);
        g_assert_cmpuint(host.hugepages[1].free, ==, 3);
        g_assert_cmpuint(host.hugepage_default_bytes, ==, 2 * MIB);
        static const NumaMemory numa[] = { { 0, 0, 65836284ULL * 1024 }, { 0, 1024 * MIB, 4096 * MIB },
                                           { 4, 0, 1 * MIB }, { 4, 2 * MIB, 1024 * MIB } };
        g_assert_cmpuint(host.n_numa_memory, ==, G_N_ELEMENTS(numa));
        for (size_t i = 0; i < host.n_numa_memory; i++) {
                g_assert_cmpuint(host.numa_memory[i].node, ==, numa[i].node);
                g_assert_cmpuint(host.numa_memory[i].page_size_bytes, ==, numa[i].page_size_bytes);
                g_assert_cmpuint(host.numa_memory[i].total_bytes, ==, numa[i].total_bytes);
        }
        g_assert_true(host.iommu_present && host.vfio_present);
        g_assert_true(host.interrupt_remapping && host.interrupt_remapping_known);
}

static void test_a_host_of_which_nothing_can_be_read_is_unknown(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        _cleanup_(node_facts_clear) NodeFacts host = read_host(mock);
        g_assert_null(host.kernel);
        g_assert_null(host.boot_id);
        g_assert_null(host.virtualization);
        g_assert_false(host.iommu_present || host.vfio_present || host.interrupt_remapping_known);
}

static void test_a_virtual_machine_is_known_by_flag_and_maker(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/cpuinfo", "model name : x\nflags : fpu hypervisor lahf_lm\n");
        _cleanup_(node_facts_clear) NodeFacts other = read_host(mock);
        g_assert_cmpstr(other.virtualization, ==, "vm-other");
        mock_file(mock, "sys/class/dmi/id/sys_vendor", "QEMU\n");
        _cleanup_(node_facts_clear) NodeFacts qemu = read_host(mock);
        g_assert_cmpstr(qemu.virtualization, ==, "qemu");
}

static void test_groups_alone_show_an_iommu_unless_vfio_made_them(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        _cleanup_(node_facts_clear) NodeFacts with = read_host(mock);
        g_assert_true(with.iommu_present);
        mock_file(mock, "sys/kernel/iommu_groups/42/name", "vfio-noiommu\n");
        _cleanup_(node_facts_clear) NodeFacts without = read_host(mock);
        g_assert_false(without.iommu_present);
}

static void test_a_vfio_module_that_can_be_loaded_will_do(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/sys/kernel/osrelease", "6.1.0\n");
        mock_file(mock, "lib/modules/6.1.0/modules.dep", "kernel/drivers/net/x.ko:\n");
        _cleanup_(node_facts_clear) NodeFacts without = read_host(mock);
        g_assert_false(without.vfio_present);
        mock_file(mock, "lib/modules/6.1.0/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.zst: kernel/x.ko\n");
        _cleanup_(node_facts_clear) NodeFacts with = read_host(mock);
        g_assert_true(with.vfio_present);
}

static void test_modules_that_may_not_be_looked_at_are_left_to_libvirt(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/sys/kernel/osrelease", "6.1.0\n");
        mock_link(mock, "lib/modules", "modules");      /* a loop: an error of another kind than absence */
        _cleanup_(node_facts_clear) NodeFacts host = read_host(mock);
        g_assert_true(host.vfio_present);
}

static void test_interrupts_that_are_not_remapped_are_seen_where_an_iommu_could(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/interrupts", "  24:  0  PCI-MSI-0000:00:01.0    0-edge      PCIe PME\n");
        _cleanup_(node_facts_clear) NodeFacts elsewhere = read_host(mock);
        g_assert_false(elsewhere.interrupt_remapping_known);
        mock_file(mock, "sys/class/iommu/ivhd0/address", "\n");
        _cleanup_(node_facts_clear) NodeFacts off = read_host(mock);
        g_assert_true(off.interrupt_remapping_known && !off.interrupt_remapping);
}

static void test_of_the_command_line_only_what_decides_about_vfio_is_kept(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        mock_file(mock, "proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 luks.key=secret intel_iommu=on,sm_on  "
                                        "iommu=pt iommufd=1 pcie_acs_override=downstream nointremap quiet\n");
        _cleanup_(node_facts_clear) NodeFacts host = read_host(mock);
        static const char *const kept[] = { "intel_iommu=on,sm_on", "iommu=pt", "pcie_acs_override=downstream",
                                            "nointremap" };
        g_assert_cmpuint(host.boot_parameters.n, ==, ELEMENTS(kept));
        for (size_t i = 0; i < ELEMENTS(kept); i++)
                g_assert_cmpstr(host.boot_parameters.items[i], ==, kept[i]);
}

static void test_a_command_line_of_any_bytes_is_harmless(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        static const char *const pieces[] = { "iommu", "intel_iommu=", "off", " ", "=", ",", "\xff\x01", "\n",
                                              "pcie_acs_override", "\"", "nointremap" };
        for (unsigned round = 0; round < 300; round++) {
                GString *line = g_string_new(NULL);
                for (int i = g_test_rand_int_range(0, 2000); i > 0; i--)
                        g_string_append(line, pieces[g_test_rand_int_range(0, ELEMENTS(pieces))]);
                mock_file(mock, "proc/cmdline", line->str);
                (void) g_string_free(line, TRUE);
                _cleanup_(node_facts_clear) NodeFacts host = read_host(mock);
                for (size_t i = 0; i < host.boot_parameters.n; i++)
                        g_assert_true(text_is_printable(host.boot_parameters.items[i]));
                GpuFacts gpu = { .identity.vendor = 0x10de, .iommu_group = -1 };
                Blockers blockers = {};
                g_assert_cmpint(survey_gpu(&host, &gpu, &blockers), ==, 0);
                for (size_t i = 0; i < blockers.n; i++)
                        g_assert_true(text_is_printable(blockers.items[i].sentence));
                blockers_clear(&blockers);
        }
}

static void test_firmware_shows_its_iommu_by_a_table(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_sysfs_new();
        _cleanup_(node_facts_clear) NodeFacts elsewhere = read_host(mock);
        g_assert_cmpint(elsewhere.firmware_iommu, ==, FIRMWARE_IOMMU_UNKNOWN);
        mock_file(mock, "sys/firmware/acpi/tables/FACP", "");
        _cleanup_(node_facts_clear) NodeFacts without = read_host(mock);
        g_assert_cmpint(without.firmware_iommu, ==, FIRMWARE_IOMMU_ABSENT);
        mock_file(mock, "sys/firmware/acpi/tables/DMAR", "");
        _cleanup_(node_facts_clear) NodeFacts with = read_host(mock);
        g_assert_cmpint(with.firmware_iommu, ==, FIRMWARE_IOMMU_PRESENT);
        g_assert_false(with.iommu_present);
}

static void test_an_iommu_of_intel_tells_how_many_address_bits_it_translates(void) {
        static const struct {
                const char *text;
                uint32_t bits;
        } cases[] = {
                { "8d2078c106f0466\n", 48 }, { "1c0000c40660462\n", 39 }, { "", 0 }, { "nonsense\n", 0 },
                { "0x12\n", 0 }, { "ffffffffffffffff\n", 64 }, { "1ffffffffffffffff\n", 0 },
        };
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_link(mock, "sys/bus/pci/devices/0000:41:00.0/iommu", "/sys/devices/virtual/iommu/dmar1");
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                mock_file(mock, "sys/devices/virtual/iommu/dmar1/intel-iommu/cap", cases[i].text);
                _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
                g_assert_cmpuint(reading.facts.iommu_address_bits, ==, cases[i].bits);
                g_assert_null(reading.facts.unreadable);
        }
}

static void test_a_region_for_which_there_was_no_room_is_told(void) {
        _cleanup_(mock_sysfs_freep) MockSysfs *mock = mock_with_h100();
        mock_attribute_set(mock, "0000:41:00.0", "resource",
                           "0x00002000a2000000 0x00002000a2ffffff 0x000000000014220c\n"
                           "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                           "0x0000000000000000 0x0000001fffffffff 0x000000002014220c");
        _cleanup_(device_reading_clear) DeviceReading reading = read_device(mock, "0000:41:00.0");
        const GpuFacts *gpu = &reading.facts;
        g_assert_false(gpu->bars[0].unassigned || gpu->bars[1].unassigned);
        g_assert_true(gpu->bars[2].unassigned && gpu->bars[2].prefetchable_64);
        g_assert_cmpuint(gpu->bars[2].size, ==, 128 * GIB);
}

/* A configuration space with an Express capability at 0x60 and, extended, ACS and a serial number. */
static void make_config(uint8_t bytes[static PCI_CONFIG_SIZE], uint8_t port_type, uint16_t acs_control,
                        uint64_t serial) {
        memset(bytes, 0, PCI_CONFIG_SIZE);
        bytes[0] = 0xde;
        bytes[1] = 0x10;
        bytes[0x06] = 0x10;
        bytes[0x34] = 0x60;
        bytes[0x60] = 0x10;
        bytes[0x62] = (uint8_t) (port_type << 4 | 2);
        const uint32_t extended[] = { 0x1401000d, (uint32_t) acs_control << 16 | 0x5f, 0 };
        const uint32_t number[] = { 0x00010003, (uint32_t) serial, (uint32_t) (serial >> 32) };
        memcpy(bytes + 0x100, extended, sizeof(extended));
        memcpy(bytes + 0x140, number, sizeof(number));
}

static void test_config_space_tells_port_acs_and_serial(void) {
        uint8_t bytes[PCI_CONFIG_SIZE];
        PciConfig config;
        make_config(bytes, PCI_PORT_SWITCH_DOWNSTREAM, 0x1d, 0x00112233aabbccddULL);
        pci_config_parse(bytes, sizeof(bytes), &config);
        g_assert_true(config.is_express && config.has_acs && config.acs_isolates && config.has_serial);
        g_assert_cmpuint(config.port_type, ==, PCI_PORT_SWITCH_DOWNSTREAM);
        g_assert_cmphex(config.serial, ==, 0x00112233aabbccddULL);

        make_config(bytes, PCI_PORT_ROOT, 0x1c, UINT64_MAX);
        pci_config_parse(bytes, sizeof(bytes), &config);
        g_assert_false(config.acs_isolates);
        g_assert_false(config.has_serial);
}

static void test_config_space_that_loops_or_is_garbage_ends(void) {
        uint8_t bytes[PCI_CONFIG_SIZE];
        PciConfig config;
        make_config(bytes, 0, 0, 1);
        bytes[0x60] = 0x01;
        bytes[0x61] = 0x60;                     /* the list leads back to itself */
        bytes[0x102] = 0x01;
        bytes[0x103] = 0x10;                    /* so does the extended one */
        pci_config_parse(bytes, sizeof(bytes), &config);
        g_assert_false(config.is_express);

        for (unsigned round = 0; round < 2000; round++) {
                size_t n = (size_t) g_test_rand_int_range(0, sizeof(bytes) + 1);
                g_autofree uint8_t *random = g_malloc(n + 1);
                for (size_t i = 0; i < n; i++)
                        random[i] = (uint8_t) g_test_rand_int_range(0, 256);
                pci_config_parse(random, n, &config);
        }
}

static void test_config_space_tells_interrupts(void) {
        uint8_t bytes[PCI_CONFIG_SIZE];
        PciConfig config;
        make_config(bytes, PCI_PORT_ENDPOINT, 0, 1);
        bytes[0x3d] = 1;
        pci_config_parse(bytes, sizeof(bytes), &config);
        g_assert_true(config.has_capabilities && !config.has_messages);
        g_assert_cmpuint(config.interrupt_pin, ==, 1);

        /* Behind the Express capability in the list. */
        static const uint8_t capabilities[] = { 0x05, 0x11 };
        for (size_t i = 0; i < ELEMENTS(capabilities); i++) {
                bytes[0x61] = 0x80;
                bytes[0x80] = capabilities[i];
                pci_config_parse(bytes, sizeof(bytes), &config);
                g_assert_true(config.is_express && config.has_messages);
        }
        /* What everybody may read does not tell. */
        pci_config_parse(bytes, PCI_CONFIG_HEADER_SIZE, &config);
        g_assert_false(config.has_capabilities);
}

static void add_hex(GString *text, const char *prefix, const uint8_t *bytes, size_t size) {
        g_string_append(text, prefix);
        for (size_t i = 0; i < size; i++)
                g_string_append_printf(text, "%02x", bytes[i]);
        g_string_append_c(text, '\n');
}

/* What the probe would say of a device with @size bytes of configuration space. */
static ProbeAnswer answer_of(const uint8_t *bytes, size_t size, const uint8_t *bridge, size_t bridge_size) {
        GString *text = g_string_new(NULL);
        add_hex(text, "config ", bytes, size);
        if (bridge)
                add_hex(text, "bridge 0000:02:00.0 ", bridge, bridge_size);
        g_string_append(text, "end\n");
        ProbeAnswer answer = {};
        g_assert_cmpint(probe_answer_parse(text->str, text->len, &answer), ==, 0);
        (void) g_string_free(text, TRUE);
        return answer;
}

static void test_what_kind_of_device_it_is_stands_in_its_express_capability(void) {
        static const struct {
                uint8_t port;
                PciKind kind;
        } cases[] = {
                { PCI_PORT_ENDPOINT, PCI_KIND_ENDPOINT },       { PCI_PORT_LEGACY_ENDPOINT, PCI_KIND_LEGACY_ENDPOINT },
                { PCI_PORT_INTEGRATED, PCI_KIND_INTEGRATED },   { PCI_PORT_ROOT, PCI_KIND_UNKNOWN },
                { 15, PCI_KIND_UNKNOWN },
        };
        uint8_t bytes[PCI_CONFIG_SIZE];
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                make_config(bytes, cases[i].port, 0, 1);
                _cleanup_(probe_answer_clear) ProbeAnswer answer = answer_of(bytes, sizeof(bytes), NULL, 0);
                g_assert_cmpint(answer.facts.kind, ==, cases[i].kind);
                g_assert_cmpint(answer.facts.interrupts, ==, INTERRUPTS_NONE);
        }
        make_config(bytes, 0, 0, 1);
        bytes[0x06] = 0;                        /* no capabilities at all */
        bytes[0x3d] = 2;
        _cleanup_(probe_answer_clear) ProbeAnswer old = answer_of(bytes, PCI_CONFIG_CONVENTIONAL_SIZE, NULL, 0);
        g_assert_cmpint(old.facts.kind, ==, PCI_KIND_CONVENTIONAL);
        g_assert_cmpint(old.facts.interrupts, ==, INTERRUPTS_LINE);
        _cleanup_(probe_answer_clear) ProbeAnswer little = answer_of(bytes, PCI_CONFIG_HEADER_SIZE, NULL, 0);
        g_assert_cmpint(little.facts.kind, ==, PCI_KIND_UNKNOWN);
        g_assert_cmpint(little.facts.interrupts, ==, INTERRUPTS_UNKNOWN);
        memset(bytes, 0xff, sizeof(bytes));
        _cleanup_(probe_answer_clear) ProbeAnswer gone = answer_of(bytes, sizeof(bytes), NULL, 0);
        g_assert_cmpint(gone.facts.kind, ==, PCI_KIND_UNKNOWN);
        g_assert_cmpint(gone.facts.interrupts, ==, INTERRUPTS_UNKNOWN);
}

static void test_bridges_to_conventional_pci_are_told(void) {
        uint8_t bytes[PCI_CONFIG_SIZE], bridge[PCI_CONFIG_SIZE];
        make_config(bytes, 0, 0, 1);
        make_config(bridge, PCI_PORT_TO_CONVENTIONAL, 0, 1);
        _cleanup_(probe_answer_clear) ProbeAnswer express = answer_of(bytes, 256, bridge, sizeof(bridge));
        g_assert_cmpstr(express.facts.conventional_at, ==, "0000:02:00.0");
        g_assert_false(express.facts.acs_missing);

        make_config(bridge, PCI_PORT_ROOT, 0x1d, 1);
        _cleanup_(probe_answer_clear) ProbeAnswer port = answer_of(bytes, 256, bridge, sizeof(bridge));
        g_assert_null(port.facts.conventional_at);
        /* Too little was read to say that there is no Express capability. */
        bridge[0x06] = 0;
        _cleanup_(probe_answer_clear) ProbeAnswer little = answer_of(bytes, 256, bridge, PCI_CONFIG_HEADER_SIZE);
        g_assert_null(little.facts.conventional_at);
        _cleanup_(probe_answer_clear) ProbeAnswer conventional = answer_of(bytes, 256, bridge, 256);
        g_assert_cmpstr(conventional.facts.conventional_at, ==, "0000:02:00.0");
}

static char *answer_with_config(uint8_t port_type, uint16_t acs_control) {
        GString *text = g_string_new("config ");
        uint8_t bytes[PCI_CONFIG_SIZE];
        make_config(bytes, 0, 0x1d, 0x0102030405060708ULL);
        for (size_t i = 0; i < sizeof(bytes); i++)
                g_string_append_printf(text, "%02x", bytes[i]);
        g_string_append(text, "\nbridge 0000:40:01.0 ");
        make_config(bytes, port_type, acs_control, 0);
        for (size_t i = 0; i < sizeof(bytes); i++)
                g_string_append_printf(text, "%02x", bytes[i]);
        g_string_append(text, "\nholder 812 host nvidia-persiste\nholder 4711 vfio qemu system\n");
        g_string_append(text, "news of tomorrow\nend\n");
        return g_string_free(text, FALSE);
}

static void test_an_answer_of_the_probe_is_understood(void) {
        g_autofree char *text = answer_with_config(PCI_PORT_ROOT, 0);
        _cleanup_(probe_answer_clear) ProbeAnswer answer = {};
        g_assert_cmpint(probe_answer_parse(text, strlen(text), &answer), ==, 0);
        g_assert_true(answer.facts.holders_known);
        g_assert_cmpuint(answer.facts.n_holders, ==, 2);
        g_assert_cmpstr(answer.facts.holders[0].name, ==, "nvidia-persiste");
        g_assert_false(answer.facts.holders[0].through_vfio);
        g_assert_cmpstr(answer.facts.holders[1].name, ==, "qemu system");
        g_assert_true(answer.facts.holders[1].through_vfio);
        g_assert_cmpstr(answer.facts.identity.serial, ==, "0102030405060708");
        g_assert_cmpint(answer.facts.config, ==, CONFIG_READABLE);
        g_assert_true(answer.facts.acs_missing);
        g_assert_cmpstr(answer.facts.acs_missing_at, ==, "0000:40:01.0");
}

static void test_bridges_with_acs_and_upstream_ports_miss_nothing(void) {
        static const struct {
                uint8_t port;
                uint16_t control;
        } fine[] = { { PCI_PORT_ROOT, 0x1d }, { PCI_PORT_SWITCH_UPSTREAM, 0 } };
        for (size_t i = 0; i < ELEMENTS(fine); i++) {
                g_autofree char *text = answer_with_config(fine[i].port, fine[i].control);
                _cleanup_(probe_answer_clear) ProbeAnswer answer = {};
                g_assert_cmpint(probe_answer_parse(text, strlen(text), &answer), ==, 0);
                g_assert_false(answer.facts.acs_missing);
        }
}

static void test_an_answer_without_end_is_none(void) {
        static const char *const texts[] = { "", "\n", "holder 1 host init\n", "config 00\n", "en", "end " };
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                ProbeAnswer untouched = { .facts.n_holders = 7 };
                g_assert_cmpint(probe_answer_parse(texts[i], strlen(texts[i]), &untouched), ==, -EBADMSG);
                g_assert_cmpuint(untouched.facts.n_holders, ==, 7);
        }
}

static void test_answers_of_any_bytes_are_harmless(void) {
        static const char *const pieces[] = {
                "config ", "bridge ", "holder ", "end\n", "\n", "0000:40:01.0 ", "ffffffff", "12 host ",
                "9999999999999999999 ", "\xff\xfe", "vfio ", " ",
        };
        for (unsigned round = 0; round < 5000; round++) {
                GString *text = g_string_new(NULL);
                for (int i = g_test_rand_int_range(0, 30); i > 0; i--)
                        g_string_append(text, pieces[g_test_rand_int_range(0, ELEMENTS(pieces))]);
                _cleanup_(probe_answer_clear) ProbeAnswer answer = {};
                (void) probe_answer_parse(text->str, text->len, &answer);
                for (size_t i = 0; i < answer.facts.n_holders; i++)
                        g_assert_true(!answer.facts.holders[i].name || text_is_printable(answer.facts.holders[i].name));
                (void) g_string_free(text, TRUE);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/udev-reader/" #name, test_##name)
        TEST(an_h100_is_read_whole);
        TEST(the_functions_of_a_card_are_known_with_their_drivers);
        TEST(functions_of_the_card_in_other_groups_are_its_functions_too);
        TEST(two_gpus_behind_one_switch_have_the_same_upstream_port);
        TEST(a_renumbered_bus_leaves_the_slot_path_as_it_was);
        TEST(slot_paths_of_odd_places);
        TEST(a_device_that_is_not_there_is_not_present);
        TEST(a_device_of_another_class_is_no_gpu_but_its_group_is_told);
        TEST(groups_without_an_iommu_behind_them_are_none);
        TEST(only_direct_reserved_regions_count);
        TEST(virtual_functions_are_counted_and_are_no_companions);
        TEST(mediated_devices_are_seen_on_their_parent_only);
        TEST(usb_devices_are_seen_on_controllers_that_go_along_only);
        TEST(mig_is_seen_by_its_instances);
        TEST(memory_and_vbios_are_what_the_driver_tells);
        TEST(config_space_of_all_ones_is_told);
        TEST(a_sleeping_device_is_not_woken);
        TEST(a_device_that_failed_to_wake_says_so);
        TEST(what_hangs_behind_the_lock_of_a_device_is_never_read);
        TEST(attributes_of_any_bytes_are_harmless);
        TEST(attributes_of_a_megabyte_are_harmless);
        TEST(attributes_that_are_missing_leave_the_facts_unknown);
        TEST(attributes_that_are_folders_or_loops_are_missing);
        TEST(links_never_lead_out_of_the_root);
        TEST(text_is_made_printable_line_by_line);
        TEST(numbers_are_read_in_both_bases_and_nothing_else);
        TEST(a_host_is_read_whole);
        TEST(a_host_of_which_nothing_can_be_read_is_unknown);
        TEST(a_virtual_machine_is_known_by_flag_and_maker);
        TEST(groups_alone_show_an_iommu_unless_vfio_made_them);
        TEST(a_vfio_module_that_can_be_loaded_will_do);
        TEST(modules_that_may_not_be_looked_at_are_left_to_libvirt);
        TEST(interrupts_that_are_not_remapped_are_seen_where_an_iommu_could);
        TEST(of_the_command_line_only_what_decides_about_vfio_is_kept);
        TEST(a_command_line_of_any_bytes_is_harmless);
        TEST(firmware_shows_its_iommu_by_a_table);
        TEST(an_iommu_of_intel_tells_how_many_address_bits_it_translates);
        TEST(a_region_for_which_there_was_no_room_is_told);
        TEST(config_space_tells_interrupts);
        TEST(what_kind_of_device_it_is_stands_in_its_express_capability);
        TEST(bridges_to_conventional_pci_are_told);
        TEST(config_space_tells_port_acs_and_serial);
        TEST(config_space_that_loops_or_is_garbage_ends);
        TEST(an_answer_of_the_probe_is_understood);
        TEST(bridges_with_acs_and_upstream_ports_miss_nothing);
        TEST(an_answer_without_end_is_none);
        TEST(answers_of_any_bytes_are_harmless);
#undef TEST
        return g_test_run();
}
