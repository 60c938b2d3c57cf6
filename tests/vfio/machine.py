# SPDX-License-Identifier: LGPL-2.1-or-later
"""An emulated host: a QEMU process with an IOMMU, cards behind root ports, a watchdog, and two root shells."""

import base64
import contextlib
import json
import os
import pathlib
import select
import shlex
import signal
import socket
import subprocess
import time

PATIENCE_S = 300        # for whatever may take long where others use the processors, too
MEMORY_MB = 768

# Cards by root port. rp1: a GPU with its audio function, which share a group. rp2: one alone. rp3 and rp5 lack ACS, so
# that the GPU behind the one shares its group with the random number generator behind the other. rp4 is empty, for what
# is plugged in later.
PORTS = 5
WITHOUT_ACS = (3, 5)
CARDS = [
    "secondary-vga,id=gpu1,bus=rp1,addr=0.0,multifunction=on", "intel-hda,id=audio1,bus=rp1,addr=0.1",
    "secondary-vga,id=gpu2,bus=rp2,addr=0.0",
    "secondary-vga,id=gpu3,bus=rp3,addr=0.0", "virtio-rng-pci,id=rng,bus=rp5,addr=0.0",
]
GPU, AUDIO, ALONE, SHARED, RNG, PLUGGED = (f"0000:{short}" for short in
                                           ("01:00.0", "01:00.1", "02:00.0", "03:00.0", "05:00.0", "04:00.0"))


def wait_until(answer, otherwise, timeout_s=PATIENCE_S, pause_s=0.3):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while not (value := answer()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{otherwise() if callable(otherwise) else otherwise} (after {timeout_s} s)")
        time.sleep(pause_s)
    return value


class Network:
    """A bridge in a network namespace of its own, which goes when this program does."""

    def __init__(self):
        self.keeper = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "ip link set lo up && "
                                        "ip link add switch type bridge && ip link set switch up && echo up && cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = set()
        assert self.keeper.stdout.readline() == "up\n", "no network namespace can be made"

    def words(self, *command):
        return ["nsenter", "-t", str(self.keeper.pid), "-n", "--", *command]

    def add_port(self, name):
        """It stays when its machine is gone, for the next one."""
        if name in self.ports:
            return
        self.ports.add(name)
        for command in (f"tuntap add {name} mode tap", f"link set {name} master switch up"):
            subprocess.run(self.words("ip", *command.split()), check=True)

    def close(self):
        self.keeper.stdin.close()
        self.keeper.wait()


def connect(path, timeout_s=30):
    """A socket on which QEMU listens, or will in a moment."""
    deadline = time.monotonic() + timeout_s
    while True:
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect(str(path))
            return one
        except OSError:
            one.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Stream:
    """Bytes of a socket as they come, up to a mark."""

    def __init__(self, path, log=None):
        self.socket = connect(path)
        self.rest = b""
        self.log = open(log, "ab") if log else None

    def read_until(self, mark, deadline):
        while mark not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise TimeoutError
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError
            if self.log:
                self.log.write(data)
                self.log.flush()
            self.rest += data
        found, _, self.rest = self.rest.partition(mark)
        return found

    def write(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()
        if self.log:
            self.log.close()


class Qmp:
    """QEMU's control socket. Events that came are in `events`, oldest first."""

    def __init__(self, path):
        self.stream = Stream(path)
        self.events = []
        self.read(time.monotonic() + 30)
        self("qmp_capabilities")

    def read(self, deadline):
        return json.loads(self.stream.read_until(b"\n", deadline))

    def __call__(self, command, timeout_s=60, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        deadline = time.monotonic() + timeout_s
        while True:
            said = self.read(deadline)
            if "event" in said:
                self.events.append(said)
            elif "error" in said:
                raise AssertionError(f"{command}: {said['error']['desc']}")
            else:
                return said["return"]

    def wait_event(self, name, fits=lambda data: True, timeout_s=PATIENCE_S):
        """Takes the first such event out of those that came or come."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.events:
                if event["event"] == name and fits(event.get("data", {})):
                    self.events.remove(event)
                    return event
            try:
                said = self.read(deadline)
            except TimeoutError:
                raise AssertionError(f"no {name} from QEMU within {timeout_s} s; there was "
                                     f"{[event['event'] for event in self.events]}") from None
            if "event" in said:
                self.events.append(said)

    def close(self):
        self.stream.close()


class Done:
    """How a command ended: its status, and what it said."""

    def __init__(self, status, text):
        self.status, self.text = status, text


class Shell:
    """One of a host's root shells. A command that is not over in time leaves it busy until the command is."""

    def __init__(self, path, log):
        self.stream = Stream(path, log)
        self.number = 0
        self.busy = False

    def run(self, command, timeout_s):
        self.number += 1
        mark = f"{os.getpid()}-{self.number}"
        code = base64.b64encode(command.encode()).decode()
        # The mark is put together there, so that nothing that repeats the line is taken for the answer.
        line = (f'm={mark}; printf "\\001<%s>" $m; ( eval "$(echo {code} | base64 -d)" ) </dev/null 2>&1; '
                f'printf "\\001%s=%s\\001" $m $?\n')
        self.stream.write(line.encode())
        deadline = time.monotonic() + timeout_s
        self.busy = True
        self.stream.read_until(f"\x01<{mark}>".encode(), deadline)
        text = self.stream.read_until(f"\x01{mark}=".encode(), deadline)
        status = self.stream.read_until(b"\x01", deadline)
        self.busy = False
        return Done(int(status), text.decode(errors="replace"))

    def close(self):
        self.stream.close()


class Machine:
    """folder: where its disk, sockets and logs are, which must be there. backing: the disk's content to begin with.
    product: a disk image with the product's install tree. restored: the file of a machine that was kept (keep())."""

    def __init__(self, name, folder, image, backing, product, network, number, restored=None):
        self.name, self.folder, self.network, self.number = name, pathlib.Path(folder), network, number
        self.disk = self.folder / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw" if backing == image.disk else "qcow2",
                        "-b", str(backing), str(self.disk)], check=True)
        network.add_port(f"t{number}")
        words = ["setpriv", "--pdeathsig", "KILL", "--", *network.words(*self.qemu(image, product))]
        if restored:
            words += ["-incoming", f"exec:cat {shlex.quote(str(restored))}"]
        with open(self.path("qemu.log"), "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.qmp = Qmp(self.path("qmp"))
        except OSError:
            raise AssertionError(f"QEMU does not run, see {self.path('qemu.log')}") from None
        self.shells = [Shell(self.path(f"shell{n}"), self.path(f"shell{n}.log")) for n in (1, 2)]
        if restored:
            wait_until(lambda: self.qmp("query-status")["status"] == "paused", "the machine is not restored",
                       pause_s=0.1)
            self.qmp("cont")

    def path(self, what):
        return self.folder / f"{self.name}.{what}"

    def qemu(self, image, product):
        shell = [["-chardev", f"socket,id=s{n},path={self.path(f'shell{n}')},server=on,wait=off",
                  "-serial", f"chardev:s{n}"] for n in (1, 2)]
        ports = [["-device", f"pcie-root-port,id=rp{n},chassis={n},slot={n},addr=4.{n - 1},pref32-reserve=32M,"
                  f"mem-reserve=4M{',multifunction=on' if n == 1 else ''}"
                  f"{',disable-acs=on' if n in WITHOUT_ACS else ''}"]
                 for n in range(1, PORTS + 1)]
        return ["qemu-system-x86_64", "-name", f"gpupool-test-{self.name}", "-nodefaults", "-display", "none",
                "-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi,tb-size=256",
                "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB),
                "-device", "intel-iommu,intremap=on,caching-mode=on", "-device", "vmgenid,guid=auto",
                "-kernel", image.kernel, "-initrd", image.initrd, "-append",
                "root=/dev/vda rw console=ttyS0 intel_iommu=on mitigations=off audit=0 nowatchdog panic=-1",
                "-drive", f"file={self.disk},if=none,id=d0,cache=unsafe", "-device", "virtio-blk-pci,drive=d0,addr=8",
                "-drive", f"file={product},if=none,id=d1,format=raw,readonly=on",
                "-device", "virtio-blk-pci,drive=d1,addr=9",
                "-netdev", f"tap,id=n0,ifname=t{self.number},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=n0,id=net0,addr=a,romfile=,mac=52:54:00:77:00:{self.number:02x}",
                *sum(ports, []), *sum((["-device", card] for card in CARDS), []),
                "-device", "i6300esb,addr=b", "-action", "watchdog=reset",
                "-serial", f"file:{self.path('console.log')}", *sum(shell, []),
                "-serial", f"file:{self.path('journal.log')}",
                "-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]

    # ---- commands

    def check_alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"QEMU of {self.name} has ended with {self.process.returncode}, see "
                                 f"{self.path('qemu.log')}")

    def run(self, command, check=True, timeout_s=PATIENCE_S):
        """Runs a line of shell as root in the first shell that is free."""
        self.check_alive()
        shell = next((shell for shell in self.shells if not shell.busy), None)
        if shell is None:
            raise AssertionError(f"both shells of {self.name} hang, see {self.path('shell1.log')}")
        try:
            done = shell.run(command, timeout_s)
        except TimeoutError:
            raise AssertionError(f"{self.name}: no end within {timeout_s} s: {command}") from None
        if check and done.status != 0:
            raise AssertionError(f"{self.name}: {command}\nended with {done.status}:\n{done.text}")
        return done

    def tell(self, command, **options):
        """What a command that must succeed said."""
        return self.run(command, **options).text.strip()

    def put(self, path, text):
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))} && base64 -d >{shlex.quote(path)} <<'E'\n"
                 f"{base64.encodebytes(text.encode()).decode()}E")

    def wait_ready(self):
        """Both shells answer. Again after a reset, when the lines are dumb until the host is up."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        for shell in self.shells:
            while True:
                self.check_alive()
                with contextlib.suppress(TimeoutError):
                    shell.run("true", 3)
                    break
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self.name} does not come up, see {self.path('console.log')}")

    # ---- the machine itself

    def keep(self, file):
        """Writes all its state but the disk into a file, and ends it. Its disk is then a backing file for others."""
        self.run("sync")
        self.qmp("stop")
        self.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(file))}")

        def status():
            return self.qmp("query-migrate").get("status")
        wait_until(lambda: status() in ("completed", "failed"), "the machine is not written", pause_s=0.1)
        assert status() == "completed", self.qmp("query-migrate")
        self.close()

    def kill(self):
        """Power loss."""
        self.process.kill()
        self.process.wait()

    def signal(self, what):
        self.process.send_signal(getattr(signal, f"SIG{what}"))

    def cable(self, up):
        self.qmp("set_link", name="net0", up=up)

    def plug(self, device, **options):
        self.qmp("device_add", driver=device, **options)

    def unplug(self, name):
        self.qmp("device_del", id=name)

    def has_died_of_a_removal(self):
        """Its kernel, by what it wrote: README.md, traps."""
        console = self.path("console.log").read_text(errors="replace")
        return "BUG: kernel NULL pointer dereference" in console and "intel_iommu_release_device" in console

    def close(self):
        with contextlib.suppress(OSError, AssertionError, TimeoutError):
            self.qmp("quit", timeout_s=5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.kill()
        self.qmp.close()
        for shell in self.shells:
            shell.close()
