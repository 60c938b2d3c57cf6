/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/check.h"
#include "world-builder.h"

/* All findings, one a line: "warning gpu-absent: GPU a:... is not there any more" */
static char *findings_when(WorldBuilder *w, bool quorate) {
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        g_assert_cmpint(check_cluster(world_now(w), quorate, &findings), ==, 0);
        GString *text = g_string_new(NULL);
        ARRAY_EACH(finding, &findings) {
                g_assert_cmpstr(finding->sentence, !=, "");
                g_assert_cmpstr(finding->remedy, !=, "");
                g_assert_cmpint(finding->object[0] == '\0', ==, finding->kind == OBJECT_KIND_CLUSTER);
                g_string_append_printf(text, "%s %s: %s\n", check_severity_to_text(finding->severity), finding->code,
                                       finding->sentence);
        }
        return g_string_free(text, FALSE);
}

static char *findings_of(WorldBuilder *w) {
        return findings_when(w, true);
}

static void expect_finding(WorldBuilder *w, const char *line) {
        g_autofree char *text = findings_of(w), *whole = g_strconcat("\n", text, NULL),
                *wanted = g_strconcat("\n", line, NULL);
        if (!strstr(whole, wanted))
                g_error("no finding\n%s\namong\n%s", line, text);
}

static WorldBuilder *ready_cluster(void) {
        WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        return w;
}

static void test_a_cluster_that_is_ready_has_no_finding(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "");
}

static void test_one_node_and_two_are_not_enough(void) {
        _cleanup_(world_builder_freep) WorldBuilder *one = world_of(1), *two = world_of(2);
        expect_finding(one, "note single-node: ");
        expect_finding(two, "warning no-third-vote: ");
}

static void test_a_node_without_libvirt_or_guard_is_an_error(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        facts_of(w, "a")->hypervisor = HYPERVISOR_HUNG;
        facts_of(w, "b")->guard_connected = false;
        expect_finding(w, "error hypervisor-hung: libvirt on node a does not answer");
        expect_finding(w, "error guard-absent: node b has no guard");
}

static void test_a_node_of_which_nothing_is_known_is_told_once(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        forget_facts(w, "b");
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "warning node-joining: node b was admitted, and nothing is known of it yet\n");
}

/* Every node is a voter, and those in @silent ("a c") are not heard since the leap day of 2024, 23:59:59. */
static void with_lives(WorldBuilder *w, NodeLife *lives, const char *silent) {
        size_t n = 0;
        ARRAY_EACH(node, &w->registry->nodes)
                lives[n++] = (NodeLife) { .node = node->id, .role = NODE_VOTER,
                                          .silent = strstr(silent, node->name) != NULL,
                                          .silent_since_ms = UINT64_C(1709251199999) };
        w->world.lives = lives;
        w->world.n_lives = n;
}

static void test_a_silent_node_is_told_with_the_time(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        NodeLife lives[3];
        with_lives(w, lives, "b");
        expect_finding(w, "error node-silent: nothing is heard from node b since 2024-02-29 23:59:59 UTC\n");
        expect_finding(w, "warning no-vote-to-spare: 2 of 3 voters are heard: ");
        lives[1].silent_since_ms = UINT64_C(1767225600000);
        expect_finding(w, "error node-silent: nothing is heard from node b since 2026-01-01 00:00:00 UTC\n");
        lives[1].silent_since_ms = UINT64_C(951868800000);
        expect_finding(w, "error node-silent: nothing is heard from node b since 2000-03-01 00:00:00 UTC\n");
        lives[1].silent_since_ms = 0;
        expect_finding(w, "error node-silent: nothing is heard from node b\n");
}

static void test_five_voters_have_a_vote_to_spare_and_two_silent_ones_take_it(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(5);
        NodeLife lives[5];
        with_lives(w, lives, "e");
        g_autofree char *one = findings_of(w);
        g_assert_null(strstr(one, "no-vote-to-spare"));
        with_lives(w, lives, "d e");
        expect_finding(w, "warning no-vote-to-spare: 3 of 5 voters are heard: ");
}

static void test_an_even_number_of_voters_is_a_note(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(4);
        NodeLife lives[4];
        with_lives(w, lives, "");
        expect_finding(w, "note even-voters: 4 nodes vote, and 3 of them make a majority");
        lives[3].role = NODE_STANDBY;
        g_autofree char *odd = findings_of(w);
        g_assert_cmpstr(odd, ==, "");
        lives[2].role = NODE_STANDBY;
        expect_finding(w, "warning few-voters: only 2 of 4 nodes vote: ");
}

static void test_a_witness_is_a_third_vote_and_needs_no_libvirt(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        NodeLife lives[3];
        with_lives(w, lives, "");
        node_named(w, "c")->witness = true;
        facts_of(w, "c")->hypervisor = HYPERVISOR_ABSENT;
        facts_of(w, "c")->guard_connected = false;
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "");
}

static void test_no_quorum_is_an_error_and_comes_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        forget_facts(w, "b");
        g_autofree char *text = findings_when(w, false);
        g_assert_true(g_str_has_prefix(text, "error no-quorum: "));
}

static void test_a_member_that_is_older_than_others_is_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        node_named(w, "a")->level = node_named(w, "c")->level = 2;
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "warning node-older: node b supports level 1 at most and others support 2: until it "
                        "is upgraded the cluster stays at level 1\n");
        node_named(w, "b")->level = 2;
        expect_finding(w, "note level-can-rise: every node supports level 2 and the cluster works at level 1");
}

static void test_a_removed_node_says_only_that(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        forget_facts(w, "b");
        w->world.local = node_named(w, "a")->id;
        w->world.removed = true;
        g_autofree char *text = findings_when(w, false);
        g_assert_true(g_str_has_prefix(text, "error node-removed: this node was removed from cluster "));
        g_assert_null(strchr(strchr(text, '\n') + 1, '\n'));
}

static void test_a_virtual_node_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        g_assert_cmpint(text_set(&facts_of(w, "a")->virtualization, "kvm"), ==, 0);
        expect_finding(w, "warning node-virtual: node a is itself a virtual machine (kvm)");
}

static void test_a_pooled_gpu_with_a_blocker_is_told_and_others_are_not(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        with_gpus(w, "c", 1);
        gpu_of(w, "a", 0)->boot_vga = true;
        gpu_of(w, "c", 0)->boot_vga = true;
        g_autofree char *text = findings_of(w);
        g_assert_true(g_str_has_prefix(text, "warning gpu-not-assignable: GPU a:"));
        g_assert_null(strstr(text, "GPU c:"));
}

static void test_a_pooled_gpu_that_is_gone_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        unplugged(w, "a", 1);
        expect_finding(w, "warning gpu-absent: GPU a:");
}

static void test_a_quarantine_is_a_note(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        quarantined(w, "a", 1);
        expect_finding(w, "note gpu-quarantined: GPU a:");
}

static void test_a_mixed_pool_is_a_note(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        gpu_of(w, "b", 0)->identity.device = 0x20b0;
        pool_named(w, "training")->gpus.items[2].device = 0x20b0;
        expect_finding(w, "note pool-mixed: the GPUs of pool training are not alike");
}

static void test_a_vm_that_waits_is_told_with_its_reason(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        vm_of(w, "bert", "training", 5);
        expect_finding(w, "warning vm-waiting: vm bert waits: ");
}

static void test_a_vm_that_failed_is_an_error_and_comes_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        quarantined(w, "a", 1);
        Vm *vm = vm_of(w, "bert", "training", 1);
        vm->attempts = VM_ATTEMPTS_MAX;
        vm->failed = true;
        g_assert_cmpint(text_set(&vm->reason_code, "crashed"), ==, 0);
        g_autofree char *text = findings_of(w);
        g_assert_true(g_str_has_prefix(text, "error vm-failed: vm bert failed too often"));
}

static void test_a_pool_that_a_failure_would_hurt_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 2);
        runs(w, "bert", "a", "0 1");
        runs(w, "ernie", "b", "0 1");
        expect_finding(w, "warning pool-at-risk: pool training does not survive the loss of a node");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/check/a cluster that is ready has no finding", test_a_cluster_that_is_ready_has_no_finding);
        g_test_add_func("/check/one node and two are not enough", test_one_node_and_two_are_not_enough);
        g_test_add_func("/check/a node without libvirt or guard is an error",
                        test_a_node_without_libvirt_or_guard_is_an_error);
        g_test_add_func("/check/a node of which nothing is known is told once",
                        test_a_node_of_which_nothing_is_known_is_told_once);
        g_test_add_func("/check/a silent node is told with the time", test_a_silent_node_is_told_with_the_time);
        g_test_add_func("/check/five voters have a vote to spare, and two silent ones take it",
                        test_five_voters_have_a_vote_to_spare_and_two_silent_ones_take_it);
        g_test_add_func("/check/an even number of voters is a note", test_an_even_number_of_voters_is_a_note);
        g_test_add_func("/check/a witness is a third vote and needs no libvirt",
                        test_a_witness_is_a_third_vote_and_needs_no_libvirt);
        g_test_add_func("/check/no quorum is an error and comes first", test_no_quorum_is_an_error_and_comes_first);
        g_test_add_func("/check/a member that is older than others is named",
                        test_a_member_that_is_older_than_others_is_named);
        g_test_add_func("/check/a removed node says only that", test_a_removed_node_says_only_that);
        g_test_add_func("/check/a virtual node is a warning", test_a_virtual_node_is_a_warning);
        g_test_add_func("/check/a pooled GPU with a blocker is told, others are not",
                        test_a_pooled_gpu_with_a_blocker_is_told_and_others_are_not);
        g_test_add_func("/check/a pooled GPU that is gone is told", test_a_pooled_gpu_that_is_gone_is_told);
        g_test_add_func("/check/a quarantine is a note", test_a_quarantine_is_a_note);
        g_test_add_func("/check/a mixed pool is a note", test_a_mixed_pool_is_a_note);
        g_test_add_func("/check/a VM that waits is told with its reason", test_a_vm_that_waits_is_told_with_its_reason);
        g_test_add_func("/check/a VM that failed is an error and comes first",
                        test_a_vm_that_failed_is_an_error_and_comes_first);
        g_test_add_func("/check/a pool that a failure would hurt is a warning",
                        test_a_pool_that_a_failure_would_hurt_is_a_warning);
        return g_test_run();
}
