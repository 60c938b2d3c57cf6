/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Peers: whom this node knows, by the registry or, as long as that does not know this node, by its file; and to whom it
 * wants a connection. */

#include "daemon/cluster-facts.h"
#include "daemon/history.h"
#include "daemon/peers-file.h"

/* What a turn goes by. While all of it is as it was, there is nothing to tell anybody. */
typedef struct PeersSeen {
        const Registry *registry;       /* NULL: by the file, or not looked yet */
        const PeerNet *net;
        uint64_t members_index;         /* of the registry */
        uint64_t engine;                /* fingerprint of its members */
        uint64_t connections;
        uint64_t epoch;                 /* of the choice of neighbours */
        bool removed;                   /* says the file */
} PeersSeen;

typedef struct Peers {
        const char *state_directory;
        NodeId node;
        History *history;               /* borrowed, as those that follow */
        ClusterFacts *facts;
        PeerNet *net;                   /* NULL: none at present */
        PeersFile file;
        uint64_t connections;           /* grows whenever one came or went */
        PeersSeen seen;
        uint64_t wake_us;               /* of that turn */
        uint64_t told;                  /* fingerprint of what the net and the file were told last */
        uint64_t told_connected;
        bool file_failed;               /* logged once */
        uint64_t file_retry_us;
} Peers;

void peers_clear(Peers *peers);
/* The registry is another one: all is told anew. */
void peers_begin_anew(Peers *peers);

/* Tells the net, gossip and the file what has changed. Costs next to nothing where nothing can have. *ret_wake_us as
 * elsewhere. 0 or -ENOMEM. */
int peers_turn(Peers *peers, uint64_t now_us, uint64_t *ret_wake_us);

/* This node was told that it is no member any more: nobody is dialled from now on, also after a restart. */
int peers_removed(Peers *peers);
/* ... and that was not true. 0 or -errno. */
int peers_readmitted(Peers *peers);
