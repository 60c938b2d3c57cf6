/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Errors: what came back over the bus instead of an answer, as a sentence that says what to do, and a status. */

#include <stdbool.h>

#include "ctl/ctl.h"

/* What was asked, in words. */
typedef struct Asked {
        bool changes;           /* it may have happened, if no answer came */
        const char *doing;      /* "stopping a VM of pool training"; NULL: just reading */
        const char *action;     /* the polkit action that decides it, or both of them; NULL: none */
        const char *method;     /* for a service that does not know it */
} Asked;

/* The sentence for the error @name with the service's @message. Caller frees. */
char *error_to_sentence(const char *name, const char *message, const Asked *asked, Status *ret_status);

/* True if @name says that no gpupoold runs. */
bool error_is_absence(const char *name);
