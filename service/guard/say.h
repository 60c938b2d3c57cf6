/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Say: the guard's log. One line to standard error that never blocks and never allocates: a journal that hangs must not
 * hold up a kill. A line that does not go out at once is lost. Errors are told by their name (ENOMEM). */

void say(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
