/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Wire: protobuf bytes from outside, looked over before protobuf-c makes a message of them. It trusts what it is given
 * more than we may: a few bytes of empty items ask for a hundred times their size, and a submessage that stands twice
 * where one belongs is merged, at which 1.4.1 leaks. What passes here is unpacked without either. */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_DEPTH_MAX 16U      /* messages in messages; ours have 5 */

typedef enum WireVerdict {
        WIRE_GOOD,
        WIRE_GARBAGE,           /* not protobuf, or a known field has not its type; a NUL in a text */
        WIRE_TOO_DEEP,
        WIRE_TOO_MANY,          /* more than @max_items fields and items in all, known or not: each costs memory */
        WIRE_TWICE,             /* a submessage, or a member of a oneof, where one stands already */
} WireVerdict;

/* Looks at @bytes as a message of @descriptor. Allocates nothing; its time grows with @size. With WIRE_GOOD,
 * protobuf_c_message_unpack() fails for lack of memory only. */
WireVerdict wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                       size_t max_items);
