/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Host reader: what the host itself is: kernel, CPU, memory, IOMMU, VFIO, boot id, addresses. Fills the host's part of
 * the facts and leaves the GPUs, libvirt's part and the node's identity alone. May block: see sysfs.h. */

#include "adapters/udev/sysfs.h"
#include "core/facts.h"

/* 0 or -ENOMEM; what cannot be read stays unknown. */
int host_read(const Sysfs *sysfs, NodeFacts *ret);

/* How much memory and how many hugepages of this host are free at this moment; of *ret nothing else is filled. The
 * kernel answers this at once, so the loop may ask. 0 or -ENOMEM; what cannot be read stays unknown. */
int host_memory_now(NodeFacts *ret);
