/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bind/usb.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "core/usb.h"
#include "probe/files.h"
#include "util/cleanup.h"

#define DEVICES "/sys/bus/usb/devices"

static struct {
        const char *address;
        UsbDeviceFound found;
} search;

/* Named by its ids: what the device calls itself waits for the device's lock. */
static void look_at_device(int folder, const char *name, const void *userdata) {
        char target[PATH_MAX], vendor[8], product[8], ids[2 * sizeof(vendor)], text[USB_DEVICE_TEXT_SIZE];
        ssize_t n = readlinkat(folder, name, target, sizeof(target) - 1);
        if (n <= 0)
                return;
        target[n] = '\0';
        if (!usb_device_is_on(name, target, search.address))
                return;
        bool known = read_text_file(vendor, sizeof(vendor), DEVICES "/%s/idVendor", name) &&
                     read_text_file(product, sizeof(product), DEVICES "/%s/idProduct", name);
        if (known)
                (void) snprintf(ids, sizeof(ids), "%s:%s", vendor, product);
        usb_device_to_text(name, known ? ids : NULL, text);
        search.found(text);
}

void usb_find_devices(const char *address, UsbDeviceFound found) {
        _cleanup_close_ int fd = open_path(O_RDONLY | O_DIRECTORY, DEVICES);
        if (fd < 0)
                return;
        search.address = address;
        search.found = found;
        each_name(fd, look_at_device, NULL);
}
