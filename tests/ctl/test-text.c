/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "ctl/screen-text.h"
#include "util/cleanup.h"

static void test_width_counts_columns_and_not_bytes(void) {
        g_assert_cmpuint(text_width("bert"), ==, 4);
        g_assert_cmpuint(text_width("Zoë ✓ →"), ==, 7);
        g_assert_cmpuint(text_width("e\u0301"), ==, 1);
        g_assert_cmpuint(text_width("日本語"), ==, 6);
        g_assert_cmpuint(text_width("\U0001F680"), ==, 2);
        g_assert_cmpuint(text_width("\xff\xfe"), ==, 2);
        g_assert_cmpuint(text_width(""), ==, 0);
}

static void hold_safe(const char *text, const char *want) {
        _cleanup_free_ char *safe = text_made_safe(text, false);
        g_assert_cmpstr(safe, ==, want);
}

static void test_what_moves_the_cursor_is_written_out(void) {
        hold_safe("plain, with \\ and ✓", "plain, with \\ and ✓");
        hold_safe("\033[2J", "\\x1b[2J");
        hold_safe("two\nlines\tand\rmore\177", "two\\nlines\\tand\\x0dmore\\x7f");
        hold_safe("\xc2\x9b" "31m", "\\x9b31m");
}

static void test_what_turns_or_hides_text_is_written_out(void) {
        hold_safe("a\u202eb\u2066c\u200bd\ufeffe\u00adf", "a\\u{202e}b\\u{2066}c\\u{200b}d\\u{feff}e\\xadf");
        hold_safe("\U000E0041", "\\u{e0041}");
}

static void test_bytes_that_are_no_utf8_are_written_out(void) {
        hold_safe("\xff", "\\xff");
        hold_safe("\xc3", "\\xc3");
        hold_safe("\xc0\xaf", "\\xc0\\xaf");
        hold_safe("\xed\xa0\x80", "\\xed\\xa0\\x80");
        hold_safe("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
}

static void test_ascii_takes_the_same_columns(void) {
        _cleanup_free_ char *safe = text_made_safe("✓ 日 e\u0301", true);
        g_assert_cmpstr(safe, ==, "? ?? e");
}

static void hold_cut(const char *text, size_t width, const char *want) {
        _cleanup_free_ char *cut = text_cut(text, width, "…");
        g_assert_cmpstr(cut, ==, want);
        g_assert_cmpuint(text_width(cut), <=, width);
}

static void test_cut_never_splits_a_character_and_never_exceeds(void) {
        hold_cut("training", 8, "training");
        hold_cut("training", 7, "traini…");
        hold_cut("日本語", 5, "日本…");
        hold_cut("日本語", 4, "日…");
        hold_cut("two words", 5, "two…");
        hold_cut("abc", 1, "…");
        hold_cut("abc", 0, "");
}

static void test_a_line_ends_at_a_space_and_a_long_word_anywhere(void) {
        g_assert_cmpuint(text_line_length("one two three", 8), ==, 7);
        g_assert_cmpuint(text_line_length("one two three", 7), ==, 7);
        g_assert_cmpuint(text_line_length("onetwothree", 5), ==, 5);
        g_assert_cmpuint(text_line_length("short", 80), ==, 5);
        g_assert_cmpuint(text_line_length("日本", 1), ==, 1);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/ctl/text/width counts columns and not bytes", test_width_counts_columns_and_not_bytes);
        g_test_add_func("/ctl/text/what moves the cursor is written out", test_what_moves_the_cursor_is_written_out);
        g_test_add_func("/ctl/text/what turns or hides text is written out",
                        test_what_turns_or_hides_text_is_written_out);
        g_test_add_func("/ctl/text/bytes that are no UTF-8 are written out",
                        test_bytes_that_are_no_utf8_are_written_out);
        g_test_add_func("/ctl/text/ASCII takes the same columns", test_ascii_takes_the_same_columns);
        g_test_add_func("/ctl/text/cut never splits a character and never exceeds",
                        test_cut_never_splits_a_character_and_never_exceeds);
        g_test_add_func("/ctl/text/a line ends at a space and a long word anywhere",
                        test_a_line_ends_at_a_space_and_a_long_word_anywhere);
        return g_test_run();
}
