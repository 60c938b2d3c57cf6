# SPDX-License-Identifier: LGPL-2.1-or-later
"""Udevdb: the files below /run/udev that udevd would keep; libudev takes a device for initialised once it has one."""

import os
import time

FOLDER = "/run/udev/data"
CLASSES = {0x03: "Display controller", 0x04: "Multimedia controller", 0x0C: "Serial bus controller", 0x06: "Bridge",
           0x02: "Network controller", 0x12: "Processing accelerators"}
SUBCLASSES = {0x0300: "VGA compatible controller", 0x0302: "3D controller", 0x0380: "Display controller",
              0x0403: "Audio device", 0x0C03: "USB controller", 0x0C80: "Serial bus controller", 0x0604: "PCI bridge",
              0x0200: "Ethernet controller", 0x1200: "Processing accelerators"}


class UdevDatabase:
    def __init__(self):
        os.makedirs(FOLDER, exist_ok=True)
        with open("/run/udev/control", "a"):
            pass  # its being there says that udevd runs
        self.initialised = {}

    def properties(self, device):
        f = device.function
        named = {"ID_PCI_CLASS_FROM_DATABASE": CLASSES.get(f.pci_class >> 16),
                 "ID_PCI_SUBCLASS_FROM_DATABASE": SUBCLASSES.get(f.pci_class >> 8),
                 "ID_VENDOR_FROM_DATABASE": f.vendor_name, "ID_MODEL_FROM_DATABASE": f.name}
        found = {key: value for key, value in named.items() if value}
        found["USEC_INITIALIZED"] = self.initialised.setdefault(device, time.monotonic_ns() // 1000)
        return found

    def write(self, device):
        properties = self.properties(device)
        path = f"{FOLDER}/+pci:{device.address}"
        with open(path + ".new", "w") as file:
            file.write(f"I:{properties.pop('USEC_INITIALIZED')}\n")
            file.writelines(f"E:{key}={value}\n" for key, value in properties.items())
            file.write("V:1\n")
        os.rename(path + ".new", path)

    def remove(self, device):
        try:
            os.unlink(f"{FOLDER}/+pci:{device.address}")
        except FileNotFoundError:
            pass
