/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Queue: what waits to be sent to one peer: for each stream a row of whole frames, of limited size. The next frame is
 * always one of the first stream that has any; a frame that was begun is finished first. */

#include "adapters/peer/peer.h"

/* Of one chunk: what TLS makes one record of. Nothing that comes later can overtake it. */
#define QUEUE_CHUNK_SIZE 16384U

typedef struct QueuedFrame QueuedFrame;

typedef struct Queue {
        struct {
                QueuedFrame *first, *last;
                size_t bytes;           /* with what a frame costs beside its bytes */
                bool refused;           /* a frame, and nobody was told since that there is room */
        } streams[PEER_STREAM_COUNT];
        QueuedFrame *begun;             /* taken out of its stream, sent in part */
        size_t begun_at;
        PeerStream begun_stream;        /* which it still counts for */
        uint8_t *chunk;                 /* on its way to TLS, unchanged until it was taken whole */
        size_t chunk_at, chunk_size;
} Queue;

void queue_clear(Queue *queue);

/* Copies @frame with its length into the stream. Returns a PeerSendVerdict (not NOT_CONNECTED) or -ENOMEM. An empty
 * stream takes any frame, so that none is refused for ever. */
int queue_add(Queue *queue, PeerStream stream, const Gpupool1__Frame *frame);

/* Throws away what was not begun. */
void queue_drop_waiting(Queue *queue);

bool queue_is_empty(const Queue *queue);
bool queue_stream_is_empty(const Queue *queue, PeerStream stream);
size_t queue_bytes(const Queue *queue);         /* in all streams; for tests and limits */

/* The bytes to send next; 0: none. They stay the same until queue_sent() was told of all of them. Returns the number
 * of bytes at *ret, or -ENOMEM. */
ssize_t queue_next(Queue *queue, const uint8_t **ret);
void queue_sent(Queue *queue, size_t size);

/* A stream that refused and has room again, in half of its queue at least; said once. False: none. */
bool queue_take_writable(Queue *queue, PeerStream *ret);
