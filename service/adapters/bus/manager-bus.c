/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.Manager */

#include <errno.h>
#include <stdio.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/check.h"
#include "core/names.h"
#include "util/log.h"
#include "util/text.h"

#define EVENTS_PER_ANSWER_MAX 1000U     /* an answer stays far below what a message may hold */
#define UID_NOBODY UINT32_MAX           /* it happened by itself */

/* What this program carries out of the contract; words are added, never taken away. */
static const char *const features[] = { "pools", "vms", "jobs", "quarantine", "explain", "check", "events", "cluster",
                                        "backup", "failover", "placement", "plan", "defragment" };

/* ---- properties */

static ClusterStatus status_of(Bus *bus) {
        ClusterStatus status = {};
        bus->service->status(bus->service_userdata, &status);
        return status;
}

static int put_cluster_id(Sink *sink, Object *object) {
        char id[ID_TEXT_SIZE];
        id_to_text(bus_world(object->bus)->registry->cluster.bytes, id);
        return sink_put(sink, "s", id);
}

static int put_cluster_name(Sink *sink, Object *object) {
        return sink_put(sink, "s", bus_world(object->bus)->registry->name);
}

static int put_local_node(Sink *sink, Object *object) {
        return sink_put(sink, "o", path_of_node(&bus_world(object->bus)->local).text);
}

static int put_leader(Sink *sink, Object *object) {
        ClusterStatus status = status_of(object->bus);
        return sink_put(sink, "o", path_of_node(&status.leader).text);
}

static int put_quorate(Sink *sink, Object *object) {
        return sink_put(sink, "b", (int) status_of(object->bus).quorate);
}

static int put_voters(Sink *sink, Object *object) {
        ClusterStatus status = status_of(object->bus);
        int r = sink_open(sink, "o");
        for (size_t i = 0; r >= 0 && i < status.n_voters; i++)
                r = sink_put(sink, "o", path_of_node(status.voters + i).text);
        return r < 0 ? r : sink_close(sink);
}

static int put_functional_level(Sink *sink, Object *object) {
        return sink_put(sink, "u", bus_world(object->bus)->registry->level);
}

static int put_supported_level(Sink *sink, Object *object) {
        return sink_put(sink, "u", LEVEL_SUPPORTED);
}

static int put_version(Sink *sink, Object *object) {
        return sink_put(sink, "s", GPUPOOL_VERSION);
}

static int put_features(Sink *sink, Object *object) {
        int r = sink_open(sink, "s");
        for (size_t i = 0; r >= 0 && i < ELEMENTS(features); i++)
                r = sink_put(sink, "s", features[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_frozen(Sink *sink, Object *object) {
        return sink_put(sink, "b", bus_world(object->bus)->registry->frozen_ms > 0);
}

static int put_frozen_seconds(Sink *sink, Object *object) {
        return sink_put(sink, "t", bus_world(object->bus)->registry->frozen_ms / 1000);
}

/* ---- finding */

static int reply_found(sd_bus_message *m, Bus *bus, const Path *path, FaceKind kind, const char *what, const char *name,
                       sd_bus_error *error) {
        if (objects_find_kind(&bus->objects, path->text, kind))
                return sd_bus_reply_method_return(m, "o", path->text);
        return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no %s %s", what, name);
}

static METHOD(method_get_node) {
        Bus *bus = ((Object *) userdata)->bus;
        const char *name;
        NodeId id = {};
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a node", error);
        const NodeRecord *record = registry_find_node_name(bus_world(bus)->registry, name);
        if (record)
                id = record->id;
        else
                (void) id_from_text(name, id.bytes);
        Path path = path_of_node(&id);
        return reply_found(m, bus, &path, FACE_NODE, "node", name, error);
}

/* "node:dddd:bb:dd.f", or "dddd:bb:dd.f" of the node that answers. */
static METHOD(method_get_gpu) {
        Bus *bus = ((Object *) userdata)->bus;
        const World *world = bus_world(bus);
        const char *name;
        char node_name[NAME_LENGTH_MAX + 1];
        NodeId node = world->local;
        PciAddress address;
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;

        if (pci_address_from_text(name, &address) < 0) {
                const char *colon = strchr(name, ':');
                size_t length = colon ? (size_t) (colon - name) : 0;
                if (length == 0 || length >= sizeof(node_name) || pci_address_from_text(colon + 1, &address) < 0)
                        return sd_bus_error_set(error, ERROR_INVALID_ARGUMENT,
                                                "a GPU is named node:dddd:bb:dd.f, such as a:0000:41:00.0");
                memcpy(node_name, name, length);
                node_name[length] = '\0';
                if (!name_is_valid(node_name))
                        return refuse_name("the name of a node", error);
                const NodeRecord *record = registry_find_node_name(world->registry, node_name);
                if (record)
                        node = record->id;
                else if (id_from_text(node_name, node.bytes) < 0)
                        return sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no node %s", node_name);
        }
        Path path = path_of_gpu(&node, address);
        return reply_found(m, bus, &path, FACE_GPU, "GPU", name, error);
}

static METHOD(method_get_pool) {
        Bus *bus = ((Object *) userdata)->bus;
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a pool", error);
        Path path = path_of_pool(name);
        return reply_found(m, bus, &path, FACE_POOL, "pool", name, error);
}

static METHOD(method_get_vm) {
        Bus *bus = ((Object *) userdata)->bus;
        const char *name;
        VmId id = {};
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a VM", error);
        const Vm *vm = registry_find_vm_name(bus_world(bus)->registry, name);
        if (vm)
                id = vm->id;
        else
                (void) id_from_text(name, id.bytes);
        Path path = path_of_vm(&id);
        return reply_found(m, bus, &path, FACE_VM, "VM", name, error);
}

/* ---- asking */

/* NULL: all of them. */
static int read_check_node(sd_bus_message *m, Bus *bus, const NodeRecord **ret, sd_bus_error *error) {
        const char *name = NULL;
        const Option options[] = { { "node", "s", option_read_text, &name, NULL } };
        int r = options_read(m, options, ELEMENTS(options), error);
        if (r < 0 || !name)
                return r;
        if (!name_is_valid(name))
                return refuse_name("the name of a node", error);
        *ret = registry_find_node_name(bus_world(bus)->registry, name);
        return *ret ? 0 : sd_bus_error_setf(error, ERROR_NOT_FOUND, "there is no node %s", name);
}

static METHOD(method_check) {
        Bus *bus = ((Object *) userdata)->bus;
        _cleanup_(check_findings_clear) CheckFindings findings = {};
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const NodeRecord *node = NULL;
        int r = read_check_node(m, bus, &node, error);
        if (r >= 0)
                r = node ? check_one_node(bus_world(bus), node, &findings)
                         : check_cluster(bus_world(bus), status_of(bus).quorate, &findings);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ssoss)");
        ARRAY_EACH(finding, &findings)
                if (r >= 0)
                        r = sd_bus_message_append(reply, "(ssoss)", check_severity_to_text(finding->severity),
                                                  finding->code, path_of_object(finding->kind, finding->object).text,
                                                  finding->sentence, finding->remedy);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

/* An event's members, as the signal and Events() have them. */
static int append_event(sd_bus_message *m, Bus *bus, const Event *event) {
        bool by_itself = text_is_empty(event->user) && text_is_empty(event->action);
        const char *node = id_is_null(event->node.bytes) ? "" : world_node_name(bus_world(bus), &event->node);
        return sd_bus_message_append(m, "ttsosusss", event->sequence, event->time_ms * 1000, event->kind,
                                     path_of_object(event->object_kind, event->object).text, node,
                                     by_itself ? UID_NOBODY : event->uid, event->user, event->action, event->message);
}

static METHOD(method_events) {
        Bus *bus = ((Object *) userdata)->bus;
        const Registry *registry = bus_world(bus)->registry;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        uint64_t since;
        uint32_t most;
        int r = sd_bus_message_read(m, "tu", &since, &most);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ttsosusss)");
        if (most == 0 || most > EVENTS_PER_ANSWER_MAX)
                most = EVENTS_PER_ANSWER_MAX;
        ARRAY_EACH(event, &registry->events) {
                if (event->sequence <= since || most == 0)
                        continue;
                most--;
                if (r >= 0)
                        r = sd_bus_message_open_container(reply, 'r', "ttsosusss");
                if (r >= 0)
                        r = append_event(reply, bus, event);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- signals */

static int emit_event(Bus *bus, const Event *event) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *signal = NULL;
        int r = sd_bus_message_new_signal(bus->connection, &signal, OBJECT_ROOT, INTERFACE_MANAGER, "Event");
        if (r >= 0)
                r = append_event(signal, bus, event);
        return r < 0 ? r : sd_bus_message_send(signal);
}

void bus_emit_event(Bus *bus, const Event *event) {
        if (bus->connection && bus->name_wanted && emit_event(bus, event) < 0)
                log_warning("event %s could not be told", event->kind);
}

static int append_udev_properties(sd_bus_message *m, const char *const *properties) {
        int r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (; r >= 0 && properties && *properties; properties++) {
                const char *equals = strchr(*properties, '=');
                if (!equals || !text_is_printable(*properties))
                        continue;
                _cleanup_free_ char *key = strndup(*properties, (size_t) (equals - *properties));
                r = key ? sd_bus_message_append(m, "{ss}", key, equals + 1) : -ENOMEM;
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int emit_device_event(Bus *bus, const BusDeviceEvent *event) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *signal = NULL;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(event->address, address);
        int r = sd_bus_message_new_signal(bus->connection, &signal, OBJECT_ROOT, INTERFACE_MANAGER, "DeviceEvent");
        if (r >= 0)
                r = sd_bus_message_append(signal, "soss", event->action, path_of_node(&event->node).text, address,
                                          event->subsystem);
        if (r >= 0)
                r = append_udev_properties(signal, event->properties);
        return r < 0 ? r : sd_bus_message_send(signal);
}

void bus_emit_device_event(Bus *bus, const BusDeviceEvent *event) {
        if (bus->connection && bus->name_wanted && emit_device_event(bus, event) < 0)
                log_warning("a device event (%s) could not be told", event->action);
}

static const Property properties[] = {
        { "ClusterId", "s", PROPERTY_CHANGES, put_cluster_id },
        { "ClusterName", "s", PROPERTY_CHANGES, put_cluster_name },
        { "LocalNode", "o", PROPERTY_CHANGES, put_local_node },
        { "Leader", "o", PROPERTY_CHANGES, put_leader },
        { "Quorate", "b", PROPERTY_CHANGES, put_quorate },
        { "Voters", "ao", PROPERTY_CHANGES, put_voters },
        { "FunctionalLevel", "u", PROPERTY_CHANGES, put_functional_level },
        { "SupportedLevel", "u", PROPERTY_CONST, put_supported_level },
        { "Version", "s", PROPERTY_CONST, put_version },
        { "Features", "as", PROPERTY_CONST, put_features },
        { "Frozen", "b", PROPERTY_CHANGES, put_frozen },
        { "FrozenSeconds", "t", PROPERTY_CHANGES, put_frozen_seconds },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreatePool", SD_BUS_ARGS("s", name, "a{sv}", options), SD_BUS_RESULT("o", pool),
                                method_create_pool, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DefineVM", SD_BUS_ARGS("s", xml, "s", pool, "u", count, "a{sv}", options),
                                SD_BUS_RESULT("o", vm), method_define_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("GetNode", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", node), method_get_node,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetGpu", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", gpu), method_get_gpu,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetPool", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", pool), method_get_pool,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVM", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", vm), method_get_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(ssoss)", findings),
                                method_check, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Events", SD_BUS_ARGS("t", since, "u", max), SD_BUS_RESULT("a(ttsosusss)", events),
                                method_events, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Invite", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", token), method_invite,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("Join", SD_BUS_ARGS("s", token, "a{sv}", options), SD_BUS_RESULT("o", job), method_join,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("Leave", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_leave,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reset", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_reset,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetFunctionalLevel", SD_BUS_ARGS("u", level, "a{sv}", options),
                                SD_BUS_RESULT("as", in_the_way), method_set_functional_level,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Plan", SD_BUS_ARGS("a{sv}", changes),
                                SD_BUS_RESULT("a(osssss)", vms, "a(sa(suu))", pools), method_plan,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Freeze", SD_BUS_ARGS("t", seconds, "a{sv}", options), SD_BUS_NO_RESULT, method_freeze,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Thaw", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_thaw,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Export", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", state), method_export,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Import", SD_BUS_ARGS("h", state, "a{sv}", options), SD_BUS_NO_RESULT, method_import,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Event",
                                SD_BUS_ARGS("t", seq, "t", time_us, "s", kind, "o", object, "s", node, "u", uid, "s",
                                            user, "s", action, "s", message), 0),
        SD_BUS_SIGNAL_WITH_ARGS("DeviceEvent",
                                SD_BUS_ARGS("s", action, "o", node, "s", address, "s", subsystem, "a{ss}", properties),
                                0),
        SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("t", id, "o", job), 0),
        SD_BUS_SIGNAL_WITH_ARGS("JobRemoved",
                                SD_BUS_ARGS("t", id, "o", job, "s", result, "s", error, "s", message), 0),
        SD_BUS_VTABLE_END,
};

const Face manager_face = {
        .interface = INTERFACE_MANAGER,
        .root = OBJECT_ROOT,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
