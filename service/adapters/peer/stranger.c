/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/net-private.h"

#include <errno.h>
#include <string.h>

static bool is_in(const Session *s, SessionStage first, SessionStage second) {
        return !s->dialled && (s->stage == first || s->stage == second);
}

static size_t count(const PeerNet *net, SessionStage first, SessionStage second) {
        size_t n = 0;
        for (const Session *s = net->sessions; s; s = s->next)
                n += is_in(s, first, second);
        return n;
}

size_t net_count_pending(const PeerNet *net) {
        return count(net, SESSION_BEGINNING, SESSION_LEAVING) + count(net, SESSION_HELD, SESSION_HELD);
}

static size_t count_of_host(const PeerNet *net, const Session *of, SessionStage first, SessionStage second) {
        size_t n = 0;
        for (const Session *s = net->sessions; s; s = s->next)
                n += is_in(s, first, second) && address_is_same_host(&s->remote, &of->remote);
        return n;
}

Session *net_find_victim(PeerNet *net, SessionStage first, SessionStage second) {
        Session *victim = NULL;
        size_t most = 0;
        /* The newest stand first in the list. */
        for (Session *s = net->sessions; s; s = s->next) {
                if (!is_in(s, first, second))
                        continue;
                size_t n = count_of_host(net, s, first, second);
                if (n >= most) {
                        victim = s;
                        most = n;
                }
        }
        return victim;
}

/* Who has said what it wants keeps its place; of those who have not, one gives way to a host that has fewer. */
static bool make_place(PeerNet *net, const Session *newcomer) {
        if (count(net, SESSION_STRANGER, SESSION_ASKING) < STRANGERS_MAX)
                return true;
        Session *victim = net_find_victim(net, SESSION_STRANGER, SESSION_STRANGER);
        if (!victim || count_of_host(net, victim, SESSION_STRANGER, SESSION_STRANGER) <=
                               count_of_host(net, newcomer, SESSION_STRANGER, SESSION_ASKING))
                return false;
        session_drop(victim, "too many strangers");
        return true;
}

void stranger_greet(Session *s, const Gpupool1__Hello *hello) {
        if (!make_place(s->net, s)) {
                net_log_stranger(s->net, STRANGER_TOO_MANY, s->text, "too many strangers at once");
                session_goodbye(s, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_BUSY,
                                "too many nodes want to join at this moment");
                return;
        }
        if (session_send_hello(s, true) < 0) {
                session_drop(s, "out of memory");
                return;
        }
        memcpy(s->node.bytes, hello->node.data, ID_SIZE);
        s->stage = SESSION_STRANGER;
}

void stranger_take_frame(Session *s, const Gpupool1__Frame *frame) {
        PeerNet *net = s->net;
        if (s->stage != SESSION_STRANGER || frame->body_case != GPUPOOL1__FRAME__BODY_JOIN_REQUEST) {
                connection_close(s->connection, CONNECTION_GARBAGE, "a stranger may only ask to join, and once");
                return;
        }
        s->stage = SESSION_ASKING;
        net->callbacks->join_request(&s->stranger, &s->node, connection_pin(s->connection), frame->join_request,
                                     net->userdata);
}

int peer_stranger_answer(PeerStranger *stranger, const Gpupool1__JoinAnswer *answer) {
        Session *s = stranger->session;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_JOIN_ANSWER;
        frame.join_answer = (Gpupool1__JoinAnswer *) answer;
        s->stage = SESSION_LEAVING;
        int r = connection_send(s->connection, PEER_STREAM_CALL, &frame);
        connection_finish(s->connection, s->net->connect_us);
        if (r < 0)
                return r;
        return r == PEER_SEND_QUEUED ? 0 : r == PEER_SEND_TOO_LARGE ? -E2BIG : -ENOTCONN;
}
