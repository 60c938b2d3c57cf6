/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chronicle.h"
#include "core/lease-book.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define AT(ms) (UINT64_C(5000) * SECOND + (ms) * MS)
#define LEASE_MS TEST_LEASE_MS
#define DEATH_MS TEST_DEATH_MS
#define SPAN_MS (LEASE_MS + DEATH_MS)
#define TERM 7U

/* A leader, and its cluster of nodes 1 and 2 and a witness; VM 1 runs on node 1. */
typedef struct Leader {
        Chronicle c;
        LeaseBook book;
        uint64_t now_us;
} Leader;

static void leader_clear(Leader *l) {
        chronicle_clear(&l->c);
        lease_book_clear(&l->book);
}

static void follow_at(Leader *l, uint64_t at_us) {
        g_assert_cmpuint(at_us, >=, l->now_us);
        l->now_us = at_us;
        g_assert_cmpint(lease_book_follow(&l->book, l->c.registry, at_us), ==, 0);
}

static void elect_at(Leader *l, uint64_t term, uint64_t at_us) {
        lease_book_lead(&l->book, true, term, at_us);
        follow_at(l, at_us);
}

static Leader leader_at(uint64_t at_us) {
        Leader l = { .c = chronicle_of_a_pair() };
        elect_at(&l, TERM, at_us);
        return l;
}

static LeaseVerdict ask_between(Leader *l, unsigned node, uint64_t incarnation, uint64_t arrived_us, uint64_t at_us,
                                uint64_t *ret_lease_us) {
        NodeId id = NODE(node);
        uint64_t lease_us = 0;
        follow_at(l, at_us);
        LeaseVerdict verdict = lease_book_asked(&l->book, l->c.registry, &id, incarnation, arrived_us, at_us,
                                                &lease_us);
        g_assert_true(verdict == LEASE_GRANTED || lease_us == 0);
        if (ret_lease_us)
                *ret_lease_us = lease_us;
        return verdict;
}

static LeaseVerdict ask_at(Leader *l, unsigned node, uint64_t at_us) {
        return ask_between(l, node, node_told(&l->c, node)->incarnation, at_us, at_us, NULL);
}

#define ASSERT_GRANTED(asking) g_assert_cmpint((asking), ==, LEASE_GRANTED)
#define ASSERT_LOST(asking) g_assert_cmpint((asking), ==, LEASE_LOST)
#define ASSERT_NOT_NOW(asking) g_assert_cmpint((asking), ==, LEASE_REFUSED)

/* Nobody can be declared lost; something can at @wake_us by time alone. */
static void assert_nobody_lost_at(Leader *l, uint64_t at_us, uint64_t wake_us) {
        Loss loss;
        uint64_t wake = 1;
        follow_at(l, at_us);
        g_assert_false(lease_book_next_loss(&l->book, l->c.registry, at_us, &loss, &wake));
        g_assert_cmpuint(wake, ==, wake_us);
}

static void assert_lost_at(Leader *l, uint64_t at_us, unsigned node, LossEvidence evidence) {
        Loss loss;
        NodeId id = NODE(node);
        uint64_t wake;
        follow_at(l, at_us);
        g_assert_true(lease_book_next_loss(&l->book, l->c.registry, at_us, &loss, &wake));
        g_assert_true(ID_EQUAL(&loss.node, &id));
        g_assert_cmpuint(loss.incarnation, ==, node_told(&l->c, node)->incarnation);
        g_assert_cmpint(loss.evidence, ==, evidence);
}

static void condemn(Leader *l, unsigned node) {
        NodeId id = NODE(node);
        lease_book_condemn(&l->book, &id);
}

static void spare(Leader *l, unsigned node) {
        NodeId id = NODE(node);
        lease_book_spare(&l->book, &id);
}

static void power_off(Leader *l, unsigned node, uint64_t incarnation) {
        NodeId id = NODE(node);
        lease_book_powered_off(&l->book, &id, incarnation);
}

static uint64_t silent_at(Leader *l, unsigned node, uint64_t at_us) {
        NodeId id = NODE(node);
        follow_at(l, at_us);
        return lease_book_silent_us(&l->book, &id, at_us);
}

/* Node 2 asks, so that the book's next concern is node 1. */
static void keep_other(Leader *l, uint64_t at_us) {
        ASSERT_GRANTED(ask_at(l, 2, at_us));
}

/* ---- granting */

static void test_who_asks_gets_what_it_announced(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        uint64_t lease_us;
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(10), AT(20), &lease_us));
        g_assert_cmpuint(lease_us, ==, LEASE_MS * MS);
}

static void test_who_does_not_lead_grants_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        lease_book_lead(&l.book, false, TERM, AT(10));
        ASSERT_NOT_NOW(ask_at(&l, 1, AT(20)));
        assert_nobody_lost_at(&l, AT(60000), UINT64_MAX);
        g_assert_cmpuint(silent_at(&l, 1, AT(60000)), ==, 0);
}

static void test_a_stranger_is_granted_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_NOT_NOW(ask_between(&l, 9, 1, AT(1), AT(1), NULL));
        ASSERT_NOT_NOW(ask_between(&l, 3, 1, AT(2), AT(2), NULL));      /* the witness */
        ASSERT_DONE(tell_node(&l.c, 4, "c", 1, "boot-c"));      /* has announced no lease */
        ASSERT_NOT_NOW(ask_between(&l, 4, 1, AT(3), AT(3), NULL));
}

static void test_a_life_that_is_over_is_told_so(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lost(&l.c, 1, LOSS_BY_LEASE));
        ASSERT_LOST(ask_between(&l, 1, 1, AT(1), AT(1), NULL));
        ASSERT_DONE(tell_back(&l.c, 1, false));
        ASSERT_LOST(ask_between(&l, 1, 1, AT(2), AT(2), NULL));
        ASSERT_GRANTED(ask_between(&l, 1, 2, AT(3), AT(3), NULL));
}

/* The registry that this leader has is what was committed when it was confirmed; so the node only thinks so. */
static void test_a_life_that_was_not_announced_is_granted_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_NOT_NOW(ask_between(&l, 1, 2, AT(1), AT(1), NULL));
        assert_lost_at(&l, AT(SPAN_MS), 1, LOSS_BY_LEASE);
}

static void test_who_was_removed_is_granted_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_node(&l.c, 4, "c", 1, "boot-c"));
        ASSERT_DONE(tell_lease(&l.c, 4, LEASE_MS, DEATH_MS));
        ASSERT_GRANTED(ask_at(&l, 4, AT(1)));
        ASSERT_DONE(tell_node_removed(&l.c, 4));
        ASSERT_NOT_NOW(ask_between(&l, 4, 1, AT(2), AT(2), NULL));
        ASSERT_GRANTED(ask_at(&l, 1, AT(3)));
        ASSERT_GRANTED(ask_at(&l, 2, AT(3)));
        assert_nobody_lost_at(&l, AT(100), AT(3 + SPAN_MS));
}

/* ---- losses by time */

static void test_who_asks_no_more_is_lost_when_all_its_margins_are_over(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(5000), AT(5900), NULL));
        keep_other(&l, AT(6000));
        assert_nobody_lost_at(&l, AT(5000 + SPAN_MS) - 1, AT(5000 + SPAN_MS));
        assert_lost_at(&l, AT(5000 + SPAN_MS), 1, LOSS_BY_LEASE);
}

static void test_a_new_leader_waits_as_long_as_a_lease_can_last(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        assert_nobody_lost_at(&l, AT(SPAN_MS) - 1, AT(SPAN_MS));
        assert_lost_at(&l, AT(SPAN_MS), 1, LOSS_BY_LEASE);
}

static void test_another_term_is_another_book(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        condemn(&l, 1);
        power_off(&l, 2, 1);
        lease_book_lead(&l.book, true, TERM, AT(1000));         /* nothing new */
        assert_lost_at(&l, AT(1000), 2, LOSS_BY_POWER_OFF);
        elect_at(&l, TERM + 2, AT(2000));
        ASSERT_GRANTED(ask_at(&l, 1, AT(2001)));
        assert_nobody_lost_at(&l, AT(2000 + SPAN_MS) - 1, AT(2000 + SPAN_MS));
        lease_book_lead(&l.book, false, TERM + 3, AT(5000));
        elect_at(&l, TERM + 4, AT(9000));
        assert_nobody_lost_at(&l, AT(9000 + SPAN_MS) - 1, AT(9000 + SPAN_MS));
}

/* It was granted before the answer was given; the election before it does not shorten it. */
static void test_an_old_request_does_not_shorten_what_stands(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_GRANTED(ask_at(&l, 1, AT(5000)));
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(4000), AT(5001), NULL));
        keep_other(&l, AT(5002));
        assert_nobody_lost_at(&l, AT(5003), AT(5000 + SPAN_MS));
}

static void test_a_slow_confirmation_counts_from_the_request(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(3000), AT(3500), NULL));
        keep_other(&l, AT(3500));
        assert_nobody_lost_at(&l, AT(3600), AT(3000 + SPAN_MS));
}

static void test_a_node_that_comes_later_is_waited_for_from_then_on(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        for (uint64_t ms = 0; ms <= 10000; ms += 1000) {
                ASSERT_GRANTED(ask_at(&l, 1, AT(ms)));
                ASSERT_GRANTED(ask_at(&l, 2, AT(ms)));
        }
        ASSERT_DONE(tell_node(&l.c, 4, "c", 1, "boot-c"));
        ASSERT_DONE(tell_lease(&l.c, 4, 1000, 200));
        assert_nobody_lost_at(&l, AT(10500), AT(11700));
        assert_lost_at(&l, AT(11700), 4, LOSS_BY_LEASE);
}

static void test_a_vm_on_a_node_without_a_lease_keeps_it(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 1, 0, 0));
        keep_other(&l, AT(3600000));
        assert_nobody_lost_at(&l, AT(3600000), AT(3600000 + SPAN_MS));
}

static void test_who_never_announces_a_lease_is_lost_after_a_while(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 1, 0, 0));
        ASSERT_DONE(tell_lease(&l.c, 2, 0, 0));
        assert_nobody_lost_at(&l, AT(0), AT(LEASE_ANNOUNCED_WITHIN_MS));
        g_assert_cmpuint(silent_at(&l, 2, AT(9000)), ==, 0);    /* so no agent is set on it */
        assert_nobody_lost_at(&l, AT(9000), AT(LEASE_ANNOUNCED_WITHIN_MS));
        assert_lost_at(&l, AT(LEASE_ANNOUNCED_WITHIN_MS), 2, LOSS_BY_LEASE);
}

static void test_who_announces_its_lease_late_is_waited_for_from_then_on(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 2, 0, 0));
        ASSERT_GRANTED(ask_at(&l, 1, AT(9000)));
        ASSERT_DONE(tell_lease(&l.c, 2, LEASE_MS, DEATH_MS));
        ASSERT_GRANTED(ask_at(&l, 1, AT(9100)));
        assert_nobody_lost_at(&l, AT(9100), AT(9100 + SPAN_MS));
        assert_lost_at(&l, AT(9100 + SPAN_MS), 1, LOSS_BY_LEASE);
        condemn(&l, 1);
        assert_lost_at(&l, AT(9100 + SPAN_MS), 2, LOSS_BY_LEASE);
}

static void test_a_vm_of_before_leases_keeps_its_node(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        l.c.registry->vms.items[0].assignment.leased = false;
        assert_lost_at(&l, AT(SPAN_MS), 2, LOSS_BY_LEASE);
        condemn(&l, 2);
        assert_nobody_lost_at(&l, AT(3600000), UINT64_MAX);
        power_off(&l, 1, 1);
        assert_lost_at(&l, AT(3600000), 1, LOSS_BY_POWER_OFF);
}

static void test_who_is_lost_is_not_lost_again(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lost(&l.c, 1, LOSS_BY_WORD));
        keep_other(&l, AT(100000));
        assert_nobody_lost_at(&l, AT(100000), AT(100000 + SPAN_MS));
}

static void test_the_next_life_begins_anew(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        condemn(&l, 1);
        power_off(&l, 1, 1);
        ASSERT_DONE(tell_lost(&l.c, 1, LOSS_BY_POWER_OFF));
        ASSERT_DONE(tell_back(&l.c, 1, true));
        keep_other(&l, AT(50000));
        assert_nobody_lost_at(&l, AT(50000), AT(50000 + SPAN_MS));
        ASSERT_GRANTED(ask_at(&l, 1, AT(50001)));
        assert_nobody_lost_at(&l, AT(50001), AT(50000 + SPAN_MS));
}

/* ---- condemned */

static void test_who_is_about_to_be_lost_gets_no_lease(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        keep_other(&l, AT(SPAN_MS));
        assert_lost_at(&l, AT(SPAN_MS), 1, LOSS_BY_LEASE);
        condemn(&l, 1);
        ASSERT_NOT_NOW(ask_between(&l, 1, 1, AT(SPAN_MS - 1), AT(SPAN_MS), NULL));
        assert_nobody_lost_at(&l, AT(SPAN_MS + 1), AT(2 * SPAN_MS));    /* it was said once */
}

static void test_who_is_spared_gets_leases_again(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        keep_other(&l, AT(SPAN_MS));
        condemn(&l, 1);
        ASSERT_NOT_NOW(ask_at(&l, 1, AT(SPAN_MS)));
        spare(&l, 1);
        assert_lost_at(&l, AT(SPAN_MS + 1), 1, LOSS_BY_LEASE);
        ASSERT_GRANTED(ask_at(&l, 1, AT(SPAN_MS + 1)));
        assert_nobody_lost_at(&l, AT(SPAN_MS + 2), AT(2 * SPAN_MS));
}

static void test_to_condemn_a_stranger_is_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        condemn(&l, 9);
        spare(&l, 9);
        power_off(&l, 9, 1);
        g_assert_cmpuint(silent_at(&l, 9, AT(5000)), ==, 0);
}

/* ---- power off */

static void test_a_host_that_is_off_is_lost_at_once(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_GRANTED(ask_at(&l, 1, AT(100)));
        power_off(&l, 1, 1);
        assert_lost_at(&l, AT(101), 1, LOSS_BY_POWER_OFF);
}

static void test_the_power_of_another_life_proves_nothing(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_back(&l.c, 1, true));
        follow_at(&l, AT(10));
        power_off(&l, 1, 1);
        assert_nobody_lost_at(&l, AT(100), AT(SPAN_MS));
        power_off(&l, 1, 3);
        assert_nobody_lost_at(&l, AT(100), AT(SPAN_MS));
}

/* Whoever asks has power: it was another host's plug. */
static void test_who_asks_afterwards_is_not_off(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        power_off(&l, 1, 1);
        ASSERT_GRANTED(ask_at(&l, 1, AT(100)));
        assert_nobody_lost_at(&l, AT(101), AT(SPAN_MS));
}

/* ---- times that change */

static void test_longer_times_count_from_the_beginning(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 1, 10000, 2000));  /* the leader before may have granted it by these */
        keep_other(&l, AT(2000));
        assert_nobody_lost_at(&l, AT(2000), AT(2000 + SPAN_MS));
        keep_other(&l, AT(5000));
        keep_other(&l, AT(8000));
        keep_other(&l, AT(11000));
        assert_nobody_lost_at(&l, AT(11999), AT(12000));
        assert_lost_at(&l, AT(12000), 1, LOSS_BY_LEASE);
}

static void test_a_longer_death_counts_as_well(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 1, LEASE_MS, DEATH_MS + 2500));
        keep_other(&l, AT(3000));
        assert_nobody_lost_at(&l, AT(SPAN_MS), AT(SPAN_MS + 2500));
        ASSERT_GRANTED(ask_at(&l, 1, AT(4000)));
        keep_other(&l, AT(7000));
        assert_nobody_lost_at(&l, AT(7000), AT(4000 + SPAN_MS + 2500));
}

/* It has cut its own lease before it said so. */
static void test_shorter_times_count_from_the_word(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lease(&l.c, 1, 10000, 2000));
        ASSERT_GRANTED(ask_at(&l, 1, AT(1000)));
        keep_other(&l, AT(2000));
        ASSERT_DONE(tell_lease(&l.c, 1, LEASE_MS, DEATH_MS));
        follow_at(&l, AT(2000));
        g_assert_cmpuint(l.book.pages.items[0].dead_us, >=, AT(2000 + SPAN_MS));
        uint64_t lease_us;
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(2100), AT(2100), &lease_us));
        g_assert_cmpuint(lease_us, ==, LEASE_MS * MS);
}

/* ---- freezing */

static void test_nobody_is_lost_by_time_while_the_cluster_is_frozen(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        assert_nobody_lost_at(&l, AT(50000), UINT64_MAX);
        power_off(&l, 1, 1);
        assert_lost_at(&l, AT(50000), 1, LOSS_BY_POWER_OFF);
}

static void test_a_freeze_is_a_long_lease(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        uint64_t lease_us;
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        follow_at(&l, AT(100));
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(100), AT(100), &lease_us));
        g_assert_cmpuint(lease_us, ==, (60000 + LEASE_MS) * MS);
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(40100), AT(40100), &lease_us));
        g_assert_cmpuint(lease_us, ==, (20000 + LEASE_MS) * MS);
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(90000), AT(90000), &lease_us));
        g_assert_cmpuint(lease_us, ==, LEASE_MS * MS);
}

static bool thaws_at(Leader *l, uint64_t at_us, uint64_t wake_us) {
        uint64_t wake = 1;
        follow_at(l, at_us);
        bool thaws = lease_book_thaws(&l->book, l->c.registry, at_us, &wake);
        g_assert_cmpuint(wake, ==, thaws ? 1 : wake_us);
        return thaws;
}

static void test_a_freeze_ends_when_its_time_is_over(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        g_assert_false(thaws_at(&l, AT(50), UINT64_MAX));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        g_assert_false(thaws_at(&l, AT(100), AT(60100)));
        g_assert_false(thaws_at(&l, AT(60100) - 1, AT(60100)));
        g_assert_true(thaws_at(&l, AT(60100), 0));
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        g_assert_false(thaws_at(&l, AT(60200), UINT64_MAX));
}

static void test_a_new_freeze_begins_its_time_anew(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        g_assert_false(thaws_at(&l, AT(100), AT(60100)));
        ASSERT_DONE(tell_freeze(&l.c, 5000));
        g_assert_false(thaws_at(&l, AT(200), AT(5200)));
        elect_at(&l, TERM + 1, AT(4000));       /* who does not know when it began gives it all its time */
        g_assert_false(thaws_at(&l, AT(4000), AT(9000)));
        lease_book_lead(&l.book, false, TERM + 2, AT(5000));
        g_assert_false(thaws_at(&l, AT(50000), UINT64_MAX));
}

/* With 1 % for each clock's drift. */
#define LONG_SPAN_US(long_ms) (((long_ms) + DEATH_MS) * MS + ((long_ms) - LEASE_MS) * MS / 49)

static void test_after_a_thaw_the_long_lease_is_waited_for(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        ASSERT_GRANTED(ask_at(&l, 1, AT(100)));
        uint64_t length_ms = 60000 + LEASE_MS;
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        for (uint64_t ms = 1000; ms <= 64000; ms += 1000)
                keep_other(&l, AT(ms));
        uint64_t due_us = AT(100) + LONG_SPAN_US(length_ms);
        Loss loss;
        uint64_t wake;
        keep_other(&l, due_us - MS);
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, due_us - MS, &loss, &wake));
        assert_lost_at(&l, due_us + 2 * MS, 1, LOSS_BY_LEASE);
}

static void test_a_new_leader_waits_for_the_long_lease_of_another(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        elect_at(&l, TERM + 1, AT(10000));
        Loss loss;
        uint64_t wake, due_us = AT(10000) + LONG_SPAN_US(60000 + LEASE_MS);
        follow_at(&l, due_us - MS);
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, due_us - MS, &loss, &wake));
        assert_lost_at(&l, due_us + 2 * MS, 1, LOSS_BY_LEASE);
}

/* The entry of the freeze was committed before the election and is applied after it. */
static void test_a_freeze_that_a_new_leader_learns_of_late_counts_from_its_election(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        follow_at(&l, AT(2000));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        Loss loss;
        uint64_t wake, due_us = AT(0) + LONG_SPAN_US(60000 + LEASE_MS);
        follow_at(&l, AT(3000));
        follow_at(&l, due_us - MS);
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, due_us - MS, &loss, &wake));
        assert_lost_at(&l, due_us + 2 * MS, 1, LOSS_BY_LEASE);
}

static void test_who_goes_by_ordinary_leases_again_is_lost_as_ever(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 60000));
        ASSERT_GRANTED(ask_at(&l, 1, AT(100)));
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        follow_at(&l, AT(500));
        ASSERT_DONE(tell_thawed(&l.c, 1));
        keep_other(&l, AT(1000));
        keep_other(&l, AT(1000 + SPAN_MS) - 1);
        Loss loss;
        uint64_t wake;
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, AT(1000 + SPAN_MS) - 1, &loss, &wake));
        g_assert_cmpuint(wake, ==, AT(1000 + SPAN_MS));
        assert_lost_at(&l, AT(1000 + SPAN_MS), 1, LOSS_BY_LEASE);
}

static void test_the_thaw_of_one_is_not_the_thaw_of_all(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_freeze(&l.c, 600000));
        ASSERT_GRANTED(ask_at(&l, 1, AT(100)));
        ASSERT_GRANTED(ask_at(&l, 2, AT(100)));
        ASSERT_DONE(tell_thaw(&l.c, l.c.registry->freezes));
        ASSERT_DONE(tell_thawed(&l.c, 2));
        assert_nobody_lost_at(&l, AT(1000), AT(1000 + SPAN_MS));
        assert_lost_at(&l, AT(1000 + SPAN_MS), 2, LOSS_BY_LEASE);
        condemn(&l, 2);
        Loss loss;
        uint64_t wake;
        follow_at(&l, AT(600000));
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, AT(600000), &loss, &wake));
}

/* Ten years are no trap for arithmetic; the third node is like a thaw. */
static void test_nodes_that_are_too_few_have_all_the_time_there_is(void) {
        _cleanup_(leader_clear) Leader l = { .c = chronicle_empty() };
        ASSERT_DONE(tell_init_at(&l.c, "lab", LEVEL_FAILOVER));
        uint64_t lease_us, ms = 0;
        for (unsigned node = 1; node <= LEASE_ALONE_NODES; node++) {
                ASSERT_DONE(tell_node(&l.c, node, node == 1 ? "a" : "b", 1, "boot-1"));
                ASSERT_DONE(tell_lease(&l.c, node, LEASE_MS, DEATH_MS));
                elect_at(&l, TERM + node, AT(++ms));
                for (unsigned other = 1; other <= node; other++) {
                        ASSERT_GRANTED(ask_between(&l, other, 1, AT(ms), AT(ms), &lease_us));
                        g_assert_cmpuint(lease_us, ==, node_record_longest_lease_ms(node_told(&l.c, other)) * MS);
                        g_assert_cmpuint(lease_us, >=, LEASE_ALONE_MS * MS);
                }
        }
        ASSERT_DONE(tell_node(&l.c, 9, "c", 1, "boot-c"));
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(10), AT(10), &lease_us));
        g_assert_cmpuint(lease_us, ==, LEASE_MS * MS);
        condemn(&l, 9);                 /* it has no lease, and is not what this is about */
        Loss loss;
        uint64_t wake;
        follow_at(&l, AT(3600000));
        g_assert_false(lease_book_next_loss(&l.book, l.c.registry, AT(3600000), &loss, &wake));
        ASSERT_DONE(tell_thawed(&l.c, 1));
        assert_nobody_lost_at(&l, AT(3601000), AT(3601000 + SPAN_MS));
        assert_lost_at(&l, AT(3601000 + SPAN_MS), 1, LOSS_BY_LEASE);
}

/* ---- silence */

static void test_silence_is_counted_from_the_last_request(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        g_assert_cmpuint(silent_at(&l, 1, AT(0)), ==, 0);
        g_assert_cmpuint(silent_at(&l, 1, AT(700)), ==, 700 * MS);      /* a new leader has heard nobody before */
        ASSERT_GRANTED(ask_between(&l, 1, 1, AT(800), AT(900), NULL));
        g_assert_cmpuint(silent_at(&l, 1, AT(1000)), ==, 200 * MS);
        condemn(&l, 1);
        ASSERT_NOT_NOW(ask_at(&l, 1, AT(1100)));        /* it is heard all the same */
        g_assert_cmpuint(silent_at(&l, 1, AT(1100)), ==, 0);
        ASSERT_DONE(tell_lease(&l.c, 1, 0, 0));
        g_assert_cmpuint(silent_at(&l, 1, AT(9000)), ==, 0);
}

static void test_a_lost_node_that_asks_is_heard(void) {
        _cleanup_(leader_clear) Leader l = leader_at(AT(0));
        ASSERT_DONE(tell_lost(&l.c, 1, LOSS_BY_LEASE));
        ASSERT_LOST(ask_between(&l, 1, 1, AT(8000), AT(8000), NULL));
        g_assert_cmpuint(silent_at(&l, 1, AT(8001)), ==, MS);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/lease-book/who-asks-gets-what-it-announced", test_who_asks_gets_what_it_announced);
        g_test_add_func("/lease-book/who-does-not-lead-grants-nothing", test_who_does_not_lead_grants_nothing);
        g_test_add_func("/lease-book/a-stranger-is-granted-nothing", test_a_stranger_is_granted_nothing);
        g_test_add_func("/lease-book/a-life-that-is-over-is-told-so", test_a_life_that_is_over_is_told_so);
        g_test_add_func("/lease-book/a-life-that-was-not-announced-is-granted-nothing",
                        test_a_life_that_was_not_announced_is_granted_nothing);
        g_test_add_func("/lease-book/who-was-removed-is-granted-nothing", test_who_was_removed_is_granted_nothing);
        g_test_add_func("/lease-book/who-asks-no-more-is-lost-when-all-its-margins-are-over",
                        test_who_asks_no_more_is_lost_when_all_its_margins_are_over);
        g_test_add_func("/lease-book/a-new-leader-waits-as-long-as-a-lease-can-last",
                        test_a_new_leader_waits_as_long_as_a_lease_can_last);
        g_test_add_func("/lease-book/another-term-is-another-book", test_another_term_is_another_book);
        g_test_add_func("/lease-book/an-old-request-does-not-shorten-what-stands",
                        test_an_old_request_does_not_shorten_what_stands);
        g_test_add_func("/lease-book/a-slow-confirmation-counts-from-the-request",
                        test_a_slow_confirmation_counts_from_the_request);
        g_test_add_func("/lease-book/a-node-that-comes-later-is-waited-for-from-then-on",
                        test_a_node_that_comes_later_is_waited_for_from_then_on);
        g_test_add_func("/lease-book/a-vm-on-a-node-without-a-lease-keeps-it",
                        test_a_vm_on_a_node_without_a_lease_keeps_it);
        g_test_add_func("/lease-book/who-never-announces-a-lease-is-lost-after-a-while",
                        test_who_never_announces_a_lease_is_lost_after_a_while);
        g_test_add_func("/lease-book/who-announces-its-lease-late-is-waited-for-from-then-on",
                        test_who_announces_its_lease_late_is_waited_for_from_then_on);
        g_test_add_func("/lease-book/a-vm-of-before-leases-keeps-its-node", test_a_vm_of_before_leases_keeps_its_node);
        g_test_add_func("/lease-book/who-is-lost-is-not-lost-again", test_who_is_lost_is_not_lost_again);
        g_test_add_func("/lease-book/the-next-life-begins-anew", test_the_next_life_begins_anew);
        g_test_add_func("/lease-book/who-is-about-to-be-lost-gets-no-lease",
                        test_who_is_about_to_be_lost_gets_no_lease);
        g_test_add_func("/lease-book/who-is-spared-gets-leases-again", test_who_is_spared_gets_leases_again);
        g_test_add_func("/lease-book/to-condemn-a-stranger-is-nothing", test_to_condemn_a_stranger_is_nothing);
        g_test_add_func("/lease-book/a-host-that-is-off-is-lost-at-once", test_a_host_that_is_off_is_lost_at_once);
        g_test_add_func("/lease-book/the-power-of-another-life-proves-nothing",
                        test_the_power_of_another_life_proves_nothing);
        g_test_add_func("/lease-book/who-asks-afterwards-is-not-off", test_who_asks_afterwards_is_not_off);
        g_test_add_func("/lease-book/longer-times-count-from-the-beginning",
                        test_longer_times_count_from_the_beginning);
        g_test_add_func("/lease-book/a-longer-death-counts-as-well", test_a_longer_death_counts_as_well);
        g_test_add_func("/lease-book/shorter-times-count-from-the-word", test_shorter_times_count_from_the_word);
        g_test_add_func("/lease-book/nobody-is-lost-by-time-while-the-cluster-is-frozen",
                        test_nobody_is_lost_by_time_while_the_cluster_is_frozen);
        g_test_add_func("/lease-book/a-freeze-is-a-long-lease", test_a_freeze_is_a_long_lease);
        g_test_add_func("/lease-book/a-freeze-ends-when-its-time-is-over", test_a_freeze_ends_when_its_time_is_over);
        g_test_add_func("/lease-book/a-new-freeze-begins-its-time-anew", test_a_new_freeze_begins_its_time_anew);
        g_test_add_func("/lease-book/after-a-thaw-the-long-lease-is-waited-for",
                        test_after_a_thaw_the_long_lease_is_waited_for);
        g_test_add_func("/lease-book/a-new-leader-waits-for-the-long-lease-of-another",
                        test_a_new_leader_waits_for_the_long_lease_of_another);
        g_test_add_func("/lease-book/a-freeze-that-a-new-leader-learns-of-late-counts-from-its-election",
                        test_a_freeze_that_a_new_leader_learns_of_late_counts_from_its_election);
        g_test_add_func("/lease-book/who-goes-by-ordinary-leases-again-is-lost-as-ever",
                        test_who_goes_by_ordinary_leases_again_is_lost_as_ever);
        g_test_add_func("/lease-book/the-thaw-of-one-is-not-the-thaw-of-all",
                        test_the_thaw_of_one_is_not_the_thaw_of_all);
        g_test_add_func("/lease-book/nodes-that-are-too-few-have-all-the-time-there-is",
                        test_nodes_that_are_too_few_have_all_the_time_there_is);
        g_test_add_func("/lease-book/silence-is-counted-from-the-last-request",
                        test_silence_is_counted_from_the_last_request);
        g_test_add_func("/lease-book/a-lost-node-that-asks-is-heard", test_a_lost_node_that_asks_is_heard);
        return g_test_run();
}
