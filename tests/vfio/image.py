# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk, kernel and initrd of the emulated hosts: Debian bookworm, made of its packages, without gpupool. Made once
per week and list of packages, and kept in a cache folder; where Debian cannot be had, an older one of the same kind is
used on. Needs root, as mmdebstrap and chroot do."""

import contextlib
import datetime
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

PACKAGES = """
systemd-sysv dbus udev kmod polkitd iproute2 procps pciutils zstd
libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 seabios
linux-image-amd64 initramfs-tools
libraft0 libprotobuf-c1 libjson-c5 libinih1 libgnutls30 libxml2 libsqlite3-0 libudev1 libsystemd0 libvirt0
""".split()

# What no host here needs. dpkg goes by the last pattern that fits.
LEFT_OUT = ["path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*"] + [
    f"path-exclude=/lib/modules/*/kernel/drivers/{part}/*" for part in
    ("net", "media", "infiniband", "staging", "scsi", "iio", "bluetooth", "hwmon", "mtd", "target", "isdn",
     "gpu/drm/amd", "gpu/drm/i915", "gpu/drm/nouveau", "gpu/drm/radeon")] + [
    "path-exclude=/lib/modules/*/kernel/arch/x86/kvm/*"] + [
    f"path-include=/lib/modules/*/kernel/drivers/net/{name}.ko" for name in ("virtio_net", "net_failover")]

# What apt says where packages or their lists cannot be fetched, or are not what the mirror promised. That is nobody's
# failure here; all else that goes wrong is.
MIRROR_FAULTS = "|".join((
    "Could not (?:resolve|connect|handshake)", "Unable to connect", "Connection (?:failed|timed out|refused)",
    "Temporary failure", "Failed to fetch", "Some index files failed to download", "Unable to fetch some archives",
    "Hash Sum mismatch", "File has unexpected size", "Mirror sync in progress", "Clearsigned file isn't valid",
    "Release file for .* is (?:expired|not valid yet)", "does not have a Release file", "is not signed"))

DISK_SIZE = "3G"        # sparse
MODULES = ["virtio_pci", "virtio_blk", "ext4"]

# A root shell on a serial line, without a terminal's manners. Two, as one can hang in the kernel with what it runs.
SHELL_UNIT = """[Unit]
Description=Root shell on %I for the tests
[Service]
ExecStartPre=/bin/stty -F /dev/%I raw -echo
ExecStart=/bin/bash --noediting --norc
Environment=HOME=/root LC_ALL=C.UTF-8 TERM=dumb NO_COLOR=1 COLUMNS=500 SYSTEMD_COLORS=0
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=/root
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/%I
Restart=always
RestartSec=0
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
"""

# What is logged goes to a serial line, too, so that it is at hand when the host is not.
FILES = {
    "etc/hostname": "base\n",
    "etc/hosts": "127.0.0.1 localhost\n10.9.0.1 a\n10.9.0.2 b\n10.9.0.3 c\n",
    "etc/fstab": "/dev/vda / ext4 noatime 0 0\n",
    "etc/systemd/system/test-shell@.service": SHELL_UNIT,
    "etc/systemd/system.conf.d/test.conf": "[Manager]\nDefaultTimeoutStopSec=20s\nLogLevel=info\n",
    "etc/systemd/journald.conf.d/test.conf": "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\nRateLimitBurst=0\n"
                                             "ForwardToConsole=yes\nTTYPath=/dev/ttyS3\nMaxLevelConsole=debug\n",
    "etc/systemd/network/10-test.network": "[Match]\nType=ether\n[Network]\nAddress=10.9.0.250/24\n",
}
ENABLED = ["test-shell@ttyS1.service", "test-shell@ttyS2.service", "systemd-networkd.service", "libvirtd.socket"]
MASKED = ["getty@tty1.service", "serial-getty@ttyS0.service", "systemd-networkd-wait-online.service",
          "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
          "dpkg-db-backup.timer", "libvirt-guests.service", "systemd-timesyncd.service"]


class Skipped(Exception):
    """Why nothing can be proven on this machine."""


class Image:
    """disk, kernel and initrd: paths of files that nobody writes any more."""

    def __init__(self, folder):
        self.disk, self.kernel, self.initrd = (str(folder / name) for name in ("disk.img", "vmlinuz", "initrd"))


def cache_folder():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "gpupool-tests"


def kind():
    """Images of one kind differ in the age of Debian's packages only."""
    return hashlib.sha256(pathlib.Path(__file__).read_bytes() + " ".join(PACKAGES).encode()).hexdigest()[:12]


def name_of_image():
    year, week, _ = datetime.date.today().isocalendar()
    return f"vfio-{year}w{week:02}-{kind()}"


def image(say=print):
    """The image of this week, made if there is none yet; if it cannot be made, the newest of its kind."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name_of_image()
    with open(cache / "vfio.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return Image(folder)
        say(f"making the image {folder} (some minutes)")
        try:
            make(folder)
        except Skipped as why:
            older = sorted(cache.glob(f"vfio-*w*-{kind()}"))
            if not older:
                raise
            say(f"{why}; {older[-1]} is used instead")
            return Image(older[-1])
        for old in cache.glob("vfio-*"):
            if old != folder and old.is_dir():
                shutil.rmtree(old)
    return Image(folder)


def make(folder):
    if os.geteuid() != 0:
        raise Skipped("making the image needs root")
    for tool in ("mmdebstrap", "mkfs.ext4", "chroot"):
        if not shutil.which(tool):
            raise Skipped(f"{tool} is not installed")
    with tempfile.TemporaryDirectory(prefix="gpupool-vfio-", dir=roomy_folder()) as work:
        root = pathlib.Path(work) / "root"
        bootstrap(root, work)
        furnish(root)
        half = folder.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            source, = (root / "boot").glob(pattern)
            shutil.move(source, half / name)
        with open(half / "disk.img", "wb") as disk:
            disk.truncate(0)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, "-O", "^has_journal", "-m", "0", half / "disk.img",
                        DISK_SIZE], check=True, stdout=subprocess.DEVNULL)
        half.rename(folder)


def roomy_folder():
    """Two gigabytes in memory, where there is room for them."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 4 << 30:
            return "/dev/shm"
    return "/var/tmp"


def mirrors():
    """The mirror that this machine's own packages come from, and that of security updates."""
    said = "".join(path.read_text(errors="replace") for path in pathlib.Path("/etc/apt").glob("sources.list*/**/*")
                   if path.is_file())
    with contextlib.suppress(OSError):
        said += pathlib.Path("/etc/apt/sources.list").read_text()
    main = re.search(r"^[^#\n]*?(https?://\S+/debian)/?(?=\s)", said, re.MULTILINE)
    security = re.search(r"^[^#\n]*?(https?://\S+/debian-security)/?(?=\s)", said, re.MULTILINE)
    return (main[1] if main else "http://deb.debian.org/debian",
            security[1] if security else "http://deb.debian.org/debian-security")


def bootstrap(root, work):
    main, security = mirrors()
    sources = [f"deb {main} bookworm main", f"deb {main} bookworm-updates main", f"deb {main} bookworm-backports main",
               f"deb {security} bookworm-security main"]
    initrd = ('printf "%s\\n" ' + " ".join(MODULES) + ' >"$1/etc/initramfs-tools/modules" && '
              'sed -i s/^MODULES=.*/MODULES=list/ "$1/etc/initramfs-tools/initramfs.conf" && '
              'INITRD=Yes chroot "$1" update-initramfs -c -k all')
    done = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", f"--include={','.join(PACKAGES)}",
         '--aptopt=APT::Install-Recommends "false"', *(f"--dpkgopt={option}" for option in LEFT_OUT),
         f"--customize-hook={initrd}", "bookworm", str(root), *sources],
        env={**os.environ, "INITRD": "No", "TMPDIR": work, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        if fault := re.search(rf"^.*(?:{MIRROR_FAULTS}).*$", done.stdout, re.MULTILINE):
            raise Skipped(f"the Debian mirror {main} does not give the packages: {fault[0].strip()}")
        raise RuntimeError(f"mmdebstrap failed:\n{done.stdout[-4000:]}")


def furnish(root):
    """What a machine of these tests has that a fresh Debian has not. No password: there is no way in but the serial
    lines, which end at sockets of the test."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "etc/machine-id").write_text("")
    (root / "var/log/journal").mkdir(exist_ok=True)
    subprocess.run(["systemctl", f"--root={root}", "-q", "enable", *ENABLED], check=True)
    subprocess.run(["systemctl", f"--root={root}", "-q", "mask", *MASKED], check=True)
    for leftover in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / leftover, ignore_errors=True)
        (root / leftover).mkdir(parents=True)
