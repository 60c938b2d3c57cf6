/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <string.h>

#include "ctl/screen-text.h"
#include "ctl/table.h"
#include "util/array.h"

/* A row of three columns: the first is kept whole, the second may be cut to 6, the third is whole or not there. */
static Table *table_of(const char *const *cells, size_t n) {
        Table *table = table_new();
        table_column(table, "NAME", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "NOTE", TABLE_LEFT, 10, 6);
        table_column(table, "SIZE", TABLE_RIGHT, 20, 0);
        for (size_t i = 0; i < n; i++)
                table_cell(table, STYLE_PLAIN, "%s", cells[i]);
        return table;
}

static char *print_at(const Table *table, size_t width) {
        char *text = NULL;
        size_t size = 0;
        FILE *file = open_memstream(&text, &size);
        g_assert_nonnull(file);
        Screen screen = { .file = file, .utf8 = true, .width = width };
        table_print(table, &screen);
        fclose(file);
        return text;
}

static const char *const cells[] = { "bert", "a note of some length", "12", "huge", "", "3" };

static void hold(size_t width, const char *want) {
        _cleanup_(table_freep) Table *table = table_of(cells, ELEMENTS(cells));
        _cleanup_free_ char *text = print_at(table, width);
        g_assert_cmpstr(text, ==, want);
}

static void test_without_a_width_nothing_is_cut(void) {
        hold(0, "NAME  NOTE                   SIZE\n"
                "bert  a note of some length    12\n"
                "huge                            3\n");
}

static void test_at_its_own_width_nothing_is_cut(void) {
        hold(33, "NAME  NOTE                   SIZE\n"
                 "bert  a note of some length    12\n"
                 "huge                            3\n");
}

static void test_the_least_important_column_is_cut_by_what_is_too_much(void) {
        hold(32, "NAME  NOTE                  SIZE\n"
                 "bert  a note of some leng…    12\n"
                 "huge                           3\n");
        hold(18, "NAME  NOTE    SIZE\n"
                 "bert  a not…    12\n"
                 "huge             3\n");
}

static void test_then_it_is_left_out_and_the_others_stay(void) {
        hold(17, "NAME  SIZE\n"
                 "bert    12\n"
                 "huge     3\n");
}

static void test_a_name_is_kept_whole_whatever_the_width(void) {
        hold(2, "NAME\n"
                "bert\n"
                "huge\n");
}

static void test_every_width_is_kept_while_there_is_something_to_give(void) {
        _cleanup_(table_freep) Table *table = table_of(cells, ELEMENTS(cells));
        for (size_t width = 4; width < 40; width++) {
                _cleanup_free_ char *text = print_at(table, width);
                for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                        g_assert_cmpuint(text_width(line), <=, width);
        }
}

static void test_no_line_ends_in_blanks(void) {
        static const char *const row[] = { "bert", "", "" };
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "NAME", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "NOTE", TABLE_LEFT, 10, 6);
        table_column(table, "MORE", TABLE_LEFT, 10, 6);
        for (size_t i = 0; i < ELEMENTS(row); i++)
                table_cell(table, STYLE_PLAIN, "%s", row[i]);
        _cleanup_free_ char *text = print_at(table, 0);
        g_assert_cmpstr(text, ==, "NAME  NOTE  MORE\nbert\n");
}

static void test_a_cell_cannot_break_the_line(void) {
        static const char *const row[] = { "be\nrt", "\033[31m", "1" };
        _cleanup_(table_freep) Table *table = table_of(row, ELEMENTS(row));
        _cleanup_free_ char *text = print_at(table, 0);
        g_assert_cmpstr(text, ==, "NAME    NOTE      SIZE\nbe\\nrt  \\x1b[31m     1\n");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/ctl/table/without a width nothing is cut", test_without_a_width_nothing_is_cut);
        g_test_add_func("/ctl/table/at its own width nothing is cut", test_at_its_own_width_nothing_is_cut);
        g_test_add_func("/ctl/table/the least important column is cut by what is too much",
                        test_the_least_important_column_is_cut_by_what_is_too_much);
        g_test_add_func("/ctl/table/then it is left out and the others stay",
                        test_then_it_is_left_out_and_the_others_stay);
        g_test_add_func("/ctl/table/a name is kept whole whatever the width",
                        test_a_name_is_kept_whole_whatever_the_width);
        g_test_add_func("/ctl/table/every width is kept while there is something to give",
                        test_every_width_is_kept_while_there_is_something_to_give);
        g_test_add_func("/ctl/table/no line ends in blanks", test_no_line_ends_in_blanks);
        g_test_add_func("/ctl/table/a cell cannot break the line", test_a_cell_cannot_break_the_line);
        return g_test_run();
}
