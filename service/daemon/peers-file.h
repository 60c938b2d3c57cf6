/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* PeersFile: the file "peers" beside the registry: whom this node knew last, so that it finds its cluster again
 * although its registry is old or not there yet. Writing it is also the point from which on a node that was admitted
 * belongs to the new cluster: a registry of another cluster that is found beside it is thrown away. */

#include "adapters/peer/peer.h"
#include "util/array.h"
#include "util/text.h"

#define PEERS_FILE "peers"

typedef struct KnownPeer {
        NodeId node;
        char *name;
        uint8_t key[PEER_KEY_SIZE];
        TextList addresses;
        bool member;                    /* of the consensus engine */
} KnownPeer;

void known_peer_clear(KnownPeer *peer);

typedef struct PeersFile {
        ClusterId cluster;              /* null: nothing is known */
        char *cluster_name;
        bool removed;                   /* this node was told that it is no member any more */
        bool joining;                   /* admitted; the registry beside it may still be the one of before */
        ARRAY(KnownPeer) peers;
} PeersFile;

void peers_file_clear(PeersFile *file);
/* Adds a copy of @message. 0; -EINVAL: it is no record of a peer; or -ENOMEM. */
int peers_file_add(PeersFile *file, const Gpupool1__PeerRecord *message);

/* 0; -ENOENT: there is none; -EBADMSG: it is damaged; or -errno. */
int peers_file_load(const char *state_directory, PeersFile *ret);
/* Durable, whole or not at all. 0 or -errno. */
int peers_file_save(const char *state_directory, const PeersFile *file);
