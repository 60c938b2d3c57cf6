/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who may: what polkit is asked, and what becomes of a call whatever polkit answers, or does not. polkit is a mock. */

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "bus-test.h"

#define CREATE_X "Manager.CreatePool", "('x', " NO_OPTIONS ")"
#define DENIED "org.freedesktop.DBus.Error.AccessDenied"
#define INTERACTIVE "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"

static void expect_asked(Host *host, const char *lines) {
        g_autofree char *asked = mock_polkit_take(host->polkit);
        g_assert_cmpstr(asked, ==, lines);
}

static void expect_nothing_done(Host *host) {
        expect_error(host, ROOT, "Manager.GetPool", "('x',)", "NotFound", "x");
}

/* ---- what is asked */

static void test_each_method_asks_for_its_right(void) {
        HOST(host);
        make_pool(host, "training", "['" GPU("02") "']");
        make_pool(host, "other", NULL);
        make_vm(host, "bert", "training");
        mock_polkit_set(host->polkit, POLKIT_NO);
        g_autofree char *xml = domain_xml("ernie", NULL), *same = domain_xml("bert", NULL);
        g_autofree char *define = g_strdup_printf("('%s', 'training', uint32 1, " NO_OPTIONS ")", xml);
        g_autofree char *update = g_strdup_printf("('%s', " NO_OPTIONS ")", same);
        const struct {
                const char *path, *method, *arguments, *asked;
        } rows[] = {
                { ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")", "manage-pool pool=x verb=create" },
                { ROOT, "Manager.DefineVM", define, "define-vm pool=training vm=ernie verb=define owner=root" },
                { POOL("training"), "Pool.Add", "(@ao ['" GPU("01") "'], " NO_OPTIONS ")",
                  "manage-pool pool=training verb=add" },
                { POOL("training"), "Pool.Remove", "(@ao ['" GPU("02") "'], " NO_OPTIONS ")",
                  "manage-pool pool=training verb=remove" },
                { POOL("training"), "Pool.SetRules", "(@aa{ss} [], " NO_OPTIONS ")",
                  "manage-pool pool=training verb=set-rules" },
                { POOL("training"), "Pool.SetPolicy", "(@a{sv} {}, " NO_OPTIONS ")",
                  "manage-pool pool=training verb=set-policy" },
                { POOL("training"), "Pool.Rename", "('y', " NO_OPTIONS ")", "manage-pool pool=training verb=rename" },
                { POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)", "manage-pool pool=training verb=delete" },
                { VM_PATH, "VM.Start", "(" NO_OPTIONS ",)", "operate-vm pool=training vm=bert verb=start owner=root" },
                { VM_PATH, "VM.Shutdown", "(" NO_OPTIONS ",)",
                  "operate-vm pool=training vm=bert verb=shutdown owner=root" },
                { VM_PATH, "VM.Stop", "(" NO_OPTIONS ",)", "operate-vm pool=training vm=bert verb=stop owner=root" },
                { VM_PATH, "VM.Restart", "(" NO_OPTIONS ",)",
                  "operate-vm pool=training vm=bert verb=restart owner=root" },
                { VM_PATH, "VM.SetRequirement", "('other', uint32 1, " NO_OPTIONS ")",
                  "define-vm pool=training vm=bert verb=set-requirement owner=root" },
                { VM_PATH, "VM.SetPolicy", "(@a{sv} {}, " NO_OPTIONS ")",
                  "define-vm pool=training vm=bert verb=set-policy owner=root" },
                { VM_PATH, "VM.Update", update, "define-vm pool=training vm=bert verb=update owner=root" },
                { VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)", "read-vm pool=training vm=bert verb=get-xml owner=root" },
                { VM_PATH, "VM.Delete", "(" NO_OPTIONS ",)", "define-vm pool=training vm=bert verb=delete owner=root" },
                { GPU("01"), "Gpu.Quarantine", "('why', " NO_OPTIONS ")", "manage-node node=a verb=quarantine" },
                { GPU("01"), "Gpu.Release", "(" NO_OPTIONS ",)", "manage-node node=a verb=release" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                expect_error(host, rows[i].path, rows[i].method, rows[i].arguments, DENIED, "org.gpupool1.");
                expect_asked(host, rows[i].asked);
        }
        g_autofree char *counted = tell(host, "count");
        g_assert_cmpstr(counted, ==, "3 submitted, 1 checked\n");
}

static void test_reading_asks_nobody(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        mock_polkit_set(host->polkit, POLKIT_NO);
        g_free(call(host, ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", "()"));
        g_free(call(host, ROOT, "Manager.Check", "(" NO_OPTIONS ",)"));
        g_free(call(host, ROOT, "Manager.Events", "(uint64 0, uint32 0)"));
        g_free(call(host, ROOT, "Manager.GetVM", "('bert',)"));
        g_free(call(host, VM_PATH, "VM.Explain", "(" NO_OPTIONS ",)"));
        expect_asked(host, "");
}

static void test_a_definition_asks_for_both_rights(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        g_autofree char *xml = domain_xml("bert", VM_UUID);
        g_autofree char *arguments = g_strdup_printf("('%s', 'training', uint32 1, " NO_OPTIONS ")", xml);
        mock_polkit_set_action(host->polkit, "org.gpupool1.use-pool", POLKIT_NO);
        expect_error(host, ROOT, "Manager.DefineVM", arguments, DENIED, "org.gpupool1.use-pool");
        expect_asked(host, "define-vm pool=training vm=bert verb=define owner=root\nuse-pool pool=training vm=bert "
                           "verb=define");
        mock_polkit_set_action(host->polkit, "org.gpupool1.use-pool", POLKIT_YES);
        expect_reply(host, ROOT, "Manager.DefineVM", arguments, "(objectpath '" VM_PATH "',)");
}

static void test_a_new_requirement_asks_for_the_new_pool(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_pool(host, "other", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, VM_PATH, "VM.SetRequirement", "('other', uint32 1, " NO_OPTIONS ")", "()");
        expect_asked(host, "define-vm pool=training vm=bert verb=set-requirement owner=root\n"
                     "use-pool pool=other vm=bert verb=set-requirement");
}

static void test_a_renaming_asks_for_both_names(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        expect_reply(host, POOL("training"), "Pool.Rename", "('y', " NO_OPTIONS ")", "()");
        expect_asked(host, "manage-pool pool=training verb=rename\nmanage-pool pool=y verb=rename");
        g_autofree char *xml = domain_xml("ernie", VM_UUID),
                *arguments = g_strdup_printf("('%s', " NO_OPTIONS ")", xml);
        expect_reply(host, VM_PATH, "VM.Update", arguments, "()");
        expect_asked(host, "define-vm pool=y vm=bert verb=update owner=root\ndefine-vm pool=y vm=ernie verb=update "
                           "owner=root");
}

static void test_the_subject_is_the_callers_bus_name(void) {
        HOST(host);
        g_free(call(host, ROOT, CREATE_X));
        g_autofree char *subject = mock_polkit_last_subject(host->polkit);
        g_autofree char *expected = g_strdup_printf("system-bus-name %s",
                                                    g_dbus_connection_get_unique_name(host->client));
        g_assert_cmpstr(subject, ==, expected);
}

static void test_polkit_may_ask_a_person_only_if_the_caller_says_so(void) {
        HOST(host);
        g_free(call(host, ROOT, CREATE_X));
        g_assert_cmpuint(mock_polkit_last_flags(host->polkit), ==, 0);
        g_free(call_flags(host, ROOT, CREATE_X, G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION));
        g_assert_cmpuint(mock_polkit_last_flags(host->polkit), ==, 1);
}

static void test_a_right_is_asked_for_with_every_call(void) {
        HOST(host);
        expect_reply(host, ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
        expect_reply(host, ROOT, "Manager.CreatePool", "('y', " NO_OPTIONS ")", "(objectpath '" POOL("y") "',)");
        expect_asked(host, "manage-pool pool=x verb=create\nmanage-pool pool=y verb=create");
}

/* ---- what polkit answers */

static void test_polkits_answers_are_kept_to(void) {
        HOST(host);
        const struct {
                PolkitAnswer answer;
                const char *error, *part;
        } rows[] = {
                { POLKIT_NO, DENIED, "ask an administrator" },
                { POLKIT_CHALLENGE, INTERACTIVE, "password" },
                { POLKIT_FAIL, DENIED, "it went wrong" },
                { POLKIT_GARBAGE, DENIED, "cannot be read" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                mock_polkit_set(host->polkit, rows[i].answer);
                expect_error(host, ROOT, CREATE_X, rows[i].error, rows[i].part);
                expect_nothing_done(host);
        }
        mock_polkit_set(host->polkit, POLKIT_YES);
        expect_reply(host, ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
}

static void test_polkit_that_dies_during_the_question_means_no(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, ROOT, CREATE_X);
        mock_polkit_wait(host->polkit, 1);
        host->polkit = mock_polkit_free(host->polkit);
        g_autofree char *answer = call_end(waiting);
        g_assert_true(g_str_has_prefix(answer, DENIED ": polkit did not answer"));
        expect_nothing_done(host);
}

static void test_without_polkit_only_root_may(void) {
        HOST(host);
        host->polkit = mock_polkit_free(host->polkit);
        if (getuid() == 0)
                expect_reply(host, ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
        else
                expect_error(host, ROOT, CREATE_X, DENIED, "polkit is not there");
}

/* ---- what happens meanwhile */

static void test_the_bus_answers_while_polkit_thinks(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, ROOT, CREATE_X);
        mock_polkit_wait(host->polkit, 1);
        expect_property(host, GPU("01"), "Gpu.State", "'present'");
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        g_autofree char *answer = call_end(waiting);
        g_assert_cmpstr(answer, ==, "(objectpath '" POOL("x") "',)");
}

static void test_a_caller_who_leaves_is_not_acted_for(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, ROOT, CREATE_X);
        mock_polkit_wait(host->polkit, 1);
        call_leave(waiting);
        mock_polkit_wait(host->polkit, 2);
        expect_asked(host, "manage-pool pool=x verb=create\ncancelled");
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        expect_nothing_done(host);
        g_autofree char *counted = tell(host, "count");
        g_assert_cmpstr(counted, ==, "0 submitted, 0 checked\n");
}

static void test_an_object_that_vanishes_meanwhile_is_not_found(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, POOL("training"), "Pool.Delete", "(" NO_OPTIONS ",)");
        mock_polkit_wait(host->polkit, 1);
        told(host, "delete-pool training");
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        g_autofree char *answer = call_end(waiting);
        g_assert_true(g_str_has_prefix(answer, "NotFound: "));
        g_assert_nonnull(strstr(answer, "nothing was changed"));
}

static void test_a_gpu_that_vanishes_meanwhile_is_not_found(void) {
        HOST(host);
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, GPU("01"), "Gpu.Quarantine", "('why', " NO_OPTIONS ")");
        mock_polkit_wait(host->polkit, 1);
        told(host, "unplug 0000:01:00.0");
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        g_autofree char *answer = call_end(waiting);
        g_assert_true(g_str_has_prefix(answer, "NotFound: "));
}

static void test_what_changed_meanwhile_is_asked_for_anew(void) {
        HOST(host);
        make_pool(host, "training", NULL);
        make_pool(host, "other", NULL);
        make_vm(host, "bert", "training");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting = call_begin(host, VM_PATH, "VM.Start", "(" NO_OPTIONS ",)");
        mock_polkit_wait(host->polkit, 1);
        told(host, "require bert other");
        mock_polkit_set(host->polkit, POLKIT_NO);
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        g_autofree char *answer = call_end(waiting);
        g_assert_true(g_str_has_prefix(answer, DENIED));
        expect_asked(host, "operate-vm pool=training vm=bert verb=start owner=root\n"
                     "operate-vm pool=other vm=bert verb=start owner=root");
}

/* ---- limits */

static void test_a_user_has_only_so_many_questions(void) {
        HOST_WITH(host, "--questions 3");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting[3];
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++) {
                g_autofree char *arguments = g_strdup_printf("('p%u', " NO_OPTIONS ")", i);
                /* each on a connection of its own */
                waiting[i] = call_begin(host, ROOT, "Manager.CreatePool", arguments);
        }
        mock_polkit_wait(host->polkit, 3);
        expect_error(host, ROOT, CREATE_X, "LimitsExceeded", "3 calls");
        mock_polkit_set(host->polkit, POLKIT_YES);
        mock_polkit_answer_hanging(host->polkit, POLKIT_YES);
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++)
                g_free(call_end(waiting[i]));
        expect_reply(host, ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
}

static void test_a_connection_has_only_so_many_questions(void) {
        HOST_WITH(host, "--questions 3");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting[100];     /* the bus itself lets one connection wait for 128 answers */
        unsigned refused = 0;
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++)
                waiting[i] = call_begin_on(host->client, ROOT, "Manager.CreatePool", "('x', " NO_OPTIONS ")");
        mock_polkit_wait(host->polkit, 3);
        expect_property(host, GPU("01"), "Gpu.State", "'present'");     /* comes after them on the same connection */
        mock_polkit_answer_hanging(host->polkit, POLKIT_NO);
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++) {
                g_autofree char *answer = call_end(waiting[i]);
                refused += g_str_has_prefix(answer, "LimitsExceeded");
        }
        g_assert_cmpuint(refused, ==, 97);
}

static void test_callers_who_leave_free_their_places(void) {
        HOST_WITH(host, "--questions 3");
        mock_polkit_set(host->polkit, POLKIT_HANG);
        Call *waiting[3];
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++)
                waiting[i] = call_begin(host, ROOT, CREATE_X);
        mock_polkit_wait(host->polkit, 3);
        for (unsigned i = 0; i < G_N_ELEMENTS(waiting); i++)
                call_leave(waiting[i]);
        mock_polkit_wait(host->polkit, 6);
        mock_polkit_set(host->polkit, POLKIT_YES);
        expect_reply(host, ROOT, CREATE_X, "(objectpath '" POOL("x") "',)");
}

/* Hundreds of calls one after the other, each with its question: none may leave something behind. */
static void test_questions_that_are_answered_free_their_places(void) {
        HOST_WITH(host, "--questions 1");
        make_pool(host, "training", NULL);
        make_vm(host, "bert", "training");
        for (unsigned i = 0; i < 200; i++) {
                mock_polkit_set(host->polkit, i % 2 ? POLKIT_YES : POLKIT_NO);
                g_autofree char *answer = call(host, VM_PATH, "VM.GetXML", "(" NO_OPTIONS ",)");
                g_assert_true(g_str_has_prefix(answer, i % 2 ? "('<domain" : DENIED));
        }
}

#define TEST(suite, name, function) g_test_add_func("/" suite "/" name, function)

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        TEST("question", "each method asks for its right", test_each_method_asks_for_its_right);
        TEST("question", "reading asks nobody", test_reading_asks_nobody);
        TEST("question", "a definition asks for both rights", test_a_definition_asks_for_both_rights);
        TEST("question", "a new requirement asks for the new pool", test_a_new_requirement_asks_for_the_new_pool);
        TEST("question", "a renaming asks for both names", test_a_renaming_asks_for_both_names);
        TEST("question", "the subject is the caller's bus name", test_the_subject_is_the_callers_bus_name);
        TEST("question", "polkit may ask a person only if the caller says so",
             test_polkit_may_ask_a_person_only_if_the_caller_says_so);
        TEST("question", "a right is asked for with every call", test_a_right_is_asked_for_with_every_call);
        TEST("answer", "polkit's answers are kept to", test_polkits_answers_are_kept_to);
        TEST("answer", "polkit that dies during the question means no",
             test_polkit_that_dies_during_the_question_means_no);
        TEST("answer", "without polkit only root may", test_without_polkit_only_root_may);
        TEST("meanwhile", "the bus answers while polkit thinks", test_the_bus_answers_while_polkit_thinks);
        TEST("meanwhile", "a caller who leaves is not acted for", test_a_caller_who_leaves_is_not_acted_for);
        TEST("meanwhile", "an object that vanishes is not found", test_an_object_that_vanishes_meanwhile_is_not_found);
        TEST("meanwhile", "a GPU that vanishes is not found", test_a_gpu_that_vanishes_meanwhile_is_not_found);
        TEST("meanwhile", "what changed is asked for anew", test_what_changed_meanwhile_is_asked_for_anew);
        TEST("limit", "a user has only so many questions", test_a_user_has_only_so_many_questions);
        TEST("limit", "a connection has only so many questions", test_a_connection_has_only_so_many_questions);
        TEST("limit", "callers who leave free their places", test_callers_who_leave_free_their_places);
        TEST("limit", "questions that are answered free their places",
             test_questions_that_are_answered_free_their_places);
        return g_test_run();
}
