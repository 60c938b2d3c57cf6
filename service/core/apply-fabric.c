/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What hardware tells of linked GPUs, and the last guard that no set of them is split (P2: the GPUs of one fabric see
 * each other's memory). */

#include <errno.h>

#include "core/names.h"
#include "core/registry-internal.h"

int fabric_read(FabricSets *sets, Gpupool1__FabricSet *const *messages, size_t n) {
        if (n > GPUS_PER_NODE_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                FabricSet set = {};
                int r = messages[i]->n_slots <= GPUS_PER_NODE_MAX ? 0 : -EINVAL;
                for (size_t j = 0; r >= 0 && j < messages[i]->n_slots; j++)
                        r = text_list_add(&set.slots, messages[i]->slots[j]);
                if (r >= 0)
                        r = array_append(sets, &set);
                if (r < 0) {
                        text_list_clear(&set.slots);
                        return r;
                }
        }
        return fabric_sets_are_sound(sets) ? 0 : -EINVAL;
}

size_t registry_fabric_slots(const Registry *registry) {
        size_t n = 0;
        ARRAY_EACH(node, &registry->nodes)
                n += fabric_sets_slots(&node->fabric);
        return n;
}

int apply_tell_fabric(Apply *apply, const Gpupool1__TellFabric *command) {
        Registry *registry = apply->registry;
        NodeId id = {};
        size_t place;
        if (command->node.len == ID_SIZE)
                memcpy(id.bytes, command->node.data, ID_SIZE);
        if (!registry_node_place(registry, &id, &place))
                return apply_refuse(apply, VERDICT_NOT_FOUND, "what is told of linked GPUs is of a node that is no "
                                    "member");

        NodeRecord *node = registry->nodes.items + place;
        _cleanup_(fabric_sets_clear) FabricSets told = {}, all = {};
        int r = fabric_read(&told, command->sets, command->n_sets);
        if (r == -EINVAL)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "node %s: what is told of its linked GPUs is not "
                                    "valid", node->name);
        if (r >= 0)
                r = fabric_sets_copy(&node->fabric, &all);
        for (size_t i = 0; r >= 0 && i < told.n; i++)
                r = fabric_join(&all, &told.items[i].slots);
        if (r < 0)
                return r;
        if (fabric_sets_equal(&all, &node->fabric))
                return 0;
        if (fabric_sets_slots(&all) > GPUS_PER_NODE_MAX ||
            registry_fabric_slots(registry) - fabric_sets_slots(&node->fabric) + fabric_sets_slots(&all) >
                    FABRIC_TOTAL_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "node %s: too many GPUs are linked", node->name);

        FabricSets old = node->fabric;
        node->fabric = all;
        all = old;
        return apply_note_node(apply, "node-fabric", &node->id, "node %s: %zu GPUs are linked, in %zu set%s, and "
                               "each set goes to one VM", node->name, fabric_sets_slots(&node->fabric),
                               node->fabric.n, node->fabric.n == 1 ? "" : "s");
}

static bool has_slot(const Assignment *assignment, const char *slot) {
        for (size_t i = 0; i < assignment->n_gpus; i++)
                if (text_equal(assignment->gpus[i].gpu.slot, slot))
                        return true;
        return false;
}

/* From every member of the pool, not only from those that are wanted: a rule may bind one to another that is not bound
 * to it. */
int apply_check_sets(Apply *apply, const Vm *vm, const NodeRecord *node, const Assignment *wanted) {
        const Pool *pool = registry_find_pool(apply->registry, vm->pool);
        if (!pool || apply->registry->level < LEVEL_DEVICES)
                return 1;
        size_t first, n_gpus = pool_gpus_of_node(pool, &node->id, &first);
        for (size_t k = first; k < first + n_gpus; k++) {
                _cleanup_(text_list_clear) TextList slots = {};
                size_t n = 0;
                const char *missing = NULL;
                int r = fabric_list_set(&node->fabric, pool, pool->gpus.items + k, node->name, &slots, NULL);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < slots.n; i++)
                        if (has_slot(wanted, slots.items[i]))
                                n++;
                        else
                                missing = slots.items[i];
                if (n == 0 || n == slots.n)
                        continue;
                r = apply_refuse(apply, VERDICT_CONFLICT, "VM %s cannot have %zu of %zu GPUs of %s that are linked and "
                                 "go to one VM or to none: the one in slot %s is left out", vm->name, n, slots.n,
                                 node->name, missing);
                return r < 0 ? r : 0;
        }
        return 1;
}
