/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands that say who runs a VM: the last guard of P1 (never twice) and P2 (never shared). */

#include <errno.h>

#include "core/mutant.h"
#include "core/names.h"
#include "core/registry-internal.h"

int assigned_gpus_read(Assignment *assignment, Gpupool1__AssignedGpu *const *messages, size_t n) {
        AssignedGpu *gpus = calloc(n + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int r = gpu_message_read(messages[i]->gpu, &gpus[i].gpu);
                if (r < 0) {
                        free(gpus);
                        return r;
                }
                gpus[i].iommu_group = messages[i]->iommu_group;
        }
        free(assignment->gpus);
        assignment->gpus = gpus;
        assignment->n_gpus = n;
        return 0;
}

int notes_read(Vm *vm, Gpupool1__PlacementNote *const *messages, size_t n) {
        PlacementNote *notes = calloc(n + 1, sizeof(*notes));
        if (!notes)
                return -ENOMEM;
        Vm made = { .notes = notes };
        for (size_t i = 0; i < n; i++) {
                notes[i].chosen = messages[i]->chosen;
                int r = text_set(&notes[i].node, messages[i]->node);
                if (r >= 0)
                        r = text_set(&notes[i].why, messages[i]->why);
                made.n_notes++;
                if (r < 0) {
                        vm_notes_clear(&made);
                        return r;
                }
        }
        vm_notes_clear(vm);
        vm->notes = made.notes;
        vm->n_notes = made.n_notes;
        return 0;
}

size_t vm_notes_size(const Vm *vm) {
        size_t size = 0;
        for (size_t i = 0; i < vm->n_notes; i++)
                size += placement_note_size(vm->notes[i].node, vm->notes[i].why);
        return size;
}

/* The notes of a decision take the place of the last one's. Where the room for all is used up, only that of the chosen
 * node is kept, without a reason: no VM stays down for a note. */
static int take_notes(Registry *registry, Vm *vm, const Gpupool1__Assign *command) {
        size_t before = vm_notes_size(vm), after = 0;
        const Gpupool1__PlacementNote *chosen = NULL;
        for (size_t i = 0; i < command->n_notes; i++) {
                after += placement_note_size(command->notes[i]->node, command->notes[i]->why);
                if (command->notes[i]->chosen && !chosen)
                        chosen = command->notes[i];
        }

        int r;
        if (registry->notes_total - before + after <= NOTES_TOTAL_MAX)
                r = notes_read(vm, command->notes, command->n_notes);
        else {
                Gpupool1__PlacementNote note = GPUPOOL1__PLACEMENT_NOTE__INIT, *pointer = &note;
                bool keep = chosen && strlen(chosen->node) <= NAME_LENGTH_MAX;
                note.chosen = true;
                note.node = keep ? chosen->node : note.node;
                r = notes_read(vm, &pointer, keep ? 1 : 0);
        }
        if (r >= 0)
                registry->notes_total += vm_notes_size(vm) - before;
        return r;
}

static bool notes_are_printable(const Gpupool1__Assign *command) {
        for (size_t i = 0; i < command->n_notes; i++)
                if (!text_is_printable(command->notes[i]->node) || !text_is_printable(command->notes[i]->why))
                        return false;
        return true;
}

static int refuse_gpu(Apply *apply, Verdict verdict, const Vm *vm, const GpuIdentity *gpu, const char *why,
                      const char *who) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        return apply_refuse(apply, verdict, "VM %s cannot have GPU %s:%s: %s%s", vm->name,
                            apply_node_name(apply, &gpu->node), address, why, who);
}

/* What sits in one slot is one device, whatever was read of it at the time. */
static bool same_slot(const GpuIdentity *a, const GpuIdentity *b) {
        return ID_EQUAL(&a->node, &b->node) && text_equal(a->slot, b->slot);
}

static const Vm *find_vm_in_slot(const Registry *registry, const GpuIdentity *gpu) {
        ARRAY_EACH(vm, &registry->vms)
                for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                        if (same_slot(&vm->assignment.gpus[i].gpu, gpu))
                                return vm;
        return NULL;
}

/* May @vm have this GPU, beside the @i GPUs before it? 1: yes; 0: refused; or -ENOMEM. */
static int check_gpu(Apply *apply, const Vm *vm, const NodeId *node, const Assignment *wanted, size_t i) {
        const Registry *registry = apply->registry;
        const AssignedGpu *assigned = wanted->gpus + i;
        const GpuIdentity *gpu = &assigned->gpu;
        const Pool *pool = registry_find_pool(registry, vm->pool);
        const Vm *holder;
        int r;

        if (!ID_EQUAL(&gpu->node, node))
                r = refuse_gpu(apply, VERDICT_INVALID_ARGUMENT, vm, gpu, "it is on another node", "");
        else if (!pool || !pool_has(pool, gpu))
                r = refuse_gpu(apply, VERDICT_CONFLICT, vm, gpu, "it is not in pool ", vm->pool);
        else if (!vm_model_matches(vm, gpu->vendor, gpu->device))
                r = refuse_gpu(apply, VERDICT_CONFLICT, vm, gpu, "it is no ", vm->model);
        else if (registry_find_quarantine(registry, gpu))
                r = refuse_gpu(apply, VERDICT_QUARANTINED, vm, gpu, "it is in quarantine", "");
        else if ((holder = find_vm_in_slot(registry, gpu)) && !MUTANT(GPU_TWICE))
                r = refuse_gpu(apply, VERDICT_IN_USE, vm, gpu, "it runs VM ", holder->name);
        else if ((holder = registry_find_vm_of_group(registry, node, assigned->iommu_group)) && !MUTANT(GPU_TWICE))
                r = refuse_gpu(apply, VERDICT_IN_USE, vm, gpu, "another device of its IOMMU group runs VM ",
                               holder->name);
        else {
                for (size_t j = 0; j < i; j++)
                        if (same_slot(&wanted->gpus[j].gpu, gpu)) {
                                r = refuse_gpu(apply, VERDICT_INVALID_ARGUMENT, vm, gpu, "it is named twice", "");
                                return r < 0 ? r : 0;
                        }
                return 1;
        }
        return r < 0 ? r : 0;
}

/* Everything about the assignment but its GPUs. 1: good; 0: refused; or -ENOMEM. */
static int check_assign(Apply *apply, const Vm *vm, const Gpupool1__Assign *command, const NodeRecord *node) {
        int r;
        if (vm->assignment.phase != ASSIGNMENT_NONE && !MUTANT(ASSIGN_TWICE))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is assigned to %s already", vm->name,
                                 apply_node_name(apply, &vm->assignment.node));
        else if (!vm_is_to_run(vm))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is not to run", vm->name);
        else if (command->epoch != vm->epoch + 1 && !MUTANT(ASSIGN_TWICE))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is past epoch %llu", vm->name,
                                 (unsigned long long) command->epoch);
        else if (!node || node->incarnation != command->incarnation)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: the node is not a member in this incarnation",
                                 vm->name);
        else if (node->witness)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is a witness and runs no VM", vm->name,
                                 node->name);
        else if (node->lost && !MUTANT(ASSIGN_TO_LOST))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is lost", vm->name, node->name);
        else if (!node_record_proves_its_end(apply->registry, node))
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "VM %s: node %s has not announced its leases yet, so no time would prove that it is "
                                 "dead: again in a moment", vm->name, node->name);
        else if (node->drain != DRAIN_NONE)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is drained and takes no VM", vm->name,
                                 node->name);
        else if (command->n_gpus != vm->count || command->n_notes > NODES_MAX)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s needs %u GPUs and the assignment has %zu", vm->name,
                                 vm->count, command->n_gpus);
        else if (!notes_are_printable(command))
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: a note of the assignment is not printable",
                                 vm->name);
        else
                return 1;
        return r < 0 ? r : 0;
}

/* "0000:41:00.0, 0000:42:00.0" */
static int list_addresses(const Assignment *assignment, char **ret) {
        for (size_t i = 0; i < assignment->n_gpus; i++) {
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(assignment->gpus[i].gpu.address, address);
                int r = text_append(ret, "%s%s", i ? ", " : "", address);
                if (r < 0)
                        return r;
        }
        return 0;
}

int apply_assign(Apply *apply, const Gpupool1__Assign *command) {
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        NodeId node_id = {};
        if (command->node.len == ID_SIZE)
                memcpy(node_id.bytes, command->node.data, ID_SIZE);
        const NodeRecord *node = registry_find_node(apply->registry, &node_id);
        r = check_assign(apply, vm, command, node);
        if (r <= 0)
                return r;

        _cleanup_(assignment_clear) Assignment wanted = {
                .phase = ASSIGNMENT_STARTING,
                .node = node_id,
                .incarnation = command->incarnation,
                .leased = apply->registry->level >= LEVEL_FAILOVER,
        };
        r = assigned_gpus_read(&wanted, command->gpus, command->n_gpus);
        if (r == -EINVAL)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: a GPU has no valid identity", vm->name);
        for (size_t i = 0; r >= 0 && i < wanted.n_gpus; i++) {
                r = check_gpu(apply, vm, &node_id, &wanted, i);
                if (r <= 0)
                        return r;
        }
        if (r >= 0) {
                r = apply_check_sets(apply, vm, node, &wanted);
                if (r <= 0)
                        return r;
        }
        if (r >= 0)
                r = take_notes(apply->registry, vm, command);
        _cleanup_free_ char *addresses = NULL;
        if (r >= 0)
                r = list_addresses(&wanted, &addresses);
        if (r < 0)
                return r;

        assignment_clear(&vm->assignment);
        vm->assignment = wanted;
        wanted = (Assignment) {};
        vm->epoch = command->epoch;
        vm->target = (NodeId) {};
        if (ID_EQUAL(&vm->home, &node_id))
                vm->home = (NodeId) {};
        return apply_note_vm(apply, "vm-assigned", vm, "vm %s → %s: %s (epoch %llu)", vm->name, node->name, addresses,
                             (unsigned long long) vm->epoch);
}

/* The VM of a node's report, if the report is about the assignment that stands. */
static Vm *find_reported(Apply *apply, const ProtobufCBinaryData *vm_id, const ProtobufCBinaryData *node,
                         uint64_t incarnation, uint64_t epoch, int *ret_r) {
        Vm *vm = apply_find_vm(apply, vm_id, ret_r);
        if (!vm)
                return NULL;
        *ret_r = apply_check_own_word(apply, node);
        if (*ret_r <= 0)
                return NULL;
        if (vm->assignment.phase != ASSIGNMENT_NONE && node->len == ID_SIZE &&
            memcmp(node->data, vm->assignment.node.bytes, ID_SIZE) == 0 && incarnation == vm->assignment.incarnation &&
            (epoch == vm->epoch || MUTANT(NO_EPOCH_CHECK)))
                return vm;
        *ret_r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: the report is not about the assignment that stands",
                              vm->name);
        return NULL;
}

int apply_report_running(Apply *apply, const Gpupool1__ReportRunning *command) {
        int r = 0;
        Vm *vm = find_reported(apply, &command->vm, &command->node, command->incarnation, command->epoch, &r);
        if (!vm)
                return r;
        bool first = !vm->assignment.ran;
        vm->assignment.ran = true;
        if (vm->assignment.phase == ASSIGNMENT_STARTING)
                vm->assignment.phase = ASSIGNMENT_RUNNING;
        if (!first)
                return 0;
        return apply_note_vm(apply, "vm-running", vm, "vm %s running on %s", vm->name,
                             apply_node_name(apply, &vm->assignment.node));
}

int apply_report_ended(Apply *apply, const Gpupool1__ReportEnded *command) {
        int r = 0;
        if ((unsigned) command->cause >= END_CAUSE_COUNT || (EndCause) command->cause == END_NODE_LOST ||
            strlen(command->sentence) > TEXT_LENGTH_MAX || !text_is_printable(command->sentence))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "the report of a VM's end is not valid");
        Vm *vm = find_reported(apply, &command->vm, &command->node, command->incarnation, command->epoch, &r);
        if (!vm)
                return r;

        /* Who was asked to stop has stopped, whatever the process said in the end. */
        EndCause cause = vm->assignment.phase == ASSIGNMENT_STOPPING ? END_REQUESTED : (EndCause) command->cause;
        r = vm_ended(vm, cause, command->sentence, command->ran_ms);
        if (r < 0)
                return r;
        assignment_clear(&vm->assignment);
        return apply_note_vm(apply, "vm-ended", vm, "vm %s ended: %s%s%s", vm->name, end_cause_to_text(cause),
                             *command->sentence ? ", " : "", command->sentence);
}

/* Whoever asked for the stop has it, so that the end is no loss; but what was to run again elsewhere lost its place
 * before it was done, and may take what a pool keeps in reserve. */
static EndCause cause_of_loss(const Apply *apply, const Vm *vm) {
        if (vm->assignment.phase != ASSIGNMENT_STOPPING)
                return END_NODE_LOST;
        bool lost = apply->registry->level >= LEVEL_FAILOVER && vm->run && vm->restart != RESTART_NEVER;
        return lost ? END_NODE_LOST : END_REQUESTED;
}

int apply_end_incarnation(Apply *apply, const NodeId *node, uint64_t incarnation, const char *sentence) {
        ARRAY_EACH(vm, &apply->registry->vms) {
                if (vm->assignment.phase == ASSIGNMENT_NONE || !ID_EQUAL(&vm->assignment.node, node) ||
                    vm->assignment.incarnation >= incarnation)
                        continue;
                int r = vm_ended(vm, cause_of_loss(apply, vm), sentence, 0);
                if (r < 0)
                        return r;
                assignment_clear(&vm->assignment);
                r = apply_note_vm(apply, "vm-ended", vm, "vm %s ended: %s", vm->name, sentence);
                if (r < 0)
                        return r;
        }
        return 0;
}
