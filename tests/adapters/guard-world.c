/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guard-world.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/array.h"

#define ARGUMENTS_MAX 16U

static const char *guard_program;

void guard_world_init(int *argc, char ***argv) {
        g_test_init(argc, argv, NULL);
        guard_program = *argc > 1 ? (*argv)[1] : g_getenv("GPUPOOL_GUARD");
        g_assert_cmpint(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
        if (!guard_program)
                g_error("no guard given: argument 1 or GPUPOOL_GUARD");
}

const char *guard_world_preload(int argc, char **argv) {
        const char *preload = argc > 2 ? argv[2] : g_getenv("GUARD_PRELOAD");
        if (!preload)
                g_error("no guard-preload given: argument 2 or GUARD_PRELOAD");
        return preload;
}

uint64_t now_us(void) {
        struct timespec now;
        g_assert_cmpint(clock_gettime(CLOCK_BOOTTIME, &now), ==, 0);
        return (uint64_t) now.tv_sec * SECOND + (uint64_t) now.tv_nsec / 1000;
}

static void on_connected(bool anew, void *userdata) {
        World *w = userdata;
        w->n_connected++;
        if (w->link)
                guard_get_state(w->link, &w->met);
        w->n_anew += anew;
}

static void on_disconnected(void *userdata) {
        ((World *) userdata)->n_disconnected++;
}

static void on_died(const VmId *vm, uint64_t epoch, void *userdata) {
        World *w = userdata;
        w->n_died++;
        w->died_vm = *vm;
        w->died_epoch = epoch;
}

static void on_lease_ended(void *userdata) {
        World *w = userdata;
        w->n_ended++;
        w->n_died_at_end = w->n_died;
        w->connected_when_told = guard_link_is_connected(w->link);
}

static const GuardCallbacks callbacks = {
        .connected = on_connected,
        .disconnected = on_disconnected,
        .vm_died = on_died,
        .lease_ended = on_lease_ended,
};

void count_done(GuardResult result, void *userdata) {
        World *w = userdata;
        w->n_done++;
        w->result = result;
}

static void on_listed(GuardResult result, GuardEntry *entries, size_t n_entries, void *userdata) {
        World *w = userdata;
        w->n_done++;
        w->result = result;
        w->n_entries = n_entries;
        for (size_t i = 0; i < n_entries; i++) {
                w->entries[i] = entries[i];
                w->entries[i].pidfd = steal_fd(&entries[i].pidfd);
        }
}

void await(World *w, const unsigned *counter, unsigned value) {
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (*counter < value) {
                gint64 left = end - g_get_monotonic_time();
                g_assert_cmpint(left, >, 0);
                g_assert_cmpint(sd_event_run(w->event, (uint64_t) left), >=, 0);
        }
}

void await_instant(World *w, uint64_t instant_us) {
        for (uint64_t now; (now = now_us()) <= instant_us;)
                g_assert_cmpint(sd_event_run(w->event, instant_us - now + 1), >=, 0);
}

void start_guard(World *w) {
        const char *words[ARGUMENTS_MAX] = { guard_program, "--socket", w->socket_path };
        for (size_t i = 0; w->arguments[i]; i++)
                words[3 + i] = w->arguments[i];
        w->guard = fork();
        g_assert_cmpint(w->guard, >=, 0);
        if (w->guard == 0) {
                (void) umask(0117);     /* as its unit has it, with a group */
                if (getuid() == 0 && setgid(GUARD_GROUP) < 0)
                        _exit(126);
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);        /* which setgid() takes away */
                for (size_t i = 0; w->environment[i]; i += 2)
                        (void) setenv(w->environment[i], w->environment[i + 1], 1);
                execv(guard_program, (char **) words);
                _exit(127);
        }
}

void end_process(pid_t pid) {
        (void) kill(pid, SIGKILL);
        (void) kill(pid, SIGCONT);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* Runs the loop meanwhile. */
static int await_end(World *w, pid_t pid) {
        int status;
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        for (pid_t ended; (ended = waitpid(pid, &status, WNOHANG)) <= 0;) {
                g_assert_cmpint(ended, ==, 0);
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                if (w->event)
                        g_assert_cmpint(sd_event_run(w->event, 10 * MS), >=, 0);
                else
                        g_usleep(10 * MS);
        }
        return status;
}

uint64_t processor_time(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%i/schedstat", pid);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return g_ascii_strtoull(text, NULL, 10);
}

void kill_guard(World *w) {
        unsigned before = w->n_disconnected;
        end_process(w->guard);
        w->guard = 0;
        if (w->link)
                await(w, &w->n_disconnected, before + 1);
}

void start_next_guard(World *w) {
        unsigned before = w->n_connected, anew = w->n_anew;
        start_guard(w);
        await(w, &w->n_connected, before + 1);
        g_assert_cmpuint(w->n_anew, ==, anew + 1);
}

int await_end_of_guard(World *w) {
        int status = await_end(w, w->guard);
        w->guard = 0;
        return status;
}

static bool is_our_vm(const World *w, pid_t pid) {
        for (size_t i = 0; i < w->vms.n; i++)
                if (w->vms.items[i] == pid)
                        return true;
        return pid == w->guard;
}

/* It is of its guard's program, and a child of ours that is none of those that we know. */
pid_t find_remnant(const World *w) {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%i/children", getpid());
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) pids = g_strsplit(text, " ", -1);
        for (char **pid = pids; *pid; pid++)
                if (**pid && !is_our_vm(w, atoi(*pid)))
                        return atoi(*pid);
        return 0;
}

int await_end_of_remnant(World *w) {
        pid_t pid = find_remnant(w);
        g_assert_cmpint(pid, >, 0);
        return await_end(w, pid);
}

void world_prepare(World *w) {
        strcpy(w->folder, "/tmp/test-guard-XXXXXX");
        g_assert_nonnull(g_mkdtemp_full(w->folder, 0755));
        g_snprintf(w->socket_path, sizeof(w->socket_path), "%s/guard.sock", w->folder);
        g_snprintf(w->board_path, sizeof(w->board_path), "%s.lease", w->socket_path);
        start_guard(w);
}

void world_connect(World *w) {
        g_assert_cmpint(sd_event_new(&w->event), >=, 0);
        g_assert_cmpint(guard_link_new(&w->link, w->event, w->socket_path, &callbacks, w), ==, 0);
        await(w, &w->n_connected, 1);
}

void world_begin(World *w) {
        world_prepare(w);
        world_connect(w);
}

static void forget_entries(World *w) {
        for (size_t i = 0; i < w->n_entries; i++)
                close(w->entries[i].pidfd);
        w->n_entries = 0;
}

void end_vms(World *w) {
        for (size_t i = 0; i < w->vms.n; i++)
                end_process(w->vms.items[i]);
        w->vms.n = 0;
}

void world_end(World *w) {
        guard_link_free(w->link);
        sd_event_unref(w->event);
        forget_entries(w);
        end_vms(w);
        if (w->guard)
                end_process(w->guard);
        while (waitpid(-1, NULL, 0) > 0)
                ;                       /* what it left behind ends, as nothing lives */
        (void) unlink(w->socket_path);
        (void) unlink(w->board_path);
        g_assert_cmpint(rmdir(w->folder), ==, 0);
}

uint64_t in(uint64_t us) {
        return now_us() + us;
}

uint64_t just_passed(void) {
        return now_us() - 1000;
}

void sleep_until(uint64_t instant_us) {
        for (uint64_t now; (now = now_us()) <= instant_us;)
                g_usleep(instant_us - now + 1);
}

void play(bool (*scene)(uint64_t time_us), uint64_t time_us) {
        for (; !scene(time_us); time_us *= 2) {
                g_test_message("%.1f s were not enough", (double) time_us / (double) SECOND);
                g_assert_cmpuint(time_us, <, 60 * SECOND);
        }
}

VmId vm_id(unsigned n) {
        return (VmId) { { (uint8_t) n, (uint8_t) (n >> 8), 0xff } };
}

int start_vm(World *w, pid_t *ret_pid) {
        pid_t parent = getpid(), pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                while (getppid() == parent)
                        pause();
                _exit(1);
        }
        g_assert_cmpuint(w->vms.n, <, ELEMENTS(w->vms.items));
        w->vms.items[w->vms.n++] = pid;
        if (ret_pid)
                *ret_pid = pid;
        int fd = pidfd_open(pid, 0);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

/* As a process whose disk hangs: SIGKILL is there, and it does not come to die. Here it is the test that stops it, as
 * a debugger would, on its way to the end. */
int start_immortal_vm(World *w, pid_t *ret_pid) {
        int fd = start_vm(w, ret_pid);
        g_assert_cmpint(ptrace(PTRACE_SEIZE, *ret_pid, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL), ==, 0);
        return fd;
}

void await_death_throes(pid_t pid) {
        for (int status = 0; status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8);) {
                if (status)
                        g_assert_cmpint(ptrace(PTRACE_CONT, pid, 0, 0), ==, 0); /* another signal */
                g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
                g_assert_true(WIFSTOPPED(status));
        }
}

void let_die(pid_t pid) {
        g_assert_cmpint(ptrace(PTRACE_CONT, pid, 0, 0), ==, 0);
}

bool is_dead(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 0) == 1;
}

void await_death(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        g_assert_cmpint(poll(&p, 1, (int) (PATIENCE_US / MS)), ==, 1);
}

void await_stop(pid_t pid) {
        int status;
        g_assert_cmpint(waitpid(pid, &status, WUNTRACED), ==, pid);
        g_assert_true(WIFSTOPPED(status));
}

bool saw_stop(pid_t pid) {
        siginfo_t info = {};
        g_assert_cmpint(waitid(P_PID, (id_t) pid, &info, WSTOPPED | WEXITED | WNOWAIT), ==, 0);
        return info.si_code == CLD_STOPPED;
}

void await_continuation(pid_t pid) {
        int status;
        g_assert_cmpint(waitpid(pid, &status, WCONTINUED), ==, pid);
        g_assert_true(WIFCONTINUED(status));
}

GuardResult hold(World *w, unsigned vm, uint64_t epoch, int pidfd) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_hold(w->link, &id, epoch, pidfd, count_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

GuardResult kill_vm(World *w, unsigned vm, uint64_t epoch) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_kill(w->link, &id, epoch, KILL_TIMEOUT_US, count_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

GuardResult release(World *w, unsigned vm, uint64_t epoch) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_release(w->link, &id, epoch, count_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

GuardResult lease(World *w, uint64_t until_us, uint64_t hold_us) {
        unsigned before = w->n_done;
        g_assert_cmpint(guard_lease(w->link, until_us, hold_us, count_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

size_t list(World *w) {
        forget_entries(w);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_list(w->link, on_listed, w), ==, 0);
        await(w, &w->n_done, before + 1);
        g_assert_cmpint(w->result, ==, GUARD_CALL_OK);
        return w->n_entries;
}

GuardState guard_state(const World *w) {
        GuardState state;
        guard_get_state(w->link, &state);
        return state;
}

/* ---- whoever else speaks to the socket */

int connect_raw(const World *w) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        g_strlcpy(address.sun_path, w->socket_path, sizeof(address.sun_path));
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        g_assert_cmpint(fd, >=, 0);
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

ssize_t send_raw(int fd, const void *bytes, size_t size, const int *fds, size_t n_fds) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(16 * sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = (void *) bytes, .iov_len = size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (n_fds > 0) {
                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

GuardMessage receive_raw(int fd) {
        GuardMessage message = {};
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                            .msg_controllen = sizeof(control) };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        g_assert_cmpint(poll(&p, 1, (int) (PATIENCE_US / MS)), ==, 1);
        g_assert_cmpint(recvmsg(fd, &m, MSG_CMSG_CLOEXEC), ==, sizeof(message));
        const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        if (c) {
                int passed;
                memcpy(&passed, CMSG_DATA(c), sizeof(int));
                close(passed);
        }
        return message;
}
