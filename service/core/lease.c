/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lease.h"

#include <errno.h>

#include "core/mutant.h"
#include "core/names.h"
#include "util/text.h"

/* ---- times ---- */

#define MS_US UINT64_C(1000)
#define MILLION UINT64_C(1000000)

/* Bounds; why each is there, lease_times_check() says. */
#define REQUEST_LEAST_US (20 * MS_US)
#define REQUESTS_PER_LEASE 3U
#define KILL_LEAST_US (100 * MS_US)
#define WATCHDOG_LEAST_US (1000 * MS_US)
#define DRIFT_MOST_PPM 10000U           /* lease-book.c counts on it, for long leases */
#define LOSS_MOST_US (60000 * MS_US)
#define HOLD_MOST_US (LEASE_MS_MAX * MS_US)

const LeaseTimes lease_times_default = {
        .request_us = 500 * MS_US, .lease_us = 3000 * MS_US, .kill_us = 500 * MS_US, .drift_ppm = 1000,
};

const LeaseTimes lease_times_fast = {
        .request_us = 150 * MS_US, .lease_us = 1000 * MS_US, .kill_us = 300 * MS_US, .drift_ppm = 1000,
};

/* The node's clock may be slow while the leader's is fast: the span takes (1 + p) / (1 - p) of itself then. */
static uint64_t drift_us(uint64_t span_us, uint64_t ppm) {
        return span_us * 2 * ppm / (MILLION - ppm) + 1;
}

uint64_t lease_times_death_us(const LeaseTimes *times) {
        uint64_t kill_us = MUTANT(NO_KILL_TIME) ? 0 : times->kill_us;
        uint64_t watchdog_us = MUTANT(NO_WATCHDOG_PERIOD) ? 0 : times->watchdog_us;
        uint64_t all_us = times->lease_us + kill_us + watchdog_us;
        uint64_t clocks_us = MUTANT(NO_DRIFT) ? 0 : drift_us(all_us, times->drift_ppm);
        return kill_us + watchdog_us + clocks_us;
}

#define TOO_LONG                                                                                                 \
        "Duration, KillTime and the watchdog's period together are over 60s: the VMs of a lost node would be "   \
        "down for longer than that. Make Duration shorter"

static int refuse(char **ret_sentence, const char *sentence) {
        return text_set(ret_sentence, sentence);
}

int lease_times_check(const LeaseTimes *times, char **ret_sentence) {
        if (times->lease_us > LOSS_MOST_US || times->kill_us > LOSS_MOST_US || times->watchdog_us > LOSS_MOST_US)
                return refuse(ret_sentence, TOO_LONG);
        if (times->request_us < REQUEST_LEAST_US)
                return refuse(ret_sentence, "Request is below 20ms: every node would ask the leader all the time");
        if (times->lease_us / REQUESTS_PER_LEASE < times->request_us)
                return refuse(ret_sentence,
                              "Duration is shorter than three times Request: two requests that are lost in a row would "
                              "end the VMs of a sound node. Make Duration longer or Request shorter");
        if (times->kill_us < KILL_LEAST_US)
                return refuse(ret_sentence,
                              "KillTime is below 100ms: the VMs of a lost node might start elsewhere before its guard "
                              "has ended them here (P1). Make it longer");
        if (times->watchdog_us > 0 && times->watchdog_us < WATCHDOG_LEAST_US)
                return refuse(ret_sentence, "the watchdog's period is below a second, and no device is that fast");
        if (times->drift_ppm > DRIFT_MOST_PPM)
                return refuse(ret_sentence, "Drift is over 10000 parts in a million: a clock like that is broken");
        if (times->hold_us > HOLD_MOST_US)
                return refuse(ret_sentence, "OnLeaseEnd: stopped VMs are held for ten minutes at most");
        if (lease_times_death_us(times) > LOSS_MOST_US - times->lease_us)
                return refuse(ret_sentence, TOO_LONG);
        return 1;
}

/* ---- the node's side ---- */

static const LeaseAsked *find_asked(const Lease *lease, uint64_t sequence) {
        const LeaseAsked *asked = lease->asked + sequence % LEASE_ASKED_MAX;
        return sequence > 0 && asked->sequence == sequence ? asked : NULL;
}

static void wake_at(LeaseTurn *turn, uint64_t at_us) {
        turn->wake_us = at_us < turn->wake_us ? at_us : turn->wake_us;
}

/* A guard that is away for a moment (a restart) is waited for: what it held lives on, and the lease is not renewed. */
static void look_at_guard(Lease *lease, const LeaseView *view, LeaseTurn *turn) {
        if (view->guarded || !view->anything_lives || MUTANT(ASK_UNGUARDED)) {
                lease->unguarded_since_us = 0;
                return;
        }
        if (lease->unguarded_since_us == 0)
                lease->unguarded_since_us = view->now_us;
        uint64_t patience_us = lease->unguarded_since_us + LEASE_GUARD_PATIENCE(&lease->times);
        /* Of a long lease there is more to wait in: as long as two thirds of an ordinary one are left for libvirt. */
        uint64_t left_us = lease->times.lease_us - LEASE_GUARD_PATIENCE(&lease->times);
        if (lease->until_us > patience_us + left_us)
                patience_us = lease->until_us - left_us;
        /* Stopped VMs would go on by whoever continues them, and nobody kills them. */
        bool held_in_vain = lease->times.hold_us > 0 && lease->until_us > 0 && view->now_us >= lease->until_us;
        turn->end_all = view->now_us >= patience_us || held_in_vain;
        if (!turn->end_all)
                wake_at(turn, patience_us);
}

static void ask(Lease *lease, const LeaseView *view, LeaseTurn *turn) {
        bool guarded = view->guarded || !view->anything_lives || MUTANT(ASK_UNGUARDED);
        if (view->incarnation == 0 || view->lost || lease->lost_incarnation == view->incarnation || !guarded ||
            !view->has_way)
                return;
        uint64_t due_us = lease->asked_us ? lease->asked_us + lease->times.request_us : 0;
        if (view->now_us < due_us) {
                wake_at(turn, due_us);
                return;
        }
        lease->sequence++;
        lease->asked_us = view->now_us;
        lease->asked[lease->sequence % LEASE_ASKED_MAX] =
                (LeaseAsked) { .sequence = lease->sequence, .incarnation = view->incarnation, .sent_us = view->now_us };
        turn->ask = true;
        turn->sequence = lease->sequence;
        turn->incarnation = view->incarnation;
        wake_at(turn, view->now_us + lease->times.request_us);
}

void lease_turn(Lease *lease, const LeaseView *view, LeaseTurn *ret) {
        LeaseTurn turn = { .wake_us = UINT64_MAX };
        if (view->incarnation != lease->incarnation)
                lease->until_us = 0;            /* it was another life's */
        if (view->needed) {
                look_at_guard(lease, view, &turn);
                bool lost = view->lost || (view->incarnation > 0 && lease->lost_incarnation == view->incarnation);
                turn.kill_all = lost && view->anything_lives;
                ask(lease, view, &turn);
        }
        *ret = turn;
}

/* Between two instants of the leader's clock no more of our own time can have passed than from when we sent the first
 * request until now. If the leader counts more, then our clock stood still: this host was paused with all its clocks,
 * and the deadline that its guard waits for is later than the leader thinks. */
static bool clock_is_behind(const Lease *lease, const LeaseGrant *grant, uint64_t now_us) {
        if (!ID_EQUAL(&lease->leader, &grant->leader) || grant->sequence <= lease->leader_sequence ||
            grant->leader_us < lease->leader_us)
                return false;
        uint64_t theirs_us = grant->leader_us - lease->leader_us;
        uint64_t ours_us = now_us - lease->leader_sent_us;
        uint64_t slack_us = drift_us(ours_us, lease->times.drift_ppm) + lease->times.kill_us / 2;
        return theirs_us > ours_us + slack_us;
}

static void note_leader(Lease *lease, const LeaseGrant *grant, uint64_t sent_us) {
        if (ID_EQUAL(&lease->leader, &grant->leader) && grant->sequence <= lease->leader_sequence)
                return;
        lease->leader = grant->leader;
        lease->leader_us = grant->leader_us;
        lease->leader_sequence = grant->sequence;
        lease->leader_sent_us = sent_us;
}

LeaseNews lease_answered(Lease *lease, const LeaseGrant *grant, const LeaseView *view) {
        const LeaseAsked *asked = find_asked(lease, grant->sequence);
        if (!asked || grant->incarnation != asked->incarnation ||
            (asked->incarnation != view->incarnation && !MUTANT(NO_INCARNATION_CHECK)))
                return LEASE_NEWS_NONE;
        if (grant->lost && grant->hearsay)
                return LEASE_NEWS_NONE;
        if (grant->lost) {
                lease->lost_incarnation = asked->incarnation;
                lease->until_us = 0;
                return LEASE_NEWS_LOST;
        }
        bool behind = clock_is_behind(lease, grant, view->now_us);
        if (!grant->hearsay)
                note_leader(lease, grant, asked->sent_us);
        else if (behind) {
                lease->leader = (NodeId) {};    /* or no other would be worth anything */
                return LEASE_NEWS_NONE;
        }
        if (behind) {
                lease->until_us = 0;
                return LEASE_NEWS_CLOCK_BEHIND;
        }
        /* Since then it was cut, or somebody said that this life is over. */
        uint64_t length_us = grant->lease_us < view->longest_us ? grant->lease_us : view->longest_us;
        uint64_t until_us = (MUTANT(LEASE_FROM_RECEIPT) ? view->now_us : asked->sent_us) + length_us;
        if (lease->lost_incarnation == asked->incarnation || until_us <= lease->until_us || until_us <= view->now_us)
                return LEASE_NEWS_NONE;
        lease->until_us = until_us;
        lease->incarnation = asked->incarnation;
        return LEASE_NEWS_LONGER;
}

bool lease_cap(Lease *lease, uint64_t now_us, uint64_t longest_us) {
        if (lease->until_us <= now_us + longest_us)
                return false;
        lease->until_us = now_us + longest_us;
        return true;
}

void lease_ended(Lease *lease) {
        lease->until_us = 0;
}

bool lease_allows(const Lease *lease, uint64_t now_us, uint64_t margin_us) {
        return lease->until_us > now_us && lease->until_us - now_us > margin_us;
}
