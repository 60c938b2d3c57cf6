/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guard that is asked to end in the middle of a lease: it leaves, and its deadline stays; and the guard after it.
 * Argument 2 is guard-preload. */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"

static const char *preload;

static void ask_to_end(World *w) {
        unsigned before = w->n_disconnected;
        g_assert_cmpint(kill(w->guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(w), ==, 0);
        await(w, &w->n_disconnected, before + 1);
}

/* Before the deadline? If not, it may have left nobody behind. */
static bool begin_leaving(World *w, uint64_t until_us, uint64_t hold_us, int vm) {
        g_assert_cmpint(hold(w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(w, until_us, hold_us), ==, GUARD_CALL_OK);
        ask_to_end(w);
        return now_us() < until_us;
}

/* The next guard has ended it. */
static void expect_remnant_killed(World *w) {
        int status = await_end_of_remnant(w);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
        g_assert_cmpint(find_remnant(w), ==, 0);
}

static bool kept_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(time_us);
        if (!begin_leaving(&w, until, 0, vm))
                return false;
        g_assert_cmpint(connect_raw(&w), ==, -1);
        pid_t remnant = find_remnant(&w);
        g_assert_cmpint(remnant, >, 0);
        g_assert_cmpint(kill(remnant, SIGTERM), ==, 0);         /* as pkill would */
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        return true;
}

static void test_a_guard_that_left_keeps_the_deadline(void) {
        play(kept_within, 700 * MS);
}

static bool stopped_and_killed_within(uint64_t time_us) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(time_us);
        if (!begin_leaving(&w, until, time_us, vm) || !saw_stop(pid))
                return false;
        g_assert_cmpuint(now_us(), >=, until);
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until + time_us);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        return true;
}

static void test_a_guard_that_left_stops_and_kills_too(void) {
        play(stopped_and_killed_within, 400 * MS);
}

static void test_a_guard_that_left_is_needed_no_more_when_all_are_dead(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        (void) begin_leaving(&w, in(HOUR), 0, vm);
        g_assert_cmpint(find_remnant(&w), >, 0);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

static bool held_again_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(time_us);
        if (!begin_leaving(&w, until, 0, vm))
                return false;
        start_next_guard(&w);
        size_t n = list(&w);
        GuardResult result = lease(&w, in(HOUR), 0);
        if (now_us() >= until)
                return false;
        expect_remnant_killed(&w);
        g_assert_cmpuint(w.met.until_us, ==, until);
        g_assert_cmpuint(n, ==, 1);
        g_assert_cmpuint(w.entries[0].epoch, ==, 7);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpint(result, ==, GUARD_CALL_OK);
        await_instant(&w, until);
        g_assert_false(is_dead(vm));
        g_assert_cmpuint(w.n_died, ==, 0);
        return true;
}

static void test_the_next_guard_ends_the_one_that_left_and_holds_what_it_held(void) {
        play(held_again_within, 2 * SECOND);
}

/* A lease may be long, and upgrades many; those that left do not pile up for it. */
static void test_there_is_one_that_left_at_most(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        for (unsigned i = 0; i < 5; i++) {
                ask_to_end(&w);
                start_next_guard(&w);
                expect_remnant_killed(&w);
                g_assert_cmpuint(list(&w), ==, 1);
        }
        g_assert_false(is_dead(vm));
}

static bool followed_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(time_us);
        if (!begin_leaving(&w, until, 0, vm))
                return false;
        start_next_guard(&w);
        if (now_us() >= until)
                return false;
        expect_remnant_killed(&w);
        await(&w, &w.n_died, 1);
        g_assert_cmpuint(now_us(), >=, until);
        await(&w, &w.n_ended, 1);
        return true;
}

static void test_the_next_guard_kills_at_the_deadline_of_the_one_that_left(void) {
        play(followed_within, SECOND);
}

/* Nobody is left alone by a guard that is asked for what it cannot have. */
static bool not_followed_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        uint64_t until = in(time_us);
        if (!begin_leaving(&w, until, 0, vm))
                return false;
        pid_t remnant = find_remnant(&w);
        w.arguments[0] = "--watchdog";
        w.arguments[1] = "/dev/null";
        start_guard(&w);
        g_assert_cmpint(WEXITSTATUS(await_end_of_guard(&w)), ==, 78);
        g_assert_cmpint(find_remnant(&w), ==, remnant);
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
        return true;
}

static void test_a_next_guard_that_does_not_start_takes_nothing_over(void) {
        play(not_followed_within, 700 * MS);
}

static void test_what_a_guard_that_left_has_stopped_goes_on_with_the_next_one_s_lease(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        (void) begin_leaving(&w, in(200 * MS), HOUR, vm);
        await_stop(pid);
        start_next_guard(&w);
        expect_remnant_killed(&w);
        g_assert_true(w.met.stopped);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        await_continuation(pid);
        g_assert_false(is_dead(vm));
}

/* It was about to send its signal when the next one came. */
static void test_whoever_left_does_not_have_the_last_word(void) {
        _cleanup_(world_end) World w = { .environment = { "LD_PRELOAD", preload, "GUARD_TEST_LATE_STOP", "300" } };
        world_begin(&w);
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(500 * MS);
        (void) begin_leaving(&w, until, HOUR, vm);
        await_instant(&w, until + 100 * MS);
        w.environment[0] = NULL;
        start_next_guard(&w);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        expect_remnant_killed(&w);
        await_instant(&w, in(500 * MS));
        int last = 0;
        for (int status; waitpid(pid, &status, WUNTRACED | WCONTINUED | WNOHANG) > 0;)
                last = status;
        g_assert_true(last == 0 || WIFCONTINUED(last));
}

static void test_asked_to_end_the_guard_leaves_nothing_if_there_is_no_deadline(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        ask_to_end(&w);
        g_assert_cmpint(find_remnant(&w), ==, 0);
        g_assert_false(is_dead(vm));
        start_next_guard(&w);
        g_assert_cmpuint(list(&w), ==, 1);
}

static void test_a_guard_that_ends_and_holds_nothing_leaves_no_deadline(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        ask_to_end(&w);
        g_assert_cmpint(find_remnant(&w), ==, 0);
        start_next_guard(&w);
        g_assert_cmpuint(w.met.until_us, ==, 0);
        g_assert_false(w.met.ended);
        g_assert_cmpint(waitpid(w.vms.items[0], NULL, WNOHANG), ==, w.vms.items[0]);
        w.vms.n = 0;
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        preload = guard_world_preload(argc, argv);
#define TEST(name) g_test_add_func("/guard-leave/" #name, test_##name)
        TEST(a_guard_that_left_keeps_the_deadline);
        TEST(a_guard_that_left_stops_and_kills_too);
        TEST(a_guard_that_left_is_needed_no_more_when_all_are_dead);
        TEST(the_next_guard_ends_the_one_that_left_and_holds_what_it_held);
        TEST(there_is_one_that_left_at_most);
        TEST(the_next_guard_kills_at_the_deadline_of_the_one_that_left);
        TEST(a_next_guard_that_does_not_start_takes_nothing_over);
        TEST(what_a_guard_that_left_has_stopped_goes_on_with_the_next_one_s_lease);
        TEST(whoever_left_does_not_have_the_last_word);
        TEST(asked_to_end_the_guard_leaves_nothing_if_there_is_no_deadline);
        TEST(a_guard_that_ends_and_holds_nothing_leaves_no_deadline);
#undef TEST
        return g_test_run();
}
