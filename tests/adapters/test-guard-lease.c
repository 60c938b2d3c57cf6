/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The guard's deadline, with real processes. Argument 2 is guard-preload. No test says how soon after a deadline
 * something happens, but for the figures that it prints. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"
#include "util/array.h"

static const char *preload;

/* ---- it ends */

static void test_at_the_deadline_all_are_killed_and_that_is_proven(void) {
        WORLD;
        int vms[5];
        for (unsigned i = 0; i < ELEMENTS(vms); i++) {
                vms[i] = start_vm(&w, NULL);
                g_assert_cmpint(hold(&w, i, 7, vms[i]), ==, GUARD_CALL_OK);
        }
        uint64_t until = in(400 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        g_assert_cmpuint(guard_state(&w).until_us, ==, until);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpuint(w.n_died_at_end, ==, ELEMENTS(vms));
        g_assert_true(guard_state(&w).ended);
        for (unsigned i = 0; i < ELEMENTS(vms); i++) {
                g_assert_true(is_dead(vms[i]));
                close(vms[i]);
        }
        g_assert_cmpuint(list(&w), ==, ELEMENTS(vms));
        g_assert_false(w.entries[0].alive);
}

static void test_before_the_deadline_nothing_happens(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(2 * SECOND);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        do {
                bool dead = is_dead(vm);
                g_assert_true(!dead || now_us() >= until);
                await_instant(&w, in(50 * MS));
        } while (now_us() < until - 200 * MS);
        await(&w, &w.n_ended, 1);
}

static void test_a_stopped_process_is_killed_too(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(pid, SIGSTOP), ==, 0);
        await_stop(pid);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
}

static void test_a_deadline_in_the_past_is_as_good_as_now(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, 2, 0), ==, GUARD_CALL_OK);
        g_assert_true(guard_state(&w).ended);
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
}

static void test_at_once_leaves_out_the_hold(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, HOUR), ==, GUARD_CALL_OK);
        g_assert_true(guard_state(&w).ended);
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
}

/* Whose answer comes first has its VMs killed first. */
static void test_at_once_is_answered_when_the_signal_is_sent(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        let_die(pid);
        await(&w, &w.n_ended, 1);
}

static void test_a_lease_without_vms_ends_as_well(void) {
        WORLD;
        g_assert_cmpint(lease(&w, in(100 * MS), HOUR), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_true(guard_state(&w).ended);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 2);
}

/* ---- it is moved */

static bool renewed_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t before = UINT64_MAX, until = 0;
        for (unsigned i = 0; i <= 6; before = until, i++) {
                until = in(i < 6 ? time_us : HOUR);
                GuardResult result = lease(&w, until, 0);
                if (now_us() >= before || result == GUARD_CALL_TIMED_OUT)
                        return false;
                g_assert_cmpint(result, ==, GUARD_CALL_OK);
                if (i < 6)
                        await_instant(&w, in(time_us * 3 / 10));
                else
                        await_instant(&w, before + 100 * MS);
        }
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpuint(w.n_ended, ==, 0);
        return true;
}

static void test_a_renewal_moves_the_deadline(void) {
        play(renewed_within, 500 * MS);
}

static void test_a_shorter_lease_counts(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        uint64_t until = in(200 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_true(is_dead(vm));
}

static bool taken_away_within(uint64_t time_us) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(time_us);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        GuardResult result = lease(&w, 0, 0);
        if (now_us() >= until || result == GUARD_CALL_TIMED_OUT)
                return false;
        g_assert_cmpint(result, ==, GUARD_CALL_OK);
        await_instant(&w, until + 100 * MS);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpuint(guard_state(&w).until_us, ==, 0);
        g_assert_false(guard_state(&w).ended);
        return true;
}

static void test_a_deadline_can_be_taken_away(void) {
        play(taken_away_within, 300 * MS);
}

static void test_any_times_are_borne(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, UINT64_MAX, UINT64_MAX), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, UINT64_MAX, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, 0, UINT64_MAX), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, UINT64_C(1) << 63, UINT64_C(1) << 63), ==, GUARD_CALL_OK);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_false(guard_state(&w).stopped);
        g_assert_cmpint(lease(&w, 2, UINT64_MAX), ==, GUARD_CALL_OK);
        g_assert_true(guard_state(&w).stopped);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, UINT64_MAX), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
}

/* ---- it holds first */

static void test_a_vm_that_is_stopped_goes_on_with_a_new_lease(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(200 * MS);
        g_assert_cmpint(lease(&w, until, HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_true(guard_state(&w).stopped);
        g_assert_false(guard_state(&w).ended);

        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        await_continuation(pid);
        g_assert_false(guard_state(&w).stopped);
        g_assert_cmpuint(w.n_ended, ==, 0);
}

/* As gpupoold does it where no lease comes; and somebody else has stopped a VM, who knows why. */
static void test_to_be_told_the_same_again_continues_nobody(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        uint64_t until = in(HOUR);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(pid, SIGSTOP), ==, 0);
        await_stop(pid);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(waitpid(pid, NULL, WCONTINUED | WNOHANG), ==, 0);
        g_assert_cmpint(lease(&w, until + 1, 0), ==, GUARD_CALL_OK);
        await_continuation(pid);
}

static bool seen_stopped_within(uint64_t hold_us) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(200 * MS);
        g_assert_cmpint(lease(&w, until, hold_us), ==, GUARD_CALL_OK);
        if (!saw_stop(pid))
                return false;
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(now_us(), >=, until + hold_us);
        g_assert_true(is_dead(vm));
        g_assert_cmpuint(w.n_died_at_end, ==, 1);
        return true;
}

static void test_a_vm_that_is_stopped_is_killed_when_its_time_is_up(void) {
        play(seen_stopped_within, 250 * MS);
}

static void test_a_vm_that_is_stopped_is_killed_at_once_if_told_so(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, HOUR), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
}

static void test_a_vm_that_somebody_continues_is_stopped_again(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpint(kill(pid, SIGCONT), ==, 0);
        await_stop(pid);
}

static void test_a_lease_that_has_passed_continues_nothing(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        int status;
        g_assert_cmpint(waitpid(pid, &status, WCONTINUED | WNOHANG), ==, 0);
        g_assert_true(guard_state(&w).stopped);
}

static void test_when_all_that_is_stopped_dies_the_lease_has_ended(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
}

/* ---- what is held after the deadline fares as what was held before */

static void test_what_is_held_while_others_are_stopped_is_stopped(void) {
        WORLD;
        pid_t pid, late_pid;
        _cleanup_close_ int vm = start_vm(&w, &pid), late = start_vm(&w, &late_pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        await_stop(pid);
        g_assert_cmpint(hold(&w, 2, 7, late), ==, GUARD_CALL_OK);
        await_stop(late_pid);
        g_assert_true(guard_state(&w).stopped);
        g_assert_cmpint(hold(&w, 2, 7, late), ==, GUARD_CALL_OK);       /* once more is nothing new */
        g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
        await_continuation(pid);
        await_continuation(late_pid);
        g_assert_cmpint(lease(&w, in(100 * MS), 100 * MS), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(late));
        g_assert_cmpuint(w.n_died_at_end, ==, 2);
}

static void test_what_is_held_while_others_are_killed_is_killed(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int slow = start_immortal_vm(&w, &pid), late = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, slow), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        g_assert_cmpint(hold(&w, 2, 7, late), ==, GUARD_CALL_LEASE_ENDED);
        await(&w, &w.n_died, 1);
        g_assert_true(is_dead(late));
        g_assert_cmpuint(list(&w), ==, 2);
        g_assert_cmpint(hold(&w, 1, 7, slow), ==, GUARD_CALL_LEASE_ENDED);
        g_assert_cmpuint(w.n_ended, ==, 0);
        let_die(pid);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(w.n_died_at_end, ==, 2);
}

static void test_what_is_held_after_the_end_is_killed_and_the_end_is_said_again(void) {
        WORLD;
        g_assert_cmpint(lease(&w, just_passed(), 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        for (unsigned i = 1; i <= 3; i++) {
                pid_t pid;
                _cleanup_close_ int vm = start_immortal_vm(&w, &pid);
                g_assert_cmpint(hold(&w, i, 7, vm), ==, GUARD_CALL_LEASE_ENDED);
                await_death_throes(pid);
                g_assert_true(guard_state(&w).ended);
                g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_LEASE_ENDED);    /* it lives */
                g_assert_cmpuint(w.n_ended, ==, i);
                let_die(pid);
                await(&w, &w.n_ended, i + 1);
                g_assert_cmpuint(w.n_died_at_end, ==, i);
                g_assert_true(is_dead(vm));
        }
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 9, 7, vm), ==, GUARD_CALL_OK);
        g_assert_false(is_dead(vm));
}

/* All was dead before the hold was over: that was the end, and what comes later is not merely stopped. */
static void test_after_an_early_end_nothing_is_stopped_only(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL), late = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_cmpint(hold(&w, 2, 7, late), ==, GUARD_CALL_LEASE_ENDED);
        await(&w, &w.n_ended, 2);
        g_assert_true(is_dead(late));
}

/* What may not be held at all is not touched, however late it is. */
static void test_what_is_not_to_be_held_is_not_killed_for_it(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int slow = start_immortal_vm(&w, &pid), other = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, slow), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, just_passed(), 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        g_assert_cmpint(hold(&w, 1, 7, other), ==, GUARD_CALL_CONFLICT);
        g_assert_cmpint(hold(&w, 1, 6, other), ==, GUARD_CALL_STALE);
        await_instant(&w, in(300 * MS));
        g_assert_false(is_dead(other));
        let_die(pid);
        await(&w, &w.n_ended, 1);
}

/* ---- there is no way back */

static void test_while_something_dies_the_end_is_not_said_and_no_lease_is_taken(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int slow = start_immortal_vm(&w, &pid), quick = start_vm(&w, NULL), other = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, slow), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 2, 7, quick), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(200 * MS), 0), ==, GUARD_CALL_OK);
        await_death_throes(pid);
        await(&w, &w.n_died, 1);
        await_instant(&w, in(500 * MS));
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_LEASE_ENDED);
        g_assert_cmpint(lease(&w, 0, 0), ==, GUARD_CALL_LEASE_ENDED);
        g_assert_true(guard_state(&w).ended);
        g_assert_cmpuint(w.n_ended, ==, 0);

        let_die(pid);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(w.n_died_at_end, ==, 2);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_false(guard_state(&w).ended);
        g_assert_cmpint(hold(&w, 3, 7, other), ==, GUARD_CALL_OK);
        g_assert_false(is_dead(other));
}

static void test_a_signal_that_the_kernel_refused_is_sent_again(void) {
        _cleanup_(world_end) World w = { .environment = { "LD_PRELOAD", preload, "GUARD_TEST_REFUSE", "3" } };
        world_begin(&w);
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t asked = now_us();
        g_assert_cmpint(lease(&w, GUARD_AT_ONCE, 0), ==, GUARD_CALL_OK);
        bool dead = is_dead(vm);
        g_assert_true(!dead || now_us() >= asked + 300 * MS);   /* three times a tenth of a second later */
        await(&w, &w.n_ended, 1);
        g_assert_true(is_dead(vm));
}

static void test_after_the_end_everything_begins_anew(void) {
        WORLD;
        for (unsigned i = 1; i <= 3; i++) {
                _cleanup_close_ int vm = start_vm(&w, NULL);
                g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
                g_assert_cmpint(hold(&w, 1, i, vm), ==, GUARD_CALL_OK);
                g_assert_cmpint(lease(&w, in(100 * MS), 0), ==, GUARD_CALL_OK);
                await(&w, &w.n_ended, i);
                g_assert_true(is_dead(vm));
        }
}

/* ---- it does not need its client, and outsleeps nothing */

static void test_without_a_client_the_deadline_counts(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(300 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        w.link = guard_link_free(w.link);
        await_death(vm);
        g_assert_cmpuint(now_us(), >=, until);
}

static void test_an_end_while_the_link_was_down_is_told_when_it_is_back(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(200 * MS), 0), ==, GUARD_CALL_OK);
        w.link = guard_link_free(w.link);
        w.event = sd_event_unref(w.event);
        await_death(vm);
        g_usleep(100 * MS);             /* a lease that ends later is told, too, but then by ENDED */
        w.n_connected = w.n_ended = 0;  /* whoever was slow to hang up may have been told, too */
        world_connect(&w);
        await(&w, &w.n_ended, 1);
        g_assert_true(w.met.ended);
        g_assert_true(w.connected_when_told);
        g_assert_true(guard_state(&w).ended);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpuint(w.n_ended, ==, 1);
}

static void test_a_guard_that_slept_past_the_deadline_kills_before_it_serves(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&w, &pid), other = start_vm(&w, NULL), raw = connect_raw(&w);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(500 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(waitpid(w.guard, NULL, WUNTRACED), ==, w.guard);

        GuardMessage more = { .version = GUARD_VERSION, .type = GUARD_LEASE, .cookie = 1, .until_us = in(HOUR) };
        GuardMessage another = { .version = GUARD_VERSION, .type = GUARD_HOLD, .cookie = 2, .epoch = 1, .vm = "other" };
        g_assert_cmpint(send_raw(raw, &more, sizeof(more), NULL, 0), ==, sizeof(more));
        g_assert_cmpint(send_raw(raw, &another, sizeof(another), &other, 1), ==, sizeof(another));
        sleep_until(until + 50 * MS);
        g_assert_false(is_dead(vm));
        g_assert_cmpint(kill(w.guard, SIGCONT), ==, 0);
        for (uint64_t cookie = 1; cookie <= 2; cookie++) {
                GuardMessage answer = receive_raw(raw);
                g_assert_cmpuint(answer.cookie, ==, cookie);
                g_assert_cmpuint(answer.answer, ==, GUARD_LEASE_ENDED);
                g_assert_cmpuint(answer.stage, ==, GUARD_STAGE_KILLING);
        }
        await_death_throes(pid);
        await_death(other);
        let_die(pid);
        await(&w, &w.n_ended, 1);
}

/* With a hold they are stopped first; if its time is over, too, they are killed. */
static void test_a_guard_that_slept_past_the_deadline_stops_before_it_serves(void) {
        for (unsigned late = 0; late <= 1; late++) {
                WORLD;
                pid_t pid, other_pid;
                _cleanup_close_ int vm = start_vm(&w, &pid), other = start_vm(&w, &other_pid), raw = connect_raw(&w);
                g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
                uint64_t until = in(300 * MS);
                g_assert_cmpint(lease(&w, until, late ? 200 * MS : HOUR), ==, GUARD_CALL_OK);
                g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
                g_assert_cmpint(waitpid(w.guard, NULL, WUNTRACED), ==, w.guard);
                GuardMessage another = { .version = GUARD_VERSION, .type = GUARD_HOLD, .cookie = 1, .epoch = 1,
                                         .vm = "other" };
                g_assert_cmpint(send_raw(raw, &another, sizeof(another), &other, 1), ==, sizeof(another));
                sleep_until(until + 300 * MS);
                g_assert_cmpint(kill(w.guard, SIGCONT), ==, 0);
                GuardMessage answer = receive_raw(raw);
                g_assert_cmpuint(answer.answer, ==, late ? GUARD_LEASE_ENDED : GUARD_OK);
                g_assert_cmpuint(answer.stage, ==, late ? GUARD_STAGE_KILLING : GUARD_STAGE_STOPPED);
                if (late) {
                        await_death(vm);
                        await_death(other);
                        continue;
                }
                await_stop(pid);
                await_stop(other_pid);
                g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
                await_continuation(pid);
                await_continuation(other_pid);
        }
}

/* The request came in time, and was in hand when the guard stood still. */
static void test_a_request_that_was_in_hand_at_the_deadline_is_too_late(void) {
        _cleanup_(world_end) World w = {};
        w.environment[0] = "LD_PRELOAD";
        w.environment[1] = preload;
        w.environment[2] = "GUARD_TEST_LATE_AFTER_RECEIVE";
        w.environment[3] = "700";
        world_begin(&w);
        pid_t pid;
        _cleanup_close_ int vm = start_immortal_vm(&w, &pid), other = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(1100 * MS), 0), ==, GUARD_CALL_OK);        /* taken when 400 ms are left */
        g_assert_cmpint(hold(&w, 2, 7, other), ==, GUARD_CALL_LEASE_ENDED);
        await_death_throes(pid);
        await_death(other);
        let_die(pid);
        await(&w, &w.n_ended, 1);
}

/* The host was suspended, as far as its clocks tell: the guard has a time of its own, whose CLOCK_BOOTTIME is an hour
 * ahead of ours and whose CLOCK_MONOTONIC is ours. Only who waits by the first kills in time. */
static void test_the_time_of_a_suspended_host_counts(void) {
        _cleanup_(world_end) World w = {};
        if (unshare(CLONE_NEWTIME) < 0) {
                g_test_skip("no time namespace can be had here");
                world_begin(&w);
                return;
        }
        _cleanup_close_ int offsets = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
        static const char ahead[] = "boottime 3600 0";
        g_assert_cmpint(write(offsets, ahead, sizeof(ahead) - 1), ==, sizeof(ahead) - 1);
        world_begin(&w);
        _cleanup_close_ int own = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(setns(own, CLONE_NEWTIME), ==, 0);      /* for children of the tests that follow */

        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        uint64_t until = in(300 * MS);
        g_assert_cmpint(lease(&w, until + HOUR, 0), ==, GUARD_CALL_OK);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(now_us(), >=, until);
        g_assert_true(is_dead(vm));
}

static void test_a_guard_that_hangs_answers_no_lease(void) {
        WORLD;
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_TIMED_OUT);
        await(&w, &w.n_disconnected, 1);
        g_assert_cmpint(kill(w.guard, SIGCONT), ==, 0);
        await(&w, &w.n_connected, 2);
        g_assert_cmpuint(w.n_anew, ==, 1);
}

/* ---- what it says */

static void expect_state(const GuardMessage *m, uint64_t instance, uint64_t until_us, uint64_t hold_us,
                         GuardStage stage) {
        g_assert_cmpuint(m->version, ==, GUARD_VERSION);
        g_assert_cmpuint(m->instance, ==, instance);
        g_assert_cmpuint(m->until_us, ==, until_us);
        g_assert_cmpuint(m->hold_us, ==, hold_us);
        g_assert_cmpuint(m->watchdog_us, ==, 0);
        g_assert_cmpuint(m->stage, ==, stage);
}

static GuardMessage ask_raw(int raw, GuardMessage request) {
        request.version = GUARD_VERSION;
        request.cookie = 42;
        g_assert_cmpint(send_raw(raw, &request, sizeof(request), NULL, 0), ==, sizeof(request));
        GuardMessage m = receive_raw(raw);
        g_assert_cmpuint(m.cookie, ==, 42);
        return m;
}

static void test_every_packet_tells_the_state_and_every_client_is_told(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL), raw = connect_raw(&w);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        GuardMessage m = ask_raw(raw, (GuardMessage) { .type = GUARD_LIST, .index = 1 });
        uint64_t instance = m.instance;
        g_assert_cmpuint(m.type, ==, GUARD_ANSWER);
        expect_state(&m, instance, 0, 0, GUARD_STAGE_RUNNING);
        g_assert_cmpuint(instance, !=, 0);

        uint64_t until = in(HOUR);
        m = ask_raw(raw, (GuardMessage) { .type = GUARD_LEASE, .until_us = until, .hold_us = 3 });
        expect_state(&m, instance, until, 3, GUARD_STAGE_RUNNING);
        /* What a client says of the guard is not what the guard says. */
        m = ask_raw(raw, (GuardMessage) { .type = GUARD_LIST, .until_us = 9, .hold_us = 9, .stage = 9, .watchdog_us = 9,
                                          .instance = 9 });
        g_assert_cmpuint(m.type, ==, GUARD_ENTRY);
        g_assert_cmpuint(m.epoch, ==, 7);
        g_assert_cmpuint(m.alive, ==, 1);
        expect_state(&m, instance, until, 3, GUARD_STAGE_RUNNING);

        m = ask_raw(raw, (GuardMessage) { .type = GUARD_LEASE, .until_us = GUARD_AT_ONCE, .hold_us = 4 });
        expect_state(&m, instance, GUARD_AT_ONCE, 4, GUARD_STAGE_KILLING);
        m = receive_raw(raw);
        g_assert_cmpuint(m.type, ==, GUARD_DIED);
        g_assert_cmpuint(m.cookie, ==, 0);
        expect_state(&m, instance, GUARD_AT_ONCE, 4, GUARD_STAGE_KILLING);
        m = receive_raw(raw);
        g_assert_cmpuint(m.type, ==, GUARD_ENDED);
        g_assert_cmpuint(m.cookie, ==, 0);
        expect_state(&m, instance, GUARD_AT_ONCE, 4, GUARD_STAGE_ENDED);
        await(&w, &w.n_ended, 1);
        g_assert_cmpuint(w.n_died_at_end, ==, 1);

        GuardMessage strange = { .version = GUARD_VERSION, .type = 99, .cookie = 1 };
        g_assert_cmpint(send_raw(raw, &strange, sizeof(strange), NULL, 0), ==, sizeof(strange));
        m = receive_raw(raw);
        g_assert_cmpuint(m.answer, ==, GUARD_BAD_REQUEST);
        expect_state(&m, instance, GUARD_AT_ONCE, 4, GUARD_STAGE_ENDED);
}

/* ---- at random, beside a model */

#define RANDOM_VMS 6U
#define RANDOM_STEPS 1500U

typedef struct Model {
        int vms[RANDOM_VMS];            /* pidfds; -1: none lives */
        bool held[RANDOM_VMS];
        uint64_t epoch;
        GuardStage stage;               /* RUNNING, STOPPED or ENDED: the rest does not last */
        uint64_t until_us, hold_us;
} Model;

static bool any_is_held(const Model *model) {
        for (unsigned i = 0; i < RANDOM_VMS; i++)
                if (model->held[i] && model->vms[i] >= 0)
                        return true;
        return false;
}

static void bury(Model *model, unsigned i) {
        await_death(model->vms[i]);
        close(model->vms[i]);
        model->vms[i] = -1;
}

static void step_lease(World *w, Model *model) {
        static const uint64_t holds[] = { 0, 5, HOUR, UINT64_MAX };
        uint64_t choices[] = { 0, in(HOUR), in(2 * HOUR), UINT64_MAX, GUARD_AT_ONCE, just_passed() };
        unsigned ended = w->n_ended;
        model->until_us = choices[g_test_rand_int_range(0, (gint32) ELEMENTS(choices))];
        model->hold_us = holds[g_test_rand_int_range(0, (gint32) ELEMENTS(holds))];
        bool out = model->until_us > 0 && model->until_us <= now_us();
        bool stops = out && model->until_us != GUARD_AT_ONCE && model->hold_us >= HOUR && any_is_held(model);
        g_assert_cmpint(lease(w, model->until_us, model->hold_us), ==, GUARD_CALL_OK);
        model->stage = !out ? GUARD_STAGE_RUNNING : stops ? GUARD_STAGE_STOPPED : GUARD_STAGE_ENDED;
        if (!out || stops)
                return;
        await(w, &w->n_ended, ended + 1);
        for (unsigned i = 0; i < RANDOM_VMS; i++)
                if (model->held[i] && model->vms[i] >= 0)
                        bury(model, i);
}

static void step_hold(World *w, Model *model, unsigned i) {
        if (model->vms[i] < 0) {
                model->vms[i] = start_vm(w, NULL);
                w->vms.n--;             /* the guard's, or ours at the end */
                model->held[i] = false;
        }
        bool begins = !model->held[i], is_late = model->stage == GUARD_STAGE_ENDED;
        unsigned ended = w->n_ended;
        g_assert_cmpint(hold(w, i, 1, model->vms[i]), ==, is_late ? GUARD_CALL_LEASE_ENDED : GUARD_CALL_OK);
        model->held[i] = true;
        if (!is_late)
                return;
        g_assert_true(begins);          /* what was held before is dead */
        await(w, &w->n_ended, ended + 1);
        bury(model, i);
}

static void step_kill(World *w, Model *model, unsigned i) {
        unsigned ended = w->n_ended;
        if (model->vms[i] < 0 || !model->held[i])
                return;
        g_assert_cmpint(kill_vm(w, i, 1), ==, GUARD_CALL_OK);
        bury(model, i);
        if (model->stage != GUARD_STAGE_STOPPED || any_is_held(model))
                return;
        await(w, &w->n_ended, ended + 1);
        model->stage = GUARD_STAGE_ENDED;
}

static void test_at_random_it_does_as_a_model_says(void) {
        WORLD;
        Model model = {};
        for (unsigned i = 0; i < RANDOM_VMS; i++)
                model.vms[i] = -1;
        for (unsigned step = 0; step < RANDOM_STEPS; step++) {
                unsigned i = (unsigned) g_test_rand_int_range(0, RANDOM_VMS);
                switch (g_test_rand_int_range(0, 4)) {
                case 0:
                        step_lease(&w, &model);
                        break;
                case 1:
                        step_kill(&w, &model, i);
                        break;
                default:
                        step_hold(&w, &model, i);
                }
                GuardState state = guard_state(&w);
                g_assert_cmpint(state.ended, ==, model.stage == GUARD_STAGE_ENDED);
                g_assert_cmpint(state.stopped, ==, model.stage == GUARD_STAGE_STOPPED);
                g_assert_cmpuint(state.until_us, ==, model.until_us);
                g_assert_cmpuint(state.hold_us, ==, model.hold_us);
                while (waitpid(-1, NULL, WNOHANG) > 0)
                        ;
        }
        for (unsigned i = 0; i < RANDOM_VMS; i++)
                if (model.vms[i] >= 0) {
                        g_assert_cmpint(pidfd_send_signal(model.vms[i], SIGKILL, NULL, 0), ==, 0);
                        bury(&model, i);
                }
}

/* ---- many */

static void test_as_many_as_there_is_room_for_are_killed(void) {
        WORLD;
        int vms[GUARD_VMS_MAX];
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++) {
                vms[i] = start_vm(&w, NULL);
                g_assert_cmpint(hold(&w, i, 7, vms[i]), ==, GUARD_CALL_OK);
        }
        uint64_t until = in(200 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                await_death(vms[i]);
        uint64_t dead = now_us();
        await(&w, &w.n_ended, 1);
        uint64_t told = now_us();
        g_assert_cmpuint(w.n_died_at_end, ==, GUARD_VMS_MAX);
        g_test_message("%u processes were dead %.1f ms after the deadline, and that was told after %.1f ms",
                       GUARD_VMS_MAX, (double) (dead - until) / (double) MS, (double) (told - until) / (double) MS);
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                close(vms[i]);
}

static char *memory_map(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%i/maps", pid);
        char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return text;
}

/* Everything that it can do, and a few things that it cannot, with a C library that ends it if it asks for memory, and
 * a look at what the kernel has given it. */
static void test_the_guard_takes_no_memory_after_its_start(void) {
        if (IS_SANITIZED) {
                g_test_skip("a sanitizer takes memory for itself");
                return;
        }
        _cleanup_(world_end) World w = { .environment = { "LD_PRELOAD", preload, "GUARD_TEST_NO_MEMORY", "1" } };
        world_begin(&w);
        g_autofree char *before = memory_map(w.guard);
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid), self = pidfd_open(getpid(), 0);
        for (unsigned round = 1; round <= 2; round++) {
                g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
                for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                        g_assert_cmpint(hold(&w, i, round, vm), ==, GUARD_CALL_OK);
                g_assert_cmpint(hold(&w, GUARD_VMS_MAX, round, vm), ==, GUARD_CALL_FULL);
                g_assert_cmpint(hold(&w, 0, round, self), ==, GUARD_CALL_NOT_OURS);
                g_assert_cmpuint(list(&w), ==, GUARD_VMS_MAX);
                g_assert_cmpint(lease(&w, just_passed(), HOUR), ==, GUARD_CALL_OK);
                await_stop(pid);
                g_assert_cmpint(lease(&w, in(HOUR), HOUR), ==, GUARD_CALL_OK);
                g_assert_cmpint(lease(&w, in(10 * MS), 20 * MS), ==, GUARD_CALL_OK);
                await(&w, &w.n_ended, round);
                g_assert_cmpuint(w.n_died, ==, round * GUARD_VMS_MAX);
                for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                        g_assert_cmpint(release(&w, i, round), ==, GUARD_CALL_OK);
                close(vm);
                vm = start_vm(&w, &pid);
        }
        _cleanup_close_ int raw = connect_raw(&w);
        g_assert_cmpint(send_raw(raw, "nonsense", 8, NULL, 0), ==, 8);
        g_autofree char *after = memory_map(w.guard);
        g_assert_cmpstr(before, ==, after);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 1, 9, vm), ==, GUARD_CALL_OK);
        kill_guard(&w);
        start_next_guard(&w);
        g_autofree char *next_before = memory_map(w.guard);
        uint64_t until = in(500 * MS);
        g_assert_cmpint(lease(&w, until, 0), ==, GUARD_CALL_OK);
        g_assert_cmpuint(list(&w), ==, 1);
        g_autofree char *next_after = memory_map(w.guard);
        g_assert_cmpstr(next_before, ==, next_after);
        g_assert_cmpint(kill(w.guard, SIGTERM), ==, 0);
        g_assert_cmpint(await_end_of_guard(&w), ==, 0);
        uint64_t left_us = now_us();
        await_death(vm);
        if (left_us < until || find_remnant(&w) > 0)            /* who is asked too late leaves nobody behind */
                g_assert_cmpint(await_end_of_remnant(&w), ==, 0);
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        preload = guard_world_preload(argc, argv);
#define TEST(name) g_test_add_func("/guard-lease/" #name, test_##name)
        TEST(at_the_deadline_all_are_killed_and_that_is_proven);
        TEST(before_the_deadline_nothing_happens);
        TEST(a_stopped_process_is_killed_too);
        TEST(a_deadline_in_the_past_is_as_good_as_now);
        TEST(at_once_leaves_out_the_hold);
        TEST(at_once_is_answered_when_the_signal_is_sent);
        TEST(a_lease_without_vms_ends_as_well);
        TEST(a_renewal_moves_the_deadline);
        TEST(a_shorter_lease_counts);
        TEST(a_deadline_can_be_taken_away);
        TEST(any_times_are_borne);
        TEST(a_vm_that_is_stopped_goes_on_with_a_new_lease);
        TEST(to_be_told_the_same_again_continues_nobody);
        TEST(a_vm_that_is_stopped_is_killed_when_its_time_is_up);
        TEST(a_vm_that_is_stopped_is_killed_at_once_if_told_so);
        TEST(a_vm_that_somebody_continues_is_stopped_again);
        TEST(a_lease_that_has_passed_continues_nothing);
        TEST(when_all_that_is_stopped_dies_the_lease_has_ended);
        TEST(what_is_held_while_others_are_stopped_is_stopped);
        TEST(what_is_held_while_others_are_killed_is_killed);
        TEST(what_is_held_after_the_end_is_killed_and_the_end_is_said_again);
        TEST(after_an_early_end_nothing_is_stopped_only);
        TEST(what_is_not_to_be_held_is_not_killed_for_it);
        TEST(while_something_dies_the_end_is_not_said_and_no_lease_is_taken);
        TEST(a_signal_that_the_kernel_refused_is_sent_again);
        TEST(after_the_end_everything_begins_anew);
        TEST(without_a_client_the_deadline_counts);
        TEST(an_end_while_the_link_was_down_is_told_when_it_is_back);
        TEST(a_guard_that_slept_past_the_deadline_kills_before_it_serves);
        TEST(a_guard_that_slept_past_the_deadline_stops_before_it_serves);
        TEST(a_request_that_was_in_hand_at_the_deadline_is_too_late);
        TEST(the_time_of_a_suspended_host_counts);
        TEST(a_guard_that_hangs_answers_no_lease);
        TEST(every_packet_tells_the_state_and_every_client_is_told);
        TEST(at_random_it_does_as_a_model_says);
        TEST(as_many_as_there_is_room_for_are_killed);
        TEST(the_guard_takes_no_memory_after_its_start);
#undef TEST
        return g_test_run();
}
