/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Facts as of a real host full of GPUs, for benchmarks. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/facts.h"
#include "util/text.h"

static inline int host_facts_fill_gpu(GpuFacts *gpu, const NodeId *node, unsigned number) {
        gpu->identity = (GpuIdentity) { .node = *node, .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de,
                                        .subsystem_device = 0x1626, .serial = "1653922071434",
                                        .address = { .bus = (uint8_t) (0x41 + number) } };
        gpu->address = gpu->identity.address;
        (void) snprintf(gpu->identity.slot, sizeof(gpu->identity.slot), "pci0000:40/%02x.1/00.0/00.0", number);
        gpu->class = 0x030200;
        gpu->iommu_group = (int32_t) (40 + number);
        gpu->link_width = gpu->link_width_max = 16;
        gpu->reset_methods_known = gpu->has_reset = gpu->holders_known = true;
        gpu->config = CONFIG_READABLE;
        gpu->bars[0] = (GpuBar) { UINT64_C(0x3c042000000), 1 << 24, true };
        gpu->bars[2] = (GpuBar) { UINT64_C(0x3a000000000), UINT64_C(1) << 37, true };
        gpu->bars[4] = (GpuBar) { UINT64_C(0x3c040000000), 1 << 25, true };
        const struct {
                char **text;
                const char *value;
        } texts[] = {
                { &gpu->sysfs_path, "/devices/pci0000:40/0000:40:01.1/0000:41:00.0/0000:42:00.0" },
                { &gpu->vendor_name, "NVIDIA Corporation" },
                { &gpu->device_name, "GH100 [H100 SXM5 80GB]" },
                { &gpu->driver, "vfio-pci" },
                { &gpu->iommu_group_type, "DMA" },
                { &gpu->link_speed, "32.0 GT/s PCIe" },
                { &gpu->link_speed_max, "32.0 GT/s PCIe" },
                { &gpu->parent, "0000:41:00.0" },
                { &gpu->switch_address, "0000:41:00.0" },
                { &gpu->power_state, "D0" },
        };
        int r = text_list_add(&gpu->reset_methods, "flr");
        if (r >= 0)
                r = text_list_add(&gpu->reset_methods, "bus");
        for (size_t i = 0; r >= 0 && i < sizeof(texts) / sizeof(texts[0]); i++)
                r = text_set(texts[i].text, texts[i].value);
        return r;
}

/* 0, or -ENOMEM; node_facts_clear() in both cases. */
static inline int host_facts_make(const NodeId *node, unsigned n_gpus, uint64_t memory_free, NodeFacts *ret) {
        *ret = (NodeFacts) { .node = *node, .incarnation = 3, .memory_total = UINT64_C(2) << 40, .address_bits = 52,
                             .memory_free = memory_free, .iommu_present = true, .vfio_present = true,
                             .interrupt_remapping = true, .interrupt_remapping_known = true,
                             .hypervisor = HYPERVISOR_CONNECTED, .guard_connected = true };
        ret->hugepages = calloc(2, sizeof(*ret->hugepages));
        ret->gpus = calloc(n_gpus ? n_gpus : 1, sizeof(*ret->gpus));
        if (!ret->hugepages || !ret->gpus)
                return -ENOMEM;
        ret->hugepages[0] = (Hugepages) { 1 << 21, 0, 0 };
        ret->hugepages[1] = (Hugepages) { 1 << 30, 1800, 900 };
        ret->n_hugepages = 2;
        if (text_set(&ret->boot_id, "0f6e1a52-3c6f-4f0e-9a53-5a3b0d9d5c11") < 0 ||
            text_set(&ret->kernel, "6.12.38+deb13-amd64") < 0 ||
            text_set(&ret->cpu_model, "Intel(R) Xeon(R) Platinum 8480C") < 0 ||
            text_set(&ret->virtualization, "none") < 0 || text_list_add(&ret->addresses, "10.20.30.40:7411") < 0 ||
            text_list_add(&ret->versions, "gpupool 0.1.0") < 0 || text_list_add(&ret->versions, "libvirt 11.3.0") < 0 ||
            text_list_add(&ret->versions, "qemu 10.0.2") < 0)
                return -ENOMEM;
        for (; ret->n_gpus < n_gpus; ret->n_gpus++) {
                int r = host_facts_fill_gpu(ret->gpus + ret->n_gpus, node, (unsigned) ret->n_gpus);
                if (r < 0)
                        return r;
        }
        return 0;
}
