/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Guard link: gpupoold's end of the guard's socket. Asynchronous, connects again by itself, decides nothing. The
 * guard holds what it was given also while the link is down. A guard that does not answer a call counts as gone, until
 * it answers again. Callbacks come from the loop; none of them may free the link. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/id.h"
#include "util/cleanup.h"

typedef struct GuardLink GuardLink;

/* How a call ended. All but the last three are the guard's own words. */
typedef enum GuardResult {
        GUARD_CALL_OK,                  /* hold: held, and stopped if the others are; kill: dead, proven by its pidfd;
                                         * release: forgotten */
        GUARD_CALL_NOT_HELD,
        GUARD_CALL_CONFLICT,            /* hold: another process of this VM is held and lives */
        GUARD_CALL_STALE,               /* hold: a newer epoch was held already */
        GUARD_CALL_DEAD,                /* hold: the process is dead already */
        GUARD_CALL_ALIVE,               /* release: not dead */
        GUARD_CALL_FULL,
        GUARD_CALL_REFUSED,             /* the guard could not do it, or speaks another version */
        GUARD_CALL_LEASE_ENDED,         /* hold: held, and being killed, as the deadline has passed; lease: refused */
        GUARD_CALL_NOT_OURS,            /* hold: not a process that it may kill */
        GUARD_CALL_TIMED_OUT,           /* no answer in time: a hold may stand, a kill may still come true */
        GUARD_CALL_LOST,                /* the link broke before the answer; list when it is back */
        GUARD_CALL_NOT_CONNECTED,       /* nothing was sent */
} GuardResult;

const char *guard_result_to_text(GuardResult result);

typedef struct GuardEntry {
        VmId vm;
        uint64_t epoch;
        bool alive;
        int pidfd;                      /* the list's, unless taken by steal_fd() */
} GuardEntry;

typedef struct GuardCallbacks {
        /* @anew: this is not the guard of last time (or the first one). It holds what that one held and still lives,
         * and goes by its deadline, or knows nothing of it: list, and give it again what is not there. Who died while
         * the link was down is told by guard_list() only: as dead, or by another guard not at all. */
        void (*connected)(bool anew, void *userdata);
        void (*disconnected)(void *userdata);
        void (*vm_died)(const VmId *vm, uint64_t epoch, void *userdata);
        /* The deadline passed, and all that the guard held is dead. Once for each time; if it came about while the link
         * was down, then right after connected(). */
        void (*lease_ended)(void *userdata);
} GuardCallbacks;

/* What the guard said of itself last, as it does in every packet; all 0 before the first. While the link is down it
 * stands, for the guard goes by it then, too; another guard's first word replaces it, before connected(). */
typedef struct GuardState {
        uint64_t until_us;              /* the deadline in force, CLOCK_BOOTTIME; 0: none */
        uint64_t hold_us;
        uint64_t watchdog_us;           /* 0: no watchdog is armed */
        bool stopped;                   /* the deadline passed; all that lives does not run, and may yet go on */
        bool ended;                     /* ... until the next lease there is no way back: all are killed, or dead */
} GuardState;

typedef void (*GuardDone)(GuardResult result, void *userdata);
/* @entries are borrowed; NULL unless GUARD_CALL_OK. */
typedef void (*GuardListed)(GuardResult result, GuardEntry *entries, size_t n_entries, void *userdata);

/* Begins to connect. @callbacks is borrowed and must outlive the link. */
int guard_link_new(GuardLink **ret, sd_event *event, const char *socket_path, const GuardCallbacks *callbacks,
                   void *userdata);
GuardLink *guard_link_free(GuardLink *link);            /* pending calls are dropped without a word */
DEFINE_CLEANUP(GuardLink *, guard_link_free);

bool guard_link_is_connected(const GuardLink *link);

/* Each returns 0 and calls @done exactly once, later and from the loop; or -ENOMEM. @pidfd stays the caller's. */
int guard_hold(GuardLink *link, const VmId *vm, uint64_t epoch, int pidfd, GuardDone done, void *userdata);
/* Done when the VM is dead, or with TIMED_OUT after @timeout_us: then it is still dying. */
int guard_kill(GuardLink *link, const VmId *vm, uint64_t epoch, uint64_t timeout_us, GuardDone done, void *userdata);
int guard_release(GuardLink *link, const VmId *vm, uint64_t epoch, GuardDone done, void *userdata);
/* Sets the deadline: see guard-protocol.h for 0 and 1. Each call is sent, in order; the answer is that of the guard. */
int guard_lease(GuardLink *link, uint64_t until_us, uint64_t hold_us, GuardDone done, void *userdata);
void guard_get_state(const GuardLink *link, GuardState *ret);
int guard_list(GuardLink *link, GuardListed listed, void *userdata);

/* Forgets every pending call that would come back to @userdata; what was asked may still happen. */
void guard_forget(GuardLink *link, const void *userdata);
