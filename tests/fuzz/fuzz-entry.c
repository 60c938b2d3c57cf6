/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as a history: entries one after another, each behind its size in two bytes, low first. What is taken for an
 * entry is applied; the chronicle holds the registry's promises after each. */

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "unit/chronicle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 64U         /* of one input: enough for commands to meet */

static void apply(Chronicle *c, const uint8_t *data, size_t size) {
        _cleanup_(entry_freep) Entry *entry = NULL;
        int verdict = entry_decode(data, size, &entry);
        assert(verdict >= 0 && (verdict == ENTRY_GOOD) == (entry != NULL));
        if (!entry)
                return;

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t encoded_size;
        int r = entry_encode(entry, &bytes, &encoded_size);
        /* What was written in fewer bytes than protobuf-c takes may be too large when it is written by it. */
        assert(r == 0 || r == -E2BIG);
        if (r == 0)
                (void) tell_entry(c, entry);
}

static void come_back(const Registry *registry) {
        _cleanup_(registry_freep) Registry *read = NULL;
        _cleanup_free_ uint8_t *bytes = NULL, *again = NULL;
        size_t size, again_size;
        g_assert_cmpint(registry_encode(registry, &bytes, &size), ==, 0);
        g_assert_cmpint(registry_decode(bytes, size, &read), ==, SNAPSHOT_GOOD);
        g_assert_cmpint(registry_encode(read, &again, &again_size), ==, 0);
        g_assert_cmpmem(bytes, size, again, again_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        for (unsigned n = 0; size >= 2 && n < ENTRIES_MAX; n++) {
                size_t entry_size = data[0] | (size_t) data[1] << 8;
                data += 2;
                size -= 2;
                entry_size = entry_size < size ? entry_size : size;
                apply(&c, data, entry_size);
                data += entry_size;
                size -= entry_size;
        }
        come_back(c.registry);
        return 0;
}
