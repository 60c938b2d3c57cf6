/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands about the members of the cluster: what a node says of itself, invitations, admission, removal, and the
 * functional level, which is what all members can. */

#include <errno.h>
#include <stdio.h>

#include "core/names.h"
#include "core/registry-internal.h"

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

bool lease_fields_are_valid(uint32_t lease_ms, uint32_t death_ms, bool witness) {
        if (witness)
                return lease_ms == 0 && death_ms == 0;
        return (lease_ms > 0) == (death_ms > 0) && lease_ms <= LEASE_MS_MAX && death_ms <= LEASE_MS_MAX;
}

bool node_id_is_valid(const ProtobufCBinaryData *id) {
        static const uint8_t null[NODE_NUMBER_SIZE];
        return id->len == ID_SIZE && memcmp(id->data, null, NODE_NUMBER_SIZE) != 0;
}

/* The fields that an announcement and an admission share. 0 or -ENOMEM. */
static int make_record(const ProtobufCBinaryData *id, const ProtobufCBinaryData *key, const char *name,
                       const char *boot_id, char *const *addresses, size_t n_addresses, NodeRecord *ret) {
        NodeRecord node = {};
        memcpy(node.id.bytes, id->data, ID_SIZE);
        if (key->len == HASH_SIZE) {
                memcpy(node.key, key->data, HASH_SIZE);
                node.has_key = true;
        }
        int r = text_set(&node.name, name);
        if (r >= 0)
                r = text_set(&node.boot_id, boot_id);
        for (size_t i = 0; r >= 0 && i < n_addresses; i++)
                r = text_list_add(&node.addresses, addresses[i]);
        if (r < 0) {
                node_record_clear(&node);
                return r;
        }
        *ret = node;
        return 0;
}

/* Puts @node, which is moved from, among the members. */
static int add_member(Apply *apply, NodeRecord *node, const char *how) {
        Registry *registry = apply->registry;
        size_t place;
        (void) registry_node_place(registry, &node->id, &place);
        node->joined_index = registry->index;
        int r = array_insert(&registry->nodes, place, node);
        if (r < 0)
                return r;
        *node = (NodeRecord) {};
        node = registry->nodes.items + place;
        registry->members_index = registry->index;
        return apply_note_node(apply, "node-joined", &node->id, "node %s is a member%s%s", node->name,
                               node->witness ? ", as a witness" : "", how);
}

/* ---- what a node says of itself */

static const Vm *find_tenant(const Registry *registry, const NodeId *node) {
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, node))
                        return vm;
        return NULL;
}

/* Whose VM there would be nobody's: a witness has no lease, is never lost, and is not drained. (Below the level of
 * failover, where older builds apply it too, it was taken.) */
static const Vm *find_orphan(const Registry *registry, const Gpupool1__AnnounceNode *command,
                             const NodeRecord *record) {
        bool becomes = registry->level >= LEVEL_FAILOVER && command->witness && record && !record->witness;
        return becomes ? find_tenant(registry, &record->id) : NULL;
}

/* Who it is and whether it may be so. 1: good; 0: refused; or -ENOMEM. */
static int check_announcement(Apply *apply, const Gpupool1__AnnounceNode *command, const NodeRecord *node) {
        const Registry *registry = apply->registry;
        const NodeRecord *namesake = registry_find_node_name(registry, node->name);
        const NodeRecord *keysake = node->has_key ? registry_find_node_key(registry, node->key) : NULL;
        const NodeRecord *record = registry_find_node(registry, &node->id);
        const Vm *orphan = find_orphan(registry, command, record);
        int r;
        if (command->level < registry->level)
                r = apply_refuse(apply, VERDICT_LEVEL_TOO_LOW,
                                 "node %s supports level %u and the cluster works at level %u: upgrade gpupool on %s",
                                 node->name, command->level, registry->level, node->name);
        else if (namesake && !ID_EQUAL(&namesake->id, &node->id))
                r = apply_refuse(apply, VERDICT_EXISTS, "another node has the name %s: set Name= in gpupoold.conf",
                                 node->name);
        else if (keysake && !ID_EQUAL(&keysake->id, &node->id))
                r = apply_refuse(apply, VERDICT_EXISTS, "node %s has the same key: no two nodes may", keysake->name);
        else if (!record && registry->nodes.n > 0)
                r = apply_refuse(apply, VERDICT_NOT_FOUND,
                                 "node %s is no member of cluster %s: invite it (gpupoolctl cluster invite)",
                                 node->name, registry->name);
        else if (record && node->incarnation < record->incarnation)
                r = apply_refuse(apply, VERDICT_CONFLICT, "node %s is known in a later incarnation", node->name);
        else if (record && node->incarnation == record->incarnation && !text_equal(node->boot_id, record->boot_id))
                r = apply_refuse(apply, VERDICT_CONFLICT, "node %s has booted anew and needs a new incarnation",
                                 node->name);
        else if (record && record->has_key && node->has_key && memcmp(node->key, record->key, HASH_SIZE) != 0 &&
                 registry->nodes.n > 1)
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "node %s is known by another key: remove it and let it join anew", node->name);
        else if (orphan)
                r = apply_refuse(apply, VERDICT_IN_USE,
                                 "node %s is to be a witness, and runs VM %s: drain it first", node->name,
                                 orphan->name);
        else
                return 1;
        return r < 0 ? r : 0;
}

/* @node is what it says of itself, @record what is known of it: what others decided about it moves over. */
static void keep_what_was_decided(NodeRecord *node, NodeRecord *record) {
        node->joined_index = record->joined_index;
        if (!node->has_key) {
                memcpy(node->key, record->key, HASH_SIZE);
                node->has_key = record->has_key;
        }
        node->long_lease_ms = record->long_lease_ms;
        node->lost = record->lost;
        node->lost_idle = record->lost_idle;
        node->evidence = record->evidence;
        memcpy(node->losses_ms, record->losses_ms, sizeof(node->losses_ms));
        node->n_losses = record->n_losses;
        node->drain = record->drain;
        node->drain_timeout_ms = record->drain_timeout_ms;
        node->bring_home = record->bring_home;
        node->fence = record->fence;
        record->fence = (Fence) {};
}

/* It was lost, and has proven that what it ran is dead; or its VMs went down with it and nobody had noticed yet. */
static int come_back(Apply *apply, NodeRecord *node, bool new_boot) {
        bool drained = node->drain == DRAIN_NONE && node_flaps(node);
        if (drained)
                node->drain = DRAIN_FLAPPING;
        int r = apply_note_node(apply, "node-returned", &node->id, "node %s is back%s", node->name,
                                new_boot ? " with a new boot; nothing of it was running" : "; what it ran is dead");
        if (r < 0 || !drained)
                return r;
        return apply_note_node(apply, "node-draining", &node->id,
                               "node %s was lost %u times within an hour and takes no VM until somebody has looked "
                               "after it: gpupoolctl node resume %s", node->name, FLAP_LOSSES, node->name);
}

/* What the node ran in the incarnation before is dead. */
static int begin_incarnation(Apply *apply, NodeRecord *node, const NodeRecord *old) {
        bool new_boot = !text_equal(node->boot_id, old->boot_id);
        if (apply->registry->level < LEVEL_FAILOVER)
                return apply_end_incarnation(apply, &node->id, node->incarnation, "its node booted anew");

        bool lost_unnoticed = find_tenant(apply->registry, &node->id);
        const char *what = new_boot ? "booted anew" : "began anew";
        int r = 0;
        node->lost = node->lost_idle = false;
        node->long_lease_ms = 0;
        node_freeze(apply->registry, node);
        if (lost_unnoticed) {
                node_note_loss(node, LOSS_BY_NEW_BOOT, apply->entry->time_ms);
                r = apply_note_node(apply, "node-lost", &node->id, "node %s lost: it %s", node->name, what);
        }
        if (r >= 0 && lost_unnoticed) {
                _cleanup_free_ char *sentence = NULL;
                r = text_printf(&sentence, "node %s was lost: it %s", node->name, what);
                if (r >= 0)
                        r = apply_end_incarnation(apply, &node->id, node->incarnation, sentence);
        }
        if (r < 0 || !(old->lost || lost_unnoticed))
                return r;
        return come_back(apply, node, new_boot);
}

int apply_announce_node(Apply *apply, const Gpupool1__AnnounceNode *command) {
        if (!node_id_is_valid(&command->node) || (command->key.len != 0 && command->key.len != HASH_SIZE) ||
            !node_fields_are_valid(command->name, command->boot_id, command->incarnation, command->addresses,
                                   command->n_addresses) ||
            !lease_fields_are_valid(command->lease_ms, command->death_ms, command->witness))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "the node's announcement has a field that is not valid");
        int r = apply_check_own_word(apply, &command->node);
        if (r <= 0)
                return r;

        _cleanup_(node_record_clear) NodeRecord node = {};
        r = make_record(&command->node, &command->key, command->name, command->boot_id, command->addresses,
                        command->n_addresses, &node);
        if (r < 0)
                return r;
        node.incarnation = command->incarnation;
        node.level = command->level;
        node.witness = command->witness;
        node.lease_ms = command->lease_ms;
        node.death_ms = command->death_ms;
        r = check_announcement(apply, command, &node);
        if (r <= 0)
                return r;

        size_t i;
        if (!registry_node_place(apply->registry, &node.id, &i)) {
                node_freeze(apply->registry, &node);
                return add_member(apply, &node, "");
        }
        NodeRecord *record = apply->registry->nodes.items + i;
        keep_what_was_decided(&node, record);
        NodeRecord old = *record;
        *record = node;
        node = old;     /* freed at the end of the scope */
        apply->registry->members_index = apply->registry->index;
        if (record->incarnation != old.incarnation)
                return begin_incarnation(apply, record, &old);
        node_freeze(apply->registry, record);
        return 0;
}

/* ---- invitations */

static bool read_invite_id(const ProtobufCBinaryData *data, InviteId *ret) {
        if (data->len != ID_SIZE || id_is_null(data->data))
                return false;
        memcpy(ret->bytes, data->data, ID_SIZE);
        return true;
}

static int note_invite(Apply *apply, const char *kind, const InviteId *id, const char *what) {
        char text[ID_TEXT_SIZE];
        id_to_text(id->bytes, text);
        return apply_note(apply, kind, OBJECT_KIND_CLUSTER, apply->registry->name, "invitation %.8s %s", text, what);
}

/* The invitation that may be forgotten for a new one: the oldest that is spent, else the oldest whose time is over. */
static bool find_dispensable_invite(const Apply *apply, size_t *ret_index) {
        const Registry *registry = apply->registry;
        for (size_t i = 0; i < registry->invites.n; i++)
                if (!id_is_null(registry->invites.items[i].node.bytes)) {
                        *ret_index = i;
                        return true;
                }
        for (size_t i = 0; i < registry->invites.n; i++)
                if (registry->invites.items[i].expires_ms < apply->entry->time_ms) {
                        *ret_index = i;
                        return true;
                }
        return false;
}

int apply_create_invite(Apply *apply, const Gpupool1__CreateInvite *command) {
        Registry *registry = apply->registry;
        Invite invite = { .expires_ms = command->expires_ms };
        if (!read_invite_id(&command->invite, &invite.id) || command->secret_hash.len != HASH_SIZE)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "an invitation needs an id and the hash of a secret");
        if (registry_find_invite(registry, &invite.id))
                return apply_refuse(apply, VERDICT_EXISTS, "there is such an invitation already");
        memcpy(invite.secret_hash, command->secret_hash.data, HASH_SIZE);

        if (registry->invites.n >= INVITES_MAX) {
                size_t old;
                if (!find_dispensable_invite(apply, &old))
                        return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED,
                                            "%u invitations are open: revoke one, or wait until one expires",
                                            INVITES_MAX);
                array_remove(&registry->invites, old);
        }
        int r = array_append(&registry->invites, &invite);
        return r < 0 ? r : note_invite(apply, "invite-created", &invite.id, "is open");
}

int apply_revoke_invite(Apply *apply, const Gpupool1__RevokeInvite *command) {
        Registry *registry = apply->registry;
        InviteId id = {};
        (void) read_invite_id(&command->invite, &id);
        const Invite *invite = registry_find_invite(registry, &id);
        if (!invite)
                return apply_refuse(apply, VERDICT_NOT_FOUND, "there is no such invitation (any more)");
        array_remove(&registry->invites, (size_t) (invite - registry->invites.items));
        return note_invite(apply, "invite-revoked", &id, "is revoked");
}

/* ---- admission */

static bool admission_is_valid(const Gpupool1__AdmitNode *command) {
        return node_id_is_valid(&command->node) && command->key.len == HASH_SIZE &&
               node_fields_are_valid(command->name, command->boot_id, 1, command->addresses, command->n_addresses);
}

static const NodeRecord *find_node_number(const Registry *registry, const NodeId *id) {
        ARRAY_EACH(node, &registry->nodes)
                if (memcmp(node->id.bytes, id->bytes, NODE_NUMBER_SIZE) == 0)
                        return node;
        return NULL;
}

static const RemovedNode *find_removed_key(const Registry *registry, const uint8_t key[HASH_SIZE]) {
        ARRAY_EACH(removed, &registry->removed)
                if (removed->has_key && memcmp(removed->key, key, HASH_SIZE) == 0)
                        return removed;
        return NULL;
}

/* The invitation that this admission may use, or, with a refusal, NULL. */
static Invite *check_invite(Apply *apply, const Gpupool1__AdmitNode *command, const NodeRecord *node, int *ret_r) {
        Registry *registry = apply->registry;
        InviteId id = {};
        (void) read_invite_id(&command->invite, &id);
        const Invite *found = registry_find_invite(registry, &id);
        const NodeRecord *member = registry_find_node(registry, &node->id);
        bool same = member && member->has_key && memcmp(member->key, node->key, HASH_SIZE) == 0;
        const RemovedNode *removed = registry_find_removed(registry, &node->id);
        if (!removed)
                removed = find_removed_key(registry, node->key);

        if (!found)
                *ret_r = apply_refuse(apply, VERDICT_NOT_FOUND,
                                      "there is no such invitation (any more): ask for a new one (gpupoolctl cluster "
                                      "invite)");
        else if (command->secret_hash.len != HASH_SIZE ||
                 memcmp(command->secret_hash.data, found->secret_hash, HASH_SIZE) != 0)
                *ret_r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                      "the secret of node %s is not that of its invitation", node->name);
        else if (removed)
                *ret_r = apply_refuse(apply, VERDICT_CONFLICT,
                                      "node %s was removed; reset it first: gpupoolctl cluster reset", removed->name);
        else if (!id_is_null(found->node.bytes) && !(same && ID_EQUAL(&found->node, &node->id)))
                *ret_r = apply_refuse(apply, VERDICT_CONFLICT,
                                      "this invitation was used already: ask for a new one (gpupoolctl cluster "
                                      "invite)");
        else
                return registry->invites.items + (found - registry->invites.items);
        return NULL;
}

/* Room and distinctness. 1: good; 0: refused; or -ENOMEM. */
static int check_newcomer(Apply *apply, const NodeRecord *node) {
        const Registry *registry = apply->registry;
        const NodeRecord *other;
        int r;
        if (node->level < registry->level)
                r = apply_refuse(apply, VERDICT_LEVEL_TOO_LOW,
                                 "node %s supports level %u and the cluster works at level %u: upgrade gpupool on %s, "
                                 "then join", node->name, node->level, registry->level, node->name);
        else if (registry_find_node_name(registry, node->name))
                r = apply_refuse(apply, VERDICT_EXISTS,
                                 "cluster %s has a node %s already: set another Name= in gpupoold.conf",
                                 registry->name, node->name);
        else if ((other = registry_find_node_key(registry, node->key)))
                r = apply_refuse(apply, VERDICT_EXISTS,
                                 "node %s has the key of node %s: was its state copied? reset it first: gpupoolctl "
                                 "cluster reset", node->name, other->name);
        else if ((other = find_node_number(registry, &node->id)))
                r = apply_refuse(apply, VERDICT_EXISTS,
                                 "the id of node %s begins as that of node %s: reset it first: gpupoolctl cluster "
                                 "reset", node->name, other->name);
        else if (registry->nodes.n >= NODES_MAX)
                r = apply_refuse(apply, VERDICT_LIMITS_EXCEEDED, "a cluster has at most %u nodes", NODES_MAX);
        else
                return 1;
        return r < 0 ? r : 0;
}

int apply_admit_node(Apply *apply, const Gpupool1__AdmitNode *command) {
        if (!admission_is_valid(command))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "the node's request to join is not valid");

        _cleanup_(node_record_clear) NodeRecord node = {};
        int r = make_record(&command->node, &command->key, command->name, command->boot_id, command->addresses,
                            command->n_addresses, &node);
        if (r < 0)
                return r;
        node.incarnation = 1;
        node.level = command->level;
        node.witness = command->witness;

        Invite *invite = check_invite(apply, command, &node, &r);
        if (!invite)
                return r;
        const NodeRecord *member = registry_find_node(apply->registry, &node.id);
        if (member && member->has_key && memcmp(member->key, node.key, HASH_SIZE) == 0)
                return 0;       /* it did not learn that it was admitted */
        r = check_newcomer(apply, &node);
        if (r <= 0)
                return r;

        char text[ID_TEXT_SIZE], how[ID_TEXT_SIZE + sizeof(", by invitation ")];
        id_to_text(invite->id.bytes, text);
        (void) snprintf(how, sizeof(how), ", by invitation %.8s", text);
        invite->node = node.id;
        return add_member(apply, &node, how);
}

/* ---- removal */

static int refuse_busy(Apply *apply, const NodeRecord *node) {
        const Vm *first = NULL;
        size_t n = 0;
        ARRAY_EACH(vm, &apply->registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, &node->id)) {
                        first = first ? first : vm;
                        n++;
                }
        if (!first)
                return 1;
        int r = n == 1 ? apply_refuse(apply, VERDICT_IN_USE, "node %s runs VM %s: drain it or stop the VM first",
                                      node->name, first->name) :
                         apply_refuse(apply, VERDICT_IN_USE,
                                      "node %s runs VM %s and %zu more: drain it or stop the VMs first", node->name,
                                      first->name, n - 1);
        return r < 0 ? r : 0;
}

/* Takes the node's GPUs out of pools and quarantine. Returns how many left a pool. */
static size_t drop_gpus(Registry *registry, const NodeId *node) {
        size_t n = 0;
        ARRAY_EACH(pool, &registry->pools) {
                size_t kept = 0;
                for (size_t i = 0; i < pool->gpus.n; i++)
                        if (!ID_EQUAL(&pool->gpus.items[i].node, node))
                                pool->gpus.items[kept++] = pool->gpus.items[i];
                n += pool->gpus.n - kept;
                pool->gpus.n = kept;
        }
        size_t kept = 0;
        for (size_t i = 0; i < registry->quarantines.n; i++) {
                Quarantine *quarantine = registry->quarantines.items + i;
                if (ID_EQUAL(&quarantine->gpu.node, node))
                        quarantine_clear(quarantine);
                else
                        registry->quarantines.items[kept++] = *quarantine;
        }
        registry->quarantines.n = kept;
        return n;
}

/* What stays of @node, whose name moves on. */
static int remember_removed(Apply *apply, NodeRecord *node) {
        Registry *registry = apply->registry;
        RemovedNode removed = { .id = node->id, .has_key = node->has_key, .time_ms = apply->entry->time_ms,
                                .name = node->name };
        memcpy(removed.key, node->key, HASH_SIZE);
        int r = array_append(&registry->removed, &removed);
        if (r < 0)
                return r;
        node->name = NULL;
        if (registry->removed.n > REMOVED_MAX) {
                removed_node_clear(registry->removed.items);
                array_remove(&registry->removed, 0);
        }
        return 0;
}

int apply_remove_node(Apply *apply, const Gpupool1__RemoveNode *command) {
        Registry *registry = apply->registry;
        NodeId id = {};
        size_t place;
        if (command->node.len == ID_SIZE)
                memcpy(id.bytes, command->node.data, ID_SIZE);
        if (!registry_node_place(registry, &id, &place))
                return apply_refuse(apply, VERDICT_NOT_FOUND, "there is no such node (any more)");
        NodeRecord *node = registry->nodes.items + place;
        if (registry->nodes.n == 1)
                return apply_refuse(apply, VERDICT_CONFLICT,
                                    "node %s is the last of the cluster: reset it instead (gpupoolctl cluster reset)",
                                    node->name);
        int r = refuse_busy(apply, node);
        if (r <= 0)
                return r;

        size_t n = drop_gpus(registry, &id);
        r = apply_note_node(apply, "node-removed", &id, "node %s removed; %zu GPU%s of it left the pools", node->name,
                            n, n == 1 ? "" : "s");
        if (r >= 0)
                r = remember_removed(apply, node);
        if (r < 0)
                return r;
        bool ordinary = registry_has_ordinary_leases(registry);
        node_record_clear(node);
        array_remove(&registry->nodes, place);
        registry->members_index = registry->index;
        /* As long as in a freeze from now on: who reported before that its guard goes by ordinary ones did not mean
         * these. */
        if (registry->level >= LEVEL_FAILOVER && ordinary && !registry_has_ordinary_leases(registry))
                registry->freezes++;
        ARRAY_EACH(other, &registry->nodes)
                node_freeze(registry, other);
        return 0;
}

/* ---- the functional level */

int apply_set_level(Apply *apply, const Gpupool1__SetLevel *command) {
        Registry *registry = apply->registry;
        if (command->level <= registry->level)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "the cluster works at level %u; it can only be raised", registry->level);
        if (registry->nodes.n == 0)
                return apply_refuse(apply, VERDICT_CONFLICT, "the cluster has no members yet");

        /* By the records alone, or builds of different age would come to different ends. */
        _cleanup_(text_list_clear) TextList obstacles = {};
        int r = registry_level_obstacles(registry, command->level, &obstacles);
        if (r < 0)
                return r;
        if (obstacles.n > 0)
                return apply_refuse(apply, VERDICT_LEVEL_TOO_LOW, "%s", obstacles.items[0]);
        if (command->level > LEVEL_SUPPORTED)
                return -ENOTSUP;
        registry->level = command->level;
        return apply_note(apply, "level-raised", OBJECT_KIND_CLUSTER, registry->name,
                          "cluster %s works at level %u now", registry->name, registry->level);
}
