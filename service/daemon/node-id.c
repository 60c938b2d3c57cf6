/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/node-id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-id128.h>

#include "util/cleanup.h"

#define FILE_NAME "node-id"
#define FILE_NAME_NEW FILE_NAME ".new"

static int open_directory(const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int read_id(const char *state_directory, const char *name, NodeId *ret) {
        _cleanup_close_ int directory = open_directory(state_directory);
        if (directory < 0)
                return directory;
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return -errno;

        char text[ID_TEXT_SIZE + 1];    /* one byte more than an id has, so that more is noticed */
        ssize_t n = read(fd, text, sizeof(text));
        if (n < 0)
                return -errno;
        if (n != ID_TEXT_SIZE || text[ID_TEXT_SIZE - 1] != '\n')
                return -EBADMSG;
        text[ID_TEXT_SIZE - 1] = '\0';
        NodeId id;
        if (id_from_text(text, id.bytes) < 0 || id_is_null(id.bytes))
                return -EBADMSG;
        *ret = id;
        return 0;
}

int node_id_read(const char *state_directory, NodeId *ret) {
        return read_id(state_directory, FILE_NAME, ret);
}

int node_id_read_new(const char *state_directory, NodeId *ret) {
        return read_id(state_directory, FILE_NAME_NEW, ret);
}

/* A whole file or none: written aside, synced, then linked under its name, which fails if it is taken. */
int node_id_create(const char *state_directory, NodeId *ret) {
        sd_id128_t drawn;
        NodeId id;
        char text[ID_TEXT_SIZE];
        int r = sd_id128_randomize(&drawn);
        if (r < 0)
                return r;
        memcpy(id.bytes, drawn.bytes, ID_SIZE);
        id_to_text(id.bytes, text);
        text[ID_TEXT_SIZE - 1] = '\n';

        _cleanup_close_ int directory = open_directory(state_directory);
        if (directory < 0)
                return directory;
        _cleanup_close_ int fd = openat(directory, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        ssize_t n = write(fd, text, sizeof(text));
        if (n != (ssize_t) sizeof(text))
                return n < 0 ? -errno : -ENOSPC;
        if (fsync(fd) < 0)
                return -errno;
        char self[32];
        (void) snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, self, directory, FILE_NAME_NEW, AT_SYMLINK_FOLLOW) < 0)
                return -errno;
        if (fsync(directory) < 0)
                return -errno;
        *ret = id;
        return 0;
}

int node_id_keep(const char *state_directory) {
        _cleanup_close_ int directory = open_directory(state_directory);
        if (directory < 0)
                return directory;
        if (renameat2(directory, FILE_NAME_NEW, directory, FILE_NAME, RENAME_NOREPLACE) < 0)
                return -errno;
        return fsync(directory) < 0 ? -errno : 0;
}

uint64_t node_id_to_raft(const NodeId *id) {
        uint64_t value = 0;
        for (size_t i = 0; i < 8; i++)
                value = value << 8 | id->bytes[i];
        return value ? value : 1;
}
