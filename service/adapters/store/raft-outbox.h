/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* RaftOutbox: messages on their way to peers, in order. One that speaks for a term or vote that is not durable yet
 * waits until it is. Private to the engine. */

#include <raft.h>

#include "adapters/store/raft-engine.h"
#include "adapters/store/raft-log.h"

/* Raft bears the loss of messages; memory does not bear all of them when the disk hangs. */
#define RAFT_OUTBOX_MAX 1024U

/* A message with all that it needs, owned. */
typedef struct RaftOutboxItem {
        struct RaftOutboxItem *next;
        uint64_t needs;                 /* the write that must be durable before it leaves */
        RaftMessage message;            /* address and core point into this item */
        struct raft_message core;
        LogEntry **entries;
        size_t n_entries;
        char *leader_address;
        char address[];
} RaftOutboxItem;

typedef struct RaftOutbox {
        RaftOutboxItem *first;
        RaftOutboxItem **end;
        size_t n;
} RaftOutbox;

/* The item is not hung in yet; its message's kind is CORE if @core is given. The entries of an AppendEntries message
 * are taken from @log. NULL when memory is out (or the log lacks an entry). */
RaftOutboxItem *raft_outbox_item_new(uint64_t from, uint64_t to, const char *address, const struct raft_message *core,
                                     const RaftLog *log);
/* Makes it a relayed one. 0 or -ENOMEM. */
int raft_outbox_item_set_leader(RaftOutboxItem *item, uint64_t leader, const char *leader_address);
RaftOutboxItem *raft_outbox_item_free(RaftOutboxItem *item);
DEFINE_CLEANUP(RaftOutboxItem *, raft_outbox_item_free);

/* Takes @item; when there are too many, it is lost. */
void raft_outbox_push(RaftOutbox *outbox, RaftOutboxItem *item);

/* The next one that may leave when all writes up to @durable are done; NULL if there is none. */
RaftOutboxItem *raft_outbox_pop(RaftOutbox *outbox, uint64_t durable);
void raft_outbox_clear(RaftOutbox *outbox);
