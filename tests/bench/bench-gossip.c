/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What gossip costs in clusters of 10, 100 and 1000 nodes, all in this process: the real state of each node, messages
 * through encoded bytes, connections and partners as the service chooses them, each node at its own moment of the
 * period. Prints rounds until a new fact is known everywhere, bytes per node and second at rest and with facts that
 * change, memory, and ratios.
 *
 * At 1000 nodes the states carry the load of each node alone: a thousand times all facts of a thousand nodes would not
 * fit here, and what does not change is not sent. Memory is measured on one state with all facts.
 *
 * bench-gossip [LARGEST] */

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/host-facts.h"
#include "core/facts-codec.h"
#include "core/neighbours.h"
#include "unit/gossip-exchange.h"
#include "util/array.h"

#define PERIOD_MS 500U
#define LOAD_PERIODS 10U                /* a node's load changes every 5 s */
#define GPUS 8U
#define MEMBERS 7U
#define FRAME_COST 8U                   /* the frame's length, and the tag and length of the message in it */
#define TRIALS 5U

static _Noreturn void die(const char *what) {
        fprintf(stderr, "bench-gossip: %s\n", what);
        exit(1);
}

static void must(int r) {
        if (r < 0)
                die("out of memory");
}

static uint64_t random_state = 1;

static uint64_t draw(void) {
        uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static double now_s(clockid_t clock) {
        struct timespec now;
        (void) clock_gettime(clock, &now);
        return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static NodeFacts make_facts(const NodeId *node) {
        NodeFacts facts;
        must(host_facts_make(node, GPUS, draw() % (UINT64_C(2) << 40), &facts));
        return facts;
}

static void publish_all(Gossip *gossip) {
        NodeFacts facts = make_facts(gossip_self(gossip));
        must(facts_publish(gossip, &facts));
        node_facts_clear(&facts);
}

/* A load of the size that the codec makes, which is not the same twice. */
static void change_load(Gossip *gossip) {
        uint8_t value[26];
        for (size_t i = 0; i < sizeof(value); i++)
                value[i] = (uint8_t) draw();
        must(gossip_set(gossip, "load", value, sizeof(value)));
}

/* ---- a cluster */

typedef struct Node {
        Gossip *gossip;
        Neighbour *connected;
        size_t n_connected;
        double bytes;                   /* said */
} Node;

typedef struct Cluster {
        Node *nodes;
        Neighbour *all;
        unsigned *order;                /* of their moments in the period */
        unsigned n;
} Cluster;

static unsigned index_of(const Cluster *cluster, const NodeId *id) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (ID_EQUAL(&cluster->all[i].id, id))
                        return i;
        die("an unknown node");
}

static void connect_nodes(Cluster *cluster) {
        unsigned n = cluster->n;
        _cleanup_free_ bool *wanted = calloc((size_t) n * n, sizeof(bool));
        if (!wanted)
                die("out of memory");
        for (unsigned i = 0; i < n; i++) {
                NodeId chosen[NEIGHBOURS_MAX];
                size_t n_chosen = neighbours_choose(&cluster->all[i].id, cluster->all, n, 1000, chosen);
                for (size_t k = 0; k < n_chosen; k++) {
                        unsigned other = index_of(cluster, chosen + k);
                        wanted[(size_t) i * n + other] = wanted[(size_t) other * n + i] = true;
                }
        }
        for (unsigned i = 0; i < n; i++) {
                Node *node = cluster->nodes + i;
                node->connected = calloc(n, sizeof(Neighbour));
                for (unsigned k = 0; k < n; k++)
                        if (wanted[(size_t) i * n + k])
                                node->connected[node->n_connected++] = cluster->all[k];
        }
}

/* Everybody learns all of everybody, without the network between. */
static void teach_all(Cluster *cluster) {
        for (unsigned i = 0; i < cluster->n; i++) {
                NodeId asker = cluster->all[(i + 1) % cluster->n].id;
                Gpupool1__GossipDigest want = GPUPOOL1__GOSSIP_DIGEST__INIT, *wants[] = { &want };
                Gpupool1__Gossip ask = GPUPOOL1__GOSSIP__INIT;
                want.node = (ProtobufCBinaryData) { ID_SIZE, cluster->all[i].id.bytes };
                ask.wants = wants;
                ask.n_wants = 1;
                GossipReply said = {};
                must(gossip_receive(cluster->nodes[i].gossip, &asker, &ask, &said));
                for (unsigned k = 0; k < cluster->n; k++) {
                        GossipReply reply = {};
                        if (k == i)
                                continue;
                        must(gossip_receive(cluster->nodes[k].gossip, &cluster->all[i].id, said.message, &reply));
                        gossip_reply_clear(&reply);
                }
                gossip_reply_clear(&said);
        }
}

static Cluster *cluster_new(unsigned n, bool all_facts) {
        Cluster *cluster = calloc(1, sizeof(*cluster));
        if (!cluster)
                die("out of memory");
        *cluster = (Cluster) { calloc(n, sizeof(Node)), calloc(n, sizeof(Neighbour)), calloc(n, sizeof(unsigned)), n };
        _cleanup_free_ NodeId *ids = calloc(n, sizeof(NodeId));
        if (!cluster->nodes || !cluster->all || !cluster->order || !ids)
                die("out of memory");
        for (unsigned i = 0; i < n; i++) {
                for (size_t k = 0; k < ID_SIZE; k++)
                        ids[i].bytes[k] = (uint8_t) draw();
                cluster->all[i] = (Neighbour) { ids[i], i < MEMBERS };
                unsigned place = (unsigned) (draw() % (i + 1));
                cluster->order[i] = cluster->order[place];
                cluster->order[place] = i;
        }
        for (unsigned i = 0; i < n; i++) {
                must(gossip_new(&cluster->nodes[i].gossip, ids + i, 1700000000000 + i));
                must(gossip_set_members(cluster->nodes[i].gossip, ids, n));
                if (all_facts)
                        publish_all(cluster->nodes[i].gossip);
                else
                        change_load(cluster->nodes[i].gossip);
        }
        connect_nodes(cluster);
        teach_all(cluster);
        return cluster;
}

static void cluster_free(Cluster *cluster) {
        for (unsigned i = 0; i < cluster->n; i++) {
                gossip_free(cluster->nodes[i].gossip);
                free(cluster->nodes[i].connected);
        }
        free(cluster->nodes);
        free(cluster->all);
        free(cluster->order);
        free(cluster);
}

static void run_period(Cluster *cluster) {
        for (unsigned i = 0; i < cluster->n; i++) {
                Node *node = cluster->nodes + cluster->order[i];
                NodeId partners[NEIGHBOURS_ALL];
                size_t n = neighbours_partners(cluster->all[cluster->order[i]].member, node->connected,
                                               node->n_connected, draw(), partners);
                for (size_t k = 0; k < n; k++) {
                        Node *other = cluster->nodes + index_of(cluster, partners + k);
                        Exchange done = exchange(node->gossip, other->gossip);
                        node->bytes += (double) done.by_first + FRAME_COST * ((done.messages + 1) / 2);
                        other->bytes += (double) (done.bytes - done.by_first) + FRAME_COST * (done.messages / 2);
                }
        }
}

/* ---- measuring */

static bool all_know(const Cluster *cluster, unsigned origin) {
        const NodeId *id = &cluster->all[origin].id;
        uint64_t version = gossip_version(cluster->nodes[origin].gossip, id);
        for (unsigned i = 0; i < cluster->n; i++)
                if (gossip_version(cluster->nodes[i].gossip, id) != version)
                        return false;
        return true;
}

static unsigned measure_rounds(Cluster *cluster) {
        unsigned worst = 0;
        for (unsigned i = 0; i < TRIALS; i++) {
                unsigned origin = (unsigned) (draw() % cluster->n), rounds = 0;
                change_load(cluster->nodes[origin].gossip);
                while (!all_know(cluster, origin)) {
                        run_period(cluster);
                        rounds++;
                }
                worst = rounds > worst ? rounds : worst;
        }
        return worst;
}

typedef struct Rate {
        double mean, most;              /* bytes per node and second */
        double cpu_us;                  /* per node and second; all of a node's work on gossip */
} Rate;

static Rate measure_rate(Cluster *cluster, unsigned periods, bool changing) {
        double begun = 0;
        /* As many before, until it runs evenly. */
        for (unsigned i = 0; i < 2 * periods; i++) {
                if (i == periods) {
                        begun = now_s(CLOCK_PROCESS_CPUTIME_ID);
                        for (unsigned k = 0; k < cluster->n; k++)
                                cluster->nodes[k].bytes = 0;
                }
                for (unsigned k = 0; changing && k < cluster->n; k++)
                        if (k % LOAD_PERIODS == i % LOAD_PERIODS)
                                change_load(cluster->nodes[cluster->order[k]].gossip);
                run_period(cluster);
        }
        double seconds = (double) periods * PERIOD_MS / 1000;
        Rate rate = { .cpu_us = 1e6 * (now_s(CLOCK_PROCESS_CPUTIME_ID) - begun) / seconds / cluster->n };
        for (unsigned i = 0; i < cluster->n; i++) {
                double bytes = cluster->nodes[i].bytes / seconds;
                rate.mean += bytes / cluster->n;
                rate.most = bytes > rate.most ? bytes : rate.most;
        }
        return rate;
}

/* What the state of one node takes that knows all facts of @n; and how long the message of who agrees takes. */
static double measure_memory(unsigned n, double *ret_begin_us, double *ret_receive_us) {
        _cleanup_free_ NodeId *ids = calloc(n, sizeof(NodeId));
        if (!ids)
                die("out of memory");
        for (unsigned i = 0; i < n; i++)
                for (size_t k = 0; k < ID_SIZE; k++)
                        ids[i].bytes[k] = (uint8_t) draw();
        size_t before = mallinfo2().uordblks;
        Gossip *gossip = NULL;
        must(gossip_new(&gossip, ids, 1));
        must(gossip_set_members(gossip, ids, n));
        publish_all(gossip);
        for (unsigned i = 1; i < n; i++) {
                Gossip *other = NULL;
                must(gossip_new(&other, ids + i, 1));
                must(gossip_set_members(other, ids, 1));
                publish_all(other);
                (void) exchange(other, gossip);
                gossip_free(other);
        }
        size_t after = mallinfo2().uordblks;

        unsigned times = 20000;
        Gpupool1__Gossip *message = NULL;
        double begun = now_s(CLOCK_MONOTONIC), received;
        for (unsigned i = 0; i < times; i++) {
                gossip_message_free(message);
                must(gossip_begin(gossip, &message));
        }
        received = now_s(CLOCK_MONOTONIC);
        *ret_begin_us = 1e6 * (received - begun) / times;
        for (unsigned i = 0; i < times; i++) {
                GossipReply reply = {};
                must(gossip_receive(gossip, ids + n - 1, message, &reply));
                gossip_reply_clear(&reply);
        }
        *ret_receive_us = 1e6 * (now_s(CLOCK_MONOTONIC) - received) / times;
        gossip_message_free(message);
        gossip_free(gossip);
        return (double) (after - before);
}

int main(int argc, char **argv) {
        static const unsigned sizes[] = { 10, 100, 1000 };
        unsigned largest = argc > 1 ? (unsigned) strtoul(argv[1], NULL, 10) : 1000;
        Rate quiet[ELEMENTS(sizes)] = {}, busy[ELEMENTS(sizes)] = {};
        for (size_t i = 0; i < ELEMENTS(sizes) && sizes[i] <= largest; i++) {
                unsigned n = sizes[i];
                Cluster *cluster = cluster_new(n, n <= 100);
                unsigned rounds = measure_rounds(cluster);
                double goal = 2 * log2(n);
                printf("%4u nodes: a new fact is everywhere after at most %u rounds, goal %.1f, ratio %.2f\n", n,
                       rounds, goal, rounds / goal);
                quiet[i] = measure_rate(cluster, 10, false);
                busy[i] = measure_rate(cluster, n > 100 ? 10 : 40, true);
                printf("%4u nodes: at rest %.0f B/s a node (most %.0f), %.0f us CPU/s\n", n, quiet[i].mean,
                       quiet[i].most, quiet[i].cpu_us);
                /* What cannot be avoided: each node hears each change once, of about 70 bytes with id and key. */
                double least = (double) n * 1000 / LOAD_PERIODS / PERIOD_MS * 70;
                printf("%4u nodes: each load changes every 5 s: %.0f B/s a node (most %.0f), %.0f us CPU/s; changes "
                       "alone %.0f B/s, ratio %.2f\n", n, busy[i].mean, busy[i].most, busy[i].cpu_us, least,
                       busy[i].mean / least);
                cluster_free(cluster);
        }
        if (largest >= 1000)
                printf("at rest, 1000 nodes beside 100: ratio %.2f\n", quiet[2].mean / quiet[1].mean);

        double begin_us, receive_us, three = measure_memory(3, &begin_us, &receive_us);
        double thousand = measure_memory(1000, &begin_us, &receive_us);
        printf("a state of %u GPUs a node takes %.0f KiB with 3 nodes, %.0f KiB with 1000\n", GPUS, three / 1024,
               thousand / 1024);
        printf("with 1000 nodes, beginning an exchange is %.2f us, hearing the same %.2f us\n", begin_us, receive_us);
        printf("memory for each node that is known, 1000 beside 3: ratio %.2f\n", thousand / 1000 / (three / 3));
        return 0;
}
