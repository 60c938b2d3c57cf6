/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Another user's hand on the private bus (DBUS_SYSTEM_BUS_ADDRESS).
 *
 *     call-as USER PATH METHOD ARGUMENTS       calls, and prints the answer as bus-test's call() does
 *     call-as USER -i PATH METHOD ARGUMENTS    with interactive authorization allowed
 *     call-as USER --wait PATH METHOD ARGUMENTS   the same, but begins when a byte comes on standard input
 *     call-as USER --agent PID                 an authentication agent for process PID that never answers: prints
 * "ready",                                              "asked" and "cancelled" as these happen
 *     call-as USER --own NAME                  tries to own NAME; prints what the bus says */

#include <gio/gio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "become.h"
#include "bus-test.h"

static const char agent_introspection[] =
        "<node><interface name='org.freedesktop.PolicyKit1.AuthenticationAgent'>"
        "<method name='BeginAuthentication'><arg type='s'/><arg type='s'/><arg type='s'/><arg type='a{ss}'/><arg "
        "type='s'/><arg type='a(sa{sv})'/></method>"
        "<method name='CancelAuthentication'><arg type='s'/></method>"
        "</interface></node>";

static void say(const char *word) {
        (void) puts(word);
        (void) fflush(stdout);
}

static void on_agent_call(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                          const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, void *userdata) {
        if (g_str_equal(method, "BeginAuthentication")) {
                say("asked");
                return;         /* and thinks */
        }
        say("cancelled");
        g_dbus_method_invocation_return_value(invocation, NULL);
}

/* Field 22 of /proc/PID/stat, which polkit takes for the process's birth. */
static guint64 start_time(guint32 pid) {
        g_autofree char *path = g_strdup_printf("/proc/%u/stat", pid), *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) fields = g_strsplit(strrchr(text, ')') + 2, " ", -1);
        return g_ascii_strtoull(fields[19], NULL, 10);
}

static int be_agent(GDBusConnection *connection, guint32 pid) {
        static const GDBusInterfaceVTable vtable = { .method_call = on_agent_call };
        g_autoptr(GError) error = NULL;
        g_autoptr(GDBusNodeInfo) info = g_dbus_node_info_new_for_xml(agent_introspection, &error);
        g_assert_no_error(error);
        (void) g_dbus_connection_register_object(connection, "/agent", info->interfaces[0], &vtable, NULL, NULL,
                                                 &error);
        g_assert_no_error(error);

        GVariantBuilder details;
        g_variant_builder_init(&details, G_VARIANT_TYPE("a{sv}"));
        g_variant_builder_add(&details, "{sv}", "pid", g_variant_new_uint32(pid));
        g_variant_builder_add(&details, "{sv}", "start-time", g_variant_new_uint64(start_time(pid)));
        g_variant_builder_add(&details, "{sv}", "uid", g_variant_new_int32((gint32) getuid()));
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                connection, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
                "org.freedesktop.PolicyKit1.Authority", "RegisterAuthenticationAgent",
                g_variant_new("((sa{sv})ss)", "unix-process", &details, "C", "/agent"), NULL, G_DBUS_CALL_FLAGS_NONE,
                -1, NULL, &error);
        if (!reply) {
                say(error->message);
                return 1;
        }
        say("ready");
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        g_main_loop_run(loop);
        return 0;
}

static int own(GDBusConnection *connection, const char *name) {
        g_autofree char *arguments = g_strdup_printf("('%s', uint32 4)", name);
        g_autofree char *said = call_bus(connection, "RequestName", arguments);
        say(said);
        return 0;
}

int main(int argc, char **argv) {
        g_assert_cmpint(argc, >=, 4);
        become(argv[1]);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        g_autoptr(GDBusConnection) connection = connect_to(g_getenv("DBUS_SYSTEM_BUS_ADDRESS"));
        if (g_str_equal(argv[2], "--agent"))
                return be_agent(connection, (guint32) g_ascii_strtoull(argv[3], NULL, 10));
        if (g_str_equal(argv[2], "--own"))
                return own(connection, argv[3]);

        bool wait = g_str_equal(argv[2], "--wait"), interactive = wait || g_str_equal(argv[2], "-i");
        char **words = argv + 2 + interactive;
        if (wait && getchar() == EOF)
                return 1;
        Host host = { .client = connection };
        g_autofree char *answer = call_flags(&host, words[0], words[1], words[2],
                                             interactive ? G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION :
                                             G_DBUS_CALL_FLAGS_NONE);
        say(answer);
        return 0;
}
