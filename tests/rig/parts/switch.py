# SPDX-License-Identifier: LGPL-2.1-or-later
"""Switch: the network of a rig: a bridge in a network namespace without a name, kept by one sleeping process.

The machine sees neither the bridge nor the hosts' ends; both vanish with their namespaces, and any number of rigs may
use the same addresses. In the switch, port hN leads to host N, or dN while its packets are delayed; the port's group is
N in either case (cables.py). `rig exec switch nft …` does what no verb does."""

import os
import subprocess

from parts import spawner
from parts.cables import Cables
from parts.process import Process

# The switch itself says nothing in its network, so that all that is heard there is of the hosts.
SILENT = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"


class Switch:
    def __init__(self, base):
        self.pid_file = os.path.join(base.path, "switch.pid")
        self.cgroup = base.cgroup
        self.cables = Cables(base.path, self)

    def process(self):
        return Process.read(self.pid_file)

    def up(self):
        process = self.process()
        if process is not None and process.alive():
            return
        child = spawner.spawn(["unshare", "--net", "sleep", "infinity"], self.cgroup)
        spawner.wait_for_own_network(child.pid)
        Process.of(child.pid).write(self.pid_file)
        subprocess.run([*self.enter_command(), "sh", "-c", SILENT], check=False)
        self.ip_batch("link add br0 type bridge mcast_snooping 0", "link set br0 up")

    def connect(self, number, pid, addresses):
        """Gives process pid, which is in a network namespace of its own, a network card as host number."""
        port = f"h{number}"
        if self.has_port(port):
            self.ip("link", "del", port)  # of the time before a power loss, which the kernel has not yet taken away
        # A card keeps its hardware address, so that after a restart nobody has a wrong one in mind.
        hardware = f"02:77:00:00:00:{number:02x}"
        self.ip_batch(f"link add {port} type veth peer name eth0 address {hardware} netns {pid}",
                      f"link set {port} master br0 group {number} up")
        # Without waiting whether another has the address: with that, IPv6 would answer a second after IPv4.
        batch(["nsenter", f"--net=/proc/{pid}/ns/net"], "link set lo up",
              *(f"addr add {address} dev eth0 {'nodad' if address.version == 6 else ''}" for address in addresses),
              "link set eth0 up")
        self.cables.plugged(number)

    def unplug(self, number):
        """No packet of the host gets through any more, until connect()."""
        process = self.process()
        if process is not None and process.alive():
            subprocess.run([*self.enter_command(), "ip", "link", "set", "group", str(number), "down"], check=False)

    def has_port(self, name):
        return subprocess.run([*self.enter_command(), "test", "-e", f"/proc/sys/net/ipv4/conf/{name}"],
                              check=False).returncode == 0

    def ip(self, *words):
        subprocess.run(self.enter_command() + ["ip", *words], check=True)

    def ip_batch(self, *lines):
        batch(self.enter_command(), *lines)

    def enter_command(self):
        return ["nsenter", f"--net=/proc/{self.process().pid}/ns/net", "--"]


def batch(prefix, *lines):
    subprocess.run([*prefix, "ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines), text=True, check=True)
