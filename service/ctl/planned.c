/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/planned.h"

#include "core/names.h"
#include "ctl/find.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/screen.h"
#include "ctl/table.h"
#include "ctl/words.h"

void planned_moves_clear(PlannedMoves *moves) {
        ARRAY_EACH(move, moves) {
                free(move->vm);
                free(move->from);
                free(move->to);
                free(move->why);
        }
        array_clear(moves);
}

int planned_moves_read(PlannedMoves *moves, sd_bus_message *m) {
        const char *vm, *from, *to, *why;
        planned_moves_clear(moves);
        int r = sd_bus_message_enter_container(m, 'a', "(osos)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(osos)", &vm, &from, &to, &why)) > 0) {
                PlannedMove move = { must_copy(vm), must_copy(from), must_copy(to), must_copy(why) };
                MUST(array_append(moves, &move));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static bool has_node(const PlannedMove *move) {
        return !text_equal(move->to, OBJECT_NONE);
}

bool planned_moves_all_run(const PlannedMoves *moves) {
        ARRAY_EACH(move, moves)
                if (!has_node(move))
                        return false;
        return true;
}

void planned_moves_print(const PlannedMoves *moves, const Objects *objects, const Screen *screen) {
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "VM", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WOULD", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WHY", TABLE_LEFT, 20, 12);
        ARRAY_EACH(move, moves) {
                table_cell(table, STYLE_PLAIN, "%s", objects_name(objects, move->vm));
                if (has_node(move))
                        table_cell(table, STYLE_PLAIN, "%s %s %s", or_dash(move->from), screen_arrow(screen),
                                   objects_name(objects, move->to));
                else
                        table_cell(table, STYLE_BAD, "stay on %s", or_dash(move->from));
                table_cell(table, STYLE_PLAIN, "%s", move->why);
        }
        table_print(table, screen);
}

struct json_object *planned_moves_to_json(const PlannedMoves *moves, const Objects *objects) {
        Json *list = json_list();
        ARRAY_EACH(move, moves) {
                Json *item = json_map();
                json_put_text(item, "vm", objects_name(objects, move->vm));
                json_put_text(item, "from", move->from);
                json_put_text(item, "to", objects_name(objects, move->to));
                json_put_text(item, "why", move->why);
                json_push(list, item);
        }
        return list;
}
