/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mock-polkit.h"

#include <stdbool.h>
#include <string.h>

#define NAME "org.freedesktop.PolicyKit1"
#define PATH "/org/freedesktop/PolicyKit1/Authority"
#define INTERFACE "org.freedesktop.PolicyKit1.Authority"

static const char introspection[] =
        "<node><interface name='" INTERFACE "'>"
        "<method name='CheckAuthorization'>"
        "<arg type='(sa{sv})' direction='in'/><arg type='s' direction='in'/><arg type='a{ss}' direction='in'/>"
        "<arg type='u' direction='in'/><arg type='s' direction='in'/><arg type='(bba{ss})' direction='out'/></method>"
        "<method name='CancelCheckAuthorization'><arg type='s' direction='in'/></method>"
        "</interface></node>";

struct MockPolkit {
        GThread *thread;
        GMainContext *context;
        GMainLoop *loop;
        char *address;
        GMutex mutex;
        GCond changed;
        bool ready;
        PolkitAnswer answer;
        GHashTable *by_action;
        GPtrArray *hanging;             /* invocations */
        GPtrArray *lines;
        char *subject, *cancellation;
        unsigned flags;
};

static void answer(GDBusMethodInvocation *invocation, PolkitAnswer how) {
        switch (how) {
        case POLKIT_YES:
                g_dbus_method_invocation_return_value(invocation, g_variant_new_parsed("((true, false, @a{ss} {}),)"));
                return;
        case POLKIT_NO:
                g_dbus_method_invocation_return_value(invocation, g_variant_new_parsed("((false, false, @a{ss} {}),)"));
                return;
        case POLKIT_CHALLENGE:
                g_dbus_method_invocation_return_value(invocation, g_variant_new_parsed("((false, true, @a{ss} {}),)"));
                return;
        case POLKIT_FAIL:
                g_dbus_method_invocation_return_dbus_error(invocation, NAME ".Error.Failed", "it went wrong");
                return;
        case POLKIT_GARBAGE: {
                GDBusMessage *call = g_dbus_method_invocation_get_message(invocation);
                g_autoptr(GDBusMessage) reply = g_dbus_message_new_method_reply(call);
                g_dbus_message_set_body(reply, g_variant_new_parsed("(true, 'yes')"));
                (void) g_dbus_connection_send_message(g_dbus_method_invocation_get_connection(invocation), reply,
                                                      G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
                g_object_unref(invocation);
                return;
        }
        case POLKIT_HANG:
                break;
        }
        g_assert_not_reached();
}

static char *describe(const char *action, GVariant *details) {
        GString *line = g_string_new(g_str_has_prefix(action, "org.gpupool1.") ? action + strlen("org.gpupool1.") :
                                     action);
        GVariantIter iter;
        const char *key, *value;
        g_variant_iter_init(&iter, details);
        while (g_variant_iter_next(&iter, "{&s&s}", &key, &value))
                g_string_append_printf(line, " %s=%s", key, value);
        return g_string_free(line, FALSE);
}

static void on_question(MockPolkit *mock, GVariant *parameters, GDBusMethodInvocation *invocation) {
        const char *kind, *action, *cancellation, *name = "";
        g_autoptr(GVariant) subject = NULL, details = NULL;
        g_variant_get(parameters, "((&s@a{sv})&s@a{ss}u&s)", &kind, &subject, &action, &details, &mock->flags,
                      &cancellation);
        (void) g_variant_lookup(subject, "name", "&s", &name);
        g_free(mock->subject);
        mock->subject = g_strdup_printf("%s %s", kind, name);
        g_free(mock->cancellation);
        mock->cancellation = g_strdup(cancellation);
        g_ptr_array_add(mock->lines, describe(action, details));

        void *own = g_hash_table_lookup(mock->by_action, action);
        PolkitAnswer how = own ? (PolkitAnswer) (GPOINTER_TO_INT(own) - 1) : mock->answer;
        if (how == POLKIT_HANG)
                g_ptr_array_add(mock->hanging, invocation);
        else
                answer(invocation, how);
}

static void on_call(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                    const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, void *userdata) {
        MockPolkit *mock = userdata;
        g_mutex_lock(&mock->mutex);
        if (g_str_equal(method, "CheckAuthorization"))
                on_question(mock, parameters, invocation);
        else {
                const char *cancellation;
                g_variant_get(parameters, "(&s)", &cancellation);
                g_ptr_array_add(mock->lines, g_strdup(g_strcmp0(cancellation, mock->cancellation) == 0 ? "cancelled" :
                                                      "cancelled another"));
                g_dbus_method_invocation_return_value(invocation, NULL);
        }
        g_cond_broadcast(&mock->changed);
        g_mutex_unlock(&mock->mutex);
}

static void *run(void *userdata) {
        static const GDBusInterfaceVTable vtable = { .method_call = on_call };
        MockPolkit *mock = userdata;
        g_autoptr(GError) error = NULL;
        g_main_context_push_thread_default(mock->context);

        g_autoptr(GDBusConnection) connection = g_dbus_connection_new_for_address_sync(
                mock->address,
                G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL,
                NULL, &error);
        g_assert_no_error(error);
        g_autoptr(GDBusNodeInfo) info = g_dbus_node_info_new_for_xml(introspection, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(g_dbus_connection_register_object(connection, PATH, info->interfaces[0], &vtable, mock, NULL,
                                                           &error), >, 0);
        g_autoptr(GVariant) owned G_GNUC_UNUSED = g_dbus_connection_call_sync(connection, "org.freedesktop.DBus",
                                                                              "/org/freedesktop/DBus",
                                                                "org.freedesktop.DBus", "RequestName",
                                                                g_variant_new("(su)", NAME, 0), NULL,
                                                                G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);

        g_mutex_lock(&mock->mutex);
        mock->ready = true;
        g_cond_broadcast(&mock->changed);
        g_mutex_unlock(&mock->mutex);
        g_main_loop_run(mock->loop);
        (void) g_dbus_connection_close_sync(connection, NULL, NULL);
        g_main_context_pop_thread_default(mock->context);
        return NULL;
}

MockPolkit *mock_polkit_new(const char *address) {
        MockPolkit *mock = g_new0(MockPolkit, 1);
        mock->address = g_strdup(address);
        mock->context = g_main_context_new();
        mock->loop = g_main_loop_new(mock->context, FALSE);
        mock->by_action = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        mock->hanging = g_ptr_array_new();
        mock->lines = g_ptr_array_new_with_free_func(g_free);
        g_mutex_init(&mock->mutex);
        g_cond_init(&mock->changed);
        mock->thread = g_thread_new("polkit", run, mock);

        g_mutex_lock(&mock->mutex);
        while (!mock->ready)
                g_cond_wait(&mock->changed, &mock->mutex);
        g_mutex_unlock(&mock->mutex);
        return mock;
}

static gboolean quit(void *userdata) {
        g_main_loop_quit(userdata);
        return G_SOURCE_REMOVE;
}

MockPolkit *mock_polkit_free(MockPolkit *mock) {
        if (!mock)
                return NULL;
        g_main_context_invoke(mock->context, quit, mock->loop);
        (void) g_thread_join(mock->thread);
        for (unsigned i = 0; i < mock->hanging->len; i++)
                g_object_unref(mock->hanging->pdata[i]);
        g_ptr_array_unref(mock->hanging);
        g_ptr_array_unref(mock->lines);
        g_hash_table_unref(mock->by_action);
        g_main_loop_unref(mock->loop);
        g_main_context_unref(mock->context);
        g_mutex_clear(&mock->mutex);
        g_cond_clear(&mock->changed);
        g_free(mock->address);
        g_free(mock->subject);
        g_free(mock->cancellation);
        g_free(mock);
        return NULL;
}

void mock_polkit_set(MockPolkit *mock, PolkitAnswer how) {
        g_mutex_lock(&mock->mutex);
        mock->answer = how;
        g_mutex_unlock(&mock->mutex);
}

void mock_polkit_set_action(MockPolkit *mock, const char *action, PolkitAnswer how) {
        g_mutex_lock(&mock->mutex);
        (void) g_hash_table_insert(mock->by_action, g_strdup(action), GINT_TO_POINTER((int) how + 1));
        g_mutex_unlock(&mock->mutex);
}

void mock_polkit_answer_hanging(MockPolkit *mock, PolkitAnswer how) {
        g_mutex_lock(&mock->mutex);
        while (mock->hanging->len > 0)
                answer(g_ptr_array_steal_index(mock->hanging, 0), how);
        g_mutex_unlock(&mock->mutex);
}

char *mock_polkit_take(MockPolkit *mock) {
        g_mutex_lock(&mock->mutex);
        g_ptr_array_add(mock->lines, NULL);
        char *all = g_strjoinv("\n", (char **) mock->lines->pdata);
        g_ptr_array_set_size(mock->lines, 0);
        g_mutex_unlock(&mock->mutex);
        return all;
}

void mock_polkit_wait(MockPolkit *mock, unsigned n_lines) {
        gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
        g_mutex_lock(&mock->mutex);
        while (mock->lines->len < n_lines)
                if (!g_cond_wait_until(&mock->changed, &mock->mutex, deadline))
                        g_error("polkit was asked %u times and not %u", mock->lines->len, n_lines);
        g_mutex_unlock(&mock->mutex);
}

char *mock_polkit_last_subject(MockPolkit *mock) {
        g_mutex_lock(&mock->mutex);
        char *subject = g_strdup(mock->subject);
        g_mutex_unlock(&mock->mutex);
        return subject;
}

unsigned mock_polkit_last_flags(MockPolkit *mock) {
        g_mutex_lock(&mock->mutex);
        unsigned flags = mock->flags;
        g_mutex_unlock(&mock->mutex);
        return flags;
}
