/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Says when the news of a PCI device came, in lines "MICROSECONDS ACTION ADDRESS", after a first line "listening". The
 * time is CLOCK_MONOTONIC, taken before anything else is done, as udevadm monitor does it.
 *
 *     bench-listen bus        DeviceEvent of gpupoold; and "MICROSECONDS InterfacesAdded PATH" and the like of a GPU
 *     bench-listen socket     udev's event at the netlink socket: the least that a listener can do */

#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "core/names.h"
#include "series.h"
#include "util/cleanup.h"

#define UDEV_GROUP 2U
#define MATCH "type='signal',sender='" BUS_NAME "'"
#define TREE "org.freedesktop.DBus.ObjectManager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

static void say(double at_us, const char *action, const char *what) {
        printf("%.0f %s %s\n", at_us, action, what);
        (void) fflush(stdout);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        double now = series_now_us();
        const char *action, *node, *address;
        if (sd_bus_message_is_signal(m, INTERFACE_MANAGER, "DeviceEvent") > 0) {
                if (sd_bus_message_read(m, "sos", &action, &node, &address) >= 0)
                        say(now, action, address);
                return 0;
        }
        const char *path = sd_bus_message_get_path(m);
        if (sd_bus_message_is_signal(m, TREE, NULL) > 0 && sd_bus_message_read(m, "o", &path) < 0)
                return 0;
        bool told = sd_bus_message_is_signal(m, TREE, NULL) > 0 || sd_bus_message_is_signal(m, PROPERTIES, NULL) > 0;
        if (told && path && strstr(path, "/gpu/"))
                say(now, sd_bus_message_get_member(m), path);
        return 0;
}

static int listen_to_bus(void) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_add_match(bus, NULL, MATCH, on_signal, NULL);
        if (r < 0)
                return r;
        printf("listening\n");
        (void) fflush(stdout);
        do {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        } while (r >= 0);
        return r;
}

/* The properties are "KEY=VALUE" one behind the other, each with its NUL. */
static const char *find(const char *data, const char *end, const char *key) {
        for (; data < end; data += strlen(data) + 1)
                if (strncmp(data, key, strlen(key)) == 0)
                        return data + strlen(key);
        return NULL;
}

static int listen_to_socket(void) {
        struct sockaddr_nl place = { .nl_family = AF_NETLINK, .nl_groups = UDEV_GROUP };
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        if (fd < 0 || bind(fd, (struct sockaddr *) &place, sizeof(place)) < 0)
                return -errno;
        printf("listening\n");
        (void) fflush(stdout);
        for (;;) {
                static char data[65536];
                ssize_t n = recv(fd, data, sizeof(data) - 1, 0);
                double now = series_now_us();
                if (n < 0)
                        return -errno;
                uint32_t at;
                if (n < 24)
                        continue;
                memcpy(&at, data + 16, sizeof(at));     /* libudev's header says where they begin */
                if (at >= (size_t) n)
                        continue;
                data[n] = '\0';
                const char *action = find(data + at, data + n, "ACTION=");
                const char *address = find(data + at, data + n, "PCI_SLOT_NAME=");
                if (action && address)
                        say(now, action, address);
        }
}

int main(int argc, char **argv) {
        int r = argc == 2 && strcmp(argv[1], "socket") == 0 ? listen_to_socket() : listen_to_bus();
        fprintf(stderr, "bench-listen: %s\n", strerror(-r));
        return 1;
}
