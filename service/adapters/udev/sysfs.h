/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sysfs: bounded reads of attributes, links and folders below one root, of what may hold any bytes. A path is given
 * from the root ("sys/bus/pci/devices/...", "proc/meminfo"); links are followed, but never out of the root.
 *
 * A read may block in the kernel for ever: while a removal waits for a VM the device's lock is held, and `uevent`,
 * `driver_override` and `sriov_numvfs` wait for it (so they are never read here), and any attribute of a driver or of a
 * sleeping device may. So all of this runs on the reader's thread, and notes what it is about to read where the
 * service's loop can see it. */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/pci.h"
#include "util/text.h"

#define SYSFS_TEXT_MAX 4096U            /* an attribute is a page at most */
#define SYSFS_NAMES_MAX 4096U           /* entries of a folder that are looked at: above any bus seen, bounded */

/* What a thread is reading at this moment. Written by the thread, read by the loop. */
typedef struct ReadProgress {
        _Atomic uint64_t since_us;              /* CLOCK_MONOTONIC; 0: it reads nothing */
        _Atomic(const char *) attribute;        /* of static storage */
        _Atomic uint64_t device;                /* a packed PciAddress */
} ReadProgress;

typedef struct Sysfs {
        int root;                       /* owned */
        ReadProgress *progress;         /* borrowed; may be NULL */
        /* Borrowed; may be NULL. The first attribute whose reading failed, of static storage. That one is missing, or
         * does not apply, is no failure: so a fact that stays unknown for another reason is not taken for "no". */
        const char **failed;
} Sysfs;

#define SYSFS_NONE ((Sysfs) { .root = -1 })

static inline uint64_t pci_address_pack(PciAddress a) {
        return (uint64_t) a.domain << 16 | (uint64_t) a.bus << 8 | (uint64_t) a.device << 3 | a.function;
}

static inline PciAddress pci_address_unpack(uint64_t packed) {
        return (PciAddress) { .domain = (uint32_t) (packed >> 16), .bus = (uint8_t) (packed >> 8),
                              .device = (uint8_t) (packed >> 3 & 31), .function = (uint8_t) (packed & 7) };
}

/* @root: NULL for "/". 0 or -errno. */
int sysfs_open(const char *root, Sysfs *ret);
/* The same root once more, without the progress. 0 or -errno. */
int sysfs_copy(const Sysfs *from, Sysfs *ret);
void sysfs_close(Sysfs *sysfs);

/* Around something that may block and is no read of this file. @attribute must be of static storage. */
void sysfs_begin(const Sysfs *sysfs, const char *attribute);
void sysfs_end(const Sysfs *sysfs);

/* In all of these @format must be a literal that ends in the attribute's name: it is what the loop gets to see. */

/* Up to @size bytes. Returns how many, or -errno. */
ssize_t sysfs_read_bytes(const Sysfs *sysfs, void *buffer, size_t size, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* As printable text in one line or several: what a person must not be shown becomes a space, trailing blanks are cut, a
 * NUL ends it. Returns its length, or -errno. */
ssize_t sysfs_read_text(const Sysfs *sysfs, char *buffer, size_t size, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* As an owned string; a value that is empty leaves *ret NULL. 0 or -errno. */
int sysfs_read_string(const Sysfs *sysfs, char **ret, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As a number, "0x10de" or "42" alike. 0, -EINVAL, -ERANGE or -errno. */
int sysfs_read_number(const Sysfs *sysfs, uint64_t *ret, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Where a link points to, as text. 0 or -errno. */
int sysfs_read_link(const Sysfs *sysfs, char ret[static PATH_MAX], const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* The last part of where a link points to: a driver's name, a group's number. 0 or -errno. */
int sysfs_read_link_name(const Sysfs *sysfs, char ret[static NAME_MAX + 1], const char *format, ...)
        __attribute__((format(printf, 3, 4)));

bool sysfs_exists(const Sysfs *sysfs, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The names in a folder, sorted, at most SYSFS_NAMES_MAX. Appends to @ret. 0 or -errno. */
int sysfs_list(const Sysfs *sysfs, TextList *ret, const char *format, ...) __attribute__((format(printf, 3, 4)));
