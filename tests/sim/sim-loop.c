/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-loop.h"

#include <errno.h>
#include <glib.h>
#include <sys/signalfd.h>
#include <time.h>

/* How late a loop comes to what is due: other work is done there too. */
#define LATE_MOST_US 300U

typedef enum SourceKind {
        SOURCE_TIME,
        SOURCE_TURN,
        SOURCE_FD,
        SOURCE_SIGNAL,
        SOURCE_EXIT,
} SourceKind;

struct sd_event {
        unsigned references;
        SimTime *time;
        uint64_t clock_begins_us;
        int drift_ppm;
        uint64_t held_from_us, held_until_us;
        uint64_t put_off_until_us;
        bool may_be_stale, has_lost_time;
        uint64_t stale_us;              /* what its clock says for this turn; 0: the truth */
        uint64_t looked_us, went_on_us; /* what it said, when what was being done then went on */
        const void *looked_for;
        const void *reads;              /* what it is stopped in */
        void *userdata;
        void (*left)(void *userdata, int code);
        sd_event_source *waiting;       /* those for a descriptor, a signal or the end */
        bool is_exiting, has_exited;
        int code;
};

struct sd_event_source {
        unsigned references;
        sd_event *loop;
        SimAlarm alarm;
        SourceKind kind;
        int enabled;
        uint64_t at_us;                 /* by the machine's clock */
        int fd;                         /* or the signal's number */
        union {
                sd_event_time_handler_t on_time;
                sd_event_handler_t on_turn;
                sd_event_io_handler_t on_io;
                sd_event_signal_handler_t on_signal;
        };
        void *userdata;
        sd_event_source *next;
};

static sd_event *current, *offered;
static SimReady fd_is_ready;

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

uint64_t sim_loop_true_time(const sd_event *loop, uint64_t at_us) {
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
        if (loop->held_until_us <= loop->time->now_us)
                loop->held_from_us = loop->time->now_us;
        if (until_us > loop->held_until_us)
                loop->held_until_us = until_us;
}

void sim_loop_hold_in(sd_event *loop, uint64_t until_us, const void *what) {
        sim_loop_hold(loop, until_us);
        loop->reads = what;
}

void sim_loop_release(sd_event *loop) {
        loop->held_until_us = 0;
}

uint64_t sim_loop_free_at(const sd_event *loop) {
        return loop->held_until_us > loop->time->now_us ? loop->held_until_us : loop->time->now_us;
}

uint64_t sim_loop_up_to_date_at(const sd_event *loop) {
        uint64_t free_us = sim_loop_free_at(loop);
        return loop->put_off_until_us > free_us ? loop->put_off_until_us : free_us;
}

bool sim_loop_may_run(sd_event *loop, SimAlarm *alarm) {
        if (loop->held_until_us <= loop->time->now_us)
                return true;
        loop->put_off_until_us = loop->held_until_us;
        sim_alarm_set(loop->time, alarm, loop->held_until_us);
        return false;
}

void sim_loop_lose_time(sd_event *loop, uint64_t us) {
        loop->clock_begins_us -= us;
        loop->has_lost_time = true;
}

void sim_loop_may_be_stale(sd_event *loop) {
        loop->may_be_stale = true;
}

/* All that one socket had to say is read in one turn. */
static void look_at_clock(sd_event *loop, const void *what) {
        uint64_t now_us = loop->time->now_us;
        bool is_stale = loop->held_from_us > 0 && loop->may_be_stale && !loop->has_lost_time;
        if (is_stale && (loop->reads || sim_chance(loop->time, 50))) {
                loop->looked_us = clock_at(loop, loop->held_from_us);
                loop->looked_for = loop->reads ? loop->reads : what;
                loop->went_on_us = now_us;
                loop->reads = NULL;
        } else if (loop->held_from_us > 0) {
                loop->looked_us = 0;
        }
        if (loop->looked_us > 0 && loop->looked_for == what && loop->went_on_us == now_us)
                loop->stale_us = loop->looked_us;
        loop->held_from_us = 0;
        loop->has_lost_time = false;
}

SimTurn sim_loop_begin_for(sd_event *loop, const void *what) {
        SimTurn turn = { .loop = loop, .before = current };
        current = loop;
        look_at_clock(loop, what);
        (void) sd_event_ref(loop);
        return turn;
}

SimTurn sim_loop_begin(sd_event *loop) {
        return sim_loop_begin_for(loop, loop);
}

void sim_loop_end(SimTurn turn) {
        current = turn.before;
        turn.loop->stale_us = 0;
        (void) sd_event_unref(turn.loop);
}

sd_event *sim_loop_current(void) {
        return current;
}

void sim_loop_offer(sd_event *loop) {
        offered = loop;
}

void *sim_loop_userdata(const sd_event *loop) {
        return loop->userdata;
}

void sim_loop_set_userdata(sd_event *loop, void *userdata, void (*left)(void *userdata, int code)) {
        loop->userdata = userdata;
        loop->left = left;
}

/* ---- sd_event */

int sd_event_new(sd_event **ret) {
        g_assert_nonnull(offered);
        *ret = sd_event_ref(offered);
        return 0;
}

sd_event *sd_event_ref(sd_event *loop) {
        loop->references++;
        return loop;
}

/* What is left then are sources that the loop owns. */
sd_event *sd_event_unref(sd_event *loop) {
        if (!loop || --loop->references > 0)
                return NULL;
        for (sd_event_source *next, *source = loop->waiting; source; source = next) {
                next = source->next;
                sim_alarm_unset(loop->time, &source->alarm);
                g_free(source);
        }
        g_free(loop);
        return NULL;
}

int sd_event_now(sd_event *loop, clockid_t clock, uint64_t *ret_us) {
        g_assert_cmpint(clock, !=, CLOCK_MONOTONIC);
        *ret_us = loop->stale_us > 0 ? loop->stale_us : sim_loop_clock(loop);
        return 0;
}

static void schedule(sd_event_source *source) {
        SimTime *time = source->loop->time;
        uint64_t at_us = time->now_us;

        if (source->enabled == SD_EVENT_OFF || source->kind == SOURCE_SIGNAL || source->kind == SOURCE_EXIT ||
            (source->kind == SOURCE_FD && !fd_is_ready(source->fd))) {
                sim_alarm_unset(time, &source->alarm);
                return;
        }
        if (source->kind == SOURCE_TIME)
                at_us = sim_loop_true_time(source->loop, source->at_us);
        sim_alarm_set(time, &source->alarm, at_us + sim_pick(time, LATE_MOST_US));
}

static int call(sd_event_source *source) {
        struct signalfd_siginfo info = { .ssi_signo = (uint32_t) source->fd };
        switch (source->kind) {
        case SOURCE_TIME:
                return source->on_time(source, source->at_us, source->userdata);
        case SOURCE_FD:
                return source->on_io(source, source->fd, 1, source->userdata);
        case SOURCE_SIGNAL:
                return source->on_signal(source, &info, source->userdata);
        case SOURCE_TURN:
        case SOURCE_EXIT:
                break;
        }
        return source->on_turn(source, source->userdata);
}

static void dispatch(sd_event_source *source) {
        if (source->enabled == SD_EVENT_ONESHOT)
                source->enabled = SD_EVENT_OFF;
        source->references++;
        if (call(source) < 0)
                source->enabled = SD_EVENT_OFF;
        if (source->enabled == SD_EVENT_ON && source->alarm.place == 0)
                schedule(source);
        (void) sd_event_source_unref(source);
}

/* What stands behind sd_event_loop(). */
static void leave(sd_event *loop) {
        loop->has_exited = true;
        for (sd_event_source *source = loop->waiting; source; source = source->next)
                if (source->kind == SOURCE_EXIT && source->enabled != SD_EVENT_OFF) {
                        dispatch(source);
                        break;
                }
        if (loop->left)
                loop->left(loop->userdata, loop->code);
}

static void ring(void *userdata) {
        sd_event_source *source = userdata;
        sd_event *loop = source->loop;

        if (loop->has_exited || !sim_loop_may_run(loop, &source->alarm))
                return;
        if (source->kind == SOURCE_TIME && sim_loop_clock(loop) < source->at_us) {
                schedule(source);       /* the clock stood still meanwhile */
                return;
        }
        SimTurn turn = sim_loop_begin_for(loop, source);
        if (source->kind != SOURCE_FD || fd_is_ready(source->fd))
                dispatch(source);
        if (loop->is_exiting && !loop->has_exited)
                leave(loop);
        sim_loop_end(turn);
}

static sd_event_source *source_new(sd_event *loop, SourceKind kind, void *userdata) {
        sd_event_source *source = g_new0(sd_event_source, 1);
        *source = (sd_event_source) {
                .references = 1,
                .loop = sd_event_ref(loop),
                .kind = kind,
                .enabled = SD_EVENT_ONESHOT,
                .userdata = userdata,
        };
        source->alarm = (SimAlarm) { .ring = ring, .userdata = source };
        if (kind == SOURCE_TIME || kind == SOURCE_TURN)
                return source;
        if (kind != SOURCE_EXIT)
                source->enabled = SD_EVENT_ON;
        source->next = loop->waiting;
        loop->waiting = source;
        return source;
}

/* Without a place for it the loop owns the source. */
static void give(sd_event_source *source, sd_event_source **ret) {
        schedule(source);
        if (ret)
                *ret = source;
        else
                (void) sd_event_unref(source->loop);
}

int sd_event_add_time(sd_event *loop, sd_event_source **ret, clockid_t clock, uint64_t at_us, uint64_t accuracy_us,
                      sd_event_time_handler_t callback, void *userdata) {
        g_assert_cmpint(clock, ==, CLOCK_BOOTTIME);
        sd_event_source *source = source_new(loop, SOURCE_TIME, userdata);
        source->on_time = callback;
        source->at_us = at_us;
        give(source, ret);
        return 0;
}

static uint64_t after(const sd_event *loop, uint64_t us) {
        uint64_t now = loop->stale_us > 0 ? loop->stale_us : sim_loop_clock(loop);
        return us < UINT64_MAX - now ? now + us : UINT64_MAX;
}

int sd_event_add_time_relative(sd_event *loop, sd_event_source **ret, clockid_t clock, uint64_t us,
                               uint64_t accuracy_us, sd_event_time_handler_t callback, void *userdata) {
        return sd_event_add_time(loop, ret, clock, after(loop, us), accuracy_us, callback, userdata);
}

int sd_event_add_defer(sd_event *loop, sd_event_source **ret, sd_event_handler_t callback, void *userdata) {
        sd_event_source *source = source_new(loop, SOURCE_TURN, userdata);
        source->on_turn = callback;
        give(source, ret);
        return 0;
}

int sd_event_add_io(sd_event *loop, sd_event_source **ret, int fd, uint32_t events, sd_event_io_handler_t callback,
                    void *userdata) {
        sd_event_source *source = source_new(loop, SOURCE_FD, userdata);
        source->fd = fd;
        source->on_io = callback;
        give(source, ret);
        return 0;
}

int sd_event_add_signal(sd_event *loop, sd_event_source **ret, int number, sd_event_signal_handler_t callback,
                        void *userdata) {
        sd_event_source *source = source_new(loop, SOURCE_SIGNAL, userdata);
        source->fd = number;
        source->on_signal = callback;
        give(source, ret);
        return 0;
}

int sd_event_add_exit(sd_event *loop, sd_event_source **ret, sd_event_handler_t callback, void *userdata) {
        sd_event_source *source = source_new(loop, SOURCE_EXIT, userdata);
        source->on_turn = callback;
        give(source, ret);
        return 0;
}

int sd_event_exit(sd_event *loop, int code) {
        loop->is_exiting = true;
        loop->code = code;
        return 0;
}

void sim_loop_set_ready(SimReady is_ready) {
        fd_is_ready = is_ready;
}

void sim_loop_fd_ready(sd_event *loop, int fd) {
        for (sd_event_source *source = loop->waiting; source; source = source->next)
                if (source->kind == SOURCE_FD && source->fd == fd && source->alarm.place == 0)
                        schedule(source);
}

void sim_loop_signal(sd_event *loop, int number) {
        for (sd_event_source *source = loop->waiting; source; source = source->next)
                if (source->kind == SOURCE_SIGNAL && source->fd == number)
                        sim_alarm_set(loop->time, &source->alarm, loop->time->now_us);
}

int sd_event_source_set_time(sd_event_source *source, uint64_t at_us) {
        source->at_us = at_us;
        schedule(source);
        return 0;
}

int sd_event_source_set_time_relative(sd_event_source *source, uint64_t us) {
        return sd_event_source_set_time(source, after(source->loop, us));
}

int sd_event_source_set_enabled(sd_event_source *source, int enabled) {
        if (!source)
                return -EINVAL;
        if (source->enabled == enabled && (enabled == SD_EVENT_OFF || source->alarm.place > 0))
                return 0;
        source->enabled = enabled;
        schedule(source);
        return 0;
}

int sd_event_source_set_priority(sd_event_source *source, int64_t priority) {
        return 0;
}

int sd_event_source_set_description(sd_event_source *source, const char *description) {
        return 0;
}

static void forget(sd_event_source *source) {
        for (sd_event_source **at = &source->loop->waiting; *at; at = &(*at)->next)
                if (*at == source) {
                        *at = source->next;
                        return;
                }
}

sd_event_source *sd_event_source_unref(sd_event_source *source) {
        if (!source || --source->references > 0)
                return NULL;
        sim_alarm_unset(source->loop->time, &source->alarm);
        forget(source);
        (void) sd_event_unref(source->loop);
        g_free(source);
        return NULL;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *source) {
        if (source)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return sd_event_source_unref(source);
}
