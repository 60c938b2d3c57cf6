/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the survey share: each looks for the blockers of one noun. */

#include "core/survey.h"
#include "util/array.h"

/* How many devices or processes a sentence names before it says "and N more". */
#define NAMED_MAX 3

#define MIB (UINT64_C(1024) * 1024)
#define GIB (UINT64_C(1024) * MIB)

/* Each of these looks for one blocker. Returns > 0 with the sentence written (and a remedy where it knows a better one
 * than the table's), 0 where nothing is in the way, or -ENOMEM. */
#define SURVEY_CODE(code, name, find, ...) int find(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret);
SURVEY_CODES(SURVEY_CODE)
#undef SURVEY_CODE

#define FOUND(blocker, ...)                                             \
        ({                                                              \
                int _r = text_printf(&(blocker)->sentence, __VA_ARGS__); \
                _r < 0 ? _r : 1;                                        \
        })

/* The kernel was booted with this parameter ("intremap=off"), the last that says something of it; or NULL.
 * @value: NULL where the name alone counts. */
const char *boot_parameter_find(const NodeFacts *host, const char *name, const char *value);
