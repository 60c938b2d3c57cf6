/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/path-set.h"

#include <errno.h>
#include <string.h>

#include "util/array.h"

#define HASH_BEGINNING UINT64_C(0xcbf29ce484222325)     /* FNV-1a: a folder's hash comes on the way to its files' */
#define HASH_PRIME UINT64_C(0x100000001b3)

/* FNV alone spreads its last bytes badly. */
static uint64_t finish(uint64_t hash) {
        hash ^= hash >> 33;
        hash *= UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 33;
        hash *= UINT64_C(0xc4ceb9fe1a85ec53);
        return hash ^ hash >> 33;
}

static uint64_t add_byte(uint64_t hash, char byte) {
        return (hash ^ (unsigned char) byte) * HASH_PRIME;
}

static int compare_hashes(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return x < y ? -1 : x > y;
}

void path_set_clear(PathSet *set) {
        free(set->hashes);
        *set = (PathSet) {};
}

bool path_set_equal(const PathSet *a, const PathSet *b) {
        return a->n == b->n && (a->n == 0 || memcmp(a->hashes, b->hashes, a->n * sizeof(*a->hashes)) == 0);
}

int path_set_copy(const PathSet *from, PathSet *ret) {
        PathSet copy = { NULL, from->n };
        if (from->n > 0) {
                copy.hashes = calloc(from->n, sizeof(*copy.hashes));
                if (!copy.hashes)
                        return -ENOMEM;
                memcpy(copy.hashes, from->hashes, from->n * sizeof(*copy.hashes));
        }
        *ret = copy;
        return 0;
}

static bool has_hash(const PathSet *set, uint64_t hash) {
        size_t at;
        return array_search(set->hashes, set->n, sizeof(*set->hashes), &hash, compare_hashes, &at);
}

bool path_set_has(const PathSet *set, const char *path) {
        if (set->n == 0)
                return false;
        uint64_t hash = HASH_BEGINNING;
        for (const char *p = path; *p; p++) {
                if (*p == '/' && (p[1] == '/' || (!p[1] && p > path)))
                        continue;
                if (*p == '/' && hash != HASH_BEGINNING && has_hash(set, finish(hash)))
                        return true;
                hash = add_byte(hash, *p);
        }
        return has_hash(set, finish(hash));
}

/* Of the first @size bytes, in the way of path_set_has(). */
static uint64_t hash_path(const char *path, size_t size) {
        uint64_t hash = HASH_BEGINNING;
        for (size_t i = 0; i < size; i++)
                if (path[i] != '/' || (i + 1 < size ? path[i + 1] != '/' : i == 0))
                        hash = add_byte(hash, path[i]);
        return finish(hash);
}

/* ---- gathering */

typedef struct Gathering {
        const SeenPath *paths;
        size_t n_paths;
        size_t *others;                 /* of the first i paths, so many are seen otherwise */
} Gathering;

/* The end of the row of paths, from @first on, that begin with these bytes. */
static size_t find_end(const Gathering *gathering, size_t first, const char *beginning, size_t size) {
        size_t low = first, high = gathering->n_paths;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (strncmp(gathering->paths[middle].path, beginning, size) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* Likewise the first that begins so; one of them is at @at. */
static size_t find_beginning(const Gathering *gathering, size_t at, const char *beginning, size_t size) {
        size_t low = 0, high = at;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (strncmp(gathering->paths[middle].path, beginning, size) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The highest folder above the path at @at with nothing in it that is seen otherwise. Returns its size in bytes and in
 * *ret_end the first path beyond it; or the path itself. */
static size_t find_folder(const Gathering *gathering, size_t at, size_t *ret_end) {
        const char *path = gathering->paths[at].path;
        for (size_t size = 1; path[size]; size++) {
                if (path[size] != '/' || path[size - 1] == '/')
                        continue;
                size_t first = find_beginning(gathering, at, path, size + 1);
                size_t end = find_end(gathering, at, path, size + 1);
                if (gathering->others[first] == gathering->others[end]) {
                        *ret_end = end;
                        return size;
                }
        }
        *ret_end = at + 1;
        return strlen(path);
}

static int count_others(Gathering *gathering, PathSight sight) {
        gathering->others = calloc(gathering->n_paths + 1, sizeof(*gathering->others));
        if (!gathering->others)
                return -ENOMEM;
        for (size_t i = 0; i < gathering->n_paths; i++)
                gathering->others[i + 1] = gathering->others[i] + (gathering->paths[i].sight != sight);
        return 0;
}

static size_t sort_hashes(uint64_t *hashes, size_t n) {
        size_t kept = 0;
        if (n > 1)
                qsort(hashes, n, sizeof(*hashes), compare_hashes);
        for (size_t i = 0; i < n; i++)
                if (kept == 0 || hashes[kept - 1] != hashes[i])
                        hashes[kept++] = hashes[i];
        return kept;
}

int path_set_gather(const SeenPath *paths, size_t n_paths, PathSight sight, size_t most, PathSet *ret,
                    uint32_t *ret_more) {
        Gathering gathering = { paths, n_paths, NULL };
        int r = count_others(&gathering, sight);
        _cleanup_free_ size_t *others = gathering.others;
        if (r < 0)
                return r;
        size_t all = n_paths - others[n_paths], n = 0, more = 0;
        size_t room = all < most ? all : most;
        _cleanup_free_ uint64_t *hashes = calloc(room + 1, sizeof(*hashes));
        if (!hashes)
                return -ENOMEM;

        for (size_t i = 0, end; i < n_paths; i = end) {
                end = i + 1;
                if (paths[i].sight != sight)
                        continue;
                size_t size = all > most ? find_folder(&gathering, i, &end) : strlen(paths[i].path);
                if (n < room)
                        hashes[n++] = hash_path(paths[i].path, size);
                else
                        more += end - i;
        }
        n = sort_hashes(hashes, n);
        *ret = (PathSet) { n > 0 ? STEAL(hashes) : NULL, n };
        *ret_more = (uint32_t) more;
        return 0;
}
