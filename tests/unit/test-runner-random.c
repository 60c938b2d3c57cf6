/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Random histories of one host (sim.h). After everything that happens P1 and P2 are held on what is true; once nothing
 * fails any more, every VM comes to what it is to be within a bounded time.
 *
 *      SEED=17 test-runner-random      one history, told
 *      SEEDS=100000 test-runner-random so many
 *      STEPS=3000                      longer ones */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sim.h"

#define SEEDS 2000U
#define STEPS 300U
#define CALM_US (300 * SECOND)

static uint64_t current_seed;
static const char *program;

/* Whatever ends the test: how to see it again. */
static void on_abort(int signal_number) {
        char line[512];
        int n = snprintf(line, sizeof(line), "# replay with: SEED=%" G_GUINT64_FORMAT " %s\n", current_seed, program);
        if (write(STDOUT_FILENO, line, (size_t) n) < 0)
                _exit(2);
        (void) signal(signal_number, SIG_DFL);
        (void) raise(signal_number);
}

static size_t random_process(Sim *sim) {
        unsigned n = sim->processes.n > 4 ? 4 : (unsigned) sim->processes.n;
        return n > 0 ? sim->processes.n - 1 - pick(sim, n) : SIZE_MAX;
}

static void something_goes_wrong(Sim *sim) {
        size_t process = random_process(sim);
        switch (pick(sim, 16)) {
        case 0:
                if (process != SIZE_MAX)
                        process_kill(sim, process, END_CRASHED);
                break;
        case 1:
                if (process != SIZE_MAX && sim->processes.items[process].ran)
                        process_kill(sim, process, END_GUEST_SHUTDOWN);
                break;
        case 2:
                if (process != SIZE_MAX)
                        process_kill(sim, process, END_DESTROYED);
                break;
        case 3:
        case 4:
                libvirt_hang(sim);
                break;
        case 5:
        case 6:
        case 7:
                libvirt_thaw(sim);
                break;
        case 8:
                libvirt_crash(sim);
                break;
        case 9:
                guard_crash(sim);
                break;
        case 10:
                guard_lose_link(sim);
                break;
        case 11:
        case 12:
                service_crash(sim);
                break;
        case 13:
                host_plug(sim, chance(sim, 60) ? (1U << SIM_GPUS) - 1 : sim->gpus & ~(1U << pick(sim, SIM_GPUS)));
                break;
        case 14:
                sim->storage_full = !sim->storage_full && chance(sim, 50);
                break;
        case 15:
                if (chance(sim, 20))
                        host_reboot(sim);
                break;
        }
}

static void somebody_wants_something(Sim *sim) {
        static const VmDesire desires[] = { VM_RUN, VM_RUN, VM_RUN, VM_RUN, VM_SHUTDOWN, VM_STOP, VM_RESTART };
        if (!sim->storage_full)
                admin_wants(sim, 1 + pick(sim, SIM_VMS), desires[pick(sim, ELEMENTS(desires))],
                            chance(sim, 50) ? 0 : between(sim, 1, 20000));
}

static void all_goes_well_from_now_on(Sim *sim, bool wanted[static SIM_VMS + 1]) {
        say(sim, "all goes well from now on");
        sim->calm = true;
        sim->storage_full = false;
        host_plug(sim, (1U << SIM_GPUS) - 1);
        libvirt_thaw(sim);
        for (unsigned vm = 1; vm <= SIM_VMS; vm++) {
                wanted[vm] = chance(sim, 70);
                admin_wants(sim, vm, wanted[vm] ? VM_RUN : VM_STOP, 0);
        }
}

static void check_vm(Sim *sim, unsigned vm, bool wanted) {
        const Vm *record = vm_told(&sim->c, vm);
        size_t process = process_of_vm(sim, vm, record->epoch);
        VmState expected = wanted ? VM_STATE_RUNNING : VM_STATE_STOPPED;
        if (vm_state(record) != expected)
                broken(sim, "VM %u is to be %s and is %s", vm, vm_state_to_text(expected),
                       vm_state_to_text(vm_state(record)));
        bool runs = process != SIZE_MAX && sim->processes.items[process].runs;
        if (wanted && !(runs && guard_has(sim, vm, record->epoch)))
                broken(sim, "VM %u is said to run and does not, or without the guard", vm);
        ARRAY_EACH(other, &sim->processes)
                if (other->alive && other->vm == vm && (!wanted || other->epoch != record->epoch))
                        broken(sim, "a process of VM %u epoch %" G_GUINT64_FORMAT " is left over", vm, other->epoch);
}

static void check_nothing_is_left_over(Sim *sim, const bool wanted[static SIM_VMS + 1]) {
        size_t n = 0;
        for (unsigned vm = 1; vm <= SIM_VMS; vm++) {
                check_vm(sim, vm, wanted[vm]);
                n += wanted[vm];
        }
        if (sim->held.n != n || sim->runner.runs.n != n)
                broken(sim, "the guard holds %zu, the runner has %zu, and %zu run", sim->held.n, sim->runner.runs.n, n);
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
        const char *text = g_getenv(variable);
        return text ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void run_history(uint64_t seed, bool told, unsigned *n_checked, unsigned *n_resumed, unsigned *n_ended) {
        uint64_t steps = number_from("STEPS", STEPS);
        _cleanup_(sim_freep) Sim *sim = sim_new(seed, told);
        bool wanted[SIM_VMS + 1] = {};
        current_seed = seed;
        for (unsigned vm = 1; vm <= SIM_VMS; vm++)
                admin_wants(sim, vm, VM_RUN, 0);
        for (uint64_t i = 0; i < steps; i++) {
                if (chance(sim, 8))
                        something_goes_wrong(sim);
                if (chance(sim, 3))
                        somebody_wants_something(sim);
                service_turn(sim);
                /* When nothing is to come, something must happen. */
                if (!sim_step(sim))
                        sim->now_us += SECOND;
        }
        assert_registry_is_sound(sim->c.registry);

        all_goes_well_from_now_on(sim, wanted);
        service_turn(sim);
        uint64_t until_us = sim->now_us + CALM_US;
        while (sim->now_us < until_us && sim_step(sim))
                ;
        check_nothing_is_left_over(sim, wanted);
        *n_checked += sim->n_checked;
        *n_resumed += sim->n_resumed;
        *n_ended += sim->n_ended;
}

static void test_whatever_goes_wrong_no_promise_is_broken(void) {
        unsigned n_checked = 0, n_resumed = 0, n_ended = 0;
        if (g_getenv("SEED")) {
                run_history(number_from("SEED", 0), true, &n_checked, &n_resumed, &n_ended);
                return;
        }
        uint64_t seeds = number_from("SEEDS", SEEDS);
        for (uint64_t seed = 1; seed <= seeds; seed++)
                run_history(seed, false, &n_checked, &n_resumed, &n_ended);
        g_test_message("%u steps, %u starts, %u ends", n_checked, n_resumed, n_ended);
        /* Or it would prove nothing. */
        g_assert_cmpuint(n_resumed, >, seeds);
        g_assert_cmpuint(n_ended, >, seeds);
}

int main(int argc, char **argv) {
        program = argv[0];
        (void) signal(SIGABRT, on_abort);
        (void) signal(SIGTRAP, on_abort);
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/runner/random/" #name, test_##name)
        TEST(whatever_goes_wrong_no_promise_is_broken);
        return g_test_run();
}
