/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whom to stop so that a VM has its GPUs on a node, in words: found by trying it on the inventory, so that sets stay
 * whole, and the pool's Reserve and MaxInUse are kept. No more than it takes, those of lower priority first; where it
 * takes others, that is said, for to stop them is another kind of advice. */

#include "core/explain-room.h"

/* A VM that has GPUs which another one would need. */
typedef struct Holder {
        size_t tenant;
        const Vm *vm;
        uint32_t n;
} Holder;

typedef ARRAY(Holder) Holders;

/* Who has the room's usable GPUs of these models: those first that one would rather stop. 0 or -ENOMEM. */
int holders_list(const Inventory *inventory, const Room *room, Models models, Holders *ret);

/* ", of the same priority", ", of higher priority" than @vm; "" for lower. */
const char *explain_rank(const Vm *holder, const Vm *vm);

/* "stop render and bert, of the same priority (gpupoolctl vm stop VM)", and what else it takes where that won't do.
 * *ret stays NULL where nobody's end would help. The inventory is as it was. 0 or -ENOMEM. */
int explain_stop(const Case *c, const Holders *holders, char **ret);
