/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The registry as the last guard of P1 (never twice) and P2 (never shared): every way to ask for what must not be. */

#include <stdio.h>

#include "chronicle.h"
#include "core/registry-internal.h"

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

/* A second VM "ernie" that is to run, beside the first that has GPU 0. */
static Chronicle chronicle_of_two_vms(void) {
        Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 1));
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        return c;
}

static void test_a_vm_that_is_to_run_is_assigned(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(2);
        Claim claim = claim_of(&c, 1, 1, 1, 2);
        GpuIdentity gpu = GPU(1, 2), free_gpu = GPU(1, 0);
        ASSERT_DONE(tell_assign(&c, &claim));
        const Vm *vm = vm_told(&c, 1);
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_STARTING);
        g_assert_cmpuint(vm->epoch, ==, 1);
        g_assert_true(registry_find_vm_of_gpu(c.registry, &gpu) == vm);
        g_assert_true(registry_find_vm_of_group(c.registry, &claim.node, 12) == vm);
        g_assert_null(registry_find_vm_of_gpu(c.registry, &free_gpu));
        g_assert_null(registry_find_vm_of_group(c.registry, &claim.node, -1));
}

/* ---- P1 */

static void test_who_is_assigned_is_not_assigned_again(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim first = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &first));
        Claim again = claim_of(&c, 1, 1, 1, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &first));
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &again));
        ASSERT_DONE(tell_running(&c, 1));
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &again));
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &again));
}

static void test_who_is_not_to_run_is_not_assigned(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
}

static void test_who_has_failed_is_not_assigned(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_vm_restart(&c, 1, RESTART_NEVER));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_ended(&c, 1, END_START_FAILED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_FAILED);
        claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
}

static void test_an_epoch_is_used_once_and_none_is_left_out(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        claim.epoch = 0;
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        claim.epoch = 2;
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        claim.epoch = 1;
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        claim.epoch = 2;
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_an_assignment_is_to_a_member_in_its_incarnation_of_now(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 2, 0, 1);         /* nobody knows node 2 */
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        ASSERT_DONE(tell_node(&c, 1, "a", 3, "boot-3"));
        claim = claim_of(&c, 1, 1, 0, 1);
        claim.incarnation = 2;
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        claim.incarnation = 4;
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        claim.incarnation = 3;
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_nobody_is_assigned_to_a_node_without_id(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        VmId vm = VM(1);
        Gpupool1__Assign m = GPUPOOL1__ASSIGN__INIT;
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = vm.bytes };
        m.epoch = 1;
        ASSERT_REFUSED(CONFLICT, TELL(&c, ASSIGN, m));
        m.vm.len = 0;
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, ASSIGN, m));
}

/* ---- P2 */

static void test_a_vm_gets_as_many_gpus_as_it_needs(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(2);
        for (unsigned n = 0; n <= 4; n++) {
                Claim claim = claim_of(&c, 1, 1, 0, n);
                if (n != 2)
                        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        }
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_gpu_of_another_pool_is_not_given(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        GpuIdentity gpu = GPU(1, 8);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        ASSERT_DONE(tell_pool_add(&c, "other", &gpu));
        Claim claim = claim_of(&c, 1, 1, 8, 1), poolless = claim_of(&c, 1, 1, 9, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &poolless));
}

static void test_a_gpu_in_quarantine_is_not_given(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        GpuIdentity gpu = GPU(1, 0);
        ASSERT_DONE(tell_quarantine(&c, &gpu, ""));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_REFUSED(QUARANTINED, tell_assign(&c, &claim));
        ASSERT_DONE(tell_release(&c, &gpu));
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_gpu_whose_serial_was_not_read_stays_in_quarantine(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        GpuIdentity gpu = GPU(1, 0);
        gpu.serial[0] = '\0';           /* the probe did not answer when it was put there */
        ASSERT_DONE(tell_quarantine(&c, &gpu, ""));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_REFUSED(QUARANTINED, tell_assign(&c, &claim));
        ASSERT_REFUSED(EXISTS, tell_quarantine(&c, &claim.gpus[0].gpu, ""));
        ASSERT_DONE(tell_release(&c, &claim.gpus[0].gpu));
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_gpu_that_runs_a_vm_is_not_given_to_another(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        Claim claim = claim_of(&c, 2, 1, 0, 1);
        ASSERT_REFUSED(IN_USE, tell_assign(&c, &claim));
        claim.gpus[0].iommu_group = 99;
        ASSERT_REFUSED(IN_USE, tell_assign(&c, &claim));
        claim = claim_of(&c, 2, 1, 1, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_slot_that_runs_a_vm_is_not_given_under_another_serial(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        GpuIdentity same = GPU(1, 0);
        same.serial[0] = '\0';          /* the same card, read while the probe did not answer */
        ASSERT_DONE(tell_pool_add(&c, "training", &same));
        Claim claim = claim_of(&c, 2, 1, 0, 1);
        claim.gpus[0].gpu = same;
        claim.gpus[0].iommu_group = -1;
        ASSERT_REFUSED(IN_USE, tell_assign(&c, &claim));
}

static void test_a_group_that_runs_a_vm_is_not_given_to_another(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        Claim claim = claim_of(&c, 2, 1, 1, 1);
        claim.gpus[0].iommu_group = 10;         /* GPU 0's */
        ASSERT_REFUSED(IN_USE, tell_assign(&c, &claim));
}

static void test_groups_of_two_nodes_have_nothing_in_common(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        GpuIdentity gpu = GPU(2, 0);
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        Claim claim = claim_of(&c, 2, 2, 0, 1);         /* group 10 of b, as GPU 0 of a */
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_vm_may_have_a_whole_group(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(2);
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        claim.gpus[1].iommu_group = claim.gpus[0].iommu_group;
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_no_gpu_is_counted_twice(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(2);
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        claim.gpus[1] = claim.gpus[0];
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_assign(&c, &claim));
        /* Nor under another serial. */
        claim.gpus[1].gpu.serial[0] = '\0';
        ASSERT_DONE(tell_pool_add(&c, "training", &claim.gpus[1].gpu));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_assign(&c, &claim));
}

static void test_all_gpus_are_of_the_node_that_runs_the_vm(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(2);
        GpuIdentity gpu = GPU(2, 0);
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        claim.gpus[1] = ASSIGNED(2, 0);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_assign(&c, &claim));
        claim.node = NODE(2);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_assign(&c, &claim));
}

static void test_a_gpu_without_identity_is_not_given(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        claim.gpus[0].gpu.slot[0] = '\0';
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_assign(&c, &claim));
}

static void test_a_vm_may_have_so_many_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_pool(&c, "large", 2, GPUS_PER_VM_MAX));
        ASSERT_DONE(tell_vm(&c, 1, "bert", "large", GPUS_PER_VM_MAX));
        ASSERT_DONE(tell_desired(&c, 1, VM_RUN, 0));
        Claim claim = claim_of(&c, 1, 2, 0, GPUS_PER_VM_MAX);
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_cmpuint(vm_told(&c, 1)->assignment.n_gpus, ==, GPUS_PER_VM_MAX);
}

static void test_notes_that_no_one_may_be_shown_are_refused(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        VmId vm = VM(1);
        NodeId node = NODE(1);
        GpuIdentity identity = GPU(1, 0);
        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu gpu;
        Gpupool1__AssignedGpu assigned = GPUPOOL1__ASSIGNED_GPU__INIT, *assigned_pointer = &assigned;
        Gpupool1__PlacementNote note = GPUPOOL1__PLACEMENT_NOTE__INIT, *note_pointer = &note;
        Gpupool1__Assign m = GPUPOOL1__ASSIGN__INIT;
        gpu_message_borrow(&identity, address, &gpu);
        assigned.gpu = &gpu;
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = vm.bytes };
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = node.bytes };
        m.incarnation = m.epoch = 1;
        m.gpus = &assigned_pointer;
        m.notes = &note_pointer;
        m.n_gpus = m.n_notes = 1;

        note.node = (char *) "a\x1b[2J";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, ASSIGN, m));
        note.node = (char *) "a";
        note.why = (char *) "\xff";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, ASSIGN, m));
        note.why = (char *) "it has the only free GPU";
        note.chosen = true;
        ASSERT_DONE(TELL(&c, ASSIGN, m));
        g_assert_cmpstr(vm_told(&c, 1)->notes[0].why, ==, "it has the only free GPU");
}

/* ---- what the node says */

static Gpupool1__ReportEnded report_of(const NodeId *node, const VmId *vm) {
        Gpupool1__ReportEnded m = GPUPOOL1__REPORT_ENDED__INIT;
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) vm->bytes };
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) node->bytes };
        m.incarnation = m.epoch = 1;
        m.cause = GPUPOOL1__END_CAUSE__END_CAUSE_CRASHED;
        return m;
}

static void test_a_report_is_about_the_assignment_that_stands(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        NodeId node = NODE(1), other = NODE(2);
        VmId vm = VM(1), unassigned = VM(2), unknown = VM(3);

        Gpupool1__ReportEnded m = report_of(&other, &vm);
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &unassigned);
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &unknown);
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &vm);
        m.epoch = 2;
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &vm);
        m.incarnation = 2;
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &vm);
        m.node.len = 0;
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        m = report_of(&node, &vm);
        ASSERT_DONE(TELL(&c, REPORT_ENDED, m));
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
}

static void test_a_report_of_an_end_has_a_cause_and_a_sentence(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        g_autofree char *longest = g_strnfill(TEXT_LENGTH_MAX, 'x'), *longer = g_strnfill(TEXT_LENGTH_MAX + 1, 'x');
        NodeId node = NODE(1);
        VmId vm = VM(1);
        Gpupool1__ReportEnded m = report_of(&node, &vm);
        m.cause = GPUPOOL1__END_CAUSE__END_CAUSE_NODE_LOST;     /* never reported */
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, REPORT_ENDED, m));
        m.cause = GPUPOOL1__END_CAUSE__END_CAUSE_GPU_LOST;
        m.sentence = longer;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, REPORT_ENDED, m));
        m.sentence = (char *) "\xe2\x80\xae";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, REPORT_ENDED, m));
        m.sentence = longest;
        ASSERT_DONE(TELL(&c, REPORT_ENDED, m));
        g_assert_cmpstr(vm_told(&c, 1)->reason_code, ==, "gpu-lost");
        g_assert_cmpstr(vm_told(&c, 1)->reason, ==, longest);
}

static void test_an_end_frees_the_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_BACKOFF);
        Claim claim = claim_of(&c, 2, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_running_is_noted_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_running(&c, 1));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_RUNNING);
        uint64_t next = c.registry->next_event;
        ASSERT_DONE(tell_running(&c, 1));
        g_assert_cmpuint(c.registry->next_event, ==, next);
}

static void test_who_is_to_stop_does_not_go_back_to_running(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        ASSERT_DONE(tell_running(&c, 1));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPING);
        g_assert_true(vm_told(&c, 1)->assignment.ran);
}

/* ---- a new boot */

static void test_a_new_boot_ends_the_assignments_of_the_old_incarnation(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_running(&c, 1));
        ASSERT_DONE(tell_node(&c, 1, "a", 2, "boot-2"));
        g_assert_cmpint(vm_told(&c, 1)->assignment.phase, ==, ASSIGNMENT_NONE);
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_cmpstr(vm_told(&c, 1)->reason_code, ==, "node-lost");
        g_assert_cmpuint(vm_told(&c, 1)->attempts, ==, 0);
}

static void test_a_new_boot_ends_no_assignment_of_another_node(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_node(&c, 2, "b", 2, "boot-2"));
        g_assert_cmpint(vm_told(&c, 1)->assignment.phase, ==, ASSIGNMENT_STARTING);
}

static void test_who_was_to_stop_is_stopped_by_a_new_boot(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 0));
        ASSERT_DONE(tell_node(&c, 1, "a", 2, "boot-2"));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
}

static void test_a_node_that_says_the_same_again_ends_nothing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_two_vms();
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
        g_assert_cmpint(vm_told(&c, 1)->assignment.phase, ==, ASSIGNMENT_STARTING);
}

/* ---- notes */

static void test_notes_are_kept_while_there_is_room(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Gpupool1__PlacementNote notes[2], *pointers[] = { notes, notes + 1 };
        for (size_t i = 0; i < ELEMENTS(notes); i++) {
                gpupool1__placement_note__init(notes + i);
                notes[i].node = (char *) (i == 0 ? "b" : "a");
                notes[i].chosen = i == 1;
                notes[i].why = (char *) "because";
        }
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        claim.notes = pointers;
        claim.n_notes = ELEMENTS(notes);
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_cmpuint(vm_told(&c, 1)->n_notes, ==, 2);
        size_t size = c.registry->notes_total;
        g_assert_cmpuint(size, >, 0);
        ASSERT_DONE(tell_ended(&c, 1, END_GUEST_SHUTDOWN, 0));

        /* The notes of the last decision make room for those of the next. */
        c.quick = true;
        c.registry->notes_total = NOTES_TOTAL_MAX;
        claim.epoch++;
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_cmpuint(vm_told(&c, 1)->n_notes, ==, 2);
        ASSERT_DONE(tell_ended(&c, 1, END_GUEST_SHUTDOWN, 0));

        /* Without room the VM is placed all the same, and where it ran is known. */
        c.registry->notes_total = NOTES_TOTAL_MAX + 1;
        claim.epoch++;
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_cmpuint(vm_told(&c, 1)->n_notes, ==, 1);
        g_assert_cmpstr(vm_told(&c, 1)->notes[0].node, ==, "a");
        g_assert_cmpstr(vm_told(&c, 1)->notes[0].why, ==, "");
        g_assert_true(vm_told(&c, 1)->notes[0].chosen);
        g_assert_cmpuint(c.registry->notes_total, ==, NOTES_TOTAL_MAX + 1 - size + 17);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/assignment/" #name, test_##name)
        TEST(a_vm_that_is_to_run_is_assigned);
        TEST(who_is_assigned_is_not_assigned_again);
        TEST(who_is_not_to_run_is_not_assigned);
        TEST(who_has_failed_is_not_assigned);
        TEST(an_epoch_is_used_once_and_none_is_left_out);
        TEST(an_assignment_is_to_a_member_in_its_incarnation_of_now);
        TEST(nobody_is_assigned_to_a_node_without_id);
        TEST(a_vm_gets_as_many_gpus_as_it_needs);
        TEST(a_gpu_of_another_pool_is_not_given);
        TEST(a_gpu_in_quarantine_is_not_given);
        TEST(a_gpu_whose_serial_was_not_read_stays_in_quarantine);
        TEST(a_gpu_that_runs_a_vm_is_not_given_to_another);
        TEST(a_slot_that_runs_a_vm_is_not_given_under_another_serial);
        TEST(a_group_that_runs_a_vm_is_not_given_to_another);
        TEST(groups_of_two_nodes_have_nothing_in_common);
        TEST(a_vm_may_have_a_whole_group);
        TEST(no_gpu_is_counted_twice);
        TEST(all_gpus_are_of_the_node_that_runs_the_vm);
        TEST(a_gpu_without_identity_is_not_given);
        TEST(a_vm_may_have_so_many_gpus);
        TEST(notes_that_no_one_may_be_shown_are_refused);
        TEST(a_report_is_about_the_assignment_that_stands);
        TEST(a_report_of_an_end_has_a_cause_and_a_sentence);
        TEST(an_end_frees_the_gpus);
        TEST(running_is_noted_once);
        TEST(who_is_to_stop_does_not_go_back_to_running);
        TEST(a_new_boot_ends_the_assignments_of_the_old_incarnation);
        TEST(a_new_boot_ends_no_assignment_of_another_node);
        TEST(who_was_to_stop_is_stopped_by_a_new_boot);
        TEST(a_node_that_says_the_same_again_ends_nothing);
        TEST(notes_are_kept_while_there_is_room);
        return g_test_run();
}
