/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Check: is this cluster ready for a failure, and what is in the way? (D-Bus: Manager.Check.) Each finding says what it
 * is about, what is wrong, and the remedy; no finding: all is well. */

#include "core/world.h"

typedef enum CheckSeverity {
        CHECK_ERROR,            /* a promise does not hold, or something does not work now */
        CHECK_WARNING,          /* it would not after one failure, or with bad luck */
        CHECK_NOTE,
        CHECK_SEVERITY_COUNT,
} CheckSeverity;

typedef struct CheckFinding {
        CheckSeverity severity;
        const char *code;               /* static; part of the D-Bus contract */
        ObjectKind kind;
        char *object;                   /* named as events name it; "" with OBJECT_KIND_CLUSTER */
        char *sentence;
        char *remedy;
} CheckFinding;

typedef struct CheckFindings {
        CheckFinding *items;
        size_t n;
        size_t allocated;
} CheckFindings;

/* Appends all findings, the severe first; nodes, GPUs, pools and VMs in their order. @quorate: this node reaches a
 * leader that a majority follows. A node that was removed finds nothing but that. 0 or -ENOMEM. */
int check_cluster(const World *world, bool quorate, CheckFindings *ret);

/* Only what is about this node, its GPUs and the VMs on it, and more of that: GPUs that are in no pool, and for each VM
 * every node that could not take it if this one were lost. 0 or -ENOMEM. */
int check_one_node(const World *world, const NodeRecord *node, CheckFindings *ret);
void check_findings_clear(CheckFindings *findings);

const char *check_severity_to_text(CheckSeverity severity);     /* "error", "warning", "note" */
