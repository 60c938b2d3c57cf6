/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/job.h"
#include "core/names.h"
#include "world-builder.h"

#define SECOND UINT64_C(1000000)

static const VmId bert = { .bytes = { 1 } };

static Job *add_about(Jobs *jobs, JobOperation operation, const JobSubject *about, uint32_t uid) {
        Job *job = NULL;
        g_assert_cmpint(jobs_add(jobs, operation, about, uid, ":1.7", 1000, &job), ==, JOB_MADE);
        return job;
}

static Job *add(Jobs *jobs, JobOperation operation, uint32_t uid) {
        return add_about(jobs, operation, &(JobSubject) { .vm = bert, .from_epoch = 3 }, uid);
}

/* One job about a VM whose last epoch was 3 when it began. */
static bool follow(Job *job, const Vm *vm, const char *stage) {
        return job_follow(job, NULL, vm, stage, NULL, NULL, 10 * SECOND);
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
        g_assert_cmpint(jobs_add(&jobs, JOB_START, &(JobSubject) { .vm = bert }, 1000, ":1.7", 0, &job), ==, JOB_LIMIT);
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
        g_assert_true(job_follow(job, NULL, &vm, NULL, "gpus-taken", "vm bert waits: ...", SECOND));
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
        Vm vm = { .run = true, .epoch = 3, .assignment = { .phase = ASSIGNMENT_STOPPING } };
        double before;
        g_assert_true(follow(job, &vm, "stopping"));
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

/* The first call was done and its answer lost: the second finds nothing to stop. */
static void test_a_restart_that_is_asked_for_twice_is_done(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add(&jobs, JOB_RESTART, 1000);
        Vm vm = { .run = true, .epoch = 3, .assignment = { .phase = ASSIGNMENT_RUNNING } };
        g_assert_true(follow(job, &vm, "running"));
        g_assert_cmpint(job->result, ==, JOB_DONE);
}

/* ---- moves */

/* Nodes a, b and c with room, and bert on a in epoch 1. */
static WorldBuilder *three_nodes(void) {
        WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        with_gpus(w, "c", 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        return w;
}

static JobSubject about_move(WorldBuilder *w, const char *target) {
        return (JobSubject) { .vm = vm_named(w, "bert")->id, .from_epoch = 1, .node = node_named(w, "a")->id,
                              .target = target ? node_named(w, target)->id : (NodeId) {} };
}

static bool follow_in(Job *job, WorldBuilder *w, const char *code, const char *sentence) {
        return job_follow(job, world_now(w), vm_named(w, "bert"), NULL, code, sentence, 10 * SECOND);
}

static void test_a_move_is_done_where_it_was_asked_to(void) {
        static const char *const targets[] = { "b", NULL };
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
                _cleanup_(jobs_clear) Jobs jobs = {};
                Job *job = add_about(&jobs, JOB_MOVE, &(JobSubject[]) { about_move(w, targets[i]) }[0], 1000);
                vm_named(w, "bert")->assignment.phase = ASSIGNMENT_STOPPING;
                g_assert_cmpstr(job->stage, ==, "stopping");
                g_assert_true(follow_in(job, w, NULL, NULL));
                g_assert_cmpint(job->result, ==, JOB_PENDING);
                assignment_clear(&vm_named(w, "bert")->assignment);
                g_assert_true(follow_in(job, w, NULL, NULL));
                g_assert_cmpstr(job->stage, ==, "placing");
                runs(w, "bert", "b", "0");
                g_assert_true(follow_in(job, w, NULL, NULL));
                g_assert_cmpint(job->result, ==, JOB_DONE);
        }
}

static void test_a_move_that_ends_elsewhere_has_failed(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        const JobSubject to_b = about_move(w, "b"), to_any = about_move(w, NULL);
        Job *job = add_about(&jobs, JOB_MOVE, &to_b, 1000), *other = add_about(&jobs, JOB_MOVE, &to_any, 1000);
        runs(w, "bert", "c", "0");
        g_assert_true(follow_in(job, w, NULL, NULL));
        g_assert_cmpint(job->result, ==, JOB_FAILED);
        g_assert_cmpstr(job->error, ==, ERROR_NO_CAPACITY);
        g_assert_cmpstr(job->message, ==, "vm bert runs on c: b had no room for it when it had stopped. See why: "
                        "gpupoolctl vm explain bert");
        runs(w, "bert", "a", "0");
        g_assert_true(follow_in(other, w, NULL, NULL));
        g_assert_cmpstr(other->message, ==, "vm bert runs on a again: no other node had room when it had stopped. See "
                        "why: gpupoolctl vm explain bert");
}

static void test_a_move_waits_and_gives_way(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        const JobSubject about = about_move(w, "b");
        Job *waits = add_about(&jobs, JOB_MOVE, &about, 1000), *stopped = add_about(&jobs, JOB_MOVE, &about, 1000);
        assignment_clear(&vm_named(w, "bert")->assignment);
        g_assert_true(follow_in(waits, w, "gpus-taken", "vm bert waits: ..."));
        g_assert_cmpint(waits->result, ==, JOB_WAITING);
        vm_named(w, "bert")->run = false;
        g_assert_true(follow_in(stopped, w, NULL, NULL));
        g_assert_cmpint(stopped->result, ==, JOB_SUPERSEDED);
}

/* ---- drains */

static Job *add_drain(Jobs *jobs, WorldBuilder *w) {
        return add_about(jobs, JOB_DRAIN, &(JobSubject) { .node = node_named(w, "a")->id }, 1000);
}

static void test_a_drain_is_done_when_no_vm_is_left(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_drain(&jobs, w);
        vm_of(w, "ernie", "training", 1);
        runs(w, "ernie", "a", "1");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        g_assert_cmpstr(job_operation_to_text(job->operation), ==, "drain");
        g_assert_cmpstr(job->stage, ==, "moving");
        g_assert_false(job_follow_drain(job, world_now(w), NULL, SECOND));
        assignment_clear(&vm_named(w, "ernie")->assignment);
        g_assert_true(job_follow_drain(job, world_now(w), NULL, SECOND));
        g_assert_cmpfloat(job->progress, ==, 0.5);
        g_assert_cmpint(job->result, ==, JOB_PENDING);
        runs(w, "bert", "b", "0");
        g_assert_true(job_follow_drain(job, world_now(w), NULL, SECOND));
        g_assert_cmpint(job->result, ==, JOB_DONE);
        g_assert_false(job_follow_drain(job, world_now(w), NULL, SECOND));
}

static void test_a_drain_that_gets_no_further_waits(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_drain(&jobs, w);
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        g_assert_true(job_follow_drain(job, world_now(w), "vm bert cannot leave", SECOND));
        g_assert_cmpint(job->result, ==, JOB_WAITING);
        g_assert_cmpstr(job->message, ==, "vm bert cannot leave");
}

static void test_a_drain_says_that_its_node_is_silent(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_drain(&jobs, w);
        NodeLife life = { .node = node_named(w, "a")->id, .silent = true };
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        w->world.lives = &life;
        w->world.n_lives = 1;
        g_assert_true(job_follow_drain(job, world_now(w), NULL, SECOND));
        g_assert_cmpstr(job->stage, ==, "silent");
        life.silent = false;
        g_assert_true(job_follow_drain(job, world_now(w), NULL, SECOND));
        g_assert_cmpstr(job->stage, ==, "moving");
}

static void test_a_drain_gives_way_to_a_resume_and_to_a_removal(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *resumed = add_drain(&jobs, w);
        Job *removed = add_about(&jobs, JOB_DRAIN, &(JobSubject) { .node = { .bytes = { 9 } } }, 1000);
        g_assert_true(job_follow_drain(resumed, world_now(w), NULL, SECOND));
        g_assert_cmpint(resumed->result, ==, JOB_SUPERSEDED);
        g_assert_true(job_follow_drain(removed, world_now(w), NULL, SECOND));
        g_assert_cmpint(removed->result, ==, JOB_CANCELED);
}

static void test_a_drain_that_is_only_tried_ends_with_its_plan(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = three_nodes();
        _cleanup_(jobs_clear) Jobs jobs = {};
        for (int i = 0; i < 2; i++) {
                Moves plan = {};
                Job *job = add_drain(&jobs, w);
                g_assert_cmpint(moves_of_drain(world_now(w), &job->about.node, &plan), ==, 0);
                g_assert_cmpint(job_end_with_plan(job, world_now(w), &plan, SECOND), ==, 0);
                g_assert_cmpint(job->result, ==, i == 0 ? JOB_DONE : JOB_WAITING);
                g_assert_cmpuint(job->plan.n, ==, 1);
                g_assert_cmpuint(plan.n, ==, 0);
                g_assert_cmpstr(job->message, !=, "");
                facts_of(w, "b")->guard_connected = facts_of(w, "c")->guard_connected = false;
        }
}

/* ---- ends of all kinds */

static void test_the_job_of_a_deleted_vm_is_canceled(void) {
        for (JobOperation operation = 0; operation < JOB_DRAIN; operation++) {
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
        return add_about(jobs, JOB_JOIN, &(JobSubject) {}, 0);
}

static void test_a_join_goes_by_its_stages_and_never_back(void) {
        _cleanup_(jobs_clear) Jobs jobs = {};
        Job *job = add_join(&jobs);
        g_assert_true(id_is_null(job->about.vm.bytes));
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
        TEST(a_restart_that_is_asked_for_twice_is_done);
        TEST(a_move_is_done_where_it_was_asked_to);
        TEST(a_move_that_ends_elsewhere_has_failed);
        TEST(a_move_waits_and_gives_way);
        TEST(a_drain_is_done_when_no_vm_is_left);
        TEST(a_drain_that_gets_no_further_waits);
        TEST(a_drain_says_that_its_node_is_silent);
        TEST(a_drain_gives_way_to_a_resume_and_to_a_removal);
        TEST(a_drain_that_is_only_tried_ends_with_its_plan);
        TEST(the_job_of_a_deleted_vm_is_canceled);
        TEST(a_join_goes_by_its_stages_and_never_back);
        TEST(a_join_is_not_followed_by_a_vm);
#undef TEST
        return g_test_run();
}
