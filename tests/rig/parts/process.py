# SPDX-License-Identifier: LGPL-2.1-or-later
"""Process: one process, known by pid *and* start time, so that a reused pid is never taken for it."""

import os
import select
import signal


class Process:
    def __init__(self, pid, start):
        self.pid = pid
        self.start = start

    @classmethod
    def of(cls, pid):
        """The living process with that pid. Raises ProcessLookupError."""
        return cls(pid, start_of(pid))

    @classmethod
    def read(cls, path):
        """From a file that write() made; None where there is none or it is cut short."""
        try:
            with open(path) as file:
                pid, start = file.read().split()
            return cls(int(pid), int(start))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, path):
        with open(path + ".new", "w") as file:
            file.write(f"{self.pid} {self.start}\n")
        os.rename(path + ".new", path)

    def open(self):
        """A pidfd of it, or None when it is gone. The start time is checked after the opening."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        try:
            if start_of(self.pid) == self.start:
                return fd
        except ProcessLookupError:
            pass
        os.close(fd)
        return None

    def alive(self):
        fd = self.open()
        if fd is None:
            return False
        os.close(fd)
        return True

    def kill(self, timeout_s=10):
        """SIGKILL, and waits until it is gone. True if it is."""
        fd = self.open()
        if fd is None:
            return True
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return bool(select.select([fd], [], [], timeout_s)[0])
        except ProcessLookupError:
            return True
        finally:
            os.close(fd)


def start_of(pid):
    """Start time in clock ticks since boot; a zombie counts as gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return int(fields[19])
