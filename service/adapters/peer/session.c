/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/net-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"

/* What the smaller node's connection was up for when the larger node's came in: up to here both were made at the same
 * time, and both ends know which one stays. The larger node stops dialling when the smaller one's is up, so the two can
 * only differ by the way of a packet or two. */
#define SAME_TIME_US (1000ULL * 1000)

static bool we_are_smaller(const Link *link) {
        return ID_COMPARE(&link->net->node, &link->node) < 0;
}

/* ---- leaving ---- */

/* The link does not know the session any more. */
static void unlink_session(Session *s) {
        Link *link = s->link;
        if (!link)
                return;
        if (link->member == s)
                link->member = NULL;
        if (link->dialled == s)
                link->dialled = NULL;
        if (link->held == s)
                link->held = NULL;
        s->link = NULL;
}

void session_drop(Session *s, const char *why) {
        unlink_session(s);
        if (s->stage == SESSION_ENDED)
                return;
        s->stage = SESSION_ENDED;
        connection_close(s->connection, CONNECTION_ENDED_BY_US, why);
}

void session_goodbye(Session *s, Gpupool1__GoodbyeReason reason, const char *why) {
        unlink_session(s);
        if (s->stage == SESSION_LEAVING || s->stage == SESSION_ENDED)
                return;
        s->stage = SESSION_LEAVING;
        connection_goodbye(s->connection, reason, why, s->net->connect_us);
}

Session *session_free(Session *s) {
        if (!s)
                return NULL;
        unlink_session(s);
        for (Session **place = &s->net->sessions; *place; place = &(*place)->next)
                if (*place == s) {
                        *place = s->next;
                        break;
                }
        (void) connection_free(s->connection);
        hello_free(s->hello);
        free(s);
        return NULL;
}

/* ---- becoming a member's ---- */

int session_send_hello(Session *s, bool to_stranger) {
        PeerNet *net = s->net;
        Gpupool1__Hello hello = GPUPOOL1__HELLO__INIT;
        hello.protocol = HELLO_PROTOCOL;
        hello.node = (ProtobufCBinaryData) { ID_SIZE, net->node.bytes };
        hello.level = net->level;
        hello.nonce = (ProtobufCBinaryData) { HELLO_NONCE_SIZE, net->nonce };
        if (!to_stranger) {
                hello.cluster = (ProtobufCBinaryData) { ID_SIZE, net->cluster.bytes };
                hello.version = net->version;
        }
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_HELLO;
        frame.hello = &hello;
        int r = connection_send(s->connection, PEER_STREAM_CONTROL, &frame);
        return r == PEER_SEND_QUEUED ? 0 : r < 0 ? r : -ENOTCONN;
}

static void refuse_as_second(Session *s) {
        session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED, "there is another connection already");
}

static void replace_member(Link *link) {
        if (!link->member)
                return;
        link_disconnect(link, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED, "a newer connection took its place");
}

static void take_member(Link *link, Session *s, const Gpupool1__Hello *hello) {
        PeerNet *net = link->net;
        if (!s->dialled && session_send_hello(s, false) < 0) {
                session_drop(s, "out of memory");
                return;
        }
        if (link->dialled == s)
                link->dialled = NULL;
        if (link->held == s)
                link->held = NULL;
        link_stop_dialling(link);
        replace_member(link);
        if (s->dialled)
                link->best_address = s->address_index;

        connection_pause(s->connection, false);
        connection_keep(s->connection, net->silence_us);
        s->stage = SESSION_MEMBER;
        s->link = link;
        s->up_us = net_now_us(net);
        s->other_wants = true;
        s->beat_due = true;
        memcpy(s->nonce, hello->nonce.data, HELLO_NONCE_SIZE);
        link->member = s;
        if (link->held)
                refuse_as_second(link->held);
        net_keep_beating(net);
        net_want_turn(net);

        net_tell_downs(net);
        if (!s->link)
                return;                 /* a callback changed who is who */
        link = s->link;
        link->announced = true;
        link->troubles &= ~(1U << TROUBLE_UNREACHABLE);
        NodeId node = link->node;
        net->callbacks->up(&node, hello, net->userdata);
}

/* The older one is kept if it is the one that both ends agree on, or if this one was overtaken. */
static bool is_beaten(const Link *link, const Session *s, const Gpupool1__Hello *hello) {
        const Session *old = link->member;
        if (!old)
                return false;
        if (old->dialled == s->dialled)
                return s->number < old->number;
        return old->dialled && we_are_smaller(link) && s->began_us <= old->up_us + SAME_TIME_US &&
               memcmp(old->nonce, hello->nonce.data, HELLO_NONCE_SIZE) == 0;
}

static void hold(Link *link, Session *s, const Gpupool1__Hello *hello) {
        if (link->held && link->held != s)
                refuse_as_second(link->held);
        if (!s->hello)
                s->hello = hello_copy(hello);
        if (!s->hello) {
                session_drop(s, "out of memory");
                return;
        }
        s->stage = SESSION_HELD;
        s->link = link;
        link->held = s;
        connection_pause(s->connection, true);
}

/* Its Hello is good, and it was us who were dialled: it is us who decide. */
static void decide(Link *link, Session *s, const Gpupool1__Hello *hello) {
        if (is_beaten(link, s, hello)) {
                refuse_as_second(s);
                return;
        }
        /* The other end may be taking our connection at this moment. It surely does if we are the smaller. */
        if (link->dialled && link->dialled->stage == SESSION_GREETED && we_are_smaller(link)) {
                hold(link, s, hello);
                return;
        }
        take_member(link, s, hello);
}

void session_decide_held(Link *link) {
        Session *s = link->held;
        if (!s)
                return;
        if (link->member) {
                refuse_as_second(s);
                return;
        }
        link->held = NULL;
        Gpupool1__Hello *hello = STEAL(s->hello);
        take_member(link, s, hello);
        hello_free(hello);
}

/* ---- the first frame of the other end ---- */

static bool refuse_form(Session *s, const Gpupool1__Hello *hello) {
        char sentence[SENTENCE_SIZE];
        switch (hello_check(hello)) {
        case HELLO_GOOD:
                return false;
        case HELLO_OTHER_PROTOCOL:
                hello_protocol_sentence(hello, sentence, sizeof(sentence));
                break;
        case HELLO_MALFORMED:
                (void) snprintf(sentence, sizeof(sentence), "what it says of itself cannot be read");
                break;
        }
        Link *link = s->link ? s->link : net_find_key(s->net, connection_pin(s->connection));
        if (link)
                link_trouble(link, TROUBLE_PROTOCOL, s->text, sentence);
        else
                net_log_stranger(s->net, STRANGER_NONSENSE, s->text, sentence);
        bool was_attempt = link && link->dialled == s;
        session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL, sentence);
        if (was_attempt)
                link_attempt_failed(link, s->text, sentence);
        return true;
}

static void take_hello_of_dialler(Session *s, const Gpupool1__Hello *hello) {
        PeerNet *net = s->net;
        if (refuse_form(s, hello))
                return;
        if (id_is_null(net->cluster.bytes)) {
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN,
                                "this node belongs to no cluster yet");
                return;
        }
        if (hello->cluster.len == 0) {
                stranger_greet(s, hello);
                return;
        }
        Link *link = net_find_key(net, connection_pin(s->connection));
        if (!link) {
                net_log_stranger(net, STRANGER_UNKNOWN_KEY, s->text, "its key is none of this cluster's");
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN,
                                "no node of this cluster has this key");
        } else if (memcmp(hello->cluster.data, net->cluster.bytes, ID_SIZE) != 0) {
                link_trouble(link, TROUBLE_REFUSED, s->text, "it belongs to another cluster");
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_OTHER_CLUSTER,
                                "this node belongs to another cluster");
        } else if (link->removed) {
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REMOVED,
                                "this cluster has removed the node");
        } else if (memcmp(hello->node.data, link->node.bytes, ID_SIZE) != 0) {
                link_trouble(link, TROUBLE_PROTOCOL, s->text, "it takes itself for another node");
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL,
                                "this key belongs to a node with another id");
        } else {
                decide(link, s, hello);
        }
}

static void take_hello_of_dialled(Session *s, const Gpupool1__Hello *hello) {
        Link *link = s->link;
        if (refuse_form(s, hello))
                return;
        const char *why = NULL;
        if (hello->cluster.len != ID_SIZE || memcmp(hello->cluster.data, s->net->cluster.bytes, ID_SIZE) != 0)
                why = "it belongs to another cluster";
        else if (memcmp(hello->node.data, link->node.bytes, ID_SIZE) != 0)
                why = "it takes itself for another node";
        if (why) {
                link_trouble(link, TROUBLE_PROTOCOL, s->text, why);
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL, why);
                link_attempt_failed(link, s->text, why);
                return;
        }
        take_member(link, s, hello);
}

/* ---- goodbyes ---- */

static bool is_final(Gpupool1__GoodbyeReason reason) {
        return reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REMOVED ||
               reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_OTHER_CLUSTER ||
               reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_PROTOCOL;
}

/* Who is admitted knows of it before all others do: the first that does not know us yet is no news. */
static bool is_worth_a_word(Link *link, Gpupool1__GoodbyeReason reason) {
        if (reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN && !link->unknown_there) {
                link->unknown_there = true;
                return false;
        }
        return reason != GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REPLACED &&
               reason != GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_STOPPING;
}

static void take_goodbye(Session *s, const Gpupool1__Goodbye *goodbye) {
        PeerNet *net = s->net;
        Link *link = s->link;
        char sentence[GOODBYE_TEXT_SIZE], why[GOODBYE_TEXT_SIZE + 32], text[ADDRESS_TEXT_SIZE];
        NodeId node = link->node;
        bool was_attempt = link->dialled == s;
        goodbye_to_text(goodbye, sentence);
        (void) snprintf(why, sizeof(why), "it said goodbye: %s", sentence);
        (void) snprintf(text, sizeof(text), "%s", s->text);
        if (is_final(goodbye->reason))
                link->backoff_us = UINT64_MAX;

        if (was_attempt) {
                if (is_worth_a_word(link, goodbye->reason))
                        link_trouble(link, TROUBLE_REFUSED, text, why);
                session_drop(s, why);
                link_attempt_failed(link, text, why);
        } else {
                connection_close(s->connection, CONNECTION_LOST, why);
        }
        if (goodbye->reason == GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REMOVED)
                net->callbacks->removed(&node, sentence, net->userdata);
}

/* ---- frames ---- */

static void take_member_frame(Session *s, const Gpupool1__Frame *frame) {
        PeerNet *net = s->net;
        Link *link = s->link;
        switch (frame->body_case) {
        case GPUPOOL1__FRAME__BODY_GOODBYE:
                take_goodbye(s, frame->goodbye);
                return;
        case GPUPOOL1__FRAME__BODY_HELLO:
        case GPUPOOL1__FRAME__BODY_JOIN_REQUEST:
        case GPUPOOL1__FRAME__BODY_JOIN_ANSWER:
                connection_close(s->connection, CONNECTION_GARBAGE, "it sent what a member does not say");
                return;
        case GPUPOOL1__FRAME__BODY_BEAT:
                s->other_wants = !frame->beat->unwanted;
                if (!s->other_wants && !link->wanted) {
                        link_disconnect(link, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNWANTED,
                                        "neither end needs the connection");
                        return;
                }
                break;
        case GPUPOOL1__FRAME__BODY__NOT_SET:
                return;                 /* of a later minor version */
        case GPUPOOL1__FRAME__BODY_GOSSIP:
        case GPUPOOL1__FRAME__BODY_RAFT:
        case GPUPOOL1__FRAME__BODY_SNAPSHOT_PART:
        case GPUPOOL1__FRAME__BODY_FOLLOW:
        case GPUPOOL1__FRAME__BODY_CALL:
        case GPUPOOL1__FRAME__BODY_ANSWER:
        case GPUPOOL1__FRAME__BODY_LEASE_REQUEST:
        case GPUPOOL1__FRAME__BODY_LEASE_ANSWER:
        case _GPUPOOL1__FRAME__BODY__CASE_IS_INT_SIZE:
                break;
        }
        NodeId node = link->node;
        net->callbacks->frame(&node, frame, net->userdata);
}

static void take_first_frame(Session *s, const Gpupool1__Frame *frame) {
        if (frame->body_case == GPUPOOL1__FRAME__BODY_GOODBYE && s->link)
                take_goodbye(s, frame->goodbye);
        else if (frame->body_case != GPUPOOL1__FRAME__BODY_HELLO)
                connection_close(s->connection, CONNECTION_GARBAGE, "its first words are not Hello");
        else if (s->dialled)
                take_hello_of_dialled(s, frame->hello);
        else
                take_hello_of_dialler(s, frame->hello);
}

static void on_frame(Connection *connection, const Gpupool1__Frame *frame, void *userdata) {
        Session *s = userdata;
        switch (s->stage) {
        case SESSION_BEGINNING:
        case SESSION_GREETED:
                take_first_frame(s, frame);
                return;
        case SESSION_MEMBER:
                take_member_frame(s, frame);
                return;
        case SESSION_STRANGER:
        case SESSION_ASKING:
                stranger_take_frame(s, frame);
                return;
        case SESSION_HELD:
        case SESSION_LEAVING:
        case SESSION_ENDED:
                return;
        }
}

/* ---- the connection's other events ---- */

static void on_secured(Connection *connection, void *userdata) {
        Session *s = userdata;
        const uint8_t *pin = connection_pin(connection);
        if (!s->dialled) {
                Link *link = net_find_key(s->net, pin);
                if (link)
                        link_sign_of_life(link);
                return;
        }
        Link *link = s->link;
        link->unreached = false;
        if (memcmp(pin, link->key, PEER_KEY_SIZE) != 0) {
                link_trouble(link, TROUBLE_WRONG_KEY, s->text, "somebody answers there who has another key");
                connection_close(connection, CONNECTION_INSECURE, "somebody answers there who has another key");
                return;
        }
        if (session_send_hello(s, false) < 0) {
                connection_close(connection, CONNECTION_NO_MEMORY, "out of memory");
                return;
        }
        s->stage = SESSION_GREETED;
}

static void on_writable(Connection *connection, PeerStream stream, void *userdata) {
        Session *s = userdata;
        if (s->stage != SESSION_MEMBER)
                return;
        NodeId node = s->link->node;
        s->net->callbacks->writable(&node, stream, s->net->userdata);
}

static void on_wrote(Connection *connection, void *userdata) {
        Session *s = userdata;
        if (s->beat_due)
                net_want_turn(s->net);
}

static StrangerTrouble kind_of(ConnectionEnd end) {
        return end == CONNECTION_INSECURE ? STRANGER_NO_TLS : STRANGER_NONSENSE;
}

static void end_member(Session *s, ConnectionEnd end, const char *why) {
        Link *link = s->link;
        link->heard_us = connection_heard_us(s->connection);
        link->member = NULL;
        link->down_due = link->announced;
        (void) snprintf(link->why, sizeof(link->why), "%s", why);
        if (net_now_us(s->net) - s->up_us >= s->net->silence_us)
                link_lasted(link);
        if (end == CONNECTION_GARBAGE)
                link_trouble(link, TROUBLE_GARBAGE, s->text, why);
        link_look(link);
}

static void on_closed(Connection *connection, ConnectionEnd end, const char *why, void *userdata) {
        _cleanup_(session_freep) Session *s = userdata;
        PeerNet *net = s->net;
        Link *link = s->link;
        bool was_attempt = link && link->dialled == s;
        switch (s->stage) {
        case SESSION_MEMBER:
                end_member(s, end, why);
                s->link = NULL;
                net_tell_downs(net);
                return;
        case SESSION_ASKING:
                net->callbacks->stranger_gone(&s->stranger, net->userdata);
                return;
        case SESSION_BEGINNING:
        case SESSION_GREETED:
        case SESSION_HELD:
        case SESSION_STRANGER:
                if (end == CONNECTION_GARBAGE && link)
                        link_trouble(link, TROUBLE_GARBAGE, s->text, why);
                else if (!s->dialled && s->stage != SESSION_HELD && end != CONNECTION_LOST)
                        net_log_stranger(net, kind_of(end), s->text, why);
                if (link)
                        unlink_session(s);
                if (was_attempt)
                        link_attempt_failed(link, s->text, why);
                return;
        case SESSION_LEAVING:
        case SESSION_ENDED:
                return;
        }
}
static const ConnectionEvents session_events = {
        .secured = on_secured,
        .frame = on_frame,
        .writable = on_writable,
        .wrote = on_wrote,
        .closed = on_closed,
};

/* ---- the beginning ---- */

static Session *new_session(PeerNet *net, const SocketAddress *remote, ConnectionConfig *ret_config) {
        Session *s = calloc(1, sizeof(Session));
        if (!s)
                return NULL;
        s->net = net;
        s->remote = *remote;
        s->number = ++net->last_number;
        s->began_us = net_now_us(net);
        s->stranger.session = s;
        address_to_text(remote, s->text);
        *ret_config = (ConnectionConfig) {
                .event = net->event,
                .key = net->key,
                .deadline_us = net->connect_us,
                .frame_size_max = STRANGER_FRAME_SIZE_MAX,
                .events = &session_events,
                .userdata = s,
        };
        s->next = net->sessions;
        net->sessions = s;
        return s;
}

void session_accept(PeerNet *net, int fd, const SocketAddress *remote) {
        _cleanup_close_ int taken = fd;
        ConnectionConfig config;
        while (net_count_pending(net) >= PENDING_MAX) {
                Session *victim = net_find_victim(net, SESSION_BEGINNING, SESSION_LEAVING);
                if (!victim)
                        return;
                net_log_stranger(net, STRANGER_TOO_MANY, victim->text, "too many connections that say nothing");
                session_drop(victim, "too many connections");
        }
        Session *s = new_session(net, remote, &config);
        if (!s)
                return;
        if (connection_accept(&s->connection, &config, steal_fd(&taken)) < 0) {
                (void) session_free(s);
                return;
        }
        s->waits = true;
        connection_pause(s->connection, true);
        net_begin_handshakes(net);
}

int session_dial(Link *link, const SocketAddress *remote, size_t address_index) {
        ConnectionConfig config;
        Session *s = new_session(link->net, remote, &config);
        if (!s)
                return -ENOMEM;
        s->dialled = true;
        s->address_index = address_index;
        int r = connection_dial(&s->connection, &config, remote);
        if (r < 0) {
                (void) session_free(s);
                return r;
        }
        s->link = link;
        link->dialled = s;
        return 0;
}
