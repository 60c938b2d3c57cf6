/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes that are no members of the engine: they follow what is committed through any member, and never more. */

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <raft.h>
#include <string.h>

#include "store-world.h"

static void write_many(Node *node, const char *word, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *command = g_strdup_printf("%s %u", word, i);
                node_write(node, command);
        }
}

static bool snapshot_is_there(World *world, void *userdata) {
        const Node *node = userdata;
        return node_status(node).snapshot_index == node_status(node).applied_index;
}

static void take_snapshot(Node *node) {
        g_assert_cmpint(raft_engine_take_snapshot(node->engine, node_status(node).applied_index, node->state->str,
                                                  node->state->len), ==, RAFT_SNAPSHOT_TAKEN);
        world_until(node->world, snapshot_is_there, node, "a snapshot");
}

static Node *a_follower(World *world, const Node *but) {
        for (size_t i = 0; i < world->n_first; i++)
                if (world->nodes[i].engine && !node_status(&world->nodes[i]).is_leader && &world->nodes[i] != but)
                        return &world->nodes[i];
        return NULL;
}

/* Three voters, and @readers nodes that are nothing yet. */
static World *world_with_readers(size_t readers) {
        World *world = world_new(3 + readers, NULL);
        world->n_first = 3;
        for (size_t i = 0; i < 3; i++)
                node_up(&world->nodes[i]);
        return world;
}

static Node *reader_of(World *world, size_t which) {
        return &world->nodes[world->n_first + which];
}

static void change_and_wait(Node *leader, const Node *node, RaftMemberRole role) {
        Answer answer = {};
        g_assert_cmpint(raft_engine_change_member(leader->engine, node->id, node->address, role, answer_take, &answer,
                                                  NULL), ==, RAFT_SUBMIT_TAKEN);
        world_wait_answer(leader->world, &answer);
        g_assert_cmpint(answer.outcome, ==, RAFT_OUTCOME_DONE);
}

typedef struct Role {
        const Node *node;
        RaftMemberRole role;
} Role;

static bool has_role(World *world, void *userdata) {
        const Role *wish = userdata;
        return node_status(wish->node).role == wish->role;
}

static void wait_role(Node *node, RaftMemberRole role) {
        world_until(node->world, has_role, &(Role) { node, role }, "a role");
}

/* ---- the ordinary life of a reader ---- */

static void follows_through(bool the_leader) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);
        Node *relayer = the_leader ? leader : a_follower(world, NULL);

        write_many(leader, "a", 10);
        node_up_as_joining(reader);
        node_follow(reader, relayer);
        node_wait_state(reader, leader->state->str);
        write_many(leader, "b", 10);
        node_wait_state(reader, leader->state->str);

        RaftStatus status = node_status(reader);
        g_assert_cmpuint(reader->restored, ==, 0);
        g_assert_false(status.is_member);
        g_assert_cmpint(status.role, ==, RAFT_MEMBER_NONE);
        g_assert_cmpuint(status.leader_id, ==, leader->id);
        g_assert_cmpuint(status.term, ==, node_status(leader).term);
        g_assert_cmpuint(status.leader_contact_us, >, 0);
        g_assert_cmpuint(status.n_voters, ==, 3);
        g_assert_true(node_status(relayer).is_member);
}

static void test_a_reader_follows_through_a_follower(void) {
        follows_through(false);
}

static void test_a_reader_follows_through_the_leader(void) {
        follows_through(true);
}

static unsigned relays, entries_most;

static void watch_relays(World *world, Node *node, const RaftMessage *message) {
        size_t bytes = 0;

        if (!message->relayed || message->core->type != RAFT_APPEND_ENTRIES)
                return;
        const struct raft_append_entries *append = &message->core->append_entries;
        relays++;
        entries_most = MAX(entries_most, append->n_entries);
        g_assert_cmpuint(append->n_entries, <=, RAFT_RELAY_ENTRIES_MAX);
        for (unsigned i = 0; i < append->n_entries; i++)
                bytes += append->entries[i].buf.len;
        g_assert_true(bytes <= RAFT_RELAY_BYTES_MAX || append->n_entries == 1);
        g_assert_cmpuint(append->prev_log_index + append->n_entries, <=, append->leader_commit);
}

static bool is_told_of_nothing_new(World *world, void *userdata) {
        const Node *node = userdata;
        return node->told == RAFT_RELAY_NOTHING_NEW;
}

static void test_a_reader_that_is_behind_is_handed_a_little_at_a_time_and_asks_for_each(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);
        g_autofree char *large = g_strnfill(60000, 'L');

        write_many(leader, "small", 200);
        for (unsigned i = 0; i < 12; i++)
                node_write(leader, large);
        relays = entries_most = 0;
        world->on_send = watch_relays;
        node_up_as_joining(reader);
        node_follow(reader, a_follower(world, NULL));
        node_wait_state(reader, leader->state->str);
        g_assert_cmpuint(entries_most, ==, RAFT_RELAY_ENTRIES_MAX);
        g_assert_cmpuint(relays, >=, 200 / RAFT_RELAY_ENTRIES_MAX + 3);

        /* One answer to each, or a reader that is far behind would be sent everything many times over. If its disk is
         * slow it asks again meanwhile. */
        g_assert_cmpuint(relays, <=, 30 + reader->reminded);
        world_until(world, is_told_of_nothing_new, reader, "nothing new");
        unsigned asked = reader->asked;
        world_for(world, 200);
        g_assert_cmpuint(reader->asked - asked, <=, 8);
}

static void test_a_reader_goes_on_with_another_member(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);
        Node *first = a_follower(world, NULL), *second = a_follower(world, first);

        node_up_as_joining(reader);
        node_follow(reader, first);
        write_many(leader, "a", 10);
        node_wait_state(reader, leader->state->str);
        node_down(first);
        write_many(leader, "b", 10);
        node_follow(reader, second);
        node_wait_state(reader, leader->state->str);

        /* Also when that one becomes the leader, or knows less. */
        node_down(leader);
        node_up(first);
        Node *next = world_wait_leader(world);
        node_follow(reader, next);
        write_many(next, "c", 10);
        node_wait_state(reader, next->state->str);
        g_assert_cmpuint(node_status(reader).leader_id, ==, next->id);
        g_assert_cmpuint(node_status(reader).term, ==, node_status(next).term);
}

static void test_a_reader_comes_back_with_what_it_had(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);

        node_up_as_joining(reader);
        node_follow(reader, a_follower(world, NULL));
        write_many(leader, "a", 20);
        node_wait_state(reader, leader->state->str);
        node_follow(reader, NULL);
        node_down(reader);
        node_up_as_joining(reader);
        g_assert_cmpstr(reader->state->str, ==, leader->state->str);
        write_many(leader, "b", 5);
        node_follow(reader, leader);
        node_wait_state(reader, leader->state->str);

        /* And with a snapshot of its own. */
        take_snapshot(reader);
        node_follow(reader, NULL);
        node_down(reader);
        write_many(leader, "c", 5);
        node_up_as_joining(reader);
        g_assert_cmpuint(reader->restored, ==, 1);
        node_follow(reader, leader);
        node_wait_state(reader, leader->state->str);
}

static void test_a_follower_comes_back_with_nearly_all(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *leader = world_wait_leader(world), *follower = a_follower(world, NULL);

        /* One by one: it keeps of an entry's predecessors what it knew to be committed when the entry came. */
        for (unsigned i = 0; i < 50; i++) {
                write_many(leader, "a", 1);
                node_wait_state(follower, leader->state->str);
        }
        for (size_t i = 0; i < 3; i++)
                node_down(&world->nodes[i]);
        node_up(follower);
        g_assert_cmpuint(follower->applied, >=, 49);
}

static void test_a_reader_that_is_far_behind_gets_the_snapshot(void) {
        g_autoptr(World) world = world_with_readers(2);
        Node *leader = world_wait_leader(world), *follower = a_follower(world, NULL);
        Node *old = reader_of(world, 0), *new = reader_of(world, 1);

        node_up_as_joining(old);
        node_follow(old, follower);
        write_many(leader, "a", 10);
        node_wait_state(old, leader->state->str);
        node_down(old);
        write_many(leader, "b", 10);
        node_wait_state(follower, leader->state->str);
        take_snapshot(follower);
        write_many(leader, "c", 10);

        node_up_as_joining(old);
        node_up_as_joining(new);
        node_follow(new, follower);
        node_wait_state(old, leader->state->str);
        node_wait_state(new, leader->state->str);
        g_assert_cmpuint(old->restored, ==, 1);
        g_assert_cmpuint(new->restored, ==, 1);
        node_down(new);
        node_up_as_joining(new);
        g_assert_cmpstr(new->state->str, ==, leader->state->str);
        g_assert_cmpuint(node_status(new).n_voters, ==, 3);
        write_many(leader, "d", 3);
        node_wait_state(new, leader->state->str);
}

static bool relays_again(World *world, void *userdata) {
        const Node *node = userdata;
        int r = raft_engine_relay(node->engine, 1000, "x", 0, 0, 0);
        g_assert_true(r == RAFT_RELAY_SENT || r == RAFT_RELAY_BUSY);
        return r == RAFT_RELAY_SENT;
}

static void test_only_so_many_snapshots_are_read_at_a_time(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *leader = world_wait_leader(world);

        write_many(leader, "a", 3);
        take_snapshot(leader);
        for (uint64_t i = 0; i < RAFT_RELAY_SNAPSHOTS_MAX; i++)
                g_assert_cmpint(raft_engine_relay(leader->engine, 1000 + i, "x", 0, 0, 0), ==, RAFT_RELAY_SENT);
        g_assert_cmpint(raft_engine_relay(leader->engine, 1000, "x", 0, 0, 0), ==, RAFT_RELAY_BUSY);
        world_until(world, relays_again, leader, "a snapshot that was read");
}

/* ---- who leads is not made up ---- */

static bool is_told_of_no_leader(World *world, void *userdata) {
        const Node *node = userdata;
        return node->told == RAFT_RELAY_NO_LEADER;
}

static void test_nothing_is_relayed_by_who_hears_no_leader(void) {
        g_autoptr(World) world = world_with_readers(2);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0), *other = reader_of(world, 1);
        Node *standby = a_follower(world, NULL);

        change_and_wait(leader, standby, RAFT_MEMBER_STANDBY);
        node_up_as_joining(reader);
        node_up_as_joining(other);
        node_follow(reader, standby);
        write_many(leader, "a", 3);
        node_wait_state(reader, leader->state->str);

        /* Of a reader nobody learns anything. */
        node_follow(other, reader);
        g_assert_cmpint(other->told, ==, RAFT_RELAY_NO_LEADER);

        /* libraft itself would believe in a leader for ever here. */
        for (size_t i = 0; i < 3; i++)
                if (&world->nodes[i] != standby)
                        node_down(&world->nodes[i]);
        world_until(world, is_told_of_no_leader, reader, "no leader");
        g_assert_cmpuint(node_status(standby).leader_id, ==, 0);
}

/* A term that the cluster does not know, from a lost election of long ago, must not cut a reader off. */
static void test_a_reader_with_a_later_term_follows_but_knows_no_leader(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);

        node_up_as_joining(reader);
        node_follow(reader, leader);
        write_many(leader, "a", 3);
        node_wait_state(reader, leader->state->str);
        uint64_t term = node_status(leader).term;
        struct raft_message core = {
                .type = RAFT_REQUEST_VOTE,
                .request_vote = { .version = 2, .term = term + 5, .candidate_id = leader->id, .disrupt_leader = true },
        };
        RaftMessage vote = { .from = leader->id, .to = reader->id, .address = leader->address, .core = &core };
        g_assert_cmpint(raft_engine_receive(reader->engine, &vote), ==, 0);
        g_assert_cmpuint(node_status(reader).term, ==, term + 5);
        g_assert_cmpuint(node_status(reader).leader_id, ==, 0);
        write_many(leader, "b", 100);
        node_wait_state(reader, leader->state->str);
        g_assert_cmpuint(node_status(reader).leader_id, ==, 0);
        g_assert_cmpuint(node_status(reader).leader_contact_us, ==, 0);
        g_assert_cmpuint(node_status(leader).term, ==, term);
        node_down(reader);
        node_up_as_joining(reader);
        g_assert_cmpstr(reader->state->str, ==, leader->state->str);
}

static void test_one_that_waits_for_a_leader_never_leads(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);

        node_up_as_joining(reader);
        world_for(world, 500);
        g_assert_cmpuint(node_status(reader).term, ==, 0);
        node_down(reader);
        node_up_as_joining(reader);
        node_follow(reader, leader);
        write_many(leader, "a", 3);
        node_wait_state(reader, leader->state->str);
        uint64_t term = node_status(reader).term;
        for (size_t i = 0; i < 3; i++)
                node_down(&world->nodes[i]);
        world_for(world, 500);
        node_down(reader);
        node_up_as_joining(reader);
        world_for(world, 500);
        g_assert_cmpuint(node_status(reader).term, ==, term);
        g_assert_false(node_status(reader).is_leader);
}

/* ---- comings and goings ---- */

static bool has_written_all(World *world, void *userdata) {
        return node_status(userdata).persisted_index == node_status(userdata).last_index;
}

/* Nobody tells a member that was removed. Until it is told it takes itself for one, and what it had to say for true. */
static void test_a_removed_voter_follows_and_its_tail_is_replaced(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *old = world_wait_leader(world);
        Answer lost[3];

        write_many(old, "a", 5);
        old->deaf = true;
        for (size_t i = 0; i < 3; i++)
                node_submit(old, "lost", &lost[i]);
        Node *leader = world_wait_leader(world);
        write_many(leader, "b", 2);
        change_and_wait(leader, old, RAFT_MEMBER_NONE);
        write_many(leader, "c", 2);
        uint64_t term = node_status(leader).term;

        old->deaf = false;
        world_for(world, 600);                  /* it asks for votes, in vain */
        g_assert_cmpuint(node_status(leader).term, ==, term);
        g_assert_true(node_status(leader).is_leader);
        g_assert_true(node_status(old).is_member);
        node_follow(old, leader);
        node_wait_state(old, leader->state->str);
        for (size_t i = 0; i < 3; i++)
                g_assert_cmpint(lost[i].outcome, ==, RAFT_OUTCOME_NOT_DONE);
        wait_role(old, RAFT_MEMBER_NONE);
        node_follow(old, NULL);
        world_until(world, has_written_all, old, "all on disk");
        world_for(world, 100);                  /* for its last answer */
        unsigned sent = old->sent;
        world_for(world, 600);
        g_assert_cmpuint(old->sent, ==, sent);
        node_down(old);
        node_up_as_joining(old);
        g_assert_cmpstr(old->state->str, ==, leader->state->str);
        world_for(world, 600);
        g_assert_cmpuint(old->sent, ==, sent);
        g_assert_cmpuint(node_status(old).term, ==, term);
        g_assert_cmpint(node_status(old).role, ==, RAFT_MEMBER_NONE);
}

static void test_a_removed_voter_that_is_far_behind_follows(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *leader = world_wait_leader(world), *gone = a_follower(world, NULL);

        write_many(leader, "a", 5);
        node_down(gone);
        change_and_wait(leader, gone, RAFT_MEMBER_NONE);
        write_many(leader, "b", 5);
        take_snapshot(leader);
        write_many(leader, "c", 5);
        node_up(gone);
        node_follow(gone, leader);
        node_wait_state(gone, leader->state->str);
        g_assert_cmpuint(gone->restored, ==, 1);
        wait_role(gone, RAFT_MEMBER_NONE);
}

static void test_a_leader_that_is_to_go_hands_over_and_becomes_a_reader(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *old = world_wait_leader(world), *leader = old;

        write_many(old, "a", 5);
        g_assert_cmpint(raft_engine_change_member(old->engine, old->id, NULL, RAFT_MEMBER_NONE, NULL, NULL, NULL), ==,
                        RAFT_SUBMIT_BUSY);
        while (leader == old) {
                (void) raft_engine_transfer(old->engine, 0);
                world_for(world, 20);
                leader = world_wait_leader(world);
        }
        change_and_wait(leader, old, RAFT_MEMBER_NONE);
        node_follow(old, leader);
        write_many(leader, "b", 5);
        node_wait_state(old, leader->state->str);
        g_assert_cmpuint(node_status(old).leader_id, ==, leader->id);
        g_assert_false(node_status(old).is_member);
}

static void test_a_reader_becomes_standby_and_voter_while_it_is_relayed_to(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0), *follower = a_follower(world, NULL);

        node_up_as_joining(reader);
        node_follow(reader, follower);
        write_many(leader, "a", 40);
        node_wait_state(reader, leader->state->str);
        change_and_wait(leader, reader, RAFT_MEMBER_STANDBY);
        write_many(leader, "b", 5);
        node_wait_state(reader, leader->state->str);
        g_assert_true(node_status(reader).is_member);
        change_and_wait(leader, reader, RAFT_MEMBER_VOTER);
        write_many(leader, "c", 5);
        node_wait_state(reader, leader->state->str);
        g_assert_cmpuint(reader->restored, ==, 0);

        /* It counts: of four voters three are needed. */
        node_follow(reader, NULL);
        node_down(leader);
        Node *next = world_wait_leader(world);
        write_many(next, "d", 3);
        node_wait_state(reader, next->state->str);
        g_assert_cmpuint(node_status(next).n_voters, ==, 4);

        /* And back: standby, reader. */
        Node *other = next == reader ? follower : reader;
        node_up(leader);
        change_and_wait(next, other, RAFT_MEMBER_STANDBY);
        wait_role(other, RAFT_MEMBER_STANDBY);
        change_and_wait(next, other, RAFT_MEMBER_NONE);
        node_follow(other, next);
        write_many(next, "e", 3);
        node_wait_state(other, next->state->str);
        wait_role(other, RAFT_MEMBER_NONE);
}

/* ---- what no member in its senses relays ---- */

static Node *garbage_from, *garbage_to;

static int relay(const struct raft_message *core) {
        return raft_engine_receive(garbage_to->engine, &(RaftMessage) {
                        .from = garbage_from->id,
                        .to = garbage_to->id,
                        .address = garbage_from->address,
                        .core = core,
                        .relayed = true,
                        .leader = garbage_from->id,
                        .leader_address = garbage_from->address,
                });
}

static int relay_append(struct raft_append_entries append) {
        return relay(&(struct raft_message) { .type = RAFT_APPEND_ENTRIES, .append_entries = append });
}

static void test_senseless_relays_are_refused_and_harmless(void) {
        g_autoptr(World) world = world_with_readers(1);
        Node *leader = world_wait_leader(world), *reader = reader_of(world, 0);

        node_up_as_joining(reader);
        char x[] = "x";
        garbage_from = leader;
        garbage_to = reader;
        struct raft_entry first = { .term = 1, .type = RAFT_COMMAND, .buf = { x, 1 } };
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = 1, .n_entries = 1, .entries = &first, .leader_commit = 1 }), ==, -EBADMSG);

        node_follow(reader, leader);
        write_many(leader, "a", 5);
        node_wait_state(reader, leader->state->str);
        node_follow(reader, NULL);
        RaftStatus before = node_status(reader);
        raft_term term = before.term;
        raft_index last = before.last_index;
        struct raft_entry entry = { .term = term, .type = RAFT_COMMAND, .buf = { x, 1 } };
        struct raft_entry later = { .term = term + 1, .type = RAFT_COMMAND, .buf = { x, 1 } };

        /* More than is committed; another history than what is committed here; votes and answers. */
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = term, .prev_log_index = last, .prev_log_term = term, .n_entries = 1, .entries = &entry,
                        .leader_commit = last }), ==, -EBADMSG);
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = term + 1, .prev_log_index = last - 1, .prev_log_term = term, .n_entries = 1,
                        .entries = &later, .leader_commit = last }), ==, -EBADMSG);
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = term + 1, .prev_log_index = last, .prev_log_term = term + 1,
                        .leader_commit = last }), ==, -EBADMSG);
        g_assert_cmpint(relay(&(struct raft_message) {
                        .type = RAFT_INSTALL_SNAPSHOT,
                        .install_snapshot = { .term = term + 1, .last_index = last, .last_term = term + 1 } }), ==,
                        -EBADMSG);
        g_assert_cmpint(relay(&(struct raft_message) {
                        .type = RAFT_REQUEST_VOTE,
                        .request_vote = { .term = term + 1, .candidate_id = leader->id } }), ==, -EBADMSG);
        g_assert_cmpint(relay(&(struct raft_message) {
                        .type = RAFT_TIMEOUT_NOW, .timeout_now = { .term = term + 1 } }), ==, -EBADMSG);
        g_assert_cmpint(relay(&(struct raft_message) { .type = RAFT_APPEND_ENTRIES_RESULT }), ==, -EBADMSG);
        struct raft_message fine = {
                .type = RAFT_APPEND_ENTRIES,
                .append_entries = { .term = term, .prev_log_index = last, .prev_log_term = term },
        };
        g_assert_cmpint(raft_engine_receive(reader->engine, &(RaftMessage) {
                        .from = leader->id, .address = leader->address, .core = &fine, .relayed = true }), ==,
                        -EBADMSG);
        RaftStatus after = node_status(reader);
        g_assert_cmpuint(after.term, ==, term);
        g_assert_cmpuint(after.last_index, ==, last);
        g_assert_cmpuint(after.committed_index, ==, before.committed_index);

        /* What was compacted away is not taken for new; a member that hears its leader takes no relays. */
        take_snapshot(reader);
        struct raft_entry change = { .term = 1, .type = RAFT_CHANGE };
        struct raft_buffer members;
        struct raft_configuration configuration;
        raft_configuration_init(&configuration);
        g_assert_cmpint(raft_configuration_add(&configuration, 7, "seven", RAFT_VOTER), ==, 0);
        g_assert_cmpint(raft_configuration_encode(&configuration, &members), ==, 0);
        raft_configuration_close(&configuration);
        change.buf = members;
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = term, .n_entries = 1, .entries = &change, .leader_commit = last }), ==, 0);
        g_assert_cmpuint(node_status(reader).last_index, ==, last);
        raft_free(members.base);
        garbage_to = a_follower(world, NULL);
        g_assert_cmpint(relay_append((struct raft_append_entries) {
                        .term = term + 1, .prev_log_index = last, .prev_log_term = term, .n_entries = 1,
                        .entries = &later, .leader_commit = last + 1 }), ==, 0);
        g_assert_cmpuint(node_status(garbage_to).term, ==, term);

        node_follow(reader, leader);
        write_many(leader, "b", 5);
        node_wait_state(reader, leader->state->str);
}

/* Whoever has a key may speak as a leader of a term that nobody else has seen. */
static void test_a_leader_that_contradicts_what_is_committed_ends_nobody(void) {
        g_autoptr(World) world = world_with_readers(0);
        Node *leader = world_wait_leader(world), *follower;

        write_many(leader, "a", 5);
        follower = a_follower(world, NULL);
        node_wait_state(follower, leader->state->str);
        RaftStatus before = node_status(follower);
        char x[] = "x";
        struct raft_entry entry = { .term = before.term + 1, .type = RAFT_COMMAND, .buf = { x, 1 } };
        struct raft_message message = {
                .type = RAFT_APPEND_ENTRIES,
                .append_entries = { .term = before.term + 1, .prev_log_index = before.committed_index - 1,
                                    .prev_log_term = before.term, .n_entries = 1, .entries = &entry },
        };
        g_assert_cmpint(raft_engine_receive(follower->engine, &(RaftMessage) {
                        .from = leader->id, .to = follower->id, .address = leader->address, .core = &message }), ==,
                        -EBADMSG);
        g_assert_cmpuint(node_status(follower).last_index, ==, before.last_index);
        write_many(leader, "b", 5);
        node_wait_state(follower, leader->state->str);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/store/reader/" #name, test_##name)
        TEST(a_reader_follows_through_a_follower);
        TEST(a_reader_follows_through_the_leader);
        TEST(a_reader_that_is_behind_is_handed_a_little_at_a_time_and_asks_for_each);
        TEST(a_reader_goes_on_with_another_member);
        TEST(a_reader_comes_back_with_what_it_had);
        TEST(a_follower_comes_back_with_nearly_all);
        TEST(a_reader_that_is_far_behind_gets_the_snapshot);
        TEST(a_leader_that_contradicts_what_is_committed_ends_nobody);
        TEST(only_so_many_snapshots_are_read_at_a_time);
        TEST(nothing_is_relayed_by_who_hears_no_leader);
        TEST(a_reader_with_a_later_term_follows_but_knows_no_leader);
        TEST(one_that_waits_for_a_leader_never_leads);
        TEST(a_removed_voter_follows_and_its_tail_is_replaced);
        TEST(a_removed_voter_that_is_far_behind_follows);
        TEST(a_leader_that_is_to_go_hands_over_and_becomes_a_reader);
        TEST(a_reader_becomes_standby_and_voter_while_it_is_relayed_to);
        TEST(senseless_relays_are_refused_and_harmless);
        return g_test_run();
}
