/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-guard: holds the VMs' processes by their pidfds, for gpupoold and beyond its death, and kills them at the
 * deadline or when told to; guard-protocol.h says how. It takes no memory after its start, for the host may have none.
 * What the kernel refuses of that is said and lived without; without what it was asked for it does not start. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/watchdog.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "guard/guard-protocol.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define WATCHDOG_MOST_S 60              /* the longest that a cluster may wait for a node's death */
#define EXIT_REFUSED 78                 /* EX_CONFIG: another start would not mend it */
#define END(status, ...) (say(LOG_ERR, __VA_ARGS__), exit(status))
#define AGAIN_US 100000U                /* between two signals to what lives past the deadline */
#define WATCHDOG_SLACK_US 500000U       /* a device counts in whole seconds, and is not at once at it */
#define EACH(item, array) __typeof__(*array) *item = array; item < array + sizeof(array) / sizeof(*array); item++
#define IS_IN(pointer, array) ((char *) pointer >= (char *) array && (char *) pointer < (char *) array + sizeof(array))
enum { STAT_FLAGS = 9, STAT_START = 22 };       /* fields of /proc/PID/stat: proc(5) */

typedef struct Held {
        pid_t pid;                      /* 0: a free place */
        uint64_t start;                 /* tells the process from a later one of that number */
        int pidfd;
        bool dead, stopped;             /* perhaps: by this guard, or by one before it */
        GuardMessage request;           /* says which VM it is */
} Held;

/* A file, by which the next guard goes on. Another layout takes another name, too: one that left may be using this. */
#define BOARD_LAYOUT UINT64_C(0x6770756775617201)
typedef struct Board {
        uint64_t layout;
        uint64_t until_us, hold_us;     /* as the last lease said */
        Held guard;                     /* whose board it is */
        Held helds[GUARD_VMS_MAX];
} Board;

static Board *board;
static int clients[GUARD_CLIENTS_MAX];  /* 0: a free place; standard input is never a client */
static int epoll_fd, listen_fd, timer_fd, signal_fd, watchdog_fd = -1;
static uint64_t watchdog_us;            /* the device resets the host this long after the last pat; 0: there is none */
static uint64_t instance;               /* tells this guard from the one before: when it began */
static bool left;                       /* asked to end it did, but for the deadline */
static GuardStage stage;
static uint64_t due_us = UINT64_MAX;    /* the next signal: at the deadline, and then again and again */
static uint64_t kill_us = UINT64_MAX;   /* from then on the signal is SIGKILL */
static uint64_t pat_us;                 /* the next pat */
static bool refused;                    /* by the kernel: a signal of the last round */

/* One line to standard error, or none: it never waits, for a journal that hangs must not hold up a kill. */
__attribute__((format(printf, 2, 3))) static void say(int level, const char *format, ...) {
        static char line[512];
        va_list ap;
        va_start(ap, format);
        size_t n = (size_t) snprintf(line, sizeof(line), "<%i>", level);
        n += (size_t) vsnprintf(line + n, sizeof(line) - n, format, ap);
        va_end(ap);
        n = n < sizeof(line) ? n : sizeof(line) - 1;
        line[n++] = '\n';
        /* The journal's end is a socket. Elsewhere (a terminal, a file) what poll() promises is true for one line. */
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        if (send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ENOTSOCK &&
            poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(STDERR_FILENO, line, n) < 0)
                return;
}

static unsigned count_living(void) {
        unsigned n = 0;
        for (EACH(held, board->helds))
                n += held->pid && !held->dead;
        return n;
}

static bool watch(int fd, void *what) {
        return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event) { EPOLLIN, { .ptr = what } }) == 0;
}

static void drop_client(int *client, const char *why) {
        say(LOG_NOTICE, "a client leaves: %s", why);
        (void) close(*client);
        *client = 0;
}

/* A client that does not read loses its connection, and lists when it is back: nothing here ever waits for one. */
static void send_message(int *client, GuardMessage message, int fd) {
        message.version = GUARD_VERSION;
        message.instance = instance;
        message.until_us = board->until_us;
        message.hold_us = board->hold_us;
        message.watchdog_us = watchdog_us ? watchdog_us + WATCHDOG_SLACK_US : 0;
        message.stage = stage;
        struct cmsghdr passed[2] = { { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        memcpy(passed + 1, &fd, sizeof(int));
        struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = fd < 0 ? NULL : passed,
                            .msg_controllen = fd < 0 ? 0 : CMSG_SPACE(sizeof(int)) };
        if (*client > 0 && sendmsg(*client, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                drop_client(client, "it does not read what it is sent");
}

static void tell_all(GuardMessageType type, GuardMessage message) {
        message.type = type;
        message.cookie = 0;
        for (EACH(client, clients))
                send_message(client, message, -1);
}

static bool is_gone(int pidfd, int patience_ms) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, patience_ms) == 1 && (p.revents & POLLIN);
}

/* The truth now, not that of the last time we slept. A death is told to all, once. */
static bool is_dead(Held *held) {
        if (held->dead || !is_gone(held->pidfd, 0))
                return held->dead;
        held->dead = true;
        (void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, held->pidfd, NULL);
        say(LOG_INFO, "process %i of a VM is dead", held->pid);
        tell_all(GUARD_DIED, held->request);
        return true;
}

static bool sends(Held *held, int number) {
        held->stopped = number == SIGSTOP;
        return pidfd_send_signal(held->pidfd, number, NULL, 0) == 0 || errno == ESRCH;
}

static void signal_living(int number) {
        refused = false;
        for (EACH(held, board->helds))
                refused |= held->pid && !held->dead && (held->stopped || number != SIGCONT) && !sends(held, number);
}

/* Comes before all else, in every turn and before each request: who slept past the deadline kills first. */
static void keep_deadline(void) {
        uint64_t now = clock_boottime_us();
        if (now < due_us)
                return;
        GuardStage before = stage;
        stage = now >= kill_us ? GUARD_STAGE_KILLING : GUARD_STAGE_STOPPED;
        signal_living(stage == GUARD_STAGE_KILLING ? SIGKILL : SIGSTOP);
        due_us = stage == GUARD_STAGE_STOPPED && kill_us - now < AGAIN_US ? kill_us : now + AGAIN_US;
        if (stage != before && count_living() > 0)
                say(LOG_WARNING, "the lease has ended: %u VMs are %s%s", count_living(),
                    stage == GUARD_STAGE_KILLING ? "killed" : "stopped", refused ? "; the kernel refuses some" : "");
}

static void conclude(void) {
        if (stage == GUARD_STAGE_RUNNING || stage == GUARD_STAGE_ENDED || count_living() > 0)
                return;
        stage = GUARD_STAGE_ENDED;
        due_us = UINT64_MAX;
        kill_us = 0;                    /* what is held from now on is killed, without a hold */
        say(LOG_NOTICE, "the lease has ended, and of what was held nothing lives");
        tell_all(GUARD_ENDED, (GuardMessage) {});
}

static GuardAnswer take_lease(uint64_t until_us, uint64_t hold_us) {
        if (stage == GUARD_STAGE_KILLING)
                return GUARD_LEASE_ENDED;
        bool asked = stage == GUARD_STAGE_RUNNING && due_us == until_us;        /* for a sign of life only */
        if (stage != GUARD_STAGE_RUNNING)
                say(LOG_NOTICE, "there is a new lease");
        board->until_us = until_us;
        board->hold_us = hold_us;
        stage = GUARD_STAGE_RUNNING;
        due_us = until_us > 0 ? until_us : UINT64_MAX;
        if (__builtin_add_overflow(due_us, until_us == GUARD_AT_ONCE ? 0 : hold_us, &kill_us))
                kill_us = UINT64_MAX;
        keep_deadline();
        if (stage == GUARD_STAGE_RUNNING && !asked)
                signal_living(SIGCONT);
        return GUARD_OK;
}

/* Pats when it is time for that, and sets the timer for what comes next. */
static void pat_and_arm(void) {
        uint64_t now = clock_boottime_us(), at_us = due_us;
        if (watchdog_us && now < due_us && stage != GUARD_STAGE_KILLING && !(stage == GUARD_STAGE_STOPPED && refused)) {
                if (now >= pat_us && write(watchdog_fd, "", 1) < 0)
                        say(LOG_ERR, "the watchdog takes no pat: %m. It may reset this host");
                pat_us = now >= pat_us ? now + watchdog_us / 4 : pat_us;
                at_us = pat_us < due_us ? pat_us : due_us;
        }
        struct itimerspec when = { .it_value = { .tv_sec = (time_t) (at_us / 1000000),
                                                 .tv_nsec = 1 + (long) (at_us % 1000000) * 1000 } };
        (void) timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* The place of a VM; of NULL: a free one. */
static Held *find(const uint8_t *vm) {
        for (EACH(held, board->helds))
                if (vm ? held->pid && memcmp(held->request.vm, vm, sizeof(held->request.vm)) == 0 : !held->pid)
                        return held;
        return NULL;
}

/* The pid comes last and goes first: a guard that is killed meanwhile leaves a place that is free, or whole. */
static void put(Held *held, pid_t pid, Held what) {
        held->pid = 0;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        *held = what;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        held->pid = pid;
}

static void forget(Held *held) {
        (void) close(held->pidfd);
        put(held, 0, (Held) {});
}

/* What stands in a file of /proc, until the next call; of none that may wait for a VM, as /proc/PID/cmdline. */
static const char *read_proc(const char *before, int which, const char *after) {
        static char path[64], text[1024];
        (void) snprintf(path, sizeof(path), "/proc/%s%i%s", before, which, after);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        text[n < 0 ? 0 : n] = 0;
        return text;
}

/* 0: it cannot be seen. The process's name, field 2, ends with the last ')'. */
static uint64_t read_stat(pid_t pid, int field) {
        const char *at = strrchr(read_proc("", pid, "/stat"), ')');
        for (int i = 2; at && i < field; i++)
                at = strchr(at + 1, ' ');
        return at ? strtoull(at, NULL, 10) : 0;
}

/* Only what can be no VM: a guard that is wrong about one has it run without a guard. */
static bool is_other(int client, int pidfd, pid_t pid) {
        struct ucred peer = {};
        (void) getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t) { sizeof(peer) });
        /* O_EXCL is PIDFD_THREAD: the end of a thread is not that of its process. 0x00200000 is PF_KTHREAD. */
        return pid == 1 || pid == getpid() || pid == peer.pid || (fcntl(pidfd, F_GETFL) & O_EXCL) ||
               (read_stat(pid, STAT_FLAGS) & 0x00200000);
}

static GuardAnswer hold(int client, const GuardMessage *request, int *pidfd) {
        const char *found = strstr(read_proc("self/fdinfo/", *pidfd, ""), "\nPid:");
        pid_t pid = found ? (pid_t) strtol(found + strlen("\nPid:"), NULL, 10) : 0;
        if (pid == 0)                   /* -1: it is gone; 0: it is no pidfd, or cannot be seen from here */
                return GUARD_BAD_REQUEST;
        bool other = is_other(client, *pidfd, pid);
        uint64_t start = read_stat(pid, STAT_START);
        if (is_gone(*pidfd, 0))         /* if not, the number was this process's all the while */
                return GUARD_ALREADY_DEAD;
        if (other || start == 0)
                return GUARD_NOT_OURS;
        Held *held = find(request->vm);
        if (held && held->request.epoch > request->epoch)
                return GUARD_STALE;
        if (held && !is_dead(held) && (held->request.epoch != request->epoch || held->pid != pid))
                return GUARD_CONFLICT;
        if (held && held->dead)
                forget(held);
        if (!held || !held->pid) {
                held = find(NULL);
                if (!held || !watch(*pidfd, held))
                        return GUARD_FULL;
                put(held, pid, (Held) { 0, start, steal_fd(pidfd), false, true, *request });
        }
        if (stage == GUARD_STAGE_RUNNING)
                return GUARD_OK;
        due_us = 0;
        keep_deadline();
        return stage == GUARD_STAGE_STOPPED ? GUARD_OK : GUARD_LEASE_ENDED;
}

static GuardAnswer kill_or_release(const GuardMessage *request) {
        Held *held = find(request->vm);
        if (!held || held->request.epoch != request->epoch)
                return GUARD_NOT_HELD;
        if (request->type == GUARD_KILL)
                return is_dead(held) ? GUARD_ALREADY_DEAD : sends(held, SIGKILL) ? GUARD_OK : GUARD_REFUSED;
        if (!is_dead(held))
                return GUARD_ALIVE;
        forget(held);
        return GUARD_OK;
}

/* Makes an entry of the answer to LIST, if there is one. */
static GuardAnswer list(GuardMessage *message, int *ret_pidfd) {
        while (message->index < GUARD_VMS_MAX && !board->helds[message->index].pid)
                message->index++;
        if (message->index >= GUARD_VMS_MAX)
                return GUARD_END;
        Held *held = &board->helds[message->index];
        memcpy(message->vm, held->request.vm, sizeof(message->vm));
        message->epoch = held->request.epoch;
        message->alive = !is_dead(held);
        *ret_pidfd = held->pidfd;
        return GUARD_OK;
}

static void serve_client(int *client) {
        GuardMessage request = {};
        struct cmsghdr passed[2] = {};
        struct iovec iov = { .iov_base = &request, .iov_len = sizeof(request) };
        /* Room for one descriptor: the kernel closes others, and says so. */
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = passed,
                            .msg_controllen = CMSG_LEN(sizeof(int)) };
        ssize_t n = recvmsg(*client, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0) {
                if (n == 0 || (errno != EAGAIN && errno != EINTR))
                        drop_client(client, n == 0 ? "it closed the connection" : "its connection broke");
                return;
        }
        _cleanup_close_ int fd = -1;
        if (m.msg_controllen > 0 && passed->cmsg_level == SOL_SOCKET && passed->cmsg_type == SCM_RIGHTS)
                memcpy(&fd, passed + 1, sizeof(int));
        bool speaks = n == sizeof(request) && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && request.cookie != 0 &&
                      request.version == GUARD_VERSION && request.type >= GUARD_HOLD && request.type <= GUARD_LEASE &&
                      (fd < 0 || request.type == GUARD_HOLD);
        keep_deadline();
        int entry = -1;                 /* a pidfd that goes with it */
        request.answer = !speaks                       ? GUARD_BAD_REQUEST
                         : request.type == GUARD_HOLD  ? hold(*client, &request, &fd)
                         : request.type == GUARD_LIST  ? list(&request, &entry)
                         : request.type == GUARD_LEASE ? take_lease(request.until_us, request.hold_us)
                                                       : kill_or_release(&request);
        request.type = entry < 0 ? GUARD_ANSWER : GUARD_ENTRY;
        send_message(client, request, entry);
        if (!speaks && *client > 0)
                drop_client(client, "it speaks another protocol");
}

static void accept_client(void) {
        _cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct ucred peer = { .uid = (uid_t) -1 };
        (void) getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t) { sizeof(peer) });
        for (EACH(client, clients))
                if (fd >= 0 && !*client && (peer.uid == 0 || peer.gid == getegid()) && watch(fd, client)) {
                        *client = steal_fd(&fd);
                        return;
                }
        say(LOG_WARNING, "a client is refused: it is of group %u, or one of more than %u", peer.gid, GUARD_CLIENTS_MAX);
}

/* Above every ordinary process, below the threads of the kernel. For when memory is short the unit does the rest. */
static void get_out_of_reach(void) {
        if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
                say(LOG_WARNING, "no locked memory: %m. The guard is slow if the host swaps");
        if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param) { .sched_priority = 10 }) < 0)
                say(LOG_WARNING, "no realtime priority: %m. The guard is slow on a busy host");
}

/* While VMs live by a lease it leaves a process behind, which keeps their deadline until the next guard ends it. */
static void leave(void) {
        (void) close(signal_fd);
        if (watchdog_us && stage != GUARD_STAGE_KILLING && write(watchdog_fd, "V", 1) < 0)
                say(LOG_ERR, "the watchdog was not disarmed: %m");
        if (board->until_us == 0 || count_living() == 0) {
                board->until_us = 0;
                exit(EXIT_SUCCESS);
        }
        (void) close(watchdog_fd);      /* by both, before the next guard opens it */
        watchdog_us = 0;
        pid_t child = fork();
        if (child > 0) {
                put(&board->guard, child, (Held) { .start = read_stat(child, STAT_START) });
                exit(EXIT_SUCCESS);
        }
        left = child == 0;
        if (!left)
                return;                 /* there is no memory for it: it stays */
        (void) close(listen_fd);
        for (EACH(client, clients))
                if (*client)
                        drop_client(client, "the guard leaves");
        get_out_of_reach();
        say(LOG_NOTICE, "asked to end: the deadline of %u VMs is kept until another guard has them", count_living());
}

_Noreturn static void serve(void) {
        static struct epoll_event events[2 + GUARD_CLIENTS_MAX + GUARD_VMS_MAX];
        for (;;) {
                if (left && count_living() == 0)
                        exit(EXIT_SUCCESS);
                pat_and_arm();
                /* poll() would take memory from the kernel, and wait for it where there is none. */
                int n = epoll_wait(epoll_fd, events, sizeof(events) / sizeof(events[0]), -1);
                /* First kill, then talk; and deaths before what clients ask. */
                keep_deadline();
                for (int i = 0; i < n; i++)
                        if (IS_IN(events[i].data.ptr, board->helds))
                                (void) is_dead(events[i].data.ptr);
                conclude();
                for (int i = 0; i < n; i++)
                        if (events[i].data.ptr == &listen_fd)
                                accept_client();
                        else if (events[i].data.ptr == &signal_fd)
                                leave();
                        else if (IS_IN(events[i].data.ptr, clients) && *(int *) events[i].data.ptr)
                                serve_client(events[i].data.ptr);
        }
}

/* To open it is to arm it. A device that knows one period only refuses to be told; what counts is what it says then. */
static void open_watchdog(const char *path, int seconds) {
        int asked = seconds, real = 0;
        struct watchdog_info info = {};
        watchdog_fd = open(path, O_WRONLY | O_CLOEXEC);
        if (watchdog_fd < 0 || ioctl(watchdog_fd, WDIOC_GETSUPPORT, &info) < 0)
                END(EXIT_REFUSED, "the watchdog %s cannot be used: %m. If it is busy another program has it, as "
                    "systemd by RuntimeWatchdogSec=; see gpupool-guard(8)", path);
        (void) ioctl(watchdog_fd, WDIOC_SETTIMEOUT, &asked);
        if (ioctl(watchdog_fd, WDIOC_GETTIMEOUT, &real) < 0 || real <= 0 || real > seconds) {
                (void) !write(watchdog_fd, "V", 1);
                END(EXIT_REFUSED, "the watchdog %s (%.32s) resets this host after %i s (0: it does not say), not after "
                    "%i: name another device, or a longer --watchdog-timeout", path, info.identity, real, seconds);
        }
        say(LOG_INFO, "the watchdog %s (%.32s) resets this host %i s after the last pat%s", path, info.identity, real,
            info.options & WDIOF_MAGICCLOSE ? "" : "; when the guard crashes it may not: it knows no magic close");
        watchdog_us = (uint64_t) real * 1000000;
}

static void open_board(const char *socket_path) {
        char path[128];
        (void) snprintf(path, sizeof(path), "%s.lease", socket_path);
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        off_t size = lseek(fd, 0, SEEK_END);
        board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (board == MAP_FAILED || ftruncate(fd, sizeof(Board)) < 0 || (errno = posix_fallocate(fd, 0, sizeof(Board))))
                END(EXIT_FAILURE, "%s cannot be had: %m", path);
        if (size == sizeof(*board) && board->layout == BOARD_LAYOUT)
                return;
        if (size > 0)
                say(LOG_WARNING, "%s is damaged: what a guard before this one held is not known", path);
        memset(board, 0, sizeof(*board));
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        board->layout = BOARD_LAYOUT;
}

/* False: it is dead, whosever its number is now. */
static bool open_again(Held *held) {
        held->pidfd = pidfd_open(held->pid, 0);
        if (held->pidfd < 0 && errno != ESRCH && errno != EINVAL)
                END(EXIT_FAILURE, "process %i cannot be held again, and may live: %m", held->pid);
        return held->pidfd >= 0 && held->start > 0 && read_stat(held->pid, STAT_START) == held->start &&
               !is_other(-1, held->pidfd, held->pid);
}

/* Goes on where the guard before was. If that one lives it ends first. Nothing is forgotten that may live. */
static void take_over(void) {
        if (open_again(&board->guard) && sends(&board->guard, SIGKILL))
                (void) is_gone(board->guard.pidfd, 1000);
        (void) close(board->guard.pidfd);
        put(&board->guard, getpid(), (Held) { .start = read_stat(getpid(), STAT_START) });
        for (EACH(held, board->helds)) {
                held->dead = false;
                held->stopped = true;
                if (!open_again(held) || !watch(held->pidfd, held))
                        forget(held);
        }
        (void) take_lease(board->until_us, board->hold_us);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "socket", required_argument, NULL, 's' }, { "watchdog", required_argument, NULL, 'w' },
                { "watchdog-timeout", required_argument, NULL, 't' }, {},
        };
        const char *path = GUARD_SOCKET_PATH, *watchdog = NULL, *timeout = "2";
        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                if (c == '?')
                        return EXIT_REFUSED;
                *(c == 's' ? &path : c == 'w' ? &watchdog : &timeout) = optarg;
        }
        char *rest;
        long seconds = strtol(timeout, &rest, 10);
        if (*rest || seconds < 1 || seconds > WATCHDOG_MOST_S)
                END(EXIT_REFUSED, "--watchdog-timeout is 1 to %i seconds, and not %s", WATCHDOG_MOST_S, timeout);
        sigset_t ending = {};
        sigaddset(&ending, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &ending, NULL);
        signal_fd = signalfd(-1, &ending, SFD_CLOEXEC);
        /* Who may connect is for the unit's mask and group to say; the group is looked at again then. */
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if ((size_t) snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= sizeof(address.sun_path))
                END(EXIT_REFUSED, "%s is too long for the path of a socket", path);
        listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void) unlink(path);
        if (bind(listen_fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
            listen(listen_fd, GUARD_CLIENTS_MAX) < 0)
                END(EXIT_FAILURE, "%s cannot be listened at: %m", path);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        open_board(path);
        if (!watch(listen_fd, &listen_fd) || !watch(timer_fd, &timer_fd) || !watch(signal_fd, &signal_fd))
                END(EXIT_FAILURE, "there is no timer, or no signal: %m");
        instance = clock_boottime_us();
        if (watchdog)
                open_watchdog(watchdog, (int) seconds);
        get_out_of_reach();
        take_over();
        say(LOG_INFO, "listening at %s, with %u VMs of the guard before this one", path, count_living());
        serve();
}
