/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* RaftLog: the log in memory, as it will be in the file once all that is queued is written. Private to the engine. It
 * is kept whole, for a snapshot bounds it: entries to apply and to send are never read from the disk by the loop. */

#include "adapters/store/log-entry.h"

typedef struct RaftLog {
        uint64_t first_index;           /* of the first entry, or of the one to come; never 0 */
        LogEntry **entries;             /* a row with a hole in front, closed when it has grown as large as the rest */
        size_t hole;
        size_t n;
        size_t allocated;
        size_t bytes;
} RaftLog;

/* Takes over @entries. */
void raft_log_init(RaftLog *log, uint64_t first_index, LogEntry **entries, size_t n);
void raft_log_clear(RaftLog *log);

/* Borrowed; NULL if it is not there. */
LogEntry *raft_log_get(const RaftLog *log, uint64_t index);
static inline uint64_t raft_log_last(const RaftLog *log) {
        return log->first_index + log->n - 1;
}

/* Adds a reference of its own. 0 or -ENOMEM. */
int raft_log_append(RaftLog *log, LogEntry *entry);
void raft_log_drop_from(RaftLog *log, uint64_t index);
void raft_log_drop_below(RaftLog *log, uint64_t index);
/* Forgets all; the next entry is @first_index. */
void raft_log_restart(RaftLog *log, uint64_t first_index);
