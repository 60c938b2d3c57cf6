/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>

#include "core/describe-internal.h"
#include "core/registry-internal.h"

#define LEASE_MS 3000U
#define DEATH_MS 500U

Described *described_free(Described *described) {
        if (!described)
                return NULL;
        ARRAY_EACH(facts, &described->facts) {
                node_facts_clear(*facts);
                free(*facts);
        }
        array_clear(&described->facts);
        array_clear(&described->lives);
        registry_free(described->registry);
        free(described);
        return NULL;
}

static void reader_clear(Reader *reader) {
        ARRAY_EACH(draft, &reader->drafts) {
                if (draft->facts) {
                        node_facts_clear(draft->facts);
                        free(draft->facts);
                }
                array_clear(&draft->gpus);
                array_clear(&draft->members);
        }
        array_clear(&reader->drafts);
        array_clear(&reader->nodes);
        array_clear(&reader->vms);
        described_free(reader->described);
        free(reader->sentence);
}

/* ---- cluster and pools */

static int read_cluster(Reader *reader) {
        Registry *registry = reader->described->registry;
        char *name, *word;
        int r = reader->has_cluster || registry->nodes.n > 0
                        ? refuse(reader, "the line of the cluster stands once, and before all nodes")
                        : read_name(reader, "cluster", &name);
        if (r == DESCRIBE_READ)
                r = text_set(&registry->name, name);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = text_equal(word, "level")
                            ? read_u32(reader, word, LEVEL_OLDEST, LEVEL_SUPPORTED, &registry->level)
                            : refuse_word(reader, "cluster", word);
        reader->has_cluster = true;
        return r;
}

static int read_pool_word(Reader *reader, Pool *pool, const char *word) {
        if (pool_placement_from_text(word, &pool->placement) >= 0)
                return DESCRIBE_READ;
        if (text_equal(word, "reserve"))
                return read_u32(reader, word, 0, POOL_GPUS_MAX, &pool->reserve);
        if (text_equal(word, "max-in-use"))
                return read_u32(reader, word, 0, POOL_GPUS_MAX, &pool->max_in_use);
        return refuse_word(reader, "pool", word);
}

static int read_pool(Reader *reader) {
        Registry *registry = reader->described->registry;
        char *name, *word;
        size_t place;
        int r = read_name(reader, "pool", &name);
        if (r != DESCRIBE_READ)
                return r;
        if (registry->nodes.n > 0)
                return refuse(reader, "the lines of pools stand before those of nodes");
        if (registry->pools.n >= POOLS_MAX)
                return refuse(reader, "a cluster has at most %u pools", POOLS_MAX);
        if (registry_pool_place(registry, name, &place))
                return refuse(reader, "there is a pool %s already", name);
        Pool made = {};
        r = text_set(&made.name, name);
        if (r < 0)
                return r;
        r = array_insert(&registry->pools, place, &made);
        if (r < 0) {
                pool_clear(&made);
                return r;
        }
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_pool_word(reader, registry->pools.items + place, word);
        return r;
}

/* ---- nodes */

NodeId described_node_id(size_t index) {
        NodeId id = {};
        for (size_t i = 0; i < 4; i++)
                id.bytes[NODE_NUMBER_SIZE - 1 - i] = (uint8_t) ((index + 1) >> (8 * i));
        return id;
}

static NodeFacts *new_facts(const NodeId *id) {
        NodeFacts *facts = calloc(1, sizeof(*facts));
        if (!facts)
                return NULL;
        *facts = (NodeFacts) {
                .node = *id,
                .incarnation = 1,
                .memory_total = (uint64_t) DESCRIBED_MEMORY_MIB << 20,
                .memory_free = (uint64_t) DESCRIBED_MEMORY_MIB << 20,
                .address_bits = 52,
                .iommu_present = true,
                .vfio_present = true,
                .interrupt_remapping = true,
                .interrupt_remapping_known = true,
                .hypervisor = HYPERVISOR_CONNECTED,
                .guard_connected = true,
        };
        return facts;
}

static int compare_pages(const void *key, const void *item) {
        uint64_t a = *(const uint64_t *) key, b = ((const Hugepages *) item)->size_bytes;
        return a < b ? -1 : a > b;
}

static int read_hugepages(Reader *reader, NodeFacts *facts) {
        int64_t kib, total;
        int r = read_number(reader, "hugepages", 1, INT64_C(1) << 30, &kib);
        if (r == DESCRIBE_READ)
                r = read_number(reader, "hugepages", 0, INT64_C(1) << 40, &total);
        if (r != DESCRIBE_READ)
                return r;
        Hugepages made = { .size_bytes = (uint64_t) kib << 10, .total = (uint64_t) total, .free = (uint64_t) total };
        size_t place, allocated = facts->n_hugepages;
        if (array_search(facts->hugepages, facts->n_hugepages, sizeof(made), &made.size_bytes, compare_pages, &place))
                return refuse(reader, "huge pages of %" PRId64 " KiB stand twice", kib);
        r = array_insert_bytes(&facts->hugepages, &facts->n_hugepages, &allocated, place, &made, sizeof(made));
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_node_word(Reader *reader, NodeRecord *node, Draft *draft, bool *silent, const char *word) {
        if (text_equal(word, "level"))
                return read_u32(reader, word, LEVEL_OLDEST, LEVEL_SUPPORTED, &node->level);
        if (text_equal(word, "hugepages"))
                return read_hugepages(reader, draft->facts);
        if (text_equal(word, "witness"))
                return set_flag(&node->witness);
        if (text_equal(word, "lost"))
                return set_flag(&node->lost);
        if (text_equal(word, "brings-home"))
                return set_flag(&node->bring_home);
        if (text_equal(word, "silent"))
                return set_flag(silent);
        if (text_equal(word, "unknown"))
                return set_flag(&draft->unknown);
        if (text_equal(word, "drained"))
                node->drain = DRAIN_BY_HAND;
        else if (text_equal(word, "joining"))
                node->lease_ms = node->death_ms = 0;
        else if (text_equal(word, "no-hypervisor"))
                draft->facts->hypervisor = HYPERVISOR_ABSENT;
        else if (text_equal(word, "no-guard"))
                draft->facts->guard_connected = false;
        else
                return read_node_supply(reader, draft->facts, word);
        return DESCRIBE_READ;
}

static int add_node(Reader *reader, const char *name, NodeRecord **ret_node, Draft **ret_draft) {
        Registry *registry = reader->described->registry;
        size_t index = registry->nodes.n;
        NodeRecord node = {
                .id = described_node_id(index),
                .incarnation = 1,
                .level = registry->level,
                .lease_ms = LEASE_MS,
                .death_ms = DEATH_MS,
        };
        int r = text_set(&node.name, name);
        if (r < 0)
                return r;
        r = array_append(&registry->nodes, &node);
        if (r < 0) {
                free(node.name);
                return r;
        }
        r = array_append(&reader->drafts, &((Draft) {}));
        if (r < 0)
                return r;
        *ret_node = registry->nodes.items + index;
        *ret_draft = reader->drafts.items + index;
        (*ret_draft)->facts = new_facts(&node.id);
        return (*ret_draft)->facts ? DESCRIBE_READ : -ENOMEM;
}

static int read_node(Reader *reader) {
        Described *described = reader->described;
        NodeRecord *node;
        Draft *draft;
        char *name, *word;
        bool silent = false;
        if (described->registry->nodes.n >= NODES_MAX)
                return refuse(reader, "a cluster has at most %u nodes", NODES_MAX);
        int r = read_name(reader, "node", &name);
        if (r == DESCRIBE_READ)
                r = add_name(reader, &reader->nodes, "node", name, described->registry->nodes.n);
        if (r == DESCRIBE_READ)
                r = add_node(reader, name, &node, &draft);
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_node_word(reader, node, draft, &silent, word);
        if (r == DESCRIBE_READ && silent) {
                r = array_append(&described->lives, &((NodeLife) { .node = node->id, .silent = true }));
                r = r < 0 ? r : DESCRIBE_READ;
        }
        return r;
}

/* ---- the whole */

static int compare_quarantines(const void *a, const void *b) {
        return gpu_identity_compare(&((const Quarantine *) a)->gpu, &((const Quarantine *) b)->gpu);
}

static int finish(Reader *reader) {
        Described *described = reader->described;
        Registry *registry = described->registry;
        for (size_t i = 0; i < reader->drafts.n; i++) {
                Draft *draft = reader->drafts.items + i;
                int r = join_sets(draft, registry->nodes.items + i);
                if (r >= 0)
                        r = fill_pools(reader, draft);
                if (r >= 0 && !draft->unknown) {
                        r = array_append(&described->facts, &draft->facts);
                        if (r >= 0)
                                draft->facts = NULL;
                }
                if (r < 0)
                        return r;
        }
        if (registry->quarantines.n > 1)
                qsort(registry->quarantines.items, registry->quarantines.n, sizeof(*registry->quarantines.items),
                      compare_quarantines);
        described->world = (World) {
                .registry = registry,
                .nodes = (const NodeFacts *const *) described->facts.items,
                .n_nodes = described->facts.n,
                .lives = described->lives.items,
                .n_lives = described->lives.n,
                .local = registry->nodes.n > 0 ? registry->nodes.items[0].id : (NodeId) {},
        };
        return DESCRIBE_READ;
}

static int read_line(Reader *reader) {
        static const struct {
                const char *word;
                int (*read)(Reader *reader);
        } kinds[] = {
                { "cluster", read_cluster }, { "pool", read_pool }, { "node", read_node },
                { "gpu", read_gpu },         { "gpus", read_gpus }, { "vm", read_vm },
        };
        const char *word = next_word(reader);
        if (!word)
                return DESCRIBE_READ;
        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                if (text_equal(word, kinds[i].word))
                        return kinds[i].read(reader);
        return refuse(reader, "a line begins with cluster, pool, node, gpu, gpus, vm or #, not with \"%.*s\"",
                      WORD_SHOWN_MAX, word);
}

static int read_all(Reader *reader, char *text) {
        int r = DESCRIBE_READ;
        for (char *line = text; r == DESCRIBE_READ && *line; reader->line++) {
                size_t n = strcspn(line, "\n");
                char *next = line[n] ? line + n + 1 : line + n;
                line[n] = '\0';
                line[strcspn(line, "#")] = '\0';
                reader->rest = line;
                r = read_line(reader);
                if (r != DESCRIBE_READ)
                        return r;
                line = next;
        }
        return finish(reader);
}

int describe_read(const char *text, Described **ret, char **ret_sentence) {
        _cleanup_(reader_clear) Reader reader = { .line = 1 };
        _cleanup_free_ char *copy = strdup(text);
        reader.described = calloc(1, sizeof(*reader.described));
        if (!copy || !reader.described)
                return -ENOMEM;
        int r = registry_new(&reader.described->registry);
        if (r < 0)
                return r;
        reader.described->registry->cluster.bytes[0] = 1;
        reader.described->registry->level = LEVEL_SUPPORTED;
        r = text_set(&reader.described->registry->name, "cluster");
        if (r >= 0)
                r = read_all(&reader, copy);
        if (r == DESCRIBE_READ)
                *ret = STEAL(reader.described);
        else if (r == DESCRIBE_BAD)
                *ret_sentence = STEAL(reader.sentence);
        return r;
}
