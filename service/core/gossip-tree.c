/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tree of hashes over the nodes: 16 children a bucket, by the digits of the id. It is not kept: the nodes are
 * sorted and have their hash, and a bucket is a run of them. Only the sum of all is. */

#include "core/gossip-internal.h"

uint64_t tree_mix(uint64_t value) {
        value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
        return value ^ value >> 31;
}

static uint64_t word_of(const uint8_t bytes[static 8]) {
        uint64_t word = 0;
        for (size_t i = 0; i < 8; i++)
                word = word << 8 | bytes[i];
        return word;
}

uint64_t tree_hash_node(const NodeId *node, uint64_t generation, uint64_t version) {
        const uint64_t words[] = { word_of(node->bytes), word_of(node->bytes + 8), generation, version };
        uint64_t hash = 0;
        for (size_t i = 0; i < ELEMENTS(words); i++)
                hash = tree_mix((hash ^ words[i]) + UINT64_C(0x9e3779b97f4a7c15));
        return hash;
}

bool prefix_has(unsigned bits, const uint8_t *prefix, const uint8_t node[static ID_SIZE]) {
        size_t whole = bits / 8;
        if (whole > 0 && memcmp(prefix, node, whole) != 0)
                return false;
        return bits % 8 == 0 || prefix[whole] >> 4 == node[whole] >> 4;
}

bool prefix_is_sound(unsigned bits, const uint8_t *prefix, size_t size) {
        if (bits > 8 * ID_SIZE || bits % 4 != 0 || size != (bits + 7) / 8)
                return false;
        return bits % 8 == 0 || (prefix[size - 1] & 0xf) == 0;
}

/* Index of the first of all members whose id is not below @id; with @beyond: that is above. */
static size_t place_of(const Gossip *gossip, const NodeId *id, bool beyond) {
        size_t low = 0, high = gossip->nodes.n;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int c = ID_COMPARE(&gossip->nodes.items[middle].id, id);
                if (c < 0 || (beyond && c == 0))
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static void find_run(const Gossip *gossip, Bucket *bucket) {
        NodeId last = bucket->prefix;
        size_t whole = bucket->bits / 8;
        if (bucket->bits % 8 != 0)
                last.bytes[whole++] |= 0xf;
        memset(last.bytes + whole, 0xff, ID_SIZE - whole);
        bucket->first = place_of(gossip, &bucket->prefix, false);
        bucket->end = place_of(gossip, &last, true);
}

Bucket tree_bucket(const Gossip *gossip, unsigned bits, const uint8_t *prefix) {
        Bucket bucket = { .bits = bits };
        if (bits > 0)
                memcpy(bucket.prefix.bytes, prefix, (bits + 7) / 8);
        find_run(gossip, &bucket);
        return bucket;
}

Bucket tree_child(const Gossip *gossip, const Bucket *parent, unsigned digit) {
        Bucket child = { .prefix = parent->prefix, .bits = parent->bits + 4 };
        child.prefix.bytes[parent->bits / 8] |= (uint8_t) (parent->bits % 8 == 0 ? digit << 4 : digit);
        find_run(gossip, &child);
        return child;
}

void bucket_sum(const Gossip *gossip, Bucket *bucket) {
        if (bucket->bits == 0) {
                bucket->hash = gossip->hash;
                bucket->n_known = gossip->n_known;
                return;
        }
        for (size_t i = bucket->first; i < bucket->end; i++) {
                bucket->hash += gossip->nodes.items[i].hash;
                bucket->n_known += gossip->nodes.items[i].generation > 0;
        }
}
