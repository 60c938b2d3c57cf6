/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Instance: a cluster and VMs that want to run in it, drawn from a seed; the same seed draws the same. It is made as
 * text (core/describe.h), so that any of them can be kept and looked at. */

#include <stdbool.h>
#include <stdint.h>

typedef enum Sizes {
        SIZES_POWERS,           /* 1, 2, 4 and 8 GPUs, the small ones often */
        SIZES_SMALL,            /* 1 and 2 */
        SIZES_UNEVEN,           /* 1 to 8, all alike */
} Sizes;

typedef struct Shape {
        const char *name;
        unsigned nodes;
        unsigned gpus;          /* of a node; with @mixed half of them have half of it */
        Sizes sizes;
        unsigned classes;       /* of priority */
        unsigned load;          /* per cent of the free GPUs that are asked for */
        unsigned resident;      /* per cent of the GPUs that VMs have which run already */
        bool mixed;
        bool sets;              /* every other node's GPUs are linked in fours or pairs */
        unsigned bound;         /* per cent of the VMs that are bound to another one, with or apart */
        bool drawn;             /* nodes: one to @nodes; load: half of @load to @load; residents: none to @resident */
        bool cut;               /* what is free on each node is cut into VMs that fill it to the last GPU; then come
                                 * more of them, so that it is not all of one class that fits */
        unsigned reserve;       /* of the pool */
} Shape;

#define SHAPES_COUNT 15
#define GOAL_FIRST 10           /* from here on up to eight nodes with eight GPUs, docs/placement.md */
extern const Shape shapes[SHAPES_COUNT];

/* Never fails; the caller frees it. */
char *instance_make(const Shape *shape, uint32_t seed);

/* The same instance with more GPUs, as lines of text: a node with one, one on a node that is there, a node with eight.
 * Likewise. */
#define INSTANCE_MORE_COUNT 3
extern const char *const instance_more[INSTANCE_MORE_COUNT];
char *instance_with_more(const char *text, const char *more);
