/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runner's claim, one step at a time: the happy path, and what a failure at each step leads to. How runs end:
 * test-runner-end.c. What happens when much goes wrong at once: test-runner-random.c. */

#include "runner-stage.h"

/* ---- the claim */

static void test_a_claim_goes_step_by_step(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId vm = VM(1);
        g_assert_cmpstr(runner_stage(&s->runner, &vm), ==, "binding");
        ASSERT_DOES(s, RUN_START);
        g_assert_cmpstr(runner_stage(&s->runner, &vm), ==, "guarding");
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_DOES(s, RUN_PERMIT);
        ASSERT_DOES(s, RUN_RESUME);
        g_assert_cmpstr(runner_stage(&s->runner, &vm), ==, "running");
        ASSERT_DOES(s, RUN_REPORT_RUNNING);
        ASSERT_RESTS(s);
}

static void test_a_step_is_taken_once_until_it_is_answered(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        ASSERT_RESTS(s);
        passes(s, 3600 * SECOND);
        ASSERT_RESTS(s);
        answers(s, RUN_ANSWER_DONE);
        ASSERT_TAKES(s, RUN_HOLD);
}

static void test_nothing_starts_before_libvirt_has_listed(void) {
        STAGE s = stage_of_an_assigned_vm();
        service_begins(s);
        guard_lists_nothing(s);
        ASSERT_RESTS(s);
        s->runner.hypervisor_usable = true;
        ASSERT_RESTS(s);
        libvirt_lists_nothing(s);
        ASSERT_TAKES(s, RUN_START);
}

static void test_nothing_starts_before_the_guard_has_listed(void) {
        STAGE s = stage_of_an_assigned_vm();
        service_begins(s);
        libvirt_lists_nothing(s);
        ASSERT_RESTS(s);
        s->runner.guard_usable = true;
        ASSERT_RESTS(s);
        guard_lists_nothing(s);
        ASSERT_TAKES(s, RUN_START);
}

static void test_nothing_runs_that_the_guard_does_not_hold(void) {
        static const RunAnswer not_held[] = { RUN_ANSWER_NOT_TRIED, RUN_ANSWER_UNKNOWN };
        for (size_t i = 0; i < ELEMENTS(not_held); i++) {
                STAGE s = stage_of_an_assigned_vm();
                claims_until(s, RUN_HOLD);
                ASSERT_TAKES(s, RUN_HOLD);
                answers(s, not_held[i]);
                ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
                passes(s, RUNNER_RETRY_US);
                ASSERT_TAKES(s, RUN_HOLD);
        }
}

static void test_nothing_runs_before_a_new_guard_has_listed(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        s->runner.guard_usable = true;
        ASSERT_RESTS(s);
        guard_lists_nothing(s);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_RESUME);
}

static void test_nothing_runs_without_permit(void) {
        static const RunAnswer not_permitted[] = { RUN_ANSWER_NOT_TRIED, RUN_ANSWER_UNKNOWN, RUN_ANSWER_FAILED };
        for (size_t i = 0; i < ELEMENTS(not_permitted); i++) {
                STAGE s = stage_of_an_assigned_vm();
                claims_until(s, RUN_PERMIT);
                ASSERT_TAKES(s, RUN_PERMIT);
                answers(s, not_permitted[i]);
                ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
                passes(s, RUNNER_RETRY_US);
                ASSERT_TAKES(s, RUN_PERMIT);
        }
}

static void test_nothing_runs_while_the_guard_is_away(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        runner_guard_lost(&s->runner);
        ASSERT_RESTS(s);
        /* The same guard is back, and still holds it. */
        guard_holds(s, 1, true);
        ASSERT_TAKES(s, RUN_RESUME);
}

static void test_what_a_new_guard_does_not_hold_does_not_run(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_RESUME);
}

static void test_a_resume_before_the_permit_does_not_make_it_run(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId vm = VM(1);
        claims_until(s, RUN_PERMIT);
        runner_domain_resumed(&s->runner, &vm, s->now_us);
        ASSERT_TAKES(s, RUN_PERMIT);
}

/* ---- failures of the claim, each undone and reported */

static void test_a_start_that_cannot_be_tried_is_tried_again(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        answers(s, RUN_ANSWER_NOT_TRIED);
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        passes(s, RUNNER_RETRY_US);
        ASSERT_TAKES(s, RUN_START);
}

static void test_a_failed_start_is_reported_once_libvirt_has_listed(void) {
        static const RunAnswer failures[] = { RUN_ANSWER_FAILED, RUN_ANSWER_UNKNOWN };
        for (size_t i = 0; i < ELEMENTS(failures); i++) {
                STAGE s = stage_of_an_assigned_vm();
                ASSERT_TAKES(s, RUN_START);
                answers_with(s, failures[i], "no room for its memory");
                passes(s, RUNNER_RETRY_US);
                ASSERT_RESTS(s);
                g_assert_true(s->runner.relist);
                libvirt_lists_nothing(s);
                g_assert_cmpstr(run_of(s)->sentence, ==, "no room for its memory");
                ASSERT_REPORTS(s, END_START_FAILED);
        }
}

static void test_a_listing_that_does_not_come_is_asked_for_again(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        s->runner.relist = false;
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        passes(s, RUNNER_RETRY_US);
        ASSERT_RESTS(s);
        g_assert_true(s->runner.relist);
}

static void test_what_a_failed_start_left_behind_is_destroyed_before_the_report(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        answers(s, RUN_ANSWER_UNKNOWN);
        passes(s, RUNNER_RETRY_US);
        sees_domain(s, 1, true);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_REPORTS(s, END_START_FAILED);
}

static void test_a_process_that_cannot_be_held_is_destroyed(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_HOLD);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_REPORTS(s, END_START_FAILED);
}

static void test_a_process_that_died_before_it_was_held_is_reported(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_HOLD);
        answers(s, RUN_ANSWER_STALE);
        libvirt_says_stopped(s, END_CRASHED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_REPORTS(s, END_CRASHED);
}

static void test_who_is_not_permitted_is_destroyed(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_PERMIT);
        ASSERT_TAKES(s, RUN_PERMIT);
        answers(s, RUN_ANSWER_STALE);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_resume_that_failed_is_undone(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        ASSERT_TAKES(s, RUN_RESUME);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_START_FAILED);
}

static void test_after_a_resume_that_may_come_true_the_guard_kills(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        ASSERT_TAKES(s, RUN_RESUME);
        answers(s, RUN_ANSWER_UNKNOWN);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_KILL);
        libvirt_says_stopped(s, END_CRASHED);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_START_FAILED);
}

static void test_a_report_is_repeated_until_it_is_taken(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_REPORT_RUNNING);
        for (int i = 0; i < 3; i++) {
                ASSERT_TAKES(s, RUN_REPORT_RUNNING);
                answers(s, RUN_ANSWER_NOT_TRIED);
                ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
                passes(s, RUNNER_RETRY_US);
        }
        ASSERT_DOES(s, RUN_REPORT_RUNNING);
        ASSERT_RESTS(s);
}

static void test_the_report_of_an_end_is_repeated_until_it_is_taken(void) {
        STAGE s = stage_of_a_running_vm();
        passes(s, 60 * SECOND);
        libvirt_says_stopped(s, END_CRASHED);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        for (int i = 0; i < 3; i++) {
                ASSERT_TAKES(s, RUN_REPORT_ENDED);
                g_assert_cmpuint(s->task.ran_ms, ==, 60000);    /* waiting is not running */
                answers(s, RUN_ANSWER_NOT_TRIED);
                ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
                passes(s, RUNNER_RETRY_US);
        }
        ASSERT_REPORTS(s, END_CRASHED);
}

static void test_a_report_that_the_registry_is_past_is_not_repeated(void) {
        STAGE s = stage_of_a_running_vm();
        libvirt_says_stopped(s, END_CRASHED);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_TAKES(s, RUN_REPORT_ENDED);
        ASSERT_DONE(tell_node(&s->c, 1, "a", 2, "boot-1"));
        answers(s, RUN_ANSWER_STALE);
        passes(s, RUNNER_RETRY_US);
        ASSERT_RESTS(s);
        g_assert_null(run_of(s));
}

/* ---- binding */

static Stage *stage_that_shows_binding(void) {
        Stage *s = stage_of_an_assigned_vm();
        s->shows_binding = true;
        return s;
}

static void test_gpus_are_bound_before_the_start_and_once(void) {
        STAGE s = stage_that_shows_binding();
        VmId vm = VM(1);
        ASSERT_TAKES(s, RUN_BIND);
        g_assert_cmpstr(runner_stage(&s->runner, &vm), ==, "binding");
        ASSERT_RESTS(s);
        answers(s, RUN_ANSWER_DONE);
        ASSERT_TAKES(s, RUN_START);
        answers(s, RUN_ANSWER_NOT_TRIED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_TAKES(s, RUN_START);
}

static void test_a_vm_whose_gpu_cannot_be_bound_ends_without_a_start_and_says_so(void) {
        static const RunAnswer failures[] = { RUN_ANSWER_FAILED, RUN_ANSWER_UNKNOWN, RUN_ANSWER_STALE };
        for (size_t i = 0; i < ELEMENTS(failures); i++) {
                STAGE s = stage_that_shows_binding();
                ASSERT_TAKES(s, RUN_BIND);
                answers_with(s, failures[i], "its driver hangs");
                passes(s, RUNNER_RETRY_US);
                ASSERT_TAKES(s, RUN_REPORT_ENDED);
                g_assert_cmpint(s->task.cause, ==, END_GPU_UNUSABLE);
                g_assert_cmpstr(s->task.sentence, ==, "its driver hangs");
                g_assert_true(run_of(s)->vacated);
        }
}

static void test_a_stop_does_not_wait_for_a_gpu_that_hangs(void) {
        STAGE s = stage_that_shows_binding();
        ASSERT_TAKES(s, RUN_BIND);
        RunTask hangs = s->task;
        is_to(s, VM_STOP, 0);
        ASSERT_REPORTS(s, END_REQUESTED);
        /* What comes late is nobody's. */
        g_assert_cmpint(runner_answer(&s->runner, &hangs.vm, hangs.epoch, RUN_BIND, RUN_ANSWER_DONE, NULL, s->now_us),
                        ==, 0);
        ASSERT_RESTS(s);
}

static void test_gpus_are_let_go_of_with_the_proven_death_and_not_before(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_RESTS(s);
        g_assert_false(run_of(s)->vacated);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        g_assert_true(run_of(s)->vacated);
        g_assert_false(run_of(s)->end_reported);
}

static void test_gpus_are_not_let_go_of_while_the_guard_says_that_it_lives(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_TAKES(s, RUN_RELEASE);
        g_assert_true(run_of(s)->vacated);
        answers(s, RUN_ANSWER_FAILED);
        g_assert_false(run_of(s)->vacated);
        process_dies(s);
        passes(s, RUNNER_RETRY_US);
        ASSERT_TAKES(s, RUN_RELEASE);
        g_assert_true(run_of(s)->vacated);
        guard_holds(s, 1, true);
        g_assert_false(run_of(s)->vacated);
}

/* ---- GPUs that are lost under their VM */

static void has_gpu(Stage *s, const char *driver, ConfigSpace config) {
        s->gpus[0].driver = (char *) driver;
        s->gpus[0].config = config;
}

static void assert_ends_for_want_of_its_gpu(Stage *s, const char *said) {
        ASSERT_TAKES(s, RUN_DESTROY);
        g_assert_cmpint(run_of(s)->cause, ==, END_GPU_LOST);
        g_assert_nonnull(strstr(run_of(s)->sentence, said));
}

static void test_a_gpu_that_is_pulled_under_its_vm_ends_it_though_nobody_tells(void) {
        STAGE s = stage_of_an_assigned_vm();
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        claims_until(s, RUN_STEP_COUNT);
        ASSERT_RESTS(s);
        has_gpu(s, NULL, CONFIG_READABLE);
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        passes(s, RUNNER_GPU_ODD_US);
        assert_ends_for_want_of_its_gpu(s, "removed");
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

/* The last function goes first, and until the VM lets go of it the GPU itself looks well. */
static void test_a_gpu_whose_sound_is_waited_for_first_is_being_removed_too(void) {
        STAGE s = stage_of_an_assigned_vm();
        PciFunction sound = { .address = s->gpus[0].address, .class = 0x040300, .driver = (char *) "vfio-pci",
                              .same_slot = true };
        sound.address.function = 1;
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        s->gpus[0].functions = &sound;
        s->gpus[0].n_functions = 1;
        claims_until(s, RUN_STEP_COUNT);
        ASSERT_RESTS(s);
        sound.driver = NULL;
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        passes(s, RUNNER_GPU_ODD_US);
        assert_ends_for_want_of_its_gpu(s, "removed");
        s->gpus[0].n_functions = 0;
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

/* One that nobody needs may be without a driver all the time, or come while the VM runs. */
static void test_a_function_that_was_never_on_vfio_pci_is_not_missed(void) {
        STAGE s = stage_of_an_assigned_vm();
        GpuHolder guest = { .pid = 1, .through_vfio = true };
        PciFunction sound = { .address = s->gpus[0].address, .class = 0x040300, .same_slot = true };
        sound.address.function = 1;
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        claims_until(s, RUN_STEP_COUNT);
        s->gpus[0].functions = &sound;
        s->gpus[0].n_functions = s->gpus[0].n_holders = 1;
        s->gpus[0].holders = &guest;
        ASSERT_RESTS(s);
        passes(s, RUNNER_GPU_ODD_US);
        ASSERT_RESTS(s);
        s->gpus[0].n_functions = s->gpus[0].n_holders = 0;
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

/* A service that was started anew meanwhile never saw it on vfio-pci; that the VM has it open says enough. */
static void test_a_gpu_that_was_pulled_before_the_service_came_ends_its_vm(void) {
        STAGE s = stage_of_a_running_vm();
        GpuHolder guest = { .pid = 1, .through_vfio = true };
        ASSERT_RESTS(s);
        s->gpus[0].holders = &guest;
        s->gpus[0].n_holders = 1;
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        passes(s, RUNNER_GPU_ODD_US);
        assert_ends_for_want_of_its_gpu(s, "removed");
        s->gpus[0].n_holders = 0;
}

static void test_a_gpu_that_fell_off_the_bus_ends_its_vm_but_a_reset_does_not(void) {
        STAGE s = stage_of_an_assigned_vm();
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        claims_until(s, RUN_STEP_COUNT);
        has_gpu(s, "vfio-pci", CONFIG_ALL_ONES);
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        passes(s, RUNNER_GPU_ODD_US - 1);
        ASSERT_RESTS(s);
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        ASSERT_RESTS(s);
        passes(s, RUNNER_GPU_ODD_US);
        ASSERT_RESTS(s);
        has_gpu(s, "vfio-pci", CONFIG_ALL_ONES);
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        passes(s, RUNNER_GPU_ODD_US);
        assert_ends_for_want_of_its_gpu(s, "all ones");
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

/* A reading may be long in coming, as behind a probe that is slow: the first may have met a reset. */
static void test_a_gpu_is_lost_by_two_readings_and_not_by_one_that_grew_old(void) {
        STAGE s = stage_of_an_assigned_vm();
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        claims_until(s, RUN_STEP_COUNT);
        has_gpu(s, "vfio-pci", CONFIG_ALL_ONES);
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        s->facts_are_old = true;
        s->gpus[0].read_us = s->now_us + RUNNER_GPU_ODD_US - 1;
        passes(s, 10 * RUNNER_GPU_ODD_US);
        ASSERT_RESTS(s);
        s->gpus[0].read_us++;
        assert_ends_for_want_of_its_gpu(s, "all ones");
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

static void test_a_gpu_that_reads_all_ones_and_then_hangs_is_lost(void) {
        STAGE s = stage_of_an_assigned_vm();
        has_gpu(s, "vfio-pci", CONFIG_READABLE);
        claims_until(s, RUN_STEP_COUNT);
        has_gpu(s, "vfio-pci", CONFIG_ALL_ONES);
        ASSERT_RESTS_FOR(s, RUNNER_GPU_ODD_US);
        s->facts_are_old = true;
        s->gpus[0].unreadable = (char *) "config";
        passes(s, RUNNER_GPU_ODD_US);
        assert_ends_for_want_of_its_gpu(s, "all ones");
        s->gpus[0].unreadable = NULL;
        has_gpu(s, NULL, CONFIG_UNKNOWN);
}

static void test_a_gpu_whose_driver_was_never_seen_to_be_vfio_pci_is_not_missed(void) {
        STAGE s = stage_of_a_running_vm();
        ASSERT_RESTS(s);
        g_assert_cmpuint(s->wake_us, ==, UINT64_MAX);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/runner/" #name, test_##name)
        TEST(a_claim_goes_step_by_step);
        TEST(a_step_is_taken_once_until_it_is_answered);
        TEST(gpus_are_bound_before_the_start_and_once);
        TEST(a_vm_whose_gpu_cannot_be_bound_ends_without_a_start_and_says_so);
        TEST(a_stop_does_not_wait_for_a_gpu_that_hangs);
        TEST(gpus_are_let_go_of_with_the_proven_death_and_not_before);
        TEST(gpus_are_not_let_go_of_while_the_guard_says_that_it_lives);
        TEST(a_gpu_that_is_pulled_under_its_vm_ends_it_though_nobody_tells);
        TEST(a_gpu_whose_sound_is_waited_for_first_is_being_removed_too);
        TEST(a_function_that_was_never_on_vfio_pci_is_not_missed);
        TEST(a_gpu_that_was_pulled_before_the_service_came_ends_its_vm);
        TEST(a_gpu_that_fell_off_the_bus_ends_its_vm_but_a_reset_does_not);
        TEST(a_gpu_is_lost_by_two_readings_and_not_by_one_that_grew_old);
        TEST(a_gpu_that_reads_all_ones_and_then_hangs_is_lost);
        TEST(a_gpu_whose_driver_was_never_seen_to_be_vfio_pci_is_not_missed);
        TEST(nothing_starts_before_libvirt_has_listed);
        TEST(nothing_starts_before_the_guard_has_listed);
        TEST(nothing_runs_that_the_guard_does_not_hold);
        TEST(nothing_runs_before_a_new_guard_has_listed);
        TEST(nothing_runs_without_permit);
        TEST(nothing_runs_while_the_guard_is_away);
        TEST(what_a_new_guard_does_not_hold_does_not_run);
        TEST(a_resume_before_the_permit_does_not_make_it_run);
        TEST(a_start_that_cannot_be_tried_is_tried_again);
        TEST(a_failed_start_is_reported_once_libvirt_has_listed);
        TEST(a_listing_that_does_not_come_is_asked_for_again);
        TEST(what_a_failed_start_left_behind_is_destroyed_before_the_report);
        TEST(a_process_that_cannot_be_held_is_destroyed);
        TEST(a_process_that_died_before_it_was_held_is_reported);
        TEST(who_is_not_permitted_is_destroyed);
        TEST(a_resume_that_failed_is_undone);
        TEST(after_a_resume_that_may_come_true_the_guard_kills);
        TEST(a_report_is_repeated_until_it_is_taken);
        TEST(the_report_of_an_end_is_repeated_until_it_is_taken);
        TEST(a_report_that_the_registry_is_past_is_not_repeated);
        return g_test_run();
}
