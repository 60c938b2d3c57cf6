/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who votes. A table of nodes, an engine that does at once what it is told, and after each step the question that
 * matters: can the cluster still decide?
 *
 *      SEED=17 test-electorate         one random cluster */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "chronicle.h"
#include "core/electorate.h"
#include "core/registry-internal.h"

#define NODES_MOST 24U
#define SEEDS 20000U
#define LONG (ELECTORATE_REPLACE_AFTER_US)
#define SHORT (ELECTORATE_REPLACE_AFTER_US - 1)

typedef struct Table {
        Registry *registry;
        Elector electors[NODES_MOST];
        size_t n;
        NodeId self;
} Table;

static Table table_new(void) {
        Table t = { .self = NODE(1) };
        g_assert_cmpint(registry_new(&t.registry), ==, 0);
        return t;
}

static void table_clear(Table *t) {
        registry_free(t->registry);
}

static Elector *elector(Table *t, unsigned node) {
        NodeId id = NODE(node);
        for (size_t i = 0; i < t->n; i++)
                if (ID_EQUAL(&t->electors[i].node, &id))
                        return t->electors + i;
        g_assert_cmpuint(t->n, <, NODES_MOST);
        t->electors[t->n] = (Elector) { .node = id, .alive = true, .caught_up = true };
        return t->electors + t->n++;
}

static NodeRecord *seat_member(Table *t, unsigned node, ElectorRole role, const char *address) {
        NodeRecord record = { .id = NODE(node), .joined_index = node };
        size_t place;
        g_assert_cmpint(text_list_add(&record.addresses, address), ==, 0);
        g_assert_false(registry_node_place(t->registry, &record.id, &place));
        g_assert_cmpint(array_insert(&t->registry->nodes, place, &record), ==, 0);
        elector(t, node)->role = role;
        return t->registry->nodes.items + place;
}

/* Members 1 to @n, the first @voters of which vote, and the next @standbys stand by; each in a network of its own. */
static Table table_of(unsigned n, unsigned voters, unsigned standbys) {
        Table t = table_new();
        for (unsigned i = 1; i <= n; i++) {
                g_autofree char *address = g_strdup_printf("10.0.%u.1:7411", i);
                (void) seat_member(&t, i, i <= voters ? ELECTOR_VOTER : i <= voters + standbys ? ELECTOR_STANDBY :
                                   ELECTOR_NONE, address);
        }
        return t;
}

static void silence(Table *t, unsigned node, uint64_t silent_us) {
        elector(t, node)->alive = false;
        elector(t, node)->silent_us = silent_us;
}

static ElectorateChange next(const Table *t) {
        Electorate electorate = { .registry = t->registry, .electors = t->electors, .n_electors = t->n,
                                  .self = t->self };
        ElectorateChange change;
        g_assert_cmpint(electorate_next(&electorate, &change), ==, 0);
        return change;
}

static size_t count(const Table *t, ElectorRole role, bool alive_only) {
        size_t n = 0;
        for (size_t i = 0; i < t->n; i++)
                n += t->electors[i].role == role && (t->electors[i].alive || !alive_only);
        return n;
}

static bool is_quorate(const Table *t) {
        return 2 * count(t, ELECTOR_VOTER, true) > count(t, ELECTOR_VOTER, false);
}

/* Does what it is told until nothing is left to do. Returns the number of steps. */
static unsigned settle(Table *t) {
        for (unsigned steps = 0;; steps++) {
                ElectorateChange change = next(t);
                if (change.step == ELECTORATE_IDLE)
                        return steps;
                g_assert_cmpuint(steps, <, t->n + 10);
                Elector *told = NULL;
                for (size_t i = 0; i < t->n; i++)
                        if (ID_EQUAL(&t->electors[i].node, &change.node))
                                told = t->electors + i;
                g_assert_nonnull(told);
                if (change.step == ELECTORATE_TRANSFER) {
                        g_assert_true(told->alive && told->role == ELECTOR_VOTER);
                        g_assert_false(ID_EQUAL(&t->self, &told->node));
                        t->self = told->node;
                        continue;
                }
                g_assert_cmpint(told->role, !=, change.role);
                g_assert_true(change.role != ELECTOR_VOTER || (told->role == ELECTOR_STANDBY && told->alive));
                g_assert_false(ID_EQUAL(&t->self, &told->node));
                told->role = change.role;
                g_assert_true(is_quorate(t));
        }
}

#define ASSERT_STEP(t, number, wanted)                                                  \
        do {                                                                            \
                ElectorateChange _change = next(t);                                     \
                NodeId _id = NODE(number);                                              \
                g_assert_cmpint(_change.step, ==, ELECTORATE_ASSIGN);                   \
                g_assert_cmpint(_change.role, ==, ELECTOR_##wanted);                    \
                g_assert_true(ID_EQUAL(&_change.node, &_id));                           \
                elector((t), (number))->role = _change.role;                            \
        } while (0)
#define ASSERT_IDLE(t) g_assert_cmpint(next(t).step, ==, ELECTORATE_IDLE)

static void test_a_cluster_has_as_many_voters_as_its_size_wants(void) {
        static const size_t voters[] = { 0, 1, 2, 3, 3, 5, 5, 5, 5, 5 }, standbys[] = { 0, 0, 0, 0, 1, 0, 1, 2, 2, 2 };
        for (unsigned n = 1; n < ELEMENTS(voters); n++) {
                _cleanup_(table_clear) Table t = table_of(n, 1, 0);
                g_assert_cmpuint(majority_voters(n), ==, voters[n]);
                (void) settle(&t);
                g_assert_cmpuint(count(&t, ELECTOR_VOTER, false), ==, voters[n]);
                g_assert_cmpuint(count(&t, ELECTOR_STANDBY, false), ==, standbys[n]);
        }
}

static void test_a_node_stands_by_before_it_votes(void) {
        _cleanup_(table_clear) Table t = table_of(2, 1, 0);
        ASSERT_STEP(&t, 2, STANDBY);
        ASSERT_STEP(&t, 2, VOTER);
        ASSERT_IDLE(&t);
}

static void test_who_is_silent_is_not_taken_in(void) {
        _cleanup_(table_clear) Table t = table_of(3, 2, 0);
        silence(&t, 3, 0);
        ASSERT_IDLE(&t);
        elector(&t, 3)->role = ELECTOR_STANDBY;
        ASSERT_IDLE(&t);
}

static void test_a_voter_that_is_silent_for_long_gives_its_place_to_a_standby(void) {
        _cleanup_(table_clear) Table t = table_of(4, 3, 1);
        silence(&t, 2, SHORT);
        ASSERT_IDLE(&t);
        silence(&t, 2, LONG);
        ASSERT_STEP(&t, 2, STANDBY);
        ASSERT_STEP(&t, 4, VOTER);
        ASSERT_STEP(&t, 2, NONE);
        ASSERT_IDLE(&t);
        /* It comes back: there is room for a standby. */
        elector(&t, 2)->alive = true;
        ASSERT_STEP(&t, 2, STANDBY);
        ASSERT_IDLE(&t);
}

static void test_a_lost_voter_stays_until_a_standby_has_caught_up(void) {
        _cleanup_(table_clear) Table t = table_of(6, 3, 2);
        silence(&t, 2, LONG);
        elector(&t, 4)->caught_up = elector(&t, 5)->caught_up = false;
        ElectorateChange change = next(&t);
        NodeId free_place = NODE(4);
        /* Six want five voters: one place is free, and who is behind may have that. */
        g_assert_true(change.role == ELECTOR_VOTER && ID_EQUAL(&change.node, &free_place));
        elector(&t, 4)->role = elector(&t, 5)->role = ELECTOR_VOTER;
        elector(&t, 6)->role = ELECTOR_STANDBY;
        elector(&t, 6)->caught_up = false;
        ASSERT_IDLE(&t);
        elector(&t, 6)->caught_up = true;
        ASSERT_STEP(&t, 2, STANDBY);
        ASSERT_STEP(&t, 6, VOTER);
}

static void test_the_standby_that_has_caught_up_votes_before_one_that_has_not(void) {
        _cleanup_(table_clear) Table t = table_of(7, 5, 2);
        silence(&t, 2, LONG);
        elector(&t, 6)->caught_up = false;
        ASSERT_STEP(&t, 2, STANDBY);
        ASSERT_STEP(&t, 7, VOTER);
}

static void test_a_lost_voter_that_comes_back_between_the_two_steps_votes_again_if_the_standby_dies(void) {
        _cleanup_(table_clear) Table t = table_of(4, 3, 1);
        silence(&t, 2, LONG);
        ASSERT_STEP(&t, 2, STANDBY);
        silence(&t, 4, SHORT);
        elector(&t, 2)->alive = true;
        ASSERT_STEP(&t, 2, VOTER);
        ASSERT_IDLE(&t);
}

/* Hosts as bits of a set: are those that are not in @dead a majority of @voters? */
static bool decides(unsigned voters, unsigned dead) {
        return 2 * __builtin_popcount(voters & ~dead) > __builtin_popcount(voters);
}

static unsigned voters_of(const Table *t) {
        unsigned voters = 0;
        for (size_t i = 0; i < t->n; i++)
                voters |= t->electors[i].role == ELECTOR_VOTER ? 1U << i : 0;
        return voters;
}

/* 3, 4 or 5 voters, each set of them lost that leaves a quorum, and a standby. Until all is settled: whatever set of
 * hosts dies at any moment, if the cluster would have gone on from where it began, it goes on; and also if it would
 * with the standby being given its vote first. */
static void test_no_further_death_at_any_moment_of_a_replacement_costs_a_quorum_that_was_there(void) {
        for (unsigned n_voters = 3; n_voters <= 5; n_voters++)
                for (unsigned lost = 2; lost < 1U << n_voters; lost += 2) {
                        unsigned first = (1U << n_voters) - 1, standby = 1U << n_voters, moments = 0;
                        if (!decides(first, lost))
                                continue;
                        _cleanup_(table_clear) Table t = table_of(n_voters + 1, n_voters, 1);
                        for (unsigned i = 0; i < n_voters; i++)
                                if (lost & 1U << i)
                                        silence(&t, i + 1, LONG);
                        for (ElectorateChange change; (change = next(&t)).step != ELECTORATE_IDLE; moments++) {
                                g_assert_cmpint(change.step, ==, ELECTORATE_ASSIGN);
                                for (unsigned i = 1; i <= n_voters + 1; i++) {
                                        NodeId id = NODE(i);
                                        if (ID_EQUAL(&id, &change.node))
                                                elector(&t, i)->role = change.role;
                                }
                                unsigned now = voters_of(&t);
                                for (unsigned more = 0; more < standby << 1; more++) {
                                        unsigned dead = lost | more;
                                        g_assert_true(decides(now, dead) || !decides(first, dead));
                                        g_assert_true(decides(now, dead) || !decides(first | standby, dead));
                                }
                        }
                        g_assert_cmpuint(moments, >=, 2);
                        g_assert_true(voters_of(&t) & standby);
                }
}

static void test_a_silent_voter_stays_when_nobody_can_take_its_place(void) {
        _cleanup_(table_clear) Table t = table_of(3, 3, 0);
        silence(&t, 2, LONG);
        ASSERT_IDLE(&t);
}

static void test_patience_is_a_setting(void) {
        _cleanup_(table_clear) Table t = table_of(4, 3, 1);
        silence(&t, 2, 1000);
        Electorate electorate = { .registry = t.registry, .electors = t.electors, .n_electors = t.n, .self = t.self,
                                  .replace_after_us = 1000 };
        ElectorateChange change;
        g_assert_cmpint(electorate_next(&electorate, &change), ==, 0);
        g_assert_cmpint(change.step, ==, ELECTORATE_ASSIGN);
}

static void test_a_removed_node_leaves_the_engine_at_once(void) {
        _cleanup_(table_clear) Table t = table_of(3, 3, 0);
        elector(&t, 9)->role = ELECTOR_VOTER;
        elector(&t, 8)->role = ELECTOR_STANDBY;
        silence(&t, 9, 0);
        ASSERT_STEP(&t, 9, NONE);
        ASSERT_STEP(&t, 8, NONE);
        ASSERT_IDLE(&t);
}

static void test_a_leader_that_was_removed_hands_over_first(void) {
        _cleanup_(table_clear) Table t = table_of(3, 3, 0);
        elector(&t, 9)->role = ELECTOR_VOTER;
        t.self = NODE(9);
        silence(&t, 1, 0);
        ElectorateChange change = next(&t);
        NodeId heir = NODE(2);
        g_assert_cmpint(change.step, ==, ELECTORATE_TRANSFER);
        g_assert_true(ID_EQUAL(&change.node, &heir));
        t.self = heir;
        ASSERT_STEP(&t, 9, NONE);
        ASSERT_IDLE(&t);
}

static void test_a_leader_that_was_removed_makes_an_heir_first(void) {
        _cleanup_(table_clear) Table t = table_of(2, 0, 0);
        elector(&t, 9)->role = ELECTOR_VOTER;
        t.self = NODE(9);
        ASSERT_STEP(&t, 1, STANDBY);
        ASSERT_STEP(&t, 1, VOTER);
        g_assert_cmpint(next(&t).step, ==, ELECTORATE_TRANSFER);
}

static void test_nothing_is_done_that_would_cost_the_quorum(void) {
        /* Two of three are heard; without the one that was removed it would be one of two. */
        _cleanup_(table_clear) Table t = table_of(3, 2, 0);
        elector(&t, 9)->role = ELECTOR_VOTER;
        silence(&t, 2, 0);
        silence(&t, 3, 0);
        ASSERT_IDLE(&t);
        elector(&t, 3)->alive = true;
        ASSERT_STEP(&t, 3, STANDBY);
        ASSERT_STEP(&t, 3, VOTER);
        ASSERT_STEP(&t, 9, NONE);
        ASSERT_IDLE(&t);
}

static void test_without_a_quorum_nothing_is_done(void) {
        _cleanup_(table_clear) Table t = table_of(4, 3, 1);
        silence(&t, 2, LONG);
        silence(&t, 3, LONG);
        ASSERT_IDLE(&t);
}

static void test_a_smaller_cluster_has_fewer_voters(void) {
        _cleanup_(table_clear) Table t = table_of(4, 4, 0);
        ASSERT_STEP(&t, 4, STANDBY);
        ASSERT_IDLE(&t);
        t.self = NODE(4);
        elector(&t, 4)->role = ELECTOR_VOTER;
        ASSERT_STEP(&t, 3, STANDBY);            /* the leader is not sent away */
        ASSERT_IDLE(&t);
}

static void test_a_standby_that_is_lost_gives_its_place_to_a_reader(void) {
        _cleanup_(table_clear) Table t = table_of(8, 5, 2);
        silence(&t, 7, LONG);
        ASSERT_STEP(&t, 7, NONE);
        ASSERT_STEP(&t, 8, STANDBY);
        ASSERT_IDLE(&t);
        elector(&t, 7)->alive = true;           /* it comes back, and there is no room */
        ASSERT_IDLE(&t);
}

static void test_a_spare_stands_by(void) {
        _cleanup_(table_clear) Table t = table_of(4, 3, 0);
        elector(&t, 4)->role = ELECTOR_SPARE;
        ASSERT_STEP(&t, 4, STANDBY);
        ASSERT_IDLE(&t);
}

/* ---- preferences */

static void test_a_witness_votes_before_others(void) {
        _cleanup_(table_clear) Table t = table_of(4, 2, 2);
        t.registry->nodes.items[3].witness = true;
        ASSERT_STEP(&t, 4, VOTER);
        ASSERT_IDLE(&t);
}

static void test_voters_are_spread_over_networks(void) {
        _cleanup_(table_clear) Table t = table_new();
        (void) seat_member(&t, 1, ELECTOR_VOTER, "10.0.1.1:7411");
        (void) seat_member(&t, 2, ELECTOR_VOTER, "10.0.2.1:7411");
        (void) seat_member(&t, 3, ELECTOR_STANDBY, "10.0.1.2:7411");
        (void) seat_member(&t, 4, ELECTOR_STANDBY, "10.0.3.1:7411");
        ASSERT_STEP(&t, 4, VOTER);
        ASSERT_IDLE(&t);
}

static void test_networks_are_told_apart_by_their_prefix(void) {
        static const char *const pairs[][3] = {
                /* of the voter; of the one beside it; of the one elsewhere */
                { "[fd77::1]:7411", "[fd77:0:0:0:9::2]:7411", "[fd77:0:0:1::1]:7411" },
                { "[fd77:1:2:3:4:5:6:7]:7411", "[fd77:1:2:3::1]:7411", "[::1]:7411" },
                { "fd77::1", "fd77::2", "fd78::1" },
                { "[0:0:0:1::9]:7411", "[::1:2:3:4:5]:7411", "[::2:3:4:5]:7411" },
                { "10.0.1.1", "10.0.1.255:7411", "10.1.1.1:7411" },
                { "10.0.1.1", "10.0.1.2", "name:7411" },
                { "10.0.1.1", "10.0.1.2", "10.0.1.256" },
                { "10.0.1.1", "10.0.1.2", "[a00:1::]:7411" },
        };
        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                _cleanup_(table_clear) Table t = table_new();
                (void) seat_member(&t, 1, ELECTOR_VOTER, pairs[i][0]);
                (void) seat_member(&t, 2, ELECTOR_STANDBY, pairs[i][1]);
                (void) seat_member(&t, 3, ELECTOR_STANDBY, pairs[i][2]);
                ASSERT_STEP(&t, 3, VOTER);
        }
}

static void test_of_equals_the_one_that_joined_first_votes(void) {
        _cleanup_(table_clear) Table t = table_of(4, 2, 2);
        t.registry->nodes.items[2].joined_index = 100;
        ASSERT_STEP(&t, 4, VOTER);
}

static void test_what_is_well_stays_as_it_is(void) {
        _cleanup_(table_clear) Table t = table_new();
        for (unsigned i = 1; i <= 7; i++)
                (void) seat_member(&t, i, i <= 5 ? ELECTOR_VOTER : ELECTOR_STANDBY, i <= 5 ? "10.0.1.1" : "10.0.2.1");
        t.registry->nodes.items[6].witness = true;
        ASSERT_IDLE(&t);
}

/* ---- any cluster */

static Table random_table(GRand *random) {
        Table t = table_new();
        unsigned n = (unsigned) g_rand_int_range(random, 1, 14), strangers = (unsigned) g_rand_int_range(random, 0, 4);
        for (unsigned i = 1; i <= n + strangers; i++) {
                g_autofree char *address = g_strdup_printf("10.0.%d.1", g_rand_int_range(random, 0, 4));
                ElectorRole role = (ElectorRole) g_rand_int_range(random, ELECTOR_NONE, ELECTOR_VOTER + 1);
                if (i <= n)
                        seat_member(&t, i, role, address)->witness = g_rand_int_range(random, 0, 8) == 0;
                else
                        elector(&t, i)->role = role;
                if (g_rand_int_range(random, 0, 4) == 0)
                        silence(&t, i, g_rand_boolean(random) ? LONG : SHORT);
        }
        t.self = NODE((unsigned) g_rand_int_range(random, 1, (gint32) (n + strangers + 1)));
        for (size_t i = 0; i < t.n; i++)
                if (ID_EQUAL(&t.electors[i].node, &t.self)) {
                        t.electors[i].role = ELECTOR_VOTER;
                        t.electors[i].alive = true;
                }
        return t;
}

static guint32 current_seed;

static void on_abort(int signal_number) {
        char line[128];
        int n = snprintf(line, sizeof(line), "# replay with: SEED=%u test-electorate\n", current_seed);
        if (write(STDOUT_FILENO, line, (size_t) n) < 0)
                _exit(2);
        (void) signal(signal_number, SIG_DFL);
        (void) raise(signal_number);
}

static void run(guint32 seed) {
        GRand *random = g_rand_new_with_seed(seed);
        _cleanup_(table_clear) Table t = random_table(random);
        g_rand_free(random);
        if (!is_quorate(&t)) {
                ASSERT_IDLE(&t);
                return;
        }
        (void) settle(&t);
        /* Time passes; who is silent stays so. */
        for (size_t i = 0; i < t.n; i++)
                t.electors[i].silent_us = LONG;
        (void) settle(&t);

        size_t members = t.registry->nodes.n, live = 0, lost_voters = 0;
        for (size_t i = 0; i < t.n; i++) {
                const Elector *e = t.electors + i;
                bool member = registry_find_node(t.registry, &e->node);
                live += member && e->alive;
                lost_voters += e->role == ELECTOR_VOTER && !e->alive;
                g_assert_cmpint(e->role, !=, ELECTOR_SPARE);
        }
        g_assert_cmpuint(count(&t, ELECTOR_VOTER, false), <=, VOTERS_MAX);
        if (live < majority_voters(members))
                return;
        /* Enough are heard: none that is lost votes, and no stranger is left. */
        g_assert_cmpuint(count(&t, ELECTOR_VOTER, false), ==, majority_voters(members));
        g_assert_cmpuint(lost_voters, ==, 0);
        for (size_t i = 0; i < t.n; i++)
                g_assert_true(t.electors[i].role == ELECTOR_NONE ||
                              registry_find_node(t.registry, &t.electors[i].node));
        size_t others = live - count(&t, ELECTOR_VOTER, true);
        size_t standbys = count(&t, ELECTOR_STANDBY, false);
        size_t wanted = members - majority_voters(members) < ELECTORATE_STANDBYS_MAX ?
                members - majority_voters(members) : ELECTORATE_STANDBYS_MAX;
        g_assert_cmpuint(standbys, <=, wanted);
        g_assert_cmpuint(standbys, >=, others < wanted ? others : wanted);
}

static void test_any_cluster_comes_to_rest_and_never_loses_its_quorum(void) {
        const char *one = g_getenv("SEED");
        guint32 first = one ? (guint32) g_ascii_strtoull(one, NULL, 10) : 1, last = one ? first : SEEDS;
        for (current_seed = first; current_seed <= last; current_seed++)
                run(current_seed);
}

int main(int argc, char **argv) {
        (void) signal(SIGABRT, on_abort);
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/electorate/" #name, test_##name)
        TEST(a_cluster_has_as_many_voters_as_its_size_wants);
        TEST(a_node_stands_by_before_it_votes);
        TEST(who_is_silent_is_not_taken_in);
        TEST(a_voter_that_is_silent_for_long_gives_its_place_to_a_standby);
        TEST(a_lost_voter_stays_until_a_standby_has_caught_up);
        TEST(the_standby_that_has_caught_up_votes_before_one_that_has_not);
        TEST(a_lost_voter_that_comes_back_between_the_two_steps_votes_again_if_the_standby_dies);
        TEST(no_further_death_at_any_moment_of_a_replacement_costs_a_quorum_that_was_there);
        TEST(a_silent_voter_stays_when_nobody_can_take_its_place);
        TEST(patience_is_a_setting);
        TEST(a_removed_node_leaves_the_engine_at_once);
        TEST(a_leader_that_was_removed_hands_over_first);
        TEST(a_leader_that_was_removed_makes_an_heir_first);
        TEST(nothing_is_done_that_would_cost_the_quorum);
        TEST(without_a_quorum_nothing_is_done);
        TEST(a_smaller_cluster_has_fewer_voters);
        TEST(a_standby_that_is_lost_gives_its_place_to_a_reader);
        TEST(a_spare_stands_by);
        TEST(a_witness_votes_before_others);
        TEST(voters_are_spread_over_networks);
        TEST(networks_are_told_apart_by_their_prefix);
        TEST(of_equals_the_one_that_joined_first_votes);
        TEST(what_is_well_stays_as_it_is);
        TEST(any_cluster_comes_to_rest_and_never_loses_its_quorum);
        return g_test_run();
}
