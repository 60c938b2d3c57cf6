/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt-world.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/array.h"
#include "util/cleanup.h"

static pid_t libvirtd;

static bool mount_at(const char *source, const char *path, const char *type, unsigned long flags) {
        return mount(source, path, type, flags, NULL) == 0;
}

static bool write_file(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text);
}

/* libvirt asks QEMU anew about KVM before each start where /dev/kvm is there and of no use; so there is none. */
static bool make_dev(void) {
        static const char *const nodes[] = { "null", "zero", "full", "random", "urandom", "tty", "ptmx" };
        if (mkdir("/run/dev", 0755) < 0 || !mount_at("tmpfs", "/run/dev", "tmpfs", 0))
                return false;
        for (size_t i = 0; i < ELEMENTS(nodes); i++) {
                char from[64], to[64];
                struct stat st;
                snprintf(from, sizeof(from), "/dev/%s", nodes[i]);
                snprintf(to, sizeof(to), "/run/dev/%s", nodes[i]);
                if (stat(from, &st) < 0 || mknod(to, S_IFCHR | 0666, st.st_rdev) < 0 || chmod(to, 0666) < 0)
                        return false;
        }
        return mkdir("/run/dev/shm", 01777) == 0 && mkdir("/run/dev/pts", 0755) == 0 &&
               mount_at("/dev/pts", "/run/dev/pts", NULL, MS_BIND) && mount_at("/run/dev", "/dev", NULL, MS_MOVE) &&
               symlink("/proc/self/fd", "/dev/fd") == 0;
}

static bool make_file_systems(void) {
        static const char *const own[] = { "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt",
                                           "/etc/libvirt" };
        if (!mount_at(NULL, "/", NULL, MS_REC | MS_PRIVATE) || !mount_at("proc", "/proc", "proc", 0) ||
            umount2("/sys", MNT_DETACH) < 0 || !mount_at("sysfs", "/sys", "sysfs", 0) ||
            !mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", 0) || !mount_at("tmpfs", "/run", "tmpfs", 0))
                return false;
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (!mount_at("tmpfs", own[i], "tmpfs", 0) || chmod(own[i], 0755) < 0)
                        return false;
        return make_dev() && write_file("/etc/libvirt/qemu.conf", "namespaces = []\n") &&
               write_file("/etc/libvirt/libvirtd.conf", "auth_unix_rw = \"none\"\n"
                                                        "unix_sock_group = \"libvirt\"\n"
                                                        "unix_sock_rw_perms = \"0770\"\n"
                                                        "host_uuid = \"3f1d6a52-7e0c-4b57-9a46-0c5a6f3b9d11\"\n");
}

static bool become_user(void) {
        /* libvirt's client asks for the name of its user: it must have one. */
        const struct passwd *user = getpwnam("gpupool");
        if (!user)
                user = getpwnam("nobody");
        const struct group *libvirt = getgrnam("libvirt");
        if (!user || !libvirt || setgroups(1, &libvirt->gr_gid) < 0)
                return false;
        uid_t uid = user->pw_uid;
        gid_t gid = user->pw_gid;
        /* Root stays within reach, for as_root() only: what the kernel looks at is the effective user. */
        return setresgid(gid, gid, 0) == 0 && setresuid(uid, uid, 0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
}

static int exit_status(int status) {
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Process 1 inside: takes in orphans (QEMU is one), until the test ends. All others end with it. */
static void be_init(pid_t test) {
        for (;;) {
                int status;
                pid_t pid = wait(&status);
                if (pid == test)
                        _exit(exit_status(status));
                if (pid < 0 && errno != EINTR)
                        _exit(99);
        }
}

static const char *what_is_missing(void) {
        if (geteuid() != 0)
                return "needs root, for namespaces";
        if (access("/usr/sbin/libvirtd", X_OK) < 0 || access("/usr/sbin/virtlogd", X_OK) < 0)
                return "needs libvirtd (package libvirt-daemon-system)";
        if (access("/usr/bin/qemu-system-x86_64", X_OK) < 0)
                return "needs QEMU (package qemu-system-x86)";
        if (!getgrnam("libvirt"))
                return "needs the group libvirt";
        return NULL;
}

bool world_enter(const char **ret_reason) {
        *ret_reason = what_is_missing();
        if (*ret_reason)
                return false;
        if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
                *ret_reason = "needs namespaces, and may not make them here";
                return false;
        }
        pid_t init = fork();
        g_assert_cmpint(init, >=, 0);
        if (init > 0) {
                int status;
                g_assert_cmpint(waitpid(init, &status, 0), ==, init);
                _exit(exit_status(status));
        }
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!make_file_systems())
                g_error("the world's file systems: %s", g_strerror(errno));
        pid_t test = fork();
        g_assert_cmpint(test, >=, 0);
        if (test > 0)
                be_init(test);
        if (!become_user())
                g_error("becoming another user: %s", g_strerror(errno));
        return true;
}

void world_leave(void) {
        if (setresuid(0, 0, 0) < 0)
                g_error("becoming root again: %s", g_strerror(errno));
}

static pid_t fork_root(void) {
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0 && (setresuid(0, 0, 0) < 0 || setresgid(0, 0, 0) < 0))
                _exit(98);
        return pid;
}

static int wait_for(pid_t pid) {
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        return exit_status(status);
}

int as_root(const char *const argv[]) {
        pid_t pid = fork_root();
        if (pid == 0) {
                execv(argv[0], (char *const *) argv);
                _exit(97);
        }
        return wait_for(pid);
}

int signal_as_root(pid_t pid, int signal_number) {
        pid_t child = fork_root();
        if (child == 0)
                _exit(kill(pid, signal_number) < 0);
        return wait_for(child);
}

#define PRETEND "--pretend"

pid_t pretend_as(uid_t uid, const char *uuid) {
        int ready[2];
        g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
        pid_t pid = fork_root();
        if (pid == 0) {
                const char *argv[] = { "qemu-system-x86_64", PRETEND, "-uuid", uuid, NULL };
                if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                        _exit(98);
                execv("/proc/self/exe", (char *const *) argv);
                _exit(97);
        }
        close(ready[1]);
        char byte;
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 0);       /* closed: it runs */
        close(ready[0]);
        return pid;
}

void pretend(int argc, char **argv) {
        if (argc < 2 || strcmp(argv[1], PRETEND) != 0)
                return;
        for (;;)
                pause();
}

static pid_t start_daemon(const char *path, const char *log) {
        pid_t pid = fork_root();
        if (pid == 0) {
                int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
                if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
                        _exit(98);
                sigset_t none;
                sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                execl(path, path, NULL);
                _exit(97);
        }
        return pid;
}

pid_t libvirtd_start(void) {
        static bool has_virtlogd;
        if (!has_virtlogd)
                (void) start_daemon("/usr/sbin/virtlogd", "/run/virtlogd.log");
        has_virtlogd = true;
        libvirtd = start_daemon("/usr/sbin/libvirtd", "/run/libvirtd.log");
        return libvirtd;
}

void libvirtd_kill(void) {
        g_assert_cmpint(signal_as_root(libvirtd, SIGKILL), ==, 0);
        (void) wait_for(libvirtd);
        libvirtd = 0;
}

pid_t libvirtd_pid(void) {
        return libvirtd;
}

uid_t qemu_uid(void) {
        const struct passwd *user = getpwnam("libvirt-qemu");
        return user ? user->pw_uid : 0;
}
