/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods: what they do, what they refuse, and how they answer. polkit says yes. */

#include <stdbool.h>
#include <string.h>

#include "bus-test.h"

#define ONE_GPU "(@ao ['" GPU("01") "'], " NO_OPTIONS ")"
#define INVALID "InvalidArgument"

static char *define_arguments(const char *xml, const char *pool, unsigned count, const char *options) {
        g_autoptr(GVariant) text = g_variant_ref_sink(g_variant_new_string(xml));
        g_autofree char *quoted = g_variant_print(text, FALSE);
        return g_strdup_printf("(%s, '%s', uint32 %u, %s)", quoted, pool, count, options);
}

/* ---- pools */

static void test_a_pool_is_made_with_all_its_options(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.CreatePool",
                     "('training', {'placement': <'spread'>, 'reserve': <uint32 1>, 'max-in-use': <uint32 5>, "
                     "'rules': <[{'vendor': '10de', 'device': '23*'}, {'node': 'b'}]>, 'gpus': <[objectpath "
                     "'" GPU("02") "']>})", "(objectpath '" POOL("training") "',)");
        expect_property(host, POOL("training"), "Pool.Placement", "'spread'");
        expect_property(host, POOL("training"), "Pool.Reserve", "uint32 1");
        expect_property(host, POOL("training"), "Pool.MaxInUse", "uint32 5");
        expect_property(host, POOL("training"), "Pool.AfterUse", "'host'");
        expect_property(host, POOL("training"), "Pool.Rules", "[{'vendor': '10de', 'device': '23*'}, {'node': 'b'}]");
        expect_property(host, POOL("training"), "Pool.Gpus", "[objectpath '" GPU("02") "']");
        expect_property(host, POOL("training"), "Pool.Total", "uint32 1");
        expect_property(host, GPU("02"), "Gpu.Pool", "objectpath '" POOL("training") "'");
}

static void test_gpus_go_in_and_out(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        expect_reply(host, POOL("training"), "Pool.Add", "(@ao ['" GPU("01") "', '" GPU("02") "'], " NO_OPTIONS ")",
                     "()");
        expect_property(host, POOL("training"), "Pool.Free", "uint32 2");
        expect_reply(host, POOL("training"), "Pool.Add", ONE_GPU, "()");        /* it is in already: no error */
        expect_reply(host, POOL("training"), "Pool.Remove", ONE_GPU, "()");
        expect_property(host, POOL("training"), "Pool.Gpus", "[objectpath '" GPU("02") "']");
}

static void test_a_gpu_of_another_pool_is_refused_with_its_name(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_pool(host, "other", NULL);
        expect_error(host, POOL("other"), "Pool.Add", ONE_GPU, "InUse", "training");
        expect_error(host, ROOT, "Manager.CreatePool", "('third', {'gpus': <[objectpath '" GPU("01") "']>})", "InUse",
                     "training");
        expect_error(host, ROOT, "Manager.GetPool", "('third',)", "NotFound", "third");
}

static void test_an_absent_gpu_can_be_taken_out(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        told(host, "unplug 0000:01:00.0");
        expect_reply(host, POOL("training"), "Pool.Remove", ONE_GPU, "()");
        expect_property(host, POOL("training"), "Pool.Total", "uint32 0");
}

static void test_a_card_that_was_replaced_can_be_taken_out(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        told(host, "replace 0000:01:00.0");
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        expect_property(host, GPU("01"), "Gpu.Pool", "objectpath '/'");
        g_autofree char *gpus = get(host, POOL("training"), "Pool.Gpus");
        g_assert_true(g_str_has_prefix(gpus, "[objectpath '" GPU("01") "_"));
        g_autofree char *old = g_strndup(gpus + strlen("[objectpath '"), strlen(GPU("01")) + 9);
        expect_property(host, old, "Gpu.State", "'absent'");
        g_autofree char *arguments = g_strdup_printf("(@ao ['%s'], " NO_OPTIONS ")", old);
        expect_reply(host, POOL("training"), "Pool.Remove", arguments, "()");
        expect_property(host, POOL("training"), "Pool.Gpus", "@ao []");
}

static void test_rules_and_policy_of_a_pool_change(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        expect_reply(host, POOL("training"), "Pool.SetRules", "([{'vendor': '1002'}], " NO_OPTIONS ")", "()");
        expect_property(host, POOL("training"), "Pool.Rules", "[{'vendor': '1002'}]");
        expect_reply(host, POOL("training"), "Pool.SetPolicy", "({'reserve': <uint32 3>}, " NO_OPTIONS ")", "()");
        expect_property(host, POOL("training"), "Pool.Reserve", "uint32 3");
        expect_property(host, POOL("training"), "Pool.Placement", "'pack'");
}

static void test_a_pool_that_a_vm_needs_is_not_deleted(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_error(host, POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)", "InUse", "bert");
        expect_reply(host, VM_PATH, "VM.Delete", "(" NO_OPTIONS ",)", "()");
        expect_reply(host, POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)", "()");
        expect_error(host, ROOT, "Manager.GetPool", "('training',)", "NotFound", "training");
}

/* ---- bad input */

static void test_bad_names_are_refused_before_anybody_is_asked(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *long_name = g_strnfill(300, 'a');
        const char *const names[] = { "", "a/b", "a b", "../etc", "-a", ".a", "a\\'b", "a\u202eb", "ä", "a\\nb",
                                      long_name };
        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *create = g_strdup_printf("('%s', " NO_OPTIONS ")", names[i]),
                        *find = g_strdup_printf("('%s',)", names[i]);
                expect_error(host, ROOT, "Manager.CreatePool", create, INVALID, "name");
                expect_error(host, POOL("training"), "Pool.Rename", create, INVALID, "name");
                expect_error(host, ROOT, "Manager.GetPool", find, INVALID, "name");
                expect_error(host, ROOT, "Manager.GetVM", find, INVALID, "name");
                expect_error(host, ROOT, "Manager.GetNode", find, INVALID, "name");
                expect_error(host, ROOT, "Manager.GetGpu", find, INVALID, "");
        }
        g_autofree char *asked = mock_polkit_take(host->polkit), *counted = tell(host, "count");
        g_assert_cmpstr(asked, ==, "");
        g_assert_cmpstr(counted, ==, "1 submitted, 0 checked\n");
}

static void test_a_name_of_63_is_taken_and_of_64_is_not(void) {
        HOST(host);
        g_autofree char *name = g_strnfill(63, 'a'), *longer = g_strnfill(64, 'a');
        make_pool(host, name, NULL);
        g_autofree char *arguments = g_strdup_printf("('%s', " NO_OPTIONS ")", longer);
        expect_error(host, ROOT, "Manager.CreatePool", arguments, INVALID, "63");
}

static void test_bad_options_are_refused_by_name(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        const struct {
                const char *path, *method, *arguments, *part;
        } rows[] = {
                { ROOT, "Manager.CreatePool", "('x', {'colour': <'red'>})", "colour" },
                { ROOT, "Manager.CreatePool", "('x', {'reserve': <'three'>})",
                  "reserve is of type s and must be of type u" },
                { ROOT, "Manager.CreatePool", "('x', {'placement': <'heap'>})", "heap" },
                { ROOT, "Manager.CreatePool", "('x', {'rules': <[{'colour': 'red'}]>})", "colour" },
                { ROOT, "Manager.CreatePool", "('x', {'rules': <[@a{ss} {}]>})", "" },
                { ROOT, "Manager.CreatePool", "('x', {'request-id': <[byte 1, 2, 3]>})", "request-id" },
                { ROOT, "Manager.CreatePool", "('x', {'request-id': <'0123456789abcdef'>})",
                  "request-id is of type s" },
                { ROOT, "Manager.CreatePool", "('x', {'a\u202eb': <1>})", "(unprintable)" },
                { ROOT, "Manager.CreatePool",
                  "('x', {'rules': <[{'vendor': "
                  "'0123456789012345678901234567890123456789012345678901234567890123'}]>})", "at most 63" },
                { ROOT, "Manager.CreatePool", "('x', {'rules': <[{'vendor': 'a\u202eb'}]>})", "readable" },
                { ROOT, "Manager.Check", "({'deep': <true>},)", "deep" },
                { NODE_A, "Node.Drain", "({'bring-home': <true>},)", "bring-home" },
                { POOL("training"), "Pool.Add", "(@ao [], " NO_OPTIONS ")", "no GPU" },
                { POOL("training"), "Pool.Add", "(@ao ['" GPU("01") "', '" GPU("01") "'], " NO_OPTIONS ")", "twice" },
                { POOL("training"), "Pool.Add", "(@ao ['" GPU("01") "'], {'force': <true>})", "force" },
                { POOL("training"), "Pool.SetPolicy", "({'max-in-use': <int32 1>}, " NO_OPTIONS ")", "max-in-use" },
                { POOL("training"), "Pool.SetPolicy", "({'after-use': <'shelf'>}, " NO_OPTIONS ")", "host or vfio" },
                { POOL("training"), "Pool.SetPolicy", "({'request-id': <1>}, " NO_OPTIONS ")", "request-id" },
                { POOL("training"), "Pool.Delete", "({'force': <true>},)", "force" },
                { VM_PATH, "VM.Start", "({'node': <'a'>},)", "node" },
                { VM_PATH, "VM.Stop", "({'timeout': <uint64 5>},)", "timeout" },
                { VM_PATH, "VM.Shutdown", "({'timeout': <uint32 5>},)", "timeout is of type u and must be of type t" },
                { VM_PATH, "VM.Shutdown", "({'timeout': <uint64 18446744073709551615>},)", "timeout" },
                { VM_PATH, "VM.SetPolicy", "({'priority': <2000>}, " NO_OPTIONS ")", "priority" },
                { VM_PATH, "VM.SetPolicy", "({'restart-policy': <'sometimes'>}, " NO_OPTIONS ")", "sometimes" },
                { VM_PATH, "VM.SetPolicy", "({'preferred-nodes': <['a/b']>}, " NO_OPTIONS ")", "name" },
                { VM_PATH, "VM.SetPolicy", "({'affinity': <[('near', 'x')]>}, " NO_OPTIONS ")", "not near" },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 0, " NO_OPTIONS ")", "1 to 64" },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 65, " NO_OPTIONS ")", "1 to 64" },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 1, {'model': <'h100'>})",
                  "VENDOR:DEVICE in hexadecimal digits, like 10de:2330, with * and ? where any will do, and not h100" },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 1, {'model': <'10de:2330\n'>})", "VENDOR:DEVICE" },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 1, {'model': <uint32 1>})", "model" },
                { VM_PATH, "VM.SetPolicy", "({'affinity': <[('rather-with', 'x')]>}, " NO_OPTIONS ")",
                  "rather-together or rather-apart, and not rather-with" },
                { VM_PATH, "VM.SetPolicy", "({'preempt': <'yes'>}, " NO_OPTIONS ")", "preempt is of type s" },
                { VM_PATH, "VM.SetPolicy", "({'preemptible': <1>}, " NO_OPTIONS ")", "preemptible is of type i" },
                { VM_PATH, "VM.GetXML", "({'secure': <true>},)", "secure" },
                { VM_PATH, "VM.Explain", "({'deep': <true>},)", "deep" },
                { GPU("01"), "Gpu.Quarantine", "('', " NO_OPTIONS ")", "reason" },
                { GPU("01"), "Gpu.Quarantine", "('a\\nb', " NO_OPTIONS ")", "reason" },
                { GPU("01"), "Gpu.Quarantine", "('x', {'why': <'y'>})", "why" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, INVALID, rows[i].part);
}

/* GVariant's text has no dictionary with a key twice; the wire has. */
static void test_an_option_that_stands_twice_is_refused(void) {
        HOST(host);
        g_autoptr(GError) error = NULL;
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE("a{sv}"));
        g_variant_builder_add(&builder, "{sv}", "reserve", g_variant_new_uint32(1));
        g_variant_builder_add(&builder, "{sv}", "reserve", g_variant_new_uint32(2));
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(host->client, "org.gpupool1", ROOT,
                                                                "org.gpupool1.Manager", "CreatePool",
                                                                g_variant_new("(sa{sv})", "x", &builder), NULL,
                                                                G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_null(reply);
        g_assert_nonnull(strstr(error->message, "reserve stands twice"));
}

/* A message is kept while polkit is asked, and anybody may send one. */
static void test_what_is_too_long_is_refused_before_polkit_is_asked(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_NO);
        g_autofree char *text = g_strnfill(1025, 'x');
        g_autofree char *quarantine = g_strdup_printf("('%s', " NO_OPTIONS ")", text);
        g_autofree char *fencing = g_strdup_printf("('x', {'key': '%s'}, " NO_OPTIONS ")", text);
        expect_error(host, NODE_A, "Node.SetFencing", fencing, INVALID, "1024");
        expect_error(host, GPU("01"), "Gpu.Quarantine", quarantine, INVALID, "1024");
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "");
}

static void test_wrong_types_are_refused(void) {
        HOST(host);
        expect_error(host, ROOT, "Manager.CreatePool", "('x',)", "org.freedesktop.DBus.Error.InvalidArgs", "");
        expect_error(host, ROOT, "Manager.CreatePool", "(1, " NO_OPTIONS ")", "org.freedesktop.DBus.Error.InvalidArgs",
                     "");
        expect_error(host, ROOT, "Manager.DefineVM", "('x', 'y', 1, " NO_OPTIONS ")",
                     "org.freedesktop.DBus.Error.InvalidArgs", "");
        expect_error(host, ROOT, "Manager.Events", "(1, 2)", "org.freedesktop.DBus.Error.InvalidArgs", "");
}

static void test_gpus_that_are_not_there_are_refused(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        expect_error(host, POOL("training"), "Pool.Add", "(@ao ['" GPU("66") "'], " NO_OPTIONS ")", "NotFound",
                     GPU("66"));
        expect_error(host, POOL("training"), "Pool.Add", "(@ao ['" NODE_A "'], " NO_OPTIONS ")", "NotFound", "no GPU");
        expect_error(host, POOL("training"), "Pool.Add", "(@ao ['/'], " NO_OPTIONS ")", "NotFound", "no GPU");
        expect_error(host, ROOT, "Manager.GetGpu", "('a:0000:66:00.0',)", "NotFound", "0000:66:00.0");
        expect_error(host, ROOT, "Manager.GetGpu", "('z:0000:01:00.0',)", "NotFound", "node z");
}

static void test_at_most_256_gpus_are_named_at_once(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        GString *many = g_string_new("(@ao [");
        for (unsigned i = 0; i < 257; i++)
                g_string_append_printf(many, "%s'" ROOT "/gpu/%u'", i ? ", " : "", i);
        g_string_append(many, "], " NO_OPTIONS ")");
        g_autofree char *arguments = g_string_free(many, FALSE);
        expect_error(host, POOL("training"), "Pool.Add", arguments, INVALID, "256");
}

/* ---- VMs */

static void test_a_vm_is_defined_with_defaults(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_property(host, VM_PATH, "VM.Name", "'bert'");
        expect_property(host, VM_PATH, "VM.Uuid", "'" VM_UUID "'");
        expect_property(host, VM_PATH, "VM.Requirement", "('training', uint32 1)");
        expect_property(host, VM_PATH, "VM.State", "'stopped'");
        expect_property(host, VM_PATH, "VM.Desired", "'stopped'");
        expect_property(host, VM_PATH, "VM.Priority", "50");
        expect_property(host, VM_PATH, "VM.RestartPolicy", "'on-failure'");
        expect_property(host, VM_PATH, "VM.Reason", "('', '')");
        expect_property(host, VM_PATH, "VM.Node", "objectpath '/'");
}

static void test_a_vm_without_a_uuid_gets_one(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *xml = domain_xml("bert", NULL), *arguments = define_arguments(xml, "training", 1, NO_OPTIONS);
        g_autofree char *first = call(host, ROOT, "Manager.DefineVM", arguments);
        g_assert_true(g_str_has_prefix(first, "(objectpath '" ROOT "/vm/"));
        g_assert_cmpint(first[strlen("(objectpath '" ROOT "/vm/") + 14], ==, '4');
}

static void test_a_retry_of_a_definition_comes_to_the_same_vm(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *xml = domain_xml("bert", NULL);
        g_autofree char *arguments = define_arguments(xml, "training", 1, "{'request-id': <b'0123456789abcde'>}");
        g_autofree char *first = call(host, ROOT, "Manager.DefineVM", arguments);
        g_assert_true(g_str_has_prefix(first, "(objectpath '" ROOT "/vm/"));
        expect_reply(host, ROOT, "Manager.DefineVM", arguments, first);
        g_autofree char *plain = define_arguments(xml, "training", 1, NO_OPTIONS);
        expect_error(host, ROOT, "Manager.DefineVM", plain, "Exists", "bert");
}

static void test_a_request_id_is_good_for_one_request(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.CreatePool", "('one', {'request-id': <b'0123456789abcde'>})",
                     "(objectpath '" POOL("one") "',)");
        expect_error(host, ROOT, "Manager.CreatePool", "('two', {'request-id': <b'0123456789abcde'>})", "Conflict",
                     "request id");
}

static void test_bad_xml_is_refused(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *huge = g_strnfill(49 * 1024, ' ');
        const char *const documents[] = {
                "", "<domain", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain/>", "<network/>",
                        "<domain><name>a/b</name></domain>",
                "<domain type='kvm'><name>x</name></domain>", huge,
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(documents); i++) {
                g_autofree char *arguments = define_arguments(documents[i], "training", 1, NO_OPTIONS);
                expect_error(host, ROOT, "Manager.DefineVM", arguments, "InvalidXml", "");
        }
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "");
}

static void test_a_gpu_as_a_host_device_is_refused(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *arguments = define_arguments(
                "<domain type='kvm'><name>x</name><memory>65536</memory><devices><hostdev mode='subsystem' "
                "type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' "
                "function='0x0'/></source></hostdev></devices></domain>", "training", 1, NO_OPTIONS);
        expect_error(host, ROOT, "Manager.DefineVM", arguments, "InvalidXml", "01:00.0");
}

static void test_xml_that_libvirt_refuses_is_refused(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        told(host, "refuse-xml yes");
        g_autofree char *xml = domain_xml("bert", VM_UUID),
                *arguments = define_arguments(xml, "training", 1, NO_OPTIONS);
        expect_error(host, ROOT, "Manager.DefineVM", arguments, "InvalidXml", "machine type");
        g_autofree char *counted = tell(host, "count");
        g_assert_cmpstr(counted, ==, "1 submitted, 1 checked\n");
}

static void test_a_definition_needs_a_pool_that_exists(void) {
        HOST(host);
        g_autofree char *xml = domain_xml("bert", VM_UUID),
                *arguments = define_arguments(xml, "nothing", 1, NO_OPTIONS);
        expect_error(host, ROOT, "Manager.DefineVM", arguments, "NotFound", "nothing");
}

static void test_an_update_replaces_the_xml(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Update",
                     "('<domain type=\"kvm\"><name>bert</name><memory>4096</memory></domain>', " NO_OPTIONS ")", "()");
        expect_reply(host, VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)",
                     "('<domain type=\"kvm\"><name>bert</name><memory>4096</memory></domain>',)");
        g_autofree char *other = domain_xml("bert", "99999999-2222-4333-8444-555555555555");
        g_autofree char *arguments = g_strdup_printf("('%s', " NO_OPTIONS ")", other);
        expect_error(host, VM_PATH, "VM.Update", arguments, "InvalidXml", "UUID");
}

static void test_requirement_and_policy_of_a_vm_change(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_pool(host, "other", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.SetRequirement", "('other', uint32 2, " NO_OPTIONS ")", "()");
        expect_property(host, VM_PATH, "VM.Requirement", "('other', uint32 2)");
        expect_reply(host, VM_PATH, "VM.SetPolicy",
                     "({'priority': <-5>, 'restart-policy': <'never'>, 'preferred-nodes': <['b', 'a']>}, "
                     "" NO_OPTIONS ")", "()");
        expect_property(host, VM_PATH, "VM.Priority", "-5");
        expect_property(host, VM_PATH, "VM.RestartPolicy", "'never'");
        expect_property(host, VM_PATH, "VM.PreferredNodes", "['b', 'a']");
}

static void raise_to_the_level_of_placement(Host *host) {
        expect_reply(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 5, " NO_OPTIONS ")", "(@as [],)");
}

static void test_below_its_level_a_vm_has_no_model_and_no_wishes(void) {
        HOST(host);
        g_autofree char *xml = domain_xml("ernie", NULL);
        g_autofree char *define = define_arguments(xml, "training", 1, "{'model': <'10de:*'>}");
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        const struct {
                const char *path, *method, *arguments;
        } rows[] = {
                { ROOT, "Manager.DefineVM", define },
                { VM_PATH, "VM.SetRequirement", "('training', uint32 1, {'model': <''>})" },
                { VM_PATH, "VM.SetPolicy", "({'preempt': <false>}, " NO_OPTIONS ")" },
                { VM_PATH, "VM.SetPolicy", "({'preemptible': <true>}, " NO_OPTIONS ")" },
                { VM_PATH, "VM.SetPolicy", "({'affinity': <[('apart', 'x'), ('rather-apart', 'y')]>}, "
                  NO_OPTIONS ")" },
        };
        g_free(mock_polkit_take(host->polkit));
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, "LevelTooLow",
                             "gpupoolctl cluster level 5");
        g_autofree char *plain = define_arguments(xml, "training", 1, "{'model': <''>}"), *made = NULL;
        made = call(host, ROOT, "Manager.DefineVM", plain);
        g_assert_true(g_str_has_prefix(made, "(objectpath"));
}

static void test_a_model_is_kept_until_another_is_said(void) {
        HOST(host);
        g_autofree char *xml = domain_xml("bert", VM_UUID);
        g_autofree char *define = define_arguments(xml, "training", 1,
                                                   "{'model': <'10de:23*'>, 'preempt': <true>, 'preemptible': <true>, "
                                                   "'affinity': <[('rather-together', 'ernie')]>}");
        make_pool(host, "training", NULL);
        raise_to_the_level_of_placement(host);
        expect_reply(host, ROOT, "Manager.DefineVM", define, "(objectpath '" VM_PATH "',)");
        expect_property(host, VM_PATH, "VM.Model", "'10de:23*'");
        expect_property(host, VM_PATH, "VM.Preempt", "true");
        expect_property(host, VM_PATH, "VM.Preemptible", "true");
        expect_property(host, VM_PATH, "VM.Affinity", "[('rather-together', 'ernie')]");
        expect_reply(host, VM_PATH, "VM.SetRequirement", "('training', uint32 2, " NO_OPTIONS ")", "()");
        expect_property(host, VM_PATH, "VM.Model", "'10de:23*'");
        expect_reply(host, VM_PATH, "VM.SetRequirement", "('training', uint32 2, {'model': <'1002:73bf'>})", "()");
        expect_property(host, VM_PATH, "VM.Model", "'1002:73bf'");
        expect_reply(host, VM_PATH, "VM.SetRequirement", "('training', uint32 2, {'model': <''>})", "()");
        expect_property(host, VM_PATH, "VM.Model", "''");
        expect_reply(host, VM_PATH, "VM.SetPolicy", "({'preempt': <false>}, " NO_OPTIONS ")", "()");
        expect_property(host, VM_PATH, "VM.Preempt", "false");
        expect_property(host, VM_PATH, "VM.Preemptible", "true");
        expect_reply(host, VM_PATH, "VM.SetPolicy", "({'affinity': <[('together', 'a'), ('apart', 'b'), "
                     "('rather-apart', 'c')]>}, " NO_OPTIONS ")", "()");
        expect_property(host, VM_PATH, "VM.Affinity", "[('together', 'a'), ('apart', 'b'), ('rather-apart', 'c')]");
}

static void test_explain_says_for_each_node_whether_it_fits(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        g_autofree char *answer = call(host, VM_PATH, "VM.Explain", "(" NO_OPTIONS ",)");
        g_assert_cmpstr(answer, ==, "([('a', false, [('no-gpus', 'no GPU of training', 'add GPUs of a (gpupoolctl pool "
                        "add training GPU)')])],)");
}

static void test_a_vm_that_cannot_run_says_why(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        expect_property(host, VM_PATH, "VM.State", "'waiting'");
        g_autofree char *reason = get(host, VM_PATH, "VM.Reason");
        g_assert_nonnull(strstr(reason, "training"));
        g_assert_cmpint(reason[2], !=, '\'');
        expect_property(host, VM_PATH, "VM.LastPlacement", "[('a', false, 'no GPU of training: add GPUs of a "
                        "(gpupoolctl pool add training GPU)')]");
}

/* ---- finding */

static void test_things_are_found_by_name(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, ROOT, "Manager.GetNode", "('a',)", "(objectpath '" NODE_A "',)");
        expect_reply(host, ROOT, "Manager.GetNode", "('a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0',)",
                     "(objectpath '" NODE_A "',)");
        expect_reply(host, ROOT, "Manager.GetGpu", "('a:0000:01:00.0',)", "(objectpath '" GPU("01") "',)");
        expect_reply(host, ROOT, "Manager.GetGpu", "('0000:02:00.0',)", "(objectpath '" GPU("02") "',)");
        expect_reply(host, ROOT, "Manager.GetPool", "('training',)", "(objectpath '" POOL("training") "',)");
        expect_reply(host, ROOT, "Manager.GetVM", "('bert',)", "(objectpath '" VM_PATH "',)");
        expect_reply(host, ROOT, "Manager.GetVM", "('" VM_UUID "',)", "(objectpath '" VM_PATH "',)");
        expect_error(host, ROOT, "Manager.GetVM", "('ernie',)", "NotFound", "ernie");
}

/* ---- quarantine */

static void test_a_gpu_goes_into_quarantine_and_out(void) {
        HOST(host);
        expect_reply(host, GPU("01"), "Gpu.Quarantine", "('it smells', " NO_OPTIONS ")", "()");
        expect_property(host, GPU("01"), "Gpu.State", "'quarantined'");
        expect_property(host, GPU("01"), "Gpu.QuarantineReason", "'it smells'");
        expect_error(host, GPU("01"), "Gpu.Quarantine", "('again', " NO_OPTIONS ")", "Exists", "quarantine");
        expect_reply(host, GPU("01"), "Gpu.Release", "(" NO_OPTIONS ",)", "()");
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        expect_error(host, GPU("01"), "Gpu.Release", "(" NO_OPTIONS ",)", "Conflict", "not in quarantine");
}

/* ---- jobs */

static void test_a_job_is_announced_before_the_method_returns(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        g_strfreev(take_signals(host, 0));
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        g_auto(GStrv) signals = take_signals(host, 0);
        bool added = false, told_new = false;
        for (char **line = signals; *line; line++) {
                if (strstr(*line, "InterfacesAdded") && strstr(*line, ROOT "/job/1"))
                        added = true;
                if (g_str_equal(*line, ROOT " JobNew (uint64 1, objectpath '" ROOT "/job/1')"))
                        told_new = added;
        }
        g_assert_true(told_new);
        expect_property(host, ROOT "/job/1", "Job.State", "'running'");
        expect_property(host, ROOT "/job/1", "Job.Operation", "'start'");
        expect_property(host, ROOT "/job/1", "Job.Object", "objectpath '" VM_PATH "'");
        expect_property(host, ROOT "/job/1", "Job.Result", "''");
}

static void test_a_job_tells_its_progress_and_its_end(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        told(host, "progress 1");
        g_autofree char *progress = wait_signal(host, ROOT "/job/1 PropertiesChanged");
        g_assert_nonnull(strstr(progress, "'Stage': <'binding'>"));
        g_assert_nonnull(strstr(progress, "'Progress': <0.5>"));
        told(host, "end-job 1");
        g_autofree char *done = wait_signal(host, ROOT "/job/1 PropertiesChanged");
        g_assert_nonnull(strstr(done, "'Result': <'done'>"));
        g_autofree char *removed = wait_signal(host, ROOT " JobRemoved");
        g_assert_cmpstr(removed, ==, ROOT " JobRemoved (uint64 1, objectpath '" ROOT "/job/1', 'done', '', '')");
        expect_property(host, ROOT "/job/1", "Job.State", "'done'");
        told(host, "forget-job 1");
        g_free(wait_signal(host, ROOT " InterfacesRemoved (objectpath '" ROOT "/job/1'"));
        g_autofree char *gone = get(host, ROOT "/job/1", "Job.State");
        g_assert_true(g_str_has_prefix(gone, "org.freedesktop.DBus.Error.UnknownObject"));
}

static void test_whoever_made_a_job_may_cancel_it_unasked(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        g_free(mock_polkit_take(host->polkit));
        expect_reply(host, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "()");
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "");
        expect_property(host, ROOT "/job/1", "Job.Result", "'canceled'");
}

static void test_a_job_that_is_too_far_is_not_cancelled(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        told(host, "cancel-is-late");
        expect_error(host, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "Busy", "wait");
}

static void test_a_job_is_cancelled_when_that_is_kept(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        told(host, "outcome storage-full");
        expect_error(host, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "StorageFull", "nothing was changed");
        expect_property(host, ROOT "/job/1", "Job.Result", "''");
        told(host, "outcome committed");
        expect_reply(host, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "()");
        expect_property(host, ROOT "/job/1", "Job.Result", "'canceled'");
}

static void test_a_user_has_only_so_many_jobs(void) {
        HOST_WITH(host, "--jobs 2");
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/1',)");
        expect_reply(host, VM_PATH, "VM.Restart", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/2',)");
        expect_error(host, VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", "LimitsExceeded", "jobs");
        told(host, "end-job 1");
        expect_reply(host, VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", "(objectpath '" ROOT "/job/3',)");
}

/* ---- how requests end */

static void test_each_way_that_a_request_ends_has_its_error(void) {
        HOST(host);
        const struct {
                const char *outcome, *error, *part;
        } rows[] = {
                { "outcome no-quorum", "NoQuorum", "nothing was changed" },
                { "outcome storage-full", "StorageFull", "nothing was changed" },
                { "outcome storage-waited-for", "OutcomeUnknown", "as soon as there is room" },
                { "outcome unknown", "OutcomeUnknown", "may or may not" },
                { "outcome stopping", "Unreachable", "nothing was changed" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                told(host, rows[i].outcome);
                expect_error(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")", rows[i].error, rows[i].part);
        }
        told(host, "outcome committed");
        expect_reply(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")", "(objectpath '" POOL("x") "',)");
        expect_error(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")", "Exists", "x");
}

static void test_the_bus_answers_while_a_request_waits(void) {
        HOST(host);
        told(host, "hold");
        Call *waiting = call_begin(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")");
        mock_polkit_wait(host->polkit, 1);
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        g_assert_null(waiting->answer);
        told(host, "let-go");
        g_autofree char *answer = call_end(waiting);
        g_assert_cmpstr(answer, ==, "(objectpath '" POOL("x") "',)");
}

static void wait_for_submitted(Host *host, const char *beginning) {
        for (unsigned i = 0; i < 60000; i++) {
                g_autofree char *counted = tell(host, "count");
                if (g_str_has_prefix(counted, beginning))
                        return;
                g_usleep(1000);
        }
        g_error("it was never: %s", beginning);
}

static void test_what_waits_is_answered_when_the_service_goes_down(void) {
        HOST(host);
        told(host, "hold");
        Call *requested = call_begin(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")");
        wait_for_submitted(host, "1 submitted");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *asked = call_begin(host, ROOT, "Manager.CreatePool", "('y', " NO_OPTIONS ")");
        mock_polkit_wait(host->polkit, 2);
        told(host, "go-down");
        g_autofree char *first = call_end(requested), *second = call_end(asked);
        g_assert_true(g_str_has_prefix(first, "OutcomeUnknown: "));
        g_assert_true(g_str_has_prefix(second, "Unreachable: "));
        g_assert_nonnull(strstr(second, "nothing was changed"));
}

static void test_a_caller_who_leaves_while_a_request_waits_harms_nobody(void) {
        HOST(host);
        told(host, "hold");
        Call *waiting = call_begin(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")");
        wait_for_submitted(host, "1 submitted");
        call_leave(waiting);
        told(host, "let-go");
        g_free(wait_signal(host, ROOT " InterfacesAdded"));
        expect_reply(host, ROOT, "Manager.GetPool", "('x',)", "(objectpath '" POOL("x") "',)");
}

static void test_a_caller_who_leaves_while_libvirt_is_asked_gets_no_vm(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        told(host, "hold");
        g_autofree char *xml = domain_xml("bert", VM_UUID),
                *arguments = define_arguments(xml, "training", 1, NO_OPTIONS);
        Call *waiting = call_begin(host, ROOT, "Manager.DefineVM", arguments);
        wait_for_submitted(host, "1 submitted, 1 checked");
        call_leave(waiting);
        settle(host);
        told(host, "let-go");
        expect_error(host, ROOT, "Manager.GetVM", "('bert',)", "NotFound", "bert");
        g_autofree char *counted = tell(host, "count");
        g_assert_cmpstr(counted, ==, "1 submitted, 1 checked\n");
}

/* ---- events and check */

static void test_events_tell_who_did_what(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *signal = wait_signal(host, ROOT " Event");
        g_assert_nonnull(strstr(signal, "'pool-created', objectpath '" POOL("training") "', 'a', uint32 0, 'root', "
                                "'org.gpupool1.manage-pool', 'pool training created"));
        g_autofree char *events = call(host, ROOT, "Manager.Events", "(uint64 0, uint32 0)");
        g_assert_nonnull(strstr(events, "'pool-created'"));
        g_assert_nonnull(strstr(events, "4294967295"));       /* the cluster made itself */
        g_autofree char *one = call(host, ROOT, "Manager.Events", "(uint64 0, uint32 1)");
        g_assert_null(strstr(one, "'pool-created'"));
        g_assert_nonnull(strstr(one, "'cluster-created'"));
        expect_reply(host, ROOT, "Manager.Events", "(uint64 1000000, uint32 0)", "(@a(ttsosusss) [],)");
}

static void test_check_finds_what_is_in_the_way(void) {
        HOST(host);
        g_autofree char *fine = call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)");
        g_assert_null(strstr(fine, "'error'"));
        g_assert_null(strstr(fine, "'warning'"));
        told(host, "hypervisor hung");
        g_autofree char *found = call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)");
        g_assert_nonnull(strstr(found, "[('error', 'hypervisor-hung', objectpath '" NODE_A "', 'libvirt on node a"));
        g_autofree char *here = call(host, ROOT, "Manager.Check", "({'node': <'a'>},)");
        g_assert_nonnull(strstr(here, "[('error', 'hypervisor-hung', objectpath '" NODE_A "', 'libvirt on node a"));
        g_assert_null(strstr(here, "objectpath '/'"));          /* nothing about the cluster */
        expect_error(host, ROOT, "Manager.Check", "({'node': <'zed'>},)", "NotFound", "there is no node zed");
        expect_error(host, ROOT, "Manager.Check", "({'node': <'a b'>},)", "InvalidArgument", "name of a node");
        expect_error(host, ROOT, "Manager.Check", "({'node': <5>},)", "InvalidArgument", "node");
}

static void test_a_plan_asks_nobody(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.Plan", "(" NO_OPTIONS ",)",
                     "(@a(osssss) [], @a(sa(suu)) [])");
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "");
}

#define TEST(suite, name, function) g_test_add_func("/" suite "/" name, function)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        TEST("pool", "a pool is made with all its options", test_a_pool_is_made_with_all_its_options);
        TEST("pool", "GPUs go in and out", test_gpus_go_in_and_out);
        TEST("pool", "a GPU of another pool is refused with its name",
             test_a_gpu_of_another_pool_is_refused_with_its_name);
        TEST("pool", "an absent GPU can be taken out", test_an_absent_gpu_can_be_taken_out);
        TEST("pool", "a card that was replaced can be taken out", test_a_card_that_was_replaced_can_be_taken_out);
        TEST("pool", "rules and policy of a pool change", test_rules_and_policy_of_a_pool_change);
        TEST("pool", "a pool that a VM needs is not deleted", test_a_pool_that_a_vm_needs_is_not_deleted);
        TEST("input", "bad names are refused before anybody is asked",
             test_bad_names_are_refused_before_anybody_is_asked);
        TEST("input", "a name of 63 is taken and of 64 is not", test_a_name_of_63_is_taken_and_of_64_is_not);
        TEST("input", "bad options are refused by name", test_bad_options_are_refused_by_name);
        TEST("input", "an option that stands twice is refused", test_an_option_that_stands_twice_is_refused);
        TEST("input", "what is too long is refused before polkit is asked",
             test_what_is_too_long_is_refused_before_polkit_is_asked);
        TEST("input", "wrong types are refused", test_wrong_types_are_refused);
        TEST("input", "GPUs that are not there are refused", test_gpus_that_are_not_there_are_refused);
        TEST("input", "at most 256 GPUs are named at once", test_at_most_256_gpus_are_named_at_once);
        TEST("vm", "a VM is defined with defaults", test_a_vm_is_defined_with_defaults);
        TEST("vm", "a VM without a UUID gets one", test_a_vm_without_a_uuid_gets_one);
        TEST("vm", "a retry of a definition comes to the same VM", test_a_retry_of_a_definition_comes_to_the_same_vm);
        TEST("vm", "a request id is good for one request", test_a_request_id_is_good_for_one_request);
        TEST("vm", "bad XML is refused", test_bad_xml_is_refused);
        TEST("vm", "a GPU as a host device is refused", test_a_gpu_as_a_host_device_is_refused);
        TEST("vm", "XML that libvirt refuses is refused", test_xml_that_libvirt_refuses_is_refused);
        TEST("vm", "a definition needs a pool that exists", test_a_definition_needs_a_pool_that_exists);
        TEST("vm", "an update replaces the XML", test_an_update_replaces_the_xml);
        TEST("vm", "requirement and policy of a VM change", test_requirement_and_policy_of_a_vm_change);
        TEST("vm", "below its level a VM has no model and no wishes",
             test_below_its_level_a_vm_has_no_model_and_no_wishes);
        TEST("vm", "a model is kept until another is said", test_a_model_is_kept_until_another_is_said);
        TEST("vm", "Explain says for each node whether it fits", test_explain_says_for_each_node_whether_it_fits);
        TEST("vm", "a VM that cannot run says why", test_a_vm_that_cannot_run_says_why);
        TEST("find", "things are found by name", test_things_are_found_by_name);
        TEST("gpu", "a GPU goes into quarantine and out", test_a_gpu_goes_into_quarantine_and_out);
        TEST("job", "a job is announced before the method returns", test_a_job_is_announced_before_the_method_returns);
        TEST("job", "a job tells its progress and its end", test_a_job_tells_its_progress_and_its_end);
        TEST("job", "whoever made a job may cancel it unasked", test_whoever_made_a_job_may_cancel_it_unasked);
        TEST("job", "a job that is too far is not cancelled", test_a_job_that_is_too_far_is_not_cancelled);
        TEST("job", "a job is cancelled when that is kept", test_a_job_is_cancelled_when_that_is_kept);
        TEST("job", "a user has only so many jobs", test_a_user_has_only_so_many_jobs);
        TEST("answer", "each way that a request ends has its error", test_each_way_that_a_request_ends_has_its_error);
        TEST("answer", "the bus answers while a request waits", test_the_bus_answers_while_a_request_waits);
        TEST("answer", "what waits is answered when the service goes down",
             test_what_waits_is_answered_when_the_service_goes_down);
        TEST("answer", "a caller who leaves while a request waits harms nobody",
             test_a_caller_who_leaves_while_a_request_waits_harms_nobody);
        TEST("answer", "a caller who leaves while libvirt is asked gets no VM",
             test_a_caller_who_leaves_while_libvirt_is_asked_gets_no_vm);
        TEST("event", "events tell who did what", test_events_tell_who_did_what);
        TEST("check", "Check finds what is in the way", test_check_finds_what_is_in_the_way);
        TEST("plan", "a plan asks nobody", test_a_plan_asks_nobody);
        return g_test_run();
}
