/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "adapters/store/raft-engine-private.h"

/* So many elections' time without a word, and there is no leader. */
#define SILENT_ELECTIONS 2U

/* ---- who leads ---- */

bool engine_is_member(const RaftEngine *engine) {
        RaftMemberRole role = engine_role_of(engine, engine->raft.id);
        return role == RAFT_MEMBER_STANDBY || role == RAFT_MEMBER_VOTER;
}

void engine_forget_leader(RaftEngine *engine) {
        raft_free(engine->raft.follower_state.current_leader.address);
        engine->raft.follower_state.current_leader.address = NULL;
        engine->raft.follower_state.current_leader.id = 0;
}

/* For libraft a leader stays one through later terms, and for ever to those that cannot become a candidate: a standby,
 * a voter whose disk is full. Such a voter would refuse its vote to everybody. One that is no member hears relays only,
 * which come seldom. */
void engine_doubt_leader(RaftEngine *engine) {
        const struct raft *raft = &engine->raft;
        uint64_t silent_us = (uint64_t) raft->election_timeout * SILENT_ELECTIONS * 1000;

        if (raft->state != RAFT_FOLLOWER || raft->follower_state.current_leader.id == 0)
                return;
        if (engine->contact_term != raft->current_term ||
            (engine_is_member(engine) && engine_now_us(engine) - engine->contact_us >= silent_us))
                engine_forget_leader(engine);
}

static uint64_t term_at(const RaftEngine *engine, uint64_t index) {
        return raft_check_term_at(&engine->raft, &engine->log, index);
}

/* ---- handing on ---- */

/* Up to where the reader's history surely is ours. */
static uint64_t same_until(const RaftEngine *engine, uint64_t last_index, uint64_t last_term, uint64_t committed) {
        if (last_index > 0 && last_term > 0 && last_index <= raft_log_last(&engine->log) &&
            term_at(engine, last_index) == last_term)
                return last_index;
        return committed < last_index ? committed : last_index;
}

static bool reaches_back(const RaftEngine *engine, uint64_t begin) {
        return begin + 1 >= engine->log.first_index && (begin == 0 || term_at(engine, begin) > 0);
}

static unsigned count_entries(const RaftEngine *engine, uint64_t begin, uint64_t end) {
        size_t bytes = 0;
        unsigned n = 0;

        for (uint64_t index = begin + 1; index <= end && n < RAFT_RELAY_ENTRIES_MAX; index++) {
                const LogEntry *entry = raft_log_get(&engine->log, index);
                if (!entry || (n > 0 && bytes + entry->size > RAFT_RELAY_BYTES_MAX))
                        break;
                bytes += entry->size;
                n++;
        }
        return n;
}

static size_t count_snapshots(const RaftEngine *engine) {
        size_t n = 0;
        for (const RaftOutboxItem *item = engine->snapshot_outbox.first; item; item = item->next)
                n += item->message.relayed;
        return n;
}

static int relay_snapshot(RaftEngine *engine, RaftOutboxItem *item) {
        int r = writer_read_snapshot(engine->writer);
        if (r < 0) {
                raft_outbox_item_free(item);
                return r;
        }
        raft_outbox_push(&engine->snapshot_outbox, item);
        return RAFT_RELAY_SENT;
}

int raft_engine_relay(RaftEngine *engine, uint64_t to, const char *address, uint64_t last_index, uint64_t last_term,
                      uint64_t committed) {
        uint64_t known = engine->raft.commit_index, begin;
        const char *leader_address = NULL;
        raft_id leader = 0;

        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (to == 0 || to == engine->raft.id)
                return -EINVAL;
        engine_doubt_leader(engine);
        raft_leader(&engine->raft, &leader, &leader_address);
        if (leader == 0 || !engine_is_member(engine))
                return RAFT_RELAY_NO_LEADER;
        begin = same_until(engine, last_index, last_term, committed);
        if (committed >= known && begin >= known)
                return RAFT_RELAY_NOTHING_NEW;

        struct raft_message core = { .type = RAFT_INSTALL_SNAPSHOT };
        bool whole = reaches_back(engine, begin);
        if (whole) {
                core.type = RAFT_APPEND_ENTRIES;
                core.append_entries = (struct raft_append_entries) {
                        .term = engine->raft.current_term,
                        .prev_log_index = begin,
                        .prev_log_term = begin > 0 ? term_at(engine, begin) : 0,
                        .leader_commit = known,
                        .n_entries = count_entries(engine, begin, known),
                };
        } else if (count_snapshots(engine) >= RAFT_RELAY_SNAPSHOTS_MAX)
                return RAFT_RELAY_BUSY;
        else
                core.install_snapshot.term = engine->raft.current_term;

        RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, to, address, &core, &engine->log);
        if (!item)
                return -ENOMEM;
        item->needs = engine->vote_sequence;
        if (raft_outbox_item_set_leader(item, leader, leader_address) < 0) {
                raft_outbox_item_free(item);
                return -ENOMEM;
        }
        if (!whole)
                return relay_snapshot(engine, item);
        raft_outbox_push(&engine->outbox, item);
        engine_flush(engine);
        return RAFT_RELAY_SENT;
}

/* ---- following ---- */

/* The index that is to be answered when it is stored; 0: none. */
static uint64_t end_of(const RaftEngine *engine, const struct raft_message *core) {
        const struct raft_append_entries *append = &core->append_entries;
        uint64_t end = append->prev_log_index + append->n_entries;
        uint64_t term = append->prev_log_term;

        if (core->type == RAFT_INSTALL_SNAPSHOT)
                return core->install_snapshot.last_index;
        if (append->n_entries > 0)
                term = append->entries[append->n_entries - 1].term;
        return end > 0 && term_at(engine, end) == term ? end : 0;
}

void relay_answer(RaftEngine *engine) {
        struct raft_message core = {
                .type = RAFT_APPEND_ENTRIES_RESULT,
                .append_entries_result = {
                        .term = engine->raft.current_term,
                        .last_log_index = engine->raft.last_stored,
                },
        };

        if (engine->stopped || engine->relay_end == 0 || engine->raft.snapshot.installing || engine->held ||
            engine->raft.last_stored < engine->relay_end)
                return;
        engine->relay_end = 0;
        RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, engine->relayer_id, engine->relayer_address, &core,
                                                    NULL);
        if (!item)
                return;         /* who asks again now and then bears that */
        item->needs = engine->vote_sequence;
        item->message.relayed = true;
        raft_outbox_push(&engine->outbox, item);
        engine_flush(engine);
}

/* All that a snapshot says is committed; libraft does not conclude that when it has the entries already. */
static bool has_all_of(const RaftEngine *engine, const struct raft_install_snapshot *install) {
        return engine->raft.last_stored >= install->last_index &&
               term_at(engine, install->last_index) == install->last_term;
}

static int take(RaftEngine *engine, const RaftMessage *message, struct raft_message *core) {
        const struct raft_install_snapshot *install = &core->install_snapshot;

        if (core->type == RAFT_INSTALL_SNAPSHOT && has_all_of(engine, install))
                *core = (struct raft_message) {
                        .type = RAFT_APPEND_ENTRIES,
                        .append_entries = {
                                .term = install->term,
                                .prev_log_index = install->last_index,
                                .prev_log_term = install->last_term,
                                .leader_commit = install->last_index,
                        },
                };
        engine->relay_end = 0;
        engine->by_relay = true;
        int r = receive_core(engine, message);
        if (r == 0)
                engine->relay_end = end_of(engine, core);
        return r;
}

/* To libraft it comes from the leader. Of an older term only the entries count: they are committed for ever. */
int receive_relayed(RaftEngine *engine, const RaftMessage *relayed) {
        struct raft_message core = *relayed->core;
        RaftMessage message = *relayed;
        uint64_t contact_us = engine->contact_us, contact_term = engine->contact_term;
        raft_term *term = core.type == RAFT_APPEND_ENTRIES ? &core.append_entries.term : &core.install_snapshot.term;

        engine_doubt_leader(engine);
        if (relayed->leader == engine->raft.id || engine_is_leader(engine) ||
            (engine_is_member(engine) && engine->raft.state == RAFT_FOLLOWER &&
             engine->raft.follower_state.current_leader.id != 0))
                return 0;
        _cleanup_free_ char *relayer_address = strdup(relayed->address), *leader_address = NULL;
        message.core = &core;
        message.from = relayed->leader;
        message.address = relayed->leader_address;
        bool late = *term < engine->raft.current_term;
        if (late && engine->raft.state == RAFT_FOLLOWER && engine->raft.follower_state.current_leader.id != 0) {
                message.from = engine->raft.follower_state.current_leader.id;
                message.address = engine->raft.follower_state.current_leader.address;
        }
        leader_address = strdup(message.address);
        if (!relayer_address || !leader_address)
                return -ENOMEM;
        message.address = leader_address;
        if (late)
                *term = engine->raft.current_term;

        free(engine->relayer_address);
        engine->relayer_address = STEAL(relayer_address);
        engine->relayer_id = relayed->from;
        int r = take(engine, &message, &core);
        if (late) {
                engine->contact_us = contact_us;
                engine->contact_term = contact_term;
                engine_doubt_leader(engine);
                engine_tell_changed(engine);
        }
        relay_answer(engine);
        return r;
}
