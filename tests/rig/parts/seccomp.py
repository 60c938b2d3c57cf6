# SPDX-License-Identifier: LGPL-2.1-or-later
"""Seccomp: one filter, for libvirtd. Setting RLIMIT_MEMLOCK says success and does nothing.

libvirt raises the limit of a qemu that is handed a real device, for VFIO pins guest memory. That needs
CAP_SYS_RESOURCE, which containers and small virtual machines seldom have, and there is no VFIO here that would pin
anything. So the step is answered for libvirt; domain XML stays ordinary (no <memtune>), nothing is preloaded, and
neither libvirt nor the product can tell."""

import ctypes
import os
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06          # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, PRETEND_SUCCESS = 0x7FFF0000, 0x00050000      # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with errno 0
RLIMIT_MEMLOCK = 8
MACHINES = {"x86_64": (0xC000003E, 302), "aarch64": (0xC00000B7, 261)}  # AUDIT_ARCH_*, number of prlimit64


def pretend_memlock_can_be_set():
    """For use between fork and exec, as root."""
    arch, prlimit64 = MACHINES[os.uname().machine]
    number, arch_at, resource_at, new_limit_at = 0, 4, 24, 32  # offsets in struct seccomp_data; args are 64 bits wide
    program = [  # (what, how far to jump if so, how far if not, value)
        (LOAD, 0, 0, arch_at), (JUMP_EQUAL, 0, 8, arch),
        (LOAD, 0, 0, number), (JUMP_EQUAL, 0, 6, prlimit64),
        (LOAD, 0, 0, resource_at), (JUMP_EQUAL, 0, 4, RLIMIT_MEMLOCK),
        (LOAD, 0, 0, new_limit_at), (JUMP_EQUAL, 0, 3, 0),          # a null pointer, both halves: only a question
        (LOAD, 0, 0, new_limit_at + 4), (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, PRETEND_SUCCESS),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(filter_program, 16), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot install the memlock filter")
