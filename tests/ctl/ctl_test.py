# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs gpupoolctl against the mock service, through pipes or on a terminal of a given width, and reports as TAP."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import traceback

import gi

gi.require_version('Gio', '2.0')

from gi.repository import GLib  # noqa: E402

import world  # noqa: E402
from mock_service import LATER, ROOT, PrivateBus, Refused, Service  # noqa: E402

GPUPOOLCTL = os.environ['GPUPOOLCTL']
DEADLINE_S = 60
__all__ = ['Case', 'LATER', 'ROOT', 'Refused', 'main', 'same', 'world']


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):
        return json.loads(self.out)


def same(have, want):
    if have != want:
        raise AssertionError(f'have: {have!r}\nwant: {want!r}')


class Case:
    """What a test function gets: the mock service with a fresh small cluster, and run()."""

    def __init__(self, bus, service):
        self.bus, self.service = bus, service
        self.context = GLib.MainContext.default()
        service.set_objects(world.cluster())
        service.on.update(Events=self.events, Check=lambda _: world.FINDINGS, Explain=lambda _: world.EXPLANATION,
                          Plan=lambda _: world.PLAN)

    @staticmethod
    def events(call):
        return [e for e in world.EVENTS if e[0] > call.arguments[0]]

    def environment(self, more):
        keep = {k: v for k, v in os.environ.items() if k in ('PATH', 'LD_LIBRARY_PATH') or k.endswith('SAN_OPTIONS')}
        return keep | {'LC_ALL': 'C.UTF-8', 'TZ': 'UTC', 'TERM': 'dumb',
                       'DBUS_SYSTEM_BUS_ADDRESS': self.bus.address} | more

    def run(self, *words, columns=None, stdin='', env=None, when=None, user=None):
        """With @columns on a terminal of that width, else through pipes. @when: {text: function(write)} called once, as
        soon as the text, or one that the pattern fits, has been shown."""
        command = [GPUPOOLCTL, *words]
        if user is not None:
            command = ['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', *command]
        if columns:
            return self.run_on_terminal(command, columns, self.environment(env or {}), when or {})
        return self.run_in_pipes(command, stdin, self.environment(env or {}), when or {})

    def run_in_pipes(self, command, stdin, environment, when):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment)
        with contextlib.suppress(BrokenPipeError):      # who is refused before its input is read does not wait for it
            process.stdin.write(stdin.encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        self.serve(process, streams, when, lambda text: process.send_signal(signal.SIGINT))
        out, err = (bytes(text).decode() for text in streams.values())
        process.stdout.close()
        process.stderr.close()
        return Result(process.returncode, out, err)

    def run_on_terminal(self, command, columns, environment, when):
        process_id, terminal = pty.fork()
        if process_id == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 50, columns, 0, 0))
            os.execvpe(command[0], command, environment)
        process = Forked(process_id)
        streams = {terminal: bytearray()}
        self.serve(process, streams, when, lambda text: os.write(terminal, text.encode()))
        os.close(terminal)
        return Result(process.returncode, bytes(streams[terminal]).decode().replace('\r\n', '\n'), '')

    def serve(self, process, streams, when, write):
        """Answers as the service until the program has ended and all that it wrote was read."""
        waiting, open_streams = dict(when), set(streams)

        def on_output(fd, _condition):
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b''
            streams[fd] += data
            if not data:
                open_streams.discard(fd)
                return False
            seen = b''.join(streams.values()).decode(errors='replace')
            for text in [t for t in waiting if (t.search(seen) if isinstance(t, re.Pattern) else t in seen)]:
                waiting.pop(text)(write)
            return True

        timed_out = []
        timer = GLib.timeout_add_seconds(DEADLINE_S, lambda: timed_out.append(True) or process.kill())
        for fd in streams:
            GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, fd, GLib.IO_IN | GLib.IO_HUP, on_output)
        while open_streams:
            self.context.iteration(True)
        process.wait()
        if timed_out:
            raise AssertionError(f'not ended after {DEADLINE_S} s; it wrote: {streams}')
        GLib.source_remove(timer)
        if waiting:
            raise AssertionError(f'never shown: {list(waiting)}; it wrote: {streams}')

    def later(self, function, milliseconds=0):
        """In one of the next turns of the loop, when what was sent before has left."""
        GLib.timeout_add(milliseconds, lambda: function() and False)

    def called(self, method):
        return [c for c in self.service.calls if c.method == method]

    def the_call(self, method):
        calls = self.called(method)
        same(len(calls), 1)
        return calls[0]


class Forked:
    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def wait(self):
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def tests_of(module):
    return [(name[len('test_'):].replace('_', ' '), value) for name, value in vars(module).items()
            if name.startswith('test_')]


def main():
    """Runs every function test_… of the calling script; words on the command line choose those that have them."""
    module = sys.modules['__main__']
    suite = pathlib.Path(sys.argv[0]).name.removeprefix('test-')
    tests = [t for t in tests_of(module) if all(w in t[0] for w in sys.argv[1:])]
    bus = PrivateBus()
    service = Service(bus.address)
    failed = 0
    print(f'1..{len(tests)}', flush=True)
    for number, (name, function) in enumerate(tests, 1):
        try:
            function(Case(bus, service))
            print(f'ok {number} - {suite}: {name}', flush=True)
        except Exception:  # a test's own fault must not hide the others
            failed += 1
            print(f'not ok {number} - {suite}: {name}')
            print('\n'.join('# ' + line for line in traceback.format_exc().split('\n')), flush=True)
    bus.close()
    sys.exit(1 if failed else 0)
