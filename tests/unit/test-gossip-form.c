/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Messages that no peer in its senses sends: nothing of them is taken, and ones of good form cost little. */

#include <glib.h>

#include "core/gossip.h"
#include "gossip-exchange.h"
#include "util/array.h"

static const NodeId self = { { 0x01 } }, peer = { { 0x12 } };

/* A message of each part, of good form, to be spoilt in one place. */
typedef struct Sample {
        Gpupool1__Gossip message;
        Gpupool1__GossipBucket bucket, *buckets[1];
        Gpupool1__GossipRange range, *ranges[1];
        Gpupool1__GossipDigest digests[2], *digest_row[2];
        Gpupool1__GossipDelta delta, *deltas[1];
        Gpupool1__GossipEntry entries[2], *entry_row[2];
        Gpupool1__GossipDigest want, *wants[1];
        uint8_t prefix[ID_SIZE], range_prefix[ID_SIZE], nodes[4][ID_SIZE + 1];
        uint8_t value[GOSSIP_VALUE_MAX + 1];
        char keys[2][GOSSIP_KEY_MAX + 2];
} Sample;

static ProtobufCBinaryData bytes_of(uint8_t *data, size_t size) {
        return (ProtobufCBinaryData) { size, data };
}

static void make_delta(Sample *sample) {
        gpupool1__gossip_delta__init(&sample->delta);
        sample->delta.node = bytes_of(sample->nodes[2], ID_SIZE);
        sample->delta.generation = 1;
        sample->delta.version = 4;
        for (size_t i = 0; i < 2; i++) {
                gpupool1__gossip_entry__init(&sample->entries[i]);
                sample->keys[i][0] = (char) ('a' + i);
                sample->entries[i].key = sample->keys[i];
                sample->entries[i].version = 2 * i + 1;
                sample->entry_row[i] = &sample->entries[i];
        }
        sample->entries[0].value = bytes_of(sample->value, GOSSIP_VALUE_MAX);
        sample->entries[1].gone = true;
        sample->delta.entries = sample->entry_row;
        sample->delta.n_entries = 2;
        sample->deltas[0] = &sample->delta;
}

static Sample *make_sample(void) {
        Sample *sample = g_new0(Sample, 1);
        gpupool1__gossip__init(&sample->message);
        gpupool1__gossip_bucket__init(&sample->bucket);
        gpupool1__gossip_range__init(&sample->range);
        gpupool1__gossip_digest__init(&sample->want);
        sample->prefix[0] = sample->range_prefix[0] = 0x10;
        sample->bucket.bits = sample->range.bits = 4;
        sample->bucket.prefix = bytes_of(sample->prefix, 1);
        sample->range.prefix = bytes_of(sample->range_prefix, 1);
        for (size_t i = 0; i < 4; i++)
                sample->nodes[i][0] = (uint8_t) (0x10 + i);
        for (size_t i = 0; i < 2; i++) {
                gpupool1__gossip_digest__init(&sample->digests[i]);
                sample->digests[i].node = bytes_of(sample->nodes[i], ID_SIZE);
                sample->digests[i].generation = 1;
                sample->digest_row[i] = &sample->digests[i];
        }
        sample->range.digests = sample->digest_row;
        sample->range.n_digests = 2;
        sample->want.node = bytes_of(sample->nodes[3], ID_SIZE);
        make_delta(sample);
        sample->buckets[0] = &sample->bucket;
        sample->ranges[0] = &sample->range;
        sample->wants[0] = &sample->want;
        sample->message.buckets = sample->buckets;
        sample->message.ranges = sample->ranges;
        sample->message.deltas = sample->deltas;
        sample->message.wants = sample->wants;
        sample->message.n_buckets = sample->message.n_ranges = sample->message.n_deltas = sample->message.n_wants = 1;
        return sample;
}

/* Spoils one thing; false: there is none of this number. */
static bool spoil(Sample *s, unsigned which) {
        switch (which) {
        case 0: s->bucket.bits = 3; return true;
        case 1: s->bucket.bits = 132; s->bucket.prefix.len = 17; return true;
        case 2: s->bucket.prefix.len = 0; return true;
        case 3: s->bucket.prefix.len = 2; return true;
        case 4: s->prefix[0] = 0x11; return true;
        case 5: s->range.bits = 8; s->range_prefix[0] = 0x10; return true;      /* its nodes do not begin so */
        case 6: s->range.bits = 5; return true;
        case 7: s->range_prefix[0] = 0x18; return true;
        case 8: s->digests[0].node.len = 15; return true;
        case 9: s->digests[0].node.len = 17; return true;
        case 10: s->digests[0].generation = 0; return true;
        case 11: s->digests[1].generation = GOSSIP_GENERATION_MAX + 1; return true;
        case 12: s->nodes[0][0] = 0x11; return true;                            /* twice */
        case 13: s->nodes[0][0] = 0x1f; return true;                            /* in no order */
        case 14: s->nodes[1][0] = 0x21; return true;                            /* outside */
        case 15: s->delta.node.len = 0; return true;
        case 16: s->delta.generation = 0; return true;
        case 17: s->delta.generation = GOSSIP_GENERATION_MAX + 1; return true;
        case 18: s->delta.since = 5; return true;
        case 19: s->delta.since = 1; return true;                               /* an entry is not beyond it */
        case 20: s->delta.version = 2; return true;                             /* an entry is beyond it */
        case 21: s->entries[1].version = 1; return true;
        case 22: s->entries[0].version = 4; return true;
        case 23: s->keys[0][0] = '\0'; return true;
        case 24: s->keys[0][0] = '\n'; return true;
        case 25: memset(s->keys[0], 'k', GOSSIP_KEY_MAX + 1); return true;
        case 26: s->entries[0].value.len = GOSSIP_VALUE_MAX + 1; return true;
        case 27: s->entries[1].value = bytes_of(s->value, 1); return true;      /* gone, with a value */
        case 28: s->want.node.len = 15; return true;
        case 29: s->want.version = 1; return true;                              /* of no generation */
        case 30: s->want.generation = GOSSIP_GENERATION_MAX + 1; return true;
        default: return false;
        }
}

static Gossip *gossip_of_two(void) {
        Gossip *gossip = NULL;
        g_assert_cmpint(gossip_new(&gossip, &self, 1), ==, 0);
        g_assert_cmpint(gossip_set_members(gossip, &peer, 1), ==, 0);
        return gossip;
}

static int receive(Gossip *gossip, const Gpupool1__Gossip *message) {
        GossipReply reply = {};
        int r = gossip_receive(gossip, &peer, message, &reply);
        gossip_reply_clear(&reply);
        return r;
}

static void test_a_message_of_good_form_is_taken(void) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_of_two();
        g_autofree Sample *sample = make_sample();
        g_assert_cmpint(receive(gossip, &sample->message), ==, GOSSIP_TAKEN);
        g_assert_cmpuint(gossip_version(gossip, &peer), ==, 4);
        g_assert_cmpuint(gossip_size(gossip), ==, GOSSIP_VALUE_MAX + 2);
}

static void test_one_fault_anywhere_and_nothing_is_taken(void) {
        unsigned n = 0;
        for (bool more = true; more; n++) {
                _cleanup_(gossip_freep) Gossip *gossip = gossip_of_two();
                g_autofree Sample *sample = make_sample();
                more = spoil(sample, n);
                g_test_message("fault %u", n);
                g_assert_cmpint(receive(gossip, &sample->message), ==, more ? GOSSIP_GARBAGE : GOSSIP_TAKEN);
                g_assert_cmpuint(gossip_generation(gossip, &peer), ==, more ? 0 : 1);
        }
        g_assert_cmpuint(n, ==, 32);
}

static void test_a_message_over_the_limit_is_not_taken(void) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_of_two();
        g_autofree Sample *sample = make_sample();
        Gpupool1__GossipDelta *deltas[4];
        for (size_t i = 0; i < 4; i++)
                deltas[i] = &sample->delta;
        sample->message.deltas = deltas;
        sample->message.n_deltas = 3;
        g_assert_cmpint(receive(gossip, &sample->message), ==, GOSSIP_TAKEN);
        sample->message.n_deltas = 4;
        g_assert_cmpint(receive(gossip, &sample->message), ==, GOSSIP_GARBAGE);
}

/* Knows @n of 1000 members, itself among them. */
static Gossip *gossip_that_knows(unsigned n) {
        Gossip *gossip = NULL;
        g_assert_cmpint(gossip_new(&gossip, &self, 1), ==, 0);
        g_autofree NodeId *nodes = g_new0(NodeId, 1000);
        for (unsigned i = 0; i < 1000; i++)
                nodes[i] = (NodeId) { { (uint8_t) i, (uint8_t) (i >> 8), 1 } };
        nodes[0] = peer;
        g_assert_cmpint(gossip_set_members(gossip, nodes, 1000), ==, 0);
        for (unsigned i = 1; i < n; i++) {
                Gpupool1__GossipDelta delta = GPUPOOL1__GOSSIP_DELTA__INIT, *deltas[] = { &delta };
                Gpupool1__Gossip message = GPUPOOL1__GOSSIP__INIT;
                delta.node = bytes_of(nodes[i].bytes, ID_SIZE);
                delta.generation = 1;
                message.deltas = deltas;
                message.n_deltas = 1;
                g_assert_cmpint(receive(gossip, &message), ==, GOSSIP_TAKEN);
        }
        return gossip;
}

/* What is answered to a bucket of all with another hash. */
static GossipReply answer_to_root(Gossip *gossip, uint32_t nodes) {
        Gpupool1__GossipBucket bucket = GPUPOOL1__GOSSIP_BUCKET__INIT, *buckets[] = { &bucket };
        Gpupool1__Gossip message = GPUPOOL1__GOSSIP__INIT;
        GossipReply reply = {};
        bucket.nodes = nodes;
        message.buckets = buckets;
        message.n_buckets = 1;
        g_assert_cmpint(gossip_receive(gossip, &peer, &message, &reply), ==, GOSSIP_TAKEN);
        return reply;
}

static void test_digests_are_told_where_both_have_few_nodes(void) {
        _cleanup_(gossip_freep) Gossip *few = gossip_that_knows(GOSSIP_RANGE_NODES);
        _cleanup_(gossip_freep) Gossip *many = gossip_that_knows(GOSSIP_RANGE_NODES + 1);
        GossipReply reply = answer_to_root(few, GOSSIP_RANGE_NODES);
        g_assert_cmpuint(reply.message->n_ranges, ==, 1);
        g_assert_cmpuint(reply.message->ranges[0]->n_digests, ==, GOSSIP_RANGE_NODES);
        gossip_reply_clear(&reply);
        reply = answer_to_root(few, GOSSIP_RANGE_NODES + 1);
        g_assert_cmpuint(reply.message->n_buckets, ==, 16);
        gossip_reply_clear(&reply);
        reply = answer_to_root(many, 0);
        g_assert_cmpuint(reply.message->n_buckets, ==, 16);
        /* Members of whom nothing is known are not in it. */
        uint32_t sum = 0;
        for (size_t i = 0; i < 16; i++)
                sum += reply.message->buckets[i]->nodes;
        g_assert_cmpuint(sum, ==, GOSSIP_RANGE_NODES + 1);
        gossip_reply_clear(&reply);
}

static void test_ranges_over_one_another_are_not_looked_at(void) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_that_knows(1);
        Gpupool1__GossipDigest digest = GPUPOOL1__GOSSIP_DIGEST__INIT, *digests[] = { &digest };
        Gpupool1__GossipRange empty = GPUPOOL1__GOSSIP_RANGE__INIT, full = empty, *ranges[] = { &full, &empty };
        Gpupool1__Gossip message = GPUPOOL1__GOSSIP__INIT;
        digest.node = bytes_of((uint8_t *) peer.bytes, ID_SIZE);
        digest.generation = 1;
        full.digests = digests;
        full.n_digests = 1;
        message.ranges = ranges;
        message.n_ranges = 2;
        GossipReply reply = {};
        g_assert_cmpint(gossip_receive(gossip, &peer, &message, &reply), ==, GOSSIP_TAKEN);
        g_assert_cmpuint(reply.message->n_wants, ==, 1);
        gossip_reply_clear(&reply);
        ranges[0] = &empty;
        ranges[1] = &full;
        g_assert_cmpint(gossip_receive(gossip, &peer, &message, &reply), ==, GOSSIP_TAKEN);
        g_assert_cmpuint(reply.message->n_wants, ==, 0);
        gossip_reply_clear(&reply);

        /* A bucket beside them is another matter. */
        Gpupool1__GossipBucket bucket = GPUPOOL1__GOSSIP_BUCKET__INIT, *buckets[] = { &bucket };
        message.buckets = buckets;
        message.n_buckets = 1;
        g_assert_cmpint(gossip_receive(gossip, &peer, &message, &reply), ==, GOSSIP_TAKEN);
        g_assert_cmpuint(reply.message->n_ranges, ==, 1);
        gossip_reply_clear(&reply);
}

/* The same part as often as fits into a message, to a node that knows many. */
static void test_the_same_question_many_times_is_answered_once(void) {
        _cleanup_(gossip_freep) Gossip *gossip = gossip_that_knows(1);
        static uint8_t value[2000];
        g_assert_cmpint(gossip_set(gossip, "host", value, sizeof(value)), ==, GOSSIP_SET_CHANGED);

        Gpupool1__GossipRange range = GPUPOOL1__GOSSIP_RANGE__INIT, *ranges[10000];
        Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[1000];
        Gpupool1__Gossip message = GPUPOOL1__GOSSIP__INIT;
        want.node = bytes_of((uint8_t *) self.bytes, ID_SIZE);
        for (size_t i = 0; i < ELEMENTS(ranges); i++)
                ranges[i] = &range;
        for (size_t i = 0; i < ELEMENTS(wants); i++)
                wants[i] = &want;
        message.ranges = ranges;
        message.n_ranges = ELEMENTS(ranges);
        message.wants = wants;
        message.n_wants = ELEMENTS(wants);
        GossipReply reply = {};
        gint64 begun = g_get_monotonic_time();
        g_assert_cmpint(gossip_receive(gossip, &peer, &message, &reply), ==, GOSSIP_TAKEN);
        g_test_message("%d us", (int) (g_get_monotonic_time() - begun));
        g_assert_cmpuint(reply.message->n_deltas, ==, 1);
        g_assert_cmpuint(gpupool1__gossip__get_packed_size(reply.message), <, 2100);
        gossip_reply_clear(&reply);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/gossip/form/" #name, test_##name)
        TEST(a_message_of_good_form_is_taken);
        TEST(one_fault_anywhere_and_nothing_is_taken);
        TEST(a_message_over_the_limit_is_not_taken);
        TEST(digests_are_told_where_both_have_few_nodes);
        TEST(ranges_over_one_another_are_not_looked_at);
        TEST(the_same_question_many_times_is_answered_once);
        return g_test_run();
}
