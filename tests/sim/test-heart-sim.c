/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The heart under everything that can go wrong (gpupool-sim does single worlds, and tells them):
 *
 *      test-heart-sim          as many worlds as a minute has room for; GPUPOOL_TEST_LONG=1: a hundred million steps
 */

#include <inttypes.h>
#include <string.h>

#include "heart-campaign.h"

#define STEPS 100000U
#define SEEDS_MOST 200U                 /* within BUDGET_S */
#define SEEDS_LEAST 12U                 /* however slow the machine is */
#define SEEDS_LONG 1000U
#define LEAST_LONG 100000000U           /* steps */
#define BUDGET_S 45.0

static HeartOptions options_of(uint64_t seed, uint64_t steps) {
        return (HeartOptions) { .seed = seed, .steps = steps, .mutant = -1 };
}

static uint64_t mark_of(uint64_t seed) {
        HeartSums sums = {};
        HeartOptions options = options_of(seed, 30000);
        (void) heart_campaign_run(&options, &sums, stderr);
        return sums.mark;
}

static void test_a_seed_is_a_history(void) {
        uint64_t first = mark_of(7), other = mark_of(8);
        g_assert_cmpuint(first, !=, other);
        g_assert_cmpuint(mark_of(7), ==, first);
}

/* Or it would prove nothing. */
static void check_visits(const HeartSums *sums) {
        const HeartVisits *v = &sums->visits;
        uint64_t n = sums->worlds;
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                if (sums->troubles[i] == 0)
                        g_error("there were never %s", heart_trouble_names[i]);
        g_assert_cmpuint(v->starts, >, 20 * n);
        g_assert_cmpuint(v->failovers, >, 3 * n);
        g_assert_cmpuint(v->losses, >, 3 * n);
        g_assert_cmpuint(v->returns, >, 3 * n);
        g_assert_cmpuint(v->lease_kills, >, 2 * n);
        g_assert_cmpuint(v->holds, >, 0);
        g_assert_cmpuint(v->windows, >, 0);
        g_assert_cmpuint(v->writes_done, >, 50 * n);
        g_assert_cmpuint(v->freezes, >, 0);
        g_assert_cmpuint(v->drains, >, 0);
        g_assert_cmpuint(v->confirmed, >, 0);
        g_assert_cmpuint(v->rejoined, >, 2 * n);
        g_assert_cmpuint(v->measured, >, n);
        g_assert_cmpuint(sums->mended, >, 2 * n);
}

static void tell(const HeartSums *sums) {
        const HeartVisits *v = &sums->visits;
        g_test_message("%" PRIu64 " worlds, %" PRIu64 " steps, %.0f a second; all was mended %" PRIu64 " times",
                       sums->worlds, sums->steps, (double) sums->steps / sums->seconds, sums->mended);
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                g_test_message("%s: %" PRIu64, heart_trouble_names[i], sums->troubles[i]);
        g_test_message("%" PRIu64 " starts, %" PRIu64 " failovers, %" PRIu64 " nodes lost, %" PRIu64 " came back; %"
                       PRIu64 " times a guard ended VMs, %" PRIu64 " times it stopped them; %" PRIu64
                       " documented windows",
                       v->starts, v->failovers, v->losses, v->returns, v->lease_kills, v->holds, v->windows);
        g_test_message("a host fails and nothing else: %" PRIu64 " VMs, %.2f s on average, %.2f s at most", v->measured,
                       (double) v->measured_us / (double) (v->measured + 1) / (double) SECOND,
                       (double) v->measured_most_us / (double) SECOND);
}

static void test_whatever_goes_wrong_no_promise_is_broken(void) {
        bool is_long = g_getenv("GPUPOOL_TEST_LONG") != NULL;
        uint64_t most = is_long ? SEEDS_LONG : SEEDS_MOST;
        HeartSums sums = {};
        for (uint64_t seed = 1; seed <= most && (is_long || seed <= SEEDS_LEAST || sums.seconds < BUDGET_S); seed++) {
                HeartOptions options = options_of(seed, STEPS);
                (void) heart_campaign_run(&options, &sums, stderr);
        }
        tell(&sums);
        g_assert_cmpuint(sums.violations, ==, 0);
        if (is_long)
                g_assert_cmpuint(sums.steps, >=, LEAST_LONG);
        if (sums.worlds >= SEEDS_MOST)
                check_visits(&sums);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/sim/heart/" #name, test_##name)
        TEST(a_seed_is_a_history);
        TEST(whatever_goes_wrong_no_promise_is_broken);
        return g_test_run();
}
