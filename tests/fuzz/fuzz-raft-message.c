/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as frames of the peer protocol, one after another, each behind its size in two bytes, low first. Messages
 * of the engine are taken apart and said again, and mean the same; snapshots are gathered from their parts. */

#include <assert.h>
#include <errno.h>
#include <raft.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/store/raft-codec.h"
#include "core/names.h"
#include "core/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAMES_MAX 64U          /* of one input */
#define ITEMS_MAX 32768U        /* as the net allows */

typedef struct Said {
        const RaftMessage *message;
        unsigned frames;
        size_t entries;
} Said;

/* What is said again is never more than one frame, and means the same. */
static int say(void *userdata, const Gpupool1__Frame *frame) {
        static const NodeId from = { { 1, 2, 3 } };
        _cleanup_(raft_inbound_freep) RaftInbound *again = NULL;
        Said *said = userdata;

        assert(gpupool1__frame__get_packed_size(frame) <= 256U * 1024U);
        said->frames++;
        int r = raft_codec_decode(frame->raft, &from, 7, &again);
        assert(r == 0 || r == -ENOMEM);
        if (!again)
                return r;
        const RaftMessage *message = raft_inbound_message(again);
        assert(message->kind == said->message->kind && message->relayed == said->message->relayed);
        assert(!message->core == !said->message->core);
        if (!message->core)
                return 0;
        assert(message->core->type == said->message->core->type);
        if (message->core->type == RAFT_APPEND_ENTRIES)
                said->entries += message->core->append_entries.n_entries;
        return 0;
}

static void say_again(const RaftMessage *message) {
        Said said = { .message = message };

        int r = raft_codec_encode(message, say, &said);
        assert(r == 0 || r == -ENOMEM);
        assert(said.frames > 0 || r < 0);
        if (r == 0 && message->core && message->core->type == RAFT_APPEND_ENTRIES)
                assert(said.entries == message->core->append_entries.n_entries);
}

static void look_at_snapshot(const RaftSnapshotReceiver *receiver) {
        const RaftMessage *message = raft_snapshot_receiver_message(receiver);
        assert(message && raft_codec_is_snapshot(message));
        const struct raft_install_snapshot *install = &message->core->install_snapshot;
        uint8_t sum = 0;
        assert(install->data.base && install->data.len <= SNAPSHOT_SIZE_MAX);
        for (size_t i = 0; i < install->data.len; i++)
                sum ^= ((const uint8_t *) install->data.base)[i];
        (void) sum;
}

static void take_raft(RaftSnapshotReceiver *receiver, const Gpupool1__Raft *raft) {
        static const NodeId from = { { 1, 2, 3 } };
        RaftInbound *inbound = NULL;

        if (raft_codec_decode(raft, &from, 7, &inbound) < 0 || !inbound)
                return;
        say_again(raft_inbound_message(inbound));
        if (!raft_codec_is_snapshot(raft_inbound_message(inbound))) {
                raft_inbound_free(inbound);
                return;
        }
        if (raft_snapshot_receiver_begin(receiver, inbound) == RAFT_SNAPSHOT_WHOLE)
                look_at_snapshot(receiver);
}

static void take_frame(RaftSnapshotReceiver *receiver, const uint8_t *data, size_t size) {
        if (wire_check(&gpupool1__frame__descriptor, data, size, ITEMS_MAX) != WIRE_GOOD)
                return;
        Gpupool1__Frame *frame = gpupool1__frame__unpack(NULL, size, data);
        if (!frame)
                return;
        if (frame->body_case == GPUPOOL1__FRAME__BODY_RAFT)
                take_raft(receiver, frame->raft);
        if (frame->body_case == GPUPOOL1__FRAME__BODY_SNAPSHOT_PART &&
            raft_snapshot_receiver_add(receiver, frame->snapshot_part) == RAFT_SNAPSHOT_WHOLE)
                look_at_snapshot(receiver);
        gpupool1__frame__free_unpacked(frame, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(raft_snapshot_receiver_freep) RaftSnapshotReceiver *receiver = NULL;

        if (raft_snapshot_receiver_new(&receiver) < 0)
                return 0;
        for (unsigned n = 0; size >= 2 && n < FRAMES_MAX; n++) {
                size_t frame_size = data[0] | (size_t) data[1] << 8;
                data += 2;
                size -= 2;
                frame_size = frame_size < size ? frame_size : size;
                take_frame(receiver, data, frame_size);
                data += frame_size;
                size -= frame_size;
        }
        return 0;
}
