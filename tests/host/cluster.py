# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster of hosts on one rig. Each host is a product.Host; hosts are numbered from 1.

    BOX, setUpModule, tearDownModule = cluster.shared_cluster(3, gpus=("h100",))

    class Story(cluster.Case):
        BOX = BOX
        def test_a_pool_is_seen_everywhere(self):
            self.hosts[2].ctl("pool", "create", "training")
            self.cluster.wait_same_view()"""

import json
import os
import pathlib
import signal
import unittest

import product
from product import GPU, MANAGER, NODE, ROOT, SLOW_S, Refused, Rig, wait_until
from watch import Base, Watch

AWAY = (Refused, ConnectionError, BrokenPipeError, KeyError)    # the service is not there, or not yet
NO_LIBVIRT = ("libvirtd", "virtlogd")
# What a node says of the cluster as it sees it itself; all else is the same wherever it is asked.
OF_THE_ANSWERING_NODE = {"LocalNode", "Version", "SupportedLevel", "Features"}
READ_WHEN_ASKED = {"MemoryFree"}


class Cluster:
    """gpus: what is plugged into each host, or a list of that for each host in turn. settings: a gpupoold.conf for all,
    or {number: text}. libvirtd: whether the hosts have one, or the numbers of those that do. joined: how many of the
    hosts are members, from the first on (default: all). watched: by a judge who sees every VM. The other options are
    Rig's."""

    def __init__(self, count=3, gpus=("h100", "a100-pair"), settings="", libvirtd=True, joined=None, watched=False,
                 **options):
        numbers = range(1, count + 1)
        gpus = gpus if gpus and not isinstance(gpus[0], str) else [gpus] * count
        with_libvirt = numbers if libvirtd is True else libvirtd or ()
        each = [product.rig_options(gpus[number - 1], without=() if number in with_libvirt else NO_LIBVIRT, **options)
                for number in numbers]
        alike = all(one == each[0] for one in each)
        self.rig = Rig(count if alike else 1, **each[0])
        for number in () if alike else numbers[1:]:
            self.rig.up(number, **each[number - 1])
        settings = settings if isinstance(settings, dict) else dict.fromkeys(numbers, settings)
        self.hosts = {number: product.Host(number=number, rig=self.rig, settings=settings.get(number, ""))
                      for number in numbers}
        for number in range(2, (count if joined is None else joined) + 1):
            self.join(number)
        self.wait_quorate()
        self.watch = Watch(self.rig) if watched else None

    def close(self):
        """Down with it; whatever a sanitizer said on any host is an error."""
        if self.watch:
            print(f"# {self.watch.close()}", flush=True)
        for host in self.hosts.values():
            host.end()
        reports = [f"{host.name}: {report}" for host in self.hosts.values() for report in host.sanitizer_reports()]
        self.rig.down()
        assert not reports, "\n".join(reports)

    def node(self, number):
        return self.hosts[number]

    # ---- members

    def invite(self, host=1, *options):
        return json.loads(self.hosts[host].ctl("cluster", "invite", "--json", *options))["invitation"]

    def join(self, number, through=1):
        """Returns once the host has the registry."""
        return self.hosts[number].ctl("cluster", "join", self.invite(through))

    def leave(self, number):
        """The host is a cluster of its own again, and returns once it serves as that."""
        was = self.hosts[number].manager()["ClusterId"]
        self.hosts[number].ctl("cluster", "leave", "--yes")
        self.wait_alone(number, was)

    def leave_or_forget(self, number, asked=1):
        """For the end of a test, whatever it left: the host is on its own, and the others know."""
        was, name = self.hosts[number].manager()["ClusterId"], self.hosts[number].node()["Name"]
        if self.hosts[number].run("gpupoolctl", "cluster", "leave", "--yes", check=False).returncode != 0:
            self.hosts[number].ctl("cluster", "reset", "--forget")
            self.hosts[asked].run("gpupoolctl", "node", "remove", name, "--yes", check=False)
        self.wait_alone(number, was)

    def wait_alone(self, number, was, timeout_s=SLOW_S):
        """The host is a cluster of its own, and not that of before."""
        def alone():
            manager = ask(self.hosts[number].manager)
            return manager and manager["ClusterId"] != was and manager["Quorate"] and len(self.nodes(number)) == 1
        wait_until(alone, timeout_s, f"host {number} is no cluster of its own")

    def members(self, asked=1):
        """The numbers of the hosts that are members, as one of them says, of those that are there."""
        ids = {host.node_path(): number for number, host in self.hosts.items() if is_there(host)}
        return sorted(ids[path] for path in self.nodes(asked) if path in ids)

    def nodes(self, asked=1):
        """path -> properties of every node, as one host shows them."""
        objects = self.hosts[asked].objects()
        return {path: interfaces[NODE] for path, interfaces in objects.items() if NODE in interfaces}

    def states(self, asked=1):
        """name -> state of every node."""
        return {node["Name"]: node["State"] for node in self.nodes(asked).values()}

    def roles(self, asked=1):
        return {node["Name"]: node["Role"] for node in self.nodes(asked).values()}

    # ---- who leads

    def leader(self, numbers=None):
        """The number of the host that all these (default: all) hold for the leader; None while they do not agree."""
        said = [ask(self.hosts[number].manager) for number in numbers or self.hosts]
        leaders = {manager and manager["Quorate"] and manager["Leader"] for manager in said}
        if len(leaders) != 1 or not (path := leaders.pop()) or path == "/":
            return None
        return next((number for number in numbers or self.hosts
                     if ask(self.hosts[number].node_path) == path), None)

    def follower(self, numbers=None):
        """One that does not lead."""
        leader = self.wait_quorate(numbers)
        return next(number for number in numbers or self.hosts if number != leader)

    def wait_quorate(self, numbers=None, timeout_s=SLOW_S):
        """All these hosts (default: all that are members with host 1) are quorate under one leader of theirs: its
        number."""
        if numbers is None:
            numbers = wait_until(lambda: ask(self.members), timeout_s, "host 1 does not say who is a member")
        return wait_until(lambda: self.leader(numbers), timeout_s, f"hosts {numbers} have no leader that all know")

    # ---- what they show

    def view(self, number):
        """All that does not depend on the node that is asked: {(path, interface): properties}."""
        host = self.hosts[number]
        objects = {**host.objects(), ROOT: {MANAGER: host.manager()}}
        return {(path, interface): {key: value for key, value in properties.items()
                                    if key not in OF_THE_ANSWERING_NODE | READ_WHEN_ASKED}
                for path, interfaces in objects.items() for interface, properties in interfaces.items()
                if interface != product.JOB}

    def wait_same_view(self, numbers=None, timeout_s=SLOW_S, fits=lambda view: True):
        """All these (default: all members) show the same, and it is as it should be. The view."""
        numbers = numbers or self.members()
        last = []

        def same():
            last[:] = [ask(lambda number=number: self.view(number)) for number in numbers]
            return last[0] and all(view == last[0] for view in last) and fits(last[0]) and last[0]
        try:
            return wait_until(same, timeout_s)
        except AssertionError:
            raise AssertionError(f"hosts {numbers} do not show the same, or not what is awaited, within {timeout_s} s: "
                                 f"{'; '.join(differences(numbers, last)) or 'all agree'}") from None

    def can_run_vms_with(self, view, *addresses):
        """Every node can run VMs, and all these GPUs can be given to one, and no other."""
        nodes = [properties for (_, interface), properties in view.items() if interface == NODE]
        gpus = [properties for (_, interface), properties in view.items() if interface == GPU]
        usable = [gpu["Address"] for gpu in gpus if gpu["Assignable"] and gpu["State"] == "present"]
        return sorted(usable) == sorted(addresses) and all(node["State"] == "online" and self.can_run_vms(node)
                                                           for node in nodes)

    def wait_for_states(self, timeout_s=SLOW_S, asked=None, **states):
        """wait_for_states(host2="silent"): all these hosts (default: those that are there) say so. A state None: there
        is no such node. Who is drained as it was lost for the third time, by all tests together, is resumed."""
        numbers = list(asked or [number for number, host in self.hosts.items() if is_there(host)])
        said = {}

        def fits():
            nodes = {number: ask(lambda number=number: self.nodes(number)) or {} for number in numbers}
            said.update({number: {node["Name"]: node["State"] for node in shown.values()}
                         for number, shown in nodes.items()})
            for node in nodes[numbers[0]].values():
                if node["DrainCause"] == "flapping" and states.get(node["Name"]) == "online":
                    self.hosts[numbers[0]].run("gpupoolctl", "node", "resume", node["Name"], check=False)
            return all(answer and all(answer.get(name) == state for name, state in states.items())
                       for answer in said.values())
        try:
            wait_until(fits, timeout_s)
        except AssertionError:
            raise AssertionError(f"not {states} within {timeout_s} s but {said}") from None

    # ---- trouble of hosts (for that of the network, see Rig)

    def power_loss(self, *numbers):
        for number in numbers:
            self.rig.rig("kill", number)

    def power_on(self, *numbers):
        for number in numbers:
            self.rig.rig("restart", number)

    def stop(self, *numbers):
        """gpupoold ends in order, and stays away."""
        for number in numbers:
            self.hosts[number].service("stop")

    def start(self, *numbers):
        for number in numbers:
            self.hosts[number].service("start")

    def bring_back(self):
        """For the end of a test, whatever it left: all hosts are on and serve."""
        hosts = self.rig.status()["hosts"]
        self.power_on(*(host["number"] for host in hosts if not host["pid"]))
        self.start(*(number for number, host in self.hosts.items() if not is_there(host)))
        for number, host in self.hosts.items():
            wait_until(lambda host=host: is_there(host), SLOW_S, f"host {number} does not serve")

    def heal(self):
        """The same where anything may be wrong: with the network, a disk, a host, a service. All are members, and none
        is drained."""
        hosts = self.rig.status()["hosts"]
        if any(trouble for host in hosts for trouble in host["cable"].values()):
            self.rig.heal()
        for host in hosts:
            if host["disk_full"]:
                self.rig.disk_free(host["number"])
            if host["state"] == "frozen":
                self.rig.rig("thaw", host["number"])
            if host["state"] == "down":
                self.power_on(host["number"])
            self.let_go_on(host["number"])
        if any(host["state"] != "up" for host in hosts):
            hosts = self.rig.status()["hosts"]
        for host in hosts:
            for name, service in host["services"].items():
                if service["state"] in ("off", "failed"):
                    self.hosts[host["number"]].service("start", name)
        self.wait_quorate(list(self.hosts))
        for name, state in self.states().items():
            if state in ("draining", "drained"):
                self.hosts[1].ctl("node", "resume", name)
        self.wait_for_states(**{host.name: "online" for host in self.hosts.values()})
        wait_until(lambda: all(self.can_run_vms(node) for node in self.nodes().values()), SLOW_S,
                   "a host has no libvirt or no guard")
        self.wait_same_view()

    @staticmethod
    def can_run_vms(node):
        return node["Role"] == "witness" or node["Hypervisor"] == node["Guard"] == "connected"

    def let_go_on(self, number):
        """What a test has stopped (SIGSTOP) of the services, and not a VM that the guard has stopped."""
        procs = pathlib.Path(Base(self.rig.folder).host(number).cgroup.path, "cgroup.procs").read_text()
        for pid in procs.split():
            try:
                name, state = pathlib.Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(") ", 1)
                if state[0] == "T" and name in ("gpupoold", "gpupool-guard", "libvirtd"):
                    os.kill(int(pid), signal.SIGCONT)
            except (FileNotFoundError, ProcessLookupError):
                continue

    def kill(self, *numbers):
        """kill -9 gpupoold, which is started anew at once; waits until it is."""
        before = {number: self.starts(number) for number in numbers}
        for number in numbers:
            self.hosts[number].signal("KILL")
        for number in numbers:
            wait_until(lambda number=number: self.starts(number) > before[number] and is_there(self.hosts[number]),
                       SLOW_S, f"gpupoold of host {number} does not come back")

    def starts(self, number):
        return self.rig.status(number)["services"]["gpupoold"]["starts"]

    def clear(self, through=1):
        """Nothing is defined any more, in the whole cluster. What another host was told just now is seen first."""
        self.wait_same_view(self.members(through))
        self.hosts[through].clear()


class Case(unittest.TestCase):
    BOX = None

    def setUp(self):
        self.cluster = self.BOX["cluster"]
        self.hosts = self.cluster.hosts
        self.addCleanup(self.cluster.clear)
        self.cluster.wait_same_view()           # what the last test cleared away is gone for all


def ask(question):
    """The answer; None while the service is not there."""
    try:
        return question()
    except AWAY:
        return None


def is_there(host):
    return ask(host.manager) is not None


def differences(numbers, views):
    """In what views differ from the first, for people."""
    for number, view in zip(numbers, views):
        if view is None:
            yield f"host {number} does not answer"
    numbers, views = zip(*((number, view) for number, view in zip(numbers, views) if view), strict=True)
    for number, view in zip(numbers[1:], views[1:]):
        for key in views[0].keys() | view.keys():
            one, other = views[0].get(key), view.get(key)
            if one is None or other is None:
                yield f"{key} is only on host {number if one is None else numbers[0]}"
                continue
            for name in one.keys() | other.keys():
                if one.get(name) != other.get(name):
                    yield f"{key[0]} {name}: {one.get(name)!r} on host {numbers[0]}, {other.get(name)!r} on {number}"


def shared_cluster(count=3, **options):
    """setUpModule and tearDownModule for one cluster that all tests of a file use."""
    box = {}

    def set_up():
        box["cluster"] = Cluster(count, **options)

    def tear_down():
        box.pop("cluster").close()
    return box, set_up, tear_down
