/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Screen text: UTF-8 as a terminal shows it. How wide it is, where it may be cut, and how it is made harmless: a
 * name or a sentence that came over the bus must not move the cursor, change colours or turn the direction of what
 * stands beside it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one character; returns its length in bytes, or 0 where the bytes are no UTF-8. */
size_t character_read(const char *text, uint32_t *ret);

/* Columns that a terminal gives it: 0 (combining), 1 or 2 (East Asian wide, emoji). */
unsigned character_width(uint32_t character);

/* Control characters, what changes the direction of text, and what cannot be seen. */
bool character_is_harmful(uint32_t character);

bool text_is_utf8(const char *text);
size_t text_width(const char *text);

/* A copy with every harmful character as \n, \t, \x1b or \u{202e}, and bytes that are no UTF-8 as \xff. With @ascii
 * what is not ASCII becomes '?' (a terminal that does not speak UTF-8). Caller frees. */
char *text_made_safe(const char *text, bool ascii);

/* A copy of at most @width columns, with @mark at its end if something was cut off. Caller frees. */
char *text_cut(const char *text, size_t width, const char *mark);

/* How many bytes of @text make a line of at most @width columns, cut at a space where there is one. */
size_t text_line_length(const char *text, size_t width);
