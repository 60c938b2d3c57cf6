/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Entry: one command of the registry's history with its author, as bytes and as a structure. The structure is what
 * protobuf-c makes of interfaces/registry.proto; the names here are the same without the package. */

#include <stddef.h>

#include "core/id.h"
#include "core/pool.h"
#include "core/vm.h"
#include "registry.pb-c.h"

typedef Gpupool1__Entry Entry;
typedef Gpupool1__Author EntryAuthor;

#define ENTRY_FORMAT 1U

/* A decoded entry; owns all that hangs on it. */
Entry *entry_free(Entry *entry);
DEFINE_CLEANUP(Entry *, entry_free);

typedef enum EntryVerdict {
        ENTRY_GOOD,
        ENTRY_TOO_LARGE,        /* over ENTRY_SIZE_MAX */
        ENTRY_GARBAGE,          /* not an entry at all */
        ENTRY_UNKNOWN,          /* a format or command that this build does not know */
} EntryVerdict;

/* Reads an entry from bytes that nobody vouches for. Returns an EntryVerdict; *ret_entry is set with ENTRY_GOOD
 * only. */
int entry_decode(const uint8_t *bytes, size_t size, Entry **ret_entry);

/* Bytes of @entry, owned by the caller. 0, -ENOMEM, -E2BIG over ENTRY_SIZE_MAX or with too many parts, or -EINVAL for
 * a request id or an author that entry_decode() would not take. */
int entry_encode(const Entry *entry, uint8_t **ret_bytes, size_t *ret_size);

/* The functional level that the command needs. */
uint32_t entry_level(const Entry *entry);

/* FNV-1a of bytes: notices what was mixed up, not what was forged. */
uint64_t bytes_fingerprint(const uint8_t *bytes, size_t size);

/* A hash of the command without author, time, limit and request id: the same request sent again has the same. */
uint64_t entry_fingerprint(const Entry *entry);

/* Messages point into what they describe and are good while that lives. */
static inline ProtobufCBinaryData id_message_borrow(const uint8_t bytes[static ID_SIZE]) {
        return (ProtobufCBinaryData) { .len = ID_SIZE, .data = (uint8_t *) bytes };
}

void gpu_message_borrow(const GpuIdentity *gpu, char address_text[static PCI_ADDRESS_TEXT_SIZE], Gpupool1__Gpu *ret);

/* Checks form and limits. 0 or -EINVAL. */
int gpu_message_read(const Gpupool1__Gpu *message, GpuIdentity *ret);
