/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an administrator does about nodes that fail, or that are to be worked on: draining and resuming, freezing and
 * thawing, how a node is switched off, and that it is off. */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/fence.h"
#include "core/names.h"
#include "util/text.h"

int refuse_level(Bus *bus, uint32_t level, sd_bus_error *error) {
        uint32_t present = bus_world(bus)->registry->level;
        if (present >= level)
                return 0;
        return sd_bus_error_setf(error, ERROR_LEVEL_TOO_LOW,
                                 "this needs functional level %u and the cluster works at %u: see who is in the way, "
                                 "then raise it (gpupoolctl cluster level %u --dry-run)", level, present, level);
}

/* May the caller, and can the cluster? As ask_right(). */
static int ask_failover(Bus *bus, sd_bus_message *m, const Right *right, const Caller **ret, sd_bus_error *error) {
        int r = ask_caller(bus, m, ret, error);
        if (r == ASK_GO)
                r = ask_right(bus, m, right, error);
        if (r != ASK_GO)
                return r;
        r = refuse_level(bus, LEVEL_FAILOVER, error);
        if (r < 0)
                ask_done(bus, m);
        return r;
}

static int refuse_stranger(sd_bus_error *error) {
        return sd_bus_error_set(error, ERROR_CONFLICT,
                                "it is no member of the cluster yet: wait until it is (gpupoolctl node list)");
}

/* ---- freezing */

METHOD(method_freeze) {
        Bus *bus = ((Object *) userdata)->bus;
        const Right right = { .action = ACTION_MANAGE_CLUSTER, .verb = "freeze" };
        const Caller *caller;
        RequestOption request;
        uint64_t seconds;
        int r = sd_bus_message_read(m, "t", &seconds);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (seconds == 0 || seconds > FREEZE_MS_MAX / 1000)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "seconds is 1 to %u", FREEZE_MS_MAX / 1000);
        r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__Freeze command = GPUPOOL1__FREEZE__INIT;
        command.duration_ms = seconds * 1000;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_FREEZE;
        entry.freeze = &command;
        return request_submit(bus, m, caller, right.action, &request, &entry, NULL, error);
}

METHOD(method_thaw) {
        Bus *bus = ((Object *) userdata)->bus;
        const Right right = { .action = ACTION_MANAGE_CLUSTER, .verb = "thaw" };
        const Caller *caller;
        RequestOption request;
        int r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__Thaw command = GPUPOOL1__THAW__INIT;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_THAW;
        entry.thaw = &command;
        return request_submit(bus, m, caller, right.action, &request, &entry, NULL, error);
}

/* ---- draining */

static int try_drain(Bus *bus, sd_bus_message *m, const NodeId *node, const Caller *caller, sd_bus_error *error) {
        const Job *job = NULL;
        int r = bus->service->try_drain(bus->service_userdata, node, caller, &job);
        ask_done(bus, m);
        if (r == -EUSERS)
                return sd_bus_error_set(error, ERROR_LIMITS_EXCEEDED,
                                        "you have as many unfinished jobs on this node as there may be: wait for one "
                                        "(gpupoolctl job list)");
        return r < 0 ? r : sd_bus_reply_method_return(m, "o", path_of_job(job->id).text);
}

METHOD(method_drain) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const NodeRecord *record = object->node.record;
        const Caller *caller;
        bool dry_run = false;
        uint64_t timeout_ms = 0;
        RequestOption request = {};
        const Option options[] = {
                { "dry-run", "b", option_read_boolean, &dry_run, NULL },
                { "timeout", "t", option_read_timeout_ms, &timeout_ms, NULL },
                OPTION_REQUEST(&request),
        };
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r < 0)
                return r;
        if (!record)
                return refuse_stranger(error);
        const Right right = { .action = ACTION_MANAGE_NODE, .node = record->name, .verb = "drain" };
        r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;
        if (dry_run)
                return try_drain(bus, m, &record->id, caller, error);

        NodeId node = record->id;
        Gpupool1__DrainNode command = GPUPOOL1__DRAIN_NODE__INIT;
        command.node = id_message_borrow(node.bytes);
        command.timeout_ms = timeout_ms;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_DRAIN_NODE;
        entry.drain_node = &command;
        return request_operate(bus, m, caller, right.action, &request, &entry, JOB_DRAIN, error);
}

METHOD(method_resume) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const NodeRecord *record = object->node.record;
        const Caller *caller;
        bool bring_home = false;
        RequestOption request = {};
        const Option options[] = {
                { "bring-home", "b", option_read_boolean, &bring_home, NULL },
                OPTION_REQUEST(&request),
        };
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r < 0)
                return r;
        if (!record)
                return refuse_stranger(error);
        const Right right = { .action = ACTION_MANAGE_NODE, .node = record->name, .verb = "resume" };
        r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;

        NodeId node = record->id;
        Gpupool1__ResumeNode command = GPUPOOL1__RESUME_NODE__INIT;
        command.node = id_message_borrow(node.bytes);
        command.bring_home = bring_home;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_RESUME_NODE;
        entry.resume_node = &command;
        return request_submit(bus, m, caller, right.action, &request, &entry, NULL, error);
}

/* ---- fencing */

/* As an entry has them; borrowed from the message. */
typedef struct FenceRow {
        Gpupool1__FenceParameter items[FENCE_PARAMETERS_MAX];
        Gpupool1__FenceParameter *pointers[FENCE_PARAMETERS_MAX];
        size_t n;
} FenceRow;

static bool is_word(const char *text) {
        static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
        size_t length = strlen(text);
        return length > 0 && length <= NAME_LENGTH_MAX && strspn(text, characters) == length;
}

static bool has_parameter(const FenceRow *row, const char *name) {
        for (size_t i = 0; i < row->n; i++)
                if (text_equal(row->items[i].name, name))
                        return true;
        return false;
}

/* A value may be a password, so no sentence repeats it. */
static int add_parameter(FenceRow *row, const char *name, const char *value, sd_bus_error *error) {
        if (row->n >= FENCE_PARAMETERS_MAX)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "parameters: at most %u", FENCE_PARAMETERS_MAX);
        if (!is_word(name))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "the name of a parameter is 1 to %u of A-Z a-z 0-9 _ -, such as ip; it is not "
                                         "\"%s\"", NAME_LENGTH_MAX, fit_to_quote(name));
        if (text_equal(name, "action") && !fence_action_is_known(value))
                return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT,
                                        "parameter action is off (what it is without it: the host stays off until "
                                        "somebody switches it on) or reboot (it is switched off, and on again)");
        if (has_parameter(row, name))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "parameter %s stands twice", name);
        if (strlen(value) > TEXT_LENGTH_MAX || !text_is_printable(value))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "the value of parameter %s must be at most %u bytes of readable text, on one "
                                         "line", name, TEXT_LENGTH_MAX);
        Gpupool1__FenceParameter *item = row->items + row->n;
        *item = (Gpupool1__FenceParameter) GPUPOOL1__FENCE_PARAMETER__INIT;
        item->name = (char *) name;
        item->value = (char *) value;
        row->pointers[row->n++] = item;
        return 0;
}

static int read_parameters(sd_bus_message *m, FenceRow *ret, sd_bus_error *error) {
        const char *name, *value;
        int r = sd_bus_message_enter_container(m, 'a', "{ss}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "{ss}", &name, &value)) > 0) {
                r = add_parameter(ret, name, value, error);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int check_agent(const char *agent, const FenceRow *parameters, sd_bus_error *error) {
        if (!text_is_empty(agent) && !is_word(agent))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "agent is the name of a program without its folder, such as fence_ipmilan, or "
                                         "empty for none; it is not \"%s\"", fit_to_quote(agent));
        FenceParameter borrowed[FENCE_PARAMETERS_MAX];
        for (size_t i = 0; i < parameters->n; i++)
                borrowed[i] = (FenceParameter) { parameters->items[i].name, parameters->items[i].value };
        const Fence fence = { .agent = (char *) agent, .parameters = borrowed, .n_parameters = parameters->n };
        const char *objection = text_is_empty(agent) ? NULL : fence_objection(&fence);
        if (objection)
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "%s %s", agent, objection);
        if (text_is_empty(agent) && parameters->n > 0)
                return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT,
                                        "there are parameters and no agent: name it, or leave them out");
        return 0;
}

METHOD(method_set_fencing) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const NodeRecord *record = object->node.record;
        const Caller *caller;
        const char *agent;
        FenceRow parameters = {};
        RequestOption request;
        int r = sd_bus_message_read(m, "s", &agent);
        if (r >= 0)
                r = read_parameters(m, &parameters, error);
        if (r >= 0)
                r = check_agent(agent, &parameters, error);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (!record)
                return refuse_stranger(error);
        const Right right = { .action = ACTION_MANAGE_CLUSTER, .node = record->name, .verb = "set-fencing" };
        r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;

        NodeId node = record->id;
        Gpupool1__SetFencing command = GPUPOOL1__SET_FENCING__INIT;
        command.node = id_message_borrow(node.bytes);
        command.agent = (char *) agent;
        command.parameters = parameters.pointers;
        command.n_parameters = parameters.n;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_FENCING;
        entry.set_fencing = &command;
        return request_submit(bus, m, caller, right.action, &request, &entry, NULL, error);
}

/* ---- an administrator's word */

/* A node that is heard is not off. */
static int check_silence(const World *world, const NodeRecord *record, sd_bus_error *error) {
        switch (world_node_state(world, &record->id)) {
        case NODE_STATE_SILENT:
                return 0;
        case NODE_STATE_LOST:
                return sd_bus_error_setf(error, ERROR_CONFLICT,
                                         "node %s is held for lost already, so nothing is left to confirm: see where "
                                         "its VMs run (gpupoolctl vm list)", record->name);
        case NODE_STATE_JOINING:
        case NODE_STATE_ONLINE:
        case NODE_STATE_DRAINING:
        case NODE_STATE_DRAINED:
        case NODE_STATE_REMOVED:
                break;
        }
        return sd_bus_error_setf(error, ERROR_CONFLICT,
                                 "node %s is not silent, so it cannot be held for off: if it was just switched off, "
                                 "wait until it is shown as silent (gpupoolctl node %s)", record->name, record->name);
}

METHOD(method_confirm_down) {
        Object *object = userdata;
        Bus *bus = object->bus;
        const NodeRecord *record = object->node.record;
        const Caller *caller;
        RequestOption request;
        int r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (!record)
                return refuse_stranger(error);
        const Right right = { .action = ACTION_MANAGE_CLUSTER, .node = record->name, .verb = "confirm-down" };
        r = ask_failover(bus, m, &right, &caller, error);
        if (r != ASK_GO)
                return r;
        /* One that was done is not silent any more: the registry knows its answer. */
        if (!request_is_known(bus, &request)) {
                r = check_silence(bus_world(bus), record, error);
                if (r < 0) {
                        ask_done(bus, m);
                        return r;
                }
        }

        NodeId node = record->id;
        Gpupool1__LoseNode command = GPUPOOL1__LOSE_NODE__INIT;
        command.node = id_message_borrow(node.bytes);
        command.incarnation = record->incarnation;
        command.evidence = GPUPOOL1__LOSS_EVIDENCE__LOSS_EVIDENCE_CONFIRMED;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_LOSE_NODE;
        entry.lose_node = &command;
        return request_submit(bus, m, caller, right.action, &request, &entry, NULL, error);
}
