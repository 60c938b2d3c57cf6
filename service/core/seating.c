/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/seating.h"

#include <errno.h>

#include "core/placement-internal.h"

static void forget_waiting(Seating *seating, size_t tenant) {
        for (size_t i = 0; i < seating->n_waiting; i++)
                if (seating->waiting[i] == tenant) {
                        seating->waiting[i] = seating->waiting[--seating->n_waiting];
                        return;
                }
}

/* The room is the pass's, its GPUs are those that are best for this VM alone. 1; 0: by what others took it is none any
 * more; or an error. */
static int seat(Seating *seating, const RosterItem *item) {
        Inventory *inventory = seating->inventory;
        size_t tenant = item->tenant, room = inventory->gpus.items[item->choice.gpus[0]].room;
        const Vm *vm = inventory->tenants.items[tenant].vm;
        Choice choice;
        int r = placement_pool_allows(inventory, tenant, vm_lost_its_place(vm))
                        ? placement_room_does(inventory, tenant, room) : 0;
        if (r <= 0 || !choice_make(inventory, inventory->rooms.items + room,
                                 inventory->tenants.items[tenant].models, vm->count, &choice))
                return r < 0 ? r : 0;
        inventory_take(inventory, tenant, choice.gpus, choice.n_gpus);
        forget_waiting(seating, tenant);
        r = seating->comes(seating, tenant);
        return r < 0 ? r : 1;
}

static int send_away(Seating *seating, size_t tenant, size_t whom) {
        int r = seating->goes(seating, tenant, whom);
        if (r >= 0)
                seating->waiting[seating->n_waiting++] = tenant;
        return r;
}

/* The pass serves until something has changed that it did not give. 1: a new one is due; 0: nobody gets more; or an
 * error. */
static int carry_out(Seating *seating, const Roster *roster) {
        bool somebody_came = false, more_to_preempt = false;
        ARRAY_EACH(item, &roster->items) {
                int r;
                if (item->verdict != PLACEMENT_FOUND)
                        continue;
                if (item->n_preempted > 0) {
                        r = send_away(seating, roster->preempted.items[item->first_preempted]->tenant, item->tenant);
                        return r < 0 ? r : 1;
                }
                r = seat(seating, item);
                if (r < 0 || (r == 0 && somebody_came))
                        return r < 0 ? r : 1;
                if (r == 0)
                        continue;
                somebody_came = true;
                more_to_preempt = more_to_preempt || seating->inventory->tenants.items[item->tenant].vm->preemptible;
        }
        return more_to_preempt;
}

/* 1: once more; 0: nobody gets a place any more; or an error. */
static int run_pass(Seating *seating) {
        const RosterRules rules = roster_rules(seating->inventory->world->registry);
        uint64_t work = SEATING_WORK * seating->n_waiting + seating->inventory->tenants.n / 16;
        Roster roster = {};
        if (seating->n_waiting == 0)
                return 0;
        if (work > seating->work_left)
                return -E2BIG;
        seating->work_left -= work;
        int r = roster_make(seating->inventory, seating->waiting, seating->n_waiting, &rules, &roster);
        if (r < 0)
                return r;
        work = roster.sought + EXCHANGE_WORK * roster.exchanged;
        seating->work_left -= work < seating->work_left ? work : seating->work_left;
        roster_undo(seating->inventory, &roster);
        r = carry_out(seating, &roster);
        roster_clear(&roster);
        return r;
}

int seating_run(Seating *seating) {
        int r;
        do
                r = run_pass(seating);
        while (r > 0);
        return r;
}
