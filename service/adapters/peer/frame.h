/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Frame: protobuf behind its length in 4 bytes, out of and into a stream of bytes that comes in pieces. */

#include "adapters/peer/peer.h"

#define FRAME_HEADER_SIZE 4U

/* What is wrong with bytes from outside. */
typedef enum FrameVerdict {
        FRAME_GOOD,
        FRAME_MORE,                     /* not all of it is here yet */
        FRAME_EMPTY,                    /* length 0 */
        FRAME_TOO_LARGE,
        FRAME_MALFORMED,                /* no protobuf, nested too deep, too many items, a message that stands twice */
} FrameVerdict;

const char *frame_verdict_to_sentence(FrameVerdict verdict);

void frame_free(Gpupool1__Frame *frame);
DEFINE_CLEANUP(Gpupool1__Frame *, frame_free);

/* Takes the payload of a frame apart, after it was checked. Returns a FrameVerdict (not MORE) or -ENOMEM. */
int frame_decode(const uint8_t *bytes, size_t size, Gpupool1__Frame **ret);

/* Gathers the bytes of one frame. Memory grows with what has come, not with what was announced. All 0 is empty. */
typedef struct FrameReader {
        uint8_t header[FRAME_HEADER_SIZE];
        size_t have;                    /* of header and payload together */
        size_t size;                    /* of the payload, once the header is whole */
        uint8_t *payload;
        size_t allocated;
} FrameReader;

/* Takes bytes up to the end of one frame, no more; *used says how many. FRAME_GOOD: a whole payload stands in @reader,
 * frame_reader_next() goes on behind it. @size_max is the limit for payloads. Returns a FrameVerdict or -ENOMEM. */
int frame_reader_take(FrameReader *reader, const uint8_t *bytes, size_t size, size_t size_max, size_t *ret_used);
void frame_reader_next(FrameReader *reader);
void frame_reader_clear(FrameReader *reader);
