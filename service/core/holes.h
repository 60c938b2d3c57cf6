/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Holes: what is lost for others when a VM takes GPUs of a room. A room has so many places for each need that VMs of
 * its pool have: with 8 GPUs free two for VMs that need 4. Exact where needs and sets of linked GPUs divide each
 * other, as 1, 2, 4 and 8 do. */

#include "core/choice.h"

/* Counts the room's places; to be called when what it has free has changed. */
void holes_count_places(const Inventory *inventory, Room *room);
/* Counts in its last_choice what would be lost by this choice. */
void holes_count_lost(const Inventory *inventory, Room *room, const Choice *choice);

typedef struct Holes {
        uint32_t needed;        /* so many VMs more that wait, or the largest if its node is lost, have none */
        uint32_t large;         /* a bit for each larger need that loses a place, the highest for the largest */
        uint32_t small;         /* what smaller needs lose, in GPUs */
} Holes;

/* Of what is in the room's last_choice. */
Holes holes_of_last_choice(const Inventory *inventory, const Room *room);
