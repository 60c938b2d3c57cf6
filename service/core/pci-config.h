/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Configuration space: the few capabilities that decide something, out of bytes that may be anything. */

#include "core/facts.h"

#define PCI_CONFIG_SIZE 4096U
#define PCI_CONFIG_HEADER_SIZE 64U      /* what everybody may read */
#define PCI_CONFIG_CONVENTIONAL_SIZE 256U       /* all of it, without PCI Express */

typedef struct PciConfig {
        bool all_ones;                  /* the device does not answer */
        bool has_capabilities;          /* their list was there to be read: what is not in it, there is not */
        bool is_express;
        uint8_t port_type;              /* of the PCI Express capability; see the specification, 7.5.3.2 */
        bool has_messages;              /* MSI or MSI-X */
        uint8_t interrupt_pin;          /* 0: no INTx */
        bool has_acs;
        bool acs_isolates;              /* source validation, request and completion redirect, upstream forwarding on */
        bool has_serial;
        uint64_t serial;                /* of the Device Serial Number capability */
} PciConfig;

#define PCI_PORT_ENDPOINT 0U
#define PCI_PORT_LEGACY_ENDPOINT 1U
#define PCI_PORT_ROOT 4U
#define PCI_PORT_SWITCH_UPSTREAM 5U
#define PCI_PORT_SWITCH_DOWNSTREAM 6U
#define PCI_PORT_TO_CONVENTIONAL 7U
#define PCI_PORT_INTEGRATED 9U

/* Reads what @size bytes tell; a list that loops or leaves the space ends there. */
void pci_config_parse(const uint8_t *bytes, size_t size, PciConfig *ret);

/* As it stands in a GPU's identity; nothing is written where there is none. */
void pci_config_serial_to_text(const PciConfig *config, char ret[static GPU_SERIAL_SIZE]);
