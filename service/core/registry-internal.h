/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What registry.c, apply*.c and snapshot.c share and nobody else sees. */

#include "core/names.h"
#include "core/registry.h"

void node_record_clear(NodeRecord *node);
void fence_clear(Fence *fence);
void quarantine_clear(Quarantine *quarantine);
void event_clear(Event *event);
void request_record_clear(RequestRecord *request);
void removed_node_clear(RemovedNode *removed);
void import_clear(Import *import);

/* Where the item is, or belongs. */
bool registry_node_place(const Registry *registry, const NodeId *id, size_t *ret_index);
bool registry_pool_place(const Registry *registry, const char *name, size_t *ret_index);
bool registry_vm_place(const Registry *registry, const VmId *id, size_t *ret_index);
bool registry_quarantine_place(const Registry *registry, const GpuIdentity *gpu, size_t *ret_index);

/* A sentence that the registry remembers is cut at this; none of its own comes near. */
#define SENTENCE_LENGTH_MAX (2 * TEXT_LENGTH_MAX)

/* Placement notes of all VMs together; beyond it only the name of the chosen node is kept of a decision. */
#define NOTES_TOTAL_MAX (16U * 1024U * 1024U)
#define NOTES_TOTAL_MOST (NOTES_TOTAL_MAX + VMS_MAX * (NAME_LENGTH_MAX + 17U))

#define SNAPSHOT_FORMAT 1U

/* One entry being applied. */
typedef struct Apply {
        Registry *registry;
        const Entry *entry;
        Result *result;
} Apply;

/* Sets the outcome; returns 0 or -ENOMEM. */
int apply_refuse(Apply *apply, Verdict verdict, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Notes what was decided. @object: see ObjectKind. Returns 0 or -ENOMEM. */
int apply_note(Apply *apply, const char *kind, ObjectKind object_kind, const char *object, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
int apply_note_vm(Apply *apply, const char *kind, const Vm *vm, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
int apply_note_node(Apply *apply, const char *kind, const NodeId *id, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* The VM that a command names; NULL: refused, *ret_r is what to return. */
Vm *apply_find_vm(Apply *apply, const ProtobufCBinaryData *id, int *ret_r);

const char *apply_node_name(const Apply *apply, const NodeId *id);

/* What a node says of itself and its VMs counts from that node only (from LEVEL_FAILOVER on), so that no member can end
 * another's VM by a lie. 1: it is from @node; 0: refused; or -ENOMEM. */
int apply_check_own_word(Apply *apply, const ProtobufCBinaryData *node);

int apply_announce_node(Apply *apply, const Gpupool1__AnnounceNode *command);
int apply_create_invite(Apply *apply, const Gpupool1__CreateInvite *command);
int apply_revoke_invite(Apply *apply, const Gpupool1__RevokeInvite *command);
int apply_admit_node(Apply *apply, const Gpupool1__AdmitNode *command);
int apply_remove_node(Apply *apply, const Gpupool1__RemoveNode *command);
int apply_set_level(Apply *apply, const Gpupool1__SetLevel *command);
int apply_import_state(Apply *apply, const Gpupool1__ImportState *command);

int apply_create_pool(Apply *apply, const Gpupool1__CreatePool *command);
int apply_change_pool_gpus(Apply *apply, const Gpupool1__ChangePoolGpus *command);
int apply_set_pool_rules(Apply *apply, const Gpupool1__SetPoolRules *command);
int apply_set_pool_policy(Apply *apply, const Gpupool1__SetPoolPolicy *command);
int apply_rename_pool(Apply *apply, const Gpupool1__RenamePool *command);
int apply_delete_pool(Apply *apply, const Gpupool1__DeletePool *command);
int apply_quarantine_gpu(Apply *apply, const Gpupool1__QuarantineGpu *command);
int apply_release_gpu(Apply *apply, const Gpupool1__ReleaseGpu *command);

int apply_define_vm(Apply *apply, const Gpupool1__DefineVm *command);
int apply_update_vm(Apply *apply, const Gpupool1__UpdateVm *command);
int apply_set_requirement(Apply *apply, const Gpupool1__SetRequirement *command);
int apply_set_vm_policy(Apply *apply, const Gpupool1__SetVmPolicy *command);
int apply_delete_vm(Apply *apply, const Gpupool1__DeleteVm *command);
int apply_set_desired(Apply *apply, const Gpupool1__SetDesired *command);
int apply_move_vm(Apply *apply, const Gpupool1__MoveVm *command);

int apply_assign(Apply *apply, const Gpupool1__Assign *command);
int apply_report_running(Apply *apply, const Gpupool1__ReportRunning *command);
int apply_report_ended(Apply *apply, const Gpupool1__ReportEnded *command);
/* The assignments of @node in an older incarnation than @incarnation are over. */
int apply_end_incarnation(Apply *apply, const NodeId *node, uint64_t incarnation, const char *sentence);

/* Does @wanted have all GPUs of a set or none? 1: yes; 0: refused; or -ENOMEM. */
int apply_check_sets(Apply *apply, const Vm *vm, const NodeRecord *node, const Assignment *wanted);
int apply_tell_fabric(Apply *apply, const Gpupool1__TellFabric *command);

int apply_lose_node(Apply *apply, const Gpupool1__LoseNode *command);
int apply_drain_node(Apply *apply, const Gpupool1__DrainNode *command);
int apply_resume_node(Apply *apply, const Gpupool1__ResumeNode *command);
int apply_set_fencing(Apply *apply, const Gpupool1__SetFencing *command);
int apply_freeze(Apply *apply, const Gpupool1__Freeze *command);
int apply_thaw(Apply *apply, const Gpupool1__Thaw *command);
int apply_report_thawed(Apply *apply, const Gpupool1__ReportThawed *command);

/* It was lost at @time_ms, on this evidence. */
void node_note_loss(NodeRecord *node, LossEvidence evidence, uint64_t time_ms);
/* Lost so often in so short a time that it comes back drained. */
bool node_flaps(const NodeRecord *node);
/* While the cluster is frozen, or too small, its leases are longer, and so is what must be waited for. */
void node_freeze(const Registry *registry, NodeRecord *node);
uint64_t node_long_lease_ms(const Registry *registry, const NodeRecord *node);

/* Does all of it fit together? 0, -EINVAL or -ENOMEM. */
int registry_check(const Registry *registry);

/* The first bytes of a node's id are its number in the consensus engine: not zero, and no two nodes have the same. */
#define NODE_NUMBER_SIZE 8U
bool node_id_is_valid(const ProtobufCBinaryData *id);

/* The limits of an announcement; shared with the snapshot. */
bool node_fields_are_valid(const char *name, const char *boot_id, uint64_t incarnation, char *const *addresses,
                           size_t n_addresses);

/* The times that a node announces of its lease: both or none, and none of a witness. */
bool lease_fields_are_valid(uint32_t lease_ms, uint32_t death_ms, bool witness);

/* Reads it off the wire; 0, -EINVAL or -ENOMEM. What the parameters take is held against FENCE_TOTAL_MAX. */
int fence_read(const char *agent, Gpupool1__FenceParameter *const *parameters, size_t n, Fence *ret);
size_t fence_size(const Fence *fence);
size_t registry_fences_size(const Registry *registry);
size_t registry_fabric_slots(const Registry *registry);         /* held against FABRIC_TOTAL_MAX */

/* What a VM's XML and policy take, held against XML_TOTAL_MAX, and its notes, against NOTES_TOTAL_MAX. */
size_t vm_text_size(const Vm *vm);
size_t vm_notes_size(const Vm *vm);

/* registry_decode() for a cluster that works at @level: what is above it is SNAPSHOT_NEWER. */
int registry_decode_at(const uint8_t *bytes, size_t size, uint32_t level, Registry **ret);

/* Reads policies and rules off the wire into a record; 0, -EINVAL or -ENOMEM. Shared with the snapshot. */
int pool_policy_read(Pool *pool, const Gpupool1__PoolPolicy *message);
int pool_rules_read(PoolRules *rules, Gpupool1__PoolRule *const *messages, size_t n);
int vm_policy_read(Vm *vm, const Gpupool1__VmPolicy *message);
int vm_model_read(Vm *vm, const Gpupool1__Requirement *message);
int assigned_gpus_read(Assignment *assignment, Gpupool1__AssignedGpu *const *messages, size_t n);
int notes_read(Vm *vm, Gpupool1__PlacementNote *const *messages, size_t n);
int fabric_read(FabricSets *sets, Gpupool1__FabricSet *const *messages, size_t n);
