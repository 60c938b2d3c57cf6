/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* LogFile: the registry on disk, one SQLite file (WAL, synchronous=FULL) with a checksum in every row. It holds what
 * Raft must never forget: term and vote, the log, one snapshot.
 *
 * A file that is damaged, foreign or from a newer gpupool is refused and not touched: no byte of it, of its write-ahead
 * log or of its directory changes. SQLite opens and recovers too eagerly for that, so the file is first read with plain
 * reads and through a connection that cannot write.
 *
 * Every call may block on the disk. After log_file_open() the file belongs to one thread at a time (writer.h). */

#include <stdbool.h>

#include "adapters/store/log-entry.h"

#define LOG_FILE_APPLICATION_ID 0x47505550      /* "GPUP" */
#define LOG_FILE_FORMAT 1
#define LOG_FILE_CLUSTER_ID_SIZE 16U

typedef struct LogFile LogFile;

/* What opening came to. From LOG_FILE_READ_ONLY on the file was refused and is untouched. */
typedef enum LogFileVerdict {
        LOG_FILE_OPENED,
        LOG_FILE_CREATED,       /* it was missing */
        LOG_FILE_READ_ONLY,     /* the file, its directory or the file system cannot be written */
        LOG_FILE_DAMAGED,       /* truncated, garbage, or a checksum does not fit */
        LOG_FILE_FOREIGN,       /* of some other program, or another node's registry */
        LOG_FILE_NEWER,         /* of a format that this build does not know */
        LOG_FILE_IN_USE,        /* another process (or another LogFile) has it */
} LogFileVerdict;

/* Whose file a new one is, and with what it begins. With @configuration (libraft's encoding) the log begins with it as
 * its entry 1 of term 1; without, it is empty, for a node that waits for its leader. */
typedef struct LogFileBirth {
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        uint64_t server_id;
        const void *configuration;
        size_t configuration_size;
} LogFileBirth;

/* Term and vote, and how often the registry was started (never twice the same, once written). */
typedef struct LogFileVote {
        uint64_t term;
        uint64_t voted_for;
        uint64_t starts;
} LogFileVote;

/* All of a file's content. The entries' indexes are first_index, first_index + 1, ... */
typedef struct LogFileContent {
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        uint64_t server_id;
        LogFileVote vote;
        LogSnapshot *snapshot;  /* NULL if none; data included */
        uint64_t first_index;
        LogEntry **entries;
        size_t n_entries;
        uint64_t committed;     /* known to be committed when the last entry was written; 0 if unknown */
} LogFileContent;

void log_file_content_clear(LogFileContent *content);

/* Opens @path, or creates it (mode 0600) if @birth is given; then a file of another server id is refused. *ret_file and
 * *ret_content are set with LOG_FILE_OPENED and LOG_FILE_CREATED; with everything else *ret_sentence (optional) says
 * which file, why, and what to do. Returns a LogFileVerdict, or -errno; -ENOENT without @birth if there is no file. */
int log_file_open(const char *path, const LogFileBirth *birth, LogFile **ret_file, LogFileContent *ret_content,
                  char **ret_sentence);

/* Leaves nothing in the write-ahead log, if there is room. Takes NULL, returns NULL. */
LogFile *log_file_close(LogFile *file);
DEFINE_CLEANUP(LogFile *, log_file_close);

/* One change, as one raft_update asks for it. Parts that are not set stay as they are. */
typedef struct LogWrite {
        bool set_vote;
        LogFileVote vote;

        LogSnapshot *snapshot;          /* replaces the one there is... */
        uint64_t keep_from;             /* ...and every entry below this index goes; UINT64_MAX: all entries */

        uint64_t first_index;           /* entries from here on go (also later ones), and these come instead */
        LogEntry **entries;
        size_t n_entries;
        uint64_t committed;             /* the highest index known to be committed */
} LogWrite;

/* Room on a full disk for what keeps a cluster alive, so that no VM dies for want of it:
 *
 *  - vital writes: terms and votes, barriers, changes of members;
 *  - urgent ones: whatever stands in the log before a barrier that is waited for (writer.h).
 *
 * All other writes are -ENOSPC before they touch it. It lies in three places, used in this order:
 *
 *      registry.db-wal      LOG_FILE_MARGIN behind what is written; its last LOG_FILE_VITAL bytes for vital writes
 *                           only. A transaction of a vote or a barrier takes a page, or two
 *      registry.db          when that is used up, the write-ahead log is moved into the file and begins anew in the
 *                           blocks that it has. A vote needs no more room there, a barrier some 60 bytes
 *      registry.db-reserve  gets shorter, bit by bit, when the file cannot grow for that; and by half at a start on a
 *                           full disk, when there is no write-ahead log yet. Its last quarter is for vital writes only
 *
 * So there is room for thousands of barriers, and some hundred KiB of entries before them. Until all three are whole
 * again other writes are refused. The first two are held for sure where the file system keeps blocks that were
 * allocated ahead (ext4, XFS, tmpfs). Where each write takes new blocks (btrfs, ZFS), and where others are quicker to
 * take what the reserve gave back, a write needs room as everything does. */
#define LOG_FILE_MARGIN (1024U * 1024U)
#define LOG_FILE_VITAL (128U * 1024U)
#define LOG_FILE_RESERVE (2048U * 1024U)
#define LOG_FILE_VITAL_ENTRY_MAX 4096U  /* a change of members is some hundred bytes */

/* Does all @writes in their order in one transaction: durable when it returns 0. On an error none of them happened, as
 * far as later reads are concerned, and the same call may be repeated: -ENOSPC (also quota), -EROFS, -EIO, -ENOMEM; or
 * -EBADMSG: the file is damaged and must not be written again. */
int log_file_write(LogFile *file, const LogWrite *writes, size_t n);

/* The same for urgent ones. */
int log_file_write_urgently(LogFile *file, const LogWrite *writes, size_t n);

/* The snapshot that is stored now. 0, -ENOENT, or as above. */
int log_file_read_snapshot(LogFile *file, LogSnapshot **ret);

/* Sees to the room for vital writes. Moves the write-ahead log into the file when it has grown; if there is other work
 * (not @idle), only when it has grown a lot. Failing costs only room; it is tried again next time. Returns 0 or as
 * above. */
int log_file_tidy(LogFile *file, bool idle);
