/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Snapshot: the registry's whole state as bytes and back. What is read is held against the same limits as a command,
 * and its order against the order that lookups rely on: a snapshot comes from a disk or a peer. */

#include <errno.h>
#include <stdio.h>

#include "core/names.h"
#include "core/registry-internal.h"

#define SNAPSHOT_FORMAT 1U

/* What all limits together allow is less than what a snapshot may have: a registry can always be written down and read
 * back. Bytes of the longest item of each kind, with what protobuf puts around it; 10 for each number that is not said
 * to be smaller. */
#define GPU_SIZE (3U + 18U + 97U + 4U * 4U + 33U + 20U)
#define NODE_SIZE (4U + 18U + 2U * 65U + 3U * 11U + ADDRESSES_MAX * (3U + ADDRESS_LENGTH_MAX) + 34U + 2U)
#define POOL_SIZE (5U + 65U + 3U * 11U + POOL_RULES_MAX * (3U + 3U * 65U))
#define VM_SIZE (5U + 18U + 65U + 4U + 65U + 8U + 65U + 12U * 11U + 66U + 3U + TEXT_LENGTH_MAX + 18U)
#define QUARANTINE_SIZE (4U + GPU_SIZE + 11U + 3U + TEXT_LENGTH_MAX + 11U)
#define EVENT_SIZE (4U + 2U * 11U + 65U + 9U + 3U + 128U + 18U + 11U + 2U * 65U + 3U + SENTENCE_LENGTH_MAX)
#define REQUEST_SIZE (4U + 18U + 11U + 6U + 3U + SENTENCE_LENGTH_MAX)
#define INVITE_SIZE (2U + 18U + 34U + 11U + 18U)
#define REMOVED_SIZE (2U + 18U + 34U + 65U + 11U)
/* What is kept of a decision without a reason, when the room for reasons is used up. */
#define NOTES_TOTAL_MOST (NOTES_TOTAL_MAX + VMS_MAX * (NAME_LENGTH_MAX + 17U))
_Static_assert((uint64_t) NODES_MAX * NODE_SIZE + POOLS_MAX * POOL_SIZE + 2 * POOL_GPUS_MAX * (GPU_SIZE + 9U) +
                               VMS_MAX * VM_SIZE + XML_TOTAL_MAX + NOTES_TOTAL_MOST +
                               QUARANTINES_MAX * QUARANTINE_SIZE + EVENTS_MAX * EVENT_SIZE +
                               REQUESTS_MAX * REQUEST_SIZE + INVITES_MAX * INVITE_SIZE + REMOVED_MAX * REMOVED_SIZE +
                               IMPORT_SIZE_MAX + 4096U <
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
                row++;
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
        policy->n_preferred_nodes = vm->preferred_nodes.n;
        policy->preferred_nodes = vm->preferred_nodes.items;

        int r = TAKE_ROW(pieces, vm->n_affinity, Gpupool1__Affinity, gpupool1__affinity__init, affinity,
                         policy->affinity);
        if (r < 0)
                return r;
        policy->n_affinity = vm->n_affinity;
        for (size_t i = 0; i < vm->n_affinity; i++) {
                affinity[i].kind = borrow_text(vm->affinity[i].kind);
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

/* ---- reading; each returns 0, -EINVAL or -ENOMEM */

static int read_id(const ProtobufCBinaryData *data, uint8_t ret[static ID_SIZE]) {
        if (data->len != ID_SIZE)
                return -EINVAL;
        memcpy(ret, data->data, ID_SIZE);
        return 0;
}

/* 1: it is there; 0: it is empty; or -EINVAL. */
static int read_key(const ProtobufCBinaryData *data, uint8_t ret[HASH_SIZE]) {
        if (data->len == 0)
                return 0;
        if (data->len != HASH_SIZE)
                return -EINVAL;
        memcpy(ret, data->data, HASH_SIZE);
        return 1;
}

static int read_text(const char *text, size_t most, char **ret) {
        if (strlen(text) > most || !text_is_printable(text))
                return -EINVAL;
        return text_set(ret, text);
}

static int read_nodes(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_nodes > NODES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_nodes; i++) {
                const Gpupool1__NodeRecord *m = snapshot->nodes[i];
                NodeRecord node = { .incarnation = m->incarnation, .level = m->level, .witness = m->witness,
                                    .joined_index = m->joined_index };
                size_t place;
                bool valid = node_id_is_valid(&m->node) && m->joined_index <= snapshot->index &&
                             node_fields_are_valid(m->name, m->boot_id, m->incarnation, m->addresses, m->n_addresses);
                int r = valid ? read_id(&m->node, node.id.bytes) : -EINVAL;
                if (r >= 0)
                        r = read_key(&m->key, node.key);
                node.has_key = r > 0;
                if (r >= 0 && (registry_node_place(registry, &node.id, &place) || place != registry->nodes.n))
                        r = -EINVAL;
                if (r >= 0)
                        r = read_text(m->name, NAME_LENGTH_MAX, &node.name);
                if (r >= 0)
                        r = read_text(m->boot_id, NAME_LENGTH_MAX, &node.boot_id);
                for (size_t j = 0; r >= 0 && j < m->n_addresses; j++)
                        r = text_list_add(&node.addresses, m->addresses[j]);
                if (r >= 0)
                        r = array_append(&registry->nodes, &node);
                if (r < 0) {
                        node_record_clear(&node);
                        return r;
                }
        }
        return 0;
}

static int read_pool(const Gpupool1__PoolRecord *m, Pool *ret) {
        if (!name_is_valid(m->name) || !m->policy)
                return -EINVAL;
        int r = read_text(m->name, NAME_LENGTH_MAX, &ret->name);
        if (r >= 0)
                r = pool_policy_read(ret, m->policy);
        if (r >= 0)
                r = pool_rules_read(&ret->rules, m->rules, m->n_rules);
        for (size_t i = 0; r >= 0 && i < m->n_gpus; i++) {
                GpuIdentity gpu;
                r = gpu_message_read(m->gpus[i], &gpu);
                if (r >= 0 && i > 0 && gpu_identity_compare(ret->gpus.items + i - 1, &gpu) >= 0)
                        r = -EINVAL;
                if (r >= 0)
                        r = pool_add(ret, &gpu);
        }
        return r;
}

static int read_pools(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_pools > POOLS_MAX)
                return -EINVAL;
        size_t n_gpus = 0;
        for (size_t i = 0; i < snapshot->n_pools; i++)
                n_gpus += snapshot->pools[i]->n_gpus;
        if (n_gpus > POOL_GPUS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_pools; i++) {
                Pool pool = {};
                size_t place;
                int r = read_pool(snapshot->pools[i], &pool);
                if (r >= 0 && (registry_pool_place(registry, pool.name, &place) || place != registry->pools.n))
                        r = -EINVAL;
                if (r >= 0)
                        r = array_append(&registry->pools, &pool);
                if (r < 0) {
                        pool_clear(&pool);
                        return r;
                }
        }
        return 0;
}

static int read_vm_texts(const Gpupool1__VmRecord *m, Vm *ret) {
        int r = read_text(m->name, NAME_LENGTH_MAX, &ret->name);
        if (r >= 0)
                r = *m->xml && strlen(m->xml) <= XML_SIZE_MAX ? text_set(&ret->xml, m->xml) : -EINVAL;
        if (r >= 0)
                r = read_text(m->requirement->pool, NAME_LENGTH_MAX, &ret->pool);
        if (r >= 0)
                r = read_text(m->owner_user, NAME_LENGTH_MAX, &ret->owner_user);
        if (r >= 0 && *m->reason_code)
                r = read_text(m->reason_code, NAME_LENGTH_MAX, &ret->reason_code);
        if (r >= 0 && *m->reason)
                r = read_text(m->reason, TEXT_LENGTH_MAX, &ret->reason);
        return r;
}

static bool notes_are_printable(const Gpupool1__VmRecord *m) {
        for (size_t i = 0; i < m->n_notes; i++)
                if (!text_is_printable(m->notes[i]->node) || !text_is_printable(m->notes[i]->why))
                        return false;
        return true;
}

static int read_vm(const Gpupool1__VmRecord *m, Vm *ret) {
        if (!name_is_valid(m->name) || !m->requirement || (unsigned) m->phase >= ASSIGNMENT_PHASE_COUNT ||
            (unsigned) m->stop_kind >= VM_DESIRE_COUNT || m->n_gpus > GPUS_PER_VM_MAX || m->n_notes > NODES_MAX ||
            m->requirement->count < 1 || m->requirement->count > GPUS_PER_VM_MAX || !notes_are_printable(m))
                return -EINVAL;

        ret->count = m->requirement->count;
        ret->owner_uid = m->owner_uid;
        ret->run = m->run;
        ret->epoch = m->epoch;
        ret->attempts = m->attempts;
        ret->failed = m->failed;
        ret->stop_kind = (VmDesire) m->stop_kind;
        ret->stop_timeout_ms = m->stop_timeout_ms;
        ret->assignment.phase = (AssignmentPhase) m->phase;
        ret->assignment.incarnation = m->incarnation;
        ret->assignment.ran = m->ran;

        int r = read_id(&m->vm, ret->id.bytes);
        if (r >= 0)
                r = read_id(&m->node, ret->assignment.node.bytes);
        if (r >= 0)
                r = read_vm_texts(m, ret);
        if (r >= 0)
                r = vm_policy_read(ret, m->policy);
        if (r >= 0)
                r = assigned_gpus_read(&ret->assignment, m->gpus, m->n_gpus);
        if (r >= 0)
                r = notes_read(ret, m->notes, m->n_notes);
        return r;
}

static int read_vms(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_vms > VMS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_vms; i++) {
                Vm vm = {};
                size_t place;
                int r = read_vm(snapshot->vms[i], &vm);
                if (r >= 0 && (registry_vm_place(registry, &vm.id, &place) || place != registry->vms.n))
                        r = -EINVAL;
                if (r >= 0) {
                        registry->xml_total += vm_text_size(&vm);
                        registry->notes_total += vm_notes_size(&vm);
                        if (registry->xml_total > XML_TOTAL_MAX || registry->notes_total > NOTES_TOTAL_MOST)
                                r = -EINVAL;
                }
                if (r >= 0)
                        r = array_append(&registry->vms, &vm);
                if (r < 0) {
                        vm_clear(&vm);
                        return r;
                }
        }
        return 0;
}

static int read_quarantines(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_quarantines > QUARANTINES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_quarantines; i++) {
                const Gpupool1__QuarantineRecord *m = snapshot->quarantines[i];
                Quarantine quarantine = { .cause = (QuarantineCause) m->cause, .time_ms = m->time_ms };
                size_t place;
                int r = (unsigned) m->cause < QUARANTINE_CAUSE_COUNT ? gpu_message_read(m->gpu, &quarantine.gpu)
                                                                     : -EINVAL;
                if (r >= 0 &&
                    (registry_quarantine_place(registry, &quarantine.gpu, &place) || place != registry->quarantines.n))
                        r = -EINVAL;
                if (r >= 0)
                        r = read_text(m->sentence, TEXT_LENGTH_MAX, &quarantine.sentence);
                if (r >= 0)
                        r = array_append(&registry->quarantines, &quarantine);
                if (r < 0) {
                        quarantine_clear(&quarantine);
                        return r;
                }
        }
        return 0;
}

static int object_kind_from_text(const char *text, ObjectKind *ret) {
        for (ObjectKind kind = 0; kind < OBJECT_KIND_COUNT; kind++)
                if (text_equal(text, object_kind_to_text(kind))) {
                        *ret = kind;
                        return 0;
                }
        return -EINVAL;
}

static int read_event(const Gpupool1__EventRecord *m, Event *ret) {
        ret->sequence = m->sequence;
        ret->time_ms = m->time_ms;
        ret->uid = m->uid;
        int r = object_kind_from_text(m->object_kind, &ret->object_kind);
        if (r >= 0)
                r = read_id(&m->node, ret->node.bytes);
        if (r >= 0)
                r = read_text(m->kind, NAME_LENGTH_MAX, &ret->kind);
        if (r >= 0)
                r = read_text(m->object, TEXT_LENGTH_MAX, &ret->object);
        if (r >= 0)
                r = read_text(m->user, NAME_LENGTH_MAX, &ret->user);
        if (r >= 0)
                r = read_text(m->action, NAME_LENGTH_MAX, &ret->action);
        if (r >= 0)
                r = read_text(m->message, SENTENCE_LENGTH_MAX, &ret->message);
        return r;
}

static int read_events(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_events > EVENTS_MAX || snapshot->n_events >= snapshot->next_event)
                return -EINVAL;
        uint64_t first = snapshot->next_event - snapshot->n_events;     /* none is left out */
        for (size_t i = 0; i < snapshot->n_events; i++) {
                Event event = {};
                int r = read_event(snapshot->events[i], &event);
                if (r >= 0 && event.sequence != first + i)
                        r = -EINVAL;
                if (r >= 0)
                        r = array_append(&registry->events, &event);
                if (r < 0) {
                        event_clear(&event);
                        return r;
                }
        }
        return 0;
}

static int read_requests(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_requests > REQUESTS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_requests; i++) {
                const Gpupool1__RequestRecord *m = snapshot->requests[i];
                RequestRecord request = { .fingerprint = m->fingerprint, .verdict = (Verdict) m->verdict };
                bool valid = m->verdict < VERDICT_COUNT && m->verdict != VERDICT_EXPIRED;
                int r = valid ? read_id(&m->request_id, request.id.bytes) : -EINVAL;
                if (r >= 0 && *m->sentence)
                        r = read_text(m->sentence, SENTENCE_LENGTH_MAX, &request.sentence);
                if (r >= 0)
                        r = array_append(&registry->requests, &request);
                if (r < 0) {
                        request_record_clear(&request);
                        return r;
                }
        }
        return 0;
}

static int read_invites(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_invites > INVITES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_invites; i++) {
                const Gpupool1__InviteRecord *m = snapshot->invites[i];
                Invite invite = { .expires_ms = m->expires_ms };
                int r = read_id(&m->invite, invite.id.bytes);
                if (r >= 0 && (id_is_null(invite.id.bytes) || registry_find_invite(registry, &invite.id) ||
                               read_key(&m->secret_hash, invite.secret_hash) <= 0))
                        r = -EINVAL;
                if (r >= 0 && m->node.len > 0)
                        r = read_id(&m->node, invite.node.bytes);
                if (r >= 0)
                        r = array_append(&registry->invites, &invite);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_removed(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        if (snapshot->n_removed > REMOVED_MAX)
                return -EINVAL;
        for (size_t i = 0; i < snapshot->n_removed; i++) {
                const Gpupool1__RemovedRecord *m = snapshot->removed[i];
                RemovedNode removed = { .time_ms = m->time_ms };
                int r = read_id(&m->node, removed.id.bytes);
                if (r >= 0)
                        r = read_key(&m->key, removed.key);
                removed.has_key = r > 0;
                if (r >= 0 && (!name_is_valid(m->name) || registry_find_node(registry, &removed.id) ||
                               registry_find_removed(registry, &removed.id)))
                        r = -EINVAL;
                if (r >= 0)
                        r = text_set(&removed.name, m->name);
                if (r >= 0)
                        r = array_append(&registry->removed, &removed);
                if (r < 0) {
                        removed_node_clear(&removed);
                        return r;
                }
        }
        return 0;
}

/* Only a cluster with nothing to lose imports, and what is whole is not kept. */
static int read_import(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        const Gpupool1__ImportRecord *m = snapshot->import;
        Import *import = &registry->import;
        if (!m)
                return 0;
        if (m->total > IMPORT_SIZE_MAX || m->bytes.len == 0 || m->bytes.len >= m->total || registry->pools.n > 0 ||
            registry->vms.n > 0)
                return -EINVAL;
        int r = array_reserve(&import->items, &import->allocated, m->bytes.len, 1);
        if (r < 0)
                return r;
        memcpy(import->items, m->bytes.data, m->bytes.len);
        import->n = m->bytes.len;
        import->total = m->total;
        import->checksum = m->checksum;
        return 0;
}

static int read_all(Registry *registry, const Gpupool1__Snapshot *snapshot) {
        int (*const readers[])(Registry *, const Gpupool1__Snapshot *) = {
                read_nodes, read_pools, read_vms, read_quarantines, read_events, read_requests,
                read_invites, read_removed, read_import,
        };
        int r = read_id(&snapshot->cluster, registry->cluster.bytes);
        if (r >= 0 && !id_is_null(registry->cluster.bytes))
                r = name_is_valid(snapshot->name) ? text_set(&registry->name, snapshot->name) : -EINVAL;
        for (size_t i = 0; r >= 0 && i < ELEMENTS(readers); i++)
                r = readers[i](registry, snapshot);
        return r < 0 ? r : registry_check(registry);
}

/* Two bytes may ask for a hundred: what reading may take is bounded by what an honest snapshot of that size takes. */
typedef struct Budget {
        ProtobufCAllocator allocator;
        size_t left;
} Budget;

static void *take_from_budget(void *data, size_t size) {
        Budget *budget = data;
        if (size > budget->left)
                return NULL;
        budget->left -= size;
        return malloc(size);
}

static void give_back(void *data, void *memory) {
        free(memory);
}

static void snapshot_message_freep(Gpupool1__Snapshot **message) {
        if (*message)
                gpupool1__snapshot__free_unpacked(*message, NULL);
}

int registry_decode(const uint8_t *bytes, size_t size, Registry **ret) {
        return registry_decode_at(bytes, size, LEVEL_SUPPORTED, ret);
}

int registry_decode_at(const uint8_t *bytes, size_t size, uint32_t level, Registry **ret) {
        if (size > SNAPSHOT_SIZE_MAX)
                return SNAPSHOT_GARBAGE;
        Budget budget = { .allocator = { .alloc = take_from_budget, .free = give_back }, .left = 16 * size + 65536 };
        budget.allocator.allocator_data = &budget;
        _cleanup_(snapshot_message_freep) Gpupool1__Snapshot *snapshot =
                gpupool1__snapshot__unpack(&budget.allocator, size, bytes);
        if (!snapshot)
                return SNAPSHOT_GARBAGE;
        if (snapshot->format > SNAPSHOT_FORMAT || snapshot->level > level)
                return SNAPSHOT_NEWER;
        if (snapshot->format != SNAPSHOT_FORMAT || snapshot->next_event == 0)
                return SNAPSHOT_GARBAGE;

        _cleanup_(registry_freep) Registry *registry = NULL;
        int r = registry_new(&registry);
        if (r < 0)
                return r;
        registry->index = snapshot->index;
        registry->level = snapshot->level;
        registry->next_event = snapshot->next_event;
        r = read_all(registry, snapshot);
        if (r == -EINVAL)
                return SNAPSHOT_GARBAGE;
        if (r < 0)
                return r;
        *ret = STEAL(registry);
        return SNAPSHOT_GOOD;
}
