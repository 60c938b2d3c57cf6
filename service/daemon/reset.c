/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/reset.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/history.h"
#include "util/array.h"
#include "util/cleanup.h"

#define MARK "reset"

static int open_directory(const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int reset_mark(const char *state_directory) {
        _cleanup_close_ int directory = open_directory(state_directory);
        if (directory < 0)
                return directory;
        _cleanup_close_ int fd = openat(directory, MARK, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 || fsync(directory) < 0 ? -errno : 0;
}

int reset_finish(const char *state_directory) {
        static const char *const names[] = { "node-id", "node-id.new", "key.pem", "peers", "peers.new" };
        _cleanup_close_ int directory = open_directory(state_directory);
        if (directory < 0)
                return directory;
        if (faccessat(directory, MARK, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        int r = history_remove_files(state_directory);
        for (size_t i = 0; r >= 0 && i < ELEMENTS(names); i++)
                if (unlinkat(directory, names[i], 0) < 0 && errno != ENOENT)
                        r = -errno;
        if (r < 0)
                return r;
        if (fsync(directory) < 0 || unlinkat(directory, MARK, 0) < 0 || fsync(directory) < 0)
                return -errno;
        return 1;
}
