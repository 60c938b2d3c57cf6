/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Host reader: what the host itself is: kernel, CPU, memory, IOMMU, VFIO, boot id, addresses. Fills the host's part of
 * the facts and leaves the GPUs, libvirt's part and the node's identity alone. May block: see sysfs.h. */

#include "adapters/udev/sysfs.h"
#include "core/facts.h"

/* 0 or -ENOMEM; what cannot be read stays unknown. */
int host_read(const Sysfs *sysfs, NodeFacts *ret);

/* Only how much memory there is and how much of it is free; the kernel answers this at once. 0 or -errno. */
int host_read_memory(const Sysfs *sysfs, uint64_t *ret_total, uint64_t *ret_free);
