/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/history.h"

#include <errno.h>
#include <stdio.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "core/names.h"
#include "daemon/node-id.h"
#include "util/log.h"

#define REGISTRY_FILE "registry.db"

typedef struct Submission {
        History *history;
        struct Submission *next;
        RaftRequest *request;
        sd_event_source *timer;         /* its deadline; or, before it was taken, the turn in which it is answered */
        SubmitOutcome refused;          /* with the latter */
        SubmitCallback callback;
        void *userdata;
} Submission;

typedef struct Confirmation {
        History *history;
        struct Confirmation *next;
        RaftRequest *request;
        ConfirmCallback callback;
        void *userdata;
} Confirmation;

/* What an entry of this node came to, kept until its submission asks. */
typedef struct AppliedResult {
        uint64_t index;
        Result result;
} AppliedResult;

struct History {
        sd_event *event;
        HistoryConfig config;
        const HistoryCallbacks *callbacks;
        void *userdata;
        RaftEngine *engine;
        Registry *registry;
        Submission *submissions;
        Confirmation *confirmations;
        ARRAY(AppliedResult) results;
        uint64_t refused_snapshot_index;        /* log that a snapshot could not be written once, not at each entry */
};

static void adopt_registry(History *history, Registry *registry) {
        registry_free(history->registry);
        history->registry = registry;
        history->callbacks->applied(registry->next_event, history->userdata);
}

static int on_restore(void *userdata, uint64_t index, const void *data, size_t size) {
        History *history = userdata;
        Registry *registry = NULL;
        int r = registry_decode(data, size, &registry);
        if (r < 0)
                return r;
        if (r != SNAPSHOT_GOOD) {
                log_error("the snapshot of the registry at entry %llu is %s", (unsigned long long) index,
                          r == SNAPSHOT_NEWER ? "of a newer gpupool" : "damaged");
                return -EBADMSG;
        }
        adopt_registry(history, registry);
        return 0;
}

static bool is_own(const History *history, const Entry *entry) {
        return memcmp(entry->author->node.data, history->config.node.bytes, ID_SIZE) == 0;
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

static void consider_snapshot(History *history, uint64_t index) {
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        if (status.log_entries < history->config.snapshot_entries ||
            index - status.snapshot_index < history->config.snapshot_entries / 2)
                return;

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
}

static int on_apply(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size) {
        History *history = userdata;
        _cleanup_(entry_freep) Entry *entry = NULL;
        _cleanup_(result_clear) Result result = {};
        uint64_t first_event = history->registry->next_event;

        /* What the cluster agreed on and this build cannot read, it must not skip: others have applied it. */
        int r = entry_decode(data, size, &entry);
        if (r < 0)
                return r;
        if (r != ENTRY_GOOD) {
                log_error("entry %llu of the registry is %s", (unsigned long long) index,
                          r == ENTRY_UNKNOWN ? "of a newer gpupool" : "no entry");
                return -EBADMSG;
        }
        r = registry_apply(history->registry, index, entry, &result);
        if (r < 0)
                return r;
        if (history->submissions && is_own(history, entry)) {
                r = keep_result(history, index, &result);
                if (r < 0)
                        return r;
        }
        history->callbacks->applied(first_event, history->userdata);
        return 0;
}

static void on_changed(void *userdata) {
        History *history = userdata;
        history->callbacks->changed(history->userdata);
}

/* What is on its way to a disk that does not take it stays on its way; nobody is kept waiting for it. */
static void answer_now(History *history) {
        for (Submission *i = history->submissions; i; i = i->next)
                if (i->request)
                        (void) sd_event_source_set_time(i->timer, 0);
}

static void on_store_changed(void *userdata, int error) {
        History *history = userdata;
        if (error < 0)
                answer_now(history);
        if (error < 0)
                log_error("the registry in %s cannot be written: %s. VMs keep running; changes are refused until this "
                          "ends",
                          history->config.state_directory, strerror(-error));
        else
                log_notice("the registry in %s can be written again", history->config.state_directory);
        history->callbacks->changed(history->userdata);
}

static void on_send(void *userdata, const RaftMessage *message) {
        /* A cluster of one has no peers; the peer link brings them. */
}

static void on_fault(void *userdata, const char *sentence) {
        History *history = userdata;
        history->callbacks->fault(sentence, history->userdata);
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
        if (r < 0)
                return r;

        _cleanup_free_ char *path = NULL;
        r = text_printf(&path, "%s/" REGISTRY_FILE, config->state_directory);
        if (r < 0)
                return r;

        char address[ID_TEXT_SIZE];
        id_to_text(config->node.bytes, address);
        sd_id128_t cluster, seed;
        r = sd_id128_randomize(&cluster);
        if (r >= 0)
                r = sd_id128_randomize(&seed);
        if (r < 0)
                return r;
        RaftMember self = { .id = node_id_to_raft(&config->node), .address = address, .role = RAFT_MEMBER_VOTER };
        RaftEngineConfig engine = {
                .path = path, .id = self.id, .address = address, .members = &self, .n_members = 1,
                .random_seed = (unsigned) seed.qwords[0],
                .callbacks = { .restore = on_restore, .apply = on_apply, .changed = on_changed,
                               .store_changed = on_store_changed, .send = on_send, .fault = on_fault },
                .userdata = history,
        };
        memcpy(engine.cluster_id, cluster.bytes, ID_SIZE);
        r = raft_engine_open(&engine, event, &history->engine, reterr_sentence);
        if (r < 0)
                return r;
        if (r != LOG_FILE_OPENED && r != LOG_FILE_CREATED)
                return HISTORY_REFUSED;
        *ret = STEAL(history);
        return HISTORY_OPENED;
}

int history_start(History *history) {
        return raft_engine_start(history->engine);
}

static Submission *submission_free(Submission *submission) {
        History *history = submission->history;
        for (Submission **p = &history->submissions; *p; p = &(*p)->next)
                if (*p == submission) {
                        *p = submission->next;
                        break;
                }
        raft_request_free(submission->request);
        sd_event_source_disable_unref(submission->timer);
        free(submission);
        return NULL;
}

/* The one place where a submission ends. */
static void submission_end(Submission *submission, SubmitOutcome outcome, const Result *result) {
        SubmitCallback callback = submission->callback;
        void *userdata = submission->userdata;
        submission_free(submission);
        callback(outcome, result, userdata);
}

static Confirmation *confirmation_free(Confirmation *confirmation) {
        for (Confirmation **p = &confirmation->history->confirmations; *p; p = &(*p)->next)
                if (*p == confirmation) {
                        *p = confirmation->next;
                        break;
                }
        raft_request_free(confirmation->request);
        free(confirmation);
        return NULL;
}

static void confirmation_end(Confirmation *confirmation, bool confirmed) {
        ConfirmCallback callback = confirmation->callback;
        void *userdata = confirmation->userdata;
        confirmation_free(confirmation);
        callback(confirmed, userdata);
}

/* What the engine has taken it still writes: nobody here will learn whether it happened. */
void history_stop(History *history) {
        for (Submission *submission; (submission = history->submissions);)
                submission_end(submission, submission->request ? SUBMIT_OUTCOME_UNKNOWN : SUBMIT_STOPPING, NULL);
        while (history->confirmations)
                confirmation_end(history->confirmations, false);
}

History *history_free(History *history) {
        if (!history)
                return NULL;
        history_stop(history);
        raft_engine_free(history->engine);
        ARRAY_EACH(kept, &history->results)
                result_clear(&kept->result);
        array_clear(&history->results);
        registry_free(history->registry);
        sd_event_unref(history->event);
        free(history);
        return NULL;
}

const Registry *history_registry(const History *history) {
        return history->registry;
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

static void on_decided(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        Submission *submission = userdata;
        History *history = submission->history;
        _cleanup_(result_clear) Result result = {};

        switch (outcome) {
        case RAFT_OUTCOME_DONE:
                if (take_result(history, index, &result)) {
                        submission_end(submission, SUBMIT_COMMITTED, &result);
                        /* After the answer: a snapshot takes a moment. */
                        consider_snapshot(history, history->registry->index);
                        return;
                }
                submission_end(submission, SUBMIT_OUTCOME_UNKNOWN, NULL);
                return;
        case RAFT_OUTCOME_NOT_DONE:
                submission_end(submission, SUBMIT_NO_QUORUM, NULL);
                return;
        case RAFT_OUTCOME_UNKNOWN:
                submission_end(submission, SUBMIT_OUTCOME_UNKNOWN, NULL);
                return;
        }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Submission *submission = userdata;
        RaftStatus status;
        raft_engine_get_status(submission->history->engine, &status);
        submission_end(submission, status.store_error < 0 ? SUBMIT_STORAGE_WAITED_FOR : SUBMIT_OUTCOME_UNKNOWN, NULL);
        return 0;
}

static int on_refused(sd_event_source *source, void *userdata) {
        Submission *submission = userdata;
        submission_end(submission, submission->refused, NULL);
        return 0;
}

static SubmitOutcome refusal_of(int verdict) {
        return verdict == RAFT_SUBMIT_STORE_FAILING ? SUBMIT_STORAGE_FULL : SUBMIT_NO_QUORUM;
}

static uint64_t realtime_ms(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* Bytes of @entry with what this node adds to it; the caller's structure is left as it was. */
static int encode(const History *history, const Entry *entry, uint8_t **ret_bytes, size_t *ret_size) {
        Entry filled = *entry;
        EntryAuthor author = GPUPOOL1__AUTHOR__INIT;
        if (entry->author)
                author = *entry->author;
        author.node = id_message_borrow(history->config.node.bytes);
        filled.author = &author;
        filled.format = ENTRY_FORMAT;
        filled.level = LEVEL_OLDEST;
        filled.time_ms = realtime_ms();
        return entry_encode(&filled, ret_bytes, ret_size);
}

int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r = encode(history, entry, &bytes, &size);
        if (r < 0)
                return r;

        Submission *submission = calloc(1, sizeof(*submission));
        if (!submission)
                return -ENOMEM;
        *submission = (Submission) { .history = history, .next = history->submissions, .callback = callback,
                                     .userdata = userdata };
        history->submissions = submission;

        r = raft_engine_submit(history->engine, bytes, size, on_decided, submission, &submission->request);
        if (r == RAFT_SUBMIT_TAKEN)
                r = sd_event_add_time_relative(history->event, &submission->timer, CLOCK_BOOTTIME,
                                               history->config.call_timeout_us, 0, on_deadline, submission);
        else if (r >= 0) {
                submission->refused = refusal_of(r);
                r = sd_event_add_defer(history->event, &submission->timer, on_refused, submission);
        }
        if (r < 0)
                submission_free(submission);
        return r;
}

static void on_confirmed(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        confirmation_end(userdata, outcome == RAFT_OUTCOME_DONE);
}

int history_confirm(History *history, ConfirmCallback callback, void *userdata) {
        Confirmation *confirmation = calloc(1, sizeof(*confirmation));
        if (!confirmation)
                return -ENOMEM;
        *confirmation = (Confirmation) { .history = history, .next = history->confirmations, .callback = callback,
                                         .userdata = userdata };
        history->confirmations = confirmation;
        int r = raft_engine_confirm(history->engine, on_confirmed, confirmation, &confirmation->request);
        if (r == RAFT_SUBMIT_TAKEN)
                return 0;
        confirmation_free(confirmation);
        return r < 0 ? r : -ENOTCONN;
}
