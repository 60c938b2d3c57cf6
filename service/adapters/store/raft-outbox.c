/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/raft-outbox.h"

#include <errno.h>
#include <string.h>

/* libraft names what to send by index and number only. */
static int take_entries(RaftOutboxItem *item, const RaftLog *log) {
        struct raft_append_entries *append = &item->core.append_entries;

        append->entries = NULL;
        if (append->n_entries == 0)
                return 0;
        item->entries = calloc(append->n_entries, sizeof(*item->entries));
        append->entries = calloc(append->n_entries, sizeof(*append->entries));
        if (!item->entries || !append->entries)
                return -1;

        for (unsigned i = 0; i < append->n_entries; i++) {
                LogEntry *entry = log_entry_ref(raft_log_get(log, append->prev_log_index + 1 + i));
                if (!entry)
                        return -1;
                item->entries[item->n_entries++] = entry;
                append->entries[i] = (struct raft_entry) {
                        .term = entry->term,
                        .type = (enum raft_entry_type) entry->type,
                        .buf = { .base = entry->data, .len = entry->size },
                };
        }
        return 0;
}

RaftOutboxItem *raft_outbox_item_new(uint64_t from, uint64_t to, const char *address, const struct raft_message *core,
                                     const RaftLog *log) {
        _cleanup_(raft_outbox_item_freep) RaftOutboxItem *item = NULL;
        size_t address_size = strlen(address) + 1;

        item = calloc(1, sizeof(*item) + address_size);
        if (!item)
                return NULL;
        memcpy(item->address, address, address_size);
        item->message = (RaftMessage) { .from = from, .to = to, .address = item->address };
        if (!core)
                return STEAL(item);

        item->core = *core;
        item->core.server_id = to;
        item->core.server_address = item->address;
        item->message.kind = RAFT_MESSAGE_CORE;
        item->message.core = &item->core;
        if (core->type == RAFT_APPEND_ENTRIES && take_entries(item, log) < 0)
                return NULL;
        return STEAL(item);
}

int raft_outbox_item_set_leader(RaftOutboxItem *item, uint64_t leader, const char *leader_address) {
        item->leader_address = strdup(leader_address);
        if (!item->leader_address)
                return -ENOMEM;
        item->message.relayed = true;
        item->message.leader = leader;
        item->message.leader_address = item->leader_address;
        return 0;
}

RaftOutboxItem *raft_outbox_item_free(RaftOutboxItem *item) {
        if (!item)
                return NULL;
        if (item->message.core && item->core.type == RAFT_APPEND_ENTRIES)
                free(item->core.append_entries.entries);
        log_entries_unref(item->entries, item->n_entries);
        free(item->leader_address);
        free(item);
        return NULL;
}

void raft_outbox_push(RaftOutbox *outbox, RaftOutboxItem *item) {
        if (outbox->n >= RAFT_OUTBOX_MAX) {
                raft_outbox_item_free(item);
                return;
        }
        item->next = NULL;
        *(outbox->end ? outbox->end : &outbox->first) = item;
        outbox->end = &item->next;
        outbox->n++;
}

RaftOutboxItem *raft_outbox_pop(RaftOutbox *outbox, uint64_t durable) {
        RaftOutboxItem *item = outbox->first;
        if (!item || item->needs > durable)
                return NULL;
        outbox->first = item->next;
        if (!outbox->first)
                outbox->end = NULL;
        outbox->n--;
        return item;
}

void raft_outbox_clear(RaftOutbox *outbox) {
        for (RaftOutboxItem *item; (item = raft_outbox_pop(outbox, UINT64_MAX));)
                raft_outbox_item_free(item);
}
