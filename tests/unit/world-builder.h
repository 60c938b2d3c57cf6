/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* World builder: worlds for tests, told in sentences.
 *
 *      _cleanup_(world_builder_freep) WorldBuilder *w = world_of(3);           // nodes a, b, c, all well
 *      with_gpus(w, "a", 4);                                                   // H100s at 0000:41:00.0, 42, 43, 44
 *      with_gpus(w, "b", 2);
 *      pool_of(w, "training", "a b");                                          // all GPUs of these nodes
 *      vm_of(w, "bert", "training", 2)->priority = 50;
 *      runs(w, "bert", "a", "0 1");                                            // on the first two of a
 *
 * Everything is a plain structure that a test may bend further; names that do not exist end the test. Pointers that
 * are returned are borrowed and good until the next thing of that kind is added. */

#include "core/world.h"

typedef struct WorldBuilder {
        Registry *registry;
        NodeFacts **facts;              /* by node id; owned */
        const NodeFacts **known;        /* those that are not forgotten; what the world is given */
        size_t n_nodes;
        World world;
} WorldBuilder;

WorldBuilder *world_of(size_t n_nodes);
WorldBuilder *world_builder_free(WorldBuilder *w);
DEFINE_CLEANUP(WorldBuilder *, world_builder_free);

/* The world as told so far. */
const World *world_now(WorldBuilder *w);

NodeRecord *node_named(WorldBuilder *w, const char *node);
NodeFacts *facts_of(WorldBuilder *w, const char *node);
GpuFacts *gpu_of(WorldBuilder *w, const char *node, size_t gpu);
Pool *pool_named(WorldBuilder *w, const char *pool);
Vm *vm_named(WorldBuilder *w, const char *vm);

/* Nothing is heard from the node: its facts are not known. */
void forget_facts(WorldBuilder *w, const char *node);

/* Each alone in its IOMMU group and on a root port of its own, NUMA node 0, assignable. */
void with_gpus(WorldBuilder *w, const char *node, size_t n_gpus);
void behind_switch(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, const char *switch_address);
void on_numa_node(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, int32_t numa_node);
void linked(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus);
void unplugged(WorldBuilder *w, const char *node, size_t gpu);
void quarantined(WorldBuilder *w, const char *node, size_t gpu);

/* Of another model than the H100s, also in the pools where it is already. */
void of_model(WorldBuilder *w, const char *node, size_t first_gpu, size_t n_gpus, uint16_t device);

/* A pool of all GPUs of the nodes, "a b c"; or of one: "a:0 a:1 b:3". */
Pool *pool_of(WorldBuilder *w, const char *pool, const char *nodes_or_gpus);
/* Wants to run, and has no place yet. */
Vm *vm_of(WorldBuilder *w, const char *vm, const char *pool, uint32_t count);
void runs(WorldBuilder *w, const char *vm, const char *node, const char *gpus);
void with_memory(WorldBuilder *w, const char *node, uint64_t gib);
/* The only file that is not there. */
void lacks_file(WorldBuilder *w, const char *node, const char *path);
void needs_file(WorldBuilder *w, const char *vm, const char *path);
void needs_memory(WorldBuilder *w, const char *vm, uint64_t gib);
void needs_model(WorldBuilder *w, const char *vm, const char *model);
void must_be(WorldBuilder *w, const char *vm, const char *with_or_apart, const char *other);
void prefers(WorldBuilder *w, const char *vm, const char *node);
/* Its last placement was there. */
void ran_on(WorldBuilder *w, const char *vm, const char *node);
