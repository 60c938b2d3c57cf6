# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host: what the survey says, and who has a device when, in the words of its kernel."""

import unittest

from machine import ALONE, AUDIO, GPU, PLUGGED, RNG, SHARED, wait_until

LAB = {}                # lab: the machines; host: the one of these tests


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if "host" not in LAB:
            host = LAB["lab"].boot("a")
            host.be("a", 1)
            LAB["lab"].install(host)
            LAB["host"] = host

    def setUp(self):
        self.host = LAB["host"]
        self.addCleanup(self.host.clear)

    def make(self, pool, *addresses, vms=()):
        """A pool of these GPUs, which are ready, and VMs that need one each."""
        for address in addresses:
            self.host.wait_for_gpu(address, "it is not ready")
        self.host.ctl("pool", "create", pool, *(f"a:{address}" for address in addresses))
        for vm in vms:
            self.host.define(vm, pool)

    def start(self, vm):
        """The pid of the guest, which has the group of its GPU open, and nobody else has."""
        self.host.ctl("vm", "start", vm)
        return self.assert_has(vm)

    def assert_has(self, vm, address=GPU):
        pid, = self.host.qemu(vm)
        group, devices = self.host.group(address)
        self.assertEqual({self.host.driver(device) for device in devices}, {"vfio-pci"})
        self.assertEqual(self.host.vfio_groups(), {group})
        self.assertEqual(self.host.holders_of(group), [pid])
        return pid

    def assert_given_back(self):
        self.host.wait_for_driver(GPU, "bochs-drm")
        self.host.wait_for_driver(AUDIO, "snd_hda_intel")
        self.assertEqual(self.host.vfio_groups(), set())
        self.assertEqual(self.host.qemu("bert"), [])


class Smoke(Case):
    """What is proven in every run of the tests."""

    def test_units_run_under_their_sandbox_with_their_own_user(self):
        host = self.host
        self.assertIn("libvirt", host.tell("id -nG gpupool").split())
        uid, = host.tell("id -u gpupool").split()
        service = host.service_pid("gpupoold")
        self.assertEqual(host.status_of(service, "Uid", "CapEff", "NoNewPrivs", "Seccomp"),
                         ["\t".join([uid] * 4), "0" * 16, "1", "2"])
        guard = host.service_pid("gpupool-guard")
        capabilities, locked = host.status_of(guard, "CapEff", "VmLck")
        self.assertEqual(bin(int(capabilities, 16)).count("1"), 3)
        self.assertNotEqual(locked.split()[0], "0")
        self.assertIn("SCHED_FIFO", host.tell(f"chrt -p {guard}"))
        self.assertEqual(host.tell(f"cat /proc/{guard}/oom_score_adj"), "-1000")
        self.assertEqual(host.tell("systemctl list-units --failed --plain --no-legend 'gpupool*'"), "")

    def test_the_bus_starts_what_is_not_there(self):
        self.host.run("systemctl stop gpupoold")
        self.assertEqual(self.host.run("systemctl is-active gpupoold", check=False).text.strip(), "inactive")
        self.host.wait_until_serving()
        # It answers a moment before it says to systemd that it is ready.
        wait_until(lambda: self.host.run("systemctl is-active gpupoold", check=False).text.strip() == "active",
                   "its unit does not become active")

    def test_the_survey_says_what_the_kernel_says(self):
        gpu = self.host.wait_for_gpu(GPU, "it is not ready")
        group, devices = self.host.group(GPU)
        self.assertEqual((gpu["driver"], gpu["class"], str(gpu["iommu_group"]), devices),
                         ("bochs-drm", "0x038000", group, {GPU, AUDIO}))
        self.assertEqual([(function["address"], function["driver"]) for function in gpu["functions"]],
                         [(AUDIO, "snd_hda_intel")])
        self.assertEqual(gpu["reset_methods"],
                         self.host.tell(f"cat /sys/bus/pci/devices/{GPU}/reset_method").split())
        alone = self.host.wait_for_gpu(ALONE, "it is not ready")
        self.assertEqual((alone["functions"], self.host.group(ALONE)[1]), ([], {ALONE}))

    def test_a_foreign_device_in_the_group_is_in_the_way(self):
        self.assertLessEqual({SHARED, RNG}, self.host.group(SHARED)[1])
        gpu = self.host.wait_for_gpu(SHARED, "nothing is in the way", lambda gpu: gpu["blockers"])
        self.assertIn("group-shared", [blocker["code"] for blocker in gpu["blockers"]])
        self.assertIn(RNG, " ".join(blocker["sentence"] for blocker in gpu["blockers"]))
        self.assertEqual(self.host.driver(RNG), "virtio-pci")

    def test_a_start_takes_the_gpu_and_its_audio_function_and_a_stop_gives_them_back(self):
        self.make("training", GPU, vms=["bert"])
        self.start("bert")
        xml = self.host.tell("virsh dumpxml bert")
        self.assertEqual(xml.count("<hostdev "), 2)
        self.host.ctl("vm", "stop", "bert")
        self.assert_given_back()
        self.host.wait_for_gpu(GPU, "it is not ready again")


class Sharing(Case):
    def test_two_vms_never_have_one_gpu(self):
        self.make("training", GPU, vms=["bert", "anna"])
        self.start("bert")
        self.host.ctl("vm", "start", "--no-wait", "anna")
        self.host.wait_for_vm("anna", "waiting")
        self.assert_has("bert")
        self.assertEqual(self.host.qemu("anna"), [])
        self.host.ctl("vm", "stop", "bert")
        self.host.wait_for_vm("anna", "running")
        self.assert_has("anna")

    def test_who_has_the_gpu_open_is_named_and_nothing_is_taken_from_it(self):
        self.make("training", ALONE, vms=["bert"])
        holder = self.host.tell(f"sleep 10000 <$(echo /sys/bus/pci/devices/{ALONE}/drm/card* | sed 's,.*/,/dev/dri/,') "
                                ">/dev/null 2>&1 & echo $!")
        self.addCleanup(lambda: self.host.run(f"kill {holder}", check=False))
        self.host.ctl("vm", "start", "--no-wait", "bert")
        vm = self.host.wait_for_vm("bert", "waiting", lambda vm: vm["reason"])
        gpu = self.host.wait_for_gpu(ALONE, "nothing is in the way", lambda gpu: gpu["blockers"])
        said = " ".join(blocker["sentence"] for blocker in gpu["blockers"]) + vm["reason"]["sentence"]
        self.assertIn(f"sleep (pid {holder})", said)
        self.assertEqual(self.host.driver(ALONE), "bochs-drm")
        self.assertEqual(self.host.qemu("bert"), [])
        self.host.run(f"kill {holder}")
        self.host.wait_for_vm("bert", "running")
        self.assert_has("bert", ALONE)


class Trouble(Case):
    def test_a_guest_that_is_killed_gives_its_gpu_back_and_is_started_again(self):
        self.make("training", GPU, vms=["bert"])
        pid = self.start("bert")
        self.host.run(f"kill -9 {pid}")
        self.host.wait_for_vm("bert", "running", lambda vm: self.host.qemu("bert") not in ([], [pid]))
        self.assert_has("bert")
        self.host.ctl("vm", "policy", "bert", "--restart", "never")
        self.host.run(f"kill -9 {self.host.qemu('bert')[0]}")
        self.assert_given_back()

    def test_guests_run_on_without_libvirtd(self):
        self.make("training", GPU, vms=["bert"])
        pid = self.start("bert")
        self.host.run("systemctl restart libvirtd")

        def hypervisor():
            return (self.host.json("node", "show", "a") or {"node": {}})["node"].get("hypervisor")
        wait_until(lambda: hypervisor() == "connected", "libvirt is not connected again", pause_s=1)
        self.host.wait_for_vm("bert", "running")
        self.assertEqual(self.assert_has("bert"), pid)

    def test_guests_run_on_when_gpupoold_is_killed(self):
        self.make("training", GPU, vms=["bert"])
        pid, service = self.start("bert"), self.host.service_pid("gpupoold")
        self.host.run(f"kill -9 {service}")
        wait_until(lambda: self.host.service_pid("gpupoold") not in (0, service), "gpupoold does not come back")
        self.host.wait_until_serving()
        self.host.wait_for_vm("bert", "running")
        self.assertEqual(self.assert_has("bert"), pid)
        self.host.ctl("vm", "stop", "bert")
        self.assert_given_back()


class Hotplug(Case):
    def test_a_rule_takes_a_plugged_gpu_in_and_a_vm_that_waits_for_it_starts(self):
        host = self.host
        host.ctl("pool", "create", "later", "--match", "1234:1111@a")
        there = {f"a:{address}" for address in (GPU, ALONE, SHARED)}
        wait_until(lambda: set(host.json("pool", "show", "later")["pool"]["gpus"]) == there, "the rule takes none")
        for vm in ("anna", "bert", "carl"):
            host.define(vm, "later")
            host.ctl("vm", "start", "--no-wait", vm)
        wait_until(lambda: sorted(vm["state"] for vm in host.json("vm", "list")["vms"]) ==
                   ["running", "running", "waiting"], "not two run and one waits", pause_s=1)
        host.machine.plug("secondary-vga", id="gpu4", bus="rp4", addr="0.0")
        wait_until(lambda: sorted(vm["state"] for vm in host.json("vm", "list")["vms"]) == ["running"] * 3,
                   "the third does not start", pause_s=1)
        self.assertEqual(host.driver(PLUGGED), "vfio-pci")
        group, _ = host.group(PLUGGED)
        owner = host.gpu(PLUGGED)["vm"]
        self.assertEqual(host.holders_of(group), host.qemu(owner))
        host.ctl("vm", "stop", owner)
        host.wait_for_driver(PLUGGED, "bochs-drm")
        host.machine.unplug("gpu4")
        host.machine.qmp.wait_event("DEVICE_DELETED", lambda data: data.get("device") == "gpu4")
        host.wait_for_gpu(PLUGGED, "it is still there", lambda gpu: gpu["state"] == "absent")
