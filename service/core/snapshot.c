/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Snapshot: the registry's whole state as bytes. The way back is snapshot-read.c. */

#include <errno.h>
#include <stdio.h>

#include "core/names.h"
#include "core/registry-internal.h"

/* What all limits together allow is less than what a snapshot may have: a registry can always be written down and read
 * back. Bytes of the longest item of each kind, with what protobuf puts around it; 10 for each number that is not said
 * to be smaller. */
#define GPU_SIZE (3U + 18U + 97U + 4U * 4U + 33U + 20U)
#define FENCE_SIZE (2U + 65U + FENCE_PARAMETERS_MAX * 4U)       /* beside what FENCE_TOTAL_MAX counts */
#define FABRIC_SLOT_SIZE (GPU_SLOT_SIZE + 2U + 3U)      /* with half of what is around a set of two */
#define NODE_SIZE (4U + 18U + 2U * 65U + 3U * 11U + ADDRESSES_MAX * (3U + ADDRESS_LENGTH_MAX) + 34U + 2U +      \
                   2U * 6U + 2U * 12U + 3U + FLAP_LOSSES * 10U + 4U * 3U + FENCE_SIZE)
#define POOL_SIZE (5U + 65U + 3U * 11U + POOL_RULES_MAX * (3U + 3U * 65U + 4U + POOL_SET_LENGTH_MAX))
#define VM_SIZE (5U + 18U + 65U + 4U + 65U + 8U + 65U + 12U * 11U + 66U + 3U + TEXT_LENGTH_MAX + 18U + 3U + \
                 2U * 19U + 4U * 2U + 4U + VM_MODEL_LENGTH_MAX)
#define QUARANTINE_SIZE (4U + GPU_SIZE + 11U + 3U + TEXT_LENGTH_MAX + 11U)
#define EVENT_SIZE (4U + 2U * 11U + 65U + 9U + 3U + 128U + 18U + 11U + 2U * 65U + 3U + SENTENCE_LENGTH_MAX)
#define REQUEST_SIZE (4U + 18U + 11U + 6U + 3U + SENTENCE_LENGTH_MAX)
#define INVITE_SIZE (2U + 18U + 34U + 11U + 18U)
#define REMOVED_SIZE (2U + 18U + 34U + 65U + 11U)
_Static_assert((uint64_t) NODES_MAX * NODE_SIZE + POOLS_MAX * POOL_SIZE + 2 * POOL_GPUS_MAX * (GPU_SIZE + 9U) +
                               VMS_MAX * VM_SIZE + XML_TOTAL_MAX + NOTES_TOTAL_MOST +
                               QUARANTINES_MAX * QUARANTINE_SIZE + EVENTS_MAX * EVENT_SIZE +
                               REQUESTS_MAX * REQUEST_SIZE + INVITES_MAX * INVITE_SIZE + REMOVED_MAX * REMOVED_SIZE +
                               IMPORT_SIZE_MAX + FENCE_TOTAL_MAX + FABRIC_TOTAL_MAX * FABRIC_SLOT_SIZE + 4096U <
                       SNAPSHOT_SIZE_MAX,
               "a registry at all its limits fits a snapshot");

static char *borrow_text(const char *text) {
        return (char *) (text ? text : "");
}

static ProtobufCBinaryData borrow_key(const uint8_t key[HASH_SIZE], bool has_key) {
        return (ProtobufCBinaryData) { .len = has_key ? HASH_SIZE : 0, .data = (uint8_t *) key };
}

/* Messages of one encoding, freed together. */
typedef struct Pieces {
        void **items;
        size_t n;
        size_t allocated;
} Pieces;

static void pieces_clear(Pieces *pieces) {
        for (size_t i = 0; i < pieces->n; i++)
                free(pieces->items[i]);
        array_clear(pieces);
}

static void *take(Pieces *pieces, size_t n, size_t size) {
        void *piece = calloc(n ? n : 1, size);
        if (!piece)
                return NULL;
        if (array_append(pieces, &piece) < 0) {
                free(piece);
                return NULL;
        }
        return piece;
}

/* A row of @n messages of @type and the row of pointers that protobuf-c wants; 0 or -ENOMEM. */
#define TAKE_ROW(pieces, n, type, init, row, pointers)                          \
        ({                                                                      \
                type *_row = take((pieces), (n), sizeof(type));                 \
                type **_pointers = take((pieces), (n), sizeof(type *));         \
                int _r = _row && _pointers ? 0 : -ENOMEM;                       \
                for (size_t _i = 0; _r == 0 && _i < (n); _i++) {                \
                        init(_row + _i);                                        \
                        _pointers[_i] = _row + _i;                              \
                }                                                               \
                (row) = _row;                                                   \
                (pointers) = _pointers;                                         \
                _r;                                                             \
        })

static int write_gpu(Pieces *pieces, const GpuIdentity *gpu, Gpupool1__Gpu *ret) {
        char *address = take(pieces, 1, PCI_ADDRESS_TEXT_SIZE);
        if (!address)
                return -ENOMEM;
        gpu_message_borrow(gpu, address, ret);
        return 0;
}

static int write_fence(Pieces *pieces, const Fence *fence, Gpupool1__NodeRecord *ret) {
        Gpupool1__FenceParameter *row;
        int r = TAKE_ROW(pieces, fence->n_parameters, Gpupool1__FenceParameter, gpupool1__fence_parameter__init, row,
                         ret->fence_parameters);
        if (r < 0)
                return r;
        ret->fence_agent = borrow_text(fence->agent);
        ret->n_fence_parameters = fence->n_parameters;
        for (size_t i = 0; i < fence->n_parameters; i++) {
                row[i].name = borrow_text(fence->parameters[i].name);
                row[i].value = borrow_text(fence->parameters[i].value);
        }
        return 0;
}

/* What failover knows of it. */
static int write_node_fate(Pieces *pieces, const NodeRecord *node, Gpupool1__NodeRecord *ret) {
        ret->lease_ms = node->lease_ms;
        ret->death_ms = node->death_ms;
        ret->long_lease_ms = node->long_lease_ms;
        ret->lost = node->lost;
        ret->lost_idle = node->lost_idle;
        ret->evidence = (Gpupool1__LossEvidence) node->evidence;
        ret->n_losses_ms = node->n_losses;
        ret->losses_ms = (uint64_t *) node->losses_ms;
        ret->drain = (Gpupool1__DrainCause) node->drain;
        ret->drain_timeout_ms = node->drain_timeout_ms;
        ret->bring_home = node->bring_home;
        return write_fence(pieces, &node->fence, ret);
}

static int write_fabric(Pieces *pieces, const FabricSets *sets, Gpupool1__NodeRecord *ret) {
        Gpupool1__FabricSet *row;
        int r = TAKE_ROW(pieces, sets->n, Gpupool1__FabricSet, gpupool1__fabric_set__init, row, ret->fabric);
        if (r < 0)
                return r;
        ret->n_fabric = sets->n;
        ARRAY_EACH(set, sets) {
                row->n_slots = set->slots.n;
                row++->slots = set->slots.items;
        }
        return 0;
}

static int write_nodes(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__NodeRecord *row;
        int r = TAKE_ROW(pieces, registry->nodes.n, Gpupool1__NodeRecord, gpupool1__node_record__init, row, ret->nodes);
        if (r < 0)
                return r;
        ret->n_nodes = registry->nodes.n;
        ARRAY_EACH(node, &registry->nodes) {
                row->node = id_message_borrow(node->id.bytes);
                row->name = borrow_text(node->name);
                row->boot_id = borrow_text(node->boot_id);
                row->incarnation = node->incarnation;
                row->n_addresses = node->addresses.n;
                row->addresses = node->addresses.items;
                row->level = node->level;
                row->key = borrow_key(node->key, node->has_key);
                row->witness = node->witness;
                row->joined_index = node->joined_index;
                r = write_fabric(pieces, &node->fabric, row);
                if (r >= 0)
                        r = write_node_fate(pieces, node, row++);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_pool(Pieces *pieces, const Pool *pool, Gpupool1__PoolRecord *ret) {
        Gpupool1__PoolRule *rule;
        Gpupool1__Gpu *gpu;
        Gpupool1__PoolPolicy *policy = take(pieces, 1, sizeof(*policy));
        if (!policy)
                return -ENOMEM;
        gpupool1__pool_policy__init(policy);
        policy->set_placement = policy->set_reserve = policy->set_max_in_use = true;
        policy->placement = (Gpupool1__PlacementKind) pool->placement;
        policy->reserve = pool->reserve;
        policy->max_in_use = pool->max_in_use;
        policy->set_after_use = pool->after_use != AFTER_USE_HOST;
        policy->after_use = (Gpupool1__AfterUse) pool->after_use;
        ret->policy = policy;
        ret->name = borrow_text(pool->name);

        int r = TAKE_ROW(pieces, pool->rules.n, Gpupool1__PoolRule, gpupool1__pool_rule__init, rule, ret->rules);
        if (r >= 0)
                r = TAKE_ROW(pieces, pool->gpus.n, Gpupool1__Gpu, gpupool1__gpu__init, gpu, ret->gpus);
        if (r < 0)
                return r;
        ret->n_rules = pool->rules.n;
        for (size_t i = 0; i < pool->rules.n; i++) {
                rule[i].vendor = borrow_text(pool->rules.items[i].vendor);
                rule[i].device = borrow_text(pool->rules.items[i].device);
                rule[i].node = borrow_text(pool->rules.items[i].node);
                rule[i].set = borrow_text(pool->rules.items[i].set);
        }
        ret->n_gpus = pool->gpus.n;
        for (size_t i = 0; r >= 0 && i < pool->gpus.n; i++)
                r = write_gpu(pieces, pool->gpus.items + i, gpu + i);
        return r;
}

static int write_pools(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__PoolRecord *row;
        int r = TAKE_ROW(pieces, registry->pools.n, Gpupool1__PoolRecord, gpupool1__pool_record__init, row, ret->pools);
        ret->n_pools = registry->pools.n;
        for (size_t i = 0; r >= 0 && i < registry->pools.n; i++)
                r = write_pool(pieces, registry->pools.items + i, row + i);
        return r;
}

static int write_vm_policy(Pieces *pieces, const Vm *vm, Gpupool1__VmPolicy **ret) {
        Gpupool1__Affinity *affinity;
        Gpupool1__VmPolicy *policy = take(pieces, 1, sizeof(*policy));
        if (!policy)
                return -ENOMEM;
        gpupool1__vm_policy__init(policy);
        policy->set_priority = policy->set_restart = policy->set_preferred_nodes = policy->set_affinity = true;
        policy->priority = vm->priority;
        policy->restart = (Gpupool1__RestartKind) vm->restart;
        /* Left out where it is not so, as by those who do not know it yet. */
        policy->set_preempt = policy->preempt = vm->preempt;
        policy->set_preemptible = policy->preemptible = vm->preemptible;
        policy->n_preferred_nodes = vm->preferred_nodes.n;
        policy->preferred_nodes = vm->preferred_nodes.items;

        int r = TAKE_ROW(pieces, vm->n_affinity, Gpupool1__Affinity, gpupool1__affinity__init, affinity,
                         policy->affinity);
        if (r < 0)
                return r;
        policy->n_affinity = vm->n_affinity;
        for (size_t i = 0; i < vm->n_affinity; i++) {
                affinity[i].kind = borrow_text(affinity_kind_to_text(vm->affinity[i].kind));
                affinity[i].vm = borrow_text(vm->affinity[i].vm);
        }
        *ret = policy;
        return 0;
}

static int write_assignment(Pieces *pieces, const Vm *vm, Gpupool1__VmRecord *ret) {
        Gpupool1__AssignedGpu *assigned;
        Gpupool1__Gpu *gpu, **unused;
        const Assignment *assignment = &vm->assignment;
        int r = TAKE_ROW(pieces, assignment->n_gpus, Gpupool1__AssignedGpu, gpupool1__assigned_gpu__init, assigned,
                         ret->gpus);
        if (r >= 0)
                r = TAKE_ROW(pieces, assignment->n_gpus, Gpupool1__Gpu, gpupool1__gpu__init, gpu, unused);
        if (r < 0)
                return r;
        (void) unused;
        ret->n_gpus = assignment->n_gpus;
        for (size_t i = 0; r >= 0 && i < assignment->n_gpus; i++) {
                r = write_gpu(pieces, &assignment->gpus[i].gpu, gpu + i);
                assigned[i].gpu = gpu + i;
                assigned[i].iommu_group = assignment->gpus[i].iommu_group;
        }
        ret->phase = (Gpupool1__AssignmentPhase) assignment->phase;
        ret->node = id_message_borrow(assignment->node.bytes);
        ret->incarnation = assignment->incarnation;
        ret->ran = assignment->ran;
        ret->leased = assignment->leased;
        return r;
}

static int write_vm(Pieces *pieces, const Vm *vm, Gpupool1__VmRecord *ret) {
        Gpupool1__PlacementNote *note;
        Gpupool1__Requirement *requirement = take(pieces, 1, sizeof(*requirement));
        if (!requirement)
                return -ENOMEM;
        gpupool1__requirement__init(requirement);
        requirement->pool = borrow_text(vm->pool);
        requirement->count = vm->count;
        requirement->set_model = vm->model != NULL;
        requirement->model = borrow_text(vm->model);

        ret->vm = id_message_borrow(vm->id.bytes);
        ret->name = borrow_text(vm->name);
        ret->xml = borrow_text(vm->xml);
        ret->requirement = requirement;
        ret->owner_uid = vm->owner_uid;
        ret->owner_user = borrow_text(vm->owner_user);
        ret->run = vm->run;
        ret->epoch = vm->epoch;
        ret->attempts = vm->attempts;
        ret->failed = vm->failed;
        ret->reason_code = borrow_text(vm->reason_code);
        ret->reason = borrow_text(vm->reason);
        ret->stop_kind = (Gpupool1__DesireKind) vm->stop_kind;
        ret->stop_timeout_ms = vm->stop_timeout_ms;
        if (!id_is_null(vm->target.bytes))
                ret->target = id_message_borrow(vm->target.bytes);
        if (!id_is_null(vm->home.bytes))
                ret->home = id_message_borrow(vm->home.bytes);

        int r = write_vm_policy(pieces, vm, &ret->policy);
        if (r >= 0)
                r = write_assignment(pieces, vm, ret);
        if (r >= 0)
                r = TAKE_ROW(pieces, vm->n_notes, Gpupool1__PlacementNote, gpupool1__placement_note__init, note,
                             ret->notes);
        if (r < 0)
                return r;
        ret->n_notes = vm->n_notes;
        for (size_t i = 0; i < vm->n_notes; i++) {
                note[i].node = borrow_text(vm->notes[i].node);
                note[i].chosen = vm->notes[i].chosen;
                note[i].why = borrow_text(vm->notes[i].why);
        }
        return 0;
}

static int write_vms(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__VmRecord *row;
        int r = TAKE_ROW(pieces, registry->vms.n, Gpupool1__VmRecord, gpupool1__vm_record__init, row, ret->vms);
        ret->n_vms = registry->vms.n;
        for (size_t i = 0; r >= 0 && i < registry->vms.n; i++)
                r = write_vm(pieces, registry->vms.items + i, row + i);
        return r;
}

static int write_quarantines(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__QuarantineRecord *row;
        Gpupool1__Gpu *gpu, **unused;
        size_t n = registry->quarantines.n;
        int r = TAKE_ROW(pieces, n, Gpupool1__QuarantineRecord, gpupool1__quarantine_record__init, row,
                         ret->quarantines);
        if (r >= 0)
                r = TAKE_ROW(pieces, n, Gpupool1__Gpu, gpupool1__gpu__init, gpu, unused);
        if (r < 0)
                return r;
        (void) unused;
        ret->n_quarantines = n;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const Quarantine *quarantine = registry->quarantines.items + i;
                r = write_gpu(pieces, &quarantine->gpu, gpu + i);
                row[i].gpu = gpu + i;
                row[i].cause = (Gpupool1__QuarantineCause) quarantine->cause;
                row[i].sentence = borrow_text(quarantine->sentence);
                row[i].time_ms = quarantine->time_ms;
        }
        return r;
}

static int write_events(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__EventRecord *row;
        int r = TAKE_ROW(pieces, registry->events.n, Gpupool1__EventRecord, gpupool1__event_record__init, row,
                         ret->events);
        if (r < 0)
                return r;
        ret->n_events = registry->events.n;
        ARRAY_EACH(event, &registry->events) {
                row->sequence = event->sequence;
                row->time_ms = event->time_ms;
                row->kind = borrow_text(event->kind);
                row->object_kind = borrow_text(object_kind_to_text(event->object_kind));
                row->object = borrow_text(event->object);
                row->node = id_message_borrow(event->node.bytes);
                row->uid = event->uid;
                row->user = borrow_text(event->user);
                row->action = borrow_text(event->action);
                row->message = borrow_text(event->message);
                row++;
        }
        return 0;
}

static int write_requests(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__RequestRecord *row;
        int r = TAKE_ROW(pieces, registry->requests.n, Gpupool1__RequestRecord, gpupool1__request_record__init, row,
                         ret->requests);
        if (r < 0)
                return r;
        ret->n_requests = registry->requests.n;
        ARRAY_EACH(request, &registry->requests) {
                row->request_id = id_message_borrow(request->id.bytes);
                row->fingerprint = request->fingerprint;
                row->verdict = request->verdict;
                row->sentence = borrow_text(request->sentence);
                row++;
        }
        return 0;
}

static int write_invites(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__InviteRecord *row;
        int r = TAKE_ROW(pieces, registry->invites.n, Gpupool1__InviteRecord, gpupool1__invite_record__init, row,
                         ret->invites);
        if (r < 0)
                return r;
        ret->n_invites = registry->invites.n;
        ARRAY_EACH(invite, &registry->invites) {
                row->invite = id_message_borrow(invite->id.bytes);
                row->secret_hash = borrow_key(invite->secret_hash, true);
                row->expires_ms = invite->expires_ms;
                if (!id_is_null(invite->node.bytes))
                        row->node = id_message_borrow(invite->node.bytes);
                row++;
        }
        return 0;
}

static int write_removed(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        Gpupool1__RemovedRecord *row;
        int r = TAKE_ROW(pieces, registry->removed.n, Gpupool1__RemovedRecord, gpupool1__removed_record__init, row,
                         ret->removed);
        if (r < 0)
                return r;
        ret->n_removed = registry->removed.n;
        ARRAY_EACH(removed, &registry->removed) {
                row->node = id_message_borrow(removed->id.bytes);
                row->key = borrow_key(removed->key, removed->has_key);
                row->name = borrow_text(removed->name);
                row->time_ms = removed->time_ms;
                row++;
        }
        return 0;
}

static int write_import(Pieces *pieces, const Registry *registry, Gpupool1__Snapshot *ret) {
        if (registry->import.total == 0)
                return 0;
        Gpupool1__ImportRecord *record = take(pieces, 1, sizeof(*record));
        if (!record)
                return -ENOMEM;
        gpupool1__import_record__init(record);
        record->checksum = registry->import.checksum;
        record->total = registry->import.total;
        record->bytes = (ProtobufCBinaryData) { .len = registry->import.n, .data = registry->import.items };
        ret->import = record;
        return 0;
}

int registry_encode(const Registry *registry, uint8_t **ret_bytes, size_t *ret_size) {
        _cleanup_(pieces_clear) Pieces pieces = {};
        Gpupool1__Snapshot snapshot = GPUPOOL1__SNAPSHOT__INIT;
        snapshot.format = SNAPSHOT_FORMAT;
        snapshot.index = registry->index;
        snapshot.cluster = id_message_borrow(registry->cluster.bytes);
        snapshot.name = borrow_text(registry->name);
        snapshot.level = registry->level;
        snapshot.next_event = registry->next_event;
        snapshot.freezes = registry->freezes;
        snapshot.frozen_ms = registry->frozen_ms;

        int (*const writers[])(Pieces *, const Registry *, Gpupool1__Snapshot *) = {
                write_nodes, write_pools, write_vms, write_quarantines, write_events, write_requests,
                write_invites, write_removed, write_import,
        };
        for (size_t i = 0; i < ELEMENTS(writers); i++) {
                int r = writers[i](&pieces, registry, &snapshot);
                if (r < 0)
                        return r;
        }

        size_t size = gpupool1__snapshot__get_packed_size(&snapshot);
        if (size > SNAPSHOT_SIZE_MAX)
                return -E2BIG;
        uint8_t *bytes = malloc(size ? size : 1);
        if (!bytes)
                return -ENOMEM;
        gpupool1__snapshot__pack(&snapshot, bytes);
        *ret_bytes = bytes;
        *ret_size = size;
        return 0;
}

int registry_encode_backup(const Registry *registry, uint8_t **ret_bytes, size_t *ret_size) {
        Registry kept = *registry;
        kept.events.n = kept.requests.n = kept.invites.n = kept.removed.n = 0;
        kept.import = (Import) {};
        /* An import takes no fencing either, and its secrets stay out of the file. */
        NodeRecord *nodes = calloc(registry->nodes.n + 1, sizeof(*nodes));
        if (!nodes)
                return -ENOMEM;
        for (size_t i = 0; i < registry->nodes.n; i++) {
                nodes[i] = registry->nodes.items[i];
                nodes[i].fence = (Fence) {};
        }
        kept.nodes.items = nodes;
        int r = registry_encode(&kept, ret_bytes, ret_size);
        free(nodes);
        return r;
}
