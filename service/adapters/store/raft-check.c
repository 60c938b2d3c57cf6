/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/raft-check.h"

#include <errno.h>
#include <string.h>

#include "core/names.h"

/* A message carries no more entries than an engine has in flight to one peer, with much room. */
#define MESSAGE_ENTRIES_MAX 4096U

/* libraft's encoding: version 1; number of members (64 bit, little-endian); each 64 bit id, address with its NUL, one
 * byte of role; padding to a multiple of eight. */
#define MEMBERS_VERSION 1
#define MEMBERS_HEADER_SIZE 9U
#define MEMBERS_MAX 64U

static bool members_within_bounds(const uint8_t *bytes, size_t size) {
        uint64_t n = 0;
        size_t at = MEMBERS_HEADER_SIZE;

        if (size < MEMBERS_HEADER_SIZE || bytes[0] != MEMBERS_VERSION)
                return false;
        for (unsigned i = 0; i < 8; i++)
                n |= (uint64_t) bytes[1 + i] << (8 * i);
        if (n == 0 || n > MEMBERS_MAX)
                return false;

        for (uint64_t i = 0; i < n; i++) {
                static const uint8_t no_id[8];
                if (size - at < 8 || memcmp(bytes + at, no_id, 8) == 0)
                        return false;
                at += 8;
                const uint8_t *end = memchr(bytes + at, 0, size - at);
                if (!end || end == bytes + at)
                        return false;
                at = (size_t) (end - bytes) + 1;
                if (at >= size)
                        return false;
                at++;
        }
        return true;
}

int raft_check_decode_members(const void *bytes, size_t size, struct raft_configuration *ret) {
        struct raft_buffer buffer = { .base = (void *) bytes, .len = size };

        if (!members_within_bounds(bytes, size))
                return -EBADMSG;
        int r = raft_configuration_decode(&buffer, ret);
        return r == 0 ? 0 : r == RAFT_NOMEM ? -ENOMEM : -EBADMSG;
}

static bool is_change_good(const struct raft_entry *entry) {
        struct raft_configuration members;

        if (raft_check_decode_members(entry->buf.base, entry->buf.len, &members) < 0)
                return false;
        raft_configuration_close(&members);
        return true;
}

uint64_t raft_check_term_at(const struct raft *raft, const RaftLog *log, uint64_t index) {
        const LogEntry *entry = raft_log_get(log, index);
        if (entry)
                return entry->term;
        return index == raft->trail.snapshot.index ? raft->trail.snapshot.term : 0;
}

static bool contradicts_committed(const struct raft *raft, const RaftLog *log, uint64_t index, uint64_t term) {
        uint64_t own = index > 0 && index <= raft->commit_index ? raft_check_term_at(raft, log, index) : 0;
        return own > 0 && own != term;
}

/* A leader has all that is committed; at what contradicts that libraft gives up. One of an older term may have lost
 * what it says here, and is refused for its term. */
static RaftCheckVerdict check_agreement(const struct raft *raft, const RaftLog *log,
                                        const struct raft_append_entries *append, bool relayed) {
        if (append->term < raft->current_term && !relayed)
                return RAFT_CHECK_GOOD;
        if (contradicts_committed(raft, log, append->prev_log_index, append->prev_log_term))
                return RAFT_CHECK_BAD;
        for (unsigned i = 0; i < append->n_entries; i++)
                if (contradicts_committed(raft, log, append->prev_log_index + 1 + i, append->entries[i].term))
                        return RAFT_CHECK_BAD;
        return RAFT_CHECK_GOOD;
}

static RaftCheckVerdict check_append(const struct raft *raft, const RaftLog *log, const RaftMessage *message) {
        const struct raft_append_entries *append = &message->core->append_entries;
        raft_term term = append->prev_log_term;

        if (append->term == 0 || (append->prev_log_index == 0) != (append->prev_log_term == 0) ||
            append->prev_log_term > append->term || append->n_entries > MESSAGE_ENTRIES_MAX ||
            append->prev_log_index > INT64_MAX - MESSAGE_ENTRIES_MAX || append->term > INT64_MAX)
                return RAFT_CHECK_BAD;
        if (append->term == raft->current_term && raft->state == RAFT_LEADER && !message->relayed)
                return RAFT_CHECK_BAD;          /* a term has one leader */
        if (append->prev_log_index == 0 && append->n_entries > 0 && append->entries[0].type != RAFT_CHANGE)
                return RAFT_CHECK_BAD;          /* every history begins with its first members */

        for (unsigned i = 0; i < append->n_entries; i++) {
                const struct raft_entry *entry = &append->entries[i];
                if (entry->term == 0 || entry->term < term || entry->term > append->term ||
                    entry->buf.len > UINT32_MAX || (entry->buf.len > 0 && !entry->buf.base))
                        return RAFT_CHECK_BAD;
                if (entry->type != RAFT_COMMAND && entry->type != RAFT_BARRIER && entry->type != RAFT_CHANGE)
                        return RAFT_CHECK_BAD;
                if (entry->type == RAFT_COMMAND && entry->buf.len > ENTRY_SIZE_MAX)
                        return RAFT_CHECK_BAD;
                if (entry->type == RAFT_CHANGE && !is_change_good(entry))
                        return RAFT_CHECK_BAD;
                term = entry->term;
        }
        /* All that is handed on must be committed. */
        if (message->relayed && append->n_entries > 0 &&
            append->prev_log_index + append->n_entries > append->leader_commit)
                return RAFT_CHECK_BAD;
        return check_agreement(raft, log, append, message->relayed);
}

static RaftCheckVerdict check_install(const struct raft *raft, const RaftLog *log, const RaftMessage *message) {
        const struct raft_install_snapshot *install = &message->core->install_snapshot;

        if (install->term == 0 || install->term > INT64_MAX || install->last_index == 0 || install->last_term == 0 ||
            install->last_term > install->term || install->conf_index > install->last_index ||
            install->last_index > INT64_MAX || install->conf.n == 0 || install->conf.n > MEMBERS_MAX ||
            install->data.len > SNAPSHOT_SIZE_MAX || (install->data.len > 0 && !install->data.base))
                return RAFT_CHECK_BAD;
        for (unsigned i = 0; i < install->conf.n; i++)
                if (install->conf.servers[i].id == 0 || !install->conf.servers[i].address)
                        return RAFT_CHECK_BAD;
        if (install->term == raft->current_term && raft->state == RAFT_LEADER && !message->relayed)
                return RAFT_CHECK_BAD;
        if (raft->snapshot.installing)
                return RAFT_CHECK_STALE;        /* libraft forgets who owns a second one */

        /* What is committed here is not for replacing by something else. */
        const LogEntry *entry = raft_log_get(log, install->last_index);
        if (install->last_index <= raft->commit_index && install->last_index > raft->trail.snapshot.index &&
            (!entry || entry->term != install->last_term))
                return RAFT_CHECK_BAD;
        return RAFT_CHECK_GOOD;
}

static RaftCheckVerdict check_append_result(const struct raft *raft, uint64_t from,
                                            const struct raft_append_entries_result *result) {
        raft_index match;

        if (result->term > INT64_MAX)
                return RAFT_CHECK_BAD;
        /* A refusal that was overtaken by an acceptance. libraft goes back behind what it knows to be there, and then
         * believes for ever that too much is on its way to send any more. */
        if (raft->state == RAFT_LEADER && result->term == raft->current_term && result->rejected > 0 &&
            raft_match_index(raft, from, &match) == 0 && result->rejected <= match)
                return RAFT_CHECK_STALE;
        return RAFT_CHECK_GOOD;
}

static RaftCheckVerdict check_vote(const struct raft *raft, const RaftMessage *message) {
        const struct raft_request_vote *vote = &message->core->request_vote;

        if (vote->term == 0 || vote->term > INT64_MAX || vote->candidate_id != message->from ||
            (vote->last_log_index == 0) != (vote->last_log_term == 0) || vote->last_log_term > vote->term)
                return RAFT_CHECK_BAD;
        return RAFT_CHECK_GOOD;
}

static RaftCheckVerdict check_vote_result(const struct raft *raft, const struct raft_request_vote_result *result) {
        if (result->term > INT64_MAX)
                return RAFT_CHECK_BAD;
        /* libraft looks into the candidate's part of its state before it asks whether there is one. */
        if (raft->state != RAFT_CANDIDATE)
                return RAFT_CHECK_STALE;
        if (raft->candidate_state.in_pre_vote && result->term > raft->current_term + 1 && result->vote_granted)
                return RAFT_CHECK_BAD;
        return RAFT_CHECK_GOOD;
}

RaftCheckVerdict raft_check_message(const struct raft *raft, const RaftLog *log, const RaftMessage *message) {
        if (message->from == 0 || message->from == raft->id || !message->address)
                return RAFT_CHECK_BAD;
        if (message->kind != RAFT_MESSAGE_CORE)
                return message->relayed ? RAFT_CHECK_BAD : RAFT_CHECK_GOOD;
        if (message->relayed && (message->leader == 0 || !message->leader_address ||
                                 (message->core->type != RAFT_APPEND_ENTRIES &&
                                  message->core->type != RAFT_INSTALL_SNAPSHOT)))
                return RAFT_CHECK_BAD;

        switch (message->core->type) {
        case RAFT_APPEND_ENTRIES:
                return check_append(raft, log, message);
        case RAFT_APPEND_ENTRIES_RESULT:
                return check_append_result(raft, message->from, &message->core->append_entries_result);
        case RAFT_REQUEST_VOTE:
                return check_vote(raft, message);
        case RAFT_REQUEST_VOTE_RESULT:
                return check_vote_result(raft, &message->core->request_vote_result);
        case RAFT_INSTALL_SNAPSHOT:
                return check_install(raft, log, message);
        case RAFT_TIMEOUT_NOW:
                return message->core->timeout_now.term > INT64_MAX ? RAFT_CHECK_BAD : RAFT_CHECK_GOOD;
        }
        return RAFT_CHECK_BAD;
}
