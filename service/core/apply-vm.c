/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands about VMs as their owners give them: what they are, what they need, what they should do. */

#include <errno.h>

#include "core/mutant.h"
#include "core/names.h"
#include "core/registry-internal.h"

/* Above what protobuf puts around a text or two; and more where the kind of an affinity is a long word. All members
 * must reckon alike, so the first one stays as it was before there were such words. */
#define ITEM_OVERHEAD 16U
#define SOFT_OVERHEAD 8U

static size_t preferred_size(const Vm *vm) {
        size_t size = 0;
        for (size_t i = 0; i < vm->preferred_nodes.n; i++)
                size += strlen(vm->preferred_nodes.items[i]) + ITEM_OVERHEAD;
        return size;
}

static size_t affinity_size(const Vm *vm) {
        size_t size = 0;
        for (size_t i = 0; i < vm->n_affinity; i++)
                size += strlen(vm->affinity[i].vm) + ITEM_OVERHEAD +
                        (affinity_kind_is_soft(vm->affinity[i].kind) ? SOFT_OVERHEAD : 0);
        return size;
}

size_t vm_text_size(const Vm *vm) {
        return strlen(vm->xml) + preferred_size(vm) + affinity_size(vm);
}

static bool kind_is_soft(const char *text) {
        AffinityKind kind;
        return affinity_kind_from_text(text, &kind) >= 0 && affinity_kind_is_soft(kind);
}

static size_t policy_size(const Gpupool1__VmPolicy *message) {
        size_t size = 0;
        for (size_t i = 0; message->set_preferred_nodes && i < message->n_preferred_nodes; i++)
                size += strlen(message->preferred_nodes[i]) + ITEM_OVERHEAD;
        for (size_t i = 0; message->set_affinity && i < message->n_affinity; i++)
                size += strlen(message->affinity[i]->vm) + ITEM_OVERHEAD +
                        (kind_is_soft(message->affinity[i]->kind) ? SOFT_OVERHEAD : 0);
        return size;
}

/* May the texts of one VM grow from @before to @after? 1: yes; 0: refused; or -ENOMEM. */
static int check_room(Apply *apply, const char *vm_name, size_t before, size_t after) {
        if (after <= before || apply->registry->xml_total - before + after <= XML_TOTAL_MAX)
                return 1;
        int r = apply_refuse(apply, VERDICT_LIMITS_EXCEEDED,
                             "VM %s: the XML and policies of all VMs together are at most %u MiB", vm_name,
                             XML_TOTAL_MAX >> 20);
        return r < 0 ? r : 0;
}

static int read_affinity(Vm *vm, const Gpupool1__VmPolicy *message) {
        Affinity *list = calloc(message->n_affinity + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        Vm made = { .affinity = list };
        for (size_t i = 0; i < message->n_affinity; i++) {
                int r = affinity_kind_from_text(message->affinity[i]->kind, &list[i].kind);
                if (r >= 0)
                        r = text_set(&list[i].vm, message->affinity[i]->vm);
                made.n_affinity++;
                if (r < 0) {
                        vm_affinity_clear(&made);
                        return r;
                }
        }
        vm_affinity_clear(vm);
        vm->affinity = made.affinity;
        vm->n_affinity = made.n_affinity;
        return 0;
}

static bool policy_is_valid(const Gpupool1__VmPolicy *message) {
        if (message->set_priority && (message->priority < VM_PRIORITY_MIN || message->priority > VM_PRIORITY_MAX))
                return false;
        if (message->set_restart && (unsigned) message->restart >= RESTART_POLICY_COUNT)
                return false;
        if (message->n_preferred_nodes > PREFERRED_NODES_MAX || message->n_affinity > AFFINITY_MAX)
                return false;
        for (size_t i = 0; i < message->n_preferred_nodes; i++)
                if (!name_is_valid(message->preferred_nodes[i]))
                        return false;
        for (size_t i = 0; i < message->n_affinity; i++) {
                const Gpupool1__Affinity *a = message->affinity[i];
                AffinityKind kind;
                if (!name_is_valid(a->vm) || affinity_kind_from_text(a->kind, &kind) < 0)
                        return false;
        }
        return true;
}

int vm_policy_read(Vm *vm, const Gpupool1__VmPolicy *message) {
        if (!message)
                return 0;
        if (!policy_is_valid(message))
                return -EINVAL;

        if (message->set_affinity) {
                int r = read_affinity(vm, message);
                if (r < 0)
                        return r;
        }
        if (message->set_preferred_nodes) {
                text_list_clear(&vm->preferred_nodes);
                for (size_t i = 0; i < message->n_preferred_nodes; i++) {
                        int r = text_list_add(&vm->preferred_nodes, message->preferred_nodes[i]);
                        if (r < 0)
                                return r;
                }
        }
        if (message->set_priority)
                vm->priority = message->priority;
        if (message->set_restart)
                vm->restart = (RestartPolicy) message->restart;
        if (message->set_preempt)
                vm->preempt = message->preempt;
        if (message->set_preemptible)
                vm->preemptible = message->preemptible;
        return 0;
}

int vm_model_read(Vm *vm, const Gpupool1__Requirement *message) {
        if (!message->set_model)
                return 0;
        if (*message->model && !vm_model_is_valid(message->model))
                return -EINVAL;
        return text_set(&vm->model, *message->model ? message->model : NULL);
}

Vm *apply_find_vm(Apply *apply, const ProtobufCBinaryData *id, int *ret_r) {
        VmId vm_id;
        size_t i;
        if (id->len == ID_SIZE) {
                memcpy(vm_id.bytes, id->data, ID_SIZE);
                if (registry_vm_place(apply->registry, &vm_id, &i))
                        return apply->registry->vms.items + i;
        }
        *ret_r = apply_refuse(apply, VERDICT_NOT_FOUND, "there is no such VM (any more)");
        return NULL;
}

/* 1: good; 0: refused; or -ENOMEM. */
static int check_requirement(Apply *apply, const char *vm_name, const Gpupool1__Requirement *requirement) {
        int r;
        if (!requirement || requirement->count < 1 || requirement->count > GPUS_PER_VM_MAX)
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: a requirement is 1 to %u GPUs of a pool",
                                 vm_name, GPUS_PER_VM_MAX);
        else if (!registry_find_pool(apply->registry, requirement->pool))
                r = apply_refuse(apply, VERDICT_NOT_FOUND,
                                 "VM %s needs pool %.*s, which does not exist: create it first", vm_name,
                                 (int) NAME_LENGTH_MAX,
                                 name_is_valid(requirement->pool) ? requirement->pool : "of that name");
        else if (requirement->set_model && *requirement->model && !vm_model_is_valid(requirement->model))
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                 "VM %s: a model is VENDOR:DEVICE in hexadecimal digits, like 10de:2330, with * and ? "
                                 "where any will do", vm_name);
        else
                return 1;
        return r < 0 ? r : 0;
}

/* 1: good; 0: refused; or -ENOMEM. */
static int check_name_and_xml(Apply *apply, const char *name, const char *xml, const Vm *self) {
        const Vm *namesake;
        int r;
        if (!name_is_valid(name))
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                 "a VM's name is 1 to %u letters, digits, dots, dashes and underscores, and begins "
                                 "with a letter "
                                 "or digit",
                                 NAME_LENGTH_MAX);
        else if ((namesake = registry_find_vm_name(apply->registry, name)) && namesake != self)
                r = apply_refuse(apply, VERDICT_EXISTS, "there is a VM %s already", name);
        else if (!*xml || strlen(xml) > XML_SIZE_MAX)
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: domain XML is 1 to %u bytes", name,
                                 XML_SIZE_MAX);
        else
                return 1;
        return r < 0 ? r : 0;
}

static int make_vm(const Apply *apply, const Gpupool1__DefineVm *command, Vm *ret) {
        _cleanup_(vm_clear) Vm vm = { .count = command->requirement->count, .priority = VM_PRIORITY_DEFAULT,
                                         .owner_uid = apply->entry->author->uid };
        memcpy(vm.id.bytes, command->vm.data, ID_SIZE);

        int r = vm_policy_read(&vm, command->policy);
        if (r >= 0)
                r = text_set(&vm.name, command->name);
        if (r >= 0)
                r = text_set(&vm.xml, command->xml);
        if (r >= 0)
                r = text_set(&vm.pool, command->requirement->pool);
        if (r >= 0)
                r = vm_model_read(&vm, command->requirement);
        if (r >= 0)
                r = vm_read_needs(&vm);
        if (r >= 0)
                r = text_set(&vm.owner_user, apply->entry->author->user);
        if (r < 0)
                return r;
        *ret = vm;
        vm = (Vm) {};
        return 0;
}

int apply_define_vm(Apply *apply, const Gpupool1__DefineVm *command) {
        Registry *registry = apply->registry;
        int r = check_name_and_xml(apply, command->name, command->xml, NULL);
        if (r > 0)
                r = check_requirement(apply, command->name, command->requirement);
        if (r <= 0)
                return r;
        if (command->vm.len != ID_SIZE || id_is_null(command->vm.data))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s has no valid UUID", command->name);

        VmId id;
        size_t place;
        memcpy(id.bytes, command->vm.data, ID_SIZE);
        if (registry_vm_place(registry, &id, &place))
                return apply_refuse(apply, VERDICT_EXISTS,
                                    "VM %s has this UUID already: take <uuid> out of the XML of %s",
                                    registry->vms.items[place].name, command->name);
        if (registry->vms.n >= VMS_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "a cluster has at most %u VMs", VMS_MAX);

        if (command->policy && !policy_is_valid(command->policy))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: the policy is not valid", command->name);
        size_t size = strlen(command->xml) + (command->policy ? policy_size(command->policy) : 0);
        r = check_room(apply, command->name, 0, size);
        if (r <= 0)
                return r;

        Vm vm;
        r = make_vm(apply, command, &vm);
        if (r < 0)
                return r;
        r = array_insert(&registry->vms, place, &vm);
        if (r < 0) {
                vm_clear(&vm);
                return r;
        }
        registry->xml_total += size;
        return apply_note_vm(apply, "vm-defined", registry->vms.items + place, "VM %s defined: needs %u of %s%s%s",
                             vm.name, vm.count, vm.pool, vm.model ? ", model " : "", vm.model ? vm.model : "");
}

int apply_update_vm(Apply *apply, const Gpupool1__UpdateVm *command) {
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        r = check_name_and_xml(apply, command->name, command->xml, vm);
        if (r <= 0)
                return r;
        if (vm->assignment.phase != ASSIGNMENT_NONE && !text_equal(vm->name, command->name))
                return apply_refuse(apply, VERDICT_IN_USE, "VM %s runs and cannot be renamed: stop it first", vm->name);

        size_t before = strlen(vm->xml), after = strlen(command->xml);
        r = check_room(apply, command->name, before, after);
        if (r <= 0)
                return r;

        r = text_set(&vm->xml, command->xml);
        if (r >= 0)
                r = vm_read_needs(vm);
        if (r >= 0)
                r = text_set(&vm->name, command->name);
        if (r < 0)
                return r;
        apply->registry->xml_total += after - before;
        return apply_note_vm(apply, "vm-updated", vm, "VM %s has new XML%s", vm->name,
                             vm->assignment.phase == ASSIGNMENT_NONE ? "" : ", from its next start on");
}

int apply_set_requirement(Apply *apply, const Gpupool1__SetRequirement *command) {
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        r = check_requirement(apply, vm->name, command->requirement);
        if (r <= 0)
                return r;

        r = text_set(&vm->pool, command->requirement->pool);
        if (r >= 0)
                r = vm_model_read(vm, command->requirement);
        if (r < 0)
                return r;
        vm->count = command->requirement->count;
        return apply_note_vm(apply, "vm-requirement", vm, "VM %s needs %u of %s%s%s%s", vm->name, vm->count, vm->pool,
                             vm->model ? ", model " : "", vm->model ? vm->model : "",
                             vm->assignment.phase == ASSIGNMENT_NONE ? "" : ", from its next start on");
}

int apply_set_vm_policy(Apply *apply, const Gpupool1__SetVmPolicy *command) {
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        if (!command->policy || !policy_is_valid(command->policy))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s: the policy is not valid", vm->name);
        size_t before = (command->policy->set_preferred_nodes ? preferred_size(vm) : 0) +
                        (command->policy->set_affinity ? affinity_size(vm) : 0);
        size_t after = policy_size(command->policy);
        r = check_room(apply, vm->name, before, after);
        if (r > 0)
                r = vm_policy_read(vm, command->policy);
        else if (r == 0)
                return 0;
        if (r < 0)
                return r;
        apply->registry->xml_total += after - before;
        return apply_note_vm(apply, "vm-policy", vm, "VM %s: priority %d, restart %s%s%s", vm->name, vm->priority,
                             restart_policy_to_text(vm->restart), vm->preempt ? ", may preempt" : "",
                             vm->preemptible ? ", preemptible" : "");
}

int apply_delete_vm(Apply *apply, const Gpupool1__DeleteVm *command) {
        Registry *registry = apply->registry;
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        if (vm->assignment.phase != ASSIGNMENT_NONE)
                return apply_refuse(apply, VERDICT_IN_USE, "VM %s is %s: stop it first", vm->name,
                                    vm_state_to_text(vm_state(vm)));

        r = apply_note_vm(apply, "vm-deleted", vm, "VM %s deleted", vm->name);
        if (r < 0)
                return r;
        registry->xml_total -= vm_text_size(vm);
        registry->notes_total -= vm_notes_size(vm);
        vm_clear(vm);
        array_remove(&registry->vms, (size_t) (vm - registry->vms.items));
        return 0;
}

/* A stop that is under way is only ever made harder, never softer; a wish to run again takes effect after it. */
static void begin_stop(Vm *vm, VmDesire desire, uint64_t timeout_ms) {
        if (vm->assignment.phase == ASSIGNMENT_NONE)
                return;
        bool under_way = vm->assignment.phase == ASSIGNMENT_STOPPING;
        vm->assignment.phase = ASSIGNMENT_STOPPING;
        if (under_way && vm->stop_kind != VM_SHUTDOWN)
                return;
        vm->stop_kind = desire;
        vm->stop_timeout_ms = timeout_ms;
        if (MUTANT(END_WITHOUT_WORD))
                assignment_clear(&vm->assignment);
}

int apply_set_desired(Apply *apply, const Gpupool1__SetDesired *command) {
        static const char *const words[] = { "is to run", "is to shut down", "is to stop", "is to restart" };
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        if ((unsigned) command->desire >= VM_DESIRE_COUNT)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "VM %s cannot do what was asked for", vm->name);

        VmDesire desire = (VmDesire) command->desire;
        vm->run = desire == VM_RUN || desire == VM_RESTART;
        if (!vm->run)
                vm->target = (NodeId) {};
        if (desire != VM_RUN)
                begin_stop(vm, desire, command->timeout_ms);
        if (vm->run || vm->assignment.phase == ASSIGNMENT_NONE) {
                vm->failed = false;
                vm->attempts = 0;
                r = text_set(&vm->reason, NULL);
                if (r >= 0)
                        r = text_set(&vm->reason_code, NULL);
                if (r < 0)
                        return r;
        }
        return apply_note_vm(apply, "vm-desired", vm, "VM %s %s", vm->name, words[desire]);
}

/* Where it is to go. 1: it may; 0: refused; or -ENOMEM. */
static int check_target(Apply *apply, const Vm *vm, const ProtobufCBinaryData *id, NodeId *ret) {
        NodeId target = {};
        if (id->len == 0) {
                *ret = target;
                return 1;
        }
        if (id->len == ID_SIZE)
                memcpy(target.bytes, id->data, ID_SIZE);

        const NodeRecord *node = registry_find_node(apply->registry, &target);
        int r;
        if (!node)
                r = apply_refuse(apply, VERDICT_NOT_FOUND, "VM %s: there is no such node (any more)", vm->name);
        else if (node->witness)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is a witness and runs no VM", vm->name,
                                 node->name);
        else if (node->lost)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is lost: bring it back first", vm->name,
                                 node->name);
        else if (node->drain != DRAIN_NONE)
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "VM %s: node %s is drained: resume it first (gpupoolctl node resume %s)", vm->name,
                                 node->name, node->name);
        else if (ID_EQUAL(&target, &vm->assignment.node))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is on node %s already", vm->name, node->name);
        else {
                *ret = target;
                return 1;
        }
        return r < 0 ? r : 0;
}

/* Whether there is something to move. 1: yes; 0: refused; or -ENOMEM. */
static int check_move(Apply *apply, const Vm *vm, const Gpupool1__MoveVm *command) {
        const Assignment *assignment = &vm->assignment;
        const NodeRecord *node = registry_find_node(apply->registry, &assignment->node);
        int r;
        if (command->epoch != 0 && command->epoch != vm->epoch)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is past epoch %llu", vm->name,
                                 (unsigned long long) command->epoch);
        else if (assignment->phase == ASSIGNMENT_STOPPING)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is stopping already", vm->name);
        else if (assignment->phase == ASSIGNMENT_NONE || !vm->run)
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s is %s: only what runs can be moved", vm->name,
                                 vm_state_to_text(vm_state(vm)));
        else if (command->home && (!node || node->drain == DRAIN_NONE))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s: node %s is not draining (any more)", vm->name,
                                 apply_node_name(apply, &assignment->node));
        else
                return 1;
        return r < 0 ? r : 0;
}

/* For whom @vm is stopped; NULL: for nobody. 1: it may be; 0: refused; or -ENOMEM. */
static int check_preemptor(Apply *apply, const Vm *vm, const Gpupool1__MoveVm *command, const Vm **ret) {
        int r = 0;
        *ret = NULL;
        if (command->preemptor.len == 0)
                return 1;
        const Vm *preemptor = apply_find_vm(apply, &command->preemptor, &r);
        if (!preemptor)
                return r;
        if (command->home || command->node.len > 0)
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                 "VM %s cannot be stopped for VM %s and be moved at the same time", vm->name,
                                 preemptor->name);
        else if (!vm_waits(preemptor))
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s does not wait for a place (any more)",
                                 preemptor->name);
        else if (!vm_may_preempt(preemptor, vm))
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "VM %s may not be stopped for VM %s, by their priorities and policies", vm->name,
                                 preemptor->name);
        else {
                *ret = preemptor;
                return 1;
        }
        return r < 0 ? r : 0;
}

static int stop_for(Apply *apply, Vm *vm, const Vm *preemptor, const NodeId *from) {
        int r = text_set(&vm->reason_code, REASON_PREEMPTED);
        if (r >= 0)
                r = text_printf(&vm->reason, "preempted for vm %s, which has a higher priority", preemptor->name);
        if (r < 0)
                return r;
        return apply_note_vm(apply, "vm-preempted", vm,
                             "VM %s stops on %s: preempted for VM %s, which has a higher priority", vm->name,
                             apply_node_name(apply, from), preemptor->name);
}

int apply_move_vm(Apply *apply, const Gpupool1__MoveVm *command) {
        int r = 0;
        Vm *vm = apply_find_vm(apply, &command->vm, &r);
        if (!vm)
                return r;
        NodeId from = vm->assignment.node, target;
        const Vm *preemptor;
        r = check_move(apply, vm, command);
        if (r > 0)
                r = check_target(apply, vm, &command->node, &target);
        if (r > 0)
                r = check_preemptor(apply, vm, command, &preemptor);
        if (r <= 0)
                return r;

        begin_stop(vm, command->shutdown ? VM_SHUTDOWN : VM_STOP, command->timeout_ms);
        vm->target = target;
        /* Through several drained nodes its home stays the first. Who is sent elsewhere has no home to come back to. */
        if (command->home && id_is_null(vm->home.bytes))
                vm->home = from;
        else if (!command->home && !id_is_null(target.bytes) && !ID_EQUAL(&target, &vm->home))
                vm->home = (NodeId) {};
        if (preemptor)
                return stop_for(apply, vm, preemptor, &from);

        const char *from_name = apply_node_name(apply, &from);
        if (!id_is_null(target.bytes))
                return apply_note_vm(apply, "vm-moving", vm, "VM %s moves from %s to %s", vm->name, from_name,
                                     apply_node_name(apply, &target));
        return apply_note_vm(apply, "vm-moving", vm, "VM %s leaves %s%s", vm->name, from_name,
                             command->home ? ", which is draining" : " for another node");
}
