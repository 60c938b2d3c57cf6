/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The real guard, real processes, the real link. The guard's program is argument 1 (or GPUPOOL_GUARD). */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/guard/guard-link.h"
#include "guard/guard-protocol.h"
#include "util/array.h"
#include "util/text.h"

#define PATIENCE_US (10ULL * 1000 * 1000)
#define KILL_TIMEOUT_US (5ULL * 1000 * 1000)

static const char *guard_program;

typedef struct Processes {
        pid_t items[64];
        size_t n;
} Processes;

/* A guard, a link to it, and what the link said. */
typedef struct World {
        char folder[64], socket_path[128];
        pid_t guard;
        sd_event *event;
        GuardLink *link;
        Processes vms;
        unsigned n_connected, n_anew, n_disconnected, n_died, n_done;
        VmId died_vm;
        uint64_t died_epoch;
        GuardResult result;
        GuardEntry entries[GUARD_VMS_MAX];      /* their pidfds are ours */
        size_t n_entries;
} World;

static void on_connected(bool anew, void *userdata) {
        World *w = userdata;
        w->n_connected++;
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

static const GuardCallbacks callbacks = {
        .connected = on_connected,
        .disconnected = on_disconnected,
        .vm_died = on_died,
};

static void on_done(GuardResult result, void *userdata) {
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

/* Runs the loop until *@counter has reached @value. */
static void await(World *w, const unsigned *counter, unsigned value) {
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (*counter < value) {
                gint64 left = end - g_get_monotonic_time();
                g_assert_cmpint(left, >, 0);
                g_assert_cmpint(sd_event_run(w->event, (uint64_t) left), >=, 0);
        }
}

static void start_guard(World *w) {
        const struct passwd *user = getpwuid(getuid() == 0 ? 65534 : getuid());
        g_assert_nonnull(user);
        w->guard = fork();
        g_assert_cmpint(w->guard, >=, 0);
        if (w->guard == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                execl(guard_program, guard_program, "--socket", w->socket_path, "--user", user->pw_name, NULL);
                _exit(127);
        }
}

static void end_process(pid_t pid) {
        (void) kill(pid, SIGKILL);
        (void) kill(pid, SIGCONT);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void world_begin(World *w) {
        *w = (World) {};
        strcpy(w->folder, "/tmp/test-guard-XXXXXX");
        g_assert_nonnull(g_mkdtemp_full(w->folder, 0755));
        g_snprintf(w->socket_path, sizeof(w->socket_path), "%s/guard.sock", w->folder);
        start_guard(w);
        g_assert_cmpint(sd_event_new(&w->event), >=, 0);
        g_assert_cmpint(guard_link_new(&w->link, w->event, w->socket_path, &callbacks, w), ==, 0);
        await(w, &w->n_connected, 1);
}

static void forget_entries(World *w) {
        for (size_t i = 0; i < w->n_entries; i++)
                close(w->entries[i].pidfd);
        w->n_entries = 0;
}

static void world_end(World *w) {
        guard_link_free(w->link);
        sd_event_unref(w->event);
        forget_entries(w);
        for (size_t i = 0; i < w->vms.n; i++)
                end_process(w->vms.items[i]);
        end_process(w->guard);
        g_assert_cmpint(unlink(w->socket_path), ==, 0);
        g_assert_cmpint(rmdir(w->folder), ==, 0);
}
#define WORLD _cleanup_(world_end) World w; world_begin(&w)

static VmId vm_id(unsigned n) {
        return (VmId) { { (uint8_t) n, (uint8_t) (n >> 8), 0xff } };
}

/* A process that stands for a VM's. Returns its pidfd. */
static int start_vm(World *w, pid_t *ret_pid) {
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        w->vms.items[w->vms.n++] = pid;
        if (ret_pid)
                *ret_pid = pid;
        int fd = pidfd_open(pid, 0);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

static GuardResult hold(World *w, unsigned vm, uint64_t epoch, int pidfd) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_hold(w->link, &id, epoch, pidfd, on_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

static GuardResult kill_vm(World *w, unsigned vm, uint64_t epoch) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_kill(w->link, &id, epoch, KILL_TIMEOUT_US, on_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

static GuardResult release(World *w, unsigned vm, uint64_t epoch) {
        VmId id = vm_id(vm);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_release(w->link, &id, epoch, on_done, w), ==, 0);
        await(w, &w->n_done, before + 1);
        return w->result;
}

static size_t list(World *w) {
        forget_entries(w);
        unsigned before = w->n_done;
        g_assert_cmpint(guard_list(w->link, on_listed, w), ==, 0);
        await(w, &w->n_done, before + 1);
        g_assert_cmpint(w->result, ==, GUARD_CALL_OK);
        return w->n_entries;
}

static bool is_dead(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 0) == 1;
}

static void test_a_vm_that_is_held_is_listed_with_its_process(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpuint(list(&w), ==, 1);
        VmId id = vm_id(1);
        g_assert_true(ID_EQUAL(&w.entries[0].vm, &id));
        g_assert_cmpuint(w.entries[0].epoch, ==, 7);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpint(pidfd_send_signal(w.entries[0].pidfd, SIGKILL, NULL, 0), ==, 0);
        await(&w, &w.n_died, 1);
        g_assert_true(is_dead(vm));
}

static void test_a_death_is_told_unasked(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        await(&w, &w.n_died, 1);
        VmId id = vm_id(1);
        g_assert_true(ID_EQUAL(&w.died_vm, &id));
        g_assert_cmpuint(w.died_epoch, ==, 7);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_false(w.entries[0].alive);
}

static void test_a_kill_is_done_when_the_process_is_dead(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_true(is_dead(vm));
        g_assert_cmpuint(w.n_died, ==, 1);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
}

static void test_a_kill_names_the_epoch(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 6), ==, GUARD_CALL_NOT_HELD);
        g_assert_cmpint(kill_vm(&w, 1, 8), ==, GUARD_CALL_NOT_HELD);
        g_assert_cmpint(kill_vm(&w, 2, 7), ==, GUARD_CALL_NOT_HELD);
        g_assert_false(is_dead(vm));
}

static void test_only_the_dead_are_released(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(release(&w, 1, 7), ==, GUARD_CALL_ALIVE);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_cmpint(release(&w, 1, 6), ==, GUARD_CALL_NOT_HELD);
        g_assert_cmpint(release(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_cmpint(release(&w, 1, 7), ==, GUARD_CALL_NOT_HELD);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_one_process_is_held_for_a_vm(void) {
        WORLD;
        _cleanup_close_ int first = start_vm(&w, NULL), second = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, first), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 1, 7, first), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 1, 7, second), ==, GUARD_CALL_CONFLICT);
        g_assert_cmpint(hold(&w, 1, 8, second), ==, GUARD_CALL_CONFLICT);
        g_assert_cmpint(hold(&w, 1, 8, first), ==, GUARD_CALL_CONFLICT);
        g_assert_cmpint(hold(&w, 1, 6, second), ==, GUARD_CALL_STALE);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 1, 6, second), ==, GUARD_CALL_STALE);
        g_assert_cmpint(hold(&w, 1, 7, second), ==, GUARD_CALL_OK);     /* restarted in the same epoch */
        g_assert_cmpuint(list(&w), ==, 1);
}

static void test_what_is_no_living_process_is_not_held(void) {
        WORLD;
        pid_t pid;
        _cleanup_close_ int vm = start_vm(&w, &pid), file = open("/dev/null", O_RDWR | O_CLOEXEC);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        struct pollfd p = { .fd = vm, .events = POLLIN };
        g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_DEAD);
        g_assert_cmpint(hold(&w, 1, 7, file), ==, GUARD_CALL_REFUSED);
        g_assert_cmpint(hold(&w, 1, 7, -1), ==, GUARD_CALL_REFUSED);
        g_assert_cmpint(hold(&w, 1, 7, 9999), ==, GUARD_CALL_REFUSED);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_true(guard_link_is_connected(w.link));
}

static void test_as_many_are_held_as_there_is_room_for(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                g_assert_cmpint(hold(&w, i, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, GUARD_VMS_MAX, 7, vm), ==, GUARD_CALL_FULL);
        g_assert_cmpint(hold(&w, 3, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpuint(list(&w), ==, GUARD_VMS_MAX);
        g_assert_cmpint(kill_vm(&w, 0, 7), ==, GUARD_CALL_OK);
        await(&w, &w.n_died, GUARD_VMS_MAX);
        g_assert_cmpint(release(&w, 0, 7), ==, GUARD_CALL_OK);
        _cleanup_close_ int other = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, GUARD_VMS_MAX, 7, other), ==, GUARD_CALL_OK);
}

/* A client of its own process, which dies without a word. */
static void hold_and_be_killed(World *w, unsigned vm, int pidfd) {
        int pipe_fds[2];
        g_assert_cmpint(pipe(pipe_fds), ==, 0);
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                World other = { .guard = w->guard };
                g_assert_cmpint(sd_event_new(&other.event), >=, 0);
                g_assert_cmpint(guard_link_new(&other.link, other.event, w->socket_path, &callbacks, &other), ==, 0);
                await(&other, &other.n_connected, 1);
                g_assert_cmpint(hold(&other, vm, 7, pidfd), ==, GUARD_CALL_OK);
                g_assert_cmpint(write(pipe_fds[1], "h", 1), ==, 1);
                for (;;)
                        pause();
        }
        close(pipe_fds[1]);
        char held;
        g_assert_cmpint(read(pipe_fds[0], &held, 1), ==, 1);
        close(pipe_fds[0]);
        end_process(pid);
}

static void test_what_is_held_outlives_who_asked_for_it(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        hold_and_be_killed(&w, 1, vm);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        g_assert_true(is_dead(vm));
}

static void test_a_guard_that_was_started_anew_says_so(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpuint(w.n_anew, ==, 1);
        end_process(w.guard);
        await(&w, &w.n_disconnected, 1);
        g_assert_false(guard_link_is_connected(w.link));
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_NOT_CONNECTED);
        start_guard(&w);
        await(&w, &w.n_connected, 2);
        g_assert_cmpuint(w.n_anew, ==, 2);
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_false(is_dead(vm));
}

static void test_a_guard_that_hangs_is_told_from_one_that_answers(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(hold(&w, 2, 7, vm), ==, GUARD_CALL_TIMED_OUT);
        await(&w, &w.n_disconnected, 1);
        g_assert_cmpint(kill(w.guard, SIGCONT), ==, 0);
        await(&w, &w.n_connected, 2);
        g_assert_cmpuint(w.n_anew, ==, 1);
        g_assert_cmpuint(list(&w), ==, 2);      /* the hold that timed out came true */
}

static void test_calls_under_way_are_told_when_the_link_breaks(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        VmId id = vm_id(1);
        g_assert_cmpint(guard_hold(w.link, &id, 7, vm, on_done, &w), ==, 0);
        g_assert_cmpuint(w.n_done, ==, 0);
        end_process(w.guard);
        await(&w, &w.n_done, 1);
        g_assert_cmpint(w.result, ==, GUARD_CALL_LOST);
        start_guard(&w);
}

static void test_a_forgotten_call_never_comes_back(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        VmId id = vm_id(1);
        int object = 0;
        g_assert_cmpint(guard_hold(w.link, &id, 7, vm, on_done, &object), ==, 0);
        guard_forget(w.link, &object);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(object, ==, 0);
}

/* --- whoever else speaks to the socket --- */

static int connect_raw(const World *w) {
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

static ssize_t send_raw(int fd, const void *bytes, size_t size, const int *fds, size_t n_fds) {
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

static unsigned count_fds(pid_t pid) {
        _cleanup_free_ char *path = NULL;
        g_assert_cmpint(text_printf(&path, "/proc/%i/fd", pid), ==, 0);
        GDir *dir = g_dir_open(path, 0, NULL);
        g_assert_nonnull(dir);
        unsigned n = 0;
        while (g_dir_read_name(dir))
                n++;
        g_dir_close(dir);
        return n;
}

static void test_any_bytes_cost_the_guard_nothing(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_OK);
        unsigned fds_before = count_fds(w.guard);
        int raw = -1;
        for (unsigned i = 0; i < 20000; i++) {
                uint8_t bytes[256];
                size_t size = (size_t) g_test_rand_int_range(0, 3) == 0 ? (size_t) g_test_rand_int_range(1, 256)
                                                                         : sizeof(GuardMessage);
                for (size_t j = 0; j < size; j++)
                        bytes[j] = (uint8_t) g_test_rand_int_range(0, 256);
                if (g_test_rand_bit()) {        /* near to right */
                        GuardMessage m;
                        memcpy(&m, bytes, sizeof(m));
                        m.version = GUARD_VERSION;
                        m.type = (uint32_t) g_test_rand_int_range(0, 6);
                        if (m.type == GUARD_KILL)
                                m.vm[2] = 0;    /* not our VM */
                        memcpy(bytes, &m, sizeof(m));
                }
                int passed[16];
                for (size_t j = 0; j < ELEMENTS(passed); j++)
                        passed[j] = STDIN_FILENO;
                if (raw < 0)
                        raw = connect_raw(&w);
                if (raw < 0 ||
                    send_raw(raw, bytes, size, passed, g_test_rand_bit() ? (size_t) g_test_rand_int_range(0, 16) : 0) <
                            0 ||
                    g_test_rand_int_range(0, 50) == 0) {
                        closep(&raw);
                        raw = -1;
                }
        }
        closep(&raw);
        g_assert_cmpint(kill(w.guard, 0), ==, 0);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_true(w.entries[0].alive);
        g_assert_cmpuint(w.n_disconnected, ==, 0);
        /* What was passed to it is closed again; the raw connection too, once the guard has looked. */
        g_assert_cmpuint(count_fds(w.guard), <=, fds_before + 1);
}

static void test_another_protocol_is_answered_and_ended(void) {
        WORLD;
        _cleanup_close_ int raw = connect_raw(&w);
        GuardMessage m = { .version = GUARD_VERSION + 1, .type = GUARD_LIST, .cookie = 1 };
        g_assert_cmpint(send_raw(raw, &m, sizeof(m), NULL, 0), ==, sizeof(m));
        g_assert_cmpint(recv(raw, &m, sizeof(m), 0), ==, sizeof(m));
        g_assert_cmpuint(m.version, ==, GUARD_VERSION);
        g_assert_cmpuint(m.answer, ==, GUARD_BAD_REQUEST);
        g_assert_cmpint(recv(raw, &m, sizeof(m), 0), ==, 0);
}

static void test_a_client_that_does_not_read_is_dropped(void) {
        WORLD;
        _cleanup_close_ int raw = connect_raw(&w);
        GuardMessage m = { .version = GUARD_VERSION, .type = GUARD_LIST, .cookie = 1 };
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (send_raw(raw, &m, sizeof(m), NULL, 0) >= 0 || errno == EAGAIN)
                g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_assert_true(errno == EPIPE || errno == ECONNRESET);
        g_assert_cmpuint(list(&w), ==, 0);
}

static void test_more_clients_than_there_is_room_for_are_sent_away(void) {
        WORLD;
        int raw[GUARD_CLIENTS_MAX];
        char byte;
        for (size_t i = 0; i < ELEMENTS(raw); i++)
                raw[i] = connect_raw(&w);
        g_assert_cmpint(recv(raw[GUARD_CLIENTS_MAX - 1], &byte, 1, 0), ==, 0);  /* the link has a place too */
        g_assert_cmpuint(list(&w), ==, 0);
        for (size_t i = 0; i < ELEMENTS(raw); i++)
                close(raw[i]);
}

/* What happens to a connection of @uid: 0 refused by the file's mode, 1 closed by the guard, 2 answered. */
static int connect_as(const World *w, uid_t uid) {
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                        _exit(99);
                int raw = connect_raw(w);
                if (raw < 0)
                        _exit(errno == EACCES ? 0 : 98);
                GuardMessage m = { .version = GUARD_VERSION, .type = GUARD_LIST, .cookie = 1 };
                if (send_raw(raw, &m, sizeof(m), NULL, 0) < 0)
                        _exit(1);
                _exit(recv(raw, &m, sizeof(m), 0) == sizeof(m) ? 2 : 1);
        }
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_only_gpupoold_and_root_may_speak(void) {
        if (getuid() != 0) {
                g_test_skip("needs root, to become other users");
                return;
        }
        WORLD;
        g_assert_cmpint(connect_as(&w, 12345), ==, 0);
        g_assert_cmpint(connect_as(&w, 65534), ==, 2);
        g_assert_cmpint(chmod(w.socket_path, 0666), ==, 0);
        g_assert_cmpint(connect_as(&w, 12345), ==, 1);
        g_assert_cmpuint(list(&w), ==, 0);
}

static char *memory_map(pid_t pid) {
        _cleanup_free_ char *path = NULL;
        char *text = NULL;
        g_assert_cmpint(text_printf(&path, "/proc/%i/maps", pid), ==, 0);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return text;
}

static void test_the_guard_takes_no_memory_after_its_start(void) {
        WORLD;
        _cleanup_free_ char *before = memory_map(w.guard);
        _cleanup_close_ int vm = start_vm(&w, NULL);
        for (unsigned i = 0; i < GUARD_VMS_MAX; i++)
                g_assert_cmpint(hold(&w, i, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpuint(list(&w), ==, GUARD_VMS_MAX);
        g_assert_cmpint(kill_vm(&w, 0, 7), ==, GUARD_CALL_OK);
        await(&w, &w.n_died, GUARD_VMS_MAX);
        _cleanup_free_ char *after = memory_map(w.guard);
        g_assert_cmpstr(before, ==, after);
}

static void test_the_guard_ends_when_it_is_told_to(void) {
        WORLD;
        g_assert_cmpint(kill(w.guard, SIGTERM), ==, 0);
        int status;
        g_assert_cmpint(waitpid(w.guard, &status, 0), ==, w.guard);
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
        start_guard(&w);
        await(&w, &w.n_connected, 2);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        guard_program = argc > 1 ? argv[1] : g_getenv("GPUPOOL_GUARD");
        if (!guard_program)
                g_error("no guard given: argument 1 or GPUPOOL_GUARD");
#define TEST(name) g_test_add_func("/guard/" #name, test_##name)
        TEST(a_vm_that_is_held_is_listed_with_its_process);
        TEST(a_death_is_told_unasked);
        TEST(a_kill_is_done_when_the_process_is_dead);
        TEST(a_kill_names_the_epoch);
        TEST(only_the_dead_are_released);
        TEST(one_process_is_held_for_a_vm);
        TEST(what_is_no_living_process_is_not_held);
        TEST(as_many_are_held_as_there_is_room_for);
        TEST(what_is_held_outlives_who_asked_for_it);
        TEST(a_guard_that_was_started_anew_says_so);
        TEST(a_guard_that_hangs_is_told_from_one_that_answers);
        TEST(calls_under_way_are_told_when_the_link_breaks);
        TEST(a_forgotten_call_never_comes_back);
        TEST(any_bytes_cost_the_guard_nothing);
        TEST(another_protocol_is_answered_and_ended);
        TEST(a_client_that_does_not_read_is_dropped);
        TEST(more_clients_than_there_is_room_for_are_sent_away);
        TEST(only_gpupoold_and_root_may_speak);
        TEST(the_guard_takes_no_memory_after_its_start);
        TEST(the_guard_ends_when_it_is_told_to);
#undef TEST
        return g_test_run();
}
