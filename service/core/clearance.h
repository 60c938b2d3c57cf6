/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Clearance: room is made for a VM that waits, move by move (D-Bus: VM.Defragment). Between two moves all is worked out
 * anew, as the world may have changed: fewer moves, others, or none. What goes beyond that which was asked for is not
 * done: not more moves than there were at the beginning, and none of VMs of other pools.
 *
 *     plan ──► a VM moves ──► it runs where it was sent ──► has the VM its place? ──► done
 *      ▲                 └──► it does not: the end               │ no
 *      └─────────────────────────────────────────────────────────┘
 *
 * Each move is complete in itself, so that nothing is to be put right wherever this ends. */

#include "core/job.h"

struct Clearance {
        char *user;                     /* who asked for it; the moves are made in this name */
        RequestId request;              /* null: none */
        TextList pools;                 /* whose VMs may move */
        uint64_t timeout_ms;            /* of each move's shutdown; 0: as by default */
        uint32_t n_promised, n_done;    /* moves */
        uint32_t n_refused;             /* that the registry did not take, as it was further than we */
        Move now;                       /* this one is under way; its vm null: none */
        bool proposing;                 /* it is not decided yet */
        uint64_t patient_until_us;      /* GPUs that were just left, and who places VMs, need a moment */
        uint64_t look_again_us;         /* until then nothing is worked out anew, as it can take long; 0: at once */
};

int clearance_new(Clearance **ret, const char *user, const RequestId *request, const TextList *pools,
                  uint64_t timeout_ms, const Moves *plan);
Clearance *clearance_free(Clearance *clearance);
DEFINE_CLEANUP(Clearance *, clearance_free);

/* Which moves make room for @vm now. 0 or -ENOMEM; *ret is filled, and not empty, where *ret_result, to be cleared by
 * the caller, says VERDICT_DONE; else that says why there is nothing to be done, and what to do. */
int clearance_plan(const World *world, const Vm *vm, Moves *ret, Result *ret_result);
/* The same with a why for each. 0 or -ENOMEM. */
int clearance_plan_in_words(const World *world, const Vm *vm, Moves *ret, Result *ret_result);

/* The names of the pools of those that move. 0 or -ENOMEM. */
int clearance_list_pools(const World *world, const Moves *moves, TextList *ret);

typedef enum ClearanceStep {
        CLEARANCE_WAITS,                /* for what is under way, or until clearance->look_again_us */
        CLEARANCE_MOVES,                /* clearance->now is to be proposed next */
        CLEARANCE_ENDED,                /* the job has */
} ClearanceStep;

/* Holds a running JOB_DEFRAGMENT against the world. @settled: all was tried for VMs without a place. Returns a
 * ClearanceStep or -ENOMEM; *ret_changed: something that a person sees of the job. */
int job_follow_clearance(Job *job, const World *world, bool settled, uint64_t now_boottime_us, bool *ret_changed);

/* What became of the proposal of clearance->now. @sentence: why it is not to be. */
void job_clearance_decided(Job *job);
void job_clearance_refused(Job *job, const World *world, const char *error, const char *sentence,
                           uint64_t now_boottime_us);

/* It is given up: what is under way goes on, and nothing after it. */
void job_cancel_clearance(Job *job, const World *world, uint64_t now_boottime_us);

/* A defragmentation that is only tried: takes over @plan, and ends with it. 0 or -ENOMEM. */
int job_end_with_clearance(Job *job, const World *world, Moves *plan, uint64_t now_boottime_us);
