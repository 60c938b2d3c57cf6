/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl plan: what would run where, if. */

#include "core/names.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

typedef struct PlannedVm { char *vm, *from, *to, *fate, *code, *why; } PlannedVm;
typedef struct Count { char *word; uint32_t before, after; } Count;
typedef struct PlannedPool { char *name; ARRAY(Count) counts; } PlannedPool;

typedef struct Plan {
        ARRAY(PlannedVm) vms;
        ARRAY(PlannedPool) pools;
} Plan;

static void plan_clear(Plan *plan) {
        ARRAY_EACH(vm, &plan->vms) {
                free(vm->vm);
                free(vm->from);
                free(vm->to);
                free(vm->fate);
                free(vm->code);
                free(vm->why);
        }
        ARRAY_EACH(pool, &plan->pools) {
                free(pool->name);
                ARRAY_EACH(count, &pool->counts)
                        free(count->word);
                array_clear(&pool->counts);
        }
        array_clear(&plan->vms);
        array_clear(&plan->pools);
}

/* ---- the question */

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

static void append_new_nodes(Request *request, const Args *args) {
        _cleanup_(text_list_clear) TextList names = {};
        ARRAY_EACH(given, &args->options)
                if (text_equal(given->option->name, "--add-node"))
                        must_list_add(&names, given->value);
        if (names.n > 0)
                request_option_list(request, "add-nodes", 's', &names);
}

/* "POOL=N", and behind it "@NODE" where there is a @ret_node; cut in place. */
static Status read_pool_number(Ctl *ctl, const char *option, char *text, int64_t least, int64_t *ret_n,
                               const char **ret_node) {
        const char *form = ret_node ? "POOL=N or POOL=N@NODE" : "POOL=N";
        _cleanup_free_ char *problem = NULL, *what = must_printf("N of %s", option), *whole = must_copy(text);
        char *equals = strchr(text, '='), *at = equals && ret_node ? strchr(equals, '@') : NULL;
        if (!equals || equals == text || (at && !at[1]))
                return ctl_refuse_usage(ctl, "%s is %s, not \"%s\".", option, form, whole);
        *equals = 0;
        if (at)
                *at = 0;
        if (number_from_text(what, equals + 1, least, UINT32_MAX, ret_n, &problem) < 0)
                return ctl_refuse_usage(ctl, "%s", problem);
        if (ret_node)
                *ret_node = at ? at + 1 : "";
        return STATUS_DONE;
}

static Status append_additions(Ctl *ctl, Request *request, const Args *args) {
        if (!args_has(args, "--add"))
                return STATUS_DONE;
        request_open_option(request, "add", "a(sus)");
        request_open(request, 'a', "(sus)");
        ARRAY_EACH(given, &args->options) {
                if (!text_equal(given->option->name, "--add"))
                        continue;
                _cleanup_free_ char *text = must_copy(given->value);
                const char *node;
                int64_t n;
                Status status = read_pool_number(ctl, "--add", text, 1, &n, &node);
                if (status != STATUS_DONE)
                        return status;
                request_append(request, "(sus)", text, (uint32_t) n, node);
        }
        request_close(request);
        request_close_option(request);
        return STATUS_DONE;
}

static Status append_reserves(Ctl *ctl, Request *request, const Args *args) {
        if (!args_has(args, "--reserve"))
                return STATUS_DONE;
        request_open_option(request, "reserve", "a(su)");
        request_open(request, 'a', "(su)");
        ARRAY_EACH(given, &args->options) {
                if (!text_equal(given->option->name, "--reserve"))
                        continue;
                _cleanup_free_ char *text = must_copy(given->value);
                int64_t n;
                Status status = read_pool_number(ctl, "--reserve", text, 0, &n, NULL);
                if (status != STATUS_DONE)
                        return status;
                request_append(request, "(su)", text, (uint32_t) n);
        }
        request_close(request);
        request_close_option(request);
        return STATUS_DONE;
}

static Status append_defragment(Ctl *ctl, Request *request, const Args *args, const Objects *objects) {
        size_t i;
        if (!args_has(args, "--defragment"))
                return STATUS_DONE;
        Status status = ctl_find(ctl, objects, KIND_VM, args_value(args, "--defragment"), &i);
        if (status == STATUS_DONE)
                request_option(request, "defragment", "o", objects->vms.items[i].path);
        return status;
}

static Status append_changes(Ctl *ctl, Request *request, const Args *args, const Objects *objects) {
        Status status = append_objects(ctl, request, args, objects, "--lose", KIND_NODE);
        if (status == STATUS_DONE)
                status = append_objects(ctl, request, args, objects, "--drain", KIND_NODE);
        if (status == STATUS_DONE)
                append_new_nodes(request, args);
        if (status == STATUS_DONE)
                status = append_additions(ctl, request, args);
        if (status == STATUS_DONE)
                status = append_objects(ctl, request, args, objects, "--start", KIND_VM);
        if (status == STATUS_DONE)
                status = append_reserves(ctl, request, args);
        return status == STATUS_DONE ? append_defragment(ctl, request, args, objects) : status;
}

/* ---- the answer */

static int read_vms(sd_bus_message *m, Plan *plan) {
        const char *vm, *from, *to, *fate, *code, *why;
        int r = sd_bus_message_enter_container(m, 'a', "(osssss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(osssss)", &vm, &from, &to, &fate, &code, &why)) > 0) {
                PlannedVm planned = { must_copy(vm), must_copy(from), must_copy(to), must_copy(fate), must_copy(code),
                                      must_copy(why) };
                MUST(array_append(&plan->vms, &planned));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_pool(sd_bus_message *m, PlannedPool *ret) {
        const char *name, *word;
        uint32_t before, after;
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        ret->name = must_copy(name);
        r = sd_bus_message_enter_container(m, 'a', "(suu)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(suu)", &word, &before, &after)) > 0) {
                Count count = { must_copy(word), before, after };
                MUST(array_append(&ret->counts, &count));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_pools(sd_bus_message *m, Plan *plan) {
        int r = sd_bus_message_enter_container(m, 'a', "(sa(suu))");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'r', "sa(suu)")) > 0) {
                PlannedPool pool = { .name = NULL };
                r = read_pool(m, &pool);
                MUST(array_append(&plan->pools, &pool));
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* ---- what to do then */

static bool does_more_than_defragment(const Args *args) {
        ARRAY_EACH(given, &args->options)
                if (text_equal(given->option->name, "--lose") || text_equal(given->option->name, "--drain") ||
                    text_equal(given->option->name, "--add") || text_equal(given->option->name, "--add-node") ||
                    text_equal(given->option->name, "--start") || text_equal(given->option->name, "--reserve"))
                        return true;
        return false;
}

/* Moves that make room, and nothing else is supposed: then that can be done just so. */
static void tell_how(Ctl *ctl, const Args *args, const Plan *plan) {
        const char *name = args_value(args, "--defragment");
        bool moves = false;
        if (!name || does_more_than_defragment(args))
                return;
        ARRAY_EACH(vm, &plan->vms) {
                moves = moves || text_equal(vm->fate, "moves");
                if (text_equal(vm->fate, "waits"))
                        return;
        }
        if (moves)
                ctl_tell(ctl, "To do it: gpupoolctl vm defragment %s", name);
}

/* ---- on the screen */

/* A fate that is newer than this program counts by where the VM would be. */
static bool would_run(const PlannedVm *vm) {
        return *vm->to && !text_equal(vm->fate, "stays");
}

static const char *fate_words(const char *fate) {
        return text_equal(fate, "still-waits") ? "waits, as now" : fate;
}

static void print_vms(const Plan *plan, const Objects *objects, const Screen *screen) {
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "VM", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WOULD", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "WHY", TABLE_LEFT, 20, 12);
        ARRAY_EACH(vm, &plan->vms) {
                table_cell(table, STYLE_PLAIN, "%s", objects_name(objects, vm->vm));
                if (text_equal(vm->fate, "stays"))
                        table_cell(table, STYLE_BAD, "stay on %s", or_dash(vm->from));
                else
                        table_cell(table, would_run(vm) ? STYLE_PLAIN : STYLE_BAD, "%s %s %s", or_dash(vm->from),
                                   screen_arrow(screen), would_run(vm) ? vm->to : fate_words(vm->fate));
                table_cell(table, STYLE_PLAIN, "%s", reason_without_name(vm->why, objects_name(objects, vm->vm)));
        }
        table_print(table, screen);
}

/* "free 1 → 9, survives 0 → 1": what would be another number. */
static char *changes_of(const PlannedPool *pool, const Screen *screen) {
        char *text = must_copy("");
        ARRAY_EACH(count, &pool->counts)
                if (count->before != count->after)
                        must_append(&text, "%s%s %u %s %u", *text ? ", " : "", count->word, count->before,
                                    screen_arrow(screen), count->after);
        return text;
}

static void print_pools(const Plan *plan, const Screen *screen) {
        ARRAY_EACH(pool, &plan->pools) {
                _cleanup_free_ char *changes = changes_of(pool, screen);
                if (!*changes)
                        continue;
                _cleanup_free_ char *line = must_printf("pool %s: %s", pool->name, changes);
                screen_paragraph(screen, "", STYLE_PLAIN, line);
        }
}

static void print_plan(Ctl *ctl, const Plan *plan, const Objects *objects) {
        bool any = plan->vms.n > 0;
        if (any)
                print_vms(plan, objects, &ctl->out);
        ARRAY_EACH(pool, &plan->pools)
                ARRAY_EACH(count, &pool->counts)
                        any = any || count->before != count->after;
        if (!any)
                ctl_tell(ctl, "Nothing would change.");
        print_pools(plan, &ctl->out);
}

static void answer_plan(Ctl *ctl, const Plan *plan, const Objects *objects) {
        Json *document = json_map(), *moves = json_list(), *pools = json_list();
        ARRAY_EACH(vm, &plan->vms) {
                Json *item = json_map();
                json_put_text(item, "vm", objects_name(objects, vm->vm));
                json_put_text(item, "from", vm->from);
                json_put_text(item, "to", vm->to);
                json_put_text(item, "why", vm->why);
                json_put_text(item, "fate", vm->fate);
                json_put_text(item, "code", vm->code);
                json_push(moves, item);
        }
        ARRAY_EACH(pool, &plan->pools) {
                Json *item = json_map(), *counts = json_list();
                json_put_text(item, "name", pool->name);
                ARRAY_EACH(count, &pool->counts) {
                        Json *numbers = json_map();
                        json_put_text(numbers, "of", count->word);
                        json_put_number(numbers, "before", count->before);
                        json_put_number(numbers, "after", count->after);
                        json_push(counts, numbers);
                }
                json_put(item, "numbers", counts);
                json_push(pools, item);
        }
        json_put(document, "moves", moves);
        json_put(document, "pools", pools);
        ctl_answer(ctl, document);
}

Status verb_plan(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(plan_clear) Plan plan = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *reply = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        request_begin(ctl, &request, REQUEST_READ, OBJECT_ROOT, INTERFACE_MANAGER, "Plan");
        request_options(&request);
        status = append_changes(ctl, &request, args, objects);
        if (status == STATUS_DONE)
                status = request_send(ctl, &request, &reply);
        if (status != STATUS_DONE)
                return status;
        int r = read_vms(reply, &plan);
        if (r >= 0)
                r = read_pools(reply, &plan);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);

        if (ctl->json)
                answer_plan(ctl, &plan, objects);
        else
                print_plan(ctl, &plan, objects);
        tell_how(ctl, args, &plan);
        ARRAY_EACH(vm, &plan.vms)
                if (!would_run(vm) && !text_equal(vm->fate, "still-waits"))
                        return STATUS_WAITS;
        return STATUS_DONE;
}
