/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/cluster-facts.h"

#include <errno.h>
#include <systemd/sd-id128.h>

#include "core/facts-codec.h"
#include "util/array.h"
#include "util/log.h"

#define PERIOD_US 500000U
#define PERIOD_SLACK_US 50000U

struct ClusterFacts {
        ClusterFactsConfig config;
        sd_event_source *period;
        sd_event_source *spread;        /* news of our own: not waiting for the period */
        Gossip *gossip;
        PeerNet *net;
        bool self_is_member;
        ARRAY(Neighbour) connected;
        ARRAY(NodeFacts *) others;      /* by node */
        ARRAY(const NodeFacts *) listed;
        uint64_t version;               /* of the facts that were read last */
};

static int compare_facts(const void *key, const void *item) {
        return ID_COMPARE((const NodeId *) key, &(*(const NodeFacts *const *) item)->node);
}

static void drop(ClusterFacts *facts, size_t index) {
        node_facts_clear(facts->others.items[index]);
        free(facts->others.items[index]);
        array_remove(&facts->others, index);
}

/* Reads anew what gossip knows of @node. What came in part only waits for the rest, and until a new generation has the
 * host in it the old one is shown: a member never takes all back. */
static int refresh(ClusterFacts *facts, const NodeId *node) {
        size_t index;
        if (ID_EQUAL(node, &facts->config.node))
                return 0;
        NodeFacts *fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
                return -ENOMEM;
        bool known = array_find(&facts->others, node, compare_facts, &index);
        int r = facts_collect(facts->gossip, node, fresh, NULL);
        if (r == FACTS_WHOLE || (r == FACTS_PARTIAL && !known)) {
                fresh->version = ++facts->version;
                if (known)
                        drop(facts, index);
                r = array_insert(&facts->others, index, &fresh);
                if (r >= 0)
                        return 0;
        }
        node_facts_clear(fresh);
        free(fresh);
        return r < 0 ? r : 0;
}

static void say(ClusterFacts *facts, const NodeId *to, Gpupool1__Gossip *message) {
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        frame.body_case = GPUPOOL1__FRAME__BODY_GOSSIP;
        frame.gossip = message;
        /* What is lost now is said again in the next period. */
        (void) peer_net_send(facts->net, to, PEER_STREAM_GOSSIP, &frame);
}

static void begin_exchanges(ClusterFacts *facts) {
        _cleanup_(gossip_message_freep) Gpupool1__Gossip *message = NULL;
        NodeId partners[NEIGHBOURS_ALL];
        sd_id128_t drawn;
        if (!facts->net || facts->connected.n == 0 || sd_id128_randomize(&drawn) < 0)
                return;
        size_t n = neighbours_partners(facts->self_is_member, facts->connected.items, facts->connected.n,
                                       drawn.qwords[0], partners);
        if (n == 0 || gossip_begin(facts->gossip, &message) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                say(facts, partners + i, message);
}

static int on_period(sd_event_source *source, uint64_t usec, void *userdata) {
        ClusterFacts *facts = userdata;
        begin_exchanges(facts);
        (void) sd_event_source_set_time_relative(source, PERIOD_US);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static int on_spread(sd_event_source *source, void *userdata) {
        begin_exchanges(userdata);
        return 0;
}

int cluster_facts_new(ClusterFacts **ret, sd_event *event, const ClusterFactsConfig *config) {
        _cleanup_(cluster_facts_freep) ClusterFacts *facts = calloc(1, sizeof(*facts));
        if (!facts)
                return -ENOMEM;
        facts->config = *config;
        int r = gossip_new(&facts->gossip, &config->node, config->generation);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &facts->period, CLOCK_BOOTTIME, PERIOD_US, PERIOD_SLACK_US,
                                               on_period, facts);
        if (r >= 0)
                r = sd_event_add_defer(event, &facts->spread, on_spread, facts);
        if (r >= 0)
                r = sd_event_source_set_enabled(facts->spread, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = STEAL(facts);
        return 0;
}

ClusterFacts *cluster_facts_free(ClusterFacts *facts) {
        if (!facts)
                return NULL;
        sd_event_source_disable_unref(facts->period);
        sd_event_source_disable_unref(facts->spread);
        while (facts->others.n > 0)
                drop(facts, facts->others.n - 1);
        array_clear(&facts->others);
        array_clear(&facts->listed);
        array_clear(&facts->connected);
        gossip_free(facts->gossip);
        free(facts);
        return NULL;
}

void cluster_facts_set_net(ClusterFacts *facts, PeerNet *net) {
        facts->net = net;
}

static bool is_member(const NodeId *nodes, size_t n, const NodeId *node) {
        for (size_t i = 0; i < n; i++)
                if (ID_EQUAL(nodes + i, node))
                        return true;
        return false;
}

int cluster_facts_set_members(ClusterFacts *facts, const NodeId *nodes, size_t n) {
        int r = gossip_set_members(facts->gossip, nodes, n);
        if (r < 0)
                return r;
        for (size_t i = facts->others.n; i > 0; i--)
                if (!is_member(nodes, n, &facts->others.items[i - 1]->node))
                        drop(facts, i - 1);
        return 0;
}

int cluster_facts_set_connected(ClusterFacts *facts, bool self_is_member, const Neighbour *connected, size_t n) {
        int r = array_reserve(&facts->connected.items, &facts->connected.allocated, n, sizeof(*connected));
        if (r < 0)
                return r;
        bool more = n > facts->connected.n;
        if (n > 0)
                memcpy(facts->connected.items, connected, n * sizeof(*connected));
        facts->connected.n = n;
        facts->self_is_member = self_is_member;
        if (more)
                (void) sd_event_source_set_enabled(facts->spread, SD_EVENT_ONESHOT);
        return 0;
}

/* Since @version something of our own changed: not waiting for the period. */
static int spread_since(ClusterFacts *facts, uint64_t version, int r) {
        if (gossip_version(facts->gossip, &facts->config.node) != version)
                (void) sd_event_source_set_enabled(facts->spread, SD_EVENT_ONESHOT);
        return r;
}

int cluster_facts_publish(ClusterFacts *facts, const NodeFacts *local) {
        uint64_t version = gossip_version(facts->gossip, &facts->config.node);
        return spread_since(facts, version, facts_publish(facts->gossip, local));
}

int cluster_facts_publish_silent(ClusterFacts *facts, const SilentFacts *silent) {
        uint64_t version = gossip_version(facts->gossip, &facts->config.node);
        return spread_since(facts, version, silent_facts_publish(facts->gossip, silent));
}

int cluster_facts_collect_silent(const ClusterFacts *facts, const NodeId *leader, SilentFacts *ret) {
        return silent_facts_collect(facts->gossip, leader, ret);
}

int cluster_facts_publish_fencing(ClusterFacts *facts, const FencingFacts *fencing) {
        uint64_t version = gossip_version(facts->gossip, &facts->config.node);
        return spread_since(facts, version, fencing_facts_publish(facts->gossip, fencing));
}

int cluster_facts_collect_fencing(const ClusterFacts *facts, const NodeId *leader, FencingFacts *ret) {
        return fencing_facts_collect(facts->gossip, leader, ret);
}

int cluster_facts_publish_vm(ClusterFacts *facts, const VmId *vm, const VmFacts *said) {
        uint64_t version = gossip_version(facts->gossip, &facts->config.node);
        int r = spread_since(facts, version, vm_facts_publish(facts->gossip, vm, said));
        return r < 0 ? r : gossip_version(facts->gossip, &facts->config.node) != version;
}

int cluster_facts_collect_vm(const ClusterFacts *facts, const NodeId *node, const VmId *vm, VmFacts *ret) {
        return vm_facts_collect(facts->gossip, node, vm, ret);
}

bool cluster_facts_next_vm(const ClusterFacts *facts, const VmId *vm, VmId *ret) {
        return vm_facts_next(facts->gossip, &facts->config.node, vm, ret);
}

void cluster_facts_heard(ClusterFacts *facts, const NodeId *from, const Gpupool1__Gossip *message) {
        _cleanup_(gossip_reply_clear) GossipReply reply = {};
        int r = gossip_receive(facts->gossip, from, message, &reply);
        if (r == GOSSIP_TAKEN && reply.message && facts->net)
                say(facts, from, reply.message);
        for (size_t i = 0; r >= 0 && i < reply.n_changed; i++)
                r = refresh(facts, reply.changed + i);
        if (r < 0)
                log_warning("what a peer said of its facts could not be kept: %s", strerror(-r));
        if (reply.n_changed > 0)
                facts->config.changed(facts->config.userdata);
}

int cluster_facts_list(ClusterFacts *facts, const NodeFacts *local, const NodeFacts *const **ret, size_t *ret_n) {
        size_t n = facts->others.n, at;
        int r = array_reserve(&facts->listed.items, &facts->listed.allocated, n + 1, sizeof(*facts->listed.items));
        if (r < 0)
                return r;
        facts->listed.n = n;
        if (n > 0)
                memcpy(facts->listed.items, facts->others.items, n * sizeof(*facts->listed.items));
        if (local) {
                bool twice = array_find(&facts->listed, &local->node, compare_facts, &at);
                if (twice)
                        facts->listed.items[at] = local;
                else
                        (void) array_insert(&facts->listed, at, &local);
        }
        *ret = facts->listed.items;
        *ret_n = facts->listed.n;
        return 0;
}
