# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gpupoold that does what a test says: its objects stand in a dictionary, its methods are recorded, and jobs go as
they are told. Interfaces and types come from interfaces/*.xml: an answer of another form cannot be made by mistake."""

import os
import pathlib
import signal
import stat
import subprocess
import tempfile

from gi.repository import Gio, GLib

SOURCE = pathlib.Path(__file__).resolve().parents[2]
NAME = 'org.gpupool1'
ROOT = '/org/gpupool1'
ERROR = NAME + '.Error.'
DENIED = 'org.freedesktop.DBus.Error.AccessDenied'

OBJECT_MANAGER = Gio.DBusNodeInfo.new_for_xml('''
<node><interface name="org.freedesktop.DBus.ObjectManager"><method name="GetManagedObjects">
<arg name="objects" type="a{oa{sa{sv}}}" direction="out"/></method></interface></node>''').interfaces[0]

# What a property holds that the test did not give, by type.
EMPTY = {'s': '', 'o': '/', 'b': False, 'd': 0.0}
NUMBERS = 'yqutinx'

BUS_CONFIG = '''<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
    <allow receive_type="signal"/><allow eavesdrop="false" send_destination="*"/>
  </policy>
</busconfig>
'''


def load_interfaces():
    found = {}
    for path in (SOURCE / 'interfaces').glob('*.xml'):
        for interface in Gio.DBusNodeInfo.new_for_xml(path.read_text(encoding='utf-8')).interfaces:
            found[interface.name.rpartition('.')[2]] = interface
    return found


INTERFACES = load_interfaces()


def empty(signature):
    if signature[0] == 'a':
        return []
    if signature[0] == '(':
        return tuple(empty(c) for c in signature[1:-1])
    return 0 if signature in NUMBERS else EMPTY[signature]


def default_answer(method):
    values = [empty(a.signature) for a in method.out_args]
    return values[0] if len(values) == 1 else tuple(values) or None


class PrivateBus:
    """A dbus-daemon of our own, that anybody may talk on."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='gpupool-ctl-')
        folder = pathlib.Path(self.folder.name)
        folder.chmod(0o755)
        (folder / 'config').write_text(BUS_CONFIG.format(folder=folder), encoding='utf-8')
        self.daemon = subprocess.Popen(['dbus-daemon', '--nofork', '--nopidfile', '--print-address',
                                        f'--config-file={folder}/config'], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        self.address = self.daemon.stdout.readline().strip()

    def close(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()
        self.daemon.stdout.close()
        self.folder.cleanup()


class Job:
    def __init__(self, service, number, operation, path):
        self.service = service
        self.id = number
        self.path = f'{ROOT}/job/{number}'
        self.properties = {'Id': number, 'Operation': operation, 'Object': path, 'State': 'running',
                           'StartedBy': (0, ':1.9'), 'StartedAt': GLib.get_real_time()}

    def stage(self, word, progress=0.5):
        self.change(Stage=word, Progress=progress)

    def change(self, **values):
        self.properties.update(values)
        self.service.emit_changed(self.path, 'Job', values)

    def end(self, result, error='', message=''):
        self.change(State='done', Result=result, Error=error, Message=message)
        self.service.emit(ROOT, 'Manager', 'JobRemoved', (self.id, self.path, result, error, message))


class Service:
    """objects: path -> (interface, {property: value}). calls: (path, method, arguments, interactive). on: method ->
    function(call) whose value is the answer; it may raise Refused, or keep call.invocation and answer later."""

    def __init__(self, address):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.address, self.flags = address, flags
        self.objects, self.on, self.calls, self.registered = {}, {}, [], []
        self.next_job = 7
        self.connect()

    def connect(self):
        self.connection = Gio.DBusConnection.new_for_address_sync(self.address, self.flags, None, None)
        self.connection.set_exit_on_close(False)
        self.registered = []
        self.register(ROOT, OBJECT_MANAGER)
        self.register(ROOT, INTERFACES['Manager'])
        for path, (interface, _) in self.objects.items():
            if path != ROOT:
                self.register(path, INTERFACES[interface])
        self.own_name()

    def own_name(self):
        self.connection.call_sync('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus',
                                  'RequestName',
                                  GLib.Variant('(su)', (NAME, 4)), None, Gio.DBusCallFlags.NONE, -1, None)

    def leave(self):
        """As kill -9 would: the connection goes, calls stay without an answer."""
        self.connection.close_sync(None)

    def register(self, path, interface):
        self.registered.append(self.connection.register_object(path, interface, self.answer, self.get, None))

    def set_objects(self, objects):
        for number in self.registered:
            self.connection.unregister_object(number)
        self.objects = objects
        self.registered = []
        self.register(ROOT, OBJECT_MANAGER)
        self.register(ROOT, INTERFACES['Manager'])
        for path, (interface, _) in objects.items():
            if path != ROOT:
                self.register(path, INTERFACES[interface])
        self.calls.clear()
        self.on.clear()
        self.next_job = 7

    def value(self, path, interface, name):
        info = INTERFACES[interface].lookup_property(name)
        values = self.objects.get(path, (interface, {}))[1]
        return GLib.Variant(info.signature, values.get(name, empty(info.signature)))

    def get(self, _connection, _sender, path, interface, name):
        return self.value(path, interface.rpartition('.')[2], name)

    def all_objects(self):
        answer = {}
        for path, (interface, _) in self.objects.items():
            if path == ROOT:
                continue
            names = [p.name for p in INTERFACES[interface].properties]
            answer[path] = {INTERFACES[interface].name: {n: self.value(path, interface, n) for n in names}}
        return answer

    def answer(self, _connection, sender, path, interface, method, arguments, invocation):
        if method == 'GetManagedObjects':
            invocation.return_value(GLib.Variant('(a{oa{sa{sv}}})', (self.all_objects(),)))
            return
        interactive = bool(invocation.get_message().get_flags() & Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION)
        call = Call(path, method, arguments.unpack(), interactive, invocation, sender)
        self.calls.append(call)
        info = INTERFACES[interface.rpartition('.')[2]].lookup_method(method)
        try:
            value = self.on[method](call) if method in self.on else default_answer(info)
        except Refused as refusal:
            invocation.return_dbus_error(refusal.name, refusal.sentence)
            return
        except Exception as fault:  # of the test; the program must not wait for it
            invocation.return_dbus_error(ERROR + 'TestIsWrong', repr(fault))
            raise
        if value is not LATER:
            invocation.return_value(call.form(info, value))

    def emit(self, path, interface, name, arguments):
        info = INTERFACES[interface].lookup_signal(name)
        signature = '(' + ''.join(a.signature for a in info.args) + ')'
        self.connection.emit_signal(None, path, INTERFACES[interface].name, name, GLib.Variant(signature, arguments))

    def emit_changed(self, path, interface, values):
        changed = {n: GLib.Variant(INTERFACES[interface].lookup_property(n).signature, v) for n, v in values.items()}
        self.connection.emit_signal(None, path, 'org.freedesktop.DBus.Properties', 'PropertiesChanged',
                                    GLib.Variant('(sa{sv}as)', (INTERFACES[interface].name, changed, [])))

    def new_job(self, operation, path):
        job = Job(self, self.next_job, operation, path)
        self.next_job += 1
        self.objects[job.path] = ('Job', job.properties)
        self.register(job.path, INTERFACES['Job'])
        self.emit(ROOT, 'Manager', 'JobNew', (job.id, job.path))
        return job


LATER = object()


class Refused(Exception):
    def __init__(self, name, sentence):
        super().__init__(sentence)
        self.name = name if '.' in name else ERROR + name
        self.sentence = sentence


class Call:
    def __init__(self, path, method, arguments, interactive, invocation, sender):
        self.path, self.method, self.arguments, self.interactive = path, method, arguments, interactive
        self.invocation, self.sender = invocation, sender

    @property
    def options(self):
        """The final a{sv}, without the request id."""
        return {k: v for k, v in self.arguments[-1].items() if k != 'request-id'}

    @property
    def request_id(self):
        return bytes(self.arguments[-1].get('request-id', b''))

    def form(self, info, value):
        if not info.out_args:
            return None
        several = len(info.out_args) > 1        # then the value is a tuple of them
        return GLib.Variant('(' + ''.join(a.signature for a in info.out_args) + ')', value if several else (value,))

    def given_file(self):
        """What is in the file that came with the call, from its beginning, and whether it is a regular one."""
        fds = self.invocation.get_message().get_unix_fd_list()
        fd = fds.get(self.arguments[0])
        with os.fdopen(fd, 'rb') as file:
            return os.pread(fd, 1 << 28, 0), stat.S_ISREG(os.fstat(file.fileno()).st_mode)

    def answer_file(self, content):
        """Answers with a memory file that was read to its end before, as a careless service would."""
        fd = os.memfd_create('state')
        os.write(fd, content)
        fds = Gio.UnixFDList.new()
        fds.append(fd)
        os.close(fd)
        self.invocation.return_value_with_unix_fd_list(GLib.Variant('(h)', (0,)), fds)
        return LATER

    def reply(self, interface, value):
        self.invocation.return_value(self.form(INTERFACES[interface].lookup_method(self.method), value))
