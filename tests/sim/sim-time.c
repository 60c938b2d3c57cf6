/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-time.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

void sim_time_init(SimTime *time, uint64_t seed, unsigned told) {
        *time = (SimTime) { .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .told = told };
}

void sim_time_clear(SimTime *time) {
        array_clear(&time->agenda);
        g_free(time->broken);
        for (unsigned i = 0; i < SIM_LAST; i++)
                g_free(time->last[i]);
        *time = (SimTime) {};
}

/* ---- the agenda */

static bool is_before(const SimAlarm *a, const SimAlarm *b) {
        return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void put(SimTime *time, size_t i, SimAlarm *alarm) {
        time->agenda.items[i] = alarm;
        alarm->place = i + 1;
}

static void rise(SimTime *time, size_t i, SimAlarm *alarm) {
        for (; i > 0 && is_before(alarm, time->agenda.items[(i - 1) / 2]); i = (i - 1) / 2)
                put(time, i, time->agenda.items[(i - 1) / 2]);
        put(time, i, alarm);
}

static void sink(SimTime *time, size_t i, SimAlarm *alarm) {
        for (;;) {
                size_t child = 2 * i + 1;
                if (child + 1 < time->agenda.n && is_before(time->agenda.items[child + 1], time->agenda.items[child]))
                        child++;
                if (child >= time->agenda.n || !is_before(time->agenda.items[child], alarm))
                        break;
                put(time, i, time->agenda.items[child]);
                i = child;
        }
        put(time, i, alarm);
}

void sim_alarm_unset(SimTime *time, SimAlarm *alarm) {
        if (alarm->place == 0)
                return;
        size_t i = alarm->place - 1;
        SimAlarm *last = time->agenda.items[--time->agenda.n];
        alarm->place = 0;
        if (last == alarm)
                return;
        if (i > 0 && is_before(last, time->agenda.items[(i - 1) / 2]))
                rise(time, i, last);
        else
                sink(time, i, last);
}

void sim_alarm_set(SimTime *time, SimAlarm *alarm, uint64_t at_us) {
        sim_alarm_unset(time, alarm);
        alarm->at_us = at_us > time->now_us ? at_us : time->now_us;
        alarm->order = ++time->order;
        g_assert_cmpint(array_append(&time->agenda, &alarm), ==, 0);
        rise(time, time->agenda.n - 1, alarm);
}

bool sim_time_step(SimTime *time, uint64_t until_us) {
        SimAlarm *first = time->agenda.n > 0 ? time->agenda.items[0] : NULL;
        if (!first || first->at_us > until_us) {
                time->now_us = until_us;
                return false;
        }
        sim_alarm_unset(time, first);
        time->now_us = first->at_us;
        time->n_events++;
        first->ring(first->userdata);
        return true;
}

/* ---- chance */

/* splitmix64 */
uint64_t sim_random(SimTime *time) {
        uint64_t z = time->random += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

unsigned sim_pick(SimTime *time, unsigned n) {
        return n > 1 ? (unsigned) (sim_random(time) % n) : 0;
}

bool sim_chance(SimTime *time, unsigned percent) {
        return sim_pick(time, 100) < percent;
}

uint64_t sim_between(SimTime *time, uint64_t least, uint64_t most) {
        return least + sim_random(time) % (most - least + 1);
}

/* ---- words */

/* FNV-1a */
uint64_t sim_mark_bytes(uint64_t mark, const void *bytes, size_t size) {
        const uint8_t *byte = bytes;
        mark ^= UINT64_C(14695981039346656037);
        for (size_t i = 0; i < size; i++)
                mark = (mark ^ byte[i]) * UINT64_C(1099511628211);
        return mark;
}

void sim_say(SimTime *time, const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        int n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        g_assert_cmpint(n, >=, 0);
        time->mark = sim_mark_bytes(time->mark ^ time->now_us, text, strlen(text));
        char **last = time->last + time->n_said++ % SIM_LAST;
        g_free(*last);
        *last = g_strdup_printf("%10.6f %s", (double) time->now_us / (double) SECOND, text);
        if (time->told > 0)
                printf("# %s\n", *last);
}

void sim_tell_last(const SimTime *time) {
        for (unsigned i = 0; i < SIM_LAST; i++) {
                const char *said = time->last[(time->n_said + i) % SIM_LAST];
                if (said)
                        fprintf(stderr, "# %s\n", said);
        }
}

void sim_broken(SimTime *time, const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        int n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        g_assert_cmpint(n, >=, 0);
        sim_say(time, "BROKEN: %s", text);
        if (!time->broken)
                time->broken = g_strdup_printf("at %.6f s: %s", (double) time->now_us / (double) SECOND, text);
}
