/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define LENGTH_MAX 80U          /* longer words are compared by their beginning: a name has 63 at most */

static size_t smaller(size_t a, size_t b) {
        return a < b ? a : b;
}

static bool same_letter(char a, char b) {
        return tolower((unsigned char) a) == tolower((unsigned char) b);
}

size_t edit_distance(const char *a, const char *b) {
        size_t n = strnlen(a, LENGTH_MAX), m = strnlen(b, LENGTH_MAX);
        size_t rows[3][LENGTH_MAX + 1];
        for (size_t j = 0; j <= m; j++)
                rows[0][j] = j;
        for (size_t i = 1; i <= n; i++) {
                size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
                row[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        row[j] = smaller(above[j - 1] + !same_letter(a[i - 1], b[j - 1]),
                                         smaller(above[j], row[j - 1]) + 1);
                        if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]))
                                row[j] = smaller(row[j], two_above[j - 2] + 1);
                }
        }
        return rows[n % 3][m];
}

Nearest nearest_of(const char *typed) {
        /* A third of the letters may be wrong, and one of two. */
        size_t length = strlen(typed);
        return (Nearest) { .typed = typed, .distance = length <= 3 ? 2 : length / 3 + 2 };
}

void nearest_consider_as(Nearest *nearest, const char *known, const char *answer) {
        size_t distance = edit_distance(nearest->typed, known);
        if (distance >= nearest->distance || distance >= strlen(known))
                return;
        nearest->distance = distance;
        nearest->found = answer;
}

void nearest_consider(Nearest *nearest, const char *known) {
        nearest_consider_as(nearest, known, known);
}

const char *nearest_found(const Nearest *nearest) {
        return nearest->found;
}
