/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/libvirt/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/text.h"

#define PID_FILE "/run/libvirt/qemu/%s.pid"
#define COMMAND_LINE_MAX (1U << 20)     /* QEMU's can be long: hundreds of devices */

static void close_dir(DIR *dir) {
        (void) closedir(dir);
}
DEFINE_CLEANUP(DIR *, close_dir);

/* Reads up to @size - 1 bytes and ends them with a zero. */
static ssize_t read_file(const char *path, char *ret, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
        size_t have = 0;
        while (have < size - 1) {
                ssize_t n = read(fd, ret + have, size - 1 - have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t) n;
        }
        ret[have] = 0;
        return (ssize_t) have;
}

static bool runs_as(pid_t pid, int64_t uid) {
        char path[64], text[4096];
        snprintf(path, sizeof(path), "/proc/%i/status", pid);
        if (read_file(path, text, sizeof(text)) < 0)
                return false;
        /* All four: real, effective, saved, of the file system. */
        const char *line = strstr(text, "\nUid:\t");
        char expected[64];
        snprintf(expected, sizeof(expected), "\nUid:\t%lli\t%lli\t%lli\t%lli\n", (long long) uid, (long long) uid,
                 (long long) uid, (long long) uid);
        return line && strncmp(line, expected, strlen(expected)) == 0;
}

static bool command_line_has(pid_t pid, const char *uuid) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%i/cmdline", pid);
        _cleanup_free_ char *line = malloc(COMMAND_LINE_MAX);
        ssize_t n = line ? read_file(path, line, COMMAND_LINE_MAX) : -1;
        for (ssize_t i = 0; i < n; i += (ssize_t) strlen(line + i) + 1) {
                const char *word = line + i;
                if (strcmp(word, "-uuid") == 0 && i + (ssize_t) sizeof("-uuid") < n &&
                    strcmp(word + sizeof("-uuid"), uuid) == 0)
                        return true;
        }
        return false;
}

/* Returns a pidfd if @pid is the VM's process, else -ESRCH or another negative errno. */
static int open_process(pid_t pid, const char *uuid, int64_t uid) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);
        if (pidfd < 0)
                return -errno;
        if ((uid >= 0 && !runs_as(pid, uid)) || !command_line_has(pid, uuid))
                return -ESRCH;
        /* Still alive: so the number was never another's while we looked. */
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 0) == 0 ? steal_fd(&pidfd) : -ESRCH;
}

static int find_by_pid_file(const char *name, const char *uuid, int64_t uid, pid_t *ret_pid, int *ret_pidfd) {
        char path[PATH_MAX], text[32];
        if (strchr(name, '/') || (size_t) snprintf(path, sizeof(path), PID_FILE, name) >= sizeof(path))
                return -EINVAL;
        ssize_t n = read_file(path, text, sizeof(text));
        if (n < 0)
                return (int) n;
        text[strcspn(text, "\n")] = 0;
        uint64_t pid;
        if (text_to_u64(text, 10, &pid) < 0 || pid == 0 || pid > INT_MAX)
                return -EBADMSG;
        int pidfd = open_process((pid_t) pid, uuid, uid);
        if (pidfd < 0)
                return pidfd;
        *ret_pid = (pid_t) pid;
        *ret_pidfd = pidfd;
        return 0;
}

static int find_by_command_line(const char *uuid, int64_t uid, pid_t *ret_pid, int *ret_pidfd) {
        _cleanup_(close_dirp) DIR *dir = opendir("/proc");
        if (!dir)
                return -errno;
        _cleanup_close_ int found = -1;
        for (struct dirent *entry; (entry = readdir(dir));) {
                uint64_t pid;
                if (text_to_u64(entry->d_name, 10, &pid) < 0 || pid > INT_MAX || !runs_as((pid_t) pid, uid))
                        continue;
                int pidfd = open_process((pid_t) pid, uuid, uid);
                if (pidfd < 0)
                        continue;
                if (found >= 0) {
                        (void) close(pidfd);
                        return -ENOTUNIQ;
                }
                found = pidfd;
                *ret_pid = (pid_t) pid;
        }
        if (found < 0)
                return -ESRCH;
        *ret_pidfd = steal_fd(&found);
        return 0;
}

int process_find(const char *name, const VmId *vm, int64_t uid, pid_t *ret_pid, int *ret_pidfd) {
        char uuid[UUID_TEXT_SIZE];
        id_to_uuid(vm->bytes, uuid);
        int r = find_by_pid_file(name, uuid, uid, ret_pid, ret_pidfd);
        if (r == 0 || uid < 0)
                return r;
        return find_by_command_line(uuid, uid, ret_pid, ret_pidfd);
}
