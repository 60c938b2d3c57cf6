/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Steps: carries out what the runner wants next: by gpupool-bind, libvirt, the guard, the registry, and tells it how
 * it went. Keeps the pidfds of this node's VMs and watches them itself, so that a death is known also without the
 * guard. */

#include <systemd/sd-event.h>

#include "adapters/guard/guard-link.h"
#include "adapters/libvirt/hypervisor.h"
#include "core/runner.h"
#include "daemon/binder.h"
#include "daemon/history.h"

typedef struct Steps Steps;

typedef struct StepsConfig {
        sd_event *event;
        Runner *runner;
        Hypervisor *hypervisor;
        GuardLink *guard;
        Binder *binder;
        History *history;
        NodeId node;
        uint64_t kill_timeout_us;
        void (*answered)(void *userdata);       /* the runner may have a next step; do not act on it at once */
        void *userdata;
} StepsConfig;

/* All that @config points to is borrowed and outlives it. */
int steps_new(Steps **ret, const StepsConfig *config);
/* After binder, hypervisor, guard and history are freed: then no answer comes any more. */
Steps *steps_free(Steps *steps);
DEFINE_CLEANUP(Steps *, steps_free);

/* Begins @task. Whatever happens, runner_answer() follows, now or later. 0 or -ENOMEM. */
int steps_begin(Steps *steps, const World *world, const RunTask *task);

/* Keeps a VM's pidfd and watches it; one that is kept already stays. Takes @pidfd, also on failure. 0 or -errno. */
int steps_adopt(Steps *steps, const VmId *vm, uint64_t epoch, int pidfd);
/* Lets go of the pidfds of VMs that the runner no longer has. */
void steps_tidy(Steps *steps);
