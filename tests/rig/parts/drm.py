# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drm: the graphics nodes of devices whose own driver has them ("drm = yes"): DEVICE/drm/cardN, its file dev, and
/dev/dri/cardN, which programs in the host can open and hold, so that "in use" can be tested. The nodes are consoles
that nobody uses, as a node needs some driver on this machine; device numbers in sysfs and in /dev agree."""

import os
import stat

from parts.tree import Attribute

NODES = "/dev/dri"
MAJOR, LAST_MINOR = 4, 63  # /dev/tty63 and downwards


class Drm:
    def __init__(self, tree):
        self.tree = tree
        self.cards = {}

    def bound(self, device):
        if not device.function.drm or device.driver != device.function.driver:
            return
        number = next(n for n in range(LAST_MINOR) if n not in self.cards.values())
        self.cards[device] = number
        name = f"card{number}"
        folder = f"{device.path}/drm/{name}"
        self.tree.put(f"{folder}/dev", Attribute(f"{MAJOR}:{LAST_MINOR - number}\n"))
        self.tree.put(f"{folder}/uevent", Attribute(f"MAJOR={MAJOR}\nMINOR={LAST_MINOR - number}\nDEVNAME=dri/{name}\n"
                                                    "DEVTYPE=drm_minor\n"))
        self.tree.link(f"{folder}/device", device.path)
        self.tree.link(f"{folder}/subsystem", "/class/drm")
        self.tree.link(f"/class/drm/{name}", folder)
        os.makedirs(NODES, exist_ok=True)
        os.mknod(f"{NODES}/{name}", stat.S_IFCHR | 0o660, os.makedev(MAJOR, LAST_MINOR - number))

    def unbound(self, device):
        number = self.cards.pop(device, None)
        if number is None:
            return
        self.tree.remove(f"{device.path}/drm")
        self.tree.remove(f"/class/drm/card{number}")
        os.unlink(f"{NODES}/card{number}")
