/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What each VM's process truly does. */

#include "heart.h"

#define VCPUS_STOP_MOST_US (20 * MS)    /* after SIGKILL, where nothing is slow */
#define PROCESS_ENDS_MOST_US (150 * MS)
#define STUBBORN_MOST_US (25 * SECOND)  /* memory and devices of a dead VM are given back slowly */

static SimTime *time_of(const Qemu *qemu) {
        return &qemu->host->heart->time;
}

static void end(Qemu *qemu) {
        if (qemu->gone)
                return;
        sim_alarm_unset(time_of(qemu), &qemu->halt);
        sim_alarm_unset(time_of(qemu), &qemu->end);
        sim_alarm_unset(time_of(qemu), &qemu->wish);
        qemu->halted = qemu->gone = true;
        heart_judge_qemu(&qemu->host->heart->judge, qemu);
        sim_fd_wake(qemu);
}

static void on_halt(void *userdata) {
        Qemu *qemu = userdata;
        qemu->halted = true;
        heart_judge_qemu(&qemu->host->heart->judge, qemu);
}

static void on_end(void *userdata) {
        Qemu *qemu = userdata;
        HeartHost *host = qemu->host;
        if (heart_host_is_frozen(host)) {
                sim_alarm_set(time_of(qemu), &qemu->end, host->frozen_until_us);
                return;
        }
        end(qemu);
        heart_say(host->heart, "%s: the process of %s, epoch %" G_GUINT64_FORMAT ", is over", host->name,
                  heart_judge_vm(&host->heart->judge, &qemu->vm)->name, qemu->epoch);
        heart_guard_process_ended(&host->guard, qemu);
        heart_libvirt_process_ended(&host->libvirt, qemu);
}

static void on_wish(void *userdata) {
        Qemu *qemu = userdata;
        if (qemu->paused || qemu->stopped || heart_host_is_frozen(qemu->host)) {
                sim_alarm_set(time_of(qemu), &qemu->wish, time_of(qemu)->now_us + SECOND);
                return;
        }
        on_halt(qemu);
        sim_alarm_set(time_of(qemu), &qemu->end, time_of(qemu)->now_us + sim_between(time_of(qemu), MS, 100 * MS));
}

static bool is_ready(void *thing) {
        return ((Qemu *) thing)->gone;
}

Qemu *qemu_new(HeartHost *host, const VmId *vm, uint64_t epoch, const unsigned *gpus, unsigned n_gpus) {
        Qemu *qemu = g_new0(Qemu, 1);
        *qemu = (Qemu) {
                .host = host, .next = host->qemus, .vm = *vm, .epoch = epoch, .paused = true, .n_gpus = n_gpus,
                .halt = { .ring = on_halt, .userdata = qemu }, .end = { .ring = on_end, .userdata = qemu },
                .wish = { .ring = on_wish, .userdata = qemu },
        };
        for (unsigned i = 0; i < n_gpus; i++)
                qemu->gpus[i] = gpus[i];
        host->qemus = qemu;
        heart_judge_new_qemu(&host->heart->judge, qemu);
        return qemu;
}

int qemu_pidfd(Qemu *qemu, sd_event *loop) {
        return sim_fd_new(&(SimFd) { .kind = SIM_FD_PROCESS, .owner = loop, .thing = qemu, .is_ready = is_ready });
}

void qemu_look(Qemu *qemu) {
        heart_judge_qemu(&qemu->host->heart->judge, qemu);
}

void qemu_resume(Qemu *qemu) {
        qemu->paused = false;
        heart_bind_resumed(qemu);
        qemu_look(qemu);
}

void qemu_stop(Qemu *qemu, bool stop) {
        qemu->stopped = stop;
        qemu_look(qemu);
}

/* The times in force allow for kill_us; what the guard itself is late by is in it. */
void qemu_kill(Qemu *qemu) {
        Heart *heart = qemu->host->heart;
        const HeartWeather *weather = &heart->weather;
        SimTime *time = time_of(qemu);
        uint64_t most_us = heart->times.kill_us - 3 * MS;
        if (qemu->killed || qemu->gone)
                return;
        qemu->killed = true;
        uint64_t halts_us = sim_between(time, 0, VCPUS_STOP_MOST_US), ends_us;
        if (weather->slow_deaths)
                halts_us = most_us;
        ends_us = halts_us + sim_between(time, MS, PROCESS_ENDS_MOST_US);
        if (ends_us > most_us)
                ends_us = most_us;
        if (sim_chance(time, weather->stubborn_percent))
                ends_us += sim_between(time, SECOND, STUBBORN_MOST_US);
        sim_alarm_set(time, &qemu->halt, time->now_us + halts_us);
        if (qemu->end.place == 0 || qemu->end.at_us > time->now_us + ends_us)
                sim_alarm_set(time, &qemu->end, time->now_us + ends_us);
}

void qemu_vanish_soon(Qemu *qemu) {
        qemu->killed = true;
        on_halt(qemu);
        sim_alarm_set(time_of(qemu), &qemu->end, time_of(qemu)->now_us + 5 * MS);
}

void qemu_end_soon(Qemu *qemu, bool guest, uint64_t in_us) {
        if (qemu->gone || qemu->killed || qemu->wish.place > 0)
                return;
        qemu->guest_off = guest;
        sim_alarm_set(time_of(qemu), &qemu->wish, time_of(qemu)->now_us + in_us);
}

void qemu_vanish(Qemu *qemu) {
        end(qemu);
}

Qemu *qemu_find(HeartHost *host, const VmId *vm, uint64_t epoch) {
        for (Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                if (!qemu->gone && qemu->epoch == epoch && ID_EQUAL(&qemu->vm, vm))
                        return qemu;
        return NULL;
}

void qemu_free_all(HeartHost *host) {
        for (Qemu *next, *qemu = host->qemus; qemu; qemu = next) {
                next = qemu->next;
                sim_alarm_unset(time_of(qemu), &qemu->halt);
                sim_alarm_unset(time_of(qemu), &qemu->end);
                sim_alarm_unset(time_of(qemu), &qemu->wish);
                g_free(qemu);
        }
        host->qemus = NULL;
}
