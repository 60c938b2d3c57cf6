/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimCrowd: those who want something of the cluster. Clients submit real commands of the registry on any node, follow
 * its word who leads, wait for a while, ask again with the same request id or let go. One asks for confirmations, one
 * changes members and hands the lead on, one takes snapshots. */

#include "chronicle.h"
#include "sim-machine.h"

#define SIM_CLIENTS 4U

typedef struct SimCrowd SimCrowd;

/* A submission on its way. */
typedef struct SimCall {
        SimCrowd *crowd;
        SimWish *wish;
        SimMachine *machine;
        unsigned life;
        RaftRequest *request;           /* NULL: not waited for */
        struct SimClient *client;       /* that waits; NULL: it went on to other things */
} SimCall;

typedef struct SimClient {
        SimCrowd *crowd;
        unsigned number;
        SimAlarm turn, deadline;
        SimOrder *order;                /* what it wants; NULL: nothing at present */
        GByteArray *command;            /* bytes of its entry */
        SimCall *call;                  /* that it waits for */
        SimMachine *hint;               /* who is said to lead */
        unsigned n_tries;
} SimClient;

struct SimCrowd {
        SimTime *time;
        SimJudge *judge;
        SimMachine *machines;
        unsigned n_machines;
        Chronicle chronicle;            /* what commands are made with: a registry a little behind or ahead */
        GRand *random;                  /* of the chronicle */
        SimClient clients[SIM_CLIENTS];
        ARRAY(SimCall *) calls;
        SimAlarm confirm, change, snapshot;
        uint64_t think_us;              /* between two commands of a client, at most */
        uint64_t change_us;             /* between two changes of members, at most; 0: there are none */
        uint64_t snapshot_us;           /* between two looks who should take a snapshot */
        unsigned n_voters_least, n_voters_most;
        unsigned snapshot_entries;      /* in the log, before one is taken */
        bool hands_over;
        bool is_calm;                   /* nobody wants anything new */
};

void sim_crowd_init(SimCrowd *crowd, SimTime *time, SimJudge *judge, SimMachine *machines, unsigned n_machines,
                    uint64_t seed);
void sim_crowd_start(SimCrowd *crowd);
void sim_crowd_clear(SimCrowd *crowd);

/* An engine is gone, and with it all that was asked of it. */
void sim_crowd_machine_is_down(SimCrowd *crowd, SimMachine *machine);
/* Somebody may want something of a new leader at once. */
void sim_crowd_machine_changed(SimCrowd *crowd, SimMachine *machine);

/* Nobody begins anything new; clients see their last command through. */
void sim_crowd_calm(SimCrowd *crowd);
/* Nothing is open any more that is still waited for. */
bool sim_crowd_is_served(const SimCrowd *crowd);
/* One submission that was taken by a member and is not decided, or NULL. */
const SimWish *sim_crowd_waits_for(const SimCrowd *crowd, const SimMachine **ret_at);
/* One more command, with which to see that the cluster works. */
SimOrder *sim_crowd_last_order(SimCrowd *crowd);
