/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Pool: a name for a set of GPUs across nodes, with the rules by which GPUs come in by themselves and the policy by
 * which they are given out. Part of the registry. */

#include "core/facts.h"
#include "util/array.h"
#include "util/cleanup.h"

typedef enum PoolPlacement {
        POOL_PACK,              /* fill a node before the next */
        POOL_SPREAD,
        POOL_PLACEMENT_COUNT,
} PoolPlacement;

/* Where a GPU is while no VM has it. */
typedef enum AfterUse {
        AFTER_USE_HOST,         /* with the driver that it had before */
        AFTER_USE_VFIO,         /* on vfio-pci, once a VM had it */
        AFTER_USE_COUNT,
} AfterUse;

/* Patterns as in a shell; one that is NULL or empty matches everything, but not all three may be. */
typedef struct PoolRule {
        char *vendor;           /* "10de" */
        char *device;           /* "2331" */
        char *node;             /* a node's name */
        char *set;              /* which of them go together (core/fabric.h); with slots, only GPUs in these match */
} PoolRule;

typedef struct PoolRules {
        PoolRule *items;
        size_t n;
        size_t allocated;
} PoolRules;

typedef struct GpuIdentities {
        GpuIdentity *items;
        size_t n;
        size_t allocated;
} GpuIdentities;

typedef struct Pool {
        char *name;
        PoolPlacement placement;
        uint32_t reserve;       /* GPUs kept free for failover */
        uint32_t max_in_use;    /* licences; 0: no limit */
        AfterUse after_use;
        PoolRules rules;
        GpuIdentities gpus;     /* sorted by identity */
} Pool;

void pool_clear(Pool *pool);

bool pool_has(const Pool *pool, const GpuIdentity *gpu);
/* The GPUs of one node, which are side by side: how many, from *ret_first on. */
size_t pool_gpus_of_node(const Pool *pool, const NodeId *node, size_t *ret_first);

/* 0 (also when it was there already: the address is brought up to date), or -ENOMEM. */
int pool_add(Pool *pool, const GpuIdentity *gpu);
void pool_remove(Pool *pool, const GpuIdentity *gpu);

/* Does a rule of the pool take in this GPU of the node with this name? */
bool pool_rules_match(const PoolRules *rules, const GpuIdentity *gpu, const char *node_name);
bool pool_rule_matches(const PoolRule *rule, const GpuIdentity *gpu, const char *node_name);
/* The first rule that matches this GPU and says with which others it goes, or NULL. */
const PoolRule *pool_rules_find_set(const PoolRules *rules, const GpuIdentity *gpu, const char *node_name);
int pool_rules_add(PoolRules *rules, const char *vendor, const char *device, const char *node, const char *set);
void pool_rules_clear(PoolRules *rules);

const char *pool_placement_to_text(PoolPlacement placement);                    /* "pack", "spread" */
int pool_placement_from_text(const char *text, PoolPlacement *ret);             /* 0 or -EINVAL */
const char *after_use_to_text(AfterUse after_use);                              /* "host", "vfio" */
int after_use_from_text(const char *text, AfterUse *ret);                       /* 0 or -EINVAL */
