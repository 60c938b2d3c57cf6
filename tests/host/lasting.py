# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of things that a VM lives through have in common."""

import contextlib
import os
import pathlib
import signal
import unittest

from product import H100, SLOW_S, VM, wait_until

QUERY_TIMEOUT_S, ASKED_EVERY_S = 5, 5           # libvirt is asked again after that time without a call
SETTINGS = f"[Libvirt]\nQueryTimeout={QUERY_TIMEOUT_S}s\n"


class Case(unittest.TestCase):
    BOX = None

    def setUp(self):
        self.host = self.BOX["host"]
        self.addCleanup(self.host.clear)

    def running_vm(self, *addresses, **policy):
        """bert runs; the pid of its process."""
        self.host.make(*(addresses or (H100,)), **policy)
        self.host.start("bert")
        return self.host.vm_pid("bert")

    def wait_for_node(self, name, value, timeout_s=SLOW_S):
        wait_until(lambda: self.host.node()[name] == value, timeout_s, f"the node's {name} is not {value}")

    def hear(self, state):
        """Since listen() of its host's bus bert was told to be in that state, for however short a time; why."""
        path, told = self.host.vm("bert")["path"], {}

        def fits(said):
            if said["signal"] == "PropertiesChanged" and said["path"] == path and said["values"][0] == VM:
                told.update(said["values"][1])
                return "State" in said["values"][1] and told["State"] == state
            return False
        self.host.bus().hear(fits)
        return told["Reason"][0]

    def wait_for_next_epoch(self, epoch):
        return wait_until(lambda: (vm := self.host.vm("bert")) and vm["State"] == "running" and vm["Epoch"] > epoch and
                          vm, SLOW_S, "bert does not run again")

    def held_by_guard(self):
        """Pids, from outside, of the processes of which the guard has pidfds."""
        folder = pathlib.Path(f"/proc/{self.host.outside(self.host.service_pid('guard'))}/fdinfo")
        words = []
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):        # of a connection that has just ended
                words += [line.split() for line in file.read_text().splitlines()]
        return [int(line[1]) for line in words if line[0] == "Pid:" and int(line[1]) > 0]

    def end_qemu(self):
        """kill -9, as the kernel does it when memory is out."""
        os.kill(self.host.outside(self.host.vm_pid("bert")), signal.SIGKILL)
