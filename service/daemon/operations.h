/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Operations: the jobs that callers of this node wait for, from the request to the time when they are forgotten. */

#include "core/job.h"
#include "core/runner.h"
#include "daemon/history.h"

typedef struct Operations Operations;

typedef struct OperationsConfig {
        sd_event *event;
        History *history;
        /* How far a VM is, or NULL; borrowed until the next call. */
        const char *(*stage)(const Vm *vm, void *userdata);
        uint32_t jobs_per_user;
        uint64_t linger_us;
        void (*changed)(void *userdata);        /* a job began, moved on or ended */
        void *userdata;
} OperationsConfig;

int operations_new(Operations **ret, const OperationsConfig *config);
Operations *operations_free(Operations *operations);
DEFINE_CLEANUP(Operations *, operations_free);

/* Where jobs are shown; not owned. */
void operations_set_bus(Operations *operations, Bus *bus);

Jobs *operations_jobs(Operations *operations);

/* Ids of this run of the service begin here, so that none is used twice over restarts. */
void operations_set_first_id(Operations *operations, uint64_t id);

/* See Service.operate in adapters/bus/bus.h. */
int operations_begin(Operations *operations, Entry *entry, JobOperation operation, const Caller *caller,
                     OperateCallback callback, void *userdata);
int operations_cancel(Operations *operations, Entry *entry, const Job *job, SubmitCallback callback, void *userdata);

/* A drain that is only tried: a job that has ended with its plan. Returns a JobVerdict or -errno. */
int operations_try_drain(Operations *operations, const World *world, const NodeId *node, const Caller *caller,
                         const Job **ret);

/* Room is made for a VM, in single moves that operations_follow() proposes; or that is only tried, and the job has
 * ended with its plan. Returns a JobVerdict or -errno. */
int operations_defragment(Operations *operations, const World *world, const Defragmentation *wish,
                          const Caller *caller, const Job **ret);
/* No further VM moves. 0, or -EBUSY: it has ended. */
int operations_stop_defragment(Operations *operations, const World *world, const Job *job);

/* A job that is not about a VM: joining a cluster. The first makes and announces it: returns a JobVerdict or -errno.
 * The others do nothing where job @id has ended already. */
int operations_begin_join(Operations *operations, const Caller *caller, const Job **ret);
void operations_join_at(Operations *operations, uint64_t id, JoinStage stage);
void operations_end_join(Operations *operations, uint64_t id, JobResult result, const char *error,
                         const char *message);

/* Holds every job against the world. @settled: placement has nothing left to try, so who waits will wait. 0 or
 * -errno. */
int operations_follow(Operations *operations, const World *world, bool settled);
