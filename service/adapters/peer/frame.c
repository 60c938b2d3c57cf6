/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/peer/frame.h"

#include <errno.h>
#include <string.h>

#include "core/wire.h"

#define FIRST_ALLOCATION 4096U
#define KEPT_ALLOCATION 16384U          /* of a reader between two frames */

/* Each can cost some 100 bytes of memory. Entries of the registry have 50 bytes at least, so a full RaftAppend stays
 * below half of it. */
#define FRAME_ITEMS_MAX 32768U

const char *frame_verdict_to_sentence(FrameVerdict verdict) {
        switch (verdict) {
        case FRAME_GOOD:
                return "good";
        case FRAME_MORE:
                return "not all of it is here";
        case FRAME_EMPTY:
                return "it sent a frame without content";
        case FRAME_TOO_LARGE:
                return "it sent a frame beyond the size limit";
        case FRAME_MALFORMED:
                return "it sent a frame that cannot be read";
        }
        return "unknown";
}

void frame_free(Gpupool1__Frame *frame) {
        gpupool1__frame__free_unpacked(frame, NULL);
}

int frame_decode(const uint8_t *bytes, size_t size, Gpupool1__Frame **ret) {
        if (size == 0)
                return FRAME_EMPTY;
        if (size > PEER_FRAME_SIZE_MAX)
                return FRAME_TOO_LARGE;
        /* What protobuf-c must not be given is found before it allocates anything. */
        if (wire_check(&gpupool1__frame__descriptor, bytes, size, FRAME_ITEMS_MAX) != WIRE_GOOD)
                return FRAME_MALFORMED;
        Gpupool1__Frame *frame = gpupool1__frame__unpack(NULL, size, bytes);
        if (!frame)
                return -ENOMEM;
        *ret = frame;
        return FRAME_GOOD;
}

static int make_room(FrameReader *reader, size_t size) {
        if (size <= reader->allocated)
                return 0;
        size_t allocated = reader->allocated ? reader->allocated * 2 : FIRST_ALLOCATION;
        if (allocated < size)
                allocated = size;
        if (allocated > reader->size)
                allocated = reader->size;
        uint8_t *grown = realloc(reader->payload, allocated);
        if (!grown)
                return -ENOMEM;
        reader->payload = grown;
        reader->allocated = allocated;
        return 0;
}

static size_t take_header(FrameReader *reader, const uint8_t *bytes, size_t size) {
        size_t used = 0;
        while (reader->have < FRAME_HEADER_SIZE && used < size)
                reader->header[reader->have++] = bytes[used++];
        if (reader->have == FRAME_HEADER_SIZE) {
                const uint8_t *h = reader->header;
                reader->size = (size_t) h[0] << 24 | (size_t) h[1] << 16 | (size_t) h[2] << 8 | h[3];
        }
        return used;
}

int frame_reader_take(FrameReader *reader, const uint8_t *bytes, size_t size, size_t size_max, size_t *ret_used) {
        size_t used = take_header(reader, bytes, size);
        if (reader->have < FRAME_HEADER_SIZE) {
                *ret_used = used;
                return FRAME_MORE;
        }
        if (reader->size == 0)
                return FRAME_EMPTY;
        if (reader->size > size_max)
                return FRAME_TOO_LARGE;

        size_t have = reader->have - FRAME_HEADER_SIZE;
        size_t n = reader->size - have < size - used ? reader->size - have : size - used;
        int r = make_room(reader, have + n);
        if (r < 0)
                return r;
        if (n > 0)
                memcpy(reader->payload + have, bytes + used, n);
        reader->have += n;
        *ret_used = used + n;
        return have + n == reader->size ? FRAME_GOOD : FRAME_MORE;
}

void frame_reader_next(FrameReader *reader) {
        reader->have = 0;
        reader->size = 0;
        if (reader->allocated > KEPT_ALLOCATION)
                frame_reader_clear(reader);
}

void frame_reader_clear(FrameReader *reader) {
        free(reader->payload);
        *reader = (FrameReader) {};
}
