/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/bus.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "core/names.h"

#define ASK_US (5 * 1000000ULL) /* the bus itself answers at once, or not at all */

int bus_open(const char *address, sd_bus **ret) {
        if (!address)
                return sd_bus_open_system(ret);

        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(bus, true);
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = STEAL(bus);
        return 0;
}

static uint64_t read_clock_us(clockid_t clock) {
        struct timespec now = {};
        (void) clock_gettime(clock, &now);
        return (uint64_t) now.tv_sec * 1000000U + (uint64_t) now.tv_nsec / 1000U;
}

uint64_t now_boottime_us(void) {
        return read_clock_us(CLOCK_BOOTTIME);
}

uint64_t now_realtime_us(void) {
        return read_clock_us(CLOCK_REALTIME);
}

static volatile sig_atomic_t interrupted;
static sigset_t mask_outside;
static struct sigaction action_outside;
static bool catching;

static void note_interrupt(int signal) {
        interrupted = 1;
}

void bus_release_interrupt(void) {
        if (!catching)
                return;
        (void) sigaction(SIGINT, &action_outside, NULL);
        (void) sigprocmask(SIG_SETMASK, &mask_outside, NULL);
        catching = false;
}

bool bus_was_interrupted(void) {
        return catching && interrupted;
}

void bus_catch_interrupt(void) {
        if (catching)
                return;
        struct sigaction action = { .sa_handler = note_interrupt };
        sigset_t mask;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGINT);
        interrupted = 0;
        /* Blocked but while bus_turn() sleeps, so that none is missed between the look and the sleep. */
        (void) sigprocmask(SIG_BLOCK, &mask, &mask_outside);
        (void) sigaction(SIGINT, &action, &action_outside);
        catching = true;
        /* Started in the background: it stays as deaf as its shell wants it. */
        if (action_outside.sa_handler == SIG_IGN)
                bus_release_interrupt();
}

/* How long bus_turn() may sleep: until the deadline, or until sd-bus itself has something due. */
static int find_sleep(sd_bus *bus, uint64_t deadline_us, struct timespec *ret) {
        uint64_t due_us;
        int r = sd_bus_get_timeout(bus, &due_us);
        if (r < 0)
                return r;
        uint64_t now_us = now_boottime_us(), sleep_us = deadline_us > now_us ? deadline_us - now_us : 0;
        /* sd-bus counts on CLOCK_MONOTONIC. */
        uint64_t bus_now_us = read_clock_us(CLOCK_MONOTONIC);
        if (due_us != UINT64_MAX && (due_us > bus_now_us ? due_us - bus_now_us : 0) < sleep_us)
                sleep_us = due_us > bus_now_us ? due_us - bus_now_us : 0;
        *ret = (struct timespec) { .tv_sec = (time_t) (sleep_us / 1000000U),
                                   .tv_nsec = (long) (sleep_us % 1000000U) * 1000 };
        return 0;
}

int bus_turn(sd_bus *bus, uint64_t deadline_us) {
        for (;;) {
                int r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return r;
                if (r > 0)
                        return BUS_TURN_WORKED;
                if (bus_was_interrupted())
                        return BUS_TURN_INTERRUPTED;
                if (now_boottime_us() >= deadline_us)
                        return BUS_TURN_DEADLINE;

                struct timespec sleep;
                r = find_sleep(bus, deadline_us, &sleep);
                if (r < 0)
                        return r;
                int events = sd_bus_get_events(bus), fd = sd_bus_get_fd(bus);
                if (events < 0 || fd < 0)
                        return events < 0 ? events : fd;
                struct pollfd wait = { .fd = fd, .events = (short) events };
                if (ppoll(&wait, 1, &sleep, catching ? &mask_outside : NULL) < 0 && errno != EINTR)
                        return -errno;
        }
}

int bus_match_owner(sd_bus *bus, sd_bus_slot **ret, sd_bus_message_handler_t callback, void *userdata) {
        return sd_bus_add_match(bus, ret, "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                                callback, userdata);
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        bool *there = userdata;
        const char *name, *before, *now;
        if (sd_bus_message_read(m, "sss", &name, &before, &now) >= 0)
                *there = now[0] != 0;
        return 0;
}

static sd_bus_message *ask_the_bus(sd_bus *bus, const char *method, const char *types, uint32_t flags) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *answer = NULL;
        if (sd_bus_message_new_method_call(bus, &m, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                           "org.freedesktop.DBus", method) < 0)
                return NULL;
        if (sd_bus_message_append(m, types, BUS_NAME, flags) < 0)
                return NULL;
        if (sd_bus_call(bus, m, ASK_US, NULL, &answer) < 0)
                return NULL;
        return STEAL(answer);
}

bool bus_await_service(sd_bus *bus, uint64_t deadline_us) {
        bool there = false;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        if (bus_match_owner(bus, &slot, on_name, &there) < 0)
                return false;

        _cleanup_(sd_bus_message_unrefp) sd_bus_message *owned = ask_the_bus(bus, "NameHasOwner", "s", 0);
        int has_owner = 0;
        if (owned && sd_bus_message_read(owned, "b", &has_owner) >= 0 && has_owner)
                return true;
        /* A bus that cannot start it says so; then someone else may. */
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *started = ask_the_bus(bus, "StartServiceByName", "su", 0);
        if (started)
                return true;

        while (!there)
                if (bus_turn(bus, deadline_us) != BUS_TURN_WORKED)
                        return there;
        return true;
}
