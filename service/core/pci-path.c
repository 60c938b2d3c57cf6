/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/pci-path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The next part of a path; *path moves on. */
static bool next_part(const char **path, char ret[static NAME_MAX + 1]) {
        const char *p = *path + strspn(*path, "/");
        size_t n = strcspn(p, "/");
        if (n == 0 || n > NAME_MAX)
                return false;
        memcpy(ret, p, n);
        ret[n] = '\0';
        *path = p + n;
        return true;
}

int slot_from_path(const char *sysfs_path, char ret[static GPU_SLOT_SIZE]) {
        char slot[GPU_SLOT_SIZE] = "", part[NAME_MAX + 1];
        size_t n = 0;
        while (next_part(&sysfs_path, part)) {
                PciAddress address;
                const char *name = part;
                if (pci_address_from_text(part, &address) >= 0)
                        /* Only "device.function": the bus number may be another after the next boot. */
                        name = strrchr(part, ':') + 1;
                else if (strncmp(part, "pci", 3) != 0 || !strchr(part, ':'))
                        continue;
                if (name != part && n == 0)
                        return -EINVAL;         /* a device outside any root bus */
                int length = snprintf(slot + n, sizeof(slot) - n, "%s%s", n > 0 ? "/" : "", name);
                if (length < 0 || (size_t) length >= sizeof(slot) - n)
                        return -ENAMETOOLONG;
                n += (size_t) length;
        }
        if (!strchr(slot, '/'))
                return -EINVAL;
        memcpy(ret, slot, sizeof(slot));
        return 0;
}

size_t bridges_from_path(const char *sysfs_path, PciAddress *ret, size_t size) {
        PciAddress chain[PCI_BRIDGES_MAX];
        char part[NAME_MAX + 1];
        size_t n = 0;
        while (n < PCI_BRIDGES_MAX && next_part(&sysfs_path, part))
                if (pci_address_from_text(part, &chain[n]) >= 0)
                        n++;

        size_t bridges = 0;
        for (size_t i = n; i > 1 && bridges < size; i--)
                ret[bridges++] = chain[i - 2];
        return bridges;
}
