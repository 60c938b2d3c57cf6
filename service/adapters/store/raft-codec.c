/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/raft-codec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/store/raft-check.h"
#include "adapters/store/raft-codec-private.h"
#include "core/names.h"

/* What libraft calls the version of its messages of this kind; the peer protocol has its own. */
#define VOTE_VERSION 2

/* Beside its bytes an entry takes: term (11), type (2), and three tags and lengths. */
#define ENTRY_OVERHEAD 24U

static uint64_t number_of(const NodeId *id) {
        uint64_t number = 0;
        for (size_t i = 0; i < 8; i++)
                number = number << 8 | id->bytes[i];
        return number > 0 ? number : 1;
}

bool raft_codec_is_snapshot(const RaftMessage *message) {
        return message->kind == RAFT_MESSAGE_CORE && message->core->type == RAFT_INSTALL_SNAPSHOT;
}

/* ---- out ---- */

static int tell_raft(Gpupool1__Raft *raft, RaftFrameCallback tell, void *userdata) {
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;

        frame.body_case = GPUPOOL1__FRAME__BODY_RAFT;
        frame.raft = raft;
        return tell(userdata, &frame);
}

static int encode_confirm(Gpupool1__Raft *raft, const RaftMessage *message, RaftFrameCallback tell, void *userdata) {
        Gpupool1__RaftConfirm confirm = GPUPOOL1__RAFT_CONFIRM__INIT;

        confirm.term = message->term;
        confirm.round = message->round;
        if (message->kind == RAFT_MESSAGE_CONFIRM_ASK) {
                raft->message_case = GPUPOOL1__RAFT__MESSAGE_CONFIRM_ASK;
                raft->confirm_ask = &confirm;
        } else {
                raft->message_case = GPUPOOL1__RAFT__MESSAGE_CONFIRM_ANSWER;
                raft->confirm_answer = &confirm;
        }
        return tell_raft(raft, tell, userdata);
}

static int encode_vote(Gpupool1__Raft *raft, const struct raft_request_vote *from, RaftFrameCallback tell,
                       void *userdata) {
        Gpupool1__RaftVote vote = GPUPOOL1__RAFT_VOTE__INIT;

        vote.term = from->term;
        vote.last_log_index = from->last_log_index;
        vote.last_log_term = from->last_log_term;
        vote.disrupt_leader = from->disrupt_leader;
        vote.pre_vote = from->pre_vote;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_VOTE;
        raft->vote = &vote;
        return tell_raft(raft, tell, userdata);
}

static int encode_vote_result(Gpupool1__Raft *raft, const struct raft_request_vote_result *from,
                              RaftFrameCallback tell, void *userdata) {
        Gpupool1__RaftVoteResult result = GPUPOOL1__RAFT_VOTE_RESULT__INIT;

        result.term = from->term;
        result.vote_granted = from->vote_granted;
        result.pre_vote = from->pre_vote;
        result.features = from->features;
        result.version = from->version;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_VOTE_RESULT;
        raft->vote_result = &result;
        return tell_raft(raft, tell, userdata);
}

static int encode_append_result(Gpupool1__Raft *raft, const struct raft_append_entries_result *from,
                                RaftFrameCallback tell, void *userdata) {
        Gpupool1__RaftAppendResult result = GPUPOOL1__RAFT_APPEND_RESULT__INIT;

        result.term = from->term;
        result.rejected = from->rejected;
        result.last_log_index = from->last_log_index;
        result.features = from->features;
        result.version = from->version;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_APPEND_RESULT;
        raft->append_result = &result;
        return tell_raft(raft, tell, userdata);
}

static int encode_timeout_now(Gpupool1__Raft *raft, const struct raft_timeout_now *from, RaftFrameCallback tell,
                              void *userdata) {
        Gpupool1__RaftTimeoutNow timeout = GPUPOOL1__RAFT_TIMEOUT_NOW__INIT;

        timeout.term = from->term;
        timeout.last_log_index = from->last_log_index;
        timeout.last_log_term = from->last_log_term;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_TIMEOUT_NOW;
        raft->timeout_now = &timeout;
        return tell_raft(raft, tell, userdata);
}

static int encode_install(Gpupool1__Raft *raft, const struct raft_install_snapshot *from, RaftFrameCallback tell,
                          void *userdata) {
        Gpupool1__RaftInstall install = GPUPOOL1__RAFT_INSTALL__INIT;
        struct raft_buffer members;

        if (raft_configuration_encode(&from->conf, &members) != 0)
                return -ENOMEM;
        install.term = from->term;
        install.last_index = from->last_index;
        install.last_term = from->last_term;
        install.conf_index = from->conf_index;
        install.conf = (ProtobufCBinaryData) { .len = members.len, .data = members.base };
        install.size = from->data.len;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_INSTALL;
        raft->install = &install;
        int r = tell_raft(raft, tell, userdata);
        raft_free(members.base);
        return r;
}

/* How many entries from @begin on go into one frame: at least one, if there is any. */
static unsigned count_fitting(const struct raft_append_entries *append, unsigned begin) {
        size_t size = 0;
        unsigned n = 0;

        while (begin + n < append->n_entries && n < RAFT_CODEC_ENTRIES_MAX) {
                size += append->entries[begin + n].buf.len + ENTRY_OVERHEAD;
                if (n > 0 && size > RAFT_CODEC_APPEND_SIZE_MAX)
                        break;
                n++;
        }
        return n;
}

/* @entries and @pointers have room for what fits. */
static int encode_some(Gpupool1__Raft *raft, const struct raft_append_entries *from, unsigned begin, unsigned n,
                       Gpupool1__RaftEntry *entries, Gpupool1__RaftEntry **pointers, RaftFrameCallback tell,
                       void *userdata) {
        Gpupool1__RaftAppend append = GPUPOOL1__RAFT_APPEND__INIT;

        for (unsigned i = 0; i < n; i++) {
                const struct raft_entry *entry = &from->entries[begin + i];
                gpupool1__raft_entry__init(&entries[i]);
                entries[i].term = entry->term;
                entries[i].type = (uint32_t) entry->type;
                entries[i].data = (ProtobufCBinaryData) { .len = entry->buf.len, .data = entry->buf.base };
                pointers[i] = &entries[i];
        }
        append.term = from->term;
        append.prev_log_index = from->prev_log_index + begin;
        append.prev_log_term = begin > 0 ? from->entries[begin - 1].term : from->prev_log_term;
        append.leader_commit = from->leader_commit;
        append.n_entries = n;
        append.entries = pointers;
        raft->message_case = GPUPOOL1__RAFT__MESSAGE_APPEND;
        raft->append = &append;
        return tell_raft(raft, tell, userdata);
}

static int encode_append(Gpupool1__Raft *raft, const struct raft_append_entries *from, RaftFrameCallback tell,
                         void *userdata) {
        size_t room = from->n_entries < RAFT_CODEC_ENTRIES_MAX ? from->n_entries : RAFT_CODEC_ENTRIES_MAX;
        _cleanup_free_ Gpupool1__RaftEntry *entries = calloc(room + 1, sizeof(*entries));
        _cleanup_free_ Gpupool1__RaftEntry **pointers = calloc(room + 1, sizeof(*pointers));
        unsigned begin = 0;
        int r;

        if (!entries || !pointers)
                return -ENOMEM;
        do {
                unsigned n = count_fitting(from, begin);
                r = encode_some(raft, from, begin, n, entries, pointers, tell, userdata);
                begin += n;
        } while (r == 0 && begin < from->n_entries);
        return r;
}

int raft_codec_encode(const RaftMessage *message, RaftFrameCallback tell, void *userdata) {
        Gpupool1__Raft raft = GPUPOOL1__RAFT__INIT;
        const struct raft_message *core = message->core;
        NodeId leader;

        if (message->kind != RAFT_MESSAGE_CORE)
                return encode_confirm(&raft, message, tell, userdata);
        if (message->relayed) {
                if (core->type != RAFT_APPEND_ENTRIES && core->type != RAFT_INSTALL_SNAPSHOT)
                        return -EINVAL;
                int r = id_from_text(message->leader_address, leader.bytes);
                if (r < 0)
                        return r;
                raft.relayed_for = (ProtobufCBinaryData) { .len = ID_SIZE, .data = leader.bytes };
        }

        switch (core->type) {
        case RAFT_APPEND_ENTRIES:
                return encode_append(&raft, &core->append_entries, tell, userdata);
        case RAFT_APPEND_ENTRIES_RESULT:
                return encode_append_result(&raft, &core->append_entries_result, tell, userdata);
        case RAFT_REQUEST_VOTE:
                return encode_vote(&raft, &core->request_vote, tell, userdata);
        case RAFT_REQUEST_VOTE_RESULT:
                return encode_vote_result(&raft, &core->request_vote_result, tell, userdata);
        case RAFT_INSTALL_SNAPSHOT:
                return encode_install(&raft, &core->install_snapshot, tell, userdata);
        case RAFT_TIMEOUT_NOW:
                return encode_timeout_now(&raft, &core->timeout_now, tell, userdata);
        }
        return -EINVAL;
}

/* ---- in ---- */

RaftInbound *raft_inbound_free(RaftInbound *inbound) {
        if (!inbound)
                return NULL;
        if (inbound->core.type == RAFT_INSTALL_SNAPSHOT)
                raft_configuration_close(&inbound->core.install_snapshot.conf);
        free(inbound->entries);
        free(inbound);
        return NULL;
}

const RaftMessage *raft_inbound_message(const RaftInbound *inbound) {
        return &inbound->message;
}

static void decode_confirm(RaftInbound *inbound, RaftMessageKind kind, const Gpupool1__RaftConfirm *from) {
        inbound->message.kind = kind;
        inbound->message.core = NULL;
        inbound->message.term = from->term;
        inbound->message.round = from->round;
}

static void decode_vote(RaftInbound *inbound, const Gpupool1__RaftVote *from) {
        inbound->core.type = RAFT_REQUEST_VOTE;
        inbound->core.request_vote = (struct raft_request_vote) {
                .version = VOTE_VERSION,
                .term = from->term,
                .candidate_id = inbound->message.from,
                .last_log_index = from->last_log_index,
                .last_log_term = from->last_log_term,
                .disrupt_leader = from->disrupt_leader,
                .pre_vote = from->pre_vote,
        };
}

static int decode_vote_result(RaftInbound *inbound, const Gpupool1__RaftVoteResult *from) {
        if (from->vote_granted > 1 || from->version > UCHAR_MAX || from->features > USHRT_MAX)
                return -EBADMSG;
        inbound->core.type = RAFT_REQUEST_VOTE_RESULT;
        inbound->core.request_vote_result = (struct raft_request_vote_result) {
                .version = (unsigned char) from->version,
                .term = from->term,
                .vote_granted = from->vote_granted == 1,
                .pre_vote = from->pre_vote,
                .features = (unsigned short) from->features,
                .capacity = USHRT_MAX,          /* our engine has no such limit */
        };
        return 0;
}

static int decode_append(RaftInbound *inbound, const Gpupool1__RaftAppend *from) {
        if (from->n_entries > RAFT_CODEC_ENTRIES_MAX)
                return -EBADMSG;
        if (from->n_entries > 0) {
                inbound->entries = calloc(from->n_entries, sizeof(*inbound->entries));
                if (!inbound->entries)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < from->n_entries; i++) {
                const Gpupool1__RaftEntry *entry = from->entries[i];
                if (entry->type != RAFT_COMMAND && entry->type != RAFT_BARRIER && entry->type != RAFT_CHANGE)
                        return -EBADMSG;
                inbound->entries[i] = (struct raft_entry) {
                        .term = entry->term,
                        .type = (enum raft_entry_type) entry->type,
                        .buf = { .base = entry->data.data, .len = entry->data.len },
                };
        }
        inbound->core.type = RAFT_APPEND_ENTRIES;
        inbound->core.append_entries = (struct raft_append_entries) {
                .term = from->term,
                .prev_log_index = from->prev_log_index,
                .prev_log_term = from->prev_log_term,
                .leader_commit = from->leader_commit,
                .entries = inbound->entries,
                .n_entries = (unsigned) from->n_entries,
        };
        return 0;
}

static int decode_append_result(RaftInbound *inbound, const Gpupool1__RaftAppendResult *from) {
        if (from->version > UCHAR_MAX || from->features > USHRT_MAX)
                return -EBADMSG;
        inbound->core.type = RAFT_APPEND_ENTRIES_RESULT;
        inbound->core.append_entries_result = (struct raft_append_entries_result) {
                .version = (unsigned char) from->version,
                .term = from->term,
                .rejected = from->rejected,
                .last_log_index = from->last_log_index,
                .features = (unsigned short) from->features,
                .capacity = USHRT_MAX,
        };
        return 0;
}

static int decode_install(RaftInbound *inbound, const Gpupool1__RaftInstall *from) {
        struct raft_configuration members;

        if (from->size > SNAPSHOT_SIZE_MAX)
                return -EBADMSG;
        int r = raft_check_decode_members(from->conf.data, from->conf.len, &members);
        if (r < 0)
                return r;
        inbound->announced = from->size;
        inbound->core.type = RAFT_INSTALL_SNAPSHOT;
        inbound->core.install_snapshot = (struct raft_install_snapshot) {
                .term = from->term,
                .last_index = from->last_index,
                .last_term = from->last_term,
                .conf = members,
                .conf_index = from->conf_index,
        };
        return 0;
}

static void decode_timeout_now(RaftInbound *inbound, const Gpupool1__RaftTimeoutNow *from) {
        inbound->core.type = RAFT_TIMEOUT_NOW;
        inbound->core.timeout_now = (struct raft_timeout_now) {
                .term = from->term,
                .last_log_index = from->last_log_index,
                .last_log_term = from->last_log_term,
        };
}

static int decode_leader(RaftInbound *inbound, const ProtobufCBinaryData *relayed_for) {
        NodeId leader;

        if (relayed_for->len == 0)
                return 0;
        if (relayed_for->len != ID_SIZE || inbound->message.kind != RAFT_MESSAGE_CORE ||
            (inbound->core.type != RAFT_APPEND_ENTRIES && inbound->core.type != RAFT_INSTALL_SNAPSHOT))
                return -EBADMSG;
        memcpy(leader.bytes, relayed_for->data, ID_SIZE);
        id_to_text(leader.bytes, inbound->leader_address);
        inbound->message.relayed = true;
        inbound->message.leader = number_of(&leader);
        inbound->message.leader_address = inbound->leader_address;
        return 0;
}

static int decode_message(RaftInbound *inbound, const Gpupool1__Raft *raft) {
        switch (raft->message_case) {
        case GPUPOOL1__RAFT__MESSAGE_VOTE:
                decode_vote(inbound, raft->vote);
                return 0;
        case GPUPOOL1__RAFT__MESSAGE_VOTE_RESULT:
                return decode_vote_result(inbound, raft->vote_result);
        case GPUPOOL1__RAFT__MESSAGE_APPEND:
                return decode_append(inbound, raft->append);
        case GPUPOOL1__RAFT__MESSAGE_APPEND_RESULT:
                return decode_append_result(inbound, raft->append_result);
        case GPUPOOL1__RAFT__MESSAGE_INSTALL:
                return decode_install(inbound, raft->install);
        case GPUPOOL1__RAFT__MESSAGE_TIMEOUT_NOW:
                decode_timeout_now(inbound, raft->timeout_now);
                return 0;
        case GPUPOOL1__RAFT__MESSAGE_CONFIRM_ASK:
                decode_confirm(inbound, RAFT_MESSAGE_CONFIRM_ASK, raft->confirm_ask);
                return 0;
        case GPUPOOL1__RAFT__MESSAGE_CONFIRM_ANSWER:
                decode_confirm(inbound, RAFT_MESSAGE_CONFIRM_ANSWER, raft->confirm_answer);
                return 0;
        case GPUPOOL1__RAFT__MESSAGE__NOT_SET:
        case _GPUPOOL1__RAFT__MESSAGE__CASE_IS_INT_SIZE:
                break;
        }
        return -EBADMSG;
}

int raft_codec_decode(const Gpupool1__Raft *raft, const NodeId *from, uint64_t to, RaftInbound **ret) {
        _cleanup_(raft_inbound_freep) RaftInbound *inbound = NULL;
        int r;

        if (raft->message_case == GPUPOOL1__RAFT__MESSAGE__NOT_SET) {
                *ret = NULL;
                return 0;
        }
        inbound = calloc(1, sizeof(*inbound));
        if (!inbound)
                return -ENOMEM;
        id_to_text(from->bytes, inbound->address);
        inbound->message = (RaftMessage) {
                .kind = RAFT_MESSAGE_CORE,
                .from = number_of(from),
                .to = to,
                .address = inbound->address,
                .core = &inbound->core,
        };
        r = decode_message(inbound, raft);
        if (r < 0)
                return r;
        r = decode_leader(inbound, &raft->relayed_for);
        if (r < 0)
                return r;
        *ret = STEAL(inbound);
        return 0;
}
