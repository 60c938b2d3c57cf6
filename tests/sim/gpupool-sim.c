/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-sim: whole clusters under everything that can go wrong, in virtual time (heart.h has what is real in them).
 *
 *      gpupool-sim --seed 7 --steps 1000000 --nodes 5 --vms 12 --gpus 4
 *      gpupool-sim --seeds 1-200 --steps 100000                        one after the other
 *      gpupool-sim --seeds 1-50 --mutant no-permit                     with a rule of safety switched off, until caught
 *      gpupool-sim --seed 7 --trace                                    told, or --frames: with every frame
 *      gpupool-sim --placement lab.cluster     no simulation: who would run where (place-file.h)
 *
 * What is not given is drawn from the seed. Exit status 0: nothing was violated; 1: something was. */

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "heart-campaign.h"
#include "place-file.h"

#define STEPS 100000U

static HeartOptions running;            /* for the handler of signals */

static void on_signal(int number) {
        fprintf(stderr, "# seed %" PRIu64 " ended in signal %d\n", running.seed, number);
        if (heart_alive)
                sim_tell_last(&heart_alive->time);
        (void) signal(number, SIG_DFL);
        (void) raise(number);
}

static int usage(FILE *to, int status) {
        fprintf(to, "usage: gpupool-sim [--seed N | --seeds A-B] [--steps N] [--nodes N] [--vms N] [--gpus N]\n"
                "                   [--profile default|fast] [--mutant NAME] [--trace | --frames]\n"
                "       gpupool-sim --placement FILE\nmutants:");
        for (int i = 0; i < MUTANT_COUNT; i++)
                fprintf(to, " %s", heart_mutant_name(i));
        fprintf(to, "\n");
        return status;
}

static void tell(const HeartSums *sums) {
        const HeartVisits *v = &sums->visits;
        printf("steps            %" PRIu64 " in %.1f s, %.0f per second; %.0f s of virtual time, %" PRIu64 " frames (%"
               PRIu64 " lost)\n", sums->steps, sums->seconds, (double) sums->steps / sums->seconds,
               (double) sums->virtual_us / (double) SECOND, v->messages, v->lost_messages);
        printf("worlds           %" PRIu64 ", %" PRIu64 " times all was mended\n", sums->worlds, sums->mended);
        printf("faults           ");
        for (unsigned i = 0; i < TROUBLE_COUNT; i++)
                printf("%s%s %" PRIu64, i > 0 ? ", " : "", heart_trouble_names[i], sums->troubles[i]);
        printf("\nhistory          %" PRIu64 " entries; writes: %" PRIu64 " done, %" PRIu64 " refused, %" PRIu64
               " unknown; %" PRIu64 " moves, %" PRIu64 " preempted, %" PRIu64 " drains, %" PRIu64 " freezes, %" PRIu64
               " thaws, %" PRIu64 " nodes removed, %" PRIu64 " admitted\n", v->entries, v->writes_done,
               v->writes_refused, v->writes_unknown, v->conductor_moves, v->preemptions, v->drains, v->freezes,
               v->thaws, v->removed, v->rejoined);
        printf("VMs              %" PRIu64 " starts, %" PRIu64 " failovers; nodes lost %" PRIu64 " (not by lease %"
               PRIu64 "), returned %" PRIu64 "; leases that ended VMs %" PRIu64 ", that stopped them %" PRIu64
               "; watchdog resets %" PRIu64 "; documented windows %" PRIu64 "\n", v->starts, v->failovers, v->losses,
               v->confirmed, v->returns, v->lease_kills, v->holds, v->watchdog_resets, v->windows);
        printf("failover alone   %" PRIu64 " measured, mean %.2f s, most %.2f s\n", v->measured,
               v->measured ? (double) v->measured_us / (double) v->measured / (double) SECOND : 0.0,
               (double) v->measured_most_us / (double) SECOND);
        printf("violations       %" PRIu64 "\n", sums->violations);
}

static bool read_range(const char *text, uint64_t *ret_first, uint64_t *ret_last) {
        char *end;
        *ret_first = *ret_last = g_ascii_strtoull(text, &end, 10);
        if (*end == '-')
                *ret_last = g_ascii_strtoull(end + 1, &end, 10);
        return *end == 0 && *ret_first <= *ret_last;
}

int main(int argc, char **argv) {
        static const struct option known[] = {
                { "seed", required_argument, NULL, 's' },    { "seeds", required_argument, NULL, 's' },
                { "steps", required_argument, NULL, 'n' },   { "nodes", required_argument, NULL, 'o' },
                { "vms", required_argument, NULL, 'v' },     { "gpus", required_argument, NULL, 'g' },
                { "profile", required_argument, NULL, 'p' }, { "mutant", required_argument, NULL, 'm' },
                { "trace", no_argument, NULL, 't' },         { "frames", no_argument, NULL, 'f' },
                { "placement", required_argument, NULL, 'P' }, { "help", no_argument, NULL, 'h' },
                {},
        };
        static const int signals[] = { SIGABRT, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE };
        HeartOptions options = { .seed = 1, .steps = STEPS, .mutant = -1 };
        uint64_t first = 1, last = 1;
        HeartSums sums = {};

        for (int c; (c = getopt_long(argc, argv, "", known, NULL)) >= 0;) {
                switch (c) {
                case 's':
                        if (!read_range(optarg, &first, &last))
                                return usage(stderr, 2);
                        break;
                case 'n':
                        options.steps = g_ascii_strtoull(optarg, NULL, 10);
                        break;
                case 'o':
                        options.nodes = (unsigned) atoi(optarg);
                        break;
                case 'v':
                        options.vms = (unsigned) atoi(optarg);
                        break;
                case 'g':
                        options.gpus = (unsigned) atoi(optarg);
                        break;
                case 'p':
                        options.fast = strcmp(optarg, "fast") == 0;
                        options.fast_is_set = true;
                        break;
                case 'm':
                        options.mutant = heart_mutant_find(optarg);
                        if (options.mutant < 0)
                                return usage(stderr, 2);
                        break;
                case 't':
                        options.told = 1;
                        break;
                case 'f':
                        options.told = 2;
                        break;
                case 'P':
                        return place_file(optarg, stdout);
                case 'h':
                        return usage(stdout, 0);
                default:
                        return usage(stderr, 2);
                }
        }
        if (options.nodes > HEART_HOSTS_MAX || options.vms > HEART_VMS_MAX || options.gpus > HEART_GPUS_MAX)
                return usage(stderr, 2);
        for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
                (void) signal(signals[i], on_signal);
        for (options.seed = first; options.seed <= last; options.seed++) {
                running = options;
                if (!heart_campaign_run(&options, &sums, stderr) && options.mutant >= 0)
                        break;          /* it is caught */
        }
        if (first == last)
                printf("seed             %" PRIu64 ", trace %016" PRIx64 "\n", first, sums.mark);
        else
                printf("seeds            %" PRIu64 "-%" PRIu64 "\n", first, last);
        tell(&sums);
        return sums.violations > 0 ? 1 : 0;
}
