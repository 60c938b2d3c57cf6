/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop-clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "util/array.h"

#define PUBLIC __attribute__((visibility("default")))
#define NS_OF_S UINT64_C(1000000000)
#define TICK_US 10000U
#define LATE_NS (LOOP_CLOCK_LATE_MS * UINT64_C(1000000))

/*      kernel      ────┬──────────────────────────┬────►
 *                      │ the timer is due         │ we run again
 *      loop        ────┴─┬────►                   │
 *                        └ LATE later; the rest is lost
 */
static _Atomic uint64_t lost_ns;        /* the kernel's clock is so far ahead of the loop's */
static uint64_t due_ns;                 /* when the loop's timer fires, by the loop's clock; 0: never */
static uint64_t told_ns;                /* what the clock showed last */
static int timer_fd = -1;               /* the loop's; -1: it has none yet */
static bool is_of_this_clock[1024];     /* by descriptor: timers of any loop */
static unsigned depth;
static pthread_t loop_thread;

void loop_clock_begin(void) {
        if (depth++ > 0)
                return;
        loop_thread = pthread_self();
        due_ns = told_ns = 0;
        timer_fd = -1;
}

void loop_clock_end(void) {
        depth--;
}

static int on_tick(sd_event_source *source, uint64_t at_us, void *userdata) {
        (void) sd_event_source_set_time_relative(source, TICK_US);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

sd_event_source *loop_clock_tick(sd_event *event) {
        sd_event_source *source = NULL;
        (void) sd_event_add_time_relative(event, &source, CLOCK_BOOTTIME, TICK_US, 1, on_tick, NULL);
        return source;
}

static bool is_loop(void) {
        return depth > 0 && pthread_equal(pthread_self(), loop_thread);
}

static uint64_t now_ns(uint64_t kernel_ns) {
        uint64_t now = kernel_ns - lost_ns, latest = due_ns + LATE_NS;
        if (!is_loop())
                return now;
        if (latest < told_ns)
                latest = told_ns;       /* it never goes back */
        if (due_ns > 0 && now > latest) {
                lost_ns += now - latest;
                now = latest;
        }
        told_ns = now;
        return now;
}

/* These take the places of libc's, for libsystemd too. */

PUBLIC int clock_gettime(clockid_t id, struct timespec *ret) {
        int r = (int) syscall(SYS_clock_gettime, id, ret);
        if (r < 0 || id != CLOCK_BOOTTIME)
                return r;
        uint64_t now = now_ns((uint64_t) ret->tv_sec * NS_OF_S + (uint64_t) ret->tv_nsec);
        *ret = (struct timespec) { .tv_sec = (time_t) (now / NS_OF_S), .tv_nsec = (long) (now % NS_OF_S) };
        return 0;
}

PUBLIC int timerfd_create(clockid_t id, int flags) {
        int fd = (int) syscall(SYS_timerfd_create, id, flags);
        if (fd < 0 || fd >= (int) ELEMENTS(is_of_this_clock))
                return fd;
        is_of_this_clock[fd] = id == CLOCK_BOOTTIME;
        if (is_of_this_clock[fd] && is_loop() && timer_fd < 0)
                timer_fd = fd;
        return fd;
}

PUBLIC int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old) {
        struct itimerspec kernel = *value;
        uint64_t at = (uint64_t) value->it_value.tv_sec * NS_OF_S + (uint64_t) value->it_value.tv_nsec;
        if (fd == timer_fd && is_loop())
                due_ns = at;
        if (at > 0 && (flags & TFD_TIMER_ABSTIME) && fd < (int) ELEMENTS(is_of_this_clock) &&
            is_of_this_clock[fd]) {
                at += lost_ns;
                kernel.it_value.tv_sec = (time_t) (at / NS_OF_S);
                kernel.it_value.tv_nsec = (long) (at % NS_OF_S);
        }
        return (int) syscall(SYS_timerfd_settime, fd, flags, &kernel, old);
}
