/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whom the leader does not hear. */

#include <errno.h>

#include "core/facts-codec-internal.h"

void silent_facts_clear(SilentFacts *facts) {
        free(facts->nodes);
        *facts = (SilentFacts) {};
}

int silent_facts_publish(Gossip *gossip, const SilentFacts *facts) {
        if (!facts) {
                int r = gossip_remove(gossip, KEY_SILENT);
                return r < 0 ? r : 0;
        }

        _cleanup_(keep_clear) Keep keep = {};
        size_t n = facts->n_nodes < FACTS_SILENT_MAX ? facts->n_nodes : FACTS_SILENT_MAX;
        Gpupool1__FactsSilentNode *rows = keep_row(&keep, n, sizeof(*rows));
        Gpupool1__FactsSilentNode **pointers = keep_row(&keep, n, sizeof(*pointers));
        if (keep.failed)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                gpupool1__facts_silent_node__init(rows + i);
                rows[i].node = id_message_borrow(facts->nodes[i].node.bytes);
                rows[i].since_ms = facts->nodes[i].since_ms;
                pointers[i] = rows + i;
        }
        Gpupool1__FactsSilent message = GPUPOOL1__FACTS_SILENT__INIT;
        message.term = facts->term;
        message.n_nodes = n;
        message.nodes = pointers;
        message.more = facts->more + (uint32_t) (facts->n_nodes - n);
        int r = publish_or_withdraw(gossip, KEY_SILENT, &message.base);
        return r < 0 ? r : 0;
}

static bool rows_are_sound(const Gpupool1__FactsSilent *message) {
        if (message->n_nodes > FACTS_SILENT_MAX)
                return false;
        for (size_t i = 0; i < message->n_nodes; i++) {
                const ProtobufCBinaryData *node = &message->nodes[i]->node;
                if (node->len != ID_SIZE ||
                    (i > 0 && memcmp(message->nodes[i - 1]->node.data, node->data, ID_SIZE) >= 0))
                        return false;
        }
        return true;
}

int silent_facts_collect(const Gossip *gossip, const NodeId *node, SilentFacts *ret) {
        size_t size;
        const void *value = gossip_get(gossip, node, KEY_SILENT, &size);
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = value ? unpack_value(&gpupool1__facts_silent__descriptor, value, size, &message) : -EBADMSG;
        if (r < 0)
                return r == -EBADMSG ? false : r;

        const Gpupool1__FactsSilent *said = (const Gpupool1__FactsSilent *) message;
        if (!rows_are_sound(said))
                return false;
        SilentNode *nodes = NULL;
        if (said->n_nodes > 0) {
                nodes = calloc(said->n_nodes, sizeof(*nodes));
                if (!nodes)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < said->n_nodes; i++) {
                memcpy(nodes[i].node.bytes, said->nodes[i]->node.data, ID_SIZE);
                nodes[i].since_ms = said->nodes[i]->since_ms;
        }
        *ret = (SilentFacts) { said->term, nodes, said->n_nodes, said->more };
        return true;
}
