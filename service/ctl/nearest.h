/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Nearest: which of the known words did a person mean who typed another? */

#include <stddef.h>

typedef struct Nearest {
        const char *typed;      /* borrowed */
        const char *found;      /* borrowed from what was considered; NULL: nothing is near enough */
        size_t distance;
} Nearest;

Nearest nearest_of(const char *typed);
void nearest_consider(Nearest *nearest, const char *known);

/* Compares with @known and answers @answer. */
void nearest_consider_as(Nearest *nearest, const char *known, const char *answer);
const char *nearest_found(const Nearest *nearest);

/* Letters to add, drop, change or swap, to make one of the other. Case does not count. */
size_t edit_distance(const char *a, const char *b);
