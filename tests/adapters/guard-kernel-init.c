/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The first process of a machine that test-guard-kernel boots: loads a watchdog's driver, starts the guard with the
 * real device, and does what the kernel's command line names (scene=). Says what happens with its time, and DONE if the
 * machine still stands at the end; a machine that is reset says no more. Linked statically, with nothing beside it. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guard/guard-protocol.h"

#define SOCKET_PATH "/guard.sock"
#define SECOND UINT64_C(1000000)

static int guard_socket = -1;

static uint64_t now_us(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t) now.tv_sec * SECOND + (uint64_t) now.tv_nsec / 1000;
}

static void tell(const char *what) {
        printf("AT %.3f %s\n", (double) now_us() / (double) SECOND, what);
        (void) fflush(stdout);
}

_Noreturn static void stop(const char *why) {
        tell(why);
        sync();
        (void) reboot(RB_POWER_OFF);
        for (;;)
                pause();
}

static void load(const char *path) {
        int fd = open(path, O_RDONLY);
        if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) < 0)
                stop("a module cannot be loaded");
}

/* ---- the guard's client */

static GuardMessage ask(GuardMessage request, int pidfd) {
        static uint64_t cookie;
        GuardMessage answer;
        struct cmsghdr passed[2] = { { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        memcpy(passed + 1, &pidfd, sizeof(int));
        request.version = GUARD_VERSION;
        request.cookie = ++cookie;
        struct iovec iov = { .iov_base = &request, .iov_len = sizeof(request) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = pidfd < 0 ? NULL : passed,
                            .msg_controllen = pidfd < 0 ? 0 : CMSG_SPACE(sizeof(int)) };
        if (sendmsg(guard_socket, &m, 0) < 0)
                stop("the guard does not listen");
        do
                if (recv(guard_socket, &answer, sizeof(answer), 0) != sizeof(answer))
                        stop("the guard does not answer");
        while (answer.cookie != request.cookie);
        return answer;
}

static pid_t start_guard(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET_PATH };
        pid_t pid = fork();
        if (pid == 0) {
                execl("/guard", "/guard", "--socket", SOCKET_PATH, "--watchdog", "/dev/watchdog", NULL);
                _exit(1);
        }
        for (;;) {
                (void) close(guard_socket);
                guard_socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
                if (connect(guard_socket, (struct sockaddr *) &address, sizeof(address)) == 0)
                        return pid;
                if (waitpid(pid, NULL, WNOHANG) == pid)
                        stop("the guard does not start");
                (void) usleep(5000);
        }
}

static void hold(int pidfd) {
        if (ask((GuardMessage) { .type = GUARD_HOLD, .epoch = 1, .vm = "vm" }, pidfd).answer != GUARD_OK)
                stop("the VM is not held");
}

static void lease(uint64_t for_us) {
        (void) ask((GuardMessage) { .type = GUARD_LEASE, .until_us = now_us() + for_us }, -1);
}

static void renew(unsigned seconds) {
        for (uint64_t end = now_us() + seconds * SECOND; now_us() < end; (void) usleep(200000))
                lease(3 * SECOND);
}

/* ---- scenes */

_Noreturn static void wait_for_reset(const char *why) {
        tell(why);
        for (unsigned i = 0; i < 100; i++) {
                (void) usleep(100000);
                tell("alive");
        }
        stop("DONE");
}

static void run(const char *scene, pid_t guard, pid_t vm, int pidfd) {
        if (strcmp(scene, "still") == 0) {
                (void) kill(guard, SIGSTOP);
                wait_for_reset("BEGINS");
        }
        if (strcmp(scene, "killed") == 0) {
                (void) kill(guard, SIGKILL);
                wait_for_reset("BEGINS");
        }
        if (strcmp(scene, "immortal") == 0) {
                int status = 0;
                (void) ptrace(PTRACE_SEIZE, vm, 0, PTRACE_O_TRACEEXIT);
                lease(SECOND / 2);
                while (status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8)) {
                        (void) ptrace(PTRACE_CONT, vm, 0, 0);
                        (void) waitpid(vm, &status, 0);
                }
                wait_for_reset("BEGINS");
        }
        if (strcmp(scene, "next") == 0) {
                (void) kill(guard, SIGKILL);
                (void) waitpid(guard, NULL, 0);
                guard = start_guard();          /* which holds the VM again by itself */
                renew(4);
        }
        if (strcmp(scene, "left") == 0) {
                (void) kill(guard, SIGTERM);
                (void) waitpid(guard, NULL, 0);
                (void) sleep(4);
                guard = start_guard();
                renew(4);
        }
        (void) kill(vm, SIGKILL);
        lease(SECOND / 2);
        (void) sleep(4);                /* the lease is over, and nothing lives */
        (void) kill(guard, SIGTERM);
        (void) waitpid(guard, NULL, 0);
        (void) sleep(4);
        stop("DONE");
}

int main(void) {
        const char *scene = getenv("scene");
        (void) mount("proc", "/proc", "proc", 0, NULL);
        (void) mount("dev", "/dev", "devtmpfs", 0, NULL);
        load("/watchdog.ko");
        load("/driver.ko");
        pid_t guard = start_guard();
        printf("TOLD %llu\n", (unsigned long long) ask((GuardMessage) { .type = GUARD_LIST }, -1).watchdog_us);
        pid_t vm = fork();
        while (vm == 0)
                pause();
        int pidfd = (int) syscall(SYS_pidfd_open, vm, 0);
        hold(pidfd);
        renew(4);
        run(scene ? scene : "", guard, vm, pidfd);
}
