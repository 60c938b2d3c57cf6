/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A host: power, clocks, and the processes on it. */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "heart.h"

#define RESTART_LEAST_US (100 * MS)     /* systemd starts gpupoold again */
#define RESTART_MOST_US (1500 * MS)
#define SERVICES_MOST_US (1 * SECOND)   /* after a boot, until gpupoold is started */
#define NOTICE_US (60 * MS)             /* design, 5.10: a host that goes on may run so long before its guard does */

static SimTime *time_of(const HeartHost *host) {
        return &host->heart->time;
}

HeartHost *heart_host_current(void) {
        sd_event *loop = sim_loop_current();
        return loop ? sim_loop_userdata(loop) : NULL;
}

HeartHost *heart_host_by_id(Heart *heart, const NodeId *id) {
        for (unsigned i = 0; i < heart->n_hosts; i++)
                if (ID_EQUAL(&heart->hosts[i].id, id))
                        return heart->hosts + i;
        return NULL;
}

uint64_t heart_host_clock(const HeartHost *host) {
        return sim_loop_clock(host->loop);
}

bool heart_host_is_frozen(const HeartHost *host) {
        return host->frozen_until_us > host->heart->time.now_us;
}

bool heart_host_has_daemon(const HeartHost *host) {
        return host->manager && !host->is_dying && sim_loop_free_at(host->loop) <= host->heart->time.now_us;
}

/* ---- gpupoold */

static void take_apart(HeartHost *host) {
        SimTurn turn = sim_loop_begin(host->loop);
        host->is_dying = true;
        host->manager = manager_free(host->manager);
        sim_loop_end(turn);
        sim_fd_close_all_of(host->loop);
        host->loop = sd_event_unref(host->loop);
        host->is_dying = false;
        sim_alarm_unset(time_of(host), &host->end);
        heart_admin_daemon_gone(&host->heart->admin, host);
}

void heart_host_kill_daemon(HeartHost *host, uint64_t back_us) {
        if (host->manager) {
                sim_disk_cut(host->disk);
                heart_network_lost(&host->heart->network, host);
                take_apart(host);
        }
        if (back_us < UINT64_MAX)
                sim_alarm_set(time_of(host), &host->start, back_us);
        else
                sim_alarm_unset(time_of(host), &host->start);
}

void heart_host_stop_daemon(HeartHost *host) {
        if (host->manager)
                sim_loop_signal(host->loop, SIGTERM);
}

static void on_left(void *userdata, int code) {
        HeartHost *host = userdata;
        if (code < 0 && !host->removed)
                sim_broken(time_of(host), "%s: gpupoold ended with %d", host->name, code);
        sim_alarm_set(time_of(host), &host->end, time_of(host)->now_us);
}

static void on_end(void *userdata) {
        HeartHost *host = userdata;
        SimTime *time = time_of(host);
        if (!host->manager)
                return;
        heart_say(host->heart, "%s: gpupoold has ended", host->name);
        take_apart(host);
        if (!host->removed)
                sim_alarm_set(time, &host->start, time->now_us + sim_between(time, RESTART_LEAST_US, RESTART_MOST_US));
}

static void fill_conf(HeartHost *host) {
        Conf *conf = &host->conf;
        g_autofree char *sentence = NULL;
        if (conf->node_name)
                return;
        g_assert_cmpint(conf_load("/nonexistent/gpupoold.conf", false, conf, &sentence), >=, 0);
        g_assert_cmpint(text_set(&conf->node_name, host->name), >=, 0);
        g_assert_cmpint(text_set(&conf->state_directory, host->directory), >=, 0);
        conf->witness = host->witness;
        conf->snapshot_entries = 200;
        conf->call_timeout_us = host->heart->call_timeout_us;
        conf->lease_times = host->heart->times;
        conf->lease_times.watchdog_us = 0;
        conf->lease_fast = host->heart->options.fast;
}

void heart_host_start_daemon(HeartHost *host) {
        g_autofree char *sentence = NULL;
        SimTime *time = time_of(host);
        if (!host->on || host->manager)
                return;
        fill_conf(host);
        host->lives++;
        host->loop = sim_loop_new(time, host->clock_begins_us, host->drift_ppm);
        sim_loop_set_userdata(host->loop, host, on_left);
        sim_loop_may_be_stale(host->loop);
        if (heart_host_is_frozen(host))
                sim_loop_hold(host->loop, host->frozen_until_us);
        heart_say(host->heart, "%s: gpupoold starts", host->name);
        sim_loop_offer(host->loop);
        SimTurn turn = sim_loop_begin(host->loop);
        int r = manager_new(&host->manager, &host->conf, &sentence);
        sim_loop_end(turn);
        if (r != MANAGER_READY)
                sim_broken(time, "%s: gpupoold does not start: %d %s", host->name, r, sentence ? sentence : "");
}

static void on_start(void *userdata) {
        HeartHost *host = userdata;
        if (heart_host_is_frozen(host))
                sim_alarm_set(time_of(host), &host->start, host->frozen_until_us + MS);
        else
                heart_host_start_daemon(host);
}

const World *heart_host_world(const HeartHost *host) {
        void *userdata;
        if (!host->bus || !heart_host_has_daemon(host))
                return NULL;
        const Service *service = heart_bus_service(host->bus, &userdata);
        SimTurn turn = sim_loop_begin(host->loop);
        const World *world = service->world(userdata);
        sim_loop_end(turn);
        return world;
}

int heart_host_submit(HeartHost *host, Entry *entry, SubmitCallback callback, void *userdata) {
        void *manager;
        const Service *service = heart_bus_service(host->bus, &manager);
        SimTurn turn = sim_loop_begin(host->loop);
        int r = service->submit(manager, entry, callback, userdata);
        sim_loop_end(turn);
        return r;
}

/* ---- power */

static void look_at_all(HeartHost *host) {
        for (Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                if (!qemu->gone)
                        qemu_look(qemu);
}

void heart_host_power_on(HeartHost *host) {
        SimTime *time = time_of(host);
        if (host->on)
                return;
        host->on = true;
        host->boots++;
        host->heart->judge.visits.boots++;
        sim_alarm_unset(time, &host->boot);
        g_snprintf(host->boot_id, sizeof(host->boot_id), "%08x-0000-4000-8000-%012x", host->number + 1, host->boots);
        /* The clock begins anew: a second has passed since the kernel was started. */
        host->clock_begins_us = SECOND - time->now_us -
                                (uint64_t) ((int64_t) (time->now_us / SECOND) * host->drift_ppm +
                                            (int64_t) (time->now_us % SECOND) * host->drift_ppm / 1000000);
        heart_say(host->heart, "%s: powers up", host->name);
        heart_guard_start(&host->guard);
        heart_libvirt_start(&host->libvirt);
        sim_alarm_set(time, &host->start, time->now_us + sim_between(time, MS, SERVICES_MOST_US));
}

static void on_boot(void *userdata) {
        heart_host_power_on(userdata);
}

void heart_host_power_off(HeartHost *host, uint64_t back_us) {
        SimTime *time = time_of(host);
        if (host->on) {
                heart_say(host->heart, "%s: its power is gone", host->name);
                host->on = false;
                heart_host_kill_daemon(host, UINT64_MAX);
                for (Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                        if (!qemu->gone)
                                qemu_vanish(qemu);
                heart_guard_end(&host->guard);
                heart_libvirt_end(&host->libvirt, true);
                heart_bind_end(host);
                host->frozen_until_us = host->blind_until_us = 0;
                sim_alarm_unset(time, &host->thaw);
        }
        if (back_us < UINT64_MAX)
                sim_alarm_set(time, &host->boot, back_us);
        else
                sim_alarm_unset(time, &host->boot);
}

static void on_thaw(void *userdata) {
        HeartHost *host = userdata;
        if (heart_host_is_frozen(host)) {
                sim_alarm_set(time_of(host), &host->thaw, host->frozen_until_us);
                return;
        }
        host->thawed_us = time_of(host)->now_us;
        heart_say(host->heart, "%s: goes on", host->name);
        look_at_all(host);
}

/* With its clocks: they stood still as well, which only a hypervisor below it can do. */
static void lose_time(HeartHost *host, uint64_t us) {
        SimTime *time = time_of(host);
        const LeaseTimes *times = &host->heart->times;
        host->clock_begins_us -= us;
        if (host->loop)
                sim_loop_lose_time(host->loop, us);
        if (host->guard.loop)
                sim_loop_lose_time(host->guard.loop, us);
        if (host->guard.bite.place > 0)
                sim_alarm_set(time, &host->guard.bite, host->guard.bite.at_us + us);
        host->blind_until_us = time->now_us + us + times->lease_us + times->kill_us + NOTICE_US;
}

void heart_host_freeze(HeartHost *host, uint64_t until_us, bool with_clocks) {
        SimTime *time = time_of(host);
        if (!host->on || until_us <= time->now_us || until_us <= host->frozen_until_us)
                return;
        if (with_clocks)
                lose_time(host, until_us - time->now_us);
        host->frozen_until_us = until_us;
        if (host->loop)
                sim_loop_hold(host->loop, until_us);
        heart_guard_freeze(&host->guard, until_us);
        sim_alarm_set(time, &host->thaw, until_us);
        look_at_all(host);
}

/* ---- birth and death */

static void on_queued(void *userdata, const LogWrite *write) {
        heart_judge_queued(&((HeartHost *) userdata)->heart->judge, write);
}

static void on_durable(void *userdata, const LogFileVote *before, const LogWrite *write) {
}

static void on_failed(void *userdata, const LogWrite *write, int error) {
}

void heart_host_init(HeartHost *host, Heart *heart, unsigned number) {
        g_autofree char *path = NULL;
        *host = (HeartHost) {
                .heart = heart, .number = number, .boot = { .ring = on_boot, .userdata = host },
                .thaw = { .ring = on_thaw, .userdata = host }, .start = { .ring = on_start, .userdata = host },
                .end = { .ring = on_end, .userdata = host },
        };
        host->guard.host = host->libvirt.host = host;
        host->libvirt.start_most_us = heart->start_most_us;
        g_snprintf(host->name, sizeof(host->name), "%c", 'a' + number);
        g_snprintf(host->directory, sizeof(host->directory), "/sim/%s", host->name);
        path = g_strdup_printf("%s/registry.db", host->directory);
        /* Its first eight bytes are the engine's number of it. */
        host->id.bytes[0] = (uint8_t) (number + 1);
        host->id.bytes[7] = host->id.bytes[15] = (uint8_t) (number + 1);
        memset(host->key, (int) (0x40 + number), sizeof(host->key));
        SimDiskWatch watch = { on_queued, on_durable, on_failed, host };
        host->disk = sim_disk_new(&heart->time, path, &watch);
        unsigned kind = sim_pick(&heart->time, 5) / 2;
        int most = (int) heart->times.drift_ppm;
        host->drift_ppm = kind == 0 ? most : -most;
        if (kind > 1)
                host->drift_ppm += (int) sim_pick(&heart->time, (unsigned) most * 2);
        host->n_gpus = heart->options.gpus;
        host->fence_works = true;
}

void heart_host_begin(HeartHost *host, bool admitted) {
        host->exists = true;
        if (!admitted)
                return;
        host->has_id = true;
        host->peers = g_new0(PeersFile, 1);
        host->peers->joining = true;
        host->peers->cluster = host->heart->judge.truth->cluster;
        g_assert_cmpint(text_set(&host->peers->cluster_name, "sim"), >=, 0);
        ARRAY_EACH(node, &host->heart->judge.truth->nodes) {
                KnownPeer peer = { .node = node->id, .member = true };
                memcpy(peer.key, node->key, PEER_KEY_SIZE);
                g_assert_cmpint(text_set(&peer.name, node->name), >=, 0);
                g_assert_cmpint(text_list_copy(&node->addresses, &peer.addresses), >=, 0);
                g_assert_cmpint(array_append(&host->peers->peers, &peer), >=, 0);
        }
}

void heart_host_clear(HeartHost *host) {
        if (!host->heart)
                return;
        host->heart->admin.is_calm = true;
        heart_host_power_off(host, UINT64_MAX);
        heart_libvirt_clear(&host->libvirt);
        heart_bind_end(host);
        qemu_free_all(host);
        heart_files_clear(host);
        conf_clear(&host->conf);
        host->disk = sim_disk_free(host->disk);
}
