/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pci.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static char *write_hex(char *p, uint32_t value, unsigned width) {
        for (unsigned i = width; i > 0; i--)
                *p++ = digits[value >> (4 * (i - 1)) & 15];
        return p;
}

void pci_address_to_text(PciAddress address, char ret[static PCI_ADDRESS_TEXT_SIZE]) {
        unsigned width = 4;
        while (width < 8 && address.domain >> (4 * width))
                width++;

        char *p = write_hex(ret, address.domain, width);
        *p++ = ':';
        p = write_hex(p, address.bus, 2);
        *p++ = ':';
        p = write_hex(p, address.device & 31, 2);
        *p++ = '.';
        *p++ = digits[address.function & 7];
        *p = '\0';
}

/* Reads hex digits up to @end; returns how many, or 0 where there are none or more than @most. */
static size_t read_hex(const char *text, char end, size_t most, uint32_t *ret) {
        uint32_t value = 0;
        size_t n = 0;
        for (; text[n] && text[n] != end; n++) {
                char c = text[n];
                uint32_t digit;
                if (c >= '0' && c <= '9')
                        digit = (uint32_t) (c - '0');
                else if (c >= 'a' && c <= 'f')
                        digit = (uint32_t) (c - 'a') + 10;
                else if (c >= 'A' && c <= 'F')
                        digit = (uint32_t) (c - 'A') + 10;
                else
                        return 0;
                if (n >= most)
                        return 0;
                value = value << 4 | digit;
        }
        if (text[n] != end)
                return 0;
        *ret = value;
        return n;
}

int pci_address_from_text(const char *text, PciAddress *ret) {
        uint32_t domain, bus, device, function;

        size_t n = read_hex(text, ':', 8, &domain);
        if (n < 4)
                return -EINVAL;
        text += n + 1;
        if (read_hex(text, ':', 2, &bus) != 2)
                return -EINVAL;
        text += 3;
        if (read_hex(text, '.', 2, &device) != 2 || device > 31)
                return -EINVAL;
        text += 3;
        if (read_hex(text, '\0', 1, &function) != 1 || function > 7)
                return -EINVAL;

        *ret = (PciAddress) { .domain = domain, .bus = (uint8_t) bus, .device = (uint8_t) device,
                              .function = (uint8_t) function };
        return 0;
}

int pci_address_compare(PciAddress a, PciAddress b) {
        if (a.domain != b.domain)
                return a.domain < b.domain ? -1 : 1;
        if (a.bus != b.bus)
                return a.bus < b.bus ? -1 : 1;
        if (a.device != b.device)
                return a.device < b.device ? -1 : 1;
        return (int) a.function - (int) b.function;
}

bool pci_class_is_gpu(uint32_t class) {
        uint32_t c = class >> 8;
        return c == 0x0300 || c == 0x0302 || c == 0x0380 || c == 0x1200;
}

bool pci_class_is_nvswitch(uint32_t class) {
        return class >> 8 == 0x0680;
}

bool pci_class_is_bridge(uint32_t class) {
        return class >> 16 == 0x06;
}

bool pci_class_is_vital(uint32_t class) {
        switch (class >> 16) {
        case 0x01:      /* storage */
        case 0x02:      /* network */
        case 0x05:      /* memory */
        case 0x06:      /* bridges */
        case 0x08:      /* timers, IOMMU, what a management controller shows */
        case 0x0b:      /* processors */
        case 0x0d:      /* wireless */
                return true;
        }
        return false;
}

bool pci_class_is_companion(uint32_t class) {
        uint32_t c = class >> 8;
        return c == 0x0403 || c == 0x0401 || c == 0x0c03 || c == 0x0c80;
}

bool pci_driver_is_vfio(const char *driver) {
        return driver && strstr(driver, "vfio");
}
