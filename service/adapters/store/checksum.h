/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Checksum: CRC-32C (Castagnoli), the one of iSCSI, ext4 and btrfs. It finds every error of up to three flipped bits in
 * anything the registry stores, better than zlib's polynomial does, and twenty lines of our own spare a library. */

#include <stddef.h>
#include <stdint.h>

/* Start with 0; feed the result back in to go on with more bytes. */
uint32_t checksum_add(uint32_t checksum, const void *bytes, size_t size);

/* The number as eight bytes, most significant first, whatever the machine. */
uint32_t checksum_add_number(uint32_t checksum, uint64_t number);
