/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/seats.h"

#include "daemon/node-id.h"

void seats_get(const RaftEngine *engine, Seats *ret) {
        size_t n = raft_engine_get_members(engine, ret->members, SEATS_MAX);
        ret->n = n < SEATS_MAX ? n : SEATS_MAX;
}

RaftMemberRole seats_role(const Seats *seats, const NodeId *node) {
        uint64_t id = node_id_to_raft(node);
        for (size_t i = 0; i < seats->n; i++)
                if (seats->members[i].id == id)
                        return seats->members[i].role;
        return RAFT_MEMBER_NONE;
}

bool seats_has_log(const Seats *seats, const NodeId *node) {
        RaftMemberRole role = seats_role(seats, node);
        return role == RAFT_MEMBER_VOTER || role == RAFT_MEMBER_STANDBY;
}
