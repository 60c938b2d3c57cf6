/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* RaftCodec: the engine's messages as frames of the peer protocol (interfaces/peer.proto), and back. Addresses of the
 * engine's members are ids of nodes as text, and their numbers are made of the ids, so nobody is asked for either.
 *
 * A snapshot is one Raft frame and then its bytes as SnapshotPart frames, which a sender gives out one by one, as fast
 * as the peer takes them, and a receiver gathers. One of each per peer. All of it goes the same way, so that nothing
 * arrives in another order; a leader that sends its snapshot again while it is on its way needs no second sender. */

#include "adapters/store/raft-engine.h"
#include "core/id.h"
#include "peer.pb-c.h"

/* Encoded, one frame of entries; far below what a frame may have. A larger entry goes alone. */
#define RAFT_CODEC_APPEND_SIZE_MAX (128U * 1024U)
#define RAFT_CODEC_ENTRIES_MAX 1024U            /* of one frame: they cost memory, however small */
#define RAFT_CODEC_PART_SIZE_MAX (64U * 1024U)

/* ---- out ---- */

/* Borrowed. What it returns but 0 ends the encoding. */
typedef int (*RaftFrameCallback)(void *userdata, const Gpupool1__Frame *frame);

/* Tells @message as Raft frames, in order: entries in as many as it takes, each right by itself, so that a frame that
 * is lost costs no more than a lost message. Of a snapshot it tells the first frame only (see below). Returns 0, what
 * @tell returned, -EINVAL (a relayed answer: that is said by Follow) or -ENOMEM. */
int raft_codec_encode(const RaftMessage *message, RaftFrameCallback tell, void *userdata);

bool raft_codec_is_snapshot(const RaftMessage *message);

/* The bytes of a snapshot on their way to one peer. It has a copy of its own. */
typedef struct RaftSnapshotSender RaftSnapshotSender;

int raft_snapshot_sender_new(const RaftMessage *message, RaftSnapshotSender **ret);
RaftSnapshotSender *raft_snapshot_sender_free(RaftSnapshotSender *sender);      /* takes NULL, returns NULL */
DEFINE_CLEANUP(RaftSnapshotSender *, raft_snapshot_sender_free);

/* All was sent. At once for a snapshot of no bytes. */
bool raft_snapshot_sender_is_done(const RaftSnapshotSender *sender);

/* Tells the next part as a frame and, if @tell returned 0, counts it as sent. Returns what @tell returned, or 0. */
int raft_snapshot_sender_next(RaftSnapshotSender *sender, RaftFrameCallback tell, void *userdata);

/* ---- in ---- */

/* A message that arrived. It borrows from the frame. */
typedef struct RaftInbound RaftInbound;

/* Takes apart what @from sent to the engine @to. All bounds are checked, the rest is raft_engine_receive()'s to check.
 * *ret is NULL for what this version does not know. -EBADMSG: no peer in its senses sends that; or -ENOMEM. With
 * raft_codec_is_snapshot() it is for a RaftSnapshotReceiver, not for the engine. */
int raft_codec_decode(const Gpupool1__Raft *raft, const NodeId *from, uint64_t to, RaftInbound **ret);
const RaftMessage *raft_inbound_message(const RaftInbound *inbound);
RaftInbound *raft_inbound_free(RaftInbound *inbound);   /* takes NULL, returns NULL */
DEFINE_CLEANUP(RaftInbound *, raft_inbound_free);

/* A snapshot that is arriving from one peer. Memory grows with what has arrived, not with what was announced. */
typedef struct RaftSnapshotReceiver RaftSnapshotReceiver;

int raft_snapshot_receiver_new(RaftSnapshotReceiver **ret);
RaftSnapshotReceiver *raft_snapshot_receiver_free(RaftSnapshotReceiver *receiver);      /* takes NULL, returns NULL */
DEFINE_CLEANUP(RaftSnapshotReceiver *, raft_snapshot_receiver_free);

typedef enum RaftSnapshotProgress {
        RAFT_SNAPSHOT_WHOLE,            /* raft_snapshot_receiver_message() is for the engine */
        RAFT_SNAPSHOT_PARTIAL,
        RAFT_SNAPSHOT_UNASKED,          /* a part of nothing: its beginning was lost or replaced; ignored */
} RaftSnapshotProgress;

/* A first frame; what was unfinished before is forgotten. Owns @inbound from here on, also on failure. Returns a
 * RaftSnapshotProgress, -EBADMSG or -ENOMEM. */
int raft_snapshot_receiver_begin(RaftSnapshotReceiver *receiver, RaftInbound *inbound);

/* The next part. As above; after an error nothing is being received. */
int raft_snapshot_receiver_add(RaftSnapshotReceiver *receiver, const Gpupool1__SnapshotPart *part);

/* Borrowed until the next call; NULL unless it is whole. */
const RaftMessage *raft_snapshot_receiver_message(const RaftSnapshotReceiver *receiver);

/* Frees the bytes: the connection was lost, or the engine has them. */
void raft_snapshot_receiver_clear(RaftSnapshotReceiver *receiver);
