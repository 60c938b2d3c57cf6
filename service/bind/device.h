/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Device: one GPU with the functions that go along, by sysfs. Each of these may never come back, when a driver hangs;
 * none of them reads driver_override or uevent, which wait for the device's lock. All memory is static.
 *
 * For each function that is taken a file below /run/gpupool-bind says by which driver it was had before, and of which
 * card it is; only what has one, and is of that card still, is given back. So a device that an administrator keeps on
 * vfio-pci stays there. */

#include <stddef.h>

#include "bind/bind-protocol.h"
#include "core/bind.h"

#define DEVICE_FOLDER "/run/gpupool-bind"

typedef struct Device {
        char addresses[BIND_FUNCTIONS_MAX][PCI_ADDRESS_TEXT_SIZE];     /* the GPU first */
        size_t n_addresses;
        char card[BIND_CARD_SIZE];      /* the one that is meant, after device_check_card(); "" before */
        char sentence[BIND_SENTENCE_MAX];
        BindResult result;              /* of what was done last; the sentence says more */
} Device;

/* Whether this may be bound at all: one GPU, and functions of its card that must move with it. Whoever asks may have
 * been taken over by somebody: no bridge, disk or network card is touched, nor the host's console. */
void device_check(Device *device, const PciAddress *functions, size_t n);
/* That nobody else is at work on it, until this process ends. */
void device_lock(Device *device);
/* Refused while processes have it open. @vfio_only: what the host's drivers have is not touched, nor looked at. */
void device_check_holders(Device *device, bool vfio_only);
/* Refused where another card than @meant is there. What the kernel keeps is asked first, and the device itself only
 * for a serial. */
void device_check_card(Device *device, const GpuIdentity *meant);
/* Refused while something is plugged into a USB controller that would go along. */
void device_check_usb(Device *device);
void device_take(Device *device);
void device_give(Device *device);
void device_inspect(Device *device);
