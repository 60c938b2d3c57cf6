/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the leader does to have silent nodes switched off. */

#include <errno.h>

#include "core/facts-codec-internal.h"

static_assert(FACTS_FENCED_MAX * (FACTS_FENCED_SAID_MAX + 64U) <= GOSSIP_VALUE_MAX, "they fit into one value");

void fencing_facts_clear(FencingFacts *facts) {
        ARRAY_EACH(fenced, facts)
                fenced_node_clear(fenced);
        array_clear(facts);
}

int fencing_facts_copy(const FencingFacts *from, FencingFacts *ret) {
        FencingFacts copy = {};
        ARRAY_EACH(fenced, from) {
                FencedNode row = *fenced;
                row.said = NULL;
                int r = text_set(&row.said, fenced->said);
                if (r >= 0)
                        r = array_append(&copy, &row);
                if (r >= 0)
                        continue;
                free(row.said);
                fencing_facts_clear(&copy);
                return r;
        }
        *ret = copy;
        return 0;
}

bool fencing_facts_equal(const FencingFacts *a, const FencingFacts *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!fenced_node_equal(a->items + i, b->items + i))
                        return false;
        return true;
}

/* ---- out */

static Gpupool1__FactsFencedPhase write_phase(FencedPhase phase) {
        switch (phase) {
        case FENCED_UNDER_WAY:
                return GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_UNDER_WAY;
        case FENCED_FAILED:
                return GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_FAILED;
        case FENCED_DONE:
                return GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_DONE;
        case FENCED_NOT:
        case FENCED_PHASE_COUNT:
                break;
        }
        return GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_NOT;
}

int fencing_facts_publish(Gossip *gossip, const FencingFacts *facts) {
        if (!facts || facts->n == 0) {
                int r = gossip_remove(gossip, KEY_FENCING);
                return r < 0 ? r : 0;
        }

        _cleanup_(keep_clear) Keep keep = {};
        size_t n = facts->n < FACTS_FENCED_MAX ? facts->n : FACTS_FENCED_MAX;
        Gpupool1__FactsFencedNode *rows = keep_row(&keep, n, sizeof(*rows));
        Gpupool1__FactsFencedNode **pointers = keep_row(&keep, n, sizeof(*pointers));
        for (size_t i = 0; i < n && rows && pointers; i++) {
                const FencedNode *fenced = facts->items + i;
                gpupool1__facts_fenced_node__init(rows + i);
                rows[i].node = id_message_borrow(fenced->node.bytes);
                rows[i].phase = write_phase(fenced->phase);
                rows[i].tries = fenced->tries;
                rows[i].said = keep_text(&keep, fenced->said, FACTS_FENCED_SAID_MAX);
                rows[i].at_ms = fenced->at_ms;
                pointers[i] = rows + i;
        }
        if (keep.failed)
                return -ENOMEM;
        Gpupool1__FactsFencing message = GPUPOOL1__FACTS_FENCING__INIT;
        message.n_nodes = n;
        message.nodes = pointers;
        int r = publish_or_withdraw(gossip, KEY_FENCING, &message.base);
        return r < 0 ? r : 0;
}

/* ---- in */

static FencedPhase read_phase(Gpupool1__FactsFencedPhase phase) {
        switch (phase) {
        case GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_UNDER_WAY:
                return FENCED_UNDER_WAY;
        case GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_FAILED:
                return FENCED_FAILED;
        case GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_DONE:
                return FENCED_DONE;
        case GPUPOOL1__FACTS_FENCED_PHASE__FACTS_FENCED_PHASE_NOT:
        case _GPUPOOL1__FACTS_FENCED_PHASE_IS_INT_SIZE:
                break;
        }
        return FENCED_NOT;              /* also what a later program may say */
}

static int read_row(const Gpupool1__FactsFencedNode *row, FencingFacts *facts) {
        FencedNode fenced = { .phase = read_phase(row->phase), .tries = row->tries, .at_ms = row->at_ms };
        if (row->node.len != ID_SIZE)
                return -EBADMSG;
        memcpy(fenced.node.bytes, row->node.data, ID_SIZE);
        if (facts->n > 0 && ID_COMPARE(&facts->items[facts->n - 1].node, &fenced.node) >= 0)
                return -EBADMSG;
        int r = read_text(row->said, FACTS_FENCED_SAID_MAX, &fenced.said);
        if (r >= 0)
                r = array_append(facts, &fenced);
        if (r < 0)
                fenced_node_clear(&fenced);
        return r;
}

int fencing_facts_collect(const Gossip *gossip, const NodeId *node, FencingFacts *ret) {
        size_t size;
        const void *value = gossip_get(gossip, node, KEY_FENCING, &size);
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = value ? unpack_value(&gpupool1__facts_fencing__descriptor, value, size, &message) : -EBADMSG;
        if (r < 0)
                return r == -EBADMSG ? false : r;

        const Gpupool1__FactsFencing *said = (const Gpupool1__FactsFencing *) message;
        FencingFacts facts = {};
        if (said->n_nodes > FACTS_FENCED_MAX)
                return false;
        for (size_t i = 0; r >= 0 && i < said->n_nodes; i++)
                r = read_row(said->nodes[i], &facts);
        if (r < 0) {
                fencing_facts_clear(&facts);
                return r == -EBADMSG ? false : r;
        }
        *ret = facts;
        return true;
}
