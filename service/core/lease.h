/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Lease: a node's time-limited right to run its VMs, as the node sees it (design, 5.5). Pure: it says when to ask, what
 * an answer is worth, and until when the guard may let VMs live. The leader's side is lease-book.h.
 *
 *        node                         leader                          voters
 *     t0 │ LeaseRequest n ────────────► │ t1
 *        │                              │ does my term still stand? ───► │
 *        │                              │ ◄──────────── of a majority ── │    (asked after t1)
 *        │ ◄──── granted n, length D ── │
 *        │ the guard's deadline: t0 + D │ lost, at the earliest: t1 + D + death
 *
 * It counts from t0, not from the answer: t0 lies before t1, so the deadline passes before the leader counts it as
 * passed, however long the answer took. Both count durations on CLOCK_BOOTTIME; no two clocks are compared, but for
 * their rates (LeaseTimes.drift_ppm).
 *
 * Nothing is asked for while the guard does not have all that lives here: a lease is a promise that the guard keeps.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/id.h"
#include "util/cleanup.h"

/* ---- times ---- */

typedef struct LeaseTimes {
        uint64_t request_us;            /* between two requests */
        uint64_t lease_us;
        uint64_t kill_us;               /* so long after the deadline the guard has killed everything, and proved it */
        uint64_t watchdog_us;           /* then, at the latest, a host that hangs is reset; 0: no watchdog is armed */
        uint64_t drift_ppm;             /* no clock of a node runs faster or slower by more */
        uint64_t hold_us;               /* at the lease's end VMs are stopped, and killed only after this; 0: killed */
} LeaseTimes;

/* Two profiles. The second is for networks that never blink, and needs the engine's fast times too. */
extern const LeaseTimes lease_times_default, lease_times_fast;

/* Is this a set of times by which P1 can be kept? 1; 0 with a sentence that says what does not fit and what to do; or
 * -ENOMEM. */
int lease_times_check(const LeaseTimes *times, char **ret_sentence);

/* What a node announces: how long after the end of its lease everything is surely dead. */
uint64_t lease_times_death_us(const LeaseTimes *times);

/* ---- the node's side ---- */

/* Requests whose answers may still come. */
#define LEASE_ASKED_MAX 32U

/* A guard that is gone is given a third of a lease to come back (systemd restarts it), and of a long lease all but the
 * last two thirds of an ordinary one; then everything ends, by libvirt, while the lease still runs. */
#define LEASE_GUARD_PATIENCE(times) ((times)->lease_us / 3)

typedef struct LeaseAsked {
        uint64_t sequence;              /* 0: none */
        uint64_t incarnation;
        uint64_t sent_us;
} LeaseAsked;

typedef struct Lease {
        LeaseTimes times;
        uint64_t sequence;              /* of the last request */
        LeaseAsked asked[LEASE_ASKED_MAX];
        uint64_t asked_us;              /* when; 0: never */
        uint64_t until_us;              /* 0: there is none */
        uint64_t incarnation;           /* that it was granted to */
        uint64_t lost_incarnation;      /* a leader said that it is lost; 0: none */
        uint64_t unguarded_since_us;    /* 0: the guard has everything */
        NodeId leader;                  /* whose clock the next are about; null: none */
        uint64_t leader_us;             /* it said, last */
        uint64_t leader_sequence;       /* in answer to this request */
        uint64_t leader_sent_us;        /* ... which was sent then, by the own clock */
} Lease;

/* What the node knows at one moment. */
typedef struct LeaseView {
        uint64_t now_us;                /* CLOCK_BOOTTIME */
        uint64_t incarnation;           /* by the registry; 0: not a member yet, or not in this boot */
        bool needed;                    /* leases are in force: the cluster's level, a member, no witness */
        bool lost;                      /* by the registry */
        bool guarded;                   /* the guard is there, has listed, and holds all that may live here */
        bool anything_lives;            /* or may */
        bool has_way;                   /* to the leader */
        uint64_t longest_us;            /* that the registry allows this node's leases to be */
} LeaseView;

typedef struct LeaseTurn {
        bool ask;                       /* send a request with this sequence and incarnation, at once */
        uint64_t sequence;
        uint64_t incarnation;
        bool kill_all;                  /* by the guard, at once: this incarnation is lost */
        bool end_all;                   /* by libvirt: the guard is gone, and the lease still runs */
        uint64_t wake_us;               /* UINT64_MAX: not by time */
} LeaseTurn;

void lease_turn(Lease *lease, const LeaseView *view, LeaseTurn *ret);

typedef enum LeaseNews {
        LEASE_NEWS_NONE,                /* late, of another start, or worth nothing */
        LEASE_NEWS_LONGER,              /* tell the guard: until_us */
        LEASE_NEWS_LOST,                /* tell the guard: everything must end at once */
        LEASE_NEWS_CLOCK_BEHIND,        /* the same, and say why: this host's clock stood still for a while */
} LeaseNews;

typedef struct LeaseGrant {
        uint64_t sequence;
        uint64_t incarnation;
        bool lost;                      /* instead of a grant */
        bool hearsay;                   /* it did not come from the leader itself */
        uint64_t lease_us;
        NodeId leader;
        uint64_t leader_us;
} LeaseGrant;

/* An answer of a leader came. What another node hands on may let VMs live, and ends none: what it says of a loss is
 * passed over, and so is what shows that a clock stood still. A deadline in the guard comes soon enough. */
LeaseNews lease_answered(Lease *lease, const LeaseGrant *grant, const LeaseView *view);

/* From now on no lease is longer than @longest_us: the present one is cut. True: it was longer; tell the guard. */
bool lease_cap(Lease *lease, uint64_t now_us, uint64_t longest_us);

/* The guard has ended everything: there is no lease until the next grant. */
void lease_ended(Lease *lease);

/* May a VM be started or resumed now? Not with the last breath: within @margin_us it would be killed again. */
bool lease_allows(const Lease *lease, uint64_t now_us, uint64_t margin_us);
