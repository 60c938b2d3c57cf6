/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/net-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"

#define PAUSE_FIRST_US (100ULL * 1000)
#define PAUSE_MOST_US (5ULL * 1000 * 1000)

Link *link_free(Link *link) {
        if (!link)
                return NULL;
        link_stop_dialling(link);
        text_list_clear(&link->addresses);
        free(link);
        return NULL;
}

static int compare_node(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &(*(Link *const *) item)->node);
}

Link *net_find_link(const PeerNet *net, const NodeId *node) {
        size_t i;
        return array_find(&net->links, node, compare_node, &i) ? net->links.items[i] : NULL;
}

Link *net_find_key(const PeerNet *net, const uint8_t key[static PEER_KEY_SIZE]) {
        ARRAY_EACH(link, &net->links)
                if (memcmp((*link)->key, key, PEER_KEY_SIZE) == 0)
                        return *link;
        return NULL;
}

void link_trouble(Link *link, Trouble trouble, const char *address, const char *why) {
        if (link->troubles & (1U << trouble))
                return;
        link->troubles |= 1U << trouble;
        log_warning("Node %s%s%s: %s", link->name, address ? " at " : "", address ? address : "", why);
}

void link_lasted(Link *link) {
        link->backoff_us = PAUSE_FIRST_US;
        link->troubles = 0;
        link->unknown_there = false;
}

void link_disconnect(Link *link, Gpupool1__GoodbyeReason reason, const char *why) {
        Session *s = link->member;
        if (!s)
                return;
        link->heard_us = connection_heard_us(s->connection);
        link->member = NULL;
        link->down_due = link->announced;
        (void) snprintf(link->why, sizeof(link->why), "%s", why);
        session_goodbye(s, reason, why);
        net_want_turn(link->net);
}

/* ---- dialling ---- */

void link_stop_dialling(Link *link) {
        link->dial = dial_free(link->dial);
        link->retry = sd_event_source_disable_unref(link->retry);
        if (link->dialled)
                session_drop(link->dialled, "it is not needed any more");
}

static void remember(Link *link, const char *address, const char *why) {
        (void) snprintf(link->walk_why, sizeof(link->walk_why), "%s: %s", address, why);
}

static void on_found(const SocketAddress *address, const char *text, size_t index, void *userdata) {
        Link *link = userdata;
        int r = session_dial(link, address, index);
        if (r >= 0)
                return;
        remember(link, text, strerror(-r));
        dial_next(link->dial);
}

static void on_useless(const char *text, const char *why, void *userdata) {
        remember(userdata, text, why);
}

static void on_exhausted(void *userdata) {
        Link *link = userdata;
        char sentence[SENTENCE_SIZE + 32];
        (void) snprintf(sentence, sizeof(sentence), "it cannot be reached: %s",
                        link->walk_why[0] ? link->walk_why : "it has no address");
        link->dial = dial_free(link->dial);
        /* What is more particular was told already. */
        if (!(link->troubles & ~(1U << TROUBLE_UNREACHABLE)))
                link_trouble(link, TROUBLE_UNREACHABLE, NULL, sentence);
        link_look(link);
}

static const DialEvents dial_events = {
        .found = on_found,
        .useless = on_useless,
        .exhausted = on_exhausted,
};

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Link *link = userdata;
        PeerNet *net = link->net;
        link->retry = sd_event_source_disable_unref(link->retry);
        link->walk_why[0] = '\0';
        link->unreached = true;
        int r = dial_new(&link->dial, net->event, net->resolver, &link->addresses, link->best_address, net->connect_us,
                         &dial_events, link);
        if (r < 0)
                link_look(link);        /* later */
        else
                dial_next(link->dial);
        return 0;
}

/* A quarter more or less, so that nodes that lost each other at once do not go on in step. */
static uint64_t take_pause(Link *link) {
        uint64_t pause = link->backoff_us < PAUSE_MOST_US ? link->backoff_us : PAUSE_MOST_US;
        link->backoff_us = pause == 0 ? PAUSE_FIRST_US : pause * 2;
        return pause == 0 ? 0 : pause - pause / 4 + net_random(link->net, pause / 2);
}

void link_look(Link *link) {
        PeerNet *net = link->net;
        if (!link->wanted || link->removed || link->member || link->dial || link->retry || link->dialled ||
            id_is_null(net->cluster.bytes))
                return;
        uint64_t pause = take_pause(link);
        /* Without memory for a timer the next set_peers() or the next turn of this link tries again. */
        if (sd_event_add_time(net->event, &link->retry, CLOCK_BOOTTIME, net_now_us(net) + pause, 10000, on_retry,
                              link) < 0)
                link->retry = NULL;
}

void link_sign_of_life(Link *link) {
        if (!link->unreached)
                return;
        link->unreached = false;
        link->backoff_us = 0;
        link->retry = sd_event_source_disable_unref(link->retry);
        link_look(link);
}

void link_attempt_failed(Link *link, const char *address, const char *why) {
        remember(link, address, why);
        if (link->dial)
                dial_next(link->dial);
        if (link->held)
                session_decide_held(link);      /* the link may be gone behind this */
}

/* ---- who there is ---- */

/* What set_peers() is going to do, with all the memory that it takes. */
typedef struct Staged {
        Link *old;                      /* one of the two */
        Link *fresh;
        const char *name;
        TextList addresses;             /* for the old one */
        bool wanted, removed;
} Staged;

typedef ARRAY(Staged) Stage;

static int compare_staged(const void *key, const void *item) {
        const Staged *staged = item;
        return ID_COMPARE((const NodeId *) key, &(staged->old ? staged->old : staged->fresh)->node);
}

static void clear_stage(Stage *stage) {
        ARRAY_EACH(staged, stage) {
                (void) link_free(staged->fresh);
                text_list_clear(&staged->addresses);
        }
        array_clear(stage);
}

static int copy_addresses(const PeerInfo *info, TextList *ret) {
        for (size_t i = 0; i < info->n_addresses; i++) {
                int r = text_list_add(ret, info->addresses[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static Link *new_link(PeerNet *net, const PeerInfo *info) {
        Link *link = calloc(1, sizeof(Link));
        if (!link)
                return NULL;
        link->net = net;
        link->node = info->node;
        memcpy(link->key, info->key, PEER_KEY_SIZE);
        return link;
}

static void set_name(Link *link, const char *name) {
        if (name)
                (void) snprintf(link->name, sizeof(link->name), "%s", name);
        else
                id_to_text(link->node.bytes, link->name);
}

static int stage_peer(PeerNet *net, Stage *stage, const PeerInfo *info) {
        size_t i;
        if (ID_EQUAL(&info->node, &net->node) || array_find(stage, &info->node, compare_staged, &i))
                return 0;
        Staged staged = { .wanted = info->wanted, .removed = info->removed };
        staged.old = net_find_link(net, &info->node);
        if (staged.old && memcmp(staged.old->key, info->key, PEER_KEY_SIZE) != 0)
                staged.old = NULL;
        if (!staged.old)
                staged.fresh = new_link(net, info);
        if (staged.fresh)
                set_name(staged.fresh, info->name);
        staged.name = info->name;
        int r = staged.old || staged.fresh ? copy_addresses(info, &staged.addresses) : -ENOMEM;
        if (r >= 0)
                r = array_insert(stage, i, &staged);
        if (r < 0) {
                (void) link_free(staged.fresh);
                text_list_clear(&staged.addresses);
        }
        return r;
}

static bool is_staged(const Stage *stage, const Link *link) {
        size_t i;
        return array_find(stage, &link->node, compare_staged, &i) && stage->items[i].old == link;
}

static void forget(PeerNet *net, Link *link, const char *why) {
        link_disconnect(link, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN, why);
        if (link->held)
                session_goodbye(link->held, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_UNKNOWN, why);
        if (!link->announced) {
                (void) link_free(link);
                return;
        }
        link_stop_dialling(link);
        link->next_gone = net->gone;
        net->gone = link;
}

static void stop_early_attempt(Link *link) {
        if (!link->dialled || link->dialled->stage != SESSION_GREETED)
                link_stop_dialling(link);
}

static void update(Link *link, Staged *staged) {
        if (!text_list_equal(&link->addresses, &staged->addresses)) {
                TextList before = link->addresses;
                link->addresses = staged->addresses;
                staged->addresses = before;
                link->best_address = 0;
                link->backoff_us = 0;
                stop_early_attempt(link);
        }
        if (link->wanted != staged->wanted && link->member) {
                link->member->beat_due = true;
                net_want_turn(link->net);
        }
        set_name(link, staged->name);
        link->wanted = staged->wanted;
        link->removed = staged->removed;
        if (!link->wanted)
                stop_early_attempt(link);
        if (!link->removed)
                return;
        const char *why = "this cluster has removed the node";
        link_disconnect(link, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REMOVED, why);
        if (link->held)
                session_goodbye(link->held, GPUPOOL1__GOODBYE_REASON__GOODBYE_REASON_REMOVED, why);
        link_stop_dialling(link);
}

int peer_net_set_peers(PeerNet *net, const PeerInfo *peers, size_t n) {
        _cleanup_(clear_stage) Stage stage = {};
        ARRAY(Link *) links = {};
        int r = 0;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = stage_peer(net, &stage, &peers[i]);
        if (r >= 0)
                r = array_reserve(&links.items, &links.allocated, stage.n, sizeof(Link *));
        if (r < 0)
                return r;

        ARRAY_EACH(link, &net->links)
                if (!is_staged(&stage, *link))
                        forget(net, *link, "this node does not know it any more, or by another key");
        ARRAY_EACH(staged, &stage) {
                Link *link = staged->old ? staged->old : staged->fresh;
                staged->fresh = NULL;
                update(link, staged);
                links.items[links.n++] = link;
        }
        array_clear(&net->links);
        net->links.items = links.items;
        net->links.n = links.n;
        net->links.allocated = links.allocated;
        ARRAY_EACH(link, &net->links)
                link_look(*link);
        return 0;
}
