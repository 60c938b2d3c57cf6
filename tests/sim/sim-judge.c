/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-judge.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "chronicle.h"
#include "adapters/store/raft-engine-private.h"
#include "sim-machine.h"

/* Comparing whole registries costs time; a difference does not go away again. */
#define STATE_EVERY 8U

void sim_judge_init(SimJudge *judge, SimTime *time, SimMachine *machines, unsigned n_machines) {
        *judge = (SimJudge) { .time = time, .machines = machines, .n_machines = n_machines };
        judge->entries = g_hash_table_new(g_direct_hash, g_direct_equal);
        judge->never = g_hash_table_new(g_direct_hash, g_direct_equal);
        g_assert_cmpint(registry_new(&judge->registry), ==, 0);
        g_assert_cmpint(array_append(&judge->facts, &(SimFact) {}), ==, 0);     /* there is no index 0 */
}

void sim_judge_clear(SimJudge *judge) {
        ARRAY_EACH(fact, &judge->facts)
                log_entry_unref(fact->entry);
        array_clear(&judge->facts);
        array_clear(&judge->leads);
        ARRAY_EACH(wish, &judge->wishes)
                g_free(*wish);
        array_clear(&judge->wishes);
        ARRAY_EACH(order, &judge->orders)
                g_free(*order);
        array_clear(&judge->orders);
        ARRAY_EACH(question, &judge->questions)
                g_free(*question);
        array_clear(&judge->questions);
        registry_free(judge->registry);
        g_hash_table_destroy(judge->entries);
        g_hash_table_destroy(judge->never);
}

static void *place_key(uint64_t index, uint64_t term) {
        return (void *) (uintptr_t) (term << 32 | index);
}

static SimFact *fact_at(SimJudge *judge, uint64_t index) {
        while (judge->facts.n <= index)
                g_assert_cmpint(array_append(&judge->facts, &(SimFact) {}), ==, 0);
        return judge->facts.items + index;
}

static uint64_t entry_mark(int type, const void *data, size_t size) {
        return sim_mark_bytes((uint64_t) type, data, size) | 1;
}

/* An index of a term means one thing. Only what left a machine, or is on its disk, can mean anything to others
 * (@binds): a lone voter may begin its term twice, if nothing of the first time is left. */
static void check_place(SimJudge *judge, const SimMachine *machine, uint64_t index, uint64_t term, uint64_t mark,
                        bool binds) {
        void *key = place_key(index, term), *other = g_hash_table_lookup(judge->entries, key);

        if (other && other != (void *) (uintptr_t) mark)
                sim_broken(judge->time, "m%u has another entry %" PRIu64 " of term %" PRIu64 " than another log",
                           machine->number, index, term);
        if (binds)
                g_hash_table_insert(judge->entries, key, (void *) (uintptr_t) mark);
}

static void check_write(SimJudge *judge, const SimMachine *machine, const LogWrite *write, bool binds) {
        for (size_t i = 0; i < write->n_entries; i++) {
                const LogEntry *entry = write->entries[i];
                check_place(judge, machine, write->first_index + i, entry->term,
                            entry_mark((int) entry->type, entry->data, entry->size), binds);
        }
}

static bool is_same_entry(const LogEntry *a, const LogEntry *b) {
        return a->term == b->term && a->type == b->type && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static uint64_t state_mark(const Registry *registry) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(registry, &bytes, &size), ==, 0);
        return sim_mark_bytes(0, bytes, size) | 1;
}

/* ---- the history */

static SimWish *wish_of(SimJudge *judge, const Entry *entry) {
        uint64_t number = entry->time_ms - SIM_WISH_TIME;
        g_assert_cmpuint(number, <, judge->wishes.n);
        return judge->wishes.items[number];
}

static void note_wish(SimJudge *judge, uint64_t index, SimWish *wish) {
        if (wish->truth_index > 0)
                sim_broken(judge->time, "submission %" PRIu64 " is committed twice: at %" PRIu64 " and %" PRIu64,
                           wish->number, wish->truth_index, index);
        if (wish->state == SIM_WISH_REFUSED || wish->state == SIM_WISH_NOT_DONE)
                sim_broken(judge->time, "submission %" PRIu64 " was %s, and is committed at %" PRIu64, wish->number,
                           wish->state == SIM_WISH_REFUSED ? "refused" : "answered: not done", index);
        wish->truth_index = index;
        if (wish->order->times++ == 0)
                wish->order->first_index = index;
        else
                judge->visits.repeated_in_history++;
}

/* The registry as it must be. A request id that it knows already changes nothing. */
static void apply_truth(SimJudge *judge, uint64_t index, const LogEntry *stored) {
        _cleanup_(entry_freep) Entry *entry = NULL;
        Result result = {};
        size_t before_size = 0, after_size = 0;

        g_assert_cmpint(entry_decode(stored->data, stored->size, &entry), ==, ENTRY_GOOD);
        SimWish *wish = wish_of(judge, entry);
        bool again = wish->order->times > 0;
        note_wish(judge, index, wish);
        _cleanup_free_ uint8_t *before = again ? state_bytes(judge->registry, &before_size) : NULL;
        g_assert_cmpint(registry_apply(judge->registry, index, entry, &result), ==, 0);
        result_clear(&result);
        _cleanup_free_ uint8_t *after = again ? state_bytes(judge->registry, &after_size) : NULL;
        if (again && (before_size != after_size || memcmp(before, after, after_size) != 0))
                sim_broken(judge->time, "request %u changed the registry twice", wish->order->number);
}

/* How many of @leader's voters have it on disk. */
static void check_majority(SimJudge *judge, const SimMachine *leader, uint64_t index, const LogEntry *entry) {
        const struct raft_configuration *members = &leader->engine->raft.configuration;
        unsigned voters = 0, have = 0;

        for (unsigned i = 0; i < members->n; i++) {
                if (members->servers[i].role != RAFT_VOTER)
                        continue;
                voters++;
                const SimMachine *voter = sim_machine_by_id(leader, members->servers[i].id);
                if (!voter)
                        continue;
                const LogEntry *stored = sim_disk_entry(voter->disk, index);
                const LogSnapshot *snapshot = voter->disk->snapshot;
                if ((stored && is_same_entry(stored, entry)) || (!stored && snapshot && snapshot->index >= index))
                        have++;
        }
        if (have <= voters / 2)
                sim_broken(judge->time, "m%u holds entry %" PRIu64 " for committed, on %u disks of %u voters",
                           leader->number, index, have, voters);
}

static void add_fact(SimJudge *judge, const SimMachine *machine, uint64_t index, LogEntry *entry) {
        SimFact *fact = fact_at(judge, index);

        if (index != judge->last_index + 1) {
                sim_broken(judge->time, "m%u commits entry %" PRIu64 " where %" PRIu64 " is next", machine->number,
                           index, judge->last_index + 1);
                return;
        }
        fact->entry = log_entry_ref(entry);
        fact->commit_term = machine->engine->raft.current_term;
        judge->last_index = index;
        judge->visits.committed++;
        if (g_hash_table_contains(judge->never, place_key(index, entry->term)))
                sim_broken(judge->time, "entry %" PRIu64 " of term %" PRIu64 " was answered: not done", index,
                           entry->term);
        if (machine->engine && engine_is_leader(machine->engine))
                check_majority(judge, machine, index, entry);
        if (entry->type == LOG_ENTRY_COMMAND)
                apply_truth(judge, index, entry);
        if (index % STATE_EVERY == 0)
                fact->state_mark = state_mark(judge->registry);
}

/* Compares what @machine holds for committed, up to @index. */
static void compare_committed(SimJudge *judge, SimMachine *machine, uint64_t index) {
        const RaftLog *log = &machine->engine->log;

        if (index > raft_log_last(log))
                index = raft_log_last(log);
        for (uint64_t i = machine->view.compared_index + 1; i <= index; i++) {
                LogEntry *entry = raft_log_get(log, i);
                if (entry && i > judge->last_index)
                        add_fact(judge, machine, i, entry);
                else if (entry && !is_same_entry(entry, judge->facts.items[i].entry))
                        sim_broken(judge->time, "m%u has another entry %" PRIu64 " (term %" PRIu64
                                   ") than was committed before (term %" PRIu64 ")", machine->number, i, entry->term,
                                   judge->facts.items[i].entry->term);
                if (judge->time->broken)
                        return;
                machine->view.compared_index = i;
        }
}

/* ---- leaders */

static void check_votes(SimJudge *judge, const SimMachine *leader, uint64_t term) {
        const struct raft_configuration *members = &leader->engine->raft.configuration;
        unsigned voters = 0, votes = 0;

        for (unsigned i = 0; i < members->n; i++) {
                if (members->servers[i].role != RAFT_VOTER)
                        continue;
                voters++;
                const SimMachine *voter = sim_machine_by_id(leader, members->servers[i].id);
                const LogFileVote *vote = voter ? &voter->disk->vote : NULL;
                /* One that has gone on to a later term no longer says whom it voted for. */
                if (vote && (vote->term > term || (vote->term == term && vote->voted_for == leader->id)))
                        votes++;
        }
        if (voters == 1)
                judge->visits.lone_leads++;
        if (votes <= voters / 2)
                sim_broken(judge->time, "m%u leads term %" PRIu64 " by %u durable votes of %u", leader->number, term,
                           votes, voters);
}

/* It may have been elected late, when a later term had begun already: what that committed is not asked for. */
static void check_completeness(SimJudge *judge, const SimMachine *leader, uint64_t term) {
        const RaftLog *log = &leader->engine->log;

        for (uint64_t i = log->first_index; i <= judge->last_index && !judge->time->broken; i++) {
                const LogEntry *entry = raft_log_get(log, i);
                if (judge->facts.items[i].commit_term >= term)
                        continue;
                if (!entry)
                        sim_broken(judge->time, "m%u leads term %" PRIu64 " without entry %" PRIu64
                                   ", which is committed", leader->number, term, i);
                else if (!is_same_entry(entry, judge->facts.items[i].entry))
                        sim_broken(judge->time, "m%u leads term %" PRIu64 " with another entry %" PRIu64
                                   " than was committed", leader->number, term, i);
        }
}

/* A lone voter that elected itself: nothing of that term leaves it before its disk has the vote. */
static bool leads_in_silence(const SimMachine *machine, uint64_t term) {
        const LogFileVote *vote = &machine->disk->vote;
        return engine_is_lone_voter(machine->engine) && (vote->term != term || vote->voted_for != machine->id);
}

static void look_at_leader(SimJudge *judge, const SimMachine *machine, uint64_t term) {
        if (leads_in_silence(machine, term))
                return;
        for (size_t i = judge->leads.n; i > 0; i--) {
                const SimLead *lead = judge->leads.items + i - 1;
                if (lead->term != term)
                        continue;
                if (lead->machine != machine->number || lead->life != machine->life)
                        sim_broken(judge->time, "term %" PRIu64 " has two leaders: m%u and m%u", term, lead->machine,
                                   machine->number);
                return;
        }
        SimLead lead = { term, machine->number, machine->life };
        g_assert_cmpint(array_append(&judge->leads, &lead), ==, 0);
        if (term > judge->top_term)
                judge->top_term = term;
        judge->visits.leads++;
        check_votes(judge, machine, term);
        check_completeness(judge, machine, term);
}

void sim_judge_look(SimJudge *judge) {
        for (unsigned i = 0; i < judge->n_machines && !judge->time->broken; i++) {
                SimMachine *machine = judge->machines + i;
                if (!machine->engine)
                        continue;
                const struct raft *raft = &machine->engine->raft;
                if (raft->current_term < machine->view.term)
                        sim_broken(judge->time, "m%u goes back from term %" PRIu64 " to %llu", machine->number,
                                   machine->view.term, raft->current_term);
                machine->view.term = raft->current_term;
                if (raft->commit_index > machine->view.compared_index)
                        compare_committed(judge, machine, raft->commit_index);
                if (raft->state == RAFT_LEADER)
                        look_at_leader(judge, machine, raft->current_term);
        }
}

/* ---- what machines do */

void sim_judge_starts(SimJudge *judge, SimMachine *machine) {
        machine->view = (SimView) { .term = machine->disk->vote.term };
}

/* That a vote (for @id) or a term stands on the sender's disk. */
static bool speaks_for(const SimMachine *machine, uint64_t term, uint64_t id) {
        const LogFileVote *vote = &machine->disk->vote;
        return vote->term > term || (vote->term == term && (id == 0 || vote->voted_for == id));
}

/* That the log up to @index is on disk as the machine knows it, not as it was before. */
static bool is_stored(const SimMachine *machine, uint64_t index) {
        const LogEntry *known = raft_log_get(&machine->engine->log, index);
        const LogEntry *stored = sim_disk_entry(machine->disk, index);

        if (known && stored)
                return is_same_entry(known, stored);
        return index <= sim_disk_last_index(machine->disk);
}

static bool may_send(const SimMachine *machine, const RaftMessage *message) {
        const struct raft_message *core = message->core;

        if (message->kind != RAFT_MESSAGE_CORE)
                return speaks_for(machine, message->term, 0);
        switch (core->type) {
        case RAFT_APPEND_ENTRIES:
                return speaks_for(machine, core->append_entries.term, machine->id);
        case RAFT_APPEND_ENTRIES_RESULT:
                return speaks_for(machine, core->append_entries_result.term, 0) &&
                       (core->append_entries_result.rejected > 0 ||
                        is_stored(machine, core->append_entries_result.last_log_index));
        case RAFT_REQUEST_VOTE:
                if (core->request_vote.pre_vote)
                        return speaks_for(machine, core->request_vote.term - 1, 0);
                return speaks_for(machine, core->request_vote.term, machine->id);
        case RAFT_REQUEST_VOTE_RESULT:
                /* One of a pre-vote promises nothing, in the words of the term that would come. */
                return core->request_vote_result.pre_vote ||
                       speaks_for(machine, core->request_vote_result.term,
                                  core->request_vote_result.vote_granted ? message->to : 0);
        case RAFT_INSTALL_SNAPSHOT:
                return speaks_for(machine, core->install_snapshot.term, machine->id);
        case RAFT_TIMEOUT_NOW:
                return speaks_for(machine, core->timeout_now.term, machine->id);
        }
        return false;
}

void sim_judge_sends(SimJudge *judge, SimMachine *machine, const RaftMessage *message) {
        if (!may_send(machine, message)) {
                g_autofree char *text = sim_message_text(message);
                sim_broken(judge->time, "m%u says what is not durable here (term %" PRIu64 ", log to %" PRIu64 "): %s",
                           machine->number, machine->disk->vote.term, sim_disk_last_index(machine->disk), text);
        }
        if (!message->core || message->core->type != RAFT_APPEND_ENTRIES)
                return;
        const struct raft_append_entries *append = &message->core->append_entries;
        if (append->term != machine->view.sent_term)
                machine->view.sent_index = 0;
        machine->view.sent_term = append->term;
        if (append->n_entries > 0 && append->prev_log_index + append->n_entries > machine->view.sent_index)
                machine->view.sent_index = append->prev_log_index + append->n_entries;
        for (unsigned i = 0; i < append->n_entries; i++) {
                const struct raft_entry *entry = &append->entries[i];
                check_place(judge, machine, append->prev_log_index + 1 + i, entry->term,
                            entry_mark((int) entry->type, entry->buf.base, entry->buf.len), true);
        }
}

void sim_judge_applies(SimJudge *judge, SimMachine *machine, uint64_t index, uint64_t term, const void *data,
                       size_t size) {
        compare_committed(judge, machine, index);
        if (judge->time->broken)
                return;
        const LogEntry *entry = index <= judge->last_index ? judge->facts.items[index].entry : NULL;
        if (!entry || entry->term != term || entry->type != LOG_ENTRY_COMMAND || entry->size != size ||
            memcmp(entry->data, data, size) != 0)
                sim_broken(judge->time, "m%u applies at %" PRIu64 " what is not committed there", machine->number,
                           index);
}

void sim_judge_applied(SimJudge *judge, SimMachine *machine, uint64_t index) {
        if (judge->time->broken || index % STATE_EVERY != 0)
                return;
        if (state_mark(machine->registry) != judge->facts.items[index].state_mark)
                sim_broken(judge->time, "m%u has another registry than it must at %" PRIu64, machine->number, index);
}

void sim_judge_takes_snapshot(SimJudge *judge, SimMachine *machine, const void *data, size_t size) {
        SimFact *fact = fact_at(judge, machine->registry->index);
        uint64_t mark = sim_mark_bytes(0, data, size);

        judge->visits.snapshots++;
        if (fact->snapshot_mark != 0 && fact->snapshot_mark != mark)
                sim_broken(judge->time, "m%u takes another snapshot at %" PRIu64 " than another did", machine->number,
                           machine->registry->index);
        fact->snapshot_mark = mark;
}

void sim_judge_restored(SimJudge *judge, SimMachine *machine, const void *data, size_t size) {
        uint64_t index = machine->registry->index;

        judge->visits.restores++;
        if (index > judge->last_index || judge->facts.items[index].snapshot_mark != sim_mark_bytes(0, data, size))
                sim_broken(judge->time, "m%u restores a snapshot at %" PRIu64 " that nobody took", machine->number,
                           index);
}

void sim_judge_write_queued(SimJudge *judge, SimMachine *machine, const LogWrite *write) {
        if (write->n_entries > 0 && write->first_index <= machine->disk->first_index + machine->disk->rows.n - 1)
                judge->visits.replaced++;
        check_write(judge, machine, write, false);
}

void sim_judge_write_durable(SimJudge *judge, SimMachine *machine, const LogFileVote *before, const LogWrite *write) {
        const LogFileVote *vote = &write->vote;

        check_write(judge, machine, write, true);
        if (!write->set_vote)
                return;
        if (vote->term < before->term || vote->starts < before->starts ||
            (vote->term == before->term && before->voted_for != 0 && vote->voted_for != before->voted_for))
                sim_broken(judge->time, "m%u goes back on term %" PRIu64 " and its vote", machine->number,
                           before->term);
}

void sim_judge_write_failed(SimJudge *judge, SimMachine *machine, const LogWrite *write) {
        if (write->n_entries == 0 || !machine->engine || !engine_is_leader(machine->engine))
                return;
        if (write->entries[0]->term == machine->engine->raft.current_term &&
            machine->view.sent_term == machine->engine->raft.current_term &&
            machine->view.sent_index >= write->first_index)
                judge->visits.own_write_failed_after_send++;
}

/* ---- what clients are told */

SimOrder *sim_judge_order(SimJudge *judge) {
        SimOrder *order = g_new0(SimOrder, 1);
        order->number = (unsigned) judge->orders.n + 1;
        g_assert_cmpint(array_append(&judge->orders, &order), ==, 0);
        return order;
}

SimWish *sim_judge_wish(SimJudge *judge, SimOrder *order) {
        SimWish *wish = g_new0(SimWish, 1);
        wish->number = judge->wishes.n;
        wish->order = order;
        g_assert_cmpint(array_append(&judge->wishes, &wish), ==, 0);
        return wish;
}

void sim_judge_refused(SimJudge *judge, SimWish *wish) {
        judge->visits.refused++;
        if (wish->state != SIM_WISH_OPEN)
                sim_broken(judge->time, "submission %" PRIu64 " is refused after it was answered", wish->number);
        if (wish->truth_index > 0)
                sim_broken(judge->time, "submission %" PRIu64 " is refused, and committed", wish->number);
        wish->state = SIM_WISH_REFUSED;
}

/* A pair of index and term that was answered. */
static void check_answer(SimJudge *judge, RaftOutcome outcome, uint64_t index, uint64_t term) {
        bool stands = index > 0 && index <= judge->last_index && judge->facts.items[index].entry->term == term;

        if (outcome == RAFT_OUTCOME_DONE && !stands)
                sim_broken(judge->time, "done at %" PRIu64 " of term %" PRIu64 ", which is not committed", index, term);
        if (outcome == RAFT_OUTCOME_NOT_DONE && stands)
                sim_broken(judge->time, "not done at %" PRIu64 " of term %" PRIu64 ", which is committed", index, term);
        if (outcome == RAFT_OUTCOME_NOT_DONE && index > 0)
                g_hash_table_add(judge->never, place_key(index, term));
}

void sim_judge_answered(SimJudge *judge, SimWish *wish, RaftOutcome outcome, uint64_t index, uint64_t term) {
        if (wish->state != SIM_WISH_OPEN)
                sim_broken(judge->time, "submission %" PRIu64 " is answered twice", wish->number);
        check_answer(judge, outcome, index, term);
        switch (outcome) {
        case RAFT_OUTCOME_DONE:
                judge->visits.done++;
                wish->state = SIM_WISH_DONE;
                wish->order->is_acknowledged = true;
                if (wish->truth_index != index)
                        sim_broken(judge->time, "submission %" PRIu64 " is done at %" PRIu64
                                   ", it says, and stands at %" PRIu64, wish->number, index, wish->truth_index);
                break;
        case RAFT_OUTCOME_NOT_DONE:
                judge->visits.not_done++;
                wish->state = SIM_WISH_NOT_DONE;
                if (wish->truth_index > 0)
                        sim_broken(judge->time, "submission %" PRIu64 " is not done, it says, and stands at %" PRIu64,
                                   wish->number, wish->truth_index);
                break;
        case RAFT_OUTCOME_UNKNOWN:
                judge->visits.unknown++;
                wish->state = SIM_WISH_UNKNOWN;
                break;
        }
        wish->index = index;
        wish->term = term;
}

SimQuestion *sim_judge_asked(SimJudge *judge, SimMachine *machine) {
        SimQuestion *question = g_new0(SimQuestion, 1);
        *question = (SimQuestion) {
                .machine = machine,
                .life = machine->life,
                .asked_us = judge->time->now_us,
                .known_index = judge->last_index,
                .top_term = judge->top_term,
        };
        g_assert_cmpint(array_append(&judge->questions, &question), ==, 0);
        return question;
}

void sim_judge_confirmed(SimJudge *judge, SimQuestion *question, RaftOutcome outcome, uint64_t index, uint64_t term) {
        if (question->is_answered)
                sim_broken(judge->time, "a confirmation is answered twice");
        question->is_answered = true;
        if (outcome != RAFT_OUTCOME_DONE) {
                judge->visits.not_confirmed++;
                return;
        }
        judge->visits.confirmed++;
        if (question->top_term > term)
                sim_broken(judge->time, "m%u confirms term %" PRIu64 "; when it was asked there was a leader of term %"
                           PRIu64, question->machine->number, term, question->top_term);
        if (question->known_index > index)
                sim_broken(judge->time, "m%u confirms at %" PRIu64 "; when it was asked %" PRIu64 " was committed",
                           question->machine->number, index, question->known_index);
}

const SimQuestion *sim_judge_unanswered(const SimJudge *judge, uint64_t us) {
        ARRAY_EACH(item, &judge->questions) {
                const SimQuestion *question = *item;
                if (!question->is_answered && question->asked_us < us && question->machine->engine &&
                    question->machine->life == question->life)
                        return question;
        }
        return NULL;
}

void sim_judge_changed(SimJudge *judge, SimMachine *machine, RaftOutcome outcome, uint64_t index, uint64_t term) {
        compare_committed(judge, machine, machine->engine->raft.commit_index);
        check_answer(judge, outcome, index, term);
        if (outcome == RAFT_OUTCOME_DONE)
                judge->visits.changes_done++;
        else
                judge->visits.changes_refused++;
}

bool sim_judge_members(const SimJudge *judge, struct raft_configuration *ret) {
        for (uint64_t i = judge->last_index; i > 0; i--) {
                const LogEntry *entry = judge->facts.items[i].entry;
                if (entry->type == LOG_ENTRY_CHANGE)
                        return raft_check_decode_members(entry->data, entry->size, ret) == 0;
        }
        return false;
}
