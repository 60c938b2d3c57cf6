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
void sim_loop_release(sd_event *loop);
/* When it goes on: now, if it is not held. */
uint64_t sim_loop_free_at(const sd_event *loop);
uint64_t sim_loop_clock(const sd_event *loop);

/* A wake-up from another thread, or a socket: rings on the loop, soon after @at_us or when it is let go. The alarm's
 * ring() must begin with sim_loop_may_run(), and return if it says no. */
bool sim_loop_may_run(sd_event *loop, SimAlarm *alarm);
