/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/event-rate.h"

#include "util/text.h"

#define SECOND_US (1000U * 1000U)

void event_rate_clear(EventRate *rate) {
        ARRAY_EACH(device, &rate->devices)
                held_event_clear(&device->last);
        array_clear(&rate->devices);
        rate->n_kept = 0;
}

static int compare_address(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, ((const RatedDevice *) item)->address);
}

static RatedDevice *find(const EventRate *rate, PciAddress address) {
        size_t at;
        return array_find(&rate->devices, &address, compare_address, &at) ? rate->devices.items + at : NULL;
}

static uint64_t last_seen(const RatedDevice *device) {
        return device->since_us > device->pulled_us ? device->since_us : device->pulled_us;
}

static void forget(EventRate *rate, size_t at) {
        rate->n_kept -= rate->devices.items[at].last.memory != NULL;
        held_event_clear(&rate->devices.items[at].last);
        array_remove(&rate->devices, at);
}

/* Those that were quiet for long; where there are too many, the one that spoke first. */
static void make_room(EventRate *rate, uint64_t now_us) {
        if (rate->devices.n < EVENT_RATE_DEVICES_MAX / 2)
                return;
        size_t oldest = 0;
        for (size_t i = rate->devices.n; i > 0; i--) {
                const RatedDevice *device = rate->devices.items + i - 1;
                if (!device->last.memory && now_us >= last_seen(device) + EVENT_RATE_FORGET_US)
                        forget(rate, i - 1);
        }
        for (size_t i = 1; i < rate->devices.n; i++)
                if (last_seen(rate->devices.items + i) < last_seen(rate->devices.items + oldest))
                        oldest = i;
        if (rate->devices.n >= EVENT_RATE_DEVICES_MAX)
                forget(rate, oldest);
}

static RatedDevice *find_or_add(EventRate *rate, PciAddress address, uint64_t now_us) {
        RatedDevice *device = find(rate, address);
        if (device)
                return device;
        make_room(rate, now_us);
        RatedDevice fresh = { .address = address, .since_us = now_us, .last.group = -1 };
        size_t at;
        (void) array_find(&rate->devices, &address, compare_address, &at);
        return array_insert(&rate->devices, at, &fresh) < 0 ? NULL : rate->devices.items + at;
}

static bool is_over(const RatedDevice *device, uint64_t now_us) {
        return now_us >= device->since_us + SECOND_US;
}

static void begin_second(RatedDevice *device, uint64_t now_us) {
        device->was_busy = device->n > EVENT_RATE_PER_S && now_us < device->since_us + 2 * SECOND_US;
        device->since_us = now_us;
        device->n = 0;
}

void event_rate_count(EventRate *rate, const DeviceEvent *event, uint64_t now_us) {
        RatedDevice *device = find_or_add(rate, event->address, now_us);
        if (!device)
                return;
        /* While one is kept, the second goes on until that is told. */
        if (is_over(device, now_us) && !device->last.memory)
                begin_second(device, now_us);
        device->n++;
        if (!text_equal(event->action, "remove"))
                return;
        if (now_us >= device->pulled_us + EVENT_RATE_FORGET_US)
                device->pulls = 0;
        device->pulls++;
        device->pulled_us = now_us;
}

EventVerdict event_rate_judge(EventRate *rate, const DeviceEvent *event, bool concerns, uint64_t now_us) {
        RatedDevice *device = find(rate, event->address);
        HeldEvent copy;
        if (!device || (device->n <= EVENT_RATE_PER_S && !device->last.memory) || held_event_copy(event, &copy) < 0)
                return EVENT_TELL;
        device->left_out += device->last.memory != NULL;
        rate->n_kept += device->last.memory == NULL;
        held_event_clear(&device->last);
        device->last = copy;
        device->last.concerns = concerns;
        return EVENT_KEPT;
}

uint64_t event_rate_due(const EventRate *rate) {
        uint64_t due = UINT64_MAX;
        if (rate->n_kept == 0)
                return due;
        ARRAY_EACH(device, &rate->devices)
                if (device->last.memory && device->since_us + SECOND_US < due)
                        due = device->since_us + SECOND_US;
        return due;
}

bool event_rate_take(EventRate *rate, uint64_t now_us, HeldEvent *ret, unsigned *ret_left_out) {
        if (rate->n_kept == 0)
                return false;
        ARRAY_EACH(device, &rate->devices) {
                if (!device->last.memory || !is_over(device, now_us))
                        continue;
                *ret = device->last;
                *ret_left_out = device->left_out;
                device->last = (HeldEvent) { .group = -1 };
                device->left_out = 0;
                rate->n_kept--;
                begin_second(device, now_us);
                device->n = 1;
                return true;
        }
        return false;
}

uint64_t event_rate_wait(const EventRate *rate, PciAddress address, uint64_t usual_us, uint64_t now_us) {
        const RatedDevice *device = find(rate, address);
        if (!device)
                return usual_us;
        uint64_t wait_us = usual_us;
        bool flaps = device->pulls >= EVENT_RATE_PULLS && now_us < device->pulled_us + EVENT_RATE_FORGET_US;
        bool busy = device->n > EVENT_RATE_PER_S || (device->was_busy && !is_over(device, now_us));
        if (busy)
                wait_us = SECOND_US;
        if (flaps)
                wait_us = EVENT_RATE_STAY_US;
        return wait_us > usual_us ? wait_us : usual_us;
}
