/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/log-file-look.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "adapters/store/checksum.h"
#include "adapters/store/wal-check.h"
#include "core/names.h"
#include "util/array.h"
#include "util/text.h"

/* https://www.sqlite.org/fileformat2.html, "The Database Header" */
#define HEADER_SIZE 100U
#define HEADER_MAGIC "SQLite format 3"
#define HEADER_WRITE_VERSION 18U
#define HEADER_READ_VERSION 19U
#define HEADER_VERSION_WAL 2U
#define HEADER_USER_VERSION 60U
#define HEADER_APPLICATION_ID 68U

#define REMEDY "Move it away together with what lies beside it and import an export, or join the cluster anew."

uint32_t log_file_checksum_entry(uint64_t index, uint64_t committed, const LogEntry *entry) {
        uint32_t sum = checksum_add_number(0, index);
        sum = checksum_add_number(sum, entry->term);
        sum = checksum_add_number(sum, (uint64_t) entry->type);
        sum = checksum_add_number(sum, committed);
        sum = checksum_add_number(sum, entry->size);
        return checksum_add(sum, entry->data, entry->size);
}

uint32_t log_file_checksum_meta(const uint8_t cluster_id[static LOG_FILE_CLUSTER_ID_SIZE], uint64_t server_id,
                                const LogFileVote *vote) {
        uint32_t sum = checksum_add(0, cluster_id, LOG_FILE_CLUSTER_ID_SIZE);
        sum = checksum_add_number(sum, server_id);
        sum = checksum_add_number(sum, vote->term);
        sum = checksum_add_number(sum, vote->voted_for);
        return checksum_add_number(sum, vote->starts);
}

uint32_t log_file_checksum_snapshot(const LogSnapshot *snapshot) {
        uint32_t sum = checksum_add_number(0, snapshot->index);
        sum = checksum_add_number(sum, snapshot->term);
        sum = checksum_add_number(sum, snapshot->configuration_index);
        sum = checksum_add_number(sum, snapshot->configuration_size);
        sum = checksum_add(sum, snapshot->configuration, snapshot->configuration_size);
        sum = checksum_add_number(sum, snapshot->data_size);
        return checksum_add(sum, snapshot->data, snapshot->data_size);
}

static int system_error(sqlite3 *db, int otherwise) {
        int error = sqlite3_system_errno(db);
        if (error == EDQUOT)
                return -ENOSPC;
        if (error == ENOSPC || error == EROFS || error == ENOENT || error == EACCES || error == EPERM)
                return -error;
        return otherwise;
}

int log_file_errno(sqlite3 *db) {
        switch (sqlite3_errcode(db)) {
        case SQLITE_OK:
        case SQLITE_ROW:
        case SQLITE_DONE:
                return 0;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_ERROR:      /* of statements that are right: what they were run on is not */
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_CONSTRAINT:
        case SQLITE_MISMATCH:
        case SQLITE_FORMAT:
                return -EBADMSG;
        default:        /* SQLite's codes are plain numbers, not an enum: all others are trouble with the disk */
                return system_error(db, -EIO);
        }
}

int log_file_refuse(char **ret_sentence, LogFileVerdict verdict, const char *path, const char *format, ...) {
        _cleanup_free_ char *reason = NULL;
        va_list ap;

        if (!ret_sentence)
                return (int) verdict;

        va_start(ap, format);
        int n = vasprintf(&reason, format, ap);
        va_end(ap);
        if (n < 0) {
                reason = NULL;
                return -ENOMEM;
        }
        int r = text_printf(ret_sentence, "registry %s %s", path, reason);
        return r < 0 ? r : (int) verdict;
}

static uint32_t number_at(const uint8_t *header, size_t offset) {
        return (uint32_t) header[offset] << 24 | (uint32_t) header[offset + 1] << 16 |
               (uint32_t) header[offset + 2] << 8 | header[offset + 3];
}

static int look_at_header(const uint8_t *header, const char *path, char **ret_sentence) {
        if (memcmp(header, HEADER_MAGIC, sizeof(HEADER_MAGIC)) != 0)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is not a registry: its first bytes are "
                                       "not SQLite's. " REMEDY);
        if (number_at(header, HEADER_APPLICATION_ID) != LOG_FILE_APPLICATION_ID)
                return log_file_refuse(ret_sentence, LOG_FILE_FOREIGN, path, "belongs to another program (application "
                                       "id 0x%08x). Move it away, or set another state directory.",
                                       number_at(header, HEADER_APPLICATION_ID));

        uint32_t format = number_at(header, HEADER_USER_VERSION);
        if (format > LOG_FILE_FORMAT && format <= INT32_MAX)
                return log_file_refuse(ret_sentence, LOG_FILE_NEWER, path, "is from a newer gpupool: format %u, this "
                                       "one knows %d. Start the newer gpupoold again.", format, LOG_FILE_FORMAT);
        if (format != LOG_FILE_FORMAT)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is damaged: there is no format %u. "
                                       REMEDY, format);
        if (header[HEADER_WRITE_VERSION] != HEADER_VERSION_WAL || header[HEADER_READ_VERSION] != HEADER_VERSION_WAL)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is damaged: its header denies the "
                                       "write-ahead log. " REMEDY);
        return LOG_FILE_OPENED;
}

int log_file_look_outside(int fd, const char *path, char **ret_sentence) {
        _cleanup_free_ char *journal = NULL, *wal = NULL;
        uint8_t header[HEADER_SIZE];
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is not a file. Move it away.");

        ssize_t n = pread(fd, header, sizeof(header), 0);
        if (n < 0)
                return -errno;
        if (n < (ssize_t) sizeof(header))
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is truncated: %" PRIi64 " bytes are left "
                                       "of it. " REMEDY, (int64_t) st.st_size);
        r = look_at_header(header, path, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;

        /* gpupool never makes one; SQLite would play it back into the file without asking. */
        r = text_printf(&journal, "%s-journal", path);
        if (r < 0)
                return r;
        if (stat(journal, &st) == 0 && st.st_size > 0)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "has a rollback journal beside it, which "
                                       "gpupool never writes. Move %s away.", journal);

        r = text_printf(&wal, "%s-wal", path);
        if (r < 0)
                return r;
        r = wal_check(wal);
        if (r < 0)
                return r;
        if (r == WAL_DAMAGED)
                return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is damaged: acknowledged changes stand "
                                       "behind a wrong checksum in its write-ahead log. " REMEDY);
        return LOG_FILE_OPENED;
}

/* ---- inside ---- */

static int damaged(char **ret_sentence, const char *path, const char *what) {
        return log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is damaged: %s. " REMEDY, what);
}

/* What became of a statement that did not do as hoped: the file's fault, or the disk's. */
static int trouble(sqlite3 *db, char **ret_sentence, const char *path) {
        int r = log_file_errno(db);
        if (r == -EBADMSG || r == 0 || (r == -EIO && sqlite3_system_errno(db) == 0))
                return damaged(ret_sentence, path, sqlite3_errmsg(db));
        return r;
}

static void statement_finalizep(sqlite3_stmt **statement) {
        (void) sqlite3_finalize(*statement);
}

static uint64_t column_number(sqlite3_stmt *statement, int column) {
        return (uint64_t) sqlite3_column_int64(statement, column);
}

static int look_at_schema(sqlite3 *db, const char *path, char **ret_sentence) {
        static const char *const tables[] = { LOG_FILE_TABLE_ENTRY, LOG_FILE_TABLE_META, LOG_FILE_TABLE_SNAPSHOT };
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        size_t n = 0;
        int r;

        if (sqlite3_prepare_v2(db, "SELECT sql FROM sqlite_schema ORDER BY name", -1, &statement, NULL) != SQLITE_OK)
                return trouble(db, ret_sentence, path);
        while ((r = sqlite3_step(statement)) == SQLITE_ROW) {
                const char *sql = (const char *) sqlite3_column_text(statement, 0);
                if (n >= ELEMENTS(tables) || !text_equal(sql, tables[n]))
                        return damaged(ret_sentence, path, "its tables are not a registry's");
                n++;
        }
        if (r != SQLITE_DONE)
                return trouble(db, ret_sentence, path);
        if (n != ELEMENTS(tables))
                return damaged(ret_sentence, path, "tables are missing");
        return LOG_FILE_OPENED;
}

static int look_at_structure(sqlite3 *db, const char *path, char **ret_sentence) {
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;

        if (sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL) != SQLITE_OK)
                return trouble(db, ret_sentence, path);
        if (sqlite3_step(statement) != SQLITE_ROW)
                return trouble(db, ret_sentence, path);
        const char *answer = (const char *) sqlite3_column_text(statement, 0);
        if (!text_equal(answer, "ok"))
                return damaged(ret_sentence, path, answer ? answer : "its structure");
        return LOG_FILE_OPENED;
}

static int look_at_meta(sqlite3 *db, const char *path, LogFileContent *content, char **ret_sentence) {
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;

        if (sqlite3_prepare_v2(db, "SELECT cluster, server, term, vote, starts, checksum FROM meta", -1, &statement,
                               NULL) != SQLITE_OK)
                return trouble(db, ret_sentence, path);
        int r = sqlite3_step(statement);
        if (r == SQLITE_DONE)
                return damaged(ret_sentence, path, "term and vote are missing");
        if (r != SQLITE_ROW)
                return trouble(db, ret_sentence, path);

        if (sqlite3_column_bytes(statement, 0) != LOG_FILE_CLUSTER_ID_SIZE)
                return damaged(ret_sentence, path, "the cluster's id has a wrong length");
        memcpy(content->cluster_id, sqlite3_column_blob(statement, 0), LOG_FILE_CLUSTER_ID_SIZE);
        content->server_id = column_number(statement, 1);
        content->vote.term = column_number(statement, 2);
        content->vote.voted_for = column_number(statement, 3);
        content->vote.starts = column_number(statement, 4);
        if (column_number(statement, 5) !=
            log_file_checksum_meta(content->cluster_id, content->server_id, &content->vote))
                return damaged(ret_sentence, path, "the checksum of term and vote does not fit");
        return LOG_FILE_OPENED;
}

int log_file_look_snapshot(sqlite3 *db, LogSnapshot **ret) {
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        _cleanup_(log_snapshot_freep) LogSnapshot *snapshot = NULL;

        if (sqlite3_prepare_v2(db, "SELECT idx, term, configuration_idx, configuration, data, checksum FROM snapshot",
                               -1, &statement, NULL) != SQLITE_OK)
                return log_file_errno(db);
        int r = sqlite3_step(statement);
        if (r == SQLITE_DONE)
                return -ENOENT;
        if (r != SQLITE_ROW)
                return log_file_errno(db);

        snapshot = log_snapshot_new(column_number(statement, 0), column_number(statement, 1),
                                    column_number(statement, 2), sqlite3_column_blob(statement, 3),
                                    (size_t) sqlite3_column_bytes(statement, 3), sqlite3_column_blob(statement, 4),
                                    (size_t) sqlite3_column_bytes(statement, 4));
        if (!snapshot)
                return -ENOMEM;
        if (column_number(statement, 5) != log_file_checksum_snapshot(snapshot))
                return -EBADMSG;
        *ret = STEAL(snapshot);
        return 0;
}

/* Reads the entry that @statement stands on. 0, -ENOMEM, or -EBADMSG. */
static int read_entry(sqlite3_stmt *statement, uint64_t *ret_committed, LogEntry **ret) {
        _cleanup_(log_entry_unrefp) LogEntry *entry = NULL;
        uint64_t type = column_number(statement, 2);
        uint64_t committed = column_number(statement, 3);

        if (type < LOG_ENTRY_COMMAND || type > LOG_ENTRY_CHANGE)
                return -EBADMSG;
        entry = log_entry_new(column_number(statement, 1), (LogEntryType) type, sqlite3_column_blob(statement, 4),
                              (size_t) sqlite3_column_bytes(statement, 4));
        if (!entry)
                return -ENOMEM;
        if (column_number(statement, 5) != log_file_checksum_entry(column_number(statement, 0), committed, entry))
                return -EBADMSG;
        *ret_committed = committed;
        *ret = STEAL(entry);
        return 0;
}

static int look_at_entries(sqlite3 *db, const char *path, LogFileContent *content, char **ret_sentence) {
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        ARRAY(LogEntry *) entries = {};
        uint64_t committed = 0, term = 1;
        int r, answer = LOG_FILE_OPENED;

        if (sqlite3_prepare_v2(db, "SELECT idx, term, type, committed, data, checksum FROM entry ORDER BY idx", -1,
                               &statement, NULL) != SQLITE_OK)
                return trouble(db, ret_sentence, path);

        while ((r = sqlite3_step(statement)) == SQLITE_ROW) {
                LogEntry *entry = NULL;
                uint64_t index = column_number(statement, 0);

                if (entries.n == 0)
                        content->first_index = index;
                if (index == 0 || index != content->first_index + entries.n) {
                        answer = damaged(ret_sentence, path, "entries are missing from its log");
                        break;
                }
                answer = read_entry(statement, &committed, &entry);
                if (answer == -EBADMSG) {
                        answer = log_file_refuse(ret_sentence, LOG_FILE_DAMAGED, path, "is damaged: the checksum of "
                                                 "entry %" PRIu64 " does not fit. " REMEDY, index);
                        break;
                }
                if (answer < 0)
                        break;
                answer = LOG_FILE_OPENED;
                if (array_append(&entries, &entry) < 0) {
                        log_entry_unref(entry);
                        answer = -ENOMEM;
                        break;
                }
                if (entry->term < term || entry->term > content->vote.term) {
                        answer = damaged(ret_sentence, path, "the terms of its log do not grow");
                        break;
                }
                term = entry->term;
                if (committed > content->committed)
                        content->committed = committed;
        }
        content->entries = entries.items;
        content->n_entries = entries.n;
        if (r != SQLITE_ROW && r != SQLITE_DONE)
                return trouble(db, ret_sentence, path);
        return answer;
}

/* Snapshot and log must make one history without a hole. */
static int look_at_history(const LogFileContent *content, const char *path, char **ret_sentence) {
        uint64_t last = content->first_index + content->n_entries - 1;
        const LogSnapshot *snapshot = content->snapshot;

        if (!snapshot && content->n_entries == 0)
                return LOG_FILE_OPENED;
        if (!snapshot && (content->first_index != 1 || content->entries[0]->type != LOG_ENTRY_CHANGE))
                return damaged(ret_sentence, path, "its log has no beginning");
        if (!snapshot)
                return LOG_FILE_OPENED;

        if (snapshot->index == 0 || snapshot->term == 0 || snapshot->term > content->vote.term ||
            snapshot->configuration_index > snapshot->index)
                return damaged(ret_sentence, path, "its snapshot is of no possible time");
        if (content->n_entries == 0)
                return LOG_FILE_OPENED;
        if (content->first_index > snapshot->index + 1 || last < snapshot->index)
                return damaged(ret_sentence, path, "entries between its snapshot and its log are missing");
        if (content->first_index <= snapshot->index &&
            content->entries[snapshot->index - content->first_index]->term != snapshot->term)
                return damaged(ret_sentence, path, "its snapshot and its log contradict each other");
        return LOG_FILE_OPENED;
}

static int look_at_all(sqlite3 *db, const char *path, LogFileContent *content, char **ret_sentence) {
        int r;

        r = look_at_schema(db, path, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        r = look_at_structure(db, path, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        r = look_at_meta(db, path, content, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        r = log_file_look_snapshot(db, &content->snapshot);
        if (r == -EBADMSG)
                return damaged(ret_sentence, path, "the checksum of its snapshot does not fit");
        if (r < 0 && r != -ENOENT)
                return r;
        r = look_at_entries(db, path, content, ret_sentence);
        if (r != LOG_FILE_OPENED)
                return r;
        return look_at_history(content, path, ret_sentence);
}

int log_file_look_inside(sqlite3 *db, const char *path, LogFileContent *ret_content, char **ret_sentence) {
        LogFileContent content = {};

        int r = look_at_all(db, path, &content, ret_sentence);
        if (r != LOG_FILE_OPENED) {
                log_file_content_clear(&content);
                return r;
        }
        if (content.n_entries == 0)
                content.first_index = content.snapshot ? content.snapshot->index + 1 : 1;
        *ret_content = content;
        return LOG_FILE_OPENED;
}
