/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One host fails while nothing else is wrong: what P4 is about. In several ways, each of which is the very moment for
 * which some rule is there; bad weather meets such moments too, and not often. */

#include <errno.h>
#include <string.h>

#include "heart.h"

/* A host that comes back has connections again, and an answer to its first request, within this. */
static const uint64_t heart_failure_heard_us = 2200 * MS;

/* P4 by the times in force: 10 s by default. A leader that dies costs an election more, and its successor waits anew;
 * the rest is for the entry, the place and the start. */
static uint64_t failover_bound_us(const Heart *heart, const HeartHost *victim) {
        uint64_t watchdog_us = victim->guard.watchdog_us;
        for (unsigned i = 0; i < heart->n_hosts; i++)
                if (heart->hosts[i].guard.watchdog_us > watchdog_us)
                        watchdog_us = heart->hosts[i].guard.watchdog_us;
        return (heart->options.fast ? 6 : 10) * SECOND + watchdog_us;
}

/* By the leader's word all that vote are there, and enough of them without this one. */
static bool has_majority_without(Heart *heart, const HeartHost *victim) {
        ClusterStatus status = {};
        unsigned n = 0;
        if (!heart_judge_status(&heart->judge, &status))
                return false;
        for (size_t i = 0; i < status.n_voters; i++) {
                const HeartHost *host = heart_host_by_id(heart, status.voters + i);
                if (!host || !host->on || host->ruined || host->removed)
                        return false;
                n += host != victim;
        }
        return n * 2 > status.n_voters;
}

static void stall_disks(Heart *heart, uint64_t us) {
        heart_say(heart, "all disks hang for %.3f s", (double) us / (double) SECOND);
        for (unsigned i = 0; i < heart->n_hosts; i++)
                heart->hosts[i].disk->stalled_until_us = heart->time.now_us + us;
}

/* The second act. */
static void on_stop(void *userdata) {
        Heart *heart = userdata;
        HeartHost *host = heart->victim;
        uint64_t until_us = heart->time.now_us + 60 * SECOND;
        if (!host || !host->on || !host->loop || !host->guard.loop)
                return;
        if (heart->failure == FAILURE_BLINK) {
                stall_disks(heart, heart->call_timeout_us < 4 * SECOND ? heart->call_timeout_us + SECOND : 2500 * MS);
                for (unsigned i = 0; i < heart->n_hosts; i++) {
                        heart->hosts[i].disk->error = -ENOSPC;
                        heart->hosts[i].disk->error_until_us = heart->hosts[i].disk->stalled_until_us + 4 * SECOND;
                        heart->hosts[i].disk->small_ones_find_room = true;
                }
                heart_network_heal(&heart->network);
        } else if (heart->failure == FAILURE_UNHEARD) {
                heart_network_cut_off(&heart->network, host->number);
        } else if (heart->failure == FAILURE_ANEW) {
                heart_say(heart, "%s: gpupoold is killed", host->name);
                heart_host_kill_daemon(host, heart->time.now_us + sim_between(&heart->time, 50 * MS, 300 * MS));
        } else if (heart->failure == FAILURE_THAWED) {
                heart_say(heart, "%s: is cut off, and the cluster is thawed", host->name);
                heart_network_cut_off(&heart->network, host->number);
                heart_admin_freeze(&heart->admin, 0);
        } else if (heart->failure == FAILURE_UNGUARDED) {
                heart_say(heart, "%s: gpupoold is stopped, too", host->name);
                sim_loop_hold(host->loop, sim_loop_free_at(host->guard.loop));
                heart_network_cut_off(&heart->network, host->number);
        } else {
                heart_say(heart, "%s: gpupoold and the guard are stopped", host->name);
                sim_loop_hold(host->guard.loop, until_us);
                sim_loop_hold(host->loop, until_us);
        }
}

/* A VM's process on the host; NULL: none runs. */
static Qemu *find_running(HeartHost *host) {
        for (Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                if (qemu->runs)
                        return qemu;
        return NULL;
}

/* Those on the other side of leader and victim could go on without both. */
static bool has_majority_without_both(Heart *heart, const HeartHost *victim) {
        ClusterStatus status = {};
        const HeartHost *leader = heart_judge_leader(&heart->judge);
        unsigned n = 0;
        if (!leader || leader == victim || !heart_judge_status(&heart->judge, &status))
                return false;
        for (size_t i = 0; i < status.n_voters; i++) {
                const HeartHost *host = heart_host_by_id(heart, status.voters + i);
                n += host && host != victim && host != leader;
        }
        return n * 2 > status.n_voters;
}

static bool can_fail(Heart *heart, const HeartHost *victim, HeartFailure failure) {
        switch (failure) {
        case FAILURE_WATCHED:
                return victim->guard.is_armed && !victim->witness;
        case FAILURE_BLINK:
                return heart->times.hold_us > 0 && heart_judge_leader(&heart->judge) != victim && !victim->witness;
        case FAILURE_NEXT_GUARD:
                return !victim->witness && (heart->times.hold_us > 0 || !heart->weather.slow_deaths);
        case FAILURE_THAWED:
                return !victim->witness;
        case FAILURE_LATE:
        case FAILURE_UNHEARD:
                return heart_judge_leader(&heart->judge) != victim && !victim->witness;
        case FAILURE_BEHIND:
        case FAILURE_ANEW:
                return heart_judge_leader(&heart->judge) != victim && find_running((HeartHost *) victim) &&
                       heart->call_timeout_us < 4 * SECOND;
        case FAILURE_UNDECIDED:
                return find_running((HeartHost *) victim) && heart->call_timeout_us < 4 * SECOND;
        case FAILURE_UNGUARDED:
                return !victim->witness && !victim->guard.is_armed;
        case FAILURE_OLD_LEADER:
                return has_majority_without_both(heart, victim) && !victim->witness;
        case FAILURE_POWER:
        case FAILURE_CUT:
        case FAILURE_FREEZE:
        case FAILURE_PAUSE:
        case FAILURE_COUNT:
                break;
        }
        return true;
}

static void bring_failure(Heart *heart, HeartHost *victim) {
        static const char *const names[FAILURE_COUNT] = { "loses its power", "is cut off",
                                                          "is cut off, and then stopped", "is cut off behind an answer",
                                                          "stands still", "stands still with its clocks",
                                                          "is cut off until it is to be lost",
                                                          "is cut off behind a leader that stood still",
                                                          "is behind in its history",
                                                          "loses VMs whose new places are long in being decided",
                                                          "is cut off with a leader that stands still",
                                                          "has its service anew while an end is on its way",
                                                          "has a guard that stands still",
                                                          "is cut off without gpupoold, and with another guard",
                                                          "is going to be cut off in a freeze" };
        HeartHost *leader = heart_judge_leader(&heart->judge);
        Qemu *qemu;
        SimTime *time = &heart->time;
        const LeaseTimes *times = &heart->times;
        heart_say(heart, "-- %s %s, and nothing else is wrong", victim->name, names[heart->failure]);
        switch (heart->failure) {
        case FAILURE_POWER:
                heart_host_power_off(victim, UINT64_MAX);
                break;
        case FAILURE_WATCHED:
                sim_alarm_set(time, &heart->stop,
                              time->now_us + sim_between(time, times->lease_us / 2, times->lease_us));
                heart_network_cut_off(&heart->network, victim->number);
                break;
        case FAILURE_CUT:
                heart_network_cut_off(&heart->network, victim->number);
                /* It does not read what became of it when it is back. */
                if (sim_chance(time, 40))
                        victim->disk->stalled_until_us = time->now_us + 20 * SECOND;
                break;
        case FAILURE_LATE:
                heart->network.late = victim;
                heart->network.late_us = sim_between(time, times->request_us, times->lease_us);
                break;
        case FAILURE_FREEZE:
                heart_host_freeze(victim, time->now_us + 20 * SECOND, false);
                break;
        case FAILURE_PAUSE:
                victim->libvirt.hung_until_us = time->now_us + 60 * SECOND;
                heart_host_freeze(victim, time->now_us + 12 * SECOND, true);
                /* It hears at once what has become of it; its lease would go on for longer. */
                victim->blind_until_us = time->now_us + 12 * SECOND + heart_failure_heard_us + times->kill_us;
                break;
        case FAILURE_BLINK:
                heart->judge.blinks = true;
                heart_network_cut_off(&heart->network, victim->number);
                break;
        case FAILURE_UNHEARD:
                /* Not so long that another is elected. */
                sim_loop_hold_in(leader->loop, time->now_us + 560 * MS,
                                 &heart->network.ways[victim->number][leader->number]);
                sim_alarm_set(time, &heart->stop, time->now_us + 600 * MS);
                break;
        case FAILURE_ANEW:
                heart->judge.begins_anew = true;
                victim->libvirt.fails_once = true;
                victim->libvirt.fail_percent = 100;
                qemu_kill(find_running(victim));
                break;
        case FAILURE_NEXT_GUARD:
                sim_loop_hold(victim->loop, time->now_us + failover_bound_us(heart, victim));
                heart_guard_end(&victim->guard);
                heart_network_cut_off(&heart->network, victim->number);
                break;
        case FAILURE_THAWED:
                heart_admin_freeze(&heart->admin, 40000);
                sim_alarm_set(time, &heart->stop, time->now_us + 2 * SECOND);
                break;
        case FAILURE_UNGUARDED:
                /* By then gpupoold has noticed, and ended all. */
                sim_loop_hold(victim->guard.loop, time->now_us + failover_bound_us(heart, victim));
                if (sim_chance(time, 50))
                        heart_network_cut_off(&heart->network, victim->number);
                else
                        sim_alarm_set(time, &heart->stop, time->now_us + times->lease_us + times->kill_us + SECOND);
                break;
        case FAILURE_BEHIND:
                victim->libvirt.fails_once = true;
                victim->libvirt.fail_percent = 100;
                qemu_kill(find_running(victim));
                break;
        case FAILURE_UNDECIDED:
                heart->judge.stalls = true;
                while ((qemu = find_running(victim)))
                        qemu_vanish_soon(qemu);
                break;
        case FAILURE_OLD_LEADER:
                for (unsigned i = 0; i < HEART_HOSTS_MAX; i++)
                        for (unsigned k = 0; k < HEART_HOSTS_MAX; k++)
                                if ((i == victim->number || i == leader->number) !=
                                    (k == victim->number || k == leader->number))
                                        heart_network_cut(&heart->network, i, k);
                sim_loop_hold(leader->loop, time->now_us + sim_between(time, times->lease_us / 3, times->lease_us));
                break;
        case FAILURE_COUNT:
                break;
        }
}

void heart_failure_begin(Heart *heart) {
        HeartHost *victim = heart->hosts + sim_pick(&heart->time, heart->n_hosts);
        HeartFailure failure = FAILURE_POWER;
        if (!victim->on || victim->removed || !has_majority_without(heart, victim) || heart->judge.truth->frozen_ms > 0)
                return;
        for (unsigned i = 0; i < 3 && (i == 0 || !can_fail(heart, victim, failure)); i++)
                failure = (HeartFailure) sim_pick(&heart->time, FAILURE_COUNT);
        heart->failure = can_fail(heart, victim, failure) ? failure : FAILURE_POWER;
        heart->old_view_was = false;
        heart->failures[heart->failure]++;
        heart->victim = victim;
        heart->failed_us = heart->time.now_us;
        for (unsigned i = 0; i < heart->judge.n_vms; i++) {
                HeartVm *vm = heart->judge.vms + i;
                bool was_there = vm->runs && vm->runs->host == victim;
                vm->down_since_us = was_there ? heart->time.now_us : 0;
                vm->fits_since_us = heart->time.now_us;
        }
        bring_failure(heart, victim);
}

void heart_failure_end(Heart *heart) {
        HeartHost *victim = heart->victim;
        heart->victim = NULL;
        heart->judge.stalls = heart->judge.begins_anew = heart->judge.blinks = false;
        victim->libvirt.fails_once = false;
        victim->libvirt.fail_percent = 0;
        victim->libvirt.hung_until_us = 0;
        for (unsigned i = 0; i < heart->n_hosts; i++) {
                if (heart->hosts + i != victim || heart->failure != FAILURE_CUT)
                        sim_disk_mend(heart->hosts[i].disk);
                if (heart->hosts[i].loop && !heart_host_is_frozen(heart->hosts + i))
                        sim_loop_release(heart->hosts[i].loop);
        }
        sim_alarm_unset(&heart->time, &heart->stop);
        heart_network_heal(&heart->network);
        if (victim->guard.loop && !heart_host_is_frozen(victim))
                sim_loop_release(victim->guard.loop);
        if (!victim->on && victim->boot.place == 0)
                sim_alarm_set(&heart->time, &victim->boot, heart->time.now_us + sim_between(&heart->time, MS, SECOND));
}

/* In the others the registry or the leader is in trouble as well. */
static bool is_plain(HeartFailure failure) {
        return failure <= FAILURE_FREEZE;
}

/* What is free may be kept for one that is more important, until all have stopped that make way for it: as long as
 * their guests take. */
static bool somebody_makes_way(const HeartJudge *judge) {
        ARRAY_EACH(vm, &judge->truth->vms)
                if (vm_makes_way(vm))
                        return true;
        return false;
}

/* True: all that could run again elsewhere does. */
bool heart_failure_look(Heart *heart) {
        HeartJudge *judge = &heart->judge;
        uint64_t bound_us = failover_bound_us(heart, heart->victim);
        bool all = true, makes_way = somebody_makes_way(judge);
        if (!heart->old_view_was && sim_chance(&heart->time, 50))
                heart->old_view_was = heart_echo_old_view(heart, heart->victim);
        for (unsigned i = 0; i < judge->n_vms; i++) {
                HeartVm *vm = judge->vms + i;
                if (vm->down_since_us == 0)
                        continue;
                if (vm->runs && vm->runs->host == heart->victim)
                        continue;       /* not for long */
                if (vm->runs && !is_plain(heart->failure))
                        vm->down_since_us = 0;
                else if (vm->runs) {
                        uint64_t took_us = vm->started_us - vm->down_since_us;
                        judge->visits.measured++;
                        judge->visits.measured_us += took_us;
                        if (took_us > judge->visits.measured_most_us)
                                judge->visits.measured_most_us = took_us;
                        vm->down_since_us = 0;
                }
                if (vm->runs)
                        continue;
                const Vm *known = registry_find_vm(judge->truth, &vm->id);
                bool placed = known && known->assignment.phase != ASSIGNMENT_NONE;
                if (!placed && (makes_way || !heart_judge_fits_elsewhere(judge, vm, heart->victim))) {
                        vm->fits_since_us = heart->time.now_us;
                        continue;
                }
                all = false;
                if (heart->time.now_us < vm->fits_since_us + bound_us || !is_plain(heart->failure))
                        continue;
                sim_broken(&heart->time, "P4: %s was on %s, which failed, there was room for %.1f s, and it does not "
                           "run again", vm->name, heart->victim->name, (double) bound_us / (double) SECOND);
        }
        if (heart_host_is_frozen(heart->victim) || heart->time.now_us <= heart->victim->blind_until_us)
                return false;
        return (all || !is_plain(heart->failure)) && heart->time.now_us >= heart->failed_us + bound_us;
}


void heart_failure_init(Heart *heart) {
        heart->stop = (SimAlarm) { .ring = on_stop, .userdata = heart };
}
