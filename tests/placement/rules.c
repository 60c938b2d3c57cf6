/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rules.h"

#include <errno.h>

#include "core/roster.h"

const char *rule_name(Rule rule) {
        switch (rule) {
        case RULE_OURS:
                return "gpupool";
        case RULE_FIRST_FIT:
                return "first fit";
        case RULE_SPREAD:
                return "spread";
        case RULE_NOVA:
                return "Nova";
        case RULE_KUBERNETES:
                return "Kubernetes";
        case RULE_PROXMOX:
                return "Proxmox";
        case RULE_COUNT:
                break;
        }
        return "";
}

/* A tenant on its way through a sort; the inventory is not at hand there. */
typedef struct Guest {
        const Vm *vm;
        size_t tenant, came;
} Guest;

static int compare_priority(const void *a, const void *b) {
        const Guest *x = a, *y = b;
        if (x->vm->priority != y->vm->priority)
                return x->vm->priority > y->vm->priority ? -1 : 1;
        return x->came < y->came ? -1 : x->came > y->came;
}

/* ---- ours: the product's own pass, and nothing beside it */

static int place_all(Inventory *inventory, const size_t *tenants, size_t n) {
        Roster roster = {};
        const RosterRules rules = {};
        int r = roster_make(inventory, tenants, n, &rules, &roster);
        roster_clear(&roster);
        return r;
}

/* ---- the others */

static bool binds(const Vm *from, const Vm *to, bool is_here) {
        for (size_t i = 0; i < from->n_affinity; i++)
                if (text_equal(from->affinity[i].vm, to->name) &&
                    (from->affinity[i].kind == AFFINITY_APART) == is_here)
                        return true;
        return false;
}

static bool relations_allow(const Inventory *inventory, const Vm *vm, size_t node) {
        for (size_t i = 0; inventory->has_affinity && i < inventory->tenants.n; i++) {
                const Tenant *other = inventory->tenants.items + i;
                bool is_here = other->node == node;
                if (other->node != NOWHERE && other->vm != vm &&
                    (binds(vm, other->vm, is_here) || binds(other->vm, vm, is_here)))
                        return false;
        }
        return true;
}

static bool pool_allows(const InventoryPool *pool, const Vm *vm) {
        if (pool->free < vm->count)
                return false;
        if (!vm_lost_its_place(vm) && pool->free - vm->count < pool->pool->reserve)
                return false;
        return pool->pool->max_in_use == 0 || (uint64_t) pool->in_use + vm->count <= pool->pool->max_in_use;
}

static bool room_allows(const Inventory *inventory, const Room *room, const Vm *vm) {
        return inventory_node_takes_vms(inventory, room->node) &&
               choice_exists(inventory, room, inventory_models_of(inventory, vm), vm->count) &&
               relations_allow(inventory, vm, room->node);
}

/* That have GPUs of the room. */
static uint32_t count_vms(const Inventory *inventory, const Room *room) {
        uint32_t n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                size_t tenant = inventory->gpus.items[i].tenant;
                bool counted = tenant == NOBODY;
                for (size_t j = room->first_gpu; j < i; j++)
                        counted = counted || inventory->gpus.items[j].tenant == tenant;
                n += !counted;
        }
        return n;
}

/* The smaller, the better. */
static double score(Rule rule, const Inventory *inventory, const Room *room, uint32_t count) {
        switch (rule) {
        case RULE_SPREAD:
                return -(double) room->free;
        case RULE_NOVA:
                return room->free;
        case RULE_KUBERNETES:
                return -((double) room->free - count) / room->usable;
        case RULE_PROXMOX:
                return count_vms(inventory, room);
        case RULE_OURS:
        case RULE_FIRST_FIT:
        case RULE_COUNT:
                break;
        }
        return 0;
}

/* The best room but @not_that; only of those that have what it takes, unless @blindly. */
static size_t find_room(Rule rule, const Inventory *inventory, const InventoryPool *pool, const Vm *vm, bool blindly,
                        size_t not_that) {
        size_t best = NOWHERE;
        double best_score = 0;
        for (size_t i = pool->first_room; i < pool->first_room + pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + i;
                bool can = blindly ? inventory_node_takes_vms(inventory, room->node) &&
                                             relations_allow(inventory, vm, room->node)
                                   : room_allows(inventory, room, vm);
                if (!can || i == not_that)
                        continue;
                double its_score = score(rule, inventory, room, vm->count);
                if (best == NOWHERE || its_score < best_score) {
                        best = i;
                        best_score = its_score;
                }
                if (rule == RULE_FIRST_FIT)
                        break;
        }
        return best;
}

/* A busy GPU is found out at the start, and a service is relocated once. */
static size_t find_room_as_proxmox(const Inventory *inventory, const InventoryPool *pool, const Vm *vm) {
        size_t first = find_room(RULE_PROXMOX, inventory, pool, vm, true, NOWHERE);
        if (first == NOWHERE || room_allows(inventory, inventory->rooms.items + first, vm))
                return first;
        size_t second = find_room(RULE_PROXMOX, inventory, pool, vm, true, first);
        if (second == NOWHERE || room_allows(inventory, inventory->rooms.items + second, vm))
                return second;
        return NOWHERE;
}

static void place_one(Rule rule, Inventory *inventory, size_t tenant) {
        const Vm *vm = inventory->tenants.items[tenant].vm;
        size_t index = inventory_find_pool(inventory, vm->pool);
        if (index == NOWHERE || !pool_allows(inventory->pools.items + index, vm))
                return;
        const InventoryPool *pool = inventory->pools.items + index;
        size_t room = rule == RULE_PROXMOX ? find_room_as_proxmox(inventory, pool, vm)
                                           : find_room(rule, inventory, pool, vm, false, NOWHERE);
        Choice choice;
        if (room != NOWHERE && choice_make(inventory, inventory->rooms.items + room,
                                           inventory->tenants.items[tenant].models, vm->count, &choice))
                inventory_take(inventory, tenant, choice.gpus, choice.n_gpus);
}

int rule_place(Rule rule, Inventory *inventory, const size_t *tenants, size_t n) {
        if (rule == RULE_OURS)
                return place_all(inventory, tenants, n);
        _cleanup_free_ Guest *guests = calloc(n + 1, sizeof(*guests));
        if (!guests)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                guests[i] = (Guest) { inventory->tenants.items[tenants[i]].vm, tenants[i], i };
        if (n > 1 && rule != RULE_NOVA && rule != RULE_PROXMOX)
                qsort(guests, n, sizeof(*guests), compare_priority);
        for (size_t i = 0; i < n; i++)
                place_one(rule, inventory, guests[i].tenant);
        return 0;
}

/* ---- counting */

int list_waiting(const Inventory *inventory, size_t **ret, size_t *ret_n) {
        size_t *found = calloc(inventory->tenants.n + 1, sizeof(*found)), n = 0;
        if (!found)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (tenant->node == NOWHERE && tenant->vm->run && !tenant->vm->failed)
                        found[n++] = i;
        }
        *ret = found;
        *ret_n = n;
        return 0;
}

static ClassCount *find_class(ClassCount *classes, size_t *n, int32_t priority) {
        size_t i = 0;
        while (i < *n && classes[i].priority > priority)
                i++;
        if (i < *n && classes[i].priority == priority)
                return classes + i;
        if (*n >= CLASSES_MAX)
                return NULL;
        memmove(classes + i + 1, classes + i, (*n - i) * sizeof(*classes));
        classes[i] = (ClassCount) { .priority = priority };
        (*n)++;
        return classes + i;
}

size_t count_classes(const Inventory *inventory, const size_t *tenants, size_t n, ClassCount ret[static CLASSES_MAX]) {
        size_t n_classes = 0;
        for (size_t i = 0; i < n; i++) {
                const Tenant *tenant = inventory->tenants.items + tenants[i];
                ClassCount *class = find_class(ret, &n_classes, tenant->vm->priority);
                if (!class)
                        continue;
                class->wanted++;
                if (tenant->node == NOWHERE)
                        continue;
                class->placed++;
                class->gpus += tenant->vm->count;
        }
        return n_classes;
}

double weigh_classes(const ClassCount *classes, size_t n) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
                sum += (double) classes[i].placed * (double) (n - i);
        return sum;
}

double order_classes(const ClassCount *classes, size_t n) {
        double sum = 0, weight = 1;
        for (size_t i = n; i > 0; i--) {
                sum += classes[i - 1].placed * weight;
                weight *= classes[i - 1].wanted + 1.0;
        }
        return sum;
}
