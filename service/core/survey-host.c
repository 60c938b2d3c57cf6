/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of the host is in the way of every GPU in it. */

#include "core/survey-internal.h"


const char *boot_parameter_find(const NodeFacts *host, const char *name, const char *value) {
        const char *found = NULL;
        for (size_t i = 0; i < host->boot_parameters.n; i++) {
                const char *text = host->boot_parameters.items[i];
                if (strncmp(text, name, strlen(name)) != 0)
                        continue;
                const char *item = text + strlen(name);
                if (*item && *item != '=')
                        continue;
                if (!value) {
                        found = text;
                        continue;
                }
                /* Values are in a list: "intel_iommu=on,sm_on". A later "on" is stronger than an "off" before. */
                while (*item) {
                        item++;
                        size_t length = strcspn(item, ",");
                        if (strlen(value) == length && strncmp(item, value, length) == 0)
                                found = text;
                        else if (length == 2 && strncmp(item, "on", length) == 0)
                                found = NULL;
                        item += length;
                }
        }
        return found;
}

static const char *find_iommu_off(const NodeFacts *host) {
        static const char *const names[] = { "iommu", "intel_iommu", "amd_iommu" };
        const char *found = NULL;
        for (size_t i = 0; i < ELEMENTS(names) && !found; i++)
                found = boot_parameter_find(host, names[i], "off");
        return found;
}

static bool is_virtual_machine(const NodeFacts *host) {
        return host->virtualization && !text_equal(host->virtualization, "none");
}

/* What the firmware's setup calls it, and what the kernel wants to be told; NULL: not of this maker. */
static const char *iommu_remedy(const NodeFacts *host) {
        bool in_firmware = host->firmware_iommu == FIRMWARE_IOMMU_PRESENT;
        if (host->cpu_model && strstr(host->cpu_model, "Intel"))
                return in_firmware ? "boot with intel_iommu=on iommu=pt on the kernel command line"
                                   : "switch on VT-d in the firmware setup and boot with intel_iommu=on iommu=pt on "
                                     "the kernel command line";
        if (host->cpu_model && strstr(host->cpu_model, "AMD"))
                return in_firmware ? "boot with iommu=pt on the kernel command line, and see dmesg for AMD-Vi: why the "
                                     "kernel does not use it"
                                   : "switch on IOMMU (AMD-Vi) in the firmware setup and boot with iommu=pt and "
                                     "without amd_iommu=off on the kernel command line";
        return NULL;
}

int find_no_iommu(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (host->iommu_present)
                return 0;

        int r = 0;
        const char *why = "", *parameter = find_iommu_off(host);
        if (parameter) {
                r = text_printf(&ret->remedy, "take %s off the kernel command line and boot again", parameter);
                why = " (the kernel was booted with ";
        } else if (is_virtual_machine(host)) {
                r = text_printf(&ret->remedy,
                                "the host is itself a virtual machine (%s): give it a virtual IOMMU; in libvirt's "
                                "domain XML: <iommu model='intel'><driver intremap='on'/></iommu>",
                                host->virtualization);
        } else if (iommu_remedy(host))
                r = text_set(&ret->remedy, iommu_remedy(host));
        if (r < 0)
                return r;
        if (!parameter && host->firmware_iommu == FIRMWARE_IOMMU_PRESENT)
                why = " (the firmware shows one, and the kernel does not use it)";
        else if (!parameter && host->firmware_iommu == FIRMWARE_IOMMU_ABSENT)
                why = " (the firmware shows none)";
        return FOUND(ret, "no IOMMU is at work on the host%s%s%s, so a VM's device could write into anyone's memory",
                     why, parameter ? parameter : "", parameter ? ")" : "");
}

int find_no_vfio(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (host->vfio_present)
                return 0;
        return FOUND(ret, "the host's kernel%s%s has no vfio-pci driver", host->kernel ? " " : "",
                     host->kernel ? host->kernel : "");
}

static const char *find_remapping_off(const NodeFacts *host) {
        const char *found = boot_parameter_find(host, "intremap", "off");
        if (!found)
                found = boot_parameter_find(host, "nointremap", NULL);
        return found ? found : boot_parameter_find(host, "noapic", NULL);
}

int find_no_interrupt_remapping(const NodeFacts *host, const GpuFacts *gpu, Blocker *ret) {
        if (!host->iommu_present || !host->interrupt_remapping_known || host->interrupt_remapping)
                return 0;

        const char *parameter = find_remapping_off(host);
        if (parameter) {
                int r = text_printf(&ret->remedy, "take %s off the kernel command line and boot again", parameter);
                if (r < 0)
                        return r;
        }
        return FOUND(ret, "interrupt remapping is off on the host%s%s%s, so a VM could send interrupts to others",
                     parameter ? " (the kernel was booted with " : "", parameter ? parameter : "",
                     parameter ? ")" : "");
}
