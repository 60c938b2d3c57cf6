/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Roster: the pass. Who of many VMs that have no place gets one, and where, looked at together: so that no VM costs
 * another the only place that it could have.
 *
 * What counts is, from the highest priority down, how many VMs of it run. So of one priority the smallest are let in
 * first, as long as all that are let in can be placed; they are placed the largest first. VMs that must be together are
 * placed together. Who of a lower priority may be stopped for one that finds no place is asked last. If somebody still
 * waits, and VMs are bound or GPUs go in sets, it is tried whether more run with others first (roster-exchange.c). */

#include "core/placement.h"

typedef struct RosterRules {
        bool failover;                  /* all may have what pools keep in reserve, not only who lost its place */
        /* May @vm take the place of @other, which runs and has a lower priority? NULL: nobody may. Asked only of those
         * that may preempt at all. */
        bool (*preempts)(const Vm *vm, const Vm *other);
} RosterRules;

/* Of those who wait in this cluster, at its level. */
RosterRules roster_rules(const Registry *registry);

typedef struct RosterItem {
        size_t tenant;
        int verdict;                    /* a PlacementVerdict */
        Choice choice;                  /* with PLACEMENT_FOUND */
        size_t first_preempted, n_preempted;    /* in preempted[]: who is to be stopped for it before */
} RosterItem;

typedef struct Roster {
        ARRAY(RosterItem) items;        /* one per tenant, by placement_compare_urgency() */
        ARRAY(Belongings *) preempted;  /* owned: who, and what they had */
        uint64_t sought;                /* rooms in which it was looked who may be stopped */
        size_t exchanged;               /* so often a place was sought only to see whether more can run; in some µs */
} Roster;

/* Places the @n tenants, who must have nothing. The inventory is then as if all of it were done: those placed have
 * their GPUs, those preempted nothing. 0 or -ENOMEM; with that it is as it was. */
int roster_make(Inventory *inventory, const size_t *tenants, size_t n, const RosterRules *rules, Roster *ret);
/* Makes the inventory as it was before. */
void roster_undo(Inventory *inventory, const Roster *roster);
void roster_clear(Roster *roster);
