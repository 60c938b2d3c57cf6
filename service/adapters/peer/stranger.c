/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/net-private.h"

#include <errno.h>
#include <string.h>

/* Who has said what it wants keeps its place; of those who have not, one gives way to a host or network that
 * has fewer. */
static bool make_place(PeerNet *net, const Session *newcomer) {
        if (net_count(net, SESSION_STRANGER, SESSION_ASKING) < STRANGERS_MAX)
                return true;
        Session *victim = net_find_victim(net, SESSION_STRANGER, SESSION_STRANGER);
        if (!victim)
                return false;
        Crowd theirs = net_count_crowd(net, &victim->remote, SESSION_STRANGER, SESSION_STRANGER);
        Crowd ours = net_count_crowd(net, &newcomer->remote, SESSION_STRANGER, SESSION_ASKING);
        bool neighbours = address_is_same_network(&victim->remote, &newcomer->remote);
        if (neighbours ? theirs.host <= ours.host : theirs.network <= ours.network)
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
