/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Leader: what this node commits by itself while it leads the cluster, as the conductor proposes it; one entry at a
 * time. Any node may become the leader; on all others this rests. */

#include "core/conductor.h"
#include "daemon/history.h"

typedef struct Leader {
        sd_event *event;
        History *history;
        LeaseBook *book;                /* borrowed */
        Conductor conductor;
        bool proposing;                 /* an entry is on its way */
        bool settled;                   /* nothing to propose in the world as it was last seen */
        void (*decided)(void *userdata);        /* the entry came back: look again */
        void *userdata;
} Leader;

void leader_clear(Leader *leader);

/* Looks at the world and proposes what is next. *ret_wake_us: when to look again though nothing changed (boottime;
 * UINT64_MAX: never). 0 or -errno. */
int leader_turn(Leader *leader, const World *world, uint64_t now_us, uint64_t *ret_wake_us);
