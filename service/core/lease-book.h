/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Lease book: what a leader knows of the others' leases, and so, who can be held for dead (design, 5.5 and 5.6). Pure.
 * lease.h has the picture.
 *
 *  - A grant is given only after a majority of the voters confirmed, after the request arrived, that this leader's term
 *    still stands. (A later leader was elected by a majority. One of its voters also confirmed here, and before it
 *    voted; so every grant of an older leader was asked for before the election.)
 *  - So a new leader, who knows of no grant, waits from its election for as long as any lease can last.
 *  - Who is about to be declared lost gets no grant any more: what was granted before is in the book.
 *  - Nobody is declared lost by time while the cluster is frozen; afterwards each node only by the long lease, until it
 *    has said that its guard goes by an ordinary one again. A cluster of one or two nodes is as good as frozen forever:
 *    none of them could get a majority without the other and start its VMs, so leases are LEASE_ALONE_MS long, services
 *    may be stopped without harm, and a VM of a pair outlives the loss of the other one. The third node is like a thaw.
 *
 *  - Who was admitted and never announced its leases has no VM; it is held for lost after a while all the same, for
 *    people are to see that it does not come.
 *
 * All times are this leader's CLOCK_BOOTTIME. */

#include "core/lease.h"
#include "core/registry.h"

#define LEASE_ANNOUNCED_WITHIN_MS UINT64_C(10000)       /* by a node that was admitted; it takes one half second */

typedef struct LeasePage {
        NodeId node;
        uint64_t incarnation;
        uint64_t begun_us;              /* this page was: whatever others granted before was asked for before */
        uint64_t dead_us;               /* then everything of this incarnation is dead, if no grant follows */
        uint64_t heard_us;              /* its last request; 0: none yet */
        uint64_t longest_ms;            /* by these times of the registry dead_us was found; 0: no lease announced */
        uint64_t death_ms;
        bool condemned;                 /* its loss is on its way to the registry */
        bool doubtful;                  /* ... or was: nobody knows what came of it */
        bool may_come;                  /* an entry of which that is so may still be written */
        bool powered_off;               /* a fence agent said so, of this incarnation */
} LeasePage;

typedef struct LeaseBook {
        bool leads;                     /* this node does, in .term, and all before is applied */
        uint64_t term;
        uint64_t since_us;              /* when this node found itself elected */
        uint64_t freezes;               /* Registry.freezes, of the freeze that began, for this leader, at ... */
        uint64_t frozen_since_us;
        ARRAY(LeasePage) pages;         /* by node */
} LeaseBook;

void lease_book_clear(LeaseBook *book);

/* Who leads, as of now: a new term begins a new book. @leads: this node was elected in @term, whether or not it has
 * applied everything already. To be told whenever the engine says so, before anything else is asked. */
void lease_book_lead(LeaseBook *book, bool leads, uint64_t term, uint64_t now_us);

/* Looks at the registry as it is now: who is new, whose times changed, who has thawed. 0 or -ENOMEM. Before each of the
 * functions below. */
int lease_book_follow(LeaseBook *book, const Registry *registry, uint64_t now_us);

typedef enum LeaseVerdict {
        LEASE_GRANTED,
        LEASE_LOST,                     /* this incarnation is over: whatever it runs must end */
        LEASE_REFUSED,                  /* not now: not known yet, or about to be lost */
} LeaseVerdict;

/* A request of @incarnation arrived at @arrived_us, and after that this leader's term was confirmed, and everything
 * that was committed by then is applied. */
LeaseVerdict lease_book_asked(LeaseBook *book, const Registry *registry, const NodeId *node, uint64_t incarnation,
                              uint64_t arrived_us, uint64_t now_us, uint64_t *ret_lease_us);

/* A fence agent confirmed that the machine is off; @incarnation as when it was asked. */
void lease_book_powered_off(LeaseBook *book, const NodeId *node, uint64_t incarnation);

typedef struct Loss {
        NodeId node;
        uint64_t incarnation;
        LossEvidence evidence;
} Loss;

/* Who can be declared lost now. True: commit LoseNode, after lease_book_condemn(). Otherwise *ret_wake_us says when
 * time alone brings one (UINT64_MAX: never). */
bool lease_book_next_loss(const LeaseBook *book, const Registry *registry, uint64_t now_us, Loss *ret,
                          uint64_t *ret_wake_us);
void lease_book_condemn(LeaseBook *book, const NodeId *node);
/* The entry surely did not and will not happen: it may get leases again, unless an earlier one may still come. */
void lease_book_spare(LeaseBook *book, const NodeId *node);
/* It was committed and not taken, and so the fate of all before it is known, too: it may get leases again. */
void lease_book_settle(LeaseBook *book, const NodeId *node);
/* Nobody knows whether it happened, or still will: no leases, and it can be declared lost once more, whatever the time.
 * What becomes of the second entry is known when it is known of the first. */
void lease_book_doubt(LeaseBook *book, const NodeId *node);

/* For how long a node that has leases has not asked for one; 0: it has none, or asks. For fencing. */
uint64_t lease_book_silent_us(const LeaseBook *book, const NodeId *node, uint64_t now_us);

/* Is a freeze over, so that Thaw should be committed? Otherwise *ret_wake_us, as above. */
bool lease_book_thaws(const LeaseBook *book, const Registry *registry, uint64_t now_us, uint64_t *ret_wake_us);
