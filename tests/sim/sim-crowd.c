/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-crowd.h"

#include <inttypes.h>
#include <raft.h>
#include <string.h>

/* ---- commands */

/* Copies what is true now, so that commands go on to make sense after some were lost. */
static void renew_chronicle(SimCrowd *crowd) {
        _cleanup_free_ uint8_t *bytes = NULL;
        Registry *copy = NULL;
        size_t size;

        g_assert_cmpint(registry_encode(crowd->judge->registry, &bytes, &size), ==, 0);
        g_assert_cmpint(registry_decode(bytes, size, &copy), ==, SNAPSHOT_GOOD);
        registry_free(crowd->chronicle.registry);
        crowd->chronicle.registry = copy;
}

static void tell_next(SimCrowd *crowd) {
        static const char *const names[] = { "a", "b", "c" };
        Chronicle *c = &crowd->chronicle;
        unsigned n_nodes = (unsigned) c->registry->nodes.n;

        if (id_is_null(c->registry->cluster.bytes))
                (void) tell_init(c, "lab");
        else if (n_nodes < 3)
                (void) tell_node(c, n_nodes + 1, names[n_nodes], 1, "boot-1");
        else if (!registry_find_pool(c->registry, "training") && sim_chance(crowd->time, 50))
                (void) tell_pool(c, "training", 1, 4);
        else
                tell_anything(c, crowd->random);
}

/* The log of a chronicle has each entry behind its size. */
static GByteArray *make_command(SimCrowd *crowd, const SimOrder *order) {
        Chronicle *c = &crowd->chronicle;

        if (order->number % 16 == 0)
                renew_chronicle(crowd);
        do {
                g_byte_array_set_size(c->log, 0);
                c->index = crowd->judge->wishes.n;
                tell_next(crowd);
        } while (c->log->len == 0);
        size_t size = c->log->data[0] | (size_t) c->log->data[1] << 8;
        return g_byte_array_append(g_byte_array_new(), c->log->data + 2, (guint) size);
}

/* At a level that it does not know a service stops, as it should; here that would end the world. */
static void stay_within_our_level(Entry *entry) {
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_SET_LEVEL && entry->set_level->level > LEVEL_SUPPORTED)
                entry->set_level->level = LEVEL_SUPPORTED;
        if (entry->command_case == GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER &&
            entry->init_cluster->level > LEVEL_SUPPORTED)
                entry->init_cluster->level = LEVEL_SUPPORTED;
}

/* The same command under the order's request id and the submission's time. */
static uint8_t *stamp(const GByteArray *command, const SimWish *wish, size_t *ret_size) {
        _cleanup_(entry_freep) Entry *entry = NULL;
        RequestId id = REQUEST(wish->order->number);
        uint8_t *bytes = NULL;

        g_assert_cmpint(entry_decode(command->data, command->len, &entry), ==, ENTRY_GOOD);
        stay_within_our_level(entry);
        ProtobufCBinaryData own = entry->request_id;
        entry->request_id = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id.bytes };
        entry->time_ms = SIM_WISH_TIME + wish->number;
        g_assert_cmpint(entry_encode(entry, &bytes, ret_size), ==, 0);
        entry->request_id = own;
        return bytes;
}

/* ---- clients */

static void turn_in(SimClient *client, uint64_t least_us, uint64_t most_us) {
        SimTime *time = client->crowd->time;
        sim_alarm_set(time, &client->turn, time->now_us + sim_between(time, least_us, most_us));
}

static void stop_waiting(SimClient *client) {
        sim_alarm_unset(client->crowd->time, &client->deadline);
        client->call->client = NULL;
        client->call = NULL;
}

static void order_is_over(SimClient *client) {
        if (client->command)
                g_byte_array_unref(client->command);
        client->command = NULL;
        client->order = NULL;
        client->n_tries = 0;
        if (!client->crowd->is_calm)
                turn_in(client, 1 * MS, client->crowd->think_us);
}

/* Another try of the same order. Once all is calm nobody gives up. */
static void try_again(SimClient *client, uint64_t most_us) {
        client->n_tries++;
        if (!client->crowd->is_calm && client->n_tries > 20) {
                order_is_over(client);
                return;
        }
        turn_in(client, 1 * MS, most_us);
}

static void on_answer(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        SimCall *call = userdata;
        SimClient *client = call->client;
        SimTime *time = call->crowd->time;

        sim_say(time, "m%u answers submission %" PRIu64 ": %s at %" PRIu64 " of term %" PRIu64, call->machine->number,
                call->wish->number, outcome == RAFT_OUTCOME_DONE ? "done" : outcome == RAFT_OUTCOME_NOT_DONE ?
                "not done" : "unknown", index, term);
        sim_judge_answered(call->crowd->judge, call->wish, outcome, index, term);
        if (!client)
                return;
        stop_waiting(client);
        if (outcome == RAFT_OUTCOME_DONE && !(sim_chance(time, 3) && !call->crowd->is_calm))
                order_is_over(client);
        else
                try_again(client, 100 * MS);
}

static SimMachine *choose_machine(SimClient *client) {
        SimCrowd *crowd = client->crowd;
        SimMachine *machine = client->hint;

        client->hint = NULL;
        return machine ? machine : crowd->machines + sim_pick(crowd->time, crowd->n_machines);
}

static void submit(SimClient *client, SimMachine *machine) {
        SimCrowd *crowd = client->crowd;
        SimWish *wish = sim_judge_wish(crowd->judge, client->order);
        size_t size;
        _cleanup_free_ uint8_t *bytes = stamp(client->command, wish, &size);
        SimCall *call = g_new0(SimCall, 1);

        *call = (SimCall) {
                .crowd = crowd,
                .wish = wish,
                .machine = machine,
                .life = machine->life,
                .client = client,
        };
        g_assert_cmpint(array_append(&crowd->calls, &call), ==, 0);
        client->call = call;
        int r = raft_engine_submit(machine->engine, bytes, size, on_answer, call, &call->request);
        if (r == RAFT_SUBMIT_TAKEN) {
                sim_say(crowd->time, "client %u submits %" PRIu64 " (order %u) at m%u", client->number, wish->number,
                        client->order ? client->order->number : 0, machine->number);
                if (client->call)
                        sim_alarm_set(crowd->time, &client->deadline,
                                      crowd->time->now_us + sim_between(crowd->time, 100 * MS, 4 * SECOND));
                return;
        }
        if (r < 0)
                sim_broken(crowd->time, "m%u refuses a submission: %s", machine->number, g_strerror(-r));
        sim_judge_refused(crowd->judge, wish);
        call->request = NULL;
        stop_waiting(client);
        if (r == RAFT_SUBMIT_NOT_LEADER)
                client->hint = sim_machine_by_id(machine, sim_machine_status(machine).leader_id);
        try_again(client, 100 * MS);
}

static void on_turn(void *userdata) {
        SimClient *client = userdata;
        SimCrowd *crowd = client->crowd;

        if (!client->order) {
                client->order = sim_judge_order(crowd->judge);
                client->command = make_command(crowd, client->order);
        }
        SimMachine *machine = choose_machine(client);
        if (sim_machine_responds(machine))
                submit(client, machine);
        else
                try_again(client, 50 * MS);
}

/* Its time is up: it lets go, or goes on waiting beside its next try, or beside something else. */
static void on_deadline(void *userdata) {
        SimClient *client = userdata;
        SimCrowd *crowd = client->crowd;
        SimCall *call = client->call;

        sim_say(crowd->time, "client %u waits no longer for submission %" PRIu64, client->number, call->wish->number);
        if (sim_chance(crowd->time, 50))
                call->request = raft_request_free(call->request);
        stop_waiting(client);
        if (crowd->is_calm || sim_chance(crowd->time, 70)) {
                crowd->judge->visits.repeated++;
                try_again(client, 50 * MS);
        } else {
                order_is_over(client);
        }
}

void sim_crowd_machine_is_down(SimCrowd *crowd, SimMachine *machine) {
        ARRAY_EACH(item, &crowd->calls) {
                SimCall *call = *item;
                if (call->machine != machine || call->life != machine->life)
                        continue;
                call->request = raft_request_free(call->request);
                SimClient *client = call->client;
                if (!client)
                        continue;
                stop_waiting(client);
                crowd->judge->visits.repeated++;
                try_again(client, 200 * MS);
        }
}

/* ---- confirmations */

static void on_confirmed(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        SimQuestion *question = userdata;
        SimJudge *judge = question->machine->judge;

        sim_say(judge->time, "m%u %s term %" PRIu64 " at %" PRIu64 ", asked at %.6f", question->machine->number,
                outcome == RAFT_OUTCOME_DONE ? "confirms" : "does not confirm", term, index,
                (double) question->asked_us / (double) SECOND);
        sim_judge_confirmed(judge, question, outcome, index, term);
}

static void on_confirm_turn(void *userdata) {
        SimCrowd *crowd = userdata;

        for (unsigned i = 0; i < crowd->n_machines; i++) {
                SimMachine *machine = crowd->machines + i;
                if (!sim_machine_responds(machine) || !sim_machine_status(machine).is_leader)
                        continue;
                SimQuestion *question = sim_judge_asked(crowd->judge, machine);
                int r = raft_engine_confirm(machine->engine, on_confirmed, question, NULL);
                if (r != RAFT_SUBMIT_TAKEN)
                        sim_broken(crowd->time, "m%u leads and is not asked: %d", machine->number, r);
        }
        sim_alarm_set(crowd->time, &crowd->confirm, crowd->time->now_us + sim_between(crowd->time, MS, 200 * MS));
}

/* ---- members */

static void on_change_done(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term) {
        SimMachine *machine = userdata;

        sim_say(machine->time, "m%u: the change of members is %s at %" PRIu64, machine->number,
                outcome == RAFT_OUTCOME_DONE ? "done" : "not done", index);
        sim_judge_changed(machine->judge, machine, outcome, index, term);
}

static RaftMemberRole choose_role(SimCrowd *crowd, RaftMemberRole now, unsigned n_voters) {
        SimTime *time = crowd->time;

        switch (now) {
        case RAFT_MEMBER_NONE:
                return sim_chance(time, 80) ? RAFT_MEMBER_STANDBY : RAFT_MEMBER_SPARE;
        case RAFT_MEMBER_VOTER:
                if (n_voters <= crowd->n_voters_least)
                        return now;
                return sim_chance(time, 60) ? RAFT_MEMBER_NONE :
                       sim_chance(time, 70) ? RAFT_MEMBER_STANDBY : RAFT_MEMBER_SPARE;
        case RAFT_MEMBER_STANDBY:
        case RAFT_MEMBER_SPARE:
                if (n_voters < crowd->n_voters_most && sim_chance(time, 75))
                        return RAFT_MEMBER_VOTER;
                return sim_chance(time, 50) ? RAFT_MEMBER_NONE :
                       now == RAFT_MEMBER_SPARE ? RAFT_MEMBER_STANDBY : RAFT_MEMBER_SPARE;
        }
        return now;
}

static void change_members(SimCrowd *crowd, SimMachine *leader) {
        static const char *const names[] = { "standby", "voter", "spare", "none" };
        SimMachine *machine = crowd->machines + sim_pick(crowd->time, crowd->n_machines);
        RaftMember members[SIM_MACHINES_MAX];
        RaftMemberRole now = RAFT_MEMBER_NONE;

        size_t n = raft_engine_get_members(leader->engine, members, SIM_MACHINES_MAX);
        for (size_t i = 0; i < n && i < SIM_MACHINES_MAX; i++)
                if (members[i].id == machine->id)
                        now = members[i].role;
        RaftMemberRole role = choose_role(crowd, now, (unsigned) sim_machine_status(leader).n_voters);
        if (role == now)
                return;
        int r = raft_engine_change_member(leader->engine, machine->id, machine->address, role, on_change_done, leader,
                                          NULL);
        sim_say(crowd->time, "m%u is to make m%u %s, was %s: %d", leader->number, machine->number, names[role],
                names[now], r);
        if (r < 0)
                sim_broken(crowd->time, "m%u refuses a change of members: %s", leader->number, g_strerror(-r));
        if (r == RAFT_SUBMIT_TAKEN && role == RAFT_MEMBER_VOTER)
                crowd->judge->visits.promotions++;
        if (r == RAFT_SUBMIT_TAKEN && role == RAFT_MEMBER_NONE)
                crowd->judge->visits.removals++;
}

static void hand_over(SimCrowd *crowd, SimMachine *leader) {
        SimMachine *to = crowd->machines + sim_pick(crowd->time, crowd->n_machines);

        int r = raft_engine_transfer(leader->engine, sim_chance(crowd->time, 50) ? 0 : to->id);
        sim_say(crowd->time, "m%u is to hand over: %d", leader->number, r);
        if (r < 0)
                sim_broken(crowd->time, "m%u cannot hand over: %s", leader->number, g_strerror(-r));
        if (r == RAFT_SUBMIT_TAKEN)
                crowd->judge->visits.transfers++;
}

/* At any machine that holds itself for the leader. */
static void on_change_turn(void *userdata) {
        SimCrowd *crowd = userdata;
        unsigned first = sim_pick(crowd->time, crowd->n_machines);

        for (unsigned i = 0; i < crowd->n_machines; i++) {
                SimMachine *machine = crowd->machines + (first + i) % crowd->n_machines;
                if (!sim_machine_responds(machine) || !sim_machine_status(machine).is_leader)
                        continue;
                if (crowd->hands_over && sim_chance(crowd->time, 15))
                        hand_over(crowd, machine);
                else
                        change_members(crowd, machine);
                break;
        }
        sim_alarm_set(crowd->time, &crowd->change,
                      crowd->time->now_us + sim_between(crowd->time, MS, crowd->change_us));
}

void sim_crowd_machine_changed(SimCrowd *crowd, SimMachine *machine) {
        if (crowd->change_us > 0 && !crowd->is_calm && sim_machine_status(machine).is_leader &&
            sim_chance(crowd->time, 50))
                sim_alarm_set(crowd->time, &crowd->change,
                              crowd->time->now_us + sim_between(crowd->time, 1, 20 * MS));
}

/* ---- snapshots */

static void on_snapshot_turn(void *userdata) {
        SimCrowd *crowd = userdata;

        for (unsigned i = 0; i < crowd->n_machines; i++) {
                SimMachine *machine = crowd->machines + i;
                if (sim_machine_responds(machine) &&
                    sim_machine_status(machine).log_entries > crowd->snapshot_entries && sim_chance(crowd->time, 50))
                        sim_machine_take_snapshot(machine);
        }
        sim_alarm_set(crowd->time, &crowd->snapshot,
                      crowd->time->now_us + sim_between(crowd->time, MS, crowd->snapshot_us));
}

/* ---- all of them */

void sim_crowd_init(SimCrowd *crowd, SimTime *time, SimJudge *judge, SimMachine *machines, unsigned n_machines,
                    uint64_t seed) {
        *crowd = (SimCrowd) {
                .time = time,
                .judge = judge,
                .machines = machines,
                .n_machines = n_machines,
                .chronicle = chronicle_empty(),
                .random = g_rand_new_with_seed((guint32) seed),
                .confirm = { .ring = on_confirm_turn, .userdata = crowd },
                .change = { .ring = on_change_turn, .userdata = crowd },
                .snapshot = { .ring = on_snapshot_turn, .userdata = crowd },
                .think_us = 200 * MS,
                .snapshot_us = 500 * MS,
                .snapshot_entries = 64,
        };
        crowd->chronicle.quick = true;
        crowd->chronicle.log = g_byte_array_new();
        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                SimClient *client = crowd->clients + i;
                *client = (SimClient) { .crowd = crowd, .number = i };
                client->turn = (SimAlarm) { .ring = on_turn, .userdata = client };
                client->deadline = (SimAlarm) { .ring = on_deadline, .userdata = client };
        }
}

void sim_crowd_start(SimCrowd *crowd) {
        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                turn_in(crowd->clients + i, i, crowd->think_us);
        sim_alarm_set(crowd->time, &crowd->confirm, 100 * MS);
        sim_alarm_set(crowd->time, &crowd->snapshot, 100 * MS);
        if (crowd->change_us > 0)
                sim_alarm_set(crowd->time, &crowd->change, crowd->change_us);
}

void sim_crowd_clear(SimCrowd *crowd) {
        GByteArray *log = crowd->chronicle.log;

        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                SimClient *client = crowd->clients + i;
                if (client->command)
                        g_byte_array_unref(client->command);
                sim_alarm_unset(crowd->time, &client->turn);
                sim_alarm_unset(crowd->time, &client->deadline);
        }
        sim_alarm_unset(crowd->time, &crowd->confirm);
        sim_alarm_unset(crowd->time, &crowd->change);
        sim_alarm_unset(crowd->time, &crowd->snapshot);
        ARRAY_EACH(call, &crowd->calls) {
                raft_request_free((*call)->request);
                g_free(*call);
        }
        array_clear(&crowd->calls);
        chronicle_clear(&crowd->chronicle);
        g_byte_array_unref(log);
        g_rand_free(crowd->random);
}

void sim_crowd_calm(SimCrowd *crowd) {
        crowd->is_calm = true;
        sim_alarm_unset(crowd->time, &crowd->change);
        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                if (!crowd->clients[i].order)
                        sim_alarm_unset(crowd->time, &crowd->clients[i].turn);
}

/* By the leader's word: one that is no member any more is not told so, nor anything else. */
static bool has_the_log(const SimMachine *machine) {
        const SimMachine *leader = sim_machine_leader(machine);
        RaftMember members[SIM_MACHINES_MAX];

        size_t n = leader ? raft_engine_get_members(leader->engine, members, SIM_MACHINES_MAX) : 0;
        for (size_t i = 0; i < n && i < SIM_MACHINES_MAX; i++)
                if (members[i].id == machine->id)
                        return members[i].role == RAFT_MEMBER_VOTER || members[i].role == RAFT_MEMBER_STANDBY;
        return false;
}

const SimWish *sim_crowd_waits_for(const SimCrowd *crowd, const SimMachine **ret_at) {
        ARRAY_EACH(item, &crowd->calls) {
                const SimCall *call = *item;
                if (!call->request || call->wish->state != SIM_WISH_OPEN || !has_the_log(call->machine))
                        continue;
                *ret_at = call->machine;
                return call->wish;
        }
        return NULL;
}

bool sim_crowd_is_served(const SimCrowd *crowd) {
        const SimMachine *at;

        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                if (crowd->clients[i].order)
                        return false;
        return !sim_crowd_waits_for(crowd, &at);
}

SimOrder *sim_crowd_last_order(SimCrowd *crowd) {
        SimClient *client = crowd->clients;

        g_assert_null(client->order);
        client->order = sim_judge_order(crowd->judge);
        client->command = make_command(crowd, client->order);
        turn_in(client, 1, 1 * MS);
        return client->order;
}
