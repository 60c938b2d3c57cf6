# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bus: the simulated PCI bus of a host: which devices there are, which driver has which, IOMMU groups, and the news.
Errors are those of the kernel's drivers/base/bus.c and drivers/pci/pci-driver.c."""

import errno
import os
import stat
import threading
import time

from parts.device import Device
from parts.drm import Drm
from parts.tree import Attribute, Tree, fail
from parts.udevdb import UdevDatabase
from parts.uevent import Sender

ALWAYS_LOADED = ("vfio-pci", "pci-stub", "pcieport")
FIRST_OWN_GROUP = 200                      # for devices whose file's number is taken
MEMORY64, MEMORY32, IO = 0x200000000000, 0x90000000, 0x3000  # where addresses are given from
VFIO_NODES = "/dev/vfio"
NULL_DEVICE = os.makedev(1, 3)
IOMMU = "/devices/virtual/iommu/dmar0"
MSI_WINDOW = "0x00000000fee00000 0x00000000feefffff msi\n"


class Driver:
    def __init__(self, name):
        self.name = name
        self.ids = set()  # (vendor, device) given by new_id

    def matches(self, device):
        if device.override is not None:
            return device.override == self.name
        function = device.function
        return function.driver == self.name or (function.vendor, function.device) in self.ids


class Bus:
    def __init__(self):
        self.tree = Tree()
        self.sender = Sender()
        self.database = UdevDatabase()
        self.drm = Drm(self.tree)
        self.devices = {}
        self.drivers = {}
        self.removed = {}                  # address -> function: taken away by the file "remove", back at a rescan
        self.group_numbers = {}
        self.bridges = {}                  # (domain, bus) -> path of the device above
        self.slots = {}                    # address of a bridge -> path of the slot below it
        self.autoprobe = True
        self.next_address = {"mem64": MEMORY64, "mem32": MEMORY32, "io": IO}
        self.lock = threading.RLock()      # for the tables; never held while a device hangs
        self.make_skeleton()
        for name in ALWAYS_LOADED:
            self.load(name)

    def make_skeleton(self):
        tree = self.tree
        for path in ("/devices/system", "/bus/pci/devices", "/bus/pci/drivers", "/bus/pci/slots",
                     "/kernel/iommu_groups", "/class/net", "/class/dmi", "/class/drm", "/module/vfio",
                     "/module/vfio_pci", "/module/vfio_iommu_type1/parameters", "/module/vfio_pci/parameters"):
            tree.folder(path)
        for name in os.listdir("/sys/devices/virtual"):
            tree.folder(f"/devices/virtual/{name}")
        tree.put("/bus/pci/drivers_probe", Attribute(None, self.probe_by_file))
        tree.put("/bus/pci/drivers_autoprobe",
                 Attribute(lambda: f"{int(self.autoprobe)}\n", self.write_autoprobe, 0o644))
        tree.put("/bus/pci/rescan", Attribute(None, self.rescan_by_file))
        tree.put("/bus/pci/uevent", Attribute(None, lambda text: None))
        tree.put("/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", Attribute("N\n"))
        tree.put("/module/vfio_pci/parameters/disable_idle_d3", Attribute("N\n"))
        for name, value in (("address", "fbffc000"), ("cap", "8d2078c106f0466"), ("ecap", "f020df"), ("version", "1:0"),
                            ("domains_supported", "65536"), ("domains_used", "12")):
            tree.put(f"{IOMMU}/intel-iommu/{name}", Attribute(value + "\n"))
        tree.put(f"{IOMMU}/uevent", Attribute("", lambda text: None))
        tree.folder(f"{IOMMU}/devices")
        tree.link(f"{IOMMU}/subsystem", "/class/iommu")
        tree.link("/class/iommu/dmar0", IOMMU)

    # Devices come and go

    def add(self, functions, quietly=False):
        """Adds the functions of one slot that are not there yet; returns their devices."""
        with self.lock:
            new = [self.create(function) for function in functions if function.address not in self.devices]
        for device in new:
            self.database.write(device)
            if not quietly:
                self.announce("add", device)
        for device in new:
            if self.autoprobe:
                self.attach(device, quietly)
        return new

    def create(self, function):
        above = self.bridges.get((function.domain, function.bus)) or self.root(function)
        path = f"{above}/{function.address}"
        addresses = {bar.index: self.allocate(bar) for bar in function.bars}
        device = Device(function, self, path, self.group_number(function), addresses)
        self.devices[function.address] = device
        if function.driver:
            self.load(function.driver)
        device.make_files()
        self.make_links(device)
        if function.is_bridge:
            self.bridges[function.domain, function.secondary] = path
            self.make_slot(function)
        return device

    def root(self, function):
        path = f"/devices/pci{function.domain:04x}:{function.bus:02x}"
        if not self.tree.has(path):
            self.tree.put(f"{path}/uevent", Attribute("", lambda text: None))
        return path

    def make_links(self, device):
        tree, path, group = self.tree, device.path, f"/kernel/iommu_groups/{device.group}"
        tree.link(f"/bus/pci/devices/{device.address}", path)
        tree.link(f"{path}/subsystem", "/bus/pci")
        tree.link(f"{path}/iommu_group", group)
        tree.link(f"{path}/iommu", IOMMU)
        tree.link(f"{IOMMU}/devices/{device.address}", path)
        tree.link(f"{group}/devices/{device.address}", path)
        tree.put(f"{group}/type", Attribute("DMA\n", self.refuse_group_type, 0o644))
        tree.put(f"{group}/reserved_regions", Attribute(lambda: self.reserved_regions(device.group)))

    def make_slot(self, bridge):
        if bridge.slot_name is None:
            return
        slot = self.slots[bridge.address] = self.free_slot_path(bridge.slot_name)
        below = f"{bridge.domain:04x}:{bridge.secondary:02x}:00"
        self.tree.put(f"{slot}/address", Attribute(below + "\n"))
        self.tree.put(f"{slot}/power", Attribute(lambda: f"{int(f'{below}.0' in self.devices)}\n"))
        speed = f"{bridge.link[0]} GT/s PCIe\n" if bridge.link else "Unknown\n"
        for name in ("cur_bus_speed", "max_bus_speed"):
            self.tree.put(f"{slot}/{name}", Attribute(speed))

    def free_slot_path(self, name):
        """A name that is taken gets a number behind it, as in the kernel."""
        names = [name] + [f"{name}-{number}" for number in range(1, 256)]
        return next(path for path in (f"/bus/pci/slots/{each}" for each in names) if not self.tree.has(path))

    def unplug(self, slot):
        """The whole device of a slot (0000:41:00), and what is below it."""
        gone = [device for device in self.devices.values() if device.function.slot == slot]
        forgotten = [address for address, function in self.removed.items() if function.slot == slot]
        if not gone and not forgotten:
            raise ValueError(f"No device is in slot {slot}")
        for address in forgotten:
            del self.removed[address]
        for device in reversed(gone):
            self.remove(device)

    def remove(self, device):
        """As pci_stop_and_remove_bus_device(): what is below first, then unbind, then the news that it is gone."""
        for below in [other for other in self.devices.values() if other.path.startswith(device.path + "/")]:
            if below.address in self.devices:
                self.remove(below)
        device.heal()
        with device.lock:
            if device.driver == "vfio-pci":
                self.wait_for_users(device)
            if device.driver:
                self.detach(device)
        with self.lock:
            del self.devices[device.address]
            self.remove_files(device)
        self.database.remove(device)
        self.announce("remove", device)

    def wait_for_users(self, device):
        """As vfio_unregister_group_dev(): the driver's links are gone, and the rest waits for who has it open."""
        self.remove_driver_links(device)
        while is_open(f"{VFIO_NODES}/{device.group}"):
            time.sleep(0.02)

    def remove_driver_links(self, device):
        self.tree.remove(f"{device.path}/driver")
        self.tree.remove(f"/bus/pci/drivers/{device.driver}/{device.address}")

    def remove_files(self, device):
        tree, group = self.tree, f"/kernel/iommu_groups/{device.group}"
        for path in (f"/bus/pci/devices/{device.address}", f"{group}/devices/{device.address}",
                     f"{IOMMU}/devices/{device.address}", device.path):
            tree.remove(path)
        if not tree.names(f"{group}/devices"):
            tree.remove(group)
        if device.function.is_bridge:
            del self.bridges[device.function.domain, device.function.secondary]
            tree.remove(self.slots.pop(device.address, "/none"))

    def remove_by_file(self, device, text):
        if text.strip() == "1":
            for gone in [other for other in self.in_order() if (other.path + "/").startswith(device.path + "/")]:
                self.removed[gone.address] = gone.function
            self.remove(device)

    def rescan_by_file(self, text):
        if text.strip() != "1":
            return
        slots = {}
        for address in sorted(self.removed):
            function = self.removed.pop(address)
            slots.setdefault(function.slot, []).append(function)
        for functions in slots.values():
            self.add(functions)

    # Drivers

    def load(self, name):
        if name in self.drivers:
            return
        driver = self.drivers[name] = Driver(name)
        folder, module = f"/bus/pci/drivers/{name}", f"/module/{name.replace('-', '_')}"
        self.tree.put(f"{folder}/bind", Attribute(None, lambda text: self.bind_by_file(driver, text)))
        self.tree.put(f"{folder}/unbind", Attribute(None, lambda text: self.unbind_by_file(driver, text)))
        self.tree.put(f"{folder}/new_id", Attribute(None, lambda text: self.new_id(driver, text)))
        self.tree.put(f"{folder}/remove_id", Attribute(None, lambda text: self.remove_id(driver, text)))
        self.tree.put(f"{folder}/uevent", Attribute(None, lambda text: None))
        self.tree.folder(module)
        self.tree.link(f"{folder}/module", module)

    def bind_by_file(self, driver, text):
        device = self.named(text)
        with device.lock:
            if not driver.matches(device):
                fail(errno.ENODEV)
            if device.driver:
                fail(errno.EBUSY)
            self.probe(device, driver)

    def unbind_by_file(self, driver, text):
        device = self.named(text)
        if device.driver != driver.name:
            fail(errno.ENODEV)
        with device.lock:
            device.suffer("unbind")
            if device.driver == driver.name:
                self.detach(device)

    def probe_by_file(self, text):
        self.attach(self.named(text))

    def would_hang(self, path, text):
        """Whether such a write hangs, to a file that all devices share."""
        operation = {"unbind": "unbind", "bind": "bind", "drivers_probe": "bind"}.get(path.rpartition("/")[2])
        device = self.devices.get(text.strip()) if operation else None
        return device is not None and device.faults.get(operation) == "hang"

    def new_id(self, driver, text):
        driver.ids.add(pair_of_ids(text))
        for device in self.in_order():
            if device.driver is None and driver.matches(device):
                self.attach(device)

    def remove_id(self, driver, text):
        ids = pair_of_ids(text)
        if ids not in driver.ids:
            fail(errno.ENODEV)
        driver.ids.discard(ids)

    def attach(self, device, quietly=False):
        """Looks for a driver; like the kernel, says nothing when one was found and failed."""
        with device.lock:
            if device.driver:
                return
            for driver in list(self.drivers.values()):
                if driver.matches(device):
                    try:
                        self.probe(device, driver, quietly)
                        return
                    except OSError:
                        continue

    def probe(self, device, driver, quietly=False):
        """Gives the device to the driver. The device's lock is held."""
        device.suffer("bind")
        with self.lock:
            if device.address not in self.devices:
                fail(errno.ENODEV)
            device.driver = driver.name
            device.enabled = 1
            self.tree.link(f"{device.path}/driver", f"/bus/pci/drivers/{driver.name}")
            self.tree.link(f"/bus/pci/drivers/{driver.name}/{device.address}", device.path)
            self.drm.bound(device)
            self.update_vfio_node(device.group)
        if not quietly:
            self.announce("bind", device)

    def detach(self, device):
        """Takes the device from its driver. The device's lock is held."""
        with self.lock:
            self.drm.unbound(device)
            self.remove_driver_links(device)
            device.driver = None
            device.enabled = 0
            self.update_vfio_node(device.group)
        self.announce("unbind", device)

    def write_autoprobe(self, text):
        self.autoprobe = text.strip() != "0"

    # Groups

    def group_number(self, function):
        """The file's number where it is free, else one of our own; the same one when the device comes back."""
        key = function.group[:2]
        if key not in self.group_numbers:
            _, label, as_in_file = function.group
            taken = set(self.group_numbers.values())
            if as_in_file and label.isdigit() and int(label) not in taken:
                self.group_numbers[key] = int(label)
            else:
                self.group_numbers[key] = next(n for n in range(FIRST_OWN_GROUP, 1 << 16) if n not in taken)
        return self.group_numbers[key]

    def reserved_regions(self, group):
        lines = {region.replace("-", " ") + " direct\n" for device in self.devices.values() if device.group == group
                 for region in device.function.reserved}
        return "".join(sorted(lines)) + MSI_WINDOW

    def refuse_group_type(self, text):
        fail(errno.EBUSY)

    def update_vfio_node(self, group):
        """/dev/vfio/GROUP is there while a device of the group is with vfio-pci."""
        wanted = any(device.driver == "vfio-pci" for device in self.devices.values() if device.group == group)
        node = f"{VFIO_NODES}/{group}"
        if wanted and not os.path.exists(node):
            os.mknod(node, stat.S_IFCHR | 0o600, NULL_DEVICE)
        elif not wanted and os.path.exists(node):
            os.unlink(node)

    # The rest

    def announce(self, action, device, extra={}):
        properties = {"SUBSYSTEM": "pci", **device.properties(), **extra}
        with self.lock:
            self.sender.send_as_kernel(action, device.path, properties)
            self.sender.send_as_udev(action, device.path, {**properties, **self.database.properties(device)})

    def set_attribute(self, address, name, value):
        device = self.device(address)
        device.set_attribute(name, value)
        self.announce("change", device)

    def device(self, address):
        if address not in self.devices:
            raise ValueError(f"No device {address} is plugged in")
        return self.devices[address]

    def named(self, text):
        return self.devices.get(text.strip()) or fail(errno.ENODEV)

    def in_order(self):
        return [self.devices[address] for address in sorted(self.devices)]

    def alone_on_its_bus(self, device):
        parent = device.path.rpartition("/")[0]
        return not any(other is not device and other.path.rpartition("/")[0] == parent
                       for other in self.devices.values())

    def allocate(self, bar):
        kind = "io" if bar.flags & 0x100 else "mem64" if bar.flags & 0x100000 else "mem32"
        start = -(-self.next_address[kind] // bar.size) * bar.size
        self.next_address[kind] = start + bar.size
        return start


def is_open(path):
    """Whether a process of this host has a file of that name open."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd")):
                return True
        except OSError:
            continue                       # it has ended
    return False


def pair_of_ids(text):
    try:
        vendor, device = (int(word, 16) for word in text.split()[:2])
    except ValueError:
        fail(errno.EINVAL)
    return vendor, device
