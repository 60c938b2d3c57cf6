/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimNetwork: messages between machines. Each is copied, as a transport does, and may be lost, come late, come twice or
 * be overtaken; each direction of each link can be cut by itself. */

#include <raft.h>

#include "adapters/store/raft-engine.h"
#include "sim-time.h"

#define SIM_MACHINES_MAX 9U

typedef struct SimLetter SimLetter;

typedef struct SimNetwork {
        SimTime *time;
        /* A letter is there. The time at which to ask again (the machine is held), or 0: it is dealt with. */
        uint64_t (*arrive)(void *userdata, unsigned to, const RaftMessage *message);
        void (*watch)(void *userdata, const RaftMessage *message);      /* what is sent; optional, for scenes */
        void *userdata;
        SimLetter *letters;             /* on their way */

        bool cut[SIM_MACHINES_MAX][SIM_MACHINES_MAX];   /* from, to */
        uint64_t least_us, most_us;     /* of the way */
        unsigned loss_percent, twice_percent, late_percent;
        bool in_order;                  /* on each link, what does not come late */
        uint64_t last_us[SIM_MACHINES_MAX][SIM_MACHINES_MAX];

        uint64_t n_sent, n_lost, n_twice;
} SimNetwork;

void sim_network_clear(SimNetwork *network);

/* @address is the sender's: what the receiver sees. */
void sim_network_send(SimNetwork *network, unsigned from, unsigned to, const char *address,
                      const RaftMessage *message);

void sim_network_heal(SimNetwork *network);
/* No losses, no doubles, quick and in order. */
void sim_network_calm(SimNetwork *network);

const char *sim_message_name(const RaftMessage *message);
/* All that matters of it, in one line; to be freed. */
char *sim_message_text(const RaftMessage *message);
