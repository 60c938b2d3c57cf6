/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Runner: what a node does with the VMs that are assigned to it. Pure: it looks at the assignments and at what was
 * observed of each VM's domain and process, and says which step to take next. So a restart of the service at any step
 * needs nothing special: it observes anew, and goes on or undoes.
 *
 * The claim is a transaction; any failure leads to the undoing of every step:
 *
 *     assignment ─► bind GPUs ─► start paused ─► guard holds the pidfd ─► permit ─► resume ─► report running
 *     (reserved)       │              │                │       (the leader's word that this epoch stands)
 *                      │              │                │                    │         │
 *                      └──────────────┴────────────────┴──────────┬─────────┴─────────┘
 *                                                                 ▼
 *        report ended ◄─ guard lets go ◄─ dead, proven by the pidfd ◄─ destroy (libvirt), else kill (guard)
 *        (frees the GPUs)                 └─► vacated: the GPUs' return begins (core/binding.h)
 *
 * No vCPU runs before the guard has the pidfd; no report of an end is made before the process is dead. What is not
 * there when the service begins anew is not started in the same epoch: the report of its end may be on its way, and
 * would come true while it runs. */

#include "core/world.h"

#define RUNNER_DOMAIN_GRACE_US 10000000U /* dead, and libvirt does not say so: its clean-up is not waited for longer */
#define RUNNER_RETRY_US 1000000U                /* until a step that could not be tried is tried again */
#define RUNNER_KILL_GRACE_US 5000000U           /* destroyed by libvirt, and the process lives: then the guard kills */
/* A GPU reads all ones during its own reset, too, but not so long: a reading that begins then must still show it. */
#define RUNNER_GPU_ODD_US 3000000U

typedef enum RunStep {
        RUN_BIND,               /* take the GPUs from the host's drivers */
        RUN_START,              /* start the domain, paused */
        RUN_HOLD,               /* give the process to the guard */
        RUN_PERMIT,             /* ask the leader whether this epoch still stands */
        RUN_RESUME,
        RUN_REPORT_RUNNING,
        RUN_SHUTDOWN,           /* ask the guest */
        RUN_DESTROY,            /* by libvirt */
        RUN_KILL,               /* by the guard */
        RUN_RELEASE,            /* the guard forgets the dead process */
        RUN_REPORT_ENDED,
        RUN_STEP_COUNT,
} RunStep;

typedef enum RunDomain {
        RUN_DOMAIN_UNKNOWN,     /* not asked yet, or libvirt does not answer */
        RUN_DOMAIN_ABSENT,
        RUN_DOMAIN_PAUSED,
        RUN_DOMAIN_RUNNING,
} RunDomain;

typedef enum RunProcess {
        RUN_PROCESS_UNKNOWN,
        RUN_PROCESS_ALIVE,
        RUN_PROCESS_DEAD,       /* proven, or there never was one */
} RunProcess;

/* One VM on this node, in one epoch. */
typedef struct Run {
        VmId vm;
        uint64_t epoch;
        RunDomain domain;
        RunProcess process;
        bool held;              /* by the guard */
        bool hold_refused;      /* by the guard that is connected now */
        bool has_pidfd;         /* the daemon has one for this run */
        bool permitted;
        bool resumed;
        bool reported;          /* as running */
        bool bound;             /* its GPUs are on vfio-pci, for it */
        bool started;           /* a start was asked for, or its domain was found */
        bool inherited;         /* assigned before this program began, which may have started and ended it then */
        bool ending;            /* there is no way back: undo, then report */
        EndCause cause;
        char *sentence;
        bool shutdown_asked;
        uint64_t shutdown_until_us;
        uint64_t destroyed_us;  /* libvirt said that it destroyed it */
        uint64_t dead_us;       /* when the process was found dead */
        bool vacated;           /* dead, and libvirt has no more to do with its GPUs */
        size_t on_vfio;         /* how many functions of its GPUs were, by the facts; the most that were seen */
        uint64_t odd_since_us;  /* a GPU of it is no longer as a VM has it; 0: none */
        bool destroy_failed;    /* libvirt cannot: the guard must */
        bool stop_seen;         /* libvirt says that it stopped, and why: the cause below, once the process is dead */
        uint64_t stop_seen_us;
        EndCause stop_cause;
        bool listed;            /* seen in the listing that is being told */
        bool end_reported;      /* committed, or no longer wanted */
        uint64_t running_since_us;
        uint64_t look_again_us; /* when to ask for a listing again, for want of its domain or process */
        bool busy;              /* a step is under way */
        RunStep step;           /* ... this one, and never a hold */
        bool holding;           /* a hold is; nothing else begins meanwhile */
        uint64_t not_before_us; /* next try of a step that could not be tried */
} Run;

/* From guard_trusted on to lease_runs all is the caller's to set, before runner_next() and the questions below. */
typedef struct Runner {
        ARRAY(Run) runs;        /* by VM */
        uint64_t shutdown_timeout_us;   /* for guests, where the request does not say */
        bool domains_known;     /* libvirt has listed its domains since the last connection */
        bool hypervisor_usable;
        bool guard_usable;
        bool guard_listed;      /* the guard has said what it holds since the last connection */
        bool guard_trusted;     /* the guard has had a deadline: it was given all that ran */
        bool nothing_before;    /* nothing that was started before this program was, lives */
        bool takes_over;        /* from a predecessor whose reports may be on their way; the caller's to set */
        bool followed;          /* runner_follow() was called */
        bool lease_needed;      /* nothing is started or resumed without one */
        bool lease_runs;        /* there is one, with time left */
        bool relist;            /* a domain may stand that no run explains: list again; the caller resets it */
} Runner;

void runner_clear(Runner *runner);

/* Holds the runs against the registry: new assignments begin, those that are no longer ours or are to stop end.
 * @gpus_known: the facts of this node are complete, so that a GPU that is not among them is lost. 0 or -ENOMEM. */
int runner_follow(Runner *runner, const World *world, bool gpus_known);

typedef struct RunTask {
        RunStep step;
        VmId vm;
        uint64_t epoch;
        EndCause cause;                 /* report ended */
        const char *sentence;           /* report ended; borrowed from the run */
        uint64_t ran_ms;                /* report ended */
} RunTask;

/* The next step to take, if there is one now: then the run is busy with it until runner_answer(). Otherwise false, and
 * *ret_wake_us says when time alone will bring one (UINT64_MAX: never). */
bool runner_next(Runner *runner, const World *world, uint64_t now_us, RunTask *ret_task, uint64_t *ret_wake_us);

typedef enum RunAnswer {
        RUN_ANSWER_DONE,
        RUN_ANSWER_FAILED,              /* it did not happen; the sentence says why */
        RUN_ANSWER_NOT_TRIED,           /* hypervisor or guard not there, storage full: later again */
        RUN_ANSWER_UNKNOWN,             /* it may have happened or may still happen: a deadline passed */
        RUN_ANSWER_STALE,               /* permit, reports: the registry has moved on; hold, kill: dead already;
                                         * destroy: libvirt knows no such domain */
        RUN_ANSWER_LATE,                /* hold: it is held, and killed at once, for the lease has ended */
} RunAnswer;

/* 0 or -ENOMEM. */
int runner_answer(Runner *runner, const VmId *vm, uint64_t epoch, RunStep step, RunAnswer answer, const char *sentence,
                  uint64_t now_us);

/* ---- observations; each returns 0 or -ENOMEM */

/* One domain that libvirt listed. One that no assignment explains is destroyed. */
int runner_saw_domain(Runner *runner, const VmId *vm, uint64_t epoch, bool paused, bool has_pidfd);
/* Called after all runner_saw_domain() of one listing: what was not seen is not there, unless its process lives. */
void runner_listed_domains(Runner *runner, uint64_t now_us);
/* Of any domain: one that this runner did not ask for, as a start that comes true after the service was restarted, is
 * looked for. */
void runner_domain_started(Runner *runner, const VmId *vm);
int runner_domain_stopped(Runner *runner, const VmId *vm, EndCause cause, uint64_t now_us);
void runner_domain_resumed(Runner *runner, const VmId *vm, uint64_t now_us);

/* Of one that lives the daemon has the pidfd then, too. */
int runner_guard_holds(Runner *runner, const VmId *vm, uint64_t epoch, bool alive, uint64_t now_us);
void runner_guard_listed(Runner *runner);
int runner_process_died(Runner *runner, const VmId *vm, uint64_t epoch, uint64_t now_us);
void runner_guard_lost(Runner *runner);         /* the link is down; what it held it holds */
void runner_guard_anew(Runner *runner);         /* another guard: it holds nothing */
void runner_hypervisor_lost(Runner *runner);

/* The lease has ended, or the guard is gone: all that was started here ends, with this cause. 0 or -ENOMEM. */
int runner_end_all(Runner *runner, EndCause cause, const char *sentence);
/* Does the guard hold all that may run here? Paused and never resumed needs no guard. */
bool runner_is_guarded(const Runner *runner);
/* Does the guard hold a process that lives? */
bool runner_holds_living(const Runner *runner);
/* Is there a process that lives, or may? Also true while nobody could be asked. */
bool runner_anything_lives(const Runner *runner);
/* Is everything that ever was started here dead, by what libvirt and the guard say? Then a lost node may come back. */
bool runner_is_clean(const Runner *runner);

const Run *runner_find(const Runner *runner, const VmId *vm);

/* Where a start or stop is, for a job: "binding", "guarding", "running", "stopping"; NULL: not here. */
const char *runner_stage(const Runner *runner, const VmId *vm);
