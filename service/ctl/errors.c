/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/errors.h"

#include <string.h>

#include "core/names.h"
#include "ctl/must.h"
#include "util/array.h"
#include "util/cleanup.h"

#define DBUS_ERROR "org.freedesktop.DBus.Error."

static bool begins(const char *text, const char *with) {
        return strncmp(text, with, strlen(with)) == 0;
}

bool error_is_absence(const char *name) {
        return text_equal(name, DBUS_ERROR "ServiceUnknown") || text_equal(name, DBUS_ERROR "NameHasNoOwner") ||
               begins(name, DBUS_ERROR "Spawn.") || begins(name, "org.freedesktop.systemd1.");
}

/* The action that the service named, else the one that decides this. */
static char *find_action(const char *message, const Asked *asked) {
        static const char *const actions[] = {
                ACTION_USE_POOL, ACTION_OPERATE_VM, ACTION_DEFINE_VM, ACTION_READ_VM, ACTION_MANAGE_POOL,
                ACTION_MANAGE_NODE, ACTION_MANAGE_CLUSTER,
        };
        for (size_t i = 0; i < ELEMENTS(actions); i++)
                if (strstr(message, actions[i]))
                        return must_copy(actions[i]);
        return must_copy(asked->action ? asked->action : "a right that you do not have");
}

static char *explain_denial(const char *message, const Asked *asked) {
        if (begins(message, "Rejected send message"))
                return must_printf("Not allowed: the bus lets nobody talk to gpupoold. Its policy, " BUS_NAME
                                   ".conf, is missing from /usr/share/dbus-1/system.d, or another one forbids it.");
        /* polkit's plain no is told with what was asked; why polkit could not decide is told as it is. */
        if (*message && !strstr(message, "ask an administrator"))
                return must_printf("Not allowed: %s", message);
        _cleanup_free_ char *action = find_action(message, asked);
        return must_printf("Not allowed: %s needs %s; ask an administrator, or see gpupool(7), \"delegating a pool\".",
                           asked->doing ? asked->doing : "this", action);
}

static char *explain_question(const char *message, const Asked *asked) {
        _cleanup_free_ char *action = find_action(message, asked);
        return must_printf("Not allowed: %s needs %s, and polkit would ask for a password: run it on a terminal, ask "
                           "an administrator, or see gpupool(7), \"delegating a pool\".",
                           asked->doing ? asked->doing : "this", action);
}

static char *explain_silence(const char *what, const Asked *asked, Status *ret_status) {
        *ret_status = asked->changes ? STATUS_UNKNOWN : STATUS_UNREACHABLE;
        if (!asked->changes)
                return must_printf("%s. See why: systemctl status gpupoold", what);
        return must_printf("%s: it may or may not have happened. Look (gpupoolctl status) before asking again.", what);
}

static char *explain_dbus(const char *name, const char *message, const Asked *asked, Status *ret_status) {
        const char *kind = name + strlen(DBUS_ERROR);
        if (text_equal(kind, "AccessDenied")) {
                *ret_status = STATUS_DENIED;
                return explain_denial(message, asked);
        }
        if (text_equal(kind, "InteractiveAuthorizationRequired")) {
                *ret_status = STATUS_DENIED;
                return explain_question(message, asked);
        }
        if (text_equal(kind, "Timeout") || text_equal(kind, "TimedOut"))
                return explain_silence("gpupoold did not answer in time", asked, ret_status);
        if (text_equal(kind, "NoReply"))
                return explain_silence("gpupoold ended before it answered", asked, ret_status);
        if (text_equal(kind, "Disconnected"))
                return explain_silence("The connection to the bus was lost", asked, ret_status);
        if (text_equal(kind, "UnknownObject"))
                return must_printf("It is gone: somebody removed it meanwhile. Look again: gpupoolctl status");
        if (text_equal(kind, "UnknownMethod") || text_equal(kind, "UnknownInterface"))
                return must_printf("The gpupoold that runs does not know %s; it is older than this gpupoolctl (%s). "
                                   "Restart it after the upgrade: systemctl restart gpupoold",
                                   asked->method ? asked->method : "this", GPUPOOL_VERSION);
        return NULL;
}

char *error_to_sentence(const char *name, const char *message, const Asked *asked, Status *ret_status) {
        message = message ? message : "";
        *ret_status = STATUS_FAILED;
        if (error_is_absence(name)) {
                *ret_status = STATUS_UNREACHABLE;
                if (begins(name, DBUS_ERROR "Service") || begins(name, DBUS_ERROR "Name"))
                        return must_printf("gpupoold is not running. Start it: systemctl start gpupoold");
                return must_printf("gpupoold is not running and did not start (%s). See why: systemctl status gpupoold",
                                   message);
        }

        if (text_equal(name, ERROR_NO_QUORUM) || text_equal(name, ERROR_UNREACHABLE))
                *ret_status = STATUS_UNREACHABLE;
        else if (text_equal(name, ERROR_OUTCOME_UNKNOWN))
                *ret_status = STATUS_UNKNOWN;
        else if (text_equal(name, ERROR_NO_CAPACITY))
                *ret_status = STATUS_WAITS;
        else if (begins(name, DBUS_ERROR)) {
                char *sentence = explain_dbus(name, message, asked, ret_status);
                if (sentence)
                        return sentence;
        }

        if (*message)
                return must_copy(message);
        const char *dot = strrchr(name, '.');
        return must_printf("gpupoold answered \"%s\" and no more. Its log says more: journalctl -u gpupoold",
                           dot ? dot + 1 : name);
}
