/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-guard: holds the VMs' processes by their pidfds, for gpupoold and beyond its death, and kills them at the
 * deadline or when told to; guard-protocol.h says how. All its memory is static: it must work when the host has none
 * left. What the kernel refuses of that is said and lived without; without what it was asked for it does not start.
 *
 * Asked to end while VMs live by a lease, it leaves a process behind that keeps their deadline and does no more, until
 * they are dead, or the next guard has a lease: gpupoold gives it one when it has given it all VMs. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/watchdog.h>
#include <poll.h>
#include <pwd.h>
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
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "guard/guard-protocol.h"
#include "util/cleanup.h"

#define PRIORITY 10                     /* above every ordinary process, below the kernel's own threads */
#define WATCHDOG_MOST_S 60              /* the longest that a cluster may wait for a node's death */
#define EXIT_REFUSED 78                 /* EX_CONFIG: another start would not mend it */
#define REFUSE(...) (say(LOG_ERR, __VA_ARGS__), exit(EXIT_REFUSED))
#define AGAIN_US 100000U                /* between two signals to what lives past the deadline */
#define LOOK_US 500000U                 /* how often one that left looks for the next guard */
#define WATCHDOG_SLACK_US 500000U       /* a device counts in whole seconds, and is not at once at it */
#define EACH(item, array) __typeof__(*array) *item = array; item < array + sizeof(array) / sizeof(*array); item++
#define IS_IN(pointer, array) ((char *) pointer >= (char *) array && (char *) pointer < (char *) array + sizeof(array))

typedef struct Held {
        int pidfd;                      /* 0: a free place; standard input is never a VM or a client */
        pid_t pid;
        bool dead;
        bool may_be_stopped;            /* by this guard, or by one before it */
        GuardMessage request;           /* says which VM it is */
} Held;

static Held helds[GUARD_VMS_MAX];
static int clients[GUARD_CLIENTS_MAX];  /* 0: a free place */
static int epoll_fd, listen_fd, timer_fd, watchdog_fd;
static uint64_t watchdog_us;            /* the device resets the host this long after the last pat; 0: there is none */
static uid_t peer_uid;                  /* who may speak to the guard, beside root */
static uint64_t instance;               /* tells this run from the one before */
static volatile sig_atomic_t end;       /* asked to */
static bool left;                       /* it did, but for the deadline */
static volatile GuardMessage *board;    /* shows those that left the instance and the deadline of the one that serves */
static GuardStage stage;
static uint64_t until_us, hold_us;      /* as the last lease said */
static uint64_t due_us = UINT64_MAX;    /* the next signal: at the deadline, and then again and again */
static uint64_t kill_us = UINT64_MAX;   /* from then on the signal is SIGKILL */
static uint64_t pat_us;                 /* the next pat */
static bool refused;                    /* by the kernel: a signal of the last round */

/* One line to standard error, or none: it never waits and never allocates, for a journal that hangs must not hold up a
 * kill. Errors are told by their name (ENOMEM). */
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

static uint64_t now_us(void) {
        struct timespec now;
        (void) clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static unsigned count_living(void) {
        unsigned n = 0;
        for (EACH(held, helds))
                n += held->pidfd > 0 && !held->dead;
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
        message.until_us = until_us;
        message.hold_us = hold_us;
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

static bool is_gone(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* The truth now, not that of the last time we slept. A death is told to all, once. */
static bool is_dead(Held *held) {
        if (held->dead || !is_gone(held->pidfd))
                return held->dead;
        held->dead = true;
        (void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, held->pidfd, NULL);
        say(LOG_INFO, "process %i of a VM is dead", held->pid);
        tell_all(GUARD_DIED, held->request);
        return true;
}

/* ---- the deadline */

static bool send_signal(Held *held, int number) {
        held->may_be_stopped = number == SIGSTOP;
        return pidfd_send_signal(held->pidfd, number, NULL, 0) == 0 || errno == ESRCH;
}

static void signal_living(int number) {
        refused = false;
        for (EACH(held, helds))
                if (held->pidfd > 0 && !held->dead && (number != SIGCONT || held->may_be_stopped))
                        refused |= !send_signal(held, number);
}

/* Comes before all else, in every turn and before each request: who slept past the deadline kills first. */
static void keep_deadline(void) {
        uint64_t now = now_us();
        if (left && board->instance != instance && board->until_us > now) {
                signal_living(SIGCONT);
                exit(EXIT_SUCCESS);
        }
        if (now < due_us)
                return;
        GuardStage before = stage;
        stage = now >= kill_us ? GUARD_STAGE_KILLING : GUARD_STAGE_STOPPED;
        signal_living(stage == GUARD_STAGE_KILLING ? SIGKILL : SIGSTOP);
        due_us = stage == GUARD_STAGE_STOPPED && kill_us - now < AGAIN_US ? kill_us : now + AGAIN_US;
        if (stage != before && count_living() > 0)
                say(LOG_WARNING, "the lease has ended: %u VMs are %s%s", count_living(),
                    stage == GUARD_STAGE_KILLING ? "killed" : "stopped, until there is another or their time is up",
                    refused ? "; for some the kernel refuses it (CapabilityBoundingSet=?)" : "");
}

static void conclude(void) {
        if (stage == GUARD_STAGE_RUNNING || stage == GUARD_STAGE_ENDED || count_living() > 0)
                return;
        stage = GUARD_STAGE_ENDED;
        due_us = UINT64_MAX;
        say(LOG_NOTICE, "the lease has ended, and of what was held nothing lives");
        tell_all(GUARD_ENDED, (GuardMessage) {});
}

static GuardAnswer take_lease(const GuardMessage *request) {
        if (stage == GUARD_STAGE_KILLING)
                return GUARD_LEASE_ENDED;
        if (stage != GUARD_STAGE_RUNNING)
                say(LOG_NOTICE, "there is a new lease");
        stage = GUARD_STAGE_RUNNING;
        until_us = request->until_us;
        hold_us = request->hold_us;
        due_us = until_us > 0 ? until_us : UINT64_MAX;
        if (__builtin_add_overflow(due_us, until_us == GUARD_AT_ONCE ? 0 : hold_us, &kill_us))
                kill_us = UINT64_MAX;
        board->until_us = due_us;
        keep_deadline();
        if (stage == GUARD_STAGE_RUNNING)
                signal_living(SIGCONT);
        return GUARD_OK;
}

/* Pats when it is time for that, and sets the timer for what comes next. */
static void pat_and_arm(void) {
        uint64_t now = now_us(), at_us = left && due_us > now + LOOK_US ? now + LOOK_US : due_us;
        if (watchdog_us && now < due_us && stage != GUARD_STAGE_KILLING && !(stage == GUARD_STAGE_STOPPED && refused)) {
                if (now >= pat_us && write(watchdog_fd, "", 1) < 0)
                        say(LOG_ERR, "the watchdog takes no pat (%s): it may reset this host", strerrorname_np(errno));
                pat_us = now >= pat_us ? now + watchdog_us / 4 : pat_us;
                at_us = pat_us < due_us ? pat_us : due_us;
        }
        struct itimerspec when = { .it_value = { .tv_sec = (time_t) (at_us / 1000000),
                                                 .tv_nsec = 1 + (long) (at_us % 1000000) * 1000 } };
        (void) timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* ---- what is held */

/* The place of a VM; of NULL: a free one. */
static Held *find(const uint8_t *vm) {
        for (EACH(held, helds))
                if (vm ? held->pidfd > 0 && memcmp(held->request.vm, vm, sizeof(held->request.vm)) == 0 : !held->pidfd)
                        return held;
        return NULL;
}

/* The number behind @mark, or @otherwise, in a file of /proc; in none that may wait for a VM, as /proc/PID/cmdline. */
static long read_number(const char *before, int which, const char *after, const char *mark, long otherwise) {
        char path[64], text[4096];
        (void) snprintf(path, sizeof(path), "/proc/%s%i%s", before, which, after);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        text[n < 0 ? 0 : n] = 0;
        const char *found = strstr(text, mark);
        return found ? strtol(found + strlen(mark), NULL, 10) : otherwise;
}

/* Only what can be no VM: a guard that is wrong about one has it run without a guard. */
static bool is_other(int client, int pidfd, pid_t pid) {
        struct ucred peer = {};
        (void) getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t) { sizeof(peer) });
        if (pid == 1 || pid == getpid() || pid == peer.pid || (fcntl(pidfd, F_GETFL) & O_EXCL))
                return true;            /* O_EXCL is PIDFD_THREAD: the end of a thread is not that of its process */
        /* A thread of the kernel has no memory of its own. Where /proc hides it, it cannot be told. */
        return read_number("", pid, "/status", "\nVmSize:", -1) < 0 &&
               read_number("", pid, "/status", "\nTgid:", -1) == pid;
}

static GuardAnswer hold(int client, const GuardMessage *request, int *pidfd) {
        /* -1: it is gone; 0: it is another kind of descriptor, or of a process that cannot be seen from here. */
        pid_t pid = (pid_t) read_number("self/fdinfo/", *pidfd, "", "\nPid:", 0);
        if (pid == 0)
                return GUARD_BAD_REQUEST;
        bool other = is_other(client, *pidfd, pid);
        if (is_gone(*pidfd))            /* if not, the number was this process's all the while */
                return GUARD_ALREADY_DEAD;
        if (other)
                return GUARD_NOT_OURS;
        if (stage != GUARD_STAGE_RUNNING)
                return GUARD_LEASE_ENDED;

        Held *held = find(request->vm);
        if (held && held->request.epoch > request->epoch)
                return GUARD_STALE;
        if (held && !is_dead(held))
                return held->request.epoch == request->epoch && held->pid == pid ? GUARD_OK : GUARD_CONFLICT;
        if (held)
                (void) close(held->pidfd);
        else
                held = find(NULL);
        if (!held || !watch(*pidfd, held))
                return GUARD_FULL;
        *held = (Held) { .pidfd = steal_fd(pidfd), .pid = pid, .may_be_stopped = true, .request = *request };
        say(LOG_INFO, "process %i of a VM is held", pid);
        return GUARD_OK;
}

static GuardAnswer kill_or_release(const GuardMessage *request) {
        Held *held = find(request->vm);
        if (!held || held->request.epoch != request->epoch)
                return GUARD_NOT_HELD;
        bool dead = is_dead(held);
        if (request->type == GUARD_RELEASE && dead) {
                (void) close(held->pidfd);
                *held = (Held) {};
        }
        if (request->type == GUARD_RELEASE || dead)
                return request->type == GUARD_KILL ? GUARD_ALREADY_DEAD : dead ? GUARD_OK : GUARD_ALIVE;
        return send_signal(held, SIGKILL) ? GUARD_OK : GUARD_REFUSED;
}

/* Makes an entry of the answer to LIST, if there is one. */
static GuardAnswer list(GuardMessage *message, int *ret_pidfd) {
        for (; message->index < GUARD_VMS_MAX; message->index++) {
                Held *held = &helds[message->index];
                if (!held->pidfd)
                        continue;
                memcpy(message->vm, held->request.vm, sizeof(message->vm));
                message->epoch = held->request.epoch;
                message->alive = !is_dead(held);
                *ret_pidfd = held->pidfd;
                return GUARD_OK;
        }
        return GUARD_END;
}

/* ---- clients */

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
                         : request.type == GUARD_LEASE ? take_lease(&request)
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
                if (fd >= 0 && !*client && (peer.uid == 0 || peer.uid == peer_uid) && watch(fd, client)) {
                        *client = steal_fd(&fd);
                        return;
                }
        say(LOG_WARNING, "a client is refused: it is of user %u, or one of more than %u", peer.uid, GUARD_CLIENTS_MAX);
}

/* The unit does the rest: the score for a lack of memory, and memory that is left to the guard. */
static void get_out_of_reach(void) {
        if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
                say(LOG_WARNING, "no locked memory (%s): the guard is slow if the host swaps", strerrorname_np(errno));
        if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param) { .sched_priority = PRIORITY }) < 0)
                say(LOG_WARNING, "no realtime priority (%s): the guard is slow on a busy host", strerrorname_np(errno));
}

/* Asked to end, or it did, and nothing lives any more. */
static void leave(void) {
        bool needed = until_us > 0 && count_living() > 0;
        end = 0;
        if (left && needed)
                return;
        if (watchdog_us && stage != GUARD_STAGE_KILLING && write(watchdog_fd, "V", 1) < 0)
                say(LOG_ERR, "the watchdog was not disarmed (%s)", strerrorname_np(errno));
        pid_t child = needed ? fork() : 1;
        if (child > 0)
                exit(EXIT_SUCCESS);
        if (child < 0)
                return;                 /* there is no memory for it: it stays */
        left = true;
        (void) close(listen_fd);
        for (EACH(client, clients))
                if (*client)
                        drop_client(client, "the guard leaves");
        if (watchdog_us)
                (void) close(watchdog_fd);
        watchdog_us = 0;
        get_out_of_reach();
        say(LOG_NOTICE, "asked to end: the deadline of %u VMs is kept until another guard has them", count_living());
}

_Noreturn static void serve(const sigset_t *wait_mask) {
        static struct epoll_event events[2 + GUARD_CLIENTS_MAX + GUARD_VMS_MAX];
        for (;;) {
                if (end || (left && count_living() == 0))
                        leave();
                pat_and_arm();
                /* poll() would take memory from the kernel, and wait for it where there is none. */
                int n = epoll_pwait(epoll_fd, events, sizeof(events) / sizeof(events[0]), -1, wait_mask);
                /* First kill, then talk; and deaths before what clients ask. */
                keep_deadline();
                for (int i = 0; i < n; i++)
                        if (IS_IN(events[i].data.ptr, helds))
                                (void) is_dead(events[i].data.ptr);
                conclude();
                for (int i = 0; i < n; i++)
                        if (events[i].data.ptr == &listen_fd)
                                accept_client();
                        else if (IS_IN(events[i].data.ptr, clients) && *(int *) events[i].data.ptr)
                                serve_client(events[i].data.ptr);
        }
}

/* ---- the start */

static void on_end(int signal_number) {
        end = 1;
}

/* The socket is for the group that the unit runs the guard in; who speaks is looked at again when it connects. */
static int listen_at(const char *path, gid_t group) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if ((size_t) snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= sizeof(address.sun_path))
                REFUSE("%s is too long for the path of a socket", path);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void) umask(0117);
        (void) unlink(path);
        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, GUARD_CLIENTS_MAX) < 0)
                REFUSE("%s cannot be listened at: %s", path, strerrorname_np(errno));
        if (getegid() != group && chown(path, (uid_t) -1, group) < 0)
                say(LOG_WARNING, "%s cannot be given to its group (%s): only root may connect", path,
                    strerrorname_np(errno));
        return fd;
}

/* To open it is to arm it. A device that knows one period only refuses to be told; what counts is what it says then. */
static void open_watchdog(const char *path, int seconds) {
        int asked = seconds, real = 0;
        struct watchdog_info info = {};
        watchdog_fd = open(path, O_WRONLY | O_CLOEXEC);
        if (watchdog_fd < 0 || ioctl(watchdog_fd, WDIOC_GETSUPPORT, &info) < 0)
                REFUSE("the watchdog %s cannot be used (%s). EBUSY: another program has it, as systemd by "
                       "RuntimeWatchdogSec=; ENOTTY: it is none; see gpupool-guard(8)", path, strerrorname_np(errno));
        (void) ioctl(watchdog_fd, WDIOC_SETTIMEOUT, &asked);
        if (ioctl(watchdog_fd, WDIOC_GETTIMEOUT, &real) < 0 || real <= 0 || real > seconds) {
                (void) !write(watchdog_fd, "V", 1);
                REFUSE("the watchdog %s (%.32s) resets this host after %i s (0: it does not say), and %i s were asked "
                       "for: name another device, or a longer --watchdog-timeout; failover then takes longer, too",
                       path, (const char *) info.identity, real, seconds);
        }
        say(LOG_INFO, "the watchdog %s (%.32s) resets this host %i s after the last pat%s", path,
            (const char *) info.identity, real,
            info.options & WDIOF_MAGICCLOSE ? "" : ", but not when the guard crashes: it knows no magic close");
        watchdog_us = (uint64_t) real * 1000000;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "socket", required_argument, NULL, 's' },
                { "user", required_argument, NULL, 'u' },
                { "watchdog", required_argument, NULL, 'w' },
                { "watchdog-timeout", required_argument, NULL, 't' },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'v' },
                {},
        };
        const char *path = GUARD_SOCKET_PATH, *user = "gpupool", *watchdog = NULL, *timeout = "2";
        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                if (c == 'h' || c == '?')
                        return fputs("gpupool-guard [--socket PATH] [--user NAME] [--watchdog PATH] "
                                     "[--watchdog-timeout SECONDS]\n", c == 'h' ? stdout : stderr) >= 0 && c == 'h'
                               ? EXIT_SUCCESS : EXIT_REFUSED;
                if (c == 'v')
                        return puts("gpupool-guard " GPUPOOL_VERSION) < 0;
                *(c == 's' ? &path : c == 'u' ? &user : c == 'w' ? &watchdog : &timeout) = optarg;
        }
        char board_path[128], *rest;
        long seconds = strtol(timeout, &rest, 10);
        if (*rest || seconds < 1 || seconds > WATCHDOG_MOST_S)
                REFUSE("--watchdog-timeout is 1 to %i seconds, and not %s", WATCHDOG_MOST_S, timeout);
        const struct passwd *peer = getpwnam(user);
        if (!peer)
                REFUSE("there is no user %s, who is to speak to the guard: make it by systemd-sysusers", user);

        sigset_t ending = {}, wait_mask;        /* signals while it waits: what ends it is blocked elsewhere */
        sigaddset(&ending, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &ending, &wait_mask);
        (void) signal(SIGTERM, on_end);
        peer_uid = peer->pw_uid;
        listen_fd = listen_at(path, peer->pw_gid);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        (void) snprintf(board_path, sizeof(board_path), "%s.lease", path);
        int fd = open(board_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (board == MAP_FAILED || ftruncate(fd, sizeof(*board)) < 0 || !watch(listen_fd, &listen_fd) ||
            !watch(timer_fd, &timer_fd) || getrandom(&instance, sizeof(instance), 0) < 0)
                REFUSE("no %s, or no timer (%s)", board_path, strerrorname_np(errno));
        instance |= 1;                  /* 0 is none */
        board->instance = instance;
        board->until_us = 0;
        if (watchdog)
                open_watchdog(watchdog, (int) seconds);
        get_out_of_reach();
        say(LOG_INFO, "listening at %s", path);
        serve(&wait_mask);
}
