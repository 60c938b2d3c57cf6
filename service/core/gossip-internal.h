/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of gossip share: the state, the tree of hashes over it, and messages in the making. */

#include "core/gossip.h"
#include "util/array.h"

/* ---- a fact: one allocation */

typedef struct Fact {
        uint64_t version;
        uint32_t size;                  /* of the value */
        uint8_t key_size;
        bool gone;                      /* a tombstone: without value */
        char bytes[];                   /* key, NUL, value */
} Fact;

static inline const void *fact_value(const Fact *fact) {
        return fact->bytes + fact->key_size + 1;
}

/* ---- what is known of one node */

typedef ARRAY(Fact *) FactRow;

typedef struct Known {
        NodeId id;
        uint64_t generation;            /* 0: nothing is known */
        uint64_t version;               /* all up to it are known; none beyond it is here */
        FactRow by_key;                 /* owns the facts */
        FactRow by_version;
        size_t size;                    /* bytes of keys and values */
        size_t n_gone;
        uint64_t hash;                  /* in the tree; 0 where nothing is known */
        uint64_t changed_at, wanted_at, sent_at;        /* receipts, so that a reply has each once */
} Known;

bool gossip_key_is_valid(const char *key);

/* NULL: no such fact. A tombstone is one. */
Fact *known_find(const Known *known, const char *key);
/* Index in by_key of the first fact behind @key. */
size_t known_after(const Known *known, const char *key);
/* Index in by_version of the first fact beyond @version. */
size_t known_first_beyond(const Known *known, uint64_t version);
/* Puts the fact in the place of the key's old one, which @key and @value may be part of. @version is greater than all
 * that are here; known->version is the caller's to set. 0 or -ENOMEM with nothing changed. */
int known_put(Known *known, const char *key, uint64_t version, const void *value, size_t size, bool gone);
/* A hash over all facts that are not gone, whatever their versions. */
uint64_t known_fingerprint(const Known *known);
/* Forgets all facts; nothing else. */
void known_clear(Known *known);
/* Begins a generation with the facts that are here: without tombstones, numbered anew in their order. */
void known_renew(Known *known, uint64_t generation);

/* ---- the state */

struct Gossip {
        NodeId self;
        ARRAY(Known) nodes;             /* the members, by id */
        uint64_t hash;                  /* of the bucket of all */
        size_t n_known;                 /* nodes in it */
        uint64_t receipts;              /* messages received; where the next reply begins is drawn from it */
};

Known *gossip_find(const Gossip *gossip, const NodeId *node);
Known *gossip_own(const Gossip *gossip);
/* To be called when a node's generation or version has changed. */
void gossip_rehash(Gossip *gossip, Known *known);

/* ---- the tree */

/* The nodes whose id begins with these bits. */
typedef struct Bucket {
        NodeId prefix;                  /* all other bits 0 */
        unsigned bits;                  /* 0 to 128, a multiple of 4 */
        size_t first, end;              /* among the members */
        uint64_t hash;
        size_t n_known;
} Bucket;

uint64_t tree_mix(uint64_t value);
uint64_t tree_hash_node(const NodeId *node, uint64_t generation, uint64_t version);
/* @prefix: (bits + 7) / 8 bytes, of sound form. Finds its place; bucket_sum() then sums it up. */
Bucket tree_bucket(const Gossip *gossip, unsigned bits, const uint8_t *prefix);
Bucket tree_child(const Gossip *gossip, const Bucket *parent, unsigned digit);
void bucket_sum(const Gossip *gossip, Bucket *bucket);
bool prefix_has(unsigned bits, const uint8_t *prefix, const uint8_t node[static ID_SIZE]);
bool prefix_is_sound(unsigned bits, const uint8_t *prefix, size_t size);

/* ---- a message in the making. What is added is within the message's limit, or it is not added. */

typedef struct Draft {
        Gpupool1__Gossip *message;
        size_t size;                    /* encoded, at most */
        size_t buckets_allocated, ranges_allocated, deltas_allocated, wants_allocated;
} Draft;

typedef enum DraftVerdict {
        DRAFT_ADDED,
        DRAFT_FULL,
} DraftVerdict;

int draft_new(Draft *ret);
void draft_clear(Draft *draft);
bool draft_is_empty(const Draft *draft);
/* @limit: what the message may have grown to by this. Each returns a DraftVerdict or -ENOMEM. */
int draft_add_bucket(Draft *draft, const Bucket *bucket, size_t limit);
int draft_add_range(Draft *draft, const Gossip *gossip, const Bucket *bucket, size_t limit);
int draft_add_want(Draft *draft, const Known *known, size_t limit);

/* A delta in the making. */
typedef struct DeltaDraft {
        const Known *known;
        uint64_t since;
        size_t next;                    /* in by_version */
        Gpupool1__GossipDelta *delta;   /* in the message; NULL: nothing was added yet */
        size_t entries_allocated;
        bool ended;                     /* all is said, or the message is full for it */
} DeltaDraft;

/* Adds facts of about @quantum bytes, at least one, as long as there are some and they fit; none at all where the node
 * has none. Returns 0 or -ENOMEM. */
int draft_add_facts(Draft *draft, DeltaDraft *delta, size_t quantum);

/* ---- what came */

/* Whether a message is of sound form: nothing in it needs to be looked at again when it is taken. */
bool gossip_message_is_sound(const Gpupool1__Gossip *message);
