/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/company.h"

#include <errno.h>

#include "core/placement.h"

static bool must_be_with(const Vm *from, const Vm *to) {
        for (size_t i = 0; i < from->n_affinity; i++)
                if (from->affinity[i].kind == AFFINITY_WITH && text_equal(from->affinity[i].vm, to->name))
                        return true;
        return false;
}

bool company_must_be_together(const Vm *a, const Vm *b) {
        return must_be_with(a, b) || must_be_with(b, a);
}

bool company_follows(const Inventory *inventory, const Vm *vm, const Tenant *other) {
        const NodeRecord *node = inventory->nodes.items[other->node].record;
        if (!other->vm->run)
                return false;
        if (node->drain != DRAIN_NONE) {
                bool here = vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, &node->id);
                return here || !id_is_null(vm->home.bytes);
        }
        if (id_is_null(vm->home.bytes) || !ID_EQUAL(&vm->home, &other->vm->home))
                return false;
        const NodeRecord *home = registry_find_node(inventory->world->registry, &vm->home);
        return home && home->bring_home && home->drain == DRAIN_NONE;
}

static bool has(const Company *company, size_t tenant) {
        ARRAY_EACH(member, company)
                if (*member == tenant)
                        return true;
        return false;
}

int company_list(const Inventory *inventory, size_t tenant, Company *ret) {
        const Tenant *tenants = inventory->tenants.items;
        Company company = {};
        int r = array_append(&company, &tenant);
        for (size_t i = 0; inventory->has_affinity && r >= 0 && i < company.n; i++)
                for (size_t j = 0; r >= 0 && j < inventory->tenants.n; j++) {
                        const Tenant *other = tenants + j;
                        if (other->node == tenants[tenant].node && other->node != NOWHERE && other->vm->run &&
                            company_must_be_together(tenants[company.items[i]].vm, other->vm) && !has(&company, j))
                                r = array_append(&company, &j);
                }
        if (r < 0)
                array_clear(&company);
        else
                *ret = company;
        return r;
}

/* All of them aside; back when this ends, but those that found a place that they keep. */
typedef struct Departure {
        Inventory *inventory;
        const Company *company;
        Belongings **aside;             /* NULL: nothing to give back */
} Departure;

static void departure_end(Departure *departure) {
        for (size_t i = 0; departure->aside && i < departure->company->n; i++) {
                if (departure->aside[i])
                        inventory_give_back(departure->inventory, departure->aside[i]);
                free(departure->aside[i]);
        }
        free(departure->aside);
}

static int departure_begin(Inventory *inventory, const Company *company, Departure *ret) {
        *ret = (Departure) { inventory, company, calloc(company->n + 1, sizeof(*ret->aside)) };
        for (size_t i = 0; ret->aside && i < company->n; i++) {
                ret->aside[i] = inventory_set_aside(inventory, company->items[i]);
                if (!ret->aside[i])
                        return -ENOMEM;
        }
        return ret->aside ? 0 : -ENOMEM;
}

/* Takes room for one, on @target if that is not NULL; who is placed already binds it. */
static int place_one(Inventory *inventory, size_t index, const NodeId *target, const NodeId *from) {
        Tenant *tenant = inventory->tenants.items + index;
        const Vm *vm = tenant->vm;
        Vm sent = *vm;                  /* borrowed, as a whole */
        Choice choice;
        if (target)
                sent.target = *target;
        tenant->vm = &sent;
        int r = placement_choose(inventory, index, false, &choice);
        tenant->vm = vm;
        if (r != PLACEMENT_FOUND)
                return r;
        const RoomGpu *gpu = inventory->gpus.items + choice.gpus[0];
        const NodeId *node = &inventory->nodes.items[inventory->rooms.items[gpu->room].node].record->id;
        if (target ? !ID_EQUAL(node, target) : ID_EQUAL(node, from))
                return PLACEMENT_NO_ROOM;
        inventory_take(inventory, index, choice.gpus, choice.n_gpus);
        return PLACEMENT_FOUND;
}

/* FOUND: all have room there. Else none of them has any. */
static int place_all(Inventory *inventory, const Company *company, const NodeId *target, const NodeId *from) {
        int r = PLACEMENT_FOUND;
        size_t n = 0;
        while (r == PLACEMENT_FOUND && n < company->n) {
                r = place_one(inventory, company->items[n], target, from);
                n += r == PLACEMENT_FOUND;
        }
        while (r != PLACEMENT_FOUND && n > 0)
                inventory_vacate(inventory, company->items[--n]);
        return r;
}

/* Where the best place for the first has no room for the others, each node is asked. */
static int find_place(Inventory *inventory, const Company *company, const NodeId *target, const NodeId *from) {
        int r = place_all(inventory, company, target, from);
        for (size_t i = 0; r == PLACEMENT_NO_ROOM && !target && company->n > 1 && i < inventory->nodes.n; i++) {
                const NodeId *node = &inventory->nodes.items[i].record->id;
                if (inventory_node_takes_vms(inventory, i) && !ID_EQUAL(node, from))
                        r = place_all(inventory, company, node, from);
        }
        return r;
}

int company_place(Inventory *inventory, const Company *company, const NodeId *target, bool keep, NodeId *ret_node) {
        const Tenant *first = inventory->tenants.items + company->items[0];
        _cleanup_(departure_end) Departure departure = {};
        const NodeId from = first->vm->assignment.node;
        int r = departure_begin(inventory, company, &departure);
        if (r >= 0)
                r = find_place(inventory, company, target, &from);
        if (r != PLACEMENT_FOUND)
                return r;
        *ret_node = inventory->nodes.items[first->node].record->id;
        for (size_t i = 0; keep && i < company->n; i++) {
                free(departure.aside[i]);
                departure.aside[i] = NULL;
        }
        return PLACEMENT_FOUND;
}
