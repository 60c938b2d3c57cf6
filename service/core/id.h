/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Ids: 128-bit identities of nodes, VMs, clusters and requests. Types of their own, so that the compiler keeps a
 * node from being taken for a VM; text is made and parsed at the edge. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ID_SIZE 16
#define ID_TEXT_SIZE 33         /* 32 hex digits and NUL */
#define UUID_TEXT_SIZE 37       /* 8-4-4-4-12 and NUL */
#define HASH_SIZE 32            /* SHA-256: of a secret, or of a node's public key (its "key", for short) */

typedef struct NodeId { uint8_t bytes[ID_SIZE]; } NodeId;
typedef struct VmId { uint8_t bytes[ID_SIZE]; } VmId;
typedef struct ClusterId { uint8_t bytes[ID_SIZE]; } ClusterId;
typedef struct RequestId { uint8_t bytes[ID_SIZE]; } RequestId;
typedef struct InviteId { uint8_t bytes[ID_SIZE]; } InviteId;

#define ID_EQUAL(a, b) (memcmp((a)->bytes, (b)->bytes, ID_SIZE) == 0)
#define ID_COMPARE(a, b) memcmp((a)->bytes, (b)->bytes, ID_SIZE)

static inline bool id_is_null(const uint8_t bytes[static ID_SIZE]) {
        static const uint8_t null[ID_SIZE];
        return memcmp(bytes, null, ID_SIZE) == 0;
}

/* 32 lower-case hex digits. */
void id_to_text(const uint8_t bytes[static ID_SIZE], char ret[static ID_TEXT_SIZE]);

/* Takes 32 hex digits, or a UUID with dashes. 0 or -EINVAL. */
int id_from_text(const char *text, uint8_t ret[static ID_SIZE]);

/* UUID form, as libvirt writes it. */
void id_to_uuid(const uint8_t bytes[static ID_SIZE], char ret[static UUID_TEXT_SIZE]);

/* A name of a pool, VM or node: 1..NAME_LENGTH_MAX of [A-Za-z0-9._-], beginning with a letter or digit. */
bool name_is_valid(const char *name);
