/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/udev-monitor.h"

#include <errno.h>
#include <libudev.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "adapters/udev/sysfs.h"
#include "util/text.h"

/* A rescan of a large PCI tree sends thousands of events of some 500 bytes at once. */
#define RECEIVE_BUFFER_SIZE (8 * 1024 * 1024)
/* Events in one turn of the loop; others wait for the next, so that a storm starves nobody. */
#define EVENTS_PER_TURN 64U

#define UDEVD_IS_THERE "/run/udev/control"

struct UdevMonitor {
        struct udev *udev;
        struct udev_monitor *monitor;
        sd_event_source *source;
        UdevMonitorEvents events;
        void *userdata;
};

const char *device_event_property(const DeviceEvent *event, const char *key) {
        for (size_t i = 0; i < event->n_properties; i++)
                if (text_equal(event->properties[i].key, key))
                        return event->properties[i].value;
        return NULL;
}

/* The last PCI address in a path: the device itself, or what a display node hangs on. */
static bool address_from_path(const char *path, PciAddress *ret) {
        bool found = false;
        while (*path) {
                char part[NAME_MAX + 1];
                path += strspn(path, "/");
                size_t n = strcspn(path, "/");
                PciAddress address;
                if (n > 0 && n <= NAME_MAX) {
                        memcpy(part, path, n);
                        part[n] = '\0';
                        if (pci_address_from_text(part, &address) >= 0) {
                                *ret = address;
                                found = true;
                        }
                }
                path += n;
        }
        return found;
}

static size_t copy_properties(struct udev_device *device, DeviceProperty *ret, char *text, size_t size) {
        size_t n = 0, used = 0;
        struct udev_list_entry *entry;
        udev_list_entry_foreach(entry, udev_device_get_properties_list_entry(device)) {
                const char *key = udev_list_entry_get_name(entry), *value = udev_list_entry_get_value(entry);
                size_t length = strlen(key) + 1 + strlen(value ? value : "") + 1;
                if (n >= DEVICE_EVENT_PROPERTIES_MAX || length > size - used)
                        break;
                ret[n].key = strcpy(text + used, key);
                ret[n].value = strcpy(text + used + strlen(key) + 1, value ? value : "");
                text_make_printable(text + used, SIZE_MAX);
                text_make_printable(text + used + strlen(key) + 1, SIZE_MAX);
                used += length;
                n++;
        }
        return n;
}

static void tell(UdevMonitor *monitor, struct udev_device *device) {
        const char *action = udev_device_get_action(device), *subsystem = udev_device_get_subsystem(device);
        const char *path = udev_device_get_devpath(device);
        DeviceEvent event = { .action = action, .subsystem = subsystem };
        if (!action || !subsystem || !path || !address_from_path(path, &event.address))
                return;

        DeviceProperty properties[DEVICE_EVENT_PROPERTIES_MAX];
        char text[16384];               /* the kernel sends 2 KiB at most, udev's rules add to it */
        event.properties = properties;
        event.n_properties = copy_properties(device, properties, text, sizeof(text));
        monitor->events.device(monitor->userdata, &event);
}

static int on_event(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        UdevMonitor *monitor = userdata;
        for (unsigned i = 0; i < EVENTS_PER_TURN; i++) {
                errno = 0;
                struct udev_device *device = udev_monitor_receive_device(monitor->monitor);
                if (!device && errno == ENOBUFS)
                        monitor->events.overflow(monitor->userdata);
                if (!device)
                        return 0;       /* nothing more, or a message that is none of ours */
                tell(monitor, device);
                (void) udev_device_unref(device);
        }
        return 0;
}

static int open_monitor(UdevMonitor *monitor) {
        monitor->udev = udev_new();
        if (!monitor->udev)
                return -ENOMEM;
        /* udevd's events come after its rules ran and carry their properties. Without udevd (a container, a minimal
         * system) they never come, and the kernel's own will do. */
        const char *group = access(UDEVD_IS_THERE, F_OK) == 0 ? "udev" : "kernel";
        monitor->monitor = udev_monitor_new_from_netlink(monitor->udev, group);
        if (!monitor->monitor)
                return errno > 0 ? -errno : -ENOMEM;

        /* Larger than what an ordinary user may have: it takes what it gets. */
        (void) udev_monitor_set_receive_buffer_size(monitor->monitor, RECEIVE_BUFFER_SIZE);
        int r = udev_monitor_filter_add_match_subsystem_devtype(monitor->monitor, "pci", NULL);
        if (r >= 0)
                r = udev_monitor_filter_add_match_subsystem_devtype(monitor->monitor, "drm", NULL);
        return r < 0 ? r : udev_monitor_enable_receiving(monitor->monitor);
}

int udev_monitor_start(UdevMonitor **ret, sd_event *event, const UdevMonitorEvents *events, void *userdata) {
        _cleanup_(udev_monitor_stopp) UdevMonitor *monitor = calloc(1, sizeof(UdevMonitor));
        if (!monitor)
                return -ENOMEM;
        monitor->events = *events;
        monitor->userdata = userdata;
        int r = open_monitor(monitor);
        if (r >= 0)
                r = sd_event_add_io(event, &monitor->source, udev_monitor_get_fd(monitor->monitor), EPOLLIN, on_event,
                                    monitor);
        if (r < 0)
                return r;
        *ret = STEAL(monitor);
        return 0;
}

UdevMonitor *udev_monitor_stop(UdevMonitor *monitor) {
        if (!monitor)
                return NULL;
        monitor->source = sd_event_source_disable_unref(monitor->source);
        (void) udev_monitor_unref(monitor->monitor);
        (void) udev_unref(monitor->udev);
        free(monitor);
        return NULL;
}
