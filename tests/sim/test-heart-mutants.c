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
        uint64_t hint;                  /* a seed that noticed it when this was written */
} Case;

static const Case cases[] = {
        { MUTANT_LEASE_FROM_RECEIPT, 17 },
        { MUTANT_NO_LEADER_WAIT, 1 },
        { MUTANT_RESUME_UNGUARDED, 1 },
        { MUTANT_GRANT_UNCONFIRMED, 6 },
        { MUTANT_NO_PERMIT, 3 },
        { MUTANT_END_WITHOUT_WORD, 1 },
        { MUTANT_THAW_FORGETS, 1 },
        { MUTANT_FREE_BEFORE_DEATH, 1 },
        { MUTANT_NO_WATCHDOG_PERIOD, 8 },
        { MUTANT_NO_ROLLBACK, 6 },
        { MUTANT_RETURN_UNPROVEN, 3 },
        { MUTANT_NO_KILL_TIME, 7 },
        { MUTANT_GRANT_TO_CONDEMNED, 11 },
        { MUTANT_GPU_TWICE, 35 },
        { MUTANT_GUARD_DEADLINE_STAYS, 3 },
        { MUTANT_LEASE_UNPROLONGED, 4 },
        { MUTANT_DECIDE_ANYWHERE, 21 },
        { MUTANT_GUARD_SLEEPS, 4 },
        { MUTANT_TURN_TIME, 9 },
        { MUTANT_NO_LOSS, 1 },
};

/* Behind each of these stands another rule that alone is enough, or what they let happen is too rare to wait for. */
static const int second_lines[] = {
        MUTANT_NO_INCARNATION_CHECK,
        MUTANT_NO_EPOCH_CHECK,
        MUTANT_NO_DRIFT,
        MUTANT_START_AGAIN,
        MUTANT_SPARED_TOO_EARLY,
        MUTANT_GRANT_TO_LOST,
        MUTANT_ASK_UNGUARDED,
        MUTANT_ASSIGN_TWICE,
        MUTANT_ASSIGN_TO_LOST,
        MUTANT_NO_CATCH_UP,
};

static bool is_caught(int mutant, uint64_t seed, HeartSums *sums) {
        HeartOptions options = { .seed = seed, .steps = STEPS, .mutant = mutant };
        return !heart_campaign_run(&options, sums, NULL);
}

static void test_each_rule_is_missed(const void *data) {
        const Case *wanted = data;
        HeartSums sums = {};
        bool caught = is_caught(wanted->mutant, wanted->hint, &sums);
        for (uint64_t seed = 1; seed <= SEEDS_MOST && !caught; seed++)
                caught = is_caught(wanted->mutant, seed, &sums);
        g_test_message("%s: noticed in world %" PRIu64 ", after %" PRIu64 " steps", heart_mutant_name(wanted->mutant),
                       sums.worlds, sums.steps);
        g_assert_true(caught);
}

static void test_there_are_twenty_and_all_are_known(void) {
        bool known[MUTANT_COUNT] = {};
        g_assert_cmpuint(G_N_ELEMENTS(cases), >=, 20);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                known[cases[i].mutant] = true;
        for (size_t i = 0; i < G_N_ELEMENTS(second_lines); i++)
                known[second_lines[i]] = true;
        for (int i = 0; i < MUTANT_COUNT; i++)
                if (!known[i])
                        g_error("mutant %s is not in this test", heart_mutant_name(i));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/sim/mutants/there_are_twenty_and_all_are_known", test_there_are_twenty_and_all_are_known);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *path = g_strdup_printf("/sim/mutants/%s", heart_mutant_name(cases[i].mutant));
                g_test_add_data_func(path, cases + i, test_each_rule_is_missed);
        }
        return g_test_run();
}
