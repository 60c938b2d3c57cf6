/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim-network.h"

#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LATE_LEAST_US (200 * MS)
#define LATE_MOST_US (4 * SECOND)

struct SimLetter {
        SimNetwork *network;
        SimLetter *next, **at;
        SimAlarm alarm;
        unsigned to;
        unsigned n_more;                /* copies to come */
        RaftMessage message;
        struct raft_message core;
        char *address;
};

static void letter_free(SimLetter *letter) {
        if (letter->message.core && letter->core.type == RAFT_APPEND_ENTRIES) {
                for (unsigned i = 0; i < letter->core.append_entries.n_entries; i++)
                        g_free(letter->core.append_entries.entries[i].buf.base);
                g_free(letter->core.append_entries.entries);
        }
        if (letter->message.core && letter->core.type == RAFT_INSTALL_SNAPSHOT) {
                raft_configuration_close(&letter->core.install_snapshot.conf);
                g_free(letter->core.install_snapshot.data.base);
        }
        sim_alarm_unset(letter->network->time, &letter->alarm);
        *letter->at = letter->next;
        if (letter->next)
                letter->next->at = letter->at;
        g_free(letter->address);
        g_free(letter);
}

static void copy_core(SimLetter *letter, const struct raft_message *core) {
        letter->core = *core;
        letter->core.server_id = 0;
        letter->core.server_address = NULL;
        letter->message.core = &letter->core;
        if (core->type == RAFT_APPEND_ENTRIES) {
                struct raft_append_entries *append = &letter->core.append_entries;
                append->entries = g_memdup2(append->entries, append->n_entries * sizeof(*append->entries));
                for (unsigned i = 0; i < append->n_entries; i++)
                        append->entries[i].buf.base = g_memdup2(append->entries[i].buf.base,
                                                                append->entries[i].buf.len);
        }
        if (core->type == RAFT_INSTALL_SNAPSHOT) {
                struct raft_install_snapshot *install = &letter->core.install_snapshot;
                raft_configuration_init(&install->conf);
                for (unsigned i = 0; i < core->install_snapshot.conf.n; i++) {
                        const struct raft_server *server = &core->install_snapshot.conf.servers[i];
                        g_assert_cmpint(raft_configuration_add(&install->conf, server->id, server->address,
                                                               server->role), ==, 0);
                }
                install->data.base = g_memdup2(install->data.base, install->data.len);
        }
}

/* Not part of the trace: only for eyes. */
static void tell(const SimLetter *letter) {
        g_autofree char *text = sim_message_text(&letter->message);
        printf("# %10.6f   %s -> m%u %s\n", (double) letter->network->time->now_us / (double) SECOND, letter->address,
               letter->to, text);
}

static void on_arrival(void *userdata) {
        SimLetter *letter = userdata;
        SimNetwork *network = letter->network;

        if (network->time->told > 1)
                tell(letter);
        uint64_t again_us = network->arrive(network->userdata, letter->to, &letter->message);
        if (again_us == 0 && letter->n_more > 0) {
                letter->n_more--;
                again_us = network->time->now_us + sim_between(network->time, 1, SECOND);
        }
        if (again_us > 0)
                sim_alarm_set(network->time, &letter->alarm, again_us);
        else
                letter_free(letter);
}

static uint64_t arrival_time(SimNetwork *network, unsigned from, unsigned to) {
        SimTime *time = network->time;
        uint64_t at_us = time->now_us + sim_between(time, network->least_us, network->most_us);

        if (sim_chance(time, network->late_percent))
                return at_us + sim_between(time, LATE_LEAST_US, LATE_MOST_US);
        if (network->in_order && at_us < network->last_us[from][to])
                at_us = network->last_us[from][to];
        network->last_us[from][to] = at_us;
        return at_us;
}

void sim_network_send(SimNetwork *network, unsigned from, unsigned to, const char *address,
                      const RaftMessage *message) {
        network->n_sent++;
        if (network->watch)
                network->watch(network->userdata, message);
        if (network->cut[from][to] || sim_chance(network->time, network->loss_percent)) {
                network->n_lost++;
                return;
        }
        SimLetter *letter = g_new0(SimLetter, 1);
        letter->network = network;
        letter->to = to;
        letter->alarm = (SimAlarm) { .ring = on_arrival, .userdata = letter };
        letter->address = g_strdup(address);
        letter->message = *message;
        letter->message.address = letter->address;
        if (message->core)
                copy_core(letter, message->core);
        letter->next = network->letters;
        letter->at = &network->letters;
        if (letter->next)
                letter->next->at = &letter->next;
        network->letters = letter;
        if (sim_chance(network->time, network->twice_percent)) {
                letter->n_more = 1;
                network->n_twice++;
        }
        sim_alarm_set(network->time, &letter->alarm, arrival_time(network, from, to));
}

void sim_network_clear(SimNetwork *network) {
        while (network->letters)
                letter_free(network->letters);
}

void sim_network_heal(SimNetwork *network) {
        memset(network->cut, 0, sizeof(network->cut));
}

void sim_network_calm(SimNetwork *network) {
        network->least_us = 100;
        network->most_us = 1 * MS;
        network->loss_percent = network->twice_percent = network->late_percent = 0;
        network->in_order = true;
}

const char *sim_message_name(const RaftMessage *message) {
        switch (message->kind) {
        case RAFT_MESSAGE_CORE:
                break;
        case RAFT_MESSAGE_CONFIRM_ASK:
                return "confirm-ask";
        case RAFT_MESSAGE_CONFIRM_ANSWER:
                return "confirm-answer";
        }
        switch (message->core->type) {
        case RAFT_APPEND_ENTRIES:
                return "append";
        case RAFT_APPEND_ENTRIES_RESULT:
                return "append-result";
        case RAFT_REQUEST_VOTE:
                return message->core->request_vote.pre_vote ? "pre-vote" : "vote";
        case RAFT_REQUEST_VOTE_RESULT:
                return message->core->request_vote_result.pre_vote ? "pre-vote-result" : "vote-result";
        case RAFT_INSTALL_SNAPSHOT:
                return "install";
        case RAFT_TIMEOUT_NOW:
                return "timeout-now";
        }
        return "?";
}

static char *core_text(const struct raft_message *core) {
        const struct raft_append_entries *append = &core->append_entries;
        const struct raft_append_entries_result *result = &core->append_entries_result;

        switch (core->type) {
        case RAFT_APPEND_ENTRIES:
                return g_strdup_printf("term %llu, behind %llu^%llu %u entries, committed %llu", append->term,
                                       append->prev_log_index, append->prev_log_term, append->n_entries,
                                       append->leader_commit);
        case RAFT_APPEND_ENTRIES_RESULT:
                return g_strdup_printf("term %llu, rejected %llu, last %llu", result->term, result->rejected,
                                       result->last_log_index);
        case RAFT_REQUEST_VOTE:
                return g_strdup_printf("term %llu, last %llu^%llu", core->request_vote.term,
                                       core->request_vote.last_log_index, core->request_vote.last_log_term);
        case RAFT_REQUEST_VOTE_RESULT:
                return g_strdup_printf("term %llu, %s", core->request_vote_result.term,
                                       core->request_vote_result.vote_granted ? "yes" : "no");
        case RAFT_INSTALL_SNAPSHOT:
                return g_strdup_printf("term %llu, at %llu^%llu", core->install_snapshot.term,
                                       core->install_snapshot.last_index, core->install_snapshot.last_term);
        case RAFT_TIMEOUT_NOW:
                return g_strdup_printf("term %llu", core->timeout_now.term);
        }
        return g_strdup("?");
}

char *sim_message_text(const RaftMessage *message) {
        if (message->kind != RAFT_MESSAGE_CORE)
                return g_strdup_printf("%s: term %" PRIu64 ", round %" PRIu64, sim_message_name(message), message->term,
                                       message->round);
        g_autofree char *core = core_text(message->core);
        return g_strdup_printf("%s: %s", sim_message_name(message), core);
}
