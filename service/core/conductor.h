/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Conductor: what the leader does by itself. VMs that are to run get a place, by priority; GPUs that a pool's rule
 * matches come into the pool. It looks at the world as it is (no events to miss), proposes one entry at a time, and
 * remembers nothing but when a VM that failed may be tried again; a new leader starts that anew. */

#include "core/placement.h"

#define CONDUCTOR_BACKOFF_FIRST_US 1000000U     /* after the first failure; doubles with each */
#define CONDUCTOR_BACKOFF_MOST_US 60000000U
/* A proposal was refused: the world it was made from was old. All rest; what was refused rests longer each time, so
 * that it is in nobody's way. */
#define CONDUCTOR_REFUSED_US 500000U

typedef struct ConductorPause {
        VmId vm;
        uint32_t attempts;
        uint64_t until_us;
        uint32_t refusals;              /* in a row */
        uint64_t refused_until_us;
} ConductorPause;

typedef struct Conductor {
        ARRAY(ConductorPause) pauses;   /* by VM */
        uint64_t idle_until_us;         /* after a refusal */
        bool proposed_gpus;             /* the last proposal was about a pool's GPUs */
        bool proposed_vm;               /* ... or about this VM */
        VmId vm;
        uint32_t gpus_refusals;
        uint64_t gpus_refused_until_us;
} Conductor;

void conductor_clear(Conductor *conductor);

typedef enum ProposalKind {
        PROPOSAL_ASSIGN,
        PROPOSAL_POOL_GPUS,
} ProposalKind;

typedef struct Proposal {
        ProposalKind kind;
        const Vm *vm;                   /* assign; borrowed from the world */
        Placement placement;            /* assign */
        uint64_t incarnation;           /* assign: of the chosen node */
        const Pool *pool;               /* pool GPUs; borrowed from the world */
        GpuIdentities gpus;             /* pool GPUs: those that a rule takes in */
} Proposal;

void proposal_clear(Proposal *proposal);

typedef enum ConductorVerdict {
        CONDUCTOR_IDLE,                 /* nothing to do before *ret_wake_us */
        CONDUCTOR_PROPOSES,             /* commit *ret_proposal, then ask again */
} ConductorVerdict;

/* @now_us: boottime. *ret_wake_us (UINT64_MAX: not by time) is set with CONDUCTOR_IDLE. Returns a ConductorVerdict or
 * -ENOMEM. */
int conductor_next(Conductor *conductor, const World *world, uint64_t now_us, Proposal *ret_proposal,
                   uint64_t *ret_wake_us);

/* The last proposal was refused or not committed. Out of memory it is proposed again a little too early, no more. */
void conductor_refused(Conductor *conductor, uint64_t now_us);
