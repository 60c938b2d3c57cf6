/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Exchanges between two states of gossip in one process, through encoded bytes as on the wire; for tests and the
 * benchmark. */

#include <assert.h>

#include "core/gossip.h"

/* A message as it comes out at the other end. */
static inline Gpupool1__Gossip *carry(const Gpupool1__Gossip *message, size_t *ret_size) {
        size_t size = gpupool1__gossip__get_packed_size(message);
        assert(size <= GOSSIP_MESSAGE_MAX);
        _cleanup_free_ uint8_t *bytes = malloc(size + 1);
        assert(bytes);
        gpupool1__gossip__pack(message, bytes);
        Gpupool1__Gossip *copy = gpupool1__gossip__unpack(NULL, size, bytes);
        assert(copy);
        *ret_size = size;
        return copy;
}

typedef struct Exchange {
        unsigned messages;
        size_t bytes;                   /* encoded */
        size_t by_first;                /* of these said by the one who began */
        unsigned changes;               /* nodes whose facts changed on either side */
        bool renewed;
} Exchange;

/* All that two say to each other when @a begins. */
static inline Exchange exchange(Gossip *a, Gossip *b) {
        Exchange done = {};
        Gpupool1__Gossip *message = NULL;
        int r = gossip_begin(a, &message);
        assert(r >= 0);
        for (Gossip *from = a, *to = b; message;) {
                size_t size;
                _cleanup_(gossip_message_freep) Gpupool1__Gossip *carried = carry(message, &size);
                gossip_message_free(message);
                done.bytes += size;
                done.by_first += from == a ? size : 0;
                done.messages++;
                assert(done.messages <= GOSSIP_MESSAGES_MAX);

                GossipReply reply = {};
                r = gossip_receive(to, gossip_self(from), carried, &reply);
                assert(r == GOSSIP_TAKEN);
                done.changes += (unsigned) reply.n_changed;
                done.renewed = done.renewed || reply.renewed;
                message = STEAL(reply.message);
                gossip_reply_clear(&reply);
                Gossip *swap = from;
                from = to;
                to = swap;
        }
        return done;
}
