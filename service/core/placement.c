/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/placement.h"

#include <errno.h>

#include "core/company.h"
#include "core/explain-node.h"
#include "core/explain-wait.h"
#include "core/holes.h"
#include "core/room-index.h"

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

int placement_compare_tenants(const void *a, const void *b) {
        return placement_compare_urgency((*(const Tenant *const *) a)->vm, (*(const Tenant *const *) b)->vm);
}

static int add_relation(Request *request, const Bond *bond) {
        const Inventory *inventory = request->inventory;
        const Tenant *other = inventory->tenants.items + bond->other;
        Relation relation = { .tenant = bond->other, .apart = bond->apart };
        if (other->node == NOWHERE || inventory->nodes.items[other->node].troubles & NODE_IMAGINED_LOST ||
            company_follows(inventory, request->vm, other))
                return 0;
        return bond->soft ? array_append(&request->wishes, &relation) : array_append(&request->relations, &relation);
}

static int add_declared(Request *request, const Vm *from, const Vm *to, size_t other) {
        for (size_t i = 0; i < from->n_affinity; i++) {
                Bond bond;
                if (!text_equal(from->affinity[i].vm, to->name))
                        continue;
                bond_read(from->affinity + i, &bond);
                bond.other = other;
                int r = add_relation(request, &bond);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Of a VM that is not as the registry has it. */
static int collect_declared(Request *request) {
        const Inventory *inventory = request->inventory;
        if (!inventory->has_affinity && request->vm->n_affinity == 0)
                return 0;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Vm *vm = inventory->tenants.items[i].vm;
                if (ID_EQUAL(&vm->id, &request->vm->id))
                        continue;
                int r = add_declared(request, request->vm, vm, i);
                if (r >= 0)
                        r = add_declared(request, vm, request->vm, i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int collect_relations(Request *request) {
        const Inventory *inventory = request->inventory;
        size_t index = inventory_find_tenant(inventory, &request->vm->id);
        const Tenant *tenant = index == NOBODY ? NULL : inventory->tenants.items + index;
        if (!tenant || tenant->vm->affinity != request->vm->affinity)
                return collect_declared(request);
        for (size_t i = tenant->first_bond; i < tenant->first_bond + tenant->n_bonds; i++) {
                int r = add_relation(request, inventory->bonds.items + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void request_clear(Request *request) {
        array_clear(&request->relations);
        array_clear(&request->wishes);
}

/* How it begins for a VM as the inventory has it. */
static Request request_of(Inventory *inventory, size_t tenant) {
        const Tenant *t = inventory->tenants.items + tenant;
        return (Request) {
                .inventory = inventory,
                .vm = t->vm,
                .pool = inventory->pools.items + t->pool,
                .models = t->models,
                .has_needs = capacity_is_asked_for(&t->vm->needs),
                .count = t->vm->count,
                .planned = NOWHERE,
        };
}

static unsigned judge_capacity(const Request *request, size_t node) {
        static const struct {
                CapacityLack lack;
                Hindrance hindrance;
        } lacks[] = {
                { CAPACITY_CPU, HINDRANCE_CPU },
                { CAPACITY_STORAGE, HINDRANCE_STORAGE },
                { CAPACITY_MEMORY, HINDRANCE_MEMORY },
                { CAPACITY_HUGEPAGES, HINDRANCE_HUGEPAGES },
        };
        const Inventory *inventory = request->inventory;
        unsigned lacking = capacity_judge(&request->vm->needs, inventory->nodes.items[node].facts,
                                          inventory->taken + node), found = 0;
        for (size_t i = 0; lacking != 0 && i < ELEMENTS(lacks); i++)
                if (lacking & lacks[i].lack)
                        found |= HINDRANCE_BIT(lacks[i].hindrance);
        return found;
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
        return request->has_needs ? found | judge_capacity(request, node) : found;
}

static unsigned judge_room(const Request *request, size_t index) {
        const Inventory *inventory = request->inventory;
        Models models = request->models;
        uint32_t count = request->count, distance, leftover;
        if (index == NOWHERE)
                return HINDRANCE_BIT(HINDRANCE_NO_GPUS);

        const Room *room = inventory->rooms.items + index;
        if (room->usable < count)
                return HINDRANCE_BIT(HINDRANCE_NOT_ENOUGH);
        if (choice_count_usable(inventory, room, models) < count)
                return HINDRANCE_BIT(HINDRANCE_MODEL);
        if (!choice_is_possible(inventory, room, models, count))
                return HINDRANCE_BIT(HINDRANCE_SETS);
        if (choice_count_free(inventory, room, models) < count)
                return HINDRANCE_BIT(HINDRANCE_TAKEN);
        if (!choice_measure(request->inventory, index, models, count, &distance, &leftover))
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

/* Once the room is given, is there nowhere else a place for the largest VM of the pool that runs, should its node be
 * lost? Only if there is one before. */
static bool leaves_no_failover(const Request *request, size_t index) {
        const Inventory *inventory = request->inventory;
        const InventoryPool *pool = request->pool;
        const Room *room = inventory->rooms.items + index;
        uint32_t largest = GPUS_PER_VM_MAX;
        while (largest > 0 && pool->residents[largest].n == 0)
                largest--;
        if (largest == 0 || room->free < largest || room->free - request->count >= largest)
                return false;
        size_t home = pool->residents[largest].n == 1 ? pool->residents[largest].nodes : NOWHERE;
        size_t other = room_index_first(inventory, room->pool, largest);
        while (other != NOWHERE && (other == index || inventory->rooms.items[other].node == home))
                other = room_index_next(inventory, other);      /* twice at most */
        return room->node != home && other == NOWHERE;
}

static uint32_t count_broken_wishes(const Request *request, size_t node) {
        uint32_t n = 0;
        ARRAY_EACH(wish, &request->wishes)
                n += wish->apart == (request->inventory->tenants.items[wish->tenant].node == node);
        return n;
}

static Rank rank_room(const Request *request, size_t index) {
        Inventory *inventory = request->inventory;
        const Room *room = inventory->rooms.items + index;
        Rank rank = { .node = room->node, .name = inventory->nodes.items[room->node].record->name };

        rank.keys[CRITERION_PLAN] = request->planned != NOWHERE && request->planned != room->node;
        rank.keys[CRITERION_TARGET] =
                !ID_EQUAL(&request->vm->target, &inventory->nodes.items[room->node].record->id);
        (void) choice_measure(inventory, index, request->models, request->count, &rank.keys[CRITERION_DISTANCE],
                              &rank.keys[CRITERION_SWITCH_HOLES]);
        Holes holes = holes_of_last_choice(inventory, room);
        bool packs = request->pool->pool->placement == POOL_PACK;
        rank.keys[CRITERION_NEEDED] = holes.needed;
        rank.keys[CRITERION_LARGE_HOLES] = packs ? holes.large : 0;
        rank.keys[CRITERION_SMALL_HOLES] = packs ? holes.small : 0;
        rank.keys[CRITERION_PREFERRED] = preference(request->vm, rank.name);
        rank.keys[CRITERION_AFFINITY] = count_broken_wishes(request, room->node);
        rank.keys[CRITERION_POOL_PLACEMENT] = request->pool->pool->placement == POOL_SPREAD ? room->in_use : room->free;
        rank.keys[CRITERION_FAILOVER] = leaves_no_failover(request, index);
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

/* ---- where one VM goes, without words */

/* The nodes that are unlike others of their kind for this VM: by its preferences, its history, or who is there. */
typedef struct Search {
        Request request;
        ARRAY(size_t) nodes;
        size_t best;
        Rank best_rank;
} Search;

static void search_clear(Search *search) {
        request_clear(&search->request);
        array_clear(&search->nodes);
}

static int add_node(Search *search, size_t node) {
        return node == NOWHERE ? 0 : array_append(&search->nodes, &node);
}

static int add_node_named(Search *search, const char *name) {
        return add_node(search, inventory_find_node_named(search->request.inventory, name));
}

static int list_special_nodes(Search *search) {
        const Inventory *inventory = search->request.inventory;
        const Vm *vm = search->request.vm;
        int r = id_is_null(vm->target.bytes) ? 0 : add_node(search, inventory_find_node(inventory, &vm->target));
        for (size_t i = 0; r >= 0 && i < vm->preferred_nodes.n; i++)
                r = add_node_named(search, vm->preferred_nodes.items[i]);
        for (size_t i = 0; r >= 0 && i < vm->n_notes; i++)
                r = vm->notes[i].chosen ? add_node_named(search, vm->notes[i].node) : 0;
        for (size_t i = 0; r >= 0 && i < search->request.relations.n; i++)
                r = add_node(search, inventory->tenants.items[search->request.relations.items[i].tenant].node);
        for (size_t i = 0; r >= 0 && i < search->request.wishes.n; i++)
                r = add_node(search, inventory->tenants.items[search->request.wishes.items[i].tenant].node);
        for (uint32_t size = GPUS_PER_VM_MAX; r >= 0 && size > 0; size--)
                if (search->request.pool->residents[size].n > 0) {
                        if (search->request.pool->residents[size].n == 1)       /* the failover room */
                                r = add_node(search, search->request.pool->residents[size].nodes);
                        break;
                }
        return r;
}

static bool is_special(const Search *search, size_t node) {
        ARRAY_EACH(special, &search->nodes)
                if (*special == node)
                        return true;
        return false;
}

static int search_begin(Inventory *inventory, size_t tenant, uint32_t count, Search *ret) {
        Search search = { .request = request_of(inventory, tenant), .best = NOWHERE };
        search.request.count = count;
        int r = collect_relations(&search.request);
        if (r >= 0)
                r = list_special_nodes(&search);
        if (r < 0)
                search_clear(&search);
        else
                *ret = search;
        return r;
}

static bool does(const Request *request, size_t room) {
        return judge_room(request, room) == 0 && judge_node(request, request->inventory->rooms.items[room].node) == 0;
}

/* False: its node cannot take the VM, and that of another room of its kind might. */
static bool try_room(Search *search, size_t room) {
        if (room == NOWHERE || judge_room(&search->request, room) != 0)
                return true;
        if (judge_node(&search->request, search->request.inventory->rooms.items[room].node) != 0)
                return false;
        Rank rank = rank_room(&search->request, room);
        if (search->best != NOWHERE && !is_better(&rank, &search->best_rank))
                return true;
        search->best = room;
        search->best_rank = rank;
        return true;
}

static RoomStep visit_room(void *userdata, size_t room) {
        Search *search = userdata;
        if (is_special(search, search->request.inventory->rooms.items[room].node))
                return ROOM_NEXT;
        return try_room(search, room) ? ROOM_NEXT_KIND : ROOM_NEXT;
}

/* One room of each kind, and those that are special. What GPUs it has makes the kind, and their models; what its node
 * has beside them does not. */
static void try_rooms(Search *search) {
        const Inventory *inventory = search->request.inventory;
        size_t pool = (size_t) (search->request.pool - inventory->pools.items);
        ARRAY_EACH(node, &search->nodes)
                (void) try_room(search, inventory_find_room(inventory, pool, *node));
        ARRAY_EACH(relation, &search->request.relations)
                if (!relation->apart)
                        return;         /* it goes to one of these or nowhere */
        room_index_walk(inventory, pool, search->request.count, visit_room, search);
}

int placement_seek(Inventory *inventory, size_t tenant, uint32_t count, size_t *ret_room) {
        Search search;
        if (inventory->tenants.items[tenant].pool == NOWHERE)
                return PLACEMENT_NO_SUCH_POOL;
        int r = search_begin(inventory, tenant, count, &search);
        if (r < 0)
                return r;
        try_rooms(&search);
        search_clear(&search);
        if (search.best == NOWHERE)
                return PLACEMENT_NO_ROOM;
        *ret_room = search.best;
        return PLACEMENT_FOUND;
}

typedef struct RankedRoom {
        size_t room;
        Rank rank;
} RankedRoom;

static int compare_ranked_rooms(const void *a, const void *b) {
        int order;
        (void) rank_compare(&((const RankedRoom *) a)->rank, &((const RankedRoom *) b)->rank, &order);
        return order;
}

int placement_list(Inventory *inventory, size_t tenant, uint32_t count, RoomList *ret) {
        ARRAY(RankedRoom) rooms = {};
        Search search;
        if (inventory->tenants.items[tenant].pool == NOWHERE)
                return PLACEMENT_NO_SUCH_POOL;
        int r = search_begin(inventory, tenant, count, &search);
        if (r < 0)
                return r;
        size_t room = room_index_first(inventory, inventory->tenants.items[tenant].pool, count);
        for (; r >= 0 && room != NOWHERE; room = room_index_next(inventory, room))
                if (does(&search.request, room))
                        r = array_append(&rooms, &((RankedRoom) { room, rank_room(&search.request, room) }));
        search_clear(&search);
        if (rooms.n > 1)
                qsort(rooms.items, rooms.n, sizeof(*rooms.items), compare_ranked_rooms);
        ARRAY_EACH(ranked, &rooms)
                if (r >= 0)
                        r = array_append(ret, &ranked->room);
        array_clear(&rooms);
        return r < 0 ? r : ret->n > 0 ? PLACEMENT_FOUND : PLACEMENT_NO_ROOM;
}

int placement_room_does(Inventory *inventory, size_t tenant, size_t room) {
        Request request = request_of(inventory, tenant);
        int r = collect_relations(&request);
        if (r >= 0)
                r = does(&request, room);
        request_clear(&request);
        return r;
}

bool placement_pool_allows(const Inventory *inventory, size_t tenant, bool failover) {
        const Tenant *t = inventory->tenants.items + tenant;
        Request request = {
                .vm = t->vm,
                .pool = inventory->pools.items + t->pool,
                .failover = failover,
        };
        return request.pool->free >= t->vm->count && judge_pool(&request) == 0;
}

int placement_choose(Inventory *inventory, size_t tenant, bool failover, Choice *ret) {
        const Tenant *t = inventory->tenants.items + tenant;
        size_t room;
        if (t->pool == NOWHERE)
                return PLACEMENT_NO_SUCH_POOL;
        if (!placement_pool_allows(inventory, tenant, failover))
                return PLACEMENT_NO_ROOM;
        int r = placement_seek(inventory, tenant, t->vm->count, &room);
        if (r == PLACEMENT_FOUND && !choice_make(inventory, inventory->rooms.items + room, t->models, t->vm->count,
                                                  ret))
                return PLACEMENT_NO_ROOM;
        return r;
}

/* ---- with words */

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
        if (!choice_make(inventory, inventory->rooms.items + finding->room, request->models, request->vm->count,
                         &choice))
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

/* Words for so many nodes find room in the notes of who waits, and more. */
#define BRIEFLY_MAX 20U

static int explain_once(const Request *request, const Finding *findings, size_t node, Placement *ret) {
        if (node == NOWHERE || ret->answers[node].n_reasons > 0)
                return 0;
        return explain_node(request, findings, node, NOWHERE, NOWHERE, ret->answers + node);
}

/* Nodes that somebody named, or where it ran. */
static int explain_named(const Request *request, const Finding *findings, Placement *ret) {
        const Inventory *inventory = request->inventory;
        const Vm *vm = request->vm;
        int r = explain_once(request, findings, inventory_find_node(inventory, &vm->target), ret);
        if (r >= 0)
                r = explain_once(request, findings, inventory_find_node(inventory, &vm->home), ret);
        for (size_t i = 0; r >= 0 && i < vm->preferred_nodes.n; i++)
                r = explain_once(request, findings,
                                 inventory_find_node_named(inventory, vm->preferred_nodes.items[i]), ret);
        for (size_t i = 0; r >= 0 && i < vm->n_notes; i++)
                if (vm->notes[i].chosen)
                        r = explain_once(request, findings, inventory_find_node_named(inventory, vm->notes[i].node),
                                         ret);
        return r;
}

/* Those with the least in the way first, and of those with GPUs of the pool. */
static int explain_nearest(const Request *request, const Finding *findings, Placement *ret) {
        const Inventory *inventory = request->inventory;
        size_t told = 0;
        for (int rooms = 1; rooms >= 0; rooms--)
                for (int n = 1; n <= HINDRANCE_COUNT; n++)
                        for (size_t i = 0; i < ret->n_answers && told < BRIEFLY_MAX; i++) {
                                size_t node = inventory->nodes_by_name[i];
                                if ((findings[node].room != NOWHERE) != rooms ||
                                    __builtin_popcount(findings[node].hindrances) != n)
                                        continue;
                                int r = explain_once(request, findings, node, ret);
                                if (r < 0)
                                        return r;
                                told++;
                        }
        return 0;
}

static int explain_briefly(const Request *request, const Finding *findings, size_t best, Placement *ret) {
        ret->code = "";
        if (best != NOWHERE)
                return 0;
        int r = explain_named(request, findings, ret);
        if (r >= 0)
                r = explain_nearest(request, findings, ret);
        return r < 0 ? r : explain_waiting(request, findings, ret->n_answers, &ret->code, &ret->summary);
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
        r = request->briefly ? explain_briefly(request, findings, best, ret)
                             : explain_all(request, findings, best, second, ret);
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

static int find(Inventory *inventory, const Vm *vm, const NodeId *node, bool briefly, Placement *ret) {
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
                .models = inventory_models_of(inventory, vm),
                .has_needs = capacity_is_asked_for(&vm->needs),
                .count = vm->count,
                .planned = node ? inventory_find_node(inventory, node) : NOWHERE,
                .briefly = briefly,
        };
        int r = answer(&request, &placement);
        request_clear(&request);
        inventory_give_back(inventory, belongings);
        if (r < 0)
                placement_clear(&placement);
        else
                *ret = placement;
        return r;
}

int placement_find_planned(Inventory *inventory, const Vm *vm, const NodeId *node, Placement *ret) {
        return find(inventory, vm, node, false, ret);
}

int placement_find_briefly(Inventory *inventory, const Vm *vm, Placement *ret) {
        return find(inventory, vm, NULL, true, ret);
}

int placement_find_in(Inventory *inventory, const Vm *vm, Placement *ret) {
        return placement_find_planned(inventory, vm, NULL, ret);
}

int placement_find(const World *world, const Vm *vm, Placement *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        return placement_find_in(inventory, vm, ret);
}
