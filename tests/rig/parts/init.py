# SPDX-License-Identifier: LGPL-2.1-or-later
"""Init: process 1 of a host. Makes the host's world, then starts and supervises its services and reaps orphans.

    python3 -m parts.init FOLDER        (in new mount, pid, uts, ipc, net and cgroup namespaces; see host.py)

A line on standard input says that the network is there. Requests come over FOLDER/init.sock (control.py)."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

from parts import control, mounts, services
from parts.service import Service, SocketService

SYSFS_START_S = 60
TICK_S = 0.02  # while something is on its way; else the loop sleeps until an event
CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Init:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.services = {}
        self.waiters = []  # (connection, whether it is done, deadline, what was asked)

    def run(self):
        self.watch_children()
        self.start_pci_tree()
        described = services.machine_services()
        if not settings()["bare"]:
            described += services.product_services()
        for description in described:
            if description.name in settings()["without"]:
                continue
            kind = Service if description.instance_unit is None else SocketService
            self.services[description.name] = kind(description)
        for service in self.services.values():
            service.start()
            self.watch(service)
        self.listener = control.listen(f"{mounts.HOST}/init.sock")
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        while True:
            self.turn()

    def turn(self):
        busy = self.waiters or any(service.state in ("waiting", "starting", "stopping", "backoff")
                                   for service in self.services.values())
        for key, _ in self.selector.select(TICK_S if busy else 1):
            key.data()
        self.reap()
        now = time.monotonic()
        coming = {name for name, service in self.services.items() if service.state in ("waiting", "starting")}
        for service in self.services.values():
            service.tick(now, coming)
        self.answer_waiters(now)

    def watch_children(self):
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))
        self.wakeup = (ours, theirs)

    def start_pci_tree(self):
        """The file system server is a child of ours like the rest, but lives as long as the host."""
        log = open(f"{mounts.HOST}/log/sysfs.log", "a")
        self.sysfs = subprocess.Popen([sys.executable, "-m", "parts.sysfs", f"{mounts.HOST}/sys"], cwd=CODE, stdout=log,
                                      stderr=log, stdin=subprocess.DEVNULL, close_fds=True)
        deadline = time.monotonic() + SYSFS_START_S
        while not os.path.isdir(f"{mounts.HOST}/sys/bus/pci"):
            if self.sysfs.poll() is not None or time.monotonic() > deadline:
                sys.exit("the simulated sysfs did not come up; see log/sysfs.log")
            time.sleep(0.01)
        mounts.show_pci_tree(f"{mounts.HOST}/sys")

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    service.ended(status)
                elif isinstance(service, SocketService):
                    service.ended_instance(pid)

    def watch(self, service):
        """Has the loop look at the sockets that the service waits at."""
        if isinstance(service, SocketService):
            if service.listener is not None and service.listener not in self.selector.get_map():
                self.selector.register(service.listener, selectors.EVENT_READ, service.accepted)
        elif service.notify is not None and service.notify not in self.selector.get_map():
            self.selector.register(service.notify, selectors.EVENT_READ, service.notified)

    def unwatch(self, service):
        if isinstance(service, SocketService) and service.listener is not None:
            self.selector.unregister(service.listener)

    # Requests

    def accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(control.PATIENCE_S)
        try:
            request = json.loads(connection.makefile("rb").readline())
            done = self.obey(**request)
        except Exception as error:
            reply(connection, error=f"{error}")
            return
        self.waiters.append((connection, done, time.monotonic() + request.get("within_s", 30), request))

    def obey(self, do, service=None, number=None, within_s=None):
        """Begins what is asked; returns a function that says whether it is done."""
        if do == "status":
            return lambda: True
        if service not in self.services:
            raise ValueError(f"This host has no service {service}. It has: {' '.join(self.services)}")
        chosen = self.services[service]
        if do == "signal":
            chosen.signal(number)
            return lambda: True
        if do == "activate":
            chosen.activate()
            return lambda: chosen.state in ("ready", "failed")
        self.unwatch(chosen)
        {"start": chosen.start, "stop": chosen.stop, "restart": chosen.restart}[do]()
        self.watch(chosen)
        return (lambda: chosen.state == "off") if do == "stop" else (lambda: chosen.state in ("ready", "failed"))

    def answer_waiters(self, now):
        for waiter in list(self.waiters):
            connection, done, deadline, request = waiter
            failed = request.get("service") and self.services[request["service"]].state == "failed"
            if not done() and now < deadline:
                continue
            self.waiters.remove(waiter)
            if failed and request["do"] in ("start", "restart"):
                reply(connection, error=f"{request['service']} failed; see its log")
            elif not done():
                reply(connection, error=f"{request['do']} {request['service']} is not done after the time given")
            else:
                reply(connection, answer={name: service.facts() for name, service in self.services.items()})


def reply(connection, **message):
    with connection:
        try:
            connection.sendall(control.encode(message))
        except OSError:
            pass  # the asker left


def settings():
    with open(f"{mounts.HOST}/settings.json") as file:
        return json.load(file)


def make_users():
    """System users and groups: of the product, then of the rig. They exist in this host's /etc only."""
    for text in ("/usr/lib/sysusers.d/gpupool.conf", f"{CODE}/users.conf"):
        if os.path.exists(text):
            subprocess.run(["systemd-sysusers", text], check=True, stderr=subprocess.DEVNULL)
    if os.path.exists("/usr/lib/tmpfiles.d/gpupool.conf"):
        subprocess.run(["systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/gpupool.conf"], check=False)


def main(host):
    if not sys.stdin.readline():
        sys.exit("whoever started this host went away")
    with open(f"{host}/settings.json") as file:
        chosen = json.load(file)
    socket.sethostname(chosen["name"])
    mounts.make_own_world(host, chosen["destdir"])
    make_users()
    subprocess.run(["chown", "polkitd", "/etc/polkit-1/rules.d"], check=True)
    Init().run()


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    main(sys.argv[1])
