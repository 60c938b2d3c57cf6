/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "daemon/conf.h"

static char *source_root;

/* Loads @text as a configuration file. */
static int load(const char *text, Conf *ret, char **reterr_sentence) {
        g_autofree char *path = NULL;
        int fd = g_file_open_tmp("gpupool-conf-XXXXXX", &path, NULL);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, text, strlen(text)), ==, (ssize_t) strlen(text));
        g_assert_cmpint(close(fd), ==, 0);
        int r = conf_load(path, true, ret, reterr_sentence);
        (void) g_unlink(path);
        return r;
}

static void test_an_empty_file_is_all_defaults(void) {
        _cleanup_(conf_clear) Conf conf = {};
        g_assert_cmpint(load("", &conf, NULL), ==, 0);
        g_assert_cmpstr(conf.state_directory, ==, "/var/lib/gpupool");
        g_assert_cmpstr(conf.libvirt_uri, ==, "qemu:///system");
        g_assert_cmpuint(conf.jobs_per_user, ==, 64);
        g_assert_cmpuint(conf.coalesce_us, ==, 50000);
        g_assert_cmpuint(conf.call_timeout_us, ==, 20000000);
        g_assert_nonnull(conf.node_name);
}

static void test_a_missing_file_is_all_defaults_unless_it_was_named(void) {
        _cleanup_(conf_clear) Conf conf = {};
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(conf_load("/nonexistent/gpupoold.conf", false, &conf, NULL), ==, 0);
        Conf other = {};
        g_assert_cmpint(conf_load("/nonexistent/gpupoold.conf", true, &other, &sentence), ==, -ENOENT);
        g_assert_nonnull(strstr(sentence, "/nonexistent/gpupoold.conf"));
}

static void test_a_setting_is_taken(void) {
        _cleanup_(conf_clear) Conf conf = {};
        g_assert_cmpint(
                load("[Node]\nName=left\n[Bus]\nJobLinger=2min\n[Registry]\nSnapshotEntries=100\n[Log]\nLevel=error\n",
                     &conf, NULL),
                ==, 0);
        g_assert_cmpstr(conf.node_name, ==, "left");
        g_assert_cmpuint(conf.job_linger_us, ==, 120000000);
        g_assert_cmpuint(conf.snapshot_entries, ==, 100);
        g_assert_cmpint(conf.log_level, ==, 3);
}

static void test_what_is_wrong_is_named_with_its_line(void) {
        static const struct {
                const char *text, *names;
        } cases[] = {
                { "[Node]\nNmae=x\n", "line 2: there is no setting Nmae= in [Node]" },
                { "[Nod]\nName=x\n", "[Nod]" },
                { "[Node]\nName=a b\n", "Name= must be" },
                { "[Node]\nName=../x\n", "Name= must be" },
                { "[Node]\nStateDirectory=relative\n", "an absolute path" },
                { "[Bus]\nJobsPerUser=0\n", "JobsPerUser=" },
                { "[Bus]\nJobsPerUser=-1\n", "JobsPerUser=" },
                { "[Bus]\nJobsPerUser=99999999999999999999\n", "JobsPerUser=" },
                { "[Libvirt]\nQueryTimeout=10 parsecs\n", "a time such as" },
                { "[Libvirt]\nQueryTimeout=0\n", "a time such as" },
                { "[Log]\nLevel=loud\n", "error, warning" },
                { "[Node]\n\n\nthis is no setting\n", "line 4" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Conf conf = {};
                _cleanup_free_ char *sentence = NULL;
                g_assert_cmpint(load(cases[i].text, &conf, &sentence), ==, -EINVAL);
                g_assert_nonnull(sentence);
                if (!strstr(sentence, cases[i].names))
                        g_error("\"%s\" does not say \"%s\"", sentence, cases[i].names);
                g_assert_null(conf.node_name);
        }
}

static void test_what_of_the_lease_is_left_open_is_the_profiles(void) {
        _cleanup_(conf_clear) Conf conf = {}, fast = {}, held = {};
        g_assert_cmpint(load("", &conf, NULL), ==, 0);
        g_assert_cmpmem(&conf.lease_times, sizeof(LeaseTimes), &lease_times_default, sizeof(LeaseTimes));
        g_assert_cmpint(load("[Lease]\nDuration=900ms\nProfile=fast\n", &fast, NULL), ==, 0);
        g_assert_true(fast.lease_fast);
        g_assert_cmpuint(fast.lease_times.lease_us, ==, 900000);
        g_assert_cmpuint(fast.lease_times.request_us, ==, lease_times_fast.request_us);
        g_assert_cmpint(load("[Lease]\nOnLeaseEnd=hold 10s\n", &held, NULL), ==, 0);
        g_assert_cmpuint(held.lease_times.hold_us, ==, 10000000);
}

/* P1's arithmetic: a set by which it cannot be kept is refused, with what does not fit. */
static void test_times_that_would_let_a_vm_run_twice_are_refused_with_the_reason(void) {
        static const struct {
                const char *text, *names;
        } cases[] = {
                { "[Lease]\nDuration=1s\n", "three times Request" },
                { "[Lease]\nKillTime=50ms\n", "KillTime is below 100ms" },
                { "[Lease]\nDrift=20000\n", "a clock like that is broken" },
                { "[Lease]\nDuration=300s\n", "over 60s" },
                { "[Lease]\nOnLeaseEnd=hold\n", "hold with a time" },
                { "[Lease]\nOnLeaseEnd=hold 0s\n", "hold with a time" },
                { "[Lease]\nOnLeaseEnd=hold 1h\n", "ten minutes at most" },
                { "[Lease]\nProfile=slow\n", "default or fast" },
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Conf conf = {};
                _cleanup_free_ char *sentence = NULL;
                g_assert_cmpint(load(cases[i].text, &conf, &sentence), ==, -EINVAL);
                if (!sentence || !strstr(sentence, cases[i].names))
                        g_error("\"%s\" does not say \"%s\"", sentence, cases[i].names);
        }
}

static void test_a_folder_is_no_file(void) {
        Conf conf = {};
        _cleanup_free_ char *sentence = NULL;
        g_assert_cmpint(conf_load("/", true, &conf, &sentence), <, 0);
        g_assert_nonnull(sentence);
}

static void test_times_have_units(void) {
        static const struct {
                const char *text;
                uint64_t us;
        } cases[] = {{"5", 5000000}, {"5s", 5000000}, {"250ms", 250000}, {"2min", 120000000}, {"1h", 3600000000}};
        uint64_t us = 0;
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_assert_cmpint(conf_parse_time(cases[i].text, &us), ==, 0);
                g_assert_cmpuint(us, ==, cases[i].us);
        }
        g_assert_cmpint(conf_parse_time("", &us), ==, -EINVAL);
        g_assert_cmpint(conf_parse_time("s", &us), ==, -EINVAL);
        g_assert_cmpint(conf_parse_time("1x", &us), ==, -EINVAL);
        g_assert_cmpint(conf_parse_time("99999999999999999999h", &us), ==, -ERANGE);
        g_assert_cmpint(conf_parse_time("18446744073709551615h", &us), ==, -ERANGE);
}

/* The file that is installed shows every setting with its default: taking away all the # must change nothing. */
static void test_the_installed_file_shows_the_defaults(void) {
        g_autofree char *path = g_build_filename(source_root, "data", "gpupoold.conf", NULL);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_autoptr(GString) opened = g_string_new(NULL);
        unsigned settings = 0;
        for (char **line = lines; *line; line++) {
                bool setting = g_regex_match_simple("^#[A-Z][A-Za-z]*=.+", *line, 0, 0);
                settings += setting;
                if (setting || **line == '[')
                        g_string_append_printf(opened, "%s\n", setting ? *line + 1 : *line);
        }
        g_assert_cmpuint(settings, >=, 14);

        _cleanup_(conf_clear) Conf shown = {}, preset = {};
        _cleanup_free_ char *sentence = NULL;
        int r = load(opened->str, &shown, &sentence);
        if (r < 0)
                g_error("data/gpupoold.conf: %s", sentence);
        g_assert_cmpint(load("", &preset, NULL), ==, 0);
        g_assert_cmpstr(shown.state_directory, ==, preset.state_directory);
        g_assert_cmpstr(shown.libvirt_uri, ==, preset.libvirt_uri);
        g_assert_cmpstr(shown.guard_socket, ==, preset.guard_socket);
        g_assert_cmpstr(shown.probe_socket, ==, preset.probe_socket);
        g_assert_cmpuint(shown.jobs_per_user, ==, preset.jobs_per_user);
        g_assert_cmpuint(shown.questions_per_user, ==, preset.questions_per_user);
        g_assert_cmpuint(shown.job_linger_us, ==, preset.job_linger_us);
        g_assert_cmpuint(shown.query_timeout_us, ==, preset.query_timeout_us);
        g_assert_cmpuint(shown.start_timeout_us, ==, preset.start_timeout_us);
        g_assert_cmpuint(shown.stop_timeout_us, ==, preset.stop_timeout_us);
        g_assert_cmpuint(shown.shutdown_timeout_us, ==, preset.shutdown_timeout_us);
        g_assert_cmpuint(shown.coalesce_us, ==, preset.coalesce_us);
        g_assert_cmpuint(shown.snapshot_entries, ==, preset.snapshot_entries);
        g_assert_cmpuint(shown.call_timeout_us, ==, preset.call_timeout_us);
        g_assert_cmpint(shown.log_level, ==, preset.log_level);
        g_assert_cmpstr(shown.fence_directory, ==, preset.fence_directory);
        g_assert_cmpuint(shown.fence_timeout_us, ==, preset.fence_timeout_us);
        g_assert_cmpint(shown.lease_fast, ==, preset.lease_fast);
        g_assert_cmpmem(&shown.lease_times, sizeof(LeaseTimes), &preset.lease_times, sizeof(LeaseTimes));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        source_root = argc > 1 ? argv[1] : (char *) ".";
        g_test_add_func("/conf/an-empty-file-is-all-defaults", test_an_empty_file_is_all_defaults);
        g_test_add_func("/conf/a-missing-file", test_a_missing_file_is_all_defaults_unless_it_was_named);
        g_test_add_func("/conf/a-setting-is-taken", test_a_setting_is_taken);
        g_test_add_func("/conf/what-is-wrong-is-named", test_what_is_wrong_is_named_with_its_line);
        g_test_add_func("/conf/the-lease-of-a-profile", test_what_of_the_lease_is_left_open_is_the_profiles);
        g_test_add_func("/conf/times-against-p1", test_times_that_would_let_a_vm_run_twice_are_refused_with_the_reason);
        g_test_add_func("/conf/a-folder-is-no-file", test_a_folder_is_no_file);
        g_test_add_func("/conf/times-have-units", test_times_have_units);
        g_test_add_func("/conf/the-installed-file-shows-the-defaults", test_the_installed_file_shows_the_defaults);
        return g_test_run();
}
