/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers.h"

#include <errno.h>

#include "daemon/seats.h"
#include "util/log.h"

#define FILE_RETRY_US 10000000U         /* a full disk may have room again */

void peers_clear(Peers *peers) {
        peers_file_clear(&peers->file);
}

void peers_begin_anew(Peers *peers) {
        peers->told = 0;
        peers->seen = (PeersSeen) {};
}

typedef struct Roster {
        ARRAY(PeerInfo) infos;
        ARRAY(Neighbour) nodes;         /* the cluster, this node among them */
} Roster;

static void roster_clear(Roster *roster) {
        array_clear(&roster->infos);
        array_clear(&roster->nodes);
}

static int add(Roster *roster, const NodeId *node, const char *name, const uint8_t *key, const TextList *addresses,
               bool member) {
        PeerInfo info = { .node = *node, .name = name, .addresses = (const char *const *) addresses->items,
                          .n_addresses = addresses->n };
        Neighbour neighbour = { .id = *node, .member = member };
        memcpy(info.key, key, PEER_KEY_SIZE);
        int r = array_append(&roster->infos, &info);
        if (r >= 0)
                r = array_append(&roster->nodes, &neighbour);
        return r;
}

/* It is cut off, but not before it is out of the engine: a leader that was removed has the lead to hand over, and among
 * two no other can be elected without its vote. The new leader's first act puts it out. */
static int add_gone(Roster *roster, const RemovedNode *gone, bool in_engine) {
        PeerInfo info = { .node = gone->id, .name = gone->name, .removed = !in_engine };
        memcpy(info.key, gone->key, PEER_KEY_SIZE);
        return array_append(&roster->infos, &info);
}

/* By the registry, once it knows this node. */
static int list_by_registry(const Peers *peers, const Seats *seats, Roster *ret) {
        const Registry *registry = history_registry(peers->history);
        int r = 0;
        ARRAY_EACH(node, &registry->nodes) {
                bool member = seats_has_log(seats, &node->id);
                Neighbour self = { .id = node->id, .member = member };
                if (r >= 0 && ID_EQUAL(&node->id, &peers->node))
                        r = array_append(&ret->nodes, &self);
                else if (r >= 0 && node->has_key)
                        r = add(ret, &node->id, node->name, node->key, &node->addresses, member);
        }
        ARRAY_EACH(gone, &registry->removed)
                if (r >= 0 && gone->has_key && !registry_find_node_key(registry, gone->key))
                        r = add_gone(ret, gone, seats_has_log(seats, &gone->id));
        return r;
}

static int list_by_file(const Peers *peers, Roster *ret) {
        Neighbour self = { .id = peers->node };
        int r = array_append(&ret->nodes, &self);
        ARRAY_EACH(peer, &peers->file.peers)
                if (r >= 0 && !ID_EQUAL(&peer->node, &peers->node))
                        r = add(ret, &peer->node, peer->name, peer->key, &peer->addresses, peer->member);
        return r;
}

static void choose_wanted(const Peers *peers, uint64_t epoch, Roster *roster) {
        NodeId wanted[NEIGHBOURS_MAX];
        size_t n = neighbours_choose(&peers->node, roster->nodes.items, roster->nodes.n, epoch, wanted);
        ARRAY_EACH(info, &roster->infos)
                for (size_t i = 0; i < n && !peers->file.removed; i++)
                        info->wanted = info->wanted || ID_EQUAL(&info->node, wanted + i);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t size) {
        const uint8_t *b = bytes;
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ b[i]) * UINT64_C(1099511628211);
        return hash;
}

static uint64_t fingerprint(const Peers *peers, const Roster *roster) {
        uint64_t hash = UINT64_C(14695981039346656037);
        ARRAY_EACH(node, &roster->nodes)
                hash = mix(mix(hash, node->id.bytes, ID_SIZE), &(uint8_t) { node->member }, 1);
        ARRAY_EACH(info, &roster->infos) {
                uint8_t flags[] = { info->wanted, info->removed };
                hash = mix(mix(mix(hash, info->node.bytes, ID_SIZE), info->key, PEER_KEY_SIZE), flags, sizeof(flags));
                for (size_t i = 0; i < info->n_addresses; i++)
                        hash = mix(hash, info->addresses[i], strlen(info->addresses[i]) + 1);
        }
        /* Another net has been told nothing. */
        return mix(hash, &peers->net, sizeof(peers->net));
}

/* The registry knows more than the file. */
static int renew_file(Peers *peers, const Roster *roster) {
        const Registry *registry = history_registry(peers->history);
        _cleanup_(peers_file_clear) PeersFile fresh = { .cluster = registry->cluster, .removed = peers->file.removed };
        int r = text_set(&fresh.cluster_name, registry->name);
        ARRAY_EACH(info, &roster->infos) {
                const NodeRecord *node = registry_find_node(registry, &info->node);
                KnownPeer peer = { .node = info->node };
                if (r < 0 || info->removed || !node)
                        continue;
                memcpy(peer.key, info->key, PEER_KEY_SIZE);
                ARRAY_EACH(neighbour, &roster->nodes)
                        peer.member = peer.member || (neighbour->member && ID_EQUAL(&neighbour->id, &info->node));
                r = text_set(&peer.name, node->name);
                if (r >= 0)
                        r = text_list_copy(&node->addresses, &peer.addresses);
                if (r >= 0)
                        r = array_append(&fresh.peers, &peer);
                if (r < 0)
                        known_peer_clear(&peer);
        }
        if (r < 0)
                return r;
        r = peers_file_save(peers->state_directory, &fresh);
        if (r < 0 && !peers->file_failed)
                log_warning("%s/" PEERS_FILE " cannot be written: %s. After a restart this node may look for its peers "
                            "where they were before",
                            peers->state_directory, strerror(-r));
        peers->file_failed = r < 0;
        PeersFile old = peers->file;
        peers->file = fresh;
        fresh = old;
        return 0;
}

static int tell(Peers *peers, const Roster *roster, bool by_registry) {
        _cleanup_free_ NodeId *ids = calloc(roster->nodes.n + 1, sizeof(*ids));
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < roster->nodes.n; i++)
                ids[i] = roster->nodes.items[i].id;
        int r = cluster_facts_set_members(peers->facts, ids, roster->nodes.n);
        if (r >= 0 && peers->net)
                r = peer_net_set_peers(peers->net, roster->infos.items, roster->infos.n);
        if (r >= 0 && by_registry && !peers->file.removed)
                r = renew_file(peers, roster);
        return r;
}

/* Gossip's partners are those who are connected. */
static int tell_connected(Peers *peers, const Roster *roster) {
        ARRAY(Neighbour) connected = {};
        bool self_is_member = false;
        uint64_t hash = 1;
        int r = 0;
        ARRAY_EACH(node, &roster->nodes) {
                bool self = ID_EQUAL(&node->id, &peers->node);
                self_is_member = self_is_member || (self && node->member);
                if (r < 0 || self || !peers->net || !peer_net_is_up(peers->net, &node->id))
                        continue;
                hash = mix(mix(hash, node->id.bytes, ID_SIZE), &(uint8_t) { node->member }, 1);
                r = array_append(&connected, node);
        }
        hash = mix(hash, &(uint8_t) { self_is_member }, 1);
        if (r >= 0 && hash != peers->told_connected) {
                r = cluster_facts_set_connected(peers->facts, self_is_member, connected.items, connected.n);
                if (r >= 0)
                        peers->told_connected = hash;
        }
        array_clear(&connected);
        return r;
}

/* ---- the turn */

static PeersSeen look(const Peers *peers, const Seats *seats, bool by_registry, uint64_t epoch) {
        const Registry *registry = history_registry(peers->history);
        uint64_t engine = 1;
        for (size_t i = 0; i < seats->n; i++) {
                const RaftMember *member = seats->members + i;
                engine = mix(mix(engine, &member->id, sizeof(member->id)), &(uint8_t) { member->role }, 1);
        }
        return (PeersSeen) { .registry = by_registry ? registry : NULL, .net = peers->net,
                             .members_index = registry->members_index, .engine = engine,
                             .connections = peers->connections, .epoch = epoch, .removed = peers->file.removed };
}

static bool is_as_seen(const Peers *peers, const PeersSeen *fresh) {
        const PeersSeen *seen = &peers->seen;
        return fresh->registry && seen->registry == fresh->registry && seen->net == fresh->net &&
               seen->members_index == fresh->members_index && seen->engine == fresh->engine &&
               seen->connections == fresh->connections && seen->epoch == fresh->epoch &&
               seen->removed == fresh->removed;
}

int peers_turn(Peers *peers, uint64_t now_us, uint64_t *ret_wake_us) {
        _cleanup_(roster_clear) Roster roster = {};
        Seats seats;
        seats_get(history_engine(peers->history), &seats);
        bool by_registry = registry_find_node(history_registry(peers->history), &peers->node);
        uint64_t epoch = now_us / NEIGHBOURS_EPOCH_US;
        PeersSeen fresh = look(peers, &seats, by_registry, epoch);
        bool retry = peers->file_failed && now_us >= peers->file_retry_us;
        if (is_as_seen(peers, &fresh) && !retry) {
                *ret_wake_us = peers->wake_us;
                return 0;
        }

        int r = by_registry ? list_by_registry(peers, &seats, &roster) : list_by_file(peers, &roster);
        if (r < 0)
                return r;
        choose_wanted(peers, epoch, &roster);
        *ret_wake_us = roster.nodes.n > NEIGHBOURS_ALL ? (epoch + 1) * NEIGHBOURS_EPOCH_US : UINT64_MAX;
        uint64_t print = fingerprint(peers, &roster);
        /* What the file still says of a join is not true any more. */
        if (print != peers->told || retry) {
                r = tell(peers, &roster, by_registry);
                if (r < 0)
                        return r;
                peers->told = print;
                peers->file_retry_us = now_us + FILE_RETRY_US;
        }
        if (peers->file_failed && peers->file_retry_us < *ret_wake_us)
                *ret_wake_us = peers->file_retry_us;
        r = tell_connected(peers, &roster);
        if (r < 0)
                return r;
        peers->seen = fresh;
        peers->wake_us = *ret_wake_us;
        return 0;
}

int peers_removed(Peers *peers) {
        if (peers->file.removed)
                return 0;
        peers->file.removed = true;
        if (id_is_null(peers->file.cluster.bytes))
                peers->file.cluster = history_registry(peers->history)->cluster;
        return peers_file_save(peers->state_directory, &peers->file);
}

int peers_readmitted(Peers *peers) {
        peers->file.removed = false;
        return peers_file_save(peers->state_directory, &peers->file);
}
