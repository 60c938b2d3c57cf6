# SPDX-License-Identifier: LGPL-2.1-or-later
"""Spawner: starts the processes that outlive the command `rig`: in a cgroup before their first instruction, in a
session of their own, without any of the caller's files."""

import os
import subprocess
import time


def spawn(command, cgroup, **options):
    return subprocess.Popen(command, preexec_fn=cgroup.join, start_new_session=True, close_fds=True,
                            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
                               **options})


def wait_for_own_network(pid, timeout_s=60):
    """Until unshare(1) has done its work in pid."""
    ours = os.readlink("/proc/self/ns/net")
    wait_until(lambda: os.readlink(f"/proc/{pid}/ns/net") != ours, timeout_s, f"process {pid} has no network namespace")


def only_child_of(pid, timeout_s=60):
    def children():
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    return int(wait_until(children, timeout_s, f"process {pid} has no child")[0])


def wait_until(answer, timeout_s, otherwise, pause_s=0.01):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = answer()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(pause_s)
