# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of things that a VM lives through have in common."""

import os
import signal
import unittest

from product import H100, SLOW_S, wait_until

QUERY_TIMEOUT_S, ASKED_EVERY_S = 1, 5           # libvirt is asked again after that time without a call
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

    def wait_for_next_epoch(self, epoch):
        return wait_until(lambda: (vm := self.host.vm("bert"))["State"] == "running" and vm["Epoch"] > epoch and vm,
                          SLOW_S, "bert does not run again")

    def held_by_guard(self):
        """Pids, from outside, of the processes of which the guard has pidfds."""
        folder = f"/proc/{self.host.outside(self.host.service_pid('guard'))}/fdinfo"
        lines = [line.split() for name in os.listdir(folder) for line in open(f"{folder}/{name}", encoding="utf-8")]
        return [int(words[1]) for words in lines if words[0] == "Pid:" and int(words[1]) > 0]

    def end_qemu(self):
        """kill -9, as the kernel does it when memory is out."""
        os.kill(self.host.outside(self.host.vm_pid("bert")), signal.SIGKILL)
