/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* History on a folder of its own: what a caller is told when the service goes down under its request. */

#include <glib.h>
#include <glib/gstdio.h>

#include "core/names.h"
#include "daemon/history.h"

typedef struct Fixture {
        char *folder;
        sd_event *event;
        History *history;
        int answers;
        SubmitOutcome outcome;
} Fixture;

static void on_applied(uint64_t first_event, void *userdata) {
}

static void on_changed(void *userdata) {
}

static void on_fault(const char *sentence, void *userdata) {
        g_error("%s", sentence);
}

static const HistoryCallbacks callbacks = { .applied = on_applied, .changed = on_changed, .fault = on_fault };

static void begins(Fixture *f) {
        _cleanup_free_ char *sentence = NULL;
        HistoryConfig config = { .state_directory = f->folder, .node = { .bytes = { 1 } },
                                 .call_timeout_us = 20000000, .snapshot_entries = 4096 };
        g_assert_cmpint(history_open(&f->history, f->event, &config, &callbacks, f, &sentence), ==, HISTORY_OPENED);
        g_assert_cmpint(history_start(f->history), ==, 0);
        while (!history_leads(f->history))
                g_assert_cmpint(sd_event_run(f->event, 10000000), >, 0);
}

static void goes_down(Fixture *f) {
        history_stop(f->history);
        f->history = history_free(f->history);
}

static Fixture *fixture_new(void) {
        Fixture *f = g_new0(Fixture, 1);
        f->folder = g_dir_make_tmp("gpupool-history-XXXXXX", NULL);
        g_assert_nonnull(f->folder);
        g_assert_cmpint(sd_event_new(&f->event), ==, 0);
        begins(f);
        return f;
}

static Fixture *fixture_free(Fixture *f) {
        goes_down(f);
        sd_event_unref(f->event);
        static const char *const files[] = { "registry.db", "registry.db-wal", "registry.db-shm",
                                             "registry.db-reserve" };
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                g_autofree char *path = g_build_filename(f->folder, files[i], NULL);
                (void) g_unlink(path);
        }
        g_assert_cmpint(g_rmdir(f->folder), ==, 0);
        g_free(f->folder);
        g_free(f);
        return NULL;
}
DEFINE_CLEANUP(Fixture *, fixture_free);

static void on_answer(SubmitOutcome outcome, const Result *result, void *userdata) {
        Fixture *f = userdata;
        f->outcome = outcome;
        f->answers++;
}

static void ask_for_a_cluster(Fixture *f) {
        uint8_t id[ID_SIZE] = { 7 };
        Gpupool1__InitCluster init = GPUPOOL1__INIT_CLUSTER__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        init.cluster = (ProtobufCBinaryData) { .len = ID_SIZE, .data = id };
        init.name = (char *) "a";
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_INIT_CLUSTER;
        entry.init_cluster = &init;
        g_assert_cmpint(history_submit(f->history, &entry, on_answer, f), ==, 0);
}

static void test_who_waits_at_the_end_is_not_told_that_nothing_happened(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_new();
        ask_for_a_cluster(f);
        goes_down(f);
        g_assert_cmpint(f->answers, ==, 1);
        g_assert_cmpint(f->outcome, ==, SUBMIT_OUTCOME_UNKNOWN);

        /* For it did. */
        begins(f);
        g_assert_cmpstr(history_registry(f->history)->name, ==, "a");
}

static void test_what_was_answered_is_not_answered_again_at_the_end(void) {
        _cleanup_(fixture_freep) Fixture *f = fixture_new();
        ask_for_a_cluster(f);
        while (f->answers == 0)
                g_assert_cmpint(sd_event_run(f->event, 10000000), >, 0);
        g_assert_cmpint(f->outcome, ==, SUBMIT_COMMITTED);
        goes_down(f);
        g_assert_cmpint(f->answers, ==, 1);
        begins(f);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/history/who-waits-at-the-end-is-not-told-that-nothing-happened",
                        test_who_waits_at_the_end_is_not_told_that_nothing_happened);
        g_test_add_func("/history/what-was-answered-is-not-answered-again-at-the-end",
                        test_what_was_answered_is_not_answered_again_at_the_end);
        return g_test_run();
}
