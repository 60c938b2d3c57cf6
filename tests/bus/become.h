/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <glib.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

/* This process is @user's from now on, with all groups of that user. */
static inline void become(const char *user) {
        const struct passwd *passwd = getpwnam(user);
        if (!passwd)
                g_error("no user %s", user);
        if (initgroups(user, passwd->pw_gid) < 0 || setresgid(passwd->pw_gid, passwd->pw_gid, passwd->pw_gid) < 0 ||
            setresuid(passwd->pw_uid, passwd->pw_uid, passwd->pw_uid) < 0)
                g_error("cannot become %s: %s", user, g_strerror(errno));
}
