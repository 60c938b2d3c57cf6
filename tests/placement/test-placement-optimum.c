/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Our rule and others' beside what an exact solver finds. Arguments: the folder of instances that are kept. */

#include <glib.h>

#include "core/describe.h"
#include "instance.h"
#include "optimum.h"
#include "year.h"

#define SOLVER_SECONDS 60U
#define SEEDS 6U                        /* of each shape */
#define SEEDS_GOAL 20U
#define SEEDS_MORE 100U
#define NODES_QUICK 20U                 /* what all solvers do in a moment */

static const char *folder;

/* Kept instances of which our rule does not reach the optimum. Whoever makes it better takes them off the list. */
static const char *const behind[] = {
        "drawn-bound-many.cluster",
        "drawn-odd-pair-beside-sets.cluster",
        NULL,
};

/* What our rule reaches of the optimum's VMs, in per cent, over SEEDS instances of each shape: of the highest priority,
 * and of all. */
static const struct {
        double highest, all;
} reached[SHAPES_COUNT] = {
        { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 },
        { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 }, { 100, 100 },
};

/* An instance, tried on. */
typedef struct Trial {
        Described *described;
        Inventory *inventory;
        size_t *waiting;
        size_t n;
} Trial;

static void trial_clear(Trial *trial) {
        inventory_free(trial->inventory);
        described_free(trial->described);
        free(trial->waiting);
}

static Trial try_text(const char *name, const char *text) {
        Trial trial = {};
        _cleanup_free_ char *sentence = NULL;
        if (describe_read(text, &trial.described, &sentence) != DESCRIBE_READ)
                g_error("%s: %s", name, sentence);
        g_assert_cmpint(inventory_new(&trial.described->world, &trial.inventory), ==, 0);
        g_assert_cmpint(list_waiting(trial.inventory, &trial.waiting, &trial.n), ==, 0);
        return trial;
}

static Trial try_shape(const Shape *shape, uint32_t seed) {
        char *text = instance_make(shape, seed);
        Trial trial = try_text(shape->name, text);
        g_free(text);
        return trial;
}

static Optimum solve(const Trial *trial, const char *solver) {
        Optimum optimum = {};
        int r = optimum_find(trial->inventory, trial->waiting, trial->n, solver, SOLVER_SECONDS, &optimum);
        g_assert_cmpint(r, ==, OPTIMUM_FOUND);
        return optimum;
}

static bool can_solve(const char *solver) {
        if (optimum_has_solver(solver))
                return true;
        g_test_skip("the solver is not installed");
        return false;
}

/* > 0: @a runs more of the highest priority in which they differ. */
static int compare_counts(const ClassCount *a, const ClassCount *b, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (a[i].placed != b[i].placed)
                        return a[i].placed > b[i].placed ? 1 : -1;
        return 0;
}

static size_t place(Rule rule, const Trial *trial, ClassCount ret[static CLASSES_MAX]) {
        g_assert_cmpint(rule_place(rule, trial->inventory, trial->waiting, trial->n), ==, 0);
        return count_classes(trial->inventory, trial->waiting, trial->n, ret);
}

/* ---- kept instances */

static void read_expected(const char *name, const char *text, const ClassCount *classes, size_t n, uint32_t *ret) {
        const char *line = strstr(text, "# optimum ");
        if (!line)
                g_error("%s has no line \"# optimum PRIORITY:VMS ...\"", name);
        char *words = g_strndup(line + strlen("# optimum "), strcspn(line, "\n") - strlen("# optimum "));
        char **each = g_strsplit(words, " ", -1);
        g_assert_cmpuint(g_strv_length(each), ==, n);
        for (size_t i = 0; i < n; i++) {
                char *end;
                g_assert_cmpint(g_ascii_strtoll(each[i], &end, 10), ==, classes[i].priority);
                ret[i] = (uint32_t) g_ascii_strtoull(end + 1, NULL, 10);
        }
        g_strfreev(each);
        g_free(words);
}

static bool is_behind(const char *name) {
        for (size_t i = 0; behind[i]; i++)
                if (text_equal(behind[i], name))
                        return true;
        return false;
}

static void check_kept(const char *name) {
        char *path = g_build_filename(folder, name, NULL), *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        _cleanup_(trial_clear) Trial trial = try_text(name, text);
        Optimum optimum = solve(&trial, NULL);
        uint32_t expected[CLASSES_MAX] = {};
        read_expected(name, text, optimum.classes, optimum.n, expected);
        for (size_t i = 0; i < optimum.n; i++)
                if (optimum.classes[i].placed != expected[i])
                        g_error("%s: the solver finds %u VMs of priority %d", name, optimum.classes[i].placed,
                                optimum.classes[i].priority);
        ClassCount ours[CLASSES_MAX];
        size_t n = place(RULE_OURS, &trial, ours);
        bool reached_it = compare_counts(ours, optimum.classes, n) == 0;
        if (reached_it == is_behind(name)) {
                for (size_t i = 0; i < n; i++)
                        g_test_message("%s: %u of %u VMs of priority %d", name, ours[i].placed,
                                       optimum.classes[i].placed, ours[i].priority);
                if (reached_it)
                        g_test_message("%s reaches the optimum now: take it off the list", name);
                g_test_fail();
        }
        g_free(text);
        g_free(path);
}

static void test_kept_instances_run_as_many_as_can(void) {
        GDir *dir = g_dir_open(folder, 0, NULL);
        unsigned n = 0;
        g_assert_nonnull(dir);
        if (can_solve("cbc"))
                for (const char *name; (name = g_dir_read_name(dir)); n++)
                        check_kept(name);
        g_dir_close(dir);
        g_assert_true(n > 0 || !optimum_has_solver("cbc"));
}

/* ---- drawn instances */

static void test_two_solvers_find_the_same(void) {
        if (!can_solve("cbc") || !can_solve("glpsol"))
                return;
        for (size_t i = 0; i < SHAPES_COUNT; i++)
                for (uint32_t seed = 1; shapes[i].nodes <= NODES_QUICK && seed <= 2; seed++) {
                        _cleanup_(trial_clear) Trial trial = try_shape(shapes + i, seed);
                        Optimum cbc = solve(&trial, "cbc"), glpsol = solve(&trial, "glpsol");
                        g_assert_cmpuint(cbc.n, ==, glpsol.n);
                        if (compare_counts(cbc.classes, glpsol.classes, cbc.n) != 0)
                                g_error("%s, seed %u", shapes[i].name, seed);
                }
}

static bool bond_is_broken(const Tenant *a, const Tenant *b) {
        for (size_t i = 0; i < a->vm->n_affinity; i++) {
                if (!text_equal(a->vm->affinity[i].vm, b->vm->name) || a == b)
                        continue;
                if ((a->vm->affinity[i].kind == AFFINITY_APART) == (a->node == b->node))
                        return true;
        }
        return false;
}

/* Each has as many GPUs as it needs, all of one node, no set is cut, and who is bound is where it must be. */
static void check_places(const Inventory *inventory) {
        for (size_t i = 0; i < inventory->tenants.n; i++) {
                const Tenant *tenant = inventory->tenants.items + i;
                g_assert_cmpuint(tenant->n_held, ==, tenant->node == NOWHERE ? 0 : tenant->vm->count);
                for (size_t j = 0; j < tenant->n_held; j++) {
                        size_t gpu = inventory->held.items[tenant->first_held + j];
                        const RoomGpu *held = inventory->gpus.items + gpu;
                        g_assert_cmpuint(held->tenant, ==, i);
                        g_assert_cmpuint(inventory->rooms.items[held->room].node, ==, tenant->node);
                        g_assert_cmpuint(inventory->gpus.items[held->next_in_set].tenant, ==, i);
                }
                for (size_t j = 0; tenant->node != NOWHERE && j < inventory->tenants.n; j++)
                        g_assert_false(inventory->tenants.items[j].node != NOWHERE &&
                                       bond_is_broken(tenant, inventory->tenants.items + j));
        }
        ARRAY_EACH(pool, &inventory->pools)
                g_assert_true(pool->pool->max_in_use == 0 || pool->in_use <= pool->pool->max_in_use);
}

static void test_no_rule_breaks_a_hard_rule(void) {
        for (size_t i = 0; i < SHAPES_COUNT; i++)
                for (Rule rule = 0; rule < RULE_COUNT; rule++)
                        for (uint32_t seed = 1; seed <= SEEDS; seed++) {
                                _cleanup_(trial_clear) Trial trial = try_shape(shapes + i, seed);
                                ClassCount counts[CLASSES_MAX];
                                (void) place(rule, &trial, counts);
                                check_places(trial.inventory);
                        }
}

static void test_no_rule_surpasses_the_optimum(void) {
        if (!can_solve("cbc"))
                return;
        for (size_t i = 0; i < SHAPES_COUNT; i++)
                for (uint32_t seed = 1; shapes[i].nodes <= NODES_QUICK && seed <= SEEDS; seed++) {
                        _cleanup_(trial_clear) Trial asked = try_shape(shapes + i, seed);
                        Optimum optimum = solve(&asked, "cbc");
                        for (Rule rule = 0; rule < RULE_COUNT; rule++) {
                                _cleanup_(trial_clear) Trial trial = try_shape(shapes + i, seed);
                                ClassCount counts[CLASSES_MAX];
                                size_t n = place(rule, &trial, counts);
                                g_assert_cmpuint(n, ==, optimum.n);
                                if (compare_counts(counts, optimum.classes, n) > 0)
                                        g_error("%s surpasses it: %s, seed %u", rule_name(rule), shapes[i].name, seed);
                        }
                }
}

static void check_share(size_t shape) {
        double ours_highest = 0, ours_all = 0, highest = 0, all = 0;
        for (uint32_t seed = 1; seed <= (shapes[shape].nodes <= NODES_QUICK ? SEEDS : 2); seed++) {
                _cleanup_(trial_clear) Trial trial = try_shape(shapes + shape, seed);
                Optimum optimum = solve(&trial, "cbc");
                ClassCount ours[CLASSES_MAX];
                size_t n = place(RULE_OURS, &trial, ours);
                ours_highest += ours[0].placed;
                highest += optimum.classes[0].placed;
                for (size_t i = 0; i < n; i++) {
                        ours_all += ours[i].placed;
                        all += optimum.classes[i].placed;
                }
        }
        double share_highest = 100 * ours_highest / highest, share_all = 100 * ours_all / all;
        g_test_message("%s: %.1f %% of the highest priority, %.1f %% of all", shapes[shape].name, share_highest,
                       share_all);
        if (share_highest < reached[shape].highest || share_all < reached[shape].all)
                g_test_fail();
}

static void test_our_rule_reaches_what_it_did(void) {
        for (size_t i = 0; can_solve("cbc") && i < SHAPES_COUNT; i++)
                check_share(i);
}

static double share_of(size_t shape, uint32_t seed) {
        _cleanup_(trial_clear) Trial trial = try_shape(shapes + shape, seed);
        Optimum optimum = solve(&trial, "cbc");
        ClassCount ours[CLASSES_MAX];
        size_t n = place(RULE_OURS, &trial, ours);
        double most = weigh_classes(optimum.classes, optimum.n);
        return most > 0 ? weigh_classes(ours, n) / most : 1;
}

/* The goal, on a part of its instances; placement-compare --goal has all of them. */
static void test_the_goal_is_reached(void) {
        for (size_t i = GOAL_FIRST; can_solve("cbc") && i < SHAPES_COUNT; i++) {
                double sum = 0, worst = 1;
                for (uint32_t seed = 1; seed <= SEEDS_GOAL; seed++) {
                        double share = share_of(i, 10000 + seed);
                        sum += share;
                        worst = MIN(worst, share);
                }
                g_test_message("%s: %.2f %% on average, %.1f %% in the worst", shapes[i].name,
                               100 * sum / SEEDS_GOAL, 100 * worst);
                g_assert_cmpfloat(sum / SEEDS_GOAL, >=, 0.99);
                g_assert_cmpfloat(worst, >=, 0.90);
        }
}

/* Here it depends on who is let in of those that need as much (core/roster-exchange.c). */
static void test_the_goal_is_reached_where_the_first_pass_misses_it(void) {
        static const struct {
                size_t shape;
                uint32_t seed;
        } hard[] = {
                { 13, 744 }, { 14, 26 }, { 14, 80 }, { 14, 203 }, { 14, 299 }, { 14, 419 }, { 14, 428 }, { 14, 500 },
                { 14, 524 }, { 14, 750 }, { 14, 824 }, { 14, 831 }, { 14, 923 }, { 14, 960 },
        };
        for (size_t i = 0; can_solve("cbc") && i < ELEMENTS(hard); i++) {
                g_test_message("%s, seed %u", shapes[hard[i].shape].name, hard[i].seed);
                g_assert_cmpfloat(share_of(hard[i].shape, hard[i].seed), >=, 0.90);
        }
}

static void check_with_more(const Shape *shape, uint32_t seed) {
        char *text = instance_make(shape, seed);
        _cleanup_(trial_clear) Trial less = try_text(shape->name, text);
        ClassCount with_less[CLASSES_MAX], with_more[CLASSES_MAX];
        size_t n = place(RULE_OURS, &less, with_less);
        for (size_t i = 0; i < INSTANCE_MORE_COUNT; i++) {
                char *larger = instance_with_more(text, instance_more[i]);
                _cleanup_(trial_clear) Trial more = try_text(shape->name, larger);
                g_free(larger);
                g_assert_cmpuint(place(RULE_OURS, &more, with_more), ==, n);
                if (with_more[0].placed < with_less[0].placed)
                        g_error("%s, seed %u: %u VMs, %u with \"%s\"", shape->name, seed, with_less[0].placed,
                                with_more[0].placed, instance_more[i]);
        }
        g_free(text);
}

static void test_with_more_gpus_not_fewer_of_the_highest_priority_run(void) {
        for (size_t i = 0; i < SHAPES_COUNT; i++)
                for (uint32_t seed = 1; seed <= (shapes[i].nodes <= NODES_QUICK ? SEEDS_MORE : SEEDS); seed++)
                        check_with_more(shapes + i, seed);
}

static void test_an_instance_is_drawn_the_same_again(void) {
        for (size_t i = 0; i < SHAPES_COUNT; i++) {
                char *a = instance_make(shapes + i, 7), *b = instance_make(shapes + i, 7);
                char *c = instance_make(shapes + i, 8);
                g_assert_cmpstr(a, ==, b);
                g_assert_cmpstr(a, !=, c);
                g_free(a);
                g_free(b);
                g_free(c);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_assert_cmpint(argc, ==, 2);
        folder = argv[1];
        g_test_add_func("/placement/an instance is drawn the same again", test_an_instance_is_drawn_the_same_again);
        g_test_add_func("/placement/no rule breaks a hard rule", test_no_rule_breaks_a_hard_rule);
        g_test_add_func("/placement/two solvers find the same", test_two_solvers_find_the_same);
        g_test_add_func("/placement/no rule surpasses the optimum", test_no_rule_surpasses_the_optimum);
        g_test_add_func("/placement/kept instances run as many as can", test_kept_instances_run_as_many_as_can);
        g_test_add_func("/placement/with more GPUs not fewer of the highest priority run",
                        test_with_more_gpus_not_fewer_of_the_highest_priority_run);
        g_test_add_func("/placement/the goal is reached", test_the_goal_is_reached);
        g_test_add_func("/placement/the goal is reached where the first pass misses it",
                        test_the_goal_is_reached_where_the_first_pass_misses_it);
        g_test_add_func("/placement/our rule reaches what it did", test_our_rule_reaches_what_it_did);
        return g_test_run();
}
