/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/bus/log-control.h"

#include <errno.h>
#include <unistd.h>

#include "adapters/bus/bus-internal.h"
#include "core/names.h"
#include "util/log.h"

#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"

static int get_level(sd_bus *connection, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", log_level_to_text(log_level()));
}

static int set_level(sd_bus *connection, const char *path, const char *interface, const char *property,
                     sd_bus_message *value, void *userdata, sd_bus_error *error) {
        const char *text;
        int level;
        int r = sd_bus_message_read(value, "s", &text);
        if (r < 0)
                return r;
        if (log_level_from_text(text, &level) < 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "a log level is emerg, alert, crit, err, warning, notice, info or debug");
        log_set_level(level);
        log_notice("log level set to %s over the bus", log_level_to_text(level));
        return 0;
}

static int get_target(sd_bus *connection, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", "console");
}

static int set_target(sd_bus *connection, const char *path, const char *interface, const char *property,
                      sd_bus_message *value, void *userdata, sd_bus_error *error) {
        return sd_bus_error_set(error, SD_BUS_ERROR_NOT_SUPPORTED,
                                "gpupoold logs to its standard error, which systemd gives to the journal");
}

static int get_identifier(sd_bus *connection, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", "gpupoold");
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, 0),
        SD_BUS_VTABLE_END,
};

/* A setter cannot wait, and sd-bus's own check of privileges would ask the bus daemon and stand still meanwhile. So
 * each Set passes here first, and is dispatched again when it is known who calls; only then does the setter see it. */
static int guard_set(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;
        const Caller *caller;
        if (!sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Set"))
                return 0;
        int r = ask_caller(bus, m, &caller, error);
        if (r != ASK_GO)
                return r;
        bool allowed = caller->uid == 0 || caller->uid == geteuid();
        ask_done(bus, m);
        return allowed ? 0 : sd_bus_error_set(error, ERROR_ACCESS_DENIED, "only root may change the log level");
}

int log_control_add(Bus *bus) {
        sd_bus_slot *slot = NULL;
        int r = sd_bus_add_object(bus->connection, &slot, LOG_CONTROL_PATH, guard_set, bus);
        if (r >= 0)
                r = bus_keep_slot(bus, slot);
        if (r < 0)
                return r;
        slot = NULL;
        r = sd_bus_add_object_vtable(bus->connection, &slot, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE, vtable, bus);
        return r < 0 ? r : bus_keep_slot(bus, slot);
}
