/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/storage.h"

#include <errno.h>

#include "core/facts-codec.h"
#include "util/array.h"
#include "util/log.h"
#include "util/wake.h"

#define GATHER_INTERVAL_US 200000U      /* between two walks through all VMs */

typedef struct StoragePath {
        char *path;
        PathSight sight;
        bool looked;                    /* at least once since it is needed */
} StoragePath;

typedef enum RoundKind {
        ROUND_NEW,
        ROUND_LOST,
        ROUND_ALL,
} RoundKind;

struct Storage {
        StorageConfig config;
        PathReader *reader;
        ARRAY(StoragePath) paths;       /* by path, each once */
        uint64_t index;                 /* of the registry, when its VMs were walked through last */
        uint64_t gathered_us;           /* when that was; 0: never */
        uint64_t all_us, lost_us;       /* when the last such round began; 0: never, or it is due */
        bool hangs;                     /* the round under way was told as hung */
        bool too_many;                  /* said so */
        bool news;                      /* sights have changed since they were told */
};

static bool is_lost(PathSight sight) {
        return sight == PATH_MISSING || sight == PATH_HANGING;
}

static int compare_path(const void *key, const void *item) {
        return strcmp(key, ((const StoragePath *) item)->path);
}

static StoragePath *find_path(const Storage *storage, const char *path) {
        size_t at;
        return array_find(&storage->paths, path, compare_path, &at) ? storage->paths.items + at : NULL;
}

PathSight storage_sight(const Storage *storage, const char *path) {
        const StoragePath *row = find_path(storage, path);
        return row ? row->sight : PATH_UNSEEN;
}

/* ---- what is needed */

typedef ARRAY(const char *) Needed;

static int compare_texts(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* All that VMs need, sorted, each once. Borrowed from the registry. */
static int list_needed(const Registry *registry, Needed *ret) {
        ARRAY_EACH(vm, &registry->vms)
                for (size_t i = 0; i < vm->needs.paths.n; i++) {
                        const char *path = vm->needs.paths.items[i];
                        int r = array_append(ret, &path);
                        if (r < 0)
                                return r;
                }
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), compare_texts);
        size_t n = 0;
        for (size_t i = 0; i < ret->n; i++)
                if (n == 0 || strcmp(ret->items[n - 1], ret->items[i]) != 0)
                        ret->items[n++] = ret->items[i];
        ret->n = n;
        return 0;
}

static void complain_of_too_many(Storage *storage, size_t n) {
        bool too_many = n > STORAGE_PATHS_MAX;
        if (too_many && !storage->too_many)
                log_warning("the cluster's VMs need %zu files: %u of them are looked for ahead, the rest when a VM "
                            "starts", n, STORAGE_PATHS_MAX);
        storage->too_many = too_many;
}

/* Both rows are sorted. What is still needed keeps its sight, where there is memory for it. */
static int merge(Storage *storage, const Needed *needed) {
        StoragePath *rows = calloc(needed->n + 1, sizeof(*rows));
        if (!rows)
                return -ENOMEM;
        size_t old = 0, n = 0;
        int r = 0;
        for (size_t i = 0; i < needed->n && n < STORAGE_PATHS_MAX && r >= 0; i++) {
                while (old < storage->paths.n && strcmp(storage->paths.items[old].path, needed->items[i]) < 0)
                        old++;
                bool known = old < storage->paths.n && text_equal(storage->paths.items[old].path, needed->items[i]);
                if (known) {
                        rows[n] = storage->paths.items[old];
                        storage->paths.items[old].path = NULL;
                        old++;
                } else
                        r = text_set(&rows[n].path, needed->items[i]);
                n += r >= 0;
        }
        ARRAY_EACH(row, &storage->paths) {
                storage->news = storage->news || (row->path && is_lost(row->sight));
                free(row->path);
        }
        free(storage->paths.items);
        storage->paths.items = rows;
        storage->paths.n = n;
        storage->paths.allocated = needed->n + 1;
        return r;
}

static int gather(Storage *storage, const Registry *registry, uint64_t now_us, uint64_t *wake_us) {
        if (storage->gathered_us > 0 && storage->index == registry->index)
                return 0;
        if (storage->gathered_us > 0 && now_us < storage->gathered_us + GATHER_INTERVAL_US) {
                wake_by(wake_us, storage->gathered_us + GATHER_INTERVAL_US);
                return 0;
        }
        Needed needed = {};
        int r = list_needed(registry, &needed);
        if (r >= 0)
                complain_of_too_many(storage, needed.n);
        if (r >= 0)
                r = merge(storage, &needed);
        array_clear(&needed);
        if (r < 0)
                return r;
        storage->index = registry->index;
        storage->gathered_us = now_us;
        return 0;
}

/* ---- rounds */

static void set_sight(Storage *storage, StoragePath *row, PathSight sight) {
        /* Between unseen and there nobody makes a difference. */
        storage->news = storage->news || (row->sight != sight && (is_lost(row->sight) || is_lost(sight)));
        row->sight = sight;
        row->looked = true;
}

static void take_sights(Storage *storage, const TextList *paths, const PathSight *sights, size_t n) {
        for (size_t i = 0; i < n; i++) {
                StoragePath *row = find_path(storage, paths->items[i]);
                if (row)
                        set_sight(storage, row, sights[i]);
        }
}

static void on_done(void *userdata, const TextList *paths, const PathSight *sights) {
        Storage *storage = userdata;
        if (storage->hangs) {
                log_info("storage answers again");
                storage->hangs = false;
                storage->all_us = 0;
        } else
                take_sights(storage, paths, sights, paths->n);
        storage->config.changed(storage->config.userdata);
}

/* What is mounted in the same place would hang, too; if that is not the root. */
static void spread(Storage *storage, const char *hanging) {
        size_t size = path_find_mount(hanging);
        if (size <= 1)
                return;
        ARRAY_EACH(row, &storage->paths)
                if (path_is_below(row->path, hanging, size))
                        set_sight(storage, row, PATH_HANGING);
}

static void on_hung(void *userdata, const TextList *paths, const PathSight *sights, size_t at) {
        Storage *storage = userdata;
        const char *path = paths->items[at];
        take_sights(storage, paths, sights, at);
        storage->hangs = true;
        StoragePath *row = find_path(storage, path);
        if (row)
                set_sight(storage, row, PATH_HANGING);
        spread(storage, path);
        log_warning("the storage of %s does not answer: no file is looked for until it does", path);
        storage->config.changed(storage->config.userdata);
}

static bool is_in_round(const StoragePath *row, RoundKind kind) {
        switch (kind) {
        case ROUND_NEW:
                return !row->looked;
        case ROUND_LOST:
                return is_lost(row->sight);
        case ROUND_ALL:
                return true;
        }
        return false;
}

/* 1: begun; 0: there is nothing to look at; or -errno. */
static int begin_round(Storage *storage, RoundKind kind) {
        _cleanup_(text_list_clear) TextList paths = {};
        ARRAY_EACH(row, &storage->paths) {
                int r = is_in_round(row, kind) ? text_list_add(&paths, row->path) : 0;
                if (r < 0)
                        return r;
        }
        return paths.n > 0 ? path_reader_look(storage->reader, &paths) : 0;
}

/* New paths before the old ones, for somebody may be about to start that VM. */
static int look(Storage *storage, uint64_t now_us, uint64_t *wake_us) {
        if (path_reader_is_busy(storage->reader))
                return 0;
        int r = storage->all_us == 0 ? 0 : begin_round(storage, ROUND_NEW);
        if (r == 0 && (storage->all_us == 0 || now_us >= storage->all_us + storage->config.period_us)) {
                storage->all_us = storage->lost_us = now_us;
                r = begin_round(storage, ROUND_ALL);
        }
        if (r == 0 && now_us >= storage->lost_us + storage->config.lost_us) {
                storage->lost_us = now_us;
                r = begin_round(storage, ROUND_LOST);
        }
        if (r == 0)
                wake_by(wake_us, storage->lost_us + storage->config.lost_us);
        return r;
}

/* ---- what is told */

static int tell(Storage *storage, LocalFacts *facts) {
        _cleanup_(path_set_clear) PathSet missing = {}, hanging = {};
        uint32_t more_missing = 0, more_hanging = 0;
        _cleanup_free_ SeenPath *seen = calloc(storage->paths.n + 1, sizeof(*seen));
        if (!seen)
                return -ENOMEM;
        for (size_t i = 0; i < storage->paths.n; i++)
                seen[i] = (SeenPath) { storage->paths.items[i].path, storage->paths.items[i].sight };
        int r = path_set_gather(seen, storage->paths.n, PATH_MISSING, FACTS_PATHS_MAX, &missing, &more_missing);
        if (r >= 0)
                r = path_set_gather(seen, storage->paths.n, PATH_HANGING, FACTS_PATHS_MAX, &hanging, &more_hanging);
        if (r < 0)
                return r;
        storage->news = false;
        return local_facts_set_paths(facts, &missing, &hanging, more_missing + more_hanging);
}

int storage_turn(Storage *storage, const Registry *registry, LocalFacts *facts, uint64_t now_us,
                 uint64_t *ret_wake_us) {
        int r = gather(storage, registry, now_us, ret_wake_us);
        if (r >= 0)
                r = look(storage, now_us, ret_wake_us);
        if (r < 0 && r != -ENOMEM) {
                /* No thread, no descriptor: what was seen stays as it is. */
                wake_by(ret_wake_us, now_us + storage->config.lost_us);
                r = 0;
        }
        return r < 0 ? r : storage->news ? tell(storage, facts) : 0;
}

/* ---- birth and death */

int storage_new(Storage **ret, const StorageConfig *config) {
        _cleanup_(storage_freep) Storage *storage = calloc(1, sizeof(*storage));
        if (!storage)
                return -ENOMEM;
        storage->config = *config;
        if (storage->config.period_us == 0)
                storage->config.period_us = STORAGE_PERIOD_US;
        if (storage->config.lost_us == 0)
                storage->config.lost_us = STORAGE_LOST_US;
        if (storage->config.deadline_us == 0)
                storage->config.deadline_us = STORAGE_DEADLINE_US;
        PathReaderConfig reader = { .deadline_us = storage->config.deadline_us, .look = config->look,
                                    .done = on_done, .hung = on_hung, .userdata = storage };
        int r = path_reader_new(&storage->reader, config->event, &reader);
        if (r < 0)
                return r;
        *ret = STEAL(storage);
        return 0;
}

Storage *storage_free(Storage *storage) {
        if (!storage)
                return NULL;
        path_reader_free(storage->reader);
        ARRAY_EACH(row, &storage->paths)
                free(row->path);
        array_clear(&storage->paths);
        free(storage);
        return NULL;
}
