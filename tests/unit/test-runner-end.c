/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How runs of the runner end, and what it makes of a libvirt, a guard or a service of before. */

#include "runner-stage.h"

/* ---- stopping */

static void test_a_stop_destroys_waits_for_death_and_reports(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        VmId vm = VM(1);
        g_assert_cmpstr(runner_stage(&s->runner, &vm), ==, "stopping");
        answers(s, RUN_ANSWER_DONE);
        ASSERT_RESTS_FOR(s, RUNNER_KILL_GRACE_US);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_process_that_outlives_its_domain_is_killed(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        passes(s, RUNNER_KILL_GRACE_US);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_no_end_is_reported_while_the_process_lives(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        for (int i = 0; i < 10; i++) {
                passes(s, 60 * SECOND);
                ASSERT_TAKES(s, RUN_KILL);
                answers(s, i % 2 ? RUN_ANSWER_UNKNOWN : RUN_ANSWER_NOT_TRIED);
        }
        libvirt_says_stopped(s, END_DESTROYED);
        passes(s, 60 * SECOND);
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_what_libvirt_cannot_destroy_the_guard_kills(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_KILL);
        /* libvirt gives the GPUs back before it forgets the domain. */
        ASSERT_RESTS_FOR(s, RUNNER_DOMAIN_GRACE_US);
        libvirt_says_stopped(s, END_CRASHED);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_what_nobody_can_kill_is_destroyed_again(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        runner_guard_lost(&s->runner);
        for (int i = 0; i < 3; i++) {
                ASSERT_TAKES(s, RUN_DESTROY);
                answers(s, RUN_ANSWER_FAILED);
                passes(s, RUNNER_RETRY_US);
        }
        s->runner.guard_usable = true;
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_a_guard_that_does_not_hold_it_is_given_it_before_it_kills(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_TAKES(s, RUN_KILL);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_what_the_guard_says_lives_is_not_reported(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_TAKES(s, RUN_RELEASE);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_KILL_GRACE_US);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_guest_is_asked_to_shut_down_and_given_time(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 5000);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        ASSERT_RESTS_FOR(s, 5 * SECOND);
        passes(s, 2 * SECOND);
        libvirt_says_stopped(s, END_GUEST_SHUTDOWN);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_guest_that_does_not_shut_down_is_destroyed(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 5000);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        passes(s, 5 * SECOND);
        ASSERT_TAKES(s, RUN_DESTROY);
}

static void test_a_shutdown_without_a_time_has_the_nodes(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 0);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        ASSERT_RESTS_FOR(s, s->runner.shutdown_timeout_us);
}

static void test_a_shutdown_may_have_all_the_time_of_the_world(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, UINT64_MAX);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        passes(s, 1000000 * SECOND);
        ASSERT_RESTS(s);
        g_assert_cmpuint(s->wake_us, >, s->now_us);
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
}

static void test_a_stop_does_not_wait_for_the_shutdown_before_it(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 0);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        ASSERT_RESTS(s);
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
}

static void test_a_guest_that_cannot_be_asked_is_destroyed(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 0);
        ASSERT_TAKES(s, RUN_SHUTDOWN);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_TAKES(s, RUN_DESTROY);
}

static void test_a_dead_guest_is_not_waited_for(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 0);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        process_dies(s);        /* and libvirt says nothing */
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_restart_stops_at_once_and_leaves_the_next_start_to_the_next_epoch(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_RESTART, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
        assign(s, 0);
        ASSERT_TAKES(s, RUN_START);
        g_assert_cmpuint(s->task.epoch, ==, 2);
}

static void test_a_stop_while_the_start_is_under_way_undoes_it_afterwards(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        is_to(s, VM_STOP, 0);
        RunTask start = s->task;
        ASSERT_RESTS(s);
        s->task = start;
        answers(s, RUN_ANSWER_DONE);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_stop_before_the_start_starts_nothing(void) {
        STAGE s = stage_of_an_assigned_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_paused_guest_is_not_asked(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        is_to(s, VM_SHUTDOWN, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
}

/* ---- without libvirt */

static void test_nothing_is_tried_on_a_libvirt_that_hangs(void) {
        STAGE s = stage_of_an_assigned_vm();
        runner_hypervisor_lost(&s->runner);
        ASSERT_RESTS(s);
        libvirt_lists_nothing(s);
        claims_until(s, RUN_RESUME);
        runner_hypervisor_lost(&s->runner);
        ASSERT_RESTS(s);
}

static void test_the_guard_kills_while_libvirt_hangs(void) {
        STAGE s = stage_of_a_running_vm();
        runner_hypervisor_lost(&s->runner);
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_RESTS_FOR(s, RUNNER_DOMAIN_GRACE_US);
        passes(s, RUNNER_DOMAIN_GRACE_US);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_the_guard_kills_what_a_restarted_service_knows_from_it_alone(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        guard_holds(s, 1, true);
        ASSERT_RESTS(s);
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_RESTS_FOR(s, RUNNER_DOMAIN_GRACE_US);
        passes(s, RUNNER_DOMAIN_GRACE_US);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_shutdown_waits_for_a_libvirt_that_is_away(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        guard_holds(s, 1, true);
        is_to(s, VM_SHUTDOWN, 5000);
        ASSERT_RESTS_FOR(s, 5 * SECOND);
        passes(s, 2 * SECOND);
        sees_domain(s, 1, false);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        passes(s, 3 * SECOND);
        ASSERT_TAKES(s, RUN_DESTROY);
}

/* ---- what ends by itself */

static void test_the_cause_is_what_libvirt_says_it_is(void) {
        static const EndCause causes[] = { END_CRASHED, END_GUEST_SHUTDOWN, END_DESTROYED };
        for (size_t i = 0; i < ELEMENTS(causes); i++) {
                STAGE s = stage_of_a_running_vm();
                libvirt_says_stopped(s, causes[i]);
                ASSERT_RESTS(s);
                process_dies(s);
                ASSERT_DOES(s, RUN_RELEASE);
                ASSERT_REPORTS(s, causes[i]);
        }
}

static void test_libvirt_has_a_moment_to_say_why_a_process_died(void) {
        STAGE s = stage_of_a_running_vm();
        process_dies(s);
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        libvirt_says_stopped(s, END_GUEST_SHUTDOWN);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_GUEST_SHUTDOWN);
}

static void test_a_process_that_died_without_a_word_has_crashed(void) {
        STAGE s = stage_of_a_running_vm();
        process_dies(s);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_CRASHED);
}

static void test_a_vm_whose_gpu_is_gone_is_ended(void) {
        STAGE s = stage_of_a_running_vm();
        s->facts.gpus++;
        s->facts.n_gpus--;
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_GPU_LOST);
}

static void test_no_gpu_is_gone_while_the_facts_are_not_complete(void) {
        STAGE s = stage_of_a_running_vm();
        s->facts.n_gpus = 0;
        g_assert_cmpint(runner_follow(&s->runner, &s->world, false), ==, 0);
        g_assert_false(run_of(s)->ending);
}

/* ---- events that come late */

static void test_a_stop_of_the_last_epoch_that_comes_late_hurts_no_start(void) {
        STAGE s = stage_of_a_running_vm();
        libvirt_says_stopped(s, END_CRASHED);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_CRASHED);
        assign(s, 0);
        follow(s);
        libvirt_says_stopped(s, END_CRASHED);           /* before the start */
        ASSERT_TAKES(s, RUN_START);
        libvirt_says_stopped(s, END_CRASHED);           /* during it */
        answers(s, RUN_ANSWER_DONE);
        ASSERT_DOES(s, RUN_HOLD);
        libvirt_says_stopped(s, END_GUEST_SHUTDOWN);    /* after it */
        ASSERT_DOES(s, RUN_PERMIT);
        ASSERT_DOES(s, RUN_RESUME);
        ASSERT_DOES(s, RUN_REPORT_RUNNING);
        /* Nor is it taken for the cause of a death much later. */
        passes(s, 60 * SECOND);
        ASSERT_RESTS(s);
        process_dies(s);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_CRASHED);
}

static void test_a_death_of_the_last_epoch_that_comes_late_kills_nothing(void) {
        STAGE s = stage_of_a_running_vm();
        VmId vm = VM(1);
        process_dies(s);
        libvirt_says_stopped(s, END_CRASHED);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_CRASHED);
        assign(s, 0);
        claims_until(s, RUN_STEP_COUNT);
        g_assert_cmpint(runner_process_died(&s->runner, &vm, 1, s->now_us), ==, 0);
        ASSERT_RESTS(s);
        g_assert_cmpint(run_of(s)->process, ==, RUN_PROCESS_ALIVE);
}

static void test_a_listing_from_before_the_start_ends_nothing(void) {
        STAGE s = stage_of_an_assigned_vm();
        ASSERT_TAKES(s, RUN_START);
        libvirt_lists_nothing(s);
        answers(s, RUN_ANSWER_DONE);
        libvirt_lists_nothing(s);
        ASSERT_DOES(s, RUN_HOLD);
        libvirt_lists_nothing(s);
        ASSERT_TAKES(s, RUN_PERMIT);
}

static void test_an_answer_to_a_step_that_is_over_changes_nothing(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_PERMIT);
        s->task.step = RUN_RESUME;
        answers(s, RUN_ANSWER_DONE);
        ASSERT_TAKES(s, RUN_PERMIT);
        s->task.epoch = 7;
        answers(s, RUN_ANSWER_DONE);
        ASSERT_RESTS(s);
}

static void test_the_next_epoch_waits_for_the_end_of_the_last(void) {
        STAGE s = stage_of_a_running_vm();
        /* Ended by a new incarnation, and assigned here again, while the old process still runs. */
        ASSERT_DONE(tell_node(&s->c, 1, "a", 2, "boot-1"));
        assign(s, 1);
        ASSERT_TAKES(s, RUN_DESTROY);
        g_assert_cmpuint(s->task.epoch, ==, 1);
        answers(s, RUN_ANSWER_DONE);
        ASSERT_RESTS(s);
        VmId vm = VM(1);
        g_assert_cmpint(runner_process_died(&s->runner, &vm, 1, s->now_us), ==, 0);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_TAKES(s, RUN_START);
        g_assert_cmpuint(s->task.epoch, ==, 2);
}

/* ---- a guard that was started anew */

static void test_a_new_guard_is_given_what_runs(void) {
        STAGE s = stage_of_a_running_vm();
        runner_guard_lost(&s->runner);
        ASSERT_RESTS(s);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_RESTS(s);
        g_assert_true(run_of(s)->held);
}

static void test_a_death_is_reported_though_the_guard_is_gone_and_let_go_of_when_it_is_back(void) {
        STAGE s = stage_of_a_running_vm();
        runner_guard_lost(&s->runner);
        g_assert_cmpint(runner_end_all(&s->runner, END_CRASHED, "the guard of its node was gone"), ==, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_TAKES(s, RUN_REPORT_ENDED);
        ASSERT_DONE(tell_ended(&s->c, 1, s->task.cause, 0));
        answers(s, RUN_ANSWER_DONE);
        ASSERT_RESTS(s);
        /* It only hung, and holds the dead process still. */
        guard_holds(s, 1, false);
        s->runner.guard_usable = s->runner.guard_listed = true;
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_RESTS(s);
        g_assert_null(run_of(s));
}

static void test_a_running_vm_outlives_a_guard_that_refuses_it(void) {
        STAGE s = stage_of_a_running_vm();
        runner_guard_anew(&s->runner);
        ASSERT_TAKES(s, RUN_HOLD);
        answers(s, RUN_ANSWER_FAILED);
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        g_assert_false(run_of(s)->ending);
}

/* Until it is held the node asks for no lease, and a guest may take minutes to go down. */
static void test_a_new_guard_is_given_what_shuts_down(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 60000);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        ASSERT_RESTS(s);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        g_assert_false(runner_is_guarded(&s->runner));
        ASSERT_DOES(s, RUN_HOLD);
        g_assert_true(runner_is_guarded(&s->runner));
        ASSERT_RESTS_FOR(s, 60 * SECOND);
}

/* A resume or a destroy of libvirt's may take its time, in which the node asks for no lease. */
static void holds_beside(Stage *s, RunStep under_way) {
        RunTask waited_for = s->task;
        g_assert_cmpint(waited_for.step, ==, under_way);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        ASSERT_RESTS(s);
        guard_lists_nothing(s);
        g_assert_false(runner_is_guarded(&s->runner));
        ASSERT_DOES(s, RUN_HOLD);
        g_assert_true(runner_is_guarded(&s->runner));
        ASSERT_RESTS(s);
        s->task = waited_for;
}

static void test_a_new_guard_is_given_what_is_about_to_run(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        ASSERT_TAKES(s, RUN_RESUME);
        holds_beside(s, RUN_RESUME);
        answers(s, RUN_ANSWER_DONE);
        ASSERT_TAKES(s, RUN_REPORT_RUNNING);
}

static void test_a_new_guard_is_given_what_libvirt_is_destroying(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        holds_beside(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_FAILED);
        s->now_us += RUNNER_RETRY_US;
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_what_a_guard_is_given_after_the_lease_is_dead_by_it(void) {
        STAGE s = stage_of_a_running_vm();
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        ASSERT_TAKES(s, RUN_HOLD);
        answers(s, RUN_ANSWER_LATE);
        g_assert_true(run_of(s)->held && run_of(s)->ending);
        process_dies(s);
        s->now_us += RUNNER_DOMAIN_GRACE_US;
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_TAKES(s, RUN_REPORT_ENDED);
        g_assert_cmpint(s->task.cause, ==, END_LEASE_ENDED);
}

static void test_a_guard_that_refuses_it_holds_up_no_stop(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_SHUTDOWN, 5000);
        ASSERT_DOES(s, RUN_SHUTDOWN);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        ASSERT_TAKES(s, RUN_HOLD);
        answers(s, RUN_ANSWER_FAILED);
        passes(s, RUNNER_RETRY_US);
        ASSERT_RESTS_FOR(s, 4 * SECOND);
        passes(s, 4 * SECOND);
        ASSERT_TAKES(s, RUN_DESTROY);
}

/* Its deadline came before it was given the process again. */
static void test_what_a_guard_takes_no_more_is_destroyed_again(void) {
        STAGE s = stage_of_a_running_vm();
        runner_guard_lost(&s->runner);
        g_assert_cmpint(runner_end_all(&s->runner, END_GUARD_LOST, NULL), ==, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_UNKNOWN);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        for (int i = 0; i < 3; i++) {
                passes(s, RUNNER_RETRY_US);
                ASSERT_TAKES(s, RUN_HOLD);
                answers(s, RUN_ANSWER_NOT_TRIED);
                passes(s, RUNNER_RETRY_US);
                ASSERT_TAKES(s, RUN_DESTROY);
                answers(s, RUN_ANSWER_FAILED);
        }
}

/* ---- a service that was started anew */

/* Begins again, with the domain and the guard's word as they are at that step. */
static void restarts_before(Stage *s, RunStep step) {
        claims_until(s, step);
        service_begins(s);
        if (step == RUN_START)
                libvirt_lists_nothing(s);
        else
                sees_domain(s, 1, step != RUN_REPORT_RUNNING);
        if (step == RUN_START || step == RUN_HOLD)
                guard_lists_nothing(s);
        else
                guard_holds(s, 1, true);
}

static void test_a_restarted_service_goes_on_before_the_start(void) {
        STAGE s = stage_of_an_assigned_vm();
        restarts_before(s, RUN_START);
        ASSERT_TAKES(s, RUN_START);
}

static void test_a_process_that_was_not_found_is_looked_for_again(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId vm = VM(1);
        restarts_before(s, RUN_START);
        g_assert_cmpint(runner_saw_domain(&s->runner, &vm, 1, true, false), ==, 0);
        runner_listed_domains(&s->runner, s->now_us);
        s->runner.relist = false;
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        g_assert_false(s->runner.relist);
        passes(s, RUNNER_RETRY_US);
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        g_assert_true(s->runner.relist);
        sees_domain(s, 1, true);
        ASSERT_TAKES(s, RUN_HOLD);
}

/* libvirtd, too, was restarted, and is on its way back to the process. */
static void test_a_domain_that_libvirt_does_not_know_any_more_is_no_proof_of_its_death(void) {
        STAGE s = stage_of_a_running_vm();
        VmId vm = VM(1);
        service_begins(s);
        guard_lists_nothing(s);         /* it was started anew, and has lost its board */
        s->runner.hypervisor_usable = true;
        g_assert_cmpint(runner_saw_domain(&s->runner, &vm, 1, false, false), ==, 0);
        runner_listed_domains(&s->runner, s->now_us);
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        s->runner.relist = false;
        answers(s, RUN_ANSWER_STALE);
        g_assert_true(s->runner.relist);
        passes(s, 60 * SECOND);
        ASSERT_RESTS_FOR(s, RUNNER_RETRY_US);
        g_assert_true(runner_anything_lives(&s->runner));
        g_assert_false(runner_is_clean(&s->runner));
        /* There it is. */
        sees_domain(s, 1, false);
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_DOES(s, RUN_HOLD);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_what_libvirt_did_not_find_and_does_not_list_either_is_gone(void) {
        STAGE s = stage_of_a_running_vm();
        VmId vm = VM(1);
        service_begins(s);
        guard_lists_nothing(s);
        s->runner.hypervisor_usable = true;
        g_assert_cmpint(runner_saw_domain(&s->runner, &vm, 1, false, false), ==, 0);
        runner_listed_domains(&s->runner, s->now_us);
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_STALE);
        libvirt_lists_nothing(s);
        passes(s, RUNNER_RETRY_US);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_process_that_libvirt_has_lost_is_killed_by_the_guard(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        answers(s, RUN_ANSWER_STALE);
        libvirt_lists_nothing(s);
        ASSERT_RESTS_FOR(s, RUNNER_KILL_GRACE_US);
        g_assert_true(runner_anything_lives(&s->runner));
        passes(s, RUNNER_KILL_GRACE_US);
        ASSERT_TAKES(s, RUN_KILL);
        answers(s, RUN_ANSWER_UNKNOWN);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_a_restarted_service_goes_on_before_the_hold(void) {
        STAGE s = stage_of_an_assigned_vm();
        restarts_before(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_HOLD);
}

static void test_a_restarted_service_asks_for_the_permit_again(void) {
        STAGE s = stage_of_an_assigned_vm();
        restarts_before(s, RUN_RESUME);
        ASSERT_TAKES(s, RUN_PERMIT);
}

static void test_a_restarted_service_goes_on_before_the_report(void) {
        STAGE s = stage_of_an_assigned_vm();
        restarts_before(s, RUN_REPORT_RUNNING);
        ASSERT_TAKES(s, RUN_REPORT_RUNNING);
}

static void test_a_restarted_service_leaves_a_running_vm_alone(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        sees_domain(s, 1, false);
        guard_holds(s, 1, true);
        ASSERT_RESTS(s);
}

static void test_a_restarted_service_leaves_a_vm_alone_that_somebody_paused(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        sees_domain(s, 1, true);
        guard_holds(s, 1, true);
        ASSERT_RESTS(s);
}

static void test_a_restarted_service_ends_what_ended_meanwhile(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        libvirt_lists_nothing(s);
        guard_holds(s, 1, false);
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_CRASHED);
}

static void test_a_restarted_service_reports_no_end_before_the_guard_has_listed(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        libvirt_lists_nothing(s);       /* it has forgotten the domain; the process runs on */
        passes(s, 3600 * SECOND);
        ASSERT_RESTS(s);
        guard_holds(s, 1, true);
        ASSERT_RESTS(s);
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_a_process_that_libvirt_has_forgotten_before_it_ran_is_ended(void) {
        STAGE s = stage_of_an_assigned_vm();
        claims_until(s, RUN_RESUME);
        service_begins(s);
        guard_holds(s, 1, true);
        ASSERT_RESTS(s);
        libvirt_lists_nothing(s);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_START_FAILED);
}

static void test_a_restarted_service_destroys_what_it_was_destroying(void) {
        STAGE s = stage_of_a_running_vm();
        is_to(s, VM_STOP, 0);
        ASSERT_TAKES(s, RUN_DESTROY);
        service_begins(s);
        sees_domain(s, 1, false);
        guard_holds(s, 1, true);
        ASSERT_DOES(s, RUN_DESTROY);
        process_dies(s);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_what_a_guard_lists_while_it_is_asked_to_hold_it_is_released(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        s->runner.guard_usable = true;
        sees_domain(s, 1, false);
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_DESTROY);
        ASSERT_TAKES(s, RUN_HOLD);
        guard_holds(s, 1, true);
        answers(s, RUN_ANSWER_STALE);   /* dead by now */
        passes(s, RUNNER_RETRY_US);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_REPORTS(s, END_REQUESTED);
}

static void test_what_a_guard_holds_can_be_given_to_the_next_guard(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        guard_holds(s, 1, true);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        is_to(s, VM_STOP, 0);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_TAKES(s, RUN_KILL);
}

static void test_a_process_that_libvirt_has_forgotten_is_given_to_the_next_guard(void) {
        STAGE s = stage_of_a_running_vm();
        service_begins(s);
        guard_holds(s, 1, true);
        libvirt_lists_nothing(s);
        ASSERT_RESTS(s);
        runner_guard_lost(&s->runner);
        runner_guard_anew(&s->runner);
        guard_lists_nothing(s);
        ASSERT_DOES(s, RUN_HOLD);
        ASSERT_RESTS(s);
}

/* ---- strays */

static void test_a_domain_that_no_assignment_explains_is_destroyed(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId stray = VM(9);
        claims_until(s, RUN_STEP_COUNT);
        g_assert_cmpint(runner_saw_domain(&s->runner, &stray, 4, false, true), ==, 0);
        sees_domain(s, 1, false);
        ASSERT_DOES(s, RUN_DESTROY);
        g_assert_true(ID_EQUAL(&s->task.vm, &stray));
        g_assert_cmpint(runner_process_died(&s->runner, &stray, 4, s->now_us), ==, 0);
        ASSERT_RESTS(s);                /* nobody waits for a report */
        follow(s);
        g_assert_null(runner_find(&s->runner, &stray));
}

static void test_a_process_that_no_assignment_explains_is_killed(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId stray = VM(9);
        claims_until(s, RUN_STEP_COUNT);
        g_assert_cmpint(runner_guard_holds(&s->runner, &stray, 4, true, s->now_us), ==, 0);
        ASSERT_DOES(s, RUN_KILL);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_RESTS(s);
}

static void test_a_dead_process_that_no_assignment_explains_is_released(void) {
        STAGE s = stage_of_a_running_vm();
        VmId stray = VM(9);
        g_assert_cmpint(runner_guard_holds(&s->runner, &stray, 4, false, s->now_us), ==, 0);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_RESTS(s);
}

static void test_a_stray_of_an_old_epoch_ends_before_the_new_one_starts(void) {
        STAGE s = stage_of_an_assigned_vm();
        sees_domain(s, 0, true);
        ASSERT_DOES(s, RUN_DESTROY);
        g_assert_cmpuint(s->task.epoch, ==, 0);
        VmId vm = VM(1);
        g_assert_cmpint(runner_process_died(&s->runner, &vm, 0, s->now_us), ==, 0);
        ASSERT_TAKES(s, RUN_START);
        g_assert_cmpuint(s->task.epoch, ==, 1);
}

static void test_a_held_stray_of_an_old_epoch_ends_before_the_new_one_starts(void) {
        STAGE s = stage_of_an_assigned_vm();
        guard_holds(s, 0, true);
        ASSERT_DOES(s, RUN_KILL);
        g_assert_cmpuint(s->task.epoch, ==, 0);
        ASSERT_DOES(s, RUN_RELEASE);
        ASSERT_TAKES(s, RUN_START);
        g_assert_cmpuint(s->task.epoch, ==, 1);
}

static void test_a_domain_that_starts_unasked_is_looked_at(void) {
        STAGE s = stage_of_an_assigned_vm();
        VmId vm = VM(1), stray = VM(9);
        ASSERT_TAKES(s, RUN_START);
        runner_domain_started(&s->runner, &vm);
        g_assert_false(s->runner.relist);
        runner_domain_started(&s->runner, &stray);
        g_assert_true(s->runner.relist);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/runner/end/" #name, test_##name)
        TEST(a_stop_destroys_waits_for_death_and_reports);
        TEST(a_process_that_outlives_its_domain_is_killed);
        TEST(no_end_is_reported_while_the_process_lives);
        TEST(what_libvirt_cannot_destroy_the_guard_kills);
        TEST(what_nobody_can_kill_is_destroyed_again);
        TEST(a_guard_that_does_not_hold_it_is_given_it_before_it_kills);
        TEST(what_the_guard_says_lives_is_not_reported);
        TEST(a_guest_is_asked_to_shut_down_and_given_time);
        TEST(a_guest_that_does_not_shut_down_is_destroyed);
        TEST(a_shutdown_without_a_time_has_the_nodes);
        TEST(a_shutdown_may_have_all_the_time_of_the_world);
        TEST(a_stop_does_not_wait_for_the_shutdown_before_it);
        TEST(a_guest_that_cannot_be_asked_is_destroyed);
        TEST(a_dead_guest_is_not_waited_for);
        TEST(a_restart_stops_at_once_and_leaves_the_next_start_to_the_next_epoch);
        TEST(a_stop_while_the_start_is_under_way_undoes_it_afterwards);
        TEST(a_stop_before_the_start_starts_nothing);
        TEST(a_paused_guest_is_not_asked);
        TEST(nothing_is_tried_on_a_libvirt_that_hangs);
        TEST(the_guard_kills_while_libvirt_hangs);
        TEST(the_guard_kills_what_a_restarted_service_knows_from_it_alone);
        TEST(a_shutdown_waits_for_a_libvirt_that_is_away);
        TEST(the_cause_is_what_libvirt_says_it_is);
        TEST(libvirt_has_a_moment_to_say_why_a_process_died);
        TEST(a_process_that_died_without_a_word_has_crashed);
        TEST(a_vm_whose_gpu_is_gone_is_ended);
        TEST(no_gpu_is_gone_while_the_facts_are_not_complete);
        TEST(a_stop_of_the_last_epoch_that_comes_late_hurts_no_start);
        TEST(a_death_of_the_last_epoch_that_comes_late_kills_nothing);
        TEST(a_listing_from_before_the_start_ends_nothing);
        TEST(an_answer_to_a_step_that_is_over_changes_nothing);
        TEST(the_next_epoch_waits_for_the_end_of_the_last);
        TEST(a_new_guard_is_given_what_runs);
        TEST(a_death_is_reported_though_the_guard_is_gone_and_let_go_of_when_it_is_back);
        TEST(a_running_vm_outlives_a_guard_that_refuses_it);
        TEST(a_new_guard_is_given_what_shuts_down);
        TEST(a_new_guard_is_given_what_is_about_to_run);
        TEST(a_new_guard_is_given_what_libvirt_is_destroying);
        TEST(what_a_guard_is_given_after_the_lease_is_dead_by_it);
        TEST(a_guard_that_refuses_it_holds_up_no_stop);
        TEST(what_a_guard_takes_no_more_is_destroyed_again);
        TEST(a_restarted_service_goes_on_before_the_start);
        TEST(a_process_that_was_not_found_is_looked_for_again);
        TEST(a_domain_that_libvirt_does_not_know_any_more_is_no_proof_of_its_death);
        TEST(what_libvirt_did_not_find_and_does_not_list_either_is_gone);
        TEST(a_process_that_libvirt_has_lost_is_killed_by_the_guard);
        TEST(a_restarted_service_goes_on_before_the_hold);
        TEST(a_restarted_service_asks_for_the_permit_again);
        TEST(a_restarted_service_goes_on_before_the_report);
        TEST(a_restarted_service_leaves_a_running_vm_alone);
        TEST(a_restarted_service_leaves_a_vm_alone_that_somebody_paused);
        TEST(a_restarted_service_ends_what_ended_meanwhile);
        TEST(a_restarted_service_reports_no_end_before_the_guard_has_listed);
        TEST(a_process_that_libvirt_has_forgotten_before_it_ran_is_ended);
        TEST(a_restarted_service_destroys_what_it_was_destroying);
        TEST(what_a_guard_lists_while_it_is_asked_to_hold_it_is_released);
        TEST(what_a_guard_holds_can_be_given_to_the_next_guard);
        TEST(a_process_that_libvirt_has_forgotten_is_given_to_the_next_guard);
        TEST(a_domain_that_no_assignment_explains_is_destroyed);
        TEST(a_process_that_no_assignment_explains_is_killed);
        TEST(a_dead_process_that_no_assignment_explains_is_released);
        TEST(a_stray_of_an_old_epoch_ends_before_the_new_one_starts);
        TEST(a_held_stray_of_an_old_epoch_ends_before_the_new_one_starts);
        TEST(a_domain_that_starts_unasked_is_looked_at);
        return g_test_run();
}
