# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three hosts: a VM whose GPU, guard or host fails comes up on another one."""

import re
import unittest

from machine import ALONE, GPU, wait_until

LAB = {}                # lab: the machines; hosts: those of these tests
NAMES = ("a", "b", "c")


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if "hosts" in LAB:
            return
        lab = LAB["lab"]
        hosts = lab.clones(*NAMES)
        for host in hosts.values():
            lab.install(host)
        for name in NAMES[1:]:
            token = re.search(r"cluster join (\S+)", hosts["a"].ctl("cluster", "invite").text)[1]
            hosts[name].ctl("cluster", "join", token)
            lab.note(f"{name} has joined")
        LAB["hosts"] = hosts

    def setUp(self):
        self.hosts = LAB["hosts"]
        self.any = self.hosts["a"]
        for host in self.hosts.values():
            host.machine.check_alive()
        self.wait_until_online()
        self.addCleanup(self.any.clear)

    def wait_until_online(self, asked=None):
        last = {}

        def all_are():
            answer = (asked or self.any).json("node", "list")
            last["nodes"] = answer and {node["name"]: node["state"] for node in answer["nodes"]}
            return last["nodes"] == dict.fromkeys(NAMES, "online")
        wait_until(all_are, lambda: f"not all are online: {last['nodes']}", pause_s=1)

    def run_on(self, name, address=GPU):
        """A VM that runs on that host, whose GPU there it has, and would fit on the others."""
        for host in NAMES:
            self.any.wait_for_gpu(address, "it is not ready", lambda gpu: gpu["assignable"]) \
                if host == self.any.name else None
        self.any.ctl("pool", "create", "training", *(f"{host}:{address}" for host in NAMES))
        self.any.define("bert", "training", "--prefer", name)
        self.any.ctl("vm", "start", "bert")
        self.assertEqual(self.any.vm("bert")["node"], name)
        self.assert_runs_on(name, address)

    def assert_runs_on(self, name, address=GPU):
        """There and nowhere else that can be asked, by the process tables and by VFIO."""
        host = self.hosts[name]
        group, _ = host.group(address)
        self.assertEqual(host.driver(address), "vfio-pci")
        self.assertEqual(host.holders_of(group), host.qemu("bert"))
        self.assertEqual(len(host.qemu("bert")), 1)

    def wait_until_elsewhere(self, than, asked):
        vm = asked.wait_for_vm("bert", "running", lambda vm: vm["node"] != than)
        self.assert_runs_on(vm["node"])
        return vm["node"]


class Cluster(Case):
    def test_every_host_shows_the_gpus_of_all(self):
        wanted = {f"{name}:{address}" for name in NAMES for address in (GPU, ALONE)}
        for host in self.hosts.values():
            wait_until(lambda host=host: wanted <= {gpu["name"] for gpu in (host.json("gpu", "list") or {"gpus": []})
                                                    ["gpus"] if gpu["assignable"]},
                       f"{host.name} does not show all GPUs as ready", pause_s=1)

    def test_a_gpu_that_is_taken_away_from_a_running_vm_lets_it_start_elsewhere(self):
        self.run_on("b")
        machine = self.hosts["b"].machine
        machine.unplug("gpu1")
        self.wait_until_elsewhere("b", self.any)
        self.assertEqual(self.hosts["b"].qemu("bert"), [])
        try:
            machine.qmp.wait_event("DEVICE_DELETED", lambda data: data.get("device") == "gpu1")
        except AssertionError:
            if not machine.has_died_of_a_removal():
                raise
            print("# the kernel of b failed in the removal itself (see README.md); the VM runs elsewhere", flush=True)
            return
        self.assertNotIn(GPU, self.hosts["b"].tell("ls /sys/bus/pci/devices"))


class Hosts(Case):
    def test_a_host_whose_guard_is_stopped_is_reset_by_the_watchdog(self):
        host = self.hosts["c"]
        host.arm_watchdog()
        wait_until(lambda: (host.json("node", "show", "c") or {"node": {}})["node"].get("watchdog_us"),
                   "the watchdog is not armed", pause_s=1)
        self.run_on("c", ALONE)
        boot = host.tell("cat /proc/sys/kernel/random/boot_id")
        host.run(f"kill -STOP {host.service_pid('gpupool-guard')}")
        host.machine.qmp.wait_event("WATCHDOG")
        host.machine.qmp.wait_event("RESET")
        vm = self.any.wait_for_vm("bert", "running", lambda vm: vm["node"] != "c")
        self.assert_runs_on(vm["node"], ALONE)
        host.machine.wait_ready()
        self.assertNotEqual(host.tell("cat /proc/sys/kernel/random/boot_id"), boot)
        host.wait_until_serving()
        self.assertEqual(host.qemu("bert"), [])
        self.wait_until_online()
        self.assert_runs_on(vm["node"], ALONE)

    def test_a_host_that_stands_still_and_goes_on_does_not_run_its_vm_twice(self):
        self.run_on("a", ALONE)
        asked, frozen = self.hosts["c"], self.hosts["a"]
        frozen.machine.signal("STOP")
        try:
            vm = asked.wait_for_vm("bert", "running", lambda vm: vm["node"] != "a")
        finally:
            frozen.machine.signal("CONT")
        wait_until(lambda: not frozen.qemu("bert"), "the host that stood still does not end its VM")
        self.assert_runs_on(vm["node"], ALONE)
        self.wait_until_online(asked)
