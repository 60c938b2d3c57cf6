/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Majority: how many nodes of a cluster vote, and how many it can do without (design, part 7). */

#include <stddef.h>
#include <stdint.h>

#define VOTERS_MAX 5U

/* An odd number, but for two. */
static inline size_t majority_voters(size_t n_nodes) {
        if (n_nodes >= VOTERS_MAX)
                return VOTERS_MAX;
        return n_nodes < 3 ? n_nodes : 3;
}

/* As many nodes, whichever they are, as leave a majority of the voters. The @n_lost do not vote; where there are
 * others, they do instead. */
static inline uint32_t majority_spares(size_t n_nodes, size_t n_lost) {
        size_t voters = majority_voters(n_nodes), majority = voters / 2 + 1, living = n_nodes - n_lost;
        living = living < voters ? living : voters;
        return living > majority ? (uint32_t) (living - majority) : 0;
}
