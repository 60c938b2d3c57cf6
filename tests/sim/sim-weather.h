/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimWeather: what goes wrong, and when. Each world draws its own climate: some kinds of trouble never come there, some
 * often, so that rare ones are met without others in their way. */

#include "sim-crowd.h"

typedef enum SimTrouble {
        SIM_TROUBLE_CRASH,
        SIM_TROUBLE_RESTART,            /* an orderly end */
        SIM_TROUBLE_CRASH_ALL,
        SIM_TROUBLE_SPLIT,              /* two sides that do not hear each other */
        SIM_TROUBLE_DEAF,               /* one hears nobody, or nobody hears it, or both */
        SIM_TROUBLE_ONE_WAY,            /* single directions of single links */
        SIM_TROUBLE_DISK_ERROR,
        SIM_TROUBLE_DISK_STALL,
        SIM_TROUBLE_HOLD,               /* a machine stands still; its clock does not */
        SIM_TROUBLE_LEADER_DISK,        /* the leader's disk fails while its entries are on their way */
        SIM_TROUBLE_LATE_SNAPSHOT,      /* one falls behind, then takes its own snapshot when the leader's comes */
        SIM_TROUBLE_SWAP_LEADERS,       /* a leader is cut off, heard again when another leads, and back in the lead */
        SIM_TROUBLE_RENEW,              /* a machine that is no member any more comes again as another one */
        SIM_TROUBLE_COUNT,
} SimTrouble;

typedef struct SimWeather {
        SimTime *time;
        SimNetwork *network;
        SimJudge *judge;
        SimCrowd *crowd;
        SimMachine *machines;
        unsigned n_machines;
        unsigned weight[SIM_TROUBLE_COUNT];
        uint64_t pause_us;              /* between two troubles, at most */
        uint64_t rain_us;               /* how long one lasts, at most */
        SimAlarm next, heal, scene;
        unsigned scene_step;            /* of what takes several steps */
        SimTrouble scene_kind;
        SimMachine *victim;
} SimWeather;

/* Draws a climate, also of the network, the disks and the crowd. */
void sim_weather_init(SimWeather *weather, SimNetwork *network, SimCrowd *crowd);
void sim_weather_start(SimWeather *weather);
void sim_weather_clear(SimWeather *weather);

/* The sun comes out: all is mended, all are up. */
void sim_weather_end(SimWeather *weather);
