/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/placement-internal.h"
#include "core/roster-internal.h"

/* So many rooms are tried at most: the first is mostly good. */
#define ROOMS_MAX 16U
/* In so many rooms one pass looks for victims at most, for all together: they are stopped one after the other, and then
 * there is a new pass. The most urgent come first. */
#define SOUGHT_MAX (UINT64_C(128) * 1024U)

/* Who would be stopped in one room. The cheapest is taken: the least important, then the fewest GPUs. */
typedef struct Victims {
        size_t room;
        size_t by_name;
        size_t tenants[GPUS_PER_NODE_MAX];
        size_t n;
        int32_t priority;               /* the highest of them */
        size_t n_gpus;
} Victims;

static int compare_victims(const void *a, const void *b) {
        const Victims *x = a, *y = b;
        if (x->priority != y->priority)
                return x->priority < y->priority ? -1 : 1;
        if (x->n_gpus != y->n_gpus)
                return x->n_gpus < y->n_gpus ? -1 : 1;
        if (x->n != y->n)
                return x->n < y->n ? -1 : 1;
        return x->by_name < y->by_name ? -1 : x->by_name > y->by_name;
}

static bool may_be_stopped(const Pass *pass, size_t item, size_t tenant) {
        const Vm *vm = pass_tenant(pass, item)->vm, *other = pass->inventory->tenants.items[tenant].vm;
        return pass->item_of[tenant] == NOWHERE && other->priority < vm->priority && pass->rules->preempts(vm, other);
}

/* Sorted in by priority, then size, then name: whoever is spared is spared from behind. */
static void add_victim(const Inventory *inventory, Victims *victims, size_t tenant) {
        const Tenant *t = inventory->tenants.items + tenant;
        size_t place = victims->n++;
        for (; place > 0; place--) {
                const Tenant *before = inventory->tenants.items + victims->tenants[place - 1];
                if (before->vm->priority < t->vm->priority ||
                    (before->vm->priority == t->vm->priority &&
                     (before->n_held < t->n_held ||
                      (before->n_held == t->n_held && strcmp(before->vm->name, t->vm->name) < 0))))
                        break;
                victims->tenants[place] = victims->tenants[place - 1];
        }
        victims->tenants[place] = tenant;
}

static void sum_up(const Inventory *inventory, Victims *victims) {
        victims->priority = VM_PRIORITY_MIN;
        victims->n_gpus = 0;
        for (size_t i = 0; i < victims->n; i++) {
                const Tenant *tenant = inventory->tenants.items + victims->tenants[i];
                victims->priority = tenant->vm->priority > victims->priority ? tenant->vm->priority : victims->priority;
                victims->n_gpus += tenant->n_held;
        }
}

/* Of these models, in one room. */
static size_t count_held(const Inventory *inventory, const Tenant *tenant, size_t room, Models models) {
        size_t n = 0;
        for (size_t i = tenant->first_held; i < tenant->first_held + tenant->n_held; i++) {
                size_t gpu = inventory->held.items[i];
                n += inventory->gpus.items[gpu].room == room && inventory_gpu_suits(inventory, gpu, models);
        }
        return n;
}

/* What the item would find there, if some were stopped. Sets are left to who tries it. */
typedef struct Relief {
        const Inventory *inventory;
        const Tenant *tenant;
        size_t room;
        size_t free;
        Capacity taken;
} Relief;

static Relief relief_begin(const Pass *pass, size_t item, size_t index) {
        const Inventory *inventory = pass->inventory;
        const Room *room = inventory->rooms.items + index;
        const Tenant *tenant = pass_tenant(pass, item);
        return (Relief) {
                .inventory = inventory,
                .tenant = tenant,
                .room = index,
                .free = choice_count_free(inventory, room, tenant->models),
                .taken = inventory->taken[room->node],
        };
}

static void relief_stop(Relief *relief, size_t tenant) {
        const Tenant *t = relief->inventory->tenants.items + tenant;
        relief->free += count_held(relief->inventory, t, relief->room, relief->tenant->models);
        capacity_take_off(&relief->taken, &t->vm->needs);
}

static void relief_let_run(Relief *relief, size_t tenant) {
        const Tenant *t = relief->inventory->tenants.items + tenant;
        relief->free -= count_held(relief->inventory, t, relief->room, relief->tenant->models);
        capacity_add(&relief->taken, &t->vm->needs);
}

static bool relief_is_enough(const Relief *relief) {
        const Room *room = relief->inventory->rooms.items + relief->room;
        const NodeFacts *facts = relief->inventory->nodes.items[room->node].facts;
        return relief->free >= relief->tenant->vm->count &&
               capacity_judge(&relief->tenant->vm->needs, facts, &relief->taken) == 0;
}

/* The fewest of the least important that make room enough. */
static bool find_victims(const Pass *pass, size_t item, size_t index, Victims *ret) {
        const Inventory *inventory = pass->inventory;
        const Room *room = inventory->rooms.items + index;
        Relief relief = relief_begin(pass, item, index);
        *ret = (Victims) { .room = index, .by_name = inventory->nodes.items[room->node].by_name };
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus && ret->n < GPUS_PER_NODE_MAX; i++) {
                size_t tenant = inventory->gpus.items[i].tenant;
                bool known = tenant == NOBODY || !may_be_stopped(pass, item, tenant);
                for (size_t j = 0; j < ret->n && !known; j++)
                        known = ret->tenants[j] == tenant;
                if (!known)
                        add_victim(inventory, ret, tenant);
        }

        size_t n = 0;
        while (n < ret->n && !relief_is_enough(&relief))
                relief_stop(&relief, ret->tenants[n++]);
        ret->n = n;
        if (n == 0 || !relief_is_enough(&relief))
                return false;
        for (size_t i = n; i > 0; i--) {
                relief_let_run(&relief, ret->tenants[i - 1]);
                if (relief_is_enough(&relief))
                        array_remove_bytes(ret->tenants, &ret->n, i - 1, sizeof(*ret->tenants));
                else
                        relief_stop(&relief, ret->tenants[i - 1]);
        }
        sum_up(inventory, ret);
        return ret->n > 0;
}

static int stop(Pass *pass, const Victims *victims) {
        for (size_t i = 0; i < victims->n; i++) {
                Belongings *belongings = inventory_set_aside(pass->inventory, victims->tenants[i]);
                int r = belongings ? array_append(&pass->roster->preempted, &belongings) : -ENOMEM;
                if (r < 0) {
                        if (belongings)
                                inventory_give_back(pass->inventory, belongings);
                        free(belongings);
                        return r;
                }
        }
        return 0;
}

static int try_victims(Pass *pass, size_t index, const Victims *victims) {
        RosterItem *item = pass->roster->items.items + index;
        size_t before = pass->roster->preempted.n;
        int r = stop(pass, victims);
        if (r >= 0 && pass_pool_allows(pass, index))
                r = placement_room_does(pass->inventory, item->tenant, victims->room);
        if (r > 0 && pass_put(pass, index, victims->room)) {
                item->first_preempted = before;
                item->n_preempted = pass->roster->preempted.n - before;
                pass_forget_rejections(pass);
                for (size_t i = 0; i < pass->inventory->pools.n; i++)
                        pass->ledgers[i].counted = false;
                return 1;
        }
        while (pass->roster->preempted.n > before) {
                Belongings *belongings = pass->roster->preempted.items[--pass->roster->preempted.n];
                inventory_give_back(pass->inventory, belongings);
                free(belongings);
        }
        return r < 0 ? r : 0;
}

static bool needs_the_same(const VmNeeds *a, const VmNeeds *b) {
        return a->memory_bytes == b->memory_bytes && a->hugepages == b->hugepages &&
               a->hugepage_size_bytes == b->hugepage_size_bytes && a->numa_nodes == b->numa_nodes &&
               text_equal(a->cpu_model, b->cpu_model) && text_equal(a->cpu_vendor, b->cpu_vendor) &&
               text_list_equal(&a->paths, &b->paths);
}

/* Who asks for the same as one for which nobody could be stopped, and is no more important. */
static bool is_as_hopeless(const Pass *pass, const Tenant *tenant) {
        const Tenant *other = pass->hopeless;
        return other && tenant->pool == other->pool && tenant->n_bonds == 0 && other->n_bonds == 0 &&
               tenant->models == other->models && tenant->vm->count == other->vm->count &&
               tenant->vm->priority <= other->vm->priority &&
               vm_lost_its_place(tenant->vm) == vm_lost_its_place(other->vm) &&
               needs_the_same(&tenant->vm->needs, &other->vm->needs);
}

int pass_preempt(Pass *pass, size_t item) {
        const Inventory *inventory = pass->inventory;
        const Tenant *tenant = pass_tenant(pass, item);
        const InventoryPool *pool = inventory->pools.items + tenant->pool;
        ARRAY(Victims) list = {};
        int r = 0;
        if (!tenant->vm->preempt || pass->roster->sought >= SOUGHT_MAX || is_as_hopeless(pass, tenant))
                return 0;
        pass->roster->sought += pool->n_rooms;
        for (size_t i = pool->first_room; r >= 0 && i < pool->first_room + pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + i;
                Victims victims;
                if (!inventory_node_takes_vms(inventory, room->node) ||
                    room->usable < tenant->vm->count || !find_victims(pass, item, i, &victims))
                        continue;
                r = array_append(&list, &victims);
        }
        if (list.n > 1)
                qsort(list.items, list.n, sizeof(*list.items), compare_victims);
        for (size_t i = 0; r == 0 && i < list.n && i < ROOMS_MAX; i++)
                r = try_victims(pass, item, list.items + i);
        array_clear(&list);
        if (r == 0)
                pass->hopeless = tenant;
        return r;
}
