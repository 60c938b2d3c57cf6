/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is on the bus: objects, properties, and how changes are told. */

#include <stdbool.h>
#include <string.h>

#include "bus-test.h"

/* ---- objects and properties */

static void test_every_kind_of_object_is_managed(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        g_autofree char *all = call(host, ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", "()");
        g_assert_nonnull(strstr(all, NODE_A));
        g_assert_nonnull(strstr(all, GPU("01")));
        g_assert_nonnull(strstr(all, GPU("02")));
        g_assert_nonnull(strstr(all, POOL("training")));
        g_assert_nonnull(strstr(all, VM_PATH));
        g_assert_nonnull(strstr(all, "'Assignable': <true>"));
}

static void test_a_gpu_shows_what_the_facts_say(void) {
        HOST(host);
        expect_property(host, GPU("01"), "Gpu.Name", "'a:0000:01:00.0'");
        expect_property(host, GPU("01"), "Gpu.Node", "objectpath '" NODE_A "'");
        expect_property(host, GPU("01"), "Gpu.DeviceId", "uint16 9009");
        expect_property(host, GPU("01"), "Gpu.ResetMethods", "['flr', 'bus']");
        expect_property(host, GPU("01"), "Gpu.Bars",
                        "[(byte 0x00, uint64 8589934592, uint64 33554432, true), (0x02, 68719476736, 137438953472, "
                        "true)]");
        expect_property(host, GPU("01"), "Gpu.Assignable", "true");
        expect_property(host, GPU("01"), "Gpu.Blockers", "@a(sss) []");
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        expect_property(host, GPU("01"), "Gpu.Pool", "objectpath '/'");
}

static void test_a_pooled_gpu_that_is_gone_stays_as_absent(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        told(host, "unplug 0000:01:00.0");
        expect_property(host, GPU("01"), "Gpu.State", "'absent'");
        expect_property(host, GPU("01"), "Gpu.Assignable", "false");
        expect_property(host, GPU("01"), "Gpu.Pool", "objectpath '" POOL("training") "'");
        expect_property(host, POOL("training"), "Pool.Gpus", "[objectpath '" GPU("01") "']");
        expect_property(host, POOL("training"), "Pool.Usable", "uint32 0");
}

static void test_a_pools_path_is_its_escaped_name(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.CreatePool", "('7-b.x', " NO_OPTIONS ")",
                     "(objectpath '" POOL("_37_2db_2ex") "',)");
        expect_property(host, POOL("_37_2db_2ex"), "Pool.Name", "'7-b.x'");
}

static void test_the_node_says_what_it_is(void) {
        HOST(host);
        expect_property(host, NODE_A, "Node.Name", "'a'");
        expect_property(host, NODE_A, "Node.State", "'online'");
        expect_property(host, NODE_A, "Node.Role", "'voter'");
        expect_property(host, NODE_A, "Node.Versions", "{'gpupool': '0.1.0', 'libvirt': '9.0.0'}");
        expect_property(host, NODE_A, "Node.Hypervisor", "'connected'");
        expect_property(host, NODE_A, "Node.Virtualization", "''");
        expect_property(host, NODE_A, "Node.Hugepages", "[(uint64 2097152, uint64 64, uint64 60)]");
        expect_property(host, ROOT, "Manager.LocalNode", "objectpath '" NODE_A "'");
        expect_property(host, ROOT, "Manager.Quorate", "true");
        expect_property(host, ROOT, "Manager.ClusterName", "'lab'");
}

static void test_an_object_that_never_was_is_unknown(void) {
        HOST(host);
        expect_error(host, POOL("nothing"), "Pool.Delete", "(" NO_OPTIONS ",)",
                     "org.freedesktop.DBus.Error.UnknownObject", "");
        expect_error(host, NODE_A, "Pool.Delete", "(" NO_OPTIONS ",)", "org.freedesktop.DBus.Error.UnknownMethod", "");
}

static void test_properties_cannot_be_set(void) {
        HOST(host);
        expect_error(host, GPU("01"), "org.freedesktop.DBus.Properties.Set", "('org.gpupool1.Gpu', 'Driver', <'x'>)",
                     "org.freedesktop.DBus.Error.PropertyReadOnly", "");
}

/* Emits every property of every kind: none may fail. */
static void test_every_declared_property_can_be_read(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        const struct {
                const char *path, *interface;
                unsigned n;
        } kinds[] = {
                { ROOT, "Manager", 12 }, { NODE_A, "Node", 22 }, { GPU("01"), "Gpu", 33 },
                        { POOL("training"), "Pool", 14 },
                { VM_PATH, "VM", 18 }, { ROOT "/job/1", "Job", 12 },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
                g_autofree char *arguments = g_strdup_printf("('org.gpupool1.%s',)", kinds[i].interface);
                g_autofree char *all = call(host, kinds[i].path, "org.freedesktop.DBus.Properties.GetAll", arguments);
                g_autoptr(GVariant) parsed = g_variant_parse(G_VARIANT_TYPE("(a{sv})"), all, NULL, NULL, NULL);
                g_assert_nonnull(parsed);
                g_autoptr(GVariant) dictionary = g_variant_get_child_value(parsed, 0);
                g_assert_cmpuint(g_variant_n_children(dictionary), ==, kinds[i].n);
        }
}

/* ---- changes */

static void test_a_new_gpu_is_told_once_with_all_its_properties(void) {
        HOST(host);
        told(host, "plug 0000:07:00.0");
        g_autofree char *added = wait_signal(host, ROOT " InterfacesAdded");
        g_assert_nonnull(strstr(added, GPU("07")));
        g_assert_nonnull(strstr(added, "'Address': <'0000:07:00.0'>"));
        g_assert_nonnull(strstr(added, "'Blockers'"));
        told(host, "flush");
        g_auto(GStrv) more = take_signals(host, 0);
        g_assert_cmpuint(g_strv_length(more), ==, 0);
}

static void test_a_gpu_that_goes_is_told_as_removed(void) {
        HOST(host);
        told(host, "unplug 0000:02:00.0");
        g_autofree char *removed = wait_signal(host, ROOT " InterfacesRemoved");
        g_assert_nonnull(strstr(removed, GPU("02")));
        g_assert_nonnull(strstr(removed, "org.gpupool1.Gpu"));
        expect_error(host, GPU("02"), "org.freedesktop.DBus.Properties.GetAll", "('org.gpupool1.Gpu',)",
                     "org.freedesktop.DBus.Error.UnknownObject", "");
}

static void test_only_what_changed_is_told(void) {
        HOST(host);
        told(host, "driver 0000:01:00.0 vfio-pci");
        g_autofree char *changed = wait_signal(host, GPU("01") " PropertiesChanged");
        g_assert_cmpstr(changed, ==,
                        GPU("01") " PropertiesChanged ('org.gpupool1.Gpu', {'Driver': <'vfio-pci'>}, @as [])");
        told(host, "flush");
        g_auto(GStrv) more = take_signals(host, 0);
        g_assert_cmpuint(g_strv_length(more), ==, 0);
}

static void test_a_change_back_before_anybody_was_told_is_none(void) {
        HOST(host);
        told(host, "unplug 0000:02:00.0");      /* this one is told at once; the next two fall into one round */
        g_free(wait_signal(host, ROOT " InterfacesRemoved"));
        told(host, "driver 0000:01:00.0 vfio-pci\ndriver 0000:01:00.0 nvidia");
        told(host, "flush");
        g_auto(GStrv) signals = take_signals(host, 0);
        g_assert_cmpuint(g_strv_length(signals), ==, 0);
}

static void test_free_memory_is_never_told_and_always_fresh(void) {
        HOST(host);
        told(host, "memory-free 4711");
        told(host, "flush");
        g_auto(GStrv) signals = take_signals(host, 0);
        g_assert_cmpuint(g_strv_length(signals), ==, 0);
        expect_property(host, NODE_A, "Node.MemoryFree", "uint64 4711");
}

static void test_a_storm_of_changes_is_gathered(void) {
        HOST(host);
        gint64 begin = g_get_monotonic_time();
        told(host, "storm 300");
        double seconds = (double) (g_get_monotonic_time() - begin) / G_TIME_SPAN_SECOND;
        told(host, "flush");
        g_auto(GStrv) signals = take_signals(host, 1);
        unsigned n = g_strv_length(signals);
        g_assert_cmpuint(n, <=, 3 + (unsigned) (seconds * 20));
        g_assert_nonnull(strstr(signals[n - 1], "'driver299'"));
}

static void test_a_status_change_is_told_by_the_manager(void) {
        HOST(host);
        told(host, "quorate no");
        g_autofree char *changed = wait_signal(host, ROOT " PropertiesChanged");
        g_assert_cmpstr(changed, ==, ROOT " PropertiesChanged ('org.gpupool1.Manager', {'Leader': <objectpath '/'>, "
                        "'Quorate': <false>}, @as [])");
}

static void test_a_caller_never_reads_the_old_value_after_the_answer(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_strfreev(take_signals(host, 0));
        g_autofree char *arguments = g_strdup_printf("(@ao ['%s'], " NO_OPTIONS ")", GPU("01"));
        expect_reply(host, POOL("training"), "Pool.Add", arguments, "()");
        /* Signals are sent before the answer; what is there now was sent before it. */
        g_auto(GStrv) signals = take_signals(host, 0);
        bool pool = false, gpu = false;
        for (char **line = signals; *line; line++) {
                pool = pool || g_str_has_prefix(*line, POOL("training") " PropertiesChanged");
                gpu = gpu || g_str_has_prefix(*line, GPU("01") " PropertiesChanged");
        }
        g_assert_true(pool);
        g_assert_true(gpu);
}

static void test_a_renamed_pool_is_another_object(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        g_strfreev(take_signals(host, 0));
        expect_reply(host, POOL("training"), "Pool.Rename", "('inference', " NO_OPTIONS ")", "()");
        g_free(wait_signal(host, ROOT " InterfacesAdded (objectpath '" POOL("inference")));
        g_free(wait_signal(host, ROOT " InterfacesRemoved (objectpath '" POOL("training")));
        expect_property(host, VM_PATH, "VM.Requirement", "('inference', uint32 1)");
        expect_property(host, GPU("01"), "Gpu.Pool", "objectpath '" POOL("inference") "'");
}

static void test_a_device_event_is_told_at_once(void) {
        HOST(host);
        told(host, "device-event 0000:01:00.0");
        g_autofree char *event = wait_signal(host, ROOT " DeviceEvent");
        g_assert_cmpstr(event, ==,
                        ROOT " DeviceEvent ('bind', objectpath '" NODE_A "', '0000:01:00.0', 'pci', "
                        "{'ACTION': 'bind', 'DRIVER': 'vfio-pci'})");
}

static void test_the_path_of_a_new_card_in_an_old_ones_place_is_the_new_ones(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        told(host, "unplug 0000:01:00.0");
        told(host, "plug 0000:01:00.0");
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        expect_property(host, GPU("01"), "Gpu.Pool", "objectpath '" POOL("training") "'");
}

/* ---- introspection and log control */

static void test_the_contract_is_what_is_introspected(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        const char *const paths[] = { ROOT, NODE_A, GPU("01"), POOL("training"), VM_PATH, ROOT "/job/1" };
        GPtrArray *arguments = g_ptr_array_new();
        g_ptr_array_add(arguments, (char *) COMPARE);
        g_ptr_array_add(arguments, (char *) "--require=org.gpupool1.Manager");
        g_ptr_array_add(arguments, (char *) "--require=org.gpupool1.Job");
        for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(GVariant) reply = g_dbus_connection_call_sync(host->client, "org.gpupool1", paths[i],
                                                                        "org.freedesktop.DBus.Introspectable",
                                                                        "Introspect", NULL, G_VARIANT_TYPE("(s)"),
                                                                        G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
                g_assert_no_error(error);
                const char *xml;
                g_variant_get(reply, "(&s)", &xml);
                char *file = g_strdup_printf("%s/introspection-%u.xml", host->folder, i);
                g_assert_true(g_file_set_contents(file, xml, -1, NULL));
                g_ptr_array_add(arguments, file);
        }
        g_ptr_array_add(arguments, NULL);
        g_autofree char *output = NULL;
        int status;
        g_assert_true(g_spawn_sync(NULL, (char **) arguments->pdata, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, NULL,
                                   &status, NULL));
        g_assert_cmpstr(output, ==, "");
        g_assert_cmpint(status, ==, 0);
        for (unsigned i = 3; i < 3 + G_N_ELEMENTS(paths); i++)
                g_free(arguments->pdata[i]);
        g_ptr_array_unref(arguments);
}

#define LOG_CONTROL "/org/freedesktop/LogControl1"

static void test_root_can_change_the_log_level(void) {
        HOST(host);
        expect_reply(host, LOG_CONTROL, "org.freedesktop.DBus.Properties.Set",
                     "('org.freedesktop.LogControl1', 'LogLevel', <'warning'>)", "()");
        expect_reply(host, LOG_CONTROL, "org.freedesktop.DBus.Properties.Get",
                     "('org.freedesktop.LogControl1', 'LogLevel')", "(<'warning'>,)");
        expect_error(host, LOG_CONTROL, "org.freedesktop.DBus.Properties.Set",
                     "('org.freedesktop.LogControl1', 'LogLevel', <'loud'>)", "org.freedesktop.DBus.Error.InvalidArgs",
                     "debug");
}

/* ---- the bus itself */

static void wait_for_service(Host *host) {
        for (unsigned i = 0; i < 60000; i++) {
                g_autofree char *name = get(host, GPU("01"), "Gpu.Name");
                if (g_str_equal(name, "'a:0000:01:00.0'"))
                        return;
                g_usleep(1000);
        }
        g_error("the service does not come back");
}

static void test_a_bus_that_dies_is_connected_to_again(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")");
        mock_polkit_wait(host->polkit, 1);
        host_restart_bus(host);
        g_free(call_end(waiting));
        wait_for_service(host);
        expect_error(host, ROOT, "Manager.GetPool", "('x',)", "NotFound", "x");
        expect_reply(host, POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)", "()");
        told(host, "plug 0000:07:00.0");
        g_free(wait_signal(host, ROOT " InterfacesAdded (objectpath '" GPU("07")));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/objects/every kind of object is managed", test_every_kind_of_object_is_managed);
        g_test_add_func("/objects/a GPU shows what the facts say", test_a_gpu_shows_what_the_facts_say);
        g_test_add_func("/objects/a pooled GPU that is gone stays as absent",
                        test_a_pooled_gpu_that_is_gone_stays_as_absent);
        g_test_add_func("/objects/a pool's path is its escaped name", test_a_pools_path_is_its_escaped_name);
        g_test_add_func("/objects/the node says what it is", test_the_node_says_what_it_is);
        g_test_add_func("/objects/an object that never was is unknown", test_an_object_that_never_was_is_unknown);
        g_test_add_func("/objects/properties cannot be set", test_properties_cannot_be_set);
        g_test_add_func("/objects/every declared property can be read", test_every_declared_property_can_be_read);
        g_test_add_func("/changes/a new GPU is told once, with all its properties",
                        test_a_new_gpu_is_told_once_with_all_its_properties);
        g_test_add_func("/changes/a GPU that goes is told as removed", test_a_gpu_that_goes_is_told_as_removed);
        g_test_add_func("/changes/only what changed is told", test_only_what_changed_is_told);
        g_test_add_func("/changes/a change back before anybody was told is none",
                        test_a_change_back_before_anybody_was_told_is_none);
        g_test_add_func("/changes/free memory is never told and always fresh",
                        test_free_memory_is_never_told_and_always_fresh);
        g_test_add_func("/changes/a storm of changes is gathered", test_a_storm_of_changes_is_gathered);
        g_test_add_func("/changes/a status change is told by the manager", test_a_status_change_is_told_by_the_manager);
        g_test_add_func("/changes/a caller never reads the old value after the answer",
                        test_a_caller_never_reads_the_old_value_after_the_answer);
        g_test_add_func("/changes/a renamed pool is another object", test_a_renamed_pool_is_another_object);
        g_test_add_func("/changes/a device event is told at once", test_a_device_event_is_told_at_once);
        g_test_add_func("/changes/a card that comes back has its object again",
                        test_the_path_of_a_new_card_in_an_old_ones_place_is_the_new_ones);
        g_test_add_func("/contract/the contract is what is introspected", test_the_contract_is_what_is_introspected);
        g_test_add_func("/bus/a bus that dies is connected to again", test_a_bus_that_dies_is_connected_to_again);
        g_test_add_func("/log/root can change the log level", test_root_can_change_the_log_level);
        return g_test_run();
}
