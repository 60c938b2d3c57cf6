# SPDX-License-Identifier: LGPL-2.1-or-later
"""Card: what a .gpu file describes: functions of one or more devices and the bridges above them (gpus/README.md)."""

import configparser
import hashlib
import re

ADDRESS = re.compile(r"^([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$")
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
KINDS = {"io": 0x40101, "mem32": 0x40200, "mem64": 0x140204}  # the kernel's IORESOURCE_* flags with BAR type bits
PREFETCHABLE = 0x2008
ROM_FLAGS = 0x46200
ROM = 6  # its line in the file "resource"
KEYS = {"name", "id", "subsystem", "class", "revision", "driver", "numa", "group", "bars", "link", "link-now", "reset",
        "capabilities", "serial", "part", "sriov", "boot-vga", "bus", "slot", "reserved", "port", "drm"}


class Bar:
    def __init__(self, index, size, flags):
        self.index, self.size, self.flags = index, size, flags


class Function:
    """One PCI function, as the file says it is; everything that changes is kept in device.py."""

    def __init__(self, address, section, group):
        self.address = address
        self.slot = address.rpartition(".")[0]
        self.domain, self.bus, self.number = parts_of(address)
        vendor_name, _, self.name = section.get("name", "Unknown | Unknown").partition(" | ")
        self.vendor_name = vendor_name.strip()
        self.vendor, self.device = identifiers(section["id"])
        self.subvendor, self.subdevice = identifiers(section.get("subsystem", "0000:0000"))
        self.pci_class = int(section["class"], 16)
        self.revision = int(section.get("revision", "00"), 16)
        self.driver = section.get("driver")
        self.numa = int(section.get("numa", "-1"))
        self.group = group                        # (card, label); the bus gives it a number
        self.bars = [bar(line) for line in section.get("bars", "").splitlines() if line.strip()]
        self.link = link(section.get("link"))
        self.link_now = link(section.get("link-now")) or self.link
        self.reset = section.get("reset", "").split()
        self.capabilities = section.get("capabilities", "pm").split()
        self.serial = section.get("serial")
        self.part = section.get("part")
        self.sriov = int(section.get("sriov", "0"))
        self.boot_vga = section.getboolean("boot-vga", False)
        self.secondary = int(section["bus"], 16) if "bus" in section else None
        self.slot_name = section.get("slot")      # of the slot below this bridge
        self.reserved = section.get("reserved", "").split()
        self.port = section.get("port", "root")   # of a PCIe bridge: root, upstream, downstream or pci
        self.drm = section.getboolean("drm", False)
        self.multifunction = False

    @property
    def is_bridge(self):
        return self.secondary is not None

    @property
    def is_vga(self):
        return self.pci_class >> 8 == 0x0300


class Card:
    """address: where the first function that is no bridge goes instead; the buses of the rest move along."""

    def __init__(self, text, address=None):
        parser = configparser.ConfigParser(default_section="card", interpolation=None)
        parser.read_string(text)
        self.key = hashlib.sha256(f"{address}\0{text}".encode()).hexdigest()
        move = mover(parser, address)
        self.functions = []
        for name in parser.sections():
            section = parser[name]
            unknown = set(section) - KEYS
            if unknown:
                raise ValueError(f"[{name}] has unknown keys: {' '.join(sorted(unknown))}")
            function = Function(move(name), section, (self.key, section.get("group", name), address is None))
            if function.is_bridge:
                function.secondary += function.bus - parts_of(name)[1]
            self.functions.append(function)
        for functions in self.slots():
            for function in functions:
                function.multifunction = len(functions) > 1

    def slots(self):
        """Lists of functions that share a slot, bridges before what is below them."""
        slots = {}
        for function in self.functions:
            slots.setdefault(function.slot, []).append(function)
        return [slots[slot] for slot in sorted(slots)]


def parts_of(address):
    """Domain, bus, and the rest as one number."""
    match = ADDRESS.match(address)
    if match is None:
        raise ValueError(f"{address} is no PCI address; they look like 0000:41:00.0")
    domain, bus, device, function = (int(part, 16) for part in match.groups())
    return domain, bus, device << 3 | function


def mover(parser, address):
    if address is None:
        return lambda name: name
    first = next(name for name in parser.sections() if "bus" not in parser[name])
    domain, bus, rest = parts_of(address)
    _, old_bus, old_rest = parts_of(first)
    if rest != old_rest:
        raise ValueError(f"{first} can move to another bus, not to another device number such as in {address}")

    def move(name):
        number = parts_of(name)[1] + bus - old_bus
        if not 0 <= number <= 0xFF:
            raise ValueError(f"{address} leaves no bus number for {name}")
        return f"{domain:04x}:{number:02x}:{name.split(':')[2]}"
    return move


def identifiers(text):
    vendor, device = text.split(":")
    return int(vendor, 16), int(device, 16)


def bar(line):
    """A line such as "2: 128G mem64 prefetchable" or "rom: 512K"."""
    index, _, rest = line.partition(":")
    words = rest.split()
    number, unit = re.match(r"^(\d+)([KMGT]?)$", words[0]).groups()
    size = int(number) * SIZES[unit]
    if index.strip() == "rom":
        return Bar(ROM, size, ROM_FLAGS)
    flags = KINDS[words[1]]
    if "prefetchable" in words[2:]:
        flags |= PREFETCHABLE
    return Bar(int(index), size, flags)


def link(text):
    """("32.0", 16) from "32.0 GT/s x16"."""
    if text is None:
        return None
    speed, width = re.match(r"^([\d.]+) GT/s x(\d+)$", text).groups()
    return speed, int(width)
