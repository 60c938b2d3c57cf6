/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Chronicle: a registry to which a test tells one command after another. Each goes through the bytes of its entry, as
 * in life. Beside the test's own question it holds after every command that a refusal changed nothing and has a
 * sentence, that P1 and P2 stand, and that the order on which lookups rely is kept. */

#include <glib.h>

#include "core/names.h"
#include "core/registry.h"

typedef struct Chronicle {
        Registry *registry;
        Registry *twin;         /* where there is one, it is told the same, without checks */
        uint64_t index;
        Verdict verdict;        /* of the last command */
        char *sentence;         /* ... and what it said; NULL: nothing */
        RequestId request;      /* of the next command; null: it has none */
        uint32_t level;         /* that the next command needs */
        NodeId author;          /* of the next commands; null: NODE(1), and of what a node says of itself that node */
        uint64_t later_ms;      /* so much later than the index alone says the next commands are given */
        uint64_t not_after;     /* the index after which the next command is too late; 0: none */
        bool stopped;           /* the last command was beyond this build: -ENOTSUP */
        GByteArray *log;        /* where there is one: each entry, behind its size in two bytes, low first */
        bool quick;             /* no checks after a command: for those that fill a registry to its brim */
} Chronicle;

Chronicle chronicle_empty(void);
/* Cluster "lab", node "a" = NODE(1) in its first incarnation, pool "training" with GPUs 0 to 3 of it. */
Chronicle chronicle_of_a_pool(void);
/* The same with VM(1) "bert", which needs @count of training and is to run. */
Chronicle chronicle_of_a_vm(uint32_t count);
/* At the level of failover: nodes "a" = NODE(1) and "b" = NODE(2), both with a lease, and "w" = NODE(3), their witness;
 * pool "training" with GPUs 0 to 3 of a and of b; VM(1) "bert", which needs 2 of training and runs on a. */
Chronicle chronicle_of_a_pair(void);
void tell_of_a_pair(Chronicle *c);      /* the same, to a registry that is empty */
void chronicle_clear(Chronicle *c);

/* ---- things with numbers */

NodeId NODE(unsigned n);
VmId VM(unsigned n);
RequestId REQUEST(unsigned n);
/* The @n-th GPU of the node; IOMMU group 10 + n. */
GpuIdentity GPU(unsigned node, unsigned n);
AssignedGpu ASSIGNED(unsigned node, unsigned n);
InviteId INVITE(unsigned n);

/* 32 bytes that look like a hash; those of two numbers differ. */
typedef struct Hash { uint8_t bytes[HASH_SIZE]; } Hash;
Hash KEY(unsigned n);
Hash SECRET_HASH(unsigned n);

/* ---- telling; @command is the message of the kind, borrowed */

Verdict tell(Chronicle *c, Gpupool1__Entry__CommandCase kind, const void *command);
Verdict tell_entry(Chronicle *c, const Entry *entry);

Verdict tell_init(Chronicle *c, const char *name);      /* at level 1 */
Verdict tell_init_at(Chronicle *c, const char *name, uint32_t level);
/* A node says what it is; one that the cluster does not know is invited and admitted before. */
Verdict tell_node(Chronicle *c, unsigned node, const char *name, uint64_t incarnation, const char *boot_id);
Verdict tell_invite(Chronicle *c, unsigned invite, uint64_t expires_ms);
Verdict tell_invite_revoked(Chronicle *c, unsigned invite);
Verdict tell_node_removed(Chronicle *c, unsigned node);
Verdict tell_level(Chronicle *c, uint32_t level);

/* What failover needs, told at its level. The node says what it said before, with these times of its lease. */
#define TEST_LEASE_MS 3000U
#define TEST_DEATH_MS 600U
Verdict tell_lease(Chronicle *c, unsigned node, uint32_t lease_ms, uint32_t death_ms);
Verdict tell_lost(Chronicle *c, unsigned node, LossEvidence evidence);
/* The node is back: what it ran is dead, or it booted anew. */
Verdict tell_back(Chronicle *c, unsigned node, bool new_boot);
Verdict tell_drained(Chronicle *c, unsigned node, uint64_t timeout_ms);
Verdict tell_resumed(Chronicle *c, unsigned node, bool bring_home);
/* @target 0: wherever there is room. */
Verdict tell_moved(Chronicle *c, unsigned vm, unsigned target, bool home);
/* Stopped for another; a target (0: none) makes it one that nobody may ask for. */
Verdict tell_preempted(Chronicle *c, unsigned vm, unsigned preemptor, unsigned target);
Verdict tell_fencing(Chronicle *c, unsigned node, const char *agent, const char *name, const char *value);
Verdict tell_freeze(Chronicle *c, uint64_t duration_ms);
Verdict tell_thaw(Chronicle *c, uint64_t freezes);
Verdict tell_thawed(Chronicle *c, unsigned node);

/* An admission in all its parts, to be bent before it is told. */
typedef struct Admission {
        InviteId invite;
        NodeId node;
        Hash secret_hash, key;
        const char *name, *boot_id;
        uint32_t level;
        bool witness;
} Admission;

/* NODE(@node) with KEY(@node) comes with the secret of INVITE(@invite). */
Admission admission_of(unsigned node, unsigned invite, const char *name);
Verdict tell_admission(Chronicle *c, const Admission *admission);

/* A piece of a backup; or all of it, piece by piece, until one is refused. */
Verdict tell_import_piece(Chronicle *c, uint64_t checksum, uint64_t offset, uint64_t total, const uint8_t *bytes,
                          size_t size);
Verdict tell_import(Chronicle *c, const uint8_t *bytes, size_t size);

/* Pool with the GPUs 0 .. @n_gpus - 1 of the node. */
Verdict tell_pool(Chronicle *c, const char *name, unsigned node, unsigned n_gpus);
Verdict tell_pool_add(Chronicle *c, const char *name, const GpuIdentity *gpu);
Verdict tell_pool_remove(Chronicle *c, const char *name, const GpuIdentity *gpu);
Verdict tell_pool_rule(Chronicle *c, const char *name, const char *vendor, const char *device, const char *node);
/* Its only rule: every GPU of a known vendor, with this set. Told at the level that it needs. */
Verdict tell_pool_set(Chronicle *c, const char *name, const char *set);
/* The hardware of the node says that these GPUs are linked, "0+1 2+3". */
Verdict tell_fabric(Chronicle *c, unsigned node, const char *sets);
Verdict tell_pool_renamed(Chronicle *c, const char *name, const char *new_name);
Verdict tell_pool_deleted(Chronicle *c, const char *name);
Verdict tell_vm(Chronicle *c, unsigned vm, const char *name, const char *pool, uint32_t count);
Verdict tell_vm_xml(Chronicle *c, unsigned vm, const char *name, const char *xml);
Verdict tell_vm_requirement(Chronicle *c, unsigned vm, const char *pool, uint32_t count);
/* What came with the level of placement, told at that level. @model NULL: not said. */
Verdict tell_vm_model(Chronicle *c, unsigned vm, const char *pool, uint32_t count, const char *model);
Verdict tell_vm_preemption(Chronicle *c, unsigned vm, bool preempt, bool preemptible);
Verdict tell_vm_affinity(Chronicle *c, unsigned vm, const char *kind, const char *other);
Verdict tell_vm_priority(Chronicle *c, unsigned vm, int32_t priority);
Verdict tell_vm_restart(Chronicle *c, unsigned vm, RestartPolicy policy);
Verdict tell_vm_deleted(Chronicle *c, unsigned vm);
Verdict tell_desired(Chronicle *c, unsigned vm, VmDesire desire, uint64_t timeout_ms);
Verdict tell_quarantine(Chronicle *c, const GpuIdentity *gpu, const char *sentence);
Verdict tell_release(Chronicle *c, const GpuIdentity *gpu);

/* An assignment in all its parts, to be bent before it is told. */
typedef struct Claim {
        VmId vm;
        NodeId node;
        uint64_t incarnation, epoch;
        AssignedGpu gpus[GPUS_PER_VM_MAX + 1];
        size_t n_gpus;
        Gpupool1__PlacementNote **notes;        /* borrowed */
        size_t n_notes;
} Claim;

/* The next epoch of the VM on the node, with GPUs @first .. @first + @n - 1. */
Claim claim_of(const Chronicle *c, unsigned vm, unsigned node, unsigned first, unsigned n);
Verdict tell_assign(Chronicle *c, const Claim *claim);
/* What the node of the standing assignment says of it. */
Verdict tell_running(Chronicle *c, unsigned vm);
Verdict tell_ended(Chronicle *c, unsigned vm, EndCause cause, uint64_t ran_ms);

/* One line of a test each. */
#define ASSERT_DONE(telling) g_assert_cmpint((telling), ==, VERDICT_DONE)
#define ASSERT_REFUSED(why, telling) g_assert_cmpint((telling), ==, VERDICT_##why)

/* Any command of any kind, more often than not one that is refused. */
void tell_anything(Chronicle *c, GRand *random);

/* ---- asking */

const Vm *vm_told(const Chronicle *c, unsigned vm);
const NodeRecord *node_told(const Chronicle *c, unsigned node);
/* The last event of this kind, or NULL. */
const Event *event_told(const Chronicle *c, const char *kind);
/* The state as bytes, without index, requests and a backup that is coming in: what a refusal leaves alone. Owned by
 * the caller. */
uint8_t *state_bytes(const Registry *registry, size_t *ret_size);
/* Aborts with what is wrong. */
void assert_registry_is_sound(const Registry *registry);
