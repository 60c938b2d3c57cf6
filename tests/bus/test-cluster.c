/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The cluster itself: members come and go, the level rises, backups are taken and restored. */

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bus-test.h"
#include "core/describe.h"

#define NODE_B ROOT "/node/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
#define INVALID "InvalidArgument"
#define DENIED "org.freedesktop.DBus.Error.AccessDenied"
#define REQUEST "'request-id': <[byte 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]>"

static void expect_count(Host *host, const char *text) {
        g_autofree char *counted = tell(host, "count");
        g_assert_cmpstr(counted, ==, text);
}

static void expect_cluster(Host *host, const char *text) {
        g_autofree char *said = tell(host, "cluster");
        g_assert_cmpstr(said, ==, text);
}

/* ---- who may */

static void test_each_method_asks_and_a_no_changes_nothing(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_NO);
        const struct {
                const char *path, *method, *arguments, *asked;
        } rows[] = {
                { ROOT, "Manager.Invite", "(" NO_OPTIONS ",)", "manage-cluster verb=invite" },
                { ROOT, "Manager.Join", "('gp1-good', " NO_OPTIONS ")", "manage-cluster verb=join" },
                { ROOT, "Manager.Leave", "(" NO_OPTIONS ",)", "manage-cluster verb=leave" },
                { ROOT, "Manager.Reset", "({'forget': <true>},)", "manage-cluster verb=reset" },
                { ROOT, "Manager.SetFunctionalLevel", "(uint32 2, " NO_OPTIONS ")",
                  "manage-cluster verb=set-functional-level" },
                { ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {'dry-run': <true>})",
                  "manage-cluster verb=set-functional-level" },
                { ROOT, "Manager.Export", "(" NO_OPTIONS ",)", "manage-cluster verb=export" },
                { NODE_A, "Node.Remove", "(" NO_OPTIONS ",)", "manage-cluster node=a verb=remove" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, DENIED, "manage-cluster");
                g_autofree char *asked = mock_polkit_take(host->polkit);
                g_assert_cmpstr(asked, ==, rows[i].asked);
        }
        expect_count(host, "0 submitted, 0 checked\n");
        expect_cluster(host, "0 resets, 0 pools imported\n");
}

static void test_bad_arguments_are_refused_before_anybody_is_asked(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_NO);
        g_autofree char *text = g_strnfill(4097, 'x'), *long_token = g_strdup_printf("('%s', " NO_OPTIONS ")", text);
        const struct {
                const char *path, *method, *arguments, *part;
        } rows[] = {
                { ROOT, "Manager.Invite", "({'for': <'me'>},)", "for" },
                { ROOT, "Manager.Invite", "({'expires': <uint64 59>},)", "60 to 604800" },
                { ROOT, "Manager.Invite", "({'expires': <uint64 604801>},)", "60 to 604800" },
                { ROOT, "Manager.Invite", "({'expires': <uint32 60>},)", "must be of type t" },
                { ROOT, "Manager.Join", "('', " NO_OPTIONS ")", "token" },
                { ROOT, "Manager.Join", long_token, "4096" },
                { ROOT, "Manager.Join", "('gp1-good', {'force': <true>})", "force" },
                { ROOT, "Manager.Leave", "({'force': <true>},)", "force" },
                { ROOT, "Manager.Reset", "(" NO_OPTIONS ",)", "forget must be true" },
                { ROOT, "Manager.Reset", "({'forget': <false>},)", "forget must be true" },
                { ROOT, "Manager.Reset", "({'forget': <'true'>},)", "must be of type b" },
                { ROOT, "Manager.Reset", "({'forget': <true>, 'force': <true>},)", "force" },
                { ROOT, "Manager.SetFunctionalLevel", "(uint32 0, " NO_OPTIONS ")", "1 or more" },
                { ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {'dry-run': <1>})", "dry-run is of type i" },
                { ROOT, "Manager.Export", "({" REQUEST "},)", "request-id is unknown" },
                { ROOT, "Manager.Export", "({'text': <'yes'>},)", "must be of type b" },
                { NODE_A, "Node.Remove", "({'force': <true>},)", "force" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, INVALID, rows[i].part);
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "");
}

/* ---- coming */

static void test_an_invitation_is_answered_with_its_token(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.Invite", "(" NO_OPTIONS ",)", "('gp1-good-for-900000',)");
        expect_reply(host, ROOT, "Manager.Invite", "({'expires': <uint64 60>},)", "('gp1-good-for-60000',)");
        expect_reply(host, ROOT, "Manager.Invite", "({'expires': <uint64 604800>, " REQUEST "},)",
                     "('gp1-good-for-604800000',)");
        g_autofree char *event = wait_signal(host, ROOT " Event");
        g_assert_nonnull(strstr(event, "'invite-created'"));
        g_assert_nonnull(strstr(event, "'root', 'org.gpupool1.manage-cluster'"));
        g_assert_null(strstr(event, "gp1-"));
}

/* The first secret was drawn and lost with its answer; nobody can use it. */
static void test_an_invitation_that_is_asked_for_again_is_another_one(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.Invite", "({" REQUEST "},)", "('gp1-good-for-900000',)");
        expect_reply(host, ROOT, "Manager.Invite", "({" REQUEST "},)", "('gp1-good-for-900000',)");
        expect_count(host, "2 submitted, 0 checked\n");
}

static void test_an_invitation_that_was_not_kept_is_not_given(void) {
        HOST(host);
        told(host, "outcome no-quorum");
        expect_error(host, ROOT, "Manager.Invite", "(" NO_OPTIONS ",)", "NoQuorum", "nothing was changed");
        told(host, "outcome unknown");
        expect_error(host, ROOT, "Manager.Invite", "(" NO_OPTIONS ",)", "OutcomeUnknown", "may or may not");
}

static void test_joining_is_a_job_of_the_cluster(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.Join", "('gp1-good', {" REQUEST "})", "(objectpath '" ROOT "/job/1',)");
        expect_property(host, ROOT "/job/1", "Job.Operation", "'join'");
        expect_property(host, ROOT "/job/1", "Job.Object", "objectpath '" ROOT "'");
        expect_property(host, ROOT "/job/1", "Job.Stage", "'connecting'");
        told(host, "join-at receiving");
        told(host, "flush");
        expect_property(host, ROOT "/job/1", "Job.Stage", "'receiving'");
        g_free(wait_signal(host, ROOT "/job/1 PropertiesChanged"));
        told(host, "end-job 1");
        g_autofree char *removed = wait_signal(host, ROOT " JobRemoved");
        g_assert_cmpstr(removed, ==, ROOT " JobRemoved (uint64 1, objectpath '" ROOT "/job/1', 'done', '', '')");
}

static void test_a_token_that_is_refused_makes_no_job(void) {
        HOST(host);
        expect_error(host, ROOT, "Manager.Join", "('gp1-bad', " NO_OPTIONS ")", INVALID, "changed on its way");
        g_autofree char *all = call(host, ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", "()");
        g_assert_null(strstr(all, ROOT "/job/"));
}

static void test_a_join_is_not_cancelled(void) {
        HOST(host);
        expect_reply(host, ROOT, "Manager.Join", "('gp1-good', " NO_OPTIONS ")", "(objectpath '" ROOT "/job/1',)");
        expect_error(host, ROOT "/job/1", "Job.Cancel", "(" NO_OPTIONS ",)", "Busy", "cannot be given up");
        expect_count(host, "0 submitted, 0 checked\n");
}

/* ---- going */

static void test_a_node_leaves_and_says_how_it_went(void) {
        HOST(host);
        told(host, "busy yes");
        expect_error(host, ROOT, "Manager.Leave", "(" NO_OPTIONS ",)", "InUse", "bert");
        told(host, "busy no");
        told(host, "outcome no-quorum");
        expect_error(host, ROOT, "Manager.Leave", "(" NO_OPTIONS ",)", "NoQuorum", "nothing was changed");
        told(host, "outcome committed");
        expect_reply(host, ROOT, "Manager.Leave", "({" REQUEST "},)", "()");
}

static void test_a_node_is_reset_only_when_it_may(void) {
        HOST(host);
        told(host, "busy yes");
        expect_error(host, ROOT, "Manager.Reset", "({'forget': <true>},)", "InUse", "bert runs here");
        expect_cluster(host, "0 resets, 0 pools imported\n");
        told(host, "busy no");
        told(host, "outcome no-quorum");        /* nobody is asked */
        expect_reply(host, ROOT, "Manager.Reset", "({'forget': <true>, " REQUEST "},)", "()");
        expect_cluster(host, "1 resets, 0 pools imported\n");
}

static void test_a_node_that_is_removed_is_gone(void) {
        HOST(host);
        told(host, "admit 2");
        expect_property(host, NODE_B, "Node.Name", "'b'");
        expect_reply(host, NODE_B, "Node.Remove", "(" NO_OPTIONS ",)", "()");
        expect_error(host, ROOT, "Manager.GetNode", "('b',)", "NotFound", "b");
        g_autofree char *event = wait_signal(host, ROOT " Event");
        g_assert_nonnull(strstr(event, "'root', 'org.gpupool1.manage-cluster'"));
}

static void test_a_removal_that_is_sent_again_happens_once(void) {
        HOST(host);
        told(host, "admit 2");
        told(host, "outcome unknown");
        expect_error(host, NODE_B, "Node.Remove", "({" REQUEST "},)", "OutcomeUnknown", "same request-id");
        told(host, "outcome committed");
        expect_reply(host, NODE_B, "Node.Remove", "({" REQUEST "},)", "()");
}

/* ---- what is shown of the others */

static void test_lives_and_roles_are_shown_and_told(void) {
        HOST(host);
        told(host, "admit 2");
        told(host, "flush");
        expect_property(host, NODE_B, "Node.State", "'online'");
        expect_property(host, NODE_B, "Node.SilentSince", "uint64 0");
        expect_property(host, NODE_B, "Node.Role", "'voter'");
        (void) g_strfreev(take_signals(host, 0));
        told(host, "life b silent");
        told(host, "flush");
        expect_property(host, NODE_B, "Node.State", "'silent'");
        expect_property(host, NODE_B, "Node.SilentSince", "uint64 1700000000000000");
        g_autofree char *changed = wait_signal(host, NODE_B " PropertiesChanged");
        g_assert_nonnull(strstr(changed, "'State': <'silent'>"));
        told(host, "life b standby");
        told(host, "flush");
        g_autofree char *role = wait_signal(host, NODE_B " PropertiesChanged");
        g_assert_nonnull(strstr(role, "'Role': <'standby'>"));
        told(host, "life b heard");
        expect_property(host, NODE_B, "Node.State", "'online'");
}

static void test_a_removed_node_says_so_of_itself(void) {
        HOST(host);
        told(host, "removed");
        expect_property(host, NODE_A, "Node.State", "'removed'");
        told(host, "outcome no-quorum");
        expect_error(host, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")", "Conflict", "gpupoolctl cluster reset");
        g_autofree char *found = call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)");
        g_assert_nonnull(strstr(found, "'node-removed', objectpath '" NODE_A "'"));
}

static void test_no_leader_is_no_path(void) {
        HOST(host);
        told(host, "quorate no");
        told(host, "flush");
        expect_property(host, ROOT, "Manager.Leader", "objectpath '/'");
        g_autofree char *changed = wait_signal(host, ROOT " PropertiesChanged");
        g_assert_nonnull(strstr(changed, "'Quorate': <false>"));
        g_assert_nonnull(strstr(changed, "'Leader': <objectpath '/'>"));
        g_autofree char *found = call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)");
        g_assert_true(g_str_has_prefix(found, "([('error', 'no-quorum', objectpath '/'"));
}

static void test_features_say_what_there_is(void) {
        HOST(host);
        g_autofree char *features = get(host, ROOT, "Manager.Features");
        g_assert_nonnull(strstr(features, "'cluster'"));
        g_assert_nonnull(strstr(features, "'backup'"));
        g_assert_nonnull(strstr(features, "'plan'"));
        g_assert_nonnull(strstr(features, "'defragment'"));
}

/* ---- the level */

static void test_the_level_rises(void) {
        HOST(host);
        expect_property(host, ROOT, "Manager.FunctionalLevel", "uint32 1");
        expect_reply(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {'dry-run': <true>})", "(@as [],)");
        expect_property(host, ROOT, "Manager.FunctionalLevel", "uint32 1");
        expect_reply(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {" REQUEST "})", "(@as [],)");
        expect_property(host, ROOT, "Manager.FunctionalLevel", "uint32 2");
        expect_reply(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {" REQUEST "})", "(@as [],)");
        expect_count(host, "2 submitted, 0 checked\n");
}

static void test_who_is_in_the_way_of_a_level_is_named(void) {
        HOST(host);
        told(host, "admit 1");
        g_autofree char *would = call(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, {'dry-run': <true>})");
        g_assert_true(g_str_has_prefix(would, "(['node b supports level 1 at most"));
        expect_count(host, "0 submitted, 0 checked\n");
        g_autofree char *in_the_way = call(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, " NO_OPTIONS ")");
        g_assert_cmpstr(in_the_way, ==, would);
        expect_property(host, ROOT, "Manager.FunctionalLevel", "uint32 1");
}

static void test_a_level_that_is_refused_for_another_reason_is_an_error(void) {
        HOST(host);
        told(host, "outcome no-quorum");
        expect_error(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, " NO_OPTIONS ")", "NoQuorum", "");
        told(host, "outcome committed");
        told(host, "busy yes");
        expect_error(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, " NO_OPTIONS ")", "InUse", "");
}

/* ---- backups */

static int export_as(Host *host, bool as_text) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GUnixFDList) fds = NULL;
        GVariantBuilder options;
        g_variant_builder_init(&options, G_VARIANT_TYPE("a{sv}"));
        if (as_text)
                g_variant_builder_add(&options, "{sv}", "text", g_variant_new_boolean(TRUE));
        g_autoptr(GVariant) reply = g_dbus_connection_call_with_unix_fd_list_sync(
                host->client, "org.gpupool1", ROOT, "org.gpupool1.Manager", "Export",
                g_variant_new("(a{sv})", &options), G_VARIANT_TYPE("(h)"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, &fds, NULL,
                &error);
        g_assert_no_error(error);
        g_assert_nonnull(reply);
        int fd = g_unix_fd_list_get(fds, 0, &error);
        g_assert_no_error(error);
        return fd;
}

static int export(Host *host) {
        return export_as(host, false);
}

/* Returns the printed error, or "done". */
static char *import(Host *host, int fd, bool with_request) {
        static const guint8 id[16] = { 1, 2, 3 };
        g_autoptr(GError) error = NULL;
        g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
        g_assert_cmpint(g_unix_fd_list_append(fds, fd, &error), ==, 0);
        GVariantBuilder options;
        g_variant_builder_init(&options, G_VARIANT_TYPE("a{sv}"));
        if (with_request)
                g_variant_builder_add(&options, "{sv}", "request-id",
                                      g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, id, sizeof(id), 1));
        g_autoptr(GVariant) reply = g_dbus_connection_call_with_unix_fd_list_sync(
                host->client, "org.gpupool1", ROOT, "org.gpupool1.Manager", "Import",
                g_variant_new("(ha{sv})", 0, &options), NULL, G_DBUS_CALL_FLAGS_NONE, -1, fds, NULL, NULL, &error);
        return g_strdup(reply ? "done" : error->message);
}

static void expect_import(Host *host, int fd, const char *part) {
        g_autofree char *answer = import(host, fd, false);
        if (!strstr(answer, part))
                g_error("%s is not in: %s", part, answer);
}

static void test_the_cluster_as_text_can_be_read_and_holds_no_xml(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        int fd = export_as(host, true);
        char text[16384];
        ssize_t n = read(fd, text, sizeof(text) - 1);
        g_assert_cmpint(n, >, 0);
        text[n] = '\0';
        (void) close(fd);
        _cleanup_(described_freep) Described *described = NULL;
        _cleanup_free_ char *sentence = NULL;
        int r = describe_read(text, &described, &sentence);
        g_assert_cmpstr(sentence, ==, NULL);
        g_assert_cmpint(r, ==, DESCRIBE_READ);
        g_assert_nonnull(registry_find_pool(described->registry, "training"));
        g_assert_nonnull(registry_find_node_name(described->registry, "a"));
        g_assert_null(strstr(text, "<domain"));
}

static void test_a_backup_is_a_sealed_file_that_can_be_restored(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_pool(host, "edge", NULL);
        int fd = export(host);
        g_assert_cmpint(lseek(fd, 0, SEEK_CUR), ==, 0);
        g_assert_cmpint(fcntl(fd, F_GET_SEALS), ==, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        g_assert_cmpint(write(fd, "x", 1), ==, -1);
        g_autofree char *first = import(host, fd, false), *second = import(host, fd, true);
        g_assert_cmpstr(first, ==, "done");
        g_assert_cmpstr(second, ==, "done");
        expect_cluster(host, "0 resets, 2 pools imported\n");
        (void) close(fd);
}

static int memory_file(const char *text, size_t size) {
        int fd = memfd_create("test", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pwrite(fd, text, strlen(text), 0), ==, (ssize_t) strlen(text));
        g_assert_cmpint(ftruncate(fd, (off_t) size), ==, 0);
        return fd;
}

static void test_what_is_no_backup_is_refused(void) {
        HOST(host);
        int garbage = memory_file("this is no backup", 17), empty = memory_file("", 0),
            largest = memory_file("", 64 * 1024 * 1024), larger = memory_file("", 64 * 1024 * 1024 + 1);
        expect_import(host, garbage, "no backup of a cluster");
        expect_import(host, empty, "it is empty");
        expect_import(host, largest, "no backup of a cluster");         /* it was read */
        expect_import(host, larger, "larger than 64 MiB");
        expect_count(host, "0 submitted, 0 checked\n");
        (void) close(garbage);
        (void) close(empty);
        (void) close(largest);
        (void) close(larger);
}

static void test_what_could_keep_the_service_waiting_is_refused(void) {
        HOST(host);
        int pipe_fds[2], backup = export(host);
        g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
        int device = open("/dev/zero", O_RDONLY | O_CLOEXEC), folder = open("/", O_RDONLY | O_CLOEXEC);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", backup);
        int unreadable = open(path, O_PATH | O_CLOEXEC);
        expect_import(host, pipe_fds[0], "no regular file");
        expect_import(host, device, "no regular file");
        expect_import(host, folder, "no regular file");
        expect_import(host, unreadable, "cannot be read");
        expect_property(host, ROOT, "Manager.Quorate", "true");
        (void) close(pipe_fds[0]);
        (void) close(pipe_fds[1]);
        (void) close(device);
        (void) close(folder);
        (void) close(unreadable);
        (void) close(backup);
}

/* Nobody but an administrator may make the service look at a file. */
static void test_a_backup_is_not_read_for_one_who_may_not(void) {
        HOST(host);
        int garbage = memory_file("this is no backup", 17);
        mock_polkit_set(host->polkit, POLKIT_NO);
        expect_import(host, garbage, "this needs org.gpupool1.manage-cluster");
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, "manage-cluster verb=import");
        (void) close(garbage);
}

static void test_a_restore_that_is_refused_says_why(void) {
        HOST(host);
        int backup = export(host);
        told(host, "busy yes");
        expect_import(host, backup, "bert");
        told(host, "busy no");
        told(host, "outcome unknown");
        expect_import(host, backup, "may or may not");
        (void) close(backup);
}

static void test_what_waits_is_answered_when_the_service_goes_down(void) {
        HOST(host);
        told(host, "hold");
        Call *invited = call_begin(host, ROOT, "Manager.Invite", "(" NO_OPTIONS ",)");
        Call *raised = call_begin(host, ROOT, "Manager.SetFunctionalLevel", "(uint32 2, " NO_OPTIONS ")");
        for (unsigned i = 0; i < 60000; i++) {
                g_autofree char *counted = tell(host, "count");
                if (g_str_has_prefix(counted, "2 submitted"))
                        break;
                g_usleep(1000);
        }
        told(host, "go-down");
        g_autofree char *first = call_end(invited), *second = call_end(raised);
        g_assert_true(g_str_has_prefix(first, "OutcomeUnknown: "));
        g_assert_true(g_str_has_prefix(second, "OutcomeUnknown: "));
}

#define TEST(suite, name, function) g_test_add_func("/" suite "/" name, function)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        TEST("right", "each method asks, and a no changes nothing", test_each_method_asks_and_a_no_changes_nothing);
        TEST("input", "bad arguments are refused before anybody is asked",
             test_bad_arguments_are_refused_before_anybody_is_asked);
        TEST("invite", "an invitation is answered with its token", test_an_invitation_is_answered_with_its_token);
        TEST("invite", "an invitation that is asked for again is another one",
             test_an_invitation_that_is_asked_for_again_is_another_one);
        TEST("invite", "an invitation that was not kept is not given",
             test_an_invitation_that_was_not_kept_is_not_given);
        TEST("join", "joining is a job of the cluster", test_joining_is_a_job_of_the_cluster);
        TEST("join", "a token that is refused makes no job", test_a_token_that_is_refused_makes_no_job);
        TEST("join", "a join is not cancelled", test_a_join_is_not_cancelled);
        TEST("leave", "a node leaves and says how it went", test_a_node_leaves_and_says_how_it_went);
        TEST("reset", "a node is reset only when it may", test_a_node_is_reset_only_when_it_may);
        TEST("remove", "a node that is removed is gone", test_a_node_that_is_removed_is_gone);
        TEST("remove", "a removal that is sent again happens once", test_a_removal_that_is_sent_again_happens_once);
        TEST("show", "lives and roles are shown and told", test_lives_and_roles_are_shown_and_told);
        TEST("show", "a removed node says so of itself", test_a_removed_node_says_so_of_itself);
        TEST("show", "no leader is no path", test_no_leader_is_no_path);
        TEST("show", "Features say what there is", test_features_say_what_there_is);
        TEST("level", "the level rises", test_the_level_rises);
        TEST("level", "who is in the way of a level is named", test_who_is_in_the_way_of_a_level_is_named);
        TEST("level", "a level that is refused for another reason is an error",
             test_a_level_that_is_refused_for_another_reason_is_an_error);
        TEST("backup", "the cluster as text can be read and holds no XML",
             test_the_cluster_as_text_can_be_read_and_holds_no_xml);
        TEST("backup", "a backup is a sealed file that can be restored",
             test_a_backup_is_a_sealed_file_that_can_be_restored);
        TEST("backup", "what is no backup is refused", test_what_is_no_backup_is_refused);
        TEST("backup", "what could keep the service waiting is refused",
             test_what_could_keep_the_service_waiting_is_refused);
        TEST("backup", "a backup is not read for one who may not", test_a_backup_is_not_read_for_one_who_may_not);
        TEST("backup", "a restore that is refused says why", test_a_restore_that_is_refused_says_why);
        TEST("answer", "what waits is answered when the service goes down",
             test_what_waits_is_answered_when_the_service_goes_down);
        return g_test_run();
}
