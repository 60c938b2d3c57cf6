/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A world in memory: a registry that grows by real entries, and simulated GPUs that come and go. */

#include "core/world.h"

#define FAKE_GPUS_PER_NODE 250U
#define FAKE_NODES_MAX 16U
#define FAKE_VM_GPUS_MAX 4U

typedef struct FakeWorld {
        Registry *registry;
        NodeFacts **nodes;
        size_t n_nodes;
        NodeLife lives[FAKE_NODES_MAX];
        FencedNode fenced;              /* the one of which the leader says something */
        World world;
} FakeWorld;

/* Nodes a, b, ... with @n_gpus assignable H100s in all, the first at a:0000:01:00.0, then 0000:02:00.0 and so on. */
FakeWorld *fake_world_new(size_t n_gpus);
FakeWorld *fake_world_free(FakeWorld *world);
DEFINE_CLEANUP(FakeWorld *, fake_world_free);

/* On node a, at @address. */
void fake_world_plug(FakeWorld *world, const char *address);
void fake_world_unplug(FakeWorld *world, const char *address);
GpuFacts *fake_world_find(FakeWorld *world, const char *address);

/* One more node that works at @level at most. Until fake_world_live() says otherwise it is a voter. */
void fake_world_admit(FakeWorld *world, uint32_t level, size_t n_gpus);
/* The node of that name. */
NodeLife *fake_world_live(FakeWorld *world, const char *name);

/* The leader says this of the node of that name, instead of what it said before. */
void fake_world_fence(FakeWorld *world, const char *name, FencedPhase phase, uint32_t tries, const char *said);

/* Applies a copy of @entry, as node a's; the caller clears *ret. */
void fake_world_apply(FakeWorld *world, const Entry *entry, Result *ret);

/* The VM, which is wanted to run, runs on the first GPUs of that node; and it has stopped there. */
void fake_world_run(FakeWorld *world, const char *vm, const char *node);
void fake_world_end(FakeWorld *world, const char *vm);
