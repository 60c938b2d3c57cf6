/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Survey: what stands between a GPU and a VM that wants it whole. Facts in, blockers out; each with a code for
 * scripts, a sentence for people, and a remedy (design, part 8). No blocker: the GPU is assignable.
 *
 * Not in the way, on purpose: a host driver that is bound (libvirt takes it off and gives it back), the other functions
 * of the same card (they go along), and bridges in the group (they stay with the host). */

#include "core/facts.h"

typedef enum BlockerCode {
        BLOCKER_NO_IOMMU,               /* host: no IOMMU at work */
        BLOCKER_NO_VFIO,                /* host: vfio-pci cannot be had */
        BLOCKER_NO_INTERRUPT_REMAPPING, /* host */
        BLOCKER_NO_GROUP,               /* the device has no IOMMU group */
        BLOCKER_RESERVED_MEMORY,        /* RMRR: firmware keeps DMA into memory of its own */
        BLOCKER_GROUP_SHARED,           /* a foreign device is in the group; which, and whether ACS is missing */
        BLOCKER_BOOT_DISPLAY,           /* the host's console */
        BLOCKER_IN_USE,                 /* processes of the host hold it */
        BLOCKER_NO_RESET,               /* memory could pass from tenant to tenant */
        BLOCKER_BAR_TOO_LARGE,          /* larger than the guest's MMIO window can be */
        BLOCKER_SRIOV,
        BLOCKER_MIG,
        BLOCKER_MDEV,
        BLOCKER_VIRTUAL_FUNCTION,
        BLOCKER_FABRIC,                 /* one of a set that must move whole, and the set is not whole here */
        BLOCKER_ASLEEP,                 /* asleep and cannot be woken */
        BLOCKER_OFF_THE_BUS,            /* config space reads all ones */
        BLOCKER_UNREADABLE,             /* a fact that the verdict needs could not be read */
        BLOCKER_CODE_COUNT,
} BlockerCode;

typedef struct Blocker {
        BlockerCode code;
        char *sentence;                 /* owned; what is in the way, without a full stop */
        char *remedy;                   /* owned; what to do about it, likewise */
} Blocker;

typedef struct Blockers {
        Blocker *items;
        size_t n;
        size_t allocated;
} Blockers;

/* Memory regions that are not 64-bit prefetchable must fit below 4 GiB of the guest, beside its own devices. */
#define BARS_BELOW_4G_MAX (UINT64_C(1024) * 1024 * 1024)
/* Where the CPU does not say how many bits an address has: what QEMU gives a guest then. */
#define ADDRESS_BITS_ASSUMED 40U

/* Judges @gpu on @host. Appends to @ret, in the order of the enum, each code at most once. 0 or -ENOMEM. */
int survey_gpu(const NodeFacts *host, const GpuFacts *gpu, Blockers *ret);
void blockers_clear(Blockers *blockers);

const char *blocker_code_to_text(BlockerCode code);     /* "group-shared"; part of the D-Bus contract */
int blocker_code_from_text(const char *text, BlockerCode *ret);

/* For the manual: what the code means and what helps, without the names of one host's devices. */
const char *blocker_code_meaning(BlockerCode code);
const char *blocker_code_remedy(BlockerCode code);
