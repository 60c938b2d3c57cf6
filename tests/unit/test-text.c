/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib.h>

#include "util/array.h"
#include "util/cleanup.h"
#include "util/text.h"

static void test_numbers_are_read_whole_or_not_at_all(void) {
        static const struct {
                const char *text;
                unsigned base;
                int r;
                uint64_t value;
        } rows[] = {
                { "0", 10, 0, 0 },
                { "18446744073709551615", 10, 0, UINT64_MAX },
                { "18446744073709551616", 10, -ERANGE, 0 },
                { "99999999999999999999999", 10, -ERANGE, 0 },
                { "ffffffffffffffff", 16, 0, UINT64_MAX },
                { "10000000000000000", 16, -ERANGE, 0 },
                { "10DE", 16, 0, 0x10de },
                { "", 10, -EINVAL, 0 },
                { "-1", 10, -EINVAL, 0 },
                { "+1", 10, -EINVAL, 0 },
                { " 1", 10, -EINVAL, 0 },
                { "1 ", 10, -EINVAL, 0 },
                { "1a", 10, -EINVAL, 0 },
                { "0x1", 16, -EINVAL, 0 },
        };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                uint64_t value = 4711;
                g_assert_cmpint(text_to_u64(rows[i].text, rows[i].base, &value), ==, rows[i].r);
                g_assert_cmpuint(value, ==, rows[i].r == 0 ? rows[i].value : 4711);
        }
        uint64_t value = 0;
        g_assert_cmpint(text_to_u64(NULL, 10, &value), ==, -EINVAL);
}

static void test_what_a_person_may_be_shown(void) {
        static const char *const good[] = { "", "a", "Grüße", "日本語", "a → b", "\U0001f5a5", "'\"<&" };
        static const char *const bad[] = {
                "a\n", "a\tb", "\x1b[31m", "\x7f", "\xc2\x85",          /* controls */
                "\xff", "\xc0\x80", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\x80",     /* not UTF-8 */
                "\u202ea", "a\u2066", "\u200f", "\u200b", "\u061c", "\ufeff", "\u2028",      /* direction, invisible */
        };
        for (size_t i = 0; i < ELEMENTS(good); i++)
                g_assert_true(text_is_printable(good[i]));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                g_assert_false(text_is_printable(bad[i]));
}

static void test_patterns_match_like_a_shells(void) {
        g_assert_true(text_matches("*", ""));
        g_assert_true(text_matches("10de", "10DE"));
        g_assert_true(text_matches("gpu-??", "gpu-07"));
        g_assert_true(text_matches("*a*b*", "xxaxxbxx"));
        g_assert_true(text_matches("**a", "aaa"));
        g_assert_false(text_matches("", "a"));
        g_assert_false(text_matches("?", ""));
        g_assert_false(text_matches("a*b", "ac"));
        g_assert_false(text_matches("gpu", "gpu1"));
}

/* A pattern that keeps a naive matcher busy for years. */
static void test_no_pattern_takes_long(void) {
        _cleanup_free_ char *text = g_strnfill(20000, 'a');
        g_assert_false(text_matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*ab", text));
}

static void test_texts_are_replaced_and_grow(void) {
        _cleanup_free_ char *text = NULL;
        g_assert_cmpint(text_append(&text, "%d", 1), ==, 0);
        g_assert_cmpint(text_append(&text, ", %s", "two"), ==, 0);
        g_assert_cmpstr(text, ==, "1, two");
        g_assert_cmpint(text_printf(&text, "<%s>", text), ==, 0);       /* made of what it replaces */
        g_assert_cmpstr(text, ==, "<1, two>");
        g_assert_cmpint(text_set(&text, text + 1), ==, 0);
        g_assert_cmpstr(text, ==, "1, two>");
        g_assert_cmpint(text_set(&text, NULL), ==, 0);
        g_assert_null(text);
}

static void test_nothing_equals_nothing_only(void) {
        g_assert_true(text_equal(NULL, NULL));
        g_assert_false(text_equal(NULL, ""));
        g_assert_true(text_equal("a", "a"));
        g_assert_true(text_is_empty(NULL));
        g_assert_true(text_is_empty(""));
}

static void test_a_list_owns_its_texts(void) {
        _cleanup_(text_list_clear) TextList list = {}, copy = {};
        char word[] = "one";
        g_assert_cmpint(text_list_add(&list, word), ==, 0);
        word[0] = 'x';
        g_assert_cmpint(text_list_add(&list, "two"), ==, 0);
        g_assert_true(text_list_has(&list, "one"));
        g_assert_false(text_list_has(&list, "xne"));
        g_assert_false(text_list_equal(&list, &copy));
        g_assert_cmpint(text_list_copy(&list, &copy), ==, 0);
        g_assert_true(text_list_equal(&list, &copy));
        text_list_clear(&list);
        g_assert_cmpuint(copy.n, ==, 2);
        g_assert_cmpstr(copy.items[1], ==, "two");
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/text/" #name, test_##name)
        TEST(numbers_are_read_whole_or_not_at_all);
        TEST(what_a_person_may_be_shown);
        TEST(patterns_match_like_a_shells);
        TEST(no_pattern_takes_long);
        TEST(texts_are_replaced_and_grow);
        TEST(nothing_equals_nothing_only);
        TEST(a_list_owns_its_texts);
#undef TEST
        return g_test_run();
}
