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

static void admit_witness(Chronicle *c, unsigned node) {
        ASSERT_DONE(tell_invite(c, node, 0));
        Admission witness = admission_of(node, node, "w");
        witness.witness = true;
        c->level = LEVEL_WITNESS;
        ASSERT_DONE(tell_admission(c, &witness));
        c->level = 0;
}

void tell_of_a_pair(Chronicle *c) {
        ASSERT_DONE(tell_init_at(c, "lab", LEVEL_FAILOVER));
        for (unsigned node = 1; node <= 2; node++) {
                ASSERT_DONE(tell_node(c, node, node == 1 ? "a" : "b", 1, "boot-1"));
                ASSERT_DONE(tell_lease(c, node, TEST_LEASE_MS, TEST_DEATH_MS));
        }
        admit_witness(c, 3);
        for (unsigned node = 1; node <= 2; node++)
                ASSERT_DONE(tell_thawed(c, node));     /* they were too few */
        ASSERT_DONE(tell_pool(c, "training", 1, 4));
        for (unsigned i = 0; i < 4; i++) {
                GpuIdentity gpu = GPU(2, i);
                ASSERT_DONE(tell_pool_add(c, "training", &gpu));
        }
        ASSERT_DONE(tell_vm(c, 1, "bert", "training", 2));
        ASSERT_DONE(tell_desired(c, 1, VM_RUN, 0));
        Claim claim = claim_of(c, 1, 1, 0, 2);
        ASSERT_DONE(tell_assign(c, &claim));
        ASSERT_DONE(tell_running(c, 1));
}

Chronicle chronicle_of_a_pair(void) {
        Chronicle c = chronicle_empty();
        tell_of_a_pair(&c);
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
        g_assert_false(node->lost);
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

/* Nobody is waited for less long than a freeze lets it live, or a cluster that is too small to do without it. */
static void assert_leases_are_sound(const Registry *registry) {
        ARRAY_EACH(node, &registry->nodes) {
                uint64_t longest = node_record_longest_lease_ms(node);
                g_assert_cmpuint(longest, >=, node->lease_ms);
                if (registry->frozen_ms > 0 && node->lease_ms > 0 && !node->lost)
                        g_assert_cmpuint(longest, >=, registry->frozen_ms + node->lease_ms);
                if (registry->nodes.n <= LEASE_ALONE_NODES && node->lease_ms > 0 && !node->lost)
                        g_assert_cmpuint(longest, >=, LEASE_ALONE_MS);
                g_assert_true(!node->lost || node->n_losses > 0);
        }
}

void assert_registry_is_sound(const Registry *registry) {
        assert_leases_are_sound(registry);
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
        g_assert_cmpint(registry_check(registry), ==, 0);
}

/* P1: an assignment stands until its node has said that the VM is dead, or the node itself is held for dead. */
static void assert_nothing_ended_without_word(const Chronicle *c, const Entry *entry, const GArray *assigned) {
        for (guint i = 0; i < assigned->len; i++) {
                const VmId *id = &g_array_index(assigned, VmId, i);
                const Vm *vm = registry_find_vm(c->registry, id);
                if (vm && vm->assignment.phase != ASSIGNMENT_NONE)
                        continue;
                if (c->registry->level >= LEVEL_FAILOVER &&
                    entry->command_case == GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED)
                        g_assert_cmpmem(entry->author->node.data, entry->author->node.len,
                                        entry->report_ended->node.data, entry->report_ended->node.len);
                g_assert_true(entry->command_case == GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED ||
                              entry->command_case == GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE ||
                              entry->command_case == GPUPOOL1__ENTRY__COMMAND_LOSE_NODE);
        }
}

static GArray *list_assigned(const Registry *registry) {
        GArray *assigned = g_array_new(false, false, sizeof(VmId));
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE)
                        g_array_append_val(assigned, vm->id);
        return assigned;
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
                print = print * 31 + node->lease_ms * 4 + node->death_ms + node->long_lease_ms * 2 + node->lost;
                print = print * 31 + node->drain * 2U + node->bring_home;
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
        g_autoptr(GArray) assigned = c->quick ? NULL : list_assigned(c->registry);
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
        assert_nothing_ended_without_word(c, read, assigned);

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
        entry.time_ms = 1700000000000 + c->index + c->later_ms;
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

/* What a node says of itself comes from that node, where the test does not have it otherwise. */
static Verdict tell_from(Chronicle *c, const NodeId *node, Gpupool1__Entry__CommandCase kind, const void *command) {
        NodeId author = c->author;
        c->author = id_is_null(author.bytes) ? *node : author;
        Verdict verdict = tell(c, kind, command);
        c->author = author;
        return verdict;
}

static Verdict tell_at_failover(Chronicle *c, Gpupool1__Entry__CommandCase kind, const void *command) {
        uint32_t level = c->level;
        c->level = level > LEVEL_FAILOVER ? level : LEVEL_FAILOVER;
        Verdict verdict = tell(c, kind, command);
        c->level = level;
        return verdict;
}

#define TELL_AT_FAILOVER(c, kind, command) tell_at_failover((c), GPUPOOL1__ENTRY__COMMAND_##kind, &(command))

/* Its lease and whether it is a witness stay as they were. */
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

        const NodeRecord *record = node_told(c, node);
        uint32_t level = c->level;
        if (record && record->lease_ms > 0) {
                m.lease_ms = record->lease_ms;
                m.death_ms = record->death_ms;
                c->level = level > LEVEL_FAILOVER ? level : LEVEL_FAILOVER;
        }
        Verdict verdict = tell_from(c, &id, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m);
        c->level = level;
        return verdict;
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

Verdict tell_pool_set(Chronicle *c, const char *name, const char *set) {
        Gpupool1__SetPoolRules m = GPUPOOL1__SET_POOL_RULES__INIT;
        Gpupool1__PoolRule rule = GPUPOOL1__POOL_RULE__INIT, *pointer = &rule;
        uint32_t level = c->level;
        rule.vendor = (char *) "*";
        rule.set = (char *) set;
        m.name = (char *) name;
        m.rules = &pointer;
        m.n_rules = 1;
        c->level = LEVEL_DEVICES;
        Verdict verdict = TELL(c, SET_POOL_RULES, m);
        c->level = level;
        return verdict;
}

Verdict tell_fabric(Chronicle *c, unsigned node, const char *sets) {
        Gpupool1__TellFabric m = GPUPOOL1__TELL_FABRIC__INIT;
        Gpupool1__FabricSet set[16], *pointers[16];
        NodeId id = NODE(node);
        g_auto(GStrv) words = g_strsplit(sets, " ", 16);
        char *slots[16][64];
        uint32_t level = c->level;
        for (char **word = words; *word; word++) {
                g_auto(GStrv) numbers = g_strsplit(*word, "+", 64);
                gpupool1__fabric_set__init(set + m.n_sets);
                set[m.n_sets].slots = slots[m.n_sets];
                for (char **number = numbers; *number; number++)
                        slots[m.n_sets][set[m.n_sets].n_slots++] =
                                g_strdup(GPU(node, (unsigned) g_ascii_strtoull(*number, NULL, 10)).slot);
                pointers[m.n_sets] = set + m.n_sets;
                m.n_sets++;
        }
        m.node = BORROW(id);
        m.sets = pointers;
        c->level = LEVEL_DEVICES;
        Verdict verdict = TELL(c, TELL_FABRIC, m);
        c->level = level;
        for (size_t i = 0; i < m.n_sets; i++)
                for (size_t j = 0; j < set[i].n_slots; j++)
                        g_free(slots[i][j]);
        return verdict;
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

Verdict tell_vm_model(Chronicle *c, unsigned vm, const char *pool, uint32_t count, const char *model) {
        Gpupool1__SetRequirement m = GPUPOOL1__SET_REQUIREMENT__INIT;
        Gpupool1__Requirement requirement = GPUPOOL1__REQUIREMENT__INIT;
        VmId id = VM(vm);
        uint32_t level = c->level;
        requirement.pool = (char *) pool;
        requirement.count = count;
        requirement.set_model = model != NULL;
        requirement.model = (char *) (model ? model : "");
        m.vm = BORROW(id);
        m.requirement = &requirement;
        c->level = LEVEL_PLACEMENT;
        Verdict verdict = TELL(c, SET_REQUIREMENT, m);
        c->level = level;
        return verdict;
}

static Verdict tell_placement_policy(Chronicle *c, unsigned vm, Gpupool1__VmPolicy *policy) {
        uint32_t level = c->level;
        c->level = LEVEL_PLACEMENT;
        Verdict verdict = tell_vm_policy(c, vm, policy);
        c->level = level;
        return verdict;
}

Verdict tell_vm_preemption(Chronicle *c, unsigned vm, bool preempt, bool preemptible) {
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        policy.set_preempt = policy.set_preemptible = true;
        policy.preempt = preempt;
        policy.preemptible = preemptible;
        return tell_placement_policy(c, vm, &policy);
}

Verdict tell_vm_affinity(Chronicle *c, unsigned vm, const char *kind, const char *other) {
        Gpupool1__VmPolicy policy = GPUPOOL1__VM_POLICY__INIT;
        Gpupool1__Affinity affinity = GPUPOOL1__AFFINITY__INIT, *pointer = &affinity;
        affinity.kind = (char *) kind;
        affinity.vm = (char *) other;
        policy.set_affinity = true;
        policy.affinity = &pointer;
        policy.n_affinity = 1;
        return tell_placement_policy(c, vm, &policy);
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
        return tell_from(c, &node, GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING, &m);
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
        uint32_t level = c->level;
        if ((cause == END_LEASE_ENDED || cause == END_GUARD_LOST) && level < LEVEL_FAILOVER)
                c->level = LEVEL_FAILOVER;
        Verdict verdict = tell_from(c, &node, GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED, &m);
        c->level = level;
        return verdict;
}

/* ---- failover */

Verdict tell_lease(Chronicle *c, unsigned node, uint32_t lease_ms, uint32_t death_ms) {
        Gpupool1__AnnounceNode m = GPUPOOL1__ANNOUNCE_NODE__INIT;
        const NodeRecord *record = node_told(c, node);
        NodeId id = NODE(node);
        uint32_t level = c->level;
        m.node = BORROW(id);
        m.name = record->name;
        m.incarnation = record->incarnation;
        m.boot_id = record->boot_id;
        m.addresses = record->addresses.items;
        m.n_addresses = record->addresses.n;
        m.level = record->level;
        m.lease_ms = lease_ms;
        m.death_ms = death_ms;
        c->level = level > LEVEL_FAILOVER ? level : LEVEL_FAILOVER;
        Verdict verdict = tell_from(c, &id, GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE, &m);
        c->level = level;
        return verdict;
}

Verdict tell_lost(Chronicle *c, unsigned node, LossEvidence evidence) {
        Gpupool1__LoseNode m = GPUPOOL1__LOSE_NODE__INIT;
        const NodeRecord *record = node_told(c, node);
        NodeId id = NODE(node);
        m.node = BORROW(id);
        m.incarnation = record ? record->incarnation : 1;
        m.evidence = (Gpupool1__LossEvidence) evidence;
        return TELL_AT_FAILOVER(c, LOSE_NODE, m);
}

Verdict tell_back(Chronicle *c, unsigned node, bool new_boot) {
        const NodeRecord *record = node_told(c, node);
        g_autofree char *name = g_strdup(record->name), *boot = NULL;
        boot = new_boot ? g_strdup_printf("boot-%u", (unsigned) record->incarnation + 1) : g_strdup(record->boot_id);
        return tell_node(c, node, name, record->incarnation + 1, boot);
}

Verdict tell_drained(Chronicle *c, unsigned node, uint64_t timeout_ms) {
        Gpupool1__DrainNode m = GPUPOOL1__DRAIN_NODE__INIT;
        NodeId id = NODE(node);
        m.node = BORROW(id);
        m.timeout_ms = timeout_ms;
        return TELL_AT_FAILOVER(c, DRAIN_NODE, m);
}

Verdict tell_resumed(Chronicle *c, unsigned node, bool bring_home) {
        Gpupool1__ResumeNode m = GPUPOOL1__RESUME_NODE__INIT;
        NodeId id = NODE(node);
        m.node = BORROW(id);
        m.bring_home = bring_home;
        return TELL_AT_FAILOVER(c, RESUME_NODE, m);
}

Verdict tell_moved(Chronicle *c, unsigned vm, unsigned target, bool home) {
        Gpupool1__MoveVm m = GPUPOOL1__MOVE_VM__INIT;
        VmId id = VM(vm);
        NodeId node = NODE(target);
        m.vm = BORROW(id);
        if (target > 0)
                m.node = BORROW(node);
        m.shutdown = home;
        m.timeout_ms = home ? 60000 : 0;
        m.home = home;
        return TELL_AT_FAILOVER(c, MOVE_VM, m);
}

Verdict tell_preempted(Chronicle *c, unsigned vm, unsigned preemptor, unsigned target) {
        Gpupool1__MoveVm m = GPUPOOL1__MOVE_VM__INIT;
        VmId id = VM(vm), other = VM(preemptor);
        NodeId node = NODE(target);
        m.vm = BORROW(id);
        m.preemptor = BORROW(other);
        if (target > 0)
                m.node = BORROW(node);
        m.shutdown = true;
        uint32_t level = c->level;
        c->level = LEVEL_PLACEMENT;
        Verdict verdict = TELL(c, MOVE_VM, m);
        c->level = level;
        return verdict;
}

Verdict tell_fencing(Chronicle *c, unsigned node, const char *agent, const char *name, const char *value) {
        Gpupool1__SetFencing m = GPUPOOL1__SET_FENCING__INIT;
        Gpupool1__FenceParameter parameter = GPUPOOL1__FENCE_PARAMETER__INIT, *pointer = &parameter;
        NodeId id = NODE(node);
        parameter.name = (char *) (name ? name : "");
        parameter.value = (char *) (value ? value : "");
        m.node = BORROW(id);
        m.agent = (char *) agent;
        m.parameters = &pointer;
        m.n_parameters = name ? 1 : 0;
        return TELL_AT_FAILOVER(c, SET_FENCING, m);
}

Verdict tell_freeze(Chronicle *c, uint64_t duration_ms) {
        Gpupool1__Freeze m = GPUPOOL1__FREEZE__INIT;
        m.duration_ms = duration_ms;
        return TELL_AT_FAILOVER(c, FREEZE, m);
}

Verdict tell_thaw(Chronicle *c, uint64_t freezes) {
        Gpupool1__Thaw m = GPUPOOL1__THAW__INIT;
        m.freezes = freezes;
        return TELL_AT_FAILOVER(c, THAW, m);
}

Verdict tell_thawed(Chronicle *c, unsigned node) {
        Gpupool1__ReportThawed m = GPUPOOL1__REPORT_THAWED__INIT;
        const NodeRecord *record = node_told(c, node);
        NodeId id = NODE(node);
        uint32_t level = c->level;
        m.node = BORROW(id);
        m.incarnation = record ? record->incarnation : 1;
        m.freezes = c->registry->freezes;
        c->level = level > LEVEL_FAILOVER ? level : LEVEL_FAILOVER;
        Verdict verdict = tell_from(c, &id, GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED, &m);
        c->level = level;
        return verdict;
}

/* ---- asking */

const NodeRecord *node_told(const Chronicle *c, unsigned node) {
        NodeId id = NODE(node);
        return registry_find_node(c->registry, &id);
}

const Event *event_told(const Chronicle *c, const char *kind) {
        for (size_t i = c->registry->events.n; i > 0; i--)
                if (text_equal(c->registry->events.items[i - 1].kind, kind))
                        return c->registry->events.items + i - 1;
        return NULL;
}

const Vm *vm_told(const Chronicle *c, unsigned vm) {
        VmId id = VM(vm);
        return registry_find_vm(c->registry, &id);
}
