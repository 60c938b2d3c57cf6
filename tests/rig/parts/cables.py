# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cables: what is wrong between the hosts: who is cut off from whom, whose packets get lost, whose come late.

A fault belongs to the number of a host, not to its card, so it is there again after a restart. Cuts and losses are
rules in the switch (nftables, which knows the port of host N by its group N), made anew as a whole at each change. A
delay is a relay (relay.py), as this needs no help from the kernel.

    FOLDER/cables.json     what is wrong now; FOLDER/cables.lock, held by who changes it
    FOLDER/relayN.pid, .sock"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys

from parts import control, spawner
from parts.process import Process

HOSTS_MAX = 50                  # as many have names
PARTS_OF_ALL = 100_000          # nft has no fractions; so a loss may be as small as 0.001 %
CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELAY_TIMEOUT_S = 60


class Cables:
    def __init__(self, folder, switch):
        self.path = os.path.join(folder, "cables")
        self.folder = folder
        self.switch = switch

    # What an administrator with pliers does

    def cut(self, one, other=None, one_way=False):
        """Packets from one to the other are dropped, and back. other: None for everybody, also for hosts to come."""
        with self.changed() as faults:
            for peer in [other] if other else range(1, HOSTS_MAX + 1):
                faults["cuts"] |= {(one, peer)} if one_way else {(one, peer), (peer, one)}

    def lose(self, number, percent):
        """Percent of the packets to and from the host."""
        with self.changed() as faults:
            faults["loss"][number] = percent

    def delay(self, number, ms):
        """Each packet to and from the host takes so much longer."""
        with self.changed() as faults:
            faults["delay"][number] = ms

    def heal(self, one=None, other=None):
        """Everything; or all of one host; or the cuts between two."""
        with self.changed() as faults:
            if other is not None:
                faults["cuts"] -= {(one, other), (other, one)}
                return
            faults["cuts"] = {cut for cut in faults["cuts"] if one is not None and one not in cut}
            for kind in ("loss", "delay"):
                faults[kind] = {number: value for number, value in faults[kind].items() if one not in (None, number)}

    # What follows from it

    @contextlib.contextmanager
    def changed(self):
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            faults = self.read()
            yield faults
            with open(f"{self.path}.json.new", "w") as file:
                json.dump({**faults, "cuts": sorted(cut for cut in faults["cuts"] if cut[0] != cut[1])}, file)
            os.rename(f"{self.path}.json.new", f"{self.path}.json")
            self.apply(self.read())

    def read(self):
        try:
            with open(f"{self.path}.json") as file:
                known = json.load(file)
        except FileNotFoundError:
            known = {"cuts": [], "loss": {}, "delay": {}}
        return {"cuts": {tuple(cut) for cut in known["cuts"]},
                **{kind: {int(number): value for number, value in known[kind].items() if value}
                   for kind in ("loss", "delay")}}

    def apply(self, faults):
        subprocess.run([*self.switch.enter_command(), "nft", "-f", "-"], input=rules(faults), text=True, check=True)
        late = faults["delay"]
        for number in {*late, *self.relays()}:
            self.set_relay(number, late.get(number, 0))

    def plugged(self, number):
        """The host has a new card: a relay that was there for the old one is of no use."""
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.replace_relay(number, self.read()["delay"].get(number, 0))

    def set_relay(self, number, ms):
        relay = Process.read(self.relay_file(number, "pid"))
        if relay is None or not relay.alive() or not self.switch.has_port(f"h{number}"):
            self.replace_relay(number, ms)
            return
        control.ask(self.relay_file(number, "sock"), RELAY_TIMEOUT_S, delay_ms=ms)
        if ms == 0:
            spawner.wait_until(lambda: not relay.alive(), RELAY_TIMEOUT_S, f"the relay of host {number} stays")
            self.end_relay(number)

    def replace_relay(self, number, ms):
        """A host without power has none: it comes with the card."""
        if os.path.exists(self.relay_file(number, "pid")):
            self.end_relay(number)
        if ms and self.switch.has_port(f"h{number}"):
            self.start_relay(number, ms)

    def start_relay(self, number, ms):
        path = self.relay_file(number, "sock")
        with open(self.relay_file(number, "log"), "a") as log:
            child = spawner.spawn([*self.switch.enter_command(), sys.executable, "-m", "parts.relay", str(number), path,
                                   str(ms)], self.switch.cgroup, cwd=CODE, stdout=log, stderr=log)
        Process.of(child.pid).write(self.relay_file(number, "pid"))
        spawner.wait_until(lambda: os.path.exists(path) or child.poll() is not None, RELAY_TIMEOUT_S,
                           f"the relay of host {number} does not start")
        if child.poll() is not None:
            raise TimeoutError(f"the relay of host {number} ended; see {self.relay_file(number, 'log')}")

    def end_relay(self, number):
        """Leaves nothing of it, in whatever state it is, and the host's card in the bridge."""
        relay = Process.read(self.relay_file(number, "pid"))
        if relay is not None:
            relay.kill()
        if self.switch.has_port(f"r{number}"):
            self.switch.ip("link", "del", f"r{number}")
        if self.switch.has_port(f"h{number}"):
            self.switch.ip("link", "set", f"h{number}", "master", "br0")
        for ending in ("pid", "sock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.relay_file(number, ending))

    def relays(self):
        return [int(name[len("relay"):-len(".pid")]) for name in os.listdir(self.folder)
                if name.startswith("relay") and name.endswith(".pid")]

    def relay_file(self, number, ending):
        return os.path.join(self.folder, f"relay{number}.{ending}")

    def facts(self, number, numbers):
        """What is wrong with the host's cable. numbers: of the hosts that there are."""
        faults = self.read()
        return {"cut_to": [peer for peer in numbers if (number, peer) in faults["cuts"]],
                "cut_from": [peer for peer in numbers if (peer, number) in faults["cuts"]],
                "loss_percent": faults["loss"].get(number, 0), "delay_ms": faults["delay"].get(number, 0)}


def rules(faults):
    """A transaction: the old rules hold until the new ones do. What is cut in one way only still lets the other side
    learn where to send to; else the other way would be cut too, as soon as the neighbour's entry is too old."""
    one_way = {(one, other) for one, other in faults["cuts"] if (other, one) not in faults["cuts"]}
    losses = [f"meta {way}group {number} numgen random mod {PARTS_OF_ALL} <= {share - 1} drop"
              for number, percent in sorted(faults["loss"].items())
              if (share := round(percent / 100 * PARTS_OF_ALL)) > 0 for way in ("iif", "oif")]
    return "\n".join([
        "table bridge cables",
        "delete table bridge cables",
        "table bridge cables {",
        *pairs("cut", faults["cuts"] - one_way),
        *pairs("one_way", one_way),
        "chain on_the_way {",
        "type filter hook forward priority 0; policy accept;",
        "meta iifgroup . meta oifgroup @cut drop",
        "meta iifgroup . meta oifgroup @one_way ether type arp accept",
        "meta iifgroup . meta oifgroup @one_way icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        "meta iifgroup . meta oifgroup @one_way drop",
        *losses,
        "}",
        "}\n"])


def pairs(name, cuts):
    elements = ", ".join(f"{one} . {other}" for one, other in sorted(cuts))
    return [f"set {name} {{", "typeof meta iifgroup . meta oifgroup",
            f"elements = {{ {elements} }}" if elements else "", "}"]
