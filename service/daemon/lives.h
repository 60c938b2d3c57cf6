/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Lives: who is a voter, and who is silent. The leader judges by its own connections and tells everybody by gossip, so
 * that all nodes show the same. Without a leader for longer than an election takes, each node goes by its own
 * connections: then it is asked which nodes to bring back. */

#include "adapters/peer/peer.h"
#include "core/world.h"
#include "daemon/cluster-facts.h"
#include "daemon/history.h"

/* A connection that broke may be back at once: a service that was restarted. */
#define LIVES_GRACE_US 2000000U
/* An election, with room. */
#define LIVES_LEADERLESS_US 5000000U

/* When a node's connection went away, as this node saw it. */
typedef struct Downtime {
        NodeId node;
        uint64_t since_us;              /* CLOCK_BOOTTIME */
        uint64_t since_ms;              /* realtime, for people */
} Downtime;

typedef ARRAY(NodeLife) NodeLives;

typedef struct Lives {
        History *history;               /* borrowed, as all of these */
        ClusterFacts *facts;
        PeerNet *net;                   /* NULL: none at present */
        NodeId node;
        ARRAY(Downtime) down;           /* by node */
        NodeLives all;                  /* by node */
        bool removed;                   /* this node is no member any more: what it knew then stays */
        uint64_t leading_since_us;      /* 0: this node does not lead */
        uint64_t leaderless_since_us;   /* 0: a leader is known */
} Lives;

void lives_clear(Lives *lives);
int lives_up(Lives *lives, const NodeId *node);
int lives_down(Lives *lives, const NodeId *node, uint64_t now_us);

/* Looks again. *ret_wake_us: when something changes by itself. 1: not as before; 0: as before; -ENOMEM. */
int lives_turn(Lives *lives, uint64_t now_us, uint64_t *ret_wake_us);

/* For how long nothing was heard of @node, as the leader sees it; 0: it is heard. */
uint64_t lives_silent_us(const Lives *lives, const NodeId *node, uint64_t now_us);
