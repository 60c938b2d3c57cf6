/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* LoopClock: CLOCK_BOOTTIME as the one loop of this program sees it. It does not run on while the program stands still:
 * a timer that was to fire at t fires at most LOOP_CLOCK_LATE_MS after t, however busy the machine is. So elections of
 * 150 ms are held in order, and no node takes the others for dead because nobody ran. Other clocks are as they are. */

#include <systemd/sd-event.h>

#define LOOP_CLOCK_LATE_MS 20U

/* From here on it is so for the loop that is made next, by this thread; one that is made before its end has the same
 * clock, and does not hold it up. In any case the clock runs on up to the next timer: a loop that may have none for
 * long wants one that ticks. */
void loop_clock_begin(void);
sd_event_source *loop_clock_tick(sd_event *event);
void loop_clock_end(void);
