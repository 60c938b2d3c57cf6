# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relay: a process in the way of one host's packets, for as long as they are delayed.

    python3 -m parts.relay NUMBER SOCKET DELAY_MS       (in the switch's network namespace)

    without:   eth0 of the host ═ hN ─ br0
    with:      eth0 of the host ═ hN   relay   rN ═ dN ─ br0

It puts itself in and takes itself out; what is on its way then arrives, so that connections live on. One way is closed
before the other is opened: so nothing comes twice and nothing overtakes, and what a host says in that very moment is
lost. Packets keep their order, also when the delay shrinks. Each comes with its virtio_net_hdr and is passed on as it
is: checksums that are left to the card, segments that are not cut yet."""

import collections
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from parts import control

QUEUE_MAX = 4096                # packets in one direction; the next are lost, as in any router
PACKET_MAX = 10 + 14 + 4 + 65536
RECEIVE_BUFFER = 8 << 20        # while we do other things
REQUEST_TIMEOUT_S = 10          # who asks may be held up between two words
ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 3, 263, 15, 23
SO_RCVBUFFORCE = 33
SIOCBRADDIF, SIOCBRDELIF = 0x89A2, 0x89A3
BRIDGE = "br0"


class Way:
    """One direction."""

    def __init__(self, source, target):
        self.source = source
        self.target = target
        self.queue = collections.deque()  # (when it is due, the packet)

    def take(self, delay_s):
        """All that came."""
        while (packet := receive(self.source)) is not None:
            if len(self.queue) < QUEUE_MAX:
                self.queue.append((time.monotonic() + delay_s, packet))

    def pass_on(self, now):
        """What is due, in the order in which it came."""
        while self.queue and self.queue[0][0] <= now:
            try:
                self.target.send(self.queue.popleft()[1])
            except OSError:
                pass  # nobody is there: the packet is lost

    def due_in_s(self, now):
        return max(0, self.queue[0][0] - now) if self.queue else float("inf")


class Relay:
    def __init__(self, number, delay_ms):
        self.host, self.bridge, self.end = f"h{number}", f"d{number}", f"r{number}"
        self.delay_ms = delay_ms
        self.ways = ()

    def enter(self):
        """While the bridge carries what the host says, all that we could see of it is copies."""
        move(self.host, SIOCBRDELIF)
        host, end = tap(self.host), tap(self.end)
        self.ways = Way(host, end), Way(end, host)
        move(self.bridge, SIOCBRADDIF)

    def leave(self):
        for way in self.ways:
            way.take(0)
            way.pass_on(float("inf"))
        move(self.bridge, SIOCBRDELIF)
        move(self.host, SIOCBRADDIF)

    def run(self, listener):
        sources = {way.source: way for way in self.ways}
        while True:
            now = time.monotonic()
            wait_s = min(way.due_in_s(now) for way in self.ways)
            readable = select.select([listener, *sources], [], [], min(wait_s, 3600))[0]
            for each in readable:
                if each in sources:
                    sources[each].take(self.delay_ms / 1000)
            for way in self.ways:
                way.pass_on(time.monotonic())
            if listener in readable and not self.answer(listener):
                return

    def answer(self, listener):
        """Whether to go on."""
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(REQUEST_TIMEOUT_S)
            try:
                request = json.loads(connection.makefile("rb").readline())
                self.delay_ms = request["delay_ms"]
                if self.delay_ms == 0:
                    self.leave()
                connection.sendall(control.encode({"answer": self.delay_ms}))
            except (OSError, ValueError, KeyError) as error:
                print(f"relay: {error}", file=sys.stderr)
        return self.delay_ms != 0


def tap(port):
    """Sees all that comes in at the port, and sends out of it; for that it waits until there is room."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.bind((port, ETH_P_ALL))
    return sock


def receive(sock):
    try:
        return sock.recv(PACKET_MAX, socket.MSG_DONTWAIT)
    except OSError:
        return None  # nothing more, or the host lost power


def move(port, request):
    """Into the bridge or out of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, struct.pack("16si20x", BRIDGE.encode(), socket.if_nametoindex(port)))


def main(number, path, delay_ms):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    subprocess.run(["ip", "-batch", "-"], check=True, text=True, input=f"""
link add r{number} up type veth peer name d{number}
link set d{number} up group {number}
""")
    relay = Relay(number, delay_ms)
    relay.enter()
    os.chdir(os.path.dirname(path))  # a socket's path may have 107 bytes only
    try:
        relay.run(control.listen(os.path.basename(path)))
    finally:
        subprocess.run(["ip", "link", "del", f"r{number}"], check=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
