/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/net-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gnutls/crypto.h>

#include "util/log.h"

#define BEAT_US (500ULL * 1000)
#define SILENCE_US (3ULL * 1000 * 1000)
#define CONNECT_US (5ULL * 1000 * 1000)

#define STRANGER_LOG_US (60ULL * 1000 * 1000)

uint64_t net_now_us(const PeerNet *net) {
        uint64_t now = 0;
        (void) sd_event_now(net->event, CLOCK_BOOTTIME, &now);
        return now;
}

/* xorshift: only spreads pauses. */
uint64_t net_random(PeerNet *net, uint64_t below) {
        net->random ^= net->random << 13;
        net->random ^= net->random >> 7;
        net->random ^= net->random << 17;
        return below ? net->random % below : 0;
}

void net_want_turn(PeerNet *net) {
        (void) sd_event_source_set_enabled(net->turn, SD_EVENT_ONESHOT);
}

void net_log_stranger(PeerNet *net, StrangerTrouble trouble, const char *from, const char *why) {
        uint64_t now = net_now_us(net);
        if (net->strangers[trouble].told_us != 0 && now - net->strangers[trouble].told_us < STRANGER_LOG_US) {
                net->strangers[trouble].unsaid++;
                return;
        }
        if (net->strangers[trouble].unsaid > 0)
                log_notice("A connection from %s was refused: %s (and %u others like it before)", from, why,
                           net->strangers[trouble].unsaid);
        else
                log_notice("A connection from %s was refused: %s", from, why);
        net->strangers[trouble].told_us = now;
        net->strangers[trouble].unsaid = 0;
}

/* ---- downs ---- */

static Link *find_due(PeerNet *net) {
        if (net->gone)
                return net->gone;
        ARRAY_EACH(link, &net->links)
                if ((*link)->down_due)
                        return *link;
        return NULL;
}

void net_tell_downs(PeerNet *net) {
        for (Link *link; (link = find_due(net));) {
                NodeId node = link->node;
                char why[SENTENCE_SIZE];
                memcpy(why, link->why, sizeof(why));
                link->announced = false;
                link->down_due = false;
                if (link == net->gone) {
                        net->gone = link->next_gone;
                        (void) link_free(link);
                }
                net->callbacks->down(&node, why, net->userdata);
        }
}

/* ---- beats ---- */

/* A beat waits until the one before it has gone out, and says what is so then. */
static bool may_beat(const Session *s) {
        return s->stage == SESSION_MEMBER && s->link && s->beat_due && connection_is_open(s->connection) &&
               !connection_has_queued(s->connection, PEER_STREAM_CONTROL);
}

static void send_beats(PeerNet *net) {
        Gpupool1__Beat beat = GPUPOOL1__BEAT__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        bool is_filled = false;
        frame.body_case = GPUPOOL1__FRAME__BODY_BEAT;
        frame.beat = &beat;
        for (Session *s = net->sessions; s; s = s->next) {
                if (!may_beat(s))
                        continue;
                if (!is_filled)
                        net->callbacks->fill_beat(&beat, net->userdata);
                is_filled = true;
                beat.unwanted = !s->link->wanted;
                if (connection_send(s->connection, PEER_STREAM_CONTROL, &frame) == PEER_SEND_QUEUED)
                        s->beat_due = false;
        }
}

static int on_turn(sd_event_source *source, void *userdata) {
        PeerNet *net = userdata;
        net_tell_downs(net);
        send_beats(net);
        return 0;
}

void peer_net_beat_now(PeerNet *net) {
        for (Session *s = net->sessions; s; s = s->next)
                s->beat_due = s->stage == SESSION_MEMBER;
        net_want_turn(net);
}

/* Runs while there is somebody to hear it. */
void net_keep_beating(PeerNet *net) {
        int enabled = SD_EVENT_OFF;
        (void) sd_event_source_get_enabled(net->beat, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time(net->beat, net_now_us(net) + net->beat_us);
        (void) sd_event_source_set_enabled(net->beat, SD_EVENT_ONESHOT);
}

static int on_beat(sd_event_source *source, uint64_t usec, void *userdata) {
        PeerNet *net = userdata;
        bool any = false;
        for (Session *s = net->sessions; s; s = s->next) {
                s->beat_due = s->stage == SESSION_MEMBER;
                any = any || s->beat_due;
        }
        if (any)
                net_keep_beating(net);
        send_beats(net);
        return 0;
}

/* ---- the net ---- */

static int on_handshake(sd_event_source *source, uint64_t usec, void *userdata) {
        net_begin_handshakes(userdata);
        return 0;
}

static void on_accepted(int fd, const SocketAddress *from, void *userdata) {
        session_accept(userdata, fd, from);
}

static bool has_v4(const PeerNetConfig *config) {
        for (size_t i = 0; i < config->n_listen; i++)
                if (config->listen[i][0] != '[')
                        return true;
        return false;
}

static int listen_to_all(PeerNet *net, const PeerNetConfig *config, char **reterr_sentence) {
        for (size_t i = 0; i < config->n_listen; i++) {
                Listener *listener = NULL;
                int r = listener_new(&listener, net->event, config->listen[i], has_v4(config), on_accepted, net);
                if (r >= 0)
                        r = array_append(&net->listeners, &listener);
                if (r < 0) {
                        (void) listener_free(listener);
                        (void) text_printf(reterr_sentence, "Other nodes cannot be listened to at %s: %s",
                                           config->listen[i], r == -EINVAL ? "it is no address" : strerror(-r));
                        return r;
                }
        }
        return 0;
}

static int add_sources(PeerNet *net) {
        int r = sd_event_add_defer(net->event, &net->turn, on_turn, net);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(net->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(net->event, &net->beat, CLOCK_BOOTTIME, 0, net->beat_us / 10, on_beat, net);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(net->beat, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(net->beat, "peer-beat");
        r = sd_event_add_time(net->event, &net->handshake, CLOCK_BOOTTIME, 0, 1000, on_handshake, net);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(net->handshake, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return resolver_new(&net->resolver, net->event);
}

static int draw_numbers(PeerNet *net) {
        if (gnutls_rnd(GNUTLS_RND_NONCE, net->nonce, sizeof(net->nonce)) < 0 ||
            gnutls_rnd(GNUTLS_RND_NONCE, &net->random, sizeof(net->random)) < 0)
                return -EIO;
        net->random |= 1;               /* 0 would stay 0 */
        return 0;
}

int peer_net_new(PeerNet **ret, sd_event *event, const PeerNetConfig *config, const PeerCallbacks *callbacks,
                 void *userdata, char **reterr_sentence) {
        if (config->n_listen == 0 || strlen(config->version) > HELLO_VERSION_LENGTH_MAX)
                return -EINVAL;
        _cleanup_(peer_net_freep) PeerNet *net = calloc(1, sizeof(PeerNet));
        if (!net)
                return -ENOMEM;
        net->event = sd_event_ref(event);
        net->node = config->node;
        net->cluster = config->cluster;
        net->key = config->key;
        (void) snprintf(net->version, sizeof(net->version), "%s", config->version);
        net->level = config->level;
        net->beat_us = config->beat_us ? config->beat_us : BEAT_US;
        net->silence_us = config->silence_us ? config->silence_us : SILENCE_US;
        net->connect_us = config->connect_us ? config->connect_us : CONNECT_US;
        net->callbacks = callbacks;
        net->userdata = userdata;
        int r = draw_numbers(net);
        if (r < 0)
                return r;
        r = add_sources(net);
        if (r < 0)
                return r;
        r = listen_to_all(net, config, reterr_sentence);
        if (r < 0)
                return r;
        *ret = STEAL(net);
        return 0;
}

PeerNet *peer_net_free(PeerNet *net) {
        if (!net)
                return NULL;
        for (Session *s; (s = net->sessions); (void) session_free(s))
                if (s->stage == SESSION_MEMBER)
                        connection_last_word(s->connection, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_STOPPING,
                                             "the service stops");
        ARRAY_EACH(link, &net->links)
                (void) link_free(*link);
        array_clear(&net->links);
        for (Link *link; (link = net->gone); (void) link_free(link))
                net->gone = link->next_gone;
        ARRAY_EACH(listener, &net->listeners)
                (void) listener_free(*listener);
        array_clear(&net->listeners);
        (void) resolver_free(net->resolver);
        (void) sd_event_source_disable_unref(net->beat);
        (void) sd_event_source_disable_unref(net->turn);
        (void) sd_event_source_disable_unref(net->handshake);
        sd_event_unref(net->event);
        free(net);
        return NULL;
}

uint16_t peer_net_port(const PeerNet *net) {
        return listener_port(net->listeners.items[0]);
}

void peer_net_set_cluster(PeerNet *net, const ClusterId *cluster) {
        const char *why = "this node belongs to another cluster now";
        if (ID_EQUAL(&net->cluster, cluster))
                return;
        net->cluster = *cluster;
        ARRAY_EACH(link, &net->links) {
                link_disconnect(*link, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_OTHER_CLUSTER, why);
                link_stop_dialling(*link);
                (*link)->backoff_us = 0;
        }
        for (Session *s = net->sessions; s; s = s->next)
                switch (s->stage) {
                case SESSION_BEGINNING:
                case SESSION_GREETED:
                case SESSION_HELD:
                case SESSION_STRANGER:
                        session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_OTHER_CLUSTER, why);
                        break;
                case SESSION_ASKING:
                        connection_close(s->connection, CONNECTION_ENDED_BY_US, why);
                        break;
                case SESSION_MEMBER:
                case SESSION_LEAVING:
                case SESSION_ENDED:
                        break;
                }
        ARRAY_EACH(link, &net->links)
                link_look(*link);
}

static Session *session_of(const PeerNet *net, const NodeId *node) {
        const Link *link = net_find_link(net, node);
        Session *s = link ? link->member : NULL;
        return s && connection_is_open(s->connection) ? s : NULL;
}

int peer_net_send(PeerNet *net, const NodeId *node, PeerStream stream, const Gpupool1__Frame *frame) {
        Session *s = session_of(net, node);
        return s ? connection_send(s->connection, stream, frame) : PEER_SEND_NOT_CONNECTED;
}

bool peer_net_is_up(const PeerNet *net, const NodeId *node) {
        return session_of(net, node) != NULL;
}

uint64_t peer_net_heard_us(const PeerNet *net, const NodeId *node) {
        const Link *link = net_find_link(net, node);
        if (!link)
                return 0;
        return link->member ? connection_heard_us(link->member->connection) : link->heard_us;
}

size_t peer_net_queued_bytes(const PeerNet *net, const NodeId *node) {
        const Session *s = session_of(net, node);
        return s ? connection_queued_bytes(s->connection) : 0;
}
