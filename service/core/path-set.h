/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Path set: some of the files of a host, told in few bytes: by a hash of each path. Who asks has the path, so the set
 * needs only to say yes or no. A folder in it stands for all that is below it.
 *
 * 64 bits: of the 10^4 paths that are asked about and the 10^3 that are in a set two fall together once in 10^12. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"

typedef struct PathSet {
        uint64_t *hashes;               /* ascending, each once */
        size_t n;
} PathSet;

void path_set_clear(PathSet *set);
bool path_set_equal(const PathSet *a, const PathSet *b);
/* 0 or -ENOMEM. */
int path_set_copy(const PathSet *from, PathSet *ret);
/* The path itself, or a folder above it. Slashes that repeat count once. */
bool path_set_has(const PathSet *set, const char *path);

/* How a host sees a file. */
typedef enum PathSight {
        PATH_UNSEEN,                    /* not looked at, or nothing can be told by looking: taken to be there */
        PATH_THERE,
        PATH_MISSING,
        PATH_HANGING,                   /* its storage does not answer, or only with an error */
} PathSight;

typedef struct SeenPath {
        const char *path;               /* borrowed; begins with a slash */
        PathSight sight;
} SeenPath;

/* Those of the @paths with this sight, which are sorted by path, each once. Where they are more than @most, a folder
 * takes the place of all that is asked about below it, if all that is seen so: the highest such folder. What is over
 * @most even then is left out and counted in *ret_more. 0 or -ENOMEM. */
int path_set_gather(const SeenPath *paths, size_t n_paths, PathSight sight, size_t most, PathSet *ret,
                    uint32_t *ret_more);
