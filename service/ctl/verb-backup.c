/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl export and import: backups of what the cluster has decided, which go to and from the service as files. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define PIECE_SIZE (64U * 1024U)

static void begin(Ctl *ctl, Request *request, RequestKind kind, const char *method, const char *doing) {
        request_begin(ctl, request, kind, OBJECT_ROOT, INTERFACE_MANAGER, method);
        request_explain(request, ACTION_MANAGE_CLUSTER, "%s", doing);
}

static void answer_done(Ctl *ctl) {
        if (!ctl->json)
                return;
        Json *document = json_map();
        json_put_truth(document, "done", true);
        ctl_answer(ctl, document);
}

static int write_all(int fd, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, bytes, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                bytes += n;
                size -= (size_t) n;
        }
        return 0;
}

/* From the beginning of @from, wherever it stands. */
static int copy_all(int from, int to, size_t *ret_size) {
        char piece[PIECE_SIZE];
        for (size_t size = 0;;) {
                ssize_t n = pread(from, piece, sizeof(piece), (off_t) size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) {
                        *ret_size = size;
                        return 0;
                }
                int r = write_all(to, piece, (size_t) n);
                if (r < 0)
                        return r;
                size += (size_t) n;
        }
}

/* Never over another file, also where the file system knows no such renaming. */
static int give_name(const char *temporary, const char *file) {
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, file, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        if (link(temporary, file) < 0)
                return -errno;
        (void) unlink(temporary);
        return 0;
}

static int write_whole(int backup, int fd, const char *temporary, const char *file, size_t *ret_size) {
        int r = copy_all(backup, fd, ret_size);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0)
                r = give_name(temporary, file);
        return r;
}

/* The file is there whole or not at all, whatever happens meanwhile. */
static Status write_backup(Ctl *ctl, const char *file, int backup, size_t *ret_size) {
        _cleanup_free_ char *temporary = must_printf("%s.XXXXXX", file);
        _cleanup_close_ int fd = mkostemp(temporary, O_CLOEXEC);        /* 0600 */
        if (fd < 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be made: %s.", file, strerror(errno));
        int r = write_whole(backup, fd, temporary, file, ret_size);
        if (r >= 0)
                return STATUS_DONE;
        (void) unlink(temporary);
        return ctl_fail(ctl, STATUS_FAILED, NULL, "%s cannot be written: %s.", file, strerror(-r));
}

static Status print_backup(Ctl *ctl, int backup) {
        size_t size;
        (void) fflush(stdout);
        int r = copy_all(backup, STDOUT_FILENO, &size);
        return r >= 0 ? STATUS_DONE :
                ctl_fail(ctl, STATUS_FAILED, NULL, "Standard output cannot be written: %s.", strerror(-r));
}

/* Before anybody is asked for a password. */
static Status check_target(Ctl *ctl, const char *file, bool as_text) {
        if (text_equal(file, "-") && ctl->json)
                return ctl_refuse_usage(ctl, "--json and a backup cannot both go to standard output.");
        if (text_equal(file, "-") && ctl->out.terminal && !as_text)
                return ctl_refuse_usage(ctl, "A backup is not for a terminal: name a file, or send it on.");
        if (!text_equal(file, "-") && access(file, F_OK) == 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "%s is there already, and a backup is written over nothing.",
                                file);
        return STATUS_DONE;
}

Status verb_cluster_export(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        const char *file = args->words.items[0];
        bool as_text = args_has(args, "--text");
        size_t size = 0;
        int backup;
        Status status = check_target(ctl, file, as_text);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_GUARDED_READ, "Export",
              as_text ? "taking a description of the cluster" : "taking a backup of the cluster");
        request_options(&request);
        if (as_text)
                request_option(&request, "text", "b", 1);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 'h', &backup);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        if (text_equal(file, "-"))
                return print_backup(ctl, backup);
        status = write_backup(ctl, file, backup, &size);
        if (status != STATUS_DONE)
                return status;
        if (as_text)
                ctl_tell(ctl, "%s: %zu bytes. It holds names of nodes, pools and VMs, and no XML; it is no backup.",
                         file, size);
        else
                ctl_tell(ctl, "%s: %zu bytes. It holds the VMs' XML, so keep it as they are kept.", file, size);
        answer_done(ctl);
        return STATUS_DONE;
}

/* The service takes no pipe, and a file in memory keeps it from waiting for a disk. */
static Status open_in_memory(Ctl *ctl, const char *bytes, size_t size, int *ret) {
        _cleanup_close_ int fd = memfd_create("gpupool-backup", MFD_CLOEXEC);
        int r = fd < 0 ? -errno : write_all(fd, bytes, size);
        if (r < 0)
                return ctl_fail(ctl, STATUS_FAILED, NULL, "The backup cannot be held in memory: %s.", strerror(-r));
        *ret = steal_fd(&fd);
        return STATUS_DONE;
}

Status verb_cluster_import(Ctl *ctl, const Args *args) {
        _cleanup_request_ Request request = {};
        _cleanup_free_ char *bytes = NULL;
        _cleanup_close_ int fd = -1;
        const char *file = args->words.items[0];
        size_t size = 0;
        Status status = file_read(ctl, file, IMPORT_SIZE_MAX, &bytes, &size);
        if (status == STATUS_DONE)
                status = open_in_memory(ctl, bytes, size, &fd);
        if (status == STATUS_DONE)
                status = ctl_confirm(ctl, ASK_IF_SOMEONE_IS_THERE, "Restore %s into this cluster?", file);
        if (status == STATUS_DONE)
                status = ctl_connect(ctl);
        if (status != STATUS_DONE)
                return status;
        begin(ctl, &request, REQUEST_CHANGE, "Import", "restoring a backup");
        request_append_file(&request, fd);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "The backup is restored; its VMs are stopped. See: gpupoolctl status");
        answer_done(ctl);
        return STATUS_DONE;
}
