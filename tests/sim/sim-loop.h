/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SimLoop: sd_event in virtual time, one per machine. The functions of sd-event.h that the simulated code calls are
 * here, and the linker takes these before libsystemd's; a call of one that is missing would wait in real time, so the
 * program is linked against this file first and a test holds that no file descriptor is ever waited for.
 *
 * CLOCK_BOOTTIME is the machine's own: it begins anywhere and runs a little too fast or too slow. A machine may be held
 * (stopped, or its loop busy): its clock goes on, and what was due comes when it is let go. */

#include <systemd/sd-event.h>

#include "sim-time.h"

/* Owned by the caller like any other sd_event. */
sd_event *sim_loop_new(SimTime *time, uint64_t clock_begins_us, int drift_ppm);

/* Nothing happens on it before @until_us of true time. */
void sim_loop_hold(sd_event *loop, uint64_t until_us);
/* It was about to read this socket, and had looked at the clock. */
void sim_loop_hold_in(sd_event *loop, uint64_t until_us, const void *what);
void sim_loop_release(sd_event *loop);
/* When it goes on: now, if it is not held. */
uint64_t sim_loop_free_at(const sd_event *loop);
/* When all has come that was put off while it was held. A release hurries nothing of that. */
uint64_t sim_loop_up_to_date_at(const sd_event *loop);
uint64_t sim_loop_clock(const sd_event *loop);
/* The true time at which the machine's clock has reached @at_us. */
uint64_t sim_loop_true_time(const sd_event *loop, uint64_t at_us);

/* Its clock stands still for so long, from now on; what is due by it comes so much later. */
void sim_loop_lose_time(sd_event *loop, uint64_t us);

/* From now on the first thing that is done after a hold may go by the time at which the hold began, half of the times:
 * a process is stopped between the moment at which its loop looked at the clock and what it does then. */
void sim_loop_may_be_stale(sd_event *loop);

/* Whose loop something happens on just now; NULL: nobody's. What is called on a loop from outside its own sources goes
 * between these two. */
typedef struct SimTurn {
        sd_event *loop, *before;
} SimTurn;
SimTurn sim_loop_begin(sd_event *loop);
SimTurn sim_loop_begin_for(sd_event *loop, const void *what);   /* the socket that is read */
void sim_loop_end(SimTurn turn);
sd_event *sim_loop_current(void);

/* The next sd_event_new() gives this one. Owned by the caller. */
void sim_loop_offer(sd_event *loop);
void *sim_loop_userdata(const sd_event *loop);
/* @left: sd_event_exit() was called and the exit sources have been; not to take the loop apart from within. */
void sim_loop_set_userdata(sd_event *loop, void *userdata, void (*left)(void *userdata, int code));

/* What it waits for at @fd may be there: asks @is_ready, now and after each time that it was told. */
typedef bool (*SimReady)(int fd);
void sim_loop_set_ready(SimReady is_ready);
void sim_loop_fd_ready(sd_event *loop, int fd);
/* As kill(2). */
void sim_loop_signal(sd_event *loop, int number);

/* A wake-up from another thread, or a socket: rings on the loop, soon after @at_us or when it is let go. The alarm's
 * ring() must begin with sim_loop_may_run(), and return if it says no. */
bool sim_loop_may_run(sd_event *loop, SimAlarm *alarm);
