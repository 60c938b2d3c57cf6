/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The watch and the real probe, and a probe that is silent or not there. */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "udev-world.h"
#include "util/array.h"

/* Opens a device file of the mock's, as a program of the host would. */
static int hold(World *w, const char *path) {
        g_autofree char *full = g_build_filename(mock_sysfs_root(w->mock), path, NULL);
        int fd = open(full, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

/* Waits for the probe as short as this machine allows: where the test stood still in between, it has another try. */
static void start_impatient_watch_that_hears_the_probe(World *w) {
        for (uint64_t deadline_us = 500000;; deadline_us *= 2) {
                unsigned lists = w->lists;
                start_watch_with(w, (UdevWatchConfig) { .coalesce_us = 10000, .probe_deadline_us = deadline_us });
                WAIT_UNTIL(w, w->lists > lists && w->n_gpus == 1);
                if (w->gpus[0].holders_known)
                        return;
                g_assert_cmpuint(deadline_us, <, NOT_LATE_US);
                w->watch = udev_watch_free(w->watch);
        }
}

static void test_the_probe_names_who_holds_the_gpu(void) {
        World w = world_of(&MOCK_H100, 1);
        g_autofree char *number = NULL;
        int held = hold_terminal(&number);
        mock_attribute_set(w.mock, "0000:41:00.0", "drm/card0/dev", number);
        mock_attribute_set(w.mock, "0000:41:00.0", "drm/card0-DP-1/status", "connected");
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_true(w.gpus[0].holders_known);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 1);
        g_assert_cmpuint(w.gpus[0].holders[0].pid, ==, (uint32_t) getpid());
        g_assert_cmpstr(w.gpus[0].holders[0].name, ==, "test-udev-probe");
        g_assert_false(w.gpus[0].holders[0].through_vfio);
        (void) close(held);

        PciAddress address = w.gpus[0].address;
        g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 1);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 0);
        world_clear(&w);
}

static void test_a_holder_through_vfio_is_told_apart(void) {
        MockDevice gpu = MOCK_H100;
        gpu.driver = "vfio-pci";
        World w = world_of(&gpu, 1);
        mock_file(w.mock, "dev/vfio/42", "");
        int held = hold(&w, "dev/vfio/42");
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 1);
        g_assert_true(w.gpus[0].holders[0].through_vfio);
        (void) close(held);
        world_clear(&w);
}

/* Anybody can have a file of that name in a /dev of his own. */
static void test_a_file_that_is_called_as_the_device_is_none(void) {
        World w = world_of(&MOCK_H100, 1);
        mock_attribute_set(w.mock, "0000:41:00.0", "drm/card0/dev", "226:0");
        mock_file(w.mock, "sys/class/vfio/42/dev", "511:42");
        mock_file(w.mock, "dev/dri/card0", "");
        mock_file(w.mock, "dev/vfio/42", "");
        int held[] = { hold(&w, "dev/dri/card0"), hold(&w, "dev/vfio/42") };
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_true(w.gpus[0].holders_known);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 0);
        for (size_t i = 0; i < ELEMENTS(held); i++)
                (void) close(held[i]);
        world_clear(&w);
}

static void test_the_probe_tells_the_serial_number(void) {
        World w = world_of(&MOCK_H100, 1);
        uint8_t config[4096] = { 0xde, 0x10, 0x31, 0x23 };
        const uint32_t number[] = { 0x00010003, 0x55667788, 0x11223344 };
        memcpy(config + 0x100, number, sizeof(number));
        mock_attribute_set_bytes(w.mock, "0000:41:00.0", "config", config, sizeof(config));
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_cmpstr(w.gpus[0].identity.serial, ==, "1122334455667788");
        world_clear(&w);
}

static void test_the_probe_tells_what_kind_of_device_it_is_and_what_bridges_are_above_also_when_it_falls_silent(void) {
        static const MockDevice port = {
                .address = "0000:40:01.0", .below = "pci0000:40", .vendor = 0x1a03, .device = 0x1150, .class = 0x060400,
                .driver = "pcieport",
        };
        World w = world_of(&port, 1);
        mock_device_add(w.mock, &MOCK_H100);
        /* MSI and nothing else, and a bridge that knows no PCI Express. */
        uint8_t config[256] = { 0xde, 0x10, 0x31, 0x23, [0x06] = 0x10, [0x34] = 0x60, [0x60] = 0x05 };
        uint8_t bridge[256] = { 0x03, 0x1a, 0x50, 0x11 };
        mock_attribute_set_bytes(w.mock, "0000:41:00.0", "config", config, sizeof(config));
        mock_attribute_set_bytes(w.mock, "0000:40:01.0", "config", bridge, sizeof(bridge));
        start_probe(&w);
        start_impatient_watch_that_hears_the_probe(&w);
        for (unsigned round = 0; round < 2; round++) {
                g_assert_cmpint(w.gpus[0].kind, ==, PCI_KIND_CONVENTIONAL);
                g_assert_cmpint(w.gpus[0].interrupts, ==, INTERRUPTS_MESSAGES);
                g_assert_cmpstr(w.gpus[0].conventional_at, ==, "0000:40:01.0");
                g_assert_cmpint(w.gpus[0].holders_known, ==, round == 0);
                w.probe_is_silent = true;
                g_assert_cmpint(udev_watch_refresh(w.watch, w.gpus[0].address), ==, 0);
                WAIT_UNTIL(&w, w.refreshed == round + 1);
        }
        world_clear(&w);
}

/* So that whoever asks can tell facts that still hold from old ones. */
static void test_a_refresh_tells_when_it_was_read_though_all_is_as_it_was(void) {
        World w = world_of(&MOCK_H100, 1);
        start_probe(&w);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .probe_deadline_us = 4000000 });
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].holders_known);
        uint64_t read_us = w.gpus[0].read_us, holders_us = w.gpus[0].holders_us;
        g_assert_cmpuint(read_us, >, 0);
        g_assert_cmpuint(holders_us, >=, read_us);
        g_assert_cmpint(udev_watch_refresh(w.watch, w.gpus[0].address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 1);
        g_assert_cmpuint(w.gpus[0].read_us, >, read_us);
        g_assert_cmpuint(w.gpus[0].holders_us, >, holders_us);
        world_clear(&w);
}

static void test_who_opens_a_gpu_that_is_on_vfio_pci_is_found_by_the_next_look(void) {
        MockDevice gpu = MOCK_H100;
        gpu.driver = "vfio-pci";
        World w = world_of(&gpu, 1);
        mock_file(w.mock, "dev/vfio/42", "");
        start_probe(&w);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .probe_deadline_us = 4000000,
                                                 .recheck_us = 20000 });
        WAIT_UNTIL(&w, w.n_gpus == 1 && w.gpus[0].holders_known);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 0);
        int held = hold(&w, "dev/vfio/42");
        WAIT_UNTIL(&w, w.gpus[0].n_holders == 1);
        g_assert_true(w.gpus[0].holders[0].through_vfio);
        (void) close(held);
        world_clear(&w);
}

static void test_a_silent_probe_leaves_holders_unknown_and_is_left_alone(void) {
        World w = world_of(&MOCK_H100, 1);
        w.probe_is_silent = true;
        start_probe(&w);
        start_watch_with(&w, (UdevWatchConfig) {
                .coalesce_us = 10000, .probe_deadline_us = 50000, .recheck_us = 20000,
        });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_false(w.gpus[0].holders_known);
        g_assert_true(has_driver(&w, "0000:41:00.0", "nvidia"));
        /* Many looks later it was still asked once. */
        mock_driver_set(w.mock, "0000:41:00.0", NULL);
        WAIT_UNTIL(&w, has_driver(&w, "0000:41:00.0", NULL));
        g_assert_cmpuint(w.probes, ==, 1);
        world_clear(&w);
}

static void test_an_absent_probe_delays_nothing(void) {
        World w = world_of(&MOCK_H100, 1);
        w.socket_path = g_strdup("/nonexistent/probe.sock");
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_false(w.gpus[0].holders_known);
        world_clear(&w);
}

static void test_a_serial_number_stays_known_when_the_probe_falls_silent(void) {
        World w = world_of(&MOCK_H100, 1);
        uint8_t config[4096] = { 0xde, 0x10, 0x31, 0x23 };
        const uint32_t number[] = { 0x00010003, 1, 2 };
        memcpy(config + 0x100, number, sizeof(number));
        mock_attribute_set_bytes(w.mock, "0000:41:00.0", "config", config, sizeof(config));
        start_probe(&w);
        start_impatient_watch_that_hears_the_probe(&w);
        w.probe_is_silent = true;
        g_assert_cmpint(udev_watch_refresh(w.watch, w.gpus[0].address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 1);
        g_assert_false(w.gpus[0].holders_known);
        g_assert_cmpstr(w.gpus[0].identity.serial, ==, "0000000200000001");
        world_clear(&w);
}

static char *ask_probe(const char *question, int *ret_status) {
        MockSysfs *mock = mock_sysfs_new();
        mock_device_add(mock, &MOCK_H100);
        g_autofree char *quoted = g_shell_quote(question), *program = g_shell_quote(world_probe_program());
        g_autofree char *root = g_shell_quote(mock_sysfs_root(mock));
        g_autofree char *line = g_strdup_printf("printf %%b %s | %s --root %s", quoted, program, root);
        const char *arguments[] = { "/bin/sh", "-c", line, NULL };
        char *output;
        g_assert_true(g_spawn_sync(NULL, (char **) arguments, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL,
                                   ret_status, NULL));
        (void) mock_sysfs_free(mock);
        return output;
}

static void test_the_probe_answers_nothing_but_its_question(void) {
        static const char *const questions[] = {
                "", "\\n", "gpu\\n", "gpu \\n", "gpu 0000:41:00.0", "gpu 0000:41:00.0 \\n", "gpu ../../../etc\\n",
                "gpu 0000:41:00.0\\ngpu 0000:41:00.0\\n", "GPU 0000:41:00.0\\n", "gpu 0000:41:00.0\\000\\n",
                "gpu 0000:41:00.0000000000000000000000000000000000000000000000000000000000000000000000000000000\\n",
        };
        int status;
        for (size_t i = 0; i < ELEMENTS(questions); i++) {
                g_autofree char *output = ask_probe(questions[i], &status);
                g_assert_cmpstr(output, ==, "");
                g_assert_cmpint(status, !=, 0);
        }
        g_autofree char *output = ask_probe("gpu 0000:41:00.0\\n", &status);
        g_assert_cmpint(status, ==, 0);
        g_assert_true(g_str_has_prefix(output, "config de103123"));
        g_assert_true(g_str_has_suffix(output, "end\n"));
        g_autofree char *absent = ask_probe("gpu 0000:77:00.0\\n", &status);
        g_assert_cmpstr(absent, ==, "end\n");
}

int main(int argc, char **argv) {
        world_init(&argc, &argv);
#define TEST(name) g_test_add_func("/udev-probe/" #name, test_##name)
        TEST(the_probe_names_who_holds_the_gpu);
        TEST(a_holder_through_vfio_is_told_apart);
        TEST(a_file_that_is_called_as_the_device_is_none);
        TEST(the_probe_tells_the_serial_number);
        TEST(the_probe_tells_what_kind_of_device_it_is_and_what_bridges_are_above_also_when_it_falls_silent);
        TEST(a_refresh_tells_when_it_was_read_though_all_is_as_it_was);
        TEST(who_opens_a_gpu_that_is_on_vfio_pci_is_found_by_the_next_look);
        TEST(a_silent_probe_leaves_holders_unknown_and_is_left_alone);
        TEST(an_absent_probe_delays_nothing);
        TEST(a_serial_number_stays_known_when_the_probe_falls_silent);
        TEST(the_probe_answers_nothing_but_its_question);
#undef TEST
        return g_test_run();
}
