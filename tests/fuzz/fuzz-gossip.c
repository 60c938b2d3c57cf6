/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as messages of gossip, one after another, each behind a byte that says whose it is and its size in two
 * bytes, low first. What is known never gets older, our own facts stay, every reply is within the limit, and at the end
 * an exchange with one who says the truth still ends. */

#include <assert.h>
#include <string.h>

#include "core/gossip.h"
#include "core/wire.h"
#include "unit/gossip-exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NODES 24U               /* more than a range tells of, so that the tree has a level more */
#define MESSAGES_MAX 64U
#define ITEMS_MAX 32768U        /* as the peer adapter's */

static NodeId node_id(unsigned number) {
        /* Of 16 beginnings; two nodes each for some of them. */
        NodeId id = { { (uint8_t) (number << 4), (uint8_t) number } };
        return id;
}

static Gossip *gossip_of(unsigned number) {
        Gossip *gossip = NULL;
        NodeId id = node_id(number), nodes[NODES];
        for (unsigned i = 0; i < NODES; i++)
                nodes[i] = node_id(i);
        int r = gossip_new(&gossip, &id, 5);
        assert(r >= 0);
        r = gossip_set_members(gossip, nodes, NODES);
        assert(r >= 0);
        r = gossip_set(gossip, "host", "mine", 5);
        assert(r == GOSSIP_SET_CHANGED);
        r = gossip_set(gossip, "load", "1", 2);
        assert(r == GOSSIP_SET_CHANGED);
        return gossip;
}

typedef struct State {
        uint64_t generation, version;
} State;

static void receive(Gossip *gossip, const NodeId *from, const uint8_t *data, size_t size, State states[NODES]) {
        if (wire_check(&gpupool1__gossip__descriptor, data, size, ITEMS_MAX) != WIRE_GOOD)
                return;
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = gpupool1__gossip__unpack(NULL, size, data);
        if (!message)
                return;
        _cleanup_(gossip_reply_clear) GossipReply reply = {};
        int r = gossip_receive(gossip, from, message, &reply);
        assert(r >= 0);
        assert(!reply.message || gpupool1__gossip__get_packed_size(reply.message) <= GOSSIP_MESSAGE_MAX);
        for (unsigned i = 0; i < NODES; i++) {
                NodeId id = node_id(i);
                State now = { gossip_generation(gossip, &id), gossip_version(gossip, &id) };
                assert(now.generation > states[i].generation ||
                       (now.generation == states[i].generation && now.version >= states[i].version));
                assert(gossip_node_size(gossip, &id) <= GOSSIP_NODE_HELD_MAX);
                states[i] = now;
        }
        const char *host = gossip_get(gossip, gossip_self(gossip), "host", NULL);
        assert(host && strcmp(host, "mine") == 0);
}

static void check_walk(const Gossip *gossip) {
        size_t total = 0;
        for (size_t i = 0; i < gossip_n_members(gossip); i++) {
                const NodeId *node = gossip_member(gossip, i);
                GossipFact fact = {};
                while (gossip_next(gossip, node, fact.key, &fact)) {
                        assert(fact.version <= gossip_version(gossip, node));
                        total += strlen(fact.key) + fact.size;
                }
        }
        assert(total <= gossip_size(gossip));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_of(0), *honest = gossip_of(1);
        State states[NODES] = {};
        (void) exchange(gossip, honest);
        for (unsigned n = 0; size >= 3 && n < MESSAGES_MAX; n++) {
                NodeId from = node_id(data[0] % NODES);
                size_t message_size = data[1] | (size_t) data[2] << 8;
                data += 3;
                size -= 3;
                message_size = message_size < size ? message_size : size;
                receive(gossip, &from, data, message_size, states);
                data += message_size;
                size -= message_size;
        }
        check_walk(gossip);
        for (unsigned i = 0; i < 3; i++)
                (void) exchange(honest, gossip);
        return 0;
}
