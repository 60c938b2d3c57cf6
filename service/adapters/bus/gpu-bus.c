/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.gpupool1.Gpu */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapters/bus/bus-internal.h"
#include "adapters/bus/methods.h"
#include "core/names.h"
#include "util/text.h"

/* ---- properties */

/* As it is seen, which may tell a serial that the registry does not know. */
static const GpuIdentity *identity_of(const Object *object) {
        const GpuView *view = object->gpu.view;
        return view->facts ? &view->facts->identity : &view->identity;
}

static int put_name(Sink *sink, Object *object) {
        const GpuIdentity *gpu = &object->gpu.view->identity;
        char address[PCI_ADDRESS_TEXT_SIZE], name[NAME_LENGTH_MAX + ID_TEXT_SIZE + PCI_ADDRESS_TEXT_SIZE + 2];
        pci_address_to_text(gpu->address, address);
        (void) snprintf(name, sizeof(name), "%s:%s", world_node_name(bus_world(object->bus), &gpu->node), address);
        return sink_put(sink, "s", name);
}

static int put_node(Sink *sink, Object *object) {
        return sink_put(sink, "o", path_of_node(&object->gpu.view->identity.node).text);
}

static int put_address(Sink *sink, Object *object) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(object->gpu.view->identity.address, address);
        return sink_put(sink, "s", address);
}

static int put_slot_path(Sink *sink, Object *object) {
        return sink_put(sink, "s", identity_of(object)->slot);
}

static int put_serial(Sink *sink, Object *object) {
        return sink_put(sink, "s", identity_of(object)->serial);
}

static int put_vendor_id(Sink *sink, Object *object) {
        return sink_put(sink, "q", identity_of(object)->vendor);
}

static int put_device_id(Sink *sink, Object *object) {
        return sink_put(sink, "q", identity_of(object)->device);
}

static int put_subsystem_vendor_id(Sink *sink, Object *object) {
        return sink_put(sink, "q", identity_of(object)->subsystem_vendor);
}

static int put_subsystem_device_id(Sink *sink, Object *object) {
        return sink_put(sink, "q", identity_of(object)->subsystem_device);
}

static int put_vendor(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->vendor_name : NULL);
}

static int put_device(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->device_name : NULL);
}

static int put_class(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "u", facts ? facts->class : 0);
}

static int put_driver(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->driver : NULL);
}

static int put_holders(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        int r = sink_open(sink, "(us)");
        for (size_t i = 0; r >= 0 && facts && i < facts->n_holders; i++)
                r = sink_put(sink, "(us)", facts->holders[i].pid, facts->holders[i].name);
        return r < 0 ? r : sink_close(sink);
}

static int put_iommu_group(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "i", facts ? facts->iommu_group : -1);
}

/* What goes with it; a stranger in its group is a blocker. */
static int put_functions(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        int r = sink_open(sink, "(suss)");
        for (size_t i = 0; r >= 0 && facts && i < facts->n_functions; i++) {
                const PciFunction *function = facts->functions + i;
                if (!pci_function_goes_along(function))
                        continue;
                char address[PCI_ADDRESS_TEXT_SIZE];
                pci_address_to_text(function->address, address);
                r = sink_put(sink, "(suss)", address, function->class, function->driver, function->description);
        }
        return r < 0 ? r : sink_close(sink);
}

static int put_numa_node(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "i", facts ? facts->numa_node : -1);
}

static int put_bars(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        int r = sink_open(sink, "(yttb)");
        for (unsigned i = 0; r >= 0 && facts && i < PCI_BARS; i++) {
                const GpuBar *bar = facts->bars + i;
                if (bar->size > 0)
                        r = sink_put(sink, "(yttb)", i, bar->start, bar->size, (int) bar->prefetchable_64);
        }
        return r < 0 ? r : sink_close(sink);
}

static int put_link_speed(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->link_speed : NULL);
}

static int put_link_width(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "u", facts ? facts->link_width : 0);
}

static int put_link_speed_max(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->link_speed_max : NULL);
}

static int put_link_width_max(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "u", facts ? facts->link_width_max : 0);
}

static int put_vram(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "t", facts ? facts->vram_bytes : UINT64_C(0));
}

static int put_vbios(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->vbios : NULL);
}

static int put_reset_methods(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        int r = sink_open(sink, "s");
        for (size_t i = 0; r >= 0 && facts && i < facts->reset_methods.n; i++)
                r = sink_put(sink, "s", facts->reset_methods.items[i]);
        return r < 0 ? r : sink_close(sink);
}

static int put_parent(Sink *sink, Object *object) {
        const GpuFacts *facts = object->gpu.view->facts;
        return sink_put(sink, "s", facts ? facts->parent : NULL);
}

static int put_siblings(Sink *sink, Object *object) {
        const GpuView *view = object->gpu.view;
        PciAddresses siblings = {};
        int r = world_list_siblings(bus_world(object->bus), view, &siblings);
        if (r >= 0)
                r = sink_open(sink, "o");
        ARRAY_EACH(address, &siblings)
                if (r >= 0)
                        r = sink_put(sink, "o", path_of_gpu(&view->identity.node, *address).text);
        array_clear(&siblings);
        return r < 0 ? r : sink_close(sink);
}

static int put_state(Sink *sink, Object *object) {
        return sink_put(sink, "s", gpu_state_to_text(object->gpu.view->state));
}

static int put_quarantine_reason(Sink *sink, Object *object) {
        const Quarantine *quarantine = object->gpu.view->quarantine;
        const char *reason = !quarantine ? "" :
                             text_is_empty(quarantine->sentence) ? quarantine_cause_to_sentence(quarantine->cause) :
                             quarantine->sentence;
        return sink_put(sink, "s", reason);
}

static int put_assignable(Sink *sink, Object *object) {
        return sink_put(sink, "b", object->gpu.view->assignable);
}

static int put_blockers(Sink *sink, Object *object) {
        int r = object_derive(object);
        if (r >= 0)
                r = sink_open(sink, "(sss)");
        ARRAY_EACH(blocker, &object->gpu.blockers)
                if (r >= 0)
                        r = sink_put(sink, "(sss)", blocker_code_to_text(blocker->code), blocker->sentence,
                                     blocker->remedy);
        return r < 0 ? r : sink_close(sink);
}

static int put_pool(Sink *sink, Object *object) {
        const Pool *pool = object->gpu.view->pool;
        return sink_put(sink, "o", pool ? path_of_pool(pool->name).text : OBJECT_NONE);
}

static int put_vm(Sink *sink, Object *object) {
        const Vm *vm = object->gpu.view->vm;
        return sink_put(sink, "o", vm ? path_of_vm(&vm->id).text : OBJECT_NONE);
}

/* ---- methods */

static int ask_manage_node(sd_bus_message *m, Object *object, const char *verb, const Caller **ret,
                           sd_bus_error *error) {
        Bus *bus = object->bus;
        int r = ask_caller(bus, m, ret, error);
        if (r != ASK_GO)
                return r;
        const Right right = {
                .action = ACTION_MANAGE_NODE,
                .node = world_node_name(bus_world(bus), &object->gpu.view->identity.node),
                .verb = verb,
        };
        return ask_right(bus, m, &right, error);
}

static METHOD(method_quarantine) {
        Object *object = userdata;
        const char *reason;
        RequestOption request;
        const Caller *caller;
        int r = sd_bus_message_read(m, "s", &reason);
        if (r >= 0)
                r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        if (text_is_empty(reason) || strlen(reason) > TEXT_LENGTH_MAX || !text_is_printable(reason))
                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT,
                                         "a reason is 1 to %u bytes of readable text on one line: say why, for those "
                                         "who find it later", TEXT_LENGTH_MAX);
        r = ask_manage_node(m, object, "quarantine", &caller, error);
        if (r != ASK_GO)
                return r;

        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu gpu;
        Gpupool1__QuarantineGpu command = GPUPOOL1__QUARANTINE_GPU__INIT;
        gpu_message_borrow(&object->gpu.view->identity, address, &gpu);
        command.gpu = &gpu;
        command.cause = GPUPOOL1__QUARANTINE_CAUSE__QUARANTINE_CAUSE_BY_HAND;
        command.sentence = (char *) reason;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_QUARANTINE_GPU;
        entry.quarantine_gpu = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_NODE, &request, &entry, NULL, error);
}

static METHOD(method_release) {
        Object *object = userdata;
        RequestOption request;
        const Caller *caller;
        int r = options_read_request(m, &request, error);
        if (r < 0)
                return r;
        r = ask_manage_node(m, object, "release", &caller, error);
        if (r != ASK_GO)
                return r;

        char address[PCI_ADDRESS_TEXT_SIZE];
        Gpupool1__Gpu gpu;
        Gpupool1__ReleaseGpu command = GPUPOOL1__RELEASE_GPU__INIT;
        const Quarantine *quarantine = object->gpu.view->quarantine;
        gpu_message_borrow(quarantine ? &quarantine->gpu : &object->gpu.view->identity, address, &gpu);
        command.gpu = &gpu;
        Entry entry = GPUPOOL1__ENTRY__INIT;
        entry.command_case = GPUPOOL1__ENTRY__COMMAND_RELEASE_GPU;
        entry.release_gpu = &command;
        return request_submit(object->bus, m, caller, ACTION_MANAGE_NODE, &request, &entry, NULL, error);
}

/* ---- GPUs that other calls name */

void gpu_row_clear(GpuRow *row) {
        free(row->messages);
        free(row->pointers);
        free(row->addresses);
        *row = (GpuRow) {};
}

static int refuse_double(const char *const *paths, size_t n, sd_bus_error *error) {
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < i; k++)
                        if (text_equal(paths[i], paths[k]))
                                return sd_bus_error_setf(error, ERROR_INVALID_ARGUMENT, "%s stands twice in the list",
                                                         paths[i]);
        return 0;
}

int gpu_row_resolve(Bus *bus, const char *const *paths, size_t n, GpuRow *ret, sd_bus_error *error) {
        int r = refuse_double(paths, n, error);
        if (r < 0)
                return r;
        GpuRow row = {
                .messages = calloc(n + 1, sizeof(*row.messages)),
                .pointers = calloc(n + 1, sizeof(*row.pointers)),
                .addresses = calloc(n + 1, sizeof(*row.addresses)),
                .n = n,
        };
        if (!row.messages || !row.pointers || !row.addresses) {
                gpu_row_clear(&row);
                return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++) {
                Object *object = objects_find_kind(&bus->objects, paths[i], FACE_GPU);
                if (!object) {
                        gpu_row_clear(&row);
                        return sd_bus_error_setf(error, ERROR_NOT_FOUND,
                                                 "there is no GPU %s: gpupoolctl gpu lists them",
                                                 fit_to_quote(paths[i]));
                }
                /* What goes into a pool is that card and no other, so it must be known which it is. */
                const GpuView *view = object->gpu.view;
                if (!view->pool && view->facts && !gpu_view_card_is_known(view)) {
                        gpu_row_clear(&row);
                        return sd_bus_error_setf(error, ERROR_BUSY, "which card GPU %s is cannot be read yet: "
                                                 "gpupool-probe does not answer on its node. See there: journalctl -u "
                                                 "'gpupool-probe@*'", fit_to_quote(paths[i]));
                }
                gpu_message_borrow(&view->identity, row.addresses[i], row.messages + i);
                row.pointers[i] = row.messages + i;
        }
        *ret = row;
        return 0;
}

static const Property properties[] = {
        { "Name", "s", PROPERTY_CHANGES, put_name },
        { "Node", "o", PROPERTY_CONST, put_node },
        { "Address", "s", PROPERTY_CONST, put_address },
        { "SlotPath", "s", PROPERTY_CHANGES, put_slot_path },
        { "Serial", "s", PROPERTY_CHANGES, put_serial },
        { "VendorId", "q", PROPERTY_CHANGES, put_vendor_id },
        { "DeviceId", "q", PROPERTY_CHANGES, put_device_id },
        { "SubsystemVendorId", "q", PROPERTY_CHANGES, put_subsystem_vendor_id },
        { "SubsystemDeviceId", "q", PROPERTY_CHANGES, put_subsystem_device_id },
        { "Vendor", "s", PROPERTY_CHANGES, put_vendor },
        { "Device", "s", PROPERTY_CHANGES, put_device },
        { "Class", "u", PROPERTY_CHANGES, put_class },
        { "Driver", "s", PROPERTY_CHANGES, put_driver },
        { "Holders", "a(us)", PROPERTY_CHANGES, put_holders },
        { "IommuGroup", "i", PROPERTY_CHANGES, put_iommu_group },
        { "Functions", "a(suss)", PROPERTY_CHANGES, put_functions },
        { "NumaNode", "i", PROPERTY_CHANGES, put_numa_node },
        { "Bars", "a(yttb)", PROPERTY_CHANGES, put_bars },
        { "LinkSpeed", "s", PROPERTY_CHANGES, put_link_speed },
        { "LinkWidth", "u", PROPERTY_CHANGES, put_link_width },
        { "LinkSpeedMax", "s", PROPERTY_CHANGES, put_link_speed_max },
        { "LinkWidthMax", "u", PROPERTY_CHANGES, put_link_width_max },
        { "Vram", "t", PROPERTY_CHANGES, put_vram },
        { "Vbios", "s", PROPERTY_CHANGES, put_vbios },
        { "ResetMethods", "as", PROPERTY_CHANGES, put_reset_methods },
        { "Parent", "s", PROPERTY_CHANGES, put_parent },
        { "Siblings", "ao", PROPERTY_CHANGES, put_siblings },
        { "State", "s", PROPERTY_CHANGES, put_state },
        { "QuarantineReason", "s", PROPERTY_CHANGES, put_quarantine_reason },
        { "Assignable", "b", PROPERTY_CHANGES, put_assignable },
        { "Blockers", "a(sss)", PROPERTY_CHANGES, put_blockers },
        { "Pool", "o", PROPERTY_CHANGES, put_pool },
        { "VM", "o", PROPERTY_CHANGES, put_vm },
};

static const sd_bus_vtable methods[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Quarantine", SD_BUS_ARGS("s", reason, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_quarantine, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_release,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

const Face gpu_face = {
        .interface = INTERFACE_GPU,
        .root = OBJECT_GPU,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .methods = methods,
};
