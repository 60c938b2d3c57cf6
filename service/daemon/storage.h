/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Storage: which of the files that the cluster's VMs need this host does not see. Every node looks at the files of all
 * VMs, for each may be the next to run any of them, and tells the others what it lacks (PathSet), so that placement
 * passes it over, and says why.
 *
 *      a VM is defined ─► its paths, at once          what is missing or hangs: again every STORAGE_LOST_US
 *      all of them, every STORAGE_PERIOD_US           a look that hangs ─► all that is mounted there hangs, until it
 *                                                                          comes back; what else there is stays as told
 */

#include "adapters/files/path-reader.h"
#include "core/registry.h"
#include "daemon/local-facts.h"

#define STORAGE_PERIOD_US 15000000U
#define STORAGE_LOST_US 2000000U
#define STORAGE_DEADLINE_US 5000000U    /* for one look; a server that fails over takes longer, and starts would hang */
#define STORAGE_PATHS_MAX 16384U        /* four for each of 4000 VMs; what comes after them is seen at the start only */

typedef struct Storage Storage;

typedef struct StorageConfig {
        sd_event *event;
        uint64_t period_us, lost_us, deadline_us;       /* 0: as above */
        PathSight (*look)(const char *path);            /* NULL: path_look() */
        void (*changed)(void *userdata);                /* take a turn */
        void *userdata;
} StorageConfig;

int storage_new(Storage **ret, const StorageConfig *config);
Storage *storage_free(Storage *storage);
DEFINE_CLEANUP(Storage *, storage_free);

/* In each turn. *ret_wake_us as elsewhere. 1: @facts have news; 0; or -ENOMEM. */
int storage_turn(Storage *storage, const Registry *registry, LocalFacts *facts, uint64_t now_us,
                 uint64_t *ret_wake_us);

/* How this host sees a path, for tests. */
PathSight storage_sight(const Storage *storage, const char *path);
