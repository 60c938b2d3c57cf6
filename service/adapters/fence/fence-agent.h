/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fence agent: one run of a program of the fence-agents project, which switches a host off through its management
 * board, its power strip or its hypervisor. Their standard protocol: no arguments; on standard input "action=off" and
 * "name=value" lines; exit status 0 when it is done, which for "off" means that the power is surely off.
 *
 *     posix_spawn ─► agent: own process group, no descriptor of ours, little environment, /
 *                     stdin   a sealed file in memory, as parameters may be longer than a pipe is deep
 *                     stdout, stderr ─► the last line of each is kept, whatever its length and theirs
 *     ends, or the deadline passes ─► SIGKILL to the group ─► callback
 *
 * It runs as gpupoold's own user. What it says is shown to people without the values of its parameters, for agents
 * repeat them in their complaints. What it starts in sessions of its own ends with the service's cgroup. */

#include <systemd/sd-event.h>

#include "core/fence.h"

#define FENCE_DIRECTORY_DEFAULT "/usr/sbin"

typedef struct FenceAgent FenceAgent;

typedef enum FenceEnd {
        FENCE_DONE,                     /* exit status 0: it did what it was asked */
        FENCE_FAILED,                   /* any other end */
        FENCE_TIMED_OUT,                /* killed at its deadline */
} FenceEnd;

typedef struct FenceOrder {
        const char *directory;
        const char *agent;              /* "fence_ipmilan": not a path */
        const char *action;             /* "off" */
        const char *node;               /* name of the host, for agents that tell many apart ("nodename") */
        const FenceParameter *parameters;       /* but for "action" */
        size_t n_parameters;
        uint64_t timeout_us;
} FenceOrder;

/* @sentence: how it ended, for people: "it ended with status 1: Connection timed out"; borrowed; NULL with FENCE_DONE.
 * The agent is freed already. */
typedef void (*FenceCallback)(FenceEnd end, const char *sentence, void *userdata);

/* @order is not needed afterwards. @callback comes exactly once and later, unless it is freed before. 0; -EINVAL: what
 * cannot be said in the protocol; -ENOENT, -EACCES, -ENOEXEC and the like: the program cannot be run; or another
 * -errno. */
int fence_agent_start(FenceAgent **ret, sd_event *event, const FenceOrder *order, FenceCallback callback,
                      void *userdata);

/* Ends it if it still runs, without a word. Never waits: who does not die at once is reaped by the loop. */
FenceAgent *fence_agent_free(FenceAgent *agent);
DEFINE_CLEANUP(FenceAgent *, fence_agent_free);
