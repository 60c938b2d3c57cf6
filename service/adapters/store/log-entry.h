/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* LogEntry: one entry of the replicated log. It never changes after it was made, so the loop, the writer's thread and
 * messages on their way to peers share one copy and count references (atomically; two threads hold them). */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"

/* The numbers are libraft's and stand in the file. */
typedef enum LogEntryType {
        LOG_ENTRY_COMMAND = 1,  /* for the state machine */
        LOG_ENTRY_BARRIER = 2,  /* a new leader's first entry; says nothing */
        LOG_ENTRY_CHANGE = 3,   /* the members of the engine, in libraft's encoding */
} LogEntryType;

typedef struct LogEntry {
        atomic_uint references;
        LogEntryType type;
        uint64_t term;
        size_t size;
        uint8_t data[];
} LogEntry;

/* NULL when memory is out. */
LogEntry *log_entry_new(uint64_t term, LogEntryType type, const void *data, size_t size);
LogEntry *log_entry_ref(LogEntry *entry);
LogEntry *log_entry_unref(LogEntry *entry);             /* takes NULL, returns NULL */
DEFINE_CLEANUP(LogEntry *, log_entry_unref);

/* A row of references of its own. NULL when memory is out (or @n is 0). */
LogEntry **log_entries_ref(LogEntry *const *entries, size_t n);
void log_entries_unref(LogEntry **entries, size_t n);

/* LogSnapshot: the state machine as bytes, and where in the history it stands. One owner. */
typedef struct LogSnapshot {
        uint64_t index;
        uint64_t term;                  /* of the entry at index */
        uint64_t configuration_index;
        void *configuration;            /* the members as of configuration_index, in libraft's encoding */
        size_t configuration_size;
        void *data;
        size_t data_size;
} LogSnapshot;

/* Copies both byte rows. NULL when memory is out. */
LogSnapshot *log_snapshot_new(uint64_t index, uint64_t term, uint64_t configuration_index, const void *configuration,
                              size_t configuration_size, const void *data, size_t data_size);
LogSnapshot *log_snapshot_free(LogSnapshot *snapshot);
DEFINE_CLEANUP(LogSnapshot *, log_snapshot_free);
