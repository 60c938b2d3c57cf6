/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* On whose side of the door a GPU is: what is asked of gpupool-bind, when, and what its answers lead to. */

#include <glib.h>

#include "core/binding.h"
#include "world-builder.h"

#define SECOND UINT64_C(1000000)

/* Node a with four GPUs in one pool, and VMs that are assigned to it. */
typedef struct Stage {
        WorldBuilder *w;
        Runner runner;
        Bindings bindings;
        uint64_t now_us, wake_us;
        const char *sentence;
        bool facts_are_old;             /* nothing is read any more */
} Stage;

static Stage *stage_free(Stage *s) {
        runner_clear(&s->runner);
        bindings_clear(&s->bindings);
        (void) world_builder_free(s->w);
        g_free(s);
        return NULL;
}
DEFINE_CLEANUP(Stage *, stage_free);
#define STAGE _cleanup_(stage_freep) Stage *

static const World *look(Stage *s) {
        NodeFacts *host = facts_of(s->w, "a");
        for (size_t i = 0; i < host->n_gpus && !s->facts_are_old; i++)
                host->gpus[i].read_us = host->gpus[i].holders_us = s->now_us;
        const World *world = world_now(s->w);
        g_assert_cmpint(runner_follow(&s->runner, world, true), ==, 0);
        g_assert_cmpint(bindings_follow(&s->bindings, world, &s->runner), ==, 0);
        return world;
}

static PciAddress at(Stage *s, size_t gpu) {
        return gpu_of(s->w, "a", gpu)->address;
}

static Binding *binding_of(Stage *s, size_t gpu) {
        return bindings_find(&s->bindings, at(s, gpu));
}

static Run *run_of(Stage *s, const char *vm) {
        return (Run *) runner_find(&s->runner, &vm_named(s->w, vm)->id);
}

static void has_driver(Stage *s, size_t gpu, const char *driver) {
        g_assert_cmpint(text_set(&gpu_of(s->w, "a", gpu)->driver, driver), ==, 0);
}

static Stage *stage_of(const char *driver) {
        Stage *s = g_new0(Stage, 1);
        s->w = world_of(1);
        with_gpus(s->w, "a", 4);
        pool_of(s->w, "training", "a");
        for (size_t i = 0; i < 4; i++)
                has_driver(s, i, driver);
        vm_of(s->w, "bert", "training", 1);
        vm_of(s->w, "llama", "training", 1);
        s->now_us = 100 * SECOND;
        (void) look(s);
        return s;
}

static void assign(Stage *s, const char *vm, const char *gpus) {
        runs(s->w, vm, "a", gpus);
        vm_named(s->w, vm)->assignment.phase = ASSIGNMENT_STARTING;
        vm_named(s->w, vm)->assignment.ran = false;
}

static void is_assigned(Stage *s, const char *vm, const char *gpus) {
        assign(s, vm, gpus);
        (void) look(s);
}

static void claims(Stage *s, const char *vm, const char *gpus) {
        is_assigned(s, vm, gpus);
        bindings_claim(&s->bindings, vm_named(s->w, vm));
}

static BindingClaim claim_state(Stage *s, const char *name) {
        const Vm *vm = vm_named(s->w, name);
        s->wake_us = UINT64_MAX;
        return bindings_claim_state(&s->bindings, world_now(s->w), &vm->id, vm->epoch, s->now_us, &s->wake_us,
                                    &s->sentence);
}

/* The next question is this one, and is under way. */
static void asks(Stage *s, size_t gpu, BindVerb verb) {
        const Binding *next = bindings_next(&s->bindings, look(s), s->now_us, &s->wake_us);
        g_assert_nonnull(next);
        g_assert_true(pci_address_equal(next->gpu.address, at(s, gpu)));
        g_assert_cmpstr(bind_verb_to_text(next->verb), ==, bind_verb_to_text(verb));
}

static void asks_nothing(Stage *s) {
        const Binding *next = bindings_next(&s->bindings, look(s), s->now_us, &s->wake_us);
        g_assert_cmpstr(next ? bind_verb_to_text(next->verb) : NULL, ==, NULL);
}

static void answers(Stage *s, size_t gpu, BindVerb verb, BindResult result) {
        bool on_vfio = result == BIND_DONE ? verb != BIND_GIVE : verb != BIND_TAKE;
        has_driver(s, gpu, on_vfio ? "vfio-pci" : "nvidia");
        g_assert_cmpint(bindings_answer(&s->bindings, at(s, gpu), verb, result, result == BIND_DONE ? NULL : "oh",
                                        s->now_us), ==, 0);
        (void) look(s);
}

static void is_quarantined(Stage *s, size_t gpu, QuarantineCause cause) {
        Binding *binding = bindings_next_quarantine(&s->bindings);
        g_assert_nonnull(binding);
        g_assert_true(pci_address_equal(binding->gpu.address, at(s, gpu)));
        g_assert_cmpint(binding->cause, ==, cause);
        g_assert_nonnull(binding->reason);
        quarantined(s->w, "a", gpu);
        s->w->registry->quarantines.items[0].cause = cause;
        (void) look(s);
        g_assert_null(bindings_next_quarantine(&s->bindings));
}

static void is_released(Stage *s) {
        free(s->w->registry->quarantines.items[0].sentence);
        array_remove(&s->w->registry->quarantines, 0);
}

/* Its VM has it, and runs. */
static void is_taken(Stage *s, const char *vm, size_t gpu) {
        g_autofree char *which = g_strdup_printf("%zu", gpu);
        claims(s, vm, which);
        asks(s, gpu, BIND_TAKE);
        answers(s, gpu, BIND_TAKE, BIND_DONE);
        g_assert_cmpint(claim_state(s, vm), ==, BINDING_CLAIM_DONE);
        run_of(s, vm)->started = true;
}

static void ends(Stage *s, const char *vm) {
        run_of(s, vm)->ending = run_of(s, vm)->vacated = true;
}

/* What the registry takes out, once the end is reported. */
static void is_assigned_no_more(Stage *s, const char *vm) {
        Run *run = run_of(s, vm);
        run->end_reported = true;
        run->process = RUN_PROCESS_DEAD;
        assignment_clear(&vm_named(s->w, vm)->assignment);
}

static void test_a_gpu_goes_to_its_vm_and_back_to_the_host(void) {
        STAGE s = stage_of("nvidia");
        asks_nothing(s);
        claims(s, "bert", "1");
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
        asks(s, 1, BIND_TAKE);
        asks_nothing(s);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
        answers(s, 1, BIND_TAKE, BIND_DONE);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_DONE);
        run_of(s, "bert")->started = true;
        asks_nothing(s);
        ends(s, "bert");
        asks(s, 1, BIND_INSPECT);
        answers(s, 1, BIND_INSPECT, BIND_DONE);
        asks(s, 1, BIND_GIVE);
        answers(s, 1, BIND_GIVE, BIND_DONE);
        asks_nothing(s);
        g_assert_cmpint(binding_of(s, 1)->state, ==, BINDING_FREE);
}

static void test_nothing_is_touched_before_the_process_is_dead(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        run_of(s, "bert")->ending = true;
        asks_nothing(s);
        run_of(s, "bert")->end_reported = true;
        asks_nothing(s);
        run_of(s, "bert")->vacated = true;
        asks(s, 0, BIND_INSPECT);
}

static void test_the_return_does_not_wait_for_the_report(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        g_assert_nonnull(run_of(s, "bert"));
        asks(s, 0, BIND_INSPECT);
}

static void test_the_next_vm_waits_for_the_inspection_and_the_host_is_left_out(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 2);
        ends(s, "bert");
        asks(s, 2, BIND_INSPECT);
        is_assigned_no_more(s, "bert");
        claims(s, "llama", "2");
        asks_nothing(s);
        g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_WAITS);
        answers(s, 2, BIND_INSPECT, BIND_DONE);
        g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_WAITS);
        asks(s, 2, BIND_TAKE);
        answers(s, 2, BIND_TAKE, BIND_DONE);
        g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_DONE);
}

static void test_a_vm_that_starts_anew_on_the_same_gpu_waits_for_the_inspection_too(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 2);
        ends(s, "bert");
        is_assigned_no_more(s, "bert");
        (void) look(s);
        vm_named(s->w, "bert")->epoch++;
        claims(s, "bert", "2");
        asks(s, 2, BIND_INSPECT);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
}

static void test_a_gpu_that_fails_its_inspection_is_quarantined_and_the_next_vm_goes_elsewhere(void) {
        static const struct {
                BindResult result;
                QuarantineCause cause;
        } rows[] = { { BIND_BAD_CONFIG, QUARANTINE_CONFIG_UNREADABLE }, { BIND_BAD_RESET, QUARANTINE_RESET_FAILED },
                     { BIND_BAD_LINK, QUARANTINE_UNFIT }, { BIND_BAD_BARS, QUARANTINE_UNFIT } };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                STAGE s = stage_of("nvidia");
                is_taken(s, "bert", 0);
                ends(s, "bert");
                asks(s, 0, BIND_INSPECT);
                is_assigned_no_more(s, "bert");
                claims(s, "llama", "0");
                answers(s, 0, BIND_INSPECT, rows[i].result);
                /* Not before everybody knows: it would be placed here again. */
                g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_WAITS);
                is_quarantined(s, 0, rows[i].cause);
                s->now_us += BINDING_TELL_US;
                g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_FAILED);
                g_assert_nonnull(s->sentence);
                s->now_us += 3600 * SECOND;
                asks_nothing(s);
                /* Released, it must pass first. */
                is_released(s);
                asks(s, 0, BIND_INSPECT);
        }
}

/* As on a node that lags behind: it follows both at once. */
static void test_a_gpu_that_is_released_before_its_quarantine_was_seen_here_is_inspected_again(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_BAD_LINK);
        is_assigned_no_more(s, "bert");
        Binding *binding = bindings_next_quarantine(&s->bindings);
        g_assert_nonnull(binding);
        binding->quarantining = true;
        bindings_quarantine_told(&s->bindings, &binding_of(s, 0)->gpu);
        asks_nothing(s);
        g_assert_cmpuint(s->wake_us, ==, s->now_us + BINDING_PAUSE_FIRST_US);
        s->now_us = s->wake_us;
        claims(s, "llama", "0");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_TAKE);
        answers(s, 0, BIND_TAKE, BIND_DONE);
        g_assert_cmpint(claim_state(s, "llama"), ==, BINDING_CLAIM_DONE);
}

static void test_by_hand_in_quarantine_it_goes_back_to_the_host_all_the_same(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        quarantined(s->w, "a", 0);
        s->w->registry->quarantines.items[0].cause = QUARANTINE_BY_HAND;
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_BAD_CONFIG);
        /* It is in quarantine already, so nobody is told, and it is not asked again all the time. */
        g_assert_null(bindings_next_quarantine(&s->bindings));
        asks_nothing(s);
        s->now_us += BINDING_PAUSE_FIRST_US;
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
}

static void test_a_gpu_that_hangs_is_stuck_and_quarantined_and_others_go_on(void) {
        STAGE s = stage_of("nvidia");
        claims(s, "bert", "0");
        asks(s, 0, BIND_TAKE);
        g_assert_cmpint(bindings_overdue(&s->bindings, at(s, 0), BIND_TAKE), ==, 0);
        (void) look(s);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
        is_quarantined(s, 0, QUARANTINE_STUCK);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        g_assert_nonnull(binding_of(s, 0)->stuck);
        is_taken(s, "llama", 1);
        /* Nothing more is asked of it, released or not, until it comes back; then it belongs to nobody. */
        is_released(s);
        s->now_us += 3600 * SECOND;
        asks_nothing(s);
        ends(s, "bert");
        is_assigned_no_more(s, "bert");
        answers(s, 0, BIND_TAKE, BIND_DONE);
        g_assert_null(binding_of(s, 0)->stuck);
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
}

static void test_an_inspection_that_comes_back_late_counts_for_nothing(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        g_assert_cmpint(bindings_overdue(&s->bindings, at(s, 0), BIND_INSPECT), ==, 0);
        is_quarantined(s, 0, QUARANTINE_STUCK);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);
        is_released(s);
        asks(s, 0, BIND_INSPECT);
}

static void test_a_gpu_that_is_held_fails_the_claim_soon_and_is_tried_again_later_each_time(void) {
        static const BindResult results[] = { BIND_HELD, BIND_BUSY, BIND_REFUSED, BIND_OTHER_CARD, BIND_FAILED,
                                              BIND_UNAVAILABLE };
        for (size_t i = 0; i < ELEMENTS(results); i++) {
                STAGE s = stage_of("nvidia");
                uint64_t pause_us = BINDING_PAUSE_FIRST_US;
                bool is_half_way = results[i] == BIND_FAILED || results[i] == BIND_UNAVAILABLE;
                claims(s, "bert", "0");
                for (unsigned round = 0; round < 9; round++) {
                        asks(s, 0, BIND_TAKE);
                        answers(s, 0, BIND_TAKE, results[i]);
                        g_assert_cmpstr(binding_of(s, 0)->trouble, ==, "oh");
                        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
                        g_assert_cmpuint(s->wake_us, ==, s->now_us + BINDING_TELL_US);
                        s->now_us += BINDING_TELL_US;
                        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
                        g_assert_cmpstr(s->sentence, ==, "oh");
                        bindings_claim(&s->bindings, vm_named(s->w, "bert"));
                        asks_nothing(s);
                        g_assert_cmpuint(s->wake_us, ==, s->now_us - BINDING_TELL_US + pause_us);
                        s->now_us = s->wake_us;
                        if (is_half_way) {
                                asks(s, 0, BIND_INSPECT);
                                answers(s, 0, BIND_INSPECT, BIND_DONE);
                        }
                        pause_us = pause_us * 2 < BINDING_PAUSE_MOST_US ? pause_us * 2 : BINDING_PAUSE_MOST_US;
                }
                g_assert_null(bindings_next_quarantine(&s->bindings));
                asks(s, 0, BIND_TAKE);
                g_assert_null(binding_of(s, 0)->trouble);
                answers(s, 0, BIND_TAKE, BIND_DONE);
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_DONE);
        }
}

static void test_where_nobody_wants_it_the_trouble_is_forgotten_with_its_time(void) {
        STAGE s = stage_of("nvidia");
        claims(s, "bert", "0");
        asks(s, 0, BIND_TAKE);
        answers(s, 0, BIND_TAKE, BIND_HELD);
        ends(s, "bert");
        is_assigned_no_more(s, "bert");
        asks_nothing(s);
        g_assert_nonnull(binding_of(s, 0)->trouble);
        s->now_us += BINDING_PAUSE_FIRST_US;
        asks_nothing(s);
        g_assert_null(binding_of(s, 0)->trouble);
}

static void test_a_service_that_starts_takes_what_is_on_vfio_pci_for_dirty_unless_its_vm_runs(void) {
        STAGE s = stage_of("nvidia");
        bindings_clear(&s->bindings);
        has_driver(s, 0, "vfio-pci");
        has_driver(s, 1, "vfio-pci");
        runs(s->w, "bert", "a", "1");
        g_assert_cmpint(runner_follow(&s->runner, world_now(s->w), true), ==, 0);
        run_of(s, "bert")->started = true;
        asks(s, 0, BIND_INSPECT);
        asks_nothing(s);
        g_assert_cmpint(binding_of(s, 1)->state, ==, BINDING_TAKEN);
        ends(s, "bert");
        asks(s, 1, BIND_INSPECT);
}

static void test_one_whose_serial_is_not_read_yet_is_of_its_pool(void) {
        STAGE s = stage_of("nvidia");
        pool_named(s->w, "training")->after_use = AFTER_USE_VFIO;
        bindings_clear(&s->bindings);
        GpuIdentity *seen = &gpu_of(s->w, "a", 0)->identity, known = *seen;
        strcpy(known.serial, "4711");
        pool_remove(pool_named(s->w, "training"), seen);
        g_assert_cmpint(pool_add(pool_named(s->w, "training"), &known), ==, 0);
        has_driver(s, 0, "vfio-pci");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);                        /* it stays where its pool wants it */
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_FREE);
        *seen = known;
        (void) look(s);
        g_assert_true(gpu_identity_equal(&binding_of(s, 0)->gpu, &known));
        *seen->serial = 'x';                    /* another card */
        asks_nothing(s);
        claims(s, "bert", "0");
        g_assert_cmpint(binding_of(s, 0)->parked, ==, false);
}

static void test_a_gpu_of_no_pool_is_left_alone_whatever_driver_it_has(void) {
        STAGE s = stage_of("nvidia");
        bindings_clear(&s->bindings);
        pool_remove(pool_named(s->w, "training"), &gpu_of(s->w, "a", 3)->identity);
        has_driver(s, 3, "vfio-pci");
        asks_nothing(s);
        /* Once it is a pool's, nobody knows who had it. */
        g_assert_cmpint(pool_add(pool_named(s->w, "training"), &gpu_of(s->w, "a", 3)->identity), ==, 0);
        asks(s, 3, BIND_INSPECT);
}

static void test_by_the_pools_setting_it_is_parked_and_goes_back_when_that_changes(void) {
        STAGE s = stage_of("nvidia");
        pool_named(s->w, "training")->after_use = AFTER_USE_VFIO;
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_FREE);
        is_assigned_no_more(s, "bert");
        /* Inspected once is enough. */
        claims(s, "llama", "0");
        asks(s, 0, BIND_TAKE);
        answers(s, 0, BIND_TAKE, BIND_DONE);
        ends(s, "llama");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);
        pool_named(s->w, "training")->after_use = AFTER_USE_HOST;
        asks(s, 0, BIND_GIVE);
}

static void test_only_gpus_of_a_vm_that_may_have_lost_one_are_looked_at_again(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        is_taken(s, "llama", 1);
        run_of(s, "bert")->odd_since_us = s->now_us;
        for (size_t i = 0; i < 4; i++)
                g_assert_cmpint(binding_is_odd(binding_of(s, i), &s->runner), ==, i == 0);
        run_of(s, "bert")->busy = true;
        g_assert_false(binding_is_odd(binding_of(s, 0), &s->runner));
        run_of(s, "bert")->busy = false;
        run_of(s, "bert")->ending = true;
        g_assert_false(binding_is_odd(binding_of(s, 0), &s->runner));
}

/* ---- takes that are broken off */

static void test_what_an_earlier_service_was_taking_goes_back(void) {
        STAGE s = stage_of("nvidia");
        bindings_clear(&s->bindings);
        asks_nothing(s);                        /* gpupool-bind is still at work */
        has_driver(s, 0, "vfio-pci");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
        answers(s, 0, BIND_GIVE, BIND_DONE);
        s->now_us += SECOND;
        asks_nothing(s);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_FREE);
}

static void test_what_an_administrator_keeps_on_vfio_pci_is_given_back_once(void) {
        STAGE s = stage_of("nvidia");
        has_driver(s, 0, "vfio-pci");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
        g_assert_cmpint(bindings_answer(&s->bindings, at(s, 0), BIND_GIVE, BIND_DONE, NULL, s->now_us), ==, 0);
        s->now_us += SECOND;
        asks_nothing(s);
        has_driver(s, 0, "nvidia");
        asks_nothing(s);
        has_driver(s, 0, "vfio-pci");
        asks(s, 0, BIND_INSPECT);
}

static void test_facts_that_are_older_than_the_return_do_not_begin_it_anew(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
        s->facts_are_old = true;
        s->now_us += SECOND;
        g_assert_cmpint(bindings_answer(&s->bindings, at(s, 0), BIND_GIVE, BIND_DONE, NULL, s->now_us), ==, 0);
        asks_nothing(s);
        g_assert_true(binding_of(s, 0)->given);
}

static void test_a_gpu_that_a_take_left_without_a_driver_goes_back(void) {
        static const BindResult results[] = { BIND_FAILED, BIND_UNAVAILABLE };
        for (size_t i = 0; i < ELEMENTS(results); i++) {
                STAGE s = stage_of("nvidia");
                claims(s, "bert", "0");
                asks(s, 0, BIND_TAKE);
                answers(s, 0, BIND_TAKE, results[i]);
                has_driver(s, 0, NULL);
                ends(s, "bert");
                is_assigned_no_more(s, "bert");
                asks_nothing(s);
                s->now_us += BINDING_PAUSE_FIRST_US;
                asks(s, 0, BIND_INSPECT);
                answers(s, 0, BIND_INSPECT, BIND_DONE);
                asks(s, 0, BIND_GIVE);
                answers(s, 0, BIND_GIVE, BIND_DONE);
                s->now_us += SECOND;
                asks_nothing(s);
        }
}

static void test_a_gpu_without_a_driver_when_the_service_starts_is_given_back(void) {
        STAGE s = stage_of("nvidia");
        bindings_clear(&s->bindings);
        for (size_t i = 0; i < 4; i++)
                has_driver(s, i, NULL);
        gpu_of(s->w, "a", 1)->boot_vga = true;
        g_assert_cmpint(text_set(&gpu_of(s->w, "a", 2)->unreadable, "config"), ==, 0);
        pool_remove(pool_named(s->w, "training"), &gpu_of(s->w, "a", 3)->identity);
        asks(s, 0, BIND_GIVE);
        asks_nothing(s);
        g_assert_cmpint(bindings_answer(&s->bindings, at(s, 0), BIND_GIVE, BIND_DONE, NULL, s->now_us), ==, 0);
        s->now_us += SECOND;
        asks_nothing(s);
}

/* ---- what somebody else makes use of meanwhile */

static void is_parked(Stage *s, const char *vm, size_t gpu) {
        pool_named(s->w, "training")->after_use = AFTER_USE_VFIO;
        is_taken(s, vm, gpu);
        ends(s, vm);
        asks(s, gpu, BIND_INSPECT);
        answers(s, gpu, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);
        is_assigned_no_more(s, vm);
        (void) look(s);
        g_assert_true(binding_of(s, gpu)->parked);
}

static void holds(Stage *s, size_t gpu, bool through_vfio) {
        GpuHolder holder = { .pid = 4711, .through_vfio = through_vfio };
        g_assert_cmpint(gpu_facts_add_holder(gpu_of(s->w, "a", gpu), holder), ==, 0);
}

static void lets_go(Stage *s, size_t gpu) {
        gpu_facts_clear_holders(gpu_of(s->w, "a", gpu));
}

static void test_a_parked_gpu_that_somebody_else_has_is_inspected_before_the_next_vm(void) {
        STAGE s = stage_of("nvidia");
        is_parked(s, "bert", 0);
        claims(s, "llama", "0");
        asks(s, 0, BIND_TAKE);
        g_assert_cmpint(bindings_answer(&s->bindings, at(s, 0), BIND_TAKE, BIND_HELD, "qemu has it", s->now_us), ==, 0);
        s->now_us += BINDING_PAUSE_FIRST_US;
        bindings_claim(&s->bindings, vm_named(s->w, "llama"));
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        bindings_claim(&s->bindings, vm_named(s->w, "llama"));
        asks(s, 0, BIND_TAKE);
}

static void test_an_inspected_gpu_that_somebody_else_has_before_it_goes_back_is_inspected_anew(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
        answers(s, 0, BIND_GIVE, BIND_HELD);
        s->now_us += BINDING_PAUSE_FIRST_US;
        asks(s, 0, BIND_INSPECT);
}

static void test_a_gpu_of_the_host_that_is_held_there_is_tried_again_without_inspection(void) {
        STAGE s = stage_of("nvidia");
        claims(s, "bert", "0");
        asks(s, 0, BIND_TAKE);
        answers(s, 0, BIND_TAKE, BIND_HELD);
        s->now_us += BINDING_PAUSE_FIRST_US;
        bindings_claim(&s->bindings, vm_named(s->w, "bert"));
        asks(s, 0, BIND_TAKE);
}

static void test_that_somebody_else_had_a_parked_gpu_between_two_vms_is_noticed(void) {
        STAGE s = stage_of("nvidia");
        is_parked(s, "bert", 0);
        holds(s, 0, false);                     /* no VM */
        asks_nothing(s);
        lets_go(s, 0);
        holds(s, 0, true);
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_HELD);
        lets_go(s, 0);
        asks_nothing(s);
        s->now_us += BINDING_PAUSE_FIRST_US;
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks_nothing(s);
        g_assert_true(binding_of(s, 0)->parked);
}

/* As the host read them before; else each return would begin anew. */
static void test_facts_that_are_older_than_the_inspection_show_the_vm_before_it(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        holds(s, 0, true);
        (void) look(s);
        ends(s, "bert");
        s->facts_are_old = true;
        s->now_us += SECOND;
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_DONE);
        asks(s, 0, BIND_GIVE);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_CLEAN);
}

static void test_a_parked_gpu_that_the_host_took_back_is_inspected_when_it_comes_to_vfio_pci_again(void) {
        STAGE s = stage_of("nvidia");
        is_parked(s, "bert", 0);
        has_driver(s, 0, "nvidia");
        asks_nothing(s);
        g_assert_false(binding_of(s, 0)->parked);
        has_driver(s, 0, "vfio-pci");
        claims(s, "llama", "0");
        asks(s, 0, BIND_INSPECT);
}

static void test_a_claim_of_several_fails_with_the_first_and_the_others_come_back(void) {
        STAGE s = stage_of("nvidia");
        vm_named(s->w, "bert")->count = 2;
        claims(s, "bert", "0 1");
        asks(s, 0, BIND_TAKE);
        asks(s, 1, BIND_TAKE);
        answers(s, 1, BIND_TAKE, BIND_DONE);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
        answers(s, 0, BIND_TAKE, BIND_FAILED);
        s->now_us += BINDING_TELL_US;
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        ends(s, "bert");
        asks(s, 1, BIND_INSPECT);
}

static void test_a_gpu_that_is_pulled_fails_the_claim_and_its_late_answer_is_nobodys(void) {
        STAGE s = stage_of("nvidia");
        claims(s, "bert", "3");
        asks(s, 3, BIND_TAKE);
        PciAddress gpu = at(s, 3);
        unplugged(s->w, "a", 3);
        (void) look(s);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        g_assert_cmpint(bindings_answer(&s->bindings, gpu, BIND_TAKE, BIND_FAILED, NULL, s->now_us), ==, 0);
        (void) look(s);
        g_assert_null(bindings_find(&s->bindings, gpu));
        asks_nothing(s);
}

static void test_another_card_in_the_slot_begins_anew(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        ends(s, "bert");
        asks(s, 0, BIND_INSPECT);
        answers(s, 0, BIND_INSPECT, BIND_BAD_RESET);
        has_driver(s, 0, "nvidia");
        gpu_of(s->w, "a", 0)->identity.device++;
        asks_nothing(s);
        g_assert_null(bindings_next_quarantine(&s->bindings));
        g_assert_null(binding_of(s, 0)->trouble);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_FREE);
}

/* gpupool-bind holds it against what is there when it acts. */
static void test_the_card_that_is_meant_is_told_with_the_serial_that_either_side_knows(void) {
        static const struct {
                const char *assigned, *seen, *told;
        } rows[] = {
                { "4711", "4711", "4711" },
                { "", "4711", "4711" },         /* it was put into its pool when its serial could not be read */
                { "", "", "" },
        };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                STAGE s = stage_of("nvidia");
                GpuIdentity *seen = &gpu_of(s->w, "a", 2)->identity;
                strcpy(seen->serial, rows[i].assigned);
                is_assigned(s, "bert", "2");
                strcpy(seen->serial, rows[i].seen);
                (void) look(s);
                bindings_claim(&s->bindings, vm_named(s->w, "bert"));
                asks(s, 2, BIND_TAKE);
                const GpuIdentity *told = &binding_of(s, 2)->wanted_card;
                g_assert_cmpstr(told->serial, ==, rows[i].told);
                g_assert_true(gpu_identity_equal(told, seen));
        }
}

/* Also where this service knew it before: the card may have been replaced since. */
static void test_nothing_is_taken_before_it_is_known_to_be_the_card_that_is_meant(void) {
        for (unsigned known_before = 0; known_before < 2; known_before++) {
                STAGE s = stage_of("nvidia");
                GpuIdentity *seen = &gpu_of(s->w, "a", 1)->identity;
                strcpy(seen->serial, "4711");
                if (known_before)
                        (void) look(s);
                assign(s, "bert", "1");
                *seen->serial = '\0';
                (void) look(s);
                bindings_claim(&s->bindings, vm_named(s->w, "bert"));
                asks_nothing(s);
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
                g_assert_cmpuint(s->wake_us, ==, s->now_us + BINDING_UNSURE_US);
                s->now_us += BINDING_UNSURE_US - 1;
                asks_nothing(s);
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
                s->now_us++;
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
                g_assert_nonnull(strstr(s->sentence, "gpupool-probe"));
                strcpy(seen->serial, "4711");
                asks(s, 1, BIND_TAKE);
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
                answers(s, 1, BIND_TAKE, BIND_DONE);
                g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_DONE);
        }
}

static void test_how_long_a_card_is_not_known_counts_from_the_claim_on(void) {
        STAGE s = stage_of("nvidia");
        GpuIdentity *seen = &gpu_of(s->w, "a", 1)->identity;
        strcpy(seen->serial, "4711");
        assign(s, "bert", "1");
        *seen->serial = '\0';
        (void) look(s);
        bindings_claim(&s->bindings, vm_named(s->w, "bert"));
        asks_nothing(s);
        s->now_us += BINDING_UNSURE_US;
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        run_of(s, "bert")->ending = true;
        asks_nothing(s);
        run_of(s, "bert")->ending = false;
        s->now_us += SECOND;
        bindings_claim(&s->bindings, vm_named(s->w, "bert"));
        asks_nothing(s);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_WAITS);
}

static void test_where_another_card_was_found_the_claim_fails_and_the_next_look_begins_anew(void) {
        STAGE s = stage_of("nvidia");
        strcpy(gpu_of(s->w, "a", 0)->identity.serial, "4711");
        claims(s, "bert", "0");
        asks(s, 0, BIND_TAKE);
        answers(s, 0, BIND_TAKE, BIND_OTHER_CARD);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_FREE);
        g_assert_null(bindings_next_quarantine(&s->bindings));
        s->now_us += BINDING_TELL_US;
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        strcpy(gpu_of(s->w, "a", 0)->identity.serial, "4712");
        asks_nothing(s);
        g_assert_null(binding_of(s, 0)->trouble);
        g_assert_cmpint(claim_state(s, "bert"), ==, BINDING_CLAIM_FAILED);
        is_assigned_no_more(s, "bert");
        is_taken(s, "llama", 0);
        g_assert_cmpstr(binding_of(s, 0)->wanted_card.serial, ==, "4712");
}

/* The registry's word about the card that was there before is on its way when the next one fails. */
static void test_what_becomes_of_a_quarantine_is_about_the_card_that_it_was_of(void) {
        STAGE s = stage_of("nvidia");
        GpuIdentity first = {};
        for (unsigned card = 0; card < 2; card++) {
                strcpy(gpu_of(s->w, "a", 0)->identity.serial, card == 0 ? "4711" : "4712");
                has_driver(s, 0, "vfio-pci");
                pool_remove(pool_named(s->w, "training"), &gpu_of(s->w, "a", 0)->identity);
                g_assert_cmpint(pool_add(pool_named(s->w, "training"), &gpu_of(s->w, "a", 0)->identity), ==, 0);
                if (card == 0)
                        bindings_clear(&s->bindings);
                asks(s, 0, BIND_INSPECT);
                answers(s, 0, BIND_INSPECT, BIND_BAD_LINK);
                Binding *binding = bindings_next_quarantine(&s->bindings);
                g_assert_nonnull(binding);
                binding->quarantining = true;
                first = card == 0 ? binding->gpu : first;
        }
        Binding *second = binding_of(s, 0);
        bindings_quarantine_told(&s->bindings, &first);
        g_assert_cmpint(bindings_quarantine_refused(&s->bindings, &first, s->now_us), ==, 0);
        bindings_quarantine_untold(&s->bindings, &first);
        g_assert_true(second->to_quarantine && second->quarantining);
        g_assert_null(second->trouble);
        bindings_quarantine_untold(&s->bindings, &second->gpu);
        g_assert_true(second->to_quarantine && !second->quarantining);
        second->quarantining = true;
        g_assert_cmpint(bindings_quarantine_refused(&s->bindings, &second->gpu, s->now_us), ==, 0);
        g_assert_false(second->to_quarantine || second->quarantining);
        g_assert_nonnull(second->trouble);
}

static void test_companions_move_with_the_gpu_and_strangers_stay(void) {
        STAGE s = stage_of("nvidia");
        PciFunction sound = { .address = at(s, 0), .class = 0x040300, .same_slot = true },
                    stranger = { .address = at(s, 0), .class = 0x020000 };
        sound.address.function = 1;
        stranger.address.device = 7;
        g_assert_cmpint(gpu_facts_add_function(gpu_of(s->w, "a", 0), sound), ==, 0);
        g_assert_cmpint(gpu_facts_add_function(gpu_of(s->w, "a", 0), stranger), ==, 0);
        claims(s, "bert", "0");
        asks(s, 0, BIND_TAKE);
        const Binding *binding = binding_of(s, 0);
        g_assert_cmpuint(binding->n_functions, ==, 2);
        g_assert_true(pci_address_equal(binding->functions[0], at(s, 0)));
        g_assert_cmpuint(binding->functions[1].function, ==, 1);
}

static void test_an_answer_that_was_not_asked_for_changes_nothing(void) {
        STAGE s = stage_of("nvidia");
        is_taken(s, "bert", 0);
        answers(s, 0, BIND_GIVE, BIND_DONE);
        answers(s, 0, BIND_INSPECT, BIND_BAD_RESET);
        g_assert_cmpint(bindings_overdue(&s->bindings, at(s, 0), BIND_TAKE), ==, 0);
        g_assert_cmpint(binding_of(s, 0)->state, ==, BINDING_TAKEN);
        g_assert_null(bindings_next_quarantine(&s->bindings));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/binding/" #name, test_##name)
        TEST(a_gpu_goes_to_its_vm_and_back_to_the_host);
        TEST(nothing_is_touched_before_the_process_is_dead);
        TEST(the_return_does_not_wait_for_the_report);
        TEST(the_next_vm_waits_for_the_inspection_and_the_host_is_left_out);
        TEST(a_vm_that_starts_anew_on_the_same_gpu_waits_for_the_inspection_too);
        TEST(a_gpu_that_fails_its_inspection_is_quarantined_and_the_next_vm_goes_elsewhere);
        TEST(a_gpu_that_is_released_before_its_quarantine_was_seen_here_is_inspected_again);
        TEST(by_hand_in_quarantine_it_goes_back_to_the_host_all_the_same);
        TEST(a_gpu_that_hangs_is_stuck_and_quarantined_and_others_go_on);
        TEST(an_inspection_that_comes_back_late_counts_for_nothing);
        TEST(a_gpu_that_is_held_fails_the_claim_soon_and_is_tried_again_later_each_time);
        TEST(where_nobody_wants_it_the_trouble_is_forgotten_with_its_time);
        TEST(a_service_that_starts_takes_what_is_on_vfio_pci_for_dirty_unless_its_vm_runs);
        TEST(one_whose_serial_is_not_read_yet_is_of_its_pool);
        TEST(a_gpu_of_no_pool_is_left_alone_whatever_driver_it_has);
        TEST(by_the_pools_setting_it_is_parked_and_goes_back_when_that_changes);
        TEST(only_gpus_of_a_vm_that_may_have_lost_one_are_looked_at_again);
        TEST(what_an_earlier_service_was_taking_goes_back);
        TEST(what_an_administrator_keeps_on_vfio_pci_is_given_back_once);
        TEST(facts_that_are_older_than_the_return_do_not_begin_it_anew);
        TEST(a_gpu_that_a_take_left_without_a_driver_goes_back);
        TEST(a_gpu_without_a_driver_when_the_service_starts_is_given_back);
        TEST(a_parked_gpu_that_somebody_else_has_is_inspected_before_the_next_vm);
        TEST(an_inspected_gpu_that_somebody_else_has_before_it_goes_back_is_inspected_anew);
        TEST(a_gpu_of_the_host_that_is_held_there_is_tried_again_without_inspection);
        TEST(that_somebody_else_had_a_parked_gpu_between_two_vms_is_noticed);
        TEST(facts_that_are_older_than_the_inspection_show_the_vm_before_it);
        TEST(a_parked_gpu_that_the_host_took_back_is_inspected_when_it_comes_to_vfio_pci_again);
        TEST(a_claim_of_several_fails_with_the_first_and_the_others_come_back);
        TEST(a_gpu_that_is_pulled_fails_the_claim_and_its_late_answer_is_nobodys);
        TEST(another_card_in_the_slot_begins_anew);
        TEST(the_card_that_is_meant_is_told_with_the_serial_that_either_side_knows);
        TEST(nothing_is_taken_before_it_is_known_to_be_the_card_that_is_meant);
        TEST(how_long_a_card_is_not_known_counts_from_the_claim_on);
        TEST(where_another_card_was_found_the_claim_fails_and_the_next_look_begins_anew);
        TEST(what_becomes_of_a_quarantine_is_about_the_card_that_it_was_of);
        TEST(companions_move_with_the_gpu_and_strangers_stay);
        TEST(an_answer_that_was_not_asked_for_changes_nothing);
#undef TEST
        return g_test_run();
}
