# SPDX-License-Identifier: LGPL-2.1-or-later
"""Control: one JSON object a line there and one back, over a Unix socket. Each host's pid 1 and sysfs have one."""

import contextlib
import json
import os
import socket


class Refused(Exception):
    """The other side said no; its sentence is the text."""


PATIENCE_S = 60         # with the other end, however busy the machine is


def listen(path):
    """A socket at path, for root only. It listens as soon as it is there."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        sock.bind(new)
    finally:
        os.umask(mask)
    sock.listen(16)
    os.rename(new, path)
    return sock


def ask(path, timeout_s, **request):
    """Sends a request and returns the answer's "answer"; raises Refused on its "error"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:  # by way of /proc, as a socket's path may have 107 bytes only
            sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
        sock.sendall(encode(request))
        line = sock.makefile("rb").readline()
    if not line:
        raise ConnectionError(f"{path}: no answer")
    reply = json.loads(line)
    if "error" in reply:
        raise Refused(reply["error"])
    return reply["answer"]


def encode(message):
    return json.dumps(message).encode() + b"\n"
