/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Move: where VMs could go that are to leave their node: one that somebody moves, or all of a node that is drained. It
 * asks the same placement that decides when the time has come, with what is known now; nothing is decided here. */

#include "core/company.h"
#include "core/placement.h"

typedef enum MoveVerdict {
        MOVE_POSSIBLE,
        MOVE_NO_PLACE,
} MoveVerdict;

/* Could @vm run on @target, or, where that is NULL, on another node than it does? *ret_node is the node, with
 * MOVE_POSSIBLE; *ret_sentence says why not and what to do, with MOVE_NO_PLACE. Returns a MoveVerdict or -ENOMEM. */
int move_find(const World *world, const Vm *vm, const NodeId *target, NodeId *ret_node, char **ret_sentence);

/* "b: 2 usable GPUs of training in all; c: ...": what keeps a VM from the nodes but @from, for as many as are read. */
int move_list_reasons(const World *world, const Placement *placement, const NodeId *from, char **ret);

/* "2 GPUs of training, together with ernie", or why it stays: of one of several that must be together. */
int move_say_company(const Inventory *inventory, const Company *company, size_t tenant, bool stays, char **ret);

/* What would become of one VM. */
typedef struct Move {
        VmId vm;
        NodeId from;
        NodeId to;                      /* null: it stays */
        char *why;
} Move;

typedef struct Moves {
        Move *items;
        size_t n;
        size_t allocated;
} Moves;

void moves_clear(Moves *moves);

/* What becomes of the VMs of @node when it is drained: one for each, in the order in which they leave; those that are
 * stopped anyhow are left out. 0 or -ENOMEM. */
int moves_of_drain(const World *world, const NodeId *node, Moves *ret);

/* All of it in a sentence. 0 or -ENOMEM. */
int moves_say(const World *world, const NodeId *node, const Moves *moves, char **ret);
bool moves_are_complete(const Moves *moves);    /* none stays */

/* The node is drained, and everything that can be tried for VMs without a place was tried: why its last VMs do not
 * leave, and what to do. NULL: something is under way, or none is left. 0 or -ENOMEM. */
int drain_obstacle(const World *world, const NodeId *node, char **ret);
