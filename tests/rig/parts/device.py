# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device: one PCI function in its present state, with its files in the tree. What needs other devices is bus.py's."""

import errno
import os
import threading

from parts import configspace
from parts.tree import Attribute, fail

FAULTS = {"bind": errno.EINVAL, "unbind": errno.EBUSY, "reset": errno.EIO}  # operation -> what refuse answers
POWER_FILES = {"control": "auto\n", "runtime_status": "active\n", "runtime_suspended_time": "0\n",
               "runtime_active_time": "1000\n", "runtime_usage": "0\n", "runtime_enabled": "enabled\n",
               "async": "enabled\n", "wakeup": "disabled\n", "autosuspend_delay_ms": None}


class Device:
    def __init__(self, function, bus, path, group, addresses):
        self.function = function
        self.bus = bus
        self.path = path
        self.group = group
        self.addresses = addresses
        self.driver = None
        self.override = None
        self.lock = threading.Lock()          # the kernel's device_lock: held while an operation runs, or hangs
        self.faults = {}                      # operation -> "hang" or "refuse"
        self.healed = threading.Event()
        self.changed = {}                     # attribute -> what heal() puts back
        self.reset_methods = list(function.reset)
        self.resets = 0
        self.enabled = 0
        self.power_control = "auto" if function.is_bridge else "on"
        self.config = configspace.build(function, addresses)
        self.fallen = False

    @property
    def address(self):
        return self.function.address

    # Faults

    def hang(self, operation):
        self.set_fault(operation, "hang")

    def refuse(self, operation):
        self.set_fault(operation, "refuse")

    def set_fault(self, operation, fault):
        if operation not in FAULTS:
            raise ValueError(f"{operation} cannot be made to {fault}; these can: {' '.join(FAULTS)}")
        self.healed.clear()
        self.faults[operation] = fault

    def heal(self):
        self.faults.clear()
        self.healed.set()
        self.fallen = False
        for name, content in self.changed.items():
            self.bus.tree.nodes[f"{self.path}/{name}"].content = content
        self.changed.clear()

    def suffer(self, operation):
        """What an operation does first: hang for as long as the device does, or be refused."""
        fault = self.faults.get(operation)
        if fault == "refuse":
            fail(FAULTS[operation])
        if fault == "hang":
            self.healed.wait()

    def set_attribute(self, name, value):
        if (name, value) == ("config", "ones"):
            self.fallen = True
            return
        node = self.bus.tree.nodes.get(f"{self.path}/{name}")
        if not isinstance(node, Attribute):
            raise ValueError(f"{self.address} has no attribute {name}")
        self.changed.setdefault(name, node.content)
        node.content = value + "\n"

    def facts(self):
        return {"address": self.address, "name": self.function.name, "driver": self.driver, "group": self.group,
                "override": self.override, "resets": self.resets, "path": f"/sys{self.path}",
                "faults": sorted(f"{operation}:{fault}" for operation, fault in self.faults.items()) +
                ([f"set:{name}" for name in sorted(self.changed)]) + (["fallen"] if self.fallen else [])}

    # What uevents and the file uevent say

    def properties(self):
        f = self.function
        said = {"DRIVER": self.driver} if self.driver else {}
        said.update({"PCI_CLASS": f"{f.pci_class:04X}", "PCI_ID": f"{f.vendor:04X}:{f.device:04X}",
                     "PCI_SUBSYS_ID": f"{f.subvendor:04X}:{f.subdevice:04X}", "PCI_SLOT_NAME": f.address,
                     "MODALIAS": self.modalias()})
        return said

    def modalias(self):
        f = self.function
        return (f"pci:v{f.vendor:08X}d{f.device:08X}sv{f.subvendor:08X}sd{f.subdevice:08X}"
                f"bc{f.pci_class >> 16:02X}sc{f.pci_class >> 8 & 0xFF:02X}i{f.pci_class & 0xFF:02X}")

    # Files

    def make_files(self):
        put, f = self.put, self.function
        for name, value in (("vendor", f"0x{f.vendor:04x}"), ("device", f"0x{f.device:04x}"),
                            ("subsystem_vendor", f"0x{f.subvendor:04x}"), ("subsystem_device", f"0x{f.subdevice:04x}"),
                            ("class", f"0x{f.pci_class:06x}"), ("revision", f"0x{f.revision:02x}"),
                            ("modalias", self.modalias()), ("irq", "0"), ("numa_node", f"{f.numa}"),
                            ("local_cpus", f"{(1 << os.cpu_count()) - 1:x}"),
                            ("local_cpulist", f"0-{os.cpu_count() - 1}"),
                            ("dma_mask_bits", "47"), ("consistent_dma_mask_bits", "47"), ("ari_enabled", "0"),
                            ("broken_parity_status", "0"), ("power_state", "D0"), ("resource", self.resource_lines())):
            put(name, Attribute(value + "\n"))
        put("config", Attribute(self.read_config, self.ignore, 0o644, len(self.config)))
        put("uevent", Attribute(self.read_uevent, self.write_uevent, 0o644))
        put("driver_override", Attribute(self.read_override, self.write_override, 0o644))
        put("enable", Attribute(lambda: f"{self.enabled}\n", self.write_enable, 0o644))
        put("msi_bus", Attribute("1\n", self.ignore))
        put("d3cold_allowed", Attribute("1\n", self.ignore))
        put("remove", Attribute(None, lambda text: self.bus.remove_by_file(self, text), 0o220))
        put("rescan", Attribute(None, self.bus.rescan_by_file, 0o220))
        self.make_power_files()
        self.make_optional_files()

    def make_power_files(self):
        for name, value in POWER_FILES.items():
            self.put(f"power/{name}", Attribute(value, permissions=0o644 if value is None else None))
        self.put("power/control", Attribute(lambda: self.power_control + "\n", self.write_power_control, 0o644))

    def make_optional_files(self):
        """Those that the kernel shows for some devices only."""
        put, f = self.put, self.function
        for bar in f.bars:
            name = "rom" if bar.index == 6 else f"resource{bar.index}"
            put(name, Attribute(None, self.ignore, 0o600, bar.size))
            if bar.flags & 0x2000 and bar.index != 6:
                put(f"{name}_wc", Attribute(None, self.ignore, 0o600, bar.size))
        if f.is_vga:
            put("boot_vga", Attribute(f"{int(f.boot_vga)}\n"))
        if f.link:
            put("max_link_speed", Attribute(f"{f.link[0]} GT/s PCIe\n"))
            put("max_link_width", Attribute(f"{f.link[1]}\n"))
            put("current_link_speed", Attribute(f"{f.link_now[0]} GT/s PCIe\n"))
            put("current_link_width", Attribute(f"{f.link_now[1]}\n"))
        if f.reset:
            put("reset", Attribute(None, self.write_reset, 0o200))
            put("reset_method", Attribute(lambda: " ".join(self.reset_methods) + "\n" if self.reset_methods else "",
                                          self.write_reset_method, 0o644))
        if f.sriov:
            for name, value in (("sriov_totalvfs", f.sriov), ("sriov_numvfs", 0), ("sriov_drivers_autoprobe", 1)):
                put(name, Attribute(f"{value}\n"))
        if "vpd" in f.capabilities:
            put("vpd", Attribute(configspace.vital_product_data(f), self.ignore, 0o600, 32768))
        if f.is_bridge:
            put("secondary_bus_number", Attribute(f"{f.secondary}\n"))
            put("subordinate_bus_number", Attribute(f"{f.secondary}\n"))

    def put(self, name, node):
        self.bus.tree.put(f"{self.path}/{name}", node)

    def resource_lines(self):
        lines = ["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * (17 if self.function.is_bridge else 13)
        for bar in self.function.bars:
            start = self.addresses[bar.index]
            lines[bar.index] = f"0x{start:016x} 0x{start + bar.size - 1:016x} 0x{bar.flags:016x}"
        return "\n".join(lines)

    def read_config(self):
        return b"\xff" * len(self.config) if self.fallen else bytes(self.config)

    def ignore(self, text):
        pass

    def write_uevent(self, text):
        action = (text.split() or [""])[0]
        if action not in ("add", "remove", "change", "move", "online", "offline", "bind", "unbind"):
            fail(errno.EINVAL)
        self.bus.announce(action, self, {"SYNTH_UUID": (text.split() + ["0"])[1]})

    # Both wait for the device's lock, in the kernel too.

    def read_uevent(self):
        with self.lock:
            return "".join(f"{key}={value}\n" for key, value in self.properties().items())

    def read_override(self):
        with self.lock:
            return (self.override or "(null)") + "\n"

    def write_override(self, text):
        with self.lock:
            self.override = text.rstrip("\n") or None

    def write_enable(self, text):
        with self.lock:
            if self.driver:
                fail(errno.EBUSY)
            self.enabled = max(0, self.enabled + (1 if boolean(text) else -1))

    def write_power_control(self, text):
        if text.strip() not in ("on", "auto"):
            fail(errno.EINVAL)
        self.power_control = text.strip()

    def write_reset(self, text):
        if text.strip() != "1":
            fail(errno.EINVAL)
        with self.lock:
            self.suffer("reset")
            if not any(self.resets_by(method) for method in self.reset_methods):
                fail(errno.ENOTTY)
            self.resets += 1

    def resets_by(self, method):
        """A bus reset would hit the neighbours, so the kernel refuses it for one of several functions of a bus."""
        return method != "bus" or self.bus.alone_on_its_bus(self)

    def write_reset_method(self, text):
        """Empty turns resets off, "default" restores what the device can, else a list of methods that it can."""
        wanted = text.split()
        if wanted == ["default"]:
            wanted = list(self.function.reset)
        if not set(wanted) <= set(self.function.reset):
            fail(errno.EINVAL)
        self.reset_methods = wanted


def boolean(text):
    if text.strip() not in ("0", "1"):
        fail(errno.EINVAL)
    return text.strip() == "1"
