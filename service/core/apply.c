/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Apply: State x Entry -> State x Result. This file dispatches, remembers requests and keeps the journal; the commands
 * stand in apply-pool.c, apply-vm.c and apply-assignment.c. Each checks everything first and changes only then, so
 * that a refusal leaves the state as it was. */

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

        int r = text_set(&registry->name, command->name);
        if (r < 0)
                return r;
        memcpy(registry->cluster.bytes, command->cluster.data, ID_SIZE);
        registry->level = LEVEL_OLDEST;
        return apply_note(apply, "cluster-created", OBJECT_KIND_CLUSTER, command->name, "cluster %s created",
                          command->name);
}

static int read_node_record(const Gpupool1__AnnounceNode *command, NodeRecord *ret) {
        NodeRecord node = { .incarnation = command->incarnation, .level = command->level };
        memcpy(node.id.bytes, command->node.data, ID_SIZE);

        int r = text_set(&node.name, command->name);
        if (r >= 0)
                r = text_set(&node.boot_id, command->boot_id);
        for (size_t i = 0; r >= 0 && i < command->n_addresses; i++)
                r = text_list_add(&node.addresses, command->addresses[i]);
        if (r < 0) {
                node_record_clear(&node);
                return r;
        }
        *ret = node;
        return 0;
}

bool node_fields_are_valid(const char *name, const char *boot_id, uint64_t incarnation, char *const *addresses,
                           size_t n_addresses) {
        if (!name_is_valid(name) || incarnation == 0 || n_addresses > ADDRESSES_MAX ||
            strlen(boot_id) > NAME_LENGTH_MAX || !text_is_printable(boot_id))
                return false;
        for (size_t i = 0; i < n_addresses; i++)
                if (strlen(addresses[i]) > ADDRESS_LENGTH_MAX || !text_is_printable(addresses[i]))
                        return false;
        return true;
}

static bool announce_is_valid(const Gpupool1__AnnounceNode *command) {
        return command->node.len == ID_SIZE && !id_is_null(command->node.data) &&
               node_fields_are_valid(command->name, command->boot_id, command->incarnation, command->addresses,
                                     command->n_addresses);
}

static int apply_announce_node(Apply *apply, const Gpupool1__AnnounceNode *command) {
        Registry *registry = apply->registry;
        if (!announce_is_valid(command))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "the node's announcement has a field that is not valid");
        if (command->level < registry->level)
                return apply_refuse(
                        apply, VERDICT_LEVEL_TOO_LOW,
                        "node %s supports level %u and the cluster works at level %u: upgrade gpupool on %s",
                        command->name, command->level, registry->level, command->name);

        _cleanup_(node_record_clear) NodeRecord node = {};
        int r = read_node_record(command, &node);
        if (r < 0)
                return r;

        const NodeRecord *namesake = registry_find_node_name(registry, node.name);
        if (namesake && !ID_EQUAL(&namesake->id, &node.id))
                return apply_refuse(apply, VERDICT_EXISTS, "another node has the name %s: set Name= in gpupoold.conf",
                                    node.name);

        size_t i;
        bool known = registry_node_place(registry, &node.id, &i);
        if (!known) {
                if (registry->nodes.n >= NODES_MAX)
                        return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "a cluster has at most %u nodes",
                                            NODES_MAX);
                r = array_insert(&registry->nodes, i, &node);
                if (r < 0)
                        return r;
                char id[ID_TEXT_SIZE];
                id_to_text(node.id.bytes, id);
                r = apply_note(apply, "node-joined", OBJECT_KIND_NODE, id, "node %s is a member", node.name);
                node = (NodeRecord) {};
                return r;
        }
        NodeRecord *record = registry->nodes.items + i;
        if (node.incarnation < record->incarnation)
                return apply_refuse(apply, VERDICT_CONFLICT, "node %s is known in a later incarnation", node.name);
        if (node.incarnation == record->incarnation && !text_equal(node.boot_id, record->boot_id))
                return apply_refuse(apply, VERDICT_CONFLICT, "node %s has booted anew and needs a new incarnation",
                                    node.name);

        NodeRecord old = *record;
        *record = node;
        node = old;     /* freed at the end of the scope */
        if (record->incarnation == old.incarnation)
                return 0;
        return apply_end_incarnation(apply, &record->id, record->incarnation, "its node booted anew");
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
        case GPUPOOL1__ENTRY__COMMAND_REVOKE_INVITE:
        case GPUPOOL1__ENTRY__COMMAND_ADMIT_NODE:
        case GPUPOOL1__ENTRY__COMMAND_REMOVE_NODE:
        case GPUPOOL1__ENTRY__COMMAND_SET_LEVEL:
        case GPUPOOL1__ENTRY__COMMAND_IMPORT_STATE:
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

int registry_apply(Registry *registry, uint64_t index, const Entry *entry, Result *ret_result) {
        Result result = {};
        Apply apply = { .registry = registry, .entry = entry, .result = &result };
        int r;

        registry->index = index;
        const RequestRecord *seen = find_request(registry, entry);
        if (seen && seen->fingerprint == entry_fingerprint(entry)) {
                result.verdict = seen->verdict;
                r = text_set(&result.sentence, seen->sentence);
        } else if (seen)
                r = apply_refuse(&apply, VERDICT_CONFLICT,
                                 "this request id was used for another request: take a new one");
        else {
                if (id_is_null(registry->cluster.bytes) && entry->command_case != GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER)
                        r = apply_refuse(&apply, VERDICT_CONFLICT, "the cluster has no beginning yet");
                else if (entry->level > registry->level && registry->level != 0)
                        r = apply_refuse(&apply, VERDICT_LEVEL_TOO_LOW,
                                         "this needs functional level %u and the cluster works at %u", entry->level,
                                         registry->level);
                else
                        r = dispatch(&apply);
                if (r >= 0)
                        r = remember_request(registry, entry, &result);
        }
        if (r < 0) {
                result_clear(&result);
                return r;
        }
        *ret_result = result;
        return 0;
}
