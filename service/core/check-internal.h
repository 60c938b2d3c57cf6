/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the check share: how a finding is made, and who finds what. Nobody else sees this. */

#include "core/check.h"
#include "core/inventory.h"
#include "core/names.h"

#define PLURAL(n) ((n) == 1 ? "" : "s")

/* What a finding is about. */
typedef struct Subject {
        CheckFindings *findings;
        ObjectKind kind;
        char object[ID_TEXT_SIZE + PCI_ADDRESS_TEXT_SIZE + NAME_LENGTH_MAX];
} Subject;

Subject about_node(CheckFindings *findings, const NodeId *node);
Subject about_gpu(CheckFindings *findings, const GpuIdentity *gpu);
Subject about_vm(CheckFindings *findings, const Vm *vm);

/* Both 0 or -ENOMEM. The remedy is the last finding's, and takes the place of what that had. */
int add_finding(const Subject *subject, CheckSeverity severity, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
int add_remedy(const Subject *subject, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* All that there is to say of one member. */
int check_node(const World *world, const NodeRecord *node, CheckFindings *findings);

/* Files that VMs of the node's pools need and that it lacks. */
int check_storage(const World *world, const Subject *subject, const NodeRecord *node, const NodeFacts *facts);

/* Hosts that can give no GPU to a VM, and the GPUs that somebody counts on. With @only: all GPUs of that node. */
int check_gpus(const Inventory *inventory, const NodeId *only, CheckFindings *findings);

/* VMs that run and would find no place if their node were lost; @vms: who is asked about. The inventory is tried on and
 * is as before. */
int check_places(Inventory *inventory, const VmId *vms, size_t n_vms, CheckFindings *findings);
/* The VMs of this node, and for each of them every node that could not take it. */
int check_places_of_node(Inventory *inventory, const NodeId *node, CheckFindings *findings);
