/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/survival.h"

#include <errno.h>

#include "core/majority.h"
#include "core/seating.h"

/* So many sets of nodes are tried one by one at most; of more it is only asked what is proven. */
#define TRIALS_MAX 2000U
/* Of a trial, beside its passes. */
#define TRIAL_WORK 64U

/* A node, as the pool's question sees it. */
typedef struct Stake {
        size_t node;
        uint32_t free;                  /* what VMs find here */
        uint32_t sure;                  /* likewise, and whoever comes has memory, and all else that it needs */
        uint32_t residents;             /* VMs of the pool that run here */
        uint16_t of_need[GPUS_PER_VM_MAX + 1];  /* the same by their need */
        uint32_t smallest;              /* need of them */
        uint32_t apart;                 /* the most others that one of them must be apart from */
        bool odd;                       /* one of them needs more than GPUs and memory on whatever node */
} Stake;

/* What the loss of nodes costs, for each need that a VM may have: in pieces of that size. */
typedef struct Cost {
        uint64_t pieces[GPUS_PER_VM_MAX + 1];
        bool needed[GPUS_PER_VM_MAX + 1];       /* somebody there has that need */
        uint32_t apart;
} Cost;

/* A tenant for the time of a trial. */
typedef struct Stand {
        size_t tenant;
        const Vm *vm;                   /* of the registry */
        Vm copy;                        /* borrowed, as a whole */
        Belongings *belongings;         /* that it had before; NULL: nothing */
} Stand;

typedef struct Survival {
        Seating seating;                /* first, so that it leads back here */
        Inventory *inventory;
        size_t pool;
        bool everybody;                 /* VMs of other pools can be in the way of this one's, or bind them */
        bool provable;                  /* rooms can be counted in pieces */
        bool preempts;                  /* somebody may stop others */
        ARRAY(Stake) stakes;
        uint32_t needs[GPUS_PER_VM_MAX + 1];    /* that residents have */
        size_t n_needs;
        uint64_t pieces[GPUS_PER_VM_MAX + 1];   /* of that size that are there */
        uint32_t most_sure;             /* of all nodes */
        Cost worst[VOTERS_MAX + 1];     /* of the loss of so many nodes, whichever */
        size_t *tenants, *first_on;     /* who is on each node: tenants[first_on[node]...first_on[node + 1]] */
        size_t *waits;                  /* who waits before any loss */
        size_t n_waits;
        Stand *stands;                  /* one per tenant, for those of a trial filled from the first on */
        size_t n_stands;
        size_t *stand_of;               /* one per tenant; NOBODY: none */
        bool *at_risk;                  /* one per tenant */
} Survival;

static void survival_clear(Survival *survival) {
        array_clear(&survival->stakes);
        free(survival->seating.waiting);
        free(survival->tenants);
        free(survival->first_on);
        free(survival->waits);
        free(survival->stands);
        free(survival->stand_of);
        free(survival->at_risk);
}

static bool is_resident(const Survival *survival, size_t tenant) {
        const Tenant *item = survival->inventory->tenants.items + tenant;
        return item->pool == survival->pool && item->node != NOWHERE && item->vm->run;
}

static const InventoryPool *pool_of(const Survival *survival) {
        return survival->inventory->pools.items + survival->pool;
}

static uint32_t count_dispensable(const Inventory *inventory) {
        size_t n_lost = 0;
        ARRAY_EACH(node, &inventory->nodes)
                n_lost += node->record->lost;
        return majority_spares(inventory->nodes.n, n_lost);
}

/* ---- a proof without trials, for pools with much room
 *
 * Who needs n GPUs has a place if there is a piece of n left: what is free, cut into such pieces, room by room.
 * Another one that needs m uses up m / n of them at most, rounded up, wherever it goes; and the lost nodes' own are
 * gone. So all is well if the pieces are as many as all those who lost their places use up together, for each need of
 * theirs. Who must be apart from others is kept from as many nodes, so as many of the best are left out. Where memory
 * could be short on a node, its pieces count for nothing. */

/* It may ask more of a node than GPUs and memory. */
static bool is_odd(const Inventory *inventory, const Tenant *tenant) {
        const VmNeeds *needs = &tenant->vm->needs;
        for (size_t i = 0; i < tenant->n_bonds; i++)
                if (!inventory->bonds.items[tenant->first_bond + i].soft &&
                    !inventory->bonds.items[tenant->first_bond + i].apart)
                        return true;
        return tenant->vm->restart == RESTART_NEVER || tenant->vm->model || needs->hugepages || needs->numa_nodes ||
               needs->cpu_model || needs->cpu_vendor;
}

static uint32_t count_apart(const Inventory *inventory, const Tenant *tenant) {
        uint32_t n = 0;
        for (size_t i = 0; i < tenant->n_bonds; i++)
                n += !inventory->bonds.items[tenant->first_bond + i].soft;
        return n;
}

/* The most memory that a GPU of the pool may bring with it, by pool; UINT64_MAX: a VM has it as it likes. */
static uint64_t *list_memory_per_gpu(const Inventory *inventory) {
        uint64_t *most = calloc(inventory->pools.n + 1, sizeof(*most));
        ARRAY_EACH(tenant, &inventory->tenants) {
                if (!most || tenant->pool == NOWHERE || tenant->vm->count == 0)
                        continue;
                uint64_t memory = tenant->vm->needs.memory_bytes / tenant->vm->count + 1;
                if (memory > most[tenant->pool])
                        most[tenant->pool] = memory;
        }
        return most;
}

/* Whoever comes, there is memory, and no file is missing. */
static bool is_ample(const Inventory *inventory, size_t index, const uint64_t *memory_per_gpu) {
        const InventoryNode *node = inventory->nodes.items + index;
        uint64_t left = node->facts ? node->facts->memory_total : 0;
        if (!node->facts || node->facts->missing_paths.n > 0 || node->facts->hanging_paths.n > 0 ||
            node->facts->untold_paths > 0)
                return false;
        if (left == 0)                  /* what is not known is taken to be there, as by placement */
                return true;
        for (size_t i = node->first_room; i != NOWHERE; i = inventory->rooms.items[i].next_on_node) {
                const Room *room = inventory->rooms.items + i;
                uint64_t each = memory_per_gpu[room->pool];
                if (each > 0 && left / each < room->n_gpus)
                        return false;
                left -= each * room->n_gpus;
        }
        return true;
}

static bool gpus_are_independent(const Survival *survival) {
        const Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < pool_of(survival)->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool_of(survival)->first_room + i;
                for (size_t j = room->first_gpu; j < room->first_gpu + room->n_gpus; j++)
                        if (inventory->gpus.items[j].next_in_set != j || inventory->gpus.items[j].next_in_group != j)
                                return false;
        }
        return true;
}

static void add_cost(const Survival *survival, Cost *cost, const Stake *stake) {
        for (size_t i = 0; i < survival->n_needs; i++) {
                uint32_t need = survival->needs[i];
                cost->pieces[need] += stake->sure / need;
                cost->needed[need] = cost->needed[need] || stake->of_need[need] > 0;
                for (size_t j = 0; j < survival->n_needs; j++) {
                        uint32_t other = survival->needs[j];
                        cost->pieces[need] += (uint64_t) stake->of_need[other] * ((other + need - 1) / need);
                }
        }
        cost->apart = stake->apart > cost->apart ? stake->apart : cost->apart;
}

static bool can_be_borne(const Survival *survival, const Cost *cost) {
        if (!survival->provable)
                return false;
        for (size_t i = 0; i < survival->n_needs; i++) {
                uint32_t need = survival->needs[i];
                uint64_t left_out = (uint64_t) cost->apart * (survival->most_sure / need);
                if (cost->needed[need] && cost->pieces[need] + left_out > survival->pieces[need])
                        return false;
        }
        return true;
}

/* Need by need, of so many nodes: more than any of them cost together. */
static void find_worst(Survival *survival) {
        Cost *worst = survival->worst;
        ARRAY_EACH(stake, &survival->stakes) {
                Cost cost = {};
                add_cost(survival, &cost, stake);
                for (size_t i = 0; i < survival->n_needs; i++) {
                        uint32_t need = survival->needs[i];
                        uint64_t pieces = cost.pieces[need];
                        for (size_t k = 1; k <= VOTERS_MAX; k++) {      /* sorted in, the most first */
                                worst[k].needed[need] = worst[k].needed[need] || cost.needed[need];
                                if (pieces > worst[k].pieces[need]) {
                                        uint64_t less = worst[k].pieces[need];
                                        worst[k].pieces[need] = pieces;
                                        pieces = less;
                                }
                        }
                }
                for (size_t k = 0; k <= VOTERS_MAX; k++)
                        worst[k].apart = stake->apart > worst[k].apart ? stake->apart : worst[k].apart;
        }
        for (size_t k = 1; k <= VOTERS_MAX; k++)
                for (size_t i = 0; i < survival->n_needs; i++)
                        worst[k].pieces[survival->needs[i]] += worst[k - 1].pieces[survival->needs[i]];
}

/* ---- what would be, on paper */

static Stand *stand_for(Survival *survival, size_t tenant) {
        Tenant *item = survival->inventory->tenants.items + tenant;
        if (survival->stand_of[tenant] == NOBODY) {
                survival->stand_of[tenant] = survival->n_stands;
                Stand *stand = survival->stands + survival->n_stands++;
                *stand = (Stand) { .tenant = tenant, .vm = item->vm, .copy = *item->vm };
                item->vm = &stand->copy;
        }
        return survival->stands + survival->stand_of[tenant];
}

/* What it had first is what it gets back. */
static int take_away(Survival *survival, size_t tenant) {
        Stand *stand = stand_for(survival, tenant);
        if (stand->belongings || stand->vm->assignment.phase == ASSIGNMENT_NONE)
                inventory_vacate(survival->inventory, tenant);
        else
                stand->belongings = inventory_set_aside(survival->inventory, tenant);
        stand->copy.assignment.phase = ASSIGNMENT_NONE;
        return stand->belongings || stand->vm->assignment.phase == ASSIGNMENT_NONE ? 0 : -ENOMEM;
}

static int come(Seating *seating, size_t tenant) {
        Survival *survival = (Survival *) seating;
        const Inventory *inventory = survival->inventory;
        Vm *vm = &stand_for(survival, tenant)->copy;
        vm->assignment.phase = ASSIGNMENT_RUNNING;
        vm->assignment.node = inventory->nodes.items[inventory->tenants.items[tenant].node].record->id;
        vm->target = (NodeId) {};
        if (ID_EQUAL(&vm->home, &vm->assignment.node))
                vm->home = (NodeId) {};
        return 0;
}

static int give_way(Seating *seating, size_t tenant, size_t whom) {
        Survival *survival = (Survival *) seating;
        Vm *vm = &stand_for(survival, tenant)->copy;
        vm->reason_code = NULL;         /* it did not lose its place; borrowed */
        vm->target = (NodeId) {};
        return take_away(survival, tenant);
}

/* Its node is lost. */
static int lose(Survival *survival, size_t tenant) {
        static char lost[] = "node-lost";
        Vm *vm = &stand_for(survival, tenant)->copy;
        vm->run = vm->run && vm->restart != RESTART_NEVER;
        vm->reason_code = lost;
        int r = take_away(survival, tenant);
        if (r >= 0 && vm_is_to_run(vm))
                survival->seating.waiting[survival->seating.n_waiting++] = tenant;
        return r;
}

/* All is as before. */
static void undo(Survival *survival, const size_t *lost, size_t n_lost) {
        Inventory *inventory = survival->inventory;
        for (size_t i = 0; i < survival->n_stands; i++)
                inventory_vacate(inventory, survival->stands[i].tenant);
        for (size_t i = 0; i < survival->n_stands; i++) {
                Stand *stand = survival->stands + i;
                if (stand->belongings)
                        inventory_give_back(inventory, stand->belongings);
                free(stand->belongings);
                inventory->tenants.items[stand->tenant].vm = stand->vm;
                survival->stand_of[stand->tenant] = NOBODY;
        }
        survival->n_stands = 0;
        survival->seating.n_waiting = 0;
        for (size_t i = 0; i < n_lost; i++)
                inventory_find_node_again(inventory, lost[i]);
}

/* Those of the pool that have no place after all; 1: none. */
static int mark_at_risk(Survival *survival) {
        int survives = 1;
        for (size_t i = 0; i < survival->n_stands; i++) {
                const Stand *stand = survival->stands + i;
                const Tenant *tenant = survival->inventory->tenants.items + stand->tenant;
                if (!stand->belongings || !stand->vm->run || tenant->pool != survival->pool || tenant->node != NOWHERE)
                        continue;
                survival->at_risk[stand->tenant] = true;
                survives = 0;
        }
        return survives;
}

/* Loses the nodes and lets the conductor go on. 1: all of this pool run; 0: not all; -ENOMEM, or -E2BIG. */
static int try_loss(Survival *survival, const size_t *lost, size_t n_lost) {
        Seating *seating = &survival->seating;
        Inventory *inventory = survival->inventory;
        size_t n = survival->n_waits;
        for (size_t i = 0; i < n_lost; i++)
                n += survival->first_on[lost[i] + 1] - survival->first_on[lost[i]];
        /* Where not all fit, each may be moved for each. */
        uint64_t work = TRIAL_WORK + SEATING_WORK * n * n;
        int r = seating->work_left < work ? -E2BIG : 0;
        if (r < 0)
                return r;
        seating->work_left -= work;
        for (size_t i = 0; i < n_lost; i++)
                inventory_lose_node(inventory, lost[i]);
        for (size_t i = 0; i < n_lost; i++)
                for (size_t j = survival->first_on[lost[i]]; r >= 0 && j < survival->first_on[lost[i] + 1]; j++)
                        r = lose(survival, survival->tenants[j]);
        for (size_t i = 0; i < survival->n_waits; i++)
                seating->waiting[seating->n_waiting++] = survival->waits[i];
        if (r >= 0)
                r = seating_run(seating);
        if (r >= 0)
                r = mark_at_risk(survival);
        undo(survival, lost, n_lost);
        return r;
}

/* ---- sets of nodes */

static void mark_residents(Survival *survival, size_t node, bool odd_only) {
        for (size_t i = survival->first_on[node]; i < survival->first_on[node + 1]; i++) {
                size_t tenant = survival->tenants[i];
                if (is_resident(survival, tenant) &&
                    (!odd_only || is_odd(survival->inventory, survival->inventory->tenants.items + tenant)))
                        survival->at_risk[tenant] = true;
        }
}

/* Nowhere else is so much free as the least of them needs. */
static bool is_hopeless(const Survival *survival, const size_t *set, size_t k) {
        uint32_t smallest = UINT32_MAX, free = 0;
        for (size_t i = 0; i < k; i++) {
                const Stake *stake = survival->stakes.items + set[i];
                smallest = stake->residents > 0 && stake->smallest < smallest ? stake->smallest : smallest;
        }
        if (survival->preempts || smallest == UINT32_MAX)
                return false;
        for (size_t i = 0; i < survival->stakes.n && free < smallest; i++) {
                bool lost = false;
                for (size_t j = 0; j < k; j++)
                        lost = lost || set[j] == i;
                free = !lost && survival->stakes.items[i].free > free ? survival->stakes.items[i].free : free;
        }
        return free < smallest;
}

/* 1, 0, or an error. With -E2BIG whoever is not known to be safe is marked. */
static int try_set(Survival *survival, const size_t *set, size_t k) {
        size_t lost[VOTERS_MAX];
        Cost cost = {};
        bool odd = false;
        for (size_t i = 0; i < k; i++) {
                const Stake *stake = survival->stakes.items + set[i];
                lost[i] = stake->node;
                add_cost(survival, &cost, stake);
                odd = odd || stake->odd;
        }
        bool proven = can_be_borne(survival, &cost);
        if (proven && !odd)
                return 1;
        bool hopeless = !proven && is_hopeless(survival, set, k);
        int r = hopeless ? 0 : try_loss(survival, lost, k);
        if (hopeless || r == -E2BIG)
                for (size_t i = 0; i < k; i++)
                        mark_residents(survival, lost[i], proven);
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

/* Every set of @k nodes. 1: the pool survives each; 0: not; or -ENOMEM, or -E2BIG at the end. */
static int try_every_set(Survival *survival, size_t k) {
        size_t set[VOTERS_MAX];
        int survives = 1;
        bool too_much = false;
        for (size_t i = 0; i < k; i++)
                set[i] = i;
        do {
                int r = try_set(survival, set, k);
                if (r < 0 && r != -E2BIG)
                        return r;
                too_much = too_much || r == -E2BIG;
                survives &= r > 0;
        } while (next_set(set, k, survival->stakes.n));
        return too_much ? -E2BIG : survives;
}

/* Too many sets to try each: whoever is not safe by the proof is held for at risk. */
static void rule_out(Survival *survival, size_t k) {
        ARRAY_EACH(stake, &survival->stakes) {
                Cost cost = survival->worst[k - 1];
                add_cost(survival, &cost, stake);
                mark_residents(survival, stake->node, can_be_borne(survival, &cost));
        }
}

static uint64_t count_sets(size_t n, size_t k) {
        uint64_t sets = 1;
        for (size_t i = 0; i < k; i++)
                sets = sets * (n - i) / (i + 1);
        return sets;
}

/* Can the pool lose any @k nodes? 1, 0, -ENOMEM, or -E2BIG. */
static int try_any(Survival *survival, size_t k) {
        bool odd = false;
        ARRAY_EACH(stake, &survival->stakes)
                odd = odd || stake->odd;
        if (!odd && can_be_borne(survival, survival->worst + k))
                return 1;
        if (k > survival->stakes.n)
                k = survival->stakes.n;
        if (k <= 1 || count_sets(survival->stakes.n, k) <= TRIALS_MAX)
                return try_every_set(survival, k);
        rule_out(survival, k);
        return 0;
}

/* ---- what there is */

static int list_tenants(Survival *survival) {
        const Inventory *inventory = survival->inventory;
        size_t n = inventory->tenants.n;
        size_t *next = survival->first_on;      /* shifted by one while they are counted */
        for (size_t i = 0; i < n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                bool counts = survival->everybody || tenant->pool == survival->pool;
                survival->stand_of[i] = NOBODY;
                if (!counts)
                        continue;
                if (tenant->node != NOWHERE)
                        next[tenant->node + 1]++;
                else if (vm_is_to_run(tenant->vm))
                        survival->waits[survival->n_waits++] = i;
        }
        for (size_t i = 0; i < inventory->nodes.n; i++)
                next[i + 1] += next[i];
        _cleanup_free_ size_t *at = calloc(inventory->nodes.n + 1, sizeof(*at));
        if (!at)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (tenant->node != NOWHERE && (survival->everybody || tenant->pool == survival->pool))
                        survival->tenants[survival->first_on[tenant->node] + at[tenant->node]++] = i;
        }
        return 0;
}

/* Who waits for want of room will find none when there is less; who waits for another reason, or not for long, may. */
static bool may_come(const Survival *survival, const Vm *vm) {
        const Inventory *inventory = survival->inventory;
        const InventoryPool *pool = pool_of(survival);
        Models models = inventory_models_of(inventory, vm);
        if (vm->preempt)
                return true;
        for (size_t i = 0; pool->free >= vm->count && i < pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + pool->first_room + i;
                if (inventory_node_takes_vms(inventory, room->node) &&
                    choice_exists(inventory, room, models, vm->count))
                        return true;
        }
        return false;
}

static bool is_provable(const Survival *survival) {
        const InventoryPool *pool = pool_of(survival);
        if (!gpus_are_independent(survival) ||
            (pool->pool->max_in_use > 0 && pool->in_use > pool->pool->max_in_use))
                return false;
        for (size_t i = 0; i < survival->n_waits; i++) {
                const Tenant *tenant = survival->inventory->tenants.items + survival->waits[i];
                if (tenant->pool == survival->pool && (tenant->n_bonds > 0 || may_come(survival, tenant->vm)))
                        return false;
        }
        return true;
}

static Stake stake_of(const Survival *survival, size_t node, bool ample) {
        const Inventory *inventory = survival->inventory;
        size_t index = inventory_find_room(inventory, survival->pool, node);
        const Room *room = index == NOWHERE ? NULL : inventory->rooms.items + index;
        Stake stake = { .node = node, .smallest = UINT32_MAX };
        if (room && inventory_node_takes_vms(inventory, node)) {
                stake.free = room->free;
                stake.sure = ample ? room->free : 0;
        }
        for (size_t i = survival->first_on[node]; i < survival->first_on[node + 1]; i++) {
                const Tenant *tenant = inventory->tenants.items + survival->tenants[i];
                if (!is_resident(survival, survival->tenants[i]))
                        continue;
                uint32_t apart = count_apart(inventory, tenant);
                stake.residents++;
                stake.of_need[tenant->vm->count <= GPUS_PER_VM_MAX ? tenant->vm->count : 0]++;
                stake.smallest = tenant->vm->count < stake.smallest ? tenant->vm->count : stake.smallest;
                stake.apart = apart > stake.apart ? apart : stake.apart;
                stake.odd = stake.odd || is_odd(inventory, tenant);
        }
        return stake;
}

/* The nodes that have something of the pool, or VMs that would be in the way of its own if both lost their places. */
static int list_stakes(Survival *survival, const uint64_t *memory_per_gpu) {
        const Inventory *inventory = survival->inventory;
        for (uint32_t need = 1; need <= GPUS_PER_VM_MAX; need++)
                if (pool_of(survival)->residents[need].n > 0)
                        survival->needs[survival->n_needs++] = need;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                bool has_room = inventory_find_room(inventory, survival->pool, i) != NOWHERE;
                if (!has_room && survival->first_on[i] == survival->first_on[i + 1])
                        continue;
                Stake stake = stake_of(survival, i, has_room && is_ample(inventory, i, memory_per_gpu));
                int r = array_append(&survival->stakes, &stake);
                if (r < 0)
                        return r;
                for (size_t j = 0; j < survival->n_needs; j++)
                        survival->pieces[survival->needs[j]] += stake.sure / survival->needs[j];
                survival->most_sure = stake.sure > survival->most_sure ? stake.sure : survival->most_sure;
        }
        return 0;
}

/* VMs name each other, or a GPU of another pool cannot go to a VM beside one of this pool. */
static bool is_entangled(const Inventory *inventory, const InventoryPool *pool) {
        size_t index = (size_t) (pool - inventory->pools.items);
        ARRAY_EACH(tenant, &inventory->tenants)
                if (tenant->pool == index && tenant->n_bonds > 0)
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

/* Hugepages and what a NUMA node has are counted by nobody here. */
static bool has_special_needs(const Inventory *inventory, const InventoryPool *pool) {
        size_t index = (size_t) (pool - inventory->pools.items);
        ARRAY_EACH(tenant, &inventory->tenants) {
                const VmNeeds *needs = &tenant->vm->needs;
                if (tenant->pool == index && (needs->hugepages || needs->numa_nodes || needs->cpu_model ||
                                              needs->cpu_vendor))
                        return true;
        }
        return false;
}

int pool_is_shared(const Inventory *inventory, const InventoryPool *pool) {
        if (is_entangled(inventory, pool) || has_special_needs(inventory, pool))
                return 1;
        _cleanup_free_ uint64_t *memory_per_gpu = list_memory_per_gpu(inventory);
        if (!memory_per_gpu)
                return -ENOMEM;
        for (size_t i = 0; i < pool->n_rooms; i++) {
                size_t node = inventory->rooms.items[pool->first_room + i].node;
                if (inventory_node_takes_vms(inventory, node) && !is_ample(inventory, node, memory_per_gpu))
                        return 1;
        }
        return 0;
}

static int prepare(Survival *survival) {
        Inventory *inventory = survival->inventory;
        size_t n = inventory->tenants.n;
        _cleanup_free_ uint64_t *memory_per_gpu = list_memory_per_gpu(inventory);
        survival->seating.waiting = calloc(n + 1, sizeof(size_t));
        survival->tenants = calloc(n + 1, sizeof(size_t));
        survival->first_on = calloc(inventory->nodes.n + 2, sizeof(size_t));
        survival->waits = calloc(n + 1, sizeof(size_t));
        survival->stands = calloc(n + 1, sizeof(Stand));
        survival->stand_of = calloc(n + 1, sizeof(size_t));
        survival->at_risk = calloc(n + 1, sizeof(bool));
        if (!memory_per_gpu || !survival->seating.waiting || !survival->tenants || !survival->first_on ||
            !survival->waits || !survival->stands || !survival->stand_of || !survival->at_risk)
                return -ENOMEM;
        int r = pool_is_shared(inventory, pool_of(survival));
        survival->everybody = r > 0;
        if (r >= 0)
                r = list_tenants(survival);
        if (r >= 0)
                r = list_stakes(survival, memory_per_gpu);
        survival->provable = is_provable(survival);
        find_worst(survival);
        ARRAY_EACH(tenant, &inventory->tenants)
                survival->preempts = survival->preempts || tenant->vm->preempt;
        return r;
}

/* ---- the answer */

static int list_at_risk(const Survival *survival, PoolCounts *ret) {
        const Inventory *inventory = survival->inventory;
        ret->at_risk = calloc(inventory->tenants.n + 1, sizeof(*ret->at_risk));
        if (!ret->at_risk)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++)
                if (survival->at_risk[i])
                        ret->at_risk[ret->n_at_risk++] = inventory->tenants.items[i].vm->id;
        return 0;
}

/* Who waits may stop others without any loss. 1, 0, or an error. */
static int try_no_loss(Survival *survival) {
        if (!survival->preempts || survival->n_waits == 0)
                return 1;
        int r = try_loss(survival, NULL, 0);
        for (size_t i = 0; r == -E2BIG && i < survival->stakes.n; i++)
                mark_residents(survival, survival->stakes.items[i].node, false);
        return r;
}

static int count(Survival *survival, uint32_t dispensable, PoolCounts *ret) {
        int r = 1;
        bool complete = true;
        ret->survives = 0;
        /* Where nothing is started elsewhere, each VM ends with its node. */
        if (survival->inventory->world->registry->level < LEVEL_FAILOVER)
                dispensable = 0;
        while (r > 0 && ret->survives < dispensable) {
                int now = ret->survives == 0 ? try_no_loss(survival) : 1;
                r = now < 0 ? now : try_any(survival, ret->survives + 1);
                if (r < 0 && r != -E2BIG)
                        return r;
                r = r > 0 ? now : r;
                complete = r != -E2BIG;
                ret->survives += r > 0;
        }
        /* One more, and no majority is left: then nothing runs. */
        for (size_t i = 0; r > 0 && i < survival->inventory->tenants.n; i++)
                survival->at_risk[i] = is_resident(survival, i);
        r = list_at_risk(survival, ret);
        return r < 0 ? r : complete;
}

int survival_count(Inventory *inventory, size_t pool, uint64_t *work, PoolCounts *ret, bool *ret_complete) {
        Survival survival = {
                .seating = { .inventory = inventory, .work_left = *work, .comes = come, .goes = give_way },
                .inventory = inventory,
                .pool = pool,
        };
        bool anybody = false;
        ret->majority_spares = ret->survives = count_dispensable(inventory);
        *ret_complete = true;
        for (size_t i = 0; i < inventory->tenants.n && !anybody; i++)
                anybody = is_resident(&survival, i);
        if (!anybody)
                return 0;
        int r = prepare(&survival);
        if (r >= 0)
                r = count(&survival, ret->majority_spares, ret);
        *work = survival.seating.work_left;
        *ret_complete = r > 0;
        survival_clear(&survival);
        return r < 0 ? r : 0;
}
