/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Local driver: runs a fuzz target over the files of its corpus, so that every meson test does. Arguments: files and
 * folders. A crash names its file on the line before. */

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_run;

static void close_file(FILE *file) {
        (void) fclose(file);
}
DEFINE_CLEANUP(FILE *, close_file);

static bool run_file(const char *path) {
        _cleanup_(close_filep) FILE *file = fopen(path, "re");
        if (!file || fseek(file, 0, SEEK_END) < 0)
                return false;
        long size = ftell(file);
        rewind(file);
        /* Exactly as large as the input, so that a sanitizer sees a read beyond it. */
        _cleanup_free_ uint8_t *data = size < 0 ? NULL : malloc((size_t) size + (size == 0));
        if (!data || fread(data, 1, (size_t) size, file) != (size_t) size)
                return false;

        printf("# %s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, (size_t) size);
        printf("ok %u - %s\n", ++n_run, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        return true;
}

static bool run_folder(const char *path) {
        struct dirent **entries;
        int n = scandir(path, &entries, NULL, alphasort);
        if (n < 0)
                return false;
        bool good = true;
        for (int i = 0; i < n; i++) {
                char inside[4096];
                snprintf(inside, sizeof(inside), "%s/%s", path, entries[i]->d_name);
                if (entries[i]->d_name[0] != '.')
                        good = run_file(inside) && good;
                free(entries[i]);
        }
        free(entries);
        return good;
}

int main(int argc, char **argv) {
        bool good = true;
        for (int i = 1; i < argc; i++)
                if (!run_folder(argv[i]) && !run_file(argv[i])) {
                        printf("Bail out! %s cannot be read\n", argv[i]);
                        good = false;
                }
        printf("1..%u\n", n_run);
        return good && n_run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
