/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The form of a message that came: what no peer in its senses says is found before anything is taken. */

#include "core/gossip-internal.h"

static bool node_is_sound(const ProtobufCBinaryData *node) {
        return node->len == ID_SIZE;
}

static bool generation_is_sound(uint64_t generation) {
        return generation > 0 && generation <= GOSSIP_GENERATION_MAX;
}

static bool bucket_is_sound(const Gpupool1__GossipBucket *bucket) {
        return prefix_is_sound(bucket->bits, bucket->prefix.data, bucket->prefix.len);
}

/* The digests by id, so that they can be held beside our nodes in one walk. */
static bool range_is_sound(const Gpupool1__GossipRange *range) {
        if (!prefix_is_sound(range->bits, range->prefix.data, range->prefix.len))
                return false;
        for (size_t i = 0; i < range->n_digests; i++) {
                const Gpupool1__GossipDigest *digest = range->digests[i];
                if (!node_is_sound(&digest->node) || !generation_is_sound(digest->generation) ||
                    !prefix_has(range->bits, range->prefix.data, digest->node.data))
                        return false;
                if (i > 0 && memcmp(range->digests[i - 1]->node.data, digest->node.data, ID_SIZE) >= 0)
                        return false;
        }
        return true;
}

static bool entry_is_sound(const Gpupool1__GossipEntry *entry) {
        return gossip_key_is_valid(entry->key) && entry->value.len <= GOSSIP_VALUE_MAX &&
               !(entry->gone && entry->value.len > 0);
}

static bool delta_is_sound(const Gpupool1__GossipDelta *delta) {
        if (!node_is_sound(&delta->node) || !generation_is_sound(delta->generation) || delta->since > delta->version)
                return false;
        uint64_t last = delta->since;
        for (size_t i = 0; i < delta->n_entries; i++) {
                const Gpupool1__GossipEntry *entry = delta->entries[i];
                if (!entry_is_sound(entry) || entry->version <= last || entry->version > delta->version)
                        return false;
                last = entry->version;
        }
        return true;
}

/* Who knows nothing of a node wants all. */
static bool want_is_sound(const Gpupool1__GossipDigest *want) {
        return node_is_sound(&want->node) &&
               (generation_is_sound(want->generation) || (want->generation == 0 && want->version == 0));
}

bool gossip_message_is_sound(const Gpupool1__Gossip *message) {
        if (gpupool1__gossip__get_packed_size(message) > GOSSIP_MESSAGE_MAX)
                return false;
        for (size_t i = 0; i < message->n_buckets; i++)
                if (!bucket_is_sound(message->buckets[i]))
                        return false;
        for (size_t i = 0; i < message->n_ranges; i++)
                if (!range_is_sound(message->ranges[i]))
                        return false;
        for (size_t i = 0; i < message->n_deltas; i++)
                if (!delta_is_sound(message->deltas[i]))
                        return false;
        for (size_t i = 0; i < message->n_wants; i++)
                if (!want_is_sound(message->wants[i]))
                        return false;
        return true;
}
