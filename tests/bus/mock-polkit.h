/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A polkit that notes every question and answers as it is told. Lives in a thread of its own,
        with its own connection. */

#include <gio/gio.h>

typedef struct MockPolkit MockPolkit;

typedef enum PolkitAnswer {
        POLKIT_YES,
        POLKIT_NO,
        POLKIT_CHALLENGE,
        POLKIT_HANG,            /* until mock_polkit_answer_hanging() */
        POLKIT_FAIL,            /* an error of polkit's own */
        POLKIT_GARBAGE,         /* a reply of another type */
} PolkitAnswer;

MockPolkit *mock_polkit_new(const char *address);
MockPolkit *mock_polkit_free(MockPolkit *mock);         /* it vanishes from the bus; what hangs gets no answer */

void mock_polkit_set(MockPolkit *mock, PolkitAnswer answer);
/* For one action only, from now on. */
void mock_polkit_set_action(MockPolkit *mock, const char *action, PolkitAnswer answer);
void mock_polkit_answer_hanging(MockPolkit *mock, PolkitAnswer answer);

/* All questions and cancellations so far, one a line: "org.gpupool1.manage-pool pool=x verb=create" or "cancelled";
 * the leading "org.gpupool1." is cut off. Clears them. Owned by the caller. */
char *mock_polkit_take(MockPolkit *mock);
/* Waits until there are that many lines. */
void mock_polkit_wait(MockPolkit *mock, unsigned n_lines);

/* Of the last question. */
char *mock_polkit_last_subject(MockPolkit *mock);       /* "system-bus-name :1.5" */
unsigned mock_polkit_last_flags(MockPolkit *mock);
