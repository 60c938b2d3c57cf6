/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Progress: one line on a terminal that tells how a job goes,
 *
 *      placing ✓ b (2 close together)  binding ✓  guarding 4 s
 *
 * A stage that takes long shows its seconds. The line is as good to read in a log afterwards: where the terminal cannot
 * go back in a line, it only grows. */

#include <stdint.h>

#include "ctl/screen.h"
#include "util/cleanup.h"

typedef struct Progress Progress;

Progress *progress_new(const Screen *screen, uint64_t now_us);          /* @screen is borrowed */
Progress *progress_free(Progress *progress);
DEFINE_CLEANUP(Progress *, progress_free);

/* The job is at @stage now: the one before is done, with @detail about it (may be NULL). The same stage again and ""
 * are no news. */
void progress_stage(Progress *progress, const char *stage, const char *detail, uint64_t now_us);
const char *progress_current(const Progress *progress);                 /* NULL: none yet */

/* Draws the seconds anew. */
void progress_tick(Progress *progress, uint64_t now_us);

/* Ends the line: the present stage is done, or not; then @last ("running"; NULL: nothing) and the time it all took. */
typedef enum ProgressEnd { PROGRESS_DONE, PROGRESS_NOT_DONE, PROGRESS_LEFT } ProgressEnd;
void progress_end(Progress *progress, ProgressEnd end, const char *last, const char *detail, uint64_t now_us);
