/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Inventory: what the cluster has to give at one moment, as placement looks at it: for each pool and node a room with
 * its GPUs and who has them. Made once from a World, near linear in its size; then it is a copy on which "what if" is
 * tried: a VM gives its GPUs back, takes others, a node is lost. The registry is never touched.
 *
 * Borrows the World's registry and facts, which must outlive it; or, where it is kept to follow the world, must outlive
 * each use: in between all that it borrows may be moved and freed, and nothing but inventory_follow() and
 * inventory_free(), which look at none of it, may be called. */

#include "core/capacity.h"
#include "core/names.h"
#include "core/world.h"

#define NOBODY SIZE_MAX         /* no VM */
#define NOWHERE SIZE_MAX        /* no node, no room */

/* Why a node takes no VM, whatever the VM; bits. */
typedef enum NodeTrouble {
        NODE_SILENT = 1 << 0,           /* no facts of it, or the leader does not hear it */
        NODE_LEVEL_TOO_LOW = 1 << 1,
        NODE_NO_HYPERVISOR = 1 << 2,
        NODE_NO_GUARD = 1 << 3,
        NODE_LOST = 1 << 4,             /* its VMs are held for dead */
        NODE_WITNESS = 1 << 5,          /* runs nothing, ever */
        NODE_DRAINED = 1 << 6,          /* its VMs leave it, if there are any */
        NODE_IMAGINED_LOST = 1 << 7,    /* what if it were lost */
        NODE_NO_LEASE = 1 << 8,         /* it has announced none yet */
} NodeTrouble;

typedef struct InventoryNode {
        const NodeRecord *record;
        const NodeFacts *facts;         /* NULL: silent */
        unsigned troubles;
        size_t first_room;              /* NOWHERE: none */
        size_t by_name;                 /* its place among all, by name: the last word, whatever the ids are */
} InventoryNode;

/* Models of GPUs, as bits: a VM takes some, or all. Those from the last bit on are asked for together or not at all:
 * no cluster has so many. */
typedef uint64_t Models;
#define MODELS_ALL UINT64_MAX
#define MODEL_LAST 63U

typedef struct GpuModel {
        uint16_t vendor, device;
} GpuModel;

/* One GPU of a pool. The rings hold the GPUs that are not independent of it; alone, it is its own neighbour. */
typedef struct RoomGpu {
        const GpuView *view;
        size_t room;
        size_t next_in_group;           /* same IOMMU group: never in two VMs */
        size_t next_in_set;             /* linked, or bound by a rule: all go to one VM or none */
        bool set_is_broken;             /* a GPU of the set is not in this pool, or not here */
        bool group_is_taken;            /* by a VM that has a device of the group outside of every pool */
        uint16_t numa, behind;          /* the first GPU of the room on its NUMA node, behind its switch */
        uint8_t model;                  /* its bit in Models */
        size_t tenant;                  /* the VM that has it, or NOBODY */
} RoomGpu;

/* What one node has of one pool. */
typedef struct Room {
        size_t pool, node;
        size_t next_on_node;            /* NOWHERE: the last */
        size_t first_gpu, n_gpus;       /* sorted by address */
        uint32_t usable, free, in_use;
        bool has_sets;                  /* GPUs of it go with others only */
        Models models;                  /* of all its GPUs */
        uint64_t shape;                 /* rooms of one pool, free and shape offer the same, but for the node */
        struct {                        /* what choice_make() found last; none after a change */
                Models models;
                uint32_t count, distance, leftover;
                uint16_t lost[GPUS_PER_VM_MAX + 1];     /* so many places[] by it */
        } last_choice;
        uint16_t places[GPUS_PER_VM_MAX + 1];   /* for each need of the pool's sizes: so many VMs of it find a place */
        size_t lower, higher;           /* room-index.c */
        bool indexed;
} Room;

typedef struct InventoryPool {
        const Pool *pool;
        size_t first_room, n_rooms;     /* sorted by node */
        uint32_t usable, free;          /* on nodes that take VMs */
        uint32_t in_use;
        bool has_sets;                  /* a room of it has */
        Models models;                  /* of all its GPUs */
        uint32_t usable_anywhere;       /* also where the node takes none now */
        size_t root;                    /* room-index.c */
        uint64_t sizes;                 /* which needs its VMs have, run or not: bit i for i + 1 GPUs */
        struct {                        /* its VMs that have a place, by their need */
                size_t n, nodes;        /* nodes: the sum of their indexes: of one alone, where it is */
        } residents[GPUS_PER_VM_MAX + 1];
        uint32_t waiting[GPUS_PER_VM_MAX + 1];  /* its VMs that are to run and have none, by their need */
        uint32_t places[GPUS_PER_VM_MAX + 1];   /* of its rooms together, where the node takes VMs */
} InventoryPool;

/* Another VM by which a tenant is bound: an affinity binds both, whoever of the two declares it. */
typedef struct Bond {
        size_t tenant, other;
        bool apart;                     /* else together */
        bool soft;                      /* a wish, no rule */
} Bond;

/* A VM of the registry; the same place in the row as there. */
typedef struct Tenant {
        const Vm *vm;
        size_t pool;                    /* NOWHERE: there is none of that name */
        size_t first_bond, n_bonds;     /* in bonds[] */
        size_t node;                    /* NOWHERE: has none */
        Models models;                  /* that it takes */
        size_t first_held, n_held;      /* in held[]; there is room for what it has and for what it needs */
} Tenant;

typedef struct Inventory {
        const World *world;
        GpuViews views;                 /* owned: all GPUs, also those of no pool */
        ARRAY(InventoryNode) nodes;     /* by node id, as in the registry */
        size_t *nodes_by_name;          /* indexes of nodes */
        Capacity *taken;                /* node by node: what the tenants there need beside GPUs */
        ARRAY(GpuModel) models;         /* by their bit; from MODEL_LAST on all have that one */
        ARRAY(InventoryPool) pools;     /* by name, as in the registry */
        ARRAY(Room) rooms;              /* by pool, then node */
        ARRAY(RoomGpu) gpus;            /* by room, then address */
        ARRAY(Tenant) tenants;          /* by VM id, as in the registry */
        ARRAY(size_t) held;             /* indexes of gpus, tenant after tenant */
        ARRAY(Bond) bonds;              /* tenant after tenant */
        bool has_affinity;              /* any VM names another */
        struct Trail *trail;            /* inventory-follow.c; NULL: it is not kept */
} Inventory;

int inventory_new(const World *world, Inventory **ret);
Inventory *inventory_free(Inventory *inventory);
DEFINE_CLEANUP(Inventory *, inventory_free);

/* It is to follow the world later on. 0 or -ENOMEM. */
int inventory_keep(Inventory *inventory);
/* Brings one that is kept, with all what-ifs taken back, to where inventory_new() of @world would be. 1: it is; 0: too
 * much has changed, make a new one: nodes, pools, VMs or GPUs came or went or are other ones than they were; or
 * -ENOMEM. With either of these it may only be freed.
 *
 * Where a VM got or lost its place, or what hosts tell has changed, that costs what is on those nodes; all the rest is
 * one walk over VMs, GPUs and pools that compares numbers and puts pointers right. */
int inventory_follow(Inventory *inventory, const World *world);

/* Indexes, or NOWHERE and NOBODY. */
size_t inventory_find_pool(const Inventory *inventory, const char *name);
size_t inventory_find_tenant(const Inventory *inventory, const VmId *vm);
size_t inventory_find_node(const Inventory *inventory, const NodeId *node);
size_t inventory_find_node_named(const Inventory *inventory, const char *name);
/* What the node has of the pool. */
size_t inventory_find_room(const Inventory *inventory, size_t pool, size_t node);

/* The models that a VM takes; for one that is a tenant as the registry has it, Tenant.models. */
Models inventory_models_of(const Inventory *inventory, const Vm *vm);

/* Does the tenant not take all that its pool has? */
static inline bool inventory_is_picky(const Inventory *inventory, const Tenant *tenant) {
        return (inventory->pools.items[tenant->pool].models & ~tenant->models) != 0;
}

static inline bool inventory_room_has_others(const Room *room, Models models) {
        return (room->models & ~models) != 0;
}

/* One of these models, and all of its set are. */
bool inventory_gpu_suits(const Inventory *inventory, size_t gpu, Models models);

/* Present, nothing in its way, and its set whole here: it can serve, whoever has it now. */
bool inventory_gpu_is_usable(const Inventory *inventory, size_t gpu);
/* Usable, and nothing of its set and of its IOMMU group is taken. */
bool inventory_gpu_is_free(const Inventory *inventory, size_t gpu);
/* The tenant that keeps the GPU from being free, or NOBODY. */
size_t inventory_gpu_holder(const Inventory *inventory, size_t gpu);

static inline bool inventory_node_takes_vms(const Inventory *inventory, size_t node) {
        return inventory->nodes.items[node].troubles == 0;
}

/* Reads one affinity that a VM declares. */
void bond_read(const Affinity *affinity, Bond *ret);

/* What if @tenant gave back all that it has, and had nothing? */
void inventory_vacate(Inventory *inventory, size_t tenant);
/* What if @tenant, who has nothing, had these free GPUs of one room? At most as many as it needs or had. */
void inventory_take(Inventory *inventory, size_t tenant, const size_t *gpus, size_t n_gpus);

/* Vacates, and remembers what there was; a tenant that is NOBODY has nothing. NULL: out of memory. */
typedef struct Belongings {
        size_t tenant, node, n_gpus;
        size_t gpus[];
} Belongings;

Belongings *inventory_set_aside(Inventory *inventory, size_t tenant);
/* Gives all of it back, in the place of what the tenant has now. */
void inventory_give_back(Inventory *inventory, const Belongings *belongings);

/* What if the node were lost? Its tenants stay where they are until they are moved. */
void inventory_lose_node(Inventory *inventory, size_t node);
void inventory_find_node_again(Inventory *inventory, size_t node);
