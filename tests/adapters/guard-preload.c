/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stands between the guard and its C library, in LD_PRELOAD:
 *
 *  - GUARD_TEST_WATCHDOG=N: whatever the file, it answers as a watchdog device whose period is N seconds or, if N is 0,
 *    whatever it is told to be. What is written goes to the file.
 *  - GUARD_TEST_REFUSE=N: so many times the kernel refuses SIGKILL and SIGSTOP.
 *  - GUARD_TEST_LATE_STOP=N: it stands still for N ms before each SIGSTOP.
 *  - GUARD_TEST_LATE_AFTER_RECEIVE=N, GUARD_TEST_LATE_AFTER_SEND=N: it stands still for N ms when it has a client's
 *    request in hand, and when it has answered.
 *  - GUARD_TEST_NO_MEMORY=1: once it waits for the first time, asking for memory ends the process. */

#include <dlfcn.h>
#include <errno.h>
#include <linux/watchdog.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

static bool memory_is_out;

static void *next(const char *name) {
        void *function = dlsym(RTLD_NEXT, name);
        if (!function)
                _exit(99);
        return function;
}

/* ---- the device */

PUBLIC int ioctl(int fd, unsigned long request, ...) {
        static int period;
        va_list ap;
        va_start(ap, request);
        void *argument = va_arg(ap, void *);
        va_end(ap);
        const char *fixed = getenv("GUARD_TEST_WATCHDOG");
        if (!fixed || _IOC_TYPE(request) != WATCHDOG_IOCTL_BASE)
                return (int) syscall(SYS_ioctl, fd, request, argument);
        if (request == WDIOC_GETSUPPORT) {
                *(struct watchdog_info *) argument =
                        (struct watchdog_info) { .options = WDIOF_MAGICCLOSE, .identity = "stand-in" };
                return 0;
        }
        if (request == WDIOC_SETTIMEOUT)
                period = atoi(fixed) ? atoi(fixed) : *(const int *) argument;
        *(int *) argument = period;
        return 0;
}

/* ---- time */

static void stand_still(const char *name) {
        const char *ms = getenv(name);
        if (ms)
                (void) usleep((useconds_t) atoi(ms) * 1000);
}

/* ---- signals */

PUBLIC int pidfd_send_signal(int fd, int number, siginfo_t *info, unsigned flags) {
        static int left = -1;
        const char *most = getenv("GUARD_TEST_REFUSE");
        if (left < 0)
                left = most ? atoi(most) : 0;
        if ((number == SIGKILL || number == SIGSTOP) && left > 0) {
                left--;
                errno = EPERM;
                return -1;
        }
        if (number == SIGSTOP)
                stand_still("GUARD_TEST_LATE_STOP");
        return (int) syscall(SYS_pidfd_send_signal, fd, number, info, flags);
}

/* ---- messages */

PUBLIC ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
        ssize_t n = syscall(SYS_recvmsg, fd, message, flags);
        stand_still("GUARD_TEST_LATE_AFTER_RECEIVE");
        return n;
}

PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        ssize_t n = syscall(SYS_sendmsg, fd, message, flags);
        stand_still("GUARD_TEST_LATE_AFTER_SEND");
        return n;
}

/* ---- memory */

PUBLIC int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
        memory_is_out = getenv("GUARD_TEST_NO_MEMORY") != NULL;
        return (int) syscall(SYS_epoll_pwait, fd, events, most, timeout, NULL, (size_t) 8);
}

static void spend(const char *name) {
        if (!memory_is_out)
                return;
        static const char before[] = "the guard asked for memory after its start: ";
        (void) !write(STDERR_FILENO, before, sizeof(before) - 1);
        (void) !write(STDERR_FILENO, name, strlen(name));
        (void) !write(STDERR_FILENO, "\n", 1);
        abort();
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

PUBLIC void *malloc(size_t size) {
        spend("malloc");
        return __libc_malloc(size);
}

PUBLIC void *calloc(size_t n, size_t size) {
        spend("calloc");
        return __libc_calloc(n, size);
}

PUBLIC void *realloc(void *old, size_t size) {
        spend("realloc");
        return __libc_realloc(old, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size) {
        spend("aligned_alloc");
        return __libc_memalign(alignment, size);
}

PUBLIC void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
        spend("mmap");
        return (void *) syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}

PUBLIC void *sbrk(intptr_t more) {
        spend("sbrk");
        void *(*function)(intptr_t) = next("sbrk");
        return function(more);
}
