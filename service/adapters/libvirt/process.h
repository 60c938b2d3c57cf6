/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Process: finds the QEMU process of a domain. libvirt's API does not tell it. Two sources do: the pid file that
 * libvirt writes as root, and the command line, where libvirt puts "-uuid UUID".
 *
 * Who could pretend: a command line is the process's own to write. So a process counts only if it runs as the user that
 * libvirt names as the domain's (its DAC label), which no ordinary user of the host can become; and where QEMU itself
 * was taken over from inside a guest and claims to be another VM, the pid file decides, or without it nobody: then
 * there are two, and the search fails rather than guess. */

#include <stdint.h>
#include <sys/types.h>

#include "core/id.h"

/* @name: the domain's; @uid: its process's user, or -1 if libvirt did not say (then only the pid file is believed).
 * The pidfd was opened before the process was looked at, and the process lived afterwards: they are the same.
 * Returns 0, -ESRCH (none), -ENOTUNIQ (several), or another negative errno. */
int process_find(const char *name, const VmId *vm, int64_t uid, pid_t *ret_pid, int *ret_pidfd);
