/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Stages: how far a VM is on its way up or down, as the node that runs it tells the others by gossip, so that a job
 * shows the same wherever it was asked for. Nothing is decided by it. */

#include "core/runner.h"
#include "daemon/cluster-facts.h"

#define STAGE_SIZE 16

/* Tells what has changed of this node's runs; one that runs and is reported needs no word. 1: that is news; 0; or
 * -errno. */
int stages_tell(ClusterFacts *facts, const Runner *runner);

/* The stage of @vm, here by the runner, elsewhere as its node says; NULL: nothing is known. */
const char *stages_find(const ClusterFacts *facts, const Runner *runner, const NodeId *self, const Vm *vm,
                        char room[static STAGE_SIZE]);
