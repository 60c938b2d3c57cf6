/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Job: a long operation that somebody asked this node for. It ends when the registry says that the object has come
 * where it should, and stays for a while after, so that a late client can read how it ended. Most are about a VM; a
 * drain is about a node, and joining another cluster about the cluster: who joins says how far it is. */

#include "core/move.h"
#include "util/array.h"

typedef enum JobOperation {
        JOB_START,
        JOB_SHUTDOWN,
        JOB_STOP,
        JOB_RESTART,
        JOB_MOVE,
        JOB_DRAIN,              /* of a node: job_follow_drain() */
        JOB_DEFRAGMENT,         /* for a VM: job_follow_clearance() of core/clearance.h */
        JOB_JOIN,               /* of the cluster; driven by job_join_at() and job_finish() */
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
        JOB_WAITING,            /* accepted; it goes on by itself when the reason goes away */
        JOB_SUPERSEDED,         /* somebody asked for something else meanwhile */
        JOB_RESULT_COUNT,
} JobResult;

/* What a job is about. */
typedef struct JobSubject {
        VmId vm;                /* null: no VM */
        uint64_t from_epoch;    /* its epoch when the job began */
        NodeId node;            /* drain: this one; move: where the VM ran when the job began */
        NodeId target;          /* move: where it was asked to; null: to any other */
} JobSubject;

typedef struct Clearance Clearance;

typedef struct Job {
        uint64_t id;            /* never used twice, also not over restarts */
        JobOperation operation;
        JobSubject about;
        uint32_t n_vms;         /* drain: the most that were there */
        Moves plan;             /* of a drain or a defragmentation that was only tried */
        Clearance *clearance;   /* of a defragmentation that is carried out, owned */
        uint32_t uid;
        char *sender;           /* unique bus name */
        uint64_t started_realtime_us;
        uint64_t ended_boottime_us;     /* 0: still running */
        double progress;        /* 0..1 */
        const char *stage;      /* static: "placing", "binding", "guarding", "running", "stopping"; of a drain or
                                 * a defragmentation "moving", "silent"; or of a JoinStage */
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
/* Returns a JobVerdict or -ENOMEM; *ret is borrowed and set with JOB_MADE only. */
int jobs_add(Jobs *jobs, JobOperation operation, const JobSubject *about, uint32_t uid, const char *sender,
             uint64_t now_realtime_us, Job **ret);
Job *jobs_find(const Jobs *jobs, uint64_t id);
void job_finish(Job *job, JobResult result, const char *error, const char *message, uint64_t now_boottime_us);
/* The first finished job whose time is over, or NULL; the caller announces its end and calls jobs_remove(). */
Job *jobs_next_expired(const Jobs *jobs, uint64_t now_boottime_us);
/* When jobs_next_expired() will have one; UINT64_MAX: not by itself. */
uint64_t jobs_next_expiry_us(const Jobs *jobs);
void jobs_remove(Jobs *jobs, Job *job);

/* Holds a running job against its VM as the registry has it now (NULL: deleted) and the stage that the node reports.
 * @wait_code/@wait_sentence say why a waiting VM waits (NULL while placement has not been tried). Returns true if
 * anything a person sees of the job changed; it may have finished. */
bool job_follow(Job *job, const World *world, const Vm *vm, const char *stage, const char *wait_code,
                const char *wait_sentence, uint64_t now_boottime_us);

/* The same for a drain. @obstacle: drain_obstacle(), or NULL while not everything was tried. */
bool job_follow_drain(Job *job, const World *world, const char *obstacle, uint64_t now_boottime_us);

/* A drain that is only tried: takes over @plan, and ends with it, as the drain itself would end. 0 or -ENOMEM. */
int job_end_with_plan(Job *job, const World *world, Moves *plan, uint64_t now_boottime_us);

/* A running JOB_JOIN has come to @stage; never back. Returns true if that is news. */
bool job_join_at(Job *job, JoinStage stage);

const char *job_operation_to_text(JobOperation operation);
const char *job_result_to_text(JobResult result);
