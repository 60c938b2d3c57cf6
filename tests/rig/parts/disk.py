# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disk: the file system of a host's state folder, so that it can be full while nothing else is.

An ext4 in a file beside the folder, mounted by the machine itself: what is in it is seen from outside, and stays there
when the host loses power. It is as slow to sync as the disk below it.

    hN/state.img   the file; it takes from the machine's disk only what is used of it
    hN/state       where it is mounted"""

import errno
import fcntl
import os
import struct
import subprocess

from parts import mounts

SIZE = 256 << 20
FILLER = ".filler"
FORMAT = ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-O", "^has_journal,^resize_inode"]
BLOCK = 4096
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
ATTEMPTS = 50  # of getting a loop device; others may be quicker each time


class Disk:
    def __init__(self, path):
        self.folder = os.path.join(path, "state")
        self.image = f"{self.folder}.img"
        self.filler = os.path.join(self.folder, FILLER)

    def make(self, cgroup):
        """Formats it. cgroup: where the program that does so runs."""
        with open(self.image, "wb") as file:
            file.truncate(SIZE)
        subprocess.run([*FORMAT, self.image], check=True, preexec_fn=cgroup.join)

    def mount(self):
        if os.path.ismount(self.folder):
            return
        device = attach(self.image)
        try:
            mounts.mount(device.name, self.folder, "ext4", mounts.MS_NOSUID | mounts.MS_NODEV)
        finally:
            device.close()  # from now on the mount keeps it
        if os.path.isdir(f"{self.folder}/lost+found"):
            os.rmdir(f"{self.folder}/lost+found")

    def unmount(self):
        """Other hosts' copies of the mount end when the folder is removed."""
        mounts.detach(self.folder)

    def fill(self):
        """Not a block is left. In whole blocks first, as that is done at once."""
        with open(self.filler, "wb") as file:
            mounts.libc.syncfs(file.fileno())  # what others wrote gets its blocks before we take the rest
            size = SIZE
            while size >= BLOCK:
                if not allocate(file.fileno(), os.fstat(file.fileno()).st_size, size):
                    size //= 2

    def free(self):
        try:
            os.unlink(self.filler)
        except FileNotFoundError:
            pass

    def full(self):
        return os.path.exists(self.filler)


def attach(image):
    """The open loop device that shows the file; it goes away with its last user."""
    with open(image, "r+b") as backing, open("/dev/loop-control") as control:
        for _ in range(ATTEMPTS):
            device = open(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}", "r+b", buffering=0)
            config = bytearray(304)  # struct loop_config: fd, block_size, struct loop_info64 (lo_flags at 52)
            struct.pack_into("=II", config, 0, backing.fileno(), 0)
            struct.pack_into("=I", config, 8 + 52, LO_FLAGS_AUTOCLEAR)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, bytes(config))
                return device
            except OSError as error:
                device.close()
                if error.errno != errno.EBUSY:
                    raise
    raise TimeoutError("somebody else takes every loop device")


def allocate(fd, offset, size):
    """Whether there was room."""
    try:
        os.posix_fallocate(fd, offset, size)
        return True
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
