/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Choice: which free GPUs of a room a VM gets: as close together as can be, linked sets whole, and so that the largest
 * groups of neighbours stay whole for who comes later. */

#include "core/inventory.h"

typedef struct Choice {
        size_t gpus[GPUS_PER_VM_MAX];   /* by address */
        size_t n_gpus;
        uint32_t distance;              /* 0: all behind one PCIe switch; NUMA_DISTANCE more for each NUMA node more */
        uint32_t leftover;              /* free GPUs left over behind the switches that were broken into */
} Choice;

#define NUMA_DISTANCE GPUS_PER_VM_MAX

/* Always: only of these models (MODELS_ALL: of any), and of a set all must be. */

/* Can exactly @count of its free GPUs be had? Not always when enough are free: sets go whole. */
bool choice_exists(const Inventory *inventory, const Room *room, Models models, uint32_t count);

/* Could exactly @count be had if all its usable GPUs were free? */
bool choice_is_possible(const Inventory *inventory, const Room *room, Models models, uint32_t count);

/* Chooses. False: choice_exists() says no. The same free GPUs give the same choice. */
bool choice_make(const Inventory *inventory, const Room *room, Models models, uint32_t count, Choice *ret);

/* How many of its usable GPUs there are of these models, whatever their sets; and of the free ones, with their sets. */
uint32_t choice_count_usable(const Inventory *inventory, const Room *room, Models models);
uint32_t choice_count_free(const Inventory *inventory, const Room *room, Models models);

/* Distance and leftover of what choice_make() would choose, remembered until the room changes: in its last_choice, and
 * there also the places that others lose by it (core/holes.h). */
bool choice_measure(Inventory *inventory, size_t room, Models models, uint32_t count, uint32_t *ret_distance,
                    uint32_t *ret_leftover);
