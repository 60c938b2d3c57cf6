/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

const char *files_root = "";

__attribute__((format(printf, 2, 0)))
static int open_path_list(int flags, const char *format, va_list ap) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof(path), "%s", files_root);
        int m = n < 0 || n >= (int) sizeof(path) ? -1 : vsnprintf(path + n, sizeof(path) - (size_t) n, format, ap);
        if (m < 0 || n + m >= (int) sizeof(path))
                return -ENAMETOOLONG;
        int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);
        return fd < 0 ? -errno : fd;
}

int open_path(int flags, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        int fd = open_path_list(flags, format, ap);
        va_end(ap);
        return fd;
}

ssize_t read_whole(int fd, void *buffer, size_t size) {
        size_t n = 0;
        while (n < size) {
                ssize_t got = read(fd, (char *) buffer + n, size - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                n += (size_t) got;
        }
        return (ssize_t) n;
}

bool read_text_file(char *ret, size_t size, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_close_ int fd = open_path_list(O_RDONLY, format, ap);
        va_end(ap);
        ssize_t n = fd < 0 ? fd : read_whole(fd, ret, size - 1);
        if (n <= 0)
                return false;
        ret[n] = '\0';
        ret[strcspn(ret, "\n")] = '\0';
        return true;
}

void each_name(int folder, NameFound found, const void *userdata) {
        struct Entry {
                uint64_t inode;
                int64_t offset;
                uint16_t length;
                uint8_t type;
                char name[];
        };
        _Alignas(struct Entry) char buffer[4096];
        long n;
        while ((n = syscall(SYS_getdents64, folder, buffer, sizeof(buffer))) > 0)
                for (long i = 0; i < n;) {
                        const struct Entry *entry = (const void *) (buffer + i);
                        if (entry->name[0] != '.')
                                found(folder, entry->name, userdata);
                        i += entry->length;
                }
}

bool read_link_name(const char *address, const char *link, char *ret, size_t size) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = open_path(O_PATH | O_NOFOLLOW, "/sys/bus/pci/devices/%s/%s", address, link);
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return false;
        target[n] = '\0';
        const char *slash = strrchr(target, '/');
        int length = snprintf(ret, size, "%s", slash ? slash + 1 : target);
        return length > 0 && (size_t) length < size;
}
