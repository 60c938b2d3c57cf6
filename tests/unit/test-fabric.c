/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Linked GPUs: what is told of them, what a rule says of them, and that the registry splits no set. */

#include <glib.h>
#include <stdio.h>

#include "chronicle.h"
#include "core/registry-internal.h"
#include "world-builder.h"

/* "a b" */
static TextList list_of(const char *words) {
        TextList list = {};
        g_auto(GStrv) row = g_strsplit(words, " ", 0);
        for (char **word = row; *word; word++)
                g_assert_cmpint(text_list_add(&list, *word), ==, 0);
        return list;
}

static void join(FabricSets *sets, const char *slots) {
        _cleanup_(text_list_clear) TextList list = list_of(slots);
        bool there = fabric_has(sets, &list);
        _cleanup_(fabric_sets_clear) FabricSets before = {};
        g_assert_cmpint(fabric_sets_copy(sets, &before), ==, 0);
        g_assert_cmpint(fabric_join(sets, &list), ==, 0);
        g_assert_true(fabric_sets_are_sound(sets));
        g_assert_true(there == fabric_sets_equal(&before, sets));
}

/* "a b | c d" */
static char *text_of(const FabricSets *sets) {
        GString *text = g_string_new("");
        ARRAY_EACH(set, sets) {
                g_string_append(text, set == sets->items ? "" : " | ");
                for (size_t i = 0; i < set->slots.n; i++)
                        g_string_append_printf(text, "%s%s", i > 0 ? " " : "", set->slots.items[i]);
        }
        return g_string_free(text, FALSE);
}

#define ASSERT_SETS(sets, expected)                             \
        do {                                                    \
                g_autofree char *_text = text_of(sets);         \
                g_assert_cmpstr(_text, ==, expected);           \
        } while (0)

static void test_sets_grow_and_never_fall_apart(void) {
        _cleanup_(fabric_sets_clear) FabricSets sets = {};
        join(&sets, "s3 s2");
        join(&sets, "s1");
        ASSERT_SETS(&sets, "s2 s3");
        join(&sets, "s0 s1 s0");
        ASSERT_SETS(&sets, "s0 s1 | s2 s3");
        join(&sets, "s2 s3");
        join(&sets, "s3 s2");
        ASSERT_SETS(&sets, "s0 s1 | s2 s3");
        join(&sets, "s2 s4");
        ASSERT_SETS(&sets, "s0 s1 | s2 s3 s4");
        join(&sets, "s4 s0");
        ASSERT_SETS(&sets, "s0 s1 s2 s3 s4");
        g_assert_cmpuint(fabric_sets_slots(&sets), ==, 5);
        g_assert_null(fabric_find(&sets, "s5"));
}

static void test_facts_tell_sets_by_slots(void) {
        _cleanup_(world_builder_freep) WorldBuilder *w = world_of(1);
        _cleanup_(fabric_sets_clear) FabricSets sets = {};
        with_gpus(w, "a", 5);
        linked(w, "a", 0, 2);
        linked(w, "a", 3, 2);
        g_assert_cmpint(text_list_add(&gpu_of(w, "a", 2)->siblings, "0000:99:00.0"), ==, 0);    /* not there */
        g_assert_cmpint(text_list_add(&gpu_of(w, "a", 2)->siblings, "nonsense"), ==, 0);
        g_assert_cmpint(fabric_of_facts(facts_of(w, "a"), &sets), ==, 0);
        ASSERT_SETS(&sets, "pci0000:00/01.0/00.0 pci0000:00/02.0/00.0 | pci0000:00/04.0/00.0 pci0000:00/05.0/00.0");
}

static void test_a_rule_says_alone_board_or_slots(void) {
        static const char *const good[] = { "", "alone", "board", "pci0000:00/01.0+pci0000:00/02.0",
                                            "pci0000:40/01.1/00.0/04.0/00.0+pci0000:40/01.1/00.0/05.0/00.0" };
        static const char *const bad[] = { "pair", "Board", "pci0000:00/01.0", "pci0000:00/01.0+",
                                           "+pci0000:00/01.0", "pci0000:00/01.0++pci0000:00/02.0", "0000:41:00.0+x",
                                           "pci0000:00/01.0+pci0000:00/\n", "board+alone", "pci+pci" };
        for (size_t i = 0; i < ELEMENTS(good); i++)
                g_assert_true(fabric_rule_is_valid(good[i]));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                g_assert_false(fabric_rule_is_valid(bad[i]));
        g_assert_true(fabric_rule_is_valid(NULL));
        g_assert_true(fabric_rule_names_slot("pci0000:00/01.0+pci0000:00/02.0", "pci0000:00/02.0"));
        g_assert_false(fabric_rule_names_slot("pci0000:00/01.0+pci0000:00/02.0", "pci0000:00/02"));
        g_assert_false(fabric_rule_names_slot("pci0000:00/01.0+pci0000:00/02.0", "0000:00/02.0"));
        g_assert_false(fabric_rule_names_slot("pci0000:00/01.0", ""));

        GString *many = g_string_new("pci0/0");
        for (size_t i = 1; i < GPUS_PER_VM_MAX; i++)
                g_string_append(many, "+pci0/0");
        g_assert_true(fabric_rule_is_valid(many->str));
        g_string_append(many, "+pci0/0");
        g_assert_false(fabric_rule_is_valid(many->str));
        g_string_free(many, TRUE);
        GString *longest = g_string_new("");
        for (size_t i = 0; i < 5; i++)
                g_string_append_printf(longest, "%spci0000:00/%0*d", i > 0 ? "+" : "", 82, 1);
        while (longest->len < POOL_SET_LENGTH_MAX)
                g_string_append(longest, longest->len == 5 * 93 + 4 ? "+pci0/" : "0");
        g_assert_cmpuint(longest->len, ==, POOL_SET_LENGTH_MAX);
        g_assert_true(fabric_rule_is_valid(longest->str));
        g_string_append(longest, "0");
        g_assert_false(fabric_rule_is_valid(longest->str));
        g_string_free(longest, TRUE);
}

static char *set_of(const Chronicle *c, unsigned n) {
        const Pool *pool = registry_find_pool(c->registry, "training");
        const NodeRecord *node = node_told(c, 1);
        GpuIdentity gpu = GPU(1, n);
        _cleanup_(text_list_clear) TextList slots = {};
        g_assert_cmpint(fabric_list_set(&node->fabric, pool, &gpu, node->name, &slots, NULL), ==, 0);
        GString *text = g_string_new("");
        for (size_t i = 0; i < slots.n; i++)
                g_string_append_printf(text, "%s%s", i > 0 ? " " : "", slots.items[i] + strlen("pci0000:00/0"));
        return g_string_free(text, FALSE);
}

#define ASSERT_SET(c, gpu, expected)                            \
        do {                                                    \
                g_autofree char *_text = set_of((c), (gpu));    \
                g_assert_cmpstr(_text, ==, expected);           \
        } while (0)

static Chronicle chronicle_at_level(uint32_t count) {
        Chronicle c = chronicle_of_a_vm(count);
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        ASSERT_DONE(tell_lease(&c, 1, TEST_LEASE_MS, TEST_DEATH_MS));
        return c;
}

static void test_what_is_told_goes_together_until_a_rule_says_otherwise(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        ASSERT_SET(&c, 0, "0.0 1.0");
        ASSERT_SET(&c, 2, "");
        ASSERT_DONE(tell_pool_set(&c, "training", "alone"));
        ASSERT_SET(&c, 0, "");
        ASSERT_DONE(tell_pool_set(&c, "training", "board"));
        ASSERT_SET(&c, 0, "0.0 1.0 2.0 3.0");
        ASSERT_DONE(tell_pool_set(&c, "training", "pci0000:00/01.0+pci0000:00/02.0"));
        ASSERT_SET(&c, 1, "1.0 2.0");
        ASSERT_SET(&c, 0, "0.0 1.0");
        ASSERT_SET(&c, 3, "");
        ASSERT_DONE(tell_pool_set(&c, "training", ""));
        ASSERT_SET(&c, 1, "0.0 1.0");
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_pool_set(&c, "training", "pairs"));
}

static void test_who_is_told_again_stays_as_he_is(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1 2+3"));
        uint64_t events = c.registry->next_event;
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        ASSERT_DONE(tell_fabric(&c, 1, "2+3"));
        g_assert_cmpuint(c.registry->next_event, ==, events);
        ASSERT_DONE(tell_fabric(&c, 1, "1+2"));
        ASSERT_SET(&c, 3, "0.0 1.0 2.0 3.0");
}

static void test_what_is_told_must_be_in_order_and_of_a_member(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        ASSERT_REFUSED(NOT_FOUND, tell_fabric(&c, 7, "0+1"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fabric(&c, 1, "1+0"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fabric(&c, 1, "0"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fabric(&c, 1, "0+1 1+2"));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_fabric(&c, 1, "2+3 0+1"));
        _cleanup_(chronicle_clear) Chronicle old = chronicle_of_a_vm(1);
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_fabric(&old, 1, "0+1"));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_pool_set(&old, "training", "board"));
}

/* ---- the last guard */

static Verdict assign(Chronicle *c, unsigned first, unsigned n) {
        Claim claim = claim_of(c, 1, 1, first, n);
        return tell_assign(c, &claim);
}

static void test_no_assignment_splits_a_set(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1 2+3"));
        ASSERT_REFUSED(CONFLICT, assign(&c, 1, 2));
        g_assert_nonnull(strstr(c.sentence, "linked and go to one VM or to none"));
        ASSERT_DONE(assign(&c, 2, 2));
}

static void test_one_of_a_pair_is_given_to_nobody(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        ASSERT_REFUSED(CONFLICT, assign(&c, 0, 1));
        ASSERT_REFUSED(CONFLICT, assign(&c, 1, 1));
        ASSERT_DONE(assign(&c, 2, 1));
}

static void test_a_set_that_is_not_whole_in_the_pool_is_given_to_nobody(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        GpuIdentity gpu = GPU(1, 3);
        ASSERT_DONE(tell_fabric(&c, 1, "2+3"));
        ASSERT_DONE(tell_pool_remove(&c, "training", &gpu));
        ASSERT_REFUSED(CONFLICT, assign(&c, 1, 2));
        ASSERT_DONE(assign(&c, 0, 2));
}

static void test_a_rule_lets_a_set_part(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        ASSERT_DONE(tell_pool_set(&c, "training", "alone"));
        ASSERT_DONE(assign(&c, 0, 1));
}

static void test_a_rule_binds_what_no_hardware_tells(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(2);
        ASSERT_DONE(tell_pool_set(&c, "training", "pci0000:00/00.0+pci0000:00/02.0"));
        ASSERT_REFUSED(CONFLICT, assign(&c, 0, 2));
        ASSERT_REFUSED(CONFLICT, assign(&c, 1, 2));
        ASSERT_DONE(tell_pool_set(&c, "training", "board"));
        ASSERT_REFUSED(CONFLICT, assign(&c, 0, 2));
}

static void test_who_runs_when_it_is_told_runs_on(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        ASSERT_DONE(assign(&c, 0, 1));
        ASSERT_DONE(tell_running(&c, 1));
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        g_assert_cmpint(vm_state(vm_told(&c, 1)), ==, VM_STATE_RUNNING);
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "training", 1));
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        Claim claim = claim_of(&c, 2, 1, 1, 1);
        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
}

static void test_sets_survive_a_snapshot(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        _cleanup_(registry_freep) Registry *read = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        ASSERT_DONE(tell_fabric(&c, 1, "0+1 2+3"));
        ASSERT_DONE(tell_pool_set(&c, "training", "pci0000:00/01.0+pci0000:00/02.0"));
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        g_assert_cmpint(registry_decode(bytes, size, &read), ==, SNAPSHOT_GOOD);
        g_assert_true(fabric_sets_equal(&read->nodes.items[0].fabric, &c.registry->nodes.items[0].fabric));
        g_assert_cmpstr(read->pools.items[0].rules.items[0].set, ==, "pci0000:00/01.0+pci0000:00/02.0");
}

/* A registry cannot have them at a level whose builds do not know them. */
static void test_a_snapshot_below_the_level_has_no_sets(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        ASSERT_DONE(tell_fabric(&c, 1, "0+1"));
        c.registry->level = LEVEL_FAILOVER;
        g_assert_cmpint(registry_check(c.registry), ==, -EINVAL);
        c.registry->level = LEVEL_DEVICES;
        g_assert_cmpint(registry_check(c.registry), ==, 0);
}

/* ---- limits */

static Verdict tell_chain(Chronicle *c, unsigned node, unsigned first, unsigned n) {
        char slots[GPUS_PER_NODE_MAX + 1][8], *pointers[GPUS_PER_NODE_MAX + 1];
        Gpupool1__FabricSet set = GPUPOOL1__FABRIC_SET__INIT, *sets = &set;
        Gpupool1__TellFabric m = GPUPOOL1__TELL_FABRIC__INIT;
        NodeId id = NODE(node);
        for (unsigned i = 0; i < n; i++) {
                snprintf(slots[i], sizeof(slots[i]), "s%05u", first + i);
                pointers[i] = slots[i];
        }
        set.n_slots = n;
        set.slots = pointers;
        m.node = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.n_sets = 1;
        m.sets = &sets;
        c->level = LEVEL_DEVICES;
        Verdict verdict = tell(c, GPUPOOL1__ENTRY__COMMAND_TELL_FABRIC, &m);
        c->level = 0;
        return verdict;
}

static void test_a_node_has_no_more_linked_gpus_than_gpus(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_chain(&c, 1, 0, GPUS_PER_NODE_MAX + 1));
        ASSERT_DONE(tell_chain(&c, 1, 0, GPUS_PER_NODE_MAX - 2));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_chain(&c, 1, 1000, 3));
        ASSERT_DONE(tell_chain(&c, 1, 1000, 2));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_chain(&c, 1, 1001, 2));
}

static void test_all_nodes_together_have_no_more_than_fit_a_snapshot(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        FabricSets *sets = &c.registry->nodes.items[0].fabric;
        c.quick = true;
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot-1"));
        /* As if other nodes had told so many. */
        for (unsigned i = 0; i < FABRIC_TOTAL_MAX / 2 - 1; i++) {
                char slot[16];
                FabricSet set = {};
                for (unsigned k = 0; k < 2; k++) {
                        snprintf(slot, sizeof(slot), "t%08u%u", i, k);
                        g_assert_cmpint(text_list_add(&set.slots, slot), ==, 0);
                }
                sets = &c.registry->nodes.items[0].fabric;
                g_assert_cmpint(array_append(sets, &set), ==, 0);
        }
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_chain(&c, 2, 0, 3));
        ASSERT_DONE(tell_chain(&c, 2, 0, 2));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_chain(&c, 2, 1, 2));
        g_assert_cmpuint(registry_fabric_slots(c.registry), ==, FABRIC_TOTAL_MAX);
}

/* ---- any sets, any assignment */

#define GPUS 8U
#define SEEDS 60U

/* Bits of GPUs that must go together, joined by brute force. */
static unsigned closure(const unsigned *sets, size_t n, unsigned gpus) {
        for (size_t i = 0; i < n; i++)
                if ((sets[i] & gpus) && (sets[i] & gpus) != sets[i])
                        return closure(sets, n, gpus | sets[i]);
        return gpus;
}

static unsigned random_set(GRand *random) {
        unsigned set = 0;
        for (int i = g_rand_int_range(random, 2, 5); i > 0; i--)
                set |= 1U << g_rand_int_range(random, 0, GPUS);
        return set;
}

static char *text_of_set(unsigned set, const char *format) {
        GString *text = g_string_new("");
        for (unsigned i = 0; i < GPUS; i++)
                if (set & 1U << i) {
                        g_string_append(text, text->len > 0 ? "+" : "");
                        g_string_append_printf(text, *format ? "pci0000:00/%02x.0" : "%u", i);
                }
        return g_string_free(text, FALSE);
}

static void check_seed(guint32 seed, unsigned *n_done, unsigned *n_refused) {
        GRand *random = g_rand_new_with_seed(seed);
        _cleanup_(chronicle_clear) Chronicle c = chronicle_at_level(1);
        unsigned told[4], n_told = 0, rule = 0;
        for (unsigned i = 4; i < GPUS; i++) {
                GpuIdentity gpu = GPU(1, i);
                ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        }
        for (int i = g_rand_int_range(random, 0, 4); i > 0; i--) {
                unsigned set = random_set(random);
                if (__builtin_popcount(set) < 2)
                        continue;
                g_autofree char *text = text_of_set(set, "");
                ASSERT_DONE(tell_fabric(&c, 1, text));
                told[n_told++] = set;
        }
        if (g_rand_boolean(random) && __builtin_popcount(rule = random_set(random)) >= 2) {
                g_autofree char *text = text_of_set(rule, "slots");
                ASSERT_DONE(tell_pool_set(&c, "training", text));
        } else
                rule = 0;

        for (unsigned i = 0; i < 40; i++) {
                Claim claim = claim_of(&c, 1, 1, 0, 0);
                unsigned gpus = 0, sets[5], n = 0;
                for (int k = g_rand_int_range(random, 1, 6); k > 0; k--)
                        gpus |= 1U << g_rand_int_range(random, 0, GPUS);
                /* At times what one would choose. */
                for (unsigned k = 0; k < n_told; k++)
                        sets[n++] = closure(told, n_told, told[k]);
                if (rule)
                        sets[n++] = rule;
                if (g_rand_boolean(random))
                        gpus = closure(sets, n, gpus);
                for (unsigned k = 0; k < GPUS; k++)
                        if (gpus & 1U << k)
                                claim.gpus[claim.n_gpus++] = ASSIGNED(1, k);
                ASSERT_DONE(tell_vm_requirement(&c, 1, "training", (uint32_t) claim.n_gpus));

                /* What a rule names goes by the rule alone; who is told to go with it still does. */
                bool splits = rule && (gpus & rule) && (gpus & rule) != rule;
                for (unsigned k = 0; k < n_told; k++) {
                        unsigned set = closure(told, n_told, told[k]);
                        bool counts = (set & ~rule) != 0;
                        splits = splits || (counts && (gpus & set) && (gpus & set) != set);
                }
                if (splits) {
                        ASSERT_REFUSED(CONFLICT, tell_assign(&c, &claim));
                        ++*n_refused;
                        continue;
                }
                ASSERT_DONE(tell_assign(&c, &claim));
                ASSERT_DONE(tell_running(&c, 1));
                ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 3600000));
                ++*n_done;
        }
        g_rand_free(random);
}

/* Replay one: GPUPOOL_TEST_SEED=N test-fabric */
static void test_whatever_is_linked_and_asked_no_set_is_split(void) {
        const char *given = g_getenv("GPUPOOL_TEST_SEED");
        guint32 first = given ? (guint32) g_ascii_strtoull(given, NULL, 10) : (guint32) g_test_rand_int();
        unsigned n_done = 0, n_refused = 0;
        for (guint32 i = 0; i < (given ? 1 : SEEDS); i++) {
                g_test_message("GPUPOOL_TEST_SEED=%u", first + i);
                check_seed(first + i, &n_done, &n_refused);
        }
        g_test_message("%u done, %u refused", n_done, n_refused);
        g_assert_true(given || (n_done > 100 && n_refused > 100));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/fabric/" #name, test_##name)
        TEST(sets_grow_and_never_fall_apart);
        TEST(facts_tell_sets_by_slots);
        TEST(a_rule_says_alone_board_or_slots);
        TEST(what_is_told_goes_together_until_a_rule_says_otherwise);
        TEST(who_is_told_again_stays_as_he_is);
        TEST(what_is_told_must_be_in_order_and_of_a_member);
        TEST(no_assignment_splits_a_set);
        TEST(one_of_a_pair_is_given_to_nobody);
        TEST(a_set_that_is_not_whole_in_the_pool_is_given_to_nobody);
        TEST(a_rule_lets_a_set_part);
        TEST(a_rule_binds_what_no_hardware_tells);
        TEST(who_runs_when_it_is_told_runs_on);
        TEST(sets_survive_a_snapshot);
        TEST(a_snapshot_below_the_level_has_no_sets);
        TEST(a_node_has_no_more_linked_gpus_than_gpus);
        TEST(all_nodes_together_have_no_more_than_fit_a_snapshot);
        TEST(whatever_is_linked_and_asked_no_set_is_split);
        return g_test_run();
}
