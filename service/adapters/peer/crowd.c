/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The crowd at the door: those who were accepted and are not known yet. Whoever they are, they cost little, and a host
 * or network with very many is in its own way only. */

#include "adapters/peer/net-private.h"

/* A handshake is a few signatures and a key exchange: about a millisecond of the loop. So many begin at once, and then
 * one each 20 ms: a thousand members that come back together are in within half a minute, and a flood costs a twentieth
 * of one processor. Who is over waits here and not in the kernel's queue, where it would be in everybody's way. */
#define HANDSHAKES_AT_ONCE 64U
#define HANDSHAKE_US 20000U

static bool is_in(const Session *s, SessionStage first, SessionStage second) {
        return !s->dialled && (s->stage == first || s->stage == second);
}

size_t net_count(const PeerNet *net, SessionStage first, SessionStage second) {
        size_t n = 0;
        for (const Session *s = net->sessions; s; s = s->next)
                n += is_in(s, first, second);
        return n;
}

size_t net_count_pending(const PeerNet *net) {
        return net_count(net, SESSION_BEGINNING, SESSION_LEAVING) + net_count(net, SESSION_HELD, SESSION_HELD);
}

Crowd net_count_crowd(const PeerNet *net, const SocketAddress *of, SessionStage first, SessionStage second) {
        Crowd crowd = {};
        for (const Session *s = net->sessions; s; s = s->next) {
                if (!is_in(s, first, second))
                        continue;
                crowd.network += address_is_same_network(&s->remote, of);
                crowd.host += address_is_same_host(&s->remote, of);
        }
        return crowd;
}

/* By network, as who has one has all its addresses; within one by host, as the others in it may be honest. */
static bool is_larger(const Crowd *a, const Crowd *b) {
        return a->network > b->network || (a->network == b->network && a->host > b->host);
}

Session *net_find_victim(PeerNet *net, SessionStage first, SessionStage second) {
        Session *victim = NULL;
        Crowd most = {};
        /* The newest stand first in the list. */
        for (Session *s = net->sessions; s; s = s->next) {
                if (!is_in(s, first, second))
                        continue;
                Crowd crowd = net_count_crowd(net, &s->remote, first, second);
                if (!is_larger(&most, &crowd)) {
                        victim = s;
                        most = crowd;
                }
        }
        return victim;
}

/* ---- handshakes ---- */

/* The oldest of the smallest crowd, so that a flood is not in the way of a member. */
static Session *find_next(const PeerNet *net) {
        Session *next = NULL;
        Crowd least = {};
        for (Session *s = net->sessions; s; s = s->next) {
                if (s->stage != SESSION_BEGINNING || !s->waits)
                        continue;
                Crowd crowd = net_count_crowd(net, &s->remote, SESSION_BEGINNING, SESSION_LEAVING);
                if (!next || !is_larger(&crowd, &least)) {
                        next = s;
                        least = crowd;
                }
        }
        return next;
}

/* A bucket of tokens, known by when it will be full again. */
void net_begin_handshakes(PeerNet *net) {
        uint64_t now = net_now_us(net);
        for (Session *s; (s = find_next(net));) {
                uint64_t full_us = net->handshakes_full_us > now ? net->handshakes_full_us : now;
                full_us += HANDSHAKE_US;
                if (full_us > now + (uint64_t) HANDSHAKES_AT_ONCE * HANDSHAKE_US) {
                        (void) sd_event_source_set_time(net->handshake,
                                                        full_us - (uint64_t) HANDSHAKES_AT_ONCE * HANDSHAKE_US);
                        (void) sd_event_source_set_enabled(net->handshake, SD_EVENT_ONESHOT);
                        return;
                }
                net->handshakes_full_us = full_us;
                s->waits = false;
                connection_pause(s->connection, false);
        }
}
