/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* PCI path: what the place of a device in sysfs tells, which is where it is plugged in. The kernel gives it without
 * asking the device. */

#include "core/facts.h"

#define PCI_BRIDGES_MAX 32         /* above one device; what is deeper is left out */

/* "/devices/pci0000:40/0000:40:01.0/0000:41:00.0" → "pci0000:40/01.0/00.0". 0, -EINVAL or -ENAMETOOLONG. */
int slot_from_path(const char *sysfs_path, char ret[static GPU_SLOT_SIZE]);

/* The bridges above, nearest first, at most @size. Returns how many. */
size_t bridges_from_path(const char *sysfs_path, PciAddress *ret, size_t size);
