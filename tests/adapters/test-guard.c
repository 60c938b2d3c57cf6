/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the guard holds, and who may speak to it. All further arguments are the guard's source files. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard-world.h"
#include "util/array.h"
#include "util/text.h"

static void test_nothing_is_before_the_guard_and_its_memory_stays(void) {
        WORLD;
        if (getuid() != 0 || IS_SANITIZED) {
                g_test_skip("needs root, for realtime priority and locked memory, and no sanitizer");
                return;
        }
        g_assert_cmpint(sched_getscheduler(w.guard), ==, SCHED_FIFO);
        g_autofree char *path = g_strdup_printf("/proc/%i/status", w.guard);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        const char *locked = strstr(text, "\nVmLck:");
        g_assert_nonnull(locked);
        g_assert_cmpuint(g_ascii_strtoull(locked + strlen("\nVmLck:"), NULL, 10), >, 0);
}

static void test_a_guard_that_has_nothing_to_do_does_nothing(void) {
        WORLD;
        _cleanup_close_ int dead = start_vm(&w, NULL), vm = start_vm(&w, NULL);
        g_assert_cmpint(hold(&w, 1, 7, dead), ==, GUARD_CALL_OK);
        g_assert_cmpint(hold(&w, 2, 7, vm), ==, GUARD_CALL_OK);
        g_assert_cmpint(lease(&w, in(HOUR), 0), ==, GUARD_CALL_OK);
        g_assert_cmpint(kill_vm(&w, 1, 7), ==, GUARD_CALL_OK);
        uint64_t before = processor_time(w.guard);
        await_instant(&w, in(500 * MS));
        g_assert_cmpuint(processor_time(w.guard) - before, <, 50 * 1000 * MS);
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
                World other = {};
                g_strlcpy(other.socket_path, w->socket_path, sizeof(other.socket_path));
                world_connect(&other);
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
        g_assert_cmpuint(list(&w), ==, 1);
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

/* gpupoold ends the VMs of a guard that is away for a third of a lease, which may be a third of a second. */
static void test_a_guard_that_was_away_is_found_as_soon_as_it_is_back(void) {
        WORLD;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        end_process(w.guard);
        await(&w, &w.n_disconnected, 1);
        await_instant(&w, in(1700 * MS));
        (void) g_strlcpy(address.sun_path, w.socket_path, sizeof(address.sun_path));
        (void) unlink(w.socket_path);
        g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(fd, 1), ==, 0);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        for (unsigned turns = 0; poll(&p, 1, 0) == 0; turns++) {        /* of 10 ms at most, if this process runs */
                g_assert_cmpuint(turns, <, 100);
                g_assert_cmpint(sd_event_run(w.event, 10 * MS), >=, 0);
        }
        start_guard(&w);
}

static void test_calls_under_way_are_told_when_the_link_breaks(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        VmId id = vm_id(1);
        g_assert_cmpint(guard_hold(w.link, &id, 7, vm, count_done, &w), ==, 0);
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
        g_assert_cmpint(guard_hold(w.link, &id, 7, vm, count_done, &object), ==, 0);
        guard_forget(w.link, &object);
        g_assert_cmpuint(list(&w), ==, 1);
        g_assert_cmpint(object, ==, 0);
}

/* --- whoever else speaks to the socket --- */

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
                        m.type = (uint32_t) g_test_rand_int_range(0, 7);
                        if (m.type == GUARD_KILL)
                                m.vm[2] = 0;    /* not our VM */
                        if (m.type == GUARD_LEASE)
                                m.until_us |= UINT64_C(1) << 62;
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
        /* What was passed to it is closed again; the raw connections too, once the guard has looked. */
        gint64 end = g_get_monotonic_time() + (gint64) PATIENCE_US;
        while (count_fds(w.guard) > fds_before) {
                g_assert_cmpint(g_get_monotonic_time(), <, end);
                g_assert_cmpuint(list(&w), ==, 1);
        }
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
        g_assert_cmpint(connect_as(&w, GUARD_GROUP), ==, 2);
        g_assert_cmpint(chmod(w.socket_path, 0666), ==, 0);
        g_assert_cmpint(connect_as(&w, 12345), ==, 1);
        g_assert_cmpuint(list(&w), ==, 0);
}

/* ---- whose process it is */

static int open_pid(pid_t pid) {
        int fd = pidfd_open(pid, 0);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

/* A process without memory of its own; 0: none is seen from here. */
static pid_t find_kernel_thread(void) {
        pid_t found = 0;
        GDir *dir = g_dir_open("/proc", 0, NULL);
        g_assert_nonnull(dir);
        for (const char *name; !found && (name = g_dir_read_name(dir));) {
                g_autofree char *path = g_strdup_printf("/proc/%s/stat", name);
                g_autofree char *text = NULL;
                unsigned flags = 0;
                if (!g_ascii_isdigit(name[0]) || !g_file_get_contents(path, &text, NULL, NULL))
                        continue;
                const char *behind = strrchr(text, ')');
                if (behind && sscanf(behind, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & 0x00200000))
                        found = (pid_t) strtol(name, NULL, 10);
        }
        g_dir_close(dir);
        return found;
}

static void *wait_for_ever(void *tid) {
        g_atomic_int_set((int *) tid, (int) gettid());
        for (;;)
                pause();
        return NULL;
}

static void test_what_can_be_no_vm_is_not_held(void) {
        WORLD;
        _cleanup_close_ int first = open_pid(1), guard = open_pid(w.guard), client = open_pid(getpid());
        g_assert_cmpint(hold(&w, 1, 7, first), ==, GUARD_CALL_NOT_OURS);
        g_assert_cmpint(hold(&w, 1, 7, guard), ==, GUARD_CALL_NOT_OURS);
        g_assert_cmpint(hold(&w, 1, 7, client), ==, GUARD_CALL_NOT_OURS);

        pid_t kernel = find_kernel_thread();
        if (kernel) {
                _cleanup_close_ int fd = open_pid(kernel);
                g_assert_cmpint(hold(&w, 1, 7, fd), ==, GUARD_CALL_NOT_OURS);
        } else {
                g_test_message("no thread of the kernel is seen from here");
        }

        int tid = 0;
        g_thread_unref(g_thread_new("waits", wait_for_ever, &tid));
        while (!g_atomic_int_get(&tid))
                g_usleep(1000);
        _cleanup_close_ int thread = pidfd_open(tid, O_EXCL);
        if (thread >= 0)
                g_assert_cmpint(hold(&w, 1, 7, thread), ==, GUARD_CALL_NOT_OURS);
        else
                g_test_message("this kernel has no descriptors of threads");
        g_assert_cmpuint(list(&w), ==, 0);
        g_assert_true(guard_link_is_connected(w.link));
}

/* ---- the link */

/* One that stands in for a guard of another release: its packets may have another size, and the version is first. */
static void answer_as_another(const char *path, uint32_t version, size_t size) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        GuardMessage request, packet = { .version = version, .type = GUARD_ANSWER, .instance = 1 };
        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        (void) unlink(path);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        g_assert_cmpint(bind(fd, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(fd, 1), ==, 0);
        int client;
        while (recv(client = accept(fd, NULL, NULL), &request, sizeof(request), 0) != sizeof(request))
                close(client);          /* it was kept waiting for too long */
        packet.cookie = request.cookie;
        g_assert_cmpint(send(client, &packet, size, 0), ==, (ssize_t) size);
        close(client);
        close(fd);
}

static void test_a_guard_of_another_version_is_told_apart(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        end_process(w.guard);
        await(&w, &w.n_disconnected, 1);
        for (unsigned i = 0; i < 3; i++) {
                if ((w.guard = fork()) == 0) {
                        answer_as_another(w.socket_path, GUARD_VERSION + (i < 2), i == 1 ? sizeof(GuardMessage) : 64);
                        _exit(0);
                }
                g_assert_cmpint(await_end_of_guard(&w), ==, 0);
                g_assert_cmpuint(w.n_connected, ==, 1);
                g_assert_cmpint(hold(&w, 1, 7, vm), ==, GUARD_CALL_NOT_CONNECTED);
        }
        start_guard(&w);
        await(&w, &w.n_connected, 2);
}

/* This process stood still, its calls' time ran out, and the answers are here or come at once. False: they did not,
 * as it was too slow for the half second that the link then gives them. */
static bool is_not_blamed(void) {
        WORLD;
        _cleanup_close_ int vm = start_vm(&w, NULL);
        VmId id = vm_id(1);
        unsigned before = w.n_done;
        g_assert_cmpint(guard_hold(w.link, &id, 7, vm, count_done, &w), ==, 0);
        g_usleep(2500 * MS);
        await(&w, &w.n_done, before + 1);
        g_assert_cmpint(w.result, ==, GUARD_CALL_OK);

        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(guard_release(w.link, &id, 7, count_done, &w), ==, 0);
        g_usleep(2500 * MS);
        uint64_t late_us = now_us();
        for (unsigned i = 0; i < 10; i++)
                g_assert_cmpint(sd_event_run(w.event, 10 * MS), >=, 0);
        g_assert_cmpint(kill(w.guard, SIGCONT), ==, 0);
        await(&w, &w.n_done, before + 2);
        if (now_us() >= late_us + 400 * MS)
                return false;
        g_assert_cmpint(w.result, ==, GUARD_CALL_ALIVE);
        g_assert_cmpuint(w.n_disconnected, ==, 0);
        return true;
}

static void test_a_loop_that_was_late_does_not_blame_the_guard(void) {
        for (unsigned i = 0; !is_not_blamed(); i++)
                g_assert_cmpuint(i, <, 10);
}

/* The guard answers while the loop is held up, and the time is over by then. What asks after the link does is answered
 * after it. */
static int on_hold_up(sd_event_source *source, uint64_t usec, void *userdata) {
        const World *w = userdata;
        GuardMessage request = { .version = GUARD_VERSION, .type = GUARD_LIST, .cookie = 1 };
        g_assert_cmpint(kill(w->guard, SIGCONT), ==, 0);
        int fd = connect_raw(w);
        g_assert_cmpint(send_raw(fd, &request, sizeof(request), NULL, 0), ==, sizeof(request));
        (void) receive_raw(fd);
        (void) close(fd);
        return 0;
}

/* Not so late that it is given more time. */
static void test_an_answer_that_lies_there_when_the_time_is_over_counts(void) {
        WORLD;
        uint64_t now;
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *hold_up = NULL;
        g_assert_cmpint(kill(w.guard, SIGSTOP), ==, 0);
        g_assert_cmpint(sd_event_run(w.event, 0), >=, 0);
        g_assert_cmpint(sd_event_now(w.event, CLOCK_BOOTTIME, &now), ==, 0);
        g_assert_cmpint(guard_lease(w.link, in(HOUR), 0, count_done, &w), ==, 0);
        /* At the same instant as the link's own, and before it. */
        g_assert_cmpint(sd_event_add_time(w.event, &hold_up, CLOCK_BOOTTIME, now + 2 * SECOND, 1000, on_hold_up, &w),
                        >=, 0);
        g_assert_cmpint(sd_event_source_set_priority(hold_up, SD_EVENT_PRIORITY_IMPORTANT), >=, 0);
        await(&w, &w.n_done, w.n_done + 1);
        g_assert_cmpint(w.result, ==, GUARD_CALL_OK);
        g_assert_cmpuint(w.n_disconnected, ==, 0);
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

static char **sources;

static void test_the_guard_is_short(void) {
        unsigned n = 0;
        if (!sources[0]) {
                g_test_skip("no source files given");
                return;
        }
        for (char **source = sources; *source; source++) {
                g_autofree char *text = NULL;
                g_assert_true(g_file_get_contents(*source, &text, NULL, NULL));
                for (const char *c = text; *c; c++)
                        n += *c == '\n';
        }
        g_test_message("%u lines, headers and comments among them", n);
        g_assert_cmpuint(n, >, 100);
        g_assert_cmpuint(n, <, 600);
}

int main(int argc, char **argv) {
        guard_world_init(&argc, &argv);
        sources = argv + (argc > 2 ? 2 : argc);
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
        TEST(a_guard_that_was_away_is_found_as_soon_as_it_is_back);
        TEST(calls_under_way_are_told_when_the_link_breaks);
        TEST(a_forgotten_call_never_comes_back);
        TEST(any_bytes_cost_the_guard_nothing);
        TEST(another_protocol_is_answered_and_ended);
        TEST(a_client_that_does_not_read_is_dropped);
        TEST(more_clients_than_there_is_room_for_are_sent_away);
        TEST(only_gpupoold_and_root_may_speak);
        TEST(what_can_be_no_vm_is_not_held);
        TEST(a_guard_of_another_version_is_told_apart);
        TEST(a_loop_that_was_late_does_not_blame_the_guard);
        TEST(nothing_is_before_the_guard_and_its_memory_stays);
        TEST(a_guard_that_has_nothing_to_do_does_nothing);
        TEST(an_answer_that_lies_there_when_the_time_is_over_counts);
        TEST(the_guard_ends_when_it_is_told_to);
        TEST(the_guard_is_short);
#undef TEST
        return g_test_run();
}
