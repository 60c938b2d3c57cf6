/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Path: object paths, made of ids and names. They are never parsed: an object is found by its path in the table. */

#include "core/id.h"
#include "core/registry.h"

/* Holds the longest: a pool's, whose name may need three characters for each of its own. */
typedef struct Path {
        char text[256];
} Path;

Path path_none(void);                   /* "/" */
Path path_of_node(const NodeId *node);  /* "/" for the null id */
Path path_of_gpu(const NodeId *node, PciAddress address);
Path path_of_pool(const char *name);    /* escaped as sd_bus_path_encode(3) does */
Path path_of_vm(const VmId *vm);
Path path_of_job(uint64_t id);

/* Of an object named as events and findings do; "/" for the cluster, and for what cannot be read. */
Path path_of_object(ObjectKind kind, const char *name);
