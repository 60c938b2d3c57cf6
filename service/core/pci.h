/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* PCI: addresses and the few facts of the PCI specification that decide what a GPU is. */

#include <stdbool.h>
#include <stdint.h>

/* Domains above 0xffff exist (VMD, Hyper-V); sysfs writes them with more digits. */
typedef struct PciAddress {
        uint32_t domain;
        uint8_t bus;
        uint8_t device;         /* 0..31 */
        uint8_t function;       /* 0..7 */
} PciAddress;

#define PCI_ADDRESS_TEXT_SIZE 17        /* "ffffffff:ff:1f.7" and NUL */

#define PCI_VENDOR_NVIDIA 0x10deU

/* "0000:41:00.0" as sysfs and libvirt write it. */
void pci_address_to_text(PciAddress address, char ret[static PCI_ADDRESS_TEXT_SIZE]);

/* Takes dddd:bb:dd.f with 4 to 8 digits of domain, nothing before or behind. 0 or -EINVAL. */
int pci_address_from_text(const char *text, PciAddress *ret);

int pci_address_compare(PciAddress a, PciAddress b);
static inline bool pci_address_equal(PciAddress a, PciAddress b) {
        return pci_address_compare(a, b) == 0;
}

/* @class as in sysfs: 0xCCSSPP (class, subclass, programming interface). */
bool pci_class_is_gpu(uint32_t class);          /* 0x0300, 0x0302, 0x0380, 0x1200 (design, part 1) */
bool pci_class_is_bridge(uint32_t class);       /* 0x06xx */
bool pci_class_is_vital(uint32_t class);        /* what a host may live on, whatever card it sits on */
bool pci_class_is_nvswitch(uint32_t class);     /* 0x0680, of PCI_VENDOR_NVIDIA: a switch of NVLinks */
bool pci_class_is_companion(uint32_t class);    /* what a graphics card carries beside the GPU: audio, USB, UCSI */

/* vfio-pci, or one made of it for one kind of card. @driver may be NULL: none. */
bool pci_driver_is_vfio(const char *driver);
