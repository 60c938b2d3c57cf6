/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>

#include "core/vm.h"

/* A VM that was told to run and whose assignment has just ended. */
static Vm ended(RestartPolicy policy, EndCause cause, const char *sentence, uint64_t ran_ms) {
        Vm vm = { .restart = policy, .run = true };
        g_assert_cmpint(vm_ended(&vm, cause, sentence, ran_ms), ==, 0);
        return vm;
}

static void test_state_follows_the_assignment(void) {
        static const VmState expected[ASSIGNMENT_PHASE_COUNT] = {
                [ASSIGNMENT_NONE] = VM_STATE_STOPPED,
                [ASSIGNMENT_STARTING] = VM_STATE_STARTING,
                [ASSIGNMENT_RUNNING] = VM_STATE_RUNNING,
                [ASSIGNMENT_STOPPING] = VM_STATE_STOPPING,
        };
        for (AssignmentPhase phase = 0; phase < ASSIGNMENT_PHASE_COUNT; phase++) {
                Vm vm = { .assignment = { .phase = phase } };
                g_assert_cmpint(vm_state(&vm), ==, expected[phase]);
        }
}

static void test_state_without_an_assignment_follows_what_is_wanted(void) {
        Vm vm = { .run = true };
        g_assert_cmpint(vm_state(&vm), ==, VM_STATE_WAITING);
        vm.attempts = 1;
        g_assert_cmpint(vm_state(&vm), ==, VM_STATE_BACKOFF);
        vm.failed = true;
        g_assert_cmpint(vm_state(&vm), ==, VM_STATE_FAILED);
        vm.run = false;
        g_assert_cmpint(vm_state(&vm), ==, VM_STATE_STOPPED);
}

static void test_every_end_has_its_consequence(void) {
        static const struct {
                EndCause cause;
                VmState always, on_failure, never;
        } rows[] = {
                { END_REQUESTED, VM_STATE_WAITING, VM_STATE_WAITING, VM_STATE_WAITING },
                { END_GUEST_SHUTDOWN, VM_STATE_WAITING, VM_STATE_STOPPED, VM_STATE_STOPPED },
                { END_CRASHED, VM_STATE_BACKOFF, VM_STATE_BACKOFF, VM_STATE_STOPPED },
                { END_START_FAILED, VM_STATE_BACKOFF, VM_STATE_BACKOFF, VM_STATE_FAILED },
                { END_DESTROYED, VM_STATE_BACKOFF, VM_STATE_BACKOFF, VM_STATE_STOPPED },
                { END_GPU_LOST, VM_STATE_BACKOFF, VM_STATE_BACKOFF, VM_STATE_STOPPED },
                { END_NODE_LOST, VM_STATE_WAITING, VM_STATE_WAITING, VM_STATE_STOPPED },
                { END_LEASE_ENDED, VM_STATE_WAITING, VM_STATE_WAITING, VM_STATE_STOPPED },
                { END_GUARD_LOST, VM_STATE_WAITING, VM_STATE_WAITING, VM_STATE_STOPPED },
                { END_GPU_UNUSABLE, VM_STATE_WAITING, VM_STATE_WAITING, VM_STATE_WAITING },
        };
        g_assert_cmpuint(ELEMENTS(rows), ==, END_CAUSE_COUNT);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const VmState expected[RESTART_POLICY_COUNT] = { rows[i].always, rows[i].on_failure, rows[i].never };
                for (RestartPolicy policy = 0; policy < RESTART_POLICY_COUNT; policy++) {
                        _cleanup_(vm_clear) Vm vm = ended(policy, rows[i].cause, NULL, 0);
                        g_test_message("%s, %s", end_cause_to_text(rows[i].cause), restart_policy_to_text(policy));
                        g_assert_cmpint(vm_state(&vm), ==, expected[policy]);
                }
        }
}

static void test_who_was_to_stop_has_stopped_whatever_the_cause(void) {
        for (EndCause cause = 0; cause < END_CAUSE_COUNT; cause++) {
                _cleanup_(vm_clear) Vm vm = { .restart = RESTART_ALWAYS, .run = false };
                g_assert_cmpint(vm_ended(&vm, cause, "whatever", 0), ==, 0);
                g_assert_false(vm.run);
                g_assert_false(vm.failed);
                g_assert_cmpuint(vm.attempts, ==, 0);
                g_assert_null(vm.reason_code);
        }
}

static void test_too_many_failures_in_a_row_are_the_end(void) {
        _cleanup_(vm_clear) Vm vm = { .restart = RESTART_ON_FAILURE, .run = true };
        for (uint32_t i = 1; i <= VM_ATTEMPTS_MAX; i++) {
                g_assert_false(vm.failed);
                g_assert_cmpint(vm_ended(&vm, END_CRASHED, NULL, 1000), ==, 0);
                g_assert_cmpuint(vm.attempts, ==, i);
        }
        g_assert_true(vm.failed);
        g_assert_true(vm.run);
}

static void test_who_ran_long_enough_counts_anew(void) {
        _cleanup_(vm_clear) Vm vm = { .restart = RESTART_ALWAYS, .run = true, .attempts = VM_ATTEMPTS_MAX - 1 };
        g_assert_cmpint(vm_ended(&vm, END_CRASHED, NULL, VM_STABLE_MS), ==, 0);
        g_assert_cmpuint(vm.attempts, ==, 1);
        vm.attempts = VM_ATTEMPTS_MAX - 1;
        g_assert_cmpint(vm_ended(&vm, END_CRASHED, NULL, VM_STABLE_MS - 1), ==, 0);
        g_assert_true(vm.failed);
}

static void test_a_lost_node_is_not_the_vms_fault(void) {
        static const EndCause causes[] = { END_NODE_LOST, END_LEASE_ENDED, END_GUARD_LOST };
        for (size_t i = 0; i < ELEMENTS(causes); i++) {
                _cleanup_(vm_clear) Vm vm = { .restart = RESTART_ALWAYS, .run = true, .attempts = 2 };
                g_assert_cmpint(vm_ended(&vm, causes[i], NULL, 0), ==, 0);
                g_assert_cmpuint(vm.attempts, ==, 2);
                g_assert_nonnull(vm.reason);
                g_assert_true(vm_lost_its_place(&vm));
        }
}

static void test_who_crashed_did_not_lose_its_place(void) {
        _cleanup_(vm_clear) Vm vm = ended(RESTART_ALWAYS, END_CRASHED, NULL, 0);
        g_assert_false(vm_lost_its_place(&vm));
}

static void test_the_reason_is_told_and_goes_with_a_requested_end(void) {
        _cleanup_(vm_clear) Vm vm = ended(RESTART_NEVER, END_CRASHED, "qemu died of signal 11", 0);
        g_assert_cmpstr(vm.reason_code, ==, "crashed");
        g_assert_cmpstr(vm.reason, ==, "qemu died of signal 11");
        vm.run = true;
        g_assert_cmpint(vm_ended(&vm, END_GPU_LOST, "", 0), ==, 0);
        g_assert_cmpstr(vm.reason, ==, "a GPU of it was lost");
        vm.run = true;
        g_assert_cmpint(vm_ended(&vm, END_REQUESTED, "stopped", 0), ==, 0);
        g_assert_null(vm.reason_code);
        g_assert_null(vm.reason);
}

static void test_policies_have_words(void) {
        for (RestartPolicy policy = 0; policy < RESTART_POLICY_COUNT; policy++) {
                RestartPolicy read = RESTART_POLICY_COUNT;
                g_assert_cmpint(restart_policy_from_text(restart_policy_to_text(policy), &read), ==, 0);
                g_assert_cmpint(read, ==, policy);
        }
        RestartPolicy untouched = RESTART_NEVER;
        g_assert_cmpint(restart_policy_from_text("sometimes", &untouched), ==, -EINVAL);
        g_assert_cmpint(untouched, ==, RESTART_NEVER);
        for (VmState state = 0; state < VM_STATE_COUNT; state++)
                g_assert_nonnull(vm_state_to_text(state));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/vm/" #name, test_##name)
        TEST(state_follows_the_assignment);
        TEST(state_without_an_assignment_follows_what_is_wanted);
        TEST(every_end_has_its_consequence);
        TEST(who_was_to_stop_has_stopped_whatever_the_cause);
        TEST(too_many_failures_in_a_row_are_the_end);
        TEST(who_ran_long_enough_counts_anew);
        TEST(a_lost_node_is_not_the_vms_fault);
        TEST(who_crashed_did_not_lose_its_place);
        TEST(the_reason_is_told_and_goes_with_a_requested_end);
        TEST(policies_have_words);
#undef TEST
        return g_test_run();
}
