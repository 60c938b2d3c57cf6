# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that write without pause while hosts die: each write is sent until somebody says whether it happened, always
with the same request id. So in the end each one is there, once."""

import collections
import itertools
import os
import threading
import time

from bus import Bus, Refused
from product import MANAGER, POOL, ROOT

# The error says that it surely did not happen, or leaves it open: in both cases the same request is sent again.
SURELY_NOT = ("NoQuorum", "StorageFull", "Busy")
OPEN = ("OutcomeUnknown", "NoReply", "Disconnected", "ServiceUnknown", "NameHasNoOwner", "Timeout")
PATIENCE_S = 120
CALLS_AT_ONCE = 16              # QuestionsPerUser=
SERIAL = itertools.count()      # one cluster sees many writers, and each pool must be made once in its life


class Writer(threading.Thread):
    """Creates pools NAME.N-0, NAME.N-1, ... on one host until count are acknowledged, or until stop(); N is the
    writer's own."""

    def __init__(self, rig, host, name, count=None, moves=()):
        super().__init__(daemon=True)
        self.rig, self.host, self.name_, self.count = rig, host, f"{name}.{next(SERIAL)}", count
        self.hosts = [host, *moves]     # where to go on when a host is gone
        self.acknowledged, self.retried, self.trouble = [], 0, None
        self.ended = threading.Event()
        self.stopping = False

    def run(self):
        try:
            self.write_all()
        except Exception as problem:                            # pylint: disable=broad-exception-caught
            self.trouble = problem
        finally:
            self.ended.set()

    def stop(self):
        self.stopping = True
        self.result()

    def result(self, timeout_s=PATIENCE_S * 2):
        """Waits for the end; the names that were acknowledged."""
        assert self.ended.wait(timeout_s), f"writer {self.name_} has not ended: {len(self.acknowledged)} done"
        if self.trouble:
            raise AssertionError(f"writer {self.name_}: {self.trouble!r}") from self.trouble
        return self.acknowledged

    def write_all(self):
        bus, number = None, 0
        try:
            while not self.stopping and (self.count is None or number < self.count):
                bus = self.write(bus, f"{self.name_}-{number}")
                self.acknowledged.append(f"{self.name_}-{number}")
                number += 1
        finally:
            if bus:
                bus.close()

    def write(self, bus, pool):
        request = {"request-id": ["ay", list(os.urandom(16))]}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                bus = bus or Bus(self.rig, host=self.hosts[0])
                bus.call(ROOT, MANAGER, "CreatePool", "sa{sv}", pool, request)
                return bus
            except Refused as refused:
                if refused.name not in SURELY_NOT + OPEN:
                    raise
                if len(self.hosts) > 1 and refused.name in OPEN + SURELY_NOT:
                    bus.close()
                    bus = None
            except (ConnectionError, BrokenPipeError, OSError):
                bus = None
            self.retried += 1
            if bus is None:
                self.hosts.append(self.hosts.pop(0))
            assert time.monotonic() < deadline, f"{pool} is not written within {PATIENCE_S} s"


def check_all_there(cluster, writers, asked):
    """Every acknowledged pool is there, on each of the hosts asked, and was made once, as far as the audit trail reaches
    back. The names."""
    names = {name for writer in writers for name in writer.result()}
    view = cluster.wait_same_view(asked, PATIENCE_S)
    there = {properties["Name"] for (_, interface), properties in view.items() if interface == POOL}
    lost = names - there
    assert not lost, f"{len(lost)} acknowledged writes are lost: {sorted(lost)[:5]}"
    made = collections.Counter(event[3] for event in events(cluster.hosts[asked[0]]) if event[2] == "pool-created")
    twice = [path for path, count in made.items() if count > 1]
    assert made and not twice, f"made twice: {twice}"
    return names


def events(host):
    return host.bus().call(ROOT, MANAGER, "Events", "tu", 0, 0)[0]


def delete_pools(host):
    """Many at once: one by one, a write of a follower waits for its leader's next heartbeat."""
    bus = host.bus()
    paths = [path for path, interfaces in host.objects().items() if POOL in interfaces]
    for begin in range(0, len(paths), CALLS_AT_ONCE):
        for number in [bus.send(path, POOL, "Delete", "a{sv}", {}) for path in paths[begin:begin + CALLS_AT_ONCE]]:
            bus.answer(number)
