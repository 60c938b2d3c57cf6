/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Every code that the survey knows, in the order in which blockers are told; the only place where they are listed. The
 * enum and the rows of survey.c are made of this, and the manual page gpupool-survey(7) by docs/man/make-survey-page,
 * which reads the lines as they stand here.
 *
 * X(enum, name on the bus, who finds it, is it about the host, what it means, what helps in general)
 *
 * What is about the host is told of a GPU about which nothing is known, too. */

#define SURVEY_CODES(X) \
        X(NO_IOMMU, "no-iommu", find_no_iommu, true, \
          "The host has no IOMMU at work: firmware or kernel keep it off, or there is none. Without " \
          "one a VM's device could write into anyone's memory.", \
          "switch on the IOMMU in the firmware setup (VT-d, AMD-Vi, SMMU) and on the kernel command " \
          "line (Intel: intel_iommu=on iommu=pt)") \
        X(NO_VFIO, "no-vfio", find_no_vfio, true, \
          "The kernel has no vfio-pci driver, neither loaded nor as a module.", \
          "install a kernel with vfio-pci (CONFIG_VFIO_PCI), or: modprobe vfio-pci") \
        X(NO_INTERRUPT_REMAPPING, "no-interrupt-remapping", find_no_interrupt_remapping, true, \
          "The IOMMU does not remap interrupts, so that a VM could send interrupts to the host or " \
          "another VM.", \
          "switch on x2APIC and interrupt remapping in the firmware setup and boot without " \
          "intremap=off") \
        X(NO_GROUP, "no-group", find_no_group, false, \
          "The device has no IOMMU group although the host has an IOMMU.", \
          "plug it into a slot behind the IOMMU, and boot without an option that takes it out (such " \
          "as intel_iommu=igfx_off)") \
        X(RESERVED_MEMORY, "reserved-memory", find_reserved_memory, false, \
          "The firmware keeps memory for the device's use (RMRR), and the kernel gives no such " \
          "device away.", \
          "switch off the firmware's use of the slot (management, legacy USB), or update the firmware") \
        X(GROUP_SHARED, "group-shared", find_group_shared, false, \
          "A device of another card, or one of the GPU's own that a host may live on (a disk, a network or " \
          "management controller), is in the GPU's IOMMU group and could not be kept apart from the VM.", \
          "plug one of the two into a slot with a root port of its own, switch on ACS in the " \
          "firmware setup, or park a device that nobody needs on pci-stub") \
        X(ACS_OVERRIDE, "acs-override", find_acs_override, false, \
          "The kernel was told to pretend that bridges keep devices apart (pcie_acs_override), and a " \
          "bridge above the GPU does not.", \
          "boot without pcie_acs_override: the IOMMU groups then say what can really be kept apart") \
        X(CONVENTIONAL_PCI, "conventional-pci", find_conventional_pci, false, \
          "The GPU is behind a bridge to conventional PCI, where the IOMMU cannot tell one device " \
          "from another.", \
          "use a PCI Express card in a PCI Express slot") \
        X(LINE_INTERRUPTS, "line-interrupts", find_line_interrupts, false, \
          "The GPU has neither MSI nor MSI-X, and as conventional PCI it need not be able to silence " \
          "its interrupt line (INTx), which other devices may share.", \
          "use a card with MSI; any for PCI Express has it") \
        X(BOOT_DISPLAY, "boot-display", find_boot_display, false, \
          "The firmware chose the GPU for the host's console.", \
          "choose another display in the firmware setup (onboard or the management controller's) and " \
          "boot again") \
        X(IN_USE, "in-use", find_in_use, false, \
          "Processes of the host have the GPU's device files open.", \
          "end them (kill), or stop the services that run them, for good where they come back at boot " \
          "(systemctl disable --now); the GPU is free as soon as the last has closed it") \
        X(USB_IN_USE, "usb-in-use", find_usb_in_use, false, \
          "USB devices of the host are plugged into the card's own sockets, whose controller would go to " \
          "the VM with the GPU.", \
          "plug them into sockets that are not the card's; with what is built in, the GPU stays with the host") \
        X(NO_RESET, "no-reset", find_no_reset, false, \
          "The kernel knows no way to reset the device, so that memory could pass from tenant to " \
          "tenant.", \
          "use a newer kernel, or a module that knows this card (vendor-reset), or another card") \
        X(BAR_TOO_LARGE, "bar-too-large", find_bar_too_large, false, \
          "The device's memory regions are larger than the window that a guest can have for them on " \
          "this CPU and IOMMU.", \
          "make them smaller in the firmware setup (Resizable BAR off), or use a CPU with more " \
          "address bits") \
        X(BAR_UNASSIGNED, "bar-unassigned", find_bar_unassigned, false, \
          "Neither firmware nor kernel found room for a memory region of the device, so that nobody " \
          "can use it.", \
          "switch on Above 4G Decoding in the firmware setup and boot again; else boot with " \
          "pci=realloc on the kernel command line") \
        X(SRIOV, "sriov-in-use", find_sriov, false, \
          "Virtual functions of the GPU are switched on, so that it is not whole.", \
          "stop what uses the virtual functions and write 0 to the device's sriov_numvfs") \
        X(MIG, "mig-in-use", find_mig, false, \
          "The GPU is divided into MIG instances.", \
          "take the instances away and switch MIG off with nvidia-smi") \
        X(MDEV, "mdev-in-use", find_mdev, false, \
          "Mediated devices (vGPU) exist on the GPU.", \
          "stop the VMs that use them and take them away: mdevctl list, mdevctl stop -u UUID") \
        X(VIRTUAL_FUNCTION, "virtual-function", find_virtual_function, false, \
          "The device is a virtual function of another GPU. Pools hold whole GPUs.", \
          "put the GPU that it is a part of into a pool, with its virtual functions switched off") \
        X(FABRIC, "fabric", find_fabric, false, \
          "The GPU is one of a set (NVLink, XGMI) that must move whole, and the set is not whole on " \
          "this host.", \
          "see why the missing GPU is not there (dmesg), and seat or replace its card") \
        X(ASLEEP, "asleep", find_asleep, false, \
          "The device is in a power saving state and cannot be woken.", \
          "switch the host off and on; if it comes again, update the firmware, or keep it awake: write " \
          "on to power/control in its folder below /sys/bus/pci/devices") \
        X(OFF_THE_BUS, "off-the-bus", find_off_the_bus, false, \
          "The device does not answer on the bus any more; its configuration space reads all ones.", \
          "switch the host off and on; if it comes again, check the card's seat, power and cooling") \
        X(BEING_REMOVED, "being-removed", find_being_removed, false, \
          "The GPU is being removed from the host while a VM has it, and the kernel waits for the VM to let " \
          "go of it. Until then nothing else can be plugged in or removed.", \
          "a VM of a pool ends by itself and runs elsewhere by its policy; end anybody else's (virsh destroy)") \
        X(STUCK, "stuck", find_stuck, false, \
          "Taking the GPU from its driver, giving it back or inspecting it hangs in the kernel, in a " \
          "process of its own. It is in quarantine, and everything else on the host goes on.", \
          "see dmesg for what the driver waits for, and systemctl list-units 'gpupool-bind@*' for who " \
          "hangs; once it goes on, or after a reboot, release the GPU (gpupoolctl gpu release GPU)") \
        X(UNBINDABLE, "unbindable", find_unbindable, false, \
          "The last try to move the GPU between its driver and vfio-pci failed. The next one comes by " \
          "itself, later each time.", \
          "do what the sentence says; dmesg has what the kernel said of it") \
        X(UNREADABLE, "unreadable", find_unreadable, false, \
          "Something that the verdict needs could not be read, or reading it never came back.", \
          "see dmesg: the device, its driver or its removal hangs; a VM that holds it may have to be " \
          "stopped")
