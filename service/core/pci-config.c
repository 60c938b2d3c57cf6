/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pci-config.h"

#include <stdio.h>

/* Offsets and ids of the PCI Express Base Specification, chapter 7. */
#define OFFSET_STATUS 0x06U
#define STATUS_HAS_LIST 0x10U
#define OFFSET_LIST 0x34U
#define OFFSET_INTERRUPT_PIN 0x3dU
#define CAPABILITY_MSI 0x05U
#define CAPABILITY_EXPRESS 0x10U
#define CAPABILITY_MSI_X 0x11U
#define OFFSET_EXTENDED 0x100U
#define EXTENDED_SERIAL 0x0003U
#define EXTENDED_ACS 0x000dU
#define ACS_ISOLATION 0x001dU           /* V, R, C, U */

static uint16_t word_at(const uint8_t *bytes, size_t offset) {
        return (uint16_t) (bytes[offset] | bytes[offset + 1] << 8);
}

static uint32_t long_at(const uint8_t *bytes, size_t offset) {
        return (uint32_t) word_at(bytes, offset) | (uint32_t) word_at(bytes, offset + 2) << 16;
}

static void parse_list(const uint8_t *bytes, size_t size, PciConfig *config) {
        config->has_capabilities = size >= PCI_CONFIG_CONVENTIONAL_SIZE;
        if (size < PCI_CONFIG_HEADER_SIZE)
                return;
        config->interrupt_pin = bytes[OFFSET_INTERRUPT_PIN];
        if (!(word_at(bytes, OFFSET_STATUS) & STATUS_HAS_LIST))
                return;

        size_t offset = bytes[OFFSET_LIST] & 0xfcU;
        /* 48 capabilities of 4 bytes fill the space: more steps are a loop. */
        for (unsigned step = 0; step < 48 && offset >= PCI_CONFIG_HEADER_SIZE && offset + 4 <= size; step++) {
                switch (bytes[offset]) {
                case CAPABILITY_EXPRESS:
                        config->is_express = true;
                        config->port_type = (uint8_t) (word_at(bytes, offset + 2) >> 4 & 15);
                        break;
                case CAPABILITY_MSI:
                case CAPABILITY_MSI_X:
                        config->has_messages = true;
                        break;
                }
                offset = bytes[offset + 1] & 0xfcU;
        }
}

static void parse_extended(const uint8_t *bytes, size_t size, PciConfig *config) {
        size_t offset = OFFSET_EXTENDED;
        for (unsigned step = 0; step < 480 && offset >= OFFSET_EXTENDED && offset + 12 <= size; step++) {
                uint32_t header = long_at(bytes, offset);
                if (header == 0 || header == UINT32_MAX)
                        return;
                switch (header & 0xffffU) {
                case EXTENDED_SERIAL:
                        config->serial = (uint64_t) long_at(bytes, offset + 8) << 32 | long_at(bytes, offset + 4);
                        config->has_serial = config->serial != 0 && config->serial != UINT64_MAX;
                        break;
                case EXTENDED_ACS:
                        config->has_acs = true;
                        config->acs_isolates = (word_at(bytes, offset + 6) & ACS_ISOLATION) == ACS_ISOLATION;
                        break;
                }
                offset = header >> 20 & 0xffcU;
        }
}

void pci_config_parse(const uint8_t *bytes, size_t size, PciConfig *ret) {
        PciConfig config = {};
        if (size >= 4 && long_at(bytes, 0) == UINT32_MAX)
                config.all_ones = true;
        else {
                parse_list(bytes, size, &config);
                parse_extended(bytes, size, &config);
        }
        *ret = config;
}

void pci_config_serial_to_text(const PciConfig *config, char ret[static GPU_SERIAL_SIZE]) {
        if (config->has_serial)
                (void) snprintf(ret, GPU_SERIAL_SIZE, "%016llx", (unsigned long long) config->serial);
}
