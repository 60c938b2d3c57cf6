/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* FaultVfs: a disk that fails on request. It stands between SQLite and the real files; the product does not know it. */

#include <stdatomic.h>
#include <stdbool.h>

/* Becomes SQLite's default from here on; all does as the real one until told otherwise. */
void fault_vfs_install(void);

/* Counts writes, syncs and truncations of every file since fault_vfs_reset(). */
void fault_vfs_reset(void);
unsigned fault_vfs_operations(void);

/* From the @nth operation on (1: the next), @how_many of them fail with SQLite's @code (SQLITE_FULL,
 * SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, ...). A failing write may have written half. UINT_MAX: until
 * fault_vfs_reset(). */
void fault_vfs_fail(unsigned nth, unsigned how_many, int code);

/* From here on only files whose path has @part in it count and fail; NULL: all. Set while nothing fails. */
void fault_vfs_only(const char *part);

/* From here on it remembers of each file in @directory what is durable: what was written before the last sync of it.
 * For files that are opened afterwards. */
void fault_vfs_record(const char *directory);

/* Makes the files as they may be found after the power failed at this instant, in @directory under their own names: all
 * that is durable, and of every later write at random all, nothing, or some of its sectors. Any thread. */
void fault_vfs_cut_power(const char *directory);

/* Forgets all that was remembered. No file may be open. */
void fault_vfs_record_end(void);
