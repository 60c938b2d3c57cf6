/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Random histories of a few nodes whose messages are late, out of order, doubled and lost, and that start anew, come
 * back from a backup, are removed and taken in again. Held after each step: what is known of a node never gets older,
 * and is what that node once said. When the network is well again, all know what each says of itself.
 *
 *      SEED=17 test-gossip-random         one history
 *      SEEDS=100000 test-gossip-random    so many */

#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "core/gossip.h"
#include "gossip-exchange.h"
#include "util/array.h"

#define SEEDS 40U
#define STEPS 600U
#define NODES 5U
#define KEYS 12U
#define ON_THE_WAY_MAX 40U

static uint64_t current_seed;
static const char *program;
static unsigned n_learnt, n_renewed;

static void on_abort(int signal_number) {
        char line[512];
        int n = snprintf(line, sizeof(line), "# replay with: SEED=%" G_GUINT64_FORMAT " %s\n", current_seed, program);
        if (write(STDOUT_FILENO, line, (size_t) n) < 0)
                _exit(2);
        (void) signal(signal_number, SIG_DFL);
        (void) raise(signal_number);
}

typedef struct Letter {
        unsigned from, to;
        Gpupool1__Gossip *message;
} Letter;

typedef struct Net {
        GRand *random;
        NodeId ids[NODES];
        Gossip *nodes[NODES];
        Letter letters[ON_THE_WAY_MAX];
        unsigned n_letters;
        uint64_t generations[NODES];    /* the greatest that a node ever had */
        uint64_t current[NODES];        /* what it has now; 0: it has just started */
        uint64_t seen[NODES][NODES][2]; /* generation and version that one knew of another */
        /* "node generation version" -> "key=value" or "key-": what each node ever said. */
        GHashTable *said;
        /* "node generation": it said two things with one version, since it lost count. */
        GHashTable *tainted;
} Net;

static bool chance(Net *net, int percent) {
        return g_rand_int_range(net->random, 0, 100) < percent;
}

static unsigned draw(Net *net, unsigned n) {
        return (unsigned) g_rand_int_range(net->random, 0, (gint32) n);
}

static char *generation_name(unsigned node, uint64_t generation) {
        return g_strdup_printf("%u %" G_GUINT64_FORMAT, node, generation);
}

/* All own facts as they are numbered now. */
static void write_down(Net *net, unsigned i) {
        const Gossip *own = net->nodes[i];
        uint64_t generation = gossip_generation(own, &net->ids[i]);
        /* One that it had before, by a bad backup or because those who know better are not there to say so. */
        if (generation != net->current[i] && generation <= net->generations[i])
                g_hash_table_add(net->tainted, generation_name(i, generation));
        net->current[i] = generation;
        net->generations[i] = MAX(net->generations[i], generation);
        GossipFact fact = {};
        while (gossip_next(own, &net->ids[i], fact.key, &fact)) {
                char *name = g_strdup_printf("%u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, i, generation,
                                             fact.version);
                char *what = g_strdup_printf("%s=%.*s", fact.key, (int) fact.size, (const char *) fact.value);
                const char *before = g_hash_table_lookup(net->said, name);
                if (before && !g_str_equal(before, what))
                        g_hash_table_add(net->tainted, generation_name(i, generation));
                g_hash_table_insert(net->said, name, what);
        }
}

static void set_something(Net *net, unsigned i) {
        char key[8], value[2000];
        (void) snprintf(key, sizeof(key), "k%u", draw(net, KEYS));
        if (chance(net, 30)) {
                g_assert_cmpint(gossip_remove(net->nodes[i], key), >=, 0);
        } else {
                /* Some large, so that not all fits into a message. */
                int size = snprintf(value, sizeof(value), "%0*u", chance(net, 10) ? 1900 : 1, draw(net, 1000000));
                g_assert_cmpint(gossip_set(net->nodes[i], key, value, (size_t) size), <=, GOSSIP_SET_CHANGED);
        }
        write_down(net, i);
}

static void post(Net *net, unsigned from, unsigned to, Gpupool1__Gossip *message) {
        if (net->n_letters < ON_THE_WAY_MAX)
                net->letters[net->n_letters++] = (Letter) { from, to, message };
        else
                gossip_message_free(message);
}

static void begin_exchange(Net *net) {
        unsigned from = draw(net, NODES), to = draw(net, NODES);
        Gpupool1__Gossip *message = NULL;
        g_assert_cmpint(gossip_begin(net->nodes[from], &message), ==, 0);
        post(net, from, to, message);
}

/* Any of those that are on the way comes, and at times stays there to come again. */
static void deliver(Net *net) {
        if (net->n_letters == 0)
                return;
        unsigned at = draw(net, net->n_letters);
        Letter letter = net->letters[at];
        bool again = chance(net, 15);
        if (!again)
                net->letters[at] = net->letters[--net->n_letters];

        GossipReply reply = {};
        size_t size;
        if (chance(net, 90)) {
                _cleanup_(gossip_message_freep) Gpupool1__Gossip *carried = carry(letter.message, &size);
                int r = gossip_receive(net->nodes[letter.to], &net->ids[letter.from], carried, &reply);
                g_assert_true(r == GOSSIP_TAKEN || r == GOSSIP_STRANGER);
                n_learnt += (unsigned) reply.n_changed;
                n_renewed += reply.renewed;
                write_down(net, letter.to);
                if (reply.message)
                        post(net, letter.to, letter.from, STEAL(reply.message));
        }
        gossip_reply_clear(&reply);
        if (!again)
                gossip_message_free(letter.message);
}

static void set_members(Net *net, unsigned i, unsigned without) {
        NodeId members[NODES];
        unsigned n = 0;
        for (unsigned k = 0; k < NODES; k++)
                if (k != without) {
                        members[n++] = net->ids[k];
                } else if (k != i)
                        memset(net->seen[i][k], 0, sizeof(net->seen[i][k]));
        g_assert_cmpint(gossip_set_members(net->nodes[i], members, n), ==, 0);
}

/* With a greater generation as it should be, or by a bad backup with an older one. */
static void restart(Net *net, unsigned i) {
        uint64_t generation = net->generations[i] + 1;
        if (chance(net, 20))
                generation = net->current[i];
        else if (chance(net, 20))
                generation = 1 + (uint64_t) draw(net, (unsigned) net->generations[i]);
        net->nodes[i] = gossip_free(net->nodes[i]);
        g_assert_cmpint(gossip_new(&net->nodes[i], &net->ids[i], generation), ==, 0);
        net->current[i] = 0;
        memset(net->seen[i], 0, sizeof(net->seen[i]));
        set_members(net, i, NODES);
        write_down(net, i);
}

static void check_known(Net *net, unsigned by, unsigned of) {
        const Gossip *gossip = net->nodes[by];
        uint64_t generation = gossip_generation(gossip, &net->ids[of]), version = gossip_version(gossip, &net->ids[of]);
        uint64_t *seen = net->seen[by][of];
        g_assert_true(generation > seen[0] || (generation == seen[0] && version >= seen[1]));
        seen[0] = generation;
        seen[1] = version;

        g_autofree char *era = generation_name(of, generation);
        GossipFact fact = {};
        while (gossip_next(gossip, &net->ids[of], fact.key, &fact)) {
                g_assert_cmpuint(fact.version, <=, version);
                if (g_hash_table_contains(net->tainted, era))
                        continue;
                g_autofree char *name = g_strdup_printf("%s %" G_GUINT64_FORMAT, era, fact.version);
                g_autofree char *what = g_strdup_printf("%s=%.*s", fact.key, (int) fact.size,
                                                        (const char *) fact.value);
                g_assert_cmpstr(what, ==, g_hash_table_lookup(net->said, name));
        }
}

static void step(Net *net) {
        unsigned i = draw(net, NODES);
        unsigned what = draw(net, 100);
        if (what < 25)
                set_something(net, i);
        else if (what < 45)
                begin_exchange(net);
        else if (what < 97)
                deliver(net);
        else if (what < 98)
                restart(net, i);
        else
                set_members(net, i, draw(net, NODES + 2));
}

static void assert_same_facts(const Gossip *a, const Gossip *b, const NodeId *node) {
        GossipFact x = {}, y = {};
        for (;;) {
                bool more = gossip_next(a, node, x.key, &x);
                g_assert_cmpint(gossip_next(b, node, y.key, &y), ==, more);
                if (!more)
                        return;
                g_assert_cmpstr(x.key, ==, y.key);
                g_assert_cmpuint(x.version, ==, y.version);
                g_assert_cmpmem(x.value, x.size, y.value, y.size);
        }
}

static void come_to_rest(Net *net) {
        for (unsigned i = 0; i < NODES; i++)
                set_members(net, i, NODES);
        bool busy = true;
        for (unsigned round = 0; busy; round++) {
                g_assert_cmpuint(round, <, 20);
                busy = false;
                for (unsigned i = 0; i < NODES; i++)
                        for (unsigned k = 0; k < NODES; k++)
                                if (i != k && exchange(net->nodes[i], net->nodes[k]).messages > 1)
                                        busy = true;
        }
        for (unsigned i = 0; i < NODES; i++)
                for (unsigned k = 0; k < NODES; k++) {
                        g_assert_cmpuint(gossip_generation(net->nodes[i], &net->ids[k]), ==,
                                         gossip_generation(net->nodes[k], &net->ids[k]));
                        g_assert_cmpuint(gossip_version(net->nodes[i], &net->ids[k]), ==,
                                         gossip_version(net->nodes[k], &net->ids[k]));
                }
}

static void begin(Net *net, uint64_t seed) {
        *net = (Net) {
                .random = g_rand_new_with_seed((guint32) seed),
                .said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                .tainted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        };
        for (unsigned i = 0; i < NODES; i++) {
                for (unsigned k = 0; k < ID_SIZE; k++)
                        net->ids[i].bytes[k] = (uint8_t) draw(net, 256);
                /* Half of the histories are of ids that are alike. */
                if (seed % 2)
                        memset(net->ids[i].bytes, 0, ID_SIZE - 1);
                net->ids[i].bytes[ID_SIZE - 1] = (uint8_t) (i + 1);
        }
        for (unsigned i = 0; i < NODES; i++) {
                g_assert_cmpint(gossip_new(&net->nodes[i], &net->ids[i], 1), ==, 0);
                set_members(net, i, NODES);
                write_down(net, i);
        }
}

static void end(Net *net) {
        for (unsigned i = 0; i < NODES; i++)
                gossip_free(net->nodes[i]);
        for (unsigned i = 0; i < net->n_letters; i++)
                gossip_message_free(net->letters[i].message);
        g_hash_table_unref(net->said);
        g_hash_table_unref(net->tainted);
        g_rand_free(net->random);
}

/* Where a node had a generation twice, two states may have the same number, and only the next change ends that. So
 * facts are compared where the generation is clean. */
static void run_history(uint64_t seed) {
        Net net;
        current_seed = seed;
        begin(&net, seed);
        for (unsigned i = 0; i < STEPS; i++) {
                step(&net);
                for (unsigned by = 0; by < NODES; by++)
                        for (unsigned of = 0; of < NODES; of++)
                                if (by != of)
                                        check_known(&net, by, of);
        }
        come_to_rest(&net);
        for (unsigned of = 0; of < NODES; of++) {
                g_autofree char *era = generation_name(of, gossip_generation(net.nodes[of], &net.ids[of]));
                for (unsigned by = 0; by < NODES && !g_hash_table_contains(net.tainted, era); by++)
                        assert_same_facts(net.nodes[by], net.nodes[of], &net.ids[of]);
        }
        end(&net);
}

static void for_each_seed(void (*run)(uint64_t seed), uint64_t n) {
        const char *one = g_getenv("SEED"), *many = g_getenv("SEEDS");
        uint64_t first = one ? g_ascii_strtoull(one, NULL, 10) : 1;
        uint64_t last = one ? first : many ? g_ascii_strtoull(many, NULL, 10) : n;
        for (uint64_t seed = first; seed <= last; seed++)
                run(seed);
}

static void test_whatever_the_network_does_nothing_gets_older_and_all_agree_in_the_end(void) {
        for_each_seed(run_history, SEEDS);
        g_test_message("%u times something was learnt, %u times a node outdid its past", n_learnt, n_renewed);
        g_assert_cmpuint(n_learnt, >, 0);
}

/* ---- merging alone */

#define SAYINGS 8U

/* All that a node has to say, at several moments of its life. */
static void run_merge(uint64_t seed) {
        Net net;
        current_seed = seed;
        begin(&net, seed);
        Gpupool1__Gossip *sayings[SAYINGS];
        Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[] = { &want };
        Gpupool1__Gossip ask = GPUPOOL1__GOSSIP__INIT;
        want.node = (ProtobufCBinaryData) { ID_SIZE, net.ids[0].bytes };
        ask.wants = wants;
        ask.n_wants = 1;
        for (unsigned i = 0; i < SAYINGS; i++) {
                for (unsigned k = draw(&net, 6); k > 0; k--)
                        set_something(&net, 0);
                if (chance(&net, 20)) {
                        net.nodes[0] = gossip_free(net.nodes[0]);
                        g_assert_cmpint(gossip_new(&net.nodes[0], &net.ids[0], ++net.generations[0]), ==, 0);
                        set_members(&net, 0, NODES);
                }
                GossipReply reply = {};
                g_assert_cmpint(gossip_receive(net.nodes[0], &net.ids[1], &ask, &reply), ==, GOSSIP_TAKEN);
                sayings[i] = STEAL(reply.message);
                gossip_reply_clear(&reply);
        }

        /* Node 1 hears them in order and once, 2 in any order and some of them twice. */
        for (unsigned i = 0; i < 3 * SAYINGS; i++) {
                unsigned which = i < SAYINGS ? i : draw(&net, SAYINGS);
                GossipReply reply = {};
                if (i < SAYINGS)
                        g_assert_cmpint(gossip_receive(net.nodes[1], &net.ids[3], sayings[which], &reply), ==,
                                        GOSSIP_TAKEN);
                else
                        g_assert_cmpint(gossip_receive(net.nodes[2], &net.ids[3], sayings[which], &reply), ==,
                                        GOSSIP_TAKEN);
                gossip_reply_clear(&reply);
        }
        for (unsigned i = SAYINGS; i > 0; i--) {
                GossipReply reply = {};
                g_assert_cmpint(gossip_receive(net.nodes[2], &net.ids[3], sayings[i - 1], &reply), ==, GOSSIP_TAKEN);
                gossip_reply_clear(&reply);
                gossip_message_free(sayings[i - 1]);
        }
        g_assert_cmpuint(gossip_generation(net.nodes[1], &net.ids[0]), ==,
                         gossip_generation(net.nodes[2], &net.ids[0]));
        g_assert_cmpuint(gossip_version(net.nodes[1], &net.ids[0]), ==, gossip_version(net.nodes[2], &net.ids[0]));
        assert_same_facts(net.nodes[1], net.nodes[2], &net.ids[0]);
        end(&net);
}

static void test_the_order_and_the_number_of_times_do_not_count(void) {
        for_each_seed(run_merge, 4 * SEEDS);
}

int main(int argc, char **argv) {
        program = argv[0];
        (void) signal(SIGABRT, on_abort);
        (void) signal(SIGTRAP, on_abort);
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/gossip/random/" #name, test_##name)
        TEST(whatever_the_network_does_nothing_gets_older_and_all_agree_in_the_end);
        TEST(the_order_and_the_number_of_times_do_not_count);
        return g_test_run();
}
