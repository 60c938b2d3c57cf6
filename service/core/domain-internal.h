/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The parts of domain_xml_build(), and what they share. */

#include "core/domain-tree.h"
#include "core/domain-xml.h"

#define QEMU_NAMESPACE "http://libvirt.org/schemas/domain/qemu/1.0"

/* libvirt's way to write a size; where @unit is NULL, KiB. 0, -EINVAL or -ERANGE. */
int domain_size_to_bytes(const char *number, const char *unit, uint64_t *ret);
/* <memory>, or what the guest's NUMA cells add up to, in whole KiB; 0 where neither says. 0, -EINVAL, -ERANGE or
 * -ENOMEM. */
int domain_read_memory(const xmlNode *root, uint64_t *ret_bytes);
/* Whether it wants its memory in hugepages, and of which size; 0: the host's default. 0, -EINVAL or -ERANGE. */
int domain_read_pages(const xmlNode *root, bool *ret_hugepages, uint64_t *ret_size_bytes);
/* Adds the files of the host that it needs, none twice, at most so many. 0 or -ENOMEM. */
int domain_read_paths(const xmlNode *root, size_t most, TextList *paths);
/* os/type's machine; NULL where libvirt chooses. Borrowed. */
const char *domain_machine(const xmlNode *root);
/* How many processors it has, by <vcpu>; 0: that is no number. 0 or -ENOMEM. */
int domain_read_vcpus(const xmlNode *root, uint64_t *ret);
/* <devices>, made where it is not there. NULL: out of memory. */
xmlNode *domain_devices(xmlNode *root);

/* An element of our namespace. */
bool node_is_ours(const xmlNode *node);

#define WISHES_NAME "gpus"
typedef struct DomainWishes {
        bool rom_off;                   /* the guest sees no option ROM of its GPUs */
        bool flat;                      /* nor which of them share a switch of the host */
} DomainWishes;

/* What the metadata asks of the GPUs. NULL; else the attribute that says what it cannot, or that is not known. */
const char *domain_read_wishes(const xmlNode *root, DomainWishes *ret);

/* Each returns a DomainBuildVerdict, with a sentence where it is a refusal; -EINVAL or -ENOMEM. */
int domain_add_gpus(xmlNode *root, const DomainBuild *build, const DomainWishes *wishes, char **reterr_sentence);
int domain_set_window(xmlNode *root, const DomainBuild *build, char **reterr_sentence);
