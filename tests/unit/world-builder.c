/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world-builder.h"

#include <glib.h>

#define MUST(expression) g_assert_cmpint((expression), >=, 0)

static NodeId node_id(size_t index) {
        NodeId id = {};
        id.bytes[ID_SIZE - 2] = (uint8_t) ((index + 1) >> 8);
        id.bytes[ID_SIZE - 1] = (uint8_t) (index + 1);
        return id;
}

/* a to z, then n26 and on. */
static void set_node_name(char **name, size_t index) {
        if (index < 26)
                MUST(text_printf(name, "%c", (char) ('a' + index)));
        else
                MUST(text_printf(name, "n%zu", index));
}

static NodeFacts *facts_new(const NodeId *id) {
        NodeFacts *facts = g_new0(NodeFacts, 1);
        *facts = (NodeFacts) {
                .node = *id,
                .incarnation = 1,
                .memory_total = UINT64_C(512) << 30,
                .memory_free = UINT64_C(512) << 30,
                .address_bits = 46,
                .iommu_present = true,
                .vfio_present = true,
                .interrupt_remapping = true,
                .interrupt_remapping_known = true,
                .hypervisor = HYPERVISOR_CONNECTED,
                .guard_connected = true,
        };
        MUST(text_set(&facts->boot_id, "00000000-0000-0000-0000-000000000001"));
        MUST(text_set(&facts->virtualization, "none"));
        return facts;
}

WorldBuilder *world_of(size_t n_nodes) {
        WorldBuilder *w = g_new0(WorldBuilder, 1);
        MUST(registry_new(&w->registry));
        w->registry->cluster.bytes[0] = 1;
        w->registry->level = 1;
        MUST(text_set(&w->registry->name, "lab"));
        w->facts = g_new0(NodeFacts *, n_nodes + 1);
        w->known = g_new0(const NodeFacts *, n_nodes + 1);
        for (size_t i = 0; i < n_nodes; i++) {
                NodeRecord node = { .id = node_id(i), .incarnation = 1, .level = 1 };
                set_node_name(&node.name, i);
                MUST(array_append(&w->registry->nodes, &node));
                w->facts[i] = facts_new(&node.id);
                w->known[i] = w->facts[i];
        }
        w->n_nodes = n_nodes;
        w->world = (World) {
                .registry = w->registry,
                .nodes = w->known,
                .n_nodes = n_nodes,
                .local = node_id(0),
        };
        return w;
}

WorldBuilder *world_builder_free(WorldBuilder *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n_nodes; i++) {
                node_facts_clear(w->facts[i]);
                g_free(w->facts[i]);
        }
        g_free(w->facts);
        g_free(w->known);
        registry_free(w->registry);
        g_free(w);
        return NULL;
}

const World *world_now(WorldBuilder *w) {
        return &w->world;
}

NodeRecord *node_named(WorldBuilder *w, const char *node) {
        ARRAY_EACH(record, &w->registry->nodes)
                if (text_equal(record->name, node))
                        return record;
        g_error("there is no node %s", node);
}

NodeFacts *facts_of(WorldBuilder *w, const char *node) {
        return w->facts[node_named(w, node) - w->registry->nodes.items];
}

GpuFacts *gpu_of(WorldBuilder *w, const char *node, size_t gpu) {
        NodeFacts *facts = facts_of(w, node);
        g_assert_cmpuint(gpu, <, facts->n_gpus);
        return facts->gpus + gpu;
}

Pool *pool_named(WorldBuilder *w, const char *name) {
        ARRAY_EACH(pool, &w->registry->pools)
                if (text_equal(pool->name, name))
                        return pool;
        g_error("there is no pool %s", name);
}

Vm *vm_named(WorldBuilder *w, const char *name) {
        ARRAY_EACH(vm, &w->registry->vms)
                if (text_equal(vm->name, name))
                        return vm;
        g_error("there is no VM %s", name);
}

void forget_facts(WorldBuilder *w, const char *node) {
        const NodeFacts *facts = facts_of(w, node);
        size_t n = 0;
        for (size_t i = 0; i < w->world.n_nodes; i++)
                if (w->known[i] != facts)
                        w->known[n++] = w->known[i];
        w->world.n_nodes = n;
}

static void fill_gpu(GpuFacts *gpu, const NodeId *node, size_t index) {
        *gpu = (GpuFacts) {
                .identity = {
                        .node = *node,
                        .vendor = 0x10de,
                        .device = 0x2331,
                        .subsystem_vendor = 0x10de,
                        .subsystem_device = 0x1626,
                },
                .address = { .bus = (uint8_t) (0x41 + index) },
                .class = 0x030200,
                .iommu_group = (int32_t) (10 + index),
                .bars = {
                        { .start = UINT64_C(0x200000000000), .size = UINT64_C(16) << 20, .prefetchable_64 = true },
                        { .size = 0 },
                        { .start = UINT64_C(0x210000000000), .size = UINT64_C(128) << 30, .prefetchable_64 = true },
                },
                .link_width = 16,
                .link_width_max = 16,
                .reset_methods_known = true,
                .has_reset = true,
                .holders_known = true,
                .config = CONFIG_READABLE,
        };
        g_snprintf(gpu->identity.slot, sizeof(gpu->identity.slot), "pci0000:00/%02zx.0/00.0", index + 1);
        gpu->identity.address = gpu->address;
        MUST(text_printf(&gpu->sysfs_path, "/devices/pci0000:00/0000:00:%02zx.0/0000:%02zx:00.0", index + 1,
                         0x41 + index));
        MUST(text_set(&gpu->vendor_name, "NVIDIA Corporation"));
        MUST(text_set(&gpu->device_name, "GH100 [H100 PCIe]"));
        MUST(text_set(&gpu->iommu_group_type, "DMA"));
        MUST(text_set(&gpu->link_speed, "32.0 GT/s PCIe"));
        MUST(text_set(&gpu->link_speed_max, "32.0 GT/s PCIe"));
        MUST(text_set(&gpu->power_state, "D0"));
        MUST(text_list_add(&gpu->reset_methods, "flr"));
}

void with_gpus(WorldBuilder *w, const char *node, size_t n_gpus) {
        NodeFacts *facts = facts_of(w, node);
        facts->gpus = realloc(facts->gpus, (facts->n_gpus + n_gpus + 1) * sizeof(*facts->gpus));
        g_assert_nonnull(facts->gpus);
        for (size_t i = 0; i < n_gpus; i++, facts->n_gpus++)
                fill_gpu(facts->gpus + facts->n_gpus, &facts->node, facts->n_gpus);
}

void behind_switch(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, const char *switch_address) {
        for (size_t i = first_gpu; i < first_gpu + n_gpus; i++)
                MUST(text_set(&gpu_of(w, node, i)->switch_address, switch_address));
}

void on_numa_node(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, int32_t numa_node) {
        for (size_t i = first_gpu; i < first_gpu + n_gpus; i++)
                gpu_of(w, node, i)->numa_node = numa_node;
}

void linked(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus) {
        for (size_t i = first_gpu; i < first_gpu + n_gpus; i++)
                for (size_t j = first_gpu; j < first_gpu + n_gpus; j++) {
                        char address[PCI_ADDRESS_TEXT_SIZE];
                        pci_address_to_text(gpu_of(w, node, j)->address, address);
                        if (i != j)
                                MUST(text_list_add(&gpu_of(w, node, i)->siblings, address));
                }
}

void unplugged(WorldBuilder *w, const char *node, size_t gpu) {
        NodeFacts *facts = facts_of(w, node);
        gpu_facts_clear(gpu_of(w, node, gpu));
        array_remove_bytes(facts->gpus, &facts->n_gpus, gpu, sizeof(*facts->gpus));
}

void quarantined(WorldBuilder *w, const char *node, size_t gpu) {
        Quarantine quarantine = { .gpu = gpu_of(w, node, gpu)->identity, .cause = QUARANTINE_BY_HAND };
        size_t place = 0;
        while (place < w->registry->quarantines.n &&
               gpu_identity_compare(&w->registry->quarantines.items[place].gpu, &quarantine.gpu) < 0)
                place++;
        MUST(array_insert(&w->registry->quarantines, place, &quarantine));
}

static void add_to_pool(WorldBuilder *w, Pool *pool, const char *word) {
        char **parts = g_strsplit(word, ":", 2);
        NodeFacts *facts = facts_of(w, parts[0]);
        if (parts[1])
                MUST(pool_add(pool, &gpu_of(w, parts[0], (size_t) g_ascii_strtoull(parts[1], NULL, 10))->identity));
        else
                for (size_t i = 0; i < facts->n_gpus; i++)
                        MUST(pool_add(pool, &facts->gpus[i].identity));
        g_strfreev(parts);
}

Pool *pool_of(WorldBuilder *w, const char *name, const char *nodes_or_gpus) {
        Pool made = {};
        MUST(text_set(&made.name, name));
        char **words = g_strsplit(nodes_or_gpus, " ", -1);
        for (char **word = words; *word; word++)
                if (**word)
                        add_to_pool(w, &made, *word);
        g_strfreev(words);

        size_t place = 0;
        while (place < w->registry->pools.n && strcmp(w->registry->pools.items[place].name, name) < 0)
                place++;
        MUST(array_insert(&w->registry->pools, place, &made));
        return w->registry->pools.items + place;
}

Vm *vm_of(WorldBuilder *w, const char *name, const char *pool, uint32_t count) {
        Vm made = { .count = count, .restart = RESTART_ON_FAILURE, .run = true };
        made.id.bytes[ID_SIZE - 2] = (uint8_t) ((w->registry->vms.n + 1) >> 8);
        made.id.bytes[ID_SIZE - 1] = (uint8_t) (w->registry->vms.n + 1);
        MUST(text_set(&made.name, name));
        MUST(text_set(&made.pool, pool));
        MUST(array_append(&w->registry->vms, &made));
        return w->registry->vms.items + w->registry->vms.n - 1;
}

void runs(WorldBuilder *w, const char *name, const char *node, const char *gpus) {
        Vm *vm = vm_named(w, name);
        char **words = g_strsplit(gpus, " ", -1);
        size_t n = g_strv_length(words);
        assignment_clear(&vm->assignment);
        vm->assignment = (Assignment) {
                .phase = ASSIGNMENT_RUNNING,
                .node = node_named(w, node)->id,
                .incarnation = 1,
                .gpus = calloc(n + 1, sizeof(AssignedGpu)),
                .n_gpus = n,
                .ran = true,
        };
        vm->epoch++;
        for (size_t i = 0; i < n; i++) {
                const GpuFacts *gpu = gpu_of(w, node, (size_t) g_ascii_strtoull(words[i], NULL, 10));
                vm->assignment.gpus[i] = (AssignedGpu) { .gpu = gpu->identity, .iommu_group = gpu->iommu_group };
        }
        g_strfreev(words);
}

void must_be(WorldBuilder *w, const char *name, const char *with_or_apart, const char *other) {
        Vm *vm = vm_named(w, name);
        Affinity affinity = {};
        MUST(affinity_kind_from_text(with_or_apart, &affinity.kind));
        MUST(text_set(&affinity.vm, other));
        vm->affinity = realloc(vm->affinity, (vm->n_affinity + 1) * sizeof(affinity));
        g_assert_nonnull(vm->affinity);
        vm->affinity[vm->n_affinity++] = affinity;
}

void prefers(WorldBuilder *w, const char *name, const char *node) {
        MUST(text_list_add(&vm_named(w, name)->preferred_nodes, node));
}

void ran_on(WorldBuilder *w, const char *name, const char *node) {
        Vm *vm = vm_named(w, name);
        PlacementNote note = { .chosen = true };
        MUST(text_set(&note.node, node));
        vm->notes = realloc(vm->notes, (vm->n_notes + 1) * sizeof(note));
        g_assert_nonnull(vm->notes);
        vm->notes[vm->n_notes++] = note;
}

void of_model(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, uint16_t device) {
        for (size_t i = first_gpu; i < first_gpu + n_gpus; i++) {
                GpuFacts *gpu = gpu_of(w, node, i);
                gpu->identity.device = device;
                ARRAY_EACH(pool, &w->registry->pools)
                        ARRAY_EACH(member, &pool->gpus)
                                if (ID_EQUAL(&member->node, &gpu->identity.node) &&
                                    text_equal(member->slot, gpu->identity.slot))
                                        member->device = device;
        }
}

void needs_memory(WorldBuilder *w, const char *vm, uint64_t gib) {
        vm_named(w, vm)->needs.memory_bytes = gib << 30;
}

void needs_model(WorldBuilder *w, const char *vm, const char *model) {
        g_assert_cmpint(text_set(&vm_named(w, vm)->model, model), ==, 0);
}

void with_memory(WorldBuilder *w, const char *node, uint64_t gib) {
        facts_of(w, node)->memory_total = gib << 30;
}

void lacks_file(WorldBuilder *w, const char *node, const char *path) {
        const SeenPath seen = { .path = path, .sight = PATH_MISSING };
        uint32_t more;
        path_set_clear(&facts_of(w, node)->missing_paths);
        g_assert_cmpint(path_set_gather(&seen, 1, PATH_MISSING, 1, &facts_of(w, node)->missing_paths, &more), ==, 0);
}

void needs_file(WorldBuilder *w, const char *vm, const char *path) {
        char *copy = NULL;
        g_assert_cmpint(text_set(&copy, path), ==, 0);
        g_assert_cmpint(text_list_add(&vm_named(w, vm)->needs.paths, copy), ==, 0);
        free(copy);
}
