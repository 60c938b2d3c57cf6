/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimMachine: one node: its disk, its loop, the real engine and the real registry between them. */

#include "sim-disk.h"
#include "sim-judge.h"
#include "sim-loop.h"
#include "sim-network.h"

struct SimMachine {
        SimTime *time;
        SimNetwork *network;
        SimJudge *judge;
        SimMachine *all;
        unsigned n_all;
        unsigned n_founders;            /* the first so many are the first members */

        unsigned number;
        unsigned identity;              /* how often it was born: a new one gets a new id */
        uint64_t id;
        char address[32];
        SimDisk *disk;

        sd_event *loop;                 /* NULL: down, like what follows */
        RaftEngine *engine;
        Registry *registry;
        unsigned life;                  /* counts its starts */
        SimAlarm restart;

        unsigned trailing;              /* for its next start */
        unsigned snapshot_every;        /* entries in the log; 0: never by itself */
        void (*on_changed)(void *userdata, SimMachine *machine);
        void (*on_down)(void *userdata, SimMachine *machine);   /* its engine is gone */
        void *userdata;
        SimView view;
};

void sim_machine_init(SimMachine *machine, unsigned number, SimTime *time, SimNetwork *network, SimJudge *judge,
                      SimMachine *all, unsigned n_all, unsigned n_founders);
void sim_machine_clear(SimMachine *machine);

void sim_machine_up(SimMachine *machine);
/* An orderly end; or the power is cut. It comes back by itself at @back_us. Nothing to do if it is down. */
void sim_machine_down(SimMachine *machine, bool orderly, uint64_t back_us);
/* With an empty disk and a new id: another machine, in its place. It must be down. */
void sim_machine_renew(SimMachine *machine);
void sim_machine_take_snapshot(SimMachine *machine);

/* Up, and its loop runs. */
bool sim_machine_responds(const SimMachine *machine);
SimMachine *sim_machine_by_id(const SimMachine *any, uint64_t id);
/* By what machines that are up say of themselves, the one of the highest term; NULL: none. */
SimMachine *sim_machine_leader(const SimMachine *any);
RaftStatus sim_machine_status(const SimMachine *machine);
