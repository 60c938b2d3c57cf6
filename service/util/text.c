/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/array.h"
#include "util/cleanup.h"

int text_set(char **text, const char *value) {
        char *copy = NULL;
        if (value) {
                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*text);
        *text = copy;
        return 0;
}

int text_printf(char **text, const char *format, ...) {
        char *made = NULL;
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&made, format, ap);
        va_end(ap);
        if (n < 0)
                return -ENOMEM;
        free(*text);
        *text = made;
        return 0;
}

int text_append(char **text, const char *format, ...) {
        _cleanup_free_ char *tail = NULL;
        va_list ap;
        va_start(ap, format);
        int n = vasprintf(&tail, format, ap);
        va_end(ap);
        if (n < 0) {
                tail = NULL;
                return -ENOMEM;
        }

        size_t have = *text ? strlen(*text) : 0;
        char *grown = realloc(*text, have + (size_t) n + 1);
        if (!grown)
                return -ENOMEM;
        memcpy(grown + have, tail, (size_t) n + 1);
        *text = grown;
        return 0;
}

static int digit_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return 16;
}

int text_to_u64(const char *text, unsigned base, uint64_t *ret) {
        if (text_is_empty(text))
                return -EINVAL;

        uint64_t value = 0;
        for (const char *p = text; *p; p++) {
                unsigned digit = (unsigned) digit_value(*p);
                if (digit >= base)
                        return -EINVAL;
                if (value > (UINT64_MAX - digit) / base)
                        return -ERANGE;
                value = value * base + digit;
        }
        *ret = value;
        return 0;
}

/* Reads one UTF-8 character; returns its length, or 0 where the bytes are none. */
static size_t read_character(const unsigned char *s, uint32_t *ret) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t length = s[0] < 0x80             ? 1
                        : (s[0] & 0xe0) == 0xc0 ? 2
                        : (s[0] & 0xf0) == 0xe0 ? 3
                        : (s[0] & 0xf8) == 0xf0 ? 4
                                                : 0;
        if (length == 0)
                return 0;

        uint32_t c = length == 1 ? s[0] : s[0] & (0x7fU >> length);
        for (size_t i = 1; i < length; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3fU);
        }
        if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return length;
}

static bool changes_direction(uint32_t c) {
        return c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
               (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

static bool is_shown(uint32_t c) {
        return c >= 0x20 && !(c >= 0x7f && c < 0xa0) && !changes_direction(c);
}

bool text_is_printable(const char *text) {
        for (const unsigned char *p = (const unsigned char *) text; *p;) {
                uint32_t c;
                size_t length = read_character(p, &c);
                if (length == 0 || !is_shown(c))
                        return false;
                p += length;
        }
        return true;
}

void text_make_printable(char *text, size_t most) {
        unsigned char *from = (unsigned char *) text, *to = from;
        while (*from) {
                uint32_t c;
                size_t length = read_character(from, &c);
                bool shown = length > 0 && is_shown(c);
                size_t takes = shown ? length : 1;
                if ((size_t) (to - (unsigned char *) text) + takes > most)
                        break;
                if (shown)
                        memmove(to, from, length);
                else
                        *to = ' ';
                to += takes;
                from += length ? length : 1;
        }
        *to = '\0';
}

/* Iterative, with one place to come back to: linear for one '*', never exponential. */
bool text_matches(const char *pattern, const char *text) {
        const char *star = NULL, *resume = NULL;
        while (*text) {
                if (*pattern == '*') {
                        star = ++pattern;
                        resume = text;
                        continue;
                }
                if (*pattern == '?' ||
                    (*pattern && tolower((unsigned char) *pattern) == tolower((unsigned char) *text))) {
                        pattern++;
                        text++;
                        continue;
                }
                if (!star)
                        return false;
                pattern = star;
                text = ++resume;
        }
        while (*pattern == '*')
                pattern++;
        return !*pattern;
}

int text_list_add(TextList *list, const char *text) {
        _cleanup_free_ char *copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        int r = array_append(list, &copy);
        if (r < 0)
                return r;
        copy = NULL;
        return 0;
}

bool text_list_has(const TextList *list, const char *text) {
        for (size_t i = 0; i < list->n; i++)
                if (text_equal(list->items[i], text))
                        return true;
        return false;
}

bool text_list_equal(const TextList *a, const TextList *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!text_equal(a->items[i], b->items[i]))
                        return false;
        return true;
}

int text_list_copy(const TextList *from, TextList *ret) {
        TextList copy = {};
        for (size_t i = 0; i < from->n; i++) {
                int r = text_list_add(&copy, from->items[i]);
                if (r < 0) {
                        text_list_clear(&copy);
                        return r;
                }
        }
        *ret = copy;
        return 0;
}

void text_list_clear(TextList *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        array_clear(list);
}
