# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that measure on demand (series.h), inside the hosts of a rig; and how numbers are told. Imported after
product.py, which takes the build folder from the command line."""

import select
import subprocess

import product

BENCH = f"{product.BUILD}/tests/bench"
ANSWER_S = 120


class Series:
    """A program of series.h in a host."""

    def __init__(self, rig, host, name, *arguments):
        self.name = name
        self.process = subprocess.Popen(rig.exec_words(host, f"{BENCH}/{name}", *arguments), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.line() == "ready", f"{name} does not start"

    def line(self):
        assert select.select([self.process.stdout], [], [], ANSWER_S)[0], f"{self.name} does not answer"
        return self.process.stdout.readline().strip()

    def begin(self, what, count):
        self.process.stdin.write(f"{what} {count}\n")

    def end(self):
        """Milliseconds, or None if it was refused."""
        line = self.line()
        return None if not line or line.startswith("refused") else [float(word) / 1e3 for word in line.split()]

    def run(self, what, count):
        self.begin(what, count)
        times = self.end()
        assert times is not None, f"{self.name} refuses {what}"
        return times

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def say(text):
    print(f"# {text}", flush=True)


def share(times, part):
    return sorted(times)[int(len(times) * part)]


def row(name, times, *against):
    """The fastest tenth tells what it takes where nothing else runs."""
    ratios = "".join(f"   x {share(times, .5) / share(bare, .5):.2f} ({share(times, .1) / share(bare, .1):.2f}) of "
                     f"{what}" for what, bare in against)
    say(f"{name:42} median {share(times, .5):6.2f} ms   (10 % {share(times, .1):5.2f}, 95 % {share(times, .95):6.2f})"
        f"{ratios}")
