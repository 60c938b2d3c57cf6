/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/log-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "adapters/store/log-file-look.h"
#include "adapters/store/wal-check.h"
#include "util/text.h"

/* After this many pages (1 MiB) the write-ahead log is moved into the file when nothing else is to do, and after this
 * many (8 MiB) although there is. */
#define TIDY_PAGES_IDLE 256
#define TIDY_PAGES_BUSY 2048

/* Of the write-ahead log: its header, a page with the header of its frame, and what a transaction may write beside the
 * rows' own bytes (inner pages, the list of free ones). */
#define WAL_HEADER_SIZE 32U
#define WAL_FRAME_SIZE (4096U + 24U)
#define WAL_OVERHEAD (16U * WAL_FRAME_SIZE)
#define ROW_OVERHEAD 64U

/* Allocated ahead of the margin, so that this is seldom done. */
#define WAL_AHEAD (256U * 1024U)

/* Beside the registry, as SQLite names its log. */
#define RESERVE_ENDING "-reserve"
#define RESERVE_STEP (64U * 1024U)

/* A snapshot may have made the write-ahead log large; no need to keep more than this. It must be more than the margin,
 * which else would be given back whenever the log begins anew. */
#define WAL_SIZE_KEPT "4194304"

typedef enum Statement {
        STATEMENT_BEGIN,
        STATEMENT_COMMIT,
        STATEMENT_ROLLBACK,
        STATEMENT_VOTE,
        STATEMENT_SNAPSHOT,
        STATEMENT_DROP_BELOW,
        STATEMENT_DROP_FROM,
        STATEMENT_APPEND,
        STATEMENT_COUNT,
} Statement;

static const char *const statement_texts[STATEMENT_COUNT] = {
        [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
        [STATEMENT_COMMIT] = "COMMIT",
        [STATEMENT_ROLLBACK] = "ROLLBACK",
        [STATEMENT_VOTE] = "UPDATE meta SET term = ?1, vote = ?2, starts = ?3, checksum = ?4",
        [STATEMENT_SNAPSHOT] = "INSERT OR REPLACE INTO snapshot(id, idx, term, configuration_idx, configuration, data, "
                               "checksum) VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6)",
        [STATEMENT_DROP_BELOW] = "DELETE FROM entry WHERE idx < ?1",
        [STATEMENT_DROP_FROM] = "DELETE FROM entry WHERE idx >= ?1",
        [STATEMENT_APPEND] = "INSERT INTO entry(idx, term, type, committed, data, checksum) "
                             "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
};

struct LogFile {
        char *path;
        int lock_fd;            /* holds the lock; closed after SQLite, which else would lose its own locks */
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENT_COUNT];
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        uint64_t server_id;
        bool damaged;           /* found so while running: not one more byte goes into it */
        int wal_pages;
        int wal_fd;             /* to allocate ahead; -1: not yet */
        bool wal_stubborn;      /* the file system does not allocate ahead */
        off_t reserve;          /* bytes that it has for sure */
        bool reserve_stubborn;  /* there cannot be one, for another reason than a full disk */
};

void log_file_content_clear(LogFileContent *content) {
        log_snapshot_free(content->snapshot);
        log_entries_unref(content->entries, content->n_entries);
        *content = (LogFileContent) {};
}

/* ---- SQLite, a little shorter ---- */

static int run(sqlite3 *db, const char *sql) {
        return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : log_file_errno(db);
}

static int run_statement(LogFile *file, Statement which) {
        sqlite3_stmt *statement = file->statements[which];
        int r = 0;

        if (sqlite3_step(statement) != SQLITE_DONE) {
                r = log_file_errno(file->db);
                if (r == 0)
                        r = -EIO;
        }
        (void) sqlite3_reset(statement);
        (void) sqlite3_clear_bindings(statement);
        return r;
}

static void bind_number(sqlite3_stmt *statement, int place, uint64_t number) {
        (void) sqlite3_bind_int64(statement, place, (sqlite3_int64) number);
}

/* The bytes are borrowed until the statement ran. An empty row of bytes is not NULL. */
static int bind_bytes(sqlite3_stmt *statement, int place, const void *bytes, size_t size) {
        int r = sqlite3_bind_blob64(statement, place, size > 0 ? bytes : "", size, SQLITE_STATIC);
        return r == SQLITE_OK ? 0 : r == SQLITE_TOOBIG ? -E2BIG : -ENOMEM;
}

static int count_wal(void *userdata, sqlite3 *db, const char *name, int pages) {
        LogFile *file = userdata;
        file->wal_pages = pages;
        return SQLITE_OK;
}

/* ---- opening ---- */

/* A connection that cannot write, for a file whose write-ahead log is empty: SQLite would create one. */
static int open_for_looking(const char *path, sqlite3 **ret) {
        _cleanup_free_ char *address = NULL;
        int r;

        r = text_append(&address, "file:");
        for (const char *c = path; *c && r >= 0; c++)
                r = *c == '?' || *c == '#' || *c == '%' ? text_append(&address, "%%%02x", (unsigned) *c)
                                                        : text_append(&address, "%c", *c);
        if (r >= 0)
                r = text_append(&address, "?immutable=1");
        if (r < 0)
                return r;
        if (sqlite3_open_v2(address, ret, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK)
                return *ret ? log_file_errno(*ret) : -ENOMEM;
        return 0;
}

/* The connection that stays. It writes nothing by itself: neither now nor when it is closed. In exclusive mode SQLite
 * keeps the index of the write-ahead log in memory, so that there is no third file. */
static int open_for_writing(const char *path, sqlite3 **ret) {
        if (sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
                return *ret ? log_file_errno(*ret) : -ENOMEM;
        (void) sqlite3_extended_result_codes(*ret, 0);
        (void) sqlite3_db_config(*ret, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void) sqlite3_db_config(*ret, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        return run(*ret, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; "
                         "PRAGMA journal_size_limit = " WAL_SIZE_KEPT "; PRAGMA temp_store = MEMORY; "
                         "PRAGMA cache_size = -512; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; "
                         "PRAGMA secure_delete = FAST");
}

static void connection_closep(sqlite3 **db) {
        (void) sqlite3_close(*db);
}

static char *directory_of(const char *path) {
        const char *slash = strrchr(path, '/');
        if (!slash)
                return strdup(".");
        return strndup(path, slash == path ? 1 : (size_t) (slash - path));
}

/* LOG_FILE_OPENED, LOG_FILE_READ_ONLY, or -errno. */
static int look_whether_writable(const char *path, char **ret_sentence) {
        _cleanup_free_ char *directory = directory_of(path);
        if (!directory)
                return -ENOMEM;

        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
                return log_file_refuse(ret_sentence, LOG_FILE_READ_ONLY, path, "cannot be written: %s. Give it to "
                                       "gpupoold's user, on a file system that is mounted for writing.",
                                       strerror(errno));
        if (fd < 0)
                return -errno;
        if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) == 0)
                return LOG_FILE_OPENED;
        if (errno != EACCES && errno != EROFS && errno != EPERM)
                return -errno;
        return log_file_refuse(ret_sentence, LOG_FILE_READ_ONLY, path, "lies in a directory that cannot be written: "
                               "%s. Give %s to gpupoold's user.", strerror(errno), directory);
}

static int prepare(LogFile *file) {
        for (Statement i = 0; i < STATEMENT_COUNT; i++)
                if (sqlite3_prepare_v3(file->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                       &file->statements[i], NULL) != SQLITE_OK)
                        return log_file_errno(file->db);
        (void) sqlite3_wal_hook(file->db, count_wal, file);
        return 0;
}

static int look_and_open(const char *path, const LogFileBirth *birth, sqlite3 **ret_db, LogFileContent *ret_content,
                         char **ret_sentence) {
        _cleanup_(connection_closep) sqlite3 *db = NULL, *looking = NULL;
        _cleanup_free_ char *wal = NULL;
        int r, verdict;

        r = text_printf(&wal, "%s-wal", path);
        if (r < 0)
                return r;
        r = wal_check(wal);
        if (r < 0)
                return r;

        /* With a write-ahead log only the connection that stays sees everything; without one it would make one. */
        r = r == WAL_ABSENT ? open_for_looking(path, &looking) : open_for_writing(path, &db);
        if (r < 0)
                return r;
        verdict = log_file_look_inside(db ? db : looking, path, ret_content, ret_sentence);
        if (verdict != LOG_FILE_OPENED)
                return verdict;
        if (birth && ret_content->server_id != birth->server_id) {
                verdict = log_file_refuse(ret_sentence, LOG_FILE_FOREIGN, path, "belongs to another node (%016" PRIx64
                                          ", this one is %016" PRIx64 "). Give it back: the copy of a registry must "
                                          "never run beside it.", ret_content->server_id, birth->server_id);
                log_file_content_clear(ret_content);
                return verdict;
        }

        if (!db) {
                r = open_for_writing(path, &db);
                if (r < 0) {
                        log_file_content_clear(ret_content);
                        return r;
                }
        }
        *ret_db = STEAL(db);
        return LOG_FILE_OPENED;
}

static int open_existing(const char *path, int lock_fd, const LogFileBirth *birth, LogFile **ret_file,
                         LogFileContent *ret_content, char **ret_sentence) {
        _cleanup_(log_file_closep) LogFile *file = NULL;
        LogFileContent content = {};
        int r;

        r = log_file_look_outside(lock_fd, path, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        r = look_whether_writable(path, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;

        file = calloc(1, sizeof(*file));
        if (!file)
                return -ENOMEM;
        file->lock_fd = file->wal_fd = -1;
        file->damaged = true;   /* until all is well: closing must not tidy up */
        file->path = strdup(path);
        if (!file->path)
                return -ENOMEM;
        r = look_and_open(path, birth, &file->db, &content, ret_sentence);
        if (r == LOG_FILE_OPENED) {
                r = prepare(file);
                if (r < 0)
                        log_file_content_clear(&content);
        }
        if (r == -EBUSY)
                return log_file_refuse(ret_sentence, LOG_FILE_IN_USE, path, "is in use by another process. Stop the "
                                       "other one.");
        if (r != LOG_FILE_OPENED)
                return r;

        memcpy(file->cluster_id, content.cluster_id, sizeof(file->cluster_id));
        file->server_id = content.server_id;
        file->damaged = false;
        *ret_content = content;
        *ret_file = STEAL(file);
        return LOG_FILE_OPENED;
}

/* ---- birth ---- */

static int birth_row(sqlite3 *db, const char *sql, const void *bytes, size_t size, const uint64_t *numbers,
                     size_t n_numbers) {
        sqlite3_stmt *statement = NULL;
        int r = 0;

        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
                return log_file_errno(db);
        r = bind_bytes(statement, 1, bytes, size);
        for (size_t i = 0; i < n_numbers; i++)
                bind_number(statement, (int) i + 2, numbers[i]);
        if (r == 0 && sqlite3_step(statement) != SQLITE_DONE)
                r = log_file_errno(db);
        (void) sqlite3_finalize(statement);
        return r;
}

static int birth_rows(sqlite3 *db, const LogFileBirth *birth) {
        LogFileVote vote = { .term = birth->configuration ? 1 : 0 };
        _cleanup_(log_entry_unrefp) LogEntry *entry = NULL;
        int r;

        r = birth_row(db, "INSERT INTO meta(id, cluster, server, term, vote, starts, checksum) "
                      "VALUES(1, ?1, ?2, ?3, 0, 0, ?4)", birth->cluster_id, LOG_FILE_CLUSTER_ID_SIZE,
                      (uint64_t[]) { birth->server_id, vote.term,
                                     log_file_checksum_meta(birth->cluster_id, birth->server_id, &vote) }, 3);
        if (r < 0 || !birth->configuration)
                return r;

        entry = log_entry_new(1, LOG_ENTRY_CHANGE, birth->configuration, birth->configuration_size);
        if (!entry)
                return -ENOMEM;
        return birth_row(db, "INSERT INTO entry(data, idx, term, type, committed, checksum) "
                         "VALUES(?1, 1, 1, 3, 1, ?2)", entry->data, entry->size,
                         (uint64_t[]) { log_file_checksum_entry(1, 1, entry) }, 1);
}

static int birth_fill(const char *path, const LogFileBirth *birth) {
        _cleanup_(connection_closep) sqlite3 *db = NULL;
        _cleanup_free_ char *begin = NULL;
        int r;

        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
                return db ? log_file_errno(db) : -ENOMEM;
        r = text_printf(&begin, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 4096; PRAGMA auto_vacuum = NONE; "
                        "BEGIN; PRAGMA application_id = %d; PRAGMA user_version = %d; "
                        LOG_FILE_TABLE_ENTRY "; " LOG_FILE_TABLE_META "; " LOG_FILE_TABLE_SNAPSHOT,
                        LOG_FILE_APPLICATION_ID, LOG_FILE_FORMAT);
        if (r < 0)
                return r;
        r = run(db, begin);
        if (r < 0)
                return r;
        r = birth_rows(db, birth);
        if (r < 0)
                return r;
        return run(db, "COMMIT; PRAGMA journal_mode = WAL");
}

static void birth_remove(const char *path) {
        static const char *const endings[] = { "", "-journal", "-wal" };

        for (size_t i = 0; i < 3; i++) {
                _cleanup_free_ char *name = NULL;
                if (text_printf(&name, "%s%s", path, endings[i]) == 0)
                        (void) unlink(name);
        }
}

static int sync_path(const char *path, int flags) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
        return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

/* The file comes into being whole under another name, so that no crash leaves half of one. */
static int birth_make(const char *path, const LogFileBirth *birth) {
        _cleanup_free_ char *new_path = NULL, *directory = directory_of(path);
        int r;

        if (!directory)
                return -ENOMEM;
        r = text_printf(&new_path, "%s.new", path);
        if (r < 0)
                return r;

        birth_remove(new_path);         /* of a birth that a crash cut short */
        int fd = open(new_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        (void) close(fd);

        r = birth_fill(new_path, birth);
        if (r == 0)
                r = sync_path(new_path, 0);
        if (r == 0 && renameat2(AT_FDCWD, new_path, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r == 0)
                return sync_path(directory, O_DIRECTORY);
        birth_remove(new_path);
        return r;
}

static int create(const char *path, const LogFileBirth *birth, char **ret_sentence) {
        _cleanup_free_ char *wal = NULL;
        int r;

        r = text_printf(&wal, "%s-wal", path);
        if (r < 0)
                return r;
        if (access(wal, F_OK) == 0)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is gone, but its write-ahead log %s is "
                                       "there. Put the file back, or move the log away too.", wal);
        r = birth_make(path, birth);
        if (r == -EROFS || r == -EACCES || r == -EPERM)
                return log_file_refuse(ret_sentence, LOG_FILE_READ_ONLY, path, "cannot be created: %s. Give its "
                                       "directory to gpupoold's user, on a file system that is mounted for writing.",
                                       strerror(-r));
        if (r < 0)
                return r;
        return LOG_FILE_CREATED;
}

static int open_or_create(const char *path, const LogFileBirth *birth, LogFile **ret_file, LogFileContent *ret_content,
                          char **ret_sentence) {
        int born = LOG_FILE_OPENED;

        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT && birth) {
                born = create(path, birth, ret_sentence);
                if (born != LOG_FILE_CREATED)
                        return born;
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        }
        if (fd < 0 && errno == ELOOP)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is a symbolic link. Set the state "
                                       "directory to where the file is.");
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno != EWOULDBLOCK ? -errno
                       : log_file_refuse(ret_sentence, LOG_FILE_IN_USE, path, "is in use by another gpupoold. Stop "
                                         "the other one.");

        int r = open_existing(path, fd, birth, ret_file, ret_content, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        (*ret_file)->lock_fd = steal_fd(&fd);
        return born;
}

int log_file_open(const char *path, const LogFileBirth *birth, LogFile **ret_file, LogFileContent *ret_content,
                  char **ret_sentence) {
        int r = open_or_create(path, birth, ret_file, ret_content, ret_sentence);
        if (r < 0 && ret_sentence)
                (void) text_printf(ret_sentence, "registry %s cannot be opened: %s.", path, strerror(-r));
        return r;
}

static int make_reserve(LogFile *file, int flags);

/* The blocks of the write-ahead log, which ends here, are those that the reserve gave it if the disk is full. */
LogFile *log_file_close(LogFile *file) {
        if (!file)
                return NULL;
        bool well = file->db && !file->damaged;
        for (Statement i = 0; i < STATEMENT_COUNT; i++)
                (void) sqlite3_finalize(file->statements[i]);
        if (well)
                (void) sqlite3_db_config(file->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        (void) sqlite3_close(file->db);
        if (file->wal_fd >= 0)
                (void) close(file->wal_fd);
        if (well)
                (void) make_reserve(file, 0);
        if (file->lock_fd >= 0)
                (void) close(file->lock_fd);
        free(file->path);
        free(file);
        return NULL;
}

/* ---- writing ---- */

static int write_vote(LogFile *file, const LogFileVote *vote) {
        sqlite3_stmt *statement = file->statements[STATEMENT_VOTE];

        bind_number(statement, 1, vote->term);
        bind_number(statement, 2, vote->voted_for);
        bind_number(statement, 3, vote->starts);
        bind_number(statement, 4, log_file_checksum_meta(file->cluster_id, file->server_id, vote));
        return run_statement(file, STATEMENT_VOTE);
}

static int write_snapshot(LogFile *file, const LogSnapshot *snapshot, uint64_t keep_from) {
        sqlite3_stmt *statement = file->statements[STATEMENT_SNAPSHOT];
        int r;

        bind_number(statement, 1, snapshot->index);
        bind_number(statement, 2, snapshot->term);
        bind_number(statement, 3, snapshot->configuration_index);
        r = bind_bytes(statement, 4, snapshot->configuration, snapshot->configuration_size);
        if (r == 0)
                r = bind_bytes(statement, 5, snapshot->data, snapshot->data_size);
        bind_number(statement, 6, log_file_checksum_snapshot(snapshot));
        if (r == 0)
                r = run_statement(file, STATEMENT_SNAPSHOT);
        if (r < 0)
                return r;

        bind_number(file->statements[STATEMENT_DROP_BELOW], 1, keep_from > INT64_MAX ? INT64_MAX : keep_from);
        return run_statement(file, STATEMENT_DROP_BELOW);
}

static int write_entries(LogFile *file, const LogWrite *write) {
        sqlite3_stmt *statement = file->statements[STATEMENT_APPEND];
        int r;

        bind_number(file->statements[STATEMENT_DROP_FROM], 1, write->first_index);
        r = run_statement(file, STATEMENT_DROP_FROM);

        for (size_t i = 0; i < write->n_entries && r == 0; i++) {
                const LogEntry *entry = write->entries[i];
                uint64_t index = write->first_index + i;
                uint64_t committed = write->committed < index ? write->committed : index;

                bind_number(statement, 1, index);
                bind_number(statement, 2, entry->term);
                bind_number(statement, 3, (uint64_t) entry->type);
                bind_number(statement, 4, committed);
                r = bind_bytes(statement, 5, entry->data, entry->size);
                bind_number(statement, 6, log_file_checksum_entry(index, committed, entry));
                if (r == 0)
                        r = run_statement(file, STATEMENT_APPEND);
        }
        return r;
}

static int write_one(LogFile *file, const LogWrite *write) {
        int r = 0;

        if (write->set_vote)
                r = write_vote(file, &write->vote);
        if (r == 0 && write->snapshot)
                r = write_snapshot(file, write->snapshot, write->keep_from);
        if (r == 0 && write->first_index > 0)
                r = write_entries(file, write);
        return r;
}

/* What @writes may take in the write-ahead log; 0 if they are only terms and votes. */
static off_t estimate_size(const LogWrite *writes, size_t n) {
        size_t bytes = 0;

        for (size_t i = 0; i < n; i++) {
                if (writes[i].snapshot)
                        bytes += writes[i].snapshot->data_size + writes[i].snapshot->configuration_size + ROW_OVERHEAD;
                for (size_t j = 0; j < writes[i].n_entries; j++)
                        bytes += writes[i].entries[j]->size + ROW_OVERHEAD;
        }
        return bytes > 0 ? (off_t) (bytes + bytes / 8 + WAL_OVERHEAD) : 0;
}

static bool is_vital(const LogWrite *writes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (writes[i].snapshot)
                        return false;
                for (size_t j = 0; j < writes[i].n_entries; j++)
                        if (writes[i].entries[j]->type == LOG_ENTRY_COMMAND ||
                            writes[i].entries[j]->size > LOG_FILE_VITAL_ENTRY_MAX)
                                return false;
        }
        return true;
}

/* Blocks that a file has, also behind its end. Ours have no holes in front of others. */
static bool has_blocks(int fd, off_t size) {
        struct stat st;
        return fstat(fd, &st) == 0 && (off_t) st.st_blocks * 512 >= size;
}

/* Gives the write-ahead log so many bytes, behind its end too, which changes nothing else about the file. The other
 * descriptor is harmless: SQLite holds no lock on this file. 0, -ENOSPC, or 0 where that cannot be done. */
static int allocate_wal(LogFile *file, off_t size) {
        _cleanup_free_ char *path = NULL;

        if (file->wal_fd < 0) {
                int r = text_printf(&path, "%s-wal", file->path);
                if (r < 0)
                        return r;
                file->wal_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
                if (file->wal_fd < 0)
                        return 0;       /* not there yet, or writing will say what is wrong */
        }
        if (has_blocks(file->wal_fd, size) || fallocate(file->wal_fd, FALLOC_FL_KEEP_SIZE, 0, size) == 0)
                return 0;
        if (errno == ENOSPC || errno == EDQUOT)
                return -ENOSPC;
        file->wal_stubborn = errno != EINTR;
        return 0;
}

/* Room in the write-ahead log for @size bytes and @margin behind them. */
static int make_room(LogFile *file, off_t size, off_t margin) {
        off_t need = WAL_HEADER_SIZE + (off_t) file->wal_pages * WAL_FRAME_SIZE + size + margin;

        if (file->wal_stubborn || (file->wal_fd >= 0 && has_blocks(file->wal_fd, need)))
                return 0;
        int r = allocate_wal(file, need + WAL_AHEAD);
        return r == -ENOSPC ? allocate_wal(file, need) : r;
}

static int open_reserve(const LogFile *file, int flags) {
        _cleanup_free_ char *path = NULL;

        int r = text_printf(&path, "%s" RESERVE_ENDING, file->path);
        if (r < 0)
                return r;
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
        return fd < 0 ? -errno : fd;
}

/* Another file's blocks, which the file system gives to who asks first: hopefully to us. As many as there are. @flags:
 * O_CREAT or 0. Returns 0 if it is whole, or cannot be; -ENOSPC. */
static int make_reserve(LogFile *file, int flags) {
        if (file->reserve >= LOG_FILE_RESERVE || file->reserve_stubborn)
                return 0;
        _cleanup_close_ int fd = open_reserve(file, flags);
        if (fd < 0) {
                file->reserve_stubborn = fd != -ENOSPC && fd != -EDQUOT && fd != -ENOMEM;
                return file->reserve_stubborn ? 0 : fd;
        }
        for (off_t size = LOG_FILE_RESERVE; size > file->reserve && size >= RESERVE_STEP; size /= 2) {
                int error = has_blocks(fd, size) ? 0 : posix_fallocate(fd, 0, size);
                if (error == 0)
                        file->reserve = size;
                else if (error != ENOSPC && error != EDQUOT)
                        return 0;
        }
        return file->reserve >= LOG_FILE_RESERVE ? 0 : -ENOSPC;
}

/* Gives @size bytes of it back to the file system, but leaves @least. False if there is nothing to give. */
static bool give_up_reserve(LogFile *file, off_t size, off_t least) {
        struct stat st;

        _cleanup_close_ int fd = open_reserve(file, 0);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= least)
                return false;
        off_t left = st.st_size - least > size ? st.st_size - size : least;
        if (ftruncate(fd, left) < 0)
                return false;
        file->reserve = left;
        return true;
}

static int checkpoint(LogFile *file) {
        if (sqlite3_wal_checkpoint_v2(file->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) != SQLITE_OK)
                return log_file_errno(file->db);
        file->wal_pages = 0;            /* it begins anew */
        return 0;
}

static int write_all(LogFile *file, const LogWrite *writes, size_t n) {
        int r = run_statement(file, STATEMENT_BEGIN);
        for (size_t i = 0; i < n && r == 0; i++)
                r = write_one(file, &writes[i]);
        if (r == 0)
                r = run_statement(file, STATEMENT_COMMIT);
        if (r < 0 && !sqlite3_get_autocommit(file->db))
                (void) run_statement(file, STATEMENT_ROLLBACK);
        if (r == -EBADMSG)
                file->damaged = true;
        return r;
}

/* Within the margin. What is not vital leaves room for what is. */
static int write_in_margin(LogFile *file, const LogWrite *writes, size_t n) {
        int r = is_vital(writes, n) ? 0 : make_room(file, estimate_size(writes, n), LOG_FILE_VITAL);
        return r == 0 ? write_all(file, writes, n) : r;
}

/* With what is held for a full disk, in the order that log-file.h has. */
static int write_with_reserve(LogFile *file, const LogWrite *writes, size_t n) {
        off_t least = is_vital(writes, n) ? 0 : LOG_FILE_RESERVE / 4;

        int r = write_in_margin(file, writes, n);
        if (r == -ENOSPC && checkpoint(file) == 0)
                r = write_in_margin(file, writes, n);
        if (r == -ENOSPC && file->wal_fd >= 0 && !has_blocks(file->wal_fd, LOG_FILE_RESERVE / 2) &&
            give_up_reserve(file, LOG_FILE_RESERVE / 2, least)) {
                (void) allocate_wal(file, LOG_FILE_RESERVE / 2);        /* before others take it */
                r = write_in_margin(file, writes, n);
        }
        while (r == -ENOSPC && give_up_reserve(file, RESERVE_STEP, least)) {
                (void) checkpoint(file);
                r = write_in_margin(file, writes, n);
        }
        return r;
}

/* All that is held for a full disk must be whole, and stay so. */
static int keep_reserve(LogFile *file, off_t size) {
        int r = make_room(file, size, LOG_FILE_MARGIN);
        return r == 0 ? make_reserve(file, O_CREAT) : r;
}

static int write_or_refuse(LogFile *file, const LogWrite *writes, size_t n, bool reserve) {
        int r = 0;

        if (file->damaged)
                return -EBADMSG;
        if (!is_vital(writes, n))
                r = keep_reserve(file, estimate_size(writes, n));
        if (r == 0)
                r = write_all(file, writes, n);
        return r == -ENOSPC && reserve ? write_with_reserve(file, writes, n) : r;
}

int log_file_write(LogFile *file, const LogWrite *writes, size_t n) {
        return write_or_refuse(file, writes, n, is_vital(writes, n));
}

int log_file_write_urgently(LogFile *file, const LogWrite *writes, size_t n) {
        return write_or_refuse(file, writes, n, true);
}

int log_file_read_snapshot(LogFile *file, LogSnapshot **ret) {
        if (file->damaged)
                return -EBADMSG;
        return log_file_look_snapshot(file->db, ret);
}

int log_file_tidy(LogFile *file, bool idle) {
        if (file->damaged)
                return -EBADMSG;
        if (idle)
                (void) keep_reserve(file, 0);
        if (file->wal_pages < (idle ? TIDY_PAGES_IDLE : TIDY_PAGES_BUSY))
                return 0;
        return checkpoint(file);
}
