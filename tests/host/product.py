# SPDX-License-Identifier: LGPL-2.1-or-later
"""The product on a rig, as tests speak of it. The build folder is the first argument of every test program."""

import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "rig"))
from hosts import Rig, run_as_tap, wait_until         # noqa: E402

BUILD = os.path.abspath(sys.argv.pop(1))
LONG = "GPUPOOL_TEST_LONG" in os.environ
H100, A100, A100_TWIN, GEFORCE, AMD, VGA, SHARED = (f"0000:{a}:00.0" for a in ("41", "83", "84", "61", "23", "03", "c1"))
SLOW_S = 30             # whatever the machine is doing beside this

MANAGER = "org.gpupool1.Manager"
ROOT = "/org/gpupool1"


def install():
    """The build's install tree; made once per build, by whoever comes first."""
    tree = f"{BUILD}/tree"
    with open(f"{BUILD}/tree.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", tree], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tree


class Host:
    """One host that runs the product, with what the tests ask of it."""

    def __init__(self, gpus=("h100", "a100-pair", "geforce"), **options):
        sanitizers = {key: os.environ[key] for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS") if key in os.environ}
        self.rig = Rig(1, gpus=list(gpus), destdir=install(), environment=sanitizers, **options)
        self.folder = pathlib.Path(self.rig.folder) / "h1"

    def close(self):
        reports = self.sanitizer_reports()
        self.rig.down()
        assert not reports, reports

    def sanitizer_reports(self):
        said = "".join(path.read_text(errors="replace") for path in (self.folder / "log").glob("*.log"))
        return re.findall(r"(?:ERROR: \w*Sanitizer|runtime error:).*(?:\n.*){0,25}", said)

    # ---- commands

    def run(self, *command, user=None, check=True, **options):
        return self.rig.exec(1, *command, user=user, check=check, **options)

    def ctl(self, *words, **options):
        return self.run("gpupoolctl", *words, **options).stdout

    def refused(self, *words, **options):
        """Runs gpupoolctl, which must be refused; what it said, and its exit status."""
        done = self.run("gpupoolctl", *words, check=False, **options)
        assert done.returncode != 0, f"{words} was not refused: {done.stdout}"
        return done.stderr + done.stdout, done.returncode

    def json(self, *words):
        return json.loads(self.ctl(*words, "--json"))

    def busctl(self, *words, **options):
        return self.run("busctl", "--json=short", "--timeout=25", *words, **options)

    def call(self, path, interface, method, *arguments, **options):
        """Calls by busctl; the values that came back."""
        answer = self.busctl("call", "org.gpupool1", path, interface, method, *map(str, arguments), **options)
        return json.loads(answer.stdout)["data"] if answer.stdout.strip() else []

    def error(self, path, interface, method, *arguments, **options):
        """Calls by gdbus-like busctl and returns the error's sentence; the call must fail."""
        answer = self.busctl("call", "org.gpupool1", path, interface, method, *map(str, arguments), check=False, **options)
        assert answer.returncode != 0, f"{method} was not refused: {answer.stdout}"
        return answer.stderr.strip()

    def get(self, path, interface, name):
        return json.loads(self.busctl("get-property", "org.gpupool1", path, interface, name).stdout)["data"]

    # ---- objects

    def objects(self):
        """Every object: path -> interface -> property -> value."""
        tree = self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
        return {path: {name: {key: value["data"] for key, value in properties.items()}
                       for name, properties in interfaces.items() if name.startswith("org.gpupool1.")}
                for path, interfaces in tree.items()}

    def gpu(self, address):
        """Properties of the GPU at an address that is not absent, or None."""
        for path, interfaces in self.objects().items():
            gpu = interfaces.get("org.gpupool1.Gpu")
            if gpu and gpu["Address"] == address:
                return {**gpu, "path": path}
        return None

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
        return wait_until(lambda: (vm := self.vm(name)) and vm["State"] == state and vm, timeout_s,
                          f"VM {name} is not {state} but {(self.vm(name) or {}).get('State')} "
                          f"{(self.vm(name) or {}).get('Reason')}")

    def path_of_gpu(self, address):
        return self.gpu(address)["path"]

    # ---- the world as it is, whatever the service says

    def driver(self, address):
        device = self.rig.device(1, address)
        return device and device["driver"]

    def qemu(self, name):
        """Pids of qemu processes of the VM, as the host's process table has them."""
        done = self.run("pgrep", "-f", f"guest={name},", check=False)
        return [int(pid) for pid in done.stdout.split()]

    def service_pid(self, service="gpupoold"):
        return next((each["pid"] for each in self.rig.status(1)["services"] if each["name"] == service), None)

    # ---- things to work with

    def xml(self, name, memory="32", extra="", uuid=""):
        text = (TESTS / "rig" / "vms" / "q35.xml").read_text()
        text = re.sub(r"<name>.*</name>", f"<name>{name}</name>", text)
        text = re.sub(r"\s*<uuid>.*</uuid>", f"<uuid>{uuid}</uuid>" if uuid else "", text)
        text = re.sub(r"(<memory.*>)\d+(</memory>)", rf"\g<1>{memory}\g<2>", text)
        return text.replace("</devices>", extra + "</devices>")

    def define(self, name, pool="training", gpus=1, *options, xml=None):
        return self.ctl("vm", "define", "-", "--pool", pool, "--gpus", str(gpus), *options, input=xml or self.xml(name))

    def clear(self):
        """Back to a host with nothing defined: what a test left is taken away."""
        for vm in [i["org.gpupool1.VM"] for i in self.objects().values() if "org.gpupool1.VM" in i]:
            self.run("gpupoolctl", "vm", "stop", vm["Name"], check=False)
            self.wait_for_vm(vm["Name"], "stopped")
            self.ctl("vm", "delete", vm["Name"], "--yes")
        for pool in [i["org.gpupool1.Pool"] for i in self.objects().values() if "org.gpupool1.Pool" in i]:
            self.ctl("pool", "delete", pool["Name"], "--yes")
        for gpu in [i["org.gpupool1.Gpu"] for i in self.objects().values() if "org.gpupool1.Gpu" in i]:
            if gpu["State"] == "quarantined":
                self.ctl("gpu", "release", gpu["Name"])


def shared_host(**options):
    """setUpModule and tearDownModule for one host that all tests of a file use."""
    box = {}

    def set_up():
        box["host"] = Host(**options)

    def tear_down():
        box.pop("host").close()
    return box, set_up, tear_down
