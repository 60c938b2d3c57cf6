/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Electors: on the leader, makes the consensus engine's members those that core/electorate.h wants; one change at a
 * time. On all other nodes this rests. */

#include "core/electorate.h"
#include "daemon/history.h"
#include "daemon/lives.h"

typedef struct Electors {
        sd_event *event;
        History *history;               /* borrowed */
        const Lives *lives;             /* borrowed */
        NodeId node;
        uint64_t replace_after_us;
        RaftRequest *change;            /* under way */
        uint64_t not_before_us;         /* after one that came to nothing */
        void (*decided)(void *userdata);
        void *userdata;
} Electors;

void electors_clear(Electors *electors);

/* *ret_wake_us as elsewhere. 0 or -errno. */
int electors_turn(Electors *electors, uint64_t now_us, uint64_t *ret_wake_us);
