/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/holes.h"
#include "core/inventory-internal.h"
#include "core/room-index.h"

Inventory *inventory_free(Inventory *inventory) {
        if (!inventory)
                return NULL;
        gpu_views_clear(&inventory->views);
        array_clear(&inventory->nodes);
        free(inventory->nodes_by_name);
        free(inventory->taken);
        array_clear(&inventory->models);
        array_clear(&inventory->pools);
        array_clear(&inventory->rooms);
        array_clear(&inventory->gpus);
        array_clear(&inventory->tenants);
        array_clear(&inventory->held);
        array_clear(&inventory->bonds);
        trail_free(inventory->trail);
        free(inventory);
        return NULL;
}

unsigned inventory_find_troubles(const World *world, const NodeRecord *record, const NodeFacts *facts) {
        const NodeLife *life = world_find_life(world, &record->id);
        unsigned troubles = 0;
        if (record->level < world->registry->level)
                troubles |= NODE_LEVEL_TOO_LOW;
        if (record->witness)
                troubles |= NODE_WITNESS;
        if (record->lost)
                troubles |= NODE_LOST;
        if (record->drain != DRAIN_NONE)
                troubles |= NODE_DRAINED;
        if (!record->witness && !node_record_proves_its_end(world->registry, record))
                troubles |= NODE_NO_LEASE;
        if (!facts || (life && life->silent))
                troubles |= NODE_SILENT;
        if (!facts)
                return troubles;
        if (facts->hypervisor != HYPERVISOR_CONNECTED)
                troubles |= NODE_NO_HYPERVISOR;
        if (!facts->guard_connected)
                troubles |= NODE_NO_GUARD;
        return troubles;
}

static int add_nodes_and_pools(Inventory *inventory) {
        const Registry *registry = inventory->world->registry;
        int r = 0;
        ARRAY_EACH(record, &registry->nodes) {
                const NodeFacts *facts = world_find_facts(inventory->world, &record->id);
                InventoryNode node = {
                        .record = record,
                        .facts = facts,
                        .troubles = inventory_find_troubles(inventory->world, record, facts),
                        .first_room = NOWHERE,
                };
                if (r >= 0)
                        r = array_append(&inventory->nodes, &node);
        }
        ARRAY_EACH(pool, &registry->pools)
                if (r >= 0)
                        r = array_append(&inventory->pools, &((InventoryPool) { .pool = pool, .root = NOWHERE }));
        inventory->taken = calloc(inventory->nodes.n + 1, sizeof(*inventory->taken));
        return r < 0 ? r : inventory->taken ? 0 : -ENOMEM;
}

static int compare_node_names(const void *a, const void *b) {
        const InventoryNode *const *x = a, *const *y = b;
        return strcmp((*x)->record->name, (*y)->record->name);
}

static int rank_node_names(Inventory *inventory) {
        _cleanup_free_ const InventoryNode **nodes = calloc(inventory->nodes.n + 1, sizeof(*nodes));
        inventory->nodes_by_name = calloc(inventory->nodes.n + 1, sizeof(*inventory->nodes_by_name));
        if (!nodes || !inventory->nodes_by_name)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->nodes.n; i++)
                nodes[i] = inventory->nodes.items + i;
        qsort(nodes, inventory->nodes.n, sizeof(*nodes), compare_node_names);
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                size_t node = (size_t) (nodes[i] - inventory->nodes.items);
                inventory->nodes_by_name[i] = node;
                inventory->nodes.items[node].by_name = i;
        }
        return 0;
}

static int compare_node(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const InventoryNode *) item)->record->id);
}

size_t inventory_find_node(const Inventory *inventory, const NodeId *id) {
        size_t index;
        return array_find(&inventory->nodes, id, compare_node, &index) ? index : NOWHERE;
}

size_t inventory_find_node_named(const Inventory *inventory, const char *name) {
        size_t low = 0, high = inventory->nodes.n;
        while (low < high) {
                size_t middle = low + (high - low) / 2, node = inventory->nodes_by_name[middle];
                int c = strcmp(name, inventory->nodes.items[node].record->name);
                if (c == 0)
                        return node;
                if (c < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NOWHERE;
}

static int compare_room(const void *key, const void *item) {
        size_t node = *(const size_t *) key, other = ((const Room *) item)->node;
        return node < other ? -1 : node > other;
}

size_t inventory_find_room(const Inventory *inventory, size_t index, size_t node) {
        const InventoryPool *pool = inventory->pools.items + index;
        size_t found;
        if (pool->n_rooms == 0 || !array_search(inventory->rooms.items + pool->first_room, pool->n_rooms, sizeof(Room),
                                                &node, compare_room, &found))
                return NOWHERE;
        return pool->first_room + found;
}

/* A pooled GPU on its way into its room. */
typedef struct Candidate {
        size_t pool, node, view;
} Candidate;

typedef ARRAY(Candidate) Candidates;

static int compare_candidates(const void *a, const void *b) {
        const Candidate *x = a, *y = b;
        if (x->pool != y->pool)
                return x->pool < y->pool ? -1 : 1;
        if (x->node != y->node)
                return x->node < y->node ? -1 : 1;
        return x->view < y->view ? -1 : x->view > y->view;
}

static int collect_candidates(const Inventory *inventory, Candidates *ret) {
        const Pool *first_pool = inventory->world->registry->pools.items;
        for (size_t i = 0; i < inventory->views.n; i++) {
                const GpuView *view = inventory->views.items + i;
                Candidate candidate = { .view = i };
                if (!view->pool)
                        continue;
                candidate.pool = (size_t) (view->pool - first_pool);
                candidate.node = inventory_find_node(inventory, &view->identity.node);
                if (candidate.node == NOWHERE)
                        continue;
                int r = array_append(ret, &candidate);
                if (r < 0)
                        return r;
        }
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_candidates);
        return 0;
}

static int open_room(Inventory *inventory, const Candidate *candidate) {
        InventoryPool *pool = inventory->pools.items + candidate->pool;
        InventoryNode *node = inventory->nodes.items + candidate->node;
        Room room = {
                .pool = candidate->pool,
                .node = candidate->node,
                .next_on_node = node->first_room,
                .first_gpu = inventory->gpus.n,
                .lower = NOWHERE,
                .higher = NOWHERE,
        };
        if (pool->n_rooms == 0)
                pool->first_room = inventory->rooms.n;
        pool->n_rooms++;
        node->first_room = inventory->rooms.n;
        return array_append(&inventory->rooms, &room);
}

/* Where the last GPU of the room is, as numbers that are the same in every room that is built alike. */
static void find_neighbourhood(Inventory *inventory) {
        RoomGpu *gpu = inventory->gpus.items + inventory->gpus.n - 1;
        const RoomGpu *first = inventory->gpus.items + inventory->rooms.items[gpu->room].first_gpu;
        const GpuFacts *facts = gpu->view->facts;
        gpu->numa = gpu->behind = (uint16_t) (gpu - first);
        for (const RoomGpu *other = gpu; facts && other-- > first;) {
                if (!other->view->facts || other->view->facts->numa_node != facts->numa_node)
                        continue;
                gpu->numa = other->numa;
                if (facts->switch_address && text_equal(other->view->facts->switch_address, facts->switch_address)) {
                        gpu->behind = other->behind;
                        return;
                }
        }
}

/* Mostly there are one or two. */
static int find_model(Inventory *inventory, const GpuIdentity *gpu, uint8_t *ret) {
        size_t i = 0;
        while (i < inventory->models.n && (inventory->models.items[i].vendor != gpu->vendor ||
                                           inventory->models.items[i].device != gpu->device))
                i++;
        *ret = (uint8_t) (i < MODEL_LAST ? i : MODEL_LAST);
        return i < inventory->models.n ? 0 : array_append(&inventory->models,
                                                          &((GpuModel) { gpu->vendor, gpu->device }));
}

Models inventory_models_of(const Inventory *inventory, const Vm *vm) {
        Models models = MODELS_ALL;
        for (size_t i = 0; vm->model && i < inventory->models.n; i++)
                if (!vm_model_matches(vm, inventory->models.items[i].vendor, inventory->models.items[i].device))
                        models &= ~(UINT64_C(1) << (i < MODEL_LAST ? i : MODEL_LAST));
        return models;
}

static int fill_rooms(Inventory *inventory, const Candidates *candidates) {
        const Candidate *before = NULL;
        ARRAY_EACH(candidate, candidates) {
                int r = 0;
                if (!before || before->pool != candidate->pool || before->node != candidate->node)
                        r = open_room(inventory, candidate);
                RoomGpu gpu = {
                        .view = inventory->views.items + candidate->view,
                        .room = inventory->rooms.n - 1,
                        .next_in_group = inventory->gpus.n,
                        .next_in_set = inventory->gpus.n,
                        .tenant = NOBODY,
                };
                if (r >= 0)
                        r = find_model(inventory, &gpu.view->identity, &gpu.model);
                if (r >= 0)
                        r = array_append(&inventory->gpus, &gpu);
                if (r < 0)
                        return r;
                inventory->rooms.items[gpu.room].n_gpus++;
                inventory->rooms.items[gpu.room].models |= UINT64_C(1) << gpu.model;
                inventory->pools.items[candidate->pool].models |= UINT64_C(1) << gpu.model;
                find_neighbourhood(inventory);
                before = candidate;
        }
        return 0;
}

/* A GPU in the order of what it is looked up by. */
typedef struct GroupKey {
        size_t node;
        int32_t iommu_group;
        size_t gpu;
} GroupKey;

typedef ARRAY(GroupKey) GroupKeys;

static int compare_group_keys(const void *a, const void *b) {
        const GroupKey *x = a, *y = b;
        if (x->node != y->node)
                return x->node < y->node ? -1 : 1;
        if (x->iommu_group != y->iommu_group)
                return x->iommu_group < y->iommu_group ? -1 : 1;
        return x->gpu < y->gpu ? -1 : x->gpu > y->gpu;
}

static void join_rings(size_t *a, size_t *b) {
        size_t next = *a;
        *a = *b;
        *b = next;
}

static int join_groups(Inventory *inventory) {
        GroupKeys keys = {};
        for (size_t i = 0; i < inventory->gpus.n; i++) {
                const RoomGpu *gpu = inventory->gpus.items + i;
                if (!gpu->view->facts || gpu->view->facts->iommu_group < 0)
                        continue;
                GroupKey key = { inventory->rooms.items[gpu->room].node, gpu->view->facts->iommu_group, i };
                int r = array_append(&keys, &key);
                if (r < 0) {
                        array_clear(&keys);
                        return r;
                }
        }
        if (keys.n > 1)
                qsort(keys.items, keys.n, sizeof(*keys.items), compare_group_keys);
        for (size_t i = 1; i < keys.n; i++)
                if (keys.items[i].node == keys.items[i - 1].node &&
                    keys.items[i].iommu_group == keys.items[i - 1].iommu_group)
                        join_rings(&inventory->gpus.items[keys.items[i].gpu].next_in_group,
                                   &inventory->gpus.items[keys.items[i - 1].gpu].next_in_group);
        array_clear(&keys);
        return 0;
}

/* The GPU of the room in this slot: the card that is there, where another one was there before it. Looks first behind
 * where the last one was found, at @at of the room: slots and addresses are mostly in the same order. */
static size_t find_in_room(const Inventory *inventory, const Room *room, const char *slot, size_t *at) {
        size_t found = NOWHERE;
        for (size_t n = 0; n < room->n_gpus; n++) {
                *at = (*at + 1) % room->n_gpus;
                size_t i = room->first_gpu + *at;
                const GpuView *view = inventory->gpus.items[i].view;
                if (!text_equal(view->identity.slot, slot))
                        continue;
                if (view->facts)
                        return i;
                found = i;
        }
        return found;
}

static bool is_in_set(const Inventory *inventory, size_t set, size_t gpu) {
        size_t i = set;
        do {
                if (i == gpu)
                        return true;
                i = inventory->gpus.items[i].next_in_set;
        } while (i != set);
        return false;
}

static void break_set(Inventory *inventory, size_t set) {
        size_t i = set;
        do {
                inventory->gpus.items[i].set_is_broken = true;
                i = inventory->gpus.items[i].next_in_set;
        } while (i != set);
}

static int join_set(Inventory *inventory, size_t gpu) {
        RoomGpu *gpus = inventory->gpus.items;
        const Room *room = inventory->rooms.items + gpus[gpu].room;
        _cleanup_(text_list_clear) TextList slots = {};
        size_t at = gpu - room->first_gpu + room->n_gpus - 1;
        int r = world_list_set(inventory->world, gpus[gpu].view, &slots);
        if (r < 0 || slots.n == 0 || find_in_room(inventory, room, gpus[gpu].view->identity.slot, &at) != gpu)
                return r;               /* alone, or another card is in its place now */
        inventory->rooms.items[gpus[gpu].room].has_sets = true;
        inventory->pools.items[room->pool].has_sets = true;
        for (size_t i = 0; i < slots.n; i++) {
                size_t sibling = find_in_room(inventory, room, slots.items[i], &at);
                if (sibling == NOWHERE)
                        gpus[gpu].set_is_broken = true;
                else if (!is_in_set(inventory, gpu, sibling))
                        join_rings(&gpus[gpu].next_in_set, &gpus[sibling].next_in_set);
        }
        return 0;
}

static int join_sets(Inventory *inventory) {
        for (size_t i = 0; i < inventory->gpus.n; i++) {
                int r = join_set(inventory, i);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < inventory->gpus.n; i++)
                if (inventory->gpus.items[i].set_is_broken)
                        break_set(inventory, i);
        return 0;
}

/* Walks a ring and asks @test of each GPU in it. */
static bool any_in_ring(const Inventory *inventory, size_t gpu, bool sets, bool (*test)(const Inventory *, size_t)) {
        size_t i = gpu;
        do {
                const RoomGpu *item = inventory->gpus.items + i;
                if (test(inventory, i))
                        return true;
                i = sets ? item->next_in_set : item->next_in_group;
        } while (i != gpu);
        return false;
}

static bool is_useless(const Inventory *inventory, size_t gpu) {
        const RoomGpu *item = inventory->gpus.items + gpu;
        return item->set_is_broken || !gpu_view_is_usable(item->view);
}

static bool is_held(const Inventory *inventory, size_t gpu) {
        return inventory->gpus.items[gpu].tenant != NOBODY;
}

static bool is_taken(const Inventory *inventory, size_t gpu) {
        return inventory->gpus.items[gpu].group_is_taken || any_in_ring(inventory, gpu, false, is_held);
}

bool inventory_gpu_is_usable(const Inventory *inventory, size_t gpu) {
        return !any_in_ring(inventory, gpu, true, is_useless);
}

bool inventory_gpu_is_free(const Inventory *inventory, size_t gpu) {
        return inventory_gpu_is_usable(inventory, gpu) && !any_in_ring(inventory, gpu, true, is_taken);
}

bool inventory_gpu_suits(const Inventory *inventory, size_t gpu, Models models) {
        size_t i = gpu;
        do {
                if (!(models >> inventory->gpus.items[i].model & 1))
                        return false;
                i = inventory->gpus.items[i].next_in_set;
        } while (i != gpu);
        return true;
}

bool inventory_gpu_group_is_held(const Inventory *inventory, size_t gpu) {
        return any_in_ring(inventory, gpu, false, is_held);
}

size_t inventory_gpu_holder(const Inventory *inventory, size_t gpu) {
        const RoomGpu *gpus = inventory->gpus.items;
        size_t i = gpu;
        do {
                size_t j = i;
                do {
                        if (gpus[j].tenant != NOBODY)
                                return gpus[j].tenant;
                        j = gpus[j].next_in_group;
                } while (j != i);
                if (gpus[i].group_is_taken)
                        return inventory_find_tenant(inventory, &gpus[i].view->group_vm->id);
                i = gpus[i].next_in_set;
        } while (i != gpu);
        return NOBODY;
}

/* Adds what the room has to the sums of its pool, or takes it off. */
static void count_in_pool(Inventory *inventory, const Room *room, bool add) {
        InventoryPool *pool = inventory->pools.items + room->pool;
        uint32_t sign = add ? 1 : UINT32_MAX;   /* unsigned, so that -1 wraps as it should */
        pool->in_use += sign * room->in_use;
        pool->usable_anywhere += sign * room->usable;
        if (inventory_node_takes_vms(inventory, room->node)) {
                pool->usable += sign * room->usable;
                pool->free += sign * room->free;
                for (uint64_t sizes = pool->sizes; sizes != 0; sizes &= sizes - 1) {
                        int need = __builtin_ctzll(sizes) + 1;
                        pool->places[need] += sign * room->places[need];
                }
        }
}

/* What a room has free, as one number: how many GPUs on how many NUMA nodes, behind which switches, in which sets.
 * Of what model they are counts where the pool has several. Names do not, only what is together. */
static uint64_t find_shape(const Inventory *inventory, const Room *room) {
        uint16_t numa[GPUS_PER_NODE_MAX], behind[GPUS_PER_NODE_MAX];
        uint64_t shape = UINT64_C(0xcbf29ce484222325) ^ room->in_use;
        size_t n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus && n < GPUS_PER_NODE_MAX; i++) {
                const RoomGpu *gpu = inventory->gpus.items + i;
                if (!inventory_gpu_is_free(inventory, i))
                        continue;
                size_t same_numa = 0, same_switch = 0;
                while (same_numa < n && numa[same_numa] != gpu->numa)
                        same_numa++;
                while (same_switch < n && behind[same_switch] != gpu->behind)
                        same_switch++;
                numa[n] = gpu->numa;
                behind[n] = gpu->behind;
                n++;
                size_t set = 0;
                if (room->has_sets)
                        for (size_t j = gpu->next_in_set; j != i; j = inventory->gpus.items[j].next_in_set)
                                set++;
                const GpuIdentity *identity = &gpu->view->identity;
                uint64_t model = UINT64_C(1) * identity->vendor << 16 | identity->device;
                shape = (shape ^ (same_numa << 32 | same_switch << 16 | set)) * UINT64_C(0x100000001b3);
                shape = (shape ^ shape >> 29 ^ model) * UINT64_C(0x100000001b3);
                shape ^= shape >> 29;
        }
        return shape;
}

void inventory_recount(Inventory *inventory, size_t index) {
        Room *room = inventory->rooms.items + index;
        room_index_remove(inventory, index);
        count_in_pool(inventory, room, false);
        room->usable = room->free = room->in_use = 0;
        room->last_choice.count = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                room->usable += inventory_gpu_is_usable(inventory, i);
                room->free += inventory_gpu_is_free(inventory, i);
                room->in_use += is_held(inventory, i);
        }
        room->shape = find_shape(inventory, room);
        holes_count_places(inventory, room);
        count_in_pool(inventory, room, true);
        if (inventory_node_takes_vms(inventory, room->node))
                room_index_add(inventory, index);
}

/* The rooms in which a change of these GPUs' tenant shows: their own, and those of their IOMMU groups. */
static void recount_around(Inventory *inventory, const size_t *gpus, size_t n_gpus) {
        size_t last = NOWHERE;
        for (size_t n = 0; n < n_gpus; n++) {
                size_t i = gpus[n];
                do {
                        if (inventory->gpus.items[i].room != last)
                                inventory_recount(inventory, last = inventory->gpus.items[i].room);
                        i = inventory->gpus.items[i].next_in_group;
                } while (i != gpus[n]);
        }
}

/* Where the tenant is, noted also with its pool and the nodes. */
void inventory_move_to(Inventory *inventory, Tenant *tenant, size_t node) {
        if (tenant->pool != NOWHERE && tenant->vm->count <= GPUS_PER_VM_MAX) {
                InventoryPool *pool = inventory->pools.items + tenant->pool;
                if (vm_is_to_run(tenant->vm))
                        pool->waiting[tenant->vm->count] +=
                                (uint32_t) (node == NOWHERE) - (uint32_t) (tenant->node == NOWHERE);
                if (tenant->node != NOWHERE) {
                        pool->residents[tenant->vm->count].n--;
                        pool->residents[tenant->vm->count].nodes -= tenant->node;
                }
                if (node != NOWHERE) {
                        pool->residents[tenant->vm->count].n++;
                        pool->residents[tenant->vm->count].nodes += node;
                }
        }
        if (tenant->vm->needs.memory_bytes > 0 && tenant->node != NOWHERE)
                capacity_take_off(inventory->taken + tenant->node, &tenant->vm->needs);
        if (tenant->vm->needs.memory_bytes > 0 && node != NOWHERE)
                capacity_add(inventory->taken + node, &tenant->vm->needs);
        tenant->node = node;
}

static int compare_pool(const void *key, const void *item) {
        return strcmp(key, ((const InventoryPool *) item)->pool->name);
}

size_t inventory_find_pool(const Inventory *inventory, const char *name) {
        size_t index;
        return name && array_find(&inventory->pools, name, compare_pool, &index) ? index : NOWHERE;
}

/* Tenants are in the order of the registry's VMs, and what they hold one after another. */
static int add_tenants(Inventory *inventory) {
        ARRAY_EACH(vm, &inventory->world->registry->vms) {
                bool placed = vm->assignment.phase != ASSIGNMENT_NONE;
                Tenant tenant = {
                        .vm = vm,
                        .pool = inventory_find_pool(inventory, vm->pool),
                        .node = NOWHERE,
                        .models = inventory_models_of(inventory, vm),
                        .first_held = inventory->held.n,
                };
                size_t room_for = vm->assignment.n_gpus > vm->count ? vm->assignment.n_gpus : vm->count;
                int r = array_reserve(&inventory->held.items, &inventory->held.allocated, inventory->held.n + room_for,
                                      sizeof(*inventory->held.items));
                if (r >= 0)
                        r = array_append(&inventory->tenants, &tenant);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < room_for; i++)
                        inventory->held.items[inventory->held.n++] = NOWHERE;
                if (tenant.pool != NOWHERE && vm->count >= 1 && vm->count <= GPUS_PER_VM_MAX)
                        inventory->pools.items[tenant.pool].sizes |= UINT64_C(1) << (vm->count - 1);
                if (tenant.pool != NOWHERE && vm->count <= GPUS_PER_VM_MAX && vm_is_to_run(vm))
                        inventory->pools.items[tenant.pool].waiting[vm->count]++;
                if (placed)
                        inventory_move_to(inventory, inventory->tenants.items + inventory->tenants.n - 1,
                                inventory_find_node(inventory, &vm->assignment.node));
                inventory->has_affinity = inventory->has_affinity || vm->n_affinity > 0;
        }
        return 0;
}

void bond_read(const Affinity *affinity, Bond *ret) {
        *ret = (Bond) {
                .tenant = NOBODY,
                .other = NOBODY,
                .soft = affinity_kind_is_soft(affinity->kind),
                .apart = affinity->kind == AFFINITY_APART || affinity->kind == AFFINITY_RATHER_APART,
        };
}

static int compare_tenant_names(const void *a, const void *b) {
        return strcmp((*(const Tenant *const *) a)->vm->name, (*(const Tenant *const *) b)->vm->name);
}

static int compare_name(const void *key, const void *item) {
        return strcmp(key, (*(const Tenant *const *) item)->vm->name);
}

static int compare_bonds(const void *a, const void *b) {
        const Bond *x = a, *y = b;
        if (x->tenant != y->tenant)
                return x->tenant < y->tenant ? -1 : 1;
        if (x->other != y->other)
                return x->other < y->other ? -1 : 1;
        return (x->apart - y->apart) * 2 + (x->soft - y->soft);
}

static int collect_bonds(Inventory *inventory, const Tenant *const *by_name) {
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *vm = inventory->tenants.items[i].vm;
                for (size_t j = 0; j < vm->n_affinity; j++) {
                        size_t place;
                        Bond bond;
                        if (!array_search(by_name, inventory->tenants.n, sizeof(*by_name), vm->affinity[j].vm,
                                          compare_name, &place) || by_name[place]->vm == vm)
                                continue;
                        bond_read(vm->affinity + j, &bond);
                        bond.tenant = i;
                        bond.other = (size_t) (by_name[place] - inventory->tenants.items);
                        int r = array_append(&inventory->bonds, &bond);
                        bond.tenant = bond.other;
                        bond.other = i;
                        if (r >= 0)
                                r = array_append(&inventory->bonds, &bond);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int add_bonds(Inventory *inventory) {
        if (!inventory->has_affinity)
                return 0;
        _cleanup_free_ const Tenant **by_name = calloc(inventory->tenants.n + 1, sizeof(*by_name));
        if (!by_name)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                by_name[i] = inventory->tenants.items + i;
        qsort(by_name, inventory->tenants.n, sizeof(*by_name), compare_tenant_names);
        int r = collect_bonds(inventory, by_name);
        if (r < 0 || inventory->bonds.n == 0)
                return r;

        Bond *bonds = inventory->bonds.items;
        qsort(bonds, inventory->bonds.n, sizeof(*bonds), compare_bonds);
        size_t n = 0;
        for (size_t i = 0; i < inventory->bonds.n; i++)
                if (n == 0 || compare_bonds(bonds + n - 1, bonds + i) != 0)
                        bonds[n++] = bonds[i];
        inventory->bonds.n = n;
        for (size_t i = n; i > 0; i--) {
                inventory->tenants.items[bonds[i - 1].tenant].first_bond = i - 1;
                inventory->tenants.items[bonds[i - 1].tenant].n_bonds++;
        }
        return 0;
}

static void settle_tenants(Inventory *inventory) {
        const Vm *first_vm = inventory->world->registry->vms.items;
        for (size_t i = 0; i < inventory->gpus.n; i++) {
                RoomGpu *gpu = inventory->gpus.items + i;
                if (!gpu->view->vm)
                        continue;
                gpu->tenant = (size_t) (gpu->view->vm - first_vm);
                Tenant *tenant = inventory->tenants.items + gpu->tenant;
                inventory->held.items[tenant->first_held + tenant->n_held++] = i;
        }
        for (size_t i = 0; i < inventory->gpus.n; i++) {
                RoomGpu *gpu = inventory->gpus.items + i;
                gpu->group_is_taken = gpu->view->group_vm && !any_in_ring(inventory, i, false, is_held);
        }
        for (size_t i = 0; i < inventory->rooms.n; i++)
                inventory_recount(inventory, i);
}

int inventory_new(const World *world, Inventory **ret) {
        _cleanup_(inventory_freep) Inventory *inventory = calloc(1, sizeof(*inventory));
        if (!inventory)
                return -ENOMEM;

        inventory->world = world;
        int r = world_list_gpus(world, &inventory->views);
        if (r >= 0)
                r = add_nodes_and_pools(inventory);
        if (r >= 0)
                r = rank_node_names(inventory);
        Candidates candidates = {};
        if (r >= 0)
                r = collect_candidates(inventory, &candidates);
        if (r >= 0)
                r = fill_rooms(inventory, &candidates);
        array_clear(&candidates);
        if (r >= 0)
                r = join_groups(inventory);
        if (r >= 0)
                r = add_tenants(inventory);
        if (r >= 0)
                r = add_bonds(inventory);
        if (r >= 0)
                r = join_sets(inventory);
        if (r < 0)
                return r;
        settle_tenants(inventory);
        *ret = STEAL(inventory);
        return 0;
}

static int compare_tenant(const void *key, const void *item) {
        return ID_COMPARE((const VmId *) key, &((const Tenant *) item)->vm->id);
}

size_t inventory_find_tenant(const Inventory *inventory, const VmId *vm) {
        size_t index;
        return array_find(&inventory->tenants, vm, compare_tenant, &index) ? index : NOBODY;
}

void inventory_vacate(Inventory *inventory, size_t index) {
        Tenant *tenant = inventory->tenants.items + index;
        const size_t *held = inventory->held.items + tenant->first_held;
        for (size_t i = 0; i < tenant->n_held; i++)
                inventory->gpus.items[held[i]].tenant = NOBODY;
        recount_around(inventory, held, tenant->n_held);
        tenant->n_held = 0;
        inventory_move_to(inventory, tenant, NOWHERE);
}

void inventory_take(Inventory *inventory, size_t index, const size_t *gpus, size_t n_gpus) {
        Tenant *tenant = inventory->tenants.items + index;
        for (size_t i = 0; i < n_gpus; i++) {
                inventory->held.items[tenant->first_held + tenant->n_held++] = gpus[i];
                inventory->gpus.items[gpus[i]].tenant = index;
        }
        recount_around(inventory, gpus, n_gpus);
        if (n_gpus > 0)
                inventory_move_to(inventory, tenant, inventory->rooms.items[inventory->gpus.items[gpus[0]].room].node);
}

Belongings *inventory_set_aside(Inventory *inventory, size_t index) {
        const Tenant *tenant = index == NOBODY ? NULL : inventory->tenants.items + index;
        size_t n = tenant ? tenant->n_held : 0;
        Belongings *belongings = malloc(sizeof(*belongings) + n * sizeof(belongings->gpus[0]));
        if (!belongings)
                return NULL;

        *belongings = (Belongings) { .tenant = index, .node = tenant ? tenant->node : NOWHERE, .n_gpus = n };
        for (size_t i = 0; i < n; i++)
                belongings->gpus[i] = inventory->held.items[tenant->first_held + i];
        if (tenant)
                inventory_vacate(inventory, index);
        return belongings;
}

void inventory_give_back(Inventory *inventory, const Belongings *belongings) {
        if (belongings->tenant == NOBODY)
                return;
        inventory_vacate(inventory, belongings->tenant);
        inventory_take(inventory, belongings->tenant, belongings->gpus, belongings->n_gpus);
        inventory_move_to(inventory, inventory->tenants.items + belongings->tenant, belongings->node);
}

void inventory_set_troubles(Inventory *inventory, size_t index, unsigned troubles) {
        InventoryNode *node = inventory->nodes.items + index;
        for (size_t i = node->first_room; i != NOWHERE; i = inventory->rooms.items[i].next_on_node) {
                room_index_remove(inventory, i);
                count_in_pool(inventory, inventory->rooms.items + i, false);
        }
        node->troubles = troubles;
        for (size_t i = node->first_room; i != NOWHERE; i = inventory->rooms.items[i].next_on_node) {
                count_in_pool(inventory, inventory->rooms.items + i, true);
                if (node->troubles == 0)
                        room_index_add(inventory, i);
        }
}

void inventory_lose_node(Inventory *inventory, size_t node) {
        inventory_set_troubles(inventory, node, inventory->nodes.items[node].troubles | NODE_IMAGINED_LOST);
}

void inventory_find_node_again(Inventory *inventory, size_t node) {
        inventory_set_troubles(inventory, node,
                               inventory->nodes.items[node].troubles & ~(unsigned) NODE_IMAGINED_LOST);
}
