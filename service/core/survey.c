/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "util/array.h"

/* How many devices or processes a sentence names before it says "and N more". */
#define NAMED_MAX 3

#define MIB (UINT64_C(1024) * 1024)
#define GIB (UINT64_C(1024) * MIB)

/* Each of these looks for one blocker. Returns > 0 with the sentence written (and a remedy where it knows a better one
 * than the table's), 0 where nothing is in the way, or -ENOMEM. */
typedef int (*Finder)(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret);

#define FOUND(blocker, ...)                                             \
        ({                                                              \
                int _r = text_printf(&(blocker)->sentence, __VA_ARGS__); \
                _r < 0 ? _r : 1;                                        \
        })

/* Under these no process of the host can have the GPU open other than as a VM's device. */
static bool driver_is_for_vms(const GpuFacts *gpu) {
        return !gpu->driver || strncmp(gpu->driver, "vfio", strlen("vfio")) == 0 || text_equal(gpu->driver, "pci-stub");
}

static int find_no_iommu(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (host->iommu_present)
                return 0;

        int r = 0;
        if (host->cpu_model && strstr(host->cpu_model, "Intel"))
                r = text_set(&ret->remedy, "switch on VT-d in the firmware setup and boot with intel_iommu=on iommu=pt "
                                           "on the kernel command line");
        else if (host->cpu_model && strstr(host->cpu_model, "AMD"))
                r = text_set(&ret->remedy, "switch on IOMMU (AMD-Vi) in the firmware setup and boot with iommu=pt and "
                                           "without amd_iommu=off on the kernel command line");
        if (r < 0)
                return r;
        return FOUND(ret, "no IOMMU is at work on the host, so a VM's device could write into anyone's memory");
}

static int find_no_vfio(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (host->vfio_present)
                return 0;
        return FOUND(ret, "the host's kernel%s%s has no vfio-pci driver", host->kernel ? " " : "",
                     host->kernel ? host->kernel : "");
}

static int find_no_interrupt_remapping(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!host->iommu_present || !host->interrupt_remapping_known || host->interrupt_remapping)
                return 0;
        return FOUND(ret, "interrupt remapping is off on the host, so a VM could send interrupts to others");
}

static int find_no_group(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!host->iommu_present || gpu->iommu_group >= 0)
                return 0;
        return FOUND(ret, "it has no IOMMU group although the host has an IOMMU");
}

static int find_reserved_memory(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->reserved_regions.n == 0)
                return 0;
        return FOUND(ret, "the host's firmware keeps memory for the device's own use (RMRR %s)",
                     gpu->reserved_regions.items[0]);
}

/* Bridges stay with the host, whatever drives them; other devices of the bridge class (an NVSwitch, a chipset's
 * function) are in the way as long as a driver runs them. pci-stub says that an administrator parked the device. */
static bool function_is_foreign(const PciFunction *function) {
        if (function->same_slot || text_equal(function->driver, "pci-stub"))
                return false;
        switch (function->class >> 8) {
        case 0x0600:    /* host bridge */
        case 0x0604:    /* PCI bridge */
        case 0x0609:    /* semi-transparent PCI bridge */
                return false;
        }
        return !pci_class_is_bridge(function->class) || function->driver;
}

static const char *class_to_text(uint32_t class) {
        switch (class >> 16) {
        case 0x01:
                return "a storage controller";
        case 0x02:
                return "a network card";
        case 0x03:
                return "a display device";
        case 0x04:
                return "a sound device";
        case 0x06:
                return "a bridge";
        case 0x0c:
                return class >> 8 == 0x0c03 ? "a USB controller" : "a bus controller";
        case 0x12:
                return "an accelerator";
        }
        return "a device";
}

static int name_function(char **text, const PciFunction *function) {
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(function->address, address);
        return text_append(text, "%s (%s%s%s)", address,
                           function->description ? function->description : class_to_text(function->class),
                           function->driver ? ", driver " : "", function->driver ? function->driver : "");
}

static int find_group_shared(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        size_t n = 0;
        PciAddress first = {};
        for (size_t i = 0; i < gpu->n_functions; i++) {
                const PciFunction *function = &gpu->functions[i];
                if (!function_is_foreign(function))
                        continue;
                if (n++ >= NAMED_MAX)
                        continue;
                int r = 0;
                if (n == 1) {
                        first = function->address;
                        r = text_printf(&ret->sentence, "its IOMMU group %" PRIi32 " also holds ", gpu->iommu_group);
                } else
                        r = text_append(&ret->sentence, ", ");
                if (r >= 0)
                        r = name_function(&ret->sentence, function);
                if (r < 0)
                        return r;
        }
        if (n == 0)
                return 0;

        int r = 0;
        if (n > NAMED_MAX)
                r = text_append(&ret->sentence, " and %zu more", n - NAMED_MAX);
        if (r >= 0 && gpu->acs_missing)
                r = text_append(&ret->sentence, "; the bridge %s above it lacks ACS",
                                gpu->acs_missing_at ? gpu->acs_missing_at : "");
        if (r < 0)
                return r;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(first, address);
        r = text_printf(&ret->remedy,
                        "plug one of the two into a slot with a root port of its own%s, or park a device that nobody "
                        "needs: driverctl set-override %s pci-stub",
                        gpu->acs_missing ? ", or switch on ACS in the firmware setup" : "", address);
        return r < 0 ? r : 1;
}

static int find_boot_display(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->boot_vga)
                return 0;
        return FOUND(ret, "the host's console uses it");
}

/* A VM that holds the GPU through VFIO is the registry's business, who knows whether it is the cluster's own. */
static bool holder_counts(const GpuHolder *holder) {
        return !holder->through_vfio || !holder->name || strncmp(holder->name, "qemu", strlen("qemu")) != 0;
}

static const char *holder_remedy(const char *name) {
        static const struct {
                const char *name, *remedy;
        } services[] = {
                /* The kernel cuts a process name after 15 bytes. */
                { "nvidia-persiste", "stop the persistence daemon: systemctl stop nvidia-persistenced" },
                { "nv-fabricmanage", "stop the fabric manager: systemctl stop nvidia-fabricmanager" },
                { "nv-hostengine", "stop the GPU monitoring: systemctl stop nvidia-dcgm" },
                { "Xorg", "stop the graphical session, or set up the X server to leave this GPU alone" },
                { "gnome-shell", "stop the graphical session: systemctl isolate multi-user.target" },
        };
        for (size_t i = 0; i < ELEMENTS(services); i++)
                if (name && strncmp(name, services[i].name, strlen(services[i].name)) == 0)
                        return services[i].remedy;
        return NULL;
}

static int find_in_use(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        size_t n = 0;
        for (size_t i = 0; i < gpu->n_holders; i++) {
                const GpuHolder *holder = &gpu->holders[i];
                if (!holder_counts(holder))
                        continue;
                if (!ret->remedy && holder_remedy(holder->name)) {
                        int r = text_set(&ret->remedy, holder_remedy(holder->name));
                        if (r < 0)
                                return r;
                }
                if (n++ >= NAMED_MAX)
                        continue;
                int r = text_append(&ret->sentence, "%s%s (pid %" PRIu32 ")",
                                    n == 1 ? "processes of the host hold it: " : ", ",
                                    holder->name ? holder->name : "a process", holder->pid);
                if (r < 0)
                        return r;
        }
        if (n == 0)
                return 0;
        if (n > NAMED_MAX) {
                int r = text_append(&ret->sentence, " and %zu more", n - NAMED_MAX);
                if (r < 0)
                        return r;
        }
        return 1;
}

/* The kernel hides both files where it knows no way to reset the device. */
static int find_no_reset(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->reset_methods_known ? gpu->reset_methods.n > 0 : gpu->has_reset)
                return 0;
        return FOUND(ret, "the kernel knows no way to reset it, so memory could pass from one VM to the next");
}

static int find_bar_too_large(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        uint64_t low = 0;
        for (size_t i = 0; i < PCI_BARS; i++)
                if (!gpu->bars[i].prefetchable_64 && __builtin_add_overflow(low, gpu->bars[i].size, &low))
                        low = UINT64_MAX;
        if (low > BARS_BELOW_4G_MAX)
                return FOUND(ret, "its regions that must lie below 4 GiB take %" PRIu64 " MiB and a guest has room for "
                                  "%" PRIu64 " MiB", low / MIB, BARS_BELOW_4G_MAX / MIB);

        /* Memory fills a guest's address space from below; half of it is what a window above can be at most. */
        uint32_t bits = host->address_bits > 0 && host->address_bits < 64 ? host->address_bits : ADDRESS_BITS_ASSUMED;
        uint64_t window = UINT64_C(1) << (bits - 1);
        uint64_t total = gpu_facts_bars_total(gpu);
        if (total <= window)
                return 0;
        return FOUND(ret, "its regions take %" PRIu64 " GiB and the window of a guest on this CPU (%" PRIu32
                          " address bits) can be %" PRIu64 " GiB", total / GIB, bits, window / GIB);
}

static int find_sriov(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->sriov_vfs == 0)
                return 0;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        int r = text_printf(&ret->remedy, "stop what uses them, then: echo 0 > /sys/bus/pci/devices/%s/sriov_numvfs",
                            address);
        if (r < 0)
                return r;
        return FOUND(ret, "%" PRIu32 " virtual functions of it are switched on", gpu->sriov_vfs);
}

static int find_mig(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->mig_enabled)
                return 0;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        int r = text_printf(&ret->remedy,
                            "take the instances away and switch MIG off: nvidia-smi mig -i %s -dci; nvidia-smi mig -i "
                            "%s -dgi; nvidia-smi -i %s -mig 0", address, address, address);
        if (r < 0)
                return r;
        return FOUND(ret, "it is divided into MIG instances");
}

static int find_mdev(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->mdev_in_use)
                return 0;
        return FOUND(ret, "mediated devices (vGPU) exist on it");
}

static int find_virtual_function(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->is_virtual_function)
                return 0;
        return FOUND(ret, "it is a virtual function and not a whole GPU");
}

static int find_fabric(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        for (size_t i = 0; i < gpu->siblings.n; i++) {
                const char *text = gpu->siblings.items[i];
                PciAddress sibling;
                if (pci_address_from_text(text, &sibling) >= 0 && node_facts_find_address(host, sibling))
                        continue;
                return FOUND(ret, "it belongs to a set of %zu linked GPUs of which %s is missing", gpu->siblings.n + 1,
                             text);
        }
        return 0;
}

static int find_asleep(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->runtime_error && !text_equal(gpu->power_state, "error"))
                return 0;
        return FOUND(ret, "it is asleep (%s) and the kernel failed to wake it",
                     gpu->power_state ? gpu->power_state : "unknown");
}

static int find_off_the_bus(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->config != CONFIG_ALL_ONES)
                return 0;
        return FOUND(ret, "it has fallen off the bus: its configuration space reads all ones");
}

static int find_unreadable(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->unreadable)
                return FOUND(ret, "the kernel does not answer about it (%s)", gpu->unreadable);
        if (gpu->identity.vendor == 0 || gpu->identity.vendor == UINT16_MAX)
                return FOUND(ret, "its vendor cannot be read");
        if (!gpu->holders_known && !driver_is_for_vms(gpu)) {
                int r = text_set(&ret->remedy, "systemctl start gpupool-probe.socket; what it says is in journalctl -u "
                                               "'gpupool-probe@*'");
                if (r < 0)
                        return r;
                return FOUND(ret, "which processes use it (driver %s) is not known: gpupool-probe does not answer",
                             gpu->driver);
        }
        return 0;
}

/* One row per code: its name on the bus, what it means and what helps in general (the manual's table is made of these),
 * who finds it, and whether it is about the host, so that it can be told of a GPU about which nothing is known. */
static const struct {
        const char *name, *meaning, *remedy;
        Finder find;
        bool about_host;
} rows[BLOCKER_CODE_COUNT] = {
        [BLOCKER_NO_IOMMU] = {
                "no-iommu",
                "The host has no IOMMU at work. Without one a VM's device could write into anyone's memory.",
                "switch on the IOMMU in the firmware setup (VT-d, AMD-Vi, SMMU) and on the kernel command line "
                "(Intel: intel_iommu=on iommu=pt)",
                find_no_iommu, true },
        [BLOCKER_NO_VFIO] = {
                "no-vfio",
                "The kernel has no vfio-pci driver, neither loaded nor as a module.",
                "install a kernel with vfio-pci (CONFIG_VFIO_PCI), or: modprobe vfio-pci",
                find_no_vfio, true },
        [BLOCKER_NO_INTERRUPT_REMAPPING] = {
                "no-interrupt-remapping",
                "The IOMMU does not remap interrupts, so that a VM could send interrupts to the host or another VM.",
                "switch on x2APIC and interrupt remapping in the firmware setup and boot without intremap=off",
                find_no_interrupt_remapping, true },
        [BLOCKER_NO_GROUP] = {
                "no-group",
                "The device has no IOMMU group although the host has an IOMMU.",
                "plug it into a slot behind the IOMMU, and boot without an option that takes it out (such as "
                "intel_iommu=igfx_off)",
                find_no_group, false },
        [BLOCKER_RESERVED_MEMORY] = {
                "reserved-memory",
                "The firmware keeps memory for the device's use (RMRR), and the kernel gives no such device away.",
                "switch off the firmware's use of the slot (management, legacy USB), or update the firmware",
                find_reserved_memory, false },
        [BLOCKER_GROUP_SHARED] = {
                "group-shared",
                "A device of another card is in the GPU's IOMMU group and could not be kept apart from the VM.",
                "plug one of the two into a slot with a root port of its own, switch on ACS in the firmware setup, or "
                "park a device that nobody needs on pci-stub",
                find_group_shared, false },
        [BLOCKER_BOOT_DISPLAY] = {
                "boot-display",
                "The firmware chose the GPU for the host's console.",
                "choose another display in the firmware setup (onboard or the management controller's) and boot again",
                find_boot_display, false },
        [BLOCKER_IN_USE] = {
                "in-use",
                "Processes of the host have the GPU's device files open.",
                "end them, or stop the services that run them; the GPU is free as soon as the last has closed it",
                find_in_use, false },
        [BLOCKER_NO_RESET] = {
                "no-reset",
                "The kernel knows no way to reset the device, so that memory could pass from tenant to tenant.",
                "use a newer kernel, or a module that knows this card (vendor-reset), or another card",
                find_no_reset, false },
        [BLOCKER_BAR_TOO_LARGE] = {
                "bar-too-large",
                "The device's memory regions are larger than the window that a guest can have for them.",
                "make them smaller in the firmware setup (Resizable BAR off), or use a CPU with more address bits",
                find_bar_too_large, false },
        [BLOCKER_SRIOV] = {
                "sriov-in-use",
                "Virtual functions of the GPU are switched on, so that it is not whole.",
                "stop what uses the virtual functions and write 0 to the device's sriov_numvfs",
                find_sriov, false },
        [BLOCKER_MIG] = {
                "mig-in-use",
                "The GPU is divided into MIG instances.",
                "take the instances away and switch MIG off with nvidia-smi",
                find_mig, false },
        [BLOCKER_MDEV] = {
                "mdev-in-use",
                "Mediated devices (vGPU) exist on the GPU.",
                "stop the VMs that use them and take them away: mdevctl list, mdevctl stop",
                find_mdev, false },
        [BLOCKER_VIRTUAL_FUNCTION] = {
                "virtual-function",
                "The device is a virtual function of another GPU. Pools hold whole GPUs.",
                "put the GPU that it is a part of into a pool, with its virtual functions switched off",
                find_virtual_function, false },
        [BLOCKER_FABRIC] = {
                "fabric",
                "The GPU is one of a set (NVLink, XGMI) that must move whole, and the set is not whole on this host.",
                "see why the missing GPU is not there (dmesg), and seat or replace its card",
                find_fabric, false },
        [BLOCKER_ASLEEP] = {
                "asleep",
                "The device is in a power saving state and cannot be woken.",
                "switch the host off and on; if it comes again, update the firmware or write on to power/control",
                find_asleep, false },
        [BLOCKER_OFF_THE_BUS] = {
                "off-the-bus",
                "The device does not answer on the bus any more; its configuration space reads all ones.",
                "switch the host off and on; if it comes again, check the card's seat, power and cooling",
                find_off_the_bus, false },
        [BLOCKER_UNREADABLE] = {
                "unreadable",
                "Something that the verdict needs could not be read, or reading it never came back.",
                "see dmesg: the device, its driver or its removal hangs; a VM that holds it may have to be stopped",
                find_unreadable, false },
};

static void clear_blocker(Blocker *blocker) {
        free(blocker->sentence);
        free(blocker->remedy);
}

/* What was never read says nothing: only that, and what is true of the host, is told. */
static bool row_applies(BlockerCode code, const GpuFacts *gpu) {
        return gpu->identity.vendor != 0 || rows[code].about_host || code == BLOCKER_UNREADABLE;
}

int survey_gpu(const NodeFacts *host, const GpuFacts *gpu, Blockers *ret) {
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT; code++) {
                if (!row_applies(code, gpu))
                        continue;

                Blocker blocker = { .code = code };
                int r = rows[code].find(host, gpu, &blocker);
                if (r > 0 && !blocker.remedy && text_set(&blocker.remedy, rows[code].remedy) < 0)
                        r = -ENOMEM;
                if (r > 0)
                        r = array_append(ret, &blocker) < 0 ? -ENOMEM : 1;
                if (r > 0)
                        continue;
                clear_blocker(&blocker);
                if (r < 0)
                        return r;
        }
        return 0;
}

void blockers_clear(Blockers *blockers) {
        ARRAY_EACH(blocker, blockers)
                clear_blocker(blocker);
        array_clear(blockers);
}

const char *blocker_code_to_text(BlockerCode code) {
        return rows[code].name;
}

int blocker_code_from_text(const char *text, BlockerCode *ret) {
        for (BlockerCode code = 0; code < BLOCKER_CODE_COUNT; code++)
                if (text_equal(text, rows[code].name)) {
                        *ret = code;
                        return 0;
                }
        return -EINVAL;
}

const char *blocker_code_meaning(BlockerCode code) {
        return rows[code].meaning;
}

const char *blocker_code_remedy(BlockerCode code) {
        return rows[code].remedy;
}
