/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/usb.h"

#include <ctype.h>
#include <stdio.h>

#include "core/pci.h"
#include "util/text.h"

bool usb_device_is_on(const char *name, const char *target, const char *address) {
        char part[PCI_ADDRESS_TEXT_SIZE + sizeof("//usb")];
        if (!isdigit((unsigned char) name[0]) || !strchr(name, '-') || strchr(name, ':'))
                return false;
        (void) snprintf(part, sizeof(part), "/%s/usb", address);
        return strstr(target, part);
}

void usb_device_to_text(const char *name, const char *what, char ret[static USB_DEVICE_TEXT_SIZE]) {
        if (text_is_empty(what))
                (void) snprintf(ret, USB_DEVICE_TEXT_SIZE, "%s", name);
        else
                (void) snprintf(ret, USB_DEVICE_TEXT_SIZE, "%.18s (%.41s)", name, what);
        text_make_printable(ret, USB_DEVICE_TEXT_SIZE - 1);
}
