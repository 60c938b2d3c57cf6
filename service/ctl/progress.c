/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/progress.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/must.h"
#include "ctl/screen-text.h"

#define LONG_STAGE_US 2000000U  /* from here on its seconds are shown */

struct Progress {
        const Screen *screen;
        char *finished;         /* parts that are done and stand in the present line */
        char *stage;            /* NULL: none yet */
        bool spoke;             /* a stage was shown */
        bool goes_back;         /* the terminal can rewrite its line */
        uint64_t began_us, stage_began_us;
};

Progress *progress_new(const Screen *screen, uint64_t now_us) {
        Progress *progress = must_zero(sizeof(Progress));
        const char *kind = getenv("TERM");
        progress->screen = screen;
        progress->finished = must_copy("");
        progress->began_us = now_us;
        progress->goes_back = !text_is_empty(kind) && !text_equal(kind, "dumb");
        return progress;
}

Progress *progress_free(Progress *progress) {
        if (!progress)
                return NULL;
        free(progress->finished);
        free(progress->stage);
        free(progress);
        return NULL;
}

static void draw(Progress *progress, const char *present) {
        FILE *file = progress->screen->file;
        if (!progress->goes_back)
                return;
        /* A full line stays as it is, and the next one goes on. */
        size_t finished_width = text_width(progress->finished);
        if (finished_width > 0 && finished_width + text_width(present) >= progress->screen->width) {
                fprintf(file, "\r\033[K%s\n", progress->finished);
                free(progress->finished);
                progress->finished = must_copy("");
        }
        _cleanup_free_ char *cut = text_cut(present, progress->screen->width - 1, screen_mark_of_cut(progress->screen));
        fprintf(file, "\r\033[K%s%s", progress->finished, cut);
        fflush(file);
}

static void finish_part(Progress *progress, const char *part) {
        if (!progress->goes_back) {
                fputs(part, progress->screen->file);
                fflush(progress->screen->file);
                return;
        }
        draw(progress, part);
        must_append(&progress->finished, "%s", part);
}

static char *describe_present(const Progress *progress, uint64_t now_us) {
        if (!progress->stage)
                return must_copy("");
        uint64_t in_stage_us = now_us - progress->stage_began_us;
        if (in_stage_us < LONG_STAGE_US)
                return must_copy(progress->stage);
        return must_printf("%s %llu s", progress->stage, (unsigned long long) (in_stage_us / 1000000U));
}

static void finish_stage(Progress *progress, const char *mark, const char *detail) {
        if (!progress->stage)
                return;
        _cleanup_free_ char *safe = text_made_safe(detail ? detail : "", !progress->screen->utf8);
        _cleanup_free_ char *part = must_printf("%s %s%s%s  ", progress->stage, mark, *safe ? " " : "", safe);
        finish_part(progress, part);
        free(progress->stage);
        progress->stage = NULL;
}

void progress_stage(Progress *progress, const char *stage, const char *detail, uint64_t now_us) {
        if (text_is_empty(stage))
                return;
        _cleanup_free_ char *safe = text_made_safe(stage, !progress->screen->utf8);
        if (text_equal(progress->stage, safe))
                return;
        finish_stage(progress, screen_tick(progress->screen), detail);
        progress->stage = STEAL(safe);
        progress->spoke = true;
        progress->stage_began_us = now_us;
        draw(progress, progress->stage);
}

const char *progress_current(const Progress *progress) {
        return progress->stage;
}

void progress_tick(Progress *progress, uint64_t now_us) {
        _cleanup_free_ char *present = describe_present(progress, now_us);
        draw(progress, present);
}

void progress_end(Progress *progress, ProgressEnd end, const char *last, const char *detail, uint64_t now_us) {
        /* It ended before anything was shown: then what is said of it is enough. */
        if (end == PROGRESS_NOT_DONE && !progress->stage && !progress->spoke)
                return;
        if (end == PROGRESS_LEFT) {
                fputc('\n', progress->screen->file);
                fflush(progress->screen->file);
                return;
        }

        bool same = last && progress->stage && text_equal(progress->stage, last);
        finish_stage(progress, end == PROGRESS_DONE ? screen_tick(progress->screen) : screen_cross(progress->screen),
                     detail);
        if (end == PROGRESS_DONE && last && !same) {
                progress->stage = must_copy(last);
                finish_stage(progress, screen_tick(progress->screen), NULL);
        }
        _cleanup_free_ char *took = must_printf(" %.1f s", (double) (now_us - progress->began_us) / 1e6);
        finish_part(progress, took);
        fputc('\n', progress->screen->file);
        fflush(progress->screen->file);
}
