/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Guard: holds the VMs' processes by their pidfds, for gpupoold and beyond its death, and kills them when told to. All
 * its memory is static: it must work when the host has none left. What it says is in guard-protocol.h. */

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct GuardSetup {
        int listen_fd;                  /* SOCK_SEQPACKET, non-blocking */
        uid_t peer_uid;                 /* who may speak to it, beside root */
        uint64_t instance;              /* tells this run from the one before; not 0 */
        const sigset_t *wait_mask;      /* signals while it waits: those that end it are blocked elsewhere */
} GuardSetup;

/* Serves until *end is set by a signal handler. Returns 0, or a negative errno if it cannot go on. */
int guard_serve(const GuardSetup *setup, const volatile sig_atomic_t *end);
