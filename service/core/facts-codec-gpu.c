/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A GPU's facts, out and in. */

#include <errno.h>
#include <stdio.h>

#include "core/facts-codec-internal.h"

#define PCI_CLASS_MAX 0xffffffU
#define PCI_VIRTUAL_FUNCTIONS_MAX 0xffffU

void gpu_key(PciAddress address, char ret[static KEY_GPU_SIZE]) {
        char text[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(address, text);
        (void) snprintf(ret, KEY_GPU_SIZE, KEY_GPU_PREFIX "%s", text);
}

/* ---- out */

static void write_functions(Keep *keep, const GpuFacts *gpu, bool brief, Gpupool1__FactsGpu *message) {
        size_t n = gpu->n_functions < FACTS_FUNCTIONS_MAX ? gpu->n_functions : FACTS_FUNCTIONS_MAX;
        Gpupool1__FactsFunction *rows = keep_row(keep, n, sizeof(*rows));
        Gpupool1__FactsFunction **pointers = keep_row(keep, n, sizeof(*pointers));
        for (size_t i = 0; i < n && rows && pointers; i++) {
                const PciFunction *function = gpu->functions + i;
                char *address = keep_row(keep, PCI_ADDRESS_TEXT_SIZE, 1);
                if (!address)
                        return;
                pci_address_to_text(function->address, address);
                gpupool1__facts_function__init(rows + i);
                rows[i].address = address;
                rows[i].class_ = function->class;
                rows[i].vendor = function->vendor;
                rows[i].device = function->device;
                rows[i].driver = keep_text(keep, function->driver, FACTS_WORD_MAX);
                rows[i].description = keep_text(keep, brief ? NULL : function->description, FACTS_TEXT_MAX);
                rows[i].same_slot = function->same_slot;
                rows[i].other_group = function->other_group;
                pointers[i] = rows + i;
        }
        message->n_functions = n;
        message->functions = pointers;
}

static void write_holders(Keep *keep, const GpuFacts *gpu, bool brief, Gpupool1__FactsGpu *message) {
        size_t most = brief ? FACTS_BRIEF_HOLDERS_MAX : FACTS_HOLDERS_MAX;
        size_t n = gpu->n_holders < most ? gpu->n_holders : most;
        Gpupool1__FactsHolder *rows = keep_row(keep, n, sizeof(*rows));
        Gpupool1__FactsHolder **pointers = keep_row(keep, n, sizeof(*pointers));
        for (size_t i = 0; i < n && rows && pointers; i++) {
                gpupool1__facts_holder__init(rows + i);
                rows[i].pid = gpu->holders[i].pid;
                rows[i].name = keep_text(keep, gpu->holders[i].name, FACTS_WORD_MAX);
                rows[i].through_vfio = gpu->holders[i].through_vfio;
                pointers[i] = rows + i;
        }
        message->n_holders = n;
        message->holders = pointers;
}

static void write_bars(Keep *keep, const GpuFacts *gpu, Gpupool1__FactsGpu *message) {
        Gpupool1__FactsBar *rows = keep_row(keep, PCI_BARS, sizeof(*rows));
        Gpupool1__FactsBar **pointers = keep_row(keep, PCI_BARS, sizeof(*pointers));
        if (!rows || !pointers)
                return;
        for (unsigned i = 0; i < PCI_BARS; i++) {
                const GpuBar *bar = gpu->bars + i;
                if (bar->start == 0 && bar->size == 0 && !bar->prefetchable_64 && !bar->unassigned)
                        continue;
                gpupool1__facts_bar__init(rows + i);
                rows[i].index = i;
                rows[i].start = bar->start;
                rows[i].size = bar->size;
                rows[i].prefetchable_64 = bar->prefetchable_64;
                rows[i].unassigned = bar->unassigned;
                pointers[message->n_bars++] = rows + i;
        }
        message->bars = pointers;
}

/* What sort of texts each is, for both ways: where it stands among the facts and in the message, and its limit. */
typedef struct TextField {
        size_t fact, field, most;
} TextField;

#define TEXT_FIELD(name, limit) { offsetof(GpuFacts, name), offsetof(Gpupool1__FactsGpu, name), (limit) }

static const TextField text_fields[] = {
        TEXT_FIELD(sysfs_path, FACTS_TEXT_MAX),
        TEXT_FIELD(unreadable, FACTS_TEXT_MAX),
        TEXT_FIELD(vendor_name, FACTS_TEXT_MAX),
        TEXT_FIELD(device_name, FACTS_TEXT_MAX),
        TEXT_FIELD(vbios, FACTS_WORD_MAX),
        TEXT_FIELD(driver, FACTS_WORD_MAX),
        TEXT_FIELD(iommu_group_type, FACTS_WORD_MAX),
        TEXT_FIELD(link_speed, FACTS_WORD_MAX),
        TEXT_FIELD(link_speed_max, FACTS_WORD_MAX),
        TEXT_FIELD(parent, FACTS_WORD_MAX),
        TEXT_FIELD(switch_address, FACTS_WORD_MAX),
        TEXT_FIELD(acs_missing_at, FACTS_WORD_MAX),
        TEXT_FIELD(power_state, FACTS_WORD_MAX),
        TEXT_FIELD(conventional_at, FACTS_WORD_MAX),
        TEXT_FIELD(stuck, FACTS_TEXT_MAX),
        TEXT_FIELD(unbindable, FACTS_TEXT_MAX),
};

static char **text_at(void *base, size_t offset) {
        return (char **) ((char *) base + offset);
}

static Gpupool1__FactsConfigSpace write_config(ConfigSpace config) {
        switch (config) {
        case CONFIG_READABLE:
                return GPUPOOL1__FACTS_CONFIG_SPACE__FACTS_CONFIG_SPACE_READABLE;
        case CONFIG_ALL_ONES:
                return GPUPOOL1__FACTS_CONFIG_SPACE__FACTS_CONFIG_SPACE_ALL_ONES;
        case CONFIG_UNKNOWN:
                break;
        }
        return GPUPOOL1__FACTS_CONFIG_SPACE__FACTS_CONFIG_SPACE_UNKNOWN;
}

static Gpupool1__FactsPciKind write_kind(PciKind kind) {
        switch (kind) {
        case PCI_KIND_CONVENTIONAL:
                return GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_CONVENTIONAL;
        case PCI_KIND_ENDPOINT:
                return GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_ENDPOINT;
        case PCI_KIND_LEGACY_ENDPOINT:
                return GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_LEGACY_ENDPOINT;
        case PCI_KIND_INTEGRATED:
                return GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_INTEGRATED;
        case PCI_KIND_UNKNOWN:
                break;
        }
        return GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_UNKNOWN;
}

static Gpupool1__FactsInterrupts write_interrupts(Interrupts interrupts) {
        switch (interrupts) {
        case INTERRUPTS_NONE:
                return GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_NONE;
        case INTERRUPTS_LINE:
                return GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_LINE;
        case INTERRUPTS_MESSAGES:
                return GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_MESSAGES;
        case INTERRUPTS_UNKNOWN:
                break;
        }
        return GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_UNKNOWN;
}

static void write_plain(const GpuFacts *gpu, Gpupool1__FactsGpu *message) {
        message->class_ = gpu->class;
        message->iommu_group = gpu->iommu_group;
        message->numa_node = gpu->numa_node;
        message->link_width = gpu->link_width;
        message->link_width_max = gpu->link_width_max;
        message->reset_methods_known = gpu->reset_methods_known;
        message->has_reset = gpu->has_reset;
        message->boot_vga = gpu->boot_vga;
        message->holders_known = gpu->holders_known;
        message->config = write_config(gpu->config);
        message->acs_missing = gpu->acs_missing;
        message->sriov_vfs = gpu->sriov_vfs;
        message->is_virtual_function = gpu->is_virtual_function;
        message->mdev_in_use = gpu->mdev_in_use;
        message->mig_enabled = gpu->mig_enabled;
        message->runtime_error = gpu->runtime_error;
        message->kind = write_kind(gpu->kind);
        message->interrupts = write_interrupts(gpu->interrupts);
        message->iommu_address_bits = gpu->iommu_address_bits;
        message->vram_bytes = gpu->vram_bytes;
}

static int publish_as(Gossip *gossip, const GpuFacts *gpu, bool brief) {
        _cleanup_(keep_clear) Keep keep = {};
        Gpupool1__FactsGpu message = GPUPOOL1__FACTS_GPU__INIT;
        Gpupool1__Gpu identity;
        char address[PCI_ADDRESS_TEXT_SIZE], key[KEY_GPU_SIZE];
        gpu_message_borrow(&gpu->identity, address, &identity);
        message.gpu = &identity;
        write_plain(gpu, &message);
        for (size_t i = 0; i < ELEMENTS(text_fields); i++)
                *text_at(&message, text_fields[i].field) =
                        keep_text(&keep, *text_at((void *) gpu, text_fields[i].fact), text_fields[i].most);
        message.reserved_regions = keep_list(&keep, &gpu->reserved_regions, FACTS_REGIONS_MAX,
                                             &message.n_reserved_regions);
        message.reset_methods = keep_list(&keep, &gpu->reset_methods, FACTS_RESETS_MAX, &message.n_reset_methods);
        message.siblings = keep_list(&keep, &gpu->siblings, FACTS_SIBLINGS_MAX, &message.n_siblings);
        message.usb_devices = keep_list(&keep, &gpu->usb_devices, brief ? FACTS_BRIEF_USB_MAX : FACTS_USB_MAX,
                                        &message.n_usb_devices);
        write_functions(&keep, gpu, brief, &message);
        write_holders(&keep, gpu, brief, &message);
        write_bars(&keep, gpu, &message);
        if (keep.failed)
                return -ENOMEM;
        gpu_key(gpu->address, key);
        return publish_message(gossip, key, &message.base);
}

int gpu_publish(Gossip *gossip, const GpuFacts *gpu) {
        int r = publish_as(gossip, gpu, false);
        return r == GOSSIP_SET_REFUSED ? publish_as(gossip, gpu, true) : r;
}

/* ---- in */

static int read_identity(const NodeId *node, const GossipFact *fact, const Gpupool1__Gpu *message, GpuFacts *gpu) {
        if (!message)
                return -EBADMSG;
        /* One whose slot could not be read is shown to people, although the registry would not take it. */
        Gpupool1__Gpu named = *message;
        static char no_slot[] = "-";
        if (text_is_empty(named.slot))
                named.slot = no_slot;
        if (gpu_message_read(&named, &gpu->identity) < 0 || !ID_EQUAL(&gpu->identity.node, node))
                return -EBADMSG;
        if (named.slot == no_slot)
                gpu->identity.slot[0] = '\0';

        char key[KEY_GPU_SIZE];
        gpu->address = gpu->identity.address;
        gpu_key(gpu->address, key);
        return text_equal(key, fact->key) ? 0 : -EBADMSG;
}

static int read_functions(const Gpupool1__FactsGpu *message, GpuFacts *gpu) {
        if (message->n_functions > FACTS_FUNCTIONS_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < message->n_functions; i++) {
                const Gpupool1__FactsFunction *row = message->functions[i];
                PciFunction function = { .class = row->class_, .vendor = (uint16_t) row->vendor,
                                         .device = (uint16_t) row->device, .same_slot = row->same_slot,
                                         .other_group = row->other_group };
                if (row->class_ > PCI_CLASS_MAX || row->vendor > UINT16_MAX || row->device > UINT16_MAX ||
                    pci_address_from_text(row->address, &function.address) < 0)
                        return -EBADMSG;
                int r = read_text(row->driver, FACTS_WORD_MAX, &function.driver);
                if (r >= 0)
                        r = read_text(row->description, FACTS_TEXT_MAX, &function.description);
                if (r < 0) {
                        free(function.driver);
                        return r;
                }
                r = gpu_facts_add_function(gpu, function);
                if (r < 0)
                        return r;
        }
        /* One that stood twice. */
        return gpu->n_functions == message->n_functions ? 0 : -EBADMSG;
}

static int read_holders(const Gpupool1__FactsGpu *message, GpuFacts *gpu) {
        if (message->n_holders > FACTS_HOLDERS_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < message->n_holders; i++) {
                const Gpupool1__FactsHolder *row = message->holders[i];
                GpuHolder holder = { .pid = row->pid, .through_vfio = row->through_vfio };
                int r = read_text(row->name, FACTS_WORD_MAX, &holder.name);
                if (r >= 0)
                        r = gpu_facts_add_holder(gpu, holder);
                if (r < 0)
                        return r;
        }
        return gpu->n_holders == message->n_holders ? 0 : -EBADMSG;
}

static int read_bars(const Gpupool1__FactsGpu *message, GpuFacts *gpu) {
        for (size_t i = 0; i < message->n_bars; i++) {
                const Gpupool1__FactsBar *row = message->bars[i];
                uint64_t end;
                if (row->index >= PCI_BARS || __builtin_add_overflow(row->start, row->size, &end) ||
                    (i > 0 && row->index <= message->bars[i - 1]->index))
                        return -EBADMSG;
                gpu->bars[row->index] = (GpuBar) { row->start, row->size, row->prefetchable_64, row->unassigned };
        }
        return 0;
}

static ConfigSpace read_config(Gpupool1__FactsConfigSpace config) {
        if (config == GPUPOOL1__FACTS_CONFIG_SPACE__FACTS_CONFIG_SPACE_READABLE)
                return CONFIG_READABLE;
        if (config == GPUPOOL1__FACTS_CONFIG_SPACE__FACTS_CONFIG_SPACE_ALL_ONES)
                return CONFIG_ALL_ONES;
        return CONFIG_UNKNOWN;
}

static PciKind read_kind(Gpupool1__FactsPciKind kind) {
        if (kind == GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_CONVENTIONAL)
                return PCI_KIND_CONVENTIONAL;
        if (kind == GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_ENDPOINT)
                return PCI_KIND_ENDPOINT;
        if (kind == GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_LEGACY_ENDPOINT)
                return PCI_KIND_LEGACY_ENDPOINT;
        if (kind == GPUPOOL1__FACTS_PCI_KIND__FACTS_PCI_KIND_INTEGRATED)
                return PCI_KIND_INTEGRATED;
        return PCI_KIND_UNKNOWN;
}

static Interrupts read_interrupts(Gpupool1__FactsInterrupts interrupts) {
        if (interrupts == GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_NONE)
                return INTERRUPTS_NONE;
        if (interrupts == GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_LINE)
                return INTERRUPTS_LINE;
        if (interrupts == GPUPOOL1__FACTS_INTERRUPTS__FACTS_INTERRUPTS_MESSAGES)
                return INTERRUPTS_MESSAGES;
        return INTERRUPTS_UNKNOWN;
}

static int read_plain(const Gpupool1__FactsGpu *message, GpuFacts *gpu) {
        if (message->class_ > PCI_CLASS_MAX || message->iommu_group < -1 || message->numa_node < -1 ||
            message->sriov_vfs > PCI_VIRTUAL_FUNCTIONS_MAX || message->iommu_address_bits > ADDRESS_BITS_MAX)
                return -EBADMSG;
        gpu->class = message->class_;
        gpu->iommu_group = message->iommu_group;
        gpu->numa_node = message->numa_node;
        gpu->link_width = message->link_width;
        gpu->link_width_max = message->link_width_max;
        gpu->reset_methods_known = message->reset_methods_known;
        gpu->has_reset = message->has_reset;
        gpu->boot_vga = message->boot_vga;
        gpu->holders_known = message->holders_known;
        gpu->config = read_config(message->config);
        gpu->acs_missing = message->acs_missing;
        gpu->sriov_vfs = message->sriov_vfs;
        gpu->is_virtual_function = message->is_virtual_function;
        gpu->mdev_in_use = message->mdev_in_use;
        gpu->mig_enabled = message->mig_enabled;
        gpu->runtime_error = message->runtime_error;
        gpu->kind = read_kind(message->kind);
        gpu->interrupts = read_interrupts(message->interrupts);
        gpu->iommu_address_bits = message->iommu_address_bits;
        gpu->vram_bytes = message->vram_bytes;
        return 0;
}

static int read_gpu(const NodeId *node, const GossipFact *fact, const Gpupool1__FactsGpu *message, GpuFacts *gpu) {
        int r = read_identity(node, fact, message->gpu, gpu);
        if (r >= 0)
                r = read_plain(message, gpu);
        for (size_t i = 0; i < ELEMENTS(text_fields) && r >= 0; i++)
                r = read_text(*text_at((void *) message, text_fields[i].field), text_fields[i].most,
                              text_at(gpu, text_fields[i].fact));
        if (r >= 0)
                r = read_list(message->reserved_regions, message->n_reserved_regions, FACTS_REGIONS_MAX,
                              &gpu->reserved_regions);
        if (r >= 0)
                r = read_list(message->reset_methods, message->n_reset_methods, FACTS_RESETS_MAX, &gpu->reset_methods);
        if (r >= 0)
                r = read_list(message->siblings, message->n_siblings, FACTS_SIBLINGS_MAX, &gpu->siblings);
        if (r >= 0)
                r = read_list(message->usb_devices, message->n_usb_devices, FACTS_USB_MAX, &gpu->usb_devices);
        if (r >= 0)
                r = read_functions(message, gpu);
        if (r >= 0)
                r = read_holders(message, gpu);
        return r < 0 ? r : read_bars(message, gpu);
}

int gpu_collect(const NodeId *node, const GossipFact *fact, GpuFacts *ret) {
        _cleanup_(message_freep) ProtobufCMessage *message = NULL;
        int r = unpack_value(&gpupool1__facts_gpu__descriptor, fact->value, fact->size, &message);
        if (r < 0)
                return r;
        GpuFacts gpu = {};
        r = read_gpu(node, fact, (const Gpupool1__FactsGpu *) message, &gpu);
        if (r < 0) {
                gpu_facts_clear(&gpu);
                return r;
        }
        *ret = gpu;
        return 0;
}
