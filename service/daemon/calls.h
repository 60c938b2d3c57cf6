/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Calls: questions to another node that wait for its answer (Call and Answer of interfaces/peer.proto). */

#include "adapters/peer/peer.h"
#include "util/array.h"

/* @answer is borrowed; NULL: the connection was lost, and nobody knows whether the call arrived. */
typedef void (*CallCallback)(const Gpupool1__Answer *answer, void *userdata);

typedef struct OpenCall {
        uint64_t id;
        NodeId to;
        CallCallback callback;
        void *userdata;
} OpenCall;

typedef struct Calls {
        PeerNet *net;                   /* borrowed; NULL: there is none at present */
        uint64_t last_id;
        ARRAY(OpenCall) open;
} Calls;

/* Forgets all without a callback. */
void calls_clear(Calls *calls);

/* Sends @call (its id is filled in here). @callback comes exactly once and later, unless it is cancelled. 0;
 * -ENOTCONN: surely did not leave; -ENOBUFS: too much is on its way already, surely did not leave; or -ENOMEM. */
int calls_begin(Calls *calls, const NodeId *to, Gpupool1__Call *call, CallCallback callback, void *userdata,
                uint64_t *ret_id);
void calls_cancel(Calls *calls, uint64_t id);           /* takes 0 */

void calls_answered(Calls *calls, const NodeId *from, const Gpupool1__Answer *answer);
void calls_lost(Calls *calls, const NodeId *node);
