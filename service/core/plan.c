/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/plan.h"

#include <errno.h>
#include <inttypes.h>

#include "core/defragment.h"
#include "core/majority.h"
#include "core/move.h"
#include "core/placement.h"
#include "core/rehearsal.h"

/* Rooms and VMs that one plan looks at, at most: it is worked out at once, by a service that has leases to renew, and
 * anybody may ask again and again. Half a second at worst. */
#define WORK_MAX (2U * 1024U * 1024U)
#define DEFRAGMENT_WORK_MAX (2U * 1024U * 1024U)
#define SURVIVES_WORK_MAX (2U * 1024U * 1024U)    /* of all pools, before and after */
/* So many VMs without a place are told why, each asking every node; the others are told to ask again. */
#define TOLD_MAX 64U
#define TOLD_NODES_MAX 16384U

#define PLURAL(n) ((n) == 1 ? "" : "s")

const char *plan_fate_to_text(PlanFate fate) {
        static const char *const texts[PLAN_FATE_COUNT] = {
                [PLAN_MOVES] = "moves",
                [PLAN_STARTS] = "starts",
                [PLAN_STOPS] = "stops",
                [PLAN_WAITS] = "waits",
                [PLAN_STILL_WAITS] = "still-waits",
                [PLAN_STAYS] = "stays",
        };
        return texts[fate];
}

void plan_clear(Plan *plan) {
        ARRAY_EACH(item, &plan->items) {
                free(item->why);
                free(item->to_name);
        }
        ARRAY_EACH(pool, &plan->pools) {
                free(pool->name);
                pool_counts_clear(&pool->before);
                pool_counts_clear(&pool->after);
        }
        array_clear(&plan->items);
        array_clear(&plan->pools);
        *plan = (Plan) {};
}

/* ---- is a majority left? */

static bool is_lost_now(const World *supposed, const NodeId *node) {
        const NodeRecord *record = registry_find_node(supposed->registry, node);
        return !record || record->lost;
}

/* By the nodes that vote; where it is not known which those are, as if the lost ones were among them. */
static bool keeps_majority(const World *world, const World *supposed) {
        size_t n_voters = 0, n_left = 0, n_lost_before = 0, n_lost = 0;
        for (size_t i = 0; i < world->n_lives; i++) {
                const NodeLife *life = world->lives + i;
                if (life->role != NODE_VOTER)
                        continue;
                n_voters++;
                n_left += !life->silent && !is_lost_now(supposed, &life->node);
        }
        ARRAY_EACH(node, &world->registry->nodes) {
                n_lost_before += node->lost;
                n_lost += is_lost_now(supposed, &node->id);
        }
        if (n_lost == n_lost_before)
                return true;            /* none is supposed to be */
        if (n_voters > 0)
                return n_left > n_voters / 2;
        return n_lost - n_lost_before <= majority_spares(world->registry->nodes.n, n_lost_before);
}

/* Leases are not renewed any more, so that every VM ends, but for those whose lease is as long as that. */
static void end_without_majority(const World *world, Inventory *inventory) {
        if (!registry_has_ordinary_leases(world->registry))
                return;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                if (inventory->tenants.items[i].node != NOWHERE) {
                        inventory_vacate(inventory, i);
                        inventory->tenants.items[i].node = NOWHERE;
                }
}

/* ---- what becomes of whom */

typedef struct Making {
        const World *world;
        Inventory *inventory;           /* of the supposed world, at its end */
        const Supposal *supposal;
        const VmId *defragment;
        DefragmentVerdict defragmented;
        Plan *plan;
        size_t *preempted_by;           /* one per tenant; NOBODY: it gave up its place for nobody */
        unsigned told;
} Making;

static bool is_asked_to_start(const Supposal *supposal, const VmId *vm) {
        for (size_t i = 0; i < supposal->n_start; i++)
                if (ID_EQUAL(supposal->start + i, vm))
                        return true;
        return false;
}

static bool is_defragmented(const Making *making, const VmId *vm) {
        return making->defragment && ID_EQUAL(making->defragment, vm);
}

/* Whether there is something to tell of it. */
static bool find_fate(const Making *making, size_t tenant, PlanItem *ret) {
        const Vm *before = making->world->registry->vms.items + tenant;
        const Tenant *after = making->inventory->tenants.items + tenant;
        const InventoryNode *node = after->node == NOWHERE ? NULL : making->inventory->nodes.items + after->node;
        bool had = before->assignment.phase != ASSIGNMENT_NONE;
        PlanItem item = { .vm = before->id, .code = "" };
        if (had)
                item.from = before->assignment.node;
        if (node)
                item.to = node->record->id;

        if (had && node && ID_EQUAL(&item.from, &item.to)) {
                if (!(node->troubles & NODE_DRAINED) || !after->vm->run)
                        return false;
                item.fate = PLAN_STAYS;
        } else if (node)
                item.fate = had ? PLAN_MOVES : PLAN_STARTS;
        else if (had && before->run)
                item.fate = PLAN_STOPS;
        else if (vm_is_to_run(after->vm)) {
                bool is_new = !vm_is_to_run(before) || is_asked_to_start(making->supposal, &before->id) ||
                              is_defragmented(making, &before->id);
                item.fate = is_new ? PLAN_WAITS : PLAN_STILL_WAITS;
        } else
                return false;
        *ret = item;
        return true;
}

/* Who would find a place alone stays for those that must be with it. */
static int say_company_stays(const Making *making, size_t tenant, PlanItem *item) {
        Company company = {};
        int r = company_list(making->inventory, tenant, &company);
        item->code = "affinity-with";
        if (r >= 0)
                r = move_say_company(making->inventory, &company, tenant, true, &item->why);
        array_clear(&company);
        return r;
}

static int say_no_place(Making *making, size_t tenant, PlanItem *item) {
        const Vm *vm = making->inventory->tenants.items[tenant].vm;
        _cleanup_(placement_clear) Placement placement = {};
        making->told++;
        if (making->told > TOLD_MAX || making->told * making->inventory->nodes.n > TOLD_NODES_MAX) {
                item->code = "no-room";
                return text_printf(&item->why, "there is no place for it; to see why, ask about fewer VMs at once");
        }
        int r = placement_find_in(making->inventory, vm, &placement);
        if (r < 0)
                return r;
        if (r == PLACEMENT_FOUND && item->fate == PLAN_STAYS)
                return say_company_stays(making, tenant, item);
        item->code = placement.code ? placement.code : "";
        if (item->fate == PLAN_STAYS || item->fate == PLAN_STOPS)
                return move_list_reasons(making->inventory->world, &placement, &item->from, &item->why);
        r = text_set(&item->why, placement.summary);
        if (r < 0 || !is_defragmented(making, &vm->id))
                return r;
        switch (making->defragmented) {
        case DEFRAGMENT_FOUND:
                break;
        case DEFRAGMENT_NONE:
                return text_append(&item->why, ". No %u moves of other VMs make room for it", DEFRAGMENT_MOVES_MAX);
        case DEFRAGMENT_GAVE_UP:
                return text_append(&item->why, ". Whether moves of other VMs make room for it is too much to work out");
        }
        return 0;
}

/* For whom it gives up its place, or NULL. */
static const Vm *find_preemptor(const Making *making, size_t tenant, const PlanItem *item) {
        size_t whom = making->preempted_by[tenant];
        return whom == NOBODY || id_is_null(item->from.bytes) ? NULL : making->inventory->tenants.items[whom].vm;
}

static int say_why(Making *making, size_t tenant, PlanItem *item) {
        const Vm *vm = making->inventory->tenants.items[tenant].vm;
        const Vm *preemptor = find_preemptor(making, tenant, item);
        if (item->fate == PLAN_MOVES || item->fate == PLAN_STARTS)
                return text_printf(&item->why, "%" PRIu32 " GPU%s of %s%s%s", vm->count, PLURAL(vm->count), vm->pool,
                                   preemptor ? ". It makes room for " : "", preemptor ? preemptor->name : "");
        if (!making->plan->quorate) {
                item->code = "no-majority";
                return text_printf(&item->why, "no majority of the voting nodes would be left, and without one nothing "
                                               "is started");
        }
        if (!vm->run) {
                item->code = "never-restarted";
                return text_printf(&item->why, "its restart policy is %s", restart_policy_to_text(vm->restart));
        }
        if (preemptor && item->fate == PLAN_STOPS) {
                item->code = "preempted";
                return text_printf(&item->why, "it makes room for %s (priority %" PRId32 ", its own is %" PRId32 "), "
                                               "and no other place is left for it", preemptor->name,
                                   preemptor->priority, vm->priority);
        }
        return say_no_place(making, tenant, item);
}

/* An item, and who it is, to be sorted. */
typedef struct Draft {
        PlanItem item;
        const Vm *vm;
        size_t tenant;
} Draft;

static int compare_drafts(const void *a, const void *b) {
        const Draft *x = a, *y = b;
        bool x_goes_on = x->item.fate == PLAN_STILL_WAITS, y_goes_on = y->item.fate == PLAN_STILL_WAITS;
        if (x_goes_on != y_goes_on)
                return x_goes_on ? 1 : -1;
        return placement_compare_urgency(x->vm, y->vm);
}

static int list_items(Making *making) {
        Inventory *inventory = making->inventory;
        _cleanup_free_ Draft *drafts = calloc(inventory->tenants.n + 1, sizeof(*drafts));
        size_t n = 0;
        if (!drafts)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                if (find_fate(making, i, &drafts[n].item)) {
                        drafts[n].vm = inventory->tenants.items[i].vm;
                        drafts[n++].tenant = i;
                }
        qsort(drafts, n, sizeof(*drafts), compare_drafts);
        for (size_t i = 0; i < n; i++) {
                PlanItem *item = &drafts[i].item;
                const NodeRecord *to = registry_find_node(inventory->world->registry, &item->to);
                int r = say_why(making, drafts[i].tenant, item);
                if (r >= 0 && to)
                        r = text_set(&item->to_name, to->name);
                if (r >= 0)
                        r = array_append(&making->plan->items, item);
                if (r < 0) {
                        free(item->why);
                        free(item->to_name);
                        return r;
                }
        }
        return 0;
}

/* ---- the numbers of the pools */

static void count_vms(const Inventory *inventory, const Pool *pool, uint32_t *ret_running, uint32_t *ret_waiting) {
        ARRAY_EACH(tenant, &inventory->tenants) {
                if (!tenant->vm->run || !text_equal(tenant->vm->pool, pool->name))
                        continue;
                *ret_running += tenant->node != NOWHERE;
                *ret_waiting += tenant->node == NOWHERE && !tenant->vm->failed;
        }
}

static int count_pools(const Making *making) {
        _cleanup_(inventory_freep) Inventory *before = NULL;
        uint64_t work = SURVIVES_WORK_MAX;
        int r = inventory_new(making->world, &before);
        for (size_t i = 0; r >= 0 && i < making->world->registry->pools.n; i++) {
                const Pool *pool = making->world->registry->pools.items + i;
                PlanPool counts = {};
                r = text_set(&counts.name, pool->name);
                if (r >= 0)
                        r = array_append(&making->plan->pools, &counts);
                if (r < 0) {
                        free(counts.name);
                        return r;
                }
                PlanPool *kept = making->plan->pools.items + making->plan->pools.n - 1;
                bool survives = true;
                r = pool_count_within(before, pool, &work, &kept->before, &survives);
                if (r >= 0)
                        r = pool_count_within(making->inventory, making->inventory->world->registry->pools.items + i,
                                              &work, &kept->after, &kept->survives);
                kept->survives = kept->survives && survives;
                count_vms(before, pool, &kept->running_before, &kept->waiting_before);
                count_vms(making->inventory, pool, &kept->running_after, &kept->waiting_after);
        }
        return r < 0 ? r : 0;
}

/* ---- all of it */

/* 1: it may be asked; 0: refused; or -ENOMEM. */
static int check_level(const World *world, const Supposal *supposal, bool defragment, Result *result) {
        bool needs_it = supposal->n_lose > 0 || supposal->n_drain > 0 || defragment;
        if (!needs_it || world->registry->level >= LEVEL_FAILOVER)
                return 1;
        result->verdict = VERDICT_LEVEL_TOO_LOW;
        int r = text_printf(&result->sentence, "at functional level %" PRIu32 " no VM leaves its node by itself; from "
                            "level %u on it does. Raise it: gpupoolctl cluster level %u", world->registry->level,
                            LEVEL_FAILOVER, LEVEL_FAILOVER);
        return r < 0 ? r : 0;
}

static int refuse_work(Result *result) {
        result->verdict = VERDICT_LIMITS_EXCEEDED;
        int r = text_printf(&result->sentence, "this is too much to work out at once: ask about fewer nodes or VMs");
        return r < 0 ? r : 0;
}

/* Moves what makes room for the VM, where something does. */
static int make_room(Supposition *supposition, Making *making) {
        Inventory *inventory = making->inventory;
        _cleanup_(moves_clear) Moves moves = {};
        size_t tenant = inventory_find_tenant(inventory, making->defragment);
        if (inventory->tenants.items[tenant].node != NOWHERE)
                return REHEARSAL_DONE;
        int r = defragment_find(inventory, tenant, DEFRAGMENT_WORK_MAX, &moves);
        if (r < 0)
                return r;
        making->defragmented = (DefragmentVerdict) r;
        r = REHEARSAL_DONE;
        for (size_t i = 0; i < moves.n && r == REHEARSAL_DONE; i++)
                r = rehearse_move(supposition, inventory, inventory_find_tenant(inventory, &moves.items[i].vm),
                                  &moves.items[i].to, WORK_MAX, making->preempted_by);
        return r;
}

/* All of it happens. A RehearsalVerdict or -ENOMEM. */
static int let_it_happen(Supposition *supposition, Making *making) {
        making->plan->quorate = keeps_majority(making->world, suppose_world(supposition));
        if (!making->plan->quorate) {
                end_without_majority(making->world, making->inventory);
                return REHEARSAL_DONE;
        }
        int r = rehearse(supposition, making->inventory, WORK_MAX, making->preempted_by);
        return r == REHEARSAL_DONE && making->defragment ? make_room(supposition, making) : r;
}

/* As it is asked for, and the VM for which others move is to run. 0 or -ENOMEM; *ret_start is to be freed. */
static int complete(const Supposal *supposal, const VmId *defragment, Supposal *ret, VmId **ret_start) {
        VmId *start = calloc(supposal->n_start + 1, sizeof(*start));
        if (!start)
                return -ENOMEM;
        for (size_t i = 0; i < supposal->n_start; i++)
                start[i] = supposal->start[i];
        *ret = *supposal;
        if (defragment)
                start[ret->n_start++] = *defragment;
        ret->start = start;
        ret->settled = true;
        *ret_start = start;
        return 0;
}

int plan_make(const World *world, const Supposal *supposal, const VmId *defragment, Plan *ret, Result *ret_result) {
        _cleanup_(suppose_freep) Supposition *supposition = NULL;
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_(plan_clear) Plan plan = {};
        _cleanup_free_ VmId *start = NULL;
        Supposal completed;
        *ret_result = (Result) { .verdict = VERDICT_DONE };
        int r = complete(supposal, defragment, &completed, &start);
        if (r >= 0)
                r = check_level(world, supposal, defragment, ret_result);
        if (r > 0)
                r = suppose_new(world, &completed, &supposition, ret_result);
        if (r < 0 || !supposition)
                return r;

        r = inventory_new(suppose_world(supposition), &inventory);
        if (r < 0)
                return r;
        _cleanup_free_ size_t *preempted_by = calloc(inventory->tenants.n + 1, sizeof(*preempted_by));
        if (!preempted_by)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                preempted_by[i] = NOBODY;
        Making making = { .world = world, .inventory = inventory, .supposal = supposal, .defragment = defragment,
                          .plan = &plan, .preempted_by = preempted_by };
        r = let_it_happen(supposition, &making);
        if (r == REHEARSAL_TOO_LONG)
                return refuse_work(ret_result);
        if (r >= 0)
                r = list_items(&making);
        if (r >= 0)
                r = count_pools(&making);
        if (r < 0)
                return r;
        *ret = plan;
        plan = (Plan) {};
        return 0;
}
