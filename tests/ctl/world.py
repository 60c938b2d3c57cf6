# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small cluster, as the mock service shows it: three nodes, one of them lost, GPUs in every condition, VMs too."""

import copy
import time

from mock_service import ROOT

NODES = {'a': '0a' * 16, 'b': '0b' * 16, 'c': '0c' * 16}
VMS = {'bert': '4f1c2a3b-0000-4000-8000-000000000001', 'huge': '4f1c2a3b-0000-4000-8000-000000000002',
       'render': '4f1c2a3b-0000-4000-8000-000000000003', 'idle': '4f1c2a3b-0000-4000-8000-000000000004'}
EVENT_TIME = 981173106123456  # 2001-02-03 04:05:06 UTC


def node(name):
    return f'{ROOT}/node/{NODES[name]}'


def gpu(name, address):
    return f'{ROOT}/gpu/{NODES[name]}_{address.replace(":", "_").replace(".", "_")}'


def vm(name):
    return f'{ROOT}/vm/{VMS[name].replace("-", "_")}'


def pool(name):
    return f'{ROOT}/pool/{name}'


def make_node(name, **more):
    values = {
        'Id': NODES[name], 'Name': name, 'Addresses': [f'10.77.0.{ord(name) - 96}:7411'],
        'State': 'online', 'Role': 'voter',
        'BootId': 'b0' * 16, 'Kernel': '6.1.0-28-amd64', 'Versions': {'gpupool': '0.1.0', 'libvirt': '9.0.0',
                                                                      'qemu': '7.2.15'},
        'CpuModel': 'AMD EPYC 9354 32-Core Processor', 'MemoryTotal': 512 << 30, 'MemoryFree': 384 << 30,
        'Hugepages': [(2 << 20, 0, 0), (1 << 30, 64, 16)], 'Hypervisor': 'connected', 'Guard': 'connected'}
    values.update(more)
    return node(name), ('Node', values)


def make_gpu(on, address, device='GH100 [H100 PCIe]', vendor='NVIDIA Corporation', ids=(0x10de, 0x2331), **more):
    values = {
        'Name': f'{on}:{address}', 'Node': node(on), 'Address': address, 'SlotPath': 'pci0000:40/01.1/00.0',
        'VendorId': ids[0], 'DeviceId': ids[1], 'SubsystemVendorId': 0x10de, 'SubsystemDeviceId': 0x1626,
        'Vendor': vendor, 'Device': device, 'Class': 0x030200, 'IommuGroup': 24, 'NumaNode': 1,
        'Bars': [(0, 0x38000000000, 64 << 20, True),
                 (2, 0x38800000000, 128 << 30, True)], 'LinkSpeed': '32.0 GT/s PCIe',
        'LinkWidth': 16, 'LinkSpeedMax': '32.0 GT/s PCIe', 'LinkWidthMax': 16, 'ResetMethods': ['flr', 'bus'],
        'Parent': '0000:40:01.1', 'State': 'present', 'Assignable': True}
    values.update(more)
    return gpu(on, address), ('Gpu', values)


def make_vm(name, **more):
    values = {
        'Name': name, 'Uuid': VMS[name], 'Requirement': ('training', 2), 'Desired': 'running', 'State': 'running',
        'Priority': 50, 'RestartPolicy': 'on-failure', 'Owner': (1000, 'anna')}
    values.update(more)
    return vm(name), ('VM', values)


TRAINING = [gpu('a', '0000:41:00.0'), gpu('a', '0000:42:00.0'), gpu('b', '0000:41:00.0'), gpu('b', '0000:42:00.0'),
            gpu('c', '0000:41:00.0')]


def cluster():
    """path -> (interface, properties), fresh for each test."""
    in_training = {'Pool': pool('training')}
    objects = dict([
        (ROOT, ('Manager', {
            'ClusterId': 'cc' * 16, 'ClusterName': 'lab', 'LocalNode': node('a'), 'Leader': node('a'), 'Quorate': True,
            'Voters': [node('a'), node('b'), node('c')], 'FunctionalLevel': 1, 'SupportedLevel': 1, 'Version': '0.1.0',
            'Features': ['jobs', 'check']})),
        make_node('a', WatchdogUSec=2500000),
        make_node('b', Hypervisor='hung', Guard='connected'),
        make_node('c', State='lost', Evidence='lease'),
        make_gpu('a', '0000:41:00.0', State='assigned', VM=vm('bert'), Driver='vfio-pci',
                 Siblings=[gpu('a', '0000:42:00.0')], Serial='1650223008717', Vram=80 << 30,
                 Vbios='96.00.61.00.01', **in_training),
        make_gpu('a', '0000:42:00.0', State='assigned', VM=vm('bert'), Driver='vfio-pci',
                 Siblings=[gpu('a', '0000:41:00.0')], **in_training),
        make_gpu('a', '0000:01:00.0', 'ASPEED Graphics Family', 'ASPEED Technology, Inc.', (0x1a03, 0x2000),
                 Class=0x030000,
                 Driver='ast', Holders=[(1021, 'Xorg'), (877, 'systemd-logind')], Assignable=False, ResetMethods=[],
                 IommuGroup=-1, NumaNode=-1, LinkWidth=1, LinkSpeed='2.5 GT/s PCIe',
                 LinkSpeedMax='5.0 GT/s PCIe', LinkWidthMax=1,
                 Blockers=[('boot-display', "the host's console uses it",
                            'give the host another console (console=ttyS0 on the kernel command line) and restart it'),
                           ('in-use', 'Xorg (pid 1021) and systemd-logind (pid 877) hold it',
                            'systemctl stop display-manager')],
                 Functions=[('0000:01:00.1', 0x040300, 'snd_hda_intel', 'Audio device')]),
        make_gpu('b', '0000:41:00.0', **in_training),
        make_gpu('b', '0000:42:00.0', State='quarantined',
                 QuarantineReason='the reset after its last VM did not finish in 5 s',
                 **in_training),
        make_gpu('b', '0000:03:00.0', 'Navi 31 [Radeon RX 7900 XT/7900 XTX]', 'Advanced Micro Devices, Inc. [AMD/ATI]',
                 (0x1002, 0x744c)),
        make_gpu('c', '0000:41:00.0', State='absent', **in_training),
        (pool('training'), ('Pool', {
            'Name': 'training', 'Gpus': TRAINING, 'Rules': [{'vendor': '10de', 'device': '2331'}], 'Placement': 'pack',
            'AfterUse': 'host',
            'Total': 5, 'Usable': 3, 'Free': 1, 'LargestFree': 1, 'Survives': 0, 'AtRisk': [vm('bert')]})),
        (pool('edge'), ('Pool', {
            'Name': 'edge', 'Placement': 'spread', 'Reserve': 1, 'MaxInUse': 2, 'AfterUse': 'vfio'})),
        make_vm('bert', Node=node('a'), Gpus=TRAINING[:2], Epoch=3, PreferredNodes=['a', 'b'],
                Affinity=[('apart', 'render')], LastPlacement=[('a', True, '2 close together, same switch'),
                               ('b', False, '1 usable GPU of training, 2 needed')]),
        make_vm('huge', Requirement=('training', 4), Model='10de:2331', Preempt=True,
                Affinity=[('rather-apart', 'bert')], State='waiting', Reason=(
            'no-capacity', 'vm huge waits: pool training has 1 usable GPU on one node and huge needs 4. '
            'Add some (gpupoolctl pool add training GPU) or stop bert on a.')),
        make_vm('render', Requirement=('edge', 1), State='failed', Priority=80, Preemptible=True,
                RestartPolicy='always',
                Reason=('crash-loop',
                        'qemu ended 5 times within 60 s; the last: \x1b[31mno such disk\x1b[0m \u202egnp.exe')),
        make_vm('idle', Requirement=('edge', 1), Desired='stopped', State='stopped', Priority=0, RestartPolicy='never',
                Owner=(4000000000, '')),
        (f'{ROOT}/job/5', ('Job', {
            'Id': 5, 'Operation': 'restart', 'Object': vm('render'), 'State': 'running', 'Progress': 0.25,
            'Stage': 'binding',
            'StartedBy': (0, ':1.77'), 'StartedAt': int((time.time() - 3.5 * 3600) * 1e6)})),
        (f'{ROOT}/job/6', ('Job', {
            'Id': 6, 'Operation': 'stop', 'Object': vm('idle'), 'State': 'done', 'Progress': 1.0, 'Result': 'failed',
            'Error': 'org.gpupool1.Error.Unreachable', 'Message': 'libvirt on b did not answer within 30 s.',
            'StartedBy': (4000000000, ':1.78'), 'StartedAt': int((time.time() - 3.5 * 3600) * 1e6)})),
    ])
    return copy.deepcopy(objects)


EVENTS = [
    (41, EVENT_TIME, 'node-silent', node('b'), 'b', 0xffffffff, '', '', 'node b silent since 04:05:04.4'),
    (42, EVENT_TIME + 1000000, 'pool-created', pool('training'), 'a', 1000, 'anna', 'org.gpupool1.manage-pool',
     'pool training created with 1 rule'),
    (43, EVENT_TIME + 2000000, 'vm-started', vm('bert'), 'a', 0, 'root', 'org.gpupool1.operate-vm',
     'vm bert: start wanted'),
    (44, EVENT_TIME + 3000000, 'vm-running', vm('bert'), 'a', 0xffffffff, '', '',
     'vm bert running on a with 0000:41:00.0 and 0000:42:00.0, 3.1 s after it was wanted (epoch 3)'),
]

FINDINGS = [
    ('note', 'virtual-node', node('a'), 'a is itself a virtual machine (kvm) and can be paused with all its clocks.',
     ''),
    ('error', 'no-guard', node('b'), 'The guard of b does not run, so b starts no VM.',
     'systemctl start gpupool-guard on b'),
    ('warning', 'no-witness', '/', 'Two nodes that can vote: after the loss of one nothing can be decided.',
     'Add a witness: a host without GPUs (gpupoolctl cluster invite).'),
]

EXPLANATION = [
    ('a', False, [('not-enough-gpus', '2 usable GPUs of training in all',
                   'add GPUs of a (gpupoolctl pool add training GPU)'),
                  ('memory', 'it has 64 GiB of memory and huge needs 96 GiB', '')]),
    ('b', False, [('gpus-taken', '4 usable, 2 of them run bert (priority 50, same as huge)',
                   'stop bert, of the same priority (gpupoolctl vm stop bert)')]),
    ('c', False, [('draining', 'it is drained, by anna', 'resume it (gpupoolctl node resume c)')]),
    ('w', False, [('witness', 'it is a witness: it votes and runs no VM', 'choose another node')]),
]

EXPLANATION_OF_IDLE = [
    ('a', True, [('fits', 'fits too; b is taken first: the fullest with room (pack)', '')]),
    ('b', True, [('chosen', '1 GPU of edge; before a: the fullest with room (pack)', '')]),
    ('c', False, [('no-hypervisor', 'libvirt does not answer', 'see on c: systemctl status libvirtd'),
                  ('no-guard', 'the guard does not answer, and without it no VM is started',
                   'see on c: systemctl status gpupool-guard')]),
]

PLAN = ([
    (vm('bert'), 'b', 'a', 'moves', '', '2 GPUs'),
    (vm('render'), 'b', '', 'stops', 'gpus-taken', 'no other node has a free one of edge'),
    (vm('huge'), '', '', 'still-waits', 'no-capacity', 'vm huge waits: no node has 4 free of training'),
], [
    ('edge', [('total', 2, 2), ('running', 1, 1)]),
    ('training', [('total', 5, 5), ('free', 1, 0), ('survives', 1, 0), ('running', 2, 1)]),
])
