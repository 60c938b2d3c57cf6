/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/facts-codec.h"

#include <errno.h>

#include "core/facts-codec-internal.h"
#include "core/names.h"


/* ---- out */

static Gpupool1__FactsHypervisor write_hypervisor(HypervisorState state) {
        switch (state) {
        case HYPERVISOR_CONNECTING:
                return GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_CONNECTING;
        case HYPERVISOR_CONNECTED:
                return GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_CONNECTED;
        case HYPERVISOR_HUNG:
                return GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_HUNG;
        case HYPERVISOR_ABSENT:
                break;
        }
        return GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_ABSENT;
}

/* How many there are belongs to the host, how many are free to its load. */
static Gpupool1__FactsHugepages **write_hugepages(Keep *keep, const NodeFacts *facts, bool load, size_t *ret_n) {
        size_t n = facts->n_hugepages < FACTS_HUGEPAGES_MAX ? facts->n_hugepages : FACTS_HUGEPAGES_MAX;
        Gpupool1__FactsHugepages *rows = keep_row(keep, n, sizeof(*rows));
        Gpupool1__FactsHugepages **pointers = keep_row(keep, n, sizeof(*pointers));
        for (size_t i = 0; i < n && rows && pointers; i++) {
                const Hugepages *pages = facts->hugepages + i;
                gpupool1__facts_hugepages__init(rows + i);
                rows[i].size_bytes = pages->size_bytes;
                rows[i].total = load ? 0 : pages->total;
                rows[i].free = load ? pages->free : 0;
                pointers[i] = rows + i;
        }
        *ret_n = n;
        return pointers;
}

static Gpupool1__FactsFirmwareIommu write_firmware_iommu(FirmwareIommu firmware) {
        switch (firmware) {
        case FIRMWARE_IOMMU_ABSENT:
                return GPUPOOL1__FACTS_FIRMWARE_IOMMU__FACTS_FIRMWARE_IOMMU_ABSENT;
        case FIRMWARE_IOMMU_PRESENT:
                return GPUPOOL1__FACTS_FIRMWARE_IOMMU__FACTS_FIRMWARE_IOMMU_PRESENT;
        case FIRMWARE_IOMMU_UNKNOWN:
                break;
        }
        return GPUPOOL1__FACTS_FIRMWARE_IOMMU__FACTS_FIRMWARE_IOMMU_UNKNOWN;
}

static int publish_host(Gossip *gossip, const NodeFacts *facts, size_t n_gpus) {
        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsHost message = GPUPOOL1__FACTS_HOST__INIT;
        message.incarnation = facts->incarnation;
        message.boot_id = keep_text(&keep, facts->boot_id, FACTS_TEXT_MAX);
        message.kernel = keep_text(&keep, facts->kernel, FACTS_TEXT_MAX);
        message.cpu_model = keep_text(&keep, facts->cpu_model, FACTS_TEXT_MAX);
        message.virtualization = keep_text(&keep, facts->virtualization, FACTS_TEXT_MAX);
        message.addresses = keep_list(&keep, &facts->addresses, ADDRESSES_MAX, &message.n_addresses);
        message.versions = keep_list(&keep, &facts->versions, FACTS_VERSIONS_MAX, &message.n_versions);
        message.memory_total = facts->memory_total;
        message.hugepages = write_hugepages(&keep, facts, false, &message.n_hugepages);
        message.hugepage_default_bytes = facts->hugepage_default_bytes;
        message.address_bits = facts->address_bits;
        message.iommu_present = facts->iommu_present;
        message.vfio_present = facts->vfio_present;
        message.interrupt_remapping = facts->interrupt_remapping;
        message.interrupt_remapping_known = facts->interrupt_remapping_known;
        message.firmware_iommu = write_firmware_iommu(facts->firmware_iommu);
        message.boot_parameters = keep_list(&keep, &facts->boot_parameters, FACTS_PARAMETERS_MAX,
                                            &message.n_boot_parameters);
        message.hypervisor = write_hypervisor(facts->hypervisor);
        message.guard_connected = facts->guard_connected;
        message.watchdog_us = facts->watchdog_us;
        message.registry_stuck = facts->registry_stuck;
        message.missing_agents = keep_list(&keep, &facts->missing_agents, FACTS_AGENTS_MAX, &message.n_missing_agents);
        message.gpus = (uint32_t) n_gpus;
        if (keep.failed)
                return -ENOMEM;
        return publish_or_withdraw(gossip, KEY_HOST, &message.base);
}

static int publish_load(Gossip *gossip, const NodeFacts *facts) {
        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsLoad message = GPUPOOL1__FACTS_LOAD__INIT;
        message.memory_free = facts->memory_free / FACTS_MEMORY_STEP * FACTS_MEMORY_STEP;
        message.hugepages = write_hugepages(&keep, facts, true, &message.n_hugepages);
        if (keep.failed)
                return -ENOMEM;
        return publish_or_withdraw(gossip, KEY_LOAD, &message.base);
}

static bool is_published(const NodeFacts *facts, const bool *published, const char *key) {
        PciAddress address;
        char own_key[KEY_GPU_SIZE];
        if (pci_address_from_text(key + strlen(KEY_GPU_PREFIX), &address) < 0)
                return false;
        const GpuFacts *gpu = node_facts_find_address(facts, address);
        gpu_key(address, own_key);
        return gpu && published[gpu - facts->gpus] && text_equal(key, own_key);
}

/* What is said of GPUs that are no more. */
static int withdraw_gpus(Gossip *gossip, const NodeFacts *facts, const bool *published) {
        char last[GOSSIP_KEY_MAX + 1] = KEY_GPU_PREFIX;
        GossipFact fact;
        while (gossip_next(gossip, &facts->node, last, &fact) && key_has_prefix(fact.key, KEY_GPU_PREFIX)) {
                memcpy(last, fact.key, strlen(fact.key) + 1);
                int r = is_published(facts, published, last) ? 0 : gossip_remove(gossip, last);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int publish_gpus(Gossip *gossip, const NodeFacts *facts, size_t *ret_n) {
        _cleanup_free_ bool *published = calloc(facts->n_gpus + 1, sizeof(bool));
        if (!published)
                return -ENOMEM;
        size_t n = 0;
        for (size_t i = 0; i < facts->n_gpus && n < GPUS_PER_NODE_MAX; i++) {
                int r = gpu_publish(gossip, facts->gpus + i);
                if (r < 0)
                        return r;
                published[i] = r != GOSSIP_SET_REFUSED;
                n += published[i];
        }
        *ret_n = n;
        return withdraw_gpus(gossip, facts, published);
}

int facts_publish(Gossip *gossip, const NodeFacts *facts) {
        if (!ID_EQUAL(&facts->node, gossip_self(gossip)))
                return -EINVAL;
        for (size_t i = 0; i < facts->n_gpus; i++)
                if (!ID_EQUAL(&facts->gpus[i].identity.node, &facts->node) ||
                    !pci_address_equal(facts->gpus[i].identity.address, facts->gpus[i].address))
                        return -EINVAL;
        size_t n_gpus = 0;
        int r = publish_gpus(gossip, facts, &n_gpus);
        if (r >= 0)
                r = publish_load(gossip, facts);
        if (r >= 0)
                r = capacity_publish(gossip, facts);
        if (r >= 0)
                r = publish_host(gossip, facts, n_gpus);
        return r < 0 ? r : 0;
}

/* ---- in */

static HypervisorState read_hypervisor(Gpupool1__FactsHypervisor state) {
        if (state == GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_CONNECTING)
                return HYPERVISOR_CONNECTING;
        if (state == GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_CONNECTED)
                return HYPERVISOR_CONNECTED;
        if (state == GPUPOOL1__FACTS_HYPERVISOR__FACTS_HYPERVISOR_HUNG)
                return HYPERVISOR_HUNG;
        return HYPERVISOR_ABSENT;
}

static FirmwareIommu read_firmware_iommu(Gpupool1__FactsFirmwareIommu firmware) {
        if (firmware == GPUPOOL1__FACTS_FIRMWARE_IOMMU__FACTS_FIRMWARE_IOMMU_ABSENT)
                return FIRMWARE_IOMMU_ABSENT;
        if (firmware == GPUPOOL1__FACTS_FIRMWARE_IOMMU__FACTS_FIRMWARE_IOMMU_PRESENT)
                return FIRMWARE_IOMMU_PRESENT;
        return FIRMWARE_IOMMU_UNKNOWN;
}

static int check_hugepages(Gpupool1__FactsHugepages *const *rows, size_t n) {
        if (n > FACTS_HUGEPAGES_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++)
                if (rows[i]->size_bytes == 0 || (i > 0 && rows[i]->size_bytes <= rows[i - 1]->size_bytes))
                        return -EBADMSG;
        return 0;
}

static int read_hugepages(const Gpupool1__FactsHost *message, NodeFacts *facts) {
        int r = check_hugepages(message->hugepages, message->n_hugepages);
        if (r < 0 || message->n_hugepages == 0)
                return r;
        facts->hugepages = calloc(message->n_hugepages, sizeof(*facts->hugepages));
        if (!facts->hugepages)
                return -ENOMEM;
        facts->n_hugepages = message->n_hugepages;
        for (size_t i = 0; i < facts->n_hugepages; i++) {
                facts->hugepages[i].size_bytes = message->hugepages[i]->size_bytes;
                facts->hugepages[i].total = message->hugepages[i]->total;
        }
        return 0;
}

static int read_host(const Gpupool1__FactsHost *message, NodeFacts *facts) {
        if (message->address_bits > ADDRESS_BITS_MAX || message->gpus > GPUS_PER_NODE_MAX)
                return -EBADMSG;
        facts->incarnation = message->incarnation;
        facts->memory_total = message->memory_total;
        facts->hugepage_default_bytes = message->hugepage_default_bytes;
        facts->address_bits = message->address_bits;
        facts->iommu_present = message->iommu_present;
        facts->vfio_present = message->vfio_present;
        facts->interrupt_remapping = message->interrupt_remapping;
        facts->interrupt_remapping_known = message->interrupt_remapping_known;
        facts->firmware_iommu = read_firmware_iommu(message->firmware_iommu);
        facts->hypervisor = read_hypervisor(message->hypervisor);
        facts->guard_connected = message->guard_connected;
        facts->watchdog_us = message->watchdog_us;
        facts->registry_stuck = message->registry_stuck;
        int r = read_text(message->boot_id, FACTS_TEXT_MAX, &facts->boot_id);
        if (r >= 0)
                r = read_text(message->kernel, FACTS_TEXT_MAX, &facts->kernel);
        if (r >= 0)
                r = read_text(message->cpu_model, FACTS_TEXT_MAX, &facts->cpu_model);
        if (r >= 0)
                r = read_text(message->virtualization, FACTS_TEXT_MAX, &facts->virtualization);
        if (r >= 0)
                r = read_list(message->addresses, message->n_addresses, ADDRESSES_MAX, &facts->addresses);
        if (r >= 0)
                r = read_list(message->versions, message->n_versions, FACTS_VERSIONS_MAX, &facts->versions);
        if (r >= 0)
                r = read_list(message->missing_agents, message->n_missing_agents, FACTS_AGENTS_MAX,
                              &facts->missing_agents);
        if (r >= 0)
                r = read_list(message->boot_parameters, message->n_boot_parameters, FACTS_PARAMETERS_MAX,
                              &facts->boot_parameters);
        return r < 0 ? r : read_hugepages(message, facts);
}

/* *@ret_gpus: how many GPUs belong to these facts. */
static int collect_host(const GossipFact *fact, NodeFacts *facts, size_t *ret_gpus) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_host__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        const Gpupool1__FactsHost *host = (const Gpupool1__FactsHost *) message;
        r = read_host(host, facts);
        if (r < 0) {
                NodeId node = facts->node;
                node_facts_clear(facts);
                facts->node = node;
                return r;
        }
        *ret_gpus = host->gpus;
        return 0;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

/* Host and load may be of different moments: what is free is never more than there is. */
static int collect_load(const GossipFact *fact, NodeFacts *facts) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_load__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        const Gpupool1__FactsLoad *load = (const Gpupool1__FactsLoad *) message;
        r = check_hugepages(load->hugepages, load->n_hugepages);
        if (r < 0)
                return r;
        facts->memory_free = smaller(load->memory_free, facts->memory_total);
        size_t i = 0;
        for (size_t k = 0; k < load->n_hugepages; k++) {
                const Gpupool1__FactsHugepages *row = load->hugepages[k];
                while (i < facts->n_hugepages && facts->hugepages[i].size_bytes < row->size_bytes)
                        i++;
                if (i < facts->n_hugepages && facts->hugepages[i].size_bytes == row->size_bytes)
                        facts->hugepages[i].free = smaller(row->free, facts->hugepages[i].total);
        }
        return 0;
}

static int compare_gpu(const void *key, const void *item) {
        return pci_address_compare(*(const PciAddress *) key, ((const GpuFacts *) item)->address);
}

static int collect_gpu(const GossipFact *fact, NodeFacts *facts, size_t *allocated) {
        if (facts->n_gpus >= GPUS_PER_NODE_MAX)
                return -EBADMSG;
        GpuFacts gpu;
        int r = gpu_collect(&facts->node, fact, &gpu);
        if (r < 0)
                return r;
        /* Keys are unique, and each is that of its GPU's address; but their order is that of the texts. */
        size_t at;
        (void) array_search(facts->gpus, facts->n_gpus, sizeof(GpuFacts), &gpu.address, compare_gpu, &at);
        r = array_insert_bytes(&facts->gpus, &facts->n_gpus, allocated, at, &gpu, sizeof(gpu));
        if (r < 0)
                gpu_facts_clear(&gpu);
        return r;
}

static int pass_over(int r, unsigned *skipped) {
        *skipped += r == -EBADMSG;
        return r == -EBADMSG ? 0 : r;
}

/* *@ret_n: values under GPUs' keys, readable or not. */
static int collect_gpus(const Gossip *gossip, NodeFacts *facts, size_t *ret_n, unsigned *skipped) {
        GossipFact fact = { .key = KEY_GPU_PREFIX };
        size_t n = 0, allocated = 0;
        while (gossip_next(gossip, &facts->node, fact.key, &fact) && key_has_prefix(fact.key, KEY_GPU_PREFIX)) {
                int r = pass_over(collect_gpu(&fact, facts, &allocated), skipped);
                if (r < 0)
                        return r;
                n++;
        }
        *ret_n = n;
        return 0;
}

static bool find_fact(const Gossip *gossip, const NodeId *node, const char *key, GossipFact *ret) {
        ret->key = key;
        ret->value = gossip_get(gossip, node, key, &ret->size);
        return ret->value;
}

/* A host that cannot be read is a blank one, which has the GPUs that are there. */
static int collect_all(const Gossip *gossip, NodeFacts *facts, unsigned *skipped) {
        GossipFact host, load, cpu, numa, storage;
        size_t there = 0, belonging = SIZE_MAX;
        if (!find_fact(gossip, &facts->node, KEY_HOST, &host))
                return FACTS_NONE;
        int r = pass_over(collect_host(&host, facts, &belonging), skipped);
        if (r >= 0 && find_fact(gossip, &facts->node, KEY_LOAD, &load))
                r = pass_over(collect_load(&load, facts), skipped);
        if (r >= 0 && find_fact(gossip, &facts->node, KEY_CPU, &cpu))
                r = pass_over(cpu_collect(&cpu, facts), skipped);
        if (r >= 0 && find_fact(gossip, &facts->node, KEY_NUMA, &numa))
                r = pass_over(numa_collect(&numa, facts), skipped);
        if (r >= 0 && find_fact(gossip, &facts->node, KEY_STORAGE, &storage))
                r = pass_over(storage_collect(&storage, facts), skipped);
        if (r >= 0)
                r = collect_gpus(gossip, facts, &there, skipped);
        if (r < 0)
                return r;
        return belonging == SIZE_MAX || belonging == there ? FACTS_WHOLE : FACTS_PARTIAL;
}

int facts_collect(const Gossip *gossip, const NodeId *node, NodeFacts *ret, unsigned *ret_skipped) {
        NodeFacts facts = { .node = *node };
        unsigned skipped = 0;
        int r = collect_all(gossip, &facts, &skipped);
        if (r <= FACTS_NONE) {
                node_facts_clear(&facts);
                return r;
        }
        *ret = facts;
        if (ret_skipped)
                *ret_skipped = skipped;
        return r;
}

bool facts_equal(const NodeFacts *a, const NodeFacts *b) {
        if (!node_facts_host_equal(a, b) || a->memory_free / FACTS_MEMORY_STEP != b->memory_free / FACTS_MEMORY_STEP ||
            a->n_gpus != b->n_gpus)
                return false;
        for (size_t i = 0; i < a->n_gpus; i++)
                if (!gpu_facts_equal(a->gpus + i, b->gpus + i))
                        return false;
        return true;
}
