/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Capacity: whether a host has what a VM needs beside GPUs: memory, hugepages, CPU, files. What the host does not tell
 * is taken to be there: the checks at the start stay, and a VM that nobody could place for want of a fact would be
 * worse than one whose start fails.
 *
 * Memory goes by what the host has in all, less what the VMs that have a place there need, and not by what is free at
 * the moment: facts tell that too late, and it changes by what placement itself decides. What the kernel keeps as
 * hugepages is not there for anybody else. NUMA nodes count where a VM's own XML binds it to some: what gpupool adds is
 * a preference, and libvirt starts the VM without it, too. */

#include "core/facts.h"
#include "core/vm-needs.h"

#define CAPACITY_KINDS_MAX 16U          /* of memory, that the VMs of one host ask for: page sizes, NUMA nodes */

/* What the VMs that have a place on a host need together, by kind. */
typedef struct CapacityKind {
        bool hugepages;
        uint64_t size_bytes;            /* of these; 0: the host's default */
        uint64_t numa_nodes;            /* VmNeeds.numa_nodes */
        uint64_t memory_mib;
} CapacityKind;

typedef struct Capacity {
        CapacityKind kinds[CAPACITY_KINDS_MAX];
        size_t n_kinds;
} Capacity;

/* What is missing; bits. */
typedef enum CapacityLack {
        CAPACITY_MEMORY = 1 << 0,
        CAPACITY_HUGEPAGES = 1 << 1,
        CAPACITY_CPU = 1 << 2,
        CAPACITY_STORAGE = 1 << 3,
} CapacityLack;

/* Does it need any of this? Where not, no host lacks anything. */
bool capacity_is_asked_for(const VmNeeds *needs);

/* @host: NULL, nothing is known of it. @taken: of the others there, without this VM; NULL: nothing. 0: it can have the
 * VM. Costs a few compares, and for each path one hash where the host lacks any. */
unsigned capacity_judge(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken);

/* A VM comes to the others, or leaves them. */
void capacity_add(Capacity *taken, const VmNeeds *needs);
void capacity_take_off(Capacity *taken, const VmNeeds *needs);

/* Of the kind of memory that the VM needs, for people: what the host has, and what of that the others need. */
typedef struct CapacityRoom {
        uint64_t page_size_bytes;       /* of hugepages; 0: ordinary memory, or such pages as the host has not */
        uint64_t numa_nodes;            /* to which the VM is bound, and which are short; 0: the host as a whole */
        uint64_t has_bytes, taken_bytes;
} CapacityRoom;

CapacityRoom capacity_room(const VmNeeds *needs, const NodeFacts *host, const Capacity *taken);

/* Behind @from (NULL: from the first on) the next path that is not there, or whose storage does not answer; or NULL. */
const char *capacity_next_lost_path(const VmNeeds *needs, const NodeFacts *host, const char *from, bool *ret_hangs);
