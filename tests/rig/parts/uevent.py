# SPDX-License-Identifier: LGPL-2.1-or-later
"""Uevent: news of a device, sent as the kernel and as udevd send it, within the network namespace of the caller.

The kernel's group: root may hand the kernel an event, and the kernel numbers and multicasts it in this namespace.
The udev group: a multicast from user space with the header of libudev, whose fields select the receivers."""

import errno
import os
import socket
import struct

NETLINK_KOBJECT_UEVENT = 15
GROUP_UDEV = 2
NLMSG_MIN_TYPE = 0x10
NLM_F_REQUEST_ACK = 5
MONITOR_MAGIC = 0xFEEDCAFE


class Sender:
    """Keeps the socket and the number of the last event."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
        self.socket.settimeout(2)
        self.number = 0

    def send_as_kernel(self, action, devpath, properties):
        body = b"".join(f"{key}={value}\0".encode()
                        for key, value in {"ACTION": action, "DEVPATH": devpath, **properties}.items())
        body = f"{action}@{devpath}\0".encode() + body
        header = struct.pack("=IHHII", 16 + len(body), NLMSG_MIN_TYPE, NLM_F_REQUEST_ACK, 1, 0)
        self.socket.sendto(header + body, (0, 0))
        code = -struct.unpack_from("=i", self.socket.recv(8192), 16)[0]
        if code:
            raise OSError(code, os.strerror(code), devpath)

    def send_as_udev(self, action, devpath, properties):
        self.number += 1
        properties = {"ACTION": action, "DEVPATH": devpath, **properties, "SEQNUM": self.number}
        body = b"".join(f"{key}={value}\0".encode() for key, value in properties.items())
        header = (b"libudev\0" + struct.pack(">I", MONITOR_MAGIC) + struct.pack("=III", 40, 40, len(body)) +
                  struct.pack(">IIII", murmur_hash2(properties["SUBSYSTEM"].encode()), 0, 0, 0))
        try:
            self.socket.sendto(header + body, (0, GROUP_UDEV))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:  # nobody listens
                raise


def murmur_hash2(data):
    """MurmurHash2 with seed 0, as the receivers' socket filters expect it."""
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    value = len(data)
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("=I", data[:whole]):
        word = word * mix & mask
        word = (word ^ word >> 24) * mix & mask
        value = value * mix & mask ^ word
    rest = data[whole:]
    if rest:
        value = (value ^ int.from_bytes(rest, "little")) * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15
