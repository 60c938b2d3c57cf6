/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/store/raft-codec-private.h"

/* ---- out ---- */

struct RaftSnapshotSender {
        size_t size;
        size_t at;
        uint8_t data[];
};

int raft_snapshot_sender_new(const RaftMessage *message, RaftSnapshotSender **ret) {
        if (!raft_codec_is_snapshot(message))
                return -EINVAL;
        const struct raft_buffer *data = &message->core->install_snapshot.data;
        RaftSnapshotSender *sender = calloc(1, sizeof(*sender) + data->len);
        if (!sender)
                return -ENOMEM;
        sender->size = data->len;
        if (data->len > 0)
                memcpy(sender->data, data->base, data->len);
        *ret = sender;
        return 0;
}

RaftSnapshotSender *raft_snapshot_sender_free(RaftSnapshotSender *sender) {
        free(sender);
        return NULL;
}

bool raft_snapshot_sender_is_done(const RaftSnapshotSender *sender) {
        return sender->at == sender->size;
}

int raft_snapshot_sender_next(RaftSnapshotSender *sender, RaftFrameCallback tell, void *userdata) {
        Gpupool1__SnapshotPart part = GPUPOOL1__SNAPSHOT_PART__INIT;
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        size_t left = sender->size - sender->at;

        if (left == 0)
                return 0;
        part.offset = sender->at;
        part.data.data = sender->data + sender->at;
        part.data.len = left < RAFT_CODEC_PART_SIZE_MAX ? left : RAFT_CODEC_PART_SIZE_MAX;
        frame.body_case = GPUPOOL1__FRAME__BODY_SNAPSHOT_PART;
        frame.snapshot_part = &part;
        int r = tell(userdata, &frame);
        if (r == 0)
                sender->at += part.data.len;
        return r;
}

/* ---- in ---- */

struct RaftSnapshotReceiver {
        RaftInbound *inbound;           /* NULL: nothing is arriving */
        uint8_t *data;
        size_t size;
        size_t allocated;
};

int raft_snapshot_receiver_new(RaftSnapshotReceiver **ret) {
        *ret = calloc(1, sizeof(**ret));
        return *ret ? 0 : -ENOMEM;
}

void raft_snapshot_receiver_clear(RaftSnapshotReceiver *receiver) {
        raft_inbound_free(receiver->inbound);
        free(receiver->data);
        *receiver = (RaftSnapshotReceiver) {};
}

RaftSnapshotReceiver *raft_snapshot_receiver_free(RaftSnapshotReceiver *receiver) {
        if (!receiver)
                return NULL;
        raft_snapshot_receiver_clear(receiver);
        free(receiver);
        return NULL;
}

/* No bytes are no missing bytes either: the pointer is never NULL. */
static int look_whether_whole(RaftSnapshotReceiver *receiver) {
        struct raft_install_snapshot *install = &receiver->inbound->core.install_snapshot;

        if (receiver->size < receiver->inbound->announced)
                return RAFT_SNAPSHOT_PARTIAL;
        install->data.base = receiver->data ? (void *) receiver->data : (void *) receiver->inbound;
        install->data.len = receiver->size;
        return RAFT_SNAPSHOT_WHOLE;
}

int raft_snapshot_receiver_begin(RaftSnapshotReceiver *receiver, RaftInbound *inbound) {
        raft_snapshot_receiver_clear(receiver);
        if (!raft_codec_is_snapshot(&inbound->message)) {
                raft_inbound_free(inbound);
                return -EBADMSG;
        }
        receiver->inbound = inbound;
        return look_whether_whole(receiver);
}

/* Twice as much each time, so that the cost of copying is bounded too, and never more than was announced. */
static int make_room(RaftSnapshotReceiver *receiver, size_t more) {
        size_t wanted = receiver->size + more;

        if (wanted <= receiver->allocated)
                return 0;
        if (wanted < receiver->allocated * 2)
                wanted = receiver->allocated * 2;
        if (wanted > receiver->inbound->announced)
                wanted = receiver->inbound->announced;
        uint8_t *data = realloc(receiver->data, wanted);
        if (!data)
                return -ENOMEM;
        receiver->data = data;
        receiver->allocated = wanted;
        return 0;
}

static int take_part(RaftSnapshotReceiver *receiver, const Gpupool1__SnapshotPart *part) {
        if (part->offset != receiver->size || part->data.len == 0 || part->data.len > RAFT_CODEC_PART_SIZE_MAX ||
            part->data.len > receiver->inbound->announced - receiver->size)
                return -EBADMSG;
        int r = make_room(receiver, part->data.len);
        if (r < 0)
                return r;
        memcpy(receiver->data + receiver->size, part->data.data, part->data.len);
        receiver->size += part->data.len;
        return look_whether_whole(receiver);
}

int raft_snapshot_receiver_add(RaftSnapshotReceiver *receiver, const Gpupool1__SnapshotPart *part) {
        if (!receiver->inbound)
                return RAFT_SNAPSHOT_UNASKED;
        int r = take_part(receiver, part);
        if (r < 0)
                raft_snapshot_receiver_clear(receiver);
        return r;
}

const RaftMessage *raft_snapshot_receiver_message(const RaftSnapshotReceiver *receiver) {
        if (!receiver->inbound || receiver->size < receiver->inbound->announced)
                return NULL;
        return &receiver->inbound->message;
}
