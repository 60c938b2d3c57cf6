/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Must: memory in a program that lives for a second. gpupoolctl keeps nothing that could be lost, so a lack of
 * memory ends it here, with a sentence and status 1, and the verbs stay readable. The service never does this. */

#include <stddef.h>

#include "util/text.h"

void out_of_memory(void) __attribute__((noreturn));

/* For calls that can only fail for want of memory. */
#define MUST(call)                              \
        do {                                    \
                if ((call) < 0)                 \
                        out_of_memory();        \
        } while (0)

void *must_zero(size_t size);
char *must_copy(const char *text);              /* NULL stays NULL */
char *must_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *must_vprintf(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));
void must_append(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void must_list_add(TextList *list, const char *text);

/* "a, b, c" of the list; empty text for an empty list. */
char *must_join(const TextList *list, const char *between);
