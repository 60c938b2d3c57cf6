/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The registry as bytes and back: nothing is lost, and what no registry can have said is not believed. */

#include <stdio.h>

#include "chronicle.h"

typedef struct Bytes {
        uint8_t *data;
        size_t size;
} Bytes;

static void bytes_clear(Bytes *bytes) {
        free(bytes->data);
}

static Bytes encoded(const Registry *registry) {
        Bytes bytes = {};
        g_assert_cmpint(registry_encode(registry, &bytes.data, &bytes.size), ==, 0);
        return bytes;
}

static SnapshotVerdict verdict_on(const void *data, size_t size) {
        _cleanup_(registry_freep) Registry *registry = NULL;
        int r = registry_decode(data, size, &registry);
        g_assert_cmpint(r, >=, 0);
        g_assert_cmpint(r == SNAPSHOT_GOOD, ==, registry != NULL);
        return (SnapshotVerdict) r;
}

static void assert_comes_back_as_it_went(const Registry *registry) {
        _cleanup_(bytes_clear) Bytes first = encoded(registry), second = {};
        _cleanup_(registry_freep) Registry *read = NULL;
        g_assert_cmpint(registry_decode(first.data, first.size, &read), ==, SNAPSHOT_GOOD);
        assert_registry_is_sound(read);
        second = encoded(read);
        g_assert_cmpmem(first.data, first.size, second.data, second.size);
}

static void test_an_empty_registry_comes_back(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        assert_comes_back_as_it_went(c.registry);
}

#define GOLDEN UINT64_C(0x449e0783944a2fe4)

/* Something of everything. */
static Chronicle chronicle_of_everything(void) {
        Chronicle c = chronicle_of_a_vm(2);
        Claim claim = claim_of(&c, 1, 1, 0, 2);
        GpuIdentity gpu = GPU(1, 3), other = GPU(2, 0);
        ASSERT_DONE(tell_node(&c, 2, "b", 3, "boot-b"));
        ASSERT_DONE(tell_pool(&c, "ant", 2, 2));
        ASSERT_DONE(tell_pool_rule(&c, "training", "10de", "23*", "b"));
        ASSERT_DONE(tell_vm(&c, 2, "ernie", "ant", 1));
        ASSERT_DONE(tell_vm_priority(&c, 2, -7));
        ASSERT_DONE(tell_vm_restart(&c, 2, RESTART_NEVER));
        ASSERT_DONE(tell_quarantine(&c, &gpu, "it did not come back"));
        ASSERT_DONE(tell_quarantine(&c, &other, ""));
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_running(&c, 1));
        c.request = REQUEST(1);
        ASSERT_DONE(tell_desired(&c, 1, VM_SHUTDOWN, 1234));
        c.request = REQUEST(2);
        ASSERT_REFUSED(IN_USE, tell_vm_deleted(&c, 1));
        ASSERT_DONE(tell_desired(&c, 2, VM_RUN, 0));
        claim = claim_of(&c, 2, 2, 1, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_ended(&c, 2, END_START_FAILED, 0));
        for (unsigned node = 3; node <= 4; node++) {
                ASSERT_DONE(tell_node(&c, node, node == 3 ? "c" : "d", 1, "boot"));
                ASSERT_DONE(tell_node_removed(&c, node));
        }
        ASSERT_DONE(tell_invite(&c, 1, 1800000000000));
        ASSERT_DONE(tell_level(&c, LEVEL_WITNESS));
        Admission witness = admission_of(5, 1, "w");
        witness.witness = true;
        c.level = LEVEL_WITNESS;
        ASSERT_DONE(tell_admission(&c, &witness));
        ASSERT_DONE(tell_invite(&c, 2, 1800000000000));
        c.level = 0;

        ASSERT_DONE(tell_level(&c, LEVEL_FAILOVER));
        ASSERT_DONE(tell_node(&c, 6, "f", 1, "boot"));
        ASSERT_DONE(tell_lease(&c, 1, TEST_LEASE_MS, TEST_DEATH_MS));
        ASSERT_DONE(tell_vm(&c, 3, "kermit", "training", 1));
        ASSERT_DONE(tell_desired(&c, 3, VM_RUN, 0));
        claim = claim_of(&c, 3, 1, 2, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        ASSERT_DONE(tell_drained(&c, 1, 5000));
        ASSERT_DONE(tell_moved(&c, 3, 6, true));
        ASSERT_DONE(tell_fencing(&c, 1, "fence_ipmilan", "password", "s3cret"));
        ASSERT_DONE(tell_resumed(&c, 6, true));
        ASSERT_DONE(tell_lost(&c, 2, LOSS_BY_WORD));
        ASSERT_DONE(tell_freeze(&c, 60000));
        ASSERT_DONE(tell_level(&c, LEVEL_DEVICES));
        ASSERT_DONE(tell_fabric(&c, 1, "0+1 2+3"));
        ASSERT_DONE(tell_fabric(&c, 6, "4+5+6"));
        ASSERT_DONE(tell_pool_set(&c, "ant", "board"));
        ASSERT_DONE(tell_level(&c, LEVEL_PLACEMENT));
        ASSERT_DONE(tell_vm_model(&c, 2, "ant", 1, "10de:23*"));
        ASSERT_DONE(tell_vm_preemption(&c, 2, true, false));
        ASSERT_DONE(tell_vm_preemption(&c, 3, false, true));
        ASSERT_DONE(tell_vm_affinity(&c, 3, "rather-apart", "ernie"));
        return c;
}

static void test_something_of_everything_comes_back(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_everything();
        assert_comes_back_as_it_went(c.registry);
}

/* The same entries are the same bytes on every machine, whatever its byte order and word size. Of any change to what a
 * registry remembers, its words too, this needs the new value. */
static void test_the_same_entries_are_the_same_bytes_everywhere(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_everything();
        _cleanup_(bytes_clear) Bytes bytes = encoded(c.registry);
        g_assert_cmphex(bytes_fingerprint(bytes.data, bytes.size), ==, GOLDEN);
}

static void test_whatever_was_decided_comes_back(void) {
        for (guint32 seed = 1; seed <= 40; seed++) {
                _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_pool();
                GRand *random = g_rand_new_with_seed(seed);
                for (int i = 0; i < 200; i++)
                        tell_anything(&c, random);
                g_rand_free(random);
                g_test_message("seed %u", seed);
                assert_comes_back_as_it_went(c.registry);
        }
}

/* ---- damage */

static void test_a_truncated_snapshot_is_never_taken_for_whole(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_everything();
        _cleanup_(bytes_clear) Bytes bytes = encoded(c.registry);
        for (size_t size = 0; size < bytes.size; size++) {
                g_autofree uint8_t *part = g_memdup2(bytes.data, size + (size == 0));
                _cleanup_(registry_freep) Registry *read = NULL;
                /* Its items are fields of one message: cut between two it is a smaller one, which the store's
                 * checksum tells apart; it is never more than that. */
                if (registry_decode(part, size, &read) == SNAPSHOT_GOOD)
                        assert_registry_is_sound(read);
        }
}

static void test_garbage_is_no_snapshot(void) {
        static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
        g_assert_cmpint(verdict_on(garbage, sizeof(garbage)), ==, SNAPSHOT_GARBAGE);
        g_assert_cmpint(verdict_on(garbage, 0), ==, SNAPSHOT_GARBAGE);
        g_assert_cmpint(verdict_on("a text file\n", 12), ==, SNAPSHOT_GARBAGE);
}

static void test_a_flipped_bit_breaks_no_promise(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_everything();
        _cleanup_(bytes_clear) Bytes bytes = encoded(c.registry);
        for (size_t i = 0; i < bytes.size; i++) {
                /* The lowest, the highest, and one between: the test is over soon. */
                const unsigned bits[] = { 0, 1 + i % 6, 7 };
                for (size_t b = 0; b < ELEMENTS(bits); b++) {
                        _cleanup_(registry_freep) Registry *read = NULL;
                        bytes.data[i] ^= (uint8_t) (1U << bits[b]);
                        if (registry_decode(bytes.data, bytes.size, &read) == SNAPSHOT_GOOD && bits[b] == 0)
                                assert_registry_is_sound(read);
                        bytes.data[i] ^= (uint8_t) (1U << bits[b]);
                }
        }
}

static void test_a_small_snapshot_that_asks_for_much_memory_is_garbage(void) {
        /* Two bytes each: an empty node. */
        size_t n = 4U * 1024U * 1024U;
        g_autofree uint8_t *bytes = g_malloc(n);
        for (size_t i = 0; i < n; i += 2) {
                bytes[i] = 0x3a;
                bytes[i + 1] = 0x00;
        }
        g_assert_cmpint(verdict_on(bytes, n), ==, SNAPSHOT_GARBAGE);
}

/* ---- what no registry says: a good snapshot is read as a message, bent, and written again */

static Gpupool1__Snapshot *message_of(const Registry *registry) {
        _cleanup_(bytes_clear) Bytes bytes = encoded(registry);
        Gpupool1__Snapshot *message = gpupool1__snapshot__unpack(NULL, bytes.size, bytes.data);
        g_assert_nonnull(message);
        return message;
}

static SnapshotVerdict verdict_on_message(const Gpupool1__Snapshot *message) {
        size_t size = gpupool1__snapshot__get_packed_size(message);
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        gpupool1__snapshot__pack(message, bytes);
        return verdict_on(bytes, size);
}

/* Bends @field to @value, looks, and bends it back. */
#define ASSERT_GARBAGE_WITH(message, field, value)                                                      \
        do {                                                                                            \
                __typeof__((message)->field) _kept = (message)->field;                                  \
                (message)->field = (value);                                                             \
                g_assert_cmpint(verdict_on_message(message), ==, SNAPSHOT_GARBAGE);                     \
                (message)->field = _kept;                                                               \
                g_assert_cmpint(verdict_on_message(message), ==, SNAPSHOT_GOOD);                        \
        } while (0)

#define ASSERT_GARBAGE_SWAPPED(message, row, i, j)                                                      \
        do {                                                                                            \
                __typeof__((message)->row[0]) _first = (message)->row[i];                               \
                (message)->row[i] = (message)->row[j];                                                  \
                (message)->row[j] = _first;                                                             \
                g_assert_cmpint(verdict_on_message(message), ==, SNAPSHOT_GARBAGE);                     \
                (message)->row[j] = (message)->row[i];                                                  \
                (message)->row[i] = _first;                                                             \
        } while (0)

typedef Gpupool1__Snapshot Message;

static void message_free(Message *message) {
        gpupool1__snapshot__free_unpacked(message, NULL);
}
DEFINE_CLEANUP(Message *, message_free);

#define MESSAGE_OF_EVERYTHING(m)                                                        \
        _cleanup_(chronicle_clear) Chronicle everything = chronicle_of_everything();    \
        _cleanup_(message_freep) Message *m = message_of(everything.registry)

static void test_a_newer_snapshot_is_told_from_garbage(void) {
        MESSAGE_OF_EVERYTHING(m);
        m->format = 2;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_NEWER);
        m->format = 0;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        m->format = 1;
        m->level = LEVEL_SUPPORTED + 1;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_NEWER);
}

static void test_items_out_of_order_are_garbage(void) {
        MESSAGE_OF_EVERYTHING(m);
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GOOD);
        ASSERT_GARBAGE_SWAPPED(m, nodes, 0, 1);
        ASSERT_GARBAGE_SWAPPED(m, pools, 0, 1);
        ASSERT_GARBAGE_SWAPPED(m, vms, 0, 1);
        ASSERT_GARBAGE_SWAPPED(m, quarantines, 0, 1);
        ASSERT_GARBAGE_SWAPPED(m, events, 0, 1);
        ASSERT_GARBAGE_SWAPPED(m, pools[1]->gpus, 0, 1);
        ASSERT_GARBAGE_WITH(m, next_event, 0);
        ASSERT_GARBAGE_WITH(m, next_event, m->events[m->n_events - 1]->sequence);
}

static void test_the_same_twice_is_garbage(void) {
        MESSAGE_OF_EVERYTHING(m);
        ASSERT_GARBAGE_WITH(m, nodes[1], m->nodes[0]);
        ASSERT_GARBAGE_WITH(m, pools[1], m->pools[0]);
        ASSERT_GARBAGE_WITH(m, vms[1], m->vms[0]);
        ASSERT_GARBAGE_WITH(m, quarantines[1], m->quarantines[0]);
        ASSERT_GARBAGE_WITH(m, nodes[1]->name, m->nodes[0]->name);
        ASSERT_GARBAGE_WITH(m, vms[1]->name, m->vms[0]->name);
        ASSERT_GARBAGE_WITH(m, pools[0]->gpus[1], m->pools[0]->gpus[0]);
        ASSERT_GARBAGE_WITH(m, pools[0]->gpus[0], m->pools[1]->gpus[0]);         /* in two pools */
}

static void test_nodes_keep_their_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        g_autofree char *longer = g_strnfill(NAME_LENGTH_MAX + 1, 'x');
        ASSERT_GARBAGE_WITH(m, nodes[0]->name, longer);
        ASSERT_GARBAGE_WITH(m, nodes[0]->boot_id, longer);
        ASSERT_GARBAGE_WITH(m, nodes[0]->boot_id, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, nodes[0]->incarnation, 0);
        ASSERT_GARBAGE_WITH(m, nodes[0]->node.len, 3);
        ASSERT_GARBAGE_WITH(m, nodes[0]->addresses[0], (char *) "\x1b[2J");
        ASSERT_GARBAGE_WITH(m, cluster.len, 0);
        ASSERT_GARBAGE_WITH(m, name, (char *) "a b");
}

static void test_pools_keep_their_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        ASSERT_GARBAGE_WITH(m, pools[1]->name, (char *) "-");
        ASSERT_GARBAGE_WITH(m, pools[1]->policy, NULL);
        ASSERT_GARBAGE_WITH(m, pools[1]->policy->reserve, UINT32_MAX);
        ASSERT_GARBAGE_WITH(m, pools[1]->gpus[0]->slot, (char *) "");
        Gpupool1__PoolRule nothing = GPUPOOL1__POOL_RULE__INIT;
        ASSERT_GARBAGE_WITH(m, pools[1]->rules[0], &nothing);
}

static void test_vms_keep_their_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        g_autofree char *larger = g_strnfill(XML_SIZE_MAX + 1, 'x');
        ASSERT_GARBAGE_WITH(m, vms[0]->xml, larger);
        ASSERT_GARBAGE_WITH(m, vms[0]->xml, (char *) "");
        ASSERT_GARBAGE_WITH(m, vms[0]->requirement, NULL);
        ASSERT_GARBAGE_WITH(m, vms[0]->requirement->count, 0);
        ASSERT_GARBAGE_WITH(m, vms[0]->requirement->count, GPUS_PER_VM_MAX + 1);
        ASSERT_GARBAGE_WITH(m, vms[0]->requirement->pool, (char *) "none");
        ASSERT_GARBAGE_WITH(m, vms[0]->policy->priority, VM_PRIORITY_MAX + 1);
        ASSERT_GARBAGE_WITH(m, vms[0]->stop_kind, (Gpupool1__DesireKind) VM_DESIRE_COUNT);
        ASSERT_GARBAGE_WITH(m, vms[0]->reason, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, vms[0]->owner_user, (char *) "\x1b[2J");
}

static void test_below_its_level_nothing_of_placement_is_in_it(void) {
        MESSAGE_OF_EVERYTHING(m);
        Gpupool1__VmPolicy *second = m->vms[1]->policy, *third = m->vms[2]->policy;
        Gpupool1__Requirement *requirement = m->vms[1]->requirement;
        Gpupool1__Affinity *affinity = third->affinity[0];
        ASSERT_GARBAGE_WITH(m, vms[1]->requirement->model, (char *) "h100");
        ASSERT_GARBAGE_WITH(m, vms[2]->policy->affinity[0]->kind, (char *) "near");
        g_assert_true(requirement->set_model && second->set_preempt && third->set_preemptible);

        char *soft = affinity->kind;
        m->level = LEVEL_DEVICES;
        requirement->set_model = second->set_preempt = third->set_preemptible = false;
        affinity->kind = (char *) "apart";
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GOOD);
        ASSERT_GARBAGE_WITH(m, vms[1]->requirement->set_model, true);
        ASSERT_GARBAGE_WITH(m, vms[1]->policy->set_preempt, true);
        ASSERT_GARBAGE_WITH(m, vms[2]->policy->set_preemptible, true);
        affinity->kind = soft;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
}

static void test_assignments_keep_their_promises(void) {
        MESSAGE_OF_EVERYTHING(m);
        ASSERT_GARBAGE_WITH(m, vms[0]->phase, (Gpupool1__AssignmentPhase) ASSIGNMENT_PHASE_COUNT);
        ASSERT_GARBAGE_WITH(m, vms[0]->phase, GPUPOOL1__ASSIGNMENT_PHASE__ASSIGNMENT_PHASE_NONE);
        ASSERT_GARBAGE_WITH(m, vms[0]->n_gpus, 0);
        ASSERT_GARBAGE_WITH(m, vms[0]->epoch, 0);
        ASSERT_GARBAGE_WITH(m, vms[0]->incarnation, 2);
        ASSERT_GARBAGE_WITH(m, vms[0]->node, m->nodes[1]->node);
        ASSERT_GARBAGE_WITH(m, vms[0]->gpus[1], m->vms[0]->gpus[0]);
        ASSERT_GARBAGE_WITH(m, vms[1]->phase, GPUPOOL1__ASSIGNMENT_PHASE__ASSIGNMENT_PHASE_RUNNING);
}

static void test_a_shared_gpu_or_group_is_garbage(void) {
        MESSAGE_OF_EVERYTHING(m);
        Gpupool1__VmRecord *first = m->vms[0], *second = m->vms[1];
        Gpupool1__AssignedGpu *kept = first->gpus[1];
        ProtobufCBinaryData nowhere = second->node;
        second->phase = first->phase;
        second->incarnation = first->incarnation;
        second->node = first->node;
        second->n_gpus = 1;
        second->gpus = first->gpus + 1;
        first->n_gpus = 1;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GOOD);
        second->gpus[0] = first->gpus[0];
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        second->gpus[0] = kept;
        int32_t group = kept->iommu_group;
        kept->iommu_group = first->gpus[0]->iommu_group;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        kept->iommu_group = group;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GOOD);
        first->n_gpus = 2;
        second->n_gpus = 0;
        second->gpus = NULL;
        second->node = nowhere;
}

static void test_members_keep_their_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        ASSERT_GARBAGE_WITH(m, nodes[0]->node.data, (uint8_t *) "\0\0\0\0\0\0\0\0iiiiiiii");
        /* It begins as the first one's. */
        ASSERT_GARBAGE_WITH(m, nodes[1]->node.data, (uint8_t *) "\xa0\0\0\x01\0\0\0\0iiiiiiii");
        ASSERT_GARBAGE_WITH(m, nodes[1]->key.len, HASH_SIZE - 1);
        ASSERT_GARBAGE_WITH(m, nodes[1]->key, m->nodes[2]->key);
        ASSERT_GARBAGE_WITH(m, nodes[1]->level, m->level - 1);
        ASSERT_GARBAGE_WITH(m, nodes[1]->joined_index, m->index + 1);
        g_assert_true(m->nodes[2]->witness);
        g_assert_cmpuint(m->nodes[1]->joined_index, >, 0);
}

static void test_what_failover_knows_keeps_its_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        Gpupool1__NodeRecord *a = m->nodes[0], *lost = m->nodes[1], *witness = m->nodes[2];
        g_autofree char *longer = g_strnfill(TEXT_LENGTH_MAX + 1, 'x');
        uint64_t many[FLAP_LOSSES + 1] = { 1, 2, 3, 4 }, *kept = lost->losses_ms;
        g_assert_cmpuint(a->lease_ms, ==, TEST_LEASE_MS);
        g_assert_true(lost->lost);
        g_assert_cmpuint(m->vms[2]->target.len, ==, ID_SIZE);
        g_assert_cmpuint(m->vms[2]->home.len, ==, ID_SIZE);
        g_assert_true(m->vms[2]->leased);
        ASSERT_GARBAGE_WITH(m, nodes[0]->lease_ms, LEASE_MS_MAX + 1);
        ASSERT_GARBAGE_WITH(m, nodes[0]->lease_ms, 0);
        ASSERT_GARBAGE_WITH(m, nodes[0]->death_ms, 0);
        ASSERT_GARBAGE_WITH(m, nodes[0]->witness, true);
        ASSERT_GARBAGE_WITH(m, nodes[0]->long_lease_ms, a->long_lease_ms - 1);          /* it is frozen */
        ASSERT_GARBAGE_WITH(m, nodes[0]->long_lease_ms, LEASE_ALONE_MS + 1);
        ASSERT_GARBAGE_WITH(m, nodes[0]->lost, true);                                   /* and has VMs */
        ASSERT_GARBAGE_WITH(m, nodes[0]->lost_idle, true);
        ASSERT_GARBAGE_WITH(m, nodes[1]->n_losses_ms, 0);
        ASSERT_GARBAGE_WITH(m, nodes[1]->long_lease_ms, 1);
        ASSERT_GARBAGE_WITH(m, nodes[1]->evidence, (Gpupool1__LossEvidence) LOSS_EVIDENCE_COUNT);
        ASSERT_GARBAGE_WITH(m, nodes[0]->drain, (Gpupool1__DrainCause) DRAIN_CAUSE_COUNT);
        ASSERT_GARBAGE_WITH(m, nodes[0]->fence_agent, (char *) "");
        ASSERT_GARBAGE_WITH(m, nodes[0]->fence_agent, (char *) "../fence");
        ASSERT_GARBAGE_WITH(m, nodes[0]->fence_parameters[0]->name, (char *) "a b");
        ASSERT_GARBAGE_WITH(m, nodes[0]->fence_parameters[0]->value, longer);
        ASSERT_GARBAGE_WITH(m, vms[2]->target.len, 3);
        ASSERT_GARBAGE_WITH(m, vms[2]->home.len, 3);
        ASSERT_GARBAGE_WITH(m, freezes, 0);
        ASSERT_GARBAGE_WITH(m, frozen_ms, (uint64_t) FREEZE_MS_MAX + 1);
        ASSERT_GARBAGE_WITH(m, level, LEVEL_FAILOVER - 1);
        lost->losses_ms = many;
        ASSERT_GARBAGE_WITH(m, nodes[1]->n_losses_ms, ELEMENTS(many));
        lost->losses_ms = kept;
        witness->lease_ms = witness->death_ms = 1;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        witness->lease_ms = witness->death_ms = 0;
}

static void test_below_its_level_nothing_of_failover_is_known(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_of_a_vm(1);
        Claim claim = claim_of(&c, 1, 1, 0, 1);
        ASSERT_DONE(tell_assign(&c, &claim));
        _cleanup_(message_freep) Message *m = message_of(c.registry);
        ASSERT_GARBAGE_WITH(m, nodes[0]->drain, GPUPOOL1__DRAIN_CAUSE__DRAIN_CAUSE_BY_HAND);
        ASSERT_GARBAGE_WITH(m, nodes[0]->fence_agent, (char *) "fence_x");
        ASSERT_GARBAGE_WITH(m, nodes[0]->long_lease_ms, 1);
        ASSERT_GARBAGE_WITH(m, vms[0]->leased, true);
        ASSERT_GARBAGE_WITH(m, freezes, 1);
}

static void test_invitations_and_removed_nodes_keep_their_limits(void) {
        MESSAGE_OF_EVERYTHING(m);
        g_assert_cmpuint(m->n_invites, >=, 2);
        g_assert_cmpuint(m->n_removed, ==, 2);
        ASSERT_GARBAGE_WITH(m, invites[0]->invite.len, 0);
        ASSERT_GARBAGE_WITH(m, invites[0]->invite.data, (uint8_t *) "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        ASSERT_GARBAGE_WITH(m, invites[0]->secret_hash.len, 0);
        ASSERT_GARBAGE_WITH(m, invites[0]->node.len, 3);
        ASSERT_GARBAGE_WITH(m, invites[1], m->invites[0]);
        ASSERT_GARBAGE_WITH(m, removed[0]->node.len, 0);
        ASSERT_GARBAGE_WITH(m, removed[0]->node, m->nodes[0]->node);
        ASSERT_GARBAGE_WITH(m, removed[0]->key.len, 1);
        ASSERT_GARBAGE_WITH(m, removed[0]->name, (char *) "a b");
        ASSERT_GARBAGE_WITH(m, removed[1], m->removed[0]);
}

static void test_an_import_keeps_its_limits(void) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        static const uint8_t byte[4];
        ASSERT_DONE(tell_init_at(&c, "lab", LEVEL_IMPORT));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot"));
        ASSERT_DONE(tell_import_piece(&c, 1, 0, 4, byte, 3));
        assert_comes_back_as_it_went(c.registry);
        _cleanup_(message_freep) Message *m = message_of(c.registry);
        ASSERT_GARBAGE_WITH(m, import->bytes.len, 0);
        ASSERT_GARBAGE_WITH(m, import->total, 3);
        ASSERT_GARBAGE_WITH(m, import->total, 0);
        ASSERT_GARBAGE_WITH(m, import->total, IMPORT_SIZE_MAX + 1);

        MESSAGE_OF_EVERYTHING(full);
        ASSERT_GARBAGE_WITH(full, import, m->import);
}

static void test_what_people_are_shown_is_printable(void) {
        MESSAGE_OF_EVERYTHING(m);
        ASSERT_GARBAGE_WITH(m, events[0]->message, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, events[0]->kind, (char *) "\x1b[2J");
        ASSERT_GARBAGE_WITH(m, events[0]->object, (char *) "\n");
        ASSERT_GARBAGE_WITH(m, events[0]->object_kind, (char *) "thing");
        ASSERT_GARBAGE_WITH(m, events[0]->user, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, events[0]->action, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, events[0]->node.len, 1);
        ASSERT_GARBAGE_WITH(m, requests[1]->sentence, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, requests[1]->verdict, VERDICT_COUNT);
        ASSERT_GARBAGE_WITH(m, requests[1]->verdict, VERDICT_EXPIRED);
        ASSERT_GARBAGE_WITH(m, requests[1]->request_id.len, 0);
        ASSERT_GARBAGE_WITH(m, quarantines[0]->sentence, (char *) "\xff");
        ASSERT_GARBAGE_WITH(m, quarantines[0]->cause, (Gpupool1__QuarantineCause) QUARANTINE_CAUSE_COUNT);
        ASSERT_GARBAGE_WITH(m, quarantines[0]->gpu, NULL);
}

static void test_rows_have_a_longest(void) {
        MESSAGE_OF_EVERYTHING(m);
        g_autofree Gpupool1__EventRecord **events = g_new0(Gpupool1__EventRecord *, EVENTS_MAX + 1);
        g_autofree Gpupool1__RequestRecord **requests = g_new0(Gpupool1__RequestRecord *, REQUESTS_MAX + 1);
        g_autofree Gpupool1__EventRecord *row = g_new0(Gpupool1__EventRecord, EVENTS_MAX + 1);
        for (size_t i = 0; i <= EVENTS_MAX; i++) {
                row[i] = *m->events[0];
                row[i].sequence = i + 1;
                events[i] = row + i;
        }
        for (size_t i = 0; i <= REQUESTS_MAX; i++)
                requests[i] = m->requests[0];
        Gpupool1__EventRecord **kept_events = m->events;
        Gpupool1__RequestRecord **kept_requests = m->requests;
        size_t n_events = m->n_events, n_requests = m->n_requests;
        m->next_event = EVENTS_MAX + 1;
        m->events = events;
        m->requests = requests;
        m->n_events = EVENTS_MAX;
        m->n_requests = REQUESTS_MAX;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GOOD);
        m->n_events++;
        m->next_event++;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        m->n_events--;
        m->next_event--;
        m->n_requests++;
        g_assert_cmpint(verdict_on_message(m), ==, SNAPSHOT_GARBAGE);
        m->events = kept_events;
        m->requests = kept_requests;
        m->n_events = n_events;
        m->n_requests = n_requests;
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/snapshot/" #name, test_##name)
        TEST(an_empty_registry_comes_back);
        TEST(something_of_everything_comes_back);
        TEST(the_same_entries_are_the_same_bytes_everywhere);
        TEST(whatever_was_decided_comes_back);
        TEST(a_truncated_snapshot_is_never_taken_for_whole);
        TEST(garbage_is_no_snapshot);
        TEST(a_flipped_bit_breaks_no_promise);
        TEST(a_small_snapshot_that_asks_for_much_memory_is_garbage);
        TEST(a_newer_snapshot_is_told_from_garbage);
        TEST(items_out_of_order_are_garbage);
        TEST(the_same_twice_is_garbage);
        TEST(nodes_keep_their_limits);
        TEST(pools_keep_their_limits);
        TEST(vms_keep_their_limits);
        TEST(below_its_level_nothing_of_placement_is_in_it);
        TEST(assignments_keep_their_promises);
        TEST(a_shared_gpu_or_group_is_garbage);
        TEST(members_keep_their_limits);
        TEST(what_failover_knows_keeps_its_limits);
        TEST(below_its_level_nothing_of_failover_is_known);
        TEST(invitations_and_removed_nodes_keep_their_limits);
        TEST(an_import_keeps_its_limits);
        TEST(what_people_are_shown_is_printable);
        TEST(rows_have_a_longest);
        return g_test_run();
}
