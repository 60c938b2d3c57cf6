/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/check.h"
#include "core/names.h"
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

/* At the level of failover, with the default lease and a watchdog on each node. */
static WorldBuilder *nodes_with_failover(size_t n) {
        WorldBuilder *w = world_of(n);
        w->registry->level = LEVEL_FAILOVER;
        ARRAY_EACH(node, &w->registry->nodes) {
                node->level = LEVEL_FAILOVER;
                node->lease_ms = 3000;
                node->death_ms = 3100;
                facts_of(w, node->name)->watchdog_us = 2500000;
        }
        return w;
}

static WorldBuilder *ready_cluster(void) {
        WorldBuilder *w = nodes_with_failover(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        return w;
}

/* A VM that was started since there are leases. */
static void runs_leased(WorldBuilder *w, const char *vm, const char *node, const char *gpus) {
        runs(w, vm, node, gpus);
        vm_named(w, vm)->assignment.leased = true;
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
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(5);
        NodeLife lives[5];
        with_lives(w, lives, "e");
        g_autofree char *one = findings_of(w);
        g_assert_null(strstr(one, "no-vote-to-spare"));
        with_lives(w, lives, "d e");
        expect_finding(w, "warning no-vote-to-spare: 3 of 5 voters are heard: ");
}

static void test_an_even_number_of_voters_is_a_note(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(4);
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

static void set_level(WorldBuilder *w, uint32_t cluster, const char *nodes, uint32_t level) {
        w->registry->level = cluster;
        ARRAY_EACH(node, &w->registry->nodes)
                if (strstr(nodes, node->name))
                        node->level = level;
}

static void test_a_member_that_is_older_than_others_is_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        set_level(w, 3, "a c", 4);
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "warning node-older: node b supports level 3 at most and others support 4: until it "
                        "is upgraded the cluster stays at level 3\n");
        set_level(w, 3, "b", 4);
        expect_finding(w, "note level-can-rise: every node supports level 4 and the cluster works at level 3");
}

/* ---- failover */

static void test_below_its_level_there_is_no_failover(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster(), *one = world_of(1);
        set_level(w, 2, "a b c", 3);
        ARRAY_EACH(node, &w->registry->nodes) {
                node->lease_ms = node->death_ms = 0;
                facts_of(w, node->name)->watchdog_us = 0;
        }
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "warning no-failover: the cluster works at level 2, and failover begins with level "
                        "3: the VMs of a node that fails start nowhere else\n");
        g_autofree char *alone = findings_of(one);
        g_assert_null(strstr(alone, "no-failover"));
}

static void test_a_freeze_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        w->registry->frozen_ms = 600000;
        expect_finding(w, "warning cluster-frozen: the cluster is frozen, for 600 s: ");
}

static void test_a_node_that_nothing_stops_from_outside_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        facts_of(w, "a")->watchdog_us = facts_of(w, "b")->watchdog_us = facts_of(w, "c")->watchdog_us = 0;
        g_assert_cmpint(text_set(&node_named(w, "b")->fence.agent, "fence_ipmilan"), ==, 0);
        node_named(w, "c")->witness = true;
        g_autofree char *text = findings_of(w);
        g_assert_true(g_str_has_prefix(text, "warning node-unfenced: node a has neither a watchdog nor a fence agent"));
        g_assert_null(strstr(text, "node b"));
        g_assert_null(strstr(text, "node c"));
}

static void test_fencing_that_failed_is_a_warning_whether_the_node_is_back_or_not(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        static char said[] = "it ended with status 1: Connection timed out";
        FencedNode fenced = { .node = node_named(w, "b")->id, .phase = FENCED_FAILED, .tries = 5, .said = said,
                              .at_ms = UINT64_C(1700000000000) };
        w->world.fenced = &fenced;
        w->world.n_fenced = 1;
        g_autofree char *before = findings_of(w);
        g_assert_cmpstr(before, ==, "");        /* it has no agent any more */
        g_assert_cmpint(text_set(&node_named(w, "b")->fence.agent, "fence_ipmilan"), ==, 0);
        static const char sentence[] = "warning fencing-failed: fence_ipmilan could not switch node b off when it was "
                                       "silent, last at 2023-11-14 22:13:20 UTC: it ended with status 1: Connection";
        expect_finding(w, sentence);
        node_named(w, "b")->lost = true;
        g_autofree char *text = findings_of(w);
        g_assert_nonnull(strstr(text, sentence));
        node_named(w, "b")->lost = false;
        for (FencedPhase phase = FENCED_NOT; phase < FENCED_PHASE_COUNT; phase++) {
                fenced.phase = phase;
                g_autofree char *now = findings_of(w);
                g_assert_cmpint(phase == FENCED_FAILED, ==, *now != '\0');
        }
}

static void test_fencing_that_would_prove_nothing_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        g_assert_cmpint(text_set(&node_named(w, "b")->fence.agent, "fence_scsi"), ==, 0);
        expect_finding(w, "warning fencing-unusable: node b is not switched off when it is silent: fence_scsi does "
                       "not switch a host off");
}

static void test_an_agent_that_is_missing_where_somebody_may_lead_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        NodeLife lives[] = { { .node = node_named(w, "a")->id, .role = NODE_READER },
                             { .node = node_named(w, "b")->id, .role = NODE_READER },
                             { .node = node_named(w, "c")->id, .role = NODE_READER } };
        w->world.lives = lives;
        w->world.n_lives = G_N_ELEMENTS(lives);
        g_assert_cmpint(text_list_add(&facts_of(w, "b")->missing_agents, "fence_ipmilan"), ==, 0);
        node_named(w, "b")->witness = true;     /* which votes, so it may lead */
        static const char sentence[] = "warning fence-agent-missing: node b has no fence_ipmilan";
        for (size_t i = 0; i < 2; i++) {
                g_autofree char *text = findings_of(w);
                g_assert_true((strstr(text, sentence) != NULL) == (i > 0));
                lives[1].role = NODE_STANDBY;
        }
}

static PathSet set_of_path(const char *path) {
        PathSet set = {};
        uint32_t more;
        SeenPath seen = { path, PATH_MISSING };
        g_assert_cmpint(path_set_gather(&seen, 1, PATH_MISSING, 1, &set, &more), ==, 0);
        return set;
}

static void test_files_that_a_node_lacks_are_a_note_and_storage_that_hangs_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        static const char *const paths[] = { "/images/a", "/images/b", "/images/c", "/images/d", "/nfs/a" };
        for (size_t i = 0; i < 2; i++) {
                Vm *vm = vm_of(w, i ? "two" : "one", "training", 1);
                vm->run = false;
                for (size_t k = 0; k < G_N_ELEMENTS(paths) - i; k++)
                        g_assert_cmpint(text_list_add(&vm->needs.paths, paths[k]), ==, 0);
        }
        facts_of(w, "b")->missing_paths = set_of_path("/images");
        expect_finding(w, "note storage-missing: node b has not /images/a, /images/b, /images/c and others: 2 VMs of "
                       "its pools cannot run on it");
        path_set_clear(&facts_of(w, "b")->missing_paths);
        facts_of(w, "b")->hanging_paths = set_of_path("/nfs/a");
        expect_finding(w, "warning storage-hangs: the storage of /nfs/a does not answer on node b: 1 VM of its pools "
                       "cannot start on it");
        /* Where no VM of the pool can come nothing is said. */
        pool_named(w, "training")->gpus.n = 0;
        g_autofree char *text = findings_of(w);
        g_assert_null(strstr(text, "storage"));
}

static void test_a_drained_node_says_who_drained_it(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        node_named(w, "b")->drain = DRAIN_BY_HAND;
        expect_finding(w, "note node-drained: node b is drained");
        node_named(w, "b")->drain = DRAIN_FLAPPING;
        expect_finding(w, "warning node-flapping: node b was lost 3 times within an hour");
}

static void test_a_drain_that_gets_no_further_is_a_warning(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        vm_of(w, "bert", "training", 2);
        runs_leased(w, "bert", "a", "0 1");
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        g_autofree char *soon = findings_of(w);
        g_assert_null(strstr(soon, "drain-waits"));
        unplugged(w, "b", 1);
        expect_finding(w, "warning drain-waits: node a is not drained yet: vm bert cannot leave node a (b: 1 usable");
        expect_finding(w, "note node-drained: node a is drained");
}

static void test_a_lost_node_says_on_what_evidence(void) {
        static const char *const grounds[LOSS_EVIDENCE_COUNT] = {
                [LOSS_BY_LEASE] = "its last possible lease has run out",
                [LOSS_BY_POWER_OFF] = "its fence agent confirmed that it is off",
                [LOSS_BY_NEW_BOOT] = "it booted anew",
                [LOSS_BY_WORD] = "an administrator confirmed that it is off",
        };
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        NodeRecord *node = node_named(w, "b");
        node->lost = true;
        for (LossEvidence i = 0; i < LOSS_EVIDENCE_COUNT; i++) {
                g_autofree char *line = g_strdup_printf("error node-lost: node b is lost: %s; its VMs run", grounds[i]);
                node->evidence = i;
                expect_finding(w, line);
        }
        node->drain = DRAIN_FLAPPING;
        expect_finding(w, "warning node-flapping: node b ");
}

static void test_leases_of_different_or_great_length_are_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        NodeRecord *b = node_named(w, "b");
        b->lease_ms = 4400;             /* with 0.5 s between requests, and 3.1 s to die: 8.0 s */
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "note leases-differ: the nodes' leases are not of one length (a 3000 ms, b 4400 ms), "
                        "so how fast a VM runs again depends on where it ran\n");
        b->lease_ms = 4500;
        expect_finding(w, "warning lease-long: it takes up to 8.1 s until the VMs of node b are known to be dead when "
                       "it fails (lease 4500 ms, and 3100 ms until all is surely ended): ");
        b->lease_ms = b->death_ms = 0;
        expect_finding(w, "warning lease-unknown: node b has not said how long its leases are");
}

static void test_no_more_than_a_few_lengths_of_leases_are_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(7);
        uint32_t lease_ms = 1000;
        ARRAY_EACH(node, &w->registry->nodes)
                node->lease_ms = lease_ms += 100;
        expect_finding(w, "note leases-differ: the nodes' leases are not of one length (a 1100 ms, b 1200 ms, c 1300 "
                       "ms, d 1400 ms, ...), so");
}

static void test_a_vm_from_before_there_were_leases_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        expect_finding(w, "warning vm-unleased: vm bert was started before the cluster worked at level 3: when node a "
                       "fails");
        runs_leased(w, "bert", "a", "0");
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "");
}

static void test_a_registry_that_cannot_be_written_is_an_error(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        facts_of(w, "b")->registry_stuck = true;
        expect_finding(w, "error registry-stuck: node b cannot write its registry");
        facts_of(w, "b")->registry_stuck = false;
        node_named(w, "c")->witness = true;
        facts_of(w, "c")->registry_stuck = true;
        expect_finding(w, "error registry-stuck: node c cannot write its registry");
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
        g_assert_cmpint(text_set(&node_named(w, "a")->fence.agent, "fence_virsh"), ==, 0);
        expect_finding(w, "note node-virtual: node a is itself a virtual machine (kvm) and can be paused with all its "
                       "clocks; fence_virsh switches it off");
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
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        g_assert_cmpint(check_cluster(world_now(w), true, &findings), ==, 0);
        g_assert_cmpstr(findings.items[0].remedy, ==, "put it back, or take it out of the pool: gpupoolctl pool remove "
                        "training a:0000:42:00.0");
}

static void test_a_quarantine_is_a_note(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        quarantined(w, "a", 1);
        expect_finding(w, "note gpu-quarantined: GPU a:");
}

static void test_a_gpu_that_hangs_is_told_once_with_what_helps(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        quarantined(w, "a", 1);
        Quarantine *quarantine = w->registry->quarantines.items;
        quarantine->cause = QUARANTINE_STUCK;
        g_assert_cmpint(text_set(&quarantine->sentence, "taking it from the host's driver hangs in the kernel"), ==, 0);
        g_assert_cmpint(text_set(&gpu_of(w, "a", 1)->stuck, quarantine->sentence), ==, 0);
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "warning gpu-not-assignable: GPU a:0000:42:00.0 of pool training cannot be used: "
                        "taking it from the host's driver hangs in the kernel\n");
        quarantine->cause = QUARANTINE_BY_HAND;
        expect_finding(w, "note gpu-quarantined: GPU a:0000:42:00.0 is in quarantine: ");
}

static void test_a_gpu_of_no_pool_is_not_called_one_of_pool_none(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        with_gpus(w, "c", 1);
        gpu_of(w, "c", 0)->boot_vga = true;
        g_assert_cmpint(check_one_node(world_now(w), node_named(w, "c"), &findings), ==, 0);
        g_assert_cmpuint(findings.n, ==, 1);
        g_assert_cmpstr(findings.items[0].sentence, ==,
                        "GPU c:0000:41:00.0 (in no pool) cannot be used: the host's console uses it");
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
        runs_leased(w, "bert", "a", "0 1");
        runs_leased(w, "ernie", "b", "0 1");
        expect_finding(w, "warning pool-at-risk: pool training does not survive the loss of a node");
}

static void test_a_host_that_can_give_no_gpu_is_told_once(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        facts_of(w, "a")->iommu_present = false;
        g_autofree char *text = findings_of(w);
        g_assert_true(g_str_has_prefix(text, "warning host-not-ready: node a can give none of its 2 GPUs to a VM: no "
                                       "IOMMU is at work"));
        g_assert_null(strchr(strchr(text, '\n') + 1, '\n'));
        with_gpus(w, "c", 1);
        facts_of(w, "c")->vfio_present = false;
        expect_finding(w, "note host-not-ready: node c can give none of its 1 GPU to a VM: ");
}

static void test_a_replaced_card_is_told_with_what_is_there_now(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        g_strlcpy(pool_named(w, "training")->gpus.items[0].serial, "old", GPU_SERIAL_SIZE);
        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "new", GPU_SERIAL_SIZE);
        expect_finding(w, "warning gpu-replaced: GPU a:0000:41:00.0 of pool training was replaced: in its slot is "
                       "another card now (10de:2331, serial new, at 0000:41:00.0), which is in no pool\n");
}

static void test_all_that_differs_in_a_pool_is_said(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        gpu_of(w, "a", 0)->link_width = 16;
        gpu_of(w, "a", 1)->link_width = 16;
        gpu_of(w, "b", 0)->link_width = 8;
        gpu_of(w, "b", 1)->link_width = 16;
        gpu_of(w, "b", 1)->bars[0].size += UINT64_C(1) << 30;
        g_autofree char *text = findings_of(w);
        g_assert_nonnull(strstr(text, "PCIe link widths differ: x16 (3), x8 (1: b:0000:41:00.0)"));
        g_assert_nonnull(strstr(text, "memory regions (BARs, in all) differ: "));
}

static void test_a_vm_that_fits_nowhere_else_is_told_with_each_nodes_reason(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(4);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        with_gpus(w, "c", 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 1);
        runs_leased(w, "bert", "a", "0 1");
        runs_leased(w, "ernie", "c", "0");
        expect_finding(w, "warning pool-at-risk: pool training does not survive the loss of a node: 1 VM would not run "
                       "again (bert)\n");
        /* d has none of the pool and is not spoken of; ernie fits on b. */
        expect_finding(w, "warning vm-no-other-place: vm bert would not run again if node a failed: b: 1 usable GPU of "
                       "training in all; c: 2 usable, 1 of them runs ernie (priority 0, same as bert)\n");
        g_autofree char *text = findings_of(w);
        g_assert_null(strstr(text, "vm ernie"));
}

/* What lacks is a majority, which is told by itself; that a VM has no GPU elsewhere is told all the same. */
static void test_a_pair_is_not_told_to_add_gpus_for_want_of_votes(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        runs_leased(w, "bert", "a", "0");
        g_autofree char *text = findings_of(w);
        g_assert_true(g_str_has_prefix(text, "warning no-third-vote: "));
        g_assert_null(strchr(strchr(text, '\n') + 1, '\n'));
        vm_named(w, "bert")->count = 2;
        runs_leased(w, "bert", "a", "0 1");
        expect_finding(w, "warning vm-no-other-place: vm bert would not run again if node a failed: b: 1 usable GPU of "
                       "training in all\n");
        g_autofree char *more = findings_of(w);
        g_assert_null(strstr(more, "pool-at-risk"));
}

static void test_a_vm_whose_pool_is_on_one_node_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(3);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        runs_leased(w, "bert", "a", "0 1");
        expect_finding(w, "warning vm-no-other-place: vm bert would not run again if node a failed: no other node has "
                       "GPUs of its pool\n");
}

static void test_a_vm_may_have_the_reserve_when_its_node_is_lost(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        pool_named(w, "training")->reserve = 2;
        vm_of(w, "bert", "training", 2);
        runs_leased(w, "bert", "a", "0 1");
        g_autofree char *text = findings_of(w);
        g_assert_cmpstr(text, ==, "");
}

static void test_a_vm_that_is_never_restarted_needs_no_other_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(3);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2)->restart = RESTART_NEVER;
        runs_leased(w, "bert", "a", "0 1");
        g_autofree char *text = findings_of(w);
        g_assert_null(strstr(text, "vm-no-other-place"));
}

static void test_asking_where_vms_could_go_changes_nothing(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = ready_cluster();
        vm_of(w, "bert", "training", 2);
        vm_of(w, "ernie", "training", 2);
        runs_leased(w, "bert", "a", "0 1");
        runs_leased(w, "ernie", "b", "0 1");
        g_autofree char *once = findings_of(w), *again = findings_of(w);
        g_assert_cmpstr(once, ==, again);
        g_assert_nonnull(strstr(once, "vm bert would not run again if node a failed: b: 2 usable, 2 of them "
                                "run ernie"));
        g_assert_nonnull(strstr(once, "vm ernie would not run again if node b failed: a: 2 usable, 2 of them "
                                "run bert"));
}

static void test_of_one_node_more_is_told_and_nothing_of_others(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = nodes_with_failover(4);
        with_gpus(w, "a", 3);
        with_gpus(w, "b", 1);
        with_gpus(w, "c", 2);
        pool_of(w, "training", "a:0 a:1 b:0 c:0 c:1");
        gpu_of(w, "a", 2)->boot_vga = true;
        facts_of(w, "b")->guard_connected = false;
        vm_of(w, "bert", "training", 2);
        runs_leased(w, "bert", "a", "0 1");
        g_autofree char *all = findings_of(w);
        g_assert_null(strstr(all, "GPU a:"));
        g_assert_null(strstr(all, "vm bert"));
        g_assert_nonnull(strstr(all, "guard-absent: node b"));

        _cleanup_(check_findings_clear) CheckFindings findings = {};
        g_assert_cmpint(check_one_node(world_now(w), node_named(w, "a"), &findings), ==, 0);
        g_assert_cmpuint(findings.n, ==, 2);
        g_assert_cmpstr(findings.items[0].code, ==, "gpu-not-assignable");
        g_assert_cmpint(findings.items[0].severity, ==, CHECK_NOTE);
        g_assert_cmpstr(findings.items[1].code, ==, "vm-few-places");
        g_assert_cmpstr(findings.items[1].sentence, ==, "if node a failed, vm bert could run on c and not on b: the "
                        "guard does not answer, and without it no VM is started");
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
        g_test_add_func("/check/below its level there is no failover", test_below_its_level_there_is_no_failover);
        g_test_add_func("/check/a freeze is a warning", test_a_freeze_is_a_warning);
        g_test_add_func("/check/a node that nothing stops from outside is a warning",
                        test_a_node_that_nothing_stops_from_outside_is_a_warning);
        g_test_add_func("/check/fencing that failed is a warning, whether the node is back or not",
                        test_fencing_that_failed_is_a_warning_whether_the_node_is_back_or_not);
        g_test_add_func("/check/fencing that would prove nothing is a warning",
                        test_fencing_that_would_prove_nothing_is_a_warning);
        g_test_add_func("/check/an agent that is missing where somebody may lead is a warning",
                        test_an_agent_that_is_missing_where_somebody_may_lead_is_a_warning);
        g_test_add_func("/check/files that a node lacks are a note and storage that hangs is a warning",
                        test_files_that_a_node_lacks_are_a_note_and_storage_that_hangs_is_a_warning);
        g_test_add_func("/check/a drained node says who drained it", test_a_drained_node_says_who_drained_it);
        g_test_add_func("/check/a drain that gets no further is a warning",
                        test_a_drain_that_gets_no_further_is_a_warning);
        g_test_add_func("/check/a lost node says on what evidence", test_a_lost_node_says_on_what_evidence);
        g_test_add_func("/check/leases of different or great length are told",
                        test_leases_of_different_or_great_length_are_told);
        g_test_add_func("/check/no more than a few lengths of leases are named",
                        test_no_more_than_a_few_lengths_of_leases_are_named);
        g_test_add_func("/check/a VM from before there were leases is told",
                        test_a_vm_from_before_there_were_leases_is_told);
        g_test_add_func("/check/a registry that cannot be written is an error",
                        test_a_registry_that_cannot_be_written_is_an_error);
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
        g_test_add_func("/check/a host that can give no GPU is told once",
                        test_a_host_that_can_give_no_gpu_is_told_once);
        g_test_add_func("/check/a replaced card is told with what is there now",
                        test_a_replaced_card_is_told_with_what_is_there_now);
        g_test_add_func("/check/all that differs in a pool is said",
                        test_all_that_differs_in_a_pool_is_said);
        g_test_add_func("/check/a VM that fits nowhere else is told with each node's reason",
                        test_a_vm_that_fits_nowhere_else_is_told_with_each_nodes_reason);
        g_test_add_func("/check/a GPU that hangs is told once, with what helps",
                        test_a_gpu_that_hangs_is_told_once_with_what_helps);
        g_test_add_func("/check/a GPU of no pool is not called one of pool none",
                        test_a_gpu_of_no_pool_is_not_called_one_of_pool_none);
        g_test_add_func("/check/a pair is not told to add GPUs for want of votes",
                        test_a_pair_is_not_told_to_add_gpus_for_want_of_votes);
        g_test_add_func("/check/a VM whose pool is on one node is told",
                        test_a_vm_whose_pool_is_on_one_node_is_told);
        g_test_add_func("/check/a VM may have the reserve when its node is lost",
                        test_a_vm_may_have_the_reserve_when_its_node_is_lost);
        g_test_add_func("/check/a VM that is never restarted needs no other place",
                        test_a_vm_that_is_never_restarted_needs_no_other_place);
        g_test_add_func("/check/asking where VMs could go changes nothing",
                        test_asking_where_vms_could_go_changes_nothing);
        g_test_add_func("/check/of one node more is told, and nothing of others",
                        test_of_one_node_more_is_told_and_nothing_of_others);
        return g_test_run();
}
