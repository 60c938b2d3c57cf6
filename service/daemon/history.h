/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* History: the registry on this node: the engine that agrees on entries and keeps them, the state that they add up to,
 * and the requests of this node that wait for their entry.
 *
 * A write of this node, whoever leads:
 *
 *     history_submit ─► this node leads: engine ─► committed, applied ───────────────────────────────► callback
 *                   └─► another does: Call ─► its engine ─► Answer(verdict, index) ─► applied here too ─┘
 *                        lost, leader gone, busy: again, with the same request id, until the deadline
 *
 * So it is done once, whatever dies in between; and who reads after the answer reads the new value. */

#include <systemd/sd-event.h>

#include "adapters/bus/bus.h"
#include "adapters/store/raft-engine.h"
#include "core/registry.h"
#include "daemon/beats.h"
#include "daemon/calls.h"

typedef struct History History;

typedef struct HistoryCallbacks {
        /* An entry was applied; @first_event: what it noted begins here (Registry.events from that sequence on). */
        void (*applied)(uint64_t first_event, void *userdata);
        /* Leader, quorum or the store's health changed. */
        void (*changed)(void *userdata);
        /* A message of the engine to another member. NULL: this node has no peers. */
        void (*send)(const RaftMessage *message, void *userdata);
        /* It cannot go on: end the process. */
        void (*fault)(const char *sentence, void *userdata);
} HistoryCallbacks;

typedef struct HistoryConfig {
        const char *state_directory;
        NodeId node;
        ClusterId cluster;              /* for a new registry: the one that this node was admitted to; null: its own */
        uint64_t call_timeout_us;
        uint32_t snapshot_entries;
        bool fast;                      /* elections within a lease of the fast profile (core/lease.h) */
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

/* Takes a registry away that nobody has open. 0 or -errno. */
int history_remove_files(const char *state_directory);
/* Goes on with that where it was cut short: what lies beside a registry that is gone would be held for the rest of one
 * that was lost. 0 or -errno. */
int history_finish_removal(const char *state_directory);

/* Opens or creates the registry. @callbacks is borrowed. Returns a HistoryVerdict or -errno. */
int history_open(History **ret, sd_event *event, const HistoryConfig *config, const HistoryCallbacks *callbacks,
                 void *userdata, char **reterr_sentence);
/* Applies what is stored and takes part from now on. 0; -ENOTSUP: this program is too old for what its cluster does
 * (no fault is told then); or another -errno. */
int history_start(History *history);
/* That is so, or was found out later, which is a fault. */
bool history_is_too_old(const History *history);
#define HISTORY_TOO_OLD                                                                                              \
        "this node's cluster works at a functional level that this program is too old for: upgrade gpupool on this " \
        "host to what it was, or newer; its registry is kept"
/* Answers what waits: SUBMIT_OUTCOME_UNKNOWN, for what was taken may still happen; else SUBMIT_STOPPING. */
void history_stop(History *history);
/* This node is no member any more: nothing that waits here can be asked of anybody, so all of it is answered. */
void history_abandon(History *history);
History *history_free(History *history);
DEFINE_CLEANUP(History *, history_free);

/* Through which the leader is reached when it is another node. Borrowed; NULL: not at all. */
void history_set_peers(History *history, Calls *calls, const Beats *beats);

/* Throws this registry away and begins an empty one that waits to be told the history of @cluster. What waits here is
 * answered first. 0 or -errno: then there is no registry, end the process. */
int history_adopt(History *history, const ClusterId *cluster);

const Registry *history_registry(const History *history);
/* This node leads, and has applied all that was committed before. */
bool history_leads(const History *history);
void history_status(const History *history, RaftStatus *ret);
RaftEngine *history_engine(History *history);

typedef struct Lead {
        NodeId leader;                  /* null: none is known */
        NodeId way;                     /* the peer to ask: the leader, or one that is connected with it */
        bool is_local;                  /* this node leads */
        bool quorate;                   /* writes are taken at present */
        bool relayed;                   /* way is not the leader */
} Lead;

void history_lead(const History *history, Lead *ret);
/* Beats or connections changed. */
void history_lead_changed(History *history);
uint64_t history_starts(const History *history);        /* how often the service was started on this registry */

/* Commits @entry, by whichever node leads: author.node, time, level and format are filled in here, and a request id
 * where the caller gave none and others may have to be asked; the rest is the caller's. @callback comes exactly once
 * and later. 0, -E2BIG, or another -errno (then no callback comes). */
int history_submit(History *history, Entry *entry, SubmitCallback callback, void *userdata);

/* The same for what a leader decides by itself, from what it alone knows (who asked for leases, and when): by its own
 * engine in its own term, or not at all. Handed to its successor it would be decided by one who knows other things: a
 * leader that stood still would have nodes declared lost that its successor has granted leases to. */
int history_decide(History *history, Entry *entry, SubmitCallback callback, void *userdata);

/* Asks the leader for its word (design, 5.5), and waits until this node has applied all that was committed when it was
 * asked. Then what the registry says here is not older than the question. @callback comes exactly once and later. 0;
 * -ENOTCONN: no leader is known; or another -errno. */
typedef void (*ConfirmCallback)(bool confirmed, void *userdata);
int history_confirm(History *history, ConfirmCallback callback, void *userdata);

/* ---- on the leader, for others ---- */

/* Bytes of an entry on their way through this node's own engine. */
typedef struct HistoryProposal HistoryProposal;

/* @result: with RAFT_OUTCOME_DONE, and then only if it is still known; the callback may take what it owns. */
typedef void (*ProposalCallback)(RaftOutcome outcome, uint64_t index, Result *result, void *userdata);

/* Returns a RaftSubmitVerdict (from RAFT_SUBMIT_NOT_LEADER on no callback comes) or -errno. */
int history_propose(History *history, const void *bytes, size_t size, ProposalCallback callback, void *userdata,
                    HistoryProposal **ret);
/* Waits no longer; the entry goes its way. */
HistoryProposal *history_proposal_free(HistoryProposal *proposal);
