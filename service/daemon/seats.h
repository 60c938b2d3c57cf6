/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Seats: the members of the consensus engine, by the newest configuration that this node knows, asked for by node. */

#include "adapters/store/raft-engine.h"
#include "core/id.h"

#define SEATS_MAX 64U                   /* as many as the engine takes; a cluster has 7 */

/* Borrowed from the engine until the loop goes on. */
typedef struct Seats {
        RaftMember members[SEATS_MAX];
        size_t n;
} Seats;

void seats_get(const RaftEngine *engine, Seats *ret);
RaftMemberRole seats_role(const Seats *seats, const NodeId *node);      /* NONE: it is no member */
/* Has it the log: a standby or voter? Then it may be followed. */
bool seats_has_log(const Seats *seats, const NodeId *node);
