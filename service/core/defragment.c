/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/defragment.h"

#include <errno.h>

#include "core/seating.h"
#include "core/survival.h"

/* Iterative deepening: all ways of one move, then of two, ... What keeps that short:
 *
 * - A room needs at least so many of its VMs gone before the one that waits fits in; where that is more than the moves
 *   that are left, the way ends.
 * - A move either leaves such a room, or, where moves are left over, makes room for one that leaves such a room.
 * - Rooms that have as much free and VMs of the same sizes, and on nodes that both take VMs or both do not, are one as
 *   good as the other: one of them is tried.
 * - Different ways lead to the same: what led nowhere before is not gone again. */

#define NEVER UINT32_MAX

/* What one room is good for, in the present state of the search. */
typedef struct Outlook {
        uint32_t need;                  /* VMs that must leave before it fits in, at least */
        uint64_t likeness;              /* the same: one as good as the other */
} Outlook;

typedef struct Step {
        size_t tenant, from, to;        /* from, to: nodes */
} Step;

/* A state that led nowhere with so many moves left. Only the last of those that share a place is remembered. */
typedef struct DeadEnd {
        uint64_t state;
        unsigned moves_left;            /* 0: none */
} DeadEnd;

#define DEAD_ENDS (1U << 15)

typedef struct Search {
        Inventory *inventory;
        size_t tenant;                  /* for whom */
        const InventoryPool *pool;
        bool entangled;
        size_t *waiting;                /* who has no place, itself among them, the most urgent first */
        size_t n_waiting;
        Outlook *outlooks;              /* one per room, of all pools */
        bool exact;                     /* it matters which VM is where, and not only of what size */
        DeadEnd *dead_ends;             /* DEAD_ENDS of them, by state */
        Step steps[DEFRAGMENT_MOVES_MAX];
        size_t n_steps;
        uint64_t work_left;
} Search;

static void search_clear(Search *search) {
        free(search->waiting);
        free(search->outlooks);
        free(search->dead_ends);
}

/* 0, or -E2BIG when it was too much. */
static int spend(Search *search, uint64_t work) {
        if (work > search->work_left)
                return -E2BIG;
        search->work_left -= work;
        return 0;
}

static const Vm *vm_of(const Search *search, size_t tenant) {
        return search->inventory->tenants.items[tenant].vm;
}

/* A PlacementVerdict, -ENOMEM or -E2BIG. */
static int choose(Search *search, size_t tenant, Choice *ret) {
        Inventory *inventory = search->inventory;
        const Vm *vm = vm_of(search, tenant);
        size_t pool = inventory_find_pool(inventory, vm->pool);
        int r = spend(search, 1 + (pool == NOWHERE ? 0 : inventory->pools.items[pool].n_rooms) +
                              (inventory->has_affinity ? inventory->tenants.n : 0));
        return r < 0 ? r : placement_choose(inventory, tenant, vm_lost_its_place(vm), ret);
}

static bool can_be_moved(const Search *search, size_t tenant) {
        const Tenant *item = search->inventory->tenants.items + tenant;
        return item->vm->run && item->node != NOWHERE && item->n_held > 0 &&
               item->vm->assignment.phase == ASSIGNMENT_RUNNING &&
               item->vm->priority <= vm_of(search, search->tenant)->priority;
}

/* ---- how a room looks */

/* A VM in a room, and how many GPUs of that would be free without it, at most. */
typedef struct Occupant {
        size_t tenant;
        uint32_t gain;
        bool movable;
} Occupant;

static size_t list_occupants(const Search *search, const Room *room, Occupant ret[static GPUS_PER_NODE_MAX]) {
        const Inventory *inventory = search->inventory;
        size_t n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                if (!inventory_gpu_is_usable(inventory, i) || inventory_gpu_is_free(inventory, i))
                        continue;
                size_t holder = inventory_gpu_holder(inventory, i), at = 0;
                if (holder == NOBODY)
                        continue;
                while (at < n && ret[at].tenant != holder)
                        at++;
                if (at == GPUS_PER_NODE_MAX)
                        continue;
                if (at == n)
                        ret[n++] = (Occupant) { .tenant = holder, .movable = can_be_moved(search, holder) };
                ret[at].gain++;
        }
        return n;
}

static int compare_occupants(const void *a, const void *b) {
        const Occupant *x = a, *y = b;
        if (x->movable != y->movable)
                return x->movable ? -1 : 1;
        return x->gain > y->gain ? -1 : x->gain < y->gain;
}

/* Every bit of both counts for every bit of the sum (the finalizer of SplitMix64). */
static uint64_t mix(uint64_t hash, uint64_t value) {
        uint64_t z = hash * UINT64_C(0x9e3779b97f4a7c15) + value + 1;
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

/* What else may decide who can run there: which GPUs, how much memory, and which files it lacks. */
static uint64_t describe_hardware(const Inventory *inventory, const Room *room) {
        const NodeFacts *facts = inventory->nodes.items[room->node].facts;
        uint64_t hash = facts ? facts->memory_total : 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++) {
                const GpuIdentity *gpu = &inventory->gpus.items[i].view->identity;
                hash += mix(gpu->vendor, gpu->device);
        }
        const Capacity *taken = inventory->taken + room->node;
        for (size_t i = 0; facts && facts->memory_total > 0 && i < taken->n_kinds; i++)
                hash += mix(taken->kinds[i].size_bytes, taken->kinds[i].memory_mib);
        for (size_t i = 0; facts && i < facts->missing_paths.n; i++)
                hash += mix(1, facts->missing_paths.hashes[i]);
        return hash;
}

static Outlook look_at(const Search *search, size_t index) {
        const Inventory *inventory = search->inventory;
        const Room *room = inventory->rooms.items + index;
        uint32_t count = vm_of(search, search->tenant)->count, free = room->free;
        Occupant occupants[GPUS_PER_NODE_MAX];
        size_t n = list_occupants(search, room, occupants);
        Outlook outlook = { .need = NEVER };
        qsort(occupants, n, sizeof(*occupants), compare_occupants);

        outlook.likeness = mix(mix(0, room->free), room->usable);
        outlook.likeness = mix(outlook.likeness, inventory_node_takes_vms(inventory, room->node));
        for (size_t i = 0; i < n; i++)
                outlook.likeness = mix(outlook.likeness, occupants[i].gain * 2U + occupants[i].movable);
        outlook.likeness = mix(outlook.likeness, describe_hardware(inventory, room));
        if (search->entangled || room->has_sets)
                outlook.likeness = mix(outlook.likeness, UINT64_MAX - index);
        if (inventory->pools.items + room->pool != search->pool || !inventory_node_takes_vms(inventory, room->node) ||
            !choice_is_possible(inventory, room, inventory->tenants.items[search->tenant].models, count))
                return outlook;
        for (uint32_t i = 0; i <= n; i++) {
                if (free >= count) {
                        outlook.need = i;
                        break;
                }
                if (i == n || !occupants[i].movable)
                        break;
                free += occupants[i].gain;
        }
        return outlook;
}

static void look_everywhere(Search *search) {
        for (size_t i = 0; i < search->inventory->rooms.n; i++)
                search->outlooks[i] = look_at(search, i);
}

/* ---- who could move, and where to */

typedef struct Candidate {
        size_t tenant, room;
        bool leaves_goal;               /* else it makes room for one that does */
        uint32_t need, gain;
} Candidate;

typedef struct Candidates {
        Candidate *items;
        size_t n;
        size_t allocated;
} Candidates;

/* The likenesses that were tried. */
typedef struct Seen {
        uint64_t *items;
        size_t n;
        size_t allocated;
} Seen;

/* 1: it was not there, and is now. */
static int see(Seen *seen, uint64_t likeness) {
        ARRAY_EACH(item, seen)
                if (*item == likeness)
                        return 0;
        int r = array_append(seen, &likeness);
        return r < 0 ? r : 1;
}

static uint32_t find_least_need(const Search *search) {
        uint32_t least = NEVER;
        for (size_t i = 0; i < search->pool->n_rooms; i++) {
                uint32_t need = search->outlooks[search->pool->first_room + i].need;
                least = need < least ? need : least;
        }
        return least;
}

/* The most that one who could be helped to a place needs: with one move to spare, one of a room that is left; else
 * anybody. Bit i: i + 1 GPUs. */
static uint64_t list_sizes(const Search *search, unsigned moves_left, unsigned spare) {
        const Inventory *inventory = search->inventory;
        uint64_t sizes = 0;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (!can_be_moved(search, i) || tenant->vm->count == 0 || tenant->vm->count > GPUS_PER_VM_MAX)
                        continue;
                size_t room = inventory->gpus.items[inventory->held.items[tenant->first_held]].room;
                if (spare > 1 || search->outlooks[room].need < moves_left)
                        sizes |= UINT64_C(1) << (tenant->vm->count - 1);
        }
        return sizes;
}

/* Could somebody of these sizes come into the room only when @gain more are free there? With several moves to spare it
 * is enough that somebody cannot now. */
static bool helps(uint64_t sizes, uint32_t free, uint32_t gain, unsigned spare) {
        for (uint32_t size = 1; size <= GPUS_PER_VM_MAX; size++)
                if ((sizes >> (size - 1) & 1) && size > free && (spare > 1 || size <= free + gain))
                        return true;
        return false;
}

static int compare_candidates(const void *a, const void *b) {
        const Candidate *x = a, *y = b;
        if (x->leaves_goal != y->leaves_goal)
                return x->leaves_goal ? -1 : 1;
        if (x->need != y->need)
                return x->need < y->need ? -1 : 1;
        if (x->room != y->room)
                return x->room < y->room ? -1 : 1;
        if (x->gain != y->gain)
                return x->gain > y->gain ? -1 : 1;
        return x->tenant < y->tenant ? -1 : x->tenant > y->tenant;
}

/* Of those in a room that are alike the least urgent is moved. */
static bool has_better_like(const Search *search, const Occupant *occupants, size_t n, size_t index) {
        const Vm *vm = vm_of(search, occupants[index].tenant);
        for (size_t i = 0; i < n && !search->entangled; i++) {
                const Vm *other = vm_of(search, occupants[i].tenant);
                if (occupants[i].movable && occupants[i].gain == occupants[index].gain && other->count == vm->count &&
                    text_equal(other->model, vm->model) && search->n_waiting == 1 &&
                    placement_compare_urgency(vm, other) < 0)
                        return true;
        }
        return false;
}

static int add_candidates_of(const Search *search, size_t index, unsigned moves_left, unsigned spare, uint64_t sizes,
                             Candidates *ret) {
        const Inventory *inventory = search->inventory;
        const Room *room = inventory->rooms.items + index;
        const Outlook *outlook = search->outlooks + index;
        Occupant occupants[GPUS_PER_NODE_MAX];
        bool is_goal = outlook->need <= moves_left, all = search->entangled || room->has_sets;
        if (!is_goal && spare == 0 && !all)
                return 0;
        size_t n = list_occupants(search, room, occupants);
        for (size_t i = 0; i < n; i++) {
                if (!occupants[i].movable || (!room->has_sets && has_better_like(search, occupants, n, i)))
                        continue;
                if (!is_goal && !all && !helps(sizes, room->free, occupants[i].gain, spare))
                        continue;
                Candidate candidate = { .tenant = occupants[i].tenant, .room = index, .leaves_goal = is_goal,
                                        .need = outlook->need, .gain = occupants[i].gain };
                int r = array_append(ret, &candidate);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int list_candidates(Search *search, unsigned moves_left, Candidates *ret) {
        const Inventory *inventory = search->inventory;
        size_t first = search->entangled ? 0 : search->pool->first_room;
        size_t n = search->entangled ? inventory->rooms.n : search->pool->n_rooms;
        unsigned spare = moves_left - find_least_need(search);
        uint64_t sizes = spare > 0 ? list_sizes(search, moves_left, spare) : 0;
        Seen seen = {};
        int r = spend(search, n);
        for (size_t i = first; r >= 0 && i < first + n; i++) {
                r = see(&seen, search->outlooks[i].likeness);
                if (r > 0)
                        r = add_candidates_of(search, i, moves_left, spare, sizes, ret);
        }
        array_clear(&seen);
        if (r >= 0 && ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_candidates);
        return r < 0 ? r : 0;
}

typedef struct Destination {
        size_t room;
        uint32_t free;
} Destination;

typedef struct Destinations {
        Destination *items;
        size_t n;
        size_t allocated;
} Destinations;

/* The closest fit first: what is left over there is the least use to others. */
static int compare_destinations(const void *a, const void *b) {
        const Destination *x = a, *y = b;
        if (x->free != y->free)
                return x->free < y->free ? -1 : 1;
        return x->room < y->room ? -1 : x->room > y->room;
}

static int list_destinations(Search *search, const Candidate *candidate, Destinations *ret) {
        const Inventory *inventory = search->inventory;
        const InventoryPool *pool = inventory->pools.items + inventory->rooms.items[candidate->room].pool;
        uint32_t count = vm_of(search, candidate->tenant)->count;
        size_t here = inventory->tenants.items[candidate->tenant].node;
        Seen seen = {};
        int r = spend(search, pool->n_rooms);
        for (size_t i = pool->first_room; r >= 0 && i < pool->first_room + pool->n_rooms; i++) {
                const Room *room = inventory->rooms.items + i;
                if (room->node == here || !inventory_node_takes_vms(inventory, room->node) ||
                    !choice_exists(inventory, room, inventory->tenants.items[candidate->tenant].models, count))
                        continue;
                r = see(&seen, search->outlooks[i].likeness);
                if (r > 0)
                        r = array_append(ret, &((Destination) { .room = i, .free = room->free }));
        }
        array_clear(&seen);
        if (r >= 0 && ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_destinations);
        return r < 0 ? r : 0;
}

/* ---- one move */

/* What is to be taken back. */
typedef struct Trial {
        Belongings *belongings;         /* of who moved */
        size_t *placed;                 /* who waited and got a place meanwhile */
        size_t n_placed;
} Trial;

static void take_back(Search *search, Trial *trial) {
        for (size_t i = 0; i < trial->n_placed; i++)
                inventory_vacate(search->inventory, trial->placed[i]);
        if (trial->belongings)
                inventory_give_back(search->inventory, trial->belongings);
        free(trial->belongings);
        free(trial->placed);
        *trial = (Trial) {};
}

static size_t node_of_choice(const Inventory *inventory, const Choice *choice) {
        return inventory->rooms.items[inventory->gpus.items[choice->gpus[0]].room].node;
}

/* The conductor's turn after a move. */
typedef struct Turn {
        Seating seating;                /* first, so that it leads back here */
        size_t mover;
        Trial *trial;
} Turn;

static int come(Seating *seating, size_t tenant) {
        Turn *turn = (Turn *) seating;
        if (tenant != turn->mover)
                turn->trial->placed[turn->trial->n_placed++] = tenant;
        return 0;
}

/* A move that has others stopped is none that helps. */
static int refuse(Seating *seating, size_t tenant, size_t whom) {
        return -ECANCELED;
}

/* Who waits gets a place if there is one now; so does who moves, whose VM says where to. */
static int place_waiting(Search *search, size_t mover, Trial *trial) {
        Inventory *inventory = search->inventory;
        _cleanup_free_ size_t *waiting = calloc(inventory->tenants.n + 1, sizeof(*waiting));
        if (!waiting)
                return -ENOMEM;
        Turn turn = {
                .seating = { .inventory = inventory, .waiting = waiting, .work_left = search->work_left,
                             .comes = come, .goes = refuse },
                .mover = mover,
                .trial = trial,
        };
        for (size_t i = 0; i < search->n_waiting; i++)
                if (inventory->tenants.items[search->waiting[i]].node == NOWHERE)
                        waiting[turn.seating.n_waiting++] = search->waiting[i];
        waiting[turn.seating.n_waiting++] = mover;
        int r = seating_run(&turn.seating);
        search->work_left = turn.seating.work_left;
        return r;
}

/* 1: it moved there, and *trial says what to take back; 0: it would not come to that, and nothing has changed. */
static int try_move(Search *search, size_t mover, size_t room, Trial *trial) {
        Inventory *inventory = search->inventory;
        Tenant *tenant = inventory->tenants.items + mover;
        size_t node = inventory->rooms.items[room].node;
        const Vm *vm = tenant->vm;
        Vm moved = *vm;                 /* borrowed, as a whole */
        Choice choice;
        trial->belongings = inventory_set_aside(inventory, mover);
        trial->placed = calloc(search->n_waiting + 1, sizeof(*trial->placed));
        if (!trial->belongings || !trial->placed)
                return -ENOMEM;

        moved.target = inventory->nodes.items[node].record->id;
        moved.assignment.phase = ASSIGNMENT_NONE;
        moved.reason_code = NULL;       /* borrowed; it did not lose its place */
        tenant->vm = &moved;
        int r = choose(search, mover, &choice);
        bool can = r == PLACEMENT_FOUND && node_of_choice(inventory, &choice) == node;
        if (can)
                r = place_waiting(search, mover, trial);
        tenant->vm = vm;
        if (r >= 0 && can && tenant->node == node)
                return 1;
        take_back(search, trial);
        return r < 0 && r != -ECANCELED ? r : 0;
}

static int search_from(Search *search, unsigned moves_left);

static void look_again(Search *search, size_t a, size_t b, bool everywhere) {
        if (everywhere)
                look_everywhere(search);
        else {
                search->outlooks[a] = look_at(search, a);
                search->outlooks[b] = look_at(search, b);
        }
}

/* 1: that was the first of the moves that make room; 0: it was not; or an error. */
static int follow(Search *search, const Candidate *candidate, size_t to, unsigned moves_left) {
        Inventory *inventory = search->inventory;
        Trial trial = {};
        size_t from = inventory->tenants.items[candidate->tenant].node;
        int r = try_move(search, candidate->tenant, to, &trial);
        if (r <= 0) {
                take_back(search, &trial);
                return r;
        }

        search->steps[search->n_steps++] = (Step) { .tenant = candidate->tenant, .from = from,
                                                    .to = inventory->rooms.items[to].node };
        bool everywhere = search->entangled || trial.n_placed > 0;
        r = inventory->tenants.items[search->tenant].node != NOWHERE;
        if (r == 0 && moves_left > 1) {
                look_again(search, candidate->room, to, everywhere);
                r = search_from(search, moves_left - 1);
        }
        take_back(search, &trial);
        look_again(search, candidate->room, to, everywhere);
        if (r <= 0)
                search->n_steps--;
        return r;
}

/* Equal where everything that counts is. */
static uint64_t sum_up(const Search *search) {
        const Inventory *inventory = search->inventory;
        uint64_t sum = 0;
        if (!search->exact)
                for (size_t i = 0; i < search->pool->n_rooms; i++)
                        sum += search->outlooks[search->pool->first_room + i].likeness;
        for (size_t i = 0; search->exact && i < inventory->tenants.n; i++)
                for (size_t j = 0; j < inventory->tenants.items[i].n_held; j++) {
                        size_t gpu = inventory->held.items[inventory->tenants.items[i].first_held + j];
                        sum += mix(i, gpu);
                }
        return sum;
}

static bool leads_nowhere(const Search *search, uint64_t state, unsigned moves_left) {
        const DeadEnd *dead_end = search->dead_ends + state % DEAD_ENDS;
        return dead_end->state == state && dead_end->moves_left >= moves_left;
}

static int search_from(Search *search, unsigned moves_left) {
        uint64_t state = sum_up(search);
        Candidates candidates = {};
        Destinations destinations = {};
        int r = 0;
        if (find_least_need(search) > moves_left || leads_nowhere(search, state, moves_left))
                return 0;
        r = list_candidates(search, moves_left, &candidates);
        for (size_t i = 0; r == 0 && i < candidates.n; i++) {
                destinations.n = 0;
                r = list_destinations(search, candidates.items + i, &destinations);
                for (size_t j = 0; r == 0 && j < destinations.n; j++)
                        r = follow(search, candidates.items + i, destinations.items[j].room, moves_left);
        }
        array_clear(&candidates);
        array_clear(&destinations);
        if (r == 0)
                search->dead_ends[state % DEAD_ENDS] = (DeadEnd) { .state = state, .moves_left = moves_left };
        return r;
}

/* ---- all of it */

static int prepare(Search *search) {
        const Inventory *inventory = search->inventory;
        _cleanup_free_ const Tenant **sorted = calloc(inventory->tenants.n + 1, sizeof(*sorted));
        search->waiting = calloc(inventory->tenants.n + 1, sizeof(*search->waiting));
        search->outlooks = calloc(inventory->rooms.n + 1, sizeof(*search->outlooks));
        search->dead_ends = calloc(DEAD_ENDS, sizeof(*search->dead_ends));
        if (!sorted || !search->waiting || !search->outlooks || !search->dead_ends)
                return -ENOMEM;
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                if (tenant->node == NOWHERE && (i == search->tenant || (vm_is_to_run(tenant->vm) &&
                    (search->entangled || text_equal(tenant->vm->pool, search->pool->pool->name)))))
                        sorted[search->n_waiting++] = tenant;
        }
        qsort(sorted, search->n_waiting, sizeof(*sorted), placement_compare_tenants);
        for (size_t i = 0; i < search->n_waiting; i++)
                search->waiting[i] = (size_t) (sorted[i] - inventory->tenants.items);
        search->exact = search->entangled || search->n_waiting > 1;
        for (size_t i = 0; i < search->pool->n_rooms; i++)
                search->exact = search->exact || inventory->rooms.items[search->pool->first_room + i].has_sets;
        look_everywhere(search);
        return 0;
}

/* Moves make no more GPUs than there are, and no more licences. */
static bool can_help(const Search *search) {
        const Inventory *inventory = search->inventory;
        const Vm *vm = vm_of(search, search->tenant);
        const InventoryPool *pool = search->pool;
        uint32_t reserve = vm_lost_its_place(vm) ? 0 : pool->pool->reserve;
        if (pool->pool->max_in_use > 0 && pool->in_use + vm->count > pool->pool->max_in_use)
                return false;
        for (size_t i = 0; i < pool->n_rooms; i++)
                if (search->entangled || inventory->rooms.items[pool->first_room + i].has_sets)
                        return true;
        return pool->free >= vm->count && pool->free - vm->count >= reserve;
}

static int write_moves(const Search *search, Moves *ret) {
        const Inventory *inventory = search->inventory;
        Moves moves = {};
        for (size_t i = 0; i < search->n_steps; i++) {
                const Step *step = search->steps + i;
                Move move = { .vm = vm_of(search, step->tenant)->id,
                              .from = inventory->nodes.items[step->from].record->id,
                              .to = inventory->nodes.items[step->to].record->id };
                int r = array_append(&moves, &move);
                if (r < 0) {
                        moves_clear(&moves);
                        return r;
                }
        }
        *ret = moves;
        return DEFRAGMENT_FOUND;
}

int defragment_find(Inventory *inventory, size_t tenant, uint64_t work_max, Moves *ret) {
        size_t pool = inventory_find_pool(inventory, inventory->tenants.items[tenant].vm->pool);
        if (pool == NOWHERE)
                return DEFRAGMENT_NONE;
        _cleanup_(search_clear) Search search = {
                .inventory = inventory,
                .tenant = tenant,
                .pool = inventory->pools.items + pool,
                .work_left = work_max,
        };
        Choice choice;
        int r = pool_is_shared(inventory, search.pool);
        search.entangled = r > 0;
        if (r >= 0)
                r = choose(&search, tenant, &choice);
        if (r == PLACEMENT_FOUND)
                return write_moves(&search, ret);
        if (r >= 0 && !can_help(&search))
                return DEFRAGMENT_NONE;
        if (r >= 0)
                r = prepare(&search);
        for (unsigned moves = 1; r >= 0 && moves <= DEFRAGMENT_MOVES_MAX; moves++) {
                r = search_from(&search, moves);
                if (r > 0)
                        return write_moves(&search, ret);
        }
        if (r == -E2BIG)
                return DEFRAGMENT_GAVE_UP;
        return r < 0 ? r : DEFRAGMENT_NONE;
}
