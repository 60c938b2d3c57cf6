/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimTime: a world's one true clock, the agenda of what is to happen, chance, and the trace. Nothing else in a
 * simulated world knows what time it is or throws dice, so a seed is a history: the same events in the same order.
 *
 * The first promise that is found broken is kept as a sentence; the world is run no further then. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/array.h"

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)

#define SIM_LAST 50U

/* Part of what it belongs to; zeroed and with ring() it is ready. Set or not, it may be set again. */
typedef struct SimAlarm {
        uint64_t at_us;
        uint64_t order;
        size_t place;                   /* on the agenda, from 1; 0: not set */
        void (*ring)(void *userdata);
        void *userdata;
} SimAlarm;

typedef struct SimTime {
        uint64_t now_us;
        uint64_t order;
        ARRAY(SimAlarm *) agenda;       /* a heap */
        uint64_t random;
        unsigned told;                  /* 1: the trace is printed; 2: with every letter */
        uint64_t mark;                  /* of all that was said: two runs with the same one are the same history */
        uint64_t n_events;
        char *broken;                   /* owned; what was found broken first */
        char *last[SIM_LAST];           /* what was said last, a ring; for those who find something broken */
        unsigned n_said;
} SimTime;

void sim_time_init(SimTime *time, uint64_t seed, unsigned told);
void sim_time_clear(SimTime *time);

void sim_alarm_set(SimTime *time, SimAlarm *alarm, uint64_t at_us);
void sim_alarm_unset(SimTime *time, SimAlarm *alarm);

/* The next thing happens. False if there is none up to @until_us; then that time has come. */
bool sim_time_step(SimTime *time, uint64_t until_us);

/* ---- chance */

uint64_t sim_random(SimTime *time);
unsigned sim_pick(SimTime *time, unsigned n);                   /* 0 .. n - 1 */
bool sim_chance(SimTime *time, unsigned percent);
uint64_t sim_between(SimTime *time, uint64_t least, uint64_t most);

/* ---- words */

void sim_say(SimTime *time, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_broken(SimTime *time, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* To standard error, oldest first. */
void sim_tell_last(const SimTime *time);

uint64_t sim_mark_bytes(uint64_t mark, const void *bytes, size_t size);
