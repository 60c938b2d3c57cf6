/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Nodes that fail, and nodes that are worked on: freezing, draining, moving, fencing, and an administrator's word. */

#include <stdbool.h>
#include <string.h>

#include "bus-test.h"

#define NODE_B ROOT "/node/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
#define GPU_B ROOT "/gpu/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1_0000_01_00_0"
#define INVALID "InvalidArgument"
#define DENIED "org.freedesktop.DBus.Error.AccessDenied"
#define REQUEST "'request-id': <[byte 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]>"
#define JOB(number) ROOT "/job/" number
#define IS_JOB(number) "(objectpath '" JOB(number) "',)"

static void expect_said(Host *host, const char *command, const char *text) {
        g_autofree char *said = tell(host, command);
        g_assert_cmpstr(said, ==, text);
}

static void expect_asked(Host *host, const char *lines) {
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, lines);
}

static void raise_level(Host *host) {
        expect_reply(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 3, " NO_OPTIONS ")", "(@as [],)");
        g_free(mock_polkit_take(host->polkit));
}

/* Nodes a (2 GPUs) and b (1) at the level of failover, and bert running on a with one GPU of training. */
static void prepare(Host *host) {
        told(host, "admit 3 1");
        raise_level(host);
        make_pool(host, "training", "['" GPU("01") "', '" GPU_B "']");
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("1"));
        told(host, "run bert a");
        told(host, "end-job 1");
        g_free(mock_polkit_take(host->polkit));
}

/* ---- who may, and what is no call */

static void test_each_method_asks_and_a_no_changes_nothing(void) {
        HOST(host);
        prepare(host);
        mock_polkit_set(host->polkit, POLKIT_NO);
        const struct {
                const char *path, *method, *arguments, *asked;
        } rows[] = {
                { ROOT, "Manager.Freeze", "(uint64 5, " NO_OPTIONS ")", "manage-cluster verb=freeze" },
                { ROOT, "Manager.Thaw", "(" NO_OPTIONS ",)", "manage-cluster verb=thaw" },
                { NODE_A, "Node.Drain", "(" NO_OPTIONS ",)", "manage-node node=a verb=drain" },
                { NODE_A, "Node.Drain", "({'dry-run': <true>},)", "manage-node node=a verb=drain" },
                { NODE_A, "Node.Resume", "(" NO_OPTIONS ",)", "manage-node node=a verb=resume" },
                { NODE_B, "Node.SetFencing", "('fence_x', @a{ss} {}, " NO_OPTIONS ")",
                  "manage-cluster node=b verb=set-fencing" },
                { NODE_B, "Node.ConfirmDown", "(" NO_OPTIONS ",)", "manage-cluster node=b verb=confirm-down" },
                { VM_PATH, "VM.Move", "('b', " NO_OPTIONS ")",
                  "operate-vm pool=training vm=bert verb=move owner=root" },
        };
        g_autofree char *before = tell(host, "count");
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, DENIED, "org.gpupool1.");
                expect_asked(host, rows[i].asked);
        }
        expect_said(host, "count", before);
}

static void test_bad_arguments_are_refused_before_anybody_is_asked(void) {
        HOST(host);
        prepare(host);
        mock_polkit_set(host->polkit, POLKIT_NO);
        g_autofree char *long_text = g_strnfill(1025, 'x'), *long_name = g_strnfill(64, 'x');
        g_autofree char *long_value = g_strdup_printf("('fence_x', {'key': '%s'}, " NO_OPTIONS ")", long_text);
        g_autofree char *long_agent = g_strdup_printf("('%s', @a{ss} {}, " NO_OPTIONS ")", long_name);
        g_autofree char *long_key = g_strdup_printf("('fence_x', {'%s': ''}, " NO_OPTIONS ")", long_name);
        const struct {
                const char *path, *method, *arguments, *part;
        } rows[] = {
                { ROOT, "Manager.Freeze", "(uint64 0, " NO_OPTIONS ")", "seconds is 1 to 86400" },
                { ROOT, "Manager.Freeze", "(uint64 86401, " NO_OPTIONS ")", "seconds is 1 to 86400" },
                { ROOT, "Manager.Freeze", "(uint64 18446744073709551615, " NO_OPTIONS ")", "seconds is 1 to 86400" },
                { ROOT, "Manager.Freeze", "(uint64 5, {'force': <true>})", "force" },
                { ROOT, "Manager.Thaw", "({'force': <true>},)", "force" },
                { NODE_A, "Node.Drain", "({'dry-run': <1>},)", "dry-run is of type i" },
                { NODE_A, "Node.Drain", "({'timeout': <uint64 31536001>},)", "at most a year" },
                { NODE_A, "Node.Drain", "({'bring-home': <true>},)", "bring-home" },
                { NODE_A, "Node.Resume", "({'dry-run': <true>},)", "dry-run" },
                { NODE_A, "Node.Resume", "({'bring-home': <'yes'>},)", "must be of type b" },
                { NODE_B, "Node.ConfirmDown", "({'force': <true>},)", "force" },
                { NODE_B, "Node.SetFencing", long_value, "at most 1024 bytes" },
                { NODE_B, "Node.SetFencing", long_agent, "agent is the name of a program without its folder" },
                { NODE_B, "Node.SetFencing", long_key, "the name of a parameter is 1 to 63" },
                { NODE_B, "Node.SetFencing", "('/bin/sh', @a{ss} {}, " NO_OPTIONS ")", "without its folder" },
                { NODE_B, "Node.SetFencing", "('..', @a{ss} {}, " NO_OPTIONS ")", "without its folder" },
                { NODE_B, "Node.SetFencing", "('x y', @a{ss} {}, " NO_OPTIONS ")", "without its folder" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'': 'y'}, " NO_OPTIONS ")", "the name of a parameter" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'a=b': 'y'}, " NO_OPTIONS ")", "the name of a parameter" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'ip': 'a\\nb'}, " NO_OPTIONS ")", "on one line" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'action': 'on'}, " NO_OPTIONS ")", "action is off" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'action': ''}, " NO_OPTIONS ")", "or reboot (it" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'Action': 'off'}, " NO_OPTIONS ")", "in small letters" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'version': '0'}, " NO_OPTIONS ")", "leave them out" },
                { NODE_B, "Node.SetFencing", "('fence_x', {'method': 'cycle', 'action': 'reboot'}, " NO_OPTIONS ")",
                  "say method=onoff" },
                { NODE_B, "Node.SetFencing", "('fence_gce', {'action': 'reboot'}, " NO_OPTIONS ")", "say method=" },
                { NODE_B, "Node.SetFencing", "('fence_scsi', @a{ss} {}, " NO_OPTIONS ")", "switch a host off" },
                { NODE_B, "Node.SetFencing", "('', {'ip': 'x'}, " NO_OPTIONS ")", "no agent" },
                { NODE_B, "Node.SetFencing", "('fence_x', @a{ss} {}, {'force': <true>})", "force" },
                { VM_PATH, "VM.Move", "('no/name', " NO_OPTIONS ")", "the name of a node" },
                { VM_PATH, "VM.Move", "('b', {'timeout': <uint64 31536001>})", "at most a year" },
                { VM_PATH, "VM.Move", "('b', {'shutdown': <1>})", "must be of type b" },
                { VM_PATH, "VM.Move", "('b', {'force': <true>})", "force" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, INVALID, rows[i].part);
        expect_error(host, VM_PATH, "VM.Move", "('nobody', " NO_OPTIONS ")", "NotFound", "there is no node nobody");
        expect_asked(host, "");
}

static void test_at_most_64_parameters_are_taken(void) {
        HOST(host);
        prepare(host);
        GString *text = g_string_new("('fence_x', {");
        for (unsigned i = 0; i < 64; i++)
                g_string_append_printf(text, "%s'k%u': 'v'", i > 0 ? ", " : "", i);
        g_autofree char *most = g_strdup_printf("%s}, " NO_OPTIONS ")", text->str);
        g_autofree char *more = g_strdup_printf("%s, 'one': 'more'}, " NO_OPTIONS ")", text->str);
        g_string_free(text, TRUE);
        expect_reply(host, NODE_B, "Node.SetFencing", most, "()");
        expect_error(host, NODE_B, "Node.SetFencing", more, INVALID, "at most 64");
}

/* Text cannot say it: a dictionary in text has each key once. */
static void test_a_parameter_that_stands_twice_is_refused(void) {
        HOST(host);
        prepare(host);
        GVariantBuilder parameters, options;
        g_autoptr(GError) error = NULL;
        g_variant_builder_init(&parameters, G_VARIANT_TYPE("a{ss}"));
        g_variant_builder_add(&parameters, "{ss}", "ip", "10.0.0.1");
        g_variant_builder_add(&parameters, "{ss}", "ip", "10.0.0.2");
        g_variant_builder_init(&options, G_VARIANT_TYPE("a{sv}"));
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                host->client, "org.gpupool1", NODE_B, "org.gpupool1.Node", "SetFencing",
                g_variant_new("(sa{ss}a{sv})", "fence_x", &parameters, &options), NULL, G_DBUS_CALL_FLAGS_NONE, -1,
                NULL, &error);
        g_assert_null(reply);
        g_assert_nonnull(strstr(error->message, "parameter ip stands twice"));
}

static void test_below_its_level_each_says_what_to_do(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("01") "']");
        make_vm(host, "bert", "training");
        told(host, "admit 3 1");
        const struct {
                const char *path, *method, *arguments;
        } rows[] = {
                { ROOT, "Manager.Freeze", "(uint64 5, " NO_OPTIONS ")" },
                { ROOT, "Manager.Thaw", "(" NO_OPTIONS ",)" },
                { NODE_A, "Node.Drain", "(" NO_OPTIONS ",)" },
                { NODE_A, "Node.Drain", "({'dry-run': <true>},)" },
                { NODE_A, "Node.Resume", "(" NO_OPTIONS ",)" },
                { NODE_B, "Node.SetFencing", "('fence_x', @a{ss} {}, " NO_OPTIONS ")" },
                { NODE_B, "Node.ConfirmDown", "(" NO_OPTIONS ",)" },
                { VM_PATH, "VM.Move", "('b', " NO_OPTIONS ")" },
                { VM_PATH, "VM.Defragment", "(" NO_OPTIONS ",)" },
        };
        g_autofree char *before = tell(host, "count");
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, "LevelTooLow",
                             "gpupoolctl cluster level 3");
        expect_said(host, "count", before);
}

static void test_what_can_fail_over_is_a_feature(void) {
        HOST(host);
        g_autofree char *features = get(host, ROOT, "Manager.Features");
        g_assert_nonnull(strstr(features, "'failover'"));
}

/* ---- plans */

static void test_a_plan_tells_what_would_become_of_vms_and_pools(void) {
        HOST(host);
        prepare(host);
        g_autofree char *lost = call(host, ROOT, "Manager.Plan", "({'lose': <[objectpath '" NODE_B "']>},)");
        g_assert_true(g_str_has_prefix(lost, "(@a(osssss) [], [('training', [('total', uint32 2, uint32 2), "
                                             "('usable', 2, 1), "));
        g_autofree char *drained = call(host, ROOT, "Manager.Plan", "({'drain': <[objectpath '" NODE_A "']>},)");
        g_assert_true(g_str_has_prefix(drained, "([(objectpath '" VM_PATH "', 'a', 'b', 'moves', '', '1 GPU of "
                                                "training')], "));
        g_autofree char *bought = call(host, ROOT, "Manager.Plan", "({'add-nodes': <['c']>, 'add': <[('training', "
                                       "uint32 4, 'c'), ('training', 2, '')]>, "
                                       "'reserve': <[('training', uint32 1)]>},)");
        g_assert_nonnull(strstr(bought, "('free', 1, 7)"));
        g_autofree char *room = call(host, ROOT, "Manager.Plan", "({'defragment': <objectpath '" VM_PATH "'>},)");
        g_assert_true(g_str_has_prefix(room, "(@a(osssss) [], "));
        expect_asked(host, "");
}

static void test_a_plan_of_what_is_not_there_is_refused(void) {
        HOST(host);
        prepare(host);
        expect_error(host, ROOT, "Manager.Plan", "({'lose': <[objectpath '/org/gpupool1/node/zed']>},)", "NotFound",
                     "there is no node /org/gpupool1/node/zed");
        expect_error(host, ROOT, "Manager.Plan", "({'start': <[objectpath '" NODE_B "']>},)", "NotFound",
                     "there is no VM " NODE_B);
        expect_error(host, ROOT, "Manager.Plan", "({'add': <[('render', uint32 1, 'a')]>},)", "NotFound",
                     "there is no pool render");
        expect_error(host, ROOT, "Manager.Plan", "({'add': <[('training', uint32 0, 'a')]>},)", "InvalidArgument",
                     "0 GPUs cannot be added");
        expect_error(host, ROOT, "Manager.Plan", "({'add-nodes': <['b']>},)", "Exists", "there is a node b already");
        expect_error(host, ROOT, "Manager.Plan", "({'sell': <['b']>},)", "InvalidArgument", "option sell is unknown");
        expect_error(host, ROOT, "Manager.Plan", "({'lose': <true>},)", "InvalidArgument", "must be of type ao");
        GString *many = g_string_new("({'add': <[");
        for (unsigned i = 0; i < 257; i++)
                g_string_append_printf(many, "%s('training', uint32 1, 'a')", i > 0 ? ", " : "");
        g_string_append(many, "]>},)");
        expect_error(host, ROOT, "Manager.Plan", many->str, "InvalidArgument", "option add has at most 256 items");
        g_string_free(many, TRUE);
}

/* ---- making room */

#define BIG ROOT "/vm/22222222_2222_4333_8444_555555555555"

static void make_big(Host *host) {
        g_autofree char *xml = domain_xml("big", "22222222-2222-4333-8444-555555555555");
        g_autofree char *arguments = g_strdup_printf("('%s', 'training', uint32 2, " NO_OPTIONS ")", xml);
        expect_reply(host, ROOT, "Manager.DefineVM", arguments, "(objectpath '" BIG "',)");
}

/* a has two GPUs, and bert runs with one of them; b has one; big waits for two. */
static void prepare_big(Host *host) {
        told(host, "admit 3 1");
        raise_level(host);
        make_pool(host, "training", "['" GPU("01") "', '" GPU("02") "', '" GPU_B "']");
        make_vm(host, "bert", "training");
        make_big(host);
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("1"));
        told(host, "run bert a");
        told(host, "end-job 1");
        expect_reply(host, BIG, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("2"));
        told(host, "end-job 2");
        g_free(mock_polkit_take(host->polkit));
}

static void test_room_is_made_as_a_job_of_the_vm(void) {
        HOST(host);
        prepare_big(host);
        expect_reply(host, BIG, "VM.Defragment", "({'timeout': <uint64 60>, " REQUEST "},)", IS_JOB("3"));
        expect_asked(host, "manage-pool pool=training vm=big verb=defragment");
        g_autofree char *said = tell(host, "clearance 3");
        g_assert_true(g_str_has_prefix(said, "1 moves, 60000 ms, by "));
        g_assert_true(g_str_has_suffix(said, ": training\n"));
        expect_property(host, JOB("3"), "Job.Operation", "'defragment'");
        expect_property(host, JOB("3"), "Job.Object", "objectpath '" BIG "'");
        expect_property(host, JOB("3"), "Job.Stage", "'moving'");
        expect_property(host, JOB("3"), "Job.Plan", "@a(osos) []");
        expect_reply(host, BIG, "VM.Defragment", "({'timeout': <uint64 60>, " REQUEST "},)", IS_JOB("3"));
        expect_error(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", "Busy", "job 3 makes room for vm big");
        g_free(mock_polkit_take(host->polkit));
        expect_reply(host, JOB("3"), "Job.Cancel", "(" NO_OPTIONS ",)", "()");
        expect_asked(host, "");
        expect_property(host, JOB("3"), "Job.Result", "'canceled'");
        expect_error(host, JOB("3"), "Job.Cancel", "(" NO_OPTIONS ",)", "Busy", "ended already");
        expect_reply(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", IS_JOB("4"));
        told(host, "disown 4");
        g_free(mock_polkit_take(host->polkit));
        mock_polkit_set(host->polkit, POLKIT_NO);
        expect_error(host, JOB("4"), "Job.Cancel", "(" NO_OPTIONS ",)", DENIED, "");
        expect_asked(host, "manage-pool pool=training vm=big verb=cancel");
}

/* bert of another pool runs on a, and big must not be with him: so he is the one who moves. */
static void test_whose_pools_move_is_asked_for_each(void) {
        HOST(host);
        told(host, "admit 3 1");
        told(host, "plug 0000:07:00.0");
        raise_level(host);
        make_pool(host, "render", "['" GPU("01") "', '" GPU_B "']");
        make_pool(host, "training", "['" GPU("02") "', '" GPU("07") "']");
        make_vm(host, "bert", "render");
        make_big(host);
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("1"));
        told(host, "run bert a");
        expect_reply(host, BIG, "VM.SetPolicy", "({'affinity': <[('apart', 'bert')]>}, " NO_OPTIONS ")", "()");
        expect_reply(host, BIG, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("2"));
        g_free(mock_polkit_take(host->polkit));
        expect_reply(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", IS_JOB("3"));
        expect_asked(host, "manage-pool pool=training vm=big verb=defragment\n"
                           "manage-pool pool=render vm=big verb=defragment");
        g_autofree char *said = tell(host, "clearance 3");
        g_assert_true(g_str_has_suffix(said, ": training render\n"));
}

static void test_what_room_would_take_is_said_and_nothing_moves(void) {
        HOST(host);
        prepare_big(host);
        g_autofree char *before = tell(host, "count");
        expect_reply(host, BIG, "VM.Defragment", "({'dry-run': <true>},)", IS_JOB("3"));
        expect_property(host, JOB("3"), "Job.Result", "'done'");
        expect_property(host, JOB("3"), "Job.Plan", "[(objectpath '" VM_PATH "', 'a', objectpath '" NODE_B
                        "', '1 GPU of training')]");
        expect_property(host, JOB("3"), "Job.Message", "'1 VM would move for big: bert from a to b'");
        expect_said(host, "count", before);
}

static void test_room_that_cannot_be_made_is_refused_and_says_why(void) {
        HOST(host);
        prepare_big(host);
        g_autofree char *before = tell(host, "count");
        mock_polkit_set(host->polkit, POLKIT_NO);
        expect_error(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", DENIED, "");
        mock_polkit_set(host->polkit, POLKIT_YES);
        expect_error(host, BIG, "VM.Defragment", "({'force': <true>},)", INVALID, "force");
        expect_error(host, BIG, "VM.Defragment", "({'timeout': <uint64 31536001>},)", INVALID, "at most a year");
        expect_error(host, VM_PATH, "VM.Defragment", "(" NO_OPTIONS ",)", "Conflict", "it has its place on node a");
        told(host, "quorate no");
        expect_error(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", "NoQuorum", "gpupoolctl status");
        told(host, "quorate yes");
        expect_said(host, "count", before);
        expect_reply(host, VM_PATH, "VM.SetPolicy", "({'priority': <99>}, " NO_OPTIONS ")", "()");
        expect_error(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", "NoCapacity", "nothing was moved");
        expect_error(host, BIG, "VM.Defragment", "({'dry-run': <true>},)", "NoCapacity", "gpupoolctl vm explain big");
        expect_reply(host, BIG, "VM.Stop", "(" NO_OPTIONS ",)", IS_JOB("3"));
        expect_error(host, BIG, "VM.Defragment", "(" NO_OPTIONS ",)", "Conflict", "gpupoolctl vm start big");
}

/* ---- freezing */

static void test_a_freeze_is_shown_and_ends(void) {
        HOST(host);
        prepare(host);
        expect_property(host, ROOT, "Manager.Frozen", "false");
        (void) g_strfreev(take_signals(host, 0));
        expect_reply(host, ROOT, "Manager.Freeze", "(uint64 600, {" REQUEST "})", "()");
        g_autofree char *changed = wait_signal(host, ROOT " PropertiesChanged");
        g_assert_nonnull(strstr(changed, "'Frozen': <true>"));
        g_assert_nonnull(strstr(changed, "'FrozenSeconds': <uint64 600>"));
        expect_said(host, "failover", "frozen 600000 ms\n");
        expect_reply(host, ROOT, "Manager.Freeze", "(uint64 60, " NO_OPTIONS ")", "()");
        expect_property(host, ROOT, "Manager.FrozenSeconds", "uint64 60");
        g_autofree char *found = call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)");
        g_assert_nonnull(strstr(found, "'cluster-frozen', "));
        expect_reply(host, ROOT, "Manager.Thaw", "(" NO_OPTIONS ",)", "()");
        expect_property(host, ROOT, "Manager.Frozen", "false");
        expect_property(host, ROOT, "Manager.FrozenSeconds", "uint64 0");
        expect_error(host, ROOT, "Manager.Thaw", "(" NO_OPTIONS ",)", "Conflict", "is not frozen");
}

/* ---- draining */

static void test_a_drain_is_a_job_of_its_node(void) {
        HOST(host);
        prepare(host);
        (void) g_strfreev(take_signals(host, 0));
        expect_reply(host, NODE_A, "Node.Drain", "({'timeout': <uint64 60>},)", IS_JOB("2"));
        expect_said(host, "failover", "frozen 0 ms, a: drained 60000 ms\n");
        expect_property(host, JOB("2"), "Job.Operation", "'drain'");
        expect_property(host, JOB("2"), "Job.Object", "objectpath '" NODE_A "'");
        expect_property(host, JOB("2"), "Job.Stage", "'moving'");
        expect_property(host, JOB("2"), "Job.Plan", "@a(osos) []");
        expect_property(host, NODE_A, "Node.State", "'draining'");
        expect_property(host, NODE_A, "Node.DrainCause", "'by-hand'");
        expect_reply(host, VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", IS_JOB("3"));
        told(host, "ended bert");
        told(host, "flush");
        g_autofree char *changed = wait_signal(host, NODE_A " PropertiesChanged");
        g_assert_nonnull(strstr(changed, "'State': <'draining'>"));
        g_autofree char *last = wait_signal(host, NODE_A " PropertiesChanged");
        g_assert_nonnull(strstr(last, "'State': <'drained'>"));
        expect_reply(host, NODE_A, "Node.Resume", "({'bring-home': <true>},)", "()");
        expect_said(host, "failover", "frozen 0 ms, a: brings home 0 ms\n");
        expect_property(host, NODE_A, "Node.State", "'online'");
        expect_property(host, NODE_A, "Node.DrainCause", "''");
        expect_reply(host, NODE_A, "Node.Drain", "({'timeout': <uint64 0>},)", IS_JOB("4"));
        expect_said(host, "failover", "frozen 0 ms, a: drained 31536000000 ms\n");
}

static void test_a_drain_that_is_tried_says_what_would_move(void) {
        HOST(host);
        prepare(host);
        g_autofree char *before = tell(host, "count");
        (void) g_strfreev(take_signals(host, 0));
        expect_reply(host, NODE_A, "Node.Drain", "({'dry-run': <true>, " REQUEST "},)", IS_JOB("2"));
        g_autofree char *removed = wait_signal(host, ROOT " JobRemoved");
        g_assert_cmpstr(removed, ==, ROOT " JobRemoved (uint64 2, objectpath '" JOB("2") "', 'done', '', '1 VM would "
                        "leave node a: bert to b')");
        expect_property(host, JOB("2"), "Job.State", "'done'");
        expect_property(host, JOB("2"), "Job.Plan", "[(objectpath '" VM_PATH "', 'a', objectpath '" NODE_B
                        "', '1 GPU of training')]");
        told(host, "admit 3");
        told(host, "life b silent");
        expect_reply(host, NODE_A, "Node.Drain", "({'dry-run': <true>},)", IS_JOB("3"));
        expect_property(host, JOB("3"), "Job.Result", "'waiting'");
        g_autofree char *plan = get(host, JOB("3"), "Job.Plan");
        g_assert_true(g_str_has_prefix(plan, "[(objectpath '" VM_PATH "', 'a', objectpath '/', 'b: "));
        g_autofree char *message = get(host, JOB("3"), "Job.Message");
        g_assert_nonnull(strstr(message, "vm bert cannot leave node a (b: "));
        expect_property(host, NODE_A, "Node.State", "'online'");
        expect_said(host, "count", before);
}

static void test_a_drain_that_is_tried_counts_as_a_job(void) {
        HOST_WITH(host, "--jobs 1");
        prepare(host);
        expect_reply(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", IS_JOB("2"));
        expect_error(host, NODE_A, "Node.Drain", "({'dry-run': <true>},)", "LimitsExceeded", "unfinished jobs");
        told(host, "end-job 2");
        expect_reply(host, NODE_A, "Node.Drain", "({'dry-run': <true>},)", IS_JOB("3"));
        expect_reply(host, NODE_A, "Node.Drain", "({'dry-run': <true>},)", IS_JOB("4"));
}

static void test_a_drain_that_is_cancelled_resumes_its_node(void) {
        HOST(host);
        prepare(host);
        expect_reply(host, NODE_A, "Node.Drain", "(" NO_OPTIONS ",)", IS_JOB("2"));
        g_free(mock_polkit_take(host->polkit));
        expect_reply(host, JOB("2"), "Job.Cancel", "(" NO_OPTIONS ",)", "()");
        expect_asked(host, "");
        expect_property(host, JOB("2"), "Job.Result", "'canceled'");
        expect_property(host, NODE_A, "Node.State", "'online'");
        expect_said(host, "failover", "frozen 0 ms\n");
}

static void test_somebody_elses_drain_is_cancelled_by_right(void) {
        HOST(host);
        prepare(host);
        expect_reply(host, NODE_A, "Node.Drain", "(" NO_OPTIONS ",)", IS_JOB("2"));
        told(host, "disown 2");
        g_free(mock_polkit_take(host->polkit));
        mock_polkit_set(host->polkit, POLKIT_NO);
        expect_error(host, JOB("2"), "Job.Cancel", "(" NO_OPTIONS ",)", DENIED, "manage-node");
        expect_asked(host, "manage-node node=a verb=cancel");
        expect_property(host, NODE_A, "Node.State", "'draining'");
}

/* ---- moving */

static void test_a_vm_is_moved_to_the_node_that_is_named(void) {
        HOST(host);
        prepare(host);
        expect_reply(host, VM_PATH, "VM.Move", "('b', {'timeout': <uint64 60>})", IS_JOB("2"));
        expect_property(host, JOB("2"), "Job.Operation", "'move'");
        expect_property(host, JOB("2"), "Job.Object", "objectpath '" VM_PATH "'");
        expect_property(host, VM_PATH, "VM.State", "'stopping'");
        expect_property(host, VM_PATH, "VM.Desired", "'running'");
        expect_said(host, "failover", "frozen 0 ms, bert: shutdown 60000 ms to b\n");
}

static void test_a_vm_is_moved_anywhere_else_and_at_once(void) {
        HOST(host);
        prepare(host);
        expect_reply(host, VM_PATH, "VM.Move", "('', {'shutdown': <false>})", IS_JOB("2"));
        expect_said(host, "failover", "frozen 0 ms, bert: stop 0 ms to b\n");
}

static void test_nothing_is_stopped_for_a_place_that_is_not_there(void) {
        HOST(host);
        prepare(host);
        told(host, "admit 3");
        expect_error(host, VM_PATH, "VM.Move", "('c', " NO_OPTIONS ")", "NoCapacity",
                     "node c cannot take vm bert now: no GPU of training. To change that: add GPUs of c");
        told(host, "life b silent");
        expect_error(host, VM_PATH, "VM.Move", "('', " NO_OPTIONS ")", "NoCapacity", "no other node can take vm bert");
        expect_said(host, "failover", "frozen 0 ms\n");
        expect_property(host, VM_PATH, "VM.State", "'running'");
}

static void test_what_cannot_be_moved_is_a_conflict(void) {
        HOST(host);
        prepare(host);
        expect_error(host, VM_PATH, "VM.Move", "('a', " NO_OPTIONS ")", "Conflict", "on node a already");
        expect_reply(host, VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", IS_JOB("2"));
        told(host, "ended bert");
        expect_error(host, VM_PATH, "VM.Move", "('b', " NO_OPTIONS ")", "Conflict", "bert is stopped");
        expect_error(host, VM_PATH, "VM.Move", "('', " NO_OPTIONS ")", "Conflict", "bert is stopped");
}

/* The first answer was lost; by the second call the VM has arrived, where it could not be moved to. */
static void test_a_move_that_is_sent_again_is_done_once(void) {
        static const char *const targets[] = { "('b', {" REQUEST "})", "('', {" REQUEST "})" };
        for (unsigned i = 0; i < G_N_ELEMENTS(targets); i++) {
                HOST(host);
                prepare(host);
                expect_reply(host, VM_PATH, "VM.Move", targets[i], IS_JOB("2"));
                told(host, "ended bert");
                told(host, "run bert b");
                told(host, "admit 3");
                expect_reply(host, VM_PATH, "VM.Move", targets[i], IS_JOB("3"));
                expect_said(host, "failover", "frozen 0 ms\n");
                expect_property(host, VM_PATH, "VM.Node", "objectpath '" NODE_B "'");
                told(host, "life b silent");    /* it could not go there any more */
                expect_reply(host, VM_PATH, "VM.Move", targets[i], IS_JOB("4"));
                expect_said(host, "failover", "frozen 0 ms\n");
        }
}

static void test_a_move_is_not_cancelled(void) {
        HOST(host);
        prepare(host);
        expect_reply(host, VM_PATH, "VM.Move", "('b', " NO_OPTIONS ")", IS_JOB("2"));
        g_autofree char *before = tell(host, "count");
        expect_error(host, JOB("2"), "Job.Cancel", "(" NO_OPTIONS ",)", "Busy", "a move cannot be given up");
        expect_said(host, "count", before);
}

/* ---- fencing */

static void test_fencing_is_set_and_its_secrets_are_not_shown(void) {
        HOST(host);
        prepare(host);
        expect_property(host, NODE_B, "Node.Fencing", "''");
        (void) g_strfreev(take_signals(host, 0));
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_ipmilan', {'ip': '10.0.9.2', 'password': 'topsecret'}, {"
                     REQUEST "})", "()");
        expect_property(host, NODE_B, "Node.Fencing", "'fence_ipmilan'");
        expect_said(host, "parameter b password", "topsecret\n");
        g_autofree char *event = wait_signal(host, ROOT " Event");
        g_assert_nonnull(strstr(event, "fence_ipmilan"));
        g_assert_null(strstr(event, "topsecret"));
        g_autofree char *all = call(host, ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", "()");
        g_assert_null(strstr(all, "topsecret"));
        expect_reply(host, NODE_B, "Node.SetFencing", "('', @a{ss} {}, " NO_OPTIONS ")", "()");
        expect_property(host, NODE_B, "Node.Fencing", "''");
        expect_said(host, "parameter b password", "");
}

static void test_a_fence_agent_is_asked_for_what_the_administrator_chose(void) {
        HOST(host);
        prepare(host);
        expect_property(host, NODE_B, "Node.FencingAction", "''");
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_x', {'ip': '1'}, " NO_OPTIONS ")", "()");
        expect_property(host, NODE_B, "Node.FencingAction", "'off'");
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_x', {'action': 'reboot'}, " NO_OPTIONS ")", "()");
        expect_property(host, NODE_B, "Node.FencingAction", "'reboot'");
        expect_said(host, "parameter b action", "reboot\n");
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_gce', {'action': 'reboot', 'method': 'onoff'}, "
                     NO_OPTIONS ")", "()");
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_x', {'action': 'off'}, " NO_OPTIONS ")", "()");
        expect_property(host, NODE_B, "Node.FencingAction", "'off'");
}

/* What its node could not write down yet, on a full disk. */
static void test_a_vm_that_ended_unwritten_is_not_shown_as_running(void) {
        HOST(host);
        prepare(host);
        expect_property(host, VM_PATH, "VM.State", "'running'");
        expect_property(host, VM_PATH, "VM.Reason", "('', '')");
        (void) g_strfreev(take_signals(host, 0));
        told(host, "ending bert");
        expect_property(host, VM_PATH, "VM.State", "'stopping'");
        g_autofree char *changed = wait_signal(host, VM_PATH " PropertiesChanged");
        g_assert_nonnull(strstr(changed, "'unwritten', 'it ends on a, or has ended there, and that is not written"));
        told(host, "ended bert");
        expect_property(host, VM_PATH, "VM.State", "'waiting'");
}

static void test_what_fencing_does_is_shown_and_told(void) {
        HOST(host);
        prepare(host);
        static const struct {
                const char *fenced, *shown;
        } cases[] = {
                { "b under-way 1", "('fencing', 'fence_x is asked to switch it off')" },
                { "b under-way 2 status 1",
                  "('fencing', 'fence_x is asked to switch it off, try 2; the last one failed: status 1')" },
                { "b failed 5 status 1",
                  "('failed', 'fence_x could not switch it off when it was silent (tried 5 times): status 1')" },
                { "b done 1", "('done', 'fence_x confirmed that it was off')" },
                { "a done 1", "('ready', '')" },
        };
        expect_property(host, NODE_B, "Node.FencingState", "('', '')");
        told(host, "fenced b done 1");
        expect_property(host, NODE_B, "Node.FencingState", "('', '')");
        expect_reply(host, NODE_B, "Node.SetFencing", "('fence_x', @a{ss} {}, " NO_OPTIONS ")", "()");
        told(host, "fenced b not 0");
        expect_property(host, NODE_B, "Node.FencingState", "('ready', '')");
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *command = g_strdup_printf("fenced %s", cases[i].fenced);
                (void) g_strfreev(take_signals(host, 0));
                told(host, command);
                expect_property(host, NODE_B, "Node.FencingState", cases[i].shown);
                g_autofree char *told = wait_signal(host, NODE_B " PropertiesChanged");
                g_assert_nonnull(strstr(told, cases[i].shown));
        }
}

static void test_a_watchdog_is_shown(void) {
        HOST(host);
        told(host, "watchdog a 2500000");
        expect_property(host, NODE_A, "Node.WatchdogUSec", "uint64 2500000");
}

/* ---- an administrator's word */

static void test_only_a_silent_node_is_held_for_off(void) {
        HOST(host);
        prepare(host);
        g_autofree char *before = tell(host, "count");
        expect_error(host, NODE_B, "Node.ConfirmDown", "(" NO_OPTIONS ",)", "Conflict", "node b is not silent");
        expect_error(host, NODE_A, "Node.ConfirmDown", "(" NO_OPTIONS ",)", "Conflict", "node a is not silent");
        expect_said(host, "count", before);
        told(host, "life b silent");
        told(host, "flush");
        (void) g_strfreev(take_signals(host, 0));
        expect_reply(host, NODE_B, "Node.ConfirmDown", "({" REQUEST "},)", "()");
        expect_property(host, NODE_B, "Node.State", "'lost'");
        expect_property(host, NODE_B, "Node.Evidence", "'confirmed'");
        g_autofree char *event = wait_signal(host, ROOT " Event");
        g_assert_nonnull(strstr(event, "'node-lost'"));
        g_assert_nonnull(strstr(event, "'root', 'org.gpupool1.manage-cluster'"));
        expect_error(host, NODE_B, "Node.ConfirmDown", "(" NO_OPTIONS ",)", "Conflict", "held for lost already");
        expect_reply(host, NODE_B, "Node.ConfirmDown", "({" REQUEST "},)", "()");
}

static void test_vms_of_a_node_that_is_held_for_off_can_start_elsewhere(void) {
        HOST(host);
        prepare(host);
        told(host, "life a silent");
        expect_reply(host, NODE_A, "Node.ConfirmDown", "(" NO_OPTIONS ",)", "()");
        expect_property(host, VM_PATH, "VM.State", "'waiting'");
        expect_property(host, VM_PATH, "VM.Node", "objectpath '/'");
        expect_property(host, NODE_A, "Node.Evidence", "'confirmed'");
        told(host, "run bert b");
        expect_property(host, VM_PATH, "VM.Node", "objectpath '" NODE_B "'");
}

static void test_the_word_does_not_count_when_the_node_comes_back_meanwhile(void) {
        HOST(host);
        prepare(host);
        told(host, "life b silent");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *word = call_begin(host, NODE_B, "Node.ConfirmDown", "(" NO_OPTIONS ",)");
        mock_polkit_wait(host->polkit, 1);
        told(host, "life b heard");
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        g_autofree char *answer = call_end(word);
        g_assert_nonnull(strstr(answer, "Conflict: node b is not silent"));
        expect_property(host, NODE_B, "Node.State", "'online'");
}

#define TEST(suite, name, function) g_test_add_func("/" suite "/" name, function)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        TEST("right", "each method asks, and a no changes nothing", test_each_method_asks_and_a_no_changes_nothing);
        TEST("input", "bad arguments are refused before anybody is asked",
             test_bad_arguments_are_refused_before_anybody_is_asked);
        TEST("input", "at most 64 parameters are taken", test_at_most_64_parameters_are_taken);
        TEST("input", "a parameter that stands twice is refused", test_a_parameter_that_stands_twice_is_refused);
        TEST("level", "below its level each says what to do", test_below_its_level_each_says_what_to_do);
        TEST("level", "what can fail over is a feature", test_what_can_fail_over_is_a_feature);
        TEST("plan", "a plan tells what would become of VMs and pools",
             test_a_plan_tells_what_would_become_of_vms_and_pools);
        TEST("plan", "a plan of what is not there is refused", test_a_plan_of_what_is_not_there_is_refused);
        TEST("room", "room is made as a job of the VM", test_room_is_made_as_a_job_of_the_vm);
        TEST("room", "whose pools move is asked for each", test_whose_pools_move_is_asked_for_each);
        TEST("room", "what room would take is said, and nothing moves",
             test_what_room_would_take_is_said_and_nothing_moves);
        TEST("room", "room that cannot be made is refused, and says why",
             test_room_that_cannot_be_made_is_refused_and_says_why);
        TEST("freeze", "a freeze is shown and ends", test_a_freeze_is_shown_and_ends);
        TEST("drain", "a drain is a job of its node", test_a_drain_is_a_job_of_its_node);
        TEST("drain", "a drain that is tried says what would move", test_a_drain_that_is_tried_says_what_would_move);
        TEST("drain", "a drain that is tried counts as a job", test_a_drain_that_is_tried_counts_as_a_job);
        TEST("drain", "a drain that is cancelled resumes its node", test_a_drain_that_is_cancelled_resumes_its_node);
        TEST("drain", "somebody else's drain is cancelled by right", test_somebody_elses_drain_is_cancelled_by_right);
        TEST("move", "a VM is moved to the node that is named", test_a_vm_is_moved_to_the_node_that_is_named);
        TEST("move", "a VM is moved anywhere else, and at once", test_a_vm_is_moved_anywhere_else_and_at_once);
        TEST("move", "nothing is stopped for a place that is not there",
             test_nothing_is_stopped_for_a_place_that_is_not_there);
        TEST("move", "what cannot be moved is a conflict", test_what_cannot_be_moved_is_a_conflict);
        TEST("move", "a move that is sent again is done once", test_a_move_that_is_sent_again_is_done_once);
        TEST("move", "a move is not cancelled", test_a_move_is_not_cancelled);
        TEST("fencing", "fencing is set, and its secrets are not shown",
             test_fencing_is_set_and_its_secrets_are_not_shown);
        TEST("fencing", "a fence agent is asked for what the administrator chose",
             test_a_fence_agent_is_asked_for_what_the_administrator_chose);
        TEST("word", "a VM that ended unwritten is not shown as running",
             test_a_vm_that_ended_unwritten_is_not_shown_as_running);
        TEST("fencing", "what fencing does is shown and told", test_what_fencing_does_is_shown_and_told);
        TEST("fencing", "a watchdog is shown", test_a_watchdog_is_shown);
        TEST("word", "only a silent node is held for off", test_only_a_silent_node_is_held_for_off);
        TEST("word", "VMs of a node that is held for off can start elsewhere",
             test_vms_of_a_node_that_is_held_for_off_can_start_elsewhere);
        TEST("word", "the word does not count when the node comes back meanwhile",
             test_the_word_does_not_count_when_the_node_comes_back_meanwhile);
        return g_test_run();
}
