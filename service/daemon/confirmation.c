/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A question whose answer must not be old: the leader's word first, and then this node is not behind it. */

#include <errno.h>

#include "daemon/history-private.h"

typedef enum ConfirmationStage {
        CONFIRMATION_LOCAL,
        CONFIRMATION_REMOTE,
        CONFIRMATION_FOLLOWING,
} ConfirmationStage;

struct Confirmation {
        History *history;
        Confirmation *next;
        ConfirmationStage stage;
        RaftRequest *request;
        uint64_t call;
        uint64_t index;                 /* of the registry; what must be applied here */
        sd_event_source *deadline;
        ConfirmCallback callback;
        void *userdata;
};

static Confirmation *confirmation_free(Confirmation *confirmation) {
        History *history = confirmation->history;
        for (Confirmation **p = &history->confirmations; *p; p = &(*p)->next)
                if (*p == confirmation) {
                        *p = confirmation->next;
                        break;
                }
        raft_request_free(confirmation->request);
        if (history->calls)
                calls_cancel(history->calls, confirmation->call);
        sd_event_source_disable_unref(confirmation->deadline);
        free(confirmation);
        return NULL;
}

static void confirmation_end(Confirmation *confirmation, bool confirmed) {
        ConfirmCallback callback = confirmation->callback;
        void *userdata = confirmation->userdata;
        confirmation_free(confirmation);
        callback(confirmed, userdata);
}

static void on_confirmed(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        confirmation_end(userdata, outcome == RAFT_OUTCOME_DONE);
}

static bool has_caught_up(const Confirmation *confirmation) {
        return confirmation->history->registry->index >= confirmation->index;
}

static void on_answer(const Gpupool1__Answer *answer, void *userdata) {
        Confirmation *confirmation = userdata;
        confirmation->call = 0;
        if (!answer || answer->kind != GPUPOOL1__ANSWER_KIND__ANSWER_KIND_DONE) {
                confirmation_end(confirmation, false);
                return;
        }
        confirmation->index = answer->index;
        confirmation->stage = CONFIRMATION_FOLLOWING;
        if (has_caught_up(confirmation))
                confirmation_end(confirmation, true);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        confirmation_end(userdata, false);
        return 0;
}

static Confirmation *find_followed(const History *history) {
        for (Confirmation *i = history->confirmations; i; i = i->next)
                if (i->stage == CONFIRMATION_FOLLOWING && has_caught_up(i))
                        return i;
        return NULL;
}

void confirmations_applied(History *history) {
        for (Confirmation *confirmation; (confirmation = find_followed(history));)
                confirmation_end(confirmation, true);
}

void confirmations_stop(History *history) {
        while (history->confirmations)
                confirmation_end(history->confirmations, false);
}

static int ask(Confirmation *confirmation) {
        History *history = confirmation->history;
        int r = raft_engine_confirm(history->engine, on_confirmed, confirmation, &confirmation->request);
        if (r == RAFT_SUBMIT_TAKEN)
                return 0;
        if (r < 0)
                return r;
        Lead lead;
        history_lead(history, &lead);
        if (!lead.quorate || lead.is_local)
                return -ENOTCONN;
        Gpupool1__Call call = GPUPOOL1__CALL__INIT;
        call.what_case = GPUPOOL1__CALL__WHAT_CONFIRM;
        call.confirm = true;
        confirmation->stage = CONFIRMATION_REMOTE;
        return calls_begin(history->calls, &lead.way, &call, on_answer, confirmation, &confirmation->call);
}

int history_confirm(History *history, ConfirmCallback callback, void *userdata) {
        Confirmation *confirmation = calloc(1, sizeof(*confirmation));
        if (!confirmation)
                return -ENOMEM;
        *confirmation = (Confirmation) { .history = history, .next = history->confirmations, .callback = callback,
                                         .userdata = userdata };
        history->confirmations = confirmation;
        int r = sd_event_add_time_relative(history->event, &confirmation->deadline, CLOCK_BOOTTIME,
                                           history->config.call_timeout_us, 0, on_deadline, confirmation);
        if (r >= 0)
                r = ask(confirmation);
        if (r < 0)
                confirmation_free(confirmation);
        return r;
}
