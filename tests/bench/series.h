/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A program that measures on demand, so that several can take turns and other load falls on all of them alike: it says
 * "ready", reads lines "WHAT COUNT", does WHAT so often, and answers each line by one with the microseconds that each
 * took; or by one that says why not. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SERIES_MAX 100000U

typedef struct Series {
        const char *what;
        /* Does it @count times; times[i] in µs. 0, or -errno. */
        int (*run)(unsigned count, double *times);
} Series;

static inline double series_now_us(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

static inline void series_answer(const Series *series, unsigned count) {
        double *times = calloc(count ? count : 1, sizeof(*times));
        int r = times ? series->run(count, times) : -ENOMEM;
        if (r < 0)
                printf("refused: %s", strerror(-r));
        for (unsigned i = 0; r >= 0 && i < count; i++)
                printf("%s%.1f", i ? " " : "", times[i]);
        printf("\n");
        (void) fflush(stdout);
        free(times);
}

/* One line of stdin. False at its end. */
static inline int series_serve_line(const Series *all, size_t n) {
        char line[128], what[32];
        unsigned count;
        if (!fgets(line, sizeof(line), stdin))
                return 0;
        if (sscanf(line, "%31s %u", what, &count) == 2 && count <= SERIES_MAX)
                for (size_t i = 0; i < n; i++)
                        if (strcmp(all[i].what, what) == 0) {
                                series_answer(all + i, count);
                                return 1;
                        }
        printf("refused: what is that?\n");
        (void) fflush(stdout);
        return 1;
}

static inline void series_ready(void) {
        printf("ready\n");
        (void) fflush(stdout);
}
