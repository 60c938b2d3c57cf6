/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any uevents, through the kernel's own socket and libudev: each by a byte that says what happens (0: udev tells; 1: a
 * card is pulled or plugged and nobody tells; 2: the loop runs), for the first with an action, a size in two bytes, low
 * first, and the body of the message: "K=V" strings, each with its NUL, or anything else. What is told of it can be
 * shown to people and is of a PCI device; and after a look at everything the list is what is plugged in.
 *
 * Needs a network namespace of its own; where it may not have one it does nothing. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/udev/udev-watch.h"
#include "mock-sysfs.h"
#include "util/array.h"
#include "util/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEADLINE_S 10
#define BODY_MAX 2000U

typedef struct Told {
        bool listed;
        size_t n_gpus;
        unsigned n_events;
} Told;

static void on_gpus(void *userdata, const GpuFacts *gpus, size_t n) {
        Told *told = userdata;
        told->listed = true;
        told->n_gpus = n;
        for (size_t i = 0; i < n; i++) {
                assert(i == 0 || pci_address_compare(gpus[i - 1].address, gpus[i].address) < 0);
                assert(pci_address_equal(gpus[i].address, gpus[i].identity.address));
                assert(!gpus[i].vendor_name || text_is_printable(gpus[i].vendor_name));
                assert(!gpus[i].device_name || text_is_printable(gpus[i].device_name));
        }
}

static void on_event(void *userdata, const DeviceEvent *event) {
        Told *told = userdata;
        told->n_events++;
        assert(strcmp(event->subsystem, "pci") == 0);
        assert(event->n_properties <= DEVICE_EVENT_PROPERTIES_MAX);
        for (size_t i = 0; i < event->n_properties; i++)
                assert(text_is_printable(event->properties[i].key) && text_is_printable(event->properties[i].value));
}

static void turn(sd_event *event, uint64_t wait_us) {
        int r = sd_event_run(event, wait_us);
        assert(r >= 0);
}

static void send_one(const uint8_t **data, size_t *size) {
        static const char *const actions[] = { "add", "remove", "change", "bind", "unbind", "move", "online", "" };
        if (*size < 3) {
                *size = 0;
                return;
        }
        const char *action = actions[(*data)[0] % ELEMENTS(actions)];
        size_t body = (*data)[1] | (size_t) (*data)[2] << 8;
        *data += 3;
        *size -= 3;
        body = body < *size ? body : *size;
        body = body < BODY_MAX ? body : BODY_MAX;
        mock_uevent_bytes("pci", action, "/devices/pci0000:40/0000:40:01.0/0000:41:00.0", (const char *) *data, body);
        *data += body;
        *size -= body;
}

/* The list comes to be what is plugged in, although events told otherwise. */
static void expect_list(sd_event *event, UdevWatch *watch, const Told *told, size_t n) {
        time_t deadline = time(NULL) + DEADLINE_S;
        while (!told->listed || told->n_gpus != n) {
                assert(time(NULL) <= deadline);
                udev_watch_rescan(watch);
                turn(event, 20000);
        }
}

static void play(MockSysfs *mock, const uint8_t *data, size_t size) {
        static const UdevWatchEvents events = { .gpus_changed = on_gpus, .device_event = on_event };
        _cleanup_(udev_watch_freep) UdevWatch *watch = NULL;
        UdevWatchConfig config = { .root = mock_sysfs_root(mock), .coalesce_us = 1, .recheck_us = UINT64_MAX };
        sd_event *event = NULL;
        Told told = {};
        bool there = true;
        mock_device_add(mock, &MOCK_H100);
        int r = sd_event_new(&event);
        assert(r >= 0);
        r = udev_watch_new(&watch, event, &config, &events, &told);
        assert(r >= 0);
        while (size > 0) {
                uint8_t what = *data++ % 3;
                size--;
                if (what == 0)
                        send_one(&data, &size);
                if (what == 1 && there)
                        mock_device_remove(mock, MOCK_H100.address);
                if (what == 1 && !there)
                        mock_device_add(mock, &MOCK_H100);
                there = there != (what == 1);
                if (what == 2)
                        turn(event, 0);
        }
        expect_list(event, watch, &told, there ? 1 : 0);
        watch = udev_watch_free(watch);
        (void) sd_event_unref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static enum { UNKNOWN, POSSIBLE, IMPOSSIBLE } uevents;
        if (uevents == UNKNOWN) {
                (void) setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", 1);
                log_set_level(LOG_CRIT);
                uevents = mock_uevents_possible() ? POSSIBLE : IMPOSSIBLE;
                if (uevents == POSSIBLE)
                        mock_udevd_runs(true);
        }
        if (uevents == IMPOSSIBLE)
                return 0;
        MockSysfs *mock = mock_sysfs_new();
        play(mock, data, size);
        (void) mock_sysfs_free(mock);
        return 0;
}
