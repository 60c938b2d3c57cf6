/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/courier.h"

#include <errno.h>

#include "adapters/store/raft-codec.h"
#include "daemon/node-id.h"
#include "util/log.h"

#define ASK_US 2000000U                 /* a reader asks again, though it has got nothing */
#define STALE_US 3000000U               /* one that has not moved on since then follows somebody else */
#define TRANSFERS_MAX 8U                /* snapshots on their way out to readers, each a copy: a bound on memory */
#define COMPLAINT_US 10000000U          /* between two lines in the log */

/* A reader that this node serves: what it asked last. */
typedef struct Reader {
        NodeId node;
        uint64_t last_index, last_term, committed;
        bool waiting;                   /* there was nothing new for it */
} Reader;

/* A snapshot on its way out. */
typedef struct Transfer {
        NodeId to;
        RaftSnapshotSender *sender;
} Transfer;

/* A snapshot on its way in. */
typedef struct Arrival {
        NodeId from;
        RaftSnapshotReceiver *receiver;
        bool under_way;                 /* some of it is here */
} Arrival;

struct Courier {
        CourierConfig config;
        PeerNet *net;
        ARRAY(Reader) readers;
        ARRAY(Transfer) transfers;
        ARRAY(Arrival) arrivals;
        uint64_t served_committed;      /* of the readers that wait */
        NodeId source;                  /* whom this node follows; null: nobody */
        NodeId left;                    /* whom it gave up last */
        uint64_t asked_us;              /* when it asked last */
        uint64_t moved_us;              /* when the history here moved on, while following */
        uint64_t moved_index;
        uint64_t complained_us;         /* 0: never */
};

int courier_new(Courier **ret, const CourierConfig *config) {
        Courier *courier = calloc(1, sizeof(*courier));
        if (!courier)
                return -ENOMEM;
        courier->config = *config;
        *ret = courier;
        return 0;
}

static void end_transfer(Courier *courier, size_t index) {
        raft_snapshot_sender_free(courier->transfers.items[index].sender);
        array_remove(&courier->transfers, index);
}

static void end_arrival(Courier *courier, size_t index) {
        raft_snapshot_receiver_free(courier->arrivals.items[index].receiver);
        array_remove(&courier->arrivals, index);
}

Courier *courier_free(Courier *courier) {
        if (!courier)
                return NULL;
        while (courier->transfers.n > 0)
                end_transfer(courier, courier->transfers.n - 1);
        while (courier->arrivals.n > 0)
                end_arrival(courier, courier->arrivals.n - 1);
        array_clear(&courier->readers);
        array_clear(&courier->transfers);
        array_clear(&courier->arrivals);
        free(courier);
        return NULL;
}

void courier_set_net(Courier *courier, PeerNet *net) {
        courier->net = net;
}

static RaftEngine *engine_of(const Courier *courier) {
        return history_engine(courier->config.history);
}

static uint64_t now_us(const Courier *courier) {
        uint64_t now = 0;
        (void) sd_event_now(courier->config.event, CLOCK_BOOTTIME, &now);
        return now;
}

/* ---- snapshots out */

static ssize_t find_transfer(const Courier *courier, const NodeId *to) {
        for (size_t i = 0; i < courier->transfers.n; i++)
                if (ID_EQUAL(&courier->transfers.items[i].to, to))
                        return (ssize_t) i;
        return -1;
}

typedef struct Letter {
        Courier *courier;
        const NodeId *to;
} Letter;

/* Entries and heartbeats keep their order, and so do a snapshot and its parts; all else overtakes them. */
static PeerStream stream_of(const Gpupool1__Frame *frame) {
        if (frame->body_case == GPUPOOL1__FRAME__BODY_SNAPSHOT_PART ||
            frame->raft->message_case == GPUPOOL1__RAFT__MESSAGE_INSTALL)
                return PEER_STREAM_BULK;
        return frame->raft->message_case == GPUPOOL1__RAFT__MESSAGE_APPEND ? PEER_STREAM_REGISTRY : PEER_STREAM_CONTROL;
}

static int post(void *userdata, const Gpupool1__Frame *frame) {
        const Letter *letter = userdata;
        int r = peer_net_send(letter->courier->net, letter->to, stream_of(frame), frame);
        if (r == PEER_SEND_QUEUED)
                return 0;
        return r < 0 ? r : r == PEER_SEND_FULL ? -ENOBUFS : -ENOTCONN;
}

/* As many parts as fit into the queue; the rest when it has room again. */
static void pump(Courier *courier, const NodeId *to) {
        ssize_t i = find_transfer(courier, to);
        Letter letter = { .courier = courier, .to = to };
        int r = 0;
        if (i < 0 || !courier->net)
                return;
        RaftSnapshotSender *sender = courier->transfers.items[i].sender;
        while (r >= 0 && !raft_snapshot_sender_is_done(sender))
                r = raft_snapshot_sender_next(sender, post, &letter);
        if (r != -ENOBUFS)
                end_transfer(courier, (size_t) i);
}

/* One at a time: the engine sends a newer one when this one was of no use, and a reader asks again. */
static void send_snapshot(Courier *courier, const RaftMessage *message, const NodeId *to) {
        Letter letter = { .courier = courier, .to = to };
        Transfer transfer = { .to = *to };
        if (find_transfer(courier, to) >= 0 || (message->relayed && courier->transfers.n >= TRANSFERS_MAX) ||
            raft_codec_encode(message, post, &letter) < 0 ||
            raft_snapshot_sender_new(message, &transfer.sender) < 0)
                return;
        if (array_append(&courier->transfers, &transfer) < 0) {
                raft_snapshot_sender_free(transfer.sender);
                return;
        }
        pump(courier, to);
}

/* ---- following */

static void ask(Courier *courier) {
        Gpupool1__Follow follow = GPUPOOL1__FOLLOW__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        RaftStatus status;
        history_status(courier->config.history, &status);
        follow.last_index = status.last_index;
        follow.last_term = status.last_term;
        follow.committed = status.committed_index;
        frame.body_case = GPUPOOL1__FRAME__BODY_FOLLOW;
        frame.follow = &follow;
        courier->asked_us = now_us(courier);
        if (courier->net)
                (void) peer_net_send(courier->net, &courier->source, PEER_STREAM_REGISTRY, &frame);
}

/* The same node, another order for each follower: so they are spread. */
static uint64_t rank(const NodeId *self, const NodeId *peer) {
        uint64_t hash = UINT64_C(14695981039346656037);
        for (size_t i = 0; i < ID_SIZE; i++)
                hash = (hash ^ (uint8_t) (self->bytes[i] ^ peer->bytes[i])) * UINT64_C(1099511628211);
        return hash;
}

static bool can_be_followed(const Courier *courier, const HeardBeat *peer) {
        return peer->member && peer->hears_leader && courier->net && peer_net_is_up(courier->net, &peer->node);
}

/* Whoever is not the leader, which has enough to do; and not the one that was just given up, if there is another. */
static const HeardBeat *choose_source(const Courier *courier) {
        const HeardBeat *best = NULL;
        uint64_t best_rank = 0;
        ARRAY_EACH(peer, &courier->config.beats->all) {
                if (!can_be_followed(courier, peer))
                        continue;
                uint64_t mine = rank(&courier->config.node, &peer->node) >> 2;
                if (!peer->ready)
                        mine |= UINT64_C(1) << 62;
                if (!ID_EQUAL(&peer->node, &courier->left))
                        mine |= UINT64_C(1) << 63;
                if (!best || mine > best_rank) {
                        best = peer;
                        best_rank = mine;
                }
        }
        return best;
}

/* Its end says by itself that there may be more; asked before, the source would send all of it a second time. */
static bool is_receiving(const Courier *courier, uint64_t now) {
        ARRAY_EACH(arrival, &courier->arrivals)
                if (arrival->under_way && ID_EQUAL(&arrival->from, &courier->source))
                        return now < courier->moved_us + STALE_US;
        return false;
}

/* A member is told by its leader; one that hears none for long may have been removed and does not know. */
static bool must_follow(const RaftStatus *status, uint64_t now) {
        if (status->is_leader)
                return false;
        return !status->is_member || now > status->leader_contact_us + STALE_US;
}

static void follow_turn(Courier *courier, uint64_t now, uint64_t *wake_us) {
        RaftStatus status;
        history_status(courier->config.history, &status);
        if (!must_follow(&status, now)) {
                courier->source = (NodeId) {};
                if (!status.is_leader)
                        *wake_us = status.leader_contact_us + STALE_US + 1;
                return;
        }
        if (status.last_index != courier->moved_index || id_is_null(courier->source.bytes)) {
                courier->moved_index = status.last_index;
                courier->moved_us = now;
        }
        const HeardBeat *source = beats_find(courier->config.beats, &courier->source);
        bool behind = beats_committed(courier->config.beats) > status.committed_index;
        if (source && behind && now >= courier->moved_us + STALE_US)
                courier->left = courier->source;
        if (!source || !can_be_followed(courier, source) || ID_EQUAL(&courier->left, &courier->source)) {
                source = choose_source(courier);
                courier->source = source ? source->node : (NodeId) {};
                courier->moved_us = now;
                courier->left = (NodeId) {};
                courier->asked_us = 0;
        }
        if (!source)
                return;
        if (is_receiving(courier, now)) {
                *wake_us = courier->moved_us + STALE_US;
                return;
        }
        if (courier->asked_us == 0 || now >= courier->asked_us + ASK_US)
                ask(courier);
        *wake_us = courier->asked_us + ASK_US;
}

/* ---- serving readers */

static Reader *find_reader(Courier *courier, const NodeId *node) {
        ARRAY_EACH(reader, &courier->readers)
                if (ID_EQUAL(&reader->node, node))
                        return reader;
        return NULL;
}

/* A reader asks again when it has stored what it was sent; one to whom nothing could be sent waits. */
static void serve(Courier *courier, Reader *reader) {
        char address[ID_TEXT_SIZE];
        if (find_transfer(courier, &reader->node) >= 0)
                return;
        id_to_text(reader->node.bytes, address);
        int r = raft_engine_relay(engine_of(courier), node_id_to_raft(&reader->node), address, reader->last_index,
                                  reader->last_term, reader->committed);
        reader->waiting = r != RAFT_RELAY_SENT;
}

void courier_follow(Courier *courier, const NodeId *from, const Gpupool1__Follow *follow) {
        Reader asked = { .node = *from, .last_index = follow->last_index, .last_term = follow->last_term,
                         .committed = follow->committed };
        Reader *reader = find_reader(courier, from);
        if (reader)
                *reader = asked;
        else if (array_append(&courier->readers, &asked) < 0)
                return;
        serve(courier, find_reader(courier, from));
}

static void serve_waiting(Courier *courier) {
        RaftStatus status;
        history_status(courier->config.history, &status);
        if (status.committed_index == courier->served_committed)
                return;
        courier->served_committed = status.committed_index;
        ARRAY_EACH(reader, &courier->readers)
                if (reader->waiting)
                        serve(courier, reader);
}

void courier_turn(Courier *courier, uint64_t now, uint64_t *ret_wake_us) {
        *ret_wake_us = UINT64_MAX;
        serve_waiting(courier);
        follow_turn(courier, now, ret_wake_us);
}

void courier_beat(Courier *courier, const NodeId *node) {
        /* The next turn looks at it; a reader that is told of something new need not wait for its time to ask. */
        RaftStatus status;
        const HeardBeat *beat = beats_find(courier->config.beats, node);
        if (!beat || !ID_EQUAL(node, &courier->source))
                return;
        uint64_t now = now_us(courier);
        history_status(courier->config.history, &status);
        if (beat->committed > status.committed_index && now >= courier->asked_us + ASK_US / 4 &&
            !is_receiving(courier, now))
                ask(courier);
}

/* ---- out and in */

void courier_send(Courier *courier, const RaftMessage *message) {
        NodeId to;
        if (!courier->net || id_from_text(message->address, to.bytes) < 0)
                return;
        if (raft_codec_is_snapshot(message)) {
                send_snapshot(courier, message, &to);
                return;
        }
        Letter letter = { .courier = courier, .to = &to };
        int r = raft_codec_encode(message, post, &letter);
        /* The answer of a reader: what was sent is stored, and there may be more. */
        if (r == -EINVAL && message->relayed && ID_EQUAL(&to, &courier->source))
                ask(courier);
}

static void complain(Courier *courier, const NodeId *from, int r) {
        char id[ID_TEXT_SIZE];
        uint64_t now = now_us(courier);
        if (r >= 0 || r == -ESHUTDOWN || (courier->complained_us > 0 && now < courier->complained_us + COMPLAINT_US))
                return;
        courier->complained_us = now;
        id_to_text(from->bytes, id);
        if (r == -EBADMSG)
                log_warning("node %s sent of the registry what no node in its senses sends; it was ignored", id);
        else
                log_warning("what node %s sent of the registry could not be taken: %s", id, strerror(-r));
}

static Arrival *find_or_add_arrival(Courier *courier, const NodeId *from, bool add) {
        Arrival arrival = { .from = *from };
        ARRAY_EACH(known, &courier->arrivals)
                if (ID_EQUAL(&known->from, from))
                        return known;
        if (!add || raft_snapshot_receiver_new(&arrival.receiver) < 0)
                return NULL;
        if (array_append(&courier->arrivals, &arrival) < 0) {
                raft_snapshot_receiver_free(arrival.receiver);
                return NULL;
        }
        return courier->arrivals.items + courier->arrivals.n - 1;
}

/* The callbacks of a snapshot that is taken may send and look about; the receiver stays where it is meanwhile. */
static void take_progress(Courier *courier, const NodeId *from, RaftSnapshotReceiver *receiver, int r) {
        if (ID_EQUAL(from, &courier->source))
                courier->moved_us = now_us(courier);    /* a large one takes its time */
        Arrival *arrival = find_or_add_arrival(courier, from, false);
        if (arrival)
                arrival->under_way = r == RAFT_SNAPSHOT_PARTIAL;
        if (r == RAFT_SNAPSHOT_WHOLE)
                r = raft_engine_receive(engine_of(courier), raft_snapshot_receiver_message(receiver));
        else if (r >= 0)
                return;
        complain(courier, from, r);
        raft_snapshot_receiver_clear(receiver);
}

void courier_raft(Courier *courier, const NodeId *from, const Gpupool1__Raft *raft) {
        _cleanup_(raft_inbound_freep) RaftInbound *inbound = NULL;
        int r = raft_codec_decode(raft, from, node_id_to_raft(&courier->config.node), &inbound);
        if (r < 0) {
                complain(courier, from, r);
                return;
        }
        /* What is handed on counts for committed, so only the word of the one that was asked is taken. */
        if (!inbound || (raft_inbound_message(inbound)->relayed && !ID_EQUAL(from, &courier->source)))
                return;
        if (!raft_codec_is_snapshot(raft_inbound_message(inbound))) {
                complain(courier, from, raft_engine_receive(engine_of(courier), raft_inbound_message(inbound)));
                return;
        }
        Arrival *arrival = find_or_add_arrival(courier, from, true);
        if (arrival)
                take_progress(courier, from, arrival->receiver,
                              raft_snapshot_receiver_begin(arrival->receiver, STEAL(inbound)));
}

void courier_part(Courier *courier, const NodeId *from, const Gpupool1__SnapshotPart *part) {
        Arrival *arrival = find_or_add_arrival(courier, from, false);
        if (arrival)
                take_progress(courier, from, arrival->receiver, raft_snapshot_receiver_add(arrival->receiver, part));
}

void courier_writable(Courier *courier, const NodeId *node) {
        pump(courier, node);
}

void courier_lost(Courier *courier, const NodeId *node) {
        ssize_t i = find_transfer(courier, node);
        if (i >= 0)
                end_transfer(courier, (size_t) i);
        for (size_t k = courier->arrivals.n; k > 0; k--)
                if (ID_EQUAL(&courier->arrivals.items[k - 1].from, node))
                        end_arrival(courier, k - 1);
        for (size_t k = courier->readers.n; k > 0; k--)
                if (ID_EQUAL(&courier->readers.items[k - 1].node, node))
                        array_remove(&courier->readers, k - 1);
        if (ID_EQUAL(&courier->source, node))
                courier->source = (NodeId) {};
}
