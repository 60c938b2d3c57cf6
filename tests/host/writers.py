# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that write without pause while hosts die: each write is sent until somebody says whether it happened, always
with the same request id. So in the end each one is there, once. And the tests in which they do."""

import collections
import contextlib
import itertools
import os
import sqlite3
import threading
import time

import cluster as clusters
from bus import Bus, Refused
from product import MANAGER, POOL, ROOT, SLOW_S, wait_until

# The error says that it surely did not happen, or leaves it open: in both cases the same request is sent again.
SURELY_NOT = ("NoQuorum", "StorageFull", "Busy")
OPEN = ("OutcomeUnknown", "NoReply", "Disconnected", "ServiceUnknown", "NameHasNoOwner", "Timeout")
GONE = ("UnknownObject", "NotFound")
KEPT = 100                      # of the pools of one endless writer; a cluster has at most 1024
PATIENCE_S = 120
REFUSED_S = 30                  # within which a minority refuses a write, on a busy machine
CALLS_AT_ONCE = 16              # QuestionsPerUser=, by default
SERIAL = itertools.count()      # one cluster sees many writers, and each pool must be made once in its life


class Writer(threading.Thread):
    """Creates pools NAME.N-0, NAME.N-1, ... on one host until count are acknowledged; N is the writer's own. Without a
    count until stop(): then it deletes its oldest ones, for there is a limit."""

    def __init__(self, rig, host, name, count=None, moves=()):
        super().__init__(daemon=True)
        self.rig, self.host, self.name_, self.count = rig, host, f"{name}.{next(SERIAL)}", count
        self.hosts = [host, *moves]     # where to go on when a host is gone
        self.acknowledged, self.deleted, self.paths = [], [], []
        self.retried, self.trouble = 0, None
        self.ended = threading.Event()
        self.stopping, self.bus = False, None

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
        number = 0
        try:
            while not self.stopping and (self.count is None or number < self.count):
                name = f"{self.name_}-{number}"
                self.paths += self.write(ROOT, MANAGER, "CreatePool", "sa{sv}", name)
                self.acknowledged.append(name)
                number += 1
                if self.count is None and len(self.paths) > KEPT:
                    self.write(self.paths.pop(0), POOL, "Delete", "a{sv}")
                    self.deleted.append(self.acknowledged[len(self.deleted)])
        finally:
            if self.bus:
                self.bus.close()

    def write(self, *words):
        """Asks until somebody says that it is done; what the call came back with."""
        request = {"request-id": ["ay", list(os.urandom(16))]}
        deadline = time.monotonic() + PATIENCE_S
        retried = False
        while True:
            try:
                self.bus = self.bus or Bus(self.rig, host=self.hosts[0])
                return self.bus.call(*words, request)
            except Refused as refused:
                if retried and words[2] == "Delete" and refused.name in GONE:
                    return []
                if refused.name not in SURELY_NOT + OPEN:
                    raise
                if len(self.hosts) > 1:
                    self.bus.close()
                    self.bus = None
            except (ConnectionError, BrokenPipeError, OSError):
                self.bus = None
            retried = True
            self.retried += 1
            if self.bus is None:
                self.hosts.append(self.hosts.pop(0))
            assert time.monotonic() < deadline, f"{words} is not done within {PATIENCE_S} s"


def check_all_there(cluster, writers, asked):
    """Every acknowledged pool is there, on each of the hosts asked, and was made once, as far as the audit trail
    reaches back. The names."""
    names = {name for writer in writers for name in writer.result()[len(writer.deleted):]}
    # What was committed last is shown where there is a leader: without one, who was killed does not know it yet.
    view = cluster.wait_same_view(asked, PATIENCE_S, lambda view: view[ROOT, MANAGER]["Quorate"])
    there = {properties["Name"] for (_, interface), properties in view.items() if interface == POOL}
    lost = names - there
    undead = {name for writer in writers for name in writer.deleted} & there
    assert not undead, f"{len(undead)} acknowledged deletions are lost: {sorted(undead)[:5]}"
    assert not lost, f"{len(lost)} acknowledged writes are lost: {sorted(lost)[:5]}"
    paths = {path for writer in writers for path in writer.paths}
    made = collections.Counter(event[3] for event in events(cluster.hosts[asked[0]])
                               if event[2] == "pool-created" and event[3] in paths)
    twice = [path for path, count in made.items() if count > 1]
    assert made and not twice, f"made twice: {twice}"
    return names


def events(host):
    """All that are kept; one answer holds some of them."""
    found = []
    while more := host.bus().call(ROOT, MANAGER, "Events", "tu", found[-1][0] if found else 0, 0)[0]:
        found += more
    return found


def write_all(bus, calls, at_once=CALLS_AT_ONCE):
    """Many at once: one by one, a write of a follower waits for its leader's next heartbeat. All are done when it
    returns, however often one had to be sent again as another leader was elected meanwhile. calls: without the final
    options."""
    todo, sent = collections.deque((call, {"request-id": ["ay", list(os.urandom(16))]}) for call in calls), {}
    deadline = time.monotonic() + PATIENCE_S + len(todo) / 10
    while todo or sent:
        while todo and len(sent) < at_once:
            call, request = todo.popleft()
            sent[bus.send(*call, request)] = call, request
        number = next(iter(sent))
        call, request = sent.pop(number)
        try:
            bus.answer(number)
        except Refused as refused:
            if refused.name in GONE and call[2] == "Delete":
                continue
            if refused.name not in SURELY_NOT + OPEN or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
            todo.append((call, request))


def delete_pools(host):
    paths = [path for path, interfaces in host.objects().items() if POOL in interfaces]
    write_all(host.bus(), [(path, POOL, "Delete", "a{sv}") for path in paths])


def flood(host, count, at_once=CALLS_AT_ONCE):
    """Makes count entries of the registry as fast as one connection to one host can, all of them acknowledged: the
    reserve of a pool grows. Returns the pool's path and its reserve."""
    bus, made = host.bus(), next(SERIAL)
    write_all(bus, [(ROOT, MANAGER, "CreatePool", "sa{sv}", f"flood{made}")])
    pool, = bus.call(ROOT, MANAGER, "GetPool", "s", f"flood{made}")
    write_all(bus, [(pool, POOL, "SetPolicy", "a{sv}a{sv}", {"reserve": ["u", number]}) for number in range(count - 2)],
              at_once)
    write_all(bus, [(pool, POOL, "SetPolicy", "a{sv}a{sv}", {"reserve": ["u", count]})])
    return pool, count


def registry(host):
    """The indexes of the snapshot and of the last entry in the registry's file of a host whose gpupoold is stopped."""
    with contextlib.closing(sqlite3.connect(host.folder / "state" / "registry.db")) as file:
        return tuple(file.execute(f"SELECT max(idx) FROM {table}").fetchone()[0] or 0
                     for table in ("snapshot", "entry"))


class Case(clusters.Case):
    CLIENTS = 4

    def setUp(self):
        super().setUp()
        self.rig = self.cluster.rig
        self.addCleanup(self.mend)
        self.cluster.wait_quorate()

    def mend(self):
        """Whatever the test left, also where it failed."""
        self.rig.heal()
        for number, host in self.hosts.items():
            self.rig.disk_free(number)
            services = self.rig.status(number)["services"]
            if not services:
                self.cluster.power_on(number)
            elif not services["gpupoold"]["pid"]:
                self.cluster.start(number)
            wait_until(lambda host=host: clusters.is_there(host), SLOW_S, f"host {number} does not come back")
        self.cluster.wait_quorate()
        self.cluster.wait_same_view(timeout_s=PATIENCE_S)       # else host 1 may not know of all
        delete_pools(self.hosts[1])

    def writers(self, count, hosts=None, moving=False):
        """Clients on these hosts (default: all members) in turn, started. count: of the writes of all of them together;
        None: until they are stopped. moving: to another of the hosts when theirs is gone."""
        hosts = hosts or self.cluster.members()
        made = []
        for number in range(self.CLIENTS):
            host = hosts[number % len(hosts)]
            others = [other for other in hosts if other != host] if moving else ()
            made.append(Writer(self.rig, host, "w", count and count // self.CLIENTS, others))
        for writer in made:
            self.addCleanup(writer.stop)
            writer.start()
        return made

    def assert_refuses_writes(self, number):
        """As one of a minority, which knows that it is."""
        wait_until(lambda: not self.hosts[number].manager()["Quorate"], SLOW_S,
                   f"host {number} holds itself for quorate")
        begun = time.monotonic()
        self.assertEqual(self.hosts[number].bus().error(ROOT, MANAGER, "CreatePool", "sa{sv}", "never", {}), "NoQuorum")
        self.assertLess(time.monotonic() - begun, REFUSED_S)

    def wait_for_writes(self, writers, count):
        """Until so many were acknowledged since they began."""
        wait_until(lambda: written(writers) >= count or any(writer.trouble for writer in writers), SLOW_S * 4,
                   f"{count} writes are not done")

    def wait_for_more(self, writers, count=20):
        """They go on."""
        self.wait_for_writes(writers, written(writers) + count)

    def finish(self, writers, numbers=None):
        """All of theirs is there, on all these hosts (default: all members). The names."""
        return check_all_there(self.cluster, writers, numbers or self.cluster.members())

    def stop_and_finish(self, writers, numbers=None):
        for writer in writers:
            writer.stopping = True
        return self.finish(writers, numbers)


def written(writers):
    return sum(len(writer.acknowledged) for writer in writers)
