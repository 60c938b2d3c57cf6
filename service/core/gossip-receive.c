/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What comes is taken as far as it is newer, and answered. */

#include <errno.h>

#include "core/gossip-internal.h"

/* How much of a reply each kind may fill, so that none keeps out the next: the largest fact always has room. */
#define TREE_LIMIT (32U * 1024U)
#define WANTS_LIMIT (TREE_LIMIT + 12U * 1024U)
/* Of one node in turn; more than the usual node has in all, so that its facts arrive together. */
#define QUANTUM (8U * 1024U)
/* Numbers among which the generation is chosen by which a node outdoes its past. */
#define GENERATIONS_BEYOND 65536U

/* A reply in the making. */
typedef struct Answer {
        Gossip *gossip;
        const NodeId *from;
        uint64_t receipt;
        Draft draft;
        ARRAY(DeltaDraft) deltas;
        ARRAY(const Known *) wants;
        ARRAY(NodeId) changed;
        size_t visits;
        bool renewed;
} Answer;

static void answer_clear(Answer *answer) {
        draft_clear(&answer->draft);
        array_clear(&answer->deltas);
        array_clear(&answer->wants);
        array_clear(&answer->changed);
}

/* Where to begin in a row of @n: another place each time, without a rhythm that another one could fall in with. */
static size_t draw_start(const Answer *answer, size_t n) {
        return n > 0 ? (size_t) (tree_mix(answer->receipt) % n) : 0;
}

/* Buckets and ranges of one message do not overlap, so all of them together have each node once. Ones that do would
 * cost time without end. */
static bool may_visit(Answer *answer, const Bucket *bucket) {
        answer->visits += bucket->end - bucket->first;
        return answer->visits <= answer->gossip->nodes.n;
}

static bool is_newer(uint64_t generation, uint64_t version, const Known *known) {
        return generation > known->generation || (generation == known->generation && version > known->version);
}

/* What takes the place of what is known: what is newer, as far as the speaker may be believed. A node counts by itself
 * also where it says less than what others made of it. */
static bool is_taken(const Answer *answer, uint64_t generation, uint64_t version, const Known *known) {
        bool by_itself = ID_EQUAL(answer->from, &known->id);
        if (by_itself && known->generation > GOSSIP_GENERATION_PLAUSIBLE && generation > 0 &&
            generation <= GOSSIP_GENERATION_PLAUSIBLE)
                return true;
        if (by_itself || known->generation == 0)
                return is_newer(generation, version, known) && (by_itself || generation <= GOSSIP_GENERATION_PLAUSIBLE);
        return is_newer(generation, version, known) && generation <= known->generation + GOSSIP_GENERATION_LEAP;
}

/* ---- taking */

static int note_changed(Answer *answer, Known *known) {
        if (known->changed_at == answer->receipt)
                return 0;
        int r = array_append(&answer->changed, &known->id);
        if (r >= 0)
                known->changed_at = answer->receipt;
        return r;
}

/* Of the largest state that a node may have, all fits; a node that has more is known up to where it broke the limit. */
static bool may_hold(const Known *known, const Gpupool1__GossipEntry *entry) {
        size_t n = known->by_key.n + !known_find(known, entry->key);
        size_t size = known->size + strlen(entry->key) + entry->value.len;
        return n <= GOSSIP_KEYS_MAX + GOSSIP_TOMBSTONES_MAX && size <= GOSSIP_NODE_HELD_MAX;
}

static int take_entries(Known *known, const Gpupool1__GossipDelta *delta) {
        for (size_t i = 0; i < delta->n_entries; i++) {
                const Gpupool1__GossipEntry *entry = delta->entries[i];
                if (entry->version <= known->version)
                        continue;
                if (!may_hold(known, entry))
                        return 0;
                int r = known_put(known, entry->key, entry->version, entry->value.data, entry->value.len, entry->gone);
                if (r < 0)
                        return r;
                known->version = entry->version;
        }
        if (delta->version > known->version)
                known->version = delta->version;
        return 0;
}

/* Somebody knows a state of us that we do not: we came back from an older one, or lost count. What we say now must be
 * newer than that. It may not be all that we once said: so that no number is given to two states, where others know a
 * newer one still, how far we go beyond it comes of what we have to say. */
static void outdo(Answer *answer, uint64_t generation, uint64_t version) {
        Known *own = gossip_own(answer->gossip);
        /* Beyond that nobody believes it but of us, and then what we say now counts. */
        bool is_believed = generation <= GOSSIP_GENERATION_PLAUSIBLE ||
                           generation <= own->generation + GOSSIP_GENERATION_LEAP;
        if (!is_newer(generation, version, own) || !is_believed || generation == GOSSIP_GENERATION_MAX)
                return;
        uint64_t beyond = 1 + known_fingerprint(own) % GENERATIONS_BEYOND;
        bool has_room = beyond <= GOSSIP_GENERATION_MAX - generation;
        known_renew(own, has_room ? generation + beyond : GOSSIP_GENERATION_MAX);
        gossip_rehash(answer->gossip, own);
        answer->renewed = true;
}

static int take_delta(Answer *answer, const Gpupool1__GossipDelta *delta) {
        Known *known = gossip_find(answer->gossip, (const NodeId *) delta->node.data);
        if (!known)
                return 0;
        if (known == gossip_own(answer->gossip)) {
                outdo(answer, delta->generation, delta->version);
                return 0;
        }
        if (!is_taken(answer, delta->generation, delta->version, known))
                return 0;

        /* It must join on to what is known: it came late, or another one before it did not come. */
        bool begins_anew = delta->generation != known->generation;
        if (delta->since > (begins_anew ? 0 : known->version))
                return 0;
        int r = note_changed(answer, known);
        if (r < 0)
                return r;
        if (begins_anew) {
                known_clear(known);
                known->generation = delta->generation;
                known->version = 0;
        }
        r = take_entries(known, delta);
        gossip_rehash(answer->gossip, known);
        return r;
}

/* ---- answering: what is said of a node */

static int list_delta(Answer *answer, Known *known, uint64_t since) {
        if (known->sent_at == answer->receipt)
                return 0;
        known->sent_at = answer->receipt;
        return array_append(&answer->deltas, (&(DeltaDraft) { .known = known, .since = since }));
}

static int list_want(Answer *answer, Known *known) {
        if (known->wanted_at == answer->receipt)
                return 0;
        known->wanted_at = answer->receipt;
        return array_append(&answer->wants, &(const Known *) { known });
}

/* The other one knows this much of the node; 0, 0: nothing. */
static int answer_state(Answer *answer, Known *known, uint64_t generation, uint64_t version, bool may_want) {
        bool is_own = known == gossip_own(answer->gossip);
        if (is_own)
                outdo(answer, generation, version);
        if (is_taken(answer, generation, version, known))
                return may_want ? list_want(answer, known) : 0;
        if (is_newer(generation, version, known))
                return is_own ? list_delta(answer, known, 0) : 0;
        if (generation == known->generation)
                return version < known->version ? list_delta(answer, known, version) : 0;
        return list_delta(answer, known, 0);
}

static int answer_want(Answer *answer, const Gpupool1__GossipDigest *want) {
        Known *known = gossip_find(answer->gossip, (const NodeId *) want->node.data);
        return known ? answer_state(answer, known, want->generation, want->version, false) : 0;
}

/* Both rows are sorted. A node that we do not know for a member is passed over. */
static int answer_range(Answer *answer, const Gpupool1__GossipRange *range) {
        Bucket bucket = tree_bucket(answer->gossip, range->bits, range->prefix.data);
        if (!may_visit(answer, &bucket))
                return 0;
        size_t next = 0;
        for (size_t i = bucket.first; i < bucket.end; i++) {
                Known *known = answer->gossip->nodes.items + i;
                int c = 1;
                while (next < range->n_digests &&
                       (c = memcmp(known->id.bytes, range->digests[next]->node.data, ID_SIZE)) > 0)
                        next++;
                const Gpupool1__GossipDigest *told = c == 0 ? range->digests[next] : NULL;
                int r = answer_state(answer, known, told ? told->generation : 0, told ? told->version : 0, true);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- answering: the tree */

static int answer_bucket(Answer *answer, const Gpupool1__GossipBucket *theirs) {
        Bucket ours = tree_bucket(answer->gossip, theirs->bits, theirs->prefix.data);
        if (!may_visit(answer, &ours))
                return DRAFT_FULL;
        bucket_sum(answer->gossip, &ours);
        if (ours.hash == theirs->hash)
                return DRAFT_ADDED;

        bool few = ours.n_known <= GOSSIP_RANGE_NODES && theirs->nodes <= GOSSIP_RANGE_NODES;
        if (few || ours.bits == 8 * ID_SIZE)
                return draft_add_range(&answer->draft, answer->gossip, &ours, TREE_LIMIT);
        for (unsigned digit = 0; digit < 16; digit++) {
                Bucket child = tree_child(answer->gossip, &ours, digit);
                bucket_sum(answer->gossip, &child);
                int r = draft_add_bucket(&answer->draft, &child, TREE_LIMIT);
                if (r != DRAFT_ADDED)
                        return r;
        }
        return DRAFT_ADDED;
}

static int answer_buckets(Answer *answer, Gpupool1__GossipBucket *const *buckets, size_t n) {
        size_t start = draw_start(answer, n);
        int r = DRAFT_ADDED;
        for (size_t i = 0; i < n && r == DRAFT_ADDED; i++)
                r = answer_bucket(answer, buckets[(start + i) % n]);
        return r < 0 ? r : 0;
}

/* ---- the reply */

static int write_wants(Answer *answer) {
        size_t n = answer->wants.n, start = draw_start(answer, n);
        int r = DRAFT_ADDED;
        for (size_t i = 0; i < n && r == DRAFT_ADDED; i++)
                r = draft_add_want(&answer->draft, answer->wants.items[(start + i) % n], WANTS_LIMIT);
        return r < 0 ? r : 0;
}

/* Some of each node in turn, the oldest first, until all is said or the message is full. */
static int write_deltas(Answer *answer) {
        size_t n = answer->deltas.n, start = draw_start(answer, n);
        ARRAY_EACH(delta, &answer->deltas)
                delta->next = known_first_beyond(delta->known, delta->since);
        for (bool more = n > 0; more;) {
                more = false;
                for (size_t i = 0; i < n; i++) {
                        DeltaDraft *delta = answer->deltas.items + (start + i) % n;
                        int r = draft_add_facts(&answer->draft, delta, QUANTUM);
                        if (r < 0)
                                return r;
                        more = more || !delta->ended;
                }
        }
        return 0;
}

static int take_message(Answer *answer, const Gpupool1__Gossip *message) {
        int r = 0;
        for (size_t i = 0; i < message->n_deltas && r >= 0; i++)
                r = take_delta(answer, message->deltas[i]);
        for (size_t i = 0; i < message->n_ranges && r >= 0; i++)
                r = answer_range(answer, message->ranges[i]);
        for (size_t i = 0; i < message->n_wants && r >= 0; i++)
                r = answer_want(answer, message->wants[i]);
        answer->visits = 0;
        if (r >= 0)
                r = answer_buckets(answer, message->buckets, message->n_buckets);
        if (r >= 0)
                r = write_wants(answer);
        return r < 0 ? r : write_deltas(answer);
}

int gossip_receive(Gossip *gossip, const NodeId *from, const Gpupool1__Gossip *message, GossipReply *ret) {
        if (ID_EQUAL(from, &gossip->self) || !gossip_find(gossip, from))
                return GOSSIP_STRANGER;
        if (!gossip_message_is_sound(message))
                return GOSSIP_GARBAGE;

        _cleanup_(answer_clear) Answer answer = { .gossip = gossip, .from = from, .receipt = ++gossip->receipts };
        int r = draft_new(&answer.draft);
        if (r >= 0)
                r = take_message(&answer, message);
        if (r < 0)
                return r;

        *ret = (GossipReply) {
                .message = draft_is_empty(&answer.draft) ? NULL : STEAL(answer.draft.message),
                .changed = STEAL(answer.changed.items),
                .n_changed = answer.changed.n,
                .renewed = answer.renewed,
        };
        return GOSSIP_TAKEN;
}

void gossip_reply_clear(GossipReply *reply) {
        gossip_message_free(reply->message);
        free(reply->changed);
        *reply = (GossipReply) {};
}

int gossip_begin(const Gossip *gossip, Gpupool1__Gossip **ret) {
        _cleanup_(draft_clear) Draft draft = {};
        int r = draft_new(&draft);
        if (r < 0)
                return r;
        Bucket all = tree_bucket(gossip, 0, NULL);
        bucket_sum(gossip, &all);
        r = draft_add_bucket(&draft, &all, GOSSIP_MESSAGE_MAX);
        if (r < 0)
                return r;
        *ret = STEAL(draft.message);
        return 0;
}
