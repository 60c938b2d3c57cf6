/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as a message, the first byte says of which kind: what passes wire_check() is unpacked, without a leak, and
 * what is packed again of it passes as well. */

#include <assert.h>
#include <stdlib.h>

#include "core/wire.h"
#include "registry.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ITEMS_MAX 4096U

static const ProtobufCMessageDescriptor *const kinds[] = {
        &gpupool1__entry__descriptor,
        &gpupool1__snapshot__descriptor,
        &gpupool1__join_token__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        const ProtobufCMessageDescriptor *kind = kinds[data[0] % (sizeof(kinds) / sizeof(kinds[0]))];
        if (wire_check(kind, data + 1, size - 1, ITEMS_MAX) != WIRE_GOOD)
                return 0;

        ProtobufCMessage *message = protobuf_c_message_unpack(kind, NULL, size - 1, data + 1);
        assert(message);
        size_t packed_size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(packed_size + 1);
        assert(packed);
        assert(protobuf_c_message_pack(message, packed) == packed_size);
        assert(wire_check(kind, packed, packed_size, ITEMS_MAX) == WIRE_GOOD);
        free(packed);
        protobuf_c_message_free_unpacked(message, NULL);
        return 0;
}
