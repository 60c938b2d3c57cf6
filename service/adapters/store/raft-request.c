/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "adapters/store/raft-engine-private.h"
#include "core/names.h"

/* ---- the row of open requests ---- */

static void forget(RaftEngine *engine, RaftRequest *request) {
        for (size_t i = 0; i < engine->requests.n; i++)
                if (engine->requests.items[i] == request) {
                        array_remove(&engine->requests, i);
                        break;
                }
        request->engine = NULL;
}

RaftRequest *raft_request_free(RaftRequest *request) {
        if (!request)
                return NULL;
        if (request->engine)
                forget(request->engine, request);
        free(request);
        return NULL;
}

static void answer(RaftRequest *request, RaftOutcome outcome, uint64_t index, uint64_t term) {
        RaftCallback callback = request->callback;
        void *userdata = request->userdata;

        forget(request->engine, request);
        if (request->floating)
                free(request);
        if (callback)
                callback(userdata, outcome, index, term);
}

static int add_request(RaftEngine *engine, RequestKind kind, RaftCallback callback, void *userdata,
                       RaftRequest **ret_request, RaftRequest **ret) {
        RaftRequest *request = calloc(1, sizeof(*request));
        if (!request)
                return -ENOMEM;
        if (array_append(&engine->requests, &request) < 0) {
                free(request);
                return -ENOMEM;
        }
        *request = (RaftRequest) {
                .engine = engine,
                .kind = kind,
                .floating = !ret_request,
                .callback = callback,
                .userdata = userdata,
        };
        if (ret_request)
                *ret_request = request;
        *ret = request;
        return 0;
}

/* Takes a request back that came to nothing. */
static void withdraw(RaftRequest *request, RaftRequest **ret_request) {
        if (ret_request)
                *ret_request = NULL;
        raft_request_free(request);
}

static RaftRequest *find_kind(const RaftEngine *engine, RequestKind kind) {
        for (size_t i = 0; i < engine->requests.n; i++)
                if (engine->requests.items[i]->kind == kind)
                        return engine->requests.items[i];
        return NULL;
}

void requests_clear(RaftEngine *engine) {
        while (engine->requests.n > 0) {
                RaftRequest *request = engine->requests.items[engine->requests.n - 1];
                bool floating = request->floating;
                forget(engine, request);
                if (floating)
                        free(request);
        }
        array_clear(&engine->requests);
}

/* ---- entries ---- */

/* The first one that is decided when the entry at @index, of @term, is: all up to it, and those of older terms, for in
 * a log terms only grow. Callbacks may change the row, so each search begins anew. */
static RaftRequest *find_entry(const RaftEngine *engine, uint64_t index, uint64_t term) {
        for (size_t i = 0; i < engine->requests.n; i++) {
                RaftRequest *request = engine->requests.items[i];
                if (request->kind == REQUEST_ENTRY && request->index > 0 &&
                    (request->index <= index || request->term < term))
                        return request;
        }
        return NULL;
}

void requests_applied(RaftEngine *engine, uint64_t index, uint64_t term) {
        for (RaftRequest *request; (request = find_entry(engine, index, term));) {
                bool done = request->index == index && request->term == term;
                answer(request, done ? RAFT_OUTCOME_DONE : RAFT_OUTCOME_NOT_DONE, request->index, request->term);
        }
}

void requests_overtaken(RaftEngine *engine, uint64_t index, uint64_t term) {
        for (RaftRequest *request; (request = find_entry(engine, index, term));)
                answer(request, request->index <= index ? RAFT_OUTCOME_UNKNOWN : RAFT_OUTCOME_NOT_DONE, request->index,
                       request->term);
}

/* RAFT_SUBMIT_TAKEN if an entry may be proposed now. */
static int may_submit(const RaftEngine *engine) {
        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (!engine_is_leader(engine))
                return RAFT_SUBMIT_NOT_LEADER;
        if (writer_error(engine->writer) < 0)
                return RAFT_SUBMIT_STORE_FAILING;
        if (engine->requests.n >= RAFT_REQUESTS_MAX)
                return RAFT_SUBMIT_BUSY;
        return RAFT_SUBMIT_TAKEN;
}

static int verdict_of(int code) {
        switch (code) {
        case 0:
                return RAFT_SUBMIT_TAKEN;
        case RAFT_NOTLEADER:
                return RAFT_SUBMIT_NOT_LEADER;
        case RAFT_CANTCHANGE:
                return RAFT_SUBMIT_BUSY;
        case RAFT_NOTFOUND:
        case RAFT_BADID:
                return RAFT_SUBMIT_NO_SUCH_MEMBER;
        default:
                return -ESHUTDOWN;
        }
}

/* Raft owns the batch and never looks at it; the bytes are copied out of the update. */
static int propose(RaftEngine *engine, LogEntryType type, const void *data, size_t size, RaftRequest *request) {
        struct raft_entry entry = {
                .term = engine->raft.current_term,
                .type = (enum raft_entry_type) type,
                .buf = { .base = (void *) data, .len = size },
                .batch = raft_malloc(1),
        };
        struct raft_event event = { .type = RAFT_SUBMIT, .submit = { .entries = &entry, .n = 1 } };

        if (!entry.batch)
                return -ENOMEM;
        /* Known before the step, in which callbacks may already ask for it. */
        request->kind = REQUEST_ENTRY;
        request->index = raft_last_index(&engine->raft) + 1;
        request->term = entry.term;
        int verdict = verdict_of(engine_step(engine, &event));
        if (verdict > RAFT_SUBMIT_TAKEN)
                raft_free(entry.batch);
        return verdict;
}

int raft_engine_submit(RaftEngine *engine, const void *data, size_t size, RaftCallback callback, void *userdata,
                       RaftRequest **ret_request) {
        RaftRequest *request;

        int verdict = may_submit(engine);
        if (verdict != RAFT_SUBMIT_TAKEN)
                return verdict;
        if (size > ENTRY_SIZE_MAX)
                return RAFT_SUBMIT_TOO_LARGE;
        int r = add_request(engine, REQUEST_ENTRY, callback, userdata, ret_request, &request);
        if (r < 0)
                return r;
        verdict = propose(engine, LOG_ENTRY_COMMAND, data, size, request);
        if (verdict != RAFT_SUBMIT_TAKEN)
                withdraw(request, ret_request);
        return verdict;
}

/* A leader is ready when an entry of its own term is committed: then all before it is, and only then may it change
 * members (Ongaro's errata: two leaders' changes that exclude each other could each find a majority). libraft appends
 * one only when it knows of something uncommitted. A lone voter has no rivals and needs none. */
void requests_begin_term(RaftEngine *engine) {
        static const uint8_t nothing[8];
        const LogEntry *last = raft_log_get(&engine->log, raft_last_index(&engine->raft));
        RaftRequest barrier = {};

        engine->ready_index = raft_last_index(&engine->raft);
        if (engine_is_lone_voter(engine) || (last && last->term == engine->raft.current_term))
                return;
        engine->ready_index++;
        (void) propose(engine, LOG_ENTRY_BARRIER, nothing, sizeof(nothing), &barrier);
}

/* ---- confirmations ---- */

int raft_engine_confirm(RaftEngine *engine, RaftCallback callback, void *userdata, RaftRequest **ret_request) {
        RaftRequest *request;

        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (!engine_is_leader(engine))
                return RAFT_SUBMIT_NOT_LEADER;
        if (engine->requests.n >= RAFT_REQUESTS_MAX)
                return RAFT_SUBMIT_BUSY;
        int r = add_request(engine, REQUEST_CONFIRM, callback, userdata, ret_request, &request);
        if (r < 0)
                return r;
        request->term = engine->raft.current_term;
        r = engine_defer(engine);
        if (r < 0) {
                withdraw(request, ret_request);
                return r;
        }
        return RAFT_SUBMIT_TAKEN;
}

static uint64_t confirmed_round(const RaftEngine *engine, uint64_t member_id) {
        if (member_id == engine->raft.id)
                return UINT64_MAX;
        for (size_t i = 0; i < engine->confirmations.n; i++)
                if (engine->confirmations.items[i].member_id == member_id)
                        return engine->confirmations.items[i].round;
        return 0;
}

static bool is_confirmed(const RaftEngine *engine, uint64_t round) {
        const struct raft_configuration *members = &engine->raft.configuration;
        unsigned voters = 0, confirmed = 0;

        for (unsigned i = 0; i < members->n; i++) {
                if (members->servers[i].role != RAFT_VOTER)
                        continue;
                voters++;
                if (confirmed_round(engine, members->servers[i].id) >= round)
                        confirmed++;
        }
        return confirmed > voters / 2;
}

static RaftRequest *find_confirmed(const RaftEngine *engine) {
        for (size_t i = 0; i < engine->requests.n; i++) {
                RaftRequest *request = engine->requests.items[i];
                if (request->kind == REQUEST_CONFIRM && request->round > 0 && is_confirmed(engine, request->round))
                        return request;
        }
        return NULL;
}

static void answer_confirmed(RaftEngine *engine) {
        for (RaftRequest *request; engine_is_ready(engine) && (request = find_confirmed(engine));)
                answer(request, RAFT_OUTCOME_DONE, engine->applied_index, engine->raft.current_term);
}

static void ask_voters(RaftEngine *engine, uint64_t round) {
        const struct raft_configuration *members = &engine->raft.configuration;

        for (unsigned i = 0; i < members->n; i++) {
                const struct raft_server *server = &members->servers[i];
                if (server->role != RAFT_VOTER || server->id == engine->raft.id)
                        continue;
                RaftOutboxItem *item = raft_outbox_item_new(engine->raft.id, server->id, server->address, NULL, NULL);
                if (!item)
                        continue;
                item->needs = engine->vote_sequence;
                item->message.kind = RAFT_MESSAGE_CONFIRM_ASK;
                item->message.term = engine->raft.current_term;
                item->message.round = round;
                raft_outbox_push(&engine->outbox, item);
        }
}

/* All requests that are there when a round begins share it; an answer to a round counts for every earlier one too. */
static bool begin_round(RaftEngine *engine, bool again) {
        bool wanted = false;

        for (size_t i = 0; i < engine->requests.n; i++) {
                RaftRequest *request = engine->requests.items[i];
                if (request->kind != REQUEST_CONFIRM || (request->round > 0 && !again))
                        continue;
                if (request->round == 0)
                        request->round = engine->next_round;
                wanted = true;
        }
        if (wanted)
                ask_voters(engine, engine->next_round++);
        return wanted;
}

void requests_turn(RaftEngine *engine, bool again) {
        if (!engine_is_ready(engine))
                return;
        if (begin_round(engine, again))
                engine_flush(engine);
        answer_confirmed(engine);
}

void requests_confirmed(RaftEngine *engine, uint64_t member_id, uint64_t round) {
        for (size_t i = 0; i < engine->confirmations.n; i++) {
                Confirmation *confirmation = &engine->confirmations.items[i];
                if (confirmation->member_id != member_id)
                        continue;
                if (confirmation->round < round)
                        confirmation->round = round;
                answer_confirmed(engine);
                return;
        }
        /* Without memory for it the round is repeated. */
        (void) array_append(&engine->confirmations, (&(Confirmation) { .member_id = member_id, .round = round }));
        answer_confirmed(engine);
}

/* ---- members ---- */

static int member_index(const struct raft_configuration *members, uint64_t id) {
        for (unsigned i = 0; i < members->n; i++)
                if (members->servers[i].id == id)
                        return (int) i;
        return -1;
}

/* The newest members with one change, encoded. 0, -ENOMEM, or -EINVAL: an address twice, or nobody would be left. */
static int encode_change(const RaftEngine *engine, uint64_t id, const char *address, RaftMemberRole role,
                         struct raft_buffer *ret) {
        const struct raft_configuration *members = &engine->raft.configuration;
        struct raft_configuration changed;
        int code = 0;

        raft_configuration_init(&changed);
        for (unsigned i = 0; i < members->n && code == 0; i++) {
                const struct raft_server *server = &members->servers[i];
                if (server->id == id && role == RAFT_MEMBER_NONE)
                        continue;
                code = raft_configuration_add(&changed, server->id, server->address,
                                              server->id == id ? (int) role : server->role);
        }
        if (code == 0 && member_index(members, id) < 0)
                code = raft_configuration_add(&changed, id, address, (int) role);
        if (code == 0 && changed.n == 0)
                code = RAFT_INVALID;
        if (code == 0)
                code = raft_configuration_encode(&changed, ret);
        raft_configuration_close(&changed);
        return code == 0 ? 0 : code == RAFT_NOMEM ? -ENOMEM : -EINVAL;
}

static int propose_change(RaftEngine *engine, uint64_t id, const char *address, RaftMemberRole role,
                          RaftRequest *request) {
        struct raft_buffer members;

        int r = encode_change(engine, id, address, role, &members);
        if (r < 0)
                return r;
        r = propose(engine, LOG_ENTRY_CHANGE, members.base, members.len, request);
        raft_free(members.base);
        return r;
}

static int begin_promotion(RaftEngine *engine, uint64_t id, RaftRequest *request) {
        struct raft_event event = { .type = RAFT_CATCH_UP, .catch_up.server_id = id };

        request->member_id = id;
        return verdict_of(engine_step(engine, &event));
}

int raft_engine_change_member(RaftEngine *engine, uint64_t id, const char *address, RaftMemberRole role,
                              RaftCallback callback, void *userdata, RaftRequest **ret_request) {
        RaftRequest *request;

        if (id == 0)
                return RAFT_SUBMIT_NO_SUCH_MEMBER;
        int verdict = may_submit(engine);
        if (verdict != RAFT_SUBMIT_TAKEN)
                return verdict;
        /* A leader stays a voter: were it alone to know that it is none, it would neither lead again nor, with its
         * longer log, let others lead. */
        if (!engine_is_ready(engine) || (id == engine->raft.id && role != RAFT_MEMBER_VOTER))
                return RAFT_SUBMIT_BUSY;
        if (engine->raft.configuration_uncommitted_index > 0 || engine->raft.leader_state.promotee_id != 0 ||
            find_kind(engine, REQUEST_PROMOTION))
                return RAFT_SUBMIT_BUSY;
        int at = member_index(&engine->raft.configuration, id);
        if (at < 0 ? role == RAFT_MEMBER_NONE || role == RAFT_MEMBER_VOTER || !address
                   : engine->raft.configuration.servers[at].role == (int) role)
                return RAFT_SUBMIT_NO_SUCH_MEMBER;

        /* One that has all already is not waited for: libraft would only look again at its next step forward. */
        raft_index match = 0;
        (void) raft_match_index(&engine->raft, id, &match);
        bool promotion = role == RAFT_MEMBER_VOTER && match < raft_last_index(&engine->raft);
        int r = add_request(engine, promotion ? REQUEST_PROMOTION : REQUEST_ENTRY, callback, userdata, ret_request,
                            &request);
        if (r < 0)
                return r;
        verdict = promotion ? begin_promotion(engine, id, request) : propose_change(engine, id, address, role, request);
        if (verdict != RAFT_SUBMIT_TAKEN)
                withdraw(request, ret_request);
        return verdict;
}

static void follow_promotion(RaftEngine *engine, RaftRequest *request) {
        int status = RAFT_CATCH_UP_ABORTED;

        /* The request turns into one for an entry first, for proposing steps, and each step comes here. */
        if (raft_catch_up(&engine->raft, request->member_id, &status) == 0 && status == RAFT_CATCH_UP_RUNNING)
                return;
        request->kind = REQUEST_ENTRY;
        if (status != RAFT_CATCH_UP_FINISHED ||
            propose_change(engine, request->member_id, NULL, RAFT_MEMBER_VOTER, request) != RAFT_SUBMIT_TAKEN)
                answer(request, RAFT_OUTCOME_NOT_DONE, 0, engine->raft.current_term);
}

/* libraft tells a voter that is still behind to take over as soon as it has any more entries; the voter ignores that,
 * and is not told again. So only one that has all is asked; the next one each time, for it may be down. Returns its id,
 * or 0. */
static uint64_t find_successor(const RaftEngine *engine, uint64_t id) {
        const struct raft_configuration *members = &engine->raft.configuration;
        int last = member_index(members, engine->successor);

        for (unsigned i = 0; i < members->n; i++) {
                const struct raft_server *server = &members->servers[(i + (unsigned) (last + 1)) % members->n];
                raft_index match = 0;
                if (server->id == engine->raft.id || server->role != RAFT_VOTER || (id > 0 && server->id != id))
                        continue;
                if (raft_match_index(&engine->raft, server->id, &match) == 0 && match == raft_log_last(&engine->log))
                        return server->id;
        }
        return 0;
}

int raft_engine_transfer(RaftEngine *engine, uint64_t id) {
        struct raft_event event = { .type = RAFT_TRANSFER };

        if (engine->stopped || !engine->started)
                return -ESHUTDOWN;
        if (!engine_is_leader(engine))
                return RAFT_SUBMIT_NOT_LEADER;
        int at = member_index(&engine->raft.configuration, id);
        if (id == engine->raft.id || (id > 0 && (at < 0 || engine->raft.configuration.servers[at].role != RAFT_VOTER)))
                return RAFT_SUBMIT_NO_SUCH_MEMBER;
        event.transfer.server_id = find_successor(engine, id);
        if (event.transfer.server_id == 0)
                return RAFT_SUBMIT_BUSY;
        engine->successor = event.transfer.server_id;
        return verdict_of(engine_step(engine, &event));
}

void requests_hand_over(RaftEngine *engine) {
        const uint64_t first_us = RAFT_PATIENCE_MS * UINT64_C(1000), last_us = RAFT_PATIENCE_MAX_MS * UINT64_C(1000);
        uint64_t now_us = engine_now_us(engine), patience_us = engine->patience_us ? engine->patience_us : first_us;

        if (engine->failing_since_us == 0 || now_us - engine->failing_since_us < patience_us ||
            raft_engine_transfer(engine, 0) != RAFT_SUBMIT_TAKEN)
                return;
        engine->failing_since_us = now_us;
        engine->patience_us = patience_us < last_us / 2 ? patience_us * 2 : last_us;
}

void requests_follow_state(RaftEngine *engine) {
        RaftRequest *request;

        if (engine->stopped)
                return;
        if (!engine_is_leader(engine)) {
                engine->confirmations.n = 0;
                while ((request = find_kind(engine, REQUEST_CONFIRM)))
                        answer(request, RAFT_OUTCOME_NOT_DONE, 0, request->term);
                while ((request = find_kind(engine, REQUEST_PROMOTION)))
                        answer(request, RAFT_OUTCOME_NOT_DONE, 0, engine->raft.current_term);
                return;
        }
        request = find_kind(engine, REQUEST_PROMOTION);
        if (request)
                follow_promotion(engine, request);
        request = find_kind(engine, REQUEST_CONFIRM);
        if (request && request->round == 0 && engine_is_ready(engine))
                (void) engine_defer(engine);
}
