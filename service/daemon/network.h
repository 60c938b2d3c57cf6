/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Network: this node among the others: owns the connections and all that goes over them, and gives each frame to the
 * one it is for.
 *
 *     beats ─► Beats (who leads)          raft, follow ─► Courier ─► History's engine
 *     gossip ─► ClusterFacts              calls ─► Answers        answers ─► Calls ─► History's submissions
 *     lease requests and answers ─► Leases
 *     strangers ─► Admission              up, down ─► Lives (who is silent), Electors (who votes)
 */

#include "daemon/admission.h"
#include "daemon/answers.h"
#include "daemon/cluster-facts.h"
#include "daemon/conf.h"
#include "daemon/courier.h"
#include "daemon/electors.h"
#include "daemon/leases.h"
#include "daemon/lives.h"
#include "daemon/peers.h"

typedef struct NetworkConfig {
        sd_event *event;
        const Conf *conf;
        NodeId node;
        void (*changed)(void *userdata);        /* something that is shown is not as before */
        void *userdata;
} NetworkConfig;

typedef enum NetworkVerdict {
        NETWORK_READY,
        NETWORK_REFUSED,                /* the sentence says which file and why */
} NetworkVerdict;

typedef struct Network {
        NetworkConfig config;
        History *history;               /* borrowed */
        PeerKey *key;
        PeerNet *net;                   /* NULL: the port cannot be had at present */
        char *trouble;                  /* why; logged once */
        sd_event_source *retry;
        TextList addresses;             /* what others are told */
        Beats beats;
        Calls calls;
        Answers answers;
        Courier *courier;
        Lives lives;
        Peers peers;
        Electors electors;
        Admission admission;
        ClusterFacts *facts;
        Leases *leases;                 /* borrowed; set before network_start() */
        ClusterId told_cluster;         /* the net was, last */
        bool said;                      /* this node's facts as they are were published */
        uint64_t told_beat;             /* fingerprint of what the last beat said */
        NodeId accuser;                 /* who said last that this node was removed */
        uint64_t deaf_until_us;         /* to that, for the leader knew better */
        bool doubting;                  /* the leader is being asked */
        uint64_t doubt_not_before_us;
} Network;

/* Reads this node's key, or draws one where none is missing; does not listen yet. Returns a NetworkVerdict or
 * -errno. */
int network_init(Network *network, const NetworkConfig *config, char **reterr_sentence);
void network_clear(Network *network);

/* The history is open: from now on this node speaks, and is spoken to. 0 or -errno. */
int network_start(Network *network, History *history);

/* This node's own facts are not as before: the next turn tells the others. */
void network_facts_changed(Network *network);

/* The registry is another one, of another cluster. */
void network_adopted(Network *network);

/* Something changed: who is to be known, who is silent, who votes, what the next beat says. *ret_wake_us as elsewhere.
 * 1: something that is shown is not as before. 0, or -errno. */
int network_turn(Network *network, const NodeFacts *local, uint64_t now_us, uint64_t *ret_wake_us);

/* Of HistoryCallbacks. */
void network_send(Network *network, const RaftMessage *message);

/* Did a peer say that this node is no member any more, or does the registry? */
bool network_is_removed(const Network *network);
