/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Peer: the connections to the other nodes: one TCP port, TLS 1.3, keys pinned on both sides, framed protobuf
 * (interfaces/peer.proto). It carries frames and decides nothing about them.
 *
 *     dial or accept -> TLS, key looked up -> Hello both ways -> up() -> frames, beats ... -> down()
 *                                        \-> unknown key: JoinRequest only, few at a time, for a short time
 *
 *  - Nothing here ever blocks the loop: names are resolved in a thread, connecting and handshakes are asynchronous.
 *  - Both sides may dial, with backoff and jitter. Of two connections of one pair that were made at the same time both
 *    ends keep the one dialled by the smaller node id; else a newer connection replaces the old one, which may be a
 *    zombie that TCP has not yet given up. up() is told for the one that stays only: who was dialled decides, and who
 *    dialled hears so by its Hello.
 *  - Silence ends a connection (3 s); beats go both ways, so there is none while both live.
 *  - A slow peer costs bounded memory: each stream has a queue of limited size; what does not fit is not sent, and
 *    the sender is told. Streams are served in the order of PeerStream: a snapshot never delays a beat.
 *  - A frame that breaks a limit ends the connection with a sentence in the log, once per peer and kind of trouble. */

#include <systemd/sd-event.h>

#include "core/id.h"
#include "peer.pb-c.h"
#include "util/cleanup.h"

#define PEER_PORT_DEFAULT 7411U
#define PEER_FRAME_SIZE_MAX (256U * 1024U)
#define PEER_KEY_SIZE 32                /* SHA-256 of the public key */

/* ---- this node's key ---- */

typedef struct PeerKey PeerKey;

/* Reads the private key at @path (PEM, Ed25519, mode 0600); -ENOENT: there is none; -EBADMSG: it is damaged; -EPERM:
 * others may read it. */
int peer_key_load(const char *path, PeerKey **ret);
/* Draws a new one and writes it durably; -EEXIST: there is one already. */
int peer_key_create(const char *path, PeerKey **ret);
PeerKey *peer_key_free(PeerKey *key);
DEFINE_CLEANUP(PeerKey *, peer_key_free);
const uint8_t *peer_key_pin(const PeerKey *key);        /* PEER_KEY_SIZE bytes */

/* SHA-256, for the secrets of invitations. */
int peer_hash(const void *bytes, size_t size, uint8_t ret[static PEER_KEY_SIZE]);

/* ---- the net ---- */

typedef struct PeerNet PeerNet;

/* In the order in which they are served. */
typedef enum PeerStream {
        PEER_STREAM_CONTROL,            /* beats, goodbyes, votes, confirmations, leases */
        PEER_STREAM_REGISTRY,           /* the history */
        PEER_STREAM_CALL,
        PEER_STREAM_GOSSIP,
        PEER_STREAM_BULK,               /* parts of snapshots */
        PEER_STREAM_COUNT,
} PeerStream;

/* A stranger that asked to join and waits for its answer. Gone (and never to be touched again) after
 * peer_stranger_answer() or callbacks.stranger_gone(). */
typedef struct PeerStranger PeerStranger;

/* All of them must be there. They come from the loop, never from inside a call of this header, and may call all of it
 * but peer_net_free(). */
typedef struct PeerCallbacks {
        /* @hello is borrowed. */
        void (*up)(const NodeId *node, const Gpupool1__Hello *hello, void *userdata);
        /* @why: one sentence for people. After it frames of this node come only after another up(). */
        void (*down)(const NodeId *node, const char *why, void *userdata);
        /* Any frame but Hello, Goodbye and the join's. Borrowed; checked for form (wire_check) and size, no further. */
        void (*frame)(const NodeId *node, const Gpupool1__Frame *frame, void *userdata);
        /* Fills in what the next beat says; what it points to is borrowed until the callback returns to the loop. */
        void (*fill_beat)(Gpupool1__Beat *beat, void *userdata);
        /* This stream's queue to the node, which refused a frame before, has room again. */
        void (*writable)(const NodeId *node, PeerStream stream, void *userdata);
        /* @key: the pin of the key that the stranger proved to have; @node as its Hello says. */
        void (*join_request)(PeerStranger *stranger, const NodeId *node, const uint8_t key[static PEER_KEY_SIZE],
                             const Gpupool1__JoinRequest *request, void *userdata);
        void (*stranger_gone)(PeerStranger *stranger, void *userdata);
        /* A peer whose key is known says that this node is no member any more. */
        void (*removed)(const NodeId *by, const char *sentence, void *userdata);
} PeerCallbacks;

typedef struct PeerNetConfig {
        NodeId node;
        ClusterId cluster;              /* null: not begun yet; then nobody is dialled and no member accepted */
        const PeerKey *key;             /* borrowed */
        /* "[::]:7411" (IPv4 too, unless an IPv4 address is in the list), "0.0.0.0:7411", "10.0.0.1:7411"; at least one.
         * An address that this host does not have yet is listened to all the same. */
        const char *const *listen;
        size_t n_listen;
        const char *version;
        uint32_t level;
        uint64_t beat_us;               /* 0: the defaults, 500 ms, 3 s, 5 s */
        uint64_t silence_us;
        uint64_t connect_us;            /* for TCP and TLS together, and for a stranger as a whole */
} PeerNetConfig;

/* Listens. All that is pointed to is borrowed for the call, but the key and @callbacks for the net's life. 0, -errno
 * (-EADDRINUSE, -EADDRNOTAVAIL, ...), with a sentence where there is one. */
int peer_net_new(PeerNet **ret, sd_event *event, const PeerNetConfig *config, const PeerCallbacks *callbacks,
                 void *userdata, char **reterr_sentence);
/* Says goodbye where that does not block. Tells nothing: no down(), no stranger_gone(). Not from within a callback. */
PeerNet *peer_net_free(PeerNet *net);
DEFINE_CLEANUP(PeerNet *, peer_net_free);

/* Of the first address in config.listen, where it says 0. */
uint16_t peer_net_port(const PeerNet *net);

/* This node belongs to another cluster now: every connection ends. */
void peer_net_set_cluster(PeerNet *net, const ClusterId *cluster);

typedef struct PeerInfo {
        NodeId node;
        const char *name;               /* for the log; NULL: its id is shown */
        uint8_t key[PEER_KEY_SIZE];
        const char *const *addresses;   /* "10.0.0.1:7411", "[fd77::1]:7411", "name:7411" */
        size_t n_addresses;
        bool wanted;                    /* keep a connection: dial while there is none */
        bool removed;                   /* is told so, and nothing else */
} PeerInfo;

/* Who the other nodes are; replaces what was said before. A connection of a node that is no longer there, or has
 * another key, ends at once, after a goodbye that says why; its down() comes with the next turn of the loop. A
 * connection that is not wanted stays until its other end does not want it either, which beats say. This node itself
 * may be among them and is passed over. Copied. 0 or -ENOMEM: then nothing changed. */
int peer_net_set_peers(PeerNet *net, const PeerInfo *peers, size_t n);

typedef enum PeerSendVerdict {
        PEER_SEND_QUEUED,
        PEER_SEND_NOT_CONNECTED,
        PEER_SEND_FULL,                 /* not sent; writable() comes when there is room, unless it goes down() first */
        PEER_SEND_TOO_LARGE,
} PeerSendVerdict;

/* Queues a copy. Returns a PeerSendVerdict or -ENOMEM. */
int peer_net_send(PeerNet *net, const NodeId *node, PeerStream stream, const Gpupool1__Frame *frame);

/* The content of beats changed: says it to everybody soon (in this turn of the loop). */
void peer_net_beat_now(PeerNet *net);

bool peer_net_is_up(const PeerNet *net, const NodeId *node);
/* What waits to be sent to it, in bytes. */
size_t peer_net_queued_bytes(const PeerNet *net, const NodeId *node);
/* When something was heard of it last (CLOCK_BOOTTIME); 0: never since this start. */
uint64_t peer_net_heard_us(const PeerNet *net, const NodeId *node);

/* @answer is copied; the connection ends when it is sent. 0, -ENOTCONN (it has gone meanwhile), -E2BIG, -ENOMEM; in
 * each case @stranger is gone. */
int peer_stranger_answer(PeerStranger *stranger, const Gpupool1__JoinAnswer *answer);

/* ---- joining, the other side ---- */

typedef struct PeerJoin PeerJoin;

typedef enum PeerJoinOutcome {
        PEER_JOIN_ANSWERED,             /* @answer says what came of it */
        PEER_JOIN_UNREACHABLE,          /* no address of the invitation answers */
        PEER_JOIN_WRONG_KEY,            /* somebody answers who is not the inviter */
        PEER_JOIN_LOST,                 /* it broke after the request: this node may have been admitted; ask again */
        PEER_JOIN_PROTOCOL,             /* another major version, or garbage */
} PeerJoinOutcome;

/* @sentence for people; @answer with PEER_JOIN_ANSWERED only; both borrowed. Exactly once, unless freed before. */
typedef void (*PeerJoinCallback)(PeerJoinOutcome outcome, const char *sentence, const Gpupool1__JoinAnswer *answer,
                                 void *userdata);

/* Whom an invitation names. */
typedef struct PeerInviter {
        uint8_t key[PEER_KEY_SIZE];
        const char *const *addresses;
        size_t n_addresses;
} PeerInviter;

/* Dials the inviter's addresses in turn, proves its key, asks. All but @key is copied. 0 or -errno. */
int peer_join_new(PeerJoin **ret, sd_event *event, const PeerKey *key, const NodeId *node, const PeerInviter *inviter,
                  const Gpupool1__JoinRequest *request, PeerJoinCallback callback, void *userdata);
PeerJoin *peer_join_free(PeerJoin *join);
DEFINE_CLEANUP(PeerJoin *, peer_join_free);
