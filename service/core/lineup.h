/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Lineup: those that wait for a place, and what the last pass (core/roster.h) gave them. It is handed out one by one,
 * and serves until something else has changed than what was handed out: so however many wait, they cost one pass, and
 * none of them takes a place that another one was planned on.
 *
 * Who may have others stopped for it gets its place bit by bit:
 *
 *      pass            W has no place, but if V1 and V2 made way it would have          ─► V1 is to stop
 *      V1 stops        its GPUs count as free for the pass, so W is planned on them; nobody more is stopped for W
 *      V1 has stopped  the pass plans W first, for it is more important than V1: there, where least is missing, so
 *                      nobody less important is planned on what is free already      ─► V2 is to stop
 *      V2 has stopped  W is planned on what is free                                    ─► W has its place
 *
 * All of that follows from the world: a new leader goes on in the middle of it. What is free and planned for one that
 * is waited for is held back from all that are less important, also while that one rests after a failure: else those
 * who were stopped would come back and be stopped again. */

#include "core/roster.h"

typedef struct Waiter {
        const Vm *vm;
        bool rests;                     /* gets nothing now; its place is kept where it may preempt */
} Waiter;

typedef struct LineupGrant {
        size_t tenant;
        uint64_t place;                 /* which node and GPUs, as a number */
        uint64_t wait;                  /* and how it waited for it */
} LineupGrant;

typedef struct Lineup {
        bool made;
        Roster roster;                  /* by indexes of the inventory that it was made on */
        ARRAY(LineupGrant) grants;      /* what was handed out of it */
        uint64_t stamp;                 /* of the world that it was made for */
        uint64_t running;               /* of who could be stopped then */
        size_t passes;                  /* so many were made, ever */
} Lineup;

void lineup_clear(Lineup *lineup);

typedef enum LineupVerdict {
        LINEUP_NOTHING,
        LINEUP_PLACES,                  /* ret->vm has a place: ret->placement */
        LINEUP_PREEMPTS,                /* ret->victim is to stop for ret->vm */
} LineupVerdict;

typedef struct LineupStep {
        const Vm *vm, *victim;
        Placement placement;
} LineupStep;

/* The next step for those that wait. The inventory is that of the world as it is, and left as it was; costs about as
 * much as the number of its VMs and GPUs where no pass has to be made. Returns a LineupVerdict or -ENOMEM. */
int lineup_next(Lineup *lineup, Inventory *inventory, const Waiter *waiters, size_t n, LineupStep *ret);
