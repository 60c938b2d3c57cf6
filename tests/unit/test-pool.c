/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <stdio.h>

#include "core/pool.h"

static GpuIdentity gpu(uint8_t bus) {
        GpuIdentity identity = { .vendor = 0x10de, .device = 0x2331, .address = { .bus = bus } };
        g_snprintf(identity.slot, sizeof(identity.slot), "pci0000:00/%02x.0/00.0", bus);
        return identity;
}

static void test_members_are_sorted_and_found(void) {
        _cleanup_(pool_clear) Pool pool = {};
        static const uint8_t buses[] = { 5, 1, 9, 3, 7 };
        for (size_t i = 0; i < ELEMENTS(buses); i++) {
                GpuIdentity member = gpu(buses[i]);
                g_assert_cmpint(pool_add(&pool, &member), ==, 0);
        }
        g_assert_cmpuint(pool.gpus.n, ==, ELEMENTS(buses));
        for (size_t i = 1; i < pool.gpus.n; i++)
                g_assert_cmpint(gpu_identity_compare(pool.gpus.items + i - 1, pool.gpus.items + i), <, 0);
        GpuIdentity member = gpu(3), stranger = gpu(4);
        g_assert_true(pool_has(&pool, &member));
        g_assert_false(pool_has(&pool, &stranger));
}

static void test_adding_a_member_again_brings_its_address_up_to_date(void) {
        _cleanup_(pool_clear) Pool pool = {};
        GpuIdentity member = gpu(1);
        g_assert_cmpint(pool_add(&pool, &member), ==, 0);
        member.address.bus = 0x99;
        g_assert_cmpint(pool_add(&pool, &member), ==, 0);
        g_assert_cmpuint(pool.gpus.n, ==, 1);
        g_assert_cmpuint(pool.gpus.items[0].address.bus, ==, 0x99);
}

static void test_removing_a_stranger_changes_nothing(void) {
        _cleanup_(pool_clear) Pool pool = {};
        GpuIdentity member = gpu(1), stranger = gpu(2);
        g_assert_cmpint(pool_add(&pool, &member), ==, 0);
        pool_remove(&pool, &stranger);
        g_assert_cmpuint(pool.gpus.n, ==, 1);
        pool_remove(&pool, &member);
        g_assert_cmpuint(pool.gpus.n, ==, 0);
}

static bool rule_matches(const char *vendor, const char *device, const char *node, const char *node_name) {
        PoolRules rules = {};
        GpuIdentity identity = gpu(1);
        g_assert_cmpint(pool_rules_add(&rules, vendor, device, node, NULL), ==, 0);
        bool matches = pool_rules_match(&rules, &identity, node_name);
        pool_rules_clear(&rules);
        return matches;
}

static void test_a_rule_matches_when_all_its_patterns_do(void) {
        g_assert_true(rule_matches("10de", "2331", NULL, "a"));
        g_assert_true(rule_matches("10DE", "23*", "", "a"));
        g_assert_true(rule_matches(NULL, NULL, "gpu-?", "gpu-7"));
        g_assert_false(rule_matches("10de", "2330", NULL, "a"));
        g_assert_false(rule_matches("10de", "2331", "b", "a"));
        g_assert_false(rule_matches("1002", NULL, NULL, "a"));
}

static void test_a_rule_without_patterns_matches_nothing(void) {
        g_assert_false(rule_matches(NULL, NULL, NULL, "a"));
        g_assert_false(rule_matches("", "", "", "a"));
}

static void test_one_rule_of_several_is_enough(void) {
        PoolRules rules = {};
        GpuIdentity identity = gpu(1);
        g_assert_false(pool_rules_match(&rules, &identity, "a"));
        g_assert_cmpint(pool_rules_add(&rules, "1002", NULL, NULL, NULL), ==, 0);
        g_assert_cmpint(pool_rules_add(&rules, "10de", NULL, NULL, NULL), ==, 0);
        g_assert_true(pool_rules_match(&rules, &identity, "a"));
        pool_rules_clear(&rules);
}

static void test_placement_has_words(void) {
        PoolPlacement placement = POOL_PLACEMENT_COUNT;
        g_assert_cmpstr(pool_placement_to_text(POOL_PACK), ==, "pack");
        g_assert_cmpint(pool_placement_from_text("spread", &placement), ==, 0);
        g_assert_cmpint(placement, ==, POOL_SPREAD);
        g_assert_cmpint(pool_placement_from_text("Spread", &placement), ==, -EINVAL);
        g_assert_cmpint(pool_placement_from_text("", &placement), ==, -EINVAL);
}

static void test_the_gpus_of_a_node_are_side_by_side(void) {
        Pool pool = {};
        size_t first;
        for (uint8_t i = 0; i < 12; i++) {
                GpuIdentity gpu = { .node = { { (uint8_t) (i % 4 * 2) } }, .address.bus = i };
                snprintf(gpu.slot, sizeof(gpu.slot), "slot%u", i);
                g_assert_cmpint(pool_add(&pool, &gpu), ==, 0);
        }
        for (uint8_t node = 0; node < 8; node++) {
                size_t n = pool_gpus_of_node(&pool, &(NodeId) { { node } }, &first);
                g_assert_cmpuint(n, ==, node % 2 ? 0 : 3);
                for (size_t i = first; i < first + n; i++)
                        g_assert_cmpuint(pool.gpus.items[i].node.bytes[0], ==, node);
        }
        g_assert_cmpuint(pool_gpus_of_node(&(Pool) {}, &(NodeId) {}, &first), ==, 0);
        pool_clear(&pool);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/pool/" #name, test_##name)
        TEST(members_are_sorted_and_found);
        TEST(adding_a_member_again_brings_its_address_up_to_date);
        TEST(removing_a_stranger_changes_nothing);
        TEST(a_rule_matches_when_all_its_patterns_do);
        TEST(a_rule_without_patterns_matches_nothing);
        TEST(one_rule_of_several_is_enough);
        TEST(the_gpus_of_a_node_are_side_by_side);
        TEST(placement_has_words);
#undef TEST
        return g_test_run();
}
