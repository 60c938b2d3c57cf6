/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "adapters/store/raft-engine-private.h"

static int step_message(RaftEngine *engine, struct raft_message *message) {
        struct raft_event event = { .type = RAFT_RECEIVE, .receive.message = message };
        return engine_step(engine, &event) == 0 ? 0 : -ESHUTDOWN;
}

/* The entries' bytes stay the caller's; libraft frees (or passes back) a batch that holds nothing. */
static int step_append(RaftEngine *engine, const RaftMessage *message, unsigned begin, unsigned end) {
        const struct raft_append_entries *all = &message->core->append_entries;
        _cleanup_free_ struct raft_entry *entries = NULL;
        struct raft_message part = *message->core;
        unsigned n = end - begin;

        part.server_id = message->from;
        part.server_address = message->address;
        part.append_entries.prev_log_index = all->prev_log_index + begin;
        part.append_entries.prev_log_term = begin > 0 ? all->entries[begin - 1].term : all->prev_log_term;
        part.append_entries.entries = NULL;
        part.append_entries.n_entries = n;
        if (n > 0) {
                void *batch = raft_malloc(1);
                entries = calloc(n, sizeof(*entries));
                if (!batch || !entries) {
                        raft_free(batch);
                        return -ENOMEM;
                }
                for (unsigned i = 0; i < n; i++) {
                        entries[i] = all->entries[begin + i];
                        entries[i].batch = batch;
                }
                part.append_entries.entries = entries;
        }
        return step_message(engine, &part);
}

/* How many of the entries a snapshot has replaced here (also more than there are). libraft would take them for missing,
 * or, with those from the very beginning, for new. */
static uint64_t count_replaced(const RaftEngine *engine, const struct raft_append_entries *append) {
        const struct raft_trail *trail = &engine->raft.trail;
        uint64_t begin = append->prev_log_index;

        if (begin >= trail->snapshot.index ||
            (begin == 0 ? trail->offset == 0 : raft_check_term_at(&engine->raft, &engine->log, begin) > 0))
                return 0;
        return trail->snapshot.index - begin;
}

/* What is committed here the leader has too: it is told how far that is. */
static int step_replaced(RaftEngine *engine, const RaftMessage *message) {
        struct raft_message core = *message->core;

        core.server_id = message->from;
        core.server_address = message->address;
        core.append_entries.prev_log_index = engine->raft.trail.snapshot.index;
        core.append_entries.prev_log_term = engine->raft.trail.snapshot.term;
        core.append_entries.entries = NULL;
        core.append_entries.n_entries = 0;
        return step_message(engine, &core);
}

/* A follower of libraft 0.22 takes the first index of a message for that of a change of members anywhere in it, and
 * then waits for ever to see that one committed. So each change is made the first entry of a message of its own. */
static int receive_append(RaftEngine *engine, const RaftMessage *message) {
        const struct raft_append_entries *all = &message->core->append_entries;
        uint64_t replaced = count_replaced(engine, all);

        if (replaced > all->n_entries)
                return step_replaced(engine, message);
        for (unsigned begin = (unsigned) replaced;;) {
                unsigned end = begin < all->n_entries ? begin + 1 : begin;
                while (end < all->n_entries && all->entries[end].type != RAFT_CHANGE)
                        end++;
                int r = step_append(engine, message, begin, end);
                if (r < 0 || end == all->n_entries)
                        return r;

                const LogEntry *last = raft_log_get(&engine->log, all->prev_log_index + end);
                if (!last || last->term != all->entries[end - 1].term)
                        return 0;       /* was not taken; the rest would not be either */
                begin = end;
        }
}

int receive_snapshot(RaftEngine *engine, uint64_t from, const char *address, uint64_t term,
                     const LogSnapshot *snapshot) {
        struct raft_message core = {
                .type = RAFT_INSTALL_SNAPSHOT,
                .server_id = from,
                .server_address = address,
                .install_snapshot = {
                        .term = term,
                        .last_index = snapshot->index,
                        .last_term = snapshot->term,
                        .conf_index = snapshot->configuration_index,
                        .data = { .base = snapshot->data, .len = snapshot->data_size },
                },
        };
        RaftMessage message = { .kind = RAFT_MESSAGE_CORE, .from = from, .address = address, .core = &core };
        struct raft_install_snapshot *install = &core.install_snapshot;

        int r = raft_check_decode_members(snapshot->configuration, snapshot->configuration_size, &install->conf);
        if (r < 0)
                return r;
        RaftCheckVerdict verdict = raft_check_message(&engine->raft, &engine->log, &message);
        install->data.base = verdict == RAFT_CHECK_GOOD ? raft_malloc(1) : NULL;
        if (!install->data.base) {
                raft_configuration_close(&install->conf);
                return verdict == RAFT_CHECK_BAD ? -EBADMSG : verdict == RAFT_CHECK_STALE ? 0 : -ENOMEM;
        }
        engine->incoming = snapshot;
        r = step_message(engine, &core);
        engine->incoming = NULL;
        return r;
}

/* While an own snapshot is being written the newest one from a leader is kept until that is done. */
static int receive_install(RaftEngine *engine, const RaftMessage *message) {
        const struct raft_install_snapshot *install = &message->core->install_snapshot;
        struct raft_buffer members;
        LogSnapshot snapshot = {
                .index = install->last_index,
                .term = install->last_term,
                .configuration_index = install->conf_index,
                .data = install->data.base,
                .data_size = install->data.len,
        };
        int r;

        if (raft_configuration_encode(&install->conf, &members) != 0)
                return -ENOMEM;
        snapshot.configuration = members.base;
        snapshot.configuration_size = members.len;
        if (!engine->taking_snapshot) {
                r = receive_snapshot(engine, message->from, message->address, install->term, &snapshot);
                raft_free(members.base);
                return r;
        }

        _cleanup_(log_snapshot_freep) LogSnapshot *copy =
                log_snapshot_new(snapshot.index, snapshot.term, snapshot.configuration_index, snapshot.configuration,
                                 snapshot.configuration_size, snapshot.data, snapshot.data_size);
        raft_free(members.base);
        _cleanup_free_ char *address = strdup(message->address);
        if (!copy || !address)
                return -ENOMEM;
        log_snapshot_free(engine->held);
        free(engine->held_address);
        engine->held = STEAL(copy);
        engine->held_address = STEAL(address);
        engine->held_from = message->from;
        engine->held_term = install->term;
        return 0;
}

/* The promise: when this was said, the term was still ours, and so our vote went to no later leader before. */
static int answer_confirmation(RaftEngine *engine, const RaftMessage *message) {
        if (message->term != engine->raft.current_term || engine_is_leader(engine))
                return 0;
        engine->settled_term = message->term;           /* only a leader that is ready asks */
        engine_follow_urgency(engine);
        RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, message->from, message->address, NULL, NULL);
        if (!item)
                return -ENOMEM;
        item->needs = engine->vote_sequence;
        item->message.kind = RAFT_MESSAGE_CONFIRM_ANSWER;
        item->message.term = message->term;
        item->message.round = message->round;
        raft_outbox_push(&engine->outbox, item);
        engine_flush(engine);
        return 0;
}

int receive_core(RaftEngine *engine, const RaftMessage *message) {
        struct raft_message core = *message->core;

        if (core.type == RAFT_APPEND_ENTRIES)
                return receive_append(engine, message);
        if (core.type == RAFT_INSTALL_SNAPSHOT)
                return receive_install(engine, message);
        /* A lone voter needs nobody's word, and would take the lead in the term of who gives it. */
        if (core.type == RAFT_TIMEOUT_NOW && engine_is_lone_voter(engine))
                return 0;
        core.server_id = message->from;
        core.server_address = message->address;
        return step_message(engine, &core);
}

int raft_engine_receive(RaftEngine *engine, const RaftMessage *message) {
        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        switch (raft_check_message(&engine->raft, &engine->log, message)) {
        case RAFT_CHECK_GOOD:
                break;
        case RAFT_CHECK_STALE:
                return 0;
        case RAFT_CHECK_BAD:
                return -EBADMSG;
        }

        switch (message->kind) {
        case RAFT_MESSAGE_CORE:
                if (message->relayed)
                        return receive_relayed(engine, message);
                if (message->core->type == RAFT_APPEND_ENTRIES || message->core->type == RAFT_INSTALL_SNAPSHOT)
                        engine->by_relay = false;
                engine_doubt_leader(engine);
                return receive_core(engine, message);
        case RAFT_MESSAGE_CONFIRM_ASK:
                return answer_confirmation(engine, message);
        case RAFT_MESSAGE_CONFIRM_ANSWER:
                if (engine_is_leader(engine) && message->term == engine->raft.current_term)
                        requests_confirmed(engine, message->from, message->round);
                return 0;
        }
        return -EBADMSG;
}
