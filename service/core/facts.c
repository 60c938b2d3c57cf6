/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/facts.h"

#include <errno.h>
#include <stdlib.h>

#include "util/array.h"
#include "util/cleanup.h"

static int compare_numbers(uint32_t a, uint32_t b) {
        return a < b ? -1 : a > b;
}

/* All but the serial. */
static int compare_place_and_kind(const GpuIdentity *a, const GpuIdentity *b) {
        int c = ID_COMPARE(&a->node, &b->node);
        if (c == 0)
                c = strcmp(a->slot, b->slot);
        if (c == 0)
                c = compare_numbers(a->vendor, b->vendor);
        if (c == 0)
                c = compare_numbers(a->device, b->device);
        if (c == 0)
                c = compare_numbers(a->subsystem_vendor, b->subsystem_vendor);
        if (c == 0)
                c = compare_numbers(a->subsystem_device, b->subsystem_device);
        return c;
}

bool gpu_identity_equal(const GpuIdentity *a, const GpuIdentity *b) {
        return gpu_identity_compare(a, b) == 0;
}

int gpu_identity_compare(const GpuIdentity *a, const GpuIdentity *b) {
        int c = compare_place_and_kind(a, b);
        return c != 0 ? c : strcmp(a->serial, b->serial);
}

bool gpu_identity_matches(const GpuIdentity *meant, const GpuIdentity *seen) {
        if (compare_place_and_kind(meant, seen) != 0)
                return false;
        return !meant->serial[0] || !seen->serial[0] || text_equal(meant->serial, seen->serial);
}

static void clear_function(PciFunction *function) {
        free(function->driver);
        free(function->description);
}

static void clear_functions(GpuFacts *gpu) {
        for (size_t i = 0; i < gpu->n_functions; i++)
                clear_function(&gpu->functions[i]);
        free(gpu->functions);
        gpu->functions = NULL;
        gpu->n_functions = 0;
}

void gpu_facts_clear_holders(GpuFacts *gpu) {
        for (size_t i = 0; i < gpu->n_holders; i++)
                free(gpu->holders[i].name);
        free(gpu->holders);
        gpu->holders = NULL;
        gpu->n_holders = 0;
}

void gpu_facts_clear(GpuFacts *gpu) {
        clear_functions(gpu);
        gpu_facts_clear_holders(gpu);
        text_list_clear(&gpu->reserved_regions);
        text_list_clear(&gpu->reset_methods);
        text_list_clear(&gpu->siblings);
        text_list_clear(&gpu->usb_devices);
        free(gpu->sysfs_path);
        free(gpu->unreadable);
        free(gpu->vendor_name);
        free(gpu->device_name);
        free(gpu->vbios);
        free(gpu->driver);
        free(gpu->iommu_group_type);
        free(gpu->link_speed);
        free(gpu->link_speed_max);
        free(gpu->parent);
        free(gpu->switch_address);
        free(gpu->acs_missing_at);
        free(gpu->conventional_at);
        free(gpu->stuck);
        free(gpu->unbindable);
        free(gpu->power_state);
        *gpu = (GpuFacts) {};
}

static bool functions_equal(const GpuFacts *a, const GpuFacts *b) {
        if (a->n_functions != b->n_functions)
                return false;
        for (size_t i = 0; i < a->n_functions; i++) {
                const PciFunction *f = &a->functions[i], *g = &b->functions[i];
                if (!pci_address_equal(f->address, g->address) || f->class != g->class || f->vendor != g->vendor ||
                    f->device != g->device || f->same_slot != g->same_slot || f->other_group != g->other_group ||
                    !text_equal(f->driver, g->driver) || !text_equal(f->description, g->description))
                        return false;
        }
        return true;
}

static bool holders_equal(const GpuFacts *a, const GpuFacts *b) {
        if (a->holders_known != b->holders_known || a->n_holders != b->n_holders)
                return false;
        for (size_t i = 0; i < a->n_holders; i++) {
                const GpuHolder *h = &a->holders[i], *k = &b->holders[i];
                if (h->pid != k->pid || h->through_vfio != k->through_vfio || !text_equal(h->name, k->name))
                        return false;
        }
        return true;
}

static bool bars_equal(const GpuFacts *a, const GpuFacts *b) {
        for (size_t i = 0; i < PCI_BARS; i++)
                if (a->bars[i].start != b->bars[i].start || a->bars[i].size != b->bars[i].size ||
                    a->bars[i].prefetchable_64 != b->bars[i].prefetchable_64 ||
                    a->bars[i].unassigned != b->bars[i].unassigned)
                        return false;
        return true;
}

static bool places_equal(const GpuFacts *a, const GpuFacts *b) {
        return gpu_identity_equal(&a->identity, &b->identity) && pci_address_equal(a->address, b->address) &&
               pci_address_equal(a->identity.address, b->identity.address) &&
               text_equal(a->sysfs_path, b->sysfs_path) && text_equal(a->parent, b->parent) &&
               text_equal(a->switch_address, b->switch_address) && a->numa_node == b->numa_node &&
               text_list_equal(&a->siblings, &b->siblings);
}

static bool isolation_equal(const GpuFacts *a, const GpuFacts *b) {
        return a->iommu_group == b->iommu_group && text_equal(a->iommu_group_type, b->iommu_group_type) &&
               text_list_equal(&a->reserved_regions, &b->reserved_regions) && functions_equal(a, b) &&
               a->acs_missing == b->acs_missing && text_equal(a->acs_missing_at, b->acs_missing_at) &&
               a->kind == b->kind && a->interrupts == b->interrupts &&
               text_equal(a->conventional_at, b->conventional_at) && a->iommu_address_bits == b->iommu_address_bits;
}

static bool uses_equal(const GpuFacts *a, const GpuFacts *b) {
        return text_equal(a->driver, b->driver) && holders_equal(a, b) && a->boot_vga == b->boot_vga &&
               a->sriov_vfs == b->sriov_vfs && a->is_virtual_function == b->is_virtual_function &&
               a->mdev_in_use == b->mdev_in_use && a->mig_enabled == b->mig_enabled &&
               text_list_equal(&a->usb_devices, &b->usb_devices);
}

static bool states_equal(const GpuFacts *a, const GpuFacts *b) {
        return text_equal(a->unreadable, b->unreadable) && a->config == b->config &&
               text_equal(a->power_state, b->power_state) && a->runtime_error == b->runtime_error &&
               text_equal(a->stuck, b->stuck) && text_equal(a->unbindable, b->unbindable) &&
               text_equal(a->link_speed, b->link_speed) && text_equal(a->link_speed_max, b->link_speed_max) &&
               a->link_width == b->link_width && a->link_width_max == b->link_width_max &&
               text_list_equal(&a->reset_methods, &b->reset_methods) &&
               a->reset_methods_known == b->reset_methods_known && a->has_reset == b->has_reset;
}

bool gpu_facts_equal(const GpuFacts *a, const GpuFacts *b) {
        return a->class == b->class && a->vram_bytes == b->vram_bytes && text_equal(a->vbios, b->vbios) &&
               text_equal(a->vendor_name, b->vendor_name) &&
               text_equal(a->device_name, b->device_name) && places_equal(a, b) && isolation_equal(a, b) &&
               uses_equal(a, b) && states_equal(a, b) && bars_equal(a, b);
}

static int copy_rows(const GpuFacts *from, GpuFacts *copy) {
        for (size_t i = 0; i < from->n_functions; i++) {
                PciFunction function = from->functions[i];
                function.driver = function.description = NULL;
                if (text_set(&function.driver, from->functions[i].driver) < 0 ||
                    text_set(&function.description, from->functions[i].description) < 0) {
                        clear_function(&function);
                        return -ENOMEM;
                }
                int r = gpu_facts_add_function(copy, function);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < from->n_holders; i++) {
                GpuHolder holder = from->holders[i];
                holder.name = NULL;
                int r = text_set(&holder.name, from->holders[i].name);
                if (r < 0)
                        return r;
                r = gpu_facts_add_holder(copy, holder);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int copy_texts(const GpuFacts *from, GpuFacts *copy) {
        const struct {
                char *value, **copy;
        } texts[] = {
                { from->sysfs_path, &copy->sysfs_path },
                { from->unreadable, &copy->unreadable },
                { from->vendor_name, &copy->vendor_name },
                { from->device_name, &copy->device_name },
                { from->vbios, &copy->vbios },
                { from->driver, &copy->driver },
                { from->iommu_group_type, &copy->iommu_group_type },
                { from->link_speed, &copy->link_speed },
                { from->link_speed_max, &copy->link_speed_max },
                { from->parent, &copy->parent },
                { from->switch_address, &copy->switch_address },
                { from->acs_missing_at, &copy->acs_missing_at },
                { from->conventional_at, &copy->conventional_at },
                { from->stuck, &copy->stuck },
                { from->unbindable, &copy->unbindable },
                { from->power_state, &copy->power_state },
        };
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                int r = text_set(texts[i].copy, texts[i].value);
                if (r < 0)
                        return r;
        }

        int r = text_list_copy(&from->reserved_regions, &copy->reserved_regions);
        if (r >= 0)
                r = text_list_copy(&from->reset_methods, &copy->reset_methods);
        if (r >= 0)
                r = text_list_copy(&from->siblings, &copy->siblings);
        if (r >= 0)
                r = text_list_copy(&from->usb_devices, &copy->usb_devices);
        return r;
}

int gpu_facts_copy(const GpuFacts *from, GpuFacts *ret) {
        /* The plain values first; what is owned is then made anew. */
        GpuFacts copy = *from;
        copy.sysfs_path = copy.unreadable = copy.vendor_name = copy.device_name = copy.vbios = copy.driver = NULL;
        copy.iommu_group_type = copy.link_speed = copy.link_speed_max = copy.parent = copy.switch_address = NULL;
        copy.acs_missing_at = copy.conventional_at = copy.power_state = copy.stuck = copy.unbindable = NULL;
        copy.reserved_regions = copy.reset_methods = copy.siblings = copy.usb_devices = (TextList) {};
        copy.functions = NULL;
        copy.holders = NULL;
        copy.n_functions = copy.n_holders = 0;

        int r = copy_texts(from, &copy);
        if (r >= 0)
                r = copy_rows(from, &copy);
        if (r < 0) {
                gpu_facts_clear(&copy);
                return r;
        }
        *ret = copy;
        return 0;
}

uint64_t gpu_facts_bars_total(const GpuFacts *gpu) {
        uint64_t total = 0;
        for (size_t i = 0; i < PCI_BARS; i++)
                if (__builtin_add_overflow(total, gpu->bars[i].size, &total))
                        return UINT64_MAX;
        return total;
}

bool pci_function_goes_along(const PciFunction *function) {
        if (!function->same_slot || pci_class_is_vital(function->class))
                return false;
        return !function->other_group || function->class >> 8 == 0x0403;
}

size_t gpu_facts_list_given(const GpuFacts *gpu, PciAddress ret[static GPU_FUNCTIONS_MAX]) {
        size_t n = 0;
        ret[n++] = gpu->address;
        for (size_t i = 0; i < gpu->n_functions && n < GPU_FUNCTIONS_MAX; i++)
                if (pci_function_goes_along(&gpu->functions[i]))
                        ret[n++] = gpu->functions[i].address;
        return n;
}

static void count_driver(GivenDrivers *drivers, const char *driver, PciAddress address) {
        if (pci_driver_is_vfio(driver))
                drivers->on_vfio++;
        if (!driver && drivers->without++ == 0)
                drivers->first_without = address;
}

GivenDrivers gpu_facts_count_drivers(const GpuFacts *gpu) {
        GivenDrivers drivers = {};
        count_driver(&drivers, gpu->driver, gpu->address);
        for (size_t i = 0; i < gpu->n_functions; i++)
                if (pci_function_goes_along(&gpu->functions[i]))
                        count_driver(&drivers, gpu->functions[i].driver, gpu->functions[i].address);
        return drivers;
}

bool gpu_facts_held_through_vfio(const GpuFacts *gpu) {
        for (size_t i = 0; i < gpu->n_holders; i++)
                if (gpu->holders[i].through_vfio)
                        return true;
        return false;
}

/* These rows are short and seldom grow, so the facts do not carry how much is allocated: room is made for each. */
static int insert_row(void *rows_pointer, size_t *n, size_t index, const void *row, size_t row_size) {
        size_t allocated = *n;
        return array_insert_bytes(rows_pointer, n, &allocated, index, row, row_size);
}

static int compare_address_with_function(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, ((const PciFunction *) item)->address);
}

int gpu_facts_add_function(GpuFacts *gpu, PciFunction function) {
        size_t at;
        int r = 0;
        if (!array_search(gpu->functions, gpu->n_functions, sizeof(PciFunction), &function.address,
                          compare_address_with_function, &at)) {
                r = insert_row(&gpu->functions, &gpu->n_functions, at, &function, sizeof(PciFunction));
                if (r >= 0)
                        return 0;
        }
        clear_function(&function);
        return r;
}

static int compare_pid_with_holder(const void *key, const void *item) {
        return compare_numbers(*(const uint32_t *) key, ((const GpuHolder *) item)->pid);
}

int gpu_facts_add_holder(GpuFacts *gpu, GpuHolder holder) {
        size_t at;
        int r = 0;
        if (!array_search(gpu->holders, gpu->n_holders, sizeof(GpuHolder), &holder.pid, compare_pid_with_holder, &at)) {
                r = insert_row(&gpu->holders, &gpu->n_holders, at, &holder, sizeof(GpuHolder));
                if (r >= 0)
                        return 0;
        }
        free(holder.name);
        return r;
}

const char *hypervisor_state_to_text(HypervisorState state) {
        switch (state) {
        case HYPERVISOR_ABSENT:
                return "absent";
        case HYPERVISOR_CONNECTING:
                return "connecting";
        case HYPERVISOR_CONNECTED:
                return "connected";
        case HYPERVISOR_HUNG:
                return "hung";
        }
        return "absent";
}

void node_facts_clear(NodeFacts *facts) {
        for (size_t i = 0; i < facts->n_gpus; i++)
                gpu_facts_clear(&facts->gpus[i]);
        free(facts->gpus);
        free(facts->hugepages);
        free(facts->numa_memory);
        text_list_clear(&facts->addresses);
        text_list_clear(&facts->versions);
        text_list_clear(&facts->missing_agents);
        text_list_clear(&facts->boot_parameters);
        text_list_clear(&facts->node_cpus);
        text_list_clear(&facts->cpu_models);
        path_set_clear(&facts->missing_paths);
        path_set_clear(&facts->hanging_paths);
        free(facts->cpu_vendor);
        free(facts->boot_id);
        free(facts->kernel);
        free(facts->cpu_model);
        free(facts->virtualization);
        *facts = (NodeFacts) {};
}

static bool hugepages_equal(const NodeFacts *a, const NodeFacts *b) {
        if (a->n_hugepages != b->n_hugepages)
                return false;
        for (size_t i = 0; i < a->n_hugepages; i++)
                if (a->hugepages[i].size_bytes != b->hugepages[i].size_bytes ||
                    a->hugepages[i].total != b->hugepages[i].total || a->hugepages[i].free != b->hugepages[i].free)
                        return false;
        return true;
}

static bool numa_equal(const NodeFacts *a, const NodeFacts *b) {
        if (a->n_numa_memory != b->n_numa_memory)
                return false;
        for (size_t i = 0; i < a->n_numa_memory; i++)
                if (a->numa_memory[i].node != b->numa_memory[i].node ||
                    a->numa_memory[i].page_size_bytes != b->numa_memory[i].page_size_bytes ||
                    a->numa_memory[i].total_bytes != b->numa_memory[i].total_bytes)
                        return false;
        return true;
}

static bool capacities_equal(const NodeFacts *a, const NodeFacts *b) {
        return a->memory_total == b->memory_total && hugepages_equal(a, b) && numa_equal(a, b) &&
               a->hugepage_default_bytes == b->hugepage_default_bytes &&
               text_list_equal(&a->cpu_models, &b->cpu_models) && text_equal(a->cpu_vendor, b->cpu_vendor) &&
               path_set_equal(&a->missing_paths, &b->missing_paths) &&
               path_set_equal(&a->hanging_paths, &b->hanging_paths) && a->untold_paths == b->untold_paths;
}

bool node_facts_host_equal(const NodeFacts *a, const NodeFacts *b) {
        return ID_EQUAL(&a->node, &b->node) && a->incarnation == b->incarnation && text_equal(a->boot_id, b->boot_id) &&
               text_equal(a->kernel, b->kernel) && text_equal(a->cpu_model, b->cpu_model) &&
               text_equal(a->virtualization, b->virtualization) && text_list_equal(&a->addresses, &b->addresses) &&
               text_list_equal(&a->versions, &b->versions) && capacities_equal(a, b) &&
               a->address_bits == b->address_bits && a->memory_nodes == b->memory_nodes &&
               a->iommu_present == b->iommu_present && a->vfio_present == b->vfio_present &&
               a->interrupt_remapping == b->interrupt_remapping &&
               a->interrupt_remapping_known == b->interrupt_remapping_known && a->firmware_iommu == b->firmware_iommu &&
               text_list_equal(&a->boot_parameters, &b->boot_parameters) &&
               text_list_equal(&a->node_cpus, &b->node_cpus) && a->hypervisor == b->hypervisor &&
               a->guard_connected == b->guard_connected && a->watchdog_us == b->watchdog_us &&
               a->registry_stuck == b->registry_stuck && text_list_equal(&a->missing_agents, &b->missing_agents);
}

const GpuFacts *node_facts_find_gpu(const NodeFacts *facts, const GpuIdentity *identity) {
        for (size_t i = 0; i < facts->n_gpus; i++)
                if (gpu_identity_matches(identity, &facts->gpus[i].identity))
                        return &facts->gpus[i];
        return NULL;
}

static int compare_address_with_gpu(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, ((const GpuFacts *) item)->address);
}

const GpuFacts *node_facts_find_address(const NodeFacts *facts, PciAddress address) {
        size_t at;
        if (!array_search(facts->gpus, facts->n_gpus, sizeof(GpuFacts), &address, compare_address_with_gpu, &at))
                return NULL;
        return &facts->gpus[at];
}
