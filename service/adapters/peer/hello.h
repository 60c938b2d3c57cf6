/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Hello: the first frame of each side. Who dials says it first; who was dialled answers with its own, or refuses with a
 * Goodbye in its place. */

#include "adapters/peer/peer.h"

#define HELLO_PROTOCOL 1U
#define HELLO_NONCE_SIZE 8U
#define HELLO_VERSION_LENGTH_MAX 63U

/* Of a frame from somebody who is no member: a JoinRequest with all its addresses is a third of it. */
#define STRANGER_FRAME_SIZE_MAX 16384U

typedef enum HelloVerdict {
        HELLO_GOOD,
        HELLO_OTHER_PROTOCOL,           /* another major version: nothing else of it was looked at */
        HELLO_MALFORMED,
} HelloVerdict;

HelloVerdict hello_check(const Gpupool1__Hello *hello);

/* What is sent to a peer with another major version, and logged. */
void hello_protocol_sentence(const Gpupool1__Hello *hello, char *ret, size_t size);

/* NULL: out of memory. */
Gpupool1__Hello *hello_copy(const Gpupool1__Hello *hello);
void hello_free(Gpupool1__Hello *hello);

/* The sentence of a goodbye as it may be shown. */
#define GOODBYE_TEXT_SIZE 256U
void goodbye_to_text(const Gpupool1__Goodbye *goodbye, char ret[static GOODBYE_TEXT_SIZE]);
