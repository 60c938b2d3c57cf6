# SPDX-License-Identifier: LGPL-2.1-or-later
"""A D-Bus client in a page, for what busctl cannot do: many calls on one connection, signals with the time they came
at, calls left open, and bodies that are no D-Bus at all. Runs inside a host and is told what to do in lines of JSON
(bus.py).

Values in JSON: a variant is [signature, value], a dictionary is a list of pairs or an object, a byte array a list; an
argument {"repeat": [text, n]} is a long one. A file to hand over is its contents, as text; those that come are
dropped."""

import json
import os
import select
import socket
import struct
import sys
import time

CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
HEADER = {1: "o", 2: "s", 3: "s", 4: "s", 5: "u", 6: "s", 7: "s", 8: "g", 9: "u"}
SOCKET = "/run/dbus/system_bus_socket"


def one_type(signature, at=0):
    """The end of the complete type that begins there."""
    if signature[at] == "a":
        return one_type(signature, at + 1)
    if signature[at] not in "({":
        return at + 1
    at += 1
    while signature[at] not in ")}":
        at = one_type(signature, at)
    return at + 1


def types(signature):
    at, found = 0, []
    while at < len(signature):
        end = one_type(signature, at)
        found.append(signature[at:end])
        at = end
    return found


def alignment(kind):
    if kind[0] in FIXED:
        return struct.calcsize(FIXED[kind[0]])
    return {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4}.get(kind[0], 8)


def pad(out, size):
    out += bytes(-len(out) % size)


def put(out, kind, value):
    pad(out, alignment(kind))
    if kind in FIXED:
        out += struct.pack("<" + FIXED[kind], value)
    elif kind in "so":
        text = value.encode("utf-8", "surrogateescape")
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif kind == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        put(out, "g", value[0])
        put(out, value[0], value[1])
    elif kind[0] == "a":
        items = value.items() if isinstance(value, dict) else value
        out += bytes(4)
        length_at = len(out) - 4
        pad(out, alignment(kind[1:]))
        begin = len(out)
        for item in items:
            put(out, kind[1:], item)
        out[length_at:length_at + 4] = struct.pack("<I", len(out) - begin)
    else:
        for each, item in zip(types(kind[1:-1]), value, strict=True):
            put(out, each, item)


def take(data, at, kind):
    at += -at % alignment(kind)
    if kind in FIXED:
        value, = struct.unpack_from("<" + FIXED[kind], data, at)
        return (bool(value) if kind == "b" else value), at + struct.calcsize(FIXED[kind])
    if kind in "so":
        length, = struct.unpack_from("<I", data, at)
        return data[at + 4:at + 4 + length].decode("utf-8", "replace"), at + 5 + length
    if kind == "g":
        return data[at + 1:at + 1 + data[at]].decode(), at + 2 + data[at]
    if kind == "v":
        inner, at = take(data, at, "g")
        return take(data, at, inner)            # a variant that was read is its value
    if kind[0] == "a":
        length, = struct.unpack_from("<I", data, at)
        at += 4
        at += -at % alignment(kind[1:])
        end, items = at + length, []
        while at < end:
            item, at = take(data, at, kind[1:])
            items.append(item)
        return (dict(items) if kind[1] == "{" else items), at
    items = []
    for each in types(kind[1:-1]):
        item, at = take(data, at, each)
        items.append(item)
    return items, at


class Connection:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(SOCKET)
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() +
                            b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")
        self.data, self.serial = b"", 0
        while self.data.count(b"\r\n") < 2:
            self.data += self.socket.recv(4096)
        first, second, self.data = self.data.split(b"\r\n", 2)
        assert first.startswith(b"OK") and second.startswith(b"AGREE"), (first, second)
        self.send("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", b"", 0)
        self.name = None
        while not self.name:
            self.read()
            self.name = next((values[0] for kind, _, values in self.messages() if kind == REPLY), None)

    def send(self, destination, path, interface, member, signature, body, flags, files=()):
        self.serial += 1
        fields = [(1, ("o", path)), (2, ("s", interface)), (3, ("s", member)), (6, ("s", destination))]
        fields += [(8, ("g", signature))] if signature else []
        fields += [(9, ("u", len(files)))] if files else []
        head = bytearray(struct.pack("<BBBBII", ord("l"), CALL, flags, 1, len(body), self.serial))
        put(head, "a(yv)", fields)
        pad(head, 8)
        try:
            sent = socket.send_fds(self.socket, [head], files) if files else 0
            self.socket.sendall((head + body)[sent:])
        except BrokenPipeError:
            sys.exit("the bus hung up")
        for file in files:
            os.close(file)
        return self.serial

    def read(self):
        data = self.socket.recv(1 << 20)
        if not data:
            sys.exit("the bus hung up")
        self.data += data

    def messages(self):
        """What has come whole: (kind, header, values)."""
        found, at = [], 0
        while len(self.data) - at >= 16:
            body, = struct.unpack_from("<I", self.data, at + 4)
            head, = struct.unpack_from("<I", self.data, at + 12)
            begin = 16 + head + -head % 8
            if len(self.data) - at < begin + body:
                break
            message = self.data[at:at + begin + body]
            at += begin + body
            header = dict(take(message, 12, "a(yv)")[0])
            values, where = [], 0
            for kind in types(header.get(8, "")):
                value, where = take(message[begin:], where, kind)
                values.append(value)
            found.append((message[1], header, values))
        self.data = self.data[at:]
        return found


def say(**words):
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def file_of(text):
    file = os.memfd_create("argument")
    os.write(file, text.encode())
    os.lseek(file, 0, os.SEEK_SET)
    return file


def obey(bus, line, pending):
    order = json.loads(line)
    body, files = bytearray(), []
    if "bytes" in order:
        body += bytes.fromhex(order["bytes"])
    else:
        for kind, value in zip(types(order["signature"]), order["arguments"], strict=True):
            if isinstance(value, dict) and "repeat" in value:
                value = value["repeat"][0] * value["repeat"][1]
            if kind == "h":
                files.append(file_of(value))
                value = len(files) - 1
            put(body, kind, value)
    serial = bus.send(order["destination"], order["path"], order["interface"], order["member"], order["signature"],
                      bytes(body), order.get("flags", 0), files)
    pending[serial] = order["id"]


def report(kind, header, values, pending, now):
    if kind == SIGNAL:
        say(signal=header[3], path=header[1], interface=header[2], values=values, at=now)
    elif header.get(5) in pending and kind in (REPLY, ERROR):
        number = pending.pop(header[5])
        if kind == REPLY:
            say(id=number, values=values)
        else:
            say(id=number, error=header[4], sentence=values[0] if values else "")


def main():
    bus, pending, typed = Connection(), {}, b""
    say(name=bus.name)
    while True:
        ready, _, _ = select.select([bus.socket, sys.stdin.fileno()], [], [])
        now = time.monotonic()
        if bus.socket in ready:
            bus.read()
            for message in bus.messages():
                report(*message, pending, now)
        if sys.stdin.fileno() in ready:
            more = os.read(sys.stdin.fileno(), 1 << 20)
            if not more:
                return
            *lines, typed = (typed + more).split(b"\n")
            for line in lines:
                obey(bus, line, pending)


if __name__ == "__main__":
    main()
