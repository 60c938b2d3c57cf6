/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-guard: gets itself out of the way of everything that could hold it up, then serves. Whatever the kernel
 * refuses of that is said and lived without. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "guard/guard-protocol.h"
#include "guard/guard.h"
#include "guard/say.h"

#define PEER_USER "gpupool"
#define PRIORITY 10                     /* above every ordinary process, below the kernel's own threads */
#define LISTEN_FD 3                     /* sd_listen_fds(3) */

static volatile sig_atomic_t end;

static void on_end(int signal_number) {
        end = 1;
}

static void get_out_of_reach(void) {
        if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
                say(LOG_WARNING, "memory cannot be locked (%s): the guard may be slow when the host swaps",
                    strerrorname_np(errno));
        if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK,
                               &(struct sched_param) { .sched_priority = PRIORITY }) < 0)
                say(LOG_WARNING, "no realtime priority (%s): the guard may be slow when the host is busy",
                    strerrorname_np(errno));

        static const char score[] = "-1000";
        int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
        char now[8] = "";
        if (fd >= 0 && read(fd, now, sizeof(now) - 1) > 0 && strncmp(now, score, strlen(score)) == 0) {
                (void) close(fd);
                return;                 /* the unit has done it */
        }
        if (fd < 0 || write(fd, score, strlen(score)) < 0)
                say(LOG_WARNING, "the score for a lack of memory cannot be set (%s): the kernel may kill the guard",
                    strerrorname_np(errno));
        if (fd >= 0)
                (void) close(fd);
}

/* From the socket unit, if there is one. */
static int take_passed_socket(void) {
        const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
        if (!pid || !n || strtol(pid, NULL, 10) != getpid() || strcmp(n, "1") != 0)
                return -1;
        return fcntl(LISTEN_FD, F_SETFL, O_NONBLOCK) < 0 || fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC) < 0 ? -1 : LISTEN_FD;
}

/* The socket is for the group that the unit runs the guard in; who speaks is looked at again when it connects. */
static int listen_at(const char *path, gid_t group) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);

        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        mode_t mask = umask(0117);
        (void) unlink(path);
        int r = bind(fd, (struct sockaddr *) &address, sizeof(address));
        (void) umask(mask);
        if (r < 0 || listen(fd, GUARD_CLIENTS_MAX) < 0) {
                r = -errno;
                (void) close(fd);
                return r;
        }
        if (getegid() != group && chown(path, (uid_t) -1, group) < 0)
                say(LOG_WARNING, "%s cannot be given to its group (%s): only root may connect", path,
                    strerrorname_np(errno));
        return fd;
}

static int usage(void) {
        fputs("gpupool-guard [--socket PATH] [--user NAME]\n"
              "Holds the processes of this node's clustered VMs for gpupoold, and kills them when their time is up.\n"
              "  --socket PATH  where to listen (" GUARD_SOCKET_PATH ")\n"
              "  --user NAME    who may speak to it, beside root (" PEER_USER ")\n", stdout);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "socket", required_argument, NULL, 's' },
                { "user", required_argument, NULL, 'u' },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'v' },
                {},
        };
        const char *path = GUARD_SOCKET_PATH, *user = PEER_USER;
        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                if (c == 's')
                        path = optarg;
                else if (c == 'u')
                        user = optarg;
                else if (c == 'h')
                        return usage();
                else if (c == 'v')
                        return puts("gpupool-guard " GPUPOOL_VERSION) < 0;
                else
                        return 2;
        }

        const struct passwd *peer = getpwnam(user);
        if (!peer) {
                say(LOG_ERR,
                    "there is no user %s, who is to speak to the guard: make it (systemd-sysusers) or name another",
                    user);
                return EXIT_FAILURE;
        }

        sigset_t ending, before;
        sigemptyset(&ending);
        sigaddset(&ending, SIGTERM);
        sigaddset(&ending, SIGINT);
        sigprocmask(SIG_BLOCK, &ending, &before);
        struct sigaction action = { .sa_handler = on_end };
        (void) sigaction(SIGTERM, &action, NULL);
        (void) sigaction(SIGINT, &action, NULL);
        (void) signal(SIGPIPE, SIG_IGN);

        GuardSetup setup = { .peer_uid = peer->pw_uid, .wait_mask = &before, .listen_fd = take_passed_socket() };
        gid_t group = peer->pw_gid;
        endpwent();
        if (setup.listen_fd < 0)
                setup.listen_fd = listen_at(path, group);
        if (setup.listen_fd < 0) {
                say(LOG_ERR, "%s cannot be listened at: %s", path, strerrordesc_np(-setup.listen_fd));
                return EXIT_FAILURE;
        }
        while (setup.instance == 0)
                if (getrandom(&setup.instance, sizeof(setup.instance), 0) < 0)
                        return EXIT_FAILURE;
        get_out_of_reach();

        say(LOG_INFO, "listening at %s", path);
        int r = guard_serve(&setup, &end);
        if (r < 0)
                say(LOG_ERR, "the guard cannot wait for events: %s", strerrordesc_np(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
