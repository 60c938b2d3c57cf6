/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Courier: carries the history between nodes: the engine's messages between its members, and what is committed from a
 * member to those that are none.
 *
 *     reader ── Follow(what I have) ──► member ── relayed append ──► reader: stored ── Follow ──► ...
 *                                          └─ nothing new: waits until there is, or for the next Follow (2 s)
 *
 * A snapshot goes in parts, one at a time per peer, as fast as the peer takes them. */

#include "adapters/peer/peer.h"
#include "daemon/beats.h"
#include "daemon/history.h"

typedef struct CourierConfig {
        sd_event *event;
        History *history;               /* borrowed */
        const Beats *beats;             /* borrowed */
        NodeId node;
} CourierConfig;

typedef struct Courier Courier;

int courier_new(Courier **ret, const CourierConfig *config);
Courier *courier_free(Courier *courier);
DEFINE_CLEANUP(Courier *, courier_free);

/* Borrowed; NULL: none at present. */
void courier_set_net(Courier *courier, PeerNet *net);

/* Of this node's engine. */
void courier_send(Courier *courier, const RaftMessage *message);

void courier_raft(Courier *courier, const NodeId *from, const Gpupool1__Raft *message);
void courier_part(Courier *courier, const NodeId *from, const Gpupool1__SnapshotPart *part);
void courier_follow(Courier *courier, const NodeId *from, const Gpupool1__Follow *follow);
void courier_writable(Courier *courier, const NodeId *node);
void courier_lost(Courier *courier, const NodeId *node);
/* A peer said how far it is. */
void courier_beat(Courier *courier, const NodeId *node);

/* Follows somebody where this node is no member, and serves those that wait. *ret_wake_us as elsewhere. */
void courier_turn(Courier *courier, uint64_t now_us, uint64_t *ret_wake_us);
