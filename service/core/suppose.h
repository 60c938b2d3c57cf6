/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Supposition: what if? A world that is the same as the one there is, but for what is supposed: nodes fail or are
 * drained, GPUs and nodes are added, VMs are started, a pool's reserve is another. Whoever asks about a world can be
 * asked about this one. Made in the size of nodes, pools and VMs; nothing is decided here, and nothing changed. */

#include "core/names.h"
#include "core/world.h"

/* GPUs that a pool has more, like those that it has. */
typedef struct SupposedGpus {
        const char *pool;
        uint32_t n;
        const char *node;               /* name of a member, or of a new node; NULL or empty: one more of these */
} SupposedGpus;

typedef struct SupposedReserve {
        const char *pool;
        uint32_t reserve;
} SupposedReserve;

/* All of it is borrowed, and what stands there twice is supposed once (GPUs add up). */
typedef struct Supposal {
        const NodeId *lose;             /* they fail now, together, and are held for lost */
        size_t n_lose;
        const NodeId *drain;
        size_t n_drain;
        const char *const *new_nodes;   /* names; like the first node that could take VMs, and without GPUs */
        size_t n_new_nodes;
        const SupposedGpus *add;
        size_t n_add;
        const SupposedReserve *reserves;
        size_t n_reserves;
        const VmId *start;
        size_t n_start;
        bool settled;                   /* what is under way is over: who starts runs, who stops has stopped */
} Supposal;

typedef struct Supposition Supposition;

/* Returns 0 or -ENOMEM. *ret is set where *ret_result, to be cleared by the caller, says VERDICT_DONE; else that says
 * what cannot be supposed. The world is borrowed for as long as the supposition is there. */
int suppose_new(const World *world, const Supposal *supposal, Supposition **ret, Result *ret_result);
Supposition *suppose_free(Supposition *supposition);
DEFINE_CLEANUP(Supposition *, suppose_free);

const World *suppose_world(const Supposition *supposition);
/* A VM of that world, by its place in the row: where it is sent and where its home is may be written. */
Vm *suppose_vm(Supposition *supposition, size_t index);
