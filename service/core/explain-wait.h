/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Why a VM waits, in one sentence: what is the least that would have to change, in the pool, or on the node that is the
 * nearest to taking it. */

#include "core/placement-internal.h"

/* No node of @findings, one per node, can take it. *ret_code is static. 0 or -ENOMEM. */
int explain_waiting(const Request *request, const Finding *findings, size_t n_findings, const char **ret_code,
                    char **ret_sentence);
