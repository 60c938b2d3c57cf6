/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/check.h"
#include "world-builder.h"

/* All findings, one a line: "warning gpu-absent: GPU a:... Put it back, ..." */
static char *findings_of(WorldBuilder *w) {
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        g_assert_cmpint(check_cluster(world_now(w), &findings), ==, 0);
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

static void test_a_node_that_is_not_heard_of_is_told_once(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        forget_facts(w, "b");
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "error node-silent: nothing is heard from node b\n");
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
        g_test_add_func("/check/a node that is not heard of is told once",
                        test_a_node_that_is_not_heard_of_is_told_once);
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
