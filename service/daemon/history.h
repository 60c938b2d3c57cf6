/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* History: the registry on this node: the engine that agrees on entries and keeps them, the state that they add up to,
 * and the requests of this node that wait for their entry. */

#include <systemd/sd-event.h>

#include "adapters/bus/bus.h"
#include "adapters/store/raft-engine.h"
#include "core/registry.h"

typedef struct History History;

typedef struct HistoryCallbacks {
        /* An entry was applied; @first_event: what it noted begins here (Registry.events from that sequence on). */
        void (*applied)(uint64_t first_event, void *userdata);
        /* Leader, quorum or the store's health changed. */
        void (*changed)(void *userdata);
        /* It cannot go on: end the process. */
        void (*fault)(const char *sentence, void *userdata);
} HistoryCallbacks;

typedef struct HistoryConfig {
        const char *state_directory;
        NodeId node;
        uint64_t call_timeout_us;
        uint32_t snapshot_entries;
} HistoryConfig;

typedef enum HistoryVerdict {
        HISTORY_OPENED,
        HISTORY_REFUSED,                /* the sentence says which file and why; nothing was touched */
} HistoryVerdict;

/* Before a node's id is drawn: a registry that is there already is somebody's. And where a node has its id, one that is
 * not there was lost: to begin anew would forget what was acknowledged, and end the VMs that run. Each returns a
 * HistoryVerdict or -errno. */
int history_refuse_leftover(const char *state_directory, char **reterr_sentence);
int history_refuse_lost(const char *state_directory, char **reterr_sentence);

/* Opens or creates the registry. @callbacks is borrowed. Returns a HistoryVerdict or -errno. */
int history_open(History **ret, sd_event *event, const HistoryConfig *config, const HistoryCallbacks *callbacks,
                 void *userdata, char **reterr_sentence);
/* Applies what is stored and takes part from now on. 0 or -errno. */
int history_start(History *history);
/* Answers what waits: SUBMIT_OUTCOME_UNKNOWN, for what was taken may still happen; else SUBMIT_STOPPING. */
void history_stop(History *history);
History *history_free(History *history);
DEFINE_CLEANUP(History *, history_free);

const Registry *history_registry(const History *history);
/* This node leads, and has applied all that was committed before. */
bool history_leads(const History *history);
void history_status(const History *history, RaftStatus *ret);
uint64_t history_starts(const History *history);        /* how often the service was started on this registry */

/* Commits @entry: author.node, time and format are filled in here, the rest is the caller's. @callback comes exactly
 * once and later. 0, -E2BIG, or another -errno (then no callback comes). */
int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata);

/* Is what this node has applied the newest there is? Asks for the leader's confirmation (design, 5.5). @callback comes
 * exactly once and later. 0; -ENOTCONN: there is no leader here; or another -errno. */
typedef void (*ConfirmCallback)(bool confirmed, void *userdata);
int history_confirm(History *history, ConfirmCallback callback, void *userdata);
