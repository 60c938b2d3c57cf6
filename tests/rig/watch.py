# SPDX-License-Identifier: LGPL-2.1-or-later
"""The judge of P1 and P2, from outside: looks every 10 ms at the threads of all virtual CPUs of all hosts.

A VM runs on a host when one of its virtual CPUs may run: it has run (each qemu starts with all of them paused, and such
a thread does next to nothing), is not stopped (SIGSTOP), neither dead nor killed, and its host is not frozen. Nobody is
asked: neither the product nor libvirt nor qemu.

    watch = Watch(rig)
    watch.when("bert", host=2)          # since when it runs there
    watch.check()                       # it never ran twice

As a program (`watch.py FOLDER`) it looks, and writes what changes to FOLDER/watch, a JSON object a line:

    {"at": monotonic seconds, "host": 1, "pid": of qemu, "vm": its name, "uuid": its, "groups": of its devices,
     "state": "paused", "runs", "stopped", "frozen" or "gone"}
    {"at": ..., "host": 1, "frozen": true or false}"""

import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from parts.base import Base                             # noqa: E402

EVERY_S = 0.01
SEARCHED_EVERY = 5              # looks between two for new processes; from exec to resume is never as short as that
RAN_NS = 10_000_000             # a virtual CPU that was never resumed has run for less than 1 ms; the first 60 ms of
#                                 firmware come at once
PRIORITY = 1                    # SCHED_RR; below that of the guard
GAP_S = 0.25                    # not having looked for longer than that is not having looked
# A host that was frozen and goes on may run its old VMs until its guard was scheduled and has killed them. It has
# realtime priority, but here all hosts share two processors.
THAW_WINDOW_S = 1
# Of a thread in /proc: it will never be in its program again, though it may be awake for a while in order to die.
EXITING = 0x4
KILLED = 1 << (signal.SIGKILL - 1)
WORDS = re.compile(rb"-name\0guest=([^,\0]*).*-uuid\0([0-9a-f-]{36})\0", re.S)
DEVICES = re.compile(rb"(?:^|\0)RIG_GROUPS=([^\0]*)")


# ---- looking

class Qemu:
    """One process, by the threads of its virtual CPUs."""

    def __init__(self, pid, name, uuid):
        self.pid, self.name, self.uuid = pid, name, uuid
        self.groups, self.threads, self.state = None, {}, None

    def find_threads(self):
        try:
            for tid in os.listdir(f"/proc/{self.pid}/task"):
                if tid not in self.threads and read(f"/proc/{self.pid}/task/{tid}/comm").startswith(b"CPU "):
                    folder = f"/proc/{self.pid}/task/{tid}"
                    self.threads[tid] = [os.open(f"{folder}/{name}", os.O_RDONLY) for name in ("stat", "schedstat")]
            if self.threads and self.groups is None:
                said = DEVICES.search(read(f"/proc/{self.pid}/environ"))
                self.groups = said[1].decode().split() if said else []
        except (FileNotFoundError, ProcessLookupError):
            pass

    def look(self, frozen):
        """What it does now."""
        if not self.threads:
            return "paused" if os.path.exists(f"/proc/{self.pid}/cmdline") else "gone"
        states = {state for state in map(self.state_of, self.threads.values()) if state != "gone"}
        if "runs" in states:
            return "frozen" if frozen else "runs"
        return "stopped" if "stopped" in states else "paused" if states else "gone"

    @staticmethod
    def state_of(files):
        try:
            words = os.pread(files[0], 512, 0).rpartition(b")")[2].split()
            state, flags, pending = words[0], int(words[6]), int(words[28])
            if state in b"ZX" or flags & EXITING or pending & KILLED:
                return "gone"
            if int(os.pread(files[1], 64, 0).split()[0]) < RAN_NS:
                return "paused"
            return "stopped" if state in b"Tt" else "runs"
        except ProcessLookupError:
            return "gone"

    def close(self):
        for files in self.threads.values():
            for file in files:
                os.close(file)
        self.threads.clear()


class HostWatch:
    def __init__(self, number, cgroup, say):
        self.number, self.cgroup, self.say = number, cgroup, say
        self.events = os.open(f"{cgroup}/cgroup.events", os.O_RDONLY)
        self.frozen, self.qemus = False, {}

    def look(self, search):
        frozen = b"frozen 1" in os.pread(self.events, 256, 0)
        if frozen != self.frozen:
            self.frozen = frozen
            self.say({"host": self.number, "frozen": frozen})
        if search:
            self.search()
        for qemu in self.qemus.values():
            state = "gone" if qemu.state == "gone" else qemu.look(frozen)
            if state == qemu.state:
                continue
            qemu.state = state
            self.say({"host": self.number, "pid": qemu.pid, "vm": qemu.name, "uuid": qemu.uuid,
                      "groups": qemu.groups or [], "state": state})
            if state == "gone":
                qemu.close()

    def search(self):
        there = set()
        for folder, _, _ in os.walk(self.cgroup):
            for pid in map(int, read(f"{folder}/cgroup.procs").split()):
                there.add(pid)
                if pid not in self.qemus:
                    try:
                        words = WORDS.search(read(f"/proc/{pid}/cmdline"))
                    except (FileNotFoundError, ProcessLookupError):
                        continue
                    if not words:
                        continue
                    self.qemus[pid] = Qemu(pid, words[1].decode(), words[2].decode())
                if self.qemus[pid].state != "gone":
                    self.qemus[pid].find_threads()
        for pid in self.qemus.keys() - there:
            if self.qemus[pid].state == "gone":
                del self.qemus[pid]


def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(65536)


def watch(folder):
    base = Base(folder)
    at, longest_s, looks, busy_s = time.monotonic(), 0, 0, 0
    with open(f"{folder}/watch.new", "w") as file:
        def say(what):
            file.write(json.dumps({"at": at, **what}) + "\n")
            file.flush()
        hosts = [HostWatch(host.number, host.cgroup.path, say) for host in base.hosts()]
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
        except PermissionError:
            pass
        os.rename(f"{folder}/watch.new", f"{folder}/watch")
        over = []
        signal.signal(signal.SIGTERM, lambda *_: over.append(True))
        while not over and os.getppid() != 1:
            for host in hosts:
                host.look(looks % SEARCHED_EVERY == 0)
            looks += 1
            done = time.monotonic()
            busy_s += done - at
            time.sleep(max(EVERY_S - (done - at), 0.001))
            now = time.monotonic()
            longest_s = max(longest_s, now - at)
            if now - at > GAP_S:
                say({"gap_s": now - at})
            at = now
        say({"looks": looks, "longest_s": longest_s, "mean_busy_s": busy_s / looks})


# ---- judging

Run = collections.namedtuple("Run", "uuid vm host pid groups begin end thawed")


def runs(history, now):
    """All times of running, from what watch() wrote: a Run for each. A freeze ends it, and after the thaw there is
    another one. thawed: when the host last went on before it began. What was over when the judge could look again had
    ended when it last had looked, for all that is known: it accuses nobody of what it did not see."""
    open_, done, thawed = {}, [], {}
    looked = at_last = None
    for said in history:
        if "gap_s" in said:
            looked, at_last = said["at"], said["at"] + said["gap_s"]
        if "frozen" in said and not said["frozen"]:
            thawed[said["host"]] = said["at"]
        if "state" not in said:
            continue
        key = said["host"], said["pid"]
        if said["state"] == "runs" and key not in open_:
            open_[key] = Run(said["uuid"], said["vm"], *key, tuple(said["groups"]), said["at"], None,
                             thawed.get(said["host"]))
        elif said["state"] != "runs" and key in open_:
            unseen = at_last is not None and abs(said["at"] - at_last) < EVERY_S / 2
            done.append(open_.pop(key)._replace(end=looked if unseen else said["at"]))
    return sorted([*done, *(run._replace(end=now) for run in open_.values())], key=lambda run: run.begin)


def violations(found):
    """Sentences, and the lengths of the windows after thaws that are allowed for."""
    sentences, windows = [], []
    for at, one in enumerate(found):
        for other in found[at + 1:]:
            begin, end = max(one.begin, other.begin), min(one.end, other.end)
            if begin >= end:
                continue
            if one.uuid == other.uuid:
                went_on = next((run for run in (one, other) if run.thawed == run.begin), None)
                if went_on and one.host != other.host and end - went_on.thawed <= THAW_WINDOW_S:
                    windows.append(end - went_on.thawed)
                    continue
                sentences.append(f"P1: {one.vm} ran twice for {(end - begin) * 1e3:.0f} ms: on host {one.host} as pid "
                                 f"{one.pid} from {one.begin:.3f} to {one.end:.3f}, and on host {other.host} as pid "
                                 f"{other.pid} from {other.begin:.3f} to {other.end:.3f}")
            elif one.host == other.host and (shared := set(one.groups) & set(other.groups)):
                sentences.append(f"P2: {one.vm} and {other.vm} had group {' '.join(sorted(shared))} of host {one.host} "
                                 f"for {(end - begin) * 1e3:.0f} ms from {begin:.3f}")
    return sentences, windows


class Watch:
    """Looks at all hosts that the rig has when this is made, until close()."""

    def __init__(self, rig):
        self.file = pathlib.Path(rig.folder) / "watch"
        self.file.unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, __file__, rig.folder])
        while not self.file.exists():
            assert self.process.poll() is None, "nobody watches"
            time.sleep(0.01)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def close(self):
        """Ends the watch; what check() says, and how well it looked."""
        self.end()
        return self.check(over=True)

    def history(self):
        text = self.file.read_text()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def runs(self, vm=None):
        return [run for run in runs(self.history(), time.monotonic()) if vm is None or run.vm == vm]

    def check(self, over=False):
        """Raises if anything ran twice, or if nobody looked. Says how it was, for people."""
        assert over or self.process.poll() is None, "nobody watches any more"
        sentences, windows = violations(self.runs())
        assert not sentences, "\n".join(sentences)
        last = self.history()[-1] if over else {}
        text = f"{len(self.runs())} runs of VMs, none twice"
        if windows:
            text += f"; after thaws old ones lived for {', '.join(f'{window * 1e3:.0f}' for window in windows)} ms"
        if "looks" in last:
            text += (f"; looked {last['looks']} times, at most {last['longest_s'] * 1e3:.0f} ms apart, for "
                     f"{last['mean_busy_s'] * 1e3:.2f} ms")
        return text

    def when(self, vm, host=None, after=0):
        """The first time after that at which the VM began to run (there), or None."""
        return next((run.begin for run in self.runs(vm) if run.begin > after and host in (None, run.host)), None)

    def living(self):
        """What runs now."""
        now = time.monotonic()
        return [run for run in runs(self.history(), now) if run.end == now]

    def where(self, vm):
        """Numbers of the hosts on which it runs now."""
        return sorted({run.host for run in self.living() if run.vm == vm})


if __name__ == "__main__":
    watch(sys.argv[1])
