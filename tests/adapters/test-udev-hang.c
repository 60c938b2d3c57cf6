/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The watch on devices that do not answer: each is told as such, and nothing else waits for it. */

#include <errno.h>

#include "adapters/udev/reader.h"
#include "udev-world.h"

static void test_a_device_that_hangs_is_told_as_such_and_the_others_go_on(void) {
        World w = world_of(MOCK_GEFORCE, 4);
        mock_device_add(w.mock, &MOCK_H100);
        mock_attribute_hang(w.mock, "0000:01:00.0", "config");
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        /* What hangs for a moment is unreadable for a moment. */
        WAIT_UNTIL(&w, w.n_gpus == 2 && is_unreadable(&w, "0000:01:00.0", "config"));
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", "nvidia"));
        g_assert_cmpstr(gpu_at(&w, "0000:01:00.0")->identity.slot, ==, "pci0000:00/01.0/00.0");
        g_assert_cmpuint(gpu_at(&w, "0000:01:00.0")->identity.device, ==, 0x2204);
        mock_attribute_release(w.mock, "0000:01:00.0", "config", "\x01");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:01:00.0", NULL));
        g_assert_true(has_driver(&w, "0000:01:00.0", "nouveau"));
        world_clear(&w);
}

static void test_a_gpu_that_comes_and_cannot_be_read_is_still_of_this_node_and_at_its_place(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(NULL, 0);
        start_watch_with(&w, (UdevWatchConfig) { .node = { { 7 } }, .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, w.lists == 1);
        mock_device_add(w.mock, &MOCK_H100);
        mock_attribute_hang(w.mock, "0000:41:00.0", "class");
        mock_uevent(w.mock, "add", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "class"));
        g_assert_cmpuint(w.gpus[0].identity.node.bytes[0], ==, 7);
        g_assert_true(pci_address_equal(w.gpus[0].identity.address, w.gpus[0].address));
        mock_attribute_release(w.mock, "0000:41:00.0", "class", "0x030200");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        world_clear(&w);
}

static void test_a_card_that_cannot_be_read_is_not_shown_as_the_one_that_was_there_before(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        g_assert_cmpuint(w.gpus[0].identity.vendor, ==, 0x10de);
        mock_device_remove(w.mock, "0000:41:00.0");
        mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
        mock_device_add(w.mock, &MOCK_H100);
        mock_attribute_hang(w.mock, "0000:41:00.0", "class");
        mock_uevent(w.mock, "add", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "class"));
        g_assert_cmpuint(w.gpus[0].identity.vendor, ==, 0);
        g_assert_null(w.gpus[0].driver);
        mock_attribute_release(w.mock, "0000:41:00.0", "class", "0x030200");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        world_clear(&w);
}

static void test_a_device_that_comes_to_hang_keeps_its_last_facts(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        g_assert_true(has_driver(&w, "0000:41:00.0", "nvidia"));
        mock_attribute_hang(w.mock, "0000:41:00.0", "power_state");
        mock_uevent(w.mock, "change", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "power_state"));
        g_assert_true(has_driver(&w, "0000:41:00.0", "nvidia"));
        mock_attribute_release(w.mock, "0000:41:00.0", "power_state", "D0");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        g_assert_cmpstr(w.gpus[0].power_state, ==, "D0");
        world_clear(&w);
}

static void test_a_stranger_that_hangs_is_named(void) {
        MockDevice devices[] = { MOCK_H100, NETWORK_CARD };
        World w = world_of(devices, 2);
        mock_attribute_hang(w.mock, "0000:42:00.0", "vendor");
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "vendor of 0000:42:00.0"));
        mock_attribute_release(w.mock, "0000:42:00.0", "vendor", "0x15b3");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        world_clear(&w);
}

static void test_a_class_that_hangs_stops_no_scan(void) {
        MockDevice devices[] = { MOCK_H100, FAR_CARD };
        World w = world_of(devices, 2);
        mock_attribute_hang(w.mock, "0000:99:00.0", "class");
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_attribute_release(w.mock, "0000:99:00.0", "class", "0x030000");
        WAIT_UNTIL(&w, w.n_gpus == 2);
        world_clear(&w);
}

/* As the kernel has it while a VM has the last function of a card that is being removed. */
static void test_a_removal_that_waits_is_seen_without_an_event_and_nothing_is_read_that_hangs_then(void) {
        World w = world_of(&MOCK_H100, 1);
        MockDevice sound = MOCK_H100;
        sound.address = "0000:41:00.1";
        sound.class = 0x040300;
        mock_device_add(w.mock, &sound);
        mock_driver_set(w.mock, "0000:41:00.0", "vfio-pci");
        mock_driver_set(w.mock, "0000:41:00.1", "vfio-pci");
        start_watch_with(&w, (UdevWatchConfig) {
                .coalesce_us = 10000, .read_deadline_us = 20000, .recheck_us = 50000,
        });
        WAIT_UNTIL(&w, w.n_gpus == 1 && gpu_facts_count_drivers(&w.gpus[0]).on_vfio == 2);
        mock_attribute_hang(w.mock, "0000:41:00.1", "uevent");
        mock_attribute_hang(w.mock, "0000:41:00.1", "driver_override");
        mock_driver_set(w.mock, "0000:41:00.1", NULL);
        WAIT_UNTIL(&w, gpu_facts_count_drivers(&w.gpus[0]).without == 1);
        /* Looks go on and end. */
        size_t hosts = w.hosts;
        mock_file(w.mock, "sys/bus/pci/drivers/vfio-pci/bind", "");
        WAIT_UNTIL(&w, w.hosts > hosts);
        g_assert_null(w.gpus[0].unreadable);
        g_assert_cmpstr(w.gpus[0].driver, ==, "vfio-pci");
        world_clear(&w);
}

static void test_more_hanging_devices_than_threads_are_all_told_and_all_come_back(void) {
        enum { GPUS = READERS_STUCK_MAX + 4 };
        World w = world_of(NULL, 0);
        char addresses[GPUS][PCI_ADDRESS_TEXT_SIZE];
        for (uint8_t i = 0; i < GPUS; i++) {
                MockDevice gpu = MOCK_H100;
                pci_address_to_text((PciAddress) { .bus = (uint8_t) (0x50 + i) }, addresses[i]);
                gpu.address = addresses[i];
                gpu.group = 50 + i;
                mock_device_add(w.mock, &gpu);
                mock_attribute_hang(w.mock, addresses[i], "config");
        }
        start_watch_with(&w, (UdevWatchConfig) {
                .coalesce_us = 10000, .read_deadline_us = 20000, .recheck_us = 200000,
        });
        WAIT_UNTIL(&w, w.n_gpus == GPUS);
        for (size_t i = 0; i < GPUS; i++)
                g_assert_nonnull(w.gpus[i].unreadable);
        for (size_t i = 0; i < GPUS; i++)
                mock_attribute_release(w.mock, addresses[i], "config", "\x01");
        for (size_t i = 0; i < GPUS; i++)
                WAIT_UNTIL(&w, is_unreadable(&w, addresses[i], NULL));
        world_clear(&w);
}

static void test_a_watch_can_be_freed_while_a_read_hangs(void) {
        World w = world_of(&MOCK_H100, 1);
        mock_attribute_hang(w.mock, "0000:41:00.0", "config");
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 50000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        w.watch = udev_watch_free(w.watch);
        mock_attribute_release(w.mock, "0000:41:00.0", "config", "\x01");

        /* And while one is only under way. */
        mock_attribute_hang(w.mock, "0000:41:00.0", "config");
        start_watch(&w);
        WAIT_UNTIL(&w, w.hosts >= 2);
        w.watch = udev_watch_free(w.watch);
        mock_attribute_release(w.mock, "0000:41:00.0", "config", "\x01");
        world_clear(&w);
}

static void test_a_gpu_pulled_while_its_read_hangs_is_gone_and_can_come_back(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 50000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_attribute_hang(w.mock, "0000:41:00.0", "config");
        mock_uevent(w.mock, "change", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "config"));
        mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.n_gpus == 0);
        mock_attribute_release(w.mock, "0000:41:00.0", "config", "\x01");
        mock_uevent(w.mock, "add", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.n_gpus == 1 && is_unreadable(&w, "0000:41:00.0", NULL));
        world_clear(&w);
}

static void test_a_refresh_is_answered_whatever_happens(void) {
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 50000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        PciAddress address = w.gpus[0].address, stranger = { .bus = 0x77 };
        g_assert_cmpint(udev_watch_refresh(w.watch, stranger), ==, -ENOENT);

        /* It hangs; it still hangs; it is gone. */
        mock_attribute_hang(w.mock, "0000:41:00.0", "config");
        g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 1);
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", "config"));
        g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 2);
        mock_attribute_release(w.mock, "0000:41:00.0", "config", "\x01");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        for (unsigned answers = 3;; answers++) {
                mock_device_remove(w.mock, "0000:41:00.0");
                g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
                WAIT_UNTIL(&w, w.refreshed == answers);
                WAIT_UNTIL(&w, w.n_gpus == 0);
                if (w.refreshed_gone)
                        break;
                /* Its reading took more than 50 ms: told as unreadable, and gone later. */
                g_assert_cmpuint(answers, <, 20);
                mock_device_add(w.mock, &MOCK_H100);
                udev_watch_rescan(w.watch);
                WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        }
        world_clear(&w);
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
#define TEST(name) g_test_add_func("/udev-hang/" #name, test_##name)
        TEST(a_device_that_hangs_is_told_as_such_and_the_others_go_on);
        TEST(a_gpu_that_comes_and_cannot_be_read_is_still_of_this_node_and_at_its_place);
        TEST(a_card_that_cannot_be_read_is_not_shown_as_the_one_that_was_there_before);
        TEST(a_device_that_comes_to_hang_keeps_its_last_facts);
        TEST(a_stranger_that_hangs_is_named);
        TEST(a_class_that_hangs_stops_no_scan);
        TEST(a_removal_that_waits_is_seen_without_an_event_and_nothing_is_read_that_hangs_then);
        TEST(more_hanging_devices_than_threads_are_all_told_and_all_come_back);
        TEST(a_watch_can_be_freed_while_a_read_hangs);
        TEST(a_gpu_pulled_while_its_read_hangs_is_gone_and_can_come_back);
        TEST(a_refresh_is_answered_whatever_happens);
#undef TEST
        return g_test_run();
}
