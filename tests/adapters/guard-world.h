/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Guard world: the real guard, real processes that stand for VMs', the real link, and what it said. The guard's program
 * is argument 1 of the test (or GPUPOOL_GUARD). */

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "adapters/guard/guard-link.h"
#include "guard/guard-protocol.h"

/* A sanitizer takes memory for itself, and has none locked. */
#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#define IS_SANITIZED __has_feature(address_sanitizer)
#else
#define IS_SANITIZED false
#endif

#define GUARD_GROUP 65534               /* whose group the guard has, when this is root */
#define PATIENCE_US (60ULL * 1000 * 1000)
#define KILL_TIMEOUT_US (5ULL * 1000 * 1000)
#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define HOUR (3600 * SECOND)

typedef struct Processes {
        pid_t items[GUARD_VMS_MAX + 64];
        size_t n;
} Processes;

typedef struct World {
        char folder[64], socket_path[128], board_path[136];
        const char *arguments[8];               /* more for the guard, and NULL */
        const char *environment[8];             /* name, value, name, value, and NULL */
        pid_t guard;
        sd_event *event;
        GuardLink *link;
        Processes vms;
        unsigned n_connected, n_anew, n_disconnected, n_died, n_ended, n_done;
        unsigned n_died_at_end;                 /* n_died when the last end was told */
        bool connected_when_told;               /* ... whether the link was up then */
        GuardState met;                         /* as it was known when the link came up */
        VmId died_vm;
        uint64_t died_epoch;
        GuardResult result;
        GuardEntry entries[GUARD_VMS_MAX];      /* their pidfds are ours */
        size_t n_entries;
} World;

/* Reads the guard's name from the arguments. */
void guard_world_init(int *argc, char ***argv);
/* ... and that of guard-preload. */
const char *guard_world_preload(int argc, char **argv);

/* A guard, started with what of arguments and variables stands in @w. */
void world_prepare(World *w);
void world_connect(World *w);                   /* a link to it */
void world_begin(World *w);                     /* both */
void world_end(World *w);
#define WORLD _cleanup_(world_end) World w = {}; world_begin(&w)

void start_guard(World *w);
/* As by SIGKILL; and one that comes then, until the link is up again. */
void kill_guard(World *w);
void start_next_guard(World *w);
uint64_t processor_time(pid_t pid);             /* it has taken, in ns */
/* Waits for the guard's end. Returns its status. */
int await_end_of_guard(World *w);
/* The process that a guard has left behind; the test is its foster parent. 0: there is none. */
pid_t find_remnant(const World *w);
int await_end_of_remnant(World *w);             /* returns its status */
void end_process(pid_t pid);
void end_vms(World *w);

/* Runs the loop until *@counter has reached @value. */
void await(World *w, const unsigned *counter, unsigned value);
/* Runs the loop until that instant. */
void await_instant(World *w, uint64_t instant_us);
uint64_t now_us(void);                          /* CLOCK_BOOTTIME */
uint64_t in(uint64_t us);                       /* as an instant */
uint64_t just_passed(void);
void sleep_until(uint64_t instant_us);          /* the loop does not run */

/* Plays a scene that is to be over within @time_us. False: this process was too slow for it; then it is played again,
 * in twice the time. */
void play(bool (*scene)(uint64_t time_us), uint64_t time_us);

VmId vm_id(unsigned n);
/* A process that stands for a VM's. Returns its pidfd. */
int start_vm(World *w, pid_t *ret_pid);
/* One that does not die of SIGKILL until it is let go. */
int start_immortal_vm(World *w, pid_t *ret_pid);
void await_death_throes(pid_t pid);             /* it has had its SIGKILL */
void let_die(pid_t pid);
bool is_dead(int pidfd);
void await_death(int pidfd);
/* As its parent one is told: these wait for a VM's process, and for nothing else. */
void await_stop(pid_t pid);
void await_continuation(pid_t pid);
/* ... and so that another can see it too. False: it is dead by now. */
bool saw_stop(pid_t pid);

void count_done(GuardResult result, void *userdata);    /* of a World */
GuardResult hold(World *w, unsigned vm, uint64_t epoch, int pidfd);
GuardResult kill_vm(World *w, unsigned vm, uint64_t epoch);
GuardResult release(World *w, unsigned vm, uint64_t epoch);
GuardResult lease(World *w, uint64_t until_us, uint64_t hold_us);
size_t list(World *w);                          /* how many */
GuardState guard_state(const World *w);         /* as said last */

/* ---- whoever else speaks to the socket */

int connect_raw(const World *w);                /* -1 with errno */
ssize_t send_raw(int fd, const void *bytes, size_t size, const int *fds, size_t n_fds);
/* The next packet; its descriptor is closed. */
GuardMessage receive_raw(int fd);
