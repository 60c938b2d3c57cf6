/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/udev/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"

#define FORMAT(position) __attribute__((format(printf, position, 0)))

int sysfs_open(const char *root, Sysfs *ret) {
        int fd = open(root ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = (Sysfs) { .root = fd };
        return 0;
}

int sysfs_copy(const Sysfs *from, Sysfs *ret) {
        int fd = fcntl(from->root, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        *ret = (Sysfs) { .root = fd };
        return 0;
}

void sysfs_close(Sysfs *sysfs) {
        closep(&sysfs->root);
        *sysfs = SYSFS_NONE;
}

void sysfs_begin(const Sysfs *sysfs, const char *attribute) {
        if (!sysfs->progress)
                return;
        struct timespec now;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        sysfs->progress->attribute = attribute;
        sysfs->progress->since_us = (uint64_t) now.tv_sec * 1000000U + (uint64_t) now.tv_nsec / 1000U;
}

void sysfs_end(const Sysfs *sysfs) {
        if (sysfs->progress)
                sysfs->progress->since_us = 0;
}

static const char *last_part(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

/* The kernel cannot vouch for ".." in a path while anything anywhere is renamed or mounted, and asks to try again. */
#define OPEN_TRIES_MAX 1000U

/* Opens below the root, links resolved as if the root were "/". Plain O_RDONLY: a read that blocks is the watchdog's
 * business, and O_NONBLOCK means nothing to sysfs. */
FORMAT(3)
static int open_below(const Sysfs *sysfs, int flags, const char *format, va_list ap) {
        char path[PATH_MAX];
        int n = vsnprintf(path, sizeof(path), format, ap);
        if (n < 0 || (size_t) n >= sizeof(path))
                return -ENAMETOOLONG;

        struct open_how how = {
                /* openat2() refuses O_NOCTTY beside O_PATH. */
                .flags = (uint64_t) (flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        for (unsigned i = 0; i < OPEN_TRIES_MAX; i++) {
                int fd = (int) syscall(SYS_openat2, sysfs->root, path, &how, sizeof(how));
                if (fd >= 0)
                        return fd;
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
        return -EAGAIN;
}

/* Ends what sysfs_begin() began. Passes @r on. */
static ssize_t end_read(const Sysfs *sysfs, const char *attribute, ssize_t r) {
        sysfs_end(sysfs);
        if (r >= 0 || !sysfs->failed || *sysfs->failed)
                return r;
        switch (-r) {
        case ENOENT:
        case ENOTDIR:
        case ENODEV:            /* the device goes away at this moment */
        case EINVAL:            /* not a link; or what an attribute says that does not apply to its device */
        case EOPNOTSUPP:
                return r;
        }
        *sysfs->failed = attribute;
        return r;
}

static ssize_t read_all(int fd, void *buffer, size_t size) {
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

FORMAT(4)
static ssize_t read_bytes(const Sysfs *sysfs, void *buffer, size_t size, const char *format, va_list ap) {
        sysfs_begin(sysfs, last_part(format));
        _cleanup_close_ int fd = open_below(sysfs, O_RDONLY, format, ap);
        return end_read(sysfs, last_part(format), fd < 0 ? fd : read_all(fd, buffer, size));
}

ssize_t sysfs_read_bytes(const Sysfs *sysfs, void *buffer, size_t size, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        ssize_t n = read_bytes(sysfs, buffer, size, format, ap);
        va_end(ap);
        return n;
}

/* Line by line, so that the lines stay; a line never grows. */
static void make_lines_printable(char *text) {
        char *rest = text, *to = text, *line;
        while ((line = strsep(&rest, "\n"))) {
                text_make_printable(line, SIZE_MAX);
                size_t length = strlen(line);
                memmove(to, line, length);
                to += length;
                *to++ = rest ? '\n' : '\0';
        }
}

FORMAT(4)
static ssize_t read_text(const Sysfs *sysfs, char *buffer, size_t size, const char *format, va_list ap) {
        ssize_t n = read_bytes(sysfs, buffer, size - 1, format, ap);
        if (n < 0)
                return n;
        buffer[n] = '\0';
        make_lines_printable(buffer);
        size_t length = strlen(buffer);
        while (length > 0 && strchr(" \n", buffer[length - 1]))
                length--;
        buffer[length] = '\0';
        return (ssize_t) length;
}

ssize_t sysfs_read_text(const Sysfs *sysfs, char *buffer, size_t size, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        ssize_t n = read_text(sysfs, buffer, size, format, ap);
        va_end(ap);
        return n;
}

int sysfs_read_string(const Sysfs *sysfs, char **ret, const char *format, ...) {
        char buffer[256];
        va_list ap;
        va_start(ap, format);
        ssize_t n = read_text(sysfs, buffer, sizeof(buffer), format, ap);
        va_end(ap);
        if (n < 0)
                return (int) n;
        buffer[strcspn(buffer, "\n")] = '\0';
        return text_set(ret, buffer[0] ? buffer : NULL);
}

int sysfs_read_number(const Sysfs *sysfs, uint64_t *ret, const char *format, ...) {
        char buffer[32];
        va_list ap;
        va_start(ap, format);
        ssize_t n = read_text(sysfs, buffer, sizeof(buffer), format, ap);
        va_end(ap);
        if (n < 0)
                return (int) n;
        if (strncmp(buffer, "0x", 2) == 0)
                return text_to_u64(buffer + 2, 16, ret);
        return text_to_u64(buffer, 10, ret);
}

/* The link itself is opened, so that it is not followed, and its parents stay below the root like everything else. */
FORMAT(3)
static int read_link(const Sysfs *sysfs, char ret[static PATH_MAX], const char *format, va_list ap) {
        sysfs_begin(sysfs, last_part(format));
        _cleanup_close_ int fd = open_below(sysfs, O_PATH | O_NOFOLLOW, format, ap);
        ssize_t n = fd < 0 ? fd : readlinkat(fd, "", ret, PATH_MAX);
        if (fd >= 0 && n < 0)
                n = -errno;
        n = end_read(sysfs, last_part(format), n);
        if (n < 0)
                return (int) n;
        if (n >= PATH_MAX)
                return -ENAMETOOLONG;
        ret[n] = '\0';
        return 0;
}

int sysfs_read_link(const Sysfs *sysfs, char ret[static PATH_MAX], const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        int r = read_link(sysfs, ret, format, ap);
        va_end(ap);
        return r;
}

int sysfs_read_link_name(const Sysfs *sysfs, char ret[static NAME_MAX + 1], const char *format, ...) {
        char target[PATH_MAX];
        va_list ap;
        va_start(ap, format);
        int r = read_link(sysfs, target, format, ap);
        va_end(ap);
        if (r < 0)
                return r;
        const char *name = last_part(target);
        if (!*name || strlen(name) > NAME_MAX)
                return -EINVAL;
        memcpy(ret, name, strlen(name) + 1);
        text_make_printable(ret, NAME_MAX);
        return 0;
}

bool sysfs_exists(const Sysfs *sysfs, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        sysfs_begin(sysfs, last_part(format));
        _cleanup_close_ int fd = open_below(sysfs, O_PATH | O_NOFOLLOW, format, ap);
        va_end(ap);
        return end_read(sysfs, last_part(format), fd) >= 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int list_folder(int fd, TextList *ret) {
        DIR *folder = fdopendir(fd);
        if (!folder) {
                int r = -errno;
                (void) close(fd);
                return r;
        }

        int r = 0;
        while (r >= 0 && ret->n < SYSFS_NAMES_MAX) {
                errno = 0;
                const struct dirent *entry = readdir(folder);
                if (!entry) {
                        r = -errno;
                        break;
                }
                if (entry->d_name[0] != '.')
                        r = text_list_add(ret, entry->d_name);
        }
        (void) closedir(folder);
        if (r >= 0 && ret->n > 1)
                qsort(ret->items, ret->n, sizeof(ret->items[0]), compare_names);
        return r;
}

int sysfs_list(const Sysfs *sysfs, TextList *ret, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        sysfs_begin(sysfs, last_part(format));
        int fd = open_below(sysfs, O_RDONLY | O_DIRECTORY, format, ap);
        va_end(ap);
        return (int) end_read(sysfs, last_part(format), fd < 0 ? fd : list_folder(fd, ret));
}
