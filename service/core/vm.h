/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* VM: a libvirt domain that the cluster owns: its XML without GPUs, its requirement, its policy, and at most one live
 * assignment. Part of the registry. */

#include "core/facts.h"
#include "core/vm-needs.h"
#include "util/array.h"
#include "util/cleanup.h"

#define VM_PRIORITY_MIN (-1000)
#define VM_PRIORITY_MAX 1000
#define VM_PRIORITY_DEFAULT 50
#define VM_ATTEMPTS_MAX 5U              /* failures in a row; then the VM is failed and waits for a person */
#define VM_STABLE_MS (10U * 60U * 1000U)        /* who ran this long starts to count anew */

typedef enum RestartPolicy {
        RESTART_ALWAYS,         /* also after a shutdown from inside */
        RESTART_ON_FAILURE,
        RESTART_NEVER,
        RESTART_POLICY_COUNT,
} RestartPolicy;

/* What was asked for last. */
typedef enum VmDesire {
        VM_RUN,
        VM_SHUTDOWN,            /* the guest is asked, and stopped when its time is over */
        VM_STOP,
        VM_RESTART,             /* stopped at once, then run again */
        VM_DESIRE_COUNT,
} VmDesire;

typedef enum AssignmentPhase {
        ASSIGNMENT_NONE,
        ASSIGNMENT_STARTING,    /* decided; the node has not said yet that it runs */
        ASSIGNMENT_RUNNING,
        ASSIGNMENT_STOPPING,
        ASSIGNMENT_PHASE_COUNT,
} AssignmentPhase;

typedef enum EndCause {
        END_REQUESTED,
        END_GUEST_SHUTDOWN,
        END_CRASHED,
        END_START_FAILED,
        END_DESTROYED,
        END_GPU_LOST,
        END_NODE_LOST,          /* the node is gone or has booted anew: not the VM's fault, never counted */
        END_LEASE_ENDED,        /* the node's lease ran out, its guard ended it: likewise */
        END_GUARD_LOST,         /* the node's guard was gone: likewise */
        END_GPU_UNUSABLE,       /* it never ran, for a GPU could not be bound: it finds another place, likewise */
        END_CAUSE_COUNT,
} EndCause;

typedef struct AssignedGpu {
        GpuIdentity gpu;
        int32_t iommu_group;    /* -1 none */
} AssignedGpu;

/* VM -> node + exact GPUs, with an epoch. */
typedef struct Assignment {
        AssignmentPhase phase;
        NodeId node;
        uint64_t incarnation;
        AssignedGpu *gpus;
        size_t n_gpus;
        bool ran;               /* this epoch was reported running */
        bool leased;            /* decided at LEVEL_FAILOVER or above: it ends with its node's lease */
} Assignment;

/* It binds both, whoever of the two declares it. */
typedef enum AffinityKind {
        AFFINITY_WITH,          /* only on the node of the other, while that has one */
        AFFINITY_APART,         /* never there */
        AFFINITY_RATHER_WITH,   /* there, if it costs nobody a place. Soft, like the next: both need LEVEL_PLACEMENT */
        AFFINITY_RATHER_APART,
        AFFINITY_KIND_COUNT,
} AffinityKind;

typedef struct Affinity {
        AffinityKind kind;
        char *vm;               /* name of the other VM */
} Affinity;

/* Why a node was taken or not, kept with the decision. */
typedef struct PlacementNote {
        char *node;             /* name */
        bool chosen;
        char *why;
} PlacementNote;

typedef struct Vm {
        VmId id;
        char *name;
        char *xml;
        char *pool;             /* requirement: pool x count */
        uint32_t count;
        char *model;            /* "10de:2330": only GPUs whose ids match the patterns; NULL: any */
        int32_t priority;
        RestartPolicy restart;
        TextList preferred_nodes;
        Affinity *affinity;
        size_t n_affinity;
        bool preempt;           /* to have a place it may stop preemptible VMs of lower priority */
        bool preemptible;       /* it may be stopped so */
        uint32_t owner_uid;
        char *owner_user;
        bool run;               /* Desired: running or stopped */
        VmDesire stop_kind;     /* how an assignment that is stopping is to be stopped */
        uint64_t stop_timeout_ms;       /* 0: the node's setting */
        uint64_t epoch;         /* of the last assignment */
        uint32_t attempts;      /* failures in a row */
        bool failed;            /* too many; only Start ends it */
        char *reason_code;      /* why it does not run, where the registry knows */
        char *reason;
        Assignment assignment;
        NodeId target;          /* that it is moved to, until it has a place again; null: none */
        NodeId home;            /* that it left because that was drained; null: none */
        PlacementNote *notes;
        size_t n_notes;
        VmNeeds needs;          /* of xml, made whenever that is; in no entry and no snapshot */
} Vm;

void vm_clear(Vm *vm);
void vm_notes_clear(Vm *vm);
size_t placement_note_size(const char *node, const char *why);  /* bytes that it is counted with */
void vm_affinity_clear(Vm *vm);
void assignment_clear(Assignment *assignment);

const char *affinity_kind_to_text(AffinityKind kind);           /* "with", "apart", "rather-with", "rather-apart" */
int affinity_kind_from_text(const char *text, AffinityKind *ret);       /* 0 or -EINVAL */

static inline bool affinity_kind_is_soft(AffinityKind kind) {
        return kind == AFFINITY_RATHER_WITH || kind == AFFINITY_RATHER_APART;
}

/* "VENDOR:DEVICE": patterns as in a pool's rule, both there. */
bool vm_model_is_valid(const char *model);
/* Whether a GPU with these ids can be one of @vm's. */
bool vm_model_matches(const Vm *vm, uint16_t vendor, uint16_t device);
/* The needs of its XML, anew. 0 or -ENOMEM. */
int vm_read_needs(Vm *vm);

/* The state a person sees (design, part 4). */
typedef enum VmState {
        VM_STATE_STOPPED,
        VM_STATE_WAITING,       /* wants to run, has no place */
        VM_STATE_STARTING,
        VM_STATE_RUNNING,
        VM_STATE_STOPPING,
        VM_STATE_BACKOFF,       /* failed before; tries again by itself */
        VM_STATE_FAILED,
        VM_STATE_COUNT,
} VmState;

VmState vm_state(const Vm *vm);
const char *vm_state_to_text(VmState state);

const char *restart_policy_to_text(RestartPolicy policy);               /* "always", "on-failure", "never" */
int restart_policy_from_text(const char *text, RestartPolicy *ret);     /* 0 or -EINVAL */

/* What the end of an assignment means by the VM's policy: desired state, attempts, failed and reason change, nothing
 * else. @sentence says what happened; where it is NULL or empty, the cause speaks for itself. 0 or -ENOMEM. */
int vm_ended(Vm *vm, EndCause cause, const char *sentence, uint64_t ran_ms);
const char *end_cause_to_text(EndCause cause);

/* It is to have a place: somebody wants it to run, and it has not failed for good. */
static inline bool vm_is_to_run(const Vm *vm) {
        return vm->run && !vm->failed;
}

/* ... and has none. */
static inline bool vm_waits(const Vm *vm) {
        return vm_is_to_run(vm) && vm->assignment.phase == ASSIGNMENT_NONE;
}

/* Its GPU or its node was lost under it and it has not found a new place yet: it may take what a pool keeps in
 * reserve. */
bool vm_lost_its_place(const Vm *vm);

/* May @vm, which is to run, have @other stopped, to get its GPUs? Only what runs is stopped: of what starts or stops
 * nobody knows what it has. */
bool vm_may_preempt(const Vm *vm, const Vm *other);
#define REASON_PREEMPTED "preempted"
/* It is stopping for another VM (reason_code is REASON_PREEMPTED until it has stopped). */
bool vm_makes_way(const Vm *vm);
