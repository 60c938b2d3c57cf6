/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of the GPU itself is in the way: who uses it, what it is part of, how it is. */

#include <inttypes.h>

#include "core/holder.h"
#include "core/survey-internal.h"
#include "util/cleanup.h"

/* Under these no process of the host can have the GPU open other than as a VM's device. */
static bool driver_is_for_vms(const GpuFacts *gpu) {
        return !gpu->driver || strncmp(gpu->driver, "vfio", strlen("vfio")) == 0 || text_equal(gpu->driver, "pci-stub");
}

int find_boot_display(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->boot_vga)
                return 0;
        return FOUND(ret, "the host's console uses it");
}

/* A VM that holds the GPU through VFIO is the registry's business, who knows whether it is the cluster's own. */
static bool holder_counts(const GpuHolder *holder) {
        return !holder->through_vfio || !holder->name || strncmp(holder->name, "qemu", strlen("qemu")) != 0;
}

/* "stop the persistence daemon: systemctl ...; end the others: kill 637": whatever it takes, in one round. */
static int say_how_to_end(const GpuFacts *gpu, char **text) {
        _cleanup_free_ char *pids = NULL;
        size_t n = 0;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < gpu->n_holders; i++) {
                const GpuHolder *holder = &gpu->holders[i];
                const char *known = holder_remedy(holder->name);
                if (!holder_counts(holder))
                        continue;
                if (!known && n++ < NAMED_MAX)
                        r = text_append(&pids, " %" PRIu32, holder->pid);
                else if (known && (!*text || !strstr(*text, known)))
                        r = text_append(text, "%s%s", *text ? "; " : "", known);
        }
        if (r < 0 || n == 0)
                return r;
        r = text_append(text, "%send %s: kill%s", *text ? "; " : "", *text ? "the others" : n > 1 ? "them" : "it",
                        pids);
        if (r >= 0 && n > NAMED_MAX)
                r = text_append(text, " and %zu more", n - NAMED_MAX);
        return r < 0 ? r : text_append(text, ", or stop the %s", n > 1 ? "services that run them"
                                                                          : "service that runs it");
}

int find_in_use(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        size_t n = 0;
        for (size_t i = 0; i < gpu->n_holders; i++) {
                const GpuHolder *holder = &gpu->holders[i];
                if (!holder_counts(holder))
                        continue;
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
        int r = n > NAMED_MAX ? text_append(&ret->sentence, " and %zu more", n - NAMED_MAX) : 0;
        if (r >= 0)
                r = say_how_to_end(gpu, &ret->remedy);
        return r < 0 ? r : 1;
}

int find_usb_in_use(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        const TextList *devices = &gpu->usb_devices;
        for (size_t i = 0; i < devices->n && i < NAMED_MAX; i++) {
                int r = text_append(&ret->sentence, "%s%s",
                                    i == 0 ? "the host uses its USB controller: USB device " : ", ", devices->items[i]);
                if (r < 0)
                        return r;
        }
        if (devices->n > NAMED_MAX) {
                int r = text_append(&ret->sentence, " and %zu more", devices->n - NAMED_MAX);
                if (r < 0)
                        return r;
        }
        return devices->n > 0;
}

/* The kernel hides both files where it knows no way to reset the device. */
int find_no_reset(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->reset_methods_known ? gpu->reset_methods.n > 0 : gpu->has_reset)
                return 0;
        return FOUND(ret, "the kernel knows no way to reset it, so memory could pass from one VM to the next");
}

int find_bar_too_large(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        uint64_t low = 0;
        for (size_t i = 0; i < PCI_BARS; i++)
                if (!gpu->bars[i].prefetchable_64 && __builtin_add_overflow(low, gpu->bars[i].size, &low))
                        low = UINT64_MAX;
        if (low > BARS_BELOW_4G_MAX)
                return FOUND(ret, "its regions that must lie below 4 GiB take %" PRIu64 " MiB and a guest has room for "
                                  "%" PRIu64 " MiB", low / MIB, BARS_BELOW_4G_MAX / MIB);

        /* Memory fills a guest's address space from below; half of it is what a window above can be at most. What the
         * IOMMU does not translate the device cannot reach. */
        uint32_t bits = host->address_bits > 0 && host->address_bits < 64 ? host->address_bits : ADDRESS_BITS_ASSUMED;
        bool iommu_is_smaller = gpu->iommu_address_bits > 0 && gpu->iommu_address_bits < bits;
        if (iommu_is_smaller)
                bits = gpu->iommu_address_bits;
        uint64_t window = UINT64_C(1) << (bits - 1);
        uint64_t total = gpu_facts_bars_total(gpu);
        if (total <= window)
                return 0;
        return FOUND(ret, "its regions take %" PRIu64 " GiB and the window of a guest %s (%" PRIu32
                          " address bits) can be %" PRIu64 " GiB", total / GIB,
                     iommu_is_smaller ? "behind its IOMMU" : "on this CPU", bits, window / GIB);
}

int find_bar_unassigned(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        size_t n = 0;
        for (size_t i = 0; i < PCI_BARS; i++) {
                const GpuBar *bar = &gpu->bars[i];
                if (!bar->unassigned)
                        continue;
                bool large = bar->size >= GIB;
                int r = text_append(&ret->sentence, "%s%zu (%" PRIu64 " %s)",
                                    n++ == 0 ? "the host has no address for its memory region " : ", ", i,
                                    bar->size / (large ? GIB : MIB), large ? "GiB" : "MiB");
                if (r < 0)
                        return r;
        }
        return n > 0;
}

int find_sriov(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
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

int find_mig(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
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

int find_mdev(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->mdev_in_use)
                return 0;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        int r = text_printf(&ret->remedy, "stop the VMs that use them; ls /sys/class/mdev_bus/%s shows them, each goes "
                                          "by: mdevctl stop -u UUID, or echo 1 > /sys/bus/mdev/devices/UUID/remove",
                            address);
        if (r < 0)
                return r;
        return FOUND(ret, "mediated devices (vGPU) exist on it");
}

int find_virtual_function(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->is_virtual_function)
                return 0;
        return FOUND(ret, "it is a virtual function and not a whole GPU");
}

int find_fabric(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
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

int find_asleep(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->runtime_error && !text_equal(gpu->power_state, "error"))
                return 0;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        int r = text_printf(&ret->remedy, "switch the host off and on; if it comes again, update the firmware, or keep "
                                          "it awake from boot on: echo on > /sys/bus/pci/devices/%s/power/control",
                            address);
        if (r < 0)
                return r;
        return FOUND(ret, "it is asleep (%s) and the kernel failed to wake it",
                     gpu->power_state ? gpu->power_state : "unknown");
}

int find_off_the_bus(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->config != CONFIG_ALL_ONES)
                return 0;
        return FOUND(ret, "it has fallen off the bus: its configuration space reads all ones");
}

/* gpupool-bind never leaves a function without a driver that a VM has. */
int find_being_removed(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        GivenDrivers drivers = gpu_facts_count_drivers(gpu);
        if (drivers.without == 0 || !gpu_facts_held_through_vfio(gpu))
                return 0;
        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(drivers.first_without, address);
        return FOUND(ret, "it is being removed from the host: a VM has %s, which has no driver any more", address);
}

int find_stuck(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->stuck)
                return 0;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(gpu->address, address);
        int r = text_printf(&ret->remedy, "see dmesg for what the driver waits for, and systemctl list-units "
                                          "'gpupool-bind@*' for who hangs; once it goes on, or after a reboot: "
                                          "gpupoolctl gpu release %s", address);
        return r < 0 ? r : FOUND(ret, "%s", gpu->stuck);
}

static bool has_holder(const GpuFacts *gpu) {
        for (size_t i = 0; i < gpu->n_holders; i++)
                if (holder_counts(&gpu->holders[i]))
                        return true;
        return false;
}

/* Who holds it is told by find_in_use(), and once it is gone the next try goes through. */
int find_unbindable(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->unbindable || has_holder(gpu))
                return 0;

        /* One that came between is known only to the sentence. */
        static const char mark[] = "(pid ";
        const char *pid = strstr(gpu->unbindable, mark);
        int digits = pid ? (int) strspn(pid + strlen(mark), "0123456789") : 0;
        if (digits > 0) {
                int r = text_printf(&ret->remedy, "end it: kill %.*s, or stop the service that runs it", digits,
                                    pid + strlen(mark));
                if (r < 0)
                        return r;
        }
        return FOUND(ret, "%s", gpu->unbindable);
}

int find_unreadable(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
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
