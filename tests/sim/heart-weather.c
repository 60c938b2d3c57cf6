/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What goes wrong, and when. Each world draws its climate: some kinds of trouble never come there, some often.
 *
 * What the service says aloud that it cannot cover (design, 5.10) does not come: on one host, without a watchdog, a
 * guard that is stopped and not dead, so that there is no next one, and within the same lease gpupoold, libvirt or the
 * whole host: then nobody is left who could end a VM. One that is killed has a successor, who goes on by the board:
 * that comes at any time, but where deaths alone take all the time that there is. */

#include <errno.h>
#include <signal.h>

#include "heart.h"

#define GUARD_TROUBLE_US (6 * SECOND)   /* after the guard's return: by then it has everything again */

const char *const heart_trouble_names[TROUBLE_COUNT] = {
        [TROUBLE_POWER] = "hosts without power",
        [TROUBLE_POWER_TWO] = "two hosts without power",
        [TROUBLE_POWER_ALL] = "all hosts without power",
        [TROUBLE_DAEMON_KILL] = "gpupoold killed",
        [TROUBLE_DAEMON_RESTART] = "gpupoold restarted",
        [TROUBLE_DAEMON_STOP] = "gpupoold stopped",
        [TROUBLE_GUARD_KILL] = "guard killed",
        [TROUBLE_GUARD_STOP] = "guard stopped",
        [TROUBLE_FREEZE] = "hosts frozen",
        [TROUBLE_PAUSE] = "hosts paused with their clocks",
        [TROUBLE_SPLIT] = "network split",
        [TROUBLE_DEAF] = "hosts cut off",
        [TROUBLE_ONE_WAY] = "cut one way",
        [TROUBLE_LEADER_CUT] = "leader cut off",
        [TROUBLE_DISK_ERROR] = "disks failed",
        [TROUBLE_DISK_FULL_ALL] = "all disks full",
        [TROUBLE_DISK_STALL] = "disks hung",
        [TROUBLE_DISK_STALL_ALL] = "all disks hung",
        [TROUBLE_DISK_LOST] = "disks lost",
        [TROUBLE_LIBVIRT_KILL] = "libvirt killed",
        [TROUBLE_LIBVIRT_HANG] = "libvirt hung",
        [TROUBLE_LIBVIRT_FAILS] = "libvirt fails",
        [TROUBLE_QEMU_DIES] = "qemu died",
        [TROUBLE_GUEST_OFF] = "guest powered off",
        [TROUBLE_GPU_LOST] = "GPUs lost",
        [TROUBLE_CLOCK_STEP] = "realtime stepped",
        [TROUBLE_ECHO] = "old words again",
};

static SimTime *time_of(const HeartWeather *weather) {
        return &weather->heart->time;
}

static uint64_t soon(const HeartWeather *weather, uint64_t least, uint64_t most) {
        return time_of(weather)->now_us + sim_between(time_of(weather), least, most);
}

static HeartHost *any_host(const HeartWeather *weather) {
        Heart *heart = weather->heart;
        return heart->hosts + sim_pick(time_of(weather), heart->n_hosts);
}

static HeartHost *leader_or_any(const HeartWeather *weather) {
        HeartHost *leader = sim_chance(time_of(weather), 40) ? heart_judge_leader(&weather->heart->judge) : NULL;
        return leader ? leader : any_host(weather);
}

static bool is_there(const HeartHost *host) {
        return host->exists && host->on && !host->removed;
}

/* May gpupoold or libvirt be troubled there? Not while the guard is, where no watchdog stands behind it. */
static bool may_trouble(const HeartHost *host) {
        uint64_t now = host->heart->time.now_us;
        return is_there(host) && (host->guard_trouble_until_us <= now || host->guard.is_armed);
}

/* May the guard be stopped? Not while one of those is that would end the VMs in its place. */
static bool may_stop_guard(const HeartHost *host) {
        uint64_t now = host->heart->time.now_us;
        if (!is_there(host) || !host->guard.loop)
                return false;
        if (host->guard.is_armed)
                return true;            /* the device would */
        return heart_host_has_daemon(host) && !heart_host_is_frozen(host) && host->libvirt.up &&
               host->libvirt.hung_until_us <= now && host->trouble_until_us <= now && host->start.place == 0;
}

/* May it be killed? Its successor is late by a restart, for which the time to kill has to have room. */
static bool may_kill_guard(const HeartHost *host) {
        return is_there(host) && host->guard.loop &&
               (host->heart->times.hold_us > 0 || !host->heart->weather.slow_deaths);
}

static void note_trouble(HeartHost *host, uint64_t until_us) {
        until_us += GUARD_TROUBLE_US;
        if (until_us > host->trouble_until_us)
                host->trouble_until_us = until_us;
}

static void note_guard_trouble(HeartHost *host, uint64_t until_us) {
        until_us += GUARD_TROUBLE_US;
        if (until_us > host->guard_trouble_until_us)
                host->guard_trouble_until_us = until_us;
}

/* ---- single troubles; each says whether it came */

static bool power(HeartWeather *weather, HeartHost *host) {
        if (!is_there(host))
                return false;
        heart_host_power_off(host, soon(weather, 2 * SECOND, 20 * SECOND));
        weather->heart->judge.visits.crashes++;
        return true;
}

static bool power_all(HeartWeather *weather) {
        for (unsigned i = 0; i < weather->heart->n_hosts; i++)
                (void) power(weather, weather->heart->hosts + i);
        return true;
}

static bool kill_daemon(HeartWeather *weather, HeartHost *host) {
        if (!may_trouble(host) || !host->manager)
                return false;
        uint64_t back_us = soon(weather, 50 * MS, sim_chance(time_of(weather), 80) ? 2 * SECOND : 15 * SECOND);
        heart_say(weather->heart, "%s: gpupoold is killed", host->name);
        heart_host_kill_daemon(host, back_us);
        note_trouble(host, back_us);
        return true;
}

static bool restart_daemon(HeartWeather *weather, HeartHost *host) {
        if (!may_trouble(host) || !heart_host_has_daemon(host))
                return false;
        heart_say(weather->heart, "%s: gpupoold is restarted", host->name);
        heart_host_stop_daemon(host);
        note_trouble(host, time_of(weather)->now_us + 3 * SECOND);
        return true;
}

static bool stop_daemon(HeartWeather *weather, HeartHost *host) {
        if (!may_trouble(host) || !host->loop)
                return false;
        uint64_t until_us = soon(weather, 100 * MS, weather->rain_us);
        heart_say(weather->heart, "%s: gpupoold is stopped for %.3f s", host->name,
                  (double) (until_us - time_of(weather)->now_us) / (double) SECOND);
        sim_loop_hold(host->loop, until_us);
        note_trouble(host, until_us);
        return true;
}

static bool kill_guard(HeartWeather *weather, HeartHost *host) {
        if (!may_kill_guard(host))
                return false;
        heart_say(weather->heart, "%s: the guard is killed", host->name);
        weather->heart->judge.visits.guard_deaths++;
        heart_guard_end(&host->guard);
        return true;
}

static bool stop_guard(HeartWeather *weather, HeartHost *host) {
        if (!may_stop_guard(host))
                return false;
        uint64_t until_us = soon(weather, 100 * MS, 6 * SECOND);
        heart_say(weather->heart, "%s: the guard is stopped for %.3f s", host->name,
                  (double) (until_us - time_of(weather)->now_us) / (double) SECOND);
        sim_loop_hold(host->guard.loop, until_us);
        note_guard_trouble(host, until_us);
        return true;
}

static bool freeze(HeartWeather *weather, HeartHost *host, bool with_clocks) {
        if (!may_trouble(host) || heart_host_is_frozen(host) || !host->guard.loop ||
            host->guard_trouble_until_us > time_of(weather)->now_us)
                return false;
        uint64_t until_us = soon(weather, 50 * MS, weather->rain_us);
        heart_say(weather->heart, "%s: the host stands still%s for %.3f s", host->name,
                  with_clocks ? " with its clocks" : "",
                  (double) (until_us - time_of(weather)->now_us) / (double) SECOND);
        heart_host_freeze(host, until_us, with_clocks);
        note_trouble(host, until_us);
        return true;
}

static void heal_later(HeartWeather *weather) {
        sim_alarm_set(time_of(weather), &weather->heal, soon(weather, 100 * MS, weather->rain_us));
}

static void on_heal(void *userdata) {
        HeartWeather *weather = userdata;
        heart_say(weather->heart, "the network is whole again");
        heart_network_heal(&weather->heart->network);
}

static bool split(HeartWeather *weather) {
        HeartNetwork *network = &weather->heart->network;
        unsigned sides = 1 + (unsigned) sim_random(time_of(weather));
        bool one_way = sim_chance(time_of(weather), 20);
        heart_say(weather->heart, "the network is split%s", one_way ? ", one way" : "");
        for (unsigned a = 0; a < HEART_HOSTS_MAX; a++)
                for (unsigned b = 0; b < HEART_HOSTS_MAX; b++)
                        if ((sides >> a & 1) != (sides >> b & 1) && (!one_way || (sides >> a & 1)))
                                heart_network_cut(network, a, b);
        heal_later(weather);
        return true;
}

static bool deafen(HeartWeather *weather, const HeartHost *host) {
        HeartNetwork *network = &weather->heart->network;
        unsigned how = sim_pick(time_of(weather), 4);
        heart_say(weather->heart, "%s: %s", host->name, how == 1 ? "hears nobody" : how == 2 ? "is heard by nobody"
                                                                                   : "is cut off");
        for (unsigned i = 0; i < HEART_HOSTS_MAX; i++) {
                if (how != 2)
                        heart_network_cut(network, i, host->number);
                if (how != 1)
                        heart_network_cut(network, host->number, i);
        }
        heal_later(weather);
        return true;
}

static bool cut_some_ways(HeartWeather *weather) {
        HeartNetwork *network = &weather->heart->network;
        heart_say(weather->heart, "some ways are cut");
        for (unsigned a = 0; a < weather->heart->n_hosts; a++)
                for (unsigned b = 0; b < weather->heart->n_hosts; b++)
                        if (sim_chance(time_of(weather), 20))
                                heart_network_cut(network, a, b);
        heal_later(weather);
        return true;
}

static void fail_disk(HeartWeather *weather, HeartHost *host, int error, uint64_t until_us) {
        host->disk->error = error;
        host->disk->error_until_us = until_us;
        host->disk->small_ones_find_room = sim_chance(time_of(weather), 70);
        heart_say(weather->heart, "%s: its disk fails", host->name);
}

static bool fill_all_disks(HeartWeather *weather) {
        uint64_t until_us = soon(weather, SECOND, weather->rain_us * 2);
        for (unsigned i = 0; i < weather->heart->n_hosts; i++)
                fail_disk(weather, weather->heart->hosts + i, -ENOSPC, until_us);
        return true;
}

static bool stall_disk(HeartWeather *weather, HeartHost *host) {
        heart_say(weather->heart, "%s: its disk hangs", host->name);
        host->disk->stalled_until_us = soon(weather, 100 * MS, sim_chance(time_of(weather), 70) ? weather->rain_us
                                                                                                 : 30 * SECOND);
        return true;
}

/* Once in a world, where enough others are there. */
static bool lose_disk(HeartWeather *weather, HeartHost *host) {
        unsigned n = 0;
        for (unsigned i = 0; i < weather->heart->n_hosts; i++) {
                const HeartHost *other = weather->heart->hosts + i;
                n += is_there(other) && !other->ruined &&
                     registry_find_node(weather->heart->judge.truth, &other->id);
                if (weather->heart->hosts[i].ruined)
                        return false;
        }
        if (!is_there(host) || n < 4 || host->witness || weather->heart->admin.open > 0)
                return false;
        heart_say(weather->heart, "%s: its disk is lost, and the host with it", host->name);
        heart_host_power_off(host, UINT64_MAX);
        host->ruined = true;
        return true;
}

static bool kill_libvirt(HeartWeather *weather, HeartHost *host) {
        if (!may_trouble(host) || !host->libvirt.up || host->guard_trouble_until_us > time_of(weather)->now_us)
                return false;
        heart_say(weather->heart, "%s: libvirt is killed", host->name);
        heart_libvirt_end(&host->libvirt, false);
        note_trouble(host, time_of(weather)->now_us + 5 * SECOND);
        return true;
}

static bool hang_libvirt(HeartWeather *weather, HeartHost *host) {
        if (!may_trouble(host) || host->guard_trouble_until_us > time_of(weather)->now_us)
                return false;
        uint64_t most_us = sim_chance(time_of(weather), 60) ? 3 * SECOND : 40 * SECOND;
        host->libvirt.hung_until_us = soon(weather, 500 * MS, most_us);
        heart_say(weather->heart, "%s: libvirt hangs", host->name);
        note_trouble(host, host->libvirt.hung_until_us);
        return true;
}

static bool fail_libvirt(HeartWeather *weather, HeartHost *host) {
        SimTime *time = time_of(weather);
        host->libvirt.fail_percent = host->libvirt.fail_percent > 0 ? 0 : 20 + sim_pick(time, 60);
        host->libvirt.start_most_us = sim_chance(time, 30) ? 20 * SECOND : weather->heart->start_most_us;
        return true;
}

static Qemu *any_qemu(HeartWeather *weather) {
        HeartHost *host = any_host(weather);
        Qemu *found = NULL;
        unsigned n = 0;
        for (Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                if (!qemu->gone && sim_pick(time_of(weather), ++n) == 0)
                        found = qemu;
        return found;
}

static bool end_qemu(HeartWeather *weather, bool guest) {
        Qemu *qemu = any_qemu(weather);
        if (!qemu)
                return false;
        heart_say(weather->heart, "%s: %s of %s", qemu->host->name, guest ? "the guest powers off" : "qemu dies",
                  heart_judge_vm(&weather->heart->judge, &qemu->vm)->name);
        if (guest)
                qemu_end_soon(qemu, true, sim_between(time_of(weather), MS, SECOND));
        else
                qemu_kill(qemu);
        return true;
}

static bool lose_gpu(HeartWeather *weather, HeartHost *host) {
        if (!is_there(host) || host->n_gpus == 0 || host->witness)
                return false;
        unsigned gpu = sim_pick(time_of(weather), host->n_gpus);
        host->gpu_lost[gpu] = !host->gpu_lost[gpu];
        heart_say(weather->heart, "%s: GPU %u %s", host->name, gpu, host->gpu_lost[gpu] ? "is lost" : "is back");
        heart_facts_changed(host);
        return true;
}

static bool step_clock(HeartWeather *weather, HeartHost *host) {
        host->realtime_us = (int64_t) sim_between(time_of(weather), 0, 7200 * SECOND) - (int64_t) (3600 * SECOND);
        return true;
}

static bool stall_all_disks(HeartWeather *weather) {
        uint64_t until_us = soon(weather, SECOND, 6 * SECOND);
        heart_say(weather->heart, "all disks hang");
        for (unsigned i = 0; i < weather->heart->n_hosts; i++)
                weather->heart->hosts[i].disk->stalled_until_us = until_us;
        return true;
}

/* ---- the climate */

static bool bring(HeartWeather *weather, HeartTrouble trouble) {
        HeartHost *host = leader_or_any(weather);
        int error;
        switch (trouble) {
        case TROUBLE_POWER:
                return power(weather, host);
        case TROUBLE_POWER_TWO:
                return power(weather, host) && power(weather, any_host(weather));
        case TROUBLE_POWER_ALL:
                return power_all(weather);
        case TROUBLE_DAEMON_KILL:
                return kill_daemon(weather, host);
        case TROUBLE_DAEMON_RESTART:
                return restart_daemon(weather, host);
        case TROUBLE_DAEMON_STOP:
                return stop_daemon(weather, host);
        case TROUBLE_GUARD_KILL:
                return kill_guard(weather, host);
        case TROUBLE_GUARD_STOP:
                return stop_guard(weather, host);
        case TROUBLE_FREEZE:
                return freeze(weather, host, false);
        case TROUBLE_PAUSE:
                return freeze(weather, host, true);
        case TROUBLE_SPLIT:
                return split(weather);
        case TROUBLE_DEAF:
                return deafen(weather, any_host(weather));
        case TROUBLE_ONE_WAY:
                return cut_some_ways(weather);
        case TROUBLE_LEADER_CUT:
                host = heart_judge_leader(&weather->heart->judge);
                return host && deafen(weather, host);
        case TROUBLE_DISK_ERROR:
                /* One draw after the other: in which order arguments are looked at is the compiler's. */
                error = sim_chance(time_of(weather), 50) ? -ENOSPC : -EIO;
                fail_disk(weather, host, error, soon(weather, 100 * MS, weather->rain_us));
                return true;
        case TROUBLE_DISK_FULL_ALL:
                return fill_all_disks(weather);
        case TROUBLE_DISK_STALL:
                return stall_disk(weather, host);
        case TROUBLE_DISK_STALL_ALL:
                return stall_all_disks(weather);
        case TROUBLE_DISK_LOST:
                return lose_disk(weather, any_host(weather));
        case TROUBLE_LIBVIRT_KILL:
                return kill_libvirt(weather, any_host(weather));
        case TROUBLE_LIBVIRT_HANG:
                return hang_libvirt(weather, any_host(weather));
        case TROUBLE_LIBVIRT_FAILS:
                return fail_libvirt(weather, any_host(weather));
        case TROUBLE_QEMU_DIES:
                return end_qemu(weather, false);
        case TROUBLE_GUEST_OFF:
                return end_qemu(weather, true);
        case TROUBLE_GPU_LOST:
                return lose_gpu(weather, any_host(weather));
        case TROUBLE_CLOCK_STEP:
                return step_clock(weather, host);
        case TROUBLE_ECHO:
                return heart_echo_again(weather->heart);
        case TROUBLE_COUNT:
                break;
        }
        return false;
}

static void on_next(void *userdata) {
        HeartWeather *weather = userdata;
        SimTime *time = time_of(weather);
        unsigned all = 0;
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                all += weather->weight[i];
        unsigned drawn = sim_pick(time, all), trouble = 0;
        while (trouble + 1 < TROUBLE_COUNT && drawn >= weather->weight[trouble])
                drawn -= weather->weight[trouble++];
        if (all > 0)
                weather->count[trouble] += bring(weather, (HeartTrouble) trouble);
        sim_alarm_set(time, &weather->next, soon(weather, 20 * MS, weather->pause_us));
}

static void draw_network(HeartWeather *weather) {
        HeartNetwork *network = &weather->heart->network;
        SimTime *time = time_of(weather);
        heart_network_calm(network);
        network->most_us = weather->network_most_us;
        if (weather->lossy) {
                network->loss_per_mille = sim_pick(time, 40);
                network->twice_per_mille = sim_pick(time, 40);
                network->swap_per_mille = sim_pick(time, 40);
        }
}

void heart_weather_init(HeartWeather *weather, Heart *heart) {
        SimTime *time = &heart->time;
        *weather = (HeartWeather) {
                .heart = heart,
                .next = { .ring = on_next, .userdata = weather },
                .heal = { .ring = on_heal, .userdata = weather },
                .is_sunny = true,
        };
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                weather->weight[i] = sim_chance(time, 55) ? 1 + sim_pick(time, 10) : 0;
        if (weather->weight[TROUBLE_POWER_ALL] > 1)
                weather->weight[TROUBLE_POWER_ALL] = 1;
        weather->pause_us = sim_between(time, 300 * MS, 5 * SECOND);
        weather->rain_us = sim_between(time, 2 * SECOND, 14 * SECOND);
        weather->slow_deaths = sim_chance(time, 50);
        weather->stubborn_percent = sim_chance(time, 40) ? 5 + sim_pick(time, 30) : 0;
        weather->network_most_us = sim_chance(time, 70) ? 2 * MS : 40 * MS;
        weather->lossy = sim_chance(time, 25);
}

void heart_weather_start(HeartWeather *weather) {
        heart_say(weather->heart, "-- bad weather");
        weather->is_sunny = false;
        draw_network(weather);
        sim_alarm_set(time_of(weather), &weather->next, soon(weather, MS, SECOND));
}

void heart_weather_clear(HeartWeather *weather) {
        sim_alarm_unset(time_of(weather), &weather->next);
        sim_alarm_unset(time_of(weather), &weather->heal);
}

void heart_weather_end(HeartWeather *weather) {
        Heart *heart = weather->heart;
        SimTime *time = time_of(weather);
        heart_say(heart, "-- all goes well from now on");
        weather->is_sunny = true;
        heart_weather_clear(weather);
        heart_network_heal(&heart->network);
        heart_network_calm(&heart->network);
        for (unsigned i = 0; i < heart->n_hosts; i++) {
                HeartHost *host = heart->hosts + i;
                sim_disk_mend(host->disk);
                host->libvirt.hung_until_us = 0;
                host->libvirt.fail_percent = 0;
                host->libvirt.start_most_us = heart->start_most_us;
                for (unsigned gpu = 0; gpu < host->n_gpus; gpu++)
                        host->gpu_lost[gpu] = false;
                heart_facts_changed(host);
                if (host->loop && !heart_host_is_frozen(host))
                        sim_loop_release(host->loop);
                if (host->guard.loop && !heart_host_is_frozen(host))
                        sim_loop_release(host->guard.loop);
                if (host->exists && !host->on && !host->ruined && !host->removed && host->boot.place == 0)
                        sim_alarm_set(time, &host->boot, soon(weather, MS, SECOND));
        }
}
