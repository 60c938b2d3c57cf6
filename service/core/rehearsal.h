/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Rehearsal: what the conductor would do, decision after decision, until it rests: who waits gets a place
 * (core/seating.h), VMs leave drained nodes one by one, with those that must be with them (core/company.h), and come
 * home. On paper, and as if each step were over at once. */

#include "core/inventory.h"
#include "core/suppose.h"

typedef enum RehearsalVerdict {
        REHEARSAL_DONE,
        REHEARSAL_TOO_LONG,             /* more than @work_max rooms and VMs would have to be looked at */
} RehearsalVerdict;

/* @inventory: of a settled supposition; afterwards its tenants are where they would be in the end. @preempted_by: one
 * per tenant, NULL or set for those that give up their place: the tenant who has it then. Returns a RehearsalVerdict or
 * -ENOMEM. */
int rehearse(Supposition *supposition, Inventory *inventory, uint64_t work_max, size_t *preempted_by);

/* The same for one more step: @tenant leaves its place, and is sent to @node. */
int rehearse_move(Supposition *supposition, Inventory *inventory, size_t tenant, const NodeId *node,
                  uint64_t work_max, size_t *preempted_by);
