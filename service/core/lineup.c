/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lineup.h"

#include <errno.h>

#include "core/stamp.h"

static void forget_plan(Lineup *lineup) {
        roster_clear(&lineup->roster);
        array_clear(&lineup->grants);
        lineup->made = false;
}

void lineup_clear(Lineup *lineup) {
        forget_plan(lineup);
        *lineup = (Lineup) {};
}

/* ---- the world as a number: all that placement reads of it */

static uint64_t stamp_host(uint64_t stamp, const NodeFacts *facts) {
        if (!facts)
                return stamp_add(stamp, 1);
        stamp = stamp_add(stamp_add(stamp, facts->memory_total), facts->hugepage_default_bytes);
        for (size_t i = 0; i < facts->n_hugepages; i++)
                stamp = stamp_add(stamp_add(stamp, facts->hugepages[i].size_bytes), facts->hugepages[i].total);
        for (size_t i = 0; i < facts->n_numa_memory; i++) {
                const NumaMemory *memory = facts->numa_memory + i;
                stamp = stamp_add(stamp_add(stamp, memory->node), memory->page_size_bytes);
                stamp = stamp_add(stamp, memory->total_bytes);
        }
        stamp = stamp_add_text(stamp_add_texts(stamp, &facts->cpu_models), facts->cpu_vendor);
        return stamp_add_paths(stamp_add_paths(stamp, &facts->missing_paths), &facts->hanging_paths);
}

static uint64_t stamp_hardware(uint64_t stamp, const Inventory *inventory) {
        ARRAY_EACH(node, &inventory->nodes) {
                stamp = stamp_add_bytes(stamp_add(stamp, node->troubles), node->record->id.bytes, ID_SIZE);
                stamp = stamp_host(stamp_add_text(stamp, node->record->name), node->facts);
        }
        ARRAY_EACH(pool, &inventory->pools) {
                stamp = stamp_add(stamp_add_text(stamp, pool->pool->name), pool->n_rooms);
                stamp = stamp_add(stamp_add(stamp, pool->pool->placement), pool->pool->reserve);
                stamp = stamp_add(stamp, pool->pool->max_in_use);
        }
        ARRAY_EACH(gpu, &inventory->gpus) {
                bool bits[] = { gpu->set_is_broken, gpu->group_is_taken, gpu_view_is_usable(gpu->view) };
                stamp = stamp_add(stamp_add_bytes(stamp, bits, sizeof(bits)), inventory->rooms.items[gpu->room].node);
                stamp = stamp_add(stamp_add(stamp_add(stamp, gpu->room), gpu->next_in_group), gpu->next_in_set);
                stamp = stamp_add(stamp_add(stamp_add(stamp, gpu->numa), gpu->behind),
                            (uint64_t) gpu->view->identity.vendor << 16 | gpu->view->identity.device);
        }
        return stamp;
}

static uint64_t stamp_needs(uint64_t stamp, const VmNeeds *needs) {
        stamp = stamp_add(stamp_add(stamp, needs->memory_bytes), needs->hugepage_size_bytes);
        stamp = stamp_add(stamp_add(stamp, needs->numa_nodes), (uint64_t) needs->hugepages << 1 | needs->host_cpu);
        stamp = stamp_add_text(stamp_add_text(stamp, needs->cpu_model), needs->cpu_vendor);
        return stamp_add_texts(stamp, &needs->paths);
}

/* What people asked for. */
static uint64_t stamp_wishes(uint64_t stamp, const Vm *vm) {
        bool bits[] = { vm->run, vm->failed, vm->preempt, vm->preemptible };
        stamp = stamp_add_bytes(stamp_add_bytes(stamp, vm->id.bytes, ID_SIZE), bits, sizeof(bits));
        stamp = stamp_add_text(stamp_add_text(stamp_add_text(stamp, vm->name), vm->pool), vm->model);
        stamp = stamp_add(stamp_add(stamp_add(stamp, vm->count), (uint32_t) vm->priority), vm->attempts);
        for (size_t i = 0; i < vm->n_affinity; i++)
                stamp = stamp_add_text(stamp_add(stamp, vm->affinity[i].kind), vm->affinity[i].vm);
        return stamp_needs(stamp_add_texts(stamp, &vm->preferred_nodes), &vm->needs);
}

static uint64_t place_as_number(const NodeId *node, const AssignedGpu *gpus, size_t n_gpus) {
        uint64_t stamp = stamp_add_bytes(1, node->bytes, ID_SIZE);
        for (size_t i = 0; i < n_gpus; i++)
                stamp = stamp_add_text(stamp, gpus[i].gpu.slot);
        return stamp;
}

static int compare_grant(const void *key, const void *item) {
        size_t tenant = *(const size_t *) key, other = ((const LineupGrant *) item)->tenant;
        return tenant < other ? -1 : tenant > other;
}

static uint64_t wait_as_number(const Vm *vm) {
        return stamp_add(stamp_add_bytes(2, vm->target.bytes, ID_SIZE), vm_lost_its_place(vm));
}

/* Where it is. Who got what the lineup handed out to it counts as waiting still: that is no change. */
static uint64_t find_place(const Lineup *lineup, size_t tenant, const Vm *vm) {
        const Assignment *assignment = &vm->assignment;
        bool stops = assignment->phase == ASSIGNMENT_STOPPING;
        size_t i;
        if (assignment->phase == ASSIGNMENT_NONE)
                return wait_as_number(vm);
        uint64_t place = place_as_number(&assignment->node, assignment->gpus, assignment->n_gpus);
        if (!stops && array_find(&lineup->grants, &tenant, compare_grant, &i) &&
            lineup->grants.items[i].place == place)
                return lineup->grants.items[i].wait;
        return stamp_add(place, (uint64_t) stops << 1 | vm_makes_way(vm));
}

static uint64_t stamp_world(const Lineup *lineup, const Inventory *inventory, const Waiter *waiters, size_t n) {
        uint64_t stamp = stamp_hardware(inventory->world->registry->level, inventory);
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *vm = inventory->tenants.items[i].vm;
                stamp = stamp_add(stamp_wishes(stamp, vm), find_place(lineup, i, vm));
        }
        for (size_t i = 0; i < n; i++)
                if (waiters[i].rests)
                        stamp = stamp_add_bytes(stamp, waiters[i].vm->id.bytes, ID_SIZE);
        return stamp;
}

static uint64_t stamp_running(const Inventory *inventory) {
        uint64_t stamp = 0;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *vm = inventory->tenants.items[i].vm;
                if (vm->preemptible && vm->assignment.phase == ASSIGNMENT_RUNNING)
                        stamp = stamp_add(stamp, i);
        }
        return stamp;
}

/* ---- the pass */

typedef ARRAY(Belongings *) Leavings;

static void give_all_back(Inventory *inventory, Leavings *leavings) {
        while (leavings->n > 0) {
                Belongings *belongings = leavings->items[--leavings->n];
                inventory_give_back(inventory, belongings);
                free(belongings);
        }
        array_clear(leavings);
}

/* As if those that make way had gone already. */
static int set_leavers_aside(Inventory *inventory, Leavings *ret) {
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                if (!vm_makes_way(inventory->tenants.items[i].vm))
                        continue;
                Belongings *belongings = inventory_set_aside(inventory, i);
                int r = belongings ? array_append(ret, &belongings) : -ENOMEM;
                if (r < 0) {
                        if (belongings)
                                inventory_give_back(inventory, belongings);
                        free(belongings);
                        return r;
                }
        }
        return 0;
}

static int make_roster(Inventory *inventory, const Waiter *waiters, size_t n, Roster *ret) {
        const RosterRules rules = roster_rules(inventory->world->registry);
        Leavings leavings = {};
        size_t n_tenants = 0;
        _cleanup_free_ size_t *tenants = calloc(n + 1, sizeof(*tenants));
        if (!tenants)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (!waiters[i].rests || (rules.preempts && waiters[i].vm->preempt))
                        tenants[n_tenants++] = inventory_find_tenant(inventory, &waiters[i].vm->id);
        int r = set_leavers_aside(inventory, &leavings);
        if (r >= 0)
                r = roster_make(inventory, tenants, n_tenants, &rules, ret);
        if (r >= 0)
                roster_undo(inventory, ret);
        give_all_back(inventory, &leavings);
        return r;
}

static int make_pass(Lineup *lineup, Inventory *inventory, const Waiter *waiters, size_t n) {
        Roster roster = {};
        int r = make_roster(inventory, waiters, n, &roster);
        if (r < 0)
                return r;
        forget_plan(lineup);
        lineup->roster = roster;
        lineup->passes++;
        lineup->stamp = stamp_world(lineup, inventory, waiters, n);
        lineup->running = stamp_running(inventory);
        lineup->made = true;
        return 0;
}

/* ---- what comes next of it */

typedef struct Walk {
        Lineup *lineup;
        Inventory *inventory;
        const bool *rests;              /* by tenant */
        bool fresh;                     /* the pass was made for this very world */
        bool stale;                     /* it does not hold any more */
        ARRAY(size_t) held_for;         /* tenants for whom something is held back now */
} Walk;

/* One of the GPUs is in the hands of a VM that makes way. */
static bool is_waited_for(const Walk *walk, const RosterItem *item) {
        for (size_t i = 0; i < item->choice.n_gpus; i++) {
                size_t holder = inventory_gpu_holder(walk->inventory, item->choice.gpus[i]);
                if (holder != NOBODY && vm_makes_way(walk->inventory->tenants.items[holder].vm))
                        return true;
        }
        return false;
}

/* What is free already of what is planned for it is nobody else's. */
static int hold_back(Walk *walk, const RosterItem *item) {
        size_t gpus[GPUS_PER_VM_MAX], n = 0;
        for (size_t i = 0; i < item->choice.n_gpus; i++)
                if (inventory_gpu_is_free(walk->inventory, item->choice.gpus[i]))
                        gpus[n++] = item->choice.gpus[i];
        if (n == 0)
                return LINEUP_NOTHING;
        int r = array_append(&walk->held_for, &item->tenant);
        if (r < 0)
                return r;
        inventory_take(walk->inventory, item->tenant, gpus, n);
        return LINEUP_NOTHING;
}

static int grant(Lineup *lineup, const RosterItem *item, const Vm *vm, const Placement *placement) {
        LineupGrant grant = {
                .tenant = item->tenant,
                .place = place_as_number(&placement->node, placement->gpus, placement->n_gpus),
                .wait = wait_as_number(vm),
        };
        size_t place;
        if (array_find(&lineup->grants, &item->tenant, compare_grant, &place)) {
                lineup->grants.items[place] = grant;
                return 0;
        }
        return array_insert(&lineup->grants, place, &grant);
}

static int place_item(Walk *walk, const RosterItem *item, LineupStep *ret) {
        const Inventory *inventory = walk->inventory;
        const Vm *vm = inventory->tenants.items[item->tenant].vm;
        const Room *room = inventory->rooms.items + inventory->gpus.items[item->choice.gpus[0]].room;
        const NodeId *planned = &inventory->nodes.items[room->node].record->id;
        _cleanup_(placement_clear) Placement placement = {};
        int r = placement_find_planned(walk->inventory, vm, planned, &placement);
        if (r < 0)
                return r;
        bool as_planned = r == PLACEMENT_FOUND && ID_EQUAL(&placement.node, planned);
        if (!as_planned && is_waited_for(walk, item))
                return hold_back(walk, item);
        if (!as_planned && !walk->fresh) {
                walk->stale = true;
                return LINEUP_NOTHING;
        }
        if (r != PLACEMENT_FOUND)
                return LINEUP_NOTHING;
        r = grant(walk->lineup, item, vm, &placement);
        if (r < 0)
                return r;
        *ret = (LineupStep) { .vm = vm, .placement = placement };
        placement = (Placement) {};
        return LINEUP_PLACES;
}

static int step_item(Walk *walk, const RosterItem *item, LineupStep *ret) {
        const Vm *vm = walk->inventory->tenants.items[item->tenant].vm;
        if (item->verdict != PLACEMENT_FOUND || item->choice.n_gpus == 0 || vm->assignment.phase != ASSIGNMENT_NONE)
                return LINEUP_NOTHING;
        if (walk->rests[item->tenant])
                return hold_back(walk, item);
        if (item->n_preempted == 0)
                return place_item(walk, item, ret);
        if (is_waited_for(walk, item))          /* one after the other */
                return hold_back(walk, item);
        const Belongings *first = walk->lineup->roster.preempted.items[item->first_preempted];
        const Vm *victim = walk->inventory->tenants.items[first->tenant].vm;
        if (!vm_may_preempt(vm, victim)) {      /* it stopped or failed since */
                walk->stale = !walk->fresh;
                return hold_back(walk, item);
        }
        *ret = (LineupStep) { .vm = vm, .victim = victim };
        return LINEUP_PREEMPTS;
}

static int walk_items(Walk *walk, LineupStep *ret) {
        int r = LINEUP_NOTHING;
        walk->stale = false;
        ARRAY_EACH(item, &walk->lineup->roster.items) {
                r = step_item(walk, item, ret);
                if (r != LINEUP_NOTHING || walk->stale)
                        break;
        }
        while (walk->held_for.n > 0)
                inventory_vacate(walk->inventory, walk->held_for.items[--walk->held_for.n]);
        array_clear(&walk->held_for);
        return r;
}

/* Whatever the stamp says: all indexes of the plan are good in this inventory, and nobody gets more than there is room
 * for. Two worlds of one stamp can be made up (core/inventory-follow.c). */
static bool plan_is_within(const Lineup *lineup, const Inventory *inventory) {
        ARRAY_EACH(item, &lineup->roster.items) {
                if (item->tenant >= inventory->tenants.n)
                        return false;
                if (item->verdict == PLACEMENT_FOUND &&
                    item->choice.n_gpus > inventory->tenants.items[item->tenant].vm->count)
                        return false;
                for (size_t i = 0; item->verdict == PLACEMENT_FOUND && i < item->choice.n_gpus; i++)
                        if (item->choice.gpus[i] >= inventory->gpus.n)
                                return false;
        }
        ARRAY_EACH(preempted, &lineup->roster.preempted)
                if ((*preempted)->tenant >= inventory->tenants.n)
                        return false;
        return true;
}

int lineup_next(Lineup *lineup, Inventory *inventory, const Waiter *waiters, size_t n, LineupStep *ret) {
        if (n == 0)
                return LINEUP_NOTHING;
        _cleanup_free_ bool *rests = calloc(inventory->tenants.n + 1, sizeof(*rests));
        if (!rests)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                rests[inventory_find_tenant(inventory, &waiters[i].vm->id)] = waiters[i].rests;

        Walk walk = { .lineup = lineup, .inventory = inventory, .rests = rests };
        if (lineup->made && plan_is_within(lineup, inventory) &&
            lineup->stamp == stamp_world(lineup, inventory, waiters, n)) {
                int r = walk_items(&walk, ret);
                if (r != LINEUP_NOTHING)
                        return r;
                if (!walk.stale && lineup->running == stamp_running(inventory))
                        return LINEUP_NOTHING;
        }
        int r = make_pass(lineup, inventory, waiters, n);
        if (r < 0)
                return r;
        walk.fresh = true;
        return walk_items(&walk, ret);
}
