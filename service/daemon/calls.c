/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/calls.h"

#include <errno.h>

#define CALLS_MAX 8192U

void calls_clear(Calls *calls) {
        array_clear(&calls->open);
}

int calls_begin(Calls *calls, const NodeId *to, Gpupool1__Call *call, CallCallback callback, void *userdata,
                uint64_t *ret_id) {
        if (!calls->net)
                return -ENOTCONN;
        if (calls->open.n >= CALLS_MAX)
                return -ENOBUFS;
        OpenCall open = { .id = calls->last_id + 1, .to = *to, .callback = callback, .userdata = userdata };
        Gpupool1__Frame frame = GPUPOOL1__FRAME__INIT;
        call->id = open.id;
        frame.body_case = GPUPOOL1__FRAME__BODY_CALL;
        frame.call = call;
        int r = array_append(&calls->open, &open);
        if (r < 0)
                return r;
        r = peer_net_send(calls->net, to, PEER_STREAM_CALL, &frame);
        if (r != PEER_SEND_QUEUED) {
                calls->open.n--;
                return r < 0 ? r : r == PEER_SEND_NOT_CONNECTED ? -ENOTCONN : -ENOBUFS;
        }
        *ret_id = calls->last_id = open.id;
        return 0;
}

static bool take(Calls *calls, size_t index, OpenCall *ret) {
        *ret = calls->open.items[index];
        array_remove(&calls->open, index);
        return true;
}

void calls_cancel(Calls *calls, uint64_t id) {
        for (size_t i = 0; i < calls->open.n; i++)
                if (calls->open.items[i].id == id) {
                        array_remove(&calls->open, i);
                        return;
                }
}

void calls_answered(Calls *calls, const NodeId *from, const Gpupool1__Answer *answer) {
        OpenCall call;
        for (size_t i = 0; i < calls->open.n; i++)
                if (calls->open.items[i].id == answer->id && ID_EQUAL(&calls->open.items[i].to, from)) {
                        take(calls, i, &call);
                        call.callback(answer, call.userdata);
                        return;
                }
}

/* Callbacks may begin and cancel calls, so each search begins anew. */
static bool take_one_to(Calls *calls, const NodeId *node, OpenCall *ret) {
        for (size_t i = 0; i < calls->open.n; i++)
                if (ID_EQUAL(&calls->open.items[i].to, node))
                        return take(calls, i, ret);
        return false;
}

void calls_lost(Calls *calls, const NodeId *node) {
        OpenCall call;
        while (take_one_to(calls, node, &call))
                call.callback(NULL, call.userdata);
}
