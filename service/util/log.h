/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Log: one line to standard error per message, with systemd's "<level>" prefix where the journal reads it. Called by
 * the daemons and by the outermost callback of an adapter, never by util or core. */

#include <syslog.h>

void log_set_level(int level);          /* LOG_ERR .. LOG_DEBUG; messages above it are dropped */
int log_level(void);

/* "info" and the like to a level, by syslog's names. 0 or -EINVAL. */
int log_level_from_text(const char *text, int *ret);
const char *log_level_to_text(int level);

/* Keeps errno. */
void log_message(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_message(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_notice(...) log_message(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_message(LOG_ERR, __VA_ARGS__)
