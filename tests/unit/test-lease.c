/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <inttypes.h>

#include "core/lease.h"
#include "util/text.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define AT(ms) (UINT64_C(5000) * SECOND + (ms) * MS)
#define LEADER(n) ((NodeId) { .bytes = { (n) } })

/* One node in its 4th incarnation, with a guard, a way to the leader, and a VM. */
typedef struct Node {
        Lease lease;
        LeaseView view;
        LeaseTurn turn;
} Node;

static Node node_with(const LeaseTimes *times) {
        return (Node) {
                .lease = { .times = *times },
                .view = { .now_us = AT(0), .incarnation = 4, .needed = true, .guarded = true, .anything_lives = true,
                          .has_way = true, .longest_us = times->lease_us },
        };
}

static Node node(void) {
        return node_with(&lease_times_default);
}

/* True: it asks. */
static bool turn_at(Node *n, uint64_t at_us) {
        n->view.now_us = at_us;
        lease_turn(&n->lease, &n->view, &n->turn);
        return n->turn.ask;
}

static uint64_t ask_at(Node *n, uint64_t at_us) {
        g_assert_true(turn_at(n, at_us));
        g_assert_cmpuint(n->turn.incarnation, ==, n->view.incarnation);
        return n->turn.sequence;
}

static LeaseGrant grant_of(uint64_t sequence) {
        return (LeaseGrant) { .sequence = sequence, .incarnation = 4, .lease_us = 3 * SECOND, .leader = LEADER(1) };
}

static LeaseNews answer_at(Node *n, uint64_t at_us, LeaseGrant grant) {
        n->view.now_us = at_us;
        return lease_answered(&n->lease, &grant, &n->view);
}

#define ASSERT_NEWS(news, answer) g_assert_cmpint((answer), ==, LEASE_NEWS_##news)

/* ---- times */

static void test_the_ready_sets_of_times_are_good(void) {
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(lease_times_check(&lease_times_default, &sentence), ==, 1);
        g_assert_cmpint(lease_times_check(&lease_times_fast, &sentence), ==, 1);
        g_assert_null(sentence);
}

/* P4 stands on these. */
static void test_a_loss_is_certain_within_four_seconds_and_with_a_watchdog_within_six_and_a_half(void) {
        LeaseTimes times = lease_times_default;
        g_assert_cmpuint(times.lease_us + times.request_us + lease_times_death_us(&times), <=, 4100 * MS);
        g_assert_cmpuint(times.lease_us + lease_times_death_us(&times), <=, 4 * SECOND);
        times.watchdog_us = 2500 * MS;
        g_assert_cmpuint(times.lease_us + lease_times_death_us(&times), <=, 6500 * MS);
        g_assert_cmpuint(lease_times_fast.lease_us + lease_times_death_us(&lease_times_fast), <=, 1500 * MS);
}

static void assert_refused(LeaseTimes times, const char *word) {
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(lease_times_check(&times, &sentence), ==, 0);
        g_assert_nonnull(sentence);
        if (!strstr(sentence, word))
                g_error("\"%s\" does not name \"%s\"", sentence, word);
}

static void assert_taken(LeaseTimes times) {
        _cleanup_free_ char *sentence = NULL;
        if (lease_times_check(&times, &sentence) != 1)
                g_error("refused: %s", sentence);
}

static LeaseTimes with_request(uint64_t us) {
        LeaseTimes times = lease_times_default;
        times.request_us = us;
        return times;
}

static LeaseTimes with_kill(uint64_t us) {
        LeaseTimes times = lease_times_default;
        times.kill_us = us;
        return times;
}

static LeaseTimes with_watchdog(uint64_t us) {
        LeaseTimes times = lease_times_default;
        times.watchdog_us = us;
        return times;
}

static LeaseTimes with_drift(uint64_t ppm) {
        LeaseTimes times = lease_times_default;
        times.drift_ppm = ppm;
        return times;
}

static LeaseTimes with_hold(uint64_t us) {
        LeaseTimes times = lease_times_default;
        times.hold_us = us;
        return times;
}

static LeaseTimes with_lease(uint64_t us) {
        LeaseTimes times = lease_times_default;
        times.lease_us = us;
        return times;
}

static void test_each_bound_stands_where_it_says(void) {
        assert_taken(with_request(20 * MS));
        assert_refused(with_request(20 * MS - 1), "Request");
        assert_refused(with_request(0), "Request");
        assert_taken(with_request(1000 * MS));
        assert_refused(with_request(1000 * MS + 1), "Duration");
        assert_taken(with_lease(1500 * MS));
        assert_refused(with_lease(1500 * MS - 1), "Duration");
        assert_refused(with_lease(0), "Duration");
        assert_taken(with_kill(100 * MS));
        assert_refused(with_kill(100 * MS - 1), "KillTime");
        assert_refused(with_kill(0), "KillTime");
        assert_taken(with_watchdog(0));
        assert_taken(with_watchdog(SECOND));
        assert_refused(with_watchdog(SECOND - 1), "watchdog");
        assert_taken(with_drift(0));
        assert_taken(with_drift(10000));
        assert_refused(with_drift(10001), "Drift");
        assert_taken(with_hold(0));
        assert_taken(with_hold(600 * SECOND));
        assert_refused(with_hold(600 * SECOND + 1), "OnLeaseEnd");
        assert_taken(with_lease(59 * SECOND));
        assert_refused(with_lease(60 * SECOND), "Duration");
        assert_refused(with_kill(57 * SECOND), "KillTime");
}

static void test_no_time_is_so_long_that_it_fits_again(void) {
        static const uint64_t huge[] = { UINT64_MAX, UINT64_MAX / 2, UINT64_MAX / 2 + 1, UINT64_MAX - 3 * SECOND,
                                         UINT64_MAX / 2001, UINT64_MAX / 2002, UINT64_C(1) << 53 };
        for (size_t i = 0; i < G_N_ELEMENTS(huge); i++) {
                assert_refused(with_request(huge[i]), "Request");
                assert_refused(with_lease(huge[i]), "Duration");
                assert_refused(with_kill(huge[i]), "KillTime");
                assert_refused(with_watchdog(huge[i]), "watchdog");
                assert_refused(with_drift(huge[i]), "Drift");
                assert_refused(with_hold(huge[i]), "OnLeaseEnd");
                for (size_t k = 0; k < G_N_ELEMENTS(huge); k++) {
                        LeaseTimes times = with_kill(huge[i]);
                        times.watchdog_us = huge[k];
                        assert_refused(times, "KillTime");
                }
        }
}

/* The node's clock as slow, the leader's as fast as may be: when the leader counts lease and death as over, kill and
 * watchdog are over on the node. */
static void test_the_death_time_covers_every_two_clocks(void) {
        GRand *random = g_rand_new_with_seed(7);
        for (unsigned i = 0; i < 100000; i++) {
                LeaseTimes times = { .lease_us = (uint64_t) g_rand_int_range(random, 60000, 50000000),
                                     .kill_us = (uint64_t) g_rand_int_range(random, 100000, 5000000),
                                     .watchdog_us = i % 2 ? (uint64_t) g_rand_int_range(random, 1000000, 4000000) : 0,
                                     .drift_ppm = (uint64_t) g_rand_int_range(random, 0, 10001) };
                long double p = (long double) times.drift_ppm / 1000000.0L;
                long double truly = (long double) (times.lease_us + times.kill_us + times.watchdog_us) / (1.0L - p);
                long double waited = (long double) (times.lease_us + lease_times_death_us(&times)) / (1.0L + p);
                if (waited < truly)
                        g_error("lease %" PRIu64 " kill %" PRIu64 " watchdog %" PRIu64 " us, drift %" PRIu64
                                " ppm: %.3Lf us too early", times.lease_us, times.kill_us, times.watchdog_us,
                                times.drift_ppm, truly - waited);
                g_assert_true(waited < truly * 1.001L + 10.0L);         /* and no more than that */
        }
        g_rand_free(random);
}

/* ---- asking */

static void test_a_node_asks_at_once_and_then_in_steps(void) {
        Node n = node();
        uint64_t first = ask_at(&n, AT(0));
        g_assert_cmpuint(n.turn.wake_us, ==, AT(500));
        g_assert_false(turn_at(&n, AT(499)));
        g_assert_cmpuint(n.turn.wake_us, ==, AT(500));
        g_assert_cmpuint(ask_at(&n, AT(500)), ==, first + 1);
        g_assert_cmpuint(ask_at(&n, AT(9000)), ==, first + 2);
}

static void test_it_asks_only_with_a_name_a_way_and_a_right_to(void) {
        Node n = node();
        n.view.needed = false;
        g_assert_false(turn_at(&n, AT(0)));
        g_assert_cmpuint(n.turn.wake_us, ==, UINT64_MAX);
        n = node();
        n.view.incarnation = 0;
        g_assert_false(turn_at(&n, AT(0)));
        n = node();
        n.view.has_way = false;
        g_assert_false(turn_at(&n, AT(0)));
        n = node();
        n.view.lost = true;
        g_assert_false(turn_at(&n, AT(0)));
}

static void test_nothing_is_asked_for_what_the_guard_does_not_have(void) {
        Node n = node();
        n.view.guarded = false;
        g_assert_false(turn_at(&n, AT(0)));
        n.view.guarded = true;
        g_assert_true(turn_at(&n, AT(10)));
}

static void test_who_runs_nothing_needs_no_guard_to_ask(void) {
        Node n = node();
        n.view.guarded = n.view.anything_lives = false;
        g_assert_true(turn_at(&n, AT(0)));
        g_assert_false(turn_at(&n, AT(100)));
        g_assert_false(n.turn.end_all);
        turn_at(&n, AT(60000));
        g_assert_false(n.turn.end_all);
}

/* ---- answers */

static void test_a_lease_counts_from_the_request(void) {
        Node n = node();
        uint64_t sequence = ask_at(&n, AT(0));
        g_assert_false(lease_allows(&n.lease, AT(0), 0));
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1400), grant_of(sequence)));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3000));
        g_assert_true(lease_allows(&n.lease, AT(1400), 0));
        g_assert_true(lease_allows(&n.lease, AT(2999), 0));
        g_assert_false(lease_allows(&n.lease, AT(3000), 0));
}

static void test_nothing_is_begun_with_the_last_breath(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        g_assert_true(lease_allows(&n.lease, AT(2799), 200 * MS));
        g_assert_false(lease_allows(&n.lease, AT(2800), 200 * MS));
        g_assert_false(lease_allows(&n.lease, AT(9000), 200 * MS));
        g_assert_false(lease_allows(&n.lease, AT(0), UINT64_MAX));
}

static void test_an_answer_that_comes_after_its_lease_is_worth_nothing(void) {
        Node n = node();
        uint64_t sequence = ask_at(&n, AT(0));
        ASSERT_NEWS(NONE, answer_at(&n, AT(3000), grant_of(sequence)));
        g_assert_cmpuint(n.lease.until_us, ==, 0);
}

static void test_answers_in_any_order_leave_the_latest_end(void) {
        Node n = node();
        uint64_t first = ask_at(&n, AT(0)), second = ask_at(&n, AT(500));
        ASSERT_NEWS(LONGER, answer_at(&n, AT(600), grant_of(second)));
        ASSERT_NEWS(NONE, answer_at(&n, AT(610), grant_of(first)));
        ASSERT_NEWS(NONE, answer_at(&n, AT(620), grant_of(second)));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3500));
}

static void test_an_answer_to_no_request_is_worth_nothing(void) {
        Node n = node();
        uint64_t sequence = ask_at(&n, AT(0));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(sequence + 1)));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(sequence - 1)));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(0)));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(sequence + LEASE_ASKED_MAX)));
        n = node();
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(0)));
}

static void test_requests_of_long_ago_are_forgotten(void) {
        Node n = node();
        n.view.longest_us = 3600 * SECOND;
        uint64_t first = ask_at(&n, AT(0)), last = 0;
        for (unsigned i = 1; i <= LEASE_ASKED_MAX; i++)
                last = ask_at(&n, AT(i * 500));
        LeaseGrant grant = grant_of(first);
        grant.lease_us = 3600 * SECOND;
        ASSERT_NEWS(NONE, answer_at(&n, AT(17000), grant));
        grant.sequence = first + 1;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(17000), grant));
        grant.sequence = last;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(17000), grant));
}

static void test_a_lease_is_no_longer_than_the_registry_allows(void) {
        Node n = node();
        uint64_t sequence = ask_at(&n, AT(0));
        LeaseGrant grant = grant_of(sequence);
        grant.lease_us = 3600 * SECOND;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3000));
        n.view.longest_us = 60 * SECOND;
        sequence = ask_at(&n, AT(500));
        grant.sequence = sequence;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(501), grant));
        g_assert_cmpuint(n.lease.until_us, ==, AT(60500));
}

static void test_a_shorter_grant_takes_nothing_away(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        LeaseGrant grant = grant_of(ask_at(&n, AT(500)));
        grant.lease_us = SECOND;
        ASSERT_NEWS(NONE, answer_at(&n, AT(501), grant));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3000));
}

/* ---- lives */

static void test_a_grant_to_another_life_is_worth_nothing(void) {
        Node n = node();
        uint64_t sequence = ask_at(&n, AT(0));
        LeaseGrant grant = grant_of(sequence);
        grant.incarnation = 5;
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant));
        n.view.incarnation = 5;         /* it is in its next one by now */
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1), grant_of(sequence)));
        g_assert_false(lease_allows(&n.lease, AT(1), 0));
}

static void test_a_lease_ends_with_the_life_that_it_was_granted_to(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        n.view.incarnation = 5;
        (void) turn_at(&n, AT(100));
        g_assert_false(lease_allows(&n.lease, AT(100), 0));
}

static void test_a_lost_life_ends_at_once_and_asks_no_more(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        uint64_t before = ask_at(&n, AT(500)), sequence = ask_at(&n, AT(1000));
        LeaseGrant lost = { .sequence = sequence, .incarnation = 4, .lost = true, .leader = LEADER(1) };
        ASSERT_NEWS(LOST, answer_at(&n, AT(1001), lost));
        g_assert_false(lease_allows(&n.lease, AT(1001), 0));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1002), grant_of(before)));
        g_assert_false(lease_allows(&n.lease, AT(1002), 0));
        g_assert_false(turn_at(&n, AT(5000)));
        g_assert_true(n.turn.kill_all);
        n.view.anything_lives = false;
        g_assert_false(turn_at(&n, AT(5500)));
        g_assert_false(n.turn.kill_all);
}

static void test_the_next_life_asks_again(void) {
        Node n = node();
        LeaseGrant lost = { .sequence = ask_at(&n, AT(0)), .incarnation = 4, .lost = true, .leader = LEADER(1) };
        ASSERT_NEWS(LOST, answer_at(&n, AT(1), lost));
        n.view.incarnation = 5;
        uint64_t sequence = ask_at(&n, AT(500));
        g_assert_false(n.turn.kill_all);
        LeaseGrant grant = grant_of(sequence);
        grant.incarnation = 5;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(501), grant));
        g_assert_true(lease_allows(&n.lease, AT(501), 0));
}

static void test_a_loss_that_the_registry_tells_kills_as_well(void) {
        Node n = node();
        n.view.lost = true;
        g_assert_false(turn_at(&n, AT(0)));
        g_assert_true(n.turn.kill_all);
        n.view.needed = false;
        (void) turn_at(&n, AT(0));
        g_assert_false(n.turn.kill_all);
}

static void test_what_the_guard_has_ended_has_no_lease(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        lease_ended(&n.lease);
        g_assert_false(lease_allows(&n.lease, AT(2), 0));
        ASSERT_NEWS(LONGER, answer_at(&n, AT(501), grant_of(ask_at(&n, AT(500)))));
}

/* ---- a shorter lease */

static void test_a_lease_is_cut_to_what_it_may_be_at_most(void) {
        Node n = node();
        n.view.longest_us = 60 * SECOND;
        LeaseGrant grant = grant_of(ask_at(&n, AT(0)));
        grant.lease_us = 60 * SECOND;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant));
        g_assert_true(lease_cap(&n.lease, AT(100), 3 * SECOND));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3100));
        g_assert_false(lease_cap(&n.lease, AT(100), 3 * SECOND));
        g_assert_false(lease_cap(&n.lease, AT(200), 3 * SECOND));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3100));
}

static void test_there_is_nothing_to_cut_without_a_lease(void) {
        Node n = node();
        g_assert_false(lease_cap(&n.lease, AT(0), 0));
        g_assert_cmpuint(n.lease.until_us, ==, 0);
}

/* Granted while the cluster was frozen, and on its way ever since. */
static void test_a_long_grant_that_comes_after_the_cut_is_cut_as_well(void) {
        Node n = node();
        n.view.longest_us = 3600 * SECOND;
        LeaseGrant grant = grant_of(ask_at(&n, AT(0)));
        grant.lease_us = 3600 * SECOND;
        (void) lease_cap(&n.lease, AT(1000), 3 * SECOND);
        n.view.longest_us = 3 * SECOND;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1100), grant));
        g_assert_cmpuint(n.lease.until_us, ==, AT(3000));
}

/* ---- the guard */

static void test_a_guard_that_is_gone_for_a_moment_costs_nothing(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant_of(ask_at(&n, AT(0)))));
        n.view.guarded = false;
        (void) turn_at(&n, AT(100));
        g_assert_false(n.turn.end_all);
        g_assert_cmpuint(n.turn.wake_us, ==, AT(100) + LEASE_GUARD_PATIENCE(&n.lease.times));
        (void) turn_at(&n, n.turn.wake_us - 1);
        g_assert_false(n.turn.end_all);
        n.view.guarded = true;
        (void) turn_at(&n, AT(1100));
        g_assert_false(n.turn.end_all);
        n.view.guarded = false;
        (void) turn_at(&n, AT(1200));
        g_assert_false(n.turn.end_all);
        (void) turn_at(&n, AT(1200) + LEASE_GUARD_PATIENCE(&n.lease.times) - 1);
        g_assert_false(n.turn.end_all);
}

static void test_without_a_guard_everything_ends_while_the_lease_runs(void) {
        const LeaseTimes *all[] = { &lease_times_default, &lease_times_fast };
        for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
                Node n = node_with(all[i]);
                LeaseGrant grant = grant_of(ask_at(&n, AT(0)));
                grant.lease_us = all[i]->lease_us;
                ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant));
                n.view.guarded = false;
                (void) turn_at(&n, AT(0) + all[i]->request_us - 1);     /* it would have asked again */
                g_assert_false(n.turn.end_all);
                g_assert_false(turn_at(&n, n.turn.wake_us));
                g_assert_true(n.turn.end_all);
                g_assert_true(lease_allows(&n.lease, n.view.now_us, 0));
                (void) turn_at(&n, AT(60000));
                g_assert_true(n.turn.end_all);
        }
}

static void test_of_a_long_lease_a_guard_has_all_but_what_libvirt_needs(void) {
        Node n = node();
        n.view.longest_us = AT(60000);
        LeaseGrant grant = grant_of(ask_at(&n, AT(0)));
        grant.lease_us = 60000000;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1), grant));
        uint64_t needed_us = n.lease.times.lease_us - LEASE_GUARD_PATIENCE(&n.lease.times);
        n.view.guarded = false;
        (void) turn_at(&n, AT(100));
        g_assert_cmpuint(n.turn.wake_us, ==, n.lease.until_us - needed_us);
        (void) turn_at(&n, n.lease.until_us - needed_us - 1);
        g_assert_false(n.turn.end_all);
        (void) turn_at(&n, n.lease.until_us - needed_us);
        g_assert_true(n.turn.end_all);
}

/* ---- a clock that stands still */

/* Asked at @asked, heard by the leader when its clock showed @leader_us, answered at @answered. */
static LeaseNews exchange(Node *n, uint64_t asked, uint8_t leader, uint64_t leader_us, uint64_t answered) {
        LeaseGrant grant = grant_of(ask_at(n, asked));
        grant.leader = LEADER(leader);
        grant.leader_us = leader_us;
        return answer_at(n, answered, grant);
}

static void test_a_host_whose_clock_stood_still_kills_first(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, exchange(&n, AT(0), 1, 77 * SECOND, AT(10)));
        ASSERT_NEWS(CLOCK_BEHIND, exchange(&n, AT(500), 1, 97 * SECOND, AT(510)));
        g_assert_false(lease_allows(&n.lease, AT(510), 0));
        ASSERT_NEWS(LONGER, exchange(&n, AT(1000), 1, 97 * SECOND + 500 * MS, AT(1010)));
}

static void test_a_slow_way_is_no_clock_that_stands_still(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, exchange(&n, AT(0), 1, 77 * SECOND, AT(2000)));
        /* From before the first was sent until after the second came: 2.9 s; the leader counts as much. */
        ASSERT_NEWS(LONGER, exchange(&n, AT(2000), 1, 79 * SECOND + 900 * MS, AT(2900)));
        ASSERT_NEWS(LONGER, exchange(&n, AT(2900), 1, 79 * SECOND + 900 * MS, AT(2910)));
}

static void test_clocks_may_drift_apart_for_ever(void) {
        Node n = node();
        uint64_t leader_us = 77 * SECOND;
        for (uint64_t ms = 0; ms < 3600 * 1000; ms += 500) {
                ASSERT_NEWS(LONGER, exchange(&n, AT(ms), 1, leader_us, AT(ms + 1)));
                leader_us += 500 * MS + 500 * 2;
        }
        /* One that was asked nothing for an hour is no worse off. */
        leader_us += 3600 * SECOND + 3600 * 2000;
        ASSERT_NEWS(LONGER, exchange(&n, AT(3600 * 2000), 1, leader_us, AT(3600 * 2000 + 1)));
}

static void test_clocks_of_two_leaders_are_not_compared(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, exchange(&n, AT(0), 1, 77 * SECOND, AT(10)));
        ASSERT_NEWS(LONGER, exchange(&n, AT(500), 2, 4000 * SECOND, AT(510)));
        ASSERT_NEWS(LONGER, exchange(&n, AT(1000), 1, 90 * SECOND, AT(1010)));
}

static void test_a_leader_that_booted_anew_is_no_proof(void) {
        Node n = node();
        ASSERT_NEWS(LONGER, exchange(&n, AT(0), 1, 7777 * SECOND, AT(10)));
        ASSERT_NEWS(LONGER, exchange(&n, AT(60000), 1, 30 * SECOND, AT(60010)));
        ASSERT_NEWS(LONGER, exchange(&n, AT(60500), 1, 30 * SECOND + 500 * MS, AT(60510)));
        ASSERT_NEWS(CLOCK_BEHIND, exchange(&n, AT(61000), 1, 50 * SECOND, AT(61010)));
}

static void test_answers_that_overtake_each_other_are_no_proof(void) {
        Node n = node();
        LeaseGrant first = grant_of(ask_at(&n, AT(0))), second = grant_of(ask_at(&n, AT(500)));
        LeaseGrant third = grant_of(ask_at(&n, AT(1000)));
        first.leader_us = 77 * SECOND;
        second.leader_us = first.leader_us + 500 * MS;
        third.leader_us = first.leader_us + SECOND;
        ASSERT_NEWS(LONGER, answer_at(&n, AT(1010), third));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1020), first));
        ASSERT_NEWS(NONE, answer_at(&n, AT(1030), second));
        ASSERT_NEWS(LONGER, exchange(&n, AT(1500), 1, first.leader_us + 1500 * MS, AT(1510)));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/lease/the-ready-sets-of-times-are-good", test_the_ready_sets_of_times_are_good);
        g_test_add_func("/lease/a-loss-is-certain-within-four-seconds-and-with-a-watchdog-within-six-and-a-half",
                        test_a_loss_is_certain_within_four_seconds_and_with_a_watchdog_within_six_and_a_half);
        g_test_add_func("/lease/each-bound-stands-where-it-says", test_each_bound_stands_where_it_says);
        g_test_add_func("/lease/no-time-is-so-long-that-it-fits-again", test_no_time_is_so_long_that_it_fits_again);
        g_test_add_func("/lease/the-death-time-covers-every-two-clocks", test_the_death_time_covers_every_two_clocks);
        g_test_add_func("/lease/a-node-asks-at-once-and-then-in-steps", test_a_node_asks_at_once_and_then_in_steps);
        g_test_add_func("/lease/it-asks-only-with-a-name-a-way-and-a-right-to",
                        test_it_asks_only_with_a_name_a_way_and_a_right_to);
        g_test_add_func("/lease/nothing-is-asked-for-what-the-guard-does-not-have",
                        test_nothing_is_asked_for_what_the_guard_does_not_have);
        g_test_add_func("/lease/who-runs-nothing-needs-no-guard-to-ask", test_who_runs_nothing_needs_no_guard_to_ask);
        g_test_add_func("/lease/a-lease-counts-from-the-request", test_a_lease_counts_from_the_request);
        g_test_add_func("/lease/nothing-is-begun-with-the-last-breath", test_nothing_is_begun_with_the_last_breath);
        g_test_add_func("/lease/an-answer-that-comes-after-its-lease-is-worth-nothing",
                        test_an_answer_that_comes_after_its_lease_is_worth_nothing);
        g_test_add_func("/lease/answers-in-any-order-leave-the-latest-end",
                        test_answers_in_any_order_leave_the_latest_end);
        g_test_add_func("/lease/an-answer-to-no-request-is-worth-nothing",
                        test_an_answer_to_no_request_is_worth_nothing);
        g_test_add_func("/lease/requests-of-long-ago-are-forgotten", test_requests_of_long_ago_are_forgotten);
        g_test_add_func("/lease/a-lease-is-no-longer-than-the-registry-allows",
                        test_a_lease_is_no_longer_than_the_registry_allows);
        g_test_add_func("/lease/a-shorter-grant-takes-nothing-away", test_a_shorter_grant_takes_nothing_away);
        g_test_add_func("/lease/a-grant-to-another-life-is-worth-nothing",
                        test_a_grant_to_another_life_is_worth_nothing);
        g_test_add_func("/lease/a-lease-ends-with-the-life-that-it-was-granted-to",
                        test_a_lease_ends_with_the_life_that_it_was_granted_to);
        g_test_add_func("/lease/a-lost-life-ends-at-once-and-asks-no-more",
                        test_a_lost_life_ends_at_once_and_asks_no_more);
        g_test_add_func("/lease/the-next-life-asks-again", test_the_next_life_asks_again);
        g_test_add_func("/lease/a-loss-that-the-registry-tells-kills-as-well",
                        test_a_loss_that_the_registry_tells_kills_as_well);
        g_test_add_func("/lease/what-the-guard-has-ended-has-no-lease", test_what_the_guard_has_ended_has_no_lease);
        g_test_add_func("/lease/a-lease-is-cut-to-what-it-may-be-at-most",
                        test_a_lease_is_cut_to_what_it_may_be_at_most);
        g_test_add_func("/lease/there-is-nothing-to-cut-without-a-lease", test_there_is_nothing_to_cut_without_a_lease);
        g_test_add_func("/lease/a-long-grant-that-comes-after-the-cut-is-cut-as-well",
                        test_a_long_grant_that_comes_after_the_cut_is_cut_as_well);
        g_test_add_func("/lease/of-a-long-lease-a-guard-has-all-but-what-libvirt-needs",
                        test_of_a_long_lease_a_guard_has_all_but_what_libvirt_needs);
        g_test_add_func("/lease/a-guard-that-is-gone-for-a-moment-costs-nothing",
                        test_a_guard_that_is_gone_for_a_moment_costs_nothing);
        g_test_add_func("/lease/without-a-guard-everything-ends-while-the-lease-runs",
                        test_without_a_guard_everything_ends_while_the_lease_runs);
        g_test_add_func("/lease/a-host-whose-clock-stood-still-kills-first",
                        test_a_host_whose_clock_stood_still_kills_first);
        g_test_add_func("/lease/a-slow-way-is-no-clock-that-stands-still",
                        test_a_slow_way_is_no_clock_that_stands_still);
        g_test_add_func("/lease/clocks-may-drift-apart-for-ever", test_clocks_may_drift_apart_for_ever);
        g_test_add_func("/lease/clocks-of-two-leaders-are-not-compared", test_clocks_of_two_leaders_are_not_compared);
        g_test_add_func("/lease/a-leader-that-booted-anew-is-no-proof", test_a_leader_that_booted_anew_is_no_proof);
        g_test_add_func("/lease/answers-that-overtake-each-other-are-no-proof",
                        test_answers_that_overtake_each_other_are_no_proof);
        return g_test_run();
}
