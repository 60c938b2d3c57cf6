/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault-vfs.h"

#include <glib.h>
#include <sqlite3.h>
#include <string.h>

typedef struct FaultFile {
        sqlite3_file base;
        const char *name;
        sqlite3_file real[];
} FaultFile;

/* The writer's thread counts, the test's thread sets. */
static atomic_uint operations, fail_from, fail_count;
static atomic_int fail_code;
static _Atomic(const char *) only;
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
        const char *part = atomic_load(&only), *name = ((FaultFile *) file)->name;
        if (part && (!name || !strstr(name, part)))
                return false;
        unsigned at = atomic_fetch_add(&operations, 1) + 1, from = atomic_load(&fail_from);
        unsigned count = atomic_load(&fail_count);
        return count > 0 && at >= from && at - from < count;
}

static sqlite3_file *real_of(sqlite3_file *file) {
        return ((FaultFile *) file)->real;
}

static int fault_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset) {
        if (fails_now(file)) {
                (void) real_of(file)->pMethods->xWrite(real_of(file), bytes, size / 2, offset);
                return atomic_load(&fail_code);
        }
        return real_of(file)->pMethods->xWrite(real_of(file), bytes, size, offset);
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size) {
        return fails_now(file) ? atomic_load(&fail_code) : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int fault_sync(sqlite3_file *file, int flags) {
        return fails_now(file) ? atomic_load(&fail_code) : real_of(file)->pMethods->xSync(real_of(file), flags);
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
        return r;
}

static int fault_delete(sqlite3_vfs *vfs, const char *name, int sync) {
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
