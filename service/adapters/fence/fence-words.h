/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Fence words: what is said to a fence agent, and what is shown of what it says. */

#include "adapters/fence/fence-agent.h"

/* The lines for its standard input. 0, -EINVAL or -ENOMEM. */
int fence_words_write(const FenceOrder *order, char **ret);

#define FENCE_LINE_MAX 2048U           /* bytes, with NUL; the rest of a longer one is passed over */

/* The last line of a stream that says something. */
typedef struct FenceLine {
        char last[FENCE_LINE_MAX];
        char current[FENCE_LINE_MAX];
        size_t n;                       /* of current */
} FenceLine;

void fence_line_feed(FenceLine *line, const char *bytes, size_t n);
const char *fence_line_end(FenceLine *line);    /* "": it said nothing */

/* Values of parameters, each to be taken out of what is shown. */
int fence_words_hide(const TextList *values, const char *said, char **ret);
/* Which ones: all that are not too short to be recognised, and of secrets also those. */
int fence_words_secrets(const FenceOrder *order, TextList *ret);
