/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chronicle.h"
#include "core/registry-internal.h"

#include <errno.h>
#include <stdio.h>

#define XML "<domain/>"

Chronicle chronicle_empty(void) {
        Chronicle c = {};
        g_assert_cmpint(registry_new(&c.registry), ==, 0);
        return c;
}

Chronicle chronicle_of_a_pool(void) {
        Chronicle c = chronicle_empty();
        ASSERT_DONE(tell_init(&c, "lab"));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
        ASSERT_DONE(tell_pool(&c, "training", 1, 4));
        return c;
}

Chronicle chronicle_of_a_vm(uint32_t count) {
        Chronicle c = chronicle_of_a_pool();
        ASSERT_DONE(tell_vm(&c, 1, "bert", "training", count));
        ASSERT_DONE(tell_desired(&c, 1, VM_RUN, 0));
        return c;
}

void chronicle_clear(Chronicle *c) {
        registry_free(c->registry);
        registry_free(c->twin);
        free(c->sentence);
        *c = (Chronicle) {};
}

/* ---- things with numbers */

#define NUMBERED(type, kind, n) ((type) { { (kind), (uint8_t) ((n) >> 16), (uint8_t) ((n) >> 8), (uint8_t) (n) } })

NodeId NODE(unsigned n) {
        return NUMBERED(NodeId, 0xa0, n);
}

VmId VM(unsigned n) {
        return NUMBERED(VmId, 0xb0, n);
}

RequestId REQUEST(unsigned n) {
        return NUMBERED(RequestId, 0xc0, n);
}

InviteId INVITE(unsigned n) {
        return NUMBERED(InviteId, 0xd0, n);
}

static Hash hash_of(uint8_t kind, unsigned n) {
        return NUMBERED(Hash, kind, n);
}

Hash KEY(unsigned n) {
        return hash_of(0xe0, n);
}

Hash SECRET_HASH(unsigned n) {
        return hash_of(0xf0, n);
}

GpuIdentity GPU(unsigned node, unsigned n) {
        GpuIdentity gpu = { .node = NODE(node), .vendor = 0x10de, .device = 0x2331,
                            .address = { .domain = n / 256, .bus = (uint8_t) n } };
        snprintf(gpu.slot, sizeof(gpu.slot), "pci%04x:00/%02x.0", n / 256, n % 256);
        snprintf(gpu.serial, sizeof(gpu.serial), "%u-%u", node, n);
        return gpu;
}

AssignedGpu ASSIGNED(unsigned node, unsigned n) {
        return (AssignedGpu) { .gpu = GPU(node, n), .iommu_group = (int32_t) (10 + n) };
}

#define BORROW(id) ((ProtobufCBinaryData) { .len = sizeof((id).bytes), .data = (id).bytes })

/* ---- what holds after every command */

uint8_t *state_bytes(const Registry *registry, size_t *ret_size) {
        Registry state = *registry;
        state.index = 0;
        state.requests.items = NULL;
        state.requests.n = 0;
        state.import = (Import) {};
        uint8_t *bytes = NULL;
        g_assert_cmpint(registry_encode(&state, &bytes, ret_size), ==, 0);
        return bytes;
}

static bool same_device(const AssignedGpu *a, const AssignedGpu *b) {
        if (!ID_EQUAL(&a->gpu.node, &b->gpu.node))
                return false;
        return text_equal(a->gpu.slot, b->gpu.slot) || (a->iommu_group >= 0 && a->iommu_group == b->iommu_group);
}

static void assert_never_shared(const Vm *a, const Vm *b) {
        for (size_t i = 0; i < a->assignment.n_gpus; i++)
                for (size_t j = 0; j < b->assignment.n_gpus; j++)
                        if (same_device(a->assignment.gpus + i, b->assignment.gpus + j))
                                g_error("P2: VMs %s and %s share %s", a->name, b->name, a->assignment.gpus[i].gpu.slot);
}

static void assert_assignment_is_sound(const Registry *registry, const Vm *vm) {
        const Assignment *assignment = &vm->assignment;
        if (assignment->phase == ASSIGNMENT_NONE) {
                g_assert_cmpuint(assignment->n_gpus, ==, 0);
                return;
        }
        const NodeRecord *node = registry_find_node(registry, &assignment->node);
        g_assert_nonnull(node);
        g_assert_cmpuint(node->incarnation, ==, assignment->incarnation);
        g_assert_cmpuint(assignment->n_gpus, >=, 1);
        g_assert_cmpuint(vm->epoch, >=, 1);
        for (size_t i = 0; i < assignment->n_gpus; i++) {
                g_assert_true(ID_EQUAL(&assignment->gpus[i].gpu.node, &assignment->node));
                for (size_t j = 0; j < i; j++)
                        g_assert_false(text_equal(assignment->gpus[i].gpu.slot, assignment->gpus[j].gpu.slot));
        }
}

static void assert_vms_are_sound(const Registry *registry) {
        ARRAY_EACH(vm, &registry->vms) {
                if (vm > registry->vms.items)
                        g_assert_cmpint(ID_COMPARE(&vm[-1].id, &vm->id), <, 0);
                g_assert_true(registry_find_vm_name(registry, vm->name) == vm);
                g_assert_nonnull(registry_find_pool(registry, vm->pool));
                assert_assignment_is_sound(registry, vm);
                for (const Vm *other = registry->vms.items; other < vm; other++)
                        assert_never_shared(other, vm);
        }
}

static void assert_pools_are_sound(const Registry *registry) {
        ARRAY_EACH(pool, &registry->pools) {
                if (pool > registry->pools.items)
                        g_assert_cmpstr(pool[-1].name, <, pool->name);
                ARRAY_EACH(gpu, &pool->gpus) {
                        if (gpu > pool->gpus.items)
                                g_assert_cmpint(gpu_identity_compare(gpu - 1, gpu), <, 0);
                        g_assert_true(registry_find_pool_of_gpu(registry, gpu) == pool);
                }
        }
}

static void assert_members_are_sound(const Registry *registry) {
        for (size_t i = 0; i < registry->nodes.n; i++) {
                const NodeRecord *node = registry->nodes.items + i;
                g_assert_true(!node->has_key || registry_find_node_key(registry, node->key) == node);
                g_assert_cmpuint(node->level, >=, registry->level);
                g_assert_cmpuint(node->joined_index, <=, registry->index);
                g_assert_null(registry_find_removed(registry, &node->id));
                for (size_t j = 0; j < i; j++)
                        g_assert_cmpint(memcmp(node->id.bytes, registry->nodes.items[j].id.bytes, 8), !=, 0);
        }
        ARRAY_EACH(invite, &registry->invites)
                g_assert_true(registry_find_invite(registry, &invite->id) == invite);
        g_assert_cmpuint(registry->invites.n, <=, INVITES_MAX);
        g_assert_cmpuint(registry->removed.n, <=, REMOVED_MAX);
        g_assert_cmpuint(registry->level, <=, LEVEL_SUPPORTED);
        g_assert_true(registry->import.total == 0 || registry->import.n < registry->import.total);
        g_assert_true(registry->import.total == 0 || (registry->pools.n == 0 && registry->vms.n == 0));
}

static void assert_sizes_are_sound(const Registry *registry) {
        size_t texts = 0, notes = 0;
        ARRAY_EACH(vm, &registry->vms) {
                texts += vm_text_size(vm);
                notes += vm_notes_size(vm);
        }
        g_assert_cmpuint(registry->xml_total, ==, texts);
        g_assert_cmpuint(registry->notes_total, ==, notes);
        g_assert_cmpuint(texts, <=, XML_TOTAL_MAX);
}

void assert_registry_is_sound(const Registry *registry) {
        ARRAY_EACH(node, &registry->nodes) {
                if (node > registry->nodes.items)
                        g_assert_cmpint(ID_COMPARE(&node[-1].id, &node->id), <, 0);
                g_assert_true(registry_find_node_name(registry, node->name) == node);
        }
        assert_members_are_sound(registry);
        assert_pools_are_sound(registry);
        assert_vms_are_sound(registry);
        ARRAY_EACH(event, &registry->events) {
                if (event > registry->events.items)
                        g_assert_cmpuint(event->sequence, ==, event[-1].sequence + 1);
                g_assert_true(text_is_printable(event->message));
                g_assert_cmpuint(event->sequence, <, registry->next_event);
        }
        g_assert_cmpuint(registry->events.n, <=, EVENTS_MAX);
        g_assert_cmpuint(registry->requests.n, <=, REQUESTS_MAX);
        assert_sizes_are_sound(registry);
}

/* ---- telling */

static Entry *through_its_bytes(const Chronicle *c, const Entry *entry) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        Entry *read = NULL;
        g_assert_cmpint(entry_encode(entry, &bytes, &size), ==, 0);
        if (c->log) {
                g_byte_array_append(c->log, (const guint8[]) { (guint8) size, (guint8) (size >> 8) }, 2);
                g_byte_array_append(c->log, bytes, (guint) size);
        }
        g_assert_cmpint(entry_decode(bytes, size, &read), ==, ENTRY_GOOD);
        return read;
}

static void assert_refusal_changed_nothing(const Chronicle *c, const uint8_t *before, size_t before_size) {
        size_t size;
        _cleanup_free_ uint8_t *after = state_bytes(c->registry, &size);
        g_assert_cmpmem(before, before_size, after, size);
        g_assert_nonnull(c->sentence);
        g_assert_true(text_is_printable(c->sentence));
        g_assert_nonnull(verdict_to_error(c->verdict));
}

static void tell_twin(Chronicle *c, const Entry *entry) {
        Result result = {};
        int r = registry_apply(c->twin, c->index, entry, &result);
        g_assert_cmpint(r, ==, c->stopped ? -ENOTSUP : 0);
        if (c->stopped)
                return;
        g_assert_cmpint(result.verdict, ==, c->verdict);
        g_assert_cmpstr(result.sentence, ==, c->sentence);
        result_clear(&result);
}

static uint64_t mix(uint64_t print, const void *bytes, size_t size) {
        return print * UINT64_C(1099511628211) + bytes_fingerprint(bytes, size);
}

/* All that is known of those who are members or were. */
static uint64_t members_print(const Registry *registry) {
        uint64_t print = registry->nodes.n;
        ARRAY_EACH(node, &registry->nodes) {
                print = mix(mix(print, node->id.bytes, ID_SIZE), node->key, HASH_SIZE);
                print = mix(mix(print, node->name, strlen(node->name)), node->boot_id, strlen(node->boot_id));
                print = print * 31 + node->incarnation * 8 + node->level * 4 + node->has_key * 2U + node->witness;
                for (size_t i = 0; i < node->addresses.n; i++)
                        print = mix(print, node->addresses.items[i], strlen(node->addresses.items[i]));
        }
        ARRAY_EACH(removed, &registry->removed)
                print = mix(print, removed->id.bytes, ID_SIZE);
        return print;
}

Verdict tell_entry(Chronicle *c, const Entry *entry) {
        _cleanup_(entry_freep) Entry *read = through_its_bytes(c, entry);
        size_t size = 0;
        _cleanup_free_ uint8_t *before = c->quick ? NULL : state_bytes(c->registry, &size);
        Result result = {};
        uint64_t members = members_print(c->registry);
        int r = registry_apply(c->registry, ++c->index, read, &result);
        if (members != members_print(c->registry))
                g_assert_cmpuint(c->registry->members_index, ==, c->index);
        c->stopped = r == -ENOTSUP;
        if (c->stopped)
                result = (Result) { .verdict = VERDICT_LEVEL_TOO_LOW, .sentence = strdup("beyond this build") };
        else
                g_assert_cmpint(r, ==, 0);
        free(c->sentence);
        c->sentence = result.sentence;
        c->verdict = result.verdict;
        g_assert_cmpuint(c->registry->index, ==, c->index);
        if (c->twin)
                tell_twin(c, read);
        if (c->quick)
                return c->verdict;

        if (c->verdict == VERDICT_DONE)
                g_assert_null(c->sentence);
        else
                assert_refusal_changed_nothing(c, before, size);
        assert_registry_is_sound(c->registry);
        return c->verdict;
}

Verdict tell(Chronicle *c, Gpupool1__Entry__CommandCase kind, const void *command) {
        EntryAuthor author = GPUPOOL1__AUTHOR__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        NodeId node = id_is_null(c->author.bytes) ? NODE(1) : c->author;
        author.node = BORROW(node);
        author.uid = 1000;
        author.user = (char *) "alice";
        author.action = (char *) ACTION_OPERATE_VM;
        entry.format = ENTRY_FORMAT;
        entry.author = &author;
        entry.time_ms = 1700000000000 + c->index;
        entry.level = c->level;
        entry.not_after_index = c->not_after;
        if (!id_is_null(c->request.bytes))
                entry.request_id = BORROW(c->request);
        entry.command_case = kind;
        entry.init_cluster = (void *) command;  /* a union of pointers */
        Verdict verdict = tell_entry(c, &entry);
        c->request = (RequestId) {};
        c->not_after = 0;
        return verdict;
}

#define TELL(c, kind, command) tell((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

Verdict tell_init_at(Chronicle *c, const char *name, uint32_t level) {
        Gpupool1__InitCluster m = GPUPOOL1__INIT_CLUSTER__INIT;
        ClusterId id = { { 0xcc } };
        m.cluster = BORROW(id);
        m.name = (char *) name;
        m.level = level;
        return TELL(c, INIT_CLUSTER, m);
}

Verdict tell_init(Chronicle *c, const char *name) {
        return tell_init_at(c, name, 0);
}

static Verdict announce(Chronicle *c, unsigned node, const char *name, uint64_t incarnation, const char *boot_id) {
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        NodeId id = NODE(node);
        char *addresses[] = { (char *) "192.0.2.1:7411" };
        m.node = BORROW(id);
        m.name = (char *) name;
        m.incarnation = incarnation;
        m.boot_id = (char *) boot_id;
        m.addresses = addresses;
        m.n_addresses = 1;
        m.level = LEVEL_SUPPORTED;
        return TELL(c, ANNOUNCE_NODE, m);
}

Verdict tell_node(Chronicle *c, unsigned node, const char *name, uint64_t incarnation, const char *boot_id) {
        NodeId id = NODE(node);
        if (c->registry->nodes.n == 0 || registry_find_node(c->registry, &id))
                return announce(c, node, name, incarnation, boot_id);

        unsigned invite = 1000 + (unsigned) c->index;
        Verdict verdict = tell_invite(c, invite, 0);
        if (verdict != VERDICT_DONE)
                return verdict;
        Admission admission = admission_of(node, invite, name);
        admission.boot_id = boot_id;
        verdict = tell_admission(c, &admission);
        return verdict == VERDICT_DONE && incarnation > 1 ? announce(c, node, name, incarnation, boot_id) : verdict;
}

Verdict tell_invite(Chronicle *c, unsigned invite, uint64_t expires_ms) {
        Gpupool1__CreateInvite m = GPUPOOL1__CREATE_INVITE__INIT;
        InviteId id = INVITE(invite);
        Hash secret = SECRET_HASH(invite);
        m.invite = BORROW(id);
        m.secret_hash = BORROW(secret);
        m.expires_ms = expires_ms;
        return TELL(c, CREATE_INVITE, m);
}

Verdict tell_invite_revoked(Chronicle *c, unsigned invite) {
        Gpupool1__RevokeInvite m = GPUPOOL1__REVOKE_INVITE__INIT;
        InviteId id = INVITE(invite);
        m.invite = BORROW(id);
        return TELL(c, REVOKE_INVITE, m);
}

Admission admission_of(unsigned node, unsigned invite, const char *name) {
        return (Admission) { .invite = INVITE(invite), .node = NODE(node), .secret_hash = SECRET_HASH(invite),
                             .key = KEY(node), .name = name, .boot_id = "boot", .level = LEVEL_SUPPORTED };
}

Verdict tell_admission(Chronicle *c, const Admission *admission) {
        Gpupool1__AdmitNode m = GPUPOOL1__ADMIT_NODE__INIT;
        Admission copy = *admission;
        char *addresses[] = { (char *) "192.0.2.1:7411" };
        m.invite = BORROW(copy.invite);
        m.secret_hash = BORROW(copy.secret_hash);
        m.node = BORROW(copy.node);
        m.key = BORROW(copy.key);
        m.name = (char *) copy.name;
        m.boot_id = (char *) copy.boot_id;
        m.addresses = addresses;
        m.n_addresses = 1;
        m.level = copy.level;
        m.witness = copy.witness;
        return TELL(c, ADMIT_NODE, m);
}

Verdict tell_node_removed(Chronicle *c, unsigned node) {
        Gpupool1__RemoveNode m = GPUPOOL1__REMOVE_NODE__INIT;
        NodeId id = NODE(node);
        m.node = BORROW(id);
        return TELL(c, REMOVE_NODE, m);
}

Verdict tell_level(Chronicle *c, uint32_t level) {
        Gpupool1__SetLevel m = GPUPOOL1__SET_LEVEL__INIT;
        m.level = level;
        return TELL(c, SET_LEVEL, m);
}

Verdict tell_import_piece(Chronicle *c, uint64_t checksum, uint64_t offset, uint64_t total, const uint8_t *bytes,
                          size_t size) {
        Gpupool1__ImportState m = GPUPOOL1__IMPORT_STATE__INIT;
        uint32_t level = c->level;
        m.checksum = checksum;
        m.offset = offset;
        m.total = total;
        m.chunk = (ProtobufCBinaryData) { .len = size, .data = (uint8_t *) bytes };
        c->level = level > LEVEL_IMPORT ? level : LEVEL_IMPORT;
        Verdict verdict = TELL(c, IMPORT_STATE, m);
        c->level = level;
        return verdict;
}

Verdict tell_import(Chronicle *c, const uint8_t *bytes, size_t size) {
        uint64_t checksum = bytes_fingerprint(bytes, size);
        for (size_t offset = 0; offset < size;) {
                size_t piece = size - offset < IMPORT_CHUNK_MAX ? size - offset : IMPORT_CHUNK_MAX;
                if (tell_import_piece(c, checksum, offset, size, bytes + offset, piece) != VERDICT_DONE)
                        break;
                offset += piece;
        }
        return c->verdict;
}

/* One GPU as a message; good while @gpu lives and is not called again with the same @room. */
typedef struct GpuRoom {
        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu message;
        Gpupool1__Gpu *pointer;
} GpuRoom;

static Gpupool1__Gpu **write_gpu(const GpuIdentity *gpu, GpuRoom *room) {
        gpu_message_borrow(gpu, room->address, &room->message);
        room->pointer = &room->message;
        return &room->pointer;
}

Verdict tell_pool(Chronicle *c, const char *name, unsigned node, unsigned n_gpus) {
        Gpupool1__CreatePool m = GPUPOOL1__CREATE_POOL__INIT;
        g_autofree GpuIdentity *gpus = g_new0(GpuIdentity, n_gpus + 1);
        g_autofree GpuRoom *rooms = g_new0(GpuRoom, n_gpus + 1);
        g_autofree Gpupool1__Gpu **pointers = g_new0(Gpupool1__Gpu *, n_gpus + 1);
        for (unsigned i = 0; i < n_gpus; i++) {
                gpus[i] = GPU(node, i);
                pointers[i] = *write_gpu(gpus + i, rooms + i);
        }
        m.name = (char *) name;
        m.gpus = pointers;
        m.n_gpus = n_gpus;
        return TELL(c, CREATE_POOL, m);
}

Verdict tell_pool_add(Chronicle *c, const char *name, const GpuIdentity *gpu) {
        Gpupool1__ChangePoolGpus m = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        GpuRoom room;
        m.name = (char *) name;
        m.add = write_gpu(gpu, &room);
        m.n_add = 1;
        return TELL(c, CHANGE_POOL_GPUS, m);
}

Verdict tell_pool_remove(Chronicle *c, const char *name, const GpuIdentity *gpu) {
        Gpupool1__ChangePoolGpus m = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        GpuRoom room;
        m.name = (char *) name;
        m.remove = write_gpu(gpu, &room);
        m.n_remove = 1;
        return TELL(c, CHANGE_POOL_GPUS, m);
}

Verdict tell_pool_rule(Chronicle *c, const char *name, const char *vendor, const char *device, const char *node) {
        Gpupool1__SetPoolRules m = GPUPOOL1__SET_POOL_RULES__INIT;
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT, *pointer = &rule;
        rule.vendor = (char *) vendor;
        rule.device = (char *) device;
        rule.node = (char *) node;
        m.name = (char *) name;
        m.rules = &pointer;
        m.n_rules = 1;
        return TELL(c, SET_POOL_RULES, m);
}

Verdict tell_pool_renamed(Chronicle *c, const char *name, const char *new_name) {
        Gpupool1__RenamePool m = GPUPOOL1__RENAME_POOL__INIT;
        m.name = (char *) name;
        m.new_name = (char *) new_name;
        return TELL(c, RENAME_POOL, m);
}

Verdict tell_pool_deleted(Chronicle *c, const char *name) {
        Gpupool1__DeletePool m = GPUPOOL1__DELETE_POOL__INIT;
        m.name = (char *) name;
        return TELL(c, DELETE_POOL, m);
}

Verdict tell_vm(Chronicle *c, unsigned vm, const char *name, const char *pool, uint32_t count) {
        Gpupool1__DefineVm m = GPUPOOL1__DEFINE_VM__INIT;
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        VmId id = VM(vm);
        requirement.pool = (char *) pool;
        requirement.count = count;
        m.vm = BORROW(id);
        m.name = (char *) name;
        m.xml = (char *) XML;
        m.requirement = &requirement;
        return TELL(c, DEFINE_VM, m);
}

Verdict tell_vm_xml(Chronicle *c, unsigned vm, const char *name, const char *xml) {
        Gpupool1__UpdateVm m = GPUPOOL1__UPDATE_VM__INIT;
        VmId id = VM(vm);
        m.vm = BORROW(id);
        m.name = (char *) name;
        m.xml = (char *) xml;
        return TELL(c, UPDATE_VM, m);
}

Verdict tell_vm_requirement(Chronicle *c, unsigned vm, const char *pool, uint32_t count) {
        Gpupool1__SetRequirement m = GPUPOOL1__SET_REQUIREMENT__INIT;
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        VmId id = VM(vm);
        requirement.pool = (char *) pool;
        requirement.count = count;
        m.vm = BORROW(id);
        m.requirement = &requirement;
        return TELL(c, SET_REQUIREMENT, m);
}

static Verdict tell_vm_policy(Chronicle *c, unsigned vm, Gpupool1__VmPolicy *policy) {
        Gpupool1__SetVmPolicy m = GPUPOOL1__SET_VM_POLICY__INIT;
        VmId id = VM(vm);
        m.vm = BORROW(id);
        m.policy = policy;
        return TELL(c, SET_VM_POLICY, m);
}

Verdict tell_vm_priority(Chronicle *c, unsigned vm, int32_t priority) {
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_priority = true;
        policy.priority = priority;
        return tell_vm_policy(c, vm, &policy);
}

Verdict tell_vm_restart(Chronicle *c, unsigned vm, RestartPolicy restart) {
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_restart = true;
        policy.restart = (Gpupool1__RestartKind) restart;
        return tell_vm_policy(c, vm, &policy);
}

Verdict tell_vm_deleted(Chronicle *c, unsigned vm) {
        Gpupool1__DeleteVm m = GPUPOOL1__DELETE_VM__INIT;
        VmId id = VM(vm);
        m.vm = BORROW(id);
        return TELL(c, DELETE_VM, m);
}

Verdict tell_desired(Chronicle *c, unsigned vm, VmDesire desire, uint64_t timeout_ms) {
        Gpupool1__SetDesired m = GPUPOOL1__SET_DESIRED__INIT;
        VmId id = VM(vm);
        m.vm = BORROW(id);
        m.desire = (Gpupool1__DesireKind) desire;
        m.timeout_ms = timeout_ms;
        return TELL(c, SET_DESIRED, m);
}

Verdict tell_quarantine(Chronicle *c, const GpuIdentity *gpu, const char *sentence) {
        Gpupool1__QuarantineGpu m = GPUPOOL1__QUARANTINE_GPU__INIT;
        GpuRoom room;
        m.gpu = *write_gpu(gpu, &room);
        m.cause = GPUPOOL1__QUARANTINE_CAUSE__QUARANTINE_CAUSE_RESET_FAILED;
        m.sentence = (char *) sentence;
        return TELL(c, QUARANTINE_GPU, m);
}

Verdict tell_release(Chronicle *c, const GpuIdentity *gpu) {
        Gpupool1__ReleaseGpu m = GPUPOOL1__RELEASE_GPU__INIT;
        GpuRoom room;
        m.gpu = *write_gpu(gpu, &room);
        return TELL(c, RELEASE_GPU, m);
}

Claim claim_of(const Chronicle *c, unsigned vm, unsigned node, unsigned first, unsigned n) {
        const Vm *record = vm_told(c, vm);
        NodeId id = NODE(node);
        const NodeRecord *member = registry_find_node(c->registry, &id);
        Claim claim = { .vm = VM(vm), .node = id, .n_gpus = n };
        claim.epoch = record ? record->epoch + 1 : 1;
        claim.incarnation = member ? member->incarnation : 1;
        for (unsigned i = 0; i < n; i++)
                claim.gpus[i] = ASSIGNED(node, first + i);
        return claim;
}

Verdict tell_assign(Chronicle *c, const Claim *claim) {
        Gpupool1__Assign m = GPUPOOL1__ASSIGN__INIT;
        GpuRoom rooms[GPUS_PER_VM_MAX + 1];
        Gpupool1__AssignedGpu gpus[GPUS_PER_VM_MAX + 1], *pointers[GPUS_PER_VM_MAX + 1];
        Claim copy = *claim;
        for (size_t i = 0; i < copy.n_gpus; i++) {
                gpupool1__assigned_gpu__init(gpus + i);
                gpus[i].gpu = *write_gpu(&copy.gpus[i].gpu, rooms + i);
                gpus[i].iommu_group = copy.gpus[i].iommu_group;
                pointers[i] = gpus + i;
        }
        m.vm = BORROW(copy.vm);
        m.node = BORROW(copy.node);
        m.incarnation = copy.incarnation;
        m.epoch = copy.epoch;
        m.gpus = pointers;
        m.n_gpus = copy.n_gpus;
        m.notes = copy.notes;
        m.n_notes = copy.n_notes;
        return TELL(c, ASSIGN, m);
}

Verdict tell_running(Chronicle *c, unsigned vm) {
        Gpupool1__ReportRunning m = GPUPOOL1__REPORT_RUNNING__INIT;
        const Vm *record = vm_told(c, vm);
        VmId id = VM(vm);
        NodeId node = record->assignment.node;
        m.vm = BORROW(id);
        m.node = BORROW(node);
        m.incarnation = record->assignment.incarnation;
        m.epoch = record->epoch;
        return TELL(c, REPORT_RUNNING, m);
}

Verdict tell_ended(Chronicle *c, unsigned vm, EndCause cause, uint64_t ran_ms) {
        Gpupool1__ReportEnded m = GPUPOOL1__REPORT_ENDED__INIT;
        const Vm *record = vm_told(c, vm);
        VmId id = VM(vm);
        NodeId node = record->assignment.node;
        m.vm = BORROW(id);
        m.node = BORROW(node);
        m.incarnation = record->assignment.incarnation;
        m.epoch = record->epoch;
        m.cause = (Gpupool1__EndCause) cause;
        m.ran_ms = ran_ms;
        return TELL(c, REPORT_ENDED, m);
}

const Vm *vm_told(const Chronicle *c, unsigned vm) {
        VmId id = VM(vm);
        return registry_find_vm(c->registry, &id);
}
