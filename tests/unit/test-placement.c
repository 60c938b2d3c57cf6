/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/placement.h"
#include "core/vm-reason.h"
#include "placement-words.h"
#include "world-builder.h"

static Placement place(WorldBuilder *w, const char *vm, int verdict) {
        Placement placement = {};
        int r = placement_find(world_now(w), vm_named(w, vm), &placement);
        if (r != verdict)
                g_test_message("%s", placement.summary);
        g_assert_cmpint(r, ==, verdict);
        g_assert_cmpuint(placement.n_answers, ==, w->registry->nodes.n);
        g_assert_true(text_is_printable(placement.summary));
        return placement;
}

static void assert_summary(WorldBuilder *w, const char *vm, const char *expected) {
        Placement placement = {};
        g_assert_cmpint(placement_find(world_now(w), vm_named(w, vm), &placement), >=, 0);
        g_assert_cmpstr(placement.summary, ==, expected);
        placement_clear(&placement);
}

/* ---- hard rules */

static void test_a_vm_gets_a_free_gpu_of_its_pool(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a:1");
        vm_of(w, "bert", "training", 1);
        ASSERT_PLACE(w, "bert", "a: 42");
}

static void test_all_gpus_of_a_vm_are_on_one_node(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 1);
        with_gpus(w, "b", 1);
        with_gpus(w, "c", 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "c: 41 42");
        vm_named(w, "bert")->count = 3;
        ASSERT_PLACE(w, "bert", "nodes-too-small");
}

static void test_the_assignment_names_identity_and_group(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        Placement placement = place(w, "bert", PLACEMENT_FOUND);
        g_assert_cmpuint(placement.n_gpus, ==, 1);
        g_assert_true(gpu_identity_equal(&placement.gpus[0].gpu, &gpu_of(w, "a", 0)->identity));
        g_assert_cmpint(placement.gpus[0].iommu_group, ==, 10);
        g_assert_cmpstr(placement.code, ==, "");
        placement_clear(&placement);
}

static void test_a_serial_read_later_does_not_change_who_is_meant(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        g_strlcpy(gpu_of(w, "a", 0)->identity.serial, "1320422", GPU_SERIAL_SIZE);
        Placement placement = place(w, "bert", PLACEMENT_FOUND);
        g_assert_true(pool_has(pool_named(w, "training"), &placement.gpus[0].gpu));
        placement_clear(&placement);
}

static void test_a_gpu_in_use_is_not_given_again(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "render", "training", 1);
        runs(w, "bert", "a", "0");
        ASSERT_PLACE(w, "render", "a: 42");
}

static void test_a_gpu_whose_group_is_in_use_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 3);
        gpu_of(w, "a", 1)->iommu_group = gpu_of(w, "a", 0)->iommu_group;
        pool_of(w, "training", "a:0 a:2");
        pool_of(w, "render", "a:1");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "movie", "render", 1);
        runs(w, "bert", "a", "0");
        ASSERT_PLACE(w, "movie", "gpus-taken");
        ASSERT_REASONS(w, "movie", "a", "gpus-taken: 1 usable, 1 of them runs bert (priority 0, same as movie)");
}

static void test_a_vm_is_placed_as_if_it_had_no_place(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        ASSERT_PLACE(w, "bert", "a: 41");
}

static void test_an_absent_blocked_or_quarantined_gpu_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        gpu_of(w, "a", 1)->boot_vga = true;
        quarantined(w, "a", 2);
        unplugged(w, "a", 3);
        ASSERT_PLACE(w, "bert", "pool-too-small");
        ASSERT_REASONS(w, "bert", "a", "not-enough-gpus: 1 usable GPU of training in all; not usable: 0000:42:00.0 "
                                       "(boot-display), 0000:43:00.0 (in quarantine), 0000:44:00.0 (absent)");
}

static void test_a_node_that_is_not_ready_is_not_chosen(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(5);
        for (const char *node = "abcde"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 1);
        pool_of(w, "training", "a b c d e");
        vm_of(w, "bert", "training", 1);
        forget_facts(w, "a");
        facts_of(w, "b")->hypervisor = HYPERVISOR_HUNG;
        facts_of(w, "c")->guard_connected = false;
        w->registry->level = 2;
        for (const char *node = "abce"; *node; node++)
                node_named(w, (char[]) { *node, 0 })->level = 2;
        ASSERT_PLACE(w, "bert", "e: 41");
        ASSERT_REASONS(w, "bert", "a", "node-silent: nothing is heard from it");
        ASSERT_REASONS(w, "bert", "b", "no-hypervisor: libvirt does not answer");
        ASSERT_REASONS(w, "bert", "c", "no-guard: the guard does not answer, and without it no VM is started");
        ASSERT_REASONS(w, "bert", "d", "level: its gpupool supports level 1 and the cluster is at level 2");
}

static void test_a_lost_node_takes_no_vm_and_says_how_it_comes_back(void) {
        static const struct {
                LossEvidence evidence;
                const char *reasons;
        } cases[] = {
                { LOSS_BY_LEASE, "node-lost: it was lost: its lease ran out" },
                { LOSS_BY_POWER_OFF, "node-lost: it was lost: a fence agent switched it off" },
                { LOSS_BY_WORD, "node-lost: it was lost: an administrator confirmed that it is off" },
        };
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        node_named(w, "a")->lost = true;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                node_named(w, "a")->evidence = cases[i].evidence;
                ASSERT_REASONS(w, "bert", "a", cases[i].reasons);
        }
        ASSERT_PLACE(w, "bert", "node-lost");
        assert_summary(w, "bert", "vm bert waits: on a it was lost: an administrator confirmed that it is off. Start a "
                                  "again, or see there: systemctl status gpupoold");
}

static void test_a_node_that_has_announced_no_leases_takes_no_vm(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 1);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        ASSERT_PLACE(w, "bert", "a: 41");               /* below that level nobody has */
        w->registry->level = LEVEL_FAILOVER;
        for (const char *node = "ab"; *node; node++)
                node_named(w, (char[]) { *node, 0 })->level = LEVEL_FAILOVER;
        node_named(w, "b")->lease_ms = 3000;
        ASSERT_PLACE(w, "bert", "b: 41");
        ASSERT_REASONS(w, "bert", "a", "joining: it is joining: it has not announced its leases yet");
        node_named(w, "b")->lease_ms = 0;
        ASSERT_PLACE(w, "bert", "joining");
        assert_summary(w, "bert", "vm bert waits: on a it is joining: it has not announced its leases yet. Wait a "
                                  "moment; if it stays so, see on a: systemctl status gpupoold");
}

static void test_a_drained_node_takes_no_vm_and_says_whose_wish_it_is(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 1);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "huge", "training", 2);
        node_named(w, "a")->drain = DRAIN_BY_HAND;
        ASSERT_PLACE(w, "bert", "b: 41");
        ASSERT_REASONS(w, "bert", "a", "draining: it is drained");
        Event event = { .sequence = 1, .kind = strdup("node-draining"), .object_kind = OBJECT_KIND_NODE,
                        .object = g_malloc(ID_TEXT_SIZE), .user = strdup("anna"), .action = strdup(""),
                        .message = strdup("") };
        id_to_text(node_named(w, "a")->id.bytes, event.object);
        g_assert_cmpint(array_append(&w->registry->events, &event), ==, 0);
        ASSERT_REASONS(w, "bert", "a", "draining: it is drained, by anna");
        assert_summary(w, "huge", "vm huge waits: on a it is drained, by anna. Resume it (gpupoolctl node resume a)");
        node_named(w, "a")->drain = DRAIN_FLAPPING;
        ASSERT_REASONS(w, "bert", "a", "draining: it was lost 3 times within an hour and takes no VM until it is "
                                       "resumed");
        node_named(w, "a")->drain = DRAIN_NONE;
        ASSERT_PLACE(w, "huge", "a: 41 42");
}

/* What if a node were lost leaves one that is lost as it is. */
static void test_a_lost_node_stays_lost_whatever_is_imagined(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        node_named(w, "a")->lost = true;
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        g_assert_false(inventory_node_takes_vms(inventory, 0));
        inventory_lose_node(inventory, 0);
        inventory_find_node_again(inventory, 0);
        g_assert_false(inventory_node_takes_vms(inventory, 0));
        inventory_lose_node(inventory, 1);
        g_assert_false(inventory_node_takes_vms(inventory, 1));
        inventory_find_node_again(inventory, 1);
        g_assert_true(inventory_node_takes_vms(inventory, 1));
}

static void test_every_reason_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        facts_of(w, "a")->hypervisor = HYPERVISOR_ABSENT;
        facts_of(w, "a")->guard_connected = false;
        ASSERT_REASONS(w, "bert", "a",
                       "no-hypervisor: libvirt does not run | no-guard: the guard does not answer, and "
                       "without it no VM is started | not-enough-gpus: 1 usable GPU of training in all");
        ASSERT_REASONS(w, "bert", "b", "no-gpus: no GPU of training");
}

static void test_with_binds_to_the_node_of_the_other(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "tokens", "training", 1);
        must_be(w, "tokens", "with", "bert");
        runs(w, "bert", "b", "0");
        ASSERT_PLACE(w, "tokens", "b: 42");
        ASSERT_REASONS(w, "tokens", "a", "affinity-with: bert, which it must be with, runs on b");
}

static void test_apart_binds_whoever_declares_it(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "spare", "training", 1);
        must_be(w, "bert", "apart", "spare");
        runs(w, "bert", "a", "0");
        ASSERT_PLACE(w, "spare", "b: 41");
        ASSERT_REASONS(w, "spare", "a", "affinity-apart: bert, which it must stay apart from, runs here");
}

static void test_an_affinity_to_a_vm_without_a_place_does_not_bind(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "spare", "training", 1);
        must_be(w, "bert", "with", "spare");
        must_be(w, "bert", "with", "nobody");
        ASSERT_PLACE(w, "bert", "a: 41");
}

static void test_the_reserve_is_for_failover(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 3);
        pool_of(w, "training", "a")->reserve = 2;
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "reserve");
        ASSERT_REASONS(w, "bert", "a", "reserve: training keeps 2 free for failover and has 3 free");
        vm_named(w, "bert")->count = 1;
        ASSERT_PLACE(w, "bert", "a: 41");

        vm_named(w, "bert")->count = 2;
        g_assert_cmpint(vm_ended(vm_named(w, "bert"), END_NODE_LOST, NULL, 0), ==, 0);
        ASSERT_PLACE(w, "bert", "a: 41 42");
}

static void test_not_more_are_in_use_than_may_be(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 3);
        with_gpus(w, "b", 3);
        pool_of(w, "training", "a b")->max_in_use = 3;
        vm_of(w, "bert", "training", 2);
        vm_of(w, "render", "training", 2);
        runs(w, "bert", "a", "0 1");
        ASSERT_PLACE(w, "render", "max-in-use");
        ASSERT_REASONS(w, "render", "b", "max-in-use: training has 2 in use and may have 3");
        vm_named(w, "render")->count = 1;
        ASSERT_PLACE(w, "render", "a: 43");
}

static void test_linked_gpus_go_whole(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "one", "training", 1);
        ASSERT_PLACE(w, "bert", "a: 41 42");
        ASSERT_PLACE(w, "one", "linked-sets");
        ASSERT_REASONS(w, "one", "a", "linked-sets: the GPUs of training are linked in sets that go to one VM whole: "
                                      "no set has 1 GPU");
        Placement placement = place(w, "one", PLACEMENT_NO_ROOM);
        g_assert_cmpstr(placement.summary, ==,
                        "vm one waits: on a the GPUs of training are linked in sets that go to one VM whole: no set "
                        "has 1 GPU. Ask for 2 (gpupoolctl vm requirement one --gpus 2); or, if they may part, say so "
                        "in the pool's rules (gpupoolctl pool rules training --match 10de:2331@a=alone)");
        placement_clear(&placement);
}

/* What replaces the rules has to hold all of them. */
static void test_that_sets_may_part_is_shown_as_the_pools_own_rules(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        PoolRules *rules = &pool_of(w, "training", "a")->rules;
        g_assert_cmpint(pool_rules_add(rules, "10de", "23*", "gpu-*", NULL), ==, 0);
        g_assert_cmpint(pool_rules_add(rules, NULL, NULL, "x", "board"), ==, 0);
        vm_of(w, "three", "training", 3);
        Placement placement = place(w, "three", PLACEMENT_NO_ROOM);
        g_assert_cmpstr(placement.summary, ==,
                        "vm three waits: on a the GPUs of training are linked in sets that go to one VM whole: no sets "
                        "have exactly 3 GPUs together. Ask for 2 or 4 (gpupoolctl vm requirement three --gpus 2); or, "
                        "if they may part, say so in the pool's rules (gpupoolctl pool rules training --match "
                        "'10de:23*@gpu-*=alone' --match '*:*@x=alone')");
        placement_clear(&placement);
}

/* Nor does it help to stop who has them. */
static void test_what_sets_cannot_give_is_not_a_matter_of_who_runs(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 4);
        vm_of(w, "three", "training", 3);
        vm_of(w, "two", "training", 2);
        runs(w, "bert", "a", "0 1 2 3");
        ASSERT_PLACE(w, "three", "linked-sets");
        ASSERT_PLACE(w, "two", "gpus-taken");
}

static TextList told(const WorldBuilder *w, const char *node, size_t first, size_t n) {
        TextList slots = {};
        for (size_t i = first; i < first + n; i++)
                g_assert_cmpint(text_list_add(&slots, gpu_of((WorldBuilder *) w, node, i)->identity.slot), ==, 0);
        return slots;
}

/* The registry knows that they are linked, whatever their driver tells now. */
static void were_linked(WorldBuilder *w, const char *node, size_t first, size_t n) {
        _cleanup_(text_list_clear) TextList slots = told(w, node, first, n);
        g_assert_cmpint(fabric_join(&node_named(w, node)->fabric, &slots), ==, 0);
}

static void test_a_set_that_was_told_once_goes_whole_without_its_driver(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        were_linked(w, "a", 1, 2);
        pool_of(w, "training", "a");
        vm_of(w, "one", "training", 1);
        vm_of(w, "bert", "training", 2);
        vm_of(w, "three", "training", 3);
        ASSERT_PLACE(w, "one", "a: 41");
        ASSERT_PLACE(w, "bert", "a: 42 43");
        ASSERT_PLACE(w, "three", "a: 41 42 43");
        runs(w, "one", "a", "0");
        ASSERT_PLACE(w, "three", "a: 42 43 44");
}

static void test_a_set_of_which_one_is_gone_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 3);
        were_linked(w, "a", 0, 2);
        pool_of(w, "training", "a");
        unplugged(w, "a", 1);
        vm_of(w, "one", "training", 1);
        ASSERT_PLACE(w, "one", "a: 43");
        vm_of(w, "bert", "training", 2);
        ASSERT_REASONS(w, "bert", "a", "not-enough-gpus: 1 usable GPU of training in all; not usable: 0000:41:00.0 "
                                       "(fabric), 0000:42:00.0 (absent)");
}

static void test_a_set_of_which_one_is_in_quarantine_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 3);
        were_linked(w, "a", 0, 2);
        pool_of(w, "training", "a");
        quarantined(w, "a", 1);
        vm_of(w, "bert", "training", 2);
        ASSERT_REASONS(w, "bert", "a", "not-enough-gpus: 1 usable GPU of training in all; not usable: 0000:41:00.0 "
                                       "(linked with one that cannot serve), 0000:42:00.0 (in quarantine)");
}

static void test_a_rule_decides_over_what_is_told(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        were_linked(w, "a", 0, 2);
        linked(w, "a", 2, 2);
        Pool *pool = pool_of(w, "training", "a");
        vm_of(w, "one", "training", 1);
        vm_of(w, "four", "training", 4);
        g_assert_cmpint(pool_rules_add(&pool->rules, "10de", "", "", "alone"), ==, 0);
        ASSERT_PLACE(w, "one", "a: 41");
        g_assert_cmpint(text_set(&pool->rules.items[0].set, "board"), ==, 0);
        ASSERT_PLACE(w, "one", "linked-sets");
        ASSERT_PLACE(w, "four", "a: 41 42 43 44");
}

static void test_another_card_in_the_slot_takes_the_place_of_the_one_that_is_gone(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        were_linked(w, "a", 0, 2);
        Pool *pool = pool_of(w, "training", "a");
        strcpy(gpu_of(w, "a", 0)->identity.serial, "another");
        gpu_of(w, "a", 0)->identity.device = 0x2330;
        g_assert_cmpint(pool_add(pool, &gpu_of(w, "a", 0)->identity), ==, 0);
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "a: 41 42");
}

static void test_a_set_that_is_not_whole_in_the_pool_is_not_given(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 3);
        linked(w, "a", 0, 2);
        pool_of(w, "training", "a:0 a:2");
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "pool-too-small");
        ASSERT_REASONS(w, "bert", "a",
                       "not-enough-gpus: 1 usable GPU of training in all; not usable: 0000:41:00.0 (linked "
                       "with one that cannot serve)");
}

static void test_linked_sets_leave_the_single_ones(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        linked(w, "a", 2, 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "three", "training", 3);
        ASSERT_PLACE(w, "bert", "a: 43 44");
        ASSERT_PLACE(w, "three", "a: 41 43 44");
}

static void test_a_pool_that_is_not_there(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        vm_of(w, "bert", "training", 1);
        Placement placement = place(w, "bert", PLACEMENT_NO_SUCH_POOL);
        g_assert_cmpstr(placement.code, ==, "no-such-pool");
        placement_clear(&placement);
}

static void test_the_most_gpus_that_a_vm_may_have(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", GPUS_PER_VM_MAX);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", GPUS_PER_VM_MAX);
        Placement placement = place(w, "bert", PLACEMENT_FOUND);
        g_assert_cmpuint(placement.n_gpus, ==, GPUS_PER_VM_MAX);
        placement_clear(&placement);
        linked(w, "a", 0, GPUS_PER_VM_MAX);
        placement = place(w, "bert", PLACEMENT_FOUND);
        g_assert_cmpuint(placement.n_gpus, ==, GPUS_PER_VM_MAX);
        placement_clear(&placement);
}

/* ---- soft rules */

static void test_preferred_nodes_come_first_in_their_order(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        for (const char *node = "abc"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "render", "training", 2);
        prefers(w, "bert", "c");
        prefers(w, "bert", "b");
        ASSERT_PLACE(w, "bert", "c: 41 42");
        ASSERT_REASONS(w, "bert", "c", "chosen: 2 GPUs of training on one NUMA node; before b: preferred");
        ASSERT_REASONS(w, "bert", "a", "fits: fits too; c is taken first: preferred");
        runs(w, "render", "c", "0 1");
        ASSERT_PLACE(w, "bert", "b: 41 42");
}

static void test_who_is_moved_goes_where_it_is_sent_if_there_is_room(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        for (const char *node = "abc"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "render", "training", 2);
        prefers(w, "bert", "c");
        vm_named(w, "bert")->target = node_named(w, "b")->id;
        ASSERT_PLACE(w, "bert", "b: 41 42");
        ASSERT_REASONS(w, "bert", "b", "chosen: 2 GPUs of training on one NUMA node; before c: it is moved there");
        runs(w, "render", "b", "0 1");
        ASSERT_PLACE(w, "bert", "c: 41 42");
}

static void test_pack_fills_a_node_before_the_next(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        for (const char *node = "abc"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 4);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "render", "training", 1);
        runs(w, "bert", "b", "0 1");
        ASSERT_PLACE(w, "render", "b: 43");
        ASSERT_REASONS(w, "render", "a", "fits: fits too; b is taken first: the fullest with room (pack)");
}

static void test_spread_takes_the_least_used_node(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        for (const char *node = "abc"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 4);
        pool_of(w, "training", "a b c")->placement = POOL_SPREAD;
        vm_of(w, "bert", "training", 2);
        vm_of(w, "infer", "training", 1);
        vm_of(w, "render", "training", 1);
        runs(w, "bert", "a", "0 1");
        runs(w, "infer", "b", "0");
        ASSERT_PLACE(w, "render", "c: 41");
}

static void test_gpus_behind_one_switch_come_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 6);
        behind_switch(w, "a", 1, 2, "0000:20:00.0");
        behind_switch(w, "a", 3, 3, "0000:30:00.0");
        pool_of(w, "training", "a");
        vm_of(w, "two", "training", 2);
        vm_of(w, "three", "training", 3);
        vm_of(w, "four", "training", 4);
        vm_of(w, "one", "training", 1);
        ASSERT_PLACE(w, "two", "a: 42 43");
        ASSERT_PLACE(w, "three", "a: 44 45 46");
        ASSERT_PLACE(w, "four", "a: 41 44 45 46");
        ASSERT_PLACE(w, "one", "a: 41");
}

static void test_a_switch_comes_before_a_numa_node(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        on_numa_node(w, "a", 2, 2, 1);
        behind_switch(w, "a", 2, 2, "0000:20:00.0");
        pool_of(w, "training", "a");
        vm_of(w, "two", "training", 2);
        ASSERT_PLACE(w, "two", "a: 43 44");
}

static void test_then_gpus_of_one_numa_node(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 6);
        on_numa_node(w, "a", 3, 3, 1);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 1);
        vm_of(w, "three", "training", 3);
        runs(w, "bert", "a", "0");
        ASSERT_PLACE(w, "three", "a: 44 45 46");
        ASSERT_REASONS(w, "three", "a", "chosen: 3 GPUs of training on one NUMA node; no other node fits now");
        vm_named(w, "three")->count = 4;
        ASSERT_REASONS(w, "three", "a", "chosen: 4 GPUs of training on 2 NUMA nodes; no other node fits now");
}

static void test_among_equally_full_nodes_the_one_with_closer_gpus(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 2);
        behind_switch(w, "b", 0, 2, "0000:40:00.0");
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "b: 41 42");
        ASSERT_REASONS(w, "bert", "b",
                       "chosen: 2 GPUs of training close together, same switch; before a: its GPUs are closer "
                       "together");
}

static void test_large_holes_are_left_whole(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(2);
        with_gpus(w, "a", 4);
        with_gpus(w, "b", 4);
        behind_switch(w, "a", 0, 4, "0000:40:00.0");
        behind_switch(w, "b", 0, 2, "0000:40:00.0");
        behind_switch(w, "b", 2, 2, "0000:50:00.0");
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2);
        ASSERT_PLACE(w, "bert", "b: 41 42");
        ASSERT_REASONS(w, "bert", "a", "fits: fits too; b is taken first: it leaves larger holes whole");
}

static void test_it_stays_where_it_ran(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        for (const char *node = "abc"; *node; node++)
                with_gpus(w, (char[]) { *node, 0 }, 2);
        pool_of(w, "training", "a b c");
        vm_of(w, "bert", "training", 1);
        ASSERT_PLACE(w, "bert", "a: 41");
        ran_on(w, "bert", "b");
        ASSERT_PLACE(w, "bert", "b: 41");
}

/* ---- words */

static void test_the_story_is_told_as_it_was_promised(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 2);
        with_gpus(w, "b", 4);
        pool_of(w, "training", "a b");
        vm_of(w, "bert", "training", 2)->priority = 50;
        vm_of(w, "huge", "training", 4)->priority = 50;
        runs(w, "bert", "b", "0 1");
        ASSERT_REASONS(w, "huge", "a", "not-enough-gpus: 2 usable GPUs of training in all");
        ASSERT_REASONS(w, "huge", "b", "gpus-taken: 4 usable, 2 of them run bert (priority 50, same as huge)");
        ASSERT_REASONS(w, "huge", "c", "no-gpus: no GPU of training");
        assert_summary(w, "huge", "vm huge waits: it needs 4 of training; b has 4 usable, 2 of them run bert "
                                  "(priority 50, same as huge). Stop bert, of the same priority (gpupoolctl vm stop "
                                  "bert)");
}

static void test_only_those_who_must_are_to_be_stopped_the_least_important_first(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 4);
        pool_of(w, "training", "a");
        vm_of(w, "one", "training", 1)->priority = 90;
        vm_of(w, "two", "training", 2)->priority = 10;
        vm_of(w, "other", "training", 1)->priority = 50;
        vm_of(w, "bert", "training", 2)->priority = 50;
        runs(w, "one", "a", "0");
        runs(w, "two", "a", "1 2");
        runs(w, "other", "a", "3");
        assert_summary(w, "bert",
                       "vm bert waits: it needs 2 of training; a has 4 usable, 2 of them run two "
                       "(priority 10, below bert), 1 runs other (priority 50, same as bert), 1 runs one (priority "
                       "90, above bert). Stop two (gpupoolctl vm stop two)");
}

static void test_a_small_pool_is_named(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a:0");
        pool_of(w, "empty", "");
        vm_of(w, "bert", "training", 2);
        vm_of(w, "none", "empty", 1);
        assert_summary(w, "bert",
                       "vm bert waits: pool training has 1 usable GPU and bert needs 2. Add one (gpupoolctl pool add "
                       "training GPU)");
        assert_summary(w, "none", "vm none waits: pool empty has no GPUs. Add some (gpupoolctl pool add empty GPU)");
        facts_of(w, "a")->guard_connected = false;
        vm_named(w, "bert")->count = 1;
        assert_summary(w, "bert",
                       "vm bert waits: on a the guard does not answer, and without it no VM is started. See on a: "
                       "systemctl status gpupool-guard");
}

static void test_a_pool_that_lacks_a_gpu_says_which_and_why(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 2);
        pool_of(w, "training", "a");
        vm_of(w, "bert", "training", 2);
        GpuHolder holder = { .pid = 637 };
        g_assert_cmpint(text_set(&holder.name, "sleep"), ==, 0);
        g_assert_cmpint(gpu_facts_add_holder(gpu_of(w, "a", 1), holder), ==, 0);
        assert_summary(w, "bert",
                       "vm bert waits: pool training has 1 usable GPU and bert needs 2. a:0000:42:00.0 is not: in-use, "
                       "processes of the host hold it: sleep (pid 637). See what helps (gpupoolctl gpu "
                       "a:0000:42:00.0), or add one (gpupoolctl pool add training GPU)");
        quarantined(w, "a", 0);
        Quarantine *quarantine = w->registry->quarantines.items;
        g_assert_cmpint(text_set(&quarantine->sentence, "taking it from the host's driver hangs in the kernel"), ==, 0);
        assert_summary(w, "bert",
                       "vm bert waits: pool training has 0 usable GPUs and bert needs 2. a:0000:41:00.0 is not, nor is "
                       "1 more: in quarantine, taking it from the host's driver hangs in the kernel. See what helps "
                       "(gpupoolctl gpu a:0000:41:00.0), or add some (gpupoolctl pool add training GPU)");
}

static char *reason_code_of(WorldBuilder *w, const char *vm) {
        char *code = NULL;
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(vm_reason(world_now(w), vm_named(w, vm), &code, &sentence), ==, 0);
        g_assert_true((*code == 0) == (*sentence == 0));
        return code;
}

#define ASSERT_REASON_CODE(w, vm, expected)                             \
        do {                                                            \
                _cleanup_free_ char *_code = reason_code_of((w), (vm)); \
                g_assert_cmpstr(_code, ==, (expected));                 \
        } while (0)

static void test_the_reason_of_a_vm_follows_its_state(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        Vm *vm = vm_of(w, "bert", "training", 2);
        ASSERT_REASON_CODE(w, "bert", "pool-too-small");
        vm->count = 1;
        ASSERT_REASON_CODE(w, "bert", "");
        runs(w, "bert", "a", "0");
        ASSERT_REASON_CODE(w, "bert", "");

        g_assert_cmpint(vm_ended(vm, END_CRASHED, "qemu died of signal 11", 0), ==, 0);
        assignment_clear(&vm->assignment);
        ASSERT_REASON_CODE(w, "bert", "crashed");
        for (uint32_t i = 1; i < VM_ATTEMPTS_MAX; i++)
                g_assert_cmpint(vm_ended(vm, END_START_FAILED, NULL, 0), ==, 0);
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_FAILED);
        ASSERT_REASON_CODE(w, "bert", "start-failed");

        vm->failed = false;
        g_assert_cmpint(vm_ended(vm, END_GUEST_SHUTDOWN, NULL, 0), ==, 0);
        ASSERT_REASON_CODE(w, "bert", "guest-shutdown");
        g_assert_cmpint(vm_ended(vm, END_REQUESTED, NULL, 0), ==, 0);
        ASSERT_REASON_CODE(w, "bert", "");
}

static void assert_reason(WorldBuilder *w, const char *vm, const char *expected) {
        _cleanup_free_ char *code = NULL, *sentence = NULL;
        g_assert_cmpint(vm_reason(world_now(w), vm_named(w, vm), &code, &sentence), ==, 0);
        g_assert_cmpstr(sentence, ==, expected);
}

static void test_a_vm_that_cannot_go_on_says_why(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        Vm *vm = vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        vm->assignment.phase = ASSIGNMENT_STARTING;
        ASSERT_REASON_CODE(w, "bert", "");
        facts_of(w, "a")->hypervisor = HYPERVISOR_HUNG;
        ASSERT_REASON_CODE(w, "bert", "no-hypervisor");
        assert_reason(w, "bert",
                      "vm bert starts as soon as it can: on a libvirt does not answer. See on a: systemctl status "
                      "libvirtd");
        vm->assignment.phase = ASSIGNMENT_STOPPING;
        facts_of(w, "a")->hypervisor = HYPERVISOR_CONNECTED;
        facts_of(w, "a")->guard_connected = false;
        ASSERT_REASON_CODE(w, "bert", "no-guard");
        vm->assignment.phase = ASSIGNMENT_RUNNING;
        ASSERT_REASON_CODE(w, "bert", "");
}

static void test_a_vm_that_moves_or_whose_node_is_silent_says_so(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);
        with_gpus(w, "a", 1);
        pool_of(w, "training", "a");
        Vm *vm = vm_of(w, "bert", "training", 1);
        runs(w, "bert", "a", "0");
        vm->assignment.phase = ASSIGNMENT_STOPPING;
        ASSERT_REASON_CODE(w, "bert", "");
        vm->home = node_named(w, "a")->id;
        assert_reason(w, "bert", "vm bert moves to another node and stops on a first");
        vm->target = node_named(w, "b")->id;
        assert_reason(w, "bert", "vm bert moves to b and stops on a first");
        vm->home = vm->target = (NodeId) {};
        g_assert_cmpint(text_set(&vm->reason_code, REASON_PREEMPTED), ==, 0);
        g_assert_cmpint(text_set(&vm->reason, "preempted for vm ernie, which has a higher priority"), ==, 0);
        ASSERT_REASON_CODE(w, "bert", "preempted");
        assert_reason(w, "bert", "vm bert stops: preempted for vm ernie, which has a higher priority. It runs again as "
                      "soon as there is room");
        vm->run = false;
        ASSERT_REASON_CODE(w, "bert", "");

        NodeLife lives[] = { { .node = node_named(w, "a")->id, .silent = true } };
        w->world.lives = lives;
        w->world.n_lives = 1;
        vm->run = true;
        vm->assignment.phase = ASSIGNMENT_RUNNING;
        vm->assignment.leased = true;
        assert_reason(w, "bert", "node a is not heard of: vm bert starts elsewhere as soon as it is known to be dead "
                                 "there");
        vm->assignment.leased = false;
        ASSERT_REASON_CODE(w, "bert", "node-silent");
}

/* ---- whatever the world: rules that no placement may break */

#define RANDOM_WORLDS 300
#define RANDOM_NODES 6
#define RANDOM_VMS 20

static WorldBuilder *random_world(GRand *random) {
        WorldBuilder *w = world_of(RANDOM_NODES);
        for (size_t n = 0; n < RANDOM_NODES; n++) {
                char node[] = { (char) ('a' + n), 0 };
                size_t n_gpus = (size_t) g_rand_int_range(random, 0, 9);
                with_gpus(w, node, n_gpus);
                for (size_t i = 0; i < n_gpus; i++) {
                        gpu_of(w, node, i)->numa_node = i >= n_gpus / 2;
                        if (g_rand_int_range(random, 0, 10) == 0)
                                gpu_of(w, node, i)->boot_vga = true;
                        else if (g_rand_int_range(random, 0, 20) == 0)
                                quarantined(w, node, i);
                        if (i > 0 && g_rand_int_range(random, 0, 10) == 0)
                                gpu_of(w, node, i)->iommu_group = gpu_of(w, node, i - 1)->iommu_group;
                }
                if (n_gpus >= 4 && g_rand_boolean(random))
                        behind_switch(w, node, 0, 4, "0000:40:00.0");
                if (n_gpus >= 2 && g_rand_int_range(random, 0, 4) == 0)
                        linked(w, node, n_gpus - 2, 2);
                if (n_gpus >= 4 && g_rand_int_range(random, 0, 3) == 0)
                        were_linked(w, node, (size_t) g_rand_int_range(random, 0, 2), 2);
        }
        Pool *pool = pool_of(w, "training", "a b c d e f");
        static const char *const sets[] = { "", "", "alone", "board", "pci0000:00/02.0/00.0+pci0000:00/03.0/00.0" };
        g_assert_cmpint(pool_rules_add(&pool->rules, "10de", "", "[abc]",
                                       sets[g_rand_int_range(random, 0, (gint32) ELEMENTS(sets))]), ==, 0);
        g_assert_cmpint(text_set(&pool->rules.items[0].node, g_rand_boolean(random) ? "*" : "a"), ==, 0);
        pool->placement = g_rand_boolean(random) ? POOL_PACK : POOL_SPREAD;
        pool->reserve = (uint32_t) g_rand_int_range(random, 0, 4);
        pool->max_in_use = (uint32_t) (g_rand_boolean(random) ? 0 : g_rand_int_range(random, 1, 30));
        for (size_t i = 0; i < RANDOM_VMS; i++) {
                _cleanup_free_ char *name = NULL;
                g_assert_cmpint(text_printf(&name, "vm%zu", i), ==, 0);
                Vm *vm = vm_of(w, name, "training", 1U << g_rand_int_range(random, 0, 4));
                vm->priority = g_rand_int_range(random, 0, 3);
                if (i > 0 && g_rand_int_range(random, 0, 4) == 0)
                        must_be(w, name, g_rand_boolean(random) ? "apart" : "with", "vm0");
        }
        return w;
}

static void assign(Vm *vm, const Placement *placement) {
        vm->assignment = (Assignment) {
                .phase = ASSIGNMENT_RUNNING,
                .node = placement->node,
                .gpus = g_memdup2(placement->gpus, placement->n_gpus * sizeof(*placement->gpus)),
                .n_gpus = placement->n_gpus,
        };
}

static uint32_t count_usable(const GpuViews *views, bool free_only) {
        uint32_t n = 0;
        for (size_t i = 0; i < views->n; i++)
                if (views->items[i].pool &&
                    (free_only ? gpu_view_is_free(views->items + i) : views->items[i].vm != NULL))
                        n++;
        return n;
}

static bool was_given(const Placement *found, const char *slot) {
        for (size_t i = 0; i < found->n_gpus; i++)
                if (text_equal(found->gpus[i].gpu.slot, slot))
                        return true;
        return false;
}

/* As the registry looks at it: what placement proposes it must take. */
static void check_no_set_is_split(WorldBuilder *w, const Placement *found) {
        const Pool *pool = pool_named(w, "training");
        ARRAY_EACH(gpu, &pool->gpus) {
                const NodeRecord *node = registry_find_node(w->registry, &gpu->node);
                _cleanup_(text_list_clear) TextList slots = {};
                size_t n = 0;
                if (!ID_EQUAL(&gpu->node, &found->node))
                        continue;
                g_assert_cmpint(fabric_list_set(&node->fabric, pool, gpu, node->name, &slots, NULL), ==, 0);
                for (size_t i = 0; i < slots.n; i++)
                        n += was_given(found, slots.items[i]);
                g_assert_true(n == 0 || n == slots.n);
        }
}

/* What holds before the VM is assigned to what was found for it. */
static void check_found(WorldBuilder *w, const Vm *vm, const Placement *found) {
        const Pool *pool = pool_named(w, "training");
        _cleanup_(gpu_views_clear) GpuViews views = {};
        g_assert_cmpint(world_list_gpus(world_now(w), &views), ==, 0);
        g_assert_cmpuint(found->n_gpus, ==, vm->count);
        for (size_t i = 0; i < found->n_gpus; i++) {
                GpuView view;
                world_view_gpu(world_now(w), &found->gpus[i].gpu, &view);
                g_assert_true(gpu_view_is_free(&view));         /* never two VMs on a GPU, nor on its group */
                g_assert_true(view.pool == pool);
                g_assert_true(ID_EQUAL(&view.identity.node, &found->node));
                for (size_t j = 0; j < i; j++)
                        g_assert_false(gpu_identity_equal(&found->gpus[j].gpu, &found->gpus[i].gpu));
        }
        check_no_set_is_split(w, found);
        if (pool->max_in_use > 0)
                g_assert_cmpuint(count_usable(&views, false) + vm->count, <=, pool->max_in_use);
        g_assert_cmpuint(count_usable(&views, true), >=, pool->reserve + vm->count);
}

static bool same_placement(const Placement *a, const Placement *b) {
        if (!text_equal(a->summary, b->summary) || a->n_gpus != b->n_gpus || !ID_EQUAL(&a->node, &b->node))
                return false;
        for (size_t i = 0; i < a->n_gpus; i++)
                if (!gpu_identity_equal(&a->gpus[i].gpu, &b->gpus[i].gpu))
                        return false;
        return true;
}

/* The order in which a node heard of the others and saw its GPUs must not count: facts are copied in other places. */
static void check_it_does_not_depend_on_memory(WorldBuilder *w, const Vm *vm, const Placement *found, GRand *random) {
        Placement again = {};
        const NodeFacts *copies[RANDOM_NODES];
        NodeFacts *rows = g_new0(NodeFacts, RANDOM_NODES);
        for (size_t i = 0; i < RANDOM_NODES; i++) {
                size_t place = (i + (size_t) g_rand_int(random)) % RANDOM_NODES;
                while (rows[place].gpus || rows[place].incarnation)
                        place = (place + 1) % RANDOM_NODES;
                rows[place] = *w->facts[i];
                copies[i] = rows + place;
        }
        World world = { .registry = w->registry, .nodes = copies, .n_nodes = RANDOM_NODES, .local = w->facts[3]->node };
        g_assert_cmpint(placement_find(&world, vm, &again), >=, 0);
        g_assert_true(same_placement(found, &again));
        placement_clear(&again);
        g_free(rows);
}

static void check_random_world(guint32 seed) {
        GRand *random = g_rand_new_with_seed(seed);
        _cleanup_(world_builder_freep) WorldBuilder *w = random_world(random);
        for (size_t i = 0; i < w->registry->vms.n; i++) {
                Vm *vm = w->registry->vms.items + i;
                Placement found = {};
                int r = placement_find(world_now(w), vm, &found);
                g_assert_cmpint(r, >=, 0);
                g_assert_true(text_is_printable(found.summary));
                check_it_does_not_depend_on_memory(w, vm, &found, random);
                if (r == PLACEMENT_FOUND) {
                        check_found(w, vm, &found);
                        assign(vm, &found);
                } else
                        for (size_t n = 0; n < found.n_answers; n++)
                                g_assert_false(found.answers[n].fits);
                placement_clear(&found);
        }
        g_rand_free(random);
}

/* Replay one: GPUPOOL_TEST_SEED=N test-placement */
static void test_no_random_world_breaks_the_rules(void) {
        const char *given = g_getenv("GPUPOOL_TEST_SEED");
        guint32 first = given ? (guint32) g_ascii_strtoull(given, NULL, 10) : (guint32) g_test_rand_int();
        for (guint32 i = 0; i < (given ? 1 : RANDOM_WORLDS); i++) {
                g_test_message("GPUPOOL_TEST_SEED=%u", first + i);
                check_random_world(first + i);
        }
}

/* Asking with one inventory for all gives the same as asking anew each time, and leaves it as it was. */
static void test_an_inventory_is_as_before_after_a_question(void) {
        GRand *random = g_rand_new_with_seed(7);
        _cleanup_(world_builder_freep) WorldBuilder *w = random_world(random);
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        for (size_t i = 0; i < RANDOM_VMS / 2; i++) {
                Placement found = {};
                if (placement_find(world_now(w), w->registry->vms.items + i, &found) == PLACEMENT_FOUND)
                        assign(w->registry->vms.items + i, &found);
                placement_clear(&found);
        }
        g_assert_cmpint(inventory_new(world_now(w), &inventory), ==, 0);
        for (size_t i = 0; i < RANDOM_VMS; i++) {
                const Vm *vm = w->registry->vms.items + i;
                Placement fresh = {}, shared = {};
                PoolCounts counts = {};
                g_assert_cmpint(placement_find(world_now(w), vm, &fresh), >=, 0);
                g_assert_cmpint(placement_find_in(inventory, vm, &shared), >=, 0);
                g_assert_true(same_placement(&fresh, &shared));
                g_assert_cmpint(pool_count_in(inventory, pool_named(w, "training"), &counts), ==, 0);
                pool_counts_clear(&counts);
                placement_clear(&fresh);
                placement_clear(&shared);
        }
        g_rand_free(random);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/placement/" #name, test_##name)
        TEST(a_vm_gets_a_free_gpu_of_its_pool);
        TEST(all_gpus_of_a_vm_are_on_one_node);
        TEST(the_assignment_names_identity_and_group);
        TEST(a_serial_read_later_does_not_change_who_is_meant);
        TEST(a_gpu_in_use_is_not_given_again);
        TEST(a_gpu_whose_group_is_in_use_is_not_given);
        TEST(a_vm_is_placed_as_if_it_had_no_place);
        TEST(an_absent_blocked_or_quarantined_gpu_is_not_given);
        TEST(a_node_that_is_not_ready_is_not_chosen);
        TEST(a_lost_node_takes_no_vm_and_says_how_it_comes_back);
        TEST(a_node_that_has_announced_no_leases_takes_no_vm);
        TEST(a_drained_node_takes_no_vm_and_says_whose_wish_it_is);
        TEST(a_lost_node_stays_lost_whatever_is_imagined);
        TEST(every_reason_is_told);
        TEST(with_binds_to_the_node_of_the_other);
        TEST(apart_binds_whoever_declares_it);
        TEST(an_affinity_to_a_vm_without_a_place_does_not_bind);
        TEST(the_reserve_is_for_failover);
        TEST(not_more_are_in_use_than_may_be);
        TEST(linked_gpus_go_whole);
        TEST(that_sets_may_part_is_shown_as_the_pools_own_rules);
        TEST(what_sets_cannot_give_is_not_a_matter_of_who_runs);
        TEST(a_set_that_was_told_once_goes_whole_without_its_driver);
        TEST(a_set_of_which_one_is_gone_is_not_given);
        TEST(a_set_of_which_one_is_in_quarantine_is_not_given);
        TEST(a_rule_decides_over_what_is_told);
        TEST(another_card_in_the_slot_takes_the_place_of_the_one_that_is_gone);
        TEST(a_set_that_is_not_whole_in_the_pool_is_not_given);
        TEST(linked_sets_leave_the_single_ones);
        TEST(a_pool_that_is_not_there);
        TEST(the_most_gpus_that_a_vm_may_have);
        TEST(preferred_nodes_come_first_in_their_order);
        TEST(who_is_moved_goes_where_it_is_sent_if_there_is_room);
        TEST(pack_fills_a_node_before_the_next);
        TEST(spread_takes_the_least_used_node);
        TEST(gpus_behind_one_switch_come_first);
        TEST(a_switch_comes_before_a_numa_node);
        TEST(then_gpus_of_one_numa_node);
        TEST(among_equally_full_nodes_the_one_with_closer_gpus);
        TEST(large_holes_are_left_whole);
        TEST(it_stays_where_it_ran);
        TEST(the_story_is_told_as_it_was_promised);
        TEST(only_those_who_must_are_to_be_stopped_the_least_important_first);
        TEST(a_small_pool_is_named);
        TEST(a_pool_that_lacks_a_gpu_says_which_and_why);
        TEST(the_reason_of_a_vm_follows_its_state);
        TEST(a_vm_that_cannot_go_on_says_why);
        TEST(a_vm_that_moves_or_whose_node_is_silent_says_so);
        TEST(no_random_world_breaks_the_rules);
        TEST(an_inventory_is_as_before_after_a_question);
#undef TEST
        return g_test_run();
}
