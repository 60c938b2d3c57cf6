/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A pattern for the vendor or the device in a rule, as text_matches() takes it. */

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether four hexadecimal digits can match the first @length of @pattern; nothing at all matches all. */
static inline bool pattern_may_match_pci_id(const char *pattern, size_t length) {
        size_t n_digits = 0;
        bool has_star = false;
        for (size_t i = 0; i < length; i++) {
                has_star = has_star || pattern[i] == '*';
                n_digits += pattern[i] != '*';
                if (pattern[i] != '*' && pattern[i] != '?' && !isxdigit((unsigned char) pattern[i]))
                        return false;
        }
        return length == 0 || n_digits == 4 || (has_star && n_digits < 4);
}
