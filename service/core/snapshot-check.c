/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What holds across the parts of a registry because every command keeps it: names are taken once, a GPU is in one pool
 * and, like its slot and its IOMMU group, in one VM (P2), and what is named exists. A snapshot that breaks it was not
 * made by a registry. */

#include <errno.h>

#include "core/registry-internal.h"

typedef ARRAY(const char *) Names;

typedef struct Use {
        const AssignedGpu *assigned;
        const Vm *vm;
} Use;

typedef ARRAY(Use) Uses;
typedef ARRAY(const GpuIdentity *) Members;

static int compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int compare_members(const void *a, const void *b) {
        return gpu_identity_compare(*(const GpuIdentity *const *) a, *(const GpuIdentity *const *) b);
}

static int compare_slots(const void *a, const void *b) {
        const GpuIdentity *x = &((const Use *) a)->assigned->gpu, *y = &((const Use *) b)->assigned->gpu;
        int c = ID_COMPARE(&x->node, &y->node);
        return c != 0 ? c : strcmp(x->slot, y->slot);
}

static int compare_groups(const void *a, const void *b) {
        const AssignedGpu *x = ((const Use *) a)->assigned, *y = ((const Use *) b)->assigned;
        int c = ID_COMPARE(&x->gpu.node, &y->gpu.node);
        return c != 0 ? c : (x->iommu_group > y->iommu_group) - (x->iommu_group < y->iommu_group);
}

/* qsort() may not be given NULL. */
#define SORT(array, compare)                                                                            \
        do {                                                                                            \
                if ((array)->n > 1)                                                                     \
                        qsort((array)->items, (array)->n, sizeof(*(array)->items), (compare));          \
        } while (0)

static bool has_doubles(const void *items, size_t n, size_t size, int (*compare)(const void *, const void *)) {
        for (size_t i = 1; i < n; i++)
                if (compare((const char *) items + (i - 1) * size, (const char *) items + i * size) == 0)
                        return true;
        return false;
}

#define SORT_AND_FIND_DOUBLES(array, compare)                                                           \
        ({                                                                                              \
                SORT(array, compare);                                                                   \
                has_doubles((array)->items, (array)->n, sizeof(*(array)->items), (compare));            \
        })

static int check_names(const Registry *registry) {
        Names nodes = {}, vms = {};
        int r = 0;
        ARRAY_EACH(node, &registry->nodes)
                if (r >= 0)
                        r = array_append(&nodes, &(const char *) { node->name });
        ARRAY_EACH(vm, &registry->vms)
                if (r >= 0)
                        r = array_append(&vms, &(const char *) { vm->name });
        if (r >= 0 && (SORT_AND_FIND_DOUBLES(&nodes, compare_names) || SORT_AND_FIND_DOUBLES(&vms, compare_names)))
                r = -EINVAL;
        array_clear(&nodes);
        array_clear(&vms);
        return r;
}

static int compare_numbers(const void *a, const void *b) {
        const NodeRecord *x = *(const NodeRecord *const *) a, *y = *(const NodeRecord *const *) b;
        return memcmp(x->id.bytes, y->id.bytes, NODE_NUMBER_SIZE);
}

static int compare_keys(const void *a, const void *b) {
        const NodeRecord *x = *(const NodeRecord *const *) a, *y = *(const NodeRecord *const *) b;
        return memcmp(x->key, y->key, HASH_SIZE);
}

/* What is lost was lost at some time and gets no lease, and a lease that a freeze or a small cluster makes longer is no
 * shorter than that. Below the level of failover there is nothing of it. */
static bool fate_is_sound(const Registry *registry, const NodeRecord *node) {
        if (registry->level < LEVEL_DEVICES && node->fabric.n > 0)
                return false;
        if (registry->level < LEVEL_FAILOVER)
                return node->lease_ms == 0 && node->long_lease_ms == 0 && !node->lost && !node->lost_idle &&
                       node->n_losses == 0 && node->drain == DRAIN_NONE && !node->fence.agent;
        if (node->lost)
                return node->n_losses > 0 && node->long_lease_ms == 0;
        if (node->lost_idle)
                return false;
        return registry_has_ordinary_leases(registry) || node->lease_ms == 0 ||
               node->long_lease_ms >= node_long_lease_ms(registry, node);
}

/* Numbers in the consensus engine, and keys, are one node's each, and every member can what the cluster does. */
static int check_nodes(const Registry *registry) {
        ARRAY(const NodeRecord *) nodes = {}, with_key = {};
        int r = 0;
        ARRAY_EACH(node, &registry->nodes) {
                if (node->level < registry->level || !fate_is_sound(registry, node))
                        r = -EINVAL;
                if (r >= 0)
                        r = array_append(&nodes, &(const NodeRecord *) { node });
                if (r >= 0 && node->has_key)
                        r = array_append(&with_key, &(const NodeRecord *) { node });
        }
        if (r >= 0 && (SORT_AND_FIND_DOUBLES(&nodes, compare_numbers) ||
                       SORT_AND_FIND_DOUBLES(&with_key, compare_keys)))
                r = -EINVAL;
        array_clear(&nodes);
        array_clear(&with_key);
        return r;
}

static int check_pools(const Registry *registry) {
        Members members = {};
        int r = 0;
        ARRAY_EACH(pool, &registry->pools)
                if (registry->level < LEVEL_DEVICES && pool->after_use != AFTER_USE_HOST)
                        return -EINVAL;
        ARRAY_EACH(pool, &registry->pools)
                ARRAY_EACH(rule, &pool->rules)
                        if (registry->level < LEVEL_DEVICES && !text_is_empty(rule->set))
                                return -EINVAL;
        ARRAY_EACH(pool, &registry->pools)
                for (size_t i = 0; r >= 0 && i < pool->gpus.n; i++)
                        r = array_append(&members, &(const GpuIdentity *) { pool->gpus.items + i });
        if (r >= 0 && SORT_AND_FIND_DOUBLES(&members, compare_members))
                r = -EINVAL;
        array_clear(&members);
        return r;
}

/* Below the level of placement there is nothing of what came with it. */
static bool wishes_are_sound(const Registry *registry, const Vm *vm) {
        bool any = vm->model || vm->preempt || vm->preemptible;
        for (size_t i = 0; i < vm->n_affinity; i++)
                any = any || affinity_kind_is_soft(vm->affinity[i].kind);
        return !any || registry->level >= LEVEL_PLACEMENT;
}

static bool vm_is_sound(const Registry *registry, const Vm *vm) {
        const Assignment *assignment = &vm->assignment;
        if (!registry_find_pool(registry, vm->pool) || !wishes_are_sound(registry, vm))
                return false;
        if (assignment->phase == ASSIGNMENT_NONE)
                return assignment->n_gpus == 0;

        const NodeRecord *node = registry_find_node(registry, &assignment->node);
        if (!node || node->incarnation != assignment->incarnation || node->lost || assignment->n_gpus == 0 ||
            vm->epoch == 0 || (assignment->leased && registry->level < LEVEL_FAILOVER))
                return false;
        for (size_t i = 0; i < assignment->n_gpus; i++)
                if (!ID_EQUAL(&assignment->gpus[i].gpu.node, &assignment->node))
                        return false;
        return true;
}

/* Sorted by group: whether one group is in two VMs. */
static bool groups_are_shared(const Uses *uses) {
        for (size_t i = 1; i < uses->n; i++)
                if (uses->items[i].assigned->iommu_group >= 0 && uses->items[i].vm != uses->items[i - 1].vm &&
                    compare_groups(uses->items + i - 1, uses->items + i) == 0)
                        return true;
        return false;
}

static int check_vms(const Registry *registry) {
        Uses uses = {};
        int r = 0;
        ARRAY_EACH(vm, &registry->vms) {
                if (r >= 0 && !vm_is_sound(registry, vm))
                        r = -EINVAL;
                for (size_t i = 0; r >= 0 && i < vm->assignment.n_gpus; i++)
                        r = array_append(&uses, &((Use) { .assigned = vm->assignment.gpus + i, .vm = vm }));
        }
        if (r >= 0 && SORT_AND_FIND_DOUBLES(&uses, compare_slots))
                r = -EINVAL;
        if (r >= 0) {
                SORT(&uses, compare_groups);
                r = groups_are_shared(&uses) ? -EINVAL : 0;
        }
        array_clear(&uses);
        return r;
}

int registry_check(const Registry *registry) {
        int r = registry->frozen_ms > FREEZE_MS_MAX || (registry->frozen_ms > 0 && registry->freezes == 0) ||
                (registry->freezes > 0 && registry->level < LEVEL_FAILOVER) ? -EINVAL : check_names(registry);
        if (r >= 0)
                r = check_nodes(registry);
        if (r >= 0)
                r = check_pools(registry);
        if (r >= 0)
                r = check_vms(registry);
        return r;
}
