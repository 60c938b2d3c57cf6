/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The guard and its watchdog. Argument 2 is guard-preload, which makes a device of a named pipe: what the guard writes
 * to it is a pat, or "V", the word that disarms. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"
#include "util/array.h"

#define EXIT_REFUSED 78

static const char *preload;

/* A world whose guard has a device. */
typedef struct Bench {
        World w;
        char folder[64], device[128];
        int pats;                       /* our end of the device; -1: it is no pipe */
} Bench;

static void bench_begin(Bench *b) {
        strcpy(b->folder, "/tmp/test-watchdog-XXXXXX");
        g_assert_nonnull(g_mkdtemp_full(b->folder, 0755));
        g_snprintf(b->device, sizeof(b->device), "%s/watchdog", b->folder);
        b->pats = -1;
        b->w.arguments[0] = "--watchdog";
        b->w.arguments[1] = b->device;
}

/* With a period of @period seconds whatever it is told; "0": it does as it is told. */
static void bench_begin_with_device(Bench *b, const char *period) {
        bench_begin(b);
        g_assert_cmpint(mkfifo(b->device, 0600), ==, 0);
        b->pats = open(b->device, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        g_assert_cmpint(b->pats, >=, 0);
        b->w.environment[0] = "LD_PRELOAD";
        b->w.environment[1] = preload;
        b->w.environment[2] = "GUARD_TEST_WATCHDOG";
        b->w.environment[3] = period;
}

static void bench_end(Bench *b) {
        world_end(&b->w);
        if (b->pats >= 0)
                close(b->pats);
        (void) unlink(b->device);
        g_assert_cmpint(rmdir(b->folder), ==, 0);
}
#define BENCH _cleanup_(bench_end) Bench b = {}

/* Is there something to read within that time? The end counts. */
static bool await_pat(const Bench *b, uint64_t patience_us) {
        struct pollfd p = { .fd = b->pats, .events = POLLIN };
        return poll(&p, 1, (int) (patience_us / MS)) == 1;
}

/* Reads all that is there. Returns its last byte; '.' for a pat, 0 for nothing. */
static char drain(const Bench *b) {
        char bytes[256], last = 0;
        for (ssize_t n; (n = read(b->pats, bytes, sizeof(bytes))) > 0;)
                last = bytes[n - 1] ? bytes[n - 1] : '.';
        return last;
}

static void expect_pat(const Bench *b) {
        (void) drain(b);
        g_assert_true(await_pat(b, PATIENCE_US));
        g_assert_cmpint(drain(b), ==, '.');
}

static void expect_silence(const Bench *b) {
        (void) drain(b);
        g_assert_false(await_pat(b, 1500 * MS));        /* the period is 1 s */
}

static int exit_status(Bench *b) {
        world_prepare(&b->w);
        int status = await_end_of_guard(&b->w);
        g_assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* ---- what is refused */

static void test_a_device_that_is_not_there_is_refused(void) {
        BENCH;
        bench_begin(&b);
        g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
}

static void test_what_is_no_watchdog_is_refused_and_not_touched(void) {
        BENCH;
        bench_begin(&b);
        g_assert_true(g_file_set_contents(b.device, "precious", -1, NULL));
        g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(b.device, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, "precious");
}

static void test_a_longer_period_than_asked_for_is_refused_and_the_device_disarmed(void) {
        BENCH;
        bench_begin_with_device(&b, "16");
        g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
        g_assert_cmpint(drain(&b), ==, 'V');
}

static void test_a_period_that_the_device_does_not_tell_is_refused(void) {
        BENCH;
        bench_begin_with_device(&b, "-1");
        g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
        g_assert_cmpint(drain(&b), ==, 'V');
}

static void test_a_timeout_that_is_none_is_refused(void) {
        static const char *const timeouts[] = { "0", "-1", "61", "2s", "", "99999999999999999999" };
        for (size_t i = 0; i < ELEMENTS(timeouts); i++) {
                BENCH;
                bench_begin_with_device(&b, "0");
                b.w.arguments[2] = "--watchdog-timeout";
                b.w.arguments[3] = timeouts[i];
                g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
                g_assert_cmpint(drain(&b), ==, 0);
        }
}

static void test_an_option_that_is_none_is_refused(void) {
        BENCH;
        bench_begin(&b);
        b.w.arguments[0] = "--wachdog";
        g_assert_cmpint(exit_status(&b), ==, EXIT_REFUSED);
}

/* ---- what is told */

static void expect_period(const char *period, const char *timeout, uint64_t told_us) {
        BENCH;
        bench_begin_with_device(&b, period);
        if (timeout) {
                b.w.arguments[2] = "--watchdog-timeout";
                b.w.arguments[3] = timeout;
        }
        world_begin(&b.w);
        g_assert_cmpuint(guard_state(&b.w).watchdog_us, ==, told_us);
        g_assert_cmpint(lease(&b.w, now_us() + HOUR, 0), ==, GUARD_CALL_OK);
        g_assert_cmpuint(guard_state(&b.w).watchdog_us, ==, told_us);
}

static void test_the_period_is_told_with_some_slack(void) {
        expect_period("0", NULL, 2500 * MS);
        expect_period("0", "60", 60500 * MS);
        expect_period("1", "10", 1500 * MS);    /* the device is faster than asked for */
        expect_period("10", "10", 10500 * MS);
}

static void test_without_a_device_none_is_told(void) {
        WORLD;
        g_assert_cmpuint(guard_state(&w).watchdog_us, ==, 0);
}

/* ---- when it is patted */

static void begin_with_a_second(Bench *b) {
        bench_begin_with_device(b, "1");
        world_begin(&b->w);
}

static void test_it_is_patted_in_time_while_nothing_is_to_be_feared(void) {
        BENCH;
        begin_with_a_second(&b);
        expect_pat(&b);                 /* nothing is held, there is no deadline */
        _cleanup_close_ int vm = start_vm(&b.w, NULL);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        expect_pat(&b);                 /* no deadline */
        g_assert_cmpint(lease(&b.w, now_us() + HOUR, 0), ==, GUARD_CALL_OK);
        expect_pat(&b);                 /* the lease runs */
        g_assert_cmpint(lease(&b.w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        await(&b.w, &b.w.n_ended, 1);
        expect_pat(&b);                 /* nothing lives */
}

static int compare(const void *a, const void *b) {
        uint64_t first = *(const uint64_t *) a, second = *(const uint64_t *) b;
        return (first > second) - (first < second);
}

/* The median of some: a busy machine may be late. */
static uint64_t gap_between_pats(const Bench *b) {
        uint64_t gaps[9], before = 0;
        for (size_t i = 0; i <= ELEMENTS(gaps); i++) {
                expect_pat(b);
                uint64_t now = now_us();
                if (i > 0)
                        gaps[i - 1] = now - before;
                before = now;
        }
        qsort(gaps, ELEMENTS(gaps), sizeof(gaps[0]), compare);
        g_test_message("between two pats: %.0f to %.0f ms, median %.0f ms", (double) gaps[0] / 1000,
                       (double) gaps[ELEMENTS(gaps) - 1] / 1000, (double) gaps[ELEMENTS(gaps) / 2] / 1000);
        return gaps[ELEMENTS(gaps) / 2];
}

static void test_between_two_pats_there_is_a_third_of_the_period_at_most(void) {
        BENCH;
        begin_with_a_second(&b);
        uint64_t gap_us = UINT64_MAX;
        for (unsigned i = 0; i < 5 && gap_us > SECOND / 3; i++)
                gap_us = gap_between_pats(&b);
        g_assert_cmpuint(gap_us, <=, SECOND / 3);
}

static void test_from_the_deadline_on_it_is_not_patted_while_something_lives(void) {
        BENCH;
        begin_with_a_second(&b);
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&b.w, &pid);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&b.w, now_us() + 300 * MS, 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        expect_silence(&b);
        let_die(pid);
        await(&b.w, &b.w.n_ended, 1);
        expect_pat(&b);
}

static void test_while_all_is_stopped_it_is_patted(void) {
        BENCH;
        begin_with_a_second(&b);
        _cleanup_close_ int vm = start_vm(&b.w, NULL);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&b.w, now_us() - 1000, HOUR), ==, GUARD_CALL_OK);
        g_assert_true(guard_state(&b.w).stopped);
        expect_pat(&b);
        expect_pat(&b);
}

static void test_while_something_would_not_stop_it_is_not_patted(void) {
        BENCH;
        bench_begin_with_device(&b, "1");
        b.w.environment[4] = "GUARD_TEST_REFUSE";
        b.w.environment[5] = "60";      /* for 6 s */
        world_begin(&b.w);
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&b.w, &pid);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&b.w, now_us() - 1000, HOUR), ==, GUARD_CALL_OK);
        expect_silence(&b);
        g_assert_cmpint(waitpid(pid, NULL, WUNTRACED), ==, pid);
        expect_pat(&b);
}

static void test_a_guard_that_stands_still_does_not_pat(void) {
        BENCH;
        begin_with_a_second(&b);
        expect_pat(&b);
        g_assert_cmpint(kill(b.w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(waitpid(b.w.guard, NULL, WUNTRACED), ==, b.w.guard);
        expect_silence(&b);
        g_assert_cmpint(kill(b.w.guard, SIGCONT), ==, 0);
        expect_pat(&b);
}

/* Past the deadline it stood still: what it does first is not to pat. */
static void test_a_guard_that_slept_past_the_deadline_does_not_pat(void) {
        BENCH;
        begin_with_a_second(&b);
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&b.w, &pid);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&b.w, now_us() + 200 * MS, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(b.w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(waitpid(b.w.guard, NULL, WUNTRACED), ==, b.w.guard);
        g_usleep(1200 * MS);
        (void) drain(&b);
        g_assert_cmpint(kill(b.w.guard, SIGCONT), ==, 0);
        await_death_throes(pid);
        g_assert_false(await_pat(&b, 1500 * MS));
        let_die(pid);
        await(&b.w, &b.w.n_ended, 1);
}

/* It stood still after it had answered, and the deadline passed meanwhile. */
static void test_a_guard_that_is_late_does_not_pat(void) {
        BENCH;
        bench_begin_with_device(&b, "1");
        b.w.environment[4] = "GUARD_TEST_LATE_AFTER_SEND";
        b.w.environment[5] = "700";
        world_begin(&b.w);
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&b.w, &pid), raw = connect_raw(&b.w);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = now_us() + 1750 * MS;
        g_assert_cmpint(lease(&b.w, until, 0), ==, GUARD_CALL_OK);
        GuardMessage more = { .version = GUARD_VERSION, .type = GUARD_LIST, .cookie = 1 };
        g_assert_cmpint(send_raw(raw, &more, sizeof(more), NULL, 0), ==, sizeof(more));
        await_instant(&b.w, until);     /* it has answered three times, and stands still for the third time */
        (void) drain(&b);
        await_death_throes(pid);
        g_assert_cmpint(drain(&b), ==, 0);
        let_die(pid);
        await(&b.w, &b.w.n_ended, 1);
}

/* ---- the end */

static void test_it_is_disarmed_when_the_guard_ends_and_nothing_lives(void) {
        BENCH;
        begin_with_a_second(&b);
        _cleanup_close_ int vm = start_vm(&b.w, NULL);
        g_assert_cmpint(lease(&b.w, now_us() + HOUR, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&b.w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(b.w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&b.w), ==, 0);
        g_assert_cmpint(drain(&b), ==, 'V');
}

/* Is the device free for the next guard? Of a pipe that nobody has open for writing one reads the end. */
static bool is_let_go(const Bench *b) {
        char byte;
        return read(b->pats, &byte, 1) == 0;
}

static void test_it_is_disarmed_and_let_go_when_the_guard_leaves_in_the_middle_of_a_lease(void) {
        BENCH;
        begin_with_a_second(&b);
        _cleanup_close_ int vm = start_vm(&b.w, NULL);
        g_assert_cmpint(lease(&b.w, now_us() + HOUR, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(b.w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&b.w), ==, 0);
        await(&b.w, &b.w.n_disconnected, 1);
        g_assert_cmpint(find_remnant(&b.w), >, 0);
        g_assert_cmpint(drain(&b), ==, 'V');
        await_instant(&b.w, now_us() + 500 * MS);
        g_assert_true(is_let_go(&b));
        end_vms(&b.w);
        g_assert_cmpint(await_end_of_remnant(&b.w), ==, 0);
}

static void test_it_is_disarmed_when_the_guard_ends_and_no_deadline_is_to_be_kept(void) {
        BENCH;
        begin_with_a_second(&b);
        _cleanup_close_ int vm = start_vm(&b.w, NULL);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(b.w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&b.w), ==, 0);
        g_assert_cmpint(drain(&b), ==, 'V');
}

static void test_it_stays_armed_when_something_lives_past_its_deadline(void) {
        BENCH;
        begin_with_a_second(&b);
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&b.w, &pid);
        g_assert_cmpint(hold(&b.w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&b.w, now_us() + 200 * MS, 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        g_assert_cmpint(kill(b.w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&b.w), ==, 0);
        await(&b.w, &b.w.n_disconnected, 1);
        g_assert_cmpint(drain(&b), ==, '.');
        g_assert_true(is_let_go(&b));
        let_die(pid);
        await_death(vm);
        g_assert_cmpint(await_end_of_remnant(&b.w), ==, 0);
}

static void test_it_stays_armed_when_the_guard_is_killed(void) {
        BENCH;
        begin_with_a_second(&b);
        g_assert_cmpint(kill(b.w.guard, SIGKILL), ==, 0);
        g_assert_true(WIFSIGNALED(await_end_of_guard(&b.w)));
        g_assert_cmpint(drain(&b), ==, '.');
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        preload = guard_world_preload(argc, argv);
#define TEST(name) g_test_add_func("/guard-watchdog/" #name, test_##name)
        TEST(a_device_that_is_not_there_is_refused);
        TEST(what_is_no_watchdog_is_refused_and_not_touched);
        TEST(a_longer_period_than_asked_for_is_refused_and_the_device_disarmed);
        TEST(a_period_that_the_device_does_not_tell_is_refused);
        TEST(a_timeout_that_is_none_is_refused);
        TEST(an_option_that_is_none_is_refused);
        TEST(the_period_is_told_with_some_slack);
        TEST(without_a_device_none_is_told);
        TEST(it_is_patted_in_time_while_nothing_is_to_be_feared);
        TEST(between_two_pats_there_is_a_third_of_the_period_at_most);
        TEST(from_the_deadline_on_it_is_not_patted_while_something_lives);
        TEST(while_all_is_stopped_it_is_patted);
        TEST(while_something_would_not_stop_it_is_not_patted);
        TEST(a_guard_that_stands_still_does_not_pat);
        TEST(a_guard_that_slept_past_the_deadline_does_not_pat);
        TEST(a_guard_that_is_late_does_not_pat);
        TEST(it_is_disarmed_when_the_guard_ends_and_nothing_lives);
        TEST(it_is_disarmed_when_the_guard_ends_and_no_deadline_is_to_be_kept);
        TEST(it_is_disarmed_and_let_go_when_the_guard_leaves_in_the_middle_of_a_lease);
        TEST(it_stays_armed_when_something_lives_past_its_deadline);
        TEST(it_stays_armed_when_the_guard_is_killed);
#undef TEST
        return g_test_run();
}
