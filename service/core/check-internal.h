/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What check.c and check-node.c share: how a finding is made. Nobody else sees this. */

#include "core/check.h"
#include "core/names.h"

#define PLURAL(n) ((n) == 1 ? "" : "s")

/* What a finding is about. */
typedef struct Subject {
        CheckFindings *findings;
        ObjectKind kind;
        char object[ID_TEXT_SIZE + PCI_ADDRESS_TEXT_SIZE + NAME_LENGTH_MAX];
} Subject;

Subject about_node(CheckFindings *findings, const NodeId *node);

/* Both 0 or -ENOMEM. The remedy is the last finding's, and takes the place of what that had. */
int add_finding(const Subject *subject, CheckSeverity severity, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
int add_remedy(const Subject *subject, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* All that there is to say of one member. */
int check_node(const World *world, const NodeRecord *node, CheckFindings *findings);
