/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any command: few names, few GPUs, so that commands meet; good values beside bad ones. */

#include "chronicle.h"

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

static unsigned pick(GRand *random, unsigned n) {
        return (unsigned) g_rand_int_range(random, 0, (gint32) n);
}

static const char *pick_text(GRand *random) {
        static const char *const texts[] = { "", "10de", "23*", "a", "?", "a sentence", "\xff", "\x1b[2J", "ä" };
        return texts[pick(random, ELEMENTS(texts))];
}

static const char *pick_pool(GRand *random) {
        static const char *const names[] = { "training", "inference", "zoo", "ant", "a b", "" };
        if (pick(random, 2))
                return names[0];
        return names[pick(random, 20) == 0 ? 4 + pick(random, 2) : pick(random, 4)];
}

static const char *pick_name(GRand *random) {
        static const char *const names[] = { "bert", "ernie", "kermit", "piggy", "gonzo", "animal", "-" };
        return names[pick(random, ELEMENTS(names))];
}

static unsigned pick_vm(GRand *random) {
        return 1 + pick(random, 6);
}

/* Mostly as it is; at times its serial was not read, or another card is in its slot. */
static GpuIdentity pick_gpu(GRand *random) {
        GpuIdentity gpu = GPU(1 + pick(random, 3), pick(random, 6));
        switch (pick(random, 12)) {
        case 0:
                gpu.serial[0] = '\0';
                break;
        case 1:
                strcpy(gpu.serial, "another");
                break;
        case 2:
                gpu.device = 0x1111;
                break;
        case 3:
                gpu.slot[0] = pick(random, 4) ? gpu.slot[0] : '\0';
                break;
        }
        return gpu;
}

static Gpupool1__PoolPolicy pick_pool_policy(GRand *random) {
        Gpupool1__PoolPolicy policy = GPUPOOL1__POOL_POLICY__INIT;
        policy.set_placement = pick(random, 2);
        policy.placement = (Gpupool1__PlacementKind) pick(random, 3);
        policy.set_reserve = pick(random, 2);
        policy.reserve = pick(random, 10) ? pick(random, 9) : UINT32_MAX;
        policy.set_max_in_use = pick(random, 2);
        policy.max_in_use = pick(random, 9);
        policy.set_after_use = pick(random, 4) == 0;
        policy.after_use = (Gpupool1__AfterUse) pick(random, 3);
        return policy;
}

static void tell_any_pool(Chronicle *c, GRand *random) {
        GpuIdentity gpus[4];
        char addresses[4][PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu messages[4], *pointers[4];
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT, *rules = &rule;
        Gpupool1__PoolPolicy policy = pick_pool_policy(random);
        Gpupool1__CreatePool m = GPUPOOL1__CREATE_POOL__INIT;
        for (size_t i = 0; i < 4; i++) {
                gpus[i] = pick_gpu(random);
                gpu_message_borrow(gpus + i, addresses[i], messages + i);
                pointers[i] = messages + i;
        }
        rule.vendor = (char *) pick_text(random);
        rule.node = (char *) pick_text(random);
        m.name = (char *) pick_pool(random);
        m.gpus = pointers;
        m.n_gpus = pick(random, 5);
        m.rules = &rules;
        m.n_rules = pick(random, 2);
        m.policy = pick(random, 2) ? &policy : NULL;
        (void) TELL(c, CREATE_POOL, m);
}

static void tell_any_pool_policy(Chronicle *c, GRand *random) {
        Gpupool1__PoolPolicy policy = pick_pool_policy(random);
        Gpupool1__SetPoolPolicy m = GPUPOOL1__SET_POOL_POLICY__INIT;
        m.name = (char *) pick_pool(random);
        m.policy = pick(random, 10) ? &policy : NULL;
        (void) TELL(c, SET_POOL_POLICY, m);
}

static void tell_any_vm_policy(Chronicle *c, GRand *random) {
        VmId id = VM(pick_vm(random));
        char *nodes[] = { (char *) "a", (char *) pick_name(random) };
        Gpupool1__Affinity affinity = GPUPOOL1__AFFINITY__INIT, *pointers[] = { &affinity, &affinity };
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        Gpupool1__SetVmPolicy m = GPUPOOL1__SET_VM_POLICY__INIT;
        static const char *const kinds[] = { "with", "with", "apart", "near", "rather-with", "rather-apart" };
        unsigned kind = pick(random, ELEMENTS(kinds));
        affinity.kind = (char *) kinds[kind];
        affinity.vm = (char *) pick_name(random);
        policy.set_priority = pick(random, 2);
        policy.priority = g_rand_int_range(random, -1100, 1100);
        policy.set_restart = pick(random, 2);
        policy.restart = (Gpupool1__RestartKind) pick(random, 4);
        policy.set_preferred_nodes = pick(random, 2);
        policy.preferred_nodes = nodes;
        policy.n_preferred_nodes = pick(random, 3);
        policy.set_affinity = pick(random, 2);
        policy.affinity = pointers;
        policy.n_affinity = pick(random, 3);
        policy.set_preempt = pick(random, 4) == 0;
        policy.preempt = pick(random, 2);
        policy.set_preemptible = pick(random, 4) == 0;
        policy.preemptible = pick(random, 2);
        m.vm = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        m.policy = &policy;
        uint32_t level = c->level;
        if (kind >= 4 || policy.set_preempt || policy.set_preemptible)
                c->level = pick(random, 10) ? LEVEL_PLACEMENT : LEVEL_OLDEST;
        (void) TELL(c, SET_VM_POLICY, m);
        c->level = level;
}

static const char *pick_xml(GRand *random) {
        static const char *const texts[] = {
                "<domain>x</domain>", "no XML at all",
                ("<domain><memory unit='GiB'>64</memory><memoryBacking><hugepages/></memoryBacking><cpu><model>EPYC"
                 "</model></cpu><devices><disk><source file='/srv/a'/></disk></devices></domain>"),
        };
        return texts[pick(random, ELEMENTS(texts))];
}

static const char *pick_model(GRand *random) {
        static const char *const models[] = { "10de:23*", "10de:*", "1002:73bf", "*:*", "", "10de", "10de:233000" };
        return models[pick(random, pick(random, 4) ? 2 : ELEMENTS(models))];
}

/* GPUs of the VM's pool on the claim's node that no VM has. */
static void take_free_gpus(const Chronicle *c, const Vm *vm, Claim *claim) {
        const Pool *pool = vm ? registry_find_pool(c->registry, vm->pool) : NULL;
        size_t n = 0;
        for (size_t i = 0; pool && i < pool->gpus.n && n < claim->n_gpus; i++) {
                const GpuIdentity *gpu = pool->gpus.items + i;
                if (ID_EQUAL(&gpu->node, &claim->node) && !registry_find_vm_of_gpu(c->registry, gpu))
                        claim->gpus[n++] = (AssignedGpu) { .gpu = *gpu, .iommu_group = 10 + gpu->address.bus };
        }
}

/* As the leader would have it, then bent at times. */
static void tell_any_assign(Chronicle *c, GRand *random) {
        unsigned number = pick_vm(random), node = 1 + pick(random, 3);
        const Vm *vm = vm_told(c, number);
        unsigned count = vm && pick(random, 8) ? vm->count : pick(random, 4);
        Claim claim = claim_of(c, number, node, pick(random, 5), count < 6 ? count : 6);
        take_free_gpus(c, vm, &claim);
        switch (pick(random, 12)) {
        case 0:
                claim.epoch += pick(random, 3) - 1;
                break;
        case 1:
                claim.incarnation += pick(random, 3) - 1;
                break;
        case 2:
                claim.gpus[0].iommu_group = g_rand_int_range(random, -1, 17);
                break;
        case 3:
                claim.gpus[0].gpu = pick_gpu(random);
                break;
        case 4:
                claim.gpus[0] = claim.gpus[1];
                break;
        }
        (void) tell_assign(c, &claim);
}

/* Most often one that has a place. */
static unsigned pick_assigned_vm(const Chronicle *c, GRand *random) {
        unsigned vm = pick_vm(random);
        for (unsigned i = 0; i < 6; i++) {
                const Vm *record = vm_told(c, vm);
                if (record && record->assignment.phase != ASSIGNMENT_NONE)
                        break;
                vm = pick_vm(random);
        }
        return vm;
}

/* Mostly the node itself: from another it does not count. */
static void speak_for_yourself(Chronicle *c, GRand *random) {
        if (pick(random, 6))
                c->author = (NodeId) {};
}

static void tell_any_report(Chronicle *c, GRand *random) {
        unsigned number = pick_assigned_vm(c, random);
        if (!vm_told(c, number))
                return;
        speak_for_yourself(c, random);
        if (pick(random, 2))
                (void) tell_running(c, number);
        else
                (void) tell_ended(c, number, (EndCause) pick(random, END_CAUSE_COUNT + 1), pick(random, 2) * 3600000);
}

static void tell_any_node(Chronicle *c, GRand *random) {
        static const char *const names[] = { "a", "b", "c" };
        unsigned node = 1 + pick(random, 3);
        NodeId id = NODE(node);
        const NodeRecord *record = registry_find_node(c->registry, &id);
        uint64_t incarnation = (record ? record->incarnation : 1) + (pick(random, 4) ? 0 : pick(random, 3));
        speak_for_yourself(c, random);
        (void) tell_node(c, node, names[pick(random, 4) ? node - 1 : pick(random, 3)], incarnation,
                         pick(random, 2) ? (record ? record->boot_id : "boot-1") : pick_text(random));
}

/* Mostly an honest joiner; nodes 1 to 3 have the GPUs, 4 and 5 come and go. */
static void tell_any_admission(Chronicle *c, GRand *random) {
        static const char *const names[] = { "a", "b", "c", "d", "e" };
        unsigned node = 1 + pick(random, 5);
        const char *name = names[pick(random, 8) ? node - 1 : pick(random, 5)];
        Admission admission = admission_of(node, 1 + pick(random, 4), name);
        switch (pick(random, 10)) {
        case 0:
                admission.key = KEY(1 + pick(random, 5));
                break;
        case 1:
                admission.secret_hash = SECRET_HASH(1 + pick(random, 4));
                break;
        case 2:
                admission.level = pick(random, 4);
                break;
        case 3:
                admission.witness = true;
                break;
        case 4:
                admission.node.bytes[pick(random, ID_SIZE)]++;
                break;
        }
        (void) tell_admission(c, &admission);
}

/* Some cluster's backup, whole or in two pieces, or only the first. */
static void tell_any_import(Chronicle *c, GRand *random) {
        _cleanup_(chronicle_clear) Chronicle other = chronicle_of_a_vm(1 + pick(random, 2));
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        if (pick(random, 4) == 0)
                other.registry->level = pick(random, 4);
        g_assert_cmpint(registry_encode(other.registry, &bytes, &size), ==, 0);
        uint64_t checksum = bytes_fingerprint(bytes, size);
        size_t first = pick(random, 2) ? size : 1 + pick(random, (unsigned) size);
        if (tell_import_piece(c, checksum, 0, size, bytes, first) != VERDICT_DONE || first == size)
                return;
        checksum += pick(random, 6) == 0;
        if (pick(random, 3))
                (void) tell_import_piece(c, checksum, first, size, bytes + first, size - first);
}

static void tell_any_membership(Chronicle *c, GRand *random) {
        switch (pick(random, 8)) {
        case 0:
        case 1:
        case 2:
                (void) tell_invite(c, 1 + pick(random, 4), pick(random, 2) ? 0 : UINT64_MAX);
                break;
        case 3:
                (void) tell_invite_revoked(c, 1 + pick(random, 4));
                break;
        case 4:
        case 5:
                tell_any_admission(c, random);
                break;
        case 6:
                (void) tell_node_removed(c, pick(random, 8) ? 4 + pick(random, 2) : 1 + pick(random, 3));
                break;
        default:
                (void) tell_level(c, pick(random, 5));
                break;
        }
}

static void tell_any_lease(Chronicle *c, GRand *random) {
        static const uint32_t times[] = { 0, 1, 600, 3000, LEASE_MS_MAX, LEASE_MS_MAX + 1 };
        unsigned node = 1 + pick(random, 3);
        if (!node_told(c, node))
                return;
        speak_for_yourself(c, random);
        uint32_t lease = times[pick(random, 4) ? 3 : pick(random, ELEMENTS(times))];
        (void) tell_lease(c, node, lease, times[pick(random, 6) ? 2 : pick(random, ELEMENTS(times))]);
}

static void tell_any_loss(Chronicle *c, GRand *random) {
        unsigned node = 1 + pick(random, 5);
        const NodeRecord *record = node_told(c, node);
        if (!record || (pick(random, 3) == 0) == record->lost)
                (void) tell_lost(c, node, (LossEvidence) pick(random, LOSS_EVIDENCE_COUNT + 1));
        else {
                speak_for_yourself(c, random);
                (void) tell_back(c, node, pick(random, 2));
        }
}

static void tell_any_fencing(Chronicle *c, GRand *random) {
        static const char *const agents[] = { "", "fence_ipmilan", "../bin/sh", "a b" };
        static const char *const names[] = { NULL, "ip", "pass-word", "", "a=b" };
        (void) tell_fencing(c, 1 + pick(random, 4), agents[pick(random, ELEMENTS(agents))],
                            names[pick(random, ELEMENTS(names))], pick_text(random));
}

static void tell_any_freeze(Chronicle *c, GRand *random) {
        static const uint64_t times[] = { 0, 1, 60000, FREEZE_MS_MAX, (uint64_t) FREEZE_MS_MAX + 1 };
        switch (pick(random, 3)) {
        case 0:
                (void) tell_freeze(c, times[pick(random, ELEMENTS(times))]);
                break;
        case 1:
                (void) tell_thaw(c, pick(random, 2) ? c->registry->freezes : pick(random, 3));
                break;
        default:
                speak_for_yourself(c, random);
                (void) tell_thawed(c, 1 + pick(random, 4));
                break;
        }
}

static void tell_any_of_failover(Chronicle *c, GRand *random) {
        if (pick(random, 10) == 0)
                c->later_ms += FLAP_MS / 2;
        switch (pick(random, 10)) {
        case 0:
                tell_any_lease(c, random);
                break;
        case 1:
        case 2:
                tell_any_loss(c, random);
                break;
        case 3:
                if (pick(random, 2))
                        (void) tell_drained(c, 1 + pick(random, 5), pick(random, 2) * 60000);
                break;
        case 4:
        case 5:
                (void) tell_resumed(c, 1 + pick(random, 5), pick(random, 2));
                break;
        case 6:
                if (pick(random, 2))
                        (void) tell_preempted(c, pick_assigned_vm(c, random), 1 + pick(random, 6), 0);
                break;
        case 7:
                (void) tell_moved(c, pick_assigned_vm(c, random), pick(random, 4), pick(random, 3) == 0);
                break;
        case 8:
                tell_any_fencing(c, random);
                break;
        default:
                tell_any_freeze(c, random);
                break;
        }
}

/* Pairs more often than not; also what is out of order, twice, or alone. */
static void tell_any_fabric(Chronicle *c, GRand *random) {
        static const char *const told[] = { "0+1", "2+3", "0+1 2+3", "1+2", "0+1+2+3", "3", "1+0", "0+1 1+2", "4+5" };
        static const char *const sets[] = {
                "", "alone", "board", "pci0000:00/00.0+pci0000:00/01.0", "pci0000:00/02.0+pci0000:00/03.0+", "pair",
                "pci0000:00/01.0+pci0000:00/02.0+pci0000:00/03.0",
        };
        if (pick(random, 3))
                (void) tell_fabric(c, 1 + pick(random, 4),
                                   told[pick(random, pick(random, 20) ? 3 : ELEMENTS(told))]);
        else
                (void) tell_pool_set(c, pick_pool(random), sets[pick(random, ELEMENTS(sets))]);
}

/* Most often a member. */
static NodeId pick_author(const Chronicle *c, GRand *random) {
        const Registry *registry = c->registry;
        if (registry->nodes.n == 0 || pick(random, 10) == 0)
                return NODE(1 + pick(random, 5));
        return registry->nodes.items[pick(random, (unsigned) registry->nodes.n)].id;
}

void tell_anything(Chronicle *c, GRand *random) {
        GpuIdentity gpu = pick_gpu(random);
        unsigned vm = pick_vm(random);
        if (pick(random, 10) == 0)
                c->request = REQUEST(1 + pick(random, 200));
        if (pick(random, 20) == 0)
                c->not_after = c->index + pick(random, 3);
        c->level = pick(random, 10) == 0 ? 2 + pick(random, 3) : pick(random, 2);
        c->author = pick_author(c, random);
        if (!vm_told(c, vm) && pick(random, 2)) {
                (void) tell_vm(c, vm, pick_name(random), "training", 1 + pick(random, 2));
                return;
        }
        switch (pick(random, 50)) {
        case 0:
                if (id_is_null(c->registry->cluster.bytes) || pick(random, 8) == 0)
                        (void) tell_init_at(c, "lab", pick(random, 5) ? pick(random, 3) : pick(random, 4));
                break;
        case 1:
                tell_any_node(c, random);
                break;
        case 2:
                tell_any_pool(c, random);
                break;
        case 3:
        case 4:
                (void) tell_pool_add(c, pick_pool(random), &gpu);
                break;
        case 5:
                (void) tell_pool_remove(c, pick_pool(random), &gpu);
                break;
        case 6:
                (void) tell_pool_rule(c, pick_pool(random), pick_text(random), pick_text(random), pick_text(random));
                break;
        case 7:
                tell_any_pool_policy(c, random);
                break;
        case 8:
                if (pick(random, 4) == 0)
                        (void) tell_pool_renamed(c, pick_pool(random), pick_pool(random));
                break;
        case 9:
                if (pick(random, 4) == 0)
                        (void) tell_pool_deleted(c, pick_pool(random));
                break;
        case 10:
        case 11:
                (void) tell_vm(c, vm, pick_name(random), pick_pool(random), pick(random, 3));
                break;
        case 12:
                (void) tell_vm_xml(c, vm, pick_name(random), pick(random, 9) ? pick_xml(random) : "");
                break;
        case 13:
                if (pick(random, 3))
                        (void) tell_vm_requirement(c, vm, pick_pool(random), pick(random, 4));
                else
                        (void) tell_vm_model(c, vm, pick_pool(random), pick(random, 4), pick_model(random));
                break;
        case 14:
                tell_any_vm_policy(c, random);
                break;
        case 15:
                if (pick(random, 4) == 0)
                        (void) tell_vm_deleted(c, vm);
                break;
        case 16:
        case 17:
                (void) tell_desired(c, vm, pick(random, 3) ? VM_RUN : (VmDesire) pick(random, 5), pick(random, 5000));
                break;
        case 18:
        case 19:
        case 20:
        case 21:
        case 40:
        case 41:
        case 42:
        case 43:
        case 44:
        case 45:
        case 46:
        case 47:
                tell_any_assign(c, random);
                break;
        case 48:
                if (pick(random, 2))
                        tell_any_fabric(c, random);
                break;
        case 22:
        case 23:
                tell_any_report(c, random);
                break;
        case 24:
                (void) tell_quarantine(c, &gpu, pick_text(random));
                break;
        case 25:
        case 26:
                tell_any_membership(c, random);
                break;
        case 27:
                tell_any_import(c, random);
                break;
        case 28:
        case 29:
        case 30:
        case 31:
        case 32:
        case 33:
        case 34:
        case 35:
                tell_any_of_failover(c, random);
                break;
        default:
                (void) tell_release(c, &gpu);
                break;
        }
}
