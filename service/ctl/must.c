/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/must.h"

#include <stdio.h>
#include <stdlib.h>

#include "util/cleanup.h"

void out_of_memory(void) {
        fputs("Out of memory.\n", stderr);
        exit(1);
}

void *must_zero(size_t size) {
        void *p = calloc(1, size);
        if (!p)
                out_of_memory();
        return p;
}

char *must_copy(const char *text) {
        if (!text)
                return NULL;
        char *copy = strdup(text);
        if (!copy)
                out_of_memory();
        return copy;
}

char *must_vprintf(const char *format, va_list ap) {
        char *made = NULL;
        if (vasprintf(&made, format, ap) < 0)
                out_of_memory();
        return made;
}

char *must_printf(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        char *made = must_vprintf(format, ap);
        va_end(ap);
        return made;
}

void must_append(char **text, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *tail = must_vprintf(format, ap);
        va_end(ap);
        MUST(text_append(text, "%s", tail));
}

void must_list_add(TextList *list, const char *text) {
        MUST(text_list_add(list, text));
}

char *must_join(const TextList *list, const char *between) {
        char *joined = must_copy("");
        for (size_t i = 0; i < list->n; i++)
                must_append(&joined, "%s%s", i > 0 ? between : "", list->items[i]);
        return joined;
}
