/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A message in the making. It owns all that it says, as if it had been decoded, so one function frees both kinds. */

#include <errno.h>

#include "core/gossip-internal.h"

/* What a part costs beside its own bytes: its tag, and its length in up to three bytes. */
#define PART_COST 4U
/* A delta without entries: id, and three numbers of up to ten bytes. */
#define DELTA_COST (PART_COST + 18U + 3U * 11U)

Gpupool1__Gossip *gossip_message_free(Gpupool1__Gossip *message) {
        if (message)
                gpupool1__gossip__free_unpacked(message, NULL);
        return NULL;
}

int draft_new(Draft *ret) {
        Gpupool1__Gossip *message = malloc(sizeof(*message));
        if (!message)
                return -ENOMEM;
        gpupool1__gossip__init(message);
        *ret = (Draft) { .message = message };
        return 0;
}

void draft_clear(Draft *draft) {
        draft->message = gossip_message_free(draft->message);
}

bool draft_is_empty(const Draft *draft) {
        return draft->size == 0;
}

static int copy_bytes(const void *bytes, size_t size, ProtobufCBinaryData *ret) {
        ret->data = NULL;
        ret->len = 0;
        if (size == 0)
                return 0;
        ret->data = malloc(size);
        if (!ret->data)
                return -ENOMEM;
        memcpy(ret->data, bytes, size);
        ret->len = size;
        return 0;
}

#define APPEND(row, n, allocated, part) array_insert_bytes((row), (n), (allocated), *(n), &(part), sizeof(part))

/* Takes @part over, also when it fails. @free_part is that of the generated code. */
#define ADD_PART(draft, kind, part, part_size, limit, free_part)                                        \
        ({                                                                                              \
                int _r = DRAFT_FULL;                                                                    \
                if ((draft)->size + (part_size) <= (limit))                                             \
                        _r = APPEND(&(draft)->message->kind, &(draft)->message->n_##kind,               \
                                    &(draft)->kind##_allocated, (part));                                \
                if (_r == DRAFT_ADDED)                                                                  \
                        (draft)->size += (part_size);                                                   \
                else                                                                                    \
                        free_part((part), NULL);                                                        \
                _r;                                                                                     \
        })

int draft_add_bucket(Draft *draft, const Bucket *bucket, size_t limit) {
        Gpupool1__GossipBucket *part = malloc(sizeof(*part));
        if (!part)
                return -ENOMEM;
        gpupool1__gossip_bucket__init(part);
        part->bits = bucket->bits;
        part->hash = bucket->hash;
        part->nodes = (uint32_t) bucket->n_known;
        int r = copy_bytes(bucket->prefix.bytes, (bucket->bits + 7) / 8, &part->prefix);
        if (r < 0) {
                gpupool1__gossip_bucket__free_unpacked(part, NULL);
                return r;
        }
        size_t size = PART_COST + gpupool1__gossip_bucket__get_packed_size(part);
        return ADD_PART(draft, buckets, part, size, limit, gpupool1__gossip_bucket__free_unpacked);
}

static int digest_new(const Known *known, Gpupool1__GossipDigest **ret) {
        Gpupool1__GossipDigest *digest = malloc(sizeof(*digest));
        if (!digest)
                return -ENOMEM;
        gpupool1__gossip_digest__init(digest);
        digest->generation = known->generation;
        digest->version = known->version;
        int r = copy_bytes(known->id.bytes, ID_SIZE, &digest->node);
        if (r < 0) {
                gpupool1__gossip_digest__free_unpacked(digest, NULL);
                return r;
        }
        *ret = digest;
        return 0;
}

static int fill_range(Gpupool1__GossipRange *range, const Gossip *gossip, const Bucket *bucket) {
        int r = copy_bytes(bucket->prefix.bytes, (bucket->bits + 7) / 8, &range->prefix);
        if (r < 0 || bucket->n_known == 0)
                return r;
        range->digests = calloc(bucket->n_known, sizeof(*range->digests));
        if (!range->digests)
                return -ENOMEM;
        for (size_t i = bucket->first; i < bucket->end; i++) {
                const Known *known = gossip->nodes.items + i;
                if (known->generation == 0)
                        continue;
                r = digest_new(known, range->digests + range->n_digests);
                if (r < 0)
                        return r;
                range->n_digests++;
        }
        return 0;
}

int draft_add_range(Draft *draft, const Gossip *gossip, const Bucket *bucket, size_t limit) {
        Gpupool1__GossipRange *part = malloc(sizeof(*part));
        if (!part)
                return -ENOMEM;
        gpupool1__gossip_range__init(part);
        part->bits = bucket->bits;
        int r = fill_range(part, gossip, bucket);
        if (r < 0) {
                gpupool1__gossip_range__free_unpacked(part, NULL);
                return r;
        }
        size_t size = PART_COST + gpupool1__gossip_range__get_packed_size(part);
        return ADD_PART(draft, ranges, part, size, limit, gpupool1__gossip_range__free_unpacked);
}

int draft_add_want(Draft *draft, const Known *known, size_t limit) {
        Gpupool1__GossipDigest *part;
        int r = digest_new(known, &part);
        if (r < 0)
                return r;
        size_t size = PART_COST + gpupool1__gossip_digest__get_packed_size(part);
        return ADD_PART(draft, wants, part, size, limit, gpupool1__gossip_digest__free_unpacked);
}

/* ---- deltas */

static int begin_delta(Draft *draft, DeltaDraft *delta) {
        Gpupool1__GossipDelta *part = malloc(sizeof(*part));
        if (!part)
                return -ENOMEM;
        gpupool1__gossip_delta__init(part);
        part->generation = delta->known->generation;
        part->since = delta->since;
        int r = copy_bytes(delta->known->id.bytes, ID_SIZE, &part->node);
        if (r < 0) {
                gpupool1__gossip_delta__free_unpacked(part, NULL);
                return r;
        }
        r = ADD_PART(draft, deltas, part, DELTA_COST, GOSSIP_MESSAGE_MAX, gpupool1__gossip_delta__free_unpacked);
        if (r == DRAFT_ADDED)
                delta->delta = part;
        return r;
}

static size_t cost_of_fact(const Fact *fact) {
        Gpupool1__GossipEntry entry = GPUPOOL1__GOSSIP_ENTRY__INIT;
        entry.key = (char *) fact->bytes;
        entry.version = fact->version;
        entry.value = (ProtobufCBinaryData) { .data = (uint8_t *) fact_value(fact), .len = fact->size };
        entry.gone = fact->gone;
        return PART_COST + gpupool1__gossip_entry__get_packed_size(&entry);
}

static int add_entry(DeltaDraft *delta, const Fact *fact) {
        Gpupool1__GossipEntry *entry = malloc(sizeof(*entry));
        if (!entry)
                return -ENOMEM;
        gpupool1__gossip_entry__init(entry);
        entry->version = fact->version;
        entry->gone = fact->gone;
        entry->key = strdup(fact->bytes);
        int r = entry->key ? copy_bytes(fact_value(fact), fact->size, &entry->value) : -ENOMEM;
        if (r >= 0)
                r = APPEND(&delta->delta->entries, &delta->delta->n_entries, &delta->entries_allocated, entry);
        if (r < 0)
                gpupool1__gossip_entry__free_unpacked(entry, NULL);
        return r;
}

int draft_add_facts(Draft *draft, DeltaDraft *delta, size_t quantum) {
        const FactRow *row = &delta->known->by_version;
        size_t spent = 0;
        while (!delta->ended && spent < quantum) {
                const Fact *fact = delta->next < row->n ? row->items[delta->next] : NULL;
                size_t cost = fact ? cost_of_fact(fact) : 0;
                size_t head = delta->delta ? 0 : DELTA_COST;
                delta->ended = draft->size + head + cost > GOSSIP_MESSAGE_MAX;
                if (delta->ended)
                        return 0;

                int r = delta->delta ? 0 : begin_delta(draft, delta);
                if (r >= 0 && fact)
                        r = add_entry(delta, fact);
                if (r < 0)
                        return r;
                draft->size += cost;
                spent += head + cost;
                delta->next += fact != NULL;
                delta->ended = delta->next >= row->n;
                /* After the last one: up to what we know, whatever was replaced in between. */
                delta->delta->version = delta->ended ? delta->known->version : fact->version;
        }
        return 0;
}
