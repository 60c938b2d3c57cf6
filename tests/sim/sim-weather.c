/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-weather.h"

#include <errno.h>
#include <limits.h>
#include <raft.h>

static SimMachine *any_machine(SimWeather *weather) {
        return weather->machines + sim_pick(weather->time, weather->n_machines);
}

/* The leader is who is worth harming. */
static SimMachine *leader_or_any(SimWeather *weather) {
        SimMachine *leader = sim_machine_leader(weather->machines);
        return leader && sim_chance(weather->time, 60) ? leader : any_machine(weather);
}

static uint64_t soon(SimWeather *weather, uint64_t least_us, uint64_t most_us) {
        return weather->time->now_us + sim_between(weather->time, least_us, most_us);
}

/* ---- machines */

static void crash(SimWeather *weather, SimMachine *machine, bool orderly) {
        SimTime *time = weather->time;
        uint64_t back_us = soon(weather, MS, sim_chance(time, 50) ? 200 * MS : 2 * weather->rain_us);

        if (!machine->engine)
                return;
        weather->judge->visits.crashes++;
        machine->trailing = sim_chance(time, 50) ? UINT_MAX : 1 + sim_pick(time, 40);
        sim_machine_down(machine, orderly, back_us);
}

static void crash_all(SimWeather *weather) {
        weather->judge->visits.all_crashed++;
        for (unsigned i = 0; i < weather->n_machines; i++)
                crash(weather, weather->machines + i, false);
}

static void hold(SimWeather *weather, SimMachine *machine) {
        if (!machine->engine)
                return;
        weather->judge->visits.holds++;
        uint64_t until_us = soon(weather, 10 * MS, 2 * weather->rain_us);
        sim_say(weather->time, "m%u stands still until %.6f", machine->number, (double) until_us / (double) SECOND);
        sim_loop_hold(machine->loop, until_us);
}

/* Only one that is no member by what is committed: nobody counts on its disk any more. */
static void renew(SimWeather *weather, SimMachine *machine) {
        struct raft_configuration members;
        SimMachine *leader = sim_machine_leader(weather->machines);
        bool is_member = false;

        if (!leader || !sim_judge_members(weather->judge, &members))
                return;
        for (unsigned i = 0; i < members.n; i++)
                is_member |= members.servers[i].id == machine->id;
        raft_configuration_close(&members);
        /* Nor one that a leader is about to add. */
        RaftMember newest[SIM_MACHINES_MAX];
        size_t n = raft_engine_get_members(leader->engine, newest, SIM_MACHINES_MAX);
        for (size_t i = 0; i < n && i < SIM_MACHINES_MAX; i++)
                is_member |= newest[i].id == machine->id;
        if (is_member)
                return;
        weather->judge->visits.wipes++;
        sim_machine_down(machine, false, soon(weather, MS, 500 * MS));
        if (machine->restart.place == 0)
                sim_alarm_set(weather->time, &machine->restart, soon(weather, MS, 500 * MS));
        sim_machine_renew(machine);
}

/* ---- the network */

static void on_heal(void *userdata) {
        SimWeather *weather = userdata;
        sim_say(weather->time, "the network is whole");
        sim_network_heal(weather->network);
}

static void cut(SimWeather *weather, unsigned from, unsigned to) {
        weather->network->cut[from][to] = true;
}

static void cut_off(SimWeather *weather, const SimMachine *machine, bool ears, bool mouth) {
        sim_say(weather->time, "m%u is cut off%s%s", machine->number, ears ? ", hears nobody" : "",
                mouth ? ", is heard by nobody" : "");
        for (unsigned i = 0; i < weather->n_machines; i++) {
                if (ears)
                        cut(weather, i, machine->number);
                if (mouth)
                        cut(weather, machine->number, i);
        }
}

static void heal_later(SimWeather *weather) {
        weather->judge->visits.cuts++;
        sim_alarm_set(weather->time, &weather->heal, soon(weather, 100 * MS, weather->rain_us));
}

static void split(SimWeather *weather) {
        unsigned sides = (unsigned) sim_random(weather->time);

        sim_say(weather->time, "the network splits: %x", sides & ((1U << weather->n_machines) - 1));
        for (unsigned i = 0; i < weather->n_machines; i++)
                for (unsigned j = 0; j < weather->n_machines; j++)
                        if ((sides >> i & 1) != (sides >> j & 1))
                                cut(weather, i, j);
        heal_later(weather);
}

static void deafen(SimWeather *weather, const SimMachine *machine) {
        unsigned how = 1 + sim_pick(weather->time, 3);
        cut_off(weather, machine, how & 1, how & 2);
        heal_later(weather);
}

static void cut_some_ways(SimWeather *weather) {
        unsigned percent = 10 + sim_pick(weather->time, 50);

        sim_say(weather->time, "%u %% of the ways are cut", percent);
        for (unsigned i = 0; i < weather->n_machines; i++)
                for (unsigned j = 0; j < weather->n_machines; j++)
                        if (sim_chance(weather->time, percent))
                                cut(weather, i, j);
        heal_later(weather);
}

/* ---- disks */

static void fail_disk(SimWeather *weather, SimMachine *machine, uint64_t most_us) {
        static const int errors[] = { -ENOSPC, -EIO, -EROFS };
        SimTime *time = weather->time;
        SimDisk *disk = machine->disk;

        disk->error = errors[sim_pick(time, ELEMENTS(errors))];
        disk->error_until_us = soon(weather, MS, most_us);
        disk->small_ones_find_room = disk->error == -ENOSPC && sim_chance(time, 70);
        if (sim_chance(time, 30))
                disk->unreadable_until_us = disk->error_until_us;
        weather->judge->visits.disk_errors++;
        sim_say(time, "m%u's disk fails until %.6f: %s", machine->number,
                (double) disk->error_until_us / (double) SECOND, g_strerror(-disk->error));
}

static void stall_disk(SimWeather *weather, SimMachine *machine, uint64_t most_us) {
        machine->disk->stalled_until_us = soon(weather, MS, most_us);
        weather->judge->visits.disk_stalls++;
        sim_say(weather->time, "m%u's disk hangs until %.6f", machine->number,
                (double) machine->disk->stalled_until_us / (double) SECOND);
}

/* ---- scenes: troubles of several steps */

static void begin_scene(SimWeather *weather, SimTrouble kind, SimMachine *victim) {
        if (weather->scene.place > 0)
                return;
        weather->scene_kind = kind;
        weather->scene_step = 0;
        weather->victim = victim;
        sim_alarm_set(weather->time, &weather->scene, weather->time->now_us);
}

/* The victim hears nothing while others go on and shorten their logs; its own snapshot meets the leader's. */
static bool late_snapshot(SimWeather *weather) {
        SimMachine *victim = weather->victim;

        switch (weather->scene_step++) {
        case 0:
                cut_off(weather, victim, true, true);
                sim_alarm_set(weather->time, &weather->scene, soon(weather, 300 * MS, 2 * SECOND));
                return true;
        case 1:
                for (unsigned i = 0; i < weather->n_machines; i++)
                        if (weather->machines + i != victim)
                                sim_machine_take_snapshot(weather->machines + i);
                sim_alarm_set(weather->time, &weather->scene, soon(weather, 20 * MS, 100 * MS));
                return true;
        case 2:
                stall_disk(weather, victim, weather->rain_us);
                sim_machine_take_snapshot(victim);
                sim_network_heal(weather->network);
                return false;
        }
        return false;
}

/* A leader with a change of members that nobody else has; another leads and changes too; the first one again. */
static bool swap_leaders(SimWeather *weather) {
        SimMachine *victim = weather->victim, *leader = sim_machine_leader(weather->machines);
        SimTime *time = weather->time;

        switch (weather->scene_step++) {
        case 0:
                cut_off(weather, victim, sim_chance(time, 50), true);
                sim_alarm_set(time, &weather->scene, soon(weather, 600 * MS, 3 * SECOND));
                return true;
        case 1:
                sim_network_heal(weather->network);
                if (leader && leader != victim)
                        cut_off(weather, leader, true, true);
                sim_alarm_set(time, &weather->scene, soon(weather, 600 * MS, 3 * SECOND));
                return true;
        case 2:
                sim_network_heal(weather->network);
                return false;
        }
        return false;
}

/* A leader whose entries do not become durable is replaced, and its entries too, while they are still on their way. */
static bool leader_disk(SimWeather *weather) {
        SimMachine *victim = weather->victim;
        SimTime *time = weather->time;

        switch (weather->scene_step++) {
        case 0:
                if (sim_chance(time, 50))
                        fail_disk(weather, victim, 6 * SECOND);
                else
                        stall_disk(weather, victim, 6 * SECOND);
                sim_alarm_set(time, &weather->scene, soon(weather, 10 * MS, 300 * MS));
                return sim_chance(time, 70);
        case 1:
                cut_off(weather, victim, true, true);
                sim_alarm_set(time, &weather->scene, soon(weather, 600 * MS, 3 * SECOND));
                return true;
        case 2:
                sim_network_heal(weather->network);
                return false;
        }
        return false;
}

static void on_scene(void *userdata) {
        SimWeather *weather = userdata;
        bool goes_on;

        if (weather->scene_kind == SIM_TROUBLE_LATE_SNAPSHOT)
                goes_on = late_snapshot(weather);
        else if (weather->scene_kind == SIM_TROUBLE_LEADER_DISK)
                goes_on = leader_disk(weather);
        else
                goes_on = swap_leaders(weather);
        if (!goes_on)
                sim_alarm_unset(weather->time, &weather->scene);
}

/* ---- the climate */

static void bring(SimWeather *weather, SimTrouble trouble) {
        switch (trouble) {
        case SIM_TROUBLE_CRASH:
                crash(weather, leader_or_any(weather), false);
                break;
        case SIM_TROUBLE_RESTART:
                crash(weather, leader_or_any(weather), true);
                break;
        case SIM_TROUBLE_CRASH_ALL:
                crash_all(weather);
                break;
        case SIM_TROUBLE_SPLIT:
                split(weather);
                break;
        case SIM_TROUBLE_DEAF:
                deafen(weather, leader_or_any(weather));
                break;
        case SIM_TROUBLE_ONE_WAY:
                cut_some_ways(weather);
                break;
        case SIM_TROUBLE_DISK_ERROR:
                fail_disk(weather, any_machine(weather), weather->rain_us);
                break;
        case SIM_TROUBLE_DISK_STALL:
                stall_disk(weather, leader_or_any(weather), weather->rain_us);
                break;
        case SIM_TROUBLE_HOLD:
                hold(weather, leader_or_any(weather));
                break;
        case SIM_TROUBLE_LEADER_DISK:
                begin_scene(weather, trouble, leader_or_any(weather));
                break;
        case SIM_TROUBLE_LATE_SNAPSHOT:
                begin_scene(weather, trouble, any_machine(weather));
                break;
        case SIM_TROUBLE_SWAP_LEADERS:
                begin_scene(weather, trouble, leader_or_any(weather));
                break;
        case SIM_TROUBLE_RENEW:
                renew(weather, any_machine(weather));
                break;
        case SIM_TROUBLE_COUNT:
                break;
        }
}

static void on_next(void *userdata) {
        SimWeather *weather = userdata;
        unsigned all = 0;

        for (unsigned i = 0; i < SIM_TROUBLE_COUNT; i++)
                all += weather->weight[i];
        unsigned drawn = sim_pick(weather->time, all), trouble = 0;
        while (trouble + 1 < SIM_TROUBLE_COUNT && drawn >= weather->weight[trouble])
                drawn -= weather->weight[trouble++];
        if (all > 0)
                bring(weather, (SimTrouble) trouble);
        sim_alarm_set(weather->time, &weather->next, soon(weather, MS, weather->pause_us));
}

static void draw_network(SimWeather *weather) {
        SimNetwork *network = weather->network;
        SimTime *time = weather->time;

        sim_network_calm(network);
        network->most_us = sim_chance(time, 70) ? 2 * MS : 50 * MS;
        network->in_order = sim_chance(time, 50);
        if (sim_chance(time, 50))
                network->loss_percent = sim_pick(time, 20);
        if (sim_chance(time, 50))
                network->twice_percent = sim_pick(time, 20);
        if (sim_chance(time, 40))
                network->late_percent = sim_pick(time, 5);
}

static void draw_machines(SimWeather *weather) {
        SimTime *time = weather->time;
        bool short_logs = sim_chance(time, 70);

        for (unsigned i = 0; i < weather->n_machines; i++) {
                SimMachine *machine = weather->machines + i;
                machine->trailing = short_logs ? sim_pick(time, 30) : 0;
                if (short_logs && machine->trailing == 0)
                        machine->trailing = UINT_MAX;
                if (sim_chance(time, 20))
                        machine->disk->most_us = 60 * MS;
        }
}

static void draw_crowd(SimWeather *weather) {
        SimCrowd *crowd = weather->crowd;
        SimTime *time = weather->time;

        crowd->think_us = sim_between(time, 40 * MS, 600 * MS);
        crowd->snapshot_us = sim_between(time, 100 * MS, 3 * SECOND);
        crowd->snapshot_entries = 8 + sim_pick(time, 100);
        crowd->change_us = sim_chance(time, 75) ? sim_between(time, 200 * MS, 4 * SECOND) : 0;
        crowd->n_voters_least = sim_chance(time, 30) ? 1 : 2 + sim_pick(time, 2);
        crowd->n_voters_most = 3 + sim_pick(time, 5);
        crowd->hands_over = sim_chance(time, 60);
}

void sim_weather_init(SimWeather *weather, SimNetwork *network, SimCrowd *crowd) {
        *weather = (SimWeather) {
                .time = crowd->time,
                .network = network,
                .judge = crowd->judge,
                .crowd = crowd,
                .machines = crowd->machines,
                .n_machines = crowd->n_machines,
                .next = { .ring = on_next, .userdata = weather },
                .heal = { .ring = on_heal, .userdata = weather },
                .scene = { .ring = on_scene, .userdata = weather },
        };
        for (unsigned i = 0; i < SIM_TROUBLE_COUNT; i++)
                weather->weight[i] = sim_chance(weather->time, 50) ? 1 + sim_pick(weather->time, 10) : 0;
        if (weather->weight[SIM_TROUBLE_CRASH_ALL] > 2)
                weather->weight[SIM_TROUBLE_CRASH_ALL] = 2;
        weather->pause_us = sim_between(weather->time, 300 * MS, 5 * SECOND);
        weather->rain_us = sim_between(weather->time, 500 * MS, 5 * SECOND);
        draw_network(weather);
        draw_machines(weather);
        draw_crowd(weather);
}

void sim_weather_start(SimWeather *weather) {
        sim_alarm_set(weather->time, &weather->next, 1 * SECOND);
}

void sim_weather_clear(SimWeather *weather) {
        sim_alarm_unset(weather->time, &weather->next);
        sim_alarm_unset(weather->time, &weather->heal);
        sim_alarm_unset(weather->time, &weather->scene);
}

void sim_weather_end(SimWeather *weather) {
        sim_say(weather->time, "all goes well from now on");
        sim_weather_clear(weather);
        sim_network_heal(weather->network);
        sim_network_calm(weather->network);
        for (unsigned i = 0; i < weather->n_machines; i++) {
                SimMachine *machine = weather->machines + i;
                SimDisk *disk = machine->disk;
                disk->error_until_us = disk->stalled_until_us = disk->unreadable_until_us = 0;
                disk->most_us = 3 * MS;
                if (machine->loop)
                        sim_loop_release(machine->loop);
                sim_machine_up(machine);
        }
}
