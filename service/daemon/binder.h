/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Binder: moves this node's GPUs between the host's drivers and its VMs, as core/binding.h decides: asks gpupool-bind,
 * tells the registry which are to be in quarantine, and the facts which are stuck or cannot be bound. */

#include <systemd/sd-event.h>

#include "core/binding.h"
#include "daemon/history.h"
#include "daemon/local-facts.h"

typedef struct Binder Binder;

typedef struct BinderConfig {
        sd_event *event;
        const Runner *runner;
        History *history;
        LocalFacts *facts;
        const char *socket;
        uint64_t timeout_us;
        void (*changed)(void *userdata);        /* take a turn soon */
        void *userdata;
} BinderConfig;

/* All that @config points to is borrowed and outlives it, but for history, which may have stopped. 0 or -errno. */
int binder_new(Binder **ret, const BinderConfig *config);
Binder *binder_free(Binder *binder);
DEFINE_CLEANUP(Binder *, binder_free);

/* Whether the GPUs are on vfio-pci now, for this VM. @sentence: why not, or NULL. */
typedef void (*BinderAnswered)(bool done, const char *sentence, void *userdata);

/* Takes the GPUs of @vm's assignment for it. Calls back once, in a later turn; not any more when it is freed. 0 or
 * -ENOMEM. */
int binder_claim(Binder *binder, const Vm *vm, BinderAnswered answered, void *userdata);

/* The next questions. *ret_wake_us: when time alone brings one (UINT64_MAX: never). > 0: the facts have changed; 0; or
 * -ENOMEM. */
int binder_turn(Binder *binder, const World *world, uint64_t now_us, uint64_t *ret_wake_us);
