/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the six files of the engine share: raft-start.c opens, starts and ends, raft-engine.c drives, raft-request.c
 * serves callers, raft-receive.c takes what peers send, raft-relay.c hands on to readers and is one, raft-tell.c tells
 * members at once what is committed. */

#include <raft.h>

#include "adapters/store/raft-check.h"
#include "adapters/store/raft-outbox.h"
#include "adapters/store/writer.h"
#include "util/array.h"

typedef enum RequestKind {
        REQUEST_ENTRY,          /* waits until its index is applied */
        REQUEST_CONFIRM,        /* waits until its round is confirmed */
        REQUEST_PROMOTION,      /* waits until its member has caught up, then becomes a REQUEST_ENTRY */
} RequestKind;

struct RaftRequest {
        RaftEngine *engine;     /* NULL: no longer waited for, or answered */
        RequestKind kind;
        bool floating;          /* freed by the engine after its callback */
        uint64_t index;
        uint64_t term;
        uint64_t round;
        uint64_t member_id;
        RaftCallback callback;
        void *userdata;
};

/* The last round of confirmations that a member took part in. */
typedef struct Confirmation {
        uint64_t member_id;
        uint64_t round;
} Confirmation;

/* Up to where a member was told that the log is committed, by this leader. */
typedef struct Told {
        uint64_t member_id;
        uint64_t committed;
} Told;

struct RaftEngine {
        struct raft raft;
        bool has_raft;
        bool started;
        bool stopped;           /* by a fault; nothing happens any more */
        char *path;
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        RaftEngineCallbacks callbacks;
        void *userdata;
        unsigned heartbeat_ms;
        unsigned trailing;

        sd_event *event;
        sd_event_source *timer;
        sd_event_source *deferred;

        LogFileContent content; /* between open and start */
        Writer *writer;
        LogFileVote vote;       /* as queued for writing */
        uint64_t vote_sequence; /* the write of it */
        uint64_t durable_vote;  /* ...that is durable; entries may still be waiting */
        uint64_t failing_since_us;      /* writes fail, or the lead was last offered to another; 0: neither */
        uint64_t patience_us;   /* until the next offer: each one that changed nothing makes it longer */
        uint64_t successor;     /* to whom */
        uint64_t settled_term;  /* its leader is known to have committed an entry of it */
        uint64_t settled_us;    /* when that leader was heard last */

        RaftLog log;
        uint64_t applied_index;
        bool applying;
        uint64_t snapshot_index;
        bool taking_snapshot;
        LogSnapshot *held;      /* of a leader; it came while an own one is being written */
        uint64_t held_from;
        uint64_t held_term;
        char *held_address;
        const LogSnapshot *incoming;    /* the one that raft_step is being told of; borrowed */

        RaftOutbox outbox;
        RaftOutbox snapshot_outbox;     /* wait for the snapshot to be read */
        RaftOutbox change_outbox;       /* wait for our own change of members to be durable here */
        uint64_t change_index;          /* of that; 0: none is awaited */
        bool sending;

        /* When something of the leader of which term was taken last. */
        uint64_t contact_us;
        uint64_t contact_term;

        /* Of a reader: who handed on last, and what is answered when it is stored (0: nothing). */
        uint64_t relayer_id;
        char *relayer_address;
        uint64_t relay_end;
        bool by_relay;          /* since then the leader itself was not heard; libraft's answers are not for it */

        ARRAY(RaftRequest *) requests;
        uint64_t ready_index;   /* what a new leader must have applied before it answers */
        uint64_t next_round;
        ARRAY(Confirmation) confirmations;
        ARRAY(Told) told;

        /* As told by changed(). */
        bool told_leader;
        bool told_ready;
        uint64_t told_leader_id;
        uint64_t told_term;
        uint64_t told_members;
};

/* Lets raft take @event, and does what it wants done. Returns libraft's code: 0, or a refusal of the event. Stops the
 * engine on everything else. */
int engine_step(RaftEngine *engine, struct raft_event *event);

/* After what may have settled the term, or shown that it is not: may writes use the room for a full disk? */
void engine_follow_urgency(RaftEngine *engine);

/* Says the sentence once and stops the engine. */
void engine_stop(RaftEngine *engine, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool engine_is_leader(const RaftEngine *engine);
bool engine_is_ready(const RaftEngine *engine);
size_t engine_count_voters(const RaftEngine *engine);
bool engine_is_lone_voter(const RaftEngine *engine);
bool engine_is_member(const RaftEngine *engine);        /* standby or voter */
RaftMemberRole engine_role_of(const RaftEngine *engine, uint64_t id);
uint64_t engine_now_us(const RaftEngine *engine);

/* Sends what may leave. */
void engine_flush(RaftEngine *engine);

/* A deferred turn of the loop: rounds are begun and answered there. */
int engine_defer(RaftEngine *engine);

/* Writes down what is known to be committed with it, and remembers the write of a vote. Takes what @write owns. */
int engine_submit_write(RaftEngine *engine, LogWrite *write);

void engine_apply_committed(RaftEngine *engine);
void engine_tell_changed(RaftEngine *engine);
int engine_restore(RaftEngine *engine, const LogSnapshot *snapshot);
int engine_metadata_of(const LogSnapshot *snapshot, struct raft_snapshot_metadata *ret);

void engine_on_write_done(void *userdata, uint64_t sequence, const LogWrite *write);
void engine_on_snapshot_read(void *userdata, LogSnapshot *answer, int error);
void engine_on_trouble(void *userdata, int error);
int engine_on_timer(sd_event_source *source, uint64_t at_us, void *userdata);
int engine_on_deferred(sd_event_source *source, void *userdata);

/* raft-request.c */
void requests_applied(RaftEngine *engine, uint64_t index, uint64_t term);       /* one entry was applied */
void requests_overtaken(RaftEngine *engine, uint64_t index, uint64_t term);     /* a snapshot replaced all up to it */
void requests_begin_term(RaftEngine *engine);                   /* this node leads from now on */
void requests_turn(RaftEngine *engine, bool again);             /* begins (again: repeats) and answers rounds */
void requests_follow_state(RaftEngine *engine);                 /* after each step: lost leads, caught-up members */
void requests_confirmed(RaftEngine *engine, uint64_t member_id, uint64_t round);
void requests_clear(RaftEngine *engine);
void requests_hand_over(RaftEngine *engine);                    /* the lead, if the disk is of no use */

/* raft-receive.c */
int receive_snapshot(RaftEngine *engine, uint64_t from, const char *address, uint64_t term,
                     const LogSnapshot *snapshot);
int receive_core(RaftEngine *engine, const RaftMessage *message);       /* one that was checked */

/* raft-relay.c */
void engine_forget_leader(RaftEngine *engine);                  /* of a follower */
void engine_doubt_leader(RaftEngine *engine);                   /* forgets one that has not been heard for long */
int receive_relayed(RaftEngine *engine, const RaftMessage *relayed);    /* checked */
void relay_answer(RaftEngine *engine);                          /* if all is stored that was handed on */

/* raft-tell.c */
void tell_note_sent(RaftEngine *engine, const struct raft_message *message);
void tell_follow_state(RaftEngine *engine);                     /* after each step: is there anything to tell? */
void tell_turn(RaftEngine *engine);                             /* tells it, once per turn of the loop */
