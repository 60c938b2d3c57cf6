/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Random histories of the registry. After each command P1 and P2 stand and a refusal has changed nothing (chronicle.h);
 * a twin that is told the same, and at times is replaced by what its own snapshot says, comes to the same bytes.
 *
 *      SEED=17 test-registry-random         one history
 *      SEEDS=100000 test-registry-random    so many */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "chronicle.h"

#define SEEDS 40U
#define STEPS 1000U

static uint64_t current_seed;
static const char *program;
static uint64_t n_events, n_assigned, n_lost, n_moved, n_whole;

static void on_abort(int signal_number) {
        char line[512];
        int n = snprintf(line, sizeof(line), "# replay with: SEED=%" G_GUINT64_FORMAT " %s\n", current_seed, program);
        if (write(STDOUT_FILENO, line, (size_t) n) < 0)
                _exit(2);
        (void) signal(signal_number, SIG_DFL);
        (void) raise(signal_number);
}

static void twin_begins_from(Chronicle *c, const Registry *registry) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(registry, &bytes, &size), ==, 0);
        c->twin = registry_free(c->twin);
        g_assert_cmpint(registry_decode(bytes, size, &c->twin), ==, SNAPSHOT_GOOD);
}

static void assert_twin_is_equal(const Chronicle *c) {
        _cleanup_free_ uint8_t *a = NULL, *b = NULL;
        size_t a_size, b_size;
        g_assert_cmpint(registry_encode(c->registry, &a, &a_size), ==, 0);
        g_assert_cmpint(registry_encode(c->twin, &b, &b_size), ==, 0);
        g_assert_cmpmem(a, a_size, b, b_size);
}

/* What was true of a VM before the last command. */
typedef struct Before {
        uint64_t epoch;
        bool assigned;
} Before;

/* Of who was just assigned: no told set is split where no rule speaks, and none that a rule names. */
static void assert_no_set_is_split(const Chronicle *c, const Vm *vm) {
        const Pool *pool = registry_find_pool(c->registry, vm->pool);
        const NodeRecord *node = registry_find_node(c->registry, &vm->assignment.node);
        const char *said = pool->rules.n > 0 ? pool->rules.items[0].set : NULL;
        if (text_is_empty(said))
                ARRAY_EACH(set, &node->fabric) {
                        size_t n = 0;
                        for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                                n += text_list_has(&set->slots, vm->assignment.gpus[i].gpu.slot);
                        g_assert_true(n == 0 || n == set->slots.n);
                        n_whole += n > 0;
                }
        /* tell_any_pool() may give it other patterns. */
        if (text_is_empty(said) || *said != 'p' || !text_equal(pool->rules.items[0].vendor, "*"))
                return;
        g_auto(GStrv) slots = g_strsplit(said, "+", 0);
        size_t n = 0;
        for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                n += g_strv_contains((const char *const *) slots, vm->assignment.gpus[i].gpu.slot);
        g_assert_true(n == 0 || n == g_strv_length(slots));
        n_whole += n > 0;
}

/* P1: an epoch begins one after the last, and only where no assignment stands. */
static void assert_epochs_follow_each_other(const Chronicle *c, Before before[static 7]) {
        for (unsigned i = 1; i < 7; i++) {
                const Vm *vm = vm_told(c, i);
                Before now = { .epoch = vm ? vm->epoch : 0,
                               .assigned = vm && vm->assignment.phase != ASSIGNMENT_NONE };
                if (vm && now.epoch != before[i].epoch) {
                        g_assert_cmpuint(now.epoch, ==, before[i].epoch + 1);
                        g_assert_false(before[i].assigned);
                        g_assert_true(now.assigned);
                        assert_no_set_is_split(c, vm);
                }
                before[i] = now;
        }
}

static void count_failovers(const Chronicle *c) {
        const Event *last = c->registry->events.n ? c->registry->events.items + c->registry->events.n - 1 : NULL;
        static uint64_t seen;
        if (last && last->sequence != seen) {
                n_moved += text_equal(last->kind, "vm-moving");
                ARRAY_EACH(node, &c->registry->nodes)
                        n_lost += node->lost;
        }
        seen = last ? last->sequence : 0;
}

static void run_history(uint64_t seed) {
        /* Some histories begin with nothing. */
        bool from_nothing = seed % 8 == 0;
        _cleanup_(chronicle_clear) Chronicle c = from_nothing ? chronicle_empty() : chronicle_of_a_pool();
        GRand *random = g_rand_new_with_seed((guint32) seed);
        Before before[7] = {};
        current_seed = seed;
        g_assert_cmpint(registry_new(&c.twin), ==, 0);
        if (!from_nothing) {
                twin_begins_from(&c, c.registry);
                static const uint32_t levels[] = { LEVEL_OLDEST, LEVEL_FAILOVER, LEVEL_DEVICES, LEVEL_PLACEMENT };
                uint32_t level = levels[seed % ELEMENTS(levels)];
                if (level > LEVEL_OLDEST)
                        ASSERT_DONE(tell_level(&c, level));
        }
        for (unsigned i = 0; i < STEPS; i++) {
                tell_anything(&c, random);
                assert_epochs_follow_each_other(&c, before);
                count_failovers(&c);
                if (g_rand_int_range(random, 0, 50) == 0)
                        twin_begins_from(&c, c.twin);
        }
        assert_twin_is_equal(&c);
        n_events += c.registry->next_event - 1;
        ARRAY_EACH(vm, &c.registry->vms)
                n_assigned += vm->epoch;
        g_rand_free(random);
}

static void test_whatever_is_asked_no_promise_is_broken(void) {
        const char *one = g_getenv("SEED"), *many = g_getenv("SEEDS");
        uint64_t first = one ? g_ascii_strtoull(one, NULL, 10) : 1;
        uint64_t last = one ? first : many ? g_ascii_strtoull(many, NULL, 10) : SEEDS;
        for (uint64_t seed = first; seed <= last; seed++)
                run_history(seed);
        g_test_message("%" G_GUINT64_FORMAT " events, %" G_GUINT64_FORMAT " assignments, %" G_GUINT64_FORMAT
                       " moves, %" G_GUINT64_FORMAT " whole sets", n_events, n_assigned, n_moved, n_whole);
        /* Or it would prove nothing. */
        g_assert_cmpuint(n_assigned, >, last - first);
        g_assert_true(one || (n_lost > 0 && n_moved > 0));
}

int main(int argc, char **argv) {
        program = argv[0];
        (void) signal(SIGABRT, on_abort);
        (void) signal(SIGTRAP, on_abort);
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/random/" #name, test_##name)
        TEST(whatever_is_asked_no_promise_is_broken);
        return g_test_run();
}
