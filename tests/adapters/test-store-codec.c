/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's messages as frames of the peer protocol, and back: nothing is lost, and nothing is believed. */

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <raft.h>
#include <string.h>

#include "adapters/store/raft-codec.h"
#include "core/names.h"

#define US UINT64_C(77)

static const NodeId peer = { { 1, 2, 3, 4, 5, 6, 7, 8, 9 } };

#define PEER_NUMBER UINT64_C(0x0102030405060708)
#define CHIEF_NUMBER UINT64_C(0xfe020304050607ff)
#define CHIEF_TEXT "fe020304050607ff0900000000000000"

/* ---- a wire ---- */

static GPtrArray *wire;                 /* of GBytes, one a frame */

static int put(void *userdata, const Gpupool1__Frame *frame) {
        size_t size = gpupool1__frame__get_packed_size(frame);
        uint8_t *bytes = g_malloc(size);
        g_assert_cmpuint(gpupool1__frame__pack(frame, bytes), ==, size);
        g_ptr_array_add(wire, g_bytes_new_take(bytes, size));
        return 0;
}

static int put_nothing(void *userdata, const Gpupool1__Frame *frame) {
        return -EAGAIN;
}

static void wire_new(void) {
        g_clear_pointer(&wire, g_ptr_array_unref);
        wire = g_ptr_array_new_with_free_func((GDestroyNotify) g_bytes_unref);
}

static Gpupool1__Frame *frame_at(guint i) {
        gsize size;
        const void *bytes = g_bytes_get_data(wire->pdata[i], &size);
        Gpupool1__Frame *frame = gpupool1__frame__unpack(NULL, size, bytes);
        g_assert_nonnull(frame);
        return frame;
}

typedef struct Arrived {
        Gpupool1__Frame *frame;
        RaftInbound *inbound;
        const RaftMessage *message;
} Arrived;

static Arrived arrive(guint i) {
        Arrived a = { .frame = frame_at(i) };
        g_assert_cmpint(a.frame->body_case, ==, GPUPOOL1__FRAME__BODY_RAFT);
        g_assert_cmpint(raft_codec_decode(a.frame->raft, &peer, US, &a.inbound), ==, 0);
        g_assert_nonnull(a.inbound);
        a.message = raft_inbound_message(a.inbound);
        g_assert_cmpuint(a.message->from, ==, PEER_NUMBER);
        g_assert_cmpuint(a.message->to, ==, US);
        g_assert_cmpstr(a.message->address, ==, "01020304050607080900000000000000");
        return a;
}

static void arrived_clear(Arrived *a) {
        raft_inbound_free(a->inbound);
        gpupool1__frame__free_unpacked(a->frame, NULL);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Arrived, arrived_clear)

static Arrived there_and_back(const struct raft_message *core) {
        wire_new();
        g_assert_cmpint(raft_codec_encode(&(RaftMessage) { .core = core }, put, NULL), ==, 0);
        g_assert_cmpuint(wire->len, ==, 1);
        Arrived a = arrive(0);
        g_assert_cmpint(a.message->kind, ==, RAFT_MESSAGE_CORE);
        g_assert_cmpint(a.message->core->type, ==, core->type);
        g_assert_false(a.message->relayed);
        return a;
}

/* ---- small messages ---- */

static void test_votes_come_back_as_they_went(void) {
        struct raft_message vote = {
                .type = RAFT_REQUEST_VOTE,
                .request_vote = { .term = 5, .candidate_id = 9, .last_log_index = 6, .last_log_term = 4,
                                  .disrupt_leader = true, .pre_vote = true },
        };
        g_auto(Arrived) a = there_and_back(&vote);
        const struct raft_request_vote *got = &a.message->core->request_vote;
        g_assert_cmpuint(got->term, ==, 5);
        g_assert_cmpuint(got->candidate_id, ==, PEER_NUMBER);           /* nobody asks for another */
        g_assert_cmpuint(got->last_log_index, ==, 6);
        g_assert_cmpuint(got->last_log_term, ==, 4);
        g_assert_true(got->disrupt_leader);
        g_assert_true(got->pre_vote);

        struct raft_message result = {
                .type = RAFT_REQUEST_VOTE_RESULT,
                .request_vote_result = { .version = 2, .term = UINT64_MAX, .vote_granted = true, .features = 1 },
        };
        g_auto(Arrived) b = there_and_back(&result);
        g_assert_cmpuint(b.message->core->request_vote_result.term, ==, UINT64_MAX);
        g_assert_cmpuint(b.message->core->request_vote_result.version, ==, 2);
        g_assert_cmpuint(b.message->core->request_vote_result.features, ==, 1);
        g_assert_true(b.message->core->request_vote_result.vote_granted);
        g_assert_false(b.message->core->request_vote_result.pre_vote);
}

static void test_answers_and_orders_come_back_as_they_went(void) {
        struct raft_message result = {
                .type = RAFT_APPEND_ENTRIES_RESULT,
                .append_entries_result = { .version = 2, .term = 3, .rejected = 7, .last_log_index = 6, .features = 1 },
        };
        g_auto(Arrived) a = there_and_back(&result);
        g_assert_cmpuint(a.message->core->append_entries_result.rejected, ==, 7);
        g_assert_cmpuint(a.message->core->append_entries_result.last_log_index, ==, 6);
        g_assert_cmpuint(a.message->core->append_entries_result.term, ==, 3);
        g_assert_cmpuint(a.message->core->append_entries_result.version, ==, 2);

        struct raft_message now = { .type = RAFT_TIMEOUT_NOW,
                                    .timeout_now = { .term = 3, .last_log_index = 8, .last_log_term = 2 } };
        g_auto(Arrived) b = there_and_back(&now);
        g_assert_cmpuint(b.message->core->timeout_now.term, ==, 3);
        g_assert_cmpuint(b.message->core->timeout_now.last_log_index, ==, 8);
        g_assert_cmpuint(b.message->core->timeout_now.last_log_term, ==, 2);
}

static void test_confirmations_come_back_as_they_went(void) {
        for (RaftMessageKind kind = RAFT_MESSAGE_CONFIRM_ASK; kind <= RAFT_MESSAGE_CONFIRM_ANSWER; kind++) {
                RaftMessage message = { .kind = kind, .term = 4, .round = 11 };
                wire_new();
                g_assert_cmpint(raft_codec_encode(&message, put, NULL), ==, 0);
                g_auto(Arrived) a = arrive(0);
                g_assert_cmpint(a.message->kind, ==, kind);
                g_assert_null(a.message->core);
                g_assert_cmpuint(a.message->term, ==, 4);
                g_assert_cmpuint(a.message->round, ==, 11);
        }
}

/* ---- entries ---- */

static void check_entries(const struct raft_entry *sent, unsigned n, const RaftMessage *message, guint frames) {
        unsigned seen = 0;

        wire_new();
        g_assert_cmpint(raft_codec_encode(message, put, NULL), ==, 0);
        g_assert_cmpuint(wire->len, ==, frames);
        for (guint i = 0; i < wire->len; i++) {
                g_auto(Arrived) a = arrive(i);
                const struct raft_append_entries *append = &a.message->core->append_entries;
                g_assert_cmpuint(g_bytes_get_size(wire->pdata[i]), <=, RAFT_CODEC_APPEND_SIZE_MAX + 128);
                g_assert_cmpuint(append->term, ==, 9);
                g_assert_cmpuint(append->leader_commit, ==, 123);
                g_assert_cmpuint(append->prev_log_index, ==, 100 + seen);
                g_assert_cmpuint(append->prev_log_term, ==, seen > 0 ? sent[seen - 1].term : 2);
                g_assert_cmpint(a.message->relayed, ==, message->relayed);
                for (unsigned j = 0; j < append->n_entries; j++, seen++) {
                        g_assert_cmpuint(append->entries[j].term, ==, sent[seen].term);
                        g_assert_cmpint(append->entries[j].type, ==, sent[seen].type);
                        g_assert_cmpmem(append->entries[j].buf.base, append->entries[j].buf.len, sent[seen].buf.base,
                                        sent[seen].buf.len);
                }
        }
        g_assert_cmpuint(seen, ==, n);
}

static void test_entries_are_split_into_appends_that_are_right_by_themselves(void) {
        static char bytes[ENTRY_SIZE_MAX];
        static struct raft_entry entries[3000];
        struct raft_message core = {
                .type = RAFT_APPEND_ENTRIES,
                .append_entries = { .term = 9, .prev_log_index = 100, .prev_log_term = 2, .leader_commit = 123,
                                    .entries = entries },
        };
        RaftMessage message = { .core = &core };

        memset(bytes, 'x', sizeof(bytes));
        check_entries(entries, 0, &message, 1);

        /* Two of the largest in each. */
        for (unsigned i = 0; i < 5; i++)
                entries[i] = (struct raft_entry) { .term = 3 + i, .type = RAFT_COMMAND,
                                                   .buf = { bytes, sizeof(bytes) } };
        core.append_entries.n_entries = 5;
        check_entries(entries, 5, &message, 3);

        /* Many small ones. */
        for (unsigned i = 0; i < G_N_ELEMENTS(entries); i++)
                entries[i] = (struct raft_entry) { .term = 3 + i / 1000, .type = i % 7 ? RAFT_COMMAND : RAFT_BARRIER,
                                                   .buf = { bytes, i % 8 } };
        core.append_entries.n_entries = G_N_ELEMENTS(entries);
        check_entries(entries, G_N_ELEMENTS(entries), &message, 3);

        message.relayed = true;
        message.leader = CHIEF_NUMBER;
        message.leader_address = CHIEF_TEXT;
        check_entries(entries, G_N_ELEMENTS(entries), &message, 3);
        g_auto(Arrived) a = arrive(2);
        g_assert_cmpuint(a.message->leader, ==, CHIEF_NUMBER);
        g_assert_cmpstr(a.message->leader_address, ==, CHIEF_TEXT);

}

static void test_encoding_ends_when_a_frame_is_not_taken(void) {
        struct raft_message core = { .type = RAFT_TIMEOUT_NOW };
        g_assert_cmpint(raft_codec_encode(&(RaftMessage) { .core = &core }, put_nothing, NULL), ==, -EAGAIN);
        core.type = RAFT_APPEND_ENTRIES_RESULT;
        g_assert_cmpint(raft_codec_encode(&(RaftMessage) { .core = &core, .relayed = true }, put, NULL), ==, -EINVAL);
}

/* ---- snapshots ---- */

static void install_new(struct raft_message *core, void *data, size_t size) {
        *core = (struct raft_message) {
                .type = RAFT_INSTALL_SNAPSHOT,
                .install_snapshot = { .term = 9, .last_index = 50, .last_term = 8, .conf_index = 40,
                                      .data = { data, size } },
        };
        raft_configuration_init(&core->install_snapshot.conf);
        g_assert_cmpint(raft_configuration_add(&core->install_snapshot.conf, 7, CHIEF_TEXT, RAFT_VOTER), ==, 0);
        g_assert_cmpint(raft_configuration_add(&core->install_snapshot.conf, 8, "other", RAFT_STANDBY), ==, 0);
}

/* All frames of a snapshot onto the wire. */
static void put_snapshot(const RaftMessage *message) {
        RaftSnapshotSender *sender;

        wire_new();
        g_assert_true(raft_codec_is_snapshot(message));
        g_assert_cmpint(raft_codec_encode(message, put, NULL), ==, 0);
        g_assert_cmpint(raft_snapshot_sender_new(message, &sender), ==, 0);
        while (!raft_snapshot_sender_is_done(sender)) {
                g_assert_cmpint(raft_snapshot_sender_next(sender, put_nothing, NULL), ==, -EAGAIN);
                g_assert_cmpint(raft_snapshot_sender_next(sender, put, NULL), ==, 0);
        }
        g_assert_cmpint(raft_snapshot_sender_next(sender, put, NULL), ==, 0);
        raft_snapshot_sender_free(sender);
}

static int begin_at(RaftSnapshotReceiver *receiver, guint i) {
        Gpupool1__Frame *frame = frame_at(i);
        RaftInbound *inbound;
        g_assert_cmpint(raft_codec_decode(frame->raft, &peer, US, &inbound), ==, 0);
        int r = raft_snapshot_receiver_begin(receiver, inbound);
        gpupool1__frame__free_unpacked(frame, NULL);
        return r;
}

static int add_at(RaftSnapshotReceiver *receiver, guint i) {
        Gpupool1__Frame *frame = frame_at(i);
        g_assert_cmpint(frame->body_case, ==, GPUPOOL1__FRAME__BODY_SNAPSHOT_PART);
        int r = raft_snapshot_receiver_add(receiver, frame->snapshot_part);
        gpupool1__frame__free_unpacked(frame, NULL);
        return r;
}

static int add_bytes(RaftSnapshotReceiver *receiver, uint64_t offset, size_t size) {
        static uint8_t bytes[2 * RAFT_CODEC_PART_SIZE_MAX];
        Gpupool1__SnapshotPart part = GPUPOOL1__SNAPSHOT_PART__INIT;
        part.offset = offset;
        part.data = (ProtobufCBinaryData) { .len = size, .data = bytes };
        return raft_snapshot_receiver_add(receiver, &part);
}

static void check_snapshot(size_t size) {
        g_autofree uint8_t *data = g_malloc(size + 1);
        RaftSnapshotReceiver *receiver;
        struct raft_message core;
        guint parts = (guint) ((size + RAFT_CODEC_PART_SIZE_MAX - 1) / RAFT_CODEC_PART_SIZE_MAX);

        for (size_t i = 0; i < size; i++)
                data[i] = (uint8_t) (i * 31 >> 5);
        install_new(&core, data, size);
        put_snapshot(&(RaftMessage) { .core = &core, .relayed = true, .leader_address = CHIEF_TEXT });
        raft_configuration_close(&core.install_snapshot.conf);
        g_assert_cmpuint(wire->len, ==, 1 + parts);

        g_assert_cmpint(raft_snapshot_receiver_new(&receiver), ==, 0);
        int progress = begin_at(receiver, 0);
        for (guint i = 1; i < wire->len; i++) {
                g_assert_cmpint(progress, ==, RAFT_SNAPSHOT_PARTIAL);
                g_assert_null(raft_snapshot_receiver_message(receiver));
                progress = add_at(receiver, i);
        }
        g_assert_cmpint(progress, ==, RAFT_SNAPSHOT_WHOLE);
        const RaftMessage *message = raft_snapshot_receiver_message(receiver);
        const struct raft_install_snapshot *install = &message->core->install_snapshot;
        g_assert_cmpuint(message->from, ==, PEER_NUMBER);
        g_assert_true(message->relayed);
        g_assert_cmpstr(message->leader_address, ==, CHIEF_TEXT);
        g_assert_cmpuint(install->term, ==, 9);
        g_assert_cmpuint(install->last_index, ==, 50);
        g_assert_cmpuint(install->last_term, ==, 8);
        g_assert_cmpuint(install->conf_index, ==, 40);
        g_assert_cmpuint(install->conf.n, ==, 2);
        g_assert_cmpstr(install->conf.servers[0].address, ==, CHIEF_TEXT);
        g_assert_cmpint(install->conf.servers[1].role, ==, RAFT_STANDBY);
        g_assert_nonnull(install->data.base);
        g_assert_cmpmem(install->data.base, install->data.len, data, size);
        raft_snapshot_receiver_clear(receiver);
        g_assert_null(raft_snapshot_receiver_message(receiver));
        g_assert_cmpint(add_bytes(receiver, 0, 1), ==, RAFT_SNAPSHOT_UNASKED);
        raft_snapshot_receiver_free(receiver);
}

static void test_snapshots_come_back_as_they_went(void) {
        check_snapshot(0);
        check_snapshot(1);
        check_snapshot(RAFT_CODEC_PART_SIZE_MAX);
        check_snapshot(RAFT_CODEC_PART_SIZE_MAX + 1);
        check_snapshot(5 * 1024 * 1024 + 17);
}

static void test_parts_that_do_not_fit_end_the_snapshot(void) {
        static const struct { uint64_t offset; size_t size; } wrong[] = {
                { 0, 0 },                                       /* of nothing */
                { 1, 10 },                                      /* a hole */
                { UINT64_MAX, 10 },
                { 0, RAFT_CODEC_PART_SIZE_MAX + 1 },
                { 0, 1001 },                                    /* more than announced */
        };
        uint8_t data[1000] = {};
        RaftSnapshotReceiver *receiver;
        struct raft_message core;

        install_new(&core, data, sizeof(data));
        put_snapshot(&(RaftMessage) { .core = &core });
        raft_configuration_close(&core.install_snapshot.conf);
        g_assert_cmpint(raft_snapshot_receiver_new(&receiver), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_assert_cmpint(begin_at(receiver, 0), ==, RAFT_SNAPSHOT_PARTIAL);
                g_assert_cmpint(add_bytes(receiver, wrong[i].offset, wrong[i].size), ==, -EBADMSG);
                g_assert_cmpint(add_bytes(receiver, 0, 10), ==, RAFT_SNAPSHOT_UNASKED);
        }

        /* A new one replaces it; what is whole takes no more. */
        g_assert_cmpint(begin_at(receiver, 0), ==, RAFT_SNAPSHOT_PARTIAL);
        g_assert_cmpint(add_bytes(receiver, 0, 500), ==, RAFT_SNAPSHOT_PARTIAL);
        g_assert_cmpint(begin_at(receiver, 0), ==, RAFT_SNAPSHOT_PARTIAL);
        g_assert_cmpint(add_bytes(receiver, 0, 999), ==, RAFT_SNAPSHOT_PARTIAL);
        g_assert_cmpint(add_bytes(receiver, 999, 1), ==, RAFT_SNAPSHOT_WHOLE);
        g_assert_cmpint(add_bytes(receiver, 1000, 1), ==, -EBADMSG);
        g_assert_null(raft_snapshot_receiver_message(receiver));
        raft_snapshot_receiver_free(receiver);
}

/* ---- what no peer in its senses says ---- */

static int decode(Gpupool1__Raft *raft) {
        RaftInbound *inbound = NULL;
        int r = raft_codec_decode(raft, &peer, US, &inbound);
        if (r < 0)
                g_assert_null(inbound);
        raft_inbound_free(inbound);
        return r;
}

static void test_senseless_messages_are_refused(void) {
        Gpupool1__Raft raft = GPUPOOL1__RAFT__INIT;
        Gpupool1__RaftVoteResult result = GPUPOOL1__RAFT_VOTE_RESULT__INIT;
        Gpupool1__RaftAppendResult answer = GPUPOOL1__RAFT_APPEND_RESULT__INIT;
        Gpupool1__RaftAppend append = GPUPOOL1__RAFT_APPEND__INIT;
        Gpupool1__RaftEntry entry = GPUPOOL1__RAFT_ENTRY__INIT;
        Gpupool1__RaftInstall install = GPUPOOL1__RAFT_INSTALL__INIT;
        Gpupool1__RaftEntry *entries[RAFT_CODEC_ENTRIES_MAX + 1];
        uint8_t id[ID_SIZE + 1] = { 1 };

        g_assert_cmpint(decode(&raft), ==, 0);                  /* what a later version may say */

        raft.message_case = GPUPOOL1__RAFT__MESSAGE_VOTE_RESULT;
        raft.vote_result = &result;
        g_assert_cmpint(decode(&raft), ==, 0);
        result.vote_granted = 2;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        result.vote_granted = 1;
        result.features = 65536;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        result.features = 65535;
        result.version = 256;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);

        raft.message_case = GPUPOOL1__RAFT__MESSAGE_APPEND_RESULT;
        raft.append_result = &answer;
        g_assert_cmpint(decode(&raft), ==, 0);
        answer.version = 256;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        answer.version = 2;
        raft.relayed_for = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id };
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);           /* nobody relays that */

        raft.message_case = GPUPOOL1__RAFT__MESSAGE_APPEND;
        raft.append = &append;
        g_assert_cmpint(decode(&raft), ==, 0);
        raft.relayed_for.len = ID_SIZE + 1;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        raft.relayed_for.len = 1;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        raft.relayed_for.len = 0;
        entry.type = RAFT_COMMAND;
        for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
                entries[i] = &entry;
        append.entries = entries;
        append.n_entries = RAFT_CODEC_ENTRIES_MAX;
        g_assert_cmpint(decode(&raft), ==, 0);
        append.n_entries++;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        append.n_entries = 1;
        entry.type = 0;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        entry.type = 4;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);

        raft.message_case = GPUPOOL1__RAFT__MESSAGE_INSTALL;
        raft.install = &install;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);           /* no members */
        uint8_t members[] = { 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 'x', 0, 1, 0, 0, 0, 0 };
        install.conf = (ProtobufCBinaryData) { .len = sizeof(members), .data = members };
        install.size = SNAPSHOT_SIZE_MAX;
        g_assert_cmpint(decode(&raft), ==, 0);
        install.size++;
        g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        install.size = 0;
        for (size_t size = 0; size < 19; size++) {
                install.conf.len = size;
                g_assert_cmpint(decode(&raft), ==, -EBADMSG);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/store/codec/" #name, test_##name)
        TEST(votes_come_back_as_they_went);
        TEST(answers_and_orders_come_back_as_they_went);
        TEST(confirmations_come_back_as_they_went);
        TEST(entries_are_split_into_appends_that_are_right_by_themselves);
        TEST(encoding_ends_when_a_frame_is_not_taken);
        TEST(snapshots_come_back_as_they_went);
        TEST(parts_that_do_not_fit_end_the_snapshot);
        TEST(senseless_messages_are_refused);
        int r = g_test_run();
        g_clear_pointer(&wire, g_ptr_array_unref);
        return r;
}
