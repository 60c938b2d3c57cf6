/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Clock: what time it is at this very moment. Most code goes by the time of its loop's turn (sd_event_now()), which is
 * that of its beginning; where somebody else's deadline hangs on it, that may be too early by as long as this process
 * was held up since. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_boottime_us(void) {
        struct timespec now = {};
        (void) clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

/* For people's eyes. */
static inline uint64_t clock_realtime_ms(void) {
        struct timespec now = {};
        (void) clock_gettime(CLOCK_REALTIME, &now);
        return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}
