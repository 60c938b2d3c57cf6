/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The guard's protocol: one struct in each packet of a SOCK_SEQPACKET socket, in the host's byte order (both ends are
 * one host). The only header that gpupoold and the guard share.
 *
 *     gpupoold                                   guard
 *     HOLD vm epoch + pidfd       ──────────►    ANSWER ok: it is held, the vCPUs may run
 *     KILL vm epoch               ──────────►    ANSWER ok: SIGKILL is sent
 *                                 ◄──────────    DIED vm epoch: the process is gone (also unasked)
 *     RELEASE vm epoch            ──────────►    ANSWER ok: forgotten; or alive: it is not dead
 *     LIST index                  ──────────►    ENTRY vm epoch index + pidfd, of the first one at or after index;
 *                                                or ANSWER end
 *
 * Each request is answered once, in order, with its cookie. DIED goes to every client, once, with cookie 0. What is
 * held stays held when clients come and go; a client that connects lists. A guard that was started anew holds
 * nothing; it tells so by another instance in every packet, and gpupoold gives it everything again.
 * Anything else (another size, version or type; a descriptor where none belongs) is answered GUARD_BAD_REQUEST with
 * this version, and the connection ends. */

#include <stdint.h>

#define GUARD_SOCKET_PATH "/run/gpupool-guard/guard.sock"
#define GUARD_VERSION 1U
#define GUARD_VMS_MAX 256U              /* VMs held, the dead that were not released among them */
#define GUARD_CLIENTS_MAX 8U

typedef enum GuardMessageType {
        GUARD_HOLD = 1,
        GUARD_KILL,
        GUARD_RELEASE,
        GUARD_LIST,
        GUARD_ANSWER = 64,
        GUARD_ENTRY,
        GUARD_DIED,
} GuardMessageType;

typedef enum GuardAnswer {
        GUARD_OK,
        GUARD_END,                      /* LIST: no more */
        GUARD_NOT_HELD,                 /* no such VM at this epoch */
        GUARD_CONFLICT,                 /* HOLD: another process of this VM is held and lives */
        GUARD_STALE,                    /* HOLD: a newer epoch of this VM was held already */
        GUARD_ALREADY_DEAD,             /* HOLD, KILL: the process is dead */
        GUARD_ALIVE,                    /* RELEASE: it is not dead */
        GUARD_FULL,                     /* HOLD: GUARD_VMS_MAX */
        GUARD_BAD_REQUEST,              /* not this protocol, or no pidfd where one belongs */
        GUARD_REFUSED,                  /* KILL: the kernel said no; errno_value says why */
} GuardAnswer;

typedef struct GuardMessage {
        uint32_t version;               /* GUARD_VERSION; first, in every version */
        uint32_t type;                  /* GuardMessageType */
        uint64_t cookie;                /* the client's; not 0 */
        uint64_t instance;              /* from the guard: drawn at its start */
        uint64_t epoch;
        uint8_t vm[16];
        uint32_t answer;                /* GuardAnswer */
        uint32_t index;                 /* LIST: from where; ENTRY: where it stands */
        uint32_t alive;                 /* ENTRY */
        uint32_t errno_value;
} GuardMessage;

_Static_assert(sizeof(GuardMessage) == 64, "both ends must agree on every byte");
