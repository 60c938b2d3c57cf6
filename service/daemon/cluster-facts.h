/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Cluster facts: what every node says of itself, as this node knows it by gossip; and this node's own facts on their
 * way to the others. */

#include <systemd/sd-event.h>

#include "adapters/peer/peer.h"
#include "core/facts-codec.h"
#include "core/neighbours.h"

typedef struct ClusterFacts ClusterFacts;

typedef struct ClusterFactsConfig {
        NodeId node;
        uint64_t generation;            /* greater than at the last start */
        void (*changed)(void *userdata);        /* called before the loop goes on */
        void *userdata;
} ClusterFactsConfig;

int cluster_facts_new(ClusterFacts **ret, sd_event *event, const ClusterFactsConfig *config);
ClusterFacts *cluster_facts_free(ClusterFacts *facts);
DEFINE_CLEANUP(ClusterFacts *, cluster_facts_free);

/* Borrowed; NULL: none at present. */
void cluster_facts_set_net(ClusterFacts *facts, PeerNet *net);
/* Who belongs to the cluster: what others say is forgotten. 0 or -ENOMEM. */
int cluster_facts_set_members(ClusterFacts *facts, const NodeId *nodes, size_t n);
/* Who is connected, for the choice of partners. 0 or -ENOMEM. */
int cluster_facts_set_connected(ClusterFacts *facts, bool self_is_member, const Neighbour *connected, size_t n);

/* This node's own facts are these from now on. 0 or -ENOMEM. */
int cluster_facts_publish(ClusterFacts *facts, const NodeFacts *local);
/* Whom the leader does not hear: silent_facts_publish() and silent_facts_collect() of core/facts-codec.h. */
int cluster_facts_publish_silent(ClusterFacts *facts, const SilentFacts *silent);
int cluster_facts_collect_silent(const ClusterFacts *facts, const NodeId *leader, SilentFacts *ret);
/* Whom it has switched off: fencing_facts_publish() and fencing_facts_collect() there. */
int cluster_facts_publish_fencing(ClusterFacts *facts, const FencingFacts *fencing);
int cluster_facts_collect_fencing(const ClusterFacts *facts, const NodeId *leader, FencingFacts *ret);

/* A VM on this node; what some node says of one; the first of which this node says something, behind @vm. As
 * vm_facts_publish(), vm_facts_collect() and vm_facts_next() there; the first returns 1 if that is news. */
int cluster_facts_publish_vm(ClusterFacts *facts, const VmId *vm, const VmFacts *said);
int cluster_facts_collect_vm(const ClusterFacts *facts, const NodeId *node, const VmId *vm, VmFacts *ret);
bool cluster_facts_next_vm(const ClusterFacts *facts, const VmId *vm, VmId *ret);

void cluster_facts_heard(ClusterFacts *facts, const NodeId *from, const Gpupool1__Gossip *message);

/* The facts of all nodes of whom something is known, by id, @local among them, if not NULL. Borrowed until the next
 * change. 0 or -ENOMEM. */
int cluster_facts_list(ClusterFacts *facts, const NodeFacts *local, const NodeFacts *const **ret, size_t *ret_n);
