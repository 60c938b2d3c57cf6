/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* udev watch: this host's GPUs, live. Listens to udev first and looks into sysfs then, so that nothing falls between;
 * follows every event of a GPU, of the other functions of its card and of its IOMMU group; and tells the facts whenever
 * they are others than before.
 *
 *      udev event ──► device_event() at once      └─► after a short wait: read ─► ask the probe ─► gpus_changed()
 *
 * Several events of one device within the wait cost one reading, and a device that comes and goes within it is no news.
 * A device whose link flaps has only its share of events, readings and news (event-rate.h); its last state is told.
 * Nothing here blocks the loop: sysfs is read by a thread with a watchdog (reader.h), what root must read by the probe
 * (probe-client.h). A device that does not answer is told with .unreadable set and its last facts otherwise.
 *
 * Decides nothing. No callback may free the watch. */

#include <systemd/sd-event.h>

#include "adapters/udev/udev-monitor.h"
#include "core/facts.h"
#include "util/cleanup.h"

#define UDEV_WATCH_COALESCE_US (50U * 1000U)
#define UDEV_WATCH_READ_DEADLINE_US (2U * 1000U * 1000U)
#define UDEV_WATCH_PROBE_DEADLINE_US (2U * 1000U * 1000U)
/* Facts of which no event tells: holders, configuration space that fell silent, memory, a driver loaded later. */
#define UDEV_WATCH_RECHECK_US (10U * 1000U * 1000U)
/* The first list waits so long for GPUs that are not read yet. */
#define UDEV_WATCH_FIRST_US (5U * 1000U * 1000U)

/* More than any host has slots for. */
#define UDEV_WATCH_GPUS_MAX 4096U
/* Events of devices of which it is not known yet whether they concern a GPU: kept so many, and so long. */
#define UDEV_WATCH_HELD_MAX 256U
#define UDEV_WATCH_HELD_US (2U * 1000U * 1000U)

typedef struct UdevWatchConfig {
        NodeId node;                    /* put into every identity */
        const char *root;               /* NULL: "/" */
        const char *probe_socket;       /* NULL: nobody is asked, and holders and serials are not known */
        uint64_t coalesce_us, read_deadline_us, probe_deadline_us;      /* 0: as above */
        uint64_t recheck_us;            /* 0: as above; UINT64_MAX: never */
} UdevWatchConfig;

typedef struct UdevWatchEvents {
        /* All GPUs, by address; once when the first look is complete, then whenever one changed, came or went. */
        void (*gpus_changed)(void *userdata, const GpuFacts *gpus, size_t n_gpus);
        /* The host's part of the facts; once, then whenever it changed. Memory that is free counts from 1 % on. */
        void (*host_changed)(void *userdata, const NodeFacts *host);
        /* udev told of a GPU, of a function of its card or of a device of its group. Before the facts are read anew. */
        void (*device_event)(void *userdata, const DeviceEvent *event);
        /* The answer to udev_watch_refresh(), after gpus_changed() if it changed anything. NULL: it is gone. */
        void (*gpu_refreshed)(void *userdata, PciAddress address, const GpuFacts *gpu);
} UdevWatchEvents;

typedef struct UdevWatch UdevWatch;

/* Callbacks may be NULL one by one; none runs before the loop does. 0 or -errno. */
int udev_watch_new(UdevWatch **ret, sd_event *event, const UdevWatchConfig *config, const UdevWatchEvents *events,
                   void *userdata);
UdevWatch *udev_watch_free(UdevWatch *watch);
DEFINE_CLEANUP(UdevWatch *, udev_watch_free);

/* Reads a GPU anew, holders too, and answers by gpu_refreshed(): before it is given to a VM, and after. Several calls
 * before the answer get one answer. 0, or -ENOENT when no such GPU is known. */
int udev_watch_refresh(UdevWatch *watch, PciAddress address);

/* Looks at everything anew. */
void udev_watch_rescan(UdevWatch *watch);
