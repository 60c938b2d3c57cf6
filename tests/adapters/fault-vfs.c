/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault-vfs.h"

#include <glib.h>
#include <sqlite3.h>
#include <string.h>

#define SECTOR_SIZE 512U

/* A write, or (no bytes) a truncation to @offset, that no sync followed yet. */
typedef struct PendingWrite {
        sqlite3_int64 offset;
        GBytes *bytes;
} PendingWrite;

typedef struct RecordedFile {
        GByteArray *durable;
        GArray *pending;
} RecordedFile;

typedef struct FaultFile {
        sqlite3_file base;
        const char *name;
        sqlite3_file real[];
} FaultFile;

/* The writer's thread counts, the test's thread sets. */
static atomic_uint operations, fail_from, fail_count;
static atomic_int fail_code;
static _Atomic(const char *) only;
static GMutex record_lock;
static GHashTable *recorded;            /* path -> RecordedFile; NULL: nothing is recorded */
static char *recorded_directory;
static sqlite3_vfs *real_vfs;
static sqlite3_vfs fault_vfs;

void fault_vfs_reset(void) {
        atomic_store(&fail_count, 0);
        atomic_store(&operations, 0);
}

unsigned fault_vfs_operations(void) {
        return atomic_load(&operations);
}

void fault_vfs_fail(unsigned nth, unsigned how_many, int code) {
        atomic_store(&fail_code, code);
        atomic_store(&fail_from, atomic_load(&operations) + nth);
        atomic_store(&fail_count, how_many);
}

void fault_vfs_only(const char *part) {
        atomic_store(&only, part);
}

static bool fails_now(sqlite3_file *file) {
        const char *part = atomic_load(&only), *name = ((const FaultFile *) file)->name;
        if (part && (!name || !strstr(name, part)))
                return false;
        unsigned at = atomic_fetch_add(&operations, 1) + 1, from = atomic_load(&fail_from);
        unsigned count = atomic_load(&fail_count);
        return count > 0 && at >= from && at - from < count;
}

/* ---- what is durable ---- */

static void pending_clear(gpointer item) {
        PendingWrite *pending = item;
        g_clear_pointer(&pending->bytes, g_bytes_unref);
}

static void recorded_file_free(gpointer item) {
        RecordedFile *file = item;
        g_byte_array_unref(file->durable);
        g_array_unref(file->pending);
        g_free(file);
}

/* With the lock. */
static RecordedFile *recorded_file(const char *path) {
        RecordedFile *file = g_hash_table_lookup(recorded, path);
        g_autofree char *bytes = NULL;
        gsize size = 0;

        if (file)
                return file;
        file = g_new0(RecordedFile, 1);
        file->durable = g_byte_array_new();
        file->pending = g_array_new(FALSE, FALSE, sizeof(PendingWrite));
        g_array_set_clear_func(file->pending, pending_clear);
        if (g_file_get_contents(path, &bytes, &size, NULL))
                g_byte_array_append(file->durable, (const guint8 *) bytes, (guint) size);
        g_hash_table_insert(recorded, g_strdup(path), file);
        return file;
}

static void image_write(GByteArray *image, gsize offset, const void *bytes, gsize size) {
        guint before = image->len;
        if (image->len < offset + size)
                g_byte_array_set_size(image, (guint) (offset + size));
        if (before < offset)
                memset(image->data + before, 0, offset - before);
        memcpy(image->data + offset, bytes, size);
}

static void image_apply(GByteArray *image, const PendingWrite *pending) {
        gsize size = 0;

        if (!pending->bytes) {
                if (image->len > (guint) pending->offset)
                        g_byte_array_set_size(image, (guint) pending->offset);
                return;
        }
        const void *bytes = g_bytes_get_data(pending->bytes, &size);
        image_write(image, (gsize) pending->offset, bytes, size);
}

static void image_apply_some_sectors(GByteArray *image, const PendingWrite *pending) {
        gsize size = 0, offset = (gsize) pending->offset, end;
        const guint8 *bytes = g_bytes_get_data(pending->bytes, &size);

        for (gsize at = 0; at < size; at = end) {
                end = (offset + at) / SECTOR_SIZE * SECTOR_SIZE + SECTOR_SIZE - offset;
                if (end > size)
                        end = size;
                if (g_random_boolean())
                        image_write(image, offset + at, bytes + at, end - at);
        }
}

/* With the lock. */
static bool is_recorded(const char *path) {
        return recorded && path && g_str_has_prefix(path, recorded_directory);
}

static void record_open(const char *path) {
        g_mutex_lock(&record_lock);
        if (is_recorded(path))
                (void) recorded_file(path);
        g_mutex_unlock(&record_lock);
}

static void record_change(const char *path, sqlite3_int64 offset, const void *bytes, int size) {
        PendingWrite pending = { .offset = offset, .bytes = bytes ? g_bytes_new(bytes, (gsize) size) : NULL };

        g_mutex_lock(&record_lock);
        if (is_recorded(path))
                g_array_append_val(recorded_file(path)->pending, pending);
        else
                pending_clear(&pending);
        g_mutex_unlock(&record_lock);
}

static void record_sync(const char *path) {
        g_mutex_lock(&record_lock);
        if (is_recorded(path)) {
                RecordedFile *file = recorded_file(path);
                for (guint i = 0; i < file->pending->len; i++)
                        image_apply(file->durable, &g_array_index(file->pending, PendingWrite, i));
                g_array_set_size(file->pending, 0);
        }
        g_mutex_unlock(&record_lock);
}

void fault_vfs_record(const char *directory) {
        recorded_directory = g_strconcat(directory, "/", NULL);
        recorded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, recorded_file_free);
}

void fault_vfs_record_end(void) {
        g_clear_pointer(&recorded, g_hash_table_unref);
        g_clear_pointer(&recorded_directory, g_free);
}

void fault_vfs_cut_power(const char *directory) {
        GHashTableIter iter;
        gpointer path, item;

        g_mutex_lock(&record_lock);
        g_hash_table_iter_init(&iter, recorded);
        while (g_hash_table_iter_next(&iter, &path, &item)) {
                const RecordedFile *file = item;
                g_autofree char *name = g_path_get_basename(path), *target = g_build_filename(directory, name, NULL);
                g_autoptr(GByteArray) image = g_byte_array_new();

                g_byte_array_append(image, file->durable->data, file->durable->len);
                for (guint i = 0; i < file->pending->len; i++) {
                        const PendingWrite *pending = &g_array_index(file->pending, PendingWrite, i);
                        gint32 luck = g_random_int_range(0, 3);
                        if (luck == 0 || (luck == 1 && !pending->bytes))
                                image_apply(image, pending);
                        else if (luck == 1)
                                image_apply_some_sectors(image, pending);
                }
                g_assert_true(g_file_set_contents_full(target, (const char *) image->data, image->len,
                                                       G_FILE_SET_CONTENTS_NONE, 0600, NULL));
        }
        g_mutex_unlock(&record_lock);
}

/* ---- the files ---- */

static sqlite3_file *real_of(sqlite3_file *file) {
        return ((FaultFile *) file)->real;
}

static const char *name_of(sqlite3_file *file) {
        return ((FaultFile *) file)->name;
}

static int fault_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset) {
        if (fails_now(file)) {
                (void) real_of(file)->pMethods->xWrite(real_of(file), bytes, size / 2, offset);
                return atomic_load(&fail_code);
        }
        record_change(name_of(file), offset, bytes, size);
        return real_of(file)->pMethods->xWrite(real_of(file), bytes, size, offset);
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size) {
        if (fails_now(file))
                return atomic_load(&fail_code);
        record_change(name_of(file), size, NULL, 0);
        return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int fault_sync(sqlite3_file *file, int flags) {
        if (fails_now(file))
                return atomic_load(&fail_code);
        int r = real_of(file)->pMethods->xSync(real_of(file), flags);
        if (r == SQLITE_OK)
                record_sync(name_of(file));
        return r;
}

static int fault_close(sqlite3_file *file) {
        return real_of(file)->pMethods ? real_of(file)->pMethods->xClose(real_of(file)) : SQLITE_OK;
}

static int fault_read(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset) {
        return real_of(file)->pMethods->xRead(real_of(file), bytes, size, offset);
}

static int fault_file_size(sqlite3_file *file, sqlite3_int64 *size) {
        return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int fault_lock(sqlite3_file *file, int level) {
        return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int fault_unlock(sqlite3_file *file, int level) {
        return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int fault_check_lock(sqlite3_file *file, int *held) {
        return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

static int fault_control(sqlite3_file *file, int what, void *argument) {
        return real_of(file)->pMethods->xFileControl(real_of(file), what, argument);
}

static int fault_sector_size(sqlite3_file *file) {
        return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int fault_characteristics(sqlite3_file *file) {
        return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

/* Version 1: no shared memory, which the product does not use. */
static const sqlite3_io_methods fault_methods = {
        .iVersion = 1,
        .xClose = fault_close,
        .xRead = fault_read,
        .xWrite = fault_write,
        .xTruncate = fault_truncate,
        .xSync = fault_sync,
        .xFileSize = fault_file_size,
        .xLock = fault_lock,
        .xUnlock = fault_unlock,
        .xCheckReservedLock = fault_check_lock,
        .xFileControl = fault_control,
        .xSectorSize = fault_sector_size,
        .xDeviceCharacteristics = fault_characteristics,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *flags_out) {
        int r = real_vfs->xOpen(real_vfs, name, real_of(file), flags, flags_out);
        ((FaultFile *) file)->name = name;
        file->pMethods = r == SQLITE_OK ? &fault_methods : NULL;
        if (r == SQLITE_OK)
                record_open(name);
        return r;
}

static int fault_delete(sqlite3_vfs *vfs, const char *name, int sync) {
        g_mutex_lock(&record_lock);
        if (recorded)
                (void) g_hash_table_remove(recorded, name);
        g_mutex_unlock(&record_lock);
        return real_vfs->xDelete(real_vfs, name, sync);
}

static int fault_access(sqlite3_vfs *vfs, const char *name, int flags, int *result) {
        return real_vfs->xAccess(real_vfs, name, flags, result);
}

static int fault_full_name(sqlite3_vfs *vfs, const char *name, int size, char *full) {
        return real_vfs->xFullPathname(real_vfs, name, size, full);
}

void fault_vfs_install(void) {
        real_vfs = sqlite3_vfs_find(NULL);
        fault_vfs = *real_vfs;
        fault_vfs.zName = "fault";
        fault_vfs.szOsFile = (int) sizeof(FaultFile) + real_vfs->szOsFile;
        fault_vfs.xOpen = fault_open;
        fault_vfs.xDelete = fault_delete;
        fault_vfs.xAccess = fault_access;
        fault_vfs.xFullPathname = fault_full_name;
        g_assert_cmpint(sqlite3_vfs_register(&fault_vfs, 1), ==, SQLITE_OK);
}
