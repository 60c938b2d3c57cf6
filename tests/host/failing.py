# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of failing hosts have in common: three hosts with a GPU each, a VM that any of them can run, and a
judge who sees every process (watch.py). Whatever a test does, no VM runs twice, and afterwards all is well again."""

import time

import cluster
import product
from product import A100, A100_TWIN, GPU, H100, NODE, SLOW_S, wait_until

VM, POOL = "bert", "training"
GPUS = (H100, A100, A100_TWIN)


def shared(**options):
    return cluster.shared_cluster(**{"count": 3, "gpus": ("h100",), "watched": True, **options})


class Case(cluster.Case):
    BACK_S = 10             # the promise (P4), by default times; files with other times are more patient

    def setUp(self):
        super().setUp()
        self.rig, self.watch = self.cluster.rig, self.cluster.watch
        self.logged = {path: path.stat().st_size for path in self.logs()}
        self.addCleanup(self.watch.check)
        self.addCleanup(self.cluster.heal)
        self.addCleanup(self.tell_if_it_failed)
        # Default times: the failure, at most 4 s until the loss, an election beside it, a start. Sanitizers are slow.
        self.back_s = self.BACK_S + (10 if self.hosts[1].is_sanitized() else 0)
        self.wait_until_ready()

    def wait_until_ready(self):
        """All is well, as all of them show it: what the last test cleared away is gone, and each GPU that is plugged in
        can be given to a VM. Whoever leads then places a VM by nothing older."""
        def ready():
            plugged = self.plugged_gpus()
            return plugged and all(self.usable_gpus(asked) == plugged for asked in self.hosts)
        self.cluster.wait_same_view()
        wait_until(ready, 2 * SLOW_S, "not every host is ready to run a VM")

    def plugged_gpus(self):
        """(host, address) of each, of the hosts that can run VMs; None while one has not got its driver back."""
        found = {(host["name"], device["address"]): device["driver"] for host in self.rig.status()["hosts"]
                 for device in host["devices"] if "libvirtd" in host["services"] and device["address"] in GPUS}
        return set(found) if set(found.values()) <= {"nvidia"} else None

    def usable_gpus(self, asked):
        """The same of all that can be given to a VM now, as one host shows it; None where it does not answer."""
        objects = cluster.ask(self.hosts[asked].objects) or {}
        able = {path: interfaces[NODE]["Name"] for path, interfaces in objects.items() if NODE in interfaces and
                interfaces[NODE]["State"] == "online" and self.cluster.can_run_vms(interfaces[NODE])}
        gpus = [interfaces[GPU] for interfaces in objects.values() if GPU in interfaces]
        return {(able[gpu["Node"]], gpu["Address"]) for gpu in gpus
                if gpu["Node"] in able and gpu["State"] == "present" and gpu["Assignable"]}

    def logs(self):
        return [host.folder / "log" / f"{name}.log" for host in self.hosts.values() for name in ("gpupoold", "guard")]

    def tell_if_it_failed(self):
        """What was logged meanwhile, as it goes away with the rig."""
        result = self._outcome.result
        if any(test is self for test, _ in result.errors + result.failures):
            for path in self.logs():
                with open(path, encoding="utf-8", errors="replace") as file:
                    file.seek(self.logged[path])
                    print("".join(f"#   {path.parts[-3]} {path.stem}: {line}" for line in file), flush=True)
            print("".join(f"#   {run}\n" for run in self.watch.runs()[-8:]), flush=True)

    # ---- VMs

    def run_on(self, number, vm=VM, **policy):
        """The VM runs on that host, and was started by another one; the run."""
        asked = self.hosts[self.other_than(number)]
        if not any(product.POOL in interfaces for interfaces in asked.objects().values()):
            gpus = [path for path, interfaces in asked.objects().items() if product.GPU in interfaces]
            asked.write(product.ROOT, product.MANAGER, "CreatePool", "sa{sv}", POOL, gpus=["ao", gpus])
        options = {"preferred-nodes": ["as", [f"host{number}"]],
                   **{key: ["i" if isinstance(value, int) else "s", value] for key, value in policy.items()}}
        path, = asked.write(product.ROOT, product.MANAGER, "DefineVM", "ssua{sv}", asked.xml(vm), POOL, 1, **options)
        since = time.monotonic()
        asked.write(path, product.VM, "Start", "a{sv}")
        run = self.wait_for_run(vm, since)
        self.assertEqual(run.host, number)
        asked.wait_for_vm(vm, "running")
        return run

    def move(self, vm, number):
        """At once, as soon as the host can take it."""
        wait_until(lambda: self.hosts[number].run("gpupoolctl", "vm", "move", vm, f"host{number}", "--stop",
                                                  check=False).returncode == 0 or self.watch.where(vm) == [number],
                   SLOW_S, f"{vm} cannot move")

    def wait_until_writable(self, number):
        """Whoever is told that a write may have happened finds it done, perhaps, when it tries again."""
        def written():
            self.hosts[number].run("gpupoolctl", "pool", "create", "room", check=False)
            return "room" in self.hosts[number].run("gpupoolctl", "pool", check=False).stdout
        wait_until(written, SLOW_S, "nothing can be written")

    def other_than(self, *numbers):
        return next(number for number in self.hosts if number not in numbers)

    def others(self, *numbers):
        return [number for number in self.hosts if number not in numbers]

    def wait_for_run(self, vm=VM, after=0.0, elsewhere_than=None, timeout_s=SLOW_S):
        """The first run that began after that, as the judge has it."""
        def found():
            return next((run for run in self.watch.runs(vm) if run.begin > after and run.host != elsewhere_than), None)
        where = f" elsewhere than on host {elsewhere_than}" if elsewhere_than else ""
        return wait_until(found, timeout_s, f"{vm} does not run{where}")

    def wait_until_back(self, run, since, what):
        """After the failure of its host at that moment the VM runs elsewhere, in the time that is promised (P4), and
        the hosts that are left know it. The new run."""
        new = self.wait_for_run(run.vm, since, run.host)
        took_s = new.begin - since
        print(f"# {what}: {run.vm} ran on host {new.host} after {took_s:.1f} s", flush=True)
        self.assertLess(took_s, self.back_s)
        self.assert_runs(new, [number for number in self.hosts if number != run.host])
        return new

    def assert_runs(self, run, asked):
        """Those who are asked show the VM as running where it does."""
        for number in asked:
            vm = self.hosts[number].wait_for_vm(run.vm, "running")
            self.assertEqual(self.cluster.nodes(number)[vm["Node"]]["Name"], f"host{run.host}")

    def assert_same(self, run):
        """It is the same process still, never stopped since, and the only one."""
        self.assertEqual([each[:6] for each in self.watch.living() if each.vm == run.vm], [run[:6]])

    # ---- hosts

    def set_back(self, number, settings):
        """To the settings that it had before the test; without power it begins with them."""
        if self.rig.status(number)["state"] == "up":
            self.hosts[number].settings(settings)
        else:
            (self.hosts[number].folder / "config" / "gpupoold.conf").write_text(settings)

    def wait_until_lost(self, number, evidence="lease"):
        asked = self.others(number)
        self.cluster.wait_for_states(asked=asked, **{f"host{number}": "lost"})
        for other in asked:
            node = next(node for node in self.cluster.nodes(other).values() if node["Name"] == f"host{number}")
            self.assertEqual(node["Evidence"], evidence)

    def wait_until_returned(self, number):
        """It is a member like all others again, and got nothing that it should not have; what ran elsewhere does."""
        before = self.watch.living()
        wait_until(lambda: all(self.state_of(number, asked) in ("online", "drained") for asked in self.hosts), SLOW_S,
                   f"host {number} does not come back")
        self.assertNotIn(number, {run.host for run in self.watch.living()})
        wait_until(lambda: self.hosts[number].driver(H100) == "nvidia", SLOW_S, "its GPU is not free")
        for run in before:
            if run.host != number:
                self.assert_same(run)

    def state_of(self, number, asked):
        states = cluster.ask(lambda: self.cluster.states(asked))
        return states and states.get(f"host{number}")
