/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A write of this node on its way to whoever leads, as often as it takes, and done once (history.h has the picture).
 *
 * Each try has the same request id and the same last index at which it may be applied, so the registry tells a second
 * one from the first, or refuses it as too late; it never applies both (registry.proto, Entry.not_after_index). */

#include <errno.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "core/mutant.h"
#include "core/names.h"
#include "daemon/history-private.h"
#include "util/clock.h"
#include "util/log.h"

#define RETRY_US 100000U
#define PATIENCE_US 3000000U            /* for a leader to appear: an election, with room */

typedef enum SubmissionStage {
        SUBMISSION_IDLE,                /* between two tries */
        SUBMISSION_LOCAL,               /* in this node's engine */
        SUBMISSION_REMOTE,              /* asked of another */
        SUBMISSION_FOLLOWING,           /* committed; not yet applied here */
} SubmissionStage;

struct Submission {
        History *history;
        Submission *next;
        SubmissionStage stage;
        uint8_t *bytes;
        size_t size;
        bool here;                      /* only in this node's own engine, once (history_decide()) */
        bool maybe;                     /* an earlier try may have happened */
        SubmitOutcome last;             /* why the last try came to nothing */
        uint64_t patience_us;           /* until then a try that surely came to nothing is repeated */
        HistoryProposal *proposal;
        uint64_t call;
        NodeId asked;                   /* the leader that the call is for */
        uint64_t index;                 /* of the entry, once known */
        Result result;
        sd_event_source *deadline;
        sd_event_source *retry;
        SubmitCallback callback;
        void *userdata;
};

static Submission *submission_free(Submission *submission) {
        History *history = submission->history;
        for (Submission **p = &history->submissions; *p; p = &(*p)->next)
                if (*p == submission) {
                        *p = submission->next;
                        break;
                }
        history_proposal_free(submission->proposal);
        if (history->calls)
                calls_cancel(history->calls, submission->call);
        sd_event_source_disable_unref(submission->deadline);
        sd_event_source_disable_unref(submission->retry);
        result_clear(&submission->result);
        free(submission->bytes);
        free(submission);
        return NULL;
}

/* The one place where a submission ends. */
static void submission_end(Submission *submission, SubmitOutcome outcome) {
        SubmitCallback callback = submission->callback;
        void *userdata = submission->userdata;
        _cleanup_(result_clear) Result result = submission->result;
        submission->result = (Result) {};
        submission_free(submission);
        callback(outcome, outcome == SUBMIT_COMMITTED ? &result : NULL, userdata);
}

static bool is_alone(const History *history) {
        RaftStatus status;
        raft_engine_get_status(history->engine, &status);
        return status.n_voters == 1 && status.role == RAFT_MEMBER_VOTER;
}

static void retry_in(Submission *submission, uint64_t us) {
        submission->stage = SUBMISSION_IDLE;
        (void) sd_event_source_set_time_relative(submission->retry, us);
        (void) sd_event_source_set_enabled(submission->retry, SD_EVENT_ONESHOT);
}

/* The try came to nothing, because of @why; what follows happens in a turn of its own. */
static void came_to_nothing(Submission *submission, SubmitOutcome why) {
        submission->last = why;
        retry_in(submission, is_alone(submission->history) ? 0 : RETRY_US);
}

/* The last index at which an entry that is new now may be applied. What is committed the one says that is going to be
 * asked, and nobody else: who claims a thousand entries more than there are would have a retry applied that the
 * registry has forgotten, and who claims all numbers would have every entry expire. @seen: known to be committed,
 * too. */
static uint64_t last_index_for(const History *history, uint64_t seen) {
        Lead lead;
        history_lead(history, &lead);
        const HeardBeat *asked = history->beats && !lead.is_local ? beats_find(history->beats, &lead.way) : NULL;
        uint64_t known = history->registry->index;
        known = seen > known ? seen : known;
        known = asked && asked->committed > known ? asked->committed : known;
        return known < INT64_MAX ? known + REQUESTS_MAX / 2 : INT64_MAX;
}

/* The registry never saw it before it was too late: so it surely did not happen, and may be sent as new. */
static int renew(Submission *submission) {
        _cleanup_(entry_freep) Entry *entry = NULL;
        uint8_t *bytes = NULL;
        size_t size;
        int r = entry_decode(submission->bytes, submission->size, &entry);
        if (r != ENTRY_GOOD)
                return r < 0 ? r : -EBADMSG;
        entry->not_after_index = last_index_for(submission->history, submission->index);
        r = entry_encode(entry, &bytes, &size);
        if (r < 0)
                return r;
        free(submission->bytes);
        submission->bytes = bytes;
        submission->size = size;
        return 0;
}

/* Committed; takes what @result owns. */
static void committed(Submission *submission, uint64_t index, Result *result) {
        result_clear(&submission->result);
        submission->result = *result;
        *result = (Result) {};
        submission->index = index;
        if (submission->result.verdict == VERDICT_EXPIRED) {
                if (submission->maybe || renew(submission) < 0) {
                        submission_end(submission, SUBMIT_OUTCOME_UNKNOWN);
                        return;
                }
                came_to_nothing(submission, SUBMIT_NO_QUORUM);
                return;
        }
        if (submission->history->registry->index >= index)
                submission_end(submission, SUBMIT_COMMITTED);
        else
                submission->stage = SUBMISSION_FOLLOWING;
}

static void on_decided(RaftOutcome outcome, uint64_t index, Result *result, void *userdata) {
        Submission *submission = userdata;
        submission->proposal = NULL;
        switch (outcome) {
        case RAFT_OUTCOME_DONE:
                if (result) {
                        committed(submission, index, result);
                        return;
                }
                break;
        case RAFT_OUTCOME_NOT_DONE:
                came_to_nothing(submission, SUBMIT_NO_QUORUM);
                return;
        case RAFT_OUTCOME_UNKNOWN:
                break;
        }
        submission->maybe = true;
        came_to_nothing(submission, SUBMIT_OUTCOME_UNKNOWN);
}

static void take_answer(Submission *submission, const Gpupool1__Answer *answer) {
        Result result = { .verdict = (Verdict) answer->verdict };
        if (answer->verdict >= VERDICT_COUNT ||
            (result.verdict != VERDICT_DONE && text_set(&result.sentence, answer->sentence) < 0)) {
                submission->maybe = true;
                came_to_nothing(submission, SUBMIT_OUTCOME_UNKNOWN);
                return;
        }
        committed(submission, answer->index, &result);
}

static void on_answer(const Gpupool1__Answer *answer, void *userdata) {
        Submission *submission = userdata;
        submission->call = 0;
        if (!answer) {
                submission->maybe = true;
                came_to_nothing(submission, SUBMIT_OUTCOME_UNKNOWN);
                return;
        }
        switch (answer->kind) {
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_DONE:
                take_answer(submission, answer);
                return;
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_STORAGE_FULL:
                came_to_nothing(submission, SUBMIT_STORAGE_FULL);
                return;
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_UNKNOWN:
                submission->maybe = true;
                came_to_nothing(submission, SUBMIT_OUTCOME_UNKNOWN);
                return;
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NOT_LEADER:
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NO_QUORUM:
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_BUSY:
        case GPUPOOL1__ANSWER_KIND__ANSWER_KIND_REFUSED:
                came_to_nothing(submission, SUBMIT_NO_QUORUM);
                return;
        case _GPUPOOL1__ANSWER_KIND_IS_INT_SIZE:
                break;
        }
        /* Of a later minor version, which may mean anything by it. */
        submission->maybe = true;
        came_to_nothing(submission, SUBMIT_OUTCOME_UNKNOWN);
}

static void try_remote(Submission *submission, const Lead *lead) {
        Gpupool1__Call call = GPUPOOL1__CALL__INIT;
        call.what_case = GPUPOOL1__CALL__WHAT_SUBMIT;
        call.submit = (ProtobufCBinaryData) { .len = submission->size, .data = submission->bytes };
        int r = -ENOTCONN;
        if (lead->quorate && !lead->is_local)
                r = calls_begin(submission->history->calls, &lead->way, &call, on_answer, submission,
                                &submission->call);
        if (r < 0) {
                came_to_nothing(submission, SUBMIT_NO_QUORUM);
                return;
        }
        submission->stage = SUBMISSION_REMOTE;
        submission->asked = lead->leader;
}

static void try(Submission *submission) {
        History *history = submission->history;
        int r = history_propose(history, submission->bytes, submission->size, on_decided, submission,
                                &submission->proposal);
        if (r == RAFT_SUBMIT_TAKEN)
                submission->stage = SUBMISSION_LOCAL;
        else if (r == RAFT_SUBMIT_NOT_LEADER && !submission->here) {
                Lead lead;
                history_lead(history, &lead);
                try_remote(submission, &lead);
        } else
                came_to_nothing(submission,
                                r == RAFT_SUBMIT_STORE_FAILING ? SUBMIT_STORAGE_FULL : SUBMIT_NO_QUORUM);
}

/* Nobody waits for what has not been there for long: a leader. */
static bool is_hopeless(const Submission *submission, uint64_t now) {
        const History *history = submission->history;
        return is_alone(history) || now >= submission->patience_us ||
               (history->leaderless_since_us > 0 && now >= history->leaderless_since_us + PATIENCE_US);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Submission *submission = userdata;
        if (submission->here)
                submission_end(submission, submission->maybe ? SUBMIT_OUTCOME_UNKNOWN : submission->last);
        else if (!submission->maybe && is_hopeless(submission, history_now_us(submission->history)))
                submission_end(submission, submission->last);
        else
                try(submission);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Submission *submission = userdata;
        RaftStatus status;
        switch (submission->stage) {
        case SUBMISSION_IDLE:
                submission_end(submission, submission->maybe ? SUBMIT_OUTCOME_UNKNOWN : submission->last);
                break;
        case SUBMISSION_LOCAL:
                raft_engine_get_status(submission->history->engine, &status);
                submission_end(submission,
                               status.store_error < 0 ? SUBMIT_STORAGE_WAITED_FOR : SUBMIT_OUTCOME_UNKNOWN);
                break;
        case SUBMISSION_REMOTE:
                submission_end(submission, SUBMIT_OUTCOME_UNKNOWN);
                break;
        case SUBMISSION_FOLLOWING:
                submission_end(submission, SUBMIT_COMMITTED);
                break;
        }
        return 0;
}

/* Callbacks may submit anew, so each search begins at the front. */
static Submission *find_followed(const History *history) {
        for (Submission *i = history->submissions; i; i = i->next)
                if (i->stage == SUBMISSION_FOLLOWING && history->registry->index >= i->index)
                        return i;
        return NULL;
}

void submissions_applied(History *history) {
        for (Submission *submission; (submission = find_followed(history));)
                submission_end(submission, SUBMIT_COMMITTED);
}

/* A leader that fell silent may never answer, and it takes long until its connection is given up. */
void submissions_lead_changed(History *history, const Lead *lead) {
        for (Submission *i = history->submissions; lead->quorate && i; i = i->next) {
                if (i->stage != SUBMISSION_REMOTE || ID_EQUAL(&i->asked, &lead->leader))
                        continue;
                calls_cancel(history->calls, i->call);
                i->call = 0;
                i->maybe = true;
                i->last = SUBMIT_OUTCOME_UNKNOWN;
                retry_in(i, 0);
        }
}

void submissions_answer_now(History *history) {
        for (Submission *i = history->submissions; i; i = i->next)
                if (i->stage == SUBMISSION_LOCAL)
                        (void) sd_event_source_set_time(i->deadline, 0);
}

void submissions_stop(History *history) {
        for (Submission *submission; (submission = history->submissions);) {
                bool maybe = submission->maybe || submission->stage != SUBMISSION_IDLE;
                submission_end(submission, maybe ? SUBMIT_OUTCOME_UNKNOWN : SUBMIT_STOPPING);
        }
}

void submissions_abandon(History *history) {
        /* Callbacks may submit anew: those are not among what is abandoned now. */
        for (Submission *i = history->submissions; i; i = i->next) {
                i->maybe = i->maybe || i->stage == SUBMISSION_LOCAL || i->stage == SUBMISSION_REMOTE;
                (void) sd_event_source_set_time(i->deadline, 0);
        }
}

/* Bytes of @entry with what this node adds to it; the caller's structure is left as it was. */
static int encode(const History *history, const Entry *entry, uint8_t **ret_bytes, size_t *ret_size) {
        Entry filled = *entry;
        EntryAuthor author = GPUPOOL1__AUTHOR__INIT;
        sd_id128_t drawn;
        if (entry->author)
                author = *entry->author;
        author.node = id_message_borrow(history->config.node.bytes);
        filled.author = &author;
        filled.format = ENTRY_FORMAT;
        filled.level = entry_level(entry);
        filled.time_ms = clock_realtime_ms();
        if (!is_alone(history)) {
                filled.not_after_index = last_index_for(history, 0);
                if (filled.request_id.len == 0) {
                        int r = sd_id128_randomize(&drawn);
                        if (r < 0)
                                return r;
                        filled.request_id = id_message_borrow(drawn.bytes);
                }
        }
        return entry_encode(&filled, ret_bytes, ret_size);
}

static int begin(History *history, Entry *entry, bool here, SubmitCallback callback, void *userdata) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r = encode(history, entry, &bytes, &size);
        if (r < 0)
                return r;

        Submission *submission = calloc(1, sizeof(*submission));
        if (!submission)
                return -ENOMEM;
        *submission = (Submission) { .history = history, .next = history->submissions, .bytes = STEAL(bytes),
                                     .size = size, .here = here, .last = SUBMIT_NO_QUORUM, .callback = callback,
                                     .patience_us = history_now_us(history) + PATIENCE_US, .userdata = userdata };
        history->submissions = submission;
        r = sd_event_add_time_relative(history->event, &submission->deadline, CLOCK_BOOTTIME,
                                       history->config.call_timeout_us, 0, on_deadline, submission);
        if (r >= 0)
                r = sd_event_add_time(history->event, &submission->retry, CLOCK_BOOTTIME, UINT64_MAX, 1, on_retry,
                                      submission);
        if (r < 0) {
                submission_free(submission);
                return r;
        }
        (void) sd_event_source_set_enabled(submission->retry, SD_EVENT_OFF);
        try(submission);
        return 0;
}

int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata) {
        return begin(history, entry, false, callback, userdata);
}

int history_decide(History *history, Entry *entry, SubmitCallback callback, void *userdata) {
        return begin(history, entry, !MUTANT(DECIDE_ANYWHERE), callback, userdata);
}
