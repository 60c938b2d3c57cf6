/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* peer.h over a simulated network. As there: connections between nodes that know each other's keys, frames in order on
 * each, beats both ways, and an end by silence. What is sent into a way that is cut waits, as TCP's segments do, and
 * comes when it is mended, unless the connection was given up before. Some climates lose, double and swap frames too,
 * which no TCP does. */

#include <errno.h>
#include <string.h>

#include "heart.h"

#define BEAT_US (500 * MS)
#define SILENCE_US (3 * SECOND)
#define QUEUE_MAX 400U                  /* frames of one stream's kind on their way to a peer */
#define DIAL_LEAST_US (50 * MS)
#define DIAL_MOST_US (800 * MS)
#define BLOCKED_AGAIN_US (25 * MS)

struct PeerKey {
        uint8_t pin[PEER_KEY_SIZE];
};

typedef struct Known {                  /* as peer_net_set_peers() told it */
        NodeId node;
        uint8_t key[PEER_KEY_SIZE];
        bool wanted, removed;
} Known;

struct PeerNet {
        HeartHost *host;
        sd_event *event;
        ClusterId cluster;
        const PeerKey *key;
        const PeerCallbacks *callbacks;
        void *userdata;
        ARRAY(Known) known;
        uint64_t heard_us[HEART_HOSTS_MAX];     /* by this host's clock */
        sd_event_source *beat, *told;
};

struct HeartLetter {
        HeartLetter *next;
        uint64_t at_us, generation;
        PeerStream stream;
        size_t size;                    /* 0: the connection ends */
        bool removed;                   /* ... because the receiver was removed */
        uint8_t bytes[];
};

static SimTime *time_of(const HeartNetwork *network) {
        return &network->heart->time;
}

static HeartLink *link_of(HeartNetwork *network, unsigned a, unsigned b) {
        return a < b ? &network->links[a][b] : &network->links[b][a];
}

/* Its own end of the connection with @peer. */
static bool *end_of(HeartNetwork *network, unsigned host, unsigned peer) {
        return link_of(network, host, peer)->up + (host > peer);
}

/* ---- keys */

int peer_key_load(const char *path, PeerKey **ret) {
        PeerKey *key = calloc(1, sizeof(*key));
        memcpy(key->pin, heart_host_current()->key, PEER_KEY_SIZE);
        *ret = key;
        return 0;
}

int peer_key_create(const char *path, PeerKey **ret) {
        return peer_key_load(path, ret);
}

PeerKey *peer_key_free(PeerKey *key) {
        free(key);
        return NULL;
}

const uint8_t *peer_key_pin(const PeerKey *key) {
        return key->pin;
}

int peer_hash(const void *bytes, size_t size, uint8_t ret[static PEER_KEY_SIZE]) {
        memset(ret, 0, PEER_KEY_SIZE);
        uint64_t mark = sim_mark_bytes(1, bytes, size);
        memcpy(ret, &mark, sizeof(mark));
        return 0;
}

/* ---- who knows whom */

static const Known *find_known(const PeerNet *net, const NodeId *node) {
        ARRAY_EACH(known, &net->known)
                if (ID_EQUAL(&known->node, node))
                        return known;
        return NULL;
}

static bool takes(const PeerNet *net, const HeartHost *peer) {
        const Known *known = find_known(net, &peer->id);
        return known && !known->removed && memcmp(known->key, peer->key, PEER_KEY_SIZE) == 0;
}

static bool wants(const PeerNet *net, const HeartHost *peer) {
        const Known *known = find_known(net, &peer->id);
        return takes(net, peer) && known->wanted;
}

/* ---- letters */

static void drop_letters(HeartWay *way) {
        while (way->first) {
                HeartLetter *letter = way->first;
                way->first = letter->next;
                g_free(letter);
        }
        way->last = &way->first;
        way->n = 0;
        sim_alarm_unset(time_of(way->network), &way->alarm);
}

static void go_down(HeartNetwork *network, HeartHost *host, HeartHost *peer, const char *why);

static void tell_writable(HeartWay *way) {
        HeartHost *host = way->network->heart->hosts + way->from;
        HeartHost *peer = way->network->heart->hosts + way->to;
        for (unsigned stream = 0; stream < PEER_STREAM_COUNT; stream++) {
                if (!way->was_full[stream] || way->n > QUEUE_MAX / 2 || !host->net || !heart_host_has_daemon(host))
                        continue;
                way->was_full[stream] = false;
                SimTurn turn = sim_loop_begin(host->loop);
                host->net->callbacks->writable(&peer->id, (PeerStream) stream, host->net->userdata);
                sim_loop_end(turn);
        }
}

static void deliver(HeartNetwork *network, HeartHost *from, HeartHost *to, const HeartLetter *letter) {
        PeerNet *net = to->net;
        if (!net || !*end_of(network, to->number, from->number) ||
            letter->generation != link_of(network, from->number, to->number)->generation)
                return;
        if (letter->size == 0) {
                if (letter->removed && takes(net, from)) {
                        SimTurn turn = sim_loop_begin(to->loop);
                        net->callbacks->removed(&from->id, "it was removed", net->userdata);
                        sim_loop_end(turn);
                }
                go_down(network, to, from, "the other end closed it");
                return;
        }
        Gpupool1__Frame *frame = gpupool1__frame__unpack(NULL, letter->size, letter->bytes);
        g_assert_nonnull(frame);
        SimTurn turn = sim_loop_begin_for(to->loop, &network->ways[from->number][to->number]);
        net->heard_us[from->number] = sim_loop_clock(to->loop);
        if (network->heart->options.told > 1)
                heart_say(network->heart, "  %s -> %s frame %d", from->name, to->name, (int) frame->body_case);
        net->callbacks->frame(&from->id, frame, net->userdata);
        sim_loop_end(turn);
        gpupool1__frame__free_unpacked(frame, NULL);
}

/* Until when what was due at @at_us cannot arrive; 0: now. What was there before the cut lies in the socket. */
static uint64_t blocked_until(HeartNetwork *network, const HeartHost *from, const HeartHost *to, uint64_t at_us) {
        uint64_t now = time_of(network)->now_us;
        bool cut = network->cut[from->number][to->number] && at_us > network->cut_us[from->number][to->number];
        if (cut || heart_host_is_frozen(to) || heart_host_is_frozen(from))
                return now + BLOCKED_AGAIN_US;
        if (to->loop && sim_loop_free_at(to->loop) > now)
                return sim_loop_free_at(to->loop);
        return 0;
}

static void on_arrival(void *userdata) {
        HeartWay *way = userdata;
        HeartNetwork *network = way->network;
        HeartHost *from = network->heart->hosts + way->from, *to = network->heart->hosts + way->to;
        HeartLetter *letter = way->first;
        uint64_t until_us = blocked_until(network, from, to, letter->at_us);
        if (until_us > 0) {
                sim_alarm_set(time_of(network), &way->alarm, until_us);
                return;
        }
        way->first = letter->next;
        if (!way->first)
                way->last = &way->first;
        way->n--;
        letter->next = NULL;
        if (way->first)
                sim_alarm_set(time_of(network), &way->alarm, way->first->at_us);
        deliver(network, from, to, letter);
        g_free(letter);
        tell_writable(way);
}

static void put_letter(HeartWay *way, HeartLetter *letter) {
        SimTime *time = time_of(way->network);
        letter->at_us = time->now_us + sim_between(time, way->network->least_us, way->network->most_us);
        if (letter->at_us < way->last_us)
                letter->at_us = way->last_us;
        way->last_us = letter->at_us;
        /* One that overtakes: the stream before it has less to say than its own. */
        if (way->first && way->first->next && sim_pick(time, 1000) < way->network->swap_per_mille) {
                letter->at_us = way->first->at_us;
                letter->next = way->first->next;
                way->first->next = letter;
        } else {
                *way->last = letter;
                way->last = &letter->next;
        }
        way->n++;
        if (way->alarm.place == 0)
                sim_alarm_set(time, &way->alarm, way->first->at_us);
}

static HeartLetter *letter_new(HeartNetwork *network, unsigned from, unsigned to, size_t size) {
        HeartLetter *letter = g_malloc(sizeof(*letter) + size);
        *letter = (HeartLetter) { .generation = link_of(network, from, to)->generation, .size = size };
        return letter;
}

/* The end of the connection is on its way behind what was sent before. */
static void send_end(HeartNetwork *network, const HeartHost *host, const HeartHost *peer, bool removed) {
        HeartLetter *letter = letter_new(network, host->number, peer->number, 0);
        letter->removed = removed;
        put_letter(&network->ways[host->number][peer->number], letter);
}

/* ---- up and down */

static void dial_soon(HeartNetwork *network, unsigned a, unsigned b) {
        HeartLink *link = link_of(network, a, b);
        SimTime *time = time_of(network);
        if (a != b && link->dial.place == 0)
                sim_alarm_set(time, &link->dial, time->now_us + sim_between(time, DIAL_LEAST_US, DIAL_MOST_US));
}

static void tell_down(HeartHost *host, const HeartHost *peer, const char *why) {
        if (!host->net || host->is_dying)
                return;
        SimTurn turn = sim_loop_begin(host->loop);
        host->net->callbacks->down(&peer->id, why, host->net->userdata);
        sim_loop_end(turn);
}

static void go_down(HeartNetwork *network, HeartHost *host, HeartHost *peer, const char *why) {
        bool *up = end_of(network, host->number, peer->number);
        if (!*up)
                return;
        *up = false;
        memset(network->ways[host->number][peer->number].was_full, 0, sizeof(bool) * PEER_STREAM_COUNT);
        if (*end_of(network, peer->number, host->number))
                send_end(network, host, peer, false);
        dial_soon(network, host->number, peer->number);
        tell_down(host, peer, why);
}

static void tell_up(HeartHost *host, const HeartHost *peer) {
        Gpupool1__Hello hello = GPUPOOL1__HELLO__INIT;
        host->net->heard_us[peer->number] = sim_loop_clock(host->loop);
        SimTurn turn = sim_loop_begin(host->loop);
        host->net->callbacks->up(&peer->id, &hello, host->net->userdata);
        sim_loop_end(turn);
}

static bool can_answer(const HeartHost *host) {
        return host->net && !host->is_dying && heart_host_has_daemon(host);
}

static bool is_removed_by(const PeerNet *net, const HeartHost *peer) {
        const Known *known = find_known(net, &peer->id);
        return known && known->removed;
}

/* One dials another that removed it: it is told so. */
static void tell_removed(HeartHost *dialler, const HeartHost *by) {
        if (!wants(dialler->net, by) || !is_removed_by(by->net, dialler))
                return;
        SimTurn turn = sim_loop_begin(dialler->loop);
        dialler->net->callbacks->removed(&by->id, "it was removed", dialler->net->userdata);
        sim_loop_end(turn);
}

static bool may_meet(const HeartHost *a, const HeartHost *b) {
        return takes(a->net, b) && takes(b->net, a) && (wants(a->net, b) || wants(b->net, a)) &&
               ID_EQUAL(&a->net->cluster, &b->net->cluster) && !id_is_null(a->net->cluster.bytes);
}

static void on_dial(void *userdata) {
        HeartLink *link = userdata;
        HeartNetwork *network = &heart_alive->network;
        size_t place = (size_t) (link - &network->links[0][0]);
        HeartHost *a = network->heart->hosts + place / HEART_HOSTS_MAX;
        HeartHost *b = network->heart->hosts + place % HEART_HOSTS_MAX;
        if (link->up[0] && link->up[1])
                return;
        dial_soon(network, a->number, b->number);
        if (!can_answer(a) || !can_answer(b) || network->cut[a->number][b->number] ||
            network->cut[b->number][a->number])
                return;
        tell_removed(a, b);
        if (can_answer(b))
                tell_removed(b, a);
        if (!can_answer(a) || !can_answer(b) || !may_meet(a, b))
                return;
        /* The new one replaces what an end may still think is there. */
        for (unsigned i = 0; i < 2; i++)
                if (link->up[i]) {
                        link->up[i] = false;
                        tell_down(i == 0 ? a : b, i == 0 ? b : a, "a newer connection replaces it");
                }
        if (!can_answer(a) || !can_answer(b))
                return;
        drop_letters(&network->ways[a->number][b->number]);
        drop_letters(&network->ways[b->number][a->number]);
        link->generation++;
        link->up[0] = link->up[1] = true;
        tell_up(a, b);
        if (link->up[1] && can_answer(b))
                tell_up(b, a);
}

void heart_network_dial_all(HeartNetwork *network) {
        for (unsigned a = 0; a < network->heart->n_hosts; a++)
                for (unsigned b = a + 1; b < network->heart->n_hosts; b++)
                        dial_soon(network, a, b);
}

/* A process is gone: the kernel says so to its peers, unless the whole host is. */
void heart_network_lost(HeartNetwork *network, HeartHost *host) {
        for (unsigned i = 0; i < network->heart->n_hosts; i++) {
                HeartHost *peer = network->heart->hosts + i;
                if (peer == host || !*end_of(network, host->number, i))
                        continue;
                *end_of(network, host->number, i) = false;
                dial_soon(network, host->number, i);
                if (host->on && *end_of(network, i, host->number))
                        send_end(network, host, peer, false);
                else
                        drop_letters(&network->ways[host->number][i]);
        }
}

/* ---- the net */

static void beat_all(PeerNet *net) {
        Gpupool1__Beat beat = GPUPOOL1__BEAT__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        net->callbacks->fill_beat(&beat, net->userdata);
        frame.body_case = GPUPOOL1__FRAME__BODY_BEAT;
        frame.beat = &beat;
        for (unsigned i = 0; i < net->host->heart->n_hosts; i++)
                if (i != net->host->number && *end_of(&net->host->heart->network, net->host->number, i))
                        (void) peer_net_send(net, &net->host->heart->hosts[i].id, PEER_STREAM_CONTROL, &frame);
}

static void look_for_silence(PeerNet *net) {
        HeartHost *host = net->host;
        HeartNetwork *network = &host->heart->network;
        uint64_t now = sim_loop_clock(host->loop);
        for (unsigned i = 0; i < host->heart->n_hosts; i++) {
                HeartHost *peer = host->heart->hosts + i;
                const HeartWay *in = &network->ways[i][host->number];
                /* What lies in the socket already was heard. */
                bool waiting = in->first && in->first->at_us <= host->heart->time.now_us &&
                               !network->cut[i][host->number];
                if (i != host->number && *end_of(network, host->number, i) && !waiting &&
                    now >= net->heard_us[i] + SILENCE_US)
                        go_down(network, host, peer, "nothing was heard for 3 s");
        }
}

static int on_beat(sd_event_source *source, uint64_t usec, void *userdata) {
        PeerNet *net = userdata;
        (void) sd_event_source_set_time_relative(source, BEAT_US);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        look_for_silence(net);
        beat_all(net);
        return 0;
}

static int on_beat_now(sd_event_source *source, void *userdata) {
        beat_all(userdata);
        return 0;
}

int peer_net_new(PeerNet **ret, sd_event *event, const PeerNetConfig *config, const PeerCallbacks *callbacks,
                 void *userdata, char **reterr_sentence) {
        HeartHost *host = heart_host_current();
        PeerNet *net = g_new0(PeerNet, 1);
        *net = (PeerNet) { .host = host, .event = event, .cluster = config->cluster, .key = config->key,
                           .callbacks = callbacks, .userdata = userdata };
        host->net = net;
        (void) sd_event_add_time_relative(event, &net->beat, CLOCK_BOOTTIME, BEAT_US, 0, on_beat, net);
        (void) sd_event_add_defer(event, &net->told, on_beat_now, net);
        (void) sd_event_source_set_enabled(net->told, SD_EVENT_OFF);
        *ret = net;
        return 0;
}

PeerNet *peer_net_free(PeerNet *net) {
        if (!net)
                return NULL;
        heart_network_lost(&net->host->heart->network, net->host);
        net->host->net = NULL;
        sd_event_source_disable_unref(net->beat);
        sd_event_source_disable_unref(net->told);
        array_clear(&net->known);
        g_free(net);
        return NULL;
}

uint16_t peer_net_port(const PeerNet *net) {
        return PEER_PORT_DEFAULT;
}

/* Down comes from the loop, as peer.h has it: by an end that is sent to oneself. */
static void end_soon(PeerNet *net, const HeartHost *peer, bool removed) {
        HeartNetwork *network = &net->host->heart->network;
        if (!*end_of(network, net->host->number, peer->number))
                return;
        send_end(network, net->host, peer, removed);
        drop_letters(&network->ways[peer->number][net->host->number]);
        put_letter(&network->ways[peer->number][net->host->number],
                   letter_new(network, peer->number, net->host->number, 0));
}

void peer_net_set_cluster(PeerNet *net, const ClusterId *cluster) {
        net->cluster = *cluster;
        for (unsigned i = 0; i < net->host->heart->n_hosts; i++)
                if (i != net->host->number)
                        end_soon(net, net->host->heart->hosts + i, false);
}

int peer_net_set_peers(PeerNet *net, const PeerInfo *peers, size_t n) {
        net->known.n = 0;
        for (size_t i = 0; i < n; i++) {
                Known known = { .node = peers[i].node, .wanted = peers[i].wanted, .removed = peers[i].removed };
                memcpy(known.key, peers[i].key, PEER_KEY_SIZE);
                if (array_append(&net->known, &known) < 0)
                        return -ENOMEM;
        }
        for (unsigned i = 0; i < net->host->heart->n_hosts; i++) {
                const HeartHost *peer = net->host->heart->hosts + i;
                if (i == net->host->number)
                        continue;
                if (!takes(net, peer))
                        end_soon(net, peer, is_removed_by(net, peer));
                dial_soon(&net->host->heart->network, net->host->number, i);
        }
        return 0;
}

/* This answer is still delivered; whom it is for reads it when it goes on. */
static void come_late(HeartNetwork *network, HeartHost *host, HeartWay *way) {
        uint64_t now = time_of(network)->now_us;
        network->late = NULL;
        if (!host->loop)
                return;
        heart_say(network->heart, "%s: gpupoold is stopped for %.3f s with an answer on its way", host->name,
                  (double) network->late_us / (double) SECOND);
        sim_loop_hold(host->loop, now + network->late_us);
        heart_network_cut_off(network, host->number);
        network->cut_us[way->from][way->to] = now + network->most_us + 1;
}

int peer_net_send(PeerNet *net, const NodeId *node, PeerStream stream, const Gpupool1__Frame *frame) {
        HeartHost *host = net->host, *peer = heart_host_by_id(host->heart, node);
        HeartNetwork *network = &host->heart->network;
        SimTime *time = &host->heart->time;
        if (!peer || host->is_dying || !*end_of(network, host->number, peer->number))
                return PEER_SEND_NOT_CONNECTED;
        HeartWay *way = &network->ways[host->number][peer->number];
        bool starves = network->starved == peer && (stream == PEER_STREAM_REGISTRY || stream == PEER_STREAM_BULK);
        if (starves || way->n >= QUEUE_MAX * (stream == PEER_STREAM_BULK ? 1 : 2)) {
                way->was_full[stream] = true;
                return PEER_SEND_FULL;
        }
        size_t size = gpupool1__frame__get_packed_size(frame);
        if (size > PEER_FRAME_SIZE_MAX)
                return PEER_SEND_TOO_LARGE;
        network->n_sent++;
        if (sim_pick(time, 1000) < network->loss_per_mille) {
                network->n_lost++;
                return PEER_SEND_QUEUED;
        }
        unsigned copies = 1 + (sim_pick(time, 1000) < network->twice_per_mille);
        if (network->late == peer && frame->body_case == GPUPOOL1__FRAME__BODY_LEASE_ANSWER)
                come_late(network, peer, way);
        for (unsigned i = 0; i < copies; i++) {
                HeartLetter *letter = letter_new(network, host->number, peer->number, size);
                letter->stream = stream;
                (void) gpupool1__frame__pack(frame, letter->bytes);
                put_letter(way, letter);
        }
        return PEER_SEND_QUEUED;
}

void peer_net_beat_now(PeerNet *net) {
        (void) sd_event_source_set_enabled(net->told, SD_EVENT_ONESHOT);
}

bool peer_net_is_up(const PeerNet *net, const NodeId *node) {
        const HeartHost *peer = heart_host_by_id(net->host->heart, node);
        return peer && peer != net->host && *end_of(&net->host->heart->network, net->host->number, peer->number);
}

size_t peer_net_queued_bytes(const PeerNet *net, const NodeId *node) {
        return 0;
}

uint64_t peer_net_heard_us(const PeerNet *net, const NodeId *node) {
        const HeartHost *peer = heart_host_by_id(net->host->heart, node);
        return peer ? net->heard_us[peer->number] : 0;
}

/* Hosts join by what an admission leads to (heart-admin.c), not by a stranger's connection. */
int peer_stranger_answer(PeerStranger *stranger, const Gpupool1__JoinAnswer *answer) {
        return -ENOTCONN;
}

int peer_join_new(PeerJoin **ret, sd_event *event, const PeerKey *key, const NodeId *node, const PeerInviter *inviter,
                  const Gpupool1__JoinRequest *request, PeerJoinCallback callback, void *userdata) {
        return -ENOTSUP;
}

PeerJoin *peer_join_free(PeerJoin *join) {
        return NULL;
}

/* ---- birth and death */

void heart_network_init(HeartNetwork *network, Heart *heart) {
        network->heart = heart;
        for (unsigned a = 0; a < HEART_HOSTS_MAX; a++)
                for (unsigned b = 0; b < HEART_HOSTS_MAX; b++) {
                        HeartWay *way = &network->ways[a][b];
                        *way = (HeartWay) { .network = network, .from = a, .to = b,
                                            .alarm = { .ring = on_arrival, .userdata = way } };
                        way->last = &way->first;
                        network->links[a][b].dial = (SimAlarm) { .ring = on_dial, .userdata = &network->links[a][b] };
                }
        heart_network_calm(network);
}

void heart_network_clear(HeartNetwork *network) {
        for (unsigned a = 0; a < HEART_HOSTS_MAX; a++)
                for (unsigned b = 0; b < HEART_HOSTS_MAX; b++) {
                        drop_letters(&network->ways[a][b]);
                        sim_alarm_unset(time_of(network), &network->links[a][b].dial);
                }
}

void heart_network_cut(HeartNetwork *network, unsigned from, unsigned to) {
        if (!network->cut[from][to])
                network->cut_us[from][to] = time_of(network)->now_us;
        network->cut[from][to] = true;
}

void heart_network_cut_off(HeartNetwork *network, unsigned host) {
        for (unsigned i = 0; i < HEART_HOSTS_MAX; i++) {
                heart_network_cut(network, i, host);
                heart_network_cut(network, host, i);
        }
}

void heart_network_heal(HeartNetwork *network) {
        memset(network->cut, 0, sizeof(network->cut));
        network->late = network->starved = NULL;
}

void heart_network_calm(HeartNetwork *network) {
        network->least_us = 50;
        network->most_us = 2 * MS;
        network->loss_per_mille = network->twice_per_mille = network->swap_per_mille = 0;
}
