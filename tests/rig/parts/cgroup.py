# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroup: a folder of cgroup v2. What a rig starts is in its cgroup from the first instruction on, so what is in the
cgroup is what the rig may end: this holds when pid files are lost, and for processes that forked twice."""

import errno
import os
import select
import time

FREEZE_TRY_S = 2


def mount_point():
    with open("/proc/self/mounts") as file:
        for line in file:
            _, where, kind = line.split()[:3]
            if kind == "cgroup2":
                return where
    raise RuntimeError("No cgroup v2 is mounted here, and the rig needs one to freeze and to end its hosts. "
                       "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified")


class Cgroup:
    def __init__(self, *names):
        self.path = os.path.join(mount_point(), *names)

    def make(self):
        os.makedirs(self.path, exist_ok=True)

    def join(self):
        """Puts the calling process in. For use between fork and exec."""
        self._write("cgroup.procs", "0")

    def freeze(self, timeout_s=60):
        """Who waits for an answer from the host's own file system cannot stop, and gets none once the server of that
        has stopped. So all go on for a moment, and it is tried again."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._write("cgroup.freeze", "1")
            try:
                return self._wait("frozen 1", FREEZE_TRY_S)
            except TimeoutError:
                self.thaw(timeout_s)
                if time.monotonic() > deadline:
                    raise

    def thaw(self, timeout_s=60):
        self._write("cgroup.freeze", "0")
        self._wait("frozen 0", timeout_s)

    def frozen(self):
        return "frozen 1" in self._events()

    def populated(self):
        return "populated 1" in self._events()

    def kill(self, timeout_s=60):
        """Ends everything in it, frozen or not, and waits until nothing is left. What comes in later is not frozen."""
        if not os.path.isdir(self.path):
            return
        self._write("cgroup.kill", "1")
        self._wait("populated 0", timeout_s)
        self._write("cgroup.freeze", "0")

    def end(self, timeout_s=60):
        """Ends everything in it and takes the folder and all below it away. Who was forked to come in, by a command
        that was interrupted, may come in between, and is ended too."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.kill(timeout_s)
            try:
                for folder, _, _ in os.walk(self.path, topdown=False):
                    os.rmdir(folder)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise

    def _events(self):
        try:
            with open(os.path.join(self.path, "cgroup.events")) as file:
                return file.read()
        except FileNotFoundError:
            return "populated 0\nfrozen 0\n"

    def _write(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(value)

    def _wait(self, event, timeout_s):
        """Waits for a line of cgroup.events; the kernel raises POLLPRI at each change of it."""
        deadline = time.monotonic() + timeout_s
        with open(os.path.join(self.path, "cgroup.events")) as file:
            poll = select.poll()
            poll.register(file, select.POLLPRI)
            while True:
                file.seek(0)
                if event in file.read():
                    return
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"{self.path} did not come to \"{event}\" within {timeout_s} s")
                poll.poll(min(left_s, 0.2) * 1000)
