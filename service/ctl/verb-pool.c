/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gpupoolctl pool: names for GPUs across nodes, which come in, and how they are given out. */

#include "core/names.h"
#include "ctl/bus.h"
#include "ctl/json.h"
#include "ctl/must.h"
#include "ctl/request.h"
#include "ctl/rule.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "ctl/words.h"

#define RULES_US (2 * 1000000ULL)       /* GPUs come in within the turn of the loop, or the next */

Status verb_pool_list(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        Status status = ctl_load(ctl, &objects);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json) {
                Json *document = json_map();
                json_put(document, "pools", json_of_all(objects, KIND_POOL));
                ctl_answer(ctl, document);
        } else if (objects->pools.n == 0) {
                ctl_hint(ctl, "There is no pool. Make one: gpupoolctl pool create NAME --match VENDOR:DEVICE");
        } else {
                pools_print(objects, &ctl->out);
        }
        return STATUS_DONE;
}

static Status load_pool(Ctl *ctl, const char *typed, Objects **ret_objects, const PoolObject **ret_pool) {
        size_t i;
        Status status = ctl_load(ctl, ret_objects);
        if (status != STATUS_DONE)
                return status;
        status = ctl_find(ctl, *ret_objects, KIND_POOL, typed, &i);
        if (status == STATUS_DONE)
                *ret_pool = (*ret_objects)->pools.items + i;
        return status;
}

static void answer_pool(Ctl *ctl, const Objects *objects, const PoolObject *pool) {
        Json *document = json_map();
        json_put(document, "pool", json_of_pool(objects, pool));
        ctl_answer(ctl, document);
}

static char *rules_to_text(const PoolObject *pool) {
        char *text = must_copy("");
        ARRAY_EACH(rule, &pool->rules) {
                _cleanup_free_ char *one = rule_to_text(rule);
                must_append(&text, "%s%s", *text ? ", " : "", one);
        }
        return text;
}

static char *names_of(const Objects *objects, const TextList *paths) {
        char *names = must_copy("");
        for (size_t i = 0; i < paths->n; i++)
                must_append(&names, "%s%s", i > 0 ? ", " : "", objects_name(objects, paths->items[i]));
        return names;
}

static void print_pool_gpus(const Objects *objects, const PoolObject *pool, const Screen *screen) {
        if (pool->gpus.n == 0)
                return;
        _cleanup_(table_freep) Table *table = table_new();
        table_column(table, "GPU", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "MODEL", TABLE_LEFT, 20, 16);
        table_column(table, "STATE", TABLE_LEFT, TABLE_WHOLE, 0);
        table_column(table, "VM", TABLE_LEFT, 40, 0);
        /* In the order of the objects, which is that of names, not in that of the pool. */
        ARRAY_EACH(gpu, &objects->gpus) {
                if (!text_equal(gpu->pool, pool->path))
                        continue;
                _cleanup_free_ char *model = gpu_model(gpu);
                table_cell(table, STYLE_PLAIN, "%s", gpu->name);
                table_cell(table, STYLE_PLAIN, "%s", model);
                table_cell(table, state_style(gpu_condition(gpu)), "%s", gpu_condition(gpu));
                table_cell(table, STYLE_PLAIN, "%s", or_dash(objects_name(objects, gpu->vm)));
        }
        fputc('\n', screen->file);
        table_print(table, screen);
}

/* "4 sets of 2 GPUs, 1 set of 8 GPUs"; "" where each goes by itself. */
static char *sets_to_text(const Objects *objects, const PoolObject *pool) {
        size_t n_gpus[GPUS_PER_NODE_MAX + 1] = {};
        ARRAY_EACH(gpu, &objects->gpus) {
                size_t size = gpu->siblings.n + 1;
                if (text_equal(gpu->pool, pool->path) && size < ELEMENTS(n_gpus))
                        n_gpus[size]++;
        }
        char *text = must_copy("");
        for (size_t size = 2; size < ELEMENTS(n_gpus); size++) {
                size_t n = (n_gpus[size] + size - 1) / size;
                if (n > 0)
                        must_append(&text, "%s%zu set%s of %zu GPUs", *text ? ", " : "", n, plural((unsigned) n), size);
        }
        return text;
}

static void print_pool(const Objects *objects, const PoolObject *pool, const Screen *screen) {
        _cleanup_free_ char *sentence = pool_to_sentence(objects, pool), *rules = rules_to_text(pool);
        _cleanup_free_ char *mixed = must_join(&pool->mixed, "; "), *at_risk = names_of(objects, &pool->at_risk);
        _cleanup_free_ char *first = must_printf("pool %s: ", pool->name), *sets = sets_to_text(objects, pool);
        screen_paragraph(screen, first, STYLE_TITLE, sentence);
        screen_fact(screen, "Usable", "%u of %u", pool->usable, pool->total);
        screen_fact(screen, "Free", "%u, at most %u on one node", pool->free, pool->largest_free);
        screen_fact(screen, "Placement", "%s", pool->placement);
        if (pool->reserve > 0)
                screen_fact(screen, "Kept free", "%u for failover", pool->reserve);
        if (pool->max_in_use > 0)
                screen_fact(screen, "At most", "%u in use at once", pool->max_in_use);
        if (text_equal(pool->after_use, "vfio"))
                screen_fact(screen, "After use", "its GPUs stay on vfio-pci");
        screen_fact(screen, "Rules", "%s", *rules ? rules : "none: GPUs come in by hand");
        if (*sets)
                screen_fact(screen, "Linked sets", "%s; each goes to one VM whole", sets);
        screen_fact(screen, "GPUs differ", "%s", mixed);
        if (pool->survives > 0)
                screen_fact(screen, "Survives", "the loss of %u node%s", pool->survives, plural(pool->survives));
        else
                screen_fact(screen, "Survives", "the loss of no node");
        if (*at_risk)
                screen_fact(screen, "At risk", "%s (would wait after the loss of %u node%s%s)", at_risk,
                            pool->survives + 1, plural(pool->survives + 1),
                            pool_is_out_of_votes(objects, pool) ? ": no majority" : "");
        print_pool_gpus(objects, pool, screen);
}

Status verb_pool_show(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        const PoolObject *pool;
        Status status = load_pool(ctl, args->words.items[0], &objects, &pool);
        if (status != STATUS_DONE)
                return status;
        if (ctl->json)
                answer_pool(ctl, objects, pool);
        else
                print_pool(objects, pool, &ctl->out);
        return STATUS_DONE;
}

/* Says how the pool stands after a change, or answers with it. */
static Status tell_pool(Ctl *ctl, const char *path) {
        if (ctl->quiet && !ctl->json)
                return STATUS_DONE;
        _cleanup_(objects_freep) Objects *objects = NULL;
        const PoolObject *pool;
        Status status = load_pool(ctl, path, &objects, &pool);
        if (status != STATUS_DONE)
                return status;
        _cleanup_free_ char *sentence = pool_to_sentence(objects, pool);
        ctl_tell(ctl, "pool %s: %s%s%s", pool->name, sentence, pool->usable < pool->total ? ": gpupoolctl pool show " :
                 "", pool->usable < pool->total ? pool->name : "");
        if (ctl->json)
                answer_pool(ctl, objects, pool);
        return STATUS_DONE;
}

typedef struct PoolPolicy {
        const char *placement, *after_use;      /* NULL, and -1: not given */
        int64_t reserve, max_in_use;
} PoolPolicy;

static Status read_policy(Ctl *ctl, const Args *args, PoolPolicy *ret) {
        PoolPolicy policy = { .placement = args_value(args, "--placement"), .reserve = -1, .max_in_use = -1,
                              .after_use = args_value(args, "--after-use") };
        if (policy.placement && !text_equal(policy.placement, "pack") && !text_equal(policy.placement, "spread"))
                return ctl_refuse_usage(ctl, "--placement is pack or spread, not \"%s\".", policy.placement);
        if (policy.after_use && !text_equal(policy.after_use, "host") && !text_equal(policy.after_use, "vfio"))
                return ctl_refuse_usage(ctl, "--after-use is host or vfio, not \"%s\".", policy.after_use);
        Status status = option_number(ctl, args, "--reserve", 0, UINT32_MAX, &policy.reserve);
        if (status == STATUS_DONE)
                status = option_number(ctl, args, "--max-in-use", 0, UINT32_MAX, &policy.max_in_use);
        *ret = policy;
        return status;
}

static void append_policy(Request *request, const PoolPolicy *policy) {
        if (policy->placement)
                request_option(request, "placement", "s", policy->placement);
        if (policy->reserve >= 0)
                request_option(request, "reserve", "u", (uint32_t) policy->reserve);
        if (policy->max_in_use >= 0)
                request_option(request, "max-in-use", "u", (uint32_t) policy->max_in_use);
        if (policy->after_use)
                request_option(request, "after-use", "s", policy->after_use);
}

static void rules_clear(Rules *rules) {
        ARRAY_EACH(rule, rules)
                rule_clear(rule);
        array_clear(rules);
}

static Status read_rules(Ctl *ctl, const Args *args, Rules *rules) {
        ARRAY_EACH(given, &args->options) {
                if (!text_equal(given->option->name, "--match"))
                        continue;
                _cleanup_free_ char *problem = NULL;
                Pairs rule = {};
                if (rule_from_text(given->value, &rule, &problem) < 0)
                        return ctl_refuse_usage(ctl, "%s", problem);
                MUST(array_append(rules, &rule));
        }
        return STATUS_DONE;
}

static void append_rules(Request *request, const Rules *rules) {
        request_open(request, 'a', "a{ss}");
        ARRAY_EACH(rule, rules) {
                request_open(request, 'a', "{ss}");
                ARRAY_EACH(pair, rule)
                        request_append(request, "{ss}", pair->first, pair->second);
                request_close(request);
        }
        request_close(request);
}

static Status read_gpus(Ctl *ctl, const Objects *objects, const char *typed, TextList *ret_paths) {
        size_t i;
        Status status = ctl_find(ctl, objects, KIND_GPU, typed, &i);
        if (status == STATUS_DONE)
                must_list_add(ret_paths, objects->gpus.items[i].path);
        return status;
}

static Status read_gpu_options(Ctl *ctl, const Args *args, const Objects *objects, TextList *ret_paths) {
        ARRAY_EACH(given, &args->options) {
                if (!text_equal(given->option->name, "--gpu"))
                        continue;
                Status status = read_gpus(ctl, objects, given->value, ret_paths);
                if (status != STATUS_DONE)
                        return status;
        }
        return STATUS_DONE;
}

/* How many GPUs the rules would bring in, as things stand: those that are there, match, and are in no pool. */
static size_t count_matches(const Objects *objects, const Rules *rules) {
        size_t n = 0;
        ARRAY_EACH(gpu, &objects->gpus) {
                bool matches = false;
                ARRAY_EACH(rule, rules)
                        matches = matches || rule_matches(rule, gpu->vendor_id, gpu->device_id,
                                                          objects_name(objects, gpu->node), gpu->slot_path);
                n += matches && text_equal(gpu->state, "present") && text_equal(gpu->pool, OBJECT_NONE);
        }
        return n;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        *(bool *) userdata = true;
        return 0;
}

/* The rules of a pool do their work right after the call that set them. Waits a moment for it, so that what is said of
 * the pool then stays true; no harm if it does not come to that. */
typedef struct RulesWait {
        sd_bus_slot *slot;
        bool changed;           /* something did, since the objects were read */
} RulesWait;

static void rules_wait_begin(Ctl *ctl, RulesWait *wait) {
        (void) sd_bus_add_match(ctl->bus, &wait->slot, "type='signal',sender='" BUS_NAME "',"
                                "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',"
                                "path_namespace='" OBJECT_ROOT "'", on_changed, &wait->changed);
}

static void rules_wait_end(RulesWait *wait) {
        wait->slot = sd_bus_slot_unref(wait->slot);
}

static void rules_wait(Ctl *ctl, RulesWait *wait, const Rules *rules) {
        uint64_t deadline_us = now_boottime_us() + RULES_US;
        while (rules->n > 0) {
                _cleanup_(objects_freep) Objects *objects = NULL;
                wait->changed = false;
                if (ctl_load(ctl, &objects) != STATUS_DONE || count_matches(objects, rules) == 0)
                        return;
                while (!wait->changed)
                        if (bus_turn(ctl->bus, deadline_us) != BUS_TURN_WORKED)
                                return;
        }
}

Status verb_pool_create(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(rules_clear) Rules rules = {};
        _cleanup_(rules_wait_end) RulesWait wait = {};
        _cleanup_(text_list_clear) TextList gpus = {};
        _cleanup_request_ Request request = {};
        _cleanup_message_ sd_bus_message *answer = NULL;
        const char *name = args->words.items[0], *path;
        PoolPolicy policy;
        Status status = read_policy(ctl, args, &policy);
        if (status == STATUS_DONE)
                status = read_rules(ctl, args, &rules);
        if (status == STATUS_DONE)
                status = ctl_load(ctl, &objects);
        for (size_t i = 1; i < args->words.n && status == STATUS_DONE; i++)
                status = read_gpus(ctl, objects, args->words.items[i], &gpus);
        if (status == STATUS_DONE)
                status = read_gpu_options(ctl, args, objects, &gpus);
        if (status != STATUS_DONE)
                return status;

        rules_wait_begin(ctl, &wait);
        request_begin(ctl, &request, REQUEST_CHANGE, OBJECT_ROOT, INTERFACE_MANAGER, "CreatePool");
        request_explain(&request, ACTION_MANAGE_POOL, "creating pool %s", name);
        request_append(&request, "s", name);
        append_policy(&request, &policy);
        if (rules.n > 0) {
                request_open_option(&request, "rules", "aa{ss}");
                append_rules(&request, &rules);
                request_close_option(&request);
        }
        if (gpus.n > 0)
                request_option_list(&request, "gpus", 'o', &gpus);
        status = request_send(ctl, &request, &answer);
        if (status != STATUS_DONE)
                return status;
        int r = sd_bus_message_read_basic(answer, 'o', &path);
        if (r < 0)
                return request_refuse_answer(ctl, &request, r);
        rules_wait(ctl, &wait, &rules);
        return tell_pool(ctl, path);
}

static Status change_gpus(Ctl *ctl, const Args *args, const char *method, const char *doing) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(text_list_clear) TextList gpus = {};
        _cleanup_request_ Request request = {};
        const PoolObject *pool;
        Status status = load_pool(ctl, args->words.items[0], &objects, &pool);
        for (size_t i = 1; i < args->words.n && status == STATUS_DONE; i++)
                status = read_gpus(ctl, objects, args->words.items[i], &gpus);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, pool->path, INTERFACE_POOL, method);
        request_explain(&request, ACTION_MANAGE_POOL, "%s pool %s", doing, pool->name);
        request_append_list(&request, 'o', &gpus);
        status = request_send(ctl, &request, NULL);
        return status == STATUS_DONE ? tell_pool(ctl, pool->path) : status;
}

Status verb_pool_add(Ctl *ctl, const Args *args) {
        return change_gpus(ctl, args, "Add", "putting GPUs into");
}

Status verb_pool_remove(Ctl *ctl, const Args *args) {
        return change_gpus(ctl, args, "Remove", "taking GPUs out of");
}

static Status show_rules(Ctl *ctl, const Objects *objects, const PoolObject *pool) {
        if (ctl->json) {
                answer_pool(ctl, objects, pool);
                return STATUS_DONE;
        }
        if (pool->rules.n == 0)
                ctl_hint(ctl, "pool %s has no rules: its GPUs come in by hand.", pool->name);
        ARRAY_EACH(rule, &pool->rules) {
                _cleanup_free_ char *text = rule_to_text(rule);
                screen_say(&ctl->out, "%s", text);
        }
        return STATUS_DONE;
}

/* The new rules replace the old ones: who only meant to add one is to see that. */
static void tell_rules_gone(Ctl *ctl, const PoolObject *pool, const Rules *now) {
        _cleanup_free_ char *gone = must_copy("");
        ARRAY_EACH(old, &pool->rules) {
                _cleanup_free_ char *old_text = rule_to_text(old);
                bool stays = false;
                ARRAY_EACH(rule, now) {
                        _cleanup_free_ char *text = rule_to_text(rule);
                        stays = stays || text_equal(text, old_text);
                }
                if (!stays)
                        must_append(&gone, "%s%s", *gone ? ", " : "", old_text);
        }
        if (*gone)
                ctl_tell(ctl, "pool %s: rules that are no longer: %s", pool->name, gone);
}

Status verb_pool_rules(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_(rules_clear) Rules rules = {};
        _cleanup_(rules_wait_end) RulesWait wait = {};
        _cleanup_request_ Request request = {};
        const PoolObject *pool;
        bool none = args_has(args, "--none");
        Status status = read_rules(ctl, args, &rules);
        if (status != STATUS_DONE)
                return status;
        if (none && rules.n > 0)
                return ctl_refuse_usage(ctl, "--none and --match do not go together.");
        status = load_pool(ctl, args->words.items[0], &objects, &pool);
        if (status != STATUS_DONE)
                return status;
        if (!none && rules.n == 0)
                return show_rules(ctl, objects, pool);

        rules_wait_begin(ctl, &wait);
        request_begin(ctl, &request, REQUEST_CHANGE, pool->path, INTERFACE_POOL, "SetRules");
        request_explain(&request, ACTION_MANAGE_POOL, "setting the rules of pool %s", pool->name);
        append_rules(&request, &rules);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        tell_rules_gone(ctl, pool, &rules);
        rules_wait(ctl, &wait, &rules);
        return tell_pool(ctl, pool->path);
}

Status verb_pool_policy(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const PoolObject *pool;
        PoolPolicy policy;
        Status status = read_policy(ctl, args, &policy);
        if (status != STATUS_DONE)
                return status;
        if (!policy.placement && policy.reserve < 0 && policy.max_in_use < 0 && !policy.after_use)
                return ctl_refuse_usage(ctl, "Say what to set: --placement, --reserve, --max-in-use or --after-use.");
        status = load_pool(ctl, args->words.items[0], &objects, &pool);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, pool->path, INTERFACE_POOL, "SetPolicy");
        request_explain(&request, ACTION_MANAGE_POOL, "setting the policy of pool %s", pool->name);
        append_policy(&request, &policy);
        request_end_options(&request);
        status = request_send(ctl, &request, NULL);
        return status == STATUS_DONE ? tell_pool(ctl, pool->path) : status;
}

Status verb_pool_rename(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const char *name = args->words.items[1];
        const PoolObject *pool;
        Status status = load_pool(ctl, args->words.items[0], &objects, &pool);
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, pool->path, INTERFACE_POOL, "Rename");
        request_explain(&request, ACTION_MANAGE_POOL, "renaming pool %s to %s", pool->name, name);
        request_append(&request, "s", name);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "pool %s is now %s. polkit rules that name it do not follow", pool->name, name);
        return ctl->json ? tell_pool(ctl, name) : STATUS_DONE;
}

Status verb_pool_delete(Ctl *ctl, const Args *args) {
        _cleanup_(objects_freep) Objects *objects = NULL;
        _cleanup_request_ Request request = {};
        const PoolObject *pool;
        Status status = load_pool(ctl, args->words.items[0], &objects, &pool);
        if (status == STATUS_DONE)
                status = ctl_confirm(ctl, ASK_IF_SOMEONE_IS_THERE, "Delete pool %s? Its %u GPU%s will be in no pool.",
                                     pool->name, pool->total, plural(pool->total));
        if (status != STATUS_DONE)
                return status;

        request_begin(ctl, &request, REQUEST_CHANGE, pool->path, INTERFACE_POOL, "Delete");
        request_explain(&request, ACTION_MANAGE_POOL, "deleting pool %s", pool->name);
        status = request_send(ctl, &request, NULL);
        if (status != STATUS_DONE)
                return status;
        ctl_tell(ctl, "pool %s is deleted", pool->name);
        if (ctl->json) {
                _cleanup_(text_list_clear) TextList names = {};
                must_list_add(&names, pool->name);
                ctl_answer_deleted(ctl, "pool", &names);
        }
        return STATUS_DONE;
}
