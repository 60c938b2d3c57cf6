/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake-world.h"

#include <glib.h>

#include "core/names.h"

static NodeId node_id(size_t index) {
        NodeId id = {};
        memset(id.bytes, 0xa0 + (int) index, ID_SIZE);
        return id;
}

static ProtobufCBinaryData bytes_of(const uint8_t *id) {
        return (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) id };
}

static void make_gpu(const NodeId *node, const char *address, GpuFacts *ret) {
        GpuFacts gpu = {
                .class = 0x030200,
                .iommu_group = 10,
                .numa_node = 0,
                .bars = { { .start = UINT64_C(0x200000000), .size = UINT64_C(0x2000000), .prefetchable_64 = true },
                          {},
                          { .start = UINT64_C(0x1000000000), .size = UINT64_C(0x2000000000),
                            .prefetchable_64 = true } },
                .link_speed = g_strdup("32.0 GT/s PCIe"),
                .link_speed_max = g_strdup("32.0 GT/s PCIe"),
                .link_width = 16,
                .link_width_max = 16,
                .vram_bytes = UINT64_C(80) << 30,
                .reset_methods_known = true,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
                .parent = g_strdup("0000:00:01.0"),
                .vendor_name = g_strdup("NVIDIA Corporation"),
                .device_name = g_strdup("GH100 [H100 PCIe]"),
                .driver = g_strdup("nvidia"),
                .iommu_group_type = g_strdup("DMA"),
                .power_state = g_strdup("D0"),
        };
        g_assert_cmpint(pci_address_from_text(address, &gpu.address), ==, 0);
        gpu.iommu_group = gpu.address.bus;
        gpu.sysfs_path = g_strdup_printf("/devices/pci0000:00/0000:00:01.0/%s", address);
        g_assert_cmpint(text_list_add(&gpu.reset_methods, "flr"), ==, 0);
        g_assert_cmpint(text_list_add(&gpu.reset_methods, "bus"), ==, 0);
        gpu.identity = (GpuIdentity) {
                .node = *node, .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de,
                        .subsystem_device = 0x1626,
                .address = gpu.address,
        };
        g_snprintf(gpu.identity.slot, sizeof(gpu.identity.slot), "pci0000:00/01.0/%02x.0", gpu.address.bus);
        g_snprintf(gpu.identity.serial, sizeof(gpu.identity.serial), "13203230%02x", gpu.address.bus);
        *ret = gpu;
}

static NodeFacts *make_node(size_t index, size_t n_gpus) {
        NodeFacts *facts = g_new0(NodeFacts, 1);
        *facts = (NodeFacts) {
                .node = node_id(index),
                .incarnation = 1,
                .boot_id = g_strdup("0123456789abcdef0123456789abcdef"),
                .kernel = g_strdup("6.1.0-18-amd64"),
                .cpu_model = g_strdup("AMD EPYC 9354"),
                .virtualization = g_strdup("none"),
                .memory_total = UINT64_C(512) << 30,
                .memory_free = UINT64_C(300) << 30,
                .hugepages = g_new0(Hugepages, 1),
                .n_hugepages = 1,
                .address_bits = 52,
                .iommu_present = true,
                .vfio_present = true,
                .interrupt_remapping = true,
                .interrupt_remapping_known = true,
                .hypervisor = HYPERVISOR_CONNECTED,
                .guard_connected = true,
                .gpus = g_new0(GpuFacts, n_gpus),
                .n_gpus = n_gpus,
        };
        facts->hugepages[0] = (Hugepages) { .size_bytes = 2 << 20, .total = 64, .free = 60 };
        g_assert_cmpint(text_list_add(&facts->versions, "gpupool 0.1.0"), ==, 0);
        g_assert_cmpint(text_list_add(&facts->versions, "libvirt 9.0.0"), ==, 0);
        for (size_t i = 0; i < n_gpus; i++) {
                g_autofree char *address = g_strdup_printf("0000:%02x:00.0", (unsigned) i + 1);
                make_gpu(&facts->node, address, facts->gpus + i);
        }
        return facts;
}

static void apply_done(FakeWorld *world, const Entry *entry) {
        Result result;
        fake_world_apply(world, entry, &result);
        g_assert_cmpint(result.verdict, ==, VERDICT_DONE);
}

static void apply_as(FakeWorld *world, const NodeId *node, const Entry *entry, Result *ret) {
        EntryAuthor author = GPUPOOL1__AUTHOR__INIT;
        if (entry->author)
                author = *entry->author;
        author.node = bytes_of(node->bytes);
        Entry whole = *entry;
        whole.author = &author;
        whole.format = ENTRY_FORMAT;
        whole.level = entry_level(entry);
        whole.time_ms = (uint64_t) g_get_real_time() / 1000;
        g_assert_cmpint(registry_apply(world->registry, world->registry->index + 1, &whole, ret), ==, 0);
}

static void apply_done_as(FakeWorld *world, const NodeId *node, const Entry *entry) {
        Result result;
        apply_as(world, node, entry, &result);
        if (result.verdict != VERDICT_DONE)
                g_error("%s", result.sentence);
}

/* By itself, with its leases where the cluster knows any. */
static void announce(FakeWorld *world, size_t index, uint32_t level) {
        const NodeFacts *facts = world->nodes[index];
        char name[] = { (char) ('a' + (int) index), '\0' };
        Gpupool1__AnnounceNode announce = GPUPOOL1__ANNOUNCE_NODE__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        announce.node = bytes_of(facts->node.bytes);
        announce.name = name;
        announce.boot_id = facts->boot_id;
        announce.incarnation = 1;
        announce.level = level;
        if (world->registry->level >= LEVEL_FAILOVER) {
                announce.lease_ms = 3000;
                announce.death_ms = 510;
        }
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE;
        entry.announce_node = &announce;
        apply_done_as(world, &facts->node, &entry);
}

/* The cluster's level may just have been raised. */
static void announce_leases(FakeWorld *world) {
        for (size_t i = 0; i < world->n_nodes && world->registry->level >= LEVEL_FAILOVER; i++) {
                const NodeRecord *record = registry_find_node(world->registry, &world->nodes[i]->node);
                if (record && record->lease_ms == 0)
                        announce(world, i, record->level);
        }
}

/* The node of this index, "b" and on, by an invitation of its own. */
static void admit(FakeWorld *world, size_t index, uint32_t level) {
        const NodeFacts *facts = world->nodes[index];
        char name[] = { (char) ('a' + (int) index), '\0' };
        uint8_t hash[HASH_SIZE] = { (uint8_t) index }, id[ID_SIZE] = { (uint8_t) index };
        Gpupool1__CreateInvite invite = GPUPOOL1__CREATE_INVITE__INIT;
        Gpupool1__AdmitNode admit = GPUPOOL1__ADMIT_NODE__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        invite.invite = admit.invite = bytes_of(id);
        invite.secret_hash = admit.secret_hash = admit.key =
                (ProtobufCBinaryData) { .len = HASH_SIZE, .data = hash };
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE;
        entry.create_invite = &invite;
        apply_done(world, &entry);

        admit.node = bytes_of(facts->node.bytes);
        admit.name = name;
        admit.boot_id = facts->boot_id;
        admit.level = level;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE;
        entry.admit_node = &admit;
        apply_done(world, &entry);
}

static void begin(FakeWorld *world) {
        static const uint8_t cluster[ID_SIZE] = { 0xc1, 0x05, 0x7e, 1 };
        Gpupool1__InitCluster init = GPUPOOL1__INIT_CLUSTER__INIT;
        init.cluster = bytes_of(cluster);
        init.name = (char *) "lab";
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER;
        entry.init_cluster = &init;
        apply_done(world, &entry);
        announce(world, 0, LEVEL_SUPPORTED);
        for (size_t i = 1; i < world->n_nodes; i++)
                admit(world, i, LEVEL_SUPPORTED);
}

/* Everybody votes and is heard. */
static void look_at_nodes(FakeWorld *world) {
        for (size_t i = world->world.n_lives; i < world->n_nodes; i++)
                world->lives[i] = (NodeLife) { .node = node_id(i), .role = NODE_VOTER };
        world->world.nodes = (const NodeFacts *const *) world->nodes;
        world->world.n_nodes = world->n_nodes;
        world->world.lives = world->lives;
        world->world.n_lives = world->n_nodes;
}

FakeWorld *fake_world_new(size_t n_gpus) {
        FakeWorld *world = g_new0(FakeWorld, 1);
        g_assert_cmpint(registry_new(&world->registry), ==, 0);
        world->n_nodes = 1 + (n_gpus > 0 ? (n_gpus - 1) / FAKE_GPUS_PER_NODE : 0);
        g_assert_cmpuint(world->n_nodes, <=, FAKE_NODES_MAX);
        world->nodes = g_new0(NodeFacts *, FAKE_NODES_MAX);
        for (size_t i = 0; i < world->n_nodes; i++) {
                size_t n = n_gpus < FAKE_GPUS_PER_NODE ? n_gpus : FAKE_GPUS_PER_NODE;
                world->nodes[i] = make_node(i, n);
                n_gpus -= n;
        }
        world->world = (World) { .registry = world->registry, .local = node_id(0) };
        look_at_nodes(world);
        begin(world);
        return world;
}

void fake_world_admit(FakeWorld *world, uint32_t level, size_t n_gpus) {
        g_assert_cmpuint(world->n_nodes, <, FAKE_NODES_MAX);
        world->nodes[world->n_nodes] = make_node(world->n_nodes, n_gpus);
        admit(world, world->n_nodes++, level);
        look_at_nodes(world);
}

NodeLife *fake_world_live(FakeWorld *world, const char *name) {
        size_t index = (size_t) (name[0] - 'a');
        g_assert_cmpuint(index, <, world->n_nodes);
        return world->lives + index;
}

void fake_world_fence(FakeWorld *world, const char *name, FencedPhase phase, uint32_t tries, const char *said) {
        fenced_node_clear(&world->fenced);
        world->fenced = (FencedNode) { .node = node_id((size_t) (name[0] - 'a')), .phase = phase, .tries = tries };
        g_assert_cmpint(text_set(&world->fenced.said, said), ==, 0);
        world->world.fenced = &world->fenced;
        world->world.n_fenced = 1;
}

FakeWorld *fake_world_free(FakeWorld *world) {
        if (!world)
                return NULL;
        registry_free(world->registry);
        for (size_t i = 0; i < world->n_nodes; i++) {
                node_facts_clear(world->nodes[i]);
                g_free(world->nodes[i]);
        }
        g_free(world->nodes);
        fenced_node_clear(&world->fenced);
        g_free(world);
        return NULL;
}

void fake_world_plug(FakeWorld *world, const char *address) {
        NodeFacts *facts = world->nodes[0];
        GpuFacts gpu;
        make_gpu(&facts->node, address, &gpu);
        facts->gpus = g_renew(GpuFacts, facts->gpus, facts->n_gpus + 1);
        size_t i = 0;
        while (i < facts->n_gpus && pci_address_compare(facts->gpus[i].address, gpu.address) < 0)
                i++;
        memmove(facts->gpus + i + 1, facts->gpus + i, (facts->n_gpus - i) * sizeof(*facts->gpus));
        facts->gpus[i] = gpu;
        facts->n_gpus++;
}

GpuFacts *fake_world_find(FakeWorld *world, const char *address) {
        PciAddress wanted;
        g_assert_cmpint(pci_address_from_text(address, &wanted), ==, 0);
        NodeFacts *facts = world->nodes[0];
        for (size_t i = 0; i < facts->n_gpus; i++)
                if (pci_address_equal(facts->gpus[i].address, wanted))
                        return facts->gpus + i;
        return NULL;
}

void fake_world_unplug(FakeWorld *world, const char *address) {
        NodeFacts *facts = world->nodes[0];
        GpuFacts *gpu = fake_world_find(world, address);
        g_assert_nonnull(gpu);
        gpu_facts_clear(gpu);
        size_t i = (size_t) (gpu - facts->gpus);
        memmove(gpu, gpu + 1, (facts->n_gpus - i - 1) * sizeof(*gpu));
        facts->n_gpus--;
}

void fake_world_apply(FakeWorld *world, const Entry *entry, Result *ret) {
        apply_as(world, &world->nodes[0]->node, entry, ret);
        announce_leases(world);
}

static const Vm *find_vm(const FakeWorld *world, const char *name) {
        const Vm *vm = registry_find_vm_name(world->registry, name);
        g_assert_nonnull(vm);
        return vm;
}

static void assign(FakeWorld *world, const Vm *vm, const NodeFacts *facts) {
        Gpupool1__Gpu gpus[FAKE_VM_GPUS_MAX];
        Gpupool1__AssignedGpu items[FAKE_VM_GPUS_MAX], *pointers[FAKE_VM_GPUS_MAX];
        char addresses[FAKE_VM_GPUS_MAX][PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Assign command = GPUPOOL1__ASSIGN__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        g_assert_cmpuint(vm->count, <=, FAKE_VM_GPUS_MAX);
        g_assert_cmpuint(vm->count, <=, facts->n_gpus);
        for (uint32_t i = 0; i < vm->count; i++) {
                gpu_message_borrow(&facts->gpus[i].identity, addresses[i], gpus + i);
                items[i] = (Gpupool1__AssignedGpu) GPUPOOL1__ASSIGNED_GPU__INIT;
                items[i].gpu = gpus + i;
                items[i].iommu_group = facts->gpus[i].iommu_group;
                pointers[i] = items + i;
        }
        command.vm = bytes_of(vm->id.bytes);
        command.node = bytes_of(facts->node.bytes);
        command.incarnation = facts->incarnation;
        command.epoch = vm->epoch + 1;
        command.gpus = pointers;
        command.n_gpus = vm->count;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_ASSIGN;
        entry.assign = &command;
        apply_done_as(world, &world->nodes[0]->node, &entry);
}

void fake_world_run(FakeWorld *world, const char *vm_name, const char *node) {
        const NodeFacts *facts = world->nodes[node[0] - 'a'];
        const Vm *vm = find_vm(world, vm_name);
        Gpupool1__ReportRunning report = GPUPOOL1__REPORT_RUNNING__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        assign(world, vm, facts);
        report.vm = bytes_of(vm->id.bytes);
        report.node = bytes_of(facts->node.bytes);
        report.incarnation = facts->incarnation;
        report.epoch = vm->epoch;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING;
        entry.report_running = &report;
        apply_done_as(world, &facts->node, &entry);
}

void fake_world_end(FakeWorld *world, const char *vm_name) {
        const Vm *vm = find_vm(world, vm_name);
        NodeId node = vm->assignment.node;
        Gpupool1__ReportEnded report = GPUPOOL1__REPORT_ENDED__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        report.vm = bytes_of(vm->id.bytes);
        report.node = bytes_of(node.bytes);
        report.incarnation = vm->assignment.incarnation;
        report.epoch = vm->epoch;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED;
        entry.report_ended = &report;
        apply_done_as(world, &node, &entry);
}
