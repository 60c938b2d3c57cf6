/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The registry: pools, their rules and policies, and GPUs in quarantine. */

#include <stdio.h>

#include "chronicle.h"
#include "core/registry-internal.h"

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

static const Pool *pool_named(const Chronicle *c, const char *name) {
        return registry_find_pool(c->registry, name);
}

/* ---- names */

static void test_a_pool_is_made_with_its_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 3), none = GPU(1, 4);
        g_assert_cmpuint(pool_named(&c, "training")->gpus.n, ==, 4);
        g_assert_true(registry_find_pool_of_gpu(c.registry, &gpu) == pool_named(&c, "training"));
        g_assert_null(registry_find_pool_of_gpu(c.registry, &none));
}

static void test_a_pools_name_is_taken_once(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(EXISTS, tell_pool(&c, "training", 1, 0));
        ASSERT_DONE(tell_pool(&c, "Training", 1, 0));
}

static void test_a_pool_has_a_name_that_can_be_typed(void) {
        static const char *const bad[] = { "", " ", "a b", "a/b", "-a", ".a", "_a", "a\n", "é", "\xe2\x80\xaeppa" };
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool(&c, bad[i], 1, 0));
        ASSERT_DONE(tell_pool(&c, "0.A_z-", 1, 0));
}

static void test_a_pools_name_has_a_longest(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        g_autofree char *longest = g_strnfill(NAME_LENGTH_MAX, 'x'), *longer = g_strnfill(NAME_LENGTH_MAX + 1, 'x');
        ASSERT_DONE(tell_pool(&c, longest, 1, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool(&c, longer, 1, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool_renamed(&c, "training", longer));
}

static void test_what_is_not_there_cannot_be_changed(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 9);
        Gpupool1__SetPoolPolicy policy = GPUPOOL1__SET_POOL_POLICY__INIT;
        policy.name = (char *) "other";
        ASSERT_REFUSED(NOT_FOUND, tell_pool_add(&c, "other", &gpu));
        ASSERT_REFUSED(NOT_FOUND, tell_pool_rule(&c, "other", "10de", "", ""));
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, SET_POOL_POLICY, policy));
        ASSERT_REFUSED(NOT_FOUND, tell_pool_renamed(&c, "other", "another"));
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "other"));
        /* A name that no one may read aloud is not repeated. */
        ASSERT_REFUSED(NOT_FOUND, tell_pool_deleted(&c, "\x1b[2J"));
}

static void test_a_renamed_pool_keeps_its_gpus_and_vms(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_pool(&c, "m", 1, 0));
        ASSERT_DONE(tell_pool_renamed(&c, "training", "alpha"));
        g_assert_null(pool_named(&c, "training"));
        g_assert_cmpuint(pool_named(&c, "alpha")->gpus.n, ==, 4);
        g_assert_cmpstr(vm_told(&c, 1)->pool, ==, "alpha");
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_pool_is_not_renamed_to_one_that_is_there(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        ASSERT_REFUSED(EXISTS, tell_pool_renamed(&c, "training", "other"));
        ASSERT_REFUSED(EXISTS, tell_pool_renamed(&c, "training", "training"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool_renamed(&c, "training", "a b"));
}

static void test_a_pool_that_a_vm_needs_is_not_deleted(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_REFUSED(IN_USE, tell_pool_deleted(&c, "training"));
        ASSERT_DONE(tell_vm_deleted(&c, 1));
        ASSERT_DONE(tell_pool_deleted(&c, "training"));
        g_assert_null(pool_named(&c, "training"));
}

static void test_a_pool_whose_gpu_runs_a_vm_is_not_deleted(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        /* From its next start on it needs another pool; the GPU that it has is of this one. */
        ASSERT_DONE(tell_vm_requirement(&c, 1, "other", 1));
        ASSERT_REFUSED(IN_USE, tell_pool_deleted(&c, "training"));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        ASSERT_DONE(tell_pool_deleted(&c, "training"));
}

static void test_a_cluster_has_room_for_so_many_pools(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        char name[16];
        c.quick = true;
        for (unsigned n = 2; n <= POOLS_MAX; n++) {
                snprintf(name, sizeof(name), "p%u", n);
                ASSERT_DONE(tell_pool(&c, name, 1, 0));
        }
        c.quick = false;
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_pool(&c, "late", 1, 0));
        ASSERT_DONE(tell_pool_deleted(&c, name));
        ASSERT_DONE(tell_pool(&c, "late", 1, 0));
}

/* ---- GPUs */

static void test_a_gpu_is_in_one_pool(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 0);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        ASSERT_REFUSED(IN_USE, tell_pool_add(&c, "other", &gpu));
        ASSERT_REFUSED(IN_USE, tell_pool(&c, "another", 1, 1));
        ASSERT_DONE(tell_pool_remove(&c, "training", &gpu));
        ASSERT_DONE(tell_pool_add(&c, "other", &gpu));
}

static void test_a_gpu_that_is_added_again_only_gets_its_new_address(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 0);
        gpu.address.bus = 0x99;
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        g_assert_cmpuint(pool_named(&c, "training")->gpus.n, ==, 4);
        g_assert_cmpuint(pool_named(&c, "training")->gpus.items[0].address.bus, ==, 0x99);
}

static void test_a_gpu_of_a_stranger_does_not_come_in(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(2, 0);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_add(&c, "training", &gpu));
        ASSERT_REFUSED(NOT_FOUND, tell_pool(&c, "other", 2, 1));
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
}

static void test_a_gpu_without_identity_does_not_come_in(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__Gpu nothing = GPUPOOL1__GPU__INIT, *pointer = &nothing;
        Gpupool1__ChangePoolGpus change = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        Gpupool1__CreatePool create = GPUPOOL1__CREATE_POOL__INIT;
        change.name = (char *) "training";
        change.add = create.gpus = &pointer;
        change.n_add = create.n_gpus = 1;
        create.name = (char *) "other";
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, CHANGE_POOL_GPUS, change));
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, CREATE_POOL, create));
        change.n_add = 0;
        change.remove = &pointer;
        change.n_remove = 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, CHANGE_POOL_GPUS, change));
}

static void test_all_gpus_come_in_or_none(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpus[] = { GPU(1, 7), GPU(2, 0) };
        char addresses[2][PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu messages[2], *pointers[] = { messages, messages + 1 };
        Gpupool1__ChangePoolGpus change = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        for (size_t i = 0; i < 2; i++)
                gpu_message_borrow(gpus + i, addresses[i], messages + i);
        change.name = (char *) "training";
        change.add = pointers;
        change.n_add = 2;
        ASSERT_REFUSED(NOT_FOUND, TELL(&c, CHANGE_POOL_GPUS, change));
        g_assert_cmpuint(pool_named(&c, "training")->gpus.n, ==, 4);
}

static void test_a_gpu_that_is_not_in_the_pool_cannot_leave_it(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 4);
        ASSERT_REFUSED(NOT_FOUND, tell_pool_remove(&c, "training", &gpu));
}

static void test_a_gpu_that_runs_a_vm_does_not_leave_its_pool(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        GpuIdentity gpu = GPU(1, 2);
        Claim claim = claim_of(&c, 1, 1, 2, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_REFUSED(IN_USE, tell_pool_remove(&c, "training", &gpu));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        ASSERT_DONE(tell_pool_remove(&c, "training", &gpu));
}

static void test_a_gpu_that_a_rule_would_bring_back_does_not_leave(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 0);
        ASSERT_DONE(tell_pool_rule(&c, "training", "10DE", "", "a*"));
        ASSERT_REFUSED(CONFLICT, tell_pool_remove(&c, "training", &gpu));
        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "", "b*"));
        ASSERT_DONE(tell_pool_remove(&c, "training", &gpu));
}

static void test_so_many_gpus_may_be_named_in_one_call(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_pool(&c, "large", 2, GPUS_PER_CALL_MAX + 1));
        ASSERT_DONE(tell_pool(&c, "large", 2, GPUS_PER_CALL_MAX));
        g_assert_cmpuint(pool_named(&c, "large")->gpus.n, ==, GPUS_PER_CALL_MAX);
}

/* ---- rules and policy */

static Verdict tell_rules(Chronicle *c, Gpupool1__PoolRule *rule, size_t n) {
        Gpupool1__PoolRule *pointers[POOL_RULES_MAX + 1];
        Gpupool1__SetPoolRules m = GPUPOOL1__SET_POOL_RULES__INIT;
        for (size_t i = 0; i < n; i++)
                pointers[i] = rule;
        m.name = (char *) "training";
        m.rules = pointers;
        m.n_rules = n;
        return TELL(c, SET_POOL_RULES, m);
}

static void test_rules_replace_the_rules_before_them(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "2331", "a"));
        ASSERT_DONE(tell_pool_rule(&c, "training", "1002", "", ""));
        g_assert_cmpuint(pool_named(&c, "training")->rules.n, ==, 1);
        g_assert_cmpstr(pool_named(&c, "training")->rules.items[0].vendor, ==, "1002");
        ASSERT_DONE(tell_rules(&c, NULL, 0));
        g_assert_cmpuint(pool_named(&c, "training")->rules.n, ==, 0);
}

static void test_a_rule_that_would_take_everything_is_none(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool_rule(&c, "training", "", "", ""));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool_rule(&c, "training", "10de\n", "", ""));
}

static void test_a_pool_has_so_many_rules_of_such_a_length(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        g_autofree char *longest = g_strnfill(63, '?'), *longer = g_strnfill(64, '?');
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT;
        rule.vendor = rule.device = rule.node = longest;
        ASSERT_DONE(tell_rules(&c, &rule, POOL_RULES_MAX));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_rules(&c, &rule, POOL_RULES_MAX + 1));
        rule.node = longer;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_rules(&c, &rule, 1));
}

static Verdict tell_policy(Chronicle *c, Gpupool1__PoolPolicy *policy) {
        Gpupool1__SetPoolPolicy m = GPUPOOL1__SET_POOL_POLICY__INIT;
        m.name = (char *) "training";
        m.policy = policy;
        return TELL(c, SET_POOL_POLICY, m);
}

static void test_what_a_policy_does_not_set_stays(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        policy.set_placement = policy.set_reserve = policy.set_max_in_use = true;
        policy.placement = GPUPOOL1__PLACEMENT_KIND__PLACEMENT_KIND_SPREAD;
        policy.reserve = 2;
        policy.max_in_use = 3;
        ASSERT_DONE(tell_policy(&c, &policy));
        policy = (Gpupool1__PoolPolicy) GPUPOOL1__POOL_POLICY__INIT;
        policy.set_reserve = true;
        policy.reserve = 1;
        ASSERT_DONE(tell_policy(&c, &policy));
        const Pool *pool = pool_named(&c, "training");
        g_assert_cmpint(pool->placement, ==, POOL_SPREAD);
        g_assert_cmpuint(pool->reserve, ==, 1);
        g_assert_cmpuint(pool->max_in_use, ==, 3);
}

static void test_a_policy_has_limits(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, NULL));
        policy.set_reserve = policy.set_max_in_use = true;
        policy.reserve = policy.max_in_use = POOL_GPUS_MAX;
        ASSERT_DONE(tell_policy(&c, &policy));
        policy.reserve = POOL_GPUS_MAX + 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        policy.reserve = 0;
        policy.max_in_use = POOL_GPUS_MAX + 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        policy = (Gpupool1__PoolPolicy) GPUPOOL1__POOL_POLICY__INIT;
        policy.set_placement = true;
        policy.placement = (Gpupool1__PlacementKind) 2;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
}

static void test_where_gpus_are_after_use_needs_its_level(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        policy.set_after_use = true;
        policy.after_use = GPUPOOL1__AFTER_USE__AFTER_USE_VFIO;
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_policy(&c, &policy));
        g_assert_cmpint(pool_named(&c, "training")->after_use, ==, AFTER_USE_HOST);
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        c.level = LEVEL_DEVICES;
        ASSERT_DONE(tell_policy(&c, &policy));
        g_assert_cmpint(pool_named(&c, "training")->after_use, ==, AFTER_USE_VFIO);
        policy.after_use = (Gpupool1__AfterUse) AFTER_USE_COUNT;
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_policy(&c, &policy));
        policy = (Gpupool1__PoolPolicy) GPUPOOL1__POOL_POLICY__INIT;
        ASSERT_DONE(tell_policy(&c, &policy));
        g_assert_cmpint(pool_named(&c, "training")->after_use, ==, AFTER_USE_VFIO);
}

static void test_a_pool_is_not_made_with_a_bad_rule_or_policy(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT, *pointer = &rule;
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        Gpupool1__CreatePool m = GPUPOOL1__CREATE_POOL__INIT;
        m.name = (char *) "other";
        m.rules = &pointer;
        m.n_rules = 1;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, CREATE_POOL, m));
        m.n_rules = 0;
        policy.set_reserve = true;
        policy.reserve = UINT32_MAX;
        m.policy = &policy;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, CREATE_POOL, m));
}

/* ---- quarantine */

static void test_a_gpu_goes_into_quarantine_and_comes_out(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 0);
        ASSERT_DONE(tell_quarantine(&c, &gpu, "the reset timed out"));
        const Quarantine *quarantine = registry_find_quarantine(c.registry, &gpu);
        g_assert_cmpstr(quarantine->sentence, ==, "the reset timed out");
        g_assert_cmpint(quarantine->cause, ==, QUARANTINE_RESET_FAILED);
        ASSERT_REFUSED(EXISTS, tell_quarantine(&c, &gpu, "again"));
        ASSERT_DONE(tell_release(&c, &gpu));
        g_assert_null(registry_find_quarantine(c.registry, &gpu));
        ASSERT_REFUSED(CONFLICT, tell_release(&c, &gpu));
}

static void test_another_card_in_the_slot_is_not_in_quarantine(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity gpu = GPU(1, 0), other = GPU(1, 0);
        ASSERT_DONE(tell_quarantine(&c, &gpu, ""));
        strcpy(other.serial, "another");
        g_assert_null(registry_find_quarantine(c.registry, &other));
}

static void test_a_quarantine_needs_a_gpu_of_a_member_and_a_sentence(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        g_autofree char *longest = g_strnfill(TEXT_LENGTH_MAX, 'x'), *longer = g_strnfill(TEXT_LENGTH_MAX + 1, 'x');
        GpuIdentity stranger = GPU(2, 0), gpu = GPU(1, 0);
        ASSERT_REFUSED(NOT_FOUND, tell_quarantine(&c, &stranger, ""));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_quarantine(&c, &gpu, longer));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_quarantine(&c, &gpu, "\xff"));
        ASSERT_DONE(tell_quarantine(&c, &gpu, longest));

        Gpupool1__QuarantineGpu m = GPUPOOL1__QUARANTINE_GPU__INIT;
        Gpupool1__ReleaseGpu release = GPUPOOL1__RELEASE_GPU__INIT;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, QUARANTINE_GPU, m));
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, RELEASE_GPU, release));
        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu message;
        gpu_message_borrow(&gpu, address, &message);
        m.gpu = &message;
        m.cause = (Gpupool1__QuarantineCause) QUARANTINE_CAUSE_COUNT;
        ASSERT_REFUSED(INVALID_ARGUMENT, TELL(&c, QUARANTINE_GPU, m));
}

/* ---- all pools together */

static void test_all_pools_together_have_room_for_so_many_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        GpuIdentity last = GPU(1, POOL_GPUS_MAX - 1), late = GPU(1, POOL_GPUS_MAX);
        ASSERT_DONE(tell_pool(&c, "other", 1, 0));
        /* Through the commands it would take minutes. */
        for (unsigned n = 4; n < POOL_GPUS_MAX - 1; n++) {
                GpuIdentity gpu = GPU(1, n);
                g_assert_cmpint(pool_add(c.registry->pools.items + 1, &gpu), ==, 0);
        }
        c.quick = true;
        ASSERT_DONE(tell_pool_add(&c, "other", &last));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_pool_add(&c, "other", &late));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_pool_add(&c, "training", &late));
        ASSERT_DONE(tell_pool(&c, "third", 1, 0));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_pool(&c, "fourth", 1, 1));
        ASSERT_DONE(tell_pool_remove(&c, "other", &last));
        ASSERT_DONE(tell_pool_add(&c, "training", &late));
}

static void test_so_many_gpus_are_in_quarantine(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
        for (unsigned n = 0; n < QUARANTINES_MAX - 1; n++) {
                Quarantine quarantine = { .gpu = GPU(1, n) };
                size_t place;
                (void) registry_quarantine_place(c.registry, &quarantine.gpu, &place);
                g_assert_cmpint(array_insert(&c.registry->quarantines, place, &quarantine), ==, 0);
        }
        GpuIdentity last = GPU(1, QUARANTINES_MAX), late = GPU(1, QUARANTINES_MAX + 1);
        c.quick = true;
        ASSERT_DONE(tell_quarantine(&c, &last, "broken"));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_quarantine(&c, &late, "broken"));
        ASSERT_DONE(tell_release(&c, &last));
        ASSERT_DONE(tell_quarantine(&c, &late, "broken"));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/pool/" #name, test_##name)
        TEST(a_pool_is_made_with_its_gpus);
        TEST(a_pools_name_is_taken_once);
        TEST(a_pool_has_a_name_that_can_be_typed);
        TEST(a_pools_name_has_a_longest);
        TEST(what_is_not_there_cannot_be_changed);
        TEST(a_renamed_pool_keeps_its_gpus_and_vms);
        TEST(a_pool_is_not_renamed_to_one_that_is_there);
        TEST(a_pool_that_a_vm_needs_is_not_deleted);
        TEST(a_pool_whose_gpu_runs_a_vm_is_not_deleted);
        TEST(a_cluster_has_room_for_so_many_pools);
        TEST(a_gpu_is_in_one_pool);
        TEST(a_gpu_that_is_added_again_only_gets_its_new_address);
        TEST(a_gpu_of_a_stranger_does_not_come_in);
        TEST(a_gpu_without_identity_does_not_come_in);
        TEST(all_gpus_come_in_or_none);
        TEST(a_gpu_that_is_not_in_the_pool_cannot_leave_it);
        TEST(a_gpu_that_runs_a_vm_does_not_leave_its_pool);
        TEST(a_gpu_that_a_rule_would_bring_back_does_not_leave);
        TEST(so_many_gpus_may_be_named_in_one_call);
        TEST(rules_replace_the_rules_before_them);
        TEST(a_rule_that_would_take_everything_is_none);
        TEST(a_pool_has_so_many_rules_of_such_a_length);
        TEST(what_a_policy_does_not_set_stays);
        TEST(a_policy_has_limits);
        TEST(where_gpus_are_after_use_needs_its_level);
        TEST(a_pool_is_not_made_with_a_bad_rule_or_policy);
        TEST(a_gpu_goes_into_quarantine_and_comes_out);
        TEST(another_card_in_the_slot_is_not_in_quarantine);
        TEST(a_quarantine_needs_a_gpu_of_a_member_and_a_sentence);
        TEST(all_pools_together_have_room_for_so_many_gpus);
        TEST(so_many_gpus_are_in_quarantine);
        return g_test_run();
}
