/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A host of its own for tests against the real libvirtd: namespaces for processes, mounts and network, with empty
 * folders where libvirt keeps its things. Nothing of it is seen outside, and all of it ends with the test. Needs root;
 * the test itself goes on as the user gpupoold runs as, or another that is in group libvirt, and can become root again.
 */

#include <stdbool.h>
#include <sys/types.h>

/* Returns in a process inside, as that user. False if this machine cannot: *ret_reason says why. The process that
 * called waits outside and ends with the same status; call it before anything else. */
bool world_enter(const char **ret_reason);

/* Root again, for good: a leak checker at the end of a program needs one and the same user. */
void world_leave(void);

/* Runs as root, in a process of its own; returns its exit status. */
int as_root(const char *const argv[]);
int signal_as_root(pid_t pid, int signal_number);

/* As the user @uid, a process that does nothing and shows "-uuid @uuid" in its command line, like QEMU; for that this
 * program is run again, and must hand pretend() what it finds first. */
pid_t pretend_as(uid_t uid, const char *uuid);
void pretend(int argc, char **argv);

pid_t libvirtd_start(void);
void libvirtd_kill(void);               /* -9, and waited for */
pid_t libvirtd_pid(void);
uid_t qemu_uid(void);
