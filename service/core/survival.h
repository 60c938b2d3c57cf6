/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Survival: which nodes a pool may lose so that all of its VMs that run still run. A promise: what the conductor would
 * do after a loss is tried on paper (core/seating.h), where it is not plain that there is room enough; and what neither
 * can be proven nor tried in reasonable time counts as no. */

#include "core/pool-count.h"

/* For one pool, as SEATING_WORK counts: some tens of milliseconds. */
#define SURVIVAL_WORK_MAX (256U * 1024U)

/* Sets survives, majority_spares and at_risk. *work: as much may be done, and what was is taken off. *ret_complete: it
 * was enough; else there may be more that it survives, and fewer at risk. 0 or -ENOMEM. */
int survival_count(Inventory *inventory, size_t pool, uint64_t *work, PoolCounts *ret, bool *ret_complete);
