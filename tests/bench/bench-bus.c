/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GetManagedObjects with many simulated GPUs, beside a bare sd-bus server that returns the same values out of one kept
 * message, and the same number of bytes as one plain array: what our getters, our table and its lookups cost on top of
 * sd-bus, and sd-bus on top of the bus daemon and the sockets.
 *
 *     bench-bus [GPUS]        default 1000
 */

#include <gio/gio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "bus-test.h"

#define ROUNDS 25
#define BARE_NAME "org.example.Bare"
#define MANAGER "org.freedesktop.DBus.ObjectManager"
#define ANYBODY "<policy context=\"default\"><allow own=\"*\"/><allow send_destination=\"*\"/></policy>\n"

static void must(int r, const char *what) {
        if (r < 0)
                g_error("%s: %s", what, g_strerror(-r));
}

static sd_bus *open_bus(const char *address) {
        sd_bus *bus = NULL;
        must(sd_bus_new(&bus), "new");
        must(sd_bus_set_address(bus, address), "address");
        must(sd_bus_set_bus_client(bus, true), "client");
        must(sd_bus_start(bus), "start");
        return bus;
}

static sd_bus_message *get_objects(sd_bus *bus, const char *name) {
        sd_bus_message *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, name, ROOT, MANAGER, "GetManagedObjects", &error, &reply, NULL);
        if (r < 0)
                g_error("%s: %s", name, error.message);
        return reply;
}

/* ---- the bare server */

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        sd_bus_message *kept = userdata, *reply = NULL;
        must(sd_bus_message_rewind(kept, true), "rewind");
        must(sd_bus_message_new_method_return(m, &reply), "reply");
        must(sd_bus_message_copy(reply, kept, true), "copy");
        must(sd_bus_message_send(reply), "send");
        sd_bus_message_unref(reply);
        return 1;
}

static int on_bytes(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        sd_bus_message *reply = NULL;
        void *place;
        uint32_t size;
        must(sd_bus_message_read(m, "u", &size), "size");
        must(sd_bus_message_new_method_return(m, &reply), "reply");
        must(sd_bus_message_append_array_space(reply, 'y', size, &place), "space");
        memset(place, 0x55, size);
        must(sd_bus_message_send(reply), "send");
        sd_bus_message_unref(reply);
        return 1;
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("GetManagedObjects", "", "a{oa{sa{sv}}}", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Bytes", "u", "ay", on_bytes, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static void serve_bare(const char *address, int ready) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        sd_bus *bus = open_bus(address);
        sd_bus_message *kept = get_objects(bus, "org.gpupool1");
        /* Under an interface of its own, since the real one cannot be had by hand; a client sees the same bytes. */
        must(sd_bus_add_object_vtable(bus, NULL, ROOT, "org.example.Manager", vtable, kept), "vtable");
        must(sd_bus_request_name(bus, BARE_NAME, 0), "name");
        sd_event *event = NULL;
        must(sd_event_default(&event), "event");
        must(sd_bus_attach_event(bus, event, 0), "attach");
        (void) write(ready, "r", 1);
        (void) sd_event_loop(event);
        _exit(0);
}

/* ---- measuring */

static double milliseconds(void) {
        return (double) g_get_monotonic_time() / 1000;
}

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

static double measure_once(sd_bus *bus, const char *name, const char *interface, const char *member, uint32_t size) {
        sd_bus_message *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        double begin = milliseconds();
        int r = sd_bus_call_method(bus, name, ROOT, interface, member, &error, &reply, size ? "u" : NULL, size);
        double took = milliseconds() - begin;
        if (r < 0)
                g_error("%s: %s", name, error.message);
        sd_bus_message_unref(reply);
        return took;
}

/* How long the message is on the wire. */
static uint32_t reply_size(Host *host) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GDBusMessage) call = g_dbus_message_new_method_call("org.gpupool1", ROOT, MANAGER,
                                                                      "GetManagedObjects");
        g_autoptr(GDBusMessage) reply = g_dbus_connection_send_message_with_reply_sync(
                host->client, call, G_DBUS_SEND_MESSAGE_FLAGS_NONE, 60000, NULL, NULL, &error);
        g_assert_no_error(error);
        gsize size;
        guchar *blob = g_dbus_message_to_blob(reply, &size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
        g_assert_no_error(error);
        g_free(blob);
        return (uint32_t) size;
}

static guint64 cpu_ticks(GPid pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) fields = g_strsplit(strrchr(text, ')') + 2, " ", -1);
        return g_ascii_strtoull(fields[11], NULL, 10) + g_ascii_strtoull(fields[12], NULL, 10);
}

static guint64 pss_kib(GPid pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", pid), *text = NULL;
        if (!g_file_get_contents(path, &text, NULL, NULL))
                return 0;
        const char *line = strstr(text, "\nPss:");
        return line ? g_ascii_strtoull(line + strlen("\nPss:"), NULL, 10) : 0;
}

int main(int argc, char **argv) {
        unsigned n_gpus = argc > 1 ? (unsigned) strtoul(argv[1], NULL, 10) : 1000;
        g_autofree char *arguments = g_strdup_printf("--gpus %u", n_gpus);
        Host *host = host_new_bus_only(ANYBODY);
        host_start_service(host, arguments);

        int ready[2];
        must(pipe(ready) < 0 ? -1 : 0, "pipe");
        pid_t bare = fork();
        if (bare == 0)
                serve_bare(host->address, ready[1]);
        char byte;
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);

        /* In turn, so that both see the same machine. */
        sd_bus *bus = open_bus(host->address);
        double ours[ROUNDS], theirs[ROUNDS], bytes[ROUNDS];
        uint32_t size = reply_size(host);
        (void) measure_once(bus, "org.gpupool1", MANAGER, "GetManagedObjects", 0);
        (void) measure_once(bus, BARE_NAME, "org.example.Manager", "GetManagedObjects", 0);
        guint64 our_ticks = cpu_ticks(host->service), their_ticks = cpu_ticks(bare);
        for (unsigned i = 0; i < ROUNDS; i++) {
                ours[i] = measure_once(bus, "org.gpupool1", MANAGER, "GetManagedObjects", 0);
                theirs[i] = measure_once(bus, BARE_NAME, "org.example.Manager", "GetManagedObjects", 0);
        }
        our_ticks = cpu_ticks(host->service) - our_ticks;
        their_ticks = cpu_ticks(bare) - their_ticks;
        for (unsigned i = 0; i < ROUNDS; i++)
                bytes[i] = measure_once(bus, BARE_NAME, "org.example.Manager", "Bytes", size);
        qsort(ours, ROUNDS, sizeof(double), compare_doubles);
        qsort(theirs, ROUNDS, sizeof(double), compare_doubles);
        qsort(bytes, ROUNDS, sizeof(double), compare_doubles);

        double tick_ms = 1000.0 / (double) sysconf(_SC_CLK_TCK) / ROUNDS;
        double us = ours[ROUNDS / 2], them = theirs[ROUNDS / 2];
        (void) printf("GetManagedObjects, %u GPUs, %u bytes, median (fastest) of %d rounds\n", n_gpus, size, ROUNDS);
        (void) printf("  gpupool                     %7.1f ms (%.1f)   CPU of the server %.1f ms\n", us, ours[0],
                      (double) our_ticks * tick_ms);
        (void) printf("  bare sd-bus, same values    %7.1f ms (%.1f)   CPU of the server %.1f ms   ratio %.2f\n", them,
                      theirs[0],
                      (double) their_ticks * tick_ms, us / them);
        (void) printf("  bare sd-bus, one array      %7.1f ms (%.1f)                              ratio %.2f\n",
                      bytes[ROUNDS / 2],
                      bytes[0], us / bytes[ROUNDS / 2]);

        /* What a change costs when nobody asks: the table made anew, every property held against what clients know. */
        double begin = milliseconds();
        for (unsigned i = 0; i < ROUNDS; i++) {
                told(host, i % 2 ? "driver 0000:01:00.0 vfio-pci" : "driver 0000:01:00.0 nvidia");
                told(host, "flush");
        }
        (void) printf("One change told       %7.1f ms\n", (milliseconds() - begin) / ROUNDS);
        (void) printf("Memory of the service %7.1f MiB PSS\n", (double) pss_kib(host->service) / 1024);

        sd_bus_flush_close_unref(bus);
        (void) kill(bare, SIGKILL);
        (void) waitpid(bare, NULL, 0);
        host_free(host);
        return 0;
}
