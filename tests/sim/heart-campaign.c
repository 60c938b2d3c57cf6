/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "heart-campaign.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char *const mutant_names[MUTANT_COUNT] = {
#define MUTANT_NAME(number, name) [MUTANT_##number] = name,
        MUTANTS(MUTANT_NAME)
#undef MUTANT_NAME
};

const char *heart_mutant_name(int mutant) {
        return mutant_names[mutant];
}

int heart_mutant_find(const char *name) {
        for (int i = 0; i < MUTANT_COUNT; i++)
                if (strcmp(mutant_names[i], name) == 0)
                        return i;
        return -1;
}

static double real_seconds(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void add(HeartSums *sums, const Heart *heart) {
        uint64_t most_us = sums->visits.measured_most_us;
        uint64_t *to = (uint64_t *) &sums->visits;
        const uint64_t *from = (const uint64_t *) &heart->judge.visits;
        for (size_t i = 0; i < sizeof(sums->visits) / sizeof(uint64_t); i++)
                to[i] += from[i];
        if (heart->judge.visits.measured_most_us > most_us)
                most_us = heart->judge.visits.measured_most_us;
        sums->visits.measured_most_us = most_us;
        sums->visits.messages += heart->network.n_sent;
        sums->visits.lost_messages += heart->network.n_lost;
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                sums->troubles[i] += heart->weather.count[i];
        sums->worlds++;
        sums->steps += heart->n_steps;
        sums->mended += heart->n_mended;
        sums->virtual_us += heart->time.now_us;
        sums->mark = heart->time.mark;
}

static void tell_failure(const HeartOptions *o, const Heart *heart, FILE *to) {
        fprintf(to, "# seed %" PRIu64 " %s\n# the last of what happened:\n", o->seed, heart->time.broken);
        sim_tell_last(&heart->time);
        fprintf(to, "# again: gpupool-sim --seed %" PRIu64 " --steps %" PRIu64 " --nodes %u --vms %u --gpus %u "
                "--profile %s%s%s --trace\n", o->seed, o->steps, heart->options.nodes, heart->options.vms,
                heart->options.gpus, heart->options.fast ? "fast" : "default", o->mutant >= 0 ? " --mutant " : "",
                o->mutant >= 0 ? mutant_names[o->mutant] : "");
}

/* "at 7.0 s: P1: ..." */
static void note_promise(const char *broken, char ret[static 4]) {
        const char *promise = strstr(broken, ": P");
        g_strlcpy(ret, promise ? promise + 2 : "", 3);
}

bool heart_campaign_run(const HeartOptions *options, HeartSums *sums, FILE *tell) {
        double begun = real_seconds();
        _cleanup_(heart_freep) Heart *heart = heart_new(options);
        heart_run(heart);
        add(sums, heart);
        sums->seconds += real_seconds() - begun;
        bool kept = !heart->time.broken;
        sums->violations += !kept;
        if (!kept)
                note_promise(heart->time.broken, sums->promise);
        if (!kept && tell)
                tell_failure(options, heart, tell);
        return kept;
}
