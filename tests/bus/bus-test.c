/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-test.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 60000

/* ---- processes */

static void die_with_parent(void *unused) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
}

GPid host_spawn(const char *const *arguments, const char *address) {
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) environment = g_get_environ();
        GPid pid;
        if (address)
                environment = g_environ_setenv(environment, "DBUS_SYSTEM_BUS_ADDRESS", address, TRUE);
        (void) g_spawn_async(NULL, (char **) arguments, environment, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH,
                             die_with_parent, NULL, &pid, &error);
        g_assert_no_error(error);
        return pid;
}

void host_end(GPid *pid) {
        if (*pid <= 0)
                return;
        (void) kill(*pid, SIGKILL);
        (void) waitpid(*pid, NULL, 0);
        *pid = 0;
}

/* ---- the bus */

static const char config_head[] =
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
        " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
        "<busconfig>\n"
        "  <type>system</type>\n"
        "  <listen>unix:path=%s/bus</listen>\n"
        "  <auth>EXTERNAL</auth>\n"
        /* what Debian's own system.conf says */
        "  <policy context=\"default\">\n"
        "    <allow user=\"*\"/>\n"
        "    <deny own=\"*\"/>\n"
        "    <deny send_type=\"method_call\"/>\n"
        "    <allow send_type=\"signal\"/>\n"
        "    <allow send_requested_reply=\"true\" send_type=\"method_return\"/>\n"
        "    <allow send_requested_reply=\"true\" send_type=\"error\"/>\n"
        "    <allow receive_type=\"method_call\"/>\n"
        "    <allow receive_type=\"method_return\"/>\n"
        "    <allow receive_type=\"error\"/>\n"
        "    <allow receive_type=\"signal\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\" send_interface=\"org.freedesktop.DBus\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\" "
        "send_interface=\"org.freedesktop.DBus.Introspectable\"/>\n    <allow "
        "send_destination=\"org.freedesktop.DBus\" send_interface=\"org.freedesktop.DBus.Properties\"/>\n  </policy>\n";

static const char config_mock[] =
        "  <policy user=\"%1$s\">\n"
        "    <allow own=\"org.freedesktop.PolicyKit1\"/>\n"
        "    <allow send_destination=\"org.freedesktop.PolicyKit1\"/>\n"
        "  </policy>\n"
        "  <include>%2$s/org.gpupool1.conf</include>\n";

static const char *own_user(void) {
        const struct passwd *passwd = getpwuid(getuid());
        g_assert_nonnull(passwd);
        return passwd->pw_name;
}

/* The real policy file, for whom these tests run as. */
static void write_policy(const char *folder) {
        g_autofree char *text = NULL, *path = g_build_filename(folder, "org.gpupool1.conf", NULL);
        g_autofree char *mine = g_strdup_printf("user=\"%s\"", own_user());
        g_autoptr(GError) error = NULL;
        (void) g_file_get_contents(BUS_POLICY, &text, NULL, &error);
        g_assert_no_error(error);
        g_auto(GStrv) parts = g_strsplit(text, "user=\"" SERVICE_USER "\"", -1);
        g_assert_cmpuint(g_strv_length(parts), >, 1);
        g_autofree char *changed = g_strjoinv(mine, parts);
        (void) g_file_set_contents(path, changed, -1, &error);
        g_assert_no_error(error);
}

static void write_config(const char *folder, const char *tail) {
        g_autofree char *path = g_build_filename(folder, "bus.conf", NULL);
        g_autofree char *head = g_strdup_printf(config_head, folder);
        g_autofree char *mock = tail ? g_strdup(tail) : g_strdup_printf(config_mock, own_user(), folder);
        g_autofree char *text = g_strconcat(head, mock, "</busconfig>\n", NULL);
        g_autoptr(GError) error = NULL;
        (void) g_file_set_contents(path, text, -1, &error);
        g_assert_no_error(error);
}

/* It prints its address when it is ready. */
static GPid start_bus(const char *folder) {
        g_autofree char *config = g_strdup_printf("--config-file=%s/bus.conf", folder);
        const char *const arguments[] = { "dbus-daemon", config, "--nofork", "--nopidfile", "--nosyslog",
                                          "--print-address", NULL };
        g_autoptr(GError) error = NULL;
        GPid pid;
        int output;
        (void) g_spawn_async_with_pipes(NULL, (char **) arguments, NULL,
                                        G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL,
                                        die_with_parent, NULL, &pid, NULL, &output, NULL, &error);
        g_assert_no_error(error);
        char line[256];
        ssize_t n = read(output, line, sizeof(line));
        g_assert_cmpint(n, >, 0);
        (void) close(output);
        return pid;
}

GDBusConnection *connect_to(const char *address) {
        g_autoptr(GError) error = NULL;
        GDBusConnection *connection = g_dbus_connection_new_for_address_sync(
                address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                NULL, NULL, &error);
        g_assert_no_error(error);
        return connection;
}

static void on_signal(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                      const char *member, GVariant *parameters, void *userdata) {
        g_autofree char *arguments = g_variant_print(parameters, TRUE);
        g_ptr_array_add(userdata, g_strdup_printf("%s %s %s", path, member, arguments));
}

static void connect_client(Host *host) {
        host->client = connect_to(host->address);
        (void) g_dbus_connection_signal_subscribe(host->client, "org.gpupool1", NULL, NULL, NULL, NULL,
                                                  G_DBUS_SIGNAL_FLAGS_NONE, on_signal, host->signals, NULL);
}

void host_restart_bus(Host *host) {
        (void) g_dbus_connection_close_sync(host->client, NULL, NULL);
        g_object_unref(host->client);
        host->polkit = mock_polkit_free(host->polkit);
        host_end(&host->bus);
        host->bus = start_bus(host->folder);
        connect_client(host);
        host->polkit = mock_polkit_new(host->address);
}

Host *host_new_bus_only(const char *config_tail) {
        g_autoptr(GError) error = NULL;
        Host *host = g_new0(Host, 1);
        host->to_service = -1;
        host->folder = g_dir_make_tmp("gpupool-bus-XXXXXX", &error);
        g_assert_no_error(error);
        (void) g_chmod(host->folder, 0755);
        host->address = g_strdup_printf("unix:path=%s/bus", host->folder);
        write_policy(host->folder);
        write_config(host->folder, config_tail);
        host->bus = start_bus(host->folder);
        host->signals = g_ptr_array_new_with_free_func(g_free);
        connect_client(host);
        return host;
}

void host_start_service(Host *host, const char *arguments) {
        g_autofree char *line = g_strdup_printf("%s %s", FAKE_SERVICE, arguments ? arguments : "");
        g_auto(GStrv) words = NULL,
                environment = g_environ_setenv(g_get_environ(), "DBUS_SYSTEM_BUS_ADDRESS", host->address, TRUE);
        g_autoptr(GError) error = NULL;
        (void) g_shell_parse_argv(line, NULL, &words, &error);
        g_assert_no_error(error);
        int output;
        (void) g_spawn_async_with_pipes(NULL, words, environment, G_SPAWN_DO_NOT_REAP_CHILD, die_with_parent, NULL,
                                        &host->service, &host->to_service, &output, NULL, &error);
        g_assert_no_error(error);
        host->from_service = fdopen(output, "r");
        char ready[64];
        g_assert_nonnull(fgets(ready, sizeof(ready), host->from_service));
        g_assert_cmpstr(ready, ==, "ready\n");
}

Host *host_new(const char *arguments) {
        Host *host = host_new_bus_only(NULL);
        host->polkit = mock_polkit_new(host->address);
        host_start_service(host, arguments);
        return host;
}

static void remove_folder(const char *folder) {
        GDir *dir = g_dir_open(folder, 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(folder, name, NULL);
                (void) g_remove(path);
        }
        if (dir)
                g_dir_close(dir);
        (void) g_rmdir(folder);
}

/* The service must have ended by itself, without a complaint of a sanitizer, when its input ends. */
static void end_service(Host *host) {
        if (host->service <= 0)
                return;
        int status;
        (void) close(host->to_service);
        gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
        while (waitpid(host->service, &status, WNOHANG) == 0) {
                if (g_get_monotonic_time() > deadline) {
                        host_end(&host->service);
                        g_error("the service does not end");
                }
                g_usleep(2000);
        }
        host->service = 0;
        (void) fclose(host->from_service);
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

Host *host_free(Host *host) {
        if (!host)
                return NULL;
        end_service(host);
        mock_polkit_free(host->polkit);
        (void) g_dbus_connection_close_sync(host->client, NULL, NULL);
        g_object_unref(host->client);
        host_end(&host->bus);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        g_ptr_array_unref(host->signals);
        remove_folder(host->folder);
        g_free(host->folder);
        g_free(host->address);
        g_free(host);
        return NULL;
}

/* ---- telling the service */

char *tell(Host *host, const char *command) {
        g_autofree char *line = g_strdup_printf("%s\n", command);
        g_assert_cmpint(write(host->to_service, line, strlen(line)), ==, (ssize_t) strlen(line));
        GString *said = g_string_new(NULL);
        unsigned n_commands = 1;
        for (const char *p = command; (p = strchr(p, '\n')); p++)
                n_commands++;
        char answer[4096];
        while (fgets(answer, sizeof(answer), host->from_service)) {
                if (!g_str_equal(answer, "ok\n"))
                        g_string_append(said, answer);
                else if (--n_commands == 0)
                        return g_string_free(said, FALSE);
        }
        g_error("the service has ended at: %s", command);
}

void told(Host *host, const char *command) {
        g_free(tell(host, command));
}

/* ---- calling */

static GVariant *parse(const char *arguments) {
        if (!arguments)
                return NULL;
        g_autoptr(GError) error = NULL;
        GVariant *parsed = g_variant_parse(NULL, arguments, NULL, NULL, &error);
        g_assert_no_error(error);
        return parsed;
}

static void split_method(const char *method, char **ret_interface, char **ret_member) {
        const char *dot = strrchr(method, '.');
        g_autofree char *head = g_strndup(method, (size_t) (dot - method));
        *ret_interface = g_str_has_prefix(head, "org.") ? g_strdup(head) : g_strconcat("org.gpupool1.", head, NULL);
        *ret_member = g_strdup(dot + 1);
}

static char *print_answer(GVariant *reply, GError *error) {
        if (reply)
                return g_variant_print(reply, TRUE);
        g_autofree char *name = g_dbus_error_get_remote_error(error);
        (void) g_dbus_error_strip_remote_error(error);
        const char *shown = name &&
                g_str_has_prefix(name, "org.gpupool1.Error.") ? name + strlen("org.gpupool1.Error.") : name;
        return g_strdup_printf("%s: %s", shown ? shown : "no answer", error->message);
}

char *call_flags(Host *host, const char *path, const char *method, const char *arguments, GDBusCallFlags flags) {
        g_autofree char *interface = NULL, *member = NULL;
        g_autoptr(GError) error = NULL;
        split_method(method, &interface, &member);
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(host->client, "org.gpupool1", path, interface, member,
                                                                parse(arguments), NULL, flags, DEADLINE_MS, NULL,
                                                                &error);
        return print_answer(reply, error);
}

char *call(Host *host, const char *path, const char *method, const char *arguments) {
        return call_flags(host, path, method, arguments, G_DBUS_CALL_FLAGS_NONE);
}

char *call_bus(GDBusConnection *connection, const char *member, const char *arguments) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(connection, "org.freedesktop.DBus",
                                                                "/org/freedesktop/DBus", "org.freedesktop.DBus", member,
                                                                parse(arguments), NULL, G_DBUS_CALL_FLAGS_NONE,
                                                                DEADLINE_MS, NULL, &error);
        return print_answer(reply, error);
}

void expect_reply(Host *host, const char *path, const char *method, const char *arguments, const char *reply) {
        g_autofree char *answer = call(host, path, method, arguments);
        g_assert_cmpstr(answer, ==, reply);
}

void expect_error(Host *host, const char *path, const char *method, const char *arguments, const char *name,
                  const char *part) {
        g_autofree char *answer = call(host, path, method, arguments), *beginning = g_strconcat(name, ": ", NULL);
        if (!g_str_has_prefix(answer, beginning) || !strstr(answer, part))
                g_error("%s %s answers\n  %s\nand not\n  %s: ...%s...", method, arguments, answer, name, part);
}

static void on_answer(GObject *source, GAsyncResult *result, void *userdata) {
        Call *pending = userdata;
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        pending->answer = print_answer(reply, error);
}

Call *call_begin_on(GDBusConnection *connection, const char *path, const char *method, const char *arguments) {
        g_autofree char *interface = NULL, *member = NULL;
        Call *pending = g_new0(Call, 1);
        pending->connection = g_object_ref(connection);
        split_method(method, &interface, &member);
        g_dbus_connection_call(connection, "org.gpupool1", path, interface, member, parse(arguments), NULL,
                               G_DBUS_CALL_FLAGS_NONE, DEADLINE_MS, NULL, on_answer, pending);
        return pending;
}

Call *call_begin(Host *host, const char *path, const char *method, const char *arguments) {
        g_autoptr(GDBusConnection) connection = connect_to(host->address);
        return call_begin_on(connection, path, method, arguments);
}

static void wait_a_little(gint64 deadline) {
        if (!g_main_context_iteration(NULL, FALSE))
                g_usleep(500);
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
}

static void wait_for_answer(Call *pending) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
        while (!pending->answer)
                wait_a_little(deadline);
}

static void call_free(Call *pending) {
        g_object_unref(pending->connection);
        g_free(pending->answer);
        g_free(pending);
}

char *call_end(Call *pending) {
        wait_for_answer(pending);
        char *answer = g_steal_pointer(&pending->answer);
        call_free(pending);
        return answer;
}

void call_leave(Call *pending) {
        (void) g_dbus_connection_close_sync(pending->connection, NULL, NULL);
        wait_for_answer(pending);       /* GDBus says that the connection is closed */
        call_free(pending);
}

/* ---- properties and signals */

char *get(Host *host, const char *path, const char *property) {
        g_autofree char *interface = NULL, *member = NULL;
        g_autoptr(GError) error = NULL;
        split_method(property, &interface, &member);
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(host->client, "org.gpupool1", path,
                                                                "org.freedesktop.DBus.Properties", "Get",
                                                                g_variant_new("(ss)", interface, member),
                                                                G_VARIANT_TYPE("(v)"), G_DBUS_CALL_FLAGS_NONE,
                                                                DEADLINE_MS, NULL, &error);
        if (!reply)
                return print_answer(NULL, error);
        g_autoptr(GVariant) value = NULL;
        g_variant_get(reply, "(v)", &value);
        return g_variant_print(value, TRUE);
}

void expect_property(Host *host, const char *path, const char *property, const char *value) {
        g_autofree char *found = get(host, path, property);
        g_assert_cmpstr(found, ==, value);
}

void settle(Host *host) {
        /* An answer of the bus itself comes after all signals that were sent before. */
        g_free(call_bus(host->client, "GetId", NULL));
        while (g_main_context_iteration(NULL, FALSE))
                ;
}

char **take_signals(Host *host, unsigned n) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
        settle(host);
        while (host->signals->len < n)
                wait_a_little(deadline);
        g_ptr_array_add(host->signals, NULL);
        char **lines = g_strdupv((char **) host->signals->pdata);
        g_ptr_array_set_size(host->signals, 0);
        return lines;
}

char *wait_signal(Host *host, const char *beginning) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
        settle(host);
        for (;;) {
                while (host->signals->len > 0) {
                        g_autofree char *line = g_ptr_array_index(host->signals, 0);
                        host->signals->pdata[0] = NULL;
                        (void) g_ptr_array_remove_index(host->signals, 0);
                        if (g_str_has_prefix(line, beginning))
                                return g_steal_pointer(&line);
                }
                wait_a_little(deadline);
        }
}

/* ---- common states */

void make_pool(Host *host, const char *name, const char *gpus) {
        g_autofree char *path = g_strdup_printf("(objectpath '" ROOT "/pool/%s',)", name);
        g_autofree char *arguments = gpus ? g_strdup_printf("('%s', {'gpus': <@ao %s>})", name, gpus) :
                                            g_strdup_printf("('%s', " NO_OPTIONS ")", name);
        expect_reply(host, ROOT, "Manager.CreatePool", arguments, path);
        g_free(mock_polkit_take(host->polkit));
}

char *domain_xml(const char *name, const char *uuid) {
        g_autofree char *element = uuid ? g_strdup_printf("<uuid>%s</uuid>", uuid) : g_strdup("");
        return g_strdup_printf("<domain type=\"kvm\"><name>%s</name>%s<memory unit=\"MiB\">64</memory><vcpu>1</vcpu>"
                               "<os><type arch=\"x86_64\" machine=\"q35\">hvm</type></os></domain>", name, element);
}

void make_vm(Host *host, const char *name, const char *pool) {
        g_autofree char *xml = domain_xml(name, VM_UUID);
        g_autofree char *arguments = g_strdup_printf("('%s', '%s', uint32 1, " NO_OPTIONS ")", xml, pool);
        expect_reply(host, ROOT, "Manager.DefineVM", arguments, "(objectpath '" VM_PATH "',)");
        g_free(mock_polkit_take(host->polkit));
}
