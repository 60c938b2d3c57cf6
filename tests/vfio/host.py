# SPDX-License-Identifier: LGPL-2.1-or-later
"""gpupool on an emulated host, and that host's kernel as a witness of what gpupool says."""

import json
import re
import shlex

from machine import PATIENCE_S, wait_until

# The emulated processors are ten times slower than any real ones, and share two real ones with whatever else runs.
SETTINGS = """[Libvirt]
QueryTimeout=120s
StopTimeout=180s
[Probe]
Timeout=60s
[Bind]
Timeout=180s
[Registry]
CallTimeout=120s
[Lease]
Request=2s
Duration=30s
KillTime=3s
"""

WATCHDOG = """[Service]
ExecStart=
ExecStart=/usr/libexec/gpupool/gpupool-guard --watchdog /dev/watchdog --watchdog-timeout 10
PrivateDevices=no
DeviceAllow=/dev/watchdog rw
"""

# What README says after the installation of the files.
INSTALLATION = ("systemd-sysusers && systemctl reload dbus && systemctl daemon-reload && "
                "systemctl enable --now gpupoold")

VM = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""


class Host:
    """A machine with gpupool. name: the node's."""

    def __init__(self, machine):
        self.machine, self.name = machine, machine.name

    def run(self, command, **options):
        return self.machine.run(command, **options)

    def tell(self, command, **options):
        return self.machine.tell(command, **options)

    # ---- installation

    def copy_files(self):
        """What `meson install` would have put there."""
        self.run("mount -o ro /dev/vdb /mnt && cp -a --no-preserve=ownership /mnt/usr /mnt/etc / && umount /mnt")

    def be(self, name, number):
        """A name, an address and an identity of its own, also after a reset; and the time."""
        self.name = name
        self.machine.put("/etc/systemd/network/10-test.network", "[Match]\nType=ether\n[Link]\n"
                         f"MACAddress=52:54:00:77:01:{number:02x}\n[Network]\nAddress=10.9.0.{number}/24\n")
        self.machine.put("/etc/hostname", f"{name}\n")
        self.set_clock()
        self.run(f"hostname {name} && cat /proc/sys/kernel/random/uuid | tr -d - >/etc/machine-id && "
                 f"ip link set $(basename /sys/class/net/en*) address 52:54:00:77:01:{number:02x} && "
                 "systemctl restart systemd-networkd && sync")
        wait_until(lambda: f"10.9.0.{number}/" in self.tell("ip -4 addr"), f"{name} has no address")

    def set_clock(self):
        self.run(f"date -s @{int(__import__('time').time())} >/dev/null")

    def settle(self):
        """Settings for slow machines."""
        self.machine.put("/etc/gpupool/gpupoold.conf", SETTINGS)

    def arm_watchdog(self):
        self.machine.put("/etc/systemd/system/gpupool-guard.service.d/watchdog.conf", WATCHDOG)
        self.run("systemctl daemon-reload && systemctl restart gpupool-guard")

    def wait_until_serving(self):
        wait_until(lambda: self.run("gpupoolctl status", check=False).status in (0, 3), f"{self.name} does not serve")

    # ---- what gpupool says

    def ctl(self, *words, **options):
        return self.run("gpupoolctl " + shlex.join(words), **options)

    def json(self, *words):
        """One document; None where it was refused."""
        text = self.run(f"gpupoolctl {shlex.join(words)} --json 2>/dev/null", check=False).text
        document = json.loads(text) if text.startswith("{") else {"error": text}
        return None if "error" in document else document

    def gpu(self, address, node=None):
        answer = self.json("gpu", "show", f"{node or self.name}:{address}")
        return answer and answer["gpu"]

    def codes(self, address):
        gpu = self.gpu(address)
        return gpu and {blocker["code"] for blocker in gpu["blockers"]}

    def wait_for_gpu(self, address, otherwise, fits=lambda gpu: gpu["assignable"]):
        last = {}

        def answer():
            gpu = self.gpu(address)
            last["gpu"] = gpu
            return gpu and fits(gpu) and gpu
        return wait_until(answer, lambda: f"{self.name}:{address}: {otherwise}; it is {last['gpu']}", pause_s=1)

    def vm(self, name):
        answer = self.json("vm", "show", name)
        return answer and answer["vm"]

    def wait_for_vm(self, name, state, fits=lambda vm: True, timeout_s=PATIENCE_S):
        last = {}

        def answer():
            vm = self.vm(name)
            last["vm"] = vm
            return vm and vm["state"] == state and fits(vm) and vm
        return wait_until(answer, lambda: f"{name} is not {state} as it should be but {last['vm']}", timeout_s, 1)

    def define(self, name, pool, *options):
        self.machine.put("/run/vm.xml", VM.format(name=name))
        self.ctl("vm", "define", "/run/vm.xml", "--pool", pool, "--gpus", "1", *options)

    def clear(self):
        """No pools and VMs any more."""
        state = self.json("status") or {"vms": [], "pools": []}
        for vm in state["vms"]:
            self.ctl("vm", "stop", vm["name"], check=False)
            self.wait_for_vm(vm["name"], "stopped")
            self.ctl("vm", "delete", vm["name"])
        for pool in state["pools"]:
            self.ctl("pool", "delete", pool["name"])

    # ---- what the kernel says

    def driver(self, address):
        return self.tell(f"basename $(readlink /sys/bus/pci/devices/{address}/driver) 2>/dev/null", check=False)

    def group(self, address):
        """The number of its group, and all that are in it."""
        folder = f"/sys/bus/pci/devices/{address}/iommu_group"
        number = self.tell(f"basename $(readlink -f {folder})")
        return number, set(self.tell(f"ls {folder}/devices").split())

    def vfio_groups(self):
        return set(self.tell("ls /dev/vfio").split()) - {"vfio"}

    def holders_of(self, group):
        """Pids of the processes that have the group open, by /proc."""
        found = self.tell(f"for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -q '/dev/vfio/{group}$' && "
                          "basename $p; done; true")
        return [int(pid) for pid in found.split()]

    def qemu(self, name):
        """Pids of the guest's process."""
        return [int(pid) for pid in self.tell(f"pgrep -f 'guest={name},' || true").split()]

    def service_pid(self, unit):
        return int(self.tell(f"systemctl show -p MainPID --value {unit}"))

    def status_of(self, pid, *names):
        """Fields of /proc/PID/status."""
        text = self.tell(f"cat /proc/{pid}/status")
        return [re.search(rf"^{name}:\s*(.*)$", text, re.MULTILINE)[1] for name in names]

    def wait_for_driver(self, address, driver):
        last = {}

        def answer():
            last["driver"] = self.driver(address)
            return last["driver"] == driver
        wait_until(answer, lambda: f"{self.name}: {address} is with {last['driver'] or 'no driver'}, not {driver}")
