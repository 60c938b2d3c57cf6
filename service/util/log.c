/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/array.h"
#include "util/text.h"

static const char *const level_names[] = { "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug" };

static _Atomic int maximum = LOG_INFO;

void log_set_level(int level) {
        maximum = level;
}

int log_level(void) {
        return maximum;
}

int log_level_from_text(const char *text, int *ret) {
        for (size_t i = 0; i < ELEMENTS(level_names); i++)
                if (text_equal(text, level_names[i])) {
                        *ret = (int) i;
                        return 0;
                }
        return -EINVAL;
}

const char *log_level_to_text(int level) {
        return level >= 0 && level < (int) ELEMENTS(level_names) ? level_names[level] : "info";
}

void log_message(int level, const char *format, ...) {
        if (level > maximum)
                return;

        int saved = errno;
        char line[2048];
        va_list ap;
        va_start(ap, format);
        (void) vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);

        if (getenv("JOURNAL_STREAM"))
                (void) fprintf(stderr, "<%d>%s\n", level, line);
        else
                (void) fprintf(stderr, "%s: %s\n", log_level_to_text(level), line);
        errno = saved;
}
