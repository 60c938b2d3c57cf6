/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Manager: who meets whom. It gives birth to everything in order, lets it die in order, and, whenever anything changed,
 * takes a turn: facts and registry make a world, from which membership, the leader's duties, this node's VMs and its
 * jobs each take their next step, and the bus shows what came of it.
 *
 *     udev ─ libvirt ─ guard ──► facts ─┐
 *                                       ├─► world ─► member, leader ─► history (entries)
 *     history (raft, SQLite) ─► registry┘         ├─► runner ─► steps ─► libvirt, guard, history
 *                                                 ├─► operations (jobs)
 *                                                 └─► bus
 */

#include "daemon/conf.h"

typedef struct Manager Manager;

/* What a start came to. */
typedef enum ManagerVerdict {
        MANAGER_READY,
        MANAGER_REFUSED,        /* configuration or state is not usable; *reterr_sentence says what to do */
} ManagerVerdict;

/* Everything but the bus name. @conf is borrowed. Returns a ManagerVerdict or -errno. */
int manager_new(Manager **ret, const Conf *conf, char **reterr_sentence);

typedef enum ManagerEnd {
        MANAGER_ENDED,
        MANAGER_AGAIN,          /* this node forgot its cluster: free this one, and make a new one */
} ManagerEnd;

/* Runs until SIGTERM or SIGINT, or a reset. A ManagerEnd; -ENOTSUP: this program is too old for its cluster, so it is
 * of no use to start it again; or another -errno. */
int manager_run(Manager *manager);

Manager *manager_free(Manager *manager);
DEFINE_CLEANUP(Manager *, manager_free);
