/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Joining: this node becomes a member of the cluster that invited it (admission.h has the picture).
 *
 *     Join ─► asks the inviter ─► admitted ─► the file "peers" names the new cluster     from here there is no way back
 *          ─► the old registry, empty of pools and VMs, is thrown away ─► the new one arrives ─► job done
 *
 * A node that dies before it has written the file asks again with the same invitation, and is admitted again; one that
 * dies after it goes on at its next start. */

#include "daemon/operations.h"
#include "daemon/peers.h"

typedef struct JoiningConfig {
        sd_event *event;
        const PeerKey *key;
        History *history;
        Peers *peers;
        Operations *operations;
        NodeId node;
        const char *name;
        const TextList *addresses;      /* what others are told of this node */
        bool witness;
        const char *(*boot_id)(void *userdata);
        void (*adopted)(void *userdata);        /* the registry is another one, of another cluster */
        void *userdata;
} JoiningConfig;

typedef struct Joining Joining;

int joining_new(Joining **ret, const JoiningConfig *config);
Joining *joining_free(Joining *joining);
DEFINE_CLEANUP(Joining *, joining_free);

/* See Service.join in adapters/bus/bus.h. */
int joining_begin(Joining *joining, const char *token, const Caller *caller, const Job **ret_job,
                  const char **ret_error, char **ret_sentence);

/* The world changed: is this node there? */
void joining_turn(Joining *joining);
