/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/roster.h"

#include <errno.h>

#include "core/placement-internal.h"
#include "core/roster-internal.h"

/* What one pass may cost at most. Of VMs that are bound to nobody each need is rejected once, so for them all is placed
 * anew a few times only; of others each one may be a case of its own. */
#define MOVES_MAX 20000U
#define REPLACEMENTS_MAX 50000U

RosterRules roster_rules(const Registry *registry) {
        return (RosterRules) { .preempts = registry->level >= LEVEL_PLACEMENT ? vm_may_preempt : NULL };
}

void roster_clear(Roster *roster) {
        ARRAY_EACH(preempted, &roster->preempted)
                free(*preempted);
        array_clear(&roster->preempted);
        array_clear(&roster->items);
        *roster = (Roster) {};
}

void roster_undo(Inventory *inventory, const Roster *roster) {
        ARRAY_EACH(item, &roster->items)
                if (item->verdict == PLACEMENT_FOUND)
                        inventory_vacate(inventory, item->tenant);
        for (size_t i = roster->preempted.n; i > 0; i--)
                inventory_give_back(inventory, roster->preempted.items[i - 1]);
}

/* ---- who gets in */

bool pass_has_failover(const Pass *pass, size_t item) {
        return pass->rules->failover || vm_lost_its_place(pass_tenant(pass, item)->vm);
}

bool pass_pool_allows(const Pass *pass, size_t item) {
        return placement_pool_allows(pass->inventory, pass->roster->items.items[item].tenant,
                                     pass_has_failover(pass, item));
}

/* Not a matter of course: of an IOMMU group that it breaks into, the rest is lost for others. */
bool pass_pool_is_content(const Pass *pass, size_t item) {
        const InventoryPool *pool = pass->inventory->pools.items + pass_tenant(pass, item)->pool;
        return pass_has_failover(pass, item) || pool->free >= pool->pool->reserve;
}

/* Lets one in, if there is a place for all that are in and for it. 1, 0 or -ENOMEM. */
static int admit(Pass *pass, size_t item) {
        size_t room;
        if (pass_is_rejected(pass, item) || !pass_pool_allows(pass, item))
                return 0;
        if (!pass_may_fit(pass, item)) {
                pass_reject_count(pass, item);
                return 0;
        }
        int r = pass_seek(pass, item, pass_tenant(pass, item)->vm->count, &room);
        if (r < 0)
                return r;
        if (r == PLACEMENT_FOUND && pass_put(pass, item, room)) {
                if (pass_pool_is_content(pass, item))
                        return 1;
                pass_lift(pass, item);
        }
        Prospect prospect = pass_look_out(pass, item);
        r = prospect.anywhere ? pass_repack(pass, item, !pass_rejection_tells(pass, item)) : 0;
        if (r == 0)
                pass_reject(pass, item, &prospect);
        return r;
}

/* Items of one priority and pool, side by side in the roster's order; with the indexes that they have. */
typedef struct Group {
        const size_t *items;
        size_t n;
} Group;

static void set_in_play(Pass *pass, const Group *group, bool in_play) {
        for (size_t i = 0; i < group->n; i++)
                pass->in_play[group->items[i]] = in_play;
}

static void lift_group(Pass *pass, const Group *group) {
        for (size_t i = 0; i < group->n; i++)
                if (pass_has_placed(pass, group->items[i]))
                        pass_lift(pass, group->items[i]);
}

/* The largest first, and nobody is moved. 1: all that are in play got a place; 0: not all; or -ENOMEM. */
static int place_group(Pass *pass, const Group *group) {
        int r = 1;
        pass->limited = true;
        for (size_t i = 0; r > 0 && i < group->n; i++) {
                size_t item = group->items[i];
                if (!pass->in_play[item] || pass_has_placed(pass, item))
                        continue;
                r = pass_pool_allows(pass, item) ? pass_place(pass, item) : 0;
                if (r > 0 && !pass_pool_is_content(pass, item))
                        r = 0;
        }
        pass->limited = false;
        return r;
}

/* Of those that got in, one after the other, the large ones may lie badly, for they came last. */
static int tidy_group(Pass *pass, const Group *group) {
        _cleanup_free_ Choice *choices = calloc(group->n + 1, sizeof(*choices));
        if (!choices)
                return -ENOMEM;
        for (size_t i = 0; i < group->n; i++) {
                choices[i] = pass->roster->items.items[group->items[i]].choice;
                pass->in_play[group->items[i]] = pass_has_placed(pass, group->items[i]);
        }
        lift_group(pass, group);
        int r = place_group(pass, group);
        if (r == 0) {
                lift_group(pass, group);
                for (size_t i = 0; i < group->n; i++) {
                        if (!pass->in_play[group->items[i]])
                                continue;
                        pass_put_back(pass, group->items[i], choices + i);
                }
        }
        return r;
}

static int preempt_for_group(Pass *pass, const Group *group) {
        for (size_t i = 0; pass->rules->preempts && i < group->n; i++) {
                if (pass_has_placed(pass, group->items[i]))
                        continue;
                int r = pass_preempt(pass, group->items[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* One who is let in, in the order in which that is tried. */
typedef struct Applicant {
        size_t item;
        bool behind;
        uint32_t count;
        uint64_t memory_kib;
} Applicant;

static int compare_applicants(const void *a, const void *b) {
        const Applicant *x = a, *y = b;
        if (x->behind != y->behind)
                return x->behind ? 1 : -1;
        if (x->count != y->count)
                return x->count < y->count ? -1 : 1;
        if (x->memory_kib != y->memory_kib)
                return x->memory_kib < y->memory_kib ? -1 : 1;
        return x->item < y->item ? -1 : x->item > y->item;
}

/* The smallest first: by GPUs, then by memory. */
static int admit_group(Pass *pass, const Group *group) {
        _cleanup_free_ Applicant *applicants = calloc(group->n + 1, sizeof(*applicants));
        if (!applicants)
                return -ENOMEM;
        for (size_t i = 0; i < group->n; i++)
                applicants[i] = (Applicant) {
                        .item = group->items[i],
                        .behind = pass->behind && pass->behind[group->items[i]],
                        .count = pass_tenant(pass, group->items[i])->vm->count,
                        .memory_kib = memory_kib_of(pass_tenant(pass, group->items[i])),
                };
        qsort(applicants, group->n, sizeof(*applicants), compare_applicants);
        for (size_t i = 0; i < group->n; i++) {
                int r = admit(pass, applicants[i].item);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* All of them if that can be, else as many as can be: the smallest first. */
static int run_group(Pass *pass, const Group *group) {
        set_in_play(pass, group, true);
        int r = place_group(pass, group);
        set_in_play(pass, group, false);
        if (r != 0)
                return r < 0 ? r : 0;
        lift_group(pass, group);
        r = admit_group(pass, group);
        if (r < 0)
                return r;
        r = tidy_group(pass, group);
        set_in_play(pass, group, false);
        return r < 0 ? r : preempt_for_group(pass, group);
}

/* ---- the order */

typedef struct Seat {
        size_t item, pool;
        const Vm *vm;
} Seat;

static int compare_items(const void *a, const void *b) {
        return placement_compare_urgency(((const Seat *) a)->vm, ((const Seat *) b)->vm);
}

static int compare_seats(const void *a, const void *b) {
        const Seat *x = a, *y = b;
        if (x->vm->priority != y->vm->priority)
                return x->vm->priority > y->vm->priority ? -1 : 1;
        if (x->pool != y->pool)
                return x->pool < y->pool ? -1 : 1;
        return placement_compare_urgency(x->vm, y->vm);
}

static int run_groups(Pass *pass) {
        size_t n = pass->roster->items.n;
        _cleanup_free_ Seat *seats = calloc(n + 1, sizeof(*seats));
        _cleanup_free_ size_t *items = calloc(n + 1, sizeof(*items));
        if (!seats || !items)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                seats[i] = (Seat) { .item = i, .pool = pass_tenant(pass, i)->pool, .vm = pass_tenant(pass, i)->vm };
        qsort(seats, n, sizeof(*seats), compare_seats);
        for (size_t i = 0; i < n; i++)
                items[i] = seats[i].item;

        for (size_t first = 0, end; first < n; first = end) {
                for (end = first; end < n && seats[end].pool == seats[first].pool &&
                                  seats[end].vm->priority == seats[first].vm->priority;)
                        end++;
                Group group = { .items = items + first, .n = end - first };
                if (seats[first].pool == NOWHERE)
                        continue;
                int r = run_group(pass, &group);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int list_items(const Inventory *inventory, const size_t *tenants, size_t n, Roster *ret) {
        _cleanup_free_ Seat *seats = calloc(n + 1, sizeof(*seats));
        if (!seats)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                seats[i] = (Seat) { .item = tenants[i], .vm = inventory->tenants.items[tenants[i]].vm };
        qsort(seats, n, sizeof(*seats), compare_items);
        for (size_t i = 0; i < n; i++) {
                bool has_pool = inventory->tenants.items[seats[i].item].pool != NOWHERE;
                RosterItem item = {
                        .tenant = seats[i].item,
                        .verdict = has_pool ? PLACEMENT_NO_ROOM : PLACEMENT_NO_SUCH_POOL,
                };
                int r = array_append(&ret->items, &item);
                if (r < 0)
                        return r;
        }
        return 0;
}

int roster_run(Inventory *inventory, const RosterRules *rules, const bool *behind, size_t *effort, Roster *roster) {
        _cleanup_free_ size_t *item_of = calloc(inventory->tenants.n + 1, sizeof(*item_of));
        _cleanup_free_ bool *in_play = calloc(roster->items.n + 1, sizeof(*in_play));
        _cleanup_free_ bool *seen = calloc(roster->items.n + 1, sizeof(*seen));
        _cleanup_free_ Ledger *ledgers = calloc(inventory->pools.n + 1, sizeof(*ledgers));
        _cleanup_free_ Rejections *rejections = calloc(inventory->pools.n + 1, sizeof(*rejections));
        if (!item_of || !in_play || !seen || !ledgers || !rejections)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                item_of[i] = NOWHERE;
        for (size_t i = 0; i < roster->items.n; i++)
                item_of[roster->items.items[i].tenant] = i;
        Pass pass = {
                .inventory = inventory,
                .rules = rules ?: &(RosterRules) {},
                .roster = roster,
                .item_of = item_of,
                .in_play = in_play,
                .seen = seen,
                .ledgers = ledgers,
                .rejections = rejections,
                .behind = behind,
                .replacements = REPLACEMENTS_MAX,
                .budget = MOVES_MAX,
                .effort = effort,
        };
        return run_groups(&pass);
}

int roster_make(Inventory *inventory, const size_t *tenants, size_t n, const RosterRules *rules, Roster *ret) {
        Roster roster = {};
        size_t effort = SIZE_MAX;
        int r = list_items(inventory, tenants, n, &roster);
        if (r >= 0)
                r = roster_run(inventory, rules, NULL, &effort, &roster);
        if (r >= 0)
                r = roster_exchange(inventory, rules, SIZE_MAX - effort, &roster);
        if (r < 0) {
                roster_undo(inventory, &roster);
                roster_clear(&roster);
                return r;
        }
        *ret = roster;
        return 0;
}
