/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-id128.h>

#include "core/names.h"
#include "daemon/history-private.h"
#include "daemon/node-id.h"
#include "daemon/seats.h"
#include "util/log.h"

/* Twice the first at most, and all of it within a lease of the fast profile. */
#define FAST_ELECTION_MS 200U
#define FAST_HEARTBEAT_MS 50U

#define REGISTRY_FILE "registry.db"

struct HistoryProposal {
        History *history;
        HistoryProposal *next;
        RaftRequest *request;
        ProposalCallback callback;
        void *userdata;
};

static void adopt_registry(History *history, Registry *registry) {
        registry_free(history->registry);
        history->registry = registry;
        history->callbacks->applied(registry->next_event, history->userdata);
        submissions_applied(history);
        confirmations_applied(history);
}

/* What the cluster agreed on and this build cannot read, it must not skip: others have applied it. */
static int too_old(History *history) {
        history->too_old = true;
        return -ENOTSUP;
}

static int on_restore(void *userdata, uint64_t index, const void *data, size_t size) {
        History *history = userdata;
        Registry *registry = NULL;
        int r = registry_decode(data, size, &registry);
        if (r < 0)
                return r;
        if (r == SNAPSHOT_NEWER)
                return too_old(history);
        if (r != SNAPSHOT_GOOD) {
                log_error("the snapshot of the registry at entry %llu is damaged", (unsigned long long) index);
                return -EBADMSG;
        }
        adopt_registry(history, registry);
        return 0;
}

/* Of entries of others, which nobody here asks for. */
static void forget_results(History *history) {
        ARRAY_EACH(kept, &history->results)
                result_clear(&kept->result);
        history->results.n = 0;
}

static int keep_result(History *history, uint64_t index, Result *result) {
        AppliedResult kept = { .index = index, .result = *result };
        /* More than can be waiting: the oldest has nobody left who asks for it. */
        if (history->results.n >= RAFT_REQUESTS_MAX) {
                result_clear(&history->results.items[0].result);
                array_remove(&history->results, 0);
        }
        int r = array_append(&history->results, &kept);
        if (r >= 0)
                *result = (Result) {};
        return r;
}

/* In a turn of its own: encoding the state takes a moment, and answers go first. */
static int on_shorten(sd_event_source *source, void *userdata) {
        History *history = userdata;
        uint64_t index = history->registry->index;
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        if (status.log_entries < history->config.snapshot_entries ||
            index - status.snapshot_index < history->config.snapshot_entries / 2)
                return 0;

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size = 0;
        int r = registry_encode(history->registry, &bytes, &size);
        if (r >= 0)
                r = raft_engine_take_snapshot(history->engine, index, bytes, size);
        if (r < 0 && history->refused_snapshot_index == 0) {
                log_warning("the registry's log cannot be shortened: %s", strerror(-r));
                history->refused_snapshot_index = index;
        } else if (r == RAFT_SNAPSHOT_TAKEN)
                history->refused_snapshot_index = 0;
        return 0;
}

static int on_apply(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size) {
        History *history = userdata;
        _cleanup_(entry_freep) Entry *entry = NULL;
        _cleanup_(result_clear) Result result = {};
        uint64_t first_event = history->registry->next_event;

        int r = entry_decode(data, size, &entry);
        if (r < 0)
                return r;
        if (r == ENTRY_UNKNOWN)
                return too_old(history);
        if (r != ENTRY_GOOD) {
                log_error("entry %llu of the registry is no entry", (unsigned long long) index);
                return -EBADMSG;
        }
        r = registry_apply(history->registry, index, entry, &result);
        if (r == -ENOTSUP)
                return too_old(history);
        if (r < 0)
                return r;
        if (history->proposals) {
                r = keep_result(history, index, &result);
                if (r < 0)
                        return r;
        }
        (void) sd_event_source_set_enabled(history->shorten, SD_EVENT_ONESHOT);
        history->callbacks->applied(first_event, history->userdata);
        submissions_applied(history);
        confirmations_applied(history);
        return 0;
}

static void on_changed(void *userdata) {
        History *history = userdata;
        history_lead_changed(history);
        history->callbacks->changed(history->userdata);
}

static void on_store_changed(void *userdata, int error) {
        History *history = userdata;
        if (error < 0)
                submissions_answer_now(history);
        if (error < 0)
                log_error("the registry in %s cannot be written: %s. VMs keep running; changes are refused until this "
                          "ends",
                          history->config.state_directory, strerror(-error));
        else
                log_notice("the registry in %s can be written again", history->config.state_directory);
        history->callbacks->changed(history->userdata);
}

static void on_send(void *userdata, const RaftMessage *message) {
        History *history = userdata;
        if (history->callbacks->send)
                history->callbacks->send(message, history->userdata);
}

static void on_fault(void *userdata, const char *sentence) {
        History *history = userdata;
        if (!history->too_old)
                history->callbacks->fault(sentence, history->userdata);
        else if (history->started)
                history->callbacks->fault(HISTORY_TOO_OLD, history->userdata);
}

int history_refuse_leftover(const char *state_directory, char **reterr_sentence) {
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/" REGISTRY_FILE, state_directory);
        if (r < 0)
                return r;
        if (access(path, F_OK) < 0)
                return errno == ENOENT ? HISTORY_OPENED : -errno;
        r = text_printf(
                reterr_sentence,
                "%s is there, but the file node-id beside it is not: restore it from a backup of this host, or move "
                "the registry away to begin a new cluster",
                path);
        return r < 0 ? r : HISTORY_REFUSED;
}

int history_refuse_lost(const char *state_directory, char **reterr_sentence) {
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/" REGISTRY_FILE, state_directory);
        if (r < 0)
                return r;
        if (access(path, F_OK) >= 0)
                return HISTORY_OPENED;
        if (errno != ENOENT)
                return -errno;
        r = text_printf(reterr_sentence,
                        "%s is not there, but the file node-id beside it is, so it was lost: restore it from a backup "
                        "of this host, or move node-id away to begin a new cluster (VMs of the lost one are ended "
                        "then)",
                        path);
        return r < 0 ? r : HISTORY_REFUSED;
}

static int open_engine(History *history, const ClusterId *cluster, char **reterr_sentence) {
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/" REGISTRY_FILE, history->config.state_directory);
        if (r < 0)
                return r;

        char address[ID_TEXT_SIZE];
        id_to_text(history->config.node.bytes, address);
        sd_id128_t own, seed;
        r = sd_id128_randomize(&own);
        if (r >= 0)
                r = sd_id128_randomize(&seed);
        if (r < 0)
                return r;
        bool alone = id_is_null(cluster->bytes);
        RaftMember self = { .id = node_id_to_raft(&history->config.node), .address = address,
                            .role = RAFT_MEMBER_VOTER };
        bool fast = history->config.fast;
        RaftEngineConfig engine = {
                .election_ms = fast ? FAST_ELECTION_MS : 0, .heartbeat_ms = fast ? FAST_HEARTBEAT_MS : 0,
                .path = path, .id = self.id, .address = address, .members = alone ? &self : NULL,
                .n_members = alone ? 1 : 0, .random_seed = (unsigned) seed.qwords[0],
                .callbacks = { .restore = on_restore, .apply = on_apply, .changed = on_changed,
                               .store_changed = on_store_changed, .send = on_send, .fault = on_fault },
                .userdata = history,
        };
        memcpy(engine.cluster_id, alone ? own.bytes : cluster->bytes, ID_SIZE);
        r = raft_engine_open(&engine, history->event, &history->engine, reterr_sentence);
        if (r < 0)
                return r;
        return r == LOG_FILE_OPENED || r == LOG_FILE_CREATED ? HISTORY_OPENED : HISTORY_REFUSED;
}

int history_open(History **ret, sd_event *event, const HistoryConfig *config, const HistoryCallbacks *callbacks,
                 void *userdata, char **reterr_sentence) {
        _cleanup_(history_freep) History *history = calloc(1, sizeof(*history));
        if (!history)
                return -ENOMEM;
        history->event = sd_event_ref(event);
        history->config = *config;
        history->callbacks = callbacks;
        history->userdata = userdata;
        int r = registry_new(&history->registry);
        if (r >= 0)
                r = sd_event_add_defer(event, &history->shorten, on_shorten, history);
        if (r >= 0)
                r = sd_event_source_set_enabled(history->shorten, SD_EVENT_OFF);
        if (r >= 0)
                r = open_engine(history, &config->cluster, reterr_sentence);
        if (r != HISTORY_OPENED)
                return r;
        *ret = STEAL(history);
        return HISTORY_OPENED;
}

int history_start(History *history) {
        int r = raft_engine_start(history->engine);
        history->started = true;
        return history->too_old ? -ENOTSUP : r;
}

bool history_is_too_old(const History *history) {
        return history->too_old;
}

void history_set_peers(History *history, Calls *calls, const Beats *beats) {
        history->calls = calls;
        history->beats = beats;
}

int history_remove_files(const char *state_directory) {
        _cleanup_close_ int directory = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int copy = directory < 0 ? -1 : fcntl(directory, F_DUPFD_CLOEXEC, 3);
        DIR *stream = copy < 0 ? NULL : fdopendir(copy);
        if (!stream)
                return -errno;
        int r = 0;
        for (const struct dirent *entry; r >= 0 && (entry = readdir(stream));)
                if (strncmp(entry->d_name, REGISTRY_FILE, strlen(REGISTRY_FILE)) == 0 &&
                    unlinkat(directory, entry->d_name, 0) < 0)
                        r = -errno;
        (void) closedir(stream);
        return r < 0 ? r : fsync(directory) < 0 ? -errno : 0;
}

int history_finish_removal(const char *state_directory) {
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/" REGISTRY_FILE, state_directory);
        if (r < 0)
                return r;
        if (access(path, F_OK) >= 0)
                return 0;
        return errno == ENOENT ? history_remove_files(state_directory) : -errno;
}

int history_adopt(History *history, const ClusterId *cluster) {
        _cleanup_free_ char *sentence = NULL;
        Registry *registry = NULL;
        history_stop(history);
        history->engine = raft_engine_free(history->engine);
        int r = history_remove_files(history->config.state_directory);
        if (r >= 0)
                r = registry_new(&registry);
        if (r >= 0) {
                adopt_registry(history, registry);
                r = open_engine(history, cluster, &sentence);
        }
        if (r == HISTORY_REFUSED) {
                log_error("%s", sentence);
                return -EBADMSG;
        }
        return r < 0 ? r : history_start(history);
}

/* What the engine has taken it still writes: nobody here will learn whether it happened. */
void history_stop(History *history) {
        submissions_stop(history);
        confirmations_stop(history);
        while (history->proposals) {
                HistoryProposal *proposal = history->proposals;
                ProposalCallback callback = proposal->callback;
                void *userdata = proposal->userdata;
                history_proposal_free(proposal);
                callback(RAFT_OUTCOME_UNKNOWN, 0, NULL, userdata);
        }
}

void history_abandon(History *history) {
        submissions_abandon(history);
}

History *history_free(History *history) {
        if (!history)
                return NULL;
        history_stop(history);
        raft_engine_free(history->engine);
        forget_results(history);
        array_clear(&history->results);
        registry_free(history->registry);
        sd_event_source_disable_unref(history->shorten);
        sd_event_unref(history->event);
        free(history);
        return NULL;
}

const Registry *history_registry(const History *history) {
        return history->registry;
}

RaftEngine *history_engine(History *history) {
        return history->engine;
}

bool history_leads(const History *history) {
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        return status.is_ready;
}

void history_status(const History *history, RaftStatus *ret) {
        raft_engine_get_status(history->engine, ret);
}

uint64_t history_starts(const History *history) {
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        return status.starts;
}

static bool take_result(History *history, uint64_t index, Result *ret) {
        for (size_t i = 0; i < history->results.n; i++)
                if (history->results.items[i].index == index) {
                        *ret = history->results.items[i].result;
                        array_remove(&history->results, i);
                        return true;
                }
        return false;
}

HistoryProposal *history_proposal_free(HistoryProposal *proposal) {
        if (!proposal)
                return NULL;
        for (HistoryProposal **p = &proposal->history->proposals; *p; p = &(*p)->next)
                if (*p == proposal) {
                        *p = proposal->next;
                        break;
                }
        if (!proposal->history->proposals)
                forget_results(proposal->history);
        raft_request_free(proposal->request);
        free(proposal);
        return NULL;
}

static void on_decided(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        HistoryProposal *proposal = userdata;
        ProposalCallback callback = proposal->callback;
        void *callback_userdata = proposal->userdata;
        _cleanup_(result_clear) Result result = {};
        bool known = outcome == RAFT_OUTCOME_DONE && take_result(proposal->history, index, &result);
        history_proposal_free(proposal);
        callback(outcome, index, known ? &result : NULL, callback_userdata);
}

int history_propose(History *history, const void *bytes, size_t size, ProposalCallback callback, void *userdata,
                    HistoryProposal **ret) {
        HistoryProposal *proposal = calloc(1, sizeof(*proposal));
        if (!proposal)
                return -ENOMEM;
        *proposal = (HistoryProposal) { .history = history, .next = history->proposals, .callback = callback,
                                        .userdata = userdata };
        history->proposals = proposal;
        int r = raft_engine_submit(history->engine, bytes, size, on_decided, proposal, &proposal->request);
        if (r != RAFT_SUBMIT_TAKEN)
                history_proposal_free(proposal);
        else
                *ret = proposal;
        return r;
}

/* ---- who leads */

/* A voter knows whom it voted for, or who leads in its term; who does not vote believes it of voters only. What a
 * registry that is behind does not know as a voter yet it follows first (courier.h). */
static bool may_lead(const NodeId *node, void *userdata) {
        const History *history = userdata;
        RaftStatus status;
        Seats seats;
        raft_engine_get_status(history->engine, &status);
        if (status.is_member && status.leader_id != 0)
                return node_id_to_raft(node) == status.leader_id;
        seats_get(history->engine, &seats);
        return seats.n == 0 || seats_role(&seats, node) == RAFT_MEMBER_VOTER;
}

void history_lead(const History *history, Lead *ret) {
        *ret = (Lead) {};
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        if (status.is_leader) {
                *ret = (Lead) { .leader = history->config.node, .way = history->config.node, .is_local = true,
                                .quorate = status.is_ready };
                return;
        }
        const HeardBeat *leader = history->beats ? beats_leader(history->beats, may_lead, (void *) history) : NULL;
        const HeardBeat *way = history->beats ? beats_way_to_leader(history->beats, may_lead, (void *) history) : NULL;
        /* An old leader that has not heard of its end yet says so as loudly as the new one. */
        if (leader && leader->term >= status.term && (!way || leader->term >= way->term))
                *ret = (Lead) { .leader = leader->node, .way = leader->node, .quorate = true };
        else if (way && way->term >= status.term)
                *ret = (Lead) { .leader = way->leader, .way = way->node, .quorate = true, .relayed = true };
}

uint64_t history_now_us(const History *history) {
        uint64_t now = 0;
        (void) sd_event_now(history->event, CLOCK_BOOTTIME, &now);
        return now;
}

void history_lead_changed(History *history) {
        Lead lead;
        history_lead(history, &lead);
        submissions_lead_changed(history, &lead);
        if (lead.quorate)
                history->leaderless_since_us = 0;
        else if (history->leaderless_since_us == 0)
                history->leaderless_since_us = history_now_us(history);
}
