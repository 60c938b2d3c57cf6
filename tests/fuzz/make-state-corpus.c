/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes corpus/entry, corpus/snapshot and corpus/wire anew, of random histories: make-state-corpus FOLDER. For when
 * the registry's schema has changed. */

#include <stdio.h>

#include "unit/chronicle.h"

static void write_file(const char *folder, const char *kind, unsigned seed, const void *data, size_t size) {
        g_autofree char *path = g_strdup_printf("%s/%s/history-%02u", folder, kind, seed);
        g_assert_true(g_file_set_contents(path, data, (gssize) size, NULL));
}

/* As fuzz-wire takes it: behind the number of its kind. */
static void write_message(const char *folder, unsigned number, uint8_t kind, const uint8_t *data, size_t size) {
        g_autofree uint8_t *bytes = g_malloc(size + 1);
        bytes[0] = kind;
        memcpy(bytes + 1, data, size);
        write_file(folder, "wire", number, bytes, size + 1);
}

static void write_history(const char *folder, unsigned seed, unsigned n_commands) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        GRand *random = g_rand_new_with_seed(seed);
        c.log = g_byte_array_new();
        ASSERT_DONE(tell_init_at(&c, "lab", seed % 2 == 0 ? LEVEL_FAILOVER : LEVEL_OLDEST));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
        if (seed % 2 == 0)
                ASSERT_DONE(tell_lease(&c, 1, TEST_LEASE_MS, TEST_DEATH_MS));
        ASSERT_DONE(tell_pool(&c, "training", 1, 4));
        for (unsigned i = 0; i < n_commands; i++)
                tell_anything(&c, random);
        g_rand_free(random);

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", seed, c.log->data, c.log->len);
        write_file(folder, "snapshot", seed, bytes, size);
        size_t first_size = c.log->data[0] | (size_t) c.log->data[1] << 8;
        write_message(folder, 2 * seed, 0, c.log->data + 2, first_size);
        write_message(folder, 2 * seed + 1, 1, bytes, size);
        g_byte_array_unref(c.log);
}

int main(int argc, char **argv) {
        if (argc != 2) {
                fprintf(stderr, "usage: make-state-corpus FOLDER\n");
                return 2;
        }
        for (unsigned seed = 1; seed <= 24; seed++)
                write_history(argv[1], seed, 2 * seed);
        return 0;
}
