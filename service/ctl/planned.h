/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Planned moves: what would become of VMs, as the dry run of a drain or a defragment answers: a(osos). A VM that gets
 * no node stays where it is. */

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

typedef struct Objects Objects;
typedef struct Screen Screen;
struct json_object;

void planned_moves_print(const PlannedMoves *moves, const Objects *objects, const Screen *screen);
struct json_object *planned_moves_to_json(const PlannedMoves *moves, const Objects *objects);
