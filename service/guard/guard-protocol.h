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
 *     LEASE until hold            ──────────►    ANSWER ok: from now on this is the deadline; or ended: too late
 *                                 ◄──────────    ENDED (unasked): the deadline passed, all that was held is dead
 *
 * The deadline (CLOCK_BOOTTIME, microseconds) counts for all VMs. 0: there is none, as before the first LEASE, and as
 * in a cluster whose level knows no leases. It may be moved either way; one that has passed is as good as now.
 *
 *     no deadline ──LEASE──► running ──deadline──► ending ──all dead──► ended ──LEASE──► running
 *                              ▲                     │ hold > 0: SIGSTOP to all, now
 *                              └──LEASE (SIGCONT)────┤ hold is over, or LEASE with until 1: SIGKILL to all
 *                                                    └ hold = 0: SIGKILL to all, now
 *
 * From the first SIGKILL on there is no way back: LEASE and HOLD are answered GUARD_LEASE_ENDED until all are dead and ENDED
 * was said. Ended, LEASE begins anew. A HOLD while ended is answered GUARD_LEASE_ENDED, too: there is no lease. While it is
 * held (SIGSTOP), HOLD is answered GUARD_LEASE_ENDED. Until ENDED was said, SIGKILL is sent again every 100 ms to what lives.
 *
 * The watchdog device, where there is one, is patted while the lease runs or nothing is held that lives; from the
 * deadline on it is not, until all are dead. So a host that hangs is reset. Every packet of the guard tells the time
 * after the last pat within which that comes, 0 where no device is armed.
 *
 * Each request is answered once, in order, with its cookie. DIED goes to every client, once, with cookie 0. What is
 * held stays held when clients come and go; a client that connects lists. A guard that was started anew holds
 * nothing; it tells so by another instance in every packet, and gpupoold gives it everything again.
 * Anything else (another size, version or type; a descriptor where none belongs) is answered GUARD_BAD_REQUEST with
 * this version, and the connection ends. */

#include <stdint.h>

#define GUARD_SOCKET_PATH "/run/gpupool-guard/guard.sock"
#define GUARD_VERSION 2U
#define GUARD_VMS_MAX 256U              /* VMs held, the dead that were not released among them */
#define GUARD_CLIENTS_MAX 8U

typedef enum GuardMessageType {
        GUARD_HOLD = 1,
        GUARD_KILL,
        GUARD_RELEASE,
        GUARD_LIST,
        GUARD_LEASE,
        GUARD_ANSWER = 64,
        GUARD_ENTRY,
        GUARD_DIED,
        GUARD_ENDED,
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
        GUARD_LEASE_ENDED,              /* HOLD, LEASE: the deadline has passed */
        GUARD_NOT_OURS,                 /* HOLD: that process is nothing that a guard may kill */
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
        uint64_t until_us;              /* LEASE; from the guard always: the deadline in force */
        uint64_t hold_us;               /* LEASE; from the guard always */
        uint64_t watchdog_us;           /* from the guard always */
        uint64_t ended;                 /* from the guard always: 1 from the first SIGKILL of a deadline until the next
                                         * LEASE that is taken */
} GuardMessage;

_Static_assert(sizeof(GuardMessage) == 96, "both ends must agree on every byte");
