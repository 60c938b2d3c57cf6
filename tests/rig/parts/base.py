# SPDX-License-Identifier: LGPL-2.1-or-later
"""Base: the folder that holds one rig, its lock and its cgroup. Rigs in different folders share nothing.

    FOLDER/lock, FOLDER/switch.pid, cables.* (the network), FOLDER/h1, FOLDER/h2, … (the hosts)"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile

from parts.cgroup import Cgroup
from parts.host import Host
from parts.process import Process
from parts.switch import Switch

DEFAULT_PARENT = "/run/gpupool-rig"
OVERLAID = ("/usr", "/etc", "/var")  # an overlay cannot have its own layers below itself


class NoRig(Exception):
    pass


class Base:
    def __init__(self, path):
        self.path = os.path.realpath(path)
        if any(os.path.commonpath([self.path, folder]) == folder for folder in OVERLAID):
            raise NoRig(f"{self.path} is below {' or '.join(OVERLAID)}, which every host overlays. "
                        "Put the rig below /run or /tmp")
        digest = hashlib.sha256(self.path.encode()).hexdigest()[:12]
        self.cgroup = Cgroup(f"gpupool-rig-{digest}")
        self.switch = Switch(self)

    @classmethod
    def fresh(cls, path):
        """The rig in that folder, or one in a new folder where none is named."""
        if path is None:
            os.makedirs(DEFAULT_PARENT, exist_ok=True)
            path = tempfile.mkdtemp(prefix="", dir=DEFAULT_PARENT)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)  # services of the hosts run as several users
        return cls(path)

    @classmethod
    def existing(cls, path):
        """The rig in that folder, or the only one that there is below the default folder."""
        if path is not None:
            if not os.path.isdir(path):
                raise NoRig(f"No rig is in {path}")
            return cls(path)
        found = sorted(os.listdir(DEFAULT_PARENT)) if os.path.isdir(DEFAULT_PARENT) else []
        if len(found) != 1:
            there = f"{len(found)} rigs are below {DEFAULT_PARENT}: {' '.join(found)}" if found else "No rig is up"
            raise NoRig(f"{there}. Name one: --dir FOLDER, or GPUPOOL_RIG_DIR")
        return cls(os.path.join(DEFAULT_PARENT, found[0]))

    @contextlib.contextmanager
    def lock(self):
        """Held by whoever changes the set of hosts; released by the kernel when its holder dies."""
        with open(os.path.join(self.path, "lock"), "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def host(self, number):
        host = Host(self, number)
        if not os.path.isdir(host.path):
            there = " ".join(str(each.number) for each in self.hosts()) or "none"
            raise NoRig(f"This rig has no host {number}; it has {there}")
        return host

    def hosts(self):
        numbers = sorted(int(match[1]) for match in map(re.compile(r"^h(\d+)$").match, os.listdir(self.path)) if match)
        return [Host(self, number) for number in numbers]

    def init_of_switch(self):
        return Process.read(os.path.join(self.path, "switch.pid"))

    def down(self):
        """Ends all that this rig started and removes the folder. May be repeated; a half-made rig is no obstacle."""
        self.cgroup.end()
        for host in self.hosts():
            host.disk.unmount()
        shutil.rmtree(self.path, ignore_errors=False)
        with contextlib.suppress(OSError):
            os.rmdir(DEFAULT_PARENT)  # stays where other rigs are
