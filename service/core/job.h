/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Job: a long operation that somebody asked this node for. It ends when the registry says that the object has come
 * where it should, and stays for a while after, so that a late client can read how it ended. Joining another cluster is
 * one, too: it is about the cluster and not about a VM, and who joins says how far it is. */

#include "core/vm.h"
#include "util/array.h"

typedef enum JobOperation {
        JOB_START,
        JOB_SHUTDOWN,
        JOB_STOP,
        JOB_RESTART,
        JOB_JOIN,               /* has no VM; driven by job_join_at() and job_finish(), never by job_follow() */
        JOB_OPERATION_COUNT,
} JobOperation;

/* How far a node is on its way into another cluster. */
typedef enum JoinStage {
        JOIN_CONNECTING,        /* nothing has changed */
        JOIN_ADMITTED,          /* it is a member there; its own cluster of one is over */
        JOIN_RECEIVING,         /* it learns what that cluster has decided */
        JOIN_STAGE_COUNT,
} JoinStage;

typedef enum JobResult {
        JOB_PENDING,
        JOB_DONE,
        JOB_FAILED,
        JOB_CANCELED,
        JOB_WAITING,            /* accepted; the VM starts by itself when the reason goes away */
        JOB_SUPERSEDED,         /* somebody asked for something else meanwhile */
        JOB_RESULT_COUNT,
} JobResult;

typedef struct Job {
        uint64_t id;            /* never used twice, also not over restarts */
        JobOperation operation;
        VmId vm;                /* null with JOB_JOIN */
        uint64_t from_epoch;    /* the VM's epoch when the job began */
        uint32_t uid;
        char *sender;           /* unique bus name */
        uint64_t started_realtime_us;
        uint64_t ended_boottime_us;     /* 0: still running */
        double progress;        /* 0..1 */
        const char *stage;      /* static: "placing", "binding", "guarding", "running", "stopping"; or of a JoinStage */
        JobResult result;
        const char *error;      /* static D-Bus error name, or NULL */
        char *message;
        bool forgotten;         /* its user has too many finished jobs: it does not stay as long as others */
} Job;

typedef struct Jobs {
        ARRAY(Job *) all;       /* by id */
        uint64_t next_id;
        uint32_t per_user_max;  /* running ones, and as many finished ones; 0: no limit */
        uint64_t linger_us;
} Jobs;

typedef enum JobVerdict {
        JOB_MADE,
        JOB_LIMIT,              /* this uid has too many that run */
} JobVerdict;

void jobs_clear(Jobs *jobs);
/* @vm: NULL with JOB_JOIN. Returns a JobVerdict or -ENOMEM; *ret is borrowed and set with JOB_MADE only. */
int jobs_add(Jobs *jobs, JobOperation operation, const VmId *vm, uint64_t from_epoch, uint32_t uid, const char *sender,
             uint64_t now_realtime_us, Job **ret);
Job *jobs_find(const Jobs *jobs, uint64_t id);
void job_finish(Job *job, JobResult result, const char *error, const char *message, uint64_t now_boottime_us);
/* The first finished job whose time is over, or NULL; the caller announces its end and calls jobs_remove(). */
Job *jobs_next_expired(const Jobs *jobs, uint64_t now_boottime_us);
/* When jobs_next_expired() will have one; UINT64_MAX: not by itself. */
uint64_t jobs_next_expiry_us(const Jobs *jobs);
void jobs_remove(Jobs *jobs, Job *job);

/* Holds a running job against the VM as the registry has it now (NULL: deleted) and the stage that the node reports.
 * @wait_code/@wait_sentence say why a waiting VM waits (NULL while placement has not been tried). Returns true if
 * anything a person sees of the job changed; it may have finished. */
bool job_follow(Job *job, const Vm *vm, const char *stage, const char *wait_code, const char *wait_sentence,
                uint64_t now_boottime_us);

/* A running JOB_JOIN has come to @stage; never back. Returns true if that is news. */
bool job_join_at(Job *job, JoinStage stage);

const char *job_operation_to_text(JobOperation operation);
const char *job_result_to_text(JobResult result);
