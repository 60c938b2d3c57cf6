/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guard/say.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

void say(int level, const char *format, ...) {
        static char line[512];
        int n = snprintf(line, sizeof(line) - 1, "<%i>", level);
        va_list ap;
        va_start(ap, format);
        int more = vsnprintf(line + n, sizeof(line) - 1 - (size_t) n, format, ap);
        va_end(ap);
        if (more < 0)
                return;

        size_t length = (size_t) n + (size_t) more;
        if (length > sizeof(line) - 2)
                length = sizeof(line) - 2;
        line[length++] = '\n';

        /* The journal's end is a socket. Elsewhere (a terminal, a file) what poll() promises is true for one line. */
        if (send(STDERR_FILENO, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                return;
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(STDERR_FILENO, line, length) < 0)
                return;
}
