/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/survey.h"
#include "util/array.h"

#define MIB (1024ULL * 1024)
#define GIB (1024ULL * MIB)

/* A host on which everything works. */
static NodeFacts good_host(void) {
        return (NodeFacts) {
                .cpu_model = (char *) "Intel(R) Xeon(R) Platinum 8480+",
                .kernel = (char *) "6.1.0-26-amd64",
                .address_bits = 46,
                .iommu_present = true,
                .vfio_present = true,
                .interrupt_remapping = true,
                .interrupt_remapping_known = true,
        };
}

static GpuFacts card(const char *address, uint16_t vendor, uint16_t device, uint32_t class, const char *driver) {
        GpuFacts gpu = {
                .identity = { .slot = "pci0000:40/01.0/00.0", .vendor = vendor, .device = device },
                .class = class,
                .iommu_group = 42,
                .numa_node = 0,
                .reset_methods_known = true,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
        };
        g_assert_cmpint(pci_address_from_text(address, &gpu.address), ==, 0);
        g_assert_cmpint(text_set(&gpu.driver, driver), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.reset_methods, "flr"), ==, 0);
        return gpu;
}

static void add_function(GpuFacts *gpu, const char *address, uint32_t class, const char *driver,
                         const char *description) {
        PciFunction function = { .class = class };
        g_assert_cmpint(pci_address_from_text(address, &function.address), ==, 0);
        function.same_slot = function.address.bus == gpu->address.bus && function.address.device == gpu->address.device;
        g_assert_cmpint(text_set(&function.driver, driver), ==, 0);
        g_assert_cmpint(text_set(&function.description, description), ==, 0);
        g_assert_cmpint(gpu_facts_add_function(gpu, function), ==, 0);
}

static void add_holder(GpuFacts *gpu, uint32_t pid, const char *name, bool through_vfio) {
        GpuHolder holder = { .pid = pid, .through_vfio = through_vfio };
        g_assert_cmpint(text_set(&holder.name, name), ==, 0);
        g_assert_cmpint(gpu_facts_add_holder(gpu, holder), ==, 0);
}

/* An H100 in a server, bound to its host driver, below a bridge that is in its group. */
static GpuFacts h100(void) {
        GpuFacts gpu = card("0000:41:00.0", 0x10de, 0x2331, 0x030200, "nvidia");
        gpu.bars[0] = (GpuBar) { .start = 0x1000000, .size = 16 * MIB, .prefetchable_64 = true };
        gpu.bars[2] = (GpuBar) { .start = 0x20000000000, .size = 128 * GIB, .prefetchable_64 = true };
        gpu.bars[4] = (GpuBar) { .start = 0x30000000000, .size = 32 * MIB, .prefetchable_64 = true };
        add_function(&gpu, "0000:40:01.0", 0x060400, "pcieport", NULL);
        return gpu;
}

/* A GeForce: VGA, sound, USB and UCSI in one group, each with its driver. */
static GpuFacts geforce(void) {
        GpuFacts gpu = card("0000:01:00.0", 0x10de, 0x2204, 0x030000, "nouveau");
        gpu.bars[0] = (GpuBar) { .start = 0xf0000000, .size = 16 * MIB };
        gpu.bars[1] = (GpuBar) { .start = 0x6000000000, .size = 256 * MIB, .prefetchable_64 = true };
        add_function(&gpu, "0000:01:00.1", 0x040300, "snd_hda_intel", "NVIDIA GA102 High Definition Audio Controller");
        add_function(&gpu, "0000:01:00.2", 0x0c0330, "xhci_hcd", NULL);
        add_function(&gpu, "0000:01:00.3", 0x0c8000, "nvidia-gpu", NULL);
        return gpu;
}

/* What the survey finds, and a way to look at it. */
static Blockers survey(const NodeFacts *host, GpuFacts *gpu) {
        Blockers blockers = {};
        g_assert_cmpint(survey_gpu(host, gpu, &blockers), ==, 0);
        for (size_t i = 0; i < blockers.n; i++) {
                g_assert_true(text_is_printable(blockers.items[i].sentence));
                g_assert_true(text_is_printable(blockers.items[i].remedy));
                g_assert_cmpuint(strlen(blockers.items[i].sentence), >, 10);
                g_assert_cmpuint(strlen(blockers.items[i].remedy), >, 10);
        }
        gpu_facts_clear(gpu);
        return blockers;
}

static const Blocker *only(const Blockers *blockers, BlockerCode code) {
        g_assert_cmpuint(blockers->n, ==, 1);
        g_assert_cmpstr(blocker_code_to_text(blockers->items[0].code), ==, blocker_code_to_text(code));
        return &blockers->items[0];
}

static void assert_says(const char *text, const char *part) {
        if (!strstr(text, part))
                g_error("\"%s\" does not say \"%s\"", text, part);
}

static void assert_assignable(const NodeFacts *host, GpuFacts gpu) {
        Blockers blockers = survey(host, &gpu);
        for (size_t i = 0; i < blockers.n; i++)
                g_test_message("%s", blockers.items[i].sentence);
        g_assert_cmpuint(blockers.n, ==, 0);
        blockers_clear(&blockers);
}

static void assert_blocked(const NodeFacts *host, GpuFacts gpu, BlockerCode code, const char *sentence,
                           const char *remedy) {
        Blockers blockers = survey(host, &gpu);
        const Blocker *blocker = only(&blockers, code);
        assert_says(blocker->sentence, sentence);
        assert_says(blocker->remedy, remedy);
        blockers_clear(&blockers);
}

static void test_a_server_gpu_on_its_host_driver_is_assignable(void) {
        NodeFacts host = good_host();
        assert_assignable(&host, h100());
}

static void test_the_other_functions_of_its_card_are_not_in_the_way(void) {
        NodeFacts host = good_host();
        assert_assignable(&host, geforce());
}

static void test_a_gpu_without_driver_or_on_vfio_is_assignable_without_the_probe(void) {
        NodeFacts host = good_host();
        static const char *const drivers[] = { NULL, "vfio-pci", "vfio-pci-nvgrace", "pci-stub" };
        for (size_t i = 0; i < ELEMENTS(drivers); i++) {
                GpuFacts gpu = card("0000:41:00.0", 0x10de, 0x2331, 0x030200, drivers[i]);
                gpu.holders_known = false;
                assert_assignable(&host, gpu);
        }
}

static void test_without_iommu_an_intel_host_is_told_its_kernel_parameter(void) {
        NodeFacts host = good_host();
        host.iommu_present = false;
        GpuFacts gpu = h100();
        gpu.iommu_group = -1;
        assert_blocked(&host, gpu, BLOCKER_NO_IOMMU, "no IOMMU", "intel_iommu=on iommu=pt");
}

static void test_without_iommu_an_amd_host_is_not_told_of_intel(void) {
        NodeFacts host = good_host();
        host.iommu_present = false;
        host.cpu_model = (char *) "AMD EPYC 9654 96-Core Processor";
        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "no IOMMU", "AMD-Vi");
}

static void test_without_iommu_and_cpu_model_there_is_still_a_remedy(void) {
        NodeFacts host = good_host();
        host.iommu_present = false;
        host.cpu_model = NULL;
        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "no IOMMU", "firmware setup");
}

static void test_without_vfio_the_kernel_is_named(void) {
        NodeFacts host = good_host();
        host.vfio_present = false;
        assert_blocked(&host, h100(), BLOCKER_NO_VFIO, "6.1.0-26-amd64", "CONFIG_VFIO_PCI");
}

static void test_interrupt_remapping_blocks_only_when_it_is_known_to_be_off(void) {
        NodeFacts host = good_host();
        host.interrupt_remapping = false;
        assert_blocked(&host, h100(), BLOCKER_NO_INTERRUPT_REMAPPING, "interrupt remapping is off", "intremap=off");
        host.interrupt_remapping_known = false;
        assert_assignable(&host, h100());
}

static TextList words(const char *a, const char *b) {
        TextList list = {};
        g_assert_cmpint(text_list_add(&list, a), ==, 0);
        if (b)
                g_assert_cmpint(text_list_add(&list, b), ==, 0);
        return list;
}

static void test_an_iommu_that_a_kernel_parameter_keeps_off_is_told_with_it(void) {
        static const struct {
                const char *first, *second, *told;
        } cases[] = {
                { "intel_iommu=off", NULL, "intel_iommu=off" },
                { "iommu=pt", "amd_iommu=off", "amd_iommu=off" },
                { "intel_iommu=on,sm_on", "iommu=soft,off", "iommu=soft,off" },
                { "intel_iommu=off", "intel_iommu=on", NULL },
                { "intel_iommu=on", "intel_iommu=sm_off", NULL },
                { "iommu", "iommufd=off", NULL },
        };
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                NodeFacts host = good_host();
                host.iommu_present = false;
                host.boot_parameters = words(cases[i].first, cases[i].second);
                if (cases[i].told) {
                        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, cases[i].told, "off the kernel command line");
                        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "the kernel was booted with", cases[i].told);
                } else
                        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "no IOMMU is at work on the host, so", "VT-d");
                text_list_clear(&host.boot_parameters);
        }
}

static void test_an_iommu_that_only_the_kernel_leaves_unused_needs_no_firmware_setup(void) {
        NodeFacts host = good_host();
        host.iommu_present = false;
        host.firmware_iommu = FIRMWARE_IOMMU_PRESENT;
        GpuFacts gpu = h100();
        Blockers blockers = survey(&host, &gpu);
        const Blocker *blocker = only(&blockers, BLOCKER_NO_IOMMU);
        assert_says(blocker->sentence, "the firmware shows one, and the kernel does not use it");
        assert_says(blocker->remedy, "intel_iommu=on iommu=pt");
        g_assert_null(strstr(blocker->remedy, "VT-d"));
        blockers_clear(&blockers);

        host.firmware_iommu = FIRMWARE_IOMMU_ABSENT;
        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "the firmware shows none", "VT-d");
}

static void test_a_host_that_is_a_virtual_machine_needs_a_virtual_iommu(void) {
        NodeFacts host = good_host();
        host.iommu_present = false;
        host.virtualization = (char *) "kvm";
        assert_blocked(&host, h100(), BLOCKER_NO_IOMMU, "no IOMMU", "<iommu model='intel'>");
}

static void test_interrupt_remapping_that_a_kernel_parameter_keeps_off_is_told_with_it(void) {
        static const char *const parameters[] = { "intremap=off", "nointremap" };
        for (size_t i = 0; i < ELEMENTS(parameters); i++) {
                NodeFacts host = good_host();
                host.interrupt_remapping = false;
                host.boot_parameters = words(parameters[i], NULL);
                g_autofree char *sentence = g_strdup_printf("booted with %s)", parameters[i]);
                g_autofree char *remedy = g_strdup_printf("take %s off", parameters[i]);
                assert_blocked(&host, h100(), BLOCKER_NO_INTERRUPT_REMAPPING, sentence, remedy);
                text_list_clear(&host.boot_parameters);
        }
}

static void test_groups_that_the_kernel_was_told_to_invent_block_where_a_bridge_lacks_acs(void) {
        NodeFacts host = good_host();
        host.boot_parameters = words("pcie_acs_override=downstream,multifunction", NULL);
        GpuFacts gpu = h100();
        gpu.interrupts = INTERRUPTS_MESSAGES;
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.acs_missing = true;
        g_assert_cmpint(text_set(&gpu.acs_missing_at, "0000:40:01.0"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_ACS_OVERRIDE,
                       "pcie_acs_override=downstream,multifunction, so its IOMMU group says nothing: the bridge "
                       "0000:40:01.0", "boot without pcie_acs_override");
        /* Without the probe nothing is known of the bridges. */
        gpu = card("0000:41:00.0", 0x10de, 0x2331, 0x030200, "vfio-pci");
        gpu.holders_known = false;
        assert_blocked(&host, gpu, BLOCKER_ACS_OVERRIDE, "gpupool-probe does not answer", "");
        text_list_clear(&host.boot_parameters);
}

static void test_a_bridge_without_acs_is_no_blocker_where_the_group_is_the_gpus_alone(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.acs_missing = true;
        g_assert_cmpint(text_set(&gpu.acs_missing_at, "0000:40:01.0"), ==, 0);
        assert_assignable(&host, gpu);
}

static void test_conventional_pci_is_blocked_behind_its_bridge_only(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.kind = PCI_KIND_CONVENTIONAL;
        gpu.interrupts = INTERRUPTS_MESSAGES;
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.kind = PCI_KIND_CONVENTIONAL;
        gpu.interrupts = INTERRUPTS_MESSAGES;
        g_assert_cmpint(text_set(&gpu.conventional_at, "0000:02:00.0"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_CONVENTIONAL_PCI, "behind the bridge 0000:02:00.0", "PCI Express");
}

static void test_below_a_conventional_bridge_acs_is_not_blamed(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:42:00.0", 0x020000, NULL, NULL);
        gpu.acs_missing = true;
        g_assert_cmpint(text_set(&gpu.acs_missing_at, "0000:40:01.0"), ==, 0);
        g_assert_cmpint(text_set(&gpu.conventional_at, "0000:41:00.0"), ==, 0);
        Blockers blockers = survey(&host, &gpu);
        g_assert_cmpuint(blockers.n, ==, 2);
        g_assert_cmpint(blockers.items[0].code, ==, BLOCKER_GROUP_SHARED);
        g_assert_null(strstr(blockers.items[0].sentence, "ACS"));
        g_assert_null(strstr(blockers.items[0].remedy, "ACS"));
        g_assert_cmpint(blockers.items[1].code, ==, BLOCKER_CONVENTIONAL_PCI);
        blockers_clear(&blockers);
}

static void test_endpoints_of_all_kinds_of_pci_express_are_assignable_whatever_their_interrupts(void) {
        static const PciKind kinds[] = {
                PCI_KIND_UNKNOWN, PCI_KIND_ENDPOINT, PCI_KIND_LEGACY_ENDPOINT, PCI_KIND_INTEGRATED,
        };
        static const Interrupts interrupts[] = {
                INTERRUPTS_UNKNOWN, INTERRUPTS_NONE, INTERRUPTS_LINE, INTERRUPTS_MESSAGES,
        };
        NodeFacts host = good_host();
        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                for (size_t k = 0; k < ELEMENTS(interrupts); k++) {
                        GpuFacts gpu = h100();
                        gpu.kind = kinds[i];
                        gpu.interrupts = interrupts[k];
                        assert_assignable(&host, gpu);
                }
}

static void test_an_integrated_gpu_is_not_told_to_move(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.kind = PCI_KIND_INTEGRATED;
        add_function(&gpu, "0000:42:00.0", 0x020000, NULL, NULL);
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED, "0000:42:00.0", "plug the other device into a slot");
}

static void test_a_line_that_may_not_be_silenced_blocks_and_no_interrupt_at_all_does_not(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.kind = PCI_KIND_CONVENTIONAL;
        gpu.interrupts = INTERRUPTS_LINE;
        assert_blocked(&host, gpu, BLOCKER_LINE_INTERRUPTS, "INTx", "MSI");
        gpu = h100();
        gpu.kind = PCI_KIND_CONVENTIONAL;
        gpu.interrupts = INTERRUPTS_NONE;
        assert_assignable(&host, gpu);
}

static void test_regions_without_an_address_are_told_with_their_sizes(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.bars[0].unassigned = true;
        gpu.bars[2].unassigned = true;
        assert_blocked(&host, gpu, BLOCKER_BAR_UNASSIGNED, "memory region 0 (16 MiB), 2 (128 GiB)",
                       "Above 4G Decoding");
}

static void test_an_iommu_with_fewer_address_bits_than_the_cpu_sets_the_window(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.iommu_address_bits = 39;
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.iommu_address_bits = 37;
        assert_blocked(&host, gpu, BLOCKER_BAR_TOO_LARGE,
                       "128 GiB and the window of a guest behind its IOMMU (37 address bits) can be 64 GiB",
                       "Resizable BAR");
        gpu = h100();
        gpu.iommu_address_bits = 57;
        assert_assignable(&host, gpu);
}

static void test_a_gpu_without_group_is_blocked(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.iommu_group = -1;
        assert_blocked(&host, gpu, BLOCKER_NO_GROUP, "no IOMMU group", "slot behind the IOMMU");
}

static void test_memory_reserved_by_firmware_blocks(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        g_assert_cmpint(text_list_add(&gpu.reserved_regions, "0x7b800000 0x7d7fffff direct"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_RESERVED_MEMORY, "0x7b800000", "firmware");
}

static void test_a_network_card_in_the_group_is_named_with_its_driver(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:42:00.0", 0x020000, "mlx5_core", "Mellanox ConnectX-6 Dx");
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED,
                       "group 42 also holds 0000:42:00.0 (Mellanox ConnectX-6 Dx, driver mlx5_core)",
                       "driverctl set-override 0000:42:00.0 pci-stub");
}

/* What gpupool-bind would refuse to take, it refuses each time. */
static void test_what_the_host_may_live_on_is_in_the_way_on_the_gpus_own_card_too(void) {
        static const uint32_t classes[] = { 0x010802, 0x020000, 0x050000, 0x088000, 0x0b4000, 0x0d1100 };
        NodeFacts host = good_host();
        for (size_t i = 0; i < ELEMENTS(classes); i++) {
                GpuFacts gpu = h100();
                add_function(&gpu, "0000:41:00.2", classes[i], "hpilo", NULL);
                assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED, "group 42 also holds 0000:41:00.2 (a ",
                               "driverctl set-override 0000:41:00.2 pci-stub");
                gpu = h100();
                add_function(&gpu, "0000:41:00.2", classes[i], "pci-stub", NULL);
                assert_assignable(&host, gpu);
                gpu = h100();
                add_function(&gpu, "0000:41:00.2", classes[i], "hpilo", NULL);
                gpu.functions[1].other_group = true;
                assert_assignable(&host, gpu);
        }
}

static void test_missing_acs_is_told_with_the_bridge(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:42:00.0", 0x020000, NULL, NULL);
        gpu.acs_missing = true;
        g_assert_cmpint(text_set(&gpu.acs_missing_at, "0000:40:01.0"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED,
                       "0000:42:00.0 (a network card); the bridge 0000:40:01.0 above it lacks ACS", "switch on ACS");
}

static void test_many_strangers_in_the_group_are_counted(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        for (int i = 2; i < 9; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                (void) snprintf(address, sizeof(address), "0000:4%d:00.0", i);
                add_function(&gpu, address, 0x010802, "nvme", NULL);
        }
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED,
                       "0000:44:00.0 (a storage controller, driver nvme) and 4 more", "");
}

static void test_another_gpu_in_the_group_is_a_stranger(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:42:00.0", 0x030200, "vfio-pci", NULL);
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED, "0000:42:00.0 (a display device, driver vfio-pci)", "");
}

static void test_bridges_stay_and_a_parked_device_is_no_stranger(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:40:00.0", 0x060000, "skx_uncore", NULL);
        add_function(&gpu, "0000:40:02.0", 0x068000, NULL, NULL);
        add_function(&gpu, "0000:42:00.0", 0x020000, "pci-stub", NULL);
        assert_assignable(&host, gpu);
}

static void test_a_switch_of_nvlinks_with_a_driver_is_a_stranger(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_function(&gpu, "0000:42:00.0", 0x068000, "nvidia-nvswitch", NULL);
        assert_blocked(&host, gpu, BLOCKER_GROUP_SHARED, "(a bridge, driver nvidia-nvswitch)", "");
}

static void test_the_console_is_blocked(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = card("0000:03:00.0", 0x1a03, 0x2000, 0x030000, "ast");
        gpu.boot_vga = true;
        assert_blocked(&host, gpu, BLOCKER_BOOT_DISPLAY, "console", "firmware setup");
}

static void test_what_the_host_has_plugged_into_the_card_is_in_the_way(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = geforce();
        g_assert_cmpint(text_list_add(&gpu.usb_devices, "1-2 (Kingston DataTraveler)"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_USB_IN_USE, "USB device 1-2 (Kingston DataTraveler)", "not the card's");
        gpu = geforce();
        for (unsigned i = 1; i < 7; i++) {
                char name[8];
                (void) snprintf(name, sizeof(name), "1-2.%u", i);
                g_assert_cmpint(text_list_add(&gpu.usb_devices, name), ==, 0);
        }
        assert_blocked(&host, gpu, BLOCKER_USB_IN_USE, "USB device 1-2.1, 1-2.2, 1-2.3 and 3 more", "");
}

static void test_holders_are_named_and_their_service_is_the_remedy(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_holder(&gpu, 812, "nvidia-persiste", false);
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "nvidia-persiste (pid 812)",
                       "systemctl disable --now nvidia-persistenced");
        gpu = h100();
        add_holder(&gpu, 2210, "nv-fabricmanage", false);
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "nv-fabricmanage (pid 2210)",
                       "systemctl disable --now nvidia-fabricmanager");
}

static void test_everything_that_holds_it_is_ended_in_one_round(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_holder(&gpu, 812, "nvidia-persiste", false);
        add_holder(&gpu, 637, "sleep", false);
        add_holder(&gpu, 813, "nv-fabricmanage", false);
        add_holder(&gpu, 814, "nv-fabricmanage", false);
        add_holder(&gpu, 4711, "qemu-system-x86", true);
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "sleep (pid 637)",
                       "stop the persistence daemon: systemctl disable --now nvidia-persistenced; stop the fabric "
                       "manager: systemctl disable --now nvidia-fabricmanager; end the others: kill 637, or stop the "
                       "service that runs it");
}

static void test_many_holders_are_counted(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        for (uint32_t pid = 1; pid <= 10; pid++)
                add_holder(&gpu, pid, "python3", false);
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "python3 (pid 3) and 7 more",
                       "end them: kill 1 2 3 and 7 more, or stop the services that run them");
}

static void test_a_vm_that_holds_it_through_vfio_is_the_registrys_business(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = card("0000:41:00.0", 0x10de, 0x2331, 0x030200, "vfio-pci");
        add_holder(&gpu, 4711, "qemu-system-x86", true);
        assert_assignable(&host, gpu);
}

static void test_a_driver_in_user_space_that_holds_it_through_vfio_blocks(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = card("0000:41:00.0", 0x10de, 0x2331, 0x030200, "vfio-pci");
        add_holder(&gpu, 4711, "nova-driver", true);
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "nova-driver (pid 4711)",
                       "end it: kill 4711, or stop the service that runs it");
}

static void test_no_reset_method_blocks(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = card("0000:0a:00.0", 0x1002, 0x67df, 0x030000, "amdgpu");
        text_list_clear(&gpu.reset_methods);
        assert_blocked(&host, gpu, BLOCKER_NO_RESET, "no way to reset", "vendor-reset");
}

static void test_an_older_kernel_that_only_shows_a_reset_file_will_do(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        text_list_clear(&gpu.reset_methods);
        gpu.reset_methods_known = false;
        assert_assignable(&host, gpu);
}

static void test_neither_methods_nor_a_reset_file_blocks(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        text_list_clear(&gpu.reset_methods);
        gpu.reset_methods_known = gpu.has_reset = false;
        assert_blocked(&host, gpu, BLOCKER_NO_RESET, "no way to reset", "");
}

static void test_regions_up_to_half_the_address_space_fit(void) {
        NodeFacts host = good_host();
        host.address_bits = 39;
        GpuFacts gpu = h100();
        gpu.bars[2].size = 256 * GIB - 48 * MIB;
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.bars[2].size = 256 * GIB;
        assert_blocked(&host, gpu, BLOCKER_BAR_TOO_LARGE, "39 address bits", "Resizable BAR");
}

static void test_regions_below_four_gib_have_their_own_limit(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.bars[1].size = BARS_BELOW_4G_MAX;
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.bars[1].size = BARS_BELOW_4G_MAX;
        gpu.bars[5].size = 4096;
        assert_blocked(&host, gpu, BLOCKER_BAR_TOO_LARGE, "below 4 GiB", "");
}

static void test_absurd_regions_and_address_bits_are_judged_all_the_same(void) {
        NodeFacts host = good_host();
        host.address_bits = 200;
        GpuFacts gpu = h100();
        gpu.bars[1].size = UINT64_MAX;
        gpu.bars[2].size = UINT64_MAX;
        assert_blocked(&host, gpu, BLOCKER_BAR_TOO_LARGE, "below 4 GiB", "");
        host.address_bits = 0;
        assert_assignable(&host, h100());
}

static void test_a_gpu_that_is_divided_is_not_whole(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.sriov_vfs = 4;
        assert_blocked(&host, gpu, BLOCKER_SRIOV, "4 virtual functions", "0000:41:00.0/sriov_numvfs");
        gpu = h100();
        gpu.mig_enabled = true;
        assert_blocked(&host, gpu, BLOCKER_MIG, "MIG", "nvidia-smi -i 0000:41:00.0 -mig 0");
        gpu = h100();
        gpu.mdev_in_use = true;
        assert_blocked(&host, gpu, BLOCKER_MDEV, "mediated", "/sys/class/mdev_bus/0000:41:00.0");
        gpu = h100();
        gpu.is_virtual_function = true;
        assert_blocked(&host, gpu, BLOCKER_VIRTUAL_FUNCTION, "virtual function", "");
}

static void test_a_set_of_linked_gpus_must_be_whole(void) {
        NodeFacts host = good_host();
        GpuFacts here = { .address = { .bus = 0x42 } };
        host.gpus = &here;
        host.n_gpus = 1;
        GpuFacts gpu = h100();
        g_assert_cmpint(text_list_add(&gpu.siblings, "0000:42:00.0"), ==, 0);
        assert_assignable(&host, gpu);
        gpu = h100();
        g_assert_cmpint(text_list_add(&gpu.siblings, "0000:42:00.0"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.siblings, "0000:43:00.0"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_FABRIC, "set of 3 linked GPUs of which 0000:43:00.0 is missing", "dmesg");
}

static void test_a_gpu_that_sleeps_for_good_is_blocked_and_one_that_only_sleeps_is_not(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        g_assert_cmpint(text_set(&gpu.power_state, "D3cold"), ==, 0);
        assert_assignable(&host, gpu);
        gpu = h100();
        gpu.runtime_error = true;
        assert_blocked(&host, gpu, BLOCKER_ASLEEP, "asleep",
                       "echo on > /sys/bus/pci/devices/0000:41:00.0/power/control");
}

static void test_a_gpu_that_fell_off_the_bus_is_blocked(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.config = CONFIG_ALL_ONES;
        assert_blocked(&host, gpu, BLOCKER_OFF_THE_BUS, "all ones", "switch the host off and on");
}

static void test_a_gpu_that_is_removed_while_a_vm_has_it_is_blocked_and_one_without_driver_is_not(void) {
        NodeFacts host = good_host();
        for (unsigned round = 0; round < 3; round++) {
                GpuFacts gpu = geforce();
                for (size_t i = 0; i < gpu.n_functions; i++)
                        g_assert_cmpint(text_set(&gpu.functions[i].driver, round == 0 && i == 0 ? NULL : "vfio-pci"),
                                        ==, 0);
                g_assert_cmpint(text_set(&gpu.driver, round == 0 ? "vfio-pci" : NULL), ==, 0);
                if (round == 2) {
                        assert_assignable(&host, gpu);
                        continue;
                }
                add_holder(&gpu, 1, "qemu-system-x86", true);
                assert_blocked(&host, gpu, BLOCKER_BEING_REMOVED, round == 0 ? "has 0000:01:00.1" : "has 0000:01:00.0",
                               "virsh destroy");
        }
}

static void test_a_gpu_whose_binding_hangs_or_failed_is_blocked_with_the_reason(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.stuck = strdup("taking it from the host's driver hangs in the kernel");
        assert_blocked(&host, gpu, BLOCKER_STUCK, "hangs in the kernel",
                       "gpupoolctl gpu release 0000:41:00.0");
        gpu = h100();
        gpu.unbindable = strdup("nvidia-persiste (pid 812) has 0000:41:00.0 open");
        assert_blocked(&host, gpu, BLOCKER_UNBINDABLE, "pid 812",
                       "end it: kill 812, or stop the service that runs it");
        gpu = h100();
        gpu.unbindable = strdup("vfio-pci does not take 0000:41:00.0: Input/output error");
        assert_blocked(&host, gpu, BLOCKER_UNBINDABLE, "does not take", "dmesg");
}

static void test_who_holds_it_is_not_told_twice(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        add_holder(&gpu, 637, "sleep", false);
        gpu.unbindable = strdup("sleep (pid 637) has 0000:41:00.0 open");
        assert_blocked(&host, gpu, BLOCKER_IN_USE, "sleep (pid 637)", "kill 637");
}

static void test_config_space_that_cannot_be_read_here_is_no_blocker(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.config = CONFIG_UNKNOWN;
        assert_assignable(&host, gpu);
}

static void test_a_gpu_on_a_host_driver_whose_holders_are_not_known_is_blocked(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        gpu.holders_known = false;
        assert_blocked(&host, gpu, BLOCKER_UNREADABLE, "driver nvidia", "gpupool-probe.socket");
}

static void test_a_gpu_that_hangs_is_blocked_and_its_last_facts_are_still_judged(void) {
        NodeFacts host = good_host();
        GpuFacts gpu = h100();
        g_assert_cmpint(text_set(&gpu.unreadable, "config"), ==, 0);
        assert_blocked(&host, gpu, BLOCKER_UNREADABLE, "does not answer about it (config)", "dmesg");
}

static void test_of_a_gpu_never_read_only_that_is_told_and_what_is_true_of_the_host(void) {
        NodeFacts host = good_host();
        host.vfio_present = false;
        GpuFacts gpu = { .iommu_group = -1, .numa_node = -1 };
        Blockers blockers = survey(&host, &gpu);
        g_assert_cmpuint(blockers.n, ==, 2);
        g_assert_cmpint(blockers.items[0].code, ==, BLOCKER_NO_VFIO);
        g_assert_cmpint(blockers.items[1].code, ==, BLOCKER_UNREADABLE);
        blockers_clear(&blockers);
}

static void test_all_blockers_are_told_in_order_and_each_once(void) {
        NodeFacts host = {
                .iommu_present = true,
                .interrupt_remapping_known = true,
                .boot_parameters = words("pcie_acs_override", NULL),
        };
        GpuFacts gpu = {
                .identity = { .vendor = 0xffff },
                .iommu_group = -1,
                .boot_vga = true,
                .bars = { { .size = UINT64_MAX, .unassigned = true } },
                .kind = PCI_KIND_CONVENTIONAL,
                .interrupts = INTERRUPTS_LINE,
                .sriov_vfs = 1,
                .is_virtual_function = true,
                .mdev_in_use = true,
                .mig_enabled = true,
                .runtime_error = true,
                .config = CONFIG_ALL_ONES,
        };
        add_function(&gpu, "0000:42:00.0", 0x020000, NULL, NULL);
        add_holder(&gpu, 1, NULL, false);
        add_holder(&gpu, 2, NULL, true);
        g_assert_cmpint(text_list_add(&gpu.reserved_regions, "0x0 0x1 direct"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.siblings, "nonsense"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.usb_devices, "1-2"), ==, 0);
        g_assert_cmpint(text_set(&gpu.conventional_at, "0000:41:00.0"), ==, 0);
        gpu.acs_missing = true;
        g_assert_cmpint(text_set(&gpu.stuck, "its driver does not let go of it"), ==, 0);
        g_assert_cmpint(text_set(&gpu.unbindable, "its driver does not let go of it"), ==, 0);
        Blockers blockers = survey(&host, &gpu);
        /* One is about a host without IOMMU, and that a try failed is not told while somebody holds it. */
        g_assert_cmpuint(blockers.n, ==, BLOCKER_CODE_COUNT - 2);
        for (size_t i = 0; i < blockers.n; i++)
                g_assert_cmpint(blockers.items[i].code, ==, i + 1 + (i + 1 >= BLOCKER_UNBINDABLE));
        blockers_clear(&blockers);
        text_list_clear(&host.boot_parameters);
}

static void test_every_code_has_name_meaning_and_remedy_for_the_manual(void) {
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT; code++) {
                BlockerCode back;
                g_assert_nonnull(blocker_code_meaning(code));
                g_assert_nonnull(blocker_code_remedy(code));
                g_assert_cmpint(blocker_code_from_text(blocker_code_to_text(code), &back), ==, 0);
                g_assert_cmpint(back, ==, code);
        }
        BlockerCode untouched = BLOCKER_MIG;
        g_assert_cmpint(blocker_code_from_text("no-such", &untouched), ==, -EINVAL);
        g_assert_cmpint(untouched, ==, BLOCKER_MIG);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/survey/" #name, test_##name)
        TEST(a_server_gpu_on_its_host_driver_is_assignable);
        TEST(the_other_functions_of_its_card_are_not_in_the_way);
        TEST(a_gpu_without_driver_or_on_vfio_is_assignable_without_the_probe);
        TEST(without_iommu_an_intel_host_is_told_its_kernel_parameter);
        TEST(without_iommu_an_amd_host_is_not_told_of_intel);
        TEST(without_iommu_and_cpu_model_there_is_still_a_remedy);
        TEST(without_vfio_the_kernel_is_named);
        TEST(interrupt_remapping_blocks_only_when_it_is_known_to_be_off);
        TEST(an_iommu_that_a_kernel_parameter_keeps_off_is_told_with_it);
        TEST(an_iommu_that_only_the_kernel_leaves_unused_needs_no_firmware_setup);
        TEST(a_host_that_is_a_virtual_machine_needs_a_virtual_iommu);
        TEST(interrupt_remapping_that_a_kernel_parameter_keeps_off_is_told_with_it);
        TEST(groups_that_the_kernel_was_told_to_invent_block_where_a_bridge_lacks_acs);
        TEST(a_bridge_without_acs_is_no_blocker_where_the_group_is_the_gpus_alone);
        TEST(conventional_pci_is_blocked_behind_its_bridge_only);
        TEST(below_a_conventional_bridge_acs_is_not_blamed);
        TEST(endpoints_of_all_kinds_of_pci_express_are_assignable_whatever_their_interrupts);
        TEST(an_integrated_gpu_is_not_told_to_move);
        TEST(a_line_that_may_not_be_silenced_blocks_and_no_interrupt_at_all_does_not);
        TEST(regions_without_an_address_are_told_with_their_sizes);
        TEST(an_iommu_with_fewer_address_bits_than_the_cpu_sets_the_window);
        TEST(a_gpu_without_group_is_blocked);
        TEST(memory_reserved_by_firmware_blocks);
        TEST(a_network_card_in_the_group_is_named_with_its_driver);
        TEST(what_the_host_may_live_on_is_in_the_way_on_the_gpus_own_card_too);
        TEST(missing_acs_is_told_with_the_bridge);
        TEST(many_strangers_in_the_group_are_counted);
        TEST(another_gpu_in_the_group_is_a_stranger);
        TEST(bridges_stay_and_a_parked_device_is_no_stranger);
        TEST(a_switch_of_nvlinks_with_a_driver_is_a_stranger);
        TEST(the_console_is_blocked);
        TEST(what_the_host_has_plugged_into_the_card_is_in_the_way);
        TEST(holders_are_named_and_their_service_is_the_remedy);
        TEST(everything_that_holds_it_is_ended_in_one_round);
        TEST(many_holders_are_counted);
        TEST(a_vm_that_holds_it_through_vfio_is_the_registrys_business);
        TEST(a_driver_in_user_space_that_holds_it_through_vfio_blocks);
        TEST(no_reset_method_blocks);
        TEST(an_older_kernel_that_only_shows_a_reset_file_will_do);
        TEST(neither_methods_nor_a_reset_file_blocks);
        TEST(regions_up_to_half_the_address_space_fit);
        TEST(regions_below_four_gib_have_their_own_limit);
        TEST(absurd_regions_and_address_bits_are_judged_all_the_same);
        TEST(a_gpu_that_is_divided_is_not_whole);
        TEST(a_set_of_linked_gpus_must_be_whole);
        TEST(a_gpu_that_sleeps_for_good_is_blocked_and_one_that_only_sleeps_is_not);
        TEST(a_gpu_that_fell_off_the_bus_is_blocked);
        TEST(a_gpu_that_is_removed_while_a_vm_has_it_is_blocked_and_one_without_driver_is_not);
        TEST(a_gpu_whose_binding_hangs_or_failed_is_blocked_with_the_reason);
        TEST(who_holds_it_is_not_told_twice);
        TEST(config_space_that_cannot_be_read_here_is_no_blocker);
        TEST(a_gpu_on_a_host_driver_whose_holders_are_not_known_is_blocked);
        TEST(a_gpu_that_hangs_is_blocked_and_its_last_facts_are_still_judged);
        TEST(of_a_gpu_never_read_only_that_is_told_and_what_is_true_of_the_host);
        TEST(all_blockers_are_told_in_order_and_each_once);
        TEST(every_code_has_name_meaning_and_remedy_for_the_manual);
#undef TEST
        return g_test_run();
}
