/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimJudge: what is true of a simulated cluster, told by nobody in it, and what must hold of it at every step.
 *
 *  - What is committed once, anywhere, is so for ever and everywhere: index, term, kind and bytes, over restarts. It is
 *    durable at a majority of the voters when it is committed first, and every later leader has it.
 *  - An index of a term never means two things, in any log, committed or not.
 *  - What was answered "done" is in that history; what was refused or answered "not done" never is. A submission is in
 *    it at most once, and one that was repeated with the same request id changes the registry once.
 *  - A term has one leader, elected by votes that are durable. Term and vote never regress; nothing is said that speaks
 *    for a term, a vote or entries that are not durable.
 *  - A confirmation is only given if, when it was asked for, there was no leader of a later term, and it knows all that
 *    was committed then.
 *  - At the same index the registry has the same bytes on every node, and as here. */

#include <glib.h>

#include "adapters/store/raft-engine.h"
#include "core/registry.h"
#include "sim-time.h"

typedef struct SimMachine SimMachine;

/* The commands' time says which submission they are: it begins here. */
#define SIM_WISH_TIME UINT64_C(1700000000000)

typedef enum SimWishState {
        SIM_WISH_OPEN,          /* submitted, not answered; also when nobody waits any longer */
        SIM_WISH_REFUSED,
        SIM_WISH_DONE,
        SIM_WISH_NOT_DONE,
        SIM_WISH_UNKNOWN,
} SimWishState;

/* A command that somebody wants, once, however often it is submitted. */
typedef struct SimOrder {
        unsigned number;
        uint64_t first_index;           /* where it stands in the history; 0: nowhere */
        unsigned times;                 /* it stands there */
        bool is_acknowledged;
} SimOrder;

/* One submission of an order. */
typedef struct SimWish {
        uint64_t number;
        SimOrder *order;
        SimWishState state;
        uint64_t index, term;           /* as answered */
        uint64_t truth_index;           /* where it stands in the history; 0: nowhere */
} SimWish;

typedef struct SimFact {
        LogEntry *entry;
        uint64_t commit_term;           /* of who committed it, or later */
        uint64_t state_mark;            /* of the registry after it, at every eighth */
        uint64_t snapshot_mark;         /* of a snapshot whose last command it is */
} SimFact;

typedef struct SimLead {
        uint64_t term;
        unsigned machine, life;
} SimLead;

/* A confirmation that was asked for. */
typedef struct SimQuestion {
        SimMachine *machine;
        unsigned life;
        uint64_t asked_us;
        uint64_t known_index;           /* the last one committed anywhere */
        uint64_t top_term;              /* of any leader there was */
        bool is_answered;
} SimQuestion;

/* What the judge remembers of a machine while it is up. */
typedef struct SimView {
        uint64_t compared_index;        /* up to which its committed entries were compared */
        uint64_t term;
        uint64_t sent_index, sent_term; /* the last entry that it sent as leader of sent_term */
} SimView;

/* Where a campaign has been. */
typedef struct SimVisits {
        unsigned own_write_failed_after_send;   /* libraft 0.15 gives the index away then */
        unsigned install_while_taking;          /* libraft 0.22.1's I/O layer crashes then */
        unsigned leads, lone_leads, restores, snapshots, crashes, all_crashed, holds, cuts, disk_errors, disk_stalls;
        unsigned changes_done, changes_refused, promotions, removals, transfers, wipes;
        unsigned done, not_done, unknown, refused, repeated, repeated_in_history;
        unsigned confirmed, not_confirmed, committed, replaced;
} SimVisits;

typedef struct SimJudge {
        SimTime *time;
        SimMachine *machines;
        unsigned n_machines;
        ARRAY(SimFact) facts;           /* of index i: items[i] */
        uint64_t last_index;            /* committed anywhere */
        ARRAY(SimLead) leads;
        uint64_t top_term;
        Registry *registry;
        ARRAY(SimWish *) wishes;
        ARRAY(SimOrder *) orders;
        ARRAY(SimQuestion *) questions;
        GHashTable *entries;            /* (index, term) -> mark of the entry, in any log ever */
        GHashTable *never;              /* (index, term) that was answered "not done" */
        SimVisits visits;
} SimJudge;

void sim_judge_init(SimJudge *judge, SimTime *time, SimMachine *machines, unsigned n_machines);
void sim_judge_clear(SimJudge *judge);

/* After every event. */
void sim_judge_look(SimJudge *judge);

/* ---- what machines do */

void sim_judge_starts(SimJudge *judge, SimMachine *machine);
void sim_judge_sends(SimJudge *judge, SimMachine *machine, const RaftMessage *message);
void sim_judge_applies(SimJudge *judge, SimMachine *machine, uint64_t index, uint64_t term, const void *data,
                       size_t size);
void sim_judge_applied(SimJudge *judge, SimMachine *machine, uint64_t index);
void sim_judge_restored(SimJudge *judge, SimMachine *machine, const void *data, size_t size);
void sim_judge_takes_snapshot(SimJudge *judge, SimMachine *machine, const void *data, size_t size);
void sim_judge_write_queued(SimJudge *judge, SimMachine *machine, const LogWrite *write);
void sim_judge_write_durable(SimJudge *judge, SimMachine *machine, const LogFileVote *before, const LogWrite *write);
void sim_judge_write_failed(SimJudge *judge, SimMachine *machine, const LogWrite *write);

/* ---- what clients are told */

SimOrder *sim_judge_order(SimJudge *judge);
SimWish *sim_judge_wish(SimJudge *judge, SimOrder *order);
void sim_judge_refused(SimJudge *judge, SimWish *wish);
void sim_judge_answered(SimJudge *judge, SimWish *wish, RaftOutcome outcome, uint64_t index, uint64_t term);
SimQuestion *sim_judge_asked(SimJudge *judge, SimMachine *machine);
void sim_judge_confirmed(SimJudge *judge, SimQuestion *question, RaftOutcome outcome, uint64_t index, uint64_t term);
void sim_judge_changed(SimJudge *judge, SimMachine *machine, RaftOutcome outcome, uint64_t index, uint64_t term);

/* One that was asked before @us, of a machine that is still up, and not answered; or NULL. */
const SimQuestion *sim_judge_unanswered(const SimJudge *judge, uint64_t us);

/* The newest members that are committed; to be closed. False if nothing is known. */
struct raft_configuration;
bool sim_judge_members(const SimJudge *judge, struct raft_configuration *ret);
