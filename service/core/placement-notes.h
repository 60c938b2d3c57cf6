/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Placement notes: what is kept of a decision (D-Bus: VM.LastPlacement): of each node whether it was taken, and every
 * reason why, or why not, with what would change it. Bounded, so that an entry stays small in a cluster of a thousand
 * nodes: the chosen node first, then those that the VM's policy names and where it ran before, then who would have done
 * as well, then who was nearest to it. */

#include "core/placement.h"

typedef struct PlacementNotes {
        PlacementNote *items;           /* owned, with their texts */
        size_t n;
        size_t allocated;
} PlacementNotes;

void placement_notes_clear(PlacementNotes *notes);

/* How many bytes a decision's may take in this registry: so many that all VMs' together stay below NOTES_TOTAL_MAX. */
size_t placement_notes_room(const Registry *registry);

/* @vm: as it was before the decision. @most: bytes, as the registry counts them. The chosen node's is there whatever
 * else there is no room for. 0 or -ENOMEM. */
int placement_notes_make(const World *world, const Vm *vm, const Placement *placement, size_t most,
                         PlacementNotes *ret);
