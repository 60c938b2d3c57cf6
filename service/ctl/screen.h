/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Screen: where text for people goes. Knows whether a person sits there, how wide it is, and what it can show. All
 * that is written here is made harmless first (screen-text.h), whole lines at a time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct Screen {
        FILE *file;
        bool terminal;
        bool colour;            /* a terminal, and NO_COLOR is not set */
        bool utf8;              /* what is not a terminal takes UTF-8 always */
        size_t width;           /* columns; 0: no limit, which is so for all that is not a terminal */
} Screen;

typedef enum Style {
        STYLE_PLAIN,
        STYLE_TITLE,
        STYLE_GOOD,
        STYLE_DOUBTFUL,
        STYLE_BAD,
        STYLE_FAINT,
} Style;

void screen_open(Screen *screen, FILE *file);

/* What switches @style on, or "" where there is no colour; screen_plain() switches it off. */
const char *screen_style(const Screen *screen, Style style);
const char *screen_plain(const Screen *screen, Style style);

const char *screen_tick(const Screen *screen);          /* done */
const char *screen_cross(const Screen *screen);         /* not done */
const char *screen_mark_of_cut(const Screen *screen);   /* where a cell was cut */
const char *screen_arrow(const Screen *screen);

/* One line, made harmless, with the newline added. */
void screen_say(const Screen *screen, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A text of several lines: as it is, and on a terminal with each line made harmless. */
void screen_text(const Screen *screen, const char *text);

/* A question: without a newline, and at once. */
void screen_ask(const Screen *screen, const char *question);

/* @first, then @text wrapped between the column where @first ends and the right edge. */
void screen_paragraph(const Screen *screen, const char *first, Style first_style, const char *text);

/* "Title       value" with the values below one another; nothing for an empty value. */
void screen_fact(const Screen *screen, const char *title, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
