/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Calls: what is asked of libvirt, made by the thread that has the connection. Each may hang. */

#include "adapters/libvirt/connection.h"

typedef enum CallKind {
        CALL_PROBE,                     /* does it answer? */
        CALL_LIST,
        CALL_CHECK,
        CALL_CPUS,                      /* which CPUs can it give? */
        CALL_START,
        CALL_RESUME,
        CALL_SHUTDOWN,
        CALL_DESTROY,
} CallKind;

typedef struct Call {
        CallKind kind;
        char *xml;                      /* CHECK, START */
        VmId vm;                        /* START, RESUME, SHUTDOWN, DESTROY */
} Call;

void call_clear(Call *call);

/* Makes @call. Sets *answer, which must be ANSWER_NONE. */
void call_make(const Connection *connection, const Call *call, Answer *answer);

/* Takes back a start that came true when nobody waited for it any more. */
void call_undo_start(const Connection *connection, const Call *call);
