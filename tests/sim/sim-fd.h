/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimFd: descriptors of simulated processes: pidfds, ends of the guard's socket, wake-ups of a loop. Their numbers are
 * far above what this program itself ever has, so that a stray close(2) harms nothing. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_event;

typedef enum SimFdKind {
        SIM_FD_NONE,
        SIM_FD_PROCESS,
        SIM_FD_SOCKET,
        SIM_FD_WAKE,
} SimFdKind;

typedef struct SimFd {
        SimFdKind kind;
        struct sd_event *owner;         /* on whose loop it is waited for; with it all of its own are closed */
        void *thing;                    /* the process, the client of the guard, the exchange */
        bool (*is_ready)(void *thing);
        void (*closed)(void *thing);    /* may be NULL */
} SimFd;

int sim_fd_new(const SimFd *fd);
/* NULL: no such descriptor is open. Good until the next one is made. */
SimFd *sim_fd_find(int number);
void sim_fd_close(int number);
void sim_fd_close_all_of(const struct sd_event *owner);
void sim_fd_forget_all(void);
bool sim_fd_is_ready(int number);
/* Tells the loops of those who have a descriptor of @thing. */
void sim_fd_wake(const void *thing);
