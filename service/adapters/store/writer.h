/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Writer: the one thread that waits for the disk, so that the loop which renews leases never does. Writes are done in
 * the order they were given, as many as have gathered in one transaction.
 *
 * A write that fails is never dropped and never reported as undone: the same bytes are tried again, with growing pauses
 * of up to a second, until they are on disk or the writer is freed. Everything behind it waits. So what raft believes
 * to have handed over and what the file has can only differ by writes that are still to come.
 *
 * A write of nothing but term and vote overtakes what finds no room: a voter with a full disk still votes. And an own
 * snapshot lets others go first when it finds none: what comes behind it does not build on it. */

#include <systemd/sd-event.h>

#include "adapters/store/log-file.h"

typedef struct Writer Writer;

/* Called on the loop, never from inside another call of this header. */
typedef struct WriterCallbacks {
        /* @write, the @sequence-th, is durable, and so are all of its kind before it. Borrowed. */
        void (*done)(void *userdata, uint64_t sequence, const LogWrite *write);
        /* The answer to writer_read_snapshot(): owned by the callee; NULL with an @error (-ENOENT: there is none). */
        void (*snapshot)(void *userdata, LogSnapshot *snapshot, int error);
        /* Writes began to fail (-ENOSPC, -EROFS, -EIO, ...), fail in another way, or (0) work again. After -EBADMSG the
         * file is damaged and nothing is tried any more. */
        void (*trouble)(void *userdata, int error);
} WriterCallbacks;

/* Owns @file from here on, if it returns 0. */
int writer_new(LogFile *file, sd_event *event, const WriterCallbacks *callbacks, void *userdata, Writer **ret);

/* Tries once what is queued, without pauses, and closes the file. Takes NULL, returns NULL. */
Writer *writer_free(Writer *writer);
DEFINE_CLEANUP(Writer *, writer_free);

/* Queues @write and takes what it owns (entries, snapshot), also on failure. 0 or -ENOMEM. */
int writer_submit(Writer *writer, const LogWrite *write, uint64_t *ret_sequence);

/* Queues a read of the snapshot; it sees the writes queued before it. 0 or -ENOMEM. */
int writer_read_snapshot(Writer *writer);

/* What is queued now and until this is taken back is needed for the cluster to go on: it may use the room that is held
 * for that (log-file.h). */
void writer_set_urgent(Writer *writer, bool urgent);

/* The error that writes fail with at present, or 0; what trouble() said last. */
int writer_error(const Writer *writer);
