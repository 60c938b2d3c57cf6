/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/electors.h"

#include <errno.h>

#include "daemon/node-id.h"
#include "daemon/seats.h"
#include "util/log.h"

#define LOOK_US 1000000U                /* silence grows without an event */
#define RETRY_US 500000U

typedef ARRAY(Elector) ElectorRow;

void electors_clear(Electors *electors) {
        raft_request_free(electors->change);
        electors->change = NULL;
}

static ElectorRole role_from(RaftMemberRole role) {
        switch (role) {
        case RAFT_MEMBER_STANDBY:
                return ELECTOR_STANDBY;
        case RAFT_MEMBER_VOTER:
                return ELECTOR_VOTER;
        case RAFT_MEMBER_SPARE:
                return ELECTOR_SPARE;
        case RAFT_MEMBER_NONE:
                break;
        }
        return ELECTOR_NONE;
}

static RaftMemberRole role_to(ElectorRole role) {
        switch (role) {
        case ELECTOR_NONE:
                return RAFT_MEMBER_NONE;
        case ELECTOR_SPARE:
                return RAFT_MEMBER_SPARE;
        case ELECTOR_STANDBY:
                return RAFT_MEMBER_STANDBY;
        case ELECTOR_VOTER:
                return RAFT_MEMBER_VOTER;
        }
        return RAFT_MEMBER_NONE;
}

static Elector *find(ElectorRow *row, const NodeId *node) {
        ARRAY_EACH(elector, row)
                if (ID_EQUAL(&elector->node, node))
                        return elector;
        return NULL;
}

static int add(const Electors *electors, ElectorRow *row, const NodeId *node, uint64_t now_us) {
        uint64_t silent_us = lives_silent_us(electors->lives, node, now_us);
        return array_append(row, (&(Elector) { .node = *node, .alive = silent_us == 0, .silent_us = silent_us }));
}

/* The registry's members, and who is left in the engine of those that are none any more. */
static int list(const Electors *electors, uint64_t now_us, ElectorRow *ret) {
        Seats seats;
        seats_get(history_engine(electors->history), &seats);
        int r = 0;
        ARRAY_EACH(node, &history_registry(electors->history)->nodes)
                if (r >= 0)
                        r = add(electors, ret, &node->id, now_us);
        for (size_t i = 0; r >= 0 && i < seats.n; i++) {
                NodeId id;
                if (id_from_text(seats.members[i].address, id.bytes) < 0)
                        continue;
                Elector *elector = find(ret, &id);
                if (!elector)
                        r = add(electors, ret, &id, now_us);
                elector = find(ret, &id);
                if (!elector)
                        continue;
                elector->role = role_from(seats.members[i].role);
                elector->caught_up = raft_engine_keeps_up(history_engine(electors->history), seats.members[i].id);
        }
        return r;
}

static void on_changed(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        Electors *electors = userdata;
        raft_request_free(electors->change);
        electors->change = NULL;
        if (outcome != RAFT_OUTCOME_DONE) {
                uint64_t now = 0;
                (void) sd_event_now(electors->event, CLOCK_BOOTTIME, &now);
                electors->not_before_us = now + RETRY_US;
        }
        electors->decided(electors->userdata);
}

static const char *role_to_text(ElectorRole role) {
        switch (role) {
        case ELECTOR_NONE:
                return "no member";
        case ELECTOR_SPARE:
                return "spare";
        case ELECTOR_STANDBY:
                return "standby";
        case ELECTOR_VOTER:
                return "voter";
        }
        return "";
}

static int carry_out(Electors *electors, const ElectorateChange *change) {
        RaftEngine *engine = history_engine(electors->history);
        const NodeRecord *record = registry_find_node(history_registry(electors->history), &change->node);
        char address[ID_TEXT_SIZE];
        id_to_text(change->node.bytes, address);
        const char *name = record ? record->name : address;
        int r;
        switch (change->step) {
        case ELECTORATE_IDLE:
                return RAFT_SUBMIT_TAKEN;
        case ELECTORATE_TRANSFER:
                r = raft_engine_transfer(engine, node_id_to_raft(&change->node));
                if (r == RAFT_SUBMIT_TAKEN)     /* else it is tried again, and again */
                        log_info("handing the lead to node %s", name);
                return r;
        case ELECTORATE_ASSIGN:
                r = raft_engine_change_member(engine, node_id_to_raft(&change->node), address, role_to(change->role),
                                              on_changed, electors, &electors->change);
                if (r == RAFT_SUBMIT_TAKEN)
                        log_info("node %s becomes %s of the registry", name, role_to_text(change->role));
                return r;
        }
        return -EINVAL;
}

int electors_turn(Electors *electors, uint64_t now_us, uint64_t *ret_wake_us) {
        ElectorRow row = {};
        ElectorateChange change = {};
        *ret_wake_us = UINT64_MAX;
        if (electors->change || !history_leads(electors->history))
                return 0;
        *ret_wake_us = now_us + LOOK_US;
        if (now_us < electors->not_before_us) {
                *ret_wake_us = electors->not_before_us;
                return 0;
        }
        int r = list(electors, now_us, &row);
        if (r >= 0) {
                Electorate electorate = { .registry = history_registry(electors->history), .electors = row.items,
                                          .n_electors = row.n, .self = electors->node,
                                          .replace_after_us = electors->replace_after_us };
                r = electorate_next(&electorate, &change);
        }
        array_clear(&row);
        if (r < 0 || change.step == ELECTORATE_IDLE)
                return r;
        r = carry_out(electors, &change);
        if (r != RAFT_SUBMIT_TAKEN || change.step == ELECTORATE_TRANSFER)
                electors->not_before_us = *ret_wake_us = now_us + RETRY_US;
        return r == -ENOMEM ? r : 0;
}
