/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-bind on a host: bind-client.h ends here. Each question is a process of its own, which outlives gpupoold,
 * takes time, and may find a VM's process that still has the GPU. What becomes of the GPU happens at one moment of
 * that time. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "adapters/bind/bind-client.h"
#include "heart.h"

#define QUICK_MOST_US (60 * MS)
#define SLOW_MOST_US (4 * SECOND)       /* a driver with much to give up; still within the deadline */
#define SLOW_PERCENT 5U

struct BindClient {
        HeartHost *host;
        BindEvents events;
        void *userdata;
};

/* A process of gpupool-bind. */
typedef struct BindProcess {
        HeartHost *host;
        struct BindProcess *next;
        BindClient *client;             /* NULL: nobody waits for its answer */
        unsigned gpu;
        PciAddress address;
        BindVerb verb;
        BindResult result;
        bool is_done;
        SimAlarm alarm;
} BindProcess;

static SimTime *time_of(const HeartHost *host) {
        return &host->heart->time;
}

static void process_free(BindProcess *process) {
        for (BindProcess **at = &process->host->binds; *at; at = &(*at)->next)
                if (*at == process) {
                        *at = process->next;
                        break;
                }
        sim_alarm_unset(time_of(process->host), &process->alarm);
        g_free(process);
}

static bool is_held(const HeartHost *host, unsigned gpu) {
        for (const Qemu *qemu = host->qemus; qemu; qemu = qemu->next)
                for (unsigned i = 0; !qemu->gone && i < qemu->n_gpus; i++)
                        if (qemu->gpus[i] == gpu)
                                return true;
        return false;
}

static BindResult carry_out(const BindProcess *process) {
        HeartHost *host = process->host;
        HeartGpu *gpu = host->gpus + process->gpu;
        if (host->gpu_lost[process->gpu])
                return BIND_REFUSED;
        if (is_held(host, process->gpu))
                return BIND_HELD;
        if (process->verb != BIND_GIVE && sim_chance(time_of(host), host->libvirt.fail_percent / 2))
                return BIND_FAILED;
        if (process->verb == BIND_INSPECT)
                gpu->had_epoch = 0;
        else
                gpu->on_vfio = process->verb == BIND_TAKE;
        return BIND_DONE;
}

static void on_alarm(void *userdata) {
        BindProcess *process = userdata;
        HeartHost *host = process->host;
        if (heart_host_is_frozen(host)) {
                sim_alarm_set(time_of(host), &process->alarm, host->frozen_until_us);
                return;
        }
        if (!process->is_done) {
                process->is_done = true;
                process->result = carry_out(process);
                heart_facts_changed(host);
                sim_alarm_set(time_of(host), &process->alarm,
                              time_of(host)->now_us + sim_between(time_of(host), 5, MS));
                return;
        }
        BindClient *client = process->client;
        if (client && !heart_host_has_daemon(host)) {   /* its loop is held up: the answer lies in the socket */
                sim_alarm_set(time_of(host), &process->alarm, time_of(host)->now_us + 20 * MS);
                return;
        }
        PciAddress address = process->address;
        BindVerb verb = process->verb;
        BindResult result = process->result;
        process_free(process);
        if (!client)
                return;
        SimTurn turn = sim_loop_begin(host->loop);
        client->events.answered(client->userdata, address, verb, result, result == BIND_DONE ? NULL : "bad weather");
        sim_loop_end(turn);
}

int bind_client_new(BindClient **ret, sd_event *event, const char *socket, uint64_t deadline_us,
                    const BindEvents *events, void *userdata) {
        BindClient *client = g_new0(BindClient, 1);
        *client = (BindClient) { .host = heart_host_current(), .events = *events, .userdata = userdata };
        *ret = client;
        return 0;
}

BindClient *bind_client_free(BindClient *client) {
        if (!client)
                return NULL;
        for (BindProcess *process = client->host->binds; process; process = process->next)
                if (process->client == client)
                        process->client = NULL;
        g_free(client);
        return NULL;
}

int bind_client_ask(BindClient *client, BindVerb verb, const GpuIdentity *card, const PciAddress *functions, size_t n) {
        HeartHost *host = client->host;
        SimTime *time = time_of(host);
        BindProcess *process = g_new0(BindProcess, 1);
        g_assert_cmpuint(functions[0].bus - 0x41U, <, host->n_gpus);
        *process = (BindProcess) { .host = host, .next = host->binds, .client = client,
                                   .gpu = functions[0].bus - 0x41U, .address = functions[0], .verb = verb,
                                   .alarm = { .ring = on_alarm, .userdata = process } };
        host->binds = process;
        sim_alarm_set(time, &process->alarm, time->now_us + sim_between(time, MS, sim_chance(time, SLOW_PERCENT)
                                                                                          ? SLOW_MOST_US
                                                                                          : QUICK_MOST_US));
        return 0;
}

/* With the host's power: after a boot each GPU is with its own driver, and nothing is left in it. */
void heart_bind_end(HeartHost *host) {
        while (host->binds)
                process_free(host->binds);
        memset(host->gpus, 0, sizeof(host->gpus));
}

/* Whoever is resumed must not find what another VM left. */
void heart_bind_resumed(const Qemu *qemu) {
        HeartHost *host = qemu->host;
        for (unsigned i = 0; i < qemu->n_gpus; i++) {
                HeartGpu *gpu = host->gpus + qemu->gpus[i];
                if (gpu->had_epoch > 0 && (gpu->had_epoch != qemu->epoch || !ID_EQUAL(&gpu->had_by, &qemu->vm)))
                        sim_broken(time_of(host), "P2: GPU %u of %s goes to %s as it was left by %s, uninspected",
                                   qemu->gpus[i], host->name, heart_judge_vm(&host->heart->judge, &qemu->vm)->name,
                                   heart_judge_vm(&host->heart->judge, &gpu->had_by)->name);
                gpu->had_by = qemu->vm;
                gpu->had_epoch = qemu->epoch;
        }
}
