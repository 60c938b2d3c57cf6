/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/leases.h"

#include <errno.h>

#include "core/mutant.h"
#include "core/names.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/wake.h"

#define MS_US UINT64_C(1000)
#define WAITS_MAX (2 * NODES_MAX)       /* a bound on memory; who finds no room asks again */
#define RETRY_US 500000U
#define UNANSWERED 2U                   /* requests in a row, and others are asked too: so many */
#define DETOURS 2U
#define START_MARGIN_US 200000U         /* with less left nothing is started that the guard would end again */

static void changed(const Leases *leases) {
        leases->config.changed(leases->config.userdata);
}

void leases_init(Leases *leases, const LeasesConfig *config) {
        /* Answers to what this program asked before it was started anew are not to be taken for answers to it. */
        *leases = (Leases) { .config = *config, .lease = { .times = config->times, .sequence = clock_boottime_us() } };
}

void leases_clear(Leases *leases) {
        lease_book_clear(&leases->book);
        array_clear(&leases->waits);
        *leases = (Leases) {};
}

static void follow_lead(Leases *leases, uint64_t now) {
        RaftStatus status;
        history_status(leases->config.history, &status);
        lease_book_lead(&leases->book, status.is_leader, status.term, now);
}

/* ---- the leader's side */

static bool send_frame(const Leases *leases, const NodeId *to, Gpupool1__Frame *frame) {
        return leases->net && peer_net_send(leases->net, to, PEER_STREAM_CONTROL, frame) == PEER_SEND_QUEUED;
}

static void send_answer(const Leases *leases, const NodeId *to, Gpupool1__LeaseAnswer *answer) {
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_LEASE_ANSWER;
        frame.lease_answer = answer;
        (void) send_frame(leases, to, &frame);
}

static void take_grant(Leases *leases, const LeaseGrant *grant);

static void answer_wait(Leases *leases, const LeaseWait *wait, uint64_t now) {
        uint64_t lease_us = 0;
        LeaseVerdict verdict = lease_book_asked(&leases->book, history_registry(leases->config.history), &wait->node,
                                                wait->incarnation, wait->arrived_us, now, &lease_us);
        if (verdict == LEASE_REFUSED)
                return;                 /* it asks again; silence is never taken for a lease */
        if (ID_EQUAL(&wait->from, &leases->config.node) && ID_EQUAL(&wait->node, &leases->config.node)) {
                take_grant(leases, &(LeaseGrant) { .sequence = wait->sequence, .incarnation = wait->incarnation,
                                                   .lost = verdict == LEASE_LOST, .lease_us = lease_us,
                                                   .leader = leases->config.node, .leader_us = wait->arrived_us });
                return;
        }
        Gpupool1__LeaseAnswer answer = GPUPOOL1__LEASE_ANSWER__INIT;
        answer.node = id_message_borrow((uint8_t *) wait->node.bytes);
        answer.sequence = wait->sequence;
        answer.kind = verdict == LEASE_GRANTED ? GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_GRANTED
                                               : GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_LOST;
        answer.incarnation = wait->incarnation;
        answer.lease_us = lease_us;
        answer.leader = id_message_borrow(leases->config.node.bytes);
        answer.leader_us = wait->arrived_us;
        send_answer(leases, &wait->from, &answer);
}

static void confirm_next(Leases *leases);

/* Those that arrived before the question was asked are served; the others wait for the next. */
static void on_confirmed(bool confirmed, void *userdata) {
        Leases *leases = userdata;
        uint64_t now = clock_boottime_us();
        leases->confirming = false;
        follow_lead(leases, now);
        int r = lease_book_follow(&leases->book, history_registry(leases->config.history), now);
        if (r < 0)
                log_error("memory is out; leases cannot be granted: %s", strerror(-r));
        for (size_t i = 0; (confirmed || MUTANT(GRANT_UNCONFIRMED)) && r >= 0 && i < leases->n_in_round; i++)
                answer_wait(leases, leases->waits.items + i, now);
        for (size_t i = leases->n_in_round; i < leases->waits.n; i++)
                leases->waits.items[i - leases->n_in_round] = leases->waits.items[i];
        leases->waits.n -= leases->n_in_round;
        leases->n_in_round = 0;
        confirm_next(leases);
        changed(leases);
}

static void confirm_next(Leases *leases) {
        if (leases->confirming || leases->waits.n == 0)
                return;
        leases->n_in_round = leases->waits.n;
        leases->confirming = true;
        if (MUTANT(GRANT_UNCONFIRMED)) {
                on_confirmed(true, leases);
                return;
        }
        if (!history_leads(leases->config.history) ||
            history_confirm(leases->config.history, on_confirmed, leases) < 0) {
                leases->confirming = false;
                leases->waits.n = leases->n_in_round = 0;
        }
}

/* Of each node one question waits beside those of the round, by each way on which it comes: whoever asks without end
 * leaves room for the others. */
static LeaseWait *find_waiting(const Leases *leases, const LeaseWait *wait) {
        for (size_t i = leases->n_in_round; i < leases->waits.n; i++) {
                LeaseWait *other = leases->waits.items + i;
                if (ID_EQUAL(&other->from, &wait->from) && ID_EQUAL(&other->node, &wait->node))
                        return other;
        }
        return NULL;
}

static void note_wait(Leases *leases, const LeaseWait *wait) {
        LeaseWait *other = find_waiting(leases, wait);
        if (other)
                *other = *wait;
        else if (leases->waits.n < WAITS_MAX && array_append(&leases->waits, wait) >= 0)
                confirm_next(leases);
}

/* The leader is elsewhere. Handed on for its node only, so that nothing goes in circles. */
static void hand_on(const Leases *leases, const Gpupool1__LeaseRequest *request) {
        Gpupool1__LeaseRequest same = *request;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        Lead lead;
        history_lead(leases->config.history, &lead);
        if (request->relayed || !lead.quorate || lead.is_local || lead.relayed)
                return;
        same.relayed = true;
        frame.body_case = GPUPOOL1__FRAME__BODY_LEASE_REQUEST;
        frame.lease_request = &same;
        (void) send_frame(leases, &lead.way, &frame);
}

void leases_asked(Leases *leases, const NodeId *from, const Gpupool1__LeaseRequest *request) {
        LeaseWait wait = { .from = *from, .sequence = request->sequence, .incarnation = request->incarnation,
                           .arrived_us = clock_boottime_us() };
        if (request->node.len != ID_SIZE)
                return;
        memcpy(wait.node.bytes, request->node.data, ID_SIZE);
        if ((!request->relayed && !ID_EQUAL(&wait.node, from)) ||
            !registry_find_node(history_registry(leases->config.history), &wait.node))
                return;
        if (history_leads(leases->config.history))
                note_wait(leases, &wait);
        else
                hand_on(leases, request);
}

/* ---- this node's own lease */

/* Whoever is connected with the leader hands it on; that the same is asked twice does no harm. */
static void ask_around(const Leases *leases, const Lead *lead, Gpupool1__Frame *frame) {
        const Registry *registry = history_registry(leases->config.history);
        unsigned asked = 0;
        for (size_t i = 0; i < registry->nodes.n && asked < DETOURS; i++) {
                /* Another one each time, and not the same for all. */
                size_t at = (i + leases->lease.sequence) % registry->nodes.n;
                const NodeId *node = &registry->nodes.items[at].id;
                if (!ID_EQUAL(node, &leases->config.node) && !ID_EQUAL(node, &lead->way))
                        asked += send_frame(leases, node, frame);
        }
}

static void ask(Leases *leases, const LeaseTurn *turn, uint64_t now) {
        Gpupool1__LeaseRequest request = GPUPOOL1__LEASE_REQUEST__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        Lead lead;
        history_lead(leases->config.history, &lead);
        if (lead.is_local) {
                note_wait(leases, &(LeaseWait) { .from = leases->config.node, .node = leases->config.node,
                                                 .sequence = turn->sequence, .incarnation = turn->incarnation,
                                                 .arrived_us = now });
                return;
        }
        request.node = id_message_borrow(leases->config.node.bytes);
        request.sequence = turn->sequence;
        request.incarnation = turn->incarnation;
        frame.body_case = GPUPOOL1__FRAME__BODY_LEASE_REQUEST;
        frame.lease_request = &request;
        (void) send_frame(leases, &lead.way, &frame);
        if (now - leases->granted_us > UNANSWERED * leases->config.times.request_us)
                ask_around(leases, &lead, &frame);
}

static void on_told(GuardResult result, void *userdata) {
        Leases *leases = userdata;
        leases->telling = false;
        if (result != GUARD_CALL_OK)
                leases->tell_not_before_us = clock_boottime_us() + RETRY_US / 5;
        changed(leases);
}

static void tell(Leases *leases, uint64_t until_us, uint64_t now) {
        leases->told_us = now;
        uint64_t hold_us = leases->config.times.hold_us;
        leases->telling = guard_lease(leases->config.guard, until_us, hold_us, on_told, leases) >= 0;
}

/* The lease is over, and the guard goes by a later deadline or by none: it was started anew meanwhile and does not have
 * everything, or could not be told that the lease was cut. What it has ends with the lease all the same. */
static bool is_late(const Leases *leases, const LeaseView *view, const GuardState *state) {
        uint64_t until_us = leases->lease.until_us;
        return until_us > 0 && view->now_us >= until_us && !state->ended &&
               (state->until_us == 0 || state->until_us > until_us) && runner_holds_living(leases->config.runner);
}

/* The guard's deadline is to be the lease's end, whenever it has everything; and now, when this life is over. */
static void tell_guard(Leases *leases, const LeaseView *view, bool kill_all, uint64_t *wake_us) {
        GuardState state;
        guard_get_state(leases->config.guard, &state);
        if (leases->telling || !guard_link_is_connected(leases->config.guard))
                return;
        bool kills = kill_all && !state.ended && !MUTANT(GUARD_DEADLINE_STAYS);
        bool moves = view->guarded && leases->lease.until_us > view->now_us &&
                     (state.until_us != leases->lease.until_us || state.ended) && !MUTANT(LEASE_UNPROLONGED);
        /* Where no grant comes it is told the same again, for one that is stopped shows by its silence only. */
        uint64_t ping_us = leases->told_us + leases->config.times.request_us / 4 * 5;
        bool lives = state.until_us > view->now_us && runner_holds_living(leases->config.runner);
        bool pings = lives && view->now_us >= ping_us;
        if (lives)
                wake_by(wake_us, ping_us);
        if (!kills && !moves && !pings && !is_late(leases, view, &state))
                return;
        if (view->now_us < leases->tell_not_before_us)
                wake_by(wake_us, leases->tell_not_before_us);
        else
                tell(leases, kills ? 1 : moves || !pings ? leases->lease.until_us : state.until_us, view->now_us);
}

/* By a deadline of another cluster, which this node has left, it would kill what is started in one without leases. An
 * old registry, by which there are none yet, takes none away. */
static bool has_stray_deadline(const Leases *leases, const Registry *registry, const GuardState *state) {
        return leases->caught_up && registry->level < LEVEL_FAILOVER && (state->until_us > 0 || state->ended);
}

static void take_deadline_away(Leases *leases, const Registry *registry, uint64_t now, uint64_t *wake_us) {
        GuardState state;
        guard_get_state(leases->config.guard, &state);
        if (leases->telling || !guard_link_is_connected(leases->config.guard) ||
            !has_stray_deadline(leases, registry, &state))
                return;
        if (now < leases->tell_not_before_us)
                wake_by(wake_us, leases->tell_not_before_us);
        else
                tell(leases, 0, now);
}

static int end_all(Leases *leases, EndCause cause, const char *sentence) {
        return runner_end_all(leases->config.runner, cause, sentence);
}

static void take_grant(Leases *leases, const LeaseGrant *grant) {
        LeaseView view = leases->view;
        view.now_us = clock_boottime_us();
        uint64_t wake_us;
        int r = 0;
        switch (lease_answered(&leases->lease, grant, &view)) {
        case LEASE_NEWS_NONE:
                return;
        case LEASE_NEWS_LONGER:
                leases->granted_us = view.now_us;
                tell_guard(leases, &view, false, &wake_us);
                break;
        case LEASE_NEWS_LOST:
                log_warning("the cluster has declared this node lost: all of its VMs end, and run elsewhere. It comes "
                            "back by itself");
                r = end_all(leases, END_LEASE_ENDED, "its node was declared lost");
                tell_guard(leases, &view, true, &wake_us);
                break;
        case LEASE_NEWS_CLOCK_BEHIND:
                log_warning("this host's clock stood still for a while, as if it had been paused with all its clocks: "
                            "its VMs may run elsewhere by now, so they end here");
                r = end_all(leases, END_LEASE_ENDED, "its host stood still, clock and all");
                tell_guard(leases, &view, true, &wake_us);
                break;
        }
        if (r < 0)
                log_error("memory is out; a VM's state could not be noted: %s", strerror(-r));
        changed(leases);
}

/* Did the leader say it, by all that this node knows? */
static bool is_leader(const Leases *leases, const NodeId *from, const NodeId *leader) {
        Lead lead;
        history_lead(leases->config.history, &lead);
        return ID_EQUAL(from, leader) && ID_EQUAL(from, &lead.leader);
}

void leases_answered(Leases *leases, const NodeId *from, const Gpupool1__LeaseAnswer *answer) {
        NodeId node;
        LeaseGrant grant = { .sequence = answer->sequence, .incarnation = answer->incarnation,
                             .lease_us = answer->lease_us, .leader_us = answer->leader_us };
        if (answer->node.len != ID_SIZE || answer->leader.len != ID_SIZE)
                return;
        memcpy(node.bytes, answer->node.data, ID_SIZE);
        memcpy(grant.leader.bytes, answer->leader.data, ID_SIZE);
        if (!ID_EQUAL(&node, &leases->config.node)) {
                Gpupool1__LeaseAnswer same = *answer;
                send_answer(leases, &node, &same);
                return;
        }
        grant.hearsay = !is_leader(leases, from, &grant.leader);
        switch (answer->kind) {
        case GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_LOST:
                grant.lost = true;
                take_grant(leases, &grant);
                return;
        case GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_GRANTED:
                take_grant(leases, &grant);
                return;
        case GPUPOOL1__LEASE_ANSWER_KIND__LEASE_ANSWER_KIND_REFUSED:
        case _GPUPOOL1__LEASE_ANSWER_KIND_IS_INT_SIZE:
                return;
        }
}

/* ---- the turn */

static void look(Leases *leases, const World *world, uint64_t now, LeaseView *ret) {
        const Registry *registry = world->registry;
        const NodeRecord *self = registry_find_node(registry, &leases->config.node);
        Runner *runner = leases->config.runner;
        const NodeFacts *facts = world_find_facts(world, &leases->config.node);
        GuardState state;
        Lead lead;
        guard_get_state(leases->config.guard, &state);
        history_lead(leases->config.history, &lead);
        runner->guard_trusted = state.until_us > 0 || state.ended;

        LeaseView view = { .now_us = now, .has_way = lead.is_local || lead.quorate };
        /* By an old registry this may be another life of the node's, or leases may be of another length. */
        bool current = leases->caught_up && self && !world->removed && facts && facts->boot_id &&
                       text_equal(self->boot_id, facts->boot_id);
        view.needed = !leases->config.witness && registry->level >= LEVEL_FAILOVER;
        view.incarnation = current && self->lease_ms > 0 ? self->incarnation : 0;
        view.lost = leases->caught_up && self && self->lost;
        /* One that does not answer may be stopped, and would kill nobody. */
        bool answers = !leases->telling || now - leases->told_us < leases->config.times.request_us;
        /* Nor does one that kills take a lease, until all are dead: a process that does not die would keep this node
         * from running anything, and its VMs from running elsewhere. */
        bool kills = state.ended && runner_holds_living(runner);
        view.guarded = runner_is_guarded(runner) && answers && !kills;
        view.anything_lives = runner_anything_lives(runner);
        if (self) {
                bool ordinary = registry_has_ordinary_leases(registry);
                uint64_t most_us = (ordinary ? self->lease_ms : node_record_longest_lease_ms(self)) * MS_US;
                bool shorter = ordinary && leases->config.times.lease_us < most_us;
                view.longest_us = shorter ? leases->config.times.lease_us : most_us;
        }
        *ret = view;
}

/* Has the guard ended what was here, or is it about to? Stopped VMs are not ended yet: they may go on. */
static int follow_end(Leases *leases, const LeaseView *view, uint64_t *wake_us) {
        GuardState state;
        guard_get_state(leases->config.guard, &state);
        uint64_t until_us = leases->lease.until_us;
        bool out = until_us > 0 && view->now_us >= until_us;
        if (!state.ended && !(out && leases->config.times.hold_us == 0)) {
                if (until_us > view->now_us)
                        wake_by(wake_us, until_us);
                leases->said_ended = leases->said_ended && out;
                return 0;
        }
        if (!leases->said_ended && view->anything_lives)
                log_warning("this node's lease has ended: it could not reach the cluster's leader, or the leader no "
                            "majority. Its VMs end here, and run elsewhere where there is a majority");
        leases->said_ended = true;
        /* Until the guard knows: is_late(). */
        if (out && (state.ended || !runner_holds_living(leases->config.runner)))
                lease_ended(&leases->lease);
        return end_all(leases, END_LEASE_ENDED, NULL);
}

static void on_thaw_reported(SubmitOutcome outcome, const Result *result, void *userdata) {
        Leases *leases = userdata;
        leases->reporting_thaw = false;
        leases->report_not_before_us = clock_boottime_us() + RETRY_US;
        changed(leases);
}

/* Once the guard goes by ordinary leases, everybody may count on it. */
static void report_thaw(Leases *leases, const World *world, const LeaseView *view, uint64_t *wake_us) {
        const NodeRecord *self = registry_find_node(world->registry, &leases->config.node);
        bool due = self && self->long_lease_ms > 0 && registry_has_ordinary_leases(world->registry);
        if (!due || view->incarnation == 0 || view->lost || !leases->shorter_is_kept || leases->reporting_thaw)
                return;
        if (view->now_us < leases->report_not_before_us) {
                wake_by(wake_us, leases->report_not_before_us);
                return;
        }
        Gpupool1__ReportThawed report = GPUPOOL1__REPORT_THAWED__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        report.node = id_message_borrow(leases->config.node.bytes);
        report.incarnation = self->incarnation;
        report.freezes = world->registry->freezes;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_REPORT_THAWED;
        entry.report_thawed = &report;
        leases->reporting_thaw = history_submit(leases->config.history, &entry, on_thaw_reported, leases) >= 0;
        leases->report_not_before_us = view->now_us + RETRY_US;
        if (!leases->reporting_thaw)
                wake_by(wake_us, leases->report_not_before_us);
}

/* Does the guard go by no longer lease than this program's own? */
static bool keeps_shorter(const Leases *leases, const LeaseView *view) {
        GuardState state;
        guard_get_state(leases->config.guard, &state);
        uint64_t most_us = view->now_us + leases->config.times.lease_us;
        /* What it is being told may be longer than what it said last. */
        bool guard_does = view->guarded && !leases->telling && state.until_us > 0 && state.until_us <= most_us;
        return leases->lease.until_us <= most_us && (guard_does || !view->anything_lives);
}

int leases_turn(Leases *leases, const World *world, uint64_t *ret_wake_us) {
        /* Not the turn's: who leads and who asked was read since, and nothing of it may seem to be older than it is. */
        uint64_t now = clock_boottime_us();
        Runner *runner = leases->config.runner;
        LeaseView view;
        LeaseTurn turn;
        *ret_wake_us = UINT64_MAX;
        follow_lead(leases, now);
        int r = lease_book_follow(&leases->book, world->registry, now);
        if (r < 0)
                return r;

        look(leases, world, now, &view);
        leases->view = view;
        r = follow_end(leases, &view, ret_wake_us);
        if (view.needed && view.longest_us > 0)
                (void) lease_cap(&leases->lease, now, view.longest_us);
        lease_turn(&leases->lease, &view, &turn);
        wake_by(ret_wake_us, turn.wake_us);
        if (turn.end_all && r >= 0)
                r = end_all(leases, END_GUARD_LOST, "the guard of its node was gone");
        if (turn.kill_all && r >= 0)
                r = end_all(leases, END_LEASE_ENDED, "its node was declared lost");
        if (r < 0)
                return r;
        if (view.needed)
                tell_guard(leases, &view, turn.kill_all, ret_wake_us);
        else
                take_deadline_away(leases, world->registry, now, ret_wake_us);
        if (turn.ask)
                ask(leases, &turn, now);
        leases->shorter_is_kept = keeps_shorter(leases, &view);
        report_thaw(leases, world, &view, ret_wake_us);

        GuardState state;
        guard_get_state(leases->config.guard, &state);
        uint64_t kept_us = state.until_us < leases->lease.until_us ? state.until_us : leases->lease.until_us;
        runner->lease_needed = view.needed || has_stray_deadline(leases, world->registry, &state);
        runner->lease_runs = view.needed && !state.ended && lease_allows(&leases->lease, now, START_MARGIN_US) &&
                             kept_us > now + START_MARGIN_US;
        return 0;
}

static uint32_t to_ms(uint64_t us) {
        return (uint32_t) ((us + MS_US - 1) / MS_US);
}

bool leases_may_announce(const Leases *leases, const NodeRecord *self, uint32_t *ret_lease_ms, uint32_t *ret_death_ms) {
        LeaseTimes times = leases->config.times;
        GuardState state;
        /* Whether it has a watchdog only the guard knows. */
        if (self && self->lease_ms > 0 && !leases->config.witness && !guard_link_is_connected(leases->config.guard)) {
                *ret_lease_ms = self->lease_ms;
                *ret_death_ms = self->death_ms;
                return true;
        }
        guard_get_state(leases->config.guard, &state);
        times.watchdog_us = state.watchdog_us;
        *ret_lease_ms = leases->config.witness ? 0 : to_ms(times.lease_us);
        *ret_death_ms = leases->config.witness ? 0 : to_ms(lease_times_death_us(&times));
        return !self || *ret_lease_ms >= self->lease_ms || leases->shorter_is_kept;
}
