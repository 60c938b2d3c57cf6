/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/choice.h"

#include "core/holes.h"

/* GPUs that go together or not at all; most stand alone. */
typedef struct Unit {
        size_t gpu;                     /* the first of the set, by address */
        uint32_t size;
        int32_t numa_node;
        const char *switch_address;     /* NULL: none */
} Unit;

/* Neighbourhoods, each inside the one before. */
typedef enum Level {
        LEVEL_NODE,
        LEVEL_NUMA,
        LEVEL_SWITCH,
        LEVEL_UNIT,
} Level;

/* Which numbers of GPUs some units can give exactly: bit i for i + 1; none at all can always be had. */
typedef uint64_t Sums;
_Static_assert(GPUS_PER_VM_MAX == 64, "Sums has a bit for each number of GPUs");

static Sums sums_with(Sums sums, uint32_t size) {
        if (size > GPUS_PER_VM_MAX)
                return sums;
        return sums | (size < GPUS_PER_VM_MAX ? sums << size : 0) | UINT64_C(1) << (size - 1);
}

static bool sums_have(Sums sums, uint32_t count) {
        return count == 0 || (count <= GPUS_PER_VM_MAX && (sums >> (count - 1) & 1));
}

static Sums sums_of(const Unit *units, size_t n) {
        Sums sums = 0;
        for (size_t i = 0; i < n; i++)
                sums = sums_with(sums, units[i].size);
        return sums;
}

static uint32_t size_of(const Unit *units, size_t n) {
        uint32_t size = 0;
        for (size_t i = 0; i < n; i++)
                size += units[i].size;
        return size;
}

static uint32_t set_size(const Inventory *inventory, size_t gpu) {
        uint32_t n = 0;
        size_t i = gpu;
        do {
                n++;
                i = inventory->gpus.items[i].next_in_set;
        } while (i != gpu);
        return n;
}

static bool is_first_of_set(const Inventory *inventory, size_t gpu) {
        for (size_t i = inventory->gpus.items[gpu].next_in_set; i != gpu; i = inventory->gpus.items[i].next_in_set)
                if (i < gpu)
                        return false;
        return true;
}

static size_t collect_units(const Inventory *inventory, const Room *room, Models models,
                            bool (*counts)(const Inventory *, size_t), Unit units[static GPUS_PER_NODE_MAX]) {
        bool picky = inventory_room_has_others(room, models);
        size_t n = 0;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus && n < GPUS_PER_NODE_MAX; i++) {
                if (!counts(inventory, i) || !is_first_of_set(inventory, i) ||
                    (picky && !inventory_gpu_suits(inventory, i, models)))
                        continue;
                const GpuFacts *facts = inventory->gpus.items[i].view->facts;
                units[n++] = (Unit) {
                        .gpu = i,
                        .size = set_size(inventory, i),
                        .numa_node = facts->numa_node,
                        .switch_address = facts->switch_address,
                };
        }
        return n;
}

uint32_t choice_count_usable(const Inventory *inventory, const Room *room, Models models) {
        uint32_t n = 0;
        if (!inventory_room_has_others(room, models))
                return room->usable;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++)
                n += (models >> inventory->gpus.items[i].model & 1) && inventory_gpu_is_usable(inventory, i);
        return n;
}

uint32_t choice_count_free(const Inventory *inventory, const Room *room, Models models) {
        uint32_t n = 0;
        if (!inventory_room_has_others(room, models))
                return room->free;
        for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++)
                n += inventory_gpu_suits(inventory, i, models) && inventory_gpu_is_free(inventory, i);
        return n;
}

bool choice_exists(const Inventory *inventory, const Room *room, Models models, uint32_t count) {
        if (room->free < count)
                return false;
        Unit units[GPUS_PER_NODE_MAX];
        size_t n = collect_units(inventory, room, models, inventory_gpu_is_free, units);
        return sums_have(sums_of(units, n), count);
}

bool choice_is_possible(const Inventory *inventory, const Room *room, Models models, uint32_t count) {
        if (room->usable < count || !room->has_sets)
                return room->usable >= count && choice_count_usable(inventory, room, models) >= count;
        Unit units[GPUS_PER_NODE_MAX];
        size_t n = collect_units(inventory, room, models, inventory_gpu_is_usable, units);
        return sums_have(sums_of(units, n), count);
}

static int compare_units(const void *a, const void *b) {
        const Unit *x = a, *y = b;
        if (x->numa_node != y->numa_node)
                return x->numa_node < y->numa_node ? -1 : 1;
        int c = strcmp(x->switch_address ? x->switch_address : "", y->switch_address ? y->switch_address : "");
        if (c != 0)
                return c;
        return x->gpu < y->gpu ? -1 : x->gpu > y->gpu;
}

/* Without a switch above, a GPU hangs on a root port of its own and is nobody's neighbour there. */
static bool are_neighbours(const Unit *a, const Unit *b, Level level) {
        switch (level) {
        case LEVEL_NODE:
                return true;
        case LEVEL_NUMA:
                return a->numa_node == b->numa_node;
        case LEVEL_SWITCH:
                return a->numa_node == b->numa_node && a->switch_address &&
                       text_equal(a->switch_address, b->switch_address);
        case LEVEL_UNIT:
                break;
        }
        return false;
}

/* A run of sorted units that are neighbours. */
typedef struct Part {
        const Unit *units;
        size_t n;
        uint32_t size;
        Sums sums;
} Part;

static size_t split(const Unit *units, size_t n, Level level, Part parts[static GPUS_PER_NODE_MAX]) {
        size_t n_parts = 0, first = 0;
        for (size_t i = 1; i <= n; i++) {
                if (i < n && are_neighbours(units + first, units + i, level))
                        continue;
                parts[n_parts++] = (Part) {
                        .units = units + first,
                        .n = i - first,
                        .size = size_of(units + first, i - first),
                        .sums = sums_of(units + first, i - first),
                };
                first = i;
        }
        return n_parts;
}

/* Largest first: what is large is used whole; what is small serves many. */
static int compare_parts(const void *a, const void *b) {
        const Part *x = a, *y = b;
        if (x->size != y->size)
                return x->size > y->size ? -1 : 1;
        return x->units < y->units ? -1 : x->units > y->units;
}

static const Part *find_smallest_that_has(const Part *parts, size_t n, uint32_t count) {
        const Part *found = NULL;
        for (size_t i = 0; i < n; i++)
                if (sums_have(parts[i].sums, count) && (!found || parts[i].size < found->size))
                        found = parts + i;
        return found;
}

static void take_unit(const Inventory *inventory, const Unit *unit, Choice *ret) {
        size_t i = unit->gpu;
        do {
                ret->gpus[ret->n_gpus++] = i;
                i = inventory->gpus.items[i].next_in_set;
        } while (i != unit->gpu);
}

/* Takes exactly @count from @units, which can give them: from one neighbourhood if one has them, the smallest that
 * does; else the largest are emptied until the rest fits into one. */
static void take(const Inventory *inventory, const Unit *units, size_t n, Level level, uint32_t count, Choice *ret) {
        if (count == 0)
                return;
        if (level == LEVEL_UNIT) {
                take_unit(inventory, units, ret);
                return;
        }

        Part parts[GPUS_PER_NODE_MAX];
        size_t n_parts = split(units, n, level + 1, parts);
        qsort(parts, n_parts, sizeof(*parts), compare_parts);
        Sums behind[GPUS_PER_NODE_MAX + 1];     /* what all parts from here on can give together */
        behind[n_parts] = 0;
        for (size_t i = n_parts; i > 0; i--) {
                behind[i - 1] = behind[i];
                for (size_t u = 0; u < parts[i - 1].n; u++)
                        behind[i - 1] = sums_with(behind[i - 1], parts[i - 1].units[u].size);
        }

        for (size_t i = 0; i < n_parts && count > 0; i++) {
                const Part *whole = find_smallest_that_has(parts + i, n_parts - i, count);
                if (whole) {
                        take(inventory, whole->units, whole->n, level + 1, count, ret);
                        return;
                }
                uint32_t from_here = parts[i].size < count ? parts[i].size : count;
                while (!sums_have(parts[i].sums, from_here) || !sums_have(behind[i + 1], count - from_here))
                        from_here--;
                take(inventory, parts[i].units, parts[i].n, level + 1, from_here, ret);
                count -= from_here;
        }
}

/* A switch that has all of them is closer than any NUMA node, wherever it is. */
static void take_close(const Inventory *inventory, const Unit *units, size_t n, uint32_t count, Choice *ret) {
        Part parts[GPUS_PER_NODE_MAX];
        size_t n_parts = split(units, n, LEVEL_SWITCH, parts);
        const Part *whole = count > 1 ? find_smallest_that_has(parts, n_parts, count) : NULL;
        if (whole)
                take(inventory, whole->units, whole->n, LEVEL_SWITCH, count, ret);
        else
                take(inventory, units, n, LEVEL_NODE, count, ret);
}

static Unit unit_of_gpu(const Inventory *inventory, size_t gpu) {
        const GpuFacts *facts = inventory->gpus.items[gpu].view->facts;
        return (Unit) { .gpu = gpu, .size = 1, .numa_node = facts->numa_node, .switch_address = facts->switch_address };
}

static void measure(const Inventory *inventory, const Unit *units, size_t n_units, Choice *choice) {
        uint32_t n_numa = 0, n_switches = 0, around = 0;
        for (size_t i = 0; i < choice->n_gpus; i++) {
                Unit unit = unit_of_gpu(inventory, choice->gpus[i]);
                bool new_numa = true, new_switch = true;
                for (size_t j = 0; j < i; j++) {
                        Unit before = unit_of_gpu(inventory, choice->gpus[j]);
                        new_numa = new_numa && !are_neighbours(&before, &unit, LEVEL_NUMA);
                        new_switch = new_switch && !are_neighbours(&before, &unit, LEVEL_SWITCH);
                }
                n_numa += new_numa;
                n_switches += new_switch;
                if (!new_switch)
                        continue;
                uint32_t here = 0;
                for (size_t u = 0; u < n_units; u++)
                        if (are_neighbours(units + u, &unit, LEVEL_SWITCH))
                                here += units[u].size;
                around += here > 0 ? here : 1;
        }
        choice->distance = n_numa > 0 ? (n_numa - 1) * NUMA_DISTANCE + n_switches - 1 : 0;
        choice->leftover = around > choice->n_gpus ? around - (uint32_t) choice->n_gpus : 0;
}

bool choice_make(const Inventory *inventory, const Room *room, Models models, uint32_t count, Choice *ret) {
        if (count > GPUS_PER_VM_MAX || room->free < count)
                return false;

        Unit units[GPUS_PER_NODE_MAX];
        size_t n = collect_units(inventory, room, models, inventory_gpu_is_free, units);
        if (!sums_have(sums_of(units, n), count))
                return false;
        qsort(units, n, sizeof(*units), compare_units);

        Choice choice = {};
        take_close(inventory, units, n, count, &choice);
        qsort(choice.gpus, choice.n_gpus, sizeof(*choice.gpus), array_compare_indexes);
        measure(inventory, units, n, &choice);
        *ret = choice;
        return true;
}

bool choice_measure(Inventory *inventory, size_t index, Models models, uint32_t count, uint32_t *ret_distance,
                    uint32_t *ret_leftover) {
        Room *room = inventory->rooms.items + index;
        models &= room->models;
        if (room->last_choice.count != count || room->last_choice.models != models || count == 0) {
                Choice choice;
                if (!choice_make(inventory, room, models, count, &choice))
                        return false;
                room->last_choice.models = models;
                room->last_choice.count = count;
                room->last_choice.distance = choice.distance;
                room->last_choice.leftover = choice.leftover;
                holes_count_lost(inventory, room, &choice);
        }
        *ret_distance = room->last_choice.distance;
        *ret_leftover = room->last_choice.leftover;
        return true;
}
