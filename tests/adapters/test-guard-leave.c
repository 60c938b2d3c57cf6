/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guard that is asked to end in the middle of a lease: it leaves, and its deadline stays; and the guard after it.
 * Argument 2 is guard-preload. */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"

static const char *preload;

static void begin_leaving(World *w, uint64_t until_us, uint64_t hold_us, int vm) {
        g_assert_cmpint(hold(w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, until_us, hold_us), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(w->guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(w), ==, 0);
        await(w, &w->n_disconnected, 1);
}

static void begin_next(World *w, int vm) {
        start_guard(w);
        await(w, &w->n_connected, 2);
        g_assert_cmpuint(w->n_anew, ==, 2);
        g_assert_cmpint(hold(w, 1, 7, vm), ==, GUARD_CALL_OK);
}

static void test_a_guard_that_left_keeps_the_deadline(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(700 * MS);
        begin_leaving(&w, until, 0, vm);
        g_assert_cmpint(connect_raw(&w), ==, -1);
        pid_t remnant = find_remnant(&w);
        g_assert_cmpint(remnant, >, 0);
        g_assert_cmpint(kill(remnant, SIGTERM), ==, 0);         /* as pkill would */
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

static void test_a_guard_that_left_stops_and_kills_too(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(500 * MS);
        begin_leaving(&w, until, 300 * MS, vm);
        await_stop(pid);
        g_assert_cmpuint(now_us(), >=, until);
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until + 300 * MS);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

static void test_a_guard_that_left_is_needed_no_more_when_all_are_dead(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        begin_leaving(&w, in(HOUR), 0, vm);
        g_assert_cmpint(find_remnant(&w), >, 0);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

static void test_the_next_guard_with_a_lease_takes_over(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(2 * SECOND);
        begin_leaving(&w, until, 0, vm);
        begin_next(&w, vm);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        await_instant(&w, until);
        g_assert_false(is_dead(vm));
        g_assert_cmpuint(w.n_died, ==, 0);
}

/* A lease may be long; those that left do not pile up for it. */
static void test_whoever_left_goes_soon(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        begin_leaving(&w, in(HOUR), HOUR, vm);
        begin_next(&w, vm);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        g_assert_false(is_dead(vm));
}

static void test_the_next_guard_without_a_lease_takes_nothing_over(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(SECOND);
        begin_leaving(&w, until, 0, vm);
        begin_next(&w, vm);
        await(&w, &w.n_died, 1);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

static void test_the_next_guard_with_a_lease_that_is_over_takes_nothing_over(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        begin_leaving(&w, in(SECOND), HOUR, vm);
        start_guard(&w);
        await(&w, &w.n_connected, 2);
        g_assert_cmpint(lease(&w, in(100 * MS), 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        pid_t remnant = find_remnant(&w);
        await_instant(&w, in(SECOND));
        g_assert_cmpint(find_remnant(&w), ==, remnant);
        g_assert_false(is_dead(vm));
}

static void test_what_a_guard_that_left_has_stopped_goes_on_with_the_next_one_s_lease(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        begin_leaving(&w, in(200 * MS), HOUR, vm);
        await_stop(pid);
        begin_next(&w, vm);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        await_continuation(pid);
        int status;
        while (waitpid(pid, &status, WUNTRACED | WCONTINUED | WNOHANG) > 0)     /* both may have done it */
                g_assert_false(WIFSTOPPED(status));
        g_assert_false(is_dead(vm));
}

/* The one that left had already looked, and found no other, when the next one came. */
static void test_whoever_left_does_not_have_the_last_word(void) {
        _cleanup_(world_end) World w = { .environment = { "LD_PRELOAD", preload, "GUARD_TEST_LATE_STOP", "300" } };
        world_begin(&w);
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        begin_leaving(&w, in(500 * MS), HOUR, vm);
        await_stop(pid);
        w.environment[0] = NULL;
        begin_next(&w, vm);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        int last = 0;
        for (int status; waitpid(pid, &status, WUNTRACED | WCONTINUED | WNOHANG) > 0;)
                last = status;
        g_assert_true(WIFCONTINUED(last));
}

static void test_asked_to_end_the_guard_leaves_nothing_if_there_is_no_deadline(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&w), ==, 0);
        g_assert_cmpint(find_remnant(&w), ==, 0);
        g_assert_false(is_dead(vm));
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        preload = guard_world_preload(argc, argv);
#define TEST(name) g_test_add_func("/guard-leave/" #name, test_##name)
        TEST(a_guard_that_left_keeps_the_deadline);
        TEST(a_guard_that_left_stops_and_kills_too);
        TEST(a_guard_that_left_is_needed_no_more_when_all_are_dead);
        TEST(the_next_guard_with_a_lease_takes_over);
        TEST(the_next_guard_without_a_lease_takes_nothing_over);
        TEST(the_next_guard_with_a_lease_that_is_over_takes_nothing_over);
        TEST(what_a_guard_that_left_has_stopped_goes_on_with_the_next_one_s_lease);
        TEST(whoever_left_goes_soon);
        TEST(whoever_left_does_not_have_the_last_word);
        TEST(asked_to_end_the_guard_leaves_nothing_if_there_is_no_deadline);
#undef TEST
        return g_test_run();
}
