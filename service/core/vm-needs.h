/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Needs: what a VM's XML asks of a host beside GPUs. Derived from the XML whenever the registry takes it in, on every
 * node by the same rules, and never written down. Placement goes by it; the checks at the start stay. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/text.h"

#define NEEDED_PATHS_MAX 256U           /* of one VM; what comes after them is seen at the start only */

typedef struct VmNeeds {
        uint64_t memory_bytes;          /* whole KiB; all of it is pinned, as devices reach it; 0: not known */
        bool hugepages;
        uint64_t hugepage_size_bytes;   /* 0: the host's default */
        uint64_t numa_nodes;            /* its XML binds it to memory of these nodes of the host, bit by bit; 0: none.
                                         * What gpupool itself adds is "preferred", and needs no more than the host */
        TextList paths;                 /* absolute ones of files, devices and folders of the host; none twice */
        char *cpu_model;                /* in libvirt's words ("EPYC-Genoa"), where a host without it cannot start the
                                         * VM; NULL: any CPU will do */
        char *cpu_vendor;               /* likewise; "Intel", "AMD"; NULL: any */
        bool host_cpu;                  /* the guest sees the host's CPU: any will do, the one that it had is better */
} VmNeeds;

void vm_needs_clear(VmNeeds *needs);

/* What is no domain's XML needs nothing: whoever lets XML in refuses it before. 0 or -ENOMEM. */
int vm_needs_read(const char *xml, size_t size, VmNeeds *ret);
