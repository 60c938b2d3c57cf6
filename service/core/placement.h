/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Placement: which node, and which of its GPUs, a VM gets. Pure, deterministic, explained (design, part 10). */

#include "core/world.h"

/* One reason why a node cannot take the VM: code for scripts, sentence for people. */
typedef struct PlacementReason {
        const char *code;       /* static: "not-enough-gpus", "node-not-ready", "memory", ... */
        char *sentence;
} PlacementReason;

typedef struct PlacementAnswer {
        NodeId node;
        bool fits;
        bool chosen;
        PlacementReason *reasons;       /* every one, not the first; of a node that fits: why it was taken or not */
        size_t n_reasons;
} PlacementAnswer;

typedef enum PlacementVerdict {
        PLACEMENT_FOUND,
        PLACEMENT_NO_ROOM,
        PLACEMENT_NO_SUCH_POOL,
} PlacementVerdict;

typedef struct Placement {
        NodeId node;                    /* with PLACEMENT_FOUND */
        AssignedGpu *gpus;
        size_t n_gpus;
        PlacementAnswer *answers;       /* one per node, by node id; always filled */
        size_t n_answers;
        char *summary;                  /* one sentence: "bert waits: pool training has 1 usable GPU and bert needs 2. ..." */
        const char *code;               /* static; "" with PLACEMENT_FOUND */
} Placement;

/* Looks for a place for @vm, as if it had none now. Returns a PlacementVerdict or -ENOMEM; *ret is filled but for -ENOMEM. */
int placement_find(const World *world, const Vm *vm, Placement *ret);
void placement_clear(Placement *placement);

/* Why @vm is in the state it is in (D-Bus: VM.Reason): code and sentence, both empty for a VM that is as it should be.
 * A waiting VM's is what placement says now. Both owned by the caller. 0 or -ENOMEM. */
int vm_reason(const World *world, const Vm *vm, char **ret_code, char **ret_sentence);

/* What a pool has and what it could lose. */
typedef struct PoolCounts {
        uint32_t total;         /* members, also absent ones */
        uint32_t usable;        /* present, assignable, not in quarantine */
        uint32_t free;          /* usable and not assigned */
        uint32_t largest_free;  /* the most free ones on one node: the largest requirement that fits now */
        uint32_t in_use;
        uint32_t survives;      /* nodes that may fail, whichever they are, and every VM that runs still runs */
        VmId *at_risk;          /* those that would not after one failure more */
        size_t n_at_risk;
        TextList mixed;         /* how the GPUs differ; empty: all alike */
} PoolCounts;

int pool_count(const World *world, const Pool *pool, PoolCounts *ret);
void pool_counts_clear(PoolCounts *counts);
