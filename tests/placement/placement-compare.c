/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Our rule, others' and the optimum over the same instances, as docs/placement.md has it.
 *
 *      placement-compare                       tables over all shapes, 20 seeds each
 *      placement-compare --seeds 5 --shape 3
 *      placement-compare --goal                1000 instances of each shape of the goal; exit status 1: it is missed
 *      placement-compare --more [--seeds 500]  how often fewer of the highest priority run with more GPUs
 *      placement-compare --year [--seeds 3]    a year of arrivals, ends and failures
 *      placement-compare --make 3 17           instance 17 of shape 3, as text
 *      placement-compare FILE...               one line for each file and rule */

#include <getopt.h>
#include <glib.h>
#include <stdio.h>

#include "core/describe.h"
#include "instance.h"
#include "optimum.h"
#include "year.h"

#define SOLVER_SECONDS 60U
#define GOAL_SEEDS 1000U
#define GOAL_MEAN 0.99
#define GOAL_WORST 0.90

/* Over several instances. */
typedef struct Sum {
        unsigned instances, best;       /* as good as the optimum in every class */
        uint64_t first_class, all, gpus;
        double seconds;
        double worst;                   /* share of the optimum, of all VMs, and in which instance */
        unsigned worst_seed;
        double weighted, ordered;       /* shares of the optimum's, added up */
        double worst_weighted, worst_ordered;
        unsigned worst_weighted_seed, worst_ordered_seed;
        unsigned below;                 /* instances with less than the goal's worst, weighted */
} Sum;

typedef struct Run {
        ClassCount classes[CLASSES_MAX];
        size_t n;
        double seconds;
} Run;

static Described *must_read(const char *name, const char *text) {
        Described *described = NULL;
        _cleanup_free_ char *sentence = NULL;
        if (describe_read(text, &described, &sentence) != DESCRIBE_READ)
                g_error("%s: %s", name, sentence ? sentence : "out of memory");
        return described;
}

static Run run_rule(const Described *described, Rule rule) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_free_ size_t *waiting = NULL;
        size_t n;
        Run run = {};
        if (inventory_new(&described->world, &inventory) < 0 || list_waiting(inventory, &waiting, &n) < 0)
                g_error("out of memory");
        gint64 begun = g_get_monotonic_time();
        if (rule_place(rule, inventory, waiting, n) < 0)
                g_error("out of memory");
        run.seconds = (double) (g_get_monotonic_time() - begun) / 1e6;
        run.n = count_classes(inventory, waiting, n, run.classes);
        return run;
}

static int run_solver(const Described *described, Run *ret) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        _cleanup_free_ size_t *waiting = NULL;
        Optimum optimum = {};
        size_t n;
        if (inventory_new(&described->world, &inventory) < 0 || list_waiting(inventory, &waiting, &n) < 0)
                g_error("out of memory");
        int r = optimum_find(inventory, waiting, n, NULL, SOLVER_SECONDS, &optimum);
        if (r < 0)
                g_error("the solver failed: %s", g_strerror(-r));
        memcpy(ret->classes, optimum.classes, sizeof(ret->classes));
        ret->n = optimum.n;
        ret->seconds = optimum.seconds;
        return r;
}

static uint64_t all_of(const Run *run) {
        uint64_t n = 0;
        for (size_t i = 0; i < run->n; i++)
                n += run->classes[i].placed;
        return n;
}

static bool is_as_good(const Run *run, const Run *optimum) {
        for (size_t i = 0; i < run->n; i++)
                if (run->classes[i].placed != optimum->classes[i].placed)
                        return run->classes[i].placed > optimum->classes[i].placed;
        return true;
}

static void add_share(double own, double whole, unsigned seed, double *sum, double *worst, unsigned *worst_seed) {
        double part = whole > 0 ? own / whole : 1;
        *sum += part;
        if (*worst_seed == 0 || part < *worst) {
                *worst = part;
                *worst_seed = seed;
        }
}

static void add(Sum *sum, const Run *run, const Run *optimum, unsigned seed) {
        double share = 0;
        add_share((double) all_of(run), (double) all_of(optimum), seed, &share, &sum->worst, &sum->worst_seed);
        add_share(weigh_classes(run->classes, run->n), weigh_classes(optimum->classes, optimum->n), seed,
                  &sum->weighted, &sum->worst_weighted, &sum->worst_weighted_seed);
        sum->below += weigh_classes(run->classes, run->n) < GOAL_WORST * weigh_classes(optimum->classes, optimum->n);
        add_share(order_classes(run->classes, run->n), order_classes(optimum->classes, optimum->n), seed,
                  &sum->ordered, &sum->worst_ordered, &sum->worst_ordered_seed);
        sum->instances++;
        sum->best += is_as_good(run, optimum);
        sum->first_class += run->n > 0 ? run->classes[0].placed : 0;
        sum->all += all_of(run);
        for (size_t i = 0; i < run->n; i++)
                sum->gpus += run->classes[i].gpus;
        sum->seconds += run->seconds;
}

static double share(uint64_t part, uint64_t whole) {
        return whole > 0 ? 100.0 * (double) part / (double) whole : 100.0;
}

static void tell_sums(const Shape *shape, const Sum sums[static RULE_COUNT], const Sum *optimum, unsigned unproven) {
        printf("\n%s: %u instances, optimum %" G_GUINT64_FORMAT " VMs in %.2f s (%u not proven)\n", shape->name,
               optimum->instances, optimum->all, optimum->seconds, unproven);
        printf("| rule | as the optimum | highest priority | all VMs | worst | weighted | worst | "
               "below 90 %% | ordered | worst | seconds | times faster |\n"
               "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
        for (Rule rule = 0; rule < RULE_COUNT; rule++) {
                const Sum *sum = sums + rule;
                printf("| %s | %u of %u | %.1f %% | %.1f %% | %.1f %% (seed %u) | %.2f %% | %.1f %% (seed %u) | %u | "
                       "%.2f %% | %.1f %% (seed %u) | %.5f | %.0f |\n",
                       rule_name(rule), sum->best, sum->instances, share(sum->first_class, optimum->first_class),
                       share(sum->all, optimum->all), 100 * sum->worst, sum->worst_seed,
                       100 * sum->weighted / sum->instances, 100 * sum->worst_weighted, sum->worst_weighted_seed,
                       sum->below, 100 * sum->ordered / sum->instances, 100 * sum->worst_ordered,
                       sum->worst_ordered_seed,
                       sum->seconds, optimum->seconds / sum->seconds);
        }
        (void) fflush(stdout);
}

/* Ours in @ret. */
static int compare_shape(const Shape *shape, unsigned seeds, Sum *ret) {
        Sum sums[RULE_COUNT] = {}, of_optimum = {};
        unsigned unproven = 0;
        for (unsigned seed = 1; seed <= seeds; seed++) {
                char *text = instance_make(shape, seed);
                _cleanup_(described_freep) Described *described = must_read(shape->name, text);
                Run optimum = {};
                int r = run_solver(described, &optimum);
                g_free(text);
                if (r == OPTIMUM_NO_SOLVER || r == OPTIMUM_NOT_SUPPORTED) {
                        fprintf(stderr, "placement-compare: there is no cbc and no glpsol\n");
                        return 1;
                }
                unproven += r == OPTIMUM_TOO_LONG;
                add(&of_optimum, &optimum, &optimum, seed);
                for (Rule rule = 0; rule < RULE_COUNT; rule++) {
                        Run run = run_rule(described, rule);
                        add(sums + rule, &run, &optimum, seed);
                }
        }
        tell_sums(shape, sums, &of_optimum, unproven);
        *ret = sums[RULE_OURS];
        return 0;
}

static int compare_with_goal(unsigned seeds) {
        int status = 0;
        for (unsigned i = GOAL_FIRST; i < SHAPES_COUNT && status == 0; i++) {
                Sum ours;
                status = compare_shape(shapes + i, seeds, &ours);
                bool missed = status == 0 && (ours.weighted < GOAL_MEAN * ours.instances || ours.below > 0);
                if (missed)
                        printf("The goal is missed: %s.\n", shapes[i].name);
                status = status || missed;
        }
        return status;
}

static void compare_with_more(const Shape *shape, unsigned seeds) {
        unsigned fewer[INSTANCE_MORE_COUNT] = {}, seed_of_last = 0;
        for (unsigned seed = 1; seed <= seeds; seed++) {
                char *text = instance_make(shape, seed);
                _cleanup_(described_freep) Described *less = must_read(shape->name, text);
                Run with_less = run_rule(less, RULE_OURS);
                for (unsigned i = 0; i < INSTANCE_MORE_COUNT; i++) {
                        char *larger = instance_with_more(text, instance_more[i]);
                        _cleanup_(described_freep) Described *more = must_read(shape->name, larger);
                        Run with_more = run_rule(more, RULE_OURS);
                        g_free(larger);
                        if (with_more.classes[0].placed >= with_less.classes[0].placed)
                                continue;
                        fewer[i]++;
                        seed_of_last = seed;
                }
                g_free(text);
        }
        printf("| %s | %u | %u | %u | %u | seed %u |\n", shape->name, seeds, fewer[0], fewer[1], fewer[2],
               seed_of_last);
        (void) fflush(stdout);
}

static void compare_all_with_more(unsigned seeds) {
        printf("| fewer of the highest priority run | instances | a node with one GPU | a GPU more on a node | "
               "a node with eight | the last |\n| --- | --- | --- | --- | --- | --- |\n");
        for (unsigned i = 0; i < SHAPES_COUNT; i++)
                compare_with_more(shapes + i, shapes[i].nodes > 20 ? seeds / 20 : seeds);
}

static void tell_run(const char *name, const Run *run) {
        printf("  %-12s", name);
        for (size_t i = 0; i < run->n; i++)
                printf(" priority %d: %u of %u", run->classes[i].priority, run->classes[i].placed,
                       run->classes[i].wanted);
        printf("\n");
}

static int compare_file(const char *file) {
        _cleanup_free_ char *text = NULL;
        if (!g_file_get_contents(file, &text, NULL, NULL)) {
                fprintf(stderr, "placement-compare: %s cannot be read\n", file);
                return 1;
        }
        _cleanup_(described_freep) Described *described = must_read(file, text);
        Run optimum = {};
        printf("%s\n", file);
        if (run_solver(described, &optimum) <= OPTIMUM_TOO_LONG)
                tell_run("optimum", &optimum);
        for (Rule rule = 0; rule < RULE_COUNT; rule++) {
                Run run = run_rule(described, rule);
                tell_run(rule_name(rule), &run);
        }
        return 0;
}

static void compare_years(unsigned seeds) {
        for (unsigned seed = 1; seed <= seeds; seed++) {
                printf("\nyear %u\n| rule | VMs that came | gave up | GPU hours had | highest priority | "
                       "mean wait, h | of 4 and 8 GPUs, h | failovers | at once |\n"
                       "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n", seed);
                for (Rule rule = 0; rule < RULE_COUNT; rule++) {
                        Year year = {};
                        if (year_run(rule, seed, &year) < 0)
                                g_error("out of memory");
                        printf("| %s | %u | %u | %.2f %% | %.2f %% | %.2f | %.2f | %u | %.1f %% |\n", rule_name(rule),
                               year.came, year.gave_up, 100 * year.had_hours / year.wanted_hours,
                               100 * year.had_first / year.wanted_first, year.wait_hours / year.came,
                               year.n_large > 0 ? year.wait_large / year.n_large : 0.0, year.failovers,
                               share(year.at_once, year.failovers));
                        (void) fflush(stdout);
                }
        }
}

static int make(char **words, int n) {
        unsigned shape = n == 2 ? (unsigned) atoi(words[0]) : 0;
        if (shape < 1 || shape > SHAPES_COUNT) {
                fprintf(stderr, "usage: placement-compare --make SHAPE SEED; shapes are 1 to %d\n", SHAPES_COUNT);
                return 2;
        }
        char *text = instance_make(shapes + shape - 1, (uint32_t) atoi(words[1]));
        fputs(text, stdout);
        g_free(text);
        return 0;
}

typedef enum Mode {
        MODE_SHAPES,
        MODE_MAKE = 'm',
        MODE_YEAR = 'y',
        MODE_GOAL = 'g',
        MODE_MORE = 'M',
} Mode;

static int compare_shapes(unsigned only, unsigned seeds) {
        int status = 0;
        Sum ours;
        for (unsigned i = 0; i < SHAPES_COUNT && status == 0; i++)
                if (only == 0 || only == i + 1)
                        status = compare_shape(shapes + i, seeds, &ours);
        return status;
}

int main(int argc, char **argv) {
        static const struct option known[] = {
                { "seeds", required_argument, NULL, 'n' },     { "shape", required_argument, NULL, 's' },
                { "make", no_argument, NULL, MODE_MAKE },      { "year", no_argument, NULL, MODE_YEAR },
                { "goal", no_argument, NULL, MODE_GOAL },      { "more", no_argument, NULL, MODE_MORE },
                {},
        };
        unsigned seeds = 0, shape = 0;
        Mode mode = MODE_SHAPES;
        for (int c; (c = getopt_long(argc, argv, "", known, NULL)) >= 0;) {
                if (c == '?')
                        return 2;
                if (c == 'n')
                        seeds = (unsigned) atoi(optarg);
                else if (c == 's')
                        shape = (unsigned) atoi(optarg);
                else
                        mode = (Mode) c;
        }
        int status = 0;
        switch (mode) {
        case MODE_MAKE:
                return make(argv + optind, argc - optind);
        case MODE_GOAL:
                return compare_with_goal(seeds ? seeds : GOAL_SEEDS);
        case MODE_MORE:
                compare_all_with_more(seeds ? seeds : GOAL_SEEDS);
                return 0;
        case MODE_YEAR:
                compare_years(seeds ? seeds : 1);
                return 0;
        case MODE_SHAPES:
                break;
        }
        for (int i = optind; i < argc; i++)
                status |= compare_file(argv[i]);
        return optind < argc ? status : compare_shapes(shape, seeds ? seeds : 20);
}
