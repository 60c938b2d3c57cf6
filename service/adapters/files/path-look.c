/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One look at a path, and what an error of it proves. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/files/path-reader.h"

#define MOUNTINFO_MAX (1U << 20)
#define LINKS_MAX 8U                    /* that lead nowhere, one to the next */

bool path_is_below(const char *path, const char *folder, size_t size) {
        return strncmp(path, folder, size) == 0 && (path[size] == '/' || !path[size]);
}

/* By data/gpupoold.service.in: PrivateTmp, ProtectHome, PrivateDevices. */
static bool is_hidden(const char *path) {
        static const char *const folders[] = { "/tmp", "/var/tmp", "/home", "/root", "/run/user", "/dev", "/proc" };
        for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
                if (path_is_below(path, folders[i], strlen(folders[i])))
                        return true;
        }
        return false;
}

/* "//a/./b//c/" is "/a/b/c"; what goes up by ".." is left as it is. False: too long. */
static bool make_plain(const char *path, char ret[static PATH_MAX]) {
        size_t n = 0;
        while (*path) {
                size_t size = strcspn(path, "/");
                if (size > 0 && !(size == 1 && path[0] == '.')) {
                        if (n + 1 + size >= PATH_MAX)
                                return false;
                        ret[n++] = '/';
                        memcpy(ret + n, path, size);
                        n += size;
                }
                path += size;
                path += strspn(path, "/");
        }
        ret[n] = '\0';
        return n > 0;
}

static PathSight look(const char *path, unsigned links);

/* The link at the first @size bytes of @path leads nowhere: what would be there with the rest of the path? */
static PathSight follow(const char *path, size_t size, unsigned links) {
        char target[PATH_MAX], whole[PATH_MAX];
        char folder[PATH_MAX];
        memcpy(folder, path, size);
        folder[size] = '\0';
        ssize_t n = readlink(folder, target, sizeof(target) - 1);
        if (n <= 0 || links >= LINKS_MAX)
                return PATH_UNSEEN;
        target[n] = '\0';
        char *slash = strrchr(folder, '/');
        slash[1] = '\0';
        int written = snprintf(whole, sizeof(whole), "%s%s%s", target[0] == '/' ? "" : folder, target, path + size);
        return written > 0 && (size_t) written < sizeof(whole) ? look(whole, links + 1) : PATH_UNSEEN;
}

/* The folder is there, and what was looked for in it is not; unless it is one that only seems so. */
static PathSight judge_missing(const char *folder) {
        char real[PATH_MAX];
        if (!realpath(*folder ? folder : "/", real))
                return PATH_UNSEEN;
        return is_hidden(real) ? PATH_UNSEEN : PATH_MISSING;
}

/* Goes up to the last folder that is there. */
static PathSight find_out_why(char *path, unsigned links) {
        char part[PATH_MAX];
        struct stat status;
        memcpy(part, path, strlen(path) + 1);
        for (char *slash; (slash = strrchr(part, '/'));) {
                size_t size = strlen(part);
                if (lstat(part, &status) >= 0)
                        return S_ISLNK(status.st_mode) ? follow(path, size, links) : PATH_UNSEEN;
                if (errno != ENOENT && errno != ENOTDIR)
                        return PATH_UNSEEN;
                *slash = '\0';
                if (stat(*part ? part : "/", &status) >= 0)
                        return judge_missing(part);
                if (errno != ENOENT && errno != ENOTDIR)
                        return PATH_UNSEEN;
        }
        return PATH_UNSEEN;
}

static PathSight look(const char *path, unsigned links) {
        char plain[PATH_MAX];
        struct stat status;
        if (path[0] != '/' || !make_plain(path, plain) || is_hidden(plain))
                return PATH_UNSEEN;
        if (stat(plain, &status) >= 0)
                return PATH_THERE;
        switch (errno) {
        case ENOENT:
        case ENOTDIR:
                return find_out_why(plain, links);
        case EIO:
        case ESTALE:
        case ENOTCONN:
        case ETIMEDOUT:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ECONNREFUSED:
        case ECONNABORTED:
        case ECONNRESET:
        case EREMOTEIO:
        case ENODEV:
                return PATH_HANGING;
        default:
                return PATH_UNSEEN;     /* who may not look, or cannot, says nothing */
        }
}

PathSight path_look(const char *path) {
        return look(path, 0);
}

/* ---- where it is mounted */

/* Octal, as in "\040" for a space. */
static size_t decode(const char *word, size_t size, char ret[static PATH_MAX]) {
        size_t n = 0;
        for (size_t i = 0; i < size && n + 1 < PATH_MAX; i++) {
                unsigned code;
                if (word[i] == '\\' && i + 3 < size && sscanf(word + i + 1, "%3o", &code) == 1) {
                        ret[n++] = (char) code;
                        i += 3;
                } else
                        ret[n++] = word[i];
        }
        ret[n] = '\0';
        return n;
}

size_t path_mount_size(const char *mountinfo, const char *path) {
        size_t best = 1;
        for (const char *line = mountinfo; line && *line;) {
                const char *end = strchr(line, '\n'), *word = line;
                for (unsigned i = 0; i < 4 && word; i++) {
                        word = strchr(word, ' ');
                        word = word && (!end || word < end) ? word + 1 : NULL;
                }
                if (word) {
                        char place[PATH_MAX];
                        size_t size = decode(word, strcspn(word, " \n"), place);
                        if (size > best && path_is_below(path, place, size))
                                best = size;
                }
                line = end ? end + 1 : NULL;
        }
        return best;
}

/* What the kernel says of itself, without asking any file system. NULL: nothing. */
static char *read_mountinfo(void) {
        _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = fd >= 0 ? malloc(MOUNTINFO_MAX) : NULL;
        size_t size = 0;
        ssize_t n = 0;
        while (text && size + 1 < MOUNTINFO_MAX && (n = read(fd, text + size, MOUNTINFO_MAX - 1 - size)) > 0)
                size += (size_t) n;
        if (!text || n < 0)
                return NULL;
        text[size] = '\0';
        return STEAL(text);
}

size_t path_find_mount(const char *path) {
        _cleanup_free_ char *mountinfo = read_mountinfo();
        return mountinfo ? path_mount_size(mountinfo, path) : 1;
}
