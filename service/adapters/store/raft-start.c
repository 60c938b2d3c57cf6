/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "adapters/store/raft-engine-private.h"

/* ---- opening ---- */

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
                .done = engine_on_write_done,
                .snapshot = engine_on_snapshot_read,
                .trouble = engine_on_trouble,
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

        r = sd_event_add_time(engine->event, &engine->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, engine_on_timer, engine);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(engine->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_defer(engine->event, &engine->deferred, engine_on_deferred, engine);
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
        return engine_submit_write(engine, &write);
}

/* The entries' bytes stay ours: libraft frees a batch only when there is one. On failure it frees the row. */
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
                if (engine_metadata_of(content->snapshot, &metadata) < 0)
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
        engine_apply_committed(engine);
        engine_tell_changed(engine);
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
        r = content.snapshot ? engine_restore(engine, content.snapshot) : 0;
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
        raft_outbox_clear(&engine->change_outbox);
        array_clear(&engine->confirmations);
        array_clear(&engine->told);
        if (engine->has_raft)
                raft_close(&engine->raft, NULL);
        raft_log_clear(&engine->log);
        log_file_content_clear(&engine->content);
        log_snapshot_free(engine->held);
        free(engine->held_address);
        free(engine->relayer_address);
        (void) sd_event_source_disable_unref(engine->timer);
        (void) sd_event_source_disable_unref(engine->deferred);
        (void) sd_event_unref(engine->event);
        free(engine->path);
        free(engine);
        return NULL;
}
