/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/seating.h"

#include <errno.h>

/* What one pass gives is all carried out at once where a pass for each VM would be more than this. The others could
 * fare better by a pass of their own, and mostly fare the same. */
#define EXACT_WORK_MAX (1024U * 1024U)

bool seating_may_preempt(const Vm *vm, const Vm *other) {
        return vm->preempt && other->preemptible && other->priority < vm->priority && other->run &&
               other->assignment.phase == ASSIGNMENT_RUNNING;
}

static uint64_t work_of_pass(const Seating *seating) {
        return SEATING_WORK * seating->n_waiting + seating->inventory->tenants.n / 16;
}

static void forget_waiting(Seating *seating, size_t tenant) {
        for (size_t i = 0; i < seating->n_waiting; i++)
                if (seating->waiting[i] == tenant) {
                        seating->waiting[i] = seating->waiting[--seating->n_waiting];
                        return;
                }
}

/* The room is the pass's, its GPUs are those that are best for this VM alone. */
static int seat(Seating *seating, const RosterItem *item) {
        Inventory *inventory = seating->inventory;
        Choice choice = item->choice;
        size_t tenant = item->tenant, room = inventory->gpus.items[choice.gpus[0]].room;
        (void) choice_make(inventory, inventory->rooms.items + room, inventory->tenants.items[tenant].vm->count,
                           &choice);
        inventory_take(inventory, tenant, choice.gpus, choice.n_gpus);
        forget_waiting(seating, tenant);
        int r = seating->comes(seating, tenant);
        return r < 0 ? r : 1;
}

static int send_away(Seating *seating, size_t tenant, size_t whom) {
        int r = seating->goes(seating, tenant, whom);
        if (r >= 0)
                seating->waiting[seating->n_waiting++] = tenant;
        return r;
}

static const RosterItem *find_next(const Roster *roster, const RosterItem *from) {
        const RosterItem *end = roster->items.items + roster->items.n;
        while (from < end && from->verdict != PLACEMENT_FOUND)
                from++;
        return from < end ? from : NULL;
}

/* One step, as the conductor does it. 1: somebody came or went; 0; or an error. */
static int carry_out_first(Seating *seating, const Roster *roster) {
        const RosterItem *item = find_next(roster, roster->items.items);
        if (!item)
                return 0;
        if (item->n_preempted == 0)
                return seat(seating, item);
        int r = send_away(seating, roster->preempted.items[item->first_preempted]->tenant, item->tenant);
        return r < 0 ? r : 1;
}

static int carry_out_all(Seating *seating, const Roster *roster) {
        int r = 0;
        for (const RosterItem *item = roster->items.items; r >= 0 && (item = find_next(roster, item)); item++) {
                for (size_t i = 0; r >= 0 && i < item->n_preempted; i++)
                        r = send_away(seating, roster->preempted.items[item->first_preempted + i]->tenant,
                                      item->tenant);
                if (r < 0)
                        break;
                inventory_take(seating->inventory, item->tenant, item->choice.gpus, item->choice.n_gpus);
                forget_waiting(seating, item->tenant);
                r = seating->comes(seating, item->tenant);
        }
        return r < 0 ? r : 1;
}

/* 1: somebody came or went; 0: nobody does any more; or an error. */
static int run_pass(Seating *seating) {
        static const RosterRules rules = { .preempts = seating_may_preempt };
        uint64_t work = work_of_pass(seating);
        Roster roster = {};
        size_t n = 0;
        if (seating->n_waiting == 0)
                return 0;
        if (work > seating->work_left)
                return -E2BIG;
        seating->work_left -= work;
        int r = roster_make(seating->inventory, seating->waiting, seating->n_waiting, &rules, &roster);
        if (r < 0)
                return r;
        roster_undo(seating->inventory, &roster);
        ARRAY_EACH(item, &roster.items)
                n += item->verdict == PLACEMENT_FOUND;
        if (n > 0)
                r = n * work > EXACT_WORK_MAX ? carry_out_all(seating, &roster) : carry_out_first(seating, &roster);
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
