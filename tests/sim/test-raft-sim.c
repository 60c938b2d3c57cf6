/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine and the registry of whole clusters under everything that can go wrong, in virtual time.
 *
 *      test-raft-sim                           a campaign; GPUPOOL_TEST_LONG=1: a long one
 *      test-raft-sim --seed N [--trace | --letters]            one history again, told; with every message
 *      test-raft-sim --seeds N [--first N] [--seconds N]       a campaign of another size
 */

#include <glib.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim-world.h"

#define SEEDS 150U
#define SEEDS_LONG 4000U
#define SECONDS 45U
#define FAILURES_MAX 10U                /* then a campaign has seen enough */

static struct {
        const char *program;
        uint64_t seed, first, seeds;
        unsigned seconds;
        bool has_seed;
        unsigned told;
        volatile uint64_t running;      /* for the handler of signals */
} options = { .first = 1, .seconds = SECONDS };

static void say_how_to_repeat(uint64_t seed) {
        fprintf(stderr, "# seed %" PRIu64 " failed; again, told: %s --seed %" PRIu64 " --seconds %u --trace\n", seed,
                options.program, seed, options.seconds);
}

/* A crash or an assertion in what is simulated. */
static void on_signal(int number) {
        say_how_to_repeat(options.running);
        (void) signal(number, SIG_DFL);
        (void) raise(number);
}

static void add_visits(SimVisits *sum, const SimVisits *more) {
        unsigned *to = (unsigned *) sum;
        const unsigned *from = (const unsigned *) more;
        for (size_t i = 0; i < sizeof(*sum) / sizeof(unsigned); i++)
                to[i] += from[i];
}

/* True if every promise was kept. */
static bool run_history(uint64_t seed, unsigned told, SimVisits *visits, uint64_t *ret_mark) {
        options.running = seed;
        _cleanup_(sim_world_freep) SimWorld *world = sim_world_new(seed, told);

        sim_world_run(world, options.seconds);
        add_visits(visits, &world->judge.visits);
        if (ret_mark)
                *ret_mark = world->time.mark;
        if (!world->time.broken)
                return true;
        fprintf(stderr, "# seed %" PRIu64 " %s\n", seed, world->time.broken);
        say_how_to_repeat(seed);
        return false;
}

static void tell_visits(const SimVisits *v) {
        g_test_message("%u leaders (%u alone), %u entries committed, %u replaced, %u snapshots, %u restored", v->leads,
                       v->lone_leads, v->committed, v->replaced, v->snapshots, v->restores);
        g_test_message("submissions: %u done, %u not done, %u unknown, %u refused, %u tried again, %u twice in history",
                       v->done, v->not_done, v->unknown, v->refused, v->repeated, v->repeated_in_history);
        g_test_message("confirmations: %u given, %u not; members: %u changes, %u not done, %u promotions, %u removals, "
                       "%u transfers, %u renewed", v->confirmed, v->not_confirmed, v->changes_done, v->changes_refused,
                       v->promotions, v->removals, v->transfers, v->wipes);
        g_test_message("troubles: %u crashes (all at once: %u), %u held, %u cuts, %u disks failed, %u hung", v->crashes,
                       v->all_crashed, v->holds, v->cuts, v->disk_errors, v->disk_stalls);
        g_test_message("a leader's write failed after its entry was sent: %u; a snapshot came during an own one: %u",
                       v->own_write_failed_after_send, v->install_while_taking);
}

static void test_a_seed_is_a_history(void) {
        SimVisits visits = {};
        uint64_t first, again, other;

        (void) run_history(7, 0, &visits, &first);
        (void) run_history(8, 0, &visits, &other);
        (void) run_history(7, 0, &visits, &again);
        g_assert_cmpuint(first, ==, again);
        g_assert_cmpuint(first, !=, other);
}

static void test_whatever_goes_wrong_no_promise_is_broken(void) {
        SimVisits visits = {};
        unsigned failed = 0;

        for (uint64_t i = 0; i < options.seeds && failed < FAILURES_MAX; i++)
                failed += !run_history(options.first + i, 0, &visits, NULL);
        tell_visits(&visits);
        g_assert_cmpuint(failed, ==, 0);
        if (options.seeds < SEEDS)
                return;
        /* Or it would prove nothing. */
        g_assert_cmpuint(visits.own_write_failed_after_send, >, 0);
        g_assert_cmpuint(visits.install_while_taking, >, 0);
        g_assert_cmpuint(visits.leads, >, 5 * options.seeds);
        g_assert_cmpuint(visits.done, >, 100 * options.seeds);
        g_assert_cmpuint(visits.confirmed, >, 100 * options.seeds);
        g_assert_cmpuint(visits.restores, >, options.seeds);
        g_assert_cmpuint(visits.replaced, >, 0);
        g_assert_cmpuint(visits.not_done, >, 0);
        g_assert_cmpuint(visits.unknown, >, 0);
        g_assert_cmpuint(visits.repeated_in_history, >, 0);
        g_assert_cmpuint(visits.lone_leads, >, 0);
        g_assert_cmpuint(visits.changes_done, >, options.seeds);
        g_assert_cmpuint(visits.promotions, >, 0);
        g_assert_cmpuint(visits.removals, >, 0);
        g_assert_cmpuint(visits.transfers, >, 0);
        g_assert_cmpuint(visits.wipes, >, 0);
        g_assert_cmpuint(visits.all_crashed, >, 0);
}

static int usage(void) {
        fprintf(stderr, "usage: test-raft-sim [--seed N [--trace | --letters]] [--seeds N] [--first N] "
                "[--seconds N]\n");
        return 2;
}

/* Takes its own options out of the row; the rest is GLib's. */
static int read_options(int *argc, char **argv) {
        int kept = 1;

        for (int i = 1; i < *argc; i++) {
                if (strcmp(argv[i], "--trace") == 0 || strcmp(argv[i], "--letters") == 0) {
                        options.told = argv[i][2] == 't' ? 1 : 2;
                        continue;
                }
                bool seed = strcmp(argv[i], "--seed") == 0, seconds = strcmp(argv[i], "--seconds") == 0;
                if (!seed && !seconds && strcmp(argv[i], "--seeds") != 0 && strcmp(argv[i], "--first") != 0) {
                        argv[kept++] = argv[i];
                        continue;
                }
                if (i + 1 == *argc)
                        return usage();
                uint64_t number = g_ascii_strtoull(argv[i + 1], NULL, 10);
                if (seed) {
                        options.has_seed = true;
                        options.seed = number;
                } else if (seconds) {
                        options.seconds = (unsigned) number;
                } else if (strcmp(argv[i], "--seeds") == 0) {
                        options.seeds = number;
                } else {
                        options.first = number;
                }
                i++;
        }
        argv[kept] = NULL;
        *argc = kept;
        return 0;
}

int main(int argc, char **argv) {
        static const int signals[] = { SIGABRT, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGALRM };

        options.program = argv[0];
        options.seeds = g_getenv("GPUPOOL_TEST_LONG") ? SEEDS_LONG : SEEDS;
        if (read_options(&argc, argv) != 0)
                return 2;
        for (size_t i = 0; i < ELEMENTS(signals); i++)
                (void) signal(signals[i], on_signal);
        if (options.has_seed) {
                SimVisits visits = {};
                return run_history(options.seed, options.told, &visits, NULL) ? 0 : 1;
        }
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/sim/raft/" #name, test_##name)
        TEST(a_seed_is_a_history);
        TEST(whatever_goes_wrong_no_promise_is_broken);
        return g_test_run();
}
