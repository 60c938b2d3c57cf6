# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mounts: the file systems of one host, in its own mount namespace. They vanish with the host; the machine sees none of
them, but has the disk of the state (disk.py), which outlives it.

/usr, /etc, /var   overlays: the host's own layer, over the product's tree (--destdir), over the machine's
/run, /dev, /sys   the host's own; /sys/devices, /sys/bus/pci and so on come from the simulated PCI tree
/run/rig           the host's folder (HOST below), which is how its inside and its outside talk"""

import ctypes
import os
import stat
import uuid

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
HOST = "/run/rig"
OVERLAID = ("usr", "etc", "var")
SHARED_FOLDERS = {  # folder of the host's folder -> where it is seen in the host; written to from both sides
    "state": "/var/lib/gpupool",
    "config": "/etc/gpupool",
    "rules.d": "/etc/polkit-1/rules.d",
}
DEVICE_NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
                "fuse": (10, 229), "net/tun": (10, 200), "vfio/vfio": (1, 3)}
libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind=None, flags=0, options=None):
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    if libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def bind(source, target, flags=0):
    mount(source, target, flags=MS_BIND | flags)


def detach(folder):
    """Takes away all that the machine has mounted there. To hide it is not enough: libvirt reads the list of mounts."""
    while libc.umount2(folder.encode(), MNT_DETACH) == 0:
        pass


def make_own_world(host, destdir):
    """All but the PCI tree, for which see show_pci_tree(). host: the host's folder as the machine names it."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    for folder in ("/proc", "/sys"):
        detach(folder)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV)  # a fresh one shows the devices of this network namespace
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV)
    bind("/usr", f"{host}/machine-usr")  # the machine's own, for the emulator that ours stands before
    for name in OVERLAID:
        overlay(host, destdir, name)
    mount_dev(host)
    bind(host, f"{host}/run/rig", MS_REC)
    bind(f"{host}/run", "/run", MS_REC)
    for name, where in SHARED_FOLDERS.items():
        os.makedirs(where, exist_ok=True)
        bind(f"{HOST}/{name}", where)
    give_new_boot_id()
    remap_interrupts()


def overlay(host, destdir, name):
    layers = [f"/{name}"]
    if destdir and os.path.isdir(f"{destdir}/{name}"):
        layers.insert(0, f"{destdir}/{name}")
    mount("overlay", f"/{name}", "overlay",
          options=f"lowerdir={':'.join(layers)},upperdir={host}/{name},workdir={host}/work/{name}")


def mount_dev(host):
    dev = f"{host}/dev"
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    for folder in ("net", "pts", "shm", "vfio"):
        os.mkdir(f"{dev}/{folder}")
    for name, (major, minor) in DEVICE_NODES.items():
        make_node(f"{dev}/{name}", major, minor, 0o666)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"),
                         ("ptmx", "pts/ptmx")):
        os.symlink(target, f"{dev}/{name}")
    bind("/dev/pts", f"{dev}/pts", MS_REC)  # the machine's, so that a terminal is one in the host too
    mount("tmpfs", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    detach("/dev")
    bind(dev, "/dev", MS_REC)


def make_node(path, major, minor, mode):
    os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
    os.chmod(path, mode)


def give_new_boot_id():
    with open(f"{HOST}/boot_id", "w") as file:
        file.write(f"{uuid.uuid4()}\n")
    bind(f"{HOST}/boot_id", "/proc/sys/kernel/random/boot_id")


def remap_interrupts():
    """The simulated IOMMU remaps interrupts; the kernel says so by the names of their chips."""
    with open("/proc/interrupts") as file:
        lines = file.read().replace(" PCI-MSI", " IR-PCI-MSI").replace(" IO-APIC", " IR-IO-APIC")
    with open(f"{HOST}/interrupts", "w") as file:
        file.write(lines)
    bind(f"{HOST}/interrupts", "/proc/interrupts")


def show_pci_tree(tree):
    """Lays the simulated tree over the machine's, leaving what is no PCI device."""
    bind("/sys/devices/system", f"{tree}/devices/system", MS_REC)
    for name in set(os.listdir("/sys/devices/virtual")) - {"iommu"}:
        bind(f"/sys/devices/virtual/{name}", f"{tree}/devices/virtual/{name}")
    for name in ("net", "dmi"):
        if os.path.isdir(f"/sys/class/{name}"):
            bind(f"/sys/class/{name}", f"{tree}/class/{name}")
    for name in ("devices", "class", "bus/pci", "kernel/iommu_groups", "module"):
        bind(f"{tree}/{name}", f"/sys/{name}", MS_REC)
