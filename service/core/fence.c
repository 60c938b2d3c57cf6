/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/fence.h"

#include <ctype.h>

#include "core/names.h"

#define PREFIX "fence_"

/* They cut a host off from its storage or from a switch, move VMs, look whether somebody answers, ask a person, or do
 * nothing at all; and say "off" is done. */
static const char *const powerless[] = {
        "fence_ack_manual", "fence_brocade", "fence_cisco_mds", "fence_compute", "fence_dummy", "fence_evacuate",
        "fence_heuristics_ping", "fence_ifmib", "fence_mpath", "fence_sanbox2", "fence_scsi",
};

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

const char *fence_action(const Fence *fence) {
        for (size_t i = 0; i < fence->n_parameters; i++)
                if (text_equal(fence->parameters[i].name, "action") && text_equal(fence->parameters[i].value, "reboot"))
                        return "reboot";
        return "off";
}
