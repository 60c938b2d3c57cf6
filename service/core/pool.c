/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pool.h"

#include <errno.h>
#include <stdio.h>

#include "core/fabric.h"

static int compare_gpu(const void *key, const void *item) {
        return gpu_identity_compare(key, item);
}

void pool_clear(Pool *pool) {
        free(pool->name);
        pool_rules_clear(&pool->rules);
        array_clear(&pool->gpus);
        *pool = (Pool) {};
}

bool pool_has(const Pool *pool, const GpuIdentity *gpu) {
        size_t index;
        return array_find(&pool->gpus, gpu, compare_gpu, &index);
}

/* Never equal, so that the search ends before the first of the node. */
static int compare_to_node(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const GpuIdentity *) item)->node) <= 0 ? -1 : 1;
}

size_t pool_gpus_of_node(const Pool *pool, const NodeId *node, size_t *ret_first) {
        size_t first;
        (void) array_find(&pool->gpus, node, compare_to_node, &first);
        size_t end = first;
        while (end < pool->gpus.n && ID_EQUAL(&pool->gpus.items[end].node, node))
                end++;
        *ret_first = first;
        return end - first;
}

int pool_add(Pool *pool, const GpuIdentity *gpu) {
        size_t index;
        if (array_find(&pool->gpus, gpu, compare_gpu, &index)) {
                pool->gpus.items[index].address = gpu->address;
                return 0;
        }

        GpuIdentity member = *gpu;
        return array_insert(&pool->gpus, index, &member);
}

void pool_remove(Pool *pool, const GpuIdentity *gpu) {
        size_t index;
        if (array_find(&pool->gpus, gpu, compare_gpu, &index))
                array_remove(&pool->gpus, index);
}

static bool pattern_matches(const char *pattern, const char *text) {
        return text_is_empty(pattern) || text_matches(pattern, text);
}

bool pool_rule_matches(const PoolRule *rule, const GpuIdentity *gpu, const char *node_name) {
        char vendor[5], device[5];
        /* A rule without a pattern would take in everything that is ever plugged in anywhere. */
        if (text_is_empty(rule->vendor) && text_is_empty(rule->device) && text_is_empty(rule->node))
                return false;
        snprintf(vendor, sizeof(vendor), "%04x", gpu->vendor);
        snprintf(device, sizeof(device), "%04x", gpu->device);
        return pattern_matches(rule->vendor, vendor) && pattern_matches(rule->device, device) &&
               pattern_matches(rule->node, node_name) &&
               (!fabric_rule_has_slots(rule->set) || fabric_rule_names_slot(rule->set, gpu->slot));
}

bool pool_rules_match(const PoolRules *rules, const GpuIdentity *gpu, const char *node_name) {
        ARRAY_EACH(rule, rules)
                if (pool_rule_matches(rule, gpu, node_name))
                        return true;
        return false;
}

const PoolRule *pool_rules_find_set(const PoolRules *rules, const GpuIdentity *gpu, const char *node_name) {
        ARRAY_EACH(rule, rules)
                if (!text_is_empty(rule->set) && pool_rule_matches(rule, gpu, node_name))
                        return rule;
        return NULL;
}

static void rule_clear(PoolRule *rule) {
        free(rule->vendor);
        free(rule->device);
        free(rule->node);
        free(rule->set);
}

int pool_rules_add(PoolRules *rules, const char *vendor, const char *device, const char *node, const char *set) {
        PoolRule rule = {};
        int r = text_set(&rule.vendor, vendor);
        if (r >= 0)
                r = text_set(&rule.device, device);
        if (r >= 0)
                r = text_set(&rule.node, node);
        if (r >= 0)
                r = text_set(&rule.set, set);
        if (r >= 0)
                r = array_append(rules, &rule);
        if (r < 0)
                rule_clear(&rule);
        return r;
}

void pool_rules_clear(PoolRules *rules) {
        ARRAY_EACH(rule, rules)
                rule_clear(rule);
        array_clear(rules);
}

static const char *const placements[POOL_PLACEMENT_COUNT] = {
        [POOL_PACK] = "pack",
        [POOL_SPREAD] = "spread",
};

const char *pool_placement_to_text(PoolPlacement placement) {
        return placements[placement];
}

int pool_placement_from_text(const char *text, PoolPlacement *ret) {
        for (PoolPlacement i = 0; i < POOL_PLACEMENT_COUNT; i++)
                if (text_equal(placements[i], text)) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

static const char *const after_uses[AFTER_USE_COUNT] = {
        [AFTER_USE_HOST] = "host",
        [AFTER_USE_VFIO] = "vfio",
};

const char *after_use_to_text(AfterUse after_use) {
        return after_uses[after_use];
}

int after_use_from_text(const char *text, AfterUse *ret) {
        for (AfterUse i = 0; i < AFTER_USE_COUNT; i++)
                if (text_equal(after_uses[i], text)) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}
