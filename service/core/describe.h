/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Describe: the cluster as text, as far as placement looks at it: nodes, GPUs, pools, VMs and who has what. A person
 * can read and write it, a bug report can hold it (no XML, no addresses of hosts, no keys), and what is read again gets
 * the same placements. docs/placement.md tells the words; in short:
 *
 *      cluster lab level 4
 *      pool training pack reserve 1
 *      node a memory 1048576
 *      gpu a 0000:41:00.0 pool training numa 0 switch 0000:40:00.0 set board
 *      gpus a 7 pool training                          # seven more, alike, where there is room
 *      vm bert pool training count 2 priority 50 prefers a apart render
 *      vm render pool training count 1 on a running 0000:41:00.0
 */

#include "core/names.h"
#include "core/world.h"

#define DESCRIPTION_SIZE_MAX IMPORT_SIZE_MAX
#define DESCRIBED_MEMORY_MIB (1024U * 1024U)            /* of a node that does not say: 1 TiB */

#define DESCRIBED_VENDOR 0x10deU        /* of a GPU whose model is not told */
#define DESCRIBED_DEVICE 0x2331U

/* A world that owns what it is made of. */
typedef struct Described {
        Registry *registry;
        ARRAY(NodeFacts *) facts;       /* by node id; owned; a node that is unknown has none */
        ARRAY(NodeLife) lives;          /* by node id */
        World world;
} Described;

Described *described_free(Described *described);
DEFINE_CLEANUP(Described *, described_free);

typedef enum DescribeVerdict {
        DESCRIBE_READ,
        DESCRIBE_BAD,                   /* *ret_sentence says in which line what is wrong and what would be right */
} DescribeVerdict;

/* The same world gives the same text. 0 or -ENOMEM. */
int describe_write(const World *world, char **ret);

/* A DescribeVerdict or -ENOMEM. Only one of @ret and @ret_sentence is set. */
int describe_read(const char *text, Described **ret, char **ret_sentence);
