/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Neighbours: to whom a node keeps connections, and with whom it gossips in a period (design, part 6). In a small
 * cluster that is everybody. In a larger one each node dials the members of the consensus engine and a few others,
 * another few for each node, one of which is exchanged in each epoch; so the whole is connected, nobody has many
 * connections but the engine's members, and two nodes that do not hear each other do not stay each other's only way.
 *
 * There is no chance in it: it follows from who asks, the epoch, and who is there. When a node comes or goes the choice
 * of the others changes in one place at most. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/id.h"

#define NEIGHBOURS_ALL 8U               /* a cluster of so many nodes: each with each */
#define NEIGHBOURS_DIALLED 8U           /* beside the engine's members; as many dial us, so it makes about 16 */
#define NEIGHBOURS_PARTNERS 3U          /* gossiped with in a period, in a cluster of more than NEIGHBOURS_ALL */
#define NEIGHBOURS_EPOCH_US 60000000U   /* the epoch is the number of these since any fixed time, each node's own */
/* 7 members of the engine (5 voters, 2 standbys) is all it has; more are not dialled. */
#define NEIGHBOURS_MEMBERS_MAX 16U
#define NEIGHBOURS_MAX (NEIGHBOURS_MEMBERS_MAX + NEIGHBOURS_DIALLED)

typedef struct Neighbour {
        NodeId id;
        bool member;                    /* of the consensus engine */
} Neighbour;

/* To whom @self wants connections. @nodes: all of the cluster, @self among them or not, each once, in any order.
 * Returns how many. A member of the engine wants those of the other members only: everybody else dials it. */
size_t neighbours_choose(const NodeId *self, const Neighbour *nodes, size_t n, uint64_t epoch,
                         NodeId ret[static NEIGHBOURS_MAX]);

/* With whom to begin an exchange now: all who are connected, or NEIGHBOURS_PARTNERS of them by @random. A node that is
 * no member of the engine takes others that are none, as far as there are some: all nodes are connected to the members,
 * whose load would grow with the cluster. The members' own exchanges reach everybody. @connected without self. */
size_t neighbours_partners(bool self_is_member, const Neighbour *connected, size_t n, uint64_t random,
                           NodeId ret[static NEIGHBOURS_ALL]);
