/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What placement.c decides and explain-*.c put into words. Nobody else sees this. */

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
        Models models;                  /* that it takes */
        bool has_needs;                 /* beside GPUs */
        uint32_t count;                 /* GPUs looked for: the VM's, or also those of VMs that must be with it */
        size_t planned;                 /* the node that the pass gave it; NOWHERE: none */
        bool briefly;                   /* words only of who finds no place, and of the nodes of most interest */
        ARRAY(Relation) relations;
        ARRAY(Relation) wishes;         /* the same, but soft */
} Request;

/* By what a node was taken before another, the strongest first. */
typedef enum Criterion {
        CRITERION_PLAN,                 /* so that others that wait get a place too (core/roster.h) */
        CRITERION_TARGET,               /* somebody moves it there */
        CRITERION_NEEDED,               /* fewer VMs that wait are left without a place by it */
        CRITERION_PREFERRED,
        CRITERION_AFFINITY,             /* with whom it would rather be, or not */
        CRITERION_LARGE_HOLES,          /* pack: fewer places are lost for VMs that need more, should they come */
        CRITERION_SMALL_HOLES,          /* ... that need less */
        CRITERION_POOL_PLACEMENT,
        CRITERION_DISTANCE,
        CRITERION_SWITCH_HOLES,
        CRITERION_FAILOVER,             /* elsewhere there is still room for the largest VM, should its node be lost */
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

/* For the pass (core/roster.h): where would the tenant go, with @count GPUs free beside each other there, whatever the
 * pool keeps in reserve and however many may be in use? Returns a PlacementVerdict or -ENOMEM. */
int placement_seek(Inventory *inventory, size_t tenant, uint32_t count, size_t *ret_room);
/* All rooms that would do, the best first; as placement_seek() else. */
typedef ARRAY(size_t) RoomList;
int placement_list(Inventory *inventory, size_t tenant, uint32_t count, RoomList *ret);
/* Would this very room do? 1, 0 or -ENOMEM. */
int placement_room_does(Inventory *inventory, size_t tenant, size_t room);
/* Does the pool, as a whole, let the tenant in now? Its reserve and its limit. */
bool placement_pool_allows(const Inventory *inventory, size_t tenant, bool failover);

/* The first criterion by which they differ; *ret_order < 0 if @a is better. */
Criterion rank_compare(const Rank *a, const Rank *b, int *ret_order);

/* What a VM needs beside GPUs, and which GPUs it takes: HINDRANCE_CPU, _STORAGE, _MEMORY, _HUGEPAGES, _MODEL. 0 or
 * -ENOMEM. */
int explain_need(const Request *request, Hindrance hindrance, size_t node, PlacementReason *ret);
