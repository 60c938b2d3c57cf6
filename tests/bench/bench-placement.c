/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What placement costs: with 10, 100 and 1000 nodes of eight GPUs, half of them taken, and VMs waiting for a tenth more
 * than is free; and with 4,000 VMs that all wait for an empty cluster of the largest size. The inventory, a whole pass
 * over all who wait, the same with one of a hundred VMs bound to another, one VM alone, and one VM with its reasons;
 * what it costs when one VM stops or comes back, where the inventory is kept and follows; what the pool survives; then
 * a pass where all VMs need memory and a file, which nodes have, and one where there is not memory for all, and not
 * each node has each file. Medians, and how they grow: the exponent of the size.
 *
 * Beside them three floors that only count free GPUs: one walk over the inventory's array of GPUs; one over all that
 * the world holds, every GPU that nodes tell of, every GPU of the pools and every one that a VM has, without looking
 * whose is whose; and the list that says of each GPU what it is, from which the product counts them. All in time of the
 * processor, but for the exact solver.
 *
 * bench-placement [LARGEST [SECONDS]]: so long the exact solver may take for each priority; else it is not asked */

#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "core/describe.h"
#include "core/seating.h"
#include "instance.h"
#include "optimum.h"
#include "rules.h"

#define TURNS_MOST 201U
#define TURNS_LEAST 5U
#define ENOUGH_US 2e6                   /* for one measurement */

typedef struct Bench {
        Described *described;
        Inventory *inventory;
        size_t *waiting;
        size_t n;
        size_t one;                     /* a VM that needs one GPU */
        Inventory *kept;                /* follows the world */
        Vm *other;                      /* that runs, or has just stopped: then this is what it had */
        Assignment had;
        uint64_t counted;               /* so that no walk is left out */
        uint64_t walked, listed;        /* free GPUs, by two of the floors */
} Bench;

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

/* Of the processor, as nothing here waits: others who use it do not count. */
static double used_us(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

/* The median of several turns in µs; @after puts things back and is not counted. */
static double measure(Bench *bench, void (*turn)(Bench *), void (*after)(Bench *)) {
        double times[TURNS_MOST], all = 0;
        unsigned n = 0;
        while (n < TURNS_MOST && (n < TURNS_LEAST || all < ENOUGH_US)) {
                double begun = used_us();
                turn(bench);
                all += times[n++] = used_us() - begun;
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

/* What is free is what pools have and no VM has. */
static void walk_records(Bench *bench) {
        const World *world = &bench->described->world;
        uint64_t there = 0, free_gpus = 0;
        for (size_t i = 0; i < world->n_nodes; i++)
                for (size_t j = 0; j < world->nodes[i]->n_gpus; j++)
                        there += world->nodes[i]->gpus[j].config == CONFIG_READABLE;
        ARRAY_EACH(node, &world->registry->nodes)
                bench->counted += node->lost;
        ARRAY_EACH(pool, &world->registry->pools)
                ARRAY_EACH(gpu, &pool->gpus)
                        free_gpus += gpu->slot[0] != '\0';
        ARRAY_EACH(vm, &world->registry->vms)
                for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                        free_gpus -= vm->assignment.gpus[i].gpu.slot[0] != '\0';
        g_assert_cmpuint(free_gpus, <=, there);
        bench->counted += free_gpus;
        bench->walked = free_gpus;
}

static void list_gpus(Bench *bench) {
        GpuViews views = {};
        uint64_t free_gpus = 0;
        g_assert_cmpint(world_list_gpus(&bench->described->world, &views), ==, 0);
        ARRAY_EACH(view, &views)
                free_gpus += view->pool && view->assignable && !view->vm && !view->quarantine;
        gpu_views_clear(&views);
        bench->listed = free_gpus;
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

/* One VM stops, or is back where it was; then one that waits gets a place. */
static void follow_one(Bench *bench) {
        Assignment now = bench->had;
        Choice choice;
        bench->had = bench->other->assignment;
        bench->other->assignment = now;
        g_assert_cmpint(inventory_follow(bench->kept, &bench->described->world), ==, 1);
        g_assert_cmpint(placement_choose(bench->kept, bench->one, false, &choice), ==, PLACEMENT_FOUND);
}

/* False: nobody runs who could stop. */
static bool begin_to_follow(Bench *bench) {
        bench->other = NULL;
        ARRAY_EACH(vm, &bench->described->registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE)
                        bench->other = vm;
        if (!bench->other)
                return false;
        ARRAY_EACH(facts, &bench->described->facts)
                (*facts)->version = 1;          /* as those that come by gossip have one */
        g_assert_cmpint(inventory_new(&bench->described->world, &bench->kept), ==, 0);
        g_assert_cmpint(inventory_keep(bench->kept), ==, 0);
        return true;
}

static void stop_following(Bench *bench) {
        if (bench->other->assignment.phase == ASSIGNMENT_NONE)
                bench->other->assignment = bench->had;
        inventory_free(bench->kept);
}

static void explain_one(Bench *bench) {
        Placement placement = {};
        const Vm *vm = bench->inventory->tenants.items[bench->one].vm;
        g_assert_cmpint(placement_find_in(bench->inventory, vm, &placement), ==, PLACEMENT_FOUND);
        placement_clear(&placement);
}

/* Nodes have 1 TiB for eight GPUs; a VM needs 64 GiB for each of its own, or up to four times as much. */
static void give_needs(Bench *bench, bool scarce) {
        const Inventory *inventory = bench->inventory;
        for (size_t i = 0; i < inventory->nodes.n; i++) {
                NodeFacts *facts = (NodeFacts *) inventory->nodes.items[i].facts;
                const SeenPath lost = { .path = i % 2 == 0 ? "/even" : "/odd", .sight = PATH_MISSING };
                uint32_t more;
                facts->memory_total = UINT64_C(1) << 40;
                path_set_clear(&facts->missing_paths);
                g_assert_cmpint(path_set_gather(&lost, 1, PATH_MISSING, 1, &facts->missing_paths, &more), ==, 0);
        }
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                Vm *vm = (Vm *) inventory->tenants.items[i].vm;
                char path[32];
                (void) snprintf(path, sizeof(path), "%s/%zu", !scarce || i % 8 > 0 ? "" : i % 16 > 0 ? "/odd" : "/even",
                                i);
                vm->needs.memory_bytes = (uint64_t) vm->count * (scarce ? 1 + i % 4 : 1) << 36;
                text_list_clear(&vm->needs.paths);
                g_assert_cmpint(text_list_add(&vm->needs.paths, path), ==, 0);
        }
        make_inventory(bench);
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

static Bench bench_open(const Shape *shape) {
        Bench bench = {};
        char *text = instance_make(shape, 1), *sentence = NULL;
        g_assert_cmpint(describe_read(text, &bench.described, &sentence), ==, DESCRIBE_READ);
        make_inventory(&bench);
        g_assert_cmpint(list_waiting(bench.inventory, &bench.waiting, &bench.n), ==, 0);
        g_free(text);
        return bench;
}

static void bench_close(Bench *bench) {
        free(bench->waiting);
        inventory_free(bench->inventory);
        described_free(bench->described);
}

/* What a pool survives, once everybody has a place who gets one; @load is asked for of what is free, and of a hundred
 * VMs so many must be with another one or apart. */
static double measure_survival(Shape shape, unsigned load, unsigned bound) {
        shape.load = load;
        shape.bound = bound;
        Bench bench = bench_open(&shape);
        Seating seating = { .inventory = bench.inventory, .waiting = bench.waiting, .n_waiting = bench.n,
                            .work_left = UINT64_MAX, .comes = come, .goes = give_way };
        g_assert_cmpint(seating_run(&seating), ==, 0);
        double us = measure(&bench, count_pool, NULL);
        bench_close(&bench);
        return us;
}

static double measure_bound(Shape shape) {
        shape.bound = 1;
        Bench bench = bench_open(&shape);
        double us = measure(&bench, place_everybody, vacate_everybody);
        bench_close(&bench);
        return us;
}

/* µs */
typedef struct Costs {
        double array, walk, list, inventory, pass, each, bound, one, reasons, follow, needy, scarce;
        double roomy, full, roomy_bound, full_bound;
} Costs;

static Costs measure_all(Bench *bench, const Shape *shape) {
        Costs costs = {
                .array = measure(bench, count_free, NULL),
                .walk = measure(bench, walk_records, NULL),
                .list = measure(bench, list_gpus, NULL),
                .inventory = measure(bench, make_inventory, NULL),
                .pass = measure(bench, place_everybody, vacate_everybody),
                .bound = measure_bound(*shape),
                .one = measure(bench, place_one, vacate_one),
                .reasons = measure(bench, explain_one, NULL),
                .roomy = measure_survival(*shape, 60, 0),
                .full = measure_survival(*shape, 110, 0),
                .roomy_bound = measure_survival(*shape, 60, 1),
                .full_bound = measure_survival(*shape, 110, 1),
        };
        costs.each = costs.pass / (double) bench->n;
        if (begin_to_follow(bench)) {
                costs.follow = measure(bench, follow_one, NULL);
                stop_following(bench);
        }
        g_assert_cmpuint(bench->walked, ==, bench->listed);
        g_assert_cmpuint(bench->walked, ==, bench->inventory->pools.items[0].free);
        return costs;
}

/* @smaller: of a tenth of the nodes; 0: there is none. */
static void tell(const char *what, double us, double smaller, const Costs *costs) {
        printf("  %-37s %12.1f us %10.1f %10.1f %10.1f", what, us, us / costs->array, us / costs->walk,
               us / costs->list);
        if (smaller > 0)
                printf("   n^%.2f", log10(us / smaller));
        printf("\n");
        (void) fflush(stdout);
}

static void tell_solver(const Bench *bench, unsigned seconds, const Costs *costs) {
        Optimum optimum = {};
        int r = optimum_find(bench->inventory, bench->waiting, bench->n, NULL, seconds, &optimum);
        if (r < 0)
                printf("  the exact solver failed: %s\n", g_strerror(-r));
        else if (r > OPTIMUM_TOO_LONG)
                printf("  there is no exact solver\n");
        else
                printf("  %-37s %12.1f s, %.0f passes%s\n", "the exact solver", optimum.seconds,
                       optimum.seconds * 1e6 / costs->pass, r == OPTIMUM_TOO_LONG ? "; stopped, not proven" : "");
        uint64_t ours = 0, most = 0;
        ClassCount classes[CLASSES_MAX];
        g_assert_cmpint(rule_place(RULE_OURS, bench->inventory, bench->waiting, bench->n), ==, 0);
        size_t n = count_classes(bench->inventory, bench->waiting, bench->n, classes);
        for (size_t i = 0; i < n; i++) {
                ours += classes[i].placed;
                most += optimum.classes[i].placed;
        }
        printf("  VMs that run: %" G_GUINT64_FORMAT ", by the solver %" G_GUINT64_FORMAT "\n", ours, most);
}

static Costs bench_shape(const Shape *shape, const Costs *smaller, unsigned solver_seconds) {
        Bench bench = bench_open(shape);
        for (size_t i = 0; i < bench.n; i++)
                if (bench.inventory->tenants.items[bench.waiting[i]].vm->count == 1)
                        bench.one = bench.waiting[i];

        Costs costs = measure_all(&bench, shape), none = {};
        smaller = smaller ?: &none;
        printf("%s, %u nodes: %zu GPUs, %" G_GUINT64_FORMAT " free, %zu VMs, %zu wait\n", shape->name, shape->nodes,
               bench.inventory->gpus.n, bench.walked, bench.inventory->tenants.n, bench.n);
        printf("  %-37s %12s    %10s %10s %10s\n", "", "", "of array", "of walk", "of list");
        tell("free GPUs are counted: array", costs.array, smaller->array, &costs);
        tell("free GPUs are counted: walk", costs.walk, smaller->walk, &costs);
        tell("free GPUs are counted: list", costs.list, smaller->list, &costs);
        tell("the inventory is made", costs.inventory, smaller->inventory, &costs);
        tell("a pass over all who wait", costs.pass, smaller->pass, &costs);
        tell("of it, for each of them", costs.each, smaller->each, &costs);
        tell("a pass, one of 100 VMs bound", costs.bound, smaller->bound, &costs);
        if (costs.follow > 0)
                tell("a change followed, and one VM placed", costs.follow, smaller->follow, &costs);
        tell("one VM alone", costs.one, smaller->one, &costs);
        tell("one VM alone, with all reasons", costs.reasons, smaller->reasons, &costs);
        tell("what a pool with room survives", costs.roomy, smaller->roomy, &costs);
        tell("what a full pool survives", costs.full, smaller->full, &costs);
        tell("with room, one of 100 VMs bound", costs.roomy_bound, smaller->roomy_bound, &costs);
        tell("full, one of 100 VMs bound", costs.full_bound, smaller->full_bound, &costs);
        if (solver_seconds > 0)
                tell_solver(&bench, solver_seconds, &costs);
        give_needs(&bench, false);
        costs.needy = measure(&bench, place_everybody, vacate_everybody);
        tell("a pass, all need memory and a file", costs.needy, smaller->needy, &costs);
        give_needs(&bench, true);
        costs.scarce = measure(&bench, place_everybody, vacate_everybody);
        tell("a pass, both are scarce", costs.scarce, smaller->scarce, &costs);
        bench_close(&bench);
        return costs;
}

int main(int argc, char **argv) {
        unsigned largest = argc > 1 ? (unsigned) atoi(argv[1]) : 1000;
        unsigned seconds = argc > 2 ? (unsigned) atoi(argv[2]) : 0;
        Shape shape = { .name = "half full", .gpus = 8, .sizes = SIZES_POWERS, .classes = 3, .load = 110,
                        .resident = 50 };
        Costs costs = {};
        for (shape.nodes = 10; shape.nodes <= largest; shape.nodes *= 10)
                costs = bench_shape(&shape, shape.nodes > 10 ? &costs : NULL, seconds);
        Shape empty = { .name = "empty", .nodes = largest, .gpus = 8, .sizes = SIZES_POWERS, .classes = 3,
                        .load = 123 };
        (void) bench_shape(&empty, NULL, seconds);
        return 0;
}
