/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Leases: carries the lease both ways (core/lease.h, core/lease-book.h decide): asks the leader for this node's own and
 * tells the guard, and answers the others while this node leads. A leader that does not answer is asked through others,
 * too: a connection is given up only after a silence that is as long as a lease.
 *
 *     turn ─► LeaseRequest ─► the leader, or a peer that is connected with it, which hands it on once
 *                             leader: noted with its time ─► history_confirm(), one round for all that wait
 *                                     ─► the book ─► LeaseAnswer, the same way back
 *     LeaseAnswer ─► guard_lease() ─► acknowledged ─► the runner may start and resume
 *
 * It needs no disk anywhere. */

#include "adapters/guard/guard-link.h"
#include "adapters/peer/peer.h"
#include "core/lease-book.h"
#include "core/runner.h"
#include "daemon/history.h"

/* A request on the leader that waits for the voters' word. */
typedef struct LeaseWait {
        NodeId from;                    /* whom to answer; this node itself, or the peer that handed it on */
        NodeId node;
        uint64_t sequence;
        uint64_t incarnation;
        uint64_t arrived_us;
} LeaseWait;

typedef struct LeasesConfig {
        History *history;               /* borrowed, as all of these */
        GuardLink *guard;
        Runner *runner;
        NodeId node;
        LeaseTimes times;
        bool witness;                   /* it runs nothing and has no lease */
        void (*changed)(void *userdata);        /* take a turn */
        void *userdata;
} LeasesConfig;

typedef struct Leases {
        LeasesConfig config;
        PeerNet *net;                   /* borrowed; NULL: there is none at present */
        Lease lease;
        LeaseBook book;
        LeaseView view;                 /* as of the last turn */
        bool caught_up;                 /* the registry here is not behind; the caller's to set before each turn */
        ARRAY(LeaseWait) waits;
        size_t n_in_round;              /* the first of them wait for the confirmation that is under way */
        bool confirming;
        uint64_t granted_us;            /* when the last grant came; 0: never */
        bool telling;                   /* the guard was told and has not answered */
        uint64_t told_us;               /* since then */
        uint64_t tell_not_before_us;    /* after one that it did not take */
        bool reporting_thaw;
        uint64_t report_not_before_us;
        bool said_ended;                /* logged once */
        bool shorter_is_kept;           /* the guard goes by no longer lease than this program's own times */
} Leases;

/* Nothing is allocated. */
void leases_init(Leases *leases, const LeasesConfig *config);
void leases_clear(Leases *leases);

/* First in each turn: asks, tells the guard, ends what has no right to run; sets runner.lease_needed and the like.
 * *ret_wake_us as elsewhere. 0 or -ENOMEM. */
int leases_turn(Leases *leases, const World *world, uint64_t *ret_wake_us);

/* Frames of peers. */
void leases_asked(Leases *leases, const NodeId *from, const Gpupool1__LeaseRequest *request);
void leases_answered(Leases *leases, const NodeId *from, const Gpupool1__LeaseAnswer *answer);

/* What this node announces: both 0 where it has no lease. False: not yet, the guard still goes by longer ones. */
bool leases_may_announce(const Leases *leases, const NodeRecord *self, uint32_t *ret_lease_ms, uint32_t *ret_death_ms);
