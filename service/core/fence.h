/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fence: which programs may be asked to switch a host off, and how they are asked. */

#include "core/registry.h"

/* Why this program cannot be a node's fence agent, for people, to go after "NAME "; NULL: it can. Agents that cut
 * something else than the power are refused: what they confirm proves no VM dead (P1). Static. */
const char *fence_agent_objection(const char *agent);

/* "off", or "reboot" where the node's parameters say so: whatever else they say is not asked of the agent. */
const char *fence_action(const Fence *fence);
