/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is known of one node: its facts, by key and by version. */

#include <errno.h>

#include "core/entry.h"
#include "core/gossip-internal.h"

bool gossip_key_is_valid(const char *key) {
        size_t n = 0;
        for (; key[n]; n++)
                if (n >= GOSSIP_KEY_MAX || key[n] <= ' ' || key[n] > '~')
                        return false;
        return n > 0;
}

static int compare_key(const void *key, const void *item) {
        return strcmp(key, (*(Fact *const *) item)->bytes);
}

static int compare_version(const void *key, const void *item) {
        uint64_t version = *(const uint64_t *) key, other = (*(Fact *const *) item)->version;
        return version < other ? -1 : version > other;
}

Fact *known_find(const Known *known, const char *key) {
        size_t at;
        return array_find(&known->by_key, key, compare_key, &at) ? known->by_key.items[at] : NULL;
}

size_t known_after(const Known *known, const char *key) {
        size_t at;
        return array_find(&known->by_key, key, compare_key, &at) ? at + 1 : at;
}

size_t known_first_beyond(const Known *known, uint64_t version) {
        size_t at;
        return array_find(&known->by_version, &version, compare_version, &at) ? at + 1 : at;
}

static size_t fact_weight(const Fact *fact) {
        return fact->key_size + fact->size;
}

static Fact *fact_new(const char *key, uint64_t version, const void *value, size_t size, bool gone) {
        size_t key_size = strlen(key);
        Fact *fact = malloc(sizeof(Fact) + key_size + 1 + size);
        if (!fact)
                return NULL;
        *fact = (Fact) { .version = version, .size = (uint32_t) size, .key_size = (uint8_t) key_size, .gone = gone };
        memcpy(fact->bytes, key, key_size + 1);
        if (size > 0)
                memcpy(fact->bytes + key_size + 1, value, size);
        return fact;
}

int known_put(Known *known, const char *key, uint64_t version, const void *value, size_t size, bool gone) {
        size_t at, old_at;
        bool replaces = array_find(&known->by_key, key, compare_key, &at);
        int r = array_reserve(&known->by_key.items, &known->by_key.allocated, known->by_key.n + 1, sizeof(Fact *));
        if (r >= 0)
                r = array_reserve(&known->by_version.items, &known->by_version.allocated, known->by_version.n + 1,
                                  sizeof(Fact *));
        if (r < 0)
                return r;
        Fact *fact = fact_new(key, version, value, size, gone);
        if (!fact)
                return -ENOMEM;

        /* Nothing fails from here on: there is room. */
        if (replaces) {
                Fact *old = known->by_key.items[at];
                (void) array_find(&known->by_version, &old->version, compare_version, &old_at);
                array_remove(&known->by_version, old_at);
                known->size -= fact_weight(old);
                known->n_gone -= old->gone;
                free(old);
                known->by_key.items[at] = fact;
        } else
                (void) array_insert(&known->by_key, at, &fact);
        (void) array_append(&known->by_version, &fact);
        known->size += fact_weight(fact);
        known->n_gone += fact->gone;
        return 0;
}

uint64_t known_fingerprint(const Known *known) {
        uint64_t hash = 0;
        ARRAY_EACH(fact, &known->by_key)
                if (!(*fact)->gone)
                        hash = tree_mix(hash ^ bytes_fingerprint((const uint8_t *) (*fact)->bytes,
                                                                 (*fact)->key_size + 1U + (*fact)->size));
        return hash;
}

void known_clear(Known *known) {
        ARRAY_EACH(fact, &known->by_key)
                free(*fact);
        array_clear(&known->by_key);
        array_clear(&known->by_version);
        known->size = known->n_gone = 0;
}

void known_renew(Known *known, uint64_t generation) {
        size_t kept = 0;
        ARRAY_EACH(fact, &known->by_key)
                if (!(*fact)->gone)
                        known->by_key.items[kept++] = *fact;
        known->by_key.n = kept;

        kept = 0;
        ARRAY_EACH(fact, &known->by_version) {
                if ((*fact)->gone) {
                        known->size -= fact_weight(*fact);
                        free(*fact);
                        continue;
                }
                known->by_version.items[kept++] = *fact;
                (*fact)->version = kept;
        }
        known->by_version.n = kept;
        known->n_gone = 0;
        known->generation = generation;
        known->version = kept;
}
