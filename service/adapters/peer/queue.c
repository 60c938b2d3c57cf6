/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/queue.h"

#include <errno.h>
#include <string.h>

#include "adapters/peer/frame.h"

struct QueuedFrame {
        QueuedFrame *next;
        size_t size;
        uint8_t bytes[];
};

/* What one peer that does not read can cost us. The registry's is some thousand entries ahead. */
static size_t limit_of(PeerStream stream) {
        switch (stream) {
        case PEER_STREAM_CONTROL:
                return 64U * 1024;
        case PEER_STREAM_REGISTRY:
                return 8U * 1024 * 1024;
        case PEER_STREAM_CALL:
                return 4U * 1024 * 1024;
        case PEER_STREAM_GOSSIP:
                return 256U * 1024;
        case PEER_STREAM_BULK:
                return 1024U * 1024;
        case PEER_STREAM_COUNT:
                return 0;
        }
        return 0;
}

static size_t cost_of(const QueuedFrame *frame) {
        return sizeof(QueuedFrame) + frame->size;
}

void queue_drop_waiting(Queue *queue) {
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++)
                for (QueuedFrame *frame; (frame = queue->streams[s].first);) {
                        queue->streams[s].first = frame->next;
                        queue->streams[s].bytes -= cost_of(frame);
                        free(frame);
                }
}

void queue_clear(Queue *queue) {
        queue_drop_waiting(queue);
        free(queue->begun);
        free(queue->chunk);
        *queue = (Queue) {};
}

static int pack(const Gpupool1__Frame *frame, size_t size, QueuedFrame **ret) {
        QueuedFrame *queued = malloc(sizeof(QueuedFrame) + FRAME_HEADER_SIZE + size);
        if (!queued)
                return -ENOMEM;
        queued->next = NULL;
        queued->size = FRAME_HEADER_SIZE + size;
        for (unsigned i = 0; i < FRAME_HEADER_SIZE; i++)
                queued->bytes[i] = (uint8_t) (size >> (8 * (FRAME_HEADER_SIZE - 1 - i)));
        (void) gpupool1__frame__pack(frame, queued->bytes + FRAME_HEADER_SIZE);
        *ret = queued;
        return 0;
}

int queue_add(Queue *queue, PeerStream stream, const Gpupool1__Frame *frame) {
        size_t size = gpupool1__frame__get_packed_size(frame);
        if (size == 0 || size > PEER_FRAME_SIZE_MAX)
                return PEER_SEND_TOO_LARGE;
        size_t bytes = queue->streams[stream].bytes;
        if (bytes > 0 && bytes + sizeof(QueuedFrame) + FRAME_HEADER_SIZE + size > limit_of(stream)) {
                queue->streams[stream].refused = true;
                return PEER_SEND_FULL;
        }

        QueuedFrame *queued;
        int r = pack(frame, size, &queued);
        if (r < 0)
                return r;
        if (queue->streams[stream].first)
                queue->streams[stream].last->next = queued;
        else
                queue->streams[stream].first = queued;
        queue->streams[stream].last = queued;
        queue->streams[stream].bytes += cost_of(queued);
        return PEER_SEND_QUEUED;
}

bool queue_stream_is_empty(const Queue *queue, PeerStream stream) {
        return queue->streams[stream].bytes == 0;
}

bool queue_is_empty(const Queue *queue) {
        return queue_bytes(queue) == 0 && queue->chunk_size == 0;
}

size_t queue_bytes(const Queue *queue) {
        size_t bytes = 0;
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++)
                bytes += queue->streams[s].bytes;
        return bytes;
}

static bool begin_frame(Queue *queue) {
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++) {
                QueuedFrame *frame = queue->streams[s].first;
                if (!frame)
                        continue;
                queue->streams[s].first = frame->next;
                queue->begun = frame;
                queue->begun_at = 0;
                queue->begun_stream = s;
                return true;
        }
        return false;
}

static void end_frame(Queue *queue) {
        queue->streams[queue->begun_stream].bytes -= cost_of(queue->begun);
        free(queue->begun);
        queue->begun = NULL;
}

static void fill_chunk(Queue *queue) {
        while (queue->chunk_size < QUEUE_CHUNK_SIZE && (queue->begun || begin_frame(queue))) {
                size_t room = QUEUE_CHUNK_SIZE - queue->chunk_size;
                size_t left = queue->begun->size - queue->begun_at;
                size_t n = left < room ? left : room;
                memcpy(queue->chunk + queue->chunk_size, queue->begun->bytes + queue->begun_at, n);
                queue->chunk_size += n;
                queue->begun_at += n;
                if (queue->begun_at == queue->begun->size)
                        end_frame(queue);
        }
}

ssize_t queue_next(Queue *queue, const uint8_t **ret) {
        if (queue->chunk_size == 0) {
                if (queue_bytes(queue) == 0)
                        return 0;
                if (!queue->chunk)
                        queue->chunk = malloc(QUEUE_CHUNK_SIZE);
                if (!queue->chunk)
                        return -ENOMEM;
                fill_chunk(queue);
        }
        *ret = queue->chunk + queue->chunk_at;
        return (ssize_t) (queue->chunk_size - queue->chunk_at);
}

void queue_sent(Queue *queue, size_t size) {
        queue->chunk_at += size;
        if (queue->chunk_at < queue->chunk_size)
                return;
        queue->chunk_at = 0;
        queue->chunk_size = 0;
        if (queue_bytes(queue) == 0) {
                free(queue->chunk);
                queue->chunk = NULL;
        }
}

bool queue_take_writable(Queue *queue, PeerStream *ret) {
        for (PeerStream s = 0; s < PEER_STREAM_COUNT; s++)
                if (queue->streams[s].refused && queue->streams[s].bytes <= limit_of(s) / 2) {
                        queue->streams[s].refused = false;
                        *ret = s;
                        return true;
                }
        return false;
}
