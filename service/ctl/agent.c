/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"

#define AGENT "pkttyagent"
#define START_MS 3000           /* it only connects to the bus; without it polkit still answers, with no */

static void run_agent(int ready, pid_t parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
        if (terminal < 0)
                _exit(EXIT_FAILURE);
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (dup2(terminal, fd) < 0)
                        _exit(EXIT_FAILURE);
        if (fcntl(ready, F_SETFD, 0) < 0)
                _exit(EXIT_FAILURE);

        char number[16];
        snprintf(number, sizeof(number), "%d", ready);
        execlp(AGENT, AGENT, "--notify-fd", number, "--fallback", (char *) NULL);
        _exit(EXIT_FAILURE);
}

void agent_open(Agent *agent) {
        if (agent->tried)
                return;
        agent->tried = true;
        /* polkit asks root nothing. */
        if (geteuid() == 0 || !isatty(STDIN_FILENO))
                return;

        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        pid_t parent = getpid();
        pid_t pid = fork();
        if (pid == 0)
                run_agent(ends[1], parent);
        close(ends[1]);
        _cleanup_close_ int ready = ends[0];
        if (pid < 0)
                return;
        agent->pid = pid;

        /* It closes its end when it listens, or when it ends. */
        struct pollfd wait = { .fd = ready };
        while (poll(&wait, 1, START_MS) < 0 && errno == EINTR)
                ;
}

void agent_close(Agent *agent) {
        if (agent->pid <= 0)
                return;
        /* It may have been stopped by the terminal. */
        (void) kill(agent->pid, SIGTERM);
        (void) kill(agent->pid, SIGCONT);
        while (waitpid(agent->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        agent->pid = 0;
}
