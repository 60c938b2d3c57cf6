/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Backups: they come in by pieces, and what is refused leaves nothing behind. */

#include "chronicle.h"
#include "core/registry-internal.h"

typedef struct Backup {
        uint8_t *bytes;
        size_t size;
} Backup;

static void backup_clear(Backup *backup) {
        free(backup->bytes);
}

static Backup backup_of(const Registry *registry) {
        Backup backup = {};
        g_assert_cmpint(registry_encode_backup(registry, &backup.bytes, &backup.size), ==, 0);
        return backup;
}

/* Cluster "lab" of the nodes "a" and "b", with GPUs of both in pool training, and VM bert, which runs and failed. */
static Chronicle chronicle_of_a_lab(void) {
        Chronicle c = chronicle_of_a_vm(1);
        GpuIdentity gpu = GPU(2, 0), broken = GPU(2, 1);
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        ASSERT_DONE(tell_pool_add(&c, "training", &gpu));
        ASSERT_DONE(tell_pool_add(&c, "training", &broken));
        ASSERT_DONE(tell_quarantine(&c, &broken, "its fan is loose"));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_ended(&c, 1, END_CRASHED, 0));
        claim.epoch++;
        ASSERT_DONE(tell_assign(&c, &claim));
        return c;
}

/* Cluster "new" with NODE(@first) under the name @name. */
static Chronicle chronicle_of_a_new_cluster(unsigned first, const char *name) {
        Chronicle c = chronicle_empty();
        ASSERT_DONE(tell_init_at(&c, "new", LEVEL_IMPORT));
        ASSERT_DONE(tell_node(&c, first, name, 1, "boot"));
        return c;
}

static void test_a_backup_comes_back(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        ASSERT_DONE(tell_node(&c, 2, "b", 1, "boot"));
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));

        g_assert_cmpstr(c.registry->name, ==, "new");
        g_assert_cmpuint(c.registry->nodes.n, ==, 2);
        g_assert_cmpuint(registry_find_pool(c.registry, "training")->gpus.n, ==, 6);
        g_assert_cmpuint(c.registry->quarantines.n, ==, 1);
        const Vm *vm = vm_told(&c, 1);
        g_assert_cmpstr(vm->name, ==, "bert");
        g_assert_cmpuint(vm->epoch, ==, 2);
        g_assert_cmpuint(vm->attempts, ==, 0);
        g_assert_false(vm->run);
        g_assert_null(vm->reason);
        g_assert_cmpint(vm_state(vm), ==, VM_STATE_STOPPED);
        g_assert_cmpstr(c.registry->events.items[c.registry->events.n - 1].kind, ==, "state-imported");
        g_assert_cmpuint(c.registry->import.total, ==, 0);

        /* ... and goes on. */
        ASSERT_DONE(tell_desired(&c, 1, VM_RUN, 0));
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        g_assert_cmpuint(claim.epoch, ==, 3);
        ASSERT_DONE(tell_assign(&c, &claim));
}

static void test_a_backup_has_no_secret_and_sends_no_vm_anywhere(void) {
        static const char secret[] = "correct horse battery staple";
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_pair(), c = chronicle_of_a_new_cluster(1, "a");
        ASSERT_DONE(tell_fencing(&lab, 1, "fence_ipmilan", "password", secret));
        ASSERT_DONE(tell_drained(&lab, 1, 0));
        ASSERT_DONE(tell_moved(&lab, 1, 2, true));
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        g_assert_null(memmem(backup.bytes, backup.size, secret, sizeof(secret) - 1));
        g_assert_cmpstr(node_told(&lab, 1)->fence.agent, ==, "fence_ipmilan");

        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_import(&c, backup.bytes, backup.size));
        ASSERT_DONE(tell_level(&c, LEVEL_FAILOVER));
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        g_assert_true(id_is_null(vm_told(&c, 1)->target.bytes));
        g_assert_true(id_is_null(vm_told(&c, 1)->home.bytes));
        g_assert_cmpint(node_told(&c, 1)->drain, ==, DRAIN_NONE);
        g_assert_null(node_told(&c, 1)->fence.agent);
}

static void test_a_gpu_goes_to_the_node_that_has_the_name_of_its_node(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(11, "b");
        ASSERT_DONE(tell_node(&c, 12, "a", 1, "boot"));
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        unsigned of_a = 0, of_b = 0;
        NodeId a = NODE(12), b = NODE(11);
        for (size_t i = 0; i < c.registry->pools.items[0].gpus.n; i++) {
                of_a += ID_EQUAL(&c.registry->pools.items[0].gpus.items[i].node, &a);
                of_b += ID_EQUAL(&c.registry->pools.items[0].gpus.items[i].node, &b);
        }
        g_assert_cmpuint(of_a, ==, 4);
        g_assert_cmpuint(of_b, ==, 2);
        g_assert_true(ID_EQUAL(&c.registry->quarantines.items[0].gpu.node, &b));
}

static void test_a_node_with_another_name_now_is_known_by_its_id(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "z");
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        /* NODE(2) is no member: its GPUs would be of nobody. */
        g_assert_cmpuint(c.registry->pools.items[0].gpus.n, ==, 4);
        g_assert_cmpuint(c.registry->quarantines.n, ==, 0);
        g_assert_nonnull(strstr(c.registry->events.items[c.registry->events.n - 1].message, "2 GPUs of nodes"));
}

static void test_two_nodes_of_a_backup_never_become_one(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "b");
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        g_assert_cmpuint(c.registry->pools.items[0].gpus.n, ==, 2);
}

static void test_only_a_cluster_with_nothing_to_lose_imports(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_pool(&c, "mine", 1, 1));
        ASSERT_REFUSED(IN_USE, tell_import(&c, backup.bytes, backup.size));
        ASSERT_DONE(tell_pool_deleted(&c, "mine"));
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        ASSERT_REFUSED(IN_USE, tell_import(&c, backup.bytes, backup.size));
}

static void test_a_backup_of_a_higher_level_is_not_taken(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        lab.registry->level = c.registry->level + 1;
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_import(&c, backup.bytes, backup.size));
        g_assert_cmpuint(c.registry->import.total, ==, 0);
}

static void test_an_import_needs_its_level(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_empty();
        ASSERT_DONE(tell_init(&c, "old"));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot"));
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_import(&c, backup.bytes, backup.size));
        ASSERT_DONE(tell_level(&c, LEVEL_IMPORT));
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
}

static void test_what_is_no_backup_is_refused_and_forgotten(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_new_cluster(1, "a");
        static const uint8_t garbage[] = "this is not a backup of anything";
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import(&c, garbage, sizeof(garbage)));
        g_assert_cmpuint(c.registry->import.total, ==, 0);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import_piece(&c, 1, 0, 3, garbage, 3));
        g_assert_nonnull(strstr(c.sentence, "checksum"));

        _cleanup_(chronicle_clear) Chronicle nothing = chronicle_empty();
        _cleanup_(backup_clear) Backup backup = backup_of(nothing.registry);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import(&c, backup.bytes, backup.size));
        g_assert_null(c.registry->import.items);
}

static void test_pieces_come_in_order(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        uint64_t checksum = bytes_fingerprint(backup.bytes, backup.size);
        size_t half = backup.size / 2;
#define PIECE(sum, offset, total, n) tell_import_piece(&c, (sum), (offset), (total), backup.bytes + (offset), (n))
        ASSERT_REFUSED(CONFLICT, PIECE(checksum, half, backup.size, backup.size - half));
        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        ASSERT_REFUSED(CONFLICT, PIECE(checksum, half + 1, backup.size, 4));
        /* The refusal has dropped what there was. */
        g_assert_cmpuint(c.registry->import.total, ==, 0);
        ASSERT_REFUSED(CONFLICT, PIECE(checksum, half, backup.size, backup.size - half));

        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        ASSERT_REFUSED(CONFLICT, PIECE(checksum + 1, half, backup.size, backup.size - half));
        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        ASSERT_REFUSED(CONFLICT, PIECE(checksum, half, backup.size + 1, backup.size - half));
        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import_piece(&c, checksum, half, backup.size, backup.bytes,
                                                           backup.size - half + 1));
        /* A first piece begins anew, whatever was there. */
        ASSERT_DONE(PIECE(checksum + 1, 0, backup.size + 7, half));
        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        ASSERT_DONE(PIECE(checksum, half, backup.size, backup.size - half));
        g_assert_cmpuint(c.registry->vms.n, ==, 1);
}

static void test_a_piece_and_a_backup_have_a_largest(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_new_cluster(1, "a");
        g_autofree uint8_t *bytes = g_malloc0(IMPORT_CHUNK_MAX + 1);
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import_piece(&c, 1, 0, IMPORT_SIZE_MAX, bytes, IMPORT_CHUNK_MAX + 1));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import_piece(&c, 1, 0, IMPORT_SIZE_MAX, bytes, 0));
        ASSERT_REFUSED(INVALID_ARGUMENT, tell_import_piece(&c, 1, 0, 0, bytes, 1));
        ASSERT_REFUSED(LIMITS_EXCEEDED, tell_import_piece(&c, 1, 0, IMPORT_SIZE_MAX + 1, bytes, 1));
        ASSERT_DONE(tell_import_piece(&c, 1, 0, IMPORT_SIZE_MAX, bytes, IMPORT_CHUNK_MAX));
}

static void test_what_has_come_in_survives_a_snapshot(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry), snapshot = {};
        uint64_t checksum = bytes_fingerprint(backup.bytes, backup.size);
        size_t half = backup.size / 2;
        ASSERT_DONE(PIECE(checksum, 0, backup.size, half));
        g_assert_cmpint(registry_encode(c.registry, &snapshot.bytes, &snapshot.size), ==, 0);
        c.registry = registry_free(c.registry);
        g_assert_cmpint(registry_decode(snapshot.bytes, snapshot.size, &c.registry), ==, SNAPSHOT_GOOD);
        ASSERT_DONE(PIECE(checksum, half, backup.size, backup.size - half));
        g_assert_cmpuint(c.registry->vms.n, ==, 1);
}

static void test_a_backup_leaves_out_what_no_import_takes(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab();
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        _cleanup_(registry_freep) Registry *back = NULL;
        g_assert_cmpuint(lab.registry->events.n, >, 0);
        g_assert_cmpint(registry_decode(backup.bytes, backup.size, &back), ==, SNAPSHOT_GOOD);
        g_assert_cmpuint(back->events.n + back->requests.n + back->invites.n + back->removed.n, ==, 0);
        g_assert_cmpuint(back->pools.n, ==, lab.registry->pools.n);
        g_assert_cmpuint(back->vms.n, ==, lab.registry->vms.n);
}

static void test_what_came_with_a_level_is_imported_at_that_level(void) {
        _cleanup_(chronicle_clear) Chronicle lab = chronicle_of_a_lab(), c = chronicle_of_a_new_cluster(1, "a");
        ASSERT_DONE(tell_level(&lab, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_vm_model(&lab, 1, "training", 1, "10de:23*"));
        ASSERT_DONE(tell_vm_preemption(&lab, 1, true, true));
        ASSERT_DONE(tell_vm_affinity(&lab, 1, "rather-with", "ernie"));
        _cleanup_(backup_clear) Backup backup = backup_of(lab.registry);
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        ASSERT_REFUSED(LEVEL_TOO_LOW, tell_import(&c, backup.bytes, backup.size));
        g_assert_cmpuint(c.registry->vms.n, ==, 0);
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_import(&c, backup.bytes, backup.size));
        const Vm *vm = vm_told(&c, 1);
        g_assert_cmpstr(vm->model, ==, "10de:23*");
        g_assert_true(vm->preempt && vm->preemptible);
        g_assert_cmpint(vm->affinity[0].kind, ==, AFFINITY_RATHER_WITH);
}

static void test_a_pool_ends_an_import(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_new_cluster(1, "a");
        static const uint8_t byte[1];
        ASSERT_DONE(tell_import_piece(&c, 1, 0, 2, byte, 1));
        g_assert_cmpuint(c.registry->import.total, ==, 2);
        ASSERT_DONE(tell_pool(&c, "mine", 1, 0));
        g_assert_cmpuint(c.registry->import.total, ==, 0);
        g_assert_null(c.registry->import.items);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/registry/import/" #name, test_##name)
        TEST(a_backup_comes_back);
        TEST(a_backup_has_no_secret_and_sends_no_vm_anywhere);
        TEST(a_gpu_goes_to_the_node_that_has_the_name_of_its_node);
        TEST(a_node_with_another_name_now_is_known_by_its_id);
        TEST(two_nodes_of_a_backup_never_become_one);
        TEST(only_a_cluster_with_nothing_to_lose_imports);
        TEST(a_backup_of_a_higher_level_is_not_taken);
        TEST(an_import_needs_its_level);
        TEST(what_is_no_backup_is_refused_and_forgotten);
        TEST(pieces_come_in_order);
        TEST(a_piece_and_a_backup_have_a_largest);
        TEST(what_has_come_in_survives_a_snapshot);
        TEST(a_backup_leaves_out_what_no_import_takes);
        TEST(what_came_with_a_level_is_imported_at_that_level);
        TEST(a_pool_ends_an_import);
        return g_test_run();
}
