/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Facts: what a node observes of itself (design, part 6). The udev adapter fills the PCI part, the libvirt adapter and
 * the daemon the rest. Facts never decide who runs a VM; the registry does.
 *
 * Everything a reader could not find out stands as "unknown": NULL, an empty list, -1, or false beside a "known" flag.
 * A fact that is unknown is never a reason to call a GPU assignable. Every text is printable UTF-8. */

#include <stdbool.h>
#include <stdint.h>

#include "core/id.h"
#include "core/path-set.h"
#include "core/pci.h"
#include "util/text.h"

#define PCI_BARS 6
#define GPU_SLOT_SIZE 96
#define GPU_SERIAL_SIZE 32

/* What names a GPU for good: where it sits and what it is (design, part 8). Bus numbers may change from boot to boot;
 * the slot path (device and function numbers from the root complex down) does not. Two GPUs are the same when all of
 * this is equal; the address is where it was seen last, and not part of the identity. */
typedef struct GpuIdentity {
        NodeId node;
        char slot[GPU_SLOT_SIZE];       /* "pci0000:40/01.0/00.0" */
        uint16_t vendor, device, subsystem_vendor, subsystem_device;
        char serial[GPU_SERIAL_SIZE];   /* device serial number, hex or VPD text; "" where not readable */
        PciAddress address;
} GpuIdentity;

bool gpu_identity_equal(const GpuIdentity *a, const GpuIdentity *b);
/* Order of node, slot, ids, serial; the address does not count. */
int gpu_identity_compare(const GpuIdentity *a, const GpuIdentity *b);
/* Whether a GPU that is seen is the one that is meant. Like equal, except that a serial which one side could not read
 * is no proof of another card: a service that starts without its probe must not take every GPU for gone. */
bool gpu_identity_matches(const GpuIdentity *meant, const GpuIdentity *seen);

typedef struct GpuBar {
        uint64_t start, size;           /* bytes; size 0: not there, or an I/O port region */
        bool prefetchable_64;
        bool unassigned;                /* the host had no room for it: its start means nothing */
} GpuBar;

/* One PCI function that sits beside a GPU: a companion of the card, or a stranger in its IOMMU group. */
typedef struct PciFunction {
        PciAddress address;
        uint32_t class;
        uint16_t vendor, device;
        char *driver;                   /* NULL: none bound */
        char *description;              /* from the hardware database, or NULL */
        bool same_slot;                 /* another function of the same card */
        bool other_group;               /* it has an IOMMU group apart from the GPU's */
} PciFunction;

/* A process that holds the GPU's device files open. */
typedef struct GpuHolder {
        uint32_t pid;
        char *name;
        bool through_vfio;              /* by its VFIO file: a virtual machine, or a driver in user space */
} GpuHolder;

typedef enum ConfigSpace {
        CONFIG_UNKNOWN,                 /* not readable here, or not read because the device sleeps */
        CONFIG_READABLE,
        CONFIG_ALL_ONES,                /* the device does not answer: fallen off the bus */
} ConfigSpace;

typedef enum PciKind {
        PCI_KIND_UNKNOWN,
        PCI_KIND_CONVENTIONAL,          /* without PCI Express */
        PCI_KIND_ENDPOINT,
        PCI_KIND_LEGACY_ENDPOINT,       /* one that also wants I/O ports: every card with a VGA */
        PCI_KIND_INTEGRATED,            /* part of the root complex: in no slot, and without a link */
} PciKind;

typedef enum Interrupts {
        INTERRUPTS_UNKNOWN,
        INTERRUPTS_NONE,
        INTERRUPTS_LINE,                /* INTx only */
        INTERRUPTS_MESSAGES,            /* MSI or MSI-X */
} Interrupts;

typedef struct GpuFacts {
        GpuIdentity identity;           /* vendor 0: none of the device's own facts could be read */
        PciAddress address;
        char *sysfs_path;               /* below /sys, "/devices/pci0000:40/..." */
        char *unreadable;               /* what did not answer, "config"; other facts may be old. NULL: all answered */
        uint32_t class;
        char *vendor_name, *device_name;        /* hardware database; NULL where it has none */
        char *driver;                   /* NULL: none */
        int32_t iommu_group;            /* -1: none, or one without an IOMMU behind it (VFIO's no-IOMMU mode) */
        char *iommu_group_type;         /* "DMA", "identity", ...; NULL unknown */
        TextList reserved_regions;      /* lines of reserved_regions whose type is "direct" (RMRR) */
        PciFunction *functions;         /* of the card and of the group, this GPU itself not among them; by address */
        size_t n_functions;
        int32_t numa_node;              /* -1 unknown */
        GpuBar bars[PCI_BARS];
        char *link_speed, *link_speed_max;      /* "16.0 GT/s PCIe" */
        uint32_t link_width, link_width_max;    /* lanes; 0 unknown */
        TextList reset_methods;         /* "flr", "pm", "bus", "device_specific", "acpi" */
        bool reset_methods_known;       /* kernel 5.15 and later tell them */
        bool has_reset;                 /* sysfs shows a reset file */
        bool boot_vga;                  /* the firmware's console */
        char *parent;                   /* address of the bridge above */
        char *switch_address;           /* upstream port of the host's switch above, one for all its GPUs; or NULL */
        TextList siblings;              /* addresses of GPUs that belong together (NVLink, XGMI, shared board) */
        GpuHolder *holders;             /* by pid */
        size_t n_holders;
        bool holders_known;             /* the probe answered */
        ConfigSpace config;
        bool acs_missing;               /* a bridge above lacks ACS, as config space tells; false where unknown */
        char *acs_missing_at;           /* which bridge */
        PciKind kind;
        Interrupts interrupts;
        char *conventional_at;          /* a bridge above to conventional PCI; NULL: none, or unknown */
        uint32_t iommu_address_bits;    /* that the IOMMU above it translates; 0 unknown */
        /* Only the card's own driver tells these; while a VM has the GPU they are what was known before. */
        uint64_t vram_bytes;            /* 0 unknown */
        char *vbios;                    /* NULL unknown */
        uint32_t sriov_vfs;             /* virtual functions switched on */
        bool is_virtual_function;
        bool mdev_in_use;               /* mediated devices (vGPU) exist on it */
        bool mig_enabled;
        TextList usb_devices;           /* of the host, on USB controllers that go along: "1-2 (0951:1666)" */
        char *power_state;              /* "D0", "D3cold", "unknown", "error"; NULL unknown */
        bool runtime_error;             /* power/runtime_status says error: asleep and unwakeable */
        char *stuck;                    /* what of its binding hangs in the kernel, for people; NULL: nothing */
        char *unbindable;               /* why it could not be bound lately, for people; NULL: it could */
        /* When the reading, and the look for holders, began that told all this: CLOCK_BOOTTIME of this host, 0 for
         * another host's. Facts that differ in nothing else are equal. */
        uint64_t read_us, holders_us;
} GpuFacts;

void gpu_facts_clear(GpuFacts *gpu);
bool gpu_facts_equal(const GpuFacts *a, const GpuFacts *b);
int gpu_facts_copy(const GpuFacts *from, GpuFacts *ret);
/* Memory that its regions take in a guest's address space. */
uint64_t gpu_facts_bars_total(const GpuFacts *gpu);
/* Whether a function goes to the VM with its GPU: of the same card, nothing that a host may live on, and in its group,
 * or its sound. A group is owned as a whole, so what is in it must go; a processor's graphics has USB and security
 * functions beside it, each in a group of its own, that the host goes on to need. gpupool-bind goes by this, too. */
bool pci_function_goes_along(const PciFunction *function);
#define GPU_FUNCTIONS_MAX 8U            /* of one slot */
/* The addresses of the GPU, first, and of the functions that go with it, in their order. Returns how many. */
size_t gpu_facts_list_given(const GpuFacts *gpu, PciAddress ret[static GPU_FUNCTIONS_MAX]);
/* The GPU and these functions, by their drivers. */
typedef struct GivenDrivers {
        size_t on_vfio;
        size_t without;                 /* no driver has them */
        PciAddress first_without;
} GivenDrivers;

GivenDrivers gpu_facts_count_drivers(const GpuFacts *gpu);
bool gpu_facts_held_through_vfio(const GpuFacts *gpu);

/* Both keep their rows sorted and take over what @function and @holder own, also when they fail. An address or pid
 * that is there already is not added again. 0 or -ENOMEM. */
int gpu_facts_add_function(GpuFacts *gpu, PciFunction function);
int gpu_facts_add_holder(GpuFacts *gpu, GpuHolder holder);
void gpu_facts_clear_holders(GpuFacts *gpu);

typedef struct Hugepages {
        uint64_t size_bytes, total, free;       /* pages */
} Hugepages;

/* What one NUMA node has of one kind of memory. */
typedef struct NumaMemory {
        uint32_t node;                  /* below NUMA_NODES_MAX */
        uint64_t page_size_bytes;       /* of hugepages; 0: all its memory, hugepages too */
        uint64_t total_bytes;
} NumaMemory;

#define NUMA_NODES_MAX 64U

typedef enum HypervisorState {
        HYPERVISOR_ABSENT,              /* no such socket */
        HYPERVISOR_CONNECTING,
        HYPERVISOR_CONNECTED,
        HYPERVISOR_HUNG,                /* it does not answer within the deadline */
} HypervisorState;

const char *hypervisor_state_to_text(HypervisorState state);

typedef enum FirmwareIommu {
        FIRMWARE_IOMMU_UNKNOWN,         /* no ACPI here, or not to be looked at */
        FIRMWARE_IOMMU_ABSENT,
        FIRMWARE_IOMMU_PRESENT,         /* there is one, whether the kernel uses it or not */
} FirmwareIommu;

typedef struct NodeFacts {
        NodeId node;
        uint64_t version;               /* another one whenever anything else here is; 0: nobody counts */
        uint64_t incarnation;
        char *boot_id, *kernel, *cpu_model, *virtualization;    /* virtualization: "none", "kvm", ...; NULL unknown */
        TextList addresses;
        TextList versions;              /* "gpupool 0.1.0", "libvirt 9.0.0", "qemu 7.2.0" */
        uint64_t memory_total, memory_free;     /* bytes */
        Hugepages *hugepages;           /* by size */
        size_t n_hugepages;
        NumaMemory *numa_memory;        /* by node, then size; none where the host has but one node */
        size_t n_numa_memory;
        uint64_t hugepage_default_bytes;        /* the size where nobody asks for one; 0 unknown */
        TextList cpu_models;            /* that libvirt can give a VM here: "EPYC-Genoa"; empty: unknown */
        char *cpu_vendor;               /* in its words, too, "AMD"; NULL unknown */
        /* Of the files that the cluster's VMs need, those that are not here, and those whose storage does not answer.
         * What is in neither is here, or cannot be seen from where gpupoold stands. */
        PathSet missing_paths, hanging_paths;
        uint32_t untold_paths;          /* that belong to either and found no room there */
        uint32_t address_bits;          /* of a physical address, as the CPU says; 0 unknown */
        uint64_t memory_nodes;          /* NUMA nodes that have memory, bit by bit; 0 unknown. Told to nobody else */
        TextList node_cpus;             /* the CPUs of each NUMA node, "0-15,32-47", "": not known. Likewise */
        bool iommu_present;             /* an IOMMU is at work: sysfs shows one, or groups that one made */
        bool vfio_present;              /* vfio-pci is loaded, built in, or there to be loaded */
        bool interrupt_remapping;       /* msi_remap / irq remapping known to work; see interrupt_remapping_known */
        bool interrupt_remapping_known;
        FirmwareIommu firmware_iommu;
        TextList boot_parameters;       /* of the kernel's command line, those that decide about VFIO; in its order */
        HypervisorState hypervisor;
        bool guard_connected;
        uint64_t watchdog_us;           /* a host that hangs is reset within this; 0: no watchdog is armed */
        bool registry_stuck;            /* its registry cannot be written: the disk is full, or worse */
        TextList missing_agents;        /* fence agents that some node is to be switched off by, and that it lacks */
        GpuFacts *gpus;                 /* sorted by address */
        size_t n_gpus;
} NodeFacts;

void node_facts_clear(NodeFacts *facts);
/* Whether the host itself looks the same: all but the GPUs and how much memory is free at the moment. */
bool node_facts_host_equal(const NodeFacts *a, const NodeFacts *b);
/* The GPU that is meant by this identity among the facts, or NULL. */
const GpuFacts *node_facts_find_gpu(const NodeFacts *facts, const GpuIdentity *identity);
const GpuFacts *node_facts_find_address(const NodeFacts *facts, PciAddress address);
