/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/placement.h"

#include <errno.h>

#include "core/placement-internal.h"

void placement_clear(Placement *placement) {
        for (size_t i = 0; i < placement->n_answers; i++) {
                PlacementAnswer *answer = placement->answers + i;
                for (size_t j = 0; j < answer->n_reasons; j++) {
                        free(answer->reasons[j].sentence);
                        free(answer->reasons[j].remedy);
                }
                free(answer->reasons);
        }
        free(placement->answers);
        free(placement->gpus);
        free(placement->summary);
        *placement = (Placement) {};
}

int placement_compare_urgency(const Vm *a, const Vm *b) {
        if (a->priority != b->priority)
                return a->priority > b->priority ? -1 : 1;
        if (a->count != b->count)
                return a->count > b->count ? -1 : 1;
        return strcmp(a->name, b->name);
}

/* An affinity binds both, whoever of the two declares it. */
static int add_relations(Request *request, const Vm *from, const Vm *to, size_t other) {
        for (size_t i = 0; i < from->n_affinity; i++) {
                AffinityKind kind = from->affinity[i].kind;
                if (affinity_kind_is_soft(kind) || !text_equal(from->affinity[i].vm, to->name))
                        continue;
                Relation relation = { .tenant = other, .apart = kind == AFFINITY_APART };
                int r = array_append(&request->relations, &relation);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int collect_relations(Request *request) {
        const Inventory *inventory = request->inventory;
        if (!inventory->has_affinity && request->vm->n_affinity == 0)
                return 0;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (tenant->node == NOWHERE || ID_EQUAL(&tenant->vm->id, &request->vm->id))
                        continue;
                if (inventory->nodes.items[tenant->node].troubles & NODE_IMAGINED_LOST)
                        continue;
                int r = add_relations(request, request->vm, tenant->vm, i);
                if (r >= 0)
                        r = add_relations(request, tenant->vm, request->vm, i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static unsigned judge_node(const Request *request, size_t node) {
        static const struct {
                unsigned trouble;
                Hindrance hindrance;
        } troubles[] = {
                { NODE_LOST | NODE_IMAGINED_LOST, HINDRANCE_LOST },
                { NODE_WITNESS, HINDRANCE_WITNESS },
                { NODE_DRAINED, HINDRANCE_DRAINED },
                { NODE_SILENT, HINDRANCE_SILENT },
                { NODE_LEVEL_TOO_LOW, HINDRANCE_LEVEL },
                { NODE_NO_LEASE, HINDRANCE_JOINING },
                { NODE_NO_HYPERVISOR, HINDRANCE_HYPERVISOR },
                { NODE_NO_GUARD, HINDRANCE_GUARD },
        };

        unsigned found = 0;
        for (size_t i = 0; i < ELEMENTS(troubles); i++)
                if (request->inventory->nodes.items[node].troubles & troubles[i].trouble)
                        found |= HINDRANCE_BIT(troubles[i].hindrance);
        ARRAY_EACH(relation, &request->relations) {
                bool here = request->inventory->tenants.items[relation->tenant].node == node;
                if (relation->apart && here)
                        found |= HINDRANCE_BIT(HINDRANCE_APART);
                if (!relation->apart && !here)
                        found |= HINDRANCE_BIT(HINDRANCE_WITH);
        }
        return found;
}

static unsigned judge_room(const Request *request, size_t index) {
        uint32_t count = request->vm->count, distance, leftover;
        if (index == NOWHERE)
                return HINDRANCE_BIT(HINDRANCE_NO_GPUS);

        const Room *room = request->inventory->rooms.items + index;
        if (room->usable < count)
                return HINDRANCE_BIT(HINDRANCE_NOT_ENOUGH);
        if (!choice_is_possible(request->inventory, room, count))
                return HINDRANCE_BIT(HINDRANCE_SETS);
        if (room->free < count)
                return HINDRANCE_BIT(HINDRANCE_TAKEN);
        if (!choice_measure(request->inventory, index, count, &distance, &leftover))
                return HINDRANCE_BIT(HINDRANCE_SETS);
        return 0;
}

static unsigned judge_pool(const Request *request) {
        const InventoryPool *pool = request->pool;
        uint64_t count = request->vm->count;
        unsigned found = 0;
        if (!request->failover && pool->free >= count && pool->free - count < pool->pool->reserve)
                found |= HINDRANCE_BIT(HINDRANCE_RESERVE);
        if (pool->pool->max_in_use > 0 && pool->in_use + count > pool->pool->max_in_use)
                found |= HINDRANCE_BIT(HINDRANCE_MAX_IN_USE);
        return found;
}

static uint32_t preference(const Vm *vm, const char *node_name) {
        uint32_t i = 0;
        while (i < vm->preferred_nodes.n && !text_equal(vm->preferred_nodes.items[i], node_name))
                i++;
        return i;
}

static bool ran_last_on(const Vm *vm, const char *node_name) {
        for (size_t i = 0; i < vm->n_notes; i++)
                if (vm->notes[i].chosen && text_equal(vm->notes[i].node, node_name))
                        return true;
        return false;
}

static Rank rank_room(const Request *request, size_t index) {
        Inventory *inventory = request->inventory;
        const Room *room = inventory->rooms.items + index;
        Rank rank = { .node = room->node, .name = inventory->nodes.items[room->node].record->name };

        rank.keys[CRITERION_TARGET] =
                !ID_EQUAL(&request->vm->target, &inventory->nodes.items[room->node].record->id);
        rank.keys[CRITERION_PREFERRED] = preference(request->vm, rank.name);
        rank.keys[CRITERION_POOL_PLACEMENT] = request->pool->pool->placement == POOL_SPREAD ? room->in_use : room->free;
        (void) choice_measure(inventory, index, request->vm->count, &rank.keys[CRITERION_DISTANCE],
                              &rank.keys[CRITERION_SWITCH_HOLES]);
        rank.keys[CRITERION_NODE_HOLES] = room->free;
        rank.keys[CRITERION_RAN_LAST] = !ran_last_on(request->vm, rank.name);
        return rank;
}

Criterion rank_compare(const Rank *a, const Rank *b, int *ret_order) {
        for (Criterion i = 0; i < CRITERION_NAME; i++)
                if (a->keys[i] != b->keys[i]) {
                        *ret_order = a->keys[i] < b->keys[i] ? -1 : 1;
                        return i;
                }
        *ret_order = strcmp(a->name, b->name);
        return CRITERION_NAME;
}

static bool is_better(const Rank *a, const Rank *b) {
        int order;
        (void) rank_compare(a, b, &order);
        return order < 0;
}

int placement_choose(Inventory *inventory, size_t tenant, bool failover, Choice *ret) {
        const Vm *vm = inventory->tenants.items[tenant].vm;
        size_t pool = inventory_find_pool(inventory, vm->pool);
        if (pool == NOWHERE)
                return PLACEMENT_NO_SUCH_POOL;

        Request request = {
                .inventory = inventory,
                .vm = vm,
                .pool = inventory->pools.items + pool,
                .failover = failover,
        };
        if (request.pool->free < vm->count || judge_pool(&request) != 0)
                return PLACEMENT_NO_ROOM;
        int r = collect_relations(&request);
        if (r < 0)
                return r;

        size_t best = NOWHERE;
        Rank best_rank = {};
        for (size_t i = request.pool->first_room; i < request.pool->first_room + request.pool->n_rooms; i++) {
                if (judge_room(&request, i) != 0 || judge_node(&request, inventory->rooms.items[i].node) != 0)
                        continue;
                Rank rank = rank_room(&request, i);
                if (best != NOWHERE && !is_better(&rank, &best_rank))
                        continue;
                best = i;
                best_rank = rank;
        }
        array_clear(&request.relations);
        if (best == NOWHERE || !choice_make(inventory, inventory->rooms.items + best, vm->count, ret))
                return PLACEMENT_NO_ROOM;
        return PLACEMENT_FOUND;
}

/* Judges and ranks every node. Rooms of a pool and nodes are in the same order. */
static void find_all(const Request *request, Finding *findings, size_t n, size_t *ret_best, size_t *ret_second) {
        const Inventory *inventory = request->inventory;
        size_t room = request->pool->first_room, end = room + request->pool->n_rooms;
        size_t best = NOWHERE, second = NOWHERE;
        unsigned of_pool = judge_pool(request);

        for (size_t i = 0; i < n; i++) {
                Finding *finding = findings + i;
                bool has_room = room < end && inventory->rooms.items[room].node == i;
                finding->room = has_room ? room++ : NOWHERE;
                finding->hindrances = judge_node(request, i) | of_pool;
                if (inventory->nodes.items[i].facts)
                        finding->hindrances |= judge_room(request, finding->room);
                if (finding->hindrances != 0)
                        continue;
                finding->rank = rank_room(request, finding->room);
                if (best == NOWHERE || is_better(&finding->rank, &findings[best].rank)) {
                        second = best;
                        best = i;
                } else if (second == NOWHERE || is_better(&finding->rank, &findings[second].rank))
                        second = i;
        }
        *ret_best = best;
        *ret_second = second;
}

static int hand_out(const Request *request, const Finding *finding, Placement *ret) {
        const Inventory *inventory = request->inventory;
        Choice choice;
        if (!choice_make(inventory, inventory->rooms.items + finding->room, request->vm->count, &choice))
                return PLACEMENT_NO_ROOM;
        ret->gpus = calloc(choice.n_gpus + 1, sizeof(*ret->gpus));
        if (!ret->gpus)
                return -ENOMEM;
        for (size_t i = 0; i < choice.n_gpus; i++) {
                const GpuView *view = inventory->gpus.items[choice.gpus[i]].view;
                ret->gpus[ret->n_gpus++] = (AssignedGpu) {
                        .gpu = view->identity,
                        .iommu_group = view->facts->iommu_group,
                };
        }
        ret->node = inventory->nodes.items[finding->rank.node].record->id;
        return PLACEMENT_FOUND;
}

static int explain_all(const Request *request, const Finding *findings, size_t best, size_t second, Placement *ret) {
        for (size_t i = 0; i < ret->n_answers; i++) {
                int r = explain_node(request, findings, i, best, second, ret->answers + i);
                if (r < 0)
                        return r;
        }
        if (best == NOWHERE)
                return explain_waiting(request, findings, ret->n_answers, &ret->code, &ret->summary);
        ret->code = "";
        return text_printf(&ret->summary, "vm %s fits on %s", request->vm->name, findings[best].rank.name);
}

static int answer(Request *request, Placement *ret) {
        const Inventory *inventory = request->inventory;
        size_t n = inventory->nodes.n, best, second;
        _cleanup_free_ Finding *findings = calloc(n + 1, sizeof(*findings));
        ret->answers = calloc(n + 1, sizeof(*ret->answers));
        if (!findings || !ret->answers)
                return -ENOMEM;
        for (; ret->n_answers < n; ret->n_answers++)
                ret->answers[ret->n_answers].node = inventory->nodes.items[ret->n_answers].record->id;

        int r = collect_relations(request);
        if (r < 0)
                return r;
        find_all(request, findings, n, &best, &second);
        r = explain_all(request, findings, best, second, ret);
        if (r < 0)
                return r;
        return best == NOWHERE ? PLACEMENT_NO_ROOM : hand_out(request, findings + best, ret);
}

/* No pool: no node has a word to say. */
static int answer_without_pool(const Inventory *inventory, const Vm *vm, Placement *ret) {
        ret->answers = calloc(inventory->nodes.n + 1, sizeof(*ret->answers));
        if (!ret->answers)
                return -ENOMEM;
        for (; ret->n_answers < inventory->nodes.n; ret->n_answers++)
                ret->answers[ret->n_answers].node = inventory->nodes.items[ret->n_answers].record->id;
        ret->code = "no-such-pool";
        int r = text_printf(&ret->summary,
                            "vm %s waits: there is no pool %s. Create it (gpupoolctl pool create %s) or name "
                            "another (gpupoolctl vm requirement %s)",
                            vm->name, vm->pool, vm->pool, vm->name);
        return r < 0 ? r : PLACEMENT_NO_SUCH_POOL;
}

int placement_find_in(Inventory *inventory, const Vm *vm, Placement *ret) {
        Placement placement = {};
        size_t pool = inventory_find_pool(inventory, vm->pool);
        if (pool == NOWHERE) {
                int r = answer_without_pool(inventory, vm, &placement);
                if (r < 0)
                        placement_clear(&placement);
                else
                        *ret = placement;
                return r;
        }

        size_t tenant = inventory_find_tenant(inventory, &vm->id);
        _cleanup_free_ Belongings *belongings = inventory_set_aside(inventory, tenant);
        if (!belongings)
                return -ENOMEM;
        Request request = {
                .inventory = inventory,
                .vm = vm,
                .pool = inventory->pools.items + pool,
                .failover = vm_lost_its_place(vm),
        };
        int r = answer(&request, &placement);
        array_clear(&request.relations);
        inventory_give_back(inventory, belongings);
        if (r < 0)
                placement_clear(&placement);
        else
                *ret = placement;
        return r;
}

int placement_find(const World *world, const Vm *vm, Placement *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        return placement_find_in(inventory, vm, ret);
}
