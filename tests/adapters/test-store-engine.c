/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine as a cluster of one: what was acknowledged is there again, also behind snapshots, and what was refused is
 * not. */

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <string.h>

#include "core/names.h"
#include "store-world.h"

static Node *lone_node(World *world) {
        world_up(world);
        return &world->nodes[0];
}

static void test_a_lone_node_leads_at_once_and_sends_nothing(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        RaftStatus status = node_status(node);

        g_assert_true(status.is_leader);
        g_assert_true(status.is_ready);
        g_assert_cmpuint(status.leader_id, ==, node->id);
        g_assert_cmpuint(status.n_voters, ==, 1);
        g_assert_cmpint(status.role, ==, RAFT_MEMBER_VOTER);
        node_write(node, "one");
        g_assert_cmpuint(node->sent, ==, 0);
}

static void test_commands_are_applied_in_order(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        Answer answers[3];

        node_submit(node, "one", &answers[0]);
        node_submit(node, "two", &answers[1]);
        node_submit(node, "three", &answers[2]);
        world_wait_answer(world, &answers[2]);
        g_assert_true(answers[0].here && answers[1].here);
        g_assert_cmpuint(answers[2].index, ==, answers[0].index + 2);
        g_assert_cmpstr(node->state->str, ==, "one\ntwo\nthree\n");
}

static void test_what_was_acknowledged_is_there_after_a_restart(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);

        node_write(node, "one");
        node_write(node, "two");
        RaftStatus before = node_status(node);
        node_down(node);
        node_up(node);
        g_assert_cmpstr(node->state->str, ==, "one\ntwo\n");
        RaftStatus after = node_status(node);
        g_assert_cmpuint(after.term, >, before.term);
        g_assert_cmpuint(after.starts, ==, before.starts + 1);
        g_assert_cmpuint(after.applied_index, ==, before.applied_index);
}

static void test_ten_thousand_entries_are_there_after_a_restart(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        g_autofree Answer *answers = g_new0(Answer, 10000);
        g_autofree char *text = g_strnfill(250, 'x'), *state = NULL;
        gint64 took = G_MAXINT64;

        for (unsigned i = 0; i < 10000; i++) {
                node_submit(node, text, &answers[i]);
                if (i % 1000 == 999)
                        world_wait_answer(world, &answers[i]);
        }
        state = g_strdup(node->state->str);
        for (unsigned i = 0; i < 10 && took >= 5 * G_USEC_PER_SEC; i++) {       /* a machine may be busy for a while */
                node_down(node);
                gint64 begin = g_get_monotonic_time();
                node_up(node);
                took = g_get_monotonic_time() - begin;
                g_assert_cmpuint(node->applied, ==, 10000);
                g_assert_cmpstr(node->state->str, ==, state);
                g_test_message("restart with 10000 entries of 250 bytes: %.1f ms", (double) took / 1000);
        }
        g_assert_cmpint(took, <, 5 * G_USEC_PER_SEC);
}

static bool snapshot_is_there(World *world, void *userdata) {
        return node_status(userdata).snapshot_index == node_status(userdata).applied_index;
}

static void take_snapshot(Node *node) {
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, node_status(node).applied_index, node->state->str,
                                                  node->state->len), ==, RAFT_SNAPSHOT_TAKEN);
        world_until(node->world, snapshot_is_there, node, "a snapshot");
}

static void test_a_snapshot_shortens_the_log_and_is_restored(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);

        for (unsigned i = 0; i < 20; i++)
                node_write(node, "before");
        g_autofree char *state = g_strconcat(node->state->str, "after\nagain\n", NULL);
        take_snapshot(node);
        g_assert_cmpuint(node_status(node).log_entries, ==, 0);
        g_assert_cmpuint(node_status(node).log_bytes, ==, 0);
        node_write(node, "after");
        node_down(node);
        node_up(node);
        g_assert_cmpuint(node->restored, ==, 1);
        g_assert_cmpuint(node->applied, ==, 1);
        node_write(node, "again");
        g_assert_cmpstr(node->state->str, ==, state);
}

static void test_entries_behind_a_snapshot_are_kept_as_told(void) {
        g_autoptr(World) world = world_new(1, NULL);
        world->trailing = 5;
        Node *node = lone_node(world);

        for (unsigned i = 0; i < 20; i++)
                node_write(node, "x");
        take_snapshot(node);
        g_assert_cmpuint(node_status(node).log_entries, ==, 5);
        node_write(node, "y");
        node_down(node);
        node_up(node);
        g_assert_cmpuint(node_status(node).log_entries, ==, 6);
        g_assert_cmpuint(node->restored, ==, 1);
        g_assert_cmpuint(node->applied, ==, 1);
        take_snapshot(node);
        g_assert_cmpuint(node_status(node).log_entries, ==, 5);
}

static void test_a_second_snapshot_waits_for_the_first(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);

        node_write(node, "x");
        uint64_t index = node_status(node).applied_index;
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, index, "s", 1), ==, RAFT_SNAPSHOT_TAKEN);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, index, "s", 1), ==, RAFT_SNAPSHOT_BUSY);
        world_until(world, snapshot_is_there, node, "a snapshot");
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, index, "s", 1), ==, RAFT_SNAPSHOT_NOTHING_NEW);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, index - 1, "s", 1), ==, -EINVAL);
}

static void test_a_snapshot_has_the_members_and_may_be_as_of_the_last_command(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        RaftMember members[3];
        Answer answer = {};

        node_write(node, "x");
        node_write(node, "y");
        uint64_t command = node_status(node).applied_index;
        g_assert_cmpint(raft_engine_change_member(node->engine, 99, "ninety-nine", RAFT_MEMBER_SPARE, answer_take,
                                                  &answer, NULL), ==, RAFT_SUBMIT_TAKEN);
        world_wait_answer(world, &answer);
        g_assert_cmpuint(node_status(node).applied_index, ==, command + 1);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, command - 1, "x\n", 2), ==, -EINVAL);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, command + 2, "x\n", 2), ==, -EINVAL);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, command, "x\ny\n", 4), ==, RAFT_SNAPSHOT_TAKEN);
        world_until(world, snapshot_is_there, node, "a snapshot");
        node_down(node);
        node_up(node);
        g_assert_cmpstr(node->state->str, ==, "x\ny\n");
        g_assert_cmpuint(raft_engine_get_members(node->engine, members, 3), ==, 2);
        g_assert_cmpuint(members[1].id, ==, 99);
        g_assert_cmpstr(members[1].address, ==, "ninety-nine");
        g_assert_cmpint(members[1].role, ==, RAFT_MEMBER_SPARE);
        g_assert_cmpuint(node_status(node).n_voters, ==, 1);
        node_write(node, "z");
}

static void test_the_term_is_confirmed_without_the_disk(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        Answer answer = {};

        node_write(node, "x");
        g_assert_cmpint(raft_engine_confirm(node->engine, answer_take, &answer, NULL), ==, RAFT_SUBMIT_TAKEN);
        g_assert_false(answer.here);
        for (unsigned i = 0; i < 10 && !answer.here; i++)       /* other things may be due as well */
                g_assert_cmpint(sd_event_run(world->event, 0), >=, 0);
        g_assert_true(answer.here);
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
        g_assert_cmpuint(answer.term, ==, node_status(node).term);
        g_assert_cmpuint(answer.index, ==, node_status(node).applied_index);
}

static void test_an_entry_may_be_as_large_as_the_limit_and_no_larger(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        g_autofree char *text = g_strnfill(ENTRY_SIZE_MAX + 1, 'L');
        Answer answer = {};

        g_assert_cmpint(raft_engine_submit(node->engine, text, ENTRY_SIZE_MAX + 1, answer_take, &answer, NULL), ==,
                        RAFT_SUBMIT_TOO_LARGE);
        text[ENTRY_SIZE_MAX] = '\0';
        node_write(node, text);
        g_assert_false(answer.here);
        node_write(node, "");
        g_assert_cmpuint(node->state->len, ==, ENTRY_SIZE_MAX + 2);
}

static void test_a_request_let_go_of_is_not_answered_but_done(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        RaftRequest *request = NULL;
        Answer answer = {};

        g_assert_cmpint(raft_engine_submit(node->engine, "x", 1, answer_take, &answer, &request), ==,
                        RAFT_SUBMIT_TAKEN);
        raft_request_free(request);
        node_write(node, "y");
        g_assert_false(answer.here);
        g_assert_cmpstr(node->state->str, ==, "x\ny\n");
}

static void test_a_request_may_outlive_its_engine(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        RaftRequest *request = NULL;
        Answer answer = {};

        g_assert_cmpint(raft_engine_submit(node->engine, "x", 1, answer_take, &answer, &request), ==,
                        RAFT_SUBMIT_TAKEN);
        g_assert_cmpint(raft_engine_submit(node->engine, "y", 1, answer_take, &answer, NULL), ==, RAFT_SUBMIT_TAKEN);
        node_down(node);
        raft_request_free(request);
        g_assert_false(answer.here);
}

static void test_requests_are_bounded(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        int r = RAFT_SUBMIT_TAKEN;
        unsigned n = 0;

        while ((r = raft_engine_submit(node->engine, "x", 1, NULL, NULL, NULL)) == RAFT_SUBMIT_TAKEN)
                n++;
        g_assert_cmpint(r, ==, RAFT_SUBMIT_BUSY);
        g_assert_cmpuint(n, ==, RAFT_REQUESTS_MAX);
        g_assert_cmpint(raft_engine_confirm(node->engine, NULL, NULL, NULL), ==, RAFT_SUBMIT_BUSY);
        g_assert_cmpint(sd_event_run(world->event, UINT64_MAX), >=, 0);
}

typedef struct Chain {
        Node *node;
        unsigned left;
} Chain;

static void submit_next(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        Chain *chain = userdata;
        g_assert_cmpint(outcome, ==, RAFT_OUTCOME_DONE);
        if (chain->left-- > 0)
                g_assert_cmpint(raft_engine_submit(chain->node->engine, "c", 1, submit_next, chain, NULL), ==,
                                RAFT_SUBMIT_TAKEN);
}

static bool chain_is_over(World *world, void *userdata) {
        const Chain *chain = userdata;
        return chain->left == UINT_MAX;
}

static void test_a_callback_may_submit(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Chain chain = { lone_node(world), 10 };

        g_assert_cmpint(raft_engine_submit(chain.node->engine, "c", 1, submit_next, &chain, NULL), ==,
                        RAFT_SUBMIT_TAKEN);
        world_until(world, chain_is_over, &chain, "the end of the chain");
        g_assert_cmpuint(chain.node->applied, ==, 11);
}

static bool has_fault(World *world, void *userdata) {
        const Node *node = userdata;
        return node->fault;
}

static void test_an_apply_that_fails_stops_the_engine(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = lone_node(world);
        Answer answer;

        world->fault_is_fine = true;
        world->apply_error = -ENOMEM;
        node_submit(node, "x", &answer);
        world_until(world, has_fault, node, "a fault");
        g_assert_nonnull(strstr(node->fault, "entry 2 cannot be applied: Cannot allocate memory"));
        g_assert_false(answer.here);
        g_assert_cmpint(raft_engine_submit(node->engine, "x", 1, NULL, NULL, NULL), ==, -ESHUTDOWN);
        g_assert_cmpint(raft_engine_confirm(node->engine, NULL, NULL, NULL), ==, -ESHUTDOWN);
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, 2, "", 0), ==, -ESHUTDOWN);
}

static void test_members_that_cannot_be_read_are_no_start(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        LogFileContent content = {};
        LogFile *file = NULL;

        g_assert_cmpint(log_file_open(node->path, &(LogFileBirth) { .server_id = node->id, .configuration = "rubbish",
                                      .configuration_size = 7 }, &file, &content, NULL), ==, LOG_FILE_CREATED);
        log_file_content_clear(&content);
        log_file_close(file);

        RaftEngineConfig config = node_config(node);
        g_assert_cmpint(raft_engine_open(&config, world->event, &node->engine, NULL), ==, LOG_FILE_OPENED);
        g_assert_cmpint(raft_engine_start(node->engine), ==, -EBADMSG);
}

static void test_a_joining_node_waits_for_a_leader(void) {
        g_autoptr(World) world = world_new(1, NULL);
        Node *node = &world->nodes[0];
        RaftEngineConfig config = node_config(node);

        config.n_members = 0;
        config.election_ms = 20;
        g_assert_cmpint(raft_engine_open(&config, world->event, &node->engine, NULL), ==, LOG_FILE_CREATED);
        g_assert_cmpint(raft_engine_start(node->engine), ==, 0);
        world_for(world, 100);
        g_assert_false(node_status(node).is_leader);
        g_assert_cmpint(node_status(node).role, ==, RAFT_MEMBER_NONE);
        g_assert_cmpint(raft_engine_submit(node->engine, "x", 1, NULL, NULL, NULL), ==, RAFT_SUBMIT_NOT_LEADER);
        g_assert_cmpint(raft_engine_confirm(node->engine, NULL, NULL, NULL), ==, RAFT_SUBMIT_NOT_LEADER);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/store/engine/" #name, test_##name)
        TEST(a_lone_node_leads_at_once_and_sends_nothing);
        TEST(commands_are_applied_in_order);
        TEST(what_was_acknowledged_is_there_after_a_restart);
        TEST(ten_thousand_entries_are_there_after_a_restart);
        TEST(a_snapshot_shortens_the_log_and_is_restored);
        TEST(entries_behind_a_snapshot_are_kept_as_told);
        TEST(a_second_snapshot_waits_for_the_first);
        TEST(a_snapshot_has_the_members_and_may_be_as_of_the_last_command);
        TEST(the_term_is_confirmed_without_the_disk);
        TEST(an_entry_may_be_as_large_as_the_limit_and_no_larger);
        TEST(a_request_let_go_of_is_not_answered_but_done);
        TEST(a_request_may_outlive_its_engine);
        TEST(requests_are_bounded);
        TEST(a_callback_may_submit);
        TEST(an_apply_that_fails_stops_the_engine);
        TEST(members_that_cannot_be_read_are_no_start);
        TEST(a_joining_node_waits_for_a_leader);
        return g_test_run();
}
