/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* fence-agent.h: an agent that switches a host of this world off, or cannot. */

#include <errno.h>

#include "adapters/fence/fence-agent.h"
#include "heart.h"

struct FenceAgent {
        HeartHost *host;                /* who asked */
        HeartHost *target;
        FenceCallback callback;
        void *userdata;
        bool is_off;
        SimAlarm act, answer;
        uint64_t timeout_us;
};

static SimTime *time_of(const FenceAgent *agent) {
        return &agent->host->heart->time;
}

static void on_act(void *userdata) {
        FenceAgent *agent = userdata;
        SimTime *time = time_of(agent);
        if (agent->target->fence_works) {
                heart_say(agent->host->heart, "%s is switched off by its fence agent", agent->target->name);
                agent->host->heart->judge.visits.fences++;
                heart_host_power_off(agent->target, time->now_us + sim_between(time, 3 * SECOND, 20 * SECOND));
                agent->is_off = true;
        }
        sim_alarm_set(time, &agent->answer, time->now_us + sim_between(time, MS, SECOND));
}

static void on_answer(void *userdata) {
        FenceAgent *agent = userdata;
        if (!sim_loop_may_run(agent->host->loop, &agent->answer))
                return;
        FenceAgent gone = *agent;
        SimTurn turn = sim_loop_begin(gone.host->loop);
        g_free(agent);
        gone.callback(gone.is_off ? FENCE_DONE : FENCE_FAILED, gone.is_off ? NULL : "it ended with status 1",
                      gone.userdata);
        sim_loop_end(turn);
}

int fence_agent_start(FenceAgent **ret, sd_event *event, const FenceOrder *order, FenceCallback callback,
                      void *userdata) {
        HeartHost *host = heart_host_current(), *target = NULL;
        for (unsigned i = 0; i < host->heart->n_hosts; i++)
                if (text_equal(host->heart->hosts[i].name, order->node))
                        target = host->heart->hosts + i;
        if (!target)
                return -EINVAL;
        FenceAgent *agent = g_new0(FenceAgent, 1);
        *agent = (FenceAgent) { .host = host, .target = target, .callback = callback, .userdata = userdata,
                                .act = { .ring = on_act, .userdata = agent },
                                .answer = { .ring = on_answer, .userdata = agent } };
        uint64_t takes_us = sim_between(time_of(agent), 20 * MS, 2 * SECOND);
        sim_alarm_set(time_of(agent), &agent->act, time_of(agent)->now_us + takes_us);
        *ret = agent;
        return 0;
}

FenceAgent *fence_agent_free(FenceAgent *agent) {
        if (!agent)
                return NULL;
        sim_alarm_unset(time_of(agent), &agent->act);
        sim_alarm_unset(time_of(agent), &agent->answer);
        g_free(agent);
        return NULL;
}
