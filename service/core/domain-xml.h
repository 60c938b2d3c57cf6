/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Domain XML: what a caller gave as a VM's description, and what libvirt is given at its start (design, part 9). Text
 * in, text out: libxml2 without files, network, DTD or entities, within bounds that are checked before the work.
 *
 * What is checked here is what gpupool itself must be sure of: name, UUID, size, and that no GPU comes in by another
 * door. That the rest makes a VM is libvirt's to say; give it what domain_xml_build() made, not the caller's bytes, so
 * that both read the same document. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/facts.h"
#include "core/id.h"
#include "core/pci.h"
#include "util/cleanup.h"
#include "util/text.h"

#define DOMAIN_XML_DEPTH_MAX 64U                /* libvirt's own schema needs 12 */
#define DOMAIN_XML_RUNNING_MAX (4U << 20)       /* libvirt adds to what it was given */
#define DOMAIN_VCPUS_MAX 4096U                  /* QEMU's most is 4096 (q35, 9.x) */

/* Every refusal comes with a sentence that says what to do. */
typedef enum DomainXmlVerdict {
        DOMAIN_XML_OK,
        DOMAIN_XML_EMPTY,
        DOMAIN_XML_TOO_LARGE,           /* above XML_SIZE_MAX */
        DOMAIN_XML_MALFORMED,           /* not well-formed, or not UTF-8 */
        DOMAIN_XML_HAS_DTD,             /* a DOCTYPE, with or without entities */
        DOMAIN_XML_TOO_DEEP,
        DOMAIN_XML_NOT_A_DOMAIN,
        DOMAIN_XML_DUPLICATE,           /* an element that may stand once stands twice */
        DOMAIN_XML_BAD_NAME,
        DOMAIN_XML_BAD_UUID,
        DOMAIN_XML_NO_MEMORY,
        DOMAIN_XML_BAD_MEMORY,
        DOMAIN_XML_BAD_VCPU,
        DOMAIN_XML_GPU_HOSTDEV,         /* a host device that is a GPU of the cluster, or a function of its card */
        DOMAIN_XML_MEDIATED_DEVICE,     /* a slice of a device: GPUs are given whole */
        DOMAIN_XML_BACK_DOOR,           /* QEMU's command line used to pass a host device */
        DOMAIN_XML_BAD_WISH,            /* what the metadata asks of its GPUs is not what can be asked for */
} DomainXmlVerdict;

/* What the registry and placement need to know of it. */
typedef struct DomainXml {
        char *name;
        bool has_uuid;                  /* false: the caller makes one */
        VmId vm;
        uint64_t memory_bytes;
        uint32_t vcpus;
        bool hugepages;
        uint64_t hugepage_size_bytes;   /* 0: the host's default size */
        uint64_t hard_limit_bytes;      /* the most that it may use and pin; 0: libvirt reckons it */
        char *type;                     /* "kvm", "qemu", ... */
        char *machine;                  /* NULL: libvirt's default */
        bool host_cpu;                  /* host-passthrough or host-model: runs on like CPUs only */
        TextList paths;                 /* files of the host that it needs: disks, kernel, loader, shared folders */
} DomainXml;

void domain_xml_clear(DomainXml *domain);

/* Reads @size bytes at @xml. @gpus: addresses of all GPUs and of their cards' functions, on every node; a host
 * device with one of them is refused. Fills *ret only with DOMAIN_XML_OK; sets *reterr_sentence (owned by the caller)
 * with every other verdict. Returns a DomainXmlVerdict, or -ENOMEM. */
int domain_xml_check(const char *xml, size_t size, const PciAddress *gpus, size_t n_gpus,
                     DomainXml *ret, char **reterr_sentence);

/* One GPU as the guest gets it: the functions of one card, all in one slot of the host. */
typedef struct DomainGpu {
        const PciAddress *functions;    /* borrowed; 1 to 8, ascending */
        size_t n_functions;
        const GpuBar *bars;             /* borrowed; PCI_BARS of them, or NULL: unknown */
        const char *host_switch;        /* borrowed; address of the host's PCIe switch above it, or NULL: none */
} DomainGpu;

typedef struct DomainBuild {
        const char *name;               /* NULL: as it stands in the XML */
        VmId vm;
        ClusterId cluster;
        NodeId node;
        uint64_t epoch;
        const DomainGpu *gpus;
        size_t n_gpus;                  /* 0 to GPUS_PER_VM_MAX; 0 to have libvirt check the XML at all */
        int numa_node;                  /* where all its GPUs are, on a host of several; -1: leave memory alone */
        const char *numa_cpus;          /* borrowed; the CPUs of that node, "0-15,32-47"; NULL: leave them alone */
        uint32_t address_bits;          /* of the host's CPU; 0 unknown */
} DomainBuild;

typedef enum DomainBuildVerdict {
        DOMAIN_BUILD_OK,
        DOMAIN_BUILD_NO_PLACE,          /* the guest has no bus or slot left for a GPU */
        DOMAIN_BUILD_NO_WINDOW,         /* the GPUs' memory regions do not fit into the guest's addresses */
} DomainBuildVerdict;

/* Makes of XML that was checked what libvirt starts: name, UUID, the mark of the cluster, "destroy" for poweroff and
 * crash, because restarting is the cluster's; memory and processors near the GPUs; then the GPUs in their order, each
 * behind a root port of its own where the machine has PCI Express, those that share a switch of the host behind a
 * switch of the guest, and room for their memory regions where the firmware would not make it by itself.
 * Everything else stays as it was, and what the XML says of these things is not overruled.
 *
 * What cannot be said in libvirt's words the XML may ask for in ours, below <metadata>:
 *      <gpus xmlns="https://gpupool.org/xmlns/vm/1" rom="off" topology="flat"/>
 * rom: whether the guest sees the cards' option ROMs ("on"); topology: whether it sees which share a switch ("host").
 *
 * Returns a DomainBuildVerdict, -EINVAL (the XML or the functions are not what they were promised to be), or -ENOMEM.
 * Fills *ret only with DOMAIN_BUILD_OK; sets *reterr_sentence (owned by the caller) with every other verdict. */
int domain_xml_build(const char *xml, size_t size, const DomainBuild *build, char **ret, char **reterr_sentence);

/* What stands between a VM with GPUs and its memory. All of that is pinned when it starts, for devices to reach. */
typedef enum DomainMemoryVerdict {
        DOMAIN_MEMORY_OK,
        DOMAIN_MEMORY_NO_HUGEPAGES,     /* the host has no pages of this size */
        DOMAIN_MEMORY_FEW_HUGEPAGES,    /* fewer than needed */
        DOMAIN_MEMORY_TOO_LITTLE,       /* less memory than needed */
        DOMAIN_MEMORY_LOCK_LIMIT,       /* by its own XML it may pin less than it has */
} DomainMemoryVerdict;

/* By what the host has at all, or by what of that is free, if the facts are of now: what the last VM left is soon free
 * and late in the facts. */
typedef enum DomainMemoryScope {
        DOMAIN_MEMORY_EVER,
        DOMAIN_MEMORY_NOW,
} DomainMemoryScope;

/* What the host does not tell is taken to be enough. Returns a DomainMemoryVerdict, with *reterr_sentence for all but
 * DOMAIN_MEMORY_OK; or -ENOMEM. */
int domain_memory_check(const DomainXml *domain, const NodeFacts *host, DomainMemoryScope scope,
                        char **reterr_sentence);

/* The mark that domain_xml_build() left in a domain, and what else of a running one tells it from others. */
typedef struct DomainMark {
        VmId vm;
        ClusterId cluster;
        NodeId node;
        uint64_t epoch;
        char *name;
        int64_t process_uid;            /* the user that libvirt runs its process as; -1: libvirt does not say */
} DomainMark;

typedef enum DomainMarkVerdict {
        DOMAIN_MARK_FOUND,
        DOMAIN_MARK_NONE,               /* somebody else's domain */
        DOMAIN_MARK_UNREADABLE,         /* marked, yet not by us in this way; or not a domain's XML */
} DomainMarkVerdict;

void domain_mark_clear(DomainMark *mark);

/* Reads the XML of a running domain, as libvirt shows it. Returns a DomainMarkVerdict, or -ENOMEM; fills *ret only with
 * DOMAIN_MARK_FOUND. */
int domain_xml_mark(const char *xml, size_t size, DomainMark *ret);
