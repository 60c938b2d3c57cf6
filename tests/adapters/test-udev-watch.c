/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The watch on a folder that looks like sysfs, with uevents that come over netlink and, where it says so, the real
 * probe. Argument: the probe's program. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/udev/reader.h"
#include "adapters/udev/udev-watch.h"
#include "mock-sysfs.h"
#include "util/array.h"
#include "util/log.h"

#define DEADLINE_US (20U * 1000U * 1000U)
#define NEVER UINT64_MAX

static const char *probe_program;
static bool uevents_possible;

static const MockDevice NETWORK_CARD = {
        .address = "0000:42:00.0", .below = "pci0000:40/0000:40:01.0", .vendor = 0x15b3, .device = 0x101d,
        .class = 0x020000, .driver = "mlx5_core", .group = 42,
};
static const MockDevice FAR_CARD = {
        .address = "0000:99:00.0", .vendor = 0x15b3, .device = 0x101d, .class = 0x020000, .group = 99,
};

/* A host with a watch on it, and all that the watch told. */
typedef struct World {
        sd_event *event;
        MockSysfs *mock;
        UdevWatch *watch;
        GpuFacts *gpus;
        size_t n_gpus;
        unsigned lists;                 /* how often the list was told */
        unsigned hosts;
        NodeFacts host;
        GPtrArray *events;              /* "add 0000:41:00.0" */
        GHashTable *last_properties;
        unsigned refreshed;
        bool refreshed_gone;
        char *socket_path;              /* of the probe */
        int listener;
        sd_event_source *accept;
        bool probe_is_silent;
        unsigned probes;
        GArray *silent;                 /* connections that get no answer */
} World;

static void on_gpus(void *userdata, const GpuFacts *gpus, size_t n) {
        World *w = userdata;
        for (size_t i = 0; i < w->n_gpus; i++)
                gpu_facts_clear(&w->gpus[i]);
        w->gpus = g_renew(GpuFacts, w->gpus, n + 1);
        w->n_gpus = n;
        for (size_t i = 0; i < n; i++) {
                g_assert_cmpint(gpu_facts_copy(&gpus[i], &w->gpus[i]), ==, 0);
                g_assert_true(i == 0 || pci_address_compare(gpus[i - 1].address, gpus[i].address) < 0);
        }
        w->lists++;
}

static void on_host(void *userdata, const NodeFacts *host) {
        World *w = userdata;
        w->hosts++;
}

static void on_event(void *userdata, const DeviceEvent *event) {
        World *w = userdata;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(event->address, address);
        g_assert_cmpstr(event->subsystem, ==, "pci");
        g_ptr_array_add(w->events, g_strdup_printf("%s %s", event->action, address));
        g_hash_table_remove_all(w->last_properties);
        for (size_t i = 0; i < event->n_properties; i++)
                g_hash_table_insert(w->last_properties, g_strdup(event->properties[i].key),
                                    g_strdup(event->properties[i].value));
}

static void on_refreshed(void *userdata, PciAddress address, const GpuFacts *gpu) {
        World *w = userdata;
        w->refreshed++;
        w->refreshed_gone = !gpu;
}

static World world_of(const MockDevice *devices, size_t n) {
        World w = { .mock = mock_sysfs_new(), .listener = -1 };
        g_assert_cmpint(sd_event_new(&w.event), ==, 0);
        w.events = g_ptr_array_new_with_free_func(g_free);
        w.last_properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        w.silent = g_array_new(FALSE, FALSE, sizeof(int));
        for (size_t i = 0; i < n; i++)
                mock_device_add(w.mock, &devices[i]);
        return w;
}

static void world_clear(World *w) {
        w->watch = udev_watch_free(w->watch);
        for (size_t i = 0; i < w->n_gpus; i++)
                gpu_facts_clear(&w->gpus[i]);
        g_free(w->gpus);
        for (guint i = 0; i < w->silent->len; i++)
                (void) close(g_array_index(w->silent, int, i));
        (void) g_array_free(w->silent, TRUE);
        w->accept = sd_event_source_disable_unref(w->accept);
        if (w->listener >= 0)
                (void) close(w->listener);
        g_free(w->socket_path);
        (void) g_ptr_array_free(w->events, TRUE);
        g_hash_table_unref(w->last_properties);
        w->event = sd_event_unref(w->event);
        w->mock = mock_sysfs_free(w->mock);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
}

/* systemd's part: one process for each connection. */
static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        World *w = userdata;
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(connection, >=, 0);
        w->probes++;
        if (w->probe_is_silent) {
                (void) g_array_append_val(w->silent, connection);
                return 0;
        }
        char *const arguments[] = {
                (char *) probe_program, (char *) "--root", (char *) mock_sysfs_root(w->mock), NULL,
        };
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                (void) dup2(connection, STDIN_FILENO);
                (void) dup2(connection, STDOUT_FILENO);
                (void) execv(probe_program, arguments);
                _exit(127);
        }
        (void) close(connection);
        return 0;
}

static void start_probe(World *w) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        w->socket_path = g_build_filename(mock_sysfs_root(w->mock), "probe.sock", NULL);
        g_assert_cmpuint(strlen(w->socket_path), <, sizeof(address.sun_path));
        strcpy(address.sun_path, w->socket_path);
        w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(bind(w->listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(w->listener, 16), ==, 0);
        g_assert_cmpint(sd_event_add_io(w->event, &w->accept, w->listener, EPOLLIN, on_connection, w), >=, 0);
}

static void start_watch_with(World *w, UdevWatchConfig config) {
        static const UdevWatchEvents events = {
                .gpus_changed = on_gpus, .host_changed = on_host, .device_event = on_event,
                .gpu_refreshed = on_refreshed,
        };
        config.root = mock_sysfs_root(w->mock);
        config.probe_socket = w->socket_path;
        config.recheck_us = config.recheck_us > 0 ? config.recheck_us : NEVER;
        config.node.bytes[0] = 7;
        g_assert_cmpint(udev_watch_new(&w->watch, w->event, &config, &events, w), ==, 0);
}

static void start_watch(World *w) {
        start_watch_with(w, (UdevWatchConfig) { .coalesce_us = 10000 });
}

/* Runs the loop until the condition holds; a test that waits for too long has failed. */
#define WAIT_UNTIL(w, condition)                                                                                \
        do {                                                                                                    \
                gint64 _deadline = g_get_monotonic_time() + DEADLINE_US;                                        \
                while (!(condition)) {                                                                          \
                        if (g_get_monotonic_time() > _deadline)                                                 \
                                g_error("waited in vain for: %s", #condition);                                  \
                        g_assert_cmpint(sd_event_run((w)->event, 100000), >=, 0);                               \
                }                                                                                               \
        } while (false)

static const GpuFacts *gpu_at(const World *w, const char *text) {
        PciAddress address;
        g_assert_cmpint(pci_address_from_text(text, &address), ==, 0);
        for (size_t i = 0; i < w->n_gpus; i++)
                if (pci_address_equal(w->gpus[i].address, address))
                        return &w->gpus[i];
        return NULL;
}

static bool has_driver(const World *w, const char *address, const char *driver) {
        const GpuFacts *gpu = gpu_at(w, address);
        return gpu && text_equal(gpu->driver, driver);
}

static unsigned count_events(const World *w, const char *event) {
        unsigned n = 0;
        for (guint i = 0; i < w->events->len; i++)
                n += text_equal(g_ptr_array_index(w->events, i), event);
        return n;
}

static bool skip_without_uevents(void) {
        if (!uevents_possible)
                g_test_skip("no namespaces of our own here, so no uevents");
        return !uevents_possible;
}

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
        g_assert_cmpuint(w.lists, <=, 4);
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

static bool is_unreadable(const World *w, const char *address, const char *what) {
        const GpuFacts *gpu = gpu_at(w, address);
        return gpu && text_equal(gpu->unreadable, what);
}

static void test_a_device_that_hangs_is_told_as_such_and_the_others_go_on(void) {
        World w = world_of(MOCK_GEFORCE, 4);
        mock_device_add(w.mock, &MOCK_H100);
        mock_attribute_hang(w.mock, "0000:01:00.0", "config");
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, w.n_gpus == 2);
        g_assert_true(is_unreadable(&w, "0000:01:00.0", "config"));
        g_assert_cmpstr(gpu_at(&w, "0000:01:00.0")->identity.slot, ==, "pci0000:00/01.0/00.0");
        g_assert_cmpuint(gpu_at(&w, "0000:01:00.0")->identity.device, ==, 0x2204);
        g_assert_true(has_driver(&w, "0000:41:00.0", "nvidia"));
        mock_attribute_release(w.mock, "0000:01:00.0", "config", "\x01");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:01:00.0", NULL));
        g_assert_true(has_driver(&w, "0000:01:00.0", "nouveau"));
        world_clear(&w);
}

static void test_a_device_that_comes_to_hang_keeps_its_last_facts(void) {
        if (skip_without_uevents())
                return;
        World w = world_of(&MOCK_H100, 1);
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .read_deadline_us = 100000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
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

/* Opens a device file of the mock's, as a program of the host would. */
static int hold(World *w, const char *path) {
        g_autofree char *full = g_build_filename(mock_sysfs_root(w->mock), path, NULL);
        int fd = open(full, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

static void add_display_node(World *w) {
        mock_attribute_set(w->mock, "0000:41:00.0", "drm/card0/dev", "226:0");
        mock_attribute_set(w->mock, "0000:41:00.0", "drm/card0-DP-1/status", "connected");
        mock_file(w->mock, "dev/dri/card0", "");
}

static void test_the_probe_names_who_holds_the_gpu(void) {
        World w = world_of(&MOCK_H100, 1);
        add_display_node(&w);
        int held = hold(&w, "dev/dri/card0");
        start_probe(&w);
        start_watch(&w);
        WAIT_UNTIL(&w, w.n_gpus == 1);
        g_assert_true(w.gpus[0].holders_known);
        g_assert_cmpuint(w.gpus[0].n_holders, ==, 1);
        g_assert_cmpuint(w.gpus[0].holders[0].pid, ==, (uint32_t) getpid());
        g_assert_cmpstr(w.gpus[0].holders[0].name, ==, "test-udev-watch");
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
        start_watch_with(&w, (UdevWatchConfig) { .coalesce_us = 10000, .probe_deadline_us = 50000 });
        WAIT_UNTIL(&w, w.n_gpus == 1);
        w.probe_is_silent = true;
        g_assert_cmpint(udev_watch_refresh(w.watch, w.gpus[0].address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 1);
        g_assert_false(w.gpus[0].holders_known);
        g_assert_cmpstr(w.gpus[0].identity.serial, ==, "0000000200000001");
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
        g_assert_true(is_unreadable(&w, "0000:41:00.0", "config"));
        g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 2);
        mock_attribute_release(w.mock, "0000:41:00.0", "config", "\x01");
        WAIT_UNTIL(&w, is_unreadable(&w, "0000:41:00.0", NULL));
        mock_device_remove(w.mock, "0000:41:00.0");
        g_assert_cmpint(udev_watch_refresh(w.watch, address), ==, 0);
        WAIT_UNTIL(&w, w.refreshed == 3);
        g_assert_true(w.refreshed_gone);
        g_assert_cmpuint(w.n_gpus, ==, 0);
        world_clear(&w);
}

static char *ask_probe(const char *question, int *ret_status) {
        MockSysfs *mock = mock_sysfs_new();
        mock_device_add(mock, &MOCK_H100);
        g_autofree char *quoted = g_shell_quote(question), *program = g_shell_quote(probe_program);
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
        (void) setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", 1);
        uevents_possible = mock_uevents_possible();
        if (uevents_possible)
                mock_udevd_runs(true);
        g_test_init(&argc, &argv, NULL);
        log_set_level(g_test_verbose() ? LOG_DEBUG : LOG_CRIT);
        g_assert_cmpint(argc, ==, 2);
        probe_program = argv[1];
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
        TEST(a_device_that_hangs_is_told_as_such_and_the_others_go_on);
        TEST(a_device_that_comes_to_hang_keeps_its_last_facts);
        TEST(a_stranger_that_hangs_is_named);
        TEST(a_class_that_hangs_stops_no_scan);
        TEST(more_hanging_devices_than_threads_are_all_told_and_all_come_back);
        TEST(a_watch_can_be_freed_while_a_read_hangs);
        TEST(a_gpu_pulled_while_its_read_hangs_is_gone_and_can_come_back);
        TEST(names_come_from_the_hardware_database_as_soon_as_there_is_one);
        TEST(what_no_event_tells_is_seen_at_the_next_look);
        TEST(gpus_of_one_hive_are_siblings);
        TEST(the_probe_names_who_holds_the_gpu);
        TEST(a_holder_through_vfio_is_told_apart);
        TEST(the_probe_tells_the_serial_number);
        TEST(a_silent_probe_leaves_holders_unknown_and_is_left_alone);
        TEST(an_absent_probe_delays_nothing);
        TEST(a_serial_number_stays_known_when_the_probe_falls_silent);
        TEST(a_refresh_is_answered_whatever_happens);
        TEST(the_probe_answers_nothing_but_its_question);
#undef TEST
        return g_test_run();
}
