/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/objects.h"

#include <errno.h>
#include <string.h>

#include "core/names.h"
#include "ctl/must.h"

/* One property: its name, the type that is read, and where it goes. A value of another type is passed over. */
typedef struct Property {
        const char *name;
        const char *type;
        size_t offset;
        int (*read)(sd_bus_message *message, void *field);      /* NULL: a basic type or a list of text */
} Property;

#define PROPERTY(object, name, type, member) { name, type, offsetof(object, member), NULL }
#define PROPERTY_READ(object, name, type, member, read) { name, type, offsetof(object, member), read }

static int read_text(sd_bus_message *m, char **field) {
        const char *text;
        int r = sd_bus_message_read_basic(m, 's', &text);
        if (r < 0)
                return r;
        free(*field);
        *field = must_copy(text);
        return 0;
}

static int read_path(sd_bus_message *m, char **field) {
        const char *text;
        int r = sd_bus_message_read_basic(m, 'o', &text);
        if (r < 0)
                return r;
        free(*field);
        *field = must_copy(text);
        return 0;
}

static int read_list(sd_bus_message *m, char type, TextList *list) {
        text_list_clear(list);
        int r = sd_bus_message_enter_container(m, 'a', (const char[]) { type, 0 });
        if (r < 0)
                return r;
        const char *text;
        while ((r = sd_bus_message_read_basic(m, type, &text)) > 0)
                must_list_add(list, text);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_basic(sd_bus_message *m, const char *type, void *field) {
        int truth;
        int r;
        switch (type[0]) {
        case 's':
                return read_text(m, field);
        case 'o':
                return read_path(m, field);
        case 'a':
                return read_list(m, type[1], field);
        case 'b':
                r = sd_bus_message_read_basic(m, 'b', &truth);
                if (r >= 0)
                        *(bool *) field = truth;
                return r;
        default:
                return sd_bus_message_read_basic(m, type[0], field);
        }
}

static int read_properties(sd_bus_message *m, const Property *properties, size_t n, void *object) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name, *contents;
                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                r = sd_bus_message_peek_type(m, NULL, &contents);
                if (r < 0)
                        return r;

                const Property *known = NULL;
                for (size_t i = 0; i < n && !known; i++)
                        if (text_equal(properties[i].name, name) && text_equal(properties[i].type, contents))
                                known = properties + i;
                if (!known) {
                        r = sd_bus_message_skip(m, "v");
                } else {
                        r = sd_bus_message_enter_container(m, 'v', contents);
                        if (r < 0)
                                return r;
                        void *field = (char *) object + known->offset;
                        r = known->read ? known->read(m, field) : read_basic(m, known->type, field);
                        if (r < 0)
                                return r;
                        r = sd_bus_message_exit_container(m);
                }
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static void pairs_clear(Pairs *pairs) {
        ARRAY_EACH(pair, pairs) {
                free(pair->first);
                free(pair->second);
        }
        array_clear(pairs);
}

/* Reads a(ss), or with @entry 'e' a{ss}. */
static int read_pairs_of(sd_bus_message *m, char entry, Pairs *pairs) {
        pairs_clear(pairs);
        int r = sd_bus_message_enter_container(m, 'a', entry == 'e' ? "{ss}" : "(ss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, entry, "ss")) > 0) {
                const char *first, *second;
                r = sd_bus_message_read(m, "ss", &first, &second);
                if (r < 0)
                        return r;
                Pair pair = { must_copy(first), must_copy(second) };
                MUST(array_append(pairs, &pair));
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_pairs(sd_bus_message *m, void *field) {
        return read_pairs_of(m, 'r', field);
}

static int read_map(sd_bus_message *m, void *field) {
        return read_pairs_of(m, 'e', field);
}

static int read_rules(sd_bus_message *m, void *field) {
        Rules *rules = field;
        int r = sd_bus_message_enter_container(m, 'a', "a{ss}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                Pairs rule = {};
                r = read_pairs_of(m, 'e', &rule);
                if (r < 0)
                        return r;
                MUST(array_append(rules, &rule));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_hugepages(sd_bus_message *m, void *field) {
        __typeof__(((NodeObject *) NULL)->hugepages) *row = field;
        Hugepages item;
        int r = sd_bus_message_enter_container(m, 'a', "(ttt)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(ttt)", &item.size_bytes, &item.total, &item.free)) > 0)
                MUST(array_append(row, &item));
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_holders(sd_bus_message *m, void *field) {
        __typeof__(((GpuObject *) NULL)->holders) *row = field;
        uint32_t pid;
        const char *command;
        int r = sd_bus_message_enter_container(m, 'a', "(us)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(us)", &pid, &command)) > 0) {
                Holder item = { .pid = pid, .command = must_copy(command) };
                MUST(array_append(row, &item));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_functions(sd_bus_message *m, void *field) {
        __typeof__(((GpuObject *) NULL)->functions) *row = field;
        const char *address, *driver, *description;
        uint32_t class;
        int r = sd_bus_message_enter_container(m, 'a', "(suss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(suss)", &address, &class, &driver, &description)) > 0) {
                Function item = { must_copy(address), class, must_copy(driver), must_copy(description) };
                MUST(array_append(row, &item));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_bars(sd_bus_message *m, void *field) {
        __typeof__(((GpuObject *) NULL)->bars) *row = field;
        Bar item;
        int prefetchable;
        int r = sd_bus_message_enter_container(m, 'a', "(yttb)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(yttb)", &item.index, &item.start, &item.size_bytes, &prefetchable)) > 0) {
                item.prefetchable = prefetchable;
                MUST(array_append(row, &item));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_blockers(sd_bus_message *m, void *field) {
        __typeof__(((GpuObject *) NULL)->blockers) *row = field;
        const char *code, *sentence, *remedy;
        int r = sd_bus_message_enter_container(m, 'a', "(sss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sss)", &code, &sentence, &remedy)) > 0) {
                BlockerFound item = { must_copy(code), must_copy(sentence), must_copy(remedy) };
                MUST(array_append(row, &item));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_last_placement(sd_bus_message *m, void *field) {
        __typeof__(((VmObject *) NULL)->last_placement) *row = field;
        const char *node, *why;
        int chosen;
        int r = sd_bus_message_enter_container(m, 'a', "(sbs)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sbs)", &node, &chosen, &why)) > 0) {
                PlacementNote item = { must_copy(node), chosen, must_copy(why) };
                MUST(array_append(row, &item));
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_plan(sd_bus_message *m, void *field) {
        return planned_moves_read(field, m);
}

/* The three structs that are properties by themselves are read into the whole VM or job. */
static int read_requirement(sd_bus_message *m, void *field) {
        VmObject *vm = field;
        const char *pool;
        int r = sd_bus_message_read(m, "(su)", &pool, &vm->gpus_needed);
        if (r >= 0)
                MUST(text_set(&vm->pool, pool));
        return r;
}

static int read_reason(sd_bus_message *m, void *field) {
        VmObject *vm = field;
        const char *code, *sentence;
        int r = sd_bus_message_read(m, "(ss)", &code, &sentence);
        if (r < 0)
                return r;
        MUST(text_set(&vm->reason_code, code));
        MUST(text_set(&vm->reason, sentence));
        return 0;
}

static int read_fencing_state(sd_bus_message *m, void *field) {
        NodeObject *node = field;
        const char *state, *note;
        int r = sd_bus_message_read(m, "(ss)", &state, &note);
        if (r < 0)
                return r;
        MUST(text_set(&node->fencing_state, state));
        MUST(text_set(&node->fencing_note, note));
        return 0;
}

static int read_owner(sd_bus_message *m, void *field) {
        VmObject *vm = field;
        const char *name;
        int r = sd_bus_message_read(m, "(us)", &vm->owner_uid, &name);
        if (r >= 0)
                MUST(text_set(&vm->owner, name));
        return r;
}

static int read_started_by(sd_bus_message *m, void *field) {
        JobObject *job = field;
        const char *name;
        int r = sd_bus_message_read(m, "(us)", &job->started_by_uid, &name);
        if (r >= 0)
                MUST(text_set(&job->started_by, name));
        return r;
}

static const Property cluster_properties[] = {
        PROPERTY(ClusterObject, "ClusterId", "s", id),
        PROPERTY(ClusterObject, "ClusterName", "s", name),
        PROPERTY(ClusterObject, "LocalNode", "o", local_node),
        PROPERTY(ClusterObject, "Leader", "o", leader),
        PROPERTY(ClusterObject, "Quorate", "b", quorate),
        PROPERTY(ClusterObject, "Voters", "ao", voters),
        PROPERTY(ClusterObject, "FunctionalLevel", "u", functional_level),
        PROPERTY(ClusterObject, "SupportedLevel", "u", supported_level),
        PROPERTY(ClusterObject, "Version", "s", version),
        PROPERTY(ClusterObject, "Features", "as", features),
        PROPERTY(ClusterObject, "Frozen", "b", frozen),
        PROPERTY(ClusterObject, "FrozenSeconds", "t", frozen_s),
};

static const Property node_properties[] = {
        PROPERTY(NodeObject, "Id", "s", id),
        PROPERTY(NodeObject, "Name", "s", name),
        PROPERTY(NodeObject, "Addresses", "as", addresses),
        PROPERTY(NodeObject, "State", "s", state),
        PROPERTY(NodeObject, "SilentSince", "t", silent_since_us),
        PROPERTY(NodeObject, "Evidence", "s", evidence),
        PROPERTY(NodeObject, "DrainCause", "s", drain_cause),
        PROPERTY(NodeObject, "Role", "s", role),
        PROPERTY(NodeObject, "BootId", "s", boot_id),
        PROPERTY(NodeObject, "Kernel", "s", kernel),
        PROPERTY_READ(NodeObject, "Versions", "a{ss}", versions, read_map),
        PROPERTY(NodeObject, "CpuModel", "s", cpu_model),
        PROPERTY(NodeObject, "MemoryTotal", "t", memory_total_bytes),
        PROPERTY(NodeObject, "MemoryFree", "t", memory_free_bytes),
        PROPERTY_READ(NodeObject, "Hugepages", "a(ttt)", hugepages, read_hugepages),
        PROPERTY(NodeObject, "Fencing", "s", fencing),
        PROPERTY(NodeObject, "FencingAction", "s", fencing_action),
        { "FencingState", "(ss)", 0, read_fencing_state },
        PROPERTY(NodeObject, "Virtualization", "s", virtualization),
        PROPERTY(NodeObject, "Hypervisor", "s", hypervisor),
        PROPERTY(NodeObject, "Guard", "s", guard),
        PROPERTY(NodeObject, "WatchdogUSec", "t", watchdog_us),
};

static const Property gpu_properties[] = {
        PROPERTY(GpuObject, "Name", "s", name),
        PROPERTY(GpuObject, "Node", "o", node),
        PROPERTY(GpuObject, "Address", "s", address),
        PROPERTY(GpuObject, "SlotPath", "s", slot_path),
        PROPERTY(GpuObject, "Serial", "s", serial),
        PROPERTY(GpuObject, "VendorId", "q", vendor_id),
        PROPERTY(GpuObject, "DeviceId", "q", device_id),
        PROPERTY(GpuObject, "SubsystemVendorId", "q", subsystem_vendor_id),
        PROPERTY(GpuObject, "SubsystemDeviceId", "q", subsystem_device_id),
        PROPERTY(GpuObject, "Vendor", "s", vendor),
        PROPERTY(GpuObject, "Device", "s", device),
        PROPERTY(GpuObject, "Class", "u", class),
        PROPERTY(GpuObject, "Driver", "s", driver),
        PROPERTY_READ(GpuObject, "Holders", "a(us)", holders, read_holders),
        PROPERTY(GpuObject, "IommuGroup", "i", iommu_group),
        PROPERTY_READ(GpuObject, "Functions", "a(suss)", functions, read_functions),
        PROPERTY(GpuObject, "NumaNode", "i", numa_node),
        PROPERTY_READ(GpuObject, "Bars", "a(yttb)", bars, read_bars),
        PROPERTY(GpuObject, "LinkSpeed", "s", link_speed),
        PROPERTY(GpuObject, "LinkWidth", "u", link_width),
        PROPERTY(GpuObject, "LinkSpeedMax", "s", link_speed_max),
        PROPERTY(GpuObject, "LinkWidthMax", "u", link_width_max),
        PROPERTY(GpuObject, "Vram", "t", vram_bytes),
        PROPERTY(GpuObject, "Vbios", "s", vbios),
        PROPERTY(GpuObject, "ResetMethods", "as", reset_methods),
        PROPERTY(GpuObject, "Parent", "s", parent),
        PROPERTY(GpuObject, "Siblings", "ao", siblings),
        PROPERTY(GpuObject, "State", "s", state),
        PROPERTY(GpuObject, "QuarantineReason", "s", quarantine_reason),
        PROPERTY(GpuObject, "Assignable", "b", assignable),
        PROPERTY_READ(GpuObject, "Blockers", "a(sss)", blockers, read_blockers),
        PROPERTY(GpuObject, "Pool", "o", pool),
        PROPERTY(GpuObject, "VM", "o", vm),
};

static const Property pool_properties[] = {
        PROPERTY(PoolObject, "Name", "s", name),
        PROPERTY(PoolObject, "Gpus", "ao", gpus),
        PROPERTY_READ(PoolObject, "Rules", "aa{ss}", rules, read_rules),
        PROPERTY(PoolObject, "Placement", "s", placement),
        PROPERTY(PoolObject, "Mixed", "as", mixed),
        PROPERTY(PoolObject, "Reserve", "u", reserve),
        PROPERTY(PoolObject, "MaxInUse", "u", max_in_use),
        PROPERTY(PoolObject, "AfterUse", "s", after_use),
        PROPERTY(PoolObject, "Total", "u", total),
        PROPERTY(PoolObject, "Usable", "u", usable),
        PROPERTY(PoolObject, "Free", "u", free),
        PROPERTY(PoolObject, "LargestFree", "u", largest_free),
        PROPERTY(PoolObject, "Survives", "u", survives),
        PROPERTY(PoolObject, "AtRisk", "ao", at_risk),
};

static const Property vm_properties[] = {
        PROPERTY(VmObject, "Name", "s", name),
        PROPERTY(VmObject, "Uuid", "s", uuid),
        { "Requirement", "(su)", 0, read_requirement },
        PROPERTY(VmObject, "Model", "s", model),
        PROPERTY(VmObject, "Desired", "s", desired),
        PROPERTY(VmObject, "State", "s", state),
        { "Reason", "(ss)", 0, read_reason },
        PROPERTY(VmObject, "Node", "o", node),
        PROPERTY(VmObject, "Gpus", "ao", gpus),
        PROPERTY(VmObject, "Epoch", "t", epoch),
        PROPERTY(VmObject, "Priority", "i", priority),
        PROPERTY(VmObject, "Preempt", "b", preempt),
        PROPERTY(VmObject, "Preemptible", "b", preemptible),
        PROPERTY(VmObject, "RestartPolicy", "s", restart_policy),
        PROPERTY_READ(VmObject, "Affinity", "a(ss)", affinity, read_pairs),
        PROPERTY(VmObject, "PreferredNodes", "as", preferred_nodes),
        { "Owner", "(us)", 0, read_owner },
        PROPERTY_READ(VmObject, "LastPlacement", "a(sbs)", last_placement, read_last_placement),
};

static const Property job_properties[] = {
        PROPERTY(JobObject, "Id", "t", id),
        PROPERTY(JobObject, "Operation", "s", operation),
        PROPERTY(JobObject, "Object", "o", object),
        PROPERTY(JobObject, "State", "s", state),
        PROPERTY(JobObject, "Progress", "d", progress),
        PROPERTY(JobObject, "Stage", "s", stage),
        { "StartedBy", "(us)", 0, read_started_by },
        PROPERTY(JobObject, "StartedAt", "t", started_at_us),
        PROPERTY(JobObject, "Result", "s", result),
        PROPERTY(JobObject, "Error", "s", error),
        PROPERTY(JobObject, "Message", "s", message),
        PROPERTY_READ(JobObject, "Plan", "a(osos)", plan, read_plan),
};

/* What a property holds that the service did not give: empty text, never NULL, so that no reader need ask. */
static void fill_empty(const Property *properties, size_t n, void *object) {
        for (size_t i = 0; i < n; i++) {
                char **field = (char **) ((char *) object + properties[i].offset);
                if (properties[i].read || (properties[i].type[0] != 's' && properties[i].type[0] != 'o') || *field)
                        continue;
                *field = must_copy(properties[i].type[0] == 'o' ? OBJECT_NONE : "");
        }
}

static void fill_text(char **field) {
        if (!*field)
                *field = must_copy("");
}

/* Frees what the simple properties own; the rows of structs are freed by their own object. */
static void clear_simple(const Property *properties, size_t n, void *object) {
        for (size_t i = 0; i < n; i++) {
                void *field = (char *) object + properties[i].offset;
                if (properties[i].read)
                        continue;
                if (properties[i].type[0] == 's' || properties[i].type[0] == 'o')
                        freep(field);
                else if (properties[i].type[0] == 'a')
                        text_list_clear(field);
        }
}

static void node_clear(NodeObject *node) {
        clear_simple(node_properties, ELEMENTS(node_properties), node);
        pairs_clear(&node->versions);
        array_clear(&node->hugepages);
        free(node->fencing_state);
        free(node->fencing_note);
        free(node->path);
}

static void gpu_clear(GpuObject *gpu) {
        clear_simple(gpu_properties, ELEMENTS(gpu_properties), gpu);
        ARRAY_EACH(holder, &gpu->holders)
                free(holder->command);
        array_clear(&gpu->holders);
        ARRAY_EACH(function, &gpu->functions) {
                free(function->address);
                free(function->driver);
                free(function->description);
        }
        array_clear(&gpu->functions);
        array_clear(&gpu->bars);
        ARRAY_EACH(blocker, &gpu->blockers) {
                free(blocker->code);
                free(blocker->sentence);
                free(blocker->remedy);
        }
        array_clear(&gpu->blockers);
        free(gpu->path);
}

static void pool_clear(PoolObject *pool) {
        clear_simple(pool_properties, ELEMENTS(pool_properties), pool);
        ARRAY_EACH(rule, &pool->rules)
                pairs_clear(rule);
        array_clear(&pool->rules);
        free(pool->path);
}

static void vm_clear(VmObject *vm) {
        clear_simple(vm_properties, ELEMENTS(vm_properties), vm);
        free(vm->pool);
        free(vm->reason_code);
        free(vm->reason);
        free(vm->owner);
        pairs_clear(&vm->affinity);
        ARRAY_EACH(note, &vm->last_placement) {
                free(note->node);
                free(note->why);
        }
        array_clear(&vm->last_placement);
        free(vm->path);
}

void job_object_clear(JobObject *job) {
        clear_simple(job_properties, ELEMENTS(job_properties), job);
        planned_moves_clear(&job->plan);
        free(job->started_by);
        free(job->path);
        *job = (JobObject) {};
}

Objects *objects_new(void) {
        return must_zero(sizeof(Objects));
}

Objects *objects_free(Objects *objects) {
        if (!objects)
                return NULL;
        clear_simple(cluster_properties, ELEMENTS(cluster_properties), &objects->cluster);
        ARRAY_EACH(node, &objects->nodes)
                node_clear(node);
        ARRAY_EACH(gpu, &objects->gpus)
                gpu_clear(gpu);
        ARRAY_EACH(pool, &objects->pools)
                pool_clear(pool);
        ARRAY_EACH(vm, &objects->vms)
                vm_clear(vm);
        ARRAY_EACH(job, &objects->jobs)
                job_object_clear(job);
        array_clear(&objects->nodes);
        array_clear(&objects->gpus);
        array_clear(&objects->pools);
        array_clear(&objects->vms);
        array_clear(&objects->jobs);
        array_clear(&objects->places);
        free(objects);
        return NULL;
}

int objects_read_cluster(Objects *objects, sd_bus_message *answer) {
        int r = read_properties(answer, cluster_properties, ELEMENTS(cluster_properties), &objects->cluster);
        fill_empty(cluster_properties, ELEMENTS(cluster_properties), &objects->cluster);
        return r;
}

int job_object_read(JobObject *job, sd_bus_message *answer) {
        int r = read_properties(answer, job_properties, ELEMENTS(job_properties), job);
        fill_empty(job_properties, ELEMENTS(job_properties), job);
        fill_text(&job->started_by);
        return r;
}

static int read_node(Objects *objects, sd_bus_message *m, const char *path) {
        NodeObject node = { .path = must_copy(path) };
        int r = read_properties(m, node_properties, ELEMENTS(node_properties), &node);
        fill_empty(node_properties, ELEMENTS(node_properties), &node);
        MUST(array_append(&objects->nodes, &node));
        return r;
}

static int read_gpu(Objects *objects, sd_bus_message *m, const char *path) {
        GpuObject gpu = { .path = must_copy(path), .iommu_group = -1, .numa_node = -1 };
        int r = read_properties(m, gpu_properties, ELEMENTS(gpu_properties), &gpu);
        fill_empty(gpu_properties, ELEMENTS(gpu_properties), &gpu);
        MUST(array_append(&objects->gpus, &gpu));
        return r;
}

static int read_pool(Objects *objects, sd_bus_message *m, const char *path) {
        PoolObject pool = { .path = must_copy(path) };
        int r = read_properties(m, pool_properties, ELEMENTS(pool_properties), &pool);
        fill_empty(pool_properties, ELEMENTS(pool_properties), &pool);
        MUST(array_append(&objects->pools, &pool));
        return r;
}

static int read_vm(Objects *objects, sd_bus_message *m, const char *path) {
        VmObject vm = { .path = must_copy(path) };
        int r = read_properties(m, vm_properties, ELEMENTS(vm_properties), &vm);
        fill_empty(vm_properties, ELEMENTS(vm_properties), &vm);
        fill_text(&vm.pool);
        fill_text(&vm.reason_code);
        fill_text(&vm.reason);
        fill_text(&vm.owner);
        MUST(array_append(&objects->vms, &vm));
        return r;
}

static int read_job(Objects *objects, sd_bus_message *m, const char *path) {
        JobObject job = { .path = must_copy(path) };
        int r = job_object_read(&job, m);
        MUST(array_append(&objects->jobs, &job));
        return r;
}

static int read_interface(Objects *objects, sd_bus_message *m, const char *path, const char *interface) {
        if (text_equal(interface, INTERFACE_NODE))
                return read_node(objects, m, path);
        if (text_equal(interface, INTERFACE_GPU))
                return read_gpu(objects, m, path);
        if (text_equal(interface, INTERFACE_POOL))
                return read_pool(objects, m, path);
        if (text_equal(interface, INTERFACE_VM))
                return read_vm(objects, m, path);
        if (text_equal(interface, INTERFACE_JOB))
                return read_job(objects, m, path);
        if (text_equal(interface, INTERFACE_MANAGER))
                return objects_read_cluster(objects, m);
        return sd_bus_message_skip(m, "a{sv}");
}

static int compare_nodes(const void *a, const void *b) {
        return strverscmp(((const NodeObject *) a)->name, ((const NodeObject *) b)->name);
}

static int compare_gpus(const void *a, const void *b) {
        return strverscmp(((const GpuObject *) a)->name, ((const GpuObject *) b)->name);
}

static int compare_pools(const void *a, const void *b) {
        return strverscmp(((const PoolObject *) a)->name, ((const PoolObject *) b)->name);
}

static int compare_vms(const void *a, const void *b) {
        return strverscmp(((const VmObject *) a)->name, ((const VmObject *) b)->name);
}

static int compare_jobs(const void *a, const void *b) {
        uint64_t first = ((const JobObject *) a)->id, second = ((const JobObject *) b)->id;
        return first < second ? -1 : first > second;
}

static int compare_places(const void *a, const void *b) {
        return strcmp(((const Place *) a)->path, ((const Place *) b)->path);
}

#define SORT(row, compare)                                                              \
        do {                                                                            \
                if ((row)->n > 1)                                                       \
                        qsort((row)->items, (row)->n, sizeof(*(row)->items), compare);  \
        } while (0)

#define REMEMBER_PLACES(objects, row, object_kind)                                                              \
        for (size_t i = 0; i < (row)->n; i++) {                                                                 \
                Place place = { .path = (row)->items[i].path, .kind = object_kind, .index = i };                \
                MUST(array_append(&(objects)->places, &place));                                                 \
        }

static void sort(Objects *objects) {
        SORT(&objects->nodes, compare_nodes);
        SORT(&objects->gpus, compare_gpus);
        SORT(&objects->pools, compare_pools);
        SORT(&objects->vms, compare_vms);
        SORT(&objects->jobs, compare_jobs);
        REMEMBER_PLACES(objects, &objects->nodes, KIND_NODE);
        REMEMBER_PLACES(objects, &objects->gpus, KIND_GPU);
        REMEMBER_PLACES(objects, &objects->pools, KIND_POOL);
        REMEMBER_PLACES(objects, &objects->vms, KIND_VM);
        REMEMBER_PLACES(objects, &objects->jobs, KIND_JOB);
        SORT(&objects->places, compare_places);
}

int objects_read(Objects *objects, sd_bus_message *m) {
        int r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                const char *path;
                r = sd_bus_message_read_basic(m, 'o', &path);
                if (r < 0)
                        return r;
                r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
                if (r < 0)
                        return r;
                while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                        const char *interface;
                        r = sd_bus_message_read_basic(m, 's', &interface);
                        if (r < 0)
                                return r;
                        r = read_interface(objects, m, path, interface);
                        if (r < 0)
                                return r;
                        r = sd_bus_message_exit_container(m);
                        if (r < 0)
                                return r;
                }
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        sort(objects);
        return sd_bus_message_exit_container(m);
}

static int compare_path(const void *key, const void *item) {
        return strcmp(key, ((const Place *) item)->path);
}

const Place *objects_place(const Objects *objects, const char *path) {
        size_t i;
        if (!array_find(&objects->places, path, compare_path, &i))
                return NULL;
        return objects->places.items + i;
}

const NodeObject *objects_node(const Objects *objects, const char *path) {
        const Place *place = objects_place(objects, path);
        return place && place->kind == KIND_NODE ? objects->nodes.items + place->index : NULL;
}

const GpuObject *objects_gpu(const Objects *objects, const char *path) {
        const Place *place = objects_place(objects, path);
        return place && place->kind == KIND_GPU ? objects->gpus.items + place->index : NULL;
}

const VmObject *objects_vm(const Objects *objects, const char *path) {
        const Place *place = objects_place(objects, path);
        return place && place->kind == KIND_VM ? objects->vms.items + place->index : NULL;
}
