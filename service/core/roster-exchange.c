/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Exchange: the pass again, with others first. Who is let in, of several that may be, decides who else can run, where
 * VMs are bound to each other or GPUs go in sets: others of its priority, of a lower one, of another pool. So as long
 * as somebody waits, each who runs while another of its priority does not is tried behind all of that priority:
 *
 *      pass -> somebody waits -> undone -> pass with one behind -> more run?  yes: that one counts, and again
 *                                  ^                                |  no
 *                                  '---- the next one <- as before -'
 *
 * More is: of the highest priority in which it makes a difference. Nobody more may be stopped for it. */

#include <errno.h>

#include "core/placement-internal.h"
#include "core/roster-internal.h"

/* So many times a place may be sought. In a small cluster that is for all who wait and all who run, in a large one,
 * where one VM more or less is little, for none of them. */
#define EFFORT_MAX 5000U
#define ITEMS_PER_EFFORT 4U             /* what is done for each, sought or not */

typedef struct Exchange {
        Inventory *inventory;
        const RosterRules *rules;
        Roster *best;
        bool *behind;                   /* by item, as in the Pass */
        bool *has_waiters;              /* by pool */
        size_t effort;                  /* that is left */
        size_t of_one;                  /* what a pass took */
} Exchange;

/* ---- one pass instead of another */

static int copy_items(const Roster *roster, Roster *ret) {
        for (size_t i = 0; i < roster->items.n; i++) {
                const RosterItem *given = roster->items.items + i;
                RosterItem item = {
                        .tenant = given->tenant,
                        .verdict = given->verdict == PLACEMENT_FOUND ? PLACEMENT_NO_ROOM : given->verdict,
                };
                int r = array_append(&ret->items, &item);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What roster_undo() undid. */
static int do_again(Inventory *inventory, Roster *roster) {
        for (size_t i = 0; i < roster->preempted.n; i++) {
                Belongings *belongings = inventory_set_aside(inventory, roster->preempted.items[i]->tenant);
                if (!belongings) {
                        while (i > 0)
                                inventory_give_back(inventory, roster->preempted.items[--i]);
                        return -ENOMEM;
                }
                free(roster->preempted.items[i]);
                roster->preempted.items[i] = belongings;
        }
        ARRAY_EACH(item, &roster->items)
                if (item->verdict == PLACEMENT_FOUND)
                        inventory_take(inventory, item->tenant, item->choice.gpus, item->choice.n_gpus);
        return 0;
}

/* Items are in the order of their priority, and are the same ones in both. */
static bool runs_more(const Inventory *inventory, const Roster *roster, const Roster *than) {
        size_t n = 0, n_than = 0;
        int32_t priority = 0;
        if (roster->preempted.n > than->preempted.n)
                return false;
        for (size_t i = 0; i < roster->items.n; i++) {
                const RosterItem *item = roster->items.items + i;
                const Vm *vm = inventory->tenants.items[item->tenant].vm;
                if (n != n_than && vm->priority != priority)
                        break;
                priority = vm->priority;
                n += item->verdict == PLACEMENT_FOUND;
                n_than += than->items.items[i].verdict == PLACEMENT_FOUND;
        }
        return n > n_than;
}

/* 1: more run with these behind, and now they do; 0: all is as it was; or -ENOMEM: all is undone, the roster empty. */
static int try_pass(Exchange *exchange) {
        Roster trial = {};
        roster_undo(exchange->inventory, exchange->best);
        exchange->effort -= exchange->best->items.n / ITEMS_PER_EFFORT;
        int r = copy_items(exchange->best, &trial);
        if (r >= 0)
                r = roster_run(exchange->inventory, exchange->rules, exchange->behind, &exchange->effort, &trial);
        if (r >= 0 && runs_more(exchange->inventory, &trial, exchange->best)) {
                Roster before = *exchange->best;
                *exchange->best = trial;
                roster_clear(&before);
                return 1;
        }
        roster_undo(exchange->inventory, &trial);
        roster_clear(&trial);
        if (r >= 0 || r == -ECANCELED)         /* that was one too much: it counts as no better */
                r = do_again(exchange->inventory, exchange->best);
        if (r < 0)
                roster_clear(exchange->best);
        return r;
}

/* ---- who is tried */

static const Tenant *tenant_of(const Exchange *exchange, size_t item) {
        return exchange->inventory->tenants.items + exchange->best->items.items[item].tenant;
}

static bool waits(const Exchange *exchange, size_t item) {
        return exchange->best->items.items[item].verdict != PLACEMENT_FOUND &&
               tenant_of(exchange, item)->pool != NOWHERE;
}

static bool may_still_try(const Exchange *exchange) {
        return exchange->effort >= exchange->of_one;
}

/* In each pass they would do the same for others, as far as can be told without one. */
static bool are_alike(const Exchange *exchange, size_t a, size_t b) {
        const Tenant *x = tenant_of(exchange, a), *y = tenant_of(exchange, b);
        return x->n_bonds + y->n_bonds == 0 && x->pool == y->pool && x->models == y->models &&
               x->vm->count == y->vm->count && memory_kib_of(x) == memory_kib_of(y);
}

/* 1: more run; 0: as before; or an error. */
static int try_behind(Exchange *exchange, size_t item) {
        exchange->behind[item] = true;
        int r = try_pass(exchange);
        exchange->behind[item] = r > 0;
        return r;
}

/* Of the items of one priority, those that run while others of their pool wait. One stands for those behind it that
 * are like it. */
static int try_priority(Exchange *exchange, size_t first, size_t end) {
        size_t last = NOWHERE;
        int r = 0;
        memset(exchange->has_waiters, 0, exchange->inventory->pools.n * sizeof(*exchange->has_waiters));
        for (size_t i = first; i < end; i++)
                if (waits(exchange, i))
                        exchange->has_waiters[tenant_of(exchange, i)->pool] = true;
        for (size_t i = first; r == 0 && i < end && may_still_try(exchange); i++) {
                if (exchange->best->items.items[i].verdict != PLACEMENT_FOUND || exchange->behind[i] ||
                    !exchange->has_waiters[tenant_of(exchange, i)->pool] ||
                    (last != NOWHERE && are_alike(exchange, last, i)))
                        continue;
                r = try_behind(exchange, i);
                last = tenant_of(exchange, i)->n_bonds == 0 ? i : last;
        }
        return r;
}

/* From the highest priority down, until one brings something. */
static int try_each(Exchange *exchange) {
        size_t n = exchange->best->items.n;
        int r = 0;
        for (size_t first = 0, end; r == 0 && first < n; first = end) {
                for (end = first; end < n; end++)
                        if (tenant_of(exchange, end)->vm->priority != tenant_of(exchange, first)->vm->priority)
                                break;
                r = try_priority(exchange, first, end);
        }
        return r;
}

/* A wish binds nobody. */
static bool is_bound(const Inventory *inventory, const Tenant *tenant) {
        for (size_t i = tenant->first_bond; i < tenant->first_bond + tenant->n_bonds; i++)
                if (!inventory->bonds.items[i].soft)
                        return true;
        return false;
}

/* Where nobody is bound and no set goes whole, it is all the same which of those that need as much are let in. */
static bool may_gain(const Exchange *exchange) {
        bool somebody_waits = false, matters = false;
        for (size_t i = 0; i < exchange->best->items.n; i++) {
                const Tenant *tenant = tenant_of(exchange, i);
                somebody_waits = somebody_waits || waits(exchange, i);
                matters = matters || is_bound(exchange->inventory, tenant) ||
                          (tenant->pool != NOWHERE && exchange->inventory->pools.items[tenant->pool].has_sets);
        }
        return somebody_waits && matters && may_still_try(exchange);
}

int roster_exchange(Inventory *inventory, const RosterRules *rules, size_t spent, Roster *roster) {
        _cleanup_free_ bool *behind = calloc(roster->items.n + 1, sizeof(*behind));
        _cleanup_free_ bool *has_waiters = calloc(inventory->pools.n + 1, sizeof(*has_waiters));
        Exchange exchange = {
                .inventory = inventory,
                .rules = rules,
                .best = roster,
                .behind = behind,
                .has_waiters = has_waiters,
                .effort = EFFORT_MAX,
                .of_one = spent + roster->items.n / ITEMS_PER_EFFORT,
        };
        if (!behind || !has_waiters) {
                roster_undo(inventory, roster);
                roster_clear(roster);
                return -ENOMEM;
        }
        if (!may_gain(&exchange))
                return 0;
        int r;
        do
                r = try_each(&exchange);
        while (r > 0);
        roster->exchanged = EFFORT_MAX - exchange.effort;
        return r;
}
