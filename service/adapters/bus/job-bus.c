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
        switch (job->operation) {
        case JOB_START:
        case JOB_SHUTDOWN:
        case JOB_STOP:
        case JOB_RESTART:
        case JOB_MOVE:
        case JOB_DEFRAGMENT:
                return sink_put(sink, "o", path_of_vm(&job->about.vm).text);
        case JOB_DRAIN:
                return sink_put(sink, "o", path_of_node(&job->about.node).text);
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        return sink_put(sink, "o", OBJECT_ROOT);
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

static int put_plan(Sink *sink, Object *object) {
        const World *world = bus_world(object->bus);
        int r = sink_open(sink, "(osos)");
        ARRAY_EACH(move, &object->job->plan)
                if (r >= 0)
                        r = sink_put(sink, "(osos)", path_of_vm(&move->vm).text, world_node_name(world, &move->from),
                                     path_of_node(&move->to).text, move->why);
        return r < 0 ? r : sink_close(sink);
}

/* ---- giving up */

/* The right to do what the job does. */
static Right right_to_cancel(const World *world, const Job *job) {
        const Vm *vm = registry_find_vm(world->registry, &job->about.vm);
        const NodeRecord *node = registry_find_node(world->registry, &job->about.node);
        switch (job->operation) {
        case JOB_START:
        case JOB_SHUTDOWN:
        case JOB_STOP:
        case JOB_RESTART:
        case JOB_MOVE:
                return (Right) { .action = ACTION_OPERATE_VM, .vm = vm ? vm->name : NULL, .pool = vm ? vm->pool : NULL,
                                 .verb = "cancel", .owner = vm ? vm->owner_user : NULL };
        case JOB_DEFRAGMENT:
                return (Right) { .action = ACTION_MANAGE_POOL, .pool = vm ? vm->pool : NULL, .vm = vm ? vm->name : NULL,
                                 .verb = "cancel" };
        case JOB_DRAIN:
                return (Right) { .action = ACTION_MANAGE_NODE, .node = node ? node->name : NULL, .verb = "cancel" };
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        return (Right) { .action = ACTION_MANAGE_CLUSTER, .verb = "cancel" };
}

/* Who made it may give it up; anybody else needs its right. */
static int ask_cancel(sd_bus_message *m, const Object *object, const Caller **ret_caller, sd_bus_error *error) {
        Bus *bus = object->bus;
        const Caller *caller;
        int r = ask_caller(bus, m, &caller, error);
        if (r != ASK_GO)
                return r;
        *ret_caller = caller;
        if (caller->uid == object->job->uid)
                return ASK_GO;
        const Right right = right_to_cancel(bus_world(bus), object->job);
        return ask_right(bus, m, &right, error);
}

static int cancel_drain(sd_bus_message *m, const Job *job, Bus *bus, const Caller *caller, const RequestOption *request,
                        sd_bus_error *error) {
        NodeId node = job->about.node;
        Gpupool1__ResumeNode command = GPUPOOL1__RESUME_NODE__INIT;
        command.node = id_message_borrow(node.bytes);
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_RESUME_NODE;
        entry.resume_node = &command;
        return request_cancel(bus, m, caller, ACTION_MANAGE_NODE, request, &entry, job, error);
}

static int cancel_start(sd_bus_message *m, const Job *job, Bus *bus, const Caller *caller, const RequestOption *request,
                        sd_bus_error *error) {
        VmId vm = job->about.vm;
        Gpupool1__SetDesired command = GPUPOOL1__SET_DESIRED__INIT;
        command.vm = id_message_borrow(vm.bytes);
        command.desire = GPUPOOL1__DESIRE_KIND__DESIRE_KIND_STOP;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_DESIRED;
        entry.set_desired = &command;
        return request_cancel(bus, m, caller, ACTION_OPERATE_VM, request, &entry, job, error);
}

/* Nothing is undone, so nothing is to be committed. */
static int cancel_defragment(sd_bus_message *m, const Job *job, Bus *bus, sd_bus_error *error) {
        int r = bus->service->stop_defragment(bus->service_userdata, job);
        ask_done(bus, m);
        if (r == -EBUSY)
                return sd_bus_error_set(error, ERROR_BUSY, "the job has ended already: see gpupoolctl job show");
        if (r < 0)
                return r;
        bus_flush(bus);
        return sd_bus_reply_method_return(m, NULL);
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

        switch (object->job->operation) {
        case JOB_START:
        case JOB_SHUTDOWN:
        case JOB_STOP:
        case JOB_RESTART:
                return cancel_start(m, object->job, bus, caller, &request, error);
        case JOB_DRAIN:
                return cancel_drain(m, object->job, bus, caller, &request, error);
        case JOB_DEFRAGMENT:
                return cancel_defragment(m, object->job, bus, error);
        case JOB_MOVE:
                ask_done(bus, m);
                return sd_bus_error_set(error, ERROR_BUSY,
                                        "a move cannot be given up, as the VM is stopped already: wait for it to end, "
                                        "or stop the VM (gpupoolctl vm stop)");
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        ask_done(bus, m);
        return sd_bus_error_set(error, ERROR_BUSY,
                                "joining cannot be given up: it ends by itself when the other cluster does not answer");
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
        { "Plan", "a(osos)", PROPERTY_CONST, put_plan },
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
