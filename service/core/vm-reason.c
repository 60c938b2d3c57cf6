/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/vm-reason.h"

#include <ctype.h>
#include <inttypes.h>

#include "core/explain-node.h"
#include "core/names.h"

/* @ret_notes may be NULL. */
static int waiting_reason(Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence,
                          PlacementNotes *ret_notes) {
        _cleanup_(placement_clear) Placement placement = {};
        int r = placement_find_briefly(inventory, vm, &placement);
        if (r < 0)
                return r;
        *ret_code = placement.code;
        if (r == PLACEMENT_FOUND)
                return 0;
        *ret_sentence = STEAL(placement.summary);
        return ret_notes ? placement_notes_make(inventory->world, vm, &placement, NOTES_SIZE_WAITING, ret_notes) : 0;
}

static int backoff_reason(Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence,
                          PlacementNotes *ret_notes) {
        int r = waiting_reason(inventory, vm, ret_code, ret_sentence, ret_notes);
        if (r < 0 || *ret_sentence)
                return r;
        *ret_code = vm->reason_code;
        return text_printf(ret_sentence, "vm %s failed %" PRIu32 " of %u times: %s. It is tried again by itself",
                           vm->name, vm->attempts, VM_ATTEMPTS_MAX, vm->reason ? vm->reason : "it did not say why");
}

static int ended_reason(const Vm *vm, const char **ret_code, char **ret_sentence) {
        if (text_is_empty(vm->reason_code))
                return 0;
        *ret_code = vm->reason_code;
        const char *reason = vm->reason ? vm->reason : "it did not say why";
        if (vm_state(vm) == VM_STATE_FAILED)
                return text_printf(ret_sentence, "vm %s failed%s: %s. Mend that, then: gpupoolctl vm start %s",
                                   vm->name, vm->attempts >= VM_ATTEMPTS_MAX ? " too often" : "", reason, vm->name);
        return text_printf(ret_sentence, "vm %s stopped: %s. Start it again with: gpupoolctl vm start %s", vm->name,
                           reason, vm->name);
}

/* What keeps it on its way up or down: neither is done without libvirt and guard of its node. */
static int stalled_reason(const Inventory *inventory, const Vm *vm, const char **ret_code, char **ret_sentence) {
        InventoryNode node = {
                .record = registry_find_node(inventory->world->registry, &vm->assignment.node),
                .facts = world_find_facts(inventory->world, &vm->assignment.node),
        };
        if (!node.record || !node.facts)
                return 0;
        bool hypervisor = node.facts->hypervisor != HYPERVISOR_CONNECTED;
        if (!hypervisor && node.facts->guard_connected)
                return 0;

        Case c = { .node = &node };
        PlacementReason reason = {};
        const char *way = vm_state(vm) == VM_STATE_STARTING ? "starts" : "stops";
        Hindrance hindrance = hypervisor ? HINDRANCE_HYPERVISOR : HINDRANCE_GUARD;
        int r = explain_hindrance(&c, hindrance, &reason);
        if (r >= 0)
                r = text_printf(ret_sentence, "vm %s %s as soon as it can: on %s %s. %c%s", vm->name, way,
                                node.record->name, reason.sentence, toupper((unsigned char) reason.remedy[0]),
                                reason.remedy + 1);
        free(reason.sentence);
        free(reason.remedy);
        *ret_code = hindrance_code(hindrance);
        return r;
}

/* It is stopped to run elsewhere, at somebody's wish or because its node is drained. */
static int moving_reason(const World *world, const Vm *vm, const char **ret_code, char **ret_sentence) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        const NodeRecord *target = registry_find_node(world->registry, &vm->target);
        if (vm->run && vm_makes_way(vm)) {
                *ret_code = vm->reason_code;
                return text_printf(ret_sentence, "vm %s stops: %s. It runs again as soon as there is room", vm->name,
                                   vm->reason ? vm->reason : "preempted");
        }
        if (!vm->run || !node || (!target && id_is_null(vm->home.bytes)))
                return 0;
        *ret_code = "moving";
        return text_printf(ret_sentence, "vm %s moves to %s and stops on %s first", vm->name,
                           target ? target->name : "another node", node->name);
}

/* Nobody knows whether it still runs; with leases, that ends by itself. */
static int silent_reason(const World *world, const Vm *vm, const char **ret_code, char **ret_sentence) {
        const NodeRecord *node = registry_find_node(world->registry, &vm->assignment.node);
        if (!node || world_node_state(world, &node->id) != NODE_STATE_SILENT)
                return 0;
        *ret_code = "node-silent";
        bool waits = vm->assignment.leased && registry_has_ordinary_leases(world->registry);
        return text_printf(ret_sentence,
                           waits ? "node %s is not heard of: vm %s starts elsewhere as soon as it is known to be dead "
                                   "there"
                                 : "node %s is not heard of, and no time proves that vm %s is dead there: bring the "
                                   "node back, or see that it is off and confirm it (gpupoolctl node confirm-down)",
                           node->name, vm->name);
}

int vm_account_in(Inventory *inventory, const Vm *vm, char **ret_code, char **ret_sentence,
                  PlacementNotes *ret_notes) {
        const char *code = "";
        _cleanup_free_ char *sentence = NULL;
        _cleanup_(placement_notes_clear) PlacementNotes notes = {};
        int r = 0;
        switch (vm_state(vm)) {
        case VM_STATE_WAITING:
                r = waiting_reason(inventory, vm, &code, &sentence, ret_notes ? &notes : NULL);
                break;
        case VM_STATE_BACKOFF:
                r = backoff_reason(inventory, vm, &code, &sentence, ret_notes ? &notes : NULL);
                break;
        case VM_STATE_FAILED:
        case VM_STATE_STOPPED:
                r = ended_reason(vm, &code, &sentence);
                break;
        case VM_STATE_STARTING:
        case VM_STATE_STOPPING:
                r = stalled_reason(inventory, vm, &code, &sentence);
                if (r >= 0 && !sentence)
                        r = silent_reason(inventory->world, vm, &code, &sentence);
                if (r >= 0 && !sentence && vm_state(vm) == VM_STATE_STOPPING)
                        r = moving_reason(inventory->world, vm, &code, &sentence);
                break;
        case VM_STATE_RUNNING:
                r = silent_reason(inventory->world, vm, &code, &sentence);
                break;
        case VM_STATE_COUNT:
                break;
        }
        if (r < 0)
                return r;

        _cleanup_free_ char *code_copy = NULL;
        r = text_set(&code_copy, code ? code : "");
        if (r >= 0 && !sentence)
                r = text_set(&sentence, "");
        if (r < 0)
                return r;
        *ret_code = STEAL(code_copy);
        *ret_sentence = STEAL(sentence);
        if (ret_notes) {
                *ret_notes = notes;
                notes = (PlacementNotes) {};
        }
        return 0;
}

int vm_reason_in(Inventory *inventory, const Vm *vm, char **ret_code, char **ret_sentence) {
        return vm_account_in(inventory, vm, ret_code, ret_sentence, NULL);
}

int vm_reason(const World *world, const Vm *vm, char **ret_code, char **ret_sentence) {
        _cleanup_(inventory_freep) Inventory *inventory = NULL;
        int r = inventory_new(world, &inventory);
        if (r < 0)
                return r;
        return vm_reason_in(inventory, vm, ret_code, ret_sentence);
}
