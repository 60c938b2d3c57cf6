/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Campaign: one world after another, and what they saw together. */

#include <stdio.h>

#include "heart.h"

typedef struct HeartSums {
        uint64_t worlds, steps, mended, violations, virtual_us;
        uint64_t troubles[TROUBLE_COUNT];
        HeartVisits visits;
        double seconds;                 /* of real time */
        uint64_t mark;                  /* of the last world's trace */
        char promise[4];                /* what was violated last: "P1" */
} HeartSums;

/* True if nothing was violated. Otherwise @tell (NULL: nobody) hears what, how to repeat it, and what happened last. */
bool heart_campaign_run(const HeartOptions *options, HeartSums *sums, FILE *tell);

const char *heart_mutant_name(int mutant);
int heart_mutant_find(const char *name);        /* -1: there is none of this name */
