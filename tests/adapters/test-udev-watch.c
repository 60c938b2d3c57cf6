/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The watch on a mock sysfs, with uevents that come over netlink: plugging, pulling, binding, flapping. */

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "udev-world.h"
#include "util/array.h"

static void test_the_first_list_is_complete_and_in_order(void) {
        World w = world_of(MOCK_GEFORCE, 4);
        mock_device_add(w.mock, &MOCK_H100);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists > 0);
        g_assert_cmpuint(w.lists, ==, 1);
        g_assert_cmpuint(w.n_gpus, ==, 2);
        g_assert_cmpuint(w.gpus[0].n_functions, ==, 3);
        g_assert_cmpuint(w.gpus[1].identity.node.bytes[0], ==, 7);
        g_assert_false(w.gpus[1].holders_known);
        WAIT_UNTIL(&w, w.hosts == 1);
        world_clear(&w);
}

static void test_a_host_without_gpus_is_told_so(void) {
        World w = world_of(&NETWORK_CARD, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists == 1);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        world_clear(&w);
}

static void test_a_host_without_a_pci_bus_is_told_so(void) {
        World w = world_of(NULL, 0);
        g_autofree char *folder = g_build_filename(mock_sysfs_root(w.mock), "sys/bus/pci/devices", NULL);
        g_assert_cmpint(g_rmdir(folder), ==, 0);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists == 1);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        world_clear(&w);
}

static void test_a_gpu_that_is_plugged_in_is_told_at_once_and_then_listed(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(NULL, 0);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists == 1);

        static const char *const more[] = { "ID_MODEL_FROM_DATABASE=GH100 [H100 PCIe]", "ODD=\x01\xff", NULL };
        mock_device_add(w.mock, &MOCK_H100);
        mock_uevent(w.mock, "add", &MOCK_H100, more);
        WAIT_UNTIL(&w, w.events->len > 0);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        g_assert_cmpstr(g_ptr_array_index(w.events, 0), ==, "add 0000:41:00.0");
        g_assert_cmpstr(g_hash_table_lookup(w.last_properties, "PCI_ID"), ==, "10DE:2331");
        g_assert_cmpstr(g_hash_table_lookup(w.last_properties, "ID_MODEL_FROM_DATABASE"), ==, "GH100 [H100 PCIe]");
        g_assert_cmpstr(g_hash_table_lookup(w.last_properties, "ODD"), ==, "  ");
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_cmpstr(w.gpus[0].identity.slot, ==, "pci0000:40/01.0/00.0");
        g_assert_cmpstr(w.gpus[0].device_name, ==, "GH100 [H100 PCIe]");
        world_clear(&w);
}

static void test_without_udevd_the_kernels_own_events_are_followed(void) {
        if (skip_without_uevents())
                return;
        mock_udevd_runs(false);
        World w = world_of(NULL, 0);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists == 1);
        mock_device_add(w.mock, &MOCK_H100);
        mock_uevent(w.mock, "add", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_cmpuint(w.events->len, ==, 1);
        world_clear(&w);
        mock_udevd_runs(true);
}

static void test_a_gpu_that_is_pulled_leaves_the_list(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_device_remove(w.mock, "0000:41:00.0");
        mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.lists == 2);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        g_assert_cmpuint(count_events(&w, "remove 0000:41:00.0"), ==, 1);
        world_clear(&w);
}

static void test_a_removal_counts_although_sysfs_shows_the_device_a_moment_longer(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.lists == 2);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        world_clear(&w);
}

static void test_a_driver_that_changes_is_followed(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", "nvidia"));
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        mock_uevent(w.mock, "unbind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        mock_driver_set(w.mock, "0000:41:00.0", "vfio-pci");
        mock_uevent(w.mock, "bind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", "vfio-pci"));
        g_assert_cmpuint(w.events->len, ==, 2);
        g_assert_cmpuint(w.lists, ==, 3);
        world_clear(&w);
}

static void test_an_event_that_changes_nothing_is_told_and_the_list_is_not(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_uevent(w.mock, "change", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, w.events->len == 1);
        /* The next change shows that the last reading is over. */
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        mock_uevent(w.mock, "unbind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        g_assert_cmpuint(w.lists, ==, 2);
        world_clear(&w);
}

static void test_a_device_that_flaps_is_told_each_time_and_listed_seldom(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 300000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        gint64 begun = g_get_monotonic_time();
        for (int i = 0; i < 50; i++) {
                mock_device_remove(w.mock, "0000:41:00.0");
                mock_uevent(w.mock, "remove", &MOCK_H100, NULL);
                mock_device_add(w.mock, &MOCK_H100);
                mock_uevent(w.mock, "add", &MOCK_H100, NULL);
        }
        WAIT_UNTIL(&w, w.events->len == 100);
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        mock_uevent(w.mock, "unbind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        /* The first list, the last, and at most a few between where this machine was slow. */
        g_assert_cmpuint(w.lists, <=, 4 + (g_get_monotonic_time() - begun) / 300000);
        world_clear(&w);
}

static void test_a_companion_and_a_stranger_of_the_group_are_followed(void) {
        if (skip_without_uevents())
                return;
        MockDevice devices[] = { MOCK_H100, NETWORK_CARD };
        World w = world_of(devices, 2);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].n_functions == 1);
        mock_driver_set(w.mock, "0000:42:00.0", "pci-stub");
        mock_uevent(w.mock, "bind", &NETWORK_CARD, NULL);
        WAIT_UNTIL(&w, text_equal(w.gpus[0].functions[0].driver, "pci-stub"));
        g_assert_cmpuint(count_events(&w, "bind 0000:42:00.0"), ==, 1);

        MockDevice sound = MOCK_H100;
        sound.address = "0000:41:00.1";
        sound.class = 0x040300;
        mock_device_add(w.mock, &sound);
        mock_uevent(w.mock, "add", &sound, NULL);
        WAIT_UNTIL(&w, w.gpus[0].n_functions == 2);
        g_assert_cmpuint(count_events(&w, "add 0000:41:00.1"), ==, 1);
        world_clear(&w);
}

static void test_a_stranger_that_joins_the_group_is_told_once_its_group_is_known(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_device_add(w.mock, &NETWORK_CARD);
        mock_uevent(w.mock, "add", &NETWORK_CARD, NULL);
        WAIT_UNTIL(&w, w.gpus[0].n_functions == 1);
        g_assert_cmpuint(count_events(&w, "add 0000:42:00.0"), ==, 1);
        mock_device_remove(w.mock, "0000:42:00.0");
        mock_uevent(w.mock, "remove", &NETWORK_CARD, NULL);
        WAIT_UNTIL(&w, w.gpus[0].n_functions == 0);
        g_assert_cmpuint(count_events(&w, "remove 0000:42:00.0"), ==, 1);
        world_clear(&w);
}

static void test_the_sound_function_that_comes_before_its_gpu_is_told_too(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(NULL, 0);
        start_watch(&w);
        WAIT_UNTIL(&w, w.lists == 1);
        mock_device_add(w.mock, &MOCK_GEFORCE[1]);
        mock_uevent(w.mock, "add", &MOCK_GEFORCE[1], NULL);
        mock_device_add(w.mock, &MOCK_GEFORCE[0]);
        mock_uevent(w.mock, "add", &MOCK_GEFORCE[0], NULL);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_cmpuint(w.gpus[0].n_functions, ==, 1);
        g_assert_cmpuint(count_events(&w, "add 0000:01:00.1"), ==, 1);
        g_assert_cmpuint(count_events(&w, "add 0000:01:00.0"), ==, 1);
        world_clear(&w);
}

static void test_devices_that_concern_no_gpu_are_not_told(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        mock_device_add(w.mock, &FAR_CARD);
        for (unsigned i = 0; i < 2 * UDEV_WATCH_HELD_MAX; i++)
                mock_uevent(w.mock, "add", &FAR_CARD, NULL);
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        mock_uevent(w.mock, "unbind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        g_assert_cmpuint(w.events->len, ==, 1);
        world_clear(&w);
}

static void test_uevents_of_garbage_are_harmless(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
#define BODY(text) { text, sizeof(text) - 1 }
        static const struct {
                const char *text;
                size_t size;
        } bodies[] = {
                BODY(""), BODY("ACTION=add"), BODY("=\0=\0=\0"), BODY("ACTION=add\0DEVPATH=/x\0SUBSYSTEM=pci\0"),
                BODY("SUBSYSTEM=pci\0ACTION=\xff\xff\0"),
                BODY("ACTION=add\0DEVPATH=/devices/pci0000:40/0000:41:00.9\0SUBSYSTEM=pci\0PCI_CLASS=30000\0"),
                BODY("ACTION=add\0DEVPATH=/devices/pci0000:40/0000:77:00.0\0SUBSYSTEM=pci\0"
                     "PCI_CLASS=ffffffffffffffffff\0"),
                BODY("ACTION=add\0DEVPATH=/devices/pci0000:40/0000:78:00.0\0SUBSYSTEM=pci\0PCI_CLASS=30000\0"),
        };
#undef BODY
        for (size_t i = 0; i < ELEMENTS(bodies); i++)
                mock_uevent_bytes("pci", "add", "/devices/x", bodies[i].text, bodies[i].size);
        g_autofree char *long_text = g_strnfill(7000, 'x');
        mock_uevent_bytes("pci", "add", "/devices/x", long_text, 7000);
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        mock_uevent(w.mock, "unbind", &MOCK_H100, NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        g_assert_cmpuint(w.n_gpus, ==, 1);
        world_clear(&w);
}

static void test_after_an_overflow_everything_is_looked_at_anew(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        /* The loop does not run: the socket's buffer fills, and what is behind is lost. */
        g_autofree char *long_text = g_strnfill(1500, 'x'), *filler = g_strdup_printf("FILLER=%s", long_text);
        const char *const more[] = { filler, NULL };
        for (unsigned i = 0; i < 12000; i++)
                mock_uevent(w.mock, "change", &FAR_CARD, more);
        MockDevice second = MOCK_H100;
        second.address = "0000:43:00.0";
        mock_device_add(w.mock, &second);
        mock_device_remove(w.mock, "0000:41:00.0");
        WAIT_UNTIL(&w, w.n_gpus == 1 && gpu_at(&w, "0000:43:00.0"));
        world_clear(&w);
}

static void test_names_come_from_the_hardware_database_as_soon_as_there_is_one(void) {
        if (skip_without_uevents())
                return;
        if (!mock_hardware_database(NULL, NULL, NULL)) {
                g_test_skip("no folder for a hardware database");
                return;
        }
        World w = world_of(MOCK_GEFORCE, 2);
        mock_attribute_set(w.mock, "0000:01:00.0", "modalias", "pci:v000010DEd00002204sv00000000sd00000000bc03sc00i00");
        mock_attribute_set(w.mock, "0000:01:00.1", "modalias", "pci:v000010DEd00001AEFsv00000000sd00000000bc04sc03i00");
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_null(w.gpus[0].vendor_name);
        g_assert_true(mock_hardware_database("pci:v000010DE*", "NVIDIA Corporation", "GA102 \x02[GeForce]"));
        udev_watch_rescan(w.watch);
        WAIT_UNTIL(&w, w.gpus[0].vendor_name);
        g_assert_cmpstr(w.gpus[0].vendor_name, ==, "NVIDIA Corporation");
        g_assert_cmpstr(w.gpus[0].device_name, ==, "GA102  [GeForce]");
        g_assert_cmpstr(w.gpus[0].functions[0].description, ==, "NVIDIA Corporation GA102  [GeForce]");
        world_clear(&w);
        g_assert_true(mock_hardware_database(NULL, NULL, NULL));
}

static void test_what_no_event_tells_is_seen_at_the_next_look(void) {
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .recheck_us = 50000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        uint8_t ones[64];
        memset(ones, 0xff, sizeof(ones));
        mock_attribute_set_bytes(w.mock, "0000:41:00.0", "config", ones, sizeof(ones));
        WAIT_UNTIL(&w, w.gpus[0].config == CONFIG_ALL_ONES);
        mock_file(w.mock, "sys/bus/pci/drivers/vfio-pci/bind", "");
        WAIT_UNTIL(&w, w.hosts >= 2);
        world_clear(&w);
}

static void test_gpus_of_one_hive_are_siblings(void) {
        MockDevice a = MOCK_H100, b = MOCK_H100, c = MOCK_H100;
        b.address = "0000:42:00.0";
        c.address = "0000:43:00.0";
        MockDevice devices[] = { a, b, c };
        World w = world_of(devices, 3);
        mock_attribute_set(w.mock, a.address, "xgmi_hive_info/xgmi_hive_id", "9382");
        mock_attribute_set(w.mock, b.address, "xgmi_hive_info/xgmi_hive_id", "9382");
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 3);
        g_assert_cmpuint(w.gpus[0].siblings.n, ==, 1);
        g_assert_cmpstr(w.gpus[0].siblings.items[0], ==, "0000:42:00.0");
        g_assert_cmpstr(w.gpus[1].siblings.items[0], ==, "0000:41:00.0");
        g_assert_cmpuint(w.gpus[2].siblings.n, ==, 0);
        world_clear(&w);
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
#define TEST(name) g_test_add_func("/udev-watch/" #name, test_##name)
        TEST(the_first_list_is_complete_and_in_order);
        TEST(a_host_without_gpus_is_told_so);
        TEST(a_host_without_a_pci_bus_is_told_so);
        TEST(a_gpu_that_is_plugged_in_is_told_at_once_and_then_listed);
        TEST(without_udevd_the_kernels_own_events_are_followed);
        TEST(a_gpu_that_is_pulled_leaves_the_list);
        TEST(a_removal_counts_although_sysfs_shows_the_device_a_moment_longer);
        TEST(a_driver_that_changes_is_followed);
        TEST(an_event_that_changes_nothing_is_told_and_the_list_is_not);
        TEST(a_device_that_flaps_is_told_each_time_and_listed_seldom);
        TEST(a_companion_and_a_stranger_of_the_group_are_followed);
        TEST(a_stranger_that_joins_the_group_is_told_once_its_group_is_known);
        TEST(the_sound_function_that_comes_before_its_gpu_is_told_too);
        TEST(devices_that_concern_no_gpu_are_not_told);
        TEST(uevents_of_garbage_are_harmless);
        TEST(after_an_overflow_everything_is_looked_at_anew);
        TEST(names_come_from_the_hardware_database_as_soon_as_there_is_one);
        TEST(what_no_event_tells_is_seen_at_the_next_look);
        TEST(gpus_of_one_hive_are_siblings);
#undef TEST
        return g_test_run();
}
