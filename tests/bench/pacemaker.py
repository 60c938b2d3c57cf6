#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peer to beat: Pacemaker and Corosync on the same bare hosts that our own tests have, with the same domain and
GPU.

    pacemaker.py [--runs 3] [--hosts 3] [--profile default|tuned] [--agent VirtualDomain|Dummy] [--packages FOLDER]

A host on which the resource runs loses its power, again and again; how long until it runs elsewhere. For a domain that
is when the judge (watch.py) sees its virtual CPU run, as for ours. Dummy is the floor: it starts nothing but a shell.

    with unpacked() as packages, Peer(packages, hosts=3, profile="tuned", agent="VirtualDomain") as peer:
        times = peer.failovers(10)              # seconds
        memory = peer.memory()                  # {number of the host: {daemon: PSS in bytes}}

Fencing is the peer's own "null", which says at once that the power is off: no real device is as fast. The packages are
unpacked into a folder that only the hosts see; on the machine nothing is installed."""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

RIG = pathlib.Path(__file__).resolve().parent.parent / "rig"
sys.path.insert(0, str(RIG))
from hosts import Rig, wait_until                       # noqa: E402
from parts.base import Base                             # noqa: E402
from watch import Watch                                 # noqa: E402

PACKAGES = ("pacemaker", "corosync", "resource-agents", "cluster-glue", "pacemaker-cli-utils")
PROFILES = {
    "default": "",              # token 3000 ms, 650 more for the third node and each after it; consensus 1.2 times that
    "tuned": "token: 1000\n        token_coefficient: 0\n        consensus: 1200",
}
NO_LIBVIRT = ("libvirtd", "virtlogd")
VM = "bert"
GPU = ("<hostdev mode='subsystem' type='pci' managed='yes'><source>"
       "<address domain='0' bus='0x41' slot='0' function='0'/></source></hostdev>")
DOMAIN_FILE = f"/etc/libvirt/qemu/{VM}.xml"
MARK = "Dummy-floor.state"      # below /run, while the Dummy runs
START_S = 120                   # a fresh cluster looks for others for 20 s before it does anything
FAILOVER_S = 120
LOOK_S = 0.005

COROSYNC = """
totem {{
        version: 2
        cluster_name: bench
        transport: knet
        crypto_cipher: none
        crypto_hash: none
        {timing}
}}
nodelist {{
{nodes}
}}
quorum {{
        provider: corosync_votequorum
        {votes}
}}
logging {{
        to_logfile: yes
        logfile: /var/log/corosync/corosync.log
        to_syslog: no
}}
"""
# What the maintainers' scripts of the packages do.
PREPARE = """set -e
groupadd -f -r haclient
id -u hacluster >/dev/null 2>&1 || useradd -r -g haclient -d /var/lib/pacemaker -M -s /usr/sbin/nologin hacluster
mkdir -p /var/log/corosync /var/log/pacemaker /var/lib/corosync
for folder in blackbox cib cores pengine; do install -d -o hacluster -g haclient -m 750 /var/lib/pacemaker/$folder; done
chown hacluster:haclient /var/log/pacemaker
chmod 770 /var/log/pacemaker"""
RESOURCES = {
    "VirtualDomain": f"""
<primitive id="{VM}" class="ocf" provider="heartbeat" type="VirtualDomain">
  <instance_attributes id="{VM}-attributes">
    <nvpair id="{VM}-config" name="config" value="{DOMAIN_FILE}"/>
    <nvpair id="{VM}-hypervisor" name="hypervisor" value="qemu:///system"/>
  </instance_attributes>
  <operations>
    <op id="{VM}-monitor" name="monitor" interval="10s" timeout="30s"/>
    <op id="{VM}-start" name="start" interval="0" timeout="90s"/>
    <op id="{VM}-stop" name="stop" interval="0" timeout="90s"/>
  </operations>
</primitive>""",
    "Dummy": """
<primitive id="floor" class="ocf" provider="pacemaker" type="Dummy">
  <operations>
    <op id="floor-monitor" name="monitor" interval="10s" timeout="20s"/>
  </operations>
</primitive>""",
}
FENCE = """
<primitive id="fence" class="stonith" type="null">
  <instance_attributes id="fence-attributes">
    <nvpair id="fence-hostlist" name="hostlist" value="{names}"/>
  </instance_attributes>
</primitive>"""
STAYS = """
<rsc_defaults><meta_attributes id="rsc-options">
  <nvpair id="rsc-options-stickiness" name="resource-stickiness" value="100"/>
</meta_attributes></rsc_defaults>"""


# ---- packages

@contextlib.contextmanager
def unpacked(keep=None):
    """The folder that has the peer, as a tree for Rig: what of it and its libraries the machine lacks. keep: a folder
    to leave it in, for the next time."""
    folder = pathlib.Path(os.path.realpath(keep or tempfile.mkdtemp(prefix="gpupool-pacemaker-", dir="/tmp")))
    if folder.is_relative_to("/usr") or folder.is_relative_to("/etc") or folder.is_relative_to("/var"):
        sys.exit(f"{folder} is below what every host overlays. Keep the packages below /tmp or /run")
    try:
        if not (folder / "complete").exists():
            download(folder / "packages")
            unpack(folder / "packages", folder / "tree")
            (folder / "complete").touch()
        yield folder / "tree"
    finally:
        if not keep:
            shutil.rmtree(folder)


def download(folder):
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    words = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    choose = ["-o", f"Dir::Cache::archives={folder}", "install", "--download-only", "--no-install-recommends"]
    how = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "text": True}
    done = subprocess.run([*words, *choose, *PACKAGES], check=False, **how)
    if done.returncode != 0:  # the lists may be old, or not there
        subprocess.run([*words, "update"], check=False, **how)
        done = subprocess.run([*words, *choose, *PACKAGES], check=False, **how)
    if done.returncode != 0:
        sys.exit(f"{' '.join(PACKAGES)} cannot be had, so there is no peer to measure:\n{done.stderr}")


def unpack(packages, tree):
    for name in ("bin", "lib", "sbin"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (tree / name).is_symlink():
            (tree / name).symlink_to(f"usr/{name}")
    for package in sorted(packages.glob("*.deb")):
        data = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", tree], stdin=data.stdout, check=True)
        data.stdout.close()
        assert data.wait() == 0, f"{package} cannot be read"


# ---- a cluster

class Peer:
    """Hosts 1 to N, on one of which the resource runs."""

    def __init__(self, packages, hosts=3, profile="default", agent="VirtualDomain"):
        self.agent, self.numbers, self.watch = agent, range(1, hosts + 1), None
        self.rig = Rig(hosts, bare=True, gpus=["h100"], destdir=str(packages),
                       without=NO_LIBVIRT if agent == "Dummy" else ())
        try:
            self.base = Base(self.rig.folder)
            if agent == "VirtualDomain":
                self.watch = Watch(self.rig)
            self.prepare(profile)
            self.start(*self.numbers)
            wait_until(lambda: self.online(1) == set(self.numbers), START_S, "the hosts do not find each other")
            self.configure()
            wait_until(lambda: (found := self.where()) and found == self.runs_as_they_say(1), START_S,
                       f"{agent} does not start")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.watch is not None:
            self.watch.end()
        self.rig.down()

    def prepare(self, profile):
        nodes = "".join(f"        node {{\n                ring0_addr: 10.77.0.{number}\n                name: "
                        f"host{number}\n                nodeid: {number}\n        }}\n" for number in self.numbers)
        votes = "two_node: 1" if len(self.numbers) == 2 else ""
        text = COROSYNC.format(timing=PROFILES[profile], nodes=nodes, votes=votes)
        domain = (RIG / "vms" / "q35.xml").read_text().replace("</devices>", f"{GPU}</devices>")
        for number in self.numbers:
            self.rig.exec(number, "sh", "-c", PREPARE)
            self.write(number, "/etc/corosync/corosync.conf", text)
            if self.agent == "VirtualDomain":
                self.write(number, DOMAIN_FILE, domain)

    def write(self, number, path, text):
        self.rig.exec(number, "sh", "-c", f"mkdir -p {os.path.dirname(path)} && cat >{path}", input=text)

    def start(self, *numbers):
        """Both go on in the hosts by themselves, like every daemon there."""
        for number in numbers:
            self.rig.exec(number, "corosync")
        for number in numbers:
            def answers():
                return self.rig.exec(number, "corosync-cfgtool", "-s", check=False).returncode == 0
            wait_until(answers, START_S, f"corosync on host {number} does not answer")
            self.rig.exec(number, "sh", "-c", "exec setsid -f pacemakerd </dev/null >/dev/null 2>&1")

    def configure(self):
        names = " ".join(f"host{number}" for number in self.numbers)
        for section, text in (("resources", FENCE.format(names=names)), ("resources", RESOURCES[self.agent]),
                              ("configuration", STAYS)):
            self.rig.exec(1, "cibadmin", "--create", "--scope", section, "--xml-text", text)

    # ---- what there is

    def state(self, asked):
        """What crm_mon on that host says, or None while it cannot."""
        done = self.rig.exec(asked, "crm_mon", "--one-shot", "--output-as=xml", check=False)
        return xml.etree.ElementTree.fromstring(done.stdout) if done.returncode == 0 else None

    def online(self, asked):
        state = self.state(asked)
        return {int(node.get("id")) for node in state.iterfind("nodes/node") if node.get("online") == "true" and
                node.get("pending") == "false"} if state is not None else set()

    def runs_as_they_say(self, asked):
        """The numbers of the hosts that the resource is active on, once nothing is on its way any more."""
        state = self.state(asked)
        return [int(node.get("id")) for resource in state.iter("resource") for node in resource.iterfind("node")
                if resource.get("id") != "fence" and resource.get("pending") is None] if state is not None else None

    def leader(self, asked):
        """The number of the host that decides (the DC)."""
        found = self.state(asked).find("summary/current_dc")
        return int(found.get("id")) if found is not None and found.get("id") else None

    def where(self):
        """The numbers of the hosts on which it does run, whatever they say."""
        if self.watch is not None:
            return self.watch.where(VM)
        return [number for number in self.numbers if self.mark(number).exists() and self.base.host(number).running()]

    def mark(self, number):
        return pathlib.Path(self.rig.folder, f"h{number}", "run", MARK)

    def memory(self):
        """{number of the host: {daemon: PSS in bytes}}"""
        return {number: daemons(self.base.host(number).cgroup.path) for number in self.numbers}

    # ---- what happens to it

    def failovers(self, runs, tell=lambda text: None):
        """That often, the host on which the resource runs loses its power; seconds until it runs elsewhere."""
        times = []
        for _ in range(runs):
            (number,) = self.where()
            other = next(each for each in self.numbers if each != number)
            self.settle(other)
            led = ", which decided," if self.leader(other) == number else ""
            began = time.monotonic()
            self.base.host(number).kill()
            found, took_s = self.wait_elsewhere(number, began)
            times.append(took_s)
            tell(f"host {number}{led} lost its power: it ran on host {found} {took_s:.3f} s later")
            self.bring_back(number, found)
        return times

    def settle(self, asked):
        """Until nothing is left to be done: who has just come back is still asked what it runs, and a loss meanwhile
        would take longer."""
        self.rig.exec(asked, "crm_resource", "--wait", f"--timeout={START_S}s")
        wait_until(lambda: self.idle(asked), START_S, "whoever decides does not come to rest")

    def idle(self, asked):
        leader = self.leader(asked)
        return leader and "S_IDLE" in self.rig.exec(asked, "crmadmin", "--status", f"host{leader}", check=False).stdout

    def wait_elsewhere(self, number, began):
        """The host on which it runs, and after how long."""
        def run():
            return next((run for run in self.watch.runs(VM) if run.begin > began and run.host != number), None)

        def marked():
            return next((each for each in self.numbers if each != number and self.mark(each).exists()), None)
        if self.watch is not None:
            found = wait_until(run, FAILOVER_S, "it does not run elsewhere")
            return found.host, found.begin - began
        deadline = began + FAILOVER_S
        while not (found := marked()):
            assert time.monotonic() < deadline, "it does not run elsewhere"
            time.sleep(LOOK_S)
        return found, time.monotonic() - began

    def bring_back(self, number, runs_on):
        """The host is a member as before, and the resource stays where it is."""
        self.rig.rig("restart", number)
        self.start(number)
        wait_until(lambda: self.online(runs_on) == self.online(number) == set(self.numbers), START_S,
                   f"host {number} does not come back")
        wait_until(lambda: self.runs_as_they_say(number) == [runs_on] == self.where(), START_S,
                   "it does not stay where it is")


def daemons(cgroup):
    """The peer's daemons below a cgroup, and what memory each takes: what it shares counts in parts."""
    found = {}
    for folder, _, _ in os.walk(cgroup):
        for pid in pathlib.Path(folder, "cgroup.procs").read_text().split():
            name = pathlib.Path(os.readlink(f"/proc/{pid}/exe")).name
            if name.startswith(("corosync", "pacemaker")):
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                found[name] = found.get(name, 0) + int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
    return found


def main():
    parser = argparse.ArgumentParser(description="Pacemaker's failover, on the hosts of the rig.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=3, choices=(2, 3))
    parser.add_argument("--profile", choices=PROFILES, default="default")
    parser.add_argument("--agent", choices=RESOURCES, default="VirtualDomain")
    parser.add_argument("--packages", metavar="FOLDER", help="where the packages are, or are to be left")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def say(text):
        print(f"# {text}", flush=True)
    with unpacked(options.packages) as packages:
        began = time.monotonic()
        with Peer(packages, options.hosts, options.profile, options.agent) as peer:
            say(f"{options.hosts} hosts, {options.profile}, {options.agent}: it runs {time.monotonic() - began:.1f} s "
                "after the hosts were switched on")
            times = peer.failovers(options.runs, say)
            for number, memory in peer.memory().items():
                parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(memory.items()))
                say(f"memory (PSS) on host {number}: {sum(memory.values()) / 2**20:.1f} MiB ({parts})")
    if times:
        say(f"power loss until it runs elsewhere: median {statistics.median(times):.3f} s, least {min(times):.3f} s, "
            f"most {max(times):.3f} s, of {len(times)}")


if __name__ == "__main__":
    main()
