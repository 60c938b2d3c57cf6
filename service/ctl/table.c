/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/table.h"

#include <stdarg.h>

#include "ctl/must.h"
#include "ctl/screen-text.h"
#include "util/array.h"

#define COLUMNS_MAX 16U         /* no table for people has more */
#define GAP 2U

typedef struct Column {
        const char *title;      /* borrowed, for ever */
        TableAlign align;
        unsigned importance;
        size_t least;
} Column;

typedef struct Cell {
        char *text;             /* owned */
        Style style;
} Cell;

struct Table {
        Column columns[COLUMNS_MAX];
        size_t n_columns;
        ARRAY(Cell) cells;      /* row after row */
};

Table *table_new(void) {
        return must_zero(sizeof(Table));
}

Table *table_free(Table *table) {
        if (!table)
                return NULL;
        ARRAY_EACH(cell, &table->cells)
                free(cell->text);
        array_clear(&table->cells);
        free(table);
        return NULL;
}

void table_column(Table *table, const char *title, TableAlign align, unsigned importance, size_t least) {
        if (table->n_columns == COLUMNS_MAX)
                return;
        size_t title_width = text_width(title);
        table->columns[table->n_columns++] = (Column) {
                .title = title,
                .align = align,
                .importance = importance,
                .least = least > 0 && least < title_width ? title_width : least,
        };
}

void table_cell(Table *table, Style style, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        _cleanup_free_ char *text = must_vprintf(format, ap);
        va_end(ap);
        Cell cell = { .text = text_made_safe(text, false), .style = style };
        MUST(array_append(&table->cells, &cell));
}

/* Widths as the cells want them; 0: the column is left out. */
static void measure(const Table *table, const bool shown[static COLUMNS_MAX], size_t ret_widths[static COLUMNS_MAX]) {
        for (size_t i = 0; i < table->n_columns; i++)
                ret_widths[i] = shown[i] ? text_width(table->columns[i].title) : 0;
        for (size_t i = 0; i < table->cells.n; i++) {
                size_t column = i % table->n_columns;
                size_t width = text_width(table->cells.items[i].text);
                if (shown[column] && width > ret_widths[column])
                        ret_widths[column] = width;
        }
}

static size_t total_width(const Table *table, const size_t widths[static COLUMNS_MAX]) {
        size_t total = 0, shown = 0;
        for (size_t i = 0; i < table->n_columns; i++) {
                total += widths[i];
                shown += widths[i] > 0;
        }
        return total + (shown > 0 ? (shown - 1) * GAP : 0);
}

/* The column to give way next among those that still can; n_columns if there is none. */
static size_t find_least_important(const Table *table, const bool candidates[static COLUMNS_MAX]) {
        size_t found = table->n_columns;
        for (size_t i = 0; i < table->n_columns; i++) {
                if (!candidates[i] || table->columns[i].importance >= TABLE_WHOLE)
                        continue;
                if (found == table->n_columns || table->columns[i].importance < table->columns[found].importance)
                        found = i;
        }
        return found;
}

/* Cuts columns, the least important first, as far as the next one that cannot be cut. Returns whether it fits now. */
static bool shrink(const Table *table, size_t width, const bool shown[static COLUMNS_MAX],
                   size_t widths[static COLUMNS_MAX]) {
        bool candidates[COLUMNS_MAX];
        memcpy(candidates, shown, sizeof(candidates));
        for (;;) {
                size_t total = total_width(table, widths);
                if (total <= width)
                        return true;
                size_t column = find_least_important(table, candidates);
                if (column == table->n_columns || table->columns[column].least == 0)
                        return false;
                candidates[column] = false;

                size_t least = table->columns[column].least, excess = total - width;
                if (widths[column] > least)
                        widths[column] = widths[column] - least > excess ? widths[column] - excess : least;
        }
}

static void fit(const Table *table, size_t width, size_t ret_widths[static COLUMNS_MAX]) {
        bool shown[COLUMNS_MAX];
        for (size_t i = 0; i < table->n_columns; i++)
                shown[i] = true;
        for (;;) {
                measure(table, shown, ret_widths);
                if (width == 0 || shrink(table, width, shown, ret_widths))
                        return;
                size_t column = find_least_important(table, shown);
                if (column == table->n_columns)
                        return;
                shown[column] = false;
        }
}

static void print_cell(const Table *table, const Screen *screen, size_t column, size_t width, const char *text,
                       Style style, bool last) {
        _cleanup_free_ char *plain = screen->utf8 ? NULL : text_made_safe(text, true);
        _cleanup_free_ char *cut = text_cut(plain ? plain : text, width, screen_mark_of_cut(screen));
        size_t used = text_width(cut), padding = width > used ? width - used : 0;
        if (table->columns[column].align == TABLE_RIGHT)
                fprintf(screen->file, "%*s", (int) padding, "");
        fprintf(screen->file, "%s%s%s", screen_style(screen, style), cut, screen_plain(screen, style));
        if (table->columns[column].align == TABLE_LEFT && !last)
                fprintf(screen->file, "%*s", (int) padding, "");
        if (!last)
                fprintf(screen->file, "%*s", (int) GAP, "");
}

/* True if nothing but empty cells follow @column in its row: no space is written before a line's end. */
static bool is_last(const Table *table, const size_t widths[static COLUMNS_MAX], const Cell *row, size_t column) {
        for (size_t i = column + 1; i < table->n_columns; i++)
                if (widths[i] > 0 && (!row || *row[i].text || table->columns[i].align == TABLE_RIGHT))
                        return false;
        return true;
}

static void print_row(const Table *table, const Screen *screen, const size_t widths[static COLUMNS_MAX],
                      const Cell *row) {
        for (size_t i = 0; i < table->n_columns; i++) {
                if (widths[i] == 0)
                        continue;
                bool last = is_last(table, widths, row, i);
                print_cell(table, screen, i, widths[i], row ? row[i].text : table->columns[i].title,
                           row ? row[i].style : STYLE_TITLE, last);
                if (last)
                        break;
        }
        fputc('\n', screen->file);
}

void table_print(const Table *table, const Screen *screen) {
        size_t widths[COLUMNS_MAX] = {};
        fit(table, screen->width, widths);
        print_row(table, screen, widths, NULL);
        for (size_t i = 0; i + table->n_columns <= table->cells.n; i += table->n_columns)
                print_row(table, screen, widths, table->cells.items + i);
}
