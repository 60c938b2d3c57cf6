/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read from the command line: options, numbers, rules, and words that are nearly right. */

#include <errno.h>
#include <glib.h>

#include "ctl/args.h"
#include "ctl/nearest.h"
#include "ctl/rule.h"
#include "ctl/verbs.h"
#include "util/cleanup.h"

static const Option options[] = {
        { "--gpus", 0, "N", "" },
        { "--follow", 'f', NULL, "" },
        OPTIONS_END,
};

static int take_all(Args *args, char **argv, int argc, char **ret_problem) {
        bool only_words = false;
        int i = 0, r = 0;
        while (i < argc && r == 0)
                r = args_take(args, argv, argc, &i, &only_words, options, NULL, ret_problem);
        return r;
}

static void test_options_stand_anywhere_and_in_both_forms(void) {
        char *argv[] = { (char *) "a", (char *) "--gpus", (char *) "2", (char *) "b", (char *) "-f",
                         (char *) "--gpus=-3" };
        _cleanup_(args_clear) Args args = {};
        g_assert_cmpint(take_all(&args, argv, 6, NULL), ==, 0);
        g_assert_cmpuint(args.words.n, ==, 2);
        g_assert_cmpstr(args.words.items[1], ==, "b");
        g_assert_cmpstr(args_value(&args, "--gpus"), ==, "-3");
        g_assert_true(args_has(&args, "--follow"));
}

static void test_two_dashes_end_options_and_one_is_a_word(void) {
        char *argv[] = { (char *) "-", (char *) "--", (char *) "--gpus", (char *) "--" };
        _cleanup_(args_clear) Args args = {};
        g_assert_cmpint(take_all(&args, argv, 4, NULL), ==, 0);
        g_assert_cmpuint(args.words.n, ==, 3);
        g_assert_cmpstr(args.words.items[1], ==, "--gpus");
        g_assert_cmpstr(args.words.items[2], ==, "--");
}

static void hold_problem(const char *word, const char *want) {
        char *argv[] = { (char *) word };
        _cleanup_(args_clear) Args args = {};
        _cleanup_free_ char *problem = NULL;
        g_assert_cmpint(take_all(&args, argv, 1, &problem), ==, -EINVAL);
        g_assert_cmpstr(problem, ==, want);
}

static void test_a_wrong_option_is_named_with_what_was_meant(void) {
        hold_problem("--gpsu=2", "There is no option --gpsu here. Did you mean --gpus?");
        hold_problem("--zzzzzz", "There is no option --zzzzzz here.");
        hold_problem("--gpus", "--gpus needs a value: --gpus N.");
        hold_problem("--follow=1", "--follow takes no value.");
        hold_problem("-fx", "There is no option -x here.");
}

static void hold_number(const char *text, int want, int64_t number) {
        int64_t value = 0;
        _cleanup_free_ char *problem = NULL;
        g_assert_cmpint(number_from_text("N", text, -10, 10, &value, &problem), ==, want);
        g_assert_cmpint(value, ==, number);
        g_assert_true((want < 0) == (problem != NULL));
}

static void test_a_number_is_whole_and_within_its_limits(void) {
        hold_number("10", 0, 10);
        hold_number("-10", 0, -10);
        hold_number("11", -EINVAL, 0);
        hold_number("-11", -EINVAL, 0);
        hold_number("", -EINVAL, 0);
        hold_number("-", -EINVAL, 0);
        hold_number("1 ", -EINVAL, 0);
        hold_number("0x1", -EINVAL, 0);
        hold_number("99999999999999999999999", -EINVAL, 0);
}

static void hold_rule(const char *text, const char *want) {
        Pairs rule = {};
        _cleanup_free_ char *problem = NULL, *again = NULL;
        int r = rule_from_text(text, &rule, &problem);
        if (!want) {
                g_assert_cmpint(r, ==, -EINVAL);
                g_assert_nonnull(problem);
                return;
        }
        g_assert_cmpint(r, ==, 0);
        again = rule_to_text(&rule);
        g_assert_cmpstr(again, ==, want);
        rule_clear(&rule);
}

static void test_a_rule_reads_as_it_is_written(void) {
        hold_rule("10de:2331", "10de:2331");
        hold_rule("10de:*@gpu-*", "10de:*@gpu-*");
        hold_rule("10de", "10de:*");
        hold_rule("10de@a", "10de:*@a");
        hold_rule("@a", "*:*@a");
        hold_rule("*:*", "*:*");
        hold_rule("10de:2330=board", "10de:2330=board");
        hold_rule("10de:20f1@gpu-*=alone", "10de:20f1@gpu-*=alone");
        hold_rule("*:*=pci0000:40/01.0/00.0+pci0000:40/03.0/00.0", "*:*=pci0000:40/01.0/00.0+pci0000:40/03.0/00.0");
        hold_rule("10de:2330=", NULL);
        hold_rule("10de:2330=2", NULL);
        hold_rule("10de:2330=a+b", NULL);
        hold_rule("10de:2330=pci0000:40/01.0/00.0+b", NULL);
        hold_rule("10de:2330=pci0000:40/01.0/00.0", NULL);
        hold_rule("nvidia", NULL);
        hold_rule("10de:h100", NULL);
        hold_rule("0x10de", NULL);
        hold_rule("10d", NULL);
        hold_rule("10de2", NULL);
        hold_rule("10d*:????", "10d*:????");
        hold_rule("10DE:23*", "10DE:23*");
        hold_rule("=board", NULL);
        hold_rule("", NULL);
        hold_rule(":", NULL);
        hold_rule("10de:2331:1", NULL);
        hold_rule("10de:2331@", NULL);
        hold_rule("10de:2331@a@b", NULL);
}

static void test_a_rule_with_slots_brings_in_what_is_in_them(void) {
        Pairs rule = {};
        char *problem = NULL;
        g_assert_cmpint(rule_from_text("10de:*=pci0000:40/01.0/00.0+pci0000:40/03.0/00.0", &rule, &problem), ==, 0);
        g_assert_true(rule_matches(&rule, 0x10de, 0x2331, "a", "pci0000:40/01.0/00.0"));
        g_assert_true(rule_matches(&rule, 0x10de, 0x2331, "a", "pci0000:40/03.0/00.0"));
        g_assert_false(rule_matches(&rule, 0x10de, 0x2331, "a", "pci0000:40/03.0"));
        g_assert_false(rule_matches(&rule, 0x10de, 0x2331, "a", ""));
        g_assert_false(rule_matches(&rule, 0x1002, 0x2331, "a", "pci0000:40/01.0/00.0"));
        rule_clear(&rule);
}

static void test_distance_counts_letters_to_change(void) {
        g_assert_cmpuint(edit_distance("start", "start"), ==, 0);
        g_assert_cmpuint(edit_distance("strat", "start"), ==, 1);
        g_assert_cmpuint(edit_distance("Start", "start"), ==, 0);
        g_assert_cmpuint(edit_distance("stop", "shutdown"), ==, 5);
        g_assert_cmpuint(edit_distance("", "abc"), ==, 3);
}

static void test_a_word_of_another_kind_is_not_near(void) {
        g_assert_cmpstr(verb_nearest("vm", "strat"), ==, "start");
        g_assert_cmpstr(verb_nearest("vm", "lst"), ==, "list");
        g_assert_null(verb_nearest("vm", "transmogrify"));
        g_assert_cmpstr(noun_nearest("staus"), ==, "status");
        g_assert_null(noun_nearest("x"));
}

static void test_every_verb_has_help_with_an_example(void) {
        for (const Verb *verb = verbs; verb->noun; verb++) {
                _cleanup_free_ char *example = g_strdup_printf("  gpupoolctl %s", verb->noun);
                g_assert_nonnull(verb->run);
                g_assert_true(strlen(verb->summary) > 8 || text_equal(verb->verb, "list") ||
                              text_equal(verb->verb, "show"));
                g_assert_true(strstr(verb->help, example) || strstr(verb->help, " gpupoolctl "));
                g_assert_true(verb_find(verb->noun, verb->verb) == verb);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/ctl/words/options stand anywhere and in both forms",
                        test_options_stand_anywhere_and_in_both_forms);
        g_test_add_func("/ctl/words/two dashes end options and one is a word",
                        test_two_dashes_end_options_and_one_is_a_word);
        g_test_add_func("/ctl/words/a wrong option is named with what was meant",
                        test_a_wrong_option_is_named_with_what_was_meant);
        g_test_add_func("/ctl/words/a number is whole and within its limits",
                        test_a_number_is_whole_and_within_its_limits);
        g_test_add_func("/ctl/words/a rule reads as it is written", test_a_rule_reads_as_it_is_written);
        g_test_add_func("/ctl/words/a rule with slots brings in what is in them",
                        test_a_rule_with_slots_brings_in_what_is_in_them);
        g_test_add_func("/ctl/words/distance counts letters to change", test_distance_counts_letters_to_change);
        g_test_add_func("/ctl/words/a word of another kind is not near", test_a_word_of_another_kind_is_not_near);
        g_test_add_func("/ctl/words/every verb has help with an example", test_every_verb_has_help_with_an_example);
        return g_test_run();
}
