/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fence: which programs may be asked to switch a host off, how they are asked, and what came of it. */

#include "core/registry.h"

/* Why this program cannot be a node's fence agent, for people, to go after "NAME "; NULL: it can. Agents that cut
 * something else than the power are refused: what they confirm proves no VM dead (P1). Static. */
const char *fence_agent_objection(const char *agent);

/* The same of an agent with its parameters: nor can it be one that would say "done" and had not looked whether the host
 * was off. Static. */
const char *fence_objection(const Fence *fence);

/* Can this be asked of an agent? "off": the host stays off until somebody switches it on; or "reboot": it is switched
 * off, which is proven as with "off", and on again. */
bool fence_action_is_known(const char *action);
/* "off", or "reboot" where the node's parameters say so: whatever else they say is not asked of the agent. */
const char *fence_action(const Fence *fence);

/* ---- what the leader does about a node, as everybody is shown it */

typedef enum FencedPhase {
        FENCED_NOT,                     /* nothing is under way */
        FENCED_UNDER_WAY,
        FENCED_FAILED,                  /* it was tried in vain; also after the node was heard again */
        FENCED_DONE,
        FENCED_PHASE_COUNT,
} FencedPhase;

typedef struct FencedNode {
        NodeId node;
        FencedPhase phase;
        uint32_t tries;                 /* the one under way, or rested from, among them */
        char *said;                     /* how the last one that failed ended, for people; NULL: none has */
        uint64_t at_ms;                 /* realtime of the leader: when */
} FencedNode;

void fenced_node_clear(FencedNode *fenced);
bool fenced_node_equal(const FencedNode *a, const FencedNode *b);

/* "ready", "fencing", "failed", "done"; "" without an agent. */
const char *fence_state_text(const Fence *fence, FencedPhase phase);
/* What there is to say of it: *ret is set to NULL where there is nothing. 0 or -ENOMEM. */
int fence_state_sentence(const NodeRecord *node, const FencedNode *fenced, char **ret);
