# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests written in Python: a rig as an object, and unittest results as TAP. Importable from anywhere:

    sys.path.insert(0, ".../tests/rig")
    from hosts import Rig, run_as_tap

    with Rig(1, gpus=["h100"]) as rig:
        rig.exec(1, "gpupoolctl", "status", user="rig-anna")
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

FOLDER = os.path.dirname(os.path.realpath(__file__))
COMMAND_TIMEOUT_S = 120


class Rig:
    """environment: for the services of the hosts; without: services that they do not have; clock: they have clocks of
    their own. Taken down at the latest when the program ends."""

    def __init__(self, count=1, *args, **options):
        self.folder = tempfile.mkdtemp(prefix="gpupool-rig-", dir="/run")
        atexit.register(self.down)
        self.up(count, *args, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def up(self, count, bare=False, gpus=None, destdir=None, environment=None, without=(), clock=False):
        words = ["up", count] + (["--bare"] if bare else []) + (["--clock"] if clock else [])
        words += ["--without", ",".join(without)] if without else []
        words += [] if gpus is None else ["--gpus", ",".join(gpus)]
        words += [] if destdir is None else ["--destdir", destdir]
        words += [word for key, value in (environment or {}).items() for word in ("--env", f"{key}={value}")]
        self.rig(*words)

    def down(self):
        atexit.unregister(self.down)
        self.rig("down")

    def rig(self, *words, check=True, **options):
        """Any verb of the command; the text that it printed."""
        return run([f"{FOLDER}/rig", "--dir", self.folder, *map(str, words)], check, **options).stdout

    @contextlib.contextmanager
    def begin(self, *words):
        """A verb that may take long: its process. What the rig itself has begun by then goes on without it."""
        process = subprocess.Popen([f"{FOLDER}/rig", "--dir", self.folder, *map(str, words)])
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def exec(self, host, *command, user=None, check=True, **options):
        """Runs a command in a host; a CompletedProcess with stdout and stderr as text."""
        return run(self.exec_words(host, *command, user=user), check, **options)

    def exec_words(self, host, *command, user=None):
        """The words that run the command in the host, for one's own Popen."""
        as_user = ["--user", user] if user else []
        return [f"{FOLDER}/rig", "--dir", self.folder, "exec", str(host), *as_user, *command]

    # Trouble. Hosts are numbers.

    def cut(self, one, other=None, one_way=False):
        self.rig("cut", one, *known(other), *(["--one-way"] if one_way else []))

    def heal(self, one=None, other=None):
        """Of the network: everything; or all of one host; or the cuts between two."""
        self.rig("heal", *known(one), *known(other))

    def delay(self, host, ms):
        self.rig("delay", host, ms)

    def loss(self, host, percent):
        self.rig("loss", host, percent)

    def address(self, host, address, names=False):
        self.rig("address", host, address, *(["--names"] if names else []))

    def disk_full(self, host):
        self.rig("diskfull", host)

    def disk_free(self, host):
        self.rig("diskfree", host)

    def clock(self, host, seconds):
        """Steps it; the steps add up."""
        self.rig("clock", host, seconds)

    # Questions

    def status(self, host=None):
        """All facts, or those of one host."""
        facts = json.loads(self.rig("status", "--json"))
        return facts if host is None else next(each for each in facts["hosts"] if each["number"] == host)

    def device(self, host, address):
        """The facts of one device, or None."""
        return next((each for each in self.status(host)["devices"] if each["address"] == address), None)


def known(value):
    return [] if value is None else [value]


def run(words, check, **options):
    options = {"stdin": subprocess.DEVNULL, "timeout": COMMAND_TIMEOUT_S, **options}
    if "input" in options:
        del options["stdin"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def end(process, timeout_s=10):
    """Ends what exec_words() began, and returns when it is gone: the command itself, for which nsenter only waits. One
    that hangs in the kernel is left behind."""
    if process.poll() is not None:
        return
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = file.read().split()
    for pid in children or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    process.kill()
    process.wait()


def wait_until(answer, timeout_s=60, otherwise="it did not come true"):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while not (value := answer()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{otherwise} within {timeout_s} s")
        time.sleep(0.02)
    return value


class TapResult(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.failed = None

    def say(self, test, ok, rest=""):
        name = test.id().rpartition(".")[2].removeprefix("test_").replace("_", " ")
        took_s = time.monotonic() - getattr(self, "began", time.monotonic())
        print(f"{'ok' if ok else 'not ok'} {self.testsRun} - {name}{rest}\n#   {took_s:.2f} s", flush=True)

    def addSuccess(self, test):
        self.say(test, True)

    def addSkip(self, test, reason):
        self.say(test, True, f" # SKIP {reason}")

    def addSubTest(self, test, subtest, error):
        """Only one that failed is told, once for its test: nothing else is said of that."""
        super().addSubTest(test, subtest, error)
        if error is not None:
            if self.failed is not test:
                self.say(test, False)
            self.failed = test
            text = (self.failures if issubclass(error[0], test.failureException) else self.errors)[-1][1]
            print("".join(f"#   {line}\n" for line in f"{subtest}\n{text}".splitlines()), flush=True)

    def addError(self, test, error):
        super().addError(test, error)
        self.say(test, False)
        print("".join(f"#   {line}\n" for line in self.errors[-1][1].splitlines()), flush=True)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say(test, False)
        print("".join(f"#   {line}\n" for line in self.failures[-1][1].splitlines()), flush=True)


def run_as_tap(module="__main__"):
    """Runs the tests of the module, or those named on the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # when it took too long: its rigs go with it
    loader = unittest.TestLoader()
    module = sys.modules[module]
    suite = loader.loadTestsFromNames(sys.argv[1:], module) if sys.argv[1:] else loader.loadTestsFromModule(module)
    print(f"1..{suite.countTestCases()}", flush=True)
    sys.exit(not suite.run(TapResult()).wasSuccessful())
