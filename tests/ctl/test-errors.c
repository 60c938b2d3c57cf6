/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "core/names.h"
#include "ctl/errors.h"
#include "util/cleanup.h"

static const Asked stopping = {
        .changes = true,
        .doing = "stopping a VM of pool training",
        .action = ACTION_OPERATE_VM,
        .method = "Stop",
};
static const Asked looking = { .method = "GetManagedObjects" };

static void hold(const char *name, const char *message, const Asked *asked, Status want_status, const char *want) {
        Status status;
        _cleanup_free_ char *sentence = error_to_sentence(name, message, asked, &status);
        g_assert_cmpstr(sentence, ==, want);
        g_assert_cmpint(status, ==, want_status);
}

static void test_a_denial_names_what_and_by_which_right(void) {
        hold(ERROR_ACCESS_DENIED, "", &stopping, STATUS_DENIED,
             "Not allowed: stopping a VM of pool training needs org.gpupool1.operate-vm; ask an administrator, or see "
             "gpupool(7), \"delegating a pool\".");
}

static void test_a_denial_names_the_action_that_the_service_named(void) {
        hold(ERROR_ACCESS_DENIED, "this needs org.gpupool1.use-pool: ask an administrator", &stopping, STATUS_DENIED,
             "Not allowed: stopping a VM of pool training needs org.gpupool1.use-pool; ask an administrator, or see "
             "gpupool(7), \"delegating a pool\".");
}

static void test_why_polkit_could_not_decide_is_kept(void) {
        hold(ERROR_ACCESS_DENIED, "polkit did not answer; nothing was changed, try again", &stopping, STATUS_DENIED,
             "Not allowed: polkit did not answer; nothing was changed, try again");
}

static void test_the_bus_that_refuses_is_not_the_service(void) {
        hold(ERROR_ACCESS_DENIED, "Rejected send message, 2 matched rules", &looking, STATUS_DENIED,
             "Not allowed: the bus lets nobody talk to gpupoold. Its policy, org.gpupool1.conf, is missing from "
             "/usr/share/dbus-1/system.d, or another one forbids it.");
}

static void test_no_answer_to_a_change_is_an_unknown_outcome(void) {
        hold("org.freedesktop.DBus.Error.Timeout", "", &stopping, STATUS_UNKNOWN,
             "gpupoold did not answer in time: it may or may not have happened. Look (gpupoolctl status) before asking "
             "again.");
        hold("org.freedesktop.DBus.Error.NoReply", "", &looking, STATUS_UNREACHABLE,
             "gpupoold ended before it answered. See why: systemctl status gpupoold");
}

static void test_a_service_that_does_not_run_or_start(void) {
        hold("org.freedesktop.DBus.Error.ServiceUnknown", "", &looking, STATUS_UNREACHABLE,
             "gpupoold is not running. Start it: systemctl start gpupoold");
        hold("org.freedesktop.systemd1.UnitMasked", "it is masked", &looking, STATUS_UNREACHABLE,
             "gpupoold is not running and did not start (it is masked). See why: systemctl status gpupoold");
        g_assert_true(error_is_absence("org.freedesktop.DBus.Error.NameHasNoOwner"));
        g_assert_false(error_is_absence(ERROR_NOT_FOUND));
}

static void test_every_error_of_the_contract_has_its_status(void) {
        static const struct { const char *name; Status status; } rows[] = {
                { ERROR_NOT_FOUND, STATUS_FAILED },        { ERROR_EXISTS, STATUS_FAILED },
                { ERROR_IN_USE, STATUS_FAILED },           { ERROR_NOT_ASSIGNABLE, STATUS_FAILED },
                { ERROR_NO_CAPACITY, STATUS_WAITS },       { ERROR_NO_QUORUM, STATUS_UNREACHABLE },
                { ERROR_UNREACHABLE, STATUS_UNREACHABLE }, { ERROR_OUTCOME_UNKNOWN, STATUS_UNKNOWN },
                { ERROR_INVALID_XML, STATUS_FAILED },      { ERROR_INVALID_ARGUMENT, STATUS_FAILED },
                { ERROR_CONFLICT, STATUS_FAILED },         { ERROR_LEVEL_TOO_LOW, STATUS_FAILED },
                { ERROR_QUARANTINED, STATUS_FAILED },      { ERROR_BUSY, STATUS_FAILED },
                { ERROR_LIMITS_EXCEEDED, STATUS_FAILED },  { ERROR_NOT_SUPPORTED, STATUS_FAILED },
                { ERROR_STORAGE_FULL, STATUS_FAILED },     { "com.example.Else", STATUS_FAILED },
        };
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                hold(rows[i].name, "what and why", &stopping, rows[i].status, "what and why");
}

static void test_an_error_without_a_sentence_still_says_something(void) {
        hold(ERROR_BUSY, NULL, &stopping, STATUS_FAILED,
             "gpupoold answered \"Busy\" and no more. Its log says more: journalctl -u gpupoold");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/ctl/errors/a denial names what and by which right",
                        test_a_denial_names_what_and_by_which_right);
        g_test_add_func("/ctl/errors/a denial names the action that the service named",
                        test_a_denial_names_the_action_that_the_service_named);
        g_test_add_func("/ctl/errors/why polkit could not decide is kept", test_why_polkit_could_not_decide_is_kept);
        g_test_add_func("/ctl/errors/the bus that refuses is not the service",
                        test_the_bus_that_refuses_is_not_the_service);
        g_test_add_func("/ctl/errors/no answer to a change is an unknown outcome",
                        test_no_answer_to_a_change_is_an_unknown_outcome);
        g_test_add_func("/ctl/errors/a service that does not run or start", test_a_service_that_does_not_run_or_start);
        g_test_add_func("/ctl/errors/every error of the contract has its status",
                        test_every_error_of_the_contract_has_its_status);
        g_test_add_func("/ctl/errors/an error without a sentence still says something",
                        test_an_error_without_a_sentence_still_says_something);
        return g_test_run();
}
