# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the suites run on: machines made of one image and one build, and the folder where all they leave is."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from host import INSTALLATION, Host
from image import Skipped, image
from machine import Machine, Network

NEEDED = ("qemu-system-x86_64", "qemu-img", "mkfs.ext4", "ip", "nsenter", "setpriv", "unshare", "meson")


class Lab:
    """build: the folder of a build whose product is there. Made once; close() ends all machines. Where something failed
    the folder stays, with the console, the journal and the shells of each machine."""

    def __init__(self, build, say):
        missing = [tool for tool in NEEDED if not shutil.which(tool)]
        if missing:
            raise Skipped(f"{missing[0]} is not installed")
        if os.geteuid() != 0:
            raise Skipped("needs root, for an image and a network of its own")
        self.say, self.began = say, time.monotonic()
        self.machines, self.kept = {}, None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gpupool-vfio-", dir="/var/tmp"))
        self.image = image(say)
        self.product = self.folder / "product.img"
        self.make_product(build)
        self.network = Network()

    def make_product(self, build):
        tree = self.folder / "tree"
        done = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", tree], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"meson install: {done.stdout[-2000:]}"
        assert b"__asan_init" not in (tree / "usr/sbin/gpupoold").read_bytes(), "this is for builds that users install"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, "-O", "^has_journal", "-m", "0", self.product, "128M"],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)

    def note(self, what):
        self.say(f"{time.monotonic() - self.began:.0f} s: {what}")

    def boot(self, name):
        """A fresh machine, to which the files of the product were copied and nothing more."""
        machine = self.add(Machine(name, self.folder, self.image, self.image.disk, self.product, self.network,
                                   len(self.machines) + 1))
        machine.wait_ready()
        host = Host(machine)
        host.run("virsh version >/dev/null")     # libvirt asks QEMU what it can do, once, and that takes its time
        host.copy_files()
        host.settle()
        self.note(f"{name} has booted")
        return host

    def install(self, host):
        """As README has it."""
        host.run(INSTALLATION)
        host.wait_until_serving()
        self.note(f"gpupool serves on {host.name}")

    def clones(self, *names):
        """As many machines, all from one that was booted for that; who was there before is not any more."""
        self.remove(*list(self.machines))
        if not self.kept:
            base = self.boot("base")
            self.kept = self.folder / "base.state"
            base.machine.keep(self.kept)
            del self.machines["base"]
        for number, name in enumerate(names, 1):
            self.add(Machine(name, self.folder, self.image, self.folder / "base.qcow2", self.product, self.network,
                             number + 1, self.kept))
        hosts = {}
        for number, name in enumerate(names, 1):
            hosts[name] = Host(self.machines[name])
            hosts[name].machine.wait_ready()
            hosts[name].be(name, number)
        self.note(f"cloned: {', '.join(names)}")
        return hosts

    def add(self, machine):
        self.machines[machine.name] = machine
        return machine

    def remove(self, *names):
        for name in names:
            self.machines.pop(name).close()

    def close(self, keep_logs):
        for machine in self.machines.values():
            with contextlib.suppress(Exception):
                machine.close()
        self.network.close()
        for path in self.folder.glob("*") if keep_logs else ():
            if path.suffix in (".qcow2", ".img", ".state", ".qmp") or path.is_socket():
                path.unlink()
        if not keep_logs:
            shutil.rmtree(self.folder)
