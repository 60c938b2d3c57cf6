/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/held-events.h"

#include <errno.h>

#include "adapters/udev/udev-watch.h"
#include "util/text.h"

void held_event_clear(HeldEvent *event) {
        free(event->memory);
        *event = (HeldEvent) {};
}

void held_events_clear(HeldEvents *held) {
        ARRAY_EACH(event, &held->items)
                held_event_clear(event);
        array_clear(&held->items);
}

static const char *copy_text(char **to, const char *text) {
        size_t size = strlen(text) + 1;
        char *copy = memcpy(*to, text, size);
        *to += size;
        return copy;
}

/* Memory: the properties' row, then all texts. */
int held_event_copy(const DeviceEvent *event, HeldEvent *ret) {
        size_t size = event->n_properties * sizeof(DeviceProperty);
        size += strlen(event->action) + 1 + strlen(event->subsystem) + 1;
        for (size_t i = 0; i < event->n_properties; i++)
                size += strlen(event->properties[i].key) + strlen(event->properties[i].value) + 2;

        DeviceProperty *properties = malloc(size);
        if (!properties)
                return -ENOMEM;
        char *to = (char *) (properties + event->n_properties);
        *ret = (HeldEvent) {
                .memory = properties,
                .group = -1,
                .event = {
                        .action = copy_text(&to, event->action),
                        .subsystem = copy_text(&to, event->subsystem),
                        .address = event->address,
                        .properties = properties,
                        .n_properties = event->n_properties,
                },
        };
        for (size_t i = 0; i < event->n_properties; i++) {
                properties[i].key = copy_text(&to, event->properties[i].key);
                properties[i].value = copy_text(&to, event->properties[i].value);
        }
        return 0;
}

int held_events_add(HeldEvents *held, const DeviceEvent *event, uint64_t now_us) {
        if (held->items.n >= UDEV_WATCH_HELD_MAX)
                return -ENOBUFS;
        HeldEvent copy;
        int r = held_event_copy(event, &copy);
        if (r < 0)
                return r;
        copy.until_us = now_us + UDEV_WATCH_HELD_US;
        r = array_append(&held->items, &copy);
        if (r < 0)
                held_event_clear(&copy);
        return r;
}

void held_events_set_group(HeldEvents *held, PciAddress address, int32_t group) {
        ARRAY_EACH(event, &held->items)
                if (pci_address_equal(event->event.address, address))
                        event->group = group;
}

static bool concerns_any(const Inventory *inventory, const HeldEvent *event) {
        ARRAY_EACH(device, &inventory->devices)
                if (watched_relates(*device, event->event.address, event->group))
                        return true;
        return false;
}

bool held_events_take(HeldEvents *held, const Inventory *inventory, uint64_t now_us, HeldEvent *ret) {
        for (size_t i = 0; i < held->items.n;) {
                HeldEvent event = held->items.items[i];
                bool concerns = concerns_any(inventory, &event);
                if (!concerns && event.until_us > now_us) {
                        i++;
                        continue;
                }
                array_remove(&held->items, i);
                if (concerns) {
                        *ret = event;
                        return true;
                }
                held_event_clear(&event);
        }
        return false;
}
