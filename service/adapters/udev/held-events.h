/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Held events: events of PCI devices of which it is not known yet whether they concern a GPU. Each is told when a GPU
 * turns out to share the device's card or group, and forgotten when none did in time. */

#include "adapters/udev/inventory.h"
#include "adapters/udev/udev-monitor.h"

typedef struct HeldEvent {
        DeviceEvent event;              /* a copy of its own, in one piece of memory with its texts */
        void *memory;
        int32_t group;                  /* of the device; -1: not known */
        bool concerns;                  /* it is known to concern a GPU */
        uint64_t until_us;
} HeldEvent;

typedef struct HeldEvents {
        ARRAY(HeldEvent) items;         /* in the order in which they came */
} HeldEvents;

int held_event_copy(const DeviceEvent *event, HeldEvent *ret);          /* 0 or -ENOMEM */
void held_event_clear(HeldEvent *event);
void held_events_clear(HeldEvents *held);

/* 0, -ENOBUFS when too many are held, or -ENOMEM. */
int held_events_add(HeldEvents *held, const DeviceEvent *event, uint64_t now_us);

/* The group of a device whose events are held became known. */
void held_events_set_group(HeldEvents *held, PciAddress address, int32_t group);

/* Takes out the first event that concerns a GPU of @inventory; what is too old goes. False: none. */
bool held_events_take(HeldEvents *held, const Inventory *inventory, uint64_t now_us, HeldEvent *ret);
