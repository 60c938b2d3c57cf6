/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "guard/guard-protocol.h"
#include "guard/say.h"
#include "util/cleanup.h"

typedef struct Held {
        bool used, dead;
        uint8_t vm[16];
        uint64_t epoch;
        pid_t pid;
        int pidfd;
} Held;

typedef struct Client {
        bool used;
        int fd;
} Client;

static Held helds[GUARD_VMS_MAX];
static Client clients[GUARD_CLIENTS_MAX];
static uint64_t instance;

static void drop_client(Client *client, const char *why) {
        say(LOG_NOTICE, "a client leaves: %s", why);
        (void) close(client->fd);
        *client = (Client) {};
}

/* A client that does not read loses its connection, and lists when it is back: nothing here ever waits for one. */
static void send_message(Client *client, GuardMessage *message, int fd) {
        if (!client->used)
                return;                 /* dropped while its request was served */
        message->version = GUARD_VERSION;
        message->instance = instance;

        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = message, .iov_len = sizeof(*message) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (fd >= 0) {
                m.msg_control = &control;
                m.msg_controllen = sizeof(control.space);
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        if (sendmsg(client->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                drop_client(client, "it does not read what it is sent");
}

static void answer(Client *client, const GuardMessage *request, GuardAnswer what, int errno_value) {
        GuardMessage m = {
                .type = GUARD_ANSWER,
                .cookie = request->cookie,
                .epoch = request->epoch,
                .answer = what,
                .errno_value = (uint32_t) errno_value,
        };
        memcpy(m.vm, request->vm, sizeof(m.vm));
        send_message(client, &m, -1);
}

static bool is_gone(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* Says it to all, once. */
static void note_death(Held *held) {
        held->dead = true;
        say(LOG_INFO, "process %i of a VM is dead (epoch %" PRIu64 ")", held->pid, held->epoch);
        for (Client *client = clients; client < clients + GUARD_CLIENTS_MAX; client++) {
                GuardMessage m = { .type = GUARD_DIED, .epoch = held->epoch };
                memcpy(m.vm, held->vm, sizeof(m.vm));
                send_message(client, &m, -1);
        }
}

/* The truth now, not that of the last time we slept. */
static bool is_dead(Held *held) {
        if (!held->dead && is_gone(held->pidfd))
                note_death(held);
        return held->dead;
}

static Held *find_vm(const uint8_t vm[16]) {
        for (Held *held = helds; held < helds + GUARD_VMS_MAX; held++)
                if (held->used && memcmp(held->vm, vm, sizeof(held->vm)) == 0)
                        return held;
        return NULL;
}

static Held *find_exactly(const GuardMessage *request) {
        Held *held = find_vm(request->vm);
        return held && held->epoch == request->epoch ? held : NULL;
}

static Held *find_free(void) {
        for (Held *held = helds; held < helds + GUARD_VMS_MAX; held++)
                if (!held->used)
                        return held;
        return NULL;
}

/* The process behind a pidfd; -1 if it is gone, 0 if this is no pidfd or of a process that we cannot see. */
static pid_t pidfd_to_pid(int pidfd) {
        char path[64], text[512];
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%i", pidfd);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return 0;
        text[n] = 0;
        const char *line = strstr(text, "\nPid:\t");
        return line ? (pid_t) strtol(line + 6, NULL, 10) : 0;
}

static GuardAnswer hold(const GuardMessage *request, int *pidfd) {
        if (*pidfd < 0)
                return GUARD_BAD_REQUEST;
        pid_t pid = pidfd_to_pid(*pidfd);
        if (pid == 0)
                return GUARD_BAD_REQUEST;
        if (pid < 0 || is_gone(*pidfd))
                return GUARD_ALREADY_DEAD;

        Held *held = find_vm(request->vm);
        if (held && held->epoch > request->epoch)
                return GUARD_STALE;
        if (held && !is_dead(held))
                return held->epoch == request->epoch && held->pid == pid ? GUARD_OK : GUARD_CONFLICT;
        if (held)
                (void) close(held->pidfd);
        else
                held = find_free();
        if (!held)
                return GUARD_FULL;

        *held = (Held) { .used = true, .epoch = request->epoch, .pid = pid, .pidfd = steal_fd(pidfd) };
        memcpy(held->vm, request->vm, sizeof(held->vm));
        say(LOG_INFO, "process %i of a VM is held (epoch %" PRIu64 ")", pid, held->epoch);
        return GUARD_OK;
}

static GuardAnswer kill_vm(const GuardMessage *request, int *ret_errno) {
        Held *held = find_exactly(request);
        if (!held)
                return GUARD_NOT_HELD;
        if (is_dead(held))
                return GUARD_ALREADY_DEAD;
        if (pidfd_send_signal(held->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
                *ret_errno = errno;
                return GUARD_REFUSED;
        }
        say(LOG_NOTICE, "process %i of a VM is killed (epoch %" PRIu64 ")", held->pid, held->epoch);
        return GUARD_OK;
}

static GuardAnswer release(const GuardMessage *request) {
        Held *held = find_exactly(request);
        if (!held)
                return GUARD_NOT_HELD;
        if (!is_dead(held))
                return GUARD_ALIVE;
        (void) close(held->pidfd);
        *held = (Held) {};
        return GUARD_OK;
}

static void list(Client *client, const GuardMessage *request) {
        for (uint32_t i = request->index; i < GUARD_VMS_MAX; i++) {
                Held *held = &helds[i];
                if (!held->used)
                        continue;
                GuardMessage m = {
                        .type = GUARD_ENTRY,
                        .cookie = request->cookie,
                        .epoch = held->epoch,
                        .index = i,
                        .alive = !is_dead(held),
                };
                memcpy(m.vm, held->vm, sizeof(m.vm));
                send_message(client, &m, held->pidfd);
                return;
        }
        answer(client, request, GUARD_END, 0);
}

/* Returns how many bytes came, with one descriptor at most in *ret_fd; all others are closed. 0: the end. */
static ssize_t receive(int fd, GuardMessage *ret, int *ret_fd, bool *ret_too_much) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return n;

        *ret_too_much = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int passed;
                        memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (*ret_fd < 0) {
                                *ret_fd = passed;
                                continue;
                        }
                        *ret_too_much = true;
                        (void) close(passed);
                }
        }
        return n;
}

static void serve_client(Client *client) {
        GuardMessage request = {};
        _cleanup_close_ int fd = -1;
        bool too_much = false;
        ssize_t n = receive(client->fd, &request, &fd, &too_much);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                drop_client(client, n == 0 ? "it closed the connection" : "its connection broke");
                return;
        }

        bool speaks = n == sizeof(request) && !too_much && request.version == GUARD_VERSION && request.cookie != 0 &&
                      (fd < 0 || request.type == GUARD_HOLD);
        switch (speaks ? request.type : 0) {
        case GUARD_HOLD:
                answer(client, &request, hold(&request, &fd), 0);
                return;
        case GUARD_KILL: {
                int errno_value = 0;
                GuardAnswer what = kill_vm(&request, &errno_value);
                answer(client, &request, what, errno_value);
                return;
        }
        case GUARD_RELEASE:
                answer(client, &request, release(&request), 0);
                return;
        case GUARD_LIST:
                list(client, &request);
                return;
        default:
                answer(client, &request, GUARD_BAD_REQUEST, 0);
                if (client->used)
                        drop_client(client, "it speaks another protocol");
        }
}

static void accept_client(const GuardSetup *setup) {
        int fd = accept4(setup->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
                return;

        struct ucred peer;
        socklen_t length = sizeof(peer);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
            (peer.uid != 0 && peer.uid != setup->peer_uid)) {
                say(LOG_WARNING, "a process of another user tried to speak to the guard: refused");
                (void) close(fd);
                return;
        }
        for (Client *client = clients; client < clients + GUARD_CLIENTS_MAX; client++)
                if (!client->used) {
                        *client = (Client) { .used = true, .fd = fd };
                        return;
                }
        say(LOG_WARNING, "there are %u clients already: refused", GUARD_CLIENTS_MAX);
        (void) close(fd);
}

int guard_serve(const GuardSetup *setup, const volatile sig_atomic_t *end) {
        instance = setup->instance;
        static struct pollfd set[1 + GUARD_CLIENTS_MAX + GUARD_VMS_MAX];
        struct pollfd *of_clients = set + 1, *of_helds = of_clients + GUARD_CLIENTS_MAX;
        while (!*end) {
                /* poll() passes over what is negative. */
                set[0] = (struct pollfd) { .fd = setup->listen_fd, .events = POLLIN };
                for (size_t i = 0; i < GUARD_CLIENTS_MAX; i++)
                        of_clients[i] =
                                (struct pollfd) { .fd = clients[i].used ? clients[i].fd : -1, .events = POLLIN };
                for (size_t i = 0; i < GUARD_VMS_MAX; i++)
                        of_helds[i] = (struct pollfd) {
                                .fd = helds[i].used && !helds[i].dead ? helds[i].pidfd : -1, .events = POLLIN };

                int n = ppoll(set, sizeof(set) / sizeof(set[0]), NULL, setup->wait_mask);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n <= 0)
                        continue;

                /* Deaths first, then what clients ask, then who is new; so what poll() saw is still in its place. */
                for (size_t i = 0; i < GUARD_VMS_MAX; i++)
                        if (of_helds[i].revents)
                                (void) is_dead(&helds[i]);
                for (size_t i = 0; i < GUARD_CLIENTS_MAX; i++)
                        if (of_clients[i].revents && clients[i].used)
                                serve_client(&clients[i]);
                if (set[0].revents)
                        accept_client(setup);
        }
        return 0;
}
