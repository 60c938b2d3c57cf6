/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Mutant: a safety rule that the simulator can switch off, to prove that it would notice (tests/sim, gpupool-sim
 * --mutant NAME). In every other build MUTANT() is a constant 0 and the rule stands: only tests/sim compiles core with
 * GPUPOOL_MUTANTS.
 *
 *     if (grant->incarnation != asked->incarnation && !MUTANT(NO_INCARNATION_CHECK))
 *             return LEASE_NEWS_NONE;
 *
 * Where a second rule alone would be enough, the mutant switches off that, too, and says so: what is lost is the whole
 * of it.
 */

#define MUTANTS(X) \
        X(LEASE_FROM_RECEIPT, "lease-from-receipt")             /* the lease counts from the answer */ \
        X(NO_LEADER_WAIT, "no-leader-wait")                     /* a new leader does not wait */ \
        X(NO_INCARNATION_CHECK, "no-incarnation-check")         /* of a grant, and of a loss that is noted */ \
        X(RESUME_UNGUARDED, "resume-unguarded")                 /* vCPUs run before the guard has the pidfd */ \
        X(GRANT_UNCONFIRMED, "grant-unconfirmed")               /* without the voters' word */ \
        X(NO_PERMIT, "no-permit")                               /* a start on old history */ \
        X(END_WITHOUT_WORD, "end-without-word")                 /* an assignment removed before the node's word */ \
        X(THAW_FORGETS, "thaw-forgets")                         /* after a thaw the long lease is not waited for */ \
        X(FREE_BEFORE_DEATH, "free-before-death")               /* an end is reported before it is proven */ \
        X(NO_WATCHDOG_PERIOD, "no-watchdog-period")             /* left out of the announced death time */ \
        X(NO_ROLLBACK, "no-rollback")                           /* a failed start is reported and not undone */ \
        X(NO_EPOCH_CHECK, "no-epoch-check")                     /* a report of an older epoch counts */ \
        X(RETURN_UNPROVEN, "return-unproven")                   /* a lost node comes back before all is dead */ \
        X(NO_DRIFT, "no-drift")                                 /* clocks are taken to be equally fast */ \
        X(NO_KILL_TIME, "no-kill-time")                         /* VMs are taken to die with the lease */ \
        X(GRANT_TO_CONDEMNED, "grant-to-condemned")             /* a grant while the loss is on its way */ \
        X(GRANT_TO_LOST, "grant-to-lost")                       /* a lost life gets a lease, condemned or not */ \
        X(ASK_UNGUARDED, "ask-unguarded")                       /* a lease without a guard, and nothing ends then */ \
        X(GPU_TWICE, "gpu-twice")                               /* registry and node take a GPU that is taken */ \
        X(ASSIGN_TWICE, "assign-twice")                         /* ... and a VM that is assigned */ \
        X(ASSIGN_TO_LOST, "assign-to-lost")                     /* ... and a node that is lost */ \
        X(GUARD_DEADLINE_STAYS, "guard-deadline-stays")         /* a lost node lives on to its deadline */ \
        X(LEASE_UNPROLONGED, "lease-unprolonged")               /* the guard is never told of a new lease: P4, P5 */ \
        X(DECIDE_ANYWHERE, "decide-anywhere")                   /* what a leader decided, its successor commits */ \
        X(SPARED_TOO_EARLY, "spared-too-early")                 /* when the second of two losses fails */ \
        X(START_AGAIN, "start-again")                           /* a new service starts what the old one ended */ \
        X(GUARD_SLEEPS, "guard-sleeps")                         /* the guard lets its deadline pass (tests/sim) */ \
        X(GUARD_FORGETS, "guard-forgets")                       /* the next guard has no board (tests/sim) */ \
        X(TURN_TIME, "turn-time")                               /* leases go by the clock at the turn's beginning */ \
        X(NO_INSPECTION, "no-inspection")                       /* a GPU goes from VM to VM as it is */ \
        X(NO_CATCH_UP, "no-catch-up")                           /* a service that starts acts on its old history */ \
        X(NO_LOSS, "no-loss")                                   /* nobody is ever declared lost: P4 */

enum {
#define MUTANT_NUMBER(number, name) MUTANT_##number,
        MUTANTS(MUTANT_NUMBER)
#undef MUTANT_NUMBER
        MUTANT_COUNT,
};

#ifdef GPUPOOL_MUTANTS
#include <stdbool.h>
extern bool mutants[MUTANT_COUNT];
#define MUTANT(number) (mutants[MUTANT_##number])
#else
#define MUTANT(number) 0
#endif
