/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.Node */

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/fence.h"
#include "core/names.h"
#include "util/text.h"

static const NodeId *id_of(const Object *object) {
        return object->node.record ? &object->node.record->id : &object->node.facts->node;
}

static int put_id(Sink *sink, Object *object) {
        char id[ID_TEXT_SIZE];
        id_to_text(id_of(object)->bytes, id);
        return sink_put(sink, "s", id);
}

static int put_name(Sink *sink, Object *object) {
        return sink_put(sink, "s", world_node_name(bus_world(object->bus), id_of(object)));
}

static int put_texts(Sink *sink, const TextList *list) {
        int r = sink_open(sink, "s");
        for (size_t i = 0; r >= 0 && list && i < list->n; i++)
                r = sink_put(sink, "s", list->items[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_addresses(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        const NodeFacts *facts = object->node.facts;
        return put_texts(sink, record ? &record->addresses : &facts->addresses);
}

static int put_state(Sink *sink, Object *object) {
        return sink_put(sink, "s", node_state_to_text(world_node_state(bus_world(object->bus), id_of(object))));
}

static int put_silent_since(Sink *sink, Object *object) {
        const World *world = bus_world(object->bus);
        const NodeLife *life = world_find_life(world, id_of(object));
        bool silent = life && world_node_state(world, id_of(object)) == NODE_STATE_SILENT;
        return sink_put(sink, "t", silent ? life->silent_since_ms * 1000 : UINT64_C(0));
}

static int put_role(Sink *sink, Object *object) {
        return sink_put(sink, "s", world_node_role_text(bus_world(object->bus), id_of(object)));
}

static int put_boot_id(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        const NodeFacts *facts = object->node.facts;
        return sink_put(sink, "s", facts ? facts->boot_id : record->boot_id);
}

static int put_kernel(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->node.facts ? object->node.facts->kernel : NULL);
}

/* "libvirt 9.0.0" -> { "libvirt": "9.0.0" } */
static int put_version(Sink *sink, const char *version) {
        char program[64];
        const char *space = strchr(version, ' ');
        if (!space || (size_t) (space - version) >= sizeof(program))
                return 0;
        memcpy(program, version, (size_t) (space - version));
        program[space - version] = '\0';
        return sink_put(sink, "{ss}", program, space + 1);
}

static int put_versions(Sink *sink, Object *object) {
        const NodeFacts *facts = object->node.facts;
        int r = sink_open(sink, "{ss}");
        for (size_t i = 0; r >= 0 && facts && i < facts->versions.n; i++)
                r = put_version(sink, facts->versions.items[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_cpu_model(Sink *sink, Object *object) {
        return sink_put(sink, "s", object->node.facts ? object->node.facts->cpu_model : NULL);
}

static int put_memory_total(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->node.facts ? object->node.facts->memory_total : UINT64_C(0));
}

static int put_memory_free(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->node.facts ? object->node.facts->memory_free : UINT64_C(0));
}

static int put_hugepages(Sink *sink, Object *object) {
        const NodeFacts *facts = object->node.facts;
        int r = sink_open(sink, "(ttt)");
        for (size_t i = 0; r >= 0 && facts && i < facts->n_hugepages; i++) {
                const Hugepages *pages = facts->hugepages + i;
                r = sink_put(sink, "(ttt)", pages->size_bytes, pages->total, pages->free);
        }
        return r < 0 ? r : sink_close(sink);
}

static int put_evidence(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        bool lost = record && world_node_state(bus_world(object->bus), &record->id) == NODE_STATE_LOST;
        return sink_put(sink, "s", lost ? loss_evidence_to_text(record->evidence) : "");
}

static int put_drain_cause(Sink *sink, Object *object) {
        static const char *const words[DRAIN_CAUSE_COUNT] = {
                [DRAIN_NONE] = "",
                [DRAIN_BY_HAND] = "by-hand",
                [DRAIN_FLAPPING] = "flapping",
        };
        const NodeRecord *record = object->node.record;
        return sink_put(sink, "s", words[record ? record->drain : DRAIN_NONE]);
}

static int put_fencing(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        return sink_put(sink, "s", record ? record->fence.agent : NULL);
}

static int put_fencing_action(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        bool fenced = record && record->fence.agent;
        return sink_put(sink, "s", fenced ? fence_action(&record->fence) : "");
}

static int put_fencing_state(Sink *sink, Object *object) {
        const NodeRecord *record = object->node.record;
        if (!record)
                return sink_put(sink, "(ss)", "", "");
        const FencedNode *fenced = world_find_fenced(bus_world(object->bus), &record->id);
        const FencedNode nothing = { .node = record->id };
        if (!fenced)
                fenced = &nothing;
        _cleanup_free_ char *sentence = NULL;
        int r = fence_state_sentence(record, fenced, &sentence);
        return r < 0 ? r : sink_put(sink, "(ss)", fence_state_text(&record->fence, fenced->phase),
                                    sentence ? sentence : "");
}

static int put_watchdog(Sink *sink, Object *object) {
        return sink_put(sink, "t", object->node.facts ? object->node.facts->watchdog_us : UINT64_C(0));
}

static int put_virtualization(Sink *sink, Object *object) {
        const NodeFacts *facts = object->node.facts;
        bool real = !facts || text_equal(facts->virtualization, "none");
        return sink_put(sink, "s", real ? "" : facts->virtualization);
}

static int put_hypervisor(Sink *sink, Object *object) {
        const NodeFacts *facts = object->node.facts;
        return sink_put(sink, "s", hypervisor_state_to_text(facts ? facts->hypervisor : HYPERVISOR_ABSENT));
}

static int put_guard(Sink *sink, Object *object) {
        const NodeFacts *facts = object->node.facts;
        return sink_put(sink, "s", facts && facts->guard_connected ? "connected" : "absent");
}

static const Property properties[] = {
        { "Id", "s", PROPERTY_CONST, put_id },
        { "Name", "s", PROPERTY_CHANGES, put_name },
        { "Addresses", "as", PROPERTY_CHANGES, put_addresses },
        { "State", "s", PROPERTY_CHANGES, put_state },
        { "SilentSince", "t", PROPERTY_CHANGES, put_silent_since },
        { "Evidence", "s", PROPERTY_CHANGES, put_evidence },
        { "DrainCause", "s", PROPERTY_CHANGES, put_drain_cause },
        { "Role", "s", PROPERTY_CHANGES, put_role },
        { "BootId", "s", PROPERTY_CHANGES, put_boot_id },
        { "Kernel", "s", PROPERTY_CHANGES, put_kernel },
        { "Versions", "a{ss}", PROPERTY_CHANGES, put_versions },
        { "CpuModel", "s", PROPERTY_CHANGES, put_cpu_model },
        { "MemoryTotal", "t", PROPERTY_CHANGES, put_memory_total },
        { "MemoryFree", "t", PROPERTY_SILENT, put_memory_free },
        { "Hugepages", "a(ttt)", PROPERTY_CHANGES, put_hugepages },
        { "Fencing", "s", PROPERTY_CHANGES, put_fencing },
        { "FencingAction", "s", PROPERTY_CHANGES, put_fencing_action },
        { "FencingState", "(ss)", PROPERTY_CHANGES, put_fencing_state },
        { "Virtualization", "s", PROPERTY_CHANGES, put_virtualization },
        { "Hypervisor", "s", PROPERTY_CHANGES, put_hypervisor },
        { "Guard", "s", PROPERTY_CHANGES, put_guard },
        { "WatchdogUSec", "t", PROPERTY_CHANGES, put_watchdog },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Drain", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_drain,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_resume,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_remove_node,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetFencing", SD_BUS_ARGS("s", agent, "a{ss}", parameters, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_set_fencing,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("ConfirmDown", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_confirm_down,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

const Face node_face = {
        .interface = INTERFACE_NODE,
        .root = OBJECT_NODE,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
