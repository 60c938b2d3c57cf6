/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Optimum: how many VMs of each priority can run at most, by a solver of integer programs (cbc or glpsol) that is told
 * the same inventory: first as many as can be of the highest priority, then, without losing one of these, of the next.
 * Nobody who runs is moved. */

#include "rules.h"

typedef enum OptimumVerdict {
        OPTIMUM_FOUND,
        OPTIMUM_TOO_LONG,               /* what was found is not proven to be the most */
        OPTIMUM_NO_SOLVER,
        OPTIMUM_NOT_SUPPORTED,          /* GPUs that share an IOMMU group; VMs in failover beside a reserve */
} OptimumVerdict;

typedef struct Optimum {
        ClassCount classes[CLASSES_MAX];
        size_t n;
        double seconds;                 /* of the solver's processes */
} Optimum;

/* @solver: "cbc", "glpsol", or NULL for the first that is installed. At most @seconds for each priority. An
 * OptimumVerdict or a negative errno. */
int optimum_find(Inventory *inventory, const size_t *tenants, size_t n, const char *solver, unsigned seconds,
                 Optimum *ret);
bool optimum_has_solver(const char *solver);
