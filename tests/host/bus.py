# SPDX-License-Identifier: LGPL-2.1-or-later
"""A connection to the bus of a host, held by wire.py inside of it."""

import json
import os
import pathlib
import select
import subprocess
import time

CODE = (pathlib.Path(__file__).resolve().parent / "wire.py").read_text()
DEADLINE_S = 60
NAME = "org.gpupool1"
MAY_ASK = 4             # flag: the caller can answer a question of polkit


class Refused(Exception):
    """An error that a call came back with."""

    def __init__(self, name, sentence):
        super().__init__(f"{name}: {sentence}")
        self.name = name.removeprefix("org.gpupool1.Error.").removeprefix("org.freedesktop.DBus.Error.")
        self.sentence = sentence


class Bus:
    """One connection, as one user. Calls may be left open: send() and then answer()."""

    def __init__(self, rig, user=None, host=1):
        words = rig.exec_words(host, "python3", "-c", CODE, user=user)
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.data, self.count, self.answers, self.signals = b"", 0, {}, []
        self.name = self.until(lambda: self.answers.get("hello"), "the bus is not there")["name"]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def read(self, timeout_s):
        if not select.select([self.process.stdout], [], [], max(0, timeout_s))[0]:
            return
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        if not data:
            self.process.wait()         # so that who asks whether it lives is not told yes
            raise ConnectionError("the connection to the host's bus is gone")
        *lines, self.data = (self.data + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "signal" in said:
                self.signals.append(said)
            else:
                self.answers[said.get("id", "hello")] = said

    def until(self, true, otherwise, timeout_s=DEADLINE_S):
        deadline = time.monotonic() + timeout_s
        while not (value := true()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise} within {timeout_s} s")
            self.read(deadline - time.monotonic())
        return value

    def send(self, path, interface, member, signature="", *arguments, destination=NAME, **more):
        self.count += 1
        order = {"id": self.count, "destination": destination, "path": path, "interface": interface, "member": member,
                 "signature": signature, "arguments": arguments, **more}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return self.count

    def answer(self, number, timeout_s=DEADLINE_S):
        """What the call came back with; raises Refused."""
        self.until(lambda: number in self.answers, "the call was not answered", timeout_s)
        said = self.answers.pop(number)
        if "error" in said:
            raise Refused(said["error"], said["sentence"])
        return said["values"]

    def call(self, *words, timeout_s=DEADLINE_S, **more):
        return self.answer(self.send(*words, **more), timeout_s)

    def error(self, *words, **more):
        """The name of the error that the call must come back with, without what all have in common."""
        try:
            values = self.call(*words, **more)
        except Refused as refused:
            return refused.name
        raise AssertionError(f"{words} was not refused: {values}")

    def get(self, path, interface, name):
        return self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, name)[0]

    def has_owner(self, name):
        return self.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", name,
                         destination="org.freedesktop.DBus")[0]

    # ---- signals

    def listen(self, rule=f"type='signal',sender='{NAME}'"):
        self.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule,
                  destination="org.freedesktop.DBus")
        self.signals.clear()

    def hear(self, fits, timeout_s=DEADLINE_S):
        """The first signal that fits, of those since listen(); what came before it is forgotten."""
        def look():
            while self.signals:
                said = self.signals.pop(0)
                if fits(said):
                    return said
            return None
        return self.until(look, "the signal did not come", timeout_s)
