/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Local facts: what this node observes of itself, put together from those who observe: udev, libvirt, the guard. */

#include <systemd/sd-event.h>

#include "adapters/bus/bus.h"
#include "core/facts.h"

typedef struct LocalFacts LocalFacts;

typedef struct LocalFactsConfig {
        NodeId node;
        uint64_t coalesce_us;
        const char *probe_socket;
        uint64_t probe_timeout_us;
        void (*changed)(void *userdata);        /* called before the loop goes on */
        void (*device_event)(const BusDeviceEvent *event, void *userdata);
        void *userdata;
} LocalFactsConfig;

int local_facts_new(LocalFacts **ret, sd_event *event, const LocalFactsConfig *config);
LocalFacts *local_facts_free(LocalFacts *facts);
DEFINE_CLEANUP(LocalFacts *, local_facts_free);

/* Borrowed; the same structure always, with other contents after each changed(). */
const NodeFacts *local_facts_get(const LocalFacts *facts);

/* Have the host and all its GPUs been looked at once? Before, a GPU that is not among the facts is not missing. */
bool local_facts_are_complete(const LocalFacts *facts);

void local_facts_set_hypervisor(LocalFacts *facts, HypervisorState state, const char *libvirt_version);
void local_facts_set_guard(LocalFacts *facts, bool connected);
/* Within what time its watchdog resets a host that hangs; 0: it has none. True: that is news. */
bool local_facts_set_watchdog(LocalFacts *facts, uint64_t watchdog_us);
/* Its registry cannot be written. True: that is news. */
bool local_facts_set_registry_stuck(LocalFacts *facts, bool stuck);
/* What is known of a GPU's binding, each NULL: nothing is wrong. True: that is news. */
bool local_facts_set_binding(LocalFacts *facts, PciAddress gpu, const char *stuck, const char *unbindable);
/* Files that VMs of the cluster need and that are lost to this host; takes over the sets. True: that is news. */
bool local_facts_set_paths(LocalFacts *facts, PathSet *missing, PathSet *hanging, uint32_t untold);
/* Which CPUs libvirt can give a VM here; takes over both, empty: not known. True: that is news. */
bool local_facts_set_cpus(LocalFacts *facts, TextList *models, char **vendor);
/* Reads a GPU anew, soon. */
void local_facts_look_at(LocalFacts *facts, PciAddress gpu);
/* Fence agents that this node lacks; takes over what is in the list. True: that is news. */
bool local_facts_set_missing_agents(LocalFacts *facts, TextList *agents);
