/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/screen.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "util/cleanup.h"

#define WIDTH_UNKNOWN 80U       /* a terminal that does not say */
#define WIDTH_LEAST 20U         /* below it nothing can be read anyway */
#define FACT_TITLE_WIDTH 12

static size_t find_width(FILE *file) {
        uint64_t columns;
        const char *asked = getenv("COLUMNS");
        if (asked && text_to_u64(asked, 10, &columns) == 0 && columns > 0 && columns < 10000)
                return columns < WIDTH_LEAST ? WIDTH_LEAST : (size_t) columns;

        struct winsize size;
        if (ioctl(fileno(file), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return WIDTH_UNKNOWN;
        return size.ws_col < WIDTH_LEAST ? WIDTH_LEAST : size.ws_col;
}

void screen_open(Screen *screen, FILE *file) {
        const char *kind = getenv("TERM"), *no_colour = getenv("NO_COLOR");
        bool terminal = isatty(fileno(file));
        *screen = (Screen) {
                .file = file,
                .terminal = terminal,
                .colour = terminal && text_is_empty(no_colour) && !text_is_empty(kind) && !text_equal(kind, "dumb"),
                .utf8 = !terminal || text_equal(nl_langinfo(CODESET), "UTF-8"),
                .width = terminal ? find_width(file) : 0,
        };
}

const char *screen_style(const Screen *screen, Style style) {
        if (!screen->colour)
                return "";
        switch (style) {
        case STYLE_PLAIN:
                return "";
        case STYLE_TITLE:
                return "\033[1m";
        case STYLE_GOOD:
                return "\033[32m";
        case STYLE_DOUBTFUL:
                return "\033[33m";
        case STYLE_BAD:
                return "\033[1;31m";
        case STYLE_FAINT:
                return "\033[2m";
        }
        return "";
}

const char *screen_plain(const Screen *screen, Style style) {
        return screen->colour && style != STYLE_PLAIN ? "\033[0m" : "";
}

const char *screen_tick(const Screen *screen) {
        return screen->utf8 ? "✓" : "ok";
}

const char *screen_cross(const Screen *screen) {
        return screen->utf8 ? "✗" : "no";
}

const char *screen_mark_of_cut(const Screen *screen) {
        return screen->utf8 ? "…" : "...";
}

const char *screen_arrow(const Screen *screen) {
        return screen->utf8 ? "→" : "->";
}

void screen_say(const Screen *screen, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *line = must_vprintf(format, ap);
        va_end(ap);
        _cleanup_free_ char *safe = text_made_safe(line, !screen->utf8);
        fprintf(screen->file, "%s\n", safe);
}

static char *copy_without_tabs(const char *text, size_t length) {
        char *line = must_copy("");
        while (length > 0) {
                size_t plain = 0;
                while (plain < length && text[plain] != '\t')
                        plain++;
                must_append(&line, "%.*s%s", (int) plain, text, plain < length ? "        " : "");
                plain += plain < length;
                text += plain;
                length -= plain;
        }
        return line;
}

void screen_text(const Screen *screen, const char *text) {
        if (!screen->terminal) {
                fputs(text, screen->file);
                return;
        }
        while (*text) {
                size_t length = strcspn(text, "\n");
                _cleanup_free_ char *line = copy_without_tabs(text, length);
                screen_say(screen, "%s", line);
                text += length + (text[length] == '\n');
        }
}

void screen_ask(const Screen *screen, const char *question) {
        _cleanup_free_ char *safe = text_made_safe(question, !screen->utf8);
        fputs(safe, screen->file);
        fflush(screen->file);
}

void screen_paragraph(const Screen *screen, const char *first, Style first_style, const char *text) {
        _cleanup_free_ char *safe_first = text_made_safe(first, !screen->utf8);
        _cleanup_free_ char *safe = text_made_safe(text, !screen->utf8);
        size_t indent = text_width(safe_first);
        size_t room = screen->width > indent + WIDTH_LEAST ? screen->width - indent : 0;

        fprintf(screen->file, "%s%s%s", screen_style(screen, first_style), safe_first,
                screen_plain(screen, first_style));
        const char *rest = safe;
        for (;;) {
                size_t length = room > 0 ? text_line_length(rest, room) : strlen(rest);
                fprintf(screen->file, "%.*s\n", (int) length, rest);
                rest += length;
                while (*rest == ' ')
                        rest++;
                if (!*rest)
                        return;
                fprintf(screen->file, "%*s", (int) indent, "");
        }
}

void screen_fact(const Screen *screen, const char *title, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *value = must_vprintf(format, ap);
        va_end(ap);
        if (!*value)
                return;
        _cleanup_free_ char *first = must_printf("  %-*s", FACT_TITLE_WIDTH, title);
        screen_paragraph(screen, first, STYLE_FAINT, value);
}
