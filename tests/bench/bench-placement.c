/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What placement costs with 10, 100 and 1000 nodes of eight GPUs, half of them taken, and VMs waiting for a tenth more
 * than is free: the inventory, a whole pass over all who wait, one VM alone, one VM with its reasons, and what a pool
 * survives. Beside them, the floor: one walk over the same GPUs that only counts which of them are free. Medians;
 * ratios to the floor.
 *
 * bench-placement [LARGEST] */

#include <glib.h>
#include <stdio.h>

#include "core/describe.h"
#include "core/seating.h"
#include "instance.h"
#include "rules.h"
#include "series.h"

#define TURNS_MOST 201U
#define TURNS_LEAST 5U
#define ENOUGH_US 2e6                   /* for one measurement */

typedef struct Bench {
        Described *described;
        Inventory *inventory;
        size_t *waiting;
        size_t n;
        size_t one;                     /* a VM that needs one GPU */
        uint64_t counted;               /* so that no walk is left out */
} Bench;

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

/* The median of several turns in µs; @after puts things back and is not counted. */
static double measure(Bench *bench, void (*turn)(Bench *), void (*after)(Bench *)) {
        double times[TURNS_MOST], all = 0;
        unsigned n = 0;
        while (n < TURNS_MOST && (n < TURNS_LEAST || all < ENOUGH_US)) {
                double begun = series_now_us();
                turn(bench);
                all += times[n++] = series_now_us() - begun;
                if (after)
                        after(bench);
        }
        qsort(times, n, sizeof(*times), compare_doubles);
        return times[n / 2];
}

static void count_free(Bench *bench) {
        const Inventory *inventory = bench->inventory;
        for (size_t i = 0; i < inventory->gpus.n; i++) {
                const RoomGpu *gpu = inventory->gpus.items + i;
                bench->counted += gpu->tenant == NOBODY && gpu->view->assignable && !gpu->view->quarantine;
        }
}

static void make_inventory(Bench *bench) {
        bench->inventory = inventory_free(bench->inventory);
        g_assert_cmpint(inventory_new(&bench->described->world, &bench->inventory), ==, 0);
}

static void place_everybody(Bench *bench) {
        g_assert_cmpint(rule_place(RULE_OURS, bench->inventory, bench->waiting, bench->n), ==, 0);
}

static void vacate_everybody(Bench *bench) {
        for (size_t i = 0; i < bench->n; i++)
                inventory_vacate(bench->inventory, bench->waiting[i]);
}

static void place_one(Bench *bench) {
        Choice choice;
        g_assert_cmpint(placement_choose(bench->inventory, bench->one, false, &choice), ==, PLACEMENT_FOUND);
        inventory_take(bench->inventory, bench->one, choice.gpus, choice.n_gpus);
}

static void vacate_one(Bench *bench) {
        inventory_vacate(bench->inventory, bench->one);
}

static void explain_one(Bench *bench) {
        Placement placement = {};
        const Vm *vm = bench->inventory->tenants.items[bench->one].vm;
        g_assert_cmpint(placement_find_in(bench->inventory, vm, &placement), ==, PLACEMENT_FOUND);
        placement_clear(&placement);
}

static int come(Seating *seating, size_t tenant) {
        return 0;
}

static int give_way(Seating *seating, size_t tenant, size_t whom) {
        inventory_vacate(seating->inventory, tenant);
        return 0;
}

static void count_pool(Bench *bench) {
        PoolCounts counts = {};
        const Pool *pool = bench->described->world.registry->pools.items;
        g_assert_cmpint(pool_count_in(bench->inventory, pool, &counts), ==, 0);
        bench->counted += counts.survives;
        pool_counts_clear(&counts);
}

/* What a pool survives, once everybody has a place who gets one; @load is asked for of what is free, and of a hundred
 * VMs so many must be with another one or apart. */
static double measure_survival(Shape shape, unsigned load, unsigned bound) {
        Bench bench = {};
        char *sentence = NULL;
        shape.load = load;
        shape.bound = bound;
        char *text = instance_make(&shape, 1);
        g_assert_cmpint(describe_read(text, &bench.described, &sentence), ==, DESCRIBE_READ);
        make_inventory(&bench);
        g_assert_cmpint(list_waiting(bench.inventory, &bench.waiting, &bench.n), ==, 0);
        Seating seating = { .inventory = bench.inventory, .waiting = bench.waiting, .n_waiting = bench.n,
                            .work_left = UINT64_MAX, .comes = come, .goes = give_way };
        g_assert_cmpint(seating_run(&seating), ==, 0);
        double us = measure(&bench, count_pool, NULL);
        free(bench.waiting);
        inventory_free(bench.inventory);
        described_free(bench.described);
        g_free(text);
        return us;
}

static void tell(const char *what, double us, double floor_us) {
        printf("  %-34s %12.1f us  %10.1f of the floor\n", what, us, us / floor_us);
        (void) fflush(stdout);
}

static void bench_nodes(unsigned nodes) {
        Shape shape = {
                .name = "bench", .nodes = nodes, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 110,
                .resident = 50,
        };
        Bench bench = {};
        char *text = instance_make(&shape, 1), *sentence = NULL;
        g_assert_cmpint(describe_read(text, &bench.described, &sentence), ==, DESCRIBE_READ);
        make_inventory(&bench);
        g_assert_cmpint(list_waiting(bench.inventory, &bench.waiting, &bench.n), ==, 0);
        for (size_t i = 0; i < bench.n; i++)
                if (bench.inventory->tenants.items[bench.waiting[i]].vm->count == 1)
                        bench.one = bench.waiting[i];

        double floor_us = measure(&bench, count_free, NULL);
        double inventory_us = measure(&bench, make_inventory, NULL);
        double pass_us = measure(&bench, place_everybody, vacate_everybody);
        double one_us = measure(&bench, place_one, vacate_one);
        double words_us = measure(&bench, explain_one, NULL);
        double roomy_us = measure_survival(shape, 60, 0), full_us = measure_survival(shape, 110, 0);
        double roomy_bound_us = measure_survival(shape, 60, 1), full_bound_us = measure_survival(shape, 110, 1);
        printf("%u nodes, %zu GPUs, %zu VMs wait\n", nodes, bench.inventory->gpus.n, bench.n);
        tell("floor: free GPUs are counted", floor_us, floor_us);
        tell("the inventory is made", inventory_us, floor_us);
        tell("a pass over all who wait", pass_us, floor_us);
        tell("of it, for each of them", pass_us / (double) bench.n, floor_us);
        tell("one VM alone", one_us, floor_us);
        tell("one VM alone, with all reasons", words_us, floor_us);
        tell("what a pool with room survives", roomy_us, floor_us);
        tell("what a full pool survives", full_us, floor_us);
        tell("with room, one of 100 VMs bound", roomy_bound_us, floor_us);
        tell("full, one of 100 VMs bound", full_bound_us, floor_us);

        free(bench.waiting);
        inventory_free(bench.inventory);
        described_free(bench.described);
        g_free(text);
}

int main(int argc, char **argv) {
        unsigned largest = argc > 1 ? (unsigned) atoi(argv[1]) : 1000;
        for (unsigned nodes = 10; nodes <= largest; nodes *= 10)
                bench_nodes(nodes);
        return 0;
}
