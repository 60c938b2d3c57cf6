/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* World: what one node knows at one moment: the registry and the facts of every node. Everything that a person is
 * shown is derived from it here, so that every node shows the same. Borrowed, read only. */

#include "core/facts.h"
#include "core/fence.h"
#include "core/registry.h"
#include "core/survey.h"

/* A node's part in the registry. */
typedef enum NodeRole {
        NODE_READER,                    /* follows the history */
        NODE_STANDBY,                   /* has the whole log, becomes a voter when one is lost */
        NODE_VOTER,
} NodeRole;

/* Of a member: its part, and whether the leader hears it. The same on every node that hears the leader. */
typedef struct NodeLife {
        NodeId node;
        NodeRole role;
        bool silent;
        uint64_t silent_since_ms;       /* realtime of the leader's node, for people */
} NodeLife;

typedef struct World {
        const Registry *registry;
        const NodeFacts *const *nodes;  /* sorted by node id */
        size_t n_nodes;
        const NodeLife *lives;          /* sorted by node id; who is not among them is a reader and not silent */
        size_t n_lives;
        const FencedNode *fenced;       /* sorted by node id, as the leader says; to others it does nothing */
        size_t n_fenced;
        NodeId local;
        bool removed;                   /* this node was told that it is no member any more */
} World;

const NodeLife *world_find_life(const World *world, const NodeId *node);
const FencedNode *world_find_fenced(const World *world, const NodeId *node);

typedef enum NodeState {
        NODE_STATE_JOINING,             /* admitted, nothing is known of it yet; or not yet a member of its own one */
        NODE_STATE_ONLINE,
        NODE_STATE_DRAINING,            /* VMs are leaving it */
        NODE_STATE_DRAINED,             /* none is placed on it */
        NODE_STATE_SILENT,              /* not heard of; its VMs may still run */
        NODE_STATE_LOST,                /* its VMs are held for dead, on evidence */
        NODE_STATE_REMOVED,
} NodeState;

NodeState world_node_state(const World *world, const NodeId *node);
const char *node_state_to_text(NodeState state);
/* "voter", "standby", "witness" (a voter that runs nothing), "reader". */
const char *world_node_role_text(const World *world, const NodeId *node);

const NodeFacts *world_find_facts(const World *world, const NodeId *node);
/* Name of a node for people; its id in hex where no name is known, good until the end of the caller's block. */
#define world_node_name(world, node) world_node_name_in((world), (node), (char[ID_TEXT_SIZE]) {})
const char *world_node_name_in(const World *world, const NodeId *node, char room_for_hex[static ID_TEXT_SIZE]);

/* The present GPU with this identity, or NULL. */
const GpuFacts *world_find_gpu(const World *world, const GpuIdentity *identity);
/* The same, but only if it is known to be that card: NULL also while the serial of a card that has one is not read. To
 * be asked before anything is done to a device. */
const GpuFacts *world_find_certain_gpu(const World *world, const GpuIdentity *identity);

typedef enum GpuState {
        GPU_PRESENT,
        GPU_ASSIGNED,
        GPU_QUARANTINED,
        GPU_ABSENT,             /* known to the registry, not seen */
} GpuState;

/* One GPU that anyone knows of: seen, or pooled, assigned or quarantined while not seen. */
typedef struct GpuView {
        GpuIdentity identity;           /* the registry's, where it knows the GPU; the address where it is, or was */
        const GpuFacts *facts;          /* NULL: absent */
        const NodeFacts *host;          /* NULL: no facts of its node */
        GpuState state;
        const Pool *pool;               /* or NULL */
        const Vm *vm;                   /* or NULL */
        const Vm *group_vm;             /* the VM that has it or another device of its IOMMU group, or NULL */
        const Quarantine *quarantine;   /* or NULL */
        bool assignable;                /* it is here, and nothing that gpu_view_survey() tells is in the way */
        uint32_t set_size;              /* GPUs that go to one VM with it, itself among them; 0: it goes alone */
        char set_missing[GPU_SLOT_SIZE];        /* where one of them is not there; "": all are */
} GpuView;

typedef ARRAY(PciAddress) PciAddresses;

typedef struct GpuViews {
        GpuView *items;
        size_t n;
        size_t allocated;
} GpuViews;

/* All of them, sorted by node, address, then presence. Near linear in what there is. 0 or -ENOMEM. */
int world_list_gpus(const World *world, GpuViews *ret);
void gpu_views_clear(GpuViews *views);
/* Judges anew what follows from the facts, the VM and the quarantine that the view has; group_vm is left to the caller
 * where the view has no VM. 0 or -ENOMEM. */
int world_refresh_view(const World *world, GpuView *view);
void world_view_gpu(const World *world, const GpuIdentity *identity, GpuView *ret);
const char *gpu_state_to_text(GpuState state);

/* What stands in the way of this GPU, as a person is shown it: the survey's word, without what only a VM of ours that
 * has the GPU brings about. Appends nothing for a GPU that is absent. 0 or -ENOMEM. */
int gpu_view_survey(const GpuView *view, Blockers *ret);

/* The slots of all GPUs that go to one VM with this one, itself among them: as a rule of its pool says, else as its
 * hardware tells now or told once. None: it goes alone. 0 or -ENOMEM. */
int world_list_set(const World *world, const GpuView *view, TextList *ret);
/* Where the other GPUs of its set are, or were seen last; those that nobody has seen are left out. */
int world_list_siblings(const World *world, const GpuView *view, PciAddresses *ret);

/* Whether it is known which card is in the slot: its serial, or that it has none. While the probe does not answer that
 * is not so. */
bool gpu_view_card_is_known(const GpuView *view);

/* Can this GPU be given to a VM now, as far as facts, quarantine and assignment say? */
bool gpu_view_is_usable(const GpuView *view);   /* present, assignable, not in quarantine; assigned or not */
bool gpu_view_is_free(const GpuView *view);     /* usable, and neither it nor its IOMMU group is assigned */
