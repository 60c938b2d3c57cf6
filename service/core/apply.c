/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Apply: State x Entry -> State x Result. This file dispatches, remembers requests and keeps the journal; the commands
 * stand in apply-member.c, apply-failover.c, apply-pool.c, apply-vm.c, apply-assignment.c and apply-import.c. Each
 * checks everything first and changes only then, so that a refusal leaves the state as it was (but for a backup that is
 * coming in). */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/names.h"
#include "core/registry-internal.h"

int apply_refuse(Apply *apply, Verdict verdict, const char *format, ...) {
        char *sentence = NULL;
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&sentence, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        text_make_printable(sentence, SENTENCE_LENGTH_MAX);
        free(apply->result->sentence);
        *apply->result = (Result) { .verdict = verdict, .sentence = sentence };
        return 0;
}

static int journal(Apply *apply, const char *kind, ObjectKind object_kind, const char *object, char *message) {
        Registry *registry = apply->registry;
        const EntryAuthor *author = apply->entry->author;
        Event event = {
                .sequence = registry->next_event,
                .time_ms = apply->entry->time_ms,
                .object_kind = object_kind,
                .uid = author->uid,
                .kind = strdup(kind),
                .object = strdup(object),
                .user = strdup(author->user),
                .action = strdup(author->action),
                .message = message,
        };
        memcpy(event.node.bytes, author->node.data, ID_SIZE);
        text_make_printable(message, SENTENCE_LENGTH_MAX);

        int r = -ENOMEM;
        if (event.kind && event.object && event.user && event.action)
                r = array_append(&registry->events, &event);
        if (r < 0) {
                event_clear(&event);
                return r;
        }
        registry->next_event++;

        if (registry->events.n > EVENTS_MAX) {
                event_clear(registry->events.items);
                array_remove(&registry->events, 0);
        }
        return 0;
}

int apply_note(Apply *apply, const char *kind, ObjectKind object_kind, const char *object, const char *format, ...) {
        char *message = NULL;
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&message, format, ap);
        va_end(ap);
        return n < 0 ? -ENOMEM : journal(apply, kind, object_kind, object, message);
}

int apply_note_vm(Apply *apply, const char *kind, const Vm *vm, const char *format, ...) {
        char uuid[UUID_TEXT_SIZE], *message = NULL;
        id_to_uuid(vm->id.bytes, uuid);
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&message, format, ap);
        va_end(ap);
        return n < 0 ? -ENOMEM : journal(apply, kind, OBJECT_KIND_VM, uuid, message);
}

int apply_note_node(Apply *apply, const char *kind, const NodeId *id, const char *format, ...) {
        char text[ID_TEXT_SIZE], *message = NULL;
        id_to_text(id->bytes, text);
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&message, format, ap);
        va_end(ap);
        return n < 0 ? -ENOMEM : journal(apply, kind, OBJECT_KIND_NODE, text, message);
}

int apply_check_own_word(Apply *apply, const ProtobufCBinaryData *node) {
        const EntryAuthor *author = apply->entry->author;
        if (apply->registry->level < LEVEL_FAILOVER ||
            (node->len == ID_SIZE && memcmp(node->data, author->node.data, ID_SIZE) == 0))
                return 1;
        int r = apply_refuse(apply, VERDICT_CONFLICT, "only the node itself can say this of it, and %s says it",
                             apply_node_name(apply, (const NodeId *) author->node.data));
        return r < 0 ? r : 0;
}

const char *apply_node_name(const Apply *apply, const NodeId *id) {
        const NodeRecord *node = registry_find_node(apply->registry, id);
        return node ? node->name : "an unknown node";
}

static int apply_init_cluster(Apply *apply, const Gpupool1__InitCluster *command) {
        Registry *registry = apply->registry;
        if (!id_is_null(registry->cluster.bytes))
                return apply_refuse(apply, VERDICT_EXISTS, "this cluster exists already, as %s", registry->name);
        if (command->cluster.len != ID_SIZE || id_is_null(command->cluster.data) || !name_is_valid(command->name))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "a cluster needs an id and a valid name");
        if (command->level > LEVEL_SUPPORTED)
                return -ENOTSUP;

        int r = text_set(&registry->name, command->name);
        if (r < 0)
                return r;
        memcpy(registry->cluster.bytes, command->cluster.data, ID_SIZE);
        registry->level = command->level > LEVEL_OLDEST ? command->level : LEVEL_OLDEST;
        return apply_note(apply, "cluster-created", OBJECT_KIND_CLUSTER, command->name, "cluster %s created",
                          command->name);
}

static int dispatch(Apply *apply) {
        const Entry *e = apply->entry;
        switch (e->command_case) {
        case GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER:
                return apply_init_cluster(apply, e->init_cluster);
        case GPUPOOL1__ENTRY__COMMAND_ANNOUNCE_NODE:
                return apply_announce_node(apply, e->announce_node);
        case GPUPOOL1__ENTRY__COMMAND_CREATE_POOL:
                return apply_create_pool(apply, e->create_pool);
        case GPUPOOL1__ENTRY__COMMAND_CHANGE_POOL_GPUS:
                return apply_change_pool_gpus(apply, e->change_pool_gpus);
        case GPUPOOL1__ENTRY__COMMAND_SET_POOL_RULES:
                return apply_set_pool_rules(apply, e->set_pool_rules);
        case GPUPOOL1__ENTRY__COMMAND_SET_POOL_POLICY:
                return apply_set_pool_policy(apply, e->set_pool_policy);
        case GPUPOOL1__ENTRY__COMMAND_RENAME_POOL:
                return apply_rename_pool(apply, e->rename_pool);
        case GPUPOOL1__ENTRY__COMMAND_DELETE_POOL:
                return apply_delete_pool(apply, e->delete_pool);
        case GPUPOOL1__ENTRY__COMMAND_DEFINE_VM:
                return apply_define_vm(apply, e->define_vm);
        case GPUPOOL1__ENTRY__COMMAND_UPDATE_VM:
                return apply_update_vm(apply, e->update_vm);
        case GPUPOOL1__ENTRY__COMMAND_SET_REQUIREMENT:
                return apply_set_requirement(apply, e->set_requirement);
        case GPUPOOL1__ENTRY__COMMAND_SET_VM_POLICY:
                return apply_set_vm_policy(apply, e->set_vm_policy);
        case GPUPOOL1__ENTRY__COMMAND_DELETE_VM:
                return apply_delete_vm(apply, e->delete_vm);
        case GPUPOOL1__ENTRY__COMMAND_SET_DESIRED:
                return apply_set_desired(apply, e->set_desired);
        case GPUPOOL1__ENTRY__COMMAND_ASSIGN:
                return apply_assign(apply, e->assign);
        case GPUPOOL1__ENTRY__COMMAND_REPORT_RUNNING:
                return apply_report_running(apply, e->report_running);
        case GPUPOOL1__ENTRY__COMMAND_REPORT_ENDED:
                return apply_report_ended(apply, e->report_ended);
        case GPUPOOL1__ENTRY__COMMAND_QUARANTINE_GPU:
                return apply_quarantine_gpu(apply, e->quarantine_gpu);
        case GPUPOOL1__ENTRY__COMMAND_RELEASE_GPU:
                return apply_release_gpu(apply, e->release_gpu);
        case GPUPOOL1__ENTRY__COMMAND_CREATE_INVITE:
                return apply_create_invite(apply, e->create_invite);
        case GPUPOOL1__ENTRY__COMMAND_REVOKE_INVITE:
                return apply_revoke_invite(apply, e->revoke_invite);
        case GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE:
                return apply_admit_node(apply, e->admit_node);
        case GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE:
                return apply_remove_node(apply, e->remove_node);
        case GPUPOOL1__ENTRY__COMMAND_SET_LEVEL:
                return apply_set_level(apply, e->set_level);
        case GPUPOOL1__ENTRY__COMMAND_IMPORT_STATE:
                return apply_import_state(apply, e->import_state);
        case GPUPOOL1__ENTRY__COMMAND_LOSE_NODE:
                return apply_lose_node(apply, e->lose_node);
        case GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE:
                return apply_drain_node(apply, e->drain_node);
        case GPUPOOL1__ENTRY__COMMAND_RESUME_NODE:
                return apply_resume_node(apply, e->resume_node);
        case GPUPOOL1__ENTRY__COMMAND_MOVE_VM:
                return apply_move_vm(apply, e->move_vm);
        case GPUPOOL1__ENTRY__COMMAND_SET_FENCING:
                return apply_set_fencing(apply, e->set_fencing);
        case GPUPOOL1__ENTRY__COMMAND_FREEZE:
                return apply_freeze(apply, e->freeze);
        case GPUPOOL1__ENTRY__COMMAND_THAW:
                return apply_thaw(apply, e->thaw);
        case GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED:
                return apply_report_thawed(apply, e->report_thawed);
        case GPUPOOL1__ENTRY__COMMAND_TELL_FABRIC:
                return apply_tell_fabric(apply, e->tell_fabric);
        case GPUPOOL1__ENTRY__COMMAND__NOT_SET:
        case _GPUPOOL1__ENTRY__COMMAND__CASE_IS_INT_SIZE:
                break;
        }
        return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "the entry has no command that this version knows");
}

static bool has_request_id(const Entry *entry) {
        return entry->request_id.len == ID_SIZE && !id_is_null(entry->request_id.data);
}

static const RequestRecord *find_request(const Registry *registry, const Entry *entry) {
        if (!has_request_id(entry))
                return NULL;
        for (size_t i = registry->requests.n; i > 0; i--)
                if (memcmp(registry->requests.items[i - 1].id.bytes, entry->request_id.data, ID_SIZE) == 0)
                        return registry->requests.items + i - 1;
        return NULL;
}

static int remember_request(Registry *registry, const Entry *entry, const Result *result) {
        if (!has_request_id(entry))
                return 0;

        RequestRecord request = { .fingerprint = entry_fingerprint(entry), .verdict = result->verdict };
        memcpy(request.id.bytes, entry->request_id.data, ID_SIZE);
        int r = text_set(&request.sentence, result->sentence);
        if (r >= 0)
                r = array_append(&registry->requests, &request);
        if (r < 0) {
                request_record_clear(&request);
                return r;
        }

        /* Forgets the older half at once, so that the cost of an entry stays bounded by a constant. */
        if (registry->requests.n > REQUESTS_MAX) {
                size_t half = REQUESTS_MAX / 2;
                for (size_t i = 0; i < half; i++)
                        request_record_clear(registry->requests.items + i);
                registry->requests.n -= half;
                memmove(registry->requests.items, registry->requests.items + half,
                        registry->requests.n * sizeof(*registry->requests.items));
        }
        return 0;
}

/* An entry that was not seen before. */
static int apply_new(Apply *apply) {
        const Registry *registry = apply->registry;
        const Entry *entry = apply->entry;
        const RemovedNode *removed = registry_find_removed(registry, (const NodeId *) entry->author->node.data);
        if (id_is_null(registry->cluster.bytes)) {
                if (entry->command_case != GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER)
                        return apply_refuse(apply, VERDICT_CONFLICT, "the cluster has no beginning yet");
                return dispatch(apply);
        }
        if (removed)
                return apply_refuse(apply, VERDICT_CONFLICT,
                                    "node %s was removed from the cluster, and what it asks for does not count",
                                    removed->name);

        uint32_t level = entry->level > LEVEL_OLDEST ? entry->level : LEVEL_OLDEST, needed = entry_level(entry);
        if (level > registry->level || needed > registry->level)
                return apply_refuse(apply, VERDICT_LEVEL_TOO_LOW,
                                    "this needs functional level %u and the cluster works at %u",
                                    level > needed ? level : needed, registry->level);
        /* Or an older build, which goes by what the entry says, would take it for something that it knows. */
        if (needed > level)
                return apply_refuse(apply, VERDICT_LEVEL_TOO_LOW,
                                    "this needs functional level %u and says that it needs %u", needed, level);
        return dispatch(apply);
}

static int apply_and_remember(Apply *apply) {
        Registry *registry = apply->registry;
        const Entry *entry = apply->entry;
        const RequestRecord *seen = find_request(registry, entry);
        if (seen && seen->fingerprint == entry_fingerprint(entry)) {
                apply->result->verdict = seen->verdict;
                return text_set(&apply->result->sentence, seen->sentence);
        }
        if (seen)
                return apply_refuse(apply, VERDICT_CONFLICT,
                                    "this request id was used for another request: take a new one");
        if (entry->not_after_index != 0 && registry->index > entry->not_after_index)
                return apply_refuse(apply, VERDICT_EXPIRED,
                                    "it came too late to be told from a retry: see whether it was done, and ask again");

        int r = apply_new(apply);
        if (r >= 0)
                r = remember_request(registry, entry, apply->result);
        /* What is there cannot be imported over. */
        if (r >= 0 && (registry->pools.n > 0 || registry->vms.n > 0))
                import_clear(&registry->import);
        return r;
}

int registry_apply(Registry *registry, uint64_t index, const Entry *entry, Result *ret_result) {
        Result result = {};
        Apply apply = { .registry = registry, .entry = entry, .result = &result };

        registry->index = index;
        int r = apply_and_remember(&apply);
        if (r < 0) {
                result_clear(&result);
                return r;
        }
        *ret_result = result;
        return 0;
}
