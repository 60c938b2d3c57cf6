/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gpupool-sim --placement FILE: its words, its exit status, and that a cluster's export says what the cluster does. */

#include <glib.h>
#include <glib/gstdio.h>

#include "core/describe.h"
#include "instance.h"
#include "sim/place-file.h"

/* What it says of @text; *ret_status as it exits. */
static char *place_text(const char *text, int *ret_status) {
        GError *error = NULL;
        char *name = NULL, *said = NULL;
        size_t size;
        int fd = g_file_open_tmp("gpupool-place-XXXXXX", &name, &error);
        g_assert_no_error(error);
        g_assert_true(g_close(fd, NULL));
        g_assert_true(g_file_set_contents(name, text, -1, NULL));
        FILE *to = open_memstream(&said, &size);
        g_assert_nonnull(to);
        *ret_status = place_file(name, to);
        g_assert_cmpint(fclose(to), ==, 0);
        (void) g_unlink(name);
        g_free(name);
        return said;
}

static void check_says(const char *said, const char *line) {
        if (!strstr(said, line))
                g_error("\"%s\" is not in:\n%s", line, said);
}

static void test_who_runs_where_and_who_waits(void) {
        int status;
        _cleanup_free_ char *said = place_text(
                "pool p pack\n"
                "node a\n"
                "gpus a 3 pool p\n"
                "vm small pool p count 1 priority 50 on a running 0000:02:00.0\n"
                "vm large pool p count 4 priority 50\n"
                "vm two pool p count 2 priority 40\n"
                "vm off pool p count 1 stopped\n", &status);
        g_assert_cmpint(status, ==, 1);
        check_says(said, "vm small stays on a, priority 50: 0000:02:00.0\n");
        check_says(said, "vm two starts on a, priority 40: 0000:01:00.0 0000:03:00.0\n");
        check_says(said, "vm large waits: pool p has 3 usable GPUs and large needs 4");
        check_says(said, "vm off is stopped\n");
        check_says(said, "priority 50: 0 of 1 that waited start\npriority 40: 1 of 1 that waited start\n");
        check_says(said, "pool p: 3 usable, 3 in use, 0 free, at most 0 of them on one node\n");
}

/* One after the other the first by name would cost the second its only place. */
static void test_those_who_wait_are_looked_at_together(void) {
        int status;
        _cleanup_free_ char *said = place_text(
                "pool p pack\n"
                "node a\n"
                "gpus a 8 pool p\n"
                "node b\n"
                "gpus b 1 pool p\n"
                "vm one pool p count 1 priority 90 prefers a\n"
                "vm eight pool p count 8 priority 50\n", &status);
        g_assert_cmpint(status, ==, 0);
        check_says(said, "vm one starts on b");
        check_says(said, "vm eight starts on a");
}

static void test_who_is_stopped_for_whom(void) {
        int status;
        const char *text = "pool p pack\n"
                           "node a\n"
                           "gpus a 2 pool p\n"
                           "vm old pool p count 2 priority 10 preemptible on a running 0000:01:00.0 0000:02:00.0\n"
                           "vm urgent pool p count 1 priority 90 preempt\n";
        _cleanup_free_ char *said = place_text(text, &status);
        g_assert_cmpint(status, ==, 1);
        check_says(said, "vm urgent starts on a");
        check_says(said, "vm old is stopped for urgent, which has priority 90 and it 10; then it waits\n");

        char **parts = g_strsplit(text, " preemptible", 2), *never = g_strjoinv("", parts);
        _cleanup_free_ char *kept = place_text(never, &status);
        g_assert_cmpint(status, ==, 1);
        check_says(kept, "vm old stays on a");
        check_says(kept, "urgent waits: ");
        g_strfreev(parts);
        g_free(never);
}

/* As the conductor does it: a pass after the other, with what the stopped one had. */
static void test_who_is_stopped_goes_on_elsewhere(void) {
        int status;
        _cleanup_free_ char *said = place_text(
                "pool p pack\n"
                "node a\n"
                "gpus a 2 pool p\n"
                "node b\n"
                "gpus b 2 pool p\n"
                "vm old pool p count 1 priority 10 preemptible on a running 0000:01:00.0\n"
                "vm other pool p count 1 priority 90 on b running 0000:01:00.0\n"
                "vm urgent pool p count 2 priority 90 preempt\n", &status);
        g_assert_cmpint(status, ==, 0);
        check_says(said, "vm urgent starts on a, priority 90: 0000:01:00.0 0000:02:00.0\n");
        check_says(said, "vm old is stopped for urgent, which has priority 90 and it 10; then it starts on b: "
                         "0000:02:00.0\n");
        check_says(said, "pool p: 4 usable, 4 in use, 0 free");
}

static void test_a_wrong_file_has_its_own_status(void) {
        int status;
        _cleanup_free_ char *said = place_text("node\n", &status);
        g_assert_cmpint(status, ==, 2);
        g_assert_cmpstr(said, ==, "");
        g_assert_cmpint(place_file("/nowhere/at/all", stdout), ==, 2);
}

/* As the service exports it. */
static char *export_again(const char *text) {
        _cleanup_(described_freep) Described *described = NULL;
        char *sentence = NULL, *written = NULL;
        g_assert_cmpint(describe_read(text, &described, &sentence), ==, DESCRIBE_READ);
        g_assert_cmpint(describe_write(&described->world, &written), ==, 0);
        return written;
}

static void test_an_export_says_the_same(void) {
        for (size_t i = 0; i < SHAPES_COUNT; i++)
                for (uint32_t seed = 1; shapes[i].nodes <= 12 && seed <= 20; seed++) {
                        char *text = instance_make(shapes + i, seed);
                        _cleanup_free_ char *exported = export_again(text);
                        int before, after;
                        _cleanup_free_ char *said = place_text(text, &before), *again = place_text(exported, &after);
                        g_assert_cmpstr(said, ==, again);
                        g_assert_cmpint(before, ==, after);
                        g_free(text);
                }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/place-file/who runs where and who waits", test_who_runs_where_and_who_waits);
        g_test_add_func("/place-file/those who wait are looked at together",
                        test_those_who_wait_are_looked_at_together);
        g_test_add_func("/place-file/who is stopped for whom", test_who_is_stopped_for_whom);
        g_test_add_func("/place-file/who is stopped goes on elsewhere", test_who_is_stopped_goes_on_elsewhere);
        g_test_add_func("/place-file/a wrong file has its own status", test_a_wrong_file_has_its_own_status);
        g_test_add_func("/place-file/an export says the same", test_an_export_says_the_same);
        return g_test_run();
}
