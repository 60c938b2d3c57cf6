/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/rehearsal.h"

#include <errno.h>

#include "core/company.h"
#include "core/seating.h"

/* With so many who wait, one who leaves a drained node is not looked at together with them. */
#define CROWD 64U

typedef struct Rehearsal {
        Seating seating;                /* first, so that it leads back here */
        Supposition *supposition;
        Inventory *inventory;
        size_t *preempted_by;           /* one per tenant; NULL: nobody asks */
        size_t *order;                  /* all tenants, the most urgent first */
        size_t *stuck_since;            /* the generation in which it found no way out, and behind those, none home */
        size_t *quiet_since;            /* for each node: the generation in which nobody left it or came home to it */
        size_t generation;              /* rises when something becomes free that others may have */
} Rehearsal;

static void rehearsal_clear(Rehearsal *rehearsal) {
        free(rehearsal->order);
        free(rehearsal->seating.waiting);
        free(rehearsal->stuck_since);
        free(rehearsal->quiet_since);
}

/* 0, or -E2BIG when it takes too long. */
static int spend(Rehearsal *rehearsal, uint64_t work) {
        if (work > rehearsal->seating.work_left)
                return -E2BIG;
        rehearsal->seating.work_left -= work;
        return 0;
}

static int prepare(Rehearsal *rehearsal) {
        const Inventory *inventory = rehearsal->inventory;
        size_t n = inventory->tenants.n;
        _cleanup_free_ const Tenant **sorted = calloc(n + 1, sizeof(*sorted));
        rehearsal->order = calloc(n + 1, sizeof(size_t));
        rehearsal->seating.waiting = calloc(n + 1, sizeof(size_t));
        rehearsal->stuck_since = calloc(2 * n + 1, sizeof(size_t));
        rehearsal->quiet_since = calloc(inventory->nodes.n + 1, sizeof(size_t));
        if (!sorted || !rehearsal->order || !rehearsal->seating.waiting || !rehearsal->stuck_since ||
            !rehearsal->quiet_since)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                sorted[i] = inventory->tenants.items + i;
        qsort(sorted, n, sizeof(*sorted), placement_compare_tenants);
        for (size_t i = 0; i < n; i++) {
                size_t tenant = (size_t) (sorted[i] - inventory->tenants.items);
                const Vm *vm = sorted[i]->vm;
                rehearsal->order[i] = tenant;
                if (vm_is_to_run(vm) && sorted[i]->node == NOWHERE)
                        rehearsal->seating.waiting[rehearsal->seating.n_waiting++] = tenant;
        }
        rehearsal->generation = 1;
        return 0;
}

/* ---- places */

static const NodeId *node_of(const Rehearsal *rehearsal, size_t tenant) {
        const Inventory *inventory = rehearsal->inventory;
        return &inventory->nodes.items[inventory->tenants.items[tenant].node].record->id;
}

/* It runs where it has its GPUs. */
static int arrive(Seating *seating, size_t tenant) {
        Rehearsal *rehearsal = (Rehearsal *) seating;
        Vm *vm = suppose_vm(rehearsal->supposition, tenant);
        vm->assignment.phase = ASSIGNMENT_RUNNING;
        vm->assignment.node = *node_of(rehearsal, tenant);
        vm->target = (NodeId) {};
        if (ID_EQUAL(&vm->home, &vm->assignment.node))
                vm->home = (NodeId) {};
        return 0;
}

/* It has stopped, and is to go on: on @target, or anywhere if that is null. It did not lose its place. */
static void leave(Rehearsal *rehearsal, size_t tenant, const NodeId *target) {
        Vm *vm = suppose_vm(rehearsal->supposition, tenant);
        inventory_vacate(rehearsal->inventory, tenant);
        vm->assignment.phase = ASSIGNMENT_NONE;
        vm->reason_code = vm->reason = NULL;    /* borrowed */
        vm->target = *target;
}

static int give_way(Seating *seating, size_t tenant, size_t whom) {
        Rehearsal *rehearsal = (Rehearsal *) seating;
        leave(rehearsal, tenant, &(NodeId) {});
        if (rehearsal->preempted_by)
                rehearsal->preempted_by[tenant] = whom;
        return 0;
}

static void add_to_waiting(Rehearsal *rehearsal, size_t tenant) {
        rehearsal->seating.waiting[rehearsal->seating.n_waiting++] = tenant;
}

/* One alone. 1: it has a place; 0: none; or an error. */
static int place_alone(Rehearsal *rehearsal, size_t tenant) {
        Rehearsal copy = *rehearsal;
        copy.seating.waiting = &tenant;
        copy.seating.n_waiting = 1;
        int r = seating_run(&copy.seating);
        rehearsal->seating.work_left = copy.seating.work_left;
        return r < 0 ? r : copy.seating.n_waiting == 0;
}

/* ---- who leaves a node that is drained, and who comes home */

/* Is there room for all of them on one other node: on that to which they come home, or anywhere? As the conductor asks
 * it. A PlacementVerdict, or an error. */
static int seek(Rehearsal *rehearsal, const Company *company, const NodeRecord *home, NodeId *ret_node) {
        Inventory *inventory = rehearsal->inventory;
        uint64_t work = SEATING_WORK * company->n;
        if (company->n > 1)             /* each node is asked */
                work += company->n * (inventory->nodes.n + inventory->tenants.n);
        int r = spend(rehearsal, work);
        return r < 0 ? r : company_place(inventory, company, home ? &home->id : NULL, false, ret_node);
}

/* It leaves if it, and those that must be with it, would find a place. 1, 0, or an error. */
static int try_to_leave(Rehearsal *rehearsal, size_t tenant, const NodeRecord *home) {
        const Inventory *inventory = rehearsal->inventory;
        Company company = {};
        NodeId node = {};
        int r = company_list(inventory, tenant, &company);
        if (r < 0)
                return r;
        r = PLACEMENT_FOUND;
        ARRAY_EACH(member, &company)    /* who is at home here keeps those that must be with it */
                if (home && !ID_EQUAL(&inventory->tenants.items[*member].vm->home, &home->id))
                        r = PLACEMENT_NO_ROOM;
        if (r == PLACEMENT_FOUND)
                r = seek(rehearsal, &company, home, &node);
        if (r == PLACEMENT_FOUND)
                leave(rehearsal, tenant, home || company.n > 1 ? &node : &(NodeId) {});
        array_clear(&company);
        return r < 0 ? r : r == PLACEMENT_FOUND;
}

static bool is_on_its_way(const Rehearsal *rehearsal, size_t tenant, const NodeRecord *node) {
        return ID_EQUAL(&rehearsal->inventory->tenants.items[tenant].vm->home, &node->id);
}

static bool somebody_is_on_its_way(const Rehearsal *rehearsal, const NodeRecord *node) {
        for (size_t i = 0; i < rehearsal->seating.n_waiting; i++)
                if (is_on_its_way(rehearsal, rehearsal->seating.waiting[i], node))
                        return true;
        return false;
}

/* Can it move from this node, or home to it? */
static bool may_move(const Rehearsal *rehearsal, size_t tenant, size_t index) {
        const Inventory *inventory = rehearsal->inventory;
        const NodeRecord *node = inventory->nodes.items[index].record;
        const Vm *vm = inventory->tenants.items[tenant].vm;
        size_t at = inventory->tenants.items[tenant].node;
        if (at == NOWHERE || !vm->run)
                return false;
        return node->drain != DRAIN_NONE ? at == index : at != index && ID_EQUAL(&vm->home, &node->id);
}

/* The first that must be with it, has left this node or comes home to it, and waits; or NOBODY. */
static size_t find_leader(const Rehearsal *rehearsal, size_t tenant, const NodeRecord *node) {
        const Tenant *tenants = rehearsal->inventory->tenants.items;
        size_t best = NOBODY;
        for (size_t i = 0; i < rehearsal->seating.n_waiting; i++) {
                size_t other = rehearsal->seating.waiting[i];
                if (other < best && is_on_its_way(rehearsal, other, node) &&
                    company_must_be_together(tenants[tenant].vm, tenants[other].vm))
                        best = other;
        }
        return best;
}

/* Who must be with one that is on its way follows it where there is room for both. 1: *ret has left; 0; or an error. */
static int next_follows(Rehearsal *rehearsal, size_t index, size_t *ret) {
        const Inventory *inventory = rehearsal->inventory;
        const NodeRecord *node = inventory->nodes.items[index].record;
        const NodeRecord *home = node->drain != DRAIN_NONE ? NULL : node;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                size_t leader = may_move(rehearsal, i, index) ? find_leader(rehearsal, i, node) : NOBODY;
                Company company = {};
                NodeId found;
                if (leader == NOBODY)
                        continue;
                int r = company_list(inventory, i, &company);
                if (r >= 0)
                        r = array_append(&company, &leader);
                if (r >= 0)
                        r = seek(rehearsal, &company, home, &found);
                array_clear(&company);
                if (r < 0)
                        return r;
                if (r != PLACEMENT_FOUND)
                        continue;
                leave(rehearsal, i, home ? &home->id : &inventory->tenants.items[leader].vm->target);
                *ret = i;
                return 1;
        }
        return 0;
}

/* The next one from or to this node has left its place. 1: *ret is who; 0: nobody leaves; or an error. */
static int next_leaves(Rehearsal *rehearsal, size_t index, size_t *ret) {
        const Inventory *inventory = rehearsal->inventory;
        const NodeRecord *node = inventory->nodes.items[index].record;
        bool leaves = node->drain != DRAIN_NONE;
        int r = spend(rehearsal, (inventory->tenants.n + rehearsal->seating.n_waiting) / 16);
        if (r < 0)
                return r;
        if (somebody_is_on_its_way(rehearsal, node))
                return inventory->has_affinity ? next_follows(rehearsal, index, ret) : 0;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                size_t tenant = rehearsal->order[i];
                size_t *stuck_since = rehearsal->stuck_since + tenant + (leaves ? 0 : inventory->tenants.n);
                if (*stuck_since == rehearsal->generation || !may_move(rehearsal, tenant, index))
                        continue;
                r = try_to_leave(rehearsal, tenant, leaves ? NULL : node);
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
        if (leaves && !inventory->has_affinity && pool->max_in_use == 0 && rehearsal->seating.n_waiting > CROWD) {
                int r = place_alone(rehearsal, tenant);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        rehearsal->generation++;
        add_to_waiting(rehearsal, tenant);
        return seating_run(&rehearsal->seating);
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

static Rehearsal rehearsal_of(Supposition *supposition, Inventory *inventory, uint64_t work_max,
                              size_t *preempted_by) {
        return (Rehearsal) {
                .seating = { .inventory = inventory, .work_left = work_max, .comes = arrive, .goes = give_way },
                .supposition = supposition,
                .inventory = inventory,
                .preempted_by = preempted_by,
        };
}

int rehearse(Supposition *supposition, Inventory *inventory, uint64_t work_max, size_t *preempted_by) {
        _cleanup_(rehearsal_clear) Rehearsal rehearsal = rehearsal_of(supposition, inventory, work_max, preempted_by);
        int r = prepare(&rehearsal);
        if (r >= 0)
                r = seating_run(&rehearsal.seating);
        while (r >= 0) {
                r = move_one(&rehearsal);
                if (r == 0)
                        return REHEARSAL_DONE;
        }
        return r == -E2BIG ? REHEARSAL_TOO_LONG : r;
}

int rehearse_move(Supposition *supposition, Inventory *inventory, size_t tenant, const NodeId *node,
                  uint64_t work_max, size_t *preempted_by) {
        _cleanup_(rehearsal_clear) Rehearsal rehearsal = rehearsal_of(supposition, inventory, work_max, preempted_by);
        leave(&rehearsal, tenant, node);
        int r = prepare(&rehearsal);
        if (r >= 0)
                r = seating_run(&rehearsal.seating);
        return r == -E2BIG ? REHEARSAL_TOO_LONG : r < 0 ? r : REHEARSAL_DONE;
}
