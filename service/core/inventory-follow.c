/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/inventory-internal.h"
#include "core/stamp.h"

/* So many nodes may be judged anew at most: for more of them a new inventory is cheaper. */
#define NODES_TOUCHED_MAX 64U

/* What a view points to, as indexes: what they stand in may have moved. */
typedef struct Link {
        size_t pool, vm, group_vm, quarantine;  /* in the registry; NOWHERE: none */
        size_t host, gpu;               /* in the world's facts, and in the host's */
        size_t room_gpu;                /* in the inventory's gpus; NOWHERE: it is in no room */
        uint64_t layout;                /* what of its facts rooms are built by */
} Link;

/* How the world was when the inventory was made or followed it last. */
struct Trail {
        uint64_t structure;             /* what cannot be followed */
        size_t n_quarantines;
        Link *links;                    /* of the views */
        uint64_t *places;               /* of the tenants: where they are, as a number */
        bool *to_run;                   /* ... and whether they are to run */
        bool *odd;                      /* ... and whether they have GPUs that are in no room */
        size_t *hosts;                  /* of the nodes: in the world's facts; NOWHERE: none */
        uint64_t *versions;             /* ... and the version of those */
        bool *touched;                  /* ... and whether they are to be judged anew */
        size_t n_touched;
};

void trail_free(struct Trail *trail) {
        if (!trail)
                return;
        free(trail->links);
        free(trail->places);
        free(trail->to_run);
        free(trail->odd);
        free(trail->hosts);
        free(trail->versions);
        free(trail->touched);
        free(trail);
}

/* ---- what cannot be followed */

static uint64_t stamp_nodes(uint64_t stamp, const World *world) {
        ARRAY_EACH(node, &world->registry->nodes) {
                stamp = stamp_add_text(stamp_add_bytes(stamp, node->id.bytes, ID_SIZE), node->name);
                ARRAY_EACH(set, &node->fabric)
                        stamp = stamp_add_texts(stamp, &set->slots);
        }
        for (size_t i = 0; i < world->n_nodes; i++)
                stamp = stamp_add(stamp_add_bytes(stamp, world->nodes[i]->node.bytes, ID_SIZE),
                                  world->nodes[i]->n_gpus);
        return stamp_add(stamp_add(stamp, world->registry->nodes.n), world->n_nodes);
}

static uint64_t stamp_identity(uint64_t stamp, const GpuIdentity *gpu) {
        const uint16_t ids[] = { gpu->vendor, gpu->device, gpu->subsystem_vendor, gpu->subsystem_device };
        stamp = stamp_add_bytes(stamp_add_bytes(stamp, gpu->node.bytes, ID_SIZE), ids, sizeof(ids));
        return stamp_add_text(stamp_add_text(stamp, gpu->slot), gpu->serial);
}

static uint64_t stamp_pools(uint64_t stamp, const Registry *registry) {
        ARRAY_EACH(pool, &registry->pools) {
                stamp = stamp_add_text(stamp, pool->name);
                for (size_t i = 0; i < pool->rules.n; i++) {
                        const PoolRule *rule = pool->rules.items + i;
                        stamp = stamp_add_text(stamp_add_text(stamp, rule->vendor), rule->device);
                        stamp = stamp_add_text(stamp_add_text(stamp, rule->node), rule->set);
                }
                ARRAY_EACH(gpu, &pool->gpus)
                        stamp = stamp_identity(stamp, gpu);
                stamp = stamp_add(stamp_add(stamp, pool->gpus.n), pool->rules.n);
        }
        ARRAY_EACH(quarantine, &registry->quarantines)
                stamp = stamp_identity(stamp, &quarantine->gpu);
        return stamp_add(stamp_add(stamp, registry->pools.n), registry->quarantines.n);
}

static uint64_t stamp_needs(uint64_t stamp, const VmNeeds *needs) {
        stamp = stamp_add(stamp_add(stamp, needs->memory_bytes), needs->hugepage_size_bytes);
        stamp = stamp_add(stamp_add(stamp, needs->numa_nodes), needs->hugepages);
        return stamp_add_text(stamp_add_text(stamp, needs->cpu_model), needs->cpu_vendor);
}

static uint64_t stamp_vms(uint64_t stamp, const Registry *registry) {
        ARRAY_EACH(vm, &registry->vms) {
                stamp = stamp_add_text(stamp_add_bytes(stamp, vm->id.bytes, ID_SIZE), vm->name);
                stamp = stamp_add(stamp_add_text(stamp_add_text(stamp, vm->pool), vm->model), vm->count);
                for (size_t i = 0; i < vm->n_affinity; i++)
                        stamp = stamp_add_text(stamp_add(stamp, vm->affinity[i].kind), vm->affinity[i].vm);
                stamp = stamp_needs(stamp, &vm->needs);
        }
        return stamp_add(stamp, registry->vms.n);
}

/* What indexes must stay below, told apart from the stamp: who may define VMs could find two that have the same stamp,
 * and may deceive himself by it, but nobody is to read beyond the end of a row. */
static bool has_same_sizes(const Inventory *inventory, const World *world) {
        const Registry *registry = world->registry;
        const struct Trail *trail = inventory->trail;
        if (registry->nodes.n != inventory->nodes.n || registry->pools.n != inventory->pools.n ||
            registry->vms.n != inventory->tenants.n || registry->quarantines.n != trail->n_quarantines)
                return false;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                size_t end = i + 1 < inventory->tenants.n ? tenant[1].first_held : inventory->held.n;
                if (tenant->pool != NOWHERE && registry->vms.items[i].count > end - tenant->first_held)
                        return false;
        }
        for (size_t i = 0; i < inventory->views.n; i++) {
                const Link *link = trail->links + i;
                if (link->host != NOWHERE && (link->host >= world->n_nodes ||
                                              (link->gpu != NOWHERE && link->gpu >= world->nodes[link->host]->n_gpus)))
                        return false;
        }
        for (size_t i = 0; i < inventory->nodes.n; i++)
                if (trail->hosts[i] != NOWHERE && trail->hosts[i] >= world->n_nodes)
                        return false;
        return true;
}

static uint64_t stamp_structure(const World *world) {
        return stamp_vms(stamp_pools(stamp_nodes(1, world), world->registry), world->registry);
}

static uint64_t stamp_layout(const GpuFacts *gpu) {
        uint64_t stamp = stamp_identity(1, &gpu->identity);
        const uint32_t numbers[] = { gpu->address.domain, gpu->address.bus, gpu->address.device, gpu->address.function,
                                     (uint32_t) gpu->iommu_group, (uint32_t) gpu->numa_node };
        stamp = stamp_add_bytes(stamp, numbers, sizeof(numbers));
        return stamp_add_texts(stamp_add_text(stamp, gpu->switch_address), &gpu->siblings);
}

static uint64_t stamp_place(const Assignment *assignment) {
        uint64_t stamp = stamp_add_bytes(assignment->phase != ASSIGNMENT_NONE, assignment->node.bytes, ID_SIZE);
        for (size_t i = 0; i < assignment->n_gpus; i++)
                stamp = stamp_add(stamp_identity(stamp, &assignment->gpus[i].gpu),
                                  (uint32_t) assignment->gpus[i].iommu_group);
        return stamp;
}

/* ---- the beginning */

static struct Trail *trail_new(const Inventory *inventory) {
        struct Trail *trail = calloc(1, sizeof(*trail));
        if (!trail)
                return NULL;
        *trail = (struct Trail) {
                .links = calloc(inventory->views.n + 1, sizeof(*trail->links)),
                .places = calloc(inventory->tenants.n + 1, sizeof(*trail->places)),
                .to_run = calloc(inventory->tenants.n + 1, sizeof(*trail->to_run)),
                .odd = calloc(inventory->tenants.n + 1, sizeof(*trail->odd)),
                .hosts = calloc(inventory->nodes.n + 1, sizeof(*trail->hosts)),
                .versions = calloc(inventory->nodes.n + 1, sizeof(*trail->versions)),
                .touched = calloc(inventory->nodes.n + 1, sizeof(*trail->touched)),
        };
        if (trail->links && trail->places && trail->to_run && trail->odd && trail->hosts && trail->versions &&
            trail->touched)
                return trail;
        trail_free(trail);
        return NULL;
}

static int compare_host(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &(*(const NodeFacts *const *) item)->node);
}

static size_t find_host(const World *world, const NodeId *node) {
        size_t at;
        return array_search(world->nodes, world->n_nodes, sizeof(*world->nodes), node, compare_host, &at) ? at
                                                                                                          : NOWHERE;
}

static size_t index_of_vm(const World *world, const Vm *vm) {
        return vm ? (size_t) (vm - world->registry->vms.items) : NOWHERE;
}

static Link link_view(const World *world, const GpuView *view) {
        const Registry *registry = world->registry;
        return (Link) {
                .pool = view->pool ? (size_t) (view->pool - registry->pools.items) : NOWHERE,
                .vm = index_of_vm(world, view->vm),
                .group_vm = index_of_vm(world, view->group_vm),
                .quarantine = view->quarantine ? (size_t) (view->quarantine - registry->quarantines.items) : NOWHERE,
                .host = view->host ? find_host(world, &view->identity.node) : NOWHERE,
                .gpu = view->facts ? (size_t) (view->facts - view->host->gpus) : NOWHERE,
                .room_gpu = NOWHERE,
                .layout = view->facts ? stamp_layout(view->facts) : 0,
        };
}

int inventory_keep(Inventory *inventory) {
        const World *world = inventory->world;
        struct Trail *trail = inventory->trail ? inventory->trail : trail_new(inventory);
        if (!trail)
                return -ENOMEM;
        inventory->trail = trail;
        trail->structure = stamp_structure(world);
        trail->n_quarantines = world->registry->quarantines.n;
        for (size_t i = 0; i < inventory->views.n; i++)
                trail->links[i] = link_view(world, inventory->views.items + i);
        for (size_t i = 0; i < inventory->gpus.n; i++)
                trail->links[inventory->gpus.items[i].view - inventory->views.items].room_gpu = i;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                trail->places[i] = stamp_place(&inventory->tenants.items[i].vm->assignment);
                trail->to_run[i] = vm_is_to_run(inventory->tenants.items[i].vm);
        }
        for (size_t i = 0; i < inventory->views.n; i++)
                if (trail->links[i].vm != NOWHERE && trail->links[i].room_gpu == NOWHERE)
                        trail->odd[trail->links[i].vm] = true;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                trail->hosts[i] = find_host(world, &inventory->nodes.items[i].record->id);
                trail->versions[i] = inventory->nodes.items[i].facts ? inventory->nodes.items[i].facts->version : 0;
        }
        return 0;
}

/* ---- pointers */

static void point_view(const World *world, const Link *link, GpuView *view) {
        const Registry *registry = world->registry;
        view->pool = link->pool == NOWHERE ? NULL : registry->pools.items + link->pool;
        view->vm = link->vm == NOWHERE ? NULL : registry->vms.items + link->vm;
        view->group_vm = link->group_vm == NOWHERE ? NULL : registry->vms.items + link->group_vm;
        view->quarantine = link->quarantine == NOWHERE ? NULL : registry->quarantines.items + link->quarantine;
        view->host = link->host == NOWHERE ? NULL : world->nodes[link->host];
        view->facts = link->gpu == NOWHERE ? NULL : view->host->gpus + link->gpu;
}

static void point_all(Inventory *inventory, const World *world) {
        const Registry *registry = world->registry;
        const struct Trail *trail = inventory->trail;
        inventory->world = world;
        for (size_t i = 0; i < inventory->views.n; i++)
                point_view(world, trail->links + i, inventory->views.items + i);
        for (size_t i = 0; i < inventory->tenants.n; i++)
                inventory->tenants.items[i].vm = registry->vms.items + i;
        for (size_t i = 0; i < inventory->pools.n; i++)
                inventory->pools.items[i].pool = registry->pools.items + i;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                inventory->nodes.items[i].record = registry->nodes.items + i;
                inventory->nodes.items[i].facts = trail->hosts[i] == NOWHERE ? NULL : world->nodes[trail->hosts[i]];
        }
}

static void touch(struct Trail *trail, size_t node) {
        if (node == NOWHERE || trail->touched[node])
                return;
        trail->touched[node] = true;
        trail->n_touched++;
}

/* ---- facts */

static size_t first_view_of(const Inventory *inventory, const NodeId *node) {
        size_t low = 0, high = inventory->views.n;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (ID_COMPARE(&inventory->views.items[middle].identity.node, node) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool is_view_of(const Inventory *inventory, size_t view, const NodeId *node) {
        return view < inventory->views.n && ID_EQUAL(&inventory->views.items[view].identity.node, node);
}

/* Those whose facts have another version, or none. False: a GPU is not where it was. */
static bool follow_facts(Inventory *inventory) {
        struct Trail *trail = inventory->trail;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                const InventoryNode *node = inventory->nodes.items + i;
                uint64_t version = node->facts ? node->facts->version : 0;
                if (!node->facts || (version != 0 && version == trail->versions[i]))
                        continue;
                trail->versions[i] = version;
                bool changed = version != 0;
                for (size_t v = first_view_of(inventory, &node->record->id);
                     is_view_of(inventory, v, &node->record->id); v++) {
                        GpuView *view = inventory->views.items + v, fresh = *view;
                        if (!view->facts)
                                continue;
                        if (stamp_layout(view->facts) != trail->links[v].layout)
                                return false;
                        changed = changed || world_refresh_view(inventory->world, &fresh) < 0 ||
                                  fresh.assignable != view->assignable;
                }
                if (changed)
                        touch(trail, i);
        }
        return true;
}

/* ---- VMs */

static void release(Inventory *inventory, size_t tenant) {
        struct Trail *trail = inventory->trail;
        const Tenant *t = inventory->tenants.items + tenant;
        touch(trail, t->node);
        for (size_t i = 0; i < t->n_held; i++) {
                const RoomGpu *gpu = inventory->gpus.items + inventory->held.items[t->first_held + i];
                size_t view = (size_t) (gpu->view - inventory->views.items);
                touch(trail, inventory->rooms.items[gpu->room].node);
                trail->links[view].vm = NOWHERE;
                inventory->views.items[view].vm = NULL;
        }
        inventory_vacate(inventory, tenant);
}

/* The one view of a GPU that was assigned; NOWHERE: none in a room, or it is not clear which. */
static size_t find_assigned(const Inventory *inventory, const GpuIdentity *gpu) {
        size_t found = NOWHERE;
        for (size_t v = first_view_of(inventory, &gpu->node); is_view_of(inventory, v, &gpu->node); v++) {
                if (!text_equal(inventory->views.items[v].identity.slot, gpu->slot))
                        continue;
                if (found != NOWHERE || !gpu_identity_equal(&inventory->views.items[v].identity, gpu))
                        return NOWHERE;
                found = v;
        }
        return found;
}

/* False: one of its GPUs is in no room, or has another VM. */
static bool occupy(Inventory *inventory, size_t tenant) {
        struct Trail *trail = inventory->trail;
        Tenant *t = inventory->tenants.items + tenant;
        const Assignment *assignment = &t->vm->assignment;
        size_t gpus[GPUS_PER_VM_MAX], node = inventory_find_node(inventory, &assignment->node);
        if (assignment->phase == ASSIGNMENT_NONE)
                return assignment->n_gpus == 0;
        if (assignment->n_gpus > t->vm->count || assignment->n_gpus > GPUS_PER_VM_MAX)
                return false;
        for (size_t i = 0; i < assignment->n_gpus; i++) {
                size_t view = find_assigned(inventory, &assignment->gpus[i].gpu);
                if (view == NOWHERE || trail->links[view].room_gpu == NOWHERE || trail->links[view].vm != NOWHERE)
                        return false;
                trail->links[view].vm = tenant;
                inventory->views.items[view].vm = t->vm;
                gpus[i] = trail->links[view].room_gpu;
                touch(trail, inventory->rooms.items[inventory->gpus.items[gpus[i]].room].node);
        }
        if (assignment->n_gpus > 1)
                qsort(gpus, assignment->n_gpus, sizeof(*gpus), array_compare_indexes);
        inventory_take(inventory, tenant, gpus, assignment->n_gpus);
        inventory_move_to(inventory, t, node);
        touch(trail, node);
        return true;
}

static void follow_wish(Inventory *inventory, size_t tenant) {
        const Tenant *t = inventory->tenants.items + tenant;
        bool now = vm_is_to_run(t->vm);
        if (now == inventory->trail->to_run[tenant])
                return;
        inventory->trail->to_run[tenant] = now;
        if (t->pool != NOWHERE && t->vm->count <= GPUS_PER_VM_MAX && t->node == NOWHERE)
                inventory->pools.items[t->pool].waiting[t->vm->count] += now ? 1U : UINT32_MAX;
}

/* First all give back what they had, for others may have it now. */
static bool follow_vms(Inventory *inventory, bool *changed) {
        struct Trail *trail = inventory->trail;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                uint64_t place = stamp_place(&inventory->tenants.items[i].vm->assignment);
                follow_wish(inventory, i);
                changed[i] = place != trail->places[i];
                if (!changed[i])
                        continue;
                if (trail->odd[i])
                        return false;
                trail->places[i] = place;
                release(inventory, i);
        }
        for (size_t i = 0; i < inventory->tenants.n; i++)
                if (changed[i] && !occupy(inventory, i))
                        return false;
        return true;
}

/* ---- nodes */

/* The VM that has a device of this IOMMU group, if one of @vms has. */
static const Vm *find_group_vm(const Registry *registry, const NodeId *node, int32_t group) {
        ARRAY_EACH(vm, &registry->vms)
                for (size_t i = 0; ID_EQUAL(&vm->assignment.node, node) && i < vm->assignment.n_gpus; i++)
                        if (vm->assignment.gpus[i].iommu_group == group)
                                return vm;
        return NULL;
}

static int judge_anew(Inventory *inventory, size_t node) {
        const World *world = inventory->world;
        const NodeId *id = &inventory->nodes.items[node].record->id;
        for (size_t v = first_view_of(inventory, id); is_view_of(inventory, v, id); v++) {
                GpuView *view = inventory->views.items + v;
                int r = world_refresh_view(world, view);
                if (r < 0)
                        return r;
                if (!view->group_vm && view->facts && view->facts->iommu_group >= 0)
                        view->group_vm = find_group_vm(world->registry, id, view->facts->iommu_group);
                inventory->trail->links[v].group_vm = index_of_vm(world, view->group_vm);
        }
        size_t first = inventory->nodes.items[node].first_room;
        for (size_t i = first; i != NOWHERE; i = inventory->rooms.items[i].next_on_node) {
                const Room *room = inventory->rooms.items + i;
                for (size_t g = room->first_gpu; g < room->first_gpu + room->n_gpus; g++)
                        inventory->gpus.items[g].group_is_taken = inventory->gpus.items[g].view->group_vm &&
                                                                  !inventory_gpu_group_is_held(inventory, g);
        }
        for (size_t i = first; i != NOWHERE; i = inventory->rooms.items[i].next_on_node)
                inventory_recount(inventory, i);
        return 0;
}

static int follow_nodes(Inventory *inventory) {
        struct Trail *trail = inventory->trail;
        if (trail->n_touched > NODES_TOUCHED_MAX)
                return 0;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                const InventoryNode *node = inventory->nodes.items + i;
                int r = trail->touched[i] ? judge_anew(inventory, i) : 0;
                if (r < 0)
                        return r;
                trail->touched[i] = false;
                unsigned troubles = inventory_find_troubles(inventory->world, node->record, node->facts);
                if (troubles != node->troubles)
                        inventory_set_troubles(inventory, i, troubles);
        }
        trail->n_touched = 0;
        return 1;
}

int inventory_follow(Inventory *inventory, const World *world) {
        if (!inventory->trail || !has_same_sizes(inventory, world) ||
            stamp_structure(world) != inventory->trail->structure)
                return 0;
        _cleanup_free_ bool *changed = calloc(inventory->tenants.n + 1, sizeof(*changed));
        if (!changed)
                return -ENOMEM;
        point_all(inventory, world);
        if (!follow_facts(inventory) || !follow_vms(inventory, changed))
                return 0;
        return follow_nodes(inventory);
}
