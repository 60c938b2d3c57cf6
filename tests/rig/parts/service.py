# SPDX-License-Identifier: LGPL-2.1-or-later
"""Service: one supervised daemon of a host, kept as systemd would keep it: ordered start, readiness, restart, stop.

    off -> waiting -> starting -> ready -> stopping -> off
              ^          '----------'--> backoff (then waiting again) or failed"""

import grp
import os
import pwd
import resource
import shutil
import signal
import socket
import stat
import time

from parts import clock, seccomp

ENVIRONMENT_FILE = "/run/rig/environment"
LOGS = "/run/rig/log"
STOP_TIMEOUT_S = 10
START_LIMIT_BURST, START_LIMIT_INTERVAL_S = 5, 10  # systemd's own defaults


class Service:
    def __init__(self, description):
        self.description = description
        self.name = description.name
        self.unit = description.unit
        self.state = "off"
        self.wanted = self.masked = False
        self.pid = None
        self.status = None          # of the last end: an exit status, or minus the signal
        self.starts = 0
        self.recent_starts = []
        self.kill_at = self.start_at = None
        self.restart_after_stop = False
        self.notify = self.watchdog_at = None
        if self.unit.get("Type") in ("notify", "notify-reload"):
            self.notify = notify_socket(self.name)

    # What an administrator says

    def start(self):
        self.wanted = True
        self.masked = False
        self.recent_starts = []
        if self.state == "stopping":
            self.restart_after_stop = True
        elif self.pid is None:
            self.state = "waiting"

    def stop(self):
        """It stays away until start(): a call on the bus does not bring it back (as after systemctl mask --now)."""
        self.masked = True
        self.wanted = self.restart_after_stop = False
        if self.pid is None:
            self.state = "off"
            return
        self.state = "stopping"
        self.kill_at = time.monotonic() + self.unit.seconds("TimeoutStopSec", STOP_TIMEOUT_S)
        self.signal(getattr(signal, self.unit.get("KillSignal", "SIGTERM")))

    def restart(self):
        self.stop()
        self.start()

    def activate(self):
        """The bus asks for it, on behalf of a caller."""
        if self.masked:
            raise PermissionError(f"{self.name} was stopped by hand")
        if self.pid is None:
            self.start()

    def signal(self, number):
        if self.pid is None:
            raise ProcessLookupError(f"{self.name} does not run")
        os.kill(self.pid, number)
        if number == signal.SIGTERM:
            os.kill(self.pid, signal.SIGCONT)  # as systemd does, so that a stopped service can be ended

    # What happens to it

    def tick(self, now, coming):
        """Does what is due. coming: the services that are on their way up, for which those ordered after them wait."""
        if self.state == "backoff" and now >= self.start_at:
            self.state = "waiting"
        if self.state == "waiting" and not coming.intersection(self.description.after):
            self.spawn(now)
        if self.state == "starting" and self.notify is None and answers(self.description.socket):
            self.state = "ready"
        if self.state == "stopping" and now >= self.kill_at:
            self.signal(signal.SIGKILL)
        if self.watchdog_at and self.state == "ready" and now >= self.watchdog_at:
            self.watchdog_at = None
            self.log("watchdog: no sign of life, SIGABRT")
            self.signal(signal.SIGABRT)
            self.signal(signal.SIGCONT)

    def spawn(self, now):
        interval_s = self.unit.seconds("StartLimitIntervalSec", START_LIMIT_INTERVAL_S)
        self.recent_starts = [at for at in self.recent_starts if now - at < interval_s]
        if len(self.recent_starts) >= int(self.unit.get("StartLimitBurst", START_LIMIT_BURST)):
            self.state = "failed"
            self.log("started too often, given up")
            return
        self.recent_starts.append(now)
        self.starts += 1
        self.watchdog_at = None
        environment = {"NOTIFY_SOCKET": notify_path(self.name)} if self.notify else {}
        environment.update(clock.environment() if self.description.ours else {})
        if self.notify and self.unit.get("WatchdogSec"):
            environment["WATCHDOG_USEC"] = str(int(self.unit.seconds("WatchdogSec", 0) * 1e6))
        make_folders(self.unit)
        self.pid = spawn(self.unit, self.name, environment, pretend_memlock=self.description.pretend_memlock)
        self.state = "starting"

    def notified(self):
        """A datagram lies at the notify socket."""
        lines = self.notify.recv(4096).decode(errors="replace").splitlines()
        if "READY=1" in lines and self.state == "starting":
            self.state = "ready"
        if ("READY=1" in lines or "WATCHDOG=1" in lines) and self.unit.get("WatchdogSec"):
            self.watchdog_at = time.monotonic() + self.unit.seconds("WatchdogSec", 0)

    def ended(self, status):
        """The main process ended."""
        self.status = os.waitstatus_to_exitcode(status)
        self.log(f"ended: {self.status}")
        if self.unit.get("KillMode", "control-group") != "process":
            kill_group(self.pid)
        self.pid = None
        if self.state == "stopping":
            self.state = "waiting" if self.restart_after_stop else "off"
            self.forget_runtime_folders()
            self.restart_after_stop = False
            return
        if self.wanted and self.restarts_on(self.status):
            self.state = "backoff"
            self.start_at = time.monotonic() + self.unit.seconds("RestartSec", 0.1)
            return
        self.state = "off" if self.status == 0 else "failed"

    def forget_runtime_folders(self):
        keep = self.unit.get("RuntimeDirectoryPreserve", "no")
        if keep == "yes" or keep == "restart" and self.restart_after_stop:
            return
        for name in self.unit.words("RuntimeDirectory"):
            shutil.rmtree(f"/run/{name}", ignore_errors=True)

    def restarts_on(self, status):
        if str(status) in self.unit.words("RestartPreventExitStatus"):
            return False
        by_signal = status < 0 and -status not in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
        policy = self.unit.get("Restart", "no")
        return (policy == "always" or policy == "on-failure" and (status > 0 or by_signal) or
                policy in ("on-abnormal", "on-abort") and by_signal or policy == "on-success" and status == 0)

    def log(self, text):
        with open(f"{LOGS}/{self.name}.log", "a") as file:
            file.write(f"-- {time.strftime('%H:%M:%S')} rig: {self.name} {text}\n")

    def facts(self):
        return {"state": self.state, "pid": self.pid, "starts": self.starts, "last_status": self.status}


class SocketService:
    """A socket unit with Accept=yes: an instance of its service for each connection."""

    def __init__(self, description):
        self.description = description
        self.name = description.name
        self.unit = description.unit
        self.state = "off"
        self.pid = self.status = None
        self.starts = 0
        self.listener = None
        self.instances = {}     # pid -> when it must have ended

    def start(self):
        if self.listener is not None:
            return
        path = self.unit.get("ListenStream")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        os.chmod(path, int(self.unit.get("SocketMode", "0666"), 8))
        os.chown(path, pwd.getpwnam(self.unit.get("SocketUser", "root")).pw_uid,
                 grp.getgrnam(self.unit.get("SocketGroup", "root")).gr_gid)
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.state = "ready"

    def stop(self):
        """No more connections; the instances that run go on, as under systemd."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None
            os.unlink(self.unit.get("ListenStream"))
        self.state = "off"

    def restart(self):
        self.stop()
        self.start()

    def signal(self, number):
        for pid in self.instances:
            os.kill(pid, number)

    def accepted(self):
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        with connection:
            if len(self.instances) >= int(self.unit.get("MaxConnections", 64)):
                return
            self.starts += 1
            unit = self.description.instance_unit
            make_folders(unit)
            pid = spawn(unit, self.name, clock.environment(), connection=connection, instance=str(self.starts))
            self.instances[pid] = time.monotonic() + unit.seconds("RuntimeMaxSec", 1e9)

    def tick(self, now, coming):
        for pid, deadline in self.instances.items():
            if now >= deadline:
                os.kill(pid, signal.SIGKILL)

    def ended_instance(self, pid):
        self.instances.pop(pid, None)

    def facts(self):
        return {"state": self.state, "pid": None, "starts": self.starts, "last_status": None,
                "instances": sorted(self.instances)}


def notify_path(name):
    return f"/run/rig/notify.{name}"


def notify_socket(name):
    path = notify_path(name)
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    sock.bind(path)
    os.chmod(path, 0o666)
    return sock


def answers(path):
    """Whether one can connect to the socket; where none is named, running is enough."""
    if path is None:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(path)
            return True
        except OSError:
            return False


def make_folders(unit):
    """RuntimeDirectory= and its kin, owned by the unit's user."""
    uid, gid, _ = identity(unit)
    for key, root, mode in (("RuntimeDirectory", "/run", "0755"), ("StateDirectory", "/var/lib", "0755"),
                            ("LogsDirectory", "/var/log", "0755"), ("CacheDirectory", "/var/cache", "0755")):
        for name in unit.words(key):
            path = f"{root}/{name}"
            os.makedirs(path, exist_ok=True)
            wanted, found = int(unit.get(f"{key}Mode", mode), 8), os.stat(path)
            # What is right is left alone, as systemd does: the folder may be read-only.
            if (found.st_uid, found.st_gid) != (uid, gid):
                os.chown(path, uid, gid)
            if stat.S_IMODE(found.st_mode) != wanted:
                os.chmod(path, wanted)


def identity(unit):
    """uid, gid and supplementary groups that the unit asks for."""
    user = unit.get("User", "root")
    entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    group = unit.get("Group")
    gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    groups = os.getgrouplist(entry.pw_name, gid)
    groups += [grp.getgrnam(name).gr_gid for name in unit.words("SupplementaryGroups")]
    return entry.pw_uid, gid, sorted(set(groups))


def privileges(unit):
    """The setpriv command line for the unit's user and capabilities."""
    uid, gid, groups = identity(unit)
    words = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={','.join(map(str, groups))}"]
    if unit.says("CapabilityBoundingSet"):
        names = unit.words("CapabilityBoundingSet")
        words.append("--bounding-set=" + ",".join(
            [f"-{capability(name)}" for name in names] if names and names[0].startswith("~") else
            ["-all"] + [f"+{capability(name)}" for name in names]))
    ambient = ",".join(f"+{capability(name)}" for name in unit.words("AmbientCapabilities"))
    if ambient:
        words += [f"--inh-caps={ambient}", f"--ambient-caps={ambient}"]
    if unit.yes("NoNewPrivileges"):
        words.append("--no-new-privs")
    return words + ["--"]


def capability(name):
    return name.lstrip("~").lower().removeprefix("cap_")


def spawn(unit, name, environment, connection=None, instance="", pretend_memlock=False):
    """Starts ExecStart= of the unit; returns the pid. connection: the accepted socket, for an instance."""
    command = privileges(unit) + unit.command("ExecStart", instance)
    environment = service_environment(unit, environment)
    pid = os.fork()
    if pid:
        return pid
    try:
        become_service(unit, name, connection, environment)
        if pretend_memlock:
            seccomp.pretend_memlock_can_be_set()
        os.execve(command[0], command, environment)
    except BaseException as error:
        os.write(2, f"rig: cannot start {name}: {error}\n".encode())
    finally:
        os._exit(203)


def become_service(unit, name, connection, environment):
    """The part of spawn() that runs in the child."""
    os.setsid()
    os.chdir(unit.get("WorkingDirectory", "/"))
    os.umask(int(unit.get("UMask", "0022"), 8))
    if unit.get("Nice"):
        os.setpriority(os.PRIO_PROCESS, 0, int(unit.get("Nice")))
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(f"{LOGS}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDWR)
    on_stdin = connection is not None and unit.get("StandardInput") == "socket"
    os.dup2(connection.fileno() if on_stdin else null, 0)
    to_socket = on_stdin and unit.get("StandardOutput", "inherit") in ("inherit", "socket")
    os.dup2(0 if to_socket else log, 1)
    os.dup2(log, 2)
    if connection is not None and not on_stdin:
        os.dup2(connection.fileno(), 3)
        environment.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="connection")
    for key, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitMEMLOCK", resource.RLIMIT_MEMLOCK),
                       ("LimitCORE", resource.RLIMIT_CORE)):
        set_limit(unit.get(key), limit)


def set_limit(text, limit):
    """As far as this machine lets it."""
    if text is None:
        return
    soft, _, hard = text.partition(":")
    values = [resource.RLIM_INFINITY if value == "infinity" else int(value) for value in (soft, hard or soft)]
    try:
        resource.setrlimit(limit, tuple(values))
    except (PermissionError, ValueError):
        pass


def service_environment(unit, extra):
    """What a service sees: a system manager's short list, then the rig's file, then the unit's own."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                   "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    try:
        with open(ENVIRONMENT_FILE) as file:
            environment.update(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        pass
    environment.update(word.split("=", 1) for word in unit.words("Environment"))
    if unit.get("User"):
        entry = pwd.getpwnam(unit.get("User"))
        environment.update(USER=entry.pw_name, LOGNAME=entry.pw_name, HOME=entry.pw_dir)
    for key, root in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib")):
        names = unit.words(key)
        if names:
            variable = "RUNTIME_DIRECTORY" if key == "RuntimeDirectory" else "STATE_DIRECTORY"
            environment[variable] = ":".join(f"{root}/{name}" for name in names)
    environment.update(extra)
    return environment


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
