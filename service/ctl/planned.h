/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Planned moves: what would become of VMs, as Manager.Plan and the dry run of a drain answer: a(osos). */

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "util/array.h"

typedef struct PlannedMove {
        char *vm;               /* path */
        char *from;             /* name of a node; empty: none */
        char *to;               /* path; "/": none */
        char *why;
} PlannedMove;

typedef ARRAY(PlannedMove) PlannedMoves;

void planned_moves_clear(PlannedMoves *moves);

/* Replaces what is there. Negative errno for an answer of another form. */
int planned_moves_read(PlannedMoves *moves, sd_bus_message *message);

bool planned_moves_all_run(const PlannedMoves *moves);

/* What becomes of a VM that gets no node: in a plan it waits, in a drain it stays where it is. */
typedef enum PlannedLeftover {
        LEFTOVER_WAITS,
        LEFTOVER_STAYS,
} PlannedLeftover;

typedef struct Objects Objects;
typedef struct Screen Screen;
struct json_object;

void planned_moves_print(const PlannedMoves *moves, const Objects *objects, PlannedLeftover leftover,
                         const Screen *screen);
struct json_object *planned_moves_to_json(const PlannedMoves *moves, const Objects *objects);
