/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What placement.c decides and explain.c puts into words. Nobody else sees this. */

#include "core/placement.h"

/* What can stand in the way of one VM on one node. */
typedef enum Hindrance {
        HINDRANCE_LOST,
        HINDRANCE_WITNESS,
        HINDRANCE_DRAINED,
        HINDRANCE_SILENT,
        HINDRANCE_LEVEL,
        HINDRANCE_JOINING,              /* it has not announced its leases yet */
        HINDRANCE_HYPERVISOR,
        HINDRANCE_GUARD,
        HINDRANCE_WITH,                 /* a VM that it must be with runs elsewhere */
        HINDRANCE_APART,                /* a VM that it must be apart from runs here */
        HINDRANCE_CPU,                  /* it has not the CPU that the VM's XML names */
        HINDRANCE_STORAGE,              /* a file that the VM needs is not there */
        HINDRANCE_MEMORY,               /* less than the VM needs is left beside the VMs that are there */
        HINDRANCE_HUGEPAGES,            /* likewise, of the size that its XML names */
        HINDRANCE_NO_GPUS,
        HINDRANCE_NOT_ENOUGH,           /* too few usable ones, were all of them free */
        HINDRANCE_MODEL,                /* too few of them are of the model that the VM asks for */
        HINDRANCE_TAKEN,                /* too few of the usable ones are free */
        HINDRANCE_SETS,                 /* enough are there, but not exactly so many with sets whole */
        HINDRANCE_RESERVE,              /* of the pool, on whatever node */
        HINDRANCE_MAX_IN_USE,
        HINDRANCE_COUNT,
} Hindrance;

#define HINDRANCE_BIT(hindrance) (1U << (hindrance))

/* Another VM that has a place, and by which the one asked about is bound. */
typedef struct Relation {
        size_t tenant;
        bool apart;                     /* else together */
} Relation;

/* One question. */
typedef struct Request {
        Inventory *inventory;
        const Vm *vm;
        const InventoryPool *pool;
        bool failover;
        ARRAY(Relation) relations;
} Request;

/* By what a node was taken before another, the strongest first. */
typedef enum Criterion {
        CRITERION_TARGET,               /* somebody moves it there */
        CRITERION_PREFERRED,
        CRITERION_POOL_PLACEMENT,
        CRITERION_DISTANCE,
        CRITERION_SWITCH_HOLES,
        CRITERION_NODE_HOLES,
        CRITERION_RAN_LAST,
        CRITERION_NAME,
        CRITERION_COUNT,
} Criterion;

/* A node that can take the VM: the smaller key is better, in the order of the criteria. */
typedef struct Rank {
        size_t node;
        uint32_t keys[CRITERION_COUNT];
        const char *name;
} Rank;

/* What was found for one node. */
typedef struct Finding {
        size_t room;                    /* NOWHERE: none of the pool there */
        unsigned hindrances;            /* 0: it can take the VM */
        Rank rank;
} Finding;

/* The first criterion by which they differ; *ret_order < 0 if @a is better. */
Criterion rank_compare(const Rank *a, const Rank *b, int *ret_order);

/* What a VM needs beside GPUs, and which GPUs it takes: HINDRANCE_CPU, _STORAGE, _MEMORY, _HUGEPAGES, _MODEL. 0 or
 * -ENOMEM. */
int explain_need(const Request *request, Hindrance hindrance, size_t node, PlacementReason *ret);

/* Words. @findings are one per node; @best and @second are indexes or NOWHERE. All return 0 or -ENOMEM. */
int explain_node(const Request *request, const Finding *findings, size_t node, size_t best, size_t second,
                 PlacementAnswer *ret);
int explain_waiting(const Request *request, const Finding *findings, size_t n_findings, const char **ret_code,
                    char **ret_sentence);
