/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each rule of core/mutant.h is switched off in turn, and the judge must notice within SEEDS_MOST worlds: or the clean
 * runs of test-heart-sim prove nothing. Which world noticed last time is written here, to begin with. */

#include <inttypes.h>
#include <string.h>

#include "heart-campaign.h"

#define SEEDS_MOST 150U
#define STEPS 100000U

typedef struct Case {
        int mutant;
        const char *promises;           /* one of these must be seen broken: or it is noticed by chance */
        uint64_t hint;                  /* a seed that noticed it when this was written */
} Case;

static const Case cases[] = {
        { MUTANT_LEASE_FROM_RECEIPT, "P1 P2", 10 },
        { MUTANT_NO_LEADER_WAIT, "P1 P2", 1 },
        { MUTANT_NO_INCARNATION_CHECK, "P1 P2", 3 },
        { MUTANT_RESUME_UNGUARDED, "P1 P2", 1 },
        { MUTANT_GRANT_UNCONFIRMED, "P1 P2", 4 },
        { MUTANT_NO_PERMIT, "P1 P2", 27 },
        { MUTANT_END_WITHOUT_WORD, "P1 P2", 1 },
        { MUTANT_THAW_FORGETS, "P1 P2", 7 },
        { MUTANT_FREE_BEFORE_DEATH, "P1 P2", 1 },
        { MUTANT_NO_WATCHDOG_PERIOD, "P1 P2", 7 },
        { MUTANT_NO_ROLLBACK, "P1 P2", 8 },
        { MUTANT_NO_EPOCH_CHECK, "P1 P2", 1 },
        { MUTANT_RETURN_UNPROVEN, "P1 P2", 6 },
        { MUTANT_NO_DRIFT, "P1 P2", 18 },
        { MUTANT_NO_KILL_TIME, "P1 P2", 12 },
        { MUTANT_GRANT_TO_CONDEMNED, "P1 P2", 44 },
        { MUTANT_GRANT_TO_LOST, "P1 P2", 23 },
        { MUTANT_ASK_UNGUARDED, "P1 P2", 14 },
        { MUTANT_GPU_TWICE, "P1 P2", 33 },
        { MUTANT_ASSIGN_TWICE, "P1 P2", 45 },
        { MUTANT_ASSIGN_TO_LOST, "P4 P5", 6 },
        { MUTANT_GUARD_DEADLINE_STAYS, "P1 P2", 8 },
        { MUTANT_LEASE_UNPROLONGED, "P4 P5", 4 },
        { MUTANT_DECIDE_ANYWHERE, "P1 P2", 8 },
        { MUTANT_SPARED_TOO_EARLY, "P1 P2", 23 },
        { MUTANT_START_AGAIN, "P1 P2", 23 },
        { MUTANT_GUARD_SLEEPS, "P1 P2", 6 },
        { MUTANT_GUARD_FORGETS, "P1 P2", 11 },
        { MUTANT_TURN_TIME, "P1 P2", 19 },
        { MUTANT_NO_CATCH_UP, "P1 P2", 23 },
        { MUTANT_NO_INSPECTION, "P1 P2", 1 },
        { MUTANT_NO_LOSS, "P4 P5", 1 },
};

static bool is_caught(const Case *wanted, uint64_t seed, HeartSums *sums) {
        HeartOptions options = { .seed = seed, .steps = STEPS, .mutant = wanted->mutant };
        return !heart_campaign_run(&options, sums, NULL) && *sums->promise && strstr(wanted->promises, sums->promise);
}

static void test_each_rule_is_missed(const void *data) {
        const Case *wanted = data;
        HeartSums sums = {};
        bool caught = is_caught(wanted, wanted->hint, &sums);
        for (uint64_t seed = 1; seed <= SEEDS_MOST && !caught; seed++)
                caught = is_caught(wanted, seed, &sums);
        g_test_message("%s: %s is seen broken in world %" PRIu64 ", after %" PRIu64 " steps",
                       heart_mutant_name(wanted->mutant), sums.promise, sums.worlds, sums.steps);
        g_assert_true(caught);
}

static void test_every_rule_that_can_be_switched_off_is_here(void) {
        bool known[MUTANT_COUNT] = {};
        G_STATIC_ASSERT(G_N_ELEMENTS(cases) >= 20);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                known[cases[i].mutant] = true;
        for (int i = 0; i < MUTANT_COUNT; i++)
                if (!known[i])
                        g_error("mutant %s is not in this test", heart_mutant_name(i));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/sim/mutants/every_rule_that_can_be_switched_off_is_here",
                        test_every_rule_that_can_be_switched_off_is_here);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *path = g_strdup_printf("/sim/mutants/%s", heart_mutant_name(cases[i].mutant));
                g_test_add_data_func(path, cases + i, test_each_rule_is_missed);
        }
        return g_test_run();
}
