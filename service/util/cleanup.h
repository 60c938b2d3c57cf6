/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Ownership: a variable marked _cleanup_(f) is given to f when its scope ends; STEAL() hands the value on and
 * leaves nothing behind. One allocation has one owner.
 *
 * The error policy of the whole project, in one place:
 *  - A negative return is an errno: something broke, pass it on unchanged.
 *  - A decided outcome (refused, stale, no room) is a value >= 0 of the function's own enum; the caller handles each.
 *  - Results go out through ret_ parameters and are untouched unless the call succeeded.
 *  - An error is logged once, where it stops; util and core never log. */

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Takes a destructor "Type *func(Type *)" or "void func(Type *)" and makes funcp() of it for _cleanup_(). */
#define DEFINE_CLEANUP(type, func)                      \
        static inline void func##p(type *p) {           \
                if (*p)                                 \
                        (void) func(*p);                \
        }                                               \
        struct func##_needs_a_semicolon

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline void closep(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

/* The value of a pointer, which is NULL from now on. */
#define STEAL(pointer)                                  \
        ({                                              \
                __typeof__(pointer) *_stolen = &(pointer); \
                __typeof__(pointer) _value = *_stolen;  \
                *_stolen = NULL;                        \
                _value;                                 \
        })

static inline int steal_fd(int *fd) {
        int value = *fd;
        *fd = -1;
        return value;
}
