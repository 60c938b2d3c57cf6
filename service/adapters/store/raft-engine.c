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

static uint64_t now_ms(const RaftEngine *engine) {
        uint64_t us = 0;
        (void) sd_event_now(engine->event, CLOCK_BOOTTIME, &us);
        return us / 1000;
}

bool engine_is_leader(const RaftEngine *engine) {
        return engine->raft.state == RAFT_LEADER;
}

bool engine_is_ready(const RaftEngine *engine) {
        return engine_is_leader(engine) && engine->applied_index >= engine->ready_index;
}

/* ---- what the outside sees ---- */

static RaftMemberRole role_of(const RaftEngine *engine, uint64_t id) {
        const struct raft_configuration *members = &engine->raft.configuration;
        for (unsigned i = 0; i < members->n; i++)
                if (members->servers[i].id == id)
                        return (RaftMemberRole) members->servers[i].role;
        return RAFT_MEMBER_NONE;
}

static size_t count_voters(const RaftEngine *engine) {
        const struct raft_configuration *members = &engine->raft.configuration;
        size_t n = 0;
        for (unsigned i = 0; i < members->n; i++)
                if (members->servers[i].role == RAFT_VOTER)
                        n++;
        return n;
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
                mark = ((mark ^ members->servers[i].id) * UINT64_C(1099511628211) ^ (uint64_t) members->servers[i].role) *
                       UINT64_C(1099511628211);
        return mark;
}

static void tell_changed(RaftEngine *engine) {
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
                .n_voters = count_voters(engine),
                .role = role_of(engine, engine->raft.id),
                .committed_index = engine->raft.commit_index,
                .applied_index = engine->applied_index,
                .persisted_index = engine->raft.last_stored,
                .last_index = raft_log_last(&engine->log),
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
                        engine_stop(engine, "registry %s: entry %" PRIu64 " cannot be applied: %s.", engine->path, index,
                                    strerror(-r));
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
static void apply_committed(RaftEngine *engine) {
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
        if (engine->sending || engine->durable_sequence < engine->vote_sequence)
                return;
        engine->sending = true;
        while (!engine->stopped) {
                _cleanup_(raft_outbox_item_freep) RaftOutboxItem *item =
                        raft_outbox_pop(&engine->outbox, engine->durable_sequence);
                if (!item)
                        break;
                engine->callbacks.send(engine->userdata, &item->message);
        }
        engine->sending = false;
}

static void queue_messages(RaftEngine *engine, const struct raft_message *messages, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, messages[i].server_id,
                                                            messages[i].server_address, &messages[i], &engine->log);
                if (!item)
                        continue;       /* raft bears a lost message */
                item->needs = engine->vote_sequence;
                if (messages[i].type != RAFT_INSTALL_SNAPSHOT) {
                        raft_outbox_push(&engine->outbox, item);
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

static void on_snapshot_read(void *userdata, LogSnapshot *answer, int error) {
        RaftEngine *engine = userdata;
        _cleanup_(log_snapshot_freep) LogSnapshot *snapshot = answer;
        _cleanup_(raft_outbox_item_freep) RaftOutboxItem *item = raft_outbox_pop(&engine->snapshot_outbox, UINT64_MAX);

        if (engine->stopped || !item)
                return;
        if (error == -EBADMSG) {
                engine_stop(engine, "registry %s is damaged: its snapshot cannot be read.", engine->path);
                return;
        }
        if (!snapshot || !engine_is_leader(engine) || engine->raft.current_term != item->core.install_snapshot.term)
                return;
        (void) send_snapshot(engine, item, snapshot);
}

/* ---- stepping ---- */

static int submit_write(RaftEngine *engine, LogWrite *write) {
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

static int queue_writes(RaftEngine *engine, struct raft_update *update) {
        LogWrite write = {};
        int r = 0;

        if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
                engine->vote.term = engine->raft.current_term;
                engine->vote.voted_for = engine->raft.voted_for;
                write.set_vote = true;
                write.vote = engine->vote;
        }
        if (update->flags & (RAFT_UPDATE_ENTRIES))
                r = take_entries(engine, update, &write);
        if (r == 0 && update->flags & (RAFT_UPDATE_SNAPSHOT))
                r = take_snapshot(engine, update, &write);
        if (r < 0) {
                log_snapshot_free(write.snapshot);
                log_entries_unref(write.entries, write.n_entries);
                return r;
        }
        if (!write.set_vote && !write.snapshot && write.first_index == 0)
                return 0;
        return submit_write(engine, &write);
}

/* The timer may not fire without end when raft's next time does not move on. */
static void set_timer(RaftEngine *engine, bool timed_out) {
        uint64_t at_ms = raft_timeout(&engine->raft), now = now_ms(engine);

        if (engine->stopped)
                return;
        if (at_ms <= now && timed_out)
                at_ms = now + engine->heartbeat_ms;
        (void) sd_event_source_set_time(engine->timer, at_ms * 1000);
        (void) sd_event_source_set_enabled(engine->timer, SD_EVENT_ONESHOT);
}

/* True for answers by which raft refuses an event and stays as it was. */
static bool is_refusal(int code) {
        return code == RAFT_NOTLEADER || code == RAFT_CANTCHANGE || code == RAFT_NOTFOUND || code == RAFT_BADID;
}

int engine_step(RaftEngine *engine, struct raft_event *event) {
        struct raft_update update = {};
        bool was_leader = engine_is_leader(engine);
        bool timed_out = event->type == RAFT_TIMEOUT;

        if (engine->stopped)
                return RAFT_SHUTDOWN;
        event->time = now_ms(engine);
        event->capacity = USHRT_MAX;

        int code = raft_step(&engine->raft, event, &update);
        if (is_refusal(code))
                return code;
        if (code != 0) {
                engine_stop(engine, "registry %s: the engine cannot go on: %s.", engine->path,
                            code == RAFT_SHUTDOWN ? "a member contradicts what is committed here"
                                                  : raft_strerror(code));
                return code;
        }
        /* First all is copied that is only good until the next step; then come callbacks, which may make one. */
        if (queue_writes(engine, &update) < 0) {
                engine_stop(engine, "registry %s: the engine cannot go on: memory is out.", engine->path);
                return RAFT_NOMEM;
        }
        if (update.flags & (RAFT_UPDATE_MESSAGES))
                queue_messages(engine, update.messages.batch, update.messages.n);
        if (engine_is_leader(engine) && !was_leader)
                engine->ready_index = raft_last_index(&engine->raft);

        engine_flush(engine);
        apply_committed(engine);
        requests_follow_state(engine);
        set_timer(engine, timed_out);
        tell_changed(engine);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata) {
        RaftEngine *engine = userdata;
        struct raft_event event = { .type = RAFT_TIMEOUT };

        (void) engine_step(engine, &event);
        if (!engine->stopped)
                requests_turn(engine, true);
        return 0;
}

static int on_deferred(sd_event_source *source, void *userdata) {
        RaftEngine *engine = userdata;

        if (!engine->stopped)
                requests_turn(engine, false);
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

static int metadata_of(const LogSnapshot *snapshot, struct raft_snapshot_metadata *ret) {
        *ret = (struct raft_snapshot_metadata) {
                .index = snapshot->index,
                .term = snapshot->term,
                .configuration_index = snapshot->configuration_index,
        };
        return raft_check_decode_members(snapshot->configuration, snapshot->configuration_size, &ret->configuration);
}

static int restore(RaftEngine *engine, const LogSnapshot *snapshot) {
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

        if (metadata_of(snapshot, &event.persisted_snapshot.metadata) < 0) {
                engine_stop(engine, "registry %s: the members in a leader's snapshot cannot be read.", engine->path);
                return;
        }
        if (restore(engine, snapshot) < 0) {
                raft_configuration_close(&event.persisted_snapshot.metadata.configuration);
                return;
        }
        requests_overtaken(engine, snapshot->index);
        (void) engine_step(engine, &event);
}

/* Raft is only told of an own snapshot whose entry its log still has: libraft takes it on trust. */
static void own_durable(RaftEngine *engine, const LogWrite *write) {
        struct raft_event event = { .type = RAFT_SNAPSHOT, .snapshot.trailing = engine->trailing };
        const LogSnapshot *snapshot = write->snapshot;
        const LogEntry *entry = raft_log_get(&engine->log, snapshot->index);

        engine->taking_snapshot = false;
        if (entry && entry->term == snapshot->term && snapshot->index > engine->snapshot_index) {
                if (metadata_of(snapshot, &event.snapshot.metadata) < 0) {
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

static void on_write_done(void *userdata, uint64_t sequence, const LogWrite *write) {
        RaftEngine *engine = userdata;

        engine->durable_sequence = sequence;
        if (engine->stopped)
                return;
        if (write->n_entries > 0)
                entries_durable(engine, write);
        if (write->snapshot && write->keep_from == UINT64_MAX)
                installed_durable(engine, write->snapshot);
        else if (write->snapshot)
                own_durable(engine, write);
        engine_flush(engine);
}

static void on_trouble(void *userdata, int error) {
        RaftEngine *engine = userdata;

        if (engine->stopped)
                return;
        if (error == -EBADMSG) {
                engine_stop(engine, "registry %s is damaged, found while writing. Start again to see how.",
                            engine->path);
                return;
        }
        engine->callbacks.store_changed(engine->userdata, error);
}

/* ---- own snapshots ---- */

int raft_engine_take_snapshot(RaftEngine *engine, uint64_t index, const void *data, size_t size) {
        struct raft_buffer members;
        LogWrite write = {};

        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (index != engine->applied_index)
                return -EINVAL;
        if (size > SNAPSHOT_SIZE_MAX)
                return -E2BIG;
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
        int r = submit_write(engine, &write);
        if (r < 0)
                return r;
        engine->taking_snapshot = true;
        return RAFT_SNAPSHOT_TAKEN;
}

/* ---- birth, start and end ---- */

static int encode_members(const RaftMember *members, size_t n, struct raft_buffer *ret) {
        struct raft_configuration configuration;
        int code = 0;

        raft_configuration_init(&configuration);
        for (size_t i = 0; i < n && code == 0; i++)
                code = members[i].id == 0 || members[i].role == RAFT_MEMBER_NONE
                               ? RAFT_INVALID
                               : raft_configuration_add(&configuration, members[i].id, members[i].address,
                                                        (int) members[i].role);
        if (code == 0)
                code = raft_configuration_encode(&configuration, ret);
        raft_configuration_close(&configuration);
        return code == 0 ? 0 : code == RAFT_NOMEM ? -ENOMEM : -EINVAL;
}

static int open_file(RaftEngine *engine, const RaftEngineConfig *config, char **ret_sentence) {
        LogFileBirth birth = { .server_id = config->id };
        struct raft_buffer members = {};
        static const WriterCallbacks writer_callbacks = {
                .done = on_write_done,
                .snapshot = on_snapshot_read,
                .trouble = on_trouble,
        };
        _cleanup_(log_file_closep) LogFile *file = NULL;
        int r;

        memcpy(birth.cluster_id, config->cluster_id, sizeof(birth.cluster_id));
        if (config->n_members > 0) {
                r = encode_members(config->members, config->n_members, &members);
                if (r < 0)
                        return r;
                birth.configuration = members.base;
                birth.configuration_size = members.len;
        }
        int verdict = log_file_open(config->path, &birth, &file, &engine->content, ret_sentence);
        raft_free(members.base);
        if (verdict != LOG_FILE_OPENED && verdict != LOG_FILE_CREATED)
                return verdict;
        r = writer_new(file, engine->event, &writer_callbacks, engine, &engine->writer);
        if (r < 0)
                return r;
        (void) STEAL(file);
        return verdict;
}

static int add_sources(RaftEngine *engine) {
        int r;

        r = sd_event_add_time(engine->event, &engine->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, on_timer, engine);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(engine->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_defer(engine->event, &engine->deferred, on_deferred, engine);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(engine->timer, "raft-timer");
        (void) sd_event_source_set_description(engine->deferred, "raft-deferred");
        return sd_event_source_set_enabled(engine->deferred, SD_EVENT_OFF);
}

static unsigned or_default(unsigned value, unsigned otherwise) {
        return value > 0 ? value : otherwise;
}

int raft_engine_open(const RaftEngineConfig *config, sd_event *event, RaftEngine **ret_engine, char **ret_sentence) {
        _cleanup_(raft_engine_freep) RaftEngine *engine = NULL;
        int r;

        if (config->id == 0)
                return -EINVAL;
        engine = calloc(1, sizeof(*engine));
        if (!engine)
                return -ENOMEM;
        engine->callbacks = config->callbacks;
        engine->userdata = config->userdata;
        engine->heartbeat_ms = or_default(config->heartbeat_ms, RAFT_HEARTBEAT_DEFAULT_MS);
        engine->trailing = config->trailing == UINT_MAX ? 0 : or_default(config->trailing, RAFT_TRAILING_DEFAULT);
        engine->next_round = 1;
        engine->event = sd_event_ref(event);
        engine->path = strdup(config->path);
        if (!engine->path || raft_init(&engine->raft, NULL, NULL, config->id, config->address) != 0)
                return -ENOMEM;
        engine->has_raft = true;
        raft_seed(&engine->raft, config->random_seed);
        raft_set_election_timeout(&engine->raft, or_default(config->election_ms, RAFT_ELECTION_DEFAULT_MS));
        raft_set_heartbeat_timeout(&engine->raft, engine->heartbeat_ms);
        raft_set_install_snapshot_timeout(&engine->raft, or_default(config->install_ms, RAFT_INSTALL_DEFAULT_MS));
        raft_set_pre_vote(&engine->raft, true);

        r = add_sources(engine);
        if (r < 0)
                return r;
        int verdict = open_file(engine, config, ret_sentence);
        if (verdict != LOG_FILE_OPENED && verdict != LOG_FILE_CREATED)
                return verdict;
        memcpy(engine->cluster_id, engine->content.cluster_id, sizeof(engine->cluster_id));
        *ret_engine = STEAL(engine);
        return verdict;
}

/* The newest members by the file's content. 0, -ENOENT if there are none, or -errno. */
static int newest_members(const LogFileContent *content, struct raft_configuration *ret) {
        for (size_t i = content->n_entries; i > 0; i--)
                if (content->entries[i - 1]->type == LOG_ENTRY_CHANGE)
                        return raft_check_decode_members(content->entries[i - 1]->data, content->entries[i - 1]->size,
                                                         ret);
        if (!content->snapshot)
                return -ENOENT;
        return raft_check_decode_members(content->snapshot->configuration, content->snapshot->configuration_size, ret);
}

/* A lone voter elects itself, and libraft lets it do so without a new term: an entry sent to a standby but lost here
 * would share its index and term with the next one. So each start is a new term. */
static int begin_start(RaftEngine *engine) {
        LogWrite write = { .set_vote = true };
        struct raft_configuration members;
        size_t voters = 0;
        bool voting = false;

        engine->vote = engine->content.vote;
        engine->vote.starts++;
        int r = newest_members(&engine->content, &members);
        if (r < 0 && r != -ENOENT)
                return r;
        for (unsigned i = 0; r == 0 && i < members.n; i++) {
                if (members.servers[i].role != RAFT_VOTER)
                        continue;
                voters++;
                voting |= members.servers[i].id == engine->raft.id;
        }
        if (r == 0)
                raft_configuration_close(&members);
        if (voting && voters == 1) {
                engine->vote.term++;
                engine->vote.voted_for = engine->raft.id;
        }
        write.vote = engine->vote;
        return submit_write(engine, &write);
}

/* The entries' bytes stay ours: libraft frees a batch only when there is one. The row is libraft's to free on failure. */
static struct raft_entry *entries_for_start(const LogFileContent *content) {
        struct raft_entry *entries = raft_calloc(content->n_entries, sizeof(*entries));
        for (size_t i = 0; entries && i < content->n_entries; i++)
                entries[i] = (struct raft_entry) {
                        .term = content->entries[i]->term,
                        .type = (enum raft_entry_type) content->entries[i]->type,
                        .buf = { .base = content->entries[i]->data, .len = content->entries[i]->size },
                };
        return entries;
}

static int start_raft(RaftEngine *engine, const LogFileContent *content) {
        struct raft_snapshot_metadata metadata;
        struct raft_event event = {
                .type = RAFT_START,
                .start = {
                        .term = engine->vote.term,
                        .voted_for = engine->vote.voted_for,
                        .start_index = content->first_index,
                        .n_entries = (unsigned) content->n_entries,
                },
        };

        if (content->snapshot) {
                if (metadata_of(content->snapshot, &metadata) < 0)
                        return -EBADMSG;
                event.start.metadata = &metadata;
        }
        if (content->n_entries > 0) {
                event.start.entries = entries_for_start(content);
                if (!event.start.entries)
                        return -ENOMEM;
        }
        engine->started = true;
        if (engine_step(engine, &event) != 0)
                return -EBADMSG;
        raft_free(event.start.entries);
        return 0;
}

/* Committed is committed, also before a leader says so again: state is shown at once after a restart without quorum. */
static void remember_committed(RaftEngine *engine, uint64_t committed) {
        if (committed > raft_log_last(&engine->log))
                committed = raft_log_last(&engine->log);
        if (committed > engine->raft.commit_index)
                engine->raft.commit_index = committed;
        apply_committed(engine);
        tell_changed(engine);
}

int raft_engine_start(RaftEngine *engine) {
        LogFileContent content = engine->content;
        int r;

        if (engine->started || engine->stopped)
                return -EALREADY;
        r = begin_start(engine);
        if (r < 0)
                return r;

        engine->content = (LogFileContent) {};
        raft_log_init(&engine->log, content.first_index, content.entries, content.n_entries);
        r = content.snapshot ? restore(engine, content.snapshot) : 0;
        if (r == 0)
                r = start_raft(engine, &(LogFileContent) {
                                .snapshot = content.snapshot,
                                .first_index = content.first_index,
                                .entries = engine->log.entries,
                                .n_entries = content.n_entries,
                        });
        log_snapshot_free(content.snapshot);
        if (r == 0)
                remember_committed(engine, content.committed);
        return r < 0 ? r : engine->stopped ? -ESHUTDOWN : 0;
}

RaftEngine *raft_engine_free(RaftEngine *engine) {
        if (!engine)
                return NULL;
        writer_free(engine->writer);
        requests_clear(engine);
        raft_outbox_clear(&engine->outbox);
        raft_outbox_clear(&engine->snapshot_outbox);
        array_clear(&engine->confirmations);
        if (engine->has_raft)
                raft_close(&engine->raft, NULL);
        raft_log_clear(&engine->log);
        log_file_content_clear(&engine->content);
        log_snapshot_free(engine->held);
        free(engine->held_address);
        (void) sd_event_source_disable_unref(engine->timer);
        (void) sd_event_source_disable_unref(engine->deferred);
        (void) sd_event_unref(engine->event);
        free(engine->path);
        free(engine);
        return NULL;
}
