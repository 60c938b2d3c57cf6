# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host: one simulated machine, seen from outside. Its folder outlives it: what is in there survives a restart.

    hN/usr, etc, var             the host's own layer of the overlays (mounts.py)
    hN/state, config, rules.d    shared with the outside (mounts.py)
    hN/state.img                 the disk of the state (disk.py)
    hN/clock                     where it has a clock of its own (clock.py)
    hN/addresses                 one a line
    hN/log, environment          a file per service, init.log, sysfs.log; variables for services
    hN/init.pid, *.sock          pid 1, and where it and the sysfs listen (control.py)
    hN/settings.json             what up was told
    hN/plugged.json              which devices are plugged in
    hN/run, dev, sys, work       mount points, made anew at each boot"""

import ipaddress
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
import uuid

from parts import control, spawner
from parts.cables import HOSTS_MAX
from parts.cgroup import Cgroup
from parts.clock import Clock
from parts.disk import Disk
from parts.process import Process

CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMESPACES = ("mount", "pid", "uts", "ipc", "net", "cgroup")
FOLDERS = ("run/rig", "run/lock", "run/udev/data", "machine-usr", "dev", "sys", "log", "config", "state", "rules.d",
           "usr/bin", "etc", "var/lib", "var/cache", "var/log", "work/usr", "work/etc", "work/var")
FORGOTTEN_AT_BOOT = ("run", "dev", "sys", "work/usr", "work/etc", "work/var")
ACTIVATION = "/usr/share/dbus-1/system-services"
ACTIVATED = {"org.freedesktop.PolicyKit1": "polkitd", "org.gpupool1": "gpupoold"}  # name on the bus -> service
LIBVIRT_FOLDERS = {  # begin empty, whatever the machine has
    "var/lib/libvirt": ("boot", "images", "dnsmasq", "network", "qemu"),
    "var/cache/libvirt": ("qemu",), "var/log/libvirt": ("qemu",), "etc/libvirt": (),
}
NETWORKS = ("10.77.0.0/24", "fd77::/64")
READY_TIMEOUT_S = 60
KEPT_ENVIRONMENT = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "LLVM_PROFILE_FILE", "GCOV_PREFIX")


class HostIsDown(Exception):
    pass


class WrongAddress(Exception):
    pass


class Host:
    def __init__(self, base, number):
        self.base = base
        self.number = number
        self.name = f"host{number}"
        self.path = os.path.join(base.path, f"h{number}")
        self.cgroup = Cgroup(base.cgroup.path, f"h{number}")
        self.disk = Disk(self.path)
        self.clock = Clock(self.path)

    # Its life

    def make(self, destdir, bare, gpus, environment=(), without=(), own_clock=False):
        """The folder of a machine that was never switched on. environment: KEY=VALUE texts for its services; without:
        services that it does not have."""
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.path, folder), exist_ok=True)
        self.write("settings.json", json.dumps({"name": self.name, "destdir": destdir, "bare": bare,
                                                "without": list(without)}))
        kept = [f"{key}={os.environ[key]}" for key in KEPT_ENVIRONMENT if key in os.environ]
        self.write("environment", "".join(f"{line}\n" for line in [*kept, *environment]))
        self.write("etc/machine-id", f"{uuid.uuid4().hex}\n")
        self.write("etc/hostname", f"{self.name}\n")
        self.write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n" + "".join(
            f"{address.ip} host{number}\n" for number in range(1, HOSTS_MAX + 1)
            for address in first_addresses(number)))
        self.write_addresses(first_addresses(self.number))
        self.cgroup.make()
        self.disk.make(self.cgroup)
        if own_clock:
            self.clock.make()
        self.make_libvirt()
        self.replace_activation(destdir)
        emulator = os.path.join(self.path, "usr/bin/qemu-system-x86_64")
        shutil.copy(os.path.join(CODE, "qemu"), emulator)
        os.chmod(emulator, 0o755)
        if destdir and os.path.isdir(f"{destdir}/etc/gpupool"):
            shutil.copytree(f"{destdir}/etc/gpupool", f"{self.path}/config", dirs_exist_ok=True)
        os.chmod(os.path.join(self.path, "rules.d"), 0o700)
        plugged = []
        for file in gpus:
            with open(file) as text:
                plugged.append({"text": text.read(), "address": None, "absent": []})
        self.write("plugged.json", json.dumps(plugged))

    def make_libvirt(self):
        """libvirt's folders as on a fresh machine, its own configuration, and no network of its own."""
        for folder, names in LIBVIRT_FOLDERS.items():
            path = os.path.join(self.path, folder)
            os.makedirs(path, exist_ok=True)
            os.setxattr(path, "trusted.overlay.opaque", b"y")
            for name in names:
                os.makedirs(os.path.join(path, name), exist_ok=True)
        owner = pwd.getpwnam("libvirt-qemu")
        for folder in ("var/lib/libvirt/qemu", "var/cache/libvirt/qemu"):
            os.chown(os.path.join(self.path, folder), owner.pw_uid, owner.pw_uid)
        for name in os.listdir("/etc/libvirt"):
            if name.endswith(".conf"):
                shutil.copy(f"/etc/libvirt/{name}", os.path.join(self.path, "etc/libvirt", name))
        with open(os.path.join(self.path, "etc/libvirt/libvirtd.conf"), "a") as file:
            file.write(f'\nhost_uuid = "{uuid.uuid4()}"\n')

    def replace_activation(self, destdir):
        """The bus must start no daemon by itself. As on a real machine, where it asks systemd, it asks pid 1, for those
        that pid 1 knows; the rest cannot be activated here."""
        folder = self.path + ACTIVATION
        os.makedirs(folder, exist_ok=True)
        for source in (ACTIVATION, f"{destdir}{ACTIVATION}" if destdir else None):
            for name in os.listdir(source) if source and os.path.isdir(source) else ():
                if name.removesuffix(".service") not in ACTIVATED and not os.path.lexists(f"{folder}/{name}"):
                    os.mknod(f"{folder}/{name}", 0o020000, 0)  # 0/0, an overlay's word for "not there"
        for name, service in ACTIVATED.items():
            self.write(f"{ACTIVATION[1:]}/{name}.service",
                       f"[D-BUS Service]\nName={name}\nUser=root\nExec=/run/rig/activate {service}\n")
        shutil.copy(os.path.join(CODE, "activate"), os.path.join(self.path, "activate"))

    def up(self):
        """Switches it on; returns when pid 1 lives. See wait_until_ready()."""
        if self.running():
            return
        self.cgroup.make()
        for folder in FORGOTTEN_AT_BOOT:
            shutil.rmtree(os.path.join(self.path, folder))
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.path, folder), exist_ok=True)
        self.disk.mount()
        command = ["unshare", *(f"--{name}" for name in NAMESPACES), "--fork", "--kill-child",
                   sys.executable, "-m", "parts.init", self.path]
        with open(os.path.join(self.path, "log/init.log"), "a") as log:
            outer = spawner.spawn(command, self.cgroup, cwd=CODE, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            pid = spawner.only_child_of(outer.pid)
            Process.of(pid).write(os.path.join(self.path, "init.pid"))
            self.base.switch.connect(self.number, pid, self.addresses())
            outer.stdin.write(b"the network is there\n")
            outer.stdin.close()
        except (OSError, subprocess.CalledProcessError) as problem:
            raise HostIsDown(f"{self.name} did not start ({problem}); see {self.path}/log/init.log") from problem

    def wait_until_ready(self):
        """Until every service answers a question, not only a connection."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        self.await_(deadline, "pid 1 does not answer", lambda: self.ask_init(1, do="status"))
        self.await_(deadline, "some service is not ready", self.services_are_ready)
        for name, question in (
                ("polkitd", ["busctl", "status", "org.freedesktop.PolicyKit1"]),
                ("libvirtd", ["virsh", "--connect", "qemu:///system", "--quiet", "list"])):
            if name not in self.settings()["without"]:
                self.await_(deadline, f"{name} does not answer", lambda: self.succeeds(question))

    def services_are_ready(self):
        states = {name: facts["state"] for name, facts in self.ask_init(control.PATIENCE_S, do="status").items()}
        failed = [name for name, state in states.items() if state == "failed"]
        if failed:
            raise HostIsDown(f"{self.name}: {' '.join(failed)} failed; see {self.path}/log/{failed[0]}.log")
        return all(state in ("ready", "off") for state in states.values())

    def await_(self, deadline, otherwise, question):
        while True:
            if not self.running():
                raise HostIsDown(f"{self.name} went down while starting; see {self.path}/log/init.log")
            try:
                if question():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {otherwise} after {READY_TIMEOUT_S} s; see {self.path}/log")
            time.sleep(0.03)

    def kill(self):
        """Power loss: everything at once. The card goes first: nobody hears a last word, as when sockets are closed."""
        self.base.switch.unplug(self.number)
        process = self.process()
        if process is not None:
            process.kill()
        self.cgroup.kill()

    def freeze(self):
        self.cgroup.freeze()

    def thaw(self):
        self.cgroup.thaw()

    # Its addresses

    def addresses(self):
        with open(os.path.join(self.path, "addresses")) as file:
            return [ipaddress.ip_interface(line.strip()) for line in file]

    def write_addresses(self, addresses):
        self.write("addresses", "".join(f"{address}\n" for address in addresses))

    def change_address(self, text):
        """The new one takes the place of the old one of its kind."""
        new = in_network(text)
        for host in self.base.hosts():
            if new in host.addresses():
                raise WrongAddress(f"{new.ip} is an address of {host.name}")
        old = next(address for address in self.addresses() if address.version == new.version)
        if self.running():
            flag = "nodad" if new.version == 6 else ""
            batch = f"addr del {old} dev eth0\naddr add {new} dev eth0 {flag}\n"
            self.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        self.write_addresses([new if address == old else address for address in self.addresses()])
        return new

    def learn_name(self, name, address):
        """From now on this host finds that address by the name, and none else of its kind."""
        with open(f"/proc/{self.process().pid}/root/etc/hosts", "r+") as file:
            text = file.read()
            file.seek(0)
            for line in text.splitlines(True):
                known, *names = line.split()
                ours = names == [name] and ipaddress.ip_address(known).version == address.version
                file.write(f"{address.ip} {name}\n" if ours else line)
            file.truncate()

    # Questions

    def settings(self):
        with open(os.path.join(self.path, "settings.json")) as file:
            return json.load(file)

    def process(self):
        return Process.read(os.path.join(self.path, "init.pid"))

    def running(self):
        process = self.process()
        return process is not None and process.alive()

    def state(self):
        if not self.running():
            return "down"
        return "frozen" if self.cgroup.frozen() else "up"

    def ask_init(self, timeout_s, **request):
        return control.ask(os.path.join(self.path, "init.sock"), timeout_s + 1, within_s=timeout_s, **request)

    def ask_sysfs(self, timeout_s=control.PATIENCE_S, **request):
        if not self.running():
            raise HostIsDown(f"{self.name} is down")
        return control.ask(os.path.join(self.path, "sysfs.sock"), timeout_s, **request)

    def facts(self):
        facts = {"number": self.number, "name": self.name, "folder": self.path,
                 "address": str(self.addresses()[0].ip), "addresses": [str(each.ip) for each in self.addresses()],
                 "state": self.state(), "pid": None, "services": {}, "devices": [],
                 "cable": self.base.switch.cables.facts(self.number, [host.number for host in self.base.hosts()]),
                 "disk_full": self.disk.full(), "clock_s": self.clock.offset_s() if self.clock.exists() else None}
        if facts["state"] == "down":
            return facts
        facts["pid"] = self.process().pid
        if facts["state"] == "up":
            facts["services"] = self.ask_init(control.PATIENCE_S, do="status")
            facts["devices"] = self.ask_sysfs(do="status")
        return facts

    # Commands inside

    def enter_command(self, user=None):
        """The words to put before a command so that it runs in the host, and its environment."""
        if not self.running():
            raise HostIsDown(f"{self.name} is down")
        pid = self.process().pid
        folder = os.getcwd()
        if not os.path.isdir(f"/proc/{pid}/root{folder}"):
            folder = "/"
        words = ["nsenter", "-t", str(pid), *(f"--{name}" for name in NAMESPACES), f"--wdns={folder}", "--",
                 "setpriv", "--pdeathsig=KILL"]
        environment = {**os.environ, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0", "LIBVIRT_DEFAULT_URI": "qemu:///system",
                       "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for key in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "GPUPOOL_RIG_DIR"):
            environment.pop(key, None)
        if user is not None:
            uid, gid, home = self.account(user)
            words += [f"--reuid={uid}", f"--regid={gid}", "--init-groups"]
            environment.update(USER=user, LOGNAME=user, HOME=home)
        return words + ["--"], environment

    def account(self, user):
        with open(f"/proc/{self.process().pid}/root/etc/passwd") as file:
            for line in file:
                name, _, uid, gid, _, home, _ = line.rstrip("\n").split(":")
                if user in (name, uid):
                    return int(uid), int(gid), home
        raise KeyError(f"{self.name} has no user {user}")

    def run(self, command, **options):
        words, environment = self.enter_command()
        return subprocess.run(words + command, env=environment, **options)

    def succeeds(self, command):
        return self.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL).returncode == 0

    def write(self, name, text):
        path = os.path.join(self.path, name)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)


def first_addresses(number):
    """By the look of the number: host 12 is 10.77.0.12 and fd77::12."""
    return [ipaddress.ip_interface(f"10.77.0.{number}/24"), ipaddress.ip_interface(f"fd77::{number}/64")]


def in_network(text):
    """The address with the length of its network's prefix."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise WrongAddress(error) from None
    for network in map(ipaddress.ip_network, NETWORKS):
        if address in network:
            return ipaddress.ip_interface(f"{address}/{network.prefixlen}")
    raise WrongAddress(f"{text} is neither in {' nor in '.join(NETWORKS)}, where the hosts reach it")
