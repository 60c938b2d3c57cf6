/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Configuration space: the few capabilities that decide something, out of bytes that may be anything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCI_CONFIG_SIZE 4096U
#define PCI_CONFIG_HEADER_SIZE 64U      /* what everybody may read */

typedef struct PciConfig {
        bool all_ones;                  /* the device does not answer */
        bool is_express;
        uint8_t port_type;              /* of the PCI Express capability; see the specification, 7.5.3.2 */
        bool has_acs;
        bool acs_isolates;              /* source validation, request and completion redirect, upstream forwarding on */
        bool has_serial;
        uint64_t serial;                /* of the Device Serial Number capability */
} PciConfig;

#define PCI_PORT_ROOT 4U
#define PCI_PORT_SWITCH_UPSTREAM 5U
#define PCI_PORT_SWITCH_DOWNSTREAM 6U

/* Reads what @size bytes tell; a list that loops or leaves the space ends there. */
void pci_config_parse(const uint8_t *bytes, size_t size, PciConfig *ret);
