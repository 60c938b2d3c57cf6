/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A real agent, tests/fence/fence_test, whose folder is argument 1. What begins with "/fence/words" needs none. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "adapters/fence/fence-agent.h"
#include "adapters/fence/fence-words.h"

#define PATIENCE_US (20ULL * 1000 * 1000)
#define SHORT_US 300000U

static const char *agents;

/* One agent, and what came of it. */
typedef struct Scene {
        char *folder;
        sd_event *event;
        FenceParameter parameters[8];
        size_t n_parameters;
        uint64_t timeout_us;
        FenceAgent *agent;
        unsigned n_ends;
        FenceEnd end;
        char *sentence;
        unsigned n_ticks;
        size_t fds;
} Scene;

static size_t count_fds(void) {
        g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
        size_t n = 0;
        while (g_dir_read_name(dir))
                n++;
        return n;
}

static Scene *scene_new(const char *behave) {
        Scene *s = g_new0(Scene, 1);
        s->fds = count_fds();
        s->folder = g_dir_make_tmp("test-fence-XXXXXX", NULL);
        g_assert_cmpint(sd_event_new(&s->event), >=, 0);
        s->timeout_us = PATIENCE_US;
        s->parameters[0] = (FenceParameter) { g_strdup("behave"), g_strdup(behave) };
        s->n_parameters = 1;
        return s;
}

static void with(Scene *s, const char *name, const char *value) {
        s->parameters[s->n_parameters++] = (FenceParameter) { g_strdup(name), g_strdup(value) };
}

static char *with_file(Scene *s, const char *name) {
        g_autofree char *path = g_build_filename(s->folder, name, NULL);
        with(s, name, path);
        return s->parameters[s->n_parameters - 1].value;
}

static bool nobody_is_left(void) {
        siginfo_t info = {};
        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* Nothing of it may be left: no process, no zombie, no descriptor. */
static void scene_free(Scene *s) {
        for (unsigned i = 0; i < 1000 && !nobody_is_left(); i++)
                g_assert_cmpint(sd_event_run(s->event, 10000), >=, 0);
        g_assert_true(nobody_is_left());
        sd_event_unref(s->event);
        g_assert_cmpuint(count_fds(), ==, s->fds);
        for (size_t i = 0; i < s->n_parameters; i++) {
                g_free(s->parameters[i].name);
                g_free(s->parameters[i].value);
        }
        g_autoptr(GDir) dir = g_dir_open(s->folder, 0, NULL);
        for (const char *name; (name = g_dir_read_name(dir));) {
                g_autofree char *path = g_build_filename(s->folder, name, NULL);
                g_assert_cmpint(g_unlink(path), ==, 0);
        }
        g_assert_cmpint(g_rmdir(s->folder), ==, 0);
        g_free(s->folder);
        g_free(s->sentence);
        g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static void on_ended(FenceEnd end, const char *sentence, void *userdata) {
        Scene *s = userdata;
        s->agent = NULL;
        s->n_ends++;
        s->end = end;
        g_free(s->sentence);
        s->sentence = g_strdup(sentence);
        g_assert_true((sentence == NULL) == (end == FENCE_DONE));
        g_test_message("%s", sentence ? sentence : "done");
}

static int start_as(Scene *s, const char *directory, const char *agent) {
        FenceOrder order = { .directory = directory, .agent = agent, .action = "off", .node = "alpha",
                             .parameters = s->parameters, .n_parameters = s->n_parameters,
                             .timeout_us = s->timeout_us };
        return fence_agent_start(&s->agent, s->event, &order, on_ended, s);
}

static void start(Scene *s) {
        g_assert_cmpint(start_as(s, agents, "fence_test"), ==, 0);
}

static void wait_for_end(Scene *s) {
        uint64_t until = (uint64_t) g_get_monotonic_time() + 2 * PATIENCE_US;
        while (s->n_ends == 0) {
                g_assert_cmpuint((uint64_t) g_get_monotonic_time(), <, until);
                g_assert_cmpint(sd_event_run(s->event, PATIENCE_US), >=, 0);
        }
        g_assert_cmpuint(s->n_ends, ==, 1);
        g_assert_null(s->agent);
}

static void play(Scene *s) {
        start(s);
        wait_for_end(s);
}

static void assert_text(const char *path, const char *expected) {
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, expected);
}

static void assert_says(const Scene *s, const char *what) {
        g_assert_nonnull(s->sentence);
        if (!strstr(s->sentence, what))
                g_error("\"%s\" does not say \"%s\"", s->sentence, what);
}

/* ---- how it ends */

static void test_an_agent_switches_off_and_is_done(void) {
        g_autoptr(Scene) s = scene_new("succeed");
        const char *status = with_file(s, "status_file"), *journal = with_file(s, "journal");
        with(s, "plug", "rack 3, socket 4");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_DONE);
        assert_text(status, "off");
        assert_text(journal, "off rack 3, socket 4 alpha\n");
}

static void test_the_callback_comes_later(void) {
        g_autoptr(Scene) s = scene_new("succeed");
        start(s);
        g_usleep(SHORT_US);
        g_assert_cmpuint(s->n_ends, ==, 0);
        wait_for_end(s);
}

static void test_a_failure_is_told_in_the_agents_words(void) {
        g_autoptr(Scene) s = scene_new("fail");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_FAILED);
        assert_says(s, "it ended with status 1: ");
        assert_says(s, "ERROR: Failed: Timed out waiting to power OFF");
}

static void test_an_agent_that_says_nothing_has_failed_too(void) {
        g_autoptr(Scene) s = scene_new("fail-silently");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_FAILED);
        g_assert_cmpstr(s->sentence, ==, "it ended with status 1");
}

static void test_the_hint_at_usage_is_not_the_reason(void) {
        g_autoptr(Scene) s = scene_new("misunderstand");
        play(s);
        assert_says(s, "You have to enter plug number");
}

static void test_a_crash_is_no_success(void) {
        g_autoptr(Scene) s = scene_new("crash");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_FAILED);
        assert_says(s, "it was killed by signal 11");
}

static void end_at_deadline(const char *behave) {
        g_autoptr(Scene) s = scene_new(behave);
        const char *status = with_file(s, "status_file");
        s->timeout_us = 1000000;
        gint64 begun = g_get_monotonic_time();
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_TIMED_OUT);
        g_assert_cmpint(g_get_monotonic_time() - begun, >=, 1000000);
        assert_says(s, "it did not end within 1 s");
        g_assert_false(g_file_test(status, G_FILE_TEST_EXISTS));
}

static void test_who_hangs_is_killed_at_the_deadline(void) {
        end_at_deadline("hang");
}

static void test_who_will_not_be_terminated_is_killed_as_well(void) {
        end_at_deadline("stubborn");
}

static void test_who_talks_for_ever_is_killed_at_the_deadline(void) {
        end_at_deadline("spew-for-ever");
}

static void test_megabytes_of_talk_are_no_failure(void) {
        g_autoptr(Scene) s = scene_new("spew");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_DONE);
}

static void test_a_line_without_end_is_cut(void) {
        g_autoptr(Scene) s = scene_new("babble");
        play(s);
        assert_says(s, "status 1: xxxx");
        g_assert_cmpuint(strlen(s->sentence), <, 300);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Scene *s = userdata;
        s->n_ticks++;
        g_assert_cmpint(sd_event_source_set_time_relative(source, 5000), >=, 0);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static unsigned ticks_in_a_second(void) {
        g_autoptr(Scene) s = scene_new("spew-for-ever");
        sd_event_source *ticks;
        g_assert_cmpint(sd_event_add_time_relative(s->event, &ticks, CLOCK_MONOTONIC, 5000, 1, on_tick, s), >=, 0);
        s->timeout_us = 1000000;
        play(s);
        sd_event_source_disable_unref(ticks);
        return s->n_ticks;
}

/* The loop renews leases. */
static void test_the_loop_goes_on_whatever_the_agent_says(void) {
        unsigned n_ticks = 0;
        for (unsigned i = 0; i < 10 && n_ticks <= 50; i++)      /* a busy machine may stand still meanwhile */
                n_ticks = ticks_in_a_second();
        g_assert_cmpuint(n_ticks, >, 50);
}

static bool is_alive(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%i/stat", pid), *text = NULL;
        if (!g_file_get_contents(path, &text, NULL, NULL))
                return false;
        return strrchr(text, ')')[2] != 'Z';
}

static void test_a_child_that_is_left_behind_dies_with_its_agent(void) {
        g_autoptr(Scene) s = scene_new("leave-child");
        g_autofree char *text = NULL;
        const char *path = with_file(s, "pid_file");
        play(s);
        g_assert_cmpint(s->end, ==, FENCE_DONE);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        for (unsigned i = 0; i < 1000 && is_alive(atoi(text)); i++)
                g_usleep(10000);
        g_assert_false(is_alive(atoi(text)));
}

/* The deadline passed, but only because nobody looked. */
static void test_who_was_done_in_time_is_done_however_late_it_is_seen(void) {
        g_autoptr(Scene) s = scene_new("succeed");
        siginfo_t info = {};
        s->timeout_us = 500000;
        start(s);
        g_assert_cmpint(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), ==, 0);
        g_usleep(s->timeout_us);
        wait_for_end(s);
        g_assert_cmpint(s->end, ==, FENCE_DONE);
}

/* ---- how it begins */

static void test_an_agent_inherits_nothing(void) {
        g_autoptr(Scene) s = scene_new("show-inheritance");
        int open_end = open("/dev/null", O_RDONLY);
        sigset_t blocked, before;
        g_assert_cmpint(sigemptyset(&blocked) | sigaddset(&blocked, SIGTERM), ==, 0);
        g_assert_cmpint(sigprocmask(SIG_BLOCK, &blocked, &before), ==, 0);
        g_setenv("NOTIFY_SOCKET", "/run/secret", true);
        void (*handler)(int) = signal(SIGHUP, SIG_IGN);
        play(s);
        signal(SIGHUP, handler);
        g_unsetenv("NOTIFY_SOCKET");
        g_assert_cmpint(sigprocmask(SIG_SETMASK, &before, NULL), ==, 0);
        g_assert_cmpint(close(open_end), ==, 0);
        assert_says(s, "fds 0, leads True, in /, environment LC_ALL PATH, blocked 0, ignores False");
}

static void test_what_cannot_be_run_is_an_error_at_once(void) {
        g_autoptr(Scene) s = scene_new("succeed");
        g_autofree char *path = g_build_filename(s->folder, "fence_plain", NULL);
        g_assert_true(g_file_set_contents(path, "#!/bin/sh\n", -1, NULL));
        g_assert_cmpint(chmod(path, 0644), ==, 0);
        g_assert_cmpint(start_as(s, agents, "fence_nowhere"), ==, -ENOENT);
        g_assert_cmpint(start_as(s, s->folder, "fence_plain"), ==, -EACCES);
        g_assert_cmpint(start_as(s, agents, "../fence/fence_test"), ==, -EINVAL);
        g_assert_cmpint(start_as(s, agents, ""), ==, -EINVAL);
        with(s, "plug", "1\naction=on");
        g_assert_cmpint(start_as(s, agents, "fence_test"), ==, -EINVAL);
        g_assert_null(s->agent);
        g_assert_cmpuint(s->n_ends, ==, 0);
}

static void test_many_long_parameters_are_all_said(void) {
        g_autoptr(Scene) s = scene_new("succeed");
        FenceParameter many[65];
        g_autofree char *value = g_strnfill(1024, 'v'), *name = g_strnfill(63, 'n');
        const char *status = with_file(s, "status_file");
        for (size_t i = 0; i < 63; i++)
                many[i] = (FenceParameter) { name, value };
        many[63] = s->parameters[0];
        many[64] = s->parameters[1];
        FenceOrder order = { .directory = agents, .agent = "fence_test", .action = "off", .node = "alpha",
                             .parameters = many, .n_parameters = 65, .timeout_us = PATIENCE_US };
        g_assert_cmpint(fence_agent_start(&s->agent, s->event, &order, on_ended, s), ==, 0);
        wait_for_end(s);
        g_assert_cmpint(s->end, ==, FENCE_DONE);
        assert_text(status, "off");
}

static void test_who_is_freed_dies_without_a_word(void) {
        g_autoptr(Scene) s = scene_new("stubborn");
        start(s);
        s->agent = fence_agent_free(s->agent);
        g_assert_cmpint(sd_event_run(s->event, SHORT_US), >=, 0);
        g_assert_cmpuint(s->n_ends, ==, 0);
}

static void test_the_loop_may_go_first(void) {
        g_autoptr(Scene) s = scene_new("stubborn");
        start(s);
        s->agent = fence_agent_free(s->agent);
        s->event = sd_event_unref(s->event);
        (void) waitpid(-1, NULL, 0);    /* else it would be init's */
        g_assert_cmpint(sd_event_new(&s->event), >=, 0);
}

/* ---- secrets */

static void test_no_value_of_a_parameter_is_shown(void) {
        g_autoptr(Scene) s = scene_new("tell-password");
        with(s, "username", "administrator");
        with(s, "password", "pw");
        with(s, "ip", "192.0.2.17");
        play(s);
        assert_says(s, "login of *** with *** was refused by ***");
}

static char *hide(const char *said, const char *const *values) {
        TextList list = {};
        char *text = NULL;
        for (; *values; values++)
                g_assert_cmpint(text_list_add(&list, *values), ==, 0);
        g_assert_cmpint(fence_words_hide(&list, said, &text), ==, 0);
        text_list_clear(&list);
        return text;
}

static void test_a_secret_that_begins_another_hides_all_of_it(void) {
        g_autofree char *text = hide("a secret1234 b secret c", (const char *[]) { "secret", "secret1234", NULL });
        g_assert_cmpstr(text, ==, "a *** b *** c");
}

static void test_a_secret_that_was_cut_is_hidden(void) {
        g_autofree char *secret = g_strnfill(4000, 's');
        g_autofree char *line = g_strdup_printf("login with %s", secret), *text = NULL;
        FenceLine *said = g_new0(FenceLine, 1);
        fence_line_feed(said, line, strlen(line));
        text = hide(fence_line_end(said), (const char *[]) { secret, NULL });
        g_assert_cmpstr(text, ==, "login with ***");
        g_free(said);
}

static void test_short_values_are_hidden_only_where_they_are_secrets(void) {
        FenceParameter parameters[] = { { (char *) "plug", (char *) "1" }, { (char *) "PASSWD", (char *) "1" },
                                        { (char *) "token", (char *) "" } };
        FenceOrder order = { .parameters = parameters, .n_parameters = 1 };
        TextList list = {};
        g_assert_cmpint(fence_words_secrets(&order, &list), ==, 0);
        g_assert_cmpuint(list.n, ==, 0);
        order.n_parameters = 3;
        g_assert_cmpint(fence_words_secrets(&order, &list), ==, 0);
        g_assert_cmpuint(list.n, ==, 1);
        text_list_clear(&list);
}

/* ---- words */

static void assert_written(const FenceParameter *parameters, size_t n, const char *expected) {
        FenceOrder order = { .action = "off", .node = "alpha", .parameters = parameters, .n_parameters = n };
        _cleanup_free_ char *text = NULL;
        g_assert_cmpint(fence_words_write(&order, &text), ==, 0);
        g_assert_cmpstr(text, ==, expected);
}

static void test_the_action_is_ours_and_the_name_if_there_is_none(void) {
        FenceParameter parameters[] = { { (char *) "action", (char *) "on" }, { (char *) "nodename", (char *) "x" } };
        assert_written(parameters, 1, "action=off\nnodename=alpha\n");
        assert_written(parameters, 2, "action=off\nnodename=x\n");
}

static void test_blanks_and_quotes_at_the_edges_survive(void) {
        FenceParameter parameters[] = { { (char *) "a", (char *) " b " }, { (char *) "c", (char *) "\"d\"" },
                                        { (char *) "e", (char *) "f\"g=h" }, { (char *) "i", (char *) "" } };
        assert_written(parameters, 4, "action=off\nnodename=alpha\na=\" b \"\nc=\"\"d\"\"\ne=f\"g=h\ni=\n");
}

static void test_the_last_line_that_says_something_counts(void) {
        FenceLine *line = g_new0(FenceLine, 1);
        g_assert_cmpstr(fence_line_end(line), ==, "");
        static const char said[] = "first\nse\0cond\n \t\n\n";
        for (size_t i = 0; i < sizeof(said) - 1; i++)
                fence_line_feed(line, said + i, 1);
        g_assert_cmpstr(fence_line_end(line), ==, "second");
        fence_line_feed(line, "third", 5);
        g_assert_cmpstr(fence_line_end(line), ==, "third");
        g_free(line);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        if (argc < 2)
                g_error("usage: test-fence FOLDER-OF-AGENTS");
        agents = argv[1];
        g_test_add_func("/fence/words/the-action-is-ours-and-the-name-if-there-is-none",
                        test_the_action_is_ours_and_the_name_if_there_is_none);
        g_test_add_func("/fence/words/blanks-and-quotes-at-the-edges-survive",
                        test_blanks_and_quotes_at_the_edges_survive);
        g_test_add_func("/fence/words/the-last-line-that-says-something-counts",
                        test_the_last_line_that_says_something_counts);
        g_test_add_func("/fence/words/a-secret-that-begins-another-hides-all-of-it",
                        test_a_secret_that_begins_another_hides_all_of_it);
        g_test_add_func("/fence/words/a-secret-that-was-cut-is-hidden", test_a_secret_that_was_cut_is_hidden);
        g_test_add_func("/fence/words/short-values-are-hidden-only-where-they-are-secrets",
                        test_short_values_are_hidden_only_where_they_are_secrets);
        g_test_add_func("/fence/an-agent-switches-off-and-is-done", test_an_agent_switches_off_and_is_done);
        g_test_add_func("/fence/the-callback-comes-later", test_the_callback_comes_later);
        g_test_add_func("/fence/a-failure-is-told-in-the-agents-words", test_a_failure_is_told_in_the_agents_words);
        g_test_add_func("/fence/an-agent-that-says-nothing-has-failed-too",
                        test_an_agent_that_says_nothing_has_failed_too);
        g_test_add_func("/fence/the-hint-at-usage-is-not-the-reason", test_the_hint_at_usage_is_not_the_reason);
        g_test_add_func("/fence/a-crash-is-no-success", test_a_crash_is_no_success);
        g_test_add_func("/fence/who-hangs-is-killed-at-the-deadline", test_who_hangs_is_killed_at_the_deadline);
        g_test_add_func("/fence/who-will-not-be-terminated-is-killed-as-well",
                        test_who_will_not_be_terminated_is_killed_as_well);
        g_test_add_func("/fence/who-talks-for-ever-is-killed-at-the-deadline",
                        test_who_talks_for_ever_is_killed_at_the_deadline);
        g_test_add_func("/fence/megabytes-of-talk-are-no-failure", test_megabytes_of_talk_are_no_failure);
        g_test_add_func("/fence/a-line-without-end-is-cut", test_a_line_without_end_is_cut);
        g_test_add_func("/fence/the-loop-goes-on-whatever-the-agent-says",
                        test_the_loop_goes_on_whatever_the_agent_says);
        g_test_add_func("/fence/a-child-that-is-left-behind-dies-with-its-agent",
                        test_a_child_that_is_left_behind_dies_with_its_agent);
        g_test_add_func("/fence/who-was-done-in-time-is-done-however-late-it-is-seen",
                        test_who_was_done_in_time_is_done_however_late_it_is_seen);
        g_test_add_func("/fence/an-agent-inherits-nothing", test_an_agent_inherits_nothing);
        g_test_add_func("/fence/what-cannot-be-run-is-an-error-at-once", test_what_cannot_be_run_is_an_error_at_once);
        g_test_add_func("/fence/many-long-parameters-are-all-said", test_many_long_parameters_are_all_said);
        g_test_add_func("/fence/who-is-freed-dies-without-a-word", test_who_is_freed_dies_without_a_word);
        g_test_add_func("/fence/the-loop-may-go-first", test_the_loop_may_go_first);
        g_test_add_func("/fence/no-value-of-a-parameter-is-shown", test_no_value_of_a_parameter_is_shown);
        return g_test_run();
}
