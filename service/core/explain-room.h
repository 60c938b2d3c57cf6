/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The GPUs of one node in words: what is missing there for one VM, who has it, and what would change it. */

#include "core/placement-internal.h"

/* One question on one node. */
typedef struct Case {
        const Request *request;
        const InventoryNode *node;
        const Room *room;               /* or NULL */
        const char *pool;
        uint32_t count;
} Case;

/* One for each hindrance that is about GPUs or the pool: sentence and remedy. All return 0 or -ENOMEM. */
int explain_no_gpus(const Case *c, PlacementReason *ret);
int explain_not_enough(const Case *c, PlacementReason *ret);
int explain_taken(const Case *c, PlacementReason *ret);
int explain_sets(const Case *c, PlacementReason *ret);
int explain_reserve(const Case *c, PlacementReason *ret);
int explain_max_in_use(const Case *c, PlacementReason *ret);
