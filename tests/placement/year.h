/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Year: one year of a cluster of 32 nodes with 8 GPUs each, in steps of six minutes: VMs come by day more than by night
 * and by the week, run for hours or weeks, wait, and give up after two weeks of waiting; nodes fail and are drained for
 * their monthly work. Everything is drawn from the seed before the first step, so that every rule has the same year. */

#include "rules.h"

typedef struct Year {
        unsigned came, gave_up;
        double wanted_hours, had_hours;         /* of GPUs */
        double wanted_first, had_first;         /* of those, for the highest priority */
        double wait_hours;                      /* of all VMs together, until they ran first or gave up */
        double wait_large;
        unsigned n_large;                       /* of 4 GPUs and more */
        unsigned failovers, at_once;            /* VMs that lost their node, and that had another in the same step */
} Year;

/* 0 or -ENOMEM. */
int year_run(Rule rule, uint32_t seed, Year *ret);
