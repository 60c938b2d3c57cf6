/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/job.h"
#include "core/names.h"

#define SECOND UINT64_C(1000000)

static const VmId bert = { .bytes = { 1 } };

static Job *add(Jobs *jobs, JobOperation operation, uint32_t uid) {
        Job *job = NULL;
        g_assert_cmpint(jobs_add(jobs, operation, &bert, 3, uid, ":1.7", 1000, &job), ==, JOB_MADE);
        return job;
}

/* One job about a VM whose last epoch was 3 when it began. */
static bool follow(Job *job, const Vm *vm, const char *stage) {
        return job_follow(job, vm, stage, NULL, NULL, 10 * SECOND);
}

static void test_jobs_are_numbered_and_found(void) {
        _cleanup_(jobs_clear) Jobs jobs = { .next_id = 40 };
        Job *first = add(&jobs, JOB_START, 1000), *second = add(&jobs, JOB_STOP, 1000);
        g_assert_cmpuint(first->id, ==, 40);
        g_assert_cmpuint(second->id, ==, 41);
        g_assert_true(jobs_find(&jobs, 41) == second);
        g_assert_null(jobs_find(&jobs, 42));
        jobs_remove(&jobs, first);
        g_assert_null(jobs_find(&jobs, 40));
        g_assert_cmpuint(add(&jobs, JOB_STOP, 1000)->id, ==, 42);
}

static void test_a_user_has_a_limit_of_his_own(void) {
        _cleanup_(jobs_clear) Jobs jobs = { .per_user_max = 2 };
        Job *job = NULL;
        Job *first = add(&jobs, JOB_START, 1000);
        add(&jobs, JOB_START, 1000);
        g_assert_cmpint(jobs_add(&jobs, JOB_START, &bert, 0, 1000, ":1.7", 0, &job), ==, JOB_LIMIT);
        g_assert_null(job);
        add(&jobs, JOB_START, 1001);
        job_finish(first, JOB_DONE, NULL, NULL, SECOND);
        add(&jobs, JOB_START, 1000);
}

static void test_finished_jobs_stay_for_a_while(void) {
        _cleanup_(jobs_clear) Jobs jobs = { .linger_us = 60 * SECOND };
        Job *job = add(&jobs, JOB_START, 1000);
        g_assert_cmpuint(jobs_next_expiry_us(&jobs), ==, UINT64_MAX);
        job_finish(job, JOB_DONE, NULL, NULL, 10 * SECOND);
        g_assert_cmpuint(jobs_next_expiry_us(&jobs), ==, 70 * SECOND);
        g_assert_null(jobs_next_expired(&jobs, 70 * SECOND - 1));
        g_assert_true(jobs_next_expired(&jobs, 70 * SECOND) == job);
}

static void test_too_many_finished_jobs_do_not_stay(void) {
        _cleanup_(jobs_clear) Jobs jobs = { .linger_us = 60 * SECOND, .per_user_max = 2 };
        for (int i = 0; i < 3; i++)
                job_finish(add(&jobs, JOB_START, 1000), JOB_DONE, NULL, NULL, SECOND);
        job_finish(add(&jobs, JOB_START, 1001), JOB_DONE, NULL, NULL, SECOND);
        add(&jobs, JOB_START, 1000);
        Job *expired = jobs_next_expired(&jobs, SECOND);
        g_assert_nonnull(expired);
        g_assert_cmpuint(expired->id, ==, 0);
        jobs_remove(&jobs, expired);
        g_assert_null(jobs_next_expired(&jobs, SECOND));
}

static void test_a_start_goes_by_its_stages(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_START, 1000);
        Vm vm = { .run = true, .epoch = 3 };
        static const char *const stages[] = { "placing", "binding", "guarding", "running" };
        double before = 0;
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpstr(job->stage, ==, "placing");
        g_assert_false(follow(job, &vm, NULL));

        vm.epoch = 4;
        vm.assignment.phase = ASSIGNMENT_STARTING;
        for (size_t i = 0; i < ELEMENTS(stages); i++) {
                follow(job, &vm, stages[i]);
                g_assert_cmpstr(job->stage, ==, stages[i]);
                g_assert_cmpfloat(job->progress, >=, before);
                g_assert_cmpint(job->result, ==, JOB_PENDING);
                before = job->progress;
        }
        vm.assignment.phase = ASSIGNMENT_RUNNING;
        g_assert_true(follow(job, &vm, "running"));
        g_assert_cmpint(job->result, ==, JOB_DONE);
        g_assert_cmpfloat(job->progress, ==, 1.0);
        g_assert_cmpuint(job->ended_boottime_us, ==, 10 * SECOND);
        g_assert_false(follow(job, &vm, "running"));
}

static void test_a_start_of_what_runs_is_done(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_START, 1000);
        Vm vm = { .run = true, .epoch = 3, .assignment = { .phase = ASSIGNMENT_RUNNING } };
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpint(job->result, ==, JOB_DONE);
}

static void test_a_start_without_room_ends_as_waiting(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_START, 1000);
        Vm vm = { .run = true, .epoch = 3 };
        g_assert_true(job_follow(job, &vm, NULL, "gpus-taken", "vm bert waits: ...", SECOND));
        g_assert_cmpint(job->result, ==, JOB_WAITING);
        g_assert_cmpstr(job->message, ==, "vm bert waits: ...");
        g_assert_null(job->error);
}

static void test_a_start_that_fails_says_why_and_whether_it_goes_on(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        _cleanup_(vm_clear) Vm vm = { .run = true, .restart = RESTART_ALWAYS, .epoch = 4, .name = strdup("bert") };
        Job *job = add(&jobs, JOB_START, 1000);
        g_assert_cmpint(vm_ended(&vm, END_START_FAILED, "libvirt: no such disk", 0), ==, 0);
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpint(job->result, ==, JOB_FAILED);
        g_assert_cmpstr(job->error, ==, ERROR_FAILED);
        g_assert_cmpstr(job->message, ==, "vm bert: libvirt: no such disk. It tries again by itself");

        job = add(&jobs, JOB_START, 1000);
        vm.failed = true;
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpstr(job->message, ==, "vm bert: libvirt: no such disk. Mend that, then start it again");
}

static void test_an_old_failure_does_not_fail_a_new_start(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_START, 1000);
        Vm vm = { .run = true, .epoch = 3, .attempts = 2 };
        follow(job, &vm, NULL);
        g_assert_cmpint(job->result, ==, JOB_PENDING);
}

static void test_a_start_gives_way_to_a_stop(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_START, 1000);
        Vm vm = { .run = false, .epoch = 4, .assignment = { .phase = ASSIGNMENT_STOPPING } };
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpint(job->result, ==, JOB_SUPERSEDED);
}

static void test_a_start_whose_guest_shut_down_at_once_is_done(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        _cleanup_(vm_clear) Vm vm = { .run = true, .restart = RESTART_NEVER, .epoch = 4, .name = strdup("bert") };
        Job *job = add(&jobs, JOB_START, 1000);
        g_assert_cmpint(vm_ended(&vm, END_GUEST_SHUTDOWN, NULL, 20), ==, 0);
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpint(job->result, ==, JOB_DONE);
}

static void test_a_stop_is_done_when_nothing_is_left(void) {
        static const JobOperation operations[] = { JOB_STOP, JOB_SHUTDOWN };
        for (size_t i = 0; i < ELEMENTS(operations); i++) {
                _cleanup_(jobs_clear) Jobs jobs = {};
                Job *job = add(&jobs, operations[i], 1000);
                Vm vm = { .run = false, .epoch = 3, .assignment = { .phase = ASSIGNMENT_STOPPING } };
                g_assert_true(follow(job, &vm, NULL));
                g_assert_cmpstr(job->stage, ==, "stopping");
                g_assert_cmpfloat(job->progress, ==, 0.5);
                vm.assignment.phase = ASSIGNMENT_NONE;
                g_assert_true(follow(job, &vm, NULL));
                g_assert_cmpint(job->result, ==, JOB_DONE);
        }
}

static void test_a_stop_gives_way_to_a_start(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_STOP, 1000);
        Vm vm = { .run = true, .epoch = 3, .assignment = { .phase = ASSIGNMENT_STOPPING } };
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpint(job->result, ==, JOB_SUPERSEDED);
}

static void test_a_restart_is_done_in_a_later_epoch(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_RESTART, 1000);
        Vm vm = { .run = true, .epoch = 3, .assignment = { .phase = ASSIGNMENT_RUNNING } };
        double before;
        g_assert_true(follow(job, &vm, "running"));
        g_assert_cmpint(job->result, ==, JOB_PENDING);
        g_assert_cmpstr(job->stage, ==, "stopping");
        before = job->progress;
        vm.assignment.phase = ASSIGNMENT_NONE;
        g_assert_true(follow(job, &vm, NULL));
        g_assert_cmpstr(job->stage, ==, "placing");
        g_assert_cmpfloat(job->progress, >, before);
        vm.epoch = 4;
        vm.assignment.phase = ASSIGNMENT_RUNNING;
        g_assert_true(follow(job, &vm, "running"));
        g_assert_cmpint(job->result, ==, JOB_DONE);
}

static void test_the_job_of_a_deleted_vm_is_canceled(void) {
        for (JobOperation operation = 0; operation < JOB_JOIN; operation++) {
                _cleanup_(jobs_clear) Jobs jobs = {};
                Job *job = add(&jobs, operation, 1000);
                g_assert_true(follow(job, NULL, NULL));
                g_assert_cmpint(job->result, ==, JOB_CANCELED);
                g_assert_nonnull(job_operation_to_text(operation));
        }
        g_assert_cmpstr(job_result_to_text(JOB_PENDING), ==, "");
        g_assert_cmpstr(job_result_to_text(JOB_WAITING), ==, "waiting");
}

static Job *add_join(Jobs *jobs) {
        Job *job = NULL;
        g_assert_cmpint(jobs_add(jobs, JOB_JOIN, NULL, 0, 0, ":1.7", 1000, &job), ==, JOB_MADE);
        return job;
}

static void test_a_join_goes_by_its_stages_and_never_back(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_join(&jobs);
        g_assert_true(id_is_null(job->vm.bytes));
        g_assert_cmpstr(job_operation_to_text(job->operation), ==, "join");
        g_assert_cmpstr(job->stage, ==, "connecting");
        g_assert_true(job_join_at(job, JOIN_CONNECTING));       /* it has begun to */
        g_assert_false(job_join_at(job, JOIN_CONNECTING));
        g_assert_true(job_join_at(job, JOIN_RECEIVING));
        g_assert_cmpstr(job->stage, ==, "receiving");
        double progress = job->progress;
        g_assert_false(job_join_at(job, JOIN_ADMITTED));
        g_assert_cmpstr(job->stage, ==, "receiving");
        job_finish(job, JOB_DONE, NULL, "joined lab", SECOND);
        g_assert_false(job_join_at(job, JOIN_RECEIVING));
        g_assert_cmpfloat(job->progress, >, progress);
}

static void test_a_join_is_not_followed_by_a_vm(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_join(&jobs), *start = add(&jobs, JOB_START, 1000);
        g_assert_false(follow(job, NULL, NULL));
        g_assert_cmpint(job->result, ==, JOB_PENDING);
        g_assert_false(job_join_at(start, JOIN_ADMITTED));
        g_assert_cmpstr(start->stage, ==, "placing");
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/job/" #name, test_##name)
        TEST(jobs_are_numbered_and_found);
        TEST(a_user_has_a_limit_of_his_own);
        TEST(finished_jobs_stay_for_a_while);
        TEST(too_many_finished_jobs_do_not_stay);
        TEST(a_start_goes_by_its_stages);
        TEST(a_start_of_what_runs_is_done);
        TEST(a_start_without_room_ends_as_waiting);
        TEST(a_start_that_fails_says_why_and_whether_it_goes_on);
        TEST(an_old_failure_does_not_fail_a_new_start);
        TEST(a_start_gives_way_to_a_stop);
        TEST(a_start_whose_guest_shut_down_at_once_is_done);
        TEST(a_stop_is_done_when_nothing_is_left);
        TEST(a_stop_gives_way_to_a_start);
        TEST(a_restart_is_done_in_a_later_epoch);
        TEST(the_job_of_a_deleted_vm_is_canceled);
        TEST(a_join_goes_by_its_stages_and_never_back);
        TEST(a_join_is_not_followed_by_a_vm);
#undef TEST
        return g_test_run();
}
