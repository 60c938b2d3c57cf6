/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Gossip: what one node knows of all (design, part 6): Scuttlebutt reconciliation over the Gossip messages of
 * interfaces/peer.proto. Each node writes its own facts and hands on those of the others.
 *
 * Of a node we know a generation, a version up to which we know all, and facts: key -> value, version. A change of a
 * fact is the next version; a removed fact stays as a tombstone, so that the removal is known like any other change. A
 * new generation forgets all that was before: a restarted service has one, and a node with too many tombstones takes
 * one. Newer is: a greater generation, or the same and a greater version. What we know gets older in one case only,
 * below.
 *
 * Who lies about another node is outdone: the node hears of it and takes a greater generation than was made up. So that
 * there is always one, what others say of a node is believed up to GOSSIP_GENERATION_LEAP beyond what is known of it,
 * and up to GOSSIP_GENERATION_PLAUSIBLE where nothing is; the rest is passed over as if it had not been said. What a
 * node says of itself is bound by neither; and where more than is plausible is known of it, because somebody went on
 * and on, its own word takes the place of that though it is older. So one lie costs one more exchange, and lies without
 * end are over with the liar's removal.
 *
 * An exchange, in which what was said last is answered until there is nothing to say:
 *
 *     bucket of all -> its 16 children, where it differs -> ... -> range: digests, where both have few nodes
 *       -> deltas (where the speaker of the range is older) and wants (where we are) -> deltas
 *
 * Every part of a reply stands further to the right than the part that it answers, or for longer prefixes; ids have
 * 32 digits, so an exchange has at most GOSSIP_MESSAGES_MAX messages. Between a thousand random ids it has six, and
 * nothing but the first where both know the same. What does not fit into a message waits for the next exchange; where a
 * message begins is drawn anew each time, so nobody starves.
 *
 * The hash of a bucket is the sum, modulo 2^64, of one hash per node of which something is known. That one takes four
 * words, most significant byte first: the two halves of the id, generation, version; h begins as 0, and for each word
 * w: h = mix((h ^ w) + 0x9e3779b97f4a7c15), where mix is the finalizer of splitmix64 (gossip-tree.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/id.h"
#include "peer.pb-c.h"
#include "util/cleanup.h"

#define GOSSIP_KEY_MAX 63U                              /* bytes, printable ASCII without blanks */
#define GOSSIP_VALUE_MAX (16U * 1024U)
#define GOSSIP_KEYS_MAX 1024U                           /* of one node */
#define GOSSIP_NODE_SIZE_MAX (1024U * 1024U)            /* keys and values of one node */
/* What is held of another node while it catches up: values that have shrunk since beside others that have grown. */
#define GOSSIP_NODE_HELD_MAX (2U * GOSSIP_NODE_SIZE_MAX)
#define GOSSIP_TOMBSTONES_MAX 256U                      /* one more, and a new generation begins */
#define GOSSIP_MESSAGE_MAX (64U * 1024U)                /* encoded */
#define GOSSIP_RANGE_NODES 16U                          /* a bucket of at most so many is told by digests */
#define GOSSIP_GENERATION_MAX ((uint64_t) INT64_MAX)    /* room above whatever a caller counts with */
/* A million starts, as callers count them, and as many as nobody lives to see. */
#define GOSSIP_GENERATION_LEAP (UINT64_C(1) << 40)
#define GOSSIP_GENERATION_PLAUSIBLE (UINT64_C(1) << 60)
/* 33 lengths of a prefix, a range, deltas with wants, deltas. */
#define GOSSIP_MESSAGES_MAX 36U

typedef struct Gossip Gossip;

/* @generation: 1 to GOSSIP_GENERATION_MAX, greater than at the last start. Where it is not, the node finds out from a
 * peer that knows a newer state of it, and takes a greater one by itself; but until it has met one, two states may have
 * the same number. Starts are best counted in steps of a million, as generations are taken in between. Knows nobody but
 * @self. 0, -EINVAL or -ENOMEM. */
int gossip_new(Gossip **ret, const NodeId *self, uint64_t generation);
Gossip *gossip_free(Gossip *gossip);
DEFINE_CLEANUP(Gossip *, gossip_free);

/* Who belongs to the cluster, in any order; self always does. What is known of others is dropped and from now on
 * refused. 0 or -ENOMEM: then nothing changed. */
int gossip_set_members(Gossip *gossip, const NodeId *nodes, size_t n);

/* ---- what we say of ourselves */

typedef enum GossipSet {
        GOSSIP_SET_SAME,                /* it was so before */
        GOSSIP_SET_CHANGED,
        GOSSIP_SET_REFUSED,             /* no valid key, or over a limit; what was there before still is */
} GossipSet;

/* Both return a GossipSet, or -ENOMEM with nothing changed. */
int gossip_set(Gossip *gossip, const char *key, const void *value, size_t size);
int gossip_remove(Gossip *gossip, const char *key);

/* ---- exchanges. Messages are the caller's: gossip_message_free(). */

Gpupool1__Gossip *gossip_message_free(Gpupool1__Gossip *message);
DEFINE_CLEANUP(Gpupool1__Gossip *, gossip_message_free);

/* The first message of an exchange, tens of bytes: the hash of all. The same for every peer. 0 or -ENOMEM. */
int gossip_begin(const Gossip *gossip, Gpupool1__Gossip **ret);

typedef struct GossipReply {
        Gpupool1__Gossip *message;      /* to be sent back; NULL: nothing to say */
        NodeId *changed;                /* whose facts are not as before */
        size_t n_changed;
        bool renewed;                   /* we took a new generation: somebody knew a newer state of us than we do */
} GossipReply;

void gossip_reply_clear(GossipReply *reply);

typedef enum GossipVerdict {
        GOSSIP_TAKEN,
        GOSSIP_GARBAGE,                 /* what no peer in its senses says; nothing was taken of it */
        GOSSIP_STRANGER,                /* @from is no member that we know of; nothing was taken */
} GossipVerdict;

/* Takes what is newer and says what is to be answered. Nothing in @message is trusted. Sets *@ret with GOSSIP_TAKEN.
 * -ENOMEM: what was taken until then stays, and any node may have changed. */
int gossip_receive(Gossip *gossip, const NodeId *from, const Gpupool1__Gossip *message, GossipReply *ret);

/* ---- what is known. All that is returned is borrowed until the next change. */

/* The members, by id, self among them, also those of whom nothing is known yet. */
size_t gossip_n_members(const Gossip *gossip);
const NodeId *gossip_member(const Gossip *gossip, size_t index);
const NodeId *gossip_self(const Gossip *gossip);

/* 0: nothing is known, or no member. */
uint64_t gossip_generation(const Gossip *gossip, const NodeId *node);
uint64_t gossip_version(const Gossip *gossip, const NodeId *node);

typedef struct GossipFact {
        const char *key;
        const void *value;              /* never NULL */
        size_t size;
        uint64_t version;
} GossipFact;

/* The value, or NULL; never NULL for one of 0 bytes. @ret_size may be NULL. */
const void *gossip_get(const Gossip *gossip, const NodeId *node, const char *key, size_t *ret_size);

/* The node's first fact behind @key in order of keys; NULL: the first of all. So one walks; facts may change between
 * the steps. A prefix of keys is walked from the prefix on, as long as it is one. */
bool gossip_next(const Gossip *gossip, const NodeId *node, const char *key, GossipFact *ret);

/* Bytes of all keys and values that are held; of one node. */
size_t gossip_size(const Gossip *gossip);
size_t gossip_node_size(const Gossip *gossip, const NodeId *node);
