/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/fence.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>

#include "core/names.h"

#define PREFIX "fence_"

/* They cut a host off from its storage or from a switch, move VMs, look whether somebody answers, ask a person, or do
 * nothing at all; and say "off" is done. */
static const char *const powerless[] = {
        "fence_ack_manual", "fence_aws_vpc_net", "fence_brocade", "fence_cisco_mds", "fence_compute",
        "fence_crosslink", "fence_dummy", "fence_evacuate", "fence_heuristics_ping", "fence_heuristics_resource",
        "fence_ifmib", "fence_mpath", "fence_sanbox2", "fence_scsi",
};

/* They reboot by method=cycle unless they are told otherwise. */
static const char *const cyclists[] = { "fence_gce", "fence_rcd_serial", "fence_sbd" };

static bool is_name(const char *name) {
        size_t length = strlen(name);
        if (length <= strlen(PREFIX) || length > NAME_LENGTH_MAX || strncmp(name, PREFIX, strlen(PREFIX)) != 0)
                return false;
        for (const char *c = name; *c; c++)
                if (!isalnum((unsigned char) *c) && *c != '_' && *c != '-')
                        return false;
        return true;
}

const char *fence_agent_objection(const char *agent) {
        if (!is_name(agent))
                return "is no fence agent: it is named by its program, as fence_ipmilan";
        for (size_t i = 0; i < ELEMENTS(powerless); i++)
                if (text_equal(agent, powerless[i]))
                        return "does not switch a host off, so it proves no VM dead; take an agent that cuts the power";
        return NULL;
}

/* ---- parameters */

static const char *find_parameter(const Fence *fence, const char *name) {
        for (size_t i = 0; i < fence->n_parameters; i++)
                if (text_equal(fence->parameters[i].name, name))
                        return fence->parameters[i].value;
        return NULL;
}

bool fence_action_is_known(const char *action) {
        return text_equal(action, "off") || text_equal(action, "reboot");
}

const char *fence_action(const Fence *fence) {
        return text_equal(find_parameter(fence, "action"), "reboot") ? "reboot" : "off";
}

/* Some agents read names in any case; "option" is what "action" was called once. */
static const char *name_objection(const char *name) {
        if (strcasecmp(name, "option") == 0 || (strcasecmp(name, "action") == 0 && !text_equal(name, "action")))
                return "is told what to do by the parameter action, in small letters, and by no other name";
        if (strcasecmp(name, "method") == 0 && !text_equal(name, "method"))
                return "is told how to do it by the parameter method, in small letters";
        if (strcasecmp(name, "help") == 0 || strcasecmp(name, "version") == 0)
                return "answers the parameters help and version, and does nothing else then: leave them out";
        return NULL;
}

/* To have the machine cycle its power by itself is a wish that the agent hands on: it does not see the host off. Some
 * take blanks and quotes off a value, or hold what they do not know for cycle: so it is onoff to the letter. */
static const char *reboot_objection(const Fence *fence) {
        const char *method = find_parameter(fence, "method");
        if (method && !text_equal(method, "onoff"))
                return "reboots a host without a look whether it was off, by all methods but onoff, so it proves no VM "
                       "dead: leave method out, or say method=onoff";
        for (size_t i = 0; !method && i < ELEMENTS(cyclists); i++)
                if (text_equal(fence->agent, cyclists[i]))
                        return "reboots a host by method=cycle and does not look whether it was off, so it proves no "
                               "VM dead: say method=onoff, or leave action=reboot out";
        return NULL;
}

const char *fence_objection(const Fence *fence) {
        const char *objection = fence_agent_objection(fence->agent);
        for (size_t i = 0; !objection && i < fence->n_parameters; i++)
                objection = name_objection(fence->parameters[i].name);
        if (objection)
                return objection;
        return text_equal(fence_action(fence), "reboot") ? reboot_objection(fence) : NULL;
}

/* ---- what came of it */

void fenced_node_clear(FencedNode *fenced) {
        free(fenced->said);
        *fenced = (FencedNode) {};
}

bool fenced_node_equal(const FencedNode *a, const FencedNode *b) {
        return ID_EQUAL(&a->node, &b->node) && a->phase == b->phase && a->tries == b->tries && a->at_ms == b->at_ms &&
               text_equal(a->said, b->said);
}

const char *fence_state_text(const Fence *fence, FencedPhase phase) {
        if (text_is_empty(fence->agent))
                return "";
        switch (phase) {
        case FENCED_UNDER_WAY:
                return "fencing";
        case FENCED_FAILED:
                return "failed";
        case FENCED_DONE:
                return "done";
        case FENCED_NOT:
        case FENCED_PHASE_COUNT:
                break;
        }
        return "ready";
}

static int say_under_way(const NodeRecord *node, const FencedNode *fenced, char **ret) {
        if (!fenced->said)
                return text_printf(ret, "%s is asked to switch it off", node->fence.agent);
        return text_printf(ret, "%s is asked to switch it off, try %" PRIu32 "; the last one failed: %s",
                           node->fence.agent, fenced->tries, fenced->said);
}

int fence_state_sentence(const NodeRecord *node, const FencedNode *fenced, char **ret) {
        *ret = NULL;
        if (text_is_empty(node->fence.agent))
                return 0;
        switch (fenced->phase) {
        case FENCED_UNDER_WAY:
                return say_under_way(node, fenced, ret);
        case FENCED_FAILED:
                return text_printf(ret, "%s could not switch it off when it was silent (tried %" PRIu32 " time%s): %s",
                                   node->fence.agent, fenced->tries, fenced->tries == 1 ? "" : "s",
                                   fenced->said ? fenced->said : "it did not say why");
        case FENCED_DONE:
                return text_printf(ret, "%s confirmed that it was off", node->fence.agent);
        case FENCED_NOT:
        case FENCED_PHASE_COUNT:
                break;
        }
        return 0;
}
