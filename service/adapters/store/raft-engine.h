/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* RaftEngine: one agreed history, kept by one node as by many. It drives libraft's core (raft_step: events in, updates
 * out), writes through LogFile and Writer, and speaks with its peers only through send() and raft_engine_receive(). A
 * node alone is a cluster of one voter: the same code, in which send() is never called.
 *
 * The rules that this file keeps, whatever the disk does:
 *  - Term and vote are durable before any message of their step (or of a later one) leaves.
 *  - An entry counts as stored when it is durable. A write that fails is tried again with the same bytes, index and
 *    term; nothing is truncated because a write failed. So no index of a term ever means two things (libraft 0.15 can
 *    do that), and the fate of an entry is never reported before it is known.
 *  - While writes fail, new entries are refused (they surely did not happen), those already taken stay pending, and all
 *    that needs no disk goes on: confirmations, heartbeats, reads. Terms and votes do not wait behind entries that find
 *    no room, and have some of their own (log-file.h). A leader whose writes have failed for RAFT_PATIENCE_MS hands the
 *    lead to a voter that has everything, if there is one; and waits twice as long the next time that it has to.
 *  - Full disks are in no leader's way. A new one confirms nothing before its barrier is committed, so for barriers
 *    there is room on every disk; and while no leader is heard that has its barrier, also for the entries before it:
 *    those that a voter took and could not write, or did not get while its disk was full (log-file.h says how many).
 *    What a leader takes on afterwards is refused as before.
 *  - A snapshot of a leader that arrives while an own one is being written waits for it (libraft's own I/O layer
 *    crashes).
 *
 * Everything happens on the loop of the given sd_event; time is CLOCK_BOOTTIME. Callbacks may call anything here except
 * raft_engine_free(). */

#include <systemd/sd-event.h>

#include "adapters/store/log-file.h"

struct raft_message;

typedef struct RaftEngine RaftEngine;

/* ---- members ---- */

typedef enum RaftMemberRole {
        RAFT_MEMBER_STANDBY,    /* has the log, does not vote */
        RAFT_MEMBER_VOTER,
        RAFT_MEMBER_SPARE,      /* named, nothing else */
        RAFT_MEMBER_NONE,       /* not a member */
} RaftMemberRole;

typedef struct RaftMember {
        uint64_t id;            /* not 0 */
        const char *address;    /* the transport's business; unlike every other member's */
        RaftMemberRole role;
} RaftMember;

/* ---- messages ---- */

typedef enum RaftMessageKind {
        RAFT_MESSAGE_CORE,              /* one of libraft's six */
        RAFT_MESSAGE_CONFIRM_ASK,       /* a leader: does my term still stand? */
        RAFT_MESSAGE_CONFIRM_ANSWER,    /* yes, it is my term too; a no is silence */
} RaftMessageKind;

/* All that is pointed to is borrowed for the call, in both directions. In an AppendEntries message the entries' batch
 * is not used. */
typedef struct RaftMessage {
        RaftMessageKind kind;
        uint64_t from;
        uint64_t to;
        const char *address;                    /* of @to when sending, of @from when received */
        const struct raft_message *core;        /* RAFT_MESSAGE_CORE only; its server_id is not used */
        uint64_t term;                          /* CONFIRM only */
        uint64_t round;                         /* CONFIRM only; echoed */

        /* An AppendEntries or InstallSnapshot that raft_engine_relay() made: @from hands on what @leader, the leader of
         * its term, has committed. Or the AppendEntriesResult that answers it. */
        bool relayed;
        uint64_t leader;
        const char *leader_address;
} RaftMessage;

/* ---- the engine ---- */

typedef struct RaftEngineCallbacks {
        /* The state machine becomes what @data says (at the start, or when a leader sent its snapshot). 0, or -errno:
         * the engine stops with a fault. */
        int (*restore)(void *userdata, uint64_t index, const void *data, size_t size);
        /* A committed command, each index once and in order (those of barriers and changes are left out). As above. */
        int (*apply)(void *userdata, uint64_t index, uint64_t term, const void *data, size_t size);
        /* Something of RaftStatus that others may see changed: leader, term, ready, members. */
        void (*changed)(void *userdata);
        /* The store began to fail with @error (-ENOSPC, -EIO, -EROFS, ...), or (0) works again. Worth a log line. */
        void (*store_changed)(void *userdata, int error);
        /* To a peer; may be lost. Never called in a cluster of one. */
        void (*send)(void *userdata, const RaftMessage *message);
        /* The engine has stopped for good: end the process, a restart begins from what is on disk. */
        void (*fault)(void *userdata, const char *sentence);
} RaftEngineCallbacks;

/* Times are libraft's: an election after election_ms to twice as much without a leader. 0 stands for the default. */
#define RAFT_ELECTION_DEFAULT_MS 600U
#define RAFT_HEARTBEAT_DEFAULT_MS 150U          /* a quarter of the shortest election: three may be lost */
#define RAFT_INSTALL_DEFAULT_MS 10000U          /* then a leader sends its snapshot again */
#define RAFT_TRAILING_DEFAULT 512U              /* entries kept behind a snapshot, for peers that are a little late */

#define RAFT_PATIENCE_MS 2000U                  /* longer than a log file needs to be rotated, far below a lease */

#define RAFT_PATIENCE_MAX_MS (10U * 60U * 1000U)

#define RAFT_SETTLE_MS 300U             /* two heartbeats; a tenth of a lease */

/* Entries that were submitted and are not yet decided: a bound on memory. */
#define RAFT_REQUESTS_MAX 4096U

typedef struct RaftEngineConfig {
        const char *path;               /* of the registry; made if it is missing */
        uint64_t id;                    /* this node's, not 0 */
        const char *address;
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];   /* for a new file */
        const RaftMember *members;      /* for a new file: the first members; none: wait for a leader */
        size_t n_members;
        unsigned election_ms;
        unsigned heartbeat_ms;
        unsigned install_ms;
        unsigned trailing;              /* UINT_MAX: none */
        unsigned random_seed;           /* of the election times; any */
        RaftEngineCallbacks callbacks;
        void *userdata;
} RaftEngineConfig;

/* Opens or creates the file; touches nothing of a file that it refuses (log-file.h). Returns a LogFileVerdict:
 * *ret_engine is set with LOG_FILE_OPENED and LOG_FILE_CREATED, *ret_sentence with everything else; or -errno. */
int raft_engine_open(const RaftEngineConfig *config, sd_event *event, RaftEngine **ret_engine, char **ret_sentence);

/* Restores the snapshot, applies what is known to be committed (in a cluster of one: all), and takes part from now on.
 * The callbacks are called from here on. 0, or -errno. */
int raft_engine_start(RaftEngine *engine);

/* Tries once to write what is queued. Open requests are forgotten without a callback. Takes NULL, returns NULL. */
RaftEngine *raft_engine_free(RaftEngine *engine);
DEFINE_CLEANUP(RaftEngine *, raft_engine_free);

typedef struct RaftStatus {
        uint64_t id;
        uint8_t cluster_id[LOG_FILE_CLUSTER_ID_SIZE];
        uint64_t starts;                /* how often this registry was started; unique once this start is durable */
        bool is_leader;
        bool is_ready;                  /* leader, and has applied all that earlier leaders committed */
        uint64_t leader_id;             /* 0: none known */
        uint64_t term;
        size_t n_voters;
        RaftMemberRole role;            /* by the newest members that this node knows */
        bool is_member;                 /* standby or voter: may relay */
        uint64_t leader_contact_us;     /* CLOCK_BOOTTIME: when the present leader was heard last; 0: not yet */
        uint64_t committed_index;
        uint64_t applied_index;
        uint64_t persisted_index;
        uint64_t last_index;
        uint64_t last_term;             /* of the entry at last_index; 0: none */
        uint64_t snapshot_index;        /* 0: none */
        size_t log_entries;             /* in file and memory; what a snapshot shortens */
        size_t log_bytes;
        int store_error;                /* 0, or what writes fail with at present */
} RaftStatus;

void raft_engine_get_status(const RaftEngine *engine, RaftStatus *ret);

/* The members by the newest configuration, at most @max; borrowed until the loop runs on. Returns how many they are. */
size_t raft_engine_get_members(const RaftEngine *engine, RaftMember *members, size_t max);

/* So many entries behind what is committed are on their way to a member that is well. */
#define RAFT_KEEPS_UP_ENTRIES 64U

/* True if this node leads and knows that member @id has stored what is committed, but for what was just said. */
bool raft_engine_keeps_up(const RaftEngine *engine, uint64_t id);

/* ---- requests ---- */

/* Something asked for and not yet answered. Freeing it means not waiting any longer, nothing else: an entry goes its
 * way. Without ret_request the engine frees it after its callback. */
typedef struct RaftRequest RaftRequest;

RaftRequest *raft_request_free(RaftRequest *request);   /* takes NULL, returns NULL */
DEFINE_CLEANUP(RaftRequest *, raft_request_free);

typedef enum RaftOutcome {
        RAFT_OUTCOME_DONE,              /* committed and, here, applied; or: the term is confirmed */
        RAFT_OUTCOME_NOT_DONE,          /* surely did not happen and never will: another entry took its place */
        RAFT_OUTCOME_UNKNOWN,           /* this node was overtaken by a snapshot and will not learn it */
} RaftOutcome;

/* @index is the entry's, or with a confirmation the last one applied; @term its term. */
typedef void (*RaftCallback)(void *userdata, RaftOutcome outcome, uint64_t index, uint64_t term);

/* What became of the wish. From RAFT_SUBMIT_NOT_LEADER on it surely did not happen, and there will be no callback. */
typedef enum RaftSubmitVerdict {
        RAFT_SUBMIT_TAKEN,
        RAFT_SUBMIT_NOT_LEADER,
        RAFT_SUBMIT_STORE_FAILING,      /* RaftStatus.store_error says with what; -ENOSPC: the disk is full */
        RAFT_SUBMIT_BUSY,               /* too many requests, or members cannot be changed just now */
        RAFT_SUBMIT_TOO_LARGE,          /* over ENTRY_SIZE_MAX */
        RAFT_SUBMIT_NO_SUCH_MEMBER,     /* or it is already as wished */
} RaftSubmitVerdict;

/* Proposes @data as the next command. Never fails once taken: it is decided some day, on this leader or by a later one.
 * A caller whose time is up before says "outcome unknown" and lets go of the request. Returns a RaftSubmitVerdict, or
 * -errno (the engine has stopped, or memory is out): also then it surely did not happen. */
int raft_engine_submit(RaftEngine *engine, const void *data, size_t size, RaftCallback callback, void *userdata,
                       RaftRequest **ret_request);

/* Asks a majority of the voters whether this leader's term still stands, after this call (design, 5.5). No disk is
 * written. In a cluster of one the answer is there in the same turn of the loop. RAFT_OUTCOME_NOT_DONE: this node leads
 * no longer. A new leader that is not ready waits until it is. As above. */
int raft_engine_confirm(RaftEngine *engine, RaftCallback callback, void *userdata, RaftRequest **ret_request);

/* Adds a member (@role STANDBY or SPARE), changes its role (to VOTER: once it has caught up), or removes it (NONE). One
 * change at a time, by a leader that is ready, and never of the leader itself: it hands the lead over first. All that
 * is RAFT_SUBMIT_BUSY.
 * @address is only needed to add. As above. */
int raft_engine_change_member(RaftEngine *engine, uint64_t id, const char *address, RaftMemberRole role,
                              RaftCallback callback, void *userdata, RaftRequest **ret_request);

/* Hands the lead to another voter (@id 0: any), before a planned stop. changed() tells whether it went. A
 * RaftSubmitVerdict (BUSY: no such voter has all entries at this moment) or -errno. */
int raft_engine_transfer(RaftEngine *engine, uint64_t id);

/* ---- peers and snapshots ---- */

/* Takes a message of @message->from, whom the caller knows to be that. 0, also for one that is stale; -EBADMSG: no
 * member in its senses sends that, nothing was changed; or -errno.
 *
 * A member that hears its leader ignores relayed messages. One that hears none takes them: nobody tells a member that
 * was removed, so it should ask to follow as readers do. What is committed is safe to take from anyone; a relayer that
 * knows only an older term than this node is believed about entries, not about who leads. */
int raft_engine_receive(RaftEngine *engine, const RaftMessage *message);

typedef enum RaftRelayVerdict {
        RAFT_RELAY_SENT,
        RAFT_RELAY_NOTHING_NEW,
        RAFT_RELAY_NO_LEADER,           /* this node hears of no leader at present, or is no member itself */
        RAFT_RELAY_BUSY,                /* RAFT_RELAY_SNAPSHOTS_MAX are on their way out; @to asks again */
} RaftRelayVerdict;

/* One relayed AppendEntries: so many entries and bytes (or one larger entry). */
#define RAFT_RELAY_ENTRIES_MAX 32U
#define RAFT_RELAY_BYTES_MAX (256U * 1024U)
#define RAFT_RELAY_SNAPSHOTS_MAX 4U     /* read and not yet handed to send(): a bound on memory */

/* Readers: all nodes that are no members follow the committed history through any member. Such a node runs the same
 * engine (its file is born without members) and asks a member, whose engine calls this: sends to @to what is committed
 * beyond @last_index, as one relayed message, or its snapshot where its log does not reach back so far. If the term at
 * @last_index is not @last_term, it begins at @committed, up to where both surely agree. What the reader has but does
 * not know to be committed it is told by a message without entries. The reader's engine answers each message once, when
 * all of it is stored, by a relayed AppendEntriesResult: then it is time to ask for more (RaftStatus has what to ask
 * with). While a snapshot is on its way to @to, do not call this for it again. Returns a RaftRelayVerdict or -errno. */
int raft_engine_relay(RaftEngine *engine, uint64_t to, const char *address, uint64_t last_index, uint64_t last_term,
                      uint64_t committed);

typedef enum RaftSnapshotVerdict {
        RAFT_SNAPSHOT_TAKEN,            /* is being written; the log is shortened when it is durable */
        RAFT_SNAPSHOT_NOTHING_NEW,
        RAFT_SNAPSHOT_BUSY,             /* one is being written already, or a leader's is on its way in */
        RAFT_SNAPSHOT_STORE_FAILING,
} RaftSnapshotVerdict;

/* @data is the state machine as of @index, the last command that was applied (or RaftStatus.applied_index, which
 * barriers and changes move on too). A RaftSnapshotVerdict, or -errno (-EINVAL: another index; -E2BIG: over
 * SNAPSHOT_SIZE_MAX). */
int raft_engine_take_snapshot(RaftEngine *engine, uint64_t index, const void *data, size_t size);
