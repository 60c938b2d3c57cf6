/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the three files of History share: history.c keeps it, submission.c carries a write to whoever leads, and
 * confirmation.c a question. */

#include "daemon/history.h"

typedef struct Submission Submission;
typedef struct Confirmation Confirmation;

/* What an entry came to, kept until its request asks. */
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
        Calls *calls;                           /* borrowed; NULL: no peers */
        const Beats *beats;
        Submission *submissions;
        Confirmation *confirmations;
        HistoryProposal *proposals;
        ARRAY(AppliedResult) results;
        sd_event_source *shorten;               /* a snapshot is due */
        uint64_t refused_snapshot_index;        /* log that a snapshot could not be written once, not at each entry */
        bool started;
        bool too_old;                           /* what the cluster does this program does not know */
        uint64_t leaderless_since_us;           /* 0: a leader is known */
};

uint64_t history_now_us(const History *history);

void submissions_applied(History *history);     /* the registry moved on */
void submissions_lead_changed(History *history, const Lead *lead);     /* or not */
void submissions_answer_now(History *history);  /* the store began to fail: nobody is kept waiting for it */
void submissions_stop(History *history);
void submissions_abandon(History *history);     /* nobody will ever say what became of them */
void confirmations_applied(History *history);
void confirmations_stop(History *history);
