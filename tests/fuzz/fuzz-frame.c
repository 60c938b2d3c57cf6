/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as what a peer sends, in pieces of any size (the first byte draws them): the same frames come out as when
 * all came at once; what is taken for a frame is unpacked whatever it is, and can be sent on. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/peer/frame.h"
#include "adapters/peer/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one stream came to. */
typedef struct Stream {
        unsigned n_frames, n_good;
        uint64_t hash;
        int verdict;                    /* at its end */
} Stream;

static void send_on(const Gpupool1__Frame *frame) {
        Queue queue = {};
        /* What was written in fewer bytes than protobuf-c takes may be too large when it is written by it. */
        int r = queue_add(&queue, PEER_STREAM_REGISTRY, frame);
        assert(r == PEER_SEND_QUEUED || r == PEER_SEND_TOO_LARGE);
        queue_clear(&queue);
}

static void take_payload(Stream *stream, const uint8_t *bytes, size_t size) {
        Gpupool1__Frame *frame = NULL;
        for (size_t i = 0; i < size; i++)
                stream->hash = (stream->hash ^ bytes[i]) * 1099511628211U;
        stream->n_frames++;
        int verdict = frame_decode(bytes, size, &frame);
        assert(verdict == FRAME_GOOD || verdict == FRAME_MALFORMED);
        assert((verdict == FRAME_GOOD) == (frame != NULL));
        if (!frame)
                return;
        stream->n_good++;
        send_on(frame);
        frame_free(frame);
}

static Stream take_stream(const uint8_t *data, size_t size, size_t size_max, uint32_t seed) {
        Stream stream = { .verdict = FRAME_MORE };
        FrameReader reader = {};
        while (size > 0) {
                seed = seed * 1664525U + 1013904223U;
                size_t piece = 1 + (seed >> 16) % 97, used = 0;
                piece = piece < size ? piece : size;
                stream.verdict = frame_reader_take(&reader, data, piece, size_max, &used);
                assert(stream.verdict >= 0);
                if (stream.verdict != FRAME_GOOD && stream.verdict != FRAME_MORE)
                        break;
                assert(used > 0 && used <= piece);
                assert(reader.allocated <= size_max);
                data += used;
                size -= used;
                if (stream.verdict == FRAME_GOOD) {
                        take_payload(&stream, reader.payload, reader.size);
                        frame_reader_next(&reader);
                }
        }
        frame_reader_clear(&reader);
        return stream;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        size_t size_max = data[0] & 1 ? PEER_FRAME_SIZE_MAX : 16384;
        Stream pieces = take_stream(data + 1, size - 1, size_max, data[0] | 0x100U);
        Stream other = take_stream(data + 1, size - 1, size_max, data[0] | 0x20000U);
        assert(pieces.n_frames == other.n_frames && pieces.n_good == other.n_good && pieces.hash == other.hash);
        /* The last piece may end inside a header or not. */
        assert((pieces.verdict == FRAME_EMPTY || pieces.verdict == FRAME_TOO_LARGE) ==
               (other.verdict == FRAME_EMPTY || other.verdict == FRAME_TOO_LARGE));

        /* And the bytes as the payload of one frame. */
        Stream whole = {};
        if (size - 1 > 0 && size - 1 <= PEER_FRAME_SIZE_MAX)
                take_payload(&whole, data + 1, size - 1);
        return 0;
}
