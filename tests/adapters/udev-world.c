/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "udev-world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"

static const char *probe_program;
static bool uevents_possible;

const MockDevice NETWORK_CARD = {
        .address = "0000:42:00.0", .below = "pci0000:40/0000:40:01.0", .vendor = 0x15b3, .device = 0x101d,
        .class = 0x020000, .driver = "mlx5_core", .group = 42,
};
const MockDevice FAR_CARD = {
        .address = "0000:99:00.0", .vendor = 0x15b3, .device = 0x101d, .class = 0x020000, .group = 99,
};

void world_init(int *argc, char ***argv) {
        /* libudev asks whether /sys is a sysfs; the mock is none. */
        (void) setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", 1);
        uevents_possible = mock_uevents_possible();
        if (uevents_possible)
                mock_udevd_runs(true);
        g_test_init(argc, argv, NULL);
        log_set_level(g_test_verbose() ? LOG_DEBUG : LOG_CRIT);
        g_assert_cmpint(*argc, ==, 2);
        probe_program = (*argv)[1];
}

const char *world_probe_program(void) {
        return probe_program;
}

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

World world_of(const MockDevice *devices, size_t n) {
        World w = { .mock = mock_sysfs_new(), .listener = -1 };
        g_assert_cmpint(sd_event_new(&w.event), ==, 0);
        w.events = g_ptr_array_new_with_free_func(g_free);
        w.last_properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        w.silent = g_array_new(FALSE, FALSE, sizeof(int));
        for (size_t i = 0; i < n; i++)
                mock_device_add(w.mock, &devices[i]);
        return w;
}

void world_clear(World *w) {
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

void start_probe(World *w) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        w->socket_path = g_build_filename(mock_sysfs_root(w->mock), "probe.sock", NULL);
        g_assert_cmpuint(strlen(w->socket_path), <, sizeof(address.sun_path));
        strcpy(address.sun_path, w->socket_path);
        w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(bind(w->listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(w->listener, 16), ==, 0);
        g_assert_cmpint(sd_event_add_io(w->event, &w->accept, w->listener, EPOLLIN, on_connection, w), >=, 0);
}

void start_watch_with(World *w, UdevWatchConfig config) {
        static const UdevWatchEvents events = {
                .gpus_changed = on_gpus, .host_changed = on_host, .device_event = on_event,
                .gpu_refreshed = on_refreshed,
        };
        config.root = mock_sysfs_root(w->mock);
        config.probe_socket = w->socket_path;
        config.recheck_us = config.recheck_us > 0 ? config.recheck_us : UINT64_MAX;
        config.read_deadline_us = config.read_deadline_us > 0 ? config.read_deadline_us : NOT_LATE_US;
        config.probe_deadline_us = config.probe_deadline_us > 0 ? config.probe_deadline_us : NOT_LATE_US;
        config.node.bytes[0] = 7;
        g_assert_cmpint(udev_watch_new(&w->watch, w->event, &config, &events, w), ==, 0);
}

void start_watch(World *w) {
        start_watch_with(w, (UdevWatchConfig) { .coalesce_us = 10000 });
}

const GpuFacts *gpu_at(const World *w, const char *text) {
        PciAddress address;
        g_assert_cmpint(pci_address_from_text(text, &address), ==, 0);
        for (size_t i = 0; i < w->n_gpus; i++)
                if (pci_address_equal(w->gpus[i].address, address))
                        return &w->gpus[i];
        return NULL;
}

bool has_driver(const World *w, const char *address, const char *driver) {
        const GpuFacts *gpu = gpu_at(w, address);
        return gpu && text_equal(gpu->driver, driver);
}

unsigned count_events(const World *w, const char *event) {
        unsigned n = 0;
        for (guint i = 0; i < w->events->len; i++)
                n += text_equal(g_ptr_array_index(w->events, i), event);
        return n;
}

bool skip_without_uevents(void) {
        if (!uevents_possible)
                g_test_skip("no namespaces of our own here, so no uevents");
        return !uevents_possible;
}

int hold_terminal(char **ret_number) {
        struct stat st;
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        g_assert_cmpint(master, >=, 0);
        g_assert_cmpint(unlockpt(master), ==, 0);
        int fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        *ret_number = g_strdup_printf("%u:%u", major(st.st_rdev), minor(st.st_rdev));
        (void) close(master);
        return fd;
}

bool is_unreadable(const World *w, const char *address, const char *what) {
        const GpuFacts *gpu = gpu_at(w, address);
        return gpu && text_equal(gpu->unreadable, what);
}
