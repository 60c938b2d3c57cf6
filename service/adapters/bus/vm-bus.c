/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.VM: properties, and the methods that run it. Those that define it stand in vm-define.c. */

#include <errno.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

/* ---- properties */

static int put_name(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->vm.vm->name);
}

static int put_uuid(Sink *sink, Object *object) {
        char uuid[UUID_TEXT_SIZE];
        id_to_uuid(object->vm.vm->id.bytes, uuid);
        return sink_put(sink, "s", uuid);
}

static int put_requirement(Sink *sink, Object *object) {
        return sink_put(sink, "(su)", object->vm.vm->pool, object->vm.vm->count);
}

static int put_model(Sink *sink, Object *object) {
        const char *model = object->vm.vm->model;
        return sink_put(sink, "s", model ? model : "");
}

static int put_desired(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->vm.vm->run ? "running" : "stopped");
}

/* The registry has it running, and its node knows better: where nothing can be written, on full disks, that stays. */
static bool ends_unwritten(Object *object) {
        const Service *service = object->bus->service;
        return vm_state(object->vm.vm) == VM_STATE_RUNNING &&
               text_equal(service->stage(object->bus->service_userdata, object->vm.vm), "stopping");
}

static int put_state(Sink *sink, Object *object) {
        VmState state = ends_unwritten(object) ? VM_STATE_STOPPING : vm_state(object->vm.vm);
        return sink_put(sink, "s", vm_state_to_text(state));
}

static int put_unwritten(Sink *sink, Object *object) {
        _cleanup_free_ char *sentence = NULL;
        int r = text_printf(&sentence, "it ends on %s, or has ended there, and that is not written down yet; where it "
                            "stays so, gpupoolctl check tells why",
                            world_node_name(bus_world(object->bus), &object->vm.vm->assignment.node));
        return r < 0 ? r : sink_put(sink, "(ss)", "unwritten", sentence);
}

static int put_reason(Sink *sink, Object *object) {
        if (ends_unwritten(object))
                return put_unwritten(sink, object);
        int r = object_derive(object);
        return r < 0 ? r : sink_put(sink, "(ss)", object->vm.reason_code, object->vm.reason);
}

static int put_node(Sink *sink, Object *object) {
        const Assignment *assignment = &object->vm.vm->assignment;
        bool assigned = assignment->phase != ASSIGNMENT_NONE;
        return sink_put(sink, "o", assigned ? path_of_node(&assignment->node).text : OBJECT_NONE);
}

static int put_gpus(Sink *sink, Object *object) {
        ObjectRange gpus = objects_gpus_of_vm(&object->bus->objects, object->vm.vm);
        int r = sink_open(sink, "o");
        for (size_t i = 0; r >= 0 && i < gpus.n; i++)
                r = sink_put(sink, "o", gpus.items[i]->path);
        return r < 0 ? r : sink_close(sink);
}

static int put_epoch(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->vm.vm->epoch);
}

static int put_priority(Sink *sink, Object *object) {
        return sink_put(sink, "i", object->vm.vm->priority);
}

static int put_preempt(Sink *sink, Object *object) {
        return sink_put(sink, "b", (int) object->vm.vm->preempt);
}

static int put_preemptible(Sink *sink, Object *object) {
        return sink_put(sink, "b", (int) object->vm.vm->preemptible);
}

static int put_restart_policy(Sink *sink, Object *object) {
        return sink_put(sink, "s", restart_policy_to_text(object->vm.vm->restart));
}

static int put_affinity(Sink *sink, Object *object) {
        const Vm *vm = object->vm.vm;
        int r = sink_open(sink, "(ss)");
        for (size_t i = 0; r >= 0 && i < vm->n_affinity; i++)
                r = sink_put(sink, "(ss)", affinity_kind_to_show(vm->affinity[i].kind), vm->affinity[i].vm);
        return r < 0 ? r : sink_close(sink);
}

static int put_preferred_nodes(Sink *sink, Object *object) {
        const Vm *vm = object->vm.vm;
        int r = sink_open(sink, "s");
        for (size_t i = 0; r >= 0 && i < vm->preferred_nodes.n; i++)
                r = sink_put(sink, "s", vm->preferred_nodes.items[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_owner(Sink *sink, Object *object) {
        return sink_put(sink, "(us)", object->vm.vm->owner_uid, object->vm.vm->owner_user);
}

static int put_last_placement(Sink *sink, Object *object) {
        int r = object_derive(object);
        bool waits = r >= 0 && object->vm.notes.n > 0;
        const PlacementNote *notes = waits ? object->vm.notes.items : object->vm.vm->notes;
        size_t n = waits ? object->vm.notes.n : object->vm.vm->n_notes;
        if (r >= 0)
                r = sink_open(sink, "(sbs)");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sink_put(sink, "(sbs)", notes[i].node, (int) notes[i].chosen, notes[i].why);
        return r < 0 ? r : sink_close(sink);
}

/* ---- methods */

static int ask_operate(sd_bus_message *m, const Object *object, const char *verb, const Caller **ret,
                       sd_bus_error *error) {
        const Vm *vm = object->vm.vm;
        int r = ask_caller(object->bus, m, ret, error);
        if (r != ASK_GO)
                return r;
        const Right right = {
                .action = ACTION_OPERATE_VM,
                .vm = vm->name,
                .pool = vm->pool,
                .verb = verb,
                .owner = vm->owner_user,
        };
        return ask_right(object->bus, m, &right, error);
}

static Gpupool1__DesireKind desire_of(JobOperation operation) {
        switch (operation) {
        case JOB_START:
                return GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RUN;
        case JOB_SHUTDOWN:
                return GPUPOOL1__DESIRE_KIND__DESIRE_KIND_SHUTDOWN;
        case JOB_RESTART:
                return GPUPOOL1__DESIRE_KIND__DESIRE_KIND_RESTART;
        case JOB_STOP:
        case JOB_MOVE:
        case JOB_DRAIN:
        case JOB_DEFRAGMENT:
        case JOB_JOIN:
        case JOB_OPERATION_COUNT:
                break;
        }
        return GPUPOOL1__DESIRE_KIND__DESIRE_KIND_STOP;
}

static int operate(sd_bus_message *m, Object *object, JobOperation operation, const RequestOption *request,
                   uint64_t timeout_ms, sd_bus_error *error) {
        const Caller *caller;
        int r = ask_operate(m, object, job_operation_to_text(operation), &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__SetDesired command = GPUPOOL1__SET_DESIRED__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        command.desire = desire_of(operation);
        command.timeout_ms = timeout_ms;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_SET_DESIRED;
        entry.set_desired = &command;
        return request_operate(object->bus, m, caller, ACTION_OPERATE_VM, request, &entry, operation, error);
}

static int operate_plainly(sd_bus_message *m, Object *object, JobOperation operation, sd_bus_error *error) {
        RequestOption request;
        int r = options_read_request(m, &request, error);
        return r < 0 ? r : operate(m, object, operation, &request, 0, error);
}

static METHOD(method_start) {
        return operate_plainly(m, userdata, JOB_START, error);
}

static METHOD(method_stop) {
        return operate_plainly(m, userdata, JOB_STOP, error);
}

static METHOD(method_restart) {
        return operate_plainly(m, userdata, JOB_RESTART, error);
}

static METHOD(method_shutdown) {
        RequestOption request = {};
        uint64_t timeout_ms = 0;
        const Option options[] = {
                { "timeout", "t", option_read_timeout_ms, &timeout_ms, NULL },
                OPTION_REQUEST(&request),
        };
        int r = options_read(m, options, ELEMENTS(options), error);
        return r < 0 ? r : operate(m, userdata, JOB_SHUTDOWN, &request, timeout_ms, error);
}

/* ---- moving */

/* Which node an earlier call with this request id has chosen: then it is the same call. */
static bool find_choice_of_before(Bus *bus, const RequestOption *request, Entry *entry, NodeId *ret) {
        ARRAY_EACH(node, &bus_world(bus)->registry->nodes) {
                entry->move_vm->node = id_message_borrow(node->id.bytes);
                if (!request_is_same(bus, request, entry))
                        continue;
                *ret = node->id;
                return true;
        }
        return false;
}

/* Nothing is stopped for a place that is not there. *target is null where the caller leaves the node to us. A request
 * that the registry knows gets its answer, wherever the VM is by now. */
static int choose_target(Object *object, const RequestOption *request, Entry *entry, NodeId *target,
                         sd_bus_error *error) {
        Bus *bus = object->bus;
        const Vm *vm = object->vm.vm;
        bool open = id_is_null(target->bytes);
        _cleanup_free_ char *sentence = NULL;
        if (open ? find_choice_of_before(bus, request, entry, target) : request_is_known(bus, request))
                return 0;
        if (!vm->run || vm->assignment.phase == ASSIGNMENT_NONE)
                return 0;       /* the registry refuses what does not run */
        int r = move_find(bus_world(bus), vm, open ? NULL : target, target, &sentence);
        return r == MOVE_NO_PLACE ? sd_bus_error_set(error, ERROR_NO_CAPACITY, sentence) : r;
}

static int find_target(Bus *bus, const char *name, NodeId *ret, sd_bus_error *error) {
        if (text_is_empty(name))
                return 0;
        if (!name_is_valid(name))
                return refuse_name("the name of a node", error);
        const NodeRecord *record = registry_find_node_name(bus_world(bus)->registry, name);
        if (!record)
                return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no node %s: see gpupoolctl node list", name);
        *ret = record->id;
        return 0;
}

static METHOD(method_move) {
        Object *object = userdata;
        Bus *bus = object->bus;
        RequestOption request = {};
        const Caller *caller;
        const char *name;
        bool ask_guest = true;
        uint64_t timeout_ms = 0;
        NodeId target = {};
        const Option options[] = {
                { "shutdown", "b", option_read_boolean, &ask_guest, NULL },
                { "timeout", "t", option_read_timeout_ms, &timeout_ms, NULL },
                OPTION_REQUEST(&request),
        };
        int r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = options_read(m, options, ELEMENTS(options), error);
        if (r >= 0)
                r = find_target(bus, name, &target, error);
        if (r >= 0)
                r = ask_operate(m, object, "move", &caller, error);
        if (r != ASK_GO)
                return r;

        Gpupool1__MoveVm command = GPUPOOL1__MOVE_VM__INIT;
        command.vm = id_message_borrow(object->vm.vm->id.bytes);
        command.shutdown = ask_guest;
        command.timeout_ms = timeout_ms;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_MOVE_VM;
        entry.move_vm = &command;
        r = refuse_level(bus, LEVEL_FAILOVER, error);
        if (r >= 0)
                r = choose_target(object, &request, &entry, &target, error);
        if (r < 0) {
                ask_done(bus, m);
                return r;
        }
        command.node = id_is_null(target.bytes) ? (ProtobufCBinaryData) {} : id_message_borrow(target.bytes);
        return request_operate(bus, m, caller, ACTION_OPERATE_VM, &request, &entry, JOB_MOVE, error);
}

/* ---- why not */

static int append_reason(sd_bus_message *reply, const PlacementReason *reason) {
        return sd_bus_message_append(reply, "(sss)", reason->code, reason->sentence,
                                     reason->remedy ? reason->remedy : "");
}

static int append_answer(sd_bus_message *reply, const World *world, const PlacementAnswer *answer) {
        int r = sd_bus_message_open_container(reply, 'r', "sba(sss)");
        if (r >= 0)
                r = sd_bus_message_append(reply, "sb", world_node_name(world, &answer->node), (int) answer->fits);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sss)");
        for (size_t i = 0; r >= 0 && i < answer->n_reasons; i++)
                r = append_reason(reply, answer->reasons + i);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static METHOD(method_explain) {
        Object *object = userdata;
        const World *world = bus_world(object->bus);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(placement_clear) Placement placement = {};
        int r = options_read_none(m, error);
        if (r >= 0)
                r = placement_find(world, object->vm.vm, &placement);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sba(sss))");
        for (size_t i = 0; r >= 0 && i < placement.n_answers; i++)
                r = append_answer(reply, world, placement.answers + i);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static const Property properties[] = {
        { "Name", "s", PROPERTY_CHANGES, put_name },
        { "Uuid", "s", PROPERTY_CONST, put_uuid },
        { "Requirement", "(su)", PROPERTY_CHANGES, put_requirement },
        { "Model", "s", PROPERTY_CHANGES, put_model },
        { "Desired", "s", PROPERTY_CHANGES, put_desired },
        { "State", "s", PROPERTY_CHANGES, put_state },
        { "Reason", "(ss)", PROPERTY_CHANGES, put_reason },
        { "Node", "o", PROPERTY_CHANGES, put_node },
        { "Gpus", "ao", PROPERTY_CHANGES, put_gpus },
        { "Epoch", "t", PROPERTY_CHANGES, put_epoch },
        { "Priority", "i", PROPERTY_CHANGES, put_priority },
        { "Preempt", "b", PROPERTY_CHANGES, put_preempt },
        { "Preemptible", "b", PROPERTY_CHANGES, put_preemptible },
        { "RestartPolicy", "s", PROPERTY_CHANGES, put_restart_policy },
        { "Affinity", "a(ss)", PROPERTY_CHANGES, put_affinity },
        { "PreferredNodes", "as", PROPERTY_CHANGES, put_preferred_nodes },
        { "Owner", "(us)", PROPERTY_CHANGES, put_owner },
        { "LastPlacement", "a(sbs)", PROPERTY_CHANGES, put_last_placement },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Start", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_start,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Shutdown", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_shutdown,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_stop,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Restart", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_restart,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Move", SD_BUS_ARGS("s", node, "a{sv}", options), SD_BUS_RESULT("o", job),
                                method_move, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetRequirement", SD_BUS_ARGS("s", pool, "u", count, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_set_requirement, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetPolicy", SD_BUS_ARGS("a{sv}", policy, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_set_vm_policy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Update", SD_BUS_ARGS("s", xml, "a{sv}", options), SD_BUS_NO_RESULT, method_update_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("GetXML", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", xml), method_get_xml,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("Delete", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_delete_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Defragment", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                                method_defragment, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Explain", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(sba(sss))", nodes),
                                method_explain, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

const Face vm_face = {
        .interface = INTERFACE_VM,
        .root = OBJECT_VM,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
