/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/lives.h"

#include <errno.h>

#include "core/neighbours.h"
#include "daemon/seats.h"
#include "util/clock.h"

void lives_clear(Lives *lives) {
        array_clear(&lives->down);
        array_clear(&lives->all);
}

static int compare_down(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const Downtime *) item)->node);
}

int lives_up(Lives *lives, const NodeId *node) {
        size_t i;
        if (array_find(&lives->down, node, compare_down, &i))
                array_remove(&lives->down, i);
        return 0;
}

int lives_down(Lives *lives, const NodeId *node, uint64_t now_us) {
        size_t i;
        if (array_find(&lives->down, node, compare_down, &i))
                return 0;
        Downtime down = { .node = *node, .since_us = now_us, .since_ms = clock_realtime_ms() };
        return array_insert(&lives->down, i, &down);
}

static int compare_life(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const NodeLife *) item)->node);
}

static int compare_silent(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &((const SilentNode *) item)->node);
}

static const Downtime *find_down(const Lives *lives, const NodeId *node) {
        size_t i;
        return array_find(&lives->down, node, compare_down, &i) ? lives->down.items + i : NULL;
}

uint64_t lives_silent_us(const Lives *lives, const NodeId *node, uint64_t now_us) {
        const Downtime *down = find_down(lives, node);
        if (!down || ID_EQUAL(node, &lives->node))
                return 0;
        /* A new leader has heard nobody before. */
        uint64_t since = down->since_us > lives->leading_since_us ? down->since_us : lives->leading_since_us;
        return now_us > since ? now_us - since : 1;
}

/* Who is not connected and was never seen to be is down since now. */
static int note_absent(Lives *lives, uint64_t now_us) {
        int r = 0;
        ARRAY_EACH(node, &history_registry(lives->history)->nodes)
                if (r >= 0 && !ID_EQUAL(&node->id, &lives->node) &&
                    !(lives->net && peer_net_is_up(lives->net, &node->id)))
                        r = lives_down(lives, &node->id, now_us);
        return r;
}

/* Who was removed does not come back under this id. Before the registry is here, nobody is in it. */
static void forget_removed(Lives *lives) {
        const Registry *registry = history_registry(lives->history);
        size_t kept = 0;
        if (!registry_find_node(registry, &lives->node))
                return;
        ARRAY_EACH(down, &lives->down)
                if (registry_find_node(registry, &down->node))
                        lives->down.items[kept++] = *down;
        lives->down.n = kept;
}

static NodeRole role_of(const Seats *seats, const NodeId *node) {
        switch (seats_role(seats, node)) {
        case RAFT_MEMBER_VOTER:
                return NODE_VOTER;
        case RAFT_MEMBER_STANDBY:
                return NODE_STANDBY;
        case RAFT_MEMBER_SPARE:
        case RAFT_MEMBER_NONE:
                break;
        }
        return NODE_READER;
}

/* By this node's own connections. */
static void judge(const Lives *lives, NodeLife *life, uint64_t now_us, uint64_t *wake_us) {
        uint64_t silent_us = lives_silent_us(lives, &life->node, now_us);
        if (silent_us == 0)
                return;
        const Downtime *down = find_down(lives, &life->node);
        life->silent = silent_us >= LIVES_GRACE_US;
        life->silent_since_ms = life->silent ? down->since_ms : 0;
        uint64_t due = now_us + LIVES_GRACE_US - silent_us;
        if (!life->silent && due < *wake_us)
                *wake_us = due;
}

static int publish(const Lives *lives, bool leads) {
        _cleanup_(silent_facts_clear) SilentFacts said = {};
        RaftStatus status;
        if (!leads)
                return cluster_facts_publish_silent(lives->facts, NULL);
        history_status(lives->history, &status);
        said.term = status.term;
        said.nodes = calloc(lives->all.n + 1, sizeof(*said.nodes));
        if (!said.nodes)
                return -ENOMEM;
        ARRAY_EACH(life, &lives->all)
                if (life->silent)
                        said.nodes[said.n_nodes++] = (SilentNode) { life->node, life->silent_since_ms };
        return cluster_facts_publish_silent(lives->facts, &said);
}

/* What the leader says. While none is known, what the last one said stays. */
static int believe(const Lives *lives, const Lead *lead, NodeLives *fresh) {
        _cleanup_(silent_facts_clear) SilentFacts said = {};
        int r = id_is_null(lead->leader.bytes) ? 0
                                               : cluster_facts_collect_silent(lives->facts, &lead->leader, &said);
        if (r < 0)
                return r;
        ARRAY_EACH(life, fresh) {
                size_t i;
                if (r == 0) {
                        if (array_find(&lives->all, &life->node, compare_life, &i)) {
                                life->silent = lives->all.items[i].silent;
                                life->silent_since_ms = lives->all.items[i].silent_since_ms;
                        }
                } else if (array_search(said.nodes, said.n_nodes, sizeof(*said.nodes), &life->node, compare_silent,
                                        &i)) {
                        life->silent = true;
                        life->silent_since_ms = said.nodes[i].since_ms;
                }
        }
        return 0;
}

static int list_members(const Lives *lives, NodeLives *fresh) {
        Seats seats;
        seats_get(history_engine(lives->history), &seats);
        int r = 0;
        ARRAY_EACH(node, &history_registry(lives->history)->nodes)
                if (r >= 0)
                        r = array_append(fresh, (&(NodeLife) { .node = node->id,
                                                               .role = role_of(&seats, &node->id) }));
        return r;
}

static bool same(const NodeLives *a, const NodeLives *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++) {
                const NodeLife *x = a->items + i, *y = b->items + i;
                if (!ID_EQUAL(&x->node, &y->node) || x->role != y->role || x->silent != y->silent ||
                    x->silent_since_ms != y->silent_since_ms)
                        return false;
        }
        return true;
}

/* To the engine's members everybody has connections, and in a small cluster to all. */
static void judge_without_leader(const Lives *lives, uint64_t now_us, NodeLives *fresh, uint64_t *wake_us) {
        ARRAY_EACH(life, fresh) {
                if (fresh->n > NEIGHBOURS_ALL && life->role == NODE_READER)
                        continue;
                life->silent = false;
                life->silent_since_ms = 0;
                judge(lives, life, now_us, wake_us);
        }
}

static int look(Lives *lives, const Lead *lead, uint64_t now_us, NodeLives *fresh, uint64_t *wake_us) {
        int r = list_members(lives, fresh);
        if (r < 0)
                return r;
        if (!lead->is_local) {
                r = believe(lives, lead, fresh);
                if (r < 0 || lives->leaderless_since_us == 0)
                        return r;
                uint64_t patient_until = lives->leaderless_since_us + LIVES_LEADERLESS_US;
                if (now_us < patient_until) {
                        *wake_us = patient_until;
                        return 0;
                }
                r = note_absent(lives, now_us);
                judge_without_leader(lives, now_us, fresh, wake_us);
                return r;
        }
        r = note_absent(lives, now_us);
        ARRAY_EACH(life, fresh)
                judge(lives, life, now_us, wake_us);
        return r;
}

int lives_turn(Lives *lives, uint64_t now_us, uint64_t *ret_wake_us) {
        NodeLives fresh = {};
        Lead lead;
        *ret_wake_us = UINT64_MAX;
        forget_removed(lives);
        history_lead(lives->history, &lead);
        if (lead.is_local != (lives->leading_since_us > 0))
                lives->leading_since_us = lead.is_local ? now_us : 0;
        if (!id_is_null(lead.leader.bytes) || lives->removed)
                lives->leaderless_since_us = 0;
        else if (lives->leaderless_since_us == 0)
                lives->leaderless_since_us = now_us;
        int r = look(lives, &lead, now_us, &fresh, ret_wake_us);
        if (r < 0) {
                array_clear(&fresh);
                return r;
        }
        bool changed = !same(&lives->all, &fresh);
        array_clear(&lives->all);
        lives->all = fresh;
        r = publish(lives, lead.is_local && lead.quorate);
        return r < 0 ? r : changed;
}
