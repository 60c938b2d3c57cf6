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

/* Room for terms and votes on a full disk, a page for each: the end of the write-ahead log, which nothing else may use
 * (what does not fit in front of it is -ENOSPC), and a file beside the registry ("registry.db-reserve") that is removed
 * when that is used up, or when the disk was full at the start. When the log can be moved into the file, which needs no
 * room while that does not grow, it begins anew. Where all this is not possible (the file system does not allocate
 * ahead, others take at once what the reserve gave back) a vote needs room as everything does. */
#define LOG_FILE_MARGIN (256U * 1024U)
#define LOG_FILE_RESERVE (128U * 1024U)

/* Does all @writes in their order in one transaction: durable when it returns 0. On an error none of them happened, as
 * far as later reads are concerned, and the same call may be repeated: -ENOSPC (also quota), -EROFS, -EIO, -ENOMEM; or
 * -EBADMSG: the file is damaged and must not be written again. */
int log_file_write(LogFile *file, const LogWrite *writes, size_t n);

/* The snapshot that is stored now. 0, -ENOENT, or as above. */
int log_file_read_snapshot(LogFile *file, LogSnapshot **ret);

/* Moves the write-ahead log into the file when it has grown; if there is other work (not @idle), only when it has grown
 * a lot. Failing costs only room; it is tried again next time. Returns 0 or as above. */
int log_file_tidy(LogFile *file, bool idle);
