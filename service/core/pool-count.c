/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pool-count.h"

#include <errno.h>
#include <inttypes.h>

#include "core/majority.h"
#include "core/placement.h"

void pool_counts_clear(PoolCounts *counts) {
        free(counts->at_risk);
        text_list_clear(&counts->mixed);
        *counts = (PoolCounts) {};
}

/* ---- how the GPUs differ */

/* How many GPUs are named before it says "and N more". */
#define NAMED_MAX 3

/* GPUs with the same value of one property. */
typedef struct Kind {
        char *value;
        uint32_t n;
        char *names;                    /* "a:0000:41:00.0, b:0000:41:00.0" */
        const char *model;              /* borrowed; the hardware database's name, or NULL */
} Kind;

typedef ARRAY(Kind) Kinds;

static void kinds_clear(Kinds *kinds) {
        ARRAY_EACH(kind, kinds) {
                free(kind->value);
                free(kind->names);
        }
        array_clear(kinds);
}

/* Each writes the value of one property, or nothing where it is not known. */
static int say_model(const GpuView *view, char **ret) {
        return text_printf(ret, "%04x:%04x", view->identity.vendor, view->identity.device);
}

static int say_memory(const GpuView *view, char **ret) {
        uint64_t mib = view->facts ? gpu_facts_bars_total(view->facts) >> 20 : 0;
        return mib > 0 ? text_printf(ret, "%" PRIu64 " MiB", mib) : 0;
}

/* Where the driver tells it. */
static int say_vram(const GpuView *view, char **ret) {
        uint64_t mib = view->facts ? view->facts->vram_bytes >> 20 : 0;
        return mib > 0 ? text_printf(ret, "%" PRIu64 " MiB", mib) : 0;
}

static int say_vbios(const GpuView *view, char **ret) {
        return view->facts && view->facts->vbios ? text_set(ret, view->facts->vbios) : 0;
}

/* Lanes as they are: a slot may have fewer than the card. */
static int say_link_width(const GpuView *view, char **ret) {
        return view->facts && view->facts->link_width > 0 ? text_printf(ret, "x%" PRIu32, view->facts->link_width) : 0;
}

/* Speed at best: an idle link slows down by itself. */
static int say_link_speed(const GpuView *view, char **ret) {
        return view->facts && view->facts->link_speed_max ? text_set(ret, view->facts->link_speed_max) : 0;
}

/* How many go together: a VM that fits one size may not fit another. */
static int say_set(const GpuView *view, char **ret) {
        return view->facts ? text_printf(ret, "%" PRIu32, view->set_size > 1 ? view->set_size : 1) : 0;
}

static const struct {
        const char *what;
        int (*say)(const GpuView *view, char **ret);
} properties[] = {
        { "models", say_model },
        { "memory regions (BARs, in all)", say_memory },
        { "memories (VRAM)", say_vram },
        { "VBIOS versions", say_vbios },
        { "PCIe link widths", say_link_width },
        { "PCIe link speeds", say_link_speed },
        { "sizes of sets that are given out whole", say_set },
};

static Kind *find_kind(Kinds *kinds, const char *value) {
        ARRAY_EACH(kind, kinds)
                if (text_equal(kind->value, value))
                        return kind;
        return NULL;
}

static int add_to_kind(Kind *kind, const char *node_name, const GpuView *view) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        if (!kind->model && view->facts)
                kind->model = view->facts->device_name;
        if (kind->n++ >= NAMED_MAX)
                return 0;
        pci_address_to_text(view->identity.address, address);
        return text_append(&kind->names, "%s%s:%s", kind->names ? ", " : "", node_name, address);
}

static int sort_out(const Inventory *inventory, const InventoryPool *pool, int (*say)(const GpuView *, char **),
                    Kinds *ret) {
        for (size_t i = 0; i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                const char *node_name = inventory->nodes.items[room->node].record->name;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++) {
                        const GpuView *view = inventory->gpus.items[j].view;
                        Kind kind = {};
                        int r = say(view, &kind.value);
                        if (r < 0)
                                return r;
                        if (!kind.value)
                                continue;
                        Kind *known = find_kind(ret, kind.value);
                        if (known)
                                free(kind.value);
                        else if (array_append(ret, &kind) < 0) {
                                free(kind.value);
                                return -ENOMEM;
                        } else
                                known = ret->items + ret->n - 1;
                        r = add_to_kind(known, node_name, view);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* The most common first; the others are the odd ones, and named. */
static int compare_kinds(const void *a, const void *b) {
        const Kind *x = a, *y = b;
        if (x->n != y->n)
                return x->n > y->n ? -1 : 1;
        return strcmp(x->value, y->value);
}

static int say_kinds(const char *what, bool with_model, const Kinds *kinds, char **ret) {
        int r = text_printf(ret, "%s differ: ", what);
        for (size_t i = 0; r >= 0 && i < kinds->n; i++) {
                const Kind *kind = kinds->items + i;
                const char *model = with_model ? kind->model : NULL;
                r = text_append(ret, "%s%s%s%s (%" PRIu32, i > 0 ? ", " : "", model ? model : "", model ? " " : "",
                                kind->value, kind->n);
                if (r >= 0 && i > 0)
                        r = text_append(ret, ": %s", kind->names);
                if (r >= 0 && i > 0 && kind->n > NAMED_MAX)
                        r = text_append(ret, " and %" PRIu32 " more", kind->n - NAMED_MAX);
                if (r >= 0)
                        r = text_append(ret, ")");
        }
        return r;
}

static int compare_gpus(const Inventory *inventory, const InventoryPool *pool, TextList *ret) {
        for (size_t i = 0; i < ELEMENTS(properties); i++) {
                Kinds kinds = {};
                _cleanup_free_ char *sentence = NULL;
                int r = sort_out(inventory, pool, properties[i].say, &kinds);
                if (r >= 0 && kinds.n > 1) {
                        qsort(kinds.items, kinds.n, sizeof(*kinds.items), compare_kinds);
                        r = say_kinds(properties[i].what, properties[i].say == say_model, &kinds, &sentence);
                        if (r >= 0)
                                r = text_list_add(ret, sentence);
                }
                kinds_clear(&kinds);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- what it could lose */

/* So many sets of nodes are tried one by one at most; all single nodes always are. */
#define TRIALS_MAX 2000U

/* A VM of the pool that runs. */
typedef struct Resident {
        const Vm *vm;
        size_t tenant;
} Resident;

/* A node that has something of the pool. */
typedef struct Stake {
        size_t node;
        uint32_t cost;                  /* of its loss: what runs there, and what would be free for others */
} Stake;

/* One pool's question: which nodes may it lose? */
typedef struct Survival {
        Inventory *inventory;
        const InventoryPool *pool;
        bool entangled;                 /* VMs of other pools can be in the way of this one's, or bind them */
        ARRAY(Resident) residents;          /* the most urgent first */
        ARRAY(Resident) claimants;      /* whoever looks for a place when nodes are lost: residents, those of other
                                         * pools where they are entangled, and who waits; likewise */
        bool somebody_waits;            /* ... and may find room then */
        ARRAY(Stake) stakes;            /* those first whose loss costs most */
        uint32_t *n_residents_on;         /* one per node */
        Belongings **belongings;        /* of the claimants of lost nodes, for the time of a trial */
        size_t *placed;                 /* tenants that have another place for that time */
        bool *at_risk;                  /* one per tenant */
        uint64_t work_left;             /* rooms that may be looked at */
} Survival;

static void survival_clear(Survival *survival) {
        array_clear(&survival->residents);
        array_clear(&survival->claimants);
        array_clear(&survival->stakes);
        free(survival->n_residents_on);
        free(survival->belongings);
        free(survival->placed);
        free(survival->at_risk);
}

static uint32_t count_dispensable(const Inventory *inventory) {
        size_t n_lost = 0;
        ARRAY_EACH(node, &inventory->nodes)
                n_lost += node->record->lost;
        return majority_spares(inventory->nodes.n, n_lost);
}

static int compare_residents(const void *a, const void *b) {
        return placement_compare_urgency(((const Resident *) a)->vm, ((const Resident *) b)->vm);
}

static int list_residents(Survival *survival) {
        const Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                Resident resident = { .vm = inventory->tenants.items[i].vm, .tenant = i };
                if (!resident.vm->run || inventory->tenants.items[i].node == NOWHERE ||
                    !text_equal(resident.vm->pool, survival->pool->pool->name))
                        continue;
                int r = array_append(&survival->residents, &resident);
                if (r < 0)
                        return r;
        }
        if (survival->residents.n > 1)
                qsort(survival->residents.items, survival->residents.n, sizeof(Resident), compare_residents);
        return 0;
}

bool pool_is_entangled(const Inventory *inventory, const InventoryPool *pool) {
        if (inventory->has_affinity)
                return true;
        for (size_t i = 0; i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++) {
                        const RoomGpu *next = inventory->gpus.items + inventory->gpus.items[j].next_in_group;
                        if (inventory->rooms.items[next->room].pool != room->pool)
                                return true;
                }
        }
        return false;
}

/* Who waits for want of room will find none when there is less; who waits for another reason, or not for long, may. */
static bool has_room(const Inventory *inventory, const Vm *vm) {
        size_t index = inventory_find_pool(inventory, vm->pool);
        const InventoryPool *pool = index == NOWHERE ? NULL : inventory->pools.items + index;
        Models models = inventory_models_of(inventory, vm);
        for (size_t i = 0; pool && pool->free >= vm->count && i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                if (inventory_node_takes_vms(inventory, room->node) && choice_exists(inventory, room, models, vm->count))
                        return true;
        }
        return false;
}

static int list_claimants(Survival *survival) {
        const Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                Resident claimant = { .vm = tenant->vm, .tenant = i };
                bool waits = tenant->node == NOWHERE;
                if (!tenant->vm->run ||
                    (!survival->entangled && !text_equal(tenant->vm->pool, survival->pool->pool->name)) ||
                    (waits && (tenant->vm->failed || !has_room(inventory, tenant->vm))))
                        continue;
                survival->somebody_waits = survival->somebody_waits || waits;
                int r = array_append(&survival->claimants, &claimant);
                if (r < 0)
                        return r;
        }
        if (survival->claimants.n > 1)
                qsort(survival->claimants.items, survival->claimants.n, sizeof(Resident), compare_residents);
        return 0;
}

static int compare_stakes(const void *a, const void *b) {
        const Stake *x = a, *y = b;
        if (x->cost != y->cost)
                return x->cost > y->cost ? -1 : 1;
        return x->node < y->node ? -1 : x->node > y->node;
}

static int list_stakes(Survival *survival) {
        const Inventory *inventory = survival->inventory;
        _cleanup_free_ bool *has_stake = calloc(inventory->nodes.n + 1, sizeof(*has_stake));
        int r = has_stake ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < survival->pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + survival->pool->first_room + i;
                Stake stake = { .node = room->node, .cost = room->in_use + room->free };
                has_stake[room->node] = true;
                r = array_append(&survival->stakes, &stake);
        }
        /* Whose VMs would be in the way of this pool's if both lost their places. */
        for (size_t i = 0; r >= 0 && i < survival->claimants.n; i++) {
                Stake stake = { .node = inventory->tenants.items[survival->claimants.items[i].tenant].node };
                if (stake.node == NOWHERE || has_stake[stake.node])
                        continue;
                has_stake[stake.node] = true;
                r = array_append(&survival->stakes, &stake);
        }
        if (r >= 0 && survival->stakes.n > 1)
                qsort(survival->stakes.items, survival->stakes.n, sizeof(Stake), compare_stakes);
        return r;
}

/* The way back from a trial. */
static void undo(Survival *survival, const size_t *lost, size_t n_lost, size_t n_placed) {
        Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < n_placed; i++)
                inventory_vacate(inventory, survival->placed[i]);
        for (size_t i = 0; i < survival->claimants.n; i++)
                if (survival->belongings[i]) {
                        inventory_give_back(inventory, survival->belongings[i]);
                        free(survival->belongings[i]);
                        survival->belongings[i] = NULL;
                }
        for (size_t i = 0; i < n_lost; i++)
                inventory_find_node_again(inventory, lost[i]);
}

static bool is_on_lost_node(const Inventory *inventory, size_t tenant) {
        size_t node = inventory->tenants.items[tenant].node;
        return node != NOWHERE && (inventory->nodes.items[node].troubles & NODE_IMAGINED_LOST);
}

/* Looks for a place for one, who has none. A PlacementVerdict, -ENOMEM, or -E2BIG when that is too much. */
static int place(Survival *survival, const Resident *claimant, bool was_lost) {
        Inventory *inventory = survival->inventory;
        Choice choice;
        if (survival->work_left < survival->pool->n_rooms)
                return -E2BIG;
        survival->work_left -= survival->pool->n_rooms;
        if (was_lost && claimant->vm->restart == RESTART_NEVER)
                return PLACEMENT_NO_ROOM;
        int verdict = placement_choose(inventory, claimant->tenant, was_lost || vm_lost_its_place(claimant->vm),
                                       &choice);
        if (verdict == PLACEMENT_FOUND)
                inventory_take(inventory, claimant->tenant, choice.gpus, choice.n_gpus);
        return verdict;
}

/* Loses the nodes and starts their VMs again where there is room, as the conductor would: by urgency, whatever pool
 * they are of. 1: all of this pool; 0: not all; or -ENOMEM. */
static int try_loss(Survival *survival, const size_t *lost, size_t n_lost) {
        Inventory *inventory = survival->inventory;
        size_t n_placed = 0, n_residents = 0;
        int r = 1;
        for (size_t i = 0; i < n_lost; i++) {
                n_residents += survival->n_residents_on[lost[i]];
                inventory_lose_node(inventory, lost[i]);
        }
        for (size_t i = 0; r >= 0 && n_residents > 0 && i < survival->claimants.n; i++) {
                if (!is_on_lost_node(inventory, survival->claimants.items[i].tenant))
                        continue;
                survival->belongings[i] = inventory_set_aside(inventory, survival->claimants.items[i].tenant);
                r = survival->belongings[i] ? r : -ENOMEM;
        }

        for (size_t i = 0; r >= 0 && n_residents > 0 && i < survival->claimants.n; i++) {
                const Resident *claimant = survival->claimants.items + i;
                if (inventory->tenants.items[claimant->tenant].node != NOWHERE)
                        continue;
                int verdict = place(survival, claimant, survival->belongings[i] != NULL);
                if (verdict < 0)
                        r = verdict;
                else if (verdict == PLACEMENT_FOUND)
                        survival->placed[n_placed++] = claimant->tenant;
                else if (survival->belongings[i] && text_equal(claimant->vm->pool, survival->pool->pool->name)) {
                        survival->at_risk[claimant->tenant] = true;
                        r = 0;
                }
        }
        undo(survival, lost, n_lost, n_placed);
        return r;
}

/* The next set of @k of @n in order, as indexes. False: that was the last. */
static bool next_set(size_t *set, size_t k, size_t n) {
        size_t i = k;
        while (i > 0 && set[i - 1] == n - k + i - 1)
                i--;
        if (i == 0)
                return false;
        set[i - 1]++;
        for (; i < k; i++)
                set[i] = set[i - 1] + 1;
        return true;
}

static int try_set(Survival *survival, const size_t *set, size_t k) {
        size_t lost[VOTERS_MAX];
        for (size_t i = 0; i < k; i++)
                lost[i] = survival->stakes.items[set[i]].node;
        return try_loss(survival, lost, k);
}

/* Every set of @k nodes. 1: the pool survives each; 0: not; or -ENOMEM. */
static int try_every_set(Survival *survival, size_t k) {
        size_t set[VOTERS_MAX];
        int survives = 1;
        for (size_t i = 0; i < k; i++)
                set[i] = i;
        do {
                int r = try_set(survival, set, k);
                if (r < 0)
                        return r;
                survives &= r;
        } while (next_set(set, k, survival->stakes.n));
        return survives;
}

/* Each node together with the @k - 1 others whose loss costs most. It finds who is at risk, and proves nothing. */
static int try_worst_sets(Survival *survival, size_t k) {
        for (size_t i = 0; i < survival->stakes.n && i < TRIALS_MAX; i++) {
                size_t set[VOTERS_MAX] = { i };
                for (size_t j = 1, other = 0; j < k; other++)
                        if (other != i)
                                set[j++] = other;
                int r = try_set(survival, set, k);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool gpus_are_independent(const Survival *survival) {
        const Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < survival->pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + survival->pool->first_room + i;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++)
                        if (inventory->gpus.items[j].next_in_set != j || inventory->gpus.items[j].next_in_group != j)
                                return false;
        }
        return true;
}

/* A proof without trials, for pools with much room. Cut what is free into pieces of the largest need: whatever VM is
 * placed wherever, it uses up one piece at most. A node's loss costs its own pieces and one for each VM on it. So all
 * is well if the @k worst nodes cost no more than there are pieces. False: it does not tell. */
static bool is_proven(const Survival *survival, size_t k) {
        const Inventory *inventory = survival->inventory;
        const InventoryPool *pool = survival->pool;
        uint64_t worst[VOTERS_MAX] = {}, pieces = 0, costs = 0;
        uint32_t need = 1;
        if (survival->entangled || survival->somebody_waits || !gpus_are_independent(survival) ||
            (pool->pool->max_in_use > 0 && pool->in_use > pool->pool->max_in_use))
                return false;
        ARRAY_EACH(resident, &survival->residents) {
                need = resident->vm->count > need ? resident->vm->count : need;
                if (resident->vm->restart == RESTART_NEVER)
                        return false;
        }

        for (size_t i = 0; i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                uint64_t here = inventory_node_takes_vms(inventory, room->node) ? room->free / need : 0;
                uint64_t cost = here + survival->n_residents_on[room->node];
                pieces += here;
                for (size_t j = 0; j < k; j++)
                        if (cost > worst[j]) {
                                uint64_t less = worst[j];
                                worst[j] = cost;
                                cost = less;
                        }
        }
        for (size_t j = 0; j < k; j++)
                costs += worst[j];
        return costs <= pieces;
}

static uint64_t count_sets(size_t n, size_t k) {
        uint64_t sets = 1;
        for (size_t i = 0; i < k; i++)
                sets = sets * (n - i) / (i + 1);
        return sets;
}

/* Can the pool lose any @k nodes? What can neither be proven nor tried in reasonable time counts as no: the number is a
 * promise. 1, 0 or -ENOMEM. */
static int try_any(Survival *survival, size_t k) {
        if (is_proven(survival, k))
                return 1;
        if (k > survival->stakes.n)
                k = survival->stakes.n;
        if (k <= 1 || count_sets(survival->stakes.n, k) <= TRIALS_MAX)
                return try_every_set(survival, k);
        return try_worst_sets(survival, k);
}

static int prepare(Survival *survival) {
        survival->entangled = pool_is_entangled(survival->inventory, survival->pool);
        int r = list_claimants(survival);
        if (r >= 0)
                r = list_stakes(survival);
        if (r < 0)
                return r;
        survival->n_residents_on = calloc(survival->inventory->nodes.n + 1, sizeof(*survival->n_residents_on));
        survival->belongings = calloc(survival->claimants.n + 1, sizeof(Belongings *));
        survival->placed = calloc(survival->claimants.n + 1, sizeof(*survival->placed));
        survival->at_risk = calloc(survival->inventory->tenants.n + 1, sizeof(*survival->at_risk));
        if (!survival->n_residents_on || !survival->belongings || !survival->placed || !survival->at_risk)
                return -ENOMEM;
        ARRAY_EACH(resident, &survival->residents)
                survival->n_residents_on[survival->inventory->tenants.items[resident->tenant].node]++;
        return 0;
}

static int list_at_risk(const Survival *survival, PoolCounts *ret) {
        ret->at_risk = calloc(survival->residents.n + 1, sizeof(*ret->at_risk));
        if (!ret->at_risk)
                return -ENOMEM;
        for (size_t i = 0; i < survival->inventory->tenants.n; i++)
                if (survival->at_risk[i])
                        ret->at_risk[ret->n_at_risk++] = survival->inventory->tenants.items[i].vm->id;
        return 0;
}

static int count_survivable(Survival *survival, PoolCounts *ret) {
        uint32_t dispensable = count_dispensable(survival->inventory);
        int r = list_residents(survival);
        ret->majority_spares = ret->survives = dispensable;
        if (r < 0 || survival->residents.n == 0)
                return r;
        r = prepare(survival);
        if (r < 0)
                return r;

        ret->survives = 0;
        while (ret->survives < dispensable) {
                r = try_any(survival, ret->survives + 1);
                if (r < 0)
                        return r;
                if (r == 0)
                        return list_at_risk(survival, ret);
                ret->survives++;
        }
        /* One more, and no majority is left: then nothing runs. */
        ARRAY_EACH(resident, &survival->residents)
                survival->at_risk[resident->tenant] = true;
        return list_at_risk(survival, ret);
}

int pool_count_within(Inventory *inventory, const Pool *pool, uint64_t *work, PoolCounts *ret, bool *ret_survives) {
        size_t index = inventory_find_pool(inventory, pool->name);
        PoolCounts counts = { .total = (uint32_t) pool->gpus.n };
        *ret_survives = true;
        if (index == NOWHERE) {
                *ret = counts;
                return 0;
        }

        Survival survival = { .inventory = inventory, .pool = inventory->pools.items + index, .work_left = *work };
        counts.usable = survival.pool->usable;
        counts.free = survival.pool->free;
        counts.in_use = survival.pool->in_use;
        for (size_t i = 0; i < survival.pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + survival.pool->first_room + i;
                if (inventory_node_takes_vms(inventory, room->node) && room->free > counts.largest_free)
                        counts.largest_free = room->free;
        }

        int r = count_survivable(&survival, &counts);
        *work = survival.work_left;
        survival_clear(&survival);
        if (r == -E2BIG) {
                *ret_survives = false;
                r = 0;
        }
        if (r >= 0)
                r = compare_gpus(inventory, inventory->pools.items + index, &counts.mixed);
        if (r < 0)
                pool_counts_clear(&counts);
        else
                *ret = counts;
        return r;
}

int pool_count_in(Inventory *inventory, const Pool *pool, PoolCounts *ret) {
        uint64_t work = UINT64_MAX;
        bool survives;
        return pool_count_within(inventory, pool, &work, ret, &survives);
}

int pool_count(const World *world, const Pool *pool, PoolCounts *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        return pool_count_in(inventory, pool, ret);
}
