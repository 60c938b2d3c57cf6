/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Plan: what would become of the VMs and pools of the cluster, if. The conductor's decisions are rehearsed in a
 * supposed world; nothing is decided, nothing changed. */

#include "core/pool-count.h"
#include "core/suppose.h"

typedef enum PlanFate {
        PLAN_MOVES,                     /* it ends where it runs, and starts elsewhere */
        PLAN_STARTS,                    /* it has no place now */
        PLAN_STOPS,                     /* it would have no place any more */
        PLAN_WAITS,                     /* it has no place, and would get none */
        PLAN_STILL_WAITS,               /* likewise, and nobody asked about it */
        PLAN_STAYS,                     /* its node is drained, and no other can take it */
        PLAN_FATE_COUNT,
} PlanFate;

const char *plan_fate_to_text(PlanFate fate);   /* "moves", "starts", "stops", "waits", "still-waits", "stays" */

typedef struct PlanItem {
        VmId vm;
        NodeId from;                    /* null: no place now */
        NodeId to;                      /* null: none then; stays: where it is */
        PlanFate fate;
        char *to_name;                  /* of the node, which may be a supposed one; NULL: none then */
        const char *code;               /* static; "" with moves and starts */
        char *why;                      /* without a full stop, or with whole sentences */
} PlanItem;

typedef struct PlanPool {
        char *name;
        PoolCounts before, after;
        bool survives;                  /* what it survives was worked out; else that was too much */
        uint32_t running_before, running_after;         /* VMs that have a place */
        uint32_t waiting_before, waiting_after;         /* VMs that are to run and have none */
} PlanPool;

typedef struct Plan {
        ARRAY(PlanItem) items;          /* who is touched, the most urgent first; then who waits already */
        ARRAY(PlanPool) pools;          /* by name */
        bool quorate;                   /* a majority would be left; without one nothing is started */
} Plan;

void plan_clear(Plan *plan);

/* @defragment: for this VM others may move (core/defragment.h), once all that is supposed has happened; NULL: for none.
 * VMs that are under way are taken for arrived. Returns 0 or -ENOMEM; *ret is filled where *ret_result, to be cleared
 * by the caller, says VERDICT_DONE; else that says what cannot be supposed, or that it is too much to work out. */
int plan_make(const World *world, const Supposal *supposal, const VmId *defragment, Plan *ret, Result *ret_result);
