/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into the product's services of a host that has a clock of its own (rig up --clock): CLOCK_REALTIME is the
 * machine's plus what stands in the file named by RIG_CLOCK, an int64_t of nanoseconds that clock.py writes.
 *
 * libfaketime cannot be used: told to leave CLOCK_MONOTONIC alone, it still shifts absolute timerfd timers on
 * CLOCK_BOOTTIME and lets waits on a monotonic condition return at once, and it hangs under AddressSanitizer. What is
 * not replaced here is untouched. Each function is a system call, as dlsym() cannot be used before a sanitizer is up.
 * Waits until a time of CLOCK_REALTIME (sem_timedwait and its kin) are not moved. */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000L

static const int64_t *offset_ns;

__attribute__((constructor)) static void map_offset(void) {
        const char *path = getenv("RIG_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0)
                return;

        void *map = mmap(NULL, sizeof(*offset_ns), PROT_READ, MAP_SHARED, fd, 0);
        (void) close(fd);
        if (map != MAP_FAILED)
                offset_ns = map;
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
        if (syscall(SYS_clock_gettime, clock, ret) < 0)
                return -1;
        if (!offset_ns || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE && clock != CLOCK_TAI))
                return 0;

        int64_t offset = __atomic_load_n(offset_ns, __ATOMIC_RELAXED);
        ret->tv_sec += offset / NSEC_PER_SEC;
        ret->tv_nsec += offset % NSEC_PER_SEC;
        if (ret->tv_nsec < 0) {
                ret->tv_sec--;
                ret->tv_nsec += NSEC_PER_SEC;
        } else if (ret->tv_nsec >= NSEC_PER_SEC) {
                ret->tv_sec++;
                ret->tv_nsec -= NSEC_PER_SEC;
        }
        return 0;
}

time_t time(time_t *ret) {
        struct timespec now = {};

        (void) clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone) {
        struct timespec now = {};

        (void) zone;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        *ret = (struct timeval) { .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000 };
        return 0;
}

int timespec_get(struct timespec *ret, int base) {
        return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, ret) == 0 ? base : 0;
}
