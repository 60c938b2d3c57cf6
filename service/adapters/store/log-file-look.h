/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* LogFileLook: is this file a registry, whole and of a format we know? Private to log-file.c. Nothing here writes. */

#include <sqlite3.h>

#include "adapters/store/log-file.h"

/* The schema, as SQLite stores it; a file that says anything else (a trigger, say) is damaged. */
#define LOG_FILE_TABLE_ENTRY                                                                            \
        "CREATE TABLE entry(idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, type INTEGER NOT NULL, "    \
        "committed INTEGER NOT NULL, data BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT"
#define LOG_FILE_TABLE_META                                                                             \
        "CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), cluster BLOB NOT NULL, "               \
        "server INTEGER NOT NULL, term INTEGER NOT NULL, vote INTEGER NOT NULL, "                       \
        "starts INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT"
#define LOG_FILE_TABLE_SNAPSHOT                                                                         \
        "CREATE TABLE snapshot(id INTEGER PRIMARY KEY CHECK(id = 1), idx INTEGER NOT NULL, "            \
        "term INTEGER NOT NULL, configuration_idx INTEGER NOT NULL, configuration BLOB NOT NULL, "      \
        "data BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT"

uint32_t log_file_checksum_entry(uint64_t index, uint64_t committed, const LogEntry *entry);
uint32_t log_file_checksum_meta(const uint8_t cluster_id[static LOG_FILE_CLUSTER_ID_SIZE], uint64_t server_id,
                                const LogFileVote *vote);
uint32_t log_file_checksum_snapshot(const LogSnapshot *snapshot);

/* SQLite's last error on @db as -errno; -EBADMSG when the file contradicts itself. */
int log_file_errno(sqlite3 *db);

/* Checks the first 100 bytes of the file and what lies beside it, with plain reads. Returns LOG_FILE_OPENED or a
 * refusal with its sentence, or -errno. */
int log_file_look_outside(int fd, const char *path, char **ret_sentence);

/* Reads and checks everything. As above; *ret_content is set with LOG_FILE_OPENED. */
int log_file_look_inside(sqlite3 *db, const char *path, LogFileContent *ret_content, char **ret_sentence);

/* The snapshot row. 0, -ENOENT, -EBADMSG when its checksum does not fit, or another -errno. */
int log_file_look_snapshot(sqlite3 *db, LogSnapshot **ret);

/* Says @verdict's sentence ("registry PATH " goes before @format) and returns @verdict, or -ENOMEM. */
int log_file_refuse(char **ret_sentence, LogFileVerdict verdict, const char *path, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
