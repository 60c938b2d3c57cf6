/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What roster.c decides, roster-pack.c places, roster-preempt.c makes way for, and roster-exchange.c asks once more.
 * Nobody else sees this. */

#include "core/roster.h"

/* A pool in numbers, so that what cannot be need not be tried. */
typedef struct Ledger {
        bool counted;
        uint32_t capacity[GPUS_PER_VM_MAX + 1]; /* for each need: places in its rooms, were all that are planned gone */
        uint32_t planned[GPUS_PER_VM_MAX + 1];  /* how many are, by their need */
} Ledger;

/* One who found no place, and what of its needs was in the way or may have been. */
typedef struct Rejection {
        const Vm *vm;
        Models models;                  /* of those that its pool has */
        bool by_cpu;                    /* a node of the pool has not its CPU */
        bool without_reserve;           /* it may not have what its pool keeps: who may is not turned away by it */
        uint64_t where_lost;            /* as in its prospect */
} Rejection;

#define REJECTIONS_MAX 16U

/* Of one pool. */
typedef struct Rejections {
        uint64_t needs;                 /* so many GPUs nobody finds any more, whatever else: bit i for i + 1 */
        Rejection items[REJECTIONS_MAX];
        size_t n;
} Rejections;

/* Whether nodes could take the item if nobody else needed memory there and all usable GPUs were free. */
typedef struct Prospect {
        bool anywhere;
        unsigned lacks;                 /* of all nodes together, as capacity_judge() tells */
        uint64_t where_lost;            /* stands for the rooms on nodes that lack a file of it; 0: none does */
} Prospect;

typedef struct Pass {
        Inventory *inventory;
        const RosterRules *rules;
        Roster *roster;
        size_t *item_of;                /* by tenant: its item; NOWHERE: it is not asked about */
        bool *in_play;                  /* by item: it may be placed, and moved, by what goes on now */
        bool *seen;                     /* by item, for who walks bonds */
        Ledger *ledgers;                /* by pool */
        Rejections *rejections;         /* by pool */
        const bool *behind;             /* by item: let in behind all others of its priority; NULL: nobody is */
        bool limited;                   /* each who is placed must be let in by its pool too */
        size_t replacements;            /* so many more may be placed anew for VMs that are bound to others */
        unsigned budget;                /* so many more times a VM may be moved to make room for another */
        const Tenant *hopeless;         /* the last for which nobody could be stopped; NULL: none yet */
        size_t *effort;                 /* so many more times a place may be sought; 0: the pass is given up */
} Pass;

static inline const Tenant *pass_tenant(const Pass *pass, size_t item) {
        return pass->inventory->tenants.items + pass->roster->items.items[item].tenant;
}

/* As libvirt goes by it, and as it is told in words. */
static inline uint64_t memory_kib_of(const Tenant *tenant) {
        uint64_t bytes = tenant->vm->needs.memory_bytes;
        return bytes / 1024 + (bytes % 1024 > 0);
}

static inline bool pass_has_placed(const Pass *pass, size_t item) {
        return pass->roster->items.items[item].verdict == PLACEMENT_FOUND;
}

/* The best room for the item with so many GPUs. A PlacementVerdict, -ENOMEM, or -ECANCELED: the effort is spent. */
int pass_seek(Pass *pass, size_t item, uint32_t count, size_t *ret_room);
/* Gives the item its GPUs in this room. False: it does not have them. */
bool pass_put(Pass *pass, size_t item, size_t room);
void pass_lift(Pass *pass, size_t item);
/* The very ones that it had before. */
void pass_put_back(Pass *pass, size_t item, const Choice *choice);

/* May it have what its pool keeps in reserve? */
bool pass_has_failover(const Pass *pass, size_t item);
/* Does the pool, as a whole, let it in now? And was there enough left when it had been let in? */
bool pass_pool_allows(const Pass *pass, size_t item);
bool pass_pool_is_content(const Pass *pass, size_t item);

/* False: whatever is moved, there is no place for it beside all that are planned. */
bool pass_may_fit(Pass *pass, size_t item);

/* Is it known of one who needs no more, or not as many GPUs, that it finds no place? */
bool pass_is_rejected(const Pass *pass, size_t item);
/* For want of GPUs alone, by pass_may_fit(). */
void pass_reject_count(Pass *pass, size_t item);
/* All was tried for it. */
void pass_reject(Pass *pass, size_t item, const Prospect *prospect);
/* Places have come free: what was known is not any more. */
void pass_forget_rejections(Pass *pass);
/* False: it is a case of its own, and nothing follows from its rejection for others. */
bool pass_rejection_tells(const Pass *pass, size_t item);
Prospect pass_look_out(const Pass *pass, size_t item);
/* Who needs something beside GPUs, or not any GPUs. */
bool pass_is_choosy(const Pass *pass, size_t item);

/* Places an item that is in play, with all that are in play too and must be with it. 1, 0 or -ENOMEM. */
int pass_place(Pass *pass, size_t item);
/* Places all that are in play, the largest first. 1, 0: not all, and those in play have nothing; or -ENOMEM. */
int pass_pack(Pass *pass);
/* Makes room for the item by placing anew all that are placed in its pool. @rare: as often as the pass may do that
 * for one alone. 1; 0: all is as it was; or -ENOMEM. */
int pass_repack(Pass *pass, size_t item, bool rare);

/* Stops others for the item, if they may be. 1; 0: nothing has changed; or -ENOMEM. */
int pass_preempt(Pass *pass, size_t item);

/* Who of the roster, whose items have nothing, gets a place. 0; -ENOMEM or -ECANCELED, some have places then. Takes off
 * @effort what it took. */
int roster_run(Inventory *inventory, const RosterRules *rules, const bool *behind, size_t *effort, Roster *roster);
/* Tries whether more of them run if others come first; @spent is what the pass took. 0; or -ENOMEM, all is undone then
 * and the roster empty. */
int roster_exchange(Inventory *inventory, const RosterRules *rules, size_t spent, Roster *roster);
