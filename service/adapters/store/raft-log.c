/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/raft-log.h"

#include <errno.h>
#include <string.h>

#include "util/array.h"

void raft_log_init(RaftLog *log, uint64_t first_index, LogEntry **entries, size_t n) {
        *log = (RaftLog) { .first_index = first_index, .entries = entries, .n = n, .allocated = n };
        for (size_t i = 0; i < n; i++)
                log->bytes += entries[i]->size;
}

void raft_log_clear(RaftLog *log) {
        raft_log_drop_from(log, log->first_index);
        free(log->entries);
        *log = (RaftLog) { .first_index = 1 };
}

LogEntry *raft_log_get(const RaftLog *log, uint64_t index) {
        if (index < log->first_index || index - log->first_index >= log->n)
                return NULL;
        return log->entries[log->hole + (index - log->first_index)];
}

static void close_hole(RaftLog *log) {
        if (log->n > 0)
                memmove(log->entries, log->entries + log->hole, log->n * sizeof(*log->entries));
        log->hole = 0;
}

int raft_log_append(RaftLog *log, LogEntry *entry) {
        if (log->hole > 0 && log->hole + log->n == log->allocated && log->hole >= log->n)
                close_hole(log);
        int r = array_reserve(&log->entries, &log->allocated, log->hole + log->n + 1, sizeof(*log->entries));
        if (r < 0)
                return r;
        log->entries[log->hole + log->n++] = log_entry_ref(entry);
        log->bytes += entry->size;
        return 0;
}

void raft_log_drop_from(RaftLog *log, uint64_t index) {
        while (log->n > 0 && raft_log_last(log) >= index) {
                LogEntry *entry = log->entries[log->hole + --log->n];
                log->bytes -= entry->size;
                log_entry_unref(entry);
        }
}

void raft_log_drop_below(RaftLog *log, uint64_t index) {
        while (log->n > 0 && log->first_index < index) {
                LogEntry *entry = log->entries[log->hole++];
                log->first_index++;
                log->n--;
                log->bytes -= entry->size;
                log_entry_unref(entry);
        }
        if (log->n == 0)
                log->hole = 0;
}

void raft_log_restart(RaftLog *log, uint64_t first_index) {
        raft_log_drop_from(log, log->first_index);
        log->hole = 0;
        log->first_index = first_index;
}
