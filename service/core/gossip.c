/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/gossip.h"

#include <errno.h>

#include "core/gossip-internal.h"

static int compare_node(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const Known *) item)->id);
}

Known *gossip_find(const Gossip *gossip, const NodeId *node) {
        size_t at;
        return array_find(&gossip->nodes, node, compare_node, &at) ? gossip->nodes.items + at : NULL;
}

Known *gossip_own(const Gossip *gossip) {
        return gossip_find(gossip, &gossip->self);
}

void gossip_rehash(Gossip *gossip, Known *known) {
        gossip->hash -= known->hash;
        gossip->n_known -= known->hash != 0;
        known->hash = known->generation > 0 ? tree_hash_node(&known->id, known->generation, known->version) : 0;
        gossip->hash += known->hash;
        gossip->n_known += known->hash != 0;
}

int gossip_new(Gossip **ret, const NodeId *self, uint64_t generation) {
        if (generation == 0 || generation > GOSSIP_GENERATION_MAX)
                return -EINVAL;
        _cleanup_(gossip_freep) Gossip *gossip = calloc(1, sizeof(*gossip));
        if (!gossip)
                return -ENOMEM;

        gossip->self = *self;
        int r = array_append(&gossip->nodes, (&(Known) { .id = *self, .generation = generation }));
        if (r < 0)
                return r;
        gossip_rehash(gossip, gossip->nodes.items);
        *ret = STEAL(gossip);
        return 0;
}

Gossip *gossip_free(Gossip *gossip) {
        if (!gossip)
                return NULL;
        ARRAY_EACH(known, &gossip->nodes)
                known_clear(known);
        array_clear(&gossip->nodes);
        free(gossip);
        return NULL;
}

/* ---- members */

static int compare_ids(const void *a, const void *b) {
        return ID_COMPARE((const NodeId *) a, (const NodeId *) b);
}

/* @sorted has all that stay or come, self among them; doubles are passed over. */
static void take_members(Gossip *gossip, const NodeId *sorted, size_t n, Known *row) {
        size_t old = 0, taken = 0;
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && ID_EQUAL(sorted + i - 1, sorted + i))
                        continue;
                for (; old < gossip->nodes.n && ID_COMPARE(&gossip->nodes.items[old].id, sorted + i) < 0; old++)
                        known_clear(gossip->nodes.items + old);
                bool stays = old < gossip->nodes.n && ID_EQUAL(&gossip->nodes.items[old].id, sorted + i);
                row[taken++] = stays ? gossip->nodes.items[old++] : (Known) { .id = sorted[i] };
        }
        for (; old < gossip->nodes.n; old++)
                known_clear(gossip->nodes.items + old);

        array_clear(&gossip->nodes);
        gossip->nodes.items = row;
        gossip->nodes.n = taken;
        gossip->nodes.allocated = n;
        gossip->hash = 0;
        gossip->n_known = 0;
        ARRAY_EACH(known, &gossip->nodes) {
                gossip->hash += known->hash;
                gossip->n_known += known->hash != 0;
        }
}

int gossip_set_members(Gossip *gossip, const NodeId *nodes, size_t n) {
        _cleanup_free_ NodeId *sorted = calloc(n + 1, sizeof(NodeId));
        _cleanup_free_ Known *row = calloc(n + 1, sizeof(Known));
        if (!sorted || !row)
                return -ENOMEM;
        if (n > 0)
                memcpy(sorted, nodes, n * sizeof(NodeId));
        sorted[n] = gossip->self;
        qsort(sorted, n + 1, sizeof(NodeId), compare_ids);
        take_members(gossip, sorted, n + 1, STEAL(row));
        return 0;
}

/* ---- own facts */

static bool fits(const Known *own, const Fact *old, const char *key, size_t size) {
        size_t live = own->by_key.n - own->n_gone + (!old || old->gone);
        size_t total = own->size + size + (old ? 0 : strlen(key)) - (old ? old->size : 0);
        return size <= GOSSIP_VALUE_MAX && live <= GOSSIP_KEYS_MAX && total <= GOSSIP_NODE_SIZE_MAX;
}

static int put_own(Gossip *gossip, const char *key, const void *value, size_t size, bool gone) {
        Known *own = gossip_own(gossip);
        int r = known_put(own, key, own->version + 1, value, size, gone);
        if (r < 0)
                return r;
        own->version++;
        if (own->n_gone > GOSSIP_TOMBSTONES_MAX && own->generation < GOSSIP_GENERATION_MAX)
                known_renew(own, own->generation + 1);
        gossip_rehash(gossip, own);
        return GOSSIP_SET_CHANGED;
}

int gossip_set(Gossip *gossip, const char *key, const void *value, size_t size) {
        if (!gossip_key_is_valid(key))
                return GOSSIP_SET_REFUSED;
        const Known *own = gossip_own(gossip);
        const Fact *old = known_find(own, key);
        if (old && !old->gone && old->size == size && (size == 0 || memcmp(fact_value(old), value, size) == 0))
                return GOSSIP_SET_SAME;
        if (!fits(own, old, key, size))
                return GOSSIP_SET_REFUSED;
        return put_own(gossip, key, value, size, false);
}

int gossip_remove(Gossip *gossip, const char *key) {
        const Fact *old = known_find(gossip_own(gossip), key);
        if (!old || old->gone)
                return GOSSIP_SET_SAME;
        return put_own(gossip, key, NULL, 0, true);
}

/* ---- looking */

size_t gossip_n_members(const Gossip *gossip) {
        return gossip->nodes.n;
}

const NodeId *gossip_member(const Gossip *gossip, size_t index) {
        return &gossip->nodes.items[index].id;
}

const NodeId *gossip_self(const Gossip *gossip) {
        return &gossip->self;
}

uint64_t gossip_generation(const Gossip *gossip, const NodeId *node) {
        const Known *known = gossip_find(gossip, node);
        return known ? known->generation : 0;
}

uint64_t gossip_version(const Gossip *gossip, const NodeId *node) {
        const Known *known = gossip_find(gossip, node);
        return known ? known->version : 0;
}

const void *gossip_get(const Gossip *gossip, const NodeId *node, const char *key, size_t *ret_size) {
        const Known *known = gossip_find(gossip, node);
        const Fact *fact = known ? known_find(known, key) : NULL;
        if (!fact || fact->gone)
                return NULL;
        if (ret_size)
                *ret_size = fact->size;
        return fact_value(fact);
}

bool gossip_next(const Gossip *gossip, const NodeId *node, const char *key, GossipFact *ret) {
        const Known *known = gossip_find(gossip, node);
        if (!known)
                return false;
        for (size_t at = key ? known_after(known, key) : 0; at < known->by_key.n; at++) {
                const Fact *fact = known->by_key.items[at];
                if (fact->gone)
                        continue;
                *ret = (GossipFact) { fact->bytes, fact_value(fact), fact->size, fact->version };
                return true;
        }
        return false;
}

size_t gossip_size(const Gossip *gossip) {
        size_t size = 0;
        ARRAY_EACH(known, &gossip->nodes)
                size += known->size;
        return size;
}

size_t gossip_node_size(const Gossip *gossip, const NodeId *node) {
        const Known *known = gossip_find(gossip, node);
        return known ? known->size : 0;
}
