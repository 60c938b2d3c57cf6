/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fabric: which GPUs of a node are linked (XGMI, NVLink, the switches of a board) and so go to one VM or to none.
 *
 * The hardware tells it while a driver is there that knows, and that is mostly not so while a VM has the GPU. So what
 * was told once is part of the registry, by slots, and only grows; a pool's rule is an administrator's word and counts
 * instead of it. A set of which a GPU is missing is given to nobody. */

#include "core/pool.h"

#define FABRIC_ALONE "alone"            /* what a rule may say: each goes by itself, whatever is linked */
#define FABRIC_BOARD "board"            /* all of a node that the rule matches go together */

/* Slots in order, at least two. */
typedef struct FabricSet {
        TextList slots;
} FabricSet;

/* Of one node, in the order of their first slots; no slot is in two. */
typedef struct FabricSets {
        FabricSet *items;
        size_t n;
        size_t allocated;
} FabricSets;

void fabric_sets_clear(FabricSets *sets);
int fabric_sets_copy(const FabricSets *from, FabricSets *ret);
bool fabric_sets_equal(const FabricSets *a, const FabricSets *b);
size_t fabric_sets_slots(const FabricSets *sets);
/* Is it as is written above? */
bool fabric_sets_are_sound(const FabricSets *sets);

/* The set that has this slot, or NULL. */
const FabricSet *fabric_find(const FabricSets *sets, const char *slot);

/* These slots go together from now on, with all that one of them went with. 0 or -ENOMEM. */
int fabric_join(FabricSets *sets, const TextList *slots);
/* Would fabric_join() change nothing? */
bool fabric_has(const FabricSets *sets, const TextList *slots);

/* Is it a module of a board (SXM), on which it may be linked through switches? NVLink itself cannot be read once a GPU
 * is with vfio-pci, but what it is can. */
bool fabric_is_module(const GpuFacts *gpu);

/* What a node's facts tell now. 0 or -ENOMEM. */
int fabric_of_facts(const NodeFacts *facts, FabricSets *ret);

/* What a rule says in its set: "", "alone", "board", or "SLOT+SLOT...". */
bool fabric_rule_is_valid(const char *set);
bool fabric_rule_has_slots(const char *set);
bool fabric_rule_names_slot(const char *set, const char *slot);

/* The slots of all GPUs that must go where @gpu of @pool goes, itself among them, in order; none: it goes alone. @told
 * is what the registry has of its node; @pool may be NULL. By a rule it counts what the rule says, and @ret_by_rule
 * (or NULL) tells so. 0 or -ENOMEM. */
int fabric_list_set(const FabricSets *told, const Pool *pool, const GpuIdentity *gpu, const char *node_name,
                    TextList *ret, bool *ret_by_rule);
