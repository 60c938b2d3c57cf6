/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* USB: what is plugged in at a controller that is to go to a VM. Allocates nothing, and waits for no device. */

typedef void (*UsbDeviceFound)(const char *text);
void usb_find_devices(const char *address, UsbDeviceFound found);
