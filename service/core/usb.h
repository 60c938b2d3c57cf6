/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* USB: by the links of /sys/bus/usb/devices, what is plugged in at which controller. A host may live on that. */

#include <stdbool.h>

#define USB_DEVICE_TEXT_SIZE 64         /* a word of the facts */

/* Whether a link of that name and target is a device on the controller at @address, behind hubs or not. The root hub
 * ("usb1"), which is a part of the controller, is none, nor are the interfaces of a device ("1-2:1.0"). */
bool usb_device_is_on(const char *name, const char *target, const char *address);

/* "1-2 (Kingston DataTraveler)"; @what: a description, or its ids, or NULL. */
void usb_device_to_text(const char *name, const char *what, char ret[static USB_DEVICE_TEXT_SIZE]);
