/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A leader of libraft says how far the log is committed with its next entries, or with its next heartbeat. Whoever
 * waits on another node until what was committed is applied there would wait for that; so it is said at once, by a
 * message without entries, to each member that has all of them. */

#include "adapters/store/raft-engine-private.h"

static Told *find_told(RaftEngine *engine, uint64_t member_id) {
        ARRAY_EACH(told, &engine->told)
                if (told->member_id == member_id)
                        return told;
        return NULL;
}

static void note(RaftEngine *engine, uint64_t member_id, uint64_t committed) {
        Told *told = find_told(engine, member_id);

        if (!told)      /* without memory for it, it is told once more */
                (void) array_append(&engine->told, (&(Told) { .member_id = member_id, .committed = committed }));
        else if (told->committed < committed)
                told->committed = committed;
}

void tell_note_sent(RaftEngine *engine, const struct raft_message *message) {
        const struct raft_append_entries *append = &message->append_entries;
        uint64_t end = append->prev_log_index + append->n_entries;

        if (message->type == RAFT_APPEND_ENTRIES && engine_is_leader(engine))
                note(engine, message->server_id, append->leader_commit < end ? append->leader_commit : end);
}

/* What is committed is committed for ever: so the message is right, whatever else is on its way. */
static bool must_be_told(RaftEngine *engine, const struct raft_server *server) {
        uint64_t committed = engine->raft.commit_index;
        const Told *told = find_told(engine, server->id);
        raft_index match = 0;

        return server->id != engine->raft.id && (!told || told->committed < committed) &&
               raft_match_index(&engine->raft, server->id, &match) == 0 && match >= committed &&
               raft_check_term_at(&engine->raft, &engine->log, committed) > 0;
}

static void tell_one(RaftEngine *engine, const struct raft_server *server) {
        uint64_t committed = engine->raft.commit_index;
        struct raft_message core = {
                .type = RAFT_APPEND_ENTRIES,
                .append_entries = {
                        .term = engine->raft.current_term,
                        .prev_log_index = committed,
                        .prev_log_term = raft_check_term_at(&engine->raft, &engine->log, committed),
                        .leader_commit = committed,
                },
        };
        RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, server->id, server->address, &core, NULL);

        if (!item)
                return;         /* the next heartbeat does it */
        item->needs = engine->vote_sequence;
        raft_outbox_push(&engine->outbox, item);
        note(engine, server->id, committed);
}

void tell_follow_state(RaftEngine *engine) {
        const struct raft_configuration *members = &engine->raft.configuration;

        if (!engine_is_leader(engine)) {
                engine->told.n = 0;
                return;
        }
        for (unsigned i = 0; i < members->n; i++)
                if (must_be_told(engine, &members->servers[i])) {
                        (void) engine_defer(engine);
                        return;
                }
}

void tell_turn(RaftEngine *engine) {
        const struct raft_configuration *members = &engine->raft.configuration;

        if (!engine_is_leader(engine))
                return;
        for (unsigned i = 0; i < members->n; i++)
                if (must_be_told(engine, &members->servers[i]))
                        tell_one(engine, &members->servers[i]);
        engine_flush(engine);
}
