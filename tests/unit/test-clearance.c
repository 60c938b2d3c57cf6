/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Room is made for a VM, move by move; the test carries each move out, as the registry and the nodes would. */

#include <glib.h>

#include "core/clearance.h"
#include "core/names.h"
#include "world-builder.h"

#define WORLD _cleanup_(world_builder_freep) WorldBuilder *
#define SECOND UINT64_C(1000000)
#define LATER (60 * SECOND)             /* nobody is patient any more */

/* Nodes a, b, c with 4 GPUs each; u on a (one), v on b (one), w on b (one), x on c (two), and big waits for four. */
static WorldBuilder *fragmented(void) {
        WorldBuilder *w = world_of(3);
        for (const char *name = "abc"; *name; name++)
                with_gpus(w, (char[]) { *name, 0 }, 4);
        pool_of(w, "training", "a b c");
        static const struct {
                const char *name, *node, *gpus;
                uint32_t count;
        } rows[] = { { "u", "a", "0", 1 }, { "v", "b", "0 1", 2 }, { "w", "b", "2", 1 }, { "x", "c", "0 1 2", 3 } };
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                vm_of(w, rows[i].name, "training", rows[i].count);
                runs(w, rows[i].name, rows[i].node, rows[i].gpus);
        }
        vm_of(w, "big", "training", 4);
        return w;
}

typedef struct Case {
        WorldBuilder *w;
        Jobs jobs;
        Job *job;
} Case;

static void case_clear(Case *c) {
        jobs_clear(&c->jobs);
        world_builder_free(c->w);
}

#define CASE(name) _cleanup_(case_clear) Case name = { .w = fragmented() }

/* As VM.Defragment does it. */
static void begin(Case *c, size_t n_moves) {
        _cleanup_(moves_clear) Moves moves = {};
        _cleanup_(result_clear) Result result = {};
        _cleanup_(text_list_clear) TextList pools = {};
        const Vm *vm = vm_named(c->w, "big");
        g_assert_cmpint(clearance_plan(world_now(c->w), vm, &moves, &result), ==, 0);
        g_assert_cmpstr(result.sentence, ==, NULL);
        g_assert_cmpuint(moves.n, ==, n_moves);
        g_assert_cmpint(clearance_list_pools(world_now(c->w), &moves, &pools), ==, 0);
        g_assert_cmpuint(pools.n, ==, 1);
        g_assert_cmpint(jobs_add(&c->jobs, JOB_DEFRAGMENT, &(JobSubject) { .vm = vm->id }, 1000, ":1.7", 1, &c->job),
                        ==, JOB_MADE);
        g_assert_cmpint(clearance_new(&c->job->clearance, "anna", &(RequestId) {}, &pools, 5000, &moves), ==, 0);
        g_assert_cmpstr(c->job->stage, ==, "moving");
        g_assert_cmpstr(job_operation_to_text(c->job->operation), ==, "defragment");
}

static ClearanceStep follow_at(Case *c, bool settled, uint64_t now) {
        bool changed = false;
        int r = job_follow_clearance(c->job, world_now(c->w), settled, now, &changed);
        g_assert_cmpint(r, >=, 0);
        g_assert_cmpint(r == CLEARANCE_ENDED, ==, c->job->result != JOB_PENDING);
        if (r == CLEARANCE_ENDED)
                g_assert_true(changed);
        return (ClearanceStep) r;
}

static ClearanceStep follow(Case *c) {
        return follow_at(c, true, SECOND);
}

/* The next one is this; the registry takes it. */
static void expect_move(Case *c, const char *vm, const char *to) {
        g_assert_cmpint(follow(c), ==, CLEARANCE_MOVES);
        g_assert_cmpstr(registry_find_vm(c->w->registry, &c->job->clearance->now.vm)->name, ==, vm);
        g_assert_cmpstr(registry_find_node(c->w->registry, &c->job->clearance->now.to)->name, ==, to);
        g_assert_cmpint(follow(c), ==, CLEARANCE_WAITS);       /* it is not decided yet */
        vm_named(c->w, vm)->assignment.phase = ASSIGNMENT_STOPPING;
        vm_named(c->w, vm)->target = c->job->clearance->now.to;
        job_clearance_decided(c->job);
        g_assert_cmpint(follow(c), ==, CLEARANCE_WAITS);
}

static void leaves(Case *c, const char *vm) {
        assignment_clear(&vm_named(c->w, vm)->assignment);
}

static void arrives(Case *c, const char *vm, const char *node, const char *gpus) {
        leaves(c, vm);
        g_assert_cmpint(follow_at(c, false, SECOND), ==, CLEARANCE_WAITS);
        runs(c->w, vm, node, gpus);
        vm_named(c->w, vm)->target = (NodeId) {};
}

static void expect_end(Case *c, JobResult result, const char *error, const char *part) {
        g_assert_cmpint(c->job->result, ==, result);
        g_assert_cmpstr(c->job->error, ==, error);
        g_assert_nonnull(c->job->message);
        if (!strstr(c->job->message, part))
                g_error("\"%s\" does not say \"%s\"", c->job->message, part);
}

/* ---- */

static void test_it_ends_when_the_vm_has_its_place(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        arrives(&c, "u", "b", "3");
        g_assert_cmpint(follow_at(&c, false, SECOND), ==, CLEARANCE_WAITS);
        g_assert_cmpuint(c.job->clearance->n_done, ==, 1);
        runs(c.w, "big", "a", "0 1 2 3");
        vm_named(c.w, "big")->assignment.phase = ASSIGNMENT_STARTING;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_DONE, NULL, "vm big has its place on node a; 1 VM moved for it");
        g_assert_cmpfloat(c.job->progress, ==, 1.0);
}

/* x takes all of c, so that u and w are both in the way. */
static void make_it_two(Case *c) {
        runs(c->w, "u", "a", "0 1 2");
        vm_named(c->w, "u")->count = 3;
        vm_named(c->w, "v")->count = 1;
        runs(c->w, "v", "b", "0");
        runs(c->w, "w", "b", "1");
}

static void test_the_next_one_moves_when_the_one_before_runs(void) {
        CASE(c);
        make_it_two(&c);
        begin(&c, 2);
        g_assert_cmpint(follow(&c), ==, CLEARANCE_MOVES);
        job_clearance_decided(c.job);
        Vm *first = (Vm *) registry_find_vm(c.w->registry, &c.job->clearance->now.vm);
        const char *to = registry_find_node(c.w->registry, &c.job->clearance->now.to)->name;
        first->assignment.phase = ASSIGNMENT_STOPPING;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_WAITS);
        assignment_clear(&first->assignment);
        runs(c.w, first->name, to, "3");
        first->assignment.phase = ASSIGNMENT_STARTING;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_WAITS);
        g_assert_cmpuint(c.job->clearance->n_done, ==, 0);
        first->assignment.phase = ASSIGNMENT_RUNNING;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_MOVES);
        g_assert_cmpuint(c.job->clearance->n_done, ==, 1);
        g_assert_false(ID_EQUAL(&c.job->clearance->now.vm, &first->id));
        g_assert_cmpfloat(c.job->progress, >, 0.5);
}

static void test_who_got_its_place_meanwhile_needs_no_further_move(void) {
        CASE(c);
        make_it_two(&c);
        begin(&c, 2);
        leaves(&c, "v");
        leaves(&c, "w");
        vm_named(c.w, "v")->run = vm_named(c.w, "w")->run = false;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_WAITS);      /* there is room, and it is about to be placed */
        runs(c.w, "big", "b", "0 1 2 3");
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_DONE, NULL, "0 VMs moved for it");
}

static void test_there_are_never_more_moves_than_asked_for(void) {
        CASE(c);
        begin(&c, 1);
        vm_of(c.w, "y", "training", 1);
        runs(c.w, "y", "a", "1");               /* now two are in the way on a, and on b */
        g_assert_cmpint(follow(&c), ==, CLEARANCE_WAITS);      /* for a moment */
        g_assert_cmpint(follow_at(&c, true, LATER), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_FAILED, ERROR_CONFLICT, "it takes 2 more moves now, which is more than was asked for");
}

static void test_nobody_of_a_pool_that_was_not_asked_for_moves(void) {
        CASE(c);
        begin(&c, 1);
        text_list_clear(&c.job->clearance->pools);
        g_assert_cmpint(text_list_add(&c.job->clearance->pools, "render"), ==, 0);
        g_assert_cmpint(follow_at(&c, true, SECOND), ==, CLEARANCE_WAITS);
        g_assert_cmpint(follow_at(&c, true, LATER), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_FAILED, ERROR_CONFLICT, "vm u of pool training would have to move now");
}

static void test_one_that_runs_elsewhere_is_the_end(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        arrives(&c, "u", "c", "3");
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_FAILED, ERROR_NO_CAPACITY, "vm u was to move from a to b, and runs on c");
        expect_end(&c, JOB_FAILED, ERROR_NO_CAPACITY, "Moves made for vm big: 0 of 1; it still waits");
}

static void test_one_that_does_not_start_is_the_end(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        leaves(&c, "u");
        vm_named(c.w, "u")->failed = true;
        g_assert_cmpint(text_set(&vm_named(c.w, "u")->reason, "QEMU said no"), ==, 0);
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_FAILED, ERROR_FAILED, "vm u left a for b and did not start: QEMU said no");
}

static void test_one_that_waits_is_the_end(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        leaves(&c, "u");
        facts_of(c.w, "a")->guard_connected = facts_of(c.w, "b")->guard_connected =
                facts_of(c.w, "c")->guard_connected = false;
        g_assert_cmpint(follow_at(&c, false, SECOND), ==, CLEARANCE_WAITS);
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_FAILED, ERROR_NO_CAPACITY, "there is no room for it any more");
}

static void test_one_that_was_stopped_meanwhile_is_not_in_the_way(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        vm_named(c.w, "u")->run = false;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_WAITS);
        leaves(&c, "u");
        runs(c.w, "big", "a", "0 1 2 3");
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        g_assert_cmpint(c.job->result, ==, JOB_DONE);
}

static void test_who_is_not_to_run_any_more_gets_no_room(void) {
        CASE(c);
        begin(&c, 1);
        vm_named(c.w, "big")->run = false;
        g_assert_cmpint(follow(&c), ==, CLEARANCE_ENDED);
        expect_end(&c, JOB_SUPERSEDED, NULL, "it is stopped");
}

static void test_a_conflict_is_tried_again_and_not_for_ever(void) {
        CASE(c);
        begin(&c, 1);
        for (int i = 0; i < 3; i++) {
                g_assert_cmpint(follow(&c), ==, CLEARANCE_MOVES);
                job_clearance_refused(c.job, world_now(c.w), ERROR_CONFLICT, "VM u is past epoch 1", SECOND);
                g_assert_cmpint(c.job->result, ==, JOB_PENDING);
        }
        g_assert_cmpint(follow(&c), ==, CLEARANCE_MOVES);
        job_clearance_refused(c.job, world_now(c.w), ERROR_CONFLICT, "VM u is past epoch 1", SECOND);
        expect_end(&c, JOB_FAILED, ERROR_CONFLICT, "vm u could not be moved: VM u is past epoch 1");
}

static void test_without_a_majority_it_ends_at_once(void) {
        CASE(c);
        begin(&c, 1);
        g_assert_cmpint(follow(&c), ==, CLEARANCE_MOVES);
        job_clearance_refused(c.job, world_now(c.w), ERROR_NO_QUORUM, "a majority cannot be reached", SECOND);
        expect_end(&c, JOB_FAILED, ERROR_NO_QUORUM, "No further VM moves");
}

static void test_a_cancel_leaves_the_present_one_on_its_way(void) {
        CASE(c);
        begin(&c, 1);
        expect_move(&c, "u", "b");
        job_cancel_clearance(c.job, world_now(c.w), SECOND);
        expect_end(&c, JOB_CANCELED, NULL, "vm u is on its way to node b and goes on there");
}

static void expect_refused(Case *c, Verdict verdict, const char *part) {
        _cleanup_(moves_clear) Moves moves = {};
        _cleanup_(result_clear) Result result = {};
        g_assert_cmpint(clearance_plan(world_now(c->w), vm_named(c->w, "big"), &moves, &result), ==, 0);
        g_assert_cmpint(result.verdict, ==, verdict);
        g_assert_cmpuint(moves.n, ==, 0);
        if (!strstr(result.sentence, part))
                g_error("\"%s\" does not say \"%s\"", result.sentence, part);
}

static void test_each_refusal_says_what_to_do(void) {
        CASE(c);
        Vm *big = vm_named(c.w, "big");
        big->run = false;
        expect_refused(&c, VERDICT_CONFLICT, "gpupoolctl plan --defragment big");
        big->run = big->failed = true;
        expect_refused(&c, VERDICT_CONFLICT, "mend that");
        big->failed = false;
        big->count = 3;
        expect_refused(&c, VERDICT_CONFLICT, "there is room for vm big now");
        big->count = 5;
        expect_refused(&c, VERDICT_NO_CAPACITY, "gpupoolctl vm explain big");
        big->count = 3;
        runs(c.w, "big", "a", "1 2 3");
        expect_refused(&c, VERDICT_CONFLICT, "it has its place on node a");
        big->assignment.phase = ASSIGNMENT_STOPPING;
        expect_refused(&c, VERDICT_CONFLICT, "is stopping: wait");
}

static void test_what_is_only_tried_ends_with_its_plan(void) {
        CASE(c);
        _cleanup_(result_clear) Result result = {};
        Moves moves = {};
        const Vm *vm = vm_named(c.w, "big");
        g_assert_cmpint(clearance_plan_in_words(world_now(c.w), vm, &moves, &result), ==, 0);
        g_assert_cmpint(jobs_add(&c.jobs, JOB_DEFRAGMENT, &(JobSubject) { .vm = vm->id }, 1000, ":1.7", 1, &c.job), ==,
                        JOB_MADE);
        g_assert_cmpint(job_end_with_clearance(c.job, world_now(c.w), &moves, SECOND), ==, 0);
        expect_end(&c, JOB_DONE, NULL, "1 VM would move for big: u from a to b");
        g_assert_cmpuint(c.job->plan.n, ==, 1);
        g_assert_cmpstr(c.job->plan.items[0].why, ==, "1 GPU of training");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/clearance/" #name, test_##name)
        TEST(it_ends_when_the_vm_has_its_place);
        TEST(the_next_one_moves_when_the_one_before_runs);
        TEST(who_got_its_place_meanwhile_needs_no_further_move);
        TEST(there_are_never_more_moves_than_asked_for);
        TEST(nobody_of_a_pool_that_was_not_asked_for_moves);
        TEST(one_that_runs_elsewhere_is_the_end);
        TEST(one_that_does_not_start_is_the_end);
        TEST(one_that_waits_is_the_end);
        TEST(one_that_was_stopped_meanwhile_is_not_in_the_way);
        TEST(who_is_not_to_run_any_more_gets_no_room);
        TEST(a_conflict_is_tried_again_and_not_for_ever);
        TEST(without_a_majority_it_ends_at_once);
        TEST(a_cancel_leaves_the_present_one_on_its_way);
        TEST(each_refusal_says_what_to_do);
        TEST(what_is_only_tried_ends_with_its_plan);
#undef TEST
        return g_test_run();
}
