/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/holes.h"

/* How many of each size go together or not at all. */
typedef struct Units {
        uint32_t of_size[GPUS_PER_VM_MAX + 1];
} Units;

/* For the first of its set by address: how many they are; for the others 0. */
static uint32_t size_if_first(const Inventory *inventory, size_t gpu) {
        uint32_t n = 1;
        for (size_t i = inventory->gpus.items[gpu].next_in_set; i != gpu; i = inventory->gpus.items[i].next_in_set, n++)
                if (i < gpu)
                        return 0;
        return n;
}

static void count_unit(const Inventory *inventory, size_t gpu, bool add, Units *units) {
        uint32_t size = size_if_first(inventory, gpu);
        if (size > 0 && size <= GPUS_PER_VM_MAX)
                units->of_size[size] += add ? 1 : UINT32_MAX;
}

static void count_units(const Inventory *inventory, const Room *room, Units *ret) {
        *ret = (Units) {};
        if (!room->has_sets)
                ret->of_size[1] = room->free;
        else
                for (size_t i = room->first_gpu; i < room->first_gpu + room->n_gpus; i++)
                        if (inventory_gpu_is_free(inventory, i))
                                count_unit(inventory, i, true, ret);
}

static uint16_t count_places(const Units *units, bool has_sets, uint32_t need) {
        uint32_t gpus = units->of_size[1];
        for (uint32_t size = 2; has_sets && size <= need; size++)
                gpus += size * units->of_size[size];
        return (uint16_t) (gpus / need);
}

/* The next need below @need that VMs of the pool have; 0: none. */
static uint32_t next_need(const Inventory *inventory, const Room *room, uint32_t need) {
        uint64_t smaller = inventory->pools.items[room->pool].sizes & ((UINT64_C(1) << (need - 1)) - 1);
        return smaller == 0 ? 0 : GPUS_PER_VM_MAX - (uint32_t) __builtin_clzll(smaller);
}

static uint32_t largest_need(const Inventory *inventory, const Room *room) {
        uint64_t sizes = inventory->pools.items[room->pool].sizes;
        return sizes == 0 ? 0 : GPUS_PER_VM_MAX - (uint32_t) __builtin_clzll(sizes);
}

void holes_count_places(const Inventory *inventory, Room *room) {
        Units units;
        count_units(inventory, room, &units);
        for (uint32_t need = largest_need(inventory, room); need > 0; need = next_need(inventory, room, need))
                room->places[need] = count_places(&units, room->has_sets, need);
}

void holes_count_lost(const Inventory *inventory, Room *room, const Choice *choice) {
        Units units;
        count_units(inventory, room, &units);
        if (!room->has_sets)
                units.of_size[1] -= (uint32_t) choice->n_gpus;
        else
                for (size_t i = 0; i < choice->n_gpus; i++)
                        count_unit(inventory, choice->gpus[i], false, &units);
        for (uint32_t need = largest_need(inventory, room); need > 0; need = next_need(inventory, room, need))
                room->last_choice.lost[need] =
                        (uint16_t) (room->places[need] - count_places(&units, room->has_sets, need));
}

/* How many places the pool should have for VMs of this need that have none now. */
static uint32_t demand(const InventoryPool *pool, uint32_t need, bool is_largest) {
        return pool->waiting[need] + (is_largest && pool->residents[need].n > 0);
}

static uint32_t shortage(uint32_t demanded, uint32_t places) {
        return demanded > places ? demanded - places : 0;
}

Holes holes_of_last_choice(const Inventory *inventory, const Room *room) {
        const InventoryPool *pool = inventory->pools.items + room->pool;
        uint32_t bit = UINT32_C(1) << 31;       /* more needs than bits are there in theory only */
        bool is_largest = true;
        Holes holes = {};
        for (uint32_t need = largest_need(inventory, room); need > 0; need = next_need(inventory, room, need)) {
                uint32_t lost = room->last_choice.lost[need], demanded = demand(pool, need, is_largest);
                is_largest = is_largest && pool->residents[need].n == 0;
                if (need == room->last_choice.count)
                        continue;
                holes.needed += shortage(demanded, pool->places[need] - lost) - shortage(demanded, pool->places[need]);
                if (need < room->last_choice.count)
                        holes.small += lost * need;
                else {
                        holes.large |= lost > 0 ? bit : 0;
                        bit >>= 1;
                }
        }
        return holes;
}
