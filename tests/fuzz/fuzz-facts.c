/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as values of a node, one after another, each behind a byte that says its key and its size in two bytes, low
 * first. What is taken for facts is within their bounds, so it comes back when it is told again. */

#include <assert.h>
#include <string.h>

#include "core/facts-codec.h"
#include "core/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const NodeId self = { { 1 } };
static const VmId vm = { { 2 } };
static const char *const keys[] = {
        "host", "load", "gpu/0000:41:00.0", "gpu/0000:42:00.0", "gpu/10000:01:00.0", "gpu/", "silent",
        "vm/02000000000000000000000000000000", "fencing", "cpu", "storage", "numa",
};

static Gossip *gossip_of_self(void) {
        Gossip *gossip = NULL;
        int r = gossip_new(&gossip, &self, 1);
        assert(r >= 0);
        return gossip;
}

static void check_facts(const Gossip *gossip) {
        NodeFacts facts = {}, again = {};
        unsigned skipped = 0;
        int r = facts_collect(gossip, &self, &facts, &skipped);
        assert(r >= 0);
        if (r == FACTS_NONE)
                return;
        assert(facts.n_gpus <= GPUS_PER_NODE_MAX);
        for (size_t i = 0; i < facts.n_gpus; i++)
                assert(text_is_printable(facts.gpus[i].identity.slot));

        _cleanup_(gossip_freep) Gossip *told = gossip_of_self();
        r = facts_publish(told, &facts);
        assert(r >= 0);
        r = facts_collect(told, &self, &again, &skipped);
        assert(r == FACTS_WHOLE && skipped == 0);
        assert(facts_equal(&facts, &again));
        node_facts_clear(&facts);
        node_facts_clear(&again);
}

static void check_the_rest(const Gossip *gossip) {
        VmFacts one = {};
        SilentFacts silent = {};
        FencingFacts fencing = {};
        int r = vm_facts_collect(gossip, &self, &vm, &one);
        assert(r >= 0);
        assert(!one.sentence || text_is_printable(one.sentence));
        vm_facts_clear(&one);
        r = silent_facts_collect(gossip, &self, &silent);
        assert(r >= 0);
        assert(silent.n_nodes <= FACTS_SILENT_MAX);
        silent_facts_clear(&silent);
        r = fencing_facts_collect(gossip, &self, &fencing);
        assert(r >= 0);
        assert(fencing.n <= FACTS_FENCED_MAX);
        for (size_t i = 0; i < fencing.n; i++)
                assert(!fencing.items[i].said || text_is_printable(fencing.items[i].said));
        fencing_facts_clear(&fencing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_of_self();
        while (size >= 3) {
                const char *key = keys[data[0] % (sizeof(keys) / sizeof(keys[0]))];
                size_t value_size = data[1] | (size_t) data[2] << 8;
                data += 3;
                size -= 3;
                value_size = value_size < size ? value_size : size;
                int r = gossip_set(gossip, key, data, value_size);
                assert(r >= 0);
                data += value_size;
                size -= value_size;
        }
        check_facts(gossip);
        check_the_rest(gossip);
        return 0;
}
