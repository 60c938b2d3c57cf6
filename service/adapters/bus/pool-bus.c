/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.Pool, and Manager.CreatePool */

#include <errno.h>
#include <stdlib.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

/* ---- properties */

static int put_name(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->pool.pool->name);
}

static int put_gpus(Sink *sink, Object *object) {
        ObjectRange gpus = objects_gpus_of_pool(&object->bus->objects, object->pool.pool);
        int r = sink_open(sink, "o");
        for (size_t i = 0; r >= 0 && i < gpus.n; i++)
                r = sink_put(sink, "o", gpus.items[i]->path);
        return r < 0 ? r : sink_close(sink);
}

static int put_pattern(Sink *sink, const char *key, const char *pattern) {
        return text_is_empty(pattern) ? 0 : sink_put(sink, "{ss}", key, pattern);
}

static int put_rules(Sink *sink, Object *object) {
        int r = sink_open(sink, "a{ss}");
        ARRAY_EACH(rule, &object->pool.pool->rules) {
                if (r >= 0)
                        r = sink_open(sink, "{ss}");
                if (r >= 0)
                        r = put_pattern(sink, "vendor", rule->vendor);
                if (r >= 0)
                        r = put_pattern(sink, "device", rule->device);
                if (r >= 0)
                        r = put_pattern(sink, "node", rule->node);
                if (r >= 0)
                        r = put_pattern(sink, "set", rule->set);
                if (r >= 0)
                        r = sink_close(sink);
        }
        return r < 0 ? r : sink_close(sink);
}

static int put_placement(Sink *sink, Object *object) {
        return sink_put(sink, "s", pool_placement_to_text(object->pool.pool->placement));
}

static int put_reserve(Sink *sink, Object *object) {
        return sink_put(sink, "u", object->pool.pool->reserve);
}

static int put_max_in_use(Sink *sink, Object *object) {
        return sink_put(sink, "u", object->pool.pool->max_in_use);
}

static int put_after_use(Sink *sink, Object *object) {
        return sink_put(sink, "s", after_use_to_text(object->pool.pool->after_use));
}

static int put_mixed(Sink *sink, Object *object) {
        int r = object_derive(object);
        if (r >= 0)
                r = sink_open(sink, "s");
        for (size_t i = 0; r >= 0 && i < object->pool.counts.mixed.n; i++)
                r = sink_put(sink, "s", object->pool.counts.mixed.items[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_total(Sink *sink, Object *object) {
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "u", object->pool.counts.total);
}

static int put_usable(Sink *sink, Object *object) {
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "u", object->pool.counts.usable);
}

static int put_free(Sink *sink, Object *object) {
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "u", object->pool.counts.free);
}

static int put_largest_free(Sink *sink, Object *object) {
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "u", object->pool.counts.largest_free);
}

static int put_survives(Sink *sink, Object *object) {
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "u", object->pool.counts.survives);
}

static int put_at_risk(Sink *sink, Object *object) {
        int r = object_derive(object);
        if (r >= 0)
                r = sink_open(sink, "o");
        for (size_t i = 0; r >= 0 && i < object->pool.counts.n_at_risk; i++)
                r = sink_put(sink, "o", path_of_vm(object->pool.counts.at_risk + i).text);
        return r < 0 ? r : sink_close(sink);
}

/* ---- what methods share */

static int ask_manage_pool(Bus *bus, sd_bus_message *m, const char *pool, const char *verb, const Caller **ret,
                           sd_bus_error *error) {
        int r = ask_caller(bus, m, ret, error);
        if (r != ASK_GO)
                return r;
        return ask_right(bus, m, &((Right) { .action = ACTION_MANAGE_POOL, .pool = pool, .verb = verb }), error);
}

/* A policy as an entry has it, read from options. */
typedef struct PolicyOptions {
        Gpupool1__PoolPolicy message;
        const char *placement, *after_use;
        bool set_placement, set_reserve, set_max_in_use, set_after_use;
} PolicyOptions;

#define POLICY_OPTIONS_INIT { .message = GPUPOOL1__POOL_POLICY__INIT }
#define OPTIONS_OF_POLICY(policy)                                                                               \
        { "placement", "s", option_read_text, &(policy).placement, &(policy).set_placement },                   \
        { "reserve", "u", option_read_u32, &(policy).message.reserve, &(policy).set_reserve },                  \
        { "max-in-use", "u", option_read_u32, &(policy).message.max_in_use, &(policy).set_max_in_use },             \
        { "after-use", "s", option_read_text, &(policy).after_use, &(policy).set_after_use }

static int finish_policy(PolicyOptions *policy, sd_bus_error *error) {
        PoolPlacement placement = POOL_PACK;
        if (policy->set_placement && pool_placement_from_text(policy->placement, &placement) < 0)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "placement is pack or spread, and not %s",
                                         fit_to_quote(policy->placement));
        policy->message.set_placement = policy->set_placement;
        policy->message.placement = placement == POOL_SPREAD ? GPUPOOL1__PLACEMENT_KIND__PLACEMENT_KIND_SPREAD :
                                                               GPUPOOL1__PLACEMENT_KIND__PLACEMENT_KIND_PACK;
        policy->message.set_reserve = policy->set_reserve;
        policy->message.set_max_in_use = policy->set_max_in_use;
        AfterUse after_use = AFTER_USE_HOST;
        if (policy->set_after_use && after_use_from_text(policy->after_use, &after_use) < 0)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "after-use is host or vfio, and not %s",
                                         fit_to_quote(policy->after_use));
        policy->message.set_after_use = policy->set_after_use;
        policy->message.after_use = (Gpupool1__AfterUse) after_use;
        return 0;
}

int refuse_name(const char *what, sd_bus_error *error) {
        return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                 "%s is 1 to %u of A-Z a-z 0-9 . _ - and begins with a letter or digit", what,
                                 NAME_LENGTH_MAX);
}

/* ---- methods */

METHOD(method_create_pool) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const char *name;
        RequestOption request = {};
        PolicyOptions policy = POLICY_OPTIONS_INIT;
        _cleanup_(rule_row_clear) RuleRow rules = {};
        _cleanup_(text_row_clear) TextRow paths = {};
        const Option options[] = {
                OPTIONS_OF_POLICY(policy),
                { "rules", "aa{ss}", option_read_rules, &rules, NULL },
                { "gpus", "ao", option_read_texts, &paths, NULL },
                OPTION_REQUEST(&request),
        };
        const Caller *caller;

        int r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = finish_policy(&policy, error);
        if (r < 0)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a pool", error);
        if (paths.n > GPUS_PER_CALL_MAX)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "gpus: at most %u at once", GPUS_PER_CALL_MAX);

        _cleanup_(gpu_row_clear) GpuRow gpus = {};
        r = gpu_row_resolve(bus, paths.items, paths.n, &gpus, error);
        if (r >= 0)
                r = ask_manage_pool(bus, m, name, "create", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__CreatePool command = GPUPOOL1__CREATE_POOL__INIT;
        command.name = (char *) name;
        command.policy = &policy.message;
        command.n_rules = rules.n;
        command.rules = rules.pointers;
        command.n_gpus = gpus.n;
        command.gpus = gpus.pointers;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_CREATE_POOL;
        entry.create_pool = &command;
        return request_submit(bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, path_of_pool(name).text, error);
}

typedef enum GpuMove {
        GPUS_IN,
        GPUS_OUT,
} GpuMove;

static int move_gpus(sd_bus_message *m, Object *object, GpuMove move, sd_bus_error *error) {
        Bus *bus = object->bus;
        RequestOption request;
        _cleanup_(text_row_clear) TextRow paths = {};
        _cleanup_(gpu_row_clear) GpuRow gpus = {};
        const Caller *caller;

        int r = read_texts(m, 'o', GPUS_PER_CALL_MAX, "gpus", &paths, error);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = gpu_row_resolve(bus, paths.items, paths.n, &gpus, error);
        if (r < 0)
                return r;
        if (gpus.n == 0)
                return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT, "no GPU is named");
        r = ask_manage_pool(bus, m, object->pool.pool->name, move == GPUS_IN ? "add" : "remove", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__ChangePoolGpus command = GPUPOOL1__CHANGE_POOL_GPUS__INIT;
        command.name = object->pool.pool->name;
        if (move == GPUS_IN) {
                command.n_add = gpus.n;
                command.add = gpus.pointers;
        } else {
                command.n_remove = gpus.n;
                command.remove = gpus.pointers;
        }
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_CHANGE_POOL_GPUS;
        entry.change_pool_gpus = &command;
        return request_submit(bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, NULL, error);
}

static METHOD(method_add) {
        return move_gpus(m, userdata, GPUS_IN, error);
}

static METHOD(method_remove) {
        return move_gpus(m, userdata, GPUS_OUT, error);
}

static METHOD(method_set_rules) {
        Object *object = userdata;
        RequestOption request;
        _cleanup_(rule_row_clear) RuleRow rules = {};
        const Caller *caller;
        int r = read_rules(m, &rules, error);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_pool(object->bus, m, object->pool.pool->name, "set-rules", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__SetPoolRules command = GPUPOOL1__SET_POOL_RULES__INIT;
        command.name = object->pool.pool->name;
        command.n_rules = rules.n;
        command.rules = rules.pointers;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_POOL_RULES;
        entry.set_pool_rules = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, NULL, error);
}

static METHOD(method_set_policy) {
        Object *object = userdata;
        RequestOption request;
        PolicyOptions policy = POLICY_OPTIONS_INIT;
        const Option options[] = { OPTIONS_OF_POLICY(policy) };
        const Caller *caller;
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = finish_policy(&policy, error);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_pool(object->bus, m, object->pool.pool->name, "set-policy", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__SetPoolPolicy command = GPUPOOL1__SET_POOL_POLICY__INIT;
        command.name = object->pool.pool->name;
        command.policy = &policy.message;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_POOL_POLICY;
        entry.set_pool_policy = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, NULL, error);
}

/* Asked for both names: who may manage one pool by a rule must not make it another. */
static METHOD(method_rename) {
        Object *object = userdata;
        const char *name;
        RequestOption request;
        const Caller *caller;
        int r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a pool", error);
        r = ask_manage_pool(object->bus, m, object->pool.pool->name, "rename", &caller, error);
        if (r == ASK_GO)
                r = ask_manage_pool(object->bus, m, name, "rename", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__RenamePool command = GPUPOOL1__RENAME_POOL__INIT;
        command.name = object->pool.pool->name;
        command.new_name = (char *) name;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_RENAME_POOL;
        entry.rename_pool = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, NULL, error);
}

static METHOD(method_delete) {
        Object *object = userdata;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_manage_pool(object->bus, m, object->pool.pool->name, "delete", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__DeletePool command = GPUPOOL1__DELETE_POOL__INIT;
        command.name = object->pool.pool->name;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_DELETE_POOL;
        entry.delete_pool = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_POOL, &request, &entry, NULL, error);
}

static const Property properties[] = {
        { "Name", "s", PROPERTY_CHANGES, put_name },
        { "Gpus", "ao", PROPERTY_CHANGES, put_gpus },
        { "Rules", "aa{ss}", PROPERTY_CHANGES, put_rules },
        { "Placement", "s", PROPERTY_CHANGES, put_placement },
        { "Mixed", "as", PROPERTY_CHANGES, put_mixed },
        { "Reserve", "u", PROPERTY_CHANGES, put_reserve },
        { "MaxInUse", "u", PROPERTY_CHANGES, put_max_in_use },
        { "AfterUse", "s", PROPERTY_CHANGES, put_after_use },
        { "Total", "u", PROPERTY_CHANGES, put_total },
        { "Usable", "u", PROPERTY_CHANGES, put_usable },
        { "Free", "u", PROPERTY_CHANGES, put_free },
        { "LargestFree", "u", PROPERTY_CHANGES, put_largest_free },
        { "Survives", "u", PROPERTY_CHANGES, put_survives },
        { "AtRisk", "ao", PROPERTY_CHANGES, put_at_risk },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Add", SD_BUS_ARGS("ao", gpus, "a{sv}", options), SD_BUS_NO_RESULT, method_add,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_ARGS("ao", gpus, "a{sv}", options), SD_BUS_NO_RESULT, method_remove,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetRules", SD_BUS_ARGS("aa{ss}", rules, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_set_rules, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetPolicy", SD_BUS_ARGS("a{sv}", policy, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_set_policy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Rename", SD_BUS_ARGS("s", name, "a{sv}", options), SD_BUS_NO_RESULT, method_rename,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Delete", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_delete,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

const Face pool_face = {
        .interface = INTERFACE_POOL,
        .root = OBJECT_POOL,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
