/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Nodes that fail or are left: what the registry holds for dead and on what evidence, who comes back and how, draining,
 * moving, fencing, freezing. */

#include "chronicle.h"

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

#define BORROW(id) ((ProtobufCBinaryData) { .len = sizeof((id).bytes), .data = (id).bytes })

static void assert_said(const Chronicle *c, const char *kind, const char *message) {
        const Event *event = event_told(c, kind);
        g_assert_nonnull(event);
        g_assert_cmpstr(event->message, ==, message);
}

/* The VM is on b now. */
static void place_on_b(Chronicle *c, unsigned first) {
        Claim claim = claim_of(c, 1, 2, first, vm_told(c, 1)->count);
        ASSERT_DONE(tell_assign(c, &claim));
        ASSERT_DONE(tell_running(c, 1));
}

/* ---- levels */

static void test_below_its_level_there_is_no_failover(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_level(&c, LEVEL_FAILOVER - 1));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_lease(&c, 1, TEST_LEASE_MS, TEST_DEATH_MS));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_lost(&c, 1, LOSS_BY_WORD));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_drained(&c, 1, 0));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_resumed(&c, 1, false));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_moved(&c, 1, 0, false));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_fencing(&c, 1, "fence_ipmilan", NULL, NULL));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_freeze(&c, 1000));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_thaw(&c, 0));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_thawed(&c, 1));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_false(vm_told(&c, 1)->assignment.leased);
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_ended(&c, 1, END_LEASE_ENDED, 0));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_ended(&c, 1, END_GUARD_LOST, 0));
        c.author = NODE(7);                     /* as it always was */
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
}

static void test_from_its_level_on_assignments_end_with_a_lease(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        g_assert_true(vm_told(&c, 1)->assignment.leased);
}

/* ---- a node's lease */

static void test_a_node_announces_the_times_of_its_lease(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        g_assert_cmpuint(node_told(&c, 1)->lease_ms, ==, TEST_LEASE_MS);
        g_assert_cmpuint(node_told(&c, 1)->death_ms, ==, TEST_DEATH_MS);
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, TEST_LEASE_MS);
        ASSERT_DONE(tell_lease(&c, 1, LEASE_MS_MAX, LEASE_MS_MAX));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lease(&c, 1, LEASE_MS_MAX + 1, 1));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lease(&c, 1, 1, LEASE_MS_MAX + 1));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lease(&c, 1, 1, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lease(&c, 1, 0, 1));
        ASSERT_DONE(tell_lease(&c, 1, 0, 0));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, 0);
}

static void test_a_witness_has_no_lease(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        NodeId node = NODE(3);
        c.author = node;
        c.level = LEVEL_FAILOVER;
        m.node = BORROW(node);
        m.name = (char *) "w";
        m.boot_id = (char *) "boot";
        m.incarnation = 1;
        m.level = LEVEL_SUPPORTED;
        m.witness = true;
        m.lease_ms = m.death_ms = 1000;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, ANNOUNCE_NODE, m));
        m.lease_ms = m.death_ms = 0;
        ASSERT_DONE(TELL(&c, ANNOUNCE_NODE, m));
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 3, LOSS_BY_WORD));
        ASSERT_REFUSED(CONFLICT, tell_drained(&c, 3, 0));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 3, false));
}

static void test_where_a_majority_needs_all_leases_are_of_years(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        ASSERT_DONE(tell_init_at(&c, "lab", LEVEL_FAILOVER));
        for (unsigned node = 1; node <= LEASE_ALONE_NODES; node++) {
                ASSERT_DONE(tell_node(&c, node, node == 1 ? "a" : "b", 1, "boot-1"));
                ASSERT_DONE(tell_lease(&c, node, TEST_LEASE_MS, TEST_DEATH_MS));
                g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, node)), ==, LEASE_ALONE_MS);
                ASSERT_REFUSED(CONFLICT, tell_thawed(&c, node));
        }
        /* With the first that joins them it is as after a thaw. */
        ASSERT_DONE(tell_node(&c, 3, "c", 1, "boot-1"));
        ASSERT_DONE(tell_lease(&c, 3, TEST_LEASE_MS, TEST_DEATH_MS));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, LEASE_ALONE_MS);
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 3)), ==, TEST_LEASE_MS);
        ASSERT_DONE(tell_thawed(&c, 1));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, TEST_LEASE_MS);
        /* Too few again. */
        ASSERT_DONE(tell_node_removed(&c, 3));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, LEASE_ALONE_MS);
}

static Verdict tell_thawed_of(Chronicle *c, unsigned node, uint64_t freezes) {
        Gpupool1__ReportThawed m = GPUPOOL1__REPORT_THAWED__INIT;
        NodeId id = NODE(node);
        c->author = id;
        c->level = LEVEL_FAILOVER;
        m.node = BORROW(id);
        m.incarnation = node_told(c, node)->incarnation;
        m.freezes = freezes;
        return TELL(c, REPORT_THAWED, m);
}

/* It was under way while a node left and another came, and the guard may go by a lease of years since. */
static void test_the_word_that_leases_are_ordinary_does_not_outlive_a_time_with_too_few_nodes(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        uint64_t before = c.registry->freezes;
        ASSERT_DONE(tell_thawed_of(&c, 1, before));
        ASSERT_DONE(tell_node_removed(&c, 3));
        ASSERT_DONE(tell_node(&c, 4, "d", 1, "boot-1"));
        ASSERT_REFUSED(CONFLICT, tell_thawed_of(&c, 1, before));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, LEASE_ALONE_MS);
        ASSERT_DONE(tell_thawed(&c, 1));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 1)), ==, TEST_LEASE_MS);
        assert_registry_is_sound(c.registry);
}

static Verdict tell_witness(Chronicle *c, unsigned node) {
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        const NodeRecord *record = node_told(c, node);
        NodeId id = NODE(node);
        c->author = id;
        c->level = LEVEL_FAILOVER;
        m.node = BORROW(id);
        m.name = record->name;
        m.boot_id = record->boot_id;
        m.incarnation = record->incarnation + record->lost;
        m.level = LEVEL_SUPPORTED;
        m.witness = true;
        return TELL(c, ANNOUNCE_NODE, m);
}

/* Its VM could be neither lost nor drained nor stopped any more. */
static void test_a_node_that_runs_a_vm_does_not_become_a_witness(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_REFUSED(IN_USE, tell_witness(&c, 1));
        g_assert_false(node_told(&c, 1)->witness);
        ASSERT_DONE(tell_witness(&c, 2));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_witness(&c, 1));
        g_assert_true(node_told(&c, 1)->witness);
}

static void test_who_has_no_lease_is_lost_by_time_only_without_a_vm(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lease(&c, 1, 0, 0));
        ASSERT_DONE(tell_lease(&c, 2, 0, 0));
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        g_assert_true(node_told(&c, 2)->lost);
}

static void test_a_lost_node_that_had_no_vm_has_nothing_to_prove(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        g_assert_false(registry_node_is_idle(c.registry, node_told(&c, 1)));
        g_assert_true(registry_node_is_idle(c.registry, node_told(&c, 2)));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        g_assert_false(registry_node_is_idle(c.registry, node_told(&c, 1)));
        g_assert_true(registry_node_is_idle(c.registry, node_told(&c, 2)));
        ASSERT_DONE(tell_lease(&c, 2, 2000, 500));
        g_assert_true(registry_node_is_idle(c.registry, node_told(&c, 2)));
        ASSERT_DONE(tell_back(&c, 1, false));
        ASSERT_DONE(tell_back(&c, 2, false));
        g_assert_true(registry_node_is_idle(c.registry, node_told(&c, 1)));
        g_assert_false(node_told(&c, 2)->lost_idle);
}

/* ---- a node's own word */

static void test_nobody_speaks_for_another_node(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        c.author = NODE(2);
        ASSERT_REFUSED(CONFLICT, tell_ended(&c, 1, END_CRASHED, 0));
        g_assert_cmpstr(c.sentence, ==, "only the node itself can say this of it, and b says it");
        ASSERT_REFUSED(CONFLICT, tell_running(&c, 1));
        ASSERT_REFUSED(CONFLICT, tell_node(&c, 1, "a", 2, "boot-2"));
        ASSERT_REFUSED(CONFLICT, tell_lease(&c, 1, 1, 1));
        ASSERT_REFUSED(CONFLICT, tell_thawed(&c, 1));
        c.author = NODE(1);
        ASSERT_DONE(tell_thawed(&c, 1));
        ASSERT_DONE(tell_lease(&c, 1, 1, 1));
        ASSERT_DONE(tell_running(&c, 1));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
}

static void test_an_end_by_lease_or_guard_is_reported_and_never_counted(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_ended(&c, 1, END_NODE_LOST, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_ended(&c, 1, END_CAUSE_COUNT, 0));
        ASSERT_DONE(tell_ended(&c, 1, END_LEASE_ENDED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_true(vm_lost_its_place(vm_told(&c, 1)));
        place_on_b(&c, 0);
        ASSERT_DONE(tell_ended(&c, 1, END_GUARD_LOST, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_cmpstr(vm_told(&c, 1)->reason_code, ==, "guard-lost");
}

/* ---- loss */

static void test_a_lost_node_takes_its_vms_with_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        const NodeRecord *node = node_told(&c, 1);
        const Vm *vm = vm_told(&c, 1);
        g_assert_true(node->lost);
        g_assert_cmpint(node->evidence, ==, LOSS_BY_LEASE);
        g_assert_cmpuint(node->n_losses, ==, 1);
        g_assert_cmpuint(node->losses_ms[0], ==, event_told(&c, "node-lost")->time_ms);
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_WAITING);
        g_assert_cmpuint(vm->attempts, ==, 0);
        g_assert_cmpstr(vm->reason_code, ==, "node-lost");
        g_assert_cmpstr(vm->reason, ==, "node a was lost: its last possible lease has run out");
        g_assert_true(vm_lost_its_place(vm));
        assert_said(&c, "node-lost", "node a lost: its last possible lease has run out");
        assert_said(&c, "vm-ended", "vm bert ended: node a was lost: its last possible lease has run out");
        place_on_b(&c, 0);
}

static void test_the_evidence_is_told(void) {
        static const struct {
                LossEvidence evidence;
                const char *text, *message;
        } cases[] = {
                { LOSS_BY_LEASE, "lease", "node a lost: its last possible lease has run out" },
                { LOSS_BY_POWER_OFF, "power-off", "node a lost: a fence agent confirmed that it is off" },
                { LOSS_BY_WORD, "confirmed", "node a lost: alice confirmed that it is off" },
        };
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
                ASSERT_DONE(tell_lost(&c, 1, cases[i].evidence));
                assert_said(&c, "node-lost", cases[i].message);
                g_assert_cmpstr(loss_evidence_to_text(node_told(&c, 1)->evidence), ==, cases[i].text);
        }
        g_assert_cmpstr(loss_evidence_to_text(LOSS_BY_NEW_BOOT), ==, "new-boot");
}

static void test_a_loss_is_of_a_member_in_its_incarnation_and_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        Gpupool1__LoseNode m = GPUPOOL1__LOSE_NODE__INIT;
        NodeId node = NODE(1);
        c.level = LEVEL_FAILOVER;
        m.node = BORROW(node);
        m.incarnation = 2;
        ASSERT_REFUSED(CONFLICT, TELL(&c, LOSE_NODE, m));
        m.incarnation = 1;
        m.node.len = 3;
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, LOSE_NODE, m));
        ASSERT_REFUSED(NOT_FOUND, tell_lost(&c, 9, LOSS_BY_LEASE));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lost(&c, 1, LOSS_BY_NEW_BOOT));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_lost(&c, 1, LOSS_EVIDENCE_COUNT));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_WORD));
}

static void test_a_node_without_vms_can_be_lost_too(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        g_assert_true(node_told(&c, 2)->lost);
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_RUNNING);
}

static void test_without_a_lease_time_proves_nothing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lease(&c, 1, 0, 0));
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_WORD));
}

static void test_who_has_announced_no_lease_is_given_no_vm(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lease(&c, 2, 0, 0));
        Claim claim = claim_of(&c, 1, 2, 0, vm_told(&c, 1)->count);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        g_assert_nonnull(strstr(c.sentence, "node b has not announced its leases yet"));
        ASSERT_DONE(tell_lease(&c, 2, TEST_LEASE_MS, TEST_DEATH_MS));
        claim = claim_of(&c, 1, 2, 0, vm_told(&c, 1)->count);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
}

static void test_a_vm_from_before_leases_keeps_its_node_from_being_lost_by_time(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_running(&c, 1));
        ASSERT_DONE(tell_level(&c, LEVEL_FAILOVER));
        ASSERT_DONE(tell_lease(&c, 1, TEST_LEASE_MS, TEST_DEATH_MS));
        g_assert_false(vm_told(&c, 1)->assignment.leased);
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_LEASE));
        g_assert_nonnull(strstr(c.sentence, "VM bert on node a was started below functional level 3"));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_POWER_OFF));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
}

static void test_a_vm_that_was_leaving_a_lost_node_runs_again_elsewhere(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_moved(&c, 1, 2, false));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_true(vm_lost_its_place(vm_told(&c, 1)));       /* it may take what is kept in reserve */
        place_on_b(&c, 0);
}

static void test_a_vm_that_was_stopping_on_a_lost_node_is_stopped(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 0));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
}

static void test_a_vm_that_never_restarts_runs_again_if_somebody_was_restarting_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_vm_restart(&c, 1, RESTART_NEVER));
        ASSERT_DONE(tell_desired(&c, 1, VM_RESTART, 0));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        place_on_b(&c, 0);
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
}

static void test_nothing_is_assigned_to_a_lost_node(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        ASSERT_DONE(tell_back(&c, 1, false));
        claim = claim_of(&c, 1, 1, 0, 2);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_what_a_lost_node_says_of_its_vms_counts_no_more(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        Gpupool1__ReportEnded m = GPUPOOL1__REPORT_ENDED__INIT;
        NodeId node = NODE(1);
        VmId vm = VM(1);
        m.node = BORROW(node);
        m.vm = BORROW(vm);
        m.incarnation = m.epoch = 1;
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        place_on_b(&c, 0);
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_ENDED, m));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_RUNNING);
}

static void test_a_lost_node_can_be_removed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_REFUSED(IN_USE, tell_node_removed(&c, 1));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_WORD));
        c.author = NODE(2);
        ASSERT_DONE(tell_node_removed(&c, 1));
}

/* ---- return */

static void test_a_lost_node_is_back_in_a_greater_incarnation(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lease(&c, 1, 2000, 500));      /* still the same one */
        g_assert_true(node_told(&c, 1)->lost);
        ASSERT_DONE(tell_back(&c, 1, false));
        const NodeRecord *node = node_told(&c, 1);
        g_assert_false(node->lost);
        g_assert_cmpuint(node->incarnation, ==, 2);
        g_assert_cmpint(node->drain, ==, DRAIN_NONE);
        g_assert_cmpint(node->evidence, ==, LOSS_BY_LEASE);
        g_assert_cmpuint(node->lease_ms, ==, 2000);
        assert_said(&c, "node-returned", "node a is back; what it ran is dead");
}

static void test_a_new_boot_brings_a_lost_node_back(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_back(&c, 1, true));
        g_assert_false(node_told(&c, 1)->lost);
        g_assert_cmpuint(node_told(&c, 1)->n_losses, ==, 1);
        assert_said(&c, "node-returned", "node a is back with a new boot; nothing of it was running");
}

static void test_a_boot_under_running_vms_is_a_loss(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_back(&c, 1, true));
        g_assert_false(node_told(&c, 1)->lost);
        g_assert_cmpint(node_told(&c, 1)->evidence, ==, LOSS_BY_NEW_BOOT);
        g_assert_cmpuint(node_told(&c, 1)->n_losses, ==, 1);
        assert_said(&c, "node-lost", "node a lost: it booted anew");
        assert_said(&c, "vm-ended", "vm bert ended: node a was lost: it booted anew");
        assert_said(&c, "node-returned", "node a is back with a new boot; nothing of it was running");
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
}

static void test_a_boot_without_vms_is_no_loss(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        for (unsigned i = 0; i < 2 * FLAP_LOSSES; i++)
                ASSERT_DONE(tell_back(&c, 2, true));
        g_assert_cmpuint(node_told(&c, 2)->n_losses, ==, 0);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_NONE);
        g_assert_null(event_told(&c, "node-lost"));
}

static void flap(Chronicle *c, unsigned times, uint64_t ms_between) {
        for (unsigned i = 0; i < times; i++) {
                c->later_ms += i > 0 ? ms_between : 0;
                ASSERT_DONE(tell_lost(c, 2, LOSS_BY_LEASE));
                ASSERT_DONE(tell_back(c, 2, false));
        }
}

static void test_a_node_that_flaps_comes_back_drained(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        flap(&c, FLAP_LOSSES - 1, 60000);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_NONE);
        flap(&c, 1, 0);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_FLAPPING);
        assert_said(&c, "node-draining", "node b was lost 3 times within an hour and takes no VM until somebody has "
                    "looked after it: gpupoolctl node resume b");
        /* Somebody takes it over. */
        ASSERT_DONE(tell_drained(&c, 2, 0));
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_BY_HAND);
        assert_said(&c, "node-draining", "node b is draining: its VMs leave it, and none is placed on it");
        ASSERT_DONE(tell_resumed(&c, 2, false));
        flap(&c, 1, 0);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_FLAPPING);
        /* Resumed, it is trusted anew. */
        ASSERT_DONE(tell_resumed(&c, 2, false));
        g_assert_cmpuint(node_told(&c, 2)->n_losses, ==, 0);
        flap(&c, FLAP_LOSSES - 1, 1000);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_NONE);
}

static void test_losses_that_are_far_apart_are_no_flapping(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        flap(&c, 3 * FLAP_LOSSES, FLAP_MS / 2 + 1);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_NONE);
        g_assert_cmpuint(node_told(&c, 2)->n_losses, ==, FLAP_LOSSES);
        /* Exactly an hour from the first to the last is within it. */
        _cleanup_(chronicle_clear) Chronicle d = chronicle_of_a_pair();
        flap(&d, FLAP_LOSSES, FLAP_MS / 2 - 2);         /* two commands each, a millisecond after the other */
        g_assert_cmpuint(node_told(&d, 2)->losses_ms[2] - node_told(&d, 2)->losses_ms[0], ==, FLAP_MS);
        g_assert_cmpint(node_told(&d, 2)->drain, ==, DRAIN_FLAPPING);
}

static void test_clocks_of_two_leaders_may_differ(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        c.later_ms = 5000;
        flap(&c, FLAP_LOSSES - 1, 0);
        c.later_ms = 0;
        flap(&c, 1, 0);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_FLAPPING);
}

static void test_who_drained_a_node_that_flaps_keeps_it_drained(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_drained(&c, 2, 0));
        flap(&c, FLAP_LOSSES, 1000);
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_BY_HAND);
}

static void test_a_node_resumed_while_it_is_lost_keeps_that_loss(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        flap(&c, FLAP_LOSSES, 1000);
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        uint64_t last = node_told(&c, 2)->losses_ms[FLAP_LOSSES - 1];
        ASSERT_DONE(tell_resumed(&c, 2, false));
        g_assert_cmpuint(node_told(&c, 2)->n_losses, ==, 1);
        g_assert_cmpuint(node_told(&c, 2)->losses_ms[0], ==, last);
        ASSERT_DONE(tell_back(&c, 2, false));
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_NONE);
}

/* ---- draining and coming home */

static void test_a_drained_node_takes_no_vm(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_drained(&c, 2, 90000));
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_BY_HAND);
        g_assert_cmpuint(node_told(&c, 2)->drain_timeout_ms, ==, 90000);
        assert_said(&c, "node-draining", "node b is draining: its VMs leave it, and none is placed on it");
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        Claim claim = claim_of(&c, 1, 2, 0, 2);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
        ASSERT_DONE(tell_resumed(&c, 2, false));
        g_assert_cmpuint(node_told(&c, 2)->drain_timeout_ms, ==, 0);
        assert_said(&c, "node-resumed", "node b takes VMs again");
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_REFUSED(NOT_FOUND, tell_drained(&c, 9, 0));
        ASSERT_REFUSED(NOT_FOUND, tell_resumed(&c, 9, false));
}

static void test_draining_or_resuming_twice_says_it_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_drained(&c, 2, 0));
        uint64_t next = c.registry->next_event;
        ASSERT_DONE(tell_drained(&c, 2, 5000));
        g_assert_cmpuint(node_told(&c, 2)->drain_timeout_ms, ==, 5000);
        g_assert_cmpuint(c.registry->next_event, ==, next);
        ASSERT_DONE(tell_resumed(&c, 2, false));
        next = c.registry->next_event;
        ASSERT_DONE(tell_resumed(&c, 2, false));
        g_assert_cmpuint(c.registry->next_event, ==, next);
}

static void test_a_reboot_and_a_new_name_leave_a_node_drained(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_fencing(&c, 2, "fence_ipmilan", "ip", "192.0.2.9"));
        ASSERT_DONE(tell_drained(&c, 2, 7000));
        ASSERT_DONE(tell_back(&c, 2, true));
        ASSERT_DONE(tell_node(&c, 2, "bee", 2, "boot-2"));
        g_assert_cmpint(node_told(&c, 2)->drain, ==, DRAIN_BY_HAND);
        g_assert_cmpuint(node_told(&c, 2)->drain_timeout_ms, ==, 7000);
        g_assert_cmpstr(node_told(&c, 2)->fence.agent, ==, "fence_ipmilan");
        g_assert_cmpstr(node_told(&c, 2)->fence.parameters[0].value, ==, "192.0.2.9");
}

/* bert left a, which is drained, and runs on b. */
static Chronicle chronicle_of_a_drained_node(void) {
        Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_drained(&c, 1, 0));
        ASSERT_DONE(tell_moved(&c, 1, 0, true));
        assert_said(&c, "vm-moving", "VM bert leaves a, which is draining");
        ASSERT_DONE(tell_ended(&c, 1, END_GUEST_SHUTDOWN, 0));
        place_on_b(&c, 0);
        return c;
}

static void test_a_vm_that_left_a_drained_node_has_a_home(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_drained_node();
        NodeId home = NODE(1);
        g_assert_true(ID_EQUAL(&vm_told(&c, 1)->home, &home));
        ASSERT_DONE(tell_resumed(&c, 1, true));
        assert_said(&c, "node-resumed", "node a takes VMs again; those that left it come home");
        g_assert_true(node_told(&c, 1)->bring_home);
        ASSERT_DONE(tell_moved(&c, 1, 1, false));
        g_assert_true(ID_EQUAL(&vm_told(&c, 1)->home, &home));
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        ASSERT_DONE(tell_assign(&c, &claim));
        g_assert_true(id_is_null(vm_told(&c, 1)->home.bytes));
        g_assert_true(id_is_null(vm_told(&c, 1)->target.bytes));
}

static void test_a_home_is_forgotten_when_nobody_is_to_come_back(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_drained_node();
        ASSERT_DONE(tell_resumed(&c, 1, false));
        g_assert_true(id_is_null(vm_told(&c, 1)->home.bytes));
        g_assert_false(node_told(&c, 1)->bring_home);
}

static void test_a_home_is_forgotten_when_somebody_sends_the_vm_elsewhere(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_drained_node();
        ASSERT_DONE(tell_node(&c, 4, "d", 1, "boot"));
        ASSERT_DONE(tell_moved(&c, 1, 4, false));
        g_assert_true(id_is_null(vm_told(&c, 1)->home.bytes));
}

static void test_through_several_drained_nodes_the_home_is_the_first(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_drained_node();
        NodeId home = NODE(1);
        ASSERT_DONE(tell_drained(&c, 2, 0));
        ASSERT_DONE(tell_moved(&c, 1, 0, true));
        g_assert_true(ID_EQUAL(&vm_told(&c, 1)->home, &home));
}

static void test_draining_anew_brings_nobody_home(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_drained_node();
        ASSERT_DONE(tell_resumed(&c, 1, true));
        ASSERT_DONE(tell_drained(&c, 1, 0));
        g_assert_false(node_told(&c, 1)->bring_home);
}

/* ---- moving */

static void test_a_vm_that_is_moved_stops_and_goes_on(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        NodeId target = NODE(2);
        ASSERT_DONE(tell_moved(&c, 1, 2, false));
        const Vm *vm = vm_told(&c, 1);
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_STOPPING);
        g_assert_cmpint(vm->stop_kind, ==, VM_STOP);
        g_assert_true(vm->run);
        g_assert_true(ID_EQUAL(&vm->target, &target));
        g_assert_true(id_is_null(vm->home.bytes));
        assert_said(&c, "vm-moving", "VM bert moves from a to b");
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        place_on_b(&c, 0);
        g_assert_true(id_is_null(vm_told(&c, 1)->target.bytes));
}

static void test_a_guest_may_be_asked_first(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_drained(&c, 1, 0));
        ASSERT_DONE(tell_moved(&c, 1, 0, true));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_SHUTDOWN);
        g_assert_cmpuint(vm_told(&c, 1)->stop_timeout_ms, ==, 60000);
        /* What is under way is made harder, never softer. */
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_STOP);
}

static void test_only_what_runs_is_moved_and_only_to_where_it_could_run(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_REFUSED(NOT_FOUND, tell_moved(&c, 9, 2, false));
        ASSERT_REFUSED(NOT_FOUND, tell_moved(&c, 1, 9, false));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 1, false));          /* it is there */
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 2, true));           /* a is not drained */
        ASSERT_DONE(tell_drained(&c, 2, 0));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 2, false));
        ASSERT_DONE(tell_resumed(&c, 2, false));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 2, false));
        ASSERT_DONE(tell_back(&c, 2, false));
        ASSERT_DONE(tell_moved(&c, 1, 2, false));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 2, false));          /* on its way */
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        ASSERT_REFUSED(CONFLICT, tell_moved(&c, 1, 2, false));          /* nowhere */
}

static void test_a_move_may_be_of_one_epoch(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        Gpupool1__MoveVm m = GPUPOOL1__MOVE_VM__INIT;
        VmId vm = VM(1);
        c.level = LEVEL_FAILOVER;
        m.vm = BORROW(vm);
        m.epoch = 2;
        ASSERT_REFUSED(CONFLICT, TELL(&c, MOVE_VM, m));
        m.epoch = 1;
        m.node.len = 3;
        m.node.data = vm.bytes;
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, MOVE_VM, m));
        m.node.len = 0;
        ASSERT_DONE(TELL(&c, MOVE_VM, m));
        assert_said(&c, "vm-moving", "VM bert leaves a for another node");
}

static void test_who_is_stopped_is_not_moved_any_more(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_moved(&c, 1, 2, false));
        ASSERT_DONE(tell_desired(&c, 1, VM_STOP, 0));
        g_assert_true(id_is_null(vm_told(&c, 1)->target.bytes));
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_STOPPED);
}

/* ---- stopped for another */

/* bert runs, ernie waits and may preempt it. */
static Chronicle chronicle_to_preempt(void) {
        Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 2));
        ASSERT_DONE(tell_vm_priority(&c, 2, 60));
        ASSERT_DONE(tell_vm_preemption(&c, 2, true, false));
        ASSERT_DONE(tell_vm_preemption(&c, 1, false, true));
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        return c;
}

static void test_a_vm_stops_for_a_more_important_one_and_says_so(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_to_preempt();
        ASSERT_DONE(tell_preempted(&c, 1, 2, 0));
        assert_said(&c, "vm-preempted",
                    "VM bert stops on a: preempted for VM ernie, which has a higher priority");
        g_assert_true(vm_makes_way(vm_told(&c, 1)));
        g_assert_cmpint(vm_told(&c, 1)->stop_kind, ==, VM_SHUTDOWN);
        g_assert_cmpstr(vm_told(&c, 1)->reason, ==, "preempted for vm ernie, which has a higher priority");

        _cleanup_free_ uint8_t *bytes = NULL;   /* a leader that begins with a snapshot knows it, too */
        size_t size;
        _cleanup_(registry_freep) Registry *read = NULL;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        g_assert_cmpint(registry_decode(bytes, size, &read), ==, SNAPSHOT_GOOD);
        g_assert_true(vm_makes_way(registry_find_vm(read, &vm_told(&c, 1)->id)));

        ASSERT_REFUSED(CONFLICT, tell_preempted(&c, 1, 2, 0));          /* on its way */
        ASSERT_DONE(tell_ended(&c, 1, END_REQUESTED, 0));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_WAITING);
        g_assert_cmpuint(vm_told(&c, 1)->attempts, ==, 0);
        g_assert_null(vm_told(&c, 1)->reason_code);
}

static void test_nobody_stops_for_one_that_may_not_ask_for_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_to_preempt();
        ASSERT_REFUSED(NOT_FOUND, tell_preempted(&c, 1, 9, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_preempted(&c, 1, 2, 2));  /* not both at the same time */
        ASSERT_DONE(tell_vm_priority(&c, 2, vm_told(&c, 1)->priority));
        ASSERT_REFUSED(CONFLICT, tell_preempted(&c, 1, 2, 0));
        ASSERT_DONE(tell_vm_priority(&c, 2, 60));
        ASSERT_DONE(tell_vm_preemption(&c, 2, false, false));
        ASSERT_REFUSED(CONFLICT, tell_preempted(&c, 1, 2, 0));
        ASSERT_DONE(tell_vm_preemption(&c, 2, true, false));
        ASSERT_DONE(tell_vm_preemption(&c, 1, false, false));
        ASSERT_REFUSED(CONFLICT, tell_preempted(&c, 1, 2, 0));
        ASSERT_DONE(tell_vm_preemption(&c, 1, false, true));
        ASSERT_DONE(tell_desired(&c, 2, VM_STOP, 0));
        ASSERT_REFUSED(CONFLICT, tell_preempted(&c, 1, 2, 0));          /* it does not wait any more */
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        ASSERT_DONE(tell_preempted(&c, 1, 2, 0));
}

static void test_nobody_stops_for_another_below_the_level_of_placement(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 2));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_preempted(&c, 1, 2, 0));
}

/* ---- fencing */

static void test_a_node_has_a_fence_agent_or_none(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_fencing(&c, 1, "fence_ipmilan", "password", "s3cret"));
        const Fence *fence = &node_told(&c, 1)->fence;
        g_assert_cmpstr(fence->agent, ==, "fence_ipmilan");
        g_assert_cmpuint(fence->n_parameters, ==, 1);
        g_assert_cmpstr(fence->parameters[0].name, ==, "password");
        g_assert_cmpstr(fence->parameters[0].value, ==, "s3cret");
        assert_said(&c, "node-fencing", "node a is switched off by fence_ipmilan when it must be");
        ASSERT_DONE(tell_fencing(&c, 1, "", NULL, NULL));
        g_assert_null(node_told(&c, 1)->fence.agent);
        assert_said(&c, "node-fencing", "node a has no fence agent");
}

static void test_a_fence_agent_is_a_programs_name_and_its_parameters_are_words(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        g_autofree char *longest = g_strnfill(NAME_LENGTH_MAX, 'x'), *longer = g_strnfill(NAME_LENGTH_MAX + 1, 'x');
        g_autofree char *value = g_strnfill(TEXT_LENGTH_MAX, 'x'), *long_value = g_strnfill(TEXT_LENGTH_MAX + 1, 'x');
        static const char *const bad[] = { "../fence_x", "a/b", "fence ipmilan", "a.b", "fence\n", "é" };
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, bad[i], NULL, NULL));
                ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", bad[i], "value"));
        }
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, longer, NULL, NULL));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", longer, ""));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", "", ""));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", "a", "b\nc"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", "a", "secret\x1b[2J"));
        g_assert_null(strstr(c.sentence, "secret"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "fence_x", "a", long_value));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fencing(&c, 1, "", "a", "b"));
        ASSERT_REFUSED(NOT_FOUND, tell_fencing(&c, 9, "fence_x", NULL, NULL));
        ASSERT_DONE(tell_fencing(&c, 1, longest, longest, value));
}

/* SetFencing with @n parameters p0, p1, ...; the last is named as the first with @twice. */
static Verdict tell_parameters(Chronicle *c, unsigned node, unsigned n, bool twice, const char *value) {
        Gpupool1__SetFencing m = GPUPOOL1__SET_FENCING__INIT;
        g_autofree Gpupool1__FenceParameter *row = g_new0(Gpupool1__FenceParameter, n);
        g_autofree Gpupool1__FenceParameter **pointers = g_new0(Gpupool1__FenceParameter *, n);
        NodeId id = NODE(node);
        for (unsigned i = 0; i < n; i++) {
                gpupool1__fence_parameter__init(row + i);
                row[i].name = g_strdup_printf("p%u", twice && i == n - 1 ? 0 : i);
                row[i].value = (char *) value;
                pointers[i] = row + i;
        }
        m.node = BORROW(id);
        m.agent = (char *) "fence_x";
        m.parameters = pointers;
        m.n_parameters = n;
        c->level = LEVEL_FAILOVER;
        Verdict verdict = TELL(c, SET_FENCING, m);
        for (unsigned i = 0; i < n; i++)
                g_free(row[i].name);
        return verdict;
}

static void test_a_fence_agent_has_so_many_parameters_each_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_parameters(&c, 1, FENCE_PARAMETERS_MAX, false, "x"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_parameters(&c, 1, FENCE_PARAMETERS_MAX + 1, false, "x"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_parameters(&c, 1, 2, true, "x"));
}

static void test_all_nodes_together_have_so_much_of_fencing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        g_autofree char *value = g_strnfill(900, 'x');
        c.quick = true;
        unsigned node = 1;
        do {
                g_autofree char *name = g_strdup_printf("n%u", node);
                if (node > 3)
                        ASSERT_DONE(tell_node(&c, node, name, 1, "boot"));
                (void) tell_parameters(&c, node++, FENCE_PARAMETERS_MAX, false, value);
        } while (c.verdict == VERDICT_DONE);
        g_assert_cmpint(c.verdict, ==, VERDICT_LIMITS_EXCEEDED);
        /* As much as fits, to within one node's. */
        g_assert_cmpuint((node - 1) * (size_t) FENCE_PARAMETERS_MAX * 920, >=, FENCE_TOTAL_MAX);
        ASSERT_DONE(tell_parameters(&c, 1, 1, false, value));           /* less is never too much */
        ASSERT_DONE(tell_parameters(&c, node - 1, FENCE_PARAMETERS_MAX - 2, false, value));
        assert_registry_is_sound(c.registry);
}

/* ---- freezing */

static void test_a_freeze_makes_leases_longer_and_time_prove_nothing(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_freeze(&c, 60000));
        g_assert_cmpuint(c.registry->freezes, ==, 1);
        g_assert_cmpuint(c.registry->frozen_ms, ==, 60000);
        assert_said(&c, "frozen", "cluster lab is frozen for 1 minute: no node is held for dead by time alone");
        for (unsigned node = 1; node <= 2; node++)
                g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, node)), ==, 60000 + TEST_LEASE_MS);
        ASSERT_REFUSED(CONFLICT, tell_lost(&c, 1, LOSS_BY_LEASE));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_WORD));
        ASSERT_DONE(tell_thaw(&c, 0));
        g_assert_cmpuint(c.registry->frozen_ms, ==, 0);
        assert_said(&c, "thawed", "cluster lab is not frozen any more");
        ASSERT_REFUSED(CONFLICT, tell_thaw(&c, 0));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_LEASE));
}

static void test_a_freeze_has_a_longest(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_freeze(&c, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_freeze(&c, (uint64_t) FREEZE_MS_MAX + 1));
        ASSERT_DONE(tell_freeze(&c, FREEZE_MS_MAX));
        ASSERT_DONE(tell_freeze(&c, 1500));
        assert_said(&c, "frozen", "cluster lab is frozen for 2 seconds: no node is held for dead by time alone");
}

static void test_the_long_lease_is_waited_for_until_the_node_has_thawed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_REFUSED(CONFLICT, tell_thawed(&c, 1));
        ASSERT_DONE(tell_thaw(&c, 1));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 60000 + TEST_LEASE_MS);
        ASSERT_DONE(tell_thawed(&c, 1));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 0);
        g_assert_cmpuint(node_told(&c, 2)->long_lease_ms, ==, 60000 + TEST_LEASE_MS);
}

static void test_a_word_of_an_older_thaw_or_incarnation_does_not_count(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        Gpupool1__ReportThawed m = GPUPOOL1__REPORT_THAWED__INIT;
        NodeId node = NODE(1);
        m.node = BORROW(node);
        m.incarnation = 1;
        m.freezes = 1;
        c.level = LEVEL_FAILOVER;
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_DONE(tell_freeze(&c, 60000));
                ASSERT_DONE(tell_thaw(&c, 0));
        }
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_THAWED, m));
        m.freezes = 2;
        m.incarnation = 2;
        ASSERT_REFUSED(CONFLICT, TELL(&c, REPORT_THAWED, m));
        m.incarnation = 1;
        m.node.len = 0;
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, REPORT_THAWED, m));
        m.node.len = ID_SIZE;
        ASSERT_DONE(TELL(&c, REPORT_THAWED, m));
}

static void test_a_freeze_anew_counts_for_itself(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_DONE(tell_freeze(&c, 1000));
        g_assert_cmpuint(c.registry->freezes, ==, 2);
        g_assert_cmpuint(c.registry->frozen_ms, ==, 1000);
        /* Who had the longer lease before has it still. */
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 60000 + TEST_LEASE_MS);
        /* The leader saw the end of the first, and the second is not over. */
        ASSERT_REFUSED(CONFLICT, tell_thaw(&c, 1));
        g_assert_cmpuint(c.registry->frozen_ms, ==, 1000);
        ASSERT_DONE(tell_thaw(&c, 2));
}

static void test_whoever_comes_during_a_freeze_is_frozen_too(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_DONE(tell_node(&c, 4, "d", 1, "boot"));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 4)), ==, 0);
        ASSERT_DONE(tell_lease(&c, 4, 5000, 1000));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 4)), ==, 65000);
        ASSERT_DONE(tell_lease(&c, 4, 9000, 1000));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 4)), ==, 69000);
        ASSERT_DONE(tell_lease(&c, 4, 2000, 1000));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 4)), ==, 69000);
        /* A new boot has nothing of the old lease, and a new one of the freeze. */
        ASSERT_DONE(tell_back(&c, 4, true));
        g_assert_cmpuint(node_record_longest_lease_ms(node_told(&c, 4)), ==, 62000);
}

static void test_a_loss_ends_the_long_lease(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pair();
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_DONE(tell_lost(&c, 1, LOSS_BY_POWER_OFF));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 0);
        ASSERT_DONE(tell_freeze(&c, 90000));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 0);
        ASSERT_DONE(tell_back(&c, 1, false));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 90000 + TEST_LEASE_MS);
        ASSERT_DONE(tell_thaw(&c, 0));
        ASSERT_DONE(tell_back(&c, 1, true));
        g_assert_cmpuint(node_told(&c, 1)->long_lease_ms, ==, 0);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/failover/" #name, test_##name)
        TEST(below_its_level_there_is_no_failover);
        TEST(from_its_level_on_assignments_end_with_a_lease);
        TEST(a_node_announces_the_times_of_its_lease);
        TEST(a_witness_has_no_lease);
        TEST(the_word_that_leases_are_ordinary_does_not_outlive_a_time_with_too_few_nodes);
        TEST(a_node_that_runs_a_vm_does_not_become_a_witness);
        TEST(who_has_no_lease_is_lost_by_time_only_without_a_vm);
        TEST(where_a_majority_needs_all_leases_are_of_years);
        TEST(a_lost_node_that_had_no_vm_has_nothing_to_prove);
        TEST(nobody_speaks_for_another_node);
        TEST(an_end_by_lease_or_guard_is_reported_and_never_counted);
        TEST(a_lost_node_takes_its_vms_with_it);
        TEST(the_evidence_is_told);
        TEST(a_loss_is_of_a_member_in_its_incarnation_and_once);
        TEST(a_node_without_vms_can_be_lost_too);
        TEST(without_a_lease_time_proves_nothing);
        TEST(who_has_announced_no_lease_is_given_no_vm);
        TEST(a_vm_from_before_leases_keeps_its_node_from_being_lost_by_time);
        TEST(a_vm_that_was_leaving_a_lost_node_runs_again_elsewhere);
        TEST(a_vm_that_was_stopping_on_a_lost_node_is_stopped);
        TEST(a_vm_that_never_restarts_runs_again_if_somebody_was_restarting_it);
        TEST(nothing_is_assigned_to_a_lost_node);
        TEST(what_a_lost_node_says_of_its_vms_counts_no_more);
        TEST(a_lost_node_can_be_removed);
        TEST(a_lost_node_is_back_in_a_greater_incarnation);
        TEST(a_new_boot_brings_a_lost_node_back);
        TEST(a_boot_under_running_vms_is_a_loss);
        TEST(a_boot_without_vms_is_no_loss);
        TEST(a_node_that_flaps_comes_back_drained);
        TEST(losses_that_are_far_apart_are_no_flapping);
        TEST(clocks_of_two_leaders_may_differ);
        TEST(who_drained_a_node_that_flaps_keeps_it_drained);
        TEST(a_node_resumed_while_it_is_lost_keeps_that_loss);
        TEST(a_drained_node_takes_no_vm);
        TEST(draining_or_resuming_twice_says_it_once);
        TEST(a_reboot_and_a_new_name_leave_a_node_drained);
        TEST(a_vm_that_left_a_drained_node_has_a_home);
        TEST(a_home_is_forgotten_when_nobody_is_to_come_back);
        TEST(a_home_is_forgotten_when_somebody_sends_the_vm_elsewhere);
        TEST(through_several_drained_nodes_the_home_is_the_first);
        TEST(draining_anew_brings_nobody_home);
        TEST(a_vm_that_is_moved_stops_and_goes_on);
        TEST(a_guest_may_be_asked_first);
        TEST(only_what_runs_is_moved_and_only_to_where_it_could_run);
        TEST(a_move_may_be_of_one_epoch);
        TEST(who_is_stopped_is_not_moved_any_more);
        TEST(a_vm_stops_for_a_more_important_one_and_says_so);
        TEST(nobody_stops_for_one_that_may_not_ask_for_it);
        TEST(nobody_stops_for_another_below_the_level_of_placement);
        TEST(a_node_has_a_fence_agent_or_none);
        TEST(a_fence_agent_is_a_programs_name_and_its_parameters_are_words);
        TEST(a_fence_agent_has_so_many_parameters_each_once);
        TEST(all_nodes_together_have_so_much_of_fencing);
        TEST(a_freeze_makes_leases_longer_and_time_prove_nothing);
        TEST(a_freeze_has_a_longest);
        TEST(the_long_lease_is_waited_for_until_the_node_has_thawed);
        TEST(a_word_of_an_older_thaw_or_incarnation_does_not_count);
        TEST(a_freeze_anew_counts_for_itself);
        TEST(whoever_comes_during_a_freeze_is_frozen_too);
        TEST(a_loss_ends_the_long_lease);
        return g_test_run();
}
