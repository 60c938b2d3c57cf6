/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Placement: which node, and which of its GPUs, a VM gets. Pure, deterministic, explained (design, part 10).
 *
 * Hard rules decide which nodes can take the VM; each that stands in the way is told, not only the first. Among the
 * nodes that can, soft rules decide, in this order: where somebody moves it; that no other VM loses the place that it
 * needs; the VM's preferred nodes; whom it would rather be with or apart from; the pool's placement (pack: places for
 * what its VMs need are left, then the fullest; spread: the least used); GPUs close together; large holes left whole;
 * room for the largest VM should its node be lost; where it ran last; the node's name. */

#include "core/choice.h"
#include "core/pool-count.h"

/* One reason why a node cannot take the VM: code for scripts, sentence for people. */
typedef struct PlacementReason {
        const char *code;       /* static: "not-enough-gpus", "gpus-taken", "no-guard", ...; "chosen", "fits" */
        char *sentence;         /* without a full stop */
        char *remedy;           /* what would change it, without a full stop; NULL with "chosen" and "fits" */
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
        PlacementAnswer *answers;       /* one per member of the cluster, by node id; always filled */
        size_t n_answers;
        char *summary;                  /* "vm bert waits: pool training has 1 usable GPU and bert needs 2. Add ..." */
        const char *code;               /* static; "" with PLACEMENT_FOUND */
} Placement;

/* Looks for a place for @vm, as if it had none now. Returns a PlacementVerdict or -ENOMEM; *ret is filled but for
 * -ENOMEM. Who asks for many VMs makes one Inventory for all of them. */
int placement_find(const World *world, const Vm *vm, Placement *ret);
int placement_find_in(Inventory *inventory, const Vm *vm, Placement *ret);
/* The same, where the pass (core/roster.h) gave it @node: that comes before all other soft rules. */
int placement_find_planned(Inventory *inventory, const Vm *vm, const NodeId *node, Placement *ret);
/* The same for many who wait, in clusters of many nodes: the summary is whole, but of the answers only those of nodes
 * that somebody named, or that are the nearest to taking it, have reasons; where it fits nothing has words. */
int placement_find_briefly(Inventory *inventory, const Vm *vm, Placement *ret);
void placement_clear(Placement *placement);

/* The same decision without the words, for what-ifs: the tenant must have nothing, and takes nothing by this. With
 * @failover it may have what the pool keeps in reserve. Returns a PlacementVerdict or -ENOMEM. */
int placement_choose(Inventory *inventory, size_t tenant, bool failover, Choice *ret);

/* Who is placed first: higher priority, then the hardest to place, then by name. */
int placement_compare_urgency(const Vm *a, const Vm *b);
/* The same for qsort(), of a row of pointers to tenants. */
int placement_compare_tenants(const void *a, const void *b);
