/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a host has for VMs beside its GPUs: CPUs, and files. */

#include <errno.h>

#include "core/facts-codec-internal.h"

/* ---- out */

/* A list that is cut would say of what is not in it that it cannot be had: so it is told whole, or not at all. */
static int publish_cpu(Gossip *gossip, const NodeFacts *facts) {
        bool whole = facts->cpu_models.n <= FACTS_CPU_MODELS_MAX;
        if ((!whole || facts->cpu_models.n == 0) && text_is_empty(facts->cpu_vendor))
                return gossip_remove(gossip, KEY_CPU);
        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsCpu message = GPUPOOL1__FACTS_CPU__INIT;
        message.vendor = keep_text(&keep, facts->cpu_vendor, FACTS_WORD_MAX);
        if (whole)
                message.models = keep_list(&keep, &facts->cpu_models, FACTS_CPU_MODELS_MAX, &message.n_models);
        if (keep.failed)
                return -ENOMEM;
        return publish_or_withdraw(gossip, KEY_CPU, &message.base);
}

/* Whole or not at all, likewise: what is not told of a node would be taken for nothing. */
static int publish_numa(Gossip *gossip, const NodeFacts *facts) {
        size_t n = facts->n_numa_memory;
        if (n == 0 || n > FACTS_NUMA_MAX)
                return gossip_remove(gossip, KEY_NUMA);
        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsNuma message = GPUPOOL1__FACTS_NUMA__INIT;
        Gpupool1__FactsNumaMemory *rows = keep_row(&keep, n, sizeof(*rows));
        Gpupool1__FactsNumaMemory **pointers = keep_row(&keep, n, sizeof(*pointers));
        if (keep.failed)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                gpupool1__facts_numa_memory__init(rows + i);
                rows[i].node = facts->numa_memory[i].node;
                rows[i].page_size_bytes = facts->numa_memory[i].page_size_bytes;
                rows[i].total_bytes = facts->numa_memory[i].total_bytes;
                pointers[i] = rows + i;
        }
        message.memory = pointers;
        message.n_memory = n;
        return publish_or_withdraw(gossip, KEY_NUMA, &message.base);
}

static size_t at_most(size_t n, size_t most) {
        return n < most ? n : most;
}

static int publish_storage(Gossip *gossip, const NodeFacts *facts) {
        const PathSet *missing = &facts->missing_paths, *hanging = &facts->hanging_paths;
        if (missing->n == 0 && hanging->n == 0 && facts->untold_paths == 0)
                return gossip_remove(gossip, KEY_STORAGE);
        Gpupool1__FactsStorage message = GPUPOOL1__FACTS_STORAGE__INIT;
        message.missing = missing->hashes;
        message.n_missing = at_most(missing->n, FACTS_PATHS_MAX);
        message.hanging = hanging->hashes;
        message.n_hanging = at_most(hanging->n, FACTS_PATHS_MAX);
        message.more = facts->untold_paths + (uint32_t) (missing->n - message.n_missing) +
                       (uint32_t) (hanging->n - message.n_hanging);
        return publish_or_withdraw(gossip, KEY_STORAGE, &message.base);
}

int capacity_publish(Gossip *gossip, const NodeFacts *facts) {
        int r = publish_cpu(gossip, facts);
        if (r >= 0)
                r = publish_numa(gossip, facts);
        return r < 0 ? r : publish_storage(gossip, facts);
}

/* ---- in */

int cpu_collect(const GossipFact *fact, NodeFacts *facts) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_cpu__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        const Gpupool1__FactsCpu *cpu = (const Gpupool1__FactsCpu *) message;
        _cleanup_(text_list_clear) TextList models = {};
        _cleanup_free_ char *vendor = NULL;
        r = read_list(cpu->models, cpu->n_models, FACTS_CPU_MODELS_MAX, &models);
        if (r >= 0)
                r = read_text(cpu->vendor, FACTS_WORD_MAX, &vendor);
        if (r < 0)
                return r;
        facts->cpu_models = models;
        facts->cpu_vendor = STEAL(vendor);
        models = (TextList) {};
        return 0;
}

static bool numa_is_sound(Gpupool1__FactsNumaMemory *const *rows, size_t n) {
        if (n > FACTS_NUMA_MAX)
                return false;
        for (size_t i = 0; i < n; i++) {
                bool behind = i == 0 || rows[i]->node > rows[i - 1]->node ||
                              (rows[i]->node == rows[i - 1]->node &&
                               rows[i]->page_size_bytes > rows[i - 1]->page_size_bytes);
                if (!behind || rows[i]->node >= NUMA_NODES_MAX)
                        return false;
        }
        return true;
}

int numa_collect(const GossipFact *fact, NodeFacts *facts) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_numa__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        const Gpupool1__FactsNuma *numa = (const Gpupool1__FactsNuma *) message;
        if (!numa_is_sound(numa->memory, numa->n_memory))
                return -EBADMSG;
        facts->numa_memory = calloc(numa->n_memory + 1, sizeof(*facts->numa_memory));
        if (!facts->numa_memory)
                return -ENOMEM;
        facts->n_numa_memory = numa->n_memory;
        for (size_t i = 0; i < numa->n_memory; i++)
                facts->numa_memory[i] = (NumaMemory) { numa->memory[i]->node, numa->memory[i]->page_size_bytes,
                                                       numa->memory[i]->total_bytes };
        return 0;
}

static int read_paths(const uint64_t *hashes, size_t n, PathSet *ret) {
        if (n > FACTS_PATHS_MAX)
                return -EBADMSG;
        for (size_t i = 1; i < n; i++)
                if (hashes[i] <= hashes[i - 1])
                        return -EBADMSG;
        return path_set_copy(&(PathSet) { (uint64_t *) hashes, n }, ret);
}

int storage_collect(const GossipFact *fact, NodeFacts *facts) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_storage__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        const Gpupool1__FactsStorage *storage = (const Gpupool1__FactsStorage *) message;
        _cleanup_(path_set_clear) PathSet missing = {}, hanging = {};
        r = read_paths(storage->missing, storage->n_missing, &missing);
        if (r >= 0)
                r = read_paths(storage->hanging, storage->n_hanging, &hanging);
        if (r < 0)
                return r;
        facts->missing_paths = missing;
        facts->hanging_paths = hanging;
        facts->untold_paths = storage->more;
        missing = hanging = (PathSet) {};
        return 0;
}
