/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text: small string work that libc lacks. Text is made and parsed at the edge; inside, ids are types. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool text_equal(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool text_is_empty(const char *s) {
        return !s || !*s;
}

/* Replaces *text by a copy of @value (NULL clears it). Returns 0, or -ENOMEM with *text as it was. */
int text_set(char **text, const char *value);

/* Replaces *text by the formatted sentence. Returns 0 or -ENOMEM. */
int text_printf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds to *text, which may be NULL. Returns 0 or -ENOMEM. */
int text_append(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Parses a whole unsigned number in @base (10 or 16), no sign, no space. 0, -EINVAL or -ERANGE. */
int text_to_u64(const char *text, unsigned base, uint64_t *ret);

/* True if @text is valid UTF-8 without control characters and without characters that change the direction of
 * text; what a person may be shown in a table. */
bool text_is_printable(const char *text);

/* Makes somebody else's message a line that may be shown: what is not printable becomes a space, and what is longer
 * than @most bytes is cut, not inside a character. In place. */
void text_make_printable(char *text, size_t most);

/* Shell-like match: '*' any run, '?' one character, no case. */
bool text_matches(const char *pattern, const char *text);

/* A list of owned strings. */
typedef struct TextList {
        char **items;
        size_t n;
        size_t allocated;
} TextList;

int text_list_add(TextList *list, const char *text);
bool text_list_has(const TextList *list, const char *text);
/* The same texts in the same order. */
bool text_list_equal(const TextList *a, const TextList *b);
int text_list_copy(const TextList *from, TextList *ret);
void text_list_clear(TextList *list);
