/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Admission: invitations, and the nodes that come with one.
 *
 *     a: Invite ─► CreateInvite(hash of the secret) committed ─► token: cluster, addresses, key of a, secret, expiry
 *     b: Join(token) ─► TLS to a, whose key must be the token's ─► JoinRequest(secret)
 *     a: the secret's hash is in the registry, the invitation is open and not expired by this clock
 *        ─► AdmitNode(key that b has proved) committed ─► JoinAnswer(cluster, whom to ask)
 *
 * Any member could take the request; the token names the one whose key it has. */

#include "adapters/bus/bus.h"
#include "adapters/peer/peer.h"
#include "daemon/history.h"

typedef struct Guest Guest;

typedef struct Admission {
        const PeerKey *key;             /* borrowed, as those that follow */
        History *history;
        const NodeFacts *(*facts)(void *userdata);      /* this node's own */
        void *userdata;
        const TextList *addresses;      /* what others are told of this node, "address:port" */
        Guest *guests;                  /* wait for their entry */
        uint64_t refusal_not_before_ms; /* the log's next line about one */
        unsigned refusals_unsaid;
} Admission;

void admission_clear(Admission *admission);

/* See Service.invite in adapters/bus/bus.h. */
int admission_invite(Admission *admission, Entry *entry, uint64_t lifetime_ms, InviteCallback callback, void *userdata);

/* See PeerCallbacks. */
void admission_asked(Admission *admission, PeerStranger *stranger, const NodeId *node,
                     const uint8_t key[static PEER_KEY_SIZE], const Gpupool1__JoinRequest *request);
void admission_stranger_gone(Admission *admission, PeerStranger *stranger);
