/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/explain-stop.h"

#include <errno.h>
#include <inttypes.h>

/* How many VMs a sentence tells to stop before it says "and N more". */
#define NAMED_MAX 3

static bool stops_anyhow(const Vm *vm) {
        return !vm->run;
}

static int compare_holders(const void *a, const void *b) {
        const Holder *x = a, *y = b;
        if (stops_anyhow(x->vm) != stops_anyhow(y->vm))
                return stops_anyhow(x->vm) ? -1 : 1;
        if (x->vm->priority != y->vm->priority)
                return x->vm->priority < y->vm->priority ? -1 : 1;
        if (x->n != y->n)
                return x->n > y->n ? -1 : 1;
        return strcmp(x->vm->name, y->vm->name);
}

int holders_list(const Inventory *inventory, const Room *room, Models models, Holders *ret) {
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                if (!inventory_gpu_is_usable(inventory, i) || inventory_gpu_is_free(inventory, i) ||
                    !inventory_gpu_suits(inventory, i, models))
                        continue;
                size_t tenant = inventory_gpu_holder(inventory, i);
                if (tenant == NOBODY)
                        continue;
                Holder *known = NULL;
                ARRAY_EACH(holder, ret)
                        if (holder->tenant == tenant)
                                known = holder;
                Holder holder = { .tenant = tenant, .vm = inventory->tenants.items[tenant].vm, .n = 1 };
                if (known)
                        known->n++;
                else if (array_append(ret, &holder) < 0)
                        return -ENOMEM;
        }
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_holders);
        return 0;
}

const char *explain_rank(const Vm *holder, const Vm *vm) {
        if (holder->priority == vm->priority)
                return ", of the same priority";
        return holder->priority > vm->priority ? ", of higher priority" : "";
}

/* ---- what if some of them were stopped */

/* Where there are sets, who is stopped is set aside on the inventory; else it is enough to count. */
typedef struct Trial {
        Inventory *inventory;
        bool rules;                     /* the pool's are to be kept, too */
        bool counts;
        size_t n;
        struct {
                bool stopped;
                Belongings *aside;
        } *holders;
        uint32_t freed, given_up;       /* counted: in the room, and of what the pool has in use */
} Trial;

/* Free in the pool, were the node ready: a node that is not is another reason, with a remedy of its own. */
static uint64_t free_in_pool(const Case *c, const Trial *trial) {
        const InventoryPool *pool = c->request->pool;
        bool counted = inventory_node_takes_vms(c->request->inventory, c->room->node);
        return (uint64_t) pool->free + (counted ? 0 : c->room->free) + trial->freed;
}

static uint64_t in_use_then(const Case *c, const Trial *trial) {
        return (uint64_t) c->request->pool->in_use - trial->given_up + c->count;
}

static bool keeps_reserve(const Case *c, const Trial *trial) {
        return c->request->failover ||
               free_in_pool(c, trial) >= (uint64_t) c->request->pool->pool->reserve + c->count;
}

static bool keeps_limit(const Case *c, const Trial *trial) {
        uint32_t most = c->request->pool->pool->max_in_use;
        return most == 0 || in_use_then(c, trial) <= most;
}

static bool fits(const Case *c, const Trial *trial) {
        const Inventory *inventory = c->request->inventory;
        Models models = c->request->models;
        bool has = trial->counts ? choice_count_free(inventory, c->room, models) + trial->freed >= c->count
                                 : choice_exists(inventory, c->room, models, c->count);
        return has && (!trial->rules || (keeps_reserve(c, trial) && keeps_limit(c, trial)));
}

static void trial_end(Trial *trial) {
        for (size_t i = trial->n; i > 0; i--) {
                if (trial->holders[i - 1].aside)
                        inventory_give_back(trial->inventory, trial->holders[i - 1].aside);
                free(trial->holders[i - 1].aside);
        }
        free(trial->holders);
}

static int trial_begin(const Case *c, const Holders *holders, Trial *ret) {
        *ret = (Trial) { .inventory = c->request->inventory, .rules = true, .counts = !c->room->has_sets };
        ret->holders = calloc(holders->n + 1, sizeof(*ret->holders));
        if (!ret->holders)
                return -ENOMEM;
        ret->n = holders->n;
        return 0;
}

/* What the pool has in use is what its own VMs hold; one of another pool may be in the way by its IOMMU group. */
static void count(Trial *trial, const Case *c, const Holder *holder, bool stopped) {
        size_t held = trial->inventory->tenants.items[holder->tenant].n_held;
        uint32_t sign = stopped ? 1 : UINT32_MAX;       /* unsigned, so that -1 wraps as it should */
        trial->freed += sign * holder->n;
        if (text_equal(holder->vm->pool, c->pool))
                trial->given_up += sign * (uint32_t) held;
}

static int stop(Trial *trial, const Case *c, const Holders *holders, size_t i) {
        if (trial->counts)
                count(trial, c, holders->items + i, true);
        else {
                trial->holders[i].aside = inventory_set_aside(trial->inventory, holders->items[i].tenant);
                if (!trial->holders[i].aside)
                        return -ENOMEM;
        }
        trial->holders[i].stopped = true;
        return 0;
}

static void let_run(Trial *trial, const Case *c, const Holders *holders, size_t i) {
        if (trial->counts)
                count(trial, c, holders->items + i, false);
        else {
                inventory_give_back(trial->inventory, trial->holders[i].aside);
                free(trial->holders[i].aside);
                trial->holders[i].aside = NULL;
        }
        trial->holders[i].stopped = false;
}

/* Stops one after the other until it fits, then lets those run again that it fits with, the most important first.
 * 1: it fits; 0: not even when all are stopped, and they run; or -ENOMEM. */
static int find_stops(const Case *c, const Holders *holders, Trial *trial) {
        size_t n = 0;
        int r = 0;
        while (r >= 0 && n < holders->n && !fits(c, trial))
                r = stop(trial, c, holders, n++);
        bool found = fits(c, trial);
        for (size_t i = n; r >= 0 && i > 0; i--) {
                let_run(trial, c, holders, i - 1);
                if (found && !fits(c, trial))
                        r = stop(trial, c, holders, i - 1);
        }
        return r < 0 ? r : found;
}

/* ---- words */

/* "wait until render has stopped", "stop bert, of the same priority" */
static int say_one(const Case *c, const Vm *vm, bool first, char **text) {
        if (stops_anyhow(vm))
                return text_append(text, "wait until %s has stopped", vm->name);
        return text_append(text, "%s%s%s", first ? "stop " : "", vm->name, explain_rank(vm, c->request->vm));
}

static int say_stops(const Case *c, const Holders *holders, const Trial *trial, char **text) {
        const Vm *last = NULL;
        size_t n = 0, n_told = 0, n_above = 0;         /* n_told: to be stopped by somebody */
        for (size_t i = 0; i < holders->n; i++) {
                if (!trial->holders[i].stopped)
                        continue;
                const Vm *before = last, *vm = last = holders->items[i].vm;
                bool above = *explain_rank(vm, c->request->vm) && !stops_anyhow(vm);
                n_told += !stops_anyhow(vm);
                if (n++ >= NAMED_MAX) {
                        n_above += above;
                        continue;
                }
                bool comma = before && !stops_anyhow(before) && *explain_rank(before, c->request->vm);
                int r = n == 1 ? 0 : text_append(text, "%s and ", comma ? "," : "");
                if (r >= 0)
                        r = say_one(c, vm, n_told == 1, text);
                if (r < 0)
                        return r;
        }
        int r = 0;
        if (n > NAMED_MAX)
                r = text_append(text, " and %zu more%s", n - NAMED_MAX, n_above > 0 ? ", not all of lower priority" :
                                "");
        if (r < 0 || n_told == 0)
                return r;
        return text_append(text, " (gpupoolctl vm stop %s)", n_told == 1 ? last->name : "VM");
}

/* Those are stopped that have to be, and the pool's own rules are in the way. */
static int say_rules(const Case *c, const Trial *trial, char **text) {
        uint64_t free = free_in_pool(c, trial);
        int r = 0;
        if (!keeps_reserve(c, trial))
                r = text_append(text, "%slower the reserve of %s (gpupoolctl pool policy %s --reserve %" PRIu64 ")",
                                *text ? ", and " : "", c->pool, c->pool, free > c->count ? free - c->count : 0);
        if (r >= 0 && !keeps_limit(c, trial))
                r = text_append(text, "%sraise the limit of %s (gpupoolctl pool policy %s --max-in-use %" PRIu64 ")",
                                *text ? ", and " : "", c->pool, c->pool, in_use_then(c, trial));
        return r;
}

int explain_stop(const Case *c, const Holders *holders, char **ret) {
        _cleanup_(trial_end) Trial trial = {};
        _cleanup_free_ char *text = NULL;
        int r = trial_begin(c, holders, &trial);
        if (r >= 0)
                r = find_stops(c, holders, &trial);
        if (r == 0) {                   /* nobody's end here is enough for the pool's rules: for the GPUs alone? */
                trial.rules = false;
                r = find_stops(c, holders, &trial);
        }
        if (r <= 0)
                return r;
        r = say_stops(c, holders, &trial, &text);
        if (r >= 0 && !trial.rules)
                r = say_rules(c, &trial, &text);
        if (r < 0)
                return r;
        *ret = STEAL(text);
        return 0;
}
