/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-loop.h"

#include <errno.h>
#include <glib.h>
#include <time.h>

/* How late a loop comes to what is due: other work is done there too. */
#define LATE_MOST_US 300U

struct sd_event {
        unsigned references;
        SimTime *time;
        uint64_t clock_begins_us;
        int drift_ppm;
        uint64_t held_until_us;
};

struct sd_event_source {
        unsigned references;
        sd_event *loop;
        SimAlarm alarm;
        bool is_timer;
        int enabled;
        uint64_t at_us;                 /* by the machine's clock */
        sd_event_time_handler_t on_time;
        sd_event_handler_t on_turn;
        void *userdata;
};

/* ---- the machine's time */

sd_event *sim_loop_new(SimTime *time, uint64_t clock_begins_us, int drift_ppm) {
        sd_event *loop = g_new0(sd_event, 1);
        *loop = (sd_event) {
                .references = 1,
                .time = time,
                .clock_begins_us = clock_begins_us,
                .drift_ppm = drift_ppm,
        };
        return loop;
}

static uint64_t clock_at(const sd_event *loop, uint64_t true_us) {
        int64_t drift = (int64_t) true_us / 1000000 * loop->drift_ppm +
                        (int64_t) (true_us % 1000000) * loop->drift_ppm / 1000000;
        return loop->clock_begins_us + true_us + (uint64_t) drift;
}

uint64_t sim_loop_clock(const sd_event *loop) {
        return clock_at(loop, loop->time->now_us);
}

/* The true time at which the machine's clock has reached @at_us. */
static uint64_t true_time_of(const sd_event *loop, uint64_t at_us) {
        uint64_t now = loop->time->now_us, clock = sim_loop_clock(loop);
        if (at_us <= clock)
                return now;
        uint64_t ahead = at_us - clock;
        if (ahead > UINT64_MAX / 4)
                return UINT64_MAX / 2;
        uint64_t true_us = now + ahead - (uint64_t) ((int64_t) (ahead / 1000000) * loop->drift_ppm);
        while (clock_at(loop, true_us) < at_us)
                true_us += 1 + (at_us - clock_at(loop, true_us)) / 2;
        return true_us;
}

void sim_loop_hold(sd_event *loop, uint64_t until_us) {
        if (until_us > loop->held_until_us)
                loop->held_until_us = until_us;
}

void sim_loop_release(sd_event *loop) {
        loop->held_until_us = 0;
}

uint64_t sim_loop_free_at(const sd_event *loop) {
        return loop->held_until_us > loop->time->now_us ? loop->held_until_us : loop->time->now_us;
}

bool sim_loop_may_run(sd_event *loop, SimAlarm *alarm) {
        if (loop->held_until_us <= loop->time->now_us)
                return true;
        sim_alarm_set(loop->time, alarm, loop->held_until_us);
        return false;
}

/* ---- sd_event */

sd_event *sd_event_ref(sd_event *loop) {
        loop->references++;
        return loop;
}

sd_event *sd_event_unref(sd_event *loop) {
        if (loop && --loop->references == 0)
                g_free(loop);
        return NULL;
}

int sd_event_now(sd_event *loop, clockid_t clock, uint64_t *ret_us) {
        g_assert_cmpint(clock, ==, CLOCK_BOOTTIME);
        *ret_us = sim_loop_clock(loop);
        return 0;
}

static void ring(void *userdata) {
        sd_event_source *source = userdata;

        if (!sim_loop_may_run(source->loop, &source->alarm))
                return;
        if (source->enabled == SD_EVENT_ONESHOT)
                source->enabled = SD_EVENT_OFF;
        source->references++;
        int r = source->is_timer ? source->on_time(source, source->at_us, source->userdata)
                                 : source->on_turn(source, source->userdata);
        if (r < 0)
                source->enabled = SD_EVENT_OFF;
        g_assert_true(source->enabled != SD_EVENT_ON);
        (void) sd_event_source_unref(source);
}

static sd_event_source *source_new(sd_event *loop, bool is_timer, void *userdata) {
        sd_event_source *source = g_new0(sd_event_source, 1);
        *source = (sd_event_source) {
                .references = 1,
                .loop = sd_event_ref(loop),
                .is_timer = is_timer,
                .enabled = SD_EVENT_ONESHOT,
                .userdata = userdata,
        };
        source->alarm = (SimAlarm) { .ring = ring, .userdata = source };
        return source;
}

static void schedule(sd_event_source *source) {
        SimTime *time = source->loop->time;
        if (source->enabled == SD_EVENT_OFF) {
                sim_alarm_unset(time, &source->alarm);
                return;
        }
        uint64_t at_us = source->is_timer ? true_time_of(source->loop, source->at_us) : time->now_us;
        sim_alarm_set(time, &source->alarm, at_us + sim_pick(time, LATE_MOST_US));
}

int sd_event_add_time(sd_event *loop, sd_event_source **ret, clockid_t clock, uint64_t at_us, uint64_t accuracy_us,
                      sd_event_time_handler_t callback, void *userdata) {
        g_assert_cmpint(clock, ==, CLOCK_BOOTTIME);
        sd_event_source *source = source_new(loop, true, userdata);
        source->on_time = callback;
        source->at_us = at_us;
        schedule(source);
        *ret = source;
        return 0;
}

int sd_event_add_defer(sd_event *loop, sd_event_source **ret, sd_event_handler_t callback, void *userdata) {
        sd_event_source *source = source_new(loop, false, userdata);
        source->on_turn = callback;
        schedule(source);
        *ret = source;
        return 0;
}

int sd_event_source_set_time(sd_event_source *source, uint64_t at_us) {
        source->at_us = at_us;
        schedule(source);
        return 0;
}

int sd_event_source_set_enabled(sd_event_source *source, int enabled) {
        if (!source)
                return -EINVAL;
        g_assert_cmpint(enabled, !=, SD_EVENT_ON);      /* nothing here needs it yet */
        if (source->enabled == enabled && (enabled == SD_EVENT_OFF || source->alarm.place > 0))
                return 0;
        source->enabled = enabled;
        schedule(source);
        return 0;
}

int sd_event_source_set_description(sd_event_source *source, const char *description) {
        return 0;
}

sd_event_source *sd_event_source_unref(sd_event_source *source) {
        if (!source || --source->references > 0)
                return NULL;
        sim_alarm_unset(source->loop->time, &source->alarm);
        (void) sd_event_unref(source->loop);
        g_free(source);
        return NULL;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *source) {
        if (source)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return sd_event_source_unref(source);
}
