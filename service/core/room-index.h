/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Room index: the rooms of a pool on nodes that take VMs, in the order of what they have free, then of how it lies,
 * then of their node's name. Rooms with as much free that lies alike are one kind: a VM that looks for a place asks
 * one of each kind, not all. Every step costs the logarithm of the number of rooms.
 *
 * The inventory keeps it; who takes and gives back need not know it. */

#include "core/inventory.h"

/* The first room of the pool with at least @count free GPUs; NOWHERE: none. */
size_t room_index_first(const Inventory *inventory, size_t pool, uint32_t count);
/* The one behind @room. NOWHERE: that was the last. */
size_t room_index_next(const Inventory *inventory, size_t room);

/* Walks those with at least @count free GPUs, in this order: cheaper than one step after the other. */
typedef enum RoomStep {
        ROOM_NEXT,
        ROOM_NEXT_KIND,
} RoomStep;

void room_index_walk(const Inventory *inventory, size_t pool, uint32_t count,
                     RoomStep (*visit)(void *userdata, size_t room), void *userdata);

/* To be called around each change of what a room has free. Removing one that is not in it does nothing. */
void room_index_add(Inventory *inventory, size_t room);
void room_index_remove(Inventory *inventory, size_t room);
