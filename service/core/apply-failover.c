/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands about nodes that fail or are to be left: who is held for dead and on what evidence, draining, how a node is
 * switched off, and freezing. What a node says when it comes back stands in apply-member.c, the moving of a VM in
 * apply-vm.c. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/mutant.h"
#include "core/names.h"
#include "core/registry-internal.h"

/* The member that a command names; NULL: refused, *ret_r is what to return. */
static NodeRecord *find_node(Apply *apply, const ProtobufCBinaryData *id, int *ret_r) {
        NodeId node_id;
        size_t i;
        if (id->len == ID_SIZE) {
                memcpy(node_id.bytes, id->data, ID_SIZE);
                if (registry_node_place(apply->registry, &node_id, &i))
                        return apply->registry->nodes.items + i;
        }
        *ret_r = apply_refuse(apply, VERDICT_NOT_FOUND, "there is no such node (any more)");
        return NULL;
}

static void touch_members(Apply *apply) {
        apply->registry->members_index = apply->registry->index;
}

/* ---- losses */

void node_note_loss(NodeRecord *node, LossEvidence evidence, uint64_t time_ms) {
        if (node->n_losses == FLAP_LOSSES) {
                memmove(node->losses_ms, node->losses_ms + 1, (FLAP_LOSSES - 1) * sizeof(node->losses_ms[0]));
                node->n_losses--;
        }
        node->losses_ms[node->n_losses++] = time_ms;
        node->evidence = evidence;
}

bool node_flaps(const NodeRecord *node) {
        if (node->n_losses < FLAP_LOSSES)
                return false;
        /* Of different leaders' clocks, so the last may seem to be before the first. */
        uint64_t first = node->losses_ms[0], last = node->losses_ms[FLAP_LOSSES - 1];
        return (last > first ? last - first : first - last) <= FLAP_MS;
}

/* What is told of the ground on which it is held for dead; 0 or -ENOMEM. */
static int say_evidence(const Apply *apply, const NodeRecord *node, LossEvidence evidence, char **ret) {
        const char *user = apply->entry->author->user;
        switch (evidence) {
        case LOSS_BY_POWER_OFF:
                return text_set(ret, "a fence agent confirmed that it is off");
        case LOSS_BY_NEW_BOOT:
                return text_set(ret, "it booted anew");
        case LOSS_BY_WORD:
                return text_printf(ret, "%s confirmed that it is off", *user ? user : "an administrator");
        case LOSS_BY_LEASE:
        case LOSS_EVIDENCE_COUNT:
                break;
        }
        return text_set(ret, node->lease_ms > 0 ? "its last possible lease has run out"
                                                : "it has not come since it was admitted");
}

/* Whose VM there ends with no lease, so that no time proves that it is dead; or NULL. */
static const Vm *find_unleased(const Registry *registry, const NodeRecord *node) {
        ARRAY_EACH(vm, &registry->vms)
                if (vm->assignment.phase != ASSIGNMENT_NONE && ID_EQUAL(&vm->assignment.node, &node->id) &&
                    !vm->assignment.leased)
                        return vm;
        return NULL;
}

/* Does time alone prove it? 1: yes; 0: refused; or -ENOMEM. */
static int check_loss_by_lease(Apply *apply, const NodeRecord *node) {
        const Registry *registry = apply->registry;
        const Vm *unleased = find_unleased(registry, node);
        int r;
        if (registry->frozen_ms > 0)
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "cluster %s is frozen, so no time proves that node %s is dead: thaw it first "
                                 "(gpupoolctl cluster thaw)", registry->name, node->name);
        else if (node->lease_ms == 0 && !registry_node_is_idle(registry, node))
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "node %s has no lease, so no time proves that it is dead: see that it is off, then "
                                 "confirm it", node->name);
        else if (unleased)
                r = apply_refuse(apply, VERDICT_CONFLICT,
                                 "VM %s on node %s was started below functional level %u and ends with no lease, so no "
                                 "time proves that it is dead: see that the node is off, then confirm it",
                                 unleased->name, node->name, LEVEL_FAILOVER);
        else
                return 1;
        return r < 0 ? r : 0;
}

/* 1: it may be declared lost; 0: refused; or -ENOMEM. */
static int check_loss(Apply *apply, const Gpupool1__LoseNode *command, const NodeRecord *node) {
        int r;
        if ((unsigned) command->evidence >= LOSS_EVIDENCE_COUNT ||
            (LossEvidence) command->evidence == LOSS_BY_NEW_BOOT)
                r = apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "node %s: this is no evidence of a loss",
                                 node->name);
        else if (node->witness)
                r = apply_refuse(apply, VERDICT_CONFLICT, "node %s is a witness and runs no VM that could be lost",
                                 node->name);
        else if (node->incarnation != command->incarnation && !MUTANT(NO_INCARNATION_CHECK))
                r = apply_refuse(apply, VERDICT_CONFLICT, "node %s is in another incarnation by now", node->name);
        else if (node->lost)
                r = apply_refuse(apply, VERDICT_CONFLICT, "node %s is lost already", node->name);
        else if ((LossEvidence) command->evidence == LOSS_BY_LEASE)
                return check_loss_by_lease(apply, node);
        else
                return 1;
        return r < 0 ? r : 0;
}

int apply_lose_node(Apply *apply, const Gpupool1__LoseNode *command) {
        int r = 0;
        NodeRecord *node = find_node(apply, &command->node, &r);
        if (!node)
                return r;
        r = check_loss(apply, command, node);
        if (r <= 0)
                return r;

        _cleanup_free_ char *ground = NULL, *sentence = NULL;
        r = say_evidence(apply, node, (LossEvidence) command->evidence, &ground);
        if (r >= 0)
                r = text_printf(&sentence, "node %s was lost: %s", node->name, ground);
        if (r >= 0)
                r = apply_note_node(apply, "node-lost", &node->id, "node %s lost: %s", node->name, ground);
        if (r < 0)
                return r;
        node_note_loss(node, (LossEvidence) command->evidence, apply->entry->time_ms);
        node->lost_idle = registry_node_is_idle(apply->registry, node);
        node->lost = true;
        node->long_lease_ms = 0;
        touch_members(apply);
        return apply_end_incarnation(apply, &node->id, node->incarnation + 1, sentence);
}

/* ---- draining */

int apply_drain_node(Apply *apply, const Gpupool1__DrainNode *command) {
        int r = 0;
        NodeRecord *node = find_node(apply, &command->node, &r);
        if (!node)
                return r;
        if (node->witness)
                return apply_refuse(apply, VERDICT_CONFLICT, "node %s is a witness and runs no VM: there is nothing to "
                                    "drain", node->name);

        bool by_hand_before = node->drain == DRAIN_BY_HAND;
        node->drain = DRAIN_BY_HAND;
        node->drain_timeout_ms = command->timeout_ms;
        node->bring_home = false;
        touch_members(apply);
        if (by_hand_before)
                return 0;
        return apply_note_node(apply, "node-draining", &node->id, "node %s is draining: its VMs leave it, and none is "
                               "placed on it", node->name);
}

/* All but the one that it has not come back from. */
static void forget_losses(NodeRecord *node) {
        if (node->lost)
                node->losses_ms[0] = node->losses_ms[node->n_losses - 1];
        node->n_losses = node->lost ? 1 : 0;
}

int apply_resume_node(Apply *apply, const Gpupool1__ResumeNode *command) {
        int r = 0;
        NodeRecord *node = find_node(apply, &command->node, &r);
        if (!node)
                return r;

        size_t n_away = 0;
        ARRAY_EACH(vm, &apply->registry->vms) {
                if (!ID_EQUAL(&vm->home, &node->id))
                        continue;
                n_away++;
                if (!command->bring_home)
                        vm->home = (NodeId) {};
        }
        /* Whoever resumes it trusts it again: what was before does not count for the next loss. */
        if (node->drain == DRAIN_FLAPPING)
                forget_losses(node);
        bool drained_before = node->drain != DRAIN_NONE;
        node->drain = DRAIN_NONE;
        node->drain_timeout_ms = 0;
        node->bring_home = command->bring_home;
        touch_members(apply);
        if (!drained_before)
                return 0;
        return apply_note_node(apply, "node-resumed", &node->id, "node %s takes VMs again%s", node->name,
                               command->bring_home && n_away > 0 ? "; those that left it come home" : "");
}

/* ---- fencing */

void fence_clear(Fence *fence) {
        for (size_t i = 0; i < fence->n_parameters; i++) {
                free(fence->parameters[i].name);
                free(fence->parameters[i].value);
        }
        free(fence->parameters);
        free(fence->agent);
        *fence = (Fence) {};
}

/* Above what protobuf puts around a parameter. */
#define PARAMETER_OVERHEAD 16U

size_t fence_size(const Fence *fence) {
        size_t size = 0;
        for (size_t i = 0; i < fence->n_parameters; i++)
                size += strlen(fence->parameters[i].name) + strlen(fence->parameters[i].value) + PARAMETER_OVERHEAD;
        return size;
}

size_t registry_fences_size(const Registry *registry) {
        size_t size = 0;
        ARRAY_EACH(node, &registry->nodes)
                size += fence_size(&node->fence);
        return size;
}

/* A program's or a parameter's name: no slash, no dot, no blank, so that it names nothing outside of a directory and
 * is one word on the agent's input. */
static bool fence_word_is_valid(const char *word) {
        size_t length = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
        return length >= 1 && length <= NAME_LENGTH_MAX && word[length] == '\0';
}

static bool parameters_are_valid(Gpupool1__FenceParameter *const *parameters, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (!fence_word_is_valid(parameters[i]->name) || strlen(parameters[i]->value) > TEXT_LENGTH_MAX ||
                    !text_is_printable(parameters[i]->value))
                        return false;
                for (size_t j = 0; j < i; j++)
                        if (text_equal(parameters[j]->name, parameters[i]->name))
                                return false;
        }
        return true;
}

int fence_read(const char *agent, Gpupool1__FenceParameter *const *parameters, size_t n, Fence *ret) {
        if (!*agent && n == 0) {
                *ret = (Fence) {};
                return 0;
        }
        if (!fence_word_is_valid(agent) || n > FENCE_PARAMETERS_MAX || !parameters_are_valid(parameters, n))
                return -EINVAL;

        _cleanup_(fence_clear) Fence fence = {};
        fence.parameters = calloc(n + 1, sizeof(*fence.parameters));
        int r = fence.parameters ? text_set(&fence.agent, agent) : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                fence.n_parameters++;
                r = text_set(&fence.parameters[i].name, parameters[i]->name);
                if (r >= 0)
                        r = text_set(&fence.parameters[i].value, parameters[i]->value);
        }
        if (r < 0)
                return r;
        *ret = fence;
        fence = (Fence) {};
        return 0;
}

/* Says what of it is wrong, but never a value: it may be a secret. */
static int refuse_fence(Apply *apply, const NodeRecord *node, const Gpupool1__SetFencing *command) {
        if (!*command->agent)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "node %s: parameters are of a fence agent, and none is named", node->name);
        if (!fence_word_is_valid(command->agent))
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                                    "node %s: a fence agent is named by its program, as fence_ipmilan: 1 to %u "
                                    "letters, digits, dashes and underscores", node->name, NAME_LENGTH_MAX);
        return apply_refuse(apply, VERDICT_INVALID_ARGUMENT,
                            "node %s: %s takes at most %u parameters, each once: a name of 1 to %u letters, digits, "
                            "dashes and underscores, and a printable value of at most %u bytes", node->name,
                            command->agent, FENCE_PARAMETERS_MAX, NAME_LENGTH_MAX, TEXT_LENGTH_MAX);
}

int apply_set_fencing(Apply *apply, const Gpupool1__SetFencing *command) {
        int r = 0;
        NodeRecord *node = find_node(apply, &command->node, &r);
        if (!node)
                return r;
        _cleanup_(fence_clear) Fence fence = {};
        r = fence_read(command->agent, command->parameters, command->n_parameters, &fence);
        if (r == -EINVAL)
                return refuse_fence(apply, node, command);
        if (r < 0)
                return r;
        size_t before = fence_size(&node->fence), after = fence_size(&fence);
        if (after > before && registry_fences_size(apply->registry) - before + after > FENCE_TOTAL_MAX)
                return apply_refuse(apply, VERDICT_LIMITS_EXCEEDED,
                                    "node %s: the fencing parameters of all nodes together are at most %u MiB",
                                    node->name, FENCE_TOTAL_MAX >> 20);

        fence_clear(&node->fence);
        node->fence = fence;
        fence = (Fence) {};
        touch_members(apply);
        if (!node->fence.agent)
                return apply_note_node(apply, "node-fencing", &node->id, "node %s has no fence agent", node->name);
        return apply_note_node(apply, "node-fencing", &node->id, "node %s is switched off by %s when it must be",
                               node->name, node->fence.agent);
}

/* ---- freezing */

uint64_t node_long_lease_ms(const Registry *registry, const NodeRecord *node) {
        return registry->nodes.n <= LEASE_ALONE_NODES ? LEASE_ALONE_MS : registry->frozen_ms + node->lease_ms;
}

void node_freeze(const Registry *registry, NodeRecord *node) {
        if (registry_has_ordinary_leases(registry) || node->lease_ms == 0 || node->lost)
                return;
        uint64_t long_ms = node_long_lease_ms(registry, node);
        if (node->long_lease_ms < long_ms)
                node->long_lease_ms = long_ms;
}

/* "90 seconds", "30 minutes" */
static void say_duration(uint64_t ms, char *ret, size_t size) {
        uint64_t seconds = (ms + 999) / 1000;
        if (seconds % 60 == 0)
                (void) snprintf(ret, size, "%" PRIu64 " minute%s", seconds / 60, seconds == 60 ? "" : "s");
        else
                (void) snprintf(ret, size, "%" PRIu64 " second%s", seconds, seconds == 1 ? "" : "s");
}

int apply_freeze(Apply *apply, const Gpupool1__Freeze *command) {
        Registry *registry = apply->registry;
        if (command->duration_ms == 0 || command->duration_ms > FREEZE_MS_MAX)
                return apply_refuse(apply, VERDICT_INVALID_ARGUMENT, "a cluster is frozen for at most %u hours, and "
                                    "not for no time", FREEZE_MS_MAX / 3600000U);

        registry->freezes++;
        registry->frozen_ms = command->duration_ms;
        ARRAY_EACH(node, &registry->nodes)
                node_freeze(registry, node);
        touch_members(apply);
        char duration[64];
        say_duration(command->duration_ms, duration, sizeof(duration));
        return apply_note(apply, "frozen", OBJECT_KIND_CLUSTER, registry->name,
                          "cluster %s is frozen for %s: no node is held for dead by time alone", registry->name,
                          duration);
}

int apply_thaw(Apply *apply, const Gpupool1__Thaw *command) {
        Registry *registry = apply->registry;
        if (registry->frozen_ms == 0)
                return apply_refuse(apply, VERDICT_CONFLICT, "cluster %s is not frozen", registry->name);
        if (command->freezes != 0 && command->freezes != registry->freezes)
                return apply_refuse(apply, VERDICT_CONFLICT, "cluster %s was frozen anew", registry->name);

        registry->frozen_ms = 0;
        return apply_note(apply, "thawed", OBJECT_KIND_CLUSTER, registry->name,
                          "cluster %s is not frozen any more", registry->name);
}

int apply_report_thawed(Apply *apply, const Gpupool1__ReportThawed *command) {
        const Registry *registry = apply->registry;
        int r = 0;
        NodeRecord *node = find_node(apply, &command->node, &r);
        if (!node)
                return r;
        r = apply_check_own_word(apply, &command->node);
        if (r <= 0)
                return r;
        if (node->incarnation != command->incarnation)
                return apply_refuse(apply, VERDICT_CONFLICT, "node %s is in another incarnation by now", node->name);
        if (registry->frozen_ms > 0 || command->freezes != registry->freezes)
                return apply_refuse(apply, VERDICT_CONFLICT, "cluster %s was frozen anew", registry->name);
        if (!registry_has_ordinary_leases(registry))
                return apply_refuse(apply, VERDICT_CONFLICT, "cluster %s has too few nodes for ordinary leases",
                                    registry->name);

        node->long_lease_ms = 0;
        touch_members(apply);
        return 0;
}
