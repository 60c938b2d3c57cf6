/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl plan: what would run where, if. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/planned.h"
#include "ctl/request.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

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

Status verb_plan(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(planned_moves_clear) PlannedMoves moves = {};
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
        int r = planned_moves_read(&moves, reply);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "moves", planned_moves_to_json(&moves, objects));
                ctl_answer(ctl, document);
        } else if (moves.n == 0)
                ctl_tell(ctl, "Nothing would change.");
        else
                planned_moves_print(&moves, objects, LEFTOVER_WAITS, &ctl->out);
        return planned_moves_all_run(&moves) ? STATUS_DONE : STATUS_WAITS;
}
