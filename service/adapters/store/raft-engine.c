/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/raft-engine.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "adapters/store/raft-engine-private.h"
#include "core/names.h"
#include "util/text.h"

static_assert((int) RAFT_MEMBER_STANDBY == (int) RAFT_STANDBY && (int) RAFT_MEMBER_VOTER == (int) RAFT_VOTER &&
              (int) RAFT_MEMBER_SPARE == (int) RAFT_SPARE, "roles are libraft's");
static_assert((int) LOG_ENTRY_COMMAND == (int) RAFT_COMMAND && (int) LOG_ENTRY_BARRIER == (int) RAFT_BARRIER &&
              (int) LOG_ENTRY_CHANGE == (int) RAFT_CHANGE, "types of entries are libraft's");

void engine_stop(RaftEngine *engine, const char *format, ...) {
        _cleanup_free_ char *sentence = NULL;
        va_list ap;

        if (engine->stopped)
                return;
        engine->stopped = true;
        (void) sd_event_source_set_enabled(engine->timer, SD_EVENT_OFF);

        va_start(ap, format);
        if (vasprintf(&sentence, format, ap) < 0)
                sentence = NULL;
        va_end(ap);
        engine->callbacks.fault(engine->userdata, sentence ? sentence : "the registry stopped: memory is out.");
}

uint64_t engine_now_us(const RaftEngine *engine) {
        uint64_t us = 0;
        (void) sd_event_now(engine->event, CLOCK_BOOTTIME, &us);
        return us;
}

static uint64_t now_ms(const RaftEngine *engine) {
        return engine_now_us(engine) / 1000;
}

bool engine_is_leader(const RaftEngine *engine) {
        return engine->raft.state == RAFT_LEADER;
}

bool engine_is_ready(const RaftEngine *engine) {
        return engine_is_leader(engine) && engine->applied_index >= engine->ready_index;
}

/* ---- what the outside sees ---- */

RaftMemberRole engine_role_of(const RaftEngine *engine, uint64_t id) {
        const struct raft_configuration *members = &engine->raft.configuration;
        for (unsigned i = 0; i < members->n; i++)
                if (members->servers[i].id == id)
                        return (RaftMemberRole) members->servers[i].role;
        return RAFT_MEMBER_NONE;
}

size_t engine_count_voters(const RaftEngine *engine) {
        const struct raft_configuration *members = &engine->raft.configuration;
        size_t n = 0;
        for (unsigned i = 0; i < members->n; i++)
                if (members->servers[i].role == RAFT_VOTER)
                        n++;
        return n;
}

bool engine_is_lone_voter(const RaftEngine *engine) {
        return engine_count_voters(engine) == 1 && engine_role_of(engine, engine->raft.id) == RAFT_MEMBER_VOTER;
}

static uint64_t leader_id(const RaftEngine *engine) {
        raft_id id = 0;
        const char *address = NULL;

        raft_leader((struct raft *) &engine->raft, &id, &address);
        return id;
}

/* A number that differs when the members do. */
static uint64_t members_mark(const RaftEngine *engine) {
        const struct raft_configuration *members = &engine->raft.configuration;
        uint64_t mark = UINT64_C(14695981039346656037);
        for (unsigned i = 0; i < members->n; i++)
                mark = (mark ^ members->servers[i].id ^ (uint64_t) members->servers[i].role << 62) *
                       UINT64_C(1099511628211);
        return mark;
}

void engine_tell_changed(RaftEngine *engine) {
        bool leader = engine_is_leader(engine), ready = engine_is_ready(engine);
        uint64_t leading = leader_id(engine), term = engine->raft.current_term, members = members_mark(engine);

        if (engine->stopped ||
            (leader == engine->told_leader && ready == engine->told_ready && leading == engine->told_leader_id &&
             term == engine->told_term && members == engine->told_members))
                return;
        engine->told_leader = leader;
        engine->told_ready = ready;
        engine->told_leader_id = leading;
        engine->told_term = term;
        engine->told_members = members;
        engine->callbacks.changed(engine->userdata);
}

void raft_engine_get_status(const RaftEngine *engine, RaftStatus *ret) {
        *ret = (RaftStatus) {
                .id = engine->raft.id,
                .starts = engine->vote.starts,
                .is_leader = engine_is_leader(engine),
                .is_ready = engine_is_ready(engine),
                .leader_id = leader_id(engine),
                .term = engine->raft.current_term,
                .n_voters = engine_count_voters(engine),
                .role = engine_role_of(engine, engine->raft.id),
                .is_member = engine_is_member(engine),
                .leader_contact_us = engine->contact_term == engine->raft.current_term ? engine->contact_us : 0,
                .committed_index = engine->raft.commit_index,
                .applied_index = engine->applied_index,
                .persisted_index = engine->raft.last_stored,
                .last_index = raft_log_last(&engine->log),
                .last_term = raft_check_term_at(&engine->raft, &engine->log, raft_log_last(&engine->log)),
                .snapshot_index = engine->snapshot_index,
                .log_entries = engine->log.n,
                .log_bytes = engine->log.bytes,
                .store_error = writer_error(engine->writer),
        };
        memcpy(ret->cluster_id, engine->cluster_id, sizeof(ret->cluster_id));
}

size_t raft_engine_get_members(const RaftEngine *engine, RaftMember *members, size_t max) {
        const struct raft_configuration *all = &engine->raft.configuration;
        for (unsigned i = 0; i < all->n && i < max; i++)
                members[i] = (RaftMember) {
                        .id = all->servers[i].id,
                        .address = all->servers[i].address,
                        .role = (RaftMemberRole) all->servers[i].role,
                };
        return all->n;
}

bool raft_engine_keeps_up(const RaftEngine *engine, uint64_t id) {
        raft_index match = 0;
        return engine_is_leader(engine) && raft_match_index((struct raft *) &engine->raft, id, &match) == 0 &&
               match + RAFT_KEEPS_UP_ENTRIES >= engine->raft.commit_index;
}

/* ---- applying ---- */

/* Tells raft that a change of members is committed. */
static void apply_change(RaftEngine *engine, uint64_t index, const LogEntry *entry) {
        struct raft_event event = { .type = RAFT_CONFIGURATION, .configuration.index = index };

        int r = raft_check_decode_members(entry->data, entry->size, &event.configuration.conf);
        if (r < 0) {
                engine_stop(engine, "registry %s: the members in entry %" PRIu64 " cannot be read: %s.", engine->path,
                            index, strerror(-r));
                return;
        }
        (void) engine_step(engine, &event);
}

static void apply_one(RaftEngine *engine, uint64_t index, const LogEntry *entry) {
        int r;

        engine->applied_index = index;
        switch (entry->type) {
        case LOG_ENTRY_COMMAND:
                r = engine->callbacks.apply(engine->userdata, index, entry->term, entry->data, entry->size);
                if (r < 0)
                        engine_stop(engine, "registry %s: entry %" PRIu64 " cannot be applied: %s.", engine->path,
                                    index, strerror(-r));
                break;
        case LOG_ENTRY_BARRIER:
                break;
        case LOG_ENTRY_CHANGE:
                apply_change(engine, index, entry);
                break;
        }
        if (!engine->stopped)
                requests_applied(engine, index, entry->term);
}

/* Steps made by what is called from here only raise the commit index; the outermost loop goes on with it. While a
 * snapshot is being installed the log has a gap, and applying waits for it. */
void engine_apply_committed(RaftEngine *engine) {
        if (engine->applying)
                return;
        engine->applying = true;
        while (!engine->stopped && engine->applied_index < engine->raft.commit_index) {
                uint64_t index = engine->applied_index + 1;
                _cleanup_(log_entry_unrefp) LogEntry *entry = log_entry_ref(raft_log_get(&engine->log, index));
                if (!entry)
                        break;
                apply_one(engine, index, entry);
        }
        engine->applying = false;
}

/* ---- sending ---- */

void engine_flush(RaftEngine *engine) {
        if (engine->sending || engine->durable_vote < engine->vote_sequence)
                return;
        engine->sending = true;
        while (!engine->stopped) {
                _cleanup_(raft_outbox_item_freep) RaftOutboxItem *item =
                        raft_outbox_pop(&engine->outbox, engine->durable_vote);
                if (!item)
                        break;
                engine->callbacks.send(engine->userdata, &item->message);
        }
        engine->sending = false;
}

/* A change of members counts where it is received, not where it is committed. Two voters of which one is to be none: it
 * has the change, the leader loses it with its power. Then the one asks for no vote, and gives none to a log that is
 * shorter than its own; nobody leads ever again. So the leader has its change on disk before anybody hears of it. */
static bool waits_for_change(const RaftEngine *engine, const struct raft_message *message) {
        const struct raft_append_entries *append = &message->append_entries;
        return message->type == RAFT_APPEND_ENTRIES && engine->change_index > 0 &&
               append->prev_log_index + append->n_entries >= engine->change_index;
}

/* It is durable; or this leader leads no longer, and its messages are of no use. */
static void release_change(RaftEngine *engine) {
        if (engine->change_index == 0)
                return;
        if (!engine_is_leader(engine)) {
                raft_outbox_clear(&engine->change_outbox);
                engine->change_index = 0;
                return;
        }
        if (engine->raft.last_stored < engine->change_index)
                return;
        engine->change_index = 0;
        for (RaftOutboxItem *item; (item = raft_outbox_pop(&engine->change_outbox, UINT64_MAX));)
                raft_outbox_push(&engine->outbox, item);
}

static void queue_messages(RaftEngine *engine, const struct raft_message *messages, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                if (messages[i].type == RAFT_APPEND_ENTRIES_RESULT && engine->by_relay)
                        continue;       /* relay_answer() does it */
                RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, messages[i].server_id,
                                                            messages[i].server_address, &messages[i], &engine->log);
                if (!item)
                        continue;       /* raft bears a lost message */
                item->needs = engine->vote_sequence;
                tell_note_sent(engine, &messages[i]);
                if (messages[i].type != RAFT_INSTALL_SNAPSHOT) {
                        raft_outbox_push(waits_for_change(engine, messages + i) ? &engine->change_outbox
                                                                                : &engine->outbox,
                                         item);
                        continue;
                }
                if (writer_read_snapshot(engine->writer) < 0)
                        raft_outbox_item_free(item);
                else
                        raft_outbox_push(&engine->snapshot_outbox, item);
        }
}

/* The stored snapshot may be newer than the one that raft meant; that is as good. */
static int send_snapshot(RaftEngine *engine, RaftOutboxItem *item, const LogSnapshot *snapshot) {
        struct raft_install_snapshot *install = &item->core.install_snapshot;

        int r = raft_check_decode_members(snapshot->configuration, snapshot->configuration_size, &install->conf);
        if (r < 0)
                return r;
        install->last_index = snapshot->index;
        install->last_term = snapshot->term;
        install->conf_index = snapshot->configuration_index;
        install->data = (struct raft_buffer) { .base = snapshot->data, .len = snapshot->data_size };
        engine->callbacks.send(engine->userdata, &item->message);
        raft_configuration_close(&install->conf);
        return 0;
}

void engine_on_snapshot_read(void *userdata, LogSnapshot *answer, int error) {
        RaftEngine *engine = userdata;
        _cleanup_(log_snapshot_freep) LogSnapshot *snapshot = answer;
        _cleanup_(raft_outbox_item_freep) RaftOutboxItem *item = raft_outbox_pop(&engine->snapshot_outbox, UINT64_MAX);

        if (engine->stopped || !item)
                return;
        if (error == -EBADMSG) {
                engine_stop(engine, "registry %s is damaged: its snapshot cannot be read.", engine->path);
                return;
        }
        if (!snapshot || !(engine_is_leader(engine) || item->message.relayed) ||
            engine->raft.current_term != item->core.install_snapshot.term)
                return;
        (void) send_snapshot(engine, item, snapshot);
}

/* ---- stepping ---- */

int engine_submit_write(RaftEngine *engine, LogWrite *write) {
        uint64_t sequence;

        write->committed = engine->raft.commit_index;
        int r = writer_submit(engine->writer, write, &sequence);
        if (r == 0 && write->set_vote)
                engine->vote_sequence = sequence;
        return r;
}

/* Copies the new entries into our log and into @write. The batch is ours to free. */
static int take_entries(RaftEngine *engine, const struct raft_update *update, LogWrite *write) {
        const struct raft_entry *batch = update->entries.batch;
        size_t n = update->entries.n;
        int r = 0;

        write->entries = calloc(n, sizeof(*write->entries));
        if (!write->entries)
                return -ENOMEM;
        write->first_index = update->entries.index;
        raft_log_drop_from(&engine->log, update->entries.index);
        for (size_t i = 0; i < n && r == 0; i++) {
                LogEntry *entry = log_entry_new(batch[i].term, (LogEntryType) batch[i].type, batch[i].buf.base,
                                                batch[i].buf.len);
                if (!entry)
                        return -ENOMEM;
                write->entries[write->n_entries++] = entry;
                r = raft_log_append(&engine->log, entry);
                if (engine_is_leader(engine) && entry->type == LOG_ENTRY_CHANGE)
                        engine->change_index = update->entries.index + i;
        }
        raft_free(batch[0].batch);
        return r;
}

/* A leader's snapshot is on its way in: the log is void, what is queued for it will go when it is written. */
static int take_snapshot(RaftEngine *engine, struct raft_update *update, LogWrite *write) {
        const LogSnapshot *incoming = engine->incoming;

        write->snapshot = log_snapshot_new(incoming->index, incoming->term, incoming->configuration_index,
                                           incoming->configuration, incoming->configuration_size, incoming->data,
                                           incoming->data_size);
        write->keep_from = UINT64_MAX;
        raft_configuration_close(&update->snapshot.metadata.configuration);
        raft_free(update->snapshot.chunk.base);
        raft_log_restart(&engine->log, incoming->index + 1);
        return write->snapshot ? 0 : -ENOMEM;
}

/* The vote by itself, for it may overtake what finds no room. */
static int queue_writes(RaftEngine *engine, struct raft_update *update) {
        LogWrite write = {};
        int r = 0;

        if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
                engine->vote.term = engine->raft.current_term;
                engine->vote.voted_for = engine->raft.voted_for;
                r = engine_submit_write(engine, &(LogWrite) { .set_vote = true, .vote = engine->vote });
        }
        if (r == 0 && update->flags & (RAFT_UPDATE_ENTRIES))
                r = take_entries(engine, update, &write);
        if (r == 0 && update->flags & (RAFT_UPDATE_SNAPSHOT))
                r = take_snapshot(engine, update, &write);
        if (r < 0) {
                log_snapshot_free(write.snapshot);
                log_entries_unref(write.entries, write.n_entries);
                return r;
        }
        if (!write.snapshot && write.first_index == 0)
                return 0;
        return engine_submit_write(engine, &write);
}

/* Also of a voter that hears no leader: libraft asks for no vote while entries wait for the disk. */
void engine_follow_urgency(RaftEngine *engine) {
        const struct raft *raft = &engine->raft;
        uint64_t term = raft->current_term, now_us = engine_now_us(engine);

        if (raft_check_term_at(raft, &engine->log, raft->commit_index) == term)
                engine->settled_term = term;
        if (engine_role_of(engine, raft->id) != RAFT_MEMBER_VOTER || engine_is_lone_voter(engine) ||
            (engine->settled_term == term && engine_is_leader(engine)))
                engine->settled_us = now_us;
        else if (engine->settled_term == term && engine->contact_term == term)
                engine->settled_us = engine->contact_us;
        writer_set_urgent(engine->writer, now_us - engine->settled_us >= RAFT_SETTLE_MS * UINT64_C(1000));
}

/* The timer may not fire without end when raft's next time does not move on. */
static void set_timer(RaftEngine *engine, bool timed_out) {
        uint64_t at_ms = raft_timeout(&engine->raft), now = now_ms(engine);

        if (engine->stopped)
                return;
        if (at_ms <= now && timed_out)
                at_ms = now + engine->heartbeat_ms;
        /* A disk that fails makes it worth while to know soon that no leader is heard. */
        if (engine->failing_since_us > 0 && at_ms > now + engine->heartbeat_ms)
                at_ms = now + engine->heartbeat_ms;
        (void) sd_event_source_set_time(engine->timer, at_ms * 1000);
        (void) sd_event_source_set_enabled(engine->timer, SD_EVENT_ONESHOT);
}

/* True for answers by which raft refuses an event and stays as it was. */
static bool is_refusal(int code) {
        return code == RAFT_NOTLEADER || code == RAFT_CANTCHANGE || code == RAFT_NOTFOUND || code == RAFT_BADID;
}

/* Libraft took what @event brings. */
static void note_contact(RaftEngine *engine, const struct raft_event *event) {
        const struct raft_message *message = event->receive.message;
        raft_term term = 0;

        if (event->type != RAFT_RECEIVE)
                return;
        if (message->type == RAFT_APPEND_ENTRIES)
                term = message->append_entries.term;
        if (message->type == RAFT_INSTALL_SNAPSHOT)
                term = message->install_snapshot.term;
        if (term == 0 || term != engine->raft.current_term)
                return;
        engine->contact_us = engine_now_us(engine);
        engine->contact_term = term;
}

/* libraft's refusal of what the leader of an older term sent has a last index that nobody set, and is no refusal at all
 * of a snapshot or of the first entry: were the sender the leader of this term by now, it would count entries that are
 * not here. */
static void complete_refusal(RaftEngine *engine, const struct raft_event *event, struct raft_update *update) {
        const struct raft_message *message = event->receive.message;
        raft_term term = engine->raft.current_term;
        raft_index wanted = 0;

        if (event->type != RAFT_RECEIVE)
                return;
        if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.term < term)
                wanted = message->append_entries.prev_log_index;
        else if (message->type == RAFT_INSTALL_SNAPSHOT && message->install_snapshot.term < term)
                wanted = message->install_snapshot.last_index;
        else
                return;
        for (unsigned i = 0; update->flags & (RAFT_UPDATE_MESSAGES) && i < update->messages.n; i++) {
                struct raft_append_entries_result *result = &update->messages.batch[i].append_entries_result;
                if (update->messages.batch[i].type != RAFT_APPEND_ENTRIES_RESULT)
                        continue;
                result->rejected = wanted > 0 ? wanted : 1;
                result->last_log_index = result->rejected - 1;
                if (result->last_log_index > raft_last_index(&engine->raft))
                        result->last_log_index = raft_last_index(&engine->raft);
        }
}

/* libraft refuses a pre-vote of an older term in the words of that term. A candidate with the better log, whose own
 * requests are all of an older term, would never learn which one it must go beyond. */
static void name_term(RaftEngine *engine, const struct raft_event *event, struct raft_update *update) {
        raft_term term = engine->raft.current_term;

        if (event->type != RAFT_RECEIVE || event->receive.message->type != RAFT_REQUEST_VOTE ||
            event->receive.message->request_vote.term >= term || leader_id(engine) != 0)
                return;
        for (unsigned i = 0; update->flags & (RAFT_UPDATE_MESSAGES) && i < update->messages.n; i++)
                if (update->messages.batch[i].type == RAFT_REQUEST_VOTE_RESULT)
                        update->messages.batch[i].request_vote_result.term = term;
}

/* A lone voter elects itself when its time is up, and libraft lets it do so in the term it is in. That may be the term
 * of a leader that has removed itself, and an index of that term would mean two things. So it is made a new term, with
 * the own vote. Returns true if it was. */
static bool begin_lone_term(RaftEngine *engine, const struct raft_event *event) {
        struct raft *raft = &engine->raft;

        if (event->type != RAFT_TIMEOUT || raft->state != RAFT_FOLLOWER || event->time < raft_timeout(raft) ||
            !engine_is_lone_voter(engine) || raft->snapshot.installing || raft->last_stored < raft_last_index(raft))
                return false;
        raft->current_term++;
        raft->voted_for = raft->id;
        return true;
}

/* A candidate may know that this node is a voter before the node does. Whose vote counts is the candidate's business,
 * and one that says no for that reason alone can leave a cluster without a leader for ever. libraft says no, so for the
 * step it is told otherwise. The vote is bound to its term and to the log like any other. */
static int step_and_vote(RaftEngine *engine, struct raft_event *event, struct raft_update *update) {
        struct raft_configuration *members = &engine->raft.configuration;
        struct raft_server *self = NULL;
        int role = RAFT_VOTER;

        if (event->type == RAFT_RECEIVE && event->receive.message->type == RAFT_REQUEST_VOTE)
                for (unsigned i = 0; i < members->n; i++)
                        if (members->servers[i].id == engine->raft.id)
                                self = &members->servers[i];
        if (self) {
                role = self->role;
                self->role = RAFT_VOTER;
                /* Leaders do not speak to spares: the one that was heard last is none because of that. */
                if (role == RAFT_SPARE &&
                    engine_now_us(engine) - engine->contact_us >= engine->raft.election_timeout * UINT64_C(1000))
                        engine_forget_leader(engine);
        }
        int code = raft_step(&engine->raft, event, update);
        if (self)
                self->role = role;
        return code;
}

int engine_step(RaftEngine *engine, struct raft_event *event) {
        struct raft_update update = {};
        bool was_leader = engine_is_leader(engine);
        bool timed_out = event->type == RAFT_TIMEOUT;

        if (engine->stopped)
                return RAFT_SHUTDOWN;
        event->time = now_ms(engine);
        event->capacity = USHRT_MAX;

        bool new_term = begin_lone_term(engine, event);
        int code = step_and_vote(engine, event, &update);
        if (is_refusal(code))
                return code;
        if (code != 0) {
                engine_stop(engine, "registry %s: the engine cannot go on: %s.", engine->path,
                            code == RAFT_SHUTDOWN ? "a member contradicts what is committed here"
                                                  : raft_strerror(code));
                return code;
        }
        if (new_term)
                update.flags |= RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR;
        note_contact(engine, event);
        complete_refusal(engine, event, &update);
        name_term(engine, event, &update);
        /* First all is copied that is only good until the next step; then come callbacks, which may make one. */
        if (queue_writes(engine, &update) < 0) {
                engine_stop(engine, "registry %s: the engine cannot go on: memory is out.", engine->path);
                return RAFT_NOMEM;
        }
        if (update.flags & (RAFT_UPDATE_MESSAGES))
                queue_messages(engine, update.messages.batch, update.messages.n);
        engine_doubt_leader(engine);
        if (engine_is_leader(engine) && !was_leader)
                requests_begin_term(engine);

        release_change(engine);
        engine_flush(engine);
        engine_apply_committed(engine);
        requests_follow_state(engine);
        tell_follow_state(engine);
        engine_follow_urgency(engine);
        set_timer(engine, timed_out);
        engine_tell_changed(engine);
        return 0;
}

int engine_on_timer(sd_event_source *source, uint64_t at_us, void *userdata) {
        RaftEngine *engine = userdata;
        struct raft_event event = { .type = RAFT_TIMEOUT };

        engine_doubt_leader(engine);
        (void) engine_step(engine, &event);
        if (!engine->stopped)
                requests_turn(engine, true);
        if (!engine->stopped)
                requests_hand_over(engine);
        return 0;
}

int engine_on_deferred(sd_event_source *source, void *userdata) {
        RaftEngine *engine = userdata;

        if (!engine->stopped)
                requests_turn(engine, false);
        if (!engine->stopped)
                tell_turn(engine);
        return 0;
}

int engine_defer(RaftEngine *engine) {
        return sd_event_source_set_enabled(engine->deferred, SD_EVENT_ONESHOT);
}

/* ---- what the writer says ---- */

/* Entries may have been replaced since they were queued; only those that still stand are reported. */
static void entries_durable(RaftEngine *engine, const LogWrite *write) {
        struct raft_event event = { .type = RAFT_PERSISTED_ENTRIES };

        for (size_t i = 0; i < write->n_entries; i++) {
                if (raft_log_get(&engine->log, write->first_index + i) != write->entries[i])
                        break;
                event.persisted_entries.index = write->first_index + i;
        }
        if (event.persisted_entries.index > engine->raft.last_stored)
                (void) engine_step(engine, &event);
}

int engine_metadata_of(const LogSnapshot *snapshot, struct raft_snapshot_metadata *ret) {
        *ret = (struct raft_snapshot_metadata) {
                .index = snapshot->index,
                .term = snapshot->term,
                .configuration_index = snapshot->configuration_index,
        };
        return raft_check_decode_members(snapshot->configuration, snapshot->configuration_size, &ret->configuration);
}

int engine_restore(RaftEngine *engine, const LogSnapshot *snapshot) {
        int r = engine->callbacks.restore(engine->userdata, snapshot->index, snapshot->data, snapshot->data_size);
        if (r < 0) {
                engine_stop(engine, "registry %s: the snapshot at %" PRIu64 " cannot be restored: %s.", engine->path,
                            snapshot->index, strerror(-r));
                return r;
        }
        engine->applied_index = snapshot->index;
        engine->snapshot_index = snapshot->index;
        return 0;
}

static void installed_durable(RaftEngine *engine, const LogSnapshot *snapshot) {
        struct raft_event event = { .type = RAFT_PERSISTED_SNAPSHOT, .persisted_snapshot.last = true };

        if (engine_metadata_of(snapshot, &event.persisted_snapshot.metadata) < 0) {
                engine_stop(engine, "registry %s: the members in a leader's snapshot cannot be read.", engine->path);
                return;
        }
        if (engine_restore(engine, snapshot) < 0) {
                raft_configuration_close(&event.persisted_snapshot.metadata.configuration);
                return;
        }
        requests_overtaken(engine, snapshot->index, snapshot->term);
        (void) engine_step(engine, &event);
}

/* Raft is only told of an own snapshot whose entry its log still has: libraft takes it on trust. */
static void own_durable(RaftEngine *engine, const LogWrite *write) {
        struct raft_event event = { .type = RAFT_SNAPSHOT, .snapshot.trailing = engine->trailing };
        const LogSnapshot *snapshot = write->snapshot;
        const LogEntry *entry = raft_log_get(&engine->log, snapshot->index);

        engine->taking_snapshot = false;
        if (entry && entry->term == snapshot->term && snapshot->index > engine->snapshot_index) {
                if (engine_metadata_of(snapshot, &event.snapshot.metadata) < 0) {
                        engine_stop(engine, "registry %s: the engine cannot go on: memory is out.", engine->path);
                        return;
                }
                engine->snapshot_index = snapshot->index;
                raft_log_drop_below(&engine->log, write->keep_from);
                (void) engine_step(engine, &event);
        }
        if (engine->stopped || !engine->held)
                return;

        _cleanup_(log_snapshot_freep) LogSnapshot *held = STEAL(engine->held);
        _cleanup_free_ char *address = STEAL(engine->held_address);
        (void) receive_snapshot(engine, engine->held_from, address, engine->held_term, held);
}

void engine_on_write_done(void *userdata, uint64_t sequence, const LogWrite *write) {
        RaftEngine *engine = userdata;

        if (write->set_vote && sequence > engine->durable_vote)
                engine->durable_vote = sequence;
        if (engine->stopped)
                return;
        if (write->n_entries > 0)
                entries_durable(engine, write);
        if (write->snapshot && write->keep_from == UINT64_MAX)
                installed_durable(engine, write->snapshot);
        else if (write->snapshot)
                own_durable(engine, write);
        relay_answer(engine);
        engine_flush(engine);
}

void engine_on_trouble(void *userdata, int error) {
        RaftEngine *engine = userdata;

        if (engine->stopped)
                return;
        if (error == -EBADMSG) {
                engine_stop(engine, "registry %s is damaged, found while writing. Start again to see how.",
                            engine->path);
                return;
        }
        if (error == 0)
                engine->failing_since_us = engine->patience_us = 0;
        else if (engine->failing_since_us == 0)
                engine->failing_since_us = engine_now_us(engine);
        set_timer(engine, false);
        engine->callbacks.store_changed(engine->userdata, error);
}

/* ---- own snapshots ---- */

/* True if nothing that was applied after @index changed the state machine. */
static bool is_newest_state(const RaftEngine *engine, uint64_t index) {
        for (uint64_t later = index + 1; later <= engine->applied_index; later++) {
                const LogEntry *entry = raft_log_get(&engine->log, later);
                if (!entry || entry->type == LOG_ENTRY_COMMAND)
                        return false;
        }
        return index <= engine->applied_index;
}

int raft_engine_take_snapshot(RaftEngine *engine, uint64_t index, const void *data, size_t size) {
        struct raft_buffer members;
        LogWrite write = {};

        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (!is_newest_state(engine, index))
                return -EINVAL;
        if (size > SNAPSHOT_SIZE_MAX)
                return -E2BIG;
        index = engine->applied_index;
        if (engine->taking_snapshot || engine->raft.snapshot.installing)
                return RAFT_SNAPSHOT_BUSY;
        if (writer_error(engine->writer) < 0)
                return RAFT_SNAPSHOT_STORE_FAILING;
        const LogEntry *entry = raft_log_get(&engine->log, index);
        if (index == engine->snapshot_index || !entry || engine->raft.configuration_committed_index > index)
                return RAFT_SNAPSHOT_NOTHING_NEW;

        if (raft_configuration_encode(&engine->raft.configuration_committed, &members) != 0)
                return -ENOMEM;
        write.snapshot = log_snapshot_new(index, entry->term, engine->raft.configuration_committed_index, members.base,
                                          members.len, data, size);
        raft_free(members.base);
        if (!write.snapshot)
                return -ENOMEM;
        write.keep_from = index > engine->trailing ? index - engine->trailing + 1 : 1;
        int r = engine_submit_write(engine, &write);
        if (r < 0)
                return r;
        engine->taking_snapshot = true;
        return RAFT_SNAPSHOT_TAKEN;
}
