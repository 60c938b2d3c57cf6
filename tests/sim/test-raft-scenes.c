/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scenes: what the random walk of test-raft-sim found, or could only find by great luck, step by step. Each broke a
 * promise once. */

#include <glib.h>
#include <inttypes.h>
#include <raft.h>

#include "sim-world.h"

#define ASSERT_WELL(world)                                              \
        do {                                                            \
                if ((world)->time.broken)                               \
                        g_error("%s", (world)->time.broken);            \
        } while (0)

/* ---- directing */

static void pass_ms(SimWorld *world, unsigned ms) {
        sim_world_pass(world, ms * MS);
        ASSERT_WELL(world);
}

/* Those of the mask hear each other only, and so do the others. */
static void only_together(SimWorld *world, unsigned mask) {
        for (unsigned i = 0; i < world->n_machines; i++)
                for (unsigned j = 0; j < world->n_machines; j++)
                        world->network.cut[i][j] = (mask >> i & 1) != (mask >> j & 1);
}

static void wait_leader(SimWorld *world, const SimMachine *machine) {
        for (unsigned i = 0; i < 200; i++) {
                if (machine->engine && sim_machine_status(machine).is_ready)
                        return;
                pass_ms(world, 50);
        }
        g_error("m%u does not come to lead", machine->number);
}

static SimMachine *wait_any_leader(SimWorld *world) {
        for (unsigned i = 0; i < 200; i++) {
                SimMachine *leader = sim_machine_leader(world->machines);
                if (leader && sim_machine_status(leader).is_ready)
                        return leader;
                pass_ms(world, 50);
        }
        g_error("nobody leads");
}

static void make_leader(SimWorld *world, SimMachine *machine) {
        SimMachine *leader = wait_any_leader(world);
        pass_ms(world, 500);            /* the others have all */
        if (leader != machine)
                g_assert_cmpint(raft_engine_transfer(leader->engine, machine->id), ==, RAFT_SUBMIT_TAKEN);
        wait_leader(world, machine);
        pass_ms(world, 500);
}

typedef struct Outcome {
        bool here;
        RaftOutcome outcome;
} Outcome;

static void take_outcome(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        *(Outcome *) userdata = (Outcome) { .here = true, .outcome = outcome };
}

static int change(SimMachine *leader, const SimMachine *machine, RaftMemberRole role, Outcome *outcome) {
        *outcome = (Outcome) {};
        return raft_engine_change_member(leader->engine, machine->id, machine->address, role, take_outcome, outcome,
                                         NULL);
}

static void change_and_wait(SimWorld *world, SimMachine *leader, const SimMachine *machine, RaftMemberRole role) {
        Outcome outcome;

        g_assert_cmpint(change(leader, machine, role, &outcome), ==, RAFT_SUBMIT_TAKEN);
        for (unsigned i = 0; i < 200 && !outcome.here; i++)
                pass_ms(world, 50);
        g_assert_true(outcome.here);
        g_assert_cmpint(outcome.outcome, ==, RAFT_OUTCOME_DONE);
}

/* One command, and all have it. */
static void serve_all(SimWorld *world) {
        sim_crowd_calm(&world->crowd);
        SimOrder *order = sim_crowd_last_order(&world->crowd);
        for (unsigned i = 0; i < 200 && !order->is_acknowledged; i++)
                pass_ms(world, 50);
        g_assert_true(order->is_acknowledged);
}

/* ---- members */

/* Ongaro's errata to the change of one member at a time: a leader may change members only once an entry of its own term
 * is committed. Else two changes that exclude each other can both find their majority. */
static void test_no_change_before_an_entry_of_the_own_term_is_committed(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(4, 5);
        SimMachine *m = world->machines;
        Outcome first, second;

        make_leader(world, m + 0);
        change_and_wait(world, m + 0, m + 4, RAFT_MEMBER_STANDBY);
        pass_ms(world, 1000);

        /* m0 makes m4 a voter, and only m4 hears of it. */
        only_together(world, 1U << 0 | 1U << 4);
        g_assert_cmpint(change(m + 0, m + 4, RAFT_MEMBER_VOTER, &first), ==, RAFT_SUBMIT_TAKEN);
        SimMachine *next = NULL;
        for (unsigned i = 0; i < 5000 && (!next || next == m || next == m + 4); i++) {
                pass_ms(world, 1);
                next = sim_machine_leader(m);
        }
        /* The next one removes m0 at once, with one other at its side; the rest is on the other side. */
        SimMachine *witness = next == m + 1 ? m + 2 : m + 1;
        only_together(world, 1U << next->number | 1U << witness->number);
        int r = change(next, m + 0, RAFT_MEMBER_NONE, &second);
        pass_ms(world, 10000);
        only_together(world, 0);
        pass_ms(world, 10000);
        g_assert_cmpint(r, ==, RAFT_SUBMIT_BUSY);
}

/* With an entry that others lack, and no voter any more by that entry, it would be in the way of every leader. */
static void test_a_leader_stays_a_voter(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        Outcome outcome;

        make_leader(world, m + 0);
        change_and_wait(world, m + 0, m + 2, RAFT_MEMBER_NONE);
        g_assert_cmpint(change(m + 0, m + 0, RAFT_MEMBER_NONE, &outcome), ==, RAFT_SUBMIT_BUSY);
        g_assert_cmpint(change(m + 0, m + 0, RAFT_MEMBER_STANDBY, &outcome), ==, RAFT_SUBMIT_BUSY);
        make_leader(world, m + 1);
        change_and_wait(world, m + 1, m + 0, RAFT_MEMBER_NONE);
        serve_all(world);
}

/* It is a voter and does not know yet; its one fellow cannot lead without it. */
static void test_a_standby_votes_for_who_holds_it_for_a_voter(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        Outcome outcome;

        make_leader(world, m + 0);
        change_and_wait(world, m + 0, m + 2, RAFT_MEMBER_NONE);
        change_and_wait(world, m + 0, m + 1, RAFT_MEMBER_STANDBY);
        pass_ms(world, 500);
        only_together(world, 1U << 0);
        g_assert_cmpint(change(m + 0, m + 1, RAFT_MEMBER_VOTER, &outcome), ==, RAFT_SUBMIT_TAKEN);
        pass_ms(world, 3000);
        g_assert_false(sim_machine_status(m + 0).is_leader);
        only_together(world, 0);
        serve_all(world);
        g_assert_true(outcome.here);
        g_assert_cmpuint(sim_machine_status(m + 1).n_voters, ==, 2);
}

/* Whether a write that is under way when the power is cut is there afterwards is chance: so several are tried. */
static void lose_a_change(unsigned luck) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        Outcome outcome;

        make_leader(world, m + 0);
        change_and_wait(world, m + 0, m + 2, RAFT_MEMBER_NONE);
        pass_ms(world, 500);
        while (luck-- > 0)
                (void) sim_chance(&world->time, 50);
        m[0].disk->stalled_until_us = world->time.now_us + 3000 * MS;
        g_assert_cmpint(change(m + 0, m + 1, RAFT_MEMBER_STANDBY, &outcome), ==, RAFT_SUBMIT_TAKEN);
        pass_ms(world, 300);
        sim_machine_down(m + 0, false, world->time.now_us + 500 * MS);
        pass_ms(world, 2000);
        serve_all(world);
}

/* The other has heard that it is no voter any more; who said so has lost it with its power, and has a shorter log. */
static void test_nobody_hears_of_a_change_that_the_leader_may_lose(void) {
        for (unsigned luck = 0; luck < 8; luck++)
                lose_a_change(luck);
}

/* A lone voter elects itself. If that were in the term of the leader that has gone, both could use an index of it. */
static void test_a_lone_voter_leads_in_a_new_term(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        RaftStatus before;

        make_leader(world, m + 0);
        change_and_wait(world, m + 0, m + 1, RAFT_MEMBER_NONE);
        change_and_wait(world, m + 0, m + 2, RAFT_MEMBER_STANDBY);
        before = sim_machine_status(m + 0);
        /* It doubts its lead: somebody speaks of a later term. */
        const struct raft_message core = {
                .type = RAFT_REQUEST_VOTE,
                .request_vote = { .term = before.term + 1, .candidate_id = m[2].id, .disrupt_leader = true },
        };
        g_assert_cmpint(raft_engine_receive(m[0].engine, &(RaftMessage) {
                        .kind = RAFT_MESSAGE_CORE,
                        .from = m[2].id,
                        .to = m[0].id,
                        .address = m[2].address,
                        .core = &core,
                }), ==, 0);
        g_assert_false(sim_machine_status(m + 0).is_leader);
        wait_leader(world, m + 0);
        g_assert_cmpuint(sim_machine_status(m + 0).term, ==, before.term + 2);
        serve_all(world);
}

/* ---- answers */

static void keep_result(void *userdata, const RaftMessage *message) {
        SimWorld *world = userdata;
        if (message->core && message->core->type == RAFT_APPEND_ENTRIES_RESULT)
                world->last_result = message->core->append_entries_result;
}

static void receive_old(SimWorld *world, SimMachine *to, const SimMachine *from, const struct raft_message *core) {
        world->last_result = (struct raft_append_entries_result) {};
        g_assert_cmpint(raft_engine_receive(to->engine, &(RaftMessage) {
                        .kind = RAFT_MESSAGE_CORE,
                        .from = from->id,
                        .to = to->id,
                        .address = from->address,
                        .core = core,
                }), ==, 0);
        g_assert_cmpuint(world->last_result.rejected, >, 0);
        g_assert_cmpuint(world->last_result.last_log_index, <, world->last_result.rejected);
        g_assert_cmpuint(world->last_result.term, ==, sim_machine_status(to).term);
}

/* libraft says yes, with a last index that was never set; and the sender may lead again. */
static void test_what_an_older_term_sent_is_refused(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        struct raft_configuration members;

        make_leader(world, m + 0);
        make_leader(world, m + 1);
        make_leader(world, m + 0);
        g_assert_cmpuint(sim_machine_status(m + 0).term, >, 3);
        world->network.watch = keep_result;
        receive_old(world, m + 2, m + 0, &(struct raft_message) {
                        .type = RAFT_APPEND_ENTRIES,
                        .append_entries = { .term = 2 },
                });
        receive_old(world, m + 2, m + 0, &(struct raft_message) {
                        .type = RAFT_APPEND_ENTRIES,
                        .append_entries = { .term = 2, .prev_log_index = 1, .prev_log_term = 1 },
                });
        g_assert_true(sim_judge_members(&world->judge, &members));
        receive_old(world, m + 2, m + 0, &(struct raft_message) {
                        .type = RAFT_INSTALL_SNAPSHOT,
                        .install_snapshot = { .term = 2, .last_index = 50, .last_term = 2, .conf = members },
                });
        raft_configuration_close(&members);
        world->network.watch = NULL;
        serve_all(world);
}

/* libraft goes back behind what it knows that the member has, and then sends it nothing any more. */
static void test_a_refusal_that_was_overtaken_ends_nothing(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;

        make_leader(world, m + 0);
        serve_all(world);
        RaftStatus before = sim_machine_status(m + 0);
        only_together(world, 1U << 2);
        pass_ms(world, 2000);           /* m0 no longer counts on what it sends to m2 */
        const struct raft_message core = {
                .type = RAFT_APPEND_ENTRIES_RESULT,
                .append_entries_result = {
                        .term = before.term,
                        .rejected = before.last_index,
                        .last_log_index = before.last_index - 2,
                },
        };
        g_assert_cmpint(raft_engine_receive(m[0].engine, &(RaftMessage) {
                        .kind = RAFT_MESSAGE_CORE,
                        .from = m[2].id,
                        .to = m[0].id,
                        .address = m[2].address,
                        .core = &core,
                }), ==, 0);
        only_together(world, 0);
        serve_all(world);
        pass_ms(world, 5000);
        g_assert_cmpuint(sim_machine_status(m + 0).term, ==, before.term);
        g_assert_cmpuint(sim_machine_status(m + 2).persisted_index, ==, sim_machine_status(m + 0).last_index);
}

/* The rest of the cluster knows nothing of it, and wants nothing else. */
static void test_what_a_later_term_has_left_behind_is_answered_at_once(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;
        Outcome outcomes[3] = {};

        make_leader(world, m + 0);
        only_together(world, 1U << 0);
        for (unsigned i = 0; i < 3; i++)
                g_assert_cmpint(change(m + 0, m + 1, RAFT_MEMBER_STANDBY, &outcomes[i]), ==,
                                i == 0 ? RAFT_SUBMIT_TAKEN : RAFT_SUBMIT_BUSY);
        for (unsigned i = 1; i < 3; i++)
                g_assert_cmpint(raft_engine_submit(m[0].engine, "lost", 4, take_outcome, &outcomes[i], NULL), ==,
                                RAFT_SUBMIT_TAKEN);
        pass_ms(world, 5000);
        only_together(world, 0);
        pass_ms(world, 1000);
        for (unsigned i = 0; i < 3; i++) {
                g_assert_true(outcomes[i].here);
                g_assert_cmpint(outcomes[i].outcome, ==, RAFT_OUTCOME_NOT_DONE);
        }
}

/* libraft names the term of the pre-vote that it refuses, not its own. */
static void test_a_candidate_learns_of_a_later_term(void) {
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_of(3, 3);
        SimMachine *m = world->machines;

        /* m2 has gone through many terms alone, and its log is behind. */
        make_leader(world, m + 0);
        sim_machine_down(m + 2, true, UINT64_MAX);
        serve_all(world);
        m[2].disk->vote.term += 7;
        m[2].disk->vote.voted_for = 0;
        sim_machine_down(m + 1, false, UINT64_MAX);
        pass_ms(world, 3000);
        g_assert_false(sim_machine_status(m + 0).is_leader);
        sim_machine_up(m + 2);
        serve_all(world);
        g_assert_true(sim_machine_status(m + 0).is_leader);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/sim/scenes/" #name, test_##name)
        TEST(no_change_before_an_entry_of_the_own_term_is_committed);
        TEST(a_leader_stays_a_voter);
        TEST(a_standby_votes_for_who_holds_it_for_a_voter);
        TEST(nobody_hears_of_a_change_that_the_leader_may_lose);
        TEST(a_lone_voter_leads_in_a_new_term);
        TEST(what_an_older_term_sent_is_refused);
        TEST(a_refusal_that_was_overtaken_ends_nothing);
        TEST(what_a_later_term_has_left_behind_is_answered_at_once);
        TEST(a_candidate_learns_of_a_later_term);
        return g_test_run();
}
