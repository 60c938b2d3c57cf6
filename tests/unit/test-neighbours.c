/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/neighbours.h"
#include "util/array.h"

#define NODES_MANY 1000U
#define MEMBERS 7U

/* The first MEMBERS belong to the engine. */
static Neighbour *make_nodes(unsigned n) {
        Neighbour *nodes = g_new0(Neighbour, n);
        GRand *random = g_rand_new_with_seed(n);
        for (unsigned i = 0; i < n; i++) {
                for (unsigned k = 0; k < ID_SIZE; k++)
                        nodes[i].id.bytes[k] = (uint8_t) g_rand_int_range(random, 0, 256);
                nodes[i].member = i < MEMBERS;
        }
        g_rand_free(random);
        return nodes;
}

static unsigned index_of(const Neighbour *nodes, unsigned n, const NodeId *id) {
        for (unsigned i = 0; i < n; i++)
                if (ID_EQUAL(&nodes[i].id, id))
                        return i;
        g_assert_not_reached();
}

static bool has(const NodeId *row, size_t n, const NodeId *id) {
        for (size_t i = 0; i < n; i++)
                if (ID_EQUAL(row + i, id))
                        return true;
        return false;
}

/* How many of @a are not in @b. */
static unsigned differing(const NodeId *a, size_t n_a, const NodeId *b, size_t n_b) {
        unsigned n = 0;
        for (size_t i = 0; i < n_a; i++)
                n += !has(b, n_b, a + i);
        return n;
}

static void test_up_to_eight_nodes_are_each_connected_with_each(void) {
        for (unsigned n = 1; n <= NEIGHBOURS_ALL; n++) {
                g_autofree Neighbour *nodes = make_nodes(n);
                NodeId chosen[NEIGHBOURS_MAX];
                g_assert_cmpuint(neighbours_choose(&nodes[0].id, nodes, n, 3, chosen), ==, n - 1);
                /* Whether or not we are in the list. */
                g_assert_cmpuint(neighbours_choose(&nodes[0].id, nodes + 1, n - 1, 3, chosen), ==, n - 1);
                g_assert_false(has(chosen, n - 1, &nodes[0].id));
        }
}

static void test_more_are_connected_with_the_members_and_eight_others(void) {
        static const unsigned sizes[] = { 9, 12, 16, 20, 100, NODES_MANY };
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                unsigned n = sizes[i];
                g_autofree Neighbour *nodes = make_nodes(n);
                NodeId chosen[NEIGHBOURS_MAX];
                size_t n_chosen = neighbours_choose(&nodes[n - 1].id, nodes, n, 5, chosen);
                g_assert_cmpuint(n_chosen, ==, MEMBERS + MIN(n - MEMBERS - 1, NEIGHBOURS_DIALLED));
                for (unsigned k = 0; k < MEMBERS; k++)
                        g_assert_true(has(chosen, n_chosen, &nodes[k].id));
                g_assert_false(has(chosen, n_chosen, &nodes[n - 1].id));
                for (size_t k = 0; k < n_chosen; k++)
                        g_assert_false(has(chosen, k, chosen + k));
        }
}

static void test_a_member_dials_the_members_only(void) {
        g_autofree Neighbour *nodes = make_nodes(100);
        NodeId chosen[NEIGHBOURS_MAX];
        g_assert_cmpuint(neighbours_choose(&nodes[2].id, nodes, 100, 5, chosen), ==, MEMBERS - 1);
}

static void test_an_epoch_exchanges_one_at_most_and_in_time_everybody_comes(void) {
        unsigned n = 60;
        g_autofree Neighbour *nodes = make_nodes(n);
        NodeId before[NEIGHBOURS_MAX], now[NEIGHBOURS_MAX];
        size_t n_before = neighbours_choose(&nodes[30].id, nodes, n, 0, before);
        bool came[60] = {};
        unsigned exchanged = 0;
        for (uint64_t epoch = 1; epoch < 1000; epoch++) {
                size_t n_now = neighbours_choose(&nodes[30].id, nodes, n, epoch, now);
                g_assert_cmpuint(n_now, ==, n_before);
                g_assert_cmpuint(differing(now, n_now, before, n_before), <=, 1);
                exchanged += differing(now, n_now, before, n_before);
                for (size_t i = 0; i < n_now; i++)
                        came[index_of(nodes, n, now + i)] = true;
                memcpy(before, now, sizeof(now));
        }
        g_assert_cmpuint(exchanged, >, 500);
        for (unsigned i = 0; i < n; i++)
                g_assert_true(came[i] || i == 30);
        /* The end of time is no trap. */
        g_assert_cmpuint(neighbours_choose(&nodes[30].id, nodes, n, UINT64_MAX, now), ==, n_before);
}

static void test_who_comes_or_goes_changes_one_place_at_most(void) {
        for (unsigned n = 12; n < 60; n++) {
                g_autofree Neighbour *nodes = make_nodes(n);
                NodeId before[NEIGHBOURS_MAX], now[NEIGHBOURS_MAX];
                size_t n_before = neighbours_choose(&nodes[10].id, nodes, n, 9, before);
                size_t n_now = neighbours_choose(&nodes[10].id, nodes, n - 1, 9, now);
                g_assert_cmpuint(differing(before, n_before, now, n_now), <=, 1);
                g_assert_cmpuint(differing(now, n_now, before, n_before), <=, 1);
        }
}

static void test_the_order_of_the_list_does_not_count(void) {
        g_autofree Neighbour *nodes = make_nodes(50), *reversed = g_new(Neighbour, 50);
        for (unsigned i = 0; i < 50; i++)
                reversed[i] = nodes[49 - i];
        NodeId a[NEIGHBOURS_MAX], b[NEIGHBOURS_MAX];
        size_t n_a = neighbours_choose(&nodes[20].id, nodes, 50, 7, a);
        size_t n_b = neighbours_choose(&nodes[20].id, reversed, 50, 7, b);
        g_assert_cmpuint(n_a, ==, n_b);
        g_assert_cmpuint(differing(a, n_a, b, n_b), ==, 0);
}

/* ---- a large cluster as a whole */

typedef struct Graph {
        unsigned degree[NODES_MANY], group[NODES_MANY];
} Graph;

static unsigned group_of(Graph *graph, unsigned i) {
        while (graph->group[i] != i)
                i = graph->group[i] = graph->group[graph->group[i]];
        return i;
}

/* Connections that are dialled from one side or from both; those of members are left out. */
static unsigned count_groups(const Neighbour *nodes, uint64_t epoch, Graph *graph) {
        g_autofree bool *connected = g_new0(bool, NODES_MANY * NODES_MANY);
        for (unsigned i = 0; i < NODES_MANY; i++)
                graph->group[i] = i;
        unsigned groups = NODES_MANY - MEMBERS;
        for (unsigned i = MEMBERS; i < NODES_MANY; i++) {
                NodeId chosen[NEIGHBOURS_MAX];
                size_t n = neighbours_choose(&nodes[i].id, nodes, NODES_MANY, epoch, chosen);
                for (size_t k = MEMBERS; k < n; k++) {
                        unsigned other = index_of(nodes, NODES_MANY, chosen + k);
                        if (connected[i * NODES_MANY + other])
                                continue;
                        connected[i * NODES_MANY + other] = connected[other * NODES_MANY + i] = true;
                        graph->degree[i]++;
                        graph->degree[other]++;
                        if (group_of(graph, i) == group_of(graph, other))
                                continue;
                        graph->group[group_of(graph, i)] = group_of(graph, other);
                        groups--;
                }
        }
        return groups;
}

static void test_a_thousand_nodes_are_one_whole_even_without_the_members(void) {
        g_autofree Neighbour *nodes = make_nodes(NODES_MANY);
        for (uint64_t epoch = 100; epoch < 105; epoch++) {
                g_autofree Graph *graph = g_new0(Graph, 1);
                g_assert_cmpuint(count_groups(nodes, epoch, graph), ==, 1);
                unsigned least = UINT_MAX, most = 0, sum = 0;
                for (unsigned i = MEMBERS; i < NODES_MANY; i++) {
                        least = MIN(least, graph->degree[i]);
                        most = MAX(most, graph->degree[i]);
                        sum += graph->degree[i];
                }
                g_test_message("degree %u to %u, mean %.1f", least, most, (double) sum / (NODES_MANY - MEMBERS));
                g_assert_cmpuint(least, >=, NEIGHBOURS_DIALLED);
                g_assert_cmpuint(most, <=, 4 * NEIGHBOURS_DIALLED);
                g_assert_cmpuint(sum, <=, (NODES_MANY - MEMBERS) * 2 * NEIGHBOURS_DIALLED);
        }
}

/* ---- partners */

static void test_with_few_connections_all_are_partners(void) {
        g_autofree Neighbour *nodes = make_nodes(10);
        NodeId chosen[NEIGHBOURS_ALL];
        g_assert_cmpuint(neighbours_partners(false, nodes, 0, 1, chosen), ==, 0);
        g_assert_cmpuint(neighbours_partners(false, nodes, 7, 1, chosen), ==, 7);
        g_assert_cmpuint(neighbours_partners(false, nodes, 8, 1, chosen), ==, NEIGHBOURS_PARTNERS);
}

static void test_partners_are_drawn_evenly_and_each_once(void) {
        g_autofree Neighbour *nodes = make_nodes(17);
        unsigned times[17] = {};
        for (uint64_t random = 0; random < 10000; random++) {
                NodeId chosen[NEIGHBOURS_ALL];
                g_assert_cmpuint(neighbours_partners(false, nodes, 17, random, chosen), ==, NEIGHBOURS_PARTNERS);
                for (unsigned i = 0; i < NEIGHBOURS_PARTNERS; i++) {
                        g_assert_false(has(chosen, i, chosen + i));
                        times[index_of(nodes, 17, chosen + i)]++;
                }
        }
        for (unsigned i = 0; i < 17; i++)
                if (i < MEMBERS)
                        g_assert_cmpuint(times[i], ==, 0);
                else
                        g_assert_cmpuint(ABS((int) times[i] - 3000), <, 300);
}

static void test_members_are_partners_of_each_other_and_where_nobody_else_is(void) {
        g_autofree Neighbour *nodes = make_nodes(9);
        unsigned members = 0, others = 0;
        for (uint64_t random = 0; random < 1000; random++) {
                NodeId chosen[NEIGHBOURS_ALL];
                /* Two that are no members, and seven that are. */
                g_assert_cmpuint(neighbours_partners(false, nodes, 9, random, chosen), ==, NEIGHBOURS_PARTNERS);
                g_assert_true(has(chosen, 3, &nodes[7].id) && has(chosen, 3, &nodes[8].id));
                g_assert_cmpuint(neighbours_partners(true, nodes, 9, random, chosen), ==, NEIGHBOURS_PARTNERS);
                for (unsigned i = 0; i < NEIGHBOURS_PARTNERS; i++)
                        *(index_of(nodes, 9, chosen + i) < MEMBERS ? &members : &others) += 1;
        }
        g_assert_cmpuint(members, >, 1500);
        g_assert_cmpuint(others, >, 300);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/neighbours/" #name, test_##name)
        TEST(up_to_eight_nodes_are_each_connected_with_each);
        TEST(more_are_connected_with_the_members_and_eight_others);
        TEST(a_member_dials_the_members_only);
        TEST(an_epoch_exchanges_one_at_most_and_in_time_everybody_comes);
        TEST(who_comes_or_goes_changes_one_place_at_most);
        TEST(the_order_of_the_list_does_not_count);
        TEST(a_thousand_nodes_are_one_whole_even_without_the_members);
        TEST(with_few_connections_all_are_partners);
        TEST(partners_are_drawn_evenly_and_each_once);
        TEST(members_are_partners_of_each_other_and_where_nobody_else_is);
        return g_test_run();
}
