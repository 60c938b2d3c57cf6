/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What lies between the GPU and the host: its group, the bridges above, how it sends and interrupts. */

#include <inttypes.h>

#include "core/survey-internal.h"

int find_no_group(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!host->iommu_present || gpu->iommu_group >= 0)
                return 0;
        return FOUND(ret, "it has no IOMMU group although the host has an IOMMU");
}

int find_reserved_memory(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->reserved_regions.n == 0)
                return 0;
        return FOUND(ret, "the host's firmware keeps memory for the device's own use (RMRR %s)",
                     gpu->reserved_regions.items[0]);
}

/* What is in the group and neither goes to the VM nor is left alone there. Bridges stay with the host, whatever drives
 * them; other devices of the bridge class (an NVSwitch, a chipset's function) are in the way as long as a driver runs
 * them. pci-stub says that an administrator parked the device. */
static bool function_is_foreign(const GpuFacts *gpu, const PciFunction *function) {
        if (function->other_group || pci_function_goes_along(function) || text_equal(function->driver, "pci-stub"))
                return false;
        if (function->same_slot && gpu->iommu_group < 0)
                return false;           /* in no group at all */
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
        case 0x05:
                return "a memory controller";
        case 0x06:
                return "a bridge";
        case 0x08:
                return "a system device";
        case 0x0c:
                return class >> 8 == 0x0c03 ? "a USB controller" : "a bus controller";
        case 0x0d:
                return "a wireless adapter";
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

int find_group_shared(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        size_t n = 0;
        const PciFunction *first = NULL;
        for (size_t i = 0; i < gpu->n_functions; i++) {
                const PciFunction *function = &gpu->functions[i];
                if (!function_is_foreign(gpu, function))
                        continue;
                if (n++ >= NAMED_MAX)
                        continue;
                int r = 0;
                if (n == 1) {
                        first = function;
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
        /* Below a bridge to conventional PCI no ACS would help, nor on one card. */
        bool acs_missing = gpu->acs_missing && !gpu->conventional_at && !first->same_slot;
        if (r >= 0 && acs_missing)
                r = text_append(&ret->sentence, "; the bridge %s above it lacks ACS",
                                gpu->acs_missing_at ? gpu->acs_missing_at : "");
        if (r < 0)
                return r;

        char address[PCI_ADDRESS_TEXT_SIZE];
        pci_address_to_text(first->address, address);
        if (first->same_slot)
                r = text_printf(&ret->remedy, "use another card, or park what nobody needs: driverctl set-override %s "
                                              "pci-stub", address);
        else
                r = text_printf(&ret->remedy,
                                "plug %s into a slot with a root port of its own%s, or park a device that nobody "
                                "needs: driverctl set-override %s pci-stub",
                                gpu->kind == PCI_KIND_INTEGRATED ? "the other device" : "one of the two",
                                acs_missing ? ", or switch on ACS in the firmware setup" : "", address);
        return r < 0 ? r : 1;
}

/* The groups are those of the hardware, unless the kernel was told to look away. */
int find_acs_override(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        const char *parameter = boot_parameter_find(host, "pcie_acs_override", NULL);
        if (!parameter)
                return 0;
        if (gpu->acs_missing)
                return FOUND(ret, "the kernel was booted with %s, so its IOMMU group says nothing: the bridge %s above "
                                  "it lacks ACS and may pass what it sends to other devices", parameter,
                             gpu->acs_missing_at ? gpu->acs_missing_at : "");
        /* Who has read the GPU's capabilities has read its bridges'. */
        if (gpu->interrupts != INTERRUPTS_UNKNOWN)
                return 0;
        return FOUND(ret, "the kernel was booted with %s, so its IOMMU group says nothing, and whether the bridges "
                          "above it have ACS is not known: gpupool-probe does not answer", parameter);
}

int find_conventional_pci(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!gpu->conventional_at)
                return 0;
        return FOUND(ret, "it is behind the bridge %s to conventional PCI, which sends under its own name, so the "
                          "IOMMU cannot tell it from other devices there", gpu->conventional_at);
}

/* PCI Express demands that a device can silence its line; VFIO needs no more. */
int find_line_interrupts(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (gpu->interrupts != INTERRUPTS_LINE || gpu->kind != PCI_KIND_CONVENTIONAL)
                return 0;
        return FOUND(ret, "its only interrupt is a line (INTx) that it may not be able to silence: it is conventional "
                          "PCI and has neither MSI nor MSI-X");
}
