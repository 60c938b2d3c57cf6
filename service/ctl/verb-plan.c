/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl plan: what would run where, if. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

typedef struct Change { char *vm, *from, *to, *why; } Change;   /* @to empty: it would wait */

typedef ARRAY(Change) Changes;

static void changes_clear(Changes *changes) {
        ARRAY_EACH(change, changes) {
                free(change->vm);
                free(change->from);
                free(change->to);
                free(change->why);
        }
        array_clear(changes);
}

static int read_changes(const Objects *objects, sd_bus_message *m, Changes *changes) {
        const char *vm, *from, *to, *why;
        int r = sd_bus_message_enter_container(m, 'a', "(osos)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(osos)", &vm, &from, &to, &why)) > 0) {
                Change change = { must_copy(objects_name(objects, vm)), must_copy(from),
                                  must_copy(objects_name(objects, to)), must_copy(why) };
                MUST(array_append(changes, &change));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* The objects named by each --@option, by path. */
static Status append_objects(Ctl *ctl, Request *request, const Args *args, const Objects *objects, const char *option,
                             ObjectKind kind) {
        _cleanup_(text_list_clear) TextList paths = {};
        ARRAY_EACH(given, &args->options) {
                size_t i;
                if (!text_equal(given->option->name, option))
                        continue;
                Status status = ctl_find(ctl, objects, kind, given->value, &i);
                if (status != STATUS_DONE)
                        return status;
                must_list_add(&paths, kind == KIND_NODE ? objects->nodes.items[i].path : objects->vms.items[i].path);
        }
        if (paths.n > 0)
                request_option_list(request, option + strlen("--"), 'o', &paths);
        return STATUS_DONE;
}

static Status append_additions(Ctl *ctl, Request *request, const Args *args) {
        if (!args_has(args, "--add"))
                return STATUS_DONE;
        request_open_option(request, "add", "a(su)");
        request_open(request, 'a', "(su)");
        ARRAY_EACH(given, &args->options) {
                if (!text_equal(given->option->name, "--add"))
                        continue;
                _cleanup_free_ char *pool = must_copy(given->value), *problem = NULL;
                char *equals = strchr(pool, '=');
                int64_t n;
                if (!equals)
                        return ctl_refuse_usage(ctl, "--add is POOL=N, not \"%s\".", given->value);
                *equals = 0;
                if (number_from_text("N of --add", equals + 1, 1, UINT32_MAX, &n, &problem) < 0)
                        return ctl_refuse_usage(ctl, "%s", problem);
                request_append(request, "(su)", pool, (uint32_t) n);
        }
        request_close(request);
        request_close_option(request);
        return STATUS_DONE;
}

static void print_changes(const Changes *changes, const Screen *screen) {
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "VM", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WOULD", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WHY", TABLE_LEFT, 20, 12);
        ARRAY_EACH(change, changes) {
                bool waits = !*change->to;
                table_cell(table, STYLE_PLAIN, "%s", change->vm);
                table_cell(table, waits ? STYLE_BAD : STYLE_PLAIN, "%s %s %s", or_dash(change->from),
                           screen_arrow(screen), waits ? "waits" : change->to);
                table_cell(table, STYLE_PLAIN, "%s", change->why);
        }
        table_print(table, screen);
}

static void answer(Ctl *ctl, const Changes *changes) {
        Json *document = json_map(), *moves = json_list();
        ARRAY_EACH(change, changes) {
                Json *item = json_map();
                json_put_text(item, "vm", change->vm);
                json_put_text(item, "from", change->from);
                json_put_text(item, "to", change->to);
                json_put_text(item, "why", change->why);
                json_push(moves, item);
        }
        json_put(document, "moves", moves);
        ctl_answer(ctl, document);
}

Status verb_plan(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(changes_clear) Changes changes = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *reply = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, INTERFACE_MANAGER, "Plan");
        request_options(&request);
        status = append_objects(ctl, &request, args, objects, "--lose", KIND_NODE);
        if (status == STATUS_DONE)
                status = append_additions(ctl, &request, args);
        if (status == STATUS_DONE)
                status = append_objects(ctl, &request, args, objects, "--start", KIND_VM);
        if (status == STATUS_DONE && args_has(args, "--defragment"))
                request_option(&request, "defragment", "b", 1);
        if (status == STATUS_DONE)
                status = request_send(ctl, &request, &reply);
        if (status != STATUS_DONE)
                return status;
        int r = read_changes(objects, reply, &changes);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        bool all_run = true;
        ARRAY_EACH(change, &changes)
                all_run = all_run && *change->to;
        if (ctl->json)
                answer(ctl, &changes);
        else if (changes.n == 0)
                ctl_tell(ctl, "Nothing would change.");
        else
                print_changes(&changes, &ctl->out);
        return all_run ? STATUS_DONE : STATUS_WAITS;
}
