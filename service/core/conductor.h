/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Conductor: what the leader does by itself. A node whose time has run out is declared lost; a freeze that is over
 * ends; VMs that are to run get a place, by priority, all that wait looked at together (core/lineup.h), and where
 * policies allow it less important ones make way; those of a node that is drained leave it, one by one, and come home;
 * GPUs that a pool's rule matches come into the pool; what a node tells of linked GPUs is written down, before
 * its driver is gone and with it the knowledge. It looks at the world as it is (no events to miss),
 * proposes one entry at a time, and remembers nothing but when a VM that failed may be tried again, and what the last
 * look at all who wait has found; a new leader starts anew. */

#include "core/lease-book.h"
#include "core/lineup.h"

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
        Lineup lineup;                  /* of those that wait */
        Inventory *inventory;           /* owned; of the last turn in which somebody waited, and kept to follow the
                                         * world: what it borrows is good within a turn only. NULL: none yet */
        size_t inventories;             /* so many were made, ever */
        uint64_t idle_until_us;         /* after a refusal */
        bool proposed_gpus;             /* the last proposal was about a pool's GPUs */
        bool proposed_vm;               /* ... or about this VM */
        bool proposed_loss;             /* ... or about this node */
        uint64_t loss_not_before_us;    /* after one that was not written */
        NodeId node;
        VmId vm;
        uint32_t gpus_refusals;
        uint64_t gpus_refused_until_us;
        bool proposed_fabric;           /* ... or about what a node tells of linked GPUs */
        NodeId fabric_node;             /* of whose linked GPUs the last such proposal was */
        uint32_t fabric_refusals;
        uint64_t fabric_refused_until_us;
} Conductor;

void conductor_clear(Conductor *conductor);

typedef enum ProposalKind {
        PROPOSAL_LOSE_NODE,
        PROPOSAL_THAW,
        PROPOSAL_ASSIGN,
        PROPOSAL_PREEMPT,
        PROPOSAL_MOVE,
        PROPOSAL_POOL_GPUS,
        PROPOSAL_FABRIC,
} ProposalKind;

typedef struct Proposal {
        ProposalKind kind;
        Loss loss;                      /* lose node */
        const Vm *vm;                   /* assign, preempt (who is to stop), move; borrowed from the world */
        const Vm *preemptor;            /* preempt: for whom; likewise */
        NodeId target;                  /* move: null: wherever there is room */
        bool home;                      /* move: it leaves a node that is drained */
        uint64_t timeout_ms;            /* move: for the guest */
        Placement placement;            /* assign */
        uint64_t incarnation;           /* assign: of the chosen node */
        const Pool *pool;               /* pool GPUs; borrowed from the world */
        GpuIdentities gpus;             /* pool GPUs: those that a rule takes in */
        NodeId node;                    /* fabric */
        FabricSets fabric;              /* fabric: what its facts tell */
} Proposal;

void proposal_clear(Proposal *proposal);

typedef enum ConductorVerdict {
        CONDUCTOR_IDLE,                 /* nothing to do before *ret_wake_us */
        CONDUCTOR_PROPOSES,             /* commit *ret_proposal, then ask again */
} ConductorVerdict;

/* @now_us: boottime. @book: followed just before; who is proposed as lost is condemned in it. *ret_wake_us (UINT64_MAX:
 * not by time) is set with CONDUCTOR_IDLE. Returns a ConductorVerdict or -ENOMEM. */
int conductor_next(Conductor *conductor, const World *world, LeaseBook *book, uint64_t now_us, Proposal *ret_proposal,
                   uint64_t *ret_wake_us);

typedef enum Refusal {
        REFUSAL_UNKNOWN,                /* it may have been committed, or still be */
        REFUSAL_NOT_WRITTEN,            /* it was not, and never will be; that says nothing of those before it */
        REFUSAL_BY_REGISTRY,            /* it was committed, after all that was proposed before it, and not taken */
} Refusal;

/* The last proposal came to nothing. Out of memory it is proposed again a little too early, no more. */
void conductor_refused(Conductor *conductor, LeaseBook *book, Refusal refusal, uint64_t now_us);
