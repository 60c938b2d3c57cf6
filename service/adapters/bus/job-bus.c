/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.Job */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

static int put_id(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->job->id);
}

static int put_operation(Sink *sink, Object *object) {
        return sink_put(sink, "s", job_operation_to_text(object->job->operation));
}

static int put_object(Sink *sink, Object *object) {
        const Job *job = object->job;
        return sink_put(sink, "o", job->operation == JOB_JOIN ? OBJECT_ROOT : path_of_vm(&job->vm).text);
}

static int put_state(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->job->result == JOB_PENDING ? "running" : "done");
}

static int put_progress(Sink *sink, Object *object) {
        return sink_put(sink, "d", object->job->progress);
}

static int put_stage(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->job->stage);
}

static int put_started_by(Sink *sink, Object *object) {
        return sink_put(sink, "(us)", object->job->uid, object->job->sender);
}

static int put_started_at(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->job->started_realtime_us);
}

static int put_result(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->job->result == JOB_PENDING ? "" : job_result_to_text(object->job->result));
}

static int put_error(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->job->error);
}

static int put_message(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->job->message);
}

static int ask_cancel_join(Bus *bus, sd_bus_message *m, sd_bus_error *error) {
        return ask_right(bus, m, &((Right) { .action = ACTION_MANAGE_CLUSTER, .verb = "cancel" }), error);
}

/* Who made it may give it up; anybody else needs the right to do what it does. */
static int ask_cancel(sd_bus_message *m, const Object *object, const Caller **ret_caller, sd_bus_error *error) {
        Bus *bus = object->bus;
        const Job *job = object->job;
        const Caller *caller;
        int r = ask_caller(bus, m, &caller, error);
        if (r != ASK_GO)
                return r;
        *ret_caller = caller;
        if (caller->uid == job->uid)
                return ASK_GO;
        if (job->operation == JOB_JOIN)
                return ask_cancel_join(bus, m, error);

        const Vm *vm = registry_find_vm(bus_world(bus)->registry, &job->vm);
        const Right right = {
                .action = ACTION_OPERATE_VM,
                .vm = vm ? vm->name : NULL,
                .pool = vm ? vm->pool : NULL,
                .verb = "cancel",
                .owner = vm ? vm->owner_user : NULL,
        };
        return ask_right(bus, m, &right, error);
}

static METHOD(method_cancel) {
        Object *object = userdata;
        Bus *bus = object->bus;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r >= 0)
                r = ask_cancel(m, object, &caller, error);
        if (r != ASK_GO)
                return r;
        if (object->job->operation == JOB_JOIN) {
                ask_done(bus, m);
                return sd_bus_error_set(error, ERROR_BUSY,
                                        "joining cannot be given up: it ends by itself when the other cluster does not "
                                        "answer");
        }

        VmId vm = object->job->vm;
        Gpupool1__SetDesired command = GPUPOOL1__SET_DESIRED__INIT;
        command.vm = id_message_borrow(vm.bytes);
        command.desire = GPUPOOL1__DESIRE_KIND__DESIRE_KIND_STOP;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_DESIRED;
        entry.set_desired = &command;
        return request_cancel(bus, m, caller, ACTION_OPERATE_VM, &request, &entry, object->job, error);
}

static const Property properties[] = {
        { "Id", "t", PROPERTY_CONST, put_id },
        { "Operation", "s", PROPERTY_CONST, put_operation },
        { "Object", "o", PROPERTY_CONST, put_object },
        { "State", "s", PROPERTY_CHANGES, put_state },
        { "Progress", "d", PROPERTY_CHANGES, put_progress },
        { "Stage", "s", PROPERTY_CHANGES, put_stage },
        { "StartedBy", "(us)", PROPERTY_CONST, put_started_by },
        { "StartedAt", "t", PROPERTY_CONST, put_started_at },
        { "Result", "s", PROPERTY_CHANGES, put_result },
        { "Error", "s", PROPERTY_CHANGES, put_error },
        { "Message", "s", PROPERTY_CHANGES, put_message },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_cancel,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

const Face job_face = {
        .interface = INTERFACE_JOB,
        .root = OBJECT_JOB,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
