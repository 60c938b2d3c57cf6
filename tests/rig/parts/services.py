# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services: what runs on a host and in which order. The machine's own daemons are described here, in the words of unit
files; the product's by its installed unit files, and by the texts here only where those are not there (yet)."""

import os

from parts.unit import Unit

UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")

DBUS = """
ExecStart=/usr/bin/dbus-daemon --system --nofork --nopidfile --nosyslog
RuntimeDirectory=dbus
RuntimeDirectoryPreserve=yes
Restart=on-failure
"""
POLKITD = """
ExecStart=/usr/lib/polkit-1/polkitd --no-debug
Restart=always
RestartSec=200ms
StartLimitIntervalSec=0
"""
VIRTLOGD = """
ExecStart=/usr/sbin/virtlogd
KillMode=process
Restart=on-failure
"""
LIBVIRTD = """
ExecStart=/usr/sbin/libvirtd
KillMode=process
Restart=on-failure
"""
GUARD = """
ExecStart=/usr/libexec/gpupool/gpupool-guard
RuntimeDirectory=gpupool-guard
Restart=always
"""
PROBE_SOCKET = """
ListenStream=/run/gpupool-probe/probe.sock
SocketUser=root
SocketGroup=gpupool
SocketMode=0660
Accept=yes
"""
PROBE = """
ExecStart=/usr/libexec/gpupool/gpupool-probe
StandardInput=socket
"""
BIND_SOCKET = """
ListenStream=/run/gpupool-bind/bind.sock
SocketUser=gpupool
SocketGroup=gpupool
SocketMode=0600
Accept=yes
"""
BIND = """
ExecStart=/usr/libexec/gpupool/gpupool-bind
StandardInput=socket
"""
GPUPOOLD = """
ExecStart=/usr/sbin/gpupoold
User=gpupool
Group=gpupool
SupplementaryGroups=libvirt
RuntimeDirectory=gpupool
StateDirectory=gpupool
Restart=on-failure
RestartSec=100ms
"""


class Description:
    """after: services that, if on their way up, must be ready first. socket: it is ready when one can connect there.
    ours: of the product."""

    def __init__(self, name, unit, after=(), socket=None, pretend_memlock=False, ours=False):
        self.name = name
        self.unit = unit
        self.after = after
        self.socket = socket
        self.pretend_memlock = pretend_memlock
        self.ours = ours
        self.instance_unit = None  # of a socket with Accept=yes: what is started for each connection


def machine_services():
    return [
        Description("dbus", Unit(DBUS), socket="/run/dbus/system_bus_socket"),
        Description("polkitd", Unit(POLKITD), after=("dbus",)),
        Description("virtlogd", Unit(VIRTLOGD), socket="/run/libvirt/virtlogd-sock"),
        Description("libvirtd", Unit(LIBVIRTD), after=("dbus", "virtlogd"), socket="/run/libvirt/libvirt-sock",
                    pretend_memlock=True),
    ]


def product_services():
    """Those of the product's that are installed."""
    found = []
    if os.path.exists("/usr/libexec/gpupool/gpupool-guard"):
        found.append(Description("guard", installed("gpupool-guard.service", GUARD), ours=True))
    for name, socket, instance in (("probe", PROBE_SOCKET, PROBE), ("bind", BIND_SOCKET, BIND)):
        if os.path.exists(f"/usr/libexec/gpupool/gpupool-{name}"):
            each = Description(name, installed(f"gpupool-{name}.socket", socket), ours=True)
            each.instance_unit = installed(f"gpupool-{name}@.service", instance)
            found.append(each)
    if os.path.exists("/usr/sbin/gpupoold"):
        found.append(Description("gpupoold", installed("gpupoold.service", GPUPOOLD), ours=True,
                                 after=("polkitd", "libvirtd", *(each.name for each in found))))
    return found


def installed(name, otherwise):
    for folder in UNIT_FOLDERS:
        try:
            with open(f"{folder}/{name}") as file:
                return Unit(file.read())
        except FileNotFoundError:
            continue
    return Unit(otherwise)
