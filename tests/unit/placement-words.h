/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What placement answers, in a line that a test can be read by. All is the caller's, for g_free(). */

#include "world-builder.h"

/* "b: 41 42", or the code of why not. */
char *place_of(WorldBuilder *w, const char *vm);

/* The reasons of one node: "code: sentence" after "code: sentence". */
char *reasons_of(WorldBuilder *w, const char *vm, const char *node);

#define ASSERT_PLACE(w, vm, expected)                           \
        do {                                                    \
                char *_place = place_of((w), (vm));             \
                g_assert_cmpstr(_place, ==, (expected));        \
                g_free(_place);                                 \
        } while (0)

#define ASSERT_REASONS(w, vm, node, expected)                           \
        do {                                                            \
                char *_reasons = reasons_of((w), (vm), (node));         \
                g_assert_cmpstr(_reasons, ==, (expected));              \
                g_free(_reasons);                                       \
        } while (0)
