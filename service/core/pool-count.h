/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a pool has, and what it could lose (D-Bus: the numbers of a pool). */

#include "core/inventory.h"

typedef struct PoolCounts {
        uint32_t total;         /* members, also absent ones */
        uint32_t usable;        /* present, assignable, not in quarantine, on a node that takes VMs; assigned or not */
        uint32_t free;          /* usable, and neither they nor their IOMMU group assigned */
        uint32_t largest_free;  /* the most free ones on one node: the largest requirement that fits now */
        uint32_t in_use;        /* assigned */
        uint32_t survives;      /* nodes that may fail, whichever they are, and every VM that runs still runs; never
                                 * more than leave the cluster a majority, without which nothing is started, and none
                                 * while nothing is started elsewhere (below LEVEL_FAILOVER) */
        uint32_t majority_spares;       /* as many as may fail for its sake, whatever is free; the same of each pool */
        VmId *at_risk;          /* those that would not after one failure more, or might not; by id */
        size_t n_at_risk;
        TextList mixed;         /* sentences on how the GPUs differ; empty: all alike */
} PoolCounts;

/* The inventory is tried on and is as before when this returns. What would be too much to work out counts as no: what
 * the pool survives is then less than it could be, and more VMs are named. 0 or -ENOMEM. */
int pool_count_in(Inventory *inventory, const Pool *pool, PoolCounts *ret);
/* The same with so much *work, of which what was used is taken off. *ret_survives: it was enough. */
int pool_count_within(Inventory *inventory, const Pool *pool, uint64_t *work, PoolCounts *ret, bool *ret_survives);
void pool_counts_clear(PoolCounts *counts);
