/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Registry: what the cluster has decided. State x Entry -> State x Result, pure, the same on every node.
 *
 * The apply function is the last guard of the promises P1 and P2: it refuses an assignment of a VM that has one, of a
 * GPU that is taken or whose IOMMU group is, of a node that is not a member in this incarnation. Placement proposes,
 * the registry disposes. */

#include "core/entry.h"
#include "core/fabric.h"
#include "core/id.h"
#include "core/pool.h"
#include "core/vm.h"
#include "util/array.h"
#include "util/cleanup.h"

/* On what ground a lost node's VMs are held for dead (design, 5.6). */
typedef enum LossEvidence {
        LOSS_BY_LEASE,                  /* the last possible one has run out, with all margins */
        LOSS_BY_POWER_OFF,              /* a fence agent confirmed it */
        LOSS_BY_NEW_BOOT,               /* never decided: it follows from an announcement */
        LOSS_BY_WORD,                   /* an administrator vouched for it */
        LOSS_EVIDENCE_COUNT,
} LossEvidence;

typedef enum DrainCause {
        DRAIN_NONE,
        DRAIN_BY_HAND,
        DRAIN_FLAPPING,                 /* lost FLAP_LOSSES times within FLAP_MS */
        DRAIN_CAUSE_COUNT,
} DrainCause;

#define FLAP_LOSSES 3U
#define FLAP_MS (60U * 60U * 1000U)

typedef struct FenceParameter {
        char *name;
        char *value;                    /* may be a secret */
} FenceParameter;

/* How a node can be switched off. */
typedef struct Fence {
        char *agent;                    /* NULL: not at all */
        FenceParameter *parameters;
        size_t n_parameters;
} Fence;

/* A member of the cluster. */
typedef struct NodeRecord {
        NodeId id;
        char *name;
        char *boot_id;
        uint64_t incarnation;
        TextList addresses;
        uint32_t level;                 /* the highest that it supports */
        uint8_t key[HASH_SIZE];
        bool has_key;
        bool witness;                   /* it votes and runs nothing */
        uint64_t joined_index;          /* of the entry that made it a member */
        uint32_t lease_ms;              /* of its leases; 0: it has none, so no time proves that its VMs are dead */
        uint32_t death_ms;              /* after the end of a lease its VMs are dead within this */
        uint64_t long_lease_ms;         /* it may have a lease of this length because of a freeze, or because it is or
                                         * was one of LEASE_ALONE_NODES; 0: no */
        bool lost;                      /* in this incarnation: gets no lease and no VM until it has a greater one */
        bool lost_idle;                 /* and had no VM then: nothing has to be proven before it comes back */
        LossEvidence evidence;          /* of the present or last loss */
        uint64_t losses_ms[FLAP_LOSSES];        /* when it was lost; the first n_losses, oldest first */
        uint32_t n_losses;
        DrainCause drain;               /* no VM is placed on it */
        uint64_t drain_timeout_ms;      /* for each guest to shut down; 0: the node's setting */
        bool bring_home;                /* VMs whose home it is are to be moved back */
        Fence fence;
        FabricSets fabric;              /* what its hardware has told of linked GPUs */
} NodeRecord;

/* Somebody who knows the secret may become a member, once. */
typedef struct Invite {
        InviteId id;
        uint8_t secret_hash[HASH_SIZE];
        uint64_t expires_ms;            /* realtime of its author */
        NodeId node;                    /* that was admitted by it; null: it is open */
} Invite;

/* Was a member and may not come back as it is. */
typedef struct RemovedNode {
        NodeId id;
        uint8_t key[HASH_SIZE];
        bool has_key;
        char *name;
        uint64_t time_ms;
} RemovedNode;

/* A backup whose last piece has not come yet. */
typedef struct Import {
        uint64_t checksum;
        uint64_t total;                 /* 0: none is under way */
        uint8_t *items;
        size_t n;
        size_t allocated;
} Import;

typedef enum QuarantineCause {
        QUARANTINE_BY_HAND,
        QUARANTINE_RESET_FAILED,
        QUARANTINE_CONFIG_UNREADABLE,
        QUARANTINE_STUCK,               /* its binding or inspection hangs in the kernel */
        QUARANTINE_UNFIT,               /* its link is down, or a memory region is gone */
        QUARANTINE_CAUSE_COUNT,
} QuarantineCause;

/* A GPU that is never placed, whatever else is true of it, until Release or another card in its slot. */
typedef struct Quarantine {
        GpuIdentity gpu;
        QuarantineCause cause;
        char *sentence;
        uint64_t time_ms;
} Quarantine;

typedef enum ObjectKind {
        OBJECT_KIND_CLUSTER,
        OBJECT_KIND_NODE,       /* named by its id, hex */
        OBJECT_KIND_GPU,        /* "<node hex> <address>" */
        OBJECT_KIND_POOL,       /* name */
        OBJECT_KIND_VM,         /* uuid */
        OBJECT_KIND_COUNT,
} ObjectKind;

/* One thing that was decided, kept for people: the last EVENTS_MAX of them are also the audit trail. */
typedef struct Event {
        uint64_t sequence;
        uint64_t time_ms;       /* realtime of the author's node */
        char *kind;             /* "pool-created", "vm-assigned", ... */
        ObjectKind object_kind;
        char *object;
        NodeId node;            /* where the call came in */
        uint32_t uid;
        char *user;             /* "" for the service itself */
        char *action;           /* polkit action; "" for the service itself */
        char *message;
} Event;

typedef enum Verdict {
        VERDICT_DONE,
        VERDICT_NOT_FOUND,
        VERDICT_EXISTS,
        VERDICT_IN_USE,
        VERDICT_NOT_ASSIGNABLE,
        VERDICT_NO_CAPACITY,
        VERDICT_INVALID_ARGUMENT,
        VERDICT_CONFLICT,       /* the state moved on since the caller looked */
        VERDICT_LEVEL_TOO_LOW,
        VERDICT_QUARANTINED,
        VERDICT_LIMITS_EXCEEDED,
        VERDICT_EXPIRED,        /* came too late to be told from a retry (Entry.not_after_index); never remembered */
        VERDICT_COUNT,
} Verdict;

typedef struct Result {
        Verdict verdict;
        char *sentence;         /* NULL with VERDICT_DONE */
} Result;

void result_clear(Result *result);
const char *verdict_to_error(Verdict verdict);          /* D-Bus error name; NULL for VERDICT_DONE */

/* Remembers the answer to a request, so that a retry gets the same and changes nothing. */
typedef struct RequestRecord {
        RequestId id;
        uint64_t fingerprint;
        Verdict verdict;
        char *sentence;
} RequestRecord;

typedef struct Registry {
        ClusterId cluster;      /* null before the first entry */
        char *name;
        uint32_t level;
        uint64_t index;         /* of the last entry applied */
        uint64_t members_index; /* of the last that touched nodes or removed, or a later one: of a snapshot, its own */
        uint64_t next_event;
        ARRAY(NodeRecord) nodes;        /* by id */
        ARRAY(Pool) pools;              /* by name */
        ARRAY(Vm) vms;                  /* by id */
        ARRAY(Quarantine) quarantines;  /* by identity */
        ARRAY(Event) events;            /* oldest first */
        ARRAY(RequestRecord) requests;  /* oldest first */
        ARRAY(Invite) invites;          /* oldest first */
        ARRAY(RemovedNode) removed;     /* oldest first */
        Import import;
        uint64_t freezes;               /* how often there was one, or too few nodes were left for ordinary leases */
        uint64_t frozen_ms;             /* of the present one; 0: none */
        size_t xml_total;               /* bytes of all VMs' XML and policies, held against XML_TOTAL_MAX */
        size_t notes_total;             /* bytes of all VMs' placement notes */
} Registry;

int registry_new(Registry **ret);
Registry *registry_free(Registry *registry);
DEFINE_CLEANUP(Registry *, registry_free);

/* Applies @entry, the @index-th of the history. Whatever it says, the outcome is in *ret_result, to be cleared by the
 * caller. Returns 0; or -ENOMEM, then the state may be half changed and must be thrown away; or -ENOTSUP, when the
 * cluster goes on at a functional level that this build does not know: it must stop rather than guess. */
int registry_apply(Registry *registry, uint64_t index, const Entry *entry, Result *ret_result);

const NodeRecord *registry_find_node(const Registry *registry, const NodeId *id);
const NodeRecord *registry_find_node_name(const Registry *registry, const char *name);
const NodeRecord *registry_find_node_key(const Registry *registry, const uint8_t key[HASH_SIZE]);
const Invite *registry_find_invite(const Registry *registry, const InviteId *id);
const RemovedNode *registry_find_removed(const Registry *registry, const NodeId *id);
const Pool *registry_find_pool(const Registry *registry, const char *name);
const Pool *registry_find_pool_of_gpu(const Registry *registry, const GpuIdentity *gpu);
const Vm *registry_find_vm(const Registry *registry, const VmId *id);
const Vm *registry_find_vm_name(const Registry *registry, const char *name);
/* The VM to which this GPU is assigned, or NULL. */
const Vm *registry_find_vm_of_gpu(const Registry *registry, const GpuIdentity *gpu);
/* The VM that has a GPU of this IOMMU group of the node, or NULL. */
const Vm *registry_find_vm_of_group(const Registry *registry, const NodeId *node, int32_t iommu_group);
/* A serial that could not be read, then or now, takes no GPU out of quarantine. */
const Quarantine *registry_find_quarantine(const Registry *registry, const GpuIdentity *gpu);

/* Who keeps the cluster from working at @level: adds a sentence for each member. 0 or -ENOMEM. */
int registry_level_obstacles(const Registry *registry, uint32_t level, TextList *ret);

/* Ordinary leases are in force: the cluster is not frozen, and it has a majority without any one of its nodes, which
 * could start that one's VMs. */
bool registry_has_ordinary_leases(const Registry *registry);
/* By what the registry knows nothing of this node runs: no VM is assigned to it, and none was when it was lost. */
bool registry_node_is_idle(const Registry *registry, const NodeRecord *node);
/* The longest lease that this node may have been granted, in ms; 0: it has none. */
uint64_t node_record_longest_lease_ms(const NodeRecord *node);

/* May it be given a VM, as far as that goes: were it to die then, time alone would prove it. Not while it was admitted
 * and has announced no leases. Below LEVEL_FAILOVER nothing is proven so, and nothing asked for. */
bool node_record_proves_its_end(const Registry *registry, const NodeRecord *node);
const char *loss_evidence_to_text(LossEvidence evidence);       /* "lease", "power-off", "new-boot", "confirmed" */

const char *quarantine_cause_to_sentence(QuarantineCause cause);
const char *object_kind_to_text(ObjectKind kind);

/* The whole state as bytes of a Snapshot (interfaces/registry.proto), and back. 0, -ENOMEM, or -E2BIG over
 * SNAPSHOT_SIZE_MAX: nobody could read it back. */
int registry_encode(const Registry *registry, uint8_t **ret_bytes, size_t *ret_size);
/* The same without what an import does not take: the journal, requests, invitations, removed nodes, fencing. */
int registry_encode_backup(const Registry *registry, uint8_t **ret_bytes, size_t *ret_size);

typedef enum SnapshotVerdict {
        SNAPSHOT_GOOD,
        SNAPSHOT_GARBAGE,
        SNAPSHOT_NEWER,         /* a format or functional level that this build does not know */
} SnapshotVerdict;

/* Returns a SnapshotVerdict or -ENOMEM; *ret is set with SNAPSHOT_GOOD only. */
int registry_decode(const uint8_t *bytes, size_t size, Registry **ret);
