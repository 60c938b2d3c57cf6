# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clock: the wall clock of a host that was brought up with --clock, for its product's services. CLOCK_REALTIME can be
stepped while they run; CLOCK_MONOTONIC and CLOCK_BOOTTIME are the kernel's. Done by a preloaded library (clock.c).

    hN/clock                  how far it is from the machine's clock: nanoseconds, 8 bytes, mapped by the services
    hN/usr/lib/rig-clock.so   the library"""

import os
import struct
import subprocess

CODE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = "/usr/lib/rig-clock.so"
INSIDE = "/run/rig/clock"
NSEC_PER_SEC = 1_000_000_000


class NoClock(Exception):
    """The host was brought up without --clock."""


class Clock:
    def __init__(self, path):
        self.path = os.path.join(path, "clock")
        self.library = path + LIBRARY

    def make(self):
        os.makedirs(os.path.dirname(self.library), exist_ok=True)
        subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", self.library, f"{CODE}/clock.c"], check=True)
        with open(self.path, "wb") as file:
            file.write(struct.pack("=q", 0))

    def exists(self):
        return os.path.exists(self.path)

    def offset_s(self):
        with open(self.path, "rb") as file:
            return struct.unpack("=q", file.read())[0] / NSEC_PER_SEC

    def step(self, seconds):
        """At once, for all that run; one aligned write, so nobody sees half of it."""
        if not self.exists():
            raise NoClock("This host has the machine's clock: bring it up with --clock")
        with open(self.path, "r+b") as file:
            now = struct.unpack("=q", file.read())[0]
            file.seek(0)
            file.write(struct.pack("=q", now + round(seconds * NSEC_PER_SEC)))


def environment():
    """What a service needs to see its host's clock; to be called inside the host."""
    return {"LD_PRELOAD": LIBRARY, "RIG_CLOCK": INSIDE} if os.path.exists(INSIDE) else {}
