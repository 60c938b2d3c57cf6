# SPDX-License-Identifier: LGPL-2.1-or-later
"""Switch: the network of a rig: a bridge in a network namespace without a name, kept by one sleeping process.

The machine sees neither the bridge nor the hosts' ends; both vanish with their namespaces, and any number of rigs may
use the same addresses. In the switch, port hN leads to host N; `rig exec switch nft …` cuts and slows."""

import os
import subprocess

from parts import spawner
from parts.process import Process

ADDRESS = "10.77.0"


class Switch:
    def __init__(self, base):
        self.pid_file = os.path.join(base.path, "switch.pid")
        self.cgroup = base.cgroup

    def process(self):
        return Process.read(self.pid_file)

    def up(self):
        process = self.process()
        if process is not None and process.alive():
            return
        child = spawner.spawn(["unshare", "--net", "sleep", "infinity"], self.cgroup)
        spawner.wait_for_own_network(child.pid)
        Process.of(child.pid).write(self.pid_file)
        self.ip("link", "add", "br0", "type", "bridge")
        self.ip("link", "set", "br0", "up")

    def connect(self, number, pid):
        """Gives process pid, which is in a network namespace of its own, a network card as host number."""
        port = f"h{number}"
        self.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.ip("link", "set", port, "master", "br0", "up")
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
        batch = f"link set lo up\naddr add {ADDRESS}.{number}/24 dev eth0\nlink set eth0 up\n"
        subprocess.run([*inside, "-batch", "-"], input=batch, text=True, check=True)

    def ip(self, *words):
        subprocess.run(self.enter_command() + ["ip", *words], check=True)

    def enter_command(self):
        return ["nsenter", f"--net=/proc/{self.process().pid}/ns/net", "--"]
