/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "core/describe-internal.h"

static DraftGpu *find_gpu(Draft *draft, PciAddress address) {
        ARRAY_EACH(gpu, &draft->gpus)
                if (pci_address_equal(gpu->identity.address, address))
                        return gpu;
        return NULL;
}

static int add_affinity(Reader *reader, Vm *vm, const char *kind) {
        Affinity made = {};
        char *other;
        int r = read_name(reader, kind, &other);
        if (r != DESCRIBE_READ)
                return r;
        if (vm->n_affinity >= AFFINITY_MAX)
                return refuse(reader, "a VM is bound to at most %u others", AFFINITY_MAX);
        Affinity *grown = realloc(vm->affinity, (vm->n_affinity + 1) * sizeof(made));
        if (!grown)
                return -ENOMEM;
        vm->affinity = grown;
        r = affinity_kind_from_text(kind, &made.kind);
        if (r >= 0)
                r = text_set(&made.vm, other);
        vm->affinity[vm->n_affinity++] = made;
        return r < 0 ? r : DESCRIBE_READ;
}

static int add_preferred(Reader *reader, Vm *vm) {
        char *name;
        int r = read_name(reader, "prefers", &name);
        if (r == DESCRIBE_READ && vm->preferred_nodes.n >= PREFERRED_NODES_MAX)
                return refuse(reader, "a VM prefers at most %u nodes", PREFERRED_NODES_MAX);
        return r == DESCRIBE_READ ? text_list_add(&vm->preferred_nodes, name) : r;
}

static int add_note(Reader *reader, Vm *vm) {
        PlacementNote note = { .chosen = true };
        char *name;
        int r = read_name(reader, "ran", &name);
        if (r != DESCRIBE_READ)
                return r;
        if (vm->n_notes > 0)
                return refuse(reader, "a VM ran on one node last; \"ran\" stands once");
        vm->notes = calloc(1, sizeof(note));
        if (!vm->notes)
                return -ENOMEM;
        r = text_set(&note.node, name);
        vm->notes[vm->n_notes++] = note;
        return r < 0 ? r : DESCRIBE_READ;
}

static int read_node_id(Reader *reader, const char *after, NodeId *ret) {
        size_t node;
        int r = read_node_name(reader, after, &node);
        if (r == DESCRIBE_READ)
                *ret = described_node_id(node);
        return r;
}

static int add_assigned(Reader *reader, Vm *vm, size_t node, const char *word) {
        PciAddress address;
        char text[PCI_ADDRESS_TEXT_SIZE];
        if (pci_address_from_text(word, &address) < 0)
                return refuse(reader, "\"%.*s\" is no PCI address, and behind \"on\" there are only those",
                              WORD_SHOWN_MAX, word);
        pci_address_to_text(address, text);
        DraftGpu *gpu = find_gpu(reader->drafts.items + node, address);
        if (!gpu)
                return refuse(reader, "node %s has no GPU %s; its line must stand above",
                              reader->described->registry->nodes.items[node].name, text);
        if (gpu->taken_in_line > 0)
                return refuse(reader, "GPU %s is the VM's of line %u already", text, gpu->taken_in_line);
        AssignedGpu *grown = realloc(vm->assignment.gpus, (vm->assignment.n_gpus + 1) * sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        vm->assignment.gpus = grown;
        grown[vm->assignment.n_gpus++] = (AssignedGpu) { .gpu = gpu->identity, .iommu_group = gpu->iommu_group };
        gpu->taken_in_line = reader->line;
        return DESCRIBE_READ;
}

/* All that is left of the line. */
static int read_assignment(Reader *reader, Vm *vm) {
        size_t node;
        char *word;
        int r = read_node_name(reader, "on", &node);
        if (r == DESCRIBE_READ)
                r = must_have_word(reader, "on NODE", &word);
        if (r != DESCRIBE_READ)
                return r;
        if (text_equal(word, "starting"))
                vm->assignment.phase = ASSIGNMENT_STARTING;
        else if (text_equal(word, "running"))
                vm->assignment.phase = ASSIGNMENT_RUNNING;
        else if (text_equal(word, "stopping"))
                vm->assignment.phase = ASSIGNMENT_STOPPING;
        else
                return refuse(reader, "behind \"on\" and the node stands starting, running or stopping");
        vm->assignment.node = described_node_id(node);
        vm->assignment.incarnation = 1;
        vm->assignment.ran = vm->assignment.phase != ASSIGNMENT_STARTING;
        vm->epoch = 1;
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = vm->assignment.n_gpus < GPUS_PER_VM_MAX
                            ? add_assigned(reader, vm, node, word)
                            : refuse(reader, "a VM has at most %u GPUs", GPUS_PER_VM_MAX);
        return r;
}

static int read_vm_pool(Reader *reader, Vm *vm) {
        char *name;
        int r = read_name(reader, "pool", &name);
        return r == DESCRIBE_READ ? text_set(&vm->pool, name) : r;
}

static int read_model(Reader *reader, Vm *vm) {
        char *model;
        int r = must_have_word(reader, "model", &model);
        if (r == DESCRIBE_READ && !vm_model_is_valid(model))
                return refuse(reader, "\"model\" takes VENDOR:DEVICE in hexadecimal digits, ? and *, as 10de:23*, not "
                              "\"%.*s\"", WORD_SHOWN_MAX, model);
        return r == DESCRIBE_READ ? text_set(&vm->model, model) : r;
}

static int read_vm_word(Reader *reader, Vm *vm, const char *word) {
        AffinityKind kind;
        int64_t number;
        int r;
        if (text_equal(word, "pool"))
                return read_vm_pool(reader, vm);
        if (text_equal(word, "count"))
                return read_u32(reader, word, 1, GPUS_PER_VM_MAX, &vm->count);
        if (text_equal(word, "priority")) {
                r = read_number(reader, word, VM_PRIORITY_MIN, VM_PRIORITY_MAX, &number);
                if (r == DESCRIBE_READ)
                        vm->priority = (int32_t) number;
                return r;
        }
        if (text_equal(word, "stopped")) {
                vm->run = false;
                return DESCRIBE_READ;
        }
        if (text_equal(word, "failed"))
                return set_flag(&vm->failed);
        if (text_equal(word, "displaced"))
                return text_set(&vm->reason_code, end_cause_to_text(END_NODE_LOST));
        if (text_equal(word, "prefers"))
                return add_preferred(reader, vm);
        if (affinity_kind_from_text(word, &kind) >= 0)
                return add_affinity(reader, vm, word);
        if (text_equal(word, "ran"))
                return add_note(reader, vm);
        if (text_equal(word, "target"))
                return read_node_id(reader, word, &vm->target);
        if (text_equal(word, "home"))
                return read_node_id(reader, word, &vm->home);
        if (text_equal(word, "on"))
                return read_assignment(reader, vm);
        if (text_equal(word, "model"))
                return read_model(reader, vm);
        if (text_equal(word, "preempt"))
                return set_flag(&vm->preempt);
        if (text_equal(word, "preemptible"))
                return set_flag(&vm->preemptible);
        return read_vm_need(reader, &vm->needs, word);
}

int read_vm(Reader *reader) {
        Registry *registry = reader->described->registry;
        size_t index = registry->vms.n;
        Vm made = { .count = 1, .priority = VM_PRIORITY_DEFAULT, .restart = RESTART_ON_FAILURE, .run = true };
        char *name, *word;
        if (index >= VMS_MAX)
                return refuse(reader, "a cluster has at most %u VMs", VMS_MAX);
        int r = read_name(reader, "vm", &name);
        if (r == DESCRIBE_READ)
                r = add_name(reader, &reader->vms, "VM", name, index);
        if (r != DESCRIBE_READ)
                return r;
        for (size_t i = 0; i < 4; i++)
                made.id.bytes[3 - i] = (uint8_t) ((index + 1) >> (8 * i));
        r = text_set(&made.name, name);
        if (r >= 0)
                r = array_append(&registry->vms, &made);
        if (r < 0) {
                vm_clear(&made);
                return r;
        }
        Vm *vm = registry->vms.items + index;
        while (r == DESCRIBE_READ && (word = next_word(reader)))
                r = read_vm_word(reader, vm, word);
        if (r == DESCRIBE_READ && !vm->pool)
                return refuse(reader, "VM %s needs a pool: vm %s pool NAME count N", name, name);
        return r;
}
