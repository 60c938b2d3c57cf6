/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/log-entry.h"

#include <string.h>

LogEntry *log_entry_new(uint64_t term, LogEntryType type, const void *data, size_t size) {
        LogEntry *entry = malloc(sizeof(*entry) + size);
        if (!entry)
                return NULL;
        atomic_init(&entry->references, 1);
        entry->type = type;
        entry->term = term;
        entry->size = size;
        if (size > 0)
                memcpy(entry->data, data, size);
        return entry;
}

LogEntry *log_entry_ref(LogEntry *entry) {
        if (entry)
                (void) atomic_fetch_add(&entry->references, 1);
        return entry;
}

LogEntry *log_entry_unref(LogEntry *entry) {
        if (entry && atomic_fetch_sub(&entry->references, 1) == 1)
                free(entry);
        return NULL;
}

LogEntry **log_entries_ref(LogEntry *const *entries, size_t n) {
        if (n == 0)
                return NULL;
        LogEntry **copy = calloc(n, sizeof(*copy));
        if (!copy)
                return NULL;
        for (size_t i = 0; i < n; i++)
                copy[i] = log_entry_ref(entries[i]);
        return copy;
}

void log_entries_unref(LogEntry **entries, size_t n) {
        for (size_t i = 0; i < n; i++)
                log_entry_unref(entries[i]);
        free(entries);
}

static void *copy_bytes(const void *bytes, size_t size) {
        void *copy = malloc(size > 0 ? size : 1);
        if (copy && size > 0)
                memcpy(copy, bytes, size);
        return copy;
}

LogSnapshot *log_snapshot_new(uint64_t index, uint64_t term, uint64_t configuration_index, const void *configuration,
                              size_t configuration_size, const void *data, size_t data_size) {
        _cleanup_(log_snapshot_freep) LogSnapshot *snapshot = calloc(1, sizeof(*snapshot));
        if (!snapshot)
                return NULL;
        snapshot->index = index;
        snapshot->term = term;
        snapshot->configuration_index = configuration_index;
        snapshot->configuration_size = configuration_size;
        snapshot->data_size = data_size;
        snapshot->configuration = copy_bytes(configuration, configuration_size);
        snapshot->data = copy_bytes(data, data_size);
        if (!snapshot->configuration || !snapshot->data)
                return NULL;
        return STEAL(snapshot);
}

LogSnapshot *log_snapshot_free(LogSnapshot *snapshot) {
        if (!snapshot)
                return NULL;
        free(snapshot->configuration);
        free(snapshot->data);
        free(snapshot);
        return NULL;
}
