/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/network.h"

#include <errno.h>
#include <stdio.h>
#include <systemd/sd-id128.h>

#include "core/names.h"
#include "util/log.h"
#include "util/wake.h"

#define KEY_FILE "key.pem"
#define LISTEN_RETRY_US 5000000U
#define DOUBT_RETRY_US 5000000U
#define DEAF_US 600000000U
#define GENERATION_BITS 20U             /* of gossip's generations, that are not a start's count */

static uint64_t now_us(const Network *network) {
        uint64_t now = 0;
        (void) sd_event_now(network->config.event, CLOCK_BOOTTIME, &now);
        return now;
}

/* Good until the end of the caller's block. */
#define name_of(network, node) name_in((network), (node), (char[ID_TEXT_SIZE]) {})

static const char *name_in(const Network *network, const NodeId *node, char room_for_hex[static ID_TEXT_SIZE]) {
        const NodeRecord *record = registry_find_node(history_registry(network->history), node);
        if (record)
                return record->name;
        id_to_text(node->bytes, room_for_hex);
        return room_for_hex;
}

static void changed(Network *network) {
        network->config.changed(network->config.userdata);
}

/* ---- what peers say */

static void on_up(const NodeId *node, const Gpupool1__Hello *hello, void *userdata) {
        Network *network = userdata;
        (void) lives_up(&network->lives, node);
        network->peers.connections++;
        changed(network);
}

static void on_down(const NodeId *node, const char *why, void *userdata) {
        Network *network = userdata;
        log_info("the connection with node %s is down: %s", name_of(network, node), why);
        (void) lives_down(&network->lives, node, now_us(network));
        network->peers.connections++;
        beats_forget(&network->beats, node);
        history_lead_changed(network->history);
        answers_lost(&network->answers, node);
        courier_lost(network->courier, node);
        calls_lost(&network->calls, node);
        changed(network);
}

static void on_beat(Network *network, const NodeId *node, const Gpupool1__Beat *beat) {
        int r = beats_note(&network->beats, node, beat);
        history_lead_changed(network->history);
        courier_beat(network->courier, node);
        if (r > 0)
                changed(network);
}

/* One that was removed is spoken to until it is out of the engine, and about nothing else. */
static bool asks_in_vain(const Network *network, const NodeId *node, const Gpupool1__Frame *frame) {
        return (frame->body_case == GPUPOOL1__FRAME__BODY_CALL || frame->body_case == GPUPOOL1__FRAME__BODY_FOLLOW ||
                frame->body_case == GPUPOOL1__FRAME__BODY_GOSSIP ||
                frame->body_case == GPUPOOL1__FRAME__BODY_LEASE_REQUEST ||
                frame->body_case == GPUPOOL1__FRAME__BODY_LEASE_ANSWER) &&
               registry_find_removed(history_registry(network->history), node);
}

static void on_frame(const NodeId *node, const Gpupool1__Frame *frame, void *userdata) {
        Network *network = userdata;
        if (asks_in_vain(network, node, frame))
                return;
        switch (frame->body_case) {
        case GPUPOOL1__FRAME__BODY_BEAT:
                on_beat(network, node, frame->beat);
                break;
        case GPUPOOL1__FRAME__BODY_GOSSIP:
                cluster_facts_heard(network->facts, node, frame->gossip);
                break;
        case GPUPOOL1__FRAME__BODY_RAFT:
                courier_raft(network->courier, node, frame->raft);
                break;
        case GPUPOOL1__FRAME__BODY_SNAPSHOT_PART:
                courier_part(network->courier, node, frame->snapshot_part);
                break;
        case GPUPOOL1__FRAME__BODY_FOLLOW:
                courier_follow(network->courier, node, frame->follow);
                break;
        case GPUPOOL1__FRAME__BODY_CALL:
                answers_asked(&network->answers, node, frame->call);
                break;
        case GPUPOOL1__FRAME__BODY_ANSWER:
                calls_answered(&network->calls, node, frame->answer);
                break;
        case GPUPOOL1__FRAME__BODY_LEASE_REQUEST:
                leases_asked(network->leases, node, frame->lease_request);
                break;
        case GPUPOOL1__FRAME__BODY_LEASE_ANSWER:
                leases_answered(network->leases, node, frame->lease_answer);
                break;
        case GPUPOOL1__FRAME__BODY_HELLO:
        case GPUPOOL1__FRAME__BODY_GOODBYE:
        case GPUPOOL1__FRAME__BODY_JOIN_REQUEST:
        case GPUPOOL1__FRAME__BODY_JOIN_ANSWER:
        case GPUPOOL1__FRAME__BODY__NOT_SET:
        case _GPUPOOL1__FRAME__BODY__CASE_IS_INT_SIZE:
                break;
        }
}

/* @lead's id is borrowed by the beat. */
static void fill_beat(const Network *network, Lead *lead, Gpupool1__Beat *beat) {
        RaftStatus status;
        history_status(network->history, &status);
        history_lead(network->history, lead);
        beat->term = status.term;
        if (!id_is_null(lead->leader.bytes))
                beat->leader = id_message_borrow(lead->leader.bytes);
        beat->ready = lead->is_local && lead->quorate;
        beat->hears_leader = lead->quorate && !lead->relayed;
        beat->committed = status.committed_index;
        beat->applied = status.applied_index;
        beat->member = status.is_member;
}

static void on_fill_beat(Gpupool1__Beat *beat, void *userdata) {
        static Lead lead;               /* borrowed until the loop goes on */
        fill_beat(userdata, &lead, beat);
}

static void on_writable(const NodeId *node, PeerStream stream, void *userdata) {
        Network *network = userdata;
        if (stream == PEER_STREAM_BULK)
                courier_writable(network->courier, node);
}

static void on_join_request(PeerStranger *stranger, const NodeId *node, const uint8_t key[static PEER_KEY_SIZE],
                            const Gpupool1__JoinRequest *request, void *userdata) {
        admission_asked(&((Network *) userdata)->admission, stranger, node, key, request);
}

static void on_stranger_gone(PeerStranger *stranger, void *userdata) {
        admission_stranger_gone(&((Network *) userdata)->admission, stranger);
}

static void on_removed(const NodeId *by, const char *sentence, void *userdata) {
        Network *network = userdata;
        bool deaf = ID_EQUAL(by, &network->accuser) && now_us(network) < network->deaf_until_us;
        if (network->peers.file.removed || deaf)
                return;
        network->accuser = *by;
        log_error("this node is no member of its cluster any more, says node %s: %s. Its VMs are stopped; gpupoolctl "
                  "cluster reset makes it a cluster of its own",
                  name_of(network, by), sentence);
        int r = peers_removed(&network->peers);
        if (r < 0)
                log_warning("that cannot be written down: %s", strerror(-r));
        changed(network);
}

static void on_doubted(bool confirmed, void *userdata) {
        Network *network = userdata;
        network->doubting = false;
        if (!confirmed || !network->peers.file.removed ||
            !registry_find_node(history_registry(network->history), &network->config.node))
                return;
        log_warning("this node is a member all the same, says the leader. Somebody lied: remove that node if this "
                    "happens again");
        int r = peers_readmitted(&network->peers);
        if (r < 0)
                log_warning("that cannot be written down: %s", strerror(-r));
        network->deaf_until_us = now_us(network) + DEAF_US;
        changed(network);
}

/* One peer's word made this node take itself for removed. Who really is removed is cut off by all and finds no leader;
 * where there is one, it is asked. */
static void doubt_removal(Network *network, uint64_t now, uint64_t *wake_us) {
        if (!network->peers.file.removed || network->doubting ||
            !registry_find_node(history_registry(network->history), &network->config.node))
                return;
        if (now >= network->doubt_not_before_us) {
                network->doubt_not_before_us = now + DOUBT_RETRY_US;
                network->doubting = history_confirm(network->history, on_doubted, network) >= 0;
        }
        if (network->doubt_not_before_us < *wake_us)
                *wake_us = network->doubt_not_before_us;
}

static const PeerCallbacks callbacks = {
        .up = on_up, .down = on_down, .frame = on_frame, .fill_beat = on_fill_beat, .writable = on_writable,
        .join_request = on_join_request, .stranger_gone = on_stranger_gone, .removed = on_removed,
};

/* ---- birth and death */

static int load_key(Network *network, char **reterr_sentence) {
        const char *directory = network->config.conf->state_directory;
        _cleanup_free_ char *path = NULL;
        int r = text_printf(&path, "%s/" KEY_FILE, directory);
        if (r < 0)
                return r;
        r = peer_key_load(path, &network->key);
        /* Only this key is known to the others: a new one would be a stranger's. */
        if (r == -ENOENT && network->peers.file.peers.n > 0) {
                r = text_printf(reterr_sentence,
                                "%s is not there, and the other nodes know this one by it: restore it from a backup of "
                                "this host, or have it removed (gpupoolctl node remove, on another node), move %s away "
                                "and join again",
                                path, directory);
                return r < 0 ? r : NETWORK_REFUSED;
        }
        if (r == -ENOENT)
                r = peer_key_create(path, &network->key);
        if (r == -EBADMSG) {
                r = text_printf(reterr_sentence, "%s is damaged: restore it from a backup of this host", path);
                return r < 0 ? r : NETWORK_REFUSED;
        }
        if (r < 0 && r != -ENOMEM) {
                (void) text_printf(reterr_sentence, "%s: %s", path, strerror(-r));
                return NETWORK_REFUSED;
        }
        return r;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static int load_peers(Network *network, char **reterr_sentence) {
        const char *directory = network->config.conf->state_directory;
        int r = peers_file_load(directory, &network->peers.file);
        if (r == -ENOENT)
                return NETWORK_READY;
        if (r == -EBADMSG) {
                r = text_printf(reterr_sentence,
                                "%s/" PEERS_FILE " is damaged: restore it from a backup of this host, or move it away "
                                "if registry.db is sound",
                                directory);
                return r < 0 ? r : NETWORK_REFUSED;
        }
        return r;
}

int network_init(Network *network, const NetworkConfig *config, char **reterr_sentence) {
        network->config = *config;
        network->peers = (Peers) { .state_directory = config->conf->state_directory, .node = config->node };
        int r = load_peers(network, reterr_sentence);
        if (r == NETWORK_READY)
                r = load_key(network, reterr_sentence);
        return r;
}

/* What this start says replaces what the last one said. Where the power went before the last one was counted, two have
 * the same count; then whichever draws the lower number finds the other one's words and outdoes them (core/gossip.h).
 * With the same number, equal versions would be taken for equal facts for ever. */
static int draw_generation(const History *history, uint64_t *ret) {
        sd_id128_t drawn;
        int r = sd_id128_randomize(&drawn);
        if (r < 0)
                return r;
        *ret = (history_starts(history) + 1) << GENERATION_BITS | (drawn.qwords[0] & ((1U << GENERATION_BITS) - 1));
        return 0;
}

static int make_parts(Network *network) {
        History *history = network->history;
        ClusterFactsConfig facts = { .node = network->config.node, .changed = network->config.changed,
                                     .userdata = network->config.userdata };
        CourierConfig courier = { .event = network->config.event, .history = history, .beats = &network->beats,
                                  .node = network->config.node };
        int r = draw_generation(history, &facts.generation);
        if (r >= 0)
                r = cluster_facts_new(&network->facts, network->config.event, &facts);
        if (r >= 0)
                r = courier_new(&network->courier, &courier);
        if (r < 0)
                return r;
        network->answers.history = history;
        network->answers.calls = &network->calls;
        network->lives.history = network->peers.history = network->admission.history = history;
        network->lives.facts = network->peers.facts = network->facts;
        network->lives.node = network->config.node;
        network->admission.key = network->key;
        network->admission.addresses = &network->addresses;
        network->electors.history = history;
        network->electors.lives = &network->lives;
        network->electors.node = network->config.node;
        network->electors.event = network->config.event;
        network->electors.replace_after_us = network->config.conf->replace_after_us;
        network->electors.decided = network->config.changed;
        network->electors.userdata = network->config.userdata;
        history_set_peers(history, &network->calls, &network->beats);
        return 0;
}

static void set_net(Network *network, PeerNet *net) {
        network->net = network->calls.net = network->answers.net = network->lives.net = network->peers.net =
                network->leases->net = net;
        cluster_facts_set_net(network->facts, net);
        courier_set_net(network->courier, net);
}

/* The cluster that this node belongs to, also when its registry has not arrived yet. */
static ClusterId cluster_of(const Network *network) {
        const Registry *registry = history_registry(network->history);
        return id_is_null(registry->cluster.bytes) ? network->peers.file.cluster : registry->cluster;
}

/* A port that is taken is no reason to end: a cluster of one needs none, and a member does what it can. */
static void listen_now(Network *network) {
        const Conf *conf = network->config.conf;
        _cleanup_free_ char *sentence = NULL;
        PeerNet *net = NULL;
        PeerNetConfig config = { .node = network->config.node, .cluster = cluster_of(network), .key = network->key,
                                 .listen = (const char *const *) conf->listen.items, .n_listen = conf->listen.n,
                                 .version = GPUPOOL_VERSION, .level = LEVEL_SUPPORTED };
        int r = peer_net_new(&net, network->config.event, &config, &callbacks, network, &sentence);
        if (r >= 0) {
                set_net(network, net);
                network->told_cluster = config.cluster;
                if (network->trouble)
                        log_notice("other nodes can reach this one again");
                free(STEAL(network->trouble));
                changed(network);
                return;
        }
        const char *why = sentence ? sentence : strerror(-r);
        if (!text_equal(network->trouble, why))
                log_error("other nodes cannot reach this one: %s. See Listen= in gpupoold.conf(5)", why);
        (void) text_set(&network->trouble, why);
        (void) sd_event_source_set_time_relative(network->retry, LISTEN_RETRY_US);
        (void) sd_event_source_set_enabled(network->retry, SD_EVENT_ONESHOT);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        listen_now(userdata);
        return 0;
}

int network_start(Network *network, History *history) {
        network->history = history;
        int r = make_parts(network);
        if (r >= 0)
                r = sd_event_add_time(network->config.event, &network->retry, CLOCK_BOOTTIME, UINT64_MAX, 0, on_retry,
                                      network);
        if (r >= 0)
                listen_now(network);
        return r < 0 ? r : 0;
}

void network_clear(Network *network) {
        if (network->history)
                history_set_peers(network->history, NULL, NULL);
        PeerNet *net = network->net;
        if (network->facts && network->courier)
                set_net(network, NULL);
        peer_net_free(net);
        sd_event_source_disable_unref(network->retry);
        answers_clear(&network->answers);
        admission_clear(&network->admission);
        electors_clear(&network->electors);
        calls_clear(&network->calls);
        courier_free(network->courier);
        lives_clear(&network->lives);
        peers_clear(&network->peers);
        cluster_facts_free(network->facts);
        beats_clear(&network->beats);
        text_list_clear(&network->addresses);
        free(network->trouble);
        peer_key_free(network->key);
        *network = (Network) {};
}

/* ---- the turn */

void network_facts_changed(Network *network) {
        network->said = false;
}

/* It begins with the first entry of a registry, or ends with joining another. */
static void follow_cluster(Network *network) {
        ClusterId cluster = cluster_of(network);
        if (!network->net || ID_EQUAL(&cluster, &network->told_cluster))
                return;
        network->told_cluster = cluster;
        peer_net_set_cluster(network->net, &cluster);
}

void network_adopted(Network *network) {
        peers_begin_anew(&network->peers);
        electors_clear(&network->electors);     /* what it waits for, the old engine never answers */
        follow_cluster(network);
        changed(network);
}

void network_send(Network *network, const RaftMessage *message) {
        if (network->courier)
                courier_send(network->courier, message);
}

bool network_is_removed(const Network *network) {
        const Registry *registry = history_registry(network->history);
        return network->peers.file.removed || registry_find_removed(registry, &network->config.node);
}

static int add_with_port(TextList *list, const char *address, const char *port) {
        _cleanup_free_ char *text = NULL;
        bool six = strchr(address, ':');
        int r = text_printf(&text, six ? "[%s]:%s" : "%s:%s", address, port);
        return r < 0 ? r : text_list_add(list, text);
}

/* The settings, or all addresses of the host with the port of the first in Listen=. */
static int follow_addresses(Network *network, const NodeFacts *local) {
        const Conf *conf = network->config.conf;
        TextList fresh = {};
        const char *port = strrchr(conf->listen.items[0], ':') + 1;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < conf->addresses.n; i++)
                r = text_list_add(&fresh, conf->addresses.items[i]);
        for (size_t i = 0; r >= 0 && local && conf->addresses.n == 0 && i < local->addresses.n &&
                           fresh.n < ADDRESSES_MAX; i++)
                r = add_with_port(&fresh, local->addresses.items[i], port);
        if (r < 0 || text_list_equal(&network->addresses, &fresh)) {
                text_list_clear(&fresh);
                return r;
        }
        text_list_clear(&network->addresses);
        network->addresses = fresh;
        return 0;
}

/* Who leads is told at once; how far the history is, with the next beat. */
static void follow_beat(Network *network) {
        Gpupool1__Beat beat = GPUPOOL1__BEAT__INIT;
        Lead lead;
        fill_beat(network, &lead, &beat);
        uint64_t print = beat.term * 8 + beat.ready * 4U + beat.hears_leader * 2U + beat.member;
        for (size_t i = 0; i < ID_SIZE; i++)
                print = print * UINT64_C(1099511628211) + lead.leader.bytes[i];
        if (print == network->told_beat || !network->net)
                return;
        network->told_beat = print;
        peer_net_beat_now(network->net);
}

int network_turn(Network *network, const NodeFacts *local, uint64_t now, uint64_t *ret_wake_us) {
        uint64_t due;
        *ret_wake_us = UINT64_MAX;
        follow_cluster(network);
        int r = follow_addresses(network, local);
        if (r >= 0 && local && !network->said) {
                r = cluster_facts_publish(network->facts, local);
                network->said = r >= 0;
        }
        if (r >= 0)
                r = peers_turn(&network->peers, now, &due);
        if (r < 0)
                return r;
        wake_by(ret_wake_us, due);
        doubt_removal(network, now, ret_wake_us);
        bool removed = network_is_removed(network);
        if (removed && !network->lives.removed)
                history_abandon(network->history);
        network->lives.removed = removed;
        int moved = lives_turn(&network->lives, now, &due);
        if (moved < 0)
                return moved;
        wake_by(ret_wake_us, due);
        r = electors_turn(&network->electors, now, &due);
        if (r < 0)
                return r;
        wake_by(ret_wake_us, due);
        courier_turn(network->courier, now, &due);
        wake_by(ret_wake_us, due);
        follow_beat(network);
        return moved;
}
