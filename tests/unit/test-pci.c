/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>

#include "core/pci.h"
#include "util/array.h"

static PciAddress address_of(const char *text) {
        PciAddress address;
        g_assert_cmpint(pci_address_from_text(text, &address), ==, 0);
        return address;
}

static void assert_refused(const char *text) {
        PciAddress address = { .domain = 7, .bus = 7, .device = 7, .function = 7 };
        g_assert_cmpint(pci_address_from_text(text, &address), ==, -EINVAL);
        g_assert_cmpuint(address.domain, ==, 7);
        g_assert_cmpuint(address.function, ==, 7);
}

static void test_an_address_is_taken_apart(void) {
        PciAddress address = address_of("0000:41:1f.7");
        g_assert_cmpuint(address.domain, ==, 0);
        g_assert_cmpuint(address.bus, ==, 0x41);
        g_assert_cmpuint(address.device, ==, 31);
        g_assert_cmpuint(address.function, ==, 7);
}

static void test_text_of_an_address_is_what_it_was_made_of(void) {
        static const char *const texts[] = {
                "0000:00:00.0", "0000:41:00.0", "ffff:ff:1f.7", "10000:e0:01.0", "ffffffff:ff:1f.7",
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                char text[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(address_of(texts[i]), text);
                g_assert_cmpstr(text, ==, texts[i]);
        }
}

static void test_capital_digits_are_taken_and_small_ones_given(void) {
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(address_of("0000:AF:1C.3"), text);
        g_assert_cmpstr(text, ==, "0000:af:1c.3");
}

static void test_what_is_no_address_is_refused_and_touches_nothing(void) {
        static const char *const texts[] = {
                "", " ", "41:00.0", "000:41:00.0", "000000000:41:00.0", "0000:4:00.0", "0000:411:00.0", "0000:41:0.0",
                "0000:41:20.0", "0000:41:00.8", "0000:41:00.", "0000:41:00.00", "0000:41:00", "0000:41:00.0 ",
                " 0000:41:00.0", "0000:41:00.0\n", "0000:41:00.0.0", "0x00:41:00.0", "0000:-1:00.0", "0000:+1:00.0",
                "0000:41:00:0", "0000.41.00.0", "gggg:41:00.0", "0000::00.0", "0000:41:00.g",
                "\xff\xff\xff\xff:41:00.0",
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_refused(texts[i]);
}

static void test_addresses_are_ordered_by_number_and_not_by_text(void) {
        static const char *const ordered[] = {
                "0000:00:00.0", "0000:00:00.1", "0000:00:01.0", "0000:01:00.0", "0001:00:00.0", "ffff:00:00.0",
                "10000:00:00.0",
        };
        for (size_t i = 0; i < ELEMENTS(ordered); i++)
                for (size_t j = 0; j < ELEMENTS(ordered); j++) {
                        int c = pci_address_compare(address_of(ordered[i]), address_of(ordered[j]));
                        g_assert_cmpint(c < 0, ==, i < j);
                        g_assert_cmpint(c > 0, ==, i > j);
                }
        g_assert_true(pci_address_equal(address_of("0000:41:00.0"), address_of("0000:41:00.0")));
}

static void test_an_address_out_of_range_is_still_written_within_its_room(void) {
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text((PciAddress) { .domain = UINT32_MAX, .bus = 255, .device = 255, .function = 255 }, text);
        g_assert_cmpstr(text, ==, "ffffffff:ff:1f.7");
}

static void test_a_gpu_is_known_by_its_class(void) {
        static const uint32_t gpus[] = { 0x030000, 0x030200, 0x038000, 0x120000, 0x1200ff };
        static const uint32_t others[] = { 0x000000, 0x030100, 0x040300, 0x060400, 0x020000, 0x118000, 0x120100,
                                           0xffffff };
        for (size_t i = 0; i < ELEMENTS(gpus); i++)
                g_assert_true(pci_class_is_gpu(gpus[i]));
        for (size_t i = 0; i < ELEMENTS(others); i++)
                g_assert_false(pci_class_is_gpu(others[i]));
}

static void test_bridges_and_companions_are_known_by_their_class(void) {
        g_assert_true(pci_class_is_bridge(0x060400));
        g_assert_true(pci_class_is_bridge(0x060000));
        g_assert_false(pci_class_is_bridge(0x030000));
        g_assert_true(pci_class_is_companion(0x040300));
        g_assert_true(pci_class_is_companion(0x0c0330));
        g_assert_true(pci_class_is_companion(0x0c8000));
        g_assert_false(pci_class_is_companion(0x020000));
        g_assert_false(pci_class_is_companion(0x0c0500));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/pci/" #name, test_##name)
        TEST(an_address_is_taken_apart);
        TEST(text_of_an_address_is_what_it_was_made_of);
        TEST(capital_digits_are_taken_and_small_ones_given);
        TEST(what_is_no_address_is_refused_and_touches_nothing);
        TEST(addresses_are_ordered_by_number_and_not_by_text);
        TEST(an_address_out_of_range_is_still_written_within_its_room);
        TEST(a_gpu_is_known_by_its_class);
        TEST(bridges_and_companions_are_known_by_their_class);
#undef TEST
        return g_test_run();
}
