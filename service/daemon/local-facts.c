/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local-facts.h"

#include <errno.h>
#include <stdio.h>

#include "adapters/udev/udev-watch.h"
#include "util/log.h"

/* What udev does not tell of a GPU. */
typedef struct BindingFacts {
        PciAddress gpu;
        char *stuck, *unbindable;
} BindingFacts;

struct LocalFacts {
        LocalFactsConfig config;
        UdevWatch *watch;
        NodeFacts facts;
        ARRAY(BindingFacts) bindings;
        char *libvirt_version;
        bool host_known, gpus_known;
};

static int set_versions(LocalFacts *facts) {
        TextList versions = {};
        _cleanup_free_ char *libvirt = NULL;
        int r = text_list_add(&versions, "gpupool " GPUPOOL_VERSION);
        if (r >= 0 && facts->libvirt_version) {
                r = text_printf(&libvirt, "libvirt %s", facts->libvirt_version);
                if (r >= 0)
                        r = text_list_add(&versions, libvirt);
        }
        if (r < 0) {
                text_list_clear(&versions);
                return r;
        }
        text_list_clear(&facts->facts.versions);
        facts->facts.versions = versions;
        return 0;
}

static int copy_texts(const NodeFacts *host, NodeFacts *ret) {
        int r = text_set(&ret->boot_id, host->boot_id);
        if (r >= 0)
                r = text_set(&ret->kernel, host->kernel);
        if (r >= 0)
                r = text_set(&ret->cpu_model, host->cpu_model);
        if (r >= 0)
                r = text_set(&ret->virtualization, host->virtualization);
        if (r >= 0)
                r = text_list_copy(&host->addresses, &ret->addresses);
        if (r >= 0)
                r = text_list_copy(&host->boot_parameters, &ret->boot_parameters);
        if (r >= 0)
                r = text_list_copy(&host->node_cpus, &ret->node_cpus);
        return r;
}

/* The host's part of @host; the rest of @ret is left out. */
static int copy_host(const NodeFacts *host, NodeFacts *ret) {
        NodeFacts copy = {
                .memory_total = host->memory_total,
                .memory_free = host->memory_free,
                .hugepage_default_bytes = host->hugepage_default_bytes,
                .address_bits = host->address_bits,
                .memory_nodes = host->memory_nodes,
                .iommu_present = host->iommu_present,
                .vfio_present = host->vfio_present,
                .interrupt_remapping = host->interrupt_remapping,
                .interrupt_remapping_known = host->interrupt_remapping_known,
                .firmware_iommu = host->firmware_iommu,
        };
        int r = copy_texts(host, &copy);
        if (r >= 0 && host->n_numa_memory > 0) {
                copy.numa_memory = calloc(host->n_numa_memory, sizeof(*copy.numa_memory));
                r = copy.numa_memory ? 0 : -ENOMEM;
        }
        if (r >= 0 && host->n_numa_memory > 0) {
                memcpy(copy.numa_memory, host->numa_memory, host->n_numa_memory * sizeof(*copy.numa_memory));
                copy.n_numa_memory = host->n_numa_memory;
        }
        if (r >= 0 && host->n_hugepages > 0) {
                copy.hugepages = calloc(host->n_hugepages, sizeof(*copy.hugepages));
                r = copy.hugepages ? 0 : -ENOMEM;
        }
        if (r < 0) {
                node_facts_clear(&copy);
                return r;
        }
        if (host->n_hugepages > 0)
                memcpy(copy.hugepages, host->hugepages, host->n_hugepages * sizeof(*copy.hugepages));
        copy.n_hugepages = host->n_hugepages;
        *ret = copy;
        return 0;
}

static void on_host_changed(void *userdata, const NodeFacts *host) {
        LocalFacts *facts = userdata;
        NodeFacts changed;
        int r = copy_host(host, &changed);
        if (r < 0) {
                log_error("the host's facts could not be kept: %s", strerror(-r));
                return;
        }
        NodeFacts *old = &facts->facts;
        changed.node = old->node;
        changed.hypervisor = old->hypervisor;
        changed.guard_connected = old->guard_connected;
        changed.watchdog_us = old->watchdog_us;
        changed.registry_stuck = old->registry_stuck;
        changed.versions = old->versions;
        changed.missing_agents = old->missing_agents;
        changed.cpu_models = old->cpu_models;
        changed.cpu_vendor = old->cpu_vendor;
        changed.missing_paths = old->missing_paths;
        changed.hanging_paths = old->hanging_paths;
        changed.untold_paths = old->untold_paths;
        changed.gpus = old->gpus;
        changed.n_gpus = old->n_gpus;
        old->versions = old->missing_agents = old->cpu_models = (TextList) {};
        old->missing_paths = old->hanging_paths = (PathSet) {};
        old->cpu_vendor = NULL;
        old->gpus = NULL;
        old->n_gpus = 0;
        node_facts_clear(old);
        *old = changed;
        facts->host_known = true;
        facts->config.changed(facts->config.userdata);
}

static int copy_gpus(const GpuFacts *gpus, size_t n, GpuFacts **ret) {
        GpuFacts *copies = calloc(n + 1, sizeof(*copies));
        if (!copies)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int r = gpu_facts_copy(gpus + i, copies + i);
                if (r < 0) {
                        while (i > 0)
                                gpu_facts_clear(copies + --i);
                        free(copies);
                        return r;
                }
        }
        *ret = copies;
        return 0;
}

static GpuFacts *find_gpu(GpuFacts *gpus, size_t n, PciAddress address) {
        for (size_t i = 0; i < n; i++)
                if (pci_address_equal(gpus[i].address, address))
                        return gpus + i;
        return NULL;
}

static int put_bindings(const LocalFacts *facts, GpuFacts *gpus, size_t n) {
        ARRAY_EACH(binding, &facts->bindings) {
                GpuFacts *gpu = find_gpu(gpus, n, binding->gpu);
                int r = gpu ? text_set(&gpu->stuck, binding->stuck) : 0;
                if (r >= 0 && gpu)
                        r = text_set(&gpu->unbindable, binding->unbindable);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void on_gpus_changed(void *userdata, const GpuFacts *gpus, size_t n) {
        LocalFacts *facts = userdata;
        GpuFacts *copies;
        int r = copy_gpus(gpus, n, &copies);
        if (r >= 0 && put_bindings(facts, copies, n) < 0)
                log_error("what is known of the GPUs' binding could not be kept");
        if (r < 0) {
                log_error("the GPUs' facts could not be kept: %s", strerror(-r));
                return;
        }
        for (size_t i = 0; i < facts->facts.n_gpus; i++)
                gpu_facts_clear(facts->facts.gpus + i);
        free(facts->facts.gpus);
        facts->facts.gpus = copies;
        facts->facts.n_gpus = n;
        facts->gpus_known = true;
        facts->config.changed(facts->config.userdata);
}

static void on_device_event(void *userdata, const DeviceEvent *event) {
        LocalFacts *facts = userdata;
        char *lines[DEVICE_EVENT_PROPERTIES_MAX + 1] = {};
        size_t n = 0;
        for (size_t i = 0; i < event->n_properties && n < DEVICE_EVENT_PROPERTIES_MAX; i++)
                if (text_printf(&lines[n], "%s=%s", event->properties[i].key, event->properties[i].value) >= 0)
                        n++;

        BusDeviceEvent told = { .action = event->action, .node = facts->config.node, .address = event->address,
                                .subsystem = event->subsystem, .properties = (const char *const *) lines };
        facts->config.device_event(&told, facts->config.userdata);
        for (size_t i = 0; i < n; i++)
                free(lines[i]);
}

static const UdevWatchEvents watch_events = {
        .gpus_changed = on_gpus_changed, .host_changed = on_host_changed, .device_event = on_device_event,
};

int local_facts_new(LocalFacts **ret, sd_event *event, const LocalFactsConfig *config) {
        _cleanup_(local_facts_freep) LocalFacts *facts = calloc(1, sizeof(*facts));
        if (!facts)
                return -ENOMEM;
        facts->config = *config;
        facts->facts.node = config->node;
        facts->facts.hypervisor = HYPERVISOR_CONNECTING;
        int r = set_versions(facts);
        if (r < 0)
                return r;
        UdevWatchConfig watch = { .node = config->node, .probe_socket = config->probe_socket,
                                  .probe_deadline_us = config->probe_timeout_us,
                                  .coalesce_us = config->coalesce_us };
        r = udev_watch_new(&facts->watch, event, &watch, &watch_events, facts);
        if (r < 0)
                return r;
        *ret = STEAL(facts);
        return 0;
}

static void binding_facts_clear(BindingFacts *binding) {
        free(binding->stuck);
        free(binding->unbindable);
}

LocalFacts *local_facts_free(LocalFacts *facts) {
        if (!facts)
                return NULL;
        udev_watch_free(facts->watch);
        node_facts_clear(&facts->facts);
        ARRAY_EACH(binding, &facts->bindings)
                binding_facts_clear(binding);
        array_clear(&facts->bindings);
        free(facts->libvirt_version);
        free(facts);
        return NULL;
}

const NodeFacts *local_facts_get(const LocalFacts *facts) {
        return &facts->facts;
}

bool local_facts_are_complete(const LocalFacts *facts) {
        return facts->host_known && facts->gpus_known;
}

void local_facts_set_hypervisor(LocalFacts *facts, HypervisorState state, const char *libvirt_version) {
        facts->facts.hypervisor = state;
        if (!libvirt_version || text_equal(libvirt_version, facts->libvirt_version))
                return;
        int r = text_set(&facts->libvirt_version, libvirt_version);
        if (r >= 0)
                r = set_versions(facts);
        if (r < 0)
                log_error("libvirt's version could not be kept: %s", strerror(-r));
}

void local_facts_set_guard(LocalFacts *facts, bool connected) {
        facts->facts.guard_connected = connected;
}

bool local_facts_set_watchdog(LocalFacts *facts, uint64_t watchdog_us) {
        bool news = facts->facts.watchdog_us != watchdog_us;
        facts->facts.watchdog_us = watchdog_us;
        return news;
}

bool local_facts_set_registry_stuck(LocalFacts *facts, bool stuck) {
        bool news = facts->facts.registry_stuck != stuck;
        facts->facts.registry_stuck = stuck;
        return news;
}

static BindingFacts *find_or_add_binding(LocalFacts *facts, PciAddress gpu) {
        ARRAY_EACH(binding, &facts->bindings)
                if (pci_address_equal(binding->gpu, gpu))
                        return binding;
        BindingFacts binding = { .gpu = gpu };
        return array_append(&facts->bindings, &binding) < 0 ? NULL : facts->bindings.items + facts->bindings.n - 1;
}

bool local_facts_set_binding(LocalFacts *facts, PciAddress gpu, const char *stuck, const char *unbindable) {
        const GpuFacts *known = find_gpu(facts->facts.gpus, facts->facts.n_gpus, gpu);
        if (!known || (text_equal(known->stuck, stuck) && text_equal(known->unbindable, unbindable)))
                return false;
        BindingFacts *binding = find_or_add_binding(facts, gpu);
        if (!binding || text_set(&binding->stuck, stuck) < 0 || text_set(&binding->unbindable, unbindable) < 0 ||
            put_bindings(facts, facts->facts.gpus, facts->facts.n_gpus) < 0)
                log_error("what is known of a GPU's binding could not be kept");
        if (binding && !stuck && !unbindable) {
                binding_facts_clear(binding);
                array_remove(&facts->bindings, (size_t) (binding - facts->bindings.items));
        }
        return true;
}

bool local_facts_set_paths(LocalFacts *facts, PathSet *missing, PathSet *hanging, uint32_t untold) {
        NodeFacts *own = &facts->facts;
        bool news = !path_set_equal(&own->missing_paths, missing) || !path_set_equal(&own->hanging_paths, hanging) ||
                    own->untold_paths != untold;
        path_set_clear(&own->missing_paths);
        path_set_clear(&own->hanging_paths);
        own->missing_paths = *missing;
        own->hanging_paths = *hanging;
        own->untold_paths = untold;
        *missing = *hanging = (PathSet) {};
        return news;
}

bool local_facts_set_cpus(LocalFacts *facts, TextList *models, char **vendor) {
        NodeFacts *own = &facts->facts;
        bool news = !text_list_equal(&own->cpu_models, models) || !text_equal(own->cpu_vendor, *vendor);
        text_list_clear(&own->cpu_models);
        free(own->cpu_vendor);
        own->cpu_models = *models;
        own->cpu_vendor = STEAL(*vendor);
        *models = (TextList) {};
        return news;
}

void local_facts_look_at(LocalFacts *facts, PciAddress gpu) {
        (void) udev_watch_refresh(facts->watch, gpu);
}

bool local_facts_set_missing_agents(LocalFacts *facts, TextList *agents) {
        bool news = !text_list_equal(&facts->facts.missing_agents, agents);
        text_list_clear(&facts->facts.missing_agents);
        facts->facts.missing_agents = *agents;
        *agents = (TextList) {};
        return news;
}
