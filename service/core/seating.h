/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Seating: who waits gets a place on paper, as the conductor gives them: one pass (core/roster.h) over all who wait, of
 * which the most urgent have their places first; who is stopped for one waits then like the others, and a new pass is
 * made. */

#include "core/roster.h"

typedef struct Seating {
        Inventory *inventory;
        size_t *waiting;                /* tenants; there is room for all that there are */
        size_t n_waiting;
        uint64_t work_left;             /* so much may be looked at; a VM that waits counts SEATING_WORK each pass */
        /* @tenant has its GPUs now, and its VM is to run there. 0 or an error. */
        int (*comes)(struct Seating *seating, size_t tenant);
        /* @tenant is to give up its place, for @whom. */
        int (*goes)(struct Seating *seating, size_t tenant, size_t whom);
} Seating;

#define SEATING_WORK 32U
#define EXCHANGE_WORK 64U               /* for each time that a pass sought a place only to exchange somebody */

/* Until nobody gets a place any more. 0, -ENOMEM, -E2BIG when it was too much, or what the functions said; then some
 * may have come or gone already. */
int seating_run(Seating *seating);
