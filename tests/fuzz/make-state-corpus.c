/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes corpus/entry and corpus/snapshot anew, of random histories: make-state-corpus FOLDER. For when the registry's
 * schema has changed. */

#include <stdio.h>

#include "unit/chronicle.h"

static void write_file(const char *folder, const char *kind, unsigned seed, const void *data, size_t size) {
        g_autofree char *path = g_strdup_printf("%s/%s/history-%02u", folder, kind, seed);
        g_assert_true(g_file_set_contents(path, data, (gssize) size, NULL));
}

static void write_history(const char *folder, unsigned seed, unsigned n_commands) {
        _cleanup_(chronicle_clear) Chronicle c = chronicle_empty();
        GRand *random = g_rand_new_with_seed(seed);
        c.log = g_byte_array_new();
        ASSERT_DONE(tell_init(&c, "lab"));
        ASSERT_DONE(tell_node(&c, 1, "a", 1, "boot-1"));
        ASSERT_DONE(tell_pool(&c, "training", 1, 4));
        for (unsigned i = 0; i < n_commands; i++)
                tell_anything(&c, random);
        g_rand_free(random);

        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        g_assert_cmpint(registry_encode(c.registry, &bytes, &size), ==, 0);
        write_file(folder, "entry", seed, c.log->data, c.log->len);
        write_file(folder, "snapshot", seed, bytes, size);
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
