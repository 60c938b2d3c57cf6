/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The guard's protocol: one struct in each packet of a SOCK_SEQPACKET socket, in the host's byte order.
 *
 *     HOLD vm epoch + pidfd    ──────►    ANSWER ok: it is held
 *     KILL vm epoch            ──────►    ANSWER ok: SIGKILL is sent
 *                              ◄──────    DIED vm epoch: the process is gone (to every client, once, cookie 0)
 *     RELEASE vm epoch         ──────►    ANSWER ok: forgotten; or alive: it is not dead
 *     LIST index               ──────►    ENTRY vm epoch index + pidfd, of the first at or after index; or ANSWER end
 *     LEASE until hold         ──────►    ANSWER ok: that is the deadline now (the same again: a sign of life)
 *                              ◄──────    ENDED: it passed, and all that was held is dead (as DIED)
 *
 * The deadline (CLOCK_BOOTTIME, microseconds) counts for all VMs. 0: none. It may be moved either way; one that has
 * passed is as good as now, and GUARD_AT_ONCE leaves out the hold, too. The signal is sent again every 100 ms.
 *
 *     RUNNING ──deadline, hold > 0: SIGSTOP──► STOPPED ──hold is over, or AT_ONCE─► KILLING: SIGKILL
 *       ▲ │ ▲                                   │   │                              ▲ ▲  │
 *       │ │ └──────────LEASE: SIGCONT───────────┘   └─all dead─► ENDED ◄─all dead──┼─┼──┘
 *       │ └────deadline, hold = 0, or AT_ONCE──────────────────────│───────────────┘ │
 *       └──────────────LEASE───────────────────────────────────────┴──────HOLD───────┘
 *
 * HOLD is taken in every stage, and fares as what is held: in STOPPED it is stopped, and answered GUARD_OK; in KILLING
 * and ENDED it is killed, and answered GUARD_LEASE_ENDED. So is a LEASE in KILLING, which is not taken. The watchdog is
 * not patted in KILLING, nor in STOPPED while the kernel refuses a signal.
 *
 * What is held and the deadline outlive clients and the guard, even a SIGKILL. The next guard goes on, with another
 * instance, and does not know who died in between: whoever connects lists, and gives again what is not there. */

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
        GUARD_BAD_REQUEST,              /* not this protocol; or a descriptor where none belongs, or none */
        GUARD_REFUSED,                  /* KILL: the kernel said no */
        GUARD_LEASE_ENDED,              /* the deadline has passed. HOLD: it is held, and being killed; LEASE: no */
        GUARD_NOT_OURS,                 /* HOLD: pid 1, the guard, a client, a thread, one that /proc does not show */
} GuardAnswer;

typedef enum GuardStage { GUARD_STAGE_RUNNING, GUARD_STAGE_STOPPED, GUARD_STAGE_KILLING, GUARD_STAGE_ENDED } GuardStage;

typedef struct GuardMessage {
        uint32_t version;               /* GUARD_VERSION; first, in every version */
        uint32_t type;                  /* GuardMessageType */
        uint64_t cookie;                /* the client's; not 0 */
        uint64_t instance;              /* from the guard: when it began */
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
