# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sysfs: serves a host's simulated PCI tree as a file system, and obeys plug, unplug, hang, refuse, heal, set, status.

    python3 -m parts.sysfs MOUNTPOINT       (a child of pid 1, in the host's namespaces)

Every request runs in a thread of libfuse, so one that hangs on purpose holds up no other. Names are cached by the
kernel for long (final components are always asked for again, so nothing stale is seen); contents and attributes
never."""

import errno
import json
import os
import sys
import threading

os.environ.setdefault("FUSE_LIBRARY_PATH", "libfuse.so.2")  # spares fusepy the search with ldconfig and gcc
from fusepy import FUSE, fuse_get_context                    # noqa: E402

from parts import control                                    # noqa: E402
from parts.bus import Bus                                    # noqa: E402
from parts.card import Card                                  # noqa: E402
from parts.tree import Attribute, Folder, Link, fail         # noqa: E402

HOST = "/run/rig"
CAP_SYS_ADMIN = 21
NAMES_CACHED_S = 3600
UNPRIVILEGED_CONFIG_BYTES = 64


class Operations:
    """What libfuse asks; nothing else is implemented, so that the kernel stops asking."""

    use_ns = True

    def __init__(self, bus):
        self.bus = bus
        self.tree = tree = bus.tree
        self.stat_base = {key: int(tree.born * 1e9) for key in ("st_atime", "st_mtime", "st_ctime")}
        self.privileged = {}  # file handle -> whether it may see all of the configuration space
        self.hanging = {}     # file handle -> what was written and will hang
        self.next_handle = 0
        self.handles = threading.Lock()

    def __call__(self, operation, path, *arguments):
        return getattr(self, operation)(path, *arguments)

    def getattr(self, path, handle=None):
        node = self.tree.find(path)
        return {**self.stat_base, "st_mode": node.mode, "st_size": node.size, "st_nlink": 1, "st_uid": 0, "st_gid": 0}

    def access(self, path, mode):
        node = self.tree.find(path)
        if isinstance(node, Attribute):
            self.check(node, mode & os.R_OK, mode & os.W_OK)

    def readlink(self, path):
        node = self.tree.find(path)
        return node.target if isinstance(node, Link) else fail(errno.EINVAL)

    def readdir(self, path, handle):
        return [".", "..", *self.tree.names(path)]

    def open(self, path, flags):
        node = self.tree.find(path)
        how = flags & os.O_ACCMODE
        self.check(node, how != os.O_WRONLY, how != os.O_RDONLY)
        with self.handles:
            self.next_handle += 1
            handle = self.next_handle
        if path.endswith("/config"):
            self.privileged[handle] = may_administer(fuse_get_context()[2])
        return handle

    def check(self, node, reads, writes):
        """As the kernel does with owner root: others have the last three bits."""
        shift = 6 if fuse_get_context()[0] == 0 else 0
        wanted = (4 if reads else 0) | (2 if writes else 0)
        if node.mode >> shift & wanted != wanted and not isinstance(node, Folder):
            fail(errno.EACCES)

    def read(self, path, size, offset, handle):
        node = self.tree.nodes.get(path) or fail(errno.ENODEV)
        data = node.read()
        if not self.privileged.get(handle, True):
            data = data[:UNPRIVILEGED_CONFIG_BYTES]
        return data[offset:offset + size]

    def write(self, path, data, offset, handle):
        node = self.tree.nodes.get(path) or fail(errno.ENODEV)
        if node.write is None:
            fail(errno.EIO)
        text = data.decode("latin1")
        # All devices of a driver share this file, and the kernel lets one at a time write to a file of ours, which it
        # does not in its own sysfs: so what hangs, hangs as the writer closes it.
        if self.bus.would_hang(path, text):
            self.hanging[handle] = lambda: node.write(text)
        else:
            node.write(text)
        return len(data)

    def flush(self, path, handle):
        self.hanging.pop(handle, lambda: None)()
        return 0

    def truncate(self, path, length, handle=None):
        self.tree.find(path)

    def release(self, path, handle):
        self.privileged.pop(handle, None)
        return 0


def may_administer(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    except OSError:
        pass
    return False


class Control:
    """Answers the requests from outside, each in a thread: one that waits for a device holds up no other."""

    def __init__(self, bus):
        self.bus = bus
        self.lock = threading.Lock()
        with open(f"{HOST}/plugged.json") as file:
            self.plugged = json.load(file)
        for entry in self.plugged:
            for functions in Card(entry["text"], entry["address"]).slots():
                if functions[0].slot not in entry["absent"]:
                    self.bus.add(functions, quietly=True)

    def serve(self):
        listener = control.listen(f"{HOST}/sysfs.sock")
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            connection.settimeout(control.PATIENCE_S)
            try:
                request = json.loads(connection.makefile("rb").readline())
                reply = {"answer": getattr(self, "do_" + request.pop("do"))(**request)}
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
                reply = {"error": problem.strerror if getattr(problem, "strerror", None) else str(problem)}
            try:
                connection.sendall(control.encode(reply))
            except OSError:
                pass  # the asker left

    def do_plug(self, text, address=None):
        card = Card(text, address)
        with self.lock:
            added = [function for functions in card.slots() for function in self.bus.add(functions)]
            entry = next((each for each in self.plugged if (each["text"], each["address"]) == (text, address)), None)
            if entry is None:
                self.plugged.append({"text": text, "address": address, "absent": []})
            else:
                entry["absent"] = []
            self.remember()
        if not added:
            raise ValueError("All of it is plugged in already")
        return [function.address for function in added]

    def do_unplug(self, address):
        slot = address.rpartition(".")[0] or address
        with self.lock:
            self.bus.unplug(slot)
            for entry in self.plugged:
                slots = [functions[0].slot for functions in Card(entry["text"], entry["address"]).slots()]
                if slot in slots:
                    entry["absent"].append(slot)
            self.remember()

    def do_hang(self, address, operation):
        self.bus.device(address).hang(operation)

    def do_refuse(self, address, operation):
        self.bus.device(address).refuse(operation)

    def do_heal(self, address):
        self.bus.device(address).heal()

    def do_set(self, address, attribute, value):
        self.bus.set_attribute(address, attribute, value)

    def do_status(self):
        return [device.facts() for device in self.bus.in_order()]

    def remember(self):
        with open(f"{HOST}/plugged.json.new", "w") as file:
            json.dump(self.plugged, file)
        os.rename(f"{HOST}/plugged.json.new", f"{HOST}/plugged.json")


def main(mount_point):
    bus = Bus()
    serving = Control(bus)
    threading.Thread(target=serving.serve, daemon=True).start()
    FUSE(Operations(bus), mount_point, foreground=True, allow_other=True, direct_io=True, attr_timeout=0,
         entry_timeout=NAMES_CACHED_S, negative_timeout=0, fsname="gpupool-rig")


if __name__ == "__main__":
    main(sys.argv[1])
