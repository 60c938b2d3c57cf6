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
 *     LEASE until hold            ──────────►    ANSWER ok: from now on this is the deadline; or lease ended: too late
 *                                 ◄──────────    ENDED (also unasked): the deadline passed, all that was held is dead
 *
 * The deadline (CLOCK_BOOTTIME, microseconds) counts for all VMs. 0: none, as before the first LEASE. It may be moved
 * either way; one that has passed is as good as now, and GUARD_AT_ONCE leaves out the hold, too.
 *
 *     RUNNING ──deadline, hold > 0: SIGSTOP──► STOPPED ──hold is over, or AT_ONCE─► KILLING: SIGKILL
 *       ▲ │ ▲                                   │   │                              ▲  │
 *       │ │ └──────────LEASE: SIGCONT───────────┘   └─all dead─► ENDED ◄─all dead──┼──┘
 *       │ └────deadline, hold = 0, or AT_ONCE──────────────────────│───────────────┘
 *       └──────────────LEASE───────────────────────────────────────┘
 *
 * HOLD is taken while RUNNING only. While KILLING there is no way back: LEASE is answered GUARD_LEASE_ENDED, too, until
 * all are dead and ENDED is said. The signal is sent every 100 ms to what lives. A deadline that has passed is acted on
 * before anything else, however late the guard wakes up.
 *
 * The watchdog device, where there is one, is patted in every stage but KILLING (in STOPPED if all took the signal). So
 * a host is reset that hangs, or on which a VM does not die: after the last pat at the latest by what every packet of
 * the guard tells; 0: no device is armed.
 *
 * Each request is answered once, in order, with its cookie. DIED and ENDED go to every client, once, with cookie 0.
 * What is held stays held when clients come and go; a client that connects lists. A guard that was started anew holds
 * nothing; it tells so by another instance in every packet, and gpupoold gives it everything again, then a LEASE.
 * Anything else (another size, version or type; a descriptor where none belongs) is answered GUARD_BAD_REQUEST with
 * this version, and the connection ends. */

#include <stdint.h>

#define GUARD_SOCKET_PATH "/run/gpupool-guard/guard.sock"
#define GUARD_VERSION 2U
#define GUARD_AT_ONCE 1U                /* LEASE: as the deadline */
#define GUARD_VMS_MAX 256U              /* VMs held, the dead that were not released among them */
#define GUARD_CLIENTS_MAX 8U

typedef enum GuardMessageType {
        GUARD_HOLD = 1, GUARD_KILL, GUARD_RELEASE, GUARD_LIST, GUARD_LEASE,     /* requests */
        GUARD_ANSWER = 64, GUARD_ENTRY, GUARD_DIED, GUARD_ENDED,
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
        GUARD_REFUSED,                  /* KILL: the kernel said no */
        GUARD_LEASE_ENDED,              /* HOLD, LEASE: the deadline has passed */
        GUARD_NOT_OURS,                 /* HOLD: no VM: pid 1, the guard, a client, a thread, a kernel thread */
} GuardAnswer;

typedef enum GuardStage { GUARD_STAGE_RUNNING, GUARD_STAGE_STOPPED, GUARD_STAGE_KILLING, GUARD_STAGE_ENDED } GuardStage;

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
        uint32_t reserved;
        uint64_t until_us;              /* LEASE; from the guard always: the deadline in force */
        uint64_t hold_us;               /* LEASE; from the guard always */
        uint64_t watchdog_us;           /* from the guard always */
        uint64_t stage;                 /* GuardStage; from the guard always */
} GuardMessage;

_Static_assert(sizeof(GuardMessage) == 96, "both ends must agree on every byte");
