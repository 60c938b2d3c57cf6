/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Table: rows under titles, columns two spaces apart. On a terminal it never wraps: the least important column is cut
 * (with a mark) or, where a part of it would tell nothing, left out; then the next one. A column of importance
 * TABLE_WHOLE is kept as it is. Anywhere else nothing is ever cut. */

#include "ctl/screen.h"
#include "util/cleanup.h"

typedef struct Table Table;

#define TABLE_WHOLE 100U

typedef enum TableAlign {
        TABLE_LEFT,
        TABLE_RIGHT,            /* numbers */
} TableAlign;

Table *table_new(void);
Table *table_free(Table *table);
DEFINE_CLEANUP(Table *, table_free);

/* Columns first, from left to right. The one of the lowest @importance gives way first: it is cut down to
 * @least columns; with 0 it is whole or not there. */
void table_column(Table *table, const char *title, TableAlign align, unsigned importance, size_t least);

/* The next cell of the row; a row is full by itself. Made harmless here. */
void table_cell(Table *table, Style style, const char *format, ...) __attribute__((format(printf, 3, 4)));

void table_print(const Table *table, const Screen *screen);
