/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* udev monitor: the events of udev for PCI devices, and for the display nodes below them, on the service's loop.
 *
 * libudev and not sd-device, for three reasons: it can listen to the kernel's own events where no udevd runs, an
 * overflow of its socket is seen (ENOBUFS), and its hardware database is the same library's. Of a device object only
 * what came with the event is used: anything else would make libudev read `uevent` in sysfs, which may hang (sysfs.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "core/pci.h"
#include "util/cleanup.h"

/* udev sends some 20; what is above is dropped. */
#define DEVICE_EVENT_PROPERTIES_MAX 64U

typedef struct DeviceProperty {
        const char *key, *value;        /* printable */
} DeviceProperty;

/* An event of a device. All is borrowed. */
typedef struct DeviceEvent {
        const char *action;             /* "add", "remove", "change", "bind", "unbind", "move" */
        const char *subsystem;          /* "pci" */
        PciAddress address;             /* of the device itself, or of the PCI device it belongs to */
        const DeviceProperty *properties;       /* as udev sent them */
        size_t n_properties;
} DeviceEvent;

/* The value of a property, or NULL. */
const char *device_event_property(const DeviceEvent *event, const char *key);

typedef struct UdevMonitor UdevMonitor;

typedef struct UdevMonitorEvents {
        void (*device)(void *userdata, const DeviceEvent *event);
        void (*overflow)(void *userdata);       /* events were lost: look at everything anew */
} UdevMonitorEvents;

/* Is live when it returns: what happens from now on is told, once the loop runs. 0 or -errno. */
int udev_monitor_start(UdevMonitor **ret, sd_event *event, const UdevMonitorEvents *events, void *userdata);
UdevMonitor *udev_monitor_stop(UdevMonitor *monitor);
DEFINE_CLEANUP(UdevMonitor *, udev_monitor_stop);
