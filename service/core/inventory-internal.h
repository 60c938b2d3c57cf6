/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What inventory.c makes and inventory-follow.c keeps up with the world. Nobody else sees this. */

#include "core/inventory.h"

unsigned inventory_find_troubles(const World *world, const NodeRecord *record, const NodeFacts *facts);
/* Counts anew what the room has, after something of its GPUs changed. */
void inventory_recount(Inventory *inventory, size_t room);
void inventory_set_troubles(Inventory *inventory, size_t node, unsigned troubles);
/* Notes where the tenant is, whatever it holds. */
void inventory_move_to(Inventory *inventory, Tenant *tenant, size_t node);
bool inventory_gpu_group_is_held(const Inventory *inventory, size_t gpu);

void trail_free(struct Trail *trail);
