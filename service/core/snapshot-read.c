/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A snapshot read back. What is read is held against the same limits as a command, and its order against the order that
 * lookups rely on: a snapshot comes from a disk or a peer. Each function here returns 0, -EINVAL or -ENOMEM. */

#include <errno.h>

#include "core/names.h"
#include "core/registry-internal.h"
#include "core/wire.h"

/* Fields in all: half as many again as a registry at all its limits has. */
#define SNAPSHOT_ITEMS_MAX (16U * 1024U * 1024U)

#define OBJECT_LENGTH_MAX 127U  /* of an event: "<node hex> <address>", or a name */

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

/* What failover knows of it. */
static int read_node_fate(const Gpupool1__NodeRecord *m, NodeRecord *ret) {
        if (!lease_fields_are_valid(m->lease_ms, m->death_ms, m->witness) ||
            m->long_lease_ms > LEASE_ALONE_MS || m->n_losses_ms > FLAP_LOSSES ||
            (unsigned) m->evidence >= LOSS_EVIDENCE_COUNT || (unsigned) m->drain >= DRAIN_CAUSE_COUNT)
                return -EINVAL;
        ret->lease_ms = m->lease_ms;
        ret->death_ms = m->death_ms;
        ret->long_lease_ms = m->long_lease_ms;
        ret->lost = m->lost;
        ret->lost_idle = m->lost_idle;
        ret->evidence = (LossEvidence) m->evidence;
        for (; ret->n_losses < m->n_losses_ms; ret->n_losses++)
                ret->losses_ms[ret->n_losses] = m->losses_ms[ret->n_losses];
        ret->drain = (DrainCause) m->drain;
        ret->drain_timeout_ms = m->drain_timeout_ms;
        ret->bring_home = m->bring_home;
        return fence_read(m->fence_agent, m->fence_parameters, m->n_fence_parameters, &ret->fence);
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
                        r = read_node_fate(m, &node);
                if (r >= 0)
                        r = fabric_read(&node.fabric, m->fabric, m->n_fabric);
                if (r >= 0)
                        r = array_append(&registry->nodes, &node);
                if (r < 0) {
                        node_record_clear(&node);
                        return r;
                }
        }
        return registry_fences_size(registry) <= FENCE_TOTAL_MAX &&
               registry_fabric_slots(registry) <= FABRIC_TOTAL_MAX ? 0 : -EINVAL;
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
                r = vm_read_needs(ret);
        if (r >= 0)
                r = read_text(m->requirement->pool, NAME_LENGTH_MAX, &ret->pool);
        if (r >= 0)
                r = vm_model_read(ret, m->requirement);
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
        ret->assignment.leased = m->leased;

        int r = read_id(&m->vm, ret->id.bytes);
        if (r >= 0)
                r = read_id(&m->node, ret->assignment.node.bytes);
        if (r >= 0 && m->target.len > 0)
                r = read_id(&m->target, ret->target.bytes);
        if (r >= 0 && m->home.len > 0)
                r = read_id(&m->home, ret->home.bytes);
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
                r = read_text(m->object, OBJECT_LENGTH_MAX, &ret->object);
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
        if (wire_check(&gpupool1__snapshot__descriptor, bytes, size, SNAPSHOT_ITEMS_MAX) != WIRE_GOOD)
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
        registry->index = registry->members_index = snapshot->index;
        registry->level = snapshot->level;
        registry->next_event = snapshot->next_event;
        registry->freezes = snapshot->freezes;
        registry->frozen_ms = snapshot->frozen_ms;
        r = read_all(registry, snapshot);
        if (r == -EINVAL)
                return SNAPSHOT_GARBAGE;
        if (r < 0)
                return r;
        *ret = STEAL(registry);
        return SNAPSHOT_GOOD;
}
