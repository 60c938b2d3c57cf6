/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Event rate: how often udev spoke of each device lately. A card with a bad link comes and goes a hundred times a
 * second, and each event would be a signal to every client of the bus, a look into sysfs, a question to the probe and
 * news for the cluster. So each device has a share:
 *
 *      of its events EVENT_RATE_PER_S a second are told at once; of those above that the last one is kept and told when
 *      the second is over, with how many were left out. So the last state always comes through, a second later at most.
 *
 *      who is above that share (it is busy) is looked at once a second, and who was pulled EVENT_RATE_PULLS times in a
 *      row counts as there only after it stayed for EVENT_RATE_STAY_US: before that it is not there.
 *
 * Knows no clock and no loop; udev-watch.c drives it. */

#include "adapters/udev/held-events.h"

/* A whole hot-plug with its driver bound and bound to another is less than half of it. */
#define EVENT_RATE_PER_S 20U
#define EVENT_RATE_PULLS 5U
/* Pulls further apart than this have nothing to do with each other. */
#define EVENT_RATE_FORGET_US (30U * 1000U * 1000U)
#define EVENT_RATE_STAY_US (2U * 1000U * 1000U)
/* Above it the device that spoke first is forgotten; twice what a host has slots for. */
#define EVENT_RATE_DEVICES_MAX 8192U

typedef struct RatedDevice {
        PciAddress address;
        uint64_t since_us;              /* the second that is counted began */
        unsigned n;                     /* events in it */
        bool was_busy;                  /* in the second before */
        unsigned left_out;              /* events that were not told, the kept one not among them */
        HeldEvent last;                 /* .memory NULL: none is kept */
        unsigned pulls;
        uint64_t pulled_us;             /* the last time */
} RatedDevice;

typedef struct EventRate {
        ARRAY(RatedDevice) devices;     /* by address */
        size_t n_kept;
} EventRate;

void event_rate_clear(EventRate *rate);

typedef enum EventVerdict {
        EVENT_TELL,
        EVENT_KEPT,                     /* event_rate_take() has it later, or another one of the device in its place */
} EventVerdict;

/* Counts an event, whoever it concerns. */
void event_rate_count(EventRate *rate, const DeviceEvent *event, uint64_t now_us);
/* Whether one that was counted is to be told now. @concerns: it is known to concern a GPU. Without memory for it:
 * EVENT_TELL. */
EventVerdict event_rate_judge(EventRate *rate, const DeviceEvent *event, bool concerns, uint64_t now_us);

/* When the next kept event is to be told, or UINT64_MAX. */
uint64_t event_rate_due(const EventRate *rate);
/* Takes out one whose time has come. False: none. */
bool event_rate_take(EventRate *rate, uint64_t now_us, HeldEvent *ret, unsigned *ret_left_out);

/* How long to wait before the device is looked at: @usual_us, or longer for one that is busy or that flaps. */
uint64_t event_rate_wait(const EventRate *rate, PciAddress address, uint64_t usual_us, uint64_t now_us);
