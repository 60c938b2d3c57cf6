/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/answers.h"

#include <errno.h>

#include "core/names.h"

#define ASKED_MAX 4096U                 /* what the engine takes, and a bound on memory */
#define ASKED_PER_NODE_MAX 1024U        /* so that one that asks without end leaves room for others */

struct Asked {
        Answers *answers;
        Asked *next;
        NodeId from;
        uint64_t id;                    /* the caller's */
        HistoryProposal *proposal;
        uint64_t call;                  /* handed on to the leader */
        bool confirming;
};

static Asked *asked_free(Asked *asked) {
        Answers *answers = asked->answers;
        for (Asked **p = &answers->asked; *p; p = &(*p)->next)
                if (*p == asked) {
                        *p = asked->next;
                        answers->n_asked--;
                        break;
                }
        history_proposal_free(asked->proposal);
        calls_cancel(answers->calls, asked->call);
        free(asked);
        return NULL;
}

void answers_clear(Answers *answers) {
        /* What asks for a confirmation is freed by its callback, which always comes. */
        for (Asked *next, *i = answers->asked; i; i = next) {
                next = i->next;
                if (i->confirming)
                        i->from = (NodeId) {};
                else
                        asked_free(i);
        }
}

/* An answer that does not fit into the queue is lost; the caller's deadline, or its next try, takes care of it. */
static void answer(Answers *answers, const NodeId *to, uint64_t id, Gpupool1__Answer *answer) {
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        answer->id = id;
        frame.body_case = GPUPOOL1__FRAME__BODY_ANSWER;
        frame.answer = answer;
        if (answers->net && !id_is_null(to->bytes))
                (void) peer_net_send(answers->net, to, PEER_STREAM_CALL, &frame);
}

static void answer_kind(Answers *answers, const NodeId *to, uint64_t id, Gpupool1__AnswerKind kind) {
        Gpupool1__Answer plain = GPUPOOL1__ANSWER__INIT;
        plain.kind = kind;
        answer(answers, to, id, &plain);
}

/* Ends @asked. */
static void end(Asked *asked, Gpupool1__Answer *with) {
        answer(asked->answers, &asked->from, asked->id, with);
        asked_free(asked);
}

static void end_kind(Asked *asked, Gpupool1__AnswerKind kind) {
        Gpupool1__Answer plain = GPUPOOL1__ANSWER__INIT;
        plain.kind = kind;
        end(asked, &plain);
}

static void on_decided(RaftOutcome outcome, uint64_t index, Result *result, void *userdata) {
        Asked *asked = userdata;
        Gpupool1__Answer done = GPUPOOL1__ANSWER__INIT;
        asked->proposal = NULL;
        switch (outcome) {
        case RAFT_OUTCOME_DONE:
                if (!result)
                        break;
                done.kind = GPUPOOL1__ANSWER_KIND__ANSWER_KIND_DONE;
                done.verdict = result->verdict;
                if (result->sentence)
                        done.sentence = result->sentence;
                done.index = index;
                end(asked, &done);
                return;
        case RAFT_OUTCOME_NOT_DONE:
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NOT_LEADER);
                return;
        case RAFT_OUTCOME_UNKNOWN:
                break;
        }
        end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_UNKNOWN);
}

static void on_confirmed(bool confirmed, void *userdata) {
        Asked *asked = userdata;
        Gpupool1__Answer done = GPUPOOL1__ANSWER__INIT;
        done.kind = confirmed ? GPUPOOL1__ANSWER_KIND__ANSWER_KIND_DONE : GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NOT_LEADER;
        done.index = history_registry(asked->answers->history)->index;
        end(asked, &done);
}

static void on_handed_on(const Gpupool1__Answer *got, void *userdata) {
        Asked *asked = userdata;
        asked->call = 0;
        if (!got) {
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_UNKNOWN);
                return;
        }
        Gpupool1__Answer same = *got;
        end(asked, &same);
}

/* The leader is elsewhere. Asked for itself only, so that no question goes in circles. */
static void hand_on(Asked *asked, const Gpupool1__Call *call) {
        Gpupool1__Call same = *call;
        Lead lead;
        history_lead(asked->answers->history, &lead);
        int r = -ENOTCONN;
        if (!call->relayed && lead.quorate && !lead.is_local && !lead.relayed) {
                same.relayed = true;
                r = calls_begin(asked->answers->calls, &lead.way, &same, on_handed_on, asked, &asked->call);
        }
        if (r < 0)
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NOT_LEADER);
}

static bool is_author(const NodeId *from, const Entry *entry) {
        return entry->author && entry->author->node.len == ID_SIZE &&
               memcmp(entry->author->node.data, from->bytes, ID_SIZE) == 0;
}

/* What @from asks to be written must be its own; another member vouches for what it hands on. */
bool answers_may_ask(const NodeId *from, const Gpupool1__Call *call) {
        _cleanup_(entry_freep) Entry *entry = NULL;
        switch (call->what_case) {
        case GPUPOOL1__CALL__WHAT_SUBMIT:
                return entry_decode(call->submit.data, call->submit.len, &entry) == ENTRY_GOOD &&
                       (call->relayed || is_author(from, entry));
        case GPUPOOL1__CALL__WHAT_CONFIRM:
                return true;
        case GPUPOOL1__CALL__WHAT__NOT_SET:
        case _GPUPOOL1__CALL__WHAT__CASE_IS_INT_SIZE:
                break;
        }
        return false;
}

static void submit(Asked *asked, const Gpupool1__Call *call) {
        int r = history_propose(asked->answers->history, call->submit.data, call->submit.len, on_decided, asked,
                                &asked->proposal);
        switch (r) {
        case RAFT_SUBMIT_TAKEN:
                return;
        case RAFT_SUBMIT_NOT_LEADER:
                hand_on(asked, call);
                return;
        case RAFT_SUBMIT_STORE_FAILING:
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_STORAGE_FULL);
                return;
        default:
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_BUSY);
        }
}

static void confirm(Asked *asked, const Gpupool1__Call *call) {
        if (!history_leads(asked->answers->history)) {
                hand_on(asked, call);
                return;
        }
        asked->confirming = true;
        if (history_confirm(asked->answers->history, on_confirmed, asked) < 0)
                end_kind(asked, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_NOT_LEADER);
}

static bool has_room_for(const Answers *answers, const NodeId *from) {
        size_t n = 0;
        for (const Asked *i = answers->asked; i; i = i->next)
                n += ID_EQUAL(&i->from, from);
        return answers->n_asked < ASKED_MAX && n < ASKED_PER_NODE_MAX;
}

void answers_asked(Answers *answers, const NodeId *from, const Gpupool1__Call *call) {
        if (!answers_may_ask(from, call)) {
                answer_kind(answers, from, call->id, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_REFUSED);
                return;
        }
        Asked *asked = has_room_for(answers, from) ? calloc(1, sizeof(*asked)) : NULL;
        if (!asked) {
                answer_kind(answers, from, call->id, GPUPOOL1__ANSWER_KIND__ANSWER_KIND_BUSY);
                return;
        }
        *asked = (Asked) { .answers = answers, .next = answers->asked, .from = *from, .id = call->id };
        answers->asked = asked;
        answers->n_asked++;
        if (call->what_case == GPUPOOL1__CALL__WHAT_SUBMIT)
                submit(asked, call);
        else
                confirm(asked, call);
}

void answers_lost(Answers *answers, const NodeId *node) {
        for (Asked *next, *i = answers->asked; i; i = next) {
                next = i->next;
                if (!ID_EQUAL(&i->from, node))
                        continue;
                if (i->confirming)
                        i->from = (NodeId) {};
                else
                        asked_free(i);
        }
}
