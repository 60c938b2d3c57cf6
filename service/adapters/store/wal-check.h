/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* WalCheck: was SQLite's write-ahead log torn by a crash, or damaged afterwards?
 *
 * SQLite takes the first frame with a wrong checksum for the end of the log and drops what follows without a word. That
 * is right after a crash: the last transaction was not acknowledged. It is wrong when a byte in the middle changed
 * later: acknowledged entries would vanish. The two can be told apart, because every commit is on disk before the next
 * one is begun: behind a torn transaction no other, complete one can stand. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum WalVerdict {
        WAL_ABSENT,     /* no file, or nothing in it */
        WAL_WHOLE,      /* whole, or with at most one torn transaction at its end */
        WAL_DAMAGED,    /* complete transactions stand behind a damaged frame, or the header is damaged */
} WalVerdict;

/* Only reads. @path is the log's own ("registry.db-wal"). Returns a WalVerdict, or -errno of what could not be read. */
int wal_check(const char *path);
