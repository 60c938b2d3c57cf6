/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The course of a world: it is founded; then, again and again, bad weather, all is mended (P5), and one host fails
 * while nothing else is wrong (P4). */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "heart.h"

#define LOOK_US (100 * MS)
#define FOUND_US (90 * SECOND)
#define STORM_LEAST_US (8 * SECOND)
#define STORM_MOST_US (45 * SECOND)
/* After the last trouble: a VM that failed five times waits for a minute, a long lease for its freeze, a call of
 * libvirt for its deadline. */
#define MEND_US (400 * SECOND)
#define START_MOST_US (1 * SECOND)
/* A failure is measured when nothing has happened for so long. */
#define QUIET_US (3 * SECOND)

Heart *heart_alive;
bool mutants[MUTANT_COUNT];

static void begin_scene(Heart *heart, enum HeartScene kind, uint64_t us) {
        heart->scene_kind = kind;
        heart->scene_until_us = heart->time.now_us + us;
}

static void begin_storm(Heart *heart) {
        heart_admin_calm(&heart->admin, false);
        heart_weather_start(&heart->weather);
        begin_scene(heart, SCENE_STORM, sim_between(&heart->time, STORM_LEAST_US, STORM_MOST_US));
}

static void mend(Heart *heart) {
        heart_weather_end(&heart->weather);
        heart_admin_calm(&heart->admin, true);
        begin_scene(heart, SCENE_MEND, MEND_US);
}

/* Somebody is not back yet. */
static bool is_anybody_away(const Heart *heart) {
        for (unsigned i = 0; i < heart->n_hosts; i++) {
                const HeartHost *host = heart->hosts + i;
                if (host->exists && !host->ruined && !host->removed && (!host->on || !heart_host_has_daemon(host)))
                        return true;
        }
        return false;
}

static void look_at_mending(Heart *heart) {
        bool open = heart_admin_tidy(&heart->admin) || is_anybody_away(heart);
        g_autofree char *missing = open ? g_strdup("P5: something is still open") : heart_judge_missing(&heart->judge);
        bool over = heart->time.now_us >= heart->scene_until_us;
        if (missing && over)
                sim_broken(&heart->time, "%s, %u s after all was mended", missing, (unsigned) (MEND_US / SECOND));
        if (missing) {
                heart->quiet_since_us = heart->time.now_us;
                return;
        }
        if (heart->time.now_us < heart->quiet_since_us + QUIET_US)
                return;
        heart_judge_end(&heart->judge);
        heart->n_mended++;
        heart_failure_begin(heart);
        if (heart->victim)
                begin_scene(heart, SCENE_FAILURE, UINT64_MAX / 4);
        else
                begin_storm(heart);
}

static void on_scene(void *userdata) {
        Heart *heart = userdata;
        bool over = heart->time.now_us >= heart->scene_until_us;
        sim_alarm_set(&heart->time, &heart->scene, heart->time.now_us + LOOK_US);
        switch (heart->scene_kind) {
        case SCENE_FOUND:
                if (heart->founded)
                        mend(heart);
                else if (over)
                        sim_broken(&heart->time, "P5: after %u s the cluster has not come about",
                                   (unsigned) (FOUND_US / SECOND));
                break;
        case SCENE_STORM:
                if (over)
                        mend(heart);
                break;
        case SCENE_MEND:
                look_at_mending(heart);
                break;
        case SCENE_FAILURE:
                if (!heart_failure_look(heart))
                        break;
                heart_failure_end(heart);
                begin_storm(heart);
                break;
        }
}

/* ---- birth and death */

/* What is given takes nothing of the seed, so that a world told with all its sizes is the same again. */
static void draw_options(Heart *heart) {
        HeartOptions *options = &heart->options;
        SimTime *time = &heart->time;
        unsigned nodes = 3 + sim_pick(time, 4), gpus = 1 + sim_pick(time, 4);
        bool fast = sim_chance(time, 25);
        unsigned vms = (unsigned) sim_random(time);
        if (options->nodes == 0)
                options->nodes = nodes;
        if (options->gpus == 0)
                options->gpus = gpus;
        if (options->vms == 0)
                options->vms = 1 + vms % (options->nodes * options->gpus);
        if (!options->fast_is_set)
                options->fast = fast;
}

static void draw_times(Heart *heart) {
        heart->times = heart->options.fast ? lease_times_fast : lease_times_default;
        if (sim_chance(&heart->time, 40))
                heart->times.hold_us = sim_between(&heart->time, SECOND, 30 * SECOND);
}

static void draw_vms(Heart *heart) {
        heart->judge.n_vms = heart->options.vms;
        for (unsigned i = 0; i < heart->judge.n_vms; i++) {
                HeartVm *vm = heart->judge.vms + i;
                vm->id.bytes[0] = 0x11;
                vm->id.bytes[15] = (uint8_t) (i + 1);
                vm->count = 1 + sim_pick(&heart->time, sim_chance(&heart->time, 75) ? 1 : heart->options.gpus);
                g_snprintf(vm->name, sizeof(vm->name), "vm%u", i + 1);
        }
}

Heart *heart_new(const HeartOptions *options) {
        Heart *heart = g_new0(Heart, 1);
        g_assert_null(heart_alive);
        heart_alive = heart;
        heart->options = *options;
        sim_time_init(&heart->time, options->seed, options->told);
        memset(mutants, 0, sizeof(mutants));
        if (options->mutant >= 0)
                mutants[options->mutant] = true;
        sim_loop_set_ready(sim_fd_is_ready);
        draw_options(heart);
        draw_times(heart);
        heart->start_most_us = START_MOST_US;
        heart->call_timeout_us = 20 * SECOND;
        if (!sim_chance(&heart->time, 50))
                heart->call_timeout_us = sim_between(&heart->time, SECOND, 3 * SECOND);
        heart_judge_init(&heart->judge, heart);
        heart_network_init(&heart->network, heart);
        heart_admin_init(&heart->admin, heart);
        heart_weather_init(&heart->weather, heart);
        draw_vms(heart);
        heart->n_hosts = heart->n_founders = heart->options.nodes;
        bool watched = sim_chance(&heart->time, 30), witness = heart->n_hosts >= 3 && sim_chance(&heart->time, 20);
        for (unsigned i = 0; i < heart->n_hosts; i++) {
                heart_host_init(heart->hosts + i, heart, i);
                heart->hosts[i].guard.watchdog_us = watched && sim_chance(&heart->time, 70) ? 2500 * MS : 0;
        }
        heart->hosts[heart->n_hosts - 1].witness = witness;
        heart->scene = (SimAlarm) { .ring = on_scene, .userdata = heart };
        heart_failure_init(heart);
        return heart;
}

Heart *heart_free(Heart *heart) {
        if (!heart)
                return NULL;
        heart_weather_clear(&heart->weather);
        for (unsigned i = 0; i < heart->n_hosts; i++)
                heart_host_clear(heart->hosts + i);
        heart_admin_clear(&heart->admin);
        heart_network_clear(&heart->network);
        heart_judge_clear(&heart->judge);
        sim_time_clear(&heart->time);
        sim_fd_forget_all();
        heart_alive = NULL;
        g_free(heart);
        return NULL;
}

void heart_run(Heart *heart) {
        heart_host_begin(heart->hosts, false);
        heart_host_power_on(heart->hosts);
        heart_admin_start(&heart->admin);
        begin_scene(heart, SCENE_FOUND, FOUND_US);
        sim_alarm_set(&heart->time, &heart->scene, LOOK_US);
        while (!heart->time.broken && heart->n_steps < heart->options.steps &&
               sim_time_step(&heart->time, UINT64_MAX / 4)) {
                heart->n_steps++;
                heart_judge_look(&heart->judge);
        }
}
