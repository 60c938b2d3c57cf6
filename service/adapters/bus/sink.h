/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sink: where the value of a property goes: into a message, or into a fingerprint by which a change is noticed. So
 * every property says its value once, for both. */

#include <stdint.h>
#include <systemd/sd-bus.h>

typedef struct Sink {
        sd_bus_message *message;        /* NULL: fingerprint only */
        uint64_t fingerprint;
} Sink;

#define SINK_FINGERPRINT ((Sink) { .fingerprint = UINT64_C(0xcbf29ce484222325) })
#define SINK_MESSAGE(m) ((Sink) { .message = (m) })

/* Appends basic values as sd_bus_message_append() does; structures and dictionary entries may be written, arrays not.
 * A NULL string is an empty one. */
int sink_put(Sink *sink, const char *types, ...);

/* Begins and ends an array. */
int sink_open(Sink *sink, const char *contents);
int sink_close(Sink *sink);
