/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Electorate: which members of the cluster are members of the consensus engine, and as what. The leader asks after
 * every change and once a second, does the one thing that it is told, and asks again when that is done.
 *
 *      nodes in the registry    1   2   3   4   5 and more
 *      voters                   1   2   3   3   5
 *      standbys                 0   0   0   1   as many as are left, at most 2
 *
 * All others follow as readers. A node comes in as a standby and is made a voter when it has caught up, which the
 * engine sees to. A voter that is silent for long gives its place to a standby that is heard. Nobody who is heard is
 * replaced to please a preference: what is well stays as it is.
 *
 * The place of a lost voter is first empty, then given to the standby, which has caught up before (V voters, A of them
 * heard, D lost, S the standby, m the majority of V; while the engine changes, at most one more host may die):
 *
 *      lose D's vote first      V - 1 voters: whoever could die before can die now, and S too. For V = 3 and 5 the
 *                               majority stays m, of the same A; for V = 4 it is one less
 *      give S a vote first      V + 1 voters: for V = 3 and 5 the majority is m + 1, of A and S. Three of which one is
 *                               lost become four of which all that live are needed, so a standby that dies, or has no
 *                               room to write, takes the quorum from two voters that are well
 *
 * After it both are the same. In no case does the second survive deaths that the first does not (test-electorate tries
 * all); only D coming back counts for it, in the one round that lies between, and D is a voter again as soon as there
 * is a place. Where no standby has caught up D stays: its vote may still be needed when it is back. */

#include "core/majority.h"
#include "core/registry.h"

#define ELECTORATE_STANDBYS_MAX 2U
#define ELECTORATE_REPLACE_AFTER_US (30U * 1000U * 1000U)

typedef enum ElectorRole {
        ELECTOR_NONE,           /* not in the engine: a reader */
        ELECTOR_SPARE,          /* in the engine, without a log */
        ELECTOR_STANDBY,        /* has the log and no vote */
        ELECTOR_VOTER,
} ElectorRole;

/* A node as the leader sees it: all members of the registry, and all of the engine. */
typedef struct Elector {
        NodeId node;
        ElectorRole role;
        bool alive;             /* heard just now; the leader is itself */
        bool caught_up;         /* has the log, but for what was said a moment ago */
        uint64_t silent_us;     /* since it was heard last */
} Elector;

typedef enum ElectorateStep {
        ELECTORATE_IDLE,        /* all is well, or nothing can be done without risk */
        ELECTORATE_ASSIGN,      /* give @node the role; ELECTOR_NONE removes it */
        ELECTORATE_TRANSFER,    /* hand the leadership to @node first: the leader is to lose its vote */
} ElectorateStep;

typedef struct ElectorateChange {
        ElectorateStep step;
        NodeId node;
        ElectorRole role;
} ElectorateChange;

typedef struct Electorate {
        const Registry *registry;
        const Elector *electors;        /* in any order, each node once */
        size_t n_electors;
        NodeId self;                    /* the leader */
        uint64_t replace_after_us;      /* 0: ELECTORATE_REPLACE_AFTER_US */
} Electorate;

/* The next change. 0 or -ENOMEM. */
int electorate_next(const Electorate *electorate, ElectorateChange *ret);
