/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Defragment: the fewest moves that make room for a VM that has no place. Each is a cold move: a VM stops where it runs
 * and starts where there is room for it then; one after the other, so that each has a place before the next leaves.
 * Nobody is moved for a VM of a lower priority.
 *
 * Between two moves everything goes on as ever: who waits and finds room takes it. So a hole that another one would
 * fill first is none. */

#include "core/move.h"

/* More are not looked for: each one interrupts somebody. */
#define DEFRAGMENT_MOVES_MAX 8U

typedef enum DefragmentVerdict {
        DEFRAGMENT_FOUND,               /* after these moves it has a place, and no fewer would do; none: it fits now */
        DEFRAGMENT_NONE,                /* no DEFRAGMENT_MOVES_MAX moves make room */
        DEFRAGMENT_GAVE_UP,             /* that was too much to work out: there may be some */
} DefragmentVerdict;

/* @tenant has no place, and its VM is treated as if it were to run. @work_max: rooms that are looked at at most. The
 * inventory is tried on and is as before when this returns; the same inventory gives the same moves. *ret is set with
 * DEFRAGMENT_FOUND, its items without a why. Returns a DefragmentVerdict or -ENOMEM. */
int defragment_find(Inventory *inventory, size_t tenant, uint64_t work_max, Moves *ret);
