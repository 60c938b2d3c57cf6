/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Member: makes this node what the registry says of it: begins a cluster where there is none, joins it as a member, and
 * tells a new name, address or boot, or that a node which was lost is clean and begins anew. Until the registry knows
 * this boot, the node runs no VM: what it says of the node's assignments is of another boot. */

#include "core/world.h"
#include "daemon/history.h"
#include "daemon/leases.h"

typedef struct Member {
        sd_event *event;
        History *history;
        const TextList *addresses;      /* what others are told of this node; borrowed, as the key */
        const uint8_t *key;             /* HASH_SIZE bytes */
        bool witness;
        const Leases *leases;           /* whose times are announced; borrowed, as the next */
        const Runner *runner;           /* a lost node comes back when nothing of its last life lives */
        bool caught_up;                 /* the registry here is not behind; set before each turn */
        bool began_boot;                /* this program announced the host's boot: nothing was started in it before */
        bool announces_boot;            /* the entry that is on its way does */
        bool announcing;                /* an entry is on its way */
        uint64_t not_before_us;         /* after one that was refused */
        char *told_refusal;             /* logged once */
        void (*decided)(void *userdata);
        void *userdata;
} Member;

void member_clear(Member *member);

/* Commits what is missing, through whoever leads. 0 or -errno. *ret_wake_us as elsewhere. */
int member_turn(Member *member, const World *world, const char *name, uint64_t now_us, uint64_t *ret_wake_us);

/* Does the registry know this node in this boot? */
bool member_is_current(const World *world);
