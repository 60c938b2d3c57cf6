/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimWorld: a cluster in one process under virtual time. The engine and the registry are the real ones, byte for byte
 * what the service runs; loop, disk and network are made here, and all that is random comes from the seed.
 *
 *      sim-time        the clock, the agenda, chance, the trace
 *      sim-loop        sd_event in virtual time
 *      sim-disk        log-file.h and writer.h, with disks that fail
 *      sim-network     messages on their way
 *      sim-machine     a node
 *      sim-judge       what is true, and what must hold
 *      sim-crowd       clients and administrators
 *      sim-weather     what goes wrong
 */

#include "sim-weather.h"

typedef struct SimWorld {
        uint64_t seed;
        SimTime time;
        SimNetwork network;
        SimJudge judge;
        SimMachine machines[SIM_MACHINES_MAX];
        unsigned n_machines;
        SimCrowd crowd;
        SimWeather weather;
        struct raft_append_entries_result last_result;  /* for scenes: the last one that anybody sent */
} SimWorld;

SimWorld *sim_world_new(uint64_t seed, unsigned told);
/* One in which nothing goes wrong by itself and nobody wants anything: for scenes. All are up. */
SimWorld *sim_world_of(unsigned n_founders, unsigned n_machines);
SimWorld *sim_world_free(SimWorld *world);
DEFINE_CLEANUP(SimWorld *, sim_world_free);

/* Trouble for so long, then calm until all agree. What was found broken is in time.broken. */
void sim_world_run(SimWorld *world, unsigned seconds);
/* Goes on for so long, or until something is broken. */
void sim_world_pass(SimWorld *world, uint64_t us);
