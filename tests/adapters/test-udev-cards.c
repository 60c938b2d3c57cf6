/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Cards as they are: device trees out of public listings, read by the reader and the real probe, and judged as an
 * expert would. .source says where the listing is, .assumed what it does not tell and had to be made up. */

#include <string.h>

#include "core/survey.h"
#include "udev-world.h"
#include "util/array.h"

#define DEVICES_MAX 10
#define CODES_MAX 4

#define NOTHING "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"

/* What stands in configuration space, as lspci says it. */
typedef enum Space {
        CONVENTIONAL,                   /* no Express capability */
        ENDPOINT,
        LEGACY_ENDPOINT,
        ROOT_PORT, UPSTREAM_PORT, DOWNSTREAM_PORT,
        TO_PCI,                         /* PCIe to PCI bridge */
} Space;

typedef struct CardDevice {
        MockDevice device;
        Space space;
        const char *hive;
} CardDevice;

typedef struct Card {
        const char *name, *source, *assumed;
        CardDevice devices[DEVICES_MAX];
        const char *link_from, *link_to;        /* one more link: a virtual function */
        const char *gpu;                        /* the one that is judged */
        const char *switch_address;             /* of the host, not of the card */
        const char *codes[CODES_MAX];
} Card;

#define ROOT(bus_, address_, vendor_, device_, group_)                                                          \
        { .device = { .address = address_, .below = "pci0000:" bus_, .vendor = vendor_, .device = device_,      \
                      .class = 0x060400, .driver = "pcieport", .group = group_ }, .space = ROOT_PORT }
#define PORT(below_, address_, vendor_, device_, group_, space_)                                                \
        { .device = { .address = address_, .below = below_, .vendor = vendor_, .device = device_,               \
                      .class = 0x060400, .driver = "pcieport", .group = group_ }, .space = space_ }

#define MAIL "https://lore.kernel.org/linux-pci/"

#define FLEX_ABOVE "pci0000:50/0000:50:02.0/0000:51:00.0/0000:52:01.0"
#define FLEX_BRIDGES                                                                                    \
        ROOT("50", "0000:50:02.0", 0x8086, 0x347a, 50),                                                 \
        PORT("pci0000:50/0000:50:02.0", "0000:51:00.0", 0x8086, 0x4fa0, 51, UPSTREAM_PORT),             \
        PORT("pci0000:50/0000:50:02.0/0000:51:00.0", "0000:52:01.0", 0x8086, 0x4fa4, 52, DOWNSTREAM_PORT)
#define FLEX(resource_)                                                                                 \
        { .device = { .address = "0000:53:00.0", .below = FLEX_ABOVE, .vendor = 0x8086, .device = 0x56c0, \
                      .class = 0x038000, .driver = "i915", .group = 53, .reset_method = "flr bus",      \
                      .resource = resource_ }, .space = ENDPOINT }

#define GEFORCE_4090(boot)                                                                              \
        ROOT("00", "0000:00:01.1", 0x1022, 0x14ab, 10),                                                 \
        { .device = { .address = "0000:01:00.0", .below = "pci0000:00/0000:00:01.1", .vendor = 0x10de,  \
                      .device = 0x2684, .subsystem_vendor = 0x1462, .subsystem_device = 0x510b,         \
                      .class = 0x030000, .driver = "nvidia", .group = 13, .reset_method = "flr bus",    \
                      .boot_vga = boot,                                                                 \
                      .resource = "0x00000000b2000000 0x00000000b2ffffff 0x0000000000040200\n"          \
                                  "0x0000028800000000 0x0000028fffffffff 0x000000000014220c\n" NOTHING  \
                                  "0x0000028400000000 0x0000028401ffffff 0x000000000014220c\n" NOTHING  \
                                  "0x0000000000003000 0x000000000000307f 0x0000000000040101\n" },       \
          .space = LEGACY_ENDPOINT },                                                                   \
        { .device = { .address = "0000:01:00.1", .below = "pci0000:00/0000:00:01.1", .vendor = 0x10de,  \
                      .device = 0x22ba, .class = 0x040300, .driver = "snd_hda_intel", .group = 13 },    \
          .space = ENDPOINT }

#define L40S                                                                                            \
        ROOT("00", "0000:00:01.1", 0x1022, 0x14ab, 20),                                                 \
        { .device = { .address = "0000:01:00.0", .below = "pci0000:00/0000:00:01.1", .vendor = 0x10de,  \
                      .device = 0x26b9, .subsystem_vendor = 0x10de, .subsystem_device = 0x1851,         \
                      .class = 0x030200, .driver = "vfio-pci", .group = 21, .reset_method = "flr bus",  \
                      .resource = "0x00000000f9000000 0x00000000f9ffffff 0x0000000000040200\n"          \
                                  "0x0000046000000000 0x0000046fffffffff 0x000000000014220c\n" NOTHING  \
                                  "0x0000048040000000 0x0000048041ffffff 0x000000000014220c\n" NOTHING  \
                                  NOTHING },                                                            \
          .space = ENDPOINT }
#define L40S_SOURCE "https://github.com/cloud-hypervisor/cloud-hypervisor/blob/main/docs/vfio.md (regions); " \
                    "https://github.com/akash-network/provider-configs/pull/99 (class, ids)"

#define MI300X_ABOVE "pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0/0000:03:00.0/0000:04:00.0"
#define MI300X(hive_)                                                                                   \
        ROOT("00", "0000:00:01.1", 0x1022, 0x14ab, 1),                                                  \
        PORT("pci0000:00/0000:00:01.1", "0000:01:00.0", 0x1000, 0xc030, 2, UPSTREAM_PORT),              \
        PORT("pci0000:00/0000:00:01.1/0000:01:00.0", "0000:02:00.0", 0x1000, 0xc030, 3, DOWNSTREAM_PORT), \
        PORT("pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0", "0000:03:00.0", 0x1022, 0x1500, 4,    \
             UPSTREAM_PORT),                                                                            \
        PORT("pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0/0000:03:00.0", "0000:04:00.0", 0x1002,  \
             0x1501, 5, DOWNSTREAM_PORT),                                                               \
        { .device = { .address = "0000:05:00.0", .below = MI300X_ABOVE, .vendor = 0x1002,               \
                      .device = 0x74a1, .class = 0x120000, .driver = "vfio-pci", .group = 6,            \
                      .reset_method = "flr bus" }, .space = ENDPOINT, .hive = hive_ }
#define MI300X_SOURCE "AMD's cluster guide, \"Mapping NIC to GPU NUMA Node\", lspci -d 1002:74a1 -PP"

static const Card cards[] = {
        {
                .name = "h100-sxm",
                .source = MAIL "CAHTA-uZD5_TAZQkxdJRt48T=aPNAKg+x1tgpadv8aDbX5f14vA@mail.gmail.com (kernel log)",
                .assumed = "the root port, the IOMMU group, reset and interrupts; the regions' addresses are a guest's",
                .devices = {
                        ROOT("40", "0000:40:01.0", 0x8086, 0x352a, 41),
                        { .device = { .address = "0000:41:00.0", .below = "pci0000:40/0000:40:01.0", .vendor = 0x10de,
                                      .device = 0x2330, .class = 0x030200, .driver = "vfio-pci", .group = 42,
                                      .reset_method = "flr bus",
                                      .resource =
                                              "0x0000386002000000 0x0000386002ffffff 0x000000000014220c\n" NOTHING
                                              "0x0000384000000000 0x0000385fffffffff 0x000000000014220c\n" NOTHING
                                              "0x0000386000000000 0x0000386001ffffff 0x000000000014220c\n" NOTHING },
                          .space = ENDPOINT },
                },
                .gpu = "0000:41:00.0",
        },
        {
                .name = "a100-pcie-40gb",
                .source = "https://github.com/kata-containers/kata-containers/pull/4358 (kernel log)",
                .assumed = "the root port, the IOMMU group, reset and interrupts; the regions' addresses are a guest's",
                .devices = {
                        ROOT("d7", "0000:d7:00.0", 0x8086, 0x2030, 100),
                        { .device = { .address = "0000:d8:00.0", .below = "pci0000:d7/0000:d7:00.0", .vendor = 0x10de,
                                      .device = 0x20f1, .subsystem_vendor = 0x10de, .subsystem_device = 0x145f,
                                      .class = 0x030200, .driver = "vfio-pci", .group = 101,
                                      .reset_method = "flr bus",
                                      .resource =
                                              "0x00000000f8000000 0x00000000f8ffffff 0x0000000000040200\n"
                                              "0x0000004000000000 0x0000004fffffffff 0x000000000014220c\n" NOTHING
                                              "0x0000003280000000 0x0000003281ffffff 0x000000000014220c\n" NOTHING
                                              NOTHING },
                          .space = ENDPOINT },
                },
                .gpu = "0000:d8:00.0",
        },
        {
                .name = "l40s",
                .source = L40S_SOURCE,
                .assumed = "the root port, the IOMMU group, reset and interrupts",
                .devices = { L40S },
                .gpu = "0000:01:00.0",
        },
        {
                .name = "l40s-with-a-vgpu-on-it",
                .source = L40S_SOURCE,
                .assumed = "as above, and the virtual function",
                .devices = { L40S },
                .link_from = "sys/bus/pci/devices/0000:01:00.0/virtfn0",
                .link_to = "../0000:01:00.4",
                .gpu = "0000:01:00.0",
                .codes = { "sriov-in-use" },
        },
        {
                .name = "rtx-4090-with-resizable-bar",
                .source = "https://github.com/tinygrad/open-gpu-kernel-modules (README: regions); "
                          "https://github.com/geerlingguy/raspberry-pi-pcie-devices/issues/504 (legacy, MSI, FLR)",
                .assumed = "the root port, the IOMMU group, and that the sound is 10de:22ba",
                .devices = { GEFORCE_4090(false) },
                .gpu = "0000:01:00.0",
        },
        {
                .name = "rtx-4090-as-console",
                .source = "as above",
                .assumed = "as above, and that the host has no other display",
                .devices = { GEFORCE_4090(true) },
                .gpu = "0000:01:00.0",
                .codes = { "boot-display" },
        },
        {
                /* By what the kernel says it is assignable. That it may not come back from its reset is seen after
                 * that: https://github.com/amd/MxGPU-Virtualization/issues/25. */
                .name = "mi300x",
                .source = MI300X_SOURCE,
                .assumed = "regions (none here), groups, reset; the host's switch is 1000:c030; the card's is from the "
                           "notes of RCCL",
                .devices = { MI300X(NULL) },
                .gpu = "0000:05:00.0",
                .switch_address = "0000:01:00.0",
        },
        {
                .name = "flex-170",
                .source = MAIL "20230130125324.GA1661790@bhelgaas (kernel bug 216795: lspci before)",
                .assumed = "IOMMU groups, reset, interrupts",
                .devices = {
                        FLEX_BRIDGES,
                        FLEX("0x0000205e1f000000 0x0000205e1fffffff 0x000000000014220c\n" NOTHING
                             "0x0000201c00000000 0x0000201fffffffff 0x000000000014220c\n" NOTHING NOTHING NOTHING),
                },
                .gpu = "0000:53:00.0",
        },
        {
                .name = "flex-170-after-a-rescan",
                .source = MAIL "20230130125324.GA1661790@bhelgaas (kernel bug 216795: lspci after)",
                .assumed = "IOMMU groups, reset, interrupts",
                .devices = {
                        FLEX_BRIDGES,
                        FLEX("0x0000000000000000 0x0000000000ffffff 0x000000002014220c\n" NOTHING
                             "0x0000000000000000 0x00000003ffffffff 0x000000002014220c\n" NOTHING NOTHING NOTHING),
                },
                .gpu = "0000:53:00.0",
                .codes = { "bar-unassigned" },
        },
        {
                .name = "aspeed-of-a-management-controller",
                .source = "https://github.com/fastfetch-cli/fastfetch/issues/1658 (the bridge at 01:00.0)",
                .assumed = "the root port, the display below the bridge, that it is the console, reset, groups",
                .devices = {
                        ROOT("00", "0000:00:1c.0", 0x8086, 0x1bb8, 7),
                        PORT("pci0000:00/0000:00:1c.0", "0000:01:00.0", 0x1a03, 0x1150, 8, TO_PCI),
                        { .device = { .address = "0000:02:00.0", .below = "pci0000:00/0000:00:1c.0/0000:01:00.0",
                                      .vendor = 0x1a03, .device = 0x2000, .class = 0x030000, .driver = "ast",
                                      .group = 8, .reset_method = "bus", .boot_vga = true,
                                      .resource = "0x0000000092000000 0x0000000092ffffff 0x0000000000040200\n" },
                          .space = CONVENTIONAL },
                },
                .gpu = "0000:02:00.0",
                .codes = { "conventional-pci", "boot-display" },
        },
};

static void put16(uint8_t *bytes, size_t offset, unsigned value) {
        bytes[offset] = (uint8_t) value;
        bytes[offset + 1] = (uint8_t) (value >> 8);
}

static void set_config(World *w, const CardDevice *card) {
        static const uint8_t port_types[] = {
                [ENDPOINT] = 0, [LEGACY_ENDPOINT] = 1, [ROOT_PORT] = 4, [UPSTREAM_PORT] = 5, [DOWNSTREAM_PORT] = 6,
                [TO_PCI] = 7,
        };
        uint8_t bytes[4096] = { [0x06] = 0x10, [0x34] = 0x68, [0x3d] = 1 };
        put16(bytes, 0, card->device.vendor);
        put16(bytes, 2, card->device.device);
        bytes[0x68] = 0x05;
        if (card->space != CONVENTIONAL) {
                bytes[0x69] = 0x78;
                bytes[0x78] = 0x10;
                put16(bytes, 0x7a, (unsigned) port_types[card->space] << 4 | 2);
        }
        if (card->space == ROOT_PORT || card->space == DOWNSTREAM_PORT) {
                put16(bytes, 0x100, 0x000d);
                put16(bytes, 0x102, 1);
                put16(bytes, 0x104, 0x5f);
                put16(bytes, 0x106, 0x1d);
        }
        mock_attribute_set_bytes(w->mock, card->device.address, "config", bytes,
                                 card->space == CONVENTIONAL ? 256 : sizeof(bytes));
}

static char *judge(const World *w, const char *address) {
        NodeFacts host = {
                .cpu_model = (char *) "Intel(R) Xeon(R) Platinum 8480C", .address_bits = 52, .iommu_present = true,
                .vfio_present = true, .interrupt_remapping = true, .interrupt_remapping_known = true,
                .gpus = w->gpus, .n_gpus = w->n_gpus,
        };
        const GpuFacts *gpu = gpu_at(w, address);
        g_assert_nonnull(gpu);
        g_assert_null(gpu->unreadable);
        Blockers blockers = {};
        g_assert_cmpint(survey_gpu(&host, gpu, &blockers), ==, 0);
        GString *codes = g_string_new(NULL);
        for (size_t i = 0; i < blockers.n; i++) {
                g_test_message("%s; %s", blockers.items[i].sentence, blockers.items[i].remedy);
                g_string_append_printf(codes, "%s ", blocker_code_to_text(blockers.items[i].code));
        }
        blockers_clear(&blockers);
        return g_string_free(codes, FALSE);
}

static void test_card(const void *data) {
        const Card *card = data;
        g_test_message("from %s; assumed: %s", card->source, card->assumed);
        World w = world_of(NULL, 0);
        for (size_t i = 0; i < DEVICES_MAX && card->devices[i].device.address; i++) {
                mock_device_add(w.mock, &card->devices[i].device);
                set_config(&w, &card->devices[i]);
                if (card->devices[i].device.class >> 8 == 0x0c03)
                        mock_usb_device(w.mock, &card->devices[i].device, NULL, NULL, NULL);
        }
        if (card->link_from)
                mock_link(w.mock, card->link_from, card->link_to);
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus > 0);
        g_assert_true(w.gpus[0].holders_known);
        g_assert_cmpstr(gpu_at(&w, card->gpu)->switch_address, ==, card->switch_address);

        GString *expected = g_string_new(NULL);
        for (size_t i = 0; i < CODES_MAX && card->codes[i]; i++)
                g_string_append_printf(expected, "%s ", card->codes[i]);
        g_autofree char *codes = judge(&w, card->gpu);
        g_assert_cmpstr(codes, ==, expected->str);
        (void) g_string_free(expected, TRUE);
        world_clear(&w);
}

static void test_what_a_4090_is_is_read_as_its_listing_says(void) {
        World w = world_of(NULL, 0);
        static const CardDevice devices[] = { GEFORCE_4090(false) };
        for (size_t i = 0; i < ELEMENTS(devices); i++) {
                mock_device_add(w.mock, &devices[i].device);
                set_config(&w, &devices[i]);
        }
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        const GpuFacts *gpu = &w.gpus[0];
        g_assert_cmpint(gpu->kind, ==, PCI_KIND_LEGACY_ENDPOINT);
        g_assert_cmpint(gpu->interrupts, ==, INTERRUPTS_MESSAGES);
        g_assert_cmpuint(gpu->bars[1].size, ==, UINT64_C(32) << 30);
        g_assert_true(gpu->bars[1].prefetchable_64 && !gpu->bars[0].prefetchable_64);
        g_assert_cmpuint(gpu->n_functions, ==, 1);
        g_assert_true(gpu->functions[0].same_slot);
        g_assert_null(gpu->conventional_at);
        g_assert_false(gpu->acs_missing);
        world_clear(&w);
}

/* Two of a hive, and then one of them is gone: the other is blocked, as the set is not whole. */
static void test_a_hive_of_which_one_is_gone_is_not_whole(void) {
        World w = world_of(NULL, 0);
        static const CardDevice first[] = { MI300X("0xa1b2c3d4e5f60718") };
        MockDevice second = first[ELEMENTS(first) - 1].device;
        second.address = "0000:2b:00.0";
        second.below = "pci0000:18/0000:18:01.1/0000:19:00.0/0000:1a:04.0/0000:29:00.0/0000:2a:00.0";
        second.group = 60;
        for (size_t i = 0; i < ELEMENTS(first); i++) {
                mock_device_add(w.mock, &first[i].device);
                set_config(&w, &first[i]);
        }
        mock_device_add(w.mock, &second);
        mock_attribute_set(w.mock, "0000:05:00.0", "xgmi_hive_info/xgmi_hive_id", first[ELEMENTS(first) - 1].hive);
        mock_attribute_set(w.mock, "0000:2b:00.0", "xgmi_hive_info/xgmi_hive_id", first[ELEMENTS(first) - 1].hive);
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 2 && w.gpus[0].siblings.n == 1);
        g_autofree char *whole = judge(&w, "0000:05:00.0");
        g_assert_cmpstr(whole, ==, "");
        gpu_facts_clear(&w.gpus[1]);
        w.n_gpus = 1;
        g_autofree char *broken = judge(&w, "0000:05:00.0");
        g_assert_cmpstr(broken, ==, "fabric ");
        world_clear(&w);
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
        for (size_t i = 0; i < ELEMENTS(cards); i++) {
                g_autofree char *path = g_strdup_printf("/udev-cards/%s", cards[i].name);
                g_test_add_data_func(path, &cards[i], test_card);
        }
#define TEST(name) g_test_add_func("/udev-cards/" #name, test_##name)
        TEST(what_a_4090_is_is_read_as_its_listing_says);
        TEST(a_hive_of_which_one_is_gone_is_not_whole);
#undef TEST
        return g_test_run();
}
