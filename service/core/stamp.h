/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Stamp: much as one number, so that it can be told cheaply whether it has changed. Two that differ have the same stamp
 * once in 2^64 times. Only compared within one process: nobody is told of it. */

#include <stdint.h>
#include <string.h>

#include "core/path-set.h"
#include "util/text.h"

static inline uint64_t stamp_add(uint64_t stamp, uint64_t value) {
        stamp = (stamp ^ value) * UINT64_C(0x9e3779b97f4a7c15);
        return stamp ^ stamp >> 29;
}

static inline uint64_t stamp_add_bytes(uint64_t stamp, const void *bytes, size_t size) {
        uint64_t word = 0;
        size_t i = 0;
        for (; i + sizeof(word) <= size; i += sizeof(word)) {
                memcpy(&word, (const uint8_t *) bytes + i, sizeof(word));
                stamp = stamp_add(stamp, word);
        }
        word = 0;
        memcpy(&word, (const uint8_t *) bytes + i, size - i);
        return stamp_add(stamp_add(stamp, word), size);
}

static inline uint64_t stamp_add_text(uint64_t stamp, const char *text) {
        return text ? stamp_add_bytes(stamp, text, strlen(text)) : stamp_add(stamp, UINT64_MAX);
}

static inline uint64_t stamp_add_texts(uint64_t stamp, const TextList *list) {
        for (size_t i = 0; i < list->n; i++)
                stamp = stamp_add_text(stamp, list->items[i]);
        return stamp_add(stamp, list->n);
}

static inline uint64_t stamp_add_paths(uint64_t stamp, const PathSet *set) {
        return stamp_add_bytes(stamp, set->n > 0 ? (const void *) set->hashes : "", set->n * sizeof(*set->hashes));
}
