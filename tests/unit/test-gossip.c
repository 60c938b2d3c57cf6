/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <stdio.h>

#include "core/gossip.h"
#include "gossip-exchange.h"
#include "util/array.h"

#define NODES_MANY 1000U
#define NODES_MOST 4096U

/* Ids as they are drawn: spread. */
static NodeId node_id(unsigned number) {
        NodeId id = {};
        uint64_t word = number + 1;
        for (size_t i = 0; i < ID_SIZE; i++) {
                word = (word ^ word >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
                id.bytes[i] = (uint8_t) (word >> 56);
        }
        return id;
}

static Gossip *new_gossip(unsigned number, uint64_t generation) {
        Gossip *gossip = NULL;
        NodeId id = node_id(number);
        g_assert_cmpint(gossip_new(&gossip, &id, generation), ==, 0);
        return gossip;
}

static void set_members(Gossip *gossip, unsigned n) {
        g_autofree NodeId *nodes = g_new(NodeId, n);
        for (unsigned i = 0; i < n; i++)
                nodes[i] = node_id(i);
        g_assert_cmpint(gossip_set_members(gossip, nodes, n), ==, 0);
}

/* The node of this number in a cluster of so many. */
static Gossip *gossip_in(unsigned n, unsigned number) {
        Gossip *gossip = new_gossip(number, 1);
        set_members(gossip, n);
        return gossip;
}

static void set_text(Gossip *gossip, const char *key, const char *text) {
        g_assert_cmpint(gossip_set(gossip, key, text, strlen(text) + 1), ==, GOSSIP_SET_CHANGED);
}

static const char *text_of(const Gossip *gossip, unsigned node, const char *key) {
        NodeId id = node_id(node);
        return gossip_get(gossip, &id, key, NULL);
}

static uint64_t version_of(const Gossip *gossip, unsigned node) {
        NodeId id = node_id(node);
        return gossip_version(gossip, &id);
}

static uint64_t generation_of(const Gossip *gossip, unsigned node) {
        NodeId id = node_id(node);
        return gossip_generation(gossip, &id);
}

/* All that a node has to say of itself, to one that knows nothing of it. */
static Gpupool1__Gossip *say_all(const NodeId *to, Gossip *from) {
        Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[] = { &want };
        Gpupool1__Gossip ask = GPUPOOL1__GOSSIP__INIT;
        want.node = (ProtobufCBinaryData) { ID_SIZE, (uint8_t *) gossip_self(from)->bytes };
        ask.wants = wants;
        ask.n_wants = 1;
        GossipReply reply = {};
        g_assert_cmpint(gossip_receive(from, to, &ask, &reply), ==, GOSSIP_TAKEN);
        g_assert_cmpuint(reply.message->n_deltas, ==, 1);
        Gpupool1__Gossip *message = STEAL(reply.message);
        gossip_reply_clear(&reply);
        return message;
}

static GossipReply tell(Gossip *gossip, unsigned from, const Gpupool1__Gossip *message) {
        NodeId id = node_id(from);
        GossipReply reply = {};
        g_assert_cmpint(gossip_receive(gossip, &id, message, &reply), ==, GOSSIP_TAKEN);
        return reply;
}

static void tell_only(Gossip *gossip, unsigned from, const Gpupool1__Gossip *message) {
        GossipReply reply = tell(gossip, from, message);
        gossip_reply_clear(&reply);
}

/* The facts of another node come to @gossip. */
static void learn_of(Gossip *gossip, unsigned node, const char *text) {
        _cleanup_(gossip_freep) Gossip *other = new_gossip(node, 1);
        g_assert_cmpint(gossip_set_members(other, gossip_self(gossip), 1), ==, 0);
        set_text(other, "host", text);
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = say_all(gossip_self(gossip), other);
        tell_only(gossip, node, message);
}

/* ---- what it is for */

static void test_a_fact_is_known_on_the_other_side_after_one_exchange(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        set_text(a, "host", "a");
        set_text(b, "host", "b");
        exchange(a, b);
        g_assert_cmpstr(text_of(a, 1, "host"), ==, "b");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "a");
}

static void test_what_a_third_one_says_is_handed_on(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1), *c = gossip_in(3, 2);
        set_text(a, "host", "a");
        exchange(a, b);
        exchange(c, b);
        g_assert_cmpstr(text_of(c, 0, "host"), ==, "a");
}

static void test_a_change_carries_nothing_but_itself(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        g_autofree char *large = g_strnfill(8000, 'x');
        set_text(a, "host", large);
        set_text(a, "load", "1");
        exchange(a, b);
        set_text(a, "load", "2");
        Exchange second = exchange(a, b);
        g_assert_cmpstr(text_of(b, 0, "load"), ==, "2");
        g_assert_cmpuint(second.bytes, <, 400);
}

static void test_the_same_value_is_no_change(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(1, 0);
        set_text(a, "host", "a");
        g_assert_cmpint(gossip_set(a, "host", "a", 2), ==, GOSSIP_SET_SAME);
        g_assert_cmpint(gossip_remove(a, "load"), ==, GOSSIP_SET_SAME);
        g_assert_cmpuint(version_of(a, 0), ==, 1);
        g_assert_cmpint(gossip_set(a, "host", "a", 1), ==, GOSSIP_SET_CHANGED);
}

static void test_a_removed_fact_is_gone_everywhere_and_may_come_back(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        set_text(a, "host", "a");
        exchange(a, b);
        g_assert_cmpint(gossip_remove(a, "host"), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_remove(a, "host"), ==, GOSSIP_SET_SAME);
        exchange(b, a);
        GossipFact fact;
        NodeId id = node_id(0);
        g_assert_null(text_of(b, 0, "host"));
        g_assert_false(gossip_next(b, &id, NULL, &fact));
        set_text(a, "host", "again");
        exchange(a, b);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "again");
}

static void test_an_empty_value_is_a_value(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        g_assert_cmpint(gossip_set(a, "flag", NULL, 0), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_set(a, "flag", NULL, 0), ==, GOSSIP_SET_SAME);
        exchange(a, b);
        NodeId id = node_id(0);
        size_t size = 1;
        g_assert_nonnull(gossip_get(b, &id, "flag", &size));
        g_assert_cmpuint(size, ==, 0);
}

static void test_keys_are_walked_in_order_from_any_prefix(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(1, 0);
        static const char *const keys[] = { "vm/1", "gpu/2", "host", "gpu/1" };
        for (size_t i = 0; i < ELEMENTS(keys); i++)
                set_text(a, keys[i], "x");
        g_autoptr(GString) all = g_string_new(NULL);
        GossipFact fact = {};
        while (gossip_next(a, gossip_self(a), fact.key, &fact))
                g_string_append_printf(all, "%s ", fact.key);
        g_assert_cmpstr(all->str, ==, "gpu/1 gpu/2 host vm/1 ");
        g_assert_true(gossip_next(a, gossip_self(a), "gpu/", &fact));
        g_assert_cmpstr(fact.key, ==, "gpu/1");
        g_assert_true(gossip_next(a, gossip_self(a), "gpu/1x", &fact));
        g_assert_cmpstr(fact.key, ==, "gpu/2");
        g_assert_false(gossip_next(a, gossip_self(a), "vm/1", &fact));
}

static void test_who_changed_is_told(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1);
        set_text(a, "host", "a");
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = say_all(gossip_self(b), a);
        GossipReply reply = tell(b, 0, message);
        NodeId id = node_id(0);
        g_assert_cmpuint(reply.n_changed, ==, 1);
        g_assert_true(ID_EQUAL(reply.changed, &id));
        gossip_reply_clear(&reply);
        reply = tell(b, 0, message);
        g_assert_cmpuint(reply.n_changed, ==, 0);
        gossip_reply_clear(&reply);
}

/* ---- the cost and the end of an exchange */

/* Two that know everything of a whole cluster; node 0 and node 1. */
static void make_pair(unsigned n, Gossip **ret_a, Gossip **ret_b) {
        Gossip *a = gossip_in(n, 0), *b = gossip_in(n, 1);
        for (unsigned i = 2; i < n; i++)
                learn_of(a, i, "x");
        /* Large clusters take several messages. */
        while (exchange(a, b).messages > 1)
                continue;
        *ret_a = a;
        *ret_b = b;
}

static void test_who_agrees_says_tens_of_bytes_however_many_there_are(void) {
        static const unsigned sizes[] = { 2, 10, NODES_MANY };
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                _cleanup_(gossip_freep) Gossip *a = NULL, *b = NULL;
                make_pair(sizes[i], &a, &b);
                Exchange quiet = exchange(a, b);
                g_assert_cmpuint(quiet.messages, ==, 1);
                g_assert_cmpuint(quiet.bytes, <=, 20);
        }
}

static void test_one_new_fact_among_a_thousand_nodes_takes_six_messages(void) {
        _cleanup_(gossip_freep) Gossip *a = NULL, *b = NULL;
        make_pair(NODES_MANY, &a, &b);
        set_text(a, "load", "1");
        Exchange one = exchange(a, b);
        g_assert_cmpstr(text_of(b, 0, "load"), ==, "1");
        g_assert_cmpuint(one.messages, <=, 6);
        g_assert_cmpuint(one.bytes, <, 1500);
}

/* Ids that are alike but for the last digits: the deepest tree there is. */
static Gossip *alike(unsigned number, const NodeId nodes[256]) {
        Gossip *gossip = NULL;
        g_assert_cmpint(gossip_new(&gossip, &nodes[number], 1), ==, 0);
        g_assert_cmpint(gossip_set_members(gossip, nodes, 256), ==, 0);
        set_text(gossip, "host", "x");
        return gossip;
}

static void test_the_deepest_tree_ends_within_the_limit_of_messages(void) {
        NodeId nodes[256] = {};
        for (unsigned i = 0; i < 256; i++)
                nodes[i].bytes[ID_SIZE - 1] = (uint8_t) i;
        _cleanup_(gossip_freep) Gossip *a = alike(0, nodes), *b = alike(1, nodes);
        for (unsigned i = 2; i < 256; i++) {
                _cleanup_(gossip_freep) Gossip *other = alike(i, nodes);
                exchange(other, i % 2 ? a : b);
        }
        Exchange done = exchange(a, b);
        g_test_message("%u messages", done.messages);
        g_assert_cmpuint(done.messages, >=, 30);
        while (exchange(a, b).messages > 1)
                continue;
        g_assert_cmpuint(gossip_size(a), ==, gossip_size(b));
        g_assert_cmpuint(gossip_size(a), ==, 256U * 6U);
}

static void test_a_newcomer_learns_a_thousand_nodes_in_messages_within_the_limit(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(NODES_MANY, 0), *newcomer = gossip_in(NODES_MANY, 1);
        g_autofree char *facts = g_strnfill(600, 'x');
        for (unsigned i = 2; i < NODES_MANY; i++)
                learn_of(a, i, facts);
        unsigned n = 0;
        for (Exchange done; (done = exchange(newcomer, a)).messages > 1; n++)
                g_assert_cmpuint(done.changes, >, 0);
        g_test_message("%u exchanges", n);
        g_assert_cmpuint(gossip_size(newcomer), ==, gossip_size(a));
        /* At the rate of full messages, not of some. */
        g_assert_cmpuint(n, <=, gossip_size(a) / (GOSSIP_MESSAGE_MAX / 2) + 2);
}

static void test_a_node_with_very_much_to_say_starves_nobody(void) {
        _cleanup_(gossip_freep) Gossip *loud = gossip_in(20, 0), *b = gossip_in(20, 1), *c = gossip_in(20, 2);
        g_autofree char *much = g_strnfill(900, 'x');
        for (unsigned i = 0; i < GOSSIP_KEYS_MAX; i++) {
                g_autofree char *key = g_strdup_printf("key/%u", i);
                set_text(loud, key, much);
        }
        while (exchange(loud, b).messages > 1)
                continue;
        for (unsigned i = 3; i < 20; i++)
                learn_of(b, i, "quiet");
        /* Wherever the message begins. */
        for (unsigned times = 0; times < 20; times++) {
                gossip_free(c);
                c = gossip_in(20, 2);
                exchange(b, c);
                for (unsigned i = 3; i < 20; i++)
                        g_assert_cmpstr(text_of(c, i, "host"), ==, "quiet");
                g_assert_cmpuint(version_of(c, 0), >=, 2);
        }
        while (exchange(b, c).messages > 1)
                continue;
        g_assert_cmpuint(version_of(c, 0), ==, GOSSIP_KEYS_MAX);
}

static void test_many_that_never_stop_changing_do_not_keep_each_other_out(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(14, 12), *c = gossip_in(14, 13);
        g_autofree char *large = g_strnfill(GOSSIP_VALUE_MAX - 1, 'x');
        Gossip *loud[12];
        for (unsigned i = 0; i < 12; i++)
                loud[i] = gossip_in(14, i);
        for (unsigned round = 0; round < 40; round++) {
                for (unsigned i = 0; i < 12; i++) {
                        large[0] = (char) ('A' + round);
                        set_text(loud[i], "load", large);
                        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = say_all(gossip_self(b), loud[i]);
                        tell_only(b, i, message);
                }
                /* Three fit into a message. */
                exchange(b, c);
        }
        for (unsigned i = 0; i < 12; i++) {
                g_assert_cmpuint(version_of(c, i), >, 20);
                gossip_free(loud[i]);
        }
}

static void test_what_does_not_fit_of_the_tree_comes_the_next_time(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(NODES_MOST, 0), *newcomer = gossip_in(NODES_MOST, 1);
        for (unsigned i = 2; i < NODES_MOST; i++)
                learn_of(a, i, "x");
        unsigned n = 0;
        while (exchange(newcomer, a).messages > 1)
                g_assert_cmpuint(n++, <, 20);
        g_assert_cmpuint(gossip_size(newcomer), ==, gossip_size(a));
}

static void test_the_hash_is_the_same_on_every_platform(void) {
        Gossip *gossip = NULL;
        NodeId id;
        for (uint8_t i = 0; i < ID_SIZE; i++)
                id.bytes[i] = i;
        g_assert_cmpint(gossip_new(&gossip, &id, 7), ==, 0);
        set_text(gossip, "a", "1");
        set_text(gossip, "a", "2");
        Gpupool1__Gossip *root = NULL;
        g_assert_cmpint(gossip_begin(gossip, &root), ==, 0);
        /* Computed apart, by what gossip.h says. */
        g_assert_cmphex(root->buckets[0]->hash, ==, UINT64_C(0x0ee8684b1a9d05be));
        g_assert_cmpuint(root->buckets[0]->nodes, ==, 1);
        gossip_message_free(root);
        gossip_free(gossip);
}

/* ---- limits */

static void test_keys_and_values_are_taken_up_to_their_limits(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(1, 0);
        g_autofree char *key = g_strnfill(GOSSIP_KEY_MAX, 'k'), *long_key = g_strnfill(GOSSIP_KEY_MAX + 1, 'k');
        g_autofree char *value = g_malloc0(GOSSIP_VALUE_MAX + 1);
        g_assert_cmpint(gossip_set(a, key, value, GOSSIP_VALUE_MAX), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_set(a, key, value, GOSSIP_VALUE_MAX + 1), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpint(gossip_set(a, long_key, value, 1), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpint(gossip_set(a, "", value, 1), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpint(gossip_set(a, "a b", value, 1), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpint(gossip_set(a, "\xc3\xa4", value, 1), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpuint(gossip_size(a), ==, GOSSIP_KEY_MAX + GOSSIP_VALUE_MAX);
}

static void test_a_node_has_a_thousand_keys_at_most(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        for (unsigned i = 0; i < GOSSIP_KEYS_MAX; i++) {
                g_autofree char *key = g_strdup_printf("key/%u", i);
                set_text(a, key, "x");
        }
        g_assert_cmpint(gossip_set(a, "more", "x", 1), ==, GOSSIP_SET_REFUSED);
        set_text(a, "key/7", "another value of one that is there");
        g_assert_cmpint(gossip_remove(a, "key/8"), ==, GOSSIP_SET_CHANGED);
        set_text(a, "more", "x");
        g_assert_cmpint(gossip_set(a, "key/8", "x", 1), ==, GOSSIP_SET_REFUSED);
        while (exchange(a, b).messages > 1)
                continue;
        g_assert_cmpuint(version_of(b, 0), ==, version_of(a, 0));
}

/* Fills a node to the last byte. */
static void fill(Gossip *gossip) {
        g_autofree char *value = g_malloc0(GOSSIP_VALUE_MAX);
        for (unsigned i = 0; i < 64; i++) {
                char key[8];
                (void) snprintf(key, sizeof(key), "k/%02u", i);
                g_assert_cmpint(gossip_set(gossip, key, value, GOSSIP_VALUE_MAX - 4), ==, GOSSIP_SET_CHANGED);
        }
}

static void test_a_node_has_a_megabyte_at_most(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        fill(a);
        g_assert_cmpuint(gossip_size(a), ==, GOSSIP_NODE_SIZE_MAX);
        g_assert_cmpint(gossip_set(a, "k", NULL, 0), ==, GOSSIP_SET_REFUSED);
        g_assert_cmpint(gossip_set(a, "k/00", "x", 1), ==, GOSSIP_SET_CHANGED);
        g_assert_cmpint(gossip_set(a, "k", NULL, 0), ==, GOSSIP_SET_CHANGED);
        while (exchange(a, b).messages > 1)
                continue;
        g_assert_cmpuint(gossip_node_size(b, gossip_self(a)), ==, gossip_size(a));
}

static void test_a_full_node_that_changes_everything_is_followed(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        fill(a);
        while (exchange(a, b).messages > 1)
                continue;
        /* New ones come in between the old ones' end. */
        g_autofree char *value = g_malloc0(GOSSIP_VALUE_MAX);
        for (unsigned i = 0; i < 64; i++) {
                char key[8];
                (void) snprintf(key, sizeof(key), "k/%02u", i);
                g_assert_cmpint(gossip_remove(a, key), ==, GOSSIP_SET_CHANGED);
                (void) snprintf(key, sizeof(key), "n/%02u", i);
                g_assert_cmpint(gossip_set(a, key, value, GOSSIP_VALUE_MAX - 8), ==, GOSSIP_SET_CHANGED);
        }
        while (exchange(a, b).messages > 1)
                continue;
        g_assert_cmpuint(gossip_node_size(b, gossip_self(a)), ==, gossip_size(a));
}

/* Versions 1 to @n of node 0, one a message, each a key of its own. */
static void tell_keys(Gossip *gossip, unsigned n, size_t size) {
        NodeId id = node_id(0);
        g_autofree uint8_t *value = g_malloc0(size + 1);
        for (unsigned version = 1; version <= n; version++) {
                char key[16];
                (void) snprintf(key, sizeof(key), "k/%06u", version);
                Gpupool1__GossipEntry entry = GPUPOOL1__GOSSIP_ENTRY__INIT, *entries[] = { &entry };
                Gpupool1__GossipDelta delta = GPUPOOL1__GOSSIP_DELTA__INIT, *deltas[] = { &delta };
                Gpupool1__Gossip message = GPUPOOL1__GOSSIP__INIT;
                entry.key = key;
                entry.version = version;
                entry.value = (ProtobufCBinaryData) { size, value };
                delta.node = (ProtobufCBinaryData) { ID_SIZE, id.bytes };
                delta.generation = 1;
                delta.since = version - 1;
                delta.version = version;
                delta.entries = entries;
                delta.n_entries = 1;
                message.deltas = deltas;
                message.n_deltas = 1;
                tell_only(gossip, 0, &message);
        }
}

static void test_more_than_a_node_may_have_is_not_held(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(2, 1), *c = gossip_in(2, 1);
        tell_keys(b, GOSSIP_KEYS_MAX + GOSSIP_TOMBSTONES_MAX + 10, 1);
        g_assert_cmpuint(version_of(b, 0), ==, GOSSIP_KEYS_MAX + GOSSIP_TOMBSTONES_MAX);
        /* Of 16 KiB each with its key. */
        tell_keys(c, 200, GOSSIP_VALUE_MAX - 8);
        g_assert_cmpuint(gossip_size(c), ==, GOSSIP_NODE_HELD_MAX);
        g_assert_cmpuint(version_of(c, 0), ==, 128);
}

/* ---- generations */

static void test_tombstones_are_dropped_by_a_new_generation(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        set_text(a, "host", "a");
        for (unsigned i = 0; i <= GOSSIP_TOMBSTONES_MAX; i++) {
                char key[16];
                (void) snprintf(key, sizeof(key), "vm/%u", i);
                g_assert_cmpuint(generation_of(a, 0), ==, 1);
                set_text(a, key, "x");
                exchange(a, b);
                g_assert_cmpint(gossip_remove(a, key), ==, GOSSIP_SET_CHANGED);
        }
        g_assert_cmpuint(generation_of(a, 0), ==, 2);
        g_assert_cmpuint(version_of(a, 0), ==, 1);
        g_assert_cmpuint(gossip_size(a), ==, 6);
        exchange(a, b);
        g_assert_cmpuint(gossip_size(b), ==, 6);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "a");
}

static void test_a_fact_that_comes_and_goes_is_one_tombstone(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0);
        for (unsigned i = 0; i < 3 * GOSSIP_TOMBSTONES_MAX; i++) {
                set_text(a, "silent", "x");
                g_assert_cmpint(gossip_remove(a, "silent"), ==, GOSSIP_SET_CHANGED);
        }
        g_assert_cmpuint(generation_of(a, 0), ==, 1);
}

static void test_a_restarted_node_replaces_all_that_it_said(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        set_text(a, "host", "old");
        set_text(a, "gpu/1", "old");
        exchange(a, b);
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *late = say_all(gossip_self(b), a);
        gossip_free(a);
        a = new_gossip(0, 2);
        set_members(a, 2);
        exchange(a, b);
        g_assert_cmpuint(generation_of(b, 0), ==, 2);
        g_assert_null(text_of(b, 0, "host"));
        set_text(a, "host", "new");
        exchange(a, b);
        tell_only(b, 0, late);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "new");
        g_assert_null(text_of(b, 0, "gpu/1"));
}

static void test_a_node_that_came_back_from_a_backup_outdoes_what_is_known_of_it(void) {
        _cleanup_(gossip_freep) Gossip *a = new_gossip(0, 7), *b = gossip_in(2, 1), *restored = new_gossip(0, 5);
        set_members(a, 2);
        set_members(restored, 2);
        set_text(a, "host", "lost");
        exchange(a, b);
        set_text(restored, "host", "restored");
        g_assert_true(exchange(b, restored).renewed);
        g_assert_cmpuint(generation_of(restored, 0), >, 7);
        g_assert_cmpstr(text_of(restored, 0, "host"), ==, "restored");
        exchange(restored, b);
        g_assert_cmpuint(generation_of(b, 0), ==, generation_of(restored, 0));
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "restored");
}

static void test_a_node_that_lost_count_in_its_generation_outdoes_it(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1), *again = gossip_in(2, 0);
        set_text(a, "host", "a");
        set_text(a, "load", "1");
        exchange(a, b);
        set_text(again, "host", "again");
        g_assert_true(exchange(again, b).renewed);
        exchange(again, b);
        g_assert_cmpuint(generation_of(b, 0), >, 1);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "again");
        g_assert_null(text_of(b, 0, "load"));
}

static void test_a_past_that_is_outdone_in_part_is_not_taken_for_the_present(void) {
        /* c knows the last state; b one before it. The node comes back from a backup and meets b first. */
        _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1), *c = gossip_in(3, 2), *restored = gossip_in(3, 0);
        for (uint64_t generation = 2; generation <= 3; generation++) {
                _cleanup_(gossip_freep) Gossip *a = new_gossip(0, generation);
                set_members(a, 3);
                set_text(a, "host", generation == 2 ? "old" : "last");
                exchange(a, generation == 2 ? b : c);
        }
        set_text(restored, "host", "restored");
        g_assert_true(exchange(restored, b).renewed);
        exchange(restored, c);
        exchange(restored, c);
        g_assert_cmpstr(text_of(c, 0, "host"), ==, "restored");
}

static void test_what_others_say_of_us_is_not_taken_but_outdone(void) {
        _cleanup_(gossip_freep) Gossip *other = new_gossip(0, 9), *a = gossip_in(2, 0);
        set_members(other, 2);
        set_text(other, "host", "forged");
        set_text(a, "host", "mine");
        NodeId by = node_id(1);
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = say_all(&by, other);
        GossipReply reply = tell(a, 1, message);
        g_assert_true(reply.renewed);
        g_assert_cmpuint(reply.n_changed, ==, 0);
        g_assert_cmpstr(text_of(a, 0, "host"), ==, "mine");
        g_assert_cmpuint(generation_of(a, 0), >, 9);
        gossip_reply_clear(&reply);
}

static void test_generations_have_room_above(void) {
        Gossip *none = NULL;
        NodeId id = node_id(0);
        g_assert_cmpint(gossip_new(&none, &id, 0), ==, -EINVAL);
        g_assert_cmpint(gossip_new(&none, &id, GOSSIP_GENERATION_MAX + 1), ==, -EINVAL);
        _cleanup_(gossip_freep) Gossip *top = new_gossip(0, GOSSIP_GENERATION_MAX), *b = gossip_in(2, 1);
        set_members(top, 2);
        set_text(top, "host", "x");
        exchange(top, b);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "x");
        /* Just above it there is room for one. */
        _cleanup_(gossip_freep) Gossip *below = new_gossip(0, GOSSIP_GENERATION_MAX - 1), *d = gossip_in(2, 1);
        _cleanup_(gossip_freep) Gossip *first = new_gossip(0, GOSSIP_GENERATION_MAX - 2);
        set_members(below, 2);
        set_members(first, 2);
        set_text(first, "host", "x");
        exchange(below, d);
        g_assert_true(exchange(first, d).renewed);
        g_assert_cmpuint(generation_of(first, 0), ==, GOSSIP_GENERATION_MAX);
        /* What nobody believes need not be outdone. */
        _cleanup_(gossip_freep) Gossip *low = gossip_in(2, 0);
        g_assert_false(exchange(low, b).renewed);
        g_assert_cmpuint(generation_of(low, 0), ==, 1);
}

/* ---- lies */

/* All of node 0 in this generation, as node @by says it to @gossip. */
static void lie(Gossip *gossip, unsigned by, uint64_t generation, const char *text) {
        _cleanup_(gossip_freep) Gossip *forged = new_gossip(0, generation);
        set_members(forged, 3);
        set_text(forged, "host", text);
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = say_all(gossip_self(gossip), forged);
        tell_only(gossip, by, message);
}

static void test_what_others_say_of_a_node_is_believed_within_a_leap(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1);
        learn_of(b, 0, "true");
        lie(b, 2, 1 + GOSSIP_GENERATION_LEAP + 1, "too far");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "true");
        lie(b, 2, GOSSIP_GENERATION_MAX, "the top");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "true");
        g_assert_cmpuint(generation_of(b, 0), ==, 1);
        lie(b, 2, 1 + GOSSIP_GENERATION_LEAP, "forged");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "forged");
}

static void test_of_an_unknown_node_what_is_plausible_is_believed(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1);
        lie(b, 2, GOSSIP_GENERATION_PLAUSIBLE + 1, "too far");
        g_assert_cmpuint(generation_of(b, 0), ==, 0);
        lie(b, 2, GOSSIP_GENERATION_PLAUSIBLE, "forged");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "forged");
        /* Of itself a node may say anything. */
        lie(b, 0, GOSSIP_GENERATION_MAX, "its own");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "its own");
}

static void test_what_is_not_believed_is_not_asked_for(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1), *liar = gossip_in(3, 2);
        learn_of(b, 0, "true");
        lie(liar, 0, GOSSIP_GENERATION_MAX, "the top");
        g_assert_cmpuint(exchange(b, liar).changes, ==, 2);     /* each of the other itself */
        Exchange again = exchange(b, liar);
        g_assert_cmpuint(again.changes, ==, 0);
        g_assert_cmpuint(again.messages, ==, 2);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "true");
}

/* The highest lie that is believed, one that knew the node and one that did not. */
static void test_the_greatest_lie_that_is_believed_is_outdone(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1), *c = gossip_in(3, 2);
        set_text(a, "host", "true");
        exchange(a, b);
        lie(c, 1, GOSSIP_GENERATION_PLAUSIBLE, "forged");
        g_assert_true(exchange(a, c).renewed);
        for (unsigned i = 0; i < 2; i++) {
                exchange(a, i == 0 ? b : c);
                exchange(i == 0 ? b : c, a);
        }
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "true");
        g_assert_cmpstr(text_of(c, 0, "host"), ==, "true");
        g_assert_cmpuint(generation_of(b, 0), ==, generation_of(c, 0));
}

/* It counts from the beginning again, and others know of it what no count comes to. */
static void test_a_restart_after_lies_beyond_all_bounds_is_believed_by_its_own_word(void) {
        for (unsigned begins = 0; begins < 2; begins++) {
                _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1), *c = gossip_in(3, 2), *a = new_gossip(0, 5);
                set_members(a, 3);
                lie(b, 0, GOSSIP_GENERATION_MAX, "driven up");
                set_text(a, "host", "restarted");
                for (unsigned i = 0; i < 2; i++)
                        g_assert_false((begins ? exchange(a, b) : exchange(b, a)).renewed);
                g_assert_cmpstr(text_of(b, 0, "host"), ==, "restarted");
                g_assert_cmpuint(generation_of(b, 0), ==, 5);
                exchange(b, c);
                g_assert_cmpstr(text_of(c, 0, "host"), ==, "restarted");
        }
}

/* Others say what they know still, and only the node itself may go back. */
static void test_nobody_else_takes_a_node_back(void) {
        _cleanup_(gossip_freep) Gossip *b = gossip_in(3, 1);
        lie(b, 0, GOSSIP_GENERATION_PLAUSIBLE + 1, "far up");
        lie(b, 2, 5, "old");
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "far up");
        _cleanup_(gossip_freep) Gossip *d = gossip_in(3, 1);
        lie(d, 0, GOSSIP_GENERATION_PLAUSIBLE, "plausible");
        lie(d, 0, 5, "old");
        g_assert_cmpstr(text_of(d, 0, "host"), ==, "plausible");
}

/* ---- order */

static void test_a_delta_that_does_not_join_on_is_not_taken(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1), *c = gossip_in(3, 2);
        set_text(a, "host", "1");
        exchange(a, b);
        set_text(a, "host", "2");
        set_text(a, "load", "2");
        /* What a would send to b, which is at 1, comes to c, which is at 0. */
        Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[] = { &want };
        Gpupool1__Gossip ask = GPUPOOL1__GOSSIP__INIT;
        want.node = (ProtobufCBinaryData) { ID_SIZE, (uint8_t *) gossip_self(a)->bytes };
        want.generation = 1;
        want.version = 1;
        ask.wants = wants;
        ask.n_wants = 1;
        GossipReply reply = tell(a, 1, &ask);
        g_assert_cmpuint(reply.message->deltas[0]->since, ==, 1);
        tell_only(c, 0, reply.message);
        g_assert_cmpuint(generation_of(c, 0), ==, 0);
        tell_only(b, 0, reply.message);
        g_assert_cmpstr(text_of(b, 0, "load"), ==, "2");
        gossip_reply_clear(&reply);
}

static void test_a_new_generation_is_taken_from_its_beginning_only(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1), *again = new_gossip(0, 2);
        NodeId id = node_id(0);
        for (unsigned i = 0; i < 5; i++)
                set_text(a, "load", i % 2 ? "1" : "2");
        exchange(a, b);
        set_members(again, 2);
        set_text(again, "host", "again");
        set_text(again, "load", "again");
        Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[] = { &want };
        Gpupool1__Gossip ask = GPUPOOL1__GOSSIP__INIT;
        want.node = (ProtobufCBinaryData) { ID_SIZE, id.bytes };
        want.generation = 2;
        want.version = 1;
        ask.wants = wants;
        ask.n_wants = 1;
        GossipReply reply = tell(again, 1, &ask);
        tell_only(b, 0, reply.message);
        g_assert_cmpuint(generation_of(b, 0), ==, 1);
        gossip_reply_clear(&reply);
        exchange(again, b);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "again");
}

static void test_what_is_older_never_takes_the_place_of_newer(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(2, 0), *b = gossip_in(2, 1);
        set_text(a, "host", "1");
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *late = say_all(gossip_self(b), a);
        set_text(a, "host", "2");
        exchange(a, b);
        tell_only(b, 0, late);
        g_assert_cmpstr(text_of(b, 0, "host"), ==, "2");
        g_assert_cmpuint(version_of(b, 0), ==, 2);
}

/* ---- members */

static void test_a_stranger_is_not_heard_and_nobody_speaks_for_one(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1), *c = gossip_in(3, 2);
        set_text(c, "host", "c");
        exchange(c, b);
        set_members(a, 2);
        exchange(b, a);
        g_assert_cmpuint(generation_of(a, 2), ==, 0);
        g_assert_cmpuint(gossip_n_members(a), ==, 2);
        Gpupool1__Gossip *root = NULL;
        GossipReply reply = {};
        g_assert_cmpint(gossip_begin(c, &root), ==, 0);
        g_assert_cmpint(gossip_receive(a, gossip_self(c), root, &reply), ==, GOSSIP_STRANGER);
        g_assert_cmpint(gossip_receive(a, gossip_self(a), root, &reply), ==, GOSSIP_STRANGER);
        gossip_message_free(root);
}

static void test_a_removed_node_is_forgotten_and_we_never_are(void) {
        _cleanup_(gossip_freep) Gossip *a = gossip_in(3, 0), *b = gossip_in(3, 1);
        set_text(a, "host", "a");
        set_text(b, "host", "b");
        exchange(a, b);
        g_assert_cmpint(gossip_set_members(a, NULL, 0), ==, 0);
        g_assert_cmpuint(gossip_n_members(a), ==, 1);
        g_assert_null(text_of(a, 1, "host"));
        g_assert_cmpstr(text_of(a, 0, "host"), ==, "a");
        g_assert_cmpuint(gossip_size(a), ==, 6);
        /* It comes back as one of whom nothing is known. */
        set_members(a, 3);
        g_assert_cmpuint(generation_of(a, 1), ==, 0);
        exchange(a, b);
        g_assert_cmpstr(text_of(a, 1, "host"), ==, "b");
}

static void test_members_are_sorted_and_there_once(void) {
        _cleanup_(gossip_freep) Gossip *a = new_gossip(0, 1);
        NodeId nodes[] = { node_id(2), node_id(1), node_id(2), node_id(0), node_id(1) };
        g_assert_cmpint(gossip_set_members(a, nodes, ELEMENTS(nodes)), ==, 0);
        g_assert_cmpuint(gossip_n_members(a), ==, 3);
        for (size_t i = 1; i < 3; i++)
                g_assert_cmpint(ID_COMPARE(gossip_member(a, i - 1), gossip_member(a, i)), <, 0);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/gossip/" #name, test_##name)
        TEST(a_fact_is_known_on_the_other_side_after_one_exchange);
        TEST(what_a_third_one_says_is_handed_on);
        TEST(a_change_carries_nothing_but_itself);
        TEST(the_same_value_is_no_change);
        TEST(a_removed_fact_is_gone_everywhere_and_may_come_back);
        TEST(an_empty_value_is_a_value);
        TEST(keys_are_walked_in_order_from_any_prefix);
        TEST(who_changed_is_told);
        TEST(who_agrees_says_tens_of_bytes_however_many_there_are);
        TEST(one_new_fact_among_a_thousand_nodes_takes_six_messages);
        TEST(the_deepest_tree_ends_within_the_limit_of_messages);
        TEST(a_newcomer_learns_a_thousand_nodes_in_messages_within_the_limit);
        TEST(a_node_with_very_much_to_say_starves_nobody);
        TEST(many_that_never_stop_changing_do_not_keep_each_other_out);
        TEST(what_does_not_fit_of_the_tree_comes_the_next_time);
        TEST(the_hash_is_the_same_on_every_platform);
        TEST(keys_and_values_are_taken_up_to_their_limits);
        TEST(a_node_has_a_thousand_keys_at_most);
        TEST(a_node_has_a_megabyte_at_most);
        TEST(a_full_node_that_changes_everything_is_followed);
        TEST(more_than_a_node_may_have_is_not_held);
        TEST(tombstones_are_dropped_by_a_new_generation);
        TEST(a_fact_that_comes_and_goes_is_one_tombstone);
        TEST(a_restarted_node_replaces_all_that_it_said);
        TEST(a_node_that_came_back_from_a_backup_outdoes_what_is_known_of_it);
        TEST(a_node_that_lost_count_in_its_generation_outdoes_it);
        TEST(a_past_that_is_outdone_in_part_is_not_taken_for_the_present);
        TEST(what_others_say_of_us_is_not_taken_but_outdone);
        TEST(generations_have_room_above);
        TEST(what_others_say_of_a_node_is_believed_within_a_leap);
        TEST(of_an_unknown_node_what_is_plausible_is_believed);
        TEST(what_is_not_believed_is_not_asked_for);
        TEST(the_greatest_lie_that_is_believed_is_outdone);
        TEST(a_restart_after_lies_beyond_all_bounds_is_believed_by_its_own_word);
        TEST(nobody_else_takes_a_node_back);
        TEST(a_delta_that_does_not_join_on_is_not_taken);
        TEST(a_new_generation_is_taken_from_its_beginning_only);
        TEST(what_is_older_never_takes_the_place_of_newer);
        TEST(a_stranger_is_not_heard_and_nobody_speaks_for_one);
        TEST(a_removed_node_is_forgotten_and_we_never_are);
        TEST(members_are_sorted_and_there_once);
        return g_test_run();
}
