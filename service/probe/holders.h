/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Holders: which processes have a PCI device's files open: its display nodes, those of NVIDIA's and AMD's drivers, its
 * sound card's, its VFIO files. Opens none of them, and waits for no device. All memory is static. */

#include <stdbool.h>

/* Notes the device files of a PCI device; may be called for several. */
void holders_add_device(const char *address);

typedef struct Holder {
        const char *pid;
        const char *name;               /* as the kernel has it, 15 bytes; printable */
        bool host, vfio;                /* by a file of a host's driver; by a VFIO file: one of them, or both */
} Holder;

/* Calls @found for each process, at most @most times. False: the processes cannot be seen. */
typedef void (*HolderFound)(const Holder *holder);
bool holders_find(HolderFound found, unsigned most);
