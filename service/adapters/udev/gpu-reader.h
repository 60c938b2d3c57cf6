/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* GPU reader: one PCI device of sysfs → facts. What only root can read (configuration space beyond its header, who
 * holds the device open) comes from the probe and is put in elsewhere. May block: see sysfs.h. */

#include "adapters/udev/name-database.h"
#include "adapters/udev/sysfs.h"
#include "core/facts.h"

/* What sysfs tells of one device. */
typedef struct DeviceReading {
        PciAddress address;
        bool present;
        bool class_known;               /* false: it could not be read */
        bool is_gpu;                    /* by its class; only then there are facts */
        int32_t iommu_group;            /* -1: none */
        uint64_t hive;                  /* XGMI hive; 0: none, or its driver is not bound */
        GpuFacts facts;
} DeviceReading;

void device_reading_clear(DeviceReading *reading);

/* Reads the device at @address. That a single attribute is missing or garbage is no failure: the fact stays unknown.
 * That one cannot be read is told by .unreadable. @names may be NULL. 0, -ENOMEM, or -errno where the device itself
 * cannot be looked up. */
int gpu_read(const Sysfs *sysfs, NameDatabase *names, PciAddress address, DeviceReading *ret);

/* Only what it is: its slot path and ids, which the kernel keeps and gives without asking the device. What cannot be
 * read is empty. */
void gpu_identity_read(const Sysfs *sysfs, PciAddress address, GpuIdentity *ret);

/* Only its class. 0, -EINVAL where it is garbage, or -errno. */
int pci_class_read(const Sysfs *sysfs, PciAddress address, uint32_t *ret);
