/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/rehearsal.h"

#include <errno.h>

#include "core/placement.h"

typedef struct Rehearsal {
        Supposition *supposition;
        Inventory *inventory;
        size_t *order;                  /* all tenants, the most urgent first */
        size_t *rank;                   /* the place of each in that order */
        size_t *waiting;                /* by rank */
        size_t n_waiting;
        size_t *stuck_since;            /* the generation in which it found no way out, and behind those, none home */
        size_t *quiet_since;            /* for each node: the generation in which nobody left it or came home to it */
        size_t generation;              /* rises when something becomes free that others may have */
        uint64_t work_left;
} Rehearsal;

static void rehearsal_clear(Rehearsal *rehearsal) {
        free(rehearsal->order);
        free(rehearsal->rank);
        free(rehearsal->waiting);
        free(rehearsal->stuck_since);
        free(rehearsal->quiet_since);
}

/* 0, or -E2BIG when it takes too long. */
static int spend(Rehearsal *rehearsal, uint64_t work) {
        if (work > rehearsal->work_left)
                return -E2BIG;
        rehearsal->work_left -= work;
        return 0;
}

static int compare_tenants(const void *a, const void *b) {
        return placement_compare_urgency((*(const Tenant *const *) a)->vm, (*(const Tenant *const *) b)->vm);
}

static int prepare(Rehearsal *rehearsal) {
        const Inventory *inventory = rehearsal->inventory;
        size_t n = inventory->tenants.n;
        _cleanup_free_ const Tenant **sorted = calloc(n + 1, sizeof(*sorted));
        rehearsal->order = calloc(n + 1, sizeof(size_t));
        rehearsal->rank = calloc(n + 1, sizeof(size_t));
        rehearsal->waiting = calloc(n + 1, sizeof(size_t));
        rehearsal->stuck_since = calloc(2 * n + 1, sizeof(size_t));
        rehearsal->quiet_since = calloc(inventory->nodes.n + 1, sizeof(size_t));
        if (!sorted || !rehearsal->order || !rehearsal->rank || !rehearsal->waiting || !rehearsal->stuck_since ||
            !rehearsal->quiet_since)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                sorted[i] = inventory->tenants.items + i;
        qsort(sorted, n, sizeof(*sorted), compare_tenants);
        for (size_t i = 0; i < n; i++) {
                size_t tenant = (size_t) (sorted[i] - inventory->tenants.items);
                const Vm *vm = sorted[i]->vm;
                rehearsal->order[i] = tenant;
                rehearsal->rank[tenant] = i;
                if (vm->run && !vm->failed && sorted[i]->node == NOWHERE)
                        rehearsal->waiting[rehearsal->n_waiting++] = tenant;
        }
        rehearsal->generation = 1;
        return 0;
}

/* ---- places */

/* A PlacementVerdict, -ENOMEM or -E2BIG. */
static int choose(Rehearsal *rehearsal, size_t tenant, Choice *ret) {
        Inventory *inventory = rehearsal->inventory;
        const Vm *vm = inventory->tenants.items[tenant].vm;
        size_t pool = inventory_find_pool(inventory, vm->pool);
        int r = spend(rehearsal, 1 + (pool == NOWHERE ? 0 : inventory->pools.items[pool].n_rooms) +
                                 (inventory->has_affinity ? inventory->tenants.n : 0));
        return r < 0 ? r : placement_choose(inventory, tenant, vm_lost_its_place(vm), ret);
}

/* 1: it has a place; 0: none. */
static int place(Rehearsal *rehearsal, size_t tenant) {
        Inventory *inventory = rehearsal->inventory;
        Vm *vm = suppose_vm(rehearsal->supposition, tenant);
        Choice choice;
        int r = choose(rehearsal, tenant, &choice);
        if (r != PLACEMENT_FOUND)
                return r < 0 ? r : 0;
        inventory_take(inventory, tenant, choice.gpus, choice.n_gpus);
        vm->assignment.phase = ASSIGNMENT_RUNNING;      /* so that it has not lost its place any more */
        vm->target = (NodeId) {};
        if (ID_EQUAL(&vm->home, &inventory->nodes.items[inventory->tenants.items[tenant].node].record->id))
                vm->home = (NodeId) {};
        return 1;
}

/* Who finds no place never keeps the others from theirs. */
static int place_waiting(Rehearsal *rehearsal) {
        size_t n = 0;
        int r = 0;
        for (size_t i = 0; i < rehearsal->n_waiting; i++) {
                r = r < 0 ? r : place(rehearsal, rehearsal->waiting[i]);
                if (r <= 0)
                        rehearsal->waiting[n++] = rehearsal->waiting[i];
        }
        rehearsal->n_waiting = n;
        return r < 0 ? r : 0;
}

static void add_to_waiting(Rehearsal *rehearsal, size_t tenant) {
        size_t i = rehearsal->n_waiting++;
        for (; i > 0 && rehearsal->rank[rehearsal->waiting[i - 1]] > rehearsal->rank[tenant]; i--)
                rehearsal->waiting[i] = rehearsal->waiting[i - 1];
        rehearsal->waiting[i] = tenant;
}

/* ---- who leaves a node that is drained, and who comes home */

/* Vacates @tenant if it would find a place: on the node that is its target, or anywhere but where it is. 1, 0, ... */
static int try_to_leave(Rehearsal *rehearsal, size_t tenant, const NodeId *target) {
        Inventory *inventory = rehearsal->inventory;
        Vm *vm = suppose_vm(rehearsal->supposition, tenant);
        NodeId before = vm->target;
        Choice choice;
        _cleanup_free_ Belongings *belongings = inventory_set_aside(inventory, tenant);
        if (!belongings)
                return -ENOMEM;
        vm->target = *target;
        int r = choose(rehearsal, tenant, &choice);
        if (r == PLACEMENT_FOUND) {
                size_t node = inventory->rooms.items[inventory->gpus.items[choice.gpus[0]].room].node;
                if (node != belongings->node && (id_is_null(target->bytes) ||
                                                 ID_EQUAL(&inventory->nodes.items[node].record->id, target)))
                        return 1;
        }
        inventory_give_back(inventory, belongings);
        vm->target = before;
        return r < 0 ? r : 0;
}

static bool somebody_is_on_its_way(const Rehearsal *rehearsal, const NodeRecord *node) {
        for (size_t i = 0; i < rehearsal->n_waiting; i++)
                if (ID_EQUAL(&rehearsal->inventory->tenants.items[rehearsal->waiting[i]].vm->home, &node->id))
                        return true;
        return false;
}

/* The next one from or to this node has left its place. 1: *ret is who; 0: nobody leaves; or an error. */
static int next_leaves(Rehearsal *rehearsal, size_t index, size_t *ret) {
        const Inventory *inventory = rehearsal->inventory;
        const NodeRecord *node = inventory->nodes.items[index].record;
        bool leaves = node->drain != DRAIN_NONE;
        int r = spend(rehearsal, inventory->tenants.n + rehearsal->n_waiting);
        if (r < 0 || somebody_is_on_its_way(rehearsal, node))
                return r;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                size_t tenant = rehearsal->order[i];
                const Vm *vm = inventory->tenants.items[tenant].vm;
                size_t at = inventory->tenants.items[tenant].node;
                size_t *stuck_since = rehearsal->stuck_since + tenant + (leaves ? 0 : inventory->tenants.n);
                if (at == NOWHERE || !vm->run || *stuck_since == rehearsal->generation ||
                    (leaves ? at != index : at == index || !ID_EQUAL(&vm->home, &node->id)))
                        continue;
                r = try_to_leave(rehearsal, tenant, leaves ? &(NodeId) {} : &node->id);
                *ret = tenant;
                if (r != 0)
                        return r;
                *stuck_since = rehearsal->generation;
        }
        return 0;
}

/* It has left: where it lands, and who else profits. */
static int land(Rehearsal *rehearsal, size_t tenant, size_t node, bool leaves) {
        const Inventory *inventory = rehearsal->inventory;
        Vm *vm = suppose_vm(rehearsal->supposition, tenant);
        const Pool *pool = inventory->pools.items[inventory_find_pool(inventory, vm->pool)].pool;
        if (leaves && id_is_null(vm->home.bytes))
                vm->home = inventory->nodes.items[node].record->id;
        /* What is free on a drained node helps nobody. */
        if (leaves && !inventory->has_affinity && pool->max_in_use == 0) {
                int r = place(rehearsal, tenant);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        rehearsal->generation++;
        add_to_waiting(rehearsal, tenant);
        return place_waiting(rehearsal);
}

/* 1: somebody moved; 0: nobody does any more. */
static int move_one(Rehearsal *rehearsal) {
        const Inventory *inventory = rehearsal->inventory;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                const NodeRecord *node = inventory->nodes.items[i].record;
                bool leaves = node->drain != DRAIN_NONE;
                size_t tenant = NOBODY;
                if (node->lost || (!leaves && !node->bring_home) || rehearsal->quiet_since[i] == rehearsal->generation)
                        continue;
                int r = next_leaves(rehearsal, i, &tenant);
                if (r > 0)
                        r = land(rehearsal, tenant, i, leaves);
                else if (r == 0) {
                        rehearsal->quiet_since[i] = rehearsal->generation;
                        continue;
                }
                return r < 0 ? r : 1;
        }
        return 0;
}

int rehearse(Supposition *supposition, Inventory *inventory, uint64_t work_max) {
        _cleanup_(rehearsal_clear) Rehearsal rehearsal = { .supposition = supposition, .inventory = inventory,
                                                           .work_left = work_max };
        int r = prepare(&rehearsal);
        if (r >= 0)
                r = place_waiting(&rehearsal);
        while (r >= 0) {
                r = move_one(&rehearsal);
                if (r == 0)
                        return REHEARSAL_DONE;
        }
        return r == -E2BIG ? REHEARSAL_TOO_LONG : r;
}

int rehearse_move(Supposition *supposition, Inventory *inventory, size_t tenant, const NodeId *node,
                  uint64_t work_max) {
        _cleanup_(rehearsal_clear) Rehearsal rehearsal = { .supposition = supposition, .inventory = inventory,
                                                           .work_left = work_max };
        inventory_vacate(inventory, tenant);
        suppose_vm(supposition, tenant)->target = *node;
        int r = prepare(&rehearsal);
        if (r >= 0)
                r = place_waiting(&rehearsal);
        return r == -E2BIG ? REHEARSAL_TOO_LONG : r < 0 ? r : REHEARSAL_DONE;
}
