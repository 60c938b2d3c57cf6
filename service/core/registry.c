/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/registry.h"

#include <errno.h>

#include "core/names.h"
#include "core/registry-internal.h"

void node_record_clear(NodeRecord *node) {
        free(node->name);
        free(node->boot_id);
        text_list_clear(&node->addresses);
        fence_clear(&node->fence);
        fabric_sets_clear(&node->fabric);
        *node = (NodeRecord) {};
}

void quarantine_clear(Quarantine *quarantine) {
        free(quarantine->sentence);
        *quarantine = (Quarantine) {};
}

void event_clear(Event *event) {
        free(event->kind);
        free(event->object);
        free(event->user);
        free(event->action);
        free(event->message);
        *event = (Event) {};
}

void removed_node_clear(RemovedNode *removed) {
        free(removed->name);
        *removed = (RemovedNode) {};
}

void import_clear(Import *import) {
        array_clear(import);
        *import = (Import) {};
}

void request_record_clear(RequestRecord *request) {
        free(request->sentence);
        *request = (RequestRecord) {};
}

void result_clear(Result *result) {
        free(result->sentence);
        *result = (Result) {};
}

int registry_new(Registry **ret) {
        Registry *registry = calloc(1, sizeof(*registry));
        if (!registry)
                return -ENOMEM;
        registry->next_event = 1;
        *ret = registry;
        return 0;
}

Registry *registry_free(Registry *registry) {
        if (!registry)
                return NULL;

        ARRAY_EACH(node, &registry->nodes)
                node_record_clear(node);
        ARRAY_EACH(pool, &registry->pools)
                pool_clear(pool);
        ARRAY_EACH(vm, &registry->vms)
                vm_clear(vm);
        ARRAY_EACH(quarantine, &registry->quarantines)
                quarantine_clear(quarantine);
        ARRAY_EACH(event, &registry->events)
                event_clear(event);
        ARRAY_EACH(request, &registry->requests)
                request_record_clear(request);
        array_clear(&registry->nodes);
        array_clear(&registry->pools);
        array_clear(&registry->vms);
        array_clear(&registry->quarantines);
        array_clear(&registry->events);
        array_clear(&registry->requests);
        ARRAY_EACH(removed, &registry->removed)
                removed_node_clear(removed);
        array_clear(&registry->removed);
        array_clear(&registry->invites);
        import_clear(&registry->import);
        free(registry->name);
        free(registry);
        return NULL;
}

static int compare_node_id(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const NodeRecord *) item)->id);
}

static int compare_pool_name(const void *key, const void *item) {
        return strcmp(key, ((const Pool *) item)->name);
}

static int compare_vm_id(const void *key, const void *item) {
        return ID_COMPARE((const VmId *) key, &((const Vm *) item)->id);
}

static int compare_quarantine(const void *key, const void *item) {
        return gpu_identity_compare(key, &((const Quarantine *) item)->gpu);
}

bool registry_node_place(const Registry *registry, const NodeId *id, size_t *ret_index) {
        return array_find(&registry->nodes, id, compare_node_id, ret_index);
}

bool registry_pool_place(const Registry *registry, const char *name, size_t *ret_index) {
        return array_find(&registry->pools, name, compare_pool_name, ret_index);
}

bool registry_vm_place(const Registry *registry, const VmId *id, size_t *ret_index) {
        return array_find(&registry->vms, id, compare_vm_id, ret_index);
}

bool registry_quarantine_place(const Registry *registry, const GpuIdentity *gpu, size_t *ret_index) {
        return array_find(&registry->quarantines, gpu, compare_quarantine, ret_index);
}

const NodeRecord *registry_find_node(const Registry *registry, const NodeId *id) {
        size_t i;
        return registry_node_place(registry, id, &i) ? registry->nodes.items + i : NULL;
}

const NodeRecord *registry_find_node_name(const Registry *registry, const char *name) {
        ARRAY_EACH(node, &registry->nodes)
                if (text_equal(node->name, name))
                        return node;
        return NULL;
}

const NodeRecord *registry_find_node_key(const Registry *registry, const uint8_t key[HASH_SIZE]) {
        ARRAY_EACH(node, &registry->nodes)
                if (node->has_key && memcmp(node->key, key, HASH_SIZE) == 0)
                        return node;
        return NULL;
}

const Invite *registry_find_invite(const Registry *registry, const InviteId *id) {
        ARRAY_EACH(invite, &registry->invites)
                if (ID_EQUAL(&invite->id, id))
                        return invite;
        return NULL;
}

const RemovedNode *registry_find_removed(const Registry *registry, const NodeId *id) {
        ARRAY_EACH(removed, &registry->removed)
                if (ID_EQUAL(&removed->id, id))
                        return removed;
        return NULL;
}

const Pool *registry_find_pool(const Registry *registry, const char *name) {
        size_t i;
        return registry_pool_place(registry, name, &i) ? registry->pools.items + i : NULL;
}

const Pool *registry_find_pool_of_gpu(const Registry *registry, const GpuIdentity *gpu) {
        ARRAY_EACH(pool, &registry->pools)
                if (pool_has(pool, gpu))
                        return pool;
        return NULL;
}

const Vm *registry_find_vm(const Registry *registry, const VmId *id) {
        size_t i;
        return registry_vm_place(registry, id, &i) ? registry->vms.items + i : NULL;
}

const Vm *registry_find_vm_name(const Registry *registry, const char *name) {
        ARRAY_EACH(vm, &registry->vms)
                if (text_equal(vm->name, name))
                        return vm;
        return NULL;
}

const Vm *registry_find_vm_of_gpu(const Registry *registry, const GpuIdentity *gpu) {
        ARRAY_EACH(vm, &registry->vms)
                for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                        if (gpu_identity_equal(&vm->assignment.gpus[i].gpu, gpu))
                                return vm;
        return NULL;
}

const Vm *registry_find_vm_of_group(const Registry *registry, const NodeId *node, int32_t iommu_group) {
        if (iommu_group < 0)
                return NULL;
        ARRAY_EACH(vm, &registry->vms) {
                if (!ID_EQUAL(&vm->assignment.node, node))
                        continue;
                for (size_t i = 0; i < vm->assignment.n_gpus; i++)
                        if (vm->assignment.gpus[i].iommu_group == iommu_group)
                                return vm;
        }
        return NULL;
}

/* Those of one slot and kind stand side by side, the one without a serial first. */
const Quarantine *registry_find_quarantine(const Registry *registry, const GpuIdentity *gpu) {
        GpuIdentity any = *gpu;
        size_t i;
        any.serial[0] = '\0';
        (void) registry_quarantine_place(registry, &any, &i);
        for (; i < registry->quarantines.n; i++) {
                const Quarantine *quarantine = registry->quarantines.items + i;
                if (!gpu_identity_matches(&any, &quarantine->gpu))
                        return NULL;
                if (gpu_identity_matches(gpu, &quarantine->gpu))
                        return quarantine;
        }
        return NULL;
}

int registry_level_obstacles(const Registry *registry, uint32_t level, TextList *ret) {
        ARRAY_EACH(node, &registry->nodes) {
                if (node->level >= level)
                        continue;
                _cleanup_free_ char *sentence = NULL;
                int r = text_printf(&sentence,
                                    "node %s supports level %u at most: upgrade gpupool there for level %u",
                                    node->name, node->level, level);
                if (r >= 0)
                        r = text_list_add(ret, sentence);
                if (r < 0)
                        return r;
        }
        return 0;
}

const char *verdict_to_error(Verdict verdict) {
        switch (verdict) {
        case VERDICT_NOT_FOUND:
                return ERROR_NOT_FOUND;
        case VERDICT_EXISTS:
                return ERROR_EXISTS;
        case VERDICT_IN_USE:
                return ERROR_IN_USE;
        case VERDICT_NOT_ASSIGNABLE:
                return ERROR_NOT_ASSIGNABLE;
        case VERDICT_NO_CAPACITY:
                return ERROR_NO_CAPACITY;
        case VERDICT_INVALID_ARGUMENT:
                return ERROR_INVALID_ARGUMENT;
        case VERDICT_CONFLICT:
                return ERROR_CONFLICT;
        case VERDICT_LEVEL_TOO_LOW:
                return ERROR_LEVEL_TOO_LOW;
        case VERDICT_QUARANTINED:
                return ERROR_QUARANTINED;
        case VERDICT_LIMITS_EXCEEDED:
                return ERROR_LIMITS_EXCEEDED;
        case VERDICT_EXPIRED:
                return ERROR_OUTCOME_UNKNOWN;
        case VERDICT_DONE:
        case VERDICT_COUNT:
                return NULL;
        }
        return NULL;
}

bool registry_has_ordinary_leases(const Registry *registry) {
        return registry->frozen_ms == 0 && registry->nodes.n > LEASE_ALONE_NODES;
}

bool registry_node_is_idle(const Registry *registry, const NodeRecord *node) {
        if (node->lost)
                return node->lost_idle;
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, &node->id))
                        return false;
        return true;
}

bool node_record_proves_its_end(const Registry *registry, const NodeRecord *node) {
        return registry->level < LEVEL_FAILOVER || node->lease_ms > 0;
}

uint64_t node_record_longest_lease_ms(const NodeRecord *node) {
        return node->long_lease_ms > node->lease_ms ? node->long_lease_ms : node->lease_ms;
}

const char *loss_evidence_to_text(LossEvidence evidence) {
        switch (evidence) {
        case LOSS_BY_POWER_OFF:
                return "power-off";
        case LOSS_BY_NEW_BOOT:
                return "new-boot";
        case LOSS_BY_WORD:
                return "confirmed";
        case LOSS_BY_LEASE:
        case LOSS_EVIDENCE_COUNT:
                break;
        }
        return "lease";
}

const char *quarantine_cause_to_sentence(QuarantineCause cause) {
        switch (cause) {
        case QUARANTINE_RESET_FAILED:
                return "the reset after its last VM did not finish";
        case QUARANTINE_CONFIG_UNREADABLE:
                return "its configuration space could not be read after its last VM";
        case QUARANTINE_STUCK:
                return "its binding hangs in the kernel";
        case QUARANTINE_UNFIT:
                return "it did not pass the inspection after its last VM";
        case QUARANTINE_BY_HAND:
        case QUARANTINE_CAUSE_COUNT:
                break;
        }
        return "an administrator put it there";
}

const char *object_kind_to_text(ObjectKind kind) {
        switch (kind) {
        case OBJECT_KIND_NODE:
                return "node";
        case OBJECT_KIND_GPU:
                return "gpu";
        case OBJECT_KIND_POOL:
                return "pool";
        case OBJECT_KIND_VM:
                return "vm";
        case OBJECT_KIND_CLUSTER:
        case OBJECT_KIND_COUNT:
                break;
        }
        return "cluster";
}
