/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/backup.h"

#include <errno.h>

#include "core/names.h"

/* Owned by the piece that is on its way. */
typedef struct BackupImport {
        History *history;
        uint32_t uid;
        char *user, *action;
        RequestId request;              /* of the last piece: the caller's; null: none */
        uint64_t checksum;
        size_t size, offset;
        SubmitCallback callback;
        void *userdata;
        uint8_t bytes[];
} BackupImport;

static void import_free(BackupImport *import) {
        free(import->user);
        free(import->action);
        free(import);
}

static int submit_piece(BackupImport *import);

static void on_piece(SubmitOutcome outcome, const Result *result, void *userdata) {
        BackupImport *import = userdata;
        bool taken = outcome == SUBMIT_COMMITTED && result->verdict == VERDICT_DONE;
        if (taken && import->offset < import->size && submit_piece(import) >= 0)
                return;
        /* The middle of an import came to an end: it surely did not happen as a whole. */
        if (taken && import->offset < import->size)
                outcome = SUBMIT_NO_QUORUM;
        import->callback(outcome, outcome == SUBMIT_COMMITTED ? result : NULL, import->userdata);
        import_free(import);
}

static int submit_piece(BackupImport *import) {
        Gpupool1__ImportState piece = GPUPOOL1__IMPORT_STATE__INIT;
        Gpupool1__Author author = GPUPOOL1__AUTHOR__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        size_t left = import->size - import->offset, n = left < IMPORT_CHUNK_MAX ? left : IMPORT_CHUNK_MAX;
        piece.checksum = import->checksum;
        piece.offset = import->offset;
        piece.total = import->size;
        piece.chunk = (ProtobufCBinaryData) { .len = n, .data = import->bytes + import->offset };
        author.uid = import->uid;
        author.user = import->user;
        author.action = import->action;
        entry.author = &author;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_IMPORT_STATE;
        entry.import_state = &piece;
        if (n == left && !id_is_null(import->request.bytes))
                entry.request_id = id_message_borrow(import->request.bytes);
        import->offset += n;
        return history_submit(import->history, &entry, on_piece, import);
}

int backup_import(History *history, Entry *entry, const void *bytes, size_t size, SubmitCallback callback,
                  void *userdata) {
        if (size == 0 || size > IMPORT_SIZE_MAX)
                return -E2BIG;
        BackupImport *import = calloc(1, sizeof(*import) + size);
        if (!import)
                return -ENOMEM;
        import->history = history;
        import->checksum = bytes_fingerprint(bytes, size);
        import->size = size;
        import->callback = callback;
        import->userdata = userdata;
        memcpy(import->bytes, bytes, size);
        if (entry->request_id.len == ID_SIZE)
                memcpy(import->request.bytes, entry->request_id.data, ID_SIZE);
        import->uid = entry->author ? entry->author->uid : UINT32_MAX;
        int r = text_set(&import->user, entry->author ? entry->author->user : "");
        if (r >= 0)
                r = text_set(&import->action, entry->author ? entry->author->action : "");
        if (r >= 0)
                r = submit_piece(import);
        if (r < 0)
                import_free(import);
        return r;
}
