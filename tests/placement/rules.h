/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Rules: how ours and others' schedulers choose a node, each tried on the same inventory. All obey the same hard rules
 * and take the same GPUs of a node that they chose; they differ in whom they serve first and in which node they take.
 * docs/placement.md says what each is modelled after. */

#include "core/placement.h"

typedef enum Rule {
        RULE_OURS,
        RULE_FIRST_FIT,                 /* by priority, then as they came: the first node that has room */
        RULE_SPREAD,                    /* the same, but the node with the most free GPUs */
        RULE_NOVA,                      /* as they came: the node with the fewest free GPUs (PCIWeigher) */
        RULE_KUBERNETES,                /* by priority, then as they came: the least allocated node */
        RULE_PROXMOX,                   /* as they came: the node with the fewest VMs, and then one other */
        RULE_COUNT,
} Rule;

const char *rule_name(Rule rule);

/* Gives places to those of @tenants, in the order in which they came and without a place now, for whom the rule finds
 * one. 0 or -ENOMEM. */
int rule_place(Rule rule, Inventory *inventory, const size_t *tenants, size_t n);

/* Everybody who wants to run and has no place, in the order of the registry. The caller frees *ret. */
int list_waiting(const Inventory *inventory, size_t **ret, size_t *ret_n);

/* How many of @tenants have a place, by priority. */
typedef struct ClassCount {
        int32_t priority;
        uint32_t wanted, placed, gpus;
} ClassCount;

#define CLASSES_MAX 16

/* The highest priority first. Returns how many there are. */
size_t count_classes(const Inventory *inventory, const size_t *tenants, size_t n, ClassCount ret[static CLASSES_MAX]);

/* What it is worth that these run, so that two of them can be divided; as in docs/placement.md.
 * Weighted: a VM of the lowest class counts one, of the next two, and so on.
 * Ordered: one of a higher class is worth more than all that are wanted of the lower ones. */
double weigh_classes(const ClassCount *classes, size_t n);
double order_classes(const ClassCount *classes, size_t n);
