/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Binding: on whose side of the door each GPU of this node is, and what is to be asked of gpupool-bind next
 * (core/bind.h). Pure: it looks at the facts, the registry and the runner, and says which question to put.
 *
 *              take, for a VM that is assigned                 its process is dead, proven
 *      FREE ───────────────────────────────────► TAKEN ──────────────────────────────────► DIRTY ◄─┐
 *        ▲                                         ▲                                         │     │ released from
 *        │ give; or it stays on vfio-pci           │ take, for the next VM                   │     │ quarantine
 *        │ by the pool's setting                   │                                inspect  │     │
 *        └──────────────────────────────────── CLEAN ◄──────── passed ───────────────────────┴─────┘
 *                                                                                     failed: quarantine
 *
 * Nothing is given to a VM that another one, or nobody knows who, had before and that was not inspected since: what is
 * on vfio-pci and was not seen to come there is dirty, as after a restart of the service; and so is what was inspected
 * and then is seen in somebody else's hands, as a domain that an administrator starts himself; and what a take that did
 * not come about, or that nobody waits for any more, may have left half-way. A question that is overdue
 * makes the GPU stuck: it is put in quarantine, the claim fails, and until gpupool-bind comes back nothing more is
 * asked. */

#include "core/bind.h"
#include "core/runner.h"
#include "core/world.h"

/* After something that failed and may go better next time: a process had the GPU open, a driver refused. Doubles. */
#define BINDING_PAUSE_FIRST_US 5000000U
#define BINDING_PAUSE_MOST_US 300000000U
/* A claim fails no sooner after that: the leader must know why, or it would place the VM here again. */
#define BINDING_TELL_US 1000000U
/* Which card is in a slot the probe tells, or it does not come. */
#define BINDING_UNSURE_US 10000000U

typedef enum BindingState {
        BINDING_FREE,           /* with the host's driver, or parked on vfio-pci */
        BINDING_TAKEN,          /* a VM has it, or is about to */
        BINDING_DIRTY,          /* a VM had it, or may have had */
        BINDING_CLEAN,          /* on vfio-pci, and inspected */
} BindingState;

typedef struct Binding {
        GpuIdentity gpu;
        PciAddress functions[BIND_FUNCTIONS_MAX];       /* that move with it, the GPU first */
        size_t n_functions;
        BindingState state;
        bool parked;                    /* free: on vfio-pci, inspected */
        bool given;                     /* back to the host, and not seen away from vfio-pci since: there by another */
        bool take_failed;               /* and none has come about since */
        uint64_t answered_us;           /* when gpupool-bind had done something last: older facts do not tell what */
        bool asked;                     /* a question is under way */
        BindVerb verb;                  /* ... this one */
        bool overdue;                   /* ... for longer than it may be */
        VmId vm;                        /* whose it is, or is on its way to be */
        uint64_t epoch;                 /* 0: nobody's */
        VmId wanted_by;
        uint64_t wanted_epoch;          /* 0: by nobody */
        GpuIdentity wanted_card;        /* the one that is meant, which gpupool-bind holds against what is there */
        uint64_t unsure_since_us;       /* wanted, and nobody knows whether it is that card; 0: it is known */
        char *stuck;                    /* what does not come back, for people; NULL: nothing */
        char *trouble;                  /* why it cannot be bound at the moment, for people; NULL: it can */
        uint64_t not_before_us;         /* nothing is asked before */
        uint64_t failed_us;             /* when something went wrong last */
        unsigned failures;              /* in a row */
        bool quarantined;               /* by the registry, when it was looked at last */
        bool to_quarantine;             /* and the registry does not know yet */
        bool quarantining;              /* it is being told; the caller's to set */
        QuarantineCause cause;
        char *reason;
        bool seen;                      /* among the facts */
} Binding;

typedef struct Bindings {
        ARRAY(Binding) items;           /* by address */
} Bindings;

void bindings_clear(Bindings *bindings);

/* Holds them against the facts, the registry and the runner: GPUs come and go, runs end. To be called once the facts
 * are complete and the runner has followed a registry that is up to date. 0 or -ENOMEM. */
int bindings_follow(Bindings *bindings, const World *world, const Runner *runner);

/* The GPUs of this VM's assignment are wanted, for the epoch of now; to be said until it is decided. None is taken
 * before it is known to be the card that is meant. */
void bindings_claim(Bindings *bindings, const Vm *vm);

typedef enum BindingClaim {
        BINDING_CLAIM_WAITS,
        BINDING_CLAIM_DONE,             /* all are on vfio-pci, for this VM */
        BINDING_CLAIM_FAILED,           /* and what stands in the way of the next try is shown, or in the registry */
} BindingClaim;

/* *ret_sentence: why it failed; borrowed, or NULL. *wake_us becomes earlier where time alone decides it. */
BindingClaim bindings_claim_state(const Bindings *bindings, const World *world, const VmId *vm, uint64_t epoch,
                                  uint64_t now_us, uint64_t *wake_us, const char **ret_sentence);

/* The next GPU about which something is to be asked: then it is asked, until bindings_answer(). NULL: none, and
 * *ret_wake_us (UINT64_MAX: never) says when time alone brings one. Good until the next bindings_follow(). */
const Binding *bindings_next(Bindings *bindings, const World *world, uint64_t now_us, uint64_t *ret_wake_us);

/* Both return 0 or -ENOMEM. */
int bindings_answer(Bindings *bindings, PciAddress gpu, BindVerb verb, BindResult result, const char *sentence,
                    uint64_t now_us);
int bindings_overdue(Bindings *bindings, PciAddress gpu, BindVerb verb);

/* The registry was told of the quarantine. Whether it is seen there is another matter: an administrator may have
 * released it before this node followed. */
void bindings_quarantine_told(Bindings *bindings, const GpuIdentity *gpu);
/* The registry takes no quarantine of it. 0 or -ENOMEM. */
int bindings_quarantine_refused(Bindings *bindings, const GpuIdentity *gpu, uint64_t now_us);
/* Whether it was told is not known: to be told again. Of these three none is about the card that is there when it was
 * replaced meanwhile. */
void bindings_quarantine_untold(Bindings *bindings, const GpuIdentity *gpu);
/* The next one that is to be put in quarantine and about which nobody is told yet; NULL: none. */
Binding *bindings_next_quarantine(Bindings *bindings);
/* Whether it is to be looked at again soon, as its VM may have lost it. Not while that VM's run is at something else:
 * what is read then is not looked at. */
bool binding_is_odd(const Binding *binding, const Runner *runner);
Binding *bindings_find(const Bindings *bindings, PciAddress gpu);
