/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Exchange: the pass again, with others first. Who is let in, of several that may be, decides who else can run where VMs
 * are bound to each other or GPUs go in sets: others of its priority, of a lower one, of another pool. So as long as
 * somebody waits, each who waits is tried before all others of its priority, and each who runs behind them:
 *
 *      pass -> somebody waits -> undone -> pass with one turn changed -> more run?  yes: that one counts, and again
 *                                  ^                                     no: undone, and as it was
 *                                  '---- the next turn ------------------------'
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
        int8_t *turns;                  /* by item, as in the Pass */
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

/* 1: more run with these turns, and now they do; 0: all is as it was; or -ENOMEM: all is undone, and the roster empty. */
static int try_turns(Exchange *exchange) {
        Roster trial = {};
        roster_undo(exchange->inventory, exchange->best);
        exchange->effort -= exchange->best->items.n / ITEMS_PER_EFFORT;
        int r = copy_items(exchange->best, &trial);
        if (r >= 0)
                r = roster_run(exchange->inventory, exchange->rules, exchange->turns, &exchange->effort, &trial);
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
               x->vm->priority == y->vm->priority && x->vm->count == y->vm->count &&
               x->vm->needs.memory_bytes == y->vm->needs.memory_bytes && waits(exchange, a) == waits(exchange, b) &&
               exchange->turns[a] == exchange->turns[b];
}

/* 1: more run; 0: as before; or an error. */
static int try_turn(Exchange *exchange, size_t item, int8_t turn) {
        int8_t before = exchange->turns[item];
        if (before == turn)
                return 0;
        exchange->turns[item] = turn;
        int r = try_turns(exchange);
        if (r <= 0)
                exchange->turns[item] = before;
        return r;
}

/* Of the items of one priority, those whose pool has somebody who waits: those who wait come first, or those who run
 * come last. One stands for those behind it that are like it. */
static int try_priority(Exchange *exchange, size_t first, size_t end, bool waiting, bool *has_waiters) {
        size_t last = NOWHERE;
        memset(has_waiters, 0, exchange->inventory->pools.n * sizeof(*has_waiters));
        for (size_t i = first; i < end; i++)
                if (waits(exchange, i))
                        has_waiters[tenant_of(exchange, i)->pool] = true;
        for (size_t i = first; i < end && may_still_try(exchange); i++) {
                size_t pool = tenant_of(exchange, i)->pool;
                if (pool == NOWHERE || !has_waiters[pool] || waits(exchange, i) != waiting ||
                    (last != NOWHERE && are_alike(exchange, last, i)))
                        continue;
                int r = try_turn(exchange, i, waiting ? -1 : 1);
                if (r != 0)
                        return r;
                last = tenant_of(exchange, i)->n_bonds == 0 ? i : last;
        }
        return 0;
}

/* From the highest priority down, until one brings something. */
static int try_each(Exchange *exchange, bool waiting, bool *has_waiters) {
        size_t n = exchange->best->items.n;
        int r = 0;
        for (size_t first = 0, end; r == 0 && first < n; first = end) {
                for (end = first; end < n; end++)
                        if (tenant_of(exchange, end)->vm->priority != tenant_of(exchange, first)->vm->priority)
                                break;
                r = try_priority(exchange, first, end, waiting, has_waiters);
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
        _cleanup_free_ int8_t *turns = calloc(roster->items.n + 1, sizeof(*turns));
        _cleanup_free_ bool *has_waiters = calloc(inventory->pools.n + 1, sizeof(*has_waiters));
        Exchange exchange = {
                .inventory = inventory,
                .rules = rules,
                .best = roster,
                .turns = turns,
                .effort = EFFORT_MAX,
                .of_one = spent + roster->items.n / ITEMS_PER_EFFORT,
        };
        if (!turns || !has_waiters) {
                roster_undo(inventory, roster);
                roster_clear(roster);
                return -ENOMEM;
        }
        if (!may_gain(&exchange))
                return 0;
        int r;
        do {
                r = try_each(&exchange, true, has_waiters);
                if (r == 0)
                        r = try_each(&exchange, false, has_waiters);
        } while (r > 0);
        roster->exchanged = EFFORT_MAX - exchange.effort;
        return r;
}
