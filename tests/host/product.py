# SPDX-License-Identifier: LGPL-2.1-or-later
"""The product on a rig, as tests speak of it. The build folder is the first argument of every test program."""

import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "rig"))
from hosts import Rig, run_as_tap, wait_until         # noqa: E402
from bus import Bus, Refused                          # noqa: E402

BUILD = os.path.abspath(sys.argv.pop(1))
UNREACHABLE = 5         # gpupoolctl's exit status
LONG = "GPUPOOL_TEST_LONG" in os.environ
H100, A100, A100_TWIN, GEFORCE, AMD, VGA, SHARED = (f"0000:{bus}:00.0" for bus in
                                                    ("41", "83", "84", "61", "23", "03", "c1"))
SLOW_S = 60             # whatever the machine is doing beside this

MANAGER, NODE, GPU, POOL, VM, JOB = (f"org.gpupool1.{name}" for name in ("Manager", "Node", "Gpu", "Pool", "VM", "Job"))
ROOT = "/org/gpupool1"
TREE = "org.freedesktop.DBus.ObjectManager"

# A boot sector: enables the power button (PM1 at 0x600, as SeaBIOS sets it on q35), says at 0x500 that it is there, and
# sleeps until the button is pressed; then it powers off.
OBEDIENT = (b"\xfa\x31\xc0\x8e\xd8"           # cli; ds = 0
            b"\xba\x02\x06\xb8\x00\x01\xef"   # out 0x602, 0x100
            b"\xc7\x06\x00\x05\xef\xbe"       # [0x500] = 0xbeef
            b"\xfb\xf4"                       # again: sti; hlt
            b"\xba\x00\x06\xed"               # in 0x600
            b"\xf6\xc4\x01\x74\xf5"           # no button: again
            b"\xba\x04\x06\xb8\x00\x20\xef"   # out 0x604, 0x2000: S5
            b"\xeb\xfe").ljust(510, b"\0") + b"\x55\xaa"
OBEDIENT = OBEDIENT.ljust(1 << 20, b"\0")       # SeaBIOS overlooks a disk that is much smaller


def install():
    """The build's install tree; made once per build, by whoever comes first."""
    tree = f"{BUILD}/tree"
    with open(f"{BUILD}/tree.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", tree], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tree


def rig_options(gpus, **options):
    """What Rig and Rig.up are told for hosts that run the product."""
    names = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"} & os.environ.keys()
    sanitizers = {name: os.environ[name] for name in names}
    return {"gpus": list(gpus), "destdir": install(), "environment": sanitizers, **options}


class Host:
    """One host that runs the product, with what the tests ask of it. With a rig: that host of a rig that others have
    too (cluster.py)."""

    def __init__(self, gpus=("h100", "a100-pair", "geforce"), settings="", number=1, rig=None, **options):
        self.rig = rig or Rig(1, **rig_options(gpus, **options))
        self.number, self.name = number, f"host{number}"
        self.folder = pathlib.Path(self.rig.folder) / f"h{number}"
        self.buses = {}
        if settings:
            self.settings(settings)
        if "libvirtd" in self.rig.status(number)["services"]:
            self.run("virsh", "domcapabilities")        # which takes it long the first time, as it tries the emulator

    def settings(self, text):
        """What gpupoold.conf says; gpupoold is started anew."""
        (self.folder / "config" / "gpupoold.conf").write_text(text)
        self.service("restart")

    def close(self):
        self.end()
        reports = self.sanitizer_reports()
        self.rig.down()
        assert not reports, reports

    def end(self):
        """Stops gpupoold, as who counts leaks does it at the end."""
        for bus in self.buses.values():
            bus.close()
        self.buses.clear()
        self.rig.rig("stop", self.number, "gpupoold", check=False)

    def service(self, verb, name="gpupoold"):
        self.rig.rig(verb, self.number, name)

    def signal(self, signal, service="gpupoold"):
        self.rig.rig("signal", self.number, service, signal)

    def kill(self, service="gpupoold"):
        """kill -9; it is started anew at once. Returns when it is, and nobody can take the old one for it."""
        before = self.starts(service)
        self.signal("KILL", service)
        wait_until(lambda: self.starts(service) > before and self.is_ready(service), SLOW_S, f"no {service} comes back")

    def starts(self, service="gpupoold"):
        return self.rig.status(self.number)["services"][service]["starts"]

    def is_ready(self, service):
        return self.rig.status(self.number)["services"][service]["state"] == "ready"

    def is_sanitized(self):
        return b"__asan_init" in pathlib.Path(f"{BUILD}/tree/usr/sbin/gpupoold").read_bytes()

    def sanitizer_reports(self):
        said = "".join(path.read_text(errors="replace") for path in (self.folder / "log").glob("*.log"))
        return re.findall(r"(?:ERROR: \w*Sanitizer|runtime error:).*(?:\n.*){0,25}", said)

    # ---- commands

    def run(self, *command, user=None, check=True, **options):
        return self.rig.exec(self.number, *command, user=user, check=check, **options)

    def ctl(self, *words, **options):
        """What it says. Sent again while it says that nothing was changed, as a majority or a node is not reached: on
        a busy machine an election may be under way."""
        deadline = time.monotonic() + SLOW_S
        while (done := self.run("gpupoolctl", *words, check=False, **options)).returncode == UNREACHABLE:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
        return done.stdout

    def write(self, *call, **options):
        """By the bus, with these options; sent again in the same case."""
        options["request-id"] = ["ay", list(os.urandom(16))]
        deadline = time.monotonic() + SLOW_S
        while True:
            try:
                return self.bus().call(*call, options)
            except Refused as refused:
                if refused.name not in ("NoQuorum", "Busy") or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def refused(self, *words, **options):
        """Runs gpupoolctl, which must be refused; what it said, and its exit status."""
        done = self.run("gpupoolctl", *words, check=False, **options)
        assert done.returncode != 0, f"{words} was not refused: {done.stdout}"
        return done.stderr + done.stdout, done.returncode

    def json(self, *words):
        return json.loads(self.ctl(*words, "--json"))

    def busctl(self, *words, **options):
        return self.run("busctl", "--json=short", "--timeout=60", *words, **options)

    def call(self, path, interface, method, *arguments, **options):
        """Calls by busctl; the values that came back."""
        answer = self.busctl("call", "org.gpupool1", path, interface, method, *map(str, arguments), **options)
        return json.loads(answer.stdout)["data"] if answer.stdout.strip() else []

    def error(self, path, interface, method, *arguments, **options):
        """Calls by gdbus-like busctl and returns the error's sentence; the call must fail."""
        answer = self.busctl("call", "org.gpupool1", path, interface, method, *map(str, arguments), check=False,
                             **options)
        assert answer.returncode != 0, f"{method} was not refused: {answer.stdout}"
        return answer.stderr.strip()

    def get(self, path, interface, name):
        return json.loads(self.busctl("get-property", "org.gpupool1", path, interface, name).stdout)["data"]

    def bus(self, user=None):
        """A connection that is kept; a new one where the last was lost with the host."""
        if user in self.buses and self.buses[user].process.poll() is not None:
            self.buses.pop(user).close()
        if user not in self.buses:
            self.buses[user] = Bus(self.rig, user, self.number)
        return self.buses[user]

    # ---- objects

    def objects(self):
        """Every object: path -> interface -> property -> value."""
        tree = self.bus().call(ROOT, TREE, "GetManagedObjects")[0]
        return {path: {name: properties for name, properties in interfaces.items() if name.startswith("org.gpupool1.")}
                for path, interfaces in tree.items()}

    def manager(self):
        """Properties of the cluster, as this host shows it."""
        return self.bus().call(ROOT, "org.freedesktop.DBus.Properties", "GetAll", "s", MANAGER)[0]

    def node_path(self):
        return self.bus().get(ROOT, MANAGER, "LocalNode")

    def node(self):
        return self.objects()[self.node_path()][NODE]

    def gpus_at(self, address):
        """Properties of each GPU that is or was at an address of this host."""
        here = self.node_path()
        return [{**interfaces[GPU], "path": path} for path, interfaces in self.objects().items()
                if GPU in interfaces and interfaces[GPU]["Address"] == address and interfaces[GPU]["Node"] == here]

    def gpu(self, address):
        """Properties of the GPU at an address that is not absent, or None."""
        return next((gpu for gpu in self.gpus_at(address) if gpu["State"] != "absent"), None)

    def vm(self, name):
        for path, interfaces in self.objects().items():
            vm = interfaces.get("org.gpupool1.VM")
            if vm and vm["Name"] == name:
                return {**vm, "path": path}
        return None

    def gpus_of(self, name):
        objects = self.objects()
        vm = next(i["org.gpupool1.VM"] for i in objects.values() if i.get("org.gpupool1.VM", {}).get("Name") == name)
        return [objects[path]["org.gpupool1.Gpu"]["Address"] for path in vm["Gpus"]]

    def wait_for_vm(self, name, state, timeout_s=SLOW_S):
        try:
            return wait_until(lambda: (vm := self.vm(name)) and vm["State"] == state and vm, timeout_s)
        except AssertionError:
            vm = self.vm(name) or {}
            raise AssertionError(f"VM {name} is not {state} within {timeout_s} s but {vm.get('State')}: "
                                 f"{vm.get('Reason')}") from None

    def path_of_gpu(self, address):
        """Of one that is plugged in, though perhaps just now."""
        return wait_until(lambda: self.gpu(address), SLOW_S, f"there is no GPU {address}")["path"]

    def assignable_gpu(self, address):
        """The same of one that can be given to a VM, as soon as the last one has given it back."""
        def assignable():
            gpu = self.gpu(address)
            return gpu and gpu["Assignable"] and gpu["State"] == "present" and gpu["path"]
        return wait_until(assignable, SLOW_S, f"GPU {address} cannot be given to a VM")

    # ---- the world as it is, whatever the service says

    def driver(self, address):
        device = self.rig.device(self.number, address)
        return device and device["driver"]

    def wait_for_driver(self, address, driver="nvidia"):
        """The GPU is inspected and given back a moment after its VM has ended."""
        wait_until(lambda: self.driver(address) == driver, SLOW_S, f"{address} does not come to {driver}")

    def is_back(self, name, address):
        """The VM's process is gone, and its GPU comes back."""
        assert self.qemu(name) == [], f"{name} has processes"
        self.wait_for_driver(address)

    def qemu(self, name):
        """Pids of qemu processes of the VM, as the host's process table has them."""
        done = self.run("pgrep", "-f", f"guest={name},", check=False)
        return [int(pid) for pid in done.stdout.split()]

    def service_pid(self, service="gpupoold"):
        return self.rig.status(self.number)["services"][service]["pid"]

    def outside(self, pid):
        """The pid, seen from outside, of a process of the host: to read of it and to signal it without delay."""
        namespace = os.readlink(f"/proc/{self.rig.status(self.number)['pid']}/ns/pid")
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                said = pathlib.Path(f"/proc/{name}/status").read_text()
                if os.readlink(f"/proc/{name}/ns/pid") == namespace and f"NSpid:\t{name}\t{pid}\n" in said:
                    return int(name)
            except OSError:
                continue
        raise AssertionError(f"the host has no process {pid}")

    def vm_pid(self, name):
        """The one process of the VM."""
        pids = self.qemu(name)
        assert len(pids) == 1, f"{name} has {len(pids)} processes"
        return pids[0]

    # ---- things to work with

    def xml(self, name, memory="32", extra="", uuid=""):
        text = (TESTS / "rig" / "vms" / "q35.xml").read_text()
        text = re.sub(r"<name>.*</name>", f"<name>{name}</name>", text)
        text = re.sub(r"\s*<uuid>.*</uuid>", f"<uuid>{uuid}</uuid>" if uuid else "", text)
        text = re.sub(r"(<memory.*>)\d+(</memory>)", rf"\g<1>{memory}\g<2>", text)
        return text.replace("</devices>", extra + "</devices>")

    def define(self, name, pool="training", gpus=1, *options, xml=None):
        return self.ctl("vm", "define", "-", "--pool", pool, "--gpus", str(gpus), *options, input=xml or self.xml(name))

    def obedient_guest(self, name, **more):
        """XML of a guest that boots from a disk and powers off when it is asked to; until then it sleeps."""
        self.run("sh", "-c", "cat > /var/lib/libvirt/images/obedient.img", input=OBEDIENT.decode("latin-1"),
                 encoding="latin-1")
        disk = ("<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
                "<source file='/var/lib/libvirt/images/obedient.img'/><target dev='sda' bus='sata'/></disk>")
        text = self.xml(name, extra=disk, **more)
        return text.replace("</os>", "</os><features><acpi/></features>")

    def wait_until_booted(self, name):
        wait_until(lambda: "0xbeef" in self.run("virsh", "qemu-monitor-command", name, "--hmp", "xp /1hx 0x500",
                                                check=False).stdout, SLOW_S, f"the guest of {name} does not boot")

    # ---- the same by the bus, where the test is of something else than gpupoolctl

    def make(self, *addresses, pool="training", vm="bert", count=1, **policy):
        """A pool with these GPUs and a VM that needs some of them; the VM's path."""
        gpus = [self.assignable_gpu(address) for address in addresses]
        self.write(ROOT, MANAGER, "CreatePool", "sa{sv}", pool, gpus=["ao", gpus])
        return self.make_vm(vm, pool, count, **policy)

    def make_vm(self, name, pool="training", count=1, xml=None, **policy):
        options = {key.replace("_", "-"): ["i" if isinstance(value, int) else "s", value]
                   for key, value in policy.items()}
        return self.write(ROOT, MANAGER, "DefineVM", "ssua{sv}", xml or self.xml(name), pool, count, **options)[0]

    def operate(self, name, verb, wait=True, **options):
        """Start, Stop, ...: the job's path; waits for its end, which must be a good one."""
        job, = self.write(self.vm(name)["path"], VM, verb, "a{sv}", **options)
        if wait:
            done = self.wait_for_job(job)
            assert done["Result"] == "done", done
        return job

    def start(self, *names):
        for name in names:
            self.operate(name, "Start")

    def stop(self, *names):
        for name in names:
            self.operate(name, "Stop")

    def job(self, path):
        return self.bus().call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", JOB)[0]

    def wait_for_job(self, path):
        return wait_until(lambda: (job := self.job(path))["State"] == "done" and job, SLOW_S, "the job is not over")

    def clear(self):
        """Back to a host with nothing defined: what a test left is taken away."""
        objects = self.objects()
        vms = {path: interfaces[VM] for path, interfaces in objects.items() if VM in interfaces}
        for path, vm in vms.items():
            if vm["State"] != "stopped":
                self.write(path, VM, "Stop", "a{sv}")
        for path, vm in vms.items():
            self.wait_for_vm(vm["Name"], "stopped")
            self.write(path, VM, "Delete", "a{sv}")
        for path, interfaces in objects.items():
            if POOL in interfaces:
                self.write(path, POOL, "Delete", "a{sv}")
            if GPU in interfaces and interfaces[GPU]["State"] == "quarantined":
                self.write(path, GPU, "Release", "a{sv}")


def shared_host(**options):
    """setUpModule and tearDownModule for one host that all tests of a file use."""
    box = {}

    def set_up():
        box["host"] = Host(**options)

    def tear_down():
        box.pop("host").close()
    return box, set_up, tear_down
