# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configspace: the bytes of a function's configuration space: header, capabilities, extended ones, and its VPD."""

import struct

SPEEDS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
PORTS = {"root": 4, "upstream": 5, "downstream": 6, "pci": 7}
ENDPOINT = 0
FLR, ROLE_BASED_ERRORS = 1 << 28, 1 << 15
NO_SOFT_RESET = 1 << 3
IO, MEMORY_AND_MASTER = 0x1, 0x6
# where each capability lies, and its id; those of a function are chained in this order
PLACES = {"pm": (0x60, 0x01), "msi": (0x68, 0x05), "pcie": (0x78, 0x10), "ssvid": (0xB8, 0x0D), "msix": (0xC8, 0x11),
          "vpd": (0xD4, 0x03)}
EXTENDED = {"aer": (0x100, 0x0001, 2), "dsn": (0x150, 0x0003, 1), "acs": (0x160, 0x000D, 1), "ari": (0x170, 0x000E, 1),
            "sriov": (0x180, 0x0010, 1), "rebar": (0x1C0, 0x0015, 1)}


def build(function, addresses):
    """addresses: index of a BAR -> its bus address."""
    size = 4096 if "pcie" in function.capabilities else 256
    space = bytearray(size)
    write_header(space, function, addresses)
    write_capabilities(space, function)
    if size == 4096:
        write_extended(space, function)
    return space


def write_header(space, function, addresses):
    command = MEMORY_AND_MASTER | (IO if any(bar.flags & 0x100 for bar in function.bars) else 0)
    struct.pack_into("<HHHH", space, 0, function.vendor, function.device, command, 0x0010)
    struct.pack_into("<I", space, 8, function.pci_class << 8 | function.revision)
    space[0x0C] = 0x10
    space[0x0E] = (1 if function.is_bridge else 0) | (0x80 if function.multifunction else 0)
    for bar in function.bars:
        address = addresses[bar.index]
        at = (0x38 if function.is_bridge else 0x30) if bar.index == 6 else 0x10 + 4 * bar.index
        struct.pack_into("<I", space, at, address & 0xFFFFFFF0 | (0 if bar.index == 6 else bar.flags & 0xF))
        if bar.flags & 0x100000:
            struct.pack_into("<I", space, at + 4, address >> 32)
    if function.is_bridge:
        space[0x18:0x1B] = bytes([function.bus, function.secondary, function.secondary])
    else:
        struct.pack_into("<HH", space, 0x2C, function.subvendor, function.subdevice)
    space[0x3C:0x3E] = bytes([0xFF, 1])


def write_capabilities(space, function):
    names = [name for name in PLACES if name in function.capabilities]
    at = 0x34
    for name in names:
        place, number = PLACES[name]
        space[at] = place
        space[place] = number
        at = place + 1
        WRITERS[name](space, place, function)


def write_pm(space, place, function):
    soft = 0 if "pm" in function.reset else NO_SOFT_RESET
    struct.pack_into("<HH", space, place + 2, 0x0003, soft)


def write_msi(space, place, function):
    struct.pack_into("<H", space, place + 2, 0x0080)  # one vector, 64-bit address, off


def write_pcie(space, place, function):
    kind = PORTS[function.port] if function.is_bridge else ENDPOINT
    slot_implemented = 0x100 if function.slot_name else 0
    struct.pack_into("<H", space, place + 2, 2 | kind << 4 | slot_implemented)
    struct.pack_into("<I", space, place + 4, ROLE_BASED_ERRORS | (FLR if "flr" in function.reset else 0) | 1)
    if function.link is None:
        return
    speed, width = SPEEDS[function.link[0]], function.link[1]
    speed_now, width_now = SPEEDS[function.link_now[0]], function.link_now[1]
    struct.pack_into("<I", space, place + 0x0C, speed | width << 4)
    struct.pack_into("<H", space, place + 0x12, speed_now | width_now << 4)
    struct.pack_into("<I", space, place + 0x2C, (1 << speed) - 1 << 1)
    struct.pack_into("<H", space, place + 0x30, speed)


def write_ssvid(space, place, function):
    struct.pack_into("<HH", space, place + 4, function.subvendor, function.subdevice)


def write_msix(space, place, function):
    struct.pack_into("<HII", space, place + 2, 5, 0x00B90000, 0x00BA0000)  # six vectors in BAR 0, off


def write_vpd(space, place, function):
    pass  # read through its own file


WRITERS = {"pm": write_pm, "msi": write_msi, "pcie": write_pcie, "ssvid": write_ssvid, "msix": write_msix,
           "vpd": write_vpd}


def write_extended(space, function):
    names = [name for name in EXTENDED if name in function.capabilities]
    places = [EXTENDED[name][0] for name in names]
    if places and places[0] != 0x100:  # the list must begin at 0x100; a null capability leads on
        struct.pack_into("<I", space, 0x100, places[0] << 20)
    for name, following in zip(names, places[1:] + [0]):
        place, number, version = EXTENDED[name]
        struct.pack_into("<I", space, place, number | version << 16 | following << 20)
        if name == "dsn":
            serial = int(function.serial.replace("-", ""), 16)
            struct.pack_into("<II", space, place + 4, serial & 0xFFFFFFFF, serial >> 32)
        if name == "acs":
            struct.pack_into("<HH", space, place + 4, 0x005F, 0x001D)
        if name == "sriov":
            struct.pack_into("<HH", space, place + 0x0C, function.sriov, function.sriov)
        if name == "rebar":
            sizes = [bar.size for bar in function.bars if bar.flags & 0x2000]
            largest = max(sizes, default=1 << 20)
            struct.pack_into("<II", space, place + 4, 1 << (largest.bit_length() - 21 + 4), 1 << 5)


def vital_product_data(function):
    """The large string and the read-only fields part number and serial number, closed by a checksum."""
    name = function.name.encode()
    number = (function.serial or "").replace("-", "").upper().encode()
    fields = b"".join(key + bytes([len(value)]) + value
                      for key, value in ((b"PN", (function.part or "").encode()), (b"SN", number)) if value)
    length = len(fields) + 4
    data = b"\x82" + struct.pack("<H", len(name)) + name + b"\x90" + struct.pack("<H", length) + fields + b"RV\x01"
    return data + bytes([-sum(data) & 0xFF]) + b"\x78"
