/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Any bytes as a snapshot: what is taken for a registry keeps its promises, comes back from its own bytes, and goes on
 * keeping its promises when it is told more. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "unit/chronicle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COMMANDS 8U

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
        _cleanup_(chronicle_clear) Chronicle c = {};
        int verdict = registry_decode(data, size, &c.registry);
        assert(verdict >= 0 && (verdict == SNAPSHOT_GOOD) == (c.registry != NULL));
        if (!c.registry)
                return 0;

        assert_registry_is_sound(c.registry);
        come_back(c.registry);
        GRand *random = g_rand_new_with_seed((guint32) size);
        c.index = c.registry->index;
        for (unsigned i = 0; i < COMMANDS; i++)
                tell_anything(&c, random);
        g_rand_free(random);
        come_back(c.registry);
        return 0;
}
