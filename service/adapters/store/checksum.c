/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/checksum.h"

#include <pthread.h>

#define POLYNOMIAL_REVERSED UINT32_C(0x82f63b78)

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void) {
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t value = i;
                for (unsigned bit = 0; bit < 8; bit++)
                        value = (value >> 1) ^ ((value & 1) ? POLYNOMIAL_REVERSED : 0);
                table[i] = value;
        }
}

uint32_t checksum_add(uint32_t checksum, const void *bytes, size_t size) {
        const uint8_t *byte = bytes;

        (void) pthread_once(&table_once, table_fill);
        checksum = ~checksum;
        for (size_t i = 0; i < size; i++)
                checksum = (checksum >> 8) ^ table[(checksum ^ byte[i]) & 0xff];
        return ~checksum;
}

uint32_t checksum_add_number(uint32_t checksum, uint64_t number) {
        uint8_t bytes[8];

        for (unsigned i = 0; i < 8; i++)
                bytes[i] = (uint8_t) (number >> (56 - 8 * i));
        return checksum_add(checksum, bytes, sizeof(bytes));
}
