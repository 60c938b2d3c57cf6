/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Find: the objects by what a person calls them. */

#include "ctl/objects.h"

/* The name that people know an object by; for one that is gone, the end of its path; "" for "/". Borrowed. */
const char *objects_name(const Objects *objects, const char *path);

/* Outcome of a search by what a person typed. */
typedef enum FindVerdict {
        FIND_FOUND,
        FIND_NOTHING,           /* ret_hint: the nearest name, or NULL */
        FIND_SEVERAL,           /* ret_hint: all that it could mean, "a:0000:41:00.0, b:0000:41:00.0" */
} FindVerdict;

/* Nodes by name or id; GPUs by name, or by an address that only one of them has, with or without the leading domain
 * ("41:00.0"); pools by name; VMs by name or UUID; jobs by number; all also by object path. Returns a FindVerdict.
 * *ret_index is the place in its row. Caller frees *ret_hint. */
FindVerdict objects_find(const Objects *objects, ObjectKind kind, const char *typed, size_t *ret_index,
                         char **ret_hint);
