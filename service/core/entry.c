/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/entry.h"

#include <errno.h>
#include <string.h>

#include "core/names.h"
#include "core/wire.h"

/* Fields in all. The most that a command needs are those of GPUS_PER_CALL_MAX GPUs in and as many out. */
#define ENTRY_ITEMS_MAX 8192U

Entry *entry_free(Entry *entry) {
        if (entry)
                gpupool1__entry__free_unpacked(entry, NULL);
        return NULL;
}

static bool is_known_command(Gpupool1__Entry__CommandCase command) {
        return command >= GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER && command <= GPUPOOL1__ENTRY__COMMAND_TELL_FABRIC;
}

static bool author_text_is_valid(const char *text) {
        return strlen(text) <= NAME_LENGTH_MAX && text_is_printable(text);
}

/* Of the parts that come from outside. */
static bool request_and_author_are_valid(const Entry *entry) {
        /* A request may come without an id. */
        if (entry->request_id.len != 0 && entry->request_id.len != ID_SIZE)
                return false;
        return !entry->author ||
               (author_text_is_valid(entry->author->user) && author_text_is_valid(entry->author->action));
}

int entry_decode(const uint8_t *bytes, size_t size, Entry **ret_entry) {
        if (size > ENTRY_SIZE_MAX)
                return ENTRY_TOO_LARGE;
        if (wire_check(&gpupool1__entry__descriptor, bytes, size, ENTRY_ITEMS_MAX) != WIRE_GOOD)
                return ENTRY_GARBAGE;

        _cleanup_(entry_freep) Entry *entry = gpupool1__entry__unpack(NULL, size, bytes);
        if (!entry || !entry->author)
                return ENTRY_GARBAGE;
        if (entry->format != ENTRY_FORMAT || !is_known_command(entry->command_case))
                return ENTRY_UNKNOWN;
        if (entry->author->node.len != ID_SIZE || !request_and_author_are_valid(entry))
                return ENTRY_GARBAGE;

        *ret_entry = STEAL(entry);
        return ENTRY_GOOD;
}

int entry_encode(const Entry *entry, uint8_t **ret_bytes, size_t *ret_size) {
        /* What is agreed on must be readable, or no node could ever go past it. */
        if (!request_and_author_are_valid(entry))
                return -EINVAL;
        size_t size = gpupool1__entry__get_packed_size(entry);
        if (size > ENTRY_SIZE_MAX)
                return -E2BIG;

        _cleanup_free_ uint8_t *bytes = malloc(size ? size : 1);
        if (!bytes)
                return -ENOMEM;
        gpupool1__entry__pack(entry, bytes);
        if (wire_check(&gpupool1__entry__descriptor, bytes, size, ENTRY_ITEMS_MAX) != WIRE_GOOD)
                return -E2BIG;
        *ret_bytes = STEAL(bytes);
        *ret_size = size;
        return 0;
}

static uint32_t announcement_level(const Gpupool1__AnnounceNode *command) {
        if (command->lease_ms > 0 || command->death_ms > 0)
                return LEVEL_FAILOVER;
        return command->witness ? LEVEL_WITNESS : LEVEL_OLDEST;
}

static uint32_t end_level(const Gpupool1__ReportEnded *command) {
        bool by_lease = command->cause == GPUPOOL1__END_CAUSE__END_CAUSE_LEASE_ENDED ||
                        command->cause == GPUPOOL1__END_CAUSE__END_CAUSE_GUARD_LOST;
        if (command->cause == GPUPOOL1__END_CAUSE__END_CAUSE_GPU_UNUSABLE)
                return LEVEL_DEVICES;
        return by_lease ? LEVEL_FAILOVER : LEVEL_OLDEST;
}

static uint32_t rules_level(Gpupool1__PoolRule *const *rules, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!text_is_empty(rules[i]->set))
                        return LEVEL_DEVICES;
        return LEVEL_OLDEST;
}

static uint32_t policy_level(const Gpupool1__PoolPolicy *policy) {
        return policy && policy->set_after_use ? LEVEL_DEVICES : LEVEL_OLDEST;
}

static uint32_t vm_policy_level(const Gpupool1__VmPolicy *policy) {
        if (!policy)
                return LEVEL_OLDEST;
        AffinityKind kind;
        for (size_t i = 0; policy->set_affinity && i < policy->n_affinity; i++)
                if (affinity_kind_from_text(policy->affinity[i]->kind, &kind) >= 0 && affinity_kind_is_soft(kind))
                        return LEVEL_PLACEMENT;
        return policy->set_preempt || policy->set_preemptible ? LEVEL_PLACEMENT : LEVEL_OLDEST;
}

static uint32_t requirement_level(const Gpupool1__Requirement *requirement) {
        return requirement && requirement->set_model ? LEVEL_PLACEMENT : LEVEL_OLDEST;
}

static uint32_t new_vm_level(const Gpupool1__DefineVm *command) {
        uint32_t by_requirement = requirement_level(command->requirement), by_policy = vm_policy_level(command->policy);
        return by_requirement > by_policy ? by_requirement : by_policy;
}

static uint32_t quarantine_level(const Gpupool1__QuarantineGpu *command) {
        bool is_new = command->cause == GPUPOOL1__QUARANTINE_CAUSE__QUARANTINE_CAUSE_STUCK ||
                      command->cause == GPUPOOL1__QUARANTINE_CAUSE__QUARANTINE_CAUSE_UNFIT;
        return is_new ? LEVEL_DEVICES : LEVEL_OLDEST;
}

static uint32_t new_pool_level(const Gpupool1__CreatePool *command) {
        uint32_t by_rules = rules_level(command->rules, command->n_rules), by_policy = policy_level(command->policy);
        return by_rules > by_policy ? by_rules : by_policy;
}

static uint32_t move_level(const Gpupool1__MoveVm *command) {
        return command && command->preemptor.len > 0 ? LEVEL_PLACEMENT : LEVEL_FAILOVER;
}

uint32_t entry_level(const Entry *entry) {
        switch (entry->command_case) {
        case GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE:
                return announcement_level(entry->announce_node);
        case GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED:
                return end_level(entry->report_ended);
        case GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE:
                return entry->admit_node->witness ? LEVEL_WITNESS : LEVEL_OLDEST;
        case GPUPOOL1__ENTRY__COMMAND_IMPORT_STATE:
                return LEVEL_IMPORT;
        case GPUPOOL1__ENTRY__COMMAND_LOSE_NODE:
        case GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE:
        case GPUPOOL1__ENTRY__COMMAND_RESUME_NODE:
        case GPUPOOL1__ENTRY__COMMAND_SET_FENCING:
        case GPUPOOL1__ENTRY__COMMAND_FREEZE:
        case GPUPOOL1__ENTRY__COMMAND_THAW:
        case GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED:
                return LEVEL_FAILOVER;
        case GPUPOOL1__ENTRY__COMMAND_MOVE_VM:
                return move_level(entry->move_vm);
        case GPUPOOL1__ENTRY__COMMAND_CREATE_POOL:
                return new_pool_level(entry->create_pool);
        case GPUPOOL1__ENTRY__COMMAND_SET_POOL_POLICY:
                return policy_level(entry->set_pool_policy->policy);
        case GPUPOOL1__ENTRY__COMMAND_QUARANTINE_GPU:
                return quarantine_level(entry->quarantine_gpu);
        case GPUPOOL1__ENTRY__COMMAND_SET_POOL_RULES:
                return rules_level(entry->set_pool_rules->rules, entry->set_pool_rules->n_rules);
        case GPUPOOL1__ENTRY__COMMAND_TELL_FABRIC:
                return LEVEL_DEVICES;
        case GPUPOOL1__ENTRY__COMMAND_DEFINE_VM:
                return new_vm_level(entry->define_vm);
        case GPUPOOL1__ENTRY__COMMAND_SET_REQUIREMENT:
                return requirement_level(entry->set_requirement->requirement);
        case GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY:
                return vm_policy_level(entry->set_vm_policy->policy);
        case GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER:
        case GPUPOOL1__ENTRY__COMMAND_CHANGE_POOL_GPUS:
        case GPUPOOL1__ENTRY__COMMAND_RENAME_POOL:
        case GPUPOOL1__ENTRY__COMMAND_DELETE_POOL:
        case GPUPOOL1__ENTRY__COMMAND_UPDATE_VM:
        case GPUPOOL1__ENTRY__COMMAND_DELETE_VM:
        case GPUPOOL1__ENTRY__COMMAND_SET_DESIRED:
        case GPUPOOL1__ENTRY__COMMAND_ASSIGN:
        case GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING:
        case GPUPOOL1__ENTRY__COMMAND_RELEASE_GPU:
        case GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE:
        case GPUPOOL1__ENTRY__COMMAND_REVOKE_INVITE:
        case GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE:
        case GPUPOOL1__ENTRY__COMMAND_SET_LEVEL:
        case GPUPOOL1__ENTRY__COMMAND__NOT_SET:
        case _GPUPOOL1__ENTRY__COMMAND__CASE_IS_INT_SIZE:
                break;
        }
        return LEVEL_OLDEST;
}

#define FNV_BEGIN UINT64_C(14695981039346656037)

static uint64_t fnv_1a(uint64_t hash, const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
        return hash;
}

uint64_t bytes_fingerprint(const uint8_t *bytes, size_t size) {
        return fnv_1a(FNV_BEGIN, bytes, size);
}

/* Fed by protobuf-c as it packs, so that no copy of the command is made. */
typedef struct Hasher {
        ProtobufCBuffer base;
        uint64_t hash;
} Hasher;

static void hash_bytes(ProtobufCBuffer *buffer, size_t size, const uint8_t *bytes) {
        Hasher *hasher = (Hasher *) buffer;
        hasher->hash = fnv_1a(hasher->hash, bytes, size);
}

uint64_t entry_fingerprint(const Entry *entry) {
        Entry command = *entry;
        command.author = NULL;
        command.request_id = (ProtobufCBinaryData) {};
        command.time_ms = 0;
        command.level = 0;
        command.not_after_index = 0;

        Hasher hasher = { .base = { .append = hash_bytes }, .hash = FNV_BEGIN };
        gpupool1__entry__pack_to_buffer(&command, &hasher.base);
        return hasher.hash;
}

void gpu_message_borrow(const GpuIdentity *gpu, char address_text[static PCI_ADDRESS_TEXT_SIZE], Gpupool1__Gpu *ret) {
        pci_address_to_text(gpu->address, address_text);
        gpupool1__gpu__init(ret);
        ret->node = id_message_borrow(gpu->node.bytes);
        ret->slot = (char *) gpu->slot;
        ret->vendor = gpu->vendor;
        ret->device = gpu->device;
        ret->subsystem_vendor = gpu->subsystem_vendor;
        ret->subsystem_device = gpu->subsystem_device;
        ret->serial = (char *) gpu->serial;
        ret->address = address_text;
}

int gpu_message_read(const Gpupool1__Gpu *message, GpuIdentity *ret) {
        GpuIdentity gpu = {};
        if (!message || message->node.len != ID_SIZE || text_is_empty(message->slot) ||
            strlen(message->slot) >= sizeof(gpu.slot) || strlen(message->serial) >= sizeof(gpu.serial) ||
            !text_is_printable(message->slot) || !text_is_printable(message->serial))
                return -EINVAL;
        if (message->vendor > UINT16_MAX || message->device > UINT16_MAX || message->subsystem_vendor > UINT16_MAX ||
            message->subsystem_device > UINT16_MAX)
                return -EINVAL;
        if (pci_address_from_text(message->address, &gpu.address) < 0)
                return -EINVAL;

        memcpy(gpu.node.bytes, message->node.data, ID_SIZE);
        strcpy(gpu.slot, message->slot);
        strcpy(gpu.serial, message->serial);
        gpu.vendor = (uint16_t) message->vendor;
        gpu.device = (uint16_t) message->device;
        gpu.subsystem_vendor = (uint16_t) message->subsystem_vendor;
        gpu.subsystem_device = (uint16_t) message->subsystem_device;
        *ret = gpu;
        return 0;
}
